"""
xAPI statements, 1.0.x and 2.0, as learning platforms and authoring tools send them.

Pure. What a statement says is decided by its verb's name, the kind of its activity and its result, not by who sends it;
what is particular to one sender is said where it is read. `docs/adapters/xapi.md` has the table.

Source:
    IEEE 9274.1.1-2023 (xAPI 2.0); ADL, Experience API 1.0.3, part two; AICC, cmi5 (Quartz).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from schemas.base import InvalidEvent
from stream.adapters import conversion
from stream.adapters.conversion import UNSAID, Carried, Conversion, Made, Occasion, Opened
from stream.adapters.fields import (
    bad,
    count,
    derived,
    duration_s,
    flag,
    items,
    missing,
    moment,
    name,
    number,
    optional_moment,
    part,
    share,
    text,
)

FORMAT: Final = "xapi"

_ACTOR, _ACTED_FOR = "actor", "context.extensions.for"  # fields
_AGENT: Final = "an agent with mbox, account, openid or mbox_sha1sum"
_MOST_SKILLS: Final = 16  # as many as an interaction may name
_ROUNDING: Final = 1e-3

# Verbs are known by the last part of their IRI: the same word is published by ADL, TinCan, Activity Streams and others.
_ANSWERED: Final = frozenset({"answered", "answer", "responded", "respond"})
_VIEWED: Final = frozenset(
    {
        "experienced", "experience", "viewed", "view", "read", "watched", "watch", "accessed", "access", "opened",
        "open", "launched", "launch", "initialized", "initialised", "navigated", "navigated-in", "played", "play",
        "listened", "listen", "consumed", "consume", "visited", "browsed", "downloaded",
    }
)  # fmt: skip
_VIEWED_OF_MEDIA: Final = frozenset({"paused", "seeked", "completed", "terminated", "resumed", "skipped"})
_STARTED: Final = frozenset({"attempted", "attempt", "started", "start", "resumed", "resume"})
_SUBMITTED: Final = frozenset({"submitted", "submit", "turned-in", "handed-in"})
_GRADED: Final = frozenset({"scored", "score", "graded", "grade", "assessed", "evaluated", "marked"})
# What these say of a whole is how it stands, which tools say at the end of every session.
_STANDING: Final = frozenset(
    {
        "completed", "complete", "passed", "failed", "earned", "attained", "mastered", "achieved", "achieve",
        "satisfied", "satisfy", "finished", "terminated", "exited",
    }
)  # fmt: skip
_JUDGED: Final = _GRADED | _STANDING | {"attempted", "attempt", "solved"}
_BY_VERB: Final = {"passed": True, "mastered": True, "failed": False}
_ENROLLED: Final = frozenset({"registered", "register", "enrolled", "enrol", "enroll", "enrolled-in"})
_LEFT_ANYTHING: Final = frozenset({"left", "leave"})
_LEFT: Final = _LEFT_ANYTHING | {
    "unregistered", "unregister", "unenrolled", "unenrol", "unenroll", "withdrew", "withdrawn",
}  # fmt: skip
_ATTENDED: Final = frozenset({"attended", "attend"})
# Their scores are what the actor thinks of the activity.
_OPINIONS: Final = frozenset(
    {"rated", "rate", "voted", "liked", "commented", "reviewed", "shared", "asked", "preferred", "reported"}
)
# Their scores are of something that goes on, or is not the learner's doing.
_UNFINISHED: Final = frozenset({"progressed", "interacted", "suspended", "abandoned", "waived"})

# Activities are known by the last part of their type's IRI.
_QUESTIONS: Final = frozenset({"cmi.interaction", "question", "problem"})
_ASSESSMENTS: Final = frozenset({"assessment", "assignment", "school-assignment", "quiz", "exam", "test"})
_COURSES: Final = frozenset({"course", "coursearea"})
_MEDIA: Final = frozenset({"video", "audio", "media"})
_POLLS: Final = frozenset({"survey", "feedback", "poll", "questionnaire"})
_SKILLS: Final = frozenset({"skill", "competency", "competence", "competence-aim", "learning-objective"})
_SITES: Final = frozenset({"lms", "site", "system", "source"})
# Somebody's work: its score is not that of whoever evaluated it.
_WORKS: Final = frozenset({"solution", "submission", "comment", "review"})
# Who looks at these learns nothing from them.
_NO_RESOURCES: Final = _SITES | {"person", "user", "user-profile", "message", "notification", "badge"}
# An activity's neighbours that do not say what it is about: the site, and the one attempt.
_ATTEMPTS: Final = "attempt"
_NO_TOPICS: Final = _SITES | {"profile", _ATTEMPTS, "review"}
_COMPOUND: Final = "compound"  # H5P: a set of questions, each of which has a statement of its own

_ABOUT_STATEMENTS: Final = frozenset({"StatementRef", "SubStatement"})
_SEVERAL: Final = "GroupActivity"
"""A problem of several questions on Open edX, each of which has a statement of its own."""

_EDX_GRADED: Final = frozenset({"attempted"})
"""What Open edX's grades say of a problem; the answer itself was `evaluated`."""

_ABOUT_PEOPLE: Final = frozenset({"Agent", "Group"})

# Open edX: activity ids are addresses of the site, and end in the key of a block or a course.
_EDX_BLOCK: Final = "block-v1:"
_EDX_COURSE: Final = "course-v1:"
_EDX_PROBLEM: Final = "type@problem"
_MAILTO: Final = "mailto:"
_ATTEMPT: Final = "http://id.tincanapi.com/extension/attempt-id"
_SESSION: Final = "https://w3id.org/xapi/cmi5/context/extensions/sessionid"
_FOR: Final = "https://yetanalytics.com/profiles/prepositions/concepts/context-extensions/for"
"""Whom a statement is about where the actor is somebody else (Moodle's plugin: a teacher who grades, or looks)."""

_JISC: Final = "xapi.jisc.ac.uk/"
_LATE: Final = "http://xapi.jisc.ac.uk/attendance_late"
_PERCENT: Final = 100.0  # of what raw scores without bounds are, as SCORM has them; `schemas.GradeRecorded.max_score`
_UNSAID: Final = frozenset({"", "unknown"})
"""Texts that stand for no value: SCORM's elements are empty before they are set, and a status is `unknown`."""


class _Score(NamedTuple):
    """A grade as the platform says it; `highest` is None where it does not say of how much."""

    value: float
    highest: float | None


class _Statement(NamedTuple):
    """
    What is read of a statement before anything is needed of it.

    Attributes:
        verb: Its name.
        item_id: Of the activity, empty where there is none.
        kind: Of the activity: the last part of its type, in lower case.
        activity: The object.
        result: Empty where there is none.
        context: The same.
    """

    verb: str
    item_id: str
    kind: str
    activity: Mapping[str, Any]
    result: Mapping[str, Any]
    context: Mapping[str, Any]


class _Place(NamedTuple):
    """Where an activity belongs; empty where the statement does not say."""

    topic_id: str
    course_id: str
    skills: tuple[str, ...]
    attempt: str


class _Learner(NamedTuple):
    """Whom a statement is about, an agent or a group, and the field that says so."""

    field: str
    said: object


_Maker = Callable[[_Statement, Occasion, _Place], Made]


def is_one(event: Mapping[str, Any]) -> bool:
    """Return whether an object looks like a statement, or like some of them in an envelope."""
    if "verb" in event:
        return "actor" in event or "object" in event
    inside = event.get("statement")
    return isinstance(event.get("statements"), list) or (isinstance(inside, dict) and "verb" in inside)


def parts(event: Mapping[str, Any]) -> Sequence[tuple[str, Any]] | None:
    """
    Return the statements of an envelope, None if it is none.

    Envelopes are an LRS's answer (`statements`, `more`), what Learning Locker stores (`statement`, `voided`), and H5P's
    trees (`statement`, `children`).
    """
    if "verb" in event:
        return None
    statements, inside = event.get("statements"), event.get("statement")
    if isinstance(statements, list):
        return [(f"statements.{i}", each) for i, each in enumerate(statements)]
    if not isinstance(inside, dict):
        return None
    if flag(event.get("voided")):
        inside = {**inside, "voided": True}
    children = event.get("children")
    below = [(f"children.{i}", each) for i, each in enumerate(children)] if isinstance(children, list) else []
    return [("statement", inside), *below]


def convert(event: Mapping[str, Any], carried: Carried = UNSAID) -> Conversion:
    """
    Convert one statement.

    Args:
        event: The statement.
        carried: When it was sent, which is what a store would put down of a statement that names no time.

    Raises:
        InvalidEvent: If it is about learning, and does not say who did what to which activity, and when.
    """
    verb, object_ = _verb(event), part(event, "object")
    if verb == "voided" or flag(event.get("voided")):
        return conversion.ignored("voided", voids=name(object_.get("id")) if verb == "voided" else "")
    about = text(object_.get("objectType"))
    if about in _ABOUT_STATEMENTS:
        return conversion.ignored(verb)
    if about in _ABOUT_PEOPLE:
        return _graded_by_another(event, verb, carried.at)
    type_ = part(object_, "definition").get("type")
    item_id, result, context = name(object_.get("id")), part(event, "result"), part(event, "context")
    statement = _Statement(verb, item_id, _last(type_), object_, result, context)
    maker, learner = _maker(statement), _learner(event, context)
    is_by_another = learner.field != _ACTOR
    if maker is None:
        return conversion.ignored(verb, () if is_by_another else tuple(_opened(event, statement, carried.at)))
    if is_by_another and maker is _view:
        return conversion.ignored(f"{verb} (by somebody else)")
    if not item_id:
        raise _no_activity(event.get("object"))
    return _converted(event, statement, maker, learner, carried.at)


def _verb(event: Mapping[str, Any]) -> str:
    verb = event.get("verb")
    verb_id = verb.get("id") if isinstance(verb, dict) else verb
    named = _last(verb_id)
    if named:
        return named
    if verb_id is None:
        raise missing("verb.id", "an IRI")
    raise bad("verb.id", "an IRI", verb_id)


def _last(iri: object) -> str:
    """Return the last part of an IRI in lower case, without the ending of a page; empty where there is none."""
    if not isinstance(iri, str):
        return ""
    whole = name(iri).rstrip("/# ").lower().removesuffix(".html")
    return whole[max(whole.rfind("/"), whole.rfind("#"), whole.rfind(":")) + 1 :].strip()


def _maker(statement: _Statement) -> _Maker | None:
    """
    Return what makes an event of a statement, None where it is no evidence of learning.

    Raises:
        InvalidEvent: If it has an outcome that cannot be read.
    """
    verb = statement.verb
    if _is_question(statement):
        return _of_question(statement)
    if verb in _ATTENDED:
        return _attendance
    if _is_view(statement):
        return _view
    if verb in _ENROLLED or verb in _LEFT:
        return _of_course(statement)
    return _of_whole(statement)


def _of_question(statement: _Statement) -> _Maker | None:
    if statement.verb in _OPINIONS:
        return None
    if _success(statement) is not None or _share(statement.result) is not None:
        return _answer
    if statement.verb in _VIEWED:
        return _view
    _check_readable(statement.result)
    return None


def _of_course(statement: _Statement) -> _Maker | None:
    # Who leaves something that has no type may have left a meeting.
    if statement.kind not in _COURSES and (statement.kind or statement.verb in _LEFT_ANYTHING):
        return None
    return _enrolment if statement.verb in _ENROLLED else _withdrawal


def _of_whole(statement: _Statement) -> _Maker | None:
    """Return what makes an event of a statement on a whole activity: a quiz, a lesson, a course."""
    verb, kind = statement.verb, statement.kind
    if verb in _GRADED and kind in _WORKS:
        return None
    may_be_graded = _may_be_graded(statement)
    if may_be_graded and _score(statement.result) is not None:
        return _grade
    if verb in _JUDGED and _success(statement) is not None:
        return _outcome if kind in _COURSES else _standing if verb in _STANDING else _answer
    if kind in _POLLS:
        return None
    if verb in _SUBMITTED:
        # Work was handed in, whatever stands where its grade will be.
        return _grade
    if may_be_graded:
        _check_gradeless(statement.result)
    return None


def _may_be_graded(statement: _Statement) -> bool:
    verb = statement.verb
    if verb in _JUDGED or verb in _SUBMITTED or verb in _ANSWERED:
        return True
    # A verb that nobody knows, said of something that is there to be graded.
    is_graded = statement.kind in _ASSESSMENTS or statement.activity.get("objectType") == _SEVERAL
    return is_graded and verb not in _OPINIONS | _UNFINISHED | _STARTED


def _is_view(statement: _Statement) -> bool:
    if statement.verb in _VIEWED:
        return statement.kind not in _NO_RESOURCES
    return statement.kind in _MEDIA and statement.verb in _VIEWED_OF_MEDIA and _score(statement.result) is None


def _is_question(statement: _Statement) -> bool:
    kind, verb = statement.kind, statement.verb
    interaction = text(part(statement.activity, "definition").get("interactionType")).lower()
    if interaction == _COMPOUND or statement.activity.get("objectType") == _SEVERAL:
        return False
    if _EDX_PROBLEM in statement.item_id and verb in _EDX_GRADED and _score(statement.result) is not None:
        return False
    return (
        kind in _QUESTIONS
        or verb in _ANSWERED
        or (bool(interaction) and kind not in _ASSESSMENTS and kind not in _COURSES)
        or _EDX_PROBLEM in statement.item_id
    )


def _check_readable(result: Mapping[str, Any]) -> None:
    """
    Accept a result that has no outcome.

    Raises:
        InvalidEvent: If something in it is meant to be one.
    """
    success, score = result.get("success"), result.get("score")
    if not _is_unsaid(success) and flag(success) is None:
        raise bad("result.success", "true or false", success)
    if _is_unsaid(score) or score == []:  # an empty object, as PHP writes it
        return
    if not isinstance(score, dict):
        raise bad("result.score", "an object", score)
    if _is_of_nothing(score):
        return
    for field in ("scaled", "raw", "min", "max"):
        if not _is_unsaid(score.get(field)) and number(score[field]) is None:
            raise bad(f"result.score.{field}", "a number", score[field])
    if not _is_unsaid(score.get("scaled")) and _is_unsaid(score.get("raw")):
        raise bad("result.score.scaled", "a number of at most 1", score["scaled"])


def _check_gradeless(result: Mapping[str, Any]) -> None:
    """
    Accept a result of a whole that has no grade.

    Raises:
        InvalidEvent: If something in it is meant to be one.
    """
    _check_readable(result)
    score = part(result, "score")
    raw = number(score.get("raw"))
    # Alone and below 0 it is Moodle's word for no grade.
    if raw is not None and raw >= 0 and _is_unsaid(score.get("max")):
        raise bad("result.score.raw", f"a number from 0 to {_PERCENT:g}, or a max beside it", score["raw"])


def _is_unsaid(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _UNSAID)


def _success(statement: _Statement) -> bool | None:
    success = flag(statement.result.get("success"))
    return _BY_VERB.get(statement.verb) if success is None else success


def _share(result: Mapping[str, Any]) -> float | None:
    """Return a score in [0, 1]: the scaled one, else where the raw one stands between its bounds."""
    score = part(result, "score")
    if not score or _is_of_nothing(score):
        return None
    scaled = number(score.get("scaled"))
    # A scaled score may be negative, for answers that are worse than none; beyond 1 it is no scaled score.
    if scaled is not None and scaled <= 1 + _ROUNDING:
        return min(max(scaled, 0.0), 1.0)
    return share(number(score.get("raw")), number(score.get("min")), number(score.get("max")))


def _score(result: Mapping[str, Any]) -> _Score | None:
    """Return a grade: the raw one with the highest that there is, else the scaled one."""
    score = part(result, "score")
    if not score or _is_of_nothing(score):
        return None
    raw, highest = number(score.get("raw")), number(score.get("max"))
    if raw is not None and highest is not None and highest > 0:
        # Bonus points and penalties go beyond the bounds.
        return _Score(min(max(raw, 0.0), highest), highest)
    scaled = number(score.get("scaled"))
    if scaled is not None and scaled <= 1 + _ROUNDING:
        return _Score(min(max(scaled, 0.0), 1.0), 1.0)
    is_percentage = raw is not None and 0 <= raw <= _PERCENT and _is_unsaid(score.get("max"))
    return _Score(raw, None) if raw is not None and is_percentage else None


def _is_of_nothing(score: Mapping[str, Any]) -> bool:
    """Return whether there was nothing to be won: H5P and Open edX send 0 of 0 for what is not scored."""
    highest = number(score.get("max"))
    return highest is not None and highest <= (number(score.get("min")) or 0.0)


# What ------------------------------------------------------------------------------------------------------------


def _answer(statement: _Statement, occasion: Occasion, place: _Place) -> Made:
    stated = part(statement.activity, "definition", "extensions").get(_ATTEMPT)
    attempt = count(stated)
    if attempt is not None:
        occasion.metadata["attempt"] = attempt
    made = conversion.answer(
        _in_course(occasion, place),
        statement.item_id,
        place.topic_id or statement.item_id,
        correct=_success(statement),
        score=_share(statement.result),
        duration_s=_took_s(statement),
        skills=place.skills,
    )
    return Made("interactions", made, statement.verb, name(stated))


def _standing(statement: _Statement, occasion: Occasion, place: _Place) -> Made:
    """
    Return that a whole was passed or failed, which may be said more than once.

    The attempt is an activity beside it, or of cmi5 the session, which has one verdict. It is not the registration:
    that lasts over all the sessions and attempts of a learner at a course.
    """
    made = _answer(statement, occasion, place)
    extensions = part(statement.context, "extensions")
    attempt = made.attempt or place.attempt or name(extensions.get(_ATTEMPT)) or name(extensions.get(_SESSION))
    return made._replace(attempt=attempt, is_status=True)


def _view(statement: _Statement, occasion: Occasion, place: _Place) -> Made:
    topic_id = place.topic_id or statement.item_id
    made = conversion.view(_in_course(occasion, place), statement.item_id, topic_id, _took_s(statement))
    return Made("interactions", made)


def _in_course(occasion: Occasion, place: _Place) -> Occasion:
    if place.course_id:
        occasion.metadata["course_id"] = place.course_id
    return occasion


def _took_s(statement: _Statement) -> float | None:
    # Nobody answers in no time: authoring tools write PT0S where they measure none.
    return duration_s(statement.result.get("duration")) or None


def _grade(statement: _Statement, occasion: Occasion, place: _Place) -> Made:
    """Return a grade, or work that was handed in and has none yet."""
    stated = {"success": _success(statement), "duration_seconds": _took_s(statement)}
    occasion.metadata.update({field: value for field, value in stated.items() if value is not None})
    score = _score(statement.result)
    value, highest = (None, None) if score is None else score
    if value is not None and highest is None:
        occasion.metadata["max_score_assumed"] = True
    course_id = place.course_id or None
    return Made("academics", conversion.grade(occasion, statement.item_id or None, value, highest, course_id=course_id))


def _outcome(statement: _Statement, occasion: Occasion, place: _Place) -> Made:
    outcome = "pass" if _success(statement) else "fail"
    return _record(occasion, "outcome_recorded", outcome=outcome, course_id=place.course_id)


def _withdrawal(statement: _Statement, occasion: Occasion, _place: _Place) -> Made:
    return _record(occasion, "outcome_recorded", outcome="withdrawn", course_id=statement.item_id)


def _enrolment(statement: _Statement, occasion: Occasion, _place: _Place) -> Made:
    return _record(occasion, "enrolment_recorded", course_id=statement.item_id)


def _attendance(statement: _Statement, occasion: Occasion, place: _Place) -> Made:
    """
    Return that somebody was at an event; the UK's recipe says absence and lateness in the result.

    Elsewhere who attended was there, though not to the end (Moodle's plugin says so of partial attendance).
    """
    result, status = statement.result, "present"
    if flag(result.get("completion")) is False:
        if _is_of_jisc(statement) and not duration_s(result.get("duration")):
            status = "absent"
    elif flag(part(result, "extensions").get(_LATE)):
        status = "late"
    return _record(occasion, "attendance_recorded", status=status, course_id=place.course_id or None)


def _is_of_jisc(statement: _Statement) -> bool:
    definition = part(statement.activity, "definition")
    extensions = (part(said, "extensions") for said in (statement.result, statement.context, definition))
    return any(_JISC in each for each in (text(definition.get("type")), *(key for some in extensions for key in some)))


def _record(occasion: Occasion, kind: str, **fields: str | None) -> Made:
    return Made("academics", conversion.record(occasion, kind, **fields))


def _converted(
    event: Mapping[str, Any], statement: _Statement, maker: _Maker, learner: _Learner, sent_at: datetime | None
) -> Conversion:
    """
    Return one event for each learner.

    Args:
        event: The statement.
        statement: What was read of it.
        maker: Of its events.
        learner: Whose they are.
        sent_at: The time of a statement that names none.
    """
    users = _users(learner.said, learner.field)
    if not users:
        return conversion.ignored("group")
    stated = _stated_at(event)
    at = sent_at if stated is None and sent_at is not None else moment(stated, "timestamp")
    place = _place(statement)
    # A statement that is sent again is sent at another time.
    event_id = name(event.get("id")) or _derived_id(statement, users, None if stated is None else at)
    in_group = _is_group(learner.said)
    made = []
    for i, user_id in enumerate(users):
        own_id = name(f"{event_id}/{i}") if in_group else event_id
        metadata: dict[str, Any] = {"format": FORMAT, "kind": statement.verb}
        if stated is None:
            metadata["timestamp_derived"] = True
        occasion = Occasion(own_id, user_id, at, metadata)
        made.append(maker(statement, occasion, place))
    return Conversion(tuple(made))


def _derived_id(statement: _Statement, users: Sequence[str], at: datetime | None) -> str:
    result, score = statement.result, part(statement.result, "score")
    outcome = *map(score.get, ("scaled", "raw")), *map(result.get, ("success", "duration", "response"))
    when = "" if at is None else at.isoformat()
    return derived(FORMAT, statement.verb, statement.item_id, when, *users, *outcome)


def _stated_at(event: Mapping[str, Any]) -> object:
    at = event.get("timestamp")
    # A store sets the one to the other where the sender says nothing.
    return event.get("stored") if at is None else at


def _graded_by_another(event: Mapping[str, Any], verb: str, sent_at: datetime | None) -> Conversion:
    """Convert a grade that somebody gave to a learner, who is the object; what was graded is in the context."""
    result, context = part(event, "result"), part(event, "context")
    if verb not in _GRADED:
        return conversion.ignored(verb)
    if _score(result) is None:
        _check_gradeless(result)
        return conversion.ignored(verb)
    graded = _place(_Statement(verb, "", "", {}, result, context)).topic_id
    statement = _Statement(verb, graded, "", {}, result, context)
    return _converted(event, statement, _grade, _Learner("object", event["object"]), sent_at)


def _no_activity(found: object) -> InvalidEvent:
    if found is None:
        return missing("object", "an activity")
    if not isinstance(found, dict):
        return bad("object", "an activity", found)
    item_id = found.get("id")
    return missing("object.id", "an IRI") if item_id is None else bad("object.id", "an IRI", item_id)


# Who --------------------------------------------------------------------------------------------------------------


def _learner(event: Mapping[str, Any], context: Mapping[str, Any]) -> _Learner:
    """Return whom a statement is about: the actor, unless it names another for whom that one acted."""
    actor, other = event.get("actor"), part(context, "extensions").get(_FOR)
    if not isinstance(other, dict) or (_identifier(other) and _identifier(other) == _identifier(actor)):
        return _Learner(_ACTOR, actor)
    return _Learner(_ACTED_FOR, other)


def _users(actor: object, field: str) -> list[str]:
    """
    Return the users that an actor is: one, a group's members, none for a group that only has a name.

    Raises:
        InvalidEvent: If somebody is not identified.
    """
    if actor is None:
        raise missing(field, _AGENT)
    if not _is_group(actor):
        return [_agent(actor, field)]
    members = items(actor.get("member")) if isinstance(actor, dict) else []
    if not members and not _identifier(actor):
        raise missing(f"{field}.member", "a group's members")
    return [_agent(member, f"{field}.member.{i}") for i, member in enumerate(members)]


def _is_group(actor: object) -> bool:
    return isinstance(actor, dict) and (actor.get("objectType") == "Group" or "member" in actor)


def _agent(agent: object, field: str) -> str:
    named = _identifier(agent)
    if named:
        return named
    if not isinstance(agent, dict):
        raise bad(field, _AGENT, agent)
    for key in ("mbox", "account", "openid", "mbox_sha1sum"):
        if agent.get(key) is not None:
            raise bad(f"{field}.{key}", "what identifies somebody", agent[key])
    raise missing(field, _AGENT)


def _identifier(agent: object) -> str:
    """Return what identifies somebody, empty where nothing does."""
    if not isinstance(agent, dict):
        return ""
    return (
        name(_address(text(agent.get("mbox"))))
        or name(part(agent, "account").get("name"))
        or name(text(agent.get("openid")))
        or name(text(agent.get("mbox_sha1sum")))
    )


def _address(mbox: str) -> str:
    """Return a mail address, its host in lower case: there, unlike before the @, case says nothing."""
    if mbox[: len(_MAILTO)].lower() == _MAILTO:
        mbox = mbox[len(_MAILTO) :]
    local, at, host = mbox.rpartition("@")
    return f"{local}@{host.lower()}" if at else mbox


# Where ------------------------------------------------------------------------------------------------------------


def _place(statement: _Statement) -> _Place:
    """Return what an activity is about and the course it belongs to: the closest neighbours that can be it."""
    topic_id, course_id, skills, attempt = "", "", [], ""
    for relation, named, kind in _neighbours(statement.context):
        if kind in _COURSES or (_EDX_COURSE in named and _EDX_BLOCK not in named):
            course_id = course_id or named
        elif kind in _SKILLS:
            skills.append(named)
        elif kind == _ATTEMPTS:
            attempt = attempt or named
        elif not topic_id and relation != "other" and kind not in _NO_TOPICS and named != statement.item_id:
            topic_id = named
    if statement.kind in _COURSES:
        course_id = statement.item_id
    return _Place(topic_id or course_id, course_id, tuple(dict.fromkeys(skills))[:_MOST_SKILLS], attempt)


def _neighbours(context: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Give the activities beside a statement's own, the closest first: how they stand to it, their ids and kinds."""
    activities = part(context, "contextActivities")
    if not activities:
        return
    for relation in ("parent", "grouping", "other"):
        for activity in items(activities.get(relation)):
            named = name(activity.get("id")) if isinstance(activity, dict) else ""
            if named:
                yield relation, named, _last(part(activity, "definition").get("type"))


def _opened(event: Mapping[str, Any], statement: _Statement, sent_at: datetime | None) -> Iterator[Opened]:
    """
    Give whom a statement without an outcome shows an activity.

    Not if it looks like a hand-in: Open edX's browsers say `attempted` when an answer is sent, not when the question
    is seen.
    """
    item_id, result = statement.item_id, statement.result
    if statement.verb not in _STARTED or not item_id or _EDX_BLOCK in item_id:
        return
    if result.keys() - {"duration", "extensions"} or duration_s(result.get("duration")):
        return
    stated, actor = _stated_at(event), event.get("actor")
    at = sent_at if stated is None else optional_moment(stated)
    # What is ignored may be as it likes.
    user_id = "" if _is_group(actor) else _identifier(actor)
    if at is not None and user_id:
        yield Opened(user_id, item_id, at.timestamp())
