"""`ExactlyOnce.take_over` on the real broker: who owned partitions before is fenced, and what he committed stays."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.errors import TransactionError
from stream.settings import Settings
from stream.transport import exactly_once
from stream.transport.clients import client_config, consumer_config
from stream.transport.exactly_once import ExactlyOnce, fence, membership, transaction_config
from stream.transport.offsets import committed
from stream.transport.progress import Progress
from stream.transport.topics import TABLES, changelog
from tests.broker.kafka import KafkaServer
from tests.fakes import Counts

WAIT_S = 30.0
PARTITIONS = 2


@pytest.fixture
def settings(kafka: KafkaServer, prefix: str) -> Settings:
    """Return the settings of a worker, and create its topics."""
    settings = Settings(
        broker=kafka.bootstrap, group=f"{prefix}g", topic_prefix=prefix, instance_id="w-2", session_timeout_s=30
    )
    kafka.create_topic(settings.topic("interactions"), partitions=PARTITIONS)
    for table in TABLES:
        kafka.create_topic(changelog(settings, table), partitions=PARTITIONS, cleanup_policy="compact")
    return settings


@pytest.fixture
def member(settings: Settings) -> Iterator[Consumer]:
    """Return a member of the group that owns all partitions."""
    consumer = Consumer(consumer_config(settings, settings.group))
    consumer.subscribe([settings.topic("interactions")])
    end = time.monotonic() + WAIT_S
    while not consumer.assignment():
        consumer.poll(0.1)
        assert time.monotonic() < end
    yield consumer
    consumer.close()


@pytest.fixture
def worker(settings: Settings) -> ExactlyOnce:
    """Return a guarantee that is ready."""
    guarantee = ExactlyOnce(settings, Progress(), 100, Counts())
    guarantee.prepare()
    return guarantee


class Previous:
    """
    The owner before, who wrote on partition 0.

    Args:
        settings: Of the worker.
        name: His instance's.
    """

    def __init__(self, settings: Settings, name: str = "w-1") -> None:
        self.id = f"{settings.group}/{name}"
        self._source, self._changelog = settings.topic("interactions"), changelog(settings, "learners")
        self.producer = Producer(transaction_config(settings, self.id))
        self.producer.init_transactions(WAIT_S)

    def open(self) -> None:
        """Leave a transaction open on the changelog."""
        self.producer.begin_transaction()
        self.producer.produce(self._changelog, b"never", b"u", 0)
        self.producer.flush(WAIT_S)

    def commit(self, member: Consumer, offset: int) -> None:
        """Commit a transaction, with his name beside the offset, as a worker does."""
        self.open()
        place = TopicPartition(self._source, 0, offset, self.id)
        self.producer.send_offsets_to_transaction([place], member.consumer_group_metadata(), WAIT_S)
        self.producer.commit_transaction(WAIT_S)


def left_open(settings: Settings, member: Consumer) -> Previous:
    """Return an owner who has committed offset 7 and left another transaction open."""
    previous = Previous(settings)
    previous.commit(member, 7)
    previous.open()
    return previous


def names(settings: Settings) -> list[tuple[int, str | None]]:
    """Return what is committed of each partition, and what stands beside it."""
    places = [(settings.topic("interactions"), partition) for partition in range(PARTITIONS)]
    return [(place.offset, place.metadata) for place in committed(settings, places, stable=True)]


async def test_our_name_is_put_to_partitions_that_nobody_had(
    settings: Settings, worker: ExactlyOnce, member: Consumer
) -> None:
    """Beside the offset from which they are read anyway: none becomes the first there is."""
    assert await worker.take_over({0, 1}, member.consumer_group_metadata())
    assert names(settings) == [(0, f"{settings.group}/w-2")] * 2


async def test_what_the_owner_before_committed_stays(settings: Settings, worker: ExactlyOnce, member: Consumer) -> None:
    """Only the name changes, and only where we were asked to."""
    previous = Previous(settings)
    previous.commit(member, 7)
    assert await worker.take_over({1}, member.consumer_group_metadata())
    assert names(settings) == [(7, previous.id), (0, f"{settings.group}/w-2")]
    assert await worker.take_over({0}, member.consumer_group_metadata())
    assert names(settings)[0] == (7, f"{settings.group}/w-2")


async def test_an_open_transaction_of_the_owner_before_is_ended(
    settings: Settings, worker: ExactlyOnce, member: Consumer
) -> None:
    """Before its own timeout would end it, and he can never commit it."""
    previous = left_open(settings, member)
    assert worker._open(AdminClient(client_config(settings)), [0, 1]) == {0}
    assert await worker.take_over({0, 1}, member.consumer_group_metadata())
    assert worker._open(AdminClient(client_config(settings)), [0, 1]) == set()
    with pytest.raises(KafkaException):
        previous.producer.commit_transaction(WAIT_S)
    assert names(settings)[0] == (7, f"{settings.group}/w-2")


async def test_an_owner_who_is_just_committing_is_given_the_time(
    settings: Settings, worker: ExactlyOnce, member: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What he commits meanwhile is what we go on from."""
    monkeypatch.setattr(exactly_once, "_GRACE_S", WAIT_S)
    previous = left_open(settings, member)
    taken = asyncio.ensure_future(worker.take_over({0}, member.consumer_group_metadata()))
    await asyncio.sleep(0.5)
    assert not taken.done()
    place = TopicPartition(settings.topic("interactions"), 0, 9, previous.id)
    previous.producer.send_offsets_to_transaction([place], member.consumer_group_metadata(), WAIT_S)
    previous.producer.commit_transaction(WAIT_S)
    assert await asyncio.wait_for(taken, WAIT_S)
    assert names(settings)[0] == (9, f"{settings.group}/w-2")


async def test_a_group_that_has_moved_on_does_not_let_us(
    settings: Settings, worker: ExactlyOnce, member: Consumer
) -> None:
    """No name of ours is left, and the producer can go on."""
    Previous(settings).commit(member, 7)
    outdated = membership(settings.group, 99, "whoever", None)
    assert not await worker.take_over({0}, outdated)
    assert names(settings)[0] == (7, f"{settings.group}/w-1")
    assert await worker.take_over({0}, member.consumer_group_metadata())


async def test_a_stranger_on_a_changelog_is_named(
    settings: Settings, worker: ExactlyOnce, member: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose name stands nowhere cannot be fenced: the worker ends rather than wait for ever."""
    monkeypatch.setattr(exactly_once, "_GRACE_S", 0.0)
    monkeypatch.setattr(exactly_once, "_INIT_S", -29.5)
    stranger = Previous(settings, "stranger")
    stranger.open()
    with pytest.raises(TransactionError, match=r"open on the changelogs' partitions \[0\] for .*another producer"):
        await worker.take_over({0, 1}, member.consumer_group_metadata())
    stranger.producer.abort_transaction(WAIT_S)


async def test_whoever_gives_up_waits_for_the_thread(
    settings: Settings, worker: ExactlyOnce, member: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another rebalance cancels the call: nothing is claimed after that, and the producer is free again."""
    monkeypatch.setattr(exactly_once, "_GRACE_S", WAIT_S)
    _kept_alive = left_open(settings, member)
    claims: list[object] = []
    monkeypatch.setattr(worker, "_claim", lambda *args: claims.append(args))
    taken = asyncio.ensure_future(worker.take_over({0}, member.consumer_group_metadata()))
    await asyncio.sleep(0.3)
    taken.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(taken, WAIT_S)
    assert claims == []
    assert not worker._busy.locked()


async def test_a_client_that_never_comes_back_ends_the_worker(
    settings: Settings, worker: ExactlyOnce, member: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waited for, and when another rebalance has given it up too."""
    gate = threading.Event()
    monkeypatch.setattr(exactly_once, "_LIMIT", 0)
    monkeypatch.setattr(exactly_once, "_INIT_S", 0.2)
    monkeypatch.setattr(worker, "_take_over", lambda *_: gate.wait(WAIT_S))
    with pytest.raises(TransactionError, match="has not come back"):
        await worker.take_over({0}, member.consumer_group_metadata())
    taken = asyncio.ensure_future(worker.take_over({0}, member.consumer_group_metadata()))
    await asyncio.sleep(0.05)
    taken.cancel()
    with pytest.raises(TransactionError, match="has not come back"):
        await asyncio.wait_for(taken, WAIT_S)
    assert not worker._busy.locked()
    gate.set()


def test_fencing_is_for_good(settings: Settings) -> None:
    """Whoever had the id is heard no more."""
    previous = Previous(settings)
    previous.open()
    fence(settings, previous.id)
    with pytest.raises(KafkaException):
        previous.producer.commit_transaction(WAIT_S)
