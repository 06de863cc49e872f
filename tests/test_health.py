"""When a process counts as alive and as ready, over a clock that the test turns; loops say where they stand."""

import threading

import pytest

from stream.health import Health, Standing

LIMIT_S = 60.0
A, B = ("interactions", 0), ("interactions", 1)
QUIET = Standing(end=10, next=10, committed=10)


class World:
    """Health, and the clock that it goes by."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.health = Health(LIMIT_S, lambda: self.now)

    def beats(self, seconds: float, a: Standing = QUIET, b: Standing = QUIET, loop: str = "worker") -> None:
        """Let time pass, in which a loop turns as it should and its partitions stand as given."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            self.health.beat(loop, {A: a, B: b})

    def ages(self) -> dict[int, float]:
        """Return the commit age of each partition."""
        return {partition: age for (_, partition), _, age in self.health.behind()}


@pytest.fixture
def world() -> World:
    """Return one in which a loop has just begun and nothing is to be done."""
    world = World()
    world.beats(1)
    return world


def test_a_worker_with_nothing_to_do_is_alive(world: World) -> None:
    """However long nothing comes."""
    world.beats(10 * LIMIT_S)
    assert world.health.stalled() is None
    assert world.ages() == {0: 0.0, 1: 0.0}


def test_lag_without_a_commit_is_a_stall(world: World) -> None:
    """Agents that have stopped: the loop turns, records wait, and nothing is committed for longer than the limit."""
    waiting = Standing(end=25, next=10, committed=10)
    world.beats(LIMIT_S, a=waiting)
    assert world.health.stalled() is None
    world.beats(1, a=waiting)
    said = world.health.stalled()
    assert said is not None
    assert "committed nothing for 61 s" in said
    assert "1 partitions" in said
    assert "15 records" in said
    assert world.ages() == {0: LIMIT_S + 1, 1: 0.0}


def test_what_is_processed_and_never_committed_is_a_stall(world: World) -> None:
    """No record waits to be read, but a broker that does not take the commit leaves the work in doubt."""
    world.beats(LIMIT_S + 1, a=Standing(end=10, next=10, committed=4))
    assert world.health.stalled() is not None


def test_a_partition_that_nobody_begins_to_read_is_a_stall(world: World) -> None:
    """A flow that never resumes after an assignment: nothing is known to wait, as nobody has looked."""
    unread = Standing(end=0, next=10, committed=10, is_unread=True)
    world.beats(LIMIT_S, a=unread)
    assert world.health.stalled() is None
    world.beats(1, a=unread)
    assert world.health.stalled() is not None
    assert world.ages() == {0: LIMIT_S + 1, 1: 0.0}
    world.health.recovered(0, 0.0)
    assert world.health.stalled() is None


def test_a_stall_ends_with_a_commit(world: World) -> None:
    """And counts anew from there, though lag remains."""
    world.beats(LIMIT_S + 1, a=Standing(25, 10, 10))
    world.beats(0.5, a=Standing(25, 12, 11))
    assert world.health.stalled() is None
    assert world.ages()[0] == 0.0
    world.beats(LIMIT_S + 0.5, a=Standing(25, 12, 11))
    assert world.health.stalled() is not None


def test_one_partition_may_wait_while_another_is_worked_off(world: World) -> None:
    """A backlog is read one partition after the other: the process gets on, and the age says which one does not."""
    for number in range(300):
        world.beats(1, a=Standing(500, number, number), b=Standing(25, 10, 10))
        assert world.health.stalled() is None
    assert world.ages() == {0: 0.5, 1: 300.0}
    world.beats(LIMIT_S, a=QUIET, b=Standing(25, 10, 10))
    assert world.health.stalled() is None
    world.beats(1, a=QUIET, b=Standing(25, 10, 10))
    assert world.health.stalled() is not None


def test_a_loop_that_stands_still_is_a_stall(world: World) -> None:
    """Whatever it last said, that it had nothing to do included; the sentence names it."""
    world.beats(1, loop="ingest")
    world.now += LIMIT_S
    world.beats(1, loop="worker")
    said = world.health.stalled()
    assert said is not None
    assert "loop of the ingest has not turned for 61 s" in said


def test_a_backlog_that_waits_on_purpose_is_no_stall(world: World) -> None:
    """It is lag all the same, and what has been read has to be committed."""
    held = Standing(end=90, next=10, committed=10, is_held=True)
    world.beats(10 * LIMIT_S, a=held)
    assert world.health.stalled() is None
    assert {place: lag for place, lag, _ in world.health.behind()}[A] == 80
    world.beats(LIMIT_S + 1, a=held._replace(committed=7))
    assert world.health.stalled() is not None


def test_a_lost_broker_with_nothing_known_to_do_is_no_stall(world: World) -> None:
    """Ends that nobody tells any more stay as they were: to start the process again would bring nothing back."""
    world.beats(100 * LIMIT_S)
    assert world.health.stalled() is None
    assert world.health.lacking() is None


def test_recovery_is_progress_as_long_as_it_gets_on(world: World) -> None:
    """Hours of it are no stall, though partitions have lag; standing still is, and when it is over time counts anew."""
    waiting = Standing(25, 10, 10)
    for read in range(20):
        world.health.recovering(1_000 * read, 20_000 - 1_000 * read)
        world.beats(LIMIT_S / 2, a=waiting)
        assert world.health.stalled() is None
    assert world.health.lacking() == "state is recovering: about 1000 changelog records are left"
    world.health.recovering(19_000, 900)
    world.beats(LIMIT_S / 2 + 1, a=waiting)
    assert world.health.stalled() == "no state has been recovered for 61 s, with about 900 records left"
    world.health.recovered(20_000, 600.0)
    assert world.health.stalled() is None
    assert world.health.lacking() is None
    world.beats(LIMIT_S, a=waiting)
    assert world.health.stalled() is None
    world.beats(1, a=waiting)
    assert world.health.stalled() is not None


def test_partitions_that_go_away_are_forgotten(world: World) -> None:
    """Neither their lag nor their age is told any more, and they stall nobody; another's come with a clean slate."""
    world.beats(LIMIT_S - 1, a=Standing(25, 10, 10))
    world.health.beat("worker", {B: QUIET})
    assert [place for place, _, _ in world.health.behind()] == [B]
    assert world.health.owned("interactions") == 1
    world.now += LIMIT_S / 2
    world.health.beat("worker", {A: Standing(25, 10, 10)})
    assert world.ages() == {0: 0.0}


def test_what_is_lacking_is_said_until_it_is_there() -> None:
    """The first that is missing, in its own words."""
    health = Health()
    assert health.lacking() is None
    health.lacks("partitions", "no partitions have been assigned yet")
    health.lacks("control", "the control topics are unread")
    assert health.lacking() == "no partitions have been assigned yet"
    health.has("partitions")
    health.has("partitions")
    assert health.lacking() == "the control topics are unread"
    health.lacks("control", "the control topics cannot be read")
    assert health.lacking() == "the control topics cannot be read"
    health.has("control")
    assert health.lacking() is None


def test_loops_put_down_and_threads_ask_at_once() -> None:
    """Nothing is lost between two loops, and whoever asks meanwhile never meets half of it."""
    health = Health()
    failures: list[BaseException] = []

    def put_down(loop: str) -> None:
        for number in range(2_000):
            health.beat(loop, {(loop, partition): Standing(number, number, 0) for partition in range(number % 5)})
            health.lacks(loop, loop)
            health.has(loop)

    def ask() -> None:
        try:
            while any(thread.is_alive() for thread in writers):
                list(health.behind())
                health.stalled()
                health.lacking()
        except BaseException as error:  # noqa: BLE001 (shown by the assertion)
            failures.append(error)

    writers = [threading.Thread(target=put_down, args=(name,)) for name in ("worker", "ingest")]
    reader = threading.Thread(target=ask)
    for thread in (*writers, reader):
        thread.start()
    for thread in (*writers, reader):
        thread.join(30)
    assert failures == []
    assert {place for place, _, _ in health.behind()} == {(n, p) for n in ("worker", "ingest") for p in range(4)}
    assert health.lacking() is None
