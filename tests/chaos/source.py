"""What workers read: events at the pace that a run wants, and before them a model and item parameters, both frozen."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from confluent_kafka import KafkaError, Producer

from schemas import ModelRollout, Release, parameters_key
from stream.learning.publication import Publication, publish
from stream.models.artifacts import Span, release
from stream.models.dkt import KNOWLEDGE
from stream.models.store import Store
from stream.settings import Settings
from stream.transport import rollout
from stream.transport.clients import client_config
from stream.transport.outbox import KafkaOutbox
from tests import networks
from tests.chaos.events import TOPICS, Event, item_parameters

QUIET = {"log_level": 0}
"""librdkafka's own lines about a broker that is away on purpose."""


class Source:
    """
    Sends events, whatever becomes of the broker meanwhile.

    Args:
        settings: Broker and topics.
        events: What to send; there is always more.
    """

    def __init__(self, settings: Settings, events: Iterator[Event]) -> None:
        self._settings = settings
        self._events = events
        self._producer = Producer(
            client_config(settings)
            | QUIET
            | {
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "delivery.timeout.ms": 300_000,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self.answers = 0
        """Different answers that were sent."""
        self.failure: str | None = None
        """Why an event could not be sent, if so."""

    def send(self, count: int) -> None:
        """Send so many events."""
        for event in islice(self._events, count):
            topic = self._settings.topic(event.topic)
            self._producer.produce(topic, event.value, event.key, on_delivery=self._delivered)
            self.answers += event.is_answer
        self._producer.poll(0)

    def close(self) -> None:
        """End; what is still queued is dropped."""
        self._producer.purge()
        self._producer.flush(5)

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self.failure = str(error)


def freeze(settings: Settings) -> None:
    """Announce a model and the parameters of items, before anyone reads; neither changes any more."""
    # Nothing runs yet that a late message could harm, and a broker that has just started may be slow.
    outbox = KafkaOutbox(settings.model_copy(update={"session_timeout_s": 60.0}))
    try:
        decided = ModelRollout(name=KNOWLEDGE, champion=_frozen_model(settings), decided_at=datetime.now(UTC))
        rollout.announce(outbox, settings, decided)
        for known in item_parameters():
            value = known.model_dump_json().encode()
            outbox.send(settings.topic("item-parameters"), key=parameters_key(known), value=value)
        outbox.flush_now()
    finally:
        outbox.close()


def _frozen_model(settings: Settings) -> Release:
    """Write a network of random weights, which knows most of the topics, into the store."""
    store = Store(settings.model_store)
    about = Publication(KNOWLEDGE, 1, "lstm-chaos-1", TOPICS[:-3], Span(answers=0, users=0), {"logloss": 0.5})
    publish(networks.random_network(), store, store.folder_of(KNOWLEDGE, 1), about)
    return release(store, KNOWLEDGE, 1)
