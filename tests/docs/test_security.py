"""The rights of `docs/security.md` are enough for each part, on a broker that asks for them."""

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from stream.page.board import TOPICS as READ_BY_THE_PAGE
from tests.broker import kafka as kafka_broker
from tests.broker.kafka import KafkaServer
from tests.docs.blocks import DOCS, blocks_of
from tests.docs.runners import lines_of_shell
from tests.flow.system import WAIT_S, System, answer
from tests.flow.test_page import shown

PRINCIPALS = ("lms", "worker", "trainer", "app", "page")
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefixed": ResourcePatternType.PREFIXED}
RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}


def grants() -> list[AclBinding]:
    """Return what the page's lines of `kafka-acls` would give."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    for option in ("--bootstrap-server", "--allow-principal"):
        parser.add_argument(option, required=True)
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--operation", action="append", choices=OPERATIONS, required=True)
    parser.add_argument("--resource-pattern-type", choices=PATTERNS, default="literal")
    for resource in RESOURCES:
        parser.add_argument("--" + resource.replace("_", "-"), action="append", default=[])
    found = []
    for block in blocks_of(DOCS / "security.md"):
        for line in lines_of_shell(block.text) if block.heading == "ACLs" else ():
            command, *arguments = shlex.split(line)
            assert command == "kafka-acls"
            given = parser.parse_args(arguments)
            found += [
                AclBinding(
                    RESOURCES[resource], name, PATTERNS[given.resource_pattern_type], given.allow_principal, "*",
                    OPERATIONS[operation], AclPermissionType.ALLOW,
                )
                for resource in RESOURCES
                for name in getattr(given, resource)
                for operation in given.operation
            ]  # fmt: skip
    return found


@pytest.fixture
def guarded(kafka: KafkaServer, tmp_path: Path, sasl_password: str) -> Iterator[KafkaServer]:
    """Start a broker that lets in principals with a password, each with the rights of the page alone."""
    assert kafka_broker.missing() is None, "where there is one broker, there can be another"
    server = KafkaServer(tmp_path / "kafka", password=sasl_password)
    properties = server.folder / "server.properties"
    users = " ".join(f'user_{name}="{sasl_password}"' for name in PRINCIPALS)
    text = properties.read_text(encoding="utf-8").replace(f'user_worker="{sasl_password}"', users)
    text += "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
    text += "super.users=User:ANONYMOUS\n"  # who comes by the listener without security: this test, as an operator
    properties.write_text(text, encoding="utf-8")
    with server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap})
        for granted in admin.create_acls(grants()).values():
            granted.result(WAIT_S)
        yield server


def client(server: KafkaServer, principal: str, password: str) -> dict[str, str]:
    """Return how a principal reaches the broker."""
    return {
        "bootstrap.servers": server.sasl_bootstrap, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
        "sasl.username": principal, "sasl.password": password,
    }  # fmt: skip


def first(server: KafkaServer, principal: str, password: str, topic: str, group: str) -> Message:
    """Return the first message of a topic, or why there is none for this principal."""
    config = client(server, principal, password) | {"group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    try:
        consumer.subscribe([topic])
        message = consumer.poll(WAIT_S)
        assert message is not None
        return message
    finally:
        consumer.close()


@pytest.mark.timeout(400)  # of which its broker may take more than a minute
def test_each_part_has_the_rights_that_it_needs(guarded: KafkaServer, tmp_path: Path, sasl_password: str) -> None:
    """
    An answer of the platform is predicted, learned from, shown and read, exactly once.

    The platform may read none of it.
    """
    options: dict[str, object] = {
        "group": "learnerstream", "broker": guarded.sasl_bootstrap, "topics": "check", "guarantee": "exactly_once",
        "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_password": sasl_password,
    }  # fmt: skip
    System(tmp_path, guarded.bootstrap, "", {"group": "learnerstream"}).create_topics()
    parts = {
        name: System(tmp_path, "", "", options | {"sasl_username": name}) for name in ("worker", "trainer", "page")
    }
    try:
        for name, part in parts.items():
            part.start(name)
        topic, event = answer("ada", 1)
        platform = Producer(client(guarded, "lms", sasl_password) | {"partitioner": "murmur2_random"})
        platform.produce(topic, key="ada", value=str(event).replace("'", '"').replace("True", "true"))
        assert platform.flush(WAIT_S) == 0
        said = first(guarded, "app", sasl_password, "predictions.correctness", "my-app")
        assert b'"ada"' in (said.value() or b"")
        parts["trainer"].await_metric("trainer", "stream_trainer_buffered_answers", lambda count: count == 1)
        shown(parts["page"], "page", lambda page: page["state"] == "live" and page["totals"]["correctness"] == 1)
    finally:
        for part in parts.values():
            part.end()
    refused = first(guarded, "lms", sasl_password, "predictions.correctness", "my-app").error()
    assert refused is not None
    assert refused.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)


def test_the_page_may_read_what_it_reads() -> None:
    """Every topic of the page is among those that its principal is given."""
    given = [g for g in grants() if g.principal == "User:page" and g.operation is AclOperation.READ]
    exact = {g.name for g in given if g.resource_pattern_type is ResourcePatternType.LITERAL}
    prefixes = tuple(g.name for g in given if g.resource_pattern_type is ResourcePatternType.PREFIXED)
    assert [topic for topic in READ_BY_THE_PAGE if topic not in exact and not topic.startswith(prefixes)] == []
