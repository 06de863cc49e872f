"""
Events that could not be used: why, where they stand, and their bytes.

Nothing here validates the event itself: whatever came in must fit.
"""

from typing import Annotated

from pydantic import Field

from schemas.base import AnyMoment, Count, Emitted, Flag, Identifier, Moment


class DeadLetter(Emitted):
    """One event that was put aside; bytes are base64."""

    dead_letter_id: Identifier
    reason: Annotated[str, Field(min_length=1)] = Field(description="A short stable code.")
    detail: str = Field(description="A sentence: the field, what was expected, what was found.")
    topic: Annotated[str, Field(min_length=1)]
    partition: Count
    offset: Count
    timestamp: AnyMoment | None = Field(default=None, description="Of the message; its sender may have set any year.")
    key: str | None = None
    value: str | None = Field(default=None, description="The original bytes, cut where value_cut says so.")
    value_bytes: Count = Field(description="Size of the whole value.")
    value_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of the whole value.")
    value_cut: Flag
    headers: tuple[tuple[str, str | None], ...] = ()
    traceback: str | None = None
    recorded_at: Moment
