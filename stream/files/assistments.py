"""
Published answers of ASSISTments: the sets of 2009, 2012, 2015 and 2017.

Up to 2015 `correct` is of the first response, and so are moment and response time here: the moment is when the problem
was shown plus the time up to the first response, never when the problem was left. The set of 2017 has a row for each
action, and does not say which are first responses: outcome and time are the action's own, and the moment is its end.
Rows that differ in the skill alone are one answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.files.csv_file import number, open_table
from stream.files.reading import in_turn, later, moment, outcome, response_time

if TYPE_CHECKING:
    from pathlib import Path

    from stream.files.reading import Reading

FIRST_RESPONSE = ("ms_first_response", "ms_first_response_time")
SKILL_IDS = ("skill_id", "list_skill_ids")


def read_2009(path: Path, reading: Reading) -> None:
    """Read the set of 2009-2010, which has an order and no moments."""
    columns = ("user_id", "problem_id", SKILL_IDS, "correct", FIRST_RESPONSE, "order_id")
    with open_table(path) as table:
        for row, (user, item, skill, correct, first, order) in table.rows(*columns):
            reading.take(
                row, reading.name(user), reading.name(item), _skills(reading, skill), outcome(correct), None,
                response_time(first, 1000), number(order),
            )  # fmt: skip
        reading.done(table)


def read_2012(path: Path, reading: Reading) -> None:
    """Read the set of 2012-2013, whose moments say no zone: taken as UTC."""
    columns = ("user_id", "problem_id", SKILL_IDS, "correct", FIRST_RESPONSE, "start_time")
    with open_table(path) as table:
        for row, (user, item, skill, correct, first, start) in table.rows(*columns):
            time_s = response_time(first, 1000)
            reading.take(
                row, reading.name(user), reading.name(item), _skills(reading, skill), outcome(correct),
                later(moment(start), time_s), time_s,
            )  # fmt: skip
        reading.done(table)


def read_2015(path: Path, reading: Reading) -> None:
    """Read the set of 2014-2015, which knows neither problems nor times: its sequences are item and skill."""
    with open_table(path) as table:
        for row, (user, sequence, correct, order) in table.rows("user_id", "sequence_id", "correct", "log_id"):
            item = reading.name(sequence)
            skills = (item,) if item else ()
            reading.take(row, reading.name(user), item, skills, outcome(correct), None, None, number(order))
        reading.done(table)


def read_2017(path: Path, reading: Reading) -> None:
    """Read the set of the 2017 challenge, action by action; its times are Unix seconds."""
    columns = ("studentId", "problemId", "skill", "correct", "timeTaken", "startTime", ("action_num", "actionId"))
    with open_table(path) as table:
        for row, (user, item, skill, correct, taken, start, turn) in table.rows(*columns):
            time_s = response_time(taken)
            at = later(number(start), time_s)
            reading.take(
                row, reading.name(user), reading.name(item), reading.skills(skill, ";"), outcome(correct),
                at, time_s, in_turn(at, turn),
            )  # fmt: skip
        reading.done(table)


def _skills(reading: Reading, cell: str) -> tuple[str, ...]:
    """Return the skills of a cell: one id, or several, which one edition joins by `_` and another by `;`."""
    return reading.skills(cell, "_" if cell.replace("_", "").isdigit() else ";")
