"""
Tables of DataShop: transactions, steps of students, and the steps of the KDD Cup 2010 in nearly the same form.

A step of a problem is the item. Only its first attempt is an answer, as DataShop's own learning curves have it: asking
for a hint first counts as wrong there, and so it does here. Of several models of skills ("KC"), one is taken.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from stream.errors import BadAnswersFile
from stream.files.answers import LATEST_MOMENT_S
from stream.files.csv_file import number, open_table, shown
from stream.files.reading import moment, outcome, possible, response_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo
    from pathlib import Path

    from stream.files.reading import Reading

NOT_FIRST: Final = "not the first attempt"
HINT: Final = "a later hint"
MANY: Final = "~~"
"""Joins the skills of a cell."""

_MADE: Final = {"single-kc", "unique-step"}
"""Models that DataShop makes of every set: all steps one skill, each step its own."""

_OUTCOMES: Final[dict[str, bool | None]] = {
    "correct": True, "ok": True, "incorrect": False, "error": False, "bug": False, "jit": False, "hint": False,
    "initial_hint": False, "hint_level_change": None, "freebie_jit": None,
}  # fmt: skip
"""
Of attempts. A message just in time ("JIT") answers an error that the tutor knows; a free one is held against nobody.

What is None is no answer, and yet an attempt: the one after it has had help, and is not the first.
"""
_HINTS: Final = frozenset({"hint", "initial_hint", "hint_level_change"})

_OFFSET: Final = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?", re.ASCII)
_ABBREVIATED: Final = {
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8,
    "HST": -10,
}  # fmt: skip
"""Hours from UTC of what DataShop's senders, of North America nearly all, call their zones."""

_FIRST_S: Final = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
"""No tutor's log is older: a number from it on is one of seconds, not of milliseconds in January 1970."""


def read_steps(path: Path, reading: Reading) -> None:
    """Read steps of students: an answer for each, at its first transaction, counted from where the step began."""
    columns = (
        "Anon Student Id", "Problem Name", "Step Name", ("Correct First Attempt", "First Attempt"),
        "First Transaction Time", "Step Start Time", "Problem View",
    )  # fmt: skip
    with open_table(path) as table:
        model = _model(table.header, reading)
        rows = table.rows_at([*table.places(*columns), *model])
        for row, (user, problem, step, first, at, start, view, *skills) in rows:
            correct = outcome(first)
            answered, began = moment(at), moment(start) if _has_seconds(at) else None
            time_s = None if answered is None or began is None else possible(answered - began)
            reading.take(
                row, reading.name(user), _item(reading, problem, step), _skills(reading, problem, skills),
                _OUTCOMES.get(first.strip().lower()) if correct is None else correct, answered, time_s, view=view,
            )  # fmt: skip
        reading.done(table)


def read_transactions(path: Path, reading: Reading) -> None:
    """Read transactions: of each step the first attempt, later ones and later hints being skipped."""
    columns = (
        "Anon Student Id", "Problem Name", "Problem View", "Step Name", "Attempt At Step", "Outcome", "Time",
        "Time Zone", "Duration (sec)",
    )  # fmt: skip
    begun: set[tuple[str, str, str]] = set()
    zones: dict[str, tzinfo | None] = {}
    with open_table(path) as table:
        model = _model(table.header, reading)
        rows = table.rows_at([*table.places(*columns), *model])
        for row, (user, problem, view, step, attempt, result, at, zone, taken, *skills) in rows:
            item, said = _item(reading, problem, step), result.strip().lower()
            count, this = number(attempt), (user, item, view)
            is_first = this not in begun if count is None else count == 1
            if item and said in _OUTCOMES:
                if not is_first:
                    reading.skipped[HINT if said in _HINTS else NOT_FIRST] += 1
                    continue
                if count is None:
                    begun.add(this)
            reading.take(
                row, reading.name(user), item, _skills(reading, problem, skills), _OUTCOMES.get(said),
                _time(path, at, zone, zones), response_time(taken) if _has_seconds(at) else None, view=view,
            )  # fmt: skip
        reading.done(table)
    unknown = sorted(name for name, known in zones.items() if known is None)
    if unknown:
        reading.remarks.append(f"times of the zones {', '.join(unknown)}, which are not known here, are taken as UTC")


def _item(reading: Reading, problem: str, step: str) -> str:
    names = reading.name(problem), reading.name(step)
    return reading.name("/".join(names)) if all(names) else ""


def _model(header: Sequence[str], reading: Reading) -> list[int]:
    """Return the columns of the model of skills that is taken: the first that somebody made, else the first."""
    models = dict.fromkeys(name for name in header if name.startswith(("KC(", "KC (")))
    if not models:
        reading.remarks.append("no column KC(…): a step's skill is its problem")
        return []
    chosen = next((name for name in models if name.partition("(")[2].strip(" )").lower() not in _MADE), None)
    name = chosen or next(iter(models))
    others = f", one of {len(models)} models" if len(models) > 1 else ""
    reading.remarks.append(f"skills are those of {name}{others}")
    return [place for place, column in enumerate(header) if column == name]


def _skills(reading: Reading, problem: str, cells: list[str]) -> tuple[str, ...]:
    """Return a step's skills: a cell joins them, or each has a column of the model's name."""
    return reading.skills(MANY.join(cells) if cells else problem, MANY)


def _has_seconds(cell: str) -> bool:
    """Return whether a moment is not rounded to minutes; if it is, it less a response time would tell that time."""
    return cell.count(":") != 1


def _time(path: Path, cell: str, name: str, zones: dict[str, tzinfo | None]) -> float | None:
    """Return a transaction's moment: a date and time of its time zone, or milliseconds since 1970."""
    ms = number(cell)
    if ms is not None:
        if _FIRST_S <= ms < LATEST_MOMENT_S:
            raise BadAnswersFile(
                f"{path}: expected the column Time to hold dates and times or milliseconds since 1970, found "
                f"{shown(cell)}, which are seconds: turn them into milliseconds; of Junyi's log take "
                "junyi_ProblemLog_original.csv instead."
            )
        return ms / 1000
    if name not in zones:
        zones[name] = _zone(name.strip())
    return moment(cell, zones[name] or UTC)


def _zone(name: str) -> tzinfo | None:
    """Return a time zone, UTC if none is named; None if there is none of the name."""
    offset = _OFFSET.fullmatch(name)
    if offset:
        hours, minutes = int(offset[2]), int(offset[3] or 0)
        east = timedelta(hours=hours, minutes=minutes) * (-1 if offset[1] == "-" else 1)
        return timezone(east) if abs(east) < timedelta(days=1) else None
    if name in _ABBREVIATED:
        return timezone(timedelta(hours=_ABBREVIATED[name]))
    try:
        return ZoneInfo(name) if name else UTC
    except (LookupError, ValueError, OSError):  # not there, no name, a folder of them
        return None
