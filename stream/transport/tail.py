"""
The latest records of partitions, read up to where they end, within a limit of time.

For whoever looks, not for whoever works: committed records only, and no group is joined.
"""

import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stream.ports import Record
from stream.settings import Settings
from stream.transport.clients import consumer_config, is_fatal
from stream.transport.progress import Place

_AT_ONCE: Final = 1_000
_POLL_S: Final = 0.1
_HOLD_MS: Final = 50


def tail(
    settings: Settings, froms: Mapping[Place, int], within_s: float, key: bytes | None = None
) -> tuple[list[Record], bool]:
    """
    Return records, in the order of each partition, and whether all came in time.

    Args:
        settings: Broker, security.
        froms: Where to begin, of each partition.
        within_s: Seconds to read at most.
        key: The only one whose records are kept; None keeps all.

    Raises:
        KafkaException: If they may not be read.
    """
    if not froms:
        return [], True
    config = consumer_config(settings, f"{settings.group}-whole")
    consumer = Consumer(config | {"enable.partition.eof": True, "fetch.wait.max.ms": _HOLD_MS})
    waiting, found, end = set(froms), list[Record](), time.monotonic() + within_s
    try:
        consumer.assign([TopicPartition(*place, offset) for place, offset in froms.items()])
        while waiting and time.monotonic() < end:
            for message in consumer.consume(_AT_ONCE, _POLL_S):
                error, place = message.error(), (message.topic() or "", message.partition() or 0)
                if error is None:
                    if key is None or message.key() == key:
                        at = message.timestamp()[1] / 1_000
                        found.append(Record(*place, message.offset() or 0, message.key(), message.value(), at))
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    waiting.discard(place)
                elif is_fatal(error):
                    raise KafkaException(error)
    finally:
        consumer.close()
    return found, not waiting
