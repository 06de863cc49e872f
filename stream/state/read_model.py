"""
The latest predictions of each user in Redis, for those who look up rather than consume.

A hash `learnerstream:latest:<user>` with the fields `correctness`, `time` and `risk`, each the JSON of the topic.
Written by a thread of its own, pipelined: when Redis is away the latest predictions wait, and are written when it is
back. A user's risks are in the order of `as_of`, not in that in which they come: one that holds as of an earlier moment
than what is there, as after a replay or from an event that came late, is not written.
"""

import threading
from collections import OrderedDict
from datetime import datetime
from typing import Any

import redis
import structlog

from stream.emission import content
from stream.ports import Telemetry

log = structlog.get_logger()

KEY = "learnerstream:latest:{user}"
_PIPELINED = 500
_RETRY_S = 1.0


class NoReadModel:
    """Keeps nothing: no Redis is set."""

    def offer(self, user_id: str, kind: str, prediction: bytes) -> None:
        """Do nothing."""

    def forget(self, user_id: str) -> None:
        """Do nothing."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class RedisReadModel:
    """
    Writes the latest predictions to Redis.

    Args:
        url: `redis://host:port/db`.
        pending_max: Users that may wait while Redis is away; beyond, those who wait longest are dropped and counted
            as failures.
        telemetry: Told of failures.
    """

    def __init__(self, url: str, pending_max: int, telemetry: Telemetry) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._pending_max = pending_max
        self._telemetry = telemetry
        # A user's value is None where the user is to be forgotten first.
        self._pending: OrderedDict[str, dict[str, bytes | None]] = OrderedDict()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="read-model", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, if Redis takes it within a moment, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=3)

    def offer(self, user_id: str, kind: str, prediction: bytes) -> None:
        """Take the latest prediction of a user; see `stream.ports.ReadModel`."""
        with self._changed:
            waiting = self._pending.get(user_id)
            self._pending[user_id] = {kind: prediction} if waiting is None else _merged(waiting, {kind: prediction})
            if len(self._pending) > self._pending_max:
                self._drop_longest_waiting()
            self._changed.notify()

    def forget(self, user_id: str) -> None:
        """Remove all that is kept of a user; see `stream.ports.ReadModel`."""
        with self._changed:
            self._pending[user_id] = {_FORGET: None}
            self._changed.notify()

    def _drop_longest_waiting(self) -> None:
        """Make room, at the cost of predictions, never of an erasure."""
        longest = next((user for user, kinds in self._pending.items() if _FORGET not in kinds), None)
        if longest is not None:
            del self._pending[longest]
            self._telemetry.failed("redis_pending")

    def _run(self) -> None:
        away = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._stopping, timeout=None)
                if self._stopping and (away or not self._pending):
                    return
                count = min(_PIPELINED, len(self._pending))
                taken = [self._pending.popitem(last=False) for _ in range(count)]
            try:
                self._write(taken)
            except _REFUSALS as error:
                # Redis is there and says no, to a key of another type for instance: predictions would hold up all
                # others if they were tried again. Erasures are, one by one.
                self._telemetry.failed("redis_refused")
                log.warning("read_model.refused", error=str(error), users=len(taken))
                self._forget_alone([user for user, kinds in taken if _FORGET in kinds])
            except redis.RedisError as error:
                self._telemetry.failed("redis")
                if not away:
                    log.warning("read_model.lost", error=str(error), waiting=len(taken))
                away = True
                self._put_back(taken)
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, timeout=_RETRY_S)
            else:
                if away:
                    log.info("read_model.found")
                away = False

    def _write(self, taken: list[tuple[str, dict[str, bytes | None]]]) -> None:
        held = self._held_risks(taken)
        pipeline = self._redis.pipeline(transaction=False)
        for user, kinds in taken:
            key = KEY.format(user=user)
            if _FORGET in kinds:
                pipeline.delete(key)
            latest: Any = {kind: value for kind, value in kinds.items() if value is not None}
            if _is_outdated(kinds.get(_RISK), held.get(user)):
                del latest[_RISK]
            if latest:
                pipeline.hset(key, mapping=latest)
        try:
            pipeline.execute()
        except redis.ResponseError as error:
            if any(word in str(error) for word in _PASSING):
                raise redis.ConnectionError(str(error)) from error
            raise

    def _held_risks(self, taken: list[tuple[str, dict[str, bytes | None]]]) -> dict[str, bytes]:
        """Return what Redis has of users whose risk is to be written: asked once for all, and not of the forgotten."""
        users = [user for user, kinds in taken if _RISK in kinds and _FORGET not in kinds]
        if not users:
            return {}
        pipeline = self._redis.pipeline(transaction=False)
        for user in users:
            pipeline.hget(KEY.format(user=user), _RISK)
        found: list[Any] = pipeline.execute(raise_on_error=False)
        # What is refused, as of a key of another type, holds up nobody else: writing says what is wrong.
        return {user: held for user, held in zip(users, found, strict=True) if isinstance(held, bytes)}

    def _forget_alone(self, users: list[str]) -> None:
        for user in users:
            try:
                self._redis.delete(KEY.format(user=user))
            except redis.RedisError:
                self._put_back([(user, {_FORGET: None})])

    def _put_back(self, taken: list[tuple[str, dict[str, bytes | None]]]) -> None:
        """Let what could not be written wait again, behind nothing newer of the same user."""
        with self._changed:
            for user, kinds in reversed(taken):
                newer = self._pending.get(user, {})
                self._pending[user] = newer if _FORGET in newer else _merged(kinds, newer)
                self._pending.move_to_end(user, last=False)


def _merged(waiting: dict[str, bytes | None], newer: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """Return what is to be written of a user once something newer has come."""
    if _is_outdated(newer.get(_RISK), waiting.get(_RISK)):
        newer = {kind: value for kind, value in newer.items() if kind != _RISK}
    return waiting | newer


def _is_outdated(risk: bytes | None, known: bytes | None) -> bool:
    """Return whether a risk holds as of an earlier moment than what is known."""
    if risk is None or known is None:
        return False
    at, known_at = _as_of(risk), _as_of(known)
    return at is not None and known_at is not None and at < known_at


def _as_of(risk: bytes) -> datetime | None:
    """Return as of when a risk holds, None of what does not say so: what stands in Redis others may have written."""
    try:
        at = datetime.fromisoformat(content(risk)["as_of"])
    except (ValueError, KeyError, TypeError):
        return None
    return at if at.tzinfo is not None else None


_FORGET = ""
_RISK = "risk"

# A replica, a full memory or a disk that fails pass: they are waited for, like a Redis that is away.
_REFUSALS = (redis.DataError, redis.ResponseError)
_PASSING = ("READONLY", "OOM", "MISCONF", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS")
