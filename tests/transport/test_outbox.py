"""What a flush tells: confirmed, or not delivered; what others queue meanwhile is not its business."""

from typing import cast

import pytest
from confluent_kafka import Producer

from stream.errors import DeliveryError
from stream.settings import Settings
from stream.transport.outbox import KafkaOutbox


class BusyProducer:
    """
    A producer on which another thread queues a message after each flush.

    Args:
        undelivered: Of so many messages no flush hears.
    """

    def __init__(self, undelivered: int = 0) -> None:
        self._undelivered = undelivered

    def flush(self, timeout: float) -> int:
        """Return how many messages are left."""
        return self._undelivered

    def __len__(self) -> int:
        return self._undelivered + 1


def outbox(producer: BusyProducer) -> KafkaOutbox:
    """Return an outbox on it whose patience is short."""
    return KafkaOutbox(Settings(session_timeout_s=6.0), cast("Producer", producer))


def test_what_is_queued_after_a_flush_is_not_counted_against_it() -> None:
    """The control thread announces a swap on the same producer at any moment: the worker must not end over it."""
    outbox(BusyProducer()).flush_now()


def test_what_no_flush_confirms_is_an_error() -> None:
    """After twice the session's time what is left is told as not delivered."""
    with pytest.raises(DeliveryError, match="2 messages were not delivered; the first: no confirmation in time"):
        outbox(BusyProducer(2)).flush_now()
