"""How long stages take: by a clock that the test turns."""

import numpy as np
import pytest

from stream.agents.stopwatch import Stopwatch
from stream.errors import InferenceError
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.models.risk import LogisticRisk
from stream.pipeline import Models, RiskModels
from stream.ports import Predictor
from stream.state.names import Names
from tests import laws, networks
from tests.fakes import FailingPredictor


class Clock:
    """Seconds, turned by hand."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        """Return the present moment."""
        return self.now


def test_an_inner_stage_stops_the_outer_one() -> None:
    """Each second counts to one stage, the innermost; times of a stage that comes again add up."""
    clock = Clock()
    watch = Stopwatch(clock)
    with watch.stage("features"):
        clock.now += 1
        with watch.stage("decode"):
            clock.now += 2
        clock.now += 4
        for _ in range(2):
            with watch.stage("inference"):
                clock.now += 8
        clock.now += 16
    clock.now += 32
    assert watch.taken() == {"features": 21, "decode": 2, "inference": 16}
    assert watch.taken() == {}


def test_a_stage_that_raises_ends() -> None:
    """What it took counts, and the next batch begins anew."""
    clock = Clock()
    watch = Stopwatch(clock)

    def fail() -> None:
        with watch.stage("features"), watch.stage("inference"):
            clock.now += 3
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    with watch.stage("decode"):
        clock.now += 1
    assert watch.taken() == {"features": 0, "inference": 3, "decode": 1}


class Slow(FailingPredictor):
    """A predictor that takes seconds for whatever it does."""

    def __init__(self, real: Predictor, clock: Clock) -> None:
        super().__init__(real)
        self.is_failing = False
        self._clock = clock

    def _fail(self) -> None:
        self._clock.now += 7
        super()._fail()


def models(predictor: Predictor, challenger: Predictor | None = None) -> Models:
    """Return models of which one is to be timed."""
    return Models(predictor, Fallback("knowledge"), ItemTable(), Names(), challenger=challenger)


def test_models_are_timed_and_say_the_same() -> None:
    """What predicts obeys the laws as before, under its own identity, and its time is that of inference."""
    clock = Clock()
    watch = Stopwatch(clock)
    timed = watch.timed(models(Slow(networks.random_dkt(), clock))).predictor
    real = networks.random_dkt()
    assert (timed.identity, timed.hidden_size) == (real.identity, real.hidden_size)
    batch = laws.make_batch(3, users=4, questions=6)
    laws.batch_equals_one_by_one(timed, batch)
    laws.rebuild_equals_stepping(timed, 3, [2, 5], 6)
    seconds = watch.taken()
    assert seconds.keys() == {"inference"}
    assert seconds["inference"] > 0
    assert seconds["inference"] % 7 == 0
    hidden = laws.some_states(timed, 4)
    found, expected = (each.predict(hidden, batch.questions, batch.features) for each in (timed, real))
    np.testing.assert_array_equal(found.p_correct, expected.p_correct)


def test_every_model_is_timed_and_none_is_made_up() -> None:
    """Champion, challenger, fallback and both risk models; where nothing is on trial nothing is."""
    clock = Clock()
    watch = Stopwatch(clock)
    alone = watch.timed(models(networks.fallback()))
    assert alone.challenger is None
    assert alone.risk.challenger is None
    risk = RiskModels(challenger=LogisticRisk(), share=0.5)
    plain = models(networks.fallback(), challenger=Slow(networks.fallback(), clock))
    both = watch.timed(Models(plain.predictor, plain.fallback, plain.items, plain.names, plain.challenger, 0.25, risk))
    assert both.share == 0.25
    assert both.risk.share == 0.5
    assert both.risk.challenger is not None
    assert both.risk.challenger.identity == LogisticRisk().identity
    assert both.fallback.identity.variant == "fallback"
    assert both.challenger is not None
    batch = laws.make_batch(3, users=2, questions=2)
    states = laws.some_states(both.challenger, 2)
    watch.taken()
    both.challenger.predict(states, batch.questions, batch.features)
    assert watch.taken() == {"inference": 7}
    both.fallback.predict(states, batch.questions, batch.features)
    assert watch.taken().keys() == {"inference"}


def test_a_model_that_fails_has_taken_its_time() -> None:
    """And the fallback, which answers in its place, begins with a watch that stands right."""
    clock = Clock()
    watch = Stopwatch(clock)
    failing = FailingPredictor(networks.random_dkt())
    timed = watch.timed(models(failing)).predictor
    batch = laws.make_batch(3, users=2, questions=2)
    states = laws.some_states(networks.random_dkt(), 2)
    with watch.stage("features"):
        clock.now += 1
        with pytest.raises(InferenceError):
            timed.predict(states, batch.questions, batch.features)
        clock.now += 1
    assert watch.taken() == {"features": 2, "inference": 0}
