"""
What goes out, through librdkafka: queued at once, confirmed by `flush`.

Messages with an id carry CloudEvents headers (Kafka protocol binding 1.0, binary mode).
"""

import asyncio
from collections.abc import Iterable, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from stream.errors import DeliveryError
from stream.ports import Message
from stream.settings import Settings
from stream.transport.clients import producer_config
from stream.transport.settlement import Change

_Headers = list[tuple[str, str | bytes | None]]

_SPECIFICATION = ("ce_specversion", b"1.0")
_SOURCE = ("ce_source", b"/learnerstream")
_CONTENT = ("content-type", b"application/json")
_FLUSH_SLICE_S = 0.5
_ANY_PARTITION = -1  # the key's


class KafkaOutbox:
    """
    A producer whose failures are never silent.

    Args:
        settings: Broker, security, sizes.
        producer: Takes the messages; one of its own if not given.
    """

    def __init__(self, settings: Settings, producer: Producer | None = None) -> None:
        # Not `or`: a producer with nothing queued has the length 0.
        self._producer = (
            Producer(producer_config(settings) | {"error_cb": self._note}) if producer is None else producer
        )
        self._prefix = settings.topic_prefix
        self._timeout_s = settings.session_timeout_s
        self._kinds: dict[str, tuple[str, tuple[str, bytes]]] = {}
        self._failed: list[str] = []
        self._trouble = ""

    def send_all(self, messages: Sequence[Message], now: str) -> None:
        """
        Queue messages.

        Args:
            messages: What to send.
            now: RFC 3339, becomes `ce_time`.
        """
        time = ("ce_time", now.encode())
        for message in messages:
            known = self._kinds.get(message.topic) or self._kind(message.topic)
            topic, kind = known
            headers: _Headers | None = None
            if message.message_id is not None:
                headers = [_SPECIFICATION, ("ce_id", message.message_id.encode()), _SOURCE, kind, time, _CONTENT]
            self._produce(topic, message.value, message.key, headers)

    def send_changes(self, changes: Iterable[Change]) -> None:
        """Queue changelog records."""
        for change in changes:
            self._produce(change.topic, change.value, change.key, None, change.partition)

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> None:
        """Queue a message; see `stream.ports.Outbox`."""
        self._produce(
            topic, value, key, [*headers] if headers else None, _ANY_PARTITION if partition is None else partition
        )

    def _kind(self, name: str) -> tuple[str, tuple[str, bytes]]:
        """Return the broker's name of a topic and the header that says what its messages are."""
        kind = (self._prefix + name, ("ce_type", f"learnerstream.{name}.v1".encode()))
        self._kinds[name] = kind
        return kind

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: _Headers | None,
        partition: int = _ANY_PARTITION,
    ) -> None:
        while True:
            try:
                # Called back for failures only (`delivery.report.only.error`): a success needs no Python call.
                self._producer.produce(topic, value, key, partition, self._delivered, headers=headers)
            except BufferError:
                self._producer.poll(0.05)
                continue
            except KafkaException as error:
                raise DeliveryError(f"topic {topic}: cannot send: {error}") from error
            return

    def forget_failures(self) -> None:
        """Forget what was not delivered: it belonged to a transaction that was aborted."""
        self._producer.poll(0)
        self._failed.clear()

    def _delivered(self, error: KafkaError | None, message: object) -> None:
        if error is not None:
            topic = message.topic() if hasattr(message, "topic") else "unknown"
            self._failed.append(f"topic {topic}: {error}")

    def _note(self, error: KafkaError) -> None:
        """Keep what the client says of its connections: a message that timed out does not tell why."""
        self._trouble = f" ({error.str()})"

    def close(self) -> None:
        """End the client, after a last attempt to deliver what is queued; only `flush` tells whether that worked."""
        self._producer.close()

    async def flush(self) -> None:
        """Return when all that was queued is confirmed; see `stream.ports.Outbox`."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.flush_now)

    def flush_now(self) -> None:
        """
        Block until all that was queued is confirmed.

        Raises:
            DeliveryError: If anything was not.
        """
        waited_s = 0.0
        # What another thread queues after the last look is its own: `len` would count it as not delivered.
        while left := self._producer.flush(_FLUSH_SLICE_S):
            waited_s += _FLUSH_SLICE_S
            if self._failed or waited_s > 2 * self._timeout_s:
                break
        if self._failed or left:
            first = self._failed[0] if self._failed else "no confirmation in time"
            raise DeliveryError(
                f"{len(self._failed) or left} messages were not delivered; the first: {first}{self._trouble}"
            )
