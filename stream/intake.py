"""
Raw records into events, or into dead letters that say why.

Pure: what is to be sent is returned. Validation itself is the schemas'.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, NamedTuple, Protocol, TypeVar
from uuid import uuid5

from schemas import DeadLetter, Interaction, InvalidEvent
from schemas.base import EVENT_NAMESPACE
from stream.ports import Message, Record

_TRACEBACK_MAX = 16_384
"""Characters of a traceback that a dead letter keeps, the last ones."""


class Keyed(Protocol):
    """An event that belongs to a user."""

    @property
    def user_id(self) -> str:
        """The user, which must be the message's key."""


class Timed(Keyed, Protocol):
    """An event that names its moment."""

    @property
    def timestamp(self) -> datetime:
        """When it happened."""


E = TypeVar("E", bound=Keyed)
T = TypeVar("T", bound=Timed)


class Accepted(NamedTuple, Generic[E]):
    """An event and where it came from."""

    record: Record
    event: E


@dataclass(frozen=True, slots=True)
class Dead:
    """
    A record that cannot be used.

    Attributes:
        record: As it came.
        reason: In a word.
        detail: What was expected, and what was found.
        traceback: Where our own code raised, if it did.
        type: Of the event; None where it could not be read.
    """

    record: Record
    reason: str
    detail: str
    traceback: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What is let in.

    Attributes:
        event_max_bytes: Largest event.
        dead_letter_max_bytes: Original bytes that a dead letter keeps.
        future_s: Seconds that an event may be ahead of its record's Kafka timestamp.
    """

    event_max_bytes: int
    dead_letter_max_bytes: int
    future_s: float = math.inf

    def latest_at(self, record: Record) -> float:
        """Return the latest moment that an event of a record may name, seconds since the epoch."""
        # By Kafka's clock, which a replay finds unchanged, not by ours. Some producers set none.
        return record.timestamp_s + self.future_s if record.timestamp_s > 0 else math.inf


def read(
    records: Sequence[Record], decode: Callable[[bytes], E], partition_of: Callable[[bytes], int], limits: Limits
) -> tuple[list[Accepted[E]], list[Dead]]:
    """
    Return the events of records, in their order, and the records that are none.

    Tombstones are in neither: they are ignored.

    Args:
        records: As they came.
        decode: Bytes into an event; raises `InvalidEvent`.
        partition_of: The partition that a key belongs on.
        limits: Sizes.
    """
    accepted: list[Accepted[E]] = []
    dead: list[Dead] = []
    for record in records:
        if record.value is None:
            continue
        if len(record.value) > limits.event_max_bytes:
            detail = (
                f"expected at most {limits.event_max_bytes} bytes, found {len(record.value)} (STREAM_EVENT_MAX_BYTES)"
            )
            dead.append(Dead(record, "too_large", detail))
            continue
        try:
            event = decode(record.value)
        except InvalidEvent as error:
            dead.append(Dead(record, error.reason, error.detail))
            continue
        wrong = _wrong_place(record, event.user_id.encode(), partition_of)
        if wrong is None:
            accepted.append(Accepted(record, event))
        else:
            dead.append(Dead(record, *wrong, type=type_of(event)))
    return accepted, dead


def type_of(event: Keyed) -> str | None:
    """Return the type that an event names; None of those whose topic has but one."""
    return getattr(event, "type", None)


def of_the_present(accepted: Sequence[Accepted[T]], limits: Limits) -> tuple[list[Accepted[T]], list[Dead]]:
    """Return the events that have happened, as far as Kafka's clock tells, and those that are ahead of it."""
    present: list[Accepted[T]] = []
    dead: list[Dead] = []
    for each in accepted:
        moment = each.event.timestamp
        if moment.timestamp() <= limits.latest_at(each.record):
            present.append(each)
            continue
        detail = (
            f"timestamp: expected at most {limits.future_s / 3600:g} hours after the record's, "
            f"{datetime.fromtimestamp(each.record.timestamp_s, UTC).isoformat(timespec='seconds')}, found "
            f"{moment.isoformat()}; check the sender's year and clock (STREAM_FUTURE_HOURS)"
        )
        dead.append(Dead(each.record, "from_the_future", detail, type=type_of(each.event)))
    return present, dead


def moments_of(
    accepted: Sequence[Accepted[Interaction]], limits: Limits
) -> tuple[list[Accepted[Interaction]], list[float]]:
    """
    Return interactions, those ahead of Kafka's clock brought back to the latest moment that they may name; and moments.

    An answer of the wrong year is an answer all the same; at its own moment it would be its user's newest for good.

    Returns:
        The events, and when each happened, seconds since the epoch.
    """
    timely: list[Accepted[Interaction]] = []
    moments: list[float] = []
    for each in accepted:
        moment, latest = each.event.timestamp.timestamp(), limits.latest_at(each.record)
        if moment <= latest:
            timely.append(each)
            moments.append(moment)
        else:
            event = each.event.model_copy(update={"timestamp": datetime.fromtimestamp(latest, UTC)})
            timely.append(Accepted(each.record, event))
            moments.append(latest)
    return timely, moments


def _wrong_place(record: Record, user: bytes, partition_of: Callable[[bytes], int]) -> tuple[str, str] | None:
    """Return why a record is not where its user's state is, None if it is."""
    if record.key != user:
        found = "no key" if record.key is None else repr(record.key[:80])
        return "wrong_key", f"key: expected the event's user_id {user[:80]!r}, found {found}; the producer must set it"
    expected = partition_of(user)
    if record.partition != expected:
        detail = (
            f"partition: expected {expected} by murmur2 of the key, found {record.partition}; "
            "set partitioner=murmur2_random in the producer (librdkafka's default differs)"
        )
        return "wrong_partition", detail
    return None


def dead_letter(dead: Dead, limits: Limits, now: datetime, *, withheld: bool = False) -> Message:
    """
    Return the message that keeps a record which cannot be used: why, where, and its bytes as they came.

    Args:
        dead: The record.
        limits: Sizes.
        now: When it was put aside.
        withheld: Leave out key, value and headers, which may say who somebody is; their place and digest stay.
    """
    record = dead.record
    value = record.value or b""
    letter = DeadLetter(
        dead_letter_id=str(uuid5(EVENT_NAMESPACE, f"dead/{record.topic}/{record.partition}/{record.offset}")),
        reason=dead.reason,
        detail=dead.detail,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=moment_of(record.timestamp_s),
        key=None if record.key is None or withheld else _text(record.key, limits),
        value=None if withheld else _text(value, limits),
        value_bytes=len(value),
        value_sha256=hashlib.sha256(value).hexdigest(),
        value_cut=withheld or len(value) > limits.dead_letter_max_bytes,
        headers=() if withheld else tuple(_headers(record, limits.dead_letter_max_bytes)),
        traceback=None if dead.traceback is None else dead.traceback[-_TRACEBACK_MAX:],
        recorded_at=now,
    )
    key = b"" if withheld else (record.key or b"")[: limits.dead_letter_max_bytes]
    return Message("dead-letters", key, letter.model_dump_json().encode(), letter.dead_letter_id)


def _text(raw: bytes, limits: Limits) -> str:
    return base64.b64encode(raw[: limits.dead_letter_max_bytes]).decode()


def _headers(record: Record, budget: int) -> list[tuple[str, str | None]]:
    """Return the headers in base64, as many as fit the budget of bytes."""
    kept: list[tuple[str, str | None]] = []
    for name, value in record.headers:
        budget -= len(name) + len(value or b"")
        if budget < 0:
            break
        kept.append((name, None if value is None else base64.b64encode(value).decode()))
    return kept


def moment_of(seconds: float) -> datetime | None:
    """Return the moment of a record's timestamp, None where it is none: senders set what they like."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
