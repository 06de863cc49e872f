"""
Faust's known defects, each shown not to happen here, on the real broker.

What is broken on purpose is broken inside the worker's own process, by a few lines that run before its command.
What of the list has its test elsewhere: SIGTERM right after sending (a threaded producer that is not flushed) and
kill -9 between changelog and commit (a replay that counts twice) stand in `test_recovery`.
"""

from collections.abc import Callable

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from stream.ports import Record
from stream.transport.clients import client_config, consumer_config, producer_config
from stream.transport.topics import TABLES, changelog
from tests.flow.system import (
    PARTITIONS,
    System,
    answer,
    answers_before,
    await_committed,
    await_effect,
    both_guarantees,
    committed,
    ends,
    exit_status,
    prepare,
    rounds,
)

pytestmark = [pytest.mark.timeout(150), pytest.mark.long]

POISONED = """
from stream.agents import interactions
healthy = interactions.handle
def handle(records, desk):
    if any(b"poison" in record.key for record in records):
        raise RuntimeError("a defect of ours")
    return healthy(records, desk)
interactions.handle = handle
"""

HELD_BACK = """
import asyncio, pathlib
from stream.transport.faust_transport import _Consumer
from stream.transport.outbox import KafkaOutbox
flush, commit = KafkaOutbox.flush, _Consumer.commit
async def hold(outbox):
    while pathlib.Path("hold").exists():
        print("flush.held", flush=True)
        await asyncio.sleep(0.1)
    await flush(outbox)
async def tell(consumer, *arguments, **options):
    done = await commit(consumer, *arguments, **options)
    print("commit.tried", flush=True)
    return done
KafkaOutbox.flush, _Consumer.commit = hold, tell
"""

COMMIT_FAILS = """
import pathlib
from aiokafka import errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
commit = GroupCoordinator._do_commit_offsets
async def fail(coordinator, assignment, offsets):
    if offsets and pathlib.Path("refuse").exists():
        print("commit.failed", flush=True)
        raise errors.{error}
    return await commit(coordinator, assignment, offsets)
GroupCoordinator._do_commit_offsets = fail
"""


def transactional(system: System, name: str = "writer") -> Producer:
    """Return a producer of transactions that is no worker."""
    producer = Producer(producer_config(system.settings) | {"transactional.id": system.prefix + name})
    producer.init_transactions(30)
    return producer


def by_partition(records: list[Record]) -> dict[int, list[Record]]:
    """Return changelog records by partition."""
    found: dict[int, list[Record]] = {p: [] for p in range(PARTITIONS)}
    for record in records:
        found[record.partition].append(record)
    return found


def stored(system: System, table: str) -> list[Record]:
    """Return what stands on a changelog, which does not grow any more."""
    name, found = changelog(system.settings, table), list[Record]()
    consumer = Consumer(consumer_config(system.settings, system.prefix + "reader") | {"enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(name, p, 0) for p in range(PARTITIONS)])
        open_ = PARTITIONS
        while open_:
            for message in consumer.consume(1_000, 0.2):
                if message.error() is not None:
                    open_ -= 1
                    continue
                partition, offset = message.partition() or 0, message.offset() or 0
                found.append(Record(name, partition, offset, message.key(), message.value(), 0.0, ()))
    finally:
        consumer.close()
    return found


@both_guarantees
def test_a_handler_that_raises_ends_the_worker_before_anything_is_committed(system: System, guarantee: str) -> None:
    """
    Ack in `finally`, and silent stalls (#175, #640): Faust acknowledges what its agent could not do, or lives on.

    Here nothing of the batch is committed, the process says why and ends with status 1, and its successor predicts.
    """
    # `_Consumer._new_offset` never looks at Faust's acknowledgements, and `engine.or_stop` ends the process. The
    # override can go once Faust acknowledges after success only.
    prepare(system, "worker", POISONED)
    system.start("worker")
    system.send(rounds(users=8, answers=2))
    system.predictions("correctness", 16)
    before = await_committed(system)
    system.send([answer("poison", 0), *rounds(users=8, answers=1, first=2)])
    assert exit_status(system, "worker") == 1
    log = system.log("worker")
    assert "worker.stopped" in log
    assert "a defect of ours" in log
    [poisoned] = [m for m in system.read("interactions", until=lambda f: len(f) == 25) if m["user_id"] == "poison"]
    assert poisoned["_key"] == "poison"
    place = next(r for r in system.records("interactions", until=lambda f: len(f) == 25) if r.key == b"poison")
    assert before[place.partition] <= committed(system)[place.partition] <= place.offset
    system.start("worker-2")
    found = system.predictions("correctness", 25)
    assert {m["source"]["event_id"] for m in found} >= {"poison-0"}
    assert {answers_before(e) for e in system.examples(25) if e["event_id"].endswith("-2")} == {2}


def test_nothing_is_committed_past_a_message_in_flight(system: System) -> None:
    """
    #606, out-of-order acks: however often Faust commits, it stays before what is not safe yet.

    Its own streams have long acknowledged the batches when these are handed to the engine.
    """
    # `_Consumer._new_offset`; it can go once Faust's acknowledgements are in order and can be given later.
    prepare(system, "worker", HELD_BACK)
    system.start("worker")
    system.send(rounds(users=12, answers=2))
    system.predictions("correctness", 24)
    before = await_committed(system)
    hold = system.folder / "hold"
    hold.touch()
    for number in range(2, 6):
        system.send(rounds(users=12, answers=1, first=number))
        held, tried = (system.log("worker").count(word) for word in ("flush.held", "commit.tried"))
        await_effect(
            lambda held=held, tried=tried: (
                system.log("worker").count("flush.held") > held  # type: ignore[misc]
                and system.log("worker").count("commit.tried") > tried + 1
            )
        )
        assert committed(system) == before
    hold.unlink()
    system.predictions("correctness", 72)
    await_committed(system)


@pytest.mark.parametrize("error", ["NotCoordinatorForGroupError", "RebalanceInProgressError"])
def test_a_commit_that_failed_is_made_up_for(system: System, error: str) -> None:
    """#316: Faust takes what it tried to commit for committed; here the offsets catch up, without further events."""
    # `_Consumer._commit_offsets`; it can go once Faust forgets what it could not commit.
    prepare(system, "worker", COMMIT_FAILS.format(error=error + "()"))
    system.start("worker")
    system.send(rounds(users=12, answers=1))
    system.predictions("correctness", 12)
    before = await_committed(system)
    refuse = system.folder / "refuse"
    refuse.touch()
    system.send(rounds(users=12, answers=1, first=1))
    system.predictions("correctness", 24)
    await_effect(lambda: "commit.failed" in system.log("worker"))
    assert committed(system) == before
    refuse.unlink()
    await_committed(system)
    assert system.processes["worker"].is_running


def test_a_commit_that_can_never_succeed_ends_the_worker(system: System) -> None:
    """#175, #640, silent stalls: what no further attempt will mend ends the process, with status 1 and the reason."""
    prepare(system, "worker", COMMIT_FAILS.format(error="GroupAuthorizationFailedError('no right to commit')"))
    (system.folder / "refuse").touch()
    system.start("worker")
    system.send(rounds(users=4, answers=1))
    assert exit_status(system, "worker") == 1
    assert "GroupAuthorizationFailedError" in system.log("worker")
    assert committed(system) == dict.fromkeys(range(PARTITIONS), 0)


TIMER_FAILS = """
import pathlib
from stream.agents.desk import Desk
refresh = Desk.refresh_idle
async def fail(desk):
    if pathlib.Path("refuse").exists():
        raise RuntimeError("a defect of ours")
    await refresh(desk)
Desk.refresh_idle = fail
"""


def test_a_timer_that_raises_ends_the_worker(system: System) -> None:
    """#175, #640, silent stalls: an error beside the engine, in a task of Faust's, ends the process as well."""
    prepare(system, "worker", TIMER_FAILS)
    system.start("worker")
    system.send(rounds(users=4, answers=1))
    system.predictions("correctness", 4)
    (system.folder / "refuse").touch()
    assert exit_status(system, "worker") == 1
    assert "a defect of ours" in system.log("worker")


def recovery_s(system: System, name: str) -> float:
    """Return how long the latest recovery took, by the worker's own log."""
    lines = [line for line in system.log(name).splitlines() if "state.recovered" in line]
    return float(lines[-1].split("seconds=")[1].split()[0])


def _abort_at_the_end(system: System, records: dict[int, list[Record]]) -> None:
    """Leave aborted records at the end of each partition of a changelog, an empty one too."""
    producer = transactional(system, "aborter")
    producer.begin_transaction()
    for partition, found in records.items():
        for number in range(3):
            value = found[0].value if found else b"never read"
            producer.produce(changelog(system.settings, "learners"), value, f"aborted-{number}", partition)
    producer.flush()
    producer.abort_transaction(30)


def _end_in_markers(system: System, records: dict[int, list[Record]]) -> None:
    """Write each partition's latest record once more, in a transaction: its end is a marker then."""
    producer = transactional(system, "committer")
    for _ in range(2):
        producer.begin_transaction()
        for partition, found in records.items():
            if found:
                producer.produce(changelog(system.settings, "learners"), found[-1].value, found[-1].key, partition)
        producer.commit_transaction(30)


def _cut(system: System, records: dict[int, list[Record]]) -> None:
    """Delete everything that stands on the changelog of academics: partitions without a record, and not at 0."""
    name = changelog(system.settings, "academics")
    producer = transactional(system, "cutter")
    producer.begin_transaction()
    for partition in records:
        producer.produce(name, b"never read", b"gone", partition)
    producer.commit_transaction(30)
    # The broker deletes records of no topic that is compacted only.
    _configure(system, [name], {"cleanup.policy": "delete"})
    admin = AdminClient(client_config(system.settings))
    for future in admin.delete_records([TopicPartition(name, p, e) for p, e in ends(system, name).items()]).values():
        future.result(30)
    _configure(system, [name], {"cleanup.policy": "compact"})


def _configure(system: System, topics: list[str], settings: dict[str, str]) -> None:
    """Change the settings of topics."""
    changes = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in settings.items()]
    resources = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes) for topic in topics]
    admin = AdminClient(client_config(system.settings))
    for future in admin.incremental_alter_configs(resources).values():
        future.result(30)


@pytest.mark.parametrize("end_differently", [_abort_at_the_end, _end_in_markers, _cut])
def test_recovery_ends_at_once_whatever_a_changelog_ends_in(
    system: System, end_differently: Callable[[System, dict[int, list[Record]]], None]
) -> None:
    """
    #597, #176: Faust waits for the offset before a partition's end, and there may be no record, or no partition's.

    Aborted records, transactions' markers, empty partitions, partitions that were cut.
    """
    # `BatchedRecovery` reads changelogs with a client that is told where a partition ends; it can go once Faust's
    # own recovery does not count offsets.
    system.start("worker")
    # Two users: some partitions stay empty.
    system.send(rounds(users=2, answers=3))
    system.predictions("correctness", 6)
    system.processes["worker"].stop(timeout_s=20)
    records = by_partition(stored(system, "learners"))
    assert min(map(len, records.values())) == 0
    end_differently(system, records)
    system.start("worker", until="state.recovered")
    assert recovery_s(system, "worker") < 5
    system.send(rounds(users=2, answers=1, first=3))
    after = [e for e in system.examples(8) if e["event_id"].endswith("-3")]
    assert [answers_before(e) for e in after] == [3, 3]


def test_recovery_ends_at_once_on_a_changelog_that_was_compacted(system: System) -> None:
    """#176: most offsets of a compacted partition are gone, also the last ones of a segment; recovery goes on."""
    # `BatchedRecovery`, as above.
    system.start("worker")
    for number in range(8):
        system.send(rounds(users=6, answers=1, first=number))
        system.predictions("correctness", 6 * (number + 1))
    system.processes["worker"].stop(timeout_s=20)
    before = stored(system, "learners")
    _compact(system, [changelog(system.settings, table) for table in TABLES], before)
    await_effect(lambda: len(stored(system, "learners")) < len(before), within_s=60)
    system.start("worker", until="state.recovered")
    assert recovery_s(system, "worker") < 5
    system.send(rounds(users=6, answers=1, first=8))
    after = [e for e in system.examples(54) if e["event_id"].endswith("-8")]
    assert [answers_before(e) for e in after] == [8] * 6


def _compact(system: System, names: list[str], records: list[Record]) -> None:
    """Have the broker compact changelogs as soon as it looks, and give it a segment that it may touch."""
    _configure(system, names, {"min.compaction.lag.ms": "0", "min.cleanable.dirty.ratio": "0.001", "segment.ms": "50"})
    # The latest record of each user once more: what comes after `segment.ms` begins a new segment.
    latest = {record.key: record for record in records}
    producer = Producer(producer_config(system.settings))
    for record in latest.values():
        producer.produce(record.topic, record.value, record.key, record.partition)
    assert not producer.flush(30)


@pytest.mark.parametrize(("source", "target"), [("learners", "academics"), ("learners", "names")])
def test_a_record_of_another_table_stops_the_worker(system: System, source: str, target: str) -> None:
    """The "XXX bug" of Faust's recovery gives a record to the wrong table; here its first byte tells, and says so."""
    # `BatchedRecovery` finds tables by the changelog's name; formats in `stream.state.codec` would tell even so.
    system.start("worker")
    system.send(rounds(users=4, answers=1))
    system.predictions("correctness", 4)
    system.processes["worker"].stop(timeout_s=20)
    misplaced = stored(system, source)[0]
    producer = Producer(producer_config(system.settings))
    producer.produce(changelog(system.settings, target), misplaced.value, misplaced.key, misplaced.partition)
    assert not producer.flush(30)
    before = len(system.log("worker"))
    system.start("worker", until="worker.stopped")
    said = system.log("worker")[before:]
    assert f"table {target}: expected" in said, said
    assert "Traceback" not in said


@both_guarantees
def test_aborted_events_are_not_answered_and_cause_no_stall(system: System, guarantee: str) -> None:
    """#175, #640: the source ends in aborted records and markers, and later events are still predicted; only those."""
    # `_ConsumerThread` has aiokafka read committed records only; it can go once Faust lets an app choose.
    system.start("worker")
    system.send(rounds(users=8, answers=1))
    system.predictions("correctness", 8)
    for attempt in range(3):
        _abort_events(system, attempt)
    assert min(ends(system, system.settings.topic("interactions")).values()) > 10
    system.send(rounds(users=8, answers=1, first=1))
    system.predictions("correctness", 16)
    # Another that begins where nothing but aborted records follows.
    system.processes["worker"].stop(timeout_s=20)
    _abort_events(system, 3)
    system.start("worker")
    system.send(rounds(users=8, answers=1, first=2))
    found = system.predictions("correctness", 24)
    assert {m["user_id"] for m in found} == {f"user-{user}" for user in range(8)}
    assert len(found) == 24


def _abort_events(system: System, number: int) -> None:
    """Send an answer of each of forty users, and take them back."""
    topic = system.settings.topic("interactions")
    producer = transactional(system)
    producer.begin_transaction()
    for user in range(40):
        _, event = answer(f"aborted-{user}", number)
        producer.produce(topic, orjson.dumps(event), event["user_id"])
    producer.flush()
    producer.abort_transaction(30)
