"""How long the stages of a batch take, measured around the core, which knows no clock."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream.models.features import Questions
from stream.models.weekly import Seen
from stream.pipeline import Models
from stream.ports import Forecast, Hidden, Identity, Predictor, RiskModel, Risks
from stream.state.learner import Answers, Remembered


class Stopwatch:
    """
    Seconds by stage; while one stage lasts within another, the outer one stands still.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._within: list[str] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time until the end of the block to a stage."""
        self._turn()
        self._within.append(name)
        try:
            yield
        finally:
            self._turn()
            self._within.pop()

    def taken(self) -> dict[str, float]:
        """Return the seconds of each stage since they were last taken."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        return seconds

    def timed(self, models: Models) -> Models:
        """Return the same models, whose time counts to the stage of inference."""
        risk, challenger = models.risk, models.challenger
        return replace(
            models,
            predictor=_TimedPredictor(models.predictor, self),
            fallback=_TimedPredictor(models.fallback, self),
            challenger=None if challenger is None else _TimedPredictor(challenger, self),
            risk=replace(
                risk,
                model=_TimedRisk(risk.model, self),
                challenger=None if risk.challenger is None else _TimedRisk(risk.challenger, self),
            ),
        )

    def _turn(self) -> None:
        now = self._clock()
        if self._within:
            self._seconds[self._within[-1]] += now - self._since
        self._since = now


@dataclass(frozen=True, slots=True)
class _TimedPredictor:
    """A `Predictor` whose time is taken."""

    real: Predictor
    watch: Stopwatch

    @property
    def identity(self) -> Identity:
        """The real one's."""
        return self.real.identity

    @property
    def hidden_size(self) -> int:
        """The real one's."""
        return self.real.hidden_size

    def predict(self, hidden: Hidden, questions: Questions, features: NDArray[np.float32]) -> Forecast:
        """Return what the real one says."""
        with self.watch.stage("inference"):
            return self.real.predict(hidden, questions, features)

    def step(
        self,
        hidden: Hidden,
        answers: Answers,
        questions: Questions,
        features: NDArray[np.float32],
        after: NDArray[np.bool_],
        known: NDArray[np.float32] | None = None,
    ) -> tuple[Hidden, Forecast]:
        """Return what the real one says."""
        with self.watch.stage("inference"):
            return self.real.step(hidden, answers, questions, features, after, known)

    def rebuild(self, remembered: Remembered) -> Hidden:
        """Return what the real one says."""
        with self.watch.stage("inference"):
            return self.real.rebuild(remembered)


@dataclass(frozen=True, slots=True)
class _TimedRisk:
    """A `RiskModel` whose time is taken."""

    real: RiskModel
    watch: Stopwatch

    @property
    def identity(self) -> Identity:
        """The real one's."""
        return self.real.identity

    def score(self, seen: Seen) -> Risks:
        """Return what the real one says."""
        with self.watch.stage("inference"):
            return self.real.score(seen)
