"""The latest predictions in Redis, here behind a fake of its pipeline; the real server has tests of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stream.state import read_model
from stream.state.read_model import NoReadModel, RedisReadModel
from tests.fakes import Counting, FakeRedis

WAIT_S = 30.0


def ended(model: RedisReadModel) -> None:
    """Stop a read model, and wait for its thread longer than a worker would."""
    model.stop()
    model._thread.join(WAIT_S)


@contextmanager
def running(server: FakeRedis, pending_max: int = 100, telemetry: Counting | None = None) -> Iterator[RedisReadModel]:
    """Give a read model that writes to the fake, started by the caller."""
    model = RedisReadModel("redis://127.0.0.1:1/0", pending_max, telemetry or Counting())
    model._redis = server  # type: ignore[assignment]
    try:
        yield model
    finally:
        if model._thread.is_alive():
            ended(model)


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


def risk(as_of: str, score: float = 0.5) -> bytes:
    """Return a risk that holds as of a moment, as its topic has it."""
    return f'{{"score":{score},"as_of":"{as_of}"}}'.encode()


NEWER, OLDER = risk("2026-03-01T12:00:00.500000Z"), risk("2026-03-01T12:00:00Z")


@pytest.mark.parametrize("held", [NEWER, b'{"specversion":"1.0","data":' + NEWER + b"}"])
def test_an_earlier_risk_does_not_take_the_place_of_a_later_one(held: bytes) -> None:
    """A replay, or an event that came late: risks are in the order of `as_of`. Other kinds are as they come."""
    server = FakeRedis()
    server.hashes["learnerstream:latest:u-1"] = {"risk": held, "time": b"2"}
    with running(server) as model:
        model.offer("u-1", "risk", OLDER)
        model.offer("u-1", "time", b"1")
        model.start()
        wait(server, True, True)
    assert server.hashes == {"learnerstream:latest:u-1": {"risk": held, "time": b"1"}}


@pytest.mark.parametrize("held", [OLDER, risk("2026-03-01T12:00:00.5+00:00", 0.9), b"\xff", b"3", b'{"as_of":1}'])
def test_a_later_risk_takes_the_place_of_what_is_there(held: bytes) -> None:
    """So does one of the same moment, and whatever somebody else wrote there counts for nothing."""
    server = FakeRedis()
    server.hashes["learnerstream:latest:u-1"] = {"risk": held}
    with running(server) as model:
        model.offer("u-1", "risk", NEWER)
        model.start()
        wait(server, True, True)
    assert server.hashes == {"learnerstream:latest:u-1": {"risk": NEWER}}


def test_what_is_there_is_asked_once_for_all() -> None:
    """One more round trip for so many users, and none where no risk is written."""
    server = FakeRedis()
    with running(server) as model:
        for i in range(20):
            model.offer(f"u-{i}", "risk", NEWER)
        model.start()
        wait(server, True, True)
        model.offer("u-1", "time", b"1")
        wait(server, True)
        ended(model)
    assert server.executed.empty()
    assert len(server.hashes) == 20


def test_risks_that_wait_are_in_the_order_of_their_moments() -> None:
    """While Redis is away too, in whatever order they come."""
    server = FakeRedis(failures=1)
    with running(server) as model:
        model.offer("u-1", "risk", NEWER)
        model.offer("u-1", "risk", OLDER)
        model._put_back([("u-2", {"risk": NEWER})])
        model.offer("u-2", "risk", OLDER)
        model._put_back([("u-3", {"risk": OLDER}), ("u-2", {"time": b"1"})])
        model.offer("u-3", "risk", NEWER)
        model.start()
        wait(server, False, True, True)
        ended(model)
    assert [server.hashes[f"learnerstream:latest:u-{n}"]["risk"] for n in (1, 2, 3)] == [NEWER] * 3


def test_a_key_of_another_type_holds_up_nobody_else() -> None:
    """Neither when it is asked what there is nor when it is written; that it was refused is counted."""
    server, telemetry = FakeRedis(), Counting()
    server.of_another_type = {"learnerstream:latest:u-1"}
    with running(server, telemetry=telemetry) as model:
        for user in ("u-1", "u-2"):
            model.offer(user, "risk", NEWER)
        model.start()
        wait(server, True, True)
        ended(model)
    assert server.hashes == {"learnerstream:latest:u-2": {"risk": NEWER}}
    assert telemetry.failures == ["redis_refused"]


def test_a_risk_after_forgetting_is_the_first() -> None:
    """Of a user who was forgotten nothing is known that could be later."""
    server = FakeRedis()
    server.hashes["learnerstream:latest:u-1"] = {"risk": NEWER}
    with running(server) as model:
        model.forget("u-1")
        model.offer("u-1", "risk", OLDER)
        model.start()
        wait(server, True)
        ended(model)
    assert server.hashes == {"learnerstream:latest:u-1": {"risk": OLDER}}


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
        ended(model)
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
        ended(model)
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
        ended(model)
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
        ended(model)
    assert server.hashes == {"learnerstream:latest:u-1": {"time": b"1"}}


def test_stopping_does_not_wait_for_redis() -> None:
    """If Redis is away the end does not hang."""
    server = FakeRedis(failures=1_000_000)
    with running(server) as model:
        model.offer("u-1", "time", b"1")
        model.start()
        wait(server, False)
        ended(model)
        assert not model._thread.is_alive()


def test_without_redis_nothing_is_kept() -> None:
    """Where no Redis is set, everything is taken and nothing happens."""
    model = NoReadModel()
    model.start()
    model.offer("u-1", "time", b"1")
    model.forget("u-1")
    model.stop()
