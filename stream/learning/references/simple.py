"""
Models that one could fit by hand: rates, a regression on counts, medians.

Source:
    Pavlik, Cen, Koedinger 2009, Performance factors analysis (a logistic regression on counts).
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream.learning.calibration import logistic_weights, spread
from stream.learning.history import History, Known
from stream.learning.references import Prediction, log_seconds, timed
from stream.models.features import COLUMN

_RIDGE = 1.0


class ItemMean:
    """The share of right answers that the training users gave to the item, as `item-parameters` have it."""

    def fit(
        self,
        history: History,  # noqa: ARG002 (known already)
        known: Known,  # noqa: ARG002
        training: NDArray[np.bool_],  # noqa: ARG002
        validation: NDArray[np.bool_],  # noqa: ARG002
    ) -> Self:
        """Learn nothing: what is known of items was learned from the training users."""
        return self

    def predict(self, history: History, known: Known) -> Prediction:  # noqa: ARG002
        """Return the item's rate, or its topic's."""
        return Prediction(known.features[:, COLUMN["item_rate"]].astype(np.float64))


@dataclass(slots=True)
class Logistic:
    """Logistic regression on logarithms of counts of right and wrong answers: all, on the topic, on the item."""

    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def fit(
        self,
        history: History,
        known: Known,
        training: NDArray[np.bool_],
        validation: NDArray[np.bool_],  # noqa: ARG002 (few weights need no stopping)
    ) -> Self:
        """Find the weights by Newton's method, with a small ridge."""
        x, y = _counts(known.features[training]), history.correct[training].astype(np.float64)
        self.weights = logistic_weights(x, y, np.zeros(x.shape[1]), _RIDGE)
        return self

    def predict(self, history: History, known: Known) -> Prediction:  # noqa: ARG002
        """Return the probabilities."""
        return Prediction(_sigmoid(_counts(known.features) @ self.weights))


def _counts(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the inputs of the regression, `(N, 11)`."""
    of = {name: features[:, column].astype(np.float64) for name, column in COLUMN.items()}
    inputs = [np.ones(len(features))]
    for rate, answers, scale in (("rate", "answers", 100), ("topic_rate", "topic_answers", 20)):
        right = of[rate] * of[answers] * scale
        inputs += [np.log1p(right), np.log1p(of[answers] * scale - right)]
    inputs += [np.log1p(5 * of["item_seen"]), of["item_latest_correct"] - 0.5]
    item = np.clip(of["item_rate"], 0.01, 0.99)
    inputs += [np.log(item / (1 - item)), of["item_difficulty"], of["item_answers"], of["topic_rate"] - 0.5]
    return np.stack(inputs, axis=1)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -15, 15))))


class TimeMedian:
    """
    The median response time: of all, of the item, of the item times the user's pace so far.

    Args:
        by_item: Whether each item has its own.
        by_user: Whether it is multiplied by the user's speed, as LNIRT believes it.
    """

    def __init__(self, *, by_item: bool = False, by_user: bool = False) -> None:
        self._by_item, self._by_user = by_item, by_user
        self._all: float | None = None
        self._of_item: dict[int, float] = {}
        self._sigma = 1.0
        self._usual_speed = 0.0

    def fit(
        self,
        history: History,
        known: Known,
        training: NDArray[np.bool_],
        validation: NDArray[np.bool_],  # noqa: ARG002 (medians need no stopping)
    ) -> Self:
        """Learn the medians, and how far the answers lie about them."""
        rows = timed(history, training)
        if not len(rows):
            return self
        log_s = log_seconds(history)[rows]
        # Item medians are those of the usual user, whose speed need not be 0.
        self._usual_speed = float(np.mean(known.features[rows, COLUMN["speed"]]))
        self._all = float(np.median(log_s))
        if self._by_item:
            items = np.array([history.questions[row].item for row in rows.tolist()], np.uint64)
            order = np.argsort(items, kind="stable")
            keys, first = np.unique(items[order], return_index=True)
            parts = np.split(log_s[order], first[1:])
            self._of_item = dict(zip(keys.tolist(), (float(np.median(part)) for part in parts), strict=True))
        self._sigma = spread(log_s - self._mu(history, known, self._all)[rows])
        return self

    def predict(self, history: History, known: Known) -> Prediction:
        """Return the medians."""
        if self._all is None:
            return Prediction(None)
        mu = self._mu(history, known, self._all)
        return Prediction(None, mu, np.full(len(mu), self._sigma))

    def _mu(self, history: History, known: Known, of_all: float) -> NDArray[np.float64]:
        mu = np.array([self._of_item.get(asked.item, of_all) for asked in history.questions])
        return mu + self._usual_speed - known.features[:, COLUMN["speed"]] if self._by_user else mu
