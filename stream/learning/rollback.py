"""
Whether a model that has just gone live is to be taken back.

Pure. The gate has judged it by what it would have said; the guard watches what it does say. Its log loss is held
against what served before it, and what the fallback lost meanwhile is allowed for: the part by which the answers
themselves became harder to foretell is no fault of the model's.

Source:
    Howard, Ramdas, McAuliffe, Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence sequences, eq. 14 (the
    one-sided normal mixture); Waudby-Smith et al. 2024, Time-uniform central limit theory, for spreads that are
    estimated.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    That a model is to be taken back.

    Attributes:
        version: Of the model.
        n: Answers that it has served.
        logloss_before: Mean of what served before it, nats.
        logloss_after: Its own, nats.
        worsened: By so many nats beyond what the fallback worsened too.
        reason: A sentence.
    """

    version: int
    n: int
    logloss_before: float
    logloss_after: float
    worsened: float
    reason: str


class Guard:
    """
    Watches a promotion until the model has served so many answers.

    A model is taken back when its log loss has worsened by more than the margin, and when two things are sure, each at
    95%: that it has risen, and that beside the fallback, on the same answers, it has risen by more than half the
    margin. The bounds hold for all looks together, however many there are: it may be looked as often as one likes.

    Args:
        window: Answers after which the model is established.
        margin: Nats by which log loss may worsen.
        least_of_each: Of what came and of what did not, among those answers: while there are fewer it is not judged,
            and where the window is full, it waits for the latest ones that have them.
    """

    def __init__(self, window: int, margin: float, least_of_each: int = 0) -> None:
        self._window = window
        self._margin = margin
        self._least_of_each = least_of_each
        self._latest = _NONE
        self._before = _NONE
        self._since = _NONE
        self.version: int | None = None
        """What is watched; None for nothing."""

    @property
    def is_in_window(self) -> bool:
        """Whether what is watched has served fewer answers than the window has."""
        return self.version is not None and len(self._since) < self._window

    def add(
        self,
        version: NDArray[np.int64],
        user: NDArray[np.int64],
        happened: NDArray[np.bool_],
        loss_serving: NDArray[np.float64],
        loss_fallback: NDArray[np.float64],
    ) -> None:
        """
        Add answers in order, whether a promotion is watched or not: they are what the next one is held against.

        Args:
            version: That served each, `(N,)`.
            user: Whose answer, any integers, `(N,)`.
            happened: What came, `(N,)`.
            loss_serving: Log loss of what served, nats, `(N,)`.
            loss_fallback: Of the fallback, nats, `(N,)`.
        """
        answers = np.empty(len(version), _ROW)
        answers["version"], answers["user"], answers["happened"] = version, user, happened
        answers["serving"], answers["fallback"] = loss_serving, loss_fallback
        self._latest = np.concatenate([self._latest, answers])[-(_BEFORE + self._window) :]
        if self.version is not None:
            mine = answers[answers["version"] == self.version]
            self._since = np.concatenate([self._since, mine])[-self._window :]

    def started(self, version: int, *, again: bool = False) -> None:
        """
        Watch a version that goes live, in place of what was watched.

        It is held against the latest 2,000 answers that anything else served.

        Args:
            version: Goes live.
            again: It was live already, and the trainer comes back: the latest answers were added again, and what it
                has served of them counts. Else they were a share of the users', while it was on trial.
        """
        is_its = self._latest["version"] == version
        self._before = self._latest[~is_its][-_BEFORE:]
        self._since = self._latest[is_its][-self._window :] if again else _NONE
        self.version = version

    def ended(self) -> None:
        """Watch nothing: what was watched was taken back. What it has served is no measure for what comes next."""
        self._latest = self._latest[self._latest["version"] != self.version]
        self.version = None

    def look(self) -> Verdict | None:
        """Return that the model is to be taken back; the watch ends with that, or with the window."""
        if self.version is None or min(len(self._before), len(self._since)) < _LEAST_ANSWERS:
            return None
        if np.bincount(self._since["happened"], minlength=2).min() < self._least_of_each:
            return None
        verdict = self._judge(self.version)
        if verdict is not None:
            self.ended()
        elif len(self._since) >= self._window:
            self.version = None
        return verdict

    def _judge(self, version: int) -> Verdict | None:
        before, since = self._before, self._since
        lost_before, lost = float(before["serving"].mean()), float(since["serving"].mean())
        harder = float(since["fallback"].mean() - before["fallback"].mean())
        worsened = lost - lost_before - max(0.0, harder)
        least_rise = lost - lost_before - _uncertainty(before, since, before["serving"], since["serving"])
        beside = [answers["serving"] - answers["fallback"] for answers in (before, since)]
        least_beside = lost - lost_before - harder - _uncertainty(before, since, *beside)
        if worsened <= self._margin or least_rise <= 0 or least_beside <= self._margin / 2:
            return None
        reason = (
            f"over {len(since)} predictions its log loss was {lost:.3f}, before it {lost_before:.3f}: worse by "
            f"{worsened:.3f} beyond what the fallback lost too, which is above {self._margin:g}"
        )
        return Verdict(version, len(since), lost_before, lost, worsened, reason)


_ROW = np.dtype([
    ("version", np.int64),
    ("user", np.int64),
    ("happened", bool),
    ("serving", np.float64),
    ("fallback", np.float64),
])  # fmt: skip
_NONE = np.zeros(0, _ROW)


def _uncertainty(
    before: NDArray[Any], since: NDArray[Any], lost_before: NDArray[np.float64], lost: NDArray[np.float64]
) -> float:
    """
    Return by how much the rise of a mean may be smaller than it looks, over all looks, but for a chance of 5%.

    Answers of one user are taken as dependent, those before and those since too: what is always so with a user stands
    in both means, and tells nothing. In a course of few users their spread is no measure; but then they are the same
    ones before and since, so that only answers in a row are taken as dependent.

    Args:
        before: Answers, `(M,)`.
        since: Answers, `(N,)`.
        lost_before: What the mean before is of, `(M,)`.
        lost: What the mean since is of, `(N,)`.
    """
    count = len(before)
    if len(np.unique(before["user"])) < LEAST_USERS:
        first = -(-count // _BLOCK)
        cluster = np.concatenate([np.arange(count) // _BLOCK, first + np.arange(len(since)) // _BLOCK])
    else:
        cluster = np.unique(np.concatenate([before["user"], since["user"]]), return_inverse=True)[1]
    clusters = min(len(np.unique(cluster[:count])), len(np.unique(cluster[count:])))
    if clusters < 2:  # noqa: PLR2004 (no spread of one)
        return math.inf
    pull = np.concatenate([(lost_before.mean() - lost_before) / count, (lost - lost.mean()) / len(since)])
    spread = float((np.bincount(cluster, pull) ** 2).sum()) * clusters / (clusters - 1)
    return math.sqrt(spread) * _boundary(len(since), clusters)


def _boundary(n: int, clusters: int) -> float:
    """
    Return how many standard errors a mean may lie above its true value, over all looks, but for a chance of 5%.

    The one-sided normal mixture, tightest at `_TIGHTEST` answers; widened as Student's t is where clusters are few.
    """
    mixed = _TIGHTEST / _TIGHTEST_RATIO
    z = math.sqrt(2 * (n + mixed) / n * math.log1p(math.sqrt((n + mixed) / mixed) / (2 * _LEVEL)))
    return float(t.isf(norm.sf(z), clusters - 1))


LEAST_USERS: Final = 30
"""
Users before a promotion below which answers in a row are taken as dependent instead.

In a course of 20, 2 of 60 models that said the contrary stayed where users were clusters; of answers in a row, none.
"""

_LEVEL = 0.05
_BEFORE = 2_000
_LEAST_ANSWERS = 100
_BLOCK = 10
_TIGHTEST = 500.0
_TIGHTEST_RATIO = 7.0
"""Of the answers at which the boundary is tightest to its parameter, at 5%; found by search."""
