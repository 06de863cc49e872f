"""
The log-normal item response model: the fallback, the cold start, and a feature of every other model.

A user has an ability and a speed, learned online as Gaussian beliefs in the user's record; an item has a difficulty,
a discrimination and a time intensity, learned by the trainer. No artifact is needed, and an answer costs a few
operations.

Source:
    Birnbaum 1968 (two-parameter logistic); van der Linden 2007, A hierarchical framework for modeling speed and
    accuracy; Glickman 1999 and MacKay 1992 (the probit approximation of the logistic under a Gaussian belief).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.models.items import Parameters
from stream.state.learner import PRIOR_ABILITY_VAR, PRIOR_SPEED_VAR, Answers, Records, joined

ABILITY_DRIFT = 0.02
"""Variance that an ability gains with each answer: users learn while they answer. Chosen on simulated learners."""

SPEED_DRIFT = 0.002
"""Variance that a speed gains with each answer."""


@dataclass(frozen=True, slots=True)
class Belief:
    """
    What the model says of answers to come, one row a question.

    Attributes:
        ability: Of the user, float32 `(N,)`.
        ability_var: How unsure that is, a variance, float32 `(N,)`.
        speed: Of the user, float32 `(N,)`.
        logit: Log odds of a right answer, float32 `(N,)`.
        mu: Mean of the log response time in seconds, float32 `(N,)`.
        sigma: Standard deviation of the log response time, float32 `(N,)`.
    """

    ability: NDArray[np.float32]
    ability_var: NDArray[np.float32]
    speed: NDArray[np.float32]
    logit: NDArray[np.float32]
    mu: NDArray[np.float32]
    sigma: NDArray[np.float32]


def believe(records: Records, rows: NDArray[np.int64], items: Parameters) -> Belief:
    """
    Return what the users of `rows` would answer.

    Args:
        records: Users, `(B,)`.
        rows: The user of each question, `(N,)`.
        items: Parameters of what is asked, `(N,)`.
    """
    ability, ability_var, speed, speed_var = joined(records)["belief"][rows].T
    a = items.discrimination
    shrink = 1 / np.sqrt(1 + np.pi * a**2 * ability_var / 8)
    logit = shrink * a * (ability - items.difficulty)
    sigma = np.sqrt(items.time_sigma**2 + speed_var)
    return Belief(ability, ability_var, speed, logit, items.time_intensity - speed, sigma)


def learn(records: Records, answers: Answers, items: Parameters) -> None:
    """
    Update ability and speed by one answer of each user, in place.

    Args:
        records: Users, `(B,)`.
        answers: One answer of each, `(B,)`.
        items: Parameters of what was asked, `(B,)`.
    """
    ability, speed = records["ability"], records["speed"]
    a = items.discrimination
    var = np.minimum(records["ability_var"] + ABILITY_DRIFT, PRIOR_ABILITY_VAR)
    p = sigmoid(a * (ability - items.difficulty))
    # One Newton step on the log posterior (Laplace): the gain shrinks as the belief sharpens.
    var = 1 / (1 / var + a**2 * p * (1 - p))
    records["ability"] = ability + var * a * (answers.correct - p)
    records["ability_var"] = var

    timed = ~np.isnan(answers.response_time_s)
    log_time = np.log(np.maximum(np.where(timed, answers.response_time_s, 1), MIN_SECONDS))
    speed_var = np.minimum(records["speed_var"] + SPEED_DRIFT, PRIOR_SPEED_VAR)
    gain = speed_var / (speed_var + items.time_sigma**2)
    # A single answer left open over lunch says little of a speed: residuals are cut (Huber 1964).
    residual = np.minimum(np.maximum(items.time_intensity - speed - log_time, -MAX_RESIDUAL), MAX_RESIDUAL)
    np.copyto(speed, speed + gain * residual, where=timed)
    np.copyto(records["speed_var"], (1 - gain) * speed_var, where=timed)


MIN_SECONDS = 0.05
"""Shorter response times count as this: nobody answers faster, and log 0 is no number."""

Z_90 = 1.2815515655446004
"""The normal distribution's 90% quantile: spreads of log time from the median to the ends of the middle 80%."""

MAX_RESIDUAL = 2.0
"""Log seconds: a factor of 7."""


def sigmoid(x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)), always in (0, 1)."""
    # Beyond 15 a float32 could not tell the result from 1, and a probability of 1 is never meant.
    return np.asarray(1 / (1 + np.exp(-np.minimum(np.maximum(x, -15), 15))), np.float32)
