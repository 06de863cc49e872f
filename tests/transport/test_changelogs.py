"""`ChangelogReader` on the real broker: everything that is committed, once, and the end wherever it lies."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from stream.settings import Settings
from stream.transport.changelogs import ChangelogReader
from stream.transport.offsets import ends
from stream.transport.progress import Place
from tests.broker.kafka import KafkaServer

WAIT_S = 30.0

Read = dict[Place, list[tuple[bytes, bytes | None]]]


@pytest.fixture
def settings(kafka: KafkaServer, prefix: str) -> Settings:
    """Return the settings of a worker on the broker."""
    return Settings(broker=kafka.bootstrap, group=f"{prefix}g", fetch_max_wait_ms=50)


@pytest.fixture
def topic(kafka: KafkaServer, prefix: str) -> str:
    """Create a changelog of four partitions."""
    name = f"{prefix}learners-changelog"
    kafka.create_topic(name, partitions=4, cleanup_policy="compact")
    return name


@pytest.fixture
def producer(kafka: KafkaServer) -> Producer:
    """Return a producer without transactions."""
    return Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})


@contextmanager
def transactions(kafka: KafkaServer, name: str) -> Iterator[Producer]:
    """Give a transactional producer, and leave nothing open."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name})
    producer.init_transactions(WAIT_S)
    yield producer


def write(producer: Producer, topic: str, partition: int, *values: bytes | None, first: int = 0) -> None:
    """Write records, each under a key of its own, and wait until the broker has them."""
    for number, value in enumerate(values, first):
        producer.produce(topic, value, b"u-%d" % number, partition)
    assert producer.flush(WAIT_S) == 0


@contextmanager
def reading(settings: Settings, offsets: Mapping[Place, int]) -> Iterator[ChangelogReader]:
    """Give a reader."""
    reader = ChangelogReader(settings, offsets)
    try:
        yield reader
    finally:
        reader.close()


def read(reader: ChangelogReader, until: Callable[[Read], bool] | None = None) -> tuple[Read, dict[Place, int]]:
    """Read until nothing is behind (or until a condition holds); return what came and where to read on."""
    found: Read = {}
    then: dict[Place, int] = {}
    deadline = time.monotonic() + WAIT_S
    while reader.behind if until is None else not until(found):
        assert time.monotonic() < deadline, f"waited in vain; still behind: {reader.behind}"
        for part in reader.read(0.1):
            found.setdefault(part.place, []).extend(zip(part.keys, part.values, strict=True))
            then[part.place] = part.next
    return found, then


def keyed(*values: bytes | None, first: int = 0) -> list[tuple[bytes, bytes | None]]:
    """Return values as they were written."""
    return [(b"u-%d" % number, value) for number, value in enumerate(values, first)]


def test_all_of_several_partitions_is_read_and_an_empty_one_ends(
    settings: Settings, topic: str, producer: Producer
) -> None:
    """In each partition's order, more than is handed over at once; what was not asked for does not come."""
    many = [b"%d" % number for number in range(7_000)]
    write(producer, topic, 0, *many)
    write(producer, topic, 2, b"x", b"y")
    write(producer, topic, 3, b"not asked for")
    asked = {(topic, partition): 0 for partition in (0, 1, 2)}
    with reading(settings, asked) as reader:
        assert reader.behind == set(asked)
        found, then = read(reader)
        assert found == {(topic, 0): keyed(*many), (topic, 2): keyed(b"x", b"y")}
        assert then == {(topic, 0): 7_000, (topic, 2): 2}
        assert reader.behind == set()


def test_a_tombstone_comes_as_none(settings: Settings, topic: str, producer: Producer) -> None:
    """An empty value is one, None is none."""
    write(producer, topic, 0, b"x", None, b"")
    with reading(settings, {(topic, 0): 0}) as reader:
        assert read(reader)[0] == {(topic, 0): keyed(b"x", None, b"")}


def test_it_reads_on_from_an_offset(settings: Settings, topic: str, producer: Producer) -> None:
    """What was read before does not come again, and a reader goes on reading behind what was the end."""
    write(producer, topic, 0, b"a", b"b", b"c")
    with reading(settings, {(topic, 0): 2}) as reader:
        found, then = read(reader)
        assert (found, then) == ({(topic, 0): keyed(b"c", first=2)}, {(topic, 0): 3})
        write(producer, topic, 0, b"d", first=3)
        assert read(reader, bool) == ({(topic, 0): keyed(b"d", first=3)}, {(topic, 0): 4})
    with reading(settings, {(topic, 0): 4}) as reader:
        assert read(reader) == ({}, {})


def test_what_lies_below_the_beginning_is_read_from_the_beginning(
    settings: Settings, kafka: KafkaServer, topic: str, producer: Producer
) -> None:
    """An offset beyond the end of a changelog that was made anew begins at its beginning too."""
    write(producer, topic, 0, b"a", b"b")
    with reading(settings, {(topic, 0): 1_000}) as reader:
        assert read(reader)[0] == {(topic, 0): keyed(b"a", b"b")}


def test_an_end_of_aborted_records_is_an_end(
    settings: Settings, kafka: KafkaServer, topic: str, producer: Producer, prefix: str
) -> None:
    """Nothing of an aborted transaction comes, and it holds nobody up: alone, at the end, or in the middle."""
    write(producer, topic, 0, b"a")
    with transactions(kafka, f"{prefix}w") as transactional:
        for partition in (0, 1):
            transactional.begin_transaction()
            for value in (b"never", b"never either"):
                transactional.produce(topic, value, b"aborted", partition)
            transactional.flush(WAIT_S)
            transactional.abort_transaction(WAIT_S)
        transactional.begin_transaction()
        transactional.produce(topic, b"b", b"u-1", 0)
        transactional.commit_transaction(WAIT_S)
        transactional.begin_transaction()
        transactional.produce(topic, b"never", b"aborted", 0)
        transactional.flush(WAIT_S)
        transactional.abort_transaction(WAIT_S)
    with reading(settings, {(topic, 0): 0, (topic, 1): 0}) as reader:
        found, then = read(reader)
        assert found == {(topic, 0): keyed(b"a", b"b")}
        assert 0 < then[topic, 0] <= ends(settings, then)[topic, 0]
    with reading(settings, then) as reader:
        assert read(reader) == ({}, {})


def test_an_open_transaction_is_the_end_until_it_ends(
    settings: Settings, kafka: KafkaServer, topic: str, producer: Producer, prefix: str
) -> None:
    """What is behind an open transaction is not read and not waited for; committed, it comes."""
    write(producer, topic, 0, b"a")
    with transactions(kafka, f"{prefix}w") as transactional:
        transactional.begin_transaction()
        transactional.produce(topic, b"b", b"u-1", 0)
        transactional.flush(WAIT_S)
        write(producer, topic, 0, b"c", first=2)
        with reading(settings, {(topic, 0): 0}) as reader:
            found, then = read(reader)
            assert (found, then) == ({(topic, 0): keyed(b"a")}, {(topic, 0): 1})
            transactional.commit_transaction(WAIT_S)
            found, _ = read(reader, lambda found: sum(map(len, found.values())) == 2)
            assert found == {(topic, 0): keyed(b"b", b"c", first=1)}
        with reading(settings, then) as reader:
            assert read(reader)[0] == {(topic, 0): keyed(b"b", b"c", first=1)}
