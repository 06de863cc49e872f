"""
A prediction, and what came of it: all that gate, guard and watch need to know of one, whichever model made it.

Pure. An answer is judged as soon as it is given; a risk when the outcome is known, weeks after it was scored.
"""

import math
from typing import NamedTuple

from schemas import TrainingExample
from stream.state.learner import key64

NEW_BELOW = 10
"""A user with fewer answers in the state counts as new."""


class Judged(NamedTuple):
    """
    One prediction.

    Attributes:
        user: Whose, any integer that SQLite and numpy keep.
        happened: Whether what was predicted came true: the answer was right, the user was at risk.
        version: That served; 0 is the fallback.
        p: Probability that it gave.
        p_fallback: That the fallback gave.
        said_at: When it was said, seconds since the epoch.
        other: The version that was on trial, or against which one was, and did not serve; None if none was.
        p_other: Probability that this one gave.
        slices: Field and value of each slice that it is part of.
        seconds: How long the answer took; NaN where there is no such time.
        median: Of that time, as the one that served said.
        median_fallback: As the fallback said.
        median_other: As the other said.
    """

    user: int
    happened: bool
    version: int
    p: float
    p_fallback: float
    said_at: float
    other: int | None = None
    p_other: float = math.nan
    slices: tuple[tuple[str, str], ...] = ()
    seconds: float = math.nan
    median: float = math.nan
    median_fallback: float = math.nan
    median_other: float = math.nan


def judged_answer(example: TrainingExample, said_at: float) -> Judged:
    """Return an answer as what was said of it; `said_at` is Kafka's timestamp, seconds since the epoch."""
    other, seconds = example.unheard, example.response_time_seconds
    slices = [("topic", example.topic_id)]
    if example.difficulty is not None:
        slices.append(("difficulty", example.difficulty))
    if example.state_version < NEW_BELOW:
        slices.append(("users", "new"))
    return Judged(
        user=key64(example.user_id) >> 1,
        happened=example.correct,
        version=example.model.version,
        p=example.p_before,
        p_fallback=example.p_before_fallback,
        said_at=said_at,
        other=None if other is None else other.model.version,
        p_other=math.nan if other is None else other.p_before,
        slices=tuple(slices),
        seconds=math.nan if seconds is None else seconds,
        median=example.median_before,
        median_fallback=example.median_before_fallback,
        median_other=math.nan if other is None else other.median_before,
    )
