"""
Redis as one real server, which keeps nothing on disk.

It is the system's own, found on the PATH: `make broker` installs it or says how.
"""

import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.broker.process import ServerProcess, free_ports

_START_S, _STOP_S = 60.0, 60.0


def missing() -> str | None:
    """Return one sentence on what Redis lacks on this machine and how to get it, or None."""
    if shutil.which("redis-server") is None:
        return "The command redis-server is missing: `make broker` installs it or says how."
    return None


class RedisServer:
    """One Redis with a port of its own, which it keeps over restarts; its keys go with each stop."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "databases": "16",
        }
        command = [
            "redis-server",
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ]
        self._process = ServerProcess("redis", command, folder=folder)

    @property
    def url(self) -> str:
        """Address of the first database, as `STREAM_REDIS_URL` wants it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        """What the server wrote, over all its starts."""
        return self._process.log

    @property
    def is_running(self) -> bool:
        """Whether the server's process runs."""
        return self._process.is_running

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process.start(self._answers, timeout_s=_START_S)

    def stop(self) -> None:
        """Stop the server in order (SIGTERM)."""
        self._process.stop(timeout_s=_STOP_S)

    def kill(self) -> None:
        """Kill the server with -9, as a crash would."""
        self._process.kill()

    def restart(self) -> None:
        """Stop the server in order if it runs, and start it, empty, on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
