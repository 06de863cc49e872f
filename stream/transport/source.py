"""
Reads the source topics through librdkafka, a whole batch of each partition at a time.

Fetching goes on in the client's own threads while a batch is processed: with aiokafka, whose threads are Python's, an
event waited for two turns of the worker's loop before it was seen. Which partitions are ours, and from where they are
read, is told from outside.
"""

import time
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from stream.errors import DeliveryError
from stream.ports import Record
from stream.settings import Settings
from stream.transport.clients import consumer_config, is_fatal
from stream.transport.progress import Place

log = structlog.get_logger()

Fetched = dict[Place, list[Record]]
"""Records by partition, in the order of their offsets."""

_QUEUED_KB = 16_384


class Source:
    """
    The assigned partitions of the source topics: one call at a time, and none but `end` while a wait has not ended.

    Args:
        settings: Broker, sizes.
        most: Records that one call returns.
    """

    def __init__(self, settings: Settings, most: int) -> None:
        self._consumer = Consumer(
            consumer_config(settings, f"{settings.group}-source")
            | {
                "queued.max.messages.kbytes": _QUEUED_KB,
                # Behind a backlog it goes on fetching after a moment, not after a second.
                "fetch.queue.backoff.ms": 10,
                # The only word that holds at the end of a partition where nothing but markers of transactions stands.
                "enable.partition.eof": True,
            }
        )
        self._thread = ThreadPoolExecutor(1, "source")
        self._most = most
        self._reading: set[Place] = set()
        self._ended: set[Place] = set()
        self.is_closed = False
        """Whether no more calls may be made."""

    def read_from(self, offsets: Mapping[Place, int], assigned: AbstractSet[Place]) -> None:
        """
        Go on reading what is assigned, some of it from other offsets.

        Args:
            offsets: Where to read from now on; what was fetched before is dropped.
            assigned: All that is to be read; a partition is not before it has had an offset.
        """
        given = {place: offset for place, offset in offsets.items() if place in assigned}
        left = {place for place in self._reading if place not in assigned or place in given}
        if left:
            self._consumer.incremental_unassign([TopicPartition(*place) for place in left])
        if given:
            self._consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in given.items()])
        self._reading = (self._reading - left) | set(given)

    def fetched(self) -> Fetched:
        """
        Return what has arrived, without waiting.

        Raises:
            DeliveryError: If a topic may not be read.
        """
        return self._sorted(self._consumer.consume(self._most, 0.0))

    def begin_wait(self, timeout_s: float) -> "Future[Fetched]":
        """Begin to wait for the first record to arrive, on a thread: until that has ended there is no other call."""
        return self._thread.submit(self._await_any, timeout_s)

    def _await_any(self, timeout_s: float) -> Fetched:
        until, found = time.monotonic() + timeout_s, Fetched()
        # An end that is reached wakes nobody: it comes after nearly every event of a quiet hour.
        while not found:
            # `consume` would wait for all that it may return.
            first = self._consumer.poll(max(until - time.monotonic(), 0.0))
            if first is None:
                break
            found = self._sorted([first, *self._consumer.consume(self._most - 1, 0.0)])
        return found

    def _sorted(self, messages: Iterable[Message]) -> Fetched:
        found: Fetched = {}
        for message in messages:
            error = message.error()
            if error is None:
                record = record_of(message)
                place = record.topic, record.partition
                found.setdefault(place, []).append(record)
                self._ended.discard(place)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 (its only name)
                self._ended.add((message.topic() or "", message.partition() or 0))
            elif is_fatal(error):
                raise DeliveryError(f"topic {message.topic()} cannot be read: {error.str()}; run `stream topics check`")
            else:
                # The client goes on by itself.
                log.warning("source.waiting", topic=message.topic(), reason=error.str())
        return found

    def take_ended(self) -> set[Place]:
        """Return the partitions whose end has been reached since, behind what was fetched; each is said once."""
        ended, self._ended = self._ended, set()
        return ended

    def end(self, place: Place) -> int:
        """
        Return the end of a partition as the last fetch has seen it, 0 where nothing is known.

        It asks nobody, and may be called while a wait goes on, but not once `is_closed` is set.
        """
        if place not in self._reading:
            return 0
        ends = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        return max(ends[1], 0) if ends else 0

    def close(self) -> None:
        """End the client, after a wait that has begun; `is_closed` must have been set by whoever makes the calls."""
        self._thread.submit(self._consumer.close).result()
        self._thread.shutdown()


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    headers: Any = message.headers()  # a list of pairs, whatever the stubs say
    return tuple(headers) if headers else ()


def record_of(message: Message) -> Record:
    """Return a message of the client's as a record."""
    return Record(
        message.topic() or "", message.partition() or 0, message.offset() or 0, message.key(), message.value(),
        message.timestamp()[1] / 1000, _headers(message),
    )  # fmt: skip
