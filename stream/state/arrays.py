"""
Users' records in arrays: gathered and scattered by index, a batch at a time.

Pure: no Faust, no Kafka. `RecordStore` is the seam: whoever keeps state on disk one day offers the same four verbs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]
"""A structured array, one row a user."""

BLOCK_ROWS = 65_536
"""Rows by which the arrays grow. A block is only reserved: what no row has been written to takes up no memory."""

_MOST_BLOCKS_AT_ONCE = 8
"""Up to here one pass a block is cheaper than sorting a batch by block."""


def take(records: Records, rows: NDArray[np.int64]) -> Records:
    """Return copies of some records."""
    taken: Records = _as_bytes(records)[rows].view(records.dtype)
    return taken


def put(records: Records, rows: NDArray[np.int64], values: Records) -> None:
    """Put records into rows, in place."""
    _as_bytes(records)[rows] = _as_bytes(values)


def _as_bytes(records: Records) -> NDArray[Any]:
    """Return a view of records as bytes: numpy copies these whole, but structured records field by field."""
    return records.view(_void(records.dtype.itemsize))


@lru_cache(maxsize=8)
def _void(size: int) -> np.dtype[Any]:
    return np.dtype((np.void, size))


@dataclass(frozen=True, slots=True)
class Layout:
    """
    What a table's records are.

    Attributes:
        empty: Returns records of so many users of whom nothing is known, `(B,)`.
        encode: Records into changelog values.
        decode: Changelog values into records, `(B,)`; raises `StateError` for a format that it does not know.
        seen: Fields that never go back as a record takes in events, the most significant first.
    """

    empty: Callable[[int], Records]
    encode: Callable[[Records], list[bytes]]
    decode: Callable[[Sequence[bytes]], Records]
    seen: tuple[str, ...]


class RecordStore(Protocol):
    """
    Keeps one record of each user; every user belongs to one partition.

    Attributes:
        layout: Of the records.
    """

    layout: Layout

    def __len__(self) -> int:
        """Return how many users have a record."""

    def __contains__(self, user: object) -> bool:
        """Return whether a user has a record."""

    def __iter__(self) -> Iterator[bytes]:
        """Return the users who have a record."""

    def users(self, partition: int) -> list[bytes]:
        """Return the users of a partition."""

    def gather(self, users: Sequence[bytes]) -> Records:
        """Return copies of the records of users, `(B,)`; an empty one of a user who has none."""

    def scatter(self, users: Sequence[bytes], partitions: Sequence[int], records: Records) -> None:
        """Keep the records of users, each user at most once."""

    def restore(self, partition: int, users: Sequence[bytes], values: Sequence[bytes | None]) -> list[bytes]:
        """
        Take over a part of a partition's changelog, in its order.

        Of several records of a user the one stays that has seen most, whenever it was written; None removes a user.

        Returns:
            Users of whom an older record was written after a newer one: theirs is to be written again, or compaction
            would keep the wrong one.
        """

    def drop(self, partition: int) -> None:
        """Forget every user of a partition."""


class Rows:
    """
    One record of each user, in memory.

    Args:
        empty: The record of a user who has none, `(1,)`.
        block_rows: Rows by which it grows.
    """

    def __init__(self, empty: Records, block_rows: int = BLOCK_ROWS) -> None:
        self._block_rows = block_rows
        self._empty = empty
        self._blocks: list[Records] = []
        self._rows: dict[bytes, int] = {}
        self._users: list[bytes | None] = []
        self._partitions = np.zeros(0, np.int32)
        self._free: list[int] = []

    def __len__(self) -> int:
        """Return how many users have a record."""
        return len(self._rows)

    def __contains__(self, user: object) -> bool:
        """Return whether a user has a record."""
        return user in self._rows

    def __iter__(self) -> Iterator[bytes]:
        """Return the users who have a record."""
        return iter(self._rows)

    @property
    def size_bytes(self) -> int:
        """What the records take up in memory; rows that were freed are used again, and count."""
        return len(self._users) * self._empty.dtype.itemsize

    def users(self, partition: int) -> list[bytes]:
        """Return the users of a partition."""
        rows = np.flatnonzero(self._partitions[: len(self._users)] == partition).tolist()
        return [user for row in rows if (user := self._users[row]) is not None]

    def gather(self, users: Sequence[bytes]) -> Records:
        """Return copies of the records of users, `(B,)`; see `RecordStore`."""
        find = self._rows.get
        rows = np.fromiter((find(user, -1) for user in users), np.int64, len(users))
        if len(self._blocks) == 1 and rows.min(initial=0) >= 0:
            return take(self._blocks[0], rows)
        records = np.empty(len(users), self._empty.dtype)
        for block, places, within in self._by_block(rows):
            put(records, places, take(self._blocks[block], within))
        records[rows < 0] = self._empty
        return records

    def scatter(self, users: Sequence[bytes], partitions: Sequence[int], records: Records) -> None:
        """Keep the records of users, each at most once; see `RecordStore`."""
        find = self._rows.get
        rows = np.fromiter((find(user, -1) for user in users), np.int64, len(users))
        for place in np.flatnonzero(rows < 0).tolist():
            rows[place] = self._add(users[place], partitions[place])
        for block, places, within in self._by_block(rows):
            put(self._blocks[block], within, take(records, places))

    def drop(self, partition: int) -> None:
        """Forget every user of a partition."""
        for user in self.users(partition):
            self.remove(user)

    def remove(self, user: bytes) -> None:
        """Forget a user."""
        row = self._rows.pop(user, None)
        if row is not None:
            self._users[row] = None
            self._partitions[row] = -1
            self._free.append(row)

    def _add(self, user: bytes, partition: int) -> int:
        if self._free:
            row = self._free.pop()
            self._users[row] = user
        else:
            row = len(self._users)
            self._users.append(user)
            if row == len(self._blocks) * self._block_rows:
                self._blocks.append(np.empty(self._block_rows, self._empty.dtype))
                self._partitions = np.concatenate([self._partitions, np.full(self._block_rows, -1, np.int32)])
        self._partitions[row] = partition
        self._rows[user] = row
        return row

    def _by_block(self, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Return, for each block that is needed, places in the batch and rows within the block."""
        there = np.flatnonzero(rows >= 0)
        if len(self._blocks) <= 1 or not len(there):
            return [(0, there, rows[there])] if len(there) else []
        block, within = np.divmod(rows[there], self._block_rows)
        if len(self._blocks) <= _MOST_BLOCKS_AT_ONCE:
            chosen = [(b, block == b) for b in range(len(self._blocks))]
            return [(b, there[mask], within[mask]) for b, mask in chosen if mask.any()]
        order = np.argsort(block, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(block[order]), 1)) + 1
        parts = np.split(order, ends[:-1])
        return [(int(block[part[0]]), there[part], within[part]) for part in parts]


class ArrayStore(Rows):
    """
    A `RecordStore` in memory.

    Args:
        layout: Of the records.
        block_rows: Rows by which it grows.
    """

    def __init__(self, layout: Layout, block_rows: int = BLOCK_ROWS) -> None:
        super().__init__(layout.empty(1), block_rows)
        self.layout = layout

    def restore(self, partition: int, users: Sequence[bytes], values: Sequence[bytes | None]) -> list[bytes]:
        """Take over a part of a partition's changelog; see `RecordStore`."""
        outdated: dict[bytes, None] = {}
        removals = [place for place, value in enumerate(values) if value is None]
        start = 0
        for end in (*removals, len(values)):
            part = [value for value in values[start:end] if value is not None]
            for user, is_outdated in self._restore(partition, users[start:end], self.layout.decode(part)):
                outdated.pop(user, None)
                if is_outdated:
                    outdated[user] = None
            if end < len(values):
                self.remove(users[end])
                outdated.pop(users[end], None)
            start = end + 1
        return list(outdated)

    def _restore(self, partition: int, users: Sequence[bytes], records: Records) -> Iterator[tuple[bytes, bool]]:
        """Take over records, and yield each user, and whether the last of the records is not the one that stays."""
        if not users:
            return
        distinct = {user: row for row, user in enumerate(dict.fromkeys(users))}
        known = np.array([user in self._rows for user in distinct], bool)
        # What is held already comes first, so that of equal ones the later stays.
        both = np.concatenate([self.gather(list(distinct)), records])
        owner = np.concatenate([np.arange(len(distinct)), np.array([distinct[user] for user in users], np.int64)])
        order = np.arange(len(both))
        held = np.concatenate([known, np.ones(len(records), bool)])
        by_seen = np.lexsort((order, *(both[name] for name in reversed(self.layout.seen)), held, owner))
        is_last = np.append(owner[by_seen][1:] != owner[by_seen][:-1], True)
        best = by_seen[is_last]  # (U,): the most seen of each user, in the users' order
        last = np.zeros(len(distinct), np.int64)
        np.maximum.at(last, owner, order)
        names = list(distinct)
        self.scatter(names, [partition] * len(names), both[best])
        yield from zip(names, (best != last).tolist(), strict=True)
