"""What is said of a broker that is away, or that does not say how its topics are configured."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaError

from stream.cli import main
from stream.demo.broker import PARTITIONS, EmbeddedBroker
from stream.doctor import on_broker
from stream.errors import BrokerAway, UserError
from stream.settings import Settings
from stream.transport import rollout, topics

SETTINGS = Settings(broker="kafka:9092")

DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
FAILED = KafkaError(KafkaError._TRANSPORT, "Failed to get metadata: Local: Broker transport failure")


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (
            "kafka:1/bootstrap: Connect to ipv4#10.0.0.1:1 failed: Connection refused (after 5ms in state CONNECT)",
            "Connect to ipv4#10.0.0.1:1 failed: Connection refused",
        ),
        (
            "kafka:1/7: Failed to resolve 'kafka:1': No such name (after 0ms in state INIT, 3 error(s) suppressed)",
            "Failed to resolve 'kafka:1': No such name",
        ),
        (None, "Local: Broker transport failure"),
    ],
)
def test_the_cause_is_told_and_what_to_do(told: str | None, cause: str) -> None:
    """The client's last words on a connection, not those of the call that waited for it."""
    errors = [] if told is None else [KafkaError(KafkaError._TRANSPORT, told), DOWN]
    away = topics.unreached(SETTINGS, errors, FAILED)
    assert isinstance(away, BrokerAway)
    assert str(away) == (
        f"no Kafka broker answers at kafka:9092 (STREAM_BROKER): {cause}; start it, or mend STREAM_BROKER; "
        "`stream doctor` says more"
    )


def test_a_broker_that_does_not_let_us_in_is_there() -> None:
    """What to mend is a setting: whatever else was told, and however often."""
    refusal = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: Invalid username or password")
    said = topics.unreached(SETTINGS, [refusal, DOWN, FAILED], FAILED)
    assert not isinstance(said, BrokerAway)
    assert "does not let us in: SASL authentication error" in str(said)
    assert "see STREAM_SECURITY_PROTOCOL" in str(said)


@pytest.mark.parametrize(
    "command", ["worker", "topics check", "erase ada", "models list --model risk", "models rollback", "inspect ada"]
)
def test_every_command_without_a_broker_fails_alike(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and the exit status of a failure: the broker may come back by itself."""
    monkeypatch.setattr(topics, "_TIMEOUT_S", 0.0)
    monkeypatch.setattr(rollout, "_TIMEOUT_S", 5.0)
    done = CliRunner().invoke(main, command.split(), env={"STREAM_BROKER": "127.0.0.1:1", "STREAM_LOG_LEVEL": "error"})
    assert done.exit_code == 1
    assert done.output == (
        "stream: no Kafka broker answers at 127.0.0.1:1 (STREAM_BROKER): Connect to ipv4#127.0.0.1:1 failed: "
        "Connection refused; start it, or mend STREAM_BROKER; `stream doctor` says more\n"
    )


@pytest.fixture(scope="module")
def embedded() -> Iterator[Settings]:
    """A broker without an admin API, with all topics."""
    broker = EmbeddedBroker()
    settings = Settings(broker=broker.address, partitions=PARTITIONS, topics="trust")
    broker.make([topic.name for topic in topics.wanted(settings)])
    yield settings
    del broker


def test_a_broker_that_does_not_say_is_a_warning(embedded: Settings) -> None:
    """In the doctor's words: the topics are there, what they are configured to is not known."""
    environment = {"STREAM_BROKER": embedded.broker, "STREAM_PARTITIONS": str(PARTITIONS), "STREAM_TOPICS": "trust"}
    done = CliRunner().invoke(main, ["topics", "check"], env=environment)
    assert (done.exit_code, done.stderr) == (0, "")
    warning, told = done.stdout.splitlines()
    assert warning == (
        "warning: how topics are configured, this broker does not say: allow DescribeConfigs on the topics, if it has "
        "an admin API"
    )
    assert f"{len(topics.wanted(embedded))} topics are there; " in told
    (finding,) = on_broker.judge_topics(embedded, on_broker.Topics(right=1, is_told=False))
    assert "this broker does not say" in finding.found
    assert finding.remedy == topics.UNTOLD.remedy


def test_a_start_without_an_admin_api_says_what_to_set(embedded: Settings) -> None:
    """What a worker cannot check, it does not take for right: the operator says that it is."""
    admin = topics.connected(embedded)
    with pytest.raises(UserError, match="or set STREAM_TOPICS=trust if the broker has no admin API"):
        topics.described(admin, embedded, topics.shown(admin, embedded), within_s=1.0)
