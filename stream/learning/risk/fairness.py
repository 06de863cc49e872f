"""
Whether risk is said as well of some as of others: figures by the slices of a field, such as `disability`.

Pure. A field that is watched is never a feature: see `stream.settings`. What a difference means is for people to say;
groups differ in their base rates, and then no score can be calibrated and equal in its error rates at once.

Source:
    Gardner, Brooks & Baker 2019, Evaluating the fairness of predictive student models through slicing analysis, LAK
    (ABROCA); Kleinberg, Mullainathan & Raghavan 2017, Inherent trade-offs in the fair determination of risk scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.predictions import RISK_LIMITS
from stream.models.quality import auc, calibration_error

_, HIGH, _ = RISK_LIMITS
"""Score from which on a user's category is High or Critical."""


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """
    What was said of a group, beside what came; None where the group lacks those whom a figure is about.

    Attributes:
        n: Users in it, or snapshots of users.
        base_rate: Share that failed or withdrew.
        mean_score: Of what was said.
        fpr: Share said to be High, of those that passed.
        fnr: Share not said to be High, of those that failed or withdrew.
        auc: Within the group.
        ece: Expected calibration error within the group, ten bins.
    """

    n: int
    base_rate: float
    mean_score: float
    fpr: float | None
    fnr: float | None
    auc: float | None
    ece: float


def by_slice(
    field_values: Sequence[str], at_risk: NDArray[np.bool_], score: NDArray[np.floating]
) -> dict[str, SliceFigures]:
    """
    Return the figures of each group, the largest first, of equally large ones by name.

    Args:
        field_values: Group of each row, `(N,)`.
        at_risk: Whether what is at risk came, `(N,)`.
        score: What was said, in [0, 1], `(N,)`.
    """
    return {group: _figures(at_risk[rows], score[rows]) for group, rows in rows_of(field_values).items()}


def rows_of(field_values: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each group, the largest first, of equally large ones by name."""
    names, group = np.unique(np.asarray(field_values, str), return_inverse=True)
    rows = {str(name): np.flatnonzero(group == place) for place, name in enumerate(names)}
    return dict(sorted(rows.items(), key=lambda of: (-len(of[1]), of[0])))


def _figures(at_risk: NDArray[np.bool_], score: NDArray[np.floating]) -> SliceFigures:
    is_high = score >= HIGH
    return SliceFigures(
        n=len(score),
        base_rate=float(at_risk.mean()),
        mean_score=float(score.mean()),
        fpr=_share(is_high[~at_risk]),
        fnr=_share(~is_high[at_risk]),
        auc=auc(at_risk, score),
        ece=calibration_error(at_risk, score),
    )


def _share(of: NDArray[np.bool_]) -> float | None:
    return float(of.mean()) if len(of) else None


def abroca(
    field_values: Sequence[str], at_risk: NDArray[np.bool_], score: NDArray[np.floating]
) -> dict[str, float | None]:
    """
    Return the area between each group's ROC curve and that of the largest group, in [0, 1]; arguments as `by_slice`.

    0 says that the score ranks both groups equally well at every threshold. A small group's is above 0 by chance
    alone. None where one of the two groups lacks those at risk, or the others.
    """
    rows = rows_of(field_values)
    curves = {group: roc(at_risk[of], score[of]) for group, of in rows.items()}
    largest = next(iter(curves.values()), None)
    return {
        group: None if curve is None or largest is None else area_between(largest, curve)
        for group, curve in curves.items()
    }


Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""False and true positive rates, from (0, 0) to (1, 1), one point for each threshold."""


def roc(at_risk: NDArray[np.bool_], score: NDArray[np.floating]) -> Curve | None:
    """Return a group's ROC curve; None if it lacks those at risk, or the others."""
    positives, negatives = int(at_risk.sum()), int((~at_risk).sum())
    if positives == 0 or negatives == 0:
        return None
    order = (-score).argsort(kind="stable")
    is_last = np.append(np.diff(score[order]) != 0, True)  # of equal scores
    hits, alarms = (np.cumsum(of[order])[is_last] for of in (at_risk, ~at_risk))
    return np.append(0.0, alarms / negatives), np.append(0.0, hits / positives)


def area_between(a: Curve, b: Curve) -> float:
    """Return the area between two ROC curves, exact for the straight lines between their points."""
    edges = np.unique(np.concatenate([a[0], b[0]]))
    low, high = edges[:-1], edges[1:]
    (a_low, a_high), (b_low, b_high) = (_between(curve, low, high) for curve in (a, b))
    left, right = a_low - b_low, a_high - b_high
    crosses = left * right < 0
    # Two triangles where the curves cross within an interval, else a trapezium.
    size = np.abs(left) + np.abs(right)
    mean = np.where(crosses, (left**2 + right**2) / np.where(size > 0, 2 * size, 1.0), size / 2)
    return float((mean * (high - low)).sum())


def _between(
    curve: Curve, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a curve at both ends of intervals within which it has no point: just after `low`, just before `high`."""
    x, y = curve
    start = np.searchsorted(x, low, side="right") - 1  # the upper end of a vertical piece
    slope = (y[start + 1] - y[start]) / (x[start + 1] - x[start])
    return y[start] + slope * (low - x[start]), y[start] + slope * (high - x[start])
