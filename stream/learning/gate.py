"""
Whether a candidate goes live: a comparison on answers that came after it was frozen.

Pure. The candidate predicts each of them from the answers before it, through the artifact that would be served; what
served, and the fallback, are taken by what they really said. Users, not answers, count as independent.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.models.quality import auc, log_losses

LEVEL_Z = 1.645
"""One-sided 95%. Each candidate is judged once, on fresh answers."""

AUC_MARGIN = 0.002
"""A candidate may lose this much AUC for its better log loss."""


@dataclass(frozen=True, slots=True)
class Compared:
    """
    Predictions of the same answers.

    Attributes:
        user: Whose answer, any integers, `(N,)`.
        correct: bool `(N,)`.
        p_candidate: `(N,)`.
        p_serving: `(N,)`.
        p_fallback: `(N,)`.
    """

    user: NDArray[np.int64]
    correct: NDArray[np.bool_]
    p_candidate: NDArray[np.float32]
    p_serving: NDArray[np.float32]
    p_fallback: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What the gate decided.

    Attributes:
        promoted: Whether the candidate goes live.
        falls_back: Whether what serves is to give way to the fallback.
        reason: A sentence.
        z: Of the difference in log loss between what serves and the candidate, clustered by user; above 0 the
            candidate is better.
        logloss: Of candidate, serving and fallback.
        auc: Of the same, None where it is not defined.
    """

    promoted: bool
    falls_back: bool
    reason: str
    z: float
    logloss: tuple[float, float, float]
    auc: tuple[float | None, float | None, float | None]


def decide(compared: Compared) -> Decision:
    """Return whether the candidate is better than what serves, the fallback included, on the same answers."""
    said = (compared.p_candidate, compared.p_serving, compared.p_fallback)
    losses = [log_losses(compared.correct, p) for p in said]
    means = (float(losses[0].mean()), float(losses[1].mean()), float(losses[2].mean()))
    areas = (auc(compared.correct, said[0]), auc(compared.correct, said[1]), auc(compared.correct, said[2]))
    z = clustered_z(losses[1] - losses[0], compared.user)
    z_fallback = clustered_z(losses[2] - losses[0], compared.user)
    worse_auc = areas[0] is not None and areas[1] is not None and areas[0] < areas[1] - AUC_MARGIN
    falls_back = clustered_z(losses[1] - losses[2], compared.user) > LEVEL_Z
    if not np.isfinite(compared.p_candidate).all():
        return Decision(False, falls_back, "its predictions are not finite", z, means, areas)
    if z <= LEVEL_Z or z_fallback <= LEVEL_Z:
        against = "what serves" if z <= z_fallback else "the fallback"
        reason = f"its log loss is not better than that of {against} at 95%"
        return Decision(False, falls_back, reason, z, means, areas)
    if worse_auc:
        return Decision(False, falls_back, f"its AUC is lower by more than {AUC_MARGIN}", z, means, areas)
    return Decision(True, False, "its log loss is better at 95%", z, means, areas)


def clustered_z(gain: NDArray[np.float64], user: NDArray[np.int64]) -> float:
    """
    Return the mean gain over its standard error, with answers of one user taken as dependent.

    0 for fewer than two users.
    """
    _, index = np.unique(user, return_inverse=True)
    users = int(index.max(initial=-1)) + 1
    if users < 2:  # noqa: PLR2004 (no spread of one)
        return 0.0
    sums = np.bincount(index, gain - gain.mean())
    error = math.sqrt(float((sums**2).sum()) * users / (users - 1)) / len(gain)
    return float(gain.mean()) / error if error > 0 else 0.0
