"""
What items are like, learned online over all users: the parameters of LNIRT.

Pure. Each answer moves its item, its topic at its difficulty, its topic and the population; what is new starts from
the next more general one, so that a new item of a hard topic is taken for hard.

Items change: an exercise is reworded, a lecture now covers it. A difficulty is therefore estimated twice, by a patient
and by a quick estimate, and what counts is their average, weighted by how well each has predicted of late. Where the
quick one pays, counts forget what was before.

Source:
    Birnbaum 1968; van der Linden 2007; online updates as in Pelanek 2016, Applications of the Elo rating system in
    adaptive educational systems; Raftery, Karny and Ettler 2010, Online prediction under model uncertainty via dynamic
    model averaging (the two estimates and their weights, with exponential forgetting).
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

_PATIENT_VAR = 0.01
_QUICK_VAR = 0.2
"""
A difficulty never gets surer than this, by the patient and by the quick estimate: an answer is half forgotten after
about 350 and 17 more. Chosen, as what follows, on lkt_memphis, assist2015, assist2017 and the course of
`benchmarks.learning_drift`: none of them is worse for it than for a difficulty that hardly forgets.
"""

_STILL_VAR = 0.002
"""The same where nothing is taken to change."""

_INFORMATION = 0.2
"""What an answer adds to a difficulty's precision, about: p (1 - p) is at most a quarter."""

_QUICK_LOG_ODDS = -3.0
"""Of the quick estimate against the patient one before either has predicted: most items do not change."""

_REMEMBERED = 50.0
_REMEMBERED_TOGETHER = 400.0
"""Answers, to one item and to all together, over which it is remembered how well the two have predicted."""

_TOGETHER_SHARE = 0.5
_TOGETHER_RANGE = (-3.0, 4.0)
"""
How much the answers to all items tell of one, and log odds by which they do at most: courses are often revised as a
whole, but not always.
"""

_FORGETS_COUNTS = 1 / 15
_FORGETS_FROM = 0.8
"""
Share of the counts that an answer makes forgotten where the quick estimate is certainly the better one, and the weight
of that estimate from which on anything is forgotten.
"""

_MOST_PRACTICE = 20
"""
A user's answers to an item move nothing from so many on among the user's remembered ones: they tell of the user, and
nobody shall decide alone what an item is like. Learners of assist2015 go beyond it in 3% of their answers.
"""

_PRIOR_TIME_VAR = 0.3
_LEAST_TIME_VAR = 0.0005
_SIGMA_WEIGHT = 20.0
"""Answers that the prior spread of log times counts for."""

_DISCRIMINATION_RATE = 0.05
_DISCRIMINATION_PRIOR = 30.0
_DISCRIMINATION_RANGE = (0.4, 2.5)


@dataclass(frozen=True, slots=True)
class Answered:
    """
    An answer, and what was known of its user before.

    Attributes:
        correct: Whether it was right.
        response_time_s: None where it is not known.
        ability: Of the user, logits.
        ability_var: How unsure that is.
        speed: Of the user, log seconds.
        item_practised: Of the user's remembered answers, how many were to this item; 0 where it is not named.
        topic_practised: And to its topic.
    """

    correct: bool
    response_time_s: float | None
    ability: float
    ability_var: float
    speed: float
    item_practised: float = 0.0
    topic_practised: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it is to move anything: its numbers can be, and its user has not had too much of a say."""
        not_negative = (self.response_time_s or 0.0, self.ability_var, self.item_practised, self.topic_practised)
        return (
            all(map(math.isfinite, (*not_negative, self.ability, self.speed)))
            and min(not_negative) >= 0
            and self.item_practised < _MOST_PRACTICE
        )


@dataclass(slots=True)
class _Estimate:
    """A difficulty as a Gaussian belief that forgets: its variance has a floor."""

    mean: float
    var: float

    def learn(self, answered: Answered, a_seen: float, least_var: float) -> float:
        """Move by an answer; return the log of the probability that it had."""
        p = _probability(a_seen * (answered.ability - self.mean))
        self.var = max(1 / (1 / self.var + a_seen * a_seen * p * (1 - p)), least_var)
        self.mean -= self.var * a_seen * (answered.correct - p)
        return math.log(p if answered.correct else 1 - p)


@dataclass(slots=True)
class _Statistic:
    patient: _Estimate
    quick: _Estimate
    quick_gain: float = 0.0
    """Of log likelihood by the quick estimate over the patient one, of late."""

    log_discrimination: float = 0.0
    intensity: float = PRIOR_TIME_INTENSITY
    intensity_var: float = _PRIOR_TIME_VAR
    sigma_sum: float = _SIGMA_WEIGHT * PRIOR_TIME_SIGMA**2
    answers: float = 0.0
    correct: float = 0.0
    timed: int = 0
    seen: dict[int, int] = field(default_factory=dict)

    @classmethod
    def new(cls, difficulty: float = 0.0, difficulty_var: float = _PRIOR_VAR) -> "_Statistic":
        return cls(_Estimate(difficulty, difficulty_var), _Estimate(difficulty, difficulty_var))

    @property
    def sigma(self) -> float:
        """Spread of log times of one user on this."""
        return math.sqrt(self.sigma_sum / (_SIGMA_WEIGHT + self.timed))

    def count(self, correct: bool, kept: float) -> None:
        """Count an answer, and of the earlier ones only the share that is kept."""
        self.answers = kept * self.answers + 1
        self.correct = kept * self.correct + correct

    def is_new_at(self, place: tuple[int, int] | None) -> bool:
        """Say whether what lies at a place, partition and offset, has not counted yet; from now on it has."""
        if place is None:
            return True
        partition, offset = place
        if offset < self.seen.get(partition, 0):
            return False
        self.seen[partition] = offset + 1
        return True


class ItemStatistics:
    """
    Parameters of everything that was ever answered. Changed by `learn`, `move` and `correct` only.

    Args:
        follows: Whether items may change, so that late answers say more than early ones. Not where answers come in
            another order than that of time.
    """

    def __init__(self, *, follows: bool = True) -> None:
        self._follows = follows
        self._patient_var = _PATIENT_VAR if follows else _STILL_VAR
        self._statistics: dict[Key, _Statistic] = {POPULATION: _Statistic.new()}
        self._changed: set[Key] = set()
        self._version = 0
        self._quick_gain = 0.0

    def restore(self, published: Iterable[tuple[Key, ItemParameters]]) -> None:
        """Take over what was published before a restart; how well the two estimates predicted starts anew."""
        for key, p in published:
            if not all(map(math.isfinite, (p.difficulty_logit, p.discrimination, p.time_intensity, p.time_sigma))):
                continue
            var = _var_after(p.answers)
            self._statistics[key] = _Statistic(
                _Estimate(p.difficulty_logit, max(var, self._patient_var)),
                _Estimate(p.difficulty_logit, max(var, _QUICK_VAR)), 0.0, math.log(p.discrimination),
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

    def learn(self, example: TrainingExample, place: tuple[int, int] | None = None) -> bool:
        """
        Move the parameters of what was answered.

        Args:
            example: What the model saw, and what happened.
            place: Partition and offset of the example. What has counted it already, because it was published and then
                the trainer ended before it committed, is not moved again.

        Returns:
            Whether it counts, as in `move`.
        """
        keys = chain(example.item_id, example.topic_id, example.difficulty)
        return self.move(keys, answered(example), place)

    def move(self, keys: Sequence[Key], answer: Answered, place: tuple[int, int] | None = None) -> bool:
        """
        Move the parameters under keys, the most particular first, by one answer.

        Args:
            keys: As `chain` returns them.
            answer: Refused where a number of it is not finite, or its user has practised the item too often.
            place: As in `learn`.

        Returns:
            Whether it was not refused.
        """
        if not answer.counts:
            return False
        # From the general to the particular: a new statistic starts from its parent as it is now.
        for level in range(len(keys) - 1, -1, -1):
            key = keys[level]
            statistic = self._statistics.get(key)
            if statistic is None:
                statistic = self._statistics[key] = self._child(keys[level + 1])
            if not statistic.is_new_at(place):
                continue
            gain = _learn_answer(statistic, answer, self._patient_var)
            # Somebody who answers the same again and again looks like a change of what is answered.
            news = 1 / (1 + (answer.item_practised if key[0] else answer.topic_practised))
            statistic.quick_gain += news * (gain - statistic.quick_gain / _REMEMBERED)
            if level == 0:
                self._quick_gain += news * (gain - self._quick_gain / _REMEMBERED_TOGETHER)
            is_changed = max(0.0, (self._quick_share(statistic) - _FORGETS_FROM) / (1 - _FORGETS_FROM))
            statistic.count(answer.correct, 1 - _FORGETS_COUNTS * is_changed)
            if answer.response_time_s is not None:
                _learn_time(statistic, answer.response_time_s, answer.speed)
            self._changed.add(key)
        return True

    def correct(
        self,
        keys: Sequence[Key],
        was: bool,
        is_: bool,
        ability: float,
        ability_var: float,
        place: tuple[int, int] | None = None,
    ) -> bool:
        """
        Take in that an answer was not right, or wrong, after all.

        It is counted as the other outcome, and difficulties move by what that would have made of them: as much as an
        answer did on average of those that count, for how much of it has been forgotten since is not known.

        Args:
            keys: As `move` got them; those under which nothing is known are passed over.
            was: The outcome that was learned from.
            is_: The right one.
            ability: Of the user, as `move` got it.
            ability_var: How unsure that was.
            place: Of the correction, as in `learn`.

        Returns:
            Whether it was not refused, because a number is not finite.
        """
        answer = Answered(is_, None, ability, ability_var, 0.0)
        if not answer.counts:
            return False
        for key in keys:
            statistic = self._statistics.get(key)
            if statistic is None or was == is_ or not statistic.is_new_at(place):
                continue
            # The mean of a Gaussian belief is its variance times the sum of what its answers said.
            step = (is_ - was) * _discrimination_seen(statistic, answer) * _var_after(statistic.answers)
            for estimate in (statistic.patient, statistic.quick):
                estimate.mean -= step
            statistic.correct = min(max(statistic.correct + is_ - was, 0.0), statistic.answers)
            self._changed.add(key)
        return True

    def _child(self, parent: Key) -> _Statistic:
        of = self._statistics[parent]
        child = _Statistic.new(self._difficulty(of))
        child.intensity, child.sigma_sum = of.intensity, _SIGMA_WEIGHT * of.sigma**2
        return child

    def _quick_share(self, statistic: _Statistic) -> float:
        """Return the quick estimate's weight: what has paid here, and everywhere, of late."""
        if not self._follows:
            return 0.0
        low, high = _TOGETHER_RANGE
        together = max(low, min(high, _TOGETHER_SHARE * self._quick_gain))
        return _probability(_QUICK_LOG_ODDS + statistic.quick_gain + together)

    def _difficulty(self, statistic: _Statistic) -> float:
        quick = self._quick_share(statistic)
        return (1 - quick) * statistic.patient.mean + quick * statistic.quick.mean

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
            difficulty_logit=self._difficulty(statistic),
            discrimination=math.exp(statistic.log_discrimination),
            time_intensity=statistic.intensity,
            time_sigma=statistic.sigma,
            answers=round(statistic.answers),
            correct=round(statistic.correct),
            timed=statistic.timed,
            seen=dict(statistic.seen),
            version=self._version,
            updated_at=now,
        )


def answered(example: TrainingExample) -> Answered:
    """Return an example's answer, and what its features say of its user."""
    known = example.features
    ability_sd = known[COLUMN["ability_sd"]]
    return Answered(
        example.correct, example.response_time_seconds,
        known[COLUMN["ability"]], ability_sd * ability_sd, known[COLUMN["speed"]],
        _practised(known, "item"), _practised(known, "topic"),
    )  # fmt: skip


def _practised(known: Sequence[float], what: str) -> float:
    """Return how many remembered answers were of an item or a topic; as features they are ln(1 + n)."""
    right, wrong = (known[COLUMN[f"{what}_{outcome}"]] for outcome in ("right", "wrong"))
    # No user remembers e to the 50th: a number that could not be returned must not stop the trainer.
    return math.expm1(min(right, 50.0)) + math.expm1(min(wrong, 50.0))


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, log_odds))))


def _var_after(answers: float) -> float:
    """Return the variance of a difficulty that has forgotten none of so many answers."""
    return 1 / (1 / _PRIOR_VAR + answers * _INFORMATION)


def _discrimination_seen(statistic: _Statistic, answer: Answered) -> float:
    """Return how sharply an answer tells: the user's own uncertainty flattens the curve."""
    a = math.exp(statistic.log_discrimination)
    return a / math.sqrt(1 + math.pi * a * a * answer.ability_var / 8)


def _learn_answer(statistic: _Statistic, answer: Answered, patient_var: float) -> float:
    """Move difficulty and discrimination; return the log likelihood that the quick estimate has gained by it."""
    a_seen = _discrimination_seen(statistic, answer)
    distance = answer.ability - statistic.patient.mean
    surprise = answer.correct - _probability(a_seen * distance)
    patient = statistic.patient.learn(answer, a_seen, patient_var)
    gain = statistic.quick.learn(answer, a_seen, _QUICK_VAR) - patient
    rate = _DISCRIMINATION_RATE / (1 + statistic.answers / _DISCRIMINATION_PRIOR)
    log_a = statistic.log_discrimination + rate * surprise * a_seen * distance
    low, high = _DISCRIMINATION_RANGE
    statistic.log_discrimination = max(math.log(low), min(math.log(high), log_a))
    return gain


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
