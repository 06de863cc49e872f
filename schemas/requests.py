"""
What would happen if: a user, some targets, and what is expected of each.

A request changes nothing. Predictions that follow from events stand in `schemas.predictions`.
"""

from typing import Annotated, ClassVar, Final

from pydantic import Field, TypeAdapter

from schemas.base import (
    MAY_BE_NULL,
    Difficulty,
    Emitted,
    EmittedValue,
    Flag,
    Identified,
    Identifier,
    Moment,
    Positive,
    Probability,
    decode,
)
from schemas.events import Target
from schemas.predictions import ModelRef


class PredictionRequest(Identified):
    """A user, and what it may be asked."""

    id_field: ClassVar[str] = "request_id"

    request_id: Annotated[Identifier, MAY_BE_NULL] = Field(
        default_factory=str, description="Comes back in the reply; derived from the content where it is absent."
    )
    user_id: Identifier = Field(description="The learner; must also be the message's key.")
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=64, fail_fast=True)] = Field(
        description="What is asked about, 1 to 64."
    )
    timestamp: Moment | None = Field(default=None, description="Moment of the question; now where it is absent.")


class Forecast(EmittedValue):
    """What is expected of one target: probability of a right answer, and its time in seconds."""

    topic_id: Identifier = Field(description="Topic of the question.")
    item_id: Identifier | None = Field(default=None, description="The item; null: any of the topic.")
    difficulty: Difficulty | None = Field(default=None, description="Of the question; null: unknown, or any.")
    p_correct: Probability = Field(description="Probability of a right answer.")
    expected_seconds: Positive = Field(description="Mean response time, seconds.")
    p10: Positive = Field(description="10% quantile, seconds.")
    p50: Positive = Field(description="Median, seconds.")
    p90: Positive = Field(description="90% quantile, seconds.")


class PredictionReply(Emitted):
    """The answer to a request, target by target."""

    reply_id: Identifier = Field(description="The same whenever a request is answered: drop a second one.")
    request_id: Identifier = Field(description="Of the request.")
    user_id: Identifier = Field(description="The learner; also the message's key.")
    produced_at: Moment = Field(description="When it was made, by the worker's clock.")
    model: ModelRef = Field(description="What predicted.")
    fallback: Flag = Field(description="Whether the fallback did, because there is no model or it failed.")
    targets: tuple[Forecast, ...] = Field(description="In the order of the request.")


REQUEST: Final = TypeAdapter(PredictionRequest)


def decode_request(raw: bytes) -> PredictionRequest:
    """
    Read a request from its bytes.

    Raises:
        InvalidEvent: If the bytes are not a valid request.
    """
    return decode(REQUEST, raw)
