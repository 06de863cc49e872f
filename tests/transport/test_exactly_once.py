"""`ExactlyOnce`: what stands in a transaction, and what becomes of memory when one is aborted; no broker."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stream.errors import TransactionError, UserError
from stream.health import Standing
from stream.ports import Message, Record
from stream.settings import Settings
from stream.transport import exactly_once
from stream.transport.clients import consumer_config
from stream.transport.exactly_once import ExactlyOnce, check_membership_format, membership
from stream.transport.progress import Batch, Place, Progress
from stream.transport.settlement import Change, Settlement, Work
from tests.fakes import Counts

WAIT_S = 20.0
PLACE = ("interactions", 0)
SETTINGS = Settings(group="g", instance_id="w-1", broker="127.0.0.1:1")


def error(code: int, *, fatal: bool = False, retriable: bool = False, abortable: bool = False) -> KafkaException:
    """Return an error as librdkafka raises it."""
    return KafkaException(KafkaError(code, "no", fatal, retriable, abortable))


def abortable() -> KafkaException:
    """Return what a worker hears whose group has moved on."""
    return error(KafkaError.ILLEGAL_GENERATION, abortable=True)


def passing() -> KafkaException:
    """Return what trying again helps against."""
    return error(KafkaError._TIMED_OUT, retriable=True)


def fatal() -> KafkaException:
    """Return what a producer hears whose id is another's."""
    return error(KafkaError._FENCED, fatal=True)


@dataclass
class FakeProducer:
    """
    A transactional producer in memory.

    Attributes:
        config: That it was made from.
        committed: Of each transaction: what was produced, and the offsets with what stands beside them.
        members: Of each transaction: the place in the group.
        errors: What the next calls of a kind raise, None for nothing.
        calls: Kinds of calls, in order.
        gate: Closed, it holds commits up.
    """

    config: dict[str, Any] = field(default_factory=dict)
    committed: list[tuple[list[tuple[str, bytes, bytes, int]], dict[Place, tuple[int, str | None]]]] = field(
        default_factory=list
    )
    members: list[bytes] = field(default_factory=list)
    errors: dict[str, list[KafkaException | None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Open no transaction yet."""
        self._open: list[tuple[str, bytes, bytes, int]] | None = None
        self._offsets: dict[Place, tuple[int, str | None]] = {}
        self.gate.set()

    def _call(self, kind: str) -> None:
        self.calls.append(kind)
        waiting = self.errors.get(kind)
        raised = waiting.pop(0) if waiting else None
        if raised is not None:
            raise raised

    def init_transactions(self, timeout: float) -> None:
        """Begin to be."""
        self._call("init")

    def begin_transaction(self) -> None:
        """Open one; two at once are a mistake of ours."""
        assert self._open is None
        self._call("begin")
        self._open, self._offsets = [], {}

    def produce(
        self, topic: str, value: bytes, key: bytes, partition: int, called: Callable[..., None], headers: Any = None
    ) -> None:
        """Take a message into the open transaction."""
        assert self._open is not None
        self._call("produce")
        self._open.append((topic, key, value, partition))

    def send_offsets_to_transaction(self, positions: list[TopicPartition], group_metadata: Any, timeout: float) -> None:
        """Take offsets into the open transaction."""
        assert self._open is not None
        self._call("offsets")
        self._offsets |= {(p.topic, p.partition): (p.offset, p.metadata) for p in positions}
        self.members.append(bytes(group_metadata))

    def commit_transaction(self, timeout: float) -> None:
        """End the transaction well."""
        assert self.gate.wait(WAIT_S)
        self._call("commit")
        assert self._open is not None
        self.committed.append((self._open, self._offsets))
        self._open = None

    def abort_transaction(self, timeout: float) -> None:
        """End the transaction badly."""
        self._call("abort")
        self._open = None

    def poll(self, timeout: float) -> int:
        """Call nobody."""
        return 0

    def flush(self, timeout: float) -> int:
        """Deliver all."""
        return 0

    def __len__(self) -> int:
        """Return how many messages are not delivered yet: none, which makes it false like the real one."""
        return 0

    @property
    def outputs(self) -> list[str]:
        """What whoever reads committed messages sees of the predictions."""
        sent = [message for messages, _ in self.committed for message in messages]
        return [value.decode() for topic, _, value, _ in sent if topic == "predictions"]

    @property
    def changelog(self) -> dict[bytes, bytes]:
        """What whoever reads committed messages sees of the learners' changelog."""
        sent = [message for messages, _ in self.committed for message in messages]
        return {key: value for topic, key, value, _ in sent if topic == "learners"}

    @property
    def offsets(self) -> dict[Place, int]:
        """What is committed of the source."""
        return {place: offset for _, offsets in self.committed for place, (offset, _) in offsets.items()}


@dataclass
class World:
    """
    A guarantee, its producer, the progress that it tells, and a memory that work changes.

    Attributes:
        memory: Counts by key.
        said: What was undone and confirmed, in order.
    """

    guarantee: ExactlyOnce
    producer: FakeProducer
    progress: Progress
    told: Counts
    memory: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    member: bytes = b"m1"
    _offsets: dict[Place, int] = field(default_factory=dict)

    def work(self, name: str, key: str) -> Work:
        """Count under a key, and return what has to become safe."""
        before = self.memory.get(key, 0)
        self.memory[key] = before + 1

        def undo() -> None:
            self.memory[key] = before
            self.said.append(f"undone {name}")

        return Work(
            outputs=[Message("predictions", b"u", name.encode())],
            ahead=[Change("names", 0, name.encode(), b"")],
            changes=[Change("learners", 0, key.encode(), b"%d" % (before + 1))],
            undo=undo,
            confirmed=lambda _: self.said.append(f"confirmed {name}"),
        )

    def settlement(self, key: str, place: Place = PLACE, events: int = 1) -> Settlement:
        """Process the next records of a partition that is read for the first time, and return the settlement."""
        if place not in self._offsets:
            self._offsets[place] = 0
            self.progress.expect(place, 0, 0.0)
            self.progress.take_seeks()
        first = self._offsets[place]
        self._offsets[place] += events
        stamp = self.progress.stamp(place, self.progress.epochs(), first + events)
        assert stamp is not None
        batch = self.progress.admit(Batch(stamp, records(place, first, first + events)), 0.0)
        assert batch is not None
        return Settlement((batch,), self.work(f"{place[1]}-{first + events}", key), self.member)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        """Let it work, and give its task."""
        task = asyncio.ensure_future(self.guarantee.run())
        try:
            yield task
        finally:
            self.producer.gate.set()
            task.cancel()
            await asyncio.wait({task})


def records(place: Place, first: int, end: int) -> list[Record]:
    """Return records of a partition."""
    return [Record(*place, offset, b"u", b"{}", 0.0) for offset in range(first, end)]


def world(monkeypatch: pytest.MonkeyPatch, room: int = 1_000, settings: Settings = SETTINGS) -> World:
    """Return a world in which nothing has happened yet."""
    producers: list[FakeProducer] = []

    def produce(config: dict[str, Any]) -> FakeProducer:
        producers.append(FakeProducer(config))
        return producers[-1]

    monkeypatch.setattr(exactly_once, "Producer", produce)
    monkeypatch.setattr(exactly_once, "_BACKOFF_S", 0.0)
    progress, told = Progress(), Counts()
    guarantee = ExactlyOnce(settings, progress, room, told)
    (producer,) = producers
    return World(guarantee, producer, progress, told)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return such a world."""
    return world(monkeypatch)


async def done(task: Any) -> None:
    """Wait for something to end."""
    await asyncio.wait_for(task, WAIT_S)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for an effect."""

    async def look() -> None:
        while not is_so():  # noqa: ASYNC110 (a thread of the executor brings it about)
            await asyncio.sleep(0.001)

    await done(look())


async def test_outputs_changelogs_and_offsets_are_one_transaction(here: World) -> None:
    """All of a settlement in one, our id beside the offset; then it is settled and confirmed."""
    async with here.running():
        await here.guarantee.submit(here.settlement("a", events=3))
        await done(here.guarantee.drain())
    sent = [("predictions", b"u", b"0-3", -1), ("names", b"0-3", b"", 0), ("learners", b"a", b"1", 0)]
    assert here.producer.committed == [(sent, {PLACE: (3, "g/w-1")})]
    assert here.producer.members == [b"m1"]
    assert here.said == ["confirmed 0-3"]
    assert here.progress.safe(PLACE) == 3
    assert here.producer.config["transactional.id"] == "g/w-1"


async def test_what_a_transaction_took_is_told(here: World) -> None:
    """Until all is confirmed, and from there to its commit; what the changelogs were given; and what is committed."""
    here.producer.errors["commit"] = [abortable()]
    async with here.running():
        await here.guarantee.submit(here.settlement("a", events=3))
        await done(here.guarantee.drain())
        assert (here.told.stages, here.told.changes, here.told.aborts) == ([], [], 1)
        assert here.progress.standing(PLACE, 3) == Standing(3, 0, 0, is_unread=True)
        here.progress.take_seeks()
        await here.guarantee.submit(here.settlement("b", ("interactions", 5)))
        await done(here.guarantee.drain())
    assert [stage for stage, _ in here.told.stages] == ["produce", "commit"]
    assert min(seconds for _, seconds in here.told.stages) > 0
    # A partition on which nothing changes gets a trace of the transaction.
    assert sorted(change.key for change in here.told.changes) == [b"", b"5-1", b"b"]
    assert here.progress.standing(("interactions", 5), 1) == Standing(1, 1, 1)


async def test_what_waits_is_one_transaction_with_the_newest_changes(here: World) -> None:
    """Of a group each output is sent, but only the last record of a user and the last offset of a partition."""
    here.producer.gate.clear()
    async with here.running():
        await here.guarantee.submit(here.settlement("a"))
        await until(lambda: "offsets" in here.producer.calls)
        await here.guarantee.submit(here.settlement("a"))
        await here.guarantee.submit(here.settlement("b", ("interactions", 5)))
        await here.guarantee.submit(here.settlement("a"))
        assert here.said == []
        here.producer.gate.set()
        await done(here.guarantee.drain())
    sent, offsets = here.producer.committed[1]
    assert [value for topic, _, value, _ in sent if topic == "predictions"] == [b"0-2", b"5-1", b"0-3"]
    assert [(key, value) for topic, key, value, _ in sent if topic == "learners"] == [(b"a", b"3"), (b"b", b"1")]
    assert offsets == {PLACE: (3, "g/w-1"), ("interactions", 5): (1, "g/w-1")}
    assert here.said == ["confirmed 0-1", "confirmed 0-2", "confirmed 5-1", "confirmed 0-3"]


async def test_a_transaction_is_of_one_membership(here: World) -> None:
    """What was processed before a rebalance and after it cannot be committed under one place in the group."""
    for member in (b"m1", b"m1", b"m2", b"m1"):
        here.member = member
        await here.guarantee.submit(here.settlement("a"))
    async with here.running():
        await done(here.guarantee.drain())
    assert here.producer.members == [b"m1", b"m2", b"m1"]
    assert [offsets[PLACE][0] for _, offsets in here.producer.committed] == [2, 3, 4]
    assert here.producer.outputs == ["0-1", "0-2", "0-3", "0-4"]


@pytest.mark.parametrize("kind", ["begin", "produce", "offsets", "commit"])
async def test_an_aborted_transaction_is_undone_in_reverse(here: World, kind: str) -> None:
    """Memory is what it was before the group and what waited behind it, and all of it is read again."""
    here.memory["a"] = 10
    here.producer.gate.clear()
    async with here.running():
        await here.guarantee.submit(here.settlement("a"))
        await until(lambda: "offsets" in here.producer.calls)
        here.producer.errors[kind] = [abortable()]
        for _ in range(2):
            await here.guarantee.submit(here.settlement("a"))
        here.producer.gate.set()
        await done(here.guarantee.drain())
    first = [] if kind == "commit" else ["confirmed 0-1"]
    undone = ["undone 0-3", "undone 0-2", "undone 0-1"][: 3 - len(first)]
    assert here.said == [*first, *undone]
    assert here.memory == {"a": 10 + len(first)}
    assert here.told.aborts == 1
    assert len(here.producer.committed) == len(first)
    assert here.progress.safe(PLACE) == len(first)
    assert here.progress.take_seeks() == {PLACE: len(first)}


async def test_what_waits_under_another_membership_is_undone_too(here: World) -> None:
    """It was processed on top of what is undone, whoever we were then."""
    here.producer.gate.clear()
    here.producer.errors["commit"] = [abortable()]
    async with here.running():
        await here.guarantee.submit(here.settlement("a"))
        await until(lambda: "offsets" in here.producer.calls)
        here.member = b"m2"
        await here.guarantee.submit(here.settlement("b", ("interactions", 5)))
        here.producer.gate.set()
        await done(here.guarantee.drain())
    assert here.said == ["undone 5-1", "undone 0-1"]
    assert here.memory == {"a": 0, "b": 0}
    assert here.producer.committed == []
    assert here.progress.take_seeks() == {PLACE: 0, ("interactions", 5): 0}


async def test_a_partition_that_has_gone_is_not_read_again(here: World) -> None:
    """Undone all the same, but its reading is the next owner's."""
    here.producer.gate.clear()
    here.producer.errors["commit"] = [abortable()]
    async with here.running():
        await here.guarantee.submit(here.settlement("a"))
        await until(lambda: "offsets" in here.producer.calls)
        here.progress.forget({PLACE})
        here.producer.gate.set()
        await done(here.guarantee.drain())
    assert here.said == ["undone 0-1"]
    assert here.progress.take_seeks() == {}


async def test_work_without_events_commits_its_partitions_again(here: World) -> None:
    """The group's generation and our id go with offsets: where a batch moves one on in the same group, it stays so."""
    place, other = PLACE, ("interactions", 5)
    async with here.running():
        await here.guarantee.submit(here.settlement("a", place, 3))
        await here.guarantee.submit(here.settlement("a", other, 2))
        await done(here.guarantee.drain())
        here.producer.committed.clear()
        await here.guarantee.submit(Settlement((), here.work("aside", "b"), b"m2", frozenset({place})))
        await done(here.guarantee.drain())
    ((_, offsets),) = here.producer.committed
    assert {where: offset for where, (offset, _) in offsets.items()} == {place: 3}
    assert here.producer.members[-1] == b"m2"
    assert {name for _, name in offsets.values()} == {here.guarantee._id}
    assert here.said[-1] == "confirmed aside"

    here.member = b"m2"
    here.producer.gate.clear()
    here.producer.committed.clear()
    async with here.running():
        await here.guarantee.submit(here.settlement("a", other))
        await until(lambda: here.producer.calls[-1] == "offsets")
        await here.guarantee.submit(Settlement((), here.work("aside", "b"), b"m2", frozenset({place, other})))
        await here.guarantee.submit(here.settlement("a", place))
        here.producer.gate.set()
        await done(here.guarantee.drain())
    last = here.producer.committed[-1][1]
    assert {where: offset for where, (offset, _) in last.items()} == {place: 4, other: 3}


async def test_work_without_events_is_undone_and_reads_nothing_again(here: World) -> None:
    """An aborted transaction puts memory back; no event has to come again for it."""
    here.progress.expect(PLACE, 7, 0.0)
    here.progress.take_seeks()
    here.producer.errors["commit"] = [abortable()]
    async with here.running():
        await here.guarantee.submit(Settlement((), here.work("aside", "a"), b"m1", frozenset({PLACE})))
        await done(here.guarantee.drain())
    assert (here.said, here.memory) == (["undone aside"], {"a": 0})
    assert here.progress.take_seeks() == {}


async def test_work_of_a_partition_that_has_gone_is_not_committed(here: World) -> None:
    """Without an offset of it nothing would tell the broker that it is another worker's by now."""
    async with here.running():
        await here.guarantee.submit(Settlement((), here.work("aside", "a"), b"m1", frozenset({("interactions", 9)})))
        await done(here.guarantee.drain())
    assert (here.said, here.producer.committed) == (["undone aside"], [])
    assert here.told.aborts == 1


async def test_what_trying_again_helps_against_is_tried_again(here: World) -> None:
    """A broker that is slow, and a coordinator that moves, cost no transaction."""
    here.producer.errors = {"offsets": [passing(), passing()], "commit": [passing()]}
    async with here.running():
        await here.guarantee.submit(here.settlement("a"))
        await done(here.guarantee.drain())
    assert here.producer.calls.count("offsets") == 3
    assert here.producer.calls.count("commit") == 2
    assert (here.said, here.told.aborts) == (["confirmed 0-1"], 0)


async def test_trying_again_has_an_end(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a session the transaction is aborted."""
    moments = iter([0.0, 5.0, 10.0, 10.1, 30.0, 30.0])
    # Of this module alone: the event loop takes its moments from the real clock.
    clock = SimpleNamespace(monotonic=lambda: next(moments, 99.0), perf_counter=time.perf_counter, sleep=time.sleep)
    monkeypatch.setattr(exactly_once, "time", clock)
    here.producer.errors = {"offsets": [passing() for _ in range(50)]}
    settlement = here.settlement("a")
    with pytest.raises(exactly_once.AbortedError):
        await here.guarantee._transact([settlement])
    assert here.producer.calls.count("offsets") == 3
    assert here.producer.calls[-1] == "abort"


@pytest.mark.parametrize("kind", ["begin", "offsets", "commit"])
async def test_a_fenced_worker_ends(here: World, kind: str) -> None:
    """What can be neither committed nor aborted ends the process, with nothing settled and nothing undone."""
    here.producer.errors = {kind: [fatal()], "abort": [fatal()]}
    async with here.running() as task:
        await here.guarantee.submit(here.settlement("a"))
        with pytest.raises(TransactionError, match="could not be aborted"):
            await done(task)
    assert here.said == []
    assert here.progress.safe(PLACE) == 0


async def test_a_client_that_does_not_come_back_ends_the_worker(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it did once around a restart of the broker: nothing is settled, and nothing waits for ever."""
    monkeypatch.setattr(exactly_once, "_LIMIT", 0)
    monkeypatch.setattr(exactly_once, "_CALL_S", 0.1)
    here.producer.gate.clear()
    async with here.running() as task:
        await here.guarantee.submit(here.settlement("a"))
        with pytest.raises(TransactionError, match="has not come back"):
            await done(task)
    assert here.said == []
    assert here.progress.safe(PLACE) == 0


async def test_aborts_without_end_are_no_accident(here: World) -> None:
    """One abort after the other ends the process; a commit in between begins the count anew."""
    most = exactly_once._ABORTS_MAX
    here.producer.errors = {"commit": [*[abortable()] * most, None, *[abortable()] * (most + 1)]}

    async def play(settlements: int) -> None:
        for _ in range(settlements):
            here._offsets.clear()
            await here.guarantee.submit(here.settlement("a"))
            await done(here.guarantee.drain())

    async with here.running() as task:
        await play(most + 1 + most)
        assert not task.done()
        assert len(here.producer.committed) == 1
        await play(1)
        with pytest.raises(TransactionError, match=f"{most + 1} transactions were aborted"):
            await done(task)


async def test_a_delivery_that_failed_in_an_aborted_transaction_is_forgotten(here: World) -> None:
    """What belonged to an aborted transaction does not count against the next one."""
    here.guarantee._outbox._failed.append("topic predictions: timed out")
    here.producer.errors = {"commit": [abortable()]}
    async with here.running():
        await here.guarantee.submit(here.settlement("a"))
        await done(here.guarantee.drain())
    assert here.guarantee._outbox._failed == []


async def read_all(here: World, total: int, sizes: list[int]) -> None:
    """Read and process a partition to its end as the transport does: seek, fetch, admit, submit."""
    position, count = 0, 0
    here.progress.expect(PLACE, 0, 0.0)
    while (here.progress.safe(PLACE) or 0) < total:
        position = here.progress.take_seeks().get(PLACE, position)
        end = min(position + sizes[count % len(sizes)], total)
        stamp = None if position == total else here.progress.stamp(PLACE, here.progress.epochs(), end)
        if stamp is None:
            await asyncio.sleep(0.001)
            continue
        batch = here.progress.admit(Batch(stamp, records(PLACE, position, end)), 0.0)
        position, count = end, count + 1
        if batch is None:
            continue
        first = batch.records[0].offset
        work = here.work(f"{first}-{batch.end}", "abc"[first % 3])
        await here.guarantee.submit(Settlement((batch,), work, b"m%d" % (count % 2)))
        if sizes[(count + 1) % len(sizes)] % 2:
            await asyncio.sleep(0)


@hypothesis_settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    fates=st.lists(st.sampled_from(["well", "well", "aborted", "tried again"]), max_size=15),
    where=st.sampled_from(["offsets", "commit", "produce", "begin"]),
    room=st.sampled_from([1, 10, 1_000]),
)
def test_whatever_is_aborted_each_record_is_answered_once(
    sizes: list[int], fates: list[str], where: str, room: int
) -> None:
    """Who reads what is committed sees each record's output once, in order, and a changelog that equals memory."""
    total = 40
    of: dict[str, Callable[[], KafkaException | None]] = {
        "well": lambda: None,
        "aborted": abortable,
        "tried again": passing if where in ("offsets", "commit") else abortable,
    }
    with pytest.MonkeyPatch.context() as monkeypatch:
        here = world(monkeypatch, room)
        here.producer.errors = {where: [of[fate]() for fate in fates]}

        async def play() -> None:
            async with here.running() as task:
                reading = asyncio.ensure_future(read_all(here, total, sizes))
                await asyncio.wait({reading, task}, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
                assert reading.done()
                reading.result()

        asyncio.run(play())
    spans = [tuple(map(int, output.split("-"))) for output in here.producer.outputs]
    assert [offset for first, end in spans for offset in range(first, end)] == list(range(total))
    assert here.producer.offsets == {PLACE: total}
    counts = {key.encode(): b"%d" % count for key, count in here.memory.items() if count}
    assert here.producer.changelog == counts


async def test_a_worker_without_an_id_gets_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers never share a transactional id, as one would fence the other."""
    settings = Settings(group="g", broker="127.0.0.1:1")
    ids = {world(monkeypatch, settings=settings).producer.config["transactional.id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(name.startswith("g/") for name in ids)


async def test_a_broker_without_transactions_is_the_users_to_mend(here: World) -> None:
    """One sentence at the start, with the setting to change; what passes by itself is waited for."""
    here.producer.errors["init"] = [passing()]
    here.guarantee.prepare()
    assert here.producer.calls == ["init", "init"]
    here.producer.errors["init"] = [error(KafkaError._UNSUPPORTED_FEATURE)]
    with pytest.raises(UserError, match="STREAM_GUARANTEE=at_least_once"):
        here.guarantee.prepare()


@pytest.mark.parametrize("instance", [None, "w-1"])
def test_a_place_in_a_group_is_written_as_librdkafka_writes_it(instance: str | None) -> None:
    """Byte for byte what librdkafka's own consumer writes before it has joined."""
    static = {} if instance is None else {"group.instance.id": instance}
    consumer = Consumer(consumer_config(SETTINGS, "some.group") | static)
    try:
        written: Any = consumer.consumer_group_metadata()
    finally:
        consumer.close()
    assert membership("some.group", -1, "", instance) == bytes(written)
    assert membership("some.group", 7, "member-1", instance) != bytes(written)


def test_another_format_of_librdkafka_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the bytes are no longer what we write, the fence may not hold: nothing starts."""
    check_membership_format(SETTINGS)
    monkeypatch.setattr(exactly_once, "membership", lambda *_: b"CGMDv3:")
    with pytest.raises(UserError, match="CGMDv2"):
        check_membership_format(SETTINGS)
