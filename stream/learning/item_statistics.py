"""
What items are like, learned online over all users: the parameters of LNIRT.

Pure. Each answer moves its item, its topic at its difficulty, its topic and the population; what is new starts from
the next more general one, so that a new item of a hard topic is taken for hard.

Source:
    Birnbaum 1968; van der Linden 2007; online updates as in Pelanek 2016, Applications of the Elo rating system in
    adaptive educational systems.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from schemas import ItemParameters, TrainingExample
from stream.models.features import COLUMN
from stream.models.items import POPULATION, PRIOR_TIME_INTENSITY, PRIOR_TIME_SIGMA, Key, chain
from stream.models.lnirt import MAX_RESIDUAL, MIN_SECONDS

_PRIOR_VAR = 0.6
"""Variance of a new item's difficulty about its topic's, in squared logits."""

_LEAST_VAR = 0.002
"""A difficulty never gets surer than this, so that it can still follow a change."""

_PRIOR_TIME_VAR = 0.3
_LEAST_TIME_VAR = 0.0005
_SIGMA_WEIGHT = 20.0
"""Answers that the prior spread of log times counts for."""

_DISCRIMINATION_RATE = 0.05
_DISCRIMINATION_PRIOR = 30.0
_DISCRIMINATION_RANGE = (0.4, 2.5)


@dataclass(slots=True)
class _Statistic:
    difficulty: float = 0.0
    difficulty_var: float = _PRIOR_VAR
    log_discrimination: float = 0.0
    intensity: float = PRIOR_TIME_INTENSITY
    intensity_var: float = _PRIOR_TIME_VAR
    sigma_sum: float = _SIGMA_WEIGHT * PRIOR_TIME_SIGMA**2
    answers: int = 0
    correct: int = 0
    timed: int = 0
    seen: dict[int, int] = field(default_factory=dict)

    @property
    def sigma(self) -> float:
        """Spread of log times of one user on this."""
        return math.sqrt(self.sigma_sum / (_SIGMA_WEIGHT + self.timed))


class ItemStatistics:
    """Parameters of everything that was ever answered. Changed by `learn` only."""

    def __init__(self) -> None:
        self._statistics: dict[Key, _Statistic] = {POPULATION: _Statistic()}
        self._changed: set[Key] = set()
        self._version = 0

    def restore(self, published: Iterable[tuple[Key, ItemParameters]]) -> None:
        """Take over what was published before a restart."""
        for key, p in published:
            precision = 1 / _PRIOR_VAR + p.answers * 0.2
            self._statistics[key] = _Statistic(
                p.difficulty_logit, max(1 / precision, _LEAST_VAR), math.log(p.discrimination),
                p.time_intensity, max(1 / (1 / _PRIOR_TIME_VAR + p.timed * 2), _LEAST_TIME_VAR),
                p.time_sigma**2 * (_SIGMA_WEIGHT + p.timed), p.answers, p.correct, p.timed,
                dict(p.seen),
            )  # fmt: skip
            self._version = max(self._version, p.version)

    def forget_seen(self, partition: int, end: int) -> bool:
        """
        Forget what has counted of a partition of `training-examples` that has become shorter than that.

        Returns:
            Whether anything had.
        """
        beyond = [s for s in self._statistics.values() if s.seen.get(partition, 0) > end]
        for statistic in beyond:
            del statistic.seen[partition]
        return bool(beyond)

    def learn(self, example: TrainingExample, place: tuple[int, int] | None = None) -> None:
        """
        Move the parameters of what was answered.

        Args:
            example: What the model saw, and what happened.
            place: Partition and offset of the example. What has counted it already, because it was published and then
                the trainer ended before it committed, is not moved again.
        """
        self.move(
            chain(example.item_id, example.topic_id, example.difficulty),
            example.correct,
            example.response_time_seconds,
            example.features[COLUMN["ability"]],
            example.features[COLUMN["ability_sd"]] ** 2,
            example.features[COLUMN["speed"]],
            place,
        )

    def move(
        self,
        keys: Sequence[Key],
        correct: bool,
        response_time_s: float | None,
        ability: float,
        ability_var: float,
        speed: float,
        place: tuple[int, int] | None = None,
    ) -> None:
        """Move the parameters under keys, the most particular first, by one answer; `place` as in `learn`."""
        # From the general to the particular: a new statistic starts from its parent as it is now.
        for level in range(len(keys) - 1, -1, -1):
            key = keys[level]
            statistic = self._statistics.get(key)
            if statistic is None:
                statistic = self._statistics[key] = self._child(keys[level + 1])
            if place is not None:
                partition, offset = place
                if offset < statistic.seen.get(partition, 0):
                    continue
                statistic.seen[partition] = offset + 1
            _learn_answer(statistic, correct, ability, ability_var)
            if response_time_s is not None:
                _learn_time(statistic, response_time_s, speed)
            self._changed.add(key)

    def _child(self, parent: Key) -> _Statistic:
        of = self._statistics[parent]
        sigma_sum = _SIGMA_WEIGHT * of.sigma**2
        return _Statistic(difficulty=of.difficulty, intensity=of.intensity, sigma_sum=sigma_sum)

    def publish(self, now: datetime) -> list[ItemParameters]:
        """Return the parameters that have changed since they were last asked for."""
        self._version += 1
        changed, self._changed = self._changed, set()
        return [self._parameters(key, now) for key in changed]

    def _parameters(self, key: Key, now: datetime) -> ItemParameters:
        item_id, topic_id, difficulty = key
        statistic = self._statistics[key]
        subject = "item" if item_id else "topic_difficulty" if difficulty else "topic" if topic_id else "population"
        return ItemParameters(
            subject=subject,
            item_id=item_id,
            topic_id=topic_id,
            difficulty=difficulty,
            difficulty_logit=statistic.difficulty,
            discrimination=math.exp(statistic.log_discrimination),
            time_intensity=statistic.intensity,
            time_sigma=statistic.sigma,
            answers=statistic.answers,
            correct=statistic.correct,
            timed=statistic.timed,
            seen=dict(statistic.seen),
            version=self._version,
            updated_at=now,
        )


def _learn_answer(statistic: _Statistic, correct: bool, ability: float, ability_var: float) -> None:
    a = math.exp(statistic.log_discrimination)
    # The user's own uncertainty flattens the curve: an answer of somebody unknown says less of the item.
    a_seen = a / math.sqrt(1 + math.pi * a * a * ability_var / 8)
    distance = ability - statistic.difficulty
    p = 1 / (1 + math.exp(-max(-30.0, min(30.0, a_seen * distance))))
    surprise = correct - p
    var = 1 / (1 / statistic.difficulty_var + a_seen * a_seen * p * (1 - p))
    statistic.difficulty_var = max(var, _LEAST_VAR)
    statistic.difficulty -= statistic.difficulty_var * a_seen * surprise
    rate = _DISCRIMINATION_RATE / (1 + statistic.answers / _DISCRIMINATION_PRIOR)
    log_a = statistic.log_discrimination + rate * surprise * a_seen * distance
    low, high = _DISCRIMINATION_RANGE
    statistic.log_discrimination = max(math.log(low), min(math.log(high), log_a))
    statistic.answers += 1
    statistic.correct += correct


def _learn_time(statistic: _Statistic, response_time_s: float, speed: float) -> None:
    sigma = statistic.sigma
    residual = math.log(max(response_time_s, MIN_SECONDS)) - (statistic.intensity - speed)
    cut = max(-MAX_RESIDUAL, min(MAX_RESIDUAL, residual))
    gain = statistic.intensity_var / (statistic.intensity_var + sigma * sigma)
    statistic.intensity += gain * cut
    statistic.intensity_var = max((1 - gain) * statistic.intensity_var, _LEAST_TIME_VAR)
    # What is left after the step: the step itself is the mean's, not the spread's.
    statistic.sigma_sum += (1 - gain) * cut * cut
    statistic.timed += 1
