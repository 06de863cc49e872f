"""
What we say of a user: will the next answer be right, how long will it take, is the user at risk.

Every prediction names the event and the model that it comes from. The same event gives the same
`prediction_id`.
"""

from typing import Annotated, Any, Final, Literal, Self

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

_PREDICTION_ID: Final = "The same whenever it is made of the same event: drop a second one."
_USER: Final = "The learner; also the message's key."
_SOURCE: Final = "The event that it was made of."
_PRODUCED: Final = "When it was made, by the worker's clock."
_MODEL: Final = "What predicted."
_FALLBACK: Final = "Whether the fallback did, because there is no model or it failed."

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

    event_id: Identifier = Field(description="Its id; of a closed week one of user and week.")
    topic: Annotated[str, Field(min_length=1)] = Field(description="Its topic, as the broker calls it.")
    partition: Count = Field(description="Its partition there.")
    offset: Count = Field(description="Its place in the partition.")


class ModelRef(EmittedValue):
    """The model behind a message; version 0 is the fallback before it has learned anything."""

    name: Annotated[str, Field(min_length=1)] = Field(description="`knowledge` or `risk`.")
    version: Count = Field(description="Of the model; 0 is the fallback before it has learned anything.")
    variant: Literal["champion", "challenger", "fallback"] = Field(description="The part that it played.")


class CorrectnessTarget(EmittedValue):
    """Probability that the user's next answer to this would be right."""

    topic_id: Identifier = Field(description="Topic of the question.")
    item_id: Identifier | None = Field(default=None, description="The item; null: any of the topic.")
    difficulty: Difficulty | None = Field(default=None, description="Of the question; null: unknown, or any.")
    p_correct: Probability = Field(description="Probability of a right answer.")


class TimeTarget(EmittedValue):
    """Seconds that the user's next answer to this would take: mean and quantiles."""

    topic_id: Identifier = Field(description="Topic of the question.")
    item_id: Identifier | None = Field(default=None, description="The item; null: any of the topic.")
    difficulty: Difficulty | None = Field(default=None, description="Of the question; null: unknown, or any.")
    expected_seconds: Positive = Field(description="Mean response time, seconds.")
    p10: Positive = Field(description="10% quantile, seconds.")
    p50: Positive = Field(description="Median, seconds.")
    p90: Positive = Field(description="90% quantile, seconds.")


class Observed(EmittedValue):
    """What was said of this very answer before it was seen, and what it was."""

    p_before: Probability = Field(description="Probability of a right answer that was said before it.")
    correct: Flag = Field(description="Whether it was right.")


class TimeObserved(EmittedValue):
    """What was said of this answer's time before it was seen, and what it was, in seconds."""

    p50_before: Positive = Field(description="Median that was said before it, seconds.")
    response_time_seconds: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="What it took, seconds; null where the event does not say."
    )


class Factor(EmittedValue):
    """How much one feature raised or lowered a risk score."""

    feature: Annotated[str, Field(min_length=1)] = Field(description="Its name; see docs/risk.md.")
    contribution: float = Field(description="Log odds against the feature's neutral value; above 0 it raises the risk.")
    value: float | None = Field(default=None, description="The feature's own value now; null where it is no number.")


class CorrectnessPrediction(Emitted):
    """After an answer: how likely right answers are from here on."""

    prediction_id: Identifier = Field(description=_PREDICTION_ID)
    user_id: Identifier = Field(description=_USER)
    source: Source = Field(description=_SOURCE)
    produced_at: Moment = Field(description=_PRODUCED)
    model: ModelRef = Field(description=_MODEL)
    fallback: Flag = Field(description=_FALLBACK)
    targets: tuple[CorrectnessTarget, ...] = Field(
        description="The event's topic at each difficulty, other topics met lately, and `metadata.next_items`."
    )
    mastery: dict[str, Probability] = Field(
        description="By skill, probability of a right answer: the event's skills and those met lately."
    )
    observed: Observed = Field(description="This very answer: what was said before it, and what it was.")


class TimePrediction(Emitted):
    """After an answer: how long answers will take from here on."""

    prediction_id: Identifier = Field(description=_PREDICTION_ID)
    user_id: Identifier = Field(description=_USER)
    source: Source = Field(description=_SOURCE)
    produced_at: Moment = Field(description=_PRODUCED)
    model: ModelRef = Field(description=_MODEL)
    fallback: Flag = Field(description=_FALLBACK)
    targets: tuple[TimeTarget, ...] = Field(description="The same as of the prediction of correctness.")
    observed: TimeObserved = Field(description="This very answer: what was said before it, and what it took.")


class RiskPrediction(Emitted):
    """How much a user is at risk, and why."""

    prediction_id: Identifier = Field(description=_PREDICTION_ID)
    user_id: Identifier = Field(description=_USER)
    source: Source = Field(description=_SOURCE)
    produced_at: Moment = Field(description=_PRODUCED)
    model: ModelRef = Field(description=_MODEL)
    fallback: Flag = Field(description=_FALLBACK)
    score: Probability = Field(description="Probability of failing or leaving the course.")
    category: RiskCategory = Field(description="Low below 0.25, Medium below 0.5, High below 0.75, Critical.")
    factors: Annotated[tuple[Factor, ...], Field(max_length=5)] = Field(
        description="What moved the score most, the strongest first."
    )
    reason: Literal["academics", "first_interaction_of_day", "week_closed"] = Field(
        description="Why it was made: an academic event, the first interaction of a day, or a week that is over."
    )
    outcome: Literal["distinction", "pass", "fail", "withdrawn"] | None = Field(
        default=None, description="How the course ended, once it has: from then on nobody is to be warned of the user."
    )
    as_of: Moment = Field(description="The moment of event time for which it holds: a user's risks are in its order.")

    @model_validator(mode="before")
    @classmethod
    def _of_earlier(cls, content: Any) -> Any:  # noqa: ANN401 (whatever came)
        """Take a prediction that does not say for when it holds: there were only such of the moment."""
        if isinstance(content, dict) and "as_of" not in content and "produced_at" in content:
            return content | {"as_of": content["produced_at"]}
        return content

    @model_validator(mode="after")
    def _category_is_of_score(self) -> Self:
        if self.category != risk_category(self.score):
            raise ValueError(f"category: expected {risk_category(self.score)} for {self.score}, found {self.category}")
        return self
