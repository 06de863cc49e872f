"""
Our own format of past answers: CSV, one row for each answer, described in `docs/answers.md`.

A file is read whole and checked row by row; the first fault ends the reading with one sentence that says how
to mend it.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING

from stream.files.answers import (
    LATEST_MOMENT_S,
    LONGEST_IDENTIFIER,
    LONGEST_RESPONSE_S,
    MOST_SKILLS,
    RIGHT,
    Answer,
    AnswersFile,
)
from stream.files.csv_file import CsvFile, number, open_csv, shown

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED_COLUMNS = ("user_id", "item_id", "skill_id", "correct")
OPTIONAL_COLUMNS = ("timestamp", "response_time_seconds")


def read(path: Path) -> AnswersFile:
    """
    Read a file of our own format whole.

    Raises:
        BadAnswersFile: At the first thing that is not as the format says.
    """
    with open_csv(path, "a CSV file of answers", REQUIRED_COLUMNS) as file:
        answers = _Rows(file).read()
    return AnswersFile(
        path=path,
        digest=file.digest,
        answers=answers,
        has_timestamps=answers[0].at is not None,
        has_response_times=any(answer.response_time_s is not None for answer in answers),
    )


class _Rows:
    """One reading of one file: where it stands, and the strings met so far, which rows share."""

    def __init__(self, file: CsvFile) -> None:
        self.file = file
        self.identifiers: dict[str, str] = {}
        self.skills: dict[str, tuple[str, ...]] = {}
        self.latest: dict[str, float] = {}
        self.is_timed = False
        self.is_dated = False

    def read(self) -> list[Answer]:
        file = self.file
        user, item, skill, correct = map(file.place, REQUIRED_COLUMNS)
        moment, response_time = (file.place(name) if name in file.header else None for name in OPTIONAL_COLUMNS)
        answers: list[Answer] = []
        for cells in file.rows():
            user_id = self.identifiers.get(cells[user]) or self._identifier("user_id", cells[user])
            answer = Answer(
                row=len(answers),
                user_id=user_id,
                item_id=self.identifiers.get(cells[item]) or self._identifier("item_id", cells[item]),
                skills=self.skills.get(cells[skill]) or self._skills(cells[skill]),
                correct=self._correct(cells[correct]),
                at=None if moment is None else self._moment(cells[moment], user_id, is_first=not answers),
                response_time_s=None if response_time is None else self._response_time(cells[response_time]),
            )
            answers.append(answer)
        if not answers:
            self.file.refuse(None, "an answer after the header", "no rows", "check how the file was made")
        return answers

    def _identifier(self, column: str, cell: str) -> str:
        text = cell.strip()
        if not text:
            self.file.refuse(column, "an id", "an empty cell", "fill it in or leave the row out")
        if len(text) > LONGEST_IDENTIFIER:
            self.file.refuse(column, f"at most {LONGEST_IDENTIFIER} characters", f"{len(text)}", "use a shorter id")
        if any(unicodedata.category(letter) == "Cc" for letter in text):
            self.file.refuse(column, "an id without control characters", shown(cell), "take them out")
        self.identifiers[cell] = text
        return text

    def _skills(self, cell: str) -> tuple[str, ...]:
        skills = tuple(dict.fromkeys(self._identifier("skill_id", part) for part in cell.split(";")))
        if len(skills) > MOST_SKILLS:
            expected = f"at most {MOST_SKILLS} skills, joined by ';'"
            self.file.refuse("skill_id", expected, f"{len(skills)}", "keep the main ones")
        self.skills[cell] = skills
        return skills

    def _correct(self, cell: str) -> bool:
        correct = RIGHT.get(cell)
        if correct is None:
            correct = RIGHT.get(cell.strip().lower())
        if correct is None:
            self.file.refuse("correct", "0 or 1 (or false, true, 0.0, 1.0)", shown(cell), "turn scores into 0 and 1")
        return correct

    def _moment(self, cell: str, user_id: str, *, is_first: bool) -> float | None:
        seconds = self._seconds(cell)
        is_date = ":" in cell  # as RFC 3339 has it, and a number has not
        if is_first:
            self.is_timed, self.is_dated = seconds is not None, is_date
        if (seconds is not None) is not self.is_timed:
            like = "a moment" if self.is_timed else "an empty cell"
            expected = f"{like}, as in the rows before"
            self.file.refuse("timestamp", expected, shown(cell), "give every row a timestamp, or none")
        if is_date is not self.is_dated:
            like = "an RFC 3339 moment" if self.is_dated else "a number of seconds"
            self.file.refuse("timestamp", f"{like}, as in the rows before", shown(cell), "write all of them in one way")
        if seconds is not None:
            if seconds < self.latest.get(user_id, seconds):
                expected = f"a moment not before the earlier row of user {shown(user_id)}"
                self.file.refuse("timestamp", expected, shown(cell), "sort the file by user and time")
            self.latest[user_id] = seconds
        return seconds

    def _seconds(self, cell: str) -> float | None:
        text = cell.strip()
        if not text:
            return None
        seconds = number(text)
        if seconds is None:
            seconds = self._rfc3339(text)
        if not 0 <= seconds < LATEST_MOMENT_S:
            expected = "a moment from 1970 to 2100, numbers in seconds"
            self.file.refuse("timestamp", expected, shown(cell), "divide milliseconds by 1000")
        return seconds

    def _rfc3339(self, text: str) -> float:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            expected = "RFC 3339 with a zone (2026-01-05T08:00:00Z) or a number of seconds"
            self.file.refuse("timestamp", expected, shown(text), "write it so")
        return moment.timestamp()

    def _response_time(self, cell: str) -> float | None:
        text = cell.strip()
        if not text:
            return None
        seconds = number(text)
        if seconds is None or not 0 <= seconds <= LONGEST_RESPONSE_S:
            expected = f"a number of seconds from 0 to {LONGEST_RESPONSE_S:.0f}"
            self.file.refuse("response_time_seconds", expected, shown(cell), "mend it, or leave the cell empty")
        return seconds
