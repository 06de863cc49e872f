"""
Risk of failing or leaving, as a logistic score of ten weeks and the history: the fallback of the risk model.

Pure, and on batches. The weights are ours, not learned: each is the change in log odds for the step named beside it,
of the size that the at-risk literature reports for attendance and marks (Arnold & Pistilli 2012, Course Signals;
Kuzilek et al. 2015, OU Analyse).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.models.lnirt import sigmoid
from stream.state import academic, learner
from stream.state.academic import WEEKS

NAME = "risk"

_FEATURES = (
    # name, neutral value, log odds for each unit
    ("absence_rate", 0.05, 4.0),  # share of lectures missed; late counts half, excused not at all
    ("recent_absence", 0.0, 1.5),  # absence of the newest two weeks less that of all
    ("grade_mean", 0.70, -5.0),  # mean share of points
    ("incidents", 0.0, 0.35),  # minor 1, moderate 2, major 4
    ("success_rate", 0.65, -2.0),  # right answers, with ten neutral ones added
    ("days_without_practice", 0.0, 0.06),  # up to 30
)
_INTERCEPT = -1.4  # a fifth at risk where all is neutral
_SEVERITY_WEIGHTS = np.array([1, 2, 4])
_NEUTRAL_ANSWERS, _NEUTRAL_LECTURES, _NEUTRAL_GRADES = 10, 4, 2
_MAX_QUIET_DAYS = 30
FACTORS = 5


@dataclass(frozen=True, slots=True)
class Risks:
    """
    Scores and what they are made of, one row a user.

    Attributes:
        score: In (0, 1), `(N,)`.
        contributions: Log odds that each feature adds to a neutral user's, `(N, F)`.
    """

    score: NDArray[np.float32]
    contributions: NDArray[np.float64]

    def factors(self) -> list[list[tuple[str, float]]]:
        """Return the strongest features of each user with sign and size, at most `FACTORS`, the strongest first."""
        order = (-np.abs(self.contributions)).argsort(axis=1, kind="stable")[:, :FACTORS]
        sizes = self.contributions[np.arange(len(order))[:, None], order]
        return [
            [(_FEATURES[f][0], size) for f, size in zip(*of_user, strict=True) if size != 0]
            for of_user in zip(order.tolist(), sizes.tolist(), strict=True)
        ]


def score(learners: learner.Records, academics: academic.Records, at: NDArray[np.float64]) -> Risks:
    """
    Return the risk of users.

    Args:
        learners: Their histories, `(N,)`.
        academics: Their weekly steps, `(N,)`.
        at: The moment of scoring, event time in seconds since the epoch, `(N,)`.
    """
    week = academics["week"].astype(np.int64)  # (N, WEEKS)
    newest = week.max(axis=1, initial=0)[:, None]
    kept = (week > 0) & (week > newest - WEEKS)
    recent = (week > 0) & (week > newest - 2)

    attendance = academics["attendance"].astype(np.float64)  # (N, WEEKS, 4)
    missed, held = _lectures(attendance, kept)
    missed_lately, held_lately = _lectures(attendance, recent)
    absence = _share(missed, held, _NEUTRAL["absence_rate"], _NEUTRAL_LECTURES)
    absence_lately = _share(missed_lately, held_lately, _NEUTRAL["absence_rate"], _NEUTRAL_LECTURES)
    grades = (academics["grades"] * kept).sum(axis=1)
    grade_sum = (academics["grade_sum"].astype(np.float64) * kept).sum(axis=1)
    success = (learners["correct"] + _NEUTRAL["success_rate"] * _NEUTRAL_ANSWERS) / (
        learners["answers"] + _NEUTRAL_ANSWERS
    )
    last_at = learners["last_at"]
    quiet_days = np.minimum(np.maximum((at - last_at) / 86_400, 0), _MAX_QUIET_DAYS)
    values = np.array(
        [
            absence,
            np.where(held_lately > 0, absence_lately - absence, 0.0),
            _share(grade_sum, grades, _NEUTRAL["grade_mean"], _NEUTRAL_GRADES),
            (academics["incidents"] * kept[..., None]).sum(axis=1) @ _SEVERITY_WEIGHTS,
            success,
            np.where(last_at > 0, quiet_days, 0),
        ]
    ).T  # (N, F)
    contributions = (values - _NEUTRAL_VALUES) * _WEIGHTS
    return Risks(sigmoid((_INTERCEPT + contributions.sum(axis=1)).astype(np.float32)), contributions)


_NEUTRAL = {name: value for name, value, _ in _FEATURES}
_NEUTRAL_VALUES = np.array(list(_NEUTRAL.values()))
_WEIGHTS = np.array([weight for *_, weight in _FEATURES])


def _lectures(
    attendance: NDArray[np.float64], weeks: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lectures missed and held in the weeks chosen, excused ones left out, each `(N,)`."""
    present, absent, late, _ = (attendance * weeks[..., None]).sum(axis=1).T
    return absent + late / 2, present + absent + late


def _share(part: NDArray[np.float64], whole: NDArray[np.float64], neutral: float, weight: int) -> NDArray[np.float64]:
    """Return a share with `weight` neutral ones added: one lecture missed of one says little."""
    return np.asarray((part + neutral * weight) / (whole + weight))
