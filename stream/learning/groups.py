"""
Answers in groups, and how well what was said of them held: what the page of an evaluation shows.

Pure.

Source:
    Wilson 1927 (intervals of shares); Hanley, McNeil 1982 (of AUC); Broecker, Smith 2007 (reliability diagrams).
"""
# ruff: noqa: RUF001 (ranges are shown with en dashes)

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream.models.lnirt import MIN_SECONDS, Z_90
from stream.models.quality import auc, log_losses

_Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Group:
    """
    Answers that are looked at together, and what was said of them.

    Attributes:
        name: As people read it.
        n: Answers. Where there are none, the shares are NaN.
        right: Share of right ones, in [0, 1].
        interval: 95%, of that share.
        p_correct: Mean of what was predicted.
        logloss: Mean.
        auc: None where all are right or all wrong.
    """

    name: str
    n: int
    right: float
    interval: tuple[float, float]
    p_correct: float
    logloss: float
    auc: float | None

    @classmethod
    def of(cls, name: str, correct: NDArray[np.bool_], p: NDArray[np.float64]) -> Self:
        """Return the group of some answers, bool `(n,)`, and their predictions, `(n,)`."""
        if not len(p):
            return cls(name, 0, math.nan, (math.nan, math.nan), math.nan, math.nan, None)
        interval = wilson(int(correct.sum()), len(p))
        losses = log_losses(correct, p)
        return cls(
            name, len(p), float(correct.mean()), interval, float(p.mean()), float(losses.mean()), auc(correct, p)
        )


@dataclass(frozen=True, slots=True)
class Timed:
    """
    Answers of about the same expected response time; all times in seconds.

    Attributes:
        n: Answers.
        span_s: Shortest and longest expected time of them.
        expected_s: Median of the expected times.
        observed_s: Median of the times taken.
        middle_s: Between which 80% of the times taken lie.
        inside: Share of times in the 80% interval that was predicted of each, in [0, 1].
        interval: 95%, of that share.
    """

    n: int
    span_s: tuple[float, float]
    expected_s: float
    observed_s: float
    middle_s: tuple[float, float]
    inside: float
    interval: tuple[float, float]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share, in [0, 1], as if each of the `n` were independent (Wilson 1927)."""
    share, z2 = hits / n, _Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def auc_interval(n: int, right: float, area: float) -> tuple[float, float]:
    """Return the 95% interval of an AUC over `n` answers, of which a share is right (Hanley, McNeil 1982)."""
    positives, negatives = n * right, n * (1 - right)
    squares = (positives - 1) * (area / (2 - area) - area**2) + (negatives - 1) * (2 * area**2 / (1 + area) - area**2)
    half = _Z_95 * math.sqrt(max(0.0, area * (1 - area) + squares) / (positives * negatives))
    return max(0.0, area - half), min(1.0, area + half)


def reliability(correct: NDArray[np.bool_], p: NDArray[np.float64], bins: int = 10) -> list[Group]:
    """Return a group for each bin of equal width, the empty ones too, as `quality.calibration_error` has them."""
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    names = [f"{100 * number // bins}–{100 * (number + 1) // bins}%" for number in range(bins)]
    return [Group.of(name, correct[place == number], p[place == number]) for number, name in enumerate(names)]


def by_history(turn: NDArray[np.int64], correct: NDArray[np.bool_], p: NDArray[np.float64]) -> list[Group]:
    """Return a group for each range of answers given before, `turn`, in which there are any; named by ordinals."""
    edges = np.array([0, *_UNTIL])
    place = np.searchsorted(edges, turn, side="right") - 1
    found = (Group.of(name, correct[place == number], p[place == number]) for number, name in enumerate(_ORDINALS))
    return [group for group in found if group.n]


_UNTIL = (1, 2, 5, 10, 20, 50, 100)
_ORDINALS = ("1st", "2nd", "3–5", "6–10", "11–20", "21–50", "51–100", ">100")


def by_skill(
    skill_rows: NDArray[np.int64], names: Sequence[str], correct: NDArray[np.bool_], p: NDArray[np.float64]
) -> list[Group]:
    """
    Return a group for each skill that was met, the largest first; an answer with several skills counts for each.

    Args:
        skill_rows: Of each answer, `(N, SKILLS)`: row `i + 1` is `names[i]`, 0 is none.
        names: Of the skills.
        correct: `(N,)`.
        p: What was predicted, `(N,)`.
    """
    answer, column = np.nonzero(skill_rows)
    skill = skill_rows[answer, column]
    order = np.argsort(skill, kind="stable")
    skills, first = np.unique(skill[order], return_index=True)
    parts = np.split(answer[order], first[1:]) if len(skills) else []
    groups = [
        Group.of(names[row - 1], correct[mine], p[mine]) for row, mine in zip(skills.tolist(), parts, strict=True)
    ]
    return sorted(groups, key=lambda group: (-group.n, group.name))


def by_expected_time(
    seconds: NDArray[np.float64], mu: NDArray[np.float64], sigma: NDArray[np.float64], bins: int = 8
) -> list[Timed]:
    """
    Return groups of about as many answers each, by expected time.

    Args:
        seconds: Times taken, `(N,)`, none unknown.
        mu: Of the log response time, `(N,)`; its exponential is what is expected.
        sigma: Of the same.
        bins: At most.
    """
    edges = np.unique(np.quantile(mu, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, mu, side="right") - 1, 0, max(len(edges) - 2, 0))
    inside = np.abs(np.log(np.maximum(seconds, MIN_SECONDS)) - mu) <= Z_90 * sigma
    return [_timed(seconds[place == number], np.exp(mu[place == number]), inside[place == number])
            for number in np.unique(place).tolist()]  # fmt: skip


def _timed(seconds: NDArray[np.float64], expected_s: NDArray[np.float64], inside: NDArray[np.bool_]) -> Timed:
    low, median, high = np.quantile(seconds, (0.1, 0.5, 0.9)).tolist()
    return Timed(
        len(seconds), (float(expected_s.min()), float(expected_s.max())), float(np.median(expected_s)), median,
        (low, high), float(inside.mean()), wilson(int(inside.sum()), len(seconds)),
    )  # fmt: skip
