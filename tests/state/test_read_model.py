"""The latest predictions in Redis, here behind a fake of its pipeline; the real server has tests of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stream.state import read_model
from stream.state.read_model import NoReadModel, RedisReadModel
from tests.fakes import Counting, FakeRedis


@contextmanager
def running(server: FakeRedis, pending_max: int = 100, telemetry: Counting | None = None) -> Iterator[RedisReadModel]:
    """Give a read model that writes to the fake, started by the caller."""
    model = RedisReadModel("redis://127.0.0.1:1/0", pending_max, telemetry or Counting())
    model._redis = server  # type: ignore[assignment]
    try:
        yield model
    finally:
        if model._thread.is_alive():
            model.stop()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it try again at once."""
    monkeypatch.setattr(read_model, "_RETRY_S", 0.01)


def wait(server: FakeRedis, *went_well: bool) -> None:
    """Wait for executions to end as expected."""
    assert [server.executed.get(timeout=10) for _ in went_well] == list(went_well)


def test_the_latest_of_each_kind_is_kept() -> None:
    """A user's hash has one field a kind, the latest offered."""
    server = FakeRedis()
    with running(server) as model:
        for value in (b"1", b"2"):
            model.offer("u-1", "time", value)
        model.offer("u-1", "risk", b"3")
        model.start()
        wait(server, True)
    assert server.hashes == {"learnerstream:latest:u-1": {"time": b"2", "risk": b"3"}}


def test_it_catches_up_when_redis_is_back() -> None:
    """While Redis is away predictions wait; newer ones replace older ones, whatever failed before."""
    server, telemetry = FakeRedis(failures=2), Counting()
    with running(server, telemetry=telemetry) as model:
        model.offer("u-1", "time", b"old")
        model.offer("u-2", "time", b"other")
        model.start()
        wait(server, False)
        model.offer("u-1", "time", b"new")
        wait(server, False, True)
        model.stop()
    assert server.hashes["learnerstream:latest:u-1"] == {"time": b"new"}
    assert server.hashes["learnerstream:latest:u-2"] == {"time": b"other"}
    assert telemetry.failures == ["redis", "redis"]


def test_a_forgotten_user_is_gone() -> None:
    """Forgetting removes what is written and what waits."""
    server = FakeRedis()
    server.hashes["learnerstream:latest:u-1"] = {"time": b"1"}
    with running(server) as model:
        model.offer("u-1", "risk", b"2")
        model.forget("u-1")
        model.start()
        wait(server, True)
    assert server.hashes == {}


def test_what_comes_after_forgetting_stays() -> None:
    """A user who comes back is kept again, over a failure too, and nothing from before comes back."""
    server = FakeRedis(failures=1)
    server.hashes["learnerstream:latest:u-1"] = {"time": b"1"}
    with running(server) as model:
        model.forget("u-1")
        model.start()
        wait(server, False)
        model.offer("u-1", "risk", b"2")
        wait(server, True)
        model.stop()
    assert server.hashes == {"learnerstream:latest:u-1": {"risk": b"2"}}


def test_a_user_forgotten_while_redis_is_away_is_gone() -> None:
    """What could not be written before the user was forgotten does not come back."""
    server = FakeRedis(failures=1)
    with running(server) as model:
        model.offer("u-1", "risk", b"2")
        model.start()
        wait(server, False)
        model.forget("u-1")
        wait(server, True)
        model.stop()
    assert server.hashes == {}


def test_what_failed_does_not_outlive_forgetting() -> None:
    """A user who is forgotten while a write is under way that then fails is gone all the same."""
    server = FakeRedis()
    server.hashes["learnerstream:latest:u-1"] = {"time": b"1"}
    with running(server) as model:
        model.forget("u-1")
        model._put_back([("u-1", {"risk": b"2"})])
        model.start()
        wait(server, True)
    assert server.hashes == {}


def test_waiting_is_bounded_and_costs_no_erasure() -> None:
    """Beyond the bound the users who wait longest are dropped and counted; whom to forget is never dropped."""
    server, telemetry = FakeRedis(), Counting()
    server.hashes["learnerstream:latest:gone"] = {"time": b"1"}
    with running(server, pending_max=3, telemetry=telemetry) as model:
        model.forget("gone")
        for i in range(5):
            model.offer(f"u-{i}", "time", b"%d" % i)
        model.start()
        wait(server, True)
    assert set(server.hashes) == {"learnerstream:latest:u-3", "learnerstream:latest:u-4"}
    assert telemetry.failures == ["redis_pending"] * 3


def test_stopping_writes_what_waits() -> None:
    """A worker that ends leaves nothing unwritten that Redis would take."""
    server = FakeRedis()
    with running(server) as model:
        model.start()
        model.offer("u-1", "time", b"1")
        model.stop()
    assert server.hashes == {"learnerstream:latest:u-1": {"time": b"1"}}


def test_stopping_does_not_wait_for_redis() -> None:
    """If Redis is away the end does not hang."""
    server = FakeRedis(failures=1_000_000)
    with running(server) as model:
        model.offer("u-1", "time", b"1")
        model.start()
        wait(server, False)
        model.stop()
        assert not model._thread.is_alive()


def test_without_redis_nothing_is_kept() -> None:
    """Where no Redis is set, everything is taken and nothing happens."""
    model = NoReadModel()
    model.start()
    model.offer("u-1", "time", b"1")
    model.forget("u-1")
    model.stop()
