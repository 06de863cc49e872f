"""Finds out what Kafka can tell: through librdkafka, each question with a limit of its own, nothing written."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

import orjson
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from schemas import TOPICS, ModelRollout, decode_academic, decode_interaction
from stream.doctor.looking import address_of
from stream.doctor.on_broker import Group, Letters, Member, Sample, Since
from stream.errors import UserError
from stream.intake import Accepted, Limits, Timed, read
from stream.settings import Settings
from stream.transport.clients import client_config, is_refusal
from stream.transport.partitioner import Partitioner
from stream.transport.progress import Place
from stream.transport.rollout import parse
from stream.transport.tail import tail
from stream.transport.topics import Existing, described, shown

ASK_S: Final = 3.0

_TRY_S: Final = 1.0
_READ_S: Final = 3.0
_SAMPLED: Final = 200
_LETTERS: Final = 2_000
_AHEAD_S: Final = 300.0
_DETAIL_MAX: Final = 200
_START, _END, _LATEST = OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
_EVER = OffsetSpec.for_timestamp(0)
_DECODERS: Final[Mapping[str, Callable[[bytes], Timed]]] = {
    "interactions": decode_interaction,
    "academics": decode_academic,
}
SAMPLED_TOPICS: Final = tuple(_DECODERS)


class AwayError(Exception):
    """No broker talks to us: of that follows nothing about the rest."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.remedy = remedy


class Kafka:
    """
    The questions, over one connection.

    Args:
        settings: Broker, security, names.

    Raises:
        AwayError: If no client can be made of the settings: a certificate that is none, for instance.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told: list[KafkaError] = []
        try:
            self._admin = AdminClient(client_config(settings) | {"error_cb": self._told.append})
        except KafkaException as error:
            raise AwayError(
                f"no client can be made: {error.args[0].str()}",
                "check the files of STREAM_SSL_CA_FILE, STREAM_SSL_CERT_FILE and STREAM_SSL_KEY_FILE",
            ) from error

    def reach(self) -> dict[str, str]:
        """
        Return where brokers say that they are, `host:port` by name.

        Raises:
            AwayError: If none talks to us, with why.
        """
        end = time.monotonic() + ASK_S
        while True:
            try:
                metadata = self._admin.list_topics(timeout=_TRY_S)
            except KafkaException as error:
                self._admin.poll(0)
                refusal = next(filter(is_refusal, self._told), None)
                if refusal is not None or time.monotonic() > end:
                    raise self._away(refusal, error) from error
            else:
                return {
                    f"broker {each.id}": address_of(str(each.host), each.port) for each in metadata.brokers.values()
                }

    def _away(self, refusal: KafkaError | None, error: KafkaException) -> AwayError:
        protocol = self._settings.security_protocol
        at = self._settings.broker
        if refusal is not None and refusal.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001
            return AwayError(
                f"{at} does not let us in: {refusal.str()}",
                "check STREAM_SASL_USERNAME, STREAM_SASL_PASSWORD and STREAM_SASL_MECHANISM",
            )
        if refusal is not None:
            return AwayError(
                f"{at}: TLS fails: {refusal.str()}",
                "check STREAM_SSL_CA_FILE, the name in the broker's certificate, and whether the port is one for TLS",
            )
        told = next((told.str() for told in reversed(self._told)), error.args[0].str())
        return AwayError(
            f"{at} is open, but does not talk Kafka with us (STREAM_SECURITY_PROTOCOL={protocol}): {told}",
            "ask for the listener's protocol: export STREAM_SECURITY_PROTOCOL=SASL_SSL, SASL_PLAINTEXT or SSL",
        )

    def topics(self) -> dict[str, Existing]:
        """Return all topics that we are shown, ours with what they are configured to, where the broker tells."""
        existing = shown(self._admin, self._settings, ASK_S)
        try:
            return described(self._admin, self._settings, existing, ASK_S)
        except UserError:
            return existing

    def denied(self, names: Sequence[str]) -> list[str]:
        """Return those of some topics that are there, but not for us."""
        if not names:
            return []
        found = []
        for name, future in self._admin.describe_topics(TopicCollection(list(names)), request_timeout=ASK_S).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    found.append(name)
        return found

    def broker_config(self) -> dict[str, str]:
        """Return what a broker is configured to; nothing where we may not know."""
        brokers = self._admin.list_topics(timeout=ASK_S).brokers
        resource = ConfigResource(ResourceType.BROKER, str(min(brokers)))
        (future,) = self._admin.describe_configs([resource], request_timeout=ASK_S).values()
        try:
            return {name: entry.value for name, entry in future.result().items() if entry.value is not None}
        except KafkaException:
            return {}

    def group(self, name: str, places: Sequence[Place]) -> Group:
        """
        Return who is in a group, and how far it is.

        Args:
            name: The group's.
            places: What it reads.
        """
        described_ = self._admin.describe_consumer_groups([name], request_timeout=ASK_S)[name].result()
        members = tuple(
            Member(
                machine_of(member.host or ""),
                frozenset((p.topic, p.partition) for p in member.assignment.topic_partitions),
            )
            for member in described_.members
        )
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)], request_timeout=ASK_S)
        committed = {
            (p.topic, p.partition): p.offset
            for p in asked[name].result().topic_partitions or ()
            if p.error is None and p.offset >= 0
        }
        return Group(
            name=name,
            members=members,
            is_settled=described_.state.name in ("STABLE", "EMPTY", "DEAD"),
            committed=committed,
            starts=self.offsets(places, _START),
            ends=self.offsets(places, _END),
        )

    def offsets(self, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, int]:
        """Return an offset of each partition; none of what has none such."""
        asked = {TopicPartition(*place): spec for place in places}
        if not asked:
            return {}
        # Up to the last that is committed: what a worker can read.
        found = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ASK_S)
        offsets = {(p.topic, p.partition): future.result().offset for p, future in found.items()}
        return {place: offset for place, offset in offsets.items() if offset >= 0}

    def newest(self, topics: Mapping[str, Existing]) -> dict[str, tuple[float, str]]:
        """Return the latest timestamp on each of some topics, seconds since the epoch, and who sets it there."""
        places = [(name, partition) for name, topic in topics.items() for partition in range(topic.partitions)]
        if self._looks_up_times(places):
            asked = {TopicPartition(*place): _LATEST for place in places}
            told = self._admin.list_offsets(asked, request_timeout=ASK_S)
            times = [(place.topic, future.result().timestamp / 1_000) for place, future in told.items()]
        else:
            ends, starts = self.offsets(places, _END), self.offsets(places, _START)
            last = {place: end - 1 for place, end in ends.items() if end > starts.get(place, 0)}
            times = [(record.topic, record.timestamp_s) for record in tail(self._settings, last, _READ_S)[0]]
        found: dict[str, float] = {}
        for name, at in times:
            found[name] = max(found.get(name, -1.0), at)
        return {name: (at, self._setter(name, topics[name])) for name, at in found.items() if at > 0}

    def _looks_up_times(self, places: Iterable[Place]) -> bool:
        """Return whether the broker finds records by their times, which librdkafka's mock broker does not."""
        return bool(self.offsets(places, _EVER))

    def _setter(self, name: str, topic: Existing) -> str:
        if topic.config.get("message.timestamp.type") == "LogAppendTime":
            return "the broker"
        contract = TOPICS.get(name.removeprefix(self._settings.topic_prefix))
        return "its producer" if contract is None or contract.direction == "in" else "a worker or the trainer"

    def sample(self, name: str, partitions: int) -> Sample:
        """
        Return what a worker would make of the latest records of a topic.

        Args:
            name: The catalog's.
            partitions: How many it has.
        """
        settings = self._settings
        topic = settings.topic(name)
        places = [(topic, partition) for partition in range(partitions)]
        ends, starts = self.offsets(places, _END), self.offsets(places, _START)
        each = -(-_SAMPLED // partitions)
        records, is_whole = tail(
            self._settings,
            {place: max(end - each, starts.get(place, 0)) for place, end in ends.items() if end > starts.get(place, 0)},
            _READ_S,
        )
        limits = Limits(settings.event_max_bytes, settings.dead_letter_max_bytes)
        accepted, dead = read(records, _DECODERS[name], Partitioner(partitions), limits)
        ahead = sum(map(_is_ahead, accepted))
        example = _what(dead[-1].detail) if dead else ""
        return Sample(topic, len(accepted), Counter(each.reason for each in dead), ahead, example, is_whole)

    def letters(self, partitions: int, since: timedelta) -> tuple[list[Letters], bool]:
        """
        Return the latest dead letters, by reason, and whether these are all.

        Args:
            partitions: How many the topic has.
            since: How far to look back.
        """
        topic = self._settings.topic("dead-letters")
        places = [(topic, partition) for partition in range(partitions)]
        from_ms = int((datetime.now(UTC) - since).timestamp() * 1_000)
        ends = self.offsets(places, _END)
        firsts = self.offsets(places, OffsetSpec.for_timestamp(from_ms))
        if not self._looks_up_times(places):
            firsts = self.offsets(places, _START)
        each = -(-_LETTERS // partitions)
        wanted = {place: max(first, ends[place] - each) for place, first in firsts.items() if first < ends[place]}
        records, is_whole = tail(self._settings, wanted, _READ_S)
        by_reason: dict[str, list[tuple[float, str, str]]] = {}
        topics: dict[str, dict[str, Since]] = {}
        for record in records:
            if record.timestamp_s * 1_000 < from_ms:
                continue
            letter = orjson.loads(record.value or b"{}")
            source, reason = str(letter.get("topic")), str(letter.get("reason"))
            place = f"{source} {letter.get('partition')} at {letter.get('offset')}"
            told = (record.timestamp_s, place, _what(str(letter.get("detail", ""))))
            by_reason.setdefault(reason, []).append(told)
            of_reason = topics.setdefault(reason, {})
            before = of_reason.get(source, Since(0, record.timestamp_s))
            of_reason[source] = Since(before.count + 1, min(before.first_at, record.timestamp_s))
        found = [Letters(reason, len(told), *max(told), topics[reason]) for reason, told in by_reason.items()]
        return found, is_whole and wanted == {place: first for place, first in firsts.items() if place in wanted}

    def rollouts(self, partitions: int) -> dict[str, ModelRollout]:
        """
        Return the latest announcement of each model.

        Args:
            partitions: How many the topic has.

        Raises:
            TimeoutError: If they cannot be read in time.
        """
        topic = self._settings.topic("model-updates")
        places = [(topic, partition) for partition in range(partitions)]
        starts, ends = self.offsets(places, _START), self.offsets(places, _END)
        waiting = {place: start for place, start in starts.items() if start < ends[place]}
        records, is_whole = tail(self._settings, waiting, _READ_S)
        if not is_whole:
            raise TimeoutError(f"{topic} could not be read within {_READ_S:.0f} s")
        found = [rollout for record in records if record.value and (rollout := parse(record.value)) is not None]
        return {rollout.name: rollout for rollout in found}


def machine_of(host: str) -> str:
    """Return the address of a member's machine, as this one writes its own: Java writes IPv6 in full, and a slash."""
    bare = host.lstrip("/")
    try:
        return str(ip_address(bare))
    except ValueError:
        return bare


def _what(detail: str) -> str:
    """Return what was expected and found, of what is said of a record; the finding's remedy says what to do."""
    return detail.split("; ", maxsplit=1)[0][:_DETAIL_MAX]


def _is_ahead(accepted: Accepted[Timed]) -> bool:
    """Return whether an event happened later than Kafka heard of it, by more than clocks of a school differ."""
    heard_at = accepted.record.timestamp_s
    return heard_at > 0 and accepted.event.timestamp.timestamp() > heard_at + _AHEAD_S
