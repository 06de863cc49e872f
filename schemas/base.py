"""
What every message on the wire has in common: versions, identifiers, moments, the error of a bad event.

Pure: no I/O and no clock. The messages stand in the neighbours; `schemas.catalog` says which topic carries
which.
"""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, cast
from uuid import NAMESPACE_URL, uuid5

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    JsonValue,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema, from_json

T = TypeVar("T")

Reason = Literal["not_json", "not_an_object", "unknown_type", "missing_field", "bad_value", "too_large"]
"""Why an event was refused; a bounded set, so that it can label a metric."""

Difficulty = Literal["easy", "medium", "hard"]

EVENT_NAMESPACE: Final = uuid5(NAMESPACE_URL, "learnerstream:events")
"""Namespace of derived ids. Never change it: a re-sent event would get another id."""

_VERSION: Final = "Of the contract; 1 where it is absent."
_FOUND_CHARACTERS: Final = 80  # of a refused value, shown in the error
_LARGEST_FLOAT: Final = 1.7976931348623157e308


class InvalidEvent(ValueError):
    """
    An event that cannot be read; it becomes a dead letter, the rest of its batch goes on.

    Attributes:
        reason: A short stable code.

        detail: A sentence: the field, what was expected and what was found.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Self], tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)


def _explained(kind: str, expected: str) -> GetPydanticSchema:
    """Give every failure of the annotated type one sentence: what was expected."""

    def wrap(source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type=kind, custom_error_message=f"expected {expected}"
        )

    return GetPydanticSchema(wrap)


def _moment(first: datetime | None, end: datetime | None) -> GetPydanticSchema:
    """An aware datetime in [first, end): in JSON only an RFC 3339 string, in Python also a datetime."""
    aware = core_schema.datetime_schema(tz_constraint="aware", ge=first, lt=end, strict=True)
    parsed = core_schema.datetime_schema(tz_constraint="aware", ge=first, lt=end, strict=False)
    text = core_schema.chain_schema([core_schema.str_schema(pattern=_RFC_3339, strict=True), parsed])
    either = core_schema.json_or_python_schema(text, core_schema.union_schema([aware, text], mode="left_to_right"))
    return GetPydanticSchema(lambda _source, _handler: either)


_RFC_3339: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
_NO_CONTROLS: Final = r"[^\x00-\x1f\x7f-\x9f]*"

Identifier = Annotated[
    str,
    Strict(),
    StringConstraints(min_length=1, max_length=256, pattern=rf"^{_NO_CONTROLS}[^\s\x00-\x1f\x7f-\x9f]{_NO_CONTROLS}$"),
    _explained("identifier", "a string of 1 to 256 characters, not blank and without control characters"),
]
"""Names a user, an item, a topic or an event. Always a string: it is the message's key, or part of one."""

Moment = Annotated[
    datetime,
    _moment(datetime(1970, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)),
    _explained(
        "moment",
        "an RFC 3339 date and time with its offset, such as 2026-01-31T09:30:00Z, from 1970 to 2100",
    ),
    # A schema knows texts, not moments: beside the years that are taken, the days that are within them by their offset.
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": "^(19[7-9][0-9]-|20[0-9]{2}-|2100-|1969-12-31|2101-01-01)",
        }
    ),
]

AnyMoment = Annotated[
    datetime,
    _moment(None, None),
    _explained("moment", "an RFC 3339 date and time with its offset"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment in any year, for what must be recorded however odd it is."""

Number = Annotated[float, Strict()]
ContextValue = Annotated[
    Annotated[str, Strict(), StringConstraints(max_length=128)] | Annotated[Number, Field(ge=-1e9, le=1e9)] | None,
    _explained("context_value", "a text of at most 128 characters, a number from -1e9 to 1e9 or null"),
]
"""What is known of an enrolment under one name; numbers are kept as float32."""

Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]

MAY_BE_NULL: Final = GetPydanticSchema(lambda source, handler: core_schema.nullable_schema(handler(source)))
"""Null on the wire counts as absent: the model fills the value in, so Python never sees None."""


def _checked_metadata(value: dict[str, JsonValue] | None) -> dict[str, JsonValue]:
    """
    Refuse numbers that no float can hold, anywhere inside.

    Not recursive: nesting is the sender's choice.
    """
    if not value:
        return {}
    pending: list[JsonValue] = [*value.values()]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            pending.extend(found.values())
        elif isinstance(found, list):
            pending.extend(found)
        elif isinstance(found, int | float) and not -_LARGEST_FLOAT <= found <= _LARGEST_FLOAT:
            raise PydanticCustomError("metadata_number", "expected numbers within the range of a 64-bit float")
    return value


Metadata = Annotated[dict[str, JsonValue], MAY_BE_NULL, AfterValidator(_checked_metadata)]


class ReceivedValue(BaseModel):
    """Part of a message that others write: may carry more than we know."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class EmittedValue(BaseModel):
    """Part of a message that we write: nothing but what is declared."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # We leave no field out: in what we send even those with defaults are there.
        json_schema_serialization_defaults_required=True,
    )


class Received(ReceivedValue):
    """A message that others write."""

    schema_version: Literal[1] = Field(default=1, description=_VERSION)


class Emitted(EmittedValue):
    """A message that we write."""

    schema_version: Literal[1] = Field(default=1, description=_VERSION)


class Identified(Received):
    """
    A received message with an id of its own, derived from its content where the sender gave none.

    The field is named by `id_field`, so that each topic keeps its own word for it.
    """

    id_field: ClassVar[str] = "event_id"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self._fill()
        if not self.__dict__[self.id_field]:
            self.__dict__[self.id_field] = derived_id(self, self.id_field)
        return self

    def _fill(self) -> None:
        """Fill in what follows from other fields, before the id is derived."""


def derived_id(message: BaseModel, id_field: str) -> str:
    """
    Id of a message's content: the same for a re-sent message, whatever the order of its fields.

    Args:
        message: A validated message; null fields count as absent.

        id_field: Left out, with the schema's version.
    """
    content = message.model_dump(mode="json", exclude={id_field, "schema_version"})
    known = {name: value for name, value in content.items() if value is not None}
    return str(uuid5(EVENT_NAMESPACE, json.dumps(known, sort_keys=True, separators=(",", ":"))))


def decode(adapter: TypeAdapter[T], raw: bytes) -> T:
    """
    Read one message straight from its bytes.

    Raises:
        InvalidEvent: Whatever is wrong with the bytes; no other error comes out.
    """
    try:
        message = adapter.validator.validate_json(raw)
    except ValidationError as error:
        _refuse_constants(raw)
        raise _invalid(error, is_union=_is_union(adapter)) from None
    _refuse_constants(raw)
    return cast("T", message)


def _refuse_constants(raw: bytes) -> None:
    """Refuse NaN and Infinity, which the parser lets through; looks twice only where the words occur."""
    if b"NaN" not in raw and b"Infinity" not in raw:
        return
    try:
        from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidEvent("not_json", f"expected JSON, which has no NaN and no Infinity; found: {error}") from None


def _is_union(adapter: TypeAdapter[T]) -> bool:
    """Whether a message is one of several, by its type."""
    schema: Any = adapter.core_schema
    return bool(schema.get("schema", schema)["type"] == "tagged-union")


def _invalid(error: ValidationError, *, is_union: bool) -> InvalidEvent:
    """The most telling of a message's errors: its type, then what is missing, then what is wrong."""
    found = [(_reason(detail), detail) for detail in error.errors(include_url=False)]
    reason, detail = min(found, key=lambda each: _TELLING.index(each[0]))
    if is_union:
        # The parser puts the name of the variant before the place.
        detail["loc"] = detail["loc"][1:]
    return InvalidEvent(reason, _sentence(detail))


_TELLING: Final[tuple[Reason, ...]] = (
    "not_json",
    "not_an_object",
    "unknown_type",
    "missing_field",
    "bad_value",
)


def _reason(detail: ErrorDetails) -> Reason:
    match detail["type"], detail["loc"]:
        case "json_invalid", _:
            return "not_json"
        case (("model_type" | "dict_type"), ()):
            return "not_an_object"
        case ("union_tag_invalid", _) | ("literal_error", ("type",)):
            return "unknown_type"
        case (("missing" | "missing_field" | "union_tag_not_found"), _):
            return "missing_field"
    return "bad_value"


def _sentence(detail: ErrorDetails) -> str:
    """One sentence: the field, what was expected, what was found."""
    field = _field(detail)
    found = detail["input"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "json_invalid":
            return f"expected JSON in UTF-8, found: {context['error']}"
        case "missing":
            return f"{field}: expected a value, found none"
        case "union_tag_not_found":
            return "type: expected a value, found none"
        case "union_tag_invalid":
            return f"type: expected one of {context['expected_tags']}, found {_shown(context['tag'])}"
        case "missing_field" | "bad_value":  # raised by our own models, with the whole sentence
            return detail["msg"]
    return f"{field}: {_expected(detail['msg'])}, found {_shown(found)}"


def _field(detail: ErrorDetails) -> str:
    """Where an error is."""
    return ".".join(str(part) for part in detail["loc"]) or "message"


def _expected(message: str) -> str:
    """The parser's message in our words; JSON has lists, not tuples."""
    for theirs, ours in _WORDS:
        message = message.replace(theirs, ours, 1)
    return message.partition(" after validation, not ")[0]


_WORDS: Final = (
    ("Input should be less", "expected a number less"),
    ("Input should be greater", "expected a number greater"),
    ("Input should be", "expected"),
    ("Tuple should have", "expected"),
    ("Dictionary should have", "expected"),
    ("a valid array", "a list"),
)


def _shown(value: object) -> str:
    """A value's repr, cut; a long text is cut first, so that megabytes cost little."""
    if isinstance(value, str | bytes):
        value = value[: _FOUND_CHARACTERS + 1]
    shown = repr(value)
    return shown if len(shown) <= _FOUND_CHARACTERS else shown[:_FOUND_CHARACTERS] + "…"
