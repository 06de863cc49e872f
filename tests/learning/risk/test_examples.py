"""Weeks that wait for what becomes of their users: labelled once, kept in bounds, forgotten, and whole after a kill."""

import signal
import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import ModelRef, RiskExample, RiskOutcome, Source, UnheardRisk
from stream.errors import StoreError, UserError
from stream.learning.database import Database
from stream.learning.judged import Judged
from stream.learning.risk.examples import COURSE_DAY, LEAST_OF_EACH, LEAST_USERS, RiskExamples, load_snapshots
from stream.models import weekly
from stream.models.weekly import COLUMN, NAMES
from stream.state.academic import OUTCOMES, WEEKS, fact_key

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
FIELDS = ("education", "credits")
PASS, FAIL, WITHDRAWN = (OUTCOMES.index(name) for name in ("pass", "fail", "withdrawn"))


def example(user: str, week: int, version: int = 0, **changes: Any) -> RiskExample:
    """Return a week of a user; its steps are all of the week's number."""
    steps = np.full((WEEKS, len(NAMES)), week, "<f2")
    fields: dict[str, Any] = {
        "example_id": f"x-{user}-{week}",
        "user_id": user,
        "week": week,
        "as_of": MONDAY + timedelta(weeks=week),
        "course_id": "maths",
        "model": ModelRef(name="risk", version=version, variant="champion" if version else "fallback"),
        "feature_version": weekly.VERSION,
        "steps": b64encode(steps.tobytes()).decode(),
        "context": {"education": "a-level", "credits": 60.0, COURSE_DAY: 7.0 * week},
        "slices": {"gender": "F"},
        "score": 0.3,
        "score_fallback": 0.2,
    }
    return RiskExample(**fields | changes)


def ended(user: str, week: float, outcome: Any = "fail", score: float | None = None) -> RiskOutcome:
    """Return what became of a user, or what an adviser said, some weeks after the first Monday."""
    event_id = f"o-{user}-{week}-{outcome}"
    at = MONDAY + timedelta(weeks=week)
    source = Source(event_id=event_id, topic="academics", partition=0, offset=0)
    return RiskOutcome(
        example_id=event_id, event_id=event_id, user_id=user, outcome=outcome, score=score, source=source, timestamp=at
    )


def opened(path: Path, max_users: int = 1_000, max_bytes: int = 1 << 30) -> RiskExamples:
    """Return the examples in a file."""
    return RiskExamples(path, max_users=max_users, max_bytes=max_bytes, scrub_every_s=0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file in a folder that is not there yet."""
    return tmp_path / "state" / "risk.sqlite"


@pytest.fixture
def examples(path: Path) -> Iterator[RiskExamples]:
    """Return examples in a file."""
    with opened(path) as made:
        yield made


def feed(examples: RiskExamples, *messages: RiskExample | RiskOutcome, start: int = 0) -> list[Judged]:
    """Have messages read, each at the next offset and a second later, and return what became judged."""
    for offset, message in enumerate(messages, start):
        examples.read(message, float(offset), (0, offset))
    return examples.commit()


def labels(path: Path) -> dict[tuple[int, int], tuple[int, float]]:
    """Return the outcome and the risk of each labelled example, by the first week of its user and its own."""
    snapshots, *_ = load_snapshots(path, 10_000, 1, FIELDS)
    found: dict[tuple[int, int], tuple[int, float]] = {}
    for user in np.unique(snapshots.user):
        mine = snapshots.user == user
        weeks = snapshots.week[mine].tolist()
        pairs = zip(snapshots.outcome[mine].tolist(), snapshots.risk[mine].astype(float).round(6).tolist(), strict=True)
        found |= {(min(weeks), week): pair for week, pair in zip(weeks, pairs, strict=True)}
    return found


# What is labelled


def test_an_outcome_labels_all_weeks_before_it(examples: RiskExamples, path: Path) -> None:
    """Each is a prediction that is judged, by what was said then; those of others wait."""
    other = UnheardRisk(model=ModelRef(name="risk", version=4, variant="challenger"), score=0.9)
    assert feed(examples, example("u", 1), example("u", 2, 3, unheard=other), example("v", 2)) == []
    judged = feed(examples, ended("u", 2.5), start=3)
    assert [(each.happened, each.version, each.p, each.p_fallback, each.other) for each in judged] == [
        (True, 0, 0.3, 0.2, None), (True, 3, 0.3, 0.2, 4),
    ]  # fmt: skip
    assert judged[1].p_other == 0.9
    assert judged[0].slices == (("gender", "F"),)
    assert [each.said_at for each in judged] == [0.0, 1.0]
    assert len({each.user for each in judged}) == 1
    assert labels(path) == {(1, 1): (FAIL, 1.0), (1, 2): (FAIL, 1.0)}
    assert (examples.labelled, examples.users) == (2, 2)
    assert examples.commit() == []


def test_weeks_after_an_outcome_wait_for_the_next_one(examples: RiskExamples, path: Path) -> None:
    """Another enrolment begins with them, and what became of the first one stays."""
    feed(examples, example("u", 1), ended("u", 1.5, "pass"), example("u", 2), example("u", 3))
    assert labels(path) == {(1, 1): (PASS, 0.0)}
    judged = feed(examples, ended("u", 3.5, "withdrawn"), start=4)
    assert [each.happened for each in judged] == [True, True]
    assert labels(path) == {(1, 1): (PASS, 0.0), (1, 2): (WITHDRAWN, 1.0), (1, 3): (WITHDRAWN, 1.0)}


def test_a_second_outcome_takes_the_place_of_the_first(examples: RiskExamples, path: Path) -> None:
    """With no week in between it is of the same enrolment: learned from anew, and not judged twice."""
    feed(examples, example("u", 1), ended("u", 1.5, "fail"))
    assert feed(examples, ended("u", 1.5, "pass"), start=2) == []
    assert labels(path) == {(1, 1): (PASS, 0.0)}
    feed(examples, ended("u", 1.2, "fail"), start=3)
    assert labels(path) == {(1, 1): (PASS, 0.0)}, "one from before it is outdated"
    assert examples.labelled == 1


def test_a_week_that_comes_after_its_outcome_is_labelled_at_once(examples: RiskExamples, path: Path) -> None:
    """Weeks are closed some time after their end: what counts is when it was so."""
    assert feed(examples, ended("u", 2.5), example("u", 2)) != []
    feed(examples, example("u", 3), start=2)
    assert labels(path) == {(2, 2): (FAIL, 1.0)}


def test_a_late_week_of_an_earlier_enrolment_gets_no_later_outcome(examples: RiskExamples, path: Path) -> None:
    """What became of that one is not known any more."""
    feed(examples, example("u", 1), ended("u", 2.5, "pass"), example("u", 3), ended("u", 3.5, "fail"))
    assert feed(examples, example("u", 2), start=4) == []
    assert labels(path) == {(1, 1): (PASS, 0.0), (1, 3): (FAIL, 1.0)}


def test_an_advisers_label_is_of_the_newest_week(examples: RiskExamples, path: Path) -> None:
    """At or before it; an outcome that comes later is for the others, and one that is known already counts more."""
    feed(examples, example("u", 1), example("u", 2), example("u", 3))
    judged = feed(examples, ended("u", 2, None, score=0.7), start=3)
    assert [each.happened for each in judged] == [True]
    assert labels(path) == {(2, 2): (FAIL, 0.7)}
    feed(examples, ended("u", 2, None, score=0.1), ended("u", 3.5, "pass"), ended("u", 3.5, None, 1.0), start=4)
    assert labels(path) == {(1, 1): (PASS, 0.0), (1, 2): (0, 0.1), (1, 3): (PASS, 0.0)}
    assert feed(examples, ended("nobody", 1, None, score=0.5), start=7) == []


# What comes twice, or is not ours


def test_what_comes_twice_counts_once(examples: RiskExamples, path: Path) -> None:
    """At its offset, or at another one as at-least-once delivery may have it."""
    messages = (example("u", 1), ended("u", 1.5))
    assert len(feed(examples, *messages)) == 1
    assert feed(examples, *messages) == []
    assert feed(examples, *messages, start=2) == []
    assert len(labels(path)) == 1
    assert examples.places() == {0: 4}


def test_steps_of_another_version_are_passed_over(examples: RiskExamples, path: Path) -> None:
    """Nor are those of another shape kept; their places are."""
    feed(
        examples, example("u", 1, feature_version=weekly.VERSION + 1), example("u", 2, steps="AAAA"),
        example("u", 3, steps="?"), ended("u", 4),
    )  # fmt: skip
    assert (len(labels(path)), examples.users, examples.places()) == (0, 0, {0: 4})


def test_a_topic_that_was_made_anew_is_read_again(examples: RiskExamples) -> None:
    """Its end is before the place up to which another topic of its name was read."""
    feed(examples, example("u", 1), example("u", 2))
    assert not examples.made_anew(0, 2)
    assert examples.made_anew(0, 1)
    assert examples.places() == {0: 0}


# What is forgotten


def test_an_erased_user_is_gone(examples: RiskExamples, path: Path) -> None:
    """With what became of him, also from the file's free room; what is from before comes too late."""
    secret = {"education": "SECRETMARKS!"}
    feed(examples, example("u", 1, context=secret), example("v", 1), ended("u", 1.5))
    examples.forget("u", 2.0)
    examples.commit()
    assert examples.users == 1
    for file in path.parent.iterdir():
        assert b"SECRETMARKS!" not in file.read_bytes()
    examples.read(example("u", 2), 1.5, (0, 3))
    examples.read(example("u", 3), 5.0, (0, 4))
    assert feed(examples, ended("u", 3.5), start=6) != []
    assert labels(path) == {(3, 3): (FAIL, 1.0)}


def test_an_outcome_after_the_erasure_stays(examples: RiskExamples, path: Path) -> None:
    """Erased up to a moment: a week that is told of late finds the outcome that came after it."""
    feed(examples, example("u", 1), ended("u", 1.5), ended("u", 3.5, "pass"))
    examples.forget("u", 1.0)
    examples.commit()
    assert examples.users == 0
    feed(examples, example("u", 3), start=3)
    assert labels(path) == {(3, 3): (PASS, 0.0)}


def test_no_id_stands_in_the_file(examples: RiskExamples, path: Path) -> None:
    """Neither a user's nor an example's: hashes only."""
    feed(examples, example("ada-lovelace", 1), ended("ada-lovelace", 2))
    examples.close()
    assert all(b"ada-lovelace" not in file.read_bytes() for file in path.parent.iterdir())


# Bounds


def test_whole_users_leave_when_there_are_too_many(path: Path) -> None:
    """Half of them are those who were heard of latest; the others a sample of all before."""
    with opened(path, max_users=100) as examples:
        feed(examples, *(example(f"u-{number}", week) for number in range(300) for week in (1, 2)))
        assert 90 <= examples.users <= 100
        feed(examples, *(ended(f"u-{number}", 3) for number in range(300)), start=600)
        snapshots, *_ = load_snapshots(path, 10_000, 1, FIELDS)
        assert len(snapshots) == 2 * examples.users
    with closing(sqlite3.connect(path)) as db:
        numbers = [number for (number,) in db.execute("SELECT number FROM examples ORDER BY number")]
    assert numbers[-90:] == list(range(511, 601))


def test_bytes_are_bounded(path: Path) -> None:
    """The oldest go though there is room for more users."""
    with opened(path, max_bytes=100_000) as examples:
        feed(examples, *(example(f"u-{number}", 1) for number in range(300)))
        assert 80_000 < examples.size_bytes <= 100_000
        assert examples.users < 100


def test_outcomes_of_users_without_weeks_are_bounded(path: Path) -> None:
    """The oldest go; those of users of whom weeks are kept stay."""
    with opened(path, max_users=10) as examples:
        feed(examples, example("u", 2), ended("u", 3), *(ended(f"v-{number}", 3) for number in range(530)))
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT COUNT(*), MAX(at) FROM outcomes").fetchone() == (20, 531.0)
        assert feed(examples, example("u", 1), example("v-0", 1), start=532) != []
        assert len(feed(examples, example("v-529", 1), start=534)) == 1


def test_nothing_is_learned_of_one_kind_only(path: Path) -> None:
    """Enough users at risk and enough of the others; after a restart as well, and until too many are erased."""
    with opened(path) as examples:
        for number in range(LEAST_OF_EACH):
            weeks = (example(f"u-{number}", 1), example(f"v-{number}", 1))
            feed(examples, *weeks, ended(f"u-{number}", 2, "withdrawn"), start=3 * number)
        assert (examples.labelled, examples.learnable) == (LEAST_OF_EACH, 0)
        start = 3 * LEAST_OF_EACH
        feed(examples, *(ended(f"v-{number}", 2, "pass") for number in range(LEAST_OF_EACH - 1)), start=start)
        assert examples.learnable == 0
        feed(examples, ended(f"v-{LEAST_OF_EACH - 1}", 2, "pass"), start=start + LEAST_OF_EACH)
        assert examples.learnable == examples.labelled == 2 * LEAST_OF_EACH
    with opened(path) as examples:
        assert examples.learnable == 2 * LEAST_OF_EACH
        examples.forget("u-0", 1_000.0)
        examples.commit()
        assert examples.learnable == 0


# Places, kills, full disks


def test_a_restart_knows_what_was_committed(path: Path) -> None:
    """And nothing else: what waits in memory is read again."""
    with opened(path) as examples:
        feed(examples, example("u", 1), example("u", 2), ended("u", 3, "pass"))
        examples.read(ended("u", 3, "fail"), 9.0, (0, 3))
    with opened(path) as examples:
        assert examples.places() == {0: 3}
        assert (examples.labelled, examples.users) == (2, 1)
        assert [each.happened for each in examples.latest(10)] == [False, False]
        assert [each.said_at for each in examples.latest(1)] == [1.0]
        feed(examples, ended("u", 3, "fail"), start=3)
        assert {outcome for outcome, _ in labels(path).values()} == {FAIL}


_KILLED = """
import os, signal, sys
from pathlib import Path
from stream.learning.risk.examples import RiskExamples
from tests.learning.risk.test_examples import ended, example, opened
examples = opened(Path(sys.argv[1]))
first = examples.places().get(0, 0)
for offset in range(first, 40):
    message = ended(f"u-{offset // 4}", 9) if offset % 4 == 3 else example(f"u-{offset // 4}", offset % 4)
    examples.read(message, float(offset), (0, offset))
    if offset % 5 == 4:
        print(*(f"{each.user}/{each.said_at}" for each in examples.commit()), flush=True)
    if offset == first + 7:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_trainer_that_is_killed_counts_nothing_twice(path: Path) -> None:
    """Killed every few messages, between commits: each prediction is judged once, and each label stands."""
    judged: list[str] = []
    for _ in range(20):
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(path)], capture_output=True, text=True, check=False, timeout=120
        )
        judged += done.stdout.split()
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    else:
        raise AssertionError("it was killed without end")
    assert len(judged) == len(set(judged)) == 30
    with opened(path) as examples:
        assert (examples.labelled, examples.users, examples.places()) == (30, 10, {0: 40})


def test_a_disk_that_is_full_is_tried_again(path: Path) -> None:
    """Nothing is lost, nothing is judged before it is durable, and nothing twice."""
    with opened(path) as examples:
        feed(examples, example("u", 1))
        pages = examples._file.db.execute("PRAGMA page_count").fetchone()[0]
        examples._file.db.execute(f"PRAGMA max_page_count = {pages}")
        messages = [example(f"v-{number}", 1) for number in range(200)]
        with pytest.raises(StoreError, match="tried again"):
            feed(examples, *messages, ended("u", 2), start=1)
        assert (examples.labelled, examples.users) == (0, 1)
        examples._file.db.execute("PRAGMA max_page_count = 1000000")
        assert len(examples.commit()) == 1
        assert (examples.labelled, examples.users, examples.uncommitted) == (1, 201, 0)


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    """The sentence names it, and says what to do."""
    path.parent.mkdir()
    path.write_text("no database at all, but long enough to be taken for a header of one, which it is not" * 20)
    with pytest.raises(UserError, match="expected a file of risk examples of version"):
        opened(path)
    with pytest.raises(StoreError, match="to read"):
        load_snapshots(path, 10, 1, FIELDS)


# What is learned from


def test_snapshots_are_what_the_model_saw(examples: RiskExamples, path: Path) -> None:
    """Steps, facts, numbers and days come back as they were scored; unlabelled weeks are left out."""
    steps = np.linspace(0, 1, WEEKS * len(NAMES)).reshape(WEEKS, len(NAMES)).astype("<f2")
    steps[:, COLUMN["grade_mean"]] = np.nan
    context = {"education": "degree", "credits": 120.0, "enrolled_before": 30.0, COURSE_DAY: 20.0}
    feed(
        examples, example("u", 5, steps=b64encode(steps.tobytes()).decode(), context=context), ended("u", 6),
        example("u", 7), example("v", 5, course_id=None, context={}), ended("v", 6, "pass"),
    )  # fmt: skip
    snapshots, facts, numbers = load_snapshots(path, 100, 1, FIELDS)
    assert (facts, numbers) == ((), ())
    row = int(np.flatnonzero(snapshots.risk == 1)[0])
    seen = snapshots.seen.take(np.array([row]))
    assert np.array_equal(seen.steps[0], steps.astype(np.float32), equal_nan=True)
    assert set(seen.fact[0].tolist()) - {0} == {fact_key("course", "maths"), fact_key("education", "degree")}
    assert seen.numbers(("credits", "enrolled_before", "unknown"))[0].tolist()[:2] == [120.0, 30.0]
    assert seen.day[0, -1] == 20.0
    assert np.diff(seen.day[0])[:-1].tolist() == [7.0] * (WEEKS - 2)
    assert (snapshots.week[row], snapshots.outcome[row]) == (5, FAIL)
    other = snapshots.seen.take(np.array([1 - row]))
    assert np.isnan(other.day).all()
    assert not other.fact.any()


def test_rare_facts_are_no_vocabulary(examples: RiskExamples, path: Path) -> None:
    """What is known of few users would tell who they are."""
    messages: list[RiskExample | RiskOutcome] = []
    for number in range(LEAST_USERS):
        of = {"education": "rare" if number == 0 else "usual", "credits": 60.0, "enrolled_before": 3.0}
        messages += [example(f"u-{number}", week, context=of) for week in range(20)]
        messages.append(ended(f"u-{number}", 30))
    messages += [example("one-more", 1, context={"education": "usual"}), ended("one-more", 30)]
    feed(examples, *messages)
    _, facts, numbers = load_snapshots(path, 10_000, 1, FIELDS)
    assert facts == ("course=maths", "education=usual")
    assert numbers == ("credits", "enrolled_before")


def test_fields_that_are_no_longer_allowed_are_not_learned(examples: RiskExamples, path: Path) -> None:
    """They stand in weeks from before; the course and what is counted for every user are always known."""
    of = {
        "education": "degree",
        "gender": "F",
        "credits": 60.0,
        "income": 3.0,
        "enrolled_before": 30.0,
        COURSE_DAY: 7.0,
    }
    for number in range(LEAST_USERS):
        feed(examples, example(f"u-{number}", 1, context=of), ended(f"u-{number}", 2), start=2 * number)
    snapshots, facts, numbers = load_snapshots(path, 100, 1, ("education",))
    assert (facts, numbers) == (("course=maths", "education=degree"), ("enrolled_before",))
    seen = snapshots.seen
    assert set(seen.fact[0].tolist()) - {0} == {fact_key("course", "maths"), fact_key("education", "degree")}
    assert np.isnan(seen.numbers(("credits", "income"))).all()
    assert (seen.numbers(("enrolled_before",))[0, 0], seen.day[0, -1]) == (30.0, 7.0)
    assert not seen.field.any()
    _, facts, numbers = load_snapshots(path, 100, 1, ())
    assert (facts, numbers) == (("course=maths",), ("enrolled_before",))


def test_no_more_is_loaded_than_was_asked_for(examples: RiskExamples, path: Path) -> None:
    """Whole users: half of the rows of the latest, the others a sample."""
    for number in range(50):
        feed(examples, *(example(f"u-{number}", week) for week in range(4)), ended(f"u-{number}", 9), start=5 * number)
    snapshots, *_ = load_snapshots(path, 80, 1, FIELDS)
    assert len(snapshots) == 80
    assert set(np.unique(snapshots.user, return_counts=True)[1].tolist()) == {4}
    other, *_ = load_snapshots(path, 80, 2, FIELDS)
    assert set(other.user.tolist()) != set(snapshots.user.tolist())


def test_what_was_judged_is_told_though_the_file_could_not_be_rewritten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure has the file written anew after the commit: where that fails, the next commit tells of it."""

    def full(_: Database) -> None:
        raise StoreError("no space left")

    with opened(path) as examples:
        feed(examples, example("u", 1))
        with monkeypatch.context() as patched:
            patched.setattr(Database, "scrub", full)
            with pytest.raises(StoreError):
                feed(examples, ended("u", 2), start=1)
        assert [each.happened for each in examples.commit()] == [True]
        assert examples.commit() == []
