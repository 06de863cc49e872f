"""Stops, kills and shared partitions, on the real broker: nothing is lost, nothing counts twice."""

import subprocess
import sys
import time
from collections import Counter
from itertools import islice

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from stream.demo.simulator import simulate
from stream.models.features import COLUMN
from tests.flow.system import KILLED_S, Message, System, answer, answers_before, both_guarantees, distinct

pytestmark = pytest.mark.timeout(240)

REPEATED = 'stream_events_total{outcome="repeated",type="quiz_complete"}'


def rounds(users: int, answers: int, first: int = 0) -> list[tuple[str, Message]]:
    """Return answers of users in turn."""
    return [answer(f"user-{user}", number) for number in range(first, first + answers) for user in range(users)]


def assert_counted_exactly(examples: list[Message], users: int, answers: int) -> None:
    """Hold that each user's answers were counted one by one, whatever happened in between."""
    counted: dict[str, list[int]] = {}
    for example in examples:
        counted.setdefault(example["user_id"], []).append(answers_before(example))
    assert len(counted) == users
    for user, numbers in counted.items():
        rows = [(e["event_id"], answers_before(e), e["source"]["offset"]) for e in examples if e["user_id"] == user]
        assert sorted(numbers) == list(range(answers)), rows


def test_a_returning_users_state_is_not_the_default_after_a_restart(system: System) -> None:
    """A worker that was stopped and started goes on from its tables."""
    system.start("worker")
    system.send(rounds(users=5, answers=8))
    before = system.examples(40)
    system.processes["worker"].stop(timeout_s=20)
    assert "worker.ended" in system.log("worker")
    system.start("worker")
    system.send(rounds(users=5, answers=1, first=8))
    after = {e["user_id"]: e for e in system.examples(45) if e["event_id"].endswith("-8")}
    assert {answers_before(e) for e in before} == set(range(8))
    for example in after.values():
        assert answers_before(example) == 8
        assert example["features"][COLUMN["rate"]] == pytest.approx(5 / 8)
        assert example["features"][COLUMN["ability"]] != 0
        assert example["features"][COLUMN["seconds"]] == pytest.approx(0.2, abs=1e-3)
    assert len(after) == 5


@pytest.mark.long
@both_guarantees
def test_kill_9_and_start_again_leaves_exact_counts(system: System, guarantee: str) -> None:
    """A worker killed three times in the middle has predicted and counted each answer once in the end."""
    system.options["session_timeout_s"] = KILLED_S
    users, answers = 40, 60
    system.start("worker")
    for part in range(3):
        system.send(rounds(users, answers // 4, first=part * (answers // 4)))
        # Somewhere in the middle of this part.
        system.predictions("correctness", part * users * answers // 4 + users * answers // 8)
        system.processes["worker"].kill()
        system.start("worker")
    system.send(rounds(users, answers // 4, first=3 * (answers // 4)))
    total = users * answers
    assert_counted_exactly(system.examples(total), users, answers)
    for kind in ("correctness", "time"):
        sent = system.predictions(kind, total)
        found = distinct(sent, "prediction_id")
        assert len(found) == total
        assert guarantee == "at_least_once" or len(sent) == total
        assert {m["source"]["event_id"] for m in found} == {
            f"user-{u}-{n}" for u in range(users) for n in range(answers)
        }


@pytest.mark.long
@both_guarantees
def test_two_workers_share_the_partitions(system: System, guarantee: str) -> None:
    """Each of two workers predicts some of the users, together all, and one goes on when the other is killed."""
    system.options["session_timeout_s"] = KILLED_S
    system.start("worker")
    system.send(rounds(users=40, answers=5))
    system.predictions("correctness", 200)
    system.start("worker-2")
    number, shared = 5, False
    deadline = time.monotonic() + 90
    while not shared:
        assert time.monotonic() < deadline, system.words()
        system.send(rounds(users=40, answers=1, first=number))
        number += 1
        system.predictions("correctness", 40 * number)
        line = 'stream_events_total{outcome="applied",type="quiz_complete"}'
        shared = system.metric("worker-2", line) > 0
    system.processes["worker"].kill()
    system.send(rounds(users=40, answers=5, first=number))
    assert_counted_exactly(system.examples(40 * (number + 5)), users=40, answers=number + 5)


@both_guarantees
def test_sigterm_finishes_the_batch_in_hand(system: System, guarantee: str) -> None:
    """A worker told to stop while events stream in commits what it did: its successor meets nothing twice."""
    system.start("worker")
    system.send(islice(simulate(3), 1_500))
    system.predictions("correctness", 100)
    process = system.processes["worker"]
    started = time.monotonic()
    process.stop(timeout_s=20)
    assert time.monotonic() - started < 10
    system.start("worker")
    system.send(rounds(users=3, answers=2))
    system.read("training-examples", until=lambda found: sum(m["user_id"].startswith("user-") for m in found) == 6)
    simulated = sum(e["type"] == "quiz_complete" for _, e in islice(simulate(3), 1_500))
    found = system.predictions("correctness", simulated + 6)
    assert Counter(Counter(m["prediction_id"] for m in found).values()) == {1: simulated + 6}
    assert system.metric("worker", REPEATED) == 0


def test_a_resent_event_changes_nothing(system: System) -> None:
    """The same events sent a second time are counted as repeats, and not predicted again."""
    system.start("worker")
    system.send(rounds(users=4, answers=6))
    system.predictions("correctness", 24)
    system.send(rounds(users=4, answers=6))
    system.await_metric("worker", REPEATED, lambda value: value == 24)
    system.send(rounds(users=4, answers=1, first=6))
    assert len(system.predictions("correctness", 28)) == 28
    assert_counted_exactly(system.examples(28), users=4, answers=7)


def test_a_source_topic_made_anew_stops_the_worker_with_a_sentence(system: System) -> None:
    """State that has seen more than the topic has must not swallow new events."""
    system.start("worker")
    system.send(rounds(users=8, answers=10))
    system.predictions("correctness", 80)
    system.processes["worker"].stop(timeout_s=20)
    admin = AdminClient({"bootstrap.servers": system.bootstrap})
    topic = system.settings.topic("interactions")
    admin.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 30
    while topic in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(30)
    system.start("worker", until="made anew")
    assert "topic was made anew. Start with another STREAM_GROUP" in system.log("worker")


@both_guarantees
def test_a_rebalance_finishes_the_batch_in_hand(system: System, guarantee: str) -> None:
    """A second worker that comes and goes while events stream in leaves each answer predicted and counted once."""
    users, answers = 30, 40
    system.start("worker")
    system.send(rounds(users, answers // 2))
    system.start("worker-2")
    system.send(rounds(users, answers // 4, first=answers // 2))
    system.processes["worker-2"].stop(timeout_s=30)
    system.send(rounds(users, answers // 4, first=3 * answers // 4))
    assert_counted_exactly(system.examples(users * answers), users, answers)
    assert len(distinct(system.predictions("time", users * answers), "prediction_id")) == users * answers


def test_a_worker_without_a_broker_says_so(system: System) -> None:
    """No broker at the address: one sentence, exit status 1."""
    environment = system.environment("worker") | {"STREAM_BROKER": "127.0.0.1:1"}
    command = ["env", *(f"{k}={v}" for k, v in environment.items()), sys.executable, "-m", "stream.cli", "worker"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1 (STREAM_BROKER)" in ended.stderr
    assert "Traceback" not in ended.stderr
