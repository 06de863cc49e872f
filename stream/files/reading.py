"""
What all readers of published answers share: ids, outcomes and times made plain, and rows counted that become no answer.

Published files are taken as they are: users' rows may be mixed and out of order, cells empty, rows doubled, and an
answer to a question of several skills may be a row for each of them. What becomes no answer is skipped and counted.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

import numpy as np

from stream.errors import BadAnswersFile
from stream.files.answers import (
    LATEST_MOMENT_S,
    LONGEST_IDENTIFIER,
    LONGEST_RESPONSE_S,
    MOST_SKILLS,
    RIGHT,
    Answer,
    AnswersFile,
    Passed,
)
from stream.files.csv_file import Table, digest_of, number, plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NO_USER: Final = "no user"
NO_ITEM: Final = "no question"
NO_SKILL: Final = "no skill"
NO_OUTCOME: Final = "no outcome"
NO_TIME: Final = "no time or order"
REPEATED: Final = "told before"
CUT_SHORT: Final = "cut short"

_NOTHING: Final = frozenset({"", "na", "nan", "null", "\\n"})
_ENOUGH: Final = 0.5
"""Of a part credit, to count as right, as `schemas.Interaction` counts scores."""

_SLASHED: Final = re.compile(r"(\d{1,4})/(\d{1,2})/(\d{1,4}) (\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d*)?)?", re.ASCII)
"""A date as spreadsheets write it: year first if that has four digits, else month, day and a year of two or four."""
_DIGITS: Final = 4
_THIS_CENTURY: Final = 69
"""Years of two digits below it, as POSIX has it."""
_UTC: Final = " UTC"

_TURN_S: Final = 1e-6
"""Between answers of one moment, to keep the order of their numbers; far less than any set's moments are apart."""
_TURNS: Final = 1_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Reading:
    """
    One reading of a published file: the answers found so far, and what was passed over.

    Attributes:
        rows: How many were read.
        skipped: Rows that became no answer, by reason.
        remarks: What the reader had to choose, for the user.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.skipped: Counter[str] = Counter()
        self.remarks: list[str] = []
        self._answers: list[Answer] = []
        self._orders = array("d")
        self._views: list[str] = []
        self._names: dict[str, str] = {}
        self._skills: dict[tuple[str, str], tuple[str, ...]] = {}

    def name(self, cell: str) -> str:
        """Return an id as events may have it, empty if the cell says none."""
        name = self._names.get(cell)
        if name is None:
            name = self._names[cell] = _identifier(cell)
        return name

    def skills(self, cell: str, separator: str) -> tuple[str, ...]:
        """Return the skills that a cell names, without doubles; none if it names none."""
        skills = self._skills.get((cell, separator))
        if skills is None:
            parts = (self.name(part) for part in cell.split(separator))
            skills = tuple(dict.fromkeys(part for part in parts if part))[:MOST_SKILLS]
            self._skills[cell, separator] = skills
        return skills

    def take(  # noqa: PLR0913 - what a row may tell of an answer
        self,
        row: int,
        user: str,
        item: str,
        skills: tuple[str, ...],
        correct: bool | None,
        at: float | None,
        response_time_s: float | None,
        order: float | None = None,
        *,
        view: str = "",
    ) -> None:
        """
        Take an answer, or count why it is none.

        Args:
            row: See `Answer`.
            user: Empty if unknown.
            item: Empty if unknown.
            skills: None if unknown.
            correct: None if unknown.
            at: Seconds since 1970; None if unknown.
            response_time_s: None if unknown.
            order: Where it stands among the answers; `at`, if it is not given.
            view: Which time it is that the user meets the item; rows of two views are two answers.
        """
        place = at if order is None else order
        if not user:
            self.skipped[NO_USER] += 1
        elif not item:
            self.skipped[NO_ITEM] += 1
        elif correct is None:
            self.skipped[NO_OUTCOME] += 1
        elif not skills:
            self.skipped[NO_SKILL] += 1
        elif place is None or (at is not None and not 0 <= at < LATEST_MOMENT_S):
            self.skipped[NO_TIME] += 1
        else:
            self._orders.append(place)
            self._views.append(view)
            self._answers.append(Answer(row, user, item, skills, correct, at, response_time_s))

    def done(self, table: Table) -> None:
        """Count the rows of a table that was read to its end."""
        self.rows += table.count
        if table.short:
            self.skipped[CUT_SHORT] += table.short

    def answers(self, path: Path, what: str, read: Sequence[Path]) -> AnswersFile:
        """
        Return what was found, in the order in which it happened.

        Args:
            path: Of the file or folder.
            what: The format, in words.
            read: The files that were read.

        Raises:
            BadAnswersFile: If there is no answer.
        """
        taken = len(self._answers)
        answers, joined = self._settled()
        if taken > len(answers) + joined:
            self.skipped[REPEATED] += taken - len(answers) - joined
        passed = Passed(what, self.rows, joined, dict(+self.skipped), tuple(self.remarks))
        file = AnswersFile(
            path,
            digest_of(read),
            answers,
            has_timestamps=any(answer.at is not None for answer in answers),
            has_response_times=any(answer.response_time_s is not None for answer in answers),
            passed=passed,
        )
        if not answers:
            raise BadAnswersFile(f"{file.told()}: expected an answer at least: check that the file is whole.")
        return file

    def _settled(self) -> tuple[list[Answer], int]:
        """Return the answers in order, rows of the same one joined, and how many rows added a skill."""
        answers, joined, before = self._answers, 0, math.nan
        settled: list[Answer] = []
        same: dict[tuple[str, str, str], int] = {}
        orders = np.asarray(self._orders)
        order = np.argsort(orders, kind="stable")
        for place, which in zip(orders[order].tolist(), order.tolist(), strict=True):
            answer = answers[which]
            if place != before:
                before = place
                same.clear()
            key = (answer.user_id, answer.item_id, self._views[which])
            if key not in same:
                same[key] = len(settled)
                settled.append(answer)
                continue
            first = settled[same[key]]
            skills = tuple(dict.fromkeys((*first.skills, *answer.skills)))
            joined += skills != first.skills
            settled[same[key]] = Answer(
                first.row, first.user_id, first.item_id, skills[:MOST_SKILLS], first.correct, first.at,
                first.response_time_s,
            )  # fmt: skip
        return settled, joined


def outcome(cell: str) -> bool | None:
    """Return whether an answer was right: 0 and 1, words, or a part credit; None of anything else."""
    correct = RIGHT.get(cell)
    if correct is None:
        text = cell.strip().lower()
        correct = RIGHT.get(text)
        if correct is None:
            score = number(text)
            correct = score >= _ENOUGH if score is not None and 0 <= score <= 1 else None
    return correct


def response_time(cell: str, per_second: float = 1.0) -> float | None:
    """Return a response time in seconds, of a cell in units of which so many make a second; None if it can be none."""
    value = number(cell)
    return None if value is None else possible(value / per_second)


def possible(response_time_s: float) -> float | None:
    """Return a response time that events may have, None instead of any other."""
    return response_time_s if 0 <= response_time_s <= LONGEST_RESPONSE_S else None


def later(at: float | None, seconds: float | None) -> float | None:
    """Return the moment some seconds after another; the other, if the seconds are unknown."""
    return at if at is None or seconds is None else at + seconds


def in_turn(at: float | None, cell: str) -> float | None:
    """Return where an answer stands of whose turn among those of its moment a cell tells the number."""
    turn = number(cell)
    return at if at is None or turn is None or not 0 <= turn < _TURNS else at + turn * _TURN_S


def moment(cell: str, zone: tzinfo = UTC) -> float | None:
    """Return seconds since 1970 of a date and time; those without a zone are of `zone`. None if there is none."""
    text = cell.strip()
    if not text:
        return None
    if text.endswith(_UTC):
        text, zone = text.removesuffix(_UTC), UTC
    slashed = _SLASHED.fullmatch(text)
    try:
        at = datetime.fromisoformat(text) if slashed is None else _date(*slashed.groups(default="0"))
    except ValueError:
        return None
    return _seconds(at if at.tzinfo else at.replace(tzinfo=zone))


def _date(one: str, two: str, three: str, hour: str, minute: str, second: str) -> datetime:
    if len(one) == _DIGITS:
        year, month, day = one, two, three
    else:
        month, day, year = one, two, three
    of = int(year)
    if len(year) != _DIGITS:
        of += 2000 if of < _THIS_CENTURY else 1900
    return datetime(of, int(month), int(day), int(hour), int(minute), int(second))  # noqa: DTZ001 - the caller's


def _seconds(at: datetime) -> float:
    return (at - _EPOCH) / timedelta(seconds=1)


def _identifier(cell: str) -> str:
    name = plain(cell)
    if name.lower() in _NOTHING:
        return ""
    if len(name) > LONGEST_IDENTIFIER:  # cut, and kept apart from others that begin alike
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        name = f"{name[: LONGEST_IDENTIFIER - len(digest) - 1]}~{digest}"
    return name
