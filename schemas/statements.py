"""
A risk as an xAPI statement (1.0.3), for learning record stores: the learner was predicted to be at risk.

What a statement may say is xAPI's to decide, so that it has no `schema_version`: its fields and their names are theirs.
How one is made of a prediction stands in `stream.statements`.
"""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter

from schemas.base import EmittedValue, Flag, Identifier, Moment, Probability
from schemas.predictions import Factor, ModelRef, RiskCategory, Source

BASE: Final = "https://learnerstream.invalid/xapi/"
"""Begins every IRI that is ours. The domain is reserved (RFC 2606): it names, and leads nowhere."""

VERB: Final = BASE + "verbs/predicted"
ACTIVITY: Final = BASE + "activities/risk"
ACTIVITY_TYPE: Final = BASE + "activity-types/prediction"
EXTENSION: Final = BASE + "extensions/"

Iri = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")]
LanguageMap = dict[str, str]


class Account(EmittedValue):
    """Whom a system knows under a name."""

    home_page: Iri = Field(
        alias="homePage", description="The system, as STREAM_ACTOR_HOME_PAGE says it; with pseudonyms one of their own."
    )
    name: Identifier = Field(description="The learner, as `user_id` of the prediction.")


class Actor(EmittedValue):
    """The learner."""

    object_type: Literal["Agent"] = Field(alias="objectType", description="A person.")
    account: Account = Field(description="Whom the platform knows under the user's id.")


class Verb(EmittedValue):
    """What was done."""

    id: Literal["https://learnerstream.invalid/xapi/verbs/predicted"] = Field(description="Always this verb.")
    display: LanguageMap = Field(description="In words, by language.")


class Definition(EmittedValue):
    """What an activity is."""

    type: Literal["https://learnerstream.invalid/xapi/activity-types/prediction"] = Field(description="A prediction.")
    name: LanguageMap = Field(description="In words, by language.")


class Activity(EmittedValue):
    """What was predicted."""

    object_type: Literal["Activity"] = Field(alias="objectType", description="A thing, not a person.")
    id: Literal["https://learnerstream.invalid/xapi/activities/risk"] = Field(description="Always this activity.")
    definition: Definition = Field(description="What it is.")


class Score(EmittedValue):
    """The risk."""

    scaled: Probability = Field(description="Probability of failing or leaving the course.")


class ResultExtensions(EmittedValue):
    """What else was said."""

    # xAPI has no nulls: what is not known is left out.
    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    category: RiskCategory = Field(
        alias=EXTENSION + "category", description="Low below 0.25, Medium below 0.5, High below 0.75, Critical."
    )
    factors: tuple[Factor, ...] = Field(
        alias=EXTENSION + "factors", description="What moved the score most, the strongest first."
    )
    outcome: Literal["distinction", "pass", "fail", "withdrawn"] | None = Field(
        default=None, alias=EXTENSION + "outcome", description="How the course ended; left out while it goes on."
    )


class Result(EmittedValue):
    """What was said of the learner."""

    score: Score = Field(description="The risk; xAPI's scale ends at 1.")
    extensions: ResultExtensions = Field(description="What else was said.")


class ContextExtensions(EmittedValue):
    """Where it comes from."""

    prediction_id: Identifier = Field(alias=EXTENSION + "prediction-id", description="Of the prediction.")
    model: ModelRef = Field(alias=EXTENSION + "model", description="What predicted.")
    fallback: Flag = Field(alias=EXTENSION + "fallback", description="Whether the fallback did.")
    reason: Literal["academics", "first_interaction_of_day", "week_closed"] = Field(
        alias=EXTENSION + "reason", description="Why it was made."
    )
    source: Source = Field(alias=EXTENSION + "source", description="The event that it was made of.")


class Context(EmittedValue):
    """Where it comes from."""

    platform: Literal["learnerstream"] = Field(description="What said it.")
    extensions: ContextExtensions = Field(description="The prediction behind it.")


class RiskStatement(EmittedValue):
    """A risk prediction once more, as an xAPI 1.0.3 statement that a learning record store takes as it is."""

    id: UUID = Field(
        description="Follows from all that it says: made again with the same content, a store takes it once."
    )
    actor: Actor = Field(description="The learner.")
    verb: Verb = Field(description="That something was predicted.")
    object: Activity = Field(description="What was predicted.")
    result: Result = Field(description="The risk, and what it is made of.")
    context: Context = Field(description="Where it comes from.")
    timestamp: Moment = Field(description="The moment of event time for which it holds: `as_of` of the prediction.")


STATEMENT: Final[TypeAdapter[Any]] = TypeAdapter(RiskStatement)
