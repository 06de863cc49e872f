"""
What is known of users as the risk model sees it: ten weekly steps of 42 features, and the enrolment beside them.

Pure, on batches, shared by training and serving. A step shows a user as he stood at the end of its week, the newest as
he stands now. What is not known is NaN, never 0; what stands in its place is the model's to say. Names, units and
ranges are `FEATURES`, which `docs/risk.md` shows.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream.state import academic, learner
from stream.state.academic import COUNT, LATEST, SUM, WEEKS

VERSION: Final = 1
"""Of the features: a model serves only with the version that it was trained with."""

MAX_DAYS: Final = academic.MOST_DAYS
"""Days without something count up to here: ten weeks."""

_DAY_S = 86_400
_RECENT_WEEKS = 3
_SEVERITY_POINTS: Final = np.array([1.0, 2.0, 4.0])
_MOST = 1_000.0
_LEAST_WEIGHT = 1e-3  # below, it is what taking back has left of sums of 16 bits

Stream = Literal["attendance", "grades", "discipline"]


@dataclass(frozen=True, slots=True)
class Feature:
    """
    One feature of a step.

    Attributes:
        name: As factors name it.
        stream: Which of the three it belongs to.
        unit: Of its values.
        low: Least value.
        high: Greatest value.
        meaning: One sentence.
    """

    name: str
    stream: Stream
    unit: str
    low: float
    high: float
    meaning: str


FEATURES: Final = (
    Feature("present_rate", "attendance", "share", 0, 1, "Lectures attended, of all recorded so far."),
    Feature("absent_rate", "attendance", "share", 0, 1, "Lectures missed without excuse, of all so far."),
    Feature("late_rate", "attendance", "share", 0, 1, "Lectures attended late, of all so far."),
    Feature("excused_rate", "attendance", "share", 0, 1, "Lectures missed with excuse, of all so far."),
    Feature("absent_rate_week", "attendance", "share", 0, 1, "Lectures missed without excuse, of the week's."),
    Feature("absence_trend", "attendance", "share", -1, 1, "Absence of three weeks less that of all so far."),
    Feature("absence_streak", "attendance", "lectures", 0, 100, "Missed one after the other, up to now."),
    Feature("presence_streak", "attendance", "lectures", 0, 100, "Attended one after the other, up to now."),
    Feature("lectures_week", "attendance", "lectures", 0, 255, "Recorded in the week."),
    Feature("days_since_seen", "attendance", "days", 0, MAX_DAYS, "Since a lecture, a piece of work or a click."),
    Feature("active_days", "attendance", "days", 0, 7, "Of the week, on which the platform was used."),
    Feature("answers_week", "attendance", "log(1 + n)", 0, 7, "Answers in the week."),
    Feature("success_rate", "attendance", "share", 0, 1, "Right answers, of all so far."),
    Feature("activity_trend", "attendance", "days", -7, 7, "Active days a week: of two weeks less of the ten."),
    Feature("grade_mean", "grades", "share of points", 0, 1, "Mean of all graded work so far."),
    Feature(
        "grade_weighted_mean",
        "grades",
        "share of points",
        0,
        1,
        "Mean of all graded work so far, by the weight of each.",
    ),
    Feature("grade_latest", "grades", "share of points", 0, 1, "Of the work handed in last, as far as it is graded."),
    Feature("grade_trend", "grades", "share of points", -1, 1, "The latest less the mean so far."),
    Feature("grade_spread", "grades", "share of points", 0, 1, "Standard deviation of all so far."),
    Feature("handed_in", "grades", "pieces", 0, _MOST, "Work handed in so far."),
    Feature("handed_in_week", "grades", "pieces", 0, 255, "Work handed in in the week."),
    Feature("missing", "grades", "pieces", 0, _MOST, "Work overdue and not handed in since."),
    Feature("missing_week", "grades", "pieces", 0, 255, "Work that fell overdue in the week."),
    Feature("weight_missing", "grades", "share of the course", 0, 1, "Weight of what is overdue."),
    Feature("late_share", "grades", "share", 0, 1, "Work handed in late, of what is dated."),
    Feature("days_late_mean", "grades", "days", -MAX_DAYS, MAX_DAYS, "How late work comes; below 0 early."),
    Feature("days_late_latest", "grades", "days", -MAX_DAYS, MAX_DAYS, "The same, of the work handed in last."),
    Feature("course_graded", "grades", "share of the course", 0, 1, "Weight of all graded work so far."),
    Feature("days_since_work", "grades", "days", 0, MAX_DAYS, "Since work was last handed in."),
    Feature("minor_week", "discipline", "incidents", 0, 255, "Minor ones in the week."),
    Feature("moderate_week", "discipline", "incidents", 0, 255, "Moderate ones in the week."),
    Feature("major_week", "discipline", "incidents", 0, 255, "Major ones in the week."),
    Feature("minor", "discipline", "incidents", 0, _MOST, "Minor ones so far."),
    Feature("moderate", "discipline", "incidents", 0, _MOST, "Moderate ones so far."),
    Feature("major", "discipline", "incidents", 0, _MOST, "Major ones so far."),
    Feature("severity_recent", "discipline", "points", 0, _MOST, "Of three weeks: minor 1, moderate 2, major 4."),
    Feature("severity_trend", "discipline", "points a week", -_MOST, _MOST, "Of three weeks less of the ten."),
    Feature("days_since_incident", "discipline", "days", 0, MAX_DAYS, "Since the latest incident."),
    Feature("worst_severity", "discipline", "0 to 3", 0, 3, "Of all so far: none, minor, moderate, major."),
    Feature("weeks_with_incidents", "discipline", "weeks", 0, 10, "Of the ten, up to this one."),
    Feature("sanctions", "discipline", "sanctions", 0, _MOST, "So far."),
    Feature("sanctions_week", "discipline", "sanctions", 0, 255, "In the week."),
)

NAMES: Final = tuple(feature.name for feature in FEATURES)
COLUMN: Final = {name: place for place, name in enumerate(NAMES)}
COLUMNS_OF: Final = {
    stream: slice(
        next(i for i, f in enumerate(FEATURES) if f.stream == stream),
        next(i for i, f in reversed(list(enumerate(FEATURES))) if f.stream == stream) + 1,
    )
    for stream in ("attendance", "grades", "discipline")
}
"""Where each stream's features stand: 14, 15 and 13 of them."""

NUMBERS: Final = ("enrolled_before",)
"""Numbers of an enrolment that are not sent but follow: how many days before the course began it was made."""


@dataclass(frozen=True, slots=True)
class Seen:
    """
    Users as the risk model sees them.

    Attributes:
        steps: float32 `(N, WEEKS, 42)`, the oldest week first, NaN where nothing is known; as exact as float16 is.
        fact: Keys of `field=text` of the enrolment, 0 where there is none, uint64 `(N, FACTS)`.
        day: Days since the course began, by the end of each step, float32 `(N, WEEKS)`, NaN where unknown.
        number: `NUMBERS`, float32 `(N, 1)`, NaN where unknown.
        field: Keys of further numbers' fields, 0 where there is none, uint32 `(N, F)`.
        value: These numbers, float32 `(N, F)`.
    """

    steps: NDArray[np.float32]
    fact: NDArray[np.uint64]
    day: NDArray[np.float32]
    number: NDArray[np.float32]
    field: NDArray[np.uint32]
    value: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.steps)

    def take(self, rows: NDArray[np.integer]) -> "Seen":
        """Return some of the users."""
        return Seen(*(getattr(self, column.name)[rows] for column in fields(self)))

    def numbers(self, names: tuple[str, ...]) -> NDArray[np.float32]:
        """Return numbers of the enrolment by their names, `(N, len(names))`, NaN where unknown."""
        columns = np.full((len(self), len(names)), np.nan, np.float32)
        for place, name in enumerate(names):
            if name in NUMBERS:
                columns[:, place] = self.number[:, NUMBERS.index(name)]
                continue
            found = self.field == academic.field_key(name)
            rows = found.any(axis=1).nonzero()[0]
            columns[rows, place] = self.value[rows, found[rows].argmax(axis=1)]
        return columns


def see(learners: learner.Records, academics: academic.Records, at: NDArray[np.float64]) -> Seen:
    """
    Return users as they stand at a moment.

    Args:
        learners: Their histories, `(N,)`.
        academics: Their weekly steps, `(N,)`.
        at: Seconds since the epoch, `(N,)`; not before what the records hold.
    """
    starts, enrolled = academics["starts_day"].astype(np.int64), academics["enrolled_day"].astype(np.int64)
    is_known = (starts > 0) & (enrolled > 0)
    before = np.where(is_known, np.clip(starts - enrolled, -_MOST, _MOST), np.nan).astype(np.float32)
    return Seen(
        steps(learners, academics, at), academics["fact"], course_days(at, starts), before[:, None],
        academics["number"]["field"], academics["number"]["value"],
    )  # fmt: skip


def course_days(at: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """
    Return the days since a course began, by the end of each of ten steps, `(N, WEEKS)`, NaN where that is unknown.

    Args:
        at: The present moment, seconds since the epoch, `(N,)`.
        starts: The course's first day, since the epoch, 0 for unknown, `(N,)`.
    """
    weeks = academic.weeks_of(at)[:, None] - np.arange(WEEKS - 1, -1, -1)
    days = _last_days(weeks, at) - starts[:, None]
    return np.where(starts[:, None] > 0, np.clip(days, -_MOST, _MOST), np.nan).astype(np.float32)


def _last_days(weeks: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the last days of weeks since the epoch, of the present one today, `(N, WEEKS)`."""
    return np.minimum(academic.first_day(weeks) + 6, (at // _DAY_S).astype(np.int64)[:, None])


class _Ring:
    """
    Weeks of users as columns in time order, whatever stands where in the rings of their records.

    Args:
        records: Users, `(N,)`.
        newest: The newest week of each ring, 0 for none, `(N,)`.
        now: The present week of each, not before it, `(N,)`.

    Attributes:
        week: The ten weeks up to the present one, `(N, WEEKS)`.
    """

    def __init__(self, records: NDArray[Any], newest: NDArray[np.integer], now: NDArray[np.int64]) -> None:
        self._records = records
        self._rows = np.arange(len(records))[:, None]
        back = np.arange(WEEKS - 1, -1, -1)
        newest = newest.astype(np.int64)[:, None]
        self.week = now[:, None] - back
        self._is_there = (self.week <= newest) & (self.week > newest - WEEKS) & (self.week > 0)
        # What the ring holds of weeks before these ten: all of it after a long pause.
        self._ring = newest - back
        self._is_before = (self._ring > 0) & (self._ring < self.week[:, :1])
        self._has_before = bool(self._is_before.any())
        self._read: dict[tuple[str, bool], NDArray[np.float64]] = {}

    def of(self, field: str) -> NDArray[np.float64]:
        """Return a field in each of the ten weeks, 0 where there is none, `(N, WEEKS, …)`."""
        return self._at(field, is_before=False)

    def before(self, field: str) -> NDArray[np.float64]:
        """Return a field in the weeks of the ring before these, 0 where there is none, `(N, WEEKS, …)`."""
        return self._at(field, is_before=True)

    def _at(self, field: str, *, is_before: bool) -> NDArray[np.float64]:
        key = (field, is_before)
        if key not in self._read:
            self._read[key] = self._values(field, is_before=is_before)
        return self._read[key]

    def _values(self, field: str, *, is_before: bool) -> NDArray[np.float64]:
        if is_before and not self._has_before:
            return np.zeros((len(self._rows), WEEKS, *self._records.dtype[field].shape[1:]))
        week, there = (self._ring, self._is_before) if is_before else (self.week, self._is_there)
        values: NDArray[np.float64] = self._records[field][self._rows, week % WEEKS].astype(np.float64)
        return values * there.reshape(there.shape + (1,) * (values.ndim - there.ndim))

    def days(self, weekday: Callable[["_Ring", bool], NDArray[np.float64]]) -> tuple[NDArray[np.float64], ...]:
        """Return the days of weekdays (1 Monday to 7 Sunday, 0 none) since the epoch: in the ten weeks, and before."""
        found = []
        for week, is_before in ((self.week, False), (self._ring, True)):
            of_week = weekday(self, is_before)
            found.append(np.where(of_week > 0, academic.first_day(week) + of_week - 1, np.nan))
        return tuple(found)


def _latest(
    ever: NDArray[np.float64], before: NDArray[np.float64], in_week: NDArray[np.float64]
) -> NDArray[np.float64]:
    """
    Return what was last known by the end of each week, `(N, WEEKS)`, NaN before anything was.

    Args:
        ever: Before all that the rings hold, NaN where nothing was known, `(N,)`.
        before: In weeks of the ring before the ten, `(N, WEEKS)`.
        in_week: In the ten, `(N, WEEKS)`.
    """
    every = np.concatenate([ever[:, None], before, in_week], axis=1)
    place = np.where(np.isnan(every), 0, np.arange(every.shape[1]))
    return np.take_along_axis(every, np.maximum.accumulate(place, axis=1)[:, -WEEKS:], axis=1)


class _School:
    """What the school has recorded of users: in each of the ten weeks, up to each, and lately."""

    def __init__(self, academics: academic.Records, now: NDArray[np.int64]) -> None:
        self._academics = academics
        self._ring = _Ring(academics, academics["week"], now)
        self.week = self._ring.week
        self._parts = {field: self._both(field) for field in ("counts", "sums")}

    def _both(self, field: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return a field before the ten weeks, `(N, C)`, in each, and up to each, `(N, WEEKS, C)`."""
        before = self._academics[f"before_{field}"] + self._ring.before(field).sum(axis=1)
        in_week = self._ring.of(field)
        return before, in_week, before[:, None] + in_week.cumsum(axis=1)

    def in_week(self, name: str) -> NDArray[np.float64]:
        """Return a count in each week, `(N, WEEKS)`."""
        return np.asarray(self._parts["counts"][1][..., COUNT[name]])

    def count(self, name: str) -> NDArray[np.float64]:
        """Return a count up to each week, `(N, WEEKS)`."""
        return np.asarray(self._parts["counts"][2][..., COUNT[name]])

    def sum(self, name: str) -> NDArray[np.float64]:
        """Return a sum up to each week, `(N, WEEKS)`."""
        return np.asarray(self._parts["sums"][2][..., SUM[name]])

    def recent(self, name: str) -> NDArray[np.float64]:
        """Return a count over the latest weeks up to each, `(N, WEEKS)`."""
        return _moving_sum(self.in_week(name), _RECENT_WEEKS)

    def latest_score(self) -> NDArray[np.float64]:
        """Return the share of points of the work graded last by each week, `(N, WEEKS)`."""
        return self._carried("latest_score", "before_score", COUNT["graded"], COUNT["graded"] + 1)

    def latest_late(self) -> NDArray[np.float64]:
        """Return how many days late the work handed in last by each week was, below 0 early, `(N, WEEKS)`."""
        return self._carried("latest_late", "before_late", COUNT["dated"], COUNT["dated"] + 1)

    def streak(self) -> NDArray[np.float64]:
        """Return the run of lectures attended by each week, below 0 missed, 0 before any, `(N, WEEKS)`."""
        return np.nan_to_num(self._carried("streak", "before_streak", 0, len(academic.STATUSES)))

    def _carried(self, field: str, ever: str, first: int, end: int) -> NDArray[np.float64]:
        """Return the latest value of a field that is known in weeks in which one of these counts is above 0."""
        ring = self._ring
        known, known_before = (
            (counts[..., first:end] > 0).any(axis=-1) for counts in (ring.of("counts"), ring.before("counts"))
        )
        known_ever = (self._academics["before_counts"][:, first:end] > 0).any(axis=-1)
        return _latest(
            np.where(known_ever, self._academics[ever], np.nan).astype(np.float64),
            np.where(known_before, ring.before(field), np.nan), np.where(known, ring.of(field), np.nan),
        )  # fmt: skip

    def latest_day(self, name: str) -> NDArray[np.float64]:
        """Return the latest day of something by each week, since the epoch, NaN before any, `(N, WEEKS)`."""
        column = LATEST.index(name)
        counted = [COUNT[kind] for kind in _COUNTED[name]]

        def weekday(ring: _Ring, is_before: bool) -> NDArray[np.float64]:
            read = ring.before if is_before else ring.of
            # Of a week from which all was taken back there is no day.
            return np.where(read("counts")[..., counted].any(axis=-1), read("latest_day")[..., column], 0.0)

        in_week, before = self._ring.days(weekday)
        ever = self._academics["before_day"][:, column].astype(np.float64)
        return _latest(np.where(ever > 0, ever, np.nan), before, in_week)


_COUNTED: Final = {"attended": ("present", "late"), "handed_in": ("handed_in",), "incident": academic.SEVERITIES}
"""What is counted where a latest day is kept."""


def _moving_sum(values: NDArray[np.float64], weeks: int) -> NDArray[np.float64]:
    """Return the sum over so many weeks up to each, `(N, WEEKS)`; of the first, over those that there are."""
    total = values.cumsum(axis=1)
    earlier = np.zeros_like(total)
    earlier[:, weeks:] = total[:, :-weeks]
    return np.asarray(total - earlier)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a share, NaN of nothing."""
    nothing = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.asarray(np.divide(part, whole, out=nothing, where=whole > 0))


def steps(learners: learner.Records, academics: academic.Records, at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the ten weekly steps of users, `(N, WEEKS, 42)`; arguments as `see`."""
    now = academic.weeks_of(at)
    school = _School(academics, now)
    day = _last_days(school.week, at)
    columns = [*_attendance(school, learners, now, day), *_grades(school, day), *_discipline(school, day)]
    stacked = np.stack(columns, axis=-1)
    low_high = np.clip(stacked, _LOW, _HIGH)
    # What goes into training examples is written with so many digits.
    return np.asarray(low_high, np.float16).astype(np.float32)


_LOW = np.array([feature.low for feature in FEATURES])
_HIGH = np.array([feature.high for feature in FEATURES])


def _attendance(
    school: _School, learners: learner.Records, now: NDArray[np.int64], day: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    held = sum((school.count(status) for status in academic.STATUSES), np.zeros_like(school.count("present")))
    held_week = sum((school.in_week(status) for status in academic.STATUSES), np.zeros_like(held))
    held_lately = _moving_sum(held_week, _RECENT_WEEKS)
    absent = _ratio(school.count("absent"), held)
    streak = school.streak()

    ring = _Ring(learners, learners["active_week"], now)
    days = np.bitwise_count(ring.of("active_days").astype(np.uint8)).astype(np.float64)
    answers, correct = ring.of("active_answers"), ring.of("active_correct")
    answered, right = (
        np.maximum(learners[total][:, None] - _after(in_week), 0.0)
        for total, in_week in (("answers", answers), ("correct", correct))
    )
    last_day = (learners["last_at"] // _DAY_S)[:, None]
    is_known = learners["last_at"][:, None] > 0
    week_days, days_before = ring.days(_active_weekday)
    last_before = np.where(is_known & (last_day < academic.first_day(ring.week[:, :1])), last_day, np.nan)[:, 0]
    seen = np.fmax(
        np.fmax(school.latest_day("attended"), school.latest_day("handed_in")),
        np.minimum(_latest(last_before, days_before, week_days), np.where(is_known, last_day, np.nan)),
    )
    lately = _moving_sum(days, 2) / 2 - days.cumsum(axis=1) / np.arange(1, WEEKS + 1)
    return [
        _ratio(school.count("present"), held),
        absent,
        _ratio(school.count("late"), held),
        _ratio(school.count("excused"), held),
        _ratio(school.in_week("absent"), held_week),
        _ratio(school.recent("absent"), held_lately) - absent,
        np.maximum(-streak, 0.0),
        np.maximum(streak, 0.0),
        held_week,
        day - seen,
        np.where(is_known, days, np.nan),
        np.where(is_known, np.log1p(answers), np.nan),
        _ratio(np.minimum(right, answered), answered),
        np.where(is_known, lately, np.nan),
    ]


def _active_weekday(ring: _Ring, is_before: bool) -> NDArray[np.float64]:
    """Return the latest weekday of activity, 0 for none."""
    bits = (ring.before if is_before else ring.of)("active_days")
    return np.asarray(np.floor(np.log2(bits, out=np.full_like(bits, -1.0), where=bits > 0))) + 1


def _after(in_week: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what came after each week, `(N, WEEKS)`."""
    return np.asarray(in_week.sum(axis=1, keepdims=True) - in_week.cumsum(axis=1))


def _grades(school: _School, day: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    graded, dated, weight = school.count("graded"), school.count("dated"), school.sum("weight")
    mean, latest = _ratio(school.sum("score"), graded), school.latest_score()
    variance = _ratio(school.sum("score_squared"), graded) - mean**2
    return [
        mean,
        _ratio(school.sum("weighted_score"), np.where(weight > _LEAST_WEIGHT, weight, 0.0)),
        latest,
        latest - mean,
        np.where(graded > 1, np.sqrt(np.maximum(variance, 0.0)), np.nan),
        school.count("handed_in"),
        school.in_week("handed_in"),
        school.count("overdue") - school.count("recovered"),
        school.in_week("overdue"),
        school.sum("weight_overdue"),
        _ratio(school.count("handed_in_late"), dated),
        _ratio(school.sum("days_late"), dated),
        school.latest_late(),
        weight,
        day - school.latest_day("handed_in"),
    ]


def _discipline(school: _School, day: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    in_week = [school.in_week(severity) for severity in academic.SEVERITIES]
    so_far = [school.count(severity) for severity in academic.SEVERITIES]
    points = np.tensordot(np.stack(in_week, axis=-1), _SEVERITY_POINTS, 1)
    recent = _moving_sum(points, _RECENT_WEEKS)
    worst = np.zeros_like(points)
    for rank, count in enumerate(so_far, 1):
        worst = np.where(count > 0, float(rank), worst)
    return [
        *in_week,
        *so_far,
        recent,
        recent / _RECENT_WEEKS - points.cumsum(axis=1) / np.arange(1, WEEKS + 1),
        day - school.latest_day("incident"),
        worst,
        (points > 0).cumsum(axis=1).astype(np.float64),
        school.count("sanctions"),
        school.in_week("sanctions"),
    ]
