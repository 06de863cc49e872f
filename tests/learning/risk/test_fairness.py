"""Figures by slices, and the area between ROC curves, against hand-made cases."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.learning.risk.fairness import abroca, area_between, by_slice, roc, rows_of

# Of five at risk and five not: `sharp` ranks all of them right, `blind` ranks none.
AT_RISK = np.array([True, False] * 5)
SHARP = np.where(AT_RISK, 0.9, 0.1)
BLIND = np.full(10, 0.6)


def test_figures_of_a_slice_by_hand() -> None:
    """Of three that failed one was not said to be High, of two that passed one was."""
    at_risk = np.array([True, True, True, False, False])
    score = np.array([0.9, 0.5, 0.4, 0.7, 0.1])
    found = by_slice(["F"] * 5, at_risk, score)["F"]
    assert asdict(found) == {
        "n": 5, "base_rate": pytest.approx(0.6), "mean_score": pytest.approx(0.52), "fpr": 0.5,
        "fnr": pytest.approx(1 / 3), "auc": pytest.approx(4 / 6), "ece": pytest.approx(2.0 / 5),
    }  # fmt: skip


def test_the_largest_slice_is_first() -> None:
    """Of equally large ones by name; each has its own rows."""
    assert list(rows_of(["b", "c", "a", "b", "a"])) == ["a", "b", "c"]
    assert rows_of(["b", "c", "a", "b", "a"])["b"].tolist() == [0, 3]
    assert rows_of([]) == {}


def test_a_figure_about_nobody_is_unknown() -> None:
    """A group in which all passed has no false negatives and no ROC curve."""
    found = by_slice(["x", "x"], np.zeros(2, bool), np.array([0.2, 0.8]))["x"]
    assert (found.fpr, found.fnr, found.auc) == (0.5, None, None)
    values = ["x", "x", *["y"] * 10]
    at_risk = np.concatenate([np.zeros(2, bool), AT_RISK])
    assert abroca(values, at_risk, np.concatenate([[0.2, 0.8], SHARP])) == {"y": 0.0, "x": None}
    assert by_slice([], np.zeros(0, bool), np.zeros(0)) == {}


def test_abroca_between_perfect_and_blind() -> None:
    """A score that ranks one group perfectly and another not at all: the half above the diagonal lies between."""
    values = ["sharp"] * 10 + ["blind"] * 10 + ["sharp"] * 10
    at_risk = np.tile(AT_RISK, 3)
    score = np.concatenate([SHARP, BLIND, SHARP])
    assert abroca(values, at_risk, score) == {"sharp": 0.0, "blind": pytest.approx(0.5)}


def test_curves_that_cross_do_not_cancel_out() -> None:
    """Two ROC curves of the same area: what one gains early it loses late, and ABROCA counts both."""
    early = (np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.5, 1.0]))
    late = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))
    # early - late: .5 + .5 x - 2 x up to x = 1/2, which is 0 at 1/3; then .5 x - .5 up to 0 at 1.
    assert area_between(early, late) == pytest.approx(0.5 / 3 / 2 + 0.25 / 6 / 2 + 0.25 / 2 / 2)
    assert area_between(late, early) == pytest.approx(area_between(early, late))


def test_ties_make_one_point() -> None:
    """Rows with the same score are beyond a threshold together."""
    found = roc(np.array([True, False, True, False]), np.array([0.8, 0.8, 0.3, 0.1]))
    assert found is not None
    assert found[0].tolist() == [0.0, 0.5, 0.5, 1.0]
    assert found[1].tolist() == [0.0, 0.5, 1.0, 1.0]


rated = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0]), st.booleans()), min_size=1, max_size=60
)


@given(rated)
def test_abroca_is_at_least_the_difference_of_the_areas(rows: list[tuple[bool, float, bool]]) -> None:
    """And as large as a fine grid says."""
    at_risk, score, is_a = (np.array(column) for column in zip(*rows, strict=True))
    a, b = roc(at_risk[is_a], score[is_a]), roc(at_risk[~is_a], score[~is_a])
    if a is None or b is None:
        return
    grid = np.linspace(0, 1, 20_011)
    grid = (grid[1:] + grid[:-1]) / 2  # beside the vertical pieces
    on_grid = float(np.abs(np.interp(grid, *a) - np.interp(grid, *b)).mean())
    area = area_between(a, b)
    assert area == pytest.approx(on_grid, abs=1e-3)
    figures = by_slice(["a" if one else "b" for one in is_a], at_risk, score)
    assert area >= abs((figures["a"].auc or 0) - (figures["b"].auc or 0)) - 1e-9
