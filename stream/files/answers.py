"""
Past answers, as read from a file, and the order in which they are replayed.

The formats that they are read from are listed in `stream.files.formats`. Nothing here reads or sends anything.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RIGHT = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}
"""How files write whether an answer was right, in small letters."""

# The limits of `schemas.Interaction`: an answer that breaks them would end as a dead letter.
LONGEST_IDENTIFIER = 256
MOST_SKILLS = 16
LONGEST_RESPONSE_S = 7 * 86400.0
LATEST_MOMENT_S = datetime(2101, 1, 1, tzinfo=UTC).timestamp()

_MADE_UP_START_S = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
_MADE_UP_TURN_S = 60.0
_EVENT_IDS = uuid.UUID("5b1f0a52-6a0c-5f0e-9d0f-3c1f6a7f2f10")


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One answer of a file.

    Attributes:
        row: 0-based, the header and blank lines not counted; the first, if several rows tell of the answer. Of a
            folder: counted on over its users' files, in the order of the numbers in their names.

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
class Passed:
    """
    What became of the rows of a downloaded file.

    Attributes:
        what: The format, in words.

        rows: How many there were.

        joined: Of them, rows that told a further skill of an answer that another row told.

        skipped: Of them, rows that became no answer, by reason.

        remarks: What else the reader had to choose.
    """

    what: str
    rows: int
    joined: int
    skipped: Mapping[str, int]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswersFile:
    """
    A file of answers, read and checked.

    Attributes:
        digest: SHA-256 of the file's bytes as they lie on disk (gzipped or not), in hex; of a folder, of its files'.

        answers: A user's in the order in which they were given; never empty.

        has_timestamps: Every answer has one, or none has.

        has_response_times: At least one answer has one.

        passed: `None` of a file in our own format, where each row is an answer.
    """

    path: Path
    digest: str
    answers: list[Answer]
    has_timestamps: bool
    has_response_times: bool
    passed: Passed | None = None

    def told(self) -> str:
        """Return one line on how the rows were read, to be shown to the user; empty if there is nothing to say."""
        if self.passed is None:
            return ""
        passed = self.passed
        parts = [f"answers: {len(self.answers)}, of rows: {passed.rows}"]
        if passed.joined:
            parts.append(f"joined as further skills of an answer: {passed.joined}")
        if passed.skipped:
            reasons = sorted(passed.skipped.items(), key=lambda reason: (-reason[1], reason[0]))
            counts = ", ".join(f"{reason}: {count}" for reason, count in reasons)
            parts.append(f"skipped: {sum(passed.skipped.values())} ({counts})")
        return f"{self.path}, read as {passed.what}: {'; '.join((*parts, *passed.remarks))}"


def in_replay_order(file: AnswersFile) -> Iterator[Answer]:
    """
    Give the answers in the order in which they are replayed.

    In time order over all users (answers of the same moment in the file's order), or, without timestamps, one
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
