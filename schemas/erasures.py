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
        default_factory=str, description="Derived from the content where it is absent."
    )
    user_id: Identifier
    requested_at: Moment | None = None


ERASURE: Final = TypeAdapter(Erasure)


def decode_erasure(raw: bytes) -> Erasure:
    """
    Read an erasure from its bytes.

    Raises:
        InvalidEvent: If the bytes are not a valid erasure.
    """
    return decode(ERASURE, raw)
