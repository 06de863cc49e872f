"""What comes out while it runs: how many answers have been predicted, and when each partition went on."""

from confluent_kafka import Consumer, TopicPartition

from stream.settings import Settings
from stream.transport.clients import consumer_config


class Watcher:
    """
    Follows `predictions.correctness`.

    Args:
        settings: Those of the worker.
    """

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(consumer_config(settings, f"{settings.group}-watcher") | {"log_level": 0})
        topic = settings.topic("predictions.correctness")
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(settings.partitions)])
        self._ids: set[bytes] = set()
        self.newest_s: dict[int, float] = dict.fromkeys(range(settings.partitions), 0.0)
        """When the latest prediction of each partition was produced, seconds since the epoch."""

    @property
    def predicted(self) -> int:
        """Different answers that have been predicted."""
        return len(self._ids)

    def poll(self, timeout_s: float) -> None:
        """Take in what has come."""
        for message in self._consumer.consume(2_000, timeout_s):
            if message.error() is not None:
                continue
            headers = message.headers() or []
            for name, value in headers.items() if isinstance(headers, dict) else headers:
                if name == "ce_id":
                    self._ids.add(value if isinstance(value, bytes) else str(value).encode())
            number = message.partition() or 0
            self.newest_s[number] = max(self.newest_s[number], message.timestamp()[1] / 1000)

    def close(self) -> None:
        """End."""
        self._consumer.close()
