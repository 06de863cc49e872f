"""
From an event to its consumed prediction, at 2,000 events/s: `python -m benchmarks.latency --report FILE`.

An open loop: each event has its moment, however the system fares, and its latency counts from that moment, not from
when the sender got round to it; so a system that stalls is charged for all that waits meanwhile. Sender and reader are
processes of their own, and run beside the system and the broker on the same cores. Rounds go through the systems one
after another; the median of the rounds' quantiles counts. Full job, settings as in `benchmarks.throughput`.
"""

import multiprocessing
import statistics
import sys
import time
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from numpy.typing import NDArray

from benchmarks import load
from benchmarks.arena import BenchmarkError, Stage, await_predictions, log_of, prepared, running, stage
from benchmarks.report import merge, table
from benchmarks.spec import Spec
from benchmarks.systems import SYSTEMS, System

RATE = 2_000
_WARM_EVENTS = 4_000
_WARM_S = 3.0
"""Seconds at the rate that are not counted."""

_SILENCE_S = 30.0


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=12.0, show_default=True, help="Of each measurement, without the warm-up.")
@click.option("--rate", default=RATE, show_default=True, help="Events a second.")
@click.option("--only", default="at_least_once,exactly_once,by_hand", show_default=True)
def main(report: Path | None, rounds: int, seconds: float, rate: int, only: str) -> None:
    """Measure latency under a steady load."""
    chosen = [s for s in SYSTEMS if s.name in only.split(",") and s.is_there]
    started = time.monotonic()
    runs: dict[str, list[dict[str, float]]] = {s.name: [] for s in chosen}
    with stage() as on:
        # The first round is not counted: a broker that has just started spends half of a core on compiling itself.
        for number in range(rounds + 1):
            for system in chosen:
                figures = measure(on, system, seconds, rate)
                if number > 0:
                    runs[system.name].append(figures)
                click.echo(f"round {number or '-'}  {system.name:14}{figures}", err=True)
    latency: dict[str, Any] = {
        name: {key: round(statistics.median(run[key] for run in of_system), 2) for key in of_system[0]}
        for name, of_system in runs.items()
    }
    for name in ("at_least_once", "exactly_once"):
        if name in latency and "by_hand" in latency:
            latency[name]["p99/by_hand"] = round(latency[name]["p99_ms"] / latency["by_hand"]["p99_ms"], 3)
    latency |= {"rate": rate, "seconds": seconds, "runs": runs}
    figures_of_all = {"latency": latency, "seconds": round(time.monotonic() - started, 1)}
    if report is not None:
        merge(report, figures_of_all)
    click.echo(table(figures_of_all))


def measure(on: Stage, system: System, seconds: float, rate: int) -> dict[str, float]:
    """
    Return the quantiles of one run, in milliseconds.

    Raises:
        BenchmarkError: If a prediction is missing.
    """
    with prepared(on, system, "full") as spec:
        load.preload(on.broker, spec.source, _WARM_EVENTS)
        count = round((_WARM_S + seconds) * rate)
        with running(system, spec) as process:
            await_predictions(spec, _WARM_EVENTS, process)
            arrived, due, late_ms = exchange(spec, count, rate)
            if len(arrived) != count:
                raise BenchmarkError(f"{system.name}: {len(arrived)} of {count} events predicted; {log_of(process)}")
        counted = sorted(event for event in due if due[event] >= min(due.values()) + _WARM_S)
        waited_ms = 1e3 * np.array([arrived[event] - due[event] for event in counted])  # (N,)
        return quantiles(waited_ms) | {"sender_late_p99_ms": late_ms}


def quantiles(waited_ms: NDArray[np.float64]) -> dict[str, float]:
    """Return p50, p95, p99, the mean and the longest."""
    found = {f"p{q}_ms": float(np.percentile(waited_ms, q)) for q in (50, 95, 99)}
    found |= {"mean_ms": float(waited_ms.mean()), "max_ms": float(waited_ms.max())}
    return {name: round(value, 3) for name, value in found.items()}


def exchange(spec: Spec, count: int, rate: int) -> tuple[dict[str, float], dict[str, float], float]:
    """Send events at their moments and read their predictions; return both times by event, and the sender's p99."""
    consumer = Consumer(
        {"bootstrap.servers": spec.broker, "group.id": "latency", "enable.auto.commit": False,
         "isolation.level": "read_committed", "check.crcs": False, "log_level": 3}
    )  # fmt: skip
    topic = spec.outputs["predictions.correctness"]
    consumer.assign([TopicPartition(topic, partition, OFFSET_END) for partition in range(spec.partitions)])
    for partition in range(spec.partitions):  # wait until it knows where the ends are
        consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    consumer.poll(1.0)
    here, there = multiprocessing.get_context("spawn").Pipe()
    sender = multiprocessing.get_context("spawn").Process(target=send, args=(there, spec, count, rate), daemon=True)
    sender.start()
    values: list[tuple[float, bytes]] = []
    moved_at = time.monotonic()
    while len(values) < count and time.monotonic() - moved_at < _SILENCE_S:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            values.append((time.time(), message.value() or b""))
            moved_at = time.monotonic()
    due, late_ms = here.recv()
    sender.join()
    consumer.close()
    arrived: dict[str, float] = {}
    for at, value in values:
        arrived.setdefault(orjson.loads(value)["source"]["event_id"], at)
    return arrived, due, late_ms


def send(pipe: Connection, spec: Spec, count: int, rate: int) -> None:
    """Send each event at its moment, and tell these moments, and by how much the latest hundredth was missed."""
    producer = Producer(
        {"bootstrap.servers": spec.broker, "partitioner": "murmur2_random", "linger.ms": 0, "log_level": 3}
    )
    producer.list_topics(spec.source, timeout=10)
    events = list(islice(load.answers(), _WARM_EVENTS, _WARM_EVENTS + count))
    late: list[float] = []
    started = time.time() + 0.5
    for number, (key, value) in enumerate(events):
        due = started + number / rate
        while (ahead := due - time.time()) > 0:
            time.sleep(ahead)
        late.append(-ahead)
        producer.produce(spec.source, value, key)
        producer.poll(0)
    producer.flush(30)
    due_at = {orjson.loads(value)["event_id"]: started + number / rate for number, (_, value) in enumerate(events)}
    pipe.send((due_at, round(float(np.percentile(1e3 * np.array(late), 99)), 3)))


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
