"""
What goes out, through librdkafka: queued at once, confirmed by `flush`.

Messages with an id carry CloudEvents headers (Kafka protocol binding 1.0, binary mode).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from stream.errors import DeliveryError
from stream.ports import Message
from stream.settings import Settings
from stream.transport.clients import producer_config

_SOURCE = b"/learnerstream"
_FLUSH_SLICE_S = 0.5


class KafkaOutbox:
    """
    A producer whose failures are never silent.

    Args:
        settings: Broker, security, sizes.
    """

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer(producer_config(settings) | {"error_cb": self._note})
        self._prefix = settings.topic_prefix
        self._timeout_s = settings.session_timeout_s
        self._failed: list[str] = []
        self._trouble = ""

    def send_all(self, messages: Sequence[Message], now: str) -> None:
        """
        Queue messages.

        Args:
            messages: What to send.
            now: RFC 3339, becomes `ce_time`.
        """
        time = now.encode()
        for message in messages:
            headers: list[tuple[str, bytes]] | None = None
            if message.message_id is not None:
                headers = [
                    ("ce_specversion", b"1.0"),
                    ("ce_id", message.message_id.encode()),
                    ("ce_source", _SOURCE),
                    ("ce_type", f"learnerstream.{message.topic}.v1".encode()),
                    ("ce_time", time),
                    ("content-type", b"application/json"),
                ]
            self.send(self._prefix + message.topic, key=message.key, value=message.value, headers=headers)

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
        where: Any = {} if partition is None else {"partition": partition}
        while True:
            try:
                # The callback is only for failures to be kept: a success needs no Python call of its own.
                self._producer.produce(
                    topic, value, key, headers=list(headers) if headers else None, on_delivery=self._delivered, **where
                )
            except BufferError:
                self._producer.poll(0.05)
                continue
            except KafkaException as error:
                raise DeliveryError(f"topic {topic}: cannot send: {error}") from error
            return

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
        while self._producer.flush(_FLUSH_SLICE_S):
            waited_s += _FLUSH_SLICE_S
            if self._failed or waited_s > 2 * self._timeout_s:
                break
        if self._failed or len(self._producer):
            first = self._failed[0] if self._failed else "no confirmation in time"
            count = len(self._failed) or len(self._producer)
            raise DeliveryError(f"{count} messages were not delivered; the first: {first}{self._trouble}")
