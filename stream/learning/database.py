"""
A file of SQLite in which the trainer keeps what it read: with the places up to which it did, and whom it is to forget.

What stands in such a file otherwise is said by whoever keeps it: `stream.learning.buffer`,
`stream.learning.risk.examples`. No id of a user stands in it, only 64-bit hashes.
"""

import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from stream.errors import StoreError, UserError

_SCHEMA = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    "CREATE TABLE places (partition INTEGER PRIMARY KEY, read_to INTEGER NOT NULL)",
    "CREATE TABLE erasures (user INTEGER PRIMARY KEY, until REAL NOT NULL)",
    "INSERT INTO about VALUES ('count', 0), ('to_scrub', 0)",
)

SCRUB_EVERY_S = 60.0
_CACHE_KIB = 32_768
_WAL_BYTES = 67_108_864
_BUSY_MS = 5_000


class Kind(NamedTuple):
    """
    What a file is.

    Attributes:
        noun: What it is called in sentences.
        version: Of its form.
        schema: Statements that make its own tables.
        setting: That names it.
    """

    noun: str
    version: int
    schema: tuple[str, ...]
    setting: str


class Database:
    """
    A file, its places and its erasures. What is noted is durable with the next `transaction`.

    Args:
        path: The file; made if there is none, with its folder.
        kind: What it is.
        scrub_every_s: Seconds from one rewriting of the file after an erasure to the next, at least.

    Raises:
        UserError: If the file is none of ours, of another version, damaged, or cannot be opened.
    """

    def __init__(self, path: Path, kind: Kind, scrub_every_s: float = SCRUB_EVERY_S) -> None:
        self.path = path
        self._kind = kind
        self._scrub_every_s = scrub_every_s
        self._scrubbed_at = -math.inf
        self._new_erasures: set[int] = set()
        self.is_changed = False
        """Whether places or erasures are not durable yet."""
        self.db = _open(path, kind)
        with self.reading():
            about = dict(self.db.execute("SELECT name, value FROM about"))
            self.count: int = about["count"]
            """Of what the file counts, ever."""
            self.to_scrub = bool(about["to_scrub"])
            """Whether something of an erased user may still stand in the file or its log."""
            self._places: dict[int, int] = dict(self.db.execute("SELECT partition, read_to FROM places"))
            self._erased: dict[int, float] = dict(self.db.execute("SELECT user, until FROM erasures"))

    def close(self) -> None:
        """Close the file; what is not durable is lost."""
        self.db.close()

    def places(self) -> dict[int, int]:
        """Return the offset to read next, by partition."""
        return dict(self._places)

    def has_read(self, place: tuple[int, int]) -> bool:
        """Return whether a place, partition and offset, was read already."""
        partition, offset = place
        return offset < self._places.get(partition, 0)

    def goes_on(self, place: tuple[int, int]) -> bool:
        """Take note of a place, partition and offset, and return whether it had not been read yet."""
        partition, offset = place
        if self.has_read(place):
            return False
        self._places[partition] = offset + 1
        self.is_changed = True
        return True

    def made_anew(self, partition: int, end: int) -> bool:
        """
        Go back to the beginning of a partition if its topic was made anew.

        Args:
            partition: Of the topic.
            end: Its end now: below the place up to which it was read, if it is another topic of the same name.

        Returns:
            Whether it was.
        """
        if self._places.get(partition, 0) <= end:
            return False
        self._places[partition] = 0
        self.is_changed = True
        return True

    def erased_until(self, user: int) -> float:
        """Return up to which moment, seconds since the epoch, all of a user is to be refused."""
        return self._erased.get(user, -math.inf)

    def forget(self, user: int, until: float) -> bool:
        """Take note of an erasure; return whether it is news, as all are read again when the trainer starts."""
        if until <= self.erased_until(user):
            return False
        self._erased[user] = until
        self._new_erasures.add(user)
        self.is_changed = self.to_scrub = True
        return True

    @contextmanager
    def reading(self) -> Iterator[None]:
        """
        Read within.

        Raises:
            UserError: If the file is damaged; it is closed then.
        """
        try:
            yield
        except sqlite3.DatabaseError as error:
            self.close()
            raise self._unusable(str(error)) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        Make durable what is written within, together with places, erasures and the count; all of it or nothing.

        Raises:
            StoreError: If the file could not be written, as on a full disk.
            UserError: If the file was damaged since it was opened.
        """
        db = self.db
        with self._writing():
            try:
                db.execute("BEGIN IMMEDIATE")
                yield
                erasures = [(user, self._erased[user]) for user in self._new_erasures]
                db.executemany("INSERT OR REPLACE INTO erasures VALUES (?, ?)", erasures)
                db.executemany("INSERT OR REPLACE INTO places VALUES (?, ?)", self._places.items())
                about = [("count", self.count), ("to_scrub", self.to_scrub)]
                db.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", about)
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        self._new_erasures = set()
        self.is_changed = False

    def scrub(self) -> None:
        """
        Rewrite the file, and empty its log, if somebody was erased and the latest time is long enough ago.

        `secure_delete` overwrites deleted rows, but not the copies that stay behind in the free room of pages when
        their rows are moved to other ones: of a tenth of the erased users something was found.

        Raises:
            StoreError: If the file could not be written.
            UserError: If the file was damaged since it was opened.
        """
        if not self.to_scrub or time.monotonic() < self._scrubbed_at + self._scrub_every_s:
            return
        self._scrubbed_at = time.monotonic()
        with self._writing():
            self.db.execute("VACUUM")
            self.db.execute("PRAGMA busy_timeout = 0")  # an update that reads is not waited for
            try:
                is_busy, *_ = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self.db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            if not is_busy:
                self.to_scrub = False
                self.db.execute("UPDATE about SET value = 0 WHERE name = 'to_scrub'")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"{self.path}: expected to write the {self._kind.noun}, found: {error}; it is tried again"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._unusable(str(error)) from error

    def _unusable(self, found: str) -> UserError:
        return _unusable(self.path, self._kind, found)


@contextmanager
def read_only(path: Path, noun: str) -> Iterator[sqlite3.Connection]:
    """
    Open a file as it was committed last, to read only, by any process, while the trainer writes on.

    Raises:
        StoreError: If the file cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as db:
            db.execute("BEGIN")
            yield db
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: expected a {noun} to read, found: {error}") from error


def name_hash(name: str) -> int:
    """Return a stable hash, 64 bits with a sign, as SQLite keeps integers."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def surplus(newest: Mapping[int, int], size: Mapping[int, int], max_users: int, max_bytes: int) -> Sequence[int]:
    """
    Return the users who are to go if there are too many, so that some room is left.

    The half who were heard of latest stay. Of the older half, those with the largest hash go: users with a small one
    remain however long it is since, so that the older half is an even sample of all users that there ever were.

    Args:
        newest: Number of each user's newest row, by the user's hash.
        size: Bytes of each user's rows; one user always stays.
        max_users: Kept at most.
        max_bytes: Kept at most.
    """
    users, size_bytes = len(newest), sum(size.values())
    if users <= max_users and size_bytes <= max_bytes:
        return ()
    going: dict[int, None] = {}
    while users > 1:
        quiet_first = sorted(newest.keys() - going.keys(), key=newest.__getitem__)
        for user in sorted(quiet_first[: len(quiet_first) // 2], reverse=True):
            if users <= int(_KEPT * max_users) and size_bytes <= int(_KEPT * max_bytes):
                return tuple(going)
            going[user] = None
            users, size_bytes = users - 1, size_bytes - size[user]
    return tuple(going)


_KEPT = 0.95
"""Share of a limit that is left by an eviction, so that there is one for many new users."""


def _open(path: Path, kind: Kind) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise UserError(f"{path}: expected a file for the {kind.noun}, found: {error}; see {kind.setting}") from error
    try:
        _check(db, path, kind)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        if not db.execute("PRAGMA user_version").fetchone()[0]:
            _create(db, kind)
    except sqlite3.DatabaseError as error:
        db.close()
        raise _unusable(path, kind, str(error)) from error
    except UserError:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, path: Path, kind: Kind) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    is_empty = db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0] == 0
    if version != kind.version and not (version == 0 and is_empty):
        raise _unusable(path, kind, f"a database of version {version}")


def _create(db: sqlite3.Connection, kind: Kind) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in (*_SCHEMA, *kind.schema):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {kind.version}")
    db.execute("COMMIT")


def _unusable(path: Path, kind: Kind, found: str) -> UserError:
    return UserError(
        f"{path}: expected a {kind.noun} of version {kind.version}, found: {found}; "
        "stop what else uses the file, or remove it: the examples are read again from the topic"
    )
