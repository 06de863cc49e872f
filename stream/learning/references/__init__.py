"""
What a network has to beat: reference models of correctness and of response time, fitted on the training users.

Simple ones are in `simple`, gradient boosting on the worker's features in `boosting`, the plain recurrent network in
`dkt`, networks on embeddings in `embeddings`. Pure.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stream.learning.history import History, Known
from stream.models.lnirt import MIN_SECONDS


@dataclass(frozen=True, slots=True)
class Prediction:
    """
    What a model said of every answer; of answers that it was not asked about, nothing that means anything.

    Attributes:
        p_correct: In (0, 1), `(N,)`; None if it says nothing of correctness.
        mu: Of the log response time in seconds, `(N,)`; None if it says nothing of time.
        sigma: Of the same, above 0, `(N,)`.
    """

    p_correct: NDArray[np.float64] | None
    mu: NDArray[np.float64] | None = None
    sigma: NDArray[np.float64] | None = None


class Reference(Protocol):
    """A model that is fitted once."""

    def fit(self, history: History, known: Known, training: NDArray[np.bool_], validation: NDArray[np.bool_]) -> Self:
        """
        Learn, and return itself.

        Args:
            history: Past answers.
            known: What was known before each.
            training: The answers to learn from, all of some users, bool `(N,)`.
            validation: Those that say when learning is over, all of other users, bool `(N,)`.
        """

    def predict(self, history: History, known: Known) -> Prediction:
        """Return what it says of every answer."""


def timed(history: History, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows of those chosen answers, bool `(N,)`, whose response time is known."""
    return np.flatnonzero(chosen & ~np.isnan(history.response_time_s))


def log_seconds(history: History) -> NDArray[np.float64]:
    """Return the log response time of every answer, `(N,)`, NaN where unknown."""
    return np.log(np.maximum(history.response_time_s.astype(np.float64), MIN_SECONDS))
