"""
Which model should serve, on its compacted topic: read as it stands, and announced anew.

The worker follows the same topic in `stream.agents.control`.
"""

from collections.abc import Callable
from datetime import datetime

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas import ModelRollout, Release
from stream.errors import UserError
from stream.models.dkt import KNOWLEDGE
from stream.settings import Settings
from stream.transport.clients import consumer_config
from stream.transport.outbox import KafkaOutbox

_TIMEOUT_S = 15.0


def read_whole(settings: Settings, names: tuple[str, ...], take: Callable[[str, bytes, bytes], None]) -> None:
    """
    Hand over every record that stands on topics now, in the order of each partition.

    Args:
        settings: Broker and prefix.
        names: The design's names.
        take: Called with topic, key and value; tombstones are left out.

    Raises:
        UserError: If they cannot be read.
    """
    consumer = Consumer(consumer_config(settings, f"{settings.group}-whole") | {"enable.partition.eof": True})
    try:
        partitions = []
        for topic in map(settings.topic, names):
            metadata = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
            partitions += [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in metadata.partitions]
        consumer.assign(partitions)
        waiting = {(p.topic, p.partition) for p in partitions}
        while waiting:
            for message in consumer.consume(1_000, 0.5):
                error, value = message.error(), message.value()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    waiting.discard((message.topic() or "", message.partition() or 0))
                elif error is None and value is not None:
                    take((message.topic() or "").removeprefix(settings.topic_prefix), message.key() or b"", value)
    except KafkaException as error:
        raise UserError(f"{', '.join(names)} cannot be read from {settings.broker}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def current(settings: Settings) -> ModelRollout | None:
    """Return the latest announcement, None if there was never one; raises `UserError` like `read_whole`."""
    found: list[ModelRollout] = []
    read_whole(settings, ("model-updates",), lambda _topic, _key, value: found.append(parse(value)))
    return next((rollout for rollout in reversed(found) if rollout.name == KNOWLEDGE), None)


def parse(value: bytes) -> ModelRollout:
    """Return an announcement; raises pydantic's `ValidationError` if it is none."""
    return ModelRollout.model_validate_json(value)


def announce(
    outbox: KafkaOutbox, settings: Settings, champion: Release | None, previous: Release | None, now: datetime
) -> ModelRollout:
    """
    Say which model should serve: every worker reads it, also those that start later.

    Args:
        outbox: Takes it; it is confirmed when this returns.
        settings: Topics.
        champion: None for the fallback.
        previous: What served until now.
        now: Stamped on it.
    """
    rollout = ModelRollout(name=KNOWLEDGE, champion=champion, previous=previous, decided_at=now)
    topic = settings.topic("model-updates")
    outbox.send(topic, key=KNOWLEDGE.encode(), value=rollout.model_dump_json().encode())
    outbox.flush_now()
    return rollout
