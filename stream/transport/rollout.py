"""
Which model should serve, on its compacted topic: read as it stands, and announced anew.

The worker follows the same topic in `stream.agents.control`.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import uuid4

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from pydantic import ValidationError

from schemas import LearnRequested, ModelRollout
from stream.errors import BrokerAway, UserError
from stream.settings import Settings
from stream.transport.clients import consumer_config, is_fatal
from stream.transport.outbox import KafkaOutbox
from stream.transport.topics import unreached

log = structlog.get_logger()

_TIMEOUT_S = 15.0
_NO_ANSWER = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT)  # noqa: SLF001


def read_whole(settings: Settings, names: tuple[str, ...], take: Callable[[str, bytes, bytes, float], None]) -> None:
    """
    Hand over every record that stands on topics now, in the order of each partition.

    Args:
        settings: Broker and prefix.
        names: The catalog's names.
        take: Called with topic, key, value and Kafka's timestamp in seconds; tombstones are left out.

    Raises:
        UserError: If they cannot be read.
    """
    told: list[KafkaError] = []
    consumer = Consumer(
        consumer_config(settings, f"{settings.group}-whole") | {"enable.partition.eof": True, "error_cb": told.append}
    )
    try:
        partitions = []
        for topic in map(settings.topic, names):
            metadata = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
            partitions += [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in metadata.partitions]
        consumer.assign(partitions)
        waiting = {(p.topic, p.partition) for p in partitions}
        moved_at = time.monotonic()
        while waiting:
            messages = consumer.consume(1_000, 0.5)
            for message in messages:
                error, value = message.error(), message.value()
                if error is None and value is not None:
                    topic = (message.topic() or "").removeprefix(settings.topic_prefix)
                    take(topic, message.key() or b"", value, message.timestamp()[1] / 1000)
                elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    waiting.discard((message.topic() or "", message.partition() or 0))
                elif error is not None and is_fatal(error):
                    raise KafkaException(error)  # noqa: TRY301 (told once, below)
            if any(message.error() is None for message in messages):
                moved_at = time.monotonic()
            if waiting and time.monotonic() - moved_at > _TIMEOUT_S:
                raise BrokerAway(
                    f"{', '.join(names)} cannot be read whole from {settings.broker} (STREAM_BROKER): nothing came for "
                    f"{_TIMEOUT_S:.0f} s; `stream doctor` says more"
                )
    except KafkaException as error:
        consumer.poll(0)  # has it tell why
        raise _unread(settings, names, told, error.args[0]) from error
    finally:
        consumer.close()


def _unread(settings: Settings, names: tuple[str, ...], told: Sequence[KafkaError], error: KafkaError) -> UserError:
    if error.code() in _NO_ANSWER:
        return unreached(settings, told, error)
    return UserError(
        f"{', '.join(names)} cannot be read from {settings.broker} (STREAM_BROKER): {error.str()}; `stream doctor` "
        "says more"
    )


def current(settings: Settings, name: str) -> ModelRollout | None:
    """Return the latest announcement of a model, None if there was never one; raises `UserError` like `read_whole`."""
    found: list[ModelRollout] = []

    def take(_topic: str, _key: bytes, value: bytes, _at: float) -> None:
        rollout = parse(value)
        if rollout is not None and rollout.name == name:
            found.append(rollout)

    read_whole(settings, ("model-updates",), take)
    return found[-1] if found else None


def parse(value: bytes) -> ModelRollout | None:
    """Return an announcement; None for what nobody can read."""
    try:
        return ModelRollout.model_validate_json(value)
    except ValidationError as error:
        log.warning("rollout.unreadable", error=str(error))
        return None


def announce(outbox: KafkaOutbox, settings: Settings, rollout: ModelRollout) -> None:
    """Say what should serve: every worker reads it, also those that start later. Confirmed when this returns."""
    topic = settings.topic("model-updates")
    outbox.send(topic, key=rollout.name.encode(), value=rollout.model_dump_json().encode())
    outbox.flush_now()


def ask_to_learn(outbox: KafkaOutbox, settings: Settings, name: str, now: datetime) -> None:
    """Ask the trainer for an update of a model at once. Confirmed when this returns."""
    request = LearnRequested(event_id=str(uuid4()), name=name, at=now)
    outbox.send(settings.topic("model-events"), key=name.encode(), value=request.model_dump_json().encode())
    outbox.flush_now()
