"""AUC and log loss, against their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.models.quality import auc, log_losses

predictions = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])), min_size=1, max_size=40
)


@given(predictions)
def test_auc_is_the_chance_that_a_right_answer_ranks_higher(said: list[tuple[bool, float]]) -> None:
    """Over all pairs of a right and a wrong answer: how often the right one has the higher probability, ties half."""
    right = [p for correct, p in said if correct]
    wrong = [p for correct, p in said if not correct]
    found = auc(np.array([correct for correct, _ in said]), np.array([p for _, p in said], np.float32))
    if not right or not wrong:
        assert found is None
        return
    pairs = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    assert found == pytest.approx(sum(pairs) / len(pairs))


def test_auc_at_its_ends() -> None:
    """Perfect order is 1, the reverse 0, and no order at all a half."""
    correct = np.array([True, False, True, False])
    assert auc(correct, np.array([0.9, 0.1, 0.8, 0.2])) == 1
    assert auc(correct, np.array([0.1, 0.9, 0.2, 0.8])) == 0
    assert auc(correct, np.full(4, 0.7)) == 0.5
    assert auc(np.zeros(0, bool), np.zeros(0)) is None


@given(predictions)
def test_log_losses_are_finite(said: list[tuple[bool, float]]) -> None:
    """Certain and wrong costs much, but a number; otherwise it is minus the log of what was said of what happened."""
    correct = np.array([c for c, _ in said])
    p = np.array([p for _, p in said])
    for loss, right, probability in zip(log_losses(correct, p), correct, p, strict=True):
        said_of_it = min(max(probability if right else 1 - probability, 1e-6), 1 - 1e-6)
        assert loss == pytest.approx(-math.log(said_of_it), abs=1e-9)
        assert math.isfinite(loss)
