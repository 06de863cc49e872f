"""The page about an evaluation: its figures by hand, foreign words escaped, well-formed, nothing loaded."""
# ruff: noqa: RUF001 (ranges are shown with en dashes)

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.files.answers import Answer, AnswersFile
from stream.learning.groups import auc_interval, by_expected_time, by_history, by_skill, reliability, wilson
from stream.learning.history import History
from stream.learning.page import render
from stream.learning.references import Prediction
from stream.models.quality import calibration_error

NASTY = "<script>alert('fractions & decimals')</script>"
FIGURES = {"auc": 0.75, "logloss": 0.51234, "brier": 0.2, "ece": 0.031}
TIMES = {"time_mae_s": 3.0, "time_mae_s_clipped_p99": 2.5, "time_coverage_80": 0.79}
PROGRESS = [
    {"epoch": 1, "loss": 1.5, "logloss": 0.61, "auc": 0.7, "learning_rate": 0.002},
    {"epoch": 2, "loss": 1.4, "logloss": 0.5432, "auc": 0.74, "learning_rate": 0.002},
    {"epoch": 3, "loss": 1.3, "logloss": 0.5501, "auc": 0.73, "learning_rate": 0.0008},
]


def history(*, timed: bool = True, skills: int = 3) -> History:
    """Return 60 answers of two users, half of them right, on skills of which the first has a nasty name."""
    names = [NASTY, *(f"s-{number}" for number in range(1, skills))]
    answers = [
        Answer(row, f"u-{row % 2}", f"i-{row % 7}", (names[row % skills],), row % 4 < 2, 1.7e9 + 60 * row,
               5.0 + row if timed else None)
        for row in range(60)
    ]  # fmt: skip
    return History.of(AnswersFile(Path("answers.csv"), "0" * 64, answers, True, timed))


def report(*, timed: bool = True, file: str = "answers.csv") -> dict[str, Any]:
    """Return a report of which the network serves."""
    times: dict[str, Any] = dict(TIMES) if timed else dict.fromkeys(TIMES)
    silent = dict.fromkeys(FIGURES)
    worse = {"auc": 0.7, "logloss": 0.6, "brier": 0.25, "ece": 0.02}
    models = {"knowledge": FIGURES | times, "logistic": worse | dict.fromkeys(TIMES), "median": silent | times}
    users = {"training": 7, "validation": 2, "test": 2}
    return {
        "file": file, "digest": "0" * 64, "task": "knowledge", "protocol": "user-split", "seed": 42, "n": 60,
        "users": users, "serving": "knowledge", "models": models, "seconds": 1.5, "versions": {"python": "3.11"},
    }  # fmt: skip


def page(*, timed: bool = True, skills: int = 3, file: str = "answers.csv", progress: bool = True) -> str:
    """Return a page."""
    past = history(timed=timed, skills=skills)
    said = Prediction(np.linspace(0.05, 0.95, 60), np.linspace(1.5, 4.0, 60), np.full(60, 0.5))
    told = report(timed=timed, file=file)
    return render(told, past, np.arange(60), said, past.names, PROGRESS if progress else [])


class Tags(HTMLParser):
    """Checks that each tag that is opened is closed, in order, and collects what is named and what is shown."""

    VOID = frozenset({"meta", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.named: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open."""
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.named += (given.get("aria-labelledby") or "").split()
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened last."""
        assert self.open.pop() == tag


def test_wilsons_interval_by_hand() -> None:
    """Newcombe's example of 81 in 263, and an end at which the simple interval would have no width."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    low, high = wilson(0, 10)
    assert low == 0.0
    assert high == pytest.approx(1.959964**2 / (10 + 1.959964**2))


def test_interval_of_an_auc_by_hand() -> None:
    """With one right and one wrong answer: half is nothing but the variance of a coin; more answers, less width."""
    assert auc_interval(2, 0.5, 0.5) == (0.0, 1.0)
    low, high = auc_interval(100, 0.5, 0.8)
    variance = (0.16 + 49 * (0.8 / 1.2 - 0.64) + 49 * (1.28 / 1.8 - 0.64)) / 2500
    assert (high - low) / 2 == pytest.approx(1.959964 * math.sqrt(variance))
    assert (high + low) / 2 == pytest.approx(0.8)


def test_reliability_has_the_bins_of_the_calibration_error() -> None:
    """Ten groups, the empty ones too; 1.0 is in the last; weighted, their gaps are the calibration error."""
    p = np.array([0.0, 0.05, 0.1, 0.35, 0.39, 0.31, 0.9, 1.0])
    correct = np.array([False, True, False, True, False, False, True, True])
    groups = reliability(correct, p)
    assert [(each.name, each.n) for each in groups if each.n] == [
        ("0–10%", 2), ("10–20%", 1), ("30–40%", 3), ("90–100%", 2),
    ]  # fmt: skip
    assert len(groups) == 10
    third = groups[3]
    assert third.right == pytest.approx(1 / 3)
    assert third.p_correct == pytest.approx(0.35)
    assert third.interval == wilson(1, 3)
    assert math.isnan(groups[5].right)
    error = sum(each.n * abs(each.right - each.p_correct) for each in groups if each.n) / len(p)
    assert error == pytest.approx(calibration_error(correct, p))


def test_groups_by_answers_given_before() -> None:
    """A user's first answer has turn 0; ranges end where their names say; empty ones are left out."""
    turn = np.array([0, 1, 2, 4, 5, 9, 99, 100, 5000])
    correct = np.array([True, False, True, False, True, True, False, True, False])
    groups = by_history(turn, correct, np.full(9, 0.5))
    assert [(each.name, each.n) for each in groups] == [
        ("1st", 1), ("2nd", 1), ("3–5", 2), ("6–10", 2), ("51–100", 1), (">100", 2),
    ]  # fmt: skip
    assert [each.right for each in groups] == [1.0, 0.0, 0.5, 1.0, 0.0, 0.5]
    assert groups[0].auc is None
    assert groups[2].auc == 0.5
    assert groups[2].logloss == pytest.approx(math.log(2))


def test_an_answer_counts_for_each_of_its_skills() -> None:
    """The largest skill first, of equally large ones by name; a skill that was not met is left out."""
    rows = np.array([[1, 0], [1, 3], [3, 0], [3, 1], [4, 0]])
    correct = np.array([True, False, True, True, False])
    groups = by_skill(rows, ("b", "nobody's", "a", "c"), correct, np.array([0.9, 0.2, 0.6, 0.7, 0.4]))
    assert [(each.name, each.n, each.right) for each in groups] == [
        ("a", 3, pytest.approx(2 / 3)), ("b", 3, pytest.approx(2 / 3)), ("c", 1, 0.0),
    ]  # fmt: skip
    assert groups[0].p_correct == pytest.approx(0.5)
    assert [each.auc for each in groups] == [1.0, 1.0, None]
    assert by_skill(np.zeros((2, 2), np.int64), ("a",), correct[:2], np.array([0.5, 0.5])) == []


def test_groups_by_expected_time() -> None:
    """Two expectations, a short and a long one: each has its median and the share of times in its own interval."""
    mu = np.log(np.repeat([4.0, 20.0], 4))
    sigma = np.full(8, np.log(2) / 1.2815515655446004)  # the 80% interval: from half to twice the median
    short, long = by_expected_time(np.array([2.1, 3.0, 5.0, 9.0, 1.0, 11.0, 39.0, 50.0]), mu, sigma, bins=2)
    assert (short.n, short.observed_s, short.inside) == (4, 4.0, 0.75)
    assert (long.n, long.observed_s, long.inside) == (4, 25.0, 0.5)
    assert (short.expected_s, long.expected_s) == pytest.approx((4.0, 20.0))
    assert short.span_s == pytest.approx((4.0, 4.0))
    assert short.interval == wilson(3, 4)
    assert long.middle_s == pytest.approx((4.0, 46.7))
    assert len(by_expected_time(np.arange(1.0, 9.0), np.zeros(8), sigma)) == 1


@pytest.mark.parametrize("timed", [True, False])
def test_the_page_is_well_formed(timed: bool) -> None:
    """Each tag is closed in order, ids are unique, and what names a drawing is there."""
    tags = Tags(page(timed=timed))
    assert not tags.open
    assert len(tags.ids) == len(set(tags.ids))
    assert set(tags.named) == set(tags.ids)
    assert tags.seen.count("h1") == 1
    assert tags.seen.count("caption") == tags.seen.count("table")


def test_foreign_words_stay_words() -> None:
    """Names of skills and of the file are escaped."""
    shown = page(file=f"{NASTY}.csv")
    assert "script" not in Tags(shown).seen
    assert shown.count("&lt;script&gt;alert(&#x27;fractions &amp; decimals&#x27;)&lt;/script&gt;") == 3


def test_nothing_is_loaded_from_elsewhere() -> None:
    """No address, no file, no script; and a policy that says so."""
    shown = page()
    assert not re.search(r"https?://|\bsrc=|\bhref=|@import|url\(|<script|<link|<img", shown)
    assert "default-src 'none'" in shown


def test_the_figures_of_the_report_are_shown() -> None:
    """Of what serves as tiles, of all as a table, the best of a column bold, what is not said as a dash."""
    shown = page()
    assert '<p class="value">0.5123</p>' in shown
    row = shown.split("<code>logistic</code>")[1].split("</tr>")[0]
    assert re.findall(r"<td>(.*?)</td>", row) == [
        "0.7000", "0.6000", "0.2500", "<strong>0.0200</strong>", "–", "–", "–",
    ]  # fmt: skip
    assert "<strong>0.5123</strong>" in shown
    assert shown.count(">serves</span>") == 1
    assert "To say 50.0%" in shown
    assert "costs 0.6931" in shown


def test_a_page_without_times() -> None:
    """No section, no tile and no column of them, and no model that speaks of nothing else."""
    timed, untimed = page(), page(timed=False)
    for word in ("How long will it take?", "Time error", "inside 80%", "median time of all answers"):
        assert word in timed
        assert word not in untimed


def test_a_page_without_progress() -> None:
    """Training is left out where nothing is known of it; else its best epoch is marked."""
    assert "0.5432</text>" in page()
    assert "How the network was learned" in page()
    assert "How the network was learned" not in page(progress=False)


def test_at_most_fifty_skills() -> None:
    """The rest in a sentence; none where there is no rest."""
    assert "2 more skills with 2 answers are left out." in page(skills=52)
    assert "left out" not in page(skills=50)
