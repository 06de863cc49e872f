"""The latest predictions of each user in a real Redis, which may go and come back."""

from collections.abc import Callable, Iterator
from typing import cast

import pytest
import redis

from stream.ports import Record
from stream.state.read_model import KEY
from tests.broker.redis_server import RedisServer
from tests.flow.system import Message, System, answer, await_effect

pytestmark = pytest.mark.timeout(180)

KINDS = ("correctness", "time", "risk")


@pytest.fixture
def lookup(redis_server: RedisServer) -> "Iterator[redis.Redis]":
    """Give a client of Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


def absence(user: str, number: int) -> tuple[str, Message]:
    """Return an academic event of a user, which asks for a risk prediction."""
    return "academics", {
        "event_id": f"{user}-absence-{number}",
        "type": "attendance_recorded",
        "user_id": user,
        "status": "absent",
        # In the week of the answers, before them: no week closes, so that no other prediction comes in between.
        "timestamp": f"2026-02-{number + 23}T09:00:00Z",
    }


def day(users: list[str], number: int) -> list[tuple[str, Message]]:
    """Return an absence and then an answer of each user."""
    return [absence(user, number) for user in users] + [answer(user, number) for user in users]


def latest_on_topics(system: System, users: list[str], days: int) -> dict[str, dict[bytes, bytes]]:
    """Return each user's latest message on each prediction topic, as a look-up in Redis would."""
    latest: dict[str, dict[bytes, bytes]] = {user: {} for user in users}
    risks = len(users) * (days + 1)  # of each absence, and of the first interaction of the one day
    for kind, count in zip(KINDS, (len(users) * days, len(users) * days, risks), strict=True):
        for record in system.records(f"predictions.{kind}", until=at_least(count)):
            latest[(record.key or b"").decode()][kind.encode()] = record.value or b""
    return latest


def at_least(count: int) -> Callable[[list[Record]], bool]:
    """Return what is true of so many records or more."""
    return lambda found: len(found) >= count


def looked_up(lookup: "redis.Redis", users: list[str]) -> dict[str, dict[bytes, bytes]]:
    """Return what Redis holds of users."""
    return {user: cast("dict[bytes, bytes]", lookup.hgetall(KEY.format(user=user))) for user in users}


def test_the_latest_predictions_land_in_redis(
    system: System, redis_server: RedisServer, lookup: "redis.Redis", prefix: str
) -> None:
    """Of each user the hash holds the very bytes of the latest message of each kind."""
    users = [f"{prefix}{number}" for number in range(12)]
    system.options["redis_url"] = redis_server.url
    system.start("worker")
    for number in range(3):
        system.send(day(users, number))
    expected = latest_on_topics(system, users, 3)
    await_effect(lambda: looked_up(lookup, users) == expected)


def test_the_worker_goes_on_without_redis_and_catches_up(
    system: System, redis_server: RedisServer, lookup: "redis.Redis", prefix: str
) -> None:
    """While Redis is away every event is predicted; when it is back the latest predictions arrive there."""
    users = [f"{prefix}{number}" for number in range(12)]
    system.options["redis_url"] = redis_server.url
    system.start("worker")
    system.send(day(users, 0))
    before = latest_on_topics(system, users, 1)
    await_effect(lambda: looked_up(lookup, users) == before)
    redis_server.kill()
    try:
        for number in range(1, 4):
            system.send(day(users, number))
        expected = latest_on_topics(system, users, 4)
        system.await_metric("worker", 'stream_failures_total{part="redis"}', lambda count: count > 0)
        assert "read_model.lost" in system.log("worker")
    finally:
        redis_server.start()
    await_effect(lambda: looked_up(lookup, users) == expected)
    assert "read_model.found" in system.log("worker")


def test_a_worker_starts_without_redis(system: System, redis_server: RedisServer, prefix: str) -> None:
    """A Redis that is not there when the worker starts delays nothing."""
    redis_server.kill()
    try:
        system.options["redis_url"] = redis_server.url
        system.start("worker")
        system.send(day([prefix], 0))
        system.predictions("correctness", 1)
        system.processes["worker"].stop(timeout_s=20)
        assert "worker.ended" in system.log("worker")
    finally:
        redis_server.start()
