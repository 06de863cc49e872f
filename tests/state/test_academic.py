"""Ten weekly steps: what is counted where, what is too old, what is seen."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Academic
from stream.state import academic
from tests.worlds import Core, grade, placed_academics, prediction_ids

WEEK_S = 7 * 86_400.0


def attendance(at_s: float, status: str = "present") -> Academic:
    """Return attendance of u-1."""
    return grade(at_s=at_s, type="attendance_recorded", score=None, status=status)


def after(*events: Academic) -> Any:
    """Return the record of u-1 after events."""
    core = Core()
    core.feed_academics(placed_academics(events))
    return core.academic()


def test_a_week_keeps_counts_and_marks() -> None:
    """Attendance by status, grades as shares of their maximum, incidents by severity."""
    record = after(
        attendance(0, "present"),
        attendance(60, "late"),
        attendance(120, "late"),
        grade(at_s=180, score=30, max_score=40),
        grade(at_s=240, score=50),
        grade(at_s=300, type="discipline_recorded", score=None, severity="moderate"),
        grade(at_s=360, type="outcome_recorded", score=None, outcome="withdrawn"),
    )
    (week,) = academic.latest_weeks(record)
    assert record["attendance"][week].tolist() == [1, 0, 2, 0]
    assert (record["grades"][week], record["grade_sum"][week]) == (2, 1.25)
    assert record["incidents"][week].tolist() == [0, 1, 0]
    assert record["outcome"] == 4


def test_weeks_begin_on_monday() -> None:
    """Sunday's last second and Monday's first are in different weeks."""
    monday = 1_767_571_200.0  # 2026-01-05
    assert academic.week_of(monday) == academic.week_of(monday + WEEK_S - 1) == academic.week_of(monday - 1) + 1


def test_the_newest_ten_weeks_count() -> None:
    """A week that is ten weeks older than the newest is out."""
    record = after(*(attendance(week * WEEK_S) for week in range(14)))
    weeks = record["week"][academic.latest_weeks(record)].tolist()
    assert weeks == list(range(weeks[0], weeks[0] - 10, -1))


def test_a_pause_empties_what_lies_before_it() -> None:
    """After a long pause the weeks before it are still stored, but no longer count."""
    record = after(attendance(0), attendance(WEEK_S), attendance(30 * WEEK_S))
    assert len(academic.latest_weeks(record)) == 1


def test_a_late_event_goes_into_its_own_week() -> None:
    """An event that comes late counts where it belongs, if that week is still kept."""
    record = after(attendance(0), attendance(3 * WEEK_S), attendance(10, "absent"))
    newest, first = academic.latest_weeks(record)
    assert record["attendance"][first].tolist() == [1, 1, 0, 0]
    assert record["attendance"][newest].tolist() == [1, 0, 0, 0]


def test_an_event_older_than_the_weeks_changes_only_what_is_seen() -> None:
    """What is too old is noted as seen, and nothing else."""
    core = Core()
    core.feed_academics(placed_academics([attendance(week * WEEK_S) for week in range(12)]))
    before = core.academic().copy()
    core.feed_academics(placed_academics([attendance(0.5, "absent")], first=50))
    record = core.academic()
    assert record["seen"] == 50
    assert record["events"] == before["events"] + 1
    np.testing.assert_array_equal(record["attendance"], before["attendance"])


def test_a_byte_that_is_full_stays_full() -> None:
    """Three hundred lectures in a week are 255."""
    record = after(*(attendance(i) for i in range(300)))
    (week,) = academic.latest_weeks(record)
    assert record["attendance"][week, 0] == 255


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


def test_an_erased_user_leaves_an_empty_marker() -> None:
    """Of an erased user's weeks nothing is left but what has been seen."""
    record = after(attendance(0), grade(at_s=5))
    (marker,) = academic.erased(record[None], np.array([4]))
    expected = academic.new_academics(1)[0]
    expected["seen"], expected["erasure_seen"] = 1, 4
    assert marker == expected


def test_an_erasure_that_was_applied_erases_nothing_that_came_later() -> None:
    """The record knows by itself which erasure it has seen, whatever the user's other table says."""
    record = after(attendance(0), grade(at_s=5))[None]
    record["erasure_seen"] = 7
    assert academic.erased(record, np.array([7]))[0] == record[0]
    assert academic.erased(record, np.array([8]))[0]["events"] == 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(academic.STATUSES)), min_size=1, max_size=30), st.data())
def test_order_within_the_kept_weeks_does_not_matter(events: list[tuple[int, str]], data: st.DataObject) -> None:
    """However events of the kept weeks are mixed, the weeks that count come out the same."""
    newest = max(week for week, _ in events)
    kept = [attendance(week * WEEK_S + i, status) for i, (week, status) in enumerate(events) if week > newest - 10]
    shuffled = data.draw(st.permutations(kept))
    records = [after(*kept), after(*shuffled)]
    weeks = [[record["attendance"][w].tolist() for w in academic.latest_weeks(record)] for record in records]
    assert weeks[0] == weeks[1]
