"""`Engine`: what is processed together, in which order, what is dropped, and who has to wait."""

import asyncio
from collections.abc import Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stream.errors import DeliveryError
from stream.ports import Record
from stream.telemetry import Silent
from stream.transport import engine as engine_module
from stream.transport.engine import Engine
from stream.transport.progress import Batch, Place, Progress
from stream.transport.settlement import Settlement, Work

WAIT_S = 10.0


@pytest.fixture(autouse=True)
def _the_test_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an end that no test expects fail the test, not end the run."""

    def end(status: int) -> None:
        raise AssertionError(f"the process would have ended with {status}")

    monkeypatch.setattr("stream.transport.engine.os._exit", end)


class Sizes(Silent):
    """Telemetry that remembers the sizes of batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def batch(self, events: int, seconds: float) -> None:
        """Remember the size."""
        self.sizes.append(events)


@dataclass
class World:
    """
    An engine, its handlers and its guarantee; `said` is what they did, in order.

    Attributes:
        submitted: What the guarantee was handed.
        unsafe: Whether the guarantee still has something under way.
        full: Whether it has no room.
        fails: What handlers raise.
        not_owned: Partitions of other workers.
        member: Our place in the group, None where we have none.
    """

    batch_max: int = 10
    progress: Progress = field(default_factory=Progress)
    said: list[tuple[str, list[tuple[int, int]]]] = field(default_factory=list)
    submitted: list[Settlement] = field(default_factory=list)
    unsafe: bool = False
    full: bool = False
    fails: BaseException | None = None
    not_owned: set[Place] = field(default_factory=set)
    member: bytes | None = b"member"
    telemetry: Sizes = field(default_factory=Sizes)
    engine: Engine = field(init=False)
    _ends: dict[Place, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Attach two topics."""
        self._changed = asyncio.Condition()
        self.engine = Engine(
            cast("Any", self),
            self.progress,
            self.batch_max,
            lambda: set(self._ends) - self.not_owned,
            lambda: self.member,
            self.telemetry,
            between=lambda: self.said.append(("between", [])),
        )
        for topic in ("interactions", "academics"):
            self.engine.attach(topic, lambda records, topic=topic: self._handle(topic, records))  # type: ignore[misc]

    def _handle(self, topic: str, records: list[Record]) -> Work:
        assert {record.topic for record in records} == {topic}
        if self.fails is not None:
            raise self.fails
        self.said.append((topic, [(record.partition, record.offset) for record in records]))
        return Work()

    async def run(self) -> None:
        """Be a guarantee that works for ever."""
        await asyncio.Event().wait()

    async def submit(self, settlement: Settlement) -> None:
        """Be a guarantee with or without room."""
        self.submitted.append(settlement)
        async with self._changed:
            await self._changed.wait_for(lambda: not self.full)

    async def drain(self) -> None:
        """Be a guarantee that has something under way or not."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.unsafe)

    async def change(self, **values: bool) -> None:
        """Change what the guarantee says."""
        async with self._changed:
            for name, value in values.items():
                setattr(self, name, value)
            self._changed.notify_all()
        await spin()

    def batch(self, count: int, partition: int = 0, topic: str = "interactions") -> Batch:
        """Return the next records of a partition as if they had just been fetched."""
        place = (topic, partition)
        if place not in self._ends:
            self._ends[place] = 0
            self.progress.expect(place, 0, 0.0)
            self.progress.take_seeks()
        first = self._ends[place]
        self._ends[place] += count
        stamp = self.progress.stamp(place, self.progress.epochs(), first + count)
        assert stamp is not None
        return Batch(stamp, [Record(*place, first + i, b"u", b"{}", 0.0) for i in range(count)])

    async def offer(self, *batches: Batch) -> list["asyncio.Task[None]"]:
        """Hand batches in, each by a task of its own, and let everything go as far as it can."""
        tasks = []
        for batch in batches:
            tasks.append(asyncio.ensure_future(self.engine.offer(batch)))
            await spin()
        return tasks

    @property
    def processed(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """What handlers were handed."""
        return [(topic, records) for topic, records in self.said if topic != "between"]

    @asynccontextmanager
    async def running(self, *, is_open: bool = True) -> Any:
        """Let the engine work."""
        self.engine.start()
        if is_open:
            await self.engine.open()
        await spin()
        try:
            yield
        finally:
            self.engine.stop()
            await asyncio.wait(self.engine._tasks)


async def spin() -> None:
    """Let everything go as far as it can by itself."""
    for _ in range(30):
        await asyncio.sleep(0)


async def done(*acts: Awaitable[None]) -> None:
    """Wait for things to end."""
    await asyncio.wait_for(asyncio.gather(*acts), WAIT_S)


def span(partition: int, first: int, end: int) -> list[tuple[int, int]]:
    """Return places of records."""
    return [(partition, offset) for offset in range(first, end)]


async def test_what_waits_is_processed_together_whatever_partition_it_is_of() -> None:
    """Batches of several partitions become one, up to the largest size; the next does not fit and waits."""
    world = World(batch_max=10)
    async with world.running(is_open=False):
        offered = await world.offer(world.batch(4, 0), world.batch(4, 1), world.batch(3, 2), world.batch(2, 3))
        await world.engine.open()
        await done(*offered)
        await spin()
    assert world.processed == [
        ("interactions", span(0, 0, 4) + span(1, 0, 4) + span(3, 0, 2)),
        ("interactions", span(2, 0, 3)),
    ]
    assert [[(b.place[1], b.end) for b in s.batches] for s in world.submitted] == [[(0, 4), (1, 4), (3, 2)], [(2, 3)]]
    assert {s.membership for s in world.submitted} == {b"member"}
    assert world.telemetry.sizes == [10, 3]
    assert [what for what, _ in world.said] == ["between", "interactions"] * 2


async def test_what_was_fetched_together_is_processed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch to arrive waits for those that were announced with it."""
    monkeypatch.setattr(engine_module, "_TOGETHER_S", WAIT_S)
    world = World(batch_max=10)
    async with world.running():
        world.engine.announce(3)
        first = await world.offer(world.batch(2, 0), world.batch(2, 1))
        assert world.processed == []
        await done(*first, *await world.offer(world.batch(2, 2)))
        await spin()
        assert world.processed == [("interactions", span(0, 0, 2) + span(1, 0, 2) + span(2, 0, 2))]


async def test_what_never_arrives_is_waited_for_a_moment_only() -> None:
    """Faust may drop a batch on its way; and a full batch waits for nothing."""
    world = World(batch_max=10)
    async with world.running():
        world.engine.announce(2)
        await done(*await world.offer(world.batch(2, 0)))
        async with asyncio.timeout(WAIT_S):
            while not world.processed:  # noqa: ASYNC110 (the engine tells nobody)
                await asyncio.sleep(engine_module._TOGETHER_S)
        assert world.processed == [("interactions", span(0, 0, 2))]
        world.engine.announce(3)
        await done(*await world.offer(world.batch(10, 1)))
        await spin()
        assert world.processed[1:] == [("interactions", span(1, 0, 10))]


async def test_partitions_that_go_while_their_batches_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is processed then, and the engine goes on when it is opened again."""
    monkeypatch.setattr(engine_module, "_TOGETHER_S", WAIT_S)
    world = World()
    async with world.running():
        world.engine.announce(2)
        await done(*await world.offer(world.batch(2, 0)))
        await world.engine.drain()
        await spin()
        assert world.processed == []
        await world.engine.open()
        world.engine.announce(1)
        await done(*await world.offer(world.batch(2, 1)))
        await spin()
        assert world.processed == [("interactions", span(1, 0, 2))]


async def test_a_partitions_batches_stay_in_order() -> None:
    """A small batch is not processed before a large one of its partition that had to wait."""
    world = World(batch_max=10)
    async with world.running(is_open=False):
        offered = await world.offer(world.batch(6, 0), world.batch(7, 1), world.batch(1, 1), world.batch(2, 0))
        await world.engine.open()
        await done(*offered)
        await spin()
    assert world.processed == [
        ("interactions", span(0, 0, 8)),
        ("interactions", span(1, 0, 8)),
    ]


async def test_topics_are_not_mixed() -> None:
    """A handler gets records of its topic only; what is oldest decides whose turn it is."""
    world = World(batch_max=10)
    async with world.running(is_open=False):
        offered = await world.offer(
            world.batch(2, 0), world.batch(2, 0, "academics"), world.batch(2, 1), world.batch(2, 1, "academics")
        )
        await world.engine.open()
        await done(*offered)
        await spin()
    assert world.processed == [
        ("interactions", span(0, 0, 2) + span(1, 0, 2)),
        ("academics", span(0, 0, 2) + span(1, 0, 2)),
    ]


async def test_a_batch_above_the_largest_size_is_processed_alone() -> None:
    """It must be processed some time."""
    world = World(batch_max=3)
    async with world.running():
        await done(*await world.offer(world.batch(9, 0)))
        await spin()
    assert world.processed == [("interactions", span(0, 0, 9))]


async def test_whoever_fetches_waits_while_processing_does() -> None:
    """Twice the largest batch may have been fetched; the guarantee's lack of room is felt there."""
    world = World(batch_max=5, full=True)
    async with world.running():
        await done(*await world.offer(world.batch(5, 0)))  # processed, and held up by the guarantee
        await done(*await world.offer(world.batch(5, 0)))
        (blocked,) = await world.offer(world.batch(5, 0))
        assert not blocked.done()
        assert len(world.processed) == 1
        await world.change(full=False)
        await done(blocked)
        await spin()
    assert [len(records) for _, records in world.processed] == [5, 5, 5]


async def test_nothing_is_processed_before_it_is_open() -> None:
    """Partitions whose state is not there yet wait."""
    world = World()
    async with world.running(is_open=False):
        offered = await world.offer(world.batch(3))
        await done(*offered)
        assert world.processed == []
        await world.engine.open()
        await spin()
        assert world.processed == [("interactions", span(0, 0, 3))]


async def test_nothing_is_processed_before_what_it_needs_is_ready() -> None:
    """The models that are announced are loaded first."""
    world, ready = World(), asyncio.Event()

    async def until_ready() -> None:
        await ready.wait()

    world.engine.ready = until_ready
    async with world.running():
        await done(*await world.offer(world.batch(3)))
        assert world.processed == []
        ready.set()
        await spin()
        assert len(world.processed) == 1


async def test_drain_drops_what_was_only_fetched_and_waits_for_what_is_in_hand() -> None:
    """What nobody has processed is read again by the next owner; what was processed must become safe."""
    world = World(batch_max=5, full=True, unsafe=True)
    async with world.running():
        await done(*await world.offer(world.batch(5, 0)))
        await done(*await world.offer(world.batch(5, 0)))
        (blocked,) = await world.offer(world.batch(5, 0))
        draining = asyncio.ensure_future(world.engine.drain())
        await spin()
        await done(blocked)  # it was dropped, and its agent goes on
        assert not draining.done()
        await world.change(unsafe=False, full=False)
        await done(draining)
        await spin()
        assert world.processed == [("interactions", span(0, 0, 5))]
        # What still comes from before is held against the progress; until `open` it waits.
        world.progress.expect(("interactions", 0), 5, 0.0)
        world.progress.take_seeks()
        world._ends["interactions", 0] = 5
        await done(*await world.offer(world.batch(2, 0)))
        assert len(world.processed) == 1
        await world.engine.open()
        await spin()
        assert world.processed[1:] == [("interactions", span(0, 5, 7))]


async def test_drain_that_takes_too_long_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The partitions go whether all is safe or not: nothing may be heard of it afterwards."""
    ended: list[BaseException] = []
    monkeypatch.setattr(engine_module, "stop_now", ended.append)
    world = World(unsafe=True)
    world.engine.finish_s = 0.01
    await done(world.engine.drain())
    assert [type(error) for error in ended] == [DeliveryError]


async def test_a_partition_of_another_worker_is_not_processed() -> None:
    """Neither is anything of it taken note of: the next owner reads it."""
    world = World(not_owned={("interactions", 1)})
    async with world.running(is_open=False):
        offered = await world.offer(world.batch(2, 1), world.batch(2, 0))
        await world.engine.open()
        await done(*offered)
        await spin()
        assert world.processed == [("interactions", span(0, 0, 2))]
        await done(*await world.offer(world.batch(2, 1)))
        await spin()
    assert len(world.submitted) == 1
    # It was not admitted: the same records would be, if it were ours.
    world.not_owned.clear()
    assert world.progress._partitions["interactions", 1].next == 0


async def test_a_worker_out_of_the_group_processes_nothing() -> None:
    """Nobody could commit it; neither is it taken note of, so that it is read again by whoever is in the group."""
    world = World(member=None)
    async with world.running():
        await done(*await world.offer(world.batch(2)))
        await spin()
        assert (world.processed, world.submitted) == ([], [])
        assert world.progress._partitions["interactions", 0].next == 0
        world.member = b"again"
        world.progress.expect(("interactions", 0), 0, 0.0)
        world.progress.take_seeks()
        world._ends["interactions", 0] = 0
        await done(*await world.offer(world.batch(2)))
        await spin()
    assert world.processed == [("interactions", span(0, 0, 2))]
    assert [settlement.membership for settlement in world.submitted] == [b"again"]


# ------------------------------------------------------------------------------------------------- what is done besides


@dataclass
class Chores:
    """An `Aside` with so many turns left, each of which is said in the world's order."""

    world: World
    left: int = 0
    wait_s: float = 0.0
    is_empty: bool = False

    def due_s(self) -> float | None:
        """Return when the next turn is due."""
        return self.wait_s if self.left else None

    def turn(self) -> tuple[Work, frozenset[Place]] | None:
        """Take a turn."""
        self.left -= 1
        self.world.said.append(("aside", []))
        return None if self.is_empty else (Work(), frozenset({("interactions", 3)}))


def aside(world: World, left: int, **options: Any) -> Chores:
    """Give a world's engine something to do besides."""
    chores = Chores(world, left, **options)
    world.engine.aside = chores
    return chores


async def test_what_is_besides_has_its_turns_while_nothing_comes() -> None:
    """One after the other, each with what was taken over before it, and made safe like a batch."""
    world = World()
    aside(world, 3)
    async with world.running():
        await spin()
    assert world.said == [("between", []), ("aside", [])] * 3
    assert [(s.batches, s.aside, s.membership, s.events) for s in world.submitted] == [
        ((), frozenset({("interactions", 3)}), b"member", 1)
    ] * 3


async def test_events_go_first_and_leave_one_turn_each() -> None:
    """What waits is processed before what is besides, which has one turn after each batch, however many come."""
    world = World(batch_max=2)
    aside(world, 3)
    async with world.running(is_open=False):
        offered = await world.offer(world.batch(2), world.batch(2), world.batch(2))
        await world.engine.open()
        await done(*offered)
        await spin()
    assert [name for name, _ in world.said if name != "between"] == ["interactions", "aside"] * 3


async def test_what_is_not_due_yet_waits() -> None:
    """Its time has to come; a batch that comes meanwhile does not wait for it."""
    world = World()
    chores = aside(world, 1, wait_s=0.05)
    async with world.running():
        await done(*await world.offer(world.batch(1)))
        assert world.processed == [("interactions", [(0, 0)])]
        assert chores.left == 1

        async def its_turn() -> None:
            while chores.left:  # noqa: ASYNC110 (the loop itself brings it about)
                await asyncio.sleep(0)

        chores.wait_s = 0.0
        await done(its_turn())
    assert world.submitted[-1].aside


async def test_nothing_is_done_besides_while_partitions_go() -> None:
    """Not before they are assigned, not once they are drained, and not out of the group."""
    world = World()
    chores = aside(world, 5)
    async with world.running(is_open=False):
        await spin()
        assert chores.left == 5
        await world.engine.open()
        await spin()
        assert chores.left == 0
        await world.engine.drain()
        chores.left = 5
        await spin()
        assert chores.left == 5
        world.member = None
        await world.engine.open()
        await spin()
        assert chores.left == 5


@pytest.mark.parametrize("member", [b"next", None])
async def test_what_is_besides_is_settled_under_the_membership_of_its_turn(member: bytes | None) -> None:
    """The group may move on while a batch waits for room: then under the next one, and without one not at all."""
    world = World(full=True)
    chores = aside(world, 1)
    async with world.running(is_open=False):
        offered = await world.offer(world.batch(1))
        await world.engine.open()
        await spin()
        assert [s.membership for s in world.submitted] == [b"member"]
        world.member = member
        await world.change(full=False)
        await done(*offered)
    assert [s.membership for s in world.submitted[1:]] == [b"next"] * (member is not None)
    assert chores.left == (member is None)


async def test_a_turn_that_comes_to_nothing_is_not_submitted() -> None:
    """There is nothing to make safe."""
    world = World()
    aside(world, 3, is_empty=True)
    async with world.running():
        await spin()
    assert world.submitted == []
    assert [name for name, _ in world.said].count("aside") == 3


async def test_what_is_outdated_is_not_processed() -> None:
    """Fetched before its partition was to be read anew: nothing of it reaches a handler."""
    world = World()
    async with world.running(is_open=False):
        offered = await world.offer(world.batch(2, 0), world.batch(3, 1))
        world.progress.expect(("interactions", 0), 0, 0.0)
        await world.engine.open()
        await done(*offered)
        await spin()
    assert world.processed == [("interactions", span(1, 0, 3))]


@pytest.mark.parametrize("where", ["handler", "guarantee", "ready"])
async def test_any_error_ends_the_process(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """After an error nothing is submitted, and nothing could be committed."""
    ended: list[BaseException] = []
    monkeypatch.setattr(engine_module, "stop_now", ended.append)
    world, wrong = World(), DeliveryError("no broker")

    async def fail() -> None:
        raise wrong

    if where == "handler":
        world.fails = wrong
    elif where == "ready":
        world.engine.ready = fail
    else:
        monkeypatch.setattr(world, "run", fail)
    async with world.running():
        if where == "handler":
            await done(*await world.offer(world.batch(2)))
        await spin()
        assert ended == [wrong]
        assert world.submitted == []


async def test_the_end_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is stopped ends nothing else."""
    ended: list[BaseException] = []
    monkeypatch.setattr(engine_module, "stop_now", ended.append)
    async with World().running():
        pass
    assert ended == []


def test_a_defect_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With exit status 1, past everything that would still commit."""
    statuses: list[int] = []
    monkeypatch.setattr("stream.transport.engine.os._exit", statuses.append)
    engine_module.stop_now(DeliveryError("no broker"))
    assert statuses == [1]


@hypothesis_settings(max_examples=50)
@given(
    arriving=st.lists(
        st.tuples(st.integers(1, 7), st.integers(0, 3), st.sampled_from(["interactions", "academics"])), max_size=25
    ),
    batch_max=st.integers(1, 12),
)
def test_every_record_is_processed_once_and_in_its_partitions_order(
    arriving: list[tuple[int, int, str]], batch_max: int
) -> None:
    """However batches arrive, no group is above the largest size unless it is one batch."""

    async def play() -> World:
        world = World(batch_max)
        async with world.running(is_open=False):
            tasks = [asyncio.ensure_future(world.engine.offer(world.batch(*each))) for each in arriving]
            await spin()
            await world.engine.open()
            await done(*tasks)
            for _ in arriving:
                await spin()
        return world

    world = asyncio.run(play())
    found: dict[Place, list[int]] = {}
    for topic, records in world.processed:
        for partition, offset in records:
            found.setdefault((topic, partition), []).append(offset)
    assert found == {place: list(range(end)) for place, end in world._ends.items()}
    for settlement in world.submitted:
        assert settlement.events <= batch_max or len(settlement.batches) == 1
