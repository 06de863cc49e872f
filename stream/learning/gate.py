"""
Whether a candidate goes live: a trial on answers that came after it was frozen.

Pure. Candidate, champion and fallback predict each answer from the answers before it, each on the states that it
serves with. The test may be looked at again and again, and takes users, not answers, as independent. How well it does
is measured by `benchmarks.learning_gate`.

Source:
    Robbins 1970, Statistical methods related to the law of the iterated logarithm; Howard, Ramdas, McAuliffe and
    Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence sequences (the boundary); Cameron and Miller
    2015, A practitioner's guide to cluster-robust inference (users as clusters).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from schemas import Figures
from stream.learning.watch import figures
from stream.models.quality import log_losses

LEVEL = 0.05
"""How often, at most, a candidate that is no better is promoted, however often it is looked at."""

EARLY = 300
"""
The boundary is closest at about ten times so many answers, and hardly further from 700 to 20,000; chosen by
`benchmarks.learning_gate`.
"""

LEAST_USERS = 5
"""Below, nothing is decided; the fewer there are above it, the more Student's distribution asks for."""

LEAST_ANSWERS = 500
"""Before, nothing is given up."""

WORTH = 0.01
"""Nats an answer: a candidate that may still be better by so much is not given up while it gains anything."""

NO_GAIN_Z, SURELY_LESS_Z = 1.0, 3.0
"""
Standard errors: by so many below 0 a candidate is given up; by so many below `WORTH` it is not worth its budget.
Chosen by `benchmarks.learning_gate`: 95 of 100 that are better by 0.01 are promoted, and equal ones are given up after
1,750 answers, the median; with 2.5 it is 93 and 1,250.
"""

AUC_MARGIN, ECE_MARGIN, TIME_MARGIN = 0.002, 0.005, 0.01
"""What a candidate may lose for its better log loss: AUC, calibration error, and the share of the time error."""

LEAST_TIMED = 100
"""Answers with a response time, below which the time error is not looked at."""


@dataclass(frozen=True, slots=True)
class Answers:
    """
    Answers, or weeks of users, and what was said of them before it was known what came.

    Attributes:
        user: Whose, any integers, `(N,)`.
        correct: Whether it came, bool `(N,)`: a right answer, or that the user failed or withdrew.
        p_candidate: Probability that it would, `(N,)`.
        p_champion: What serves said, `(N,)`.
        p_fallback: What the fallback said, `(N,)`.
        response_time_s: `(N,)`, NaN where unknown.
        median_candidate: Median response time, seconds, `(N,)`; of weeks NaN, as the others.
        median_champion: What serves said, `(N,)`.
        median_fallback: What the fallback said, `(N,)`.
    """

    user: NDArray[np.integer]
    correct: NDArray[np.bool_]
    p_candidate: NDArray[np.floating]
    p_champion: NDArray[np.floating]
    p_fallback: NDArray[np.floating]
    response_time_s: NDArray[np.floating]
    median_candidate: NDArray[np.floating]
    median_champion: NDArray[np.floating]
    median_fallback: NDArray[np.floating]

    @property
    def is_finite(self) -> NDArray[np.bool_]:
        """Whether what the candidate said are numbers, `(N,)`; of a time only where anybody says one."""
        is_timed = np.isfinite(self.median_candidate) | np.isnan(self.median_fallback)
        found: NDArray[np.bool_] = np.isfinite(self.p_candidate) & is_timed
        return found

    def take(self, rows: slice | NDArray[np.bool_]) -> "Answers":
        """Return some of the answers."""
        return Answers(*(getattr(self, column.name)[rows] for column in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence["Answers"]) -> "Answers":
        """Return the answers of several, at least one, one after the other."""
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What the gate decided.

    Attributes:
        promoted: Whether the candidate goes live.
        reason: A sentence.
        n: Answers compared.
        users: Whose they were.
        gain: Of log loss by the candidate, nats an answer; above 0 it is better.
        needed: The gain that would have been significant.
        candidate: Its figures.
        champion: What serves.
        fallback: LNIRT.
    """

    promoted: bool
    reason: str
    n: int
    users: int
    gain: float
    needed: float
    candidate: Figures
    champion: Figures
    fallback: Figures


class Gains:
    """
    Differences in log loss, an answer each, summed up by user.

    They may be looked at after any answer; `is_above_zero` is wrong in one sequence of twenty at most.
    """

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self._sum = np.zeros(0)
        self._count = np.zeros(0)

    def add(self, user: NDArray[np.integer], gain: NDArray[np.float64]) -> None:
        """Add the gains of answers, `(N,)`, and whose they are, `(N,)`."""
        found, index = np.unique(user, return_inverse=True)
        place = np.array([self._place.setdefault(who, len(self._place)) for who in found.tolist()], np.int64)
        new = np.zeros(len(self._place) - len(self._sum))
        self._sum, self._count = np.append(self._sum, new), np.append(self._count, new)
        self._sum[place] += np.bincount(index, gain, len(found))
        self._count[place] += np.bincount(index, minlength=len(found))

    @property
    def n(self) -> int:
        """Answers so far."""
        return int(self._count.sum())

    @property
    def users(self) -> int:
        """Users so far."""
        return len(self._place)

    @property
    def mean(self) -> float:
        """Gain of an answer; 0 where there is none."""
        return float(self._sum.sum() / max(self.n, 1))

    @property
    def error(self) -> float:
        """
        Standard error of the mean, users taken as independent and their answers as dependent; infinite for one user.

        Source:
            Bell and McCaffrey 2002, Bias reduction in standard errors (CR2): who gave much of the answers has pulled
            the mean to himself.
        """
        if self.users < 2:  # noqa: PLR2004 (no spread of one)
            return math.inf
        residual = (self._sum - self._count * self.mean) / np.sqrt(1 - self._count / self.n)
        return math.sqrt(float((residual**2).sum())) / self.n

    @property
    def freedom(self) -> float:
        """
        Degrees of freedom of the error: as of so many users of equal weight, less one.

        Source:
            Carter, Schnepel and Steigerwald 2017, Asymptotic behavior of a t-test robust to cluster heterogeneity.
        """
        return float(self.n**2 / max((self._count**2).sum(), 1)) - 1

    @property
    def needed(self) -> float:
        """The mean gain that is significantly above 0; infinite for fewer than `LEAST_USERS`."""
        if self.users < LEAST_USERS:
            return math.inf
        error = self.error
        return student(boundary(self.n), self.freedom) * error if error > 0 else 0.0

    def is_above_zero(self) -> bool:
        """Return whether the mean gain is above 0 at 95%, looked at as often as one likes."""
        return self.mean > 0 and self.mean >= self.needed


def boundary(n: int) -> float:
    """
    Return how many standard errors above 0 the mean of `n` gains must be, however often it is looked at.

    Source:
        Howard et al. 2021, the one-sided normal mixture in closed form, whose variance is that of `EARLY` gains.
    """
    return math.sqrt(2 * (1 + EARLY / n) * math.log(1 + math.sqrt(1 + n / EARLY) / (2 * LEVEL)))


def student(z: float, freedom: float) -> float:
    """
    Return the quantile of Student's distribution that is as rare as `z` is of the normal one; infinite if beyond 1e150.

    Source:
        Wallace 1959, Bounds on normal approximations to Student's and the chi-square distributions.
    """
    exponent = (z * (8 * freedom + 3) / (8 * freedom + 1)) ** 2 / freedom if freedom > 0 else math.inf
    return math.sqrt(freedom * math.expm1(exponent)) if exponent < _LARGEST_EXPONENT else math.inf


_LARGEST_EXPONENT = 690.0
"""Above, a number is too large."""

LARGEST = 9.99
"""Nats, a number where more is needed than can be had, or where nothing can be told yet."""


class Trial:
    """
    A candidate on trial, from the moment that it was frozen.

    Args:
        every: Answers between two looks.
        budget: Answers after which a candidate that is not better is kept out.
        least_of_each: Of what came and of what did not: with fewer nobody is promoted, nor given up before the budget.
    """

    def __init__(self, every: int, budget: int, least_of_each: int = 0) -> None:
        self._every = every
        self._budget = budget
        self._least_of_each = least_of_each
        self._next = min(every, budget)
        self._gains = Gains()
        self._met: list[Answers] = []
        self._is_finite = True
        self._of_each = np.zeros(2, np.int64)

    @property
    def n(self) -> int:
        """Answers so far."""
        return sum(len(met.user) for met in self._met)

    @property
    def gain(self) -> float:
        """Of log loss by the candidate so far, nats an answer."""
        return self._gains.mean

    @property
    def _known_of_each(self) -> int:
        """How many are known of the rarer kind, what came or what did not."""
        return int(self._of_each.min())

    @property
    def needed(self) -> float:
        """The gain that would be significant now; `LARGEST` stands for more than that."""
        return min(self._gains.needed, LARGEST)

    def add(self, met: Answers) -> None:
        """Take answers that came after what was added before."""
        self._met.append(met)
        self._of_each += np.bincount(met.correct, minlength=2)
        self._is_finite &= bool(met.is_finite.all())
        if self._is_finite:
            self._gains.add(
                met.user, log_losses(met.correct, met.p_champion) - log_losses(met.correct, met.p_candidate)
            )

    def look(self) -> Decision | None:
        """Return the decision; None if the trial goes on, as it does until the next look is due."""
        if not self._is_finite:
            return self._decide(False, "its predictions are not finite")
        n = self.n
        if n < self._next or (self._known_of_each < self._least_of_each and n < self._budget):
            return None
        self._next = min((n // self._every + 1) * self._every, self._budget)
        found = self._verdict(is_over=n >= self._budget)
        return None if found is None else self._decide(*found)

    def _verdict(self, *, is_over: bool) -> tuple[bool, str] | None:
        """Return whether the candidate is promoted, and why; None if that is open."""
        if self._known_of_each < self._least_of_each:
            known = f"of one kind only {self._known_of_each} are known, {self._least_of_each} needed"
            return False, f"{known}, within {self._budget} predictions"
        gains = self._gains
        by = f"{self.gain:.4f} a prediction, {self.needed:.4f} needed"
        if gains.is_above_zero():
            lost = self._lost()
            if lost is None:
                return True, f"its log loss is better at 95%: by {by}"
            return (False, f"its log loss is better, but {lost}") if is_over else None
        if is_over:
            return False, f"its log loss was not better at 95% within {self._budget} predictions: by {by}"
        if is_hopeless(gains, self._budget):
            return False, f"its log loss will hardly be better at 95%: by {by}"
        return None

    def _lost(self) -> str | None:
        """Return what the candidate would lose beyond the margins, as part of a sentence; None if nothing."""
        candidate, champion, fallback = self._figures()
        if candidate.logloss > fallback.logloss:
            return f"its log loss is {candidate.logloss:.4f}, the fallback's {fallback.logloss:.4f}"
        if candidate.auc is not None and champion.auc is not None and candidate.auc < champion.auc - AUC_MARGIN:
            return f"its AUC is {candidate.auc:.4f}, that of what serves {champion.auc:.4f}"
        if candidate.ece > champion.ece + ECE_MARGIN:
            return f"its calibration error is {candidate.ece:.4f}, that of what serves {champion.ece:.4f}"
        return self._lost_time(candidate.time_mae_seconds, champion.time_mae_seconds)

    def _lost_time(self, candidate_s: float | None, champion_s: float | None) -> str | None:
        timed = sum(int(np.isfinite(met.response_time_s).sum()) for met in self._met)
        if timed < LEAST_TIMED or candidate_s is None or champion_s is None:
            return None
        if candidate_s <= champion_s * (1 + TIME_MARGIN):
            return None
        return f"its time error is {candidate_s:.3f} s, that of what serves {champion_s:.3f} s"

    def _figures(self) -> tuple[Figures, Figures, Figures]:
        """Return those of candidate, champion and fallback."""
        self._met = [Answers.joined(self._met)]
        met = self._met[0]
        finite = met.take(met.is_finite)
        return (
            _of(finite, finite.p_candidate, finite.median_candidate),
            _of(met, met.p_champion, met.median_champion),
            _of(met, met.p_fallback, met.median_fallback),
        )

    def _decide(self, promoted: bool, reason: str) -> Decision:
        candidate, champion, fallback = self._figures()
        users = self._gains.users
        return Decision(promoted, reason, self.n, users, self.gain, self.needed, candidate, champion, fallback)


def is_hopeless(gains: Gains, budget: int) -> bool:
    """
    Return whether a candidate is to be given up before its budget is spent, so that another one can be learned.

    Either it is rather worse than better; or it is surely not better by `WORTH`, and what it gains would not become
    significant within the budget. Giving up promotes nobody, so it costs the test none of its validity.
    """
    n, mean, error = gains.n, gains.mean, gains.error
    if n < LEAST_ANSWERS:
        return False
    if mean + NO_GAIN_Z * error <= 0:
        return True
    needed = boundary(budget) * error * math.sqrt(n / budget)
    return mean + SURELY_LESS_Z * error < WORTH and mean < needed


def budget_of(learned: int, most: int) -> int:
    """
    Return the answers after which a candidate is given up.

    One that has learned from few is soon outdated: what could be learned by then, from twice as many, is better.

    Args:
        learned: Answers that there were when it was frozen.
        most: Budget of any candidate.
    """
    return min(most, max(LEAST_BUDGET, learned))


LEAST_BUDGET = 2_000
"""Answers; fewer seldom tell anything."""


def _of(met: Answers, p: NDArray[np.floating], median: NDArray[np.floating]) -> Figures:
    """Return the figures of what was said; those of nothing are 0."""
    if not len(p):
        return Figures(n=0, logloss=0.0, ece=0.0)
    p, time_s, median = (column.astype(np.float64) for column in (p, met.response_time_s, median))
    return figures(met.correct, p, time_s, median)
