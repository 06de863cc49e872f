"""
One update of the risk model, from users of whom it is known by now what became of them.

It goes on from what serves, gently; where courses have come that it knows nothing of, it begins anew. Runs in the child
process in which all updates run; whether it goes live is the gate's to decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from schemas import Release
from stream.errors import ArtifactError
from stream.learning.risk.examples import load_snapshots
from stream.learning.risk.network import LEAST_OF_COURSE
from stream.learning.risk.publication import publish, served_of, span_of
from stream.learning.risk.snapshots import Snapshots
from stream.learning.risk.training import RiskRecipe, Trained, refine, train
from stream.models.artifacts import RiskManifest, read_risk_manifest, read_weights
from stream.models.risk_network import Vocabulary
from stream.models.store import Store
from stream.state.academic import fact_key

log = structlog.get_logger()

HELD_OUT = 5
"""One in so many users is never learned from, in no update: who had been would flatter what serves."""

MAX_EPOCHS = 30
"""Passes over the users in one update; fewer, once it no longer helps or its time is over."""

_EXPLAINED = 3_000
_COURSE = "course"


@dataclass(frozen=True, slots=True)
class RiskWish:
    """
    What an update is to do.

    Attributes:
        version: The candidate's.
        store: Where models are kept, a folder or URL.
        path: Where in it the artifact is to stand.
        examples: File of the examples: what to learn from.
        weeks: Of it, at most.
        champion: The model that it starts from, None to start from nothing.
        seconds: Of training, at most.
        learning_rate: AdamW's, where it goes on from a model.
        seed: Of everything random.
        fields: Of an enrolment that a model may see.
    """

    version: int
    store: str
    path: str
    examples: Path
    weeks: int
    champion: Release | None
    seconds: float
    learning_rate: float
    seed: int
    fields: tuple[str, ...]


def update(wish: RiskWish) -> str:
    """
    Train, and return the artifact's path in the store.

    Raises:
        UserError: If too few users are known, or all became the same.
        StoreError: If examples could not be read, or the artifact not written.
    """
    torch.manual_seed(wish.seed)
    store = Store(wish.store)
    snapshots, facts, numbers = load_snapshots(wish.examples, wish.weeks, wish.seed, wish.fields)
    learned, held_out = split(snapshots)
    recipe = RiskRecipe(seed=wish.seed, epochs=MAX_EPOCHS, explained=_EXPLAINED, seconds=wish.seconds)
    trained = _refined(store, wish, learned, held_out, replace(recipe, learning_rate=wish.learning_rate))
    if trained is None:
        trained = train(learned, held_out, Vocabulary(facts, numbers), recipe)
    publish(trained, held_out, span_of(learned), store, wish.path, wish.version)
    return wish.path


def split(snapshots: Snapshots) -> tuple[Snapshots, Snapshots]:
    """Return the weeks to learn from, and those of users who are held out: by their hashes, the same in each update."""
    is_held_out = snapshots.user % HELD_OUT == 0
    return snapshots.take(~is_held_out), snapshots.take(is_held_out)


def _refined(
    store: Store, wish: RiskWish, learned: Snapshots, held_out: Snapshots, recipe: RiskRecipe
) -> Trained | None:
    """Return what serves after more training; None where an update has to begin from nothing."""
    if wish.champion is None:
        return None
    try:
        manifest = read_risk_manifest(store, wish.champion.path, wish.champion.sha256)
        vocabulary = Vocabulary(manifest.facts, manifest.numbers)
        served = served_of(read_weights(store, wish.champion.path, manifest), vocabulary)
    except (ArtifactError, ValueError) as error:
        log.warning("update.started_from_nothing", reason=str(error))
        return None
    if _has_new_courses(manifest, learned):
        log.info("update.started_from_nothing", reason="courses have come that what serves does not know")
        return None
    if vocabulary.beyond(wish.fields):
        log.info(
            "update.started_from_nothing", reason="what serves sees fields that STREAM_RISK_FEATURES does not name"
        )
        return None
    return refine(served, learned, held_out, recipe)


def _has_new_courses(manifest: RiskManifest, learned: Snapshots) -> bool:
    """Return whether there are enough users of courses that a model does not know to say what is usual there."""
    known = np.array([fact_key("course", course) for course in _course_names(manifest.facts)], np.uint64)
    # The course is the first of the facts.
    course: NDArray[np.uint64] = learned.seen.fact[:, 0]
    new = ~np.isin(course, known) & (course != 0)
    return len(np.unique(learned.user[new])) >= LEAST_OF_COURSE


def _course_names(facts: Sequence[str]) -> list[str]:
    """Return the courses among texts of enrolments."""
    return [text for field, _, text in (fact.partition("=") for fact in facts) if field == _COURSE]
