"""
Records as bytes, as tables and changelogs keep them.

The first byte says which table and which format, so that a record can never be taken for another's. Pure.
"""

import struct
from collections.abc import Iterable, Sequence

import numpy as np

from stream.errors import StateError
from stream.state import academic, learner
from stream.state.learner import key64

LEARNER_FORMAT = 0x11
"""A head, the record's own bytes, and the names of its concepts."""

ACADEMIC_FORMAT = 0x21
"""A head of one byte, and the record's own bytes."""

_HEAD = struct.Struct("<BHH")  # format, remembered answers, bytes of the record
NAMES_MAX_BYTES = 2_048
"""Names beyond this are left out, the longest unmet first: a prediction then goes without them."""


class Names:
    """The identifiers behind 64-bit keys, as far as this process has met them."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def key(self, name: str) -> int:
        """Return the key of a name, and remember the name."""
        key = key64(name)
        self._names[key] = name
        return key

    def name(self, key: int) -> str | None:
        """Return the name of a key, None if it was never met."""
        return self._names.get(key)


def encode_learner(record: learner.Records, names: Names) -> bytes:
    """Return one user's record, a row of shape `()`, as bytes."""
    head = _HEAD.pack(LEARNER_FORMAT, record.dtype["answer_id"].shape[0], record.dtype.itemsize)
    newest_first = np.argsort(-record["concept_at"].astype(np.int64), kind="stable")
    parts, size = [], 0
    for key in record["concept"][newest_first]:
        name = (names.name(int(key)) or "").encode() if key else b""
        size += len(name)
        if name and size <= NAMES_MAX_BYTES:
            parts.append(name)
    return head + record.tobytes() + b"\x00".join(parts)


def decode_learners(values: Sequence[bytes | None], remembered: int, names: Names) -> learner.Records:
    """
    Return records of users, `(B,)`; None stands for a new one.

    Args:
        values: What the table holds.
        remembered: Answers remembered of a user now; a record that was stored with another number keeps its latest.
        names: Takes the names that were stored.

    Raises:
        StateError: If a value has another format.
    """
    records = learner.new_learners(len(values), remembered)
    for row, value in enumerate(values):
        if value is None:
            continue
        if len(value) < _HEAD.size or value[0] != LEARNER_FORMAT:
            raise StateError(_unknown("learners", LEARNER_FORMAT, value))
        _, stored, size = _HEAD.unpack_from(value)
        dtype = learner.learner_dtype(stored)
        if size != dtype.itemsize or len(value) < _HEAD.size + size:
            raise StateError(
                f"table learners: expected a record of {dtype.itemsize} bytes, found {len(value) - _HEAD.size}"
            )
        record = np.frombuffer(value, dtype, 1, _HEAD.size)[0]
        if stored == remembered:
            records[row] = record
        else:
            _resize(record, records[row : row + 1])
        for name in value[_HEAD.size + size :].split(b"\x00"):
            if name:
                names.key(name.decode())
    return records


def _resize(record: learner.Records, into: learner.Records) -> None:
    """Copy a record into one with another number of remembered answers, which keeps the latest."""
    ring = [name for name in into.dtype.names or () if name.startswith("answer_")]
    for name in into.dtype.names or ():
        if name not in ring:
            into[name] = record[name]
    old, new = len(record["answer_id"]), into["answer_id"].shape[1]
    total = int(record["answers"])
    latest = np.arange(max(total - min(old, new), 0), total)
    for name in ring:
        into[name][0, latest % new] = record[name][latest % old]


def encode_academic(record: academic.Records) -> bytes:
    """Return one user's academic record, a row of shape `()`, as bytes."""
    return bytes([ACADEMIC_FORMAT]) + record.tobytes()


def decode_academics(values: Iterable[bytes | None]) -> academic.Records:
    """
    Return academic records, `(B,)`; None stands for a new one.

    Raises:
        StateError: If a value has another format.
    """
    values = list(values)
    records = academic.new_academics(len(values))
    for row, value in enumerate(values):
        if value is None:
            continue
        if len(value) != 1 + academic.DTYPE.itemsize or value[0] != ACADEMIC_FORMAT:
            raise StateError(_unknown("academics", ACADEMIC_FORMAT, value))
        records[row] = np.frombuffer(value, academic.DTYPE, 1, 1)[0]
    return records


def _unknown(table: str, expected: int, value: bytes) -> str:
    return (
        f"table {table}: expected records of format {expected:#x}, found {value[:1].hex() or 'nothing'}; "
        "this worker is older than the one that wrote them, or the changelog is another table's"
    )


def is_marker(value: bytes) -> bool:
    """Return whether a stored record is the empty marker of an erased user, who has not come back."""
    if value[0] != LEARNER_FORMAT:
        return False
    _, stored, _ = _HEAD.unpack_from(value)
    record = np.frombuffer(value, learner.learner_dtype(stored), 1, _HEAD.size)[0]
    return bool(record["erasure_seen"] >= 0 and record["last_at"] == 0)


def seen_offset(value: bytes) -> int:
    """Return the last source offset that a stored record of either table has seen."""
    head = _HEAD.size if value[0] == LEARNER_FORMAT else 1
    return int(np.frombuffer(value, "<i8", 1, head)[0])
