"""Open edX's tracking logs and event bus, as events of ours."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from schemas import InvalidEvent
from stream.adapters import moodle, openedx
from stream.adapters.converter import METADATA, Converter
from tests.adapters.recorded import Event, converted, decoded, mangled, read, told

RECORDED = read(Path(__file__).with_name("fixtures.jsonl"))
BY_NAME = {each["name"]: each for each in RECORDED}
PERSONAL = ("mira@", "Mira K", "203.0.113.9", "Firefox", "learn.lake.example/xblock", "secret", "My own words")


@pytest.mark.parametrize("recorded", RECORDED, ids=BY_NAME.keys())
def test_what_becomes_of_an_event(recorded: Event) -> None:
    """As it is recorded: events, or what was ignored, or the field that is wrong."""
    event, kind = recorded["event"], recorded.get("kind", "")
    if "bad" in recorded:
        with pytest.raises(InvalidEvent) as error:
            converted(openedx, event, kind)
        assert error.value.detail.partition(":")[0] == recorded["bad"]
        return
    conversion = converted(openedx, event, kind)
    assert told(conversion) == recorded.get("expected", [])
    assert conversion.ignored == recorded.get("ignored", "")
    assert [[each.user_id, each.item_id] for each in conversion.opened] == recorded.get("opened", [])


@pytest.mark.parametrize("recorded", RECORDED, ids=BY_NAME.keys())
def test_an_event_is_recognised(recorded: Event) -> None:
    """By its shape, whatever it came with, and by no other family."""
    assert openedx.is_one(recorded["event"])
    assert not moodle.is_one(recorded["event"])


@pytest.mark.parametrize("recorded", [each for each in RECORDED if each.get("expected")], ids=lambda each: each["name"])
def test_nothing_personal_goes_on(recorded: Event) -> None:
    """Names, addresses and what learners wrote stay where they are; metadata has nothing but what may go on."""
    for made in converted(openedx, recorded["event"], recorded.get("kind", "")).made:
        written = json.dumps(made.event)
        assert not [each for each in PERSONAL if each in written]
        assert made.event["metadata"].keys() <= METADATA
        assert made.event["metadata"]["format"] == "openedx"


def ids(name: str) -> list[Any]:
    """Return the ids of what a recorded event becomes."""
    recorded = BY_NAME[name]
    return [made.event["event_id"] for made in converted(openedx, recorded["event"], recorded.get("kind", "")).made]


@pytest.mark.parametrize(
    "other",
    [
        "problem_check in the new style",
        "problem_check with data beside time",
        "problem_check over the bus, objects",
        "problem_check over the bus, texts",
        "problem_check over the bus, wrapped",
        "problem_check in a log shipper's message",
    ],
)
def test_one_line_has_one_id(other: str) -> None:
    """Whichever way it came."""
    assert ids("problem_check right") == ids(other)


@pytest.mark.parametrize("name", ["edx.video.played", "edx.video.seeked", "sequence.tab_selected"])
def test_one_view_has_one_id(name: str) -> None:
    """Over the bus as it was sent, in the log as the LMS rewrote it."""
    assert ids(f"{name} over the bus") == ids(f"{name} in the log")


@pytest.mark.parametrize(
    ("name", "field", "other"),
    [
        ("edx.video.played over the bus", "current_time", 4),
        ("edx.video.played over the bus", "module_id", "block-v1:LakeU+GEO101+2026_T1+type@video+block@other"),
        ("edx.video.seeked over the bus", "new_time", 63),
        ("sequence.tab_selected over the bus", "target_tab", 2),
    ],
)
def test_another_view_has_another_id(name: str, field: str, other: object) -> None:
    """Phones count in seconds: of two views of one second, what they say tells them apart."""
    tracked = BY_NAME[name]["event"]["tracking_log"]
    changed = {"tracking_log": {**tracked, "data": {**tracked["data"], field: other}}}
    (made,) = converted(openedx, changed).made
    assert made.event["event_id"] not in ids(name)


@pytest.mark.parametrize("kind", ["seq_goto", "seq_next"])
def test_old_steps_are_told_apart_by_what_they_say(kind: str) -> None:
    """What browsers once sent had nothing but the old and the new place."""
    event = BY_NAME["seq_next"]["event"] | {"event_type": kind, "name": kind}
    steps = [{**event, "event": {"id": "week_two", "old": old, "new": old + 1}} for old in (1, 2)]
    first, second = (converted(openedx, each).made[0].event["event_id"] for each in steps)
    assert first != second


def test_what_the_bus_calls_an_event_tells_its_family() -> None:
    """In a header alone, of most of its events; none of them is a fault, and those that say something are read."""
    login = b'{"user": {"id": 4711, "is_active": true, "pii": {"username": "mira"}}}'
    result = Converter().convert(login, [("ce_type", b"org.openedx.learning.auth.session.login.completed.v1")])
    assert result.ignored == ["org.openedx.learning.auth.session.login.completed.v1"]
    assert Converter().convert(login, [("ce_type", b"org.example.login")]).faults
    passed = BY_NAME["passing over the bus"]
    headers = [("ce_type", passed["kind"].encode()), ("ce_time", b"2026-02-11T08:15:42Z")]
    assert Converter().convert(json.dumps(passed["event"]).encode(), headers).converted == 1


def followed(url: str, host: str = "learn.lake.example") -> list[str]:
    """Return what is seen where a link leads, from a page of a course on this host."""
    event = json.loads(json.dumps(BY_NAME["link_clicked outside"]["event"]))
    event["event"] = {
        "current_url": f"https://{host}/courses/course-v1:LakeU+GEO101+2026_T1/course/",
        "target_url": url,
    }
    event["host"] = host
    return [made.event["item_id"] for made in converted(openedx, event).made]


@pytest.mark.parametrize(
    "url",
    [
        "https://numpy.org/doc/stable/user/index.html",
        "https://docs.google.com/document/u/0/d/1AbC/edit",
        "https://drive.google.com/drive/u/0/folders/1x",
        "https://kubernetes.io/docs/reference/access-authn-authz/users/",
        "https://www.youtube.com/user/crashcourse",
        "https://en.wikipedia.org/wiki/Profile",
        "https://ourworldindata.org/progress/",
        "https://medium.com/@author/x",
        "https://medium.com/@author.of.lakes/x",
        "https://unpkg.com/react@18/umd/react.js",
        "https://unpkg.com/react@18.2.0/umd/react.js",
        "https://library.lake.example/geography/lakes",
        "https://another.example/user/index.html",
    ],
)
def test_what_is_public_elsewhere_is_seen(url: str) -> None:
    """Words that mean somebody on the platform mean anything there."""
    assert followed(url) == [url.rstrip("/")]


@pytest.mark.parametrize(
    "url",
    [
        "https://forum.another.example/u/mira",
        "https://forum.another.example/u/4711/posts",
        "https://forum.another.example/users//mira",
        "https://forum.another.example/learners/mira/posts",
        "https://forum.another.example/account/mira",
        "https://forum.another.example/login",
        "https://maps.example/mira@lake.example",
        "https://maps.example/mira%40lake.example/lakes",
        "https://maps.example/mira%2540lake.example/lakes",
        "https://maps.example/lakes;of=Mira@Mail.Lake.Example;deep",
        "https://maps.example/@/mira@пример.рф",
        "https://mira@maps/lakes",
        "https://account.lake.example:8443/user",
        "https://lake.example/profile",
        "https://people.lake.example/u/0",
        "https://people.lake.example/progress/",
        "https://learn.lake.example/courses/course-v1:LakeU+GEO101+2026_T1/wiki/@mira",
        "https://learn.lake.example/courses/course-v1:LakeU+GEO101+2026_T1/wiki/react%2540",
    ],
)
def test_where_somebody_is_named_nothing_is_seen(url: str) -> None:
    """A mail address anywhere; what is somebody's on the platform's domain; elsewhere a word with a name after it."""
    assert followed(url) == []


def test_a_platform_on_its_domain_itself_has_no_other_hosts_than_below_it() -> None:
    """What is above is everybody's."""
    assert followed("https://another.example/user/lakes", "lake.example") == ["https://another.example/user/lakes"]
    assert followed("https://apps.lake.example/profile", "lake.example") == []


@pytest.mark.parametrize("part", ["a@", "a%40", "@a.", "x@.y", "/u/", "/users", "/u/0"])
def test_a_long_address_takes_no_long_time(part: str) -> None:
    """Whatever is in it again and again: a tenth of a million parts within a second."""
    began = time.process_time()
    followed("https://maps.example/" + part * 100_000)
    assert time.process_time() - began < 1


def test_each_question_has_an_id_of_its_own() -> None:
    """Below that of the check, the same each time."""
    first = ids("problem_check of three questions")
    assert len(set(first)) == len(first)
    assert len({each.partition("/")[0] for each in first}) == 1
    assert first == ids("problem_check of three questions")


def test_another_try_is_another_answer() -> None:
    """By its number, and by its time."""
    event = BY_NAME["problem_check right"]["event"]
    again = {**event, "event": {**event["event"], "attempts": 3}}
    later = {**event, "time": "2026-02-11T08:15:42.120395+00:00"}
    made = [converted(openedx, each).made[0] for each in (event, again, later)]
    assert len({each.event["event_id"] for each in made}) == len(made)
    assert [each.attempt for each in made] == ["2", "3", "2"]
    assert {each.witness for each in made} == {"server"}


@settings(max_examples=500)
@given(mangled(RECORDED))
def test_a_mangled_event_raises_nothing_else(case: tuple[Event, str]) -> None:
    """Whatever stands where, it is converted, ignored, or refused by name."""
    event, kind = case
    openedx.is_one(event)
    with suppress(InvalidEvent):
        for made in converted(openedx, event, kind).made:
            decoded(made)
