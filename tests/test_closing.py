"""The closing of a week: who is scored once more, and what is said."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import RiskExample
from stream import closing
from stream.closing import Closed, Week
from stream.emission import prediction_id
from stream.errors import InferenceError
from stream.models import weekly
from stream.models.risk import LogisticRisk
from stream.models.weekly import Seen
from stream.pipeline import RiskModels, score_risks
from stream.ports import Identity, Risks
from stream.state import codec
from stream.state.academic import week_of
from tests.worlds import (
    NOW,
    START,
    Core,
    answers,
    attendance,
    check,
    ended,
    enrolment,
    grade,
    interaction,
    placed,
    placed_academics,
    risk_examples,
    risks,
    view,
)

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
FIRST = week_of(START.timestamp())
"""The week of the start."""


class FlatRisk:
    """A risk model that says the same of everybody, or fails."""

    def __init__(self, version: int, score: float, error: Exception | None = None) -> None:
        self.identity = Identity("risk", version, "champion" if version == 1 else "challenger", "none")
        self.said, self.error = score, error
        self.asked = 0

    def score(self, seen: Seen) -> Risks:
        """Return the score of each."""
        if self.error is not None:
            raise self.error
        self.asked += len(seen)
        flat = np.full((len(seen), 1), self.said, np.float32)
        return Risks(flat[:, 0], (f"of-{self.identity.version}",), flat, flat)


def close(core: Core, week: int, *users: str) -> Closed:
    """Close a week for users, whether that is due or not."""
    states = core.users(users)
    names = [f"{user}" for user in users]
    return closing.close(
        Week(week, "academics"), names, [3] * len(names), states.learners, states.academics, core.models.risk,
        core.models.names, NOW,
    )  # fmt: skip


def is_due(core: Core, week: int, user: str = "u-1") -> bool:
    """Return whether a week is to be closed for a user."""
    states = core.users([user])
    return bool(closing.to_close(states.learners, states.academics, week)[0])


def keep(core: Core, closed: Closed, *users: str) -> None:
    """Keep the records of users for whom a week was closed."""
    for user, value in zip(users, codec.encode_academics(closed.academics), strict=True):
        core.academics[user] = value


# ------------------------------------------------------------------------------------------------------ who is scored


def test_whoever_was_there_is_closed() -> None:
    """An answer, a view, a lecture, an enrolment: whatever was known by the end of the week."""
    core = Core()
    core.feed(placed([interaction("u-1"), view("u-2", at_s=60)]))
    core.feed_academics(placed_academics([attendance(0, user="u-3"), enrolment(0, user="u-4")]))
    assert all(is_due(core, FIRST, f"u-{number}") for number in range(1, 5))
    assert all(is_due(core, FIRST + 3, f"u-{number}") for number in range(1, 5))
    assert not is_due(core, FIRST, "nobody")


def test_whoever_came_after_the_week_is_not() -> None:
    """Nothing was known of them when it ended: there is nothing to say of it."""
    core = Core()
    core.feed(placed([interaction("u-1", at_s=WEEK_S)]))
    core.feed_academics(placed_academics([attendance(WEEK_S, user="u-2"), enrolment(WEEK_S, user="u-3")]))
    assert not any(is_due(core, FIRST, f"u-{number}") for number in range(1, 4))
    assert all(is_due(core, FIRST + 1, f"u-{number}") for number in range(1, 4))


def test_old_and_new_users_are_told_apart_after_long() -> None:
    """A lecture in totals that has left the ten weeks is known as well."""
    core = Core()
    core.feed_academics(placed_academics([attendance(0), attendance(15 * WEEK_S)]))
    assert is_due(core, FIRST + 14)


@pytest.mark.parametrize("was_closed", [True, False])
def test_whoever_comes_back_before_his_turn_was_there(*, was_closed: bool) -> None:
    """After ten weeks and more nothing of before is in the weeks that are kept; that he was known is."""
    core = Core()
    core.feed(placed([view() if was_closed else interaction()]))
    if was_closed:
        keep(core, close(core, FIRST, "u-1"), "u-1")
    core.feed(placed([view(at_s=11 * WEEK_S)], first=1))
    assert is_due(core, FIRST + 10)


def test_a_week_is_closed_once() -> None:
    """Then the next one, and an event in between changes nothing of that."""
    core = Core()
    core.feed(placed([interaction()]))
    keep(core, close(core, FIRST, "u-1"), "u-1")
    assert not is_due(core, FIRST)
    assert not is_due(core, FIRST - 1)
    assert is_due(core, FIRST + 1)
    core.feed_academics(placed_academics([attendance(WEEK_S)]))
    assert not is_due(core, FIRST)


def test_a_course_that_has_ended_is_not_closed() -> None:
    """Nor is an erased user; an enrolment begins anew."""
    core = Core()
    core.feed_academics(placed_academics([attendance(0), ended(60, "fail")]))
    assert not is_due(core, FIRST)
    core.feed_academics(placed_academics([enrolment(DAY_S)], first=10))
    assert is_due(core, FIRST)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 25), st.lists(st.sampled_from(["answer", "view", "lecture", "grade"]), min_size=1, max_size=5))
def test_whoever_is_still_stays_as_he_is(weeks: int, kinds: list[str]) -> None:
    """Users who are closed no more would be scored the same for ever; the others are closed each week."""
    core = Core()
    for number, kind in enumerate(kinds):
        at_s = number * 5 * DAY_S
        if kind in {"answer", "view"}:
            event = interaction(at_s=at_s, item_id=f"i-{number}") if kind == "answer" else view(at_s=at_s)
            core.feed(placed([event], first=number))
        else:
            school = attendance(at_s) if kind == "lecture" else grade(at_s=at_s)
            core.feed_academics(placed_academics([school], first=number))
    week = FIRST + weeks + len(kinds)
    closed = close(core, week, "u-1")
    keep(core, closed, "u-1")
    if not is_due(core, week + 1):
        states = core.users(["u-1"])
        now, later = (
            weekly.see(states.learners, states.academics, np.array([START.timestamp() + n * WEEK_S])).steps
            for n in (week - FIRST + 1, week - FIRST + 30)
        )
        np.testing.assert_array_equal(now, later)
    else:
        assert weeks < 25


# -------------------------------------------------------------------------------------------------------- what is said


def test_the_prediction_of_a_closed_week() -> None:
    """As of its last second, under an id from user and week, with the reason, from the academics' place."""
    core = Core()
    core.feed(placed(answers(3)))
    core.feed_academics(placed_academics([attendance(0, "absent")], first=7))
    closed = close(core, FIRST, "u-1")
    check(closed.messages)
    (said,) = risks(closed.messages)
    assert said.prediction_id == prediction_id(closing.closing_id("u-1", FIRST), "risk")
    assert (said.reason, said.fallback, said.model.variant) == ("week_closed", True, "fallback")
    assert said.as_of.isoformat() == "2026-01-11T23:59:59+00:00"
    source = said.source
    assert (source.topic, source.partition, source.offset) == ("academics", 3, 7)
    assert source.event_id == closing.closing_id("u-1", FIRST)
    assert closed.academics["closed"].tolist() == [FIRST]
    assert closed.scores == pytest.approx([said.score], abs=1e-6)


def test_silence_shows() -> None:
    """The score of a user from whom nothing comes rises week by week, under an id of its own each."""
    core = Core()
    core.feed(placed(answers(3)))
    said = [risks(close(core, FIRST + week, "u-1").messages)[0] for week in range(6)]
    scores = [each.score for each in said]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    assert len({each.prediction_id for each in said}) == 6


def test_the_same_closing_again_says_the_same() -> None:
    """Byte for byte but for when it was produced; whoever had been heard of since is seen as of then."""
    core = Core()
    core.feed(placed([interaction("u-1"), interaction("u-2"), interaction("u-2", at_s=WEEK_S, item_id="i-2")]))
    first, second = (close(core, FIRST, "u-1", "u-2") for _ in range(2))
    assert first.messages == second.messages
    assert first.academics.tobytes() == second.academics.tobytes()
    assert [said.as_of.timestamp() for said in risks(first.messages)] == [
        START.timestamp() - 8 * 3_600 + WEEK_S - 1, START.timestamp() + WEEK_S,
    ]  # fmt: skip
    alone = close(core, FIRST, "u-1")
    assert alone.messages == [message for message in first.messages if message.key == b"u-1"]


def test_the_example_of_a_closed_week() -> None:
    """What the model saw, to the bit, what is kept of the enrolment by its names, and what the fallback said."""
    features, slices = frozenset({"education", "credits"}), frozenset({"gender", "age"})
    core = Core(risk=RiskModels(FlatRisk(1, 0.7), features=features, slices=slices))
    context = {"education": "A level", "credits": 60, "gender": "female", "age": 19, "income": 1}
    school = [enrolment(0, starts_at="2026-01-12T00:00:00Z", context=context), attendance(60), enrolment(0, user="u-2")]
    core.feed_academics(placed_academics(school))
    core.models.names.key("course=c-1")
    core.models.names.key("education=A level")
    core.models.names.key("gender=female")
    closed = close(core, FIRST, "u-1", "u-2")
    check(closed.messages)
    one, other = risk_examples(closed.messages)
    states = core.users(["u-1"])
    steps = weekly.see(states.learners, states.academics, np.array([one.as_of.timestamp()])).steps[0]
    packed = np.frombuffer(base64.b64decode(one.steps), "<f2").reshape(steps.shape)
    np.testing.assert_array_equal(packed.astype(np.float32), steps)
    assert one.example_id == prediction_id(closing.closing_id("u-1", FIRST), "risk_example")
    assert (one.week, one.course_id, one.feature_version) == (FIRST, "c-1", weekly.VERSION)
    assert one.context == {"education": "A level", "credits": 60.0, "course_day": -1.0, "enrolled_before": 7.0}
    assert one.slices == {"gender": "female", "age": "19"}
    assert one.score == pytest.approx(0.7)
    assert one.unheard is None
    assert one.score_fallback == pytest.approx(score_of_fallback(core), abs=1e-6)
    assert (other.course_id, other.context, other.slices) == ("c-1", {}, {})


def score_of_fallback(core: Core) -> float:
    """Return the fallback's score of u-1 at the end of the first week."""
    states = core.users(["u-1"])
    end = START.timestamp() - 8 * 3_600 + WEEK_S - 1
    return float(LogisticRisk().score(weekly.see(states.learners, states.academics, np.array([end]))).score[0])


def test_what_nobody_can_name_is_left_out() -> None:
    """A fact whose name this process has not met is not in the example."""
    core = Core(risk=RiskModels(features=frozenset({"education"})))
    core.feed_academics(placed_academics([enrolment(0, context={"education": "A level"})]))
    (example,) = risk_examples(close(core, FIRST, "u-1").messages)
    assert (example.course_id, example.context) == (None, {})


# ------------------------------------------------------------------------------------------------------------ on trial

MANY = tuple(f"u-{number}" for number in range(40))


def trial(share: float, error: Exception | None = None, champion: Exception | None = None) -> Any:
    """Return risk models of which one is on trial."""
    return RiskModels(FlatRisk(1, 0.2, champion), FlatRisk(2, 0.8, error), share)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_both_models_score_everybody_when_a_week_closes(share: float) -> None:
    """One is published, the other one stands in the example, of every user."""
    core = Core(risk=trial(share))
    core.feed(placed(interaction(user) for user in MANY))
    closed = close(core, FIRST, *MANY)
    said = {each.user_id: each for each in risks(closed.messages)}
    heard = {user for user, each in said.items() if each.model.version == 2}
    assert {each.score for each in said.values()} <= {0.2, 0.8}
    assert {user for user, each in said.items() if each.score == 0.8} == heard
    assert (len(heard) == 0, len(heard) == len(MANY)) == (share == 0, share == 1)
    for example in risk_examples(closed.messages):
        other = example.unheard
        assert other is not None
        assert {example.model.version, other.model.version} == {1, 2}
        assert {example.score, other.score} == {0.2, 0.8}
        assert example.score == said[example.user_id].score
    assert all(each.factors[0].feature == f"of-{each.model.version}" for each in said.values())


def test_elsewhere_a_challenger_is_asked_of_its_share_alone() -> None:
    """Nobody keeps what it would say of the others."""
    models = trial(0.5)
    states = Core().users(MANY)
    seen = weekly.see(states.learners, states.academics, np.full(len(MANY), NOW.timestamp()))
    judged = score_risks(MANY, seen, models)
    heard = [identity.version == 2 for identity, _ in judged.voices]
    assert models.challenger.asked == sum(heard)
    assert [other is not None for other in judged.unheard] == heard


@pytest.mark.parametrize("error", [InferenceError("broken"), ZeroDivisionError("a defect of its own")])
def test_a_challenger_that_fails_costs_nobody(error: Exception) -> None:
    """The champion has spoken; it is counted."""
    core = Core(risk=trial(1.0, error))
    core.feed(placed([interaction()]))
    closed = close(core, FIRST, "u-1")
    (said,) = risks(closed.messages)
    assert said.model.version == 1
    assert said.score == pytest.approx(0.2)
    assert (closed.fell_back, closed.unchallenged) == (0, 1)
    assert risk_examples(closed.messages)[0].unheard is None


def test_the_fallback_speaks_for_a_champion_that_fails() -> None:
    """It is marked and counted; a challenger goes on beside it."""
    core = Core(risk=trial(0.0, champion=InferenceError("broken")))
    core.feed(placed([interaction()]))
    closed = close(core, FIRST, "u-1")
    (said,) = risks(closed.messages)
    assert (said.fallback, said.model.variant, closed.fell_back) == (True, "fallback", 1)
    (example,) = risk_examples(closed.messages)
    assert isinstance(example, RiskExample)
    assert example.score == example.score_fallback
    assert example.unheard is not None
