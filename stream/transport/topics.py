"""
The topics on the broker: made with the right settings, and checked before anything depends on them.

Changelogs are compacted and never deleted, with an hour before compaction (`docs/decisions`); partitions are fixed
for good.
"""

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas import TOPICS
from stream.errors import BadTopics, UserError
from stream.settings import Settings
from stream.transport.clients import client_config

TABLES = ("learners", "academics", "names")
PER_USER = ("interactions", "academics", "prediction-requests", "erasures")
"""
Topics that must have as many partitions as the tables: an agent reads a user's state on the partition of the event.
"""

_TIMEOUT_S = 15.0
_POLL_S = 0.05
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    A topic as it should be.

    Attributes:
        name: On the broker.
        partitions: How many; checked only where state depends on them.
        partitions_matter: Whether state does.
        config: Of the topic.
    """

    name: str
    partitions: int
    partitions_matter: bool
    config: dict[str, str]


def changelog(settings: Settings, table: str) -> str:
    """Return the name of a table's changelog topic, as Faust makes it."""
    return f"{settings.group}-{table}-changelog"


def wanted(settings: Settings) -> list[Wanted]:
    """Return every topic as it should be."""
    largest = {"max.message.bytes": str(settings.message_max_bytes)}
    topics = []
    for contract in TOPICS.values():
        config = largest | {"cleanup.policy": contract.cleanup}
        if contract.retention_hours is not None and contract.cleanup == "delete":
            config["retention.ms"] = str(contract.retention_hours * _HOUR_MS)
        matters = contract.name in PER_USER
        # The rollout is one small record: one partition keeps the order of decisions.
        partitions = 1 if contract.name in {"model-updates", "model-events"} else settings.partitions
        topics.append(Wanted(settings.topic(contract.name), partitions, matters, config))
    compacted = largest | {"cleanup.policy": "compact", "min.compaction.lag.ms": str(_HOUR_MS)}
    topics += [Wanted(changelog(settings, table), settings.partitions, True, compacted) for table in TABLES]
    return topics


def ensure(settings: Settings) -> list[str]:
    """
    Create the topics that are missing, check the others, and return the names of those created.

    Raises:
        BadTopics: If one exists with settings that do not fit.
        UserError: If the broker cannot be reached or refuses.
    """
    if settings.topics == "trust":
        return []
    admin = _connected(settings)
    existing = _partitions(admin, settings)
    missing = [topic for topic in wanted(settings) if topic.name not in existing]
    if missing and settings.topics == "create":
        new = [
            NewTopic(t.name, num_partitions=t.partitions, replication_factor=settings.replication, config=t.config)
            for t in missing
        ]
        _settle(admin.create_topics(new, operation_timeout=_TIMEOUT_S, request_timeout=_TIMEOUT_S), settings)
        existing = _await_shown(admin, settings, {topic.name for topic in missing})
    problems = problems_of(settings, existing, _cleanup(admin, settings, existing))
    if problems:
        raise BadTopics("; ".join(problems))
    return [topic.name for topic in missing] if settings.topics == "create" else []


def check(settings: Settings) -> list[str]:
    """Return what is wrong with the topics, a sentence each; raises `UserError` if the broker cannot be reached."""
    admin = _connected(settings)
    existing = _partitions(admin, settings)
    return problems_of(settings, existing, _cleanup(admin, settings, existing))


def problems_of(settings: Settings, partitions: dict[str, int], cleanup: dict[str, str]) -> list[str]:
    """Return a sentence for each topic that is missing or does not fit. Pure."""
    problems = []
    for topic in wanted(settings):
        found = partitions.get(topic.name)
        if found is None:
            problems.append(f"topic {topic.name} is missing: run `stream topics create`, or set STREAM_TOPICS=create")
            continue
        if topic.partitions_matter and found != topic.partitions:
            problems.append(
                f"topic {topic.name}: expected {topic.partitions} partitions, found {found}; "
                f"set STREAM_PARTITIONS={found} if all topics have as many, else make it anew: "
                "another number of partitions would move users away from their state"
            )
        policy = cleanup.get(topic.name)
        expected = topic.config["cleanup.policy"]
        if policy is not None and expected == "compact" and policy != "compact":
            problems.append(
                f"topic {topic.name}: expected cleanup.policy=compact, found {policy}: state would be deleted; "
                f"run kafka-configs --alter --topic {topic.name} --add-config cleanup.policy=compact"
            )
    return problems


def _connected(settings: Settings) -> AdminClient:
    """Return a client that a broker has answered; raises `UserError` if none does, or if it will not let us in."""
    refusals: list[KafkaError] = []

    def note(error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):  # noqa: SLF001
            refusals.append(error)

    admin = AdminClient(client_config(settings) | {"error_cb": note})
    end = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            admin.list_topics(timeout=1.0)
        except KafkaException as error:
            admin.poll(0)
            if refusals:
                raise UserError(
                    f"the Kafka broker at {settings.broker} does not let us in: {refusals[0].str()}; "
                    "see STREAM_SECURITY_PROTOCOL, STREAM_SASL_* and STREAM_SSL_*"
                ) from error
            if time.monotonic() > end:
                raise UserError(
                    f"no Kafka broker answers at {settings.broker} (STREAM_BROKER): {error.args[0].str()}"
                ) from error
        else:
            return admin


def _partitions(admin: AdminClient, settings: Settings) -> dict[str, int]:
    try:
        metadata = admin.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise UserError(
            f"no Kafka broker answers at {settings.broker} (STREAM_BROKER): {error.args[0].str()}"
        ) from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _await_shown(admin: AdminClient, settings: Settings, created: set[str]) -> dict[str, int]:
    """Return the partitions of all topics, once those just created are shown: that may be after they are confirmed."""
    end = time.monotonic() + _TIMEOUT_S
    while not created <= (existing := _partitions(admin, settings)).keys() and time.monotonic() < end:
        time.sleep(_POLL_S)
    return existing


def _cleanup(admin: AdminClient, settings: Settings, existing: Iterable[str]) -> dict[str, str]:
    """Return the cleanup policy of each of our topics that exists; none where the broker does not say."""
    names = {topic.name for topic in wanted(settings)} & set(existing)
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    policies = {}
    for resource, future in admin.describe_configs(resources, request_timeout=_TIMEOUT_S).items() if resources else ():
        try:
            policies[resource.name] = future.result()["cleanup.policy"].value
        except KafkaException as error:
            # Without the right to describe, or on a broker that cannot: the other checks still count.
            if error.args[0].code() not in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNSUPPORTED_FEATURE):  # noqa: SLF001
                raise UserError(f"topic {resource.name}: its settings cannot be read: {error.args[0].str()}") from error
    return policies


def _settle(futures: dict[str, "Future[None]"], settings: Settings) -> None:
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            # Another worker that started at the same moment may have been faster.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise UserError(
                    f"topic {name} cannot be created on {settings.broker}: {error.args[0].str()}"
                ) from error
