"""
Who is to be forgotten, and which messages that is about: what came of events older than the wish. Pure.

Ids of those who are forgotten are not kept: hashes are enough to know their messages by.
"""

import re
from ast import literal_eval
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from stream.page.shape import Json

MOST: Final = 100_000
"""Wishes that are remembered, the latest."""

_JSON_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_LITERAL: Final = re.compile(r"""(?=(b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*"))""")
"""From each quote on to the next: some are apostrophes."""


class Place(NamedTuple):
    """Where an event stands; `topic` is the broker's name."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class _Wish:
    """
    What is known of one user's.

    Attributes:
        at: Its Kafka timestamp.
        since: By topic and partition, the offset of the first event of the user that is newer.
    """

    at: float
    since: dict[tuple[str, int], int] = field(default_factory=dict)


class Forgotten:
    """
    Wishes, and the first events since.

    What is said of a user is judged by the event behind it, not by when it was said: a worker that was behind goes
    through events of before the wish long after it. Until an event is read that is newer, nothing of the user is shown.
    """

    def __init__(self) -> None:
        self._wishes: OrderedDict[int, _Wish] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether there is anybody: mostly there is not, and then nothing else need be asked."""
        return bool(self._wishes)

    def __contains__(self, user_id: str) -> bool:
        return hash(user_id) in self._wishes

    def wished(self, user_id: str, at: float) -> None:
        """Take note of a wish; one that is older than what is known changes nothing."""
        known = hash(user_id)
        before = self._wishes.get(known)
        if before is None or before.at < at:
            self._wishes[known] = _Wish(at)
        self._wishes.move_to_end(known)
        if len(self._wishes) > MOST:
            self._wishes.popitem(last=False)

    def happened(self, key: bytes | None, place: Place, at: float) -> None:
        """Take note of an event under a user's key, and of its Kafka timestamp."""
        if key is None:
            return
        wish = self._wishes.get(hash(key.decode("utf-8", "replace")))
        if wish is not None and at > wish.at:
            wish.since.setdefault((place.topic, place.partition), place.offset)

    def covers(self, user_id: str, place: Place) -> bool:
        """Return whether what came of an event is not to be shown."""
        return self.covers_hashed(hash(user_id), place)

    def covers_hashed(self, known: int, place: Place) -> bool:
        """Return the same of the hash of an id."""
        wish = self._wishes.get(known)
        if wish is None:
            return False
        since = wish.since.get((place.topic, place.partition))
        return since is None or place.offset < since


def named_in(letter: Json) -> frozenset[int]:
    """
    Return the hashes of all that a dead letter may call somebody by: its key, and what is quoted in value and detail.

    Raises:
        ValueError: If key or value are not base64.
    """
    names = {b64decode(letter.get("key") or "").decode("utf-8", "replace")}
    for raw in _JSON_STRING.findall(b64decode(letter.get("value") or "")):  # of a value that was cut, too
        try:
            names.add(orjson.loads(raw))
        except ValueError:
            continue
    for text in _LITERAL.findall(letter["detail"]):
        try:
            said = literal_eval(text)
        except (ValueError, SyntaxError):
            continue
        names.add(said.decode("utf-8", "replace") if isinstance(said, bytes) else said)
    names |= {word.strip(".,;:()'\"") for word in letter["detail"].split()}
    return frozenset(map(hash, names))
