"""
Answers of the Riiid challenge, `train.csv`, with the tags of `questions.csv` if it lies beside.

Time runs from each user's first event: moments of different users cannot be compared. The time that questions took
is told with the user's next questions, and goes back to those that it is of.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from stream.files.csv_file import number, open_table
from stream.files.reading import outcome, response_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from stream.files.reading import Reading

QUESTIONS: Final = "questions.csv"
LECTURE: Final = "a lecture"
_LECTURES: Final = "1"


class _Row(NamedTuple):
    """A question that was answered; `before` is how long the questions before it took, as the cell says it."""

    ms: float
    row: int
    bundle: str
    item: str
    correct: bool | None
    before: str


def read(path: Path, reading: Reading) -> None:
    """Read a file whole, then user by user; without `questions.csv` each question is its own skill."""
    tags = _tags(path.parent / QUESTIONS, reading)
    for user, rows in _users(path, reading).items():
        for found, time_s in _with_times(rows):
            skills = (found.item,) if tags is None else tags.get(found.item, ())
            reading.take(found.row, user, found.item, skills, found.correct, found.ms / 1000, time_s)


def _users(path: Path, reading: Reading) -> dict[str, list[_Row]]:
    users: dict[str, list[_Row]] = defaultdict(list)
    columns = (
        "user_id", "timestamp", "content_id", "content_type_id", "task_container_id", "answered_correctly",
        "prior_question_elapsed_time",
    )  # fmt: skip
    with open_table(path) as table:
        for row, (user, ms, item, kind, bundle, correct, before) in table.rows(*columns):
            since = number(ms)
            if kind == _LECTURES:
                reading.skipped[LECTURE] += 1
            elif since is None:
                reading.take(row, reading.name(user), reading.name(item), (item,), outcome(correct), None, None)
            else:
                found = _Row(since, row, reading.name(bundle), reading.name(item), outcome(correct), before)
                users[reading.name(user)].append(found)
        reading.done(table)
    return users


def _with_times(rows: Iterable[_Row]) -> Iterator[tuple[_Row, float | None]]:
    """Give a user's rows in time order, each with the seconds that its question took."""
    bundles: dict[tuple[float, str], list[_Row]] = {}
    for row in sorted(rows):
        bundles.setdefault((row.ms, row.bundle), []).append(row)
    for bundle, after in pairwise(chain(bundles.values(), [[]])):
        time_s = response_time(after[0].before, 1000) if after else None
        for row in bundle:
            yield row, time_s


def _tags(path: Path, reading: Reading) -> dict[str, tuple[str, ...]] | None:
    """Return the tags of questions; None if there is no table of them."""
    if not path.exists():
        reading.remarks.append(f"no {path.name} beside it: each question is its own skill")
        return None
    reading.remarks.append(f"skills are the tags of {path.name}")
    with open_table(path) as table:
        table.demand("Riiid's table of questions", "question_id", "tags")
        rows = table.rows("question_id", "tags")
        return {reading.name(question): reading.skills(tags, " ") for _, (question, tags) in rows}
