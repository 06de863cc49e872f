"""The logistic risk score: which way each of its features moves it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.models import risk
from tests.worlds import START, Core, answers, grade, placed, placed_academics

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S


def scored(core: Core, at_s: float = 0.0) -> risk.Risks:
    """Return the risk of u-1."""
    users = core.users(["u-1"])
    return risk.score(users.learners, users.academics, np.array([START.timestamp() + at_s]))


def score(*events: tuple[float, dict[str, Any]]) -> float:
    """Return the score of u-1 after academic events."""
    core = Core()
    core.feed_academics(placed_academics(grade(at_s=at_s, **fields) for at_s, fields in events))
    return float(scored(core).score[0])


def attendance(status: str) -> dict[str, Any]:
    """Return the fields of attendance."""
    return {"type": "attendance_recorded", "score": None, "status": status}


NEUTRAL = score()


def test_of_an_unknown_user_nothing_stands_out() -> None:
    """A fifth at risk, and no factor."""
    risks = scored(Core())
    assert risks.score[0] == pytest.approx(0.2, abs=0.01)
    assert risks.factors() == [[]]


def test_absence_raises_it_more_than_lateness_and_excuses_do_not() -> None:
    """Absent counts whole, late half, excused not at all."""
    by_status = [
        score(*((60.0 * i, attendance(status)) for i in range(4)))
        for status in ("present", "excused", "late", "absent")
    ]
    assert by_status == sorted(by_status)
    assert by_status[1] == pytest.approx(NEUTRAL)
    assert by_status[3] > NEUTRAL + 0.3


def test_absence_of_late_counts_more() -> None:
    """The same absences weigh more in the newest weeks than long ago."""
    early = [(week * WEEK_S, attendance("absent" if week < 3 else "present")) for week in range(9)]
    late = [(week * WEEK_S, attendance("absent" if week > 5 else "present")) for week in range(9)]
    assert score(*late) > score(*early) + 0.1


def test_marks_and_incidents() -> None:
    """Low marks and incidents raise the score, good marks lower it."""
    assert score((0.0, {"score": 20})) > NEUTRAL > score((0.0, {"score": 100}))
    severities = [
        score((0.0, {"type": "discipline_recorded", "score": None, "severity": s}))
        for s in ("minor", "moderate", "major")
    ]
    assert [NEUTRAL, *severities] == sorted([NEUTRAL, *severities])


def test_success_and_practice() -> None:
    """Wrong answers raise it, right ones lower it, and so does having practised of late."""
    wrong, right = Core(), Core()
    wrong.feed(placed(answers(20, correct=False)))
    right.feed(placed(answers(20, correct=True)))
    assert scored(wrong).score[0] > NEUTRAL > scored(right).score[0]
    quiet = [float(scored(right, days * DAY_S).score[0]) for days in (0, 5, 31, 90)]
    assert quiet[0] < quiet[1] < quiet[2] == quiet[3]


def test_what_is_older_than_ten_weeks_is_forgotten() -> None:
    """Absence that lies ten weeks back no longer counts."""
    past = [(60.0 * i, attendance("absent")) for i in range(5)]
    assert score(*past, (10 * WEEK_S, attendance("present"))) == score((10 * WEEK_S, attendance("present")))


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 90 * DAY_S),
            st.sampled_from([attendance("absent"), attendance("late"), {"score": 3}, {"score": 99}]),
        ),
        max_size=12,
    )
)
def test_factors_add_up(events: list[tuple[float, dict[str, Any]]]) -> None:
    """The contributions explain the score's distance from a neutral user's, the strongest first, at most five."""
    core = Core()
    core.feed_academics(placed_academics(grade(at_s=at_s, **fields) for at_s, fields in events))
    risks = scored(core)
    (found,) = risks.score
    assert 0 < found < 1
    logit = np.log(found / (1 - found)) - np.log(NEUTRAL / (1 - NEUTRAL))
    assert risks.contributions.sum() == pytest.approx(logit, abs=1e-3)
    sizes = [abs(size) for _, size in risks.factors()[0]]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) <= risk.FACTORS
