"""
Faust tables over stores of our own: records in arrays, and the names behind their keys.

Faust assigns and drops the partitions and lists the tables; what is kept, how it is restored and how it is written is
ours. A table is read and written a batch at a time; what has to reach its changelog is returned, not sent.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, cast

import faust
from faust.stores.memory import Store
from faust.types import TP

from stream.errors import StateError
from stream.state.arrays import Records, RecordStore
from stream.state.names import Names
from stream.transport.changelogs import Part
from stream.transport.settlement import Change

_AT_ONCE = 4_096

CheckRecovered = Callable[[set[int]], Awaitable[None]]
"""Called with the partitions whose records have just been recovered."""


class _Packed(Mapping[bytes, bytes]):
    """What Faust sees of a store: packed records, to be read only."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def __getitem__(self, user: bytes) -> bytes:
        if user not in self._store:
            raise KeyError(user)
        return self._store.layout.encode(self._store.gather([user]))[0]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._store)

    def __len__(self) -> int:
        return len(self._store)


class _FaustStore(Store[bytes, bytes]):
    """Faust's side of a store of ours: nothing is restored, dropped or persisted through it."""

    def apply_changelog_batch(self, *_: Any, **__: Any) -> None:
        """Do nothing: `stream.transport.recovery` restores."""

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Do nothing: Faust would drop what a standby holds."""


class OurTable(faust.Table[bytes, bytes]):
    """
    A table that is restored from its changelog by us.

    Faust's own writing methods are closed: they would take the partition from whatever event came last, and send
    unconfirmed.
    """

    check_recovered: CheckRecovered | None = None

    def __init__(self, app: faust.App, name: str, seen_by_faust: Mapping[bytes, bytes]) -> None:
        super().__init__(app, name=name, partitions=app.conf.topic_partitions, key_type=bytes, value_type=bytes)
        self._seen_by_faust = seen_by_faust
        self._restored: set[int] = set()
        app.tables.add(self)

    def _new_store(self) -> Store[bytes, bytes]:
        store = _FaustStore("memory://", self.app, self, key_type=bytes, value_type=bytes)
        store.data = cast("MutableMapping[bytes, bytes]", self._seen_by_faust)
        return store

    @property
    def changelog(self) -> str:
        """The changelog's name on the broker."""
        return str(self.changelog_topic.get_topic_name())

    def restore(self, part: Part) -> None:
        """Take over a part of the changelog."""
        self._restored.add(part.place[1])

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        raise NotImplementedError

    def to_repair(self, partitions: set[int]) -> list[Change]:  # noqa: ARG002 (nothing, unless a table says so)
        """Return changelog records that are to be written again, so that compaction keeps the right ones."""
        return []

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Let the records be checked before the first event."""
        await super().on_recovery_completed(active_tps, standby_tps)
        restored = self._restored & {tp.partition for tp in active_tps}
        self._restored -= restored
        if self.check_recovered is not None:
            await self.check_recovered(restored)

    def on_key_set(self, key: bytes, value: bytes) -> None:
        """Refuse Faust's own way of writing."""
        raise NotImplementedError("write by put(): it knows the user's partition, and what is flushed")

    def on_key_del(self, key: bytes) -> None:
        """Refuse Faust's own way of deleting."""
        raise NotImplementedError("write by put(): an erased user leaves a marker")


class RecordTable(OurTable):
    """
    User id to record.

    Args:
        app: Faust's.
        name: Of the table.
        store: Keeps the records.
    """

    def __init__(self, app: faust.App, name: str, store: RecordStore) -> None:
        super().__init__(app, name, _Packed(store))
        self._records = store
        self._outdated: dict[int, set[bytes]] = {}

    def get_records(self, users: Sequence[bytes]) -> Records:
        """Return copies of the records of users, `(B,)`; an empty one of a user who has none."""
        return self._records.gather(users)

    def put(self, users: Sequence[bytes], partitions: Sequence[int], records: Records) -> list[Change]:
        """Keep the records of users, each at most once, and return what must reach the changelog."""
        self._records.scatter(users, partitions, records)
        return self._changes(users, partitions, records)

    def put_back(self, users: Sequence[bytes], partitions: Sequence[int], records: Records) -> None:
        """Undo a `put`: nothing of it has reached the changelog."""
        self._records.scatter(users, partitions, records)

    def of_partition(self, partition: int) -> Iterator[tuple[list[bytes], Records]]:
        """Yield the users of one partition and their records, a part at a time: all would be a copy of the state."""
        users = self._records.users(partition)
        for start in range(0, len(users), _AT_ONCE):
            part = users[start : start + _AT_ONCE]
            yield part, self._records.gather(part)

    def restore(self, part: Part) -> None:
        """Take over a part of the changelog; raises `StateError` for a record of another format."""
        super().restore(part)
        partition = part.place[1]
        outdated = self._records.restore(partition, part.keys, part.values)
        repaired = set(part.keys).difference(outdated)
        self._outdated.setdefault(partition, set()).difference_update(repaired)
        self._outdated[partition].update(outdated)

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._records.drop(partition)
        self._outdated.pop(partition, None)

    def to_repair(self, partitions: set[int]) -> list[Change]:
        """Return the records of users of whom an older one was written last: by a worker that had lost them."""
        found = [(user, p) for p in sorted(partitions) for user in sorted(self._outdated.pop(p, ()))]
        users, places = [user for user, _ in found], [partition for _, partition in found]
        return self._changes(users, places, self._records.gather(users))

    def _changes(self, users: Sequence[bytes], partitions: Sequence[int], records: Records) -> list[Change]:
        topic, values = self.changelog, self._records.layout.encode(records)
        return [Change(topic, p, user, value) for user, p, value in zip(users, partitions, values, strict=True)]


class NameTable(OurTable):
    """
    The names of topics and skills, once in each partition that has met them.

    Args:
        app: Faust's.
        name: Of the table.
        names: Takes what is restored.
    """

    def __init__(self, app: faust.App, name: str, names: Names) -> None:
        super().__init__(app, name, {})
        self._names = names

    def put(self, partition: int, names: Sequence[str]) -> list[Change]:
        """Return what must reach the changelog of a partition, before any record that uses these names."""
        new = self._names.not_stored(partition, names)
        return [Change(self.changelog, partition, name.encode(), name.encode()) for name in new]

    def put_back(self, changes: Sequence[Change]) -> None:
        """Undo `put`: these have not reached the changelog."""
        for change in changes:
            self._names.unstore(change.partition, [change.key.decode()])

    def restore(self, part: Part) -> None:
        """Take over a part of the changelog; raises `StateError` for a record that is no name."""
        for key, value in zip(part.keys, part.values, strict=True):
            if value and value != key:
                raise StateError(f"table names: expected a name that is its own key, found {len(value)} other bytes")
        super().restore(part)
        self._names.restore(part.place[1], [value.decode() for value in part.values if value])

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._names.forget(partition)
