"""A message of a platform into events of ours: unwrapped, recognised, once, under pseudonyms."""

import base64
import hashlib
import hmac
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import decode_academic, decode_interaction
from stream.adapters.conversion import KIND, Carried
from stream.adapters.converter import METADATA, Converter, Result
from stream.adapters.detection import FAMILIES, FORMATS
from stream.adapters.pseudonym import as_they_are, pseudonyms
from tests.adapters.platforms import (
    INITIALIZED,
    caliper_answer,
    cloud_event,
    envelope,
    event_id,
    statement,
    xapi_answer,
)
from tests.adapters.recorded import mangled, read

OURS = {
    "type": "quiz_complete", "user_id": "u-1", "topic_id": "fractions", "item_id": "i-1", "correct": True,
    "timestamp": "2026-03-02T10:00:00Z", "name": "Ada", "metadata": {"next_items": ["i-2"], "email": "ada@x.example"},
}  # fmt: skip


def said(result: Result) -> list[dict[str, Any]]:
    """Return the events of a result, each of which its topic's readers accept."""
    for event in result.events:
        (decode_interaction if event.topic == "interactions" else decode_academic)(event.value)
    return [orjson.loads(event.value) for event in result.events]


def counts(result: Result) -> tuple[int, int, int, int]:
    """Return how many were read, converted, ignored and faulty."""
    return result.read, result.converted, len(result.ignored), len(result.faults)


def convert(value: object, **options: Any) -> Result:
    """Return what a converter of its own makes of a message."""
    return Converter(**options).convert(orjson.dumps(value))


def test_each_family_is_recognised() -> None:
    """Mixed in one topic, without being told."""
    converter = Converter()
    for event in (xapi_answer("ada", 1), caliper_answer("bob", 2), OURS):
        assert len(said(converter.convert(orjson.dumps(event)))) == 1


@pytest.mark.parametrize(
    "wrapped",
    [
        [xapi_answer("ada", 1), xapi_answer("ada", 2)],
        {"statements": [xapi_answer("ada", 1), xapi_answer("ada", 2)], "more": ""},
        envelope(caliper_answer("ada", 1), caliper_answer("ada", 2)),
        [cloud_event(xapi_answer("ada", 1)), cloud_event(caliper_answer("ada", 2))],
        cloud_event(envelope(caliper_answer("ada", 1), caliper_answer("ada", 2))),
        [[xapi_answer("ada", 1)], [OURS]],
        cloud_event([OURS, xapi_answer("ada", 1)]),
    ],
)
def test_envelopes_are_opened(wrapped: object) -> None:
    """Lists, statements, sensors' envelopes and CloudEvents, also in one another."""
    result = convert(wrapped)
    assert (counts(result), len(said(result))) == ((2, 2, 0, 0), 2)


def test_cloud_events_come_as_text_and_base64_too() -> None:
    """As senders of other languages write them."""
    raw = orjson.dumps(xapi_answer("ada", 1))
    as_text = cloud_event({}) | {"data": raw.decode()}
    as_base64 = {name: value for name, value in cloud_event({}).items() if name != "data"}
    as_base64 |= {"data_base64": base64.b64encode(raw).decode()}
    assert said(convert(as_text)) == said(convert(as_base64)) == said(convert(xapi_answer("ada", 1)))


def test_one_bad_event_leaves_the_rest_of_its_message() -> None:
    """The fault names its place in the message and the field."""
    bad = xapi_answer("bob", 2)
    del bad["actor"]["mbox"]
    result = convert({"statements": [xapi_answer("ada", 1), bad]})
    assert counts(result) == (2, 1, 0, 1)
    (fault,) = result.faults
    assert fault.place == "statements.1"
    assert fault.detail.startswith("statements.1: actor")


@pytest.mark.parametrize(
    ("raw", "reason", "says"),
    [
        (b"", "not_json", "found: nothing"),
        (b"{", "not_json", "expected JSON in UTF-8"),
        (b"\x00\x00\x00\x00\x07\x02ab", "not_json", "Avro"),
        (b'"text"', "not_an_object", "'text'"),
        (b"null", "not_an_object", "null"),
        (b'{"hello": 1}', "unknown_type", "'hello'"),
        (b"[[[[[[{}]]]]]]", "bad_value", "at most 4 envelopes"),
        (b'{"specversion": "1.0", "type": "a", "source": "b"}', "missing_field", "data: expected"),
        (b'{"specversion": "1.0", "type": "a", "source": "b", "data_base64": "%"}', "bad_value", "data_base64"),
    ],
)
def test_what_cannot_be_read_says_why(raw: bytes, reason: str, says: str) -> None:
    """One fault, one sentence."""
    result = Converter().convert(raw)
    assert counts(result) == (1, 0, 0, 1)
    assert result.faults[0].error.reason == reason
    assert says in result.faults[0].detail


def test_what_is_no_evidence_is_ignored_by_its_kind() -> None:
    """Counted, and no fault."""
    result = convert(statement("ada", 1, verb="http://adlnet.gov/expapi/verbs/preferred"))
    assert (counts(result), result.ignored) == ((1, 0, 1, 0), ["preferred"])


def test_an_event_sent_again_has_its_id_and_comes_once() -> None:
    """In one run it is left out; in another it has the same id, which its readers know."""
    converter = Converter()
    first = said(converter.convert(orjson.dumps(xapi_answer("ada", 1))))
    assert converter.convert(orjson.dumps(xapi_answer("ada", 1))).ignored == ["sent again"]
    assert said(convert(xapi_answer("ada", 1))) == first
    assert first[0]["event_id"] == event_id("ada", 1)


def test_a_statement_taken_back_in_its_own_message_is_left_out() -> None:
    """Wherever the two stand in it."""
    target = xapi_answer("ada", 1)
    voiding = statement("ada", 2, verb="http://adlnet.gov/expapi/verbs/voided")
    voiding["object"] = {"objectType": "StatementRef", "id": target["id"]}
    result = convert([target, voiding])
    assert sorted(result.ignored) == ["voided", "voided"]
    assert said(result) == []


def test_how_long_an_answer_took_follows_from_its_opening() -> None:
    """And says that it does."""
    converter = Converter()
    converter.convert(orjson.dumps(statement("ada", 0, verb=INITIALIZED, item=3)))
    ((answer),) = said(converter.convert(orjson.dumps(xapi_answer("ada", 1, item=3))))
    assert (answer["duration_seconds"], answer["metadata"]["duration_derived"]) == (60.0, True)


def test_an_answer_says_whether_it_is_right_where_only_the_score_does() -> None:
    """By the schema's rule, for readers without it."""
    (low, high) = (said(convert(caliper_answer("ada", 1, score=score)))[0] for score in (0.25, 0.5))
    assert (low["correct"], low["score"]) == (False, 0.25)
    assert (high["correct"], high["score"]) == (True, 0.5)


def test_under_pseudonyms_nobody_is_named() -> None:
    """Neither in events nor in faults; users are HMACs, and metadata has what is allowed."""
    converter = Converter(named=pseudonyms(b"key"))
    bad = xapi_answer("ada", 2)
    bad["timestamp"] = "ada@school.example was here"
    results = [converter.convert(orjson.dumps(e)) for e in (xapi_answer("ada", 1), caliper_answer("ada", 3), OURS, bad)]
    written = b"".join(event.value for result in results for event in result.events).decode()
    written += "".join(fault.detail for result in results for fault in result.faults)
    for personal in ("ada@", "/ada", "Ada", "Lovelace", "school.example", "free text", "u-1"):
        assert personal not in written
    assert "timestamp: expected" in results[-1].faults[0].detail
    (first,) = said(results[0])
    assert first["user_id"] == hmac.new(b"key", b"ada@school.example", hashlib.sha256).hexdigest()
    assert results[0].events[0].user_id == first["user_id"]
    assert all(event["metadata"].keys() <= METADATA for result in results for event in said(result))
    assert said(results[2])[0]["metadata"] == {"next_items": ["i-2"]}


def test_an_id_that_could_be_guessed_is_hidden_under_pseudonyms() -> None:
    """One derived from the content, by whomever; random ones say nothing, and stay."""
    own, derived = xapi_answer("ada", 1), {k: v for k, v in xapi_answer("ada", 1).items() if k != "id"}
    (plain, hidden) = (said(convert(derived, **of))[0]["event_id"] for of in ({}, {"named": pseudonyms(b"key")}))
    assert hidden == hmac.new(b"key", plain.encode(), hashlib.sha256).hexdigest()
    assert said(convert(own, named=pseudonyms(b"key")))[0]["event_id"] == own["id"]
    (ours,) = said(convert(OURS, named=pseudonyms(b"key")))
    assert ours["event_id"] == hmac.new(b"key", said(convert(OURS))[0]["event_id"].encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("named", ["urn:ada@x.example", str(uuid5(NAMESPACE_URL, "edx/ada/problem"))])
def test_an_id_that_may_say_something_is_hidden_under_pseudonyms(named: str) -> None:
    """Of an event, and of the one that it corrects, which are hidden alike."""
    hidden = hmac.new(b"key", named.encode(), hashlib.sha256).hexdigest()
    result = convert(xapi_answer("ada", 1) | {"id": named}, named=pseudonyms(b"key"))
    assert (result.events[0].event_id, said(result)[0]["event_id"]) == (hidden, hidden)
    correction = OURS | {"type": "answer_correction", "event_id": event_id("ada", 2), "corrects": named}
    (corrected,) = said(convert(correction, named=pseudonyms(b"key")))
    assert (corrected["event_id"], corrected["corrects"]) == (event_id("ada", 2), hidden)


ENROLMENT = {
    "type": "enrolment_recorded", "user_id": "u-1", "course_id": "c-1", "timestamp": "2026-03-02T10:00:00Z",
    "context": {"email": "ada@x.example", "mode": "audit"},
}  # fmt: skip


def test_of_an_enrolment_only_what_was_asked_for_goes_on_under_pseudonyms() -> None:
    """By default nothing of what it names as it likes."""
    key = {"named": pseudonyms(b"key")}
    contexts = [
        said(convert(ENROLMENT, **options))[0]["context"]
        for options in ({}, key, {"context_fields": frozenset({"mode"})} | key)
    ]
    assert contexts == [ENROLMENT["context"], {}, {"mode": "audit"}]


def test_free_text_stays_behind_under_pseudonyms() -> None:
    """What followed from an incident, and whatever stands in metadata where something else is meant."""
    incident = {
        "type": "discipline_recorded", "user_id": "u-1", "severity": "minor", "timestamp": "2026-03-02T10:00:00Z",
        "sanction": "Ada was sent home", "metadata": {"kind": "Ada's", "attempt": "Ada's first", "language": "ada@x"},
    }  # fmt: skip
    (event,) = said(convert(incident, named=pseudonyms(b"key")))
    assert "sanction" not in event
    assert event["metadata"] == {"kind": "other"}
    assert said(convert(incident))[0]["sanction"] == "Ada was sent home"
    targets = {"next_items": ["i-2", {"item_id": "i-3", "email": "ada@x.example"}, 4]}
    (answer,) = said(convert(OURS | {"metadata": targets}, named=pseudonyms(b"key")))
    assert answer["metadata"] == {"next_items": ["i-2", {"item_id": "i-3"}]}


@pytest.mark.parametrize(
    "bad",
    [
        ENROLMENT | {"context": {"Ada Lovelace ada@x.example": [1]}},
        ENROLMENT | {"context": {"a: expected Ada, found": [1]}},
        {"Ada": 1, "ada@x.example": 2},
        {"type": "Ada", "user_id": "ada@x.example"},
    ],
    ids=str,
)
@pytest.mark.parametrize("format_", ["auto", "learnerstream"])
def test_a_fault_names_nobody_under_pseudonyms(bad: dict[str, Any], format_: str) -> None:
    """Neither by what a field was called nor by what stood in it."""
    (fault,) = convert(bad, format_=format_, named=pseudonyms(b"key")).faults
    assert "ada" not in fault.detail.lower()
    assert ": expected " in fault.detail
    (plain,) = convert(bad, format_=format_).faults
    assert plain.error.reason == fault.error.reason


def test_an_event_that_was_refused_is_not_remembered() -> None:
    """It comes again, perhaps mended."""
    text = "\ud800"  # which no JSON in UTF-8 holds
    enrolment = {"is_active": True, "mode": text, "user": {"id": 4}, "course": {"course_key": "course-v1:a+b+c"}}
    event = {"enrollment": enrolment, "event_metadata": {"event_type": "x", "time": "2026-03-02T10:00:00Z"}}
    converter = Converter("openedx")
    assert [counts(converter.convert_value(event)) for _ in range(2)] == [(1, 0, 0, 1)] * 2


def test_an_event_above_the_limit_is_refused_whole() -> None:
    """As the worker would; what else was in its message goes on."""
    large = OURS | {"metadata": {"text": "x" * 2_000}}
    converter = Converter(largest_bytes=1_024)
    result = converter.convert(orjson.dumps([large, xapi_answer("ada", 1)]))
    assert counts(result) == (2, 1, 0, 1)
    (fault,) = result.faults
    assert fault.error.reason == "too_large"
    assert fault.detail.startswith("0: expected at most 1024 bytes, found 2")
    assert counts(converter.convert(orjson.dumps(large))) == (1, 0, 0, 1)


def test_a_timeless_statement_sent_again_comes_once() -> None:
    """When it came is no part of what it says."""
    timeless = {k: v for k, v in xapi_answer("ada", 1).items() if k not in {"timestamp", "id"}}
    converter, raw = Converter(), orjson.dumps(timeless)
    results = [converter.convert(raw, (), datetime(2026, 3, day, tzinfo=UTC)) for day in (2, 3)]
    assert [counts(each) for each in results] == [(1, 1, 0, 0), (1, 0, 1, 0)]


RECORDED = [
    *(each for path in sorted(Path(__file__).parent.glob("*/fixtures.jsonl")) for each in read(path)),
    *({"event": json.loads(json.dumps(each))} for each in (OURS, ENROLMENT)),
]


@given(mangled(RECORDED), st.sampled_from(FORMATS), st.booleans())
def test_mangled_messages_have_a_result(case: tuple[dict[str, Any], str], format_: str, is_hidden: bool) -> None:
    """Of all families, as bytes and as values: each event is accounted for, and what goes on can be read."""
    event, kind = case
    named = pseudonyms(b"key") if is_hidden else as_they_are
    raw = json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")
    sent_at = datetime(2026, 3, 2, tzinfo=UTC)
    for result in (
        Converter(format_, named).convert(raw, [("ce_type", kind.encode("utf-8", "replace"))], sent_at),
        Converter(format_, named).convert_value(event, Carried(kind, sent_at)),
    ):
        assert result.read == result.converted + len(result.ignored) + len(result.faults)
        assert len(said(result)) >= result.converted
        assert all(KIND.fullmatch(each) for each in result.ignored)


def test_a_statement_without_a_time_has_that_of_its_message() -> None:
    """As a store would put it down: the CloudEvent's, else the message's; without either it is bad."""
    timeless = {k: v for k, v in xapi_answer("ada", 1).items() if k != "timestamp"}
    sent_at = datetime(2026, 3, 2, 10, tzinfo=UTC)
    raw = orjson.dumps(timeless)
    of_message = said(Converter().convert(raw, (), sent_at))
    of_header = said(Converter().convert(raw, [("ce_time", b"2026-03-02T11:00:00Z")], sent_at))
    inside = orjson.dumps(cloud_event(timeless) | {"time": "2026-03-02T12:00:00Z"})
    of_envelope = said(Converter().convert(inside, (), sent_at))
    moments = [event["timestamp"] for (event,) in (of_message, of_header, of_envelope)]
    assert moments == [f"2026-03-02T{hour}:00:00+00:00" for hour in (10, 11, 12)]
    assert Converter().convert(raw).faults[0].detail.startswith("timestamp: expected")


def test_without_pseudonyms_our_own_events_keep_their_metadata() -> None:
    """They are the sender's; fields that the schema does not know are left out all the same."""
    (event,) = said(convert(OURS))
    assert event["metadata"] == OURS["metadata"]
    assert "name" not in event


def test_every_format_has_a_name() -> None:
    """Settings and commands know the families by these."""
    assert ("auto", *FAMILIES) == FORMATS
    assert set(FAMILIES) == {"xapi", "caliper", "canvas", "openedx", "moodle", "learnerstream"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(JSON, st.sampled_from(FORMATS))
def test_any_json_has_a_result(value: Any, format_: str) -> None:
    """Nothing raises, and everything that was read is accounted for."""
    result = Converter(format_).convert_value(value)
    assert result.read == result.converted + len(result.ignored) + len(result.faults)


@given(st.binary(max_size=200))
def test_any_bytes_have_a_result(raw: bytes) -> None:
    """They come from others."""
    assert Converter().convert(raw).read >= (0 if raw.strip()[:1] == b"[" else 1)


def test_deep_nesting_is_a_fault() -> None:
    """Not the end of the process."""
    deep = b"[" * (10 * sys.getrecursionlimit()) + b"]" * (10 * sys.getrecursionlimit())
    assert len(Converter().convert(deep).faults) == 1
