"""
One run of the fault test: a broker, workers under a supervisor, a stream of answers, and the faults of a plan.

What came out is judged afterwards by `tests.chaos.checker`, which knows nothing of this.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream.transport.clients import client_config
from tests.broker.kafka import KafkaServer
from tests.chaos.checker import Verdict, check
from tests.chaos.events import events
from tests.chaos.faults import FIRST, SECOND, Fault, Kind, Size, plan
from tests.chaos.source import QUIET, Source, freeze
from tests.chaos.supervisor import Supervisor
from tests.chaos.watch import Watcher
from tests.flow.system import System

PARTITIONS = 8
SESSION_S = 6.0
FULL = Size(answers=200_000, users=5_000, ahead=5_000, kills=6, stalls=2, broker_restarts=1)
SHORT = Size(answers=6_000, users=300, ahead=600, kills=2, stalls=1, broker_restarts=0)

_CHUNK = 200
_TRICKLE, _TRICKLE_S = 20, 0.1
_POLL_S = 0.02
_STILL_S = 150.0
"""Without a single new prediction for this long, whatever has happened, the run is ended and judged as it is."""

_FAULT_S = 120.0
"""A fault must have come to its end by then: the other has taken over, the broker is back."""

Tell = Callable[[str], None]


class SceneError(Exception):
    """A run could not be brought to its end; the message ends with the workers' latest log lines."""


@dataclass(slots=True)
class Counts:
    """
    What was done to the workers.

    Attributes:
        kills: Workers killed.
        stalls: Workers stopped for longer than their session, while another took over.
        rebalances: Visits of the second worker.
        broker_restarts: How many.
        recovery_s: For each kill, seconds until every partition had a new prediction.
        broker_recovery_s: The same from the moment when the broker is back.
        stalled_s: For each stall, how long it was.
    """

    kills: int = 0
    stalls: int = 0
    rebalances: int = 0
    broker_restarts: int = 0
    recovery_s: list[float] = field(default_factory=list)
    broker_recovery_s: list[float] = field(default_factory=list)
    stalled_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Stall:
    victim: str
    began: float
    began_at: float  # seconds since the epoch, as the predictions have it


class Scene:
    """
    A run.

    Args:
        kafka: The broker; only a plan that restarts it does so.
        system: Settings and folder of the processes.
        size: How much of everything.
        seed: Of events and faults.
        tell: Takes a line of progress.
    """

    def __init__(self, kafka: KafkaServer, system: System, size: Size, seed: int, tell: Tell) -> None:
        self._kafka = kafka
        self._size = size
        self._tell = tell
        self._settings = settings = system.settings
        freeze(settings)
        self._supervisor = Supervisor(system)
        self._source = Source(settings, events(seed, size.answers, size.users))
        self._watcher = Watcher(settings)
        self._admin = AdminClient(client_config(settings) | QUIET)
        self._executor = ThreadPoolExecutor(1)
        self._faults = deque(plan(size, seed))
        self.counts = Counts()
        self.stuck = False
        """Whether the run was ended because nothing was predicted any more."""

        self._all_sent = False
        self._began = self._moved = self._told = self._trickled = time.monotonic()
        # Of the fault that comes next: since when it is due, the group has two members, and whether both predict.
        self._due: float | None = None
        self._members_at: float | None = None
        self._is_shared = False
        # What is going on.
        self._stall: _Stall | None = None
        self._restart: Future[None] | None = None
        self._leaving = False
        self._recovering: list[tuple[Kind, float]] = []

    def play(self) -> None:
        """
        Bring the run to its end: all is sent and predicted, all faults have happened, the workers have stopped.

        Raises:
            SceneError: If a fault cannot happen, or does not come to its end.
        """
        try:
            self._supervisor.want(FIRST)
            while not self._is_over():
                self._step()
            self._stop()
        finally:
            self._end()

    def _is_over(self) -> bool:
        # Lost predictions would keep the stream waiting for ever: then it is judged as it is.
        self.stuck = time.monotonic() - self._moved > _STILL_S
        return self.stuck or (self._all_sent and self._behind == 0)

    def _step(self) -> None:
        self._send()
        before = self._watcher.predicted
        self._watcher.poll(_POLL_S)
        now = time.monotonic()
        if self._watcher.predicted > before:
            self._moved = now
        self._supervisor.tick()
        self._note_recoveries()
        self._end_of_stall(now)
        self._end_of_restart()
        self._end_of_visit()
        self._next_fault(now)
        if now - self._told > 5:
            self._told = now
            running = ", ".join(self._supervisor.running) or "none"
            self._tell(f"{now - self._began:5.0f} s  {self._watcher.predicted:,} of {self._size.answers:,} answers "
                      f"predicted, {self._source.answers:,} sent; running: {running}")  # fmt: skip

    # ------------------------------------------------------------------------------------------------ the stream

    def _send(self) -> None:
        """Send on, unless the workers are too far behind; what is due decides how fast, and whether it ends."""
        if self._source.failure is not None:
            raise self._error(f"the test could not send its own events: {self._source.failure}")
        count = 0
        if not self._all_sent and self._behind < self._size.ahead:
            now = time.monotonic()
            if not self._is_waiting():
                count = _CHUNK
            elif now - self._trickled >= _TRICKLE_S:
                self._trickled, count = now, _TRICKLE
        self._source.send(count)
        self._all_sent = self._source.answers >= self._size.answers and not self._is_busy()

    @property
    def _behind(self) -> int:
        """Answers that were sent and not predicted yet."""
        return self._source.answers - self._watcher.predicted

    def _is_waiting(self) -> bool:
        """Return whether the stream is only to be kept alive, until workers have found each other or taken over."""
        awaited = self._due is not None and self._faults[0].kind in {Kind.STALL, Kind.LEAVE}
        return self._stall is not None or self._leaving or (awaited and not self._is_shared)

    def _is_busy(self) -> bool:
        """Return whether a fault is due or going on."""
        return bool(self._faults or self._stall or self._restart or self._recovering or self._leaving)

    # ------------------------------------------------------------------------------------------------ the faults

    def _next_fault(self, now: float) -> None:
        if not self._faults or self._stall or self._restart or self._leaving:
            return
        fault = self._faults[0]
        if self._watcher.predicted < fault.at:
            return
        self._due = self._due or now
        if now - self._due < fault.after_s or not self._can_happen(fault, now - self._due):
            return
        self._due, self._members_at, self._is_shared = None, None, False
        self._faults.popleft()
        self._happen(fault)

    def _can_happen(self, fault: Fault, waited_s: float) -> bool:
        """Return whether the workers are as the fault needs them."""
        match fault.kind:
            case Kind.STALL:
                # With a backlog the victim has a batch in hand.
                can = self._shared() and self._behind > self._size.ahead // 2
            case Kind.KILL:
                can = fault.victim in self._supervisor.running
            case Kind.LEAVE:
                # A visitor who never had a partition has not been there.
                can = self._shared()
            case _:
                can = True
        if not can and waited_s > _FAULT_S:
            raise self._error(f"{fault.kind.value} of {fault.victim or SECOND} could not happen in {_FAULT_S:.0f} s")
        return can

    def _happen(self, fault: Fault) -> None:
        match fault.kind, fault.victim:
            case Kind.KILL, str(victim):
                self._supervisor.kill(victim)
                self._recovering.append((fault.kind, time.time()))
                self.counts.kills += 1
            case Kind.STALL, str(victim):
                self._supervisor.stall(victim)
                self._stall = _Stall(victim, time.monotonic(), time.time())
            case Kind.JOIN, _:
                self._supervisor.want(SECOND)
            case Kind.LEAVE, _:
                self._supervisor.dismiss(SECOND)
                self._leaving = True
            case Kind.BROKER, _:
                self._restart = self._executor.submit(self._kafka.restart)
        self._say(f"{fault.kind.value} {fault.victim or ''}")

    def _note_recoveries(self) -> None:
        """Take note of faults after which every partition has gone on."""
        oldest = min(self._watcher.newest_s.values())
        for kind, since in [fault for fault in self._recovering if oldest > fault[1]]:
            self._recovering.remove((kind, since))
            # As a consumer has it, who reads what is committed.
            took_s = round(time.time() - since, 2)
            (self.counts.recovery_s if kind is Kind.KILL else self.counts.broker_recovery_s).append(took_s)
            self._say(f"every partition goes on, {took_s} s after {kind.value}")

    def _end_of_stall(self, now: float) -> None:
        """Wake the sleeper when its session is over and the other has answered on every partition."""
        stall = self._stall
        if stall is None or now - stall.began < SESSION_S + 1:
            return
        taken_over = min(self._watcher.newest_s.values()) > stall.began_at + SESSION_S
        if not taken_over and now - stall.began < _FAULT_S:
            return
        self._supervisor.go_on(stall.victim)
        self._stall = None
        if not taken_over:
            raise self._error(f"nobody took over from {stall.victim}, who was stopped for {now - stall.began:.0f} s")
        self.counts.stalls += 1
        self.counts.stalled_s.append(round(now - stall.began, 2))
        self._say(f"{stall.victim} wakes after {now - stall.began:.1f} s")

    def _end_of_restart(self) -> None:
        if self._restart is not None and self._restart.done():
            self._restart.result()
            self._restart = None
            self.counts.broker_restarts += 1
            self._recovering.append((Kind.BROKER, time.time()))
            self._say("the broker is back")

    def _end_of_visit(self) -> None:
        if self._leaving and SECOND not in self._supervisor.running:
            self._leaving = False
            self.counts.rebalances += 1
            self._say(f"{SECOND} has left")

    def _shared(self) -> bool:
        """Return whether two members of the group have partitions, and predictions of all have come since."""
        if not self._is_shared and self._have_two_members():
            self._members_at = self._members_at or time.time()
            self._is_shared = min(self._watcher.newest_s.values()) > self._members_at
        return self._is_shared

    def _have_two_members(self) -> bool:
        group = self._settings.group
        try:
            described = self._admin.describe_consumer_groups([group], request_timeout=5)[group].result()
        except KafkaException:
            return False
        source = self._settings.topic("interactions")
        shares = [
            sum(place.topic == source for place in member.assignment.topic_partitions) for member in described.members
        ]
        return len(shares) > 1 and min(shares) > 0 and sum(shares) == self._settings.partitions

    # --------------------------------------------------------------------------------------------------- the end

    def _stop(self) -> None:
        """Stop the workers in order."""
        for name in self._supervisor.running:
            self._supervisor.dismiss(name)
            self._supervisor.await_end(name)

    def _end(self) -> None:
        self._supervisor.end()
        self._executor.shutdown()
        self._watcher.close()
        self._source.close()

    def _say(self, what: str) -> None:
        self._tell(f"{time.monotonic() - self._began:5.0f} s  at {self._watcher.predicted:,} answers: {what}")

    def _error(self, what: str) -> SceneError:
        done = f"{self._watcher.predicted} of {self._source.answers} sent answers were predicted"
        return SceneError(f"{what}; {done}; {self._supervisor.log_tails()}")

    def report(self, seconds: float) -> dict[str, Any]:
        """Return what happened, for the report."""
        return {
            "events": self._source.answers,
            "users": self._size.users,
            "kills": self.counts.kills,
            "stalls": self.counts.stalls,
            "rebalances": self.counts.rebalances,
            "broker_restarts": self.counts.broker_restarts,
            "seconds": round(seconds, 1),
            "recovery_s": self.counts.recovery_s,
            "broker_recovery_s": self.counts.broker_recovery_s,
            "stalled_s": self.counts.stalled_s,
            "worker_starts": self._supervisor.starts,
            "worker_ends": self._supervisor.ends,
            "unclean_stops": self._supervisor.unclean_stops,
            "stuck": self.stuck,
        }


def run(
    kafka: KafkaServer, folder: Path, prefix: str, guarantee: str, size: Size, seed: int, tell: Tell
) -> tuple[dict[str, Any], Verdict]:
    """
    Play a run and judge it.

    Args:
        kafka: A broker that runs.
        folder: For logs and the model.
        prefix: Of topics and group.
        guarantee: `at_least_once` or `exactly_once`.
        size: How much of everything.
        seed: Of events and faults.
        tell: Takes a line of progress.

    Returns:
        What the report says of the run, and the verdict.
    """
    options = {
        "partitions": PARTITIONS,
        "guarantee": guarantee,
        "session_timeout_s": SESSION_S,
        "commit_interval_s": 0.5,
    }
    system = System(folder, kafka.bootstrap, prefix, options)
    system.create_topics()
    scene = Scene(kafka, system, size, seed, tell)
    started = time.monotonic()
    scene.play()
    played = time.monotonic()
    tell(f"{played - started:5.0f} s  all was played; now it is judged")
    verdict = check(system.settings, deduplicate=guarantee == "at_least_once")
    found = {name: getattr(verdict, name) for name in (*Verdict.FAILURES, *Verdict.FIGURES)}
    judged = {"checked_answers": verdict.answers, "judging_s": round(time.monotonic() - played, 1)}
    return {"guarantee": guarantee} | scene.report(played - started) | found | judged | {"seed": seed}, verdict
