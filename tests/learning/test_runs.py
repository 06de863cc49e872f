"""The trainer's buffer: bounded, in order, without repeats, and padded as the network wants it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import TrainingExample
from stream.learning.runs import Buffer
from stream.models.dkt import SKILLS
from stream.models.features import COUNT
from tests.learning.test_item_statistics import example


def of(user: str, number: int, **changes: object) -> TrainingExample:
    """Return an example of a user."""
    return example(number, **{"user_id": user, **changes})  # type: ignore[arg-type]


def test_a_run_keeps_what_was_seen_and_said() -> None:
    """Outcome, time, difficulty, features, skills and predictions of each answer, in order; padding is empty."""
    buffer = Buffer(100, 10)
    buffer.add(of("u-1", 0, skills=("a", "b"), correct=True, seconds=60.0, p_before=0.7, p_before_fallback=0.6))
    buffer.add(of("u-1", 1, skills=("b",), correct=False, seconds=None, difficulty=None))
    buffer.add(of("u-2", 2, skills=("c",), features=tuple(float(i) for i in range(COUNT))))
    runs = buffer.runs()
    assert buffer.skills == ("a", "b", "c")
    assert runs.there.tolist() == [[True, True], [True, False]]
    assert runs.skills.tolist() == [[[1, 2, 0, 0], [2, 0, 0, 0]], [[3, 0, 0, 0], [0, 0, 0, 0]]]
    assert runs.correct.tolist() == [[1, 0], [1, 0]]
    assert runs.level.tolist() == [[3, 0], [3, 0]]
    assert runs.number.tolist() == [[0, 1], [2, 0]]
    assert runs.time[0].tolist() == [[pytest.approx(0, abs=1e-6), 1], [0, 0]]
    assert runs.features[1, 0].tolist() == list(range(COUNT))
    assert (runs.p_serving[0, 0], runs.p_fallback[0, 0]) == (pytest.approx(0.7), pytest.approx(0.6))


def test_more_skills_than_the_network_sees() -> None:
    """Further skills are known, and left out of the run."""
    buffer = Buffer(100, 10)
    names = tuple(f"s-{i}" for i in range(7))
    buffer.add(of("u-1", 0, skills=names))
    assert buffer.skills == names
    assert buffer.runs().skills.tolist() == [[[1, 2, 3, 4]]]
    assert buffer.runs().skills.shape[-1] == SKILLS


def test_an_event_counts_once() -> None:
    """The same event, come again under another place, changes nothing."""
    buffer = Buffer(100, 10)
    assert buffer.add(of("u-1", 0))
    assert not buffer.add(of("u-1", 0, correct=False))
    assert (len(buffer), buffer.count) == (1, 1)
    assert buffer.runs().correct.tolist() == [[1]]
    assert buffer.add(of("u-2", 0))


def test_a_run_is_bounded() -> None:
    """Of one user the latest answers are kept."""
    buffer = Buffer(100, 3)
    for number in range(7):
        buffer.add(of("u-1", number))
    assert buffer.runs().number.tolist() == [[4, 5, 6]]
    assert (len(buffer), buffer.count) == (3, 7)


def test_the_buffer_is_bounded() -> None:
    """In all so many are kept; who has been quiet longest goes first, whoever came first."""
    buffer = Buffer(6, 10)
    for number, user in enumerate(["a", "a", "b", "b", "a", "c", "c"]):
        buffer.add(of(user, number))
    assert sorted(buffer.runs().number[buffer.runs().there].tolist()) == [0, 1, 4, 5, 6]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 15)), max_size=40),
    st.integers(3, 12),
    st.integers(1, 5),
)
def test_bounds_hold_whatever_comes(events: list[tuple[str, int]], most: int, run: int) -> None:
    """Never more than the bounds, the size is what is there, and runs are in order."""
    buffer = Buffer(most, run)
    for user, number in events:
        buffer.add(of(user, number))
        runs = buffer.runs()
        assert len(buffer) == runs.there.sum() <= max(most, run)
        assert runs.there.sum(axis=1).max(initial=0) <= run
        for row in range(len(runs)):
            assert (np.diff(runs.number[row][runs.there[row]]) > 0).all()


def test_a_forgotten_user_is_gone() -> None:
    """Nothing of the user's answers is left; others stay, and an unknown user is nothing to forget."""
    buffer = Buffer(100, 10)
    for number in range(4):
        buffer.add(of("u-1", number))
        buffer.add(of("u-2", 10 + number))
    buffer.forget("u-1")
    buffer.forget("nobody")
    assert len(buffer) == 4
    assert (buffer.runs().number >= 1).all()
    assert sorted(buffer.runs().number.ravel().tolist()) == [1, 3, 5, 7]


def test_runs_since_a_number() -> None:
    """Only runs that have gone on since are asked for, each whole."""
    buffer = Buffer(100, 10)
    for number, user in enumerate(["a", "b", "a", "b", "b"]):
        buffer.add(of(user, number))
    assert buffer.runs(since=3).number.tolist() == [[1, 3, 4]]
    assert len(buffer.runs(since=5)) == 0


def test_an_empty_buffer_has_empty_runs() -> None:
    """Before the first answer there is nothing, in the right shape."""
    runs = Buffer(10, 10).runs()
    assert len(runs) == 0
    assert runs.skills.shape == (0, 1, SKILLS)


def test_rows_of_a_published_model_stay() -> None:
    """Skills of a model that is known keep their rows; new ones come after."""
    buffer = Buffer(100, 10)
    buffer.know(["z", "y"])
    buffer.add(of("u-1", 0, skills=("a", "y")))
    assert buffer.skills == ("z", "y", "a")
    assert buffer.runs().skills[0, 0].tolist() == [3, 2, 0, 0]


def test_taking_runs_cuts_them_to_the_longest() -> None:
    """A batch of short runs is short."""
    buffer = Buffer(100, 10)
    for number in range(6):
        buffer.add(of("long", number))
    buffer.add(of("short", 9))
    runs = buffer.runs()
    assert runs.take(np.array([1])).correct.shape == (1, 1)
    assert runs.take(np.array([1, 0])).number.shape == (2, 6)
