"""Prediction requests on the real broker: what would happen if."""

import pytest

from schemas import TOPICS
from stream.transport.outbox import KafkaOutbox
from tests.flow.system import Message, System, answer, answers_before

pytestmark = pytest.mark.timeout(120)

TARGETS: list[dict[str, str | None]] = [
    {"topic_id": "fractions", "item_id": "item-1", "difficulty": "hard"},
    {"topic_id": "fractions", "item_id": None, "difficulty": "easy"},
    {"topic_id": "never met", "item_id": None, "difficulty": None},
]


def request(user: str, number: int) -> tuple[str, Message]:
    """Return a request of a user."""
    return "prediction-requests", {"request_id": f"r-{user}-{number}", "user_id": user, "targets": TARGETS}


def replies(system: System, count: int) -> list[Message]:
    """Return the replies, at least so many."""
    return system.read("prediction-replies", until=lambda found: len(found) >= count)


def test_a_request_is_answered_and_changes_nothing(system: System) -> None:
    """One reply with probability and times of each target, in their order; the user's history stays as it was."""
    system.start("worker")
    system.send(answer("ada", number) for number in range(4))
    system.predictions("correctness", 4)
    system.send([request("ada", 0), request("nobody", 0)])
    by_user = {reply["user_id"]: reply for reply in replies(system, 2)}
    assert by_user.keys() == {"ada", "nobody"}
    for user, reply in by_user.items():
        assert reply["request_id"] == f"r-{user}-0"
        assert [{name: target[name] for name in TARGETS[0]} for target in reply["targets"]] == TARGETS
        assert all(0 < t["p_correct"] < 1 and 0 < t["p10"] < t["p50"] < t["p90"] for t in reply["targets"])
    for target in by_user["nobody"]["targets"]:
        assert target["p_correct"] == 0.5
        assert target["expected_seconds"] == pytest.approx(60, abs=0.01)
    assert by_user["ada"]["targets"][0]["expected_seconds"] < 50

    system.send([answer("ada", 4), answer("nobody", 0)])
    latest = {m["user_id"]: m for m in system.examples(6)}
    assert answers_before(latest["ada"]) == 4
    assert answers_before(latest["nobody"]) == 0


def test_a_reply_keeps_its_contract(system: System) -> None:
    """A reply fits its schema, is keyed by the user, and a repeated request gets the same reply id."""
    system.start("worker")
    system.send([request("ada", 0), request("ada", 0)])
    records = system.records("prediction-replies", until=lambda found: len(found) >= 2)
    ids = set()
    for record in records:
        reply = TOPICS["prediction-replies"].adapter.validate_json(record.value or b"")
        headers = dict(record.headers)
        assert record.key == b"ada"
        assert headers["ce_id"] == reply.reply_id.encode()
        assert headers["ce_type"] == b"learnerstream.prediction-replies.v1"
        ids.add(reply.reply_id)
    assert len(ids) == 1


def test_a_request_while_the_topic_is_empty_needs_no_answers(system: System) -> None:
    """A worker that has never met an answer replies from its first request, without a model."""
    system.start("worker")
    outbox = KafkaOutbox(system.settings)
    # The smallest request: no id, no moment.
    outbox.send(
        system.settings.topic("prediction-requests"),
        key=b"ada",
        value=b'{"user_id":"ada","targets":[{"topic_id":"fractions"}]}',
    )
    outbox.flush_now()
    (reply,) = replies(system, 1)
    assert reply["fallback"] is True
    assert reply["request_id"]
