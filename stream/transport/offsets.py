"""
Where partitions begin and end, and what of them the group has committed: of all partitions in one call.

Asked one after the other, each question takes a round trip behind whatever the client is fetching: seconds of a
failover.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream.errors import DeliveryError
from stream.settings import Settings
from stream.transport.clients import client_config, consumer_config, is_fatal
from stream.transport.progress import Place

_CALL_S = 2.0
_WITHIN_S = 30.0
_POLL_S = 0.05
_START, _END = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]

T = TypeVar("T")


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

    def ask() -> list[TopicPartition]:
        found = consumer.committed([TopicPartition(*place) for place in places], timeout=_CALL_S)
        failed = next((place.error for place in found if place.error), None)
        if failed is not None:
            raise KafkaException(failed)
        return found

    try:
        return _asked(ask, "the group's committed offsets")
    finally:
        consumer.close()


def starts(settings: Settings, places: Iterable[Place]) -> dict[Place, int]:
    """Return the first offset of each partition; blocks, and raises `DeliveryError` as `committed` does."""
    return _bounds(settings, places, _START, IsolationLevel.READ_UNCOMMITTED)


def ends(
    settings: Settings, places: Iterable[Place], *, stable: bool = False, admin: AdminClient | None = None
) -> dict[Place, int]:
    """
    Return the offset behind the last record of each partition; blocks, and raises `DeliveryError` as `committed` does.

    Args:
        settings: Broker.
        places: Topics and partitions.
        stable: Not further than where the first open transaction begins.
        admin: Whom to ask, for whoever asks again and again; a client of its own if not given.
    """
    isolation = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
    return _bounds(settings, places, _END, isolation, admin)


def _bounds(
    settings: Settings,
    places: Iterable[Place],
    spec: OffsetSpec,
    isolation: IsolationLevel,
    admin: AdminClient | None = None,
) -> dict[Place, int]:
    wanted = {TopicPartition(*place): spec for place in places}
    if not wanted:
        return {}
    asked = admin or AdminClient(client_config(settings))

    def ask() -> dict[Place, int]:
        futures = asked.list_offsets(wanted, isolation_level=isolation, request_timeout=_CALL_S)
        return {(place.topic, place.partition): future.result().offset for place, future in futures.items()}

    return _asked(ask, "where topics begin and end")


def _asked(ask: Callable[[], T], what: str) -> T:
    """Return the broker's answer, however often one that is just coming back has to be asked."""
    end = time.monotonic() + _WITHIN_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            failed: KafkaError = error.args[0]
            if is_fatal(failed) or time.monotonic() > end:
                raise DeliveryError(f"{what} cannot be read: {failed.str()}; check the broker, then restart") from error
            time.sleep(_POLL_S)
