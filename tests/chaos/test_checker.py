"""The checker of the fault test can fail: it reports what was lost, doubled, miscounted or never committed."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from confluent_kafka import Producer

from schemas import ModelRollout
from stream.ports import Record
from stream.settings import Settings
from stream.state import learner
from stream.transport import topics
from tests.broker.kafka import KafkaServer
from tests.chaos import faults
from tests.chaos.checker import KINDS, Partition, Verdict, check, judge, unlike
from tests.chaos.events import events, item_parameters
from tests.chaos.faults import Kind, Size
from tests.chaos.replay import Core, Replayed
from tests.chaos.scene import FULL, SHORT
from tests.networks import random_dkt

REMEMBERED = 100
_HEAD = struct.Struct("<BHH")


def on_changelog(user: str, record: learner.Records) -> Record:
    """Return a record `(1,)` of a user as the changelog has it."""
    value = _HEAD.pack(0x12, REMEMBERED, record.dtype.itemsize) + record.tobytes()
    return Record("learners", 0, 0, user.encode(), value, 0.0)


@cache
def interactions() -> tuple[Record, ...]:
    """Return what stands on the only partition: some hundred answers, some sent twice, and other events."""
    sent = [event for _, event in zip(range(600), events(3, 400, 30), strict=False) if event.topic == "interactions"]
    return tuple(Record("interactions", 0, offset, event.key, event.value, 0.0) for offset, event in enumerate(sent))


@cache
def replayed() -> Replayed:
    """Return what should come of it, under a network."""
    core = Core(Settings(partitions=1), None, list(item_parameters()))
    core._models = replace(core._models, predictor=random_dkt())
    return core.replay(interactions())


def good() -> Partition:
    """Return what a worker without a fault leaves behind."""
    result = replayed()
    said: dict[str, Sequence[Record]] = {
        kind: [
            Record(name, 0, offset, message.key, message.value, 0.0)
            for offset, message in enumerate(m for m in result.messages if m.topic == name)
        ]
        for kind, name in KINDS.items()
    }
    changelog = [on_changelog(user, result.learners[row : row + 1]) for row, user in enumerate(result.users)]
    return Partition(interactions(), said, changelog)


def judged(partition: Partition, *, deduplicate: bool = True) -> Verdict:
    """Return the verdict on a partition."""
    return judge(partition, replayed(), REMEMBERED, deduplicate=deduplicate)


def failures(verdict: Verdict) -> dict[str, int]:
    """Return what was found wrong."""
    return {name: count for name in Verdict.FAILURES if (count := getattr(verdict, name))}


def with_said(kind: str, records: Sequence[Record]) -> Partition:
    """Return the good partition with other messages of a kind."""
    partition = good()
    return replace(partition, said=partition.said | {kind: records})


def changed(record: Record, **fields: Any) -> Record:
    """Return a message with some fields changed."""
    return record._replace(offset=10_000, value=orjson.dumps(orjson.loads(record.value or b"") | fields))


def with_state(row: int, **fields: Any) -> Partition:
    """Return the good partition with one user's record changed; each field is given what to do with it."""
    partition = good()
    record = replayed().learners[row : row + 1].copy()
    for name, change in fields.items():
        record[name] = change(record[name])
    changelog = list(partition.changelog)
    changelog[row] = on_changelog(replayed().users[row], record)
    return replace(partition, changelog=changelog)


@pytest.mark.parametrize("deduplicate", [True, False])
def test_a_run_without_a_fault_is_good(deduplicate: bool) -> None:
    """Every answer has one of each kind, and every state is the replay's: nothing is reported."""
    verdict = judged(good(), deduplicate=deduplicate)
    assert (failures(verdict), verdict.repeated, verdict.late_records) == ({}, 0, 0)
    assert verdict.is_good
    assert verdict.words() == ""
    assert verdict.answers > 400
    assert replayed().learners["hidden"].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_message_is_missing(kind: str) -> None:
    """An answer without its prediction, or its example, is named."""
    records = list(good().said[kind])
    lost = records.pop(17)
    verdict = judged(with_said(kind, records))
    assert failures(verdict) == {"missing": 1}
    assert orjson.loads(lost.value or b"")["source"]["event_id"] in verdict.words()


def test_a_repeated_message_is_doubled_only_where_nobody_drops_it() -> None:
    """At least once may repeat a prediction under its id, exactly once may not."""
    records = good().said["time"]
    again = with_said("time", [*records, changed(records[5], produced_at="2026-01-01T00:00:00+00:00")])
    at_least_once, exactly_once = judged(again), judged(again, deduplicate=False)
    assert (failures(at_least_once), at_least_once.repeated) == ({}, 1)
    assert failures(exactly_once) == {"doubled": 1}


def test_a_second_prediction_under_another_id_is_never_right() -> None:
    """De-duplication by id would not help there."""
    records = good().said["correctness"]
    verdict = judged(with_said("correctness", [*records, changed(records[5], prediction_id="another")]))
    assert failures(verdict) == {"unasked": 1}
    taken = orjson.loads(records[6].value or b"")["source"]
    moved = [*records[:5], changed(records[5], source=taken), *records[6:]]
    assert failures(judged(with_said("correctness", moved))) == {"doubled": 1, "unlike_replay": 1}


@pytest.mark.parametrize("deduplicate", [True, False])
def test_a_repetition_that_says_something_else_is_reported(deduplicate: bool) -> None:
    """Under one id stands one content: probabilities and source."""
    records = good().said["correctness"]
    targets = orjson.loads(records[5].value or b"")["targets"]
    targets[0]["p_correct"] += 0.01
    verdict = judged(
        with_said("correctness", [*records, changed(records[5], targets=targets)]), deduplicate=deduplicate
    )
    assert verdict.differing == 1
    source = {"event_id": "other", "topic": "interactions", "partition": 0, "offset": 3}
    verdict = judged(with_said("correctness", [*records, changed(records[5], source=source)]), deduplicate=deduplicate)
    assert verdict.differing == 1


def test_a_prediction_from_a_wrong_state_is_unlike_the_replay() -> None:
    """Also where it came only once, and where it came from the fallback."""
    records = list(good().said["correctness"])
    observed = orjson.loads(records[40].value or b"")["observed"]
    records[40] = changed(records[40], observed=observed | {"p_before": observed["p_before"] / 2})
    records[41] = changed(records[41], fallback=True)
    verdict = judged(with_said("correctness", records))
    assert failures(verdict) == {"unlike_replay": 2}
    assert "observed.p_before" in verdict.words()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("answers", lambda value: value - 1),
        ("concept_correct", lambda value: value + np.uint16(1)),
        ("answer_id", lambda value: np.roll(value, 1, axis=1)),
        ("seen", lambda value: value - 1),
        ("ability", lambda value: value + 1e-3),
        ("time_s", lambda value: value + 1.0),
        ("hidden", lambda value: value + np.float16(0.05)),
        ("hidden", lambda value: value * np.float16("nan")),
    ],
)
def test_a_wrong_state_is_reported(field: str, change: Any) -> None:
    """Counters, remembered answers and ids exactly, the rest within its tolerance."""
    verdict = judged(with_state(4, **{field: change}))
    assert failures(verdict) == {"state_mismatches": 1}
    assert f"user {replayed().users[4]}" in verdict.words()
    assert field in verdict.words()


def test_a_difference_within_the_tolerance_is_none() -> None:
    """Batches of other sizes may change the last digits."""
    verdict = judged(
        with_state(4, hidden=lambda value: value + np.float16(0.004), ability=lambda value: value * (1 + 1e-6))
    )
    assert verdict.is_good
    assert verdict.largest_hidden == pytest.approx(0.004, abs=0.001)


def test_a_lost_state_and_one_of_nobody_are_reported() -> None:
    """Every user of the source has a record, and nobody else."""
    partition = good()
    stranger = on_changelog("stranger", replayed().learners[:1])
    verdict = judged(replace(partition, changelog=[*partition.changelog[1:], stranger]))
    assert failures(verdict) == {"state_mismatches": 2}


def test_of_several_records_the_one_counts_that_has_seen_most() -> None:
    """What a worker writes that was asleep comes later on the changelog, and is older."""
    partition = good()
    older = replayed().learners[2:3].copy()
    older["seen"] -= 5
    older["answers"] -= 1
    verdict = judged(replace(partition, changelog=[*partition.changelog, on_changelog(replayed().users[2], older)]))
    assert (failures(verdict), verdict.late_records) == ({}, 1)


def test_numbers_are_compared_by_their_size() -> None:
    """Seconds relative, probabilities absolute, everything else exactly."""
    assert unlike({"p50": 1000.0}, {"p50": 1000.5}, 1e-3) is None
    assert unlike({"p": [0.5, 0.5]}, {"p": [0.5, 0.502]}, 1e-3) == "p[1] is 0.5 and 0.502"
    assert unlike({"fallback": True}, {"fallback": False}, 1.0) == "fallback is True and False"
    assert unlike({"a": 1.0}, {"a": 1.0, "b": None}, 1.0) is None
    assert unlike({"targets": [1]}, {"targets": [1, 2]}, 1.0) == "targets is [1] and [1, 2]"


@pytest.mark.parametrize("size", [FULL, SHORT])
@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_every_fault_in_a_possible_order(size: Size, seed: int) -> None:
    """The second worker comes before it is stopped, killed or told to leave, whatever the seed."""
    plan = faults.plan(size, seed)
    assert plan == faults.plan(size, seed)
    kinds = [fault.kind for fault in plan]
    wanted = {Kind.KILL: size.kills, Kind.STALL: size.stalls, Kind.BROKER: size.broker_restarts}
    assert {kind: kinds.count(kind) for kind in wanted} == wanted
    join, leave = kinds.index(Kind.JOIN), kinds.index(Kind.LEAVE)
    for number, fault in enumerate(plan):
        if fault.kind is Kind.STALL or fault.victim == faults.SECOND:
            assert join < number < leave
    assert [fault.at for fault in plan] == sorted(fault.at for fault in plan)
    assert plan[-1].at < size.answers


def test_what_was_never_committed_is_missing(kafka: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Predictions of an aborted transaction are none, and without de-duplication no repetition passes."""
    settings = Settings.model_validate(
        {"broker": kafka.bootstrap, "group": f"{prefix}g", "topic_prefix": prefix, "partitions": 1,
         "model_store": tmp_path}
    )  # fmt: skip
    topics.ensure(settings)
    core = Core(settings, None, [])
    sent = [record._replace(topic=settings.topic("interactions")) for record in interactions()]
    result = core.replay(sent)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": prefix})
    producer.init_transactions(30)
    rollout = ModelRollout(name="knowledge", champion=None, previous=None, decided_at=datetime(2026, 1, 1, tzinfo=UTC))
    producer.begin_transaction()
    producer.produce(settings.topic("model-updates"), rollout.model_dump_json().encode(), b"knowledge")
    for record in sent:
        producer.produce(record.topic, record.value, record.key)
    for row, user in enumerate(result.users):
        record = on_changelog(user, result.learners[row : row + 1])
        producer.produce(topics.changelog(settings, "learners"), record.value, record.key)
    predictions = [m for m in result.messages if m.topic in KINDS.values()]
    for message in predictions[1:]:
        producer.produce(settings.topic(message.topic), message.value, message.key)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(settings.topic(predictions[0].topic), predictions[0].value, predictions[0].key)
    producer.flush(30)
    producer.abort_transaction(30)

    verdict = check(settings, deduplicate=False)
    assert failures(verdict) == {"missing": 1}

    for message in (predictions[0], predictions[1]):
        producer.begin_transaction()
        producer.produce(settings.topic(message.topic), message.value, message.key)
        producer.commit_transaction(30)
    assert failures(check(settings, deduplicate=False)) == {"doubled": 1}
    assert check(settings, deduplicate=True).is_good
