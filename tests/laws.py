"""
What every predictor must obey, as functions of a predictor and of drawn inputs.

A new model is a new class that passes these; `tests/models/test_laws.py` runs them over each that there is.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.models.features import COLUMN, COUNT, Questions
from stream.models.items import ItemTable, Parameters
from stream.ports import Forecast, Hidden, Predictor
from stream.state import arrays, learner
from stream.state.learner import Answers, decode_times, key64
from tests.worlds import START, TOPIC_NAMES

FORECAST_TOLERANCE = 1e-5
HIDDEN_TOLERANCE = 2e-3
"""States are float16: the last digits of two runs may round apart."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One answer of each of `B` users, and `N` questions of them."""

    answers: Answers
    questions: Questions
    features: NDArray[np.float32]
    after: NDArray[np.bool_]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Draw a batch."""
    return make_batch(draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 6)), draw(st.integers(0, 9)))


def make_batch(seed: int, users: int, questions: int) -> Batch:
    """Return a random batch."""
    random = np.random.default_rng(seed)
    features = random.normal(0.5, 0.5, (questions, COUNT)).astype(np.float32)
    features[:, COLUMN["lnirt_sigma"]] = random.uniform(0.1, 1.5, questions)
    topic = _topics(random, questions)
    return Batch(
        make_answers(random, users, skills=3),
        Questions(
            row=random.integers(0, users, questions),
            item=topic,
            topic=topic,
            skills=topic[:, None],
            level=random.integers(-1, 3, questions).astype(np.int8),
            asked_at=np.full(questions, START.timestamp()),
            parameters=parameters(questions),
        ),
        features,
        random.integers(0, 2, questions).astype(bool),
    )


def make_answers(random: np.random.Generator, users: int, skills: int) -> Answers:
    """Return one random answer of each user; times are such that a record remembers them exactly."""
    times = decode_times(random.integers(0, 256, users).astype(np.uint8))
    topics = [_topics(random, users) for _ in range(skills)]
    return Answers(
        event=random.integers(1, 2**63, users).astype(np.uint64),
        item=_topics(random, users),
        topic=topics[0],
        skills=np.stack(topics, axis=1),
        level=random.integers(-1, 3, users).astype(np.int8),
        correct=random.integers(0, 2, users).astype(bool),
        response_time_s=np.where(random.random(users) < 0.8, times, np.nan).astype(np.float32),
        at=START.timestamp() + np.arange(users, dtype=float),
    )


def _topics(random: np.random.Generator, count: int) -> NDArray[np.uint64]:
    keys = np.array([key64(name) for name in TOPIC_NAMES], np.uint64)
    return keys[random.integers(0, len(keys), count)]


def parameters(count: int) -> Parameters:
    """Return parameters of items of which nothing is known."""
    return ItemTable().parameters(np.zeros(count, np.int64))


def some_states(predictor: Predictor, users: int) -> Hidden:
    """Return states as they are after a few answers."""
    random = np.random.default_rng(users)
    hidden = np.zeros((users, predictor.hidden_size), np.float16)
    for _ in range(3):
        batch = make_batch(int(random.integers(1000)), users, 0)
        hidden, _ = predictor.step(hidden, batch.answers, batch.questions, batch.features, batch.after)
    return hidden


def step_leaves_its_input(predictor: Predictor, batch: Batch) -> None:
    """A step changes neither the states nor anything else that it is given, and repeats."""
    hidden = some_states(predictor, len(batch.answers.at))
    given: list[NDArray[Any]] = [
        hidden,
        batch.features,
        batch.after,
        *_columns(batch.answers),
        *_columns(batch.questions),
    ]
    copies = [array.copy() for array in given]
    first = predictor.step(hidden, batch.answers, batch.questions, batch.features, batch.after)
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    second = predictor.step(hidden, batch.answers, batch.questions, batch.features, batch.after)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1].p_correct, second[1].p_correct)


def predicts_before_any_answer(predictor: Predictor, batch: Batch) -> None:
    """A user of whom nothing is known has a state, and predictions that are in range."""
    users = len(batch.answers.at)
    hidden = predictor.rebuild(learner.remembered(learner.new_learners(users, 10)))
    assert hidden.shape == (users, predictor.hidden_size)
    assert not hidden.any()
    is_in_range(predictor.predict(hidden, batch.questions, batch.features), len(batch.questions.row))


def nobody_is_no_trouble(predictor: Predictor) -> None:
    """A batch of no users has no states and no forecasts."""
    batch = make_batch(1, 1, 0)
    nobody = take(batch.answers, np.zeros(0, np.int64))
    hidden = predictor.rebuild(learner.remembered(learner.new_learners(0, 10)))
    next_hidden, forecast = predictor.step(hidden, nobody, batch.questions, batch.features, batch.after)
    assert next_hidden.shape == hidden.shape == (0, predictor.hidden_size)
    is_in_range(forecast, 0)
    is_in_range(predictor.predict(hidden, batch.questions, batch.features), 0)


def is_in_range(forecast: Forecast, count: int) -> None:
    """A probability is never 0 or 1, a spread never 0, and all is finite float32."""
    for column in (forecast.p_correct, forecast.mu, forecast.sigma):
        assert column.shape == (count,)
        assert column.dtype == np.float32
        assert np.isfinite(column).all()
    assert ((forecast.p_correct > 0) & (forecast.p_correct < 1)).all()
    assert (forecast.sigma > 0).all()


def extreme_features_stay_in_range(predictor: Predictor, batch: Batch) -> None:
    """However sure LNIRT is, probabilities stay inside of (0, 1)."""
    hidden = some_states(predictor, len(batch.answers.at))
    for logit in (-60, 60):
        features = batch.features.copy()
        features[:, COLUMN["lnirt_logit"]] = logit
        is_in_range(predictor.predict(hidden, batch.questions, features), len(batch.questions.row))


def batch_equals_one_by_one(predictor: Predictor, batch: Batch) -> None:
    """A user's state and forecasts do not depend on who else is in the batch."""
    users = len(batch.answers.at)
    hidden = some_states(predictor, users)
    together, forecast = predictor.step(hidden, batch.answers, batch.questions, batch.features, batch.after)
    for user in range(users):
        mine = np.flatnonzero(batch.questions.row == user)
        alone, forecast_alone = predictor.step(
            hidden[user : user + 1],
            take(batch.answers, np.array([user])),
            _of_one(batch.questions, mine),
            batch.features[mine],
            batch.after[mine],
        )
        np.testing.assert_allclose(alone[0], together[user], atol=HIDDEN_TOLERANCE, rtol=HIDDEN_TOLERANCE)
        same_forecasts(forecast_alone, forecast, mine)


def take(answers: Answers, rows: NDArray[np.int64]) -> Answers:
    """Return some of the answers."""
    columns: list[NDArray[Any]] = [column[rows] for column in _columns(answers)]
    return Answers(*columns)


def _of_one(questions: Questions, mine: NDArray[np.int64]) -> Questions:
    """Return some of the questions, as the first user's."""
    return replace(
        questions,
        row=np.zeros(len(mine), np.int64),
        item=questions.item[mine],
        topic=questions.topic[mine],
        skills=questions.skills[mine],
        level=questions.level[mine],
        asked_at=questions.asked_at[mine],
        parameters=parameters(len(mine)),
    )


def same_forecasts(found: Forecast, expected: Forecast, rows: NDArray[np.int64] | slice) -> None:
    """Two forecasts agree, up to the order in which sums were taken."""
    for name in ("p_correct", "mu", "sigma"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name)[rows], atol=FORECAST_TOLERANCE, rtol=FORECAST_TOLERANCE
        )


def predict_equals_the_step_before(predictor: Predictor, batch: Batch) -> None:
    """What a step says before the answer is what `predict` says; the answer itself does not show in it."""
    hidden = some_states(predictor, len(batch.answers.at))
    before = np.zeros(len(batch.questions.row), bool)
    _, stepped = predictor.step(hidden, batch.answers, batch.questions, batch.features, before)
    same_forecasts(predictor.predict(hidden, batch.questions, batch.features), stepped, slice(None))


def rebuild_equals_stepping(predictor: Predictor, seed: int, counts: list[int], remembered: int) -> None:
    """
    States rebuilt from remembered answers are those that stepping through these answers leads to.

    Args:
        predictor: Any.
        seed: Of the answers.
        counts: How many answers each user has given.
        remembered: The length of the ring.
    """
    random = np.random.default_rng(seed)
    records = learner.new_learners(len(counts), remembered)
    hidden = np.zeros((len(counts), predictor.hidden_size), np.float16)
    for t in range(max(counts)):
        answers = make_answers(random, len(counts), skills=1)
        who = np.flatnonzero(np.array(counts) > t)
        of_these = take(answers, who)
        of_who = arrays.take(records, who)
        learner.remember_answers(of_who, of_these)
        arrays.put(records, who, of_who)
        still_known = np.flatnonzero(np.array(counts)[who] - t <= remembered)
        if len(still_known):
            nothing = make_batch(0, 1, 0)
            hidden[who[still_known]], _ = predictor.step(
                hidden[who[still_known]],
                take(of_these, still_known),
                nothing.questions,
                nothing.features,
                nothing.after,
            )
    rebuilt = predictor.rebuild(learner.remembered(records))
    np.testing.assert_allclose(rebuilt, hidden, atol=HIDDEN_TOLERANCE, rtol=HIDDEN_TOLERANCE)


def _columns(value: Answers | Questions) -> list[NDArray[Any]]:
    """Return the array columns of a value, in the order of its fields."""
    return [column for field in fields(value) if isinstance(column := getattr(value, field.name), np.ndarray)]
