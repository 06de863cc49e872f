"""
What becomes of Caliper events, of the standard and of its best known senders.

`fixtures.jsonl` has an event, or an envelope, a line with what must come of it: `expected` events (`*` for an id that
is derived), `ignored` as what, or the field that is `bad`; `opened` where a question was shown.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import InvalidEvent
from stream.adapters import caliper, canvas
from stream.adapters.conversion import KIND, Conversion
from stream.adapters.converter import METADATA
from stream.adapters.once import TWIN, Once
from tests.adapters.recorded import Event, copy_of, decoded, mangled, read

RECORDED = read(Path(__file__).with_name("fixtures.jsonl"))
of = partial(copy_of, RECORDED)
PERSONAL = ("Petrova", "school.example", "192.0.2.7", "Mozilla", "secret", "S-1", "Bo Li", "auto-graded")


def inside(event: Event) -> list[Event]:
    """Return the events in an envelope, or the one that is none."""
    held = caliper.parts(event)
    return [event] if held is None else [each for _, each in held if isinstance(each, dict)]


def conversions(event: Event) -> list[Conversion]:
    """Return what becomes of an event, or of each in an envelope."""
    return [caliper.convert(each) for each in inside(event)]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each["name"])
def test_what_becomes_of_an_event(recorded: Event) -> None:
    """As it is recorded: events, what was ignored, or the field that is wrong."""
    if "bad" in recorded:
        with pytest.raises(InvalidEvent) as error:
            conversions(recorded["event"])
        assert error.value.detail.startswith(f"{recorded['bad']}: expected ")
        return
    found = conversions(recorded["event"])
    made = [decoded(each) for conversion in found for each in conversion.made]
    expected = recorded.get("expected", [])
    assert [
        each | {"event_id": "*"} if like["event_id"] == "*" else each for each, like in zip(made, expected, strict=True)
    ] == expected
    assert [list(opened) for conversion in found for opened in conversion.opened] == recorded.get("opened", [])
    if "ignored" in recorded:
        assert [conversion.ignored for conversion in found] == [recorded["ignored"]]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each["name"])
def test_an_event_is_recognised(recorded: Event) -> None:
    """By its shape, in an envelope and out of it."""
    assert caliper.is_one(recorded["event"])
    assert all(caliper.is_one(each) for each in inside(recorded["event"]))


@pytest.mark.parametrize(
    "event",
    [
        {"user_id": "ada", "type": "quiz_complete", "topic_id": "fractions"},
        {"actor": {"mbox": "mailto:a@x.example"}, "verb": {"id": "answered"}, "object": {"id": "q"}},
        {"statements": []},
        {"metadata": {"event_name": "grade_change"}, "body": {"grade": "8"}},
        {"event_type": "problem_check", "event": {"success": "correct"}, "context": {"user_id": 4}},
        {"eventname": "\\mod_quiz\\event\\attempt_submitted", "action": "submitted", "objectid": "4", "userid": "4"},
        {"specversion": "1.0", "type": "org.example.CourseEvent", "data": {}},
        {"data": [1, 2]},
        {},
    ],
    ids=["ours", "xapi", "xapi envelope", "canvas", "open edx", "moodle", "cloud event", "data", "nothing"],
)  # fmt: skip
def test_other_events_are_not_taken_for_caliper(event: Event) -> None:
    """What other platforms send is theirs."""
    assert not caliper.is_one(event)


@pytest.mark.parametrize("recorded", [each for each in RECORDED if each.get("expected")], ids=lambda each: each["name"])
def test_nothing_personal_goes_on(recorded: Event) -> None:
    """Names, addresses and logins stay where they are; metadata has nothing but what may go on."""
    for conversion in conversions(recorded["event"]):
        for made in conversion.made:
            written = json.dumps(made.event)
            assert not [each for each in PERSONAL if each in written]
            assert made.event["metadata"].keys() <= METADATA


def test_an_answer_and_its_grade_are_one() -> None:
    """The response and the score name the same attempt, however long the grading takes."""
    once = Once()
    answered = caliper.convert(of("a question was answered, success as text"))
    graded = of("a question was graded; its attempt is part of another") | {"eventTime": "2026-03-02T11:45:00Z"}
    assert once.sift(answered)[1] == []
    assert once.sift(caliper.convert(graded)) == ([], [TWIN])


def test_an_open_edx_check_and_its_gradebook_are_one() -> None:
    """The gradebook's event names no attempt, but comes at once; its type is what tells the two apart."""
    once = Once()
    check, book = of("Open edX: a problem was checked"), of("Open edX: the same, as the gradebook says it")
    book["eventTime"] = "2026-03-02T09:30:01.250Z"
    assert once.sift(caliper.convert(check))[1] == []
    assert once.sift(caliper.convert(book)) == ([], [TWIN])


def test_an_event_without_an_id_keeps_its_own() -> None:
    """The same content gives the same id, another score another."""
    event = of("1.0, Moodle: a teacher graded an assignment")
    regraded = of("1.0, Moodle: a teacher graded an assignment")
    regraded["generated"]["totalScore"] = 42.0
    first, again, other = (caliper.convert(each).made[0].event["event_id"] for each in (event, dict(event), regraded))
    assert first == again != other


@pytest.mark.parametrize(
    "said",
    [
        {"success": "TRUE"}, {"success": 1}, {"is_correct": "yes"}, {"answered-correctly": True},
        {"https://x.example/ext#correct": "true"}, {"x.example:correct": "1"}, {"com.acme": {"wasCorrect": True}},
        {"correctness": "correct"}, [{"other": 1}, {"success": True}],
    ],
    ids=str,
)  # fmt: skip
def test_senders_have_many_words_for_right(said: Any) -> None:
    """In extensions of the event, its object, the response or the attempt at it."""
    for where in ("event", "object", "generated", "attempt"):
        event = of("a question was answered, and nobody says how")
        entity = {
            "event": event,
            "object": event["object"],
            "generated": event["generated"],
            "attempt": event["generated"]["attempt"],
        }[where]
        entity["extensions"] = said
        (made,) = caliper.convert(event).made
        assert made.event["correct"] is True
        assert "score" not in made.event


@given(st.text(), st.text())
def test_labels_are_few(type_: str, action: str) -> None:
    """Whatever a sender calls its events, a count's label is plain."""
    event = {"@context": "http://purl.imsglobal.org/ctx/caliper/v1p2", "type": f"{type_}Event", "action": action}
    try:
        label = caliper.convert(event).ignored
    except InvalidEvent:
        return
    assert KIND.fullmatch(label)
    assert "@" not in label


LEARNER = "https://campus.example/people/ana"


@pytest.mark.parametrize(
    ("attempt", "assessment_id"),
    [
        ("https://x.example/assess/1/users/554433/attempts/2", "https://x.example/assess/1"),
        ("https://x.example/assess/1/attempts/2", "https://x.example/assess/1"),
        ("https://x.example/assess/1/attempts/2/results/3", "https://x.example/assess/1"),
        ("https://x.example/users/554433/attempts/2", None),
        ("urn:uuid:6f2a9b1c-5c1e-4a7b-9d20-3f6b8e0c4d5a", None),
    ],
)
def test_what_was_attempted_stands_before_its_learner(attempt: str, assessment_id: str | None) -> None:
    """In the IRI of an attempt that says no more; a learner's attempt is no assessment of its own."""
    event = of("a quiz was graded by a machine") | {
        "object": {"id": attempt, "type": "Attempt", "assignee": LEARNER},
    }
    if assessment_id is None:
        with pytest.raises(InvalidEvent, match=r"object\.assignable: expected"):
            caliper.convert(event)
    else:
        assert caliper.convert(event).made[0].event["assessment_id"] == assessment_id


def test_a_piece_of_work_keeps_its_name() -> None:
    """Though it may stand below its learner's: it is no attempt."""
    event = of("a quiz was graded by a machine")
    essay = "https://x.example/users/554433/essays/2"
    event["object"]["assignable"] = {"id": essay, "type": "AssignableDigitalResource"}
    assert caliper.convert(event).made[0].event["assessment_id"] == essay
    event["object"] = event["object"]["assignable"] | {"assignee": LEARNER}
    assert caliper.convert(event).made[0].event["assessment_id"] == essay


def test_a_bare_attempt_at_a_question_is_an_answer_to_it() -> None:
    """By what its IRI says."""
    event = of("a quiz was graded by a machine")
    event["object"] = f"{LEARNER.partition('/people')[0]}/quizzes/3/items/7/users/ana/attempts/1"
    event["actor"] = LEARNER
    ((_, made, *_),) = caliper.convert(event).made
    assert (made["type"], made["item_id"]) == ("quiz_complete", "https://campus.example/quizzes/3/items/7")


@pytest.mark.parametrize(
    ("urn", "asset_type"),
    [
        ("assignment", "assignment"), ("attachment", "attachment"), ("quizzes:quiz", "quizzes:quiz"),
        ("wikiPage", "wiki_page"), ("discussion", "discussion_topic"), ("web_conference", "web_conference"),
        ("lti/tool_proxy", "lti/tool_proxy"), ("course", "course"),
    ],
)  # fmt: skip
def test_both_forms_of_canvas_give_one_item(urn: str, asset_type: str) -> None:
    """Also where they have two words for a kind; each kind is counted apart."""
    seen = of("Canvas: an assignment was seen")
    seen["object"] = {"id": f"urn:instructure:canvas:{urn}:144", "type": "Entity"}
    about = {"event_name": "asset_accessed", "event_time": seen["eventTime"], "user_id": "41180000000000051"}
    own = {"metadata": about, "body": {"asset_id": "144", "asset_type": asset_type}}
    (made,), (also,) = caliper.convert(seen).made, canvas.convert(own).made
    assert made.event["item_id"] == also.event["item_id"]
    assert made.event["user_id"] == also.event["user_id"]


def test_a_view_of_a_file_is_none_of_a_quiz() -> None:
    """Though Canvas gives them one number."""
    once, seen = Once(), of("Canvas: an assignment was seen")
    seen["object"] = {"id": "urn:instructure:canvas:attachment:144", "type": "Entity"}
    answered = of("a question was answered, success as text") | {"eventTime": "2026-03-02T09:31:00.000Z"}
    answered["actor"] = answered["generated"]["attempt"]["assignee"] = seen["actor"]["id"]
    answered["object"]["id"] = "urn:instructure:canvas:quiz:144"
    for field in ("startedAtTime", "endedAtTime", "duration"):
        answered["generated"]["attempt"].pop(field, None)
    once.sift(caliper.convert(seen))
    ((made,), _) = once.sift(caliper.convert(answered))
    assert made.event["item_id"] == "quiz:144"
    assert "duration_seconds" not in made.event


def test_an_attempt_is_a_number_or_nothing() -> None:
    """Senders may write anything there."""
    for said, kept in ((2, {"attempt": 2}), ("3", {"attempt": 3}), ("Ada's third", {}), (1e300, {})):
        event = of("a quiz was graded by a machine")
        event["object"]["count"] = said
        (made,) = caliper.convert(event).made
        assert {k: v for k, v in made.event["metadata"].items() if k == "attempt"} == kept


@given(mangled(RECORDED))
def test_a_mangled_event_raises_nothing_else(case: tuple[Event, str]) -> None:
    """Whatever stands where, it becomes what our readers accept, is ignored, or is refused by name."""
    event, _ = case
    caliper.is_one(event)
    for each in inside(event):
        caliper.is_one(each)
        try:
            made = caliper.convert(each).made
        except InvalidEvent:
            continue
        assert all(decoded(every) for every in made)
