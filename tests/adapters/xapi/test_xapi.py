"""
What becomes of xAPI statements: examples of each sender, and what holds whatever stands in them.

`fixtures.jsonl` has a statement a line with what must come of it: `expected` events, `ignored` as what, or the field
that is `bad`; `opened`, `voids`, `witness` and `attempt` where they say something.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import InvalidEvent
from schemas.events import ACADEMIC, INTERACTION
from stream.adapters import xapi
from stream.adapters.conversion import Carried, Conversion
from stream.adapters.once import UNCHANGED, Once
from tests.adapters.recorded import ODD, Event, mangled, read

FIXTURES = read(Path(__file__).with_name("fixtures.jsonl"))
ANY = next(each["event"] for each in FIXTURES if each["name"] == "h5p: a question of a set")


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture["name"])
def test_a_statement_becomes_what_it_says(fixture: dict[str, Any]) -> None:
    """Each example gives its events, the name of what it is, or the field that is wrong."""
    event = fixture["event"]
    if "bad" in fixture:
        with pytest.raises(InvalidEvent) as caught:
            xapi.convert(event)
        assert caught.value.detail.startswith(f"{fixture['bad']}: expected ")
        return
    found = xapi.convert(event)
    assert [made.event for made in found.made] == fixture.get("expected", [])
    assert found.ignored == fixture.get("ignored", "")
    assert [list(opened) for opened in found.opened] == fixture.get("opened", [])
    assert found.voids == fixture.get("voids", "")
    for made in found.made:
        assert made.witness == fixture.get("witness", made.witness)
        assert made.attempt == fixture.get("attempt", made.attempt)
    assert_valid(found)


def assert_valid(conversion: Conversion) -> None:
    """Fail if an event is not one that the worker reads."""
    for made in conversion.made:
        adapter: Any = INTERACTION if made.topic == "interactions" else ACADEMIC
        assert adapter.validate_json(json.dumps(made.event)).event_id == made.event["event_id"]


def test_fixtures_are_recognised() -> None:
    """Each example is seen to be a statement, unless it has no verb at all."""
    assert all(xapi.is_one(fixture["event"]) for fixture in FIXTURES)


@pytest.mark.parametrize(
    "event",
    [
        {"user_id": "ada", "type": "quiz_complete", "topic_id": "fractions"},
        {"@context": "http://purl.imsglobal.org/ctx/caliper/v1p2", "actor": {}, "object": {}, "action": "Graded"},
        {"sensor": "https://lms.example", "data": [], "dataVersion": "http://purl.imsglobal.org/ctx/caliper/v1p2"},
        {"metadata": {"event_name": "grade_change"}, "body": {"grade": "8"}},
        {"event_type": "problem_check", "event": {"success": "correct"}, "context": {"user_id": 4}},
        {"eventname": "\\mod_quiz\\event\\attempt_submitted", "userid": "4", "relateduserid": "7"},
        {"statement": "SELECT 1"},
        {},
    ],
    ids=["ours", "caliper", "caliper envelope", "canvas", "open edx", "moodle", "sql", "nothing"],
)
def test_other_events_are_not_taken_for_statements(event: dict[str, Any]) -> None:
    """What other platforms send is theirs."""
    assert not xapi.is_one(event)


def test_a_statement_is_no_envelope() -> None:
    """A statement stands for itself, even if its context names another one."""
    assert xapi.parts(ANY | {"statement": {"verb": {}}}) is None


def test_a_stores_answer_is_taken_apart() -> None:
    """What an LRS answers has statements, each with its place."""
    envelope = {"statements": [ANY, None], "more": ""}
    assert xapi.is_one(envelope)
    assert xapi.parts(envelope) == [("statements.0", ANY), ("statements.1", None)]


def test_a_stored_document_is_taken_apart() -> None:
    """What Learning Locker stores has the statement beside what it is filed under; its mark of a voided one counts."""
    document = {"statement": ANY, "stored": "2026-03-02T09:15:01Z", "voided": False, "hash": "92ef"}
    assert xapi.is_one(document)
    assert xapi.parts(document) == [("statement", ANY)]
    (_, voided), *rest = xapi.parts(document | {"voided": True}) or []
    assert xapi.convert(voided).ignored == "voided"
    assert not rest


def test_a_tree_of_statements_is_taken_apart() -> None:
    """H5P puts the statements of a set's questions below the set's own."""
    child = {"statement": ANY, "children": []}
    assert xapi.parts({"statement": ANY, "children": [child]}) == [("statement", ANY), ("children.0", child)]


def test_a_statement_sent_again_has_the_same_id() -> None:
    """Without an id of its own, the content says which one it is."""
    bare = {field: value for field, value in ANY.items() if field != "id"}
    first, again = xapi.convert(bare), xapi.convert(json.loads(json.dumps(bare)))
    later = xapi.convert(bare | {"timestamp": "2026-03-02T09:15:01Z"})
    assert first == again
    assert first.made[0].event["event_id"] != later.made[0].event["event_id"]


def test_a_statement_sent_again_has_the_same_id_whenever_it_comes() -> None:
    """What a browser sends has neither an id nor a time; when it came is no part of what it says."""
    bare = {field: value for field, value in ANY.items() if field not in {"id", "timestamp", "stored"}}
    days = [datetime(2026, 3, day, tzinfo=UTC) for day in (2, 3)]
    (first,), (again,) = (xapi.convert(bare, Carried(at=at)).made for at in days)
    assert first.event["event_id"] == again.event["event_id"]
    assert [made.event["timestamp"] for made in (first, again)] == [at.isoformat() for at in days]
    assert first.event["metadata"]["timestamp_derived"] is True


@pytest.mark.parametrize(
    ("mbox", "user_id"),
    [
        ("mailto:Ada@X.Example", "Ada@x.example"),
        ("MAILTO:ada@x.example", "ada@x.example"),
        ("Ada", "Ada"),
    ],
)
def test_hosts_of_addresses_are_alike_in_any_case(mbox: str, user_id: str) -> None:
    """What stands before the @ is the host's to read."""
    (made,) = xapi.convert(ANY | {"actor": {"mbox": mbox}}).made
    assert made.event["user_id"] == user_id


def test_an_attempt_is_a_number_or_nothing() -> None:
    """The extension may hold any text; two statements of one attempt are known by it all the same."""
    for said, kept in (("12", 12), (12, 12), ("ada@x.example", None)):
        event = json.loads(json.dumps(ANY))
        event["object"]["definition"]["extensions"] = {"http://id.tincanapi.com/extension/attempt-id": said}
        (made,) = xapi.convert(event).made
        assert made.event["metadata"].get("attempt") == kept
        assert made.attempt == str(said)


def test_a_verb_of_the_senders_own_is_no_label() -> None:
    """It may be anything, an address too."""
    verb = {"id": "https://x.example/verbs/ada@x.example"}
    assert xapi.convert(ANY | {"verb": verb}).made[0].event["metadata"]["kind"] == "other"
    activity = {"id": "https://x.example/lesson", "definition": {"type": "http://adlnet.gov/expapi/activities/lesson"}}
    assert xapi.convert(ANY | {"verb": verb, "object": activity}).ignored == "other"


def test_only_what_is_needed_goes_on() -> None:
    """Names, responses, addresses and texts of questions stay behind."""
    made = [made.event for each in FIXTURES if "expected" in each for made in xapi.convert(each["event"]).made]
    written = json.dumps(made)
    for secret in ("Ada N.", "Lena Fuchs", "Answer 1", "Well done", "Mozilla", "Fractions", "homePage", "We agreed"):
        assert secret not in written


def test_what_the_grades_say_of_a_problem_is_no_second_answer() -> None:
    """Open edX says an answer twice: as what the server found, and as what goes into the grades."""
    names = ("open edx: problem_check of the server", "open edx: a problem was submitted to the grades")
    found, graded = (xapi.convert(each["event"]).made[0] for name in names for each in FIXTURES if each["name"] == name)
    assert (found.event["type"], graded.event["type"]) == ("quiz_complete", "grade_recorded")
    assert found.event["item_id"] == graded.event["assessment_id"]


def lesson(verb: str, at: str, result: Event | None = None, **context: Any) -> Event:
    """Return a statement of how a learner stands in a lesson."""
    return {
        "actor": {"account": {"homePage": "http://lms.example", "name": "7"}},
        "verb": {"id": f"http://adlnet.gov/expapi/verbs/{verb}"},
        "object": {"id": "http://scorm.example/sco/1", "definition": {"type": f"{ACTIVITIES}/lesson"}},
        "timestamp": at,
        "context": context,
        **({} if result is None else {"result": result}),
    }


ACTIVITIES = "http://adlnet.gov/expapi/activities"
VERDICTS = ("failed", "passed", "failed")


def told_once(*events: Event) -> list[Event]:
    """Return the events of ours that are left of statements that come one after the other."""
    once = Once()
    return [made.event for event in events for made in once.sift(xapi.convert(event))[0]]


def in_attempt(name: str) -> Event:
    """Return a context that names an attempt."""
    attempt = {"id": f"http://scorm.example/sco/1?attempt={name}", "definition": {"type": f"{ACTIVITIES}/attempt"}}
    return {"contextActivities": {"grouping": [attempt]}}


def test_a_lesson_that_was_passed_is_passed_once() -> None:
    """Each session ends by saying it again, another day too; none of that is an answer, or took the learner time."""
    success = {"success": True, "completion": True}
    log = [
        lesson("passed", "2026-03-02T09:10:00Z", **in_attempt("a")),
        lesson("terminated", "2026-03-02T09:15:00Z", success, **in_attempt("a")),
        lesson("resumed", "2026-03-03T10:00:00Z", **in_attempt("a")),
        lesson("terminated", "2026-03-03T10:05:00Z", success, **in_attempt("a")),
        lesson("passed", "2026-03-03T10:30:00Z", **in_attempt("b")),
    ]
    assert [each["timestamp"][:16] for each in told_once(*log)] == ["2026-03-02T09:10", "2026-03-03T10:30"]


def test_a_lesson_that_names_no_attempt_is_passed_once_a_day() -> None:
    """As Moodle's plugin says it whenever a package commits; a verdict that changes counts, and a score is a grade."""
    moments = ("09:10", "09:16", "09:40")
    assert len(told_once(*(lesson("passed", f"2026-03-02T{at}:00Z") for at in moments))) == 1
    changed = [lesson(verb, f"2026-03-02T{at}:00Z") for verb, at in zip(VERDICTS, moments, strict=True)]
    assert [each["correct"] for each in told_once(*changed)] == [False, True, False]
    scored = [lesson("terminated", f"2026-03-02T{at}:00Z", {"score": {"scaled": 0.5}}) for at in moments]
    assert [each["type"] for each in told_once(*scored)] == ["grade_recorded"] * 3


def test_a_lesson_whose_attempt_is_named_late_is_passed_once_in_it() -> None:
    """What was said before without an attempt is of the one that is named first; the next is another."""
    log = [
        lesson("completed", "2026-03-02T09:10:00Z", {"success": True}),
        lesson("passed", "2026-03-02T09:10:01Z", **in_attempt("a")),
        lesson("passed", "2026-03-02T10:00:00Z", **in_attempt("b")),
    ]
    assert [each["timestamp"][11:16] for each in told_once(*log)] == ["09:10", "10:00"]


def test_a_lesson_that_is_failed_after_all_has_changed() -> None:
    """Though another verb said the same of the same attempt before."""
    log = [
        lesson("failed", "2026-03-02T09:00:00Z", **in_attempt("a")),
        lesson("passed", "2026-03-02T09:10:00Z", **in_attempt("a")),
        lesson("terminated", "2026-03-02T09:20:00Z", {"success": False}, **in_attempt("a")),
    ]
    assert [each["correct"] for each in told_once(*log)] == [False, True, False]


def test_the_attempt_of_a_lesson_is_what_is_closest_to_it() -> None:
    """The activity's own extension, an attempt beside it, the context's extension, the session."""
    extension = "http://id.tincanapi.com/extension/attempt-id"
    session = "https://w3id.org/xapi/cmi5/context/extensions/sessionid"
    context = in_attempt("a") | {"extensions": {extension: "in context", session: "s"}}
    event = lesson("passed", "2026-03-02T09:10:00Z") | {"context": context}
    event["object"]["definition"]["extensions"] = {extension: "its own"}
    found = []
    for place, closest in (
        (event["object"]["definition"], "extensions"),
        (context, "contextActivities"),
        (context["extensions"], extension),
        (context, "extensions"),
    ):
        found += [made.attempt for made in xapi.convert(event).made]
        del place[closest]
    assert found == ["its own", "http://scorm.example/sco/1?attempt=a", "in context", "s"]
    assert [made.attempt for made in xapi.convert(event).made] == [""]


def test_each_session_of_cmi5_has_its_verdict() -> None:
    """One registration lasts over all of them, and is no attempt."""
    session = "https://w3id.org/xapi/cmi5/context/extensions/sessionid"
    log = [
        lesson("failed", f"2026-03-02T{at}:00Z", {"success": False}, registration="r", extensions={session: of})
        for of, at in (("s-1", "09:10"), ("s-1", "09:12"), ("s-2", "09:40"))
    ]
    assert [each["timestamp"][11:16] for each in told_once(*log)] == ["09:10", "09:40"]


def test_an_answer_that_is_given_again_is_an_answer() -> None:
    """Within one attempt too: only how a whole stands is said again and again."""
    question = {"id": "http://scorm.example/q/1", "definition": {"type": f"{ACTIVITIES}/cmi.interaction"}}
    log = [
        lesson("answered", f"2026-03-02T{at}:00Z", {"success": True}, **in_attempt("a")) | {"object": question}
        for at in ("09:10", "09:12")
    ]
    assert len(told_once(*log)) == 2
    assert not any(made.attempt for each in log for made in xapi.convert(each).made)


def test_what_is_left_out_says_why() -> None:
    """It is counted under it."""
    once = Once()
    once.sift(xapi.convert(lesson("passed", "2026-03-02T09:10:00Z")))
    assert once.sift(xapi.convert(lesson("passed", "2026-03-02T09:16:00Z"))) == ([], [UNCHANGED])


def test_a_refusal_names_nobody() -> None:
    """What stands where an actor should may be a name or an address."""
    for actor in ("Ada Lovelace <ada@school.example>", {"mbox": 4, "name": "Ada"}, {"openid": ["ada@school.example"]}):
        with pytest.raises(InvalidEvent) as caught:
            xapi.convert(ANY | {"actor": actor})
        assert caught.value.detail.startswith("actor")
        assert "ada" not in caught.value.detail.lower()


def converted(event: dict[str, Any]) -> Conversion | InvalidEvent:
    """Return what becomes of an event, be it the adapter's error."""
    try:
        return xapi.convert(event)
    except InvalidEvent as error:
        return error


@given(mangled(FIXTURES))
def test_a_mangled_statement_raises_nothing_but_its_error(case: tuple[Event, str]) -> None:
    """Whatever stands in a field, it is read, left out or named; what comes out can be read by the worker."""
    event, _ = case
    xapi.is_one(event)
    xapi.parts(event)
    found = converted(event)
    if isinstance(found, InvalidEvent):
        assert ": expected " in found.detail
        return
    assert bool(found.made) != bool(found.ignored)
    assert len(found.ignored) <= 100
    assert_valid(found)


@given(st.dictionaries(st.sampled_from(["id", "actor", "verb", "object", "result", "context", "timestamp"]), ODD))
def test_no_object_raises_anything_but_its_error(event: dict[str, Any]) -> None:
    """An object of which nothing is as it should be is refused in a sentence."""
    found = converted(event)
    assert isinstance(found, Conversion) or ": expected " in found.detail


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, FINITE, FINITE, FINITE)
def test_scores_stay_within_their_bounds(scaled: float, raw: float, lowest: float, highest: float) -> None:
    """A share is in [0, 1] and a grade at most the highest, whatever the four numbers say."""
    score = {"scaled": scaled, "raw": raw, "min": lowest, "max": highest}
    for verb in ("answered", "completed"):
        event = {
            "id": "e", "actor": {"mbox": "mailto:a@b"}, "verb": {"id": verb}, "object": {"id": "i"},
            "timestamp": "2026-03-02T09:15:00Z", "result": {"score": score},
        }  # fmt: skip
        assert_valid(xapi.convert(event))
