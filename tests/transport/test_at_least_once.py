"""`AtLeastOnce`: what is sent in which order, what is confirmed before what, and what a failure leaves undone."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stream.errors import DeliveryError, SleptError
from stream.ports import Message, Record
from stream.transport import at_least_once
from stream.transport.at_least_once import AtLeastOnce
from stream.transport.progress import Batch, Progress
from stream.transport.settlement import Change, Settlement, Work
from tests.fakes import Counts

WAIT_S = 10.0
PLACE = ("interactions", 0)

Said = tuple[str, ...]


@dataclass
class World:
    """
    A guarantee and all that it talks to; `said` is what it did, in order.

    Attributes:
        free: Flushes that may go through, counted down; None for any number.
        fails: Whether the next flush is refused.
        slept: Whether this worker may no longer be heard.
    """

    said: list[Said] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    free: int | None = None
    fails: bool = False
    slept: bool = False
    room: int = 1_000
    told: Counts = field(default_factory=Counts)
    guarantee: AtLeastOnce = field(init=False)

    def __post_init__(self) -> None:
        """Begin to read the partition at its beginning."""
        self.guarantee = AtLeastOnce(cast("Any", self), self.progress, self.check, self.room, self.told)
        self.progress.expect(PLACE, 0, now=0.0)
        self.progress.take_seeks()
        self._waiting = asyncio.Condition()
        self._offset = 0

    def check(self, settlements: Sequence[Settlement]) -> None:
        """Note who is spoken for, or refuse."""
        if self.slept:
            raise SleptError("asleep")
        self.said.append(("check", *[str(s.batches[0].end) for s in settlements]))

    def send_all(self, messages: Iterable[Message], now: str) -> None:
        """Note the outputs."""
        self.said += [("output", message.value.decode()) for message in messages]

    def send_changes(self, changes: Iterable[Change]) -> None:
        """Note the changes."""
        self.said += [("change", change.key.decode(), change.value.decode()) for change in changes]

    async def flush(self) -> None:
        """Wait until it may go through; note that all before is safe."""
        self.said.append(("flushing",))
        async with self._waiting:
            await self._waiting.wait_for(lambda: self.free is None or self.free > 0)
        if self.fails:
            raise DeliveryError("no broker")
        if self.free is not None:
            self.free -= 1
        self.said.append(("flushed",))

    async def let_through(self, flushes: int = 1) -> None:
        """Let flushes go through, and whatever follows from them happen."""
        async with self._waiting:
            self.free = (self.free or 0) + flushes
            self._waiting.notify_all()
        await spin()

    def settlement(self, *changes: tuple[str, str], names: Sequence[str] = (), events: int = 2) -> Settlement:
        """Return a settlement of the partition's next events: an output by its end, a name, changes."""
        stamp = self.progress.stamp(PLACE, self.progress.epochs(), self._offset + events)
        assert stamp is not None
        records = [Record(*PLACE, self._offset + i, b"u", b"{}", 0.0) for i in range(events)]
        self._offset += events
        batch = self.progress.admit(Batch(stamp, records), now=0.0)
        assert batch is not None
        name = str(self._offset)
        work = Work(
            outputs=[Message("predictions", b"u", name.encode())],
            ahead=[Change("names", 0, each.encode(), each.encode()) for each in names],
            changes=[Change("learners", 0, key.encode(), value.encode()) for key, value in changes],
            confirmed=lambda _: self.said.append(("confirmed", name, str(self.progress.safe(PLACE)))),
        )
        return Settlement((batch,), work, b"m")

    @asynccontextmanager
    async def running(self) -> Any:
        """Let it work, and give its task."""
        task = asyncio.ensure_future(self.guarantee.run())
        await spin()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait({task})


async def spin() -> None:
    """Let everything go as far as it can by itself."""
    for _ in range(30):
        await asyncio.sleep(0)


async def done(act: Awaitable[None]) -> None:
    """Wait for something to end."""
    await asyncio.wait_for(act, WAIT_S)


async def test_outputs_and_names_are_safe_before_the_changelog_and_that_before_the_offset() -> None:
    """The order in which one settlement becomes safe; nothing may be committed before its end."""
    world = World(free=0)
    async with world.running():
        await world.guarantee.submit(world.settlement(("u", "1"), names=["ratios"]))
        await spin()
        first = [("check", "2"), ("output", "2"), ("change", "ratios", "ratios"), ("flushing",)]
        assert world.said == first
        assert world.progress.safe(PLACE) == 0
        await world.let_through()
        second = [*first, ("flushed",), ("check", "2"), ("change", "u", "1"), ("flushing",)]
        assert world.said == second
        assert world.progress.safe(PLACE) == 0
        await world.let_through()
        assert world.said == [*second, ("flushed",), ("confirmed", "2", "2")]
        assert world.progress.safe(PLACE) == 2


async def test_one_flush_serves_two_groups() -> None:
    """The outputs of one group travel with the changes of the group before."""
    world = World(free=0)
    async with world.running():
        await world.guarantee.submit(world.settlement(("u", "1")))
        await spin()
        await world.guarantee.submit(world.settlement(("u", "2"), names=["ratios"]))
        world.said.clear()
        await world.let_through()
        together = [("check", "2", "4"), ("output", "4"), ("change", "ratios", "ratios"), ("change", "u", "1")]
        assert world.said == [("flushed",), *together, ("flushing",)]
        await world.let_through()
        assert world.said[-4:] == [("confirmed", "2", "2"), ("check", "4"), ("change", "u", "2"), ("flushing",)]
        await world.let_through()
        assert world.said[-1] == ("confirmed", "4", "4")


async def test_a_group_is_produced_when_its_changes_are_confirmed() -> None:
    """How long that took is told once for each, from when it was taken; and all that the changelogs were given."""
    world, began_at = World(free=0), time.perf_counter()
    async with world.running():
        await world.guarantee.submit(world.settlement(("a", "1"), names=["topic"]))
        await world.let_through()
        assert world.told.stages == []
        assert [change.key for change in world.told.changes] == [b"topic"]
        await world.guarantee.submit(world.settlement(("a", "2"), ("b", "1")))
        await world.let_through()
        assert [stage for stage, _ in world.told.stages] == ["produce"]
        await world.let_through(2)
        assert [stage for stage, _ in world.told.stages] == ["produce", "produce"]
        assert all(0 < seconds < time.perf_counter() - began_at for _, seconds in world.told.stages)
    assert [(c.key, c.value) for c in world.told.changes] == [
        (b"topic", b"topic"),
        (b"a", b"1"),
        (b"a", b"2"),
        (b"b", b"1"),
    ]


async def test_of_a_group_only_the_newest_change_of_a_key_is_sent() -> None:
    """What waited while another group was under way is one group: each user's last record is enough."""
    world = World(free=0)
    async with world.running():
        await world.guarantee.submit(world.settlement(("u", "1")))
        await spin()
        for value in ("2", "3", "4"):
            await world.guarantee.submit(world.settlement(("u", value), ("v" + value, value)))
        await world.let_through(3)
        changes = [said[1:] for said in world.said if said[0] == "change"]
        assert changes[0] == ("u", "1")
        assert sorted(changes[1:]) == [("u", "4"), ("v2", "2"), ("v3", "3"), ("v4", "4")]
        assert [said[1] for said in world.said if said[0] == "output"] == ["2", "4", "6", "8"]
        assert [said[1:] for said in world.said if said[0] == "confirmed"][-1] == ("8", "8")


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_failure_to_deliver_ends_it_and_nothing_more_is_settled(after: int) -> None:
    """Whichever flush fails, what it should have made safe is neither settled nor confirmed."""
    world = World(free=0)
    async with world.running() as task:
        for value in range(3):
            await world.guarantee.submit(world.settlement(("u", str(value))))
            await spin()
        await world.let_through(after)
        world.fails = True
        confirmed = [said for said in world.said if said[0] == "confirmed"]
        assert len(confirmed) == max(0, after - 1)
        await world.let_through()
        with pytest.raises(DeliveryError):
            await done(task)
        assert [said for said in world.said if said[0] == "confirmed"] == confirmed
        assert world.progress.safe(PLACE) == 2 * len(confirmed)


async def test_a_worker_that_slept_sends_nothing_more() -> None:
    """It is asked before each sending, of all that is in hand, and its answer ends the work."""
    world = World(free=0)
    async with world.running() as task:
        await world.guarantee.submit(world.settlement(("u", "1")))
        await spin()
        world.slept = True
        before = len(world.said)
        await world.let_through()
        with pytest.raises(SleptError):
            await done(task)
        assert world.said[before:] == [("flushed",)]
        assert world.progress.safe(PLACE) == 0


async def test_drain_returns_when_all_is_safe() -> None:
    """Not when it is sent, and not when its outputs are confirmed."""
    world = World(free=0)
    async with world.running():
        await done(world.guarantee.drain())
        await world.guarantee.submit(world.settlement(("u", "1")))
        await world.guarantee.submit(world.settlement(("u", "2")))
        draining = asyncio.ensure_future(world.guarantee.drain())
        await spin()
        await world.let_through()
        assert not draining.done()
        await world.let_through()
        await done(draining)
        assert world.progress.safe(PLACE) == 4


async def test_whoever_submits_waits_for_room() -> None:
    """Events that are under way are bounded; they count until they are safe."""
    world = World(free=0, room=4)
    async with world.running():
        await done(world.guarantee.submit(world.settlement()))
        blocked = asyncio.ensure_future(world.guarantee.submit(world.settlement()))
        await spin()
        await world.let_through()
        assert not blocked.done()
        await world.let_through()
        await done(blocked)


async def test_taking_over_asks_nothing() -> None:
    """Earlier owners are told by what their records have seen: there is nobody to fence."""
    world = World()
    assert await asyncio.wait_for(world.guarantee.take_over({1, 2}, b"m"), WAIT_S)
    assert world.said == []


async def test_the_moment_of_delivery_is_that_of_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency ends when an output is confirmed, not when its changelog is."""
    clock = iter(float(second) for second in range(100, 200))
    ours = SimpleNamespace(time=lambda: next(clock), perf_counter=time.perf_counter, monotonic=time.monotonic)
    monkeypatch.setattr(at_least_once, "time", ours)
    told: list[tuple[str, float]] = []
    world = World(free=0)
    async with world.running():
        for name in ("first", "second"):
            batches = world.settlement().batches
            work = Work(confirmed=lambda at, name=name: told.append((name, at)))  # type: ignore[misc]
            await world.guarantee.submit(Settlement(batches, work, b"m"))
            await spin()
        await world.let_through(5)
    assert told == [("first", 100.0), ("second", 101.0)]


@hypothesis_settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "b", "c", "flush", "flush", "rest"]), max_size=30))
def test_whatever_comes_between_nothing_is_settled_before_it_is_safe(steps: list[str]) -> None:
    """
    For each settlement: outputs, a flush, its change or a newer one, a flush, the confirmation.

    And in the end every changelog key holds its last value.
    """

    async def play() -> World:
        world = World(free=0)
        async with world.running():
            for number, step in enumerate(steps):
                if step == "flush":
                    await world.let_through()
                elif step == "rest":
                    await spin()
                else:
                    await world.guarantee.submit(world.settlement((step, str(number))))
            await world.let_through(100)
            await done(world.guarantee.drain())
        return world

    world = asyncio.run(play())
    keys = [(step, str(number)) for number, step in enumerate(steps) if step in "abc"]
    said = world.said
    for count, (key, _) in enumerate(keys):
        name = str(2 * (count + 1))
        confirmed = said.index(("confirmed", name, name))
        newer = [v for k, v in keys[count:] if k == key]
        sent = max(i for i, s in enumerate(said[:confirmed]) if s[0] == "change" and s[1] == key and s[2] in newer)
        output = said.index(("output", name))
        assert ("flushed",) in said[output:sent]
        assert ("flushed",) in said[sent:confirmed]
    assert {s[1]: s[2] for s in said if s[0] == "change"} == dict(keys)
    assert world.progress.safe(PLACE) == 2 * len(keys)
