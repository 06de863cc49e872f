"""
What is watched of risk while it is live: how good it was, and whether it errs as often over some as over others.

Pure. Over the weeks of users that were judged latest, which is weeks after they were scored; by the fields of an
enrolment that `STREAM_RISK_SLICES` names. The window and the slices are `stream.learning.watch`'s, the error rates
`stream.learning.risk.fairness`'s.
"""

import numpy as np
from numpy.typing import NDArray

from schemas import Figures
from stream.learning import watch
from stream.learning.risk.fairness import by_slice


def figures(
    at_risk: NDArray[np.bool_], score: NDArray[np.float64], seconds: NDArray[np.float64], median: NDArray[np.float64]
) -> Figures:
    """
    Return how good scores were on weeks of users, at least one, and how they erred.

    Args:
        at_risk: Whether these users failed or withdrew, bool `(N,)`.
        score: What was said, `(N,)`.
        seconds: NaN, `(N,)`: no time is said of a risk.
        median: NaN, `(N,)`.
    """
    (of,) = by_slice([""] * len(score), at_risk, score).values()
    found = watch.figures(at_risk, score, seconds, median)
    return found.model_copy(
        update={"base_rate": of.base_rate, "mean_score": of.mean_score, "fpr": of.fpr, "fnr": of.fnr}
    )
