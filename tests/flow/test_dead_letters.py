"""What cannot be used, between answers that can: each becomes a dead letter, and the rest is predicted."""

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from operator import eq
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from schemas import TOPICS, DeadLetter
from stream.transport.clients import producer_config
from stream.transport.partitioner import Partitioner
from tests.flow.system import KILLED_S, PARTITIONS, System, answer

pytestmark = pytest.mark.timeout(180)

USER = "ada"
PARTITION = Partitioner(PARTITIONS)(USER.encode())
HEADERS: list[tuple[str, str | bytes | None]] = [("trace", b"\x00\xff"), ("empty", None)]


@dataclass(frozen=True)
class Bad:
    """A message that must become a dead letter, and what that is to say."""

    name: str
    value: bytes
    reason: str
    detail: str
    key: bytes | None = USER.encode()
    partition: int = PARTITION


def quiz(number: int, **fields: Any) -> bytes:
    """Return an answer of the user, with some fields changed; None leaves a field out."""
    event = answer(USER, number)[1] | fields
    return orjson.dumps({name: value for name, value in event.items() if value is not None})


BAD = (
    Bad("unreadable", b"\xff\xfe\x00\x01", "not_json", ""),
    Bad("broken", quiz(101)[:-1], "not_json", ""),
    Bad("no object", b"[1, 2]", "not_an_object", ""),
    Bad("unknown type", quiz(102, type="quiz_started"), "unknown_type", "quiz_started"),
    Bad("no user", quiz(103, user_id=""), "bad_value", "user_id", key=b""),
    Bad("no outcome", quiz(104, correct=None), "missing_field", "score"),
    Bad("score of 3", quiz(105, score=3), "bad_value", "score"),
    Bad("NaN", quiz(106).replace(b"20.0", b"NaN"), "not_json", ""),
    Bad("NaN within", json.dumps(answer(USER, 107)[1] | {"metadata": {"x": [float("nan")]}}).encode(), "not_json", ""),
    Bad("2 MB", quiz(108, metadata={"x": "y" * 2_000_000}), "too_large", "STREAM_EVENT_MAX_BYTES"),
    Bad("year 30000", quiz(109, timestamp="30000-01-01T00:00:00Z"), "bad_value", "timestamp"),
    Bad("another's key", quiz(110), "wrong_key", "ada", key=b"grace"),
    Bad("no key", quiz(111), "wrong_key", "no key", key=None),
    Bad("wrong partition", quiz(112), "wrong_partition", "murmur2_random", partition=(PARTITION + 1) % PARTITIONS),
)


@pytest.fixture
def outbox(system: System) -> Iterator[Producer]:
    """Give a producer that puts a message wherever it is told to."""
    producer = Producer(producer_config(system.settings))
    yield producer
    assert producer.flush(30) == 0


def letters_of(system: System, count: int) -> list[DeadLetter]:
    """Return the dead letters, at least so many."""
    records = system.records("dead-letters", until=lambda found: len(found) >= count)
    letters: list[DeadLetter] = [TOPICS["dead-letters"].adapter.validate_json(r.value or b"") for r in records]
    return letters


def test_each_bad_event_becomes_a_dead_letter_and_the_rest_is_predicted(system: System, outbox: Producer) -> None:
    """Reason, place, bytes and headers are kept of each; a null value is ignored; every good answer is predicted."""
    topic = system.settings.topic("interactions")
    for number, bad in enumerate(BAD):
        outbox.produce(topic, quiz(number), USER.encode(), partition=PARTITION)
        outbox.produce(topic, bad.value, bad.key, partition=bad.partition, headers=HEADERS)
    outbox.produce(topic, None, USER.encode(), partition=PARTITION)
    outbox.produce(topic, quiz(len(BAD)), USER.encode(), partition=PARTITION)
    outbox.flush()
    system.start("worker")  # it meets them all at once

    predicted = system.predictions("correctness", len(BAD) + 1)
    assert [m["source"]["event_id"] for m in predicted] == [f"{USER}-{number}" for number in range(len(BAD) + 1)]
    limit = system.settings.dead_letter_max_bytes
    letters = {letter.value_sha256: letter for letter in letters_of(system, len(BAD))}
    assert len(letters) == len(BAD)
    for number, bad in enumerate(BAD):
        letter = letters[hashlib.sha256(bad.value).hexdigest()]
        assert (bad.name, letter.reason) == (bad.name, bad.reason)
        assert bad.detail in letter.detail
        assert (letter.topic, letter.partition) == (topic, bad.partition)
        assert bad.name == "wrong partition" or letter.offset == 2 * number + 1
        assert b64decode(letter.value or "") == bad.value[:limit]
        assert letter.value_bytes == len(bad.value)
        assert letter.value_cut == (len(bad.value) > limit) == (bad.name == "2 MB")
        assert letter.key is None if bad.key is None else b64decode(letter.key or "") == bad.key
        assert letter.headers == (("trace", "AP8="), ("empty", None))
        assert letter.traceback is None
    for reason in {bad.reason for bad in BAD}:
        expected = partial(eq, sum(bad.reason == reason for bad in BAD))
        line = f'stream_dead_letters_total{{reason="{reason}"}}'
        system.await_metric("worker", line, expected)
    system.await_metric("worker", 'stream_events_total{outcome="ignored",type="tombstone"}', partial(eq, 1))


def test_bad_messages_of_every_topic_become_dead_letters(system: System, outbox: Producer) -> None:
    """Academic events, requests and erasures that cannot be read are put aside like answers."""
    names = ("academics", "prediction-requests", "erasures")
    for name in names:
        for value in (b"{", b'{"user_id": 7}', orjson.dumps({"user_id": "grace"})):
            outbox.produce(system.settings.topic(name), value, USER.encode(), partition=PARTITION)
    outbox.flush()
    system.start("worker")
    system.send([answer(USER, 0)])
    system.predictions("correctness", 1)
    letters = letters_of(system, 9)
    by_topic = {name: sorted(m.reason for m in letters if m.topic == system.settings.topic(name)) for name in names}
    assert by_topic == {
        "academics": ["missing_field", "missing_field", "not_json"],
        "prediction-requests": ["missing_field", "missing_field", "not_json"],
        "erasures": ["bad_value", "not_json", "wrong_key"],
    }


def test_an_academic_event_of_the_future_is_put_aside(system: System) -> None:
    """By Kafka's clock, not by the worker's: it comes to the same when it is read again, and moves no week."""
    event = {"type": "attendance_recorded", "user_id": USER, "status": "present"}
    ahead, past = event | {"timestamp": "2099-03-01T09:00:00Z"}, event | {"timestamp": "2020-03-02T09:00:00Z"}
    system.send([("academics", ahead), ("academics", past), answer(USER, 0)])
    system.start("worker")
    (letter,) = letters_of(system, 1)
    assert letter.reason == "from_the_future"
    assert "found 2099-03-01T09:00:00+00:00" in letter.detail
    (said, *_) = system.read("predictions.risk", until=lambda found: len(found) >= 2)
    assert {said["as_of"][:4]} <= {"2020", "2026"}


def test_a_dead_letter_comes_once_however_often_the_worker_is_killed(system: System, outbox: Producer) -> None:
    """The same record has the same dead letter id, whatever happened in between."""
    system.options["session_timeout_s"] = KILLED_S
    bad = BAD[0]
    outbox.produce(system.settings.topic("interactions"), bad.value, bad.key, partition=bad.partition)
    outbox.flush()
    system.start("worker")
    (first,) = letters_of(system, 1)
    system.processes["worker"].kill()
    system.start("worker")
    system.send([answer(USER, 0)])
    system.predictions("correctness", 1)
    assert {letter.dead_letter_id for letter in letters_of(system, 1)} == {first.dead_letter_id}
