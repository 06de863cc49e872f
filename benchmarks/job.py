"""
The two jobs that every system does, as functions of records and stored states.

*Full* is the worker's own pure step: validate, features, one step of the network for correctness and time, both
predictions and the training example, the user's whole record. *Core* is what other measurements of such systems did:
read JSON, one step of a two-layer LSTM of 128, one prediction, its state. A job keeps nothing between two calls, so
that each system keeps state its own way; it takes a batch as well as a single event, whatever an interface allows.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from benchmarks.spec import JobName
from schemas import decode_interaction
from stream import pipeline
from stream.intake import Limits, read
from stream.models.artifacts import load
from stream.models.dkt import KNOWLEDGE
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.models.runtime import Graph
from stream.models.store import Store
from stream.pipeline import Models, Users
from stream.ports import Message, Record
from stream.state import academic, codec
from stream.state.learner import Records
from stream.state.names import Names
from stream.transport.partitioner import Partitioner

REMEMBERED, LATEST_TOPICS = 100, 3  # the worker's defaults
LIMITS = Limits(event_max_bytes=262_144, dead_letter_max_bytes=65_536)

CORE_LAYERS, CORE_HIDDEN, CORE_ITEMS = 2, 128, 512
CORE_STATE = np.dtype([("seen", "<i8"), ("hidden", "<f4", (2 * CORE_LAYERS * CORE_HIDDEN,))])
"""The core job's record of a user: the last offset that it has seen, and h and c; 2,056 bytes."""


class Output(NamedTuple):
    """A message to be sent: the catalog's name of its topic, and what goes on the wire."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


States = Mapping[bytes, bytes]
"""Stored states by raw key; a user without one is absent."""

Job = Callable[[Sequence[Record], States], tuple[list[Output], dict[bytes, bytes]]]
"""
Records, and the stored states of their users, to what is to be sent and the states that are to be stored.

Records of one partition come in the order of their offsets. States are not changed.
"""


def make_job(name: JobName, model: Path, partitions: int) -> Job:
    """Return a job, with its model loaded."""
    return FullJob(model, partitions) if name == "full" else CoreJob(model)


class FullJob:
    """
    The worker's step over interactions.

    Args:
        artifact: Folder of the model.
        partitions: Of the topic of events: a record is checked to lie where its key belongs.
    """

    def __init__(self, artifact: Path, partitions: int) -> None:
        predictor = load(Store(str(artifact.parent)), artifact.name, variant="champion")
        self._models = Models(predictor, Fallback(KNOWLEDGE), ItemTable(), Names())
        self._partition_of = Partitioner(partitions)

    def __call__(self, records: Sequence[Record], stored: States) -> tuple[list[Output], dict[bytes, bytes]]:
        """Process records; see `Job`."""
        accepted, dead = read(records, decode_interaction, self._partition_of, LIMITS)
        if dead:
            raise ValueError(f"expected events that can be read, found: {dead[0].detail}")
        now = datetime.now(UTC)
        users = list(dict.fromkeys(a.event.user_id for a in accepted))
        keys = [user.encode() for user in users]
        before = Users(
            {user: row for row, user in enumerate(users)},
            codec.decode_learners([stored.get(key) for key in keys], REMEMBERED),
            academic.new_academics(len(users)),
        )
        outcome = pipeline.interactions(accepted, before, self._models, LATEST_TOPICS, now)
        after = codec.encode_learners(outcome.users.learners)
        time = now.isoformat().encode()
        return [_output(message, time) for message in outcome.messages], dict(zip(keys, after, strict=True))


def _output(message: Message, time: bytes) -> Output:
    """Return a message with the CloudEvents headers that the worker gives it."""
    return Output(
        message.topic,
        message.key,
        message.value,
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", (message.message_id or "").encode()),
            ("ce_source", b"/learnerstream"),
            ("ce_type", f"learnerstream.{message.topic}.v1".encode()),
            ("ce_time", time),
            ("content-type", b"application/json"),
        ],
    )


class CoreJob:
    """
    One step of an LSTM for each answer, and one prediction.

    Args:
        model: The ONNX file that `benchmarks.models` wrote.
    """

    def __init__(self, model: Path) -> None:
        self._graph = Graph(model.read_bytes())
        empty = np.zeros((), CORE_STATE)
        empty["seen"] = -1
        self._empty = empty.tobytes()

    def __call__(self, records: Sequence[Record], stored: States) -> tuple[list[Output], dict[bytes, bytes]]:
        """Process records; see `Job`."""
        keys = list(dict.fromkeys(record.key or b"" for record in records))
        packed = b"".join(stored.get(key, self._empty) for key in keys)
        states = np.frombuffer(packed, CORE_STATE).copy()  # (U,)
        outputs = self.step(records, {key: row for row, key in enumerate(keys)}, states)
        packed, size = states.tobytes(), CORE_STATE.itemsize
        return outputs, {key: packed[row * size : (row + 1) * size] for row, key in enumerate(keys)}

    def step(self, records: Sequence[Record], row_of: Mapping[bytes, int], states: Records) -> list[Output]:
        """
        Process records on states that stand in an array already.

        Args:
            records: As they came.
            row_of: The row of each key.
            states: Of `CORE_STATE`, `(U,)`; changed in place.
        """
        outputs: list[Output] = []
        for wave in _waves(records):
            rows = np.array([row_of[record.key or b""] for record in wave])
            offsets = np.array([record.offset for record in wave], np.int64)
            fresh = np.flatnonzero(offsets > states["seen"][rows])
            events = [orjson.loads(wave[i].value or b"") for i in fresh]
            rows = rows[fresh]
            answered = np.array([_answer_row(event) for event in events], np.int64)
            inputs = {"answer": answered, "hidden": states["hidden"][rows]}
            p_correct, hidden = self._graph.run(("p_correct", "next_hidden"), inputs)
            states["hidden"][rows] = hidden
            states["seen"][rows] = offsets[fresh]
            outputs += [
                _core_output(wave[i], event, p) for i, event, p in zip(fresh, events, p_correct.tolist(), strict=True)
            ]
        return outputs


def _waves(records: Sequence[Record]) -> list[list[Record]]:
    """Return records in waves in which each key stands at most once, in order."""
    waves: list[list[Record]] = []
    turns: dict[bytes | None, int] = {}
    for record in records:
        turn = turns.get(record.key, 0)
        turns[record.key] = turn + 1
        if turn == len(waves):
            waves.append([])
        waves[turn].append(record)
    return waves


def _answer_row(event: dict[str, object]) -> int:
    """Return the row of the embedding that stands for an answer."""
    item = zlib.crc32(str(event["item_id"]).encode()) % CORE_ITEMS
    return 2 * item + bool(event["correct"])


def _core_output(record: Record, event: dict[str, object], p_correct: float) -> Output:
    prediction = {
        "schema_version": 1,
        "user_id": event["user_id"],
        "source": {
            "event_id": event["event_id"],
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
        },
        "targets": [{"topic_id": event["topic_id"], "p_correct": p_correct}],
    }
    return Output("predictions.correctness", record.key or b"", orjson.dumps(prediction), [])
