"""Past answers as columns: what is known before each of them is what a worker would have known, and nothing more."""

from pathlib import Path

import numpy as np
import pytest

from stream.files.answers import Answer, AnswersFile, as_interactions
from stream.learning.history import TEST, TRAINING, VALIDATION, History, prepare, walk
from stream.models.features import COLUMN, COUNT
from stream.models.items import ItemTable
from tests.live import examples

START = 1_700_000_000.0


def file_of(
    counts: dict[str, int], *, gap_s: float = 60.0, timed: bool = True, response_times: bool = True, seed: int = 1
) -> AnswersFile:
    """Return a file of so many answers of each user, in turn."""
    random = np.random.default_rng(seed)
    answers: list[Answer] = []
    for turn in range(max(counts.values())):
        for place, (user, count) in enumerate(counts.items()):
            if turn >= count:
                continue
            skill = int(random.integers(0, 5))
            skills = (f"s-{skill}",) if random.random() < 0.8 else (f"s-{skill}", f"s-{(skill + 1) % 5}")
            answers.append(
                Answer(
                    len(answers), user, f"i-{skill}-{random.integers(0, 3)}", skills, bool(random.random() < 0.6),
                    START + turn * gap_s + place if timed else None,
                    float(random.lognormal(2, 0.5)) if response_times and random.random() < 0.9 else None,
                )
            )  # fmt: skip
    return AnswersFile(Path("answers.csv"), "0" * 64, answers, timed, response_times)


def features_of(file: AnswersFile) -> np.ndarray:
    """Return the features of all answers, no item known."""
    history = History.of(file)
    found = np.zeros((len(history.user), COUNT), np.float32)
    for wave in walk(history, np.ones(history.users, bool), ItemTable()):
        found[wave.rows] = wave.features
    return found


def changed(file: AnswersFile, row: int, **fields: object) -> AnswersFile:
    """Return a file with one answer changed."""
    answers = list(file.answers)
    given = {name: getattr(answers[row], name) for name in Answer.__slots__}
    answers[row] = Answer(**(given | fields))
    return AnswersFile(file.path, file.digest, answers, file.has_timestamps, file.has_response_times)


@pytest.mark.parametrize("timed", [True, False])
def test_features_are_the_live_ones(timed: bool) -> None:
    """The columns' way and the worker's, event by event, come to the same features, bit by bit."""
    file = file_of({"a": 60, "b": 40, "c": 7}, timed=timed)
    live = {e.event_id: e.features for e in examples(as_interactions(file))}
    # Item parameters apart, which the live examples come to know on the way: of users' own pasts, everything.
    others = ("item_d", "item_r", "item_a", "lnirt", "abil", "sp")
    own = [column for name, column in COLUMN.items() if not name.startswith(others)]
    found = features_of(file)
    expected = np.array([live[event["event_id"]] for event in as_interactions(file)], np.float32)
    order = sorted(range(len(file.answers)), key=lambda row: file.answers[row].at or 0.0) if timed else range(107)
    assert np.allclose(found[list(order)][:, own], expected[:, own], atol=1e-6)


def test_what_must_not_be_known_changes_nothing() -> None:
    """Neither the outcome, nor how long it took: the moment at which it was asked is all that is known."""
    file = file_of({"a": 30, "b": 20})
    row = next(a.row for a in reversed(file.answers) if a.response_time_s is not None)
    answer, before = file.answers[row], features_of(file)[row]
    assert np.array_equal(features_of(changed(file, row, correct=not answer.correct))[row], before)
    assert answer.at is not None
    assert answer.response_time_s is not None
    later = changed(file, row, at=answer.at + 7.0, response_time_s=answer.response_time_s + 7.0)
    assert np.allclose(features_of(later)[row], before, atol=1e-6)
    earlier = changed(file, row - 2, correct=not file.answers[row - 2].correct)
    assert not np.array_equal(features_of(earlier)[row], before)


def test_a_gap_that_would_hide_the_response_time_counts_as_none() -> None:
    """Without response times an answer within half an hour was asked at once, whatever the gap; a longer one counts."""
    file = file_of({"a": 30}, gap_s=100.0, response_times=False)
    row = len(file.answers) - 1
    before, at = features_of(file)[row], file.answers[row].at or 0.0
    for gap_s in (1.0, 55.0, 1_500.0):
        assert np.array_equal(features_of(changed(file, row, at=at - 100.0 + gap_s))[row], before)
    longer = features_of(changed(file, row, at=at + 7_200.0))[row]
    assert longer[COLUMN["gap"]] > before[COLUMN["gap"]] == 0.0


def test_answers_of_one_moment_know_nothing_of_each_other() -> None:
    """All are predicted before any is learned."""
    file = file_of({"a": 12}, gap_s=3_600.0, response_times=False)
    for row in (9, 10):
        file = changed(file, row, at=file.answers[8].at)
    found = features_of(file)
    assert (found[[8, 9, 10], COLUMN["answers"]] == found[8, COLUMN["answers"]]).all()
    assert found[11, COLUMN["answers"]] == pytest.approx(0.11)
    wrong = features_of(changed(file, 8, correct=not file.answers[8].correct))
    assert np.array_equal(wrong[[9, 10]], found[[9, 10]])
    assert not np.array_equal(wrong[11], found[11])


def test_the_split_is_the_one_that_figures_are_compared_by() -> None:
    """72 : 8 : 20, users in order of appearance, shuffled by RandomState."""
    history = History.of(file_of({f"u-{n}": 1 for n in range(50)}))
    part = history.split(42)
    order = list(range(50))
    np.random.RandomState(42).shuffle(order)
    assert set(np.flatnonzero(part == TRAINING)) == set(order[:36])
    assert set(np.flatnonzero(part == VALIDATION)) == set(order[36:40])
    assert set(np.flatnonzero(part == TEST)) == set(order[40:])


def test_items_are_known_by_other_users_only() -> None:
    """A training user's answers do not tell of the items that he meets, and test users' tell nobody anything."""
    file = file_of({f"u-{n}": 20 for n in range(30)})
    history = History.of(file)
    part = history.split(1)
    known = prepare(history, part, 1).features
    assert known[:, COLUMN["item_answers"]].max() > 0
    for which in (TRAINING, TEST):
        user = int(np.flatnonzero(part == which)[0])
        mine = history.user == user
        flipped = AnswersFile(
            file.path, file.digest,
            [a if a.user_id != f"u-{user}" else changed(file, a.row, correct=not a.correct).answers[a.row]
             for a in file.answers],
            True, True,
        )  # fmt: skip
        other = prepare(History.of(flipped), part, 1).features
        columns = [COLUMN[name] for name in ("item_difficulty", "item_rate", "item_answers")]
        assert np.array_equal(other[mine][:, columns], known[mine][:, columns])
        elsewhere = ~mine & (part[history.user] != TRAINING)
        assert np.array_equal(other[elsewhere][:, columns], known[elsewhere][:, columns]) is (which == TEST)
