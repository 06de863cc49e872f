"""Which partition a key belongs on: Java's murmur2, as every producer of ours uses it."""

from functools import lru_cache

from aiokafka.partitioner import murmur2

_POSITIVE = 0x7FFFFFFF


class Partitioner:
    """
    Maps keys to partitions.

    Args:
        partitions: Of the topic.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._of_key = lru_cache(maxsize=200_000)(self._hashed)

    def __call__(self, key: bytes) -> int:
        """Return the partition of a key."""
        return self._of_key(key)

    def _hashed(self, key: bytes) -> int:
        return int(murmur2(key) & _POSITIVE) % self._partitions
