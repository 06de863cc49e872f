"""
Whether what comes in, or how well it is predicted, is no longer what it was.

Pure. Two signs: the log loss of what served rises, and a feature of users is distributed otherwise than it was. What
is made of them is the trainer's decision.

Source:
    Bifet, Gavaldà 2007, Learning from time-changing data with adaptive windowing. Gama et al. 2014, A survey on concept
    drift adaptation, for the two kinds.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN
from scipy.stats import ks_2samp

from stream.learning.judged import NEW_BELOW
from stream.models.features import COLUMN


@dataclass(frozen=True, slots=True)
class Drift:
    """
    A change.

    Attributes:
        kind: Of the loss, or of a feature.
        subject: The feature's name; `logloss` for the loss.
        before: Mean before.
        after: Mean after.
        p_value: Of a feature, in [0, 1], corrected for all that was tested; None for the loss.
    """

    kind: Literal["feature", "loss"]
    subject: str
    before: float
    after: float
    p_value: float | None = None


class LossDrift:
    """
    Whether the log loss of what served rises; that it falls is no drift.

    ADWIN takes one answer at a time: that costs half a microsecond, and means of blocks would be too small beside the
    range of 1 that its bound assumes, which makes it slower to see a rise.

    Args:
        delta: ADWIN's: how ready it is to see a change, in (0, 1).
    """

    def __init__(self, delta: float = 0.002) -> None:
        self._delta = delta
        self._latest: deque[float] = deque(maxlen=_KEPT)
        self.reset()

    def reset(self) -> None:
        """Forget all losses: another model serves."""
        self._start([])

    def add(self, losses: NDArray[np.float64]) -> Drift | None:
        """
        Add log losses, nats, of answers in order, `(N,)`.

        Returns:
            The latest rise that they show. Its means are of losses cut at `MOST_NATS`, over the latest 10,000 answers
            at most, and part where they differ most.
        """
        found = None
        for loss in np.minimum(losses, MOST_NATS).tolist():
            self._latest.append(loss)
            self._adwin.update(loss / MOST_NATS)
            if self._adwin.drift_detected:
                latest = np.array(self._latest)
                place = _parting(latest)
                before, after = float(latest[:place].mean()), float(latest[place:].mean())
                # What came after the change is what the next one is told from: ADWIN itself drops old answers bit by
                # bit, and would say of one change several times that it is there.
                self._start(latest[place:].tolist())
                if after > before:
                    found = Drift("loss", "logloss", before, after)
        return found

    def _start(self, losses: list[float]) -> None:
        self._adwin = ADWIN(delta=self._delta)
        self._latest.clear()
        self._latest.extend(losses)
        for loss in losses:
            self._adwin.update(loss / MOST_NATS)


MOST_NATS: Final = 3.0
"""A loss counts as no more, that of p = .05: ADWIN needs a range, and few surprises are no drift."""

_KEPT = 10_000
_LEAST_SIDE = 32
"""ADWIN looks every 32 answers: what it has seen by fewer is too short a part."""


def _parting(losses: NDArray[np.float64]) -> int:
    """Return where losses, `(N,)`, are parted best in two by their means: a change of the mean, by least squares."""
    count = len(losses)
    left = np.arange(1, count)
    total = np.cumsum(losses - losses.mean())[:-1]
    inside = (left >= _LEAST_SIDE) & (count - left >= _LEAST_SIDE)
    gain = np.where(inside, total**2 / (left * (count - left)), -1)
    return int(gain.argmax()) + 1


WATCHED: Final = (
    "gap",
    "latest5_rate",
    "latest5_seconds",
    "same_item",
    "same_topic",
    "item_difficulty",
    "lnirt_logit",
    "lnirt_mu",
)
"""
Features that are watched: how users come, answer and move on, what they are asked, and how both go together.

Counts, times since an item or topic was met, and what is certain only by many answers (spreads, shares of all
answers, `item_answers`) only grow or shrink as a course goes on, and would always drift; of the others, those that say
the same are left out, since each that is tested makes it harder for all.
"""


class FeatureDrift:
    """
    Whether features are distributed otherwise than they were, by Kolmogorov and Smirnov's test.

    Windows do not overlap; each is compared with the reference, which is the first one, or the first one that differed.
    Users, not answers, count: of each the latest answer in a window. A user in both windows is no harm: that makes the
    samples more alike than the test assumes, so that it says less often, never more often, that they differ. Users with
    few answers are left out, since their features come from nothing and change by themselves.

    Chances are multiplied by the number of features, and the k-th look at a reference by k (k + 1), the inverses of
    which add up to 1: all looks at a reference together are wrong with at most 5%, however long it stays.

    Args:
        window: Answers in a window; it goes on until there are 30 users in it.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._answers = 0
        self._users: dict[str, tuple[float, ...]] = {}
        self._reference: NDArray[np.float64] | None = None
        self._looks = 0

    def add(self, user_id: str, features: Sequence[float], answers: int) -> list[Drift]:
        """
        Add an answer.

        Args:
            user_id: Whose.
            features: Before it, `stream.models.features.COUNT` of them.
            answers: Of the user before it.

        Returns:
            What has drifted, if this answer ends a window.
        """
        self._answers += 1
        if answers >= NEW_BELOW:
            self._users[user_id] = _watched(features)
        if self._answers < self._window or len(self._users) < LEAST_USERS:
            return []
        latest = np.array(list(self._users.values()), np.float64)
        self._users, self._answers = {}, 0
        return self._compare(latest)

    def forget(self, user_id: str) -> None:
        """Drop what is kept of a user: references hold nobody's name."""
        self._users.pop(user_id, None)

    def _compare(self, latest: NDArray[np.float64]) -> list[Drift]:
        """Compare a window, `(U, F)`, with the reference, and put it in its place if it differs."""
        reference = self._reference
        if reference is None:
            self._reference = latest
            return []
        self._looks += 1
        tests = len(WATCHED) * self._looks * (self._looks + 1)
        found = []
        for name, before, after in zip(WATCHED, reference.T, latest.T, strict=True):
            tested = ks_2samp(before, after, method="asymp")
            p_value = min(1.0, float(tested.pvalue) * tests)
            if p_value < LEVEL and tested.statistic >= LEAST_DISTANCE:
                found.append(Drift("feature", name, float(before.mean()), float(after.mean()), p_value))
        if found:
            self._reference, self._looks = latest, 0
        return found


LEVEL: Final = 0.05
LEAST_USERS: Final = 30
LEAST_DISTANCE: Final = 0.1
"""Of the distribution functions, in [0, 1]: with many users a test sees differences that matter to nobody."""

_watched = itemgetter(*(COLUMN[name] for name in WATCHED))
