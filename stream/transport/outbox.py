"""
What goes out, through librdkafka: queued at once, confirmed by `flush`.

Messages with an id are CloudEvents by the Kafka protocol binding 1.0.2: in binary mode, attributes in headers; or in
structured mode, where a setting says so and the topic's contract lets it, an envelope around the value.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas import TOPICS
from stream.errors import DeliveryError
from stream.ports import Message
from stream.settings import Settings
from stream.transport.clients import producer_config
from stream.transport.settlement import Change

_Headers = list[tuple[str, str | bytes | None]]

_SPECIFICATION = ("ce_specversion", b"1.0")
_CONTENT = ("content-type", b"application/json")
_ENVELOPED: _Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
_FLUSH_SLICE_S = 0.5
_ANY_PARTITION = -1  # the key's


class _Kind(NamedTuple):
    """
    What the messages of one topic have in common.

    Attributes:
        topic: The broker's name.
        header: That says what they are.
        envelope: Beginning of an envelope, up to the id; None in binary mode.
    """

    topic: str
    header: tuple[str, bytes]
    envelope: bytes | None


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
        self._is_structured = settings.cloudevents == "structured"
        self._source = ("ce_source", settings.cloudevents_source.encode())
        self._kinds: dict[str, _Kind] = {}
        self._failed: list[str] = []
        self._trouble = ""

    def send_all(self, messages: Sequence[Message], now: str) -> None:
        """
        Queue messages.

        Args:
            messages: What to send.
            now: RFC 3339, becomes `ce_time`.
        """
        at = now.encode()
        source, time = self._source, ("ce_time", at)
        for topic_name, key, value, id_ in messages:
            topic, kind, envelope = self._kinds.get(topic_name) or self._kind(topic_name)
            if id_ is None:
                self._produce(topic, value, key, None)
            elif envelope is None:
                headers: _Headers = [_SPECIFICATION, ("ce_id", id_.encode()), source, kind, time, _CONTENT]
                self._produce(topic, value, key, headers)
            else:
                # Ids are UUIDs: nothing in them is to be escaped.
                enveloped = b'%b%b","time":"%b","data":%b}' % (envelope, id_.encode(), at, value)
                self._produce(topic, enveloped, key, _ENVELOPED)

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

    def _kind(self, name: str) -> _Kind:
        """Return what the messages of a topic have in common, by the catalog's name."""
        type_ = f"learnerstream.{name}.v1".encode()
        envelope = None
        if self._is_structured and name in TOPICS and TOPICS[name].cloud_events == "as set":
            envelope = b'{"specversion":"1.0","type":"%b","source":"%b","datacontenttype":"application/json","id":"' % (
                type_, self._source[1],
            )  # fmt: skip
        kind = _Kind(self._prefix + name, ("ce_type", type_), envelope)
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
