"""Worker and trainer together, on the real broker: answers in, predictions out, and a model that learns meanwhile."""

import os
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice, pairwise
from operator import eq
from pathlib import Path

import numpy as np
import pytest

from schemas import TOPICS, parameters_key
from stream.demo.simulator import simulate
from stream.models.artifacts import MODEL
from stream.models.dkt import KNOWLEDGE
from stream.ports import Record
from stream.transport.rollout import ask_to_learn
from tests.broker.kafka import KafkaServer
from tests.broker.process import ServerProcess
from tests.flow.releases import announce, make_release, shifted
from tests.flow.system import KILLED_S, Message, System, answer, await_effect, distinct

pytestmark = pytest.mark.timeout(480)

CHUNK, MOST_ANSWERS = 400, 8_000
NEWCOMERS, ANSWERS_OF_EACH = 20, 5
FROZEN = 'stream_trainer_updates_total{name="knowledge",outcome="frozen"}'
VERSION = 'stream_model_version{name="knowledge"}'
LEARNED_S = 180.0
"""Seconds for a child process, at a low priority, to import torch, learn, export and be tried."""

EXAMPLES = "stream_trainer_examples_total"
ROLLBACKS = 'stream_trainer_rollbacks_total{name="knowledge"}'
CHALLENGER = 'stream_trainer_challenger_version{name="knowledge"}'


@dataclass(frozen=True)
class Learned:
    """A system that has learned and swapped, and the number of answers that went through it."""

    system: System
    answers: int


@pytest.fixture(scope="module")
def learned(kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learned]:
    """Send simulated events until a model that learned from them serves, and then some answers of new users."""
    options: dict[str, object] = {
        "gate_every": 100,
        "update_seconds": 3,
        "learn_from": CHUNK,
        # As in the demo: a trainer that is busy holds the source up, so that a slow machine learns as often.
        "trainer_backlog": CHUNK,
    }
    system = System(tmp_path_factory.mktemp("learned"), kafka.bootstrap, f"t{secrets.token_hex(6)}-", options)
    system.create_topics()
    system.start("worker")
    system.start("trainer")
    events = simulate(5)
    answers = 0
    while not system.metric("worker", VERSION):
        assert answers < MOST_ANSWERS, system.words()
        answers += system.send(islice(events, CHUNK))
        system.await_metric("trainer", EXAMPLES, partial(eq, answers), LEARNED_S)
    answers += system.send(
        answer(f"newcomer-{user}", number) for number in range(ANSWERS_OF_EACH) for user in range(NEWCOMERS)
    )
    yield Learned(system, answers)
    system.end()


def test_every_answer_is_predicted_once_of_each_kind(learned: Learned) -> None:
    """There are as many predictions of correctness and of time as answers, risks too, and no id comes twice."""
    found = {kind: learned.system.predictions(kind, learned.answers) for kind in ("correctness", "time")}
    assert {kind: len(messages) for kind, messages in found.items()} == dict.fromkeys(found, learned.answers)
    found["risk"] = learned.system.predictions("risk", NEWCOMERS)
    ids = Counter(m["prediction_id"] for messages in found.values() for m in messages)
    assert set(ids.values()) == {1}


def test_a_better_model_goes_live_by_itself(learned: Learned) -> None:
    """The gate let a candidate through on answers from after it was frozen, and the worker says that it swapped."""

    def of(messages: list[Message], type_: str) -> list[Message]:
        return [message for message in messages if message["type"] == type_ and message.get("promoted", True)]

    kinds = ("gate_decided", "model_swapped")
    events = learned.system.read("model-events", until=lambda found: all(of(found, kind) for kind in kinds))
    promoted, swapped = (of(events, kind) for kind in kinds)
    assert promoted
    assert all(e["candidate"]["logloss"] < e["fallback"]["logloss"] and e["gain"] > e["needed"] for e in promoted)
    assert {e["version"] for e in swapped} <= {e["candidate_version"] for e in promoted} | {None}
    assert learned.system.metric("worker", 'stream_model_swaps_total{name="knowledge"}') >= 1


def test_predictions_after_the_swap_name_the_version(learned: Learned) -> None:
    """Before the swap it is the fallback that predicts, and says so; afterwards a version of the gate's."""
    found = learned.system.predictions("correctness", learned.answers)
    late = [message for message in found if message["user_id"].startswith("newcomer-")]
    served = {e["version"] for e in learned.system.events("model_swapped")}
    assert len(late) == NEWCOMERS * ANSWERS_OF_EACH
    for message in late:
        assert message["model"]["version"] in served
        assert message["model"]["variant"] == "champion"
        assert message["fallback"] is False
    for message in (m for m in found if m["source"]["offset"] == 0):
        assert message["fallback"] is True
        assert message["model"] == {"name": KNOWLEDGE, "version": 0, "variant": "fallback"}


@pytest.mark.parametrize(
    "name",
    [
        "predictions.correctness",
        "predictions.time",
        "predictions.risk",
        "training-examples",
        "model-updates",
        "model-events",
        "item-parameters",
    ],
)
def test_every_message_keeps_its_contract(learned: Learned, name: str) -> None:
    """What is on a topic fits its schema and carries its key; predictions and examples have CloudEvents headers."""
    least = learned.answers if name in {"predictions.correctness", "predictions.time", "training-examples"} else 1
    for record in learned.system.records(name, until=lambda found: len(found) >= least):
        message = TOPICS[name].adapter.validate_json(record.value or b"")
        assert message.schema_version == 1
        if name in {"model-updates", "model-events"}:
            assert record.key == KNOWLEDGE.encode()
        elif name == "item-parameters":
            assert record.key == parameters_key(message)
        else:
            assert record.key == message.user_id.encode()
            assert_cloud_event(record, name)


def assert_cloud_event(record: Record, name: str) -> None:
    """Hold a message's headers to CloudEvents 1.0 in Kafka's binary mode, and its id to that in the message."""
    headers = {header: (value or b"").decode() for header, value in record.headers}
    id_field = "example_id" if name == "training-examples" else "prediction_id"
    message = TOPICS[name].adapter.validate_json(record.value or b"")
    assert headers["ce_id"] == getattr(message, id_field)
    assert headers["ce_type"] == f"learnerstream.{name}.v1"
    assert headers["ce_source"] == "/learnerstream"
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_time"]


def test_one_users_predictions_stand_in_the_order_of_the_answers(learned: Learned) -> None:
    """On a prediction topic a user's offsets of the source rise: a consumer may take the last for the latest."""
    by_user: dict[str, list[int]] = {}
    for message in learned.system.predictions("correctness", learned.answers):
        by_user.setdefault(message["user_id"], []).append(message["source"]["offset"])
    assert all(first < second for offsets in by_user.values() for first, second in pairwise(offsets))


def test_a_worker_that_starts_late_serves_the_same_model(system: System) -> None:
    """The announced model serves from a worker's very first prediction, also in one that comes later."""
    announce(system, make_release(system, 3))
    system.send(answer(f"user-{user}", number) for number in range(4) for user in range(20))
    system.start("worker")
    assert {m["model"]["version"] for m in system.predictions("correctness", 80)} == {3}
    system.start("worker-2")
    assert system.await_metric("worker-2", VERSION, lambda version: version > 0) == 3
    system.processes["worker"].stop(timeout_s=30)
    system.send(answer(f"user-{user}", 4) for user in range(20))
    found = system.predictions("correctness", 100)
    assert {(m["model"]["version"], m["fallback"]) for m in found} == {(3, False)}


def population(system: System, answers: int) -> Message:
    """
    Return the population's parameters as soon as they count the times of so many answers or more.

    Answers themselves are forgotten where what is answered seems to change, which depends on the order of partitions.
    """

    def latest(found: list[Message]) -> Message:
        return max((m for m in found if m["subject"] == "population"), key=lambda m: m["version"], default={"timed": 0})

    found = system.read("item-parameters", until=lambda found: latest(found)["timed"] >= answers)
    return latest(found)


def test_a_restarted_trainer_goes_on(system: System) -> None:
    """Champion and challenger stay, versions go on, and each answer counts once, in parameters and buffer."""
    system.options |= {"update_seconds": 0.1}
    announce(system, make_release(system, 3))
    system.start("worker")
    system.start("trainer")
    system.send(answer(f"user-{user}", number) for number in range(10) for user in range(20))
    assert population(system, 200)["timed"] == 200
    assert system.events("update_started")[0]["candidate_version"] == 4
    frozen = Path(system.settings.model_store) / KNOWLEDGE / "v4"
    system.await_metric("trainer", CHALLENGER, lambda version: version == 4, LEARNED_S)
    system.await_metric("worker", 'stream_challenger_version{name="knowledge"}', lambda version: version == 4)
    assert frozen.is_dir()
    system.processes["trainer"].stop(timeout_s=30)
    assert "trainer.ended" in system.log("trainer")
    system.start("trainer")
    assert system.metric("trainer", 'stream_trainer_champion_version{name="knowledge"}') == 3
    assert system.metric("trainer", CHALLENGER) == 4
    system.send(answer(f"user-{user}", 10) for user in range(20))
    assert population(system, 220)["timed"] == 220
    system.await_metric("trainer", "stream_trainer_buffered_answers", lambda count: count == 220)
    system.await_metric("trainer", 'stream_trainer_trial_answers{name="knowledge"}', lambda count: count == 20)
    ask_to_learn(system.outbox(), system.settings, KNOWLEDGE, datetime.now(UTC))
    found = system.events("update_started", 2)
    assert [e["candidate_version"] for e in found] == [4, 5]
    assert [e["trigger"] for e in found] == ["answers", "hand"]
    assert system.events("candidate_dropped")[0]["candidate_version"] == 4


def kill_alone(process: ServerProcess) -> list[int]:
    """Kill a process but not those that it started, and return these, as far as the system tells."""
    assert process._process is not None
    pid = process._process.pid
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    children = [int(child) for child in listed.read_text().split()] if listed.exists() else []
    os.kill(pid, signal.SIGKILL)
    return children


def runs(pid: int) -> bool:
    """Return whether a process still runs; one that has ended may wait to be taken note of."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_trainer_killed_while_it_learns_leaves_no_half_artifact(system: System) -> None:
    """After kill -9 in an update no half model is in the store, no child goes on, and a restart learns on."""
    system.options |= {"update_seconds": 60, "learn_from": 1_000, "session_timeout_s": KILLED_S}
    system.start("worker")
    system.start("trainer")
    system.send(answer(f"user-{user}", number) for number in range(30) for user in range(40))
    system.events("update_started")
    trainer = system.processes.pop("trainer")
    children = kill_alone(trainer)
    await_effect(lambda: not any(map(runs, children)), within_s=LEARNED_S)
    trainer.kill()
    store = Path(system.settings.model_store) / KNOWLEDGE
    whole = [path for path in store.glob("v*") if {file.name for file in path.iterdir()} >= {MODEL, "manifest.json"}]
    assert list(store.glob("v*")) == whole
    system.options |= {"update_seconds": 0.1}
    system.start("trainer")
    system.await_metric("trainer", FROZEN, lambda count: count == 1, LEARNED_S)
    assert population(system, 1_200)["timed"] == 1_200


def test_a_model_that_predicts_badly_is_taken_back_by_itself(system: System) -> None:
    """Promoted by hand, it serves until live log loss tells; then what served before does, and the events say why."""
    system.options |= {"learn_from": 1_000_000}
    good, bad = (make_release(system, v, lineage="lstm-test", network=shifted(by)) for v, by in ((1, 0.0), (2, 6.0)))
    announce(system, good)
    system.start("worker")
    system.start("trainer")
    random = np.random.default_rng(3)
    turns = iter(range(1_000))

    def some(each: int) -> None:
        """Have everybody answer, half of them right."""
        numbers = [next(turns) for _ in range(each)]
        system.send(answer(f"user-{u}", n, correct=bool(random.random() < 0.5)) for n in numbers for u in range(40))

    some(10)
    system.await_metric("trainer", EXAMPLES, partial(eq, 400))
    announce(system, bad, previous=good)
    system.await_metric("worker", VERSION, partial(eq, 2))
    for _ in range(10):
        some(3)
        if system.metric("trainer", ROLLBACKS):
            break
    system.await_metric("trainer", ROLLBACKS, partial(eq, 1))
    system.await_metric("worker", VERSION, partial(eq, 1))
    (back,) = system.events("rolled_back")
    assert (back["version"], back["to_version"]) == (2, 1)
    assert back["logloss_after"] > back["logloss_before"] + 0.05
    assert system.metric("trainer", 'stream_trainer_champion_version{name="knowledge"}') == 1
    assert system.metric("trainer", 'stream_trainer_previous_version{name="knowledge"}') == 0


def test_a_store_that_is_gone_costs_learning_and_nothing_else(system: System) -> None:
    """Predictions go on, failures are counted and tried again, and once the store is back a candidate is tried."""
    system.options |= {"update_seconds": 0.1, "model_store": system.folder / "not-there" / "models"}
    (system.folder / "not-there").write_text("in the way of a folder")
    system.start("worker")
    system.start("trainer")
    system.send(answer(f"user-{user}", number) for number in range(5) for user in range(20))
    system.await_metric("trainer", 'stream_trainer_failures_total{part="store"}', lambda count: count >= 2)
    assert len(system.predictions("correctness", 100)) == 100
    assert system.metric("worker", VERSION) == 0
    (system.folder / "not-there").unlink()
    system.await_metric("trainer", CHALLENGER, lambda version: version > 0, LEARNED_S)


def test_a_corrupted_model_is_kept_out(system: System) -> None:
    """An announced artifact with one byte changed is refused, counted and told of; the next good one serves again."""
    announce(system, make_release(system, 1))
    system.start("worker")
    system.await_metric("worker", VERSION, lambda version: version == 1)
    bad = make_release(system, 2)
    model = Path(system.settings.model_store) / bad.path / MODEL
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    announce(system, bad)
    system.await_metric("worker", 'stream_models_refused_total{name="knowledge"}', lambda count: count >= 1)
    refused = system.events("model_refused")[0]
    assert refused["version"] == 2
    assert "digest" in refused["reason"]
    system.send(answer("ada", number) for number in range(5))
    assert {m["model"]["version"] for m in system.predictions("correctness", 5)} == {1}
    announce(system, make_release(system, 4))
    system.events("model_swapped", 2)
    system.send([answer("ada", 5)])
    assert system.await_metric("worker", VERSION, lambda version: version != 1) == 4
    found = distinct(system.predictions("correctness", 6), "prediction_id")
    assert Counter(m["model"]["version"] for m in found) == {1: 5, 4: 1}
