"""
Reading foreign values: whatever stands in a field, these give what was meant, nothing, or a sentence.

Pure. `InvalidEvent` is the only error that comes out of here.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import orjson

from schemas.base import EVENT_NAMESPACE, InvalidEvent

EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

_LONGEST_IDENTIFIER: Final = 256
_DIGEST: Final = 64  # hex digits of SHA-256
_FOUND_CHARACTERS: Final = 80
_OF_SOMEBODY: Final = re.compile(
    r"(?:^|[._])(?:actor|assignee|member|learner|student|person|agent|account|openid|mbox|e?mail|user|username|userid"
    r"|relateduserid|extensions\.for)(?:[._]|$)"
)
"""Fields that say who somebody is, by one of the words in their places."""

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_DURATION: Final = re.compile(
    r"P(?=.)(?:(\d+(?:[.,]\d+)?)Y)?(?:(\d+(?:[.,]\d+)?)M)?(?:(\d+(?:[.,]\d+)?)W)?(?:(\d+(?:[.,]\d+)?)D)?"
    r"(?:T?(?=.)(?:(\d+(?:[.,]\d+)?)H)?(?:(\d+(?:[.,]\d+)?)M)?(?:(\d+(?:[.,]\d+)?)S)?)?"
)
_DURATION_UNITS_S: Final = (31_557_600.0, 2_629_800.0, 604_800.0, 86_400.0, 3_600.0, 60.0, 1.0)
LONGEST_ANSWER_S: Final = 7 * 86_400.0
"""Beyond a week nothing was answered all the while (`schemas.Interaction.duration_seconds`)."""

_NO_CONTENT: Final = re.compile(
    r"(?:urn:uuid:)?[0-9a-f]{8}-[0-9a-f]{4}-[1467][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?:/[0-9]{1,9})?|[0-9]{1,20}",
    re.IGNORECASE,
)
_MOST_COUNTED: Final = 1e9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM: Final = 1e11  # as seconds the year 5138, as milliseconds 1973
_MICROSECONDS_FROM: Final = 1e14
_FIRST_YEAR, _LAST_YEAR = 1970, 2100


def bad(field: str, expected: str, found: object) -> InvalidEvent:
    """Return the error of a field that is there, and is not as it should be; what stands for somebody is not shown."""
    if isinstance(found, dict | list):
        shown = f"{'an object' if isinstance(found, dict) else 'a list'} of {len(found)}"
    elif _OF_SOMEBODY.search(field):
        shown = f"a text of {len(found)} characters" if isinstance(found, str) else "something else"
    else:
        shown = repr(found[: _FOUND_CHARACTERS + 1] if isinstance(found, str | bytes) else found)[:_FOUND_CHARACTERS]
    return InvalidEvent("bad_value", f"{field}: expected {expected}, found {shown}")


def missing(field: str, expected: str = "a value") -> InvalidEvent:
    """Return the error of a field that is not there."""
    return InvalidEvent("missing_field", f"{field}: expected {expected}, found none")


def part(value: object, *names: str) -> Mapping[str, Any]:
    """Return the object under these names, one inside the other; an empty one where anything else stands there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else EMPTY


def items(value: object) -> list[Any]:
    """Return a list's elements, one value as a list of it, nothing as an empty one."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def text(value: object) -> str:
    """Return a text without blanks around it, an empty one where something else stands there."""
    return value.strip() if isinstance(value, str) else ""


def name(value: object) -> str:
    """
    Return what names a thing, empty where nothing does: a text, or a whole number in digits.

    Control characters, and halves of characters, become blanks; a name of more than 256 characters keeps its beginning
    and gets a digest.
    """
    if isinstance(value, str):
        named = value
        if not named.isprintable():
            named = _CONTROLS.sub(" ", named)
        named = named.strip()
    elif isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**64:
            return ""
        named = str(value)
    elif isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        named = str(int(value))
    else:
        return ""
    if len(named) <= _LONGEST_IDENTIFIER:
        return named
    digest = hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{named[: _LONGEST_IDENTIFIER - _DIGEST - 1]}~{digest}"


def needed_name(value: object, field: str) -> str:
    """
    Return what names a thing.

    Raises:
        InvalidEvent: If nothing does.
    """
    named = name(value)
    if named:
        return named
    if value is None:
        raise missing(field)
    raise bad(field, "a name, that is a text that is not blank, or a whole number", value)


def number(value: object) -> float | None:
    """Return a finite number, also one that is written as a text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        # Python would read "1_000" too, which nobody means.
        if "_" in value:
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int | float):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if math.isfinite(found) else None
    return None


def count(value: object) -> int | None:
    """Return a whole number that is not negative, also one that is written as a text; None for anything else."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() and 0 <= found <= _MOST_COUNTED else None


def flag(value: object) -> bool | None:
    """Return true or false, also where they are written as a text or as 1 and 0; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    return None


_FLAGS: Final = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def share(score: float | None, lowest: float | None, highest: float | None) -> float | None:
    """Return where a score stands between two bounds, in [0, 1]; None where that cannot be said."""
    lowest = 0.0 if lowest is None else lowest
    if score is None or highest is None or highest <= lowest or math.isinf(highest - lowest):
        return None
    # Bonus points and penalties go beyond the bounds.
    return min(max((score - lowest) / (highest - lowest), 0.0), 1.0)


def moment(value: object, field: str) -> datetime:
    """
    Return a moment: ISO 8601 (in UTC where it names no zone), or a number of seconds, milliseconds or microseconds.

    Raises:
        InvalidEvent: If it is none from 1970 to 2100.
    """
    found = optional_moment(value)
    if found is not None:
        return found
    if value is None:
        raise missing(field, "a date and time")
    raise bad(field, "an ISO 8601 date and time, or seconds since 1970, from 1970 to 2100", value)


def optional_moment(value: object) -> datetime | None:
    """Return a moment as `moment` does, None where there is none."""
    try:
        if isinstance(value, str):
            found = _iso(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = _since_1970(float(value))
        else:
            return None
        # Of the first and the last year a zone may have moments that UTC has not.
        return found if _FIRST_YEAR <= found.astimezone(UTC).year <= _LAST_YEAR else None
    except (ValueError, OverflowError):
        return None


def _iso(written: str) -> datetime:
    written = written.strip()
    if written.isdecimal() and written.isascii() and len(written) > len("20260131"):
        return _since_1970(float(written))
    # Python reads a date alone, and weeks; both are moments at midnight.
    found = datetime.fromisoformat(written.replace("z", "Z"))
    if found.tzinfo is None:
        return found.replace(tzinfo=UTC)
    offset = found.utcoffset()
    # RFC 3339 knows no seconds in an offset.
    return found.astimezone(UTC) if offset is not None and offset.total_seconds() % 60 else found


def _since_1970(count: float) -> datetime:
    if abs(count) >= _MICROSECONDS_FROM:
        count /= 1e6
    elif abs(count) >= _MILLISECONDS_FROM:
        count /= 1e3
    return _EPOCH + timedelta(seconds=count)


def duration_s(value: object) -> float | None:
    """
    Return the seconds of an ISO 8601 duration, None where there is none, or one of more than a week.

    Years and months count as their mean lengths.
    """
    if not isinstance(value, str):
        return None
    found = _DURATION.fullmatch(value.strip().upper())
    if found is None:
        return None
    counts = found.groups()
    seconds = sum(
        float(count.replace(",", ".")) * unit_s
        for count, unit_s in zip(counts, _DURATION_UNITS_S, strict=True)
        if count is not None
    )
    return seconds if seconds <= LONGEST_ANSWER_S else None


def seconds(value: object) -> float | None:
    """Return a number of seconds from 0 to a week, None for anything else."""
    found = number(value)
    return found if found is not None and 0 <= found <= LONGEST_ANSWER_S else None


def derived(*parts: object) -> str:
    """Return an id made from what an event says, a UUID of version 8: the same whenever it is sent again."""
    said = "\x1f".join(map(str, parts)).encode("utf-8", "replace")
    x = hashlib.sha256(EVENT_NAMESPACE.bytes + said).hexdigest()
    return f"{x[:8]}-{x[8:12]}-8{x[13:16]}-a{x[17:20]}-{x[20:32]}"


def says_nothing(event_id: str) -> bool:
    """
    Return whether an id neither tells anything nor could be made from what is known.

    So are numbers, and UUIDs (or the parts of one, `/2`) of the versions that are random or count time; those of
    versions 3, 5 and 8 are made from content, which may be guessed.
    """
    return _NO_CONTENT.fullmatch(event_id) is not None


def written(event: Mapping[str, Any]) -> bytes:
    """
    Return an event as JSON.

    Raises:
        InvalidEvent: If it holds what other readers of JSON could not take: integers beyond 64 bits, broken characters.
    """
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError as error:
        raise InvalidEvent("bad_value", f"expected text in UTF-8 and integers of 64 bits, found: {error}") from None
