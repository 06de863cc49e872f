"""The offsets that the group has committed, read in one call, and only when they are stable."""

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from stream.errors import DeliveryError
from stream.settings import Settings
from stream.transport.clients import consumer_config, is_fatal

_CALL_S = 2.0
_WITHIN_S = 30.0
_POLL_S = 0.05


def committed(settings: Settings, places: Sequence[tuple[str, int]], *, stable: bool) -> list[TopicPartition]:
    """
    Return the group's committed offsets, and what was written beside them; blocks.

    Args:
        settings: Broker, group.
        places: Topics and partitions.
        stable: Wait until no transaction is about to change them, as one may be right after its commit.

    Raises:
        DeliveryError: If the broker does not tell in time.
    """
    isolation = "read_committed" if stable else "read_uncommitted"
    consumer = Consumer(consumer_config(settings, settings.group) | {"isolation.level": isolation})
    end = time.monotonic() + _WITHIN_S
    try:
        while True:
            try:
                found = consumer.committed([TopicPartition(*place) for place in places], timeout=_CALL_S)
                failed = next((place.error for place in found if place.error), None)
                if failed is None:
                    return found
            except KafkaException as error:
                failed = error.args[0]
            if is_fatal(failed) or time.monotonic() > end:
                raise DeliveryError(
                    f"the group's committed offsets cannot be read: {failed.str()}; check the broker, then restart"
                )
            time.sleep(_POLL_S)
    finally:
        consumer.close()
