"""The features of an answer: defaults, scales, the latest answers, gaps, and that the outcome never leaks."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Interaction
from stream.models.features import COLUMN, COUNT, NAMES
from stream.ports import Predictor
from tests import networks
from tests.worlds import Core, answers, examples, histories, interaction, placed, view


def features_of_the_last(*events: Interaction) -> dict[str, float]:
    """Return the features of the last of u-1's answers, by name."""
    *_, last = (example for example in examples(Core().feed(placed(events)).messages) if example.user_id == "u-1")
    return dict(zip(NAMES, last.features, strict=True))


def test_a_new_user_has_the_defaults() -> None:
    """With nothing known, rates are 0.5, times 60 s (0.6), counts and gaps 0."""
    found = features_of_the_last(interaction())
    for rate in ("rate", "topic_rate", "level_rate", "latest5_rate", "item_latest_correct", "item_rate"):
        assert found[rate] == 0.5, rate
    for seconds in ("seconds", "topic_seconds", "level_seconds", "latest5_seconds"):
        assert found[seconds] == pytest.approx(0.6), seconds
    for nothing in (
        "answers",
        "topic_answers",
        "level_answers",
        "gap",
        "topic_gap",
        "item_gap",
        "item_seen",
        "lnirt_logit",
    ):
        assert found[nothing] == 0, nothing


def test_history_is_scaled() -> None:
    """Times are divided by 100, counts by 100, and by 20 for a topic and a difficulty."""
    history = [
        interaction(at_s=0, topic_id="area", difficulty="easy", correct=True, duration_seconds=20.0, item_id="i-1"),
        interaction(at_s=100, topic_id="area", difficulty="hard", correct=False, duration_seconds=40.0, item_id="i-2"),
        interaction(at_s=200, topic_id="ratios", difficulty="easy", correct=True, duration_seconds=60.0, item_id="i-3"),
    ]
    found = features_of_the_last(*history, interaction(at_s=300, topic_id="area", difficulty="easy", item_id="i-4"))
    assert found["rate"] == pytest.approx(2 / 3)
    assert found["seconds"] == pytest.approx(0.4)
    assert found["answers"] == pytest.approx(0.03)
    assert (found["topic_rate"], found["topic_seconds"], found["topic_answers"]) == pytest.approx((0.5, 0.3, 0.1))
    assert (found["level_rate"], found["level_seconds"], found["level_answers"]) == pytest.approx((1, 0.4, 0.1))


def test_answers_without_time_leave_mean_times_alone() -> None:
    """A mean time goes over the answers that have one; 60 s where none has."""
    untimed = [interaction(at_s=60 * i, item_id=f"i-{i}", duration_seconds=None) for i in range(2)]
    assert features_of_the_last(*untimed, interaction(at_s=300))["seconds"] == pytest.approx(0.6)
    timed = interaction(at_s=200, item_id="i-9", duration_seconds=10.0)
    found = features_of_the_last(*untimed, timed, interaction(at_s=300))
    assert found["seconds"] == pytest.approx(0.1)
    assert found["latest5_seconds"] == pytest.approx(0.1, rel=0.025)


def test_an_unknown_difficulty_has_the_defaults() -> None:
    """A question of no known difficulty has no history at it."""
    found = features_of_the_last(*answers(3, correct=False), interaction(at_s=900, difficulty=None))
    assert (found["level_rate"], found["level_seconds"], found["level_answers"]) == pytest.approx((0.5, 0.6, 0))


def test_the_latest_five_count() -> None:
    """Success rate and mean time of the latest five answers, of however many there are."""
    outcomes = [True, True, True, False, False, True, False]
    history = [
        interaction(at_s=100 * i, item_id=f"i-{i}", correct=correct, duration_seconds=10.0 * (i + 1))
        for i, correct in enumerate(outcomes)
    ]
    found = features_of_the_last(*history, interaction(at_s=5_000))
    assert found["latest5_rate"] == pytest.approx(2 / 5)
    assert found["latest5_seconds"] == pytest.approx(0.5, rel=0.025)
    assert features_of_the_last(*history[:3], interaction(at_s=5_000))["latest5_rate"] == 1


def test_gaps_go_up_to_the_moment_the_item_was_asked() -> None:
    """Gaps to the last event, the topic and the item are ln(1 + s) / 10, the response time left out."""
    history = [
        interaction(at_s=0, topic_id="area", item_id="i-1", correct=False),
        interaction(at_s=500, topic_id="ratios", item_id="i-2"),
        view(at_s=800),
    ]
    found = features_of_the_last(
        *history, interaction(at_s=1_000, topic_id="area", item_id="i-1", duration_seconds=100.0)
    )
    assert found["gap"] == pytest.approx(math.log1p(100) / 10, rel=1e-5)
    assert found["topic_gap"] == pytest.approx(math.log1p(900) / 10, rel=1e-5)
    assert found["item_gap"] == pytest.approx(math.log1p(900) / 10, rel=1e-5)
    assert (found["item_seen"], found["item_latest_correct"]) == pytest.approx((0.2, 0))


def test_gaps_are_never_negative() -> None:
    """An answer that began before the last event ended, or comes out of order, has gaps of zero."""
    found = features_of_the_last(interaction(at_s=1_000), interaction(at_s=10, duration_seconds=500.0))
    assert (found["gap"], found["topic_gap"], found["item_gap"]) == (0, 0, 0)


def test_the_latest_meeting_of_an_item_counts() -> None:
    """An item met again: how often, and whether it was right the last time."""
    outcomes = [False, True, False, True]
    history = [interaction(at_s=100 * i, item_id="i-1", correct=correct) for i, correct in enumerate(outcomes)]
    found = features_of_the_last(*history, interaction(at_s=5_000, item_id="i-1"))
    assert (found["item_seen"], found["item_latest_correct"]) == pytest.approx((0.8, 1))


def test_practice_is_counted_fades_and_forgets() -> None:
    """Of an item and of its topic: right and wrong ones, faded by their age, the latest counting most, and how near."""
    history = [
        interaction(at_s=0, item_id="i-1", correct=False, duration_seconds=20.0),
        interaction(at_s=600, item_id="i-2", correct=True, duration_seconds=20.0),
        interaction(at_s=1_200, item_id="i-1", correct=True, duration_seconds=40.0),
        interaction(at_s=1_800, topic_id="other", item_id="i-3", correct=False),
    ]
    found = features_of_the_last(*history, interaction(at_s=2_430, item_id="i-1", duration_seconds=30.0))
    assert (found["item_right"], found["item_wrong"]) == pytest.approx((math.log(2), math.log(2)))
    assert found["item_right_faded"] == pytest.approx(math.log1p(1 / math.sqrt(1 + 20)), rel=1e-5)
    assert found["item_wrong_faded"] == pytest.approx(math.log1p(1 / math.sqrt(1 + 40)), rel=1e-5)
    assert found["item_recent"] == pytest.approx((0.5 + 1) / (1 + 1 + 0.75))
    assert (found["item_nearness"], found["topic_nearness"]) == pytest.approx((1 / 2, 1 / 2))
    assert found["item_latest_time"] == pytest.approx(math.log(40) - 3, abs=0.03)
    assert (found["topic_right"], found["topic_wrong"]) == pytest.approx((math.log(3), math.log(2)))
    assert found["topic_recent"] == pytest.approx((0.5 + 1 + 0.75) / (1 + 1 + 0.75 + 0.75**2))


def test_practice_is_of_the_first_skill_where_skills_are_named() -> None:
    """A platform's topics need not be among an answer's skills."""
    answered = interaction(at_s=0, item_id="i-1", skills=["halves", "thirds"], correct=True)
    found = features_of_the_last(answered, interaction(at_s=600, item_id="i-2", skills=["halves"]))
    assert (found["topic_right"], found["topic_nearness"], found["same_topic"]) == pytest.approx((math.log(2), 1, 1))
    other = features_of_the_last(answered, interaction(at_s=600, item_id="i-2", skills=["quarters"]))
    assert (other["topic_right"], other["topic_nearness"], other["same_topic"]) == pytest.approx((0, 0, 0))


def test_what_was_never_practised_is_neutral() -> None:
    """No counts, no nearness, a share of one half, a usual time."""
    found = features_of_the_last(interaction(), interaction(at_s=100, topic_id="other", item_id="i-9"))
    for what in ("item", "topic"):
        nothing = [found[f"{what}_{how}"] for how in ("right", "wrong", "right_faded", "nearness", "latest_time")]
        assert nothing == [0] * 5
        assert found[f"{what}_recent"] == 0.5
    assert (found["same_item"], found["same_topic"], found["skills_met"]) == (0, 0, 0)


def test_the_latest_answers_on_anything() -> None:
    """Shares that forget at three paces, a row of equal ones, the latest time, whether it was this item."""
    history = [
        interaction(at_s=100 * i, item_id=f"i-{i}", correct=correct, duration_seconds=50.0)
        for i, correct in enumerate([True, False, False])
    ]
    found = features_of_the_last(*history, interaction(at_s=5_000, item_id="i-2"))
    for name, keeps in (("recent_fast", 0.5), ("recent", 0.8), ("recent_slow", 0.95)):
        assert found[name] == pytest.approx((0.5 + keeps**2) / (1 + 1 + keeps + keeps**2)), name
    assert found["row"] == pytest.approx(-math.log(3))
    assert found["latest_time"] == pytest.approx(math.log(50) - 3, abs=0.03)
    assert (found["same_item"], found["same_topic"]) == (1, 1)
    again = features_of_the_last(*history, interaction(at_s=600), interaction(at_s=5_000, topic_id="x", item_id="i-2"))
    assert (again["row"], again["same_item"], again["same_topic"]) == pytest.approx((math.log(2), 0, 0))


def test_all_skills_of_a_question_count() -> None:
    """Their counts and shares, means over them, and the least share."""
    history = [
        interaction(at_s=0, skills=["a"], correct=True),
        interaction(at_s=100, skills=["a"], correct=True),
        interaction(at_s=200, skills=["b"], correct=False),
    ]
    found = features_of_the_last(*history, interaction(at_s=900, skills=["a", "b", "c"]))
    assert found["skills_right"] == pytest.approx(math.log(3) / 3)
    assert found["skills_wrong"] == pytest.approx(math.log(2) / 3)
    assert found["skills_rate"] == pytest.approx((2.5 / 3 + 0.5 / 2 + 0.5) / 3)
    assert found["skills_met"] == pytest.approx(2 / 3)
    assert found["skills_least"] == pytest.approx(0.25)


def test_a_question_without_item_has_no_past() -> None:
    """Items that are not named are never taken for each other."""
    history = [interaction(at_s=100 * i, item_id=None) for i in range(3)]
    assert features_of_the_last(*history, interaction(at_s=5_000, item_id=None))["item_seen"] == 0


def test_another_users_history_is_not_mine() -> None:
    """Only the user's own answers show in the user's features."""
    found = features_of_the_last(*answers(5, user="u-2"), interaction(at_s=900))
    assert (found["answers"], found["rate"], found["gap"]) == (0, 0.5, 0)


@settings(max_examples=40)
@given(histories())
def test_features_are_finite(events: list[Interaction]) -> None:
    """Whatever the history, every feature is a number."""
    for example in examples(Core().feed(placed(events)).messages):
        assert len(example.features) == COUNT
        assert np.isfinite(example.features).all()


@pytest.mark.parametrize("make", [networks.fallback, networks.random_dkt])
@settings(max_examples=30)
@given(history=histories(users=1), correct=st.booleans(), longer_ms=st.integers(0, 600_000))
def test_nothing_of_the_answer_itself_leaks(
    make: Callable[[], Predictor], history: list[Interaction], correct: bool, longer_ms: int
) -> None:
    """
    What is said of an answer depends neither on its outcome nor on how long it took.

    A longer response moves the answer's moment by as much: the item was asked at the same moment.
    """
    core = Core(make())
    core.feed(placed(history))
    at_s, seconds = 200_000.0, 17.0

    def said(correct: bool, longer_s: float) -> tuple[tuple[float, ...], float, float]:
        answer = interaction(
            at_s=at_s + longer_s,
            event_id="asked",
            topic_id="area",
            item_id="i-2",
            correct=correct,
            duration_seconds=seconds + longer_s,
        )
        (example,) = examples(core.restarted().feed(placed([answer], first=1_000)).messages)
        return example.features, example.p_before, example.median_before

    features, p_before, median_before = said(correct, longer_ms / 1000)
    expected = said(True, 0.0)
    np.testing.assert_allclose(features, expected[0], atol=1e-5)
    assert p_before == pytest.approx(expected[1], abs=1e-5)
    assert median_before == pytest.approx(expected[2], rel=1e-4)


def test_names_are_unique() -> None:
    """Each column has a name of its own."""
    assert len(COLUMN) == COUNT
