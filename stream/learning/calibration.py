"""
Having forecasts hold what they say, on answers that were not learned from.

Source:
    Platt 1999; Romano, Patterson, Candès 2019 for intervals by the errors of data held out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.learning.forward import forecasts
from stream.learning.network import Network
from stream.learning.runs import Runs
from stream.models.lnirt import Z_90

_RIDGE = 10.0
_NEWTON_STEPS = 50
_LEAST_SHIFT = -1.0


def calibrate(network: Network, runs: Runs) -> None:
    """
    Have a network's probabilities and intervals hold, on these runs, what they say.

    Slope and intercept of the logit by maximum likelihood, drawn to 1 and 0 as by ten answers, so that few answers move
    little; and the spread of response times such that 80% of them lie between the 10% and the 90% quantile.

    Source:
        Platt 1999; Romano, Patterson, Candès 2019 for intervals by the errors of data held out.
    """
    said, correct = forecasts(network, runs), runs.correct[runs.there].astype(np.float64)
    if not len(correct):
        return
    slope, intercept = platt(said[:, 0].astype(np.float64), correct)
    time = runs.time[runs.there]
    timed = time[:, 1] > 0
    shift = 0.0
    if timed.sum() >= _LEAST_TIMED:
        off = np.abs(time[timed, 0] - said[timed, 1]) / np.exp(said[timed, 2])
        shift = max(float(np.log(spread(off))), _LEAST_SHIFT)
    network.calibrate(slope, intercept, shift)


def spread(errors: NDArray[np.floating[Any]]) -> float:
    """Return the sigma, at least .001, with which 80% of errors, `(M,)`, lie between the 10% and the 90% quantile."""
    return max(float(np.quantile(np.abs(errors), 0.8)) / Z_90, 1e-3)


def platt(logit: NDArray[np.float64], correct: NDArray[np.float64]) -> tuple[float, float]:
    """Return the slope and the intercept of a logit, `(N,)`, that make outcomes, 0 or 1, `(N,)`, most likely."""
    x = np.stack([logit, np.ones(len(logit))], axis=1)
    slope, intercept = logistic_weights(x, correct, np.array([1.0, 0.0]), _RIDGE).tolist()
    # A slope below 0 would turn the order of all predictions round: that is no matter of calibration.
    return float(np.clip(slope, *_SLOPES)), intercept


def logistic_weights(
    x: NDArray[np.float64], y: NDArray[np.float64], prior: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    """
    Return the weights of a logistic regression, `(K,)`, that make outcomes most likely, drawn to others.

    By Newton's method, each step halved until it helps: where forecasts are too sure, a whole one overshoots.

    Args:
        x: Inputs, `(N, K)`.
        y: Outcomes, 0 or 1, `(N,)`.
        prior: Weights to start from, and to be drawn to, `(K,)`.
        ridge: How strongly, in answers.
    """

    def loss(weights: NDArray[np.float64]) -> float:
        z = x @ weights
        return float((np.logaddexp(0, z) - y * z).sum() + ridge / 2 * ((weights - prior) ** 2).sum())

    weights, best = prior, loss(prior)
    for _ in range(_NEWTON_STEPS):
        p = 0.5 * (1 + np.tanh(x @ weights / 2))
        gradient = x.T @ (y - p) - ridge * (weights - prior)
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(prior)), gradient)
        while (found := loss(weights + step)) > best and np.abs(step).max() > _LEAST_STEP:
            step /= 2
        if found >= best:
            break
        weights, best = weights + step, found
    return weights


_LEAST_STEP = 1e-6
_SLOPES = (0.1, 10.0)

_LEAST_TIMED = 100
"""Response times below which their spread is left as it was learned."""
