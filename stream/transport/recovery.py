"""
Faust's recovery, reading changelogs in batches through a client of its own.

Assignment, generations and the order of a rebalance stay Faust's; what is overridden is how the records come. Faust
0.15.3 hands them over one at a time, about 20,000 a second. Around a rebalance it can drop what it has fetched, and
then waits for ever; it stalls on an end of aborted records, and can give a record to the wrong table. Nothing of that
path is left in use.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import structlog
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP

from stream.settings import Settings
from stream.transport.changelogs import ChangelogReader, Part
from stream.transport.engine import stop_now
from stream.transport.offsets import ends, starts
from stream.transport.progress import Place

log = structlog.get_logger()

_WAIT_S = 0.1
_STANDBY_WAIT_S = 0.5


class Restorable(Protocol):
    """A table that is restored from its changelog."""

    def restore(self, part: Part) -> None:
        """Take over a part of one partition; raises `StateError` for a record that it does not know."""

    def drop(self, partition: int) -> None:
        """Forget a partition."""


class Watcher(Protocol):
    """Whoever shows how far recovery is."""

    def recovering(self, read: int, left: int) -> None:
        """Take note of records read, and of those left about."""

    def recovered(self, records: int, seconds: float) -> None:
        """Take note that recovery is over."""


@dataclass(slots=True)
class Plan:
    """
    What is done to the changelog partitions of an assignment.

    Attributes:
        kept: Memory is right: they have been ours all the time.
        read: To be read, from these offsets on.
        dropped: To be forgotten first.
    """

    kept: set[Place]
    read: dict[Place, int]
    dropped: set[Place]


@dataclass(slots=True)
class Held:
    """
    The changelog partitions that memory holds.

    Attributes:
        generation: Of the group, in which that was so.
        active: Whole, and ours to write.
        standby: Read up to these offsets.
        doubtful: In memory, and not to be trusted.
    """

    generation: int = -1
    active: set[Place] = field(default_factory=set)
    standby: dict[Place, int] = field(default_factory=dict)
    doubtful: set[Place] = field(default_factory=set)

    def plan(self, generation: int, active: set[Place], standby: set[Place]) -> Plan:
        """
        Return what an assignment asks for.

        A partition that was ours is trusted only from one generation of the group to the next: whoever missed one
        cannot know who wrote in between.
        """
        unbroken = generation in (self.generation, self.generation + 1)
        kept = self.active & active if unbroken else set()
        read = {place: self.standby.get(place, 0) for place in active - kept}
        behind = {place: self.standby.get(place, 0) for place in standby}
        held = self.active | set(self.standby) | self.doubtful
        return Plan(kept, read | behind, held - kept - {place for place, offset in (read | behind).items() if offset})


@dataclass(slots=True)
class Restoring:
    """
    What recovery works with.

    Attributes:
        settings: Broker, group.
        tables: Returns them by the names of their changelogs.
        watcher: Told how far it is.
        take_over: Called with all active partitions before any is read; returns whether they are ours for good.
        repair: Called when they have been.
    """

    settings: Settings
    tables: Callable[[], Mapping[str, Restorable]]
    watcher: Watcher
    take_over: Callable[[set[int]], Awaitable[bool]]
    repair: Callable[[], Awaitable[None]]


class BatchedRecovery(Recovery):
    """Faust's recovery service with our reading."""

    def __init__(self, restoring: Restoring, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._with = restoring
        self._held = Held()
        self._standby_task: asyncio.Task[None] | None = None

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ARG002, ASYNC109 (Faust's signature)
        # With a limit, Faust goes on as if what it waited for had happened. Another rebalance still ends the wait.
        await super()._wait(coro)

    async def _build_highwaters(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:  # noqa: ARG002
        """Expect nothing of Faust's own path."""
        destination.clear()

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:  # noqa: ARG002
        """Read the changelogs: called by Faust with the active partitions, and then with the standbys."""
        destination.clear()
        if title == "active":
            try:
                await self._recover()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 (no event may be met without state)
                stop_now(error)

    async def _seek_offsets(self, consumer: Any, tps: set[TP], offsets: Any, title: str) -> None:
        """Seek nothing: changelogs are not read by Faust's consumer."""

    async def _recover(self) -> None:
        await self._stop_standbys()
        generation = self._generation_id
        active, standby = ({(tp.topic, tp.partition) for tp in tps} for tps in (self.active_tps, self.standby_tps))
        standby -= active
        plan = self._held.plan(generation, active, standby)
        tables = self._with.tables()
        for topic, partition in plan.dropped:
            tables[topic].drop(partition)
        # Until all is read, nothing but what is kept can be trusted: another rebalance may come in between.
        self._held = Held(generation, plan.kept, {p: o for p, o in plan.read.items() if o})
        # Those that are kept too: our own last commit may not be stable yet, and is about to be read.
        is_ours = await self._with.take_over({partition for _, partition in active})
        await self._read({place: offset for place, offset in plan.read.items() if place in active})
        await self._with.repair()
        # What could not be taken over is not kept by the next generation either: it tries again.
        self._held.active = active if is_ours else plan.kept
        self._held.doubtful = active - self._held.active
        self._held.standby = {place: plan.read[place] for place in standby}
        if standby:
            self._standby_task = asyncio.ensure_future(self._follow(dict(self._held.standby)))

    async def _read(self, offsets: Mapping[Place, int]) -> None:
        """Read partitions from these offsets to their ends."""
        if not offsets:
            # One that was cut short by another rebalance is over too.
            self._with.watcher.recovered(0, 0.0)
            return
        started, read = time.monotonic(), 0
        async with _reading(self._with.settings, offsets) as (reader, call):
            begin = await call(starts, self._with.settings, offsets)
            end = await call(ends, self._with.settings, offsets)
            # For progress only: what was compacted away is still counted here.
            total = sum(max(end[place] - max(begin[place], offset), 0) for place, offset in offsets.items())
            self._with.watcher.recovering(0, total)
            while reader.behind:
                for part in await call(reader.read, _WAIT_S):
                    self._restore(part)
                    read += len(part.keys)
                self._with.watcher.recovering(read, max(total - read, 0))
        seconds = time.monotonic() - started
        self._with.watcher.recovered(read, seconds)
        log.info("state.recovered", partitions=len(offsets), records=read, seconds=round(seconds, 3))

    async def _follow(self, offsets: Mapping[Place, int]) -> None:
        """Keep standby partitions up to date until cancelled."""
        try:
            async with _reading(self._with.settings, offsets) as (reader, call):
                while True:
                    for part in await call(reader.read, _STANDBY_WAIT_S):
                        self._restore(part)
                    if not reader.behind and not self.tables.standbys_ready:
                        self.tables.on_standbys_ready()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 (a standby that is not up to date is none)
            stop_now(error)

    def _restore(self, part: Part) -> None:
        self._with.tables()[part.place[0]].restore(part)
        self._held.standby[part.place] = part.next

    async def _stop_standbys(self) -> None:
        task, self._standby_task = self._standby_task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def on_stop(self) -> None:
        """End what still reads."""
        await self._stop_standbys()
        await super().on_stop()


class BatchedTableManager(TableManager):
    """Faust's table manager with our recovery; the app's `restoring` says with what."""

    @property
    def recovery(self) -> Recovery:
        """The recovery service."""
        if self._recovery is None:
            restoring: Restoring = cast("Any", self.app).restoring
            self._recovery = BatchedRecovery(restoring, self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


@asynccontextmanager
async def _reading(settings: Settings, offsets: Mapping[Place, int]) -> AsyncIterator[tuple[ChangelogReader, Any]]:
    """
    Yield a reader, and how to call it: on a thread of its own.

    Whoever waits for a call may be cancelled while it still runs; as there is but one thread, the reader is closed
    after it, never beside it.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "changelogs") as thread:

        async def call(act: Callable[..., Any], *args: Any) -> Any:
            return await loop.run_in_executor(thread, act, *args)

        reader = await call(ChangelogReader, settings, offsets)
        try:
            yield reader, call
        finally:
            await asyncio.shield(call(reader.close))
