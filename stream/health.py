"""
Whether a process is alive, and whether it is ready: verdicts over a clock and over what its loops have put down.

Pure but for the clock it is handed: no Kafka, no HTTP. Loops put down values as they turn, and a thread that needs none
of them asks, so that a loop that stands still is noticed too. Why so: `docs/decisions/0028-health.md`.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

Place = tuple[str, int]
"""A topic, by the catalog's name where it has one, and a partition."""


class Standing(NamedTuple):
    """
    Where a partition stands.

    Attributes:
        end: The offset behind its last record, as far as that is known.
        next: The offset that is to be processed next.
        committed: The offset that is committed.
        is_held: Whether reading on waits on purpose.
        is_unread: Whether reading has yet to begin, so that nothing is known of its end.
    """

    end: int
    next: int
    committed: int
    is_held: bool = False
    is_unread: bool = False

    @property
    def lag(self) -> int:
        """Records that have yet to be processed."""
        return max(self.end - self.next, 0)

    @property
    def is_due(self) -> bool:
        """Whether there is something to commit, or to process and then to commit, or to begin with."""
        return self.is_unread or self.committed < self.next or (self.lag > 0 and not self.is_held)


@dataclass(frozen=True, slots=True)
class _Loop:
    """
    What a loop has put down.

    Attributes:
        at: When it last did, monotonic seconds, like all that follow.
        moved_at: When anything of it was committed last, or there was nothing to commit.
        standings: Of its partitions.
        since: When each of them was committed last, or had nothing to commit.
    """

    at: float
    moved_at: float
    standings: Mapping[Place, Standing] = field(default_factory=dict)
    since: Mapping[Place, float] = field(default_factory=dict)

    def beaten(self, now: float, standings: Mapping[Place, Standing]) -> "_Loop":
        """Return what follows when it puts down where its partitions stand now."""
        moved = {p for p, s in standings.items() if p in self.standings and s.committed != self.standings[p].committed}
        due = {place for place, standing in standings.items() if standing.is_due}
        return _Loop(
            at=now,
            moved_at=now if moved or not due else self.moved_at,
            standings=dict(standings),
            since={place: self.since.get(place, now) if place in due - moved else now for place in standings},
        )


@dataclass(frozen=True, slots=True)
class _Recovery:
    """How far the recovery of state is: records read, those left about, and when one was read last."""

    read: int
    left: int
    moved_at: float


class Health:
    """
    What is known of a process's health.

    Args:
        stalled_after_s: Seconds without progress, while there is something to do, after which it counts as stalled.
        clock: Monotonic seconds.
    """

    def __init__(self, stalled_after_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = stalled_after_s
        self._clock = clock
        # Whoever reads takes the whole mapping once; whoever writes puts a new one in its place.
        self._writing = threading.Lock()
        self._loops: Mapping[str, _Loop] = {}
        self._lacks: Mapping[str, str] = {}
        self._recovery: _Recovery | None = None
        self._recovered_at = clock()

    def beat(self, loop: str, standings: Mapping[Place, Standing]) -> None:
        """
        Take note that a loop turns.

        Args:
            loop: Its name.
            standings: Where the partitions stand that are its own now; others are forgotten.
        """
        now = self._clock()
        with self._writing:
            before = self._loops.get(loop, _Loop(now, now))
            self._loops = {**self._loops, loop: before.beaten(now, standings)}

    def lacks(self, what: str, sentence: str) -> None:
        """Take note of something without which the process is not ready, until it `has` it; the sentence is shown."""
        with self._writing:
            self._lacks = {**self._lacks, what: sentence}

    def has(self, what: str) -> None:
        """Take note that something is there by now."""
        if what not in self._lacks:
            return
        with self._writing:
            self._lacks = {name: sentence for name, sentence in self._lacks.items() if name != what}

    def recovering(self, read: int, left: int) -> None:
        """Take note of how far the recovery of state is: to read on is progress, though nothing is committed."""
        before, now = self._recovery, self._clock()
        if before is None or read != before.read:
            self._recovery = _Recovery(read, left, now)
        else:
            self._recovery = replace(before, left=left)

    def recovered(self, records: int, seconds: float) -> None:  # noqa: ARG002 (as whoever watches a recovery is told)
        """Take note that state is recovered."""
        self._recovery, self._recovered_at = None, self._clock()

    def stalled(self) -> str | None:
        """Return in a sentence why the process counts as one that lives and does nothing; None while it does not."""
        now, recovery = self._clock(), self._recovery
        for name, loop in self._loops.items():
            still_s = now - loop.at
            if still_s > self._limit_s:
                return f"the loop of the {name} has not turned for {still_s:.0f} s: restart the process"
        if recovery is not None:
            still_s = now - recovery.moved_at
            if still_s > self._limit_s:
                return f"no state has been recovered for {still_s:.0f} s, with about {recovery.left} records left"
            return None
        for name, loop in self._loops.items():
            still_s = now - max(loop.moved_at, self._recovered_at)
            due = [standing for standing in loop.standings.values() if standing.is_due]
            if due and still_s > self._limit_s:
                return (
                    f"the {name} has committed nothing for {still_s:.0f} s, while {len(due)} partitions are to be read "
                    f"or committed, and {sum(standing.lag for standing in due)} records at least wait: look at its log"
                )
        return None

    def lacking(self) -> str | None:
        """Return in a sentence what the process waits for before it is ready; None if it is."""
        recovery, lacks = self._recovery, self._lacks
        if recovery is not None:
            return f"state is recovering: about {recovery.left} changelog records are left"
        return next(iter(lacks.values()), None)

    def behind(self) -> Iterator[tuple[Place, int, float]]:
        """Yield each partition, its lag in records, and for how many seconds its commit has not moved; 0: all is."""
        now = self._clock()
        for loop in self._loops.values():
            for place, standing in loop.standings.items():
                yield place, standing.lag, now - loop.since[place] if standing.is_due else 0.0

    def owned(self, topic: str) -> int:
        """Return how many partitions of a topic are our own."""
        return sum(place[0] == topic for loop in self._loops.values() for place in loop.standings)
