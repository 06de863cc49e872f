"""Whatever stands in the cells of a published file, it is read or refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from stream.errors import BadAnswersFile
from stream.files.answers import as_interactions
from stream.files.formats import read_answers
from tests.files import published
from tests.files.test_formats import HEADERS

ODD = (
    "", " ", "0", "1", "-1", "0.5", "1e308", "-1e308", "nan", "inf", "1_0", "NA", "a", "b", "q1", "b1", "enter",
    "respond", "submit", "true", "False", "CORRECT", "HINT", "OK", "JIT", "FREEBIE_JIT", "2", "1548996377530",
    "99999999999999999999999",
    "x~~y", "1_13", "2012-09-28 15:11:30", "0001-01-01", "9999-12-31 23:59", "2012-09-28T15:11:30+14:00", "~~", ";",
    "9/9/2005 12:24:35", "&", "1&2", "\x07", "\x85", "US/Eastern", "..", "/", '"', "é", "k" * 300,
)  # fmt: skip
CELLS = st.one_of(st.sampled_from(ODD), st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n"), max_size=8))
QUESTION = {"question_id": "q1", "bundle_id": "b1", "correct_answer": "a", "tags": "1;2"}


@pytest.mark.parametrize("name", [name for name in HEADERS if name != "csv"])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_mangled_rows_raise_nothing_else(name: str, data: st.DataObject) -> None:
    """Every answer that is found makes a valid event, and each row is accounted for."""
    header = HEADERS[name]
    separator = "\t" if "\t" in header else ","
    row = st.lists(CELLS, min_size=0, max_size=len(header.split(separator)) + 1)
    rows = data.draw(st.lists(row, max_size=6))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "u1.csv"
        body = "".join(f"{separator.join(cells)}\n" for cells in rows)
        path.write_bytes(f"{header}\n{body}".encode("utf-8", "surrogatepass"))
        published.write(Path(folder) / "contents" / "questions.csv", published.EDNET_QUESTIONS, QUESTION)
        try:
            file = read_answers(path, name)
        except BadAnswersFile:
            return
    assert file.passed is not None
    assert file.passed.rows == len(file.answers) + file.passed.joined + sum(file.passed.skipped.values())
    for event in as_interactions(file):
        schemas.decode_interaction(json.dumps(event).encode())
