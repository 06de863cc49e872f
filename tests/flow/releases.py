"""Models for the flow's tests, announced as the trainer would, without learning: random weights will do."""

from datetime import UTC, datetime
from pathlib import Path

import torch

from schemas import ModelRollout, Release
from stream.learning.network import Network, Shape
from stream.learning.publication import Publication, publish
from stream.models.artifacts import MODEL, Span, release
from stream.models.dkt import KNOWLEDGE
from stream.models.store import Store
from stream.transport import rollout
from tests import networks
from tests.flow.system import System


def make_release(
    system: System,
    version: int,
    *,
    lineage: str | None = None,
    skills: tuple[str, ...] = ("fractions",),
    network: Network | None = None,
) -> Release:
    """
    Write an artifact into the system's model store, and return what would announce it.

    Args:
        system: Whose store it is.
        version: Its, from 1.
        lineage: Its state format; one of its own if not given.
        skills: That it knows: versions that know others say other things.
        network: What it is; one of random weights if not given.
    """
    store = Store(system.settings.model_store)
    about = Publication(
        KNOWLEDGE, version, lineage or f"lstm-test-{version}", skills, Span(answers=0, users=0), {"logloss": 0.5}
    )
    publish(network or networks.random_network(), store, store.folder_of(KNOWLEDGE, version), about)
    return release(store, KNOWLEDGE, version)


def damage(system: System, release: Release) -> None:
    """Change one byte in the middle of a release's model; a second time, change it back."""
    model = Path(system.settings.model_store) / release.path / MODEL
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)


def shifted(logits: float) -> Network:
    """Return a network that says of every answer what LNIRT says, but for so many logits."""
    network = Network(Shape())
    with torch.no_grad():
        network.out.bias[0] = logits
    return network


def announce(
    system: System,
    champion: Release | None,
    challenger: Release | None = None,
    share: float = 0.0,
    previous: Release | None = None,
) -> None:
    """Say that a release should serve, or the fallback, and perhaps what did before and that another is on trial."""
    settings = system.settings
    decided = ModelRollout(
        name=KNOWLEDGE, champion=champion, previous=previous, challenger=challenger, challenger_share=share,
        decided_at=datetime.now(UTC),
    )  # fmt: skip
    rollout.announce(system.outbox(), settings, decided)
