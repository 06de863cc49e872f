"""
The replay buffer: the latest answers of many users, in runs, in a file of SQLite.

The trainer writes it and resumes from the places that it holds; the process of an update reads it, by `load_runs`,
while the trainer writes on. What an answer looks like, packed, is said in `stream.learning.runs`; the file itself is
`stream.learning.database`'s.

No id of a user, an answer or an example stands in the file, only 64-bit hashes of them.
"""

import sqlite3
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from schemas import ExampleCorrection, TrainingExample
from stream.learning.database import SCRUB_EVERY_S, Database, Kind, name_hash, read_only, surplus
from stream.learning.runs import ANSWER, Runs, can_pack, longest_run, packed, padded, with_outcome
from stream.models import features
from stream.models.dkt import SKILLS
from stream.state.learner import DIFFICULTIES

VERSION = 1_000 + features.VERSION
"""Of the file: thousands count its own formats, the rest is the version of the features in it."""

_SCHEMA = (
    "CREATE TABLE skills (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, place INTEGER NOT NULL)",
    # In the order of their numbers: new ones go to the end, which is twice as fast as putting them among their users'.
    """
    CREATE TABLE answers (
        number INTEGER PRIMARY KEY, user INTEGER NOT NULL, event INTEGER NOT NULL, example INTEGER NOT NULL,
        size INTEGER NOT NULL, at REAL NOT NULL, topic_id TEXT NOT NULL, item_id TEXT, more_skills BLOB,
        record BLOB NOT NULL
    )
    """,
    # All that is known in memory of an answer, so that opening does not read the answers.
    "CREATE INDEX runs ON answers (user, number, event, size)",
)
_KIND = Kind("replay buffer", VERSION, _SCHEMA, "STREAM_BUFFER")
_PUT = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DROP = "DELETE FROM answers WHERE user = ? AND number <= ?"

_ROW_BYTES = 100
"""What an answer takes up in the file besides its record and its texts."""


class _Row(NamedTuple):
    """An answer as it stands in the file."""

    number: int
    user: int
    event: int
    example: int
    size: int
    at: float
    topic_id: str
    item_id: str | None
    more_skills: bytes | None
    record: bytes


@dataclass(slots=True)
class _Run:
    """What is known in memory of a user's answers, the oldest first: numbers, hashes of their events, and bytes."""

    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    events: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.numbers)

    def has(self, event: int) -> bool:
        return bool((np.frombuffer(self.events, np.int64) == event).any())

    def append(self, row: _Row) -> None:
        self.numbers.append(row.number)
        self.events.append(row.event)
        self.sizes.append(row.size)

    def drop(self, count: int) -> int:
        """Drop the oldest answers, and return how many bytes they were."""
        size = sum(self.sizes[:count])
        del self.numbers[:count], self.events[:count], self.sizes[:count]
        return size


@dataclass(frozen=True, slots=True)
class Corrected:
    """
    An answer whose outcome was corrected: what it was, and what it is.

    Attributes:
        skills: All of them.
        topic_id: The topic.
        item_id: The item, if it is known.
        difficulty: The question's, if it is known.
        features: Before the answer, float32 `(COUNT,)`.
        was_correct: As it was learned from until now.
        is_correct: As it is from now on.
    """

    skills: tuple[str, ...]
    topic_id: str
    item_id: str | None
    difficulty: str | None
    features: NDArray[np.float32]
    was_correct: bool
    is_correct: bool


class Buffer:
    """
    The latest answers of many users: half of them those who answered latest, half a sample of all older ones.

    What is done is visible at once to who asks this object, and durable with `commit`, together with the places up to
    which it was read: a trainer that is killed resumes from `places` as if it had not read on.

    Args:
        path: The file; made if there is none, with its folder.
        max_users: Kept at most.
        max_bytes: Of answers, kept at most; one user is always kept.
        max_run: Answers kept of one user; the oldest go first.
        scrub_every_s: Seconds from one rewriting of the file after an erasure to the next, at least.

    Raises:
        UserError: If the file is none of ours, of another version, damaged, or cannot be opened.
    """

    def __init__(
        self, path: Path, *, max_users: int, max_bytes: int, max_run: int, scrub_every_s: float = SCRUB_EVERY_S
    ) -> None:
        self.path = path
        self._max_users = max_users
        self._max_bytes = max_bytes
        self._max_run = max_run
        self._runs: dict[int, _Run] = {}
        self._names: list[str] = []
        """Names of skills; a skill's number is its place here, from 1."""
        self._skills: dict[str, int] = {}
        """Numbers of skills, in the order of their rows."""
        self._size = 0
        self._size_bytes = 0
        # What is not in the file yet. Dropped answers go first, then rows are put: what is put is there.
        self._dropped: dict[int, int] = {}
        self._rows: dict[int, dict[int, _Row]] = {}
        self._skills_written = 0
        self._file = Database(path, _KIND, scrub_every_s)
        with self._file.reading():
            self._read(self._file.db)
        self._keep_bounds()

    def _read(self, db: sqlite3.Connection) -> None:
        self._names = [name for (name,) in db.execute("SELECT name FROM skills ORDER BY number")]
        self._skills = dict(db.execute("SELECT name, number FROM skills ORDER BY place"))
        self._skills_written = len(self._skills)
        index = db.execute("SELECT user, number, event, size FROM answers ORDER BY user, number")
        for user, of_user in groupby(index, key=lambda row: int(row[0])):
            _, *columns = zip(*of_user, strict=True)
            run = self._runs[user] = _Run(*(array("q", column) for column in columns))
            self._size += len(run)
            self._size_bytes += sum(run.sizes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was not committed is lost."""
        self._file.close()

    @property
    def count(self) -> int:
        """Answers ever added; the next one's number."""
        return self._file.count

    def __len__(self) -> int:
        """Return the number of answers that are kept."""
        return self._size

    @property
    def users(self) -> int:
        """Users of whom answers are kept."""
        return len(self._runs)

    @property
    def size_bytes(self) -> int:
        """Bytes of the answers that are kept; the file is up to half as large again."""
        return self._size_bytes

    @property
    def uncommitted(self) -> int:
        """Answers that wait in memory for a commit: they pile up while the disk is full."""
        return sum(map(len, self._rows.values()))

    @property
    def skills(self) -> tuple[str, ...]:
        """Every skill met, in order of appearance: a skill's embedding row is its place here, from 1."""
        return tuple(self._skills)

    def know(self, skills: Sequence[str]) -> None:
        """Take over the order of a published model's skills; those that it does not know follow, in their order."""
        order = list(dict.fromkeys([*skills, *self._skills]))
        if order[: len(self._skills)] != list(self._skills):
            self._skills_written = 0
        self._skills = {skill: self._number_of(skill) for skill in order}

    def _number_of(self, skill: str) -> int:
        number = self._skills.get(skill)
        if number is None:
            self._names.append(skill)
            number = self._skills[skill] = len(self._names)
        return number

    def places(self) -> dict[int, int]:
        """Return, by partition of `training-examples`, the offset to read next; durable as of the last commit."""
        return self._file.places()

    def has_read(self, partition: int, offset: int) -> bool:
        """Return whether an offset was read already."""
        return self._file.has_read((partition, offset))

    def passed(self, partition: int, offset: int) -> None:
        """Take note of an offset that brought no example."""
        self._file.goes_on((partition, offset))

    def made_anew(self, partition: int, end: int) -> bool:
        """Go back to the beginning of a partition if its topic, which now ends there, was made anew; return that."""
        return self._file.made_anew(partition, end)

    def add(self, example: TrainingExample, at: float, place: tuple[int, int]) -> bool:
        """
        Add an answer.

        Args:
            example: What the model saw, and what happened.
            at: Kafka's timestamp of the example, seconds since the epoch.
            place: Its partition and offset.

        Returns:
            Whether it was added: not if its place was read already, its event is in the user's run, the user was erased
            after it, or its features cannot be kept.
        """
        if not self._file.goes_on(place):
            return False
        user, event = name_hash(example.user_id), name_hash(example.event_id)
        run = self._runs.get(user)
        if (run is not None and run.has(event)) or at <= self._file.erased_until(user) or not can_pack(example):
            return False
        self._put(self._row(example, user, event, at))
        self._file.count += 1
        if len(self._runs[user]) > self._max_run:
            self._drop(user, 1)
        self._evict()
        return True

    def _row(self, example: TrainingExample, user: int, event: int, at: float) -> _Row:
        skills = [self._number_of(skill) for skill in example.skills]
        record = packed(example, skills)
        more = array("i", skills[SKILLS:]).tobytes() or None
        texts = len(example.topic_id.encode()) + len((example.item_id or "").encode())
        size = _ROW_BYTES + len(record) + texts + len(more or b"")
        example_hash = name_hash(example.example_id)
        return _Row(
            self.count, user, event, example_hash, size, at, example.topic_id, example.item_id, more, record
        )  # fmt: skip

    def _put(self, row: _Row) -> None:
        """Append an answer to its user's run."""
        self._runs.setdefault(row.user, _Run()).append(row)
        self._rows.setdefault(row.user, {})[row.number] = row
        self._size += 1
        self._size_bytes += row.size

    def _drop(self, user: int, count: int) -> None:
        """Drop a user's oldest answers."""
        run = self._runs[user]
        gone = run.numbers[:count]
        waiting = self._rows.get(user, {})
        for number in gone:
            waiting.pop(number, None)
        # Numbers need not rise: after an erasure, what stays is put again.
        self._dropped[user] = max(self._dropped.get(user, -1), gone[-1])
        self._size -= count
        self._size_bytes -= run.drop(count)
        if not run:
            del self._runs[user]
            self._rows.pop(user, None)

    def _keep_bounds(self) -> None:
        """Keep bounds that have become narrower since the file was written."""
        for user in list(self._runs):
            surplus = len(self._runs[user]) - self._max_run
            if surplus > 0:
                self._drop(user, surplus)
        self._evict()

    def _evict(self) -> None:
        if len(self._runs) <= self._max_users and self._size_bytes <= self._max_bytes:
            return
        newest = {user: run.numbers[-1] for user, run in self._runs.items()}
        size = {user: sum(run.sizes) for user, run in self._runs.items()}
        for user in surplus(newest, size, self._max_users, self._max_bytes):
            self._drop(user, len(self._runs[user]))

    def correct(self, correction: ExampleCorrection, place: tuple[int, int]) -> Corrected | None:
        """
        Correct the outcome of an answer.

        Args:
            correction: Of an earlier example.
            place: The correction's own partition and offset.

        Returns:
            The answer; None if it is not kept, or the place was read already.
        """
        if not self._file.goes_on(place):
            return None
        row = self._find(name_hash(correction.user_id), name_hash(correction.example_id))
        if row is None:
            return None
        record = with_outcome(row.record, correction.correct)
        self._rows.setdefault(row.user, {})[row.number] = row._replace(record=record)
        return self._corrected(row, correction.correct)

    def _corrected(self, row: _Row, correct: bool) -> Corrected:
        was = np.frombuffer(row.record, ANSWER)[0]
        more = array("i", row.more_skills or b"")
        level = int(was["level"])
        return Corrected(
            skills=tuple(self._names[number - 1] for number in (*was["skills"].tolist(), *more) if number),
            topic_id=row.topic_id,
            item_id=row.item_id,
            difficulty=DIFFICULTIES[level - 1] if level else None,
            features=was["features"],
            was_correct=bool(was["correct"]),
            is_correct=correct,
        )

    def _find(self, user: int, example: int) -> _Row | None:
        return next((row for row in self._all(user).values() if row.example == example), None)

    def _all(self, user: int) -> dict[int, _Row]:
        """Return a user's answers by their numbers, in order, whether they are in the file yet or not."""
        if user not in self._runs:
            return {}
        with self._file.reading():
            stored = self._file.db.execute(
                "SELECT * FROM answers WHERE user = ? AND number > ?", (user, self._dropped.get(user, -1))
            ).fetchall()
        rows = {row.number: row for row in map(_Row._make, stored)} | self._rows.get(user, {})
        return dict(sorted(rows.items()))

    def forget(self, user_id: str, until: float) -> None:
        """
        Drop a user's answers up to a moment, and refuse those that come later but are from before it.

        With the next commit they are no longer there to any reader. What SQLite leaves of them in the file and its log
        goes with it too, or, if the file was rewritten or read just then, with the first commit after that.

        Args:
            user_id: Whose.
            until: Kafka's timestamp of the erasure, seconds since the epoch.
        """
        user = name_hash(user_id)
        if not self._file.forget(user, until) or user not in self._runs:
            return
        rows = self._all(user)
        self._drop(user, len(rows))
        for row in rows.values():
            if row.at > until:
                self._put(row)

    def runs(self, since: int = 0) -> Runs:
        """
        Return runs whole, committed or not, in the order of their first answers.

        Args:
            since: Only runs with an answer of this number or above.
        """
        chosen = [user for user, run in self._runs.items() if run.numbers[-1] >= since]
        chosen.sort(key=lambda user: self._runs[user].numbers[0])
        rows = [list(self._all(user).values()) for user in chosen]
        answers = np.frombuffer(b"".join(row.record for run in rows for row in run), ANSWER)
        number = np.array([row.number for run in rows for row in run], np.int64)
        lengths = np.array([len(run) for run in rows], np.int64)
        return padded(answers, number, lengths, _skill_rows(self._skills))

    def commit(self) -> None:
        """
        Make durable all that was done, in one transaction.

        Raises:
            StoreError: If the file could not be written, as on a full disk: nothing of it is, all is kept in memory,
                and the next commit tries again.
            UserError: If the file was damaged since it was opened.
        """
        if self._file.is_changed or self._skills_written < len(self._skills) or self._rows or self._dropped:
            self._write(self._file.db)
        self._file.scrub()

    def _write(self, db: sqlite3.Connection) -> None:
        skills = [(number, name, place) for place, (name, number) in enumerate(self._skills.items())]
        with self._file.transaction():
            db.executemany(_DROP, self._dropped.items())
            db.executemany(_PUT, (row for rows in self._rows.values() for row in rows.values()))
            db.executemany("INSERT OR REPLACE INTO skills VALUES (?, ?, ?)", skills[self._skills_written :])
        self._dropped, self._rows = {}, {}
        self._skills_written = len(skills)


def load_runs(path: Path, *, most: int, seed: int) -> tuple[Runs, tuple[str, ...]]:
    """
    Return runs to learn from, and the skills in the order of their rows, as they were committed last.

    Half of the answers are of the users who answered latest, the others of a random sample of all others. The file is
    only read, by any process, while the trainer writes on.

    Args:
        path: Of the buffer.
        most: Answers, whole runs of them; less than the first run is not returned.
        seed: Of the sample.

    Raises:
        StoreError: If the file cannot be read.
    """
    with read_only(path, _KIND.noun) as db:
        return _load(db, most, seed)


def _load(db: sqlite3.Connection, most: int, seed: int) -> tuple[Runs, tuple[str, ...]]:
    skills = dict(db.execute("SELECT name, number FROM skills ORDER BY place"))
    heads = db.execute("SELECT user, COUNT(*), MIN(number), MAX(number) FROM answers GROUP BY user").fetchall()
    user, lengths, first, last = np.array(heads, np.int64).reshape(-1, 4).T
    chosen = choose(lengths, last, most, seed)
    chosen = chosen[np.argsort(first[chosen])]
    numbers: list[int] = []
    records: list[bytes] = []
    for each in user[chosen].tolist():
        for number, record in db.execute("SELECT number, record FROM answers WHERE user = ? ORDER BY number", (each,)):
            numbers.append(number)
            records.append(record)
    answers = np.frombuffer(b"".join(records), ANSWER)
    runs = padded(
        answers, np.array(numbers, np.int64), lengths[chosen], _skill_rows(skills), longest_run(lengths[chosen])
    )
    return runs, tuple(skills)


def choose(lengths: NDArray[np.int64], last: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """
    Return which runs are learned from, int64 `(C,)`, at least one.

    Args:
        lengths: Answers of each run, `(B,)`.
        last: Number of the latest answer of each, `(B,)`.
        most: Answers in all.
        seed: Of the sample of those that are not among the latest.
    """
    if lengths.sum() <= most:
        return np.arange(len(lengths))
    latest_first = np.argsort(-last)
    latest = max(int((np.cumsum(lengths[latest_first]) <= most // 2).sum()), 1)
    others = np.random.default_rng(seed).permutation(latest_first[latest:])
    left = most - int(lengths[latest_first[:latest]].sum())
    return np.concatenate([latest_first[:latest], others[np.cumsum(lengths[others]) <= left]])


def _skill_rows(skills: dict[str, int]) -> NDArray[np.int64]:
    """Return the row of the embedding for each number of a skill, 0 for the number 0."""
    rows = np.zeros(max(skills.values(), default=0) + 1, np.int64)
    rows[list(skills.values())] = np.arange(1, len(skills) + 1)
    return rows
