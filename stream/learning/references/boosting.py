"""
Gradient-boosted trees on the worker's features: what can be made of them without a network.

Source:
    Friedman 2001, Greedy function approximation: a gradient boosting machine; Ke et al. 2017, LightGBM (the trees on
    histograms that scikit-learn's are made after).
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from stream.learning.calibration import spread
from stream.learning.history import History, Known
from stream.learning.references import Prediction, log_seconds, timed

_MOST_TREES = 500
_LEARNING_RATE = 0.1
_LEAVES = 31
_PATIENCE = 20
"""Trees that did not help the validation users after which training stops."""


class Boosting:
    """
    One ensemble of trees for correctness, one for the median of the log response time.

    Args:
        seed: Of everything random.
    """

    def __init__(self, seed: int) -> None:
        settings = {
            "learning_rate": _LEARNING_RATE,
            "max_iter": _MOST_TREES,
            "max_leaf_nodes": _LEAVES,
            "early_stopping": True,
            "n_iter_no_change": _PATIENCE,
            "random_state": seed,
        }
        self._correctness: Any = HistGradientBoostingClassifier(**settings)
        # The absolute error's best guess is the median, which a single answer left open over lunch does not move.
        self._time: Any = HistGradientBoostingRegressor(loss="absolute_error", **settings)
        self._sigma: float | None = None

    def fit(self, history: History, known: Known, training: NDArray[np.bool_], validation: NDArray[np.bool_]) -> Self:
        """Grow trees for as long as they help on the validation answers, whose errors are the spread of times."""
        x, correct = known.features, history.correct
        self._correctness.fit(x[training], correct[training], X_val=x[validation], y_val=correct[validation])
        rows, held_out = timed(history, training), timed(history, validation)
        if len(rows) and len(held_out):
            log_s = log_seconds(history)
            self._time.fit(x[rows], log_s[rows], X_val=x[held_out], y_val=log_s[held_out])
            self._sigma = spread(log_s[held_out] - self._time.predict(x[held_out]))
        return self

    def predict(self, history: History, known: Known) -> Prediction:  # noqa: ARG002
        """Return the probabilities, and the medians where response times were to be learned from."""
        p_correct = self._correctness.predict_proba(known.features)[:, 1]
        if self._sigma is None:
            return Prediction(p_correct)
        mu = self._time.predict(known.features)
        return Prediction(p_correct, mu, np.full(len(mu), self._sigma))
