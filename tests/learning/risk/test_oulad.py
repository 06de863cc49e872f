"""OULAD as academic events: what each row becomes, in which order, and what is said of a folder that is not right."""

import gzip
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas import EnrolmentRecorded, GradeRecorded, OutcomeRecorded, WorkOverdue
from schemas.events import ACADEMIC
from stream.errors import BadAnswersFile
from stream.files.oulad import Oulad, academic_events, is_oulad, read_oulad
from tests.enrolments import EVENTS, INFO, Simulated

HEAD = ",".join(EVENTS)


def folder(path: Path, *events: str, info: str = "M,Scotland,HE Qualification,,0-35,1,60,N,Pass") -> Path:
    """Write a folder with one student, 7, in AAA-2013J, and the events that are given, without their first columns."""
    (path / "courses.csv").write_text("code_module,code_presentation,module_presentation_length\nAAA,2013J,268\n")
    (path / "studentInfo.csv").write_text(f"{','.join(INFO)}\nAAA,2013J,7,{info}\n")
    rows = "".join(f"AAA,2013J,7,{event}\n" for event in events)
    (path / "oulad_events.csv.gz").write_bytes(gzip.compress(f"{HEAD}\n{rows}".encode()))
    return path


def told(path: Path, *events: str) -> list[Any]:
    """Return what becomes of events."""
    return [ACADEMIC.validate_python(event) for _, event in academic_events(folder(path, *events))]


def as_told(oulad: Oulad) -> list[tuple[Any, ...]]:
    """Return what happened, without ids and in an order of its own."""
    return sorted(
        (
            oulad.enrolments[event.enrolment].user_id, event.day, event.kind, event.assessment, event.weight or 0,
            event.score is None, event.score or 0, event.days_late is None, event.days_late or 0,
        )
        for event in oulad.happened
    )  # fmt: skip


def test_what_each_row_becomes(tmp_path: Path) -> None:
    """One user for a student and presentation; day 0 is the first Monday of October, and all happens at noon."""
    enrolled, overdue, graded, ended = told(
        tmp_path,
        "-20,registered,,,,,",
        "20,assessment_overdue,17,TMA,12.5,,",
        "22,assessment_submitted,17,TMA,12.5,80,3",
    )
    assert isinstance(enrolled, EnrolmentRecorded)
    assert (enrolled.user_id, enrolled.course_id) == ("AAA-2013J-7", "AAA-2013J")
    assert enrolled.starts_at is not None
    assert enrolled.starts_at.isoformat() == "2013-10-07T00:00:00+00:00"
    assert enrolled.timestamp.isoformat() == "2013-09-17T12:00:00+00:00"
    assert enrolled.context == {
        "education": "HE Qualification", "module": "AAA", "presentation": "2013J", "region": "Scotland", "gender": "M",
        "disability": "N", "age_band": "0-35", "attempts": 1.0, "credits": 60.0,
    }  # fmt: skip
    assert isinstance(overdue, WorkOverdue)
    assert (overdue.assessment_id, overdue.weight) == ("17", 0.125)
    assert isinstance(graded, GradeRecorded)
    assert (graded.score, graded.max_score, graded.weight, graded.days_late) == (80.0, 100.0, 0.125, 3.0)
    assert isinstance(ended, OutcomeRecorded)
    assert (ended.outcome, ended.timestamp.isoformat()) == ("pass", "2014-07-02T12:00:00+00:00")


def test_work_without_a_grade_is_told_too(tmp_path: Path) -> None:
    """A missing score is null, not 0."""
    graded = told(tmp_path, "-20,registered,,,,,", "22,assessment_submitted,17,TMA,0,,")[1]
    assert graded.score is None
    assert graded.days_late is None


def test_a_withdrawal_is_the_outcome(tmp_path: Path) -> None:
    """And nothing follows at the end; without a day of withdrawing it comes at the end."""
    info = "M,Scotland,HE Qualification,,0-35,1,60,N,Withdrawn"
    told_of = [
        event for _, event in academic_events(folder(tmp_path, "1,registered,,,,,", "9,withdrawn,,,,,", info=info))
    ]
    assert [event.get("outcome") for event in told_of] == [None, "withdrawn"]
    assert told_of[1]["timestamp"] == "2013-10-16T12:00:00Z"
    (_, (_, late)) = academic_events(folder(tmp_path, "1,registered,,,,,", info=info))
    assert (late["outcome"], late["timestamp"]) == ("withdrawn", "2014-07-02T12:00:00Z")


def test_an_end_that_is_no_withdrawal_has_the_last_word(tmp_path: Path) -> None:
    """Nine students withdrew by one table, and failed by the other."""
    info = "M,Scotland,HE Qualification,,0-35,1,60,N,Fail"
    events = list(academic_events(folder(tmp_path, "1,registered,,,,,", "9,withdrawn,,,,,", info=info)))
    assert [event.get("outcome") for _, event in events] == [None, "withdrawn", "fail"]


def test_a_registration_without_a_day_is_before_all_else(tmp_path: Path) -> None:
    """Before the start; and before a withdrawal that came earlier still."""
    enrolled = told(tmp_path, ",registered,,,,,", "22,assessment_submitted,17,TMA,0,50,")[0]
    assert enrolled.timestamp.isoformat() == "2013-10-06T12:00:00+00:00"
    first, second, *_ = told(tmp_path, ",registered,,,,,", "-30,withdrawn,,,,,")
    assert (first.type, second.type) == ("enrolment_recorded", "outcome_recorded")
    assert first.timestamp == second.timestamp


def test_all_presentations_go_on_at_once(tmp_path: Path) -> None:
    """Events come in time order over all of them; ids are unique, and the same when the folder is read again."""
    there = Simulated(60).write(tmp_path)
    events = [event for topic, event in academic_events(there) if topic == "academics"]
    times = [event["timestamp"] for event in events]
    assert times == sorted(times)
    assert len({event["event_id"] for event in events}) == len(events)
    assert [event["event_id"] for _, event in academic_events(there)] == [event["event_id"] for event in events]
    kinds = Counter(event["type"] for event in events)
    assert kinds["enrolment_recorded"] == kinds["outcome_recorded"] == 72
    for event in events:
        ACADEMIC.validate_python(event)


def test_the_universitys_own_tables_tell_the_same(tmp_path: Path) -> None:
    """Without a table of events they are made from registrations, submissions and deadlines."""
    given, original = tmp_path / "given", tmp_path / "original"
    given.mkdir()
    original.mkdir()
    simulated = Simulated(60)
    there = read_oulad(simulated.write_original(original))
    assert as_told(there) == as_told(read_oulad(simulated.write(given)))
    assert len({event.event_id for event in there.happened}) == len(there.happened)


def test_what_was_banked_is_neither_handed_in_nor_overdue(tmp_path: Path) -> None:
    """It comes from an earlier presentation."""
    simulated = Simulated(1)
    work, student, day, _, score = simulated.submissions[0]
    simulated.submissions[0] = (work, student, day, 1, score)
    there = read_oulad(simulated.write_original(tmp_path))
    assert str(work) not in {event.assessment for event in there.happened}


def test_an_oulad_folder_is_known_by_its_students(tmp_path: Path) -> None:
    """A file is none, nor is any folder."""
    assert not is_oulad(tmp_path)
    assert is_oulad(folder(tmp_path))
    assert not is_oulad(tmp_path / "studentInfo.csv")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("x,registered,,,,,", "line 2, column day: expected a number from -3650 to 3650, found 'x'"),
        (",withdrawn,,,,,", "line 2, column day: expected a day since the presentation began, found an empty cell"),
        ("1,expelled,,,,,", "column event: expected one of registered, assessment_submitted, "),
        (
            "1,assessment_submitted,,TMA,10,50,",
            "column id_assessment: expected 1 to 80 characters, found an empty cell",
        ),
        ("1,assessment_submitted,5,TMA,101,50,", "column weight: expected a number from 0 to 100, found '101'"),
        ("1,assessment_submitted,5,TMA,10,-1,", "column score: expected a number from 0 to 100, found '-1'"),
        ("1,registered,,,,", "expected 10 cells, as in the header, found 9"),
    ],
)
def test_a_bad_event_is_refused(tmp_path: Path, event: str, words: str) -> None:
    """With its line and column, what was expected and what was found."""
    with pytest.raises(BadAnswersFile) as refused:
        read_oulad(folder(tmp_path, event))
    assert words in str(refused.value)
    assert "oulad_events.csv.gz" in str(refused.value)


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        (
            "studentInfo",
            "Pass",
            "Passed",
            "column final_result: expected one of Distinction, Pass, Fail, Withdrawn, found",
        ),
        ("studentInfo", "final_result", "result", "column final_result: expected a header with code_module, "),
        ("studentInfo", "2013J", "2014J", "expected a module and presentation of the table of courses, found '2014J'"),
        ("studentInfo", ",60,", ",many,", "column studied_credits: expected a number from 0 to 10000, found 'many'"),
        ("courses", "2013J", "autumn", "expected a year and a month's letter, such as 2013B, found 'autumn'"),
        ("courses", "268", "", "expected the presentation's length in days, found an empty cell"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, table: str, old: str, new: str, words: str) -> None:
    """In the same way."""
    path = folder(tmp_path, "1,registered,,,,,") / f"{table}.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BadAnswersFile) as refused:
        read_oulad(tmp_path)
    assert words in str(refused.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """A table, or the whole folder; and what is there instead."""
    folder(tmp_path)
    (tmp_path / "courses.csv").unlink()
    with pytest.raises(
        BadAnswersFile,
        match=r"is not .* courses\.csv or oulad_courses\.csv .* found oulad_events\.csv\.gz, studentInfo\.csv;",
    ):
        read_oulad(tmp_path)
    for number in range(20):
        (tmp_path / f"copy{number:02}.csv").touch()
    (tmp_path / "a picture of my holidays.png").touch()
    with pytest.raises(BadAnswersFile, match=r"found copy00\.csv, .*, copy07\.csv, 14 more;"):
        read_oulad(tmp_path)
    with pytest.raises(BadAnswersFile, match="found no folder"):
        read_oulad(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(BadAnswersFile, match=r"empty is not an OULAD folder: .* found none of its tables;"):
        read_oulad(tmp_path / "empty")


def test_a_student_of_no_presentation_is_refused(tmp_path: Path) -> None:
    """An event must be of an enrolment that is known."""
    path = folder(tmp_path) / "oulad_events.csv.gz"
    path.write_bytes(gzip.compress(f"{HEAD}\nAAA,2013J,8,1,registered,,,,,\n".encode()))
    with pytest.raises(
        BadAnswersFile, match="expected a student of this presentation in the table studentInfo, found '8'"
    ):
        read_oulad(tmp_path)


def test_personal_columns_may_be_left_out(tmp_path: Path) -> None:
    """Whoever hands on a folder may strip it of what it says of persons."""
    simulated = Simulated(10)
    there = simulated.write_original(tmp_path)
    lines = [line.split(",") for line in (there / "studentInfo.csv").read_text().splitlines()]
    kept = [
        place
        for place, name in enumerate(INFO)
        if name not in {"gender", "region", "imd_band", "age_band", "disability"}
    ]
    (there / "studentInfo.csv").write_text("\n".join(",".join(line[place] for place in kept) for line in lines))
    context = read_oulad(there).enrolments[0].context
    assert set(context) == {"education", "module", "presentation", "attempts", "credits"}


def test_the_real_folder_is_read_whole() -> None:
    """Every enrolment has its registration and its end, in time order."""
    if "DATA" not in os.environ:
        pytest.skip("DATA names no folder with real enrolments (risk/)")
    path = Path(os.environ["DATA"]) / "risk"
    if not is_oulad(path):
        pytest.skip("the folder that DATA names has no OULAD folder risk/")
    oulad = read_oulad(path)
    kinds = Counter(event.kind for event in oulad.happened)
    assert len(oulad.enrolments) == kinds["registered"] == 32_593
    assert (kinds["assessment_submitted"], kinds["assessment_overdue"], kinds["withdrawn"]) == (172_003, 99_051, 10_072)
    assert kinds["ended"] == 32_593 - 10_072 + 9
    moments = [oulad.moment(event) for event in oulad.happened]
    assert moments == sorted(moments)
