"""
Records as bytes, as changelogs keep them; a batch at a time.

The first byte says which table and which format, so that a record can never be taken for another's. Pure.
"""

import struct
from collections.abc import Sequence

import numpy as np

from stream.errors import StateError
from stream.state import academic, learner

LEARNER_FORMAT = 0x13
"""A head, and the record's own bytes."""

ACADEMIC_FORMAT = 0x23
"""A head of one byte, and the record's own bytes."""

_HEAD = struct.Struct("<BHH")  # format, remembered answers, bytes of the record


def encode_learners(records: learner.Records) -> list[bytes]:
    """Return users' records, `(B,)`, as bytes."""
    remembered, size = records.dtype["answer_id"].shape[0], records.dtype.itemsize
    return _pack(_HEAD.pack(LEARNER_FORMAT, remembered, size), records)


def decode_learners(values: Sequence[bytes | None], remembered: int) -> learner.Records:
    """
    Return records of users, `(B,)`; None stands for a new one.

    Args:
        values: What a changelog holds.
        remembered: Answers remembered of a user now; a record that was stored with another number keeps its latest.

    Raises:
        StateError: If a value has another format.
    """
    dtype = learner.learner_dtype(remembered)
    head = _HEAD.pack(LEARNER_FORMAT, remembered, dtype.itemsize)
    if values and all(value is not None and value.startswith(head) for value in values):
        return _unpack("learners", values, len(head), dtype)
    records = learner.new_learners(len(values), remembered)
    for row, value in enumerate(values):
        if value is not None:
            _decode_learner(value, records[row : row + 1])
    return records


def _decode_learner(value: bytes, into: learner.Records) -> None:
    """Put one stored record into `into`, `(1,)`, whatever its number of remembered answers."""
    if len(value) < _HEAD.size or value[0] != LEARNER_FORMAT:
        raise StateError(_unknown("learners", LEARNER_FORMAT, value))
    _, remembered, size = _HEAD.unpack_from(value)
    dtype = learner.learner_dtype(remembered)
    if size != dtype.itemsize:
        raise StateError(f"table learners: expected a record of {dtype.itemsize} bytes, found {size}")
    record = _unpack("learners", [value], _HEAD.size, dtype)[0]
    if record.dtype == into.dtype:
        into[0] = record
    else:
        _resize(record, into)


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


def encode_academics(records: academic.Records) -> list[bytes]:
    """Return academic records, `(B,)`, as bytes."""
    return _pack(bytes([ACADEMIC_FORMAT]), records)


def decode_academics(values: Sequence[bytes | None]) -> academic.Records:
    """
    Return academic records, `(B,)`; None stands for a new one.

    Raises:
        StateError: If a value has another format.
    """
    for value in values:
        if value is not None and value[:1] != bytes([ACADEMIC_FORMAT]):
            raise StateError(_unknown("academics", ACADEMIC_FORMAT, value))
    records = academic.new_academics(len(values))
    there = [row for row, value in enumerate(values) if value is not None]
    records[there] = _unpack("academics", [value for value in values if value is not None], 1, academic.DTYPE)
    return records


def _pack(head: bytes, records: np.ndarray) -> list[bytes]:
    """Return each record's bytes behind the head."""
    size = records.dtype.itemsize
    packed = records.tobytes()
    return [head + packed[start : start + size] for start in range(0, len(packed), size)]


def _unpack(table: str, values: Sequence[bytes | None], head: int, dtype: np.dtype) -> np.ndarray:
    """Return the records behind the heads, `(B,)`."""
    size = head + dtype.itemsize
    for value in values:
        if value is None or len(value) != size:
            found = 0 if value is None else len(value) - head
            raise StateError(f"table {table}: expected a record of {dtype.itemsize} bytes, found {found}")
    packed = np.frombuffer(b"".join(value for value in values if value is not None), np.uint8)
    return np.ascontiguousarray(packed.reshape(-1, size)[:, head:]).view(dtype)[:, 0]


def _unknown(table: str, expected: int, value: bytes) -> str:
    return (
        f"table {table}: expected records of format {expected:#x}, found {value[:1].hex() or 'nothing'}; "
        "another version of the worker wrote them, or the changelog is another table's: run that version, or start "
        "anew with another STREAM_GROUP"
    )
