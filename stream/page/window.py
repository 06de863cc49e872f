"""How good predictions were over the latest answers: AUC, log loss, calibration, error of times. Pure."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.models.quality import auc, calibration_error, log_losses
from stream.page.shape import Bin, Quality, VersionQuality

MOST: Final = 20_000
"""Answers in a window at most: figures over more take too long to be made twice a second."""

_COLUMNS: Final = ("correct", "p", "p_fallback", "seconds", "median", "median_fallback", "version")
_BINS: Final = 10
_DIGITS: Final = 6


class Window:
    """
    The latest answers, and what was said before each.

    Args:
        size: Answers that count.
    """

    def __init__(self, size: int) -> None:
        self.size = min(size, MOST)
        self._rows = np.full((self.size, len(_COLUMNS)), np.nan)  # (W, 7)
        self._ids: list[str | None] = [None] * self.size
        self._place: dict[str, int] = {}
        self._count = 0
        self.changes = 0

    def add(
        self,
        id_: str,
        correct: bool,
        p: float,
        p_fallback: float,
        seconds: float | None,
        median: float,
        median_fallback: float,
        version: int,
    ) -> None:
        """
        Add an answer and what was said before it; the oldest one leaves.

        Raises:
            ValueError: If a probability is none.
            TypeError: If a number is none.
        """
        if not (0 <= p <= 1 and 0 <= p_fallback <= 1):
            raise ValueError(f"expected probabilities, found {p} and {p_fallback}")
        place = self._count % self.size
        old = self._ids[place]
        # An id that came once more, after too many others to be known again, stands elsewhere already.
        if old is not None and self._place.get(old) == place:
            del self._place[old]
        took = np.nan if seconds is None else seconds
        self._rows[place] = (correct, p, p_fallback, took, median, median_fallback, version)
        self._ids[place] = id_
        self._place[id_] = place
        self._count += 1
        self.changes += 1

    def correct(self, id_: str, correct: bool) -> None:
        """Put right how an answer came out, if it is among the latest."""
        place = self._place.get(id_)
        if place is not None:
            self._rows[place, 0] = correct
            self.changes += 1

    def quality(self) -> Quality:
        """Return the figures of what is there."""
        rows = self._rows[: min(self._count, self.size)]  # (N, 7)
        correct, p, p_fallback = rows[:, 0] > 0, rows[:, 1], rows[:, 2]
        area, loss, gap = _figures(correct, p)
        area_fallback, loss_fallback, _ = _figures(correct, p_fallback)
        return {
            "window": self.size,
            "n": len(rows),
            "auc": area,
            "logloss": loss,
            "ece": gap,
            "time_error_s": _error(rows[:, 3], rows[:, 4]),
            "auc_fallback": area_fallback,
            "logloss_fallback": loss_fallback,
            "time_error_fallback_s": _error(rows[:, 3], rows[:, 5]),
            "calibration": _bins(correct, p),
            "versions": [_of_version(int(version), rows) for version in np.unique(rows[:, 6]).tolist()],
        }


def _figures(correct: NDArray[np.bool_], p: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Return AUC, mean log loss and calibration error."""
    if not len(p):
        return None, None, None
    area = auc(correct, p)
    loss, gap = float(log_losses(correct, p).mean()), calibration_error(correct, p)
    return None if area is None else round(area, _DIGITS), round(loss, _DIGITS), round(gap, _DIGITS)


def _error(seconds: NDArray[np.float64], median: NDArray[np.float64]) -> float | None:
    """Return the mean absolute error of what was said to take how long, where it is known."""
    known = ~np.isnan(seconds)
    return round(float(np.abs(seconds - median)[known].mean()), _DIGITS) if known.any() else None


def _bins(correct: NDArray[np.bool_], p: NDArray[np.float64]) -> list[Bin]:
    place = np.minimum((p * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    said, right = np.bincount(place, p, _BINS), np.bincount(place, correct, _BINS)
    return [
        {
            "from": number / _BINS,
            "to": (number + 1) / _BINS,
            "n": n,
            "said": round(total / n, _DIGITS) if n else None,
            "right": round(hits / n, _DIGITS) if n else None,
        }
        for number, (n, total, hits) in enumerate(zip(counts.tolist(), said.tolist(), right.tolist(), strict=True))
    ]


def _of_version(version: int, rows: NDArray[np.float64]) -> VersionQuality:
    of = rows[rows[:, 6] == version]
    area, loss, gap = _figures(of[:, 0] > 0, of[:, 1])
    return {
        "version": version, "n": len(of), "auc": area, "logloss": loss, "ece": gap,
        "time_error_s": _error(of[:, 3], of[:, 4]),
    }  # fmt: skip
