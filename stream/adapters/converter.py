"""
A message of a platform into events of ours: unwrapped, recognised, converted, each answer once, under pseudonyms.

Nothing of the message goes further than this but what the families put into the fields of `schemas.events`, and of
`metadata` only what is named here.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import orjson

from schemas import InvalidEvent, decode_academic, decode_interaction
from schemas.events import Target
from stream.adapters import cloudevents, ours
from stream.adapters.conversion import UNSAID, Carried, Conversion, Event, Family, Made, Topic, kind_of
from stream.adapters.detection import AUTO, FAMILIES, family_of
from stream.adapters.fields import count, flag, name, says_nothing, seconds, text, written
from stream.adapters.once import Once
from stream.adapters.pseudonym import Named, as_they_are


def _word(value: object) -> str | None:
    return kind_of(value) if isinstance(value, str) else None


def _language(value: object) -> str | None:
    tag = text(value)
    return tag if _LANGUAGE.fullmatch(tag) else None


def _targets(value: object) -> list[Any] | None:
    """Return the items that a prediction should cover, with the fields that such an item has."""
    if not isinstance(value, list):
        return None
    return [
        {key: each[key] for key in Target.model_fields if isinstance(each.get(key), str)}
        if isinstance(each, dict)
        else each
        for each in value
        if isinstance(each, dict | str)
    ]


_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}")

_READ: Final[Mapping[str, Callable[[object], Any]]] = MappingProxyType(
    {
        "format": _word, "kind": _word, "attempt": count, "course_id": lambda value: name(value) or None,
        "success": flag, "duration_seconds": seconds, "duration_derived": flag, "language": _language,
        "max_score_assumed": flag, "next_items": _targets, "timestamp_derived": flag, "timestamp_made_up": flag,
    }
)  # fmt: skip

METADATA: Final = frozenset(_READ)
"""What may stand in `metadata` under pseudonyms, each as it is meant; none of it says who somebody is."""

_NOTHING: Final = "nothing in it"
_FOUND: Final = ", found"
_IN_FREE: Final = re.compile(r"(context|metadata)\.")
"""Beginning of a field's place within what has names of the sender's own, in our own events."""

_AVRO: Final = b"\x00"  # the first byte of what a schema registry's serializers write
_SHOWN: Final = 40  # characters of what is no object
_DEEPEST: Final = 4  # envelopes in one another
_BOM: Final = b"\xef\xbb\xbf"


class Converted(NamedTuple):
    """
    One event of ours.

    Attributes:
        topic: Where it belongs.
        user_id: Whose.
        event_id: Its id, which is the platform's where it has one.
        value: As it goes out, JSON.
    """

    topic: Topic
    user_id: str
    event_id: str
    value: bytes


class Fault(NamedTuple):
    """
    A foreign event, or a message, that is not as it should be.

    Attributes:
        place: In the message (`data.0`), empty for the message itself.
        error: What is wrong.
    """

    place: str
    error: InvalidEvent

    @property
    def detail(self) -> str:
        """The sentence, with the place in the message."""
        return f"{self.place}: {self.error.detail}" if self.place else self.error.detail


@dataclass(slots=True)
class Result:
    """
    What became of one message: each foreign event in it was converted, ignored or faulty.

    Attributes:
        events: Of ours.
        converted: Foreign events that became one or more of them.
        ignored: What each was of which nothing came.
        faults: What was wrong with each of the others.
    """

    events: list[Converted] = field(default_factory=list)
    converted: int = 0
    ignored: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Foreign events in the message."""
        return self.converted + len(self.ignored) + len(self.faults)


class _Envelope(NamedTuple):
    """What is inside, with its places, and what the transport calls it."""

    inside: Sequence[tuple[str, Any]]
    carried: Carried


class _Part(NamedTuple):
    """An event, its place in the message, its family, and what the transport calls it."""

    place: str
    family: Family
    event: Mapping[str, Any]
    carried: Carried


class Converter:
    """
    Converts the messages of one source, in their order.

    Args:
        format_: Of the source, one of `detection.FORMATS`.
        named: Under which ids users go on.
        once: What is remembered of earlier events; shared by sources whose users are the same.
        context_fields: What may stand in an enrolment's `context` under pseudonyms.
        largest_bytes: An event of ours above it is refused, as whoever reads it would; None for any size.
    """

    def __init__(
        self,
        format_: str = AUTO,
        named: Named = as_they_are,
        once: Once | None = None,
        *,
        context_fields: frozenset[str] = frozenset(),
        largest_bytes: int | None = None,
    ) -> None:
        self._family: Family | None = None if format_ == AUTO else FAMILIES[format_]
        self._named = named
        self._keeps_all = named is as_they_are
        self._once = Once() if once is None else once
        self._context_fields = context_fields
        self._largest_bytes = largest_bytes

    def convert(
        self, raw: bytes, headers: Iterable[tuple[str, bytes | None]] = (), sent_at: datetime | None = None
    ) -> Result:
        """
        Convert a message; whatever its bytes are, the result says what became of them.

        Args:
            raw: Of the message.
            headers: Of the message.
            sent_at: Of the message: the time of events that name none, as a store of theirs would put it down.
        """
        try:
            value = orjson.loads(raw.removeprefix(_BOM))
        except orjson.JSONDecodeError as error:
            found = str(error) if raw.strip() else "nothing"
            if raw.startswith(_AVRO):
                found += " (if it is Avro, have the producer write JSON)"
            return Result(faults=[self._fault("", InvalidEvent("not_json", f"expected JSON in UTF-8, found: {found}"))])
        return self.convert_value(value, cloudevents.carried_by(headers, sent_at))

    def convert_value(self, value: object, carried: Carried = UNSAID) -> Result:
        """Convert a message that has been read; `carried` is what the transport says of it."""
        result = Result()
        conversions: list[tuple[_Part, Conversion]] = []
        for part in self._parts(value, carried, "", _DEEPEST, result):
            try:
                conversion = part.family.convert(part.event, part.carried)
            except InvalidEvent as error:
                result.faults.append(self._fault(part.place, error, part.family))
                continue
            # What is taken back in the same message is left out, wherever it stands in it.
            if conversion.voids:
                self._once.take_back(conversion.voids)
            conversions.append((part, conversion))
        for part, conversion in conversions:
            try:
                # A foreign event goes on whole or not at all, and is remembered only if it does: it may come mended.
                for each in conversion.made:
                    self._check(each)
                made, left_out = self._once.sift(conversion)
                written = [self._written(each) for each in made]
            except InvalidEvent as error:
                result.faults.append(self._fault(part.place, error, part.family))
                continue
            result.events += written
            if written:
                result.converted += 1
            else:
                result.ignored.append(left_out[0] if left_out else conversion.ignored or _NOTHING)
        return result

    def _fault(self, place: str, error: InvalidEvent, family: Family | None = None) -> Fault:
        if not self._keeps_all:
            # What was found may be somebody's name, and so may be what it was called.
            free = _IN_FREE.match(error.detail) if family is ours else None
            expected = f"{free[1]}: expected plain fields" if free else error.detail.partition(_FOUND)[0]
            error = InvalidEvent(error.reason, f"{expected}{_FOUND} something else (not shown under pseudonyms)")
        return Fault(place, error)

    def _parts(self, value: object, carried: Carried, place: str, deepest: int, result: Result) -> Iterator[_Part]:
        """Give the events in a message, out of lists, CloudEvents and the families' envelopes."""
        try:
            found = self._opened(value, carried, deepest)
        except InvalidEvent as error:
            result.faults.append(self._fault(place, error))
            return
        if isinstance(found, _Envelope):
            for inner_name, each in found.inside:
                inner = f"{place}.{inner_name}" if place else inner_name
                yield from self._parts(each, found.carried, inner, deepest - 1, result)
        else:
            yield _Part(place, found, cast("dict[str, Any]", value), carried)

    def _opened(self, value: object, carried: Carried, deepest: int) -> "_Envelope | Family":
        """
        Return what is in an envelope, or of which family an event is.

        Raises:
            InvalidEvent: If it is neither.
        """
        if deepest < 0:
            raise InvalidEvent("bad_value", f"expected at most {_DEEPEST} envelopes in one another, found more")
        if isinstance(value, list):
            return _Envelope([(str(i), each) for i, each in enumerate(value)], carried)
        if not isinstance(value, dict):
            found = "null" if value is None else repr(value)[:_SHOWN]
            raise InvalidEvent("not_an_object", f"expected a JSON object or a list of them, found {found}")
        if cloudevents.is_envelope(value):
            carried, data = cloudevents.inside(value, carried)
            return _Envelope([("data", data)], carried)
        family = self._family or family_of(value, carried.kind)
        inside = family.parts(value)
        return family if inside is None else _Envelope(inside, carried)

    def _check(self, made: Made) -> None:
        """
        Check an event as whoever reads it will, without what may not go on, and say whether an answer is right.

        Raises:
            InvalidEvent: If it would be refused there.
        """
        event = made.event
        if not self._keeps_all:
            self._withhold(event)
        raw = self._within(written(event))
        if made.topic == "academics":
            decode_academic(raw)
            return
        correct = decode_interaction(raw).correct
        if correct is not None:
            event["correct"] = correct

    def _withhold(self, event: Event) -> None:
        """Leave out of an event what may say who somebody is: free text, and whatever nobody asked for."""
        event.pop("sanction", None)
        if "context" in event:
            event["context"] = {key: each for key, each in event["context"].items() if key in self._context_fields}
        kept = {key: _READ[key](each) for key, each in event["metadata"].items() if key in _READ}
        event["metadata"] = {key: each for key, each in kept.items() if each is not None}

    def _written(self, made: Made) -> Converted:
        """
        Return an event, which has been checked, as it goes out.

        Raises:
            InvalidEvent: If it has become too large.
        """
        event = made.event
        if not self._keeps_all:
            at = datetime.fromisoformat(event["timestamp"])
            event["user_id"] = self._named(event["user_id"], at)
            for field_ in ("event_id", "corrects"):
                named = event.get(field_)
                # Whoever guesses what it was made of could make it again; and platforms write anything there.
                if named is not None and not says_nothing(named):
                    event[field_] = self._named(named, at)
        return Converted(made.topic, event["user_id"], event["event_id"], self._within(written(event)))

    def _within(self, raw: bytes) -> bytes:
        if self._largest_bytes is not None and len(raw) > self._largest_bytes:
            raise InvalidEvent(
                "too_large", f"expected at most {self._largest_bytes} bytes, found {len(raw)} (STREAM_EVENT_MAX_BYTES)"
            )
        return raw
