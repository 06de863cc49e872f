"""
Reads changelog partitions as fast as the broker gives them: librdkafka, committed records only, whole batches.

It knows where a partition ends by what the broker says (a partition's end may be nothing but markers of transactions,
or records that were aborted), never by counting offsets.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from stream.errors import StateError
from stream.settings import Settings
from stream.transport.clients import consumer_config, is_fatal
from stream.transport.progress import Place

log = structlog.get_logger()

_AT_ONCE = 5_000
_PATIENCE_S = 30.0
_HOLD_MS = 50


@dataclass(frozen=True, slots=True)
class Part:
    """
    A part of a changelog partition, in its order.

    Attributes:
        place: Topic and partition.
        keys: Raw.
        values: Raw; None removes a key.
        next: The offset from which to read on.
    """

    place: Place
    keys: list[bytes]
    values: list[bytes | None]
    next: int


class ChangelogReader:
    """
    Reads partitions from where it is told to their ends, and on.

    Args:
        settings: Broker, security.
        offsets: Where to begin, of each partition.
    """

    def __init__(self, settings: Settings, offsets: Mapping[Place, int]) -> None:
        self._consumer = Consumer(
            consumer_config(settings, f"{settings.group}-recovery")
            | {
                "enable.partition.eof": True,
                # Compacted or not, what is asked for is there: a changelog that was cut below it is read from its
                # beginning.
                "auto.offset.reset": "earliest",
                # A fetch that finds nothing, at the end of an empty partition, holds up the others on its connection.
                "fetch.wait.max.ms": _HOLD_MS,
                "queued.max.messages.kbytes": 65_536,
                "fetch.max.bytes": 33_554_432,
                "fetch.message.max.bytes": max(8_388_608, settings.message_max_bytes),
            }
        )
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
        self._behind = set(offsets)
        self._trouble_since: float | None = None

    @property
    def behind(self) -> set[Place]:
        """Partitions whose end has not been reached yet."""
        return set(self._behind)

    def read(self, timeout_s: float) -> list[Part]:
        """
        Return what has arrived, one part of a partition at most; blocks until there is something.

        Args:
            timeout_s: Seconds to wait at most.

        Raises:
            StateError: If a topic cannot be read, and trying again did not help.
        """
        parts: dict[Place, Part] = {}
        for message in self._consumer.consume(_AT_ONCE, timeout_s):
            place = (message.topic() or "", message.partition() or 0)
            error = message.error()
            if error is None:
                part = parts.get(place)
                if part is None:
                    part = parts[place] = Part(place, [], [], 0)
                part.keys.append(message.key() or b"")
                part.values.append(message.value())
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self._behind.discard(place)
            elif is_fatal(error) or self._has_waited(error):
                raise StateError(f"changelog {place[0]} cannot be read: {error.str()}; run `stream topics check`")
        if not parts:
            return []
        self._trouble_since = None
        positions = self._consumer.position([TopicPartition(*place) for place in parts])
        return [
            Part(part.place, part.keys, part.values, position.offset)
            for part, position in zip(parts.values(), positions, strict=True)
        ]

    def _has_waited(self, error: KafkaError) -> bool:
        """Return whether nothing but errors have come for long; the first is logged."""
        if self._trouble_since is None:
            self._trouble_since = time.monotonic()
            log.warning("changelog.waiting", reason=error.str())
        return time.monotonic() - self._trouble_since > _PATIENCE_S

    def close(self) -> None:
        """End the client."""
        self._consumer.close()
