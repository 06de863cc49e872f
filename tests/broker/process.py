"""
A server as a child process that never outlives the test run.

Which server, and when it is ready, its neighbours `kafka` and `redis_server` know.
"""

import atexit
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# The guard reads from a pipe whose other end the test run holds: however that ends, `read` returns. A signal
# on the parent's death (PR_SET_PDEATHSIG) would not do: it fires when the starting *thread* ends.
_GUARD = 'read -r _; kill -s KILL -- "-$0" 2>/dev/null'
_POLL_S = 0.05

# Below the ephemeral ports of Linux and macOS: a client that calls a stopped server's port again and again
# could be given that very port as its own, and the server could not come back to it.
_FIRST_PORT, _LAST_PORT = 20_000, 32_000


class ServerError(Exception):
    """A server of the tests did not start or stop; the message ends with its latest log lines."""


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 on which nothing listens."""
    found: list[int] = []
    candidates = random.SystemRandom().sample(range(_FIRST_PORT, _LAST_PORT), 1_000)
    for port in candidates:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ServerError(f"expected {count} free ports among {len(candidates)} tried, found {len(found)}")


class ServerProcess:
    """One command in a process group of its own, with its output in a log file that is kept over restarts."""

    def __init__(self, name: str, command: Sequence[str], *, folder: Path) -> None:
        self.name = name
        self.command = tuple(command)
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """
        Start the command and wait until it is ready.

        Raises:
            ServerError: If it runs already, ends at once, or is not ready in time.
        """
        if self.is_running:
            raise ServerError(f"{self.name} is running already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the test run, which then stops its servers in order
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self.kill)
        try:
            self._wait(is_ready, timeout_s)
        except BaseException:
            self.kill()
            raise

    def stop(self, *, timeout_s: float) -> None:
        """
        Ask the server to end (SIGTERM) and wait for it.

        Raises:
            ServerError: If it had to be killed.
        """
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ServerError(f"{self.name} did not stop within {timeout_s} s{self._latest_lines()}") from error
        self._forget()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; it gets no chance to tidy up."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._forget()

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running and self._process is not None:
            os.killpg(self._process.pid, number)

    def _forget(self) -> None:
        self._process = None
        atexit.unregister(self.kill)
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def _wait(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            # Asked first: whoever says that it is ready and ends at once has been ready.
            is_running = self.is_running
            if is_ready():
                return
            if not is_running:
                raise ServerError(f"{self.name} ended while it started{self._latest_lines()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} was not ready within {timeout_s} s{self._latest_lines()}")
            time.sleep(_POLL_S)

    def _latest_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-20:]
        return "".join(f"\n  {line}" for line in lines)
