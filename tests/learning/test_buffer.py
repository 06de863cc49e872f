"""The replay buffer: bounded, balanced, corrected, forgotten where it must be, and the same after a restart."""

import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ExampleCorrection, ModelRef, Source, TrainingExample
from stream.errors import StoreError, UserError
from stream.learning.buffer import VERSION, Buffer, choose, load_runs
from stream.learning.database import name_hash
from stream.learning.runs import Runs
from stream.models import features
from stream.models.features import COUNT

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def source(event_id: str) -> Source:
    """Return where an event came from."""
    return Source(event_id=event_id, topic="interactions", partition=0, offset=0)


def example(user: str, number: int, version: int = 0, **changes: Any) -> TrainingExample:
    """Return a user's example of some number."""
    fields: dict[str, Any] = {
        "example_id": f"x-{user}-{number}",
        "event_id": f"e-{number}",
        "user_id": user,
        "topic_id": "area",
        "item_id": None,
        "skills": ("s-1",),
        "difficulty": "hard",
        "correct": True,
        "response_time_seconds": 30.0,
        "features": (0.0,) * COUNT,
        "p_before": 0.5,
        "p_before_fallback": 0.5,
    }
    return TrainingExample(
        timestamp=NOW,
        source=source(f"e-{number}"),
        model=ModelRef(name="knowledge", version=version, variant="champion" if version else "fallback"),
        state_format="none",
        state_version=0,
        feature_version=features.VERSION,
        median_before=60.0,
        median_before_fallback=60.0,
        **(fields | changes),
    )


def correction(user: str, number: int, correct: bool) -> ExampleCorrection:
    """Return a correction of a user's example."""
    event_id = f"c-{number}"
    return ExampleCorrection(
        example_id=f"x-{user}-{number}", event_id=event_id, user_id=user, correct=correct, source=source(event_id),
        timestamp=NOW,
    )  # fmt: skip


def opened(
    path: Path, max_users: int = 1_000, max_bytes: int = 1 << 30, max_run: int = 100, scrub_every_s: float = 0.0
) -> Buffer:
    """Return a buffer on a file."""
    return Buffer(
        path, max_users=max_users, max_bytes=max_bytes, max_run=max_run, scrub_every_s=scrub_every_s
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a buffer's file, in a folder that is not there yet."""
    return tmp_path / "state" / "buffer.sqlite"


def fill(buffer: Buffer, *users: str, start: int = 0) -> None:
    """Add one answer after the other, each of the next number, at the offset of its number, that many seconds on."""
    for number, user in enumerate(users, start):
        assert buffer.add(example(user, number), float(number), (0, number))


def numbers(runs: Runs) -> list[list[int]]:
    """Return the numbers of the answers of each run."""
    return [row[there].tolist() for row, there in zip(runs.number, runs.there, strict=True)]


def same(left: Runs, right: Runs) -> bool:
    """Return whether runs are equal in every field."""
    pairs = ((getattr(left, each.name), getattr(right, each.name)) for each in fields(Runs))
    return all(np.array_equal(one, other) and one.dtype == other.dtype for one, other in pairs)


# What is kept


def test_what_was_added_is_loaded(path: Path) -> None:
    """Skills by their rows, outcomes, features: by another connection, after a commit, as they were added."""
    with opened(path) as buffer:
        seen = tuple(float(i) / 8 for i in range(COUNT))
        buffer.add(example("u", 0, version=4, skills=("a", "b"), features=seen, p_before=0.25), 1.0, (0, 0))
        buffer.add(example("v", 1, skills=("b", "c"), correct=False, item_id="i"), 2.0, (0, 1))
        assert buffer.skills == ("a", "b", "c")
        here = buffer.runs()
        buffer.commit()
        runs, skills = load_runs(path, most=100, seed=1)
        assert same(runs, here)
        assert same(buffer.runs(), here)
    assert skills == ("a", "b", "c")
    assert runs.skills.tolist() == [[[1, 2, 0, 0]], [[2, 3, 0, 0]]]
    assert runs.correct.tolist() == [[1], [0]]
    assert runs.features[0, 0].tolist() == list(seen)
    assert (runs.version[0, 0], runs.p_serving[0, 0]) == (4, 0.25)


def test_an_empty_buffer_has_empty_runs(path: Path) -> None:
    """Before the first answer there is nothing, in the right shape."""
    with opened(path) as buffer:
        assert len(buffer.runs()) == 0
        runs, skills = load_runs(path, most=10, seed=1)
    assert runs.features.shape == (0, 1, COUNT)
    assert skills == ()


def test_an_event_counts_once(path: Path) -> None:
    """Come again under another place, committed or not, it changes nothing; another user's is another."""
    with opened(path) as buffer:
        assert buffer.add(example("u", 0), 0.0, (0, 0))
        assert not buffer.add(example("u", 0, correct=False), 0.0, (0, 1))
        buffer.commit()
        assert not buffer.add(example("u", 0, correct=False), 0.0, (1, 0))
        assert (len(buffer), buffer.count, buffer.users) == (1, 1, 1)
        assert buffer.runs().correct.tolist() == [[1]]
        assert buffer.add(example("v", 0), 0.0, (0, 2))
        assert buffer.places() == {0: 3, 1: 1}


def test_a_place_is_read_once(path: Path) -> None:
    """What stands before the place that was reached is in already; partitions have places of their own."""
    with opened(path) as buffer:
        fill(buffer, "u", "u", "u")
        assert not buffer.add(example("w", 9), 9.0, (0, 2))
        buffer.passed(0, 7)
        assert not buffer.add(example("w", 9), 9.0, (0, 7))
        buffer.passed(0, 3)
        assert buffer.places() == {0: 8}
        assert buffer.add(example("w", 9), 9.0, (1, 2))
        assert buffer.places() == {0: 8, 1: 3}


def test_an_example_that_no_network_reads_is_refused(path: Path) -> None:
    """Other features than ours, or numbers beyond a float32, are no answer to learn from; the place counts as read."""
    with opened(path) as buffer:
        assert not buffer.add(example("u", 0, features=(0.0,)), 0.0, (0, 0))
        assert not buffer.add(example("u", 1, features=(1e300,) * COUNT, skills=("new",)), 0.0, (0, 1))
        assert (len(buffer), buffer.count, buffer.skills, buffer.places()) == (0, 0, (), {0: 2})


def test_a_run_is_bounded(path: Path) -> None:
    """Of one user the latest answers are kept, in memory as in the file."""
    with opened(path, max_run=3) as buffer:
        fill(buffer, *"uuuuu")
        buffer.commit()
        fill(buffer, *"vuu", start=5)
        assert numbers(buffer.runs()) == [[4, 6, 7], [5]]
        buffer.commit()
        assert numbers(load_runs(path, most=100, seed=1)[0]) == [[4, 6, 7], [5]]
        assert (len(buffer), buffer.count) == (4, 8)


def test_runs_since_a_number(path: Path) -> None:
    """Only runs that have gone on since are asked for, each whole."""
    with opened(path) as buffer:
        fill(buffer, *"ababb")
        assert numbers(buffer.runs(since=3)) == [[1, 3, 4]]
        assert len(buffer.runs(since=5)) == 0


# Skills


def test_rows_of_a_published_model_stay(path: Path) -> None:
    """Skills of a model that is known keep their rows; new ones come after, and a restart changes nothing."""
    with opened(path) as buffer:
        buffer.know(["z", "y"])
        buffer.add(example("u", 0, skills=("a", "y")), 0.0, (0, 0))
        buffer.commit()
    with opened(path) as buffer:
        assert buffer.skills == ("z", "y", "a")
        assert buffer.runs().skills[0, 0].tolist() == [3, 2, 0, 0]
        buffer.know(["z", "y", "a", "b"])
        assert list(buffer.skills) == ["z", "y", "a", "b"]


def test_a_published_order_wins(path: Path) -> None:
    """Skills that were met in another order move, with the answers that name them; the others follow in their order."""
    with opened(path) as buffer:
        buffer.add(example("u", 0, skills=("a", "b", "c")), 0.0, (0, 0))
        buffer.commit()
        buffer.know(["c", "new", "a"])
        assert buffer.skills == ("c", "new", "a", "b")
        buffer.commit()
    with opened(path) as buffer:
        assert buffer.skills == ("c", "new", "a", "b")
        assert buffer.runs().skills.tolist() == [[[3, 4, 1, 0]]]
    runs, skills = load_runs(path, most=10, seed=1)
    assert skills == ("c", "new", "a", "b")
    assert runs.skills.tolist() == [[[3, 4, 1, 0]]]


# Corrections


@pytest.mark.parametrize("commits", [False, True], ids=["waiting", "committed"])
def test_an_outcome_is_corrected(path: Path, commits: bool) -> None:
    """The answer is found by its example's id, whether in the file yet or not, and is what it is after a restart."""
    names = tuple(f"s-{i}" for i in range(6))
    seen = tuple(float(i) for i in range(COUNT))
    with opened(path) as buffer:
        fill(buffer, "u")
        buffer.add(example("u", 1, skills=names, item_id="i", features=seen), 1.0, (0, 1))
        fill(buffer, "u", "v", start=2)
        if commits:
            buffer.commit()
        corrected = buffer.correct(correction("u", 1, correct=False), (0, 4))
        assert corrected is not None
        assert (corrected.was_correct, corrected.is_correct) == (True, False)
        assert (corrected.topic_id, corrected.item_id, corrected.difficulty) == ("area", "i", "hard")
        assert corrected.skills == names
        assert corrected.features.tolist() == list(seen)
        assert buffer.runs().correct.tolist() == [[1, 0, 1], [1, 0, 0]]
        assert numbers(buffer.runs()) == [[0, 1, 2], [3]]
        buffer.commit()
    with opened(path) as buffer:
        assert buffer.runs().correct.tolist() == [[1, 0, 1], [1, 0, 0]]
        assert buffer.count == 4


def test_a_correction_counts_once(path: Path) -> None:
    """Read again from the same place it is nothing; sent again to another, it finds what it wants to make."""
    with opened(path) as buffer:
        fill(buffer, "u")
        assert buffer.correct(correction("u", 0, correct=False), (0, 1)) is not None
        assert buffer.correct(correction("u", 0, correct=True), (0, 1)) is None
        again = buffer.correct(correction("u", 0, correct=False), (0, 2))
        assert again is not None
        assert (again.was_correct, again.is_correct) == (False, False)
        assert buffer.runs().correct.tolist() == [[0]]


def test_a_correction_of_what_is_not_kept(path: Path) -> None:
    """Of an unknown user, another user's example, one that a longer run pushed out, one that was erased: nothing."""
    with opened(path, max_run=2) as buffer:
        fill(buffer, *"uuuv")
        for user, number in (("nobody", 0), ("v", 0), ("u", 0)):
            assert buffer.correct(correction(user, number, correct=False), (1, buffer.places().get(1, 0))) is None
        buffer.commit()
        fill(buffer, "u", start=4)
        assert buffer.correct(correction("u", 1, correct=False), (1, 3)) is None
        buffer.forget("v", 10.0)
        assert buffer.correct(correction("v", 3, correct=False), (1, 4)) is None
        assert buffer.places() == {0: 5, 1: 5}
        assert buffer.runs().correct.tolist() == [[1, 1]]


# Erasure


def stands(path: Path, *needles: bytes) -> list[bool]:
    """Return whether some bytes stand anywhere in the database's files."""
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    return [needle in content for needle in needles]


def secret(number: int, **changes: Any) -> TrainingExample:
    """Return an example of `secret-user` of which everything can be told in a file."""
    marks = np.frombuffer(b"SECRETMARKS!" * COUNT, "<f4")[:COUNT]
    return example("secret-user", number, item_id="secret-item", features=tuple(marks.tolist()), **changes)


def test_an_erased_user_leaves_the_file(path: Path) -> None:
    """After the commit neither the file nor its log holds anything of the user's answers; others stay."""
    marks = (b"SECRETMARKS!", b"secret-item")
    with opened(path) as buffer:
        for number in range(300):
            user = f"u-{number % 7}"
            each = secret(number) if number % 3 == 0 else example(user, number)
            buffer.add(each, float(number), (0, number))
            if number % 20 == 0:
                buffer.commit()
        buffer.commit()
        assert stands(path, *marks, b"secret-user", b"area") == [True, True, False, True]
        kept = [row for row in numbers(buffer.runs()) if row[0] % 3]
        buffer.forget("secret-user", 1_000.0)
        buffer.forget("nobody", 1_000.0)
        assert numbers(buffer.runs()) == kept
        buffer.commit()
        assert stands(path, *marks, b"area") == [False, False, True]
        assert len(buffer) == 200
    assert stands(path, *marks, b"area") == [False, False, True]


def test_answers_that_waited_when_their_user_was_erased_never_reach_the_file(path: Path) -> None:
    """What was not committed yet is dropped in memory."""
    with opened(path) as buffer:
        buffer.add(secret(0), 0.0, (0, 0))
        buffer.forget("secret-user", 0.0)
        fill(buffer, "u", start=1)
        buffer.commit()
        assert stands(path, b"SECRETMARKS!", b"area") == [False, True]
        assert (len(buffer), buffer.users, buffer.count, buffer.places()) == (1, 1, 2, {0: 2})


def test_an_update_that_reads_delays_the_erasure_from_the_log_and_no_longer(path: Path) -> None:
    """A reader keeps its snapshot; the commit does not wait for it, and the first one after it empties the log."""
    with opened(path) as buffer:
        buffer.add(secret(0), 0.0, (0, 0))
        buffer.commit()
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT COUNT(*) FROM answers").fetchone() == (1,)
            buffer.forget("secret-user", 0.0)
            buffer.commit()
            assert len(load_runs(path, most=10, seed=1)[0]) == 0
            assert reader.execute("SELECT COUNT(*) FROM answers").fetchone() == (1,)
        buffer.commit()
        assert stands(path, b"SECRETMARKS!") == [False]


def test_a_restart_does_not_forget_to_erase(path: Path) -> None:
    """A trainer that ended while an update still read empties the file when it is back."""
    with opened(path) as buffer:
        buffer.add(secret(0), 0.0, (0, 0))
        buffer.commit()
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM answers").fetchone()
        buffer.forget("secret-user", 0.0)
        buffer.commit()
    assert stands(path, b"SECRETMARKS!") == [True]
    with opened(path) as buffer:
        reader.close()
        buffer.commit()
        assert stands(path, b"SECRETMARKS!") == [False]


def test_the_file_is_not_rewritten_for_each_erasure(path: Path) -> None:
    """Soon after another one, an erasure overwrites its rows at once; what else may be left waits for its time."""
    with opened(path, scrub_every_s=1_000.0) as buffer:
        buffer.add(secret(0), 0.0, (0, 0))
        buffer.forget("nobody", 0.0)
        buffer.commit()
        buffer.forget("secret-user", 0.0)
        buffer.commit()
        assert stands(path, b"SECRETMARKS!") == [True]
    assert stands(path, b"SECRETMARKS!") == [False]
    waiting = []
    for _ in range(2):
        with opened(path) as buffer:
            buffer.forget("nobody", 0.0)  # as all erasures are, when the trainer starts
            waiting.append(buffer._file.to_scrub)
            buffer.commit()
    assert waiting == [True, False]


def test_nothing_is_left_behind_where_rows_were_moved(path: Path) -> None:
    """SQLite leaves copies in the free room of pages; of half of the users, each erased, not one has any."""
    random = np.random.default_rng(1)
    with opened(path, max_run=10) as buffer:
        for number, user in enumerate(random.integers(0, 60, 1_500).tolist()):
            marks = tuple(np.frombuffer((b"U%07d" % user) * COUNT, "<f4")[:COUNT].tolist())
            each = example(f"u-{user}", number, features=marks, topic_id="t" * (number % 30 + 1))
            buffer.add(each, float(number), (0, number))
            if number % 20 == 0:
                buffer.commit()
        for user in range(0, 60, 2):
            buffer.forget(f"u-{user}", 1e9)
            buffer.commit()
        found = stands(path, *(b"U%07d" % user * 2 for user in range(60)))
    assert found == [False, True] * 30


def test_examples_from_before_an_erasure_are_refused(path: Path) -> None:
    """Late ones, up to its very moment, also after a restart; what comes after it is a new beginning."""
    with opened(path) as buffer:
        buffer.forget("u", 5.0)
        buffer.forget("u", 3.0)
        assert not buffer.add(example("u", 0), 5.0, (0, 0))
        buffer.commit()
        assert not buffer.add(example("u", 0), 5.0, (1, 0))
    with opened(path) as buffer:
        assert not buffer.add(example("u", 1), 4.0, (0, 1))
        assert buffer.add(example("v", 2), 4.0, (0, 2))
        assert buffer.add(example("u", 3), 5.001, (0, 3))
        assert (buffer.count, buffer.places()) == (2, {0: 4})


@pytest.mark.parametrize("commits", [False, True], ids=["waiting", "committed"])
def test_an_erasure_leaves_what_came_after_it(path: Path, commits: bool) -> None:
    """By Kafka's timestamps, which need not rise from answer to answer."""
    with opened(path) as buffer:
        for number, at in enumerate((1.0, 9.0, 2.0, 8.0, 3.0)):
            buffer.add(example("u", number), at, (0, number))
        if commits:
            buffer.commit()
        before = buffer.size_bytes
        buffer.forget("u", 3.0)
        assert numbers(buffer.runs()) == [[1, 3]]
        assert buffer.size_bytes == before * 2 // 5
        assert not buffer.add(example("u", 3), 10.0, (0, 5))
        buffer.commit()
    with opened(path) as buffer:
        assert numbers(buffer.runs()) == [[1, 3]]
        assert (len(buffer), buffer.count) == (2, 5)


# Bounds over all users


def test_a_full_buffer_keeps_new_and_old_users_alike(path: Path) -> None:
    """Half are those who answered latest; the others, by their hashes, an even sample of all that were ever there."""
    met, limit = 8_000, 1_000
    with opened(path, max_users=limit) as buffer:
        for number in range(met):
            buffer.add(example(f"u-{number}", number), 0.0, (0, number))
            assert buffer.users <= limit
            if number % 500 == 0:
                buffer.commit()
        kept = buffer.runs().number[:, 0]
        assert 0.95 * limit <= len(kept) <= limit
        assert set(range(met - limit // 2, met)) <= set(kept.tolist())
        older = kept[kept < met - limit // 2]
        shares = np.histogram(older, 4, (0, met - limit // 2))[0] / len(older)
        assert (np.abs(shares - 0.25) < 0.06).all(), shares
        hashes = np.array([name_hash(f"u-{number}") for number in range(met - limit)])
        is_kept = np.isin(np.arange(met - limit), kept)
        assert hashes[is_kept].max() < hashes[~is_kept].min()


def test_a_user_who_comes_back_is_new(path: Path) -> None:
    """Whoever answered latest stays, whatever the hash and however old the first answer."""
    with opened(path, max_users=10) as buffer:
        for number in range(0, 400, 2):
            buffer.add(example("faithful", number), 0.0, (0, number))
            buffer.add(example(f"u-{number}", number + 1), 0.0, (0, number + 1))
        assert list(range(200, 400, 2)) in numbers(buffer.runs())


def test_bytes_are_bounded(path: Path) -> None:
    """With few users but much of each, by what they take up; texts count."""
    with opened(path) as sizes:
        fill(sizes, "u")
        short = sizes.size_bytes
        sizes.add(example("u", 1, item_id="x" * 100), 0.0, (0, 1))
        assert sizes.size_bytes == 2 * short + 100
    with opened(path.with_name("other"), max_bytes=20 * short) as buffer:
        for number in range(400):
            buffer.add(example(f"u-{number % 8}", number), 0.0, (0, number))
            assert buffer.size_bytes <= 20 * short
            assert buffer.size_bytes == short * len(buffer)
        assert buffer.users > 1


def test_one_user_is_always_kept(path: Path) -> None:
    """However little room there is, there is something to learn from."""
    with opened(path, max_users=1, max_bytes=1, max_run=5) as buffer:
        fill(buffer, *"abcccccccc")
        assert numbers(buffer.runs()) == [[5, 6, 7, 8, 9]]


def test_narrower_bounds_hold_from_the_start(path: Path) -> None:
    """A file that was written under wider ones is cut when it is opened."""
    with opened(path) as buffer:
        fill(buffer, *("abcdefghij" * 5))
        buffer.commit()
    with opened(path, max_users=4, max_run=2) as buffer:
        assert buffer.users <= 4
        assert all(len(run) == 2 for run in numbers(buffer.runs()))
        assert [run[-1] for run in numbers(buffer.runs())][-2:] == [48, 49]
        buffer.commit()
        assert same(load_runs(path, most=100, seed=1)[0], buffer.runs())


# Restarts and places


def test_a_restart_loses_only_what_was_not_committed(path: Path) -> None:
    """Opened beside one that was killed: answers, places, skills, erasures and the count are those of the commit."""
    killed = opened(path, max_run=3)
    fill(killed, *"uuvv")
    killed.commit()
    before = killed.runs()
    fill(killed, *"uuw", start=4)
    killed.correct(correction("v", 2, correct=False), (0, 7))
    killed.forget("v", 100.0)
    killed.know(["else"])
    with opened(path, max_run=3) as buffer:
        assert same(buffer.runs(), before)
        assert (buffer.count, len(buffer), buffer.users, buffer.places()) == (4, 4, 2, {0: 4})
        assert buffer.skills == ("s-1",)
        killed.close()
        fill(buffer, *"uuw", start=4)
        assert numbers(buffer.runs()) == [[1, 4, 5], [2, 3], [6]]
        assert not buffer.add(example("v", 2), 50.0, (0, 7))
        assert buffer.add(example("v", 7), 50.0, (0, 8))


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(path: Path) -> None:
    """Its end lies before the place that was reached; answers that are kept stay, and count once."""
    with opened(path) as buffer:
        fill(buffer, *"uuu")
        buffer.commit()
        assert not buffer.made_anew(0, 3)
        assert not buffer.made_anew(1, 0)
        assert buffer.made_anew(0, 2)
        assert not buffer.made_anew(0, 2)
        buffer.commit()
    with opened(path) as buffer:
        assert buffer.places() == {0: 0}
        assert not buffer.add(example("u", 1), 1.0, (0, 0))
        assert buffer.add(example("u", 4), 4.0, (0, 1))
        assert numbers(buffer.runs()) == [[0, 1, 2, 3]]


_WRITER = """
import sys
from pathlib import Path
from tests.learning.test_buffer import example, opened
with opened(Path(sys.argv[1]), max_run=10) as buffer:
    start = buffer.places().get(0, 0)
    for number in range(start, start + 100_000):
        buffer.add(example(f"u-{number % 7}", number), 0.0, (0, number))
        if number % 5 == 4:
            buffer.commit()
            print(number + 1, flush=True)
"""


def test_a_trainer_that_is_killed_resumes_exactly(path: Path) -> None:
    """Killed at any moment: every answer up to its place is there, none after it, and nothing committed is lost."""
    command, root = [sys.executable, "-c", _WRITER, str(path)], Path(__file__).parents[2]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as writer:
            assert writer.stdout is not None
            told = [int(writer.stdout.readline()) for _ in range(40)]
            writer.send_signal(signal.SIGKILL)
            told += [int(line) for line in writer.stdout if line.endswith("\n")]
        with opened(path, max_run=10) as buffer:
            place = buffer.places()[0]
            assert place >= told[-1]
            assert place % 5 == 0
            assert buffer.count == place
            runs = numbers(buffer.runs())
            assert sorted(number for run in runs for number in run) == list(range(place - 70, place))
            assert all(np.diff(run).tolist() == [7] * 9 for run in runs)


# A disk that is full, and files that are none of ours


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """Nothing of a commit is durable then, all of it waits, and the next one makes up for it."""
    with opened(path) as buffer:
        fill(buffer, *"uvw")
        buffer.commit()
        fill(buffer, *("uvw" * 100), start=3)
        buffer.forget("v", 20.0)
        wanted = buffer.runs()
        with full_disk(60_000):
            for _ in range(2):
                with pytest.raises(StoreError, match=r"buffer\.sqlite: expected to write the replay buffer, found"):
                    buffer.commit()
        assert numbers(load_runs(path, most=1_000, seed=1)[0]) == [[0], [1], [2]]
        assert buffer.uncommitted == 294
        assert buffer.places() == {0: 303}
        assert same(buffer.runs(), wanted)
        fill(buffer, "x", start=303)
        buffer.commit()
        assert buffer.uncommitted == 0
        wanted = buffer.runs()
    with opened(path) as buffer:
        assert same(buffer.runs(), wanted)
        assert (buffer.count, buffer.places()) == (304, {0: 304})


def other_database(path: Path) -> None:
    """Make a database of another program."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")


def of_version(path: Path, version: int) -> None:
    """Make a buffer of another version."""
    opened(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")


def damaged(path: Path) -> None:
    """Make a buffer, and overwrite all but its first page."""
    with opened(path) as buffer:
        fill(buffer, *("uvw" * 50))
        buffer.commit()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\x99" * (len(content) - 4096))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: path.write_text("These are no answers. " * 1_000), "file is not a database"),
        (other_database, "a database of version 0"),
        (lambda path: of_version(path, VERSION + 1), f"a database of version {VERSION + 1}"),
        (damaged, "malformed"),
    ],
    ids=["text", "other", "version", "damaged"],
)
def test_a_file_that_cannot_be_used_is_left_alone(path: Path, make: Any, found: str) -> None:
    """One sentence says which file, what it is, and what to do; the file is as it was."""
    path.parent.mkdir()
    make(path)
    content = path.read_bytes()
    with pytest.raises(UserError, match=found) as caught:
        opened(path)
    assert str(caught.value).startswith(str(path))
    assert "remove it: the examples are read again" in str(caught.value)
    assert path.read_bytes() == content


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    """A folder, or something below a file, cannot be the buffer; the setting is named."""
    (tmp_path / "file").touch()
    for wrong in (tmp_path, tmp_path / "file" / "buffer.sqlite"):
        with pytest.raises(UserError, match="STREAM_BUFFER"):
            opened(wrong)


def test_no_file_to_learn_from(path: Path) -> None:
    """An update whose buffer is gone fails, and makes none."""
    with pytest.raises(StoreError, match="expected a replay buffer to read"):
        load_runs(path, most=10, seed=1)
    assert not path.exists()


# Loading


def test_half_of_what_is_loaded_is_new(path: Path) -> None:
    """Of many users the latest are all there, the others are a sample; runs are whole, and in order."""
    with opened(path) as buffer:
        fill(buffer, *(f"u-{number // 4}" for number in range(1_600)))
        buffer.commit()
        runs, _ = load_runs(path, most=400, seed=1)
        assert runs.there.sum() == 400
        assert (np.diff(runs.number[:, 0]) > 0).all()
        assert all(run == list(range(run[0], run[0] + 4)) for run in numbers(runs))
        assert runs.number[50:].ravel().tolist() == list(range(1_400, 1_600))
        assert np.histogram(runs.number[:50, 0], 2, (0, 1_400))[0].min() >= 15
        assert same(load_runs(path, most=400, seed=1)[0], runs)
        assert not same(load_runs(path, most=400, seed=2)[0], runs)
        assert same(load_runs(path, most=1_600, seed=1)[0], buffer.runs())


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
    st.integers(1, 300),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_what_is_chosen(lengths: list[int], most: int, seed: int, random: Any) -> None:
    """Each run once, at least one, no more answers than asked for but for a first long run, the latest among them."""
    last = list(range(len(lengths)))
    random.shuffle(last)
    chosen = choose(np.array(lengths), np.array(last), most, seed).tolist()
    assert len(set(chosen)) == len(chosen) > 0
    assert last.index(max(last)) in chosen
    taken = sum(lengths[row] for row in chosen)
    assert taken <= most or len(chosen) == 1
    if sum(lengths) <= most:
        assert len(chosen) == len(lengths)
    latest = sorted(range(len(lengths)), key=lambda row: -last[row])
    total = 0
    for row in latest:
        total += lengths[row]
        if total > most // 2:
            break
        assert row in chosen


def test_an_update_loads_while_the_trainer_writes(path: Path) -> None:
    """It sees whole commits, each with its skills, and keeps nobody waiting."""
    opened(path).close()
    failures: list[BaseException] = []
    stop = threading.Event()

    def write() -> None:
        try:
            with opened(path, max_run=20) as buffer:
                for number in count(0, 10):
                    for each in range(number, number + 10):
                        skill = f"s-{number // 100}"
                        buffer.add(example(f"u-{each % 10}", each, skills=(skill,)), 0.0, (0, each))
                    buffer.commit()
                    if stop.is_set():
                        return
        except BaseException as error:  # noqa: BLE001 (told to the test, whatever it is)
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[int] = set()
    try:
        while len(seen) < 20 and not failures:
            runs, skills = load_runs(path, most=1_000, seed=1)
            counted = runs.there.sum(axis=1)
            assert (counted == counted[:1]).all()
            if len(runs):
                newest = int(runs.number.max())
                assert newest % 10 == 9
                assert len(skills) == newest // 100 + 1
                assert runs.skills.max() == len(skills)
                seen.add(newest)
    finally:
        stop.set()
        writer.join()
    assert not failures


# Whatever comes


@dataclass(slots=True)
class Kept:
    """An answer in the naive buffer."""

    user: str
    number: int
    event: int
    at: float
    correct: bool
    skill: str


@dataclass(slots=True)
class Naive:
    """The buffer as a list."""

    max_users: int
    max_run: int
    answers: list[Kept] = field(default_factory=list)
    skills: list[str] = field(default_factory=list)
    erased: dict[str, float] = field(default_factory=dict)
    count: int = 0
    place: int = 0

    def copy(self) -> "Naive":
        """Return a copy that shares nothing."""
        answers = [replace(each) for each in self.answers]
        return replace(self, answers=answers, skills=[*self.skills], erased={**self.erased})

    def of(self, user: str) -> list[Kept]:
        """Return a user's run."""
        return [each for each in self.answers if each.user == user]

    def users(self) -> list[str]:
        """Return the users, who has been quiet longest first."""
        last = {each.user: each.number for each in self.answers}
        return sorted(last, key=last.__getitem__)

    def add(self, new: Kept, offset: int) -> bool:
        """Add an answer."""
        if offset < self.place:
            return False
        self.place = offset + 1
        if new.at <= self.erased.get(new.user, -1) or new.event in [each.event for each in self.of(new.user)]:
            return False
        if new.skill not in self.skills:
            self.skills.append(new.skill)
        self.answers.append(replace(new, number=self.count))
        self.count += 1
        if len(self.of(new.user)) > self.max_run:
            self.answers.remove(self.of(new.user)[0])
        if len(self.users()) > self.max_users:
            self.evict()
        return True

    def evict(self) -> None:
        """Drop users of the older half by their hashes."""
        while True:
            users = self.users()
            for user in sorted(users[: len(users) // 2], key=name_hash, reverse=True):
                if len(self.users()) <= int(0.95 * self.max_users):
                    return
                self.answers = [each for each in self.answers if each.user != user]

    def correct(self, user: str, number: int, correct: bool, offset: int) -> bool | None:
        """Correct an answer, and return what it was."""
        self.place = offset + 1
        for each in self.of(user):
            if each.event == number:
                was, each.correct = each.correct, correct
                return was
        return None

    def forget(self, user: str, until: float) -> None:
        """Forget a user."""
        self.erased[user] = max(until, self.erased.get(user, -1))
        self.answers = [each for each in self.answers if each.user != user or each.at > until]

    def know(self, skills: Sequence[str]) -> None:
        """Take over an order."""
        self.skills = [*skills, *(skill for skill in self.skills if skill not in skills)]

    def runs(self) -> list[list[tuple[int, bool, int]]]:
        """Return each answer's number, outcome and row of its skill, by runs."""
        users = list(dict.fromkeys(each.user for each in self.answers))
        return [[(e.number, e.correct, self.skills.index(e.skill) + 1) for e in self.of(user)] for user in users]


def as_lists(runs: Runs) -> list[list[tuple[int, bool, int]]]:
    """Return runs as the naive buffer has them."""
    places = [(np.flatnonzero(row), index) for index, row in enumerate(runs.there)]
    return [
        [(int(runs.number[i, t]), bool(runs.correct[i, t]), int(runs.skills[i, t, 0])) for t in row]
        for row, i in places
    ]


USERS = st.sampled_from("abcdefghij")
ADD = st.tuples(
    st.just("add"), USERS, st.integers(0, 9), st.integers(0, 9), st.booleans(), st.sampled_from("xyz"),
    st.sampled_from((0, 0, 0, 0, 1, 2)),
)  # fmt: skip
CORRECT = st.tuples(st.just("correct"), USERS, st.integers(0, 9), st.booleans())
FORGET = st.tuples(st.just("forget"), USERS, st.integers(0, 9))
KNOW = st.tuples(st.just("know"), st.lists(st.sampled_from("wxyz"), unique=True))
OTHERS = st.sampled_from([("commit",), ("commit",), ("kill",), ("restart",)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(ADD, ADD, ADD, ADD, CORRECT, FORGET, KNOW, OTHERS), max_size=80))
def test_it_equals_a_list_whatever_comes(steps: list[tuple[Any, ...]]) -> None:
    """Answers, corrections, erasures, published orders, commits, kills and restarts, in any order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "buffer.sqlite"
        naive = Naive(max_users=5, max_run=3)
        committed = naive.copy()
        buffer = opened(path, naive.max_users, max_run=naive.max_run)
        for step in steps:
            match step:
                case "add", user, event, at, correct, skill, back:
                    offset = max(naive.place - back, 0)
                    new = example(user, event, correct=correct, skills=(skill,))
                    kept = Kept(user, 0, event, at, correct, skill)
                    assert buffer.add(new, at, (0, offset)) == naive.add(kept, offset)
                case "correct", user, event, correct:
                    corrected = buffer.correct(correction(user, event, correct), (0, naive.place))
                    was = naive.correct(user, event, correct, naive.place)
                    assert (corrected.was_correct if corrected else None) == was
                case "forget", user, until:
                    buffer.forget(user, until)
                    naive.forget(user, until)
                case "know", skills:
                    buffer.know(skills)
                    naive.know(skills)
                case ("commit" | "restart",):
                    buffer.commit()
                    committed = naive.copy()
                    assert same(load_runs(path, most=100, seed=1)[0], buffer.runs())
            if step[0] in ("kill", "restart"):
                naive, left = committed.copy(), buffer
                buffer = opened(path, naive.max_users, max_run=naive.max_run)
                left.close()
            assert as_lists(buffer.runs()) == naive.runs()
            assert (len(buffer), buffer.users) == (len(naive.answers), len(naive.users()))
            assert (buffer.count, list(buffer.skills)) == (naive.count, naive.skills)
            assert buffer.places().get(0, 0) == naive.place
        buffer.close()


def test_an_erased_answer_does_not_come_back_with_what_is_put_again(path: Path) -> None:
    """Kafka's timestamps need not rise with the offsets: what stays has lower numbers than what went."""
    with opened(path, max_run=12) as buffer:
        for number, at in enumerate((100.0, 200.0, 110.0, 120.0)):
            buffer.add(example("u-1", number), at, (0, number))
        buffer.commit()
        buffer.forget("u-1", 150.0)
        for number in range(4, 16):
            buffer.add(example("u-1", number), 300.0, (0, number))
        kept = numbers(buffer.runs())
        buffer.commit()
    with opened(path, max_run=12) as again:
        assert numbers(again.runs()) == kept == [list(range(4, 16))]
