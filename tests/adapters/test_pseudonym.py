"""Pseudonyms, and what becomes of them when the key changes."""

import hashlib
import hmac
from datetime import UTC, datetime

from stream.adapters.pseudonym import as_they_are, pseudonyms

NEW_TERM = datetime(2026, 9, 1, tzinfo=UTC)
BEFORE, AFTER = datetime(2026, 8, 31, 23, 59, 59, tzinfo=UTC), NEW_TERM


def test_a_pseudonym_is_hmac_sha256_of_the_user_id() -> None:
    """So that whoever holds the key can join predictions to users."""
    expected = hmac.new(b"secret", "jürgen@example.org".encode(), hashlib.sha256).hexdigest()
    assert pseudonyms(b"secret")("jürgen@example.org", AFTER) == expected


def test_users_and_keys_are_told_apart() -> None:
    """Another user, or another key, is another pseudonym."""
    said = {pseudonyms(key)(user, AFTER) for key in (b"a", b"b") for user in ("u-1", "u-2")}
    assert len(said) == 4


def test_after_a_rotation_events_of_before_keep_their_pseudonym() -> None:
    """A late or re-sent event of the last term stays with that term's learner; the new term's are new."""
    old, new = pseudonyms(b"old"), pseudonyms(b"new")
    rotated = pseudonyms(b"new", b"old", NEW_TERM)
    assert rotated("u-1", BEFORE) == old("u-1", BEFORE)
    assert rotated("u-1", AFTER) == new("u-1", AFTER)
    assert rotated("u-1", AFTER) != rotated("u-1", BEFORE)


def test_without_a_key_users_stay_who_they_are() -> None:
    """The default."""
    assert as_they_are("u-1", AFTER) == "u-1"
