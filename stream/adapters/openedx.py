"""
Open edX: tracking logs as they are written, in both styles, and what goes over its event bus.

Pure. One line of the log is one `_Line`, whatever its style; `_LINES` says which function knows which event. A page
that the server was asked for has no name but its path.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import orjson

from stream.adapters.conversion import (
    UNSAID,
    Carried,
    Conversion,
    Made,
    Occasion,
    Opened,
    answer,
    grade,
    ignored,
    record,
    view,
)
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
    optional_moment,
    part,
    share,
    text,
)

_FORMAT: Final = "openedx"
BUS: Final = "org.openedx."
"""Begins what the event bus calls its events."""

_BLOCK: Final = re.compile(
    r"(?:block|asset)-v1:[^/?#&\s]+|i4x://[^/\s]+/[^/\s]+/[^/\s]+/[^/?#&\s]+|i4x:;_;_[^/?#&\s]+"
    r"|/c4x/[^/\s]+/[^/\s]+/asset/[^/?#&\s]+"
)
"""The key of a block, or of a file of a course."""

_COURSE: Final = re.compile(r"/courses/(course-v1:[^/?#]+|ccx-v1:[^/?#]+|[^/?#]+/[^/?#]+/[^/?#]+)/([^?#]*)")
_COURSE_OF_BLOCK: Final = re.compile(r"(?:block|asset)-v1:([^+]+\+[^+]+\+[^+@]+)\+type@")
_COURSE_SOMEWHERE: Final = re.compile(r"course-v1:[^/?#&\s\"]+")
_COURSE_KEY: Final = re.compile(r"(?:course|ccx)-v1:[^/?#&\s]+")
_PLACES: Final = frozenset(
    {"courseware", "course", "info", "syllabus", "book", "pdfbook", "htmlbook", "wiki", "jump_to", "jump_to_id"}
)
"""Below a course: pages with something to learn on them, unlike its progress, its settings and its requests."""

_BOOKS: Final = frozenset({"book", "pdfbook", "htmlbook"})
_OF_SOMEBODY: Final = re.compile(
    r"/(?:u|users?|learners|profiles?|progress|accounts?|log(?:in|out)|sign(?:in|out))(?:/|$)", re.IGNORECASE
)
"""In an address of the platform's domain: what follows is who somebody is, or somebody's own."""

_OF_SOMEBODY_ELSEWHERE: Final = re.compile(
    r"/(?:u(?!/\d{1,2}(?:/|$))|users|learners|accounts?)/+[^/]|/(?:log(?:in|out)|sign(?:in|out))(?:/|$)", re.IGNORECASE
)
"""In any other address: with a name after it, which Google's number of an account (`/u/0/`) is not; or the door."""

_MAIL_ADDRESS: Final = re.compile(r"[^/@]@[^/@]*\.[^\W\d_]{2,}")
"""In an address; a user's page (`/@author`) is none, nor is a version (`react@18.2.0`)."""

_STUDIO: Final = re.compile(r"studio\.|.*:18010$", re.IGNORECASE)
"""Begins the host on which courses are written, not taken; developers know it by its port."""

_IN_STUDIO: Final = re.compile(r"/container/(?:block-v1|i4x)|/authoring/course/")
"""In the address of a page on which a course is written."""

_ADDED: Final = frozenset({"id", "module_id", "type", "seek_type", "requested_skip_interval"})
"""Of a view: what the LMS changes before it logs a line, and what is seen, which the item says."""

_NOT_IN_HTML: Final = re.compile(r"(?:[^\w-]|_)+")
_STATIC_PAGE: Final = re.compile(r"[0-9a-f]{32}")
_NAMED: Final = re.compile(r"[A-Za-z_]{1,40}")
_NO_USER: Final = frozenset({"", "None", "null"})
_CORRECTNESS: Final = MappingProxyType({"correct": True, "incorrect": False, "partially-correct": False})
_CERTIFIED: Final = frozenset({"downloadable", "generating"})


class _Line(NamedTuple):
    """
    One line of the tracking log.

    Attributes:
        kind: Its event's name.
        event: All of it.
        payload: What happened, empty where that is no object.
        said: What happened as it stood there.
        context: Where it happened.
        source: `browser`, `server`, `mobile`, `task`, or empty where the line does not say.
        prefix: The place of `said`, for errors.
    """

    kind: str
    event: Mapping[str, Any]
    payload: Mapping[str, Any]
    said: object
    context: Mapping[str, Any]
    source: str
    prefix: str


def is_one(event: Mapping[str, Any]) -> bool:
    """Return whether an object is a line of the tracking log, or came over the event bus."""
    if "event_source" in event or "tracking_log" in event:
        return True
    if "context" in event:
        named = event.get("event_type", event.get("name"))
        return isinstance(named, str) and "verb" not in event and "actor" not in event and "eventname" not in event
    return any(isinstance(event.get(key), dict) for key in _ON_THE_BUS) or _is_shipped(event)


def parts(event: Mapping[str, Any]) -> Sequence[tuple[str, Any]] | None:
    """
    Return the line inside what a log shipper makes of it (`{"message": "… {line}"}`), None where nothing is around it.

    Raises:
        InvalidEvent: If the message holds no JSON.
    """
    if not _is_shipped(event):
        return None
    message: str = event["message"]
    # The process may have logged a head before the line: date, level, user.
    found = _object(message[message.find("{") :])
    if found is None:
        raise bad("message", "a line of the tracking log as JSON", message)
    return [("message", found)]


def convert(event: Mapping[str, Any], carried: Carried = UNSAID) -> Conversion:
    """
    Convert a line of the tracking log, or an event of the event bus.

    Args:
        event: The object; one of the bus may be wrapped in `event_data`.
        carried: Its type on the bus, and when it was sent.

    Raises:
        InvalidEvent: If it says something about learning, and a field that this needs is not as it should be.
    """
    about = part(event, "event_metadata")
    kind = text(about.get("event_type")) or carried.kind
    body = event
    if "event_data" in event:
        body = _object(event["event_data"]) or EMPTY
    if "tracking_log" in body:
        tracked = _object(body["tracking_log"])
        if tracked is None:
            raise bad("tracking_log", "an object", body["tracking_log"])
        return _line(tracked)
    if "context" not in body and "event_source" not in body:
        for key, known in _SIGNALS.items():
            if isinstance(body.get(key), dict):
                return known(body[key], kind, _told_at(event, about) or carried.at)
        if kind.startswith(BUS) or about:
            return ignored(kind)
        for key in _NO_EVIDENCE:
            if key in body:
                return ignored(key)
    return _line(body)


def _line(event: Mapping[str, Any]) -> Conversion:
    kind, other = text(event.get("event_type")), text(event.get("name"))
    if not kind:
        kind = other
    if not kind:
        raise missing("event_type", "the name of the event")
    known = _LINES.get(kind) or _LINES.get(other)
    if known is None and kind[0] != "/":
        return ignored(kind)
    prefix = "data" if event.get("event") is None and "data" in event else "event"
    said = event.get(prefix)
    context = event.get("context")
    context = (context if isinstance(context, dict) else _object(context)) or EMPTY
    payload = (said if isinstance(said, dict) else _object(said)) or EMPTY
    source = text(event.get("event_source")) or text(context.get("event_source"))
    line = _Line(kind, event, payload, said, context, source, prefix)
    return _page(line) if known is None else known(line)


def _object(value: object) -> Mapping[str, Any] | None:
    """Return an object, also one that is written as JSON in a text; None for anything else."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    return value if isinstance(value, dict) else None


def _is_shipped(event: Mapping[str, Any]) -> bool:
    message = event.get("message")
    return isinstance(message, str) and ('"event_type"' in message or '"event_source"' in message)


# Who, when and where


def _learner(line: _Line, *, graded: bool = False) -> str:
    """
    Return whom a line is about, empty for somebody who is not signed in.

    Args:
        line: The line.
        graded: Whether `payload.user_id` is whom it is about; a task or a teacher may have caused it.
    """
    is_there = False
    candidates: tuple[tuple[str, Mapping[str, Any], str], ...] = (
        ("context.user_id", line.context, "user_id"),
        ("username", line.event, "username"),
        ("context.username", line.context, "username"),
    )
    if graded:
        candidates = ((f"{line.prefix}.user_id", line.payload, "user_id"), *candidates[:1])
    for field, where, key in candidates:
        if key in where:
            value = where[key]
            is_there = True
            if value is not None and not (isinstance(value, str) and value.strip() in _NO_USER):
                return needed_name(value, field)
    if not is_there:
        raise missing(candidates[0][0], "a user")
    return ""


def _told(line: _Line, field: str) -> str:
    """Return a text that old lines have beside the event, new ones in its context; empty where there is none."""
    return text(line.event.get(field)) or text(line.context.get(field))


def _when(line: _Line) -> datetime:
    field = "time" if "time" in line.event else "timestamp"
    return moment(line.event.get(field), field)


def _course(line: _Line, *named: str) -> str:
    """Return the course of a line, from its context or from one of the names in it, empty where none says it."""
    course_id = name(line.context.get("course_id")) or name(line.payload.get("course_id"))
    if course_id:
        return course_id
    for each in named:
        block = _COURSE_OF_BLOCK.match(each)
        if block is not None:
            return f"course-v1:{block[1]}"
    page = line.event.get("page") or line.context.get("page")
    found = _COURSE_SOMEWHERE.search(unquote(page)) if isinstance(page, str) else None
    return name(found[0]) if found is not None else ""


def _occasion(line: _Line, user_id: str, course_id: str, what: str) -> Occasion:
    """Return what the line's events have in common; their id is made from all that happened, whatever the style."""
    at = _when(line)
    metadata = {"format": _FORMAT, "kind": "page", "course_id": course_id}
    if line.kind[0] != "/":
        metadata["kind"] = line.kind
    if not course_id:
        del metadata["course_id"]
    # The session is nothing that anybody can guess, unlike a user's number.
    session = name(line.event.get("session") or line.context.get("session"))
    return Occasion(_id(what, user_id, at, session, _digest(line.payload)), user_id, at, metadata)


def _id(what: str, user_id: str, at: datetime, *told: object) -> str:
    return derived(_FORMAT, what, user_id, at.astimezone(UTC).isoformat(), *told)


def _as_sent(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a view says whichever way it came: the bus has it as it was sent, the log as the LMS rewrites it."""
    sent = {key: each for key, each in payload.items() if key not in _ADDED}
    if "current_tab" in sent:
        # Made of it.
        sent.pop("old", None)
        sent.pop("new", None)
    if "current_time" in sent:
        sent["currentTime"] = sent.pop("current_time")
    return sent


def _digest(payload: Mapping[str, Any]) -> str:
    try:
        written = orjson.dumps(payload or None, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # Texts and numbers that JSON can hold, and nobody sends.
        return "\x1f".join(payload)
    return hashlib.blake2b(written, digest_size=16).hexdigest()


# Answers


def _problem_check(line: _Line) -> Conversion:
    # The browser says what was sent in, the server right after it how that was graded.
    if line.source == "browser" or (not line.source and isinstance(line.said, str | list) and not line.payload):
        return ignored("problem_check (browser)")
    if not isinstance(line.said, dict) and not line.payload and line.said is not None:
        raise bad(line.prefix, "an object", line.said)
    user_id = _learner(line)
    if not user_id:
        return ignored("anonymous")
    problem_id = _problem(line)
    attempt = name(line.payload.get("attempts"))
    course_id = _course(line, problem_id)
    occasion = _occasion(line, user_id, course_id, "answer")
    number_of_it = count(attempt)
    if number_of_it is not None:
        occasion.metadata["attempt"] = number_of_it
    inputs = part(line.payload, "correct_map") or part(line.payload, "submission")
    if len(inputs) > 1:
        return _several(line, occasion, problem_id, attempt, inputs)
    if any(_is_queued(each) for each in inputs.values()):
        return ignored("problem_check (queued)")
    correct = _success(line)
    if not correct and inputs and all(_is_blank(line, each) for each in inputs):
        return ignored("problem_check (nothing answered)")
    score = share(number(line.payload.get("grade")), None, number(line.payload.get("max_grade")))
    made = answer(occasion, problem_id, course_id or problem_id, correct=correct, score=score)
    return Conversion((Made("interactions", made, "server", attempt),))


def _several(line: _Line, occasion: Occasion, problem_id: str, attempt: str, inputs: Mapping[str, Any]) -> Conversion:
    """Return the answers to a problem of several questions: one for each, the problem being their topic."""
    answered = part(line.payload, "submission")
    # A question is worth one point unless its author says otherwise, and then the sum does not fit.
    in_points = number(line.payload.get("max_grade")) == len(inputs)
    made: list[Made] = []
    is_graded = False
    for each in inputs:
        graded = part(line.payload, "correct_map", each)
        correct = _CORRECTNESS.get(text(graded.get("correctness")))
        if correct is None:
            correct = flag(part(answered, each).get("correct"))
        if correct is None or _is_queued(graded):
            continue
        is_graded = True
        if (answered and each not in answered) or (not correct and _is_blank(line, each)):
            continue
        points = number(graded.get("npoints")) if in_points else None
        made.append(
            Made(
                "interactions",
                answer(
                    occasion._replace(event_id=name(f"{occasion.event_id}/{each}"), metadata={**occasion.metadata}),
                    _question(problem_id, each),
                    problem_id,
                    correct=correct,
                    score=points if points is not None and 0 <= points <= 1 else None,
                ),
                "server",
                attempt,
            )
        )
    if made:
        return Conversion(tuple(made))
    return ignored("problem_check (nothing answered)" if is_graded else "problem_check (queued)")


def _is_blank(line: _Line, question: str) -> bool:
    """Return whether a question was left as it was; where that was right, it was meant."""
    submitted, answers = part(line.payload, "submission", question), part(line.payload, "answers")
    given = [place[key] for place, key in ((submitted, "answer"), (answers, question)) if key in place]
    # A choice that is a picture has no text, but a name.
    return bool(given) and all(map(_is_nothing, given))


def _is_nothing(given: object) -> bool:
    if isinstance(given, str):
        # What a drop-down list says before anything is chosen.
        return not given.strip() or given.endswith("_dummy_default")
    return given is None or given == []


def _question(problem_id: str, question: str) -> str:
    """Return the id of a question of a problem, as the platform's own xAPI names it: the problem's with an ending."""
    before, _, block = problem_id.rpartition("@")
    return name(f"{before}@{question}" if block and question.startswith(block) else f"{problem_id}#{question}")


def _success(line: _Line) -> bool | None:
    success = line.payload.get("success")
    correct = _CORRECTNESS.get(success) if isinstance(success, str) else flag(success)
    if correct is None and success is not None:
        raise bad(f"{line.prefix}.success", "correct or incorrect", success)
    if correct is None and number(line.payload.get("grade")) is None:
        raise missing(f"{line.prefix}.success", "correct or incorrect")
    if correct is None and not number(line.payload.get("max_grade")):
        raise missing(f"{line.prefix}.max_grade", "the points that there are")
    return correct


def _is_queued(graded: object) -> bool:
    return isinstance(graded, dict) and isinstance(graded.get("queuestate"), dict)


def _problem(line: _Line) -> str:
    """Return the problem that a line is about, as its platform names it."""
    usage_key = part(line.context, "module").get("usage_key")
    problem_id = line.payload.get("problem_id") or line.payload.get("module_id")
    return needed_name(usage_key if problem_id is None else problem_id, f"{line.prefix}.problem_id")


_ITEM_BANK: Final = -1  # where the items of a drag-and-drop problem are before they are placed


def _dropped(line: _Line) -> Conversion:
    """An item was dropped on a zone of a drag-and-drop problem: a question of its own each."""
    user_id = _learner(line)
    if not user_id:
        return ignored("anonymous")
    if number(line.payload.get("location_id")) == _ITEM_BANK:
        return ignored(f"{line.kind} (taken back)")
    problem_id = _problem(line)
    correct = flag(line.payload.get("is_correct"))
    if correct is None:
        raise bad(f"{line.prefix}.is_correct", "true or false", line.payload.get("is_correct"))
    dropped = needed_name(line.payload.get("item_id"), f"{line.prefix}.item_id")
    occasion = _occasion(line, user_id, _course(line, problem_id), "answer")
    made = answer(occasion, _question(problem_id, dropped), problem_id, correct=correct)
    return Conversion((Made("interactions", made, "server"),))


def _reset(line: _Line) -> Conversion:
    """A problem was given anew: the next try begins now."""
    user_id = _learner(line)
    if line.source == "browser" or not user_id or not line.payload:
        return ignored(line.kind)
    return ignored(line.kind, (Opened(user_id, _problem(line), _when(line).timestamp()),))


# Views


def _seeing(field: str) -> "_Known":
    """Return what reads an event that names what is seen in a field of its own."""
    return lambda line: _seen(line, needed_name(line.payload.get(field), f"{line.prefix}.{field}"))


def _video(line: _Line) -> Conversion:
    """A video was seen. Phones name its block, which the log turns into what browsers say: the last part of it."""
    block = name(line.payload.get("module_id"))
    if not block or line.payload.get("id") is not None:
        return _seen(line, needed_name(line.payload.get("id"), f"{line.prefix}.id"))
    if block.startswith("i4x://"):
        item_id = _NOT_IN_HTML.sub("_", block.replace("://", "-").replace("/", "-"))
    else:
        item_id = block.rpartition("@")[2]
    return _seen(line, needed_name(item_id, f"{line.prefix}.module_id"), _course(line, block))


def _textbook(line: _Line) -> Conversion:
    if line.kind != "book":
        return _seen(line, needed_name(line.payload.get("chapter"), f"{line.prefix}.chapter"))
    # A page that was asked for by its number is told twice, by `book` too.
    if text(line.payload.get("type")) not in {"nextpage", "prevpage"}:
        return ignored("book")
    book = name(line.payload.get("chapter")) or _book(line)
    return _seen(line, book) if book else ignored("book")


def _book(line: _Line) -> str:
    """Return the book on whose page something happened, as a request for it names it; empty for any other page."""
    below = _COURSE.search(unquote(_told(line, "page")))
    return name(below[0].rstrip("/")) if below is not None and below[2].partition("/")[0] in _BOOKS else ""


def _link(line: _Line) -> Conversion:
    """A link was followed: what it leads to is seen, unless it leads nowhere else."""
    target = line.payload.get("target_url")
    if target is None:
        raise missing(f"{line.prefix}.target_url", "where the link leads")
    came_from = text(line.payload.get("current_url"))
    own = {_host(came_from), _told(line, "host").lower()}
    item_id = _at(text(target), own)
    if not item_id or item_id == _at(came_from, own):
        return ignored(line.kind)
    return _seen(line, item_id)


def _host(url: str) -> str:
    """Return the host of an address in lower case, empty where it names none."""
    scheme, _, rest = url.partition("//")
    return rest.partition("/")[0].lower() if scheme in {"", "http:", "https:"} else ""


def _at(url: str, own: Collection[str] = ()) -> str:
    """
    Return what is to be seen at an address: its block, else the address without its query; empty for nothing to learn.

    Args:
        url: The address.
        own: Hosts of the platform, on which only pages of courses are something to learn.
    """
    address = unquote(url).partition("#")[0].partition("?")[0]
    block = _BLOCK.search(address)
    if block is not None:
        return name(block[0])
    if not address.startswith(("http://", "https://", "/")):
        return ""
    without_course, host = _COURSE_KEY.sub("", address), _host(address)
    plain = without_course.replace("%40", "@")
    if without_course != address or not host or host in own:
        below = _COURSE.search(address)
        is_page = below is not None and _is_to_be_seen(below[2]) and "@" not in plain
    else:
        of_somebody = _OF_SOMEBODY if _is_beside(host, own) else _OF_SOMEBODY_ELSEWHERE
        is_page = "@" not in host and not of_somebody.search(plain) and not _MAIL_ADDRESS.search(plain)
    return name(address.rstrip("/")) if is_page else ""


def _is_beside(host: str, own: Collection[str]) -> bool:
    """Return whether a host is of the platform's domain, as `apps.lake.example` is that of `learn.lake.example`."""
    return any(f".{_without_port(host)}".endswith(f".{_domain(each)}") for each in own if each)


def _domain(host: str) -> str:
    """Return what the hosts of one platform have in common: all but the first part, if that leaves two."""
    named = _without_port(host)
    above = named.partition(".")[2]
    return above if "." in above else named


def _without_port(host: str) -> str:
    """Return a host without its port."""
    return host.partition(":")[0]


def _is_to_be_seen(below: str) -> bool:
    """Return whether a path below a course is one of its pages with something to learn on them."""
    place = below.partition("/")[0]
    return place in _PLACES or _STATIC_PAGE.fullmatch(place) is not None


def _page(line: _Line) -> Conversion:
    """The server was asked for a path: a page, or something that a page needs."""
    path = unquote(line.kind)
    below = _COURSE.match(path)
    place, _, rest = (below[2] if below is not None else path[1:]).partition("/")
    if _STUDIO.match(_told(line, "host")) or _IN_STUDIO.search(_told(line, "referer")):
        return ignored("request")
    if place in {"xblock", "modx"}:
        return _block(line, path, rest)
    item_id = _at(path) if below is not None and _is_to_be_seen(below[2]) else ""
    if below is None or not item_id:
        return ignored("request")
    # The last of chapter, section and position is where in the section.
    if place == "courseware" and rest.strip("/").count("/") > 1:
        item_id = re.sub(r"/\d+$", "", item_id)
    return _seen(line, item_id, name(below[1]))


def _block(line: _Line, path: str, rest: str) -> Conversion:
    """A block was asked for, or something of it: its problem, its transcript, that its answers be graded."""
    found = _BLOCK.search(path)
    block = found[0].replace(";_", "/") if found is not None else ""
    if not block:
        return ignored("request")
    asked = path[found.end() :].strip("/").split("/") if found is not None else []
    if asked == [""]:
        return _seen(line, name(block)) if rest.startswith("block-v1:") else ignored("request")
    if asked[0] in {"handler", "handler_noauth"}:
        asked = asked[1:]
    if asked[-1:] == ["problem_get"]:
        user_id = _learner(line)
        if not user_id:
            return ignored("anonymous")
        return ignored("problem_get", (Opened(user_id, name(block), _when(line).timestamp()),))
    what = asked[-1] if asked and _NAMED.fullmatch(asked[-1]) else "request"
    return ignored(f"{what} (request)" if what != "request" else what)


def _seen(line: _Line, item_id: str, course_id: str = "") -> Conversion:
    user_id = _learner(line)
    if not user_id:
        return ignored("anonymous")
    course_id = course_id or _course(line, item_id)
    occasion = _occasion(line._replace(payload=_as_sent(line.payload)), user_id, course_id, f"view\x1f{item_id}")
    return Conversion((Made("interactions", view(occasion, item_id, course_id or item_id)),))


# What is graded and recorded


class _Graded(NamedTuple):
    """Where a grade's event has what is graded, and its points; `possible` may be a number that is always so."""

    assessment: str
    earned: tuple[str, ...]
    possible: tuple[str, ...] | float


def _grade(line: _Line, where: _Graded) -> Conversion:
    user_id = _learner(line, graded=True)
    if not user_id:
        return ignored("anonymous")
    earned_at, earned = _first(line, where.earned)
    possible_at, possible = ("", where.possible) if isinstance(where.possible, float) else _first(line, where.possible)
    if earned is None or possible is None:
        return ignored(f"{line.kind} (no points)")
    score, most = number(earned), number(possible)
    if score is None or score < 0:
        raise bad(f"{line.prefix}.{earned_at}", "a number that is not negative", earned)
    if most is None or most < 0:
        raise bad(f"{line.prefix}.{possible_at}", "a number that is not negative", possible)
    if most == 0:
        return ignored(f"{line.kind} (no points)")
    assessment_id = line.payload.get(where.assessment)
    if assessment_id is None and where.assessment == "problem_id":
        assessment_id = part(line.context, "module").get("usage_key")
    assessment_id = needed_name(assessment_id, f"{line.prefix}.{where.assessment}")
    course_id = name(line.payload.get("course_id")) or _course(line, assessment_id)
    occasion = _occasion(line, user_id, course_id, f"grade\x1f{line.kind}")
    # Bonus points go beyond what is possible; a grade does not.
    made = grade(occasion, assessment_id, min(score, most), most, course_id=course_id or None)
    return Conversion((Made("academics", made),))


def _first(line: _Line, fields: tuple[str, ...]) -> tuple[str, object]:
    """Return the first of these fields that is there, and what stands in it."""
    for field in fields:
        if field in line.payload:
            return field, line.payload[field]
    raise missing(f"{line.prefix}.{fields[0]}", "points")


def _grading(assessment: str, earned: tuple[str, ...], possible: tuple[str, ...] | float) -> "_Known":
    where = _Graded(assessment, earned, possible)
    return lambda line: _grade(line, where)


def _course_event(line: _Line) -> tuple[str, str]:
    """Return the learner and the course of an event about a course; no learner is somebody not signed in."""
    course_id = line.payload.get("course_id") or line.context.get("course_id")
    return _learner(line, graded=True), needed_name(course_id, f"{line.prefix}.course_id")


def _enrolled(line: _Line) -> Conversion:
    user_id, course_id = _course_event(line)
    if not user_id:
        return ignored("anonymous")
    mode = text(line.payload.get("mode"))
    occasion = _occasion(line, user_id, course_id, "enrolment")
    return _recorded(occasion, "enrolment_recorded", course_id=course_id, context=_context(mode))


def _outcome(outcome: str) -> "_Known":
    def known(line: _Line) -> Conversion:
        user_id, course_id = _course_event(line)
        if not user_id:
            return ignored("anonymous")
        occasion = _occasion(line, user_id, course_id, f"outcome\x1f{line.kind}")
        return _recorded(occasion, "outcome_recorded", outcome=outcome, course_id=course_id)

    return known


def _handed_in(line: _Line) -> Conversion:
    """An open response was handed in; its grade comes later, as that of a problem."""
    user_id = _learner(line)
    if not user_id:
        return ignored("anonymous")
    item_id = _problem(line)
    course_id = _course(line, item_id)
    occasion = _occasion(line, user_id, course_id, "submission")
    made = grade(occasion, item_id, None, None, course_id=course_id or None)
    return Conversion((Made("academics", made),))


def _recorded(occasion: Occasion, kind: str, **fields: Any) -> Conversion:  # noqa: ANN401 (plain JSON values)
    return Conversion((Made("academics", record(occasion, kind, **fields)),))


def _context(mode: str) -> dict[str, str] | None:
    return {"mode": mode[:128]} if mode else None


# The event bus


def _told_at(event: Mapping[str, Any], about: Mapping[str, Any]) -> datetime | None:
    """Return when an event of the bus was sent; what it is about carries no time itself."""
    return optional_moment(about.get("time")) or optional_moment(event.get("time"))


def _bus_occasion(kind: str, user_id: str, course_id: str, at: datetime | None, what: str, *told: object) -> Occasion:
    if at is None:
        raise missing("event_metadata.time", "the time of the event, there or in the header ce_time")
    metadata = {"format": _FORMAT, "kind": kind or what, "course_id": course_id}
    return Occasion(_id(what, user_id, at, course_id, *told), user_id, at, metadata)


def _bus_user(subject: Mapping[str, Any], field: str) -> str:
    user = part(subject, "user")
    user_id = user.get("id")
    return needed_name(part(user, "pii").get("username") if user_id is None else user_id, f"{field}.user.id")


def _bus_course(subject: Mapping[str, Any], field: str) -> str:
    course = part(subject, "course")
    key = course.get("course_key") or course.get("ccx_course_key")
    return needed_name(key, f"{field}.course.course_key")


def _bus_enrolment(subject: Mapping[str, Any], kind: str, at: datetime | None) -> Conversion:
    user_id, course_id = _bus_user(subject, "enrollment"), _bus_course(subject, "enrollment")
    is_active = flag(subject.get("is_active"))
    if is_active is None:
        raise bad("enrollment.is_active", "true or false", subject.get("is_active"))
    mode = text(subject.get("mode"))
    if not is_active:
        occasion = _bus_occasion(kind, user_id, course_id, at, "withdrawal")
        return _recorded(occasion, "outcome_recorded", outcome="withdrawn", course_id=course_id)
    at = at or optional_moment(subject.get("creation_date"))
    occasion = _bus_occasion(kind, user_id, course_id, at, "enrolment", mode)
    return _recorded(occasion, "enrolment_recorded", course_id=course_id, context=_context(mode))


def _bus_passing(subject: Mapping[str, Any], kind: str, at: datetime | None) -> Conversion:
    status = subject.get("status", subject.get("is_passing"))
    # Whoever has not passed yet is "failing", from the first answer on: that is no outcome.
    if status != "passing" and status is not True:
        return ignored(f"{kind or 'course_passing_status'} (not passing)")
    field = "course_passing_status"
    user_id, course_id = _bus_user(subject, field), _bus_course(subject, field)
    occasion = _bus_occasion(kind, user_id, course_id, at, "passed")
    return _recorded(occasion, "outcome_recorded", outcome="pass", course_id=course_id)


def _bus_certificate(subject: Mapping[str, Any], kind: str, at: datetime | None) -> Conversion:
    if text(subject.get("current_status")) not in _CERTIFIED:
        return ignored(f"{kind or 'certificate'} (not issued)")
    user_id, course_id = _bus_user(subject, "certificate"), _bus_course(subject, "certificate")
    occasion = _bus_occasion(kind, user_id, course_id, at, "certified")
    return _recorded(occasion, "outcome_recorded", outcome="pass", course_id=course_id)


def _bus_grade(subject: Mapping[str, Any], kind: str, at: datetime | None) -> Conversion:
    if subject.get("percent_grade") is None:
        return ignored(f"{kind or 'grade'} (no points)")
    score = number(subject["percent_grade"])
    if score is None or score < 0:
        raise bad("grade.percent_grade", "a number from 0 to 1", subject["percent_grade"])
    user_id = needed_name(subject.get("user_id"), "grade.user_id")
    course_id = _bus_course(subject, "grade")
    occasion = _bus_occasion(kind, user_id, course_id, at, "course grade", score)
    made = grade(occasion, course_id, min(score, 1.0), 1.0, course_id=course_id)
    return Conversion((Made("academics", made),))


_Signal = Callable[[Mapping[str, Any], str, "datetime | None"], Conversion]
_Known = Callable[[_Line], Conversion]

_SIGNALS: Final[Mapping[str, _Signal]] = MappingProxyType(
    {
        "enrollment": _bus_enrolment,
        "course_passing_status": _bus_passing,
        "certificate": _bus_certificate,
        "grade": _bus_grade,
    }
)
_NO_EVIDENCE: Final = ("exam_attempt", "xblock_info", "cohort")
_ON_THE_BUS: Final = ("event_data", *_SIGNALS, *_NO_EVIDENCE)

_LINES: Final[Mapping[str, _Known]] = MappingProxyType(
    {
        "problem_check": _problem_check,
        "save_problem_check": _problem_check,  # until October 2013
        "edx.drag_and_drop_v2.item.dropped": _dropped,
        "reset_problem": _reset,
        # What becomes of its speed, its captions and its menus is no view of a video.
        **dict.fromkeys(
            (
                "load_video", "play_video", "pause_video", "seek_video", "stop_video", "complete_video",
                "edx.video.loaded", "edx.video.played", "edx.video.paused", "edx.video.position.changed",
                "edx.video.seeked", "edx.video.stopped",
            ),
            _video,
        ),
        **dict.fromkeys(
            (
                "seq_goto", "seq_next", "seq_prev", "edx.ui.lms.sequence.next_selected",
                "edx.ui.lms.sequence.previous_selected", "edx.ui.lms.sequence.tab_selected",
                "edx.ui.lms.jump_nav.selected", "edx.forum.thread.viewed",
            ),
            _seeing("id"),
        ),
        "edx.bookmark.accessed": _seeing("component_usage_id"),
        "edx.ui.lms.link_clicked": _link,
        "edx.ui.lms.outline.selected": _link,
        "book": _textbook,
        "textbook.pdf.page.navigated": _textbook,
        "textbook.pdf.thumbnail.navigated": _textbook,
        "textbook.pdf.chapter.navigated": _textbook,
        "edx.grades.problem.submitted": _grading("problem_id", ("weighted_earned",), ("weighted_possible",)),
        "edx.problem.completed": _grading("problem_id", ("weighted_earned",), ("weighted_possible",)),
        "edx.grades.problem.rescored": _grading(
            "problem_id", ("new_weighted_earned", "weighted_earned"), ("new_weighted_possible", "weighted_possible")
        ),
        "edx.grades.problem.score_overridden": _grading(
            "problem_id", ("new_weighted_earned", "weighted_earned"), ("new_weighted_possible", "weighted_possible")
        ),
        "edx.grades.subsection.grade_calculated": _grading(
            "block_id", ("weighted_total_earned",), ("weighted_total_possible",)
        ),
        "edx.grades.course.grade_calculated": _grading("course_id", ("percent_grade",), 1.0),
        "edx.course.grade.passed.first_time": _outcome("pass"),
        "edx.course.grade.now_passed": _outcome("pass"),
        "edx.certificate.created": _outcome("pass"),
        "edx.course.enrollment.activated": _enrolled,
        "edx.course.enrollment.deactivated": _outcome("withdrawn"),
        "openassessmentblock.create_submission": _handed_in,
    }
)  # fmt: skip
