"""`docs/risk.md` says what the code does: the features, an example, and what becomes of bad events."""

import re

import orjson
import pytest

from schemas import TOPICS, InvalidEvent, decode_academic
from schemas.predictions import RISK_LIMITS
from stream.models.weekly import FEATURES
from stream.reference import ROOT

DOCUMENT = (ROOT / "docs" / "risk.md").read_text(encoding="utf-8")
BASE = {"user_id": "u", "timestamp": "2026-03-02T08:00:00Z"}


def rows(head: str) -> list[tuple[str, ...]]:
    """Return the cells of the table below a heading, without its own head."""
    table = DOCUMENT.split(head, 1)[1].split("\n|---", 1)[1].split("\n\n", 1)[0]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in table.splitlines()[1:]]


def shown(bound: float) -> str:
    """Return a number as the document writes it."""
    return f"{bound:,.0f}"


def test_the_features_are_those_of_the_code() -> None:
    """All 42, in their order, with stream, unit, range and meaning."""
    expected = [
        (f"`{feature.name}`", feature.stream, feature.unit, f"{shown(feature.low)} to {shown(feature.high)}",
         feature.meaning)
        for feature in FEATURES
    ]  # fmt: skip
    assert rows("<!-- features") == expected
    assert len(expected) == 42


def test_every_event_is_described() -> None:
    """The table of events names the types that there are, in the schema's order."""
    types = [cells[0].strip("`") for cells in rows("## Events")]
    with pytest.raises(InvalidEvent) as refused:
        decode_academic(orjson.dumps(BASE | {"type": "expelled"}))
    known = str(refused.value).split(", found")[0]
    assert types == re.findall(r"'(\w+)'", known)


def test_the_example_is_a_prediction() -> None:
    """What is shown is what the schema takes, and its category and score agree."""
    (example,) = re.findall(r"^```json\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    TOPICS["predictions.risk"].adapter.validate_json(example)


def test_the_limits_of_categories_are_those_of_the_code() -> None:
    """Where Medium, High and Critical begin."""
    (sentence,) = re.findall(r"Low below .*?, Critical", DOCUMENT)
    assert tuple(map(float, re.findall(r"\d\.\d+", sentence))) == RISK_LIMITS


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "grade_recorded", "score": 120}, "bad_value"),
        ({"type": "grade_recorded", "score": -1}, "bad_value"),
        ({"type": "grade_recorded"}, "missing_field"),
        ({"type": "discipline_recorded", "severity": "grave"}, "bad_value"),
        ({"type": "attendance_recorded", "status": "ill"}, "bad_value"),
        ({"type": "outcome_recorded", "outcome": "left"}, "bad_value"),
        ({"type": "work_overdue"}, "missing_field"),
        ({"type": "expelled"}, "unknown_type"),
    ],
)
def test_bad_events_are_refused_as_it_says(event: dict[str, object], reason: str) -> None:
    """Each dead letter of the table has the reason that it names."""
    with pytest.raises(InvalidEvent) as refused:
        decode_academic(orjson.dumps(BASE | event))
    assert refused.value.reason == reason
    assert f"dead letter `{reason}`" in DOCUMENT


def test_the_sentences_that_it_quotes_are_the_codes() -> None:
    """A grade above its maximum, and a number that cannot be kept, say what was expected."""
    with pytest.raises(InvalidEvent) as refused:
        decode_academic(orjson.dumps(BASE | {"type": "grade_recorded", "score": 120, "max_score": 100}))
    assert str(refused.value).removeprefix("bad_value: ") in DOCUMENT
    enrolment = BASE | {"type": "enrolment_recorded", "course_id": "c", "context": {"credits": 1e39}}
    with pytest.raises(InvalidEvent) as refused:
        decode_academic(orjson.dumps(enrolment))
    assert refused.value.detail.removeprefix("context.credits: ").split(", found")[0] in DOCUMENT
