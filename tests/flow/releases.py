"""Models for the flow's tests, announced as the trainer would, without learning: random weights will do."""

from datetime import UTC, datetime

from schemas import Release
from stream.learning.publication import Publication, publish
from stream.models.artifacts import Span, release
from stream.models.dkt import KNOWLEDGE
from stream.transport import rollout
from stream.transport.outbox import KafkaOutbox
from tests import networks
from tests.flow.system import System


def make_release(system: System, version: int) -> Release:
    """Write an artifact into the system's model store, and return what would announce it."""
    store = system.settings.model_store
    folder = store / KNOWLEDGE / f"v{version}"
    about = Publication(
        KNOWLEDGE, version, f"lstm-test-{version}", ("fractions",), Span(answers=0, users=0), {"logloss": 0.5}
    )
    publish(networks.random_network(), folder, about)
    return release(store, KNOWLEDGE, version)


def announce(system: System, champion: Release | None) -> None:
    """Say that a release should serve, or the fallback."""
    settings = system.settings
    rollout.announce(KafkaOutbox(settings), settings, champion, None, datetime.now(UTC))
