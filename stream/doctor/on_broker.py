"""What is to be said of what Kafka tells: the cluster, its topics, what stands on them, and who reads. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from stream.doctor.findings import Finding, counted, listed, ok, unsure, wrong
from stream.settings import Settings
from stream.transport.progress import Place

TXN_OFFSET_COMMIT, JOIN_GROUP = 28, 11
"""Keys of Kafka's protocol (kafka.apache.org/protocol)."""

_FENCED_BY_GENERATION: Final = 3  # of TXN_OFFSET_COMMIT, since Kafka 2.5 (KIP-447)
_STATIC_MEMBERS: Final = 5  # of JOIN_GROUP, since Kafka 2.3 (KIP-345)
TRANSACTION_LOG: Final = "__transaction_state"

_REASONS: Final = {
    "wrong_partition": "set partitioner=murmur2_random in the producer: librdkafka's default is another than Java's",
    "wrong_key": "have the producer set the message's key to the event's user_id",
    "not_json": "have the producer write one JSON object as the value, in UTF-8, without a schema registry's prefix",
    "not_an_object": "have the producer write one JSON object as the value",
    "unknown_type": "have the producer set `type` to one of docs/messages.md; other events do not belong here",
    "missing_field": "have the producer set the field; docs/messages.md lists those that are required",
    "bad_value": "have the producer keep to the field's range in docs/messages.md",
    "too_large": "have the producer leave out what is not needed, or raise STREAM_EVENT_MAX_BYTES",
    "from_the_future": "set the sender's clock and year right, or raise STREAM_FUTURE_HOURS",
    "processing_failed": "this is our fault: report it with the dead letter's traceback",
}
"""What mends the cause of a dead letter, by its reason."""


def remedy_of(reason: str) -> str:
    """Return what mends the cause of a dead letter."""
    return _REASONS.get(reason, "read the dead letter's `detail`: it says what was expected and what was found")


def judge_listeners(unreachable: Mapping[str, str], brokers: int) -> list[Finding]:
    """
    Return what is to be said of where brokers say that they are.

    Args:
        unreachable: Why an advertised address cannot be reached, by the address.
        brokers: How many there are.
    """
    if unreachable:
        return [
            wrong(
                "listeners",
                f"the broker tells clients to come to {address}, which cannot be reached from here: {why}",
                "mend advertised.listeners in that broker's server.properties, or make its name known here",
            )
            for address, why in unreachable.items()
        ]
    return [ok("listeners", f"{counted(brokers, 'broker')} can be reached where they say that they are")]


@dataclass(frozen=True, slots=True)
class Cluster:
    """
    What the brokers can do.

    Attributes:
        brokers: How many there are.
        apis: The highest version of each request that they know, by its key; None where they did not tell.
        config: Of one broker; empty where it does not tell.
        has_transactions: Whether somebody has used transactions already.
    """

    brokers: int
    apis: Mapping[int, int] | None
    config: Mapping[str, str] = field(default_factory=dict)
    has_transactions: bool = False


def judge_cluster(settings: Settings, cluster: Cluster) -> list[Finding]:
    """Return what the settings ask of the brokers, and they cannot do."""
    findings = [*_lacking(settings, cluster), *_out_of_range(settings, cluster)]
    if settings.replication > cluster.brokers:
        findings.append(
            wrong(
                "features",
                f"STREAM_REPLICATION={settings.replication}, but there {_are(cluster.brokers, 'broker')}: no topic can "
                "be created",
                f"export STREAM_REPLICATION={cluster.brokers}, or add brokers",
            )
        )
    elif settings.replication == 1 and cluster.brokers > 1:
        findings.append(
            wrong(
                "features",
                f"STREAM_REPLICATION=1 with {cluster.brokers} brokers: if one loses its disk, the state of its "
                "partitions is lost",
                f"export STREAM_REPLICATION={min(3, cluster.brokers)} before topics are created; of topics that are "
                "there, kafka-reassign-partitions adds replicas",
            )
        )
    if findings:
        return findings
    if cluster.apis is None:
        return [unsure("features", "the broker does not tell which requests it knows")]
    return [ok("features", f"the broker can do what STREAM_GUARANTEE={settings.guarantee} needs")]


def _lacking(settings: Settings, cluster: Cluster) -> list[Finding]:
    findings = []
    asking = [
        name
        for name, is_so in (
            ("STREAM_GUARANTEE=exactly_once", settings.guarantee == "exactly_once"),
            ("STREAM_SOURCES", bool(settings.sources)),
        )
        if is_so
    ]
    apis = cluster.apis
    if asking and apis is not None and apis.get(TXN_OFFSET_COMMIT, -1) < _FENCED_BY_GENERATION:
        findings.append(
            wrong(
                "features",
                f"{' and '.join(asking)} needs transactions as Kafka 2.5 has them; this broker is older",
                "update the broker, or export STREAM_GUARANTEE=at_least_once and leave STREAM_SOURCES unset",
            )
        )
    if settings.instance_id and apis is not None and apis.get(JOIN_GROUP, -1) < _STATIC_MEMBERS:
        findings.append(
            wrong("features", "STREAM_INSTANCE_ID needs Kafka 2.3; this broker is older", "unset STREAM_INSTANCE_ID")
        )
    replicas = _number(cluster.config, "transaction.state.log.replication.factor")
    if asking and not cluster.has_transactions and replicas is not None and replicas > cluster.brokers:
        findings.append(
            wrong(
                "features",
                f"{' and '.join(asking)} needs transactions, and the broker keeps them in {replicas} replicas, but "
                f"there {_are(cluster.brokers, 'broker')}",
                f"set transaction.state.log.replication.factor={cluster.brokers} and transaction.state.log.min.isr=1 "
                "in the broker's server.properties, and restart it",
            )
        )
    return findings


def _out_of_range(settings: Settings, cluster: Cluster) -> list[Finding]:
    session_ms = int(settings.session_timeout_s * 1_000)
    shortest = _number(cluster.config, "group.min.session.timeout.ms")
    longest = _number(cluster.config, "group.max.session.timeout.ms")
    if (shortest is None or session_ms >= shortest) and (longest is None or session_ms <= longest):
        return []
    fitting = shortest if shortest is not None and session_ms < shortest else longest
    return [
        wrong(
            "features",
            f"STREAM_SESSION_TIMEOUT_S={settings.session_timeout_s:g} is outside of what the broker lets in "
            f"(group.min.session.timeout.ms={shortest}, group.max.session.timeout.ms={longest})",
            f"export STREAM_SESSION_TIMEOUT_S={(fitting or 0) / 1_000:g}",
        )
    ]


def _number(config: Mapping[str, str], name: str) -> int | None:
    return int(config[name]) if name in config else None


class Misfit(Protocol):
    """What `stream topics check` says of a topic; `stream.transport.topics.Problem` is one."""

    @property
    def topic(self) -> str:
        """Its name on the broker."""

    @property
    def found(self) -> str:
        """What was expected, and what is there."""

    @property
    def remedy(self) -> str:
        """What to do."""


@dataclass(frozen=True, slots=True)
class Topics:
    """
    What is known of our topics.

    Attributes:
        right: How many there should be.
        missing: Those that are not shown to us.
        denied: Those among them that are there, but not for us.
        misfits: What does not fit of the others.
        is_told: Whether the broker says how topics are configured.
        reached_by: Options by which Kafka's own tools reach the broker.
    """

    right: int
    missing: Sequence[str] = ()
    denied: Sequence[str] = ()
    misfits: Sequence[Misfit] = ()
    is_told: bool = True
    reached_by: str = ""


def judge_topics(settings: Settings, topics: Topics) -> list[Finding]:
    """Return what is to be said of the topics."""
    denied, right = topics.denied, topics.right
    findings = [
        wrong(
            "topics",
            f"{counted(len(denied), 'topic')} may not be seen by us: {listed(list(denied))}",
            f"kafka-acls --add --allow-principal User:{settings.sasl_username or 'NAME'} --operation Describe "
            f"--operation DescribeConfigs --operation Read --topic {denied[0]} {topics.reached_by}, and so of each",
        )
    ] if denied else []  # fmt: skip
    missing = [name for name in topics.missing if name not in denied]
    if missing:
        prefix = f"STREAM_TOPIC_PREFIX={settings.topic_prefix}, " if settings.topic_prefix else ""
        findings.append(
            wrong(
                "topics",
                f"{len(missing)} of {right} topics are missing ({prefix}STREAM_GROUP={settings.group}): "
                f"{listed(missing)}",
                "stream topics create",
            )
        )
    findings += [wrong("topics", misfit.found, misfit.remedy) for misfit in topics.misfits]
    if findings:
        return findings
    if not topics.is_told:
        return [
            unsure(
                "topics",
                f"{right} topics are there, {counted(settings.partitions, 'partition')}; how they are configured, this "
                "broker does not say",
                "allow DescribeConfigs on the topics, if it has an admin API",
            )
        ]
    return [
        ok(
            "topics",
            f"{right} topics are right; {counted(settings.partitions, 'partition')}, changelogs compacted",
        )
    ]


@dataclass(frozen=True, slots=True)
class Sample:
    """
    The latest records of a topic, as a worker takes them.

    Attributes:
        topic: On the broker.
        taken: How many are events.
        put_aside: How many would be dead letters, by reason.
        ahead: How many happened later than Kafka heard of them, by more than a few minutes.
        example: What a worker would say of one that it puts aside.
        is_whole: Whether all that was asked for came in time.
    """

    topic: str
    taken: int
    put_aside: Counter[str] = field(default_factory=Counter)
    ahead: int = 0
    example: str = ""
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Since:
    """How many dead letters, and when the first of them was put aside, seconds since the epoch."""

    count: int
    first_at: float


@dataclass(frozen=True, slots=True)
class Letters:
    """
    Dead letters of one reason.

    Attributes:
        reason: Their.
        count: How many.
        latest_at: When the latest was put aside, seconds since the epoch.
        place: Where the latest one's record stands.
        detail: What is said of it.
        topics: Those whose records they are, as the broker calls them.
    """

    reason: str
    count: int
    latest_at: float
    place: str
    detail: str
    topics: Mapping[str, Since] = field(default_factory=dict)


_MISPLACED: Final = ("wrong_key", "wrong_partition")
"""Reasons that are those of whoever writes a topic, not of one event."""


def judge_producers(sample: Sample, letters: Sequence[Letters] = (), *, is_whole: bool = True) -> list[Finding]:
    """
    Return what is to be said of who writes a topic.

    Args:
        sample: The latest records.
        letters: Dead letters of the last hour: on a busy topic one producer's records are soon not among the latest.
        is_whole: Whether these are all of that hour.
    """
    bad = sum(sample.put_aside.values())
    read = sample.taken + bad
    earlier = _misplaced(sample, letters, is_whole=is_whole)
    if not read and not earlier:
        why = "nothing stands there yet" if sample.is_whole else "it could not be read in time"
        return [unsure("producers", f"{sample.topic}: {why}, so nothing can be said of its producers")]
    findings = [
        wrong(
            "producers",
            f"{sample.topic}: of the latest {counted(read, 'record')} {count} ({count / read:.0%}) cannot be used, "
            f"{reason}; {sample.example}",
            remedy_of(reason),
        )
        for reason, count in sample.put_aside.most_common()
    ]
    if sample.ahead:
        findings.append(
            wrong(
                "producers",
                f"{sample.topic}: of the latest {counted(read, 'record')} {sample.ahead} ({sample.ahead / read:.0%}) "
                "say that they happened minutes after Kafka had them",
                "set the clock of the producers' machine right; have them write times with their zone, such as Z",
            )
        )
    findings += earlier
    if findings:
        return findings
    return [
        ok(
            "producers",
            f"{sample.topic}: the latest {counted(read, 'record')} can be used; each has its user_id as key, on that "
            "key's partition",
        )
    ]


def _misplaced(sample: Sample, letters: Sequence[Letters], *, is_whole: bool) -> list[Finding]:
    """Return what producers did wrong within the hour, of which the latest records show nothing."""
    at_least, or_before = ("", "") if is_whole else ("at least ", " or before")
    findings = []
    for each in letters:
        since = each.topics.get(sample.topic)
        if since is None or each.reason not in _MISPLACED or sample.put_aside[each.reason]:
            continue
        findings.append(
            wrong(
                "producers",
                f"{sample.topic}: {at_least}{counted(since.count, 'record')} of the last hour could not be used, "
                f"{each.reason}, since {_clock(since.first_at)}{or_before}; none of them is among the latest "
                f"{sample.taken + sum(sample.put_aside.values())}",
                remedy_of(each.reason),
            )
        )
    return findings


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"


def judge_dead_letters(letters: Sequence[Letters], *, is_whole: bool) -> list[Finding]:
    """Return what is to be said of the last hour's dead letters."""
    at_least = "" if is_whole else "at least "
    findings = [
        wrong(
            "dead letters",
            f"{at_least}{each.count:,} in the last hour for {each.reason}, the latest at "
            f"{_clock(each.latest_at)} of {each.place}: {each.detail}",
            remedy_of(each.reason),
        )
        for each in sorted(letters, key=lambda each: -each.count)
    ]
    if findings:
        return findings
    if not is_whole:
        return [unsure("dead letters", "they could not be read in time")]
    return [ok("dead letters", "none in the last hour")]


@dataclass(frozen=True, slots=True)
class Member:
    """
    A process in a consumer group.

    Attributes:
        host: Where it runs.
        places: What it reads.
    """

    host: str
    places: frozenset[Place]


@dataclass(frozen=True, slots=True)
class Group:
    """
    A consumer group, and how far it is.

    Attributes:
        name: Its.
        members: Who is in it.
        is_settled: Whether partitions are given out, none on the move.
        committed: Up to where it has read, where it has committed.
        starts: Where partitions begin.
        ends: Where they end.
    """

    name: str
    members: tuple[Member, ...]
    is_settled: bool
    committed: Mapping[Place, int]
    starts: Mapping[Place, int]
    ends: Mapping[Place, int]

    @property
    def waiting(self) -> int:
        """Records that are yet to be read."""
        return sum(max(self.ends[p] - self.committed.get(p, self.starts.get(p, 0)), 0) for p in self.ends)


def judge_workers(settings: Settings, group: Group, known: frozenset[str]) -> list[Finding]:
    """
    Return what is to be said of the workers.

    Args:
        settings: Partitions.
        group: Theirs.
        known: Topics that are ours.
    """
    name = "workers"
    findings = _lost(name, group)
    strange = {topic for member in group.members for topic, _ in member.places} | {
        topic for topic, _ in group.committed
    }
    strange = {topic for topic in strange if topic not in known and not topic.startswith(f"{group.name}-")}
    if strange:
        findings.append(
            wrong(
                name,
                f"group {group.name} also reads {listed(sorted(strange))}, which is none of ours: another program uses "
                "the same group, and takes partitions from the workers",
                "give that program, or us by STREAM_GROUP, another group",
            )
        )
    if not group.members:
        findings.append(_nobody(name, group, "stream worker", "nothing is predicted"))
    elif not group.is_settled:
        findings.append(
            unsure(
                name, f"group {group.name} is just giving out its partitions", "run `stream doctor` again in a minute"
            )
        )
    elif len(group.members) > settings.partitions:
        findings.append(
            wrong(
                name,
                f"{len(group.members)} workers share {counted(settings.partitions, 'partition')}: "
                f"{len(group.members) - settings.partitions} do nothing",
                f"stop {len(group.members) - settings.partitions} of them; the number of partitions is fixed for good",
            )
        )
    if findings:
        return findings
    share = "shares" if len(group.members) == 1 else "share"
    return [
        ok(
            name,
            f"{counted(len(group.members), 'worker')} {share} {counted(settings.partitions, 'partition')}; "
            f"{counted(group.waiting, 'record')} to be read",
        )
    ]


def judge_trainer(group: Group) -> list[Finding]:
    """Return what is to be said of the trainer."""
    name = "trainer"
    findings = _lost(name, group)
    if not group.members:
        findings.append(
            unsure(
                name,
                f"none runs (group {group.name}): models stay as they are, {counted(group.waiting, 'example')} wait",
                "stream trainer, if it is to learn",
            )
        )
    if len(group.members) > 1:
        findings.append(
            wrong(
                name,
                f"{len(group.members)} trainers share the examples: each learns from a part, and candidates compete",
                "stop all but one",
            )
        )
    return findings or [ok(name, f"one runs; {counted(group.waiting, 'example')} to be read")]


def _nobody(name: str, group: Group, command: str, so: str) -> Finding:
    if group.waiting:
        found = f"none runs (group {group.name}), and {counted(group.waiting, 'record')} wait: {so}"
        return wrong(name, found, command)
    return unsure(name, f"none runs (group {group.name}); nothing waits for one", command)


def _lost(name: str, group: Group) -> list[Finding]:
    """Return what a group can no longer read, or reads no more."""
    lost = {p: start - group.committed[p] for p, start in group.starts.items() if group.committed.get(p, start) < start}
    anew = sorted(f"{p[0]} {p[1]}" for p, end in group.ends.items() if group.committed.get(p, 0) > end)
    findings = []
    if lost:
        findings.append(
            wrong(
                name,
                f"{counted(sum(lost.values()), 'record')} of {listed(sorted({p[0] for p in lost}))} were deleted "
                f"before group {group.name} had read them",
                "they are lost, unless their source sends them again; raise retention.ms of the topic, or add workers",
            )
        )
    if anew:
        findings.append(
            wrong(
                name,
                f"group {group.name} stands behind the end of {listed(anew)}: the topic was made anew under it",
                "start anew with another STREAM_GROUP, or bring the topic's records back",
            )
        )
    return findings


def _are(count: int, one: str) -> str:
    return f"{'is' if count == 1 else 'are'} {counted(count, one)}"
