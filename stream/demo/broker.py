"""
A Kafka broker inside the process: librdkafka's mock cluster, with pip alone.

It speaks the real protocol over TCP on loopback, makes topics of four partitions when they are asked for, and keeps
about 5 MB of each partition: older records vanish without a word, so that whoever produces must wait for those who
consume (`stream.demo.source`).
"""

from confluent_kafka import Producer

PARTITIONS = 4


class EmbeddedBroker:
    """A broker that lives as long as this object."""

    def __init__(self) -> None:
        # The mock cluster belongs to a client; its own bootstrap servers are never asked.
        self._owner = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "localhost:1", "log_level": 3})
        brokers = self._owner.list_topics(timeout=10).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def make(self, topics: list[str]) -> None:
        """Make topics, which asking for them does."""
        for topic in topics:
            self._owner.list_topics(topic, timeout=10)
