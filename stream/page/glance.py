"""
What of a prediction can be read without decoding it.

A worker writes 10,000 predictions a second, of which the page counts all and shows few. Each begins with what is looked
for here; a quote inside a text is escaped, so that no text can pass for a field. Pure.
"""

from typing import Any, Final, NamedTuple

from stream.emission import content


class Glance(NamedTuple):
    """
    The beginning of a prediction.

    Attributes:
        id_: Its `prediction_id`, raw.
        partition: Of the event behind it.
        offset: Of the event behind it.
        is_fallback: Whether the fallback made it.
    """

    id_: bytes
    partition: int
    offset: int
    is_fallback: bool


def without_features(raw: bytes) -> bytes:
    """Return a training example with an empty list of features: they are half of it, and nothing shows them."""
    begin = raw.find(_FEATURES) + len(_FEATURES)
    return raw[:begin] + raw[raw.find(b"]", begin) :] if begin >= len(_FEATURES) else raw


def glance(raw: bytes) -> Glance:
    """
    Read the beginning of a prediction of an answer, in an envelope or not.

    Raises:
        ValueError: If it is none.
        KeyError: If it is none, and written otherwise than by a worker.
    """
    partition, offset, id_ = raw.find(_PARTITION), raw.find(_OFFSET), raw.find(_ID)
    if min(partition, offset, id_) < 0:
        return _decoded(content(raw))
    partition, offset, id_ = partition + len(_PARTITION), offset + len(_OFFSET), id_ + len(_ID)
    return Glance(
        raw[id_ : raw.index(b'"', id_)],
        int(raw[partition : raw.index(b",", partition)]),
        int(raw[offset : raw.index(b"}", offset)]),
        _FALLBACK in raw,
    )


def _decoded(prediction: dict[str, Any]) -> Glance:
    """Read one that has spaces, or another order."""
    source = prediction["source"]
    id_ = prediction["prediction_id"].encode()
    return Glance(id_, source["partition"], source["offset"], prediction["fallback"])


_PARTITION: Final = b'"partition":'
_OFFSET: Final = b'"offset":'
_ID: Final = b'"prediction_id":"'
_FEATURES: Final = b'"features":['
_FALLBACK: Final = b'"fallback":true'
