"""
A folder of past enrolments as snapshots, and whose they are: training, validation or test.

Every snapshot is seen through the worker's own fold: events go one after the other into the packed record of their
user, and `stream.models.weekly` looks at it at the end of a day. What happens later cannot reach it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas import EnrolmentRecorded
from schemas.events import ACADEMIC
from stream.errors import UserError
from stream.files.oulad import Happened, Oulad
from stream.learning.history import parts_of
from stream.learning.risk.snapshots import Snapshots, risk_of
from stream.models import weekly
from stream.models.risk_network import Vocabulary
from stream.state import academic, learner
from stream.state.academic import OUTCOMES

DAYS: Final = (30, 60, 90, 120)
"""Days of a presentation at whose end users are judged in an evaluation."""

DRAWN: Final = 32
"""Days of each enrolment that are learned from, at most."""

LAST: Final = 300
"""Day up to which they are drawn: no presentation is longer."""

_FIRST, _EARLY, _OFTEN = 7, 140, 2 / 3
"""Day from which days are drawn, and the one up to which so large a share of them is."""

_LEAST_STUDENTS = 250
_AT_ONCE = 4_096
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Moments:
    """
    Whom to look at, and when.

    Attributes:
        enrolment: Place in `Oulad.enrolments`, ascending, int64 `(N,)`.
        day: Of the presentation, at whose end, ascending within an enrolment, int64 `(N,)`.
    """

    enrolment: NDArray[np.int64]
    day: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.day)

    def of(self, chosen: NDArray[np.bool_]) -> "Moments":
        """Return those of some enrolments, `(enrolments,)`."""
        rows = chosen[self.enrolment]
        return Moments(self.enrolment[rows], self.day[rows])


def students_of(oulad: Oulad) -> NDArray[np.int64]:
    """Return the number of each enrolment's student, from 0, in order of appearance, `(enrolments,)`."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(enrolment.student, len(number)) for enrolment in oulad.enrolments])


def check(oulad: Oulad) -> None:
    """
    Check that there are students enough to hold some out.

    Raises:
        UserError: If there are not.
    """
    students = len({enrolment.student for enrolment in oulad.enrolments})
    if students < _LEAST_STUDENTS:
        raise UserError(
            f"{oulad.path}: expected at least {_LEAST_STUDENTS} students, so that some can be held out, found "
            f"{students}; use a folder with more of them"
        )


def split(oulad: Oulad, seed: int) -> NDArray[np.int8]:
    """Return the part of each enrolment, `(enrolments,)`; all enrolments of a student are in one."""
    student = students_of(oulad)
    return parts_of(int(student.max()) + 1, seed)[student]


def moments(oulad: Oulad, days: Sequence[int]) -> Moments:
    """
    Return everyone who is registered and has not withdrawn by the end of each day, while his presentation goes on.

    Args:
        oulad: Past enrolments.
        days: Of the presentations, ascending.
    """
    since, until = _spans(oulad)
    at = np.asarray(days, np.int64)
    enrolment, place = ((since[:, None] <= at) & (at < until[:, None])).nonzero()
    return Moments(enrolment, at[place])


def drawn(oulad: Oulad, count: int, last: int, seed: int) -> Moments:
    """
    Return days of each enrolment drawn at random, so that each day has everyone on it whom `moments` would look at.

    Who left early has fewer days than who stayed: else those who are to leave would be too many among the early days,
    and what is learned of these days too dark. Early days are drawn more often: then there is most to be learned, and
    most to be done.

    Args:
        oulad: Past enrolments.
        count: Days drawn for each; those on which nobody would look at it are left out.
        last: Day up to which they are drawn, from 0.
        seed: Of the draw.
    """
    since, until = _spans(oulad)
    random = np.random.default_rng(seed)
    share = (np.arange(count) + random.random((len(since), count))) / count
    day = np.interp(share, (0, _OFTEN, 1), (min(_FIRST, last), min(_EARLY, last), last + 1)).astype(np.int64)
    enrolment, place = ((since[:, None] <= day) & (day < until[:, None])).nonzero()
    pairs = np.unique(np.stack([enrolment, day[enrolment, place]], axis=1), axis=0)
    return Moments(pairs[:, 0], pairs[:, 1])


def _spans(oulad: Oulad) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return from which day on each enrolment is looked at, and the day from which it is no more, `(enrolments,)`."""
    until = np.array([enrolment.days for enrolment in oulad.enrolments], np.int64)
    # Nobody is looked at before he has registered.
    since = until.copy()
    for event in oulad.happened:
        if event.kind == "registered":
            since[event.enrolment] = min(event.day, since[event.enrolment])
        elif event.kind == "withdrawn":
            until[event.enrolment] = min(event.day, until[event.enrolment])
    return since, until


def look(oulad: Oulad, at: Moments, kept: Collection[str], advance: Callable[[float], None]) -> Snapshots:
    """
    Return what the model sees at moments, and what became of the users, one row a moment.

    Args:
        oulad: Past enrolments.
        at: The moments, at least one.
        kept: Fields of an enrolment that the model may see.
        advance: Told of each share of the work that is done.

    Returns:
        Their steps as float16, for there are many; they are no more exact in any case.
    """
    parts: list[Snapshots] = []
    seen: list[academic.Records] = []
    row = 0
    for enrolment, happened in _by_enrolment(oulad):
        first = row
        while row < len(at) and at.enrolment[row] == enrolment:
            row += 1
        seen += _records(oulad, happened, at.day[first:row].tolist(), kept)
        if len(seen) >= _AT_ONCE or row == len(at):
            rows = slice(row - len(seen), row)
            parts.append(_snapshots(oulad, at.enrolment[rows], at.day[rows], seen))
            advance(len(seen) / max(len(at), 1))
            seen = []
        if row == len(at):
            break
    return Snapshots.joined(parts)


def _by_enrolment(oulad: Oulad) -> Iterator[tuple[int, list[tuple[int, Happened]]]]:
    """Give the events of each enrolment in time order, with their places in the stream."""
    of: list[list[tuple[int, Happened]]] = [[] for _ in oulad.enrolments]
    for offset, event in enumerate(oulad.happened):
        of[event.enrolment].append((offset, event))
    yield from enumerate(of)


def _records(
    oulad: Oulad, happened: Sequence[tuple[int, Happened]], days: Sequence[int], kept: Collection[str]
) -> list[academic.Records]:
    """Return a user's record at the end of each of some days, ascending."""
    record = academic.new_academics(1)[0]
    records: list[academic.Records] = []
    for offset, event in happened:
        while len(records) < len(days) and days[len(records)] < event.day:
            records.append(record)
        if len(records) == len(days):
            break
        record = academic.fold(record, ACADEMIC.validate_python(oulad.event(event)), offset, kept)
    return records + [record] * (len(days) - len(records))


def _snapshots(
    oulad: Oulad, enrolment: NDArray[np.int64], day: NDArray[np.int64], records: Sequence[academic.Records]
) -> Snapshots:
    of = [oulad.enrolments[place] for place in enrolment.tolist()]
    starts_at = np.array([e.starts_at.timestamp() for e in of], np.float64)
    at: NDArray[np.float64] = starts_at + (day + 1) * _DAY_S - 1
    school = np.array(records, academic.DTYPE)
    # The data set tells of no answers: nothing is known but what the school records.
    learners = learner.new_learners(len(of), 0)
    outcome = np.array([OUTCOMES.index(e.outcome) for e in of])
    seen = weekly.see(learners, school, at)
    steps: NDArray[Any] = seen.steps.astype(np.float16)
    return Snapshots(replace(seen, steps=steps), enrolment, academic.weeks_of(at), outcome, risk_of(outcome))


def vocabulary(oulad: Oulad, chosen: NDArray[np.bool_], kept: Collection[str]) -> Vocabulary:
    """Return what there is to know of some enrolments, `(enrolments,)`: their texts, and which numbers they have."""
    facts: set[str] = set()
    numbers: set[str] = set()
    for happened in oulad.happened:
        if happened.kind == "registered" and chosen[happened.enrolment]:
            event = ACADEMIC.validate_python(oulad.event(happened))
            assert isinstance(event, EnrolmentRecorded)  # noqa: S101 (that is what a registration becomes)
            facts.update(academic.facts_of(event, kept))
            numbers.update(f for f, v in event.context.items() if f in kept and not isinstance(v, str | None))
    return Vocabulary(sorted(facts), (*weekly.NUMBERS, *sorted(numbers)))
