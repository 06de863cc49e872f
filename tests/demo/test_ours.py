"""Which messages come of the demo's own events."""

from base64 import b64encode
from typing import Any

import orjson
import pytest

from stream.demo.ours import Ours
from stream.demo.tally import Tally

OURS = {"event_id": "e1", "user_id": "u1", "type": "quiz_complete"}


def letter(event: bytes | None, topic: str = "interactions") -> dict[str, Any]:
    """Return the part of a dead letter that is looked at."""
    return {"topic": topic, "value": None if event is None else b64encode(event).decode(), "detail": "d"}


def source(event_id: str, **fields: str) -> dict[str, Any]:
    """Return the part of a prediction that is looked at."""
    return {"source": {"event_id": event_id}} | fields


@pytest.mark.parametrize(
    ("topic", "message", "is_ours"),
    [
        ("predictions.correctness", source("e1"), True),
        ("predictions.time", source("theirs"), False),
        ("predictions.risk", source("e1", reason="first_interaction_of_day", user_id="u1"), True),
        ("predictions.risk", source("theirs", reason="academics", user_id="u1"), False),
        # It comes of no event: whose it is decides.
        ("predictions.risk", source("week", reason="week_closed", user_id="u1"), True),
        ("predictions.risk", source("week", reason="week_closed", user_id="me"), False),
        ("training-examples", {"type": "answer", "event_id": "e1"}, True),
        ("training-examples", {"type": "answer", "event_id": "theirs"}, False),
        ("training-examples", {"type": "risk", "user_id": "u1"}, True),
        ("training-examples", {"type": "risk", "user_id": "me"}, False),
        ("model-events", {"name": "knowledge", "type": "model_swapped"}, True),
        ("dead-letters", letter(orjson.dumps(OURS)), True),
        ("dead-letters", letter(orjson.dumps({"event_id": "theirs"})), False),
        ("dead-letters", letter(b"no JSON"), False),
        ("dead-letters", letter(b"[1]"), False),
        ("dead-letters", letter(None), False),
        ("dead-letters", letter(None, topic="platform"), True),
    ],
)
def test_what_comes_of_the_demos_events_is_its_own(topic: str, message: dict[str, Any], is_ours: bool) -> None:
    """By the event's id, and where there is none by the user; dead letters of its foreign topics are all its own."""
    ours = Ours({"platform"})
    ours.sent(OURS)
    assert ours.has(topic, message) == is_ours


def test_what_others_send_is_not_counted() -> None:
    """The demo's figures stay right, but what the trainer has to read is counted whosever it is."""
    tally = Tally(Ours())
    tally.sent("interactions", OURS, at=0.0)
    for event_id in ("e1", "theirs"):
        message = orjson.dumps(source(event_id, prediction_id=event_id))
        tally.saw("predictions.correctness", message, 1.0)
        tally.saw("predictions.time", message, 1.0)
        tally.saw("training-examples", orjson.dumps({"type": "correction", "event_id": event_id}), 1.0)
    tally.saw("dead-letters", orjson.dumps(letter(b"theirs")), 1.0)
    assert (tally.counts["correctness"], tally.answered, tally.done, tally.due, tally.dead) == (1, 1, 1, 1, 0)
    assert tally.examples == 2
