"""The logistic risk score: which way each of its features moves it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Academic
from stream.models import weekly
from stream.models.risk import FACTORS, LEAST_FACTOR, LogisticRisk
from stream.ports import Risks
from tests.worlds import START, Core, answers, attendance, enrolment, grade, incident, overdue, placed, placed_academics

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S


def scored(core: Core, at_s: float = 0.0) -> Risks:
    """Return the risk of u-1."""
    users = core.users(["u-1"])
    return LogisticRisk().score(weekly.see(users.learners, users.academics, np.array([START.timestamp() + at_s])))


def score(*events: Academic, at_s: float | None = None) -> float:
    """Return the score of u-1 after academic events."""
    core = Core()
    core.feed_academics(placed_academics(events))
    last = max((event.timestamp.timestamp() - START.timestamp() for event in events), default=0.0)
    return float(scored(core, last if at_s is None else at_s).score[0])


NEUTRAL = score()


def test_of_an_unknown_user_nothing_stands_out() -> None:
    """A fifth at risk, and no factor."""
    risks = scored(Core())
    assert risks.score[0] == pytest.approx(0.2, abs=0.01)
    assert risks.strongest(FACTORS, LEAST_FACTOR) == [[]]
    assert score(enrolment()) == NEUTRAL


def test_absence_raises_it_more_than_lateness_and_excuses_do_not() -> None:
    """Absent counts whole, late half, excused and present not at all."""
    by_status = [
        score(*(attendance(60.0 * i, status) for i in range(4))) for status in ("present", "excused", "late", "absent")
    ]
    assert by_status == sorted(by_status)
    assert by_status[0] == by_status[1] == pytest.approx(NEUTRAL, abs=0.03)
    assert by_status[3] > NEUTRAL + 0.2


def test_absence_of_late_counts_more() -> None:
    """The same absences weigh more in the newest weeks than long ago."""
    early = [attendance(week * WEEK_S, "absent" if week < 3 else "present") for week in range(9)]
    late = [attendance(week * WEEK_S, "absent" if week > 5 else "present") for week in range(9)]
    assert score(*late) > score(*early) + 0.1


def test_one_lecture_says_little() -> None:
    """What is a mean of few counts less than the same mean of many."""
    assert NEUTRAL < score(attendance(0, "absent")) < score(*(attendance(i, "absent") for i in range(20))) - 0.2


def test_marks_missing_work_and_incidents() -> None:
    """Low marks, missing work and incidents raise the score, good marks lower it."""
    assert score(grade(score=20)) > NEUTRAL > score(grade(score=100))
    assert score(overdue(), overdue(0, "a-2")) > score(overdue()) > NEUTRAL
    severities = [score(incident(0, severity)) for severity in ("minor", "moderate", "major")]
    assert [NEUTRAL, *severities] == sorted([NEUTRAL, *severities])
    assert score(incident(0, "major"), at_s=4 * WEEK_S) == NEUTRAL


def test_success_and_silence() -> None:
    """Wrong answers raise it, right ones lower it, and silence raises it, up to ten weeks."""
    wrong, right = Core(), Core()
    wrong.feed(placed(answers(20, correct=False)))
    right.feed(placed(answers(20, correct=True)))
    assert scored(wrong, 1_200).score[0] > NEUTRAL > scored(right, 1_200).score[0]
    quiet = [float(scored(right, days * DAY_S).score[0]) for days in (0.2, 5, 31, 200, 300)]
    assert quiet[0] < quiet[1] < quiet[2] < quiet[3] == quiet[4]


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 90 * DAY_S),
            st.sampled_from(
                [{"status": "absent"}, {"status": "late"}, {"score": 3}, {"score": 99}, {"severity": "major"}]
            ),
        ),
        max_size=12,
    )
)
def test_factors_add_up(events: list[tuple[float, dict[str, Any]]]) -> None:
    """The contributions explain the score's distance from a neutral user's, the strongest first, with their values."""
    make: dict[str, Callable[..., Academic]] = {"status": attendance, "score": grade, "severity": incident}
    core = Core()
    core.feed_academics(placed_academics(make[next(iter(of))](at_s=at_s, **of) for at_s, of in events))
    risks = scored(core, 90 * DAY_S)
    (found,) = risks.score
    assert 0 < found < 1
    logit = np.log(found / (1 - found)) - np.log(NEUTRAL / (1 - NEUTRAL))
    assert risks.contributions.sum() == pytest.approx(logit, abs=1e-3)
    (strongest,) = risks.strongest(FACTORS, LEAST_FACTOR)
    sizes = [abs(size) for _, size, _ in strongest]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) <= FACTORS
    users = core.users(["u-1"])
    at = np.array([START.timestamp() + 90 * DAY_S])
    steps = weekly.see(users.learners, users.academics, at).steps
    assert all(value == steps[0, -1, weekly.COLUMN[name]] for name, _, value in strongest)


def test_risks_of_two_models_are_joined() -> None:
    """Some users' risks by another model: theirs are its factors, the others' are as they were."""
    first = Risks(
        np.array([0.1, 0.2, 0.3], np.float32), ("a", "b"), np.ones((3, 2), np.float32), np.eye(3, 2, dtype=np.float32)
    )
    second = Risks(
        np.array([0.9], np.float32), ("c", "b"), np.array([[5, -7]], np.float32), np.array([[2, np.nan]], np.float32)
    )
    joined = first.replaced(np.array([1]), second)
    assert joined.score.tolist() == pytest.approx([0.1, 0.9, 0.3])
    assert joined.strongest(3, 1e-9)[0] == first.strongest(3, 1e-9)[0]
    (b, c) = joined.strongest(3, 1e-9)[1]
    assert (b[:2], c) == (("b", -7.0), ("c", 5.0, 2.0))
    assert np.isnan(b[2])
