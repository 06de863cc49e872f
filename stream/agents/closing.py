"""
When weeks close, and whose turn it is: by the newest event time of this worker's partitions, a few users at a time.

None ahead of events that have yet to be read: of a partition whose backlog is worked off, only its own time counts.

Between two batches the engine asks for the next few; what they are scored with is `stream.closing`'s. Why so:
`docs/decisions/0021-weeks-close.md`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from stream import closing
from stream.closing import Closed, Week
from stream.ports import Record
from stream.state.academic import week_of
from stream.transport.progress import Place
from stream.transport.settlement import Work

if TYPE_CHECKING:
    from stream.agents.desk import Desk

log = structlog.get_logger()

_USERS: Final = 32
"""Users who are scored at once, measured by `benchmarks/closing.py`: more of them delay the answers in between."""

_PACE_S: Final = 0.024
"""From one turn to the next: 200,000 users take two and a half minutes, and a network a third of the time."""

_LATE_S: Final = 0.1
"""Of turns that could not be had in time, for batches were processed, so much is made up for."""

_UNDER_WAY: Final = 8
"""Turns whose work may be on its way to the broker before the next begins."""

_LOOK_S: Final = 1.0
"""How often it is looked whether partitions that lag have caught up."""

_FAR_S: Final = 28 * 86_400.0
_TOGETHER: Final = 3
"""So many users must have come so far: one event of today within a log of last year is nobody's silence."""

_Waiting = tuple[bytes, int]
"""A user and his partition."""


class EventTime:
    """
    The newest moment of event time that each partition has shown, of each topic and of both.

    It leaps further than four weeks only when three users have: a single one would close the weeks of all others.
    """

    def __init__(self) -> None:
        self._of: dict[Place, float] = {}
        self._newest: dict[int, float] = {}
        self._time = 0.0
        self._ahead: dict[bytes | None, tuple[Place, float]] = {}

    def move(self, records: Iterable[Record], moments: Iterable[float], latest: float) -> None:
        """
        Take note of events; none counts as later than Kafka's timestamp of its record, and without one not at all.

        Args:
            records: That brought them.
            moments: When each happened, seconds since the epoch.
            latest: No time is moved beyond this: Kafka's timestamps are often the senders', whose clocks may be wrong.
        """
        for record, moment in zip(records, moments, strict=True):
            place, at = (record.topic, record.partition), min(moment, record.timestamp_s, latest)
            if 0.0 < self._time < at - _FAR_S:
                self._leap(record.key, place, at)
            else:
                self.reach(place, at)

    def recover(self, place: Place, last_at: NDArray[np.float64]) -> None:
        """
        Take note of how far a partition of a topic had come.

        Args:
            place: The partition.
            last_at: When each of its users was last heard of, seconds since the epoch, `(N,)`.
        """
        newest = np.sort(last_at)[::-1]
        together = newest[: -_TOGETHER + 1][newest[: -_TOGETHER + 1] <= newest[_TOGETHER - 1 :] + _FAR_S]
        # Where no three came so near to one another there is nothing better than the latest.
        self.reach(place, float((together if len(together) else newest).max(initial=0.0)))

    def reach(self, place: Place, at: float) -> None:
        """Take note that a partition of a topic has shown a moment, seconds since the epoch."""
        if at > self._of.get(place, 0.0):
            self._of[place] = at
            self._newest[place[1]] = max(self._newest.get(place[1], 0.0), at)
        if at > self._time:
            self._time = at
            self._ahead.clear()  # time goes on from here: what was far ahead of it is somebody else's

    def _leap(self, user: bytes | None, place: Place, at: float) -> None:
        """Follow an event that is far ahead once others are there too."""
        self._ahead[user] = place, at
        if len(self._ahead) >= _TOGETHER:
            for reached in list(self._ahead.values()):
                self.reach(*reached)

    def of(self, place: Place) -> float:
        """Return the newest moment of a topic's partition, seconds since the epoch; 0 where there is none."""
        return self._of.get(place, 0.0)

    def newest(self, partitions: Iterable[int]) -> float:
        """Return the newest moment of several partitions, seconds since the epoch; 0 where there is none."""
        return max((self._newest.get(partition, 0.0) for partition in partitions), default=0.0)


class Closing:
    """
    Closes the newest week that is over, for the users of the partitions that are ours; an `Aside` of the engine's.

    Args:
        desk: What agents work with.
        owned: Returns the partitions that are ours.
        caught_up: Returns whether a partition of a source topic had been read to its end when that was last seen.
        source: The broker's name of the topic of interactions, under whose partitions the work stands.
        topic: The broker's name of the topic of academic events.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        desk: "Desk",
        owned: Callable[[], AbstractSet[int]],
        caught_up: Callable[[Place], bool],
        source: str,
        topic: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk = desk
        self._owned = owned
        self._caught_up = caught_up
        self._source = source
        self._topic = topic
        self._clock = clock
        self._over = 0
        self._newest_begun = 0
        self._weeks: dict[int, int] = {}
        self._scans: dict[int, Iterator[list[_Waiting]]] = {}
        self._waiting: deque[_Waiting] = deque()
        self._under_way = 0
        self._next_at = 0.0

    def due_s(self) -> float | None:
        """Return the seconds until the next turn, None while nobody waits for one; see `Aside`."""
        is_behind = self._look()
        if not self._scans and not self._waiting:
            return _LOOK_S if is_behind else None
        left_s = max(self._next_at - self._clock(), 0.0)
        return left_s if self._under_way < _UNDER_WAY else max(left_s, _PACE_S)

    def turn(self) -> tuple[Work, frozenset[Place]] | None:
        """Look at some more users, or close the week for a few of those who wait; see `Aside`."""
        self._next_at = max(self._next_at, self._clock() - _LATE_S) + _PACE_S
        for partition, scan in self._scans.items():
            part = next(scan, None)
            if part is None:
                del self._scans[partition]
            else:
                self._waiting.extend(part)
                self._desk.telemetry.closing(len(self._waiting))
            return None
        # What was undone waits again, perhaps a second time, or for another worker by now.
        week, taken = 0, dict[_Waiting, None]()
        while self._waiting and len(taken) < _USERS:
            its_week = self._weeks.get(self._waiting[0][1], 0)
            if taken and its_week not in {0, week}:
                break
            each = self._waiting.popleft()
            if its_week:
                week, taken[each] = its_week, None
        self._desk.telemetry.closing(len(self._waiting))
        return self._close(Week(week, self._topic), list(taken))

    def _look(self) -> bool:
        """Begin with what has become due, leave what is another worker's; return whether partitions lag behind."""
        owned = self._owned()
        self._over = max(self._over, week_of(self._desk.event_time.newest(owned)) - 1)
        left = self._weeks.keys() - owned
        behind = [partition for partition in sorted(owned) if self._weeks.get(partition, 0) < self._over]
        over = {partition: self._over_in(partition) for partition in behind}
        begun = {partition: week for partition, week in over.items() if week > self._weeks.get(partition, 0)}
        # A closing that has not been finished is passed over: users are seen as of now, not once for each week.
        dropped = left | (begun.keys() & self._weeks.keys())
        if dropped:
            self._weeks = {partition: week for partition, week in self._weeks.items() if partition not in dropped}
            self._scans = {partition: scan for partition, scan in self._scans.items() if partition not in dropped}
            self._waiting = deque(each for each in self._waiting if each[1] not in dropped)
        for partition, week in begun.items():
            self._weeks[partition] = week
            self._scans[partition] = self._candidates(partition, week)
        newest = max(begun.values(), default=0)
        if newest > self._newest_begun:
            self._newest_begun = newest
            self._desk.telemetry.week_closed()
        return any(week < self._over for week in over.values())

    def _over_in(self, partition: int) -> int:
        """Return the newest week that may be closed in a partition: none of which events have yet to be read."""
        places = ((self._source, partition), (self._topic, partition))
        lagging = [self._desk.event_time.of(place) for place in places if not self._caught_up(place)]
        return min([self._over, *(week_of(at) - 1 for at in lagging)])

    def _candidates(self, partition: int, week: int) -> Iterator[list[_Waiting]]:
        """Yield, a part of a partition at a time, the users for whom a week is to be closed."""
        desk, met = self._desk, set[bytes]()
        for users, learners in desk.learners.of_partition(partition):
            met.update(users)
            due = closing.to_close(learners, desk.academics.get_records(users), week)
            yield [(user, partition) for user, is_due in zip(users, due.tolist(), strict=True) if is_due]
        for users, academics in desk.academics.of_partition(partition):
            rows = [row for row, user in enumerate(users) if user not in met]
            others = [users[row] for row in rows]
            due = closing.to_close(desk.learners.get_records(others), academics[rows], week)
            yield [(user, partition) for user, is_due in zip(others, due.tolist(), strict=True) if is_due]

    def _close(self, week: Week, taken: Sequence[_Waiting]) -> tuple[Work, frozenset[Place]] | None:
        """Return the work of closing a week for users, None if it has become needless for all of them."""
        desk = self._desk
        keys = [user for user, _ in taken]
        # Events may have come for them since they were found.
        due = closing.to_close(desk.learners.get_records(keys), desk.academics.get_records(keys), week.number)
        parts = self._survived(week, [each for each, is_due in zip(taken, due.tolist(), strict=True) if is_due])
        if not parts:
            return None
        users = [each for of, _ in parts for each in of]
        keys, partitions = [user for user, _ in users], [partition for _, partition in users]
        before = desk.academics.get_records(keys)
        changes = [
            change
            for of, closed in parts
            for change in desk.academics.put([u for u, _ in of], [p for _, p in of], closed.academics)
        ]
        self._under_way += 1

        def undo() -> None:
            desk.academics.put_back(keys, partitions, before)
            self._under_way -= 1
            self._waiting.extendleft(reversed(users))

        def confirmed(sent_at: float) -> None:  # noqa: ARG001 (nobody waits for it: it counts in no latency)
            self._under_way -= 1
            for _, closed in parts:
                desk.closed(closed)

        messages = [message for _, closed in parts for message in closed.messages]
        outputs = [*messages, *desk.stated(messages)]
        places = frozenset((self._source, partition) for partition in partitions)
        return Work(outputs=outputs, changes=changes, undo=undo, confirmed=confirmed), places

    def _survived(self, week: Week, users: Sequence[_Waiting]) -> list[tuple[Sequence[_Waiting], Closed]]:
        """Close a week for users, and leave those out over whose records our own code raises."""
        if not users:
            return []
        desk = self._desk
        keys, partitions = [user for user, _ in users], [partition for _, partition in users]
        try:
            closed = closing.close(
                week, [key.decode() for key in keys], partitions, desk.learners.get_records(keys),
                desk.academics.get_records(keys), desk.models.risk, desk.models.names, desk.clock(),
            )  # fmt: skip
        except Exception as error:
            if len(users) == 1:
                log.exception("closing.failed", partition=partitions[0], reason=str(error))
                desk.telemetry.failed("closing")
                return []
            middle = len(users) // 2
            return self._survived(week, users[:middle]) + self._survived(week, users[middle:])
        return [(users, closed)]
