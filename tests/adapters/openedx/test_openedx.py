"""Open edX's tracking logs and event bus, as events of ours."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from schemas import InvalidEvent
from stream.adapters import moodle, openedx
from stream.adapters.converter import METADATA
from tests.adapters.recorded import Event, converted, decoded, mangled, read, told

RECORDED = read(Path(__file__).with_name("fixtures.jsonl"))
BY_NAME = {each["name"]: each for each in RECORDED}
PERSONAL = ("mira@", "Mira K", "203.0.113.9", "Firefox", "learn.lake.example/xblock", "secret", "My own words")


@pytest.mark.parametrize("recorded", RECORDED, ids=BY_NAME.keys())
def test_what_becomes_of_an_event(recorded: Event) -> None:
    """As it is recorded: events, or what was ignored, or the field that is wrong."""
    event, kind = recorded["event"], recorded.get("kind", "")
    if "bad" in recorded:
        with pytest.raises(InvalidEvent) as error:
            converted(openedx, event, kind)
        assert error.value.detail.partition(":")[0] == recorded["bad"]
        return
    conversion = converted(openedx, event, kind)
    assert told(conversion) == recorded.get("expected", [])
    assert conversion.ignored == recorded.get("ignored", "")
    assert [[each.user_id, each.item_id] for each in conversion.opened] == recorded.get("opened", [])


@pytest.mark.parametrize("recorded", RECORDED, ids=BY_NAME.keys())
def test_an_event_is_recognised(recorded: Event) -> None:
    """By its shape, whatever it came with, and by no other family."""
    assert openedx.is_one(recorded["event"])
    assert not moodle.is_one(recorded["event"])


@pytest.mark.parametrize("recorded", [each for each in RECORDED if each.get("expected")], ids=lambda each: each["name"])
def test_nothing_personal_goes_on(recorded: Event) -> None:
    """Names, addresses and what learners wrote stay where they are; metadata has nothing but what may go on."""
    for made in converted(openedx, recorded["event"], recorded.get("kind", "")).made:
        written = json.dumps(made.event)
        assert not [each for each in PERSONAL if each in written]
        assert made.event["metadata"].keys() <= METADATA
        assert made.event["metadata"]["format"] == "openedx"


def ids(name: str) -> list[Any]:
    """Return the ids of what a recorded event becomes."""
    recorded = BY_NAME[name]
    return [made.event["event_id"] for made in converted(openedx, recorded["event"], recorded.get("kind", "")).made]


@pytest.mark.parametrize(
    "other",
    [
        "problem_check in the new style",
        "problem_check with data beside time",
        "problem_check over the bus, objects",
        "problem_check over the bus, texts",
        "problem_check over the bus, wrapped",
        "problem_check in a log shipper's message",
    ],
)
def test_one_line_has_one_id(other: str) -> None:
    """Whichever way it came."""
    assert ids("problem_check right") == ids(other)


def test_each_question_has_an_id_of_its_own() -> None:
    """Below that of the check, the same each time."""
    first = ids("problem_check of three questions")
    assert len(set(first)) == len(first)
    assert len({each.partition("/")[0] for each in first}) == 1
    assert first == ids("problem_check of three questions")


def test_another_try_is_another_answer() -> None:
    """By its number, and by its time."""
    event = BY_NAME["problem_check right"]["event"]
    again = {**event, "event": {**event["event"], "attempts": 3}}
    later = {**event, "time": "2026-02-11T08:15:42.120395+00:00"}
    made = [converted(openedx, each).made[0] for each in (event, again, later)]
    assert len({each.event["event_id"] for each in made}) == len(made)
    assert [each.attempt for each in made] == ["2", "3", "2"]
    assert {each.witness for each in made} == {"server"}


@settings(max_examples=500)
@given(mangled(RECORDED))
def test_a_mangled_event_raises_nothing_else(case: tuple[Event, str]) -> None:
    """Whatever stands where, it is converted, ignored, or refused by name."""
    event, kind = case
    openedx.is_one(event)
    with suppress(InvalidEvent):
        for made in converted(openedx, event, kind).made:
            decoded(made)
