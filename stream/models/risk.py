"""
Risk of failing or leaving, as a logistic score of a few features: what answers where no model of risk serves.

Pure, and on batches. The weights are ours, not learned: each is the change in log odds for the step named beside it,
of the size that the at-risk literature reports for attendance and marks (Arnold & Pistilli 2012, Course Signals;
Kuzilek et al. 2015, OU Analyse).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.models.lnirt import sigmoid
from stream.models.weekly import COLUMN, Seen
from stream.ports import Identity, Risks

RISK: Final = "risk"
"""The name of the risk model, on topics and in the store."""

FACTORS: Final = 5
"""Factors that a prediction names, at most."""

LEAST_FACTOR: Final = 0.05
"""Log odds: what moves a score by less than about a hundredth is not named."""

_WEIGHTS: Final = (
    # feature, neutral value, log odds for each unit
    ("absent_rate", 0.05, 4.0),
    ("late_rate", 0.05, 2.0),
    ("absence_trend", 0.0, 1.5),
    ("grade_mean", 0.70, -5.0),
    ("missing", 0.0, 0.6),
    ("severity_recent", 0.0, 0.35),
    ("success_rate", 0.65, -2.0),
    ("days_since_seen", 0.0, 0.04),
)
_INTERCEPT = -1.4  # a fifth at risk where all is neutral
_NEUTRAL_LECTURES, _NEUTRAL_GRADES, _NEUTRAL_ANSWERS = 4, 2, 10
"""Added to what there is: one lecture missed of one says little."""

_NAMES: Final = tuple(name for name, *_ in _WEIGHTS)
_COLUMNS: Final = [COLUMN[name] for name in _NAMES]
_NEUTRAL: Final = np.array([neutral for _, neutral, _ in _WEIGHTS], np.float32)
_SLOPES: Final = np.array([slope for *_, slope in _WEIGHTS], np.float32)


class LogisticRisk:
    """A `RiskModel` without an artifact."""

    identity = Identity(RISK, 0, "fallback", "none")

    def score(self, seen: Seen) -> Risks:
        """Return the risks of users; what is not known of them counts as neutral."""
        values = seen.steps[:, -1, _COLUMNS]
        known = np.where(np.isnan(values), _NEUTRAL, values)
        contributions = (known - _NEUTRAL) * _SLOPES * _certainty(seen)
        return Risks(sigmoid(_INTERCEPT + contributions.sum(axis=1)), _NAMES, contributions, values)


def _certainty(seen: Seen) -> NDArray[np.float32]:
    """Return how far values are to be trusted, in [0, 1], `(N, F)`: by lectures and answers of ten weeks, and work."""
    certainty = np.ones((len(seen), len(_NAMES)), np.float32)
    lectures = seen.steps[:, :, COLUMN["lectures_week"]].sum(axis=1)
    answers = np.nan_to_num(np.expm1(seen.steps[:, :, COLUMN["answers_week"]])).sum(axis=1)
    works = seen.steps[:, -1, COLUMN["handed_in"]]
    for names, number, neutral in (
        (("absent_rate", "late_rate", "absence_trend"), lectures, _NEUTRAL_LECTURES),
        (("grade_mean",), works, _NEUTRAL_GRADES),
        (("success_rate",), answers, _NEUTRAL_ANSWERS),
    ):
        for name in names:
            certainty[:, _NAMES.index(name)] = number / (number + neutral)
    return certainty
