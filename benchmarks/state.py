"""
What a user's past and the number of users cost: `python -m benchmarks.state --report FILE`.

*history*: the step's time for an event of users with 10,000 answers behind them, over that with 10. *users*: the time
of an event, its user's record gathered from the worker's store and put back, with 200,000 users over that with 1,000;
any user may answer. *memory*: what the worker holds with 200,000 users. *recovery*: from the worker's start to its
first prediction with 100,000 users on the changelog, less what the same takes with none, over the time that a bare
librdkafka consumer takes to read it; and what the worker itself logs of it.
"""

import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import load
from benchmarks.arena import PARTITIONS, BenchmarkError, Stage, await_predictions, prepared, running, stage
from benchmarks.job import LATEST_TOPICS, LIMITS, REMEMBERED, FullJob
from benchmarks.report import merge
from benchmarks.spec import Spec
from benchmarks.systems import SYSTEMS
from schemas import decode_interaction
from stream import pipeline
from stream.app import learner_layout
from stream.intake import read
from stream.models.artifacts import load as load_artifact
from stream.models.dkt import KNOWLEDGE
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.models.store import Store
from stream.pipeline import Models, Users
from stream.ports import Record
from stream.state import academic, codec
from stream.state.arrays import ArrayStore, Records
from stream.state.names import Names
from stream.transport.partitioner import Partitioner

WORKER = next(system for system in SYSTEMS if system.name == "at_least_once")
HISTORIES = (10, 10_000)
USERS = (1_000, 200_000)
RECOVERED = 100_000
_BATCH = 500
_BATCHES = 40
_VARIANTS = 500


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", default="history,users,recovery", show_default=True)
def main(report: Path | None, rounds: int, only: str) -> None:
    """Measure cost, memory and recovery."""
    started = time.monotonic()
    figures: dict[str, Any] = {"cost": {}}
    with stage() as on:
        if "history" in only:
            figures["cost"]["history"] = history(on, rounds)
            click.echo(figures["cost"], err=True)
        if "users" in only:
            figures["cost"]["users"] = users(on, rounds)
            click.echo(figures["cost"], err=True)
            figures["memory"] = memory(on)
            click.echo(figures["memory"], err=True)
        if "recovery" in only:
            figures["recovery"] = recovery(on)
    figures["seconds"] = round(time.monotonic() - started, 1)
    if report is not None:
        merge(report, figures)
    click.echo(figures)


def history(on: Stage, rounds: int) -> dict[str, float]:
    """Return microseconds of an event by answers in the past, and their ratio."""
    job = FullJob(on.artifact, PARTITIONS)
    partition_of = Partitioner(PARTITIONS)
    events = _events_of_different_users(_BATCH)
    found: dict[int, list[float]] = {answers: [] for answers in HISTORIES}
    states = {answers: _state_after(job, answers, partition_of) for answers in HISTORIES}
    for _ in range(rounds):
        for answers in HISTORIES:
            stored = dict.fromkeys((key for key, _ in events), states[answers])
            started = time.perf_counter()
            for batch in range(_BATCHES):
                # Offsets above all that was seen; each batch starts from the same past.
                job(_records(events, partition_of, 1_000_000 + batch), stored)
            found[answers].append(1e6 * (time.perf_counter() - started) / (_BATCHES * len(events)))
    figures = {f"us_{answers}": round(statistics.median(of), 2) for answers, of in found.items()}
    few, many = figures.values()
    return figures | {"ratio": round(many / few, 3)}


def _events_of_different_users(count: int) -> list[tuple[bytes, bytes]]:
    """Return the first event of each of so many users."""
    found: dict[bytes, bytes] = {}
    for key, value in load.answers():
        found.setdefault(key, value)
        if len(found) == count:
            break
    return list(found.items())


def _state_after(job: FullJob, answers: int, partition_of: Partitioner) -> bytes:
    """Return a user's stored state after so many answers."""
    state: dict[bytes, bytes] = {}
    # Answers of one user come one after the other; a small platform has enough of them in a short stream.
    mine = (event for event in load.answers(seed=2, users=3) if event[0] == load.user_ids(1)[0].encode())
    for offset, event in zip(range(answers), mine, strict=False):
        state = job(_records([event], partition_of, offset), state)[1]
    return next(iter(state.values()))


def _records(events: list[tuple[bytes, bytes]], partition_of: Partitioner, offset: int) -> list[Record]:
    return [Record("interactions", partition_of(key), offset, key, value, 0.0) for key, value in events]


def users(on: Stage, rounds: int) -> dict[str, float]:
    """Return microseconds of an event by users in the state, of whom any may answer, and their ratio."""
    predictor = load_artifact(Store(str(on.artifact.parent)), on.artifact.name, variant="champion")
    models = Models(predictor, Fallback(KNOWLEDGE), ItemTable(), Names())
    job, partition_of = FullJob(on.artifact, PARTITIONS), Partitioner(PARTITIONS)
    states = codec.decode_learners(_variants(_state_after(job, HISTORIES[0], partition_of)), REMEMBERED)
    found: dict[int, list[float]] = {count: [] for count in USERS}
    stores = {count: _filled(count, states) for count in USERS}
    rng = np.random.default_rng(3)
    for number in range(rounds):
        for count, store in stores.items():
            ids = load.user_ids(count)
            batches = [
                [
                    replace_user(event, ids[user])
                    for event, user in zip(_events_of_different_users(_BATCH), chosen, strict=True)
                ]
                for chosen in (rng.choice(count, _BATCH, replace=False).tolist() for _ in range(_BATCHES))
            ]
            started = time.perf_counter()
            for batch, events in enumerate(batches):
                _step(events, store, models, partition_of, 1_000_000 * (number + 1) + batch)
            found[count].append(1e6 * (time.perf_counter() - started) / (_BATCHES * _BATCH))
    figures = {f"us_{count}": round(statistics.median(of), 2) for count, of in found.items()}
    few, many = figures.values()
    return figures | {"ratio": round(many / few, 3)}


def _filled(count: int, states: Records) -> ArrayStore:
    """Return the worker's own store with so many users in it."""
    store, ids = ArrayStore(learner_layout(REMEMBERED)), load.user_ids(count)
    for start in range(0, count, len(states)):
        keys = [user.encode() for user in ids[start : start + len(states)]]
        store.scatter(keys, [0] * len(keys), states[: len(keys)])
    return store


def replace_user(event: tuple[bytes, bytes], user: str) -> tuple[bytes, bytes]:
    """Return an event as another user's."""
    return user.encode(), orjson.dumps(orjson.loads(event[1]) | {"user_id": user, "event_id": uuid4().hex})


def _step(
    events: list[tuple[bytes, bytes]], store: ArrayStore, models: Models, partition_of: Partitioner, offset: int
) -> None:
    """Do what the worker does with a batch, up to what is sent: read, gather, step, scatter, encode."""
    accepted, _ = read(_records(events, partition_of, offset), decode_interaction, partition_of, LIMITS)
    keys = [key for key, _ in events]
    before = Users(
        {key.decode(): row for row, key in enumerate(keys)}, store.gather(keys), academic.new_academics(len(keys))
    )
    outcome = pipeline.interactions(accepted, before, models, LATEST_TOPICS, datetime.now(UTC))
    store.scatter(keys, [0] * len(keys), outcome.users.learners)
    codec.encode_learners(outcome.users.learners)


def memory(on: Stage) -> dict[str, float]:
    """Return the megabytes that a worker holds with 200,000 users, once it has recovered them and predicted."""
    job = FullJob(on.artifact, PARTITIONS)
    state = _state_after(job, HISTORIES[0], Partitioner(PARTITIONS))
    found = {}
    for count in (0, USERS[1]):
        with prepared(on, WORKER, "full") as spec:
            fill(spec, count, state)
            load.preload(on.broker, spec.source, 2_000)
            with running(WORKER, spec) as process:
                await_predictions(spec, 2_000, process)
                found[f"mb_{count}_users"] = round(process.resident_mb(), 1)
    none, many = found.values()
    return found | {"bytes_a_user": round((many - none) * 1e6 / USERS[1])}


def fill(spec: Spec, count: int, state: bytes) -> None:
    """Put the state of so many users on the changelog; all have the same past, of which nothing is in the way."""
    producer = Producer(
        {"bootstrap.servers": spec.broker, "linger.ms": 50, "compression.type": "lz4",
         "queue.buffering.max.messages": 1_000_000, "log_level": 3}
    )  # fmt: skip
    partition_of = Partitioner(spec.partitions)
    values = _variants(state)
    for number, user in enumerate(load.user_ids(count)):
        key = user.encode()
        while True:
            try:
                producer.produce(spec.changelog, values[number % len(values)], key, partition_of(key))
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(120):
        raise BenchmarkError("the changelog could not be filled")


def _variants(state: bytes) -> list[bytes]:
    """Return states that have seen nothing and differ as users do: compression gains no more than in earnest."""
    rng = np.random.default_rng(1)
    records = np.repeat(codec.decode_learners([state], REMEMBERED), _VARIANTS)
    records["seen"] = -1
    records["hidden"] = rng.normal(0, 0.3, records["hidden"].shape)
    for name in ("answer_id", "answer_item", "answer_at"):
        records[name] = rng.integers(0, np.iinfo(records[name].dtype).max, records[name].shape)
    return codec.encode_learners(records)


def recovery(on: Stage) -> dict[str, float]:
    """Return seconds of reading a changelog bare, of the worker's start with and without it, and the ratio."""
    job = FullJob(on.artifact, PARTITIONS)
    state = _state_after(job, HISTORIES[0], Partitioner(PARTITIONS))
    with prepared(on, WORKER, "full") as spec:
        empty_s = _first_prediction_s(on, spec)
    with prepared(on, WORKER, "full") as spec:
        fill(spec, RECOVERED, state)
        bare_s = read_bare(spec)
        full_s = _first_prediction_s(on, spec)
    recovering_s = full_s - empty_s
    return {
        "users": RECOVERED, "bare_s": round(bare_s, 2), "start_s": round(empty_s, 2),
        "start_with_users_s": round(full_s, 2), "ratio": round(recovering_s / bare_s, 2),
    }  # fmt: skip


def read_bare(spec: Spec) -> float:
    """Return the seconds in which a consumer that does nothing else reads the changelog."""
    consumer = Consumer(
        {"bootstrap.servers": spec.broker, "group.id": "bare", "enable.auto.commit": False,
         "enable.partition.eof": True, "log_level": 3}
    )  # fmt: skip
    started = time.perf_counter()
    consumer.assign([TopicPartition(spec.changelog, partition, 0) for partition in range(spec.partitions)])
    ended = 0
    while ended < spec.partitions:
        ended += sum(message.error() is not None for message in consumer.consume(10_000, 0.2))
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def _first_prediction_s(on: Stage, spec: Spec) -> float:
    """Return the seconds from the worker's start to its first prediction."""
    load.preload(on.broker, spec.source, 1)
    started = time.monotonic()
    with running(WORKER, spec) as process:
        await_predictions(spec, 1, process, settled_s=0.0)
        return time.monotonic() - started


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
