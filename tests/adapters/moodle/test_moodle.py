"""Rows of Moodle's log, as events of ours."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings

from schemas import InvalidEvent
from stream.adapters import moodle, openedx
from stream.adapters.converter import METADATA
from stream.adapters.once import Once
from tests.adapters.recorded import Event, converted, decoded, mangled, read, told

RECORDED = read(Path(__file__).with_name("fixtures.jsonl"))
BY_NAME = {each["name"]: each for each in RECORDED}
PERSONAL = ("mira", "Mira", "198.51.100.20")


@pytest.mark.parametrize("recorded", RECORDED, ids=BY_NAME.keys())
def test_what_becomes_of_a_row(recorded: Event) -> None:
    """As it is recorded: events, or what was ignored, or the field that is wrong."""
    if "bad" in recorded:
        with pytest.raises(InvalidEvent) as error:
            converted(moodle, recorded["event"])
        assert error.value.detail.partition(":")[0] == recorded["bad"]
        return
    conversion = converted(moodle, recorded["event"])
    assert told(conversion) == recorded.get("expected", [])
    assert conversion.ignored == recorded.get("ignored", "")
    assert not conversion.opened


@pytest.mark.parametrize("recorded", RECORDED, ids=BY_NAME.keys())
def test_a_row_is_recognised(recorded: Event) -> None:
    """Also inside a change of the database, and by no other family."""
    assert moodle.is_one(recorded["event"]) or moodle.parts(recorded["event"]) == []
    assert not openedx.is_one(recorded["event"])


@pytest.mark.parametrize("recorded", [each for each in RECORDED if each.get("expected")], ids=lambda each: each["name"])
def test_nothing_personal_goes_on(recorded: Event) -> None:
    """Whatever was joined to a row stays there; metadata has nothing but what may go on."""
    for made in converted(moodle, recorded["event"]).made:
        written = json.dumps(made.event)
        assert not [each for each in PERSONAL if each in written]
        assert made.event["metadata"].keys() <= METADATA | {"max_score_assumed"}
        assert made.event["metadata"]["format"] == "moodle"


def test_one_row_has_one_id() -> None:
    """However it is written, and whatever brought it; another row has another."""
    ids = {
        made.event["event_id"]
        for name in (
            "module viewed",
            "module viewed, numbers as texts",
            "module viewed, backslashes escaped twice",
            "change of the database",
            "change in Maxwell's form",
            "row with its schema",
        )
        for made in converted(moodle, BY_NAME[name]["event"]).made
    }
    assert len(ids) == 1
    other = converted(moodle, {**BY_NAME["module viewed"]["event"], "id": 900002}).made[0]
    assert other.event["event_id"] not in ids


def test_a_package_that_was_passed_is_passed_once() -> None:
    """Its status is written on every commit; another attempt, or another status, is told."""
    package, once = BY_NAME["package passed"]["event"], Once()
    commits = ((0, 1, "passed"), (40, 1, "passed"), (600, 1, "passed"), (90_000, 1, "passed"), (90_600, 2, "passed"),
               (90_700, 2, "failed"), (90_800, 2, "failed"))  # fmt: skip
    kept = []
    for number, (at_s, attempt, status) in enumerate(commits):
        other = {"attemptid": str(attempt), "cmielement": "cmi.core.lesson_status", "cmivalue": status}
        row = {**package, "id": number, "timecreated": package["timecreated"] + at_s, "other": json.dumps(other)}
        kept += [number for _ in once.sift(converted(moodle, row))[0]]
    assert kept == [0, 4, 5]


def test_a_package_whose_completion_came_first_is_passed_once_an_attempt() -> None:
    """Completion names no attempt, and is told a second before the status that does."""
    once, second = Once(), 3_558
    completed, passed = BY_NAME["module passed"]["event"], BY_NAME["package passed"]["event"]
    rows = [completed | {"timecreated": passed["timecreated"]}]
    for attempt, at_s in ((1, 1), (2, second)):
        other = {"attemptid": attempt, "cmielement": "cmi.core.lesson_status", "cmivalue": "passed"}
        rows.append(passed | {"timecreated": passed["timecreated"] + at_s, "other": json.dumps(other)})
    kept = [made for row in rows for made in once.sift(converted(moodle, row))[0]]
    assert [made.event["metadata"].get("attempt") for made in kept] == [None, 2]


def test_rows_of_other_tables_are_nothing() -> None:
    """A stream of a whole database has them."""
    change = BY_NAME["change of the database"]["event"]
    assert moodle.parts({**change, "source": {"table": "mdl_user"}}) == []
    assert moodle.parts({"before": None, "after": {"id": 1}, "op": "c", "source": {"table": "mdl_user"}}) == []


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ('a:2:{s:1:"a";i:-3;s:1:"b";a:1:{i:0;s:2:"é";}}', {"a": -3, "b": {"0": "é"}}),
        ('a:3:{s:1:"n";N;s:1:"t";b:1;s:1:"d";d:0.5;}', {"n": None, "t": True, "d": 0.5}),
        ("a:0:{}", {}),
        ('a:1:{s:1:"a";O:8:"stdClass":0:{}}', {}),
        ('a:1:{s:9:"a";i:1;}', {}),
        ("a:99999999999:{", {}),
        ("a:1:{" * 40, {}),
        ("N;", {}),
    ],
)
def test_php_arrays_are_read(written: str, read_as: dict[str, object]) -> None:
    """Lengths are in bytes; what cannot be read is nothing."""
    assert moodle._other(written) == read_as


@settings(max_examples=500)
@given(mangled(RECORDED))
def test_a_mangled_row_raises_nothing_else(case: tuple[Event, str]) -> None:
    """Whatever stands where, it is converted, ignored, or refused by name."""
    event, _ = case
    moodle.is_one(event)
    with suppress(InvalidEvent):
        for made in converted(moodle, event).made:
            decoded(made)
