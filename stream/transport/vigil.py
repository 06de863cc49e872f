"""
Whether this process has been awake: a worker that slept past its session no longer owns what it believes to own.

A stopped process (SIGSTOP, a suspended machine, a swap storm) misses its heartbeats, and on waking knows nothing of it.
"""

import threading
import time
from collections.abc import Callable

from stream.errors import SleptError

_TICK_S = 0.25


class Vigil:
    """
    A thread that notes the time, and remembers the longest gap.

    Args:
        limit_s: A gap above this may have cost the session.
        clock: Monotonic seconds.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._ticked_at = clock()
        self._longest_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vigil", daemon=True)

    def start(self) -> None:
        """Begin to watch; what was before does not count, as there was no session yet."""
        self._ticked_at, self._longest_s = self._clock(), 0.0
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()

    def tick(self) -> None:
        """Note that the process runs."""
        now = self._clock()
        self._longest_s = max(self._longest_s, now - self._ticked_at)
        self._ticked_at = now

    def check(self) -> None:
        """
        Return if the process has been awake ever since the start.

        Raises:
            SleptError: If it may have lost its session; it must not be heard again.
        """
        self.tick()
        if self._longest_s > self._limit_s:
            raise SleptError(
                f"the process stood still for {self._longest_s:.1f} s, and its session may have ended after "
                f"{self._limit_s:.1f} s: what it holds may be another worker's by now. Restart it; if it was not "
                "stopped on purpose, look for memory pressure or a suspended machine"
            )

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_S):
            self.tick()
