"""
What becomes of Canvas's live events, in its own JSON; its Caliper form gives the same.

`fixtures.jsonl` has an event a line with what must come of it: `expected` events (their ids are derived), `ignored` as
what, or the field that is `bad`.
"""

import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given

from schemas import InvalidEvent
from stream.adapters import caliper, canvas
from stream.adapters.conversion import Carried
from stream.adapters.converter import METADATA, Converter
from stream.adapters.once import TWIN
from tests.adapters.recorded import Event, copy_of, decoded, mangled, read

RECORDED = read(Path(__file__).with_name("fixtures.jsonl"))
of = partial(copy_of, RECORDED)
IN_CALIPER = {each["name"]: each for each in read(Path(__file__).parents[1] / "caliper" / "fixtures.jsonl")}
PERSONAL = ("Ana", "ana@", "Bo Li", "192.0.2.7", "Mozilla", "secret", "S-51", "school.example", "essay", "c0ffee")


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each["name"])
def test_what_becomes_of_an_event(recorded: Event) -> None:
    """As it is recorded: events, what was ignored, or the field that is wrong."""
    if "bad" in recorded:
        with pytest.raises(InvalidEvent) as error:
            canvas.convert(recorded["event"])
        assert error.value.detail.startswith(f"{recorded['bad']}: expected ")
        return
    found = canvas.convert(recorded["event"])
    assert [decoded(made) | {"event_id": "*"} for made in found.made] == recorded.get("expected", [])
    assert found.ignored == recorded.get("ignored", "")


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each["name"])
def test_an_event_is_recognised(recorded: Event) -> None:
    """By its two parts; it is no envelope, and no Caliper event."""
    assert canvas.is_one(recorded["event"]) == recorded.get("is_one", True)
    assert canvas.parts(recorded["event"]) is None
    assert not caliper.is_one(recorded["event"])


@pytest.mark.parametrize("recorded", [each for each in RECORDED if each.get("expected")], ids=lambda each: each["name"])
def test_nothing_personal_goes_on(recorded: Event) -> None:
    """Names, logins, addresses and what learners wrote stay where they are."""
    for made in canvas.convert(recorded["event"]).made:
        written = json.dumps(made.event)
        assert not [each for each in PERSONAL if each in written]
        assert made.event["metadata"].keys() <= METADATA


@pytest.mark.parametrize(
    ("native", "standard", "differs"),
    [
        ("an assignment was seen", "Canvas: an assignment was seen", set()),
        ("a quiz was seen", "Canvas: a view, of kind quizzes:quiz", set()),
        ("a page was seen", "Canvas: a view, of kind wikiPage", set()),
        ("a discussion was seen", "Canvas: a view, of kind discussion", set()),
        ("a quiz was handed in", "Canvas: a quiz was handed in", set()),
        ("a teacher graded", "Canvas: an assignment was graded", {"user_id"}),  # another learner's
        ("a student was invited", "Canvas: a student was enrolled by somebody else", set()),
        ("a student left", "Canvas: a student left", set()),
    ],
)
def test_both_forms_say_the_same(native: str, standard: str, differs: set[str]) -> None:
    """Learners, courses, pages, quizzes and assignments have one id in both."""
    (ours,) = canvas.convert(of(native)).made
    (theirs,) = caliper.convert(IN_CALIPER[standard]["event"]).made
    left_out = {"event_id", "metadata", "timestamp"} | differs
    assert ours.topic == theirs.topic
    assert {k: v for k, v in ours.event.items() if k not in left_out} == {
        k: v for k, v in theirs.event.items() if k not in left_out
    }


def test_each_kind_of_item_is_counted_apart() -> None:
    """An assignment, a page and a quiz of one number are three items."""
    names = ("an assignment was seen", "a page was seen", "a quiz was seen", "a discussion was seen")
    items = [canvas.convert(of(name)).made[0].event["item_id"] for name in names]
    assert {each.partition(":")[2] for each in items} == {"41180000000000144"}
    assert len(set(items)) == len(names)


def assessed(skill: str, minute: int, *, mastery: bool, changed: bool = False, attempt: int | None = 1) -> Event:
    """Return the verdict on a skill at one work."""
    event = of("a skill was assessed by a question")
    event["metadata"]["event_name"] = f"learning_outcome_result_{'updated' if changed else 'created'}"
    event["metadata"]["event_time"] = f"2026-03-02T09:{minute:02}:00Z"
    event["body"] |= {"learning_outcome_id": skill, "mastery": mastery, "score": None, "attempt": attempt}
    return event


@pytest.mark.parametrize(("attempt", "minute"), [(1, 59), (None, 1)])
def test_each_skill_of_a_work_has_a_verdict_of_its_own(attempt: int | None, minute: int) -> None:
    """One that is changed is no second statement on another skill, whose verdict was the same; of its own it is."""
    result = Converter("canvas").convert_value(
        [
            assessed("17", 0, mastery=True, attempt=attempt),
            assessed("18", 0, mastery=False, attempt=attempt),
            assessed("18", minute, mastery=True, changed=True, attempt=attempt),
            assessed("17", minute, mastery=True, changed=True, attempt=attempt),
        ]
    )
    verdicts = [json.loads(each.value) for each in result.events]
    assert [(each["skills"], each["correct"]) for each in verdicts] == [(["17"], True), (["18"], False), (["18"], True)]
    assert result.ignored == [TWIN]


def test_the_same_event_has_the_same_id() -> None:
    """However often it comes; at another time, or with another score, it is another."""
    changed, later = of("a teacher graded"), of("a teacher graded")
    changed["body"]["score"] = 8
    later["metadata"]["event_time"] = "2026-03-02T09:30:00.126Z"
    events = [of("a teacher graded"), of("a teacher graded"), changed, later]
    first, again, *others = (canvas.convert(each).made[0].event["event_id"] for each in events)
    assert first == again
    assert len({first, *others}) == 3


def test_the_transport_may_name_an_event() -> None:
    """Where the event itself does not."""
    event = of("a quiz was handed in")
    del event["metadata"]["event_name"]
    assert canvas.convert(event, Carried("quiz_submitted")).made
    with pytest.raises(InvalidEvent):
        canvas.convert(event)


@given(mangled(RECORDED))
def test_a_mangled_event_raises_nothing_else(case: tuple[Event, str]) -> None:
    """Whatever stands where, it becomes what our readers accept, is ignored, or is refused by name."""
    event, kind = case
    canvas.is_one(event)
    try:
        made = canvas.convert(event, Carried(kind)).made
    except InvalidEvent:
        return
    assert all(decoded(each) for each in made)
