"""What the demo shows on a terminal."""

from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from stream.demo.counted import ACADEMICS, ANSWERS, Counted
from stream.demo.tally import Change, Risk, Tally
from stream.demo.view import ENDS, in_words, render
from stream.models import weekly

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def text_of(tally: Tally, counted: Counted = ANSWERS, width: int = 100, height: int = 40) -> str:
    """Return what stands on a terminal of a size."""
    console = Console(width=width, height=height, file=StringIO(), record=True)
    console.print(render(tally, counted, 100, 1.0, height))
    return console.export_text()


def changed(number: int, before: str, now: str) -> Change:
    """Return a change of a user."""
    factors = (
        ("missing", 1.27, 2.0), ("absent_rate", 0.61, 0.2), ("education=A level", -0.21, None), ("major", 0.2, 1.0),
    )  # fmt: skip
    known = None if before == "new" else Risk(before, 0.4, NOW)
    return Change(f"learner-{number:04d}", known, Risk(now, 0.62, NOW), "academics", factors)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (("missing", 1.27, 2.0), "missing 2 (+1.3)"),
        (("absent_rate", -0.33, 0.05), "absent rate 0.05 (-0.3)"),
        (("days_since_seen", 0.4, 10.0), "days since seen 10 (+0.4)"),
        (("education=A level", -0.21, None), "education=A level (-0.2)"),
        (("missing", 0.0, 0.0), "missing 0 (+0.0)"),
        (("days_since_seen", 0.4, 70.0), "days since seen 70 or more (+0.4)"),
        (("days_late_latest", -0.4, -70.0), "days late latest -70 or less (-0.4)"),
        (("absent_rate", 0.4, 1.0), "absent rate 1 (+0.4)"),
        (("active_days", -0.4, 7.0), "active days 7 (-0.4)"),
    ],
)
def test_a_factor_is_told_in_words(factor: tuple[str, float, float | None], words: str) -> None:
    """Its name, its value where it is a number, and what it adds to the log odds."""
    assert in_words(*factor) == words


def test_numbers_of_an_enrolment_end_where_they_are_cut() -> None:
    """They are no features of a week, and are not declared with them."""
    long_ago = weekly.course_days(np.array([1e9]), np.array([1]))
    assert float(long_ago[0, -1]) == ENDS["course_day"] == ENDS["enrolled_before"]


def test_a_change_is_one_line_of_a_wide_terminal() -> None:
    """Who, from what to what, the score, and the two strongest factors; the latest change comes first."""
    tally = Tally(changes=[changed(1, "Medium", "High"), changed(2, "Critical", "Medium"), changed(3, "new", "High")])
    lines = [line.strip("│ ") for line in text_of(tally, width=100).splitlines() if "learner-0" in line]
    factors = "missing 2 (+1.3), absent rate 0.2 (+0.6)"
    assert lines == [
        f"learner-0003  new → High         0.62  {factors}",
        f"learner-0002  Critical → Medium  0.62  {factors}",
        f"learner-0001  Medium → High      0.62  {factors}",
    ]


@pytest.mark.parametrize(("width", "height"), [(100, 40), (60, 30), (80, 24)])
def test_all_fits_on_the_terminal(width: int, height: int) -> None:
    """With many changes and candidates no line is wider, and there are no more lines, than the terminal has."""
    figures = {"n": 100, "logloss": 0.5}
    gate = {"promoted": True, "candidate": figures, "champion": figures, "candidate_version": 2, "name": "knowledge"}
    tally = Tally(changes=[changed(n, "Medium", "Critical") for n in range(50)], gates=[gate] * 9)
    lines = text_of(tally, width=width, height=height).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    assert "learner-0049" in "".join(lines)


def test_what_weighs_nothing_is_left_out() -> None:
    """A factor that rounds to nothing explains nothing."""
    change = changed(1, "Medium", "High")
    tally = Tally(changes=[replace(change, factors=(("missing", 1.27, 2.0), ("absent_rate", 0.04, 0.06)))])
    assert "missing 2 (+1.3)" in text_of(tally)
    assert "absent" not in text_of(tally)
    assert "little is known" in text_of(Tally(changes=[replace(change, factors=())]))


def test_before_anything_has_come() -> None:
    """The first picture is whole: no figures, nobody who changed."""
    text = text_of(Tally())
    assert "0 of 100 answers" in text
    assert "nobody yet" in text
    assert "Low 0  Medium 0  High 0  Critical 0" in text


def test_where_there_are_no_answers_their_quality_is_left_out() -> None:
    """Academic events are counted, and there is no AUC of answers."""
    text = text_of(Tally(), ACADEMICS)
    assert "0 of 100 academic events" in text
    assert "AUC" not in text


def test_both_models_are_shown() -> None:
    """What serves answers and what serves risk, and whose candidates the gate has judged."""
    figures = {"n": 1_500, "logloss": 0.5}
    gate = {"promoted": True, "candidate": figures, "champion": figures, "candidate_version": 4, "name": "risk"}
    text = text_of(Tally(gates=[gate], risk_version=4, updating={"knowledge"}))
    assert "the fallback (LNIRT)   learning …" in text
    assert "of risk     version 4 " in text
    assert "of risk 4   live   log loss 0.5000 against 0.5000 on 1,500 weeks of users" in text
