"""Past enrolments as snapshots: whose they are, when they are taken, and that nothing of the future is in them."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from stream.errors import UserError
from stream.files.oulad import Happened, Oulad, read_oulad
from stream.learning.history import TEST, TRAINING, VALIDATION
from stream.learning.risk.snapshots import Snapshots
from stream.learning.risk.split import DAYS, Moments, check, drawn, look, moments, split, students_of, vocabulary
from stream.models.weekly import COLUMN, Seen
from stream.state.academic import OUTCOMES
from tests.enrolments import Simulated

KEPT = frozenset({"education", "attempts", "credits"})


@pytest.fixture(scope="module")
def oulad(tmp_path_factory: pytest.TempPathFactory) -> Oulad:
    """Return a folder of 120 simulated students."""
    return read_oulad(Simulated(120).write(tmp_path_factory.mktemp("oulad")))


def seen(oulad: Oulad, at: Moments) -> Snapshots:
    """Return snapshots."""
    return look(oulad, at, KEPT, lambda _: None)


def test_all_enrolments_of_a_student_are_in_one_part(oulad: Oulad) -> None:
    """Students in order of appearance, shuffled: 72% train, 8% validate, 20% test."""
    part = split(oulad, 42)
    names = list(dict.fromkeys(enrolment.student for enrolment in oulad.enrolments))
    order = np.arange(len(names))
    np.random.RandomState(42).shuffle(order)
    expected = {names[place]: TRAINING for place in order[: int(0.72 * len(names))]}
    expected |= {names[place]: VALIDATION for place in order[int(0.72 * len(names)) : int(0.8 * len(names))]}
    expected |= {names[place]: TEST for place in order[int(0.8 * len(names)) :]}
    assert [expected[enrolment.student] for enrolment in oulad.enrolments] == part.tolist()
    assert len(oulad.enrolments) > len(names) == students_of(oulad).max() + 1


def test_who_is_looked_at(oulad: Oulad) -> None:
    """Those who have registered, have not withdrawn, and whose presentation goes on, by the end of the day."""
    at = moments(oulad, (-100, 3, 60, 199, 200, 239, 240))
    there = set(zip(at.enrolment.tolist(), at.day.tolist(), strict=True))
    registered = {event.enrolment: event.day for event in oulad.happened if event.kind == "registered"}
    left = {event.enrolment: event.day for event in oulad.happened if event.kind == "withdrawn"}
    assert any(day > 3 for day in registered.values())
    for row, enrolment in enumerate(oulad.enrolments):
        for day in (-100, 3, 60, 199, 200, 239, 240):
            expected = registered[row] <= day < min(left.get(row, day + 1), enrolment.days)
            assert ((row, day) in there) is expected


def test_days_are_drawn_from_those_on_which_one_looks(oulad: Oulad) -> None:
    """At most so many of each, none before the start, the same with the same seed."""
    at = drawn(oulad, 5, 100, 3)
    possible = moments(oulad, range(101))
    there = set(zip(possible.enrolment.tolist(), possible.day.tolist(), strict=True))
    pairs = list(zip(at.enrolment.tolist(), at.day.tolist(), strict=True))
    assert set(pairs) <= there
    assert pairs == sorted(set(pairs))
    assert np.bincount(at.enrolment).max() == 5
    again = drawn(oulad, 5, 100, 3)
    assert again.day.tolist() == at.day.tolist() != drawn(oulad, 5, 100, 4).day.tolist()


def test_those_who_leave_are_not_too_many_among_the_early_days(oulad: Oulad) -> None:
    """The days drawn show as many at risk as there are, early and late."""
    is_at_risk = np.array([enrolment.outcome in {"fail", "withdrawn"} for enrolment in oulad.enrolments])
    at, possible = drawn(oulad, 60, 180, 3), moments(oulad, range(181))
    for early, late in ((0, 40), (40, 80), (80, 181)):
        shares = [is_at_risk[of.enrolment[(early <= of.day) & (of.day < late)]].mean() for of in (at, possible)]
        assert shares[0] == pytest.approx(shares[1], abs=0.015)


def test_what_is_seen_and_what_came(oulad: Oulad) -> None:
    """A snapshot knows the day, the enrolment, the work so far; and its outcome is the enrolment's."""
    at = moments(oulad, DAYS)
    found = seen(oulad, at)
    assert found.user.tolist() == at.enrolment.tolist()
    assert found.seen.day[:, -1].tolist() == at.day.tolist()
    outcomes = [OUTCOMES[place] for place in found.outcome.tolist()]
    assert outcomes == [oulad.enrolments[row].outcome for row in at.enrolment.tolist()]
    assert found.risk.tolist() == [float(outcome in {"fail", "withdrawn"}) for outcome in outcomes]
    handed_in = [
        len({event.assessment for event in oulad.happened
             if event.enrolment == row and event.kind == "assessment_submitted" and event.day <= day})
        for row, day in zip(at.enrolment.tolist(), at.day.tolist(), strict=True)
    ]  # fmt: skip
    assert found.seen.steps[:, -1, COLUMN["handed_in"]].tolist() == handed_in


def test_a_snapshot_does_not_hang_on_others(oulad: Oulad) -> None:
    """The same days, one by one."""
    at = moments(oulad, (30, 90)).of(np.arange(len(oulad.enrolments)) < 7)
    whole = seen(oulad, at)
    for row in range(len(at)):
        alone = seen(oulad, Moments(at.enrolment[row : row + 1], at.day[row : row + 1]))
        assert as_bytes(alone.seen) == as_bytes(whole.seen.take(np.array([row])))


def as_bytes(of: Seen) -> list[bytes]:
    """Return all that a model sees."""
    return [getattr(of, column.name).tobytes() for column in fields(of)]


@pytest.mark.parametrize("day", DAYS)
def test_nothing_that_comes_later_is_seen(oulad: Oulad, day: int) -> None:
    """Another future, other scores, withdrawals and results: the same bytes for all who are still there."""
    at = moments(oulad, [day])
    random = np.random.default_rng(day)

    def other(event: Happened) -> Happened | None:
        if event.day <= day:
            return event
        if event.kind in {"assessment_submitted", "assessment_overdue", "ended"} and random.random() < 0.5:
            return event._replace(score=0.0, weight=1.0, days_late=60.0, day=event.day + 1)
        return event if event.kind == "ended" else None

    changed = [event for event in map(other, oulad.happened) if event is not None]
    # Some who stayed leave on the next day.
    changed += [Happened(row, day + 1, "withdrawn", f"left-{row}") for row in at.enrolment.tolist()[::3]]
    enrolments = [replace(enrolment, outcome="distinction") for enrolment in oulad.enrolments]
    future = Oulad(oulad.path, oulad.digest, enrolments, changed)
    changed.sort(key=future.moment)
    same = moments(future, [day])
    assert same.enrolment.tolist() == at.enrolment.tolist()
    before, after = seen(oulad, at), seen(future, same)
    assert as_bytes(before.seen) == as_bytes(after.seen)
    assert before.outcome.tolist() != after.outcome.tolist()


def test_only_what_is_kept_is_known(oulad: Oulad) -> None:
    """Courses and fields that a setting names, of the enrolments that are learned from; never a personal one."""
    known = vocabulary(oulad, np.ones(len(oulad.enrolments), bool), KEPT)
    assert known.facts == (
        "course=AAA-2013J", "course=BBB-2014B", "education=A Level or Equivalent", "education=HE Qualification",
        "education=Lower Than A Level",
    )  # fmt: skip
    assert known.numbers == ("enrolled_before", "attempts", "credits")
    first = vocabulary(oulad, np.arange(len(oulad.enrolments)) == 0, frozenset())
    assert (first.facts, first.numbers) == (("course=AAA-2013J",), ("enrolled_before",))


def test_too_few_students_are_a_sentence(tmp_path: Path) -> None:
    """It says how many were expected, how many found."""
    with pytest.raises(UserError, match=r"expected at least 250 students, so that some can be held out, found 20"):
        check(read_oulad(Simulated(20).write(tmp_path)))
