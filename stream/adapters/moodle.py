r"""
Moodle: rows of `logstore_standard_log` as JSON objects, from an export or from a stream of the database's changes.

Pure. A row says what happened (`\mod_quiz\event\attempt_submitted`), to whom, and where, seldom how it was graded: no
row says how a single question was answered. What Moodle's xAPI plugins send is xAPI.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from stream.adapters.conversion import UNSAID, Carried, Conversion, Made, Occasion, answer, grade, ignored, record, view
from stream.adapters.fields import (
    EMPTY,
    bad,
    count,
    derived,
    flag,
    missing,
    moment,
    name,
    needed_name,
    number,
    part,
    text,
)

_FORMAT: Final = "moodle"
_TABLE: Final = "logstore_standard_log"
_PARTICIPATING: Final = 2  # `edulevel` of what learners do
_DEFAULT_MAXIMUM: Final = 100.0  # of a grade item, for Moodle as for `schemas.GradeRecorded`
_COURSE, _MODULE_LEVEL = 50, 70  # `contextlevel` of what happens in a course, and in a module
_SITE: Final = "1"  # the front page, which Moodle counts among the courses
_DEEPEST: Final = 16  # arrays in one another, in PHP's form
_NULLS: Final = ("", "NULL", "\\N")  # as exports write them
_NOBODY: Final = (*_NULLS, "0", "-1")  # cron, the command line, whoever has not signed in
_STATES: Final[Mapping[float, str]] = MappingProxyType(
    {0: "incomplete", 1: "complete", 2: "passed", 3: "failed", 4: "failed"}
)
"""Of a module's completion, as Moodle counts them; the last is a failing grade that is hidden."""


class _Row(NamedTuple):
    r"""
    One row.

    Attributes:
        kind: The event's class, `\mod_quiz\event\attempt_submitted`.
        what: The last part of it.
        row: All of it.
        other: What the event adds to every event's columns.
    """

    kind: str
    what: str
    row: Mapping[str, Any]
    other: Mapping[str, Any]


def is_one(event: Mapping[str, Any]) -> bool:
    """Return whether an object is a row of the log, or a change of the database that has one."""
    return "eventname" in _inside(event)[1]


def parts(event: Mapping[str, Any]) -> Sequence[tuple[str, Any]] | None:
    """
    Return the row in a change of the database (Debezium, Maxwell), None where nothing is around the row.

    A row that was deleted, as Moodle does with old ones, and a row of another table are nothing.
    """
    place, row = _inside(event)
    if not place:
        change = part(event, "payload") or event
        return [] if "op" in change and ("before" in change or "after" in change) else None
    change = part(event, "payload") or event
    table = text(change.get("table")) or text(part(change, "source").get("table"))
    is_gone = change.get("op") in ("d", "t") or change.get("type") == "delete"
    if is_gone or (table and not table.endswith(_TABLE)):
        return []
    return [(place, row)]


def _inside(event: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the row in an object and its place there, empty where it is the object itself."""
    if "eventname" in event:
        return "", event
    for names in (("after",), ("payload", "after"), ("payload",), ("data",)):
        row = part(event, *names)
        if "eventname" in row:
            return ".".join(names), row
    return "", event


def convert(event: Mapping[str, Any], carried: Carried = UNSAID) -> Conversion:  # noqa: ARG001 (the row has its own)
    """
    Convert a row.

    Args:
        event: The row; its numbers may be texts, and `other` JSON, PHP's form of an array, or an object.
        carried: Of no use here.

    Raises:
        InvalidEvent: If it says something about learning, and a field that this needs is not as it should be.
    """
    said = event.get("eventname")
    if said is None:
        raise missing("eventname", "the class of the event")
    # Exports escape the backslashes once more.
    written = text(said).replace("\\\\", "\\").strip("\\")
    what = written.partition("\\event\\")[2]
    if not what:
        raise bad("eventname", "a class such as \\mod_quiz\\event\\attempt_submitted", said)
    known = _KNOWN.get(written) or _KNOWN.get(what)
    if known is None:
        is_view = what.endswith("_viewed") and number(event.get("edulevel")) == _PARTICIPATING
        if not is_view:
            return ignored(f"\\{written}")
        known = _viewed
    if number(event.get("anonymous")):
        return ignored("anonymous")
    return known(_Row(f"\\{written}", what, event, _other(event.get("other"))))


# Who and where


def _learner(row: _Row) -> str:
    """Return whom a row is about, empty where that is nobody."""
    related = _somebody(row, "relateduserid")
    return related or _somebody(row, "userid")


def _somebody(row: _Row, field: str) -> str:
    value = row.row.get(field)
    if value is None or value in _NULLS:
        if "userid" not in row.row and "relateduserid" not in row.row:
            raise missing("userid", "a user")
        return ""
    named = needed_name(value, field)
    return "" if named in _NOBODY else named


def _is_by_another(row: _Row, learner: str) -> bool:
    """Return whether somebody else did what a row says of a learner: a teacher, also one signed in as the learner."""
    real = name(row.row.get("realuserid"))
    return name(row.row.get("userid")) != learner or (real not in _NOBODY and real != learner)


def _course(row: _Row) -> str:
    course_id = name(row.row.get("courseid"))
    return "" if course_id in _NOBODY else course_id


def _module(row: _Row) -> str:
    """
    Return the module of a course that a row is about, by one name for all that happens there.

    Raises:
        InvalidEvent: If it is about none: at other levels the same column numbers courses, users, blocks.
    """
    level, where = number(row.row.get("contextlevel")), row.row.get("contextinstanceid")
    if level is not None and level != _MODULE_LEVEL:
        raise bad("contextlevel", f"{_MODULE_LEVEL}, that of a module", row.row["contextlevel"])
    if where is None:
        return _object(row) or needed_name(where, "contextinstanceid")
    return f"course_module:{needed_name(where, 'contextinstanceid')}"


def _page(row: _Row) -> str:
    """
    Return what a page without an object of its own shows: a module, a course; empty for what is in neither.

    A block, or a user's page, stands in a course where the row names one.
    """
    level = number(row.row.get("contextlevel"))
    if level is None or level == _MODULE_LEVEL:
        return _module(row)
    if level == _COURSE:
        return f"course:{needed_name(row.row.get('contextinstanceid'), 'contextinstanceid')}"
    course_id = _course(row)
    return f"course:{course_id}" if course_id not in ("", _SITE) else ""


def _object(row: _Row) -> str:
    table, object_id = text(row.row.get("objecttable")), name(row.row.get("objectid"))
    return name(f"{table}:{object_id}") if table and object_id else ""


def _occasion(row: _Row, user_id: str, **more: Any) -> Occasion:  # noqa: ANN401 (plain JSON values)
    at = moment(row.row.get("timecreated"), "timecreated")
    metadata: dict[str, Any] = {"format": _FORMAT, "kind": row.kind}
    course_id = _course(row)
    if course_id:
        metadata["course_id"] = course_id
    # The row's number alone would be that of another Moodle's row too.
    told = (name(row.row.get(field)) for field in ("id", "contextinstanceid", "objectid"))
    event_id = derived(_FORMAT, row.kind, user_id, int(at.timestamp()), *told)
    return Occasion(event_id, user_id, at, metadata | more)


# Views


def _viewed(row: _Row) -> Conversion:
    """A page was seen by whoever is signed in, be it somebody else's attempt."""
    viewer = _somebody(row, "userid")
    if not viewer:
        return ignored("no user")
    related = _somebody(row, "relateduserid")
    if (related and related != viewer) or _is_by_another(row, viewer):
        return ignored(f"{row.kind} (by somebody else)")
    course_id = _course(row)
    topic_id = f"course:{course_id}" if course_id else ""
    if row.what in _OF_A_COURSE:
        item_id = topic_id or needed_name(row.row.get("courseid"), "courseid")
    elif row.what in _OF_A_MODULE:
        item_id = _page(row)
    else:
        item_id = _object(row) or _page(row)
    if not item_id:
        return ignored(f"{row.kind} (in no course)")
    return Conversion((Made("interactions", view(_occasion(row, viewer), item_id, topic_id or item_id)),))


_OF_A_COURSE: Final = frozenset(
    {
        "course_viewed", "course_information_viewed", "course_resources_list_viewed",
        "course_module_instance_list_viewed",
    }
)  # fmt: skip
_OF_A_MODULE: Final = frozenset(
    {
        "course_module_viewed", "attempt_viewed", "attempt_summary_viewed", "attempt_reviewed", "sco_launched",
        "activity_viewed", "submission_viewed", "feedback_viewed", "submission_form_viewed", "submission_status_viewed",
        "all_files_downloaded", "recording_viewed",
    }
)  # fmt: skip


# Answers and grades


def _completed(row: _Row) -> Conversion:
    """A module's completion changed; passed and failed are outcomes of it, complete is none."""
    state = row.other.get("completionstate")
    if state is None:
        raise missing("other.completionstate", "a state from 0 to 4")
    counted = number(state)
    reached = None if counted is None else _STATES.get(counted)
    if reached is None:
        raise bad("other.completionstate", "a state from 0 to 4", state)
    if reached in ("incomplete", "complete"):
        return ignored(f"{row.kind} ({reached})")
    if number(row.other.get("overrideby")):
        return ignored(f"{row.kind} (by somebody else)")
    return _outcome_of_module(row, is_passed=reached == "passed")


def _scorm_status(row: _Row) -> Conversion:
    status = text(row.other.get("cmivalue")).lower()
    if status not in ("passed", "failed"):
        return ignored(f"{row.kind} (no outcome)")
    return _outcome_of_module(row, is_passed=status == "passed")


def _outcome_of_module(row: _Row, *, is_passed: bool) -> Conversion:
    user_id = _learner(row)
    if not user_id:
        return ignored("no user")
    course_id = _course(row)
    item_id = _module(row)
    topic_id = f"course:{course_id}" if course_id else item_id
    attempt = _attempt(row)
    made = answer(_occasion(row, user_id, **attempt), item_id, topic_id, correct=is_passed)
    # Moodle writes the row again whenever a package commits, and both kinds tell of one module.
    told = Made("interactions", made, row.what, name(attempt.get("attempt")), tells_time=False, is_status=True)
    return Conversion((told,))


def _graded(row: _Row) -> Conversion:
    """A grade of the gradebook; `relateduserid` is whose it is, and `userid` who gave it."""
    score = row.other.get("finalgrade", row.row.get("finalgrade"))
    if score is None:
        return ignored(f"{row.kind} (no grade)")
    points = number(score)
    if points is None:
        raise bad("other.finalgrade", "a number", score)
    item_id = row.other.get("itemid", row.row.get("itemid"))
    return _points(row, f"grade_item:{needed_name(item_id, 'other.itemid')}", points)


def _assignment_graded(row: _Row) -> Conversion:
    """Work was graded; how, only a row says that was joined with its grade."""
    points = _joined(row)
    return ignored(f"{row.kind} (no grade)") if points is None else _points(row, _module(row), points)


def _joined(row: _Row) -> float | None:
    """Return the grade that a row was joined with; below 0 stands for none."""
    for field in ("finalgrade", "rawgrade", "grade"):
        points = number(row.other.get(field, row.row.get(field)))
        if points is not None and points >= 0:
            return points
    return None


def _assessing_graded(row: _Row) -> Conversion:
    """How well somebody assessed the others' work in a workshop, apart from the work of their own."""
    points = number(row.other.get("finalgrade"))
    return ignored(f"{row.kind} (no grade)") if points is None else _points(row, _object(row) or _module(row), points)


def _scorm_score(row: _Row) -> Conversion:
    if "cmivalue" not in row.other:
        raise missing("other.cmivalue", "a number")
    points = number(row.other["cmivalue"])
    if points is None:
        raise bad("other.cmivalue", "a number", row.other["cmivalue"])
    return _points(row, _module(row), points, _learner(row) or None, **_attempt(row))


def _attempt(row: _Row) -> dict[str, int]:
    attempt = count(row.other.get("attemptid"))
    return {} if attempt is None else {"attempt": attempt}


def _points(row: _Row, assessment_id: str, points: float, learner: str | None = None, **more: Any) -> Conversion:  # noqa: ANN401
    user_id = learner or _somebody(row, "relateduserid")
    if not user_id:
        if _somebody(row, "userid"):
            raise missing("relateduserid", "whose grade it is")
        return ignored("no user")
    most = _maximum(row)
    if most is None:
        # Nothing says of how much; where that cannot be what it is by default, nothing is to be said.
        if points > _DEFAULT_MAXIMUM:
            return ignored(f"{row.kind} (no maximum)")
        more["max_score_assumed"] = True
    score = max(points, 0.0) if most is None else min(max(points, 0.0), most)
    made = grade(_occasion(row, user_id, **more), assessment_id, score, most, course_id=_course(row) or None)
    return Conversion((Made("academics", made),))


def _maximum(row: _Row) -> float | None:
    for field in ("grademax", "rawgrademax", "maxgrade"):
        most = number(row.other.get(field, row.row.get(field)))
        if most is not None and most > 0:
            return most
    return None


def _handed_in(row: _Row) -> Conversion:
    user_id = _learner(row)
    if not user_id:
        return ignored("no user")
    points = _joined(row)
    if points is not None:
        return _points(row, _module(row), points, user_id)
    made = grade(_occasion(row, user_id), _module(row), None, _maximum(row), course_id=_course(row) or None)
    return Conversion((Made("academics", made),))


# Courses


def _enrolled(row: _Row) -> Conversion:
    return _recorded(row, "enrolment_recorded")


def _unenrolled(row: _Row) -> Conversion:
    # Somebody may be enrolled in one course in several ways, and lose only one of them.
    if flag(part(row.other, "userenrolment").get("lastenrol")) is False:
        return ignored(f"{row.kind} (still enrolled)")
    return _recorded(row, "outcome_recorded", outcome="withdrawn")


def _course_completed(row: _Row) -> Conversion:
    return _recorded(row, "outcome_recorded", outcome="pass")


def _recorded(row: _Row, kind: str, **fields: str) -> Conversion:
    user_id = _learner(row)
    if not user_id:
        return ignored("no user")
    course_id = needed_name(row.row.get("courseid"), "courseid")
    return Conversion((Made("academics", record(_occasion(row, user_id), kind, course_id=course_id, **fields)),))


def _attended(row: _Row) -> Conversion:
    learner = _somebody(row, "userid")
    if not learner:
        return ignored("no user")
    if _is_by_another(row, learner):
        return ignored(f"{row.kind} (by somebody else)")
    course_id = _course(row) or None
    made = record(_occasion(row, learner), "attendance_recorded", status="present", course_id=course_id)
    return Conversion((Made("academics", made),))


_KNOWN: Final[Mapping[str, Callable[[_Row], Conversion]]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *_OF_A_COURSE, *_OF_A_MODULE, "section_viewed", "chapter_viewed", "discussion_viewed", "page_viewed",
                "content_page_viewed", "question_viewed", "entry_viewed", "comments_viewed",
            ),
            _viewed,
        ),
        "core\\event\\course_module_completion_updated": _completed,
        "core\\event\\user_graded": _graded,
        "core\\event\\course_completed": _course_completed,
        "core\\event\\user_enrolment_created": _enrolled,
        "core\\event\\user_enrolment_deleted": _unenrolled,
        "mod_assign\\event\\submission_graded": _assignment_graded,
        "mod_assign\\event\\assessable_submitted": _handed_in,
        "mod_quiz\\event\\attempt_submitted": _handed_in,
        "mod_workshop\\event\\submission_created": _handed_in,
        "mod_workshop\\event\\assessment_evaluated": _assessing_graded,
        "mod_workshop\\event\\assessment_reevaluated": _assessing_graded,
        "mod_scorm\\event\\scoreraw_submitted": _scorm_score,
        "mod_scorm\\event\\status_submitted": _scorm_status,
        "mod_attendance\\event\\attendance_taken_by_student": _attended,
        "mod_bigbluebuttonbn\\event\\meeting_joined": _attended,
        "mod_bigbluebuttonbn\\event\\bigbluebuttonbn_meeting_joined": _attended,
    }
)  # fmt: skip


# What an event adds


def _other(value: object) -> Mapping[str, Any]:
    """Return what an event adds, empty where it adds nothing or nothing that can be read."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str):
        return EMPTY
    value = value.strip()
    found: object = None
    if value.startswith("{"):
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            return EMPTY
    elif value.startswith("a:"):
        try:
            found = _php(value.encode("utf-8", "surrogatepass"), 0, _DEEPEST)[0]
        except (ValueError, IndexError):
            return EMPTY
    return found if isinstance(found, dict) else EMPTY


def _php(written: bytes, start: int, deepest: int) -> tuple[Any, int]:
    """
    Read one value of PHP's `serialize`, and say where it ends; objects of classes are not read.

    Raises:
        ValueError: If it is none.
        IndexError: If it ends too early.
    """
    kind = written[start : start + 2]
    if kind == b"N;":
        return None, start + 2
    if kind in (b"i:", b"d:", b"b:"):
        end = written.index(b";", start)
        said = written[start + 2 : end]
        return (float(said) if kind == b"d:" else int(said) if kind == b"i:" else said == b"1"), end + 1
    if kind == b"s:":
        colon = written.index(b":", start + 2)
        first = colon + 2
        # Counted in bytes.
        end = first + int(written[start + 2 : colon])
        if end < first or written[colon + 1 : first] != b'"' or written[end : end + 2] != b'";':
            raise ValueError(start)
        return written[first:end].decode("utf-8", "replace"), end + 2
    if kind != b"a:" or deepest == 0:
        raise ValueError(start)
    colon = written.index(b":", start + 2)
    at = colon + 2
    found: dict[str, Any] = {}
    for _ in range(int(written[start + 2 : colon])):
        key, at = _php(written, at, 0)
        value, at = _php(written, at, deepest - 1)
        found[str(key)] = value
    if written[at : at + 1] != b"}":
        raise ValueError(start)
    return found, at + 1
