"""Memory with a limit: the latest of what was met, and seconds between two things that arrive in any order. Pure."""

from collections import OrderedDict
from typing import Final

_MOST_PLACES: Final = 40_000
"""Events whose prediction is to come, or predictions whose event is: 8 s at 5,000 events a second."""


class Latest:
    """
    Ids that were met lately.

    Args:
        most: How many are remembered.
    """

    def __init__(self, most: int) -> None:
        self._ids: OrderedDict[int, None] = OrderedDict()  # by their hashes, which are a third as large
        self._most = most

    def is_new(self, id_: object) -> bool:
        """Return whether an id was not met lately, and remember it."""
        ids, known = self._ids, hash(id_)
        if known in ids:
            return False
        ids[known] = None
        if len(ids) > self._most:
            ids.popitem(last=False)
        return True


class Latencies:
    """Seconds from an event to its prediction, by their places: which of the two is read first does not matter."""

    def __init__(self, most: int = _MOST_PLACES) -> None:
        self._sent: OrderedDict[int, float] = OrderedDict()
        self._said: OrderedDict[int, float] = OrderedDict()
        self._most = most

    def sent(self, partition: int, offset: int, at: float) -> float | None:
        """Take note of an event, and return the seconds until its prediction if that is known."""
        said = self._met(offset * _PARTITIONS + partition, at, self._sent, self._said)
        return None if said is None else said - at

    def said(self, partition: int, offset: int, at: float) -> float | None:
        """Take note of the prediction of the event at a place, and return the seconds since if that is known."""
        sent = self._met(offset * _PARTITIONS + partition, at, self._said, self._sent)
        return None if sent is None else at - sent

    def _met(
        self, place: int, at: float, mine: OrderedDict[int, float], others: OrderedDict[int, float]
    ) -> float | None:
        """Return the moment of the other one, or remember this one's."""
        other = others.pop(place, None)
        if other is None:
            mine[place] = at
            if len(mine) > self._most:
                mine.popitem(last=False)
        return other


_PARTITIONS: Final = 1_009
"""Above the most that a topic of ours has, and odd, so that places differ in the low bits that a table looks at."""
