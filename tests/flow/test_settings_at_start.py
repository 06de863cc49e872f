"""Settings that cannot work, on the real broker: the worker says in one sentence what to change, and does not start."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.transport.topics import changelog
from tests.broker.kafka import KafkaServer
from tests.flow.system import PARTITIONS, System, exit_status, prepare

pytestmark = pytest.mark.timeout(300)

IMPATIENT = "from stream.transport import exactly_once; exactly_once._INIT_S = 6.0"
"""Half a minute is what a broker is given to make its transaction log: not needed to see that the wait ends."""

TOLD_S = 30.0
"""The start of the command, and that wait."""


@pytest.fixture
def bare(kafka: KafkaServer, prefix: str, tmp_path: Path) -> Iterator[System]:
    """Give a system without topics."""
    system = System(tmp_path, kafka.bootstrap, prefix)
    yield system
    system.end()


@pytest.fixture
def single(kafka: KafkaServer, prefix: str, tmp_path: Path) -> Iterator[System]:
    """Give a system on a single broker that wants its transaction log on three, as Kafka's own default has it."""
    server = KafkaServer(tmp_path / "kafka", password=secrets.token_hex(8))
    with (server.folder / "server.properties").open("a") as properties:
        properties.write("transaction.state.log.replication.factor=3\n")
    with server:
        system = System(tmp_path, server.bootstrap, prefix)
        system.create_topics()
        yield system
        system.end()


def assert_one_sentence(ended: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """Hold that a command ended with status 2 and one line, in which these words stand."""
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr


def test_a_broker_without_transactions_is_told(single: System) -> None:
    """Exactly once where the broker cannot keep a transaction log: the sentence names its settings, and the way out."""
    prepare(single, "worker", IMPATIENT, guarantee="exactly_once")
    started = time.monotonic()
    single.start("worker", until="stream: ")
    assert exit_status(single, "worker") == 2
    assert time.monotonic() - started < TOLD_S
    [sentence] = single.log("worker").strip().splitlines()
    assert "STREAM_GUARANTEE=exactly_once needs transactions, and the broker at" in sentence
    assert "set its transaction.state.log.replication.factor" in sentence
    assert "or set STREAM_GUARANTEE=at_least_once" in sentence


@pytest.mark.parametrize("table", ["learners", "names"])
def test_a_changelog_that_is_also_deleted_is_told(bare: System, kafka: KafkaServer, table: str) -> None:
    """`compact,delete` keeps the latest record of a user for a while only: no worker starts on it (#176)."""
    name = changelog(bare.settings, table)
    kafka.create_topic(name, partitions=PARTITIONS, cleanup_policy="compact,delete")
    assert_one_sentence(
        bare.command("worker"),
        f"topic {name}: expected cleanup.policy=compact, found compact,delete: state would be deleted",
        f"kafka-configs --alter --topic {name} --add-config cleanup.policy=compact",
    )


def test_a_source_topic_with_fewer_partitions_than_the_tables_is_told(system: System, kafka: KafkaServer) -> None:
    """A user's events must come on the partition of the state: the sentence names both numbers."""
    other = System(system.folder, system.bootstrap, system.prefix + "x-", {"group": system.settings.group})
    name = other.settings.topic("academics")
    kafka.create_topic(name, partitions=PARTITIONS // 2)
    assert_one_sentence(
        other.command("worker"), f"topic {name}: expected {PARTITIONS} partitions, found {PARTITIONS // 2}"
    )


def test_a_changelog_with_other_partitions_is_told(bare: System, kafka: KafkaServer) -> None:
    """The same for a changelog that has more."""
    name = changelog(bare.settings, "academics")
    kafka.create_topic(name, partitions=2 * PARTITIONS, cleanup_policy="compact")
    assert_one_sentence(
        bare.command("worker"), f"topic {name}: expected {PARTITIONS} partitions, found {2 * PARTITIONS}"
    )


def test_several_mistakes_are_told_at_once(bare: System, kafka: KafkaServer) -> None:
    """Who mends topics should not have to start again for each of them."""
    learners, academics = (changelog(bare.settings, table) for table in ("learners", "academics"))
    kafka.create_topic(learners, partitions=PARTITIONS, cleanup_policy="delete")
    kafka.create_topic(academics, partitions=1, cleanup_policy="compact")
    assert_one_sentence(bare.command("worker"), f"topic {learners}: expected", f"topic {academics}: expected")


def test_a_heartbeat_above_a_third_of_the_session_is_told(bare: System) -> None:
    """A worker would be taken for dead after two lost heartbeats."""
    assert_one_sentence(
        bare.command("worker", heartbeat_s=2.5, session_timeout_s=6),
        "STREAM_HEARTBEAT_S must not be above a third of STREAM_SESSION_TIMEOUT_S",
    )
