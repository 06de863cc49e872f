"""The 42 features of the ten weeks: against a plain recomputation from the events, and what is not known is missing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Academic, Interaction
from stream.models import weekly
from stream.models.weekly import COLUMN, FEATURES, NAMES, Seen
from stream.pipeline import RiskModels
from stream.state import academic
from stream.state.academic import WEEKS
from tests.worlds import (
    START,
    Core,
    answers,
    attendance,
    enrolment,
    grade,
    incident,
    interaction,
    overdue,
    placed,
    placed_academics,
    view,
)

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
SPAN_DAYS = 25 * 7
POINTS = {"minor": 1, "moderate": 2, "major": 4}


def seen(core: Core, at_s: float) -> Seen:
    """Return u-1 as the risk model sees him so long after the start."""
    users = core.users(["u-1"])
    return weekly.see(users.learners, users.academics, np.array([START.timestamp() + at_s]))


def feature(of: Seen, name: str) -> Any:
    """Return a feature in the ten weeks."""
    return of.steps[0, :, COLUMN[name]]


# ----------------------------------------------------------------------------------- against a plain recomputation


@dataclass(frozen=True)
class Event:
    """What happened: in seconds after the start, and what kind of thing it was."""

    at_s: float
    kind: str
    """Of an answer `right` or `wrong`; `view`; a status, a severity, `work` or `overdue`."""
    score: float | None = None
    weight: float | None = None
    days_late: float | None = None
    sanction: bool = False

    @property
    def week(self) -> int:
        """The week, the one of the start is 0."""
        return math.floor((self.at_s + 8 * 3_600) / WEEK_S)

    @property
    def day(self) -> int:
        """The day, the one of the start is 0."""
        return math.floor((self.at_s + 8 * 3_600) / DAY_S)


ANSWERS = ("right", "wrong")
CLICKS = (*ANSWERS, "view")
LECTURES = ("present", "absent", "late", "excused")


def share(part: float, whole: float) -> float:
    """Return a share, NaN of nothing."""
    return part / whole if whole else math.nan


def expected(events: list[Event], at_s: float) -> dict[str, list[float]]:
    """Return the features of the ten weeks, from the events in the order in which they came."""
    now = Event(at_s, "")
    rows = [_week(events, now, now.week - back) for back in reversed(range(WEEKS))]
    return {name: [row[name] for row in rows] for name in NAMES}


def _week(events: list[Event], now: Event, week: int) -> dict[str, float]:
    """Return the features of one week, as of its end or of now."""
    today = min(week * 7 + 6, now.day)
    oldest = now.week - 9
    so_far = [e for e in events if e.week <= week]
    last_click = max((e.week for e in events if e.kind in CLICKS), default=0)

    def many(*kinds: str, first: int | None = None) -> int:
        return sum(e.kind in kinds and (first is None or e.week >= first) for e in so_far)

    def since(*kinds: str) -> float:
        # Of clicks the latest ten weeks are kept and no totals: before the first of them nothing is known.
        days = [e.day for e in so_far if e.kind in kinds and (e.kind not in CLICKS or e.week > last_click - WEEKS)]
        return min(float(today - max(days)), 70.0) if days else math.nan

    lectures, held = many(*LECTURES), many(*LECTURES, first=week)
    recent = max(week - 2, oldest)
    held_lately = many(*LECTURES, first=recent)
    streak = 0
    for kind in [e.kind for e in so_far if e.kind in LECTURES and e.kind != "excused"]:
        step = -1 if kind == "absent" else 1
        streak = streak + step if streak * step > 0 else step
    streak = max(-100, min(100, streak))
    row = {
        "present_rate": share(many("present"), lectures),
        "absent_rate": share(many("absent"), lectures),
        "late_rate": share(many("late"), lectures),
        "excused_rate": share(many("excused"), lectures),
        "absent_rate_week": share(many("absent", first=week), held),
        "absence_trend": share(many("absent", first=recent), held_lately) - share(many("absent"), lectures),
        "absence_streak": float(max(-streak, 0)),
        "presence_streak": float(max(streak, 0)),
        "lectures_week": float(held),
        "days_since_seen": since("present", "late", "work", *CLICKS),
    }
    is_active = any(e.kind in CLICKS for e in events)
    days = [len({e.day for e in so_far if e.kind in CLICKS and e.week == w}) for w in range(oldest, week + 1)]
    row |= {
        "active_days": float(days[-1]) if is_active else math.nan,
        "answers_week": math.log1p(many(*ANSWERS, first=week)) if is_active else math.nan,
        "success_rate": share(many("right"), many(*ANSWERS)),
        "activity_trend": sum(days[-2:]) / 2 - fmean(days) if is_active else math.nan,
    }
    works = [e for e in so_far if e.kind == "work"]
    graded = [e for e in works if e.score is not None]
    scores = [e.score or 0.0 for e in graded]
    weights = [e.weight or 0.0 for e in graded]
    latest = _latest(so_far, lambda event: event.score)
    dated = [e.days_late for e in works if e.days_late is not None]
    row |= {
        "grade_mean": share(sum(scores), len(scores)),
        "grade_weighted_mean": share(sum(s * w for s, w in zip(scores, weights, strict=True)), sum(weights)),
        "grade_latest": latest,
        "grade_trend": latest - share(sum(scores), len(scores)),
        "grade_spread": pstdev(scores) if len(scores) > 1 else math.nan,
        "handed_in": float(len(works)),
        "handed_in_week": float(many("work", first=week)),
        "missing": float(many("overdue")),
        "missing_week": float(many("overdue", first=week)),
        "weight_missing": min(sum(e.weight or 0.0 for e in so_far if e.kind == "overdue"), 1.0),
        "late_share": share(sum(late > 0 for late in dated), len(dated)),
        "days_late_mean": share(sum(dated), len(dated)),
        "days_late_latest": _latest(so_far, lambda event: event.days_late),
        "course_graded": min(sum(weights), 1.0),
        "days_since_work": since("work"),
    }
    points = [
        sum(POINTS.get(e.kind, 0) for e in so_far if e.week == w) for w in range(oldest, week + 1)
    ]  # of the ten weeks up to this one
    for severity in POINTS:
        row[f"{severity}_week"], row[severity] = float(many(severity, first=week)), float(many(severity))
    row |= {
        "severity_recent": float(sum(points[-3:])),
        "severity_trend": sum(points[-3:]) / 3 - fmean(points),
        "days_since_incident": since(*POINTS),
        "worst_severity": float(max((list(POINTS).index(e.kind) + 1 for e in so_far if e.kind in POINTS), default=0)),
        "weeks_with_incidents": float(sum(p > 0 for p in points)),
        "sanctions": float(sum(e.sanction for e in so_far)),
        "sanctions_week": float(sum(e.sanction for e in so_far if e.week == week)),
    }
    return row


def _latest(so_far: list[Event], of: Callable[[Event], float | None]) -> float:
    """Return what is known of the latest work of which it is known."""
    known = [value for event in so_far if event.kind == "work" and (value := of(event)) is not None]
    return known[-1] if known else math.nan


IN_ORDER = {"absence_streak", "presence_streak", "grade_latest", "grade_trend", "days_late_latest"}
"""What goes by what came last, and therefore by the order in which it came."""

drawn_events = st.lists(
    st.builds(
        Event,
        at_s=st.integers(0, SPAN_DAYS * 24 - 1).map(lambda hours: hours * 3_600.0),
        kind=st.sampled_from((*CLICKS, *LECTURES, *POINTS, "work", "work", "overdue")),
        score=st.none() | st.sampled_from((0.0, 0.25, 0.375, 0.5, 0.75, 1.0)),
        weight=st.none() | st.sampled_from((0.0625, 0.125, 0.03125)),
        days_late=st.none() | st.integers(-5, 20).map(float),
        sanction=st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


def fed(events: list[Event]) -> Core:
    """Return a core that has met the events in this order, each table's by itself."""
    core = Core()
    clicks = [_interaction(i, e) for i, e in enumerate(events) if e.kind in CLICKS]
    core.feed_one_by_one(placed(clicks))
    core.feed_academics(placed_academics(_academic(i, e) for i, e in enumerate(events) if e.kind not in CLICKS))
    return core


def _interaction(number: int, event: Event) -> Interaction:
    id_ = f"e-{number}"
    if event.kind == "view":
        return view(at_s=event.at_s, event_id=id_)
    return interaction(at_s=event.at_s, event_id=id_, correct=event.kind == "right")


def _academic(number: int, event: Event) -> Academic:
    common: dict[str, Any] = {"at_s": event.at_s, "event_id": f"e-{number}"}
    if event.kind in LECTURES:
        return attendance(status=event.kind, **common)
    if event.kind in POINTS:
        return incident(severity=event.kind, sanction="a talk" if event.sanction else None, **common)
    if event.kind == "overdue":
        return overdue(assessment_id=f"missed-{number}", weight=event.weight, **common)
    score = None if event.score is None else 100 * event.score
    work: dict[str, Any] = {"score": score, "weight": event.weight, "days_late": event.days_late}
    return grade(**common, assessment_id=f"a-{number}", **work)


def close(found: Any, wanted: list[float], name: str) -> None:
    """Hold a feature to what it should be: sums are kept as float16."""
    low, high = FEATURES[COLUMN[name]].low, FEATURES[COLUMN[name]].high
    bounded = np.clip(wanted, low, high)
    np.testing.assert_allclose(found, bounded, rtol=4e-3, atol=8e-3, err_msg=name)


@settings(max_examples=120, deadline=None)
@given(drawn_events, st.integers(0, 15 * 24), st.data())
def test_features_are_those_of_the_events(events: list[Event], hours: int, data: st.DataObject) -> None:
    """All 42 in each of the ten weeks, whatever came when; in another order, those that do not go by it."""
    # An incident alone has a sanction; spreads and days of what was corrected have tests of their own.
    events = [e if e.kind in POINTS else Event(e.at_s, e.kind, e.score, e.weight, e.days_late) for e in events]
    events.sort(key=lambda e: e.at_s)
    at_s = events[-1].at_s + hours * 3_600.0
    wanted = expected(events, at_s)
    mixed = data.draw(st.permutations(events))
    for order, names in ((events, set(NAMES)), (mixed, set(NAMES) - IN_ORDER)):
        found = seen(fed(order), at_s)
        for name in names:
            close(feature(found, name), wanted[name], name)


@settings(max_examples=30, deadline=None)
@given(drawn_events, st.integers(0, 40))
def test_users_of_a_batch_do_not_mix(events: list[Event], weeks: int) -> None:
    """Each user of a batch is seen as alone."""
    core, half = fed(events), fed(events[: len(events) // 2])
    at = START.timestamp() + SPAN_DAYS * DAY_S + weeks * WEEK_S
    users = [c.users(["u-1"]) for c in (core, half, Core())]
    learners = np.concatenate([u.learners for u in users])
    academics = np.concatenate([u.academics for u in users])
    together = weekly.see(learners, academics, np.full(3, at))
    for row, one in enumerate(users):
        alone = weekly.see(one.learners, one.academics, np.array([at]))
        np.testing.assert_array_equal(together.steps[row], alone.steps[0])
        np.testing.assert_array_equal(together.take(np.array([row])).number, alone.number)


# ------------------------------------------------------------------------------------------------------------- missing


def test_there_are_42_features_of_three_streams() -> None:
    """14, 15 and 13, one after the other, each name once."""
    assert {stream: (where.start, where.stop) for stream, where in weekly.COLUMNS_OF.items()} == {
        "attendance": (0, 14), "grades": (14, 29), "discipline": (29, 42),
    }  # fmt: skip
    assert len(set(NAMES)) == len(NAMES) == 42
    assert [f.stream for f in FEATURES] == ["attendance"] * 14 + ["grades"] * 15 + ["discipline"] * 13


def test_of_an_unknown_user_nothing_is_made_up() -> None:
    """Rates, means and days are missing, not 0; counts of nothing are 0."""
    found = seen(Core(), 0)
    counts = {f.name for f in FEATURES if f.unit in {"lectures", "pieces", "incidents", "points", "points a week",
                                                     "0 to 3", "weeks", "sanctions"}}  # fmt: skip
    missing = {name for name in NAMES if np.isnan(feature(found, name)).all()}
    assert missing == set(NAMES) - counts - {"weight_missing", "course_graded"}
    assert all((feature(found, name) == 0).all() for name in set(NAMES) - missing)
    assert np.isnan(found.number).all()


def test_what_came_later_is_missing_before() -> None:
    """The weeks before a first grade know no grade; those before a first click know that there was none."""
    core = Core()
    core.feed_academics(placed_academics([grade(at_s=3 * WEEK_S, score=50)]))
    core.feed(placed([view(at_s=2 * WEEK_S)]))
    found = seen(core, 4 * WEEK_S)
    assert np.isnan(feature(found, "grade_mean")).tolist() == [True] * 8 + [False] * 2
    assert np.isnan(feature(found, "grade_weighted_mean")).all()
    assert feature(found, "active_days").tolist() == [0] * 7 + [1, 0, 0]
    assert feature(found, "days_since_seen")[-3:].tolist() == [6, 6, 7]


def test_an_answer_too_old_for_the_weeks_counts_in_totals() -> None:
    """Of eleven weeks the first has left the ten: its answers still count in the share of right ones."""
    core = Core()
    core.feed(placed([*answers(4, correct=False), interaction(at_s=11 * WEEK_S, item_id="i-9")]))
    found = seen(core, 11 * WEEK_S)
    assert feature(found, "success_rate")[0] == 0
    assert feature(found, "success_rate")[-1] == pytest.approx(0.2, abs=1e-3)
    assert np.expm1(feature(found, "answers_week")).round().sum() == 1


@pytest.mark.parametrize(("days", "counted"), [(0, 0), (5, 5), (69, 69), (70, 70), (400, 70)])
def test_days_count_up_to_ten_weeks(days: int, counted: int) -> None:
    """Then nothing changes any more."""
    core = Core()
    core.feed_academics(placed_academics([attendance(0)]))
    assert feature(seen(core, days * DAY_S), "days_since_seen")[-1] == counted


# ----------------------------------------------------------------------------------------------------------- enrolment


def test_numbers_of_the_enrolment() -> None:
    """Days of the course and of the enrolment before it, and what else is kept; NaN where it is not known."""
    core = Core(risk=RiskModels(features=frozenset({"credits", "education"})))
    context = {"credits": 60, "education": "A level"}
    core.feed_academics(placed_academics([enrolment(0, starts_at="2026-01-12T00:00:00Z", context=context)]))
    found = seen(core, 10 * DAY_S)
    numbers = found.numbers(("credits", "attempts", "enrolled_before"))
    assert numbers[0, [0, 2]].tolist() == [60, 7]
    assert np.isnan(numbers[0, 1])
    # By the end of each week, and of the present one as of now.
    assert found.day[0, -3:].tolist() == [-8, -1, 3]
    assert academic.fact_key("education", "A level") in found.fact[0].tolist()


def test_what_was_taken_back_leaves_no_day() -> None:
    """A presence that was none, an incident and work of another week: days since them are as if never there."""
    core = Core()
    core.feed_academics(
        placed_academics(
            [
                attendance(0, event_id="there"),
                attendance(0, "absent", corrects="there"),
                incident(21 * 86_400, event_id="seen"),
                incident(0, corrects="seen"),
                grade(at_s=21 * 86_400, assessment_id="a-1", event_id="work"),
                grade(at_s=0, assessment_id="a-1", corrects="work"),
            ]
        )
    )
    users = core.users(["u-1"])
    at = np.array([START.timestamp() + 22 * 86_400.0])
    newest = weekly.see(users.learners, users.academics, at).steps[0, -1]
    assert [newest[COLUMN[name]] for name in ("days_since_incident", "days_since_work")] == [22, 22]
    assert newest[COLUMN["days_since_seen"]] == 22  # by the work
