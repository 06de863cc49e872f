"""Recorded events of a family: read, converted, compared, and mangled."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import strategies as st

from schemas import decode_academic, decode_interaction
from stream.adapters.conversion import Carried, Conversion, Made

Event = dict[str, Any]

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(
        ["", " ", "null", "{", "a:1:{", "2026-02-11T08:15:42Z", "9999-12-31T23:59:59-14:00", "-1", -1, "1e400", 1e308,
         10**30, "NaN", "1_0", "\x00", "\ud800", "x" * 300, "mailto:", "Group", "Agent"]
    ),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=6,
)  # fmt: skip
"""JSON that may stand anywhere, and what is likely to be read wrongly."""


def read(path: Path) -> list[Event]:
    """Return recorded events: name, event, what its transport calls it, and what becomes of it."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def copy_of(records: list[Event], name: str) -> Event:
    """Return the recorded event of a name, to be changed."""
    event: Event = json.loads(json.dumps(next(each["event"] for each in records if each["name"] == name)))
    return event


def converted(family: ModuleType, event: Event, kind: str = "") -> Conversion:
    """Return what a family makes of an event, or of the one that is in an envelope."""
    inside = family.parts(event)
    if inside is None:
        conversion = family.convert(event, Carried(kind))
        assert isinstance(conversion, Conversion)
        return conversion
    return converted(family, inside[0][1], kind) if inside else Conversion()


def decoded(made: Made) -> Event:
    """Return an event as it stands, once its topic's reader has accepted it."""
    (decode_interaction if made.topic == "interactions" else decode_academic)(json.dumps(made.event).encode())
    return made.event


def told(conversion: Conversion) -> list[Event]:
    """Return what was made, without the ids and what is not compared."""
    return [
        {"topic": made.topic} | {k: v for k, v in decoded(made).items() if k not in {"event_id", "metadata"}}
        for made in conversion.made
    ]


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Give the place of every node in a JSON value but the value itself."""
    inside: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*path, key)
        yield from places(each, (*path, key))


@st.composite
def mangled(draw: st.DrawFn, recorded: list[Event]) -> tuple[Event, str]:
    """Give a recorded event of which nodes were deleted, or replaced by anything, and its kind."""
    chosen = draw(st.sampled_from(recorded))
    event = json.loads(json.dumps(chosen["event"]))
    for _ in range(draw(st.integers(1, 3))):
        every = list(places(event))
        if not every:
            break
        *above, last = draw(st.sampled_from(every))
        where: Any = event
        for key in above:
            where = where[key]
        if draw(st.booleans()):
            del where[last]
        else:
            where[last] = draw(ODD)
    return event, chosen.get("kind", "")
