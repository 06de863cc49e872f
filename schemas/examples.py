"""
What the models saw and what happened: an example for every answer and every week of a user, and what came out later.

The features are those that the prediction was made from, so that training never computes them another way.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Count, Difficulty, Emitted, EmittedValue, Flag, Identifier, Moment, Positive, Probability
from schemas.predictions import ModelRef, Source

_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Unheard(EmittedValue):
    """What the other model on trial, champion or challenger, said of an answer that it did not serve."""

    model: ModelRef
    state_format: Annotated[str, Field(min_length=1)]
    p_before: Probability
    median_before: Positive = Field(description="Seconds.")


class TrainingExample(Emitted):
    """One answer, the features before it, and what was said of it by what served and by the fallback."""

    type: Literal["answer"] = "answer"
    example_id: Identifier
    event_id: Identifier
    user_id: Identifier
    topic_id: Identifier
    item_id: Identifier | None = None
    skills: tuple[Identifier, ...]
    difficulty: Difficulty | None = None
    correct: Flag
    response_time_seconds: _Seconds | None = None
    timestamp: Moment
    source: Source
    model: ModelRef
    state_format: Annotated[str, Field(min_length=1)]
    state_version: Count = Field(description="Answers that the user's state had taken in.")
    feature_version: Count
    features: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
    p_before: Probability
    p_before_fallback: Probability
    median_before: Positive = Field(description="Seconds.")
    median_before_fallback: Positive = Field(description="Seconds.")
    unheard: Unheard | None = Field(default=None, description="While a challenger is on trial.")


class ExampleCorrection(Emitted):
    """The outcome of an earlier answer was corrected: the example with this id is to be learned from anew."""

    type: Literal["correction"] = "correction"
    example_id: Identifier = Field(description="Of the example of the corrected answer.")
    event_id: Identifier = Field(description="Of the correction.")
    user_id: Identifier
    correct: Flag
    source: Source
    timestamp: Moment


class UnheardRisk(EmittedValue):
    """What the other model on trial, champion or challenger, said of a risk that it did not serve."""

    model: ModelRef
    score: Probability


class RiskExample(Emitted):
    """A user's weekly steps as the risk model saw them at the end of a week, and what was said of them."""

    type: Literal["risk"] = "risk"
    example_id: Identifier
    user_id: Identifier
    week: Count = Field(description="Number of the week that was closed, from the Monday of 1970-01-05.")
    as_of: Moment
    course_id: Identifier | None = None
    model: ModelRef
    feature_version: Count
    steps: Annotated[str, Field(min_length=1)] = Field(
        description="float16 numbers, little-endian, in base64: ten weeks, the oldest first, of 42 features; NaN where "
        "nothing is known."
    )
    context: dict[str, str | float] = Field(description="What is kept of the enrolment and may be a feature.")
    slices: dict[str, str] = Field(description="Fields by which fairness is watched; never features.")
    score: Probability
    score_fallback: Probability
    unheard: UnheardRisk | None = Field(default=None, description="While a challenger is on trial.")


class RiskOutcome(Emitted):
    """What became of a user: the label of the examples before it."""

    type: Literal["risk_outcome"] = "risk_outcome"
    example_id: Identifier
    event_id: Identifier
    user_id: Identifier
    outcome: Literal["distinction", "pass", "fail", "withdrawn"] | None = Field(
        default=None, description="How the course ended; null for a label."
    )
    score: Probability | None = Field(default=None, description="An adviser's label; null for an outcome.")
    source: Source
    timestamp: Moment


TrainingMessage = Annotated[
    TrainingExample | ExampleCorrection | RiskExample | RiskOutcome, Field(discriminator="type")
]
