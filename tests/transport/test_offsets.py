"""Where partitions begin and end, and what is committed, asked of the real broker."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.errors import DeliveryError
from stream.settings import Settings
from stream.transport import offsets
from stream.transport.clients import consumer_config
from stream.transport.offsets import committed, ends, starts
from tests.broker.kafka import KafkaServer

WAIT_S = 30.0


@pytest.fixture
def settings(kafka: KafkaServer, prefix: str) -> Settings:
    """Return the settings of a worker on the broker."""
    return Settings(broker=kafka.bootstrap, group=f"{prefix}g")


@pytest.fixture
def topic(kafka: KafkaServer, prefix: str) -> str:
    """Create a topic of three partitions: five records, of which two are deleted; two; none."""
    name = f"{prefix}events"
    kafka.create_topic(name, partitions=3)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for partition, count in ((0, 5), (1, 2)):
        for _ in range(count):
            producer.produce(name, b"x", partition=partition)
    assert producer.flush(WAIT_S) == 0
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.delete_records([TopicPartition(name, 0, 2)]).values():
        future.result(WAIT_S)
    return name


@pytest.fixture
def consumer(settings: Settings) -> Iterator[Consumer]:
    """Return a consumer of the group that commits when it is told to."""
    consumer = Consumer(consumer_config(settings, settings.group))
    yield consumer
    consumer.close()


def test_where_partitions_begin_and_end(settings: Settings, topic: str) -> None:
    """Of all in one call; an empty one ends where it begins."""
    places = [(topic, partition) for partition in range(3)]
    assert starts(settings, places) == {(topic, 0): 2, (topic, 1): 0, (topic, 2): 0}
    assert ends(settings, places) == {(topic, 0): 5, (topic, 1): 2, (topic, 2): 0}
    assert ends(settings, []) == {}


def test_what_is_stable_ends_before_an_open_transaction(
    settings: Settings, kafka: KafkaServer, topic: str, prefix: str
) -> None:
    """Until it is committed."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{prefix}w"})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"y", partition=1)
    producer.flush(WAIT_S)
    place = (topic, 1)
    assert ends(settings, [place], stable=True) == {place: 2}
    assert ends(settings, [place]) == {place: 3}
    producer.commit_transaction(WAIT_S)
    # The broker writes the marker after it has said that the transaction is committed.
    end = time.monotonic() + WAIT_S
    while ends(settings, [place], stable=True) != {place: 4}:
        assert time.monotonic() < end


def test_what_is_committed_comes_with_what_was_written_beside_it(
    settings: Settings, topic: str, consumer: Consumer
) -> None:
    """A partition of which nothing is committed has a negative offset."""
    consumer.commit(offsets=[TopicPartition(topic, 0, 4, "by me")], asynchronous=False)
    known, unknown = committed(settings, [(topic, 0), (topic, 1)], stable=True)
    assert (known.offset, known.metadata) == (4, "by me")
    assert unknown.offset < 0


@pytest.mark.parametrize("ask", [starts, ends, lambda s, places: committed(s, places, stable=True)])
def test_a_broker_that_is_away_is_named(ask: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """After trying again for a while."""
    monkeypatch.setattr(offsets, "_CALL_S", 0.1)
    monkeypatch.setattr(offsets, "_WITHIN_S", 0.3)
    with pytest.raises(DeliveryError, match=r"cannot be read: .*; check the broker, then restart"):
        ask(Settings(broker="127.0.0.1:1", group="g"), [("t", 0)])  # type: ignore[operator]


def test_a_broker_that_comes_back_is_asked_again(
    settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failed answer is no failure."""
    real, asked = AdminClient.list_offsets, []

    def fails_once(self: AdminClient, *args: object, **options: object) -> object:
        asked.append(args)
        if len(asked) == 1:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(AdminClient, "list_offsets", fails_once)
    assert ends(settings, [(topic, 1)]) == {(topic, 1): 2}
    assert len(asked) == 2
