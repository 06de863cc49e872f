"""Rollouts on the real broker: trials beside what serves, promotion, refusal, corrected answers, and their commands."""

from collections.abc import Iterable
from functools import partial
from operator import eq

import pytest

from schemas import TOPICS
from stream.emission import prediction_id
from stream.models.store import Store
from stream.state.learner import key64
from tests.flow.releases import announce, damage, make_release
from tests.flow.system import Message, System, answer, answers_before, distinct, rounds
from tests.risks import make_risk_release

pytestmark = pytest.mark.timeout(360)

VERSION, CHALLENGER = 'stream_model_version{name="knowledge"}', 'stream_challenger_version{name="knowledge"}'
OF_RISK, RISK_CHALLENGER = 'stream_model_version{name="risk"}', 'stream_challenger_version{name="risk"}'
LINEAGE = "lstm-rollout"
USERS = 24


def voices(messages: Iterable[Message]) -> set[tuple[int, str]]:
    """Return the versions that were heard, and the parts that they played."""
    return {(m["model"]["version"], m["model"]["variant"]) for m in messages}


def await_live(system: System, worker: str, version: int, challenger: int = 0) -> None:
    """Return when a worker serves a version and has a challenger on trial, 0 for none."""
    system.await_metric(worker, VERSION, partial(eq, version))
    system.await_metric(worker, CHALLENGER, partial(eq, challenger))


def test_a_challenger_with_share_0_is_measured_and_not_heard(system: System) -> None:
    """Predictions are the champion's; each example says what the challenger would have said."""
    champion = make_release(system, 1, lineage=LINEAGE)
    announce(system, champion, make_release(system, 2, lineage=LINEAGE, skills=("decimals",)))
    system.start("worker")
    system.send(rounds(10, 3))
    for kind in ("correctness", "time"):
        assert voices(system.predictions(kind, 30)) == {(1, "champion")}
    examples = system.examples(30)
    assert voices(examples) == {(1, "champion")}
    assert voices(e["unheard"] for e in examples) == {(2, "challenger")}
    assert any(e["unheard"]["p_before"] != e["p_before"] for e in examples)


def test_a_share_of_the_users_hears_the_challenger_and_after_promotion_everybody(system: System) -> None:
    """The users are always the same ones, their predictions say who made them, and `/metrics` shows the trial."""
    champion = make_release(system, 1, lineage=LINEAGE)
    challenger = make_release(system, 2, lineage=LINEAGE, skills=("decimals",))
    announce(system, champion, challenger, 0.5)
    system.start("worker")
    system.send(rounds(USERS, 3))
    served = {f"user-{i}" for i in range(USERS) if key64(f"user-{i}") < 2**63}
    assert 0 < len(served) < USERS
    for kind in ("correctness", "time"):
        found = system.predictions(kind, 3 * USERS)
        assert {m["user_id"] for m in found if m["model"]["variant"] == "challenger"} == served
        assert voices(m for m in found if m["user_id"] in served) == {(2, "challenger")}
        assert voices(m for m in found if m["user_id"] not in served) == {(1, "champion")}
    for example in system.examples(3 * USERS):
        heard, other = example["model"]["version"], example["unheard"]["model"]["version"]
        assert (heard, other) == ((2, 1) if example["user_id"] in served else (1, 2))
    assert system.metric("worker", CHALLENGER) == 2
    live = 'stream_live_logloss_nats{model="challenger",version="2"}'
    system.await_metric("worker", live, lambda logloss: 0 < logloss < 5)

    announce(system, challenger)
    await_live(system, "worker", 2)
    system.send(rounds(USERS, 1, first=3))
    latest = [m for m in system.predictions("correctness", 4 * USERS) if m["source"]["event_id"].endswith("-3")]
    assert {m["user_id"] for m in latest} == {f"user-{i}" for i in range(USERS)}
    assert voices(latest) == {(2, "champion")}


def test_all_workers_of_a_group_come_to_the_same_rollout(system: System) -> None:
    """After several announcements in a row, also one that starts when all of them are over."""
    releases = [make_release(system, version, lineage=f"{LINEAGE}-{version % 2}") for version in (1, 2, 3, 4)]
    announce(system, releases[0])
    for worker in ("worker", "worker-2"):
        system.start(worker)
        await_live(system, worker, 1)
    announce(system, releases[0], releases[1], 0.5)
    announce(system, releases[1])
    announce(system, releases[1], releases[2])
    announce(system, releases[3], releases[2], 0.25)
    system.start("worker-3")
    for worker in ("worker", "worker-2", "worker-3"):
        await_live(system, worker, 4, challenger=3)
    system.send(rounds(USERS, 2))
    found = system.predictions("correctness", 2 * USERS)
    assert voices(found) == {(4, "champion"), (3, "challenger")}
    served = {f"user-{i}" for i in range(USERS) if key64(f"user-{i}") < 2**62}
    assert {m["user_id"] for m in found if m["model"]["variant"] == "challenger"} == served


def test_a_damaged_challenger_is_refused_and_the_swap_beside_it_goes_live(system: System) -> None:
    """Of one announcement the part that can be loaded serves; the other is tried again, and then on trial by itself."""
    announce(system, make_release(system, 1, lineage=LINEAGE))
    system.start("worker")
    await_live(system, "worker", 1)
    damaged = make_release(system, 3, lineage=LINEAGE)
    damage(system, damaged)
    announce(system, make_release(system, 2, lineage=LINEAGE), damaged, 1.0)
    (refused,) = system.events("model_refused")
    assert refused["version"] == 3
    assert "digest" in refused["reason"]
    await_live(system, "worker", 2)
    assert [(e["version"], e["previous"]) for e in system.events("model_swapped", 2)] == [(1, None), (2, 1)]
    system.send(rounds(6, 2))
    assert voices(system.predictions("correctness", 12)) == {(2, "champion")}
    assert all(e["unheard"] is None for e in system.examples(12))
    damage(system, damaged)
    await_live(system, "worker", 2, challenger=3)


def test_a_corrected_answer_tells_the_trainer_and_predicts_nothing(system: System) -> None:
    """The correction names the example of the corrected answer; only answers are predicted, and counted."""
    system.start("worker")
    right = answer("ada", 1)[1]["correct"]
    correction = answer("ada", 3, type="answer_correction", corrects="ada-1", correct=not right)
    system.send([*(answer("ada", n) for n in range(3)), correction, correction, answer("ada", 4)])
    messages = system.read("training-examples", until=lambda found: any(m["event_id"] == "ada-4" for m in found))
    examples = {m["event_id"]: m for m in messages if m["type"] == "answer"}
    assert set(examples) == {"ada-0", "ada-1", "ada-2", "ada-4"}
    (told,) = distinct((m for m in messages if m["type"] == "correction"), "event_id")
    assert told["example_id"] == examples["ada-1"]["example_id"] == prediction_id("ada-1", "example")
    assert (told["event_id"], told["user_id"], told["correct"]) == ("ada-3", "ada", not right)
    assert answers_before(examples["ada-4"]) == 3
    assert {m["source"]["event_id"] for m in system.predictions("correctness", 4)} == set(examples)
    records = system.records("training-examples", until=lambda found: len(found) >= len(messages))
    corrections = [record for record in records if b'"correction"' in (record.value or b"")]
    # It came twice, at two offsets: what is told of it has one id.
    assert {dict(record.headers)["ce_id"] for record in corrections} == {prediction_id("ada-3", "correction").encode()}
    for record in corrections:
        TOPICS["training-examples"].adapter.validate_json(record.value or b"")


def said(system: System, *arguments: str) -> list[str]:
    """Return the lines that a command of `stream models` says, which must go well."""
    done = system.command("models", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_commands_put_on_trial_promote_and_take_back(system: System) -> None:
    """Each says what it did in one sentence, the worker does it, and the store may be a URL."""
    system.options["model_store"] = f"file://{system.folder / 'models'}"
    for version in (1, 2):
        make_release(system, version, lineage=LINEAGE)
    announced = "version {} is announced; each worker serves it as soon as it has read and checked it"
    assert said(system, "promote", "1") == [announced.format(1)]
    on_trial = (
        "version 2 is on trial; each worker has it predict as soon as it has read and checked it, and serves 25% of "
        "the users by it until the gate decides"
    )
    assert said(system, "promote", "2", "--share", "0.25") == [on_trial]
    assert said(system, "show") == ["champion: version 1", "on trial: version 2, which serves 25% of the users"]
    assert said(system, "list", "--model", "knowledge") == [
        "knowledge version 1: 0 answers of 0 users  <- champion",
        "knowledge version 2: 0 answers of 0 users  <- on trial",
    ]
    system.start("worker")
    await_live(system, "worker", 1, challenger=2)
    assert said(system, "promote", "2") == [announced.format(2)]
    await_live(system, "worker", 2)
    assert said(system, "show") == ["champion: version 2", "before it: version 1"]
    assert said(system, "rollback") == [announced.format(1)]
    await_live(system, "worker", 1)
    history = said(system, "show", "2")
    assert history[0] == "knowledge version 2: 0 answers of 0 users"
    assert "  logloss 0.5" in history
    assert history[-1].endswith("before it version 1")


def lectures(day: int) -> list[tuple[str, Message]]:
    """Return a missed lecture of each user on a day."""
    return [
        ("academics", {
            "event_id": f"user-{user}-day-{day}", "type": "attendance_recorded", "user_id": f"user-{user}",
            "status": "absent", "timestamp": f"2026-03-{day:02d}T10:00:00Z",
        })
        for user in range(USERS)
    ]  # fmt: skip


def risks_of(system: System, day: int) -> list[Message]:
    """Send the lectures of a day, and return the risk predictions that answer them."""
    system.send(lectures(day))
    ids = {event["event_id"] for _, event in lectures(day)}

    def of_day(found: list[Message]) -> list[Message]:
        return [message for message in found if message["source"]["event_id"] in ids]

    return of_day(system.read("predictions.risk", until=lambda found: len(of_day(found)) >= USERS))


def test_a_risk_model_is_promoted_tried_and_taken_back(system: System) -> None:
    """By the same commands, beside a knowledge model that goes its own way; predictions carry its version."""
    store = Store(system.settings.model_store)
    for version in (1, 2, 3):
        make_risk_release(store, version)
    make_release(system, 5, lineage=LINEAGE)
    system.start("worker")
    first = risks_of(system, 2)
    assert voices(first) == {(0, "fallback")}
    assert {message["model"]["name"] for message in first} == {"risk"}
    assert said(system, "list") == [
        "knowledge version 5: 0 answers of 0 users",
        "no version of knowledge is announced: the fallback serves",
        *(f"risk version {version}: 360 weeks of 120 users, 50% at risk" for version in (1, 2, 3)),
        "no version of risk is announced: the fallback serves",
    ]
    announced = "version {} is announced; each worker serves it as soon as it has read and checked it"
    assert said(system, "promote", "1", "--model", "risk") == [announced.format(1)]
    system.await_metric("worker", OF_RISK, partial(eq, 1))
    assert system.metric("worker", VERSION) == 0
    assert voices(risks_of(system, 3)) == {(1, "champion")}
    (swapped,) = system.events("model_swapped")
    assert (swapped["name"], swapped["_key"], swapped["version"], swapped["previous"]) == ("risk", "risk", 1, None)

    said(system, "promote", "2", "--model", "risk", "--share", "0.5")
    system.await_metric("worker", RISK_CHALLENGER, partial(eq, 2))
    served = {f"user-{i}" for i in range(USERS) if key64(f"user-{i}") < 2**63}
    shared = risks_of(system, 4)
    assert {m["user_id"] for m in shared if m["model"]["version"] == 2} == served
    assert voices(shared) == {(1, "champion"), (2, "challenger")}
    assert said(system, "show", "--model", "risk") == [
        "champion: version 1", "on trial: version 2, which serves 50% of the users",
    ]  # fmt: skip

    said(system, "promote", "5")
    await_live(system, "worker", 5)
    assert system.metric("worker", OF_RISK) == 1
    assert said(system, "rollback", "--model", "risk") == [
        "the fallback is announced; each worker serves it as soon as it has read and checked it"
    ]
    system.await_metric("worker", OF_RISK, partial(eq, 0))
    assert system.metric("worker", VERSION) == 5
    assert voices(risks_of(system, 5)) == {(0, "fallback")}
    history = said(system, "show", "1", "--model", "risk")
    assert history[0] == "risk version 1: 360 weeks of 120 users, 50% at risk"
    assert any(line.endswith("before it the fallback") for line in history)


def test_a_spoilt_risk_model_is_kept_out(system: System) -> None:
    """Told under its name, and what there is goes on; a version of the other model is no version of this one."""
    store = Store(system.settings.model_store)
    make_risk_release(store, 1)
    said(system, "promote", "1", "--model", "risk")
    system.start("worker")
    system.await_metric("worker", OF_RISK, partial(eq, 1))
    damage(system, make_risk_release(store, 2))
    said(system, "promote", "2", "--model", "risk")
    (refused,) = system.events("model_refused")
    assert (refused["name"], refused["version"]) == ("risk", 2)
    assert "digest" in refused["reason"]
    assert voices(risks_of(system, 2)) == {(1, "champion")}
    done = system.command("models", "promote", "1")
    assert done.returncode in (1, 2)
    assert "knowledge/v1/manifest.json: cannot be read" in done.stderr
    none = system.command("models", "rollback")
    assert "no knowledge model was ever announced" in none.stderr


def test_learning_now_is_asked_for_by_a_command(system: System) -> None:
    """The request stands where the trainer reads it."""
    assert said(system, "learn-now") == [
        "asked for an update; `stream models list` shows the candidate when it is frozen, and what became of it"
    ]
    (asked,) = system.events("learn_requested")
    assert asked["name"] == "knowledge"
    assert asked["_key"] == "knowledge"


def test_what_cannot_be_rolled_out_is_one_sentence(system: System) -> None:
    """Nothing is announced, and whoever typed it learns why."""
    make_release(system, 1)
    for arguments, sentence in (
        (("rollback",), "no knowledge model was ever announced on model-updates: the fallback serves already"),
        (("promote", "9", "--share", "0.5"), "knowledge/v9/manifest.json: cannot be read"),
        (("show", "9"), "found no 9; `stream models list` lists them"),
        (("promote", "1", "--share", "1.5"), "1.5 is not in the range"),
    ):
        done = system.command("models", *arguments)
        assert done.returncode in (1, 2)
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    assert said(system, "show") == ["champion: the fallback"]
