"""The partition of a key is Java's: known values of its client, and librdkafka's with the partitioner that we set."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from stream.transport.partitioner import Partitioner
from tests.broker.kafka import KafkaServer

# murmur2 as org.apache.kafka.common.utils.UtilsTest has it.
JAVA = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971}  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(("key", "hashed"), JAVA.items())
def test_known_hashes_of_the_java_client(key: bytes, hashed: int) -> None:
    """Kafka's own test vectors."""
    assert Partitioner(1_000_003)(key) == (hashed & 0x7FFFFFFF) % 1_000_003


@given(st.binary(min_size=1, max_size=60), st.integers(1, 64))
def test_every_key_goes_where_aiokafka_puts_it(key: bytes, partitions: int) -> None:
    """The worker's check agrees with a producer in pure Python."""
    every = list(range(partitions))
    assert Partitioner(partitions)(key) == DefaultPartitioner()(key, every, every)


def test_every_key_goes_where_librdkafka_puts_it(kafka: KafkaServer, prefix: str) -> None:
    """The worker's check agrees with a producer that has `partitioner=murmur2_random`."""
    topic = prefix + "keys"
    kafka.create_topic(topic, partitions=7)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random"})
    keys = {f"user-{number}".encode() for number in range(200)} | {"ünï-☃".encode()}
    for key in keys:
        producer.produce(topic, b"", key)
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": prefix, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(7)])
    found: dict[bytes, int] = {}
    while len(found) < len(keys):
        for message in consumer.consume(100, 0.2):
            found[message.key() or b""] = message.partition() or 0
    consumer.close()
    assert found == {key: Partitioner(7)(key) for key in keys}
