"""The servers that other tests stand on: they speak, refuse and come back as real ones do."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.broker.kafka import SASL_USER, KafkaServer
from tests.broker.process import ServerError, ServerProcess, free_ports
from tests.broker.redis_server import RedisServer

WAIT_S = 30


@pytest.fixture
def topic(kafka: KafkaServer, prefix: str) -> str:
    """Create a topic of one partition."""
    name = f"{prefix}events"
    kafka.create_topic(name, partitions=1)
    return name


def produce(kafka: KafkaServer, topic: str, value: bytes) -> None:
    """Produce one message and wait until the broker has it."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topic, value, key=b"ada")
    assert producer.flush(WAIT_S) == 0


def consume(kafka: KafkaServer, topic: str, count: int) -> list[bytes | None]:
    """Read so many committed values from the topic's start, or as many as come in time."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": f"{topic}-readers",
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages: list[Message] = consumer.consume(count, WAIT_S)
    consumer.close()
    return [message.value() for message in messages]


def sasl_client(kafka: KafkaServer, password: str, on_error: Callable[[KafkaError], None]) -> AdminClient:
    """Make a client of the SASL listener."""
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.sasl_bootstrap,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": SASL_USER,
        "sasl.password": password,
        "error_cb": on_error,
        "log_level": 0,
    }
    return AdminClient(config)


def test_a_message_goes_through(kafka: KafkaServer, topic: str) -> None:
    """What is produced is consumed."""
    produce(kafka, topic, b"hello")

    assert consume(kafka, topic, 1) == [b"hello"]


def test_a_topic_is_not_made_by_itself(kafka: KafkaServer, prefix: str) -> None:
    """A message to a topic that nobody created is refused."""
    refused: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "topic.metadata.propagation.max.ms": 0})
    producer.produce(f"{prefix}nowhere", b"hello", on_delivery=lambda error, _: refused.append(error))
    producer.flush(WAIT_S)

    assert [error and error.code() for error in refused] == [KafkaError.UNKNOWN_TOPIC_OR_PART]


def test_a_transaction_is_all_or_nothing(kafka: KafkaServer, topic: str, prefix: str) -> None:
    """What was aborted is never read, what was committed is."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{prefix}writer"})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"aborted")
    producer.abort_transaction(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"committed")
    producer.commit_transaction(WAIT_S)

    assert consume(kafka, topic, 1) == [b"committed"]


def test_the_right_password_is_let_in(kafka: KafkaServer, topic: str, sasl_password: str) -> None:
    """The SASL listener serves the user with the right password."""
    client = sasl_client(kafka, sasl_password, lambda _: None)

    assert topic in client.list_topics(timeout=WAIT_S).topics


def test_a_wrong_password_is_refused(kafka: KafkaServer) -> None:
    """The SASL listener refuses the user with a wrong password, and says why."""
    errors: list[KafkaError] = []
    client = sasl_client(kafka, "wrong", errors.append)
    with pytest.raises(KafkaException):
        client.list_topics(timeout=1)
    end = time.monotonic() + WAIT_S
    while KafkaError._AUTHENTICATION not in [error.code() for error in errors]:
        assert time.monotonic() < end, errors
        client.poll(0.1)


@pytest.mark.parametrize("end", [KafkaServer.stop, KafkaServer.kill], ids=["stopped", "killed"])
def test_a_broker_comes_back_with_its_data(kafka: KafkaServer, topic: str, end: Callable[[KafkaServer], None]) -> None:
    """A broker that is stopped or killed, and started again, has the same address and the same messages."""
    produce(kafka, topic, b"before")
    end(kafka)
    assert not kafka.is_running
    kafka.start()
    produce(kafka, topic, b"after")

    assert consume(kafka, topic, 2) == [b"before", b"after"]


def test_redis_speaks(redis_server: RedisServer, prefix: str) -> None:
    """What is set is got."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(f"{prefix}key", b"value")

        assert client.get(f"{prefix}key") == b"value"


def test_redis_comes_back_empty(redis_server: RedisServer, prefix: str) -> None:
    """Redis that is killed and started again has the same address and no keys."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(f"{prefix}key", b"value")
    redis_server.kill()
    assert not redis_server.is_running
    redis_server.start()

    with redis.Redis.from_url(redis_server.url) as client:
        assert client.get(f"{prefix}key") is None


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """The error of a server that did not start ends with its log."""
    server = ServerProcess("broken", ["/bin/sh", "-c", "echo the port is taken; exit 1"], folder=tmp_path)

    with pytest.raises(ServerError, match="the port is taken"):
        server.start(lambda: False, timeout_s=WAIT_S)


def test_a_server_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """A test run that is killed with -9 leaves no server behind."""
    (port,) = free_ports(1)
    run = tmp_path / "run.py"
    run.write_text(
        "import pathlib, signal, sys\n"
        "from tests.broker.process import ServerProcess\n"
        f"command = [sys.executable, '-m', 'http.server', '{port}', '--bind', '127.0.0.1']\n"
        f"server = ServerProcess('web', command, folder=pathlib.Path({os.fspath(tmp_path)!r}))\n"
        "server.start(lambda: True, timeout_s=1)\n"
        "signal.pause()\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, run], env={**os.environ, "PYTHONPATH": os.fspath(root)}) as parent:
        try:
            wait_until(lambda: _listens(port))
        finally:
            parent.kill()

    wait_until(lambda: not _listens(port))


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for an effect."""
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
