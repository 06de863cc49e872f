"""`Source` on the real broker: each partition from where it is told to, and nothing of what was fetched before."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from stream.errors import DeliveryError
from stream.ports import Record
from stream.settings import Settings
from stream.transport.offsets import ends
from stream.transport.progress import Place
from stream.transport.source import Source
from tests.broker.kafka import KafkaServer

WAIT_S = 30.0


@pytest.fixture
def topic(kafka: KafkaServer, prefix: str) -> str:
    """Create a topic of three partitions, with five records on the first two."""
    name = f"{prefix}events"
    kafka.create_topic(name, partitions=3)
    write(kafka, name, 0, *range(5))
    write(kafka, name, 1, *range(5))
    return name


@pytest.fixture
def source(kafka: KafkaServer, prefix: str) -> Iterator[Source]:
    """Return a source that hands over at most a hundred records."""
    source = Source(Settings(broker=kafka.bootstrap, group=f"{prefix}g", fetch_max_wait_ms=20), 100)
    yield source
    source.close()


def write(kafka: KafkaServer, topic: str, partition: int, *numbers: int, transactional_id: str | None = None) -> None:
    """Put records on a partition, in a transaction if an id is given."""
    config = {"bootstrap.servers": kafka.bootstrap}
    producer = Producer(config if transactional_id is None else config | {"transactional.id": transactional_id})
    if transactional_id is not None:
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
    for number in numbers:
        producer.produce(topic, b"%d" % number, b"k", partition, headers=[("h", b"x"), ("none", None)])
    if transactional_id is not None:
        producer.commit_transaction(WAIT_S)
    assert producer.flush(WAIT_S) == 0


def await_end(kafka: KafkaServer, place: Place, offset: int) -> None:
    """Return once a partition ends there: whoever commits or aborts is told so before the marker is written."""
    end = time.monotonic() + WAIT_S
    while ends(Settings(broker=kafka.bootstrap), [place], stable=True) != {place: offset}:
        assert time.monotonic() < end
        time.sleep(0.05)


def read(source: Source, count: int) -> dict[Place, list[Record]]:
    """Return so many records."""
    found: dict[Place, list[Record]] = {}
    end = time.monotonic() + WAIT_S
    while sum(map(len, found.values())) < count:
        assert time.monotonic() < end
        for place, records in (source.fetched() or source.begin_wait(0.2).result()).items():
            found.setdefault(place, []).extend(records)
    return found


def offsets(found: dict[Place, list[Record]]) -> dict[int, list[int]]:
    """Return offsets by partition."""
    return {place[1]: [record.offset for record in records] for place, records in found.items()}


def test_each_partition_is_read_from_its_offset(source: Source, topic: str) -> None:
    """Whole records, in order, with the ends that the fetch has seen; what is not assigned does not come."""
    assigned = {(topic, 0), (topic, 1)}
    source.read_from({(topic, 0): 0, (topic, 1): 3, (topic, 2): 0}, assigned)
    found = read(source, 7)
    assert offsets(found) == {0: [0, 1, 2, 3, 4], 1: [3, 4]}
    record = found[topic, 0][4]
    assert (record.topic, record.key, record.value) == (topic, b"k", b"4")
    assert record.headers == (("h", b"x"), ("none", None))
    assert abs(record.timestamp_s - time.time()) < 60
    assert (source.end((topic, 0)), source.end((topic, 2))) == (5, 0)


def test_a_wait_ends_with_the_first_record(source: Source, kafka: KafkaServer, topic: str) -> None:
    """It does not wait for more; without any it ends when its time is over."""
    source.read_from({(topic, 2): 0}, {(topic, 2)})
    assert source.begin_wait(0.2).result() == {}
    waiting = source.begin_wait(WAIT_S)
    write(kafka, topic, 2, 9)
    assert offsets(waiting.result(WAIT_S)) == {2: [0]}


def test_what_was_fetched_before_is_dropped(source: Source, kafka: KafkaServer, topic: str) -> None:
    """A partition that is read from elsewhere, or has gone, brings nothing of before; the others go on."""
    all_three = {(topic, partition) for partition in range(3)}
    source.read_from({(topic, 0): 0, (topic, 1): 0, (topic, 2): 0}, all_three)
    assert offsets(read(source, 10)) == {0: [0, 1, 2, 3, 4], 1: [0, 1, 2, 3, 4]}
    for partition in range(3):
        write(kafka, topic, partition, 7, 8)
    time.sleep(0.3)  # they are in the client's queue by now
    source.read_from({(topic, 0): 3}, {(topic, 0), (topic, 2)})
    assert offsets(read(source, 6)) == {0: [3, 4, 5, 6], 2: [0, 1]}
    assert source.end((topic, 1)) == 0
    source.read_from({}, all_three)
    assert source.begin_wait(0.3).result() == {}
    source.read_from({(topic, 1): 6}, all_three)
    assert offsets(read(source, 1)) == {1: [6]}


def test_what_was_aborted_does_not_come(source: Source, kafka: KafkaServer, topic: str, prefix: str) -> None:
    """What is committed comes, with a gap where the marker stands."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{prefix}a"})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"never", b"k", 2)
    producer.flush(WAIT_S)
    producer.abort_transaction(WAIT_S)
    await_end(kafka, (topic, 2), 2)
    write(kafka, topic, 2, 1, transactional_id=f"{prefix}b")
    await_end(kafka, (topic, 2), 4)
    write(kafka, topic, 2, 2)
    source.read_from({(topic, 2): 0}, {(topic, 2)})
    assert offsets(read(source, 2)) == {2: [2, 4]}


def test_ends_are_told_once_they_are_reached(source: Source, kafka: KafkaServer, topic: str, prefix: str) -> None:
    """Of an empty partition, behind records, behind nothing but markers; again after more, and after a move."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{prefix}a"})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"never", b"k", 1)
    producer.flush(WAIT_S)
    producer.abort_transaction(WAIT_S)
    await_end(kafka, (topic, 1), 7)
    all_three = {(topic, partition) for partition in range(3)}
    assert source.take_ended() == set()
    source.read_from({(topic, 0): 0, (topic, 1): 5, (topic, 2): 0}, all_three)
    found, ended = until_ended(source, all_three)
    assert offsets(found) == {0: [0, 1, 2, 3, 4]}
    assert source.take_ended() == set()
    write(kafka, topic, 0, 7)
    found, ended = until_ended(source, {(topic, 0)})
    assert (offsets(found), ended) == ({0: [5]}, {(topic, 0)})
    source.read_from({(topic, 2): 0}, all_three)
    found, ended = until_ended(source, {(topic, 2)})
    assert (found, ended) == ({}, {(topic, 2)})


def until_ended(source: Source, wanted: set[Place]) -> tuple[dict[Place, list[Record]], set[Place]]:
    """Return what came until the ends of partitions had been told, and which were."""
    found: dict[Place, list[Record]] = {}
    ended: set[Place] = set()
    end = time.monotonic() + WAIT_S
    while not wanted <= ended:
        assert time.monotonic() < end
        for place, records in (source.fetched() or source.begin_wait(0.2).result()).items():
            found.setdefault(place, []).extend(records)
        ended |= source.take_ended()
    return found, ended


def test_an_offset_that_is_gone_begins_at_the_beginning(source: Source, topic: str) -> None:
    """As one beyond the end of a topic that was made anew."""
    source.read_from({(topic, 0): 1_000}, {(topic, 0)})
    assert offsets(read(source, 5)) == {0: [0, 1, 2, 3, 4]}


def test_a_topic_that_may_not_be_read_ends_the_worker(
    source: Source, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other errors pass by themselves."""

    class Failed:
        """A message that is an error."""

        def __init__(self, code: int) -> None:
            self._error = KafkaError(code)

        def error(self) -> KafkaError:
            return self._error

        def topic(self) -> str:
            return topic

    errors = [[Failed(KafkaError._TRANSPORT)], [Failed(KafkaError.TOPIC_AUTHORIZATION_FAILED)]]

    class Refused:
        """A consumer that is refused."""

        def consume(self, most: int, timeout: float) -> list[Failed]:
            return errors.pop(0)

    real: Consumer = source._consumer
    monkeypatch.setattr(source, "_consumer", Refused())
    assert source.fetched() == {}
    with pytest.raises(DeliveryError, match=r"cannot be read: .*; run `stream topics check`"):
        source.fetched()
    monkeypatch.setattr(source, "_consumer", real)
