"""
Where each partition stands: what is safe, what must come next, and what has to be read again.

Pure: no Kafka, no clock of its own. Between a fetch and an agent Faust may drop messages without a word (a suspended
flow, a changed generation, a cancelled callback). So every batch is held against the offset that must come next; what
does not fit is dropped here, and read again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from stream.health import Standing
from stream.ports import Record

Place = tuple[str, int]
"""A topic and a partition."""

T = TypeVar("T")

IDLE_S = 2.0
"""A partition with records to read, of which none has arrived for this long, is read again from where it stands."""

BUSY_S = 30.0
"""The same while other partitions move: a backlog is fetched and worked off one partition after the other."""

LONGEST_IDLE_S = 30.0
"""
The wait doubles up to this while nothing comes: at the end of a partition may stand nothing but markers of
transactions, or one that is open. Until it is read again that counts as lag, so it stays well below the limit of a
stall (STREAM_STALLED_AFTER_S).
"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """
    When a batch was fetched.

    Attributes:
        epoch: Of its partition: counts how often reading began anew.
        after: The end of what was fetched before it in its epoch; None of the first, which starts at the next record
            that there is.
    """

    epoch: int
    after: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Records of one partition, in the order of their offsets, at least one.

    Attributes:
        stamp: When they were fetched.
        records: As they came.
    """

    stamp: Stamp
    records: list[Record]

    @property
    def place(self) -> Place:
        """The partition."""
        return self.records[0].topic, self.records[0].partition

    @property
    def end(self) -> int:
        """The offset behind its last record."""
        return self.records[-1].offset + 1


@dataclass(slots=True)
class _Partition:
    """
    One assigned partition.

    `next` is to be processed, everything before `safe` is safe, and epochs before `since` are another owner's;
    `quiet_end` is where it ended, by the broker's word, when nothing was left to read.
    """

    next: int
    safe: int
    since: int
    epoch: int = 0
    seek: bool = True
    fetched: int | None = None
    is_at_end: bool = False
    quiet_end: int | None = None
    moved_at: float = 0.0
    patience_s: float = IDLE_S
    committed: int = 0


@dataclass(slots=True)
class Progress:
    """The state of every assigned partition of the source topics."""

    _partitions: dict[Place, _Partition] = field(default_factory=dict)
    _epochs: int = 0

    def expect(self, place: Place, offset: int, now: float) -> None:
        """Begin to read a partition at an offset, whatever was fetched before; `now` in monotonic seconds."""
        # Counted over all partitions: one that went and came back must not meet its old batches under the same number.
        self._epochs += 1
        self._partitions[place] = _Partition(offset, offset, self._epochs, self._epochs, moved_at=now, committed=offset)

    def _again(self, place: Place, offset: int, now: float) -> None:
        """Begin to read a partition anew that has been ours all the time: what is under way stays good."""
        self._epochs += 1
        old = self._partitions[place]
        self._partitions[place] = _Partition(
            offset, old.safe, old.since, self._epochs, moved_at=now, committed=old.committed
        )

    def rewind(self, place: Place, now: float) -> None:
        """Begin to read a partition again from what is safe: what was processed since has been undone."""
        if place in self._partitions:
            self.expect(place, self._partitions[place].safe, now)

    def take_seeks(self) -> dict[Place, int]:
        """Return where the consumer must be put before its next fetch."""
        seeks = {place: p.next for place, p in self._partitions.items() if p.seek}
        for place in seeks:
            self._partitions[place].seek = False
        return seeks

    def epochs(self) -> Mapping[Place, int]:
        """Return the epochs of all partitions: taken before a fetch, they tell whether it is still good afterwards."""
        return {place: p.epoch for place, p in self._partitions.items()}

    def stamp(self, place: Place, epochs: Mapping[Place, int], end: int) -> Stamp | None:
        """Return the stamp of a batch up to `end` whose fetch began at these epochs; None if it is outdated already."""
        partition = self._partitions.get(place)
        epoch = epochs.get(place)
        if partition is None or partition.epoch != epoch or partition.seek:
            return None
        after, partition.fetched, partition.is_at_end, partition.quiet_end = partition.fetched, end, False, None
        return Stamp(epoch, after)

    def ended(self, place: Place, epochs: Mapping[Place, int]) -> None:
        """Take note that behind what has been stamped a partition ended, in a fetch that began at these epochs."""
        partition = self._partitions.get(place)
        if partition is not None and partition.epoch == epochs.get(place) and not partition.seek:
            # Where that is shows the next look: what has come since the last one was nothing to read.
            partition.is_at_end, partition.quiet_end = True, None

    def is_caught_up(self, place: Place) -> bool:
        """Return whether all of a partition had been processed when its end was last seen."""
        partition = self._partitions.get(place)
        if partition is None or not partition.is_at_end:
            return False
        return partition.fetched is None or partition.fetched <= partition.next

    def admit(self, batch: Batch, now: float) -> Batch | None:
        """
        Return what of a batch is to be processed now, None for nothing; what is returned must be.

        A gap is believed where nothing was fetched that has not arrived here: markers of transactions and compacted
        records leave such gaps. Elsewhere it may be a lost batch, and reading begins anew before it.
        """
        partition = self._partitions.get(batch.place)
        if partition is None or partition.epoch != batch.stamp.epoch:
            return None
        after = batch.stamp.after
        if batch.records[0].offset > partition.next and after is not None and after > partition.next:
            self._again(batch.place, partition.next, now)
            return None
        records = batch.records
        if records[0].offset < partition.next:
            records = [record for record in records if record.offset >= partition.next]
        if not records:
            return None
        partition.next, partition.moved_at = records[-1].offset + 1, now
        partition.patience_s = IDLE_S
        return replace(batch, records=records)

    def settle(self, batch: Batch, now: float) -> None:
        """Take note that a batch is safe: everything up to its end may be committed."""
        partition = self._partitions.get(batch.place)
        if partition is not None and batch.stamp.epoch >= partition.since:
            partition.safe, partition.moved_at = max(partition.safe, batch.end), now
            partition.next = max(partition.next, partition.safe)

    def committed(self, places: Mapping[Place, int]) -> None:
        """Take note of what is committed; what was on its way while reading began anew takes nothing back."""
        for place, offset in places.items():
            if place in self._partitions:
                self._partitions[place].committed = max(self._partitions[place].committed, offset)

    def standing(self, place: Place, end: int) -> Standing:
        """
        Return where a partition stands that is ours.

        Args:
            place: The partition.
            end: Its end, as far as known; behind the last record may stand markers of transactions.
        """
        partition = self._partitions.get(place)
        if partition is None:
            return Standing(0, 0, 0, is_unread=True)
        is_read = end == partition.quiet_end or (partition.quiet_end is None and self.is_caught_up(place))
        return Standing(
            partition.next if is_read else end, partition.next, partition.committed, is_unread=partition.seek
        )

    def safe(self, place: Place) -> int | None:
        """Return the offset that may be committed, None where nothing is known."""
        partition = self._partitions.get(place)
        return None if partition is None else partition.safe

    def check_idle(self, ends: Mapping[Place, int], now: float) -> None:
        """
        Read partitions again that have records to read but do not move.

        Args:
            ends: The end of each partition, as far as known.
            now: Monotonic seconds.
        """
        for place, end in ends.items():
            partition = self._partitions.get(place)
            if partition is None:
                continue
            # Markers of transactions take up offsets at a partition's end: nothing to read either.
            if self.is_caught_up(place) and partition.quiet_end is None:
                partition.quiet_end = end
            if end <= partition.next or end == partition.quiet_end:
                # Whatever comes next has only just come.
                partition.moved_at = now
                continue
            # While others move, its batches may only be waiting their turn: then much more patience is due.
            busy = now - max(p.moved_at for p in self._partitions.values()) < partition.patience_s
            if now - partition.moved_at < (BUSY_S if busy else partition.patience_s):
                continue
            self._again(place, partition.next, now)
            self._partitions[place].patience_s = min(2 * partition.patience_s, LONGEST_IDLE_S)

    def forget(self, places: set[Place]) -> None:
        """Drop partitions that belong to another worker now."""
        for place in places:
            self._partitions.pop(place, None)
