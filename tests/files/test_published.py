"""Published files: what becomes of their rows, format by format."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import schemas
from stream.errors import BadAnswersFile
from stream.files.answers import Answer, AnswersFile, as_interactions
from stream.files.formats import read_answers
from tests.files import published
from tests.files.published import write
from tests.files.test_formats import HEADERS


def skipped(file: AnswersFile) -> dict[str, int]:
    """Give the reasons for which rows were skipped; no row is left out of the counts, and each answer is an event."""
    events = [schemas.decode_interaction(json.dumps(event).encode()) for event in as_interactions(file)]
    assert len({event.event_id for event in events}) == len(file.answers)
    assert file.passed is not None
    passed = file.passed
    assert passed.rows == len(file.answers) + passed.joined + sum(passed.skipped.values())
    return dict(passed.skipped)


def at(text: str) -> float:
    """Give the seconds of a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_assistments_2009(tmp_path: Path) -> None:
    """Rows of one order id are one answer; order ids give the order; what has no skill or user is skipped."""
    base = {"user_id": 70, "problem_id": 9, "correct": 1, "order_id": 30, "ms_first_response": 4500}
    path = write(
        tmp_path / "skill_builder_data.csv",
        published.ASSISTMENTS_2009,
        base | {"skill_id": 5, "skill_name": "Área de un círculo"},
        base | {"skill_id": 7},
        base | {"skill_id": 7},
        base | {"order_id": 20, "correct": 0, "skill_id": 7, "ms_first_response": -17},
        base | {"order_id": 40, "problem_id": 10, "skill_id": "1_13", "answer_text": '"1,5"', "ms_first_response": ""},
        base | {"order_id": 41, "skill_id": ""},
        base | {"order_id": 42, "user_id": "", "skill_id": 5},
        base | {"order_id": "", "skill_id": 5},
        base | {"order_id": 43, "correct": "", "skill_id": 5},
        base | {"order_id": 44, "problem_id": "NA", "skill_id": 5},
        encoding="latin-1",
    )
    file = read_answers(path)
    assert file.answers == [
        Answer(3, "70", "9", ("7",), False, None, None),
        Answer(0, "70", "9", ("5", "7"), True, None, 4.5),
        Answer(4, "70", "10", ("1", "13"), True, None, None),
    ]
    assert (file.has_timestamps, file.has_response_times) == (False, True)
    assert skipped(file) == {
        "told before": 1, "no skill": 1, "no user": 1, "no time or order": 1, "no outcome": 1, "no question": 1,
    }  # fmt: skip
    assert file.told() == (
        f"{path}, read as ASSISTments 2009-2010: answers: 3, of rows: 10; joined as further skills of an answer: 1; "
        "skipped: 6 (no outcome: 1, no question: 1, no skill: 1, no time or order: 1, no user: 1, told before: 1)"
    )


def test_bytes_that_are_no_utf8_are_latin1(tmp_path: Path) -> None:
    """A cell of the old sets that is no UTF-8 is read as Latin-1, whatever the others are."""
    row = {"order_id": 1, "user_id": "Zoë", "problem_id": 2, "correct": 1, "skill_id": "número"}
    path = write(tmp_path / "a.csv", published.ASSISTMENTS_2009, row, encoding="latin-1")
    (answer,) = read_answers(path).answers
    assert (answer.user_id, answer.skills) == ("Zoë", ("número",))
    path = write(tmp_path / "b.csv", published.ASSISTMENTS_2009, row, encoding="utf-8-sig")
    (answer,) = read_answers(path).answers
    assert (answer.user_id, answer.skills) == ("Zoë", ("número",))


def test_assistments_2012(tmp_path: Path) -> None:
    """An answer is of the moment of its first response; part credit counts as right from a half on."""
    base = {
        "user_id": 1, "problem_id": 8, "skill_id": 277, "start_time": "2012-09-28 15:11:30",
        "end_time": "2012-09-28 15:20:00", "ms_first_response": 12500, "correct": 1,
    }  # fmt: skip
    path = write(
        tmp_path / "2012-2013-data-with-predictions-4-final.csv",
        published.ASSISTMENTS_2012,
        base,
        base | {"start_time": "2012-09-28 15:10:00.25", "correct": 0.5, "ms_first_response": 999_999_999_999},
        base | {"start_time": "2012-09-27 15:10:00", "correct": 0.49, "user_id": 2},
        base | {"skill_id": 311, "correct": 0},
        base | {"start_time": "", "end_time": ""},
        base | {"start_time": "2012-10-01 08:00:00", "skill_id": ""},
        base | {"start_time": "2012-10-01 08:00:00", "correct": -1},
    )
    file = read_answers(path)
    assert file.answers == [
        Answer(2, "2", "8", ("277",), False, at("2012-09-27 15:10:12.5"), 12.5),
        Answer(1, "1", "8", ("277",), True, at("2012-09-28 15:10:00.25"), None),
        Answer(0, "1", "8", ("277", "311"), True, at("2012-09-28 15:11:42.5"), 12.5),
    ]
    assert skipped(file) == {"no time or order": 1, "no skill": 1, "no outcome": 1}


@pytest.mark.parametrize(("cell", "skills"), [("5_7", ("5", "7")), ("5;7;5", ("5", "7")), ("5", ("5",))])
def test_skills_of_a_collapsed_edition(tmp_path: Path, cell: str, skills: tuple[str, ...]) -> None:
    """Several skills in one cell are several, whichever way the edition joins them."""
    header = published.ASSISTMENTS_2009.replace("skill_id", "list_skill_ids")
    row = {"order_id": 1, "user_id": 2, "problem_id": 3, "correct": 1, "list_skill_ids": cell}
    (answer,) = read_answers(write(tmp_path / "a.csv", header, row)).answers
    assert answer.skills == skills


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2012-09-28 15:11:30", "2012-09-28 15:11:30"),
        ("2012-09-28 15:11:30 UTC", "2012-09-28 15:11:30"),
        ("2012-09-28T15:11:30+02:00", "2012-09-28 13:11:30"),
        ("2012/09/28 15:11", "2012-09-28 15:11:00"),
        ("2012/9/8 5:11:30", "2012-09-08 05:11:30"),
        ("9/28/2012 15:11", "2012-09-28 15:11:00"),
        ("9/28/2012 15:11:30.0", "2012-09-28 15:11:30"),
        ("9/28/12 15:11", "2012-09-28 15:11:00"),
        ("9/28/99 15:11", "1999-09-28 15:11:00"),
        ("28/9/2012 15:11", None),
        ("9/28/2012", None),
        ("yesterday", None),
    ],
)
def test_forms_of_dates(tmp_path: Path, cell: str, moment: str | None) -> None:
    """Dates are read as databases and spreadsheets write them, American ones with the month first."""
    row = {"user_id": 1, "problem_id": 8, "skill_id": 2, "correct": 1}
    path = write(
        tmp_path / "a.csv", published.ASSISTMENTS_2012,
        row | {"start_time": cell}, row | {"start_time": "2012-01-01 00:00:00", "user_id": 2},
    )  # fmt: skip
    found = [answer.at for answer in read_answers(path).answers if answer.user_id == "1"]
    assert found == ([] if moment is None else [at(moment)])


def test_assistments_2015(tmp_path: Path) -> None:
    """A sequence is item and skill; `log_id` gives the order."""
    path = write(
        tmp_path / "2015_100_skill_builders_main_problems.csv",
        published.ASSISTMENTS_2015,
        {"user_id": 50, "log_id": 167000200, "sequence_id": 7014, "correct": 0.75},
        {"user_id": 50, "log_id": 167000100, "sequence_id": 7014, "correct": 0.3333},
    )
    assert read_answers(path).answers == [
        Answer(1, "50", "7014", ("7014",), False, None, None),
        Answer(0, "50", "7014", ("7014",), True, None, None),
    ]


def test_assistments_2017(tmp_path: Path) -> None:
    """An action's moment is its end, in Unix seconds; of one second its number says the order; `noskill` is a skill."""
    base = {"studentId": 8, "problemId": 1118, "skill": "properties-of-solids", "correct": 1}
    path = write(
        tmp_path / "anonymized_full_release_competition_dataset.csv",
        published.ASSISTMENTS_2017,
        base | {"startTime": 1096470350, "endTime": 1096470353, "timeTaken": 3},
        base | {"startTime": 1096470301, "endTime": 1096470350, "timeTaken": 49, "skill": "noskill", "correct": 0},
        base | {"startTime": 1096470400, "timeTaken": ".", "studentId": 9},
        base | {"startTime": 1096470500, "timeTaken": 0, "action_num": 77_002},
        base | {"startTime": 1096470500, "timeTaken": 0, "action_num": 77_001, "correct": 0},
    )
    assert read_answers(path).answers == [
        Answer(1, "8", "1118", ("noskill",), False, 1096470350.0, 49.0),
        Answer(0, "8", "1118", ("properties-of-solids",), True, 1096470353.0, 3.0),
        Answer(2, "9", "1118", ("properties-of-solids",), True, 1096470400.0, None),
        Answer(4, "8", "1118", ("properties-of-solids",), False, 1096470500.0, 0.0),
        Answer(3, "8", "1118", ("properties-of-solids",), True, 1096470500.0, 0.0),
    ]


QUESTIONS = (
    {"question_id": "q1", "bundle_id": "b1", "correct_answer": "a", "part": 1, "tags": "7;183"},
    {"question_id": "q2", "bundle_id": "b2", "correct_answer": "b", "part": 3, "tags": "52"},
    {"question_id": "q3", "bundle_id": "b2", "correct_answer": "c", "part": 3, "tags": "52;52;9"},
    {"question_id": "q4", "bundle_id": "b4", "correct_answer": "d", "part": 1, "tags": "-1"},
)


@pytest.fixture
def ednet(tmp_path: Path) -> Path:
    """Give a folder with EdNet's table of questions."""
    write(tmp_path / "contents" / "questions.csv", published.EDNET_QUESTIONS, *QUESTIONS)
    return tmp_path


def test_ednet_kt1(ednet: Path) -> None:
    """Users are the names of their files; answers of a bundle have one moment; rows count on over the files."""
    kt1 = ednet / "KT1"
    write(
        kt1 / "u10.csv", published.EDNET_KT1,
        {"timestamp": 5_000, "solving_id": 1, "question_id": "q1", "user_answer": "b", "elapsed_time": 2_000},
    )  # fmt: skip
    write(
        kt1 / "u2.csv", published.EDNET_KT1,
        {"timestamp": 60_500, "solving_id": 2, "question_id": "q3", "user_answer": "c", "elapsed_time": 15_000},
        {"timestamp": 60_000, "solving_id": 2, "question_id": "q2", "user_answer": "a", "elapsed_time": 15_000},
        {"timestamp": 1_000, "solving_id": 1, "question_id": "q1", "user_answer": "a", "elapsed_time": -5},
        {"timestamp": 90_000, "solving_id": 3, "question_id": "q4", "user_answer": "d", "elapsed_time": 1_000},
        {"timestamp": 91_000, "solving_id": 4, "question_id": "q1", "user_answer": "", "elapsed_time": 1_000},
        {"timestamp": 92_000, "solving_id": 5, "question_id": "q77", "user_answer": "a", "elapsed_time": 1_000},
    )  # fmt: skip
    (kt1 / "notes.txt").write_text("not a user")
    expected = [
        Answer(2, "u2", "q1", ("7", "183"), True, 1.0, None),
        Answer(6, "u10", "q1", ("7", "183"), False, 7.0, 2.0),
        Answer(0, "u2", "q3", ("52", "9"), True, 75.5, 15.0),
        Answer(1, "u2", "q2", ("52",), False, 75.5, 15.0),
    ]
    file = read_answers(kt1)
    assert file.answers == expected
    assert skipped(file) == {"no skill": 1, "no outcome": 1, "a question that questions.csv does not know": 1}
    assert read_answers(ednet).answers == expected, "the folder above, with one of KT1 to KT4, will do"
    assert [answer.user_id for answer in read_answers(kt1 / "u10.csv").answers] == ["u10"]
    assert len({read_answers(path).digest for path in (kt1, kt1 / "u10.csv", kt1 / "u2.csv")}) == 3


@pytest.mark.parametrize("header", [published.EDNET_KT3, published.EDNET_KT4])
def test_ednet_actions(ednet: Path, header: str) -> None:
    """What was last chosen when a bundle was handed in is the answer, timed from when it was shown to the hand-in."""
    actions = [
        (1_000, "enter", "b1", ""),
        (9_000, "respond", "q1", "b"),
        (11_000, "respond", "q1", "a"),
        (12_000, "submit", "b1", ""),
        (12_500, "enter", "e1", ""),
        (14_000, "quit", "e1", ""),
        (20_000, "enter", "l540", ""),
        (90_000, "quit", "l540", ""),
        (100_000, "enter", "b2", ""),
        (130_000, "respond", "q3", "c"),
        (118_000, "respond", "q2", "c"),
        (131_000, "submit", "b2", ""),
        (140_000, "respond", "q1", "a"),
        (141_000, "submit", "b1", ""),
        (150_000, "enter", "b1", ""),
        (155_000, "respond", "q1", "c"),
    ]
    names = ("timestamp", "action_type", "item_id", "user_answer")
    write(ednet / "KT" / "u7.csv", header, *(dict(zip(names, action, strict=True)) for action in actions))
    file = read_answers(ednet / "KT")
    assert file.answers == [
        Answer(2, "u7", "q1", ("7", "183"), True, 12.0, 11.0),
        Answer(10, "u7", "q2", ("52",), False, 131.0, 31.0),
        Answer(9, "u7", "q3", ("52", "9"), True, 131.0, 31.0),
        Answer(12, "u7", "q1", ("7", "183"), True, 141.0, None),
    ]
    assert skipped(file) == {"not an answer": 10, "changed before it was handed in": 1, "never handed in": 1}


def test_ednet_without_its_questions(tmp_path: Path) -> None:
    """What is right is in a table of its own: without it the folder is refused, and the sentence says where it goes."""
    write(
        tmp_path / "KT1" / "u1.csv",
        published.EDNET_KT1,
        {"timestamp": 1, "solving_id": 1, "question_id": "q1", "user_answer": "a"},
    )
    with pytest.raises(BadAnswersFile, match=r"expected EdNet's table of questions at contents/questions\.csv"):
        read_answers(tmp_path / "KT1")


RIIID_ROWS = (
    {"row_id": 0, "timestamp": 0, "user_id": 115, "content_id": 5692, "content_type_id": 0, "task_container_id": 1,
     "user_answer": 3, "answered_correctly": 1},
    {"row_id": 4, "timestamp": 118_000, "user_id": 115, "content_id": 7860, "content_type_id": 0,
     "task_container_id": 0, "user_answer": 0, "answered_correctly": 1, "prior_question_elapsed_time": 19000.0},
    {"row_id": 1, "timestamp": 56_943, "user_id": 115, "content_id": 5716, "content_type_id": 0,
     "task_container_id": 2, "user_answer": 2, "answered_correctly": 0, "prior_question_elapsed_time": 37000.0},
    {"row_id": 2, "timestamp": 56_943, "user_id": 115, "content_id": 128, "content_type_id": 0,
     "task_container_id": 2, "user_answer": 0, "answered_correctly": 1, "prior_question_elapsed_time": 37000.0},
    {"row_id": 3, "timestamp": 60_000, "user_id": 115, "content_id": 89, "content_type_id": 1, "task_container_id": 3,
     "user_answer": -1, "answered_correctly": -1},
    {"row_id": 5, "timestamp": 0, "user_id": 124, "content_id": 5692, "content_type_id": 0, "task_container_id": 0,
     "user_answer": 1, "answered_correctly": 0},
    {"row_id": 6, "user_id": 124, "content_id": 5692, "content_type_id": 0, "answered_correctly": 0},
)  # fmt: skip


def test_riiid(tmp_path: Path) -> None:
    """A time told with the next questions goes back to those before, over a lecture, and never to another user."""
    path = write(tmp_path / "train.csv", published.RIIID, *RIIID_ROWS)
    write(
        tmp_path / "questions.csv", published.RIIID_QUESTIONS,
        {"question_id": 5692, "bundle_id": 5692, "correct_answer": 3, "part": 5, "tags": "151"},
        {"question_id": 5716, "bundle_id": 5716, "correct_answer": 0, "part": 5, "tags": "168 92"},
        {"question_id": 128, "bundle_id": 128, "correct_answer": 0, "part": 1, "tags": "131 149 92"},
        {"question_id": 7860, "bundle_id": 7860, "correct_answer": 0, "part": 1, "tags": ""},
    )  # fmt: skip
    file = read_answers(path)
    assert file.answers == [
        Answer(0, "115", "5692", ("151",), True, 0.0, 37.0),
        Answer(5, "124", "5692", ("151",), False, 0.0, None),
        Answer(2, "115", "5716", ("168", "92"), False, 56.943, 19.0),
        Answer(3, "115", "128", ("131", "149", "92"), True, 56.943, 19.0),
    ]
    assert skipped(file) == {"a lecture": 1, "no skill": 1, "no time or order": 1}
    assert "skills are the tags of questions.csv" in file.told()


def test_riiid_bundles_of_one_moment(tmp_path: Path) -> None:
    """Rows of two bundles that have one moment, mixed, stay two bundles: each question gets its own bundle's time."""
    base = {"user_id": 1, "content_type_id": 0, "answered_correctly": 1}
    path = write(
        tmp_path / "train.csv", published.RIIID,
        base | {"timestamp": 0, "content_id": 11, "task_container_id": 1},
        base | {"timestamp": 0, "content_id": 21, "task_container_id": 2, "prior_question_elapsed_time": 4_000},
        base | {"timestamp": 0, "content_id": 12, "task_container_id": 1},
        base | {"timestamp": 9_000, "content_id": 31, "task_container_id": 3, "prior_question_elapsed_time": 7_000},
    )  # fmt: skip
    times = {answer.item_id: answer.response_time_s for answer in read_answers(path).answers}
    assert times == {"11": 4.0, "12": 4.0, "21": 7.0, "31": None}


def test_riiid_without_questions(tmp_path: Path) -> None:
    """Without the table beside it each question is its own skill, and the user is told."""
    file = read_answers(write(tmp_path / "train.csv", published.RIIID, *RIIID_ROWS))
    assert all(answer.skills == (answer.item_id,) for answer in file.answers)
    assert "no questions.csv beside it" in file.told()


def test_junyi(tmp_path: Path) -> None:
    """Moment and time are of the first attempt, whose outcome `correct` is; topics come from the table beside it."""
    base = {"user_id": 12884, "exercise": "time_terminology", "time_done": 1420714810_324000, "correct": "true"}
    path = write(
        tmp_path / "junyi_ProblemLog_original.csv", published.JUNYI,
        base | {"time_taken": 15, "time_taken_attempts": 15},
        base | {"exercise": "division_4", "time_taken": 60, "time_taken_attempts": "20&30&10", "correct": "false"},
        base | {"exercise": "unknown_2", "time_taken": -3, "user_id": 2},
        base | {"time_done": ""},
        base | {"exercise": ""},
        base | {"user_id": 3, "time_taken": 30, "time_taken_attempts": "40&5"},
    )  # fmt: skip
    file = read_answers(path)
    assert file.answers == [
        Answer(1, "12884", "division_4", ("division_4",), False, 1420714770.324, 20.0),
        Answer(0, "12884", "time_terminology", ("time_terminology",), True, 1420714810.324, 15.0),
        Answer(2, "2", "unknown_2", ("unknown_2",), True, 1420714810.324, None),
        Answer(5, "3", "time_terminology", ("time_terminology",), True, 1420714810.324, 30.0),
    ]
    assert skipped(file) == {"no time or order": 1, "no question": 1}
    write(
        tmp_path / "junyi_Exercise_table.csv", "name,live,topic,area",
        {"name": "division_4", "topic": "multiplication-division"},
        {"name": "time_terminology", "topic": "telling-time"},
    )  # fmt: skip
    skills = [answer.skills for answer in read_answers(path).answers]
    assert skills == [("multiplication-division",), ("telling-time",), ("unknown_2",), ("telling-time",)]


def test_junyi_2019(tmp_path: Path) -> None:
    """
    Rounded moments are Taiwan's, whatever is written after them; problems of one keep the order of their numbers.

    Nothing says how long the first attempt took, and a rounded moment less any time would give it away.
    """
    base = {"uuid": "Kg=", "ucid": "ex=", "upid": "p1", "is_correct": "True", "total_sec_taken": 9}
    path = write(
        tmp_path / "Log_Problem.csv", published.JUNYI_2019,
        base | {"timestamp_TW": "2018-09-01 08:15:00", "problem_number": 2, "exercise_problem_repeat_session": 2},
        base | {"timestamp_TW": "2018-09-01 08:15:00", "problem_number": 1, "is_correct": "False"},
        base | {"timestamp_TW": "2018-09-01 08:00:00 UTC", "problem_number": 3, "ucid": ""},
        base | {"timestamp_TW": "2018-09-01 08:00:00 UTC", "problem_number": 3, "total_sec_taken": 9e9},
    )  # fmt: skip
    file = read_answers(path)
    assert file.answers == [
        Answer(3, "Kg=", "p1", ("ex=",), True, at("2018-09-01 00:00:00"), None),
        Answer(1, "Kg=", "p1", ("ex=",), False, at("2018-09-01 00:15:00"), None),
        Answer(0, "Kg=", "p1", ("ex=",), True, at("2018-09-01 00:15:00"), None),
    ]
    assert skipped(file) == {"no skill": 1}


def test_kdd_cup_2010(tmp_path: Path) -> None:
    """A step is the item; skills are joined by `~~`; quotes mean nothing; the test part has no outcomes."""
    base = {
        "Anon Student Id": "0BrbPbwCMz", "Problem Name": 'EG4-FIXED "x', "Step Name": "3(x+2) = 15",
        "Step Start Time": "2005-09-09 12:24:35.0", "First Transaction Time": "2005-09-09 12:24:49.0",
        "Step End Time": "2005-09-09 12:25:15.0", "Step Duration (sec)": 40, "Correct First Attempt": 0,
        "KC(SubSkills)": "Eliminate Parens~~Write expression~~Eliminate Parens", "KC(KTracedSkills)": "[SkillRule]",
    }  # fmt: skip
    path = write(
        tmp_path / "algebra_2005_2006_train.txt", published.KDD_CUP, base,
        base | {"First Transaction Time": "2005-09-09 12:20:00.0", "Step Name": "x+2 = 5", "Correct First Attempt": 1},
        base | {"Step Name": "no skill", "KC(SubSkills)": ""},
        base | {"Step Name": "to be predicted", "Correct First Attempt": ""},
        base | {"Step Name": ""},
    )  # fmt: skip
    file = read_answers(path)
    skills = ("Eliminate Parens", "Write expression")
    assert file.answers == [
        Answer(1, "0BrbPbwCMz", 'EG4-FIXED "x/x+2 = 5', skills, True, at("2005-09-09 12:20:00"), None),
        Answer(0, "0BrbPbwCMz", 'EG4-FIXED "x/3(x+2) = 15', skills, False, at("2005-09-09 12:24:49"), 14.0),
    ]
    assert skipped(file) == {"no skill": 1, "no outcome": 1, "no question": 1}
    assert file.told().endswith("; skills are those of KC(SubSkills), one of 2 models")


def test_quotes_in_tables_with_tabs_mean_nothing(tmp_path: Path) -> None:
    """A cell that begins with a quote is that cell: it takes neither the tab after it nor the lines below."""
    base = {
        "Anon Student Id": "s", "Step Name": '"x', "First Transaction Time": "2005-09-09 12:24:49.0",
        "Correct First Attempt": 1, "KC(SubSkills)": "k",
    }  # fmt: skip
    path = write(tmp_path / "a.txt", published.KDD_CUP, base | {"Problem Name": '"P'}, base | {"Problem Name": '"Q"'})
    assert [answer.item_id for answer in read_answers(path).answers] == ['"P/"x', '"Q"/"x']


@pytest.mark.parametrize("header", [published.KDD_CUP, published.DATASHOP_STEPS, published.DATASHOP])
def test_views_of_a_problem_are_not_joined(tmp_path: Path, header: str) -> None:
    """A step met again in another view of its problem is another answer, though both have one moment."""
    base = {"Anon Student Id": "s", "Problem Name": "P", "Step Name": "S"}
    values: dict[str, object] = {
        "First Transaction Time": "2005/09/09 12:24", "Correct First Attempt": 1, "KC(SubSkills)": "k",
        "First Attempt": "correct", "KC (Circles)": "k", "Outcome": "CORRECT", "Time": "2005/09/09 12:24",
        "Attempt At Step": 1,
    }  # fmt: skip
    row = base | {name: value for name, value in values.items() if name in header.split("\t")}
    views = [row | {"Problem View": view} for view in (1, 2, 2)]
    file = read_answers(write(tmp_path / "a.txt", header, *views))
    assert [answer.row for answer in file.answers] == [0, 1]
    assert skipped(file) == {"told before": 1}


@pytest.mark.parametrize(
    ("models", "chosen"),
    [
        (("Unique-step", "Circles", "Squares"), "Circles"),
        (("Single-KC", "Unique-step", "Squares"), "Squares"),
        (("Unique-step", "Single-KC"), "Unique-step"),
    ],
)
def test_the_model_of_skills_that_is_taken(tmp_path: Path, models: tuple[str, ...], chosen: str) -> None:
    """The first that somebody made; of those that DataShop makes of every set, the first."""
    header = "\t".join(
        ("Anon Student Id", "Problem Name", "Step Name", "Time", "Outcome", *(f"KC ({m})" for m in models))
    )
    row = {
        "Anon Student Id": "s", "Problem Name": "P", "Step Name": "S", "Time": "2010-09-01 10:02:33", "Outcome": "OK",
    } | {f"KC ({model})": model for model in models}  # fmt: skip
    (answer,) = read_answers(write(tmp_path / "tx.txt", header, row)).answers
    assert answer.skills == (chosen,)


@pytest.mark.parametrize(
    ("zone", "moment"),
    [
        ("", "2010-09-01 10:02:33"),
        ("US/Eastern", "2010-09-01 14:02:33"),
        ("EDT", "2010-09-01 14:02:33"),
        ("EST", "2010-09-01 15:02:33"),
        ("PDT", "2010-09-01 17:02:33"),
        ("+0100", "2010-09-01 09:02:33"),
        ("-05:30", "2010-09-01 15:32:33"),
        ("GMT-4", "2010-09-01 14:02:33"),
        ("UTC+08:00", "2010-09-01 02:02:33"),
        ("+9900", "2010-09-01 10:02:33"),
    ],
)
def test_zones_of_transactions(tmp_path: Path, zone: str, moment: str) -> None:
    """A zone is a place, an offset or what North America calls it; the line names one that is none of these."""
    row = {
        "Anon Student Id": "s", "Problem Name": "P", "Step Name": "S", "Time": "2010-09-01 10:02:33", "Outcome": "OK",
        "Time Zone": zone, "KC (Circles)": "k", "Attempt At Step": 1,
    }  # fmt: skip
    file = read_answers(write(tmp_path / "tx.txt", published.DATASHOP, row))
    assert [answer.at for answer in file.answers] == [at(moment)]
    assert ("not known here" in file.told()) is (zone == "+9900")


def test_transactions_in_seconds_are_refused(tmp_path: Path) -> None:
    """Numbers are milliseconds: those of the log that Junyi made for DataShop would all be of January 1970."""
    row = {"Anon Student Id": "s", "Problem Name": "P", "Step Name": "S", "Time": 1420714810, "Outcome": "CORRECT"}
    path = write(tmp_path / "junyi_ProblemLog_for_PSLC.txt", published.DATASHOP, row)
    with pytest.raises(BadAnswersFile, match=r"milliseconds since 1970, found '1420714810', which are seconds: turn"):
        read_answers(path)


def test_datashop_steps(tmp_path: Path) -> None:
    """Asking for a hint first counts as wrong; a model that somebody made goes before the one of all steps."""
    base = {
        "Anon Student Id": "Stu_1", "Problem Name": "RING", "Step Name": "AREA",
        "First Transaction Time": "2010/09/01 10:02", "KC (Single-KC)": "Single-KC", "KC (Circles)": "circle-area",
    }  # fmt: skip
    path = write(
        tmp_path / "steps.txt", published.DATASHOP_STEPS,
        base | {"First Attempt": "hint"},
        base | {"First Attempt": "correct", "Step Name": "RADIUS"},
        base | {"First Attempt": "unknown", "Step Name": "OTHER"},
    )  # fmt: skip
    file = read_answers(path)
    assert file.answers == [
        Answer(0, "Stu_1", "RING/AREA", ("circle-area",), False, at("2010-09-01 10:02:00"), None),
        Answer(1, "Stu_1", "RING/RADIUS", ("circle-area",), True, at("2010-09-01 10:02:00"), None),
    ]
    assert skipped(file) == {"no outcome": 1}


def test_datashop_transactions(tmp_path: Path) -> None:
    """Of each step the first attempt alone; a further skill has a column of the same name; times have their zone."""
    base = {
        "Anon Student Id": "Stu_1", "Time": "2010-09-01 10:02:33", "Time Zone": "US/Eastern", "Problem Name": "RING",
        "Problem View": 1, "Step Name": "AREA", "KC (Circles)": ["circle-area", "compose"], "Duration (sec)": 7.5,
    }  # fmt: skip
    path = write(
        tmp_path / "tx.txt", published.DATASHOP,
        base | {"Attempt At Step": 1, "Outcome": "INCORRECT", "Sample Name": "All Data"},
        base | {"Attempt At Step": 1, "Outcome": "INCORRECT", "Sample Name": "Part"},
        base | {"Attempt At Step": 2, "Outcome": "HINT"},
        base | {"Attempt At Step": 3, "Outcome": "CORRECT"},
        base | {"Step Name": "RADIUS", "Attempt At Step": 1, "Outcome": "HINT", "Duration (sec)": ".",
                "KC (Circles)": "radius", "Time": 1283349754000},
        base | {"Step Name": "", "Outcome": "", "Student Response Type": "HINT_REQUEST", "Time Zone": "Mars/North"},
        base | {"Step Name": "DONE", "Attempt At Step": 1, "Outcome": "", "KC (Circles)": ""},
        base | {"Step Name": "DONE", "Attempt At Step": 1, "Outcome": "OK", "KC (Circles)": ""},
    )  # fmt: skip
    file = read_answers(path)
    moment = at("2010-09-01 14:02:33")
    assert file.answers == [
        Answer(0, "Stu_1", "RING/AREA", ("circle-area", "compose"), False, moment, 7.5),
        Answer(4, "Stu_1", "RING/RADIUS", ("radius",), False, 1283349754.0, None),
    ]
    assert "times of the zones Mars/North, which are not known here, are taken as UTC" in file.told()
    assert skipped(file) == {
        "told before": 1, "a later hint": 1, "not the first attempt": 1, "no question": 1, "no outcome": 1,
        "no skill": 1,
    }  # fmt: skip


TUTOR_TX = "Anon Student Id\tTime\tProblem Name\tStep Name\tOutcome"


@pytest.mark.parametrize("is_numbered", [True, False])
def test_messages_of_cognitive_tutors(tmp_path: Path, is_numbered: bool) -> None:
    """
    A message just in time answers an error; a free one, and a deeper hint, are no verdict.

    What follows either is no first attempt, so that no step counts as right at once that was not.
    """
    header = f"{TUTOR_TX}\tAttempt At Step" if is_numbered else TUTOR_TX
    steps = {
        "wrong": ("JIT", "OK"), "free": ("FREEBIE_JIT", "OK"), "hinted": ("INITIAL_HINT", "HINT_LEVEL_CHANGE", "OK"),
        "deeper": ("HINT_LEVEL_CHANGE", "OK"), "right": ("OK", "JIT"), "mistaken": ("ERROR", "FREEBIE_JIT"),
    }  # fmt: skip
    rows = [
        {"Anon Student Id": "s", "Problem Name": "P", "Step Name": step, "Outcome": outcome,
         "Time": f"2022-11-09 10:{minute:02}:{second:02}"} | ({"Attempt At Step": second} if is_numbered else {})
        for minute, (step, outcomes) in enumerate(steps.items())
        for second, outcome in enumerate(outcomes, 1)
    ]  # fmt: skip
    file = read_answers(write(tmp_path / "tx.txt", header, *rows))
    assert {answer.item_id: answer.correct for answer in file.answers} == {
        "P/wrong": False, "P/hinted": False, "P/right": True, "P/mistaken": False,
    }  # fmt: skip
    assert skipped(file) == {"no outcome": 2, "not the first attempt": 6, "a later hint": 1}


def test_datashop_without_attempts_or_models(tmp_path: Path) -> None:
    """Where the export does not number attempts, a step's first row is it; without a model its problem is the skill."""
    header = "Anon Student Id\tTime\tProblem Name\tStep Name\tOutcome\tInput"
    base = {"Anon Student Id": "s", "Time": "2010-09-01 10:02:33", "Problem Name": "P", "Step Name": "S"}
    path = write(
        tmp_path / "tx.txt", header,
        base | {"Outcome": "CORRECT"},
        base | {"Outcome": "INCORRECT", "Time": "2010-09-01 10:03:00"},
    )  # fmt: skip
    file = read_answers(path)
    assert file.answers == [Answer(0, "s", "P/S", ("P",), True, at("2010-09-01 10:02:33"), None)]
    assert skipped(file) == {"not the first attempt": 1}
    assert "a step's skill is its problem" in file.told()


def test_datashop_views_without_attempts(tmp_path: Path) -> None:
    """Where the export does not number attempts, each view of a problem has first attempts of its own."""
    header = "Anon Student Id\tTime\tProblem Name\tProblem View\tStep Name\tOutcome"
    base = {"Anon Student Id": "s", "Problem Name": "P", "Step Name": "S", "Outcome": "CORRECT"}
    path = write(
        tmp_path / "tx.txt", header,
        base | {"Time": "2010-09-01 10:02:33", "Problem View": 1},
        base | {"Time": "2010-09-01 10:03:00", "Problem View": 1},
        base | {"Time": "2010-09-02 10:02:33", "Problem View": 2},
    )  # fmt: skip
    file = read_answers(path)
    assert [answer.row for answer in file.answers] == [0, 2]
    assert skipped(file) == {"not the first attempt": 1}


def test_rows_cut_short_are_counted(tmp_path: Path) -> None:
    """A row that ends before the cells that matter is skipped; one with more cells than the header is not."""
    path = tmp_path / "a.csv"
    path.write_text(f"{published.ASSISTMENTS_2015}\n1,2\n\n1,2,3,1,9\n")
    file = read_answers(path)
    assert [answer.row for answer in file.answers] == [1]
    assert skipped(file) == {"cut short": 1}


def test_long_and_odd_ids_fit_events(tmp_path: Path) -> None:
    """Ids that events could not have are made to fit, and stay apart; of very many skills the first are kept."""
    base = {
        "Anon Student Id": "a\x07b", "Problem Name": "p" * 300, "First Transaction Time": "2005-09-09 12:24:49",
        "Correct First Attempt": 1, "KC(SubSkills)": "~~".join(f"k{k}" for k in range(30)),
    }  # fmt: skip
    path = write(tmp_path / "a.txt", published.KDD_CUP, base | {"Step Name": "s1"}, base | {"Step Name": "s2"})
    file = read_answers(path)
    first, second = file.answers
    assert first.item_id != second.item_id
    for event in as_interactions(file):
        read = schemas.decode_interaction(json.dumps(event).encode())
        assert (read.user_id, len(read.skills)) == ("a b", 16)


def test_a_file_without_an_answer_is_refused(tmp_path: Path) -> None:
    """The sentence tells what became of the rows."""
    path = write(tmp_path / "a.csv", published.ASSISTMENTS_2015, {"user_id": 1, "log_id": 2, "sequence_id": 3})
    with pytest.raises(BadAnswersFile, match=r"answers: 0, of rows: 1; skipped: 1 \(no outcome: 1\): expected"):
        read_answers(path)


STEP: dict[str, object] = {"Anon Student Id": "s", "Problem Name": "P", "Step Name": "S"}
ROUNDED: dict[str, tuple[dict[str, object], str, int]] = {
    "assistments2012": ({"user_id": 1, "problem_id": 8, "skill_id": 2, "correct": 1, "start_time": "9/28/2012 15:11"},
                        "ms_first_response", 1000),
    "assistments2017": ({"studentId": 8, "problemId": 1, "skill": "k", "correct": 1, "startTime": 1096470300},
                        "timeTaken", 1),
    "ednet-kt1": ({"timestamp": 1_096_470_300_000, "solving_id": 1, "question_id": "q1", "user_answer": "a"},
                  "elapsed_time", 1000),
    "junyi2019": ({"uuid": "u", "ucid": "k", "upid": "p", "is_correct": "True", "timestamp_TW": "2018-09-01 08:15:00"},
                  "total_sec_taken", 1),
    "kddcup2010": (STEP | {"First Transaction Time": "2005/09/09 12:24", "Correct First Attempt": 1,
                           "Step Start Time": "2005/09/09 12:24", "KC(SubSkills)": "k"}, "Step Duration (sec)", 1),
    "datashop-steps": (STEP | {"First Transaction Time": "9/9/2005 12:24", "First Attempt": "correct",
                               "Step Start Time": "9/9/2005 12:22", "KC (Circles)": "k"}, "Step Duration (sec)", 1),
    "datashop": (STEP | {"Time": "9/9/05 12:24", "Outcome": "OK", "Attempt At Step": 1, "KC (Circles)": "k"},
                 "Duration (sec)", 1),
}  # fmt: skip
"""Of each format that has moments which may be rounded: a row, and the column of its response time, units a second."""


@pytest.mark.parametrize("name", ROUNDED)
def test_no_rounded_moment_tells_the_response_time(ednet: Path, name: str) -> None:
    """When a question was asked is what models may know: where moments are rounded, it is the same for all times."""
    row, column, per_second = ROUNDED[name]
    asked = set()
    for seconds in (3, 17, 44):
        path = write(ednet / "u1.csv", HEADERS[name], row | {column: seconds * per_second})
        (answer,) = read_answers(path, name).answers
        assert answer.at is not None
        if answer.response_time_s is not None:
            asked.add(answer.at - answer.response_time_s)
    assert len(asked) <= 1


def test_first_transactions_of_rounded_moments_have_no_time(tmp_path: Path) -> None:
    """The difference of two moments that are rounded to minutes is no response time."""
    row, *_ = ROUNDED["datashop-steps"]
    (answer,) = read_answers(write(tmp_path / "a.txt", published.DATASHOP_STEPS, row)).answers
    assert (answer.at, answer.response_time_s) == (at("2005-09-09 12:24:00"), None)


def test_users_files_that_cannot_be_read_are_passed_over(ednet: Path) -> None:
    """An empty one, and one with another header, are counted, and the line names the first; alone it is refused."""
    row = {"timestamp": 5_000, "solving_id": 1, "question_id": "q1", "user_answer": "a", "elapsed_time": 2_000}
    write(ednet / "KT1" / "u3.csv", published.EDNET_KT1, row)
    (ednet / "KT1" / "u1.csv").touch()
    (ednet / "KT1" / "u2.csv.gz").write_bytes(gzip.compress(b""))
    other = write(ednet / "KT1" / "u4.csv", published.EDNET_KT3, {"timestamp": 1})
    file = read_answers(ednet / "KT1")
    assert [answer.user_id for answer in file.answers] == ["u3"]
    assert f"users' files passed over: 3 (the first: {ednet / 'KT1' / 'u1.csv'} is empty" in file.told()
    assert skipped(file) == {}
    with pytest.raises(BadAnswersFile, match=r"u4\.csv: expected EdNet KT1, found a file with timestamp, action_type"):
        read_answers(other, "ednet-kt1")
    (ednet / "KT1" / "u3.csv").write_bytes(b"")
    other.write_bytes(b"")
    with pytest.raises(BadAnswersFile, match=r"u1\.csv is empty"):
        read_answers(ednet / "KT1")


@pytest.mark.parametrize(
    ("header", "name", "columns", "lacking"),
    [
        (published.EDNET_KT1, "contents/questions.csv", "question_id,bundle_id,tags", "correct_answer"),
        (published.EDNET_KT3, "contents/questions.csv", "question_id,correct_answer,tags", "bundle_id"),
        (published.RIIID, "questions.csv", "question_id,tag", "tags"),
        (published.JUNYI, "junyi_Exercise_table.csv", "exercise,topic", "name"),
    ],
)
def test_tables_beside_need_their_columns(tmp_path: Path, header: str, name: str, columns: str, lacking: str) -> None:
    """A table that lacks a column gives no skills and no outcomes: the sentence names both."""
    write(tmp_path / name, columns)
    with pytest.raises(BadAnswersFile, match=rf"{name}, line 1: expected .*, found it without {lacking}: take"):
        read_answers(write(tmp_path / "u1.csv", header))


@pytest.mark.parametrize("below", [0, 1, 50, 2_000, 200_000])
def test_a_quote_that_is_never_closed_is_refused(tmp_path: Path, below: int) -> None:
    """It would take all rows below it for one cell; the sentence names its line, however many follow."""
    path = tmp_path / "a.csv"
    path.write_text(f'{published.ASSISTMENTS_2015}\n1,2,3,1\n\n1,3,"3,1\n' + "1,4,3,1\n" * below)
    with pytest.raises(
        BadAnswersFile, match=r"a\.csv, line 4: expected .*, found a (row|quote) that .*: close the quotes"
    ):
        read_answers(path)


def test_a_quote_that_a_later_one_closes_is_refused(tmp_path: Path) -> None:
    """Rows between two stray quotes are not lost in silence; the header is no better."""
    path = tmp_path / "a.csv"
    path.write_text(f'{published.ASSISTMENTS_2015}\n1,2,3,1\n1,"3,3,1\n1,4,3,1\n1,5",3,1,0,0\n')
    with pytest.raises(BadAnswersFile, match=r"line 3: expected a row, found a quote that is not closed in it: close"):
        read_answers(path)
    for below in ("", "1,4,3,1\n" * 200 + '1,5,3,"\n'):
        path.write_text(f'{published.ASSISTMENTS_2015}\n1,2,3,1\n1,3,3,"1\n{below}')
        with pytest.raises(BadAnswersFile, match="line 3: expected a row, found a quote that is not closed in it"):
            read_answers(path)
    path.write_text(f'"{published.ASSISTMENTS_2015}\n1,2,3,1\n')
    with pytest.raises(BadAnswersFile, match="line 1: expected a row, found a quote that is not closed"):
        read_answers(path)


def test_long_cells_and_cells_of_several_lines_are_read(tmp_path: Path) -> None:
    """What users typed may be long, and have line breaks; a file may end without one."""
    path = tmp_path / "a.csv"
    typed = 'first\nsecond ""third""\r\n' + "x" * 300_000
    path.write_text(f'{published.ASSISTMENTS_2015},answer_text\n1,2,3,1,"{typed}"\n1,3,3,0,y')
    assert [answer.correct for answer in read_answers(path).answers] == [True, False]


@pytest.mark.parametrize("line", ["", "I think", "one, two", "a, b, c, d, e, f, g"])
def test_a_cell_may_have_any_number_of_lines(tmp_path: Path, line: str) -> None:
    """What somebody wrote is not taken for rows by its length, as long as its lines are none."""
    path = tmp_path / "a.csv"
    typed = f"{line}\n" * 5_000
    path.write_text(f'{published.ASSISTMENTS_2015},answer_text\n1,2,3,1,"{typed}"\n1,3,3,0,y\n')
    assert [answer.correct for answer in read_answers(path).answers] == [True, False]


def test_joined_rows_keep_what_the_first_says(tmp_path: Path) -> None:
    """A further skill's row changes neither outcome nor time."""
    base = {"order_id": 1, "user_id": 1, "problem_id": 1}
    path = write(
        tmp_path / "a.csv", published.ASSISTMENTS_2009,
        base | {"correct": 0, "skill_id": 1, "ms_first_response": 1000},
        base | {"correct": 1, "skill_id": 2, "ms_first_response": 2000},
    )  # fmt: skip
    assert read_answers(path).answers == [Answer(0, "1", "1", ("1", "2"), False, None, 1.0)]
