"""What a school records: what is counted in which week, what is corrected, what is seen."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Academic, EnrolmentRecorded
from stream.state import academic
from stream.state.academic import COUNT, JOURNAL, SUM, WEEKS
from tests.worlds import (
    START,
    Core,
    attendance,
    ended,
    enrolment,
    grade,
    incident,
    overdue,
    placed_academics,
    prediction_ids,
)

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
KEPT = frozenset({"education", "attempts", "credits"})


def after(*events: Academic, kept: frozenset[str] = frozenset()) -> Any:
    """Return the record of u-1 after events."""
    (record,) = academic.new_academics(1)
    for offset, event in enumerate(events):
        record = academic.fold(record, event, offset, kept)
    return record


def week_of(after_s: float) -> int:
    """Return the week of a moment after the start."""
    return academic.week_of(START.timestamp() + after_s)


def count(record: Any, name: str, after_s: float = 0.0) -> int:
    """Return a count of the week of a moment after the start."""
    return int(record["counts"][week_of(after_s) % WEEKS, COUNT[name]])


def total(record: Any, name: str) -> int:
    """Return a count over all weeks."""
    return int(record["counts"][:, COUNT[name]].sum()) + int(record["before_counts"][COUNT[name]])


def summed(record: Any, name: str) -> float:
    """Return a sum over all weeks."""
    return float(record["sums"][:, SUM[name]].astype(float).sum()) + float(record["before_sums"][SUM[name]])


# ------------------------------------------------------------------------------------------------------------- weeks


def test_a_week_keeps_counts_and_sums() -> None:
    """Attendance by status, work with its share of the points, incidents by severity, in the week of each."""
    record = after(
        attendance(0),
        attendance(60, "late"),
        attendance(120, "late"),
        attendance(150, "excused"),
        grade(at_s=180, score=30, max_score=40, weight=0.25, days_late=-2),
        grade(at_s=240, score=20, days_late=1),
        incident(300, "moderate", sanction="a talk"),
        incident(WEEK_S, "major"),
    )
    found = {name: count(record, name) for name in academic.COUNTS if count(record, name)}
    assert found == {
        "present": 1, "late": 2, "excused": 1, "handed_in": 2, "graded": 2, "dated": 2,
        "handed_in_late": 1, "moderate": 1, "sanctions": 1,
    }  # fmt: skip
    sums = {name: summed(record, name) for name in academic.SUMS}
    assert sums == pytest.approx(
        {"score": 0.95, "score_squared": 0.6025, "weight": 0.25, "weighted_score": 0.1875, "weight_overdue": 0,
         "days_late": -1},
        abs=1e-3,
    )  # fmt: skip
    assert count(record, "major", WEEK_S) == 1
    assert total(record, "present") == 1


def test_weeks_begin_on_monday() -> None:
    """Sunday's last second and Monday's first are in different weeks; the first days of 1970 are in the first one."""
    monday = 1_767_571_200.0  # 2026-01-05
    assert academic.week_of(monday) == academic.week_of(monday + WEEK_S - 1) == academic.week_of(monday - 1) + 1
    moments = np.array([0.0, 4 * DAY_S, 11 * DAY_S, monday])
    assert academic.weeks_of(moments).tolist() == [academic.week_of(at) for at in moments]
    assert academic.weeks_of(moments).tolist()[:3] == [1, 1, 2]
    week = academic.weeks_of(np.array([monday]))
    assert academic.week_end(week).tolist() == [monday + WEEK_S]
    assert academic.first_day(week).tolist() == [monday / DAY_S]


def test_weeks_that_leave_the_ten_go_into_the_totals() -> None:
    """Nothing is forgotten: what the ten weeks no longer hold, the totals do."""
    events = [event for week in range(14) for event in (attendance(week * WEEK_S), grade(at_s=week * WEEK_S + 5))]
    record = after(*events)
    assert record["counts"][:, COUNT["present"]].tolist() == [1] * WEEKS
    assert record["before_counts"][COUNT["present"]] == 4
    assert record["before_sums"][SUM["score"]] == pytest.approx(4 * 0.7, abs=1e-2)
    assert record["before_score"] == pytest.approx(0.7, abs=1e-3)
    assert record["before_streak"] == 4


@pytest.mark.parametrize("pause", [9, 10, 11, 19, 20, 30, 500])
def test_a_pause_empties_the_ten_weeks(pause: int) -> None:
    """However long it is, everything before it is in the ten weeks or in the totals, once."""
    record = after(attendance(0), attendance(WEEK_S), attendance((1 + pause) * WEEK_S))
    assert total(record, "present") == 3
    assert record["before_counts"][COUNT["present"]] == (2 if pause > 9 else 1)
    assert record["streak"][week_of((1 + pause) * WEEK_S) % WEEKS] == 3


def test_a_late_event_goes_into_its_own_week() -> None:
    """An event that comes late counts where it belongs, and turns no clock back."""
    record = after(attendance(0), attendance(3 * WEEK_S), attendance(10, "absent"))
    assert [count(record, status) for status in ("present", "absent")] == [1, 1]
    assert [count(record, status, 3 * WEEK_S) for status in ("present", "absent")] == [1, 0]
    assert record["last_at"] == START.timestamp() + 3 * WEEK_S
    assert record["week"] == week_of(3 * WEEK_S)


def test_an_event_of_a_week_that_has_left_goes_into_the_totals() -> None:
    """It counts, and none of the ten weeks changes."""
    before = after(*(attendance(week * WEEK_S) for week in range(12)))
    late = [attendance(0.5, "absent"), grade(at_s=60, score=50), incident(90, "major")]
    record = after(*(attendance(week * WEEK_S) for week in range(12)), *late)
    np.testing.assert_array_equal(record["counts"], before["counts"])
    np.testing.assert_array_equal(record["streak"], before["streak"])
    assert [total(record, name) for name in ("absent", "graded", "major")] == [1, 1, 1]
    assert record["before_score"] == 0.5
    assert record["before_day"][academic.LATEST.index("incident")] == START.timestamp() // DAY_S


def test_what_is_full_stays_full() -> None:
    """Three hundred lectures in a week are 255, and totals end where 16 bits do."""
    record = after(*(attendance(i) for i in range(300)))
    assert count(record, "present") == 255
    record["before_counts"] = 65_500
    left = academic.fold(record, attendance(11 * WEEK_S), 300)
    assert left["before_counts"][COUNT["present"]] == 65_535


# ------------------------------------------------------------------------------------------------------- corrections


@pytest.mark.parametrize("weeks", [0, 3, 12])
def test_a_correction_takes_the_place_of_what_it_names(weeks: int) -> None:
    """The earlier record is taken back in its own week, or from the totals, and the new one counts in its own."""
    record = after(
        attendance(0, "absent", event_id="wrong"),
        incident(5, "major", event_id="harsh", sanction="sent home"),
        attendance(weeks * WEEK_S + 60),
        attendance(90, "excused", corrects="wrong"),
        incident(100, "minor", corrects="harsh"),
    )
    assert {s: total(record, s) for s in academic.STATUSES} == {"present": 1, "absent": 0, "late": 0, "excused": 1}
    assert [total(record, name) for name in (*academic.SEVERITIES, "sanctions")] == [1, 0, 0, 0]
    assert (record["counts"] >= 0).all()


def test_a_correction_of_something_unknown_is_an_event() -> None:
    """What it names is no longer remembered, or never came: then it counts by itself."""
    record = after(attendance(0, "absent", corrects="never came"))
    assert total(record, "absent") == 1


def test_a_correction_is_corrected() -> None:
    """Each takes the place of the one before."""
    record = after(
        attendance(0, "absent", event_id="first"),
        attendance(0, "late", event_id="second", corrects="first"),
        attendance(0, "present", corrects="second"),
        attendance(0, "excused", corrects="first"),
    )
    assert [total(record, status) for status in academic.STATUSES] == [0, 0, 0, 1]


def test_work_is_graded_anew() -> None:
    """A second grade of an assessment takes the first one's place; work of no name is always another piece."""
    record = after(
        grade(at_s=0, score=None, assessment_id="a-1"),
        grade(at_s=60, score=30, assessment_id="a-1", weight=0.2, days_late=3),
        grade(at_s=WEEK_S, score=80, assessment_id="a-1", weight=0.2),
        grade(at_s=WEEK_S, score=50, assessment_id="a-2"),
        grade(at_s=WEEK_S, score=50),
        grade(at_s=WEEK_S, score=50),
    )
    assert [total(record, name) for name in ("handed_in", "graded", "handed_in_late")] == [4, 4, 0]
    assert summed(record, "score") == pytest.approx(2.3, abs=2e-3)
    assert summed(record, "weighted_score") == pytest.approx(0.16, abs=1e-3)
    assert count(record, "handed_in") == 0


def test_a_grade_is_null_until_there_is_one() -> None:
    """Work that was handed in counts as handed in, and as nothing else."""
    record = after(grade(at_s=0, score=None, assessment_id="a-1", days_late=0))
    assert [total(record, name) for name in ("handed_in", "graded", "dated", "handed_in_late")] == [1, 0, 1, 0]
    assert [summed(record, name) for name in academic.SUMS] == [0] * 6


def test_the_only_grade_is_the_latest() -> None:
    """Also where work that is not graded yet was handed in after it, and of a week that has left."""
    ungraded = grade(at_s=2 * DAY_S, score=None, assessment_id="a-2")
    record = after(ungraded, grade(at_s=0, score=90, assessment_id="a-1"))
    assert record["latest_score"][week_of(0) % WEEKS] == pytest.approx(0.9, abs=1e-3)
    record = after(ungraded, attendance(12 * WEEK_S), grade(at_s=0, score=90, assessment_id="a-1"))
    assert record["before_score"] == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("weeks", [0, 2, 11])
def test_overdue_work_is_recovered(weeks: int) -> None:
    """Whichever is reported first; what is missing then has no weight."""
    late = grade(at_s=weeks * WEEK_S + 60, score=60, assessment_id="a-1", weight=0.5, days_late=3)
    missed, other = overdue(0, weight=0.5), overdue(0, "a-2", weight=0.25)
    for events in ([missed, other, late], [late, other, missed]):
        record = after(*events)
        assert [total(record, name) for name in ("overdue", "recovered", "handed_in")] == [2, 1, 1]
        assert summed(record, "weight_overdue") == pytest.approx(0.25, abs=1e-3)


def test_recovered_work_that_is_graded_anew_stays_recovered() -> None:
    """Also after the report that it was overdue has been forgotten."""
    first = [overdue(0, weight=0.5), grade(at_s=60, score=None, assessment_id="a-1", weight=0.5)]
    between = [attendance(100 + i) for i in range(JOURNAL - 2)]
    record = after(*first, *between, grade(at_s=WEEK_S, score=60, assessment_id="a-1", weight=0.5))
    assert [total(record, name) for name in ("overdue", "recovered", "handed_in", "graded")] == [1, 1, 1, 1]
    assert summed(record, "weight_overdue") == pytest.approx(0, abs=1e-3)


def test_work_is_overdue_once() -> None:
    """A second report of the same work takes the first one's place."""
    record = after(overdue(0, weight=0.5), overdue(DAY_S, weight=0.5))
    assert total(record, "overdue") == 1
    assert summed(record, "weight_overdue") == 0.5


# ------------------------------------------------------------------------------------------------------------ streaks


@pytest.mark.parametrize(
    ("statuses", "streak"),
    [
        (["present", "late", "present"], 3),
        (["present", "absent", "absent"], -2),
        (["absent", "excused", "absent"], -2),
        (["absent", "excused", "present"], 1),
        (["excused"], 0),
        (["absent"] * 130, -100),
        (["present"] * 130, 100),
    ],
)
@pytest.mark.parametrize("apart_s", [60.0, WEEK_S, 11 * WEEK_S])
def test_streaks(statuses: list[str], streak: int, apart_s: float) -> None:
    """Lectures attended or missed in a row, over weeks and pauses; an excuse neither counts nor breaks it."""
    record = after(*(attendance(i * apart_s, status) for i, status in enumerate(statuses)))
    assert record["streak"][int(record["week"]) % WEEKS] == streak


@pytest.mark.parametrize(("said", "streak"), [("late", 3), ("present", 3), ("absent", -1)])
def test_a_correction_is_not_one_lecture_more(said: str, streak: int) -> None:
    """What was attended and still is leaves the run as it was; what turns out to be missed ends it."""
    lectures = [attendance(i, event_id=f"e-{i}") for i in range(3)]
    record = after(*lectures, attendance(60, said, corrects="e-2"))
    assert record["streak"][week_of(0) % WEEKS] == streak


# -------------------------------------------------------------------------------------------------------- enrolments


def test_an_enrolment_keeps_what_is_named() -> None:
    """The course, then texts and numbers of fields that a setting names, in the order of their names."""
    context = {"credits": 60, "education": "A level", "attempts": 2.0, "gender": "female", "unknown": None}
    event = enrolment(3 * DAY_S, starts_at="2026-02-02T00:00:00Z", context=context)
    record = after(event, kept=KEPT)
    expected = [academic.fact_key("course", "c-1"), academic.fact_key("education", "A level")]
    assert record["fact"].tolist() == expected + [0] * (academic.FACTS - 2)
    numbers = {int(field): float(value) for field, value in record["number"] if field}
    assert numbers == {academic.field_key("attempts"): 2.0, academic.field_key("credits"): 60.0}
    assert (record["enrolled_day"], record["starts_day"]) == (20_458 + 3, 20_486)
    assert isinstance(event, EnrolmentRecorded)
    assert academic.facts_of(event, KEPT) == ["course=c-1", "education=A level"]


def test_of_many_fields_the_first_are_kept() -> None:
    """There is room for so many, and no more."""
    context: dict[str, Any] = {f"t{i:02d}": "x" for i in range(12)} | {f"n{i:02d}": i for i in range(12)}
    record = after(enrolment(context=context), kept=frozenset(context))
    assert (record["fact"] > 0).all()
    assert record["number"]["value"].tolist() == [0, 1, 2, 3]
    assert record["fact"][-1] == academic.fact_key("t06", "x")


def test_a_second_enrolment_takes_the_place_of_the_first() -> None:
    """What is known of the user stays; what is known of the enrolment is the later one's."""
    first = enrolment(0, starts_at="2026-02-02T00:00:00Z", context={"education": "A level", "credits": 30})
    record = after(first, attendance(60), enrolment(DAY_S, course_id="c-2"), kept=KEPT)
    assert record["fact"].tolist() == [academic.fact_key("course", "c-2")] + [0] * 7
    assert (record["number"]["field"] == 0).all()
    assert (record["enrolled_day"], record["starts_day"]) == (20_459, 0)
    assert total(record, "present") == 1


def test_an_enrolment_after_an_outcome_begins_anew() -> None:
    """Nothing of the course before counts, nor can be corrected; that its events were seen stays known."""
    before = [
        *(attendance(week * WEEK_S, "absent", event_id=f"e-{week}") for week in range(12)),
        grade(at_s=11 * WEEK_S, score=10, assessment_id="a-1"),
        ended(12 * WEEK_S, "fail"),
    ]
    again = [
        enrolment(13 * WEEK_S, course_id="c-2"),
        attendance(13 * WEEK_S + 60, "present", corrects="e-11"),
        grade(at_s=13 * WEEK_S + 90, score=80, assessment_id="a-1"),
    ]
    record, fresh = after(*before, *again), after(*again)
    for name in (*(n for n in record.dtype.names if n.startswith("before")), "counts", "sums", "streak", "latest_day"):
        np.testing.assert_array_equal(record[name], fresh[name], name)
    assert record["outcome"] == 0
    assert academic.has_seen(record, before[11], 1_000)


def test_an_outcome_of_another_course_does_not_end_this_one() -> None:
    """Results of June come in July, when the next course is under way; one that names no course is of this one."""
    record = after(enrolment(0, course_id="a"), enrolment(WEEK_S, course_id="b"), ended(2 * WEEK_S, course_id="a"))
    assert record["outcome"] == 0
    assert after(enrolment(0, course_id="a"), ended(WEEK_S, "fail", course_id="a"))["outcome"] == 3
    assert after(enrolment(0, course_id="a"), ended(WEEK_S, "fail"))["outcome"] == 3
    assert after(ended(WEEK_S, "fail", course_id="a"))["outcome"] == 3


@pytest.mark.parametrize(("at_s", "course"), [(2 * WEEK_S, "a"), (-WEEK_S, "a"), (-WEEK_S, "b")])
def test_what_is_sent_again_opens_no_course_that_has_ended(at_s: float, course: str) -> None:
    """The same enrolment under another id and moment, or one from before: nothing begins anew."""
    starts_at = START.isoformat()
    record = after(
        enrolment(0, course_id="a", starts_at=starts_at),
        grade(at_s=10, score=50),
        ended(WEEK_S, "withdrawn"),
        enrolment(at_s, course_id=course, starts_at=starts_at),
    )
    assert (record["outcome"], total(record, "graded")) == (4, 1)
    assert record["fact"][0] == academic.fact_key("course", "a")


def test_a_course_may_be_taken_again() -> None:
    """The same course from another day on is another attempt."""
    first, again = START.isoformat(), (START + timedelta(days=200)).isoformat()
    record = after(
        enrolment(0, course_id="a", starts_at=first), grade(at_s=10), ended(WEEK_S, "fail"),
        enrolment(20 * WEEK_S, course_id="a", starts_at=again),
    )  # fmt: skip
    assert (record["outcome"], total(record, "graded")) == (0, 0)


def test_a_correction_by_id_or_by_work_replaces_what_stands() -> None:
    """Whether it names the first, or one that is not remembered and the work is: handed in once."""
    work = {"assessment_id": "a-1"}
    for corrects in ("first", "never came"):
        record = after(
            grade(at_s=0, score=40, event_id="first", **work),
            grade(at_s=1, score=60, event_id="second", **work),
            grade(at_s=2, score=80, corrects=corrects, **work),
        )
        assert [total(record, name) for name in ("handed_in", "graded")] == [1, 1]
        assert summed(record, "score") == pytest.approx(0.8, abs=1e-3)


def test_days_late_are_bounded() -> None:
    """However wrong they are, a week's sum stays a number."""
    record = after(*(grade(at_s=i, days_late=3_650, assessment_id=f"a-{i}") for i in range(60)))
    assert summed(record, "days_late") == 60 * 70


def test_of_two_outcomes_the_later_one_counts() -> None:
    """As it comes."""
    assert after(ended(0, "pass"))["outcome"] == 2
    assert after(ended(0, "pass"), ended(-60, "withdrawn"))["outcome"] == 4


def test_labels_change_nothing_but_what_is_seen() -> None:
    """What an adviser says is for training, not for the features."""
    before = after(attendance(0))
    record = after(attendance(0), grade(at_s=60, type="risk_labelled", score=0.9))
    for name in ("counts", "sums", "outcome", "fact"):
        np.testing.assert_array_equal(record[name], before[name])
    assert (record["seen"], record["events"]) == (1, 2)


# --------------------------------------------------------------------------------------------------------------- seen


def test_replay_and_repeats_change_nothing() -> None:
    """An offset that was seen changes nothing; an id that was seen, nothing but the offset."""
    core = Core()
    log = placed_academics([attendance(i) for i in range(6)])
    first = core.feed_academics(log)
    before = dict(core.academics)
    again = core.feed_academics(log[2:])
    assert (again.messages, again.repeated) == ([], 4)
    assert core.academics == before
    resent = core.feed_academics(placed_academics([log[3].event], first=20))
    assert (resent.messages, resent.repeated) == ([], 1)
    assert core.academic()["seen"] == 20
    assert len(prediction_ids(first.messages)) == 6


def test_the_latest_events_are_remembered() -> None:
    """Sixteen of them, whatever they are; what is sent again after that counts as new."""
    events = [attendance(i) for i in range(JOURNAL)]
    record = after(*events)
    assert all(academic.has_seen(record, event, 1_000) for event in events)
    record = academic.fold(record, ended(60), JOURNAL)
    assert not academic.has_seen(record, events[0], 1_000)
    assert academic.has_seen(record, events[0], JOURNAL)


def test_an_erased_user_leaves_an_empty_marker() -> None:
    """Of an erased user's weeks nothing is left but what has been seen."""
    record = after(enrolment(), attendance(0), grade(at_s=5))
    (marker,) = academic.erased(record[None], np.array([4]))
    expected = academic.new_academics(1)[0]
    expected["seen"], expected["erasure_seen"] = 2, 4
    assert marker == expected


def test_an_erasure_that_was_applied_erases_nothing_that_came_later() -> None:
    """The record knows by itself which erasure it has seen, whatever the user's other table says."""
    record = after(attendance(0), grade(at_s=5))[None]
    record["erasure_seen"] = 7
    assert academic.erased(record, np.array([7])).tobytes() == record.tobytes()
    assert academic.erased(record, np.array([8]))[0]["events"] == 0


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 24), st.sampled_from(academic.STATUSES)), min_size=1, max_size=30), st.data())
def test_order_does_not_matter_to_counts(events: list[tuple[int, str]], data: st.DataObject) -> None:
    """However events are mixed, counts and latest days come out the same, in the ten weeks and in the totals."""
    sent = [attendance(week * WEEK_S + i, status) for i, (week, status) in enumerate(events)]
    records = [after(*sent), after(*data.draw(st.permutations(sent)))]
    for name in ("week", "last_at", "counts", "latest_day", "before_counts", "before_day"):
        np.testing.assert_array_equal(records[0][name], records[1][name], name)


@settings(max_examples=40)
@given(st.data())
def test_taken_back_is_as_if_it_had_never_been(data: st.DataObject) -> None:
    """An event and its correction leave the counts and sums of the correction alone."""
    weeks = data.draw(st.lists(st.integers(0, 24), min_size=1, max_size=12))
    others = [grade(at_s=week * WEEK_S + i, score=50, weight=0.125) for i, week in enumerate(weeks)]
    at_s = data.draw(st.integers(0, 24)) * WEEK_S
    wrong = grade(at_s=at_s, score=25, weight=0.5, days_late=4, event_id="wrong")
    right = grade(at_s=at_s, score=75, weight=0.25, corrects="wrong")
    place = data.draw(st.integers(0, len(others)))
    record, expected = (after(*others[:place], *first, *others[place:], right) for first in ([wrong], []))
    for name in academic.COUNTS:
        assert total(record, name) == total(expected, name)
    for name in academic.SUMS:
        assert summed(record, name) == pytest.approx(summed(expected, name), abs=1e-2)
