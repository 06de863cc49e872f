"""
Weeks of users as the risk model saw them, kept until it is known what became of these users: a file of SQLite.

The trainer writes it beside the replay buffer, with places of its own; the process of an update reads it, by
`load_snapshots`. An outcome labels all examples of a user from before it that have no label; one that comes without an
example in between corrects the one before it. An adviser's label is for the user's newest example only. Outcomes of
users without examples, which may still come, are kept as well, and bounded.

No id of a user or an example stands in the file, only 64-bit hashes of them.
"""

import json
import sqlite3
from base64 import b64decode
from binascii import Error as Base64Error
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from schemas import RiskExample, RiskOutcome
from stream.errors import StoreError
from stream.learning.buffer import choose
from stream.learning.database import SCRUB_EVERY_S, Database, Kind, name_hash, read_only, surplus
from stream.learning.judged import Judged
from stream.learning.risk.snapshots import Snapshots, outcome_of_label, risk_of
from stream.models import weekly
from stream.models.weekly import Seen
from stream.state.academic import FACTS, NUMBERS, OUTCOMES, WEEKS, fact_key, fact_name, field_key

AT_RISK: Final = 0.5
"""What an adviser's label must be, at least, to count as at risk where that is yes or no."""

LEAST_USERS: Final = 10
"""Users of whom a fact must be known, at least, for a model to know it: of fewer it would learn who they are."""

LEAST_OF_EACH: Final = 20
"""Users at risk, and users who were not, before anything can be learned: without both it would fail."""

COURSE_DAY: Final = "course_day"
"""In an example's context: days since the course began, at its newest step."""

_STEPS = np.dtype("<f2")
_STEPS_BYTES = WEEKS * len(weekly.NAMES) * _STEPS.itemsize

_SCHEMA = (
    """
    CREATE TABLE examples (
        number INTEGER PRIMARY KEY, user INTEGER NOT NULL, example INTEGER NOT NULL UNIQUE, week INTEGER NOT NULL,
        as_of REAL NOT NULL, at REAL NOT NULL, version INTEGER NOT NULL, score REAL NOT NULL,
        score_fallback REAL NOT NULL, other INTEGER, score_other REAL, slices TEXT NOT NULL, context TEXT NOT NULL,
        steps BLOB NOT NULL, size INTEGER NOT NULL, by TEXT, outcome INTEGER, risk REAL, judged INTEGER
    )
    """,
    "CREATE INDEX of_user ON examples (user, as_of, number, size)",
    "CREATE INDEX in_order ON examples (judged) WHERE judged IS NOT NULL",
    "CREATE INDEX of_each ON examples (risk, user) WHERE risk IS NOT NULL",
    # Of each user the latest: it is for the examples after `since`, up to `until`.
    """
    CREATE TABLE outcomes (
        user INTEGER PRIMARY KEY, since REAL NOT NULL, until REAL NOT NULL, outcome INTEGER NOT NULL, at REAL NOT NULL
    )
    """,
)
_KIND = Kind("file of risk examples", 1_000 + weekly.VERSION, _SCHEMA, "STREAM_RISK_EXAMPLES")

_DAY_S = 86_400
_ROW_BYTES = 150
"""What an example takes up in the file besides its steps and its texts."""

_JUDGED = "user, risk, version, score, score_fallback, at, other, score_other, slices"
_LONG_AGO = -1e300


class _Row(NamedTuple):
    """An example as it stands in the file, but for its number and its label."""

    user: int
    example: int
    week: int
    as_of: float
    at: float
    version: int
    score: float
    score_fallback: float
    other: int | None
    score_other: float | None
    slices: str
    context: str
    steps: bytes
    size: int


class _Label(NamedTuple):
    """What is known of a user: an outcome's place, or an adviser's score; `at` is Kafka's time, `until` the event's."""

    user: int
    until: float
    at: float
    outcome: int | None
    score: float | None


class RiskExamples:
    """
    The latest weeks of many users: half of them those who were heard of latest, half a sample of all older ones.

    What is read waits in memory until `commit` makes it durable, together with the places up to which it was read: a
    trainer that is killed resumes from `places` as if it had not read on.

    Args:
        path: The file; made if there is none, with its folder.
        max_users: Kept at most; and of twice as many, at most, what became of them.
        max_bytes: Of examples, kept at most; one user is always kept.
        scrub_every_s: Seconds from one rewriting of the file after an erasure to the next, at least.

    Raises:
        UserError: If the file is none of ours, of another version, damaged, or cannot be opened.
    """

    def __init__(self, path: Path, *, max_users: int, max_bytes: int, scrub_every_s: float = SCRUB_EVERY_S) -> None:
        self._max_users = max_users
        self._max_bytes = max_bytes
        self._file = Database(path, _KIND, scrub_every_s)
        self._waiting: list[_Row | _Label | int] = []
        """What was read since the last commit, in order: examples, labels, users to forget."""
        self._found: list[Judged] = []
        """What became judged, and nobody has been told yet."""
        self._newest: dict[int, int] = {}
        self._size: dict[int, int] = {}
        self._number = 0
        self._has_both = False
        with self._file.reading():
            self._measure()

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
    def labelled(self) -> int:
        """Examples that ever got a label."""
        return self._file.count

    @property
    def learnable(self) -> int:
        """The same, as of the last commit; 0 while fewer than `LEAST_OF_EACH` users are at risk, or are not."""
        return self.labelled if self._has_both else 0

    @property
    def users(self) -> int:
        """Users of whom examples are kept, as of the last commit."""
        return len(self._newest)

    @property
    def size_bytes(self) -> int:
        """Bytes of the examples that are kept, as of the last commit."""
        return sum(self._size.values())

    @property
    def uncommitted(self) -> int:
        """What waits in memory for a commit: it piles up while the disk is full."""
        return len(self._waiting)

    def places(self) -> dict[int, int]:
        """Return, by partition of `training-examples`, the offset to read next; durable as of the last commit."""
        return self._file.places()

    def passed(self, partition: int, offset: int) -> None:
        """Take note of an offset that brought nothing of risk."""
        self._file.goes_on((partition, offset))

    def made_anew(self, partition: int, end: int) -> bool:
        """Go back to the beginning of a partition if its topic, which now ends there, was made anew; return that."""
        return self._file.made_anew(partition, end)

    def read(self, message: RiskExample | RiskOutcome, at: float, place: tuple[int, int]) -> bool:
        """
        Take an example, an outcome or a label.

        Args:
            message: What came.
            at: Kafka's timestamp of it, seconds since the epoch.
            place: Its partition and offset.

        Returns:
            Whether it was taken: not if its place was read already, the user was erased after it, or its steps are not
            those of this version.
        """
        if not self._file.goes_on(place):
            return False
        taken = _row(message, at) if isinstance(message, RiskExample) else _label(message, at)
        if taken is None or at <= self._file.erased_until(taken.user):
            return False
        self._waiting.append(taken)
        return True

    def forget(self, user_id: str, until: float) -> None:
        """
        Drop what is known of a user up to a moment, and refuse what comes later but is from before it.

        With the next commit it is no longer there to any reader; what SQLite leaves of it in the file and its log goes
        with it too, or, if the file was rewritten or read just then, with the first commit after that.

        Args:
            user_id: Whose.
            until: Kafka's timestamp of the erasure, seconds since the epoch.
        """
        user = name_hash(user_id)
        if self._file.forget(user, until):
            self._waiting.append(user)

    def commit(self) -> list[Judged]:
        """
        Make durable all that was read, in one transaction.

        Returns:
            The predictions that became judged by it, in order: what is asked for again after a kill is not among them
            twice.

        Raises:
            StoreError: If the file could not be written, as on a full disk: nothing of it is, all is kept in memory,
                and the next commit tries again.
            UserError: If the file was damaged since it was opened.
        """
        if self._waiting or self._file.is_changed:
            count = self._file.count
            try:
                with self._file.transaction():
                    for waiting in self._waiting:
                        self._apply(waiting)
                    self._evict()
                    self._count_kinds()
                    judged = self._judged("judged >= ? ORDER BY judged", count)
            except StoreError:
                self._file.count = count
                self._measure()
                raise
            self._waiting = []
            self._found += judged
        self._file.scrub()
        found, self._found = self._found, []
        return found

    def latest(self, most: int) -> list[Judged]:
        """Return the predictions that were judged latest, in order, as of the last commit."""
        with self._file.reading():
            return self._judged("judged IS NOT NULL ORDER BY judged DESC LIMIT ?", most)[::-1]

    def _judged(self, which: str, value: int) -> list[Judged]:
        rows = self._file.db.execute(f"SELECT {_JUDGED} FROM examples WHERE {which}", (value,))  # noqa: S608 (ours)
        return [
            Judged(
                user, risk >= AT_RISK, version, score, score_fallback, at, other,
                float("nan") if score_other is None else score_other, tuple(json.loads(slices).items()),
            )
            for user, risk, version, score, score_fallback, at, other, score_other, slices in rows
        ]  # fmt: skip

    def _measure(self) -> None:
        """Count what stands in the file."""
        heads = self._file.db.execute("SELECT user, MAX(number), SUM(size) FROM examples GROUP BY user").fetchall()
        self._newest = {user: newest for user, newest, _ in heads}
        self._size = {user: size for user, _, size in heads}
        (self._number,) = self._file.db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM examples").fetchone()
        self._count_kinds()

    def _count_kinds(self) -> None:
        """See whether enough users of both kinds are known; so few are counted that it costs next to nothing."""
        self._has_both = all(
            self._file.db.execute(
                "SELECT COUNT(*) FROM "  # noqa: S608 (ours)
                f"(SELECT DISTINCT user FROM examples INDEXED BY of_each WHERE {kind} LIMIT ?)",
                (AT_RISK, LEAST_OF_EACH),
            ).fetchone()
            == (LEAST_OF_EACH,)
            for kind in ("risk >= ?", "risk < ?")
        )

    def _apply(self, waiting: _Row | _Label | int) -> None:
        match waiting:
            case _Row():
                self._add(waiting)
            case _Label(score=None):
                self._end(waiting)
            case _Label():
                self._advise(waiting)
            case _:
                self._drop(waiting)

    def _add(self, row: _Row) -> None:
        """Add an example that is not there yet; its user's outcome may have come before it."""
        db = self._file.db
        added = db.execute(
            f"INSERT OR IGNORE INTO examples (number, {', '.join(_Row._fields)}) "  # noqa: S608 (ours)
            f"VALUES (?{', ?' * len(_Row._fields)})",
            (self._number, *row),
        )
        if not added.rowcount:
            return
        self._newest[row.user] = self._number
        self._size[row.user] = self._size.get(row.user, 0) + row.size
        self._number += 1
        known = db.execute(
            "SELECT outcome FROM outcomes WHERE user = ?1 AND since < ?2 AND until >= ?2", (row.user, row.as_of)
        )
        for (outcome,) in known:
            self._put_label(self._newest[row.user], None, "outcome", outcome, float(risk_of(np.array(outcome))))

    def _end(self, label: _Label) -> None:
        """Take an outcome: of a new enrolment, or in place of the latest one."""
        db, user, until = self._file.db, label.user, label.until
        before = db.execute("SELECT since, until FROM outcomes WHERE user = ?", (user,)).fetchone()
        since = _LONG_AGO
        if before is not None:
            if until < before[1]:
                return  # a later one is known
            between = "SELECT 1 FROM examples WHERE user = ? AND as_of > ? AND as_of <= ?"
            is_new = db.execute(between, (user, before[1], until)).fetchone() is not None
            since = before[1] if is_new else before[0]
        db.execute(
            "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?)", (user, since, until, label.outcome, label.at)
        )
        assert label.outcome is not None  # noqa: S101 (a label without score is an outcome)
        numbers = db.execute(
            "SELECT number, judged FROM examples WHERE user = ? AND as_of > ? AND as_of <= ? "
            "AND (by IS NULL OR by = 'outcome') ORDER BY as_of, number",
            (user, since, until),
        ).fetchall()
        for number, judged in numbers:
            self._put_label(number, judged, "outcome", label.outcome, float(risk_of(np.array(label.outcome))))

    def _advise(self, label: _Label) -> None:
        """Take an adviser's label: for the newest example before it, unless it is known already what happened."""
        newest = self._file.db.execute(
            "SELECT number, judged, by FROM examples WHERE user = ? AND as_of <= ? ORDER BY as_of DESC, number DESC",
            (label.user, label.until),
        ).fetchone()
        if newest is None or newest[2] == "outcome" or label.score is None:
            return
        self._put_label(newest[0], newest[1], "adviser", outcome_of_label(label.score), label.score)

    def _put_label(self, number: int, judged: int | None, by: str, outcome: int, risk: float) -> None:
        """Label an example; it is judged once, by its first label."""
        if judged is None:
            judged = self._file.count
            self._file.count += 1
        self._file.db.execute(
            "UPDATE examples SET by = ?, outcome = ?, risk = ?, judged = ? WHERE number = ?",
            (by, outcome, risk, judged, number),
        )

    def _drop(self, user: int) -> None:
        """Drop an erased user's rows from before the erasure."""
        db, until = self._file.db, self._file.erased_until(user)
        db.execute("DELETE FROM examples WHERE user = ? AND at <= ?", (user, until))
        db.execute("DELETE FROM outcomes WHERE user = ? AND at <= ?", (user, until))
        newest, size = db.execute("SELECT MAX(number), SUM(size) FROM examples WHERE user = ?", (user,)).fetchone()
        if newest is None:
            self._newest.pop(user, None)
            self._size.pop(user, None)
        else:
            self._newest[user], self._size[user] = newest, size

    def _evict(self) -> None:
        for user in surplus(self._newest, self._size, self._max_users, self._max_bytes):
            self._file.db.execute("DELETE FROM examples WHERE user = ?", (user,))
            self._file.db.execute("DELETE FROM outcomes WHERE user = ?", (user,))
            del self._newest[user], self._size[user]
        (outcomes,) = self._file.db.execute("SELECT COUNT(*) FROM outcomes").fetchone()
        if outcomes > 2 * self._max_users:
            # Of users whose examples have left, or never came; those who have some are no more than `max_users`.
            self._file.db.execute(
                "DELETE FROM outcomes WHERE user IN (SELECT user FROM outcomes WHERE NOT EXISTS "
                "(SELECT 1 FROM examples WHERE examples.user = outcomes.user) ORDER BY at LIMIT ?)",
                (outcomes - 2 * self._max_users,),
            )


def _row(example: RiskExample, at: float) -> _Row | None:
    """Return an example as it is kept; None if its steps are of another version or shape."""
    try:
        steps = b64decode(example.steps, validate=True)
    except Base64Error:
        return None
    if example.feature_version != weekly.VERSION or len(steps) != _STEPS_BYTES:
        return None
    other = example.unheard
    slices, context = json.dumps(example.slices), json.dumps([example.course_id, example.context])
    return _Row(
        user=name_hash(example.user_id),
        example=name_hash(example.example_id),
        week=example.week,
        as_of=example.as_of.timestamp(),
        at=at,
        version=example.model.version,
        score=example.score,
        score_fallback=example.score_fallback,
        other=None if other is None else other.model.version,
        score_other=None if other is None else other.score,
        slices=slices,
        context=context,
        steps=steps,
        size=_ROW_BYTES + len(steps) + len(slices) + len(context),
    )


def _label(outcome: RiskOutcome, at: float) -> _Label | None:
    """Return what is known of a user; None where it is nothing."""
    if outcome.outcome is None and outcome.score is None:
        return None
    place = None if outcome.outcome is None else OUTCOMES.index(outcome.outcome)
    score = None if outcome.outcome is not None else outcome.score
    return _Label(name_hash(outcome.user_id), outcome.timestamp.timestamp(), at, place, score)


def load_snapshots(
    path: Path, most: int, seed: int, fields: Collection[str]
) -> tuple[Snapshots, tuple[str, ...], tuple[str, ...]]:
    """
    Return labelled examples to learn from, as they were committed last.

    Half of them are of the users who were heard of latest, the others of a random sample of all others. The file is
    only read, by any process, while the trainer writes on.

    Args:
        path: Of the file.
        most: Examples, whole users of them; less than the first user's is not returned.
        seed: Of the sample.
        fields: Of an enrolment, that may be learned from, besides the course and `weekly.NUMBERS`: the file may hold
            others, which were allowed when they came.

    Returns:
        The examples in the order of their users and weeks, the facts of enrolments (`field=text`) that are known of
        enough users, and the names of their numbers.

    Raises:
        StoreError: If the file cannot be read.
    """
    with read_only(path, _KIND.noun) as db:
        rows = _chosen(db, most, seed)
    users = np.array([user for user, *_ in rows], np.int64)
    contexts = [_Context.of(context, fields) for _, _, _, _, _, context, _ in rows]
    steps = np.frombuffer(b"".join(packed for *_, packed in rows), _STEPS)
    as_of = np.array([at for _, _, at, *_ in rows], np.float64)
    snapshots = Snapshots(
        seen=_seen(steps.reshape(-1, WEEKS, len(weekly.NAMES)).astype(np.float32), as_of, contexts),
        user=users,
        week=np.array([week for _, week, *_ in rows], np.int64),
        outcome=np.array([outcome for _, _, _, outcome, *_ in rows], np.int64),
        risk=np.array([risk for _, _, _, _, risk, *_ in rows], np.float32),
    )
    facts = _known_of([[fact_name(*fact) for fact in context.facts] for context in contexts], users)
    return snapshots, facts, _known_of([list(context.numbers) for context in contexts], users)


def _chosen(db: sqlite3.Connection, most: int, seed: int) -> list[tuple[Any, ...]]:
    """Return rows of labelled examples: user, week, as_of, outcome, risk, context and steps."""
    heads = db.execute("SELECT user, COUNT(*), MAX(number) FROM examples WHERE by IS NOT NULL GROUP BY user").fetchall()
    user, lengths, last = np.array(heads, np.int64).reshape(-1, 3).T
    of_user = "SELECT user, week, as_of, outcome, risk, context, steps FROM examples WHERE user = ? AND by IS NOT NULL"
    return [
        row
        for each in user[choose(lengths, last, most, seed)].tolist()
        for row in db.execute(f"{of_user} ORDER BY as_of, number", (each,))
    ]


class _Context(NamedTuple):
    """What an example knows of its user's enrolment."""

    course_id: str | None
    texts: list[tuple[str, str]]
    numbers: dict[str, float]
    course_day: float

    @classmethod
    def of(cls, packed: str, fields: Collection[str]) -> "_Context":
        course_id, context = json.loads(packed)
        course_day = float(context.get(COURSE_DAY, float("nan")))
        allowed = [(field, of) for field, of in sorted(context.items()) if field in fields or field in weekly.NUMBERS]
        texts = [(field, of) for field, of in allowed if isinstance(of, str)]
        numbers = {field: float(of) for field, of in allowed if not isinstance(of, str)}
        return cls(course_id, texts[: FACTS - 1], numbers, course_day)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """All that is text, the course among it."""
        return self.texts if self.course_id is None else [("course", self.course_id), *self.texts]


def _seen(steps: NDArray[np.float32], as_of: NDArray[np.float64], contexts: Sequence[_Context]) -> Seen:
    """Return users as the model saw them; steps are `(N, WEEKS, 42)`."""
    N = len(contexts)
    fact, number = np.zeros((N, FACTS), np.uint64), np.full((N, len(weekly.NUMBERS)), np.nan, np.float32)
    field, value = np.zeros((N, NUMBERS), np.uint32), np.zeros((N, NUMBERS), np.float32)
    for row, context in enumerate(contexts):
        if context.course_id is not None:
            fact[row, 0] = fact_key("course", context.course_id)
        fact[row, 1 : 1 + len(context.texts)] = [fact_key(*text) for text in context.texts]
        others = [(name, of) for name, of in context.numbers.items() if name not in weekly.NUMBERS][:NUMBERS]
        field[row, : len(others)] = [field_key(name) for name, _ in others]
        value[row, : len(others)] = [of for _, of in others]
        for place, name in enumerate(weekly.NUMBERS):
            number[row, place] = context.numbers.get(name, np.nan)
    days = weekly.course_days(as_of, (as_of // _DAY_S).astype(np.int64) - 100)  # of any course
    course_day = np.array([context.course_day for context in contexts], np.float32)
    return Seen(steps, fact, course_day[:, None] + days - days[:, -1:], number, field, value)


def _known_of(names: Sequence[Sequence[str]], users: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the names that stand in the rows, `N` lists, of enough users, `(N,)`, in the order of the alphabet."""
    pairs = {(name, user) for row, user in zip(names, users.tolist(), strict=True) for name in row}
    counts = Counter(name for name, _ in pairs)
    return tuple(sorted(name for name, count in counts.items() if count >= LEAST_USERS))
