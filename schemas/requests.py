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
        default_factory=str, description="Derived from the content where it is absent."
    )
    user_id: Identifier
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=64, fail_fast=True)]
    timestamp: Moment | None = None


class Forecast(EmittedValue):
    """What is expected of one target: probability of a right answer, and its time in seconds."""

    topic_id: Identifier
    item_id: Identifier | None = None
    difficulty: Difficulty | None = None
    p_correct: Probability
    expected_seconds: Positive
    p10: Positive
    p50: Positive
    p90: Positive


class PredictionReply(Emitted):
    """The answer to a request, target by target."""

    reply_id: Identifier
    request_id: Identifier
    user_id: Identifier
    produced_at: Moment
    model: ModelRef
    fallback: Flag
    targets: tuple[Forecast, ...]


REQUEST: Final = TypeAdapter(PredictionRequest)


def decode_request(raw: bytes) -> PredictionRequest:
    """
    Read a request from its bytes.

    Raises:
        InvalidEvent: If the bytes are not a valid request.
    """
    return decode(REQUEST, raw)
