"""
What the trainer makes of every answer that comes by: how good predictions are, and whether anything drifts.

Pure but for the two clocks that are handed in; what is found goes out as events.
"""

from datetime import datetime
from uuid import uuid4

import numpy as np

from schemas import DriftDetected, QualityMeasured, TrainingExample
from stream.learning.drift import Drift, FeatureDrift, LossDrift
from stream.learning.watch import Quality, Watch
from stream.models.quality import log_losses

MEASURED_EVERY_S = 10.0
"""Quality is measured and told this often, if any answer came."""


class Observer:
    """
    Watches quality and drift.

    Args:
        name: Of the model.
        window: Answers over which quality goes, and in a window of features.
    """

    def __init__(self, name: str, window: int) -> None:
        self._name = name
        self._watch = Watch(window)
        self._features = FeatureDrift(window)
        self._loss = LossDrift()
        self._correct: list[bool] = []
        self._said: list[float] = []
        self._drifts: list[Drift] = []
        self._is_fresh = False
        self._measured_at = float("-inf")

    def add(self, example: TrainingExample, champion: int) -> None:
        """
        Take an answer in.

        Args:
            example: The answer, and what was said of it.
            champion: The version that should serve; what others said is no sign of drift.
        """
        self._is_fresh = True
        self._watch.add(example)
        self._drifts += self._features.add(example.user_id, example.features, example.state_version)
        if example.model.version == champion:
            self._correct.append(example.correct)
            self._said.append(example.p_before)

    def swapped(self) -> None:
        """Take note that another model serves: that its loss is another is no drift."""
        self._loss.reset()
        self._correct, self._said = [], []

    def forget(self, user_id: str) -> None:
        """Drop what is kept under a user's name."""
        self._features.forget(user_id)

    def drifts(self) -> list[Drift]:
        """Return what has drifted since this was last asked."""
        found, self._drifts = self._drifts, []
        if self._said:
            losses = log_losses(np.array(self._correct), np.array(self._said))
            self._correct, self._said = [], []
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

    def drifted(self, drift: Drift, at: datetime) -> DriftDetected:
        """Return the event that tells of a drift."""
        return DriftDetected(
            event_id=str(uuid4()), name=self._name, at=at, kind=drift.kind, subject=drift.subject,
            before=drift.before, after=drift.after, p_value=drift.p_value,
        )  # fmt: skip

    def measured(self, quality: Quality, at: datetime) -> QualityMeasured:
        """Return the event that tells of quality."""
        return QualityMeasured(
            event_id=str(uuid4()), name=self._name, at=at, overall=quality.overall, fallback=quality.fallback,
            versions=quality.versions, slices=quality.slices,
        )  # fmt: skip
