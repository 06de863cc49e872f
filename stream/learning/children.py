"""The child process in which updates run: one at a time, over all models, within limits of time and memory."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

import psutil
import structlog

from stream.learning.update import prepare

Wish = TypeVar("Wish")

log = structlog.get_logger()

_MIB = 1 << 20
_LOOK_EVERY_S = 0.2


class Children:
    """
    One child process that trains; made anew if it was lost.

    Args:
        memory_mb: Resident memory above which an update is ended, MiB.
        limit_s: Seconds after which it is ended, export and all.
    """

    def __init__(self, memory_mb: int, limit_s: float) -> None:
        self._memory_mb = memory_mb
        self._limit_s = limit_s
        self._started_at = 0.0
        self._looked_at = 0.0
        self._latest: Future[str] | None = None
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), initializer=prepare)
        # Loading torch takes seconds: it is done while the first answers come in.
        pool.submit(ready)
        return pool

    def is_free(self) -> bool:
        """Return whether no update runs."""
        return self._latest is None or self._latest.done()

    def submit(self, update: Callable[[Wish], str], wish: Wish) -> Future[str]:
        """Start an update; only while `is_free`."""
        self._started_at = time.monotonic()
        try:
            self._latest = self._pool.submit(update, wish)
        except BrokenProcessPool:
            log.warning("trainer.child_lost")
            self._pool = self._new()
            self._latest = self._pool.submit(update, wish)
        return self._latest

    def limit(self) -> str | None:
        """End an update that is beyond its limits, and return which one; its future fails then. Cheap to call often."""
        now = time.monotonic()
        if now < self._looked_at + _LOOK_EVERY_S:
            return None
        self._looked_at = now
        used = self._memory_used()
        if used > self._memory_mb * _MIB:
            reason = f"expected at most {self._memory_mb} MiB (STREAM_UPDATE_MEMORY_MB), found {used // _MIB} MiB"
        elif now > self._started_at + self._limit_s:
            reason = f"expected an end within {self._limit_s:.0f} s (by STREAM_UPDATE_SECONDS), found it still running"
        else:
            return None
        self._kill()
        return reason

    def _memory_used(self) -> int:
        used = 0
        for pid in self._pids():
            try:
                used += psutil.Process(pid).memory_info().rss
            except psutil.Error:
                continue
        return used

    def stop(self) -> None:
        """End the child, whatever it is doing: an artifact appears whole or not at all."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._kill()

    def _kill(self) -> None:
        for pid in self._pids():
            try:
                psutil.Process(pid).kill()
            except psutil.Error:
                continue

    def _pids(self) -> list[int]:
        return list(self._pool._processes or ())  # noqa: SLF001 (the pool does not tell otherwise)


def ready() -> None:
    """Do nothing: a first task, so that the child is there."""
