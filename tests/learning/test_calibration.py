"""Forecasts hold what they say, however wrong they were before, and few answers change little."""

import numpy as np
import pytest

from stream.learning import update
from stream.learning.calibration import calibrate, platt
from stream.learning.forward import forecasts
from stream.models.lnirt import Z_90, sigmoid
from tests import networks


def test_calibration_makes_forecasts_hold_what_they_say() -> None:
    """A network twice too sure, and too narrow, comes back to what its answers support; then nothing more moves."""
    buffer = networks.buffer_of(networks.simulated_examples()[:4_000])
    runs = buffer.runs()
    with networks.own_torch():
        network = update.fresh(update.shape_for(len(buffer.skills)), runs)
        update.train(network, *update.split(runs), 2.0, 0.002, 1)
        calibrate(network, runs)
        right = network.calibration.clone()
        good = update.log_loss(network, runs)
        network.calibrate(2.0, 0.5, -0.7)
        spoilt = update.log_loss(network, runs)
        calibrate(network, runs)
        assert good < spoilt
        assert update.log_loss(network, runs) == pytest.approx(good, abs=1e-3)
        assert network.calibration.tolist() == pytest.approx(right.tolist(), abs=0.05)
        said, time = forecasts(network, runs), runs.time[runs.there]
    inside = np.abs(time[:, 0] - said[:, 1]) <= Z_90 * np.exp(said[:, 2])
    assert inside[time[:, 1] > 0].mean() == pytest.approx(0.8, abs=0.005)
    p = sigmoid(said[:, 0])
    assert p.mean() == pytest.approx(runs.correct[runs.there].mean(), abs=0.01)


def test_few_answers_hardly_calibrate() -> None:
    """Five answers of one kind do not make a network sure of everything, nor do few times change its intervals."""
    buffer = networks.buffer_of(networks.simulated_examples()[:5])
    runs = buffer.runs()
    network = update.fresh(update.shape_for(len(buffer.skills)), runs)
    calibrate(network, runs)
    slope, intercept, shift = network.calibration.tolist()
    assert slope == pytest.approx(1.0, abs=0.2)
    assert abs(intercept) < 0.3
    assert shift == 0.0


@pytest.mark.parametrize(
    ("mean", "spread", "slope", "n"), [(2.5, 0.7, 0.0, 100), (3.0, 1.0, 0.0, 1_000), (0.0, 6.0, 0.15, 5_000)]
)
def test_forecasts_that_are_far_too_sure_are_taken_back(mean: float, spread: float, slope: float, n: int) -> None:
    """Where a whole step of Newton's overshoots: log loss falls to about that of the truth, and order is kept."""
    random = np.random.default_rng(1)
    logit = random.normal(mean, spread, n)
    correct = (random.random(n) < sigmoid(slope * logit)).astype(np.float64)
    found, intercept = platt(logit, correct)
    assert 0.1 <= found <= 0.6
    z = found * logit + intercept
    loss = (np.logaddexp(0, z) - correct * z).mean()
    assert loss < (np.logaddexp(0, slope * logit) - correct * slope * logit).mean() + 0.03
