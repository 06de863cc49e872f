"""
Canvas Live Events in Canvas's own JSON; their Caliper form is read by `stream.adapters.caliper`, with the same ids.

Source: Canvas's documentation of its live events, and what `lib/canvas/live_events.rb` puts into them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from stream.adapters import fields
from stream.adapters.conversion import (
    UNSAID,
    Carried,
    Conversion,
    Event,
    Made,
    Occasion,
    answer,
    grade,
    ignored,
    record,
    view,
)

_STUDENT: Final = "StudentEnrollment"
_STAFF: Final = frozenset(
    {
        "TeacherEnrollment", "TaEnrollment", "DesignerEnrollment", "ObserverEnrollment", "AccountAdmin", "AccountUser",
        "StudentViewEnrollment",
    }
)  # fmt: skip
"""Roles of who is no learner; the last one is a teacher who looks at the course as a student would."""

_ENROLLED: Final = frozenset({"active", "invited", "creation_pending"})
_NO_SCORE: Final = frozenset({"", "null", "none"})
_HANDED_IN: Final = frozenset({"submitted", "pending_review", "graded"})
_NOBODY: Final = "0"
_COURSE_GRADE: Final = "course:"

_SHARD: Final = 10**13
"""Ids below it count within one of Canvas's databases; with the database's number before them they are global."""

NO_RESOURCE: Final = frozenset({"user", "enrollment", "account"})
"""Kinds of what is seen and is nobody's lesson: a person's files, calendar and profile, and what administrators see."""

_PLAIN: Final = "course"
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Change = Literal["enrolled", "withdrawn", ""]
"""What an event says of an enrolment; empty for nothing."""


class _Said(NamedTuple):
    """An event: its name, what Canvas says about it, and what it says itself."""

    name: str
    about: Mapping[str, Any]
    body: Mapping[str, Any]


def is_one(event: Mapping[str, Any]) -> bool:
    """Return whether a JSON object looks like a live event of Canvas."""
    return "body" in event and "event_name" in _about(event)


def parts(event: Mapping[str, Any]) -> Sequence[tuple[str, Any]] | None:  # noqa: ARG001 (one of a family's functions)
    """Return None: Canvas sends its events one by one."""
    return None


def convert(event: Mapping[str, Any], carried: Carried = UNSAID) -> Conversion:
    """
    Convert one event.

    Args:
        event: A live event.
        carried: Its name, where the event itself does not say it.

    Raises:
        InvalidEvent: If it should say something about learning, and a field that this needs is not as it should be.
    """
    about = _about(event)
    body = event.get("body")
    name = fields.text(about.get("event_name")) or carried.kind
    if not name:
        raise fields.missing("metadata.event_name")
    if not isinstance(body, dict):
        raise fields.missing("body") if body is None else fields.bad("body", "an object", body)
    # Some releases send a changed course grade under the name of an assignment's.
    if name == "grade_change" and "override_score" in body:
        name = "grade_override"
    converts = _BY_NAME.get(name)
    if converts is None:
        return ignored(name)
    return converts(_Said(name, about, body))


def enrolment_change(role: str, state: str, *, is_new: bool) -> Change:
    """
    Return what the state of an enrolment says.

    Args:
        role: Canvas's type of the enrolment; only a student's says anything.
        state: Its workflow state.
        is_new: Whether it has just been made. An invitation counts then, and only then.
    """
    if role != _STUDENT:
        return ""
    if state == "active" or (is_new and state in _ENROLLED):
        return "enrolled"
    return "withdrawn" if state == "deleted" and not is_new else ""


def enrolment(occasion: Occasion, change: Change, course_id: str) -> Event:
    """Return that a learner came to a course, or left it."""
    if change == "enrolled":
        return record(occasion, "enrolment_recorded", course_id=course_id)
    return record(occasion, "outcome_recorded", outcome="withdrawn", course_id=course_id)


def kind_of_item(written: str) -> str:
    """Return the kind of an item as its id begins (`wiki_page`), of the names for it: `WikiPage`, `quizzes:quiz`."""
    return _HUMP.sub("_", written.strip().rpartition(":")[2]).lower()


def item_id_of(kind: str, number: str) -> str:
    """Return the id of an item: Canvas counts each kind apart. Courses are named in many places, by number alone."""
    return fields.name(f"{kind}:{number}") if kind and kind != _PLAIN else number


# ------------------------------------------------------------------------------------------------------ the events


def _accessed(said: _Said) -> Conversion:
    about, body = said.about, said.body
    kind = kind_of_item(fields.text(body.get("asset_type")))
    if about.get("user_id") is None or kind in NO_RESOURCE:
        return ignored(said.name)
    if _is_staff(body.get("role")) or _is_by_staff(about) or _is_in_anothers_place(about):
        return ignored(said.name)
    user_id = fields.needed_name(about["user_id"], "metadata.user_id")
    item_id = item_id_of(kind, fields.needed_name(body.get("asset_id"), "body.asset_id"))
    course_id = _course(about)
    occasion = _occasion(said, user_id, course_id, item_id, body.get("asset_subtype"))
    return Conversion(made=(Made("interactions", view(occasion, item_id, course_id or item_id)),))


def _quiz_submitted(said: _Said) -> Conversion:
    if _is_by_staff(said.about) or _is_in_anothers_place(said.about):
        return ignored(said.name)
    user_id = fields.needed_name(said.about.get("user_id"), "metadata.user_id")
    quiz_id = item_id_of("quiz", fields.needed_name(said.body.get("quiz_id"), "body.quiz_id"))
    course_id = _course(said.about)
    occasion = _occasion(said, user_id, course_id, quiz_id, said.body.get("submission_id"))
    return _academic(grade(occasion, quiz_id, None, None, course_id=course_id or None))


def _submission(said: _Said) -> Conversion:
    """Work was handed in, graded, or has not come by its deadline."""
    about, body = said.about, said.body
    submitted_at, state = body.get("submitted_at"), fields.text(body.get("workflow_state"))
    # Older releases do not say the state.
    score = _score(body, "score")
    is_missing = fields.flag(body.get("missing")) is True and submitted_at is None
    is_handed_in = submitted_at is not None and (not state or state in _HANDED_IN)
    # Who grades is somebody else than whose work it is, also in a teacher's place.
    is_by_learner = fields.name(about.get("user_id")) == fields.name(body.get("user_id"))
    if _role(about) == "StudentViewEnrollment" or (is_by_learner and _is_in_anothers_place(about)):
        return ignored(said.name)
    if not (is_handed_in or is_missing or score is not None):
        return ignored(said.name)
    user_id = fields.needed_name(body.get("user_id"), "body.user_id")
    work_id = item_id_of("assignment", fields.needed_name(body.get("assignment_id"), "body.assignment_id"))
    course_id = _course(about) or None
    occasion = _occasion(said, user_id, course_id or "", work_id, body.get("attempt"), score)
    if score is None and is_missing:
        return _academic(record(occasion, "work_overdue", assessment_id=work_id, course_id=course_id))
    if score is not None and score > _MOST_WITHOUT_POSSIBLE:
        return ignored(said.name)  # of how many points is said by its `grade_change` alone
    if score is not None:
        occasion.metadata["max_score_assumed"] = True
    attempt = fields.count(body.get("attempt"))
    if attempt is not None:
        occasion.metadata["attempt"] = attempt
    return _academic(grade(occasion, work_id, score, None, course_id=course_id))


_MOST_WITHOUT_POSSIBLE: Final = 100.0  # `schemas.GradeRecorded.max_score`


def _grade_change(said: _Said) -> Conversion:
    body = said.body
    score = _score(body, "score")
    possible = fields.number(body.get("points_possible"))
    if score is None and body.get("old_score") is None:
        return ignored(said.name)
    if possible is not None and possible <= 0:
        return ignored(said.name)  # of no points there is no share
    field = "student_id" if body.get("student_id") is not None else "user_id"
    user_id = fields.needed_name(body.get(field), f"body.{field}")
    work_id = item_id_of("assignment", fields.needed_name(body.get("assignment_id"), "body.assignment_id"))
    course_id = _course(said.about)
    if score is not None and possible is None and score > _MOST_WITHOUT_POSSIBLE:
        raise fields.missing("body.points_possible", f"the points there are, of {score:g} given")
    occasion = _occasion(said, user_id, course_id, work_id, body.get("submission_id"), score)
    if fields.flag(body.get("grading_complete")) is False:
        # What a quiz gives by itself, before somebody has read the essays in it.
        score = None
    return _academic(grade(occasion, work_id, score, possible, course_id=course_id or None))


def _course_grade(said: _Said) -> Conversion:
    """The grade of a course so far: of what has been graded, not of all that there is to do."""
    body = said.body
    score = _score(body, "override_score") if said.name == "grade_override" else _score(body, "current_score")
    if score is None or fields.text(body.get("workflow_state")) == "deleted":
        return ignored(said.name)
    user_id = fields.needed_name(body.get("user_id"), "body.user_id")
    course_id = fields.needed_name(body.get("course_id"), "body.course_id")
    user_id, course_id = _global(user_id, course_id, _course(said.about))
    occasion = _occasion(said, user_id, course_id, body.get("grading_period_id"), score)
    return _academic(grade(occasion, f"{_COURSE_GRADE}{course_id}", score, 100.0, course_id=course_id))


def _enrolment(said: _Said) -> Conversion:
    body = said.body
    change = enrolment_change(
        fields.text(body.get("type")), fields.text(body.get("workflow_state")), is_new=said.name == "enrollment_created"
    )
    if not change:
        return ignored(said.name)
    user_id = fields.needed_name(body.get("user_id"), "body.user_id")
    course_id = fields.needed_name(body.get("course_id"), "body.course_id")
    occasion = _occasion(said, user_id, course_id, body.get("enrollment_id"), change)
    return _academic(enrolment(occasion, change, course_id))


def _outcome_result(said: _Said) -> Conversion:
    """A skill was assessed, by a question, a quiz or a rubric: an answer that needs the skill."""
    body = said.body
    outcome_id, user_id = body.get("learning_outcome_id"), body.get("user_uuid", body.get("user_id"))
    mastery = fields.flag(body.get("mastery"))
    score = fields.share(_score(body, "score"), 0.0, fields.number(body.get("possible")))
    if user_id is None or (mastery is None and score is None) or fields.text(body.get("workflow_state")) == "deleted":
        return ignored(said.name)  # older releases do not say whose it is
    # Whose place it was follows from the role alone: the two ids of the learner are of different kinds.
    if _is_in_anothers_place(said.about) and _role(said.about) in (None, _STUDENT):
        return ignored(said.name)
    user_id = fields.needed_name(user_id, "body.user_uuid")
    skill = fields.needed_name(outcome_id, "body.learning_outcome_id")
    item_id = _assessed(body, skill)
    occasion = _occasion(said, user_id, _course(said.about), item_id, body.get("attempt"), score, mastery)
    made = answer(occasion, item_id, skill, correct=mastery, score=score, skills=[skill])
    return Conversion(made=(Made("interactions", made, said.name, fields.name(body.get("attempt"))),))


def _assessed(body: Mapping[str, Any], skill: str) -> str:
    """
    Return what was answered: one skill at one work.

    Each skill of a work has a verdict of its own, so that the verdict on one is no second word on another.
    """
    for what in ("associated_asset", "artifact"):
        number = fields.name(body.get(f"{what}_id"))
        if number:
            return fields.name(f"{item_id_of(kind_of_item(fields.text(body.get(f'{what}_type'))), number)}#{skill}")
    return item_id_of("learning_outcome", skill)


_BY_NAME: Final[Mapping[str, Callable[[_Said], Conversion]]] = MappingProxyType(
    {
        "asset_accessed": _accessed,
        "quiz_submitted": _quiz_submitted,
        "submission_created": _submission,
        "submission_updated": _submission,
        "plagiarism_resubmit": _submission,
        "grade_change": _grade_change,
        "grade_changed": _grade_change,
        "grade_override": _course_grade,
        "course_grade_change": _course_grade,
        "enrollment_created": _enrolment,
        "enrollment_updated": _enrolment,
        "learning_outcome_result_created": _outcome_result,
        "learning_outcome_result_updated": _outcome_result,
    }
)

# --------------------------------------------------------------------------------------------------------- reading


def _about(event: Mapping[str, Any]) -> Mapping[str, Any]:
    about = event.get("metadata", event.get("attributes"))
    return about if isinstance(about, dict) else fields.EMPTY


def _occasion(said: _Said, user_id: str, course_id: str, *content: object) -> Occasion:
    """Live events have no ids; what tells one from the others is in its content."""
    at = fields.moment(said.about.get("event_time"), "metadata.event_time")
    metadata = {"format": "canvas", "kind": said.name}
    if course_id:
        metadata["course_id"] = course_id
    return Occasion(fields.derived("canvas", said.name, at.isoformat(), user_id, *content), user_id, at, metadata)


def _course(about: Mapping[str, Any]) -> str:
    return fields.name(about.get("context_id")) if about.get("context_type") == "Course" else ""


def _global(user_id: str, course_id: str, known: str) -> tuple[str, str]:
    """
    Return a learner and a course as all other events name them.

    Args:
        user_id: As the course's database counts, or global already: the learner may be of another database.
        course_id: The same.
        known: The global id of the course, empty where the event is about none.
    """
    if not (_is_number(known) and _is_number(course_id) and int(course_id) == int(known) % _SHARD):
        return user_id, course_id
    if _is_number(user_id) and int(user_id) < _SHARD:
        user_id = str(int(user_id) + int(known) - int(course_id))
    return user_id, known


def _is_number(named: str) -> bool:
    return named.isascii() and named.isdecimal()


def _is_staff(role: object) -> bool:
    return isinstance(role, str) and role in _STAFF


def _is_by_staff(about: Mapping[str, Any]) -> bool:
    return _is_staff(_role(about))


def _is_in_anothers_place(about: Mapping[str, Any]) -> bool:
    """Return whether somebody has logged in as somebody else, be that a learner or a teacher."""
    return fields.name(about.get("real_user_id")) not in ("", _NOBODY, fields.name(about.get("user_id")))


def _role(about: Mapping[str, Any]) -> object:
    """Return the role of who did it; older releases call it by another name."""
    return about.get("context_role", about.get("role"))


def _score(body: Mapping[str, Any], field: str) -> float | None:
    """
    Return a score, None where there is none.

    Raises:
        InvalidEvent: If something else stands there.
    """
    value = body.get(field)
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_SCORE):
        return None
    score = fields.number(value)
    if score is None:
        raise fields.bad(f"body.{field}", "a number", value)
    return score


def _academic(event: Event) -> Conversion:
    return Conversion(made=(Made("academics", event),))
