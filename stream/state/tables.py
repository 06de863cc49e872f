"""
Faust tables of packed records, whose changelog goes out through our own producer.

Faust still recovers, assigns and drops partitions; only the way out is ours, so that a flush confirms it before an
offset is committed.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import cast

import faust
from faust.stores.memory import Store
from faust.types import TP

from stream.ports import Outbox


class PackedTable(faust.Table[bytes, bytes]):
    """
    User id to packed record.

    Faust's own writing methods are closed: they would take the partition from whatever event came last, and send
    unconfirmed.
    """

    outbox: Outbox
    check_recovered: Callable[[set[int]], Awaitable[None]] | None = None
    """Called with the partitions whose records have just been recovered."""

    @classmethod
    def declare(cls, app: faust.App, name: str, outbox: Outbox) -> "PackedTable":
        """Return a table of this name, added to the app."""
        table = cls(app, name=name, partitions=app.conf.topic_partitions, key_type=bytes, value_type=bytes)
        table.outbox = outbox
        app.tables.add(table)
        return table

    @property
    def _memory(self) -> Store[bytes, bytes]:
        return cast("Store[bytes, bytes]", self.data)

    def stored(self, users: Sequence[str]) -> list[bytes | None]:
        """Return the packed records of users, None for those without one."""
        data = self._memory.data
        return [data.get(user.encode()) for user in users]

    def put(self, user: str, partition: int, value: bytes) -> None:
        """Store a record and queue its changelog message; the caller flushes the outbox before any commit."""
        key = user.encode()
        self._memory.data[key] = value
        # Faust's memory store drops a lost partition's keys by this, and fills it on recovery only.
        self._memory._key_partition[key] = partition  # noqa: SLF001
        self.outbox.send(self.changelog_topic.get_topic_name(), key=key, value=value, partition=partition)

    def of_partition(self, partition: int) -> Iterator[tuple[str, bytes]]:
        """Yield the users of one partition and their records."""
        partitions = self._memory._key_partition  # noqa: SLF001
        return ((key.decode(), value) for key, value in self._memory.data.items() if partitions.get(key) == partition)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Let the records be checked before the first event."""
        await super().on_recovery_completed(active_tps, standby_tps)
        if self.check_recovered is not None:
            await self.check_recovered({tp.partition for tp in active_tps})

    def on_key_set(self, key: bytes, value: bytes) -> None:
        """Refuse Faust's own way of writing."""
        raise NotImplementedError("write by put(): it knows the user's partition, and what is flushed")

    def on_key_del(self, key: bytes) -> None:
        """Refuse Faust's own way of deleting."""
        raise NotImplementedError("write by put(): an erased user leaves a marker")
