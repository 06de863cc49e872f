"""What `stream doctor` makes of what it finds, without a broker: each thing that can be wrong, and what mends it."""

import io
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaError, KafkaException, Producer
from rich.console import Console

from stream.cli import main
from stream.demo.broker import EmbeddedBroker
from stream.doctor import examination, looking, report
from stream.doctor.examination import Look
from stream.doctor.findings import Finding, ok, unsure, wrong
from stream.doctor.kafka import AwayError, Kafka, machine_of
from stream.doctor.on_broker import (
    JOIN_GROUP,
    TXN_OFFSET_COMMIT,
    Cluster,
    Group,
    Letters,
    Member,
    Sample,
    Since,
    Topics,
    judge_cluster,
    judge_dead_letters,
    judge_listeners,
    judge_producers,
    judge_topics,
    judge_trainer,
    judge_workers,
    remedy_of,
)
from stream.doctor.on_others import (
    Announced,
    Answer,
    RedisFound,
    Times,
    judge_clock,
    judge_models,
    judge_port,
    judge_redis,
    judge_store,
)
from stream.doctor.on_settings import (
    Package,
    judge_environment,
    judge_files,
    judge_settings,
    judge_versions,
    without_secrets,
)
from stream.settings import Settings
from stream.transport.clients import client_config
from stream.transport.topics import Existing, Problem, problems_of, wanted

NOW = 1_795_000_000.0


class Broker(NamedTuple):
    """A broker as Kafka's metadata have it."""

    id: int
    host: str
    port: int


def verdicts(findings: list[Finding]) -> list[str]:
    """Return the verdicts of findings."""
    return [finding.verdict for finding in findings]


def only(findings: list[Finding], verdict: str) -> Finding:
    """Return the one finding, of this verdict; whatever is wrong says what to do."""
    assert verdicts(findings) == [verdict]
    assert findings[0].remedy or verdict != "wrong"
    return findings[0]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for what these tests serve themselves: a machine that does much else is slow, not wrong."""
    monkeypatch.setattr(looking, "CONNECT_S", 60.0)


def settings(**given: object) -> Settings:
    """Return settings, all else by default."""
    return Settings.model_validate(given)


# ------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("given", "found", "remedy"),
    [
        (
            {"fetch_max_wait_ms": 10_000},
            "STREAM_FETCH_MAX_WAIT_MS=10000 is no shorter",
            "STREAM_FETCH_MAX_WAIT_MS=100",
        ),
        ({"stalled_after_s": 10.0}, "STREAM_STALLED_AFTER_S=10 is not above", "STREAM_STALLED_AFTER_S=60"),
        ({"gate_every": 300, "gate_budget": 200}, "STREAM_GATE_EVERY=300 is above", "STREAM_GATE_EVERY=200"),
        ({"buffer": "a.sqlite", "risk_examples": "a.sqlite"}, "are the same file", "unset STREAM_RISK_EXAMPLES"),
        (
            {"sasl_username": "me", "sasl_password": "secret-word"},
            "STREAM_SASL_USERNAME and STREAM_SASL_PASSWORD are set, but STREAM_SECURITY_PROTOCOL=PLAINTEXT",
            "STREAM_SECURITY_PROTOCOL=SASL_PLAINTEXT",
        ),
        (
            {"sasl_username": "me", "sasl_password": "secret-word", "security_protocol": "SSL"},
            "does not use SASL",
            "STREAM_SECURITY_PROTOCOL=SASL_SSL",
        ),
        ({"ssl_ca_file": __file__}, "STREAM_SSL_CA_FILE is set", "STREAM_SECURITY_PROTOCOL=SSL"),
        ({"pseudonym_key": "guess-me"}, "STREAM_PSEUDONYM_KEY has fewer than 16", "openssl rand -hex 32"),
    ],
)
def test_settings_that_contradict_are_wrong(given: dict[str, object], found: str, remedy: str) -> None:
    """Each is right by itself; together they are not, and no secret is shown."""
    finding = only(judge_settings(settings(**given)), "wrong")
    assert found in finding.found
    assert remedy in finding.remedy
    assert "secret-word" not in finding.found + finding.remedy


def test_settings_as_they_come_are_ok() -> None:
    """The defaults contradict nothing."""
    assert "group learnerstream, 16 partitions, at_least_once" in only(judge_settings(settings()), "ok").found


@pytest.mark.parametrize("given", [{"metrics_host": "0.0.0.0"}, {"page_host": "::"}])  # noqa: S104
def test_what_listens_everywhere_is_unsure(given: dict[str, object]) -> None:
    """In a network of containers it must; elsewhere it shows users to strangers: nobody can tell from here."""
    assert "=127.0.0.1" in only(judge_settings(settings(**given)), "unsure").remedy


def test_a_typing_error_is_named_with_what_was_meant() -> None:
    """A variable that is no setting does nothing; the nearest setting is named, whatever the case."""
    finding = only(judge_environment({"STREAM_BROKR": "kafka:9092", "PATH": "/bin"}), "wrong")
    assert "STREAM_BROKR is no setting" in finding.found
    assert "STREAM_BROKER?" in finding.found
    assert "export STREAM_BROKER=" in finding.remedy
    assert "STREAM_BROKER" in only(judge_environment({"stream_broker": "kafka:9092"}), "ok").found


def test_a_variable_near_no_setting_is_unsure() -> None:
    """It may be another program's."""
    assert "STREAM_ZEBRA" in only(judge_environment({"STREAM_ZEBRA": "1"}), "unsure").found


def test_what_kubernetes_sets_is_no_typing_error() -> None:
    """Of a service whose name begins with `stream`, it puts addresses into every pod."""
    injected = {
        "STREAM_PAGE_SERVICE_HOST": "10.0.0.1",
        "STREAM_PAGE_SERVICE_PORT_HTTP": "6068",
        "STREAM_WEB_PORT": "tcp://10.0.0.1:6068",
        "STREAM_WEB_PORT_6068_TCP": "tcp://10.0.0.1:6068",
        "STREAM_WEB_PORT_6068_TCP_PROTO": "tcp",
    }
    assert "0 settings" in only(judge_environment(injected), "ok").found


def test_wrong_settings_leave_the_rest_unsure() -> None:
    """The sentence of the setting is one line; what needs none is looked at all the same."""
    runner = CliRunner()
    done = runner.invoke(main, ["doctor", "--json"], env={"STREAM_PARTITIONS": "x", "STREAM_BROKR": "a"})
    told = json.loads(done.stdout)
    assert (done.exit_code, told["wrong"]) == (1, True)
    by_name = {finding["name"]: finding for finding in told["findings"]}
    assert "STREAM_PARTITIONS: expected a whole number from 1 to 1,000" in by_name["settings"]["found"]
    assert by_name["environment"]["verdict"] == "wrong"
    assert by_name["versions"]["verdict"] == "ok"
    assert by_name["broker"]["verdict"] == by_name["redis"]["verdict"] == "unsure"
    injected = runner.invoke(main, ["doctor"], env={"STREAM_PAGE_PORT": "tcp://10.0.0.1:6068"})
    assert "enableServiceLinks: false" in injected.stdout


# ------------------------------------------------------------------------------------- what is installed, files


def test_packages_out_of_range_are_wrong() -> None:
    """Each with what is expected, what is there, and the command; the trainer's only where a trainer can be."""
    old, none = Package("redis", ">=8.1,<9", "7.0", fits=False), Package("rich", ">=15", None, fits=False)
    finding = only(judge_versions("3.11.9", [old, none], "2.16.0", "2.16.1"), "wrong")
    assert finding.found == "redis: expected >=8.1,<9, found 7.0; rich: expected >=15, found none"
    assert finding.remedy == "pip install 'redis>=8.1,<9' 'rich>=15'"
    river = Package("river", ">=1", None, fits=False, is_extra=True)
    torch = Package("torch", ">=2", "2.15.0", fits=True, is_extra=True)
    assert "river" in only(judge_versions("3.11.9", [river, torch], "2.16.0", "2.16.1"), "wrong").found
    lacking = Package("torch", ">=2", None, fits=False, is_extra=True)
    assert "no torch" in only(judge_versions("3.11.9", [river, lacking], "2.16.0", "2.16.1"), "ok").found


def test_another_librdkafka_is_wrong() -> None:
    """A client that was built against the system's own library runs with whatever that is."""
    package = Package("rich", ">=15", "15.0", fits=True)
    finding = only(judge_versions("3.11.9", [package], "2.3.0", "2.16.1"), "wrong")
    assert "librdkafka 2.3.0" in finding.found


def test_the_packages_here_are_looked_up() -> None:
    """What is installed for the tests is in the ranges of pyproject.toml, the extras of others aside."""
    found = {package.name: package for package in looking.packages()}
    assert all(package.fits for package in found.values())
    assert found["confluent-kafka"].is_extra is False
    assert found["torch"].is_extra is True
    assert "pytest" not in found
    assert only(judge_versions("3.11.9", [], "2.16.0", "2.16.1"), "unsure")


def test_a_file_that_cannot_be_written_is_wrong(tmp_path: Path) -> None:
    """The setting, why, and where to go; without torch no trainer writes anything."""
    assert looking.unwritable(tmp_path / "new.sqlite") == ""
    assert "found a folder" in looking.unwritable(tmp_path)
    missing = looking.unwritable(tmp_path / "no" / "buffer.sqlite")
    assert missing == f"there is no folder {tmp_path / 'no'}"
    long = looking.unwritable(tmp_path / ("x" * 300) / "buffer.sqlite")
    assert long.endswith("buffer.sqlite: File name too long")
    finding = only(judge_files({"STREAM_BUFFER": missing, "STREAM_RISK_EXAMPLES": ""}, can_learn=True), "wrong")
    assert "STREAM_BUFFER: there is no folder" in finding.found
    assert only(judge_files({"STREAM_BUFFER": missing}, can_learn=False), "ok")
    assert only(judge_files({"STREAM_BUFFER": ""}, can_learn=True), "ok")


def test_where_no_trainer_can_be_no_file_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's image has no torch, and may have no folder that the trainer's settings name."""

    def fail(_: Path) -> str:
        raise AssertionError

    monkeypatch.setattr(looking, "unwritable", fail)
    monkeypatch.setattr(examination, "find_spec", lambda _: None)
    assert "without torch" in only(looks(settings())[1]["files"](), "ok").found


@pytest.mark.parametrize("are_right", [True, False])
def test_a_check_of_this_machine_that_fails_stops_none(monkeypatch: pytest.MonkeyPatch, are_right: bool) -> None:
    """It is our fault, and told as such, whether the settings are right or not."""

    def fail() -> list[Package]:
        raise OSError("no way to\nlook")

    monkeypatch.setattr(looking, "packages", fail)
    checks = looks(settings())[1] if are_right else dict(examination.misset("STREAM_X: no", {}))
    assert only(checks["versions"](), "unsure").found.endswith("our fault: OSError: no way to look")


# --------------------------------------------------------------------------------------------------- cluster

NEW = {TXN_OFFSET_COMMIT: 4, JOIN_GROUP: 9}


def test_addresses_that_brokers_give_and_nobody_reaches_are_wrong() -> None:
    """The usual mistake of containers: a broker that tells clients to come to its inner name."""
    finding = only(judge_listeners({"kafka:29092": "no such name is known here"}, 1), "wrong")
    assert "kafka:29092" in finding.found
    assert "advertised.listeners" in finding.remedy
    assert only(judge_listeners({}, 3), "ok")


def test_an_address_of_ipv6_is_written_so_that_it_can_be_read() -> None:
    """Brokers tell host and port apart; together they are what `connected` takes. Members' are compared with ours."""
    kafka = Kafka(settings())
    brokers = {1: Broker(1, "fd00::1", 9092), 2: Broker(2, "kafka", 9092)}
    kafka._admin = SimpleNamespace(list_topics=lambda timeout: SimpleNamespace(brokers=brokers))  # type: ignore[assignment]
    assert kafka.reach() == {"broker 1": "[fd00::1]:9092", "broker 2": "kafka:9092"}
    assert looking.host_and_port("[fd00::1]:9092") == ("fd00::1", 9092)
    assert [machine_of(host) for host in ("/0:0:0:0:0:0:0:1", "/10.0.0.7", "")] == ["::1", "10.0.0.7", ""]


@pytest.mark.parametrize(
    ("given", "cluster", "found", "remedy"),
    [
        (
            {"guarantee": "exactly_once"},
            Cluster(1, {TXN_OFFSET_COMMIT: 2, JOIN_GROUP: 9}),
            "STREAM_GUARANTEE=exactly_once needs transactions as Kafka 2.5",
            "at_least_once",
        ),
        (
            {"sources": "lms.xapi=xapi"},
            Cluster(1, {JOIN_GROUP: 9}),
            "STREAM_SOURCES needs transactions",
            "leave STREAM_SOURCES unset",
        ),
        (
            {"guarantee": "exactly_once"},
            Cluster(1, NEW, {"transaction.state.log.replication.factor": "3"}),
            "keeps them in 3 replicas, but there is 1 broker",
            "transaction.state.log.replication.factor=1",
        ),
        ({"instance_id": "a"}, Cluster(1, {JOIN_GROUP: 4}), "needs Kafka 2.3", "unset STREAM_INSTANCE_ID"),
        ({"replication": 3}, Cluster(2, NEW), "STREAM_REPLICATION=3, but there are 2 brokers", "STREAM_REPLICATION=2"),
        ({}, Cluster(5, NEW), "STREAM_REPLICATION=1 with 5 brokers", "STREAM_REPLICATION=3"),
        (
            {"session_timeout_s": 8.0},
            Cluster(1, NEW, {"group.min.session.timeout.ms": "9000", "group.max.session.timeout.ms": "60000"}),
            "STREAM_SESSION_TIMEOUT_S=8 is outside",
            "STREAM_SESSION_TIMEOUT_S=9",
        ),
        (
            {"session_timeout_s": 90.0, "stalled_after_s": 300.0},
            Cluster(1, NEW, {"group.min.session.timeout.ms": "6000", "group.max.session.timeout.ms": "60000"}),
            "STREAM_SESSION_TIMEOUT_S=90 is outside",
            "STREAM_SESSION_TIMEOUT_S=60",
        ),
    ],
)
def test_what_the_brokers_cannot_do_is_wrong(
    given: dict[str, object], cluster: Cluster, found: str, remedy: str
) -> None:
    """Each setting that asks for more than there is, and how to ask for less, or have more."""
    finding = only(judge_cluster(settings(**given), cluster), "wrong")
    assert found in finding.found
    assert remedy in finding.remedy


def test_brokers_that_can_do_what_is_asked_are_ok() -> None:
    """Transactions that somebody has used already work, whatever the broker is configured to."""
    config = {"transaction.state.log.replication.factor": "3"}
    assert only(judge_cluster(settings(guarantee="exactly_once"), Cluster(1, NEW, config, has_transactions=True)), "ok")
    assert only(judge_cluster(settings(replication=3), Cluster(3, NEW)), "ok")
    assert only(judge_cluster(settings(), Cluster(1, None)), "unsure")


# ---------------------------------------------------------------------------------------------------- topics


def fitting(given: Settings) -> dict[str, Existing]:
    """Return the topics as they should be."""
    return {topic.name: Existing(topic.partitions, given.replication, topic.config) for topic in wanted(given)}


@pytest.mark.parametrize(
    ("topic", "change", "found", "gravity"),
    [
        ("interactions", {"partitions": 3}, "expected 16 partitions, found 3", "stops"),
        ("learnerstream-learners-changelog", {"cleanup.policy": "delete"}, "cleanup.policy=compact, found", "stops"),
        ("learnerstream-names-changelog", {"cleanup.policy": "compact,delete"}, "would be deleted", "stops"),
        ("learnerstream-learners-changelog", {"min.compaction.lag.ms": "0"}, "expected min.compaction", "harms"),
        ("interactions", {"cleanup.policy": "compact"}, "only the latest message", "harms"),
        ("predictions.time", {"max.message.bytes": "1048588"}, "STREAM_MESSAGE_MAX_BYTES allows", "harms"),
        ("interactions", {"max.message.bytes": "100000"}, "STREAM_EVENT_MAX_BYTES allows", "harms"),
        ("academics", {"retention.ms": "3600000"}, "expected retention.ms=86400000, found 3600000", "harms"),
        ("interactions", {"replicas": 0}, "expected 1 replicas (STREAM_REPLICATION), found 0", "warns"),
    ],
)
def test_a_topic_that_does_not_fit_is_told(topic: str, change: dict[str, object], found: str, gravity: str) -> None:
    """Of all topics the one, what was expected, what is there, how bad that is, and the command that mends it."""
    given = settings()
    existing = fitting(given)
    assert problems_of(given, existing) == []
    config = {name: str(value) for name, value in change.items() if "." in name}
    is_now = existing[topic]
    existing[topic] = Existing(
        partitions=int(str(change.get("partitions", is_now.partitions))),
        replicas=int(str(change.get("replicas", is_now.replicas))),
        config={**is_now.config, **config},
    )
    (problem,) = problems_of(given, existing)
    assert (problem.topic, problem.gravity) == (topic, gravity)
    assert found in str(problem)
    if config:
        assert f"--alter --topic {topic} --add-config" in problem.remedy


def test_a_command_for_a_broker_that_asks_who_is_there_says_so() -> None:
    """Kafka's own tools take a password from a file; it never stands in a command."""
    for protocol, more in (("PLAINTEXT", ""), ("SSL", " --command-config client.properties")):
        given = settings(security_protocol=protocol, sasl_username="me", sasl_password="hush")  # noqa: S106
        existing = fitting(given)
        existing["interactions"] = Existing(16, 1, {**existing["interactions"].config, "max.message.bytes": "1"})
        (problem,) = problems_of(given, existing)
        assert problem.remedy.endswith(f"--bootstrap-server 127.0.0.1:9092{more}")


def test_what_the_broker_does_not_tell_fits() -> None:
    """Without the right to describe topics, partitions alone are held against the settings."""
    given = settings()
    assert problems_of(given, {topic.name: Existing(topic.partitions, 1) for topic in wanted(given)}) == []
    without = {name: topic for name, topic in fitting(given).items() if name != "erasures"}
    assert [str(problem) for problem in problems_of(given, without)] == [
        "topic erasures is missing: run `stream topics create`, or set STREAM_TOPICS=create"
    ]


def test_a_source_that_is_missing_is_told() -> None:
    """A foreign topic must be there; what it is like is its owner's."""
    given = settings(sources="lms.xapi=xapi,lms.events")
    (problem,) = problems_of(given, fitting(given) | {"lms.events": Existing(1, 1)})
    assert (problem.topic, problem.gravity) == ("lms.xapi", "stops")
    assert "topic lms.xapi of STREAM_SOURCES is missing: make it" in str(problem)


def test_missing_topics_are_one_line() -> None:
    """Where all are missing, prefix and group may be wrong: both are named."""
    given = settings(topic_prefix="school-")
    names = [topic.name for topic in wanted(given)]
    finding = only(judge_topics(given, Topics(len(names), names)), "wrong")
    assert (
        f"{len(names)} of {len(names)} topics are missing (STREAM_TOPIC_PREFIX=school-, STREAM_GROUP=" in finding.found
    )
    assert "school-interactions" in finding.found
    assert finding.remedy == "stream topics create"


def test_topics_that_may_not_be_seen_are_not_called_missing() -> None:
    """A broker shows nobody what is not for him: the right is what lacks, not the topic."""
    denied = Topics(16, ["interactions"], ["interactions"], reached_by="--bootstrap-server kafka:9092")
    finding = only(judge_topics(settings(sasl_username="me"), denied), "wrong")
    assert "may not be seen" in finding.found
    assert "kafka-acls --add --allow-principal User:me" in finding.remedy
    assert "--topic interactions --bootstrap-server kafka:9092" in finding.remedy


def test_each_misfit_is_a_line_of_its_own() -> None:
    """With what mends it; without any, the number of partitions is said."""
    misfits = [Problem("a", "topic a: this", "do that", "harms"), Problem("b", "topic b: that", "do this", "warns")]
    findings = judge_topics(settings(), Topics(16, misfits=misfits))
    assert [(each.found, each.remedy) for each in findings] == [
        ("topic a: this", "do that"),
        ("topic b: that", "do this"),
    ]
    assert "16 partitions" in only(judge_topics(settings(), Topics(16)), "ok").found
    assert only(judge_topics(settings(), Topics(16, is_told=False)), "unsure")


# ------------------------------------------------------------------------------------------ what stands on them


def test_a_producer_with_another_partitioner_is_wrong() -> None:
    """The share that is on the wrong partition, an example, and the setting of the producer."""
    sample = Sample("interactions", 50, Counter(wrong_partition=150), example="partition: expected 2, found 1")
    finding = only(judge_producers(sample), "wrong")
    assert "of the latest 200 records 150 (75%) cannot be used, wrong_partition" in finding.found
    assert "expected 2, found 1" in finding.found
    assert "partitioner=murmur2_random" in finding.remedy


def test_each_reason_of_a_sample_is_a_line() -> None:
    """The most frequent first."""
    findings = judge_producers(Sample("academics", 0, Counter(wrong_key=1, not_json=3)))
    assert ["wrong_key" in finding.found for finding in findings] == [False, True]
    assert "user_id" in findings[1].remedy


def test_events_ahead_of_kafka_are_wrong() -> None:
    """The producers' clock, or their zone."""
    assert "clock" in only(judge_producers(Sample("interactions", 9, ahead=3)), "wrong").remedy
    assert only(judge_producers(Sample("interactions", 9)), "ok")
    assert "nothing stands there yet" in only(judge_producers(Sample("interactions", 0)), "unsure").found
    assert "in time" in only(judge_producers(Sample("interactions", 0, is_whole=False)), "unsure").found


def misplaced(reason: str = "wrong_partition", topic: str = "interactions") -> Letters:
    """Return five dead letters of a topic, the first ten minutes ago."""
    return Letters(reason, 5, NOW - 9, "interactions 3 at 41", "partition: expected", {topic: Since(5, NOW - 600)})


def test_a_producer_whose_records_are_no_longer_the_latest_is_wrong() -> None:
    """How many of its records became dead letters within the hour, and since when: no ok stands beside them."""
    finding = only(judge_producers(Sample("interactions", 200), [misplaced()]), "wrong")
    assert finding.found == (
        "interactions: 5 records of the last hour could not be used, wrong_partition, since 10:56:40 UTC; none of them "
        "is among the latest 200"
    )
    assert finding.remedy == remedy_of("wrong_partition")
    cut = only(judge_producers(Sample("interactions", 200), [misplaced("wrong_key")], is_whole=False), "wrong")
    assert "at least 5 records of the last hour could not be used, wrong_key, since 10:56:40 UTC or before" in cut.found
    deleted = only(judge_producers(Sample("interactions", 0), [misplaced()]), "wrong")
    assert deleted.found.startswith("interactions: 5 records of the last hour")


def test_dead_letters_of_others_say_nothing_of_a_topics_producers() -> None:
    """Of another topic, or of single events; and what the latest records show is told once."""
    for letters in (misplaced(topic="academics"), misplaced("bad_value")):
        assert only(judge_producers(Sample("interactions", 200), [letters]), "ok")
    shows = Sample("interactions", 199, Counter(wrong_partition=1))
    assert "of the latest 200 records 1" in only(judge_producers(shows, [misplaced()]), "wrong").found


@pytest.mark.parametrize("are_there", [True, False])
def test_producers_are_judged_with_dead_letters_or_without(are_there: bool) -> None:
    """They are read once for both checks; where they cannot be read, the records alone say what they say."""
    asked: list[int] = []

    def letters(partitions: int, _: timedelta) -> tuple[list[Letters], bool]:
        asked.append(partitions)
        return [misplaced()], True

    examined = examination.Examination(settings(), {})
    examined._kafka = SimpleNamespace(sample=lambda name, _: Sample(name, 200), letters=letters)  # type: ignore[assignment]
    names = ("interactions", "academics", "dead-letters") if are_there else ("interactions", "academics")
    examined._topics = dict.fromkeys(names, Existing(4, 1))
    assert verdicts(examined._guarded("producers", examined._producers)()) == ["wrong" if are_there else "ok", "ok"]
    only(examined._guarded("dead letters", examined._dead_letters)(), "wrong" if are_there else "unsure")
    assert asked == ([4] if are_there else [])


def test_dead_letters_of_the_last_hour_are_wrong() -> None:
    """Each reason with its count, the latest one's place, and what mends it."""
    letters = [
        Letters("bad_value", 1, NOW, "interactions 1 at 41", "score: expected"),
        Letters("zzz", 7, NOW, "a", "b"),
    ]
    findings = judge_dead_letters(letters, is_whole=True)
    assert verdicts(findings) == ["wrong", "wrong"]
    assert findings[0].found.startswith("7 in the last hour for zzz")
    assert "interactions 1 at 41: score: expected" in findings[1].found
    assert "docs/messages.md" in findings[1].remedy
    assert "detail" in findings[0].remedy
    assert only(judge_dead_letters([], is_whole=True), "ok")
    assert only(judge_dead_letters([], is_whole=False), "unsure")
    assert judge_dead_letters(letters, is_whole=False)[0].found.startswith("at least 7")


def test_a_broker_that_looks_up_no_times_is_read_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the demo's own: dead letters of the last hour are counted, older ones not, and the newest record is found."""
    for limit in ("ASK_S", "_READ_S"):
        monkeypatch.setattr(f"stream.doctor.kafka.{limit}", 60.0)  # a machine that does much else is slow, not wrong
    broker = EmbeddedBroker()
    broker.make(["dead-letters", "interactions", "academics"])
    given = settings(broker=broker.address, partitions=4)
    now = time.time()
    letter = {"reason": "bad_value", "topic": "interactions", "partition": 1, "offset": 7, "detail": "score: a; b"}
    producer = Producer(client_config(given))
    for n in range(7):
        at_ms = round((now - (7_200 if n < 2 else 60)) * 1_000)
        producer.produce("dead-letters", json.dumps(letter), str(n), partition=n % 4, timestamp=at_ms)
    producer.produce("interactions", "{}", "u-1", partition=2, timestamp=round((now - 30) * 1_000))
    assert producer.flush(60) == 0
    kafka = Kafka(given)
    (found,), is_whole = kafka.letters(4, timedelta(hours=1))
    assert (found.reason, found.count, found.detail, is_whole) == ("bad_value", 5, "score: a", True)
    since = found.topics["interactions"]
    assert since.count == 5
    assert since.first_at == pytest.approx(now - 60, abs=0.002)
    (newest,) = kafka.newest({"interactions": Existing(4, 1), "academics": Existing(4, 1)}).items()
    assert newest == ("interactions", (round((now - 30) * 1_000) / 1_000, "its producer"))


def test_every_reason_of_the_documentation_has_a_remedy() -> None:
    """docs/messages.md lists them; none gets the general advice."""
    page = (Path(__file__).parents[1] / "docs" / "messages.md").read_text("utf-8")
    listed = page.split("Reasons: ")[1].split("`processing_failed`")[0] + "`processing_failed`"
    reasons = [word for word in listed.split("`")[1::2] if word.islower() and word.replace("_", "").isalpha()]
    assert len(reasons) == 10
    assert all("`detail`" not in remedy_of(reason) for reason in reasons)


# -------------------------------------------------------------------------------------------------- who reads

PLACES = [("interactions", 0), ("interactions", 1)]
KNOWN = frozenset({"interactions", "academics"})


def group(workers: int = 1, **changes: object) -> Group:
    """Return a group that has read everything."""
    members = tuple(Member("10.0.0.1", frozenset(PLACES[n::workers])) for n in range(workers))
    whole = {
        "name": "learnerstream", "members": members, "is_settled": True, "committed": dict.fromkeys(PLACES, 9),
        "starts": dict.fromkeys(PLACES, 2), "ends": dict.fromkeys(PLACES, 9),
    }  # fmt: skip
    return Group(**(whole | changes))  # type: ignore[arg-type]


def test_workers_that_keep_up_are_ok() -> None:
    """Their number and what is left to read; a partition that was never committed begins where its records do."""
    found = judge_workers(settings(partitions=2), group(2, committed={PLACES[0]: 8}), KNOWN)
    assert only(found, "ok").found == "2 workers share 2 partitions; 8 records to be read"


@pytest.mark.parametrize(
    ("found", "said", "remedy"),
    [
        (group(0, committed={}), "none runs (group learnerstream), and 14 records wait", "stream worker"),
        (group(3), "3 workers share 2 partitions: 1 do nothing", "stop 1"),
        (group(committed=dict.fromkeys(PLACES, 1)), "2 records of interactions were deleted before", "retention.ms"),
        (
            group(committed=dict.fromkeys(PLACES, 10)),
            "behind the end of interactions 0, interactions 1",
            "STREAM_GROUP",
        ),
        (group(committed=dict.fromkeys(PLACES, 9) | {("orders", 0): 1}), "also reads orders", "another group"),
        (group(members=(Member("", frozenset({("orders", 0)})),)), "also reads orders", "another group"),
    ],
)
def test_workers_that_miss_something_are_wrong(found: Group, said: str, remedy: str) -> None:
    """Nobody there while records wait, too many, records that were lost, a topic made anew, a group that is shared."""
    finding = only(judge_workers(settings(partitions=2), found, KNOWN), "wrong")
    assert said in finding.found
    assert remedy in finding.remedy


def test_a_group_without_work_or_on_the_move_is_unsure() -> None:
    """Before the first start nothing is wrong yet; while partitions move nothing can be told."""
    assert only(judge_workers(settings(partitions=2), group(0), KNOWN), "unsure")
    assert "giving out" in only(judge_workers(settings(partitions=2), group(is_settled=False), KNOWN), "unsure").found


def test_changelogs_in_the_assignment_are_ours() -> None:
    """Faust gives them out with the topics."""
    members = (Member("", frozenset({("learnerstream-names-changelog", 0)})),)
    assert only(judge_workers(settings(partitions=2), group(members=members), KNOWN), "ok")


def test_one_trainer_is_right() -> None:
    """None learns nothing, which may be wanted; two would each learn from a part."""
    assert only(judge_trainer(group()), "ok")
    assert "none runs" in only(judge_trainer(group(0)), "unsure").found
    assert "stop all but one" in only(judge_trainer(group(2)), "wrong").remedy


# --------------------------------------------------------------------------------- clocks, Redis, models, ports


@pytest.mark.parametrize(
    ("times", "verdict", "found"),
    [
        (Times(NOW, NOW + 1), "ok", "Redis's is 1.0 s from it"),
        (Times(NOW, NOW - 3_600), "wrong", "ours is 60 minutes ahead of Redis's"),
        (Times(NOW, NOW + 10), "wrong", "ours is 10 s behind Redis's"),
        (
            Times(NOW, None, {"a": (NOW + 7_200, "the broker"), "b": (NOW, "a worker")}),
            "wrong",
            "ours is 2 hours behind the latest record of a, whose time the broker set",
        ),
        (Times(NOW, None, {"a": (NOW - 30, "its producer")}), "ok", "the latest record is 30 s old"),
        (Times(NOW, None, {"a": (NOW - 600, "its producer")}), "unsure", "the latest record is 10 minutes old"),
        (Times(NOW), "unsure", "no record shows it"),
    ],
)
def test_our_clock_is_held_against_all_that_tells_time(times: Times, verdict: str, found: str) -> None:
    """Redis tells it exactly; a record can only show that ours is behind, or, if it is fresh, not far ahead."""
    assert found in only(judge_clock(times), verdict).found


def looks(given: Settings, **more: Any) -> tuple[examination.Examination, dict[str, Look]]:
    """Return an examination of which nothing has been made yet, and its checks while no broker answers, by name."""
    examined = examination.Examination(given, {}, **more)
    return examined, dict(examined.checks())


class Recorded:
    """Stands in for Kafka, of which the newest record is known."""

    def __init__(self, at: float) -> None:
        self.newest = lambda topics: dict.fromkeys(topics, (at, "its producer"))


@pytest.mark.parametrize("has_redis", [False, True])
def test_what_comes_while_others_are_examined_is_not_ahead_of_us(
    monkeypatch: pytest.MonkeyPatch, has_redis: bool
) -> None:
    """Our clock is read after the records and after Redis's, however long the checks before took."""
    moment = [NOW]
    given = settings(redis_url="redis://127.0.0.1:1/0" if has_redis else None)
    examined, checks = looks(given, now=lambda: moment[0])
    monkeypatch.setattr(looking, "redis_of", lambda _: (redis_found(), moment[0] + 1))
    assert only(checks["redis"](), "ok")
    moment[0] += 60
    examined._kafka = Recorded(NOW + 59)  # type: ignore[assignment]
    examined._topics = {"interactions": Existing(1, 1)}
    found = only(checks["clock"](), "ok").found
    assert ("Redis's is 1.0 s from it" if has_redis else "the latest record is 1 s old") in found
    examined._kafka = Recorded(NOW + 120)  # type: ignore[assignment]
    assert "60 s behind the latest record of interactions" in only(checks["clock"](), "wrong").found


def redis_found(**changes: object) -> RedisFound:
    """Return a Redis that is well."""
    well = {
        "version": "7.2.1", "role": "master", "policy": "noeviction", "used_bytes": 10, "most_bytes": 100,
        "latency_s": 0.001,
    }  # fmt: skip
    return RedisFound(**(well | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "found", "remedy"),
    [
        ({"version": "3.2.0"}, "expected Redis 4.0 or later, found 3.2.0", "update"),
        ({"role": "slave"}, "replica", "its master in STREAM_REDIS_URL"),
        ({"used_bytes": 95}, "95% of its memory is used, and maxmemory-policy=noeviction", "allkeys-lru"),
        ({"latency_s": 2.0}, "2.0 s to answer", "redis-cli --latency"),
    ],
)
def test_a_redis_that_will_not_do_is_wrong(changes: dict[str, object], found: str, remedy: str) -> None:
    """Too old, a replica, about to refuse writes, or far away."""
    finding = only(judge_redis(redis_found(**changes)), "wrong")
    assert found in finding.found
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "changes", [{}, {"used_bytes": 99, "policy": "allkeys-lru"}, {"used_bytes": 99, "most_bytes": 0}]
)
def test_a_redis_that_takes_writes_is_ok(changes: dict[str, object]) -> None:
    """Also one that drops what is old when it is full, or has no limit."""
    assert "7.2.1 answers in 1.0 ms" in only(judge_redis(redis_found(**changes)), "ok").found


@pytest.mark.parametrize(
    ("part", "so", "remedy"),
    [
        ("champion", "new ones with the fallback", "stream models rollback --model knowledge"),
        ("challenger", "not on trial", "stream models learn-now --model knowledge"),
        ("previous", "a rollback cannot go back to it", "stream models list --model knowledge"),
    ],
)
def test_an_announced_model_that_does_not_load_is_wrong(part: str, so: str, remedy: str) -> None:
    """What follows depends on the part that it plays."""
    announced = [Announced("knowledge", 7, part, "expected digest a, found b"), Announced("risk", 2, "champion")]
    finding = only(judge_models(("knowledge", "risk"), announced), "wrong")
    assert f"knowledge version 7 ({part}) cannot be used" in finding.found
    assert so in finding.found
    assert "expected digest a, found b" in finding.found
    assert remedy in finding.remedy


def test_models_that_load_are_ok() -> None:
    """Each name with what serves under it."""
    assert only(judge_models(("knowledge", "risk"), []), "ok").found == (
        "knowledge: the fallback serves; risk: the fallback serves"
    )
    announced = [Announced("knowledge", 7, "champion"), Announced("knowledge", 8, "challenger")]
    assert only(judge_models(("knowledge",), announced), "ok").found == (
        "knowledge version 7 loads; 1 more that are announced load"
    )


def test_a_folder_of_models_is_unsure_where_workers_are_elsewhere() -> None:
    """They may share it, or each have one of its own."""
    versions = {"knowledge": 3, "risk": 0}
    finding = only(judge_store("/models", versions, "here", ["10.0.0.7"]), "unsure")
    assert "10.0.0.7" in finding.found
    assert "s3://" in finding.remedy
    assert only(judge_store("s3://b/models", versions, "none", ["10.0.0.7"]), "ok")
    assert "knowledge 3" in only(judge_store("/models", versions, "here", []), "ok").found


def test_a_store_that_is_no_folder_is_wrong(tmp_path: Path) -> None:
    """One that is yet to be made may be misspelt: that cannot be told."""
    (tmp_path / "file").touch()
    places = (str(tmp_path), str(tmp_path / "file"), str(tmp_path / "no"), "s3://bucket/models")
    assert [looking.folder(place) for place in places] == ["here", "file", "absent", "none"]
    examined, checks = looks(settings(model_store=str(tmp_path)))
    examined._hosts = {"127.0.0.1:1"}  # where a broker says that it is, and nobody answers
    assert "can be read" in only(checks["store"](), "ok").found
    assert "is a file" in only(judge_store("/file", {}, "file", []), "wrong").found
    assert "no folder /no" in only(judge_store("/no", {}, "absent", []), "unsure").found


@pytest.mark.parametrize(
    ("health", "verdict", "found"),
    [
        (Answer(200, "ok"), "ok", "/healthz ok and /readyz ready"),
        (Answer(503, "no progress for 61 s"), "wrong", "http://h:1/healthz says: no progress for 61 s"),
        (Answer(200, "<html>"), "unsure", "something else listens there"),
        (Answer(404, "not here"), "unsure", "answers 404"),
    ],
)
def test_a_port_says_how_its_process_is(health: Answer, verdict: str, found: str) -> None:
    """What it says itself counts."""
    answers = {"/healthz": health, "/readyz": Answer(200, "ready")}
    assert found in only(judge_port("worker's port", "h:1", answers, "stream worker"), verdict).found


def test_a_port_that_is_silent_is_unsure() -> None:
    """The process may run on another machine."""
    silent = {"/healthz": Answer(0, "refused"), "/readyz": Answer(0, "refused")}
    assert only(judge_port("a", "h:1", silent, "stream worker"), "unsure").remedy.startswith("stream worker")


# --------------------------------------------------------------------------------------------------- looking


@pytest.fixture
def served(request: pytest.FixtureRequest) -> "Callable[[Callable[[socket.socket], None]], int]":
    """Return what serves one connection, and gives its port."""

    def serve(talk: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        request.addfinalizer(listener.close)

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                talk(connection)

        threading.Thread(target=run, daemon=True).start()
        return int(listener.getsockname()[1])

    return serve


def test_what_a_broker_can_do_is_read_from_its_first_words(
    served: "Callable[[Callable[[socket.socket], None]], int]",
) -> None:
    """The request is Kafka's ApiVersions, and the answer's highest versions are kept by key."""
    asked: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        asked.append(connection.recv(100))
        body = struct.pack(">ihi", 1, 0, 2) + struct.pack(">hhh", 28, 0, 4) + struct.pack(">hhh", 11, 2, 9)
        connection.sendall(struct.pack(">i", len(body)) + body)

    assert looking.apis(settings(), f"127.0.0.1:{served(talk)}") == {28: 4, 11: 9}
    assert asked == [struct.pack(">ihhih", 16, 18, 0, 1, 6) + b"doctor"]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", struct.pack(">iihi", 10, 1, 35, 0)])
def test_what_is_no_broker_cannot_tell(served: "Callable[[Callable[[socket.socket], None]], int]", said: bytes) -> None:
    """It hangs up, speaks otherwise, or gives an error."""

    def talk(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(said)

    with pytest.raises((OSError, ValueError)):
        looking.apis(settings(), f"127.0.0.1:{served(talk)}")


def test_addresses_are_tried_at_once(
    served: "Callable[[Callable[[socket.socket], None]], int]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with why it does not answer: refused, no such name, no address at all."""
    real = socket.getaddrinfo

    def known(host: str, *others: Any, **named: Any) -> list[Any]:
        if host == "no-such-host.invalid":  # some resolvers know every name, some say nothing
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return real(host, *others, **named)

    monkeypatch.setattr(socket, "getaddrinfo", known)
    port = served(lambda _: None)
    tried = looking.connected([f"127.0.0.1:{port}", "127.0.0.1:1", "no-such-host.invalid:9092", "127.0.0.1:port"])
    assert tried[f"127.0.0.1:{port}"] == ""
    assert "refused" in tried["127.0.0.1:1"]
    assert tried["no-such-host.invalid:9092"] == "no such name is known here"
    assert tried["127.0.0.1:port"]
    assert looking.host_and_port("SSL://kafka:9093") == ("kafka", 9093)
    assert looking.host_and_port("[::1]:9093") == ("::1", 9093)
    assert looking.host_and_port("kafka") == ("kafka", 9092)


class _Healthy(BaseHTTPRequestHandler):
    """A worker that lives, and is not ready."""

    def do_GET(self) -> None:
        status, text = (200, b"ok\n") if self.path == "/healthz" else (503, b"state is recovering\nmore")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_port_is_asked_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxy is set, and where everything listens: the first line of each answer, also of a refusal."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), _Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = looking.answers("0.0.0.0", server.server_port, ("/healthz", "/readyz"))  # noqa: S104
        checks = looks(settings(page_port=server.server_port, worker_metrics_port=server.server_port))[1]
        page, worker = (checks[f"{name}'s port"]() for name in ("page", "worker"))
        server.shutdown()
    assert only(page, "ok").found == f"127.0.0.1:{server.server_port} says /healthz ok"
    assert only(worker, "wrong").found.endswith("/readyz says: state is recovering")
    assert found == {"/healthz": Answer(200, "ok"), "/readyz": Answer(503, "state is recovering")}
    assert looking.local("::") == "[::1]"


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    """Before anything is sent: the client's own words, and the settings that name files."""
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(AwayError, match=r"no client can be made: .*ca") as caught:
        Kafka(settings(security_protocol="SSL", ssl_ca_file=tmp_path / "ca.pem"))
    assert "STREAM_SSL_CA_FILE" in caught.value.remedy


def test_a_look_that_takes_too_long_is_left() -> None:
    """What hangs holds up nothing; what fails fails here."""
    free = threading.Event()
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        looking.within(0.01, free.wait)
    free.set()

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        looking.within(60, fail)


def test_a_check_that_fails_stops_none() -> None:
    """Our own fault is told as such, in one line, without secrets."""
    given = settings(redis_url="redis://:hush@127.0.0.1:1/0")
    examined = examination.Examination(given, {})

    def fail() -> list[Finding]:
        raise RuntimeError("no way to\nredis://:hush@127.0.0.1:1/0")

    (finding,) = examined._guarded("redis", fail)()
    assert finding.verdict == "unsure"
    assert finding.found.endswith("which is our fault: RuntimeError: no way to ...")
    assert without_secrets("hush", given) == "hush"
    empty = settings(security_protocol="SASL_PLAINTEXT", sasl_username="me", sasl_password="")
    assert without_secrets("hush", empty) == "hush"


def test_a_right_that_lacks_is_told() -> None:
    """What may not be read is not wrong by itself: workers may have rights that we lack."""
    examined = examination.Examination(settings(), {})

    def look() -> list[Finding]:
        raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    finding = only(examined._guarded("workers", look)(), "unsure")
    assert "uthorization failed" in finding.found
    assert "docs/security.md" in finding.remedy


# ---------------------------------------------------------------------------------------------------- report


def test_the_report_fits_80_columns_and_keeps_commands_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """What was found is wrapped under its verdict; what is to be typed stays one line; a pipe gets no colours."""
    console = Console(width=80)
    command = "run kafka-configs --bootstrap-server 127.0.0.1:9092 --alter --topic " + "x" * 60
    report.show(console, wrong("topics", "word " * 40 + "[bold]", command))
    report.show(console, ok("broker", "127.0.0.1:9092 answers"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("wrong   topics: word word")
    assert all(len(line) <= 80 for line in lines if "->" not in line)
    assert f"        -> {command}" in lines
    assert "[bold]" in lines[-3]
    assert lines[-1] == "ok      broker: 127.0.0.1:9092 answers"


def test_on_a_terminal_the_verdict_has_a_colour() -> None:
    """It alone: what was found stays as it is."""
    terminal = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="standard", legacy_windows=False)
    report.show(terminal, ok("broker", "answers"))
    assert terminal.file.getvalue() == "\x1b[32mok      \x1b[0mbroker: answers\n"  # type: ignore[attr-defined]


def test_the_summary_counts_what_is_wrong() -> None:
    """And says when nothing is, and what could not be told."""
    bad, good, open_ = wrong("a", "b", "c"), ok("a", "b"), unsure("a", "b")
    assert report.summary([good, bad, open_]) == "1 thing is wrong; each line says what to do"
    assert report.summary([good, open_, open_]) == "nothing is wrong; 2 things cannot be told from here"
    assert report.summary([good]) == "nothing is wrong"
    told = json.loads(report.as_json([good, bad]))
    assert told == {
        "wrong": True,
        "findings": [
            {"name": "a", "verdict": "ok", "found": "b", "remedy": ""},
            {"name": "a", "verdict": "wrong", "found": "b", "remedy": "c"},
        ],
    }


# ------------------------------------------------------------------------------------------------------ docs/doctor.md


def test_the_document_names_every_check() -> None:
    """Its table has a row for each, and no other; each verdict of its example is of a check that there is."""
    page = (Path(__file__).parents[1] / "docs" / "doctor.md").read_text("utf-8")
    checks = examination.Examination(settings(broker="127.0.0.1:1"), {}).checks()
    names = {finding.name for _, look in checks for finding in look()}
    rows = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == names
    block = page.split("```text\n")[1].split("```")[0]
    shown = re.findall(r"^(ok|wrong|unsure) +([^:]+):", block, re.MULTILINE)
    assert {name for _, name in shown} == names
    wrongs = sum(verdict == "wrong" for verdict, _ in shown)
    assert block.endswith(f"{wrongs} things are wrong; each line says what to do\n")
    assert block.count("-> ") == wrongs
    assert all(len(line) <= 80 for line in block.splitlines() if "->" not in line)
