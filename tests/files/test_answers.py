"""Files of past answers: what is read, what is refused with which sentence, and how they are replayed."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

import schemas
from stream.errors import BadAnswersFile
from stream.files.answers import Answer, as_interactions, in_replay_order
from stream.files.formats import read_answers

HEADER = "user_id,item_id,skill_id,correct"
TIMED = f"{HEADER},timestamp,response_time_seconds"


def write(folder: Path, *lines: str, name: str = "answers.csv") -> Path:
    """Write lines to a file."""
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    """Give the sentence with which a file is refused."""
    with pytest.raises(BadAnswersFile) as caught:
        read_answers(path)
    return str(caught.value)


def test_a_row_becomes_an_answer(tmp_path: Path) -> None:
    """All columns are read by name, in any order; other columns are ignored."""
    path = write(
        tmp_path,
        "school,response_time_seconds,correct,skill_id,item_id,user_id,timestamp",
        "x,2.5,1,algebra;area,i1,u1,2026-01-05T08:00:00Z",
    )
    assert read_answers(path).answers == [
        Answer(0, "u1", "i1", ("algebra", "area"), True, datetime(2026, 1, 5, 8, tzinfo=UTC).timestamp(), 2.5)
    ]


@pytest.mark.parametrize(("cell", "correct"), [("1", 1), ("true", 1), ("0.0", 0), ("False", 0), (" 1.0 ", 1)])
def test_correct_has_several_spellings(tmp_path: Path, cell: str, correct: int) -> None:
    """0 and 1, as numbers or words, are what `correct` may say."""
    (answer,) = read_answers(write(tmp_path, HEADER, f"u,i,s,{cell}")).answers
    assert answer.correct is bool(correct)


def test_gzip_and_byte_order_mark_are_read(tmp_path: Path) -> None:
    """A gzipped file, and one that a spreadsheet saved with a byte order mark, read like a plain one."""
    text = f"\ufeff{HEADER}\r\nu,i,s,1\r\n\r\nu,j,s,0\r\n".encode()
    plain, zipped = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    plain.write_bytes(text)
    zipped.write_bytes(gzip.compress(text))
    assert read_answers(plain).answers == read_answers(zipped).answers
    assert [answer.row for answer in read_answers(plain).answers] == [0, 1]


def test_what_the_file_knows_is_said(tmp_path: Path) -> None:
    """A file says whether it has timestamps and response times; empty columns count as none."""
    timed = read_answers(write(tmp_path, TIMED, "u,i,s,1,5,", "u,i,s,1,6,2.5", name="a.csv"))
    bare = read_answers(write(tmp_path, TIMED, "u,i,s,1,,", name="b.csv"))
    assert (timed.has_timestamps, timed.has_response_times) == (True, True)
    assert (bare.has_timestamps, bare.has_response_times) == (False, False)
    assert [answer.response_time_s for answer in timed.answers] == [None, 2.5]


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["user_id,skill_id,correct", "u,s,1"], ["line 1", "column item_id", "user_id, skill_id, correct"]),
        ([HEADER + ",correct", "u,i,s,1,1"], ["line 1", "column correct", "2 times"]),
        ([HEADER], ["an answer after the header", "no rows"]),
        ([HEADER, "u,i,s,1", "u,i,s,yes"], ["line 3", "column correct", "'yes'"]),
        ([HEADER, "u,i,s,"], ["line 2", "column correct", "an empty cell"]),
        ([HEADER, " ,i,s,1"], ["line 2", "column user_id", "an empty cell"]),
        ([HEADER, "u,,s,1"], ["line 2", "column item_id", "an empty cell"]),
        ([HEADER, "u,i,,1"], ["line 2", "column skill_id", "an empty cell"]),
        ([HEADER, "u,i,a;;b,1"], ["line 2", "column skill_id", "an empty cell"]),
        ([HEADER, f"{'u' * 257},i,s,1"], ["line 2", "column user_id", "257"]),
        ([HEADER, "u\x07,i,s,1"], ["line 2", "column user_id", "control"]),
        ([HEADER, "u,i,s,1,9"], ["line 2", "4 cells", "found 5"]),
        ([HEADER, '"u,i,s,1'], ["line", "quotes"]),
        ([TIMED, "u,i,s,1,yesterday,1"], ["line 2", "column timestamp", "'yesterday'"]),
        ([TIMED, "u,i,s,1,2026-01-05T08:00:00,1"], ["line 2", "column timestamp", "zone"]),
        ([TIMED, "u,i,s,1,1767600000000,1"], ["line 2", "column timestamp", "milliseconds"]),
        ([TIMED, "u,i,s,1,nan,1"], ["line 2", "column timestamp", "'nan'"]),
        ([TIMED, "u,i,s,1,-5,1"], ["line 2", "column timestamp", "'-5'"]),
        ([TIMED, "u,i,s,1,1_000,1"], ["line 2", "column timestamp", "'1_000'"]),
        ([TIMED, "u,i,s,1,5,1", "v,i,s,1,,1"], ["line 3", "column timestamp", "every row"]),
        ([TIMED, "u,i,s,1,,1", "v,i,s,1,5,1"], ["line 3", "column timestamp", "every row"]),
        ([TIMED, "u,i,s,1,2026-01-05T08:00:00Z,1", "v,i,s,1,1767600000,1"], ["line 3", "RFC 3339", "one way"]),
        ([TIMED, "u,i,s,1,1767600000,1", "v,i,s,1,2026-01-05T08:00:00Z,1"], ["line 3", "number of seconds", "one way"]),
        ([TIMED, "u,i,s,1,6,1", "v,i,s,1,3,1", "u,i,s,1,5,1"], ["line 4", "user 'u'", "'5'", "sort"]),
        ([TIMED, "u,i,s,1,5,-1"], ["line 2", "column response_time_seconds", "'-1'"]),
        ([TIMED, "u,i,s,1,5,soon"], ["line 2", "column response_time_seconds", "'soon'"]),
        ([TIMED, "u,i,s,1,5,inf"], ["line 2", "column response_time_seconds", "'inf'"]),
    ],
)
def test_a_fault_is_refused_with_its_place(tmp_path: Path, lines: list[str], parts: list[str]) -> None:
    """The sentence names file, line, column, and what was found."""
    path = write(tmp_path, *lines)
    said = refusal(path)
    assert said.startswith(str(path))
    assert said.endswith(".")
    assert [part for part in parts if part not in said] == [], said


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    """A missing file, a folder, an empty file, broken gzip and other encodings each get a sentence."""
    empty, false_gz, cut_gz, latin = (tmp_path / name for name in ("e.csv", "f.csv.gz", "c.csv.gz", "l.csv"))
    empty.touch()
    false_gz.write_text(HEADER)
    cut_gz.write_bytes(gzip.compress(f"{HEADER}\nu,i,s,1\n".encode())[:-10])
    latin.write_bytes(f"{HEADER}\nJürgen,i,s,1\n".encode("latin-1"))
    assert "does not exist" in refusal(tmp_path / "none.csv")
    assert "is a folder" in refusal(tmp_path)
    assert "is empty" in refusal(empty)
    assert "expected gzip" in refusal(false_gz)
    assert "damaged" in refusal(cut_gz)
    assert "UTF-8" in refusal(latin)


def test_replay_is_in_time_order_over_all_users(tmp_path: Path) -> None:
    """Rows of one moment keep the file's order."""
    file = read_answers(write(tmp_path, TIMED, "u,i,s,1,5,", "u,i,s,1,9,", "v,i,s,1,1,", "v,i,s,1,5,"))
    assert [answer.row for answer in in_replay_order(file)] == [2, 0, 3, 1]


def test_replay_without_timestamps_goes_round(tmp_path: Path) -> None:
    """Without timestamps each user answers in turn, and who has no answer left is passed over."""
    file = read_answers(write(tmp_path, HEADER, "u,i,s,1", "u,j,s,1", "u,k,s,1", "v,i,s,1", "w,i,s,1", "w,j,s,0"))
    assert [answer.row for answer in in_replay_order(file)] == [0, 3, 4, 1, 5, 2]


def test_answers_become_valid_interactions(tmp_path: Path) -> None:
    """The event has topic, skills, item, moment and duration of the row."""
    file = read_answers(write(tmp_path, TIMED, "u,i,algebra;area,0,2026-01-05T08:00:00.25+01:00,2.5"))
    (event,) = as_interactions(file)
    read = schemas.decode_interaction(json.dumps(event).encode())
    assert (read.user_id, read.item_id, read.topic_id, read.skills) == (
        "u",
        "i",
        "algebra",
        ("algebra", "area"),
    )
    assert (read.correct, read.duration_seconds) == (False, 2.5)
    assert read.timestamp == datetime(2026, 1, 5, 7, 0, 0, 250000, tzinfo=UTC)


def test_event_ids_follow_file_and_row(tmp_path: Path) -> None:
    """The same file gives the same ids again; another file gives others."""
    first = read_answers(write(tmp_path, HEADER, "u,i,s,1", "u,i,s,1", name="a.csv"))
    second = read_answers(write(tmp_path, HEADER, "u,i,s,1", "u,i,s,0", name="b.csv"))
    ids = [[event["event_id"] for event in as_interactions(file)] for file in (first, first, second)]
    assert ids[0] == ids[1]
    assert len({*ids[0], *ids[2]}) == 4


def test_a_made_up_clock_says_so(tmp_path: Path) -> None:
    """Without timestamps a minute passes with each turn, and metadata admits it."""
    file = read_answers(write(tmp_path, HEADER, "u,i,s,1", "u,j,s,1", "v,i,s,1"))
    events = list(as_interactions(file))
    assert [event["timestamp"][11:19] for event in events] == ["00:00:00", "00:00:00", "00:01:00"]
    assert all(event["metadata"] == {"timestamp_made_up": True} for event in events)


def test_relative_seconds_fall_in_1970(tmp_path: Path) -> None:
    """Seconds from a course's start are read as seconds from 1970."""
    (event,) = as_interactions(read_answers(write(tmp_path, TIMED, "u,i,s,1,90.5,")))
    assert event["timestamp"] == "1970-01-01T00:01:30.500000Z"
    assert event["metadata"] == {}


@pytest.mark.parametrize(
    ("name", "users", "rows", "timed"),
    [
        ("lkt_memphis", 478, 55_122, True),
        ("algebra2005_test_users", 114, 129_998, True),
        ("assist2015", 19_840, 683_801, False),
        ("assist2017_pid", 1_705, 941_502, False),
    ],
)
def test_real_files_are_read_whole(name: str, users: int, rows: int, timed: bool) -> None:
    """Real files of answers read without a complaint, and a replay has each row once."""
    if "DATA" not in os.environ:
        pytest.skip("DATA names no folder with real answers (kt/*.csv.gz)")
    path = Path(os.environ["DATA"]) / "kt" / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"the folder that DATA names has no kt/{path.name}")
    file = read_answers(path)
    assert (len(file.answers), len({answer.user_id for answer in file.answers})) == (rows, users)
    assert file.has_timestamps is timed
    counts = Counter(answer.row for answer in in_replay_order(file))
    assert len(counts) == rows == counts.total()
