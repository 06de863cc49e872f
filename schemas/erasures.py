"""
A user to forget.

What is forgotten, and where, is decided by whoever reads it.
"""

from typing import Annotated, ClassVar, Final

from pydantic import Field, TypeAdapter

from schemas.base import MAY_BE_NULL, Identified, Identifier, Moment, decode


class Erasure(Identified):
    """A user to forget everywhere."""

    id_field: ClassVar[str] = "erasure_id"

    erasure_id: Annotated[Identifier, MAY_BE_NULL] = Field(
        default_factory=str, description="Names the wish; derived from its content where it is absent."
    )
    user_id: Identifier = Field(description="The learner to forget; must also be the message's key.")
    requested_at: Moment | None = Field(default=None, description="When it was asked for.")


ERASURE: Final = TypeAdapter(Erasure)


def decode_erasure(raw: bytes) -> Erasure:
    """
    Read an erasure from its bytes.

    Raises:
        InvalidEvent: If the bytes are not a valid erasure.
    """
    return decode(ERASURE, raw)
