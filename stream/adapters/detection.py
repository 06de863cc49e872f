"""Which family a foreign event is of: by name, or by its shape."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from schemas import InvalidEvent
from stream.adapters import caliper, canvas, moodle, openedx, ours, xapi
from stream.adapters.conversion import Family

AUTO: Final = "auto"

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {"xapi": xapi, "caliper": caliper, "canvas": canvas, "openedx": openedx, "moodle": moodle, "learnerstream": ours}
)
"""By the names under which settings and commands know them."""

FORMATS: Final = (AUTO, *FAMILIES)

_SHOWN: Final = 8  # keys of an event that no family knows


def family_of(event: Mapping[str, Any], kind: str = "") -> Family:
    """
    Return the family of an event.

    Args:
        event: The event.
        kind: What its transport calls it, empty where that is nothing.

    Raises:
        InvalidEvent: If it is of none that is known.
    """
    # Open edX's bus has many events whose name is in a header alone.
    if kind.startswith(openedx.BUS):
        return openedx
    for family in FAMILIES.values():
        if family.is_one(event):
            return family
    keys = ", ".join(repr(str(key)[:40]) for key in list(event)[:_SHOWN]) or "no fields at all"
    raise InvalidEvent(
        "unknown_type",
        f"message: expected an event of {', '.join(FAMILIES)}, found an object with {keys}; "
        "name its format if it is one of them",
    )
