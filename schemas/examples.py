"""
What the model saw and what happened: one training example for every answer, and what was corrected later.

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


TrainingMessage = Annotated[TrainingExample | ExampleCorrection, Field(discriminator="type")]
