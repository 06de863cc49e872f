"""
Whether nothing was lost and nothing counted twice: judged from topics alone.

Knows nothing of workers, faults or logs. What stands on a partition of the topics is read from the broker by `Topics`;
`judge` holds it against a sequential replay and is pure.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas import ItemParameters, ModelRollout
from stream.emission import prediction_id
from stream.ports import Message, Record
from stream.settings import Settings
from stream.state import learner
from stream.transport import topics
from stream.transport.clients import client_config, consumer_config
from tests.chaos.replay import Core, Replayed, final_learners

KINDS = {"correctness": "predictions.correctness", "time": "predictions.time", "example": "training-examples"}
"""What each answer is answered by, one of each, and the id's name within the message."""

_ID = {"correctness": "prediction_id", "time": "prediction_id", "example": "example_id"}
_UNLIKE = frozenset({"produced_at"})
"""Fields that differ whenever a message is made again."""

TOLERANCE, HIDDEN_TOLERANCE, SAID_TOLERANCE = 1e-5, 1e-2, 1e-3
"""
Of ability, speed and times, relative or absolute; of a hidden state; and of what is said twice under one id. Graph and
batch sizes change the last digits, and float16 keeps three.
"""

REPLAY_TOLERANCE = 2e-2
"""Of what was said against the replay, relative or absolute: hidden states may differ by half of that."""

EXAMPLES = 5
"""Sentences kept of each kind of failure."""

_READ_S = 60.0
_OPEN_S = 120.0


Place = tuple[str, int]
"""A topic and a partition."""


@dataclass(slots=True)
class Verdict:
    """
    What was found; all counts are 0 in a run without a fault of ours.

    Attributes:
        answers: Different ones on the topic.
        missing: Predictions and examples that there should be and are not.
        doubled: Predictions and examples that came more than once (after de-duplication by id, where that is due).
        unasked: Ones that no answer asked for.
        differing: Ones that say something else under the same id, or about another source.
        unlike_replay: Ones that say something else than the replay.
        state_mismatches: Users whose final record is not the replay's.
        repeated: Repetitions of an id before de-duplication.
        late_records: On the changelog, written after one that had seen more.
        largest_hidden: Largest difference of a hidden state.
        open_s: How long transactions were open when all had ended, which hides what comes after them.
        sentences: Examples of what is wrong, by the name of its count.
    """

    answers: int = 0
    missing: int = 0
    doubled: int = 0
    unasked: int = 0
    differing: int = 0
    unlike_replay: int = 0
    state_mismatches: int = 0
    repeated: int = 0
    late_records: int = 0
    largest_hidden: float = 0.0
    open_s: float = 0.0
    sentences: dict[str, list[str]] = field(default_factory=dict)

    FAILURES = ("missing", "doubled", "unasked", "differing", "unlike_replay", "state_mismatches")
    FIGURES = ("repeated", "late_records", "largest_hidden", "open_s")

    @property
    def is_good(self) -> bool:
        """Whether all is as it should be."""
        return not any(getattr(self, name) for name in self.FAILURES)

    def fail(self, name: str, sentence: str) -> None:
        """Count one failure and keep the sentence, if there are few yet."""
        setattr(self, name, getattr(self, name) + 1)
        kept = self.sentences.setdefault(name, [])
        if len(kept) < EXAMPLES:
            kept.append(sentence)

    def add(self, other: "Verdict") -> None:
        """Take in what was found on another partition."""
        for name in ("answers", "repeated", "late_records", *self.FAILURES):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest_hidden = max(self.largest_hidden, other.largest_hidden)
        for name, sentences in other.sentences.items():
            kept = self.sentences.setdefault(name, [])
            kept += sentences[: EXAMPLES - len(kept)]

    def words(self) -> str:
        """Return what is wrong, a sentence a line; empty if nothing is."""
        lines = []
        for name in self.FAILURES:
            if getattr(self, name):
                lines += [f"{name}: {getattr(self, name)}, for example:", *(f"  {s}" for s in self.sentences[name])]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Partition:
    """
    What stands on one partition of the topics, in the order of offsets.

    Attributes:
        interactions: The source.
        said: Predictions and examples, by kind.
        changelog: Of the table `learners`.
    """

    interactions: Sequence[Record]
    said: dict[str, Sequence[Record]]
    changelog: Sequence[Record]


def judge(partition: Partition, replayed: Replayed, remembered: int, *, deduplicate: bool) -> Verdict:
    """
    Hold what came out against what should have.

    Args:
        partition: What stands on the topics.
        replayed: Of the partition's interactions.
        remembered: Answers that a record remembers.
        deduplicate: Whether a consumer is to keep the first of an id (at least once), or need not (exactly once).
    """
    verdict = Verdict(answers=len(replayed.answers))
    expected = _by_id(replayed.messages)
    for kind, records in partition.said.items():
        _judge_kind(verdict, kind, records, replayed.answers, expected, deduplicate=deduplicate)
    _judge_states(verdict, partition.changelog, replayed, remembered)
    return verdict


def _by_id(messages: Iterable[Message]) -> dict[str, bytes]:
    return {message.message_id: message.value for message in messages if message.message_id is not None}


def _judge_kind(
    verdict: Verdict,
    kind: str,
    records: Sequence[Record],
    answers: Sequence[str],
    expected: dict[str, bytes],
    *,
    deduplicate: bool,
) -> None:
    """Judge all messages of one kind."""
    first = _first_of_each_id(verdict, kind, records, deduplicate=deduplicate)
    wanted = {prediction_id(event_id, kind): event_id for event_id in answers}
    for id_ in wanted.keys() - first.keys():
        verdict.fail("missing", f"{KINDS[kind]}: none of event {wanted[id_]} (id {id_})")
    # With de-duplication by id, an answer is answered twice only under two ids.
    sources: dict[tuple[int, int], str] = {}
    for id_, (record, said) in first.items():
        if id_ not in wanted:
            verdict.fail("unasked", f"{_place(record)}: id {id_!r} belongs to no answer on the topic")
            continue
        source = said["source"]
        other = sources.setdefault((source["partition"], source["offset"]), id_)
        if other != id_:
            verdict.fail("doubled", f"{_place(record)}: ids {other} and {id_} are both {kind} of {_origin(source)}")
        difference = unlike(orjson.loads(expected.get(id_, b"{}")), said, REPLAY_TOLERANCE)
        if difference is not None:
            verdict.fail("unlike_replay", f"{_place(record)}, replay first: {difference}")


def _first_of_each_id(
    verdict: Verdict, kind: str, records: Sequence[Record], *, deduplicate: bool
) -> dict[str, tuple[Record, Any]]:
    """Return what a consumer keeps, and judge what it drops."""
    first: dict[str, tuple[Record, Any]] = {}
    for record in records:
        said = orjson.loads(record.value or b"{}")
        id_ = said.get(_ID[kind], "")
        earlier, before = first.setdefault(id_, (record, said))
        if earlier is record:
            continue
        verdict.repeated += 1
        difference = unlike(before, said, SAID_TOLERANCE)
        if difference is not None:
            verdict.fail("differing", f"{_place(record)} and offset {earlier.offset}, id {id_}: {difference}")
        if not deduplicate:
            origin = _origin(said.get("source", {}))
            verdict.fail("doubled", f"{_place(record)} repeats offset {earlier.offset}: {kind} of {origin}")
    return first


def _place(record: Record) -> str:
    return f"{record.topic} partition {record.partition} offset {record.offset}"


def _origin(source: dict[str, Any]) -> str:
    return f"event {source.get('event_id')} at offset {source.get('offset')}"


def unlike(first: Any, second: Any, tolerance: float, path: str = "") -> str | None:
    """
    Return what is different between two messages, None if nothing is.

    Args:
        first: As JSON has it.
        second: The other one.
        tolerance: Of numbers with a fraction, relative or absolute.
        path: Of both within their message.
    """
    if first == second:
        return None
    if isinstance(first, dict) and isinstance(second, dict):
        names = [name for name in {**first, **second} if name not in _UNLIKE]
        pairs = [(first.get(name), second.get(name), f"{path}.{name}" if path else name) for name in names]
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = [(a, b, f"{path}[{n}]") for n, (a, b) in enumerate(zip(first, second, strict=True))]
    elif isinstance(first, float) and isinstance(second, int | float):
        near = abs(first - second) <= tolerance * max(1.0, abs(first))
        return None if near else f"{path} is {first} and {second}"
    else:
        return f"{path or 'the whole'} is {first!r} and {second!r}"
    return next((found for a, b, where in pairs if (found := unlike(a, b, tolerance, where)) is not None), None)


def _judge_states(verdict: Verdict, changelog: Sequence[Record], replayed: Replayed, remembered: int) -> None:
    users, found, verdict.late_records = final_learners(changelog, remembered)
    row = {user: number for number, user in enumerate(users)}
    for user in row.keys() - set(replayed.users):
        verdict.fail("state_mismatches", f"user {user} has a record, and no interaction")
    there = [(number, row[user]) for number, user in enumerate(replayed.users) if user in row]
    for user in replayed.users:
        if user not in row:
            verdict.fail("state_mismatches", f"user {user}: expected a record, found none")
    if not there:
        return
    wanted_rows, found_rows = np.array(there).T
    wanted, stored = replayed.learners[wanted_rows], found[found_rows]
    hidden = np.abs(wanted["hidden"].astype(np.float32) - stored["hidden"].astype(np.float32))
    verdict.largest_hidden = float(np.nan_to_num(hidden, nan=np.inf).max())
    wrong = _wrong_fields(wanted, stored)
    for number in np.flatnonzero(np.any(list(wrong.values()), axis=0)).tolist():
        name = next(name for name, rows in wrong.items() if rows[number])
        sentence = f"expected {_shown(wanted[name][number])}, found {_shown(stored[name][number])}"
        seen = f"seen {stored['seen'][number]} of {wanted['seen'][number]}"
        verdict.fail("state_mismatches", f"user {replayed.users[int(wanted_rows[number])]}, {seen}, {name}: {sentence}")


def _wrong_fields(wanted: learner.Records, found: learner.Records) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return, for each field, which rows differ, `(U,)`: whole numbers and ids exactly, others within tolerance."""
    wrong = {}
    for name in wanted.dtype.names or ():
        a, b = wanted[name], found[name]
        if a.dtype.kind in "iu":
            equal = a == b
        elif name == "hidden":
            equal = np.abs(a.astype(np.float32) - b.astype(np.float32)) <= HIDDEN_TOLERANCE
        else:
            equal = np.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)
        wrong[name] = ~equal.reshape(len(wanted), -1).all(axis=1)
    return wrong


def _shown(value: Any) -> str:
    return np.array2string(np.asarray(value), threshold=6, edgeitems=3, precision=6).replace("\n", "")


class Topics:
    """
    What stands on the topics of a run.

    Args:
        settings: Those of the worker.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def partition(self, number: int) -> Partition:
        """Read one partition whole."""
        source, changelog = self._settings.topic("interactions"), topics.changelog(self._settings, "learners")
        said = {kind: self._settings.topic(name) for kind, name in KINDS.items()}
        read = self._read([(name, number) for name in (source, changelog, *said.values())])
        return Partition(
            interactions=read[source, number],
            said={kind: _of_answers(read[name, number]) for kind, name in said.items()},
            changelog=read[changelog, number],
        )

    def closed(self, number: int) -> list[Record]:
        """Return what was said on a partition of users for whom a week was closed."""
        name = self._settings.topic("predictions.risk")
        return [r for r in self._read([(name, number)])[name, number] if _reason(r) == "week_closed"]

    def rollout(self) -> ModelRollout | None:
        """Return what should serve: the latest announcement."""
        place = (self._settings.topic("model-updates"), 0)
        found = self._read([place])[place]
        return ModelRollout.model_validate_json(found[-1].value or b"") if found else None

    def item_parameters(self) -> list[ItemParameters]:
        """Return what is known of items."""
        topic = self._settings.topic("item-parameters")
        read = self._read([(topic, number) for number in range(self._settings.partitions)])
        return [
            ItemParameters.model_validate_json(record.value)
            for records in read.values()
            for record in records
            if record.value is not None
        ]

    def await_no_open_transaction(self) -> float:
        """
        Return when all that stands on the topics can be read, and how many seconds that took.

        A transaction of a killed worker is open until its successor or the broker ends it, and hides what comes after.
        """
        admin = AdminClient(client_config(self._settings))
        names = [*map(self._settings.topic, KINDS.values()), topics.changelog(self._settings, "learners")]
        latest = {
            TopicPartition(name, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for name in names
            for number in range(self._settings.partitions)
        }
        started = time.monotonic()
        while True:
            ends = [
                {place: future.result().offset for place, future in found.items()}
                for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
                for found in [admin.list_offsets(latest, isolation_level=level, request_timeout=_READ_S)]
            ]
            waited_s = time.monotonic() - started
            if ends[0] == ends[1] or waited_s > _OPEN_S:
                return waited_s
            time.sleep(0.2)

    def _read(self, places: Sequence[Place]) -> dict[Place, list[Record]]:
        """
        Return all committed records of partitions.

        Raises:
            TimeoutError: If nothing comes any more before their ends are reached.
        """
        consumer = Consumer(
            consumer_config(self._settings, f"{self._settings.group}-checker")
            | {"enable.partition.eof": True, "fetch.wait.max.ms": 50}
        )
        found: dict[Place, list[Record]] = {place: [] for place in places}
        waiting = set(places)
        moved_at = time.monotonic()
        try:
            consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
            while waiting:
                messages = consumer.consume(5_000, 0.2)
                for message in messages:
                    place, error = (message.topic() or "", message.partition() or 0), message.error()
                    if error is None:
                        found[place].append(Record(*place, message.offset() or 0, message.key(), message.value(), 0.0))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        waiting.discard(place)
                    elif error.fatal():
                        raise KafkaException(error)
                now = time.monotonic()
                moved_at = now if messages else moved_at
                if now - moved_at > _READ_S:
                    raise TimeoutError(f"nothing came for {_READ_S:.0f} s, and the ends were not reached of {waiting}")
        finally:
            consumer.close()
        return found


def _of_answers(records: Sequence[Record]) -> list[Record]:
    """Return messages without the examples of closed weeks and of outcomes, which no answer asks for."""
    return [r for r in records if not orjson.loads(r.value or b"{}").get("type", "answer").startswith("risk")]


def _reason(record: Record) -> str:
    return str(orjson.loads(record.value or b"{}").get("reason", ""))


def judge_closings(verdict: Verdict, closings: Sequence[Record], *, deduplicate: bool) -> None:
    """
    Hold the predictions of closed weeks to once for a user and a week.

    Which weeks are closed depends on how far event time had come when a worker looked: none is asked for by name.
    """
    met: dict[str, Record] = {}
    for record in closings:
        said = orjson.loads(record.value or b"{}")
        earlier = met.setdefault(said["prediction_id"], record)
        if earlier.key != record.key:
            verdict.fail("differing", f"{_place(record)} has the id of another user's at offset {earlier.offset}")
        elif earlier is not record and not deduplicate:
            verdict.fail("doubled", f"{_place(record)} repeats offset {earlier.offset}: a week closed twice")


def check(settings: Settings, *, deduplicate: bool) -> Verdict:
    """
    Read all that a run left on its topics, and judge it.

    Args:
        settings: Those of the worker.
        deduplicate: See `judge`.
    """
    source = Topics(settings)
    core = Core(settings, source.rollout(), source.item_parameters())
    verdict = Verdict(open_s=round(source.await_no_open_transaction(), 2))
    for number in range(settings.partitions):
        partition = source.partition(number)
        replayed = core.replay(partition.interactions)
        verdict.add(judge(partition, replayed, settings.remembered_answers, deduplicate=deduplicate))
        judge_closings(verdict, source.closed(number), deduplicate=deduplicate)
    return verdict
