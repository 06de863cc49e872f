"""What comes in: good events are accepted, each bad one becomes a dead letter that says why, the rest goes on."""

import base64
import hashlib
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import DeadLetter, Interaction, decode_academic, decode_interaction
from stream.intake import Accepted, Dead, Limits, dead_letter, moments_of, of_the_present, read
from stream.ports import Record
from tests.worlds import NOW

LIMITS = Limits(event_max_bytes=10_000, dead_letter_max_bytes=100)
EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "type": "quiz_complete",
    "user_id": "u-1",
    "topic_id": "fractions",
    "correct": True,
    "timestamp": "2026-01-31T09:30:00Z",
}


def value(**changes: Any) -> bytes:
    """Return the bytes of an answer, some fields changed."""
    return json.dumps(EVENT | changes).encode()


def without(*names: str) -> bytes:
    """Return the bytes of an answer that lacks some fields."""
    return json.dumps({name: found for name, found in EVENT.items() if name not in names}).encode()


def record(content: bytes | None, offset: int = 0, **changes: Any) -> Record:
    """Return a record on partition 3, with the right key, some fields changed."""
    given: dict[str, Any] = {"key": b"u-1", "partition": 3, "timestamp_s": 1_767_600_000.25, "headers": ()}
    return Record(topic="prefix.interactions", offset=offset, value=content, **(given | changes))


def partition_of(key: bytes) -> int:
    """Return the partition of any key: 3."""
    return 3


def take(*records: Record) -> tuple[list[Accepted[Interaction]], list[Dead]]:
    """Read records as the agent does."""
    return read(records, decode_interaction, partition_of, LIMITS)


BAD: list[tuple[str, bytes, str, str]] = [
    ("unreadable bytes", b"\xff\xfe\x00", "not_json", "expected JSON"),
    ("nothing", b"", "not_json", "expected JSON"),
    ("half an event", value()[:40], "not_json", "expected JSON"),
    ("no object", b"[1, 2]", "not_an_object", "message"),
    ("fails the schema", value(topic_id=7), "bad_value", "topic_id"),
    ("unknown type", value(type="quiz_started"), "unknown_type", "quiz_started"),
    ("no type", without("type"), "missing_field", "type"),
    ("empty user id", value(user_id=""), "bad_value", "user_id"),
    ("blank user id", value(user_id="  "), "bad_value", "user_id"),
    ("user id that is a number", value(user_id=17), "bad_value", "user_id"),
    ("neither score nor correct", without("correct"), "missing_field", "score, correct"),
    ("a score of 3", value(score=3), "bad_value", "score"),
    ("a NaN", value(duration_seconds=float("nan")), "not_json", "NaN"),
    ("a NaN in metadata", value(metadata={"x": float("nan")}), "not_json", "NaN"),
    ("an infinity", value(duration_seconds=float("inf")), "not_json", "Infinity"),
    ("2 MB of metadata", value(metadata={"x": "y" * 2_000_000}), "too_large", "STREAM_EVENT_MAX_BYTES"),
    ("the year 30000", value(timestamp="30000-01-01T00:00:00Z"), "bad_value", "timestamp"),
    ("the year 2200", value(timestamp="2200-01-01T00:00:00Z"), "bad_value", "timestamp"),
    ("a local time", value(timestamp="2026-01-31T09:30:00"), "bad_value", "timestamp"),
    ("a negative duration", value(duration_seconds=-1), "bad_value", "duration_seconds"),
    ("correct in words", value(correct="true"), "bad_value", "correct"),
    ("deep nesting", b'{"metadata":' + b"[" * 4_000 + b"]" * 4_000 + b"}", "not_json", "expected JSON"),
    ("a version of the future", value(schema_version=2), "bad_value", "schema_version"),
]


@pytest.mark.parametrize(("content", "reason", "told"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_cannot_be_read_is_put_aside_and_the_rest_goes_on(content: bytes, reason: str, told: str) -> None:
    """A bad event in the middle of a batch becomes a dead letter; those around it are accepted, in order."""
    good = [record(value(event_id=f"e-{i}"), offset=i) for i in (0, 2)]
    accepted, dead = take(good[0], record(content, offset=1), good[1])
    assert [a.record for a in accepted] == good
    assert [a.event.event_id for a in accepted] == ["e-0", "e-2"]
    (found,) = dead
    assert (found.reason, found.record.offset) == (reason, 1)
    assert told in found.detail
    letter = DeadLetter.model_validate_json(dead_letter(found, LIMITS, NOW).value)
    assert letter.reason == reason
    assert letter.value_sha256 == hashlib.sha256(content).hexdigest()
    assert letter.value_bytes == len(content)


@pytest.mark.parametrize(
    ("changes", "reason", "told"),
    [
        ({"key": b"u-2"}, "wrong_key", "expected the event's user_id b'u-1', found b'u-2'"),
        ({"key": None}, "wrong_key", "found no key"),
        ({"key": b""}, "wrong_key", "found b''"),
        ({"key": b'"u-1"'}, "wrong_key", "the producer must set it"),
        ({"partition": 2}, "wrong_partition", "partitioner=murmur2_random"),
    ],
)
def test_a_record_that_is_not_where_its_user_is(changes: dict[str, Any], reason: str, told: str) -> None:
    """A wrong key, or another partition than the key's, is a dead letter that says how to mend the producer."""
    accepted, (dead,) = take(record(value(), **changes))
    assert accepted == []
    assert (dead.reason, dead.type) == (reason, "quiz_complete")
    assert told in dead.detail


def test_tombstones_are_ignored() -> None:
    """A null value under a user's key is neither an event nor a dead letter."""
    accepted, dead = take(record(None, key=b"anybody"), record(value(), offset=1))
    assert [a.record.offset for a in accepted] == [1]
    assert dead == []


def test_the_size_limit_is_exact() -> None:
    """An event of just the limit is read, one byte more is not."""
    room = LIMITS.event_max_bytes - len(value(metadata={"x": ""}))
    accepted, dead = take(*(record(value(metadata={"x": "y" * (room + more)})) for more in (0, 1)))
    assert len(accepted) == 1
    assert [d.reason for d in dead] == ["too_large"]


def test_academics_are_read_the_same_way() -> None:
    """The rules of place hold for every topic that is keyed by user."""
    event = {"type": "attendance_recorded", "user_id": "u-1", "status": "late", "timestamp": "2026-01-31T09:30:00Z"}
    good, bad = json.dumps(event).encode(), json.dumps(event | {"status": "asleep"}).encode()
    accepted, dead = read([record(bad), record(good, offset=1)], decode_academic, partition_of, LIMITS)
    assert [a.event.type for a in accepted] == ["attendance_recorded"]
    assert [d.reason for d in dead] == ["bad_value"]


def test_a_dead_letter_keeps_everything() -> None:
    """Place, moment, key, bytes, digest and headers are in it as they came; its id is the place's."""
    content = b"not json \xff"
    headers = (("ce_id", b"\x00\xff"), ("empty", None))
    message = dead_letter(
        Dead(record(content, offset=41, headers=headers), "not_json", "why", "the traceback"), LIMITS, NOW
    )
    letter = DeadLetter.model_validate_json(message.value)
    assert (message.topic, message.key, message.message_id) == ("dead-letters", b"u-1", letter.dead_letter_id)
    assert (letter.topic, letter.partition, letter.offset) == ("prefix.interactions", 3, 41)
    assert letter.timestamp == datetime.fromtimestamp(1_767_600_000.25, UTC)
    assert base64.b64decode(letter.value or "") == content
    assert base64.b64decode(letter.key or "") == b"u-1"
    assert not letter.value_cut
    assert letter.headers == (("ce_id", base64.b64encode(b"\x00\xff").decode()), ("empty", None))
    assert (letter.reason, letter.detail, letter.traceback, letter.recorded_at) == (
        "not_json",
        "why",
        "the traceback",
        NOW,
    )
    again = dead_letter(Dead(record(b"other", offset=41), "bad_value", "x"), LIMITS, NOW)
    assert again.message_id == message.message_id
    assert (
        dead_letter(Dead(record(content, offset=42), "not_json", "why"), LIMITS, NOW).message_id != message.message_id
    )


def test_a_dead_letter_is_cut_above_the_limit() -> None:
    """Of large bytes the beginning is kept, with digest and size of the whole; headers and key are bounded too."""
    content = bytes(range(256)) * 4
    headers = tuple((f"h-{i}", b"x" * 40) for i in range(10))
    dead = Dead(record(content, key=b"k" * 5_000, headers=headers), "too_large", "why")
    letter = DeadLetter.model_validate_json(dead_letter(dead, LIMITS, NOW).value)
    assert letter.value_cut
    assert base64.b64decode(letter.value or "") == content[:100]
    assert letter.value_bytes == 1_024
    assert letter.value_sha256 == hashlib.sha256(content).hexdigest()
    assert base64.b64decode(letter.key or "") == b"k" * 100
    assert [name for name, _ in letter.headers] == ["h-0", "h-1"]


def test_a_dead_letter_of_no_key_and_no_moment() -> None:
    """A record without a key, with a moment that is none, still becomes a letter."""
    for timestamp_s in (float("nan"), 1e20, -1e20):
        message = dead_letter(Dead(record(b"x", key=None, timestamp_s=timestamp_s), "not_json", "why"), LIMITS, NOW)
        letter = DeadLetter.model_validate_json(message.value)
        assert (letter.key, letter.timestamp, message.key) == (None, None, b"")


@given(st.binary(max_size=300), st.none() | st.binary(max_size=20))
def test_any_bytes_are_accepted_or_put_aside(content: bytes, key: bytes | None) -> None:
    """No bytes are lost or make the intake raise, and every letter keeps to its schema."""
    accepted, dead = take(record(content, key=key))
    assert len(accepted) + len(dead) == 1
    for found in dead:
        DeadLetter.model_validate_json(dead_letter(found, LIMITS, NOW).value)


def test_an_interaction_of_the_future_is_brought_back() -> None:
    """To the latest moment that its record lets it name, all else as it was; others stay the same objects."""
    limits = Limits(10_000, 100, future_s=86_400.0)
    moment = datetime(2026, 1, 31, 9, 30, tzinfo=UTC).timestamp()
    kafka = [moment, moment - 86_401.0, 0.0]
    accepted, _ = take(*(record(value(), offset, timestamp_s=at) for offset, at in enumerate(kafka)))
    timely, moments = moments_of(accepted, limits)
    assert moments == [moment, moment - 1, moment]
    assert [each.event.timestamp.timestamp() for each in timely] == moments
    assert (timely[0], timely[2]) == (accepted[0], accepted[2])
    before, after = accepted[1].event, timely[1].event
    assert after.event_id == before.event_id
    assert after.model_dump(exclude={"timestamp"}) == before.model_dump(exclude={"timestamp"})


def test_an_event_of_the_future_is_a_dead_letter() -> None:
    """Ahead of its record's Kafka timestamp by more than the limit; where that is not known, nothing can be said."""
    limits = Limits(10_000, 100, future_s=86_400.0)
    moment = datetime(2026, 1, 31, 9, 30, tzinfo=UTC).timestamp()
    kafka = [moment, moment - 86_400.0, moment - 86_401.0, moment - 400 * 86_400.0, 0.0, -1.0]
    accepted, _ = take(*(record(value(), offset, timestamp_s=at) for offset, at in enumerate(kafka)))
    present, dead = of_the_present(accepted, limits)
    assert [each.record.offset for each in present] == [0, 1, 4, 5]
    assert [(each.record.offset, each.reason) for each in dead] == [(2, "from_the_future"), (3, "from_the_future")]
    assert {each.type for each in dead} == {"quiz_complete"}
    assert dead[0].detail == (
        "timestamp: expected at most 24 hours after the record's, 2026-01-30T09:29:59+00:00, found "
        "2026-01-31T09:30:00+00:00; check the sender's year and clock (STREAM_FUTURE_HOURS)"
    )
    assert of_the_present(accepted, limits) == (present, dead)
    assert of_the_present(accepted, LIMITS) == (accepted, [])
    assert LIMITS.latest_at(accepted[0].record) == math.inf
