"""Events that are ours already: nothing is raised but the one error, whatever stands in them."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import schemas
from schemas import InvalidEvent
from stream.adapters import ours
from tests.adapters.recorded import Event, decoded, mangled

SAMPLES = Path(schemas.__file__).parent / "samples"
RECORDED: list[Event] = [
    {"event": json.loads(line)}
    for topic in ("interactions", "academics")
    for line in (SAMPLES / f"{topic}.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each["event"]["type"])
def test_an_event_of_ours_is_recognised_and_passed_on(recorded: Event) -> None:
    """With what it says."""
    assert ours.is_one(recorded["event"])
    (made,) = ours.convert(recorded["event"]).made
    assert decoded(made)["user_id"] == recorded["event"]["user_id"]


@pytest.mark.parametrize("type_", [[], {}, None, 4, "hello"])
def test_a_type_that_is_none_is_refused(type_: Any) -> None:
    """By name."""
    with pytest.raises(InvalidEvent, match="type: expected"):
        ours.convert({"type": type_, "user_id": "u-1"})


@given(mangled(RECORDED))
def test_a_mangled_event_raises_nothing_else(case: tuple[Event, str]) -> None:
    """It becomes what our readers accept, or is refused by name."""
    event, _ = case
    ours.is_one(event)
    with suppress(InvalidEvent):
        assert all(decoded(made) for made in ours.convert(event).made)
