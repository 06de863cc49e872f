"""The gate: who is promoted, who is kept out, when a trial ends, and that users, not answers, count."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.learning_gate import BETTER, SCENES, Scene, answers, simulate_gate, try_out
from schemas import GateDecided
from stream.learning import gate
from stream.learning.gate import LARGEST, LEAST_BUDGET, Answers, Decision, Gains, Trial, boundary, budget_of, student
from stream.models.lnirt import sigmoid
from stream.models.quality import log_losses

EVERY, BUDGET = 250, 4_000


def met(gain: float = 0.05, users: int = 200, seed: int = 1, error: float = 0.15) -> Answers:
    """Return simulated answers, on which the challenger is better by `gain` in expectation."""
    scene = Scene(users=users, spread=0.5, error=error)
    return answers(scene, gain, np.random.default_rng(seed), BUDGET)


def decided(compared: Answers, budget: int = BUDGET) -> Decision:
    """Return the decision on answers that come one batch after another."""
    trial = Trial(EVERY, budget)
    for start in range(0, len(compared.user), 100):
        trial.add(compared.take(slice(start, start + 100)))
        decision = trial.look()
        if decision is not None:
            return decision
    raise AssertionError("expected a decision")


def test_a_better_candidate_is_promoted_before_its_budget_is_spent() -> None:
    """As soon as it is significantly better at a look; the figures say by how much."""
    decision = decided(met())
    assert decision.promoted
    assert decision.n < BUDGET
    assert decision.gain >= decision.needed > 0
    assert decision.gain == pytest.approx(decision.champion.logloss - decision.candidate.logloss)
    assert decision.candidate.logloss < decision.champion.logloss < decision.fallback.logloss
    assert f"{decision.gain:.4f}" in decision.reason
    assert f"{decision.needed:.4f}" in decision.reason


def test_a_worse_candidate_is_given_up_early() -> None:
    """Nothing is learned while it waits."""
    compared = met()
    decision = decided(replace(compared, p_candidate=compared.p_champion, p_champion=compared.p_candidate))
    assert not decision.promoted
    assert decision.n == 500
    assert decision.gain < 0
    assert "hardly" in decision.reason


def test_who_says_the_same_is_no_better() -> None:
    """No gain, and no spread of it either."""
    compared = met()
    decision = decided(replace(compared, p_champion=compared.p_candidate))
    assert not decision.promoted
    assert decision.gain == 0
    assert decision.needed == 0
    assert decision.n == 500


def test_it_is_looked_at_when_a_look_is_due() -> None:
    """Not before so many answers, and then not again before so many more."""
    compared, trial = met(gain=0.1), Trial(EVERY, BUDGET)
    trial.add(compared.take(slice(0, EVERY - 1)))
    assert trial.look() is None
    assert trial.n == EVERY - 1
    trial.add(compared.take(slice(EVERY - 1, 2_000)))
    decision = trial.look()
    assert decision is not None
    assert decision.n == 2_000


def test_a_trial_ends_with_its_budget() -> None:
    """Also where that is no multiple of the answers between two looks."""
    decision = decided(met(gain=0.002), budget=330)
    assert not decision.promoted
    assert decision.n == 400
    assert "not better at 95% within 330 predictions" in decision.reason


def test_who_is_compared_on_one_kind_only_is_kept_out() -> None:
    """However much better, and only when the budget is spent: until then the other kind may still come."""
    compared = met(gain=0.1)
    compared, trial = compared.take(compared.correct), Trial(EVERY, 1_000, least_of_each=50)
    trial.add(compared.take(slice(0, 950)))
    assert trial.look() is None
    trial.add(replace(compared, correct=~compared.correct).take(slice(950, 999)))
    assert trial.look() is None
    trial.add(compared.take(slice(999, 1_000)))
    decision = trial.look()
    assert decision is not None
    assert not decision.promoted
    assert decision.reason == "of one kind only 49 are known, 50 needed, within 1000 predictions"


def test_better_than_what_serves_is_not_enough() -> None:
    """A candidate that loses more than the fallback stays out in the end, if it is better than what serves or not."""
    compared = met(gain=0.1)
    decision = decided(replace(compared, p_fallback=compared.correct * 0.98 + 0.01))
    assert not decision.promoted
    assert decision.n == BUDGET
    assert decision.gain > decision.needed
    assert "the fallback's" in decision.reason


def test_a_better_log_loss_may_not_cost_order() -> None:
    """A candidate that only is less sure of itself, but ranks answers worse, stays out; the values are named."""
    compared = met(gain=0.0)
    logits = np.log(compared.p_champion / (1 - compared.p_champion))
    overconfident = sigmoid(6 * logits)
    blurred = sigmoid(logits + np.random.default_rng(2).normal(0, 0.8, len(logits)))
    decision = decided(replace(compared, p_candidate=blurred, p_champion=overconfident))
    assert not decision.promoted
    assert decision.gain > decision.needed
    assert (
        f"its AUC is {decision.candidate.auc:.4f}, that of what serves {decision.champion.auc:.4f}" in decision.reason
    )


def test_a_better_log_loss_may_not_cost_calibration() -> None:
    """A candidate that orders answers much better, but says too high probabilities, stays out."""
    compared = met(gain=0.0)
    logits = np.log(compared.p_candidate / (1 - compared.p_candidate))
    decision = decided(
        replace(compared, p_candidate=sigmoid(logits + 0.8), p_champion=np.full(BUDGET, compared.correct.mean()))
    )
    assert not decision.promoted
    assert decision.gain > decision.needed
    assert "calibration error" in decision.reason


def test_a_better_log_loss_may_not_cost_times() -> None:
    """A candidate whose median times are off by more stays out, unless hardly any time is known."""
    compared = met()
    off = replace(compared, median_candidate=compared.median_candidate * 1.6)
    decision = decided(off)
    assert not decision.promoted
    assert "time error" in decision.reason
    assert decision.candidate.time_mae_seconds is not None
    untimed = compared.response_time_s.copy()
    untimed[90:] = np.nan
    assert decided(replace(off, response_time_s=untimed)).promoted
    none = decided(replace(compared, response_time_s=np.full_like(untimed, np.nan)))
    assert none.promoted
    assert none.candidate.time_mae_seconds is None


@pytest.mark.parametrize("what", ["p_candidate", "median_candidate"])
def test_a_candidate_of_no_numbers_is_kept_out_at_once(what: str) -> None:
    """A NaN among what it says is the end of it, before a look is due; its figures are of the rest."""
    compared, trial = met(), Trial(EVERY, BUDGET)
    broken = getattr(compared, what).copy()
    broken[3] = np.nan
    trial.add(replace(compared, **{what: broken}).take(slice(0, 10)))
    decision = trial.look()
    assert decision is not None
    assert not decision.promoted
    assert "not finite" in decision.reason
    assert math.isfinite(decision.candidate.logloss)
    assert math.isfinite(decision.needed)


def test_few_users_decide_nothing() -> None:
    """Four are too few, however many answers they give; the figures are numbers all the same."""
    compared = met(gain=0.1, users=4)
    decision = decided(compared)
    assert not decision.promoted
    assert decision.n == BUDGET
    assert decision.users == 4
    assert decision.needed == LARGEST


def test_a_small_course_gets_a_model_that_is_much_better() -> None:
    """Ten users are asked for more than many are, but not for what cannot be had."""
    assert decided(met(gain=0.1, users=10, error=0.1)).promoted


def test_outcomes_all_alike_have_no_auc() -> None:
    """With right answers only there is no order to judge; log loss still decides."""
    compared = met()
    random = np.random.default_rng(3)
    p = sigmoid(random.normal(2, 0.2, BUDGET))
    compared = replace(compared, correct=np.ones(BUDGET, bool), p_candidate=p, p_champion=p - 0.05)
    decision = decided(replace(compared, p_fallback=compared.p_champion))
    assert decision.promoted
    assert (decision.candidate.auc, decision.champion.auc, decision.fallback.auc) == (None, None, None)


def test_a_decision_is_told_in_an_event() -> None:
    """It has what the event wants to know."""
    decision = decided(met())
    told = {"promoted", "reason", "users", "gain", "needed", "candidate", "champion", "fallback"}
    event = GateDecided(
        event_id="e-1", name="knowledge", at=datetime(2026, 1, 1, tzinfo=UTC), candidate_version=2,
        **{name: getattr(decision, name) for name in told},
    )  # fmt: skip
    assert event.candidate.n == decision.n
    assert GateDecided.model_validate_json(event.model_dump_json()) == event


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 20))
def test_answers_of_one_user_do_not_count_as_many(seed: int, times: int) -> None:
    """Ten copies of each answer say no more than one: the error stays, where independent ones would shrink it."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(20), 5)
    gain = random.normal(0.1, 1, 100)
    once, copied, independent = Gains(), Gains(), Gains()
    once.add(user, gain)
    copied.add(np.repeat(user, times), np.repeat(gain, times))
    independent.add(np.arange(100 * times), np.repeat(gain, times))
    assert copied.mean == pytest.approx(once.mean)
    assert copied.error == pytest.approx(once.error)
    assert copied.freedom == pytest.approx(once.freedom) == pytest.approx(19)
    assert independent.error == pytest.approx(gain.std() / math.sqrt(100 * times), rel=0.02)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_gains_are_the_same_in_any_portions(seed: int, size: int) -> None:
    """One by one or all at once."""
    random = np.random.default_rng(seed)
    user, gain = random.integers(0, 30, 200), random.normal(0, 1, 200)
    whole, portions = Gains(), Gains()
    whole.add(user, gain)
    for start in range(0, 200, size):
        portions.add(user[start : start + size], gain[start : start + size])
    assert (portions.n, portions.users) == (whole.n, whole.users) == (200, len(np.unique(user)))
    assert portions.mean == pytest.approx(whole.mean)
    assert portions.error == pytest.approx(whole.error)
    assert portions.needed == pytest.approx(whole.needed)


def test_no_gains_are_not_above_zero() -> None:
    """Nor are those of one user."""
    gains = Gains()
    assert not gains.is_above_zero()
    gains.add(np.zeros(50, np.int64), np.full(50, 1.0))
    assert gains.error == math.inf
    assert not gains.is_above_zero()


def test_the_boundary_holds_at_every_look() -> None:
    """Of sums of independent gains around 0, looked at a hundred times, no more than one in twenty ever crosses it."""
    random = np.random.default_rng(4)
    sums = random.normal(0, 10, (4_000, 200)).cumsum(axis=1)
    n = 100 * np.arange(1, 201)
    crossed = (sums >= np.sqrt(n) * np.array([boundary(int(each)) for each in n])).any(axis=1).mean()
    assert 0.01 < crossed <= gate.LEVEL


@pytest.mark.parametrize(("freedom", "exact"), [(4, 5.598), (10, 3.581), (30, 3.030), (1e6, 2.807)])
def test_few_users_are_asked_for_more(freedom: float, exact: float) -> None:
    """By Student's distribution; the figures are of its tables, at one half percent both sides."""
    assert student(2.80703, freedom) == pytest.approx(exact, rel=0.025)


def test_beyond_all_numbers_is_infinite() -> None:
    """Where there is no spread, or a quantile that no float holds."""
    assert student(3.0, 0.0) == math.inf
    assert student(60.0, 2.0) == math.inf


def test_who_has_learned_from_little_has_a_small_budget() -> None:
    """What could be learned by then is better; but never so small that nothing can be told."""
    assert budget_of(10, 20_000) == LEAST_BUDGET
    assert budget_of(5_000, 20_000) == 5_000
    assert budget_of(1_000_000, 20_000) == 20_000
    assert budget_of(10, 500) == 500


def test_equal_challengers_are_rarely_promoted() -> None:
    """Of a hundred in a row that are as good as the champion, at most five; and half end within 2,500 answers."""
    found = simulate_gate(seed=1, runs=100)
    assert found["promoted"] <= 5
    assert found["answers"] <= 2_500


def test_better_challengers_are_promoted() -> None:
    """Of a hundred that are better by 0.01 of log loss, at least ninety within 20,000 answers."""
    assert simulate_gate(seed=2, runs=100, gain=BETTER)["promoted"] >= 90


def test_equal_challengers_before_few_users_are_rarely_promoted() -> None:
    """Few users, each with errors of his own: their answers are no more than a few."""
    assert simulate_gate(seed=3, runs=100, scene=SCENES["8 users"])["promoted"] <= 5


def test_the_simulation_differs_by_what_it_says() -> None:
    """On many answers the mean gain is the expected one."""
    for gain in (0.0, BETTER):
        compared = answers(Scene(users=20_000), gain, np.random.default_rng(5), 400_000)
        decision = try_out(compared) if gain else None
        gains = Gains()
        gains.add(compared.user, _gain(compared))
        assert abs(gains.mean - gain) < 3 * gains.error < 0.002
        assert decision is None or decision.promoted


def _gain(compared: Answers) -> NDArray[np.float64]:
    losses = [log_losses(compared.correct, said) for said in (compared.p_champion, compared.p_candidate)]
    return losses[0] - losses[1]
