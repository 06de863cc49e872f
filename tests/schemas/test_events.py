"""What others send: good events are read whole, bad ones are refused with a reason, and nothing else."""

import json
import math
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from schemas import (
    EnrolmentRecorded,
    GradeRecorded,
    Interaction,
    InvalidEvent,
    Reason,
    Received,
    Target,
    decode_academic,
    decode_erasure,
    decode_interaction,
    decode_request,
    next_items,
)

MOMENT = "2026-01-31T09:30:00Z"
ANSWER: dict[str, Any] = {
    "event_id": "e-1",
    "type": "quiz_complete",
    "user_id": "u-1",
    "topic_id": "fractions",
    "item_id": "i-1",
    "skills": ["fractions", "division"],
    "difficulty": "medium",
    "score": 0.8,
    "correct": True,
    "duration_seconds": 41.5,
    "timestamp": MOMENT,
    "metadata": {"course": {"id": 7, "tags": ["a", None]}},
}
ATTENDANCE = {"type": "attendance_recorded", "user_id": "u-1", "status": "late", "timestamp": MOMENT}
GRADE = {"type": "grade_recorded", "user_id": "u-1", "score": 64, "timestamp": MOMENT}
DISCIPLINE = {"type": "discipline_recorded", "user_id": "u-1", "severity": "minor", "timestamp": MOMENT}
ENROLMENT: dict[str, Any] = {
    "type": "enrolment_recorded",
    "user_id": "u-1",
    "course_id": "c-1",
    "starts_at": MOMENT,
    "context": {"education": "A level", "credits": 60, "attempts": None},
    "timestamp": MOMENT,
}
OVERDUE = {"type": "work_overdue", "user_id": "u-1", "assessment_id": "a-1", "weight": 0.2, "timestamp": MOMENT}
LABEL = {"type": "risk_labelled", "user_id": "u-1", "score": 0.7, "timestamp": MOMENT}
OUTCOME = {"type": "outcome_recorded", "user_id": "u-1", "outcome": "withdrawn", "timestamp": MOMENT}
REQUEST = {"user_id": "u-1", "targets": [{"topic_id": "fractions", "difficulty": "hard"}]}
ERASURE = {"user_id": "u-1"}

Decode = Callable[[bytes], Received]
Case = tuple[Decode, dict[str, Any]]

DECODERS: list[Case] = [
    (decode_interaction, ANSWER),
    (decode_academic, ATTENDANCE),
    (decode_academic, GRADE),
    (decode_academic, DISCIPLINE),
    (decode_academic, OUTCOME),
    (decode_academic, ENROLMENT),
    (decode_academic, OVERDUE),
    (decode_academic, LABEL),
    (decode_request, REQUEST),
    (decode_erasure, ERASURE),
]
every_message = pytest.mark.parametrize(
    ("decode", "message"),
    DECODERS,
    ids=[
        *("answer", "attendance", "grade", "discipline", "outcome", "enrolment", "overdue", "label"),
        *("request", "erasure"),
    ],
)


def answer(**changes: object) -> bytes:
    """Bytes of an answer with some fields changed."""
    return json.dumps(ANSWER | changes).encode()


def answer_without(*names: str, **changes: object) -> bytes:
    """Bytes of an answer without some fields."""
    changed = ANSWER | changes
    return json.dumps({name: changed[name] for name in changed if name not in names}).encode()


def refusal(raw: bytes, decode: Decode = decode_interaction) -> InvalidEvent:
    """The error that the bytes are refused with."""
    with pytest.raises(InvalidEvent) as caught:
        decode(raw)
    return caught.value


def test_an_answer_is_read_whole() -> None:
    """Every field of an answer arrives as it was sent."""
    event = decode_interaction(answer())
    assert event == Interaction(
        event_id="e-1",
        type="quiz_complete",
        user_id="u-1",
        topic_id="fractions",
        item_id="i-1",
        skills=("fractions", "division"),
        difficulty="medium",
        score=0.8,
        correct=True,
        duration_seconds=41.5,
        timestamp=datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
        metadata={"course": {"id": 7, "tags": ["a", None]}},
    )


def test_what_may_be_absent_has_a_default() -> None:
    """The least answer is worth as much as one that says null of everything it may."""
    least = decode_interaction(
        answer_without("item_id", "skills", "difficulty", "correct", "duration_seconds", "metadata")
    )
    nulls = decode_interaction(
        answer(item_id=None, skills=None, difficulty=None, correct=None, duration_seconds=None, metadata=None)
    )
    assert least == nulls
    assert least.skills == ("fractions",)
    assert least.item_id is None
    assert least.difficulty is None
    assert least.duration_seconds is None
    assert least.metadata == {}


@pytest.mark.parametrize(("score", "correct"), [(0, False), (0.49, False), (0.5, True), (1, True)])
def test_an_answer_is_right_from_half_the_score_on(score: float, correct: bool) -> None:
    """Where `correct` is absent the score decides."""
    assert decode_interaction(answer_without("correct", score=score)).correct is correct


def test_what_the_sender_says_of_an_answer_counts_before_its_score() -> None:
    """`correct` is not overruled by the score."""
    assert decode_interaction(answer(correct=False, score=1.0)).correct is False


@pytest.mark.parametrize("kind", ["resource_view", "feedback_recommendation"])
def test_a_view_needs_neither_score_nor_correct(kind: str) -> None:
    """Only answers are right or wrong."""
    assert decode_interaction(answer_without("score", "correct", type=kind)).correct is None


def test_unknown_fields_are_ignored() -> None:
    """What we read may say more than we know."""
    assert decode_interaction(answer(grade_book={"x": [1]})) == decode_interaction(answer())


def test_an_event_cannot_be_changed() -> None:
    """Values on the wire are frozen."""
    event = decode_interaction(answer())
    with pytest.raises(ValidationError, match="frozen"):
        event.user_id = "u-2"  # type: ignore[misc]


def spliced(old: bytes, new: bytes, **changes: object) -> bytes:
    """Bytes of an answer with a piece replaced, for what a JSON writer would not write."""
    return answer(**changes).replace(old, new)


BAD_INPUTS: list[tuple[str, bytes, Reason, str]] = [
    ("no bytes", b"", "not_json", "JSON"),
    ("not JSON", b"quiz_complete,u-1", "not_json", "JSON"),
    ("cut in the middle", answer()[:60], "not_json", "JSON"),
    ("two events", answer() + answer(), "not_json", "JSON"),
    ("not UTF-8", spliced(b"u-1", b"\xff\xfe"), "not_json", "JSON"),
    ("not UTF-8 in a field unknown to us", spliced(b"?", b"\xff", other="?"), "not_json", "JSON"),
    ("a lone surrogate", answer(user_id="\ud800"), "not_json", "JSON"),
    (
        "nested too deep",
        spliced(b"12345", b"[" * 100_000 + b"]" * 100_000, other=12345),
        "not_json",
        "JSON",
    ),
    ("NaN as score", answer(score=math.nan), "not_json", "NaN"),
    ("NaN in metadata", answer(metadata={"a": [{"b": math.nan}]}), "not_json", "NaN"),
    ("infinity in metadata", answer(metadata={"a": -math.inf}), "not_json", "NaN"),
    ("NaN in a field unknown to us", answer(other=math.nan), "not_json", "NaN"),
    ("a list", b"[]", "not_an_object", "[]"),
    ("null", b"null", "not_an_object", "None"),
    ("a number", b"17", "not_an_object", "17"),
    ("an unknown type", answer(type="quiz_started"), "unknown_type", "'quiz_started'"),
    ("a type that is no string", answer(type=["quiz_complete"]), "unknown_type", "type"),
    ("an unknown type with other faults", answer(type="x", user_id="", score=9), "unknown_type", "'x'"),
    ("no type", answer_without("type"), "missing_field", "type"),
    ("no user", answer_without("user_id"), "missing_field", "user_id"),
    ("no topic", answer_without("topic_id"), "missing_field", "topic_id"),
    ("no timestamp", answer_without("timestamp"), "missing_field", "timestamp"),
    (
        "neither score nor correct",
        answer_without("score", "correct"),
        "missing_field",
        "score, correct",
    ),
    ("null as score and correct", answer(score=None, correct=None), "missing_field", "score, correct"),
    ("an empty user", answer(user_id=""), "bad_value", "user_id: expected a string"),
    ("a blank user", answer(user_id=" \t\u2003"), "bad_value", "user_id"),
    ("a user that is a number", answer(user_id=17), "bad_value", "user_id: expected a string"),
    ("a user that is null", answer(user_id=None), "bad_value", "user_id"),
    ("a user with a line break", answer(user_id="u\n1"), "bad_value", "user_id"),
    ("a user with a null character", answer(user_id="u\x001"), "bad_value", "user_id"),
    ("a user of 257 characters", answer(user_id="u" * 257), "bad_value", "user_id"),
    ("an empty event id", answer(event_id=""), "bad_value", "event_id"),
    ("an item that is a number", answer(item_id=5), "bad_value", "item_id"),
    ("a list of no skills", answer(skills=[]), "bad_value", "skills: expected at least 1"),
    ("too many skills", answer(skills=["s"] * 17), "bad_value", "skills: expected at most 16"),
    ("a skill that is a number", answer(skills=["s", 3]), "bad_value", "skills.1"),
    ("skills that are one string", answer(skills="s"), "bad_value", "skills: expected a list"),
    ("an unknown difficulty", answer(difficulty="brutal"), "bad_value", "'brutal'"),
    (
        "a score of 3",
        answer(score=3),
        "bad_value",
        "score: expected a number less than or equal to 1, found 3",
    ),
    ("a score below zero", answer(score=-0.1), "bad_value", "score"),
    ("a score that is a string", answer(score="0.5"), "bad_value", "score"),
    ("a score that is a boolean", answer(score=True), "bad_value", "score"),
    ("correct that is a string", answer(correct="False"), "bad_value", "correct"),
    ("correct that is a number", answer(correct=1), "bad_value", "correct"),
    ("a duration below zero", answer(duration_seconds=-1), "bad_value", "duration_seconds"),
    ("a duration of more than a week", answer(duration_seconds=604_801), "bad_value", "duration_seconds"),
    ("a duration that no float holds", answer(duration_seconds=10**400), "bad_value", "duration_seconds"),
    ("a year of five digits", answer(timestamp="30000-01-01T00:00:00Z"), "bad_value", "timestamp"),
    ("a year after 2100", answer(timestamp="2101-01-01T00:00:00Z"), "bad_value", "timestamp"),
    ("a year before 1970", answer(timestamp="1969-12-31T23:59:59Z"), "bad_value", "timestamp"),
    ("before 1970 by its offset", answer(timestamp="1970-01-01T00:00:00+01:00"), "bad_value", "timestamp"),
    (
        "the first year with an offset",
        answer(timestamp="0001-01-01T00:00:00+23:59"),
        "bad_value",
        "timestamp",
    ),
    ("the last year with an offset", answer(timestamp="9999-12-31T23:59:59-23:59"), "bad_value", "timestamp"),
    ("a day that is none", answer(timestamp="2026-02-30T00:00:00Z"), "bad_value", "timestamp"),
    ("a moment without offset", answer(timestamp="2026-01-31T09:30:00"), "bad_value", "timestamp"),
    ("a day alone", answer(timestamp="2026-01-31"), "bad_value", "timestamp"),
    ("a moment that is a number", answer(timestamp=1_769_851_800), "bad_value", "timestamp"),
    ("a moment that is digits", answer(timestamp="1769851800"), "bad_value", "timestamp"),
    ("metadata that is a list", answer(metadata=[1]), "bad_value", "metadata"),
    ("an integer that no float holds", answer(metadata={"a": [10**400]}), "bad_value", "metadata"),
    (
        "a float that overflows",
        spliced(b"12345", b"1e999", metadata={"a": 12345}),
        "bad_value",
        "metadata",
    ),
    (
        "another version of the schema",
        answer(schema_version=2),
        "bad_value",
        "schema_version: expected 1, found 2",
    ),
]


@pytest.mark.parametrize(
    ("raw", "reason", "told"), [case[1:] for case in BAD_INPUTS], ids=[case[0] for case in BAD_INPUTS]
)
def test_a_bad_event_is_refused_with_its_reason(raw: bytes, reason: Reason, told: str) -> None:
    """The reason is a stable code; the detail names the field and what was found, and stays short."""
    error = refusal(raw)
    assert error.reason == reason
    assert told in error.detail
    assert len(error.detail) < 300
    assert str(error) == f"{error.reason}: {error.detail}"


@every_message
@pytest.mark.parametrize("raw", [b"", b"\xff", b"{", b'{"user_id": NaN}'])
def test_every_message_is_refused_where_it_is_not_json(decode: Decode, message: dict[str, Any], raw: bytes) -> None:
    """All decoders read bytes alike."""
    assert refusal(raw, decode).reason == "not_json"


@every_message
def test_every_message_needs_a_user(decode: Decode, message: dict[str, Any]) -> None:
    """No message stands without the key that it is kept under."""
    without = {name: value for name, value in message.items() if name != "user_id"}
    assert refusal(json.dumps(without).encode(), decode).reason == "missing_field"
    assert refusal(json.dumps(message | {"user_id": ""}).encode(), decode).reason == "bad_value"
    assert refusal(b"[]", decode).reason == "not_an_object"


def test_the_words_nan_and_infinity_may_stand_in_texts() -> None:
    """Only the constants are refused, not names that hold their letters."""
    event = decode_interaction(answer(user_id="NaN", metadata={"note": "Infinity"}))
    assert (event.user_id, event.metadata) == ("NaN", {"note": "Infinity"})


def test_two_megabytes_of_metadata_are_read() -> None:
    """Size is limited elsewhere, by a setting; the schema neither fails nor shows it whole in an error."""
    big = {"essay": "x" * 2_000_000}
    assert decode_interaction(answer(metadata=big)).metadata == big
    assert len(refusal(answer(metadata=big, score=3)).detail) < 300
    assert len(refusal(answer(skills="x" * 2_000_000)).detail) < 300
    assert len(refusal(answer(skills=[0] * 500_000)).detail) < 300


def test_an_error_survives_being_sent_to_another_process() -> None:
    """Rebuilding the error keeps reason and detail."""
    error = refusal(answer(score=3))
    kind, arguments = error.__reduce__()
    again = kind(*arguments)
    assert (again.reason, again.detail) == (error.reason, error.detail)


@every_message
def test_a_missing_id_is_derived_from_the_content(decode: Decode, message: dict[str, Any]) -> None:
    """A re-sent message keeps its id, whatever the order of its fields; another content has another."""
    content = {name: value for name, value in message.items() if name != "event_id"}
    sent = decode(json.dumps(content).encode())
    shuffled = decode(json.dumps(dict(reversed(content.items())), indent=2).encode())
    other = decode(json.dumps(content | {"user_id": "u-2"}).encode())
    identifier = _identifier(sent)
    assert uuid.UUID(identifier).version == 5
    assert _identifier(shuffled) == identifier
    assert _identifier(other) != identifier


def _identifier(message: Received) -> str:
    return str(getattr(message, type(message).id_field))  # type: ignore[attr-defined]


def test_a_derived_id_stays_the_same_for_ever() -> None:
    """An id that was derived by an earlier release is derived again."""
    assert decode_interaction(answer_without("event_id")).event_id == "385e649f-5b81-5caf-86d7-f41908d12209"


@pytest.mark.parametrize(
    "changes", [{"timestamp": "2026-01-31T09:30:01Z"}, {"metadata": {"try": 2}}, {"item_id": None}]
)
def test_a_derived_id_depends_on_every_known_field(changes: dict[str, object]) -> None:
    """Two events that differ in what we know have two ids."""
    assert (
        decode_interaction(answer_without("event_id", **changes)).event_id
        != decode_interaction(answer_without("event_id")).event_id
    )


def test_a_derived_id_does_not_depend_on_what_is_filled_in() -> None:
    """Unknown fields, nulls and defaults that are written out change nothing."""
    short = answer_without("event_id", "skills", "correct")
    long = answer_without("event_id", skills=["fractions"], correct=True, schema_version=1, unknown=1)
    assert decode_interaction(short).event_id == decode_interaction(long).event_id


def test_an_event_that_is_written_is_read_back() -> None:
    """What the simulator writes is what the worker reads."""
    event = decode_interaction(answer())
    assert decode_interaction(event.model_dump_json().encode()) == event


def test_a_grade_is_out_of_a_hundred_unless_it_says() -> None:
    """The scale may be absent; a grade above it is refused."""
    grade = decode_academic(json.dumps(GRADE).encode())
    assert isinstance(grade, GradeRecorded)
    assert (grade.score, grade.max_score) == (64.0, 100.0)
    assert decode_academic(json.dumps(GRADE | {"max_score": None}).encode()) == grade
    assert refusal(json.dumps(GRADE | {"max_score": 20}).encode(), decode_academic).reason == "bad_value"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (ANSWER, "unknown_type"),
        (ATTENDANCE | {"type": 5}, "unknown_type"),
        ({"user_id": "u-1"}, "missing_field"),
        (ATTENDANCE | {"status": "asleep"}, "bad_value"),
        (GRADE | {"score": -1}, "bad_value"),
        (GRADE | {"max_score": 0}, "bad_value"),
        (GRADE | {"weight": 1.5}, "bad_value"),
        (DISCIPLINE | {"sanction": "x" * 257}, "bad_value"),
        (DISCIPLINE | {"severity": None}, "bad_value"),
        (OUTCOME | {"outcome": "PASS"}, "bad_value"),
        (OUTCOME | {"timestamp": "30000-01-01T00:00:00Z"}, "bad_value"),
        (ENROLMENT | {"context": {str(number): 1 for number in range(33)}}, "bad_value"),
        (ENROLMENT | {"course_id": None}, "bad_value"),
        (OVERDUE | {"assessment_id": ""}, "bad_value"),
        (LABEL | {"score": 1.01}, "bad_value"),
        ({name: value for name, value in GRADE.items() if name != "score"}, "missing_field"),
        (GRADE | {"days_late": 4_000}, "bad_value"),
        (GRADE | {"corrects": ""}, "bad_value"),
    ],
)
def test_a_bad_academic_record_is_refused(message: dict[str, Any], reason: Reason) -> None:
    """Academic records are held to their own type."""
    assert refusal(json.dumps(message).encode(), decode_academic).reason == reason


def test_the_place_of_a_fault_is_the_senders_own() -> None:
    """The detail names the field as the sender wrote it."""
    assert refusal(json.dumps(GRADE | {"score": "64"}).encode(), decode_academic).detail.startswith("score: ")
    assert refusal(json.dumps(OVERDUE | {"weight": 2}).encode(), decode_academic).detail.startswith("weight: ")
    assert refusal(json.dumps(LABEL | {"score": 2}).encode(), decode_academic).detail.startswith("score: ")
    bad_target = REQUEST | {"targets": [{"topic_id": "a"}, {"topic_id": ""}]}
    assert refusal(json.dumps(bad_target).encode(), decode_request).detail.startswith("targets.1.topic_id: ")


def test_work_that_is_not_graded_yet_has_no_score() -> None:
    """Null says that it was handed in; where nothing is said of a score, that is a mistake."""
    grade = decode_academic(json.dumps(GRADE | {"score": None, "max_score": 40, "days_late": -2}).encode())
    assert isinstance(grade, GradeRecorded)
    assert (grade.score, grade.max_score, grade.days_late) == (None, 40, -2)


def test_an_enrolment_says_what_is_known() -> None:
    """Texts, numbers and what is not known; without any it is empty."""
    enrolment = decode_academic(json.dumps(ENROLMENT).encode())
    assert isinstance(enrolment, EnrolmentRecorded)
    assert enrolment.context == {"education": "A level", "credits": 60, "attempts": None}
    bare = decode_academic(json.dumps(ENROLMENT | {"context": None, "starts_at": None}).encode())
    assert isinstance(bare, EnrolmentRecorded)
    assert (bare.context, bare.starts_at) == ({}, None)


@pytest.mark.parametrize("value", [[1], True, "x" * 129, {}, float("inf"), 1e39, 1_000_000_001, -1.1e9])
def test_a_bad_field_of_an_enrolment_is_named(value: object) -> None:
    """One sentence with the field's own place, what was expected and what was found."""
    raw = json.dumps(ENROLMENT | {"context": {"credits": value}}).replace("Infinity", "1e999").encode()
    detail = refusal(raw, decode_academic).detail
    assert detail.startswith(
        "context.credits: expected a text of at most 128 characters, a number from -1e9 to 1e9 or null, found "
    )


@pytest.mark.parametrize("value", [1e9, -1_000_000_000, 0.5, 0])
def test_a_number_of_an_enrolment_is_one_that_can_be_kept(value: float) -> None:
    """Within the bounds, both of which are allowed, it comes through."""
    enrolment = decode_academic(json.dumps(ENROLMENT | {"context": {"credits": value}}).encode())
    assert isinstance(enrolment, EnrolmentRecorded)
    assert enrolment.context == {"credits": value}


@pytest.mark.parametrize("targets", [[], [{"topic_id": "t"}] * 65, [{}], ["t"], None])
def test_a_request_names_one_to_64_targets(targets: object) -> None:
    """A request without a target, or with too many, is refused."""
    assert refusal(json.dumps(REQUEST | {"targets": targets}).encode(), decode_request).reason in {
        "bad_value",
        "missing_field",
    }


def named(value: object) -> tuple[Target, ...]:
    """The targets that an answer's metadata names."""
    return next_items(decode_interaction(answer(metadata={"next_items": value})))


def test_next_items_are_items_or_objects() -> None:
    """An element is an item's id or an object; where it names no topic, it is the event's."""
    assert named(["i-2", {"topic_id": "t", "difficulty": "easy"}, {"item_id": "i-3", "topic_id": None, "more": 1}]) == (
        Target(topic_id="fractions", item_id="i-2"),
        Target(topic_id="t", difficulty="easy"),
        Target(topic_id="fractions", item_id="i-3"),
    )


def test_malformed_next_items_are_left_out() -> None:
    """A bad hint does not cost the answer that carries it."""
    assert named([1, None, "", " ", {}, [], {"topic_id": 5}, {"difficulty": "x"}, "i-2"]) == (
        Target(topic_id="fractions", item_id="i-2"),
    )
    nothing: tuple[object, ...] = (None, "i-2", {"item_id": "i-2"}, 5, [])
    assert all(named(value) == () for value in nothing)
    assert next_items(decode_interaction(answer(metadata={}))) == ()


def test_at_most_16_next_items_are_read() -> None:
    """The first sixteen that can be read count."""
    assert [target.item_id for target in named([0, *(f"i-{n}" for n in range(40))])] == [f"i-{n}" for n in range(16)]


# ------------------------------------------------------------------------------------------ mangled events

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**320)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([MOMENT, "30000-01-01T00:00:00Z", "quiz_complete", "grade_recorded", "", "\x00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
messages = st.sampled_from(DECODERS)


def outcome(decode: Decode, raw: bytes) -> Received | InvalidEvent:
    """The message or its refusal; any other error comes out."""
    try:
        return decode(raw)
    except InvalidEvent as error:
        return error


def check_read_or_refused(decode: Decode, raw: bytes) -> None:
    """What is read can be written and read again; what is refused has a known reason and a detail."""
    result = outcome(decode, raw)
    if isinstance(result, InvalidEvent):
        assert result.reason in set(get_args(Reason)) - {"too_large"}
        assert result.detail.encode()
    else:
        assert decode(result.model_dump_json().encode()) == result
        assert _identifier(result)


@given(case=messages, raw=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(case: Case, raw: bytes) -> None:
    """No bytes raise anything but `InvalidEvent`."""
    check_read_or_refused(case[0], raw)


@given(case=messages, value=json_values)
def test_any_json_is_read_or_refused(case: Case, value: object) -> None:
    """No JSON raises anything but `InvalidEvent`."""
    check_read_or_refused(case[0], json.dumps(value).encode())


@given(case=messages, data=st.data())
def test_any_mangled_event_is_read_or_refused(case: Case, data: st.DataObject) -> None:
    """An event with fields replaced, left out and added raises nothing but `InvalidEvent`."""
    decode, message = case
    fields = st.sampled_from([*message, "metadata", "event_id", "schema_version", "other"])
    replaced = data.draw(st.dictionaries(fields, json_values, max_size=3))
    dropped = data.draw(st.sets(fields, max_size=2))
    mangled = {name: value for name, value in (message | replaced).items() if name not in dropped}
    check_read_or_refused(decode, json.dumps(mangled).encode())


@given(
    case=messages,
    at=st.integers(min_value=0, max_value=400),
    piece=st.binary(max_size=4),
    length=st.integers(0, 4),
)
def test_any_damaged_bytes_are_read_or_refused(case: Case, at: int, piece: bytes, length: int) -> None:
    """An event with some bytes replaced, inserted or cut out raises nothing but `InvalidEvent`."""
    decode, message = case
    raw = json.dumps(message).encode()
    at %= len(raw)
    check_read_or_refused(decode, raw[:at] + piece + raw[at + length :])


@given(
    value=st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
)
def test_metadata_arrives_as_it_was_sent(value: object) -> None:
    """Metadata is kept whole."""
    assert decode_interaction(answer(metadata={"sent": value})).metadata == {"sent": value}


@given(named_items=json_values)
def test_any_next_items_are_read_or_left_out(named_items: JsonValue) -> None:
    """No hint raises anything."""
    event = decode_interaction(answer()).model_copy(update={"metadata": {"next_items": named_items}})
    assert len(next_items(event)) <= 16
