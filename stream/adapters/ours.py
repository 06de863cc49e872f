"""Events that are ours already: checked, and passed on with the fields that the schemas know."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from schemas import Academic, GradeRecorded, Interaction, decode_academic, decode_interaction
from stream.adapters.conversion import UNSAID, Carried, Conversion, Made
from stream.adapters.fields import written

_INTERACTIONS: Final = frozenset(get_args(Interaction.model_fields["type"].annotation))
_RECORDS: Final = frozenset(
    get_args(model.model_fields["type"].annotation)[0] for model in get_args(get_args(Academic)[0])
)


def is_one(event: Mapping[str, Any]) -> bool:
    """Return whether a JSON object has the type of one of our events, and a user."""
    kind = event.get("type")
    return isinstance(kind, str) and "user_id" in event and (kind in _INTERACTIONS or kind in _RECORDS)


def parts(event: Mapping[str, Any]) -> Sequence[tuple[str, Any]] | None:  # noqa: ARG001 (of every family)
    """Return None: we have no envelopes."""
    return None


def convert(event: Mapping[str, Any], carried: Carried = UNSAID) -> Conversion:  # noqa: ARG001 (of every family)
    """Return the event itself; see `Family.convert`."""
    kind = event.get("type")
    is_record = isinstance(kind, str) and kind in _RECORDS
    raw = written(event)
    read = decode_academic(raw) if is_record else decode_interaction(raw)
    known = read.model_dump(mode="json", exclude_none=True)
    if isinstance(read, GradeRecorded):
        # The one field whose null says something.
        known["score"] = read.score
    return Conversion((Made("academics" if is_record else "interactions", known),))
