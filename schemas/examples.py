"""
What the models saw and what happened: an example for every answer and every week of a user, and what came out later.

The features are those that the prediction was made from, so that training never computes them another way.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from schemas.base import Count, Difficulty, Emitted, EmittedValue, Flag, Identifier, Moment, Positive, Probability
from schemas.predictions import ModelRef, Source

_TYPE: Final = "What it tells."
_EXAMPLE_ID: Final = "The same for the same answer or week: a second one counts once."
_USER: Final = "The learner; also the message's key."
_SOURCE: Final = "The event behind it, and its place."
_MODEL: Final = "What served."

_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Unheard(EmittedValue):
    """What the other model on trial, champion or challenger, said of an answer that it did not serve."""

    model: ModelRef = Field(description="Which it is.")
    state_format: Annotated[str, Field(min_length=1)] = Field(description="Of its hidden states.")
    p_before: Probability = Field(description="Probability of a right answer that it gave.")
    median_before: Positive = Field(description="Median response time that it gave, seconds.")


class TrainingExample(Emitted):
    """One answer, the features before it, and what was said of it by what served and by the fallback."""

    type: Literal["answer"] = Field(default="answer", description=_TYPE)
    example_id: Identifier = Field(description=_EXAMPLE_ID)
    event_id: Identifier = Field(description="Of the answer.")
    user_id: Identifier = Field(description=_USER)
    topic_id: Identifier = Field(description="Topic of the question.")
    item_id: Identifier | None = Field(default=None, description="The question.")
    skills: tuple[Identifier, ...] = Field(description="Skills that it takes.")
    difficulty: Difficulty | None = Field(default=None, description="Of the question.")
    correct: Flag = Field(description="Whether the answer was right.")
    response_time_seconds: _Seconds | None = Field(default=None, description="What it took, seconds.")
    timestamp: Moment = Field(description="When it was given.")
    source: Source = Field(description=_SOURCE)
    model: ModelRef = Field(description=_MODEL)
    state_format: Annotated[str, Field(min_length=1)] = Field(description="Of the hidden states of what served.")
    state_version: Count = Field(
        default=0, description="Answers that the user's state had taken in; 0 where it is not said."
    )
    feature_version: Count = Field(description="Of the order of the features.")
    features: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        description="What was known before the answer, in the order of stream/models/features.py."
    )
    p_before: Probability = Field(description="Probability of a right answer that was said before it.")
    p_before_fallback: Probability = Field(description="The same, by the fallback.")
    median_before: Positive = Field(description="Median response time that was said before it, seconds.")
    median_before_fallback: Positive = Field(description="The same, by the fallback.")
    unheard: Unheard | None = Field(
        default=None, description="While a challenger is on trial: what the other one said that did not serve."
    )


class ExampleCorrection(Emitted):
    """The outcome of an earlier answer was corrected: the example with this id is to be learned from anew."""

    type: Literal["correction"] = Field(default="correction", description=_TYPE)
    example_id: Identifier = Field(description="Of the example of the corrected answer.")
    event_id: Identifier = Field(description="Of the correction.")
    user_id: Identifier = Field(description=_USER)
    correct: Flag = Field(description="The outcome as it stands now.")
    source: Source = Field(description=_SOURCE)
    timestamp: Moment = Field(description="When it was corrected.")


class UnheardRisk(EmittedValue):
    """What the other model on trial, champion or challenger, said of a risk that it did not serve."""

    model: ModelRef = Field(description="Which it is.")
    score: Probability = Field(description="The risk that it gave.")


class RiskExample(Emitted):
    """A user's weekly steps as the risk model saw them at the end of a week, and what was said of them."""

    type: Literal["risk"] = Field(default="risk", description=_TYPE)
    example_id: Identifier = Field(description=_EXAMPLE_ID)
    user_id: Identifier = Field(description=_USER)
    week: Count = Field(description="Number of the week that was closed, from the Monday of 1970-01-05.")
    as_of: Moment = Field(description="The moment of event time for which it holds.")
    course_id: Identifier | None = Field(default=None, description="The course, where it is known.")
    model: ModelRef = Field(description=_MODEL)
    feature_version: Count = Field(description="Of the features' order.")
    steps: Annotated[str, Field(min_length=1)] = Field(
        description="float16 numbers, little-endian, in base64: ten weeks, the oldest first, of 42 features; NaN where "
        "nothing is known."
    )
    context: dict[str, str | float] = Field(description="What is kept of the enrolment and may be a feature.")
    slices: dict[str, str] = Field(description="Fields by which fairness is watched; never features.")
    score: Probability = Field(description="The risk that was said.")
    score_fallback: Probability = Field(description="The same, by the fallback.")
    unheard: UnheardRisk | None = Field(
        default=None, description="While a challenger is on trial: what the other one said that did not serve."
    )


class RiskOutcome(Emitted):
    """What became of a user: the label of the examples before it."""

    type: Literal["risk_outcome"] = Field(default="risk_outcome", description=_TYPE)
    example_id: Identifier = Field(description=_EXAMPLE_ID)
    event_id: Identifier = Field(description="Of the outcome or the label.")
    user_id: Identifier = Field(description=_USER)
    outcome: Literal["distinction", "pass", "fail", "withdrawn"] | None = Field(
        default=None, description="How the course ended; null for a label."
    )
    score: Probability | None = Field(default=None, description="An adviser's label; null for an outcome.")
    source: Source = Field(description=_SOURCE)
    timestamp: Moment = Field(description="When it became known.")


def _of_earlier(content: Any) -> Any:  # noqa: ANN401 (whatever came)
    """Take an example that does not say what it is: there were only answers."""
    return content | {"type": "answer"} if isinstance(content, dict) and "type" not in content else content


TrainingMessage = Annotated[
    TrainingExample | ExampleCorrection | RiskExample | RiskOutcome,
    Field(discriminator="type"),
    BeforeValidator(_of_earlier),
]
