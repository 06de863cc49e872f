"""How good predictions were over the latest answers of this worker, by the model's part and by its version."""

import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from stream.models.quality import auc, calibration_error, log_losses
from stream.ports import OBSERVED, Observed

VOICES: Final = ("serving", "fallback", "challenger")
"""Of an answer, the fields of `OBSERVED` that begin with these."""


class LiveFigures(NamedTuple):
    """
    How good predictions of one version were.

    Attributes:
        auc: NaN where all answers were right, or all wrong.
        logloss: Mean, nats.
        ece: Expected calibration error, 10 bins.
        time_error_s: Mean absolute error of the median response time; NaN where no time is known.
    """

    auc: float
    logloss: float
    ece: float
    time_error_s: float


class LiveQuality:
    """
    Outcomes beside what had been said of them.

    Args:
        window: Answers that count.
    """

    def __init__(self, window: int) -> None:
        self._rows = np.zeros(window, OBSERVED)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, observed: Observed) -> None:
        """Add answers, the oldest first, `(A,)`."""
        with self._lock:
            window = len(self._rows)
            rows = observed[-window:]
            self._rows[(self._count + np.arange(len(rows))) % window] = rows
            self._count += len(rows)

    def figures(self) -> Iterator[tuple[str, int, LiveFigures]]:
        """Yield each voice, each of its versions that said something, and its figures over what it said."""
        with self._lock:
            rows = self._rows[: min(self._count, len(self._rows))].copy()
        for voice in VOICES:
            said = rows[~np.isnan(rows[f"{voice}_p"])]
            for version in np.unique(said[f"{voice}_version"]).tolist():
                yield voice, version, _figures(said[said[f"{voice}_version"] == version], voice)


def _figures(rows: Observed, voice: str) -> LiveFigures:
    correct, p = rows["correct"], rows[f"{voice}_p"]
    area, late_s = auc(correct, p), np.abs(rows["seconds"] - rows[f"{voice}_median_s"])
    is_timed = ~np.isnan(late_s)
    return LiveFigures(
        auc=float("nan") if area is None else area,
        logloss=float(log_losses(correct, p).mean()),
        ece=calibration_error(correct, p),
        time_error_s=float(late_s[is_timed].mean()) if is_timed.any() else float("nan"),
    )
