"""
A hundred swaps of the model under a steady load: `python -m benchmarks.swaps --report FILE`.

Answers of 5,000 users arrive at a steady rate on a real broker. Stretches in which nothing is announced take turns with
those of swaps, so that what else the machine does hits both alike. There one rollout follows another, as the trainer
would announce them: the next as soon as every worker serves the last and `--every` seconds are over. Every fifth swap
is preceded by a trial at share 0, every other fifth by one at share 0.1; by `--foreign` some swaps go to a model that
cannot read its predecessor's states, and back.

Latency goes from the moment at which the broker appended an event to that at which it appended the event's prediction.
A stall is the longest time without predictions of a partition, in a window around a swap; the same windows are laid
over the stretches without swaps, for batches and the machine's other work make pauses too. What stands on the topics is
read when all is over, so that only the sender, the broker and the workers run meanwhile. Worker settings are the
defaults.
"""

import multiprocessing
import os
import platform
import re
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from confluent_kafka import Producer
from numpy.typing import NDArray

from benchmarks import load, models
from benchmarks.arena import (
    BenchmarkError,
    Measured,
    Stage,
    await_predictions,
    log_of,
    prepared,
    read_whole,
    running,
    settings_of,
    stage,
)
from benchmarks.latency import quantiles
from benchmarks.report import merge
from benchmarks.spec import Spec
from benchmarks.systems import SYSTEMS, System
from schemas import ModelRollout, Release
from stream.models.artifacts import release
from stream.models.dkt import KNOWLEDGE
from stream.models.store import Store
from stream.transport import rollout
from stream.transport.outbox import KafkaOutbox
from tests.broker.process import free_ports

VERSIONS, FOREIGN = (1, 2, 3, 4), 5
"""Of one lineage, and of another one."""

RATE, SWAPS = 5_000, 100
WARM_EVENTS = 50_000
"""Answers that are predicted before anything is timed, so that hardly a user is new."""

_SETTLED = 10
"""Swaps after which memory is looked at first."""

_MEMORY_S = 5.0
"""So long it is looked at: the clients' buffers come and go, the median counts."""

_TICK_S = 0.01
_PACE_S, _SAMPLE_S = 0.02, 0.25
_START_S, _SWAP_S = 60.0, 60.0
_AFTER_S = 0.1
"""So long after a swap a pause still counts as its own."""

_SHARES = {0: 0.0, 1: 0.1}
"""Of the challenger before a swap, by the swap's number modulo 5; before the others there is none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What is to be done.

    Attributes:
        rate: Answers a second.
        swaps: How many.
        every_s: Seconds between two, at least.
        foreign: Every so many goes to a model of another lineage, and the next one back; 0: none.
        workers: How many share the partitions.
        rounds: Stretches of swaps; one without stands before each, and after the last.
        warm_s: Seconds at the rate that are not counted.
        still_s: Seconds of a stretch without swaps.
    """

    rate: int
    swaps: int
    every_s: float
    foreign: int
    workers: int
    rounds: int
    warm_s: float
    still_s: float

    def version(self, number: int) -> int:
        """Return where the swap with this number goes, from 1."""
        if self.foreign and number % self.foreign == 0:
            return FOREIGN
        return VERSIONS[number % len(VERSIONS)]


@dataclass(frozen=True, slots=True)
class Window:
    """From one moment to another, in seconds since the epoch."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Course:
    """
    What was done.

    Attributes:
        still: The stretches without swaps.
        busy: Those with swaps.
        swaps: From each announcement of a swap until all workers served it, and a moment more.
        settled: When the tenth swap was over, in seconds since the epoch.
        samples: Of each worker, by moment: MB held, and seconds of CPU used.
        late_ms: By how much the sender missed the latest hundredth of its moments.
        metrics: Of each worker at the end.
    """

    still: list[Window]
    busy: list[Window]
    swaps: list[Window]
    settled: float
    samples: dict[float, list[tuple[float, float]]]
    late_ms: float
    metrics: list[dict[str, float]]

    def memory_mb(self, begin: float) -> list[float]:
        """Return what each worker held in the seconds after a moment, the median."""
        held = [values for at, values in self.samples.items() if begin <= at <= begin + _MEMORY_S]
        return [round(float(np.median([mb for mb, _ in of_worker])), 1) for of_worker in zip(*held, strict=True)]

    def cores(self, windows: list[Window]) -> float:
        """Return what all workers together used of a core within windows."""
        used_s = elapsed_s = 0.0
        for window in windows:
            moments = [at for at in self.samples if window.begin <= at <= window.end]
            first, last = moments[0], moments[-1]
            used_s += sum(b - a for (_, a), (_, b) in zip(self.samples[first], self.samples[last], strict=True))
            elapsed_s += last - first
        return round(used_s / elapsed_s, 3)


class Group:
    """
    Workers of a group, on topics of their own.

    Args:
        workers: Their processes.
        ports: Of their metrics.
    """

    def __init__(self, workers: list[Measured], ports: list[int]) -> None:
        self.workers = workers
        self.samples: dict[float, list[tuple[float, float]]] = {}
        self._ports = ports
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Look at what they use no more."""
        self._ended.set()
        self._watch.join()

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self.samples[time.time()] = [(worker.resident_mb(), worker.cpu_s()) for worker in self.workers]

    def await_started(self) -> None:
        """Return when each has its partitions."""
        self._await("state.recovered", 1, _START_S)

    def await_swaps(self, count: int) -> None:
        """Return when each has swapped so often since its start."""
        self._await("model.swapped", count, _SWAP_S)

    def _await(self, event: str, count: int, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        for worker in self.workers:
            while worker.log.read_text("utf-8", "replace").count(event) < count:
                if not worker.is_running or time.monotonic() > deadline:
                    raise BenchmarkError(f"{worker.name}: expected {count} times {event}; {log_of(worker)}")
                time.sleep(_PACE_S)

    def swapped_at(self) -> list[list[float]]:
        """Return when each has swapped, in seconds since the epoch."""
        found = [_SWAPPED.findall(worker.log.read_text("utf-8", "replace")) for worker in self.workers]
        return [[datetime.fromisoformat(at).timestamp() for at in of_worker] for of_worker in found]

    def metrics(self) -> list[dict[str, float]]:
        """Return the counters of each that belong here."""
        pages = []
        for port in self._ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                pages.append(dict(_SAMPLE.findall(page.read().decode())))
        return [{name: float(value) for name, value in page.items()} for page in pages]


_SWAPPED = re.compile(r"timestamp='([^']+)' level='info' event='model\.swapped'")
_SAMPLE = re.compile(
    r"^(stream_(?:(?:model_swaps|models_refused|fallbacks|repeated_events)_total|batch_seconds_(?:sum|count)))"
    r"""(?:\{name="knowledge"\})? (\S+)$""",
    re.MULTILINE,
)


@contextmanager
def group(spec: Spec, count: int) -> Iterator[Group]:
    """Run so many workers, with default settings."""
    ours = next(system for system in SYSTEMS if system.name == "at_least_once")
    ports = free_ports(count)

    def worker(number: int, port: int) -> System:
        given = {"STREAM_BATCH_MAX": "500", "STREAM_LOG_LEVEL": "info", "STREAM_WORKER_METRICS_PORT": str(port)}
        return replace(ours, name=f"worker-{number}", variables=lambda spec: ours.variables(spec) | given)

    with ExitStack() as stack:
        workers = [stack.enter_context(running(worker(1 + i, port), spec)) for i, port in enumerate(ports)]
        found = Group(workers, ports)
        stack.callback(found.close)
        yield found


class Announcer:
    """
    Announces rollouts as the trainer would.

    Args:
        on: Where.
        spec: Whose topics.
    """

    def __init__(self, on: Stage, spec: Spec) -> None:
        self._settings = settings_of(on, spec)
        self._outbox = KafkaOutbox(self._settings)
        store = Store(str(on.store))
        self._releases = {version: release(store, KNOWLEDGE, version) for version in (*VERSIONS, FOREIGN)}
        self._champion: Release = self._releases[models.VERSION]

    def trial(self, version: int, share: float) -> None:
        """Put a version on trial beside what serves."""
        self._announce(ModelRollout(
            name=KNOWLEDGE, champion=self._champion, challenger=self._releases[version], challenger_share=share,
            decided_at=datetime.now(UTC),
        ))  # fmt: skip

    def swap(self, version: int) -> None:
        """Have a version serve."""
        previous, self._champion = self._champion, self._releases[version]
        self._announce(
            ModelRollout(name=KNOWLEDGE, champion=self._champion, previous=previous, decided_at=datetime.now(UTC))
        )

    def close(self) -> None:
        """End the client."""
        self._outbox.close()

    def _announce(self, decided: ModelRollout) -> None:
        rollout.announce(self._outbox, self._settings, decided)


def run(on: Stage, plan: Plan) -> dict[str, Any]:
    """
    Return the figures of a run.

    Raises:
        BenchmarkError: If a worker ends, or does not swap.
    """
    for version in (*VERSIONS, FOREIGN):
        if not (on.store / Store.folder_of(KNOWLEDGE, version)).exists():
            models.make_version(on.store, version, models.LINEAGE if version != FOREIGN else "lstm-bench-2")
    load_before = os.getloadavg()
    ours = next(system for system in SYSTEMS if system.name == "at_least_once")
    with prepared(on, ours, "full") as spec, group(spec, plan.workers) as workers:
        workers.await_started()
        load.preload(on.broker, spec.source, WARM_EVENTS)
        await_predictions(spec, WARM_EVENTS, workers.workers[0])
        course = _swap_on(on, spec, plan, workers)
        seen = Seen.read(on, spec)
    return figures(plan, course, seen) | {"load": [load_before, os.getloadavg()]}


def _swap_on(on: Stage, spec: Spec, plan: Plan, workers: Group) -> Course:
    """Send, take turns between waiting and swapping, and return when everything has been predicted."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sender = context.Process(target=send, args=(there, spec, plan.rate), daemon=True)
    announcer = Announcer(on, spec)
    announced: list[float] = []
    still, busy, settled = [], [], 0.0
    sender.start()
    try:
        here.recv()
        time.sleep(plan.warm_s)
        for number in range(plan.rounds + 1):
            began = time.time()
            time.sleep(plan.still_s)
            still.append(Window(began, time.time()))
            while len(announced) < plan.swaps * (number + 1) // plan.rounds and number < plan.rounds:
                announced.append(_swap(announcer, plan, 1 + len(announced), workers))
                settled = settled or (time.time() if len(announced) >= _SETTLED else 0.0)
            busy.append(Window(still[-1].end, time.time()))
            click.echo(f"{len(announced)} swaps", err=True)
        here.send("enough")
        sent, late_ms = here.recv()
        await_predictions(spec, WARM_EVENTS + sent, workers.workers[0])
    finally:
        announcer.close()
        sender.kill()
    moments = [max(each) for each in zip(*(of_worker[1:] for of_worker in workers.swapped_at()), strict=True)]
    swaps = [Window(begin, end + _AFTER_S) for begin, end in zip(announced, moments, strict=True)]
    return Course(still, busy[:-1], swaps, settled, workers.samples, late_ms, workers.metrics())


def _swap(announcer: Announcer, plan: Plan, number: int, workers: Group) -> float:
    """Swap once, after a trial perhaps, and return when it was announced; the time for it is used up."""
    due = time.monotonic() + plan.every_s
    share = _SHARES.get(number % 5)
    if share is not None:
        announcer.trial(plan.version(number), share)
        time.sleep(plan.every_s / 2)
    announced = time.time()
    announcer.swap(plan.version(number))
    workers.await_swaps(1 + number)
    time.sleep(max(0.0, due - time.monotonic()))
    return announced


def send(pipe: Connection, spec: Spec, rate: int) -> None:
    """Send answers at a rate until told to end; tell how many, and how late the latest hundredth of the ticks was."""
    producer = Producer(
        {"bootstrap.servers": spec.broker, "partitioner": "murmur2_random", "linger.ms": 2, "compression.type": "lz4",
         "enable.idempotence": True, "log_level": 3}
    )  # fmt: skip
    events, sent, tick = islice(load.answers(), WARM_EVENTS - 1, None), 0, 0
    late: list[float] = []
    next(events)
    pipe.send("ready")
    started = time.monotonic()
    while not pipe.poll():
        tick += 1
        while (ahead := started + tick * _TICK_S - time.monotonic()) > 0:
            time.sleep(ahead)
        late.append(-ahead)
        for key, value in islice(events, round(tick * _TICK_S * rate) - sent):
            producer.produce(spec.source, value, key)
            sent += 1
        producer.poll(0)
    producer.flush(60)
    pipe.send((sent, round(1e3 * float(np.percentile(late, 99)), 1)))


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What stands on the topics, predictions in the order in which they were appended.

    Attributes:
        events: Per partition, when each event was appended, by offset, in seconds since the epoch.
        messages: On each topic of outputs that has one an event.
        ids: Different ids of predictions.
        place: Partition and offset of the event of each prediction, `(N, 2)`.
        appended_s: When it was, `(N,)`.
        version: That predicted it, `(N,)`.
        is_challenger: Whether that was on trial, `(N,)`.
    """

    events: list[NDArray[np.float64]]
    messages: dict[str, int]
    ids: int
    place: NDArray[np.int64]
    appended_s: NDArray[np.float64]
    version: NDArray[np.int64]
    is_challenger: NDArray[np.bool_]

    @classmethod
    def read(cls, on: Stage, spec: Spec) -> "Seen":
        """Read it all."""
        appended: list[list[float]] = [[] for _ in range(spec.partitions)]
        for message in read_whole(on.broker, spec.source):
            appended[message.partition() or 0].append(message.timestamp()[1] / 1_000)
        ids: set[str] = set()
        rows: list[tuple[int, int, float, int, bool]] = []
        for message in read_whole(on.broker, spec.outputs["predictions.correctness"]):
            said = orjson.loads(message.value() or b"")
            source, model = said["source"], said["model"]
            ids.add(said["prediction_id"])
            rows.append((source["partition"], source["offset"], message.timestamp()[1] / 1_000,
                         model["version"], model["variant"] == "challenger"))  # fmt: skip
        counts = {"predictions.correctness": len(rows)}
        for name in ("predictions.time", "training-examples"):
            counts[name] = sum(1 for _ in read_whole(on.broker, spec.outputs[name]))
        rows.sort(key=lambda row: row[2])
        table = np.array(rows, np.float64).reshape(-1, 5)  # (N, 5)
        place, version = table[:, :2].astype(np.int64), table[:, 3].astype(np.int64)
        return cls([np.array(of) for of in appended], counts, len(ids), place, table[:, 2], version, table[:, 4] > 0)

    def first_of_each(self) -> NDArray[np.int64]:
        """Return which predictions are the first of their events."""
        first: NDArray[np.int64] = np.unique(self.place, axis=0, return_index=True)[1]
        return first

    def sequences(self) -> list[list[int]]:
        """Return for each partition the versions that served one after another, as they stand by offset."""
        found = []
        for partition in range(len(self.events)):
            mine = self.place[:, 0] == partition
            rows = np.flatnonzero(mine & ~self.is_challenger)
            rows = rows[self.place[rows, 1].argsort(kind="stable")]
            found.append([version for version, _ in groupby(self.version[rows].tolist())])
        return found

    def pause_ms(self, windows: list[Window]) -> NDArray[np.float64]:
        """Return the longest time without predictions of a partition within each window, milliseconds."""
        longest = np.zeros(len(windows))
        for partition in range(len(self.events)):
            at = np.unique(self.appended_s[self.place[:, 0] == partition])
            for i, window in enumerate(windows):
                begin, end = np.searchsorted(at, (window.begin, window.end))
                around = at[max(begin - 1, 0) : end + 1]
                longest[i] = max(longest[i], 1e3 * float(np.diff(around).max(initial=0.0)))
        return longest


def figures(plan: Plan, course: Course, seen: Seen) -> dict[str, Any]:
    """Return the report."""
    first = seen.first_of_each()
    places = seen.place[first]
    event_at = np.array([seen.events[partition][offset] for partition, offset in places.tolist()])
    waited_ms = 1e3 * (seen.appended_s[first] - event_at)  # (E,)

    def within(windows: list[Window]) -> NDArray[np.float64]:
        edges = np.array([(window.begin, window.end) for window in windows])
        is_within = ((event_at[:, None] >= edges[:, 0]) & (event_at[:, None] < edges[:, 1])).any(axis=1)  # (E,)
        waited: NDArray[np.float64] = waited_ms[is_within]
        return waited

    without, during = within(course.still), within(course.busy)
    length = float(np.median([window.seconds for window in course.swaps]))
    beside = [
        Window(start, start + length)
        for window in course.still
        for start in np.arange(window.begin + 2 * length, window.end - length, length).tolist()
    ]
    events = sum(map(len, seen.events))
    planned = [models.VERSION, *map(plan.version, range(1, plan.swaps + 1))]
    ends = (course.settled, course.busy[-1].end - _MEMORY_S, course.still[-1].end - _MEMORY_S)
    early, last, late = map(course.memory_mb, ends)
    latency = {"without": quantiles(without), "during": quantiles(during)}
    p99 = {"without": [_p99(within([window])) for window in course.still],
           "during": [_p99(within([window])) for window in course.busy]}  # fmt: skip
    pause = {"without": _spread(seen.pause_ms(beside)), "at_swaps": _spread(seen.pause_ms(course.swaps))}
    return {
        "plan": {"rate": plan.rate, "swaps": plan.swaps, "every_s": plan.every_s, "foreign": plan.foreign,
                 "workers": plan.workers, "rounds": plan.rounds, "still_s": plan.still_s},
        "events": events,
        "messages": seen.messages,
        "distinct": seen.ids,
        "missing": events - len(first),
        "doubled": len(seen.place) - seen.ids,
        "doubled_after_deduplication": seen.ids - len(first),
        "rate_during": round(len(during) / sum(window.seconds for window in course.busy)),
        "sender_late_p99_ms": course.late_ms,
        "latency": latency,
        "p99_ms_by_stretch": p99,
        "p99_ratio": round(latency["during"]["p99_ms"] / latency["without"]["p99_ms"], 3),
        "pause_ms": pause,
        "stall_ms": {key: round(pause["at_swaps"][key] - pause["without"][key], 1) for key in pause["without"]},
        "swap_ms": _spread(np.array([1e3 * (window.seconds - _AFTER_S) for window in course.swaps])),
        "in_announced_order": all(_is_within(sequence, planned) for sequence in seen.sequences()),
        "served": {str(v): n for v, n in sorted(Counter(seen.version[~seen.is_challenger].tolist()).items())},
        "served_on_trial": {str(v): n for v, n in sorted(Counter(seen.version[seen.is_challenger].tolist()).items())},
        "worker_cores": {"without": course.cores(course.still), "during": course.cores(course.busy)},
        "resident_mb": {"after_tenth": early, "last_swap": last, "end": late},
        "resident_mb_by_stretch": [course.memory_mb(window.end - _MEMORY_S) for window in course.still],
        "resident_ratio": [round(end / start, 4) for start, end in zip(early, late, strict=True)],
        "metrics": course.metrics,
    }  # fmt: skip


def _is_within(sequence: list[int], planned: list[int]) -> bool:
    """Return whether versions came in the planned order; a partition without events meanwhile may leave some out."""
    rest = iter(planned)
    return all(version in rest for version in sequence)


def _p99(values: NDArray[np.float64]) -> float:
    return round(float(np.percentile(values, 99)), 1)


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    """Return median, 90% quantile and the largest."""
    found = {"p50": np.median(values), "p90": np.percentile(values, 90), "max": values.max()}
    return {name: round(float(value), 1) for name, value in found.items()}


def lines(found: dict[str, Any]) -> list[str]:
    """Return the figures that count, for people."""
    latency, pause = found["latency"], found["pause_ms"]
    told = (found["events"], found["messages"]["predictions.correctness"], found["distinct"])
    wrong = (found["missing"], found["doubled"], found["doubled_after_deduplication"])
    rows: list[tuple[str, object]] = [
        ("events, predictions, distinct", " ".join(map(str, told))),
        ("missing, doubled, doubled after de-duplication", " ".join(map(str, wrong))),
        ("p50 ms without, during swaps", " ".join(str(latency[when]["p50_ms"]) for when in ("without", "during"))),
        ("p99 ms without, during swaps", " ".join(str(latency[when]["p99_ms"]) for when in ("without", "during"))),
        ("p99 during swaps over without (<= 2)", found["p99_ratio"]),
        ("longest pause ms without: p50, p90, max", " ".join(map(str, pause["without"].values()))),
        ("longest pause ms at swaps: p50, p90, max", " ".join(map(str, pause["at_swaps"].values()))),
        ("stall of a swap ms: p50, p90, max (<= 50)", " ".join(map(str, found["stall_ms"].values()))),
        ("swaps seen by each worker", " ".join(f"{m['stream_model_swaps_total']:.0f}" for m in found["metrics"])),
        ("every partition in the announced order", found["in_announced_order"]),
        ("memory at the end over after the tenth (<= 1.05)", " ".join(map(str, found["resident_ratio"]))),
        ("served, by version", found["served"]),
        ("served on trial", found["served_on_trial"]),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {value}" for name, value in rows]


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--rate", default=RATE, show_default=True, help="Answers a second.")
@click.option("--swaps", default=SWAPS, show_default=True)
@click.option("--every", default=0.75, show_default=True, help="Seconds between two swaps, at least.")
@click.option("--foreign", default=0, show_default=True, help="Every so many goes to another lineage; 0: none.")
@click.option("--workers", default=1, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Stretches of swaps, between those without.")
@click.option("--warm", default=5.0, show_default=True, help="Seconds at the rate that are not counted.")
@click.option("--still", default=10.0, show_default=True, help="Seconds of a stretch without swaps.")
def main(  # noqa: PLR0913 (one for each option)
    *,
    report: Path | None,
    rate: int,
    swaps: int,
    every: float,
    foreign: int,
    workers: int,
    rounds: int,
    warm: float,
    still: float,
) -> None:
    """Measure what swaps cost under a steady load, and that none costs an event."""
    started = time.monotonic()
    plan = Plan(rate, swaps, every, foreign, workers, rounds, warm, still)
    with stage() as on:
        found = run(on, plan)
    machine = {"cpus": os.cpu_count(), "system": platform.platform()}
    name = "swaps" + ("_foreign" if plan.foreign else "") + (f"_workers_{plan.workers}" if plan.workers > 1 else "")
    if report is not None:
        seconds = round(time.monotonic() - started, 1)
        merge(report, {name: found | {"machine": machine}, "seconds": seconds})
    click.echo("\n".join(lines(found)))


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
