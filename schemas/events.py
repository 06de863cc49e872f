"""
What a learning platform tells us of its learners: interactions and academic records.

Only what an event says; what follows from it is decided in `stream.pipeline`. Dry runs are asked for in
`schemas.requests`.
"""

from itertools import islice
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from schemas.base import (
    MAY_BE_NULL,
    ContextValue,
    Difficulty,
    Flag,
    Identified,
    Identifier,
    Metadata,
    Moment,
    Number,
    ReceivedValue,
    Share,
    decode,
)

MAX_NEXT_ITEMS: Final = 16
"""Targets that one event may name in `metadata.next_items`."""

PASS_SCORE: Final = 0.5
"""An answer without `correct` is right from this score on."""

_DERIVED: Final = "Names the event; derived from its content where it is absent. A second one of an id changes nothing."
_USER: Final = "The learner; must also be the message's key."
_WHEN: Final = "When it happened, by the platform's clock."
_METADATA: Final = "Yours; not read."
_COURSE: Final = "The course that it belongs to."
_ASSESSMENT: Final = "The piece of work."
_TYPE: Final = "What was recorded."

_NEITHER: Final = "score, correct: expected one of them in an answer or a correction, found neither"
_CORRECTS_NOTHING: Final = "corrects: expected the event_id of the answer that is corrected, found nothing"
_NEXT_ITEMS_READ: Final = 256  # elements looked at, however many the list has
_LONGEST_ANSWER_S: Final = 7 * 86_400
_MOST_CONTEXT: Final = 32  # fields of an enrolment
_LONGEST_LATENESS_DAYS: Final = 3_650


class Target(ReceivedValue):
    """Something a user may be asked next: a topic, or an item of it."""

    topic_id: Identifier = Field(description="The topic.")
    item_id: Identifier | None = Field(default=None, description="An item of it; null: any.")
    difficulty: Difficulty | None = Field(default=None, description="Of the item; null: unknown, or any.")


def _has(field: str, kind: str) -> dict[str, Any]:
    """Return the JSON Schema of an object that has a field, and not null in it."""
    return {"required": [field], "properties": {field: {"type": kind}}}


def _of_types(*types: str) -> dict[str, Any]:
    return {"required": ["type"], "properties": {"type": {"enum": list(types)}}}


_BY_TYPE: Final[dict[str, Any]] = {
    "allOf": [
        {
            "if": _of_types("quiz_complete", "answer_correction"),
            "then": {"anyOf": [_has("score", "number"), _has("correct", "boolean")]},
        },
        {"if": _of_types("answer_correction"), "then": _has("corrects", "string")},
    ]
}
"""What `Interaction._fill` asks for beyond the fields themselves, as JSON Schema."""


class Interaction(Identified):
    """An answer, a view of a resource, feedback on a recommendation, or the correction of an earlier answer."""

    model_config = ConfigDict(json_schema_extra=_BY_TYPE)

    event_id: Annotated[Identifier, MAY_BE_NULL] = Field(default_factory=str, description=_DERIVED)
    type: Literal["quiz_complete", "resource_view", "feedback_recommendation", "answer_correction"] = Field(
        description="`quiz_complete` is an answer, `answer_correction` gives an earlier one another outcome."
    )
    user_id: Identifier = Field(description=_USER)
    corrects: Identifier | None = Field(
        default=None, description="Of a correction: the event_id of the answer whose outcome is another."
    )
    topic_id: Identifier = Field(description="What it is about: a topic, unit or quiz; items share it.")
    item_id: Identifier | None = Field(default=None, description="The question, or the resource that was seen.")
    skills: Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=16, fail_fast=True), MAY_BE_NULL] = Field(
        default_factory=tuple, description="Skills that it takes, 1 to 16; the topic where they are absent."
    )
    difficulty: Difficulty | None = Field(default=None, description="Of the item; null: unknown.")
    score: Share | None = Field(default=None, description="Share of the points, 0 to 1.")
    correct: Flag | None = Field(
        default=None,
        description="Whether it is right; score >= 0.5 where it is absent. An answer needs one of the two.",
    )
    duration_seconds: Annotated[Number, Field(ge=0, le=_LONGEST_ANSWER_S)] | None = Field(
        default=None, description="Response time, from asking to answering, seconds; at most a week."
    )
    timestamp: Moment = Field(description=_WHEN)
    metadata: Metadata = Field(
        default_factory=dict,
        description="Yours, but for `next_items`: up to 16 items that predictions should cover, each an item's id or "
        "an object of topic_id, item_id and difficulty.",
    )

    def _fill(self) -> None:
        if not self.skills:
            self.__dict__["skills"] = (self.topic_id,)
        if self.type == "answer_correction" and self.corrects is None:
            raise PydanticCustomError("missing_field", _CORRECTS_NOTHING)
        if self.correct is None and self.type in {"quiz_complete", "answer_correction"}:
            if self.score is None:
                raise PydanticCustomError("missing_field", _NEITHER)
            self.__dict__["correct"] = self.score >= PASS_SCORE


_CORRECTS: Final = "The event_id of the earlier record that this one takes the place of."


def _context(fields: dict[str, str | float | None] | None) -> dict[str, str | float | None]:
    return fields or {}


class EnrolmentRecorded(Identified):
    """That a user takes a course, and what is known of the enrolment: earlier education, attempts, credits."""

    event_id: Annotated[Identifier, MAY_BE_NULL] = Field(default_factory=str, description=_DERIVED)
    type: Literal["enrolment_recorded"] = Field(description=_TYPE)
    user_id: Identifier = Field(description=_USER)
    course_id: Identifier = Field(description="The course that is taken.")
    starts_at: Moment | None = Field(default=None, description="When the course begins.")
    context: Annotated[
        dict[Identifier, ContextValue],
        Field(max_length=_MOST_CONTEXT),
        MAY_BE_NULL,
        AfterValidator(_context),
    ] = Field(
        default_factory=dict,
        description="Fields by name, texts or numbers. Kept are only those that a setting of the worker names.",
    )
    timestamp: Moment = Field(description=_WHEN)
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)


class AttendanceRecorded(Identified):
    """Whether a user was there."""

    event_id: Annotated[Identifier, MAY_BE_NULL] = Field(default_factory=str, description=_DERIVED)
    type: Literal["attendance_recorded"] = Field(description=_TYPE)
    user_id: Identifier = Field(description=_USER)
    corrects: Identifier | None = Field(default=None, description=_CORRECTS)
    status: Literal["present", "absent", "late", "excused"] = Field(description="Whether the user was there.")
    course_id: Identifier | None = Field(default=None, description=_COURSE)
    timestamp: Moment = Field(description=_WHEN)
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)


def _max_score(value: float | None) -> float:
    return 100.0 if value is None else value


class GradeRecorded(Identified):
    """
    A piece of work that was handed in, and its grade once there is one.

    A second one of the same assessment takes the first one's place, as one that names it in `corrects` does.
    """

    event_id: Annotated[Identifier, MAY_BE_NULL] = Field(default_factory=str, description=_DERIVED)
    type: Literal["grade_recorded"] = Field(description=_TYPE)
    user_id: Identifier = Field(description=_USER)
    corrects: Identifier | None = Field(default=None, description=_CORRECTS)
    score: Annotated[Number, Field(ge=0)] | None = Field(
        description="Points, up to max_score; null for work that was handed in and is not graded yet."
    )
    max_score: Annotated[Number, Field(gt=0), MAY_BE_NULL, AfterValidator(_max_score)] = Field(
        default=100.0, description="Points that could be had; 100 where it is absent."
    )
    weight: Share | None = Field(default=None, description="Share of the course's grade, 0 to 1.")
    assessment_id: Identifier | None = Field(default=None, description=_ASSESSMENT)
    days_late: Annotated[Number, Field(ge=-_LONGEST_LATENESS_DAYS, le=_LONGEST_LATENESS_DAYS)] | None = Field(
        default=None, description="Days after the deadline; negative where it was handed in early."
    )
    course_id: Identifier | None = Field(default=None, description=_COURSE)
    timestamp: Moment = Field(description=_WHEN)
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)

    def _fill(self) -> None:
        if self.score is not None and self.score > self.max_score:
            raise PydanticCustomError(
                "bad_value",
                "score: expected at most max_score, {max_score}, found {score}",
                {"max_score": self.max_score, "score": self.score},
            )


class WorkOverdue(Identified):
    """A piece of work whose deadline has passed with nothing handed in; late work follows as a grade of its own."""

    event_id: Annotated[Identifier, MAY_BE_NULL] = Field(default_factory=str, description=_DERIVED)
    type: Literal["work_overdue"] = Field(description=_TYPE)
    user_id: Identifier = Field(description=_USER)
    weight: Share | None = Field(default=None, description="Share of the course's grade, 0 to 1.")
    assessment_id: Identifier = Field(description=_ASSESSMENT)
    course_id: Identifier | None = Field(default=None, description=_COURSE)
    timestamp: Moment = Field(description=_WHEN)
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)


class DisciplineRecorded(Identified):
    """An incident, and what followed from it."""

    event_id: Annotated[Identifier, MAY_BE_NULL] = Field(default_factory=str, description=_DERIVED)
    type: Literal["discipline_recorded"] = Field(description=_TYPE)
    user_id: Identifier = Field(description=_USER)
    corrects: Identifier | None = Field(default=None, description=_CORRECTS)
    severity: Literal["minor", "moderate", "major"] = Field(description="How grave it was.")
    sanction: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        default=None, description="What followed."
    )
    course_id: Identifier | None = Field(default=None, description=_COURSE)
    timestamp: Moment = Field(description=_WHEN)
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)


class OutcomeRecorded(Identified):
    """How a course ended for a user; a second one takes the first one's place."""

    event_id: Annotated[Identifier, MAY_BE_NULL] = Field(default_factory=str, description=_DERIVED)
    type: Literal["outcome_recorded"] = Field(description=_TYPE)
    user_id: Identifier = Field(description=_USER)
    outcome: Literal["distinction", "pass", "fail", "withdrawn"] = Field(description="How it ended.")
    course_id: Identifier | None = Field(default=None, description=_COURSE)
    timestamp: Moment = Field(description=_WHEN)
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)


class RiskLabelled(Identified):
    """What somebody who knows a user says of the risk: an adviser's label, to learn from."""

    event_id: Annotated[Identifier, MAY_BE_NULL] = Field(default_factory=str, description=_DERIVED)
    type: Literal["risk_labelled"] = Field(description=_TYPE)
    user_id: Identifier = Field(description=_USER)
    score: Share = Field(description="0 for no risk, 1 for certain to fail or leave.")
    timestamp: Moment = Field(description=_WHEN)
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)


Academic = Annotated[
    EnrolmentRecorded
    | AttendanceRecorded
    | GradeRecorded
    | WorkOverdue
    | DisciplineRecorded
    | OutcomeRecorded
    | RiskLabelled,
    Field(discriminator="type"),
]

INTERACTION: Final[TypeAdapter[Interaction]] = TypeAdapter(Interaction)
ACADEMIC: Final[TypeAdapter[Academic]] = TypeAdapter(Academic)


def decode_interaction(raw: bytes) -> Interaction:
    """
    Read an interaction from its bytes.

    Raises:
        InvalidEvent: If the bytes are not a valid interaction.
    """
    return decode(INTERACTION, raw)


def decode_academic(raw: bytes) -> Academic:
    """
    Read an academic record from its bytes.

    Raises:
        InvalidEvent: If the bytes are not a valid academic record.
    """
    return decode(ACADEMIC, raw)


def next_items(interaction: Interaction) -> tuple[Target, ...]:
    """
    What the platform may ask this user next, as `metadata.next_items` names it; at most 16.

    An element is an item's id, or an object with a topic, an item or a difficulty; the topic defaults to the
    event's. An element that is neither is left out: a hint must not cost the answer that carries it.
    """
    named = interaction.metadata.get("next_items")
    if not isinstance(named, list):
        return ()
    targets = (_target(interaction.topic_id, element) for element in islice(named, _NEXT_ITEMS_READ))
    return tuple(islice((target for target in targets if target is not None), MAX_NEXT_ITEMS))


def _target(topic_id: str, element: JsonValue) -> Target | None:
    if isinstance(element, str):
        element = {"item_id": element}
    if not isinstance(element, dict) or not _NAMING & element.keys():
        return None
    given = {name: value for name, value in element.items() if value is not None}
    try:
        return Target.model_validate({"topic_id": topic_id} | given)
    except ValidationError:
        return None


_NAMING: Final = frozenset(Target.model_fields)
