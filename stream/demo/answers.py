"""
Files of past answers (CSV, also gzipped), for replay, training and evaluation.

A file is read whole and checked row by row; the first fault ends the reading with one sentence that says how
to mend it. Nothing here sends anything; foreign formats become events in `stream.adapters`.
"""

from __future__ import annotations

import unicodedata
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from stream.demo.csv_file import CsvFile, number, open_csv, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUIRED_COLUMNS = ("user_id", "item_id", "skill_id", "correct")
OPTIONAL_COLUMNS = ("timestamp", "response_time_seconds")

_CORRECT = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}
# The limits of `schemas.Interaction`: a row that breaks them would end as a dead letter.
_LONGEST_IDENTIFIER = 256
_MOST_SKILLS = 16
_LONGEST_RESPONSE_S = 7 * 86400.0
_LATEST_MOMENT_S = datetime(2101, 1, 1, tzinfo=UTC).timestamp()

_MADE_UP_START_S = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
_MADE_UP_TURN_S = 60.0
_EVENT_IDS = uuid.UUID("5b1f0a52-6a0c-5f0e-9d0f-3c1f6a7f2f10")


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One row of a file of answers.

    Attributes:
        row: 0-based, the header and blank lines not counted.

        skills: At least one, without doubles, in the file's order.

        at: Seconds since 1970 (relative seconds fall in 1970). `None` if the file has no timestamps.

        response_time_s: `None` where the file does not say.
    """

    row: int
    user_id: str
    item_id: str
    skills: tuple[str, ...]
    correct: bool
    at: float | None
    response_time_s: float | None


@dataclass(frozen=True, slots=True)
class AnswersFile:
    """
    A file of answers, read and checked.

    Attributes:
        digest: SHA-256 of the file's bytes as they lie on disk (gzipped or not), in hex.

        answers: In the file's order; never empty.

        has_timestamps: Every answer has one, or none has.

        has_response_times: At least one answer has one.
    """

    path: Path
    digest: str
    answers: list[Answer]
    has_timestamps: bool
    has_response_times: bool


def read_answers(path: Path) -> AnswersFile:
    """
    Read a file of answers whole.

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


def in_replay_order(file: AnswersFile) -> Iterator[Answer]:
    """
    Give the answers in the order in which they are replayed.

    In time order over all users (rows of the same moment in the file's order), or, without timestamps, one
    answer of each user in turn, users in order of appearance.
    """
    if file.has_timestamps:
        yield from sorted(file.answers, key=attrgetter("at"))
    else:
        for _, answer in _in_turns(file.answers):
            yield answer


def as_interactions(file: AnswersFile) -> Iterator[dict[str, Any]]:
    """
    Give the answers, in replay order, as JSON-ready values of `schemas.Interaction`.

    Ids come from the file's digest and the row, so that a second replay of the same file repeats them.
    Without timestamps a steady clock is made up, from 2020-01-01, one minute for each turn of all users, and
    `metadata` says so.
    """
    if file.has_timestamps:
        for answer in in_replay_order(file):
            yield _interaction(file.digest, answer, answer.at or 0.0, {})
    else:
        for turn, answer in _in_turns(file.answers):
            yield _interaction(file.digest, answer, made_up_moment(turn), {"timestamp_made_up": True})


def made_up_moment(turn: int) -> float:
    """Return the moment, in seconds since the epoch, of a user's answer in a file without timestamps."""
    return _MADE_UP_START_S + turn * _MADE_UP_TURN_S


def _in_turns(answers: list[Answer]) -> Iterator[tuple[int, Answer]]:
    by_user: dict[str, list[Answer]] = {}
    for answer in answers:
        by_user.setdefault(answer.user_id, []).append(answer)
    runs = list(by_user.values())
    turn = 0
    while runs:
        for run in runs:
            yield turn, run[turn]
        turn += 1
        runs = [run for run in runs if len(run) > turn]


def _interaction(digest: str, answer: Answer, at: float, metadata: dict[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {
        "schema_version": 1,
        "event_id": str(uuid.uuid5(_EVENT_IDS, f"{digest}/{answer.row}")),
        "type": "quiz_complete",
        "user_id": answer.user_id,
        "topic_id": answer.skills[0],
        "item_id": answer.item_id,
        "skills": list(answer.skills),
        "correct": answer.correct,
        "timestamp": datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        "metadata": metadata,
    }
    if answer.response_time_s is not None:
        event["duration_seconds"] = answer.response_time_s
    return event


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
        if len(text) > _LONGEST_IDENTIFIER:
            self.file.refuse(column, f"at most {_LONGEST_IDENTIFIER} characters", f"{len(text)}", "use a shorter id")
        if any(unicodedata.category(letter) == "Cc" for letter in text):
            self.file.refuse(column, "an id without control characters", shown(cell), "take them out")
        self.identifiers[cell] = text
        return text

    def _skills(self, cell: str) -> tuple[str, ...]:
        skills = tuple(dict.fromkeys(self._identifier("skill_id", part) for part in cell.split(";")))
        if len(skills) > _MOST_SKILLS:
            expected = f"at most {_MOST_SKILLS} skills, joined by ';'"
            self.file.refuse("skill_id", expected, f"{len(skills)}", "keep the main ones")
        self.skills[cell] = skills
        return skills

    def _correct(self, cell: str) -> bool:
        correct = _CORRECT.get(cell)
        if correct is None:
            correct = _CORRECT.get(cell.strip().lower())
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
        if not 0 <= seconds < _LATEST_MOMENT_S:
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
        if seconds is None or not 0 <= seconds <= _LONGEST_RESPONSE_S:
            expected = f"a number of seconds from 0 to {_LONGEST_RESPONSE_S:.0f}"
            self.file.refuse("response_time_seconds", expected, shown(cell), "mend it, or leave the cell empty")
        return seconds
