"""The gate: who is promoted, who is not, and that users, not answers, count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.learning.gate import LEVEL_Z, Compared, clustered_z, decide
from stream.models.lnirt import sigmoid


def answers(
    users: int = 60, each: int = 10, seed: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]:
    """Return users, outcomes and the true probabilities of simulated answers."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), each)
    logits = (random.normal(0, 1, users)[user] + random.normal(0, 1, len(user))).astype(np.float32)
    truth = sigmoid(logits)
    return user, random.random(len(user)) < truth, truth


def blurred(p: NDArray[np.float32], by: float, seed: int = 9) -> NDArray[np.float32]:
    """Return probabilities that are further from the truth, the same in order on average."""
    noise = np.random.default_rng(seed).normal(0, by, len(p))
    return sigmoid((np.log(p / (1 - p)) + noise).astype(np.float32))


def test_an_equal_candidate_is_not_promoted() -> None:
    """Who says the same is no better."""
    user, correct, truth = answers()
    decision = decide(Compared(user, correct, truth, truth, truth))
    assert not decision.promoted
    assert not decision.falls_back
    assert decision.z == 0
    assert "not better" in decision.reason


def test_a_better_candidate_is_promoted() -> None:
    """Who is clearly closer to the truth goes live, and the figures say by how much."""
    user, correct, truth = answers()
    decision = decide(Compared(user, correct, truth, blurred(truth, 1.5), blurred(truth, 1.5, seed=3)))
    assert decision.promoted
    assert not decision.falls_back
    assert decision.z > LEVEL_Z
    candidate, serving, fallback = decision.logloss
    assert candidate < min(serving, fallback)
    assert decision.auc[0] is not None
    assert decision.auc[1] is not None
    assert decision.auc[0] > decision.auc[1]


def test_better_than_what_serves_is_not_enough() -> None:
    """A candidate must beat the fallback too; and where the fallback beats what serves, that is said."""
    user, correct, truth = answers()
    decision = decide(Compared(user, correct, blurred(truth, 0.8), blurred(truth, 2.5, seed=3), truth))
    assert decision.z > LEVEL_Z
    assert not decision.promoted
    assert "the fallback" in decision.reason
    assert decision.falls_back


def test_a_promoted_candidate_leaves_nothing_to_fall_back_from() -> None:
    """If the candidate goes live, what served before no longer matters."""
    user, correct, truth = answers()
    decision = decide(Compared(user, correct, truth, blurred(truth, 3.0), blurred(truth, 1.5, seed=3)))
    assert decision.promoted
    assert not decision.falls_back


def test_a_worse_candidate_is_kept_out() -> None:
    """Who is further from the truth stays out, z below zero."""
    user, correct, truth = answers()
    decision = decide(Compared(user, correct, blurred(truth, 1.5), truth, blurred(truth, 2.0)))
    assert not decision.promoted
    assert decision.z < 0
    assert "what serves" in decision.reason


def test_a_better_log_loss_may_not_cost_order() -> None:
    """A candidate that only is less sure of itself, but ranks answers worse, stays out."""
    user, correct, truth = answers(users=200)
    overconfident = sigmoid(6 * np.log(truth / (1 - truth)))
    decision = decide(Compared(user, correct, blurred(truth, 0.5), overconfident, blurred(truth, 3.0)))
    assert decision.z > LEVEL_Z
    assert not decision.promoted
    assert "AUC" in decision.reason


def test_a_candidate_of_no_numbers_is_kept_out() -> None:
    """A NaN among its predictions is the end of it."""
    user, correct, truth = answers()
    candidate = truth.copy()
    candidate[3] = np.nan
    decision = decide(Compared(user, correct, candidate, blurred(truth, 2.0), blurred(truth, 2.0)))
    assert not decision.promoted
    assert "not finite" in decision.reason


def test_outcomes_all_alike_have_no_auc() -> None:
    """With right answers only there is no order to judge; log loss still decides."""
    user, _, truth = answers()
    correct = np.ones(len(user), bool)
    decision = decide(Compared(user, correct, blurred(np.full_like(truth, 0.9), 0.3), truth, truth))
    assert decision.auc == (None, None, None)
    assert decision.promoted


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 20))
def test_answers_of_one_user_do_not_count_as_many(seed: int, times: int) -> None:
    """Ten copies of each answer say no more than one: z stays, where independent ones would raise it."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(20), 5)
    gain = random.normal(0.1, 1, 100)
    z = clustered_z(gain, user)
    assert clustered_z(np.repeat(gain, times), np.repeat(user, times)) == pytest.approx(z)
    independent = clustered_z(np.repeat(gain, times), np.arange(100 * times))
    assert independent == pytest.approx(clustered_z(gain, np.arange(100)) * np.sqrt(times), rel=0.02)


def test_one_user_decides_nothing() -> None:
    """Without a second user there is no telling."""
    assert clustered_z(np.full(50, 1.0), np.zeros(50, np.int64)) == 0
    assert clustered_z(np.zeros(0), np.zeros(0, np.int64)) == 0


def test_a_candidate_that_is_no_better_is_rarely_promoted() -> None:
    """Of candidates that differ from what serves by chance alone, few more than one in twenty go through."""
    promoted = 0
    for seed in range(200):
        user, correct, truth = answers(users=40, each=5, seed=seed)
        said = blurred(truth, 0.5, seed=1_000 + seed), blurred(truth, 0.5, seed=2_000 + seed)
        promoted += decide(Compared(user, correct, said[0], said[1], blurred(truth, 0.5, seed=3_000 + seed))).promoted
    assert promoted <= 16


def test_figures_are_those_of_candidate_serving_and_fallback() -> None:
    """Log loss and AUC are told in this order."""
    user, correct, truth = answers()
    decision = decide(Compared(user, correct, truth, blurred(truth, 1.0), blurred(truth, 3.0)))
    assert decision.logloss[0] < decision.logloss[1] < decision.logloss[2]
    areas = [area or 0.0 for area in decision.auc]
    assert areas[0] > areas[1] > areas[2]
