"""
What a school records of one user, folded into weekly steps: a row of a structured array.

Ten weeks of counts and sums, the totals of all weeks before, a journal of the latest events, and what is known of the
enrolment. Pure values, folded in event by event in constant time. Features are `stream.models.weekly`'s, the stored
form `stream.state.codec`'s.
"""

import math
from collections.abc import Collection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas import (
    Academic,
    AttendanceRecorded,
    DisciplineRecorded,
    EnrolmentRecorded,
    GradeRecorded,
    OutcomeRecorded,
    WorkOverdue,
)
from stream.state.learner import FIRST_MONDAY, id48, id64, key64

Records = NDArray[Any]

WEEKS: Final = 10
JOURNAL: Final = 16
"""Latest events that are remembered: none is applied twice, and each may be corrected."""

FACTS: Final = 8
"""Texts of an enrolment that are kept; the first is the course."""

NUMBERS: Final = 4
"""Numbers of an enrolment that are kept."""

STATUSES: Final = ("present", "absent", "late", "excused")
SEVERITIES: Final = ("minor", "moderate", "major")
OUTCOMES: Final = ("distinction", "pass", "fail", "withdrawn")

COUNTS: Final = (
    *STATUSES,
    "handed_in", "graded", "handed_in_late", "dated", "overdue", "recovered",
    *SEVERITIES, "sanctions",
)  # fmt: skip
"""What a week counts. `dated` work says how early or late it was; `recovered` was overdue and has come after all."""

SUMS: Final = ("score", "score_squared", "weight", "weighted_score", "weight_overdue", "days_late")
"""What a week sums up: shares of points, shares of the course, days. `weight` is of graded work."""

LATEST: Final = ("attended", "handed_in", "incident")
"""Whose latest day a week keeps."""

COUNT: Final = {name: place for place, name in enumerate(COUNTS)}
SUM: Final = {name: place for place, name in enumerate(SUMS)}

MOST_DAYS: Final = 70.0
"""Days late or early, and days without something, count up to here: ten weeks."""

_WEEK_S = 7 * 86_400
_DAY_S = 86_400
_MONDAY_S = FIRST_MONDAY * _DAY_S
_LONGEST_STREAK = 100
_COURSE = "course"

_ENTRY: Final = np.dtype([
    ("event_id", "<u2", (3,)),
    ("week", "<u2"),
    ("kind", "u1"),  # a place of COUNTS and 1; 0 counts as nothing
    ("flag", "u1"),  # of an incident: a sanction followed; of work: it was overdue
    ("work", "<u4"),  # of the assessment, 0 for unnamed; of what was replaced, the place of its successor and 1
    ("score", "<f2"),  # share of points; NaN while it is not graded
    ("weight", "<f2"),  # NaN where unknown
    ("days_late", "<f2"),  # NaN where unknown
])  # fmt: skip

DTYPE: Final = np.dtype(
    [
        ("seen", "<i8"),
        ("erasure_seen", "<i8"),
        ("last_at", "<f8"),
        ("events", "<u4"),
        ("outcome", "u1"),
        # The last week at whose end a prediction was published.
        ("closed", "<u2"),
        # The newest week; a week's place is its number modulo WEEKS.
        ("week", "<u2"),
        ("counts", "u1", (WEEKS, len(COUNTS))),
        ("sums", "<f2", (WEEKS, len(SUMS))),
        ("latest_score", "<f2", (WEEKS,)),
        ("latest_late", "<f2", (WEEKS,)),  # days, below 0 early
        ("latest_day", "u1", (WEEKS, len(LATEST))),  # 1 Monday to 7 Sunday, 0 none
        ("streak", "i1", (WEEKS,)),  # of lectures attended, below 0 missed, after the week's latest
        # Of all weeks that have left the ten.
        ("before_counts", "<u2", (len(COUNTS),)),
        ("before_sums", "<f4", (len(SUMS),)),
        ("before_score", "<f2"),
        ("before_late", "<f2"),
        ("before_day", "<u2", (len(LATEST),)),  # since 1970, 0 none
        ("before_streak", "i1"),
        ("journal", _ENTRY, (JOURNAL,)),
        ("starts_day", "<u2"),  # of the course, since 1970; 0 unknown
        ("enrolled_day", "<u2"),
        ("fact", "<u8", (FACTS,)),  # keys of `field=text`
        ("number", [("field", "<u4"), ("value", "<f4")], (NUMBERS,)),
    ]
)

_WEEKLY: Final = ("counts", "sums", "latest_score", "latest_late", "latest_day", "streak")
_BEFORE: Final = ("before_counts", "before_sums", "before_score", "before_late", "before_day", "before_streak")


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
    """
    Return the number of the week, from Monday, that a moment in seconds since the epoch lies in.

    The days of 1970 before the first Monday belong to the first week: 0 stands for none.
    """
    return max(int((at - _MONDAY_S) // _WEEK_S) + 1, 1)


def weeks_of(at: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return `week_of` of each moment."""
    return np.maximum(np.asarray((at - _MONDAY_S) // _WEEK_S, np.int64) + 1, 1)


def week_end(week: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the moment at which weeks end, seconds since the epoch: the first of the next ones."""
    return np.asarray(week * _WEEK_S + _MONDAY_S, np.float64)


def first_day(week: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the Mondays of weeks, in days since the epoch."""
    return np.asarray((week - 1) * 7 + FIRST_MONDAY)


def fact_key(field: str, text: str) -> int:
    """Return the key under which a text of an enrolment is kept."""
    return key64(fact_name(field, text))


def fact_name(field: str, text: str) -> str:
    """Return what such a key stands for."""
    return f"{field}={text}"


def field_key(field: str) -> int:
    """Return the 32 bits under which a number of an enrolment is kept."""
    return key64(field) & 0xFFFF_FFFF or 1


def has_seen(record: Records, event: Academic, offset: int) -> bool:
    """Return whether the event at this offset, or its id, has been applied already."""
    return bool(offset <= record["seen"] or (record["journal"]["event_id"] == _hash(event.event_id)).all(axis=1).any())


def fold(record: Records, event: Academic, offset: int, kept: Collection[str] = ()) -> Records:
    """
    Return a user's record after one event.

    An event goes into its own week, and into the totals if that has left the ten.

    Args:
        record: One row, shape `()`; not changed.
        event: What happened.
        offset: Where it stands in its partition.
        kept: Fields of an enrolment that are kept.
    """
    after = record.copy()
    after["seen"] = offset
    at = event.timestamp.timestamp()
    after["last_at"] = max(float(record["last_at"]), at)
    if isinstance(event, EnrolmentRecorded):
        _enrol(after, event, at, kept)
    elif isinstance(event, OutcomeRecorded) and is_of_course(after, event.course_id):
        after["outcome"] = OUTCOMES.index(event.outcome) + 1
    week, day = week_of(at), int(at // _DAY_S)
    if week > after["week"]:
        _advance(after, week)
    entry = _entry(event, week)
    if entry["kind"]:
        replaced = _take_back(after, event, entry)
        entry["flag"] |= _was_overdue(after, entry, replaced)
        _recover(after, entry)
        _apply(after, entry, 1)
        _take_latest(after, entry, day)
        attended = _is_attended(entry)
        # A correction that leaves a lecture attended, or missed, is not one more of them.
        if attended is None or attended is not _is_attended(replaced):
            _take_streak(after, entry)
    after["journal"][int(after["events"]) % JOURNAL] = entry
    after["events"] += 1
    return after


def is_of_course(record: Records, course_id: str | None) -> bool:
    """Return whether a course may be the one that a user is enrolled in."""
    return course_id is None or record["fact"][0] in (0, fact_key(_COURSE, course_id))


def _enrol(after: Records, event: EnrolmentRecorded, at: float, kept: Collection[str]) -> None:
    """
    Keep what is known of an enrolment, in place; after an outcome all begins anew.

    Not with one that is older than what is known, nor with the same once more: platforms send what they have again.
    """
    starts_day = 0 if event.starts_at is None else int(event.starts_at.timestamp() // _DAY_S)
    if int(at // _DAY_S) < after["enrolled_day"]:
        return
    is_same = after["fact"][0] == fact_key(_COURSE, event.course_id) and after["starts_day"] == starts_day
    if after["outcome"] and not is_same:
        after["outcome"] = 0
        for field in (*_WEEKLY, *_BEFORE):
            after[field] = 0
        after["journal"]["kind"] = after["journal"]["work"] = 0
    context = {field: value for field, value in sorted(event.context.items()) if field in kept and value is not None}
    facts = facts_of(event, kept)
    numbers = [(field_key(f), v) for f, v in context.items() if not isinstance(v, str)][:NUMBERS]
    after["fact"] = 0
    after["fact"][: len(facts)] = [key64(fact) for fact in facts]
    after["number"] = 0
    for place, number in enumerate(numbers):
        after["number"][place] = number
    after["enrolled_day"] = int(at // _DAY_S)
    after["starts_day"] = starts_day


def facts_of(event: EnrolmentRecorded, kept: Collection[str]) -> list[str]:
    """Return the texts of an enrolment that are kept, as `field=text`: the course, then the fields in their order."""
    texts = [fact_name(f, v) for f, v in sorted(event.context.items()) if f in kept and isinstance(v, str)]
    return [fact_name(_COURSE, event.course_id), *texts][:FACTS]


def _advance(after: Records, week: int) -> None:
    """Make a week the newest, in place; those that leave the ten go into the totals."""
    newest = int(after["week"])
    after["week"] = week
    for left in range(newest + 1 - WEEKS, min(week, newest + WEEKS) + 1 - WEEKS) if newest else ():
        place = left % WEEKS
        counts = after["counts"][place]
        if counts.any():
            _leave(after, left, place)
        for field in _WEEKLY:
            after[field][place] = 0


def _leave(after: Records, week: int, place: int) -> None:
    most = np.iinfo(after["before_counts"].dtype).max
    after["before_counts"] = np.minimum(after["before_counts"].astype(np.int64) + after["counts"][place], most)
    after["before_sums"] += after["sums"][place]
    if after["counts"][place][COUNT["graded"]]:
        after["before_score"] = after["latest_score"][place]
    if after["counts"][place][COUNT["dated"]]:
        after["before_late"] = after["latest_late"][place]
    if after["counts"][place][: len(STATUSES)].any():
        after["before_streak"] = after["streak"][place]
    monday = (week - 1) * 7 + FIRST_MONDAY
    days = after["latest_day"][place].astype(np.int64)
    after["before_day"] = np.maximum(after["before_day"], np.where(days > 0, monday + days - 1, 0))


def _entry(event: Academic, week: int) -> Records:
    """Return an event as the journal keeps it, shape `()`."""
    entry = np.zeros((), _ENTRY)
    entry["event_id"], entry["week"] = _hash(event.event_id), week
    entry["score"] = entry["weight"] = entry["days_late"] = np.nan
    match event:
        case AttendanceRecorded():
            entry["kind"] = COUNT[event.status] + 1
        case GradeRecorded():
            entry["kind"] = COUNT["handed_in"] + 1
            entry["work"] = _work(event.assessment_id)
            entry["score"] = math.nan if event.score is None else event.score / event.max_score
            entry["weight"] = math.nan if event.weight is None else event.weight
            days_late = math.nan if event.days_late is None else event.days_late
            entry["days_late"] = np.clip(days_late, -MOST_DAYS, MOST_DAYS)
        case WorkOverdue():
            entry["kind"] = COUNT["overdue"] + 1
            entry["work"] = _work(event.assessment_id)
            entry["weight"] = math.nan if event.weight is None else event.weight
        case DisciplineRecorded():
            entry["kind"] = COUNT[event.severity] + 1
            entry["flag"] = event.sanction is not None
        case _:
            pass
    return entry


def _work(assessment_id: str | None) -> int:
    return 0 if assessment_id is None else key64(assessment_id) & 0xFFFF_FFFF or 1


def _take_back(after: Records, event: Academic, entry: Records) -> Records | None:
    """Take back what an event takes the place of, in place, and return it as the journal had it."""
    place = _replaced(after, event, entry)
    if place is None:
        return None
    replaced: Records = after["journal"][place].copy()
    _apply(after, replaced, -1)
    # Of something that counts for nothing any more, `work` says where that stands which has taken its place. The ring
    # gives up the older of the two first.
    after["journal"][place]["kind"] = 0
    after["journal"][place]["work"] = int(after["events"]) % JOURNAL + 1
    return replaced


def _replaced(record: Records, event: Academic, entry: Records) -> int | None:
    """Return the place in the journal of what an event takes the place of, None if there is nothing."""
    journal = record["journal"]
    there = journal["kind"] > 0
    corrects = getattr(event, "corrects", None)
    if corrects is not None:
        named = (journal["event_id"] == _hash(corrects)).all(axis=1).nonzero()[0]
        place = int(named[0]) if len(named) else None
        # What has been replaced already says by what.
        while place is not None and not there[place]:
            place = int(journal["work"][place]) - 1 if journal["work"][place] else None
        if place is not None:
            return place
    if not entry["work"]:
        return None
    there &= (journal["work"] == entry["work"]) & (journal["kind"] == entry["kind"])
    return int(there.argmax()) if there.any() else None


def _was_overdue(record: Records, entry: Records, replaced: Records | None) -> bool:
    """Return whether work that was handed in had been reported as overdue, or what it takes the place of had."""
    if not entry["work"] or entry["kind"] != COUNT["handed_in"] + 1:
        return False
    if replaced is not None and replaced["work"] == entry["work"] and replaced["flag"]:
        return True
    return bool(_of_work(record, entry, "overdue").any())


def _recover(after: Records, entry: Records) -> None:
    """Take note, in place, that work which is reported as overdue only now has been handed in already."""
    if entry["kind"] != COUNT["overdue"] + 1:
        return
    for place in (_of_work(after, entry, "handed_in") & (after["journal"]["flag"] == 0)).nonzero()[0].tolist():
        handed_in = after["journal"][place]
        _apply(after, handed_in, -1)
        handed_in["flag"] = 1
        _apply(after, handed_in, 1)


def _of_work(record: Records, entry: Records, kind: str) -> NDArray[np.bool_]:
    """Return which entries of the journal are of this kind, and of the same work, `(JOURNAL,)`."""
    journal = record["journal"]
    found: NDArray[np.bool_] = (journal["work"] == entry["work"]) & (journal["kind"] == COUNT[kind] + 1)
    return found


def _apply(after: Records, entry: Records, sign: int) -> None:
    """Add what an entry says to its week, in place, or take it away again."""
    week = int(entry["week"])
    is_kept = week > int(after["week"]) - WEEKS
    counts = after["counts"][week % WEEKS] if is_kept else after["before_counts"]
    sums = after["sums"][week % WEEKS] if is_kept else after["before_sums"]
    counted, summed = _meaning(entry)
    most = np.iinfo(counts.dtype).max
    for name in counted:
        counts[COUNT[name]] = min(max(int(counts[COUNT[name]]) + sign, 0), most)
    for name, value in summed.items():
        sums[SUM[name]] += sign * value


def _meaning(entry: Records) -> tuple[list[str], dict[str, float]]:
    """Return which counts an entry adds one to, and what it adds to which sums."""
    kind = COUNTS[int(entry["kind"]) - 1]
    weight = 0.0 if np.isnan(entry["weight"]) else float(entry["weight"])
    if kind == "overdue":
        return [kind], {"weight_overdue": weight}
    if kind != "handed_in":
        return [kind, "sanctions"] if entry["flag"] else [kind], {}
    counted = [kind]
    summed: dict[str, float] = {}
    score, days_late = float(entry["score"]), float(entry["days_late"])
    if not math.isnan(score):
        counted.append("graded")
        summed |= {"score": score, "score_squared": score * score, "weight": weight, "weighted_score": weight * score}
    if not math.isnan(days_late):
        counted += ["dated", "handed_in_late"] if days_late > 0 else ["dated"]
        summed["days_late"] = days_late
    if entry["flag"]:
        counted.append("recovered")
        summed["weight_overdue"] = -weight
    return counted, summed


def _take_latest(after: Records, entry: Records, day: int) -> None:
    """Keep the latest day of an entry's week, and what is known of the work that came then, in place."""
    kind, week = int(entry["kind"]) - 1, int(entry["week"])
    place = week % WEEKS
    is_kept = week > int(after["week"]) - WEEKS
    weekday = (day - FIRST_MONDAY) % 7 + 1
    which = _LATEST_OF.get(COUNTS[kind])
    if which is not None:
        latest = LATEST.index(which)
        is_latest = weekday >= after["latest_day"][place, latest] if is_kept else day >= after["before_day"][latest]
        if is_latest and is_kept:
            after["latest_day"][place, latest] = weekday
        elif is_latest:
            after["before_day"][latest] = day
        counts = after["counts"][place] if is_kept else after["before_counts"]
        for count, value, of_week, before in _LATEST_VALUES:
            # Of later work it may not be known yet: then the only one that is known is the latest none the less.
            if not np.isnan(entry[value]) and (is_latest or counts[COUNT[count]] == 1):
                if is_kept:
                    after[of_week][place] = entry[value]
                else:
                    after[before] = entry[value]


_LATEST_VALUES: Final = (
    ("graded", "score", "latest_score", "before_score"),
    ("dated", "days_late", "latest_late", "before_late"),
)
"""Of the work that came last: what counts it where it is known, the value, and where that is kept."""

_LATEST_OF: Final = {
    "present": "attended", "late": "attended", "handed_in": "handed_in", **dict.fromkeys(SEVERITIES, "incident"),
}  # fmt: skip


def _is_attended(entry: Records | None) -> bool | None:
    """Return whether an entry is a lecture that was attended, None if it is no lecture or excused."""
    status = COUNTS[int(entry["kind"]) - 1] if entry is not None else ""
    return status != "absent" if status in _STREAKS else None


_STREAKS: Final = frozenset(STATUSES) - {"excused"}


def _take_streak(after: Records, entry: Records) -> None:
    """Count a lecture, if it is one, in the run of its week, in place."""
    week = int(entry["week"])
    if int(entry["kind"]) - 1 < len(STATUSES) and week > int(after["week"]) - WEEKS:
        after["streak"][week % WEEKS] = _streak(after, week, _is_attended(entry))


def _streak(record: Records, week: int, attended: bool | None) -> int:
    """Return the run of lectures attended, below 0 missed, after one more; one that was excused leaves it as it is."""
    run = int(record["before_streak"])
    for earlier in range(week, int(record["week"]) - WEEKS, -1):
        if record["streak"][earlier % WEEKS]:
            run = int(record["streak"][earlier % WEEKS])
            break
    if attended is None:
        return run
    step = 1 if attended else -1
    return max(-_LONGEST_STREAK, min(_LONGEST_STREAK, run + step if run * step > 0 else step))


def _hash(event_id: str) -> NDArray[np.uint16]:
    return id48(np.array(id64(event_id), np.uint64))
