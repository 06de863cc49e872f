"""
What the trainer makes of every prediction that is judged: how good they are, and whether anything drifts.

Pure but for the two clocks that are handed in; what is found goes out as events.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

import numpy as np

from schemas import DriftDetected, QualityMeasured
from stream.learning.drift import Drift, LossDrift
from stream.learning.judged import Judged
from stream.learning.watch import Quality, Watch
from stream.models.quality import log_losses

MEASURED_EVERY_S = 10.0
"""Quality is measured and told this often, if anything was judged."""


class Observer:
    """
    Watches quality and drift.

    Args:
        name: Of the model.
        watch: What was judged latest.
        loss: Watches whether the loss of what served rises; None where its rise would tell of something else.
    """

    def __init__(self, name: str, watch: Watch, loss: LossDrift | None) -> None:
        self._name = name
        self._watch = watch
        self._loss = loss
        self._happened: list[bool] = []
        self._said: list[float] = []
        self._drifts: list[Drift] = []
        self._is_fresh = False
        self._measured_at = float("-inf")

    def add(self, judged: Judged, champion: int) -> None:
        """
        Take a prediction in.

        Args:
            judged: What was said, and what came.
            champion: The version that should serve; what others said is no sign of drift.
        """
        self._is_fresh = True
        self._watch.add(judged)
        if judged.version == champion and self._loss is not None:
            self._happened.append(judged.happened)
            self._said.append(judged.p)

    def swapped(self) -> None:
        """Take note that another model serves: that its loss is another is no drift."""
        self._happened, self._said = [], []
        if self._loss is not None:
            self._loss.reset()

    def drifted(self, drifts: Sequence[Drift]) -> None:
        """Take note of what has drifted of features."""
        self._drifts += drifts

    def drifts(self) -> list[Drift]:
        """Return what has drifted since this was last asked."""
        found, self._drifts = self._drifts, []
        if self._said and self._loss is not None:
            losses = log_losses(np.array(self._happened), np.array(self._said))
            self._happened, self._said = [], []
            of_loss = self._loss.add(losses)
            if of_loss is not None:
                found.append(of_loss)
        return found

    def measure(self, now: float) -> Quality | None:
        """Return quality if it is time to tell it; `now` is a monotonic clock's, seconds."""
        if not self._is_fresh or now < self._measured_at + MEASURED_EVERY_S:
            return None
        self._is_fresh, self._measured_at = False, now
        return self._watch.measure()

    def drift_event(self, drift: Drift, at: datetime) -> DriftDetected:
        """Return the event that tells of a drift."""
        return DriftDetected(
            event_id=str(uuid4()), name=self._name, at=at, kind=drift.kind, subject=drift.subject,
            before=drift.before, after=drift.after, p_value=drift.p_value,
        )  # fmt: skip

    def quality_event(self, quality: Quality, at: datetime) -> QualityMeasured:
        """Return the event that tells of quality."""
        return QualityMeasured(
            event_id=str(uuid4()), name=self._name, at=at, overall=quality.overall, fallback=quality.fallback,
            versions=quality.versions, slices=quality.slices,
        )  # fmt: skip
