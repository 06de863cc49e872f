"""
The identifiers behind 64-bit keys.

Records keep keys, so that they have a fixed size; the names of topics and skills stand once in a process, and once in
each partition's changelog of names. Pure.
"""

from collections.abc import Iterable

from stream.state.learner import key64


class Names:
    """The identifiers behind keys, as far as this process has met them."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._stored: dict[int, set[str]] = {}

    def key(self, name: str) -> int:
        """Return the key of a name, and remember the name."""
        key = key64(name)
        self._names[key] = name
        return key

    def name(self, key: int) -> str | None:
        """Return the name of a key, None if it was never met."""
        return self._names.get(key)

    def not_stored(self, partition: int, names: Iterable[str]) -> list[str]:
        """
        Return those of the names that a partition's changelog does not hold yet, and take them for stored and met.

        Whoever moves into the partition finds them there; a name is written once, not with every record.
        """
        stored = self._stored.setdefault(partition, set())
        new = [name for name in dict.fromkeys(names) if name not in stored]
        for name in new:
            self.key(name)
            stored.add(name)
        return new

    def restore(self, partition: int, names: Iterable[str]) -> None:
        """Take over names that a partition's changelog holds."""
        stored = self._stored.setdefault(partition, set())
        for name in names:
            self.key(name)
            stored.add(name)

    def unstore(self, partition: int, names: Iterable[str]) -> None:
        """Take back that names are stored: what should have written them was undone."""
        self._stored.get(partition, set()).difference_update(names)

    def forget(self, partition: int) -> None:
        """Drop what is known of a partition's changelog; the names themselves stay, as other partitions use them."""
        self._stored.pop(partition, None)
