"""
What we say of a user: will the next answer be right, how long will it take, is the user at risk.

Every prediction names the event and the model that it comes from. The same event gives the same
`prediction_id`.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from schemas.base import (
    Count,
    Difficulty,
    Emitted,
    EmittedValue,
    Flag,
    Identifier,
    Moment,
    Positive,
    Probability,
)

RiskCategory = Literal["Low", "Medium", "High", "Critical"]

RISK_LIMITS: Final = (0.25, 0.5, 0.75)
"""Scores at which Medium, High and Critical begin."""


def risk_category(score: float) -> RiskCategory:
    """
    Category of a risk score.

    Args:
        score: In [0, 1].
    """
    medium, high, critical = RISK_LIMITS
    if score < medium:
        return "Low"
    if score < high:
        return "Medium"
    return "High" if score < critical else "Critical"


class Source(EmittedValue):
    """The event behind a message, and its place."""

    event_id: Identifier
    topic: Annotated[str, Field(min_length=1)]
    partition: Count
    offset: Count


class ModelRef(EmittedValue):
    """The model behind a message; version 0 is the fallback before it has learned anything."""

    name: Annotated[str, Field(min_length=1)]
    version: Count
    variant: Literal["champion", "challenger", "fallback"]


class CorrectnessTarget(EmittedValue):
    """Probability that the user's next answer to this would be right."""

    topic_id: Identifier
    item_id: Identifier | None = None
    difficulty: Difficulty | None = None
    p_correct: Probability


class TimeTarget(EmittedValue):
    """Seconds that the user's next answer to this would take: mean and quantiles."""

    topic_id: Identifier
    item_id: Identifier | None = None
    difficulty: Difficulty | None = None
    expected_seconds: Positive
    p10: Positive
    p50: Positive
    p90: Positive


class Observed(EmittedValue):
    """What was said of this very answer before it was seen, and what it was."""

    p_before: Probability
    correct: Flag


class TimeObserved(EmittedValue):
    """What was said of this answer's time before it was seen, and what it was, in seconds."""

    p50_before: Positive
    response_time_seconds: Annotated[float, Field(ge=0)] | None = None


class Factor(EmittedValue):
    """How much one feature raised or lowered a risk score."""

    feature: Annotated[str, Field(min_length=1)]
    contribution: float = Field(description="Log odds against the feature's neutral value; above 0 it raises the risk.")
    value: float | None = Field(default=None, description="The feature's own value now; null where it is no number.")


class CorrectnessPrediction(Emitted):
    """After an answer: how likely right answers are from here on."""

    prediction_id: Identifier
    user_id: Identifier
    source: Source
    produced_at: Moment
    model: ModelRef
    fallback: Flag
    targets: tuple[CorrectnessTarget, ...]
    mastery: dict[str, Probability]
    observed: Observed


class TimePrediction(Emitted):
    """After an answer: how long answers will take from here on."""

    prediction_id: Identifier
    user_id: Identifier
    source: Source
    produced_at: Moment
    model: ModelRef
    fallback: Flag
    targets: tuple[TimeTarget, ...]
    observed: TimeObserved


class RiskPrediction(Emitted):
    """How much a user is at risk, and why."""

    prediction_id: Identifier
    user_id: Identifier
    source: Source
    produced_at: Moment
    model: ModelRef
    fallback: Flag
    score: Probability
    category: RiskCategory
    factors: Annotated[tuple[Factor, ...], Field(max_length=5)]
    reason: Literal["academics", "first_interaction_of_day", "week_closed"]
    outcome: Literal["distinction", "pass", "fail", "withdrawn"] | None = Field(
        default=None, description="How the course ended, once it has: from then on nobody is to be warned of the user."
    )
    as_of: Moment = Field(description="The moment of event time for which it holds: a user's risks are in its order.")

    @model_validator(mode="after")
    def _category_is_of_score(self) -> Self:
        if self.category != risk_category(self.score):
            raise ValueError(f"category: expected {risk_category(self.score)} for {self.score}, found {self.category}")
        return self
