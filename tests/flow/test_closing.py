"""Weeks that close on the real broker: quiet users are scored once more, whoever is killed in between."""

import pytest

from schemas import RiskExample
from stream.closing import closing_id
from stream.emission import prediction_id
from stream.state.academic import week_of
from tests.flow.system import KILLED_S, Message, System, answer, both_guarantees, distinct, prepare

pytestmark = pytest.mark.timeout(240)

QUIET = [f"quiet-{number}" for number in range(2_000)]
MOVED_AT = "2026-03-15T09:00:00Z"
"""Two weeks after the quiet users' day."""

WEEK = week_of(1_773_565_200.0) - 1
"""The one that is over at that moment."""


def closed(messages: list[Message]) -> list[Message]:
    """Return the predictions of closed weeks."""
    return [message for message in messages if message.get("reason") == "week_closed"]


def closings(system: System, count: int) -> list[Message]:
    """Return the predictions of closed weeks as they came, once so many different ones have."""
    return closed(
        system.read("predictions.risk", until=lambda found: len({m["prediction_id"] for m in closed(found)}) >= count)
    )


@both_guarantees
def test_quiet_users_are_scored_when_a_week_is_over(system: System, guarantee: str) -> None:
    """Another user's event moves the clock by two weeks; a worker killed in the middle leaves nobody out."""
    system.options["session_timeout_s"] = KILLED_S
    # So slow that it is killed in the middle, however late this process sees it begin.
    prepare(system, "worker", "from stream.agents import closing\nclosing._PACE_S = 0.2")
    system.start("worker")
    system.send([answer(user, 0) for user in QUIET])
    system.predictions("correctness", len(QUIET))
    # The one before theirs, in which nobody was; it is due once both topics have been read.
    system.await_metric("worker", "stream_week_closings_total", lambda weeks: weeks == 1)
    system.send([answer("mover", 0, timestamp=MOVED_AT)])
    begun = closings(system, 100)
    system.processes.pop("worker").kill()
    assert len(begun) < len(QUIET)

    system.start("worker")
    said = closings(system, len(QUIET))
    system.await_metric("worker", "stream_closing_users", lambda waiting: waiting == 0)
    # What comes after it is behind it on the topic: nothing more was said in between.
    system.send([answer("mover", 1, timestamp="2026-03-15T10:00:00Z"), answer("later", 0, timestamp=MOVED_AT)])
    system.predictions("correctness", len(QUIET) + 3)
    said = closings(system, len(QUIET))
    first = distinct(said, "prediction_id")
    assert {m["user_id"]: m["prediction_id"] for m in first} == {
        user: prediction_id(closing_id(user, WEEK), "risk") for user in QUIET
    }
    assert guarantee == "at_least_once" or len(said) == len(QUIET)
    assert {m["as_of"] for m in first} == {"2026-03-08T23:59:59+00:00"}
    assert {m["source"]["topic"] for m in first} == {system.settings.topic("academics")}

    examples = [
        RiskExample.model_validate({k: v for k, v in m.items() if not k.startswith("_")})
        for m in distinct(system.read("training-examples", until=_enough_examples), "example_id")
        if m["type"] == "risk"
    ]
    scores = {m["user_id"]: m["score"] for m in first}
    assert {example.user_id: example.score for example in examples} == scores
    assert {example.week for example in examples} == {WEEK}


def _enough_examples(found: list[Message]) -> bool:
    return len({m["example_id"] for m in found if m["type"] == "risk"}) >= len(QUIET)


@both_guarantees
def test_weeks_close_once_though_partitions_move(system: System, guarantee: str) -> None:
    """A second worker that comes while a week is being closed goes on with what is left."""
    system.start("worker")
    system.send([answer(user, 0) for user in QUIET])
    system.predictions("correctness", len(QUIET))
    system.send([answer("mover", 0, timestamp=MOVED_AT)])
    closings(system, 100)
    system.start("worker-2")
    # Of every partition, so that both workers know the time.
    system.send([answer(f"mover-{number}", 0, timestamp=MOVED_AT) for number in range(40)])
    said = closings(system, len(QUIET))
    assert {m["user_id"] for m in said} == set(QUIET)
    assert guarantee == "at_least_once" or len(said) == len(QUIET)
