"""
Ten weekly steps of one user's attendance, grades and discipline, as a row of a structured array.

Pure values, folded in event by event; a late event goes into its own week while that week is still kept. The score is
`stream.models.risk`'s, the stored form `stream.state.codec`'s.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas import Academic, AttendanceRecorded, DisciplineRecorded, GradeRecorded, OutcomeRecorded
from stream.state.learner import id48, id64

Records = NDArray[Any]

WEEKS = 10
EVENTS = 8
"""Ids remembered of academic events."""

STATUSES = ("present", "absent", "late", "excused")
SEVERITIES = ("minor", "moderate", "major")
OUTCOMES = ("distinction", "pass", "fail", "withdrawn")

_WEEK_S = 7 * 86_400
_MONDAY_S = 4 * 86_400  # 1970-01-05 was a Monday

DTYPE = np.dtype(
    [
        ("seen", "<i8"),
        ("erasure_seen", "<i8"),
        ("last_at", "<f8"),
        ("events", "<u4"),
        ("event_id", "<u2", (EVENTS, 3)),
        ("outcome", "u1"),
        # A week's place is its number modulo WEEKS; `week` says which one stands there.
        ("week", "<u2", (WEEKS,)),
        ("attendance", "u1", (WEEKS, len(STATUSES))),
        ("grades", "u1", (WEEKS,)),
        ("grade_sum", "<f2", (WEEKS,)),
        ("incidents", "u1", (WEEKS, len(SEVERITIES))),
    ]
)


def new_academics(count: int) -> Records:
    """Return records of `count` users of whom nothing is known, `(count,)`."""
    records = np.zeros(count, DTYPE)
    records["seen"] = -1
    records["erasure_seen"] = -1
    return records


def erased(records: Records, offsets: NDArray[np.int64]) -> Records:
    """
    Return the empty markers of erased users: nothing but what has been seen.

    Args:
        records: Users, `(B,)`.
        offsets: Of the erasures in their partitions, `(B,)`; one that this record has seen erases nothing that came
            later. The two tables' records do not reach the broker as one: each knows for itself.
    """
    markers = new_academics(len(records))
    markers["seen"], markers["erasure_seen"] = records["seen"], offsets
    return np.where(records["erasure_seen"] < offsets, markers, records)


def week_of(at: float) -> int:
    """Return the number of the week, from Monday, that a moment in seconds since the epoch lies in."""
    return int((at - _MONDAY_S) // _WEEK_S) + 1


def has_seen(record: Records, event: Academic, offset: int) -> bool:
    """Return whether the event at this offset, or its id, has been applied already."""
    return bool(offset <= record["seen"] or (record["event_id"] == _hash(event)).all(axis=1).any())


def fold(record: Records, event: Academic, offset: int) -> Records:
    """
    Return a user's record after one event.

    An event older than the weeks that are kept changes nothing but what has been seen.

    Args:
        record: One row, shape `()`; not changed.
        event: What happened.
        offset: Where it stands in its partition.
    """
    after = record.copy()
    after["seen"] = offset
    after["event_id"][int(record["events"]) % EVENTS] = _hash(event)
    after["events"] += 1
    at = event.timestamp.timestamp()
    after["last_at"] = max(float(record["last_at"]), at)
    week = week_of(at)
    place = week % WEEKS
    if week < after["week"][place]:
        return after
    if week > after["week"][place]:
        for field in ("attendance", "grades", "grade_sum", "incidents"):
            after[field][place] = 0
        after["week"][place] = week
    match event:
        case AttendanceRecorded():
            _count(after["attendance"], (place, STATUSES.index(event.status)))
        case GradeRecorded():
            if after["grades"][place] < 255:  # noqa: PLR2004 (a byte's largest)
                after["grades"][place] += 1
                after["grade_sum"][place] += event.score / event.max_score
        case DisciplineRecorded():
            _count(after["incidents"], (place, SEVERITIES.index(event.severity)))
        case OutcomeRecorded():
            after["outcome"] = OUTCOMES.index(event.outcome) + 1
    return after


def _hash(event: Academic) -> NDArray[np.uint16]:
    return id48(np.array(id64(event.event_id), np.uint64))


def _count(counts: NDArray[np.uint8], place: tuple[int, int]) -> None:
    """Add one, in place; a byte that is full stays full."""
    counts[place] += counts[place] < 255  # noqa: PLR2004 (a byte's largest)


def latest_weeks(record: Records) -> NDArray[np.int64]:
    """Return the places of the weeks that count, the newest first: those within WEEKS of the newest."""
    week = record["week"].astype(np.int64)
    kept = np.flatnonzero((week > 0) & (week > week.max() - WEEKS))
    return kept[np.argsort(-week[kept])]
