"""
CloudEvents 1.0 unwrapped: what is inside, the type under which it travels, and when it was sent.

Structured and batched by their content, binary by the message's headers (Kafka protocol binding).
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson

from stream.adapters.conversion import Carried
from stream.adapters.fields import bad, missing, optional_moment, text

_JSON_CHARACTERS = ("{", "[")


def carried_by(headers: Iterable[tuple[str, bytes | None]], sent_at: datetime | None) -> Carried:
    """
    Return what a message says of its event.

    Args:
        headers: Of the message; those of binary mode say most.
        sent_at: Of the message, where they say nothing of it.
    """
    named = {name.lower(): value.decode("utf-8", "replace") for name, value in headers if value is not None}
    return Carried(named.get("ce_type", ""), optional_moment(named.get("ce_time")) or sent_at)


def is_envelope(event: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is an event in structured mode."""
    return "specversion" in event and "type" in event and "source" in event


def inside(envelope: Mapping[str, Any], outside: Carried) -> tuple[Carried, Any]:
    """
    Return what an event in structured mode says of itself, and what is in it.

    Args:
        envelope: The event.
        outside: What is said of the message, where it says nothing itself.

    Raises:
        InvalidEvent: If there is nothing in it, or nothing that can be read.
    """
    carried = Carried(text(envelope.get("type")), optional_moment(envelope.get("time")) or outside.at)
    if "data_base64" in envelope:
        try:
            return carried, orjson.loads(base64.b64decode(envelope["data_base64"], validate=True))
        except (binascii.Error, TypeError, ValueError):
            raise bad("data_base64", "JSON in base64", envelope["data_base64"]) from None
    data = envelope.get("data")
    if data is None:
        raise missing("data", "the event inside the CloudEvent")
    # Some senders put JSON into a text.
    if isinstance(data, str) and data.lstrip().startswith(_JSON_CHARACTERS):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise bad("data", "JSON", data) from None
    return carried, data
