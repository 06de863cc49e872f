"""
How good predictions were over the latest that were judged, of all workers: overall, by version, and by slice.

Pure. Each was made before it was known what came, so this is progressive (prequential) quality: nothing is held out.
The metrics that show it are in `stream.telemetry`; what is done about it, in `drift` and `rollback`.

Source:
    Dawid 1984, Statistical theory: the prequential approach.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas import Figures
from stream.learning.judged import Judged
from stream.models.quality import auc, calibration_error, log_losses

MOST_VALUES: Final = 10
"""Of a field, the most frequent ones: so many slices it has at most."""

LEAST_JUDGED: Final = 50
"""Predictions of a slice: of fewer, an AUC says little (its standard error is above .07)."""


@dataclass(frozen=True, slots=True)
class Quality:
    """
    How good predictions were.

    Attributes:
        overall: Of what served.
        fallback: Of the fallback, on the same.
        versions: Of what served, by its version; "0" is the fallback.
        slices: Of what served, by `FIELD:VALUE`: `topic:ratios`, `users:new`, `gender:F`.
    """

    overall: Figures
    fallback: Figures
    versions: dict[str, Figures]
    slices: dict[str, Figures]


Figured = Callable[[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], Figures]
"""Makes figures of what came, `(N,)`, what was said, the seconds that it took, and what was said of these."""


class Watch:
    """
    The latest predictions that were judged. Keeps nothing that names a user.

    Args:
        window: Predictions that count.
        figured: What is said of them; `figures` if not given.
    """

    def __init__(self, window: int, figured: Figured | None = None) -> None:
        self._figured = figured or figures
        self._rows = np.zeros(window, _ROW)
        self._slices: list[tuple[tuple[str, str], ...]] = [()] * window
        self._count = 0

    def __len__(self) -> int:
        """Return how many predictions count now."""
        return min(self._count, len(self._rows))

    def add(self, judged: Judged) -> None:
        """Add a prediction, judged the latest of all."""
        place = self._count % len(self._rows)
        self._rows[place] = (
            judged.happened, judged.p, judged.p_fallback, judged.version,
            judged.seconds, judged.median, judged.median_fallback,
        )  # fmt: skip
        self._slices[place] = judged.slices
        self._count += 1

    def measure(self) -> Quality | None:
        """Return how good predictions were over the window; None where it holds none."""
        if not self._count:
            return None
        rows = self._rows[: len(self)]
        versions = np.unique(rows["version"]).tolist()
        return Quality(
            self._served(rows),
            self._figured(rows["happened"], rows["p_fallback"], rows["seconds"], rows["median_fallback"]),
            {str(version): self._served(rows[rows["version"] == version]) for version in versions},
            {name: self._served(rows[mine]) for name, mine in self._sliced()},
        )

    def _served(self, rows: NDArray[Any]) -> Figures:
        return self._figured(rows["happened"], rows["p"], rows["seconds"], rows["median"])

    def _sliced(self) -> Iterator[tuple[str, list[int]]]:
        """Yield the slices with enough predictions, and their rows: of each field, the most frequent values."""
        fields: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for row, slices in enumerate(self._slices[: len(self)]):
            for field, value in slices:
                fields[field][value].append(row)
        for field, values in fields.items():
            frequent = sorted(values, key=lambda value: -len(values[value]))[:MOST_VALUES]
            yield from ((f"{field}:{value}", values[value]) for value in frequent if len(values[value]) >= LEAST_JUDGED)


_ROW = np.dtype([
    ("happened", bool),
    ("p", np.float64),
    ("p_fallback", np.float64),
    ("version", np.int64),
    ("seconds", np.float64),  # NaN where unknown
    ("median", np.float64),
    ("median_fallback", np.float64),
])  # fmt: skip


def figures(
    happened: NDArray[np.bool_], p: NDArray[np.float64], seconds: NDArray[np.float64], median: NDArray[np.float64]
) -> Figures:
    """
    Return how good predictions were, of at least one.

    Args:
        happened: Whether it came, bool `(N,)`.
        p: That it would, `(N,)`.
        seconds: Response times, NaN where unknown, `(N,)`.
        median: What had been said of them, `(N,)`.
    """
    timed = ~np.isnan(seconds)
    return Figures(
        n=len(happened),
        logloss=float(log_losses(happened, p).mean()),
        auc=auc(happened, p),
        ece=min(calibration_error(happened, p), 1.0),
        time_mae_seconds=float(np.abs(seconds - median)[timed].mean()) if timed.any() else None,
    )
