"""Models for the flow's tests, announced as the trainer would, without learning: a network of random weights will do."""

from datetime import UTC, datetime

from schemas import ModelRollout, Release
from stream.learning.runs import Buffer
from stream.learning.update import Wish, publish
from stream.models.artifacts import MANIFEST, digest
from stream.models.dkt import KNOWLEDGE
from stream.transport.outbox import KafkaOutbox
from tests import networks
from tests.flow.system import System


def make_release(system: System, version: int) -> Release:
    """Write an artifact into the system's model store, and return its announcement."""
    store = system.settings.model_store
    folder = store / KNOWLEDGE / f"v{version}"
    state_format = f"lstm-test-{version}"
    wish = Wish(KNOWLEDGE, version, folder, Buffer(10, 10).runs(), ("fractions",), None, None, 1.0, 0.002, version)
    publish(networks.random_network(), folder, wish, state_format, {"logloss": 0.5})
    sha256 = digest((folder / MANIFEST).read_bytes())
    path = folder.relative_to(store).as_posix()
    return Release(version=version, sha256=sha256, path=path, state_format=state_format)


def announce(system: System, release: Release | None) -> None:
    """Say that a release should serve, or the fallback."""
    rollout = ModelRollout(
        name=KNOWLEDGE, champion=release, previous=None, challenger=None, challenger_share=0.0,
        decided_at=datetime.now(UTC),
    )  # fmt: skip
    outbox = KafkaOutbox(system.settings)
    outbox.send(
        system.settings.topic("model-updates"), key=KNOWLEDGE.encode(), value=rollout.model_dump_json().encode()
    )
    outbox.flush_now()
