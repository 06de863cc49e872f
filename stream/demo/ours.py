"""Which messages come of the demo's own events: who tries the system beside it must not make its counts wrong. Pure."""

from base64 import b64decode
from collections.abc import Collection, Mapping
from typing import Any

import orjson


class Ours:
    """
    Remembers what the demo has sent.

    Args:
        sources: Foreign topics that the demo writes to.
    """

    def __init__(self, sources: Collection[str] = ()) -> None:
        self._sources = sources
        self._event_ids: set[str] = set()
        self._users: set[str] = set()

    def sent(self, event: Mapping[str, Any]) -> None:
        """Remember an event of ours."""
        self._event_ids.add(event["event_id"])
        if "user_id" in event:
            self._users.add(event["user_id"])

    def has(self, topic: str, message: Mapping[str, Any]) -> bool:
        """Return whether a message comes of an event that was sent; `topic` is the catalog's name."""
        if topic == "model-events":
            return True
        if topic == "dead-letters":
            return message["topic"] in self._sources or self._has_letter(message)
        if message.get("reason") == "week_closed" or message.get("type") == "risk":
            return message["user_id"] in self._users
        event_id = message["event_id"] if topic == "training-examples" else message["source"]["event_id"]
        return event_id in self._event_ids

    def _has_letter(self, letter: Mapping[str, Any]) -> bool:
        """Return whether what was put aside is an event of ours: all of them can be read."""
        try:
            event = orjson.loads(b64decode(letter["value"] or ""))
        except ValueError:
            return False
        return isinstance(event, dict) and event.get("event_id") in self._event_ids
