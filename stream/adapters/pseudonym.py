"""
Pseudonyms: who a learner is stays with the platform.

A pseudonym is HMAC-SHA256 of the platform's user id in hex: the same for the same key, so that a user's events stay
together, and of no use to whoever has no key. How a key is changed: `docs/adapters.md`.
"""

import hmac
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Final

_REMEMBERED: Final = 65_536

Named = Callable[[str, datetime], str]
"""Returns under which id a user's event goes on: the platform's user id, and when the event happened."""


def as_they_are(user_id: str, at: datetime) -> str:  # noqa: ARG001 (a `Named`)
    """Return the platform's own id."""
    return user_id


def pseudonym(key: bytes, user_id: str) -> str:
    """Return a user's pseudonym, 64 hex digits."""
    return hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()


def pseudonyms(key: bytes, previous: bytes | None = None, since: datetime | None = None) -> Named:
    """
    Return what names users by pseudonyms.

    Args:
        key: The secret.
        previous: The secret before it. What happened before `since` keeps the pseudonym that it had then, however late
            it comes and however often it is sent again.
        since: From when on, by the time of events, `key` is used; needed with `previous`.
    """
    of = lru_cache(_REMEMBERED)(pseudonym)

    def named(user_id: str, at: datetime) -> str:
        is_before = previous is not None and since is not None and at < since
        return of(previous if is_before and previous is not None else key, user_id)

    return named
