"""
What a Caliper event says: its entities, who did it, when, to what, and how that went.

What becomes of it is for `stream.adapters.caliper` to decide. An entity is an object, or the IRI of one, wherever it
stands.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from stream.adapters import canvas, fields

_CANVAS_URN: Final = "urn:instructure:canvas:"  # and <kind>:<number>
_CANVAS_KINDS: Final = MappingProxyType({"discussion": "discussion_topic"})
"""Kinds that Canvas's own events have another name for."""

_LONGEST_TERM: Final = 256
_DEEPEST_GROUP: Final = 4
_RESULT_SCORES: Final = ("scoreGiven", "resultScore", "totalScore", "normalScore", "curvedTotalScore", "score")
_RIGHT_OR_WRONG: Final = MappingProxyType({"correct": True, "incorrect": False, "right": True, "wrong": False})

NOBODY: Final = frozenset(
    {
        "SoftwareApplication", "Organization", "Group", "CourseSection", "CourseOffering", "Course", "Department",
        "School", "District",
    }
)  # fmt: skip
"""Actors that are no learners."""

_ANYBODY: Final = "caliper/Person"
"""End of the id that the specification has for somebody who is not known: the type's own IRI."""

_STAFF: Final = frozenset(
    {
        "Instructor", "TeachingAssistant", "Administrator", "ContentDeveloper", "Manager", "Mentor", "Officer",
        "Observer", "TestUser", "Grader", "Tutor", "PrimaryInstructor", "SecondaryInstructor", "Lecturer",
        "GuestInstructor", "ExternalInstructor", "Teacher", "Staff", "Support", "Developer",
    }
)  # fmt: skip


class Said(NamedTuple):
    """
    An event, read as far as all of them are read alike.

    Attributes:
        whole: The event itself.
        type: Its type, without the IRI before it.
        action: Its action in lower case, without the IRI before it.
        kind: Both, as a count's label may have them.
        object: What it was done to.
        generated: What came of it.
    """

    whole: Mapping[str, Any]
    type: str
    action: str
    kind: str
    object: Mapping[str, Any]
    generated: Mapping[str, Any]


class Outcome(NamedTuple):
    """Whether an answer was right, and its points, as far as they are said."""

    correct: bool | None
    score: float | None
    highest: float | None


# ------------------------------------------------------------------------------------------------------- entities


def entity_of(value: object) -> Mapping[str, Any]:
    """Return an entity, also one that is given by its IRI alone; an empty one where anything else stands there."""
    if isinstance(value, dict):
        return value
    return {"id": value} if isinstance(value, str | int) else fields.EMPTY


def first_of(*values: object) -> Mapping[str, Any]:
    """Return the first entity that has an id, else an empty one."""
    for value in values:
        if value is not None and id_of(entity := entity_of(value)):
            return entity
    return fields.EMPTY


def id_of(entity: Mapping[str, Any]) -> str:
    """Return an entity's id, empty where it has none; Canvas's ids as its own events have them."""
    return local_id(fields.name(entity.get("id", entity.get("@id")))) if entity else ""


def local_id(named: str) -> str:
    """Return a name, of Canvas's as its own events have it: a number, of all but people and courses after its kind."""
    if not named.startswith(_CANVAS_URN):
        return named
    kind, number = _canvas_name(named)
    if not number:
        return named
    return number if kind == "user" else canvas.item_id_of(kind, number)


def is_lesson(entity: Mapping[str, Any]) -> bool:
    """Return whether somebody may learn from an entity: of what Canvas shows, people and accounts are no resources."""
    named = fields.name(entity.get("id", entity.get("@id")))
    return not named.startswith(_CANVAS_URN) or _canvas_name(named)[0] not in canvas.NO_RESOURCE


def _canvas_name(urn: str) -> tuple[str, str]:
    written, _, number = urn.removeprefix(_CANVAS_URN).rpartition(":")
    kind = canvas.kind_of_item(written)
    return _CANVAS_KINDS.get(kind, kind), number


def type_of(entity: Mapping[str, Any]) -> str:
    """Return an entity's type without the IRI before it, empty where it has none."""
    return term_of(entity.get("type", entity.get("@type")))


def term_of(value: object) -> str:
    """Return a term of the vocabulary, without the IRI before it; an empty one where no term stands."""
    return _end(value) if isinstance(value, str) and len(value) <= _LONGEST_TERM else ""


@lru_cache(maxsize=1_024)
def _end(term: str) -> str:
    return term.rstrip("/").rpartition("/")[2].rpartition("#")[2].strip()


# ------------------------------------------------------------------------------------------- who, when, about what


def time_of(said: Said) -> datetime:
    """
    Return when an event happened.

    Raises:
        InvalidEvent: If it does not say so, or not as a moment.
    """
    event = said.whole
    value = event.get("eventTime")
    if value is not None:
        return fields.moment(value, "eventTime")
    # 1.0, where 0 stood for no time.
    for field in ("startedAtTime", "endedAtTime"):
        if event.get(field):
            return fields.moment(event[field], field)
    raise fields.missing("eventTime", "a date and time")


def actor_of(said: Said) -> str:
    """Return the learner's id, empty where the actor is none or nobody knows who it is."""
    actor = said.whole.get("actor")
    by = entity_of(actor)
    if type_of(by) in NOBODY or is_by_staff(said):
        return ""
    user_id = user_of(by)
    if user_id.endswith(_ANYBODY):
        return ""
    if not user_id:
        raise fields.missing("actor" if actor is None else "actor.id")
    return user_id


def learner_of(said: Said, attempt: Mapping[str, Any]) -> str:
    """Return whose an attempt is, and if it does not say so, whose the event is; empty for nobody that learns."""
    assigned = assignee_of(attempt)
    if not assigned:
        return actor_of(said)
    # Staff may hand something in for a learner; what they try out themselves is no evidence.
    return "" if is_by_staff(said) and assigned == id_of(entity_of(said.whole.get("actor"))) else assigned


def assignee_of(attempt: Mapping[str, Any]) -> str:
    """Return whose an attempt, or a result, is; 1.0 called that the actor."""
    for field in ("assignee", "actor"):
        person = attempt.get(field)
        if person is not None and (user_id := user_of(entity_of(person))):
            return user_id
    return ""


def user_of(person: Mapping[str, Any]) -> str:
    """Return a person's id, empty for what is no person."""
    return "" if type_of(person) in NOBODY else id_of(person)


def is_by_staff(said: Said) -> bool:
    """Return whether whoever did it has a role of staff, and none of a learner."""
    return is_staff(roles_of(said))


def roles_of(said: Said) -> list[str]:
    """Return the roles of whoever did it, without the IRIs before them."""
    return [term_of(role) for role in fields.items(fields.part(said.whole, "membership").get("roles"))]


def is_staff(roles: list[str]) -> bool:
    """Return whether roles are those of staff, and none is a learner's."""
    return any(role in _STAFF for role in roles) and not is_learner(roles)


def is_learner(roles: list[str]) -> bool:
    """Return whether a role is a learner's."""
    return any(role.endswith("Learner") or role == "Student" for role in roles)


def course_of(said: Said) -> str:
    """Return the course of an event, empty where it names none."""
    for extensions in (fields.part(said.object, "extensions"), fields.part(said.whole, "extensions")):
        stated = entity_of(extensions.get("course_id")) or entity_of(extensions.get("isPartOf"))
        named = id_of(stated)
        if named:
            return named
    group = entity_of(said.whole.get("group"))
    if not group:
        return id_of(entity_of(said.object.get("course")))
    # A group within a course is none itself.
    for _ in range(_DEEPEST_GROUP):
        if type_of(group) != "Group":
            break
        group = entity_of(group.get("subOrganizationOf"))
    return id_of(group)


def attempt_of(said: Said) -> Mapping[str, Any]:
    """Return the attempt that an event is about, with an id only where it is given by one."""
    if is_attempt(said.object):
        return said.object
    if is_attempt(said.generated):
        return said.generated
    return entity_of(said.generated.get("attempt"))


def is_attempt(entity: Mapping[str, Any]) -> bool:
    """Return whether an entity is an attempt, of whatever kind."""
    return type_of(entity).startswith("Attempt")


def duration_of(said: Said, attempt: Mapping[str, Any]) -> float | None:
    """Return the seconds that a response, or the attempt at it, took, as the event itself says."""
    for each in (said.generated, attempt):
        stated = fields.duration_s(each.get("duration"))
        if stated is not None:
            return stated
        started_at, ended_at = each.get("startedAtTime"), each.get("endedAtTime")
        if started_at and ended_at:
            began, over = fields.optional_moment(started_at), fields.optional_moment(ended_at)
            if began is not None and over is not None:
                took = fields.seconds((over - began).total_seconds())
                # Senders that do not measure it write one time twice.
                if took:
                    return took
    return None


# ------------------------------------------------------------------------------------------------------ outcomes


def result_of(said: Said) -> Mapping[str, Any]:
    """Return what has the score: usually what the event generated."""
    if type_of(said.object) in ("Result", "Score", "CalculatedGrade"):
        return said.object
    for field in ("score", "result"):
        inside = said.generated.get(field)
        if isinstance(inside, dict):
            return inside
    return said.generated


def points_of(result: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the score that is given, and the name of the first field that stands where one should."""
    first = ""
    for field in _RESULT_SCORES:
        value = result.get(field)
        if value is None:
            continue
        score = fields.number(value)
        if score is not None:
            return score, field
        first = first or field
    return None, first


def outcome_of(said: Said, attempt: Mapping[str, Any]) -> Outcome:
    """Gather what an event says of how an answer was: the first to say a thing is believed."""
    correct: bool | None = None
    score: float | None = None
    highest: float | None = None
    for name, value in _statements(said, attempt):
        if name == "correct":
            if correct is None:
                correct = fields.flag(value)
            if correct is None and isinstance(value, str):
                correct = _RIGHT_OR_WRONG.get(value.strip().lower())
        elif name == "score":
            if score is None:
                score = fields.number(value)
        elif highest is None:
            highest = fields.number(value)
    return Outcome(correct, score, highest)


def _statements(said: Said, attempt: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give what an event says of an outcome, wherever it does: as `correct`, `score` or `highest`."""
    result = result_of(said)
    for entity in (result, attempt):
        for extension in _extensions(entity):
            yield from _known(extension, is_result=True)
    for entity in (said.object, said.whole):
        for extension in _extensions(entity):
            yield from _known(extension, is_result=False)
    if not is_attempt(result):
        yield from _known(result, is_result=True)


def _extensions(entity: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give the extensions of an entity: an object, or a list of them (1.1), also under their maker's name."""
    for extension in fields.items(entity.get("extensions")):
        if isinstance(extension, dict):
            yield extension
            for key, value in extension.items():
                if isinstance(value, dict) and _is_namespace(key):
                    yield value


def _known(statements: Mapping[str, Any], *, is_result: bool) -> Iterator[tuple[str, Any]]:
    """
    Give what is known of these statements.

    Points of what is no result are what it is worth, and its grade may be that of a school; a best one beside it makes
    it a mark.
    """
    known = [(_meaning(key), value) for key, value in statements.items() if len(key) <= _LONGEST_TERM]
    scores = {"score", "points", "grade"} if is_result else {"score"}
    if any(meaning == "highest" for meaning, _ in known):
        scores.add("grade")
    for meaning, value in known:
        if meaning in scores:
            yield "score", value
        elif meaning in ("correct", "highest"):
            yield meaning, value


def _is_namespace(key: str) -> bool:
    return "." in key or ":" in key or "/" in key


_MEANINGS: Final = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "success", "correct", "iscorrect", "wascorrect", "correctness", "answeredcorrectly", "passed",
                "ispassed",
            ),
            "correct",
        ),
        **dict.fromkeys(
            (
                "score", "scoregiven", "resultscore", "earned", "weightedearned", "pointsearned", "earnedpoints",
                "earnedscore", "attemptscore", "rawscore",
            ),
            "score",
        ),
        "points": "points",
        "grade": "grade",
        **dict.fromkeys(
            (
                "maxscore", "maxresultscore", "maxgrade", "possible", "weightedpossible", "pointspossible",
                "possiblepoints", "scorepossible", "possiblescore", "maxpoints", "scoremaximum", "maximumscore",
            ),
            "highest",
        ),
    }
)  # fmt: skip
"""What the extensions of known senders call things, in lower case and without separators."""


@lru_cache(maxsize=1_024)
def _meaning(key: str) -> str:
    """Return what a field says: `correct`, `score`, `points`, `grade`, `highest`, or nothing that is known."""
    last = re.split(r"[/#:.]", key)[-1]
    return _MEANINGS.get(last.replace("_", "").replace("-", "").lower(), "")


def share_of(score: float | None, highest: float | None) -> float | None:
    """Return a question's score in [0, 1]; without the best that there is, one that is in there already."""
    if highest is not None and highest > 0:
        return fields.share(score, 0.0, highest)
    return score if score is not None and 0 <= score <= 1 else None


def highest_of(*candidates: object) -> float | None:
    """Return the first that can be the best score there is; 0 stands for unknown (Blackboard)."""
    for candidate in candidates:
        found = fields.number(candidate)
        if found is not None and found > 0:
            return found
    return None


def is_of_nothing(score: float | None, *candidates: object) -> bool:
    """Return whether there was nothing to be won: no points, and every best score that is stated is 0."""
    stated = [found for candidate in candidates if (found := fields.number(candidate)) is not None]
    return score is not None and score <= 0 and bool(stated) and max(stated) <= 0
