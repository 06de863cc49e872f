"""Foreign values: what was meant, or a sentence."""

import contextlib
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas import InvalidEvent
from schemas.base import Identifier
from stream.adapters import fields
from tests.adapters.platforms import event_id

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-31T09:30:00Z", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31T09:30:00.5z", datetime(2026, 1, 31, 9, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T10:30:00+0100", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31 09:30:00", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31T09:30:00.123456789Z", datetime(2026, 1, 31, 9, 30, 0, 123_456, tzinfo=UTC)),
        (1_769_851_800, datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        (1_769_851_800_000, datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        (1_769_851_800_000_000, datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("1769851800", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
    ],
)
def test_moments(value: Any, expected: datetime) -> None:
    """ISO 8601 as platforms write it, and numbers since 1970."""
    assert fields.moment(value, "time") == expected


@pytest.mark.parametrize(
    "value",
    [
        "yesterday", "", True, [], "2026-13-01T00:00:00Z", 1e300, -5e12, float("nan"), "0001-01-01",
        "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_refused_by_its_field(value: Any) -> None:
    """With what was expected and what was found."""
    with pytest.raises(InvalidEvent, match=r"^bad_value: object\.time: expected .* found "):
        fields.moment(value, "object.time")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("PT21.5S", 21.5), ("PT1M", 60.0), ("PT1H30M", 5_400.0), ("P1D", 86_400.0), ("PT0S", 0.0), ("pt5s", 5.0),
        ("P1W", 604_800.0), ("PT1,5S", 1.5), ("P1DT1S", 86_401.0), ("P8D", None), ("PT", None), ("P", None),
        ("21.5", None), (21.5, None), (None, None), ("-PT5S", None), ("P1Y", None),
    ],
)  # fmt: skip
def test_durations(value: Any, expected: float | None) -> None:
    """ISO 8601 durations up to a week."""
    assert fields.duration_s(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), ("False", False), ("true", True), (1, True), (0, False), ("maybe", None), (2, None), ([], None)],
)
def test_flags(value: Any, expected: bool | None) -> None:
    """Also where they are written as texts."""
    assert fields.flag(value) is expected


@pytest.mark.parametrize(
    ("score", "lowest", "highest", "expected"),
    [
        (3, 0, 4, 0.75),
        (3, None, 4, 0.75),
        (5, 0, 4, 1.0),
        (-1, 0, 4, 0.0),
        (3, 0, 0, None),
        (None, 0, 4, None),
        (3, 0, None, None),
        (75, 50, 100, 0.5),
    ],
)
def test_shares(score: float | None, lowest: float | None, highest: float | None, expected: float | None) -> None:
    """Where a score stands between its bounds; nothing where they say nothing."""
    assert fields.share(score, lowest, highest) == expected


@pytest.mark.parametrize(
    "field",
    [
        "actor",
        "actor.mbox",
        "actor.member.1",
        "object.account",
        "object.assignee",
        "context.extensions.for",
        "context.user_id",
        "body.user_uuid",
        "username",
        "event.email",
        "relateduserid",
        "body.student_id",
    ],
)
def test_what_stands_for_somebody_is_not_shown(field: str) -> None:
    """It may be a name or an address; of what kind it is, and how long, is said."""
    for found in ("Ada Lovelace <ada@school.example>", 20011, ["Ada"], {"Ada": 1}):
        detail = fields.bad(field, "a user", found).detail
        assert "ada" not in detail.lower()
        assert "20011" not in detail
        assert detail.startswith(f"{field}: expected a user, found ")
    assert fields.bad("eventname", "a class", "quiz").detail == "eventname: expected a class, found 'quiz'"


def test_long_names_stay_apart() -> None:
    """Two of them with one beginning are two."""
    first, second = (fields.name("x" * 300 + end) for end in "ab")
    assert first != second
    assert len(first) == len(second) == 256
    assert fields.name("x" * 256) == "x" * 256


def test_derived_ids_are_stable_and_known() -> None:
    """The same content has the same id, which tells that it was derived, also in an event's parts."""
    first, again, other = fields.derived("a", 1), fields.derived("a", 1), fields.derived("a", 2)
    assert first == again != other
    assert UUID(first).version == 8


RANDOM = event_id("ada", 1)
TIMED = "018f3c6e-7a10-7c3a-9b1e-2f4d5a6b7c8d"


@pytest.mark.parametrize("said", [RANDOM, RANDOM.upper(), f"urn:uuid:{RANDOM}", f"{RANDOM}/12", TIMED, "417", "0"])
def test_ids_that_say_nothing(said: str) -> None:
    """They are random, count time, or count."""
    assert fields.says_nothing(said)


@pytest.mark.parametrize(
    "said",
    [
        fields.derived("a", 1), f"{fields.derived('a', 1)}/2", str(uuid5(NAMESPACE_URL, "ada")), "urn:ada@x.example",
        f"urn:uuid:{RANDOM}x", f"{RANDOM}/ada", f"{RANDOM}\n", f"ada {RANDOM}", "4\u06617", "-1", "",
    ],
)  # fmt: skip
def test_ids_that_may_say_something(said: str) -> None:
    """They are made of what may be guessed, or hold any text."""
    assert not fields.says_nothing(said)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3), (3.0, 3), ("3", 3), (0, 0), (-1, None), (2.5, None), (True, None), ("third", None), (1e300, None)],
)
def test_counts(value: object, expected: int | None) -> None:
    """Whole numbers, also in digits; nothing else."""
    assert fields.count(value) == expected


@given(JSON)
def test_whatever_stands_in_a_field_nothing_raises_but_the_one_error(value: Any) -> None:
    """Any JSON may stand anywhere."""
    for read in (fields.name, fields.text, fields.number, fields.flag, fields.duration_s, fields.seconds, fields.items,
                 fields.part, fields.optional_moment):  # fmt: skip
        read(value)
    for needed in (fields.needed_name, fields.moment):
        with contextlib.suppress(InvalidEvent):
            needed(value, "field")


@given(st.text() | st.integers())
def test_a_name_is_an_identifier_or_none(value: str | int) -> None:
    """What comes out is what the schemas let in."""
    named = fields.name(value)
    if named:
        TypeAdapter(Identifier).validate_python(named)
