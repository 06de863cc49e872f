"""`Vigil`: a process that stood still for too long is told so, for ever."""

import pytest

from stream.errors import SleptError
from stream.transport.vigil import Vigil

LIMIT_S = 4.2


class FakeClock:
    """Monotonic seconds that tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the present moment."""
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
def vigil(clock: FakeClock) -> Vigil:
    """Return a vigil whose thread does not run."""
    return Vigil(LIMIT_S, clock)


def test_a_process_that_is_awake_may_be_heard(clock: FakeClock, vigil: Vigil) -> None:
    """Hours of short gaps, none above the limit."""
    for _ in range(10_000):
        clock.now += LIMIT_S - 0.1
        vigil.tick()
    vigil.check()


def test_one_long_gap_silences_for_ever(clock: FakeClock, vigil: Vigil) -> None:
    """However long it has been awake since: its session may have ended then."""
    vigil.tick()
    clock.now += LIMIT_S + 0.1
    for _ in range(1_000):
        vigil.tick()
        clock.now += 0.25
    for _ in range(2):
        with pytest.raises(SleptError, match=r"stood still for 4\.3 s.*after 4\.2 s"):
            vigil.check()


def test_a_sleep_is_noticed_before_the_thread_runs_again(clock: FakeClock, vigil: Vigil) -> None:
    """Whoever wakes first may be the one who checks: it looks at the clock itself."""
    vigil.check()
    clock.now += LIMIT_S + 0.1
    with pytest.raises(SleptError):
        vigil.check()


def test_a_gap_of_the_limit_is_none(clock: FakeClock, vigil: Vigil) -> None:
    """The limit itself is allowed."""
    vigil = Vigil(4.0, clock)
    clock.now += 4.0
    vigil.check()


def test_what_was_before_the_start_does_not_count(clock: FakeClock, vigil: Vigil) -> None:
    """A worker that takes long until it starts has joined no group yet, and has no session to lose."""
    clock.now += 100.0
    vigil.start()
    vigil.stop()
    vigil.check()
    clock.now += LIMIT_S + 0.1
    with pytest.raises(SleptError):
        vigil.check()


def test_its_thread_keeps_it_awake() -> None:
    """While the process runs the thread notes it, though nobody else does; it ends when it is told to."""
    vigil = Vigil(60.0)
    vigil.start()
    vigil.stop()
    vigil._thread.join(10)
    assert not vigil._thread.is_alive()
    vigil.check()


def test_the_thread_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round notes the time."""
    ticks: list[float] = []
    vigil = Vigil(60.0, lambda: float(len(ticks)))
    monkeypatch.setattr(vigil, "tick", lambda: ticks.append(0.0))
    waits = iter([False, False, False, True])
    monkeypatch.setattr(vigil._stopping, "wait", lambda _: next(waits))
    vigil._run()
    assert len(ticks) == 3
