"""Messages as a worker and a trainer write them, on topics of four partitions."""

from base64 import b64encode
from typing import Any
from zlib import crc32

import orjson

from schemas import risk_category
from stream.ports import Record

Message = dict[str, Any]

PARTITIONS = 4
START = 1_800_000_000.0


def record(topic: str, value: Message | bytes | None, *, at: float = START, user: str = "u", offset: int = 0) -> Record:
    """Return a message as it is read: its user decides the partition."""
    raw = orjson.dumps(value) if isinstance(value, dict) else value
    return Record(topic, crc32(user.encode()) % PARTITIONS, offset, user.encode(), raw, at)


def source(number: int, user: str) -> Message:
    """Return the place of an event."""
    return {"event_id": f"e{number}", "topic": "interactions", "partition": crc32(user.encode()) % PARTITIONS,
            "offset": number}  # fmt: skip


def model(version: int, name: str = "knowledge") -> Message:
    """Return what predicted."""
    return {"name": name, "version": version, "variant": "champion" if version else "fallback"}


def event(number: int, user: str = "u", at: float = START, topic: str = "interactions") -> Record:
    """Return an event of a user, of which only place and time count."""
    return record(topic, b"{}", at=at, user=user, offset=number)


def example(number: int, user: str = "u", at: float = START, **fields: Any) -> Record:
    """Return the example of an answer."""
    value = {
        "schema_version": 1, "type": "answer", "example_id": f"example-{number}", "event_id": f"e{number}",
        "user_id": user, "topic_id": "fractions", "item_id": f"item-{number % 7}", "skills": ["fractions"],
        "difficulty": "easy", "correct": number % 3 > 0, "response_time_seconds": 12.5,
        "timestamp": "2026-03-02T06:00:00.120Z", "source": source(number, user), "model": model(0),
        "state_format": "none", "state_version": 0, "feature_version": 1, "features": [0.5],
        "p_before": 0.625, "p_before_fallback": 0.5, "median_before": 10.0, "median_before_fallback": 15.0,
        "unheard": None,
    }  # fmt: skip
    return record("training-examples", value | fields, at=at, user=user)


def correction(number: int, user: str = "u", *, correct: bool) -> Record:
    """Return the correction of an answer's outcome."""
    value = {
        "schema_version": 1, "type": "correction", "example_id": f"example-{number}", "event_id": f"c{number}",
        "user_id": user, "correct": correct, "source": source(number, user), "timestamp": "2026-03-02T07:00:00Z",
    }  # fmt: skip
    return record("training-examples", value, user=user)


def correctness(number: int, user: str = "u", at: float = START, **fields: Any) -> Record:
    """Return the correctness prediction after an answer."""
    return record("predictions.correctness", correctness_value(number, user, **fields), at=at, user=user)


def correctness_value(number: int, user: str = "u", **fields: Any) -> Message:
    """Return its content, in the order in which a worker writes it."""
    value: Message = {
        "schema_version": 1, "user_id": user, "source": source(number, user), "produced_at": "2026-03-02T06:00:00.2Z",
        "model": model(0), "fallback": True, "prediction_id": f"correctness-{number}",
        "targets": [{"topic_id": "fractions", "item_id": None, "difficulty": "easy", "p_correct": 0.5}],
        "mastery": {"fractions": 0.75}, "observed": {"p_before": 0.625, "correct": True},
    }  # fmt: skip
    return value | fields


def risk(number: int, score: float, user: str = "u", day: int = 2, **fields: Any) -> Record:
    """Return a risk prediction that holds for a day."""
    value = {
        "schema_version": 1, "user_id": user, "source": source(number, user) | {"topic": "academics"},
        "produced_at": "2026-03-02T06:00:00.2Z", "model": model(3, "risk"), "fallback": False,
        "prediction_id": f"risk-{number}", "score": score, "category": risk_category(score),
        "factors": [{"feature": "missing", "contribution": 1.27, "value": 2.0}], "reason": "academics",
        "outcome": None, "as_of": f"2026-03-{day:02d}T10:00:00Z",
    }  # fmt: skip
    return record("predictions.risk", value | fields, user=user)


def dead_letter(number: int, user: str = "u", at: float = START, **fields: Any) -> Record:
    """Return the dead letter of a user's event."""
    value = {
        "schema_version": 1, "dead_letter_id": f"dead-{number}", "reason": "invalid_event",
        "detail": "score: expected at most 1, found 3", **source(number, user),
        "timestamp": None, "key": b64encode(user.encode()).decode(), "value": None, "value_bytes": 2,
        "value_sha256": "0" * 64, "value_cut": False, "headers": [], "traceback": None,
        "recorded_at": "2026-03-02T06:00:00Z",
    }  # fmt: skip
    del value["event_id"]
    return record("dead-letters", value | fields, at=at, user=user)


def erasure(user: str = "u", at: float = START) -> Record:
    """Return the wish to forget a user."""
    value = {"schema_version": 1, "erasure_id": f"forget-{user}", "user_id": user, "requested_at": None}
    return record("erasures", value, at=at, user=user)


def happened(number: int, type_: str, name: str = "knowledge", **fields: Any) -> Record:
    """Return something that happened to a model, a second after what has the number before."""
    at = f"2026-03-02T06:{number // 60:02d}:{number % 60:02d}Z"
    value = {"schema_version": 1, "event_id": f"m{number}-{type_}-{fields.get('worker')}", "name": name, "at": at}
    return record("model-events", value | {"type": type_} | fields, user=name)


def swapped(number: int, version: int | None, previous: int | None, worker: str = "w1") -> Record:
    """Return what a worker says when another version serves."""
    return happened(number, "model_swapped", version=version, previous=previous, worker=worker)


def rollout(number: int, champion: int | None, challenger: int | None = None, share: float = 0.0) -> Record:
    """Return the announcement of what should serve."""
    value = {
        "schema_version": 1, "name": "knowledge", "champion": release(champion), "previous": None,
        "challenger": release(challenger), "challenger_share": share, "decided_at": f"2026-03-02T06:00:{number:02d}Z",
    }  # fmt: skip
    return record("model-updates", value, user="knowledge")


def release(version: int | None) -> Message | None:
    """Return one version of a model as it is announced."""
    if version is None:
        return None
    return {"version": version, "sha256": "0" * 64, "path": f"knowledge/{version}", "state_format": "none"}
