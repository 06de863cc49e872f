"""
`stream doctor` and `stream inspect` on the real broker.

One healthy system for all; each breakage is looked at from settings or topics of its own, so that it stays healthy.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from schemas import Release
from stream.cli import main
from stream.doctor.examination import Examination
from stream.doctor.findings import Finding
from stream.inspection.reading import inspected
from stream.intake import Dead, Limits, dead_letter
from stream.models.artifacts import release
from stream.models.dkt import KNOWLEDGE
from stream.models.store import Store
from stream.ports import Record
from stream.settings import Settings
from stream.transport import topics
from stream.transport.clients import client_config
from stream.transport.outbox import KafkaOutbox
from stream.transport.topics import changelog
from tests.broker.kafka import SASL_USER, KafkaServer
from tests.broker.process import free_ports
from tests.broker.redis_server import RedisServer
from tests.flow.releases import announce, damage, make_release
from tests.flow.system import PARTITIONS, System, answer, await_effect, rounds

pytestmark = pytest.mark.timeout(180)

NEEDS_BROKER = {"listeners", "features", "topics", "producers", "dead letters", "workers", "trainer", "models"}


@pytest.fixture(scope="module")
def healthy(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Give a system with a worker, a trainer, Redis and a model that serves, after a few answers."""
    folder = tmp_path_factory.mktemp("doctor")
    system = System(
        folder, kafka.bootstrap, f"doctor{os.getpid()}-", {"redis_url": redis_server.url, "learn_from": 10_000}
    )
    system.create_topics()
    announce(system, make_release(system, 1))
    system.start("worker")
    system.start("trainer")
    system.send([*rounds(users=3, answers=14), attendance("user-0")])
    system.predictions("correctness", 42)
    system.await_metric("worker", 'stream_model_version{name="knowledge"}', lambda version: version == 1)
    await_effect(partial(system.is_through, "worker", 4))
    await_effect(partial(system.is_through, "trainer", 2, "stream_trainer"))
    yield system
    system.end()


@pytest.fixture
def serving(healthy: System) -> Release:
    """Return the version that serves in the healthy system."""
    return release(Store(healthy.settings.model_store), KNOWLEDGE, 1)


def attendance(user: str) -> tuple[str, dict[str, Any]]:
    """Return that a user was at a lecture."""
    return "academics", {
        "event_id": f"{user}-lecture", "type": "attendance_recorded", "user_id": user, "status": "present",
        "timestamp": "2026-03-02T09:00:00Z",
    }  # fmt: skip


def ports(system: System) -> dict[str, object]:
    """Return the settings of where worker and trainer answer."""
    return {"worker_metrics_port": system.ports["worker"], "trainer_metrics_port": system.ports["trainer"]}


def examine(settings: Settings, **changes: object) -> list[Finding]:
    """Return all findings of some settings with changes."""
    given = settings.model_dump(exclude_defaults=True) | changes
    checks = Examination(Settings.model_validate(given), {}).checks()
    return [finding for _, look in checks for finding in look()]


def of(findings: list[Finding], name: str) -> Finding:
    """Return the one finding of a check."""
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_a_healthy_system_is_ok_everywhere(healthy: System) -> None:
    """Each check says ok, that of the page aside, of which there is none; a typing error is then all that it finds."""
    everywhere = healthy.command("doctor", "--json", **ports(healthy))
    found = json.loads(everywhere.stdout)["findings"]
    assert [(finding["name"], finding["verdict"]) for finding in found if finding["verdict"] != "ok"] == [
        ("page's port", "unsure")
    ]
    assert everywhere.returncode == 0
    by_name = {finding["name"]: finding["found"] for finding in found}
    assert by_name["workers"] == f"1 worker shares {PARTITIONS} partitions; 0 records to be read"
    assert by_name["models"] == "knowledge version 1 loads; risk: the fallback serves"
    mistyped = healthy.command("doctor", **ports(healthy), brokr="kafka:9092")
    assert mistyped.returncode == 1
    lines = mistyped.stdout.splitlines()
    assert [line for line in lines if line.startswith("wrong")] == [
        "wrong   environment: STREAM_BROKR is no setting, and does nothing; expected"
    ]
    assert '        -> unset STREAM_BROKR; export STREAM_BROKER="..."' in lines
    assert lines[-1] == "1 thing is wrong; each line says what to do"
    assert all(len(line) <= 80 for line in lines if "->" not in line)


def test_a_broker_that_is_away_is_one_wrong_line(healthy: System) -> None:
    """What needs it is unsure, a line each; what does not is looked at."""
    findings = examine(healthy.settings, broker=f"127.0.0.1:{free_ports(1)[0]}")
    away = of(findings, "broker")
    assert (away.verdict, "refused" in away.found) == ("wrong", True)
    assert "STREAM_BROKER" in away.remedy
    assert {finding.name for finding in findings if finding.verdict == "unsure"} >= NEEDS_BROKER
    assert len([finding for finding in findings if "no broker answers" in finding.found]) == len(NEEDS_BROKER)
    assert of(findings, "redis").verdict == of(findings, "store").verdict == "ok"


def test_a_listener_of_another_protocol_is_named(healthy: System, kafka: KafkaServer) -> None:
    """One that wants a password, without one, and with a wrong one, which is never shown."""
    plain = of(examine(healthy.settings, broker=kafka.sasl_bootstrap), "broker")
    assert plain.verdict == "wrong"
    assert "does not talk Kafka with us (STREAM_SECURITY_PROTOCOL=PLAINTEXT)" in plain.found
    assert "SASL_PLAINTEXT" in plain.remedy
    refused = of(
        examine(
            healthy.settings, broker=kafka.sasl_bootstrap, security_protocol="SASL_PLAINTEXT",
            sasl_username=SASL_USER, sasl_password="not-the-password",  # noqa: S106
        ),
        "broker",
    )  # fmt: skip
    assert refused.verdict == "wrong"
    assert "does not let us in" in refused.found
    assert "STREAM_SASL_PASSWORD" in refused.remedy
    assert "not-the-password" not in refused.found


def test_topics_that_do_not_fit_are_named(healthy: System, kafka: KafkaServer, prefix: str) -> None:
    """One that is missing, other partitions, changelogs that forget or compact at once; each with the command."""
    settings = healthy.settings
    lacking = of(examine(settings, risk_statements=True, actor_home_page="https://lms.example.org"), "topics")
    assert f"topics are missing (STREAM_TOPIC_PREFIX={healthy.prefix}" in lacking.found
    assert settings.topic("predictions.risk.xapi") in lacking.found
    assert lacking.remedy == "stream topics create"
    more = [finding for finding in examine(settings, partitions=8) if finding.name == "topics"]
    assert f"topic {settings.topic('interactions')}: expected 8 partitions, found {PARTITIONS}" in [
        f.found for f in more
    ]
    assert f"STREAM_PARTITIONS={PARTITIONS}" in more[0].remedy
    other = settings.model_copy(update={"group": prefix + "g"})
    forgets, hurries, right = (changelog(other, table) for table in ("learners", "academics", "names"))
    kafka.create_topic(forgets, partitions=PARTITIONS, cleanup_policy="delete", max_message_bytes="4194304")
    kafka.create_topic(hurries, partitions=PARTITIONS, cleanup_policy="compact", max_message_bytes="4194304")
    kafka.create_topic(
        right, partitions=PARTITIONS, cleanup_policy="compact", max_message_bytes="4194304",
        min_compaction_lag_ms="3600000",
    )  # fmt: skip
    admin = topics.connected(settings)
    await_effect(lambda: {forgets, hurries, right} <= topics.shown(admin, settings).keys())
    findings = [f for f in examine(settings, group=prefix + "g") if f.name == "topics"]
    assert [(finding.verdict, finding.found.rsplit(": ", 1)[0]) for finding in findings] == [
        ("wrong", f"topic {forgets}: expected cleanup.policy=compact, found delete"),
        ("wrong", f"topic {forgets}: expected min.compaction.lag.ms=3600000, found 0"),
        ("wrong", f"topic {hurries}: expected min.compaction.lag.ms=3600000, found 0"),
    ]
    assert f"kafka-configs --alter --topic {hurries} --add-config min.compaction.lag.ms=36" in findings[-1].remedy
    checked = healthy.command("topics", "check", group=prefix + "g", replication=2)
    assert checked.returncode == 1
    assert f"topic {hurries}: expected min.compaction.lag.ms=3600000, found 0" in checked.stdout
    assert f"warning: topic {right}: expected 2 replicas (STREAM_REPLICATION), found 1" in checked.stdout


def test_a_producer_with_librdkafkas_default_is_caught(kafka: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """By its records, before a worker ever runs, and by the dead letters that a worker leaves."""
    system = System(tmp_path, kafka.bootstrap, prefix)
    system.create_topics()
    settings = system.settings
    producer = Producer(client_config(settings))
    for n in range(40):
        user = f"learner-{n}"
        event = answer(user, 0)[1]
        producer.produce(settings.topic("interactions"), key=user, value=orjson.dumps(event))
    assert producer.flush(30) == 0
    record = Record(settings.topic("interactions"), 3, 17, b"learner-1", b"{}", 0.0)
    dead = Dead(record, "wrong_partition", "partition: expected 1 by murmur2 of the key, found 3")
    letter = dead_letter(dead, Limits(1_000, 1_000), datetime.now(UTC))
    outbox = KafkaOutbox(settings)
    outbox.send(settings.topic("dead-letters"), key=letter.key, value=letter.value)
    outbox.flush_now()
    findings = examine(settings)
    producers = [finding for finding in findings if finding.name == "producers"]
    assert [finding.verdict for finding in producers] == ["wrong", "unsure"]
    assert "of the latest 40 records" in producers[0].found
    assert "wrong_partition" in producers[0].found
    assert "partitioner=murmur2_random" in producers[0].remedy
    letters = of(findings, "dead letters")
    assert letters.found.startswith("1 in the last hour for wrong_partition, the latest at ")
    assert f"{settings.topic('interactions')} 3 at 17: partition: expected 1" in letters.found
    waiting = of(findings, "workers")
    assert (waiting.verdict, waiting.remedy) == ("wrong", "stream worker")
    assert "40 records wait" in waiting.found


def test_a_redis_that_is_away_is_wrong(healthy: System) -> None:
    """And nothing else is."""
    findings = examine(healthy.settings, redis_url=f"redis://:hush@127.0.0.1:{free_ports(1)[0]}/0", **ports(healthy))
    assert [finding.name for finding in findings if finding.verdict == "wrong"] == ["redis"]
    assert "does not answer" in of(findings, "redis").found
    assert "hush" not in str(findings)


def test_a_model_that_is_missing_or_damaged_is_named(healthy: System, serving: Release, tmp_path: Path) -> None:
    """With the version, why, and what follows; the store itself is another line."""
    findings = examine(healthy.settings, model_store=str(tmp_path))
    missing = of(findings, "models")
    assert "knowledge version 1 (champion) cannot be used" in missing.found
    assert "No such file" in missing.found
    assert "stream models rollback --model knowledge" in missing.remedy
    assert of(findings, "store").verdict == "ok"
    damage(healthy, serving)
    try:
        damaged = of(examine(healthy.settings), "models")
    finally:
        damage(healthy, serving)
    assert damaged.verdict == "wrong"
    assert "expected digest" in damaged.found


def test_a_user_is_shown_as_the_state_and_the_topics_have_him(healthy: System) -> None:
    """From the changelogs, Redis and, without it, the prediction topics: the same either way."""
    settings = healthy.settings
    found = inspected(settings, "user-0")
    assert found is not None
    assert (found["history"]["answers"], len(found["remembered"]), found["erased"]) == (14, 14, False)
    assert [topic["name"] for topic in found["topics"]] == ["fractions"]
    assert found["academics"]["weeks"][0]["present"] == 1
    assert found["hidden"]["version"] == 1
    assert found["predictions"]["from"] == "redis"
    without = inspected(settings.model_copy(update={"redis_url": None}), "user-0")
    assert without is not None
    assert without["predictions"].pop("from") == "topics"
    assert {kind: found["predictions"][kind] for kind in without["predictions"]} == without["predictions"]
    last = max(
        (m for m in healthy.predictions("correctness", 42) if m["user_id"] == "user-0"),
        key=lambda m: m["source"]["offset"],
    )
    assert without["predictions"]["correctness"]["prediction_id"] == last["prediction_id"]
    told = healthy.command("inspect", "user-0")
    assert (told.returncode, told.stderr) == (0, "")
    assert "  history      14 answers, 64% right, 20 s each; 0 views, 0 feedback" in told.stdout.splitlines()


def test_an_unknown_user_is_one_sentence(healthy: System) -> None:
    """And exit status 1; of pseudonyms the command that makes them is named."""
    environment = healthy.environment("command") | {"STREAM_PSEUDONYM_KEY": "k" * 32}
    unknown = CliRunner().invoke(main, ["inspect", "nobody"], env=environment)
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr == (
        f"stream: nothing is known of 'nobody' in group {healthy.settings.group}; users of sources are known under "
        "pseudonyms: stream pseudonym\n"
    )


def test_an_erased_user_is_shown_as_a_marker(healthy: System) -> None:
    """Nothing of him is left but what has been seen."""
    assert healthy.command("erase", "user-2").returncode == 0

    def is_erased() -> bool:
        found = inspected(healthy.settings, "user-2")
        return found is not None and bool(found["erased"]) and found["predictions"] is None  # Redis follows

    await_effect(is_erased)
    found = inspected(healthy.settings, "user-2")
    assert found is not None
    assert (found["predictions"], found["history"]["answers"], found["remembered"]) == (None, 0, [])


def test_a_group_that_never_ran_has_nobody_to_show(healthy: System, prefix: str) -> None:
    """The sentence names the group: it may be misspelt."""
    environment = healthy.environment("command") | {"STREAM_GROUP": prefix + "g"}
    done = CliRunner().invoke(main, ["inspect", "user-0"], env=environment)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"stream: changelog {prefix}g-learners-changelog is missing")
