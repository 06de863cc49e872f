"""
How good predictions were over the latest answers of all workers: overall, by version, and by slice.

Pure. Each was made before its answer was seen, so this is progressive (prequential) quality: nothing is held out. The
metrics that show it are in `stream.telemetry`; what is done about it, in `drift` and `rollback`.

Source:
    Dawid 1984, Statistical theory: the prequential approach.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas import Figures, TrainingExample
from stream.models.quality import auc, calibration_error, log_losses

NEW_BELOW = 10
"""A user with fewer answers in the state counts as new."""

MOST_TOPICS = 10
LEAST_ANSWERS = 50
"""Of a slice: of fewer, an AUC says little (its standard error is above .07)."""


@dataclass(frozen=True, slots=True)
class Quality:
    """
    How good predictions were.

    Attributes:
        overall: Of what served.
        fallback: Of the fallback, on the same answers.
        versions: Of what served, by its version; "0" is the fallback.
        slices: Of what served, by `topic:NAME`, `difficulty:LEVEL` and `users:new`.
    """

    overall: Figures
    fallback: Figures
    versions: dict[str, Figures]
    slices: dict[str, Figures]


class Watch:
    """
    The latest answers, and what had been said of them. Keeps nothing that names a user.

    Args:
        window: Answers that count.
    """

    def __init__(self, window: int) -> None:
        self._rows = np.zeros(window, _ROW)
        self._topics = [""] * window
        self._count = 0

    def __len__(self) -> int:
        """Return how many answers count now."""
        return min(self._count, len(self._rows))

    def add(self, example: TrainingExample) -> None:
        """Add an answer, the latest of all."""
        place = self._count % len(self._rows)
        seconds = example.response_time_seconds
        self._rows[place] = (
            example.correct,
            example.p_before,
            example.p_before_fallback,
            example.model.version,
            example.difficulty or "",
            example.state_version < NEW_BELOW,
            np.nan if seconds is None else seconds,
            example.median_before,
            example.median_before_fallback,
        )
        self._topics[place] = example.topic_id
        self._count += 1

    def measure(self) -> Quality | None:
        """Return how good predictions were over the window; None where it holds no answers."""
        if not self._count:
            return None
        rows, topics = self._rows[: len(self)], self._topics[: len(self)]
        versions = np.unique(rows["version"]).tolist()
        return Quality(
            _served(rows),
            figures(rows["correct"], rows["p_fallback"], rows["seconds"], rows["median_fallback"]),
            {str(version): _served(rows[rows["version"] == version]) for version in versions},
            {name: _served(rows[mine]) for name, mine in _slices(rows, topics) if mine.sum() >= LEAST_ANSWERS},
        )


_ROW = np.dtype([
    ("correct", bool),
    ("p", np.float64),
    ("p_fallback", np.float64),
    ("version", np.int64),
    ("difficulty", "U6"),
    ("new", bool),
    ("seconds", np.float64),  # NaN where unknown
    ("median", np.float64),
    ("median_fallback", np.float64),
])  # fmt: skip


def figures(
    correct: NDArray[np.bool_], p: NDArray[np.float64], seconds: NDArray[np.float64], median: NDArray[np.float64]
) -> Figures:
    """
    Return how good predictions were on answers, at least one.

    Args:
        correct: bool `(N,)`.
        p: That they would be right, `(N,)`.
        seconds: Response times, NaN where unknown, `(N,)`.
        median: What had been said of them, `(N,)`.
    """
    timed = ~np.isnan(seconds)
    return Figures(
        n=len(correct),
        logloss=float(log_losses(correct, p).mean()),
        auc=auc(correct, p),
        ece=min(calibration_error(correct, p), 1.0),
        time_mae_seconds=float(np.abs(seconds - median)[timed].mean()) if timed.any() else None,
    )


def _served(rows: NDArray[Any]) -> Figures:
    return figures(rows["correct"], rows["p"], rows["seconds"], rows["median"])


def _slices(rows: NDArray[Any], topics: list[str]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the slices, each bool `(N,)`: the most frequent topics, the difficulties, and new users."""
    names = np.array(topics, object)
    found = [(f"topic:{topic}", names == topic) for topic, _ in Counter(topics).most_common(MOST_TOPICS)]
    found += [(f"difficulty:{level}", rows["difficulty"] == level) for level in ("easy", "medium", "hard")]
    return [*found, ("users:new", rows["new"])]
