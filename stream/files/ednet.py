"""
EdNet: a folder with a file for each user, and a table of questions; KT1 tells answers, KT2 to KT4 what users did.

Questions come in bundles, which are answered together: all answers of a bundle have one moment, that of the last or of
the hand-in, so that none of them can be learned from before another is predicted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from stream.errors import BadAnswersFile
from stream.files.csv_file import number, open_table
from stream.files.reading import NO_TIME, possible, response_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from stream.files.csv_file import Table
    from stream.files.reading import Reading

QUESTIONS: Final = "questions.csv"
OTHER: Final = "not an answer"
CHANGED: Final = "changed before it was handed in"
NOT_SENT: Final = "never handed in"
UNKNOWN: Final = "a question that questions.csv does not know"

_GIVEN: Final = ("timestamp", "solving_id", "question_id", "user_answer", "elapsed_time")
_DONE: Final = ("timestamp", "action_type", "item_id", "user_answer")

_USER: Final = re.compile(r"u(\d+)\.csv(\.gz)?")
_NO_TAG: Final = "-1"


class Question(NamedTuple):
    """What the table says of a question."""

    bundle: str
    right: str
    skills: tuple[str, ...]


class _Given(NamedTuple):
    """An answer of KT1; `ms` is when it was given."""

    row: int
    question: str
    answer: str
    ms: float
    time_s: float | None


class _Chosen(NamedTuple):
    """An answer that was chosen and not yet handed in."""

    row: int
    answer: str


def users(folder: Path) -> list[Path]:
    """
    Return the files of users in a folder, in the order of their numbers; none if it is no such folder.

    Where it has none, and one alone of the folders KT1 to KT4, the files are that one's.
    """
    levels = [level for level in sorted(folder.glob("KT[1-4]")) if level.is_dir()]
    places = [folder, *levels] if len(levels) == 1 else [folder]
    for place in places:
        found = ((_USER.fullmatch(entry.name), entry) for entry in place.iterdir())
        numbered = sorted((int(name[1]), entry) for name, entry in found if name)
        if numbered:
            return [entry for _, entry in numbered]
    return []


def read_kt1(path: Path, reading: Reading) -> list[Path]:
    """Read answers, of a folder or of one user; a question was given at `timestamp` and took `elapsed_time`."""
    return _read(path, reading, _GIVEN, _answers)


def read_actions(path: Path, reading: Reading) -> list[Path]:
    """Read actions, of a folder or of one user: what was last chosen of a question when its bundle was handed in."""
    return _read(path, reading, _DONE, _actions)


def _read(
    path: Path,
    reading: Reading,
    columns: tuple[str, ...],
    gather: Callable[[str, Table, dict[str, Question], Reading], None],
) -> list[Path]:
    table, files = _files(path)
    questions = _questions(table, reading)
    unread: list[str] = []
    for file in files:
        with ExitStack() as stack:
            try:
                rows = stack.enter_context(open_table(file))
                rows.demand("a user's file of EdNet", *columns)
            except BadAnswersFile as fault:  # one of very many, and perhaps empty: no reason to read none of them
                if path.is_file():
                    raise
                unread.append(str(fault))
                continue
            gather(reading.name(file.name.split(".")[0]), rows, questions, reading)
            reading.done(rows)
    if unread:
        reading.remarks.append(f"users' files passed over: {len(unread)} (the first: {unread[0].rstrip('.')})")
    return [*files, table]


def _files(path: Path) -> tuple[Path, list[Path]]:
    """Return the table of questions, which lies in the folder, beside it or in `contents` of either, and the users'."""
    folder = path if path.is_dir() else path.parent
    places = [base / sub / QUESTIONS for base in (folder, folder.parent) for sub in ("", "contents")]
    table = next((place for place in places if place.is_file()), None)
    if table is None:
        raise BadAnswersFile(
            f"{path}: expected EdNet's table of questions at contents/{QUESTIONS}, in the folder or beside it, found "
            "none: download EdNet's contents too, and unpack them there."
        )
    return table, users(path) if path.is_dir() else [path]


def _questions(path: Path, reading: Reading) -> dict[str, Question]:
    with open_table(path) as table:
        columns = ("question_id", "bundle_id", "correct_answer", "tags")
        table.demand("EdNet's table of questions", *columns)
        return {
            reading.name(name): Question(reading.name(bundle), right.strip().lower(), _tags(reading, tags))
            for _, (name, bundle, right, tags) in table.rows(*columns)
        }


def _tags(reading: Reading, cell: str) -> tuple[str, ...]:
    return () if cell.strip() == _NO_TAG else reading.skills(cell, ";")


def _answers(user: str, table: Table, questions: dict[str, Question], reading: Reading) -> None:
    bundles: dict[tuple[str, str], list[_Given]] = defaultdict(list)
    for row, (ms, solving, name, answer, elapsed) in table.rows(*_GIVEN):
        shown, item, time_s = number(ms), reading.name(name), response_time(elapsed, 1000)
        if shown is None:
            reading.skipped[NO_TIME] += 1
        elif item not in questions:
            reading.skipped[UNKNOWN] += 1
        else:
            given = _Given(row, item, answer, shown + 1000 * (time_s or 0.0), time_s)
            bundles[solving.strip(), questions[item].bundle].append(given)
    for bundle in bundles.values():
        at = max(given.ms for given in bundle) / 1000
        for given in bundle:
            _take(user, given.row, given.question, given.answer, at, given.time_s, questions, reading)


def _actions(user: str, table: Table, questions: dict[str, Question], reading: Reading) -> None:
    shown: dict[str, float] = {}
    chosen: dict[str, dict[str, _Chosen]] = defaultdict(dict)
    for row, ms, action, name, answer in _in_time(table, reading):
        if action == "respond":
            if name not in questions:
                reading.skipped[UNKNOWN] += 1
                continue
            of_bundle = chosen[questions[name].bundle]
            if name in of_bundle:
                reading.skipped[CHANGED] += 1
            of_bundle[name] = _Chosen(row, answer)
            continue
        reading.skipped[OTHER] += 1
        if action == "enter":
            reading.skipped[NOT_SENT] += len(chosen.pop(name, ()))
            shown[name] = ms
        elif action == "submit":
            began = shown.pop(name, None)
            # Up to the hand-in, for all: a time up to each choice would leave the rest of it in the gap before.
            time_s = None if began is None else possible((ms - began) / 1000)
            for question, choice in chosen.pop(name, {}).items():
                _take(user, choice.row, question, choice.answer, ms / 1000, time_s, questions, reading)
    reading.skipped[NOT_SENT] += sum(map(len, chosen.values()))


def _in_time(table: Table, reading: Reading) -> Iterable[tuple[int, float, str, str, str]]:
    rows = []
    for row, (ms, action, name, answer) in table.rows(*_DONE):
        at = number(ms)
        if at is None:
            reading.skipped[NO_TIME] += 1
        else:
            rows.append((row, at, action.strip().lower(), reading.name(name), answer))
    return sorted(rows, key=lambda row: row[1])


def _take(
    user: str,
    row: int,
    item: str,
    answer: str,
    at: float,
    time_s: float | None,
    questions: dict[str, Question],
    reading: Reading,
) -> None:
    question, said = questions[item], answer.strip().lower()
    correct = said == question.right if said and question.right else None
    reading.take(reading.rows + row, user, item, question.skills, correct, at, time_s)
