"""
The topics on the broker: made with the right settings, and checked before anything depends on them.

Changelogs are compacted and never deleted, with an hour before compaction (`docs/decisions`); partitions are fixed
for good.
"""

import re
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Literal

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas import TOPICS
from stream.errors import BadTopics, BrokerAway, UserError
from stream.settings import Settings
from stream.transport.clients import client_config, is_refusal, refused

TABLES = ("learners", "academics", "names")

_TIMEOUT_S = 15.0
_POLL_S = 0.05
_TRUSTED_S = 3.0
"""What a broker that is trusted to have no admin API is given to say how topics are configured."""

_HOUR_MS = 3_600_000
_SHORTEST_MS = 24 * _HOUR_MS
"""Events that are kept for less are gone before a worker that was away for a night has read them."""

Gravity = Literal["stops", "harms", "warns"]
"""No worker starts on it; it works, until something is lost; or it is as the operator did not want it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    A topic as it should be.

    Attributes:
        name: On the broker.
        partitions: How many; checked only where state depends on them.
        partitions_matter: Whether state does.
        config: Of the topic.
        is_read: Whether others write it, and the worker reads it.
    """

    name: str
    partitions: int
    partitions_matter: bool
    config: dict[str, str]
    is_read: bool = False


@dataclass(frozen=True, slots=True)
class Existing:
    """
    A topic as it is.

    Attributes:
        partitions: How many.
        replicas: Of the partition that has the fewest.
        config: Of the topic, the broker's defaults among it; empty where the broker does not tell.
    """

    partitions: int
    replicas: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """
    What is wrong with a topic.

    Attributes:
        topic: On the broker.
        found: What was expected, and what is there.
        remedy: What to do.
        gravity: How bad it is.
    """

    topic: str
    found: str
    remedy: str
    gravity: Gravity

    def __str__(self) -> str:
        # One colon is enough for a sentence.
        return f"{self.found}{'; ' if ': ' in self.found else ': '}{self.remedy}"


UNTOLD = Problem(
    "", "how topics are configured, this broker does not say",
    "allow DescribeConfigs on the topics, if it has an admin API", "warns",
)  # fmt: skip
"""Of a broker on which no more can be seen than that the topics are there, and how many partitions they have."""


class _UntoldError(UserError):
    """The broker did not say in time how topics are configured."""


def changelog(settings: Settings, table: str) -> str:
    """Return the name of a table's changelog topic, as Faust makes it."""
    return f"{settings.group}-{table}-changelog"


def wanted(settings: Settings) -> list[Wanted]:
    """Return every topic as it should be."""
    largest = {"max.message.bytes": str(settings.message_max_bytes)}
    topics = []
    for contract in TOPICS.values():
        if contract.is_optional and not settings.risk_statements:
            continue
        config = largest | {"cleanup.policy": contract.cleanup}
        if contract.retention_hours is not None and contract.cleanup == "delete":
            config["retention.ms"] = str(contract.retention_hours * _HOUR_MS)
        # What we read must have as many as the tables: a user's state is read on the partition of the event.
        matters = contract.direction == "in"
        partitions = contract.partitions or settings.partitions
        topics.append(Wanted(settings.topic(contract.name), partitions, matters, config, is_read=matters))
    compacted = largest | {"cleanup.policy": "compact", "min.compaction.lag.ms": str(_HOUR_MS)}
    topics += [Wanted(changelog(settings, table), settings.partitions, True, compacted) for table in TABLES]
    return topics


def _sources(settings: Settings) -> list[Wanted]:
    """Return the foreign topics; only that they exist matters."""
    return [Wanted(name, settings.partitions, False, {}) for name in settings.source_formats]


def ensure(settings: Settings) -> list[str]:
    """
    Create the topics that are missing, check the others, and return the names of those created.

    Raises:
        BadTopics: If one exists with settings that do not fit.
        UserError: If the broker cannot be reached or refuses.
    """
    if settings.topics == "trust":
        return []
    admin = connected(settings)
    existing = shown(admin, settings)
    missing = [topic for topic in [*wanted(settings), *_sources(settings)] if topic.name not in existing]
    if missing and settings.topics == "create":
        new = [
            NewTopic(t.name, num_partitions=t.partitions, replication_factor=settings.replication, config=t.config)
            for t in missing
        ]
        _settle(admin.create_topics(new, operation_timeout=_TIMEOUT_S, request_timeout=_TIMEOUT_S), settings)
        existing = _await_shown(admin, settings, {topic.name for topic in missing})
    problems = [p for p in problems_of(settings, described(admin, settings, existing)) if p.gravity == "stops"]
    if problems:
        raise BadTopics("; ".join(map(str, problems)))
    return [topic.name for topic in missing] if settings.topics == "create" else []


def ids(settings: Settings, names: Collection[str]) -> dict[str, str]:
    """Return the broker's own ids of topics, which a topic that is made anew does not keep; none of an older broker."""
    if settings.topics == "trust" or not names:
        return {}
    admin = AdminClient(client_config(settings))
    found = {}
    for name, future in admin.describe_topics(TopicCollection(list(names)), request_timeout=_TIMEOUT_S).items():
        try:
            found[name] = str(future.result().topic_id)
        except KafkaException as error:
            raise UserError(f"topic {name} of STREAM_SOURCES cannot be described: {error.args[0].str()}") from error
    return found


def check(settings: Settings) -> list[Problem]:
    """Return what is wrong with the topics; raises `UserError` if the broker cannot be reached."""
    admin = connected(settings)
    topics = shown(admin, settings)
    try:
        topics = described(admin, settings, topics, _TRUSTED_S if settings.topics == "trust" else _TIMEOUT_S)
    except _UntoldError:
        is_told = False
    else:
        is_told = all(topics[topic.name].config for topic in wanted(settings) if topic.name in topics)
    return problems_of(settings, topics) + ([] if is_told else [UNTOLD])


def problems_of(settings: Settings, existing: Mapping[str, Existing]) -> list[Problem]:
    """Return what is wrong with each topic that is missing or does not fit. Pure."""
    problems = []
    for topic in wanted(settings):
        found = existing.get(topic.name)
        if found is None:
            remedy = "run `stream topics create`, or set STREAM_TOPICS=create"
            problems.append(Problem(topic.name, f"topic {topic.name} is missing", remedy, "stops"))
        else:
            problems += _misfits(settings, topic, found)
    return problems + [
        Problem(
            name, f"topic {name} of STREAM_SOURCES is missing", "make it, mend its name, or set STREAM_TOPICS=create",
            "stops",
        )
        for name in settings.source_formats
        if name not in existing
    ]  # fmt: skip


def _misfits(settings: Settings, topic: Wanted, found: Existing) -> list[Problem]:
    """Return what does not fit of a topic that is there; what the broker does not tell fits."""
    problems = []

    def expect(option: str, expected: str, so: str, gravity: Gravity) -> None:
        problems.append(
            Problem(
                topic.name, f"topic {topic.name}: expected {option}={expected}, found {found.config[option]}: {so}",
                _alter(settings, topic.name, f"{option}={topic.config.get(option, expected)}"), gravity,
            )
        )  # fmt: skip

    if topic.partitions_matter and found.partitions != topic.partitions:
        problems.append(
            Problem(
                topic.name, f"topic {topic.name}: expected {topic.partitions} partitions, found {found.partitions}",
                f"set STREAM_PARTITIONS={found.partitions} if all topics have as many, else make it anew: another "
                "number of partitions would move users away from their state", "stops",
            )
        )  # fmt: skip
    policy = found.config.get("cleanup.policy", topic.config["cleanup.policy"])
    if topic.config["cleanup.policy"] == "compact" and policy != "compact":
        expect("cleanup.policy", "compact", "state would be deleted", "stops")
    if topic.config["cleanup.policy"] == "delete" and "compact" in policy:
        expect("cleanup.policy", "delete", "of each user only the latest message would stay", "harms")
    lag = topic.config.get("min.compaction.lag.ms")
    if lag is not None and _number(found, "min.compaction.lag.ms", lag) < int(lag):
        expect("min.compaction.lag.ms", lag, "a late record could take the place of the right one", "harms")
    largest = settings.event_max_bytes if topic.is_read else settings.message_max_bytes
    if _number(found, "max.message.bytes", str(largest)) < largest:
        name = "STREAM_EVENT_MAX_BYTES" if topic.is_read else "STREAM_MESSAGE_MAX_BYTES"
        expect("max.message.bytes", str(largest), f"the broker refuses messages that {name} allows", "harms")
    retention = _number(found, "retention.ms", "-1")
    if topic.is_read and 0 <= retention < _SHORTEST_MS:
        expect(
            "retention.ms", str(_SHORTEST_MS), "events are deleted before a worker that was away reads them", "harms"
        )
    if found.replicas < settings.replication:
        problems.append(
            Problem(
                topic.name,
                f"topic {topic.name}: expected {settings.replication} replicas (STREAM_REPLICATION), "
                f"found {found.replicas}",
                "have kafka-reassign-partitions add some, or lower STREAM_REPLICATION", "warns",
            )
        )  # fmt: skip
    return problems


def _number(found: Existing, option: str, otherwise: str) -> int:
    """Return an option of a topic; what is given otherwise where the broker does not tell."""
    return int(found.config.get(option, otherwise))


def _alter(settings: Settings, topic: str, option: str) -> str:
    return f"run kafka-configs --alter --topic {topic} --add-config {option} {reaching(settings)}"


def reaching(settings: Settings) -> str:
    """Return the options by which Kafka's own tools reach the broker; passwords are in a file, never among them."""
    at = f"--bootstrap-server {settings.broker}"
    return at if settings.security_protocol == "PLAINTEXT" else f"{at} --command-config client.properties"


def connected(settings: Settings) -> AdminClient:
    """Return a client that a broker has answered; raises `UserError` if none does, or if it will not let us in."""
    told: list[KafkaError] = []
    admin = AdminClient(client_config(settings) | {"error_cb": told.append})
    end = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            admin.list_topics(timeout=1.0)
        except KafkaException as error:
            admin.poll(0)
            away = unreached(settings, told, error.args[0])
            if not isinstance(away, BrokerAway) or time.monotonic() > end:
                raise away from error
        else:
            return admin


def unreached(settings: Settings, told: Sequence[KafkaError], error: KafkaError) -> UserError:
    """
    Return what is to be said of a broker that cannot be reached. Pure.

    Args:
        settings: Its address.
        told: What the client has told by its `error_cb`: only that knows the cause.
        error: With which the call failed.
    """
    refusal = next(filter(is_refusal, told), None)
    if refusal is not None:
        return UserError(refused(settings, refusal))
    causes = [each for each in told if each.code() != KafkaError._ALL_BROKERS_DOWN]  # noqa: SLF001
    cause = _AROUND_A_CAUSE.sub("", (causes[-1] if causes else error).str())
    return BrokerAway(
        f"no Kafka broker answers at {settings.broker} (STREAM_BROKER): {cause}; start it, or mend STREAM_BROKER; "
        "`stream doctor` says more"
    )


_AROUND_A_CAUSE = re.compile(
    r"^\S+/\w+: |^Failed to get metadata: | \(after [^()]* in state [^()]*(\([^()]*\)[^()]*)?\)$"
)
"""Which of the client's connections failed, and for how long it had waited."""


def shown(admin: AdminClient, settings: Settings, within_s: float = _TIMEOUT_S) -> dict[str, Existing]:
    """Return all topics that the broker shows us, without what they are configured to."""
    try:
        metadata = admin.list_topics(timeout=within_s)
    except KafkaException as error:
        raise unreached(settings, (), error.args[0]) from error
    return {
        name: Existing(len(topic.partitions), min((len(p.replicas) for p in topic.partitions.values()), default=0))
        for name, topic in metadata.topics.items()
    }


def _await_shown(admin: AdminClient, settings: Settings, created: set[str]) -> dict[str, Existing]:
    """Return all topics, once those just created are shown: that may be after they are confirmed."""
    end = time.monotonic() + _TIMEOUT_S
    while not created <= (existing := shown(admin, settings)).keys() and time.monotonic() < end:
        time.sleep(_POLL_S)
    return existing


def described(
    admin: AdminClient, settings: Settings, existing: Mapping[str, Existing], within_s: float = _TIMEOUT_S
) -> dict[str, Existing]:
    """Return the topics with what ours are configured to, where the broker tells."""
    names: Sequence[str] = sorted({topic.name for topic in wanted(settings)} & set(existing))
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    topics = dict(existing)
    for resource, future in admin.describe_configs(resources, request_timeout=within_s).items() if resources else ():
        try:
            config = {name: entry.value for name, entry in future.result().items() if entry.value is not None}
        except KafkaException as error:
            # Without the right to describe, or on a broker that cannot: the other checks still count.
            if error.args[0].code() not in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNSUPPORTED_FEATURE):  # noqa: SLF001
                kind = _UntoldError if error.args[0].code() == KafkaError._TIMED_OUT else UserError  # noqa: SLF001
                raise kind(
                    f"topic {resource.name}: its settings cannot be read: {error.args[0].str()}; allow DescribeConfigs "
                    "on the topics, or set STREAM_TOPICS=trust if the broker has no admin API"
                ) from error
        else:
            topics[resource.name] = replace(existing[resource.name], config=config)
    return topics


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
