"""What a network learns from: an answer packed and padded as it wants it, and how much one user counts."""

import numpy as np
import pytest

from schemas import TrainingExample
from stream.learning.runs import (
    ANSWER,
    PADDING,
    PLACES,
    Runs,
    can_pack,
    influence,
    influence_cap,
    longest_run,
    packed,
    padded,
    with_outcome,
)
from stream.models.dkt import SKILLS, item_rows
from stream.models.features import COUNT
from stream.state.learner import key64
from tests.learning.test_buffer import example


def runs_of(*runs: tuple[TrainingExample, ...], longest: int | None = None) -> Runs:
    """Return runs; the skill `s-3` has the number 3 and the row 30."""
    each = [answer for run in runs for answer in run]
    records = [packed(answer, [int(skill[2:]) for skill in answer.skills]) for answer in each]
    lengths = np.array([len(run) for run in runs], np.int64)
    answers = np.frombuffer(b"".join(records), ANSWER)
    return padded(answers, np.arange(len(each)), lengths, np.arange(100) * 10, longest)


def lengths(*each: int) -> Runs:
    """Return runs of some lengths."""
    return runs_of(*(tuple(example("u", number) for number in range(length)) for length in each))


def test_a_run_keeps_what_was_seen_and_said() -> None:
    """Outcome, time, difficulty, features, skills and predictions of each answer, in order; padding is empty."""
    first = example("u", 0, skills=("s-1", "s-2"), item_id="i", response_time_seconds=60.0, p_before=0.7,
                    p_before_fallback=0.6, version=7)  # fmt: skip
    second = example("u", 1, skills=("s-2",), correct=False, response_time_seconds=None, difficulty=None)
    third = example("v", 2, skills=("s-9",), features=tuple(float(i) for i in range(COUNT)))
    runs = runs_of((first, second), (third,))
    assert runs.there.tolist() == [[True, True], [True, False]]
    assert runs.skills.tolist() == [[[10, 20, 0, 0], [20, 0, 0, 0]], [[90, 0, 0, 0], [0, 0, 0, 0]]]
    assert runs.item.tolist() == [[item_rows(np.array([key64("i")], np.uint64))[0], 0], [0, 0]]
    assert runs.correct.tolist() == [[1, 0], [1, 0]]
    assert runs.level.tolist() == [[3, 0], [3, 0]]
    assert runs.number.tolist() == [[0, 1], [2, 0]]
    assert runs.version.tolist() == [[7, 0], [0, 0]]
    assert runs.time[0].tolist() == [[pytest.approx(0, abs=1e-6), 1], [0, 0]]
    assert runs.features[1].tolist() == [list(range(COUNT)), [0] * COUNT]
    assert runs.p_serving[0].tolist() == [pytest.approx(0.7), 0.5]
    assert runs.p_fallback.tolist() == [[pytest.approx(0.6), 0.5], [0.5, 0.5]]


def test_no_runs_have_the_right_shape() -> None:
    """Before the first answer there is nothing to learn, of a length of one."""
    runs = runs_of()
    assert len(runs) == 0
    assert runs.skills.shape == (0, 1, SKILLS)
    assert runs.features.shape == (0, 1, COUNT)


def test_more_skills_than_the_network_sees() -> None:
    """Further skills are left out of the run."""
    runs = runs_of((example("u", 0, skills=tuple(f"s-{i}" for i in range(1, 8))),))
    assert runs.skills.tolist() == [[[10, 20, 30, 40]]]


def test_an_outcome_is_corrected_and_nothing_else() -> None:
    """The time and all else stay."""
    record = packed(example("u", 0), [1])
    changed = with_outcome(record, correct=False)
    assert changed != record
    assert with_outcome(changed, correct=True) == record


@pytest.mark.parametrize(
    ("features", "can"),
    [
        ((0.0,) * COUNT, True),
        ((3e38, -3e38, *(0.0,) * (COUNT - 2)), True),
        ((0.0,) * (COUNT - 1), False),
        ((), False),
        ((4e38, *(0.0,) * (COUNT - 1)), False),
        ((-4e38, *(0.0,) * (COUNT - 1)), False),
    ],
)
def test_what_cannot_be_packed_is_known_before(features: tuple[float, ...], can: bool) -> None:
    """Too few features, and such as no float32 holds."""
    of_all = example("u", 0, features=features, response_time_seconds=1e300)
    assert can_pack(of_all) is can
    if can:
        assert np.isfinite(runs_of((of_all,)).time).all()


def test_long_runs_are_cut_to_their_latest() -> None:
    """The start of a long run goes, the latest answers stay, short runs are whole."""
    runs = runs_of(*((tuple(example("u", n) for n in range(length))) for length in (5, 1, 3)), longest=3)
    assert runs.number.tolist() == [[2, 3, 4], [5, 0, 0], [6, 7, 8]]
    assert runs.there.sum(axis=1).tolist() == [3, 1, 3]


def test_padding_is_bounded() -> None:
    """However few long runs stand among however many short ones; little is never cut."""
    assert longest_run(np.array([200, 3, 1])) == 200
    assert longest_run(np.zeros(0, np.int64)) == 1
    skewed = np.array([5] * 19_999 + [200])
    cut = longest_run(skewed)
    assert 5 * 5 < cut < 200
    assert cut * len(skewed) <= PADDING * skewed.sum()
    assert longest_run(np.ones(PLACES * 2, np.int64)) == 1


def test_taking_runs_cuts_them_to_the_longest() -> None:
    """A batch of short runs is short."""
    runs = lengths(6, 1)
    assert runs.take(np.array([1])).correct.shape == (1, 1)
    assert runs.take(np.array([1, 0])).number.shape == (2, 6)


def test_a_users_influence_is_capped() -> None:
    """Nobody counts for more than the cap, whoever answers less counts in full."""
    runs = lengths(10, 10, 200)
    cap = influence_cap(runs)
    weight = influence(runs, cap)
    assert cap == 50
    assert weight.dtype == np.float32
    assert weight.tolist() == [1, 1, 0.25]
    assert (weight * runs.there.sum(axis=1)).max() == 50


def test_usual_users_are_not_held_back() -> None:
    """Where everybody answers much, the cap is three times as much as that."""
    runs = lengths(100, 100, 100, 400)
    assert influence_cap(runs) == 300
    assert influence(runs, 300.0).tolist() == [1, 1, 1, 0.75]


def test_a_part_is_weighed_by_the_cap_of_the_whole() -> None:
    """A batch of nothing but long runs is weighed as in the whole; empty runs do no harm."""
    runs = lengths(10, 10, 200, 0)
    weight = influence(runs, influence_cap(runs))
    part = runs.take(np.array([2, 3]))
    assert influence(part, influence_cap(runs)).tolist() == weight[2:].tolist() == [0.25, 1]
    assert influence_cap(runs_of()) == 50
