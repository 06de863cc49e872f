"""LNIRT: beliefs move the right way, sharpen, and answers of no time leave speed alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.models import lnirt
from stream.models.items import PRIOR_TIME_INTENSITY
from stream.state import learner
from stream.state.learner import Answers
from tests.laws import parameters


def answer(correct: bool, seconds: float = math.nan) -> Answers:
    """Return one answer of one user."""
    keys = np.ones(1, np.uint64)
    return Answers(
        keys,
        keys,
        keys,
        keys[:, None],
        np.zeros(1, np.int8),
        np.array([correct]),
        np.array([seconds], np.float32),
        np.ones(1),
    )


def after(*answers: Answers) -> learner.Records:
    """Return the record after answers, `(1,)`."""
    records = learner.new_learners(1, 5)
    for each in answers:
        lnirt.learn(records, each, parameters(1))
    return records


def said(records: learner.Records) -> lnirt.Belief:
    """Return what is believed of the user's next answer."""
    return lnirt.believe(records, np.zeros(1, np.int64), parameters(1))


def test_right_answers_raise_the_ability_and_wrong_ones_lower_it() -> None:
    """Each answer moves the belief its way, the later ones less."""
    one, two, three = (float(after(*[answer(correct=True)] * n)["ability"][0]) for n in (1, 2, 3))
    assert 0 < one < two < three
    assert three - two < one
    assert after(answer(correct=False))["ability"][0] == pytest.approx(-one)
    assert said(after(answer(correct=True))).logit[0] > 0


def test_beliefs_sharpen() -> None:
    """The more answers, the surer; but never surer than learning on the way allows."""
    variances = [
        float(after(*[answer(correct=bool(i % 2), seconds=30.0) for i in range(n)])["ability_var"][0])
        for n in (0, 1, 5, 100)
    ]
    assert variances == sorted(variances, reverse=True)
    assert variances[0] == learner.PRIOR_ABILITY_VAR
    assert variances[-1] > 0.02


def test_fast_answers_raise_the_speed() -> None:
    """Answers faster than the item usually takes raise the speed, slower ones lower it; without time it stays."""
    assert after(answer(correct=True, seconds=5.0))["speed"][0] > 0
    assert after(answer(correct=True, seconds=500.0))["speed"][0] < 0
    untimed = after(answer(correct=True))
    assert (untimed["speed"][0], untimed["speed_var"][0]) == (0, learner.PRIOR_SPEED_VAR)
    assert said(after(answer(correct=True, seconds=5.0))).mu[0] < PRIOR_TIME_INTENSITY


def test_an_answer_left_open_over_lunch_says_little() -> None:
    """Beyond a factor of seven a time says no more."""
    assert (
        after(answer(correct=True, seconds=3_600.0))["speed"] == after(answer(correct=True, seconds=90_000.0))["speed"]
    )


def test_expected_seconds_of_the_unknown_are_a_minute() -> None:
    """The mean of the log-normal, not its median, is 60 s where nothing is known."""
    belief = said(after())
    assert math.exp(belief.mu[0] + belief.sigma[0] ** 2 / 2) == pytest.approx(60, rel=1e-5)
    assert belief.logit[0] == 0


def test_learning_changes_ability_and_speed_only() -> None:
    """Of a record that is learned from, in place, all else stays what it was."""
    records = after(answer(correct=True, seconds=9.0))
    copy = records.copy()
    lnirt.learn(records, answer(correct=False, seconds=1.0), parameters(1))
    changed = {name for name in records.dtype.names or () if not np.array_equal(records[name], copy[name])}
    assert changed == {"ability", "ability_var", "speed", "speed_var"}


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 604_800, width=32)), max_size=30))
def test_beliefs_stay_numbers(answers: list[tuple[bool, float]]) -> None:
    """Whatever is answered, and be it in no time at all, beliefs are finite and spreads above zero."""
    records = after(*(answer(correct, seconds) for correct, seconds in answers))
    belief = said(records)
    assert np.isfinite([records["ability"][0], records["speed"][0], belief.logit[0], belief.mu[0]]).all()
    assert min(records["ability_var"][0], records["speed_var"][0], belief.sigma[0]) > 0


@given(st.floats(-(2.0**90), 2.0**90, width=32))
def test_a_probability_is_never_certain(x: float) -> None:
    """In float32 too, between 0 and 1."""
    (p,) = lnirt.sigmoid(np.array([x], np.float32))
    assert 0 < p < 1
    if abs(x) < 14:
        assert p == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-4)
