"""
What a network has to beat: simple models of correctness and of response time, fitted on the training users.

Pure.

Source:
    Pavlik, Cen, Koedinger 2009, Performance factors analysis (a logistic regression on counts).
"""

from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stream.learning.history import History, Known
from stream.models.features import COLUMN
from stream.models.lnirt import MIN_SECONDS, Z_90

_RIDGE = 1.0
_STEPS = 25


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

    def fit(self, history: History, known: Known, mine: NDArray[np.bool_]) -> Self:
        """Learn from some answers, bool `(N,)`, and return itself."""

    def predict(self, history: History, known: Known) -> Prediction:
        """Return what it says of every answer."""


class ItemMean:
    """The share of right answers that the training users gave to the item, as `item-parameters` have it."""

    def fit(self, history: History, known: Known, mine: NDArray[np.bool_]) -> Self:  # noqa: ARG002 (known already)
        """Learn nothing: what is known of items was learned from the training users."""
        return self

    def predict(self, history: History, known: Known) -> Prediction:  # noqa: ARG002
        """Return the item's rate, or its topic's."""
        return Prediction(known.features[:, COLUMN["item_rate"]].astype(np.float64))


@dataclass(slots=True)
class Logistic:
    """Logistic regression on logarithms of counts of right and wrong answers: all, on the topic, on the item."""

    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def fit(self, history: History, known: Known, mine: NDArray[np.bool_]) -> Self:
        """Find the weights by Newton's method, with a small ridge."""
        x, y = _counts(known.features[mine]), history.correct[mine].astype(np.float64)
        weights = np.zeros(x.shape[1])
        ridge = np.full(x.shape[1], _RIDGE)
        for _ in range(_STEPS):
            p = _sigmoid(x @ weights)
            gradient = x.T @ (y - p) - ridge * weights
            step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge), gradient)
            weights += step
            if np.abs(step).max() < 1e-6:  # noqa: PLR2004 (found)
                break
        self.weights = weights
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
        self._all = 0.0
        self._of_item: dict[int, float] = {}
        self._sigma = 1.0
        self._usual_speed = 0.0

    def fit(self, history: History, known: Known, mine: NDArray[np.bool_]) -> Self:
        """Learn the medians, and how far the answers lie about them."""
        rows = np.flatnonzero(mine & ~np.isnan(history.response_time_s))
        if not len(rows):
            return self
        log_s = np.log(np.maximum(history.response_time_s[rows].astype(np.float64), MIN_SECONDS))
        # Item medians are those of the usual user, whose speed need not be 0.
        self._usual_speed = float(np.mean(known.features[rows, COLUMN["speed"]]))
        self._all = float(np.median(log_s))
        if self._by_item:
            items = np.array([history.questions[row].item for row in rows.tolist()], np.uint64)
            order = np.argsort(items, kind="stable")
            keys, first = np.unique(items[order], return_index=True)
            parts = np.split(log_s[order], first[1:])
            self._of_item = dict(zip(keys.tolist(), (float(np.median(part)) for part in parts), strict=True))
        error = log_s - self._mu(history, known)[rows]
        self._sigma = max(float(np.quantile(np.abs(error), 0.8)) / Z_90, 1e-3)
        return self

    def predict(self, history: History, known: Known) -> Prediction:
        """Return the medians."""
        mu = self._mu(history, known)
        return Prediction(None, mu, np.full(len(mu), self._sigma))

    def _mu(self, history: History, known: Known) -> NDArray[np.float64]:
        mu = np.array([self._of_item.get(asked.item, self._all) for asked in history.questions])
        return mu + self._usual_speed - known.features[:, COLUMN["speed"]] if self._by_user else mu
