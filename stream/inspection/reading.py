"""
Finds what is known of a user on the broker, and in Redis: no worker is needed.

A user's records stand on one partition of each changelog, which has to be read whole; only this user's are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import redis
from confluent_kafka import KafkaException

from schemas import ModelRollout
from stream.emission import content
from stream.errors import UserError
from stream.inspection.portrait import Portrait, Stored, described, latest
from stream.models.dkt import KNOWLEDGE
from stream.ports import Record
from stream.settings import Settings
from stream.state import codec
from stream.state.read_model import KEY
from stream.telemetry.bar import Bar
from stream.transport import topics
from stream.transport.changelogs import ChangelogReader
from stream.transport.offsets import ends, starts
from stream.transport.partitioner import Partitioner
from stream.transport.progress import Place
from stream.transport.rollout import parse
from stream.transport.tail import tail

KINDS: Final = ("correctness", "time", "risk")

_LEARNERS, _ACADEMICS, _NAMES = topics.TABLES
_SEEN: Final = ("erasure_seen", "seen")
_POLL_S: Final = 0.1
_LOOK_BACK: Final = (1_000, 20_000)
"""Records of a partition among which a user's latest prediction is looked for: first among few, then among many."""

_LOOK_BACKS: Final = {"risk": _LOOK_BACK[-1:]}
"""Among many at once: the latest of them all need not be the latest by `as_of`, as of when it holds."""

_LOOK_BACK_S: Final = 5.0
_REDIS_S: Final = 2.0


def inspected(settings: Settings, user: str) -> Portrait | None:
    """
    Return what is known of a user, None if nothing is.

    Raises:
        UserError: If the broker or the changelogs are not there.
        StateError: If they hold a format that this version does not know.
    """
    admin = topics.connected(settings)
    existing = topics.shown(admin, settings)
    changelogs = [topics.changelog(settings, table) for table in topics.TABLES]
    missing = [name for name in changelogs if name not in existing]
    if missing:
        raise UserError(
            f"changelog {missing[0]} is missing: no worker of STREAM_GROUP={settings.group} has ever run here"
        )
    partitions = existing[changelogs[0]].partitions
    partition = Partitioner(partitions)(user.encode())
    stored = _stored(settings, user.encode(), partition)
    if stored.learner is None and stored.academic is None:
        return None
    found = {"user_id": user, "partition": partition, "partitions": partitions}
    rollout, is_whole = _rollout(settings, existing)
    found |= described(stored, rollout, settings.remembered_answers, is_whole=is_whole)
    return found | {"predictions": None if found["erased"] else _predictions(settings, user, existing)}


def _stored(settings: Settings, user: bytes, partition: int) -> Stored:
    """Return what the changelogs of a partition hold of a user."""
    places: dict[Place, str] = {(topics.changelog(settings, table), partition): table for table in topics.TABLES}
    values: dict[str, list[bytes]] = {_LEARNERS: [], _ACADEMICS: []}
    names: dict[bytes, None] = {}
    first, last = starts(settings, places), ends(settings, places)
    total, read = sum(last.values()) - sum(first.values()), 0
    reader, bar = ChangelogReader(settings, dict.fromkeys(places, 0)), Bar()
    try:
        bar.show(0, total)
        while reader.behind:
            for part in reader.read(_POLL_S):
                table = places[part.place]
                if table == _NAMES:
                    names |= dict.fromkeys(part.keys)
                else:
                    of_user = (v for k, v in zip(part.keys, part.values, strict=True) if k == user)
                    values[table] = _taken(values[table], of_user)
                read += len(part.keys)
                bar.show(read, max(total - read, 0))
    finally:
        bar.end()
        reader.close()
    return Stored(
        learner=latest(
            values[_LEARNERS], partial(codec.decode_learners, remembered=settings.remembered_answers), _SEEN
        ),
        academic=latest(values[_ACADEMICS], codec.decode_academics, (*_SEEN, "closed")),
        names=[name.decode("utf-8", "replace") for name in names],
    )


def _taken(held: list[bytes], values: Iterable[bytes | None]) -> list[bytes]:
    """Return the records of a user after more have been read: None removes what there was."""
    for value in values:
        held = [] if value is None else [*held, value]
    return held


def _rollout(settings: Settings, existing: Mapping[str, topics.Existing]) -> tuple[ModelRollout | None, bool]:
    """Return the latest announcement of the knowledge model, None if there was never one, and if all were read."""
    topic = settings.topic("model-updates")
    places = [(topic, partition) for partition in range(existing[topic].partitions if topic in existing else 0)]
    records, is_whole = _tail(settings, starts(settings, places))
    read = [parse(record.value) for record in records if record.value is not None]
    ours = (rollout for rollout in read[::-1] if rollout is not None and rollout.name == KNOWLEDGE)
    return next(ours, None), is_whole


def _predictions(settings: Settings, user: str, existing: Mapping[str, topics.Existing]) -> Portrait:
    """Return the latest prediction of each kind, where it was found, and whether there can be none later."""
    if settings.redis_url is not None:
        try:
            with redis.Redis.from_url(
                settings.redis_url.get_secret_value(), socket_timeout=_REDIS_S, socket_connect_timeout=_REDIS_S
            ) as client:
                held: Any = client.hgetall(KEY.format(user=user))
        except redis.RedisError:
            held = {}  # the topics have them too
        if held:
            return {"from": "redis", "whole": True} | {kind: _parsed(held.get(kind.encode())) for kind in KINDS}
    found = {kind: _newest(settings, user, kind, existing) for kind in KINDS}
    is_whole = all(is_so for _, is_so in found.values())
    return {"from": "topics", "whole": is_whole} | {kind: newest for kind, (newest, _) in found.items()}


def _newest(
    settings: Settings, user: str, kind: str, existing: Mapping[str, topics.Existing]
) -> tuple[Portrait | None, bool]:
    """Return the newest prediction among the latest records of its partition, and whether these came in time."""
    topic, key = settings.topic(f"predictions.{kind}"), user.encode()
    if topic not in existing:
        return None, True
    place = (topic, Partitioner(existing[topic].partitions)(key))
    first, last = starts(settings, [place])[place], ends(settings, [place], stable=True)[place]
    for count in _LOOK_BACKS.get(kind, _LOOK_BACK):
        begin = max(last - count, first)
        records, is_whole = _tail(settings, {place: begin} if begin < last else {}, key)
        said = [found for record in records if (found := _parsed(record.value)) is not None]
        if said:
            return (_latest_risk(said) if kind == "risk" else said[-1]), is_whole
        if begin == first or not is_whole:
            break
    return None, is_whole


def _tail(settings: Settings, froms: Mapping[Place, int], key: bytes | None = None) -> tuple[list[Record], bool]:
    """Return what of the latest records comes in time, and if all did; raises `UserError` if they may not be read."""
    try:
        return tail(settings, froms, _LOOK_BACK_S, key)
    except KafkaException as error:
        names = ", ".join(sorted({topic for topic, _ in froms}))
        raise UserError(f"topic {names} cannot be read: {error.args[0].str()}") from error


def _latest_risk(said: Sequence[Portrait]) -> Portrait:
    """Return the one that holds as of the latest moment, of equal ones the later: as consumers are to read them."""
    return max(enumerate(said), key=lambda each: (_as_of(each[1]), each[0]))[1]


def _as_of(risk: Portrait) -> datetime:
    """Return as of when a risk holds; earlier versions wrote only such of the moment."""
    at = risk.get("as_of") or risk.get("produced_at")
    return datetime.fromisoformat(at) if at else datetime.min.replace(tzinfo=UTC)


def _parsed(value: bytes | None) -> Portrait | None:
    """Return a prediction, out of its envelope if it has one."""
    return None if value is None else content(value)
