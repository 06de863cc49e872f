"""
Events that could not be used: why, where they stand, and their bytes.

Nothing here validates the event itself: whatever came in must fit.
"""

from typing import Annotated

from pydantic import Field

from schemas.base import AnyMoment, Count, Emitted, Flag, Identifier, Moment


class DeadLetter(Emitted):
    """One event that was put aside; bytes are base64."""

    dead_letter_id: Identifier = Field(description="The same for the same record: drop a second one.")
    reason: Annotated[str, Field(min_length=1)] = Field(description="A short stable code.")
    detail: str = Field(description="A sentence: the field, what was expected, what was found.")
    topic: Annotated[str, Field(min_length=1)] = Field(description="Where it stands, as the broker calls it.")
    partition: Count = Field(description="Its partition there.")
    offset: Count = Field(description="Its place in the partition.")
    timestamp: AnyMoment | None = Field(default=None, description="Of the message; its sender may have set any year.")
    key: str | None = Field(default=None, description="Its key, base64, cut like the value.")
    value: str | None = Field(default=None, description="The original bytes, base64, cut where value_cut says so.")
    value_bytes: Count = Field(description="Size of the whole value, bytes.")
    value_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of the whole value.")
    value_cut: Flag = Field(description="Whether the value is longer than what is kept.")
    headers: tuple[tuple[str, str | None], ...] = Field(default=(), description="Its headers; values in base64.")
    traceback: str | None = Field(default=None, description="Of `processing_failed`: where our own code raised.")
    recorded_at: Moment = Field(description="When it was put aside, by the worker's clock.")
