"""A supervisor of workers: who ends by himself or is killed is started again, as `restart: unless-stopped` does it."""

import signal
import sys
import time
from dataclasses import dataclass, field

from tests.broker.process import ServerProcess
from tests.flow.system import System

_RESTART_S = 0.3
_STOP_S = 40.0


@dataclass(slots=True)
class _Worker:
    process: ServerProcess
    wanted: bool = True
    ended_at: float | None = None
    starts: int = 0


@dataclass(slots=True)
class Supervisor:
    """
    Starts workers and keeps them running; `tick` is to be called all the time.

    Attributes:
        system: Their settings and folder.
        ends: Why workers ended by themselves: the last that each of them said.
        unclean_stops: How often one that was told to stop had to be killed.
    """

    system: System
    ends: list[str] = field(default_factory=list)
    unclean_stops: int = 0
    _workers: dict[str, _Worker] = field(default_factory=dict)

    @property
    def starts(self) -> int:
        """How often a worker was started."""
        return sum(worker.starts for worker in self._workers.values())

    @property
    def running(self) -> list[str]:
        """The workers that run."""
        return [name for name, worker in self._workers.items() if worker.process.is_running]

    def want(self, name: str) -> None:
        """Start a worker and keep it running from now on."""
        worker = self._workers.get(name)
        if worker is None:
            variables = [f"{key}={value}" for key, value in self.system.environment(name).items()]
            command = ["env", *variables, sys.executable, "-m", "stream.cli", "worker"]
            process = ServerProcess(name, command, folder=self.system.folder)
            worker = self._workers[name] = _Worker(process)
            self.system.processes[name] = process
        worker.wanted = True
        self._start(worker)

    def tick(self) -> None:
        """Start again who has ended."""
        now = time.monotonic()
        for name, worker in self._workers.items():
            if not worker.wanted or worker.process.is_running:
                continue
            if worker.ended_at is None:
                worker.ended_at = now
                self.ends.append(f"{name}: {self._last_words(name)}")
            if now - worker.ended_at >= _RESTART_S:
                self._start(worker)

    def kill(self, name: str) -> None:
        """End a worker with -9; it is started again soon."""
        worker = self._workers[name]
        worker.process.kill()
        worker.ended_at = time.monotonic()

    def stall(self, name: str) -> None:
        """Stop a worker's time (SIGSTOP)."""
        self._workers[name].process._signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """Let a worker's time go on (SIGCONT)."""
        self._workers[name].process._signal(signal.SIGCONT)

    def dismiss(self, name: str) -> None:
        """Tell a worker to end (SIGTERM), without waiting for it."""
        worker = self._workers[name]
        worker.wanted = False
        worker.process._signal(signal.SIGTERM)

    def await_end(self, name: str) -> None:
        """Wait until a dismissed worker has ended; kill it if it takes too long."""
        worker = self._workers[name]
        deadline = time.monotonic() + _STOP_S
        while worker.process.is_running and time.monotonic() < deadline:
            time.sleep(0.05)
        self.unclean_stops += worker.process.is_running
        worker.process.kill()

    def end(self) -> None:
        """Kill whatever runs."""
        for worker in self._workers.values():
            worker.wanted = False
            worker.process.kill()

    def _start(self, worker: _Worker) -> None:
        worker.process.kill()  # what is left of one that ended by itself: its guard
        worker.process.start(lambda: True, timeout_s=1.0)
        worker.starts += 1
        worker.ended_at = None

    def _last_words(self, name: str) -> str:
        lines = self.system.log(name).splitlines()
        return next((line for line in reversed(lines) if "worker.stopped" in line), lines[-1] if lines else "")[:400]

    def log_tails(self) -> str:
        """Return the latest lines of every worker's log."""
        return self.system.words()
