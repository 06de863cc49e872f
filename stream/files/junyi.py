"""
Published answers of Junyi Academy: the log of 2012-2015, and that of 2018-2019.

The first has a row for each exercise done: its outcome is that of the first attempt, and so are the moment and the
response time here. The second gets none: it says how long all attempts took, and its moments are rounded to quarters
of an hour, so that when a question was asked (the moment less that time) would tell the time that is to be predicted.
"""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Final

from stream.files.csv_file import number, open_table
from stream.files.reading import in_turn, moment, outcome, possible, response_time

if TYPE_CHECKING:
    from pathlib import Path

    from stream.files.reading import Reading

EXERCISES: Final = "junyi_Exercise_table.csv"
"""The table that names the exercises' topics."""

_TAIWAN: Final = timezone(timedelta(hours=8))
_MARK: Final = " UTC"
"""Written after moments by the database that they came from, which knew no zone; the column says Taiwan's."""


def read(path: Path, reading: Reading) -> None:
    """Read the log of 2012-2015: an exercise is item and skill; the skill is its topic if `EXERCISES` lies beside."""
    topics = _topics(path.parent / EXERCISES, reading)
    columns = ("user_id", "exercise", "correct", "time_done", "time_taken", "time_taken_attempts")
    with open_table(path) as table:
        for row, (user, exercise, correct, done, taken, attempts) in table.rows(*columns):
            item = reading.name(exercise)
            skills = (topics.get(item, item),) if item else ()
            time_s, at = _first(done, response_time(taken), attempts)
            reading.take(row, reading.name(user), item, skills, outcome(correct), at, time_s)
        reading.done(table)


def read_2019(path: Path, reading: Reading) -> None:
    """Read the log of 2018-2019: a problem is the item, its exercise (`ucid`) the skill."""
    columns = ("uuid", "upid", "ucid", "is_correct", "timestamp_TW", "problem_number")
    with open_table(path) as table:
        for row, (user, problem, exercise, correct, rounded, turn) in table.rows(*columns):
            at = moment(rounded.strip().removesuffix(_MARK), _TAIWAN)
            skill = reading.name(exercise)
            reading.take(
                row, reading.name(user), reading.name(problem), (skill,) if skill else (), outcome(correct), at,
                None, in_turn(at, turn),
            )  # fmt: skip
        reading.done(table)


def _first(done: str, taken_s: float | None, attempts: str) -> tuple[float | None, float | None]:
    """Return the time of the first attempt (the log joins them by `&`), and when it ended; `done` in microseconds."""
    ended = number(done)
    if ended is None:
        return taken_s, None
    first = number(attempts.split("&", 1)[0])
    if first is None or taken_s is None or not 0 <= first <= taken_s:
        return taken_s, ended / 1e6
    return possible(first), ended / 1e6 - (taken_s - first)


def _topics(path: Path, reading: Reading) -> dict[str, str]:
    """Return the topics of exercises, none if there is no table of them."""
    if not path.exists():
        return {}
    reading.remarks.append(f"skills are the topics of {path.name}")
    with open_table(path) as table:
        table.demand("Junyi's table of exercises", "name", "topic")
        pairs = ((reading.name(name), reading.name(topic)) for _, (name, topic) in table.rows("name", "topic"))
        return {name: topic for name, topic in pairs if name and topic}
