"""
What the model saw and what happened: one training example for every answer.

The features are those that the prediction was made from, so that training never computes them another way.
"""

from typing import Annotated

from pydantic import Field

from schemas.base import Count, Difficulty, Emitted, Flag, Identifier, Moment, Positive, Probability
from schemas.predictions import ModelRef, Source


class TrainingExample(Emitted):
    """One answer, the features before it, and what was said of it by what served and by the fallback."""

    example_id: Identifier
    event_id: Identifier
    user_id: Identifier
    topic_id: Identifier
    item_id: Identifier | None = None
    skills: tuple[Identifier, ...]
    difficulty: Difficulty | None = None
    correct: Flag
    response_time_seconds: Annotated[float, Field(ge=0)] | None = None
    timestamp: Moment
    source: Source
    model: ModelRef
    state_format: Annotated[str, Field(min_length=1)]
    feature_version: Count
    features: tuple[float, ...]
    p_before: Probability
    p_before_fallback: Probability
    median_before: Positive = Field(description="Seconds.")
    median_before_fallback: Positive = Field(description="Seconds.")
