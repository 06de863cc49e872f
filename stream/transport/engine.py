"""
From fetched batches to settled ones: what waits is processed together, whatever partition it came from.

Faust's agents hand their batches in here. Processing is synchronous and changes memory at once; making it safe is the
guarantee's, while the next batches are processed.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from stream.errors import DeliveryError, StreamError
from stream.ports import Record, Telemetry
from stream.transport.progress import Batch, Place, Progress
from stream.transport.settlement import Guarantee, Settlement, Work, nothing

log = structlog.get_logger()

_TOGETHER_S = 0.02
"""So long a batch waits for those that were fetched with it: much longer than they are on their way."""

_AWAY_S = 0.05
"""How often a worker that is not in its group looks whether it is again."""

Handler = Callable[[list[Record]], Work]
"""Processes records of one topic, of any of its partitions, each partition's in the order of its offsets."""


class Aside(Protocol):
    """Work that no event asks for, done between two batches a little at a time."""

    def due_s(self) -> float | None:
        """Return the seconds until it wants its next turn, None while there is nothing to do."""

    def turn(self) -> tuple[Work, frozenset[Place]] | None:
        """
        Do a little.

        Returns:
            What has to become safe, and the partitions of the source topics whose users it is about; None for nothing.
        """


class _Nothing:
    """An `Aside` that never has anything to do."""

    def due_s(self) -> float | None:
        """Return None."""
        return None

    def turn(self) -> tuple[Work, frozenset[Place]] | None:
        """Return None."""
        return None


async def _at_once() -> None:
    pass


@dataclass(slots=True)
class Engine:
    """
    Processes batches one after the other, and hands them to the guarantee.

    Attributes:
        guarantee: Makes them safe.
        progress: Says what of a batch is to be processed.
        batch_max: Records that are processed together, at most.
        owned: Returns the partitions that are ours.
        membership: Returns the consumer's place in its group now, None where it has none.
        telemetry: Told of sizes and durations.
        ready: Awaited before the first batch.
        between: Called between two batches.
        aside: Has a turn between two batches, when it is due: after each batch one at most.
        finish_s: What is in hand may take so long to become safe when the partitions are to go.
    """

    guarantee: Guarantee
    progress: Progress
    batch_max: int
    owned: Callable[[], AbstractSet[Place]]
    membership: Callable[[], bytes | None]
    telemetry: Telemetry
    ready: Callable[[], Awaitable[None]] = _at_once
    between: Callable[[], None] = nothing
    aside: Aside = field(default_factory=_Nothing)
    finish_s: float = 8.0
    _handlers: dict[str, Handler] = field(default_factory=dict)
    _inbox: deque[Batch] = field(default_factory=deque)
    _fetched: int = 0
    _announced: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _is_open: bool = False
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def attach(self, topic: str, handler: Handler) -> None:
        """Let a handler process a topic."""
        self._handlers[topic] = handler

    def start(self) -> None:
        """Begin; any error ends the process before anything is committed."""
        self._tasks = [asyncio.ensure_future(or_stop(part)) for part in (self._run(), self.guarantee.run())]

    def stop(self) -> None:
        """End, after `drain`."""
        for task in self._tasks:
            task.cancel()

    def announce(self, batches: int) -> None:
        """Expect so many batches, fetched together, on their way through Faust: they are worth a moment's wait."""
        self._announced = max(self._announced, 0) + batches

    async def offer(self, batch: Batch) -> None:
        """Take a batch, and return when there is room for the next."""
        async with self._changed:
            self._inbox.append(batch)
            self._fetched += len(batch.records)
            self._announced -= 1
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._fetched < 2 * self.batch_max)

    async def open(self) -> None:
        """Process what comes from now on: partitions are assigned, and their state is there."""
        async with self._changed:
            self._is_open = True
            self._changed.notify_all()

    async def drain(self) -> None:
        """
        Make safe what is in hand, and process nothing more until `open`.

        What has only been fetched is dropped: whoever owns the partition then reads it again.
        """
        async with self._changed:
            self._is_open = False
            self._clear()
            self._changed.notify_all()
        try:
            await asyncio.wait_for(self.guarantee.drain(), self.finish_s)
        except TimeoutError:
            stop_now(
                DeliveryError(
                    f"the batches in hand took more than {self.finish_s} s to become safe: the broker is slow or away; "
                    "what was in hand comes again after the restart"
                )
            )

    def _clear(self) -> None:
        self._inbox.clear()
        self._fetched = self._announced = 0

    async def _run(self) -> None:
        await self.ready()
        while True:
            taken = await self._take()
            membership = self.membership()
            # Out of the group, on the way back into it: whoever owns the partitions then reads them again.
            if membership is None:
                # What is besides due stays so: without a pause it would keep everything else from its turn.
                await asyncio.sleep(_AWAY_S if taken is None else 0)
                continue
            self.between()
            if taken is not None:
                await self._process(*taken, membership)
            # Once after each batch, so that a backlog cannot keep it waiting for ever.
            if self._is_open and self.aside.due_s() == 0:
                await self._turn_aside()
            # Between two batches everything else has its turn: commits, timers, what came in meanwhile.
            await asyncio.sleep(0)

    async def _process(self, topic: str, batches: list[Batch], membership: bytes) -> None:
        """Process batches of a topic, and hand them to the guarantee."""
        admitted = self._admit(batches)
        if not admitted:
            return
        started = time.perf_counter()
        records = [record for batch in admitted for record in batch.records]
        work = self._handlers[topic](records)
        self.telemetry.batch(len(records), time.perf_counter() - started)
        await self.guarantee.submit(Settlement(tuple(admitted), work, membership))

    async def _turn_aside(self) -> None:
        """Have what is besides take its turn."""
        # Asked again: while a batch waited for room, the group may have moved on.
        membership = self.membership()
        if membership is not None and (done := self.aside.turn()) is not None:
            work, places = done
            await self.guarantee.submit(Settlement((), work, membership, places))

    async def _take(self) -> tuple[str, list[Batch]] | None:
        """
        Return batches of one topic, the oldest first, as many as may be processed together.

        None where nothing has come by the time that what is done besides is due.
        """
        async with self._changed:
            while True:
                await self._changed.wait_for(self._is_anything_due)
                try:
                    async with asyncio.timeout(self.aside.due_s()):
                        await self._changed.wait_for(lambda: bool(self._inbox) or not self._is_open)
                except TimeoutError:
                    return None
                await self._await_announced()
                # The partitions may have gone meanwhile.
                if self._is_open and self._inbox:
                    break
            topic, count = self._inbox[0].place[0], 0
            taken: list[Batch] = []
            left: deque[Batch] = deque()
            for batch in self._inbox:
                fits = not taken or count + len(batch.records) <= self.batch_max
                # A partition's batches stay in order: behind one that has to wait, all wait.
                if batch.place[0] == topic and fits and not any(batch.place == other.place for other in left):
                    taken.append(batch)
                    count += len(batch.records)
                else:
                    left.append(batch)
            self._inbox = left
            self._fetched -= count
            self._changed.notify_all()
            return topic, taken

    def _is_anything_due(self) -> bool:
        return self._is_open and (bool(self._inbox) or self.aside.due_s() is not None)

    async def _await_announced(self) -> None:
        """Wait for what was fetched together: a batch costs as much as many of its events."""
        try:
            async with asyncio.timeout(_TOGETHER_S):
                await self._changed.wait_for(lambda: self._announced <= 0 or self._fetched >= self.batch_max)
        except TimeoutError:
            # Faust has dropped some of them: a rebalance, a flow that was stopped.
            self._announced = 0

    def _admit(self, batches: Iterable[Batch]) -> list[Batch]:
        """Return what is to be processed; a partition that belongs to another worker by now is that one's."""
        admitted, owned = [], self.owned()
        for batch in batches:
            if batch.place in owned:
                part = self.progress.admit(batch, time.monotonic())
                if part is not None:
                    admitted.append(part)
        return admitted


async def or_stop(part: Awaitable[None]) -> None:
    """Await work that never ends by itself; any error ends the process."""
    try:
        await part
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 (nothing may be committed after any of them)
        stop_now(error)


def stop_now(error: BaseException) -> None:
    """End the process at once, without committing: what was in hand comes again after the restart."""
    if isinstance(error, StreamError):
        log.critical("worker.stopped", reason=str(error))
    else:
        log.critical("worker.stopped", reason=str(error), exc_info=error)
    os._exit(1)
