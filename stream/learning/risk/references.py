"""
What a risk model has to be better than: models made for one day each, on the newest step and the enrolment.

None of them serves: each knows its own day only, of courses that run as they did.
"""

from collections.abc import Callable
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stream.learning.risk.snapshots import AT_RISK, Snapshots
from stream.models.risk_network import Vocabulary


def _logistic(_seed: int) -> Any:  # noqa: ANN401 (scikit-learn has no type for what can fit)
    return make_pipeline(
        SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression(C=0.1, max_iter=300)
    )


def _boosting(seed: int) -> Any:  # noqa: ANN401 (scikit-learn has no type for what can fit)
    """Return boosting with the settings that were best of those tried for a single day."""
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=120, max_leaf_nodes=12, min_samples_leaf=60, l2_regularization=5.0,
        early_stopping=False, random_state=seed,
    )  # fmt: skip
    # It takes NaN for a value of its own, but no column of nothing else.
    return make_pipeline(SimpleImputer(strategy="constant", fill_value=_UNKNOWN, keep_empty_features=True), boosting)


_UNKNOWN = -1e4
"""Far from every value: a branch of its own."""

REFERENCES: Final[dict[str, Callable[[int], Any]]] = {"logistic": _logistic, "boosting_by_day": _boosting}


class ByDay:
    """
    One model for each day.

    Args:
        vocabulary: What is known of enrolments.
        make: Returns a model that is still to be fitted; called with the seed.
        seed: Of everything random.
    """

    def __init__(self, vocabulary: Vocabulary, make: Callable[[int], Any], seed: int) -> None:
        self._vocabulary = vocabulary
        self._make = make
        self._seed = seed
        self._of_day: dict[int, Any] = {}

    def fit(self, learned: Snapshots, day: NDArray[np.int64]) -> Self:
        """Learn from users at days, `(N,)`."""
        inputs, at_risk = self._inputs(learned), learned.outcome >= AT_RISK
        for each in np.unique(day).tolist():
            self._of_day[each] = self._make(self._seed).fit(inputs[day == each], at_risk[day == each])
        return self

    def predict(self, asked: Snapshots, day: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability of being at risk, `(N,)`; of no other days than it has learned from."""
        inputs, p = self._inputs(asked), np.zeros(len(day))
        for each in np.unique(day).tolist():
            p[day == each] = self._of_day[each].predict_proba(inputs[day == each])[:, 1]
        return p

    def _inputs(self, snapshots: Snapshots) -> NDArray[np.float32]:
        inputs = self._vocabulary.inputs(snapshots.seen)
        newest = inputs.steps[:, -1].astype(np.float32)
        return np.concatenate([newest, inputs.facts, inputs.numbers], axis=1)
