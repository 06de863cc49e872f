"""
Caliper Analytics 1.1 and 1.2 events, 1.0's shapes, and what their best known senders make of them.

Source: 1EdTech, Caliper Analytics Specification 1.1 and 1.2 (events, entities, actions); Canvas's, Blackboard's,
Open edX's, Moodle's and TimeBack's own additions. How an event is read stands in `stream.adapters.caliper_reading`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from stream.adapters import canvas, fields
from stream.adapters.caliper_reading import (
    NOBODY,
    Outcome,
    Said,
    actor_of,
    assignee_of,
    attempt_of,
    course_of,
    duration_of,
    entity_of,
    first_of,
    highest_of,
    id_of,
    is_attempt,
    is_by_staff,
    is_learner,
    is_lesson,
    is_of_nothing,
    is_staff,
    learner_of,
    local_id,
    outcome_of,
    points_of,
    result_of,
    roles_of,
    share_of,
    term_of,
    time_of,
    type_of,
    user_of,
)
from stream.adapters.conversion import (
    UNSAID,
    Carried,
    Conversion,
    Event,
    Made,
    Occasion,
    Opened,
    answer,
    grade,
    ignored,
    kind_of,
    record,
    view,
)

_CANVAS_EXTENSION: Final = "com.instructure.canvas"

_ACTIONS: Final = MappingProxyType(
    {
        action.lower(): action
        for action in (
            "Abandoned", "Accepted", "Activated", "Added", "Answered", "Archived", "Attached", "Bookmarked",
            "ChangedResolution", "ChangedSize", "ChangedSpeed", "ChangedVolume", "Classified", "ClosedPopout",
            "Commented", "Completed", "Copied", "Created", "Deactivated", "Declined", "Deleted", "Described",
            "DisabledClosedCaptioning", "Disliked", "Downloaded", "Earned", "EnabledClosedCaptioning", "Ended",
            "EnteredFullScreen", "Evaluated", "ExitedFullScreen", "ForwardedTo", "Graded", "Hid", "Highlighted",
            "Identified", "JumpedTo", "Launched", "Liked", "Linked", "LoggedIn", "LoggedOut", "MarkedAsRead",
            "MarkedAsUnread", "Modified", "Muted", "NavigatedTo", "OpenedPopout", "OptedIn", "OptedOut", "Paused",
            "Posted", "Printed", "Published", "Questioned", "Ranked", "Recommended", "Rejected", "Removed", "Replied",
            "Reset", "Responded", "Restarted", "Restored", "Resumed", "Retrieved", "Returned", "Reviewed", "Rewound",
            "Saved", "Searched", "Sent", "Shared", "ShowedHelp", "Skipped", "Started", "Submitted", "Subscribed",
            "Tagged", "TimedOut", "Unmuted", "Unpublished", "Unsubscribed", "Updated", "Uploaded", "Used", "Viewed",
        )
    }
)  # fmt: skip
"""As the specification writes them, and what some senders write besides, by their lower case."""

_SAW: Final = frozenset({"viewed", "navigatedto"})
_PLAYED: Final = frozenset(
    {"started", "resumed", "restarted", "paused", "ended", "completed", "jumpedto", "forwardedto", "rewound"}
)
_BEGAN: Final = frozenset({"started", "restarted"})
_NO_ANSWER: Final = frozenset({"skipped", "paused", "resumed", "reset", "activated", "deactivated", "reviewed"})
_HANDED_IN: Final = frozenset({"submitted", "completed"})
_ENROLLED: Final = frozenset({"activated", "created", "added"})
_LEFT: Final = frozenset({"deactivated", "deleted", "removed"})

_EDX: Final = re.compile(r"(?:^|/)(?:block-v1:|i4x:/|course-v1:)")
_EDX_PROBLEM: Final = re.compile(r"[@/]problem[+/]")
_QUESTION: Final = re.compile(r"/(?:items?|questions?)/[^/]+/?$", re.IGNORECASE)

_ATTEMPTED: Final = re.compile(
    r"(?P<work>.+?)/(?:(?:users?|people|persons?|learners?|students?|attempts?)/|attempt[-_]?\d+/?$)", re.IGNORECASE
)
_MAY_BE_OF_ATTEMPTS: Final = frozenset({"", "Result", "Score"})
_HOST: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)


def is_one(event: Mapping[str, Any]) -> bool:
    """Return whether a JSON object looks like a Caliper event, or an envelope of some."""
    for context in fields.items(event.get("@context")):
        if isinstance(context, str) and "caliper" in context:
            return True
    data = event.get("data")
    if isinstance(data, list) and ("sensor" in event or "caliper" in fields.text(event.get("dataVersion"))):
        return True
    type_ = event.get("type", event.get("@type"))
    if not isinstance(type_, str):
        return False
    if "action" in event and "object" in event and type_.endswith("Event"):
        return True
    return "/caliper/" in type_ or (type_ == "caliperEvent" and isinstance(data, dict))


def parts(event: Mapping[str, Any]) -> Sequence[tuple[str, Any]] | None:
    """Return the events of an envelope with their places in it, None if it is none."""
    data = event.get("data")
    if "action" in event:
        return None
    if isinstance(data, list):
        return [(f"data.{place}", each) for place, each in enumerate(data)]
    # 1.0 sent them one by one.
    return [("data", data)] if isinstance(data, dict) else None


def convert(event: Mapping[str, Any], carried: Carried = UNSAID) -> Conversion:  # noqa: ARG001 (the event names itself)
    """
    Convert one event.

    Args:
        event: An event, or an entity that a sensor describes, which is ignored.
        carried: Not needed.

    Raises:
        InvalidEvent: If it should say something about learning, and a field that this needs is not as it should be.
    """
    given = event.get("type", event.get("@type"))
    type_ = term_of(given)
    if not type_:
        raise fields.missing("type") if given is None else fields.bad("type", "the name of an event's type", given)
    if not type_.endswith("Event"):
        return ignored(type_)
    action = term_of(event.get("action")).replace(" ", "").lower()
    said = Said(
        event,
        type_,
        action,
        f"{kind_of(type_)} {_ACTIONS[action]}" if action in _ACTIONS else kind_of(type_),
        entity_of(event.get("object")),
        entity_of(event.get("generated")),
    )
    return _BY_TYPE.get(type_, _by_action)(said)


# ------------------------------------------------------------------------------------------------------- questions


def _item_event(said: Said) -> Conversion:
    """A question was shown, answered or skipped."""
    if said.action in _BEGAN or said.action in _SAW:
        return _opened(said)
    if said.action in _NO_ANSWER:
        return ignored(said.kind)
    item = said.object
    if is_attempt(item):
        extensions = fields.part(item, "extensions")
        item = first_of(
            item.get("assignable"), said.whole.get("target"), extensions.get("assignable"), _attempted(item)
        )
    return _answered(said, item)


def _opened(said: Said) -> Conversion:
    user_id = actor_of(said)
    if not user_id:
        return ignored(said.kind)
    item = said.object
    if is_attempt(item):
        item = first_of(item.get("assignable"), _attempted(item))
    item = _shared(item)
    item_id = _named(said, item)
    return Conversion(ignored=said.kind, opened=(Opened(user_id, item_id, time_of(said).timestamp()),))


def _answered(said: Said, item: Mapping[str, Any]) -> Conversion:
    """An answer, if something says how it was: nothing of the specification does."""
    attempt = attempt_of(said)
    outcome = outcome_of(said, attempt)
    return _answer(said, item, attempt, outcome.correct, _share(outcome, item), learner_of(said, attempt))


def _share(outcome: Outcome, item: Mapping[str, Any]) -> float | None:
    """Return a question's score in [0, 1], None where nothing was to be won."""
    if is_of_nothing(outcome.score, outcome.highest, item.get("maxScore")):
        return None
    return share_of(outcome.score, highest_of(outcome.highest, item.get("maxScore")))


def _answer(
    said: Said,
    item: Mapping[str, Any],
    attempt: Mapping[str, Any],
    correct: bool | None,
    score: float | None,
    user_id: str,
) -> Conversion:
    if not user_id or (correct is None and score is None):
        return ignored(said.kind)
    item = _shared(item)
    item_id = _named(said, item)
    course_id = course_of(said)
    topic_id = _topic(said, item, item_id) or course_id or item_id
    extensions = fields.part(said.object, "extensions")
    count = attempt.get("count", extensions.get("count", extensions.get("attempts")))
    occasion = _occasion(said, user_id, item_id, course_id, count)
    made = answer(
        occasion, item_id, topic_id, correct=correct, score=score, duration_s=duration_of(said, attempt),
        skills=_skills(item),
    )  # fmt: skip
    witness = fields.name(extensions.get("event_transaction_type")) or said.kind
    return Conversion(made=(Made("interactions", made, witness, id_of(attempt) or fields.name(count)),))


def _named(said: Said, thing: Mapping[str, Any]) -> str:
    """
    Return the id of what an event is about.

    Raises:
        InvalidEvent: If it has none.
    """
    return fields.needed_name(id_of(thing) or None, "object.assignable" if is_attempt(said.object) else "object.id")


def _attempted(attempt: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Return what an attempt is at, where only its IRI says so: what stands before its learner and its number.

    An attempt at nothing that is known is an empty entity; what is no attempt is returned as it is.
    """
    if not is_attempt(attempt) and type_of(attempt) not in _MAY_BE_OF_ATTEMPTS:
        return attempt
    found = _ATTEMPTED.match(id_of(attempt))
    if found is not None and not _HOST.fullmatch(found["work"]):
        return {"id": found["work"]}
    return fields.EMPTY if is_attempt(attempt) or found is not None else attempt


def _shared(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the item that all learners have, of one learner's copy, whose id has a query more (WeBWorK)."""
    original = item.get("isPartOf")
    if isinstance(original, dict) and type_of(original) == "AssessmentItem" and id_of(original):
        return original if id_of(item).startswith(f"{id_of(original)}?") else item
    return item


def _topic(said: Said, item: Mapping[str, Any], item_id: str) -> str:
    """Return the assessment that a question is part of, empty where it is not said."""
    for whole in (item.get("isPartOf"), item.get("partOf"), said.generated.get("assignable")):
        named = id_of(entity_of(whole))
        if named and named != item_id:
            return named
    return ""


def _skills(item: Mapping[str, Any]) -> list[str]:
    for field in ("learningObjectives", "alignedLearningObjective", "learningObjective"):
        named = [id_of(entity_of(objective)) for objective in fields.items(item.get(field))[:_MOST_SKILLS]]
        if any(named):
            return [name for name in dict.fromkeys(named) if name]
    return []


_MOST_SKILLS: Final = 16

# ---------------------------------------------------------------------------------------------------- whole pieces


def _whole_event(said: Said) -> Conversion:
    """A quiz or an assignment was begun, handed in or looked through."""
    attempt = attempt_of(said)
    work = said.object
    if is_attempt(work):
        # Canvas and Moodle put the attempt there.
        extensions = fields.part(work, "extensions")
        work = first_of(
            attempt.get("assignable"), said.whole.get("target"), extensions.get("assignable"), _attempted(work)
        )
    if said.action in _SAW:
        return _viewed(said, work)
    work_id = id_of(work)
    if type_of(work) == "AssessmentItem" or _EDX_PROBLEM.search(work_id):
        return ignored(said.kind) if said.action in _NO_ANSWER or said.action in _BEGAN else _answered(said, work)
    if said.action not in _HANDED_IN and said.action not in ("graded", "reviewed", "evaluated"):
        return ignored(said.kind)
    outcome = outcome_of(said, attempt)
    if highest_of(outcome.highest, work.get("maxScore")) is None:
        # Points in an extension, and nobody says of how many; or of none.
        outcome = outcome._replace(score=None)
    if outcome.correct is None and outcome.score is None and (said.action not in _HANDED_IN or _EDX.search(work_id)):
        # Open edX's browser names the page that the question is on.
        return ignored(said.kind)
    user_id = learner_of(said, attempt)
    if not user_id:
        return ignored(said.kind)
    return _graded(said, work, attempt, outcome, user_id)


def _graded(
    said: Said, work: Mapping[str, Any], attempt: Mapping[str, Any], outcome: Outcome, user_id: str
) -> Conversion:
    """A grade, work without one yet, or that a piece of work was passed or failed."""
    course_id = course_of(said)
    work_id = _named(said, first_of(work, _attempted(said.object)))
    occasion = _occasion(said, user_id, work_id, course_id, attempt.get("count"))
    duration_s = duration_of(said, attempt)
    if outcome.score is None and outcome.correct is not None:
        made = answer(
            occasion, work_id, _topic(said, work, work_id) or course_id or work_id, correct=outcome.correct,
            duration_s=duration_s,
        )  # fmt: skip
        return Conversion(made=(Made("interactions", made, said.kind, id_of(attempt)),))
    if outcome.correct is not None:
        occasion.metadata["success"] = outcome.correct
    if duration_s is not None:
        occasion.metadata["duration_seconds"] = duration_s
    highest = highest_of(outcome.highest, work.get("maxScore"), attempt.get("maxScore"))
    if highest is None and outcome.score is not None:
        if outcome.score > _MOST_WITHOUT_HIGHEST:
            raise fields.missing("generated.maxScore", f"the best score there is, of {outcome.score:g} given")
        occasion.metadata["max_score_assumed"] = True
    return _academic(grade(occasion, work_id, outcome.score, highest, course_id=course_id or None))


_MOST_WITHOUT_HIGHEST: Final = 100.0  # `schemas.GradeRecorded.max_score`


def _grade_event(said: Said) -> Conversion:
    """A score was given for an attempt at a question, or at a whole piece of work."""
    result = result_of(said)
    attempt = said.object
    if result is attempt:
        attempt = entity_of(result.get("attempt"))
    inner = entity_of(result.get("attempt"))
    extensions = fields.part(attempt, "extensions")
    work = first_of(
        attempt.get("assignable"), extensions.get("assignable"), result.get("assignable"), inner.get("assignable"),
        said.whole.get("target"),
    )  # fmt: skip
    if not work:
        part_of = entity_of(attempt.get("isPartOf"))
        work = part_of if type_of(part_of) and not is_attempt(part_of) else _attempted(attempt)
    user_id = (
        assignee_of(attempt) or assignee_of(extensions) or assignee_of(result) or assignee_of(inner)
        or user_of(entity_of(attempt.get("user"))) or _graded_actor(said, result)
    )  # fmt: skip
    score, field = points_of(result)
    outcome = outcome_of(said, attempt)
    if score is None:
        value = result.get(field)
        if value is not None and not (isinstance(value, str) and value.strip().lower() in _NO_SCORE):
            raise fields.bad(f"generated.{field}", "a number", value)
        score = outcome.score
    stated = (*(result.get(name) for name in _RESULT_HIGHEST), outcome.highest)
    if is_of_nothing(score, *stated, work.get("maxScore"), attempt.get("maxScore")):
        score = None
    outcome = Outcome(outcome.correct, score, highest_of(*stated))
    if outcome.score is None and outcome.correct is None:
        return ignored(said.kind)  # a grade that was cleared, or one that is yet to come
    if not user_id:
        raise fields.missing("object.assignee", "the learner, who need not be the actor")
    if _is_question(work, attempt):
        return _answer(said, work, attempt, outcome.correct, _share(outcome, work), user_id)
    if _CANVAS_EXTENSION in extensions and outcome.highest is None and work.get("maxScore") is None:
        return ignored(said.kind)  # of no points, or of a kind that has none
    return _graded(said, work, attempt, outcome, user_id)


_NO_SCORE: Final = frozenset({"", "null", "none"})
_RESULT_HIGHEST: Final = ("maxScore", "maxResultScore", "scorePossible", "resultMaximum")


def _graded_actor(said: Said, result: Mapping[str, Any]) -> str:
    """Return whom a grade is of where the attempt does not say it: the actor, if nothing makes that one the grader."""
    membership = fields.part(said.whole, "membership")
    if membership.get("member") is not None and is_learner(roles_of(said)):
        return user_of(entity_of(membership.get("member")))
    by = entity_of(said.whole.get("actor"))
    grader = entity_of(result.get("scoredBy"))
    if type_of(by) in NOBODY or is_by_staff(said) or (id_of(grader) and id_of(grader) == id_of(by)):
        return ""
    return user_of(by)


def _is_question(work: Mapping[str, Any], attempt: Mapping[str, Any]) -> bool:
    type_ = type_of(work)
    if type_ == "AssessmentItem":
        return True
    work_id = id_of(work)
    if _EDX_PROBLEM.search(work_id):
        return True
    # Of a bare IRI nobody says what it is; an attempt at a question is part of one at the whole.
    return not type_ and (attempt.get("isPartOf") is not None or _QUESTION.search(work_id) is not None)


def _activity_event(said: Said) -> Conversion:
    """TimeBack's summary of an activity: how many questions there were, and how many answers were right."""
    counts: dict[str, float | None] = {}
    for metric in fields.items(said.generated.get("items")):
        measured = entity_of(metric)
        counts[fields.text(measured.get("type"))] = fields.number(measured.get("value"))
    right, asked = counts.get("correctQuestions"), counts.get("totalQuestions")
    user_id = actor_of(said)
    if right is None or asked is None or asked <= 0 or not user_id:
        return ignored(said.kind)
    activity = fields.part(said.object, "activity")
    work = activity if id_of(activity) else said.object
    return _graded(said, work, {"count": said.generated.get("attempt")}, Outcome(None, right, asked), user_id)


# ------------------------------------------------------------------------------------------------ views, and the rest


def _view_event(said: Said) -> Conversion:
    return _viewed(said, said.object) if said.action in _SAW else ignored(said.kind)


def _media_event(said: Said) -> Conversion:
    return _viewed(said, said.object) if said.action in _PLAYED or said.action in _SAW else ignored(said.kind)


def _viewed(said: Said, seen: Mapping[str, Any]) -> Conversion:
    user_id = actor_of(said)
    if not user_id or not is_lesson(seen):
        return ignored(said.kind)
    item_id = _named(said, seen)
    course_id = course_of(said)
    occasion = _occasion(said, user_id, item_id, course_id)
    topic_id = id_of(entity_of(seen.get("isPartOf", seen.get("partOf")))) or course_id or item_id
    # What Open edX says to be viewed of a problem are its hints and its solution.
    made = Made("interactions", view(occasion, item_id, topic_id), tells_time=not _EDX_PROBLEM.search(item_id))
    return Conversion(made=(made,))


def _by_action(said: Said) -> Conversion:
    """An event without a type of its own, or of one that some sender made up: its action says what it is."""
    if type_of(said.object) == "Membership":
        return _membership(said)
    own = fields.part(said.object, "extensions", _CANVAS_EXTENSION)
    if fields.text(own.get("type")).endswith("Enrollment"):
        return _canvas_enrolment(said, own)
    if said.action == "graded":
        return _grade_event(said)
    # Open edX: hints and solutions are seen as annotations.
    return _view_event(said)


def _membership(said: Said) -> Conversion:
    """Somebody came to a course, or left it."""
    extensions = fields.part(said.object, "extensions")
    organization = entity_of(said.object.get("organization"))
    stated = id_of(entity_of(extensions.get("course_id"))) or id_of(entity_of(extensions.get("isPartOf")))
    course_id = stated or id_of(organization)
    roles = [term_of(role) for role in fields.items(said.object.get("roles"))]
    if type_of(organization) == "Group" or is_staff(roles) or not course_id:
        return ignored(said.kind)
    user_id = user_of(entity_of(said.object.get("member"))) or actor_of(said)
    if not user_id:
        return ignored(said.kind)
    occasion = _occasion(said, user_id, course_id, course_id)
    if said.action in _ENROLLED:
        return _academic(record(occasion, "enrolment_recorded", course_id=course_id))
    if said.action in _LEFT:
        return _academic(record(occasion, "outcome_recorded", outcome="withdrawn", course_id=course_id))
    if said.action == "completed" and stated and _EDX.search(course_id):
        # What Open edX makes of `edx.course.grade.passed.first_time`.
        return _academic(record(occasion, "outcome_recorded", outcome="pass", course_id=course_id))
    return ignored(said.kind)


def _canvas_enrolment(said: Said, own: Mapping[str, Any]) -> Conversion:
    user_id, course_id = local_id(fields.name(own.get("user_id"))), local_id(fields.name(own.get("course_id")))
    state = fields.text(own.get("workflow_state"))
    change = canvas.enrolment_change(fields.text(own.get("type")), state, is_new=said.action == "created")
    if not change:
        return ignored(said.kind)
    user_id = fields.needed_name(user_id or None, "object.extensions.user_id")
    course_id = fields.needed_name(course_id or None, "object.extensions.course_id")
    occasion = _occasion(said, user_id, course_id, course_id)
    return _academic(canvas.enrolment(occasion, change, course_id))


def _nothing(said: Said) -> Conversion:
    return ignored(said.kind)


_BY_TYPE: Final[Mapping[str, Callable[[Said], Conversion]]] = MappingProxyType(
    {
        "AssessmentItemEvent": _item_event,
        "AssessmentEvent": _whole_event,
        "AssignableEvent": _whole_event,
        "GradeEvent": _grade_event,
        "OutcomeEvent": _grade_event,
        "CalculatedGradeSnapshotEvent": _grade_event,
        "ActivityEvent": _activity_event,
        "ViewEvent": _view_event,
        "NavigationEvent": _view_event,
        "ReadingEvent": _view_event,
        "MediaEvent": _media_event,
        **dict.fromkeys(
            (
                "AnnotationEvent", "FeedbackEvent", "ForumEvent", "MessageEvent", "QuestionnaireEvent",
                "QuestionnaireItemEvent", "ResourceManagementEvent", "SearchEvent", "SessionEvent", "SurveyEvent",
                "SurveyInvitationEvent", "ThreadEvent", "TimeSpentEvent", "ToolLaunchEvent", "ToolUseEvent",
            ),
            _nothing,
        ),
    }
)  # fmt: skip

# --------------------------------------------------------------------------------------------------------- writing


def _occasion(said: Said, user_id: str, about: str, course_id: str, count: object = None) -> Occasion:
    at = time_of(said)
    metadata: dict[str, Any] = {"format": "caliper", "kind": said.kind}
    if course_id:
        metadata["course_id"] = course_id
    attempt = fields.count(count)
    if attempt is not None:
        metadata["attempt"] = attempt
    event_id = id_of(said.whole) or fields.derived(
        "caliper",
        said.type,
        said.action,
        user_id,
        about,
        at.isoformat(),
        id_of(said.generated),
        points_of(result_of(said))[0],
    )
    return Occasion(event_id, user_id, at, metadata)


def _academic(event: Event) -> Conversion:
    return Conversion(made=(Made("academics", event),))
