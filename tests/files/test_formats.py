"""How a file's format is recognised, and with which sentence it is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from stream.errors import BadAnswersFile
from stream.files.formats import FORMAT_NAMES, FORMATS, find_format, read_answers
from tests.files import published
from tests.files.published import lines, write

HEADERS = {
    "csv": "school,user_id,item_id,skill_id,correct,timestamp",
    "assistments2009": published.ASSISTMENTS_2009,
    "assistments2012": published.ASSISTMENTS_2012,
    "assistments2015": published.ASSISTMENTS_2015,
    "assistments2017": published.ASSISTMENTS_2017,
    "ednet-kt1": published.EDNET_KT1,
    "ednet-kt3": published.EDNET_KT3,
    "ednet-kt4": published.EDNET_KT4,
    "riiid": published.RIIID,
    "junyi": published.JUNYI,
    "junyi2019": published.JUNYI_2019,
    "kddcup2010": published.KDD_CUP,
    "datashop-steps": published.DATASHOP_STEPS,
    "datashop": published.DATASHOP,
}


def refusal(path: Path, format_: str = "auto") -> str:
    """Give the sentence with which a file is refused."""
    with pytest.raises(BadAnswersFile) as caught:
        read_answers(path, format_)
    said = str(caught.value)
    assert said.endswith(".")
    return said


def test_each_format_has_a_header_here() -> None:
    """None is left out of the tests of recognition, but OULAD, which is told by its tables."""
    assert {*HEADERS, "oulad", "auto"} == set(FORMAT_NAMES)


@pytest.mark.parametrize("name", HEADERS)
def test_a_format_is_recognised_by_its_header(tmp_path: Path, name: str) -> None:
    """Its own header, gzipped and with a byte order mark too, fits it alone, and it may be named."""
    plain = write(tmp_path / "some.csv", HEADERS[name])
    zipped = tmp_path / "some.csv.gz"
    zipped.write_bytes(gzip.compress(lines(HEADERS[name]).encode("utf-8-sig")))
    for path in (plain, zipped):
        assert find_format(path).name == name
        assert find_format(path, name).name == name


def test_a_recognised_format_may_have_several_names(tmp_path: Path) -> None:
    """Actions of KT4 hold those of KT3: both names will do."""
    path = write(tmp_path / "u1.csv", published.EDNET_KT4)
    assert [each.name for each in FORMATS if "ednet" in each.name and find_format(path).name == "ednet-kt4"]
    assert find_format(path, "ednet-kt3").name == "ednet-kt3"


def test_our_own_format_goes_first(tmp_path: Path) -> None:
    """A published set that somebody gave our columns is read by them, as it always was."""
    path = write(tmp_path / "a.csv", f"{published.ASSISTMENTS_2009},item_id")
    assert find_format(path).name == "csv"


def test_an_ambiguous_header_is_refused(tmp_path: Path) -> None:
    """Where several formats fit, the sentence names them and asks for one."""
    path = write(tmp_path / "a.csv", f"{published.ASSISTMENTS_2009},log_id")
    assert refusal(path) == (
        f"{path}: the header fits assistments2009 and assistments2015: say which it is by --format."
    )
    assert find_format(path, "assistments2015").name == "assistments2015"


def test_an_unknown_header_is_refused(tmp_path: Path) -> None:
    """The sentence lists the formats, what was found, and what the nearest one lacks."""
    said = refusal(write(tmp_path / "a.csv", "user_id,problem_id,correct,skill_id,score"))
    assert "line 1: expected the header of one of the formats csv, assistments2009" in said
    assert "found a file with user_id, problem_id, correct, skill_id, score" in said
    assert "the nearest is assistments2009, which lacks column order_id." in said


@pytest.mark.parametrize(
    ("format_", "parts"),
    [
        (
            "assistments2012",
            ["expected ASSISTments 2012-2013", "start_time", "which lacks", "--format assistments2009 fits"],
        ),
        ("kddcup2010", ["Correct First Attempt", "found a file with order_id, ", "--format assistments2009 fits"]),
        ("ednet-kt1", ["expected EdNet KT1", "which lacks timestamp, solving_id"]),
        ("oulad", ["expected a folder of OULAD", "--format assistments2009 fits"]),
        ("csv", ["line 1, column item_id", "user_id, item_id, skill_id, correct"]),
        ("xlsx", ["--format: expected one of auto, csv,", "found xlsx"]),
    ],
)
def test_a_named_format_that_does_not_fit_is_refused(tmp_path: Path, format_: str, parts: list[str]) -> None:
    """The sentence says what was expected, what was found and what fits."""
    said = refusal(write(tmp_path / "a.csv", published.ASSISTMENTS_2009), format_)
    assert [part for part in parts if part not in said] == [], said


def test_folders_are_recognised(tmp_path: Path) -> None:
    """A folder is OULAD's, EdNet's, or refused."""
    oulad, ednet, neither = (tmp_path / name for name in ("oulad", "KT1", "neither"))
    write(oulad / "studentInfo.csv.gz", "code_module,code_presentation,id_student")
    write(ednet / "u1.csv", published.EDNET_KT1)
    neither.mkdir()
    assert find_format(oulad).name == find_format(oulad, "oulad").name == "oulad"
    assert find_format(ednet).name == "ednet-kt1"
    assert "is a folder of OULAD, which holds grades and outcomes" in refusal(oulad)
    assert "expected a file of answers, or a folder with the tables of OULAD or with the users'" in refusal(neither)
    assert "expected EdNet KT1, found a folder without such files, which lacks timestamp" in refusal(
        neither, "ednet-kt1"
    )
    assert "found a folder with timestamp, solving_id, question_id, user_answer, elapsed_time (in u1.csv)" in refusal(
        ednet, "riiid"
    )


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"user_id;item_id;skill_id;correct\nu;i;s;1\n", "line 1: expected cells separated by commas or tabs"),
        (f"\n{published.RIIID}\n".encode(), "line 1: expected a header, found an empty line: take out"),
        (f"\r\n{published.KDD_CUP}\r\n".encode(), "line 1: expected a header, found an empty line: take out"),
        (published.KDD_CUP.encode("utf-16"), "expected UTF-8, found UTF-16: save the file as UTF-8."),
        (b"\xfe\xff" + published.RIIID.encode("utf-16-be"), "expected UTF-8, found UTF-16: save"),
        (b'"Anon Student Id"\t"Time"\n"a"\t"b"\n', 'found the names in quotes ("Anon Student Id", ...): save the'),
    ],
)
def test_other_ways_to_save_a_table_are_refused(tmp_path: Path, content: bytes, part: str) -> None:
    """The sentence says what is the matter with the file, not which column a header lacks that was never read."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert part in refusal(path)


@pytest.mark.parametrize(
    ("content", "format_", "part"),
    [
        (b"\x00\x01\xff", "auto", r"a.csv is no text, it begins with '\x00\x01\xff'; expected a table with a header: "),
        (b"\x1b]0;title\x07,b\n", "riiid", r"is no text, it begins with '\x1b]0;title\x07,b'; expected"),
        (b"\x1b[31mname,b\n", "csv", r"found \x1b[31mname, b: add"),
        (b"\x89PNG\r\n\x1a\n", "auto", r"found a file with \x89PNG: add or rename"),
        (
            "Gr\u00f6\u00dfe,age\u202e\n".encode(),
            "auto",
            "found a file with Gr\u00f6\u00dfe, age\\u202e: add or rename",
        ),
    ],
)
def test_nothing_of_a_file_is_shown_that_a_terminal_obeys(
    tmp_path: Path, content: bytes, format_: str, part: str
) -> None:
    """Control letters and bytes that are no UTF-8 are escaped; a file that is no text is told as such."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    said = refusal(path, format_)
    assert part in said
    assert said.isprintable()


def test_a_header_that_cannot_be_unpacked_is_refused(tmp_path: Path) -> None:
    """Damage in a file's first bytes is told like damage further down."""
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(published.RIIID.encode())[:-12])
    assert "expected more of the file, found it damaged" in refusal(path)


def test_a_header_that_has_nothing_of_a_format_is_near_none(tmp_path: Path) -> None:
    """No format is called the nearest that shares no column with the file."""
    said = refusal(write(tmp_path / "a.csv", "name,age"))
    assert "found a file with name, age: add or rename columns" in said
    assert "nearest" not in said


def test_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    """The sets come as zip archives; the sentence says to unpack them."""
    path = tmp_path / "EdNet-KT1.zip"
    path.write_bytes(b"PK\x03\x04 and so on")
    assert "is a zip archive" in refusal(path)
    assert "unpack it" in refusal(path)
