"""
What the live page does, and what it costs: `python -m benchmarks.page --report FILE`.

First a page alone, beside a topic on which comes what a worker writes of 5,000 events a second: the worker's own
outputs, recorded once and sent again at that pace. A browser listens; counted are the snapshots that it gets in each
second, the page's CPU, and what the page passed over. Then the worker's throughput on the full job of
`benchmarks.throughput`, with and without a page beside it, which a browser listens to: rounds alternate, medians count.
Broker, worker, page and browser share the cores.
"""

import json
import secrets
import statistics
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import click
import orjson
from confluent_kafka import Producer

from benchmarks import load
from benchmarks.arena import (
    WARM,
    BenchmarkError,
    Measured,
    Predictions,
    Stage,
    await_predictions,
    log_of,
    prepared,
    read_whole,
    running,
    settings_of,
    stage,
    timed_part,
)
from benchmarks.environments import ROOT
from benchmarks.report import merge
from benchmarks.spec import Spec
from benchmarks.systems import OWN_PYTHON, SYSTEMS
from benchmarks.throughput import machine
from stream.page.glance import glance
from stream.settings import Settings
from stream.transport import topics
from stream.transport.clients import producer_config
from tests.broker.process import free_ports

_WORKER: Final = next(system for system in SYSTEMS if system.name == "at_least_once")
_SETTLED_S: Final = 5.0
"""Of what is sent, that is not measured."""

_SLICE_S: Final = 0.1
_START_S, _END_S = 60.0, 30.0
_GUESS: Final = 8_000

Message = tuple[str, bytes, bytes]
"""The catalog's name of a topic, key and value."""


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--rate", default=5_000, show_default=True, help="Events a second of which the page is shown all.")
@click.option("--seconds", default=20.0, show_default=True, help="Of each measurement, roughly.")
@click.option("--rounds", default=5, show_default=True, help="With and without a page, in turn.")
def main(report: Path | None, rate: int, seconds: float, rounds: int) -> None:
    """Measure the page, and the worker beside it."""
    started = time.monotonic()
    with stage() as on:
        figures: dict[str, Any] = {"alone": alone(on, rate, seconds)}
        click.echo(json.dumps(figures["alone"]), err=True)
        figures["beside"] = beside(on, seconds, rounds)
    figures["machine"] = machine()
    if report is not None:
        merge(report, {"page": figures, "seconds": round(time.monotonic() - started, 1)})
    click.echo(json.dumps(figures, indent=1))


class Browser:
    """Listens to a page, and counts the snapshots of each second."""

    def __init__(self, port: int) -> None:
        self.seconds: Counter[int] = Counter()
        self.latest = b"{}"
        self._lines = urllib.request.urlopen(f"http://127.0.0.1:{port}/snapshots", timeout=_START_S)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for line in self._lines:
            if line.startswith(b"data: "):
                self.seconds[int(time.monotonic())] += 1
                self.latest = line

    @property
    def snapshot(self) -> dict[str, Any]:
        """The latest, as it is now."""
        found: dict[str, Any] = orjson.loads(self.latest.removeprefix(b"data: "))
        return found


@contextmanager
def page(settings: Settings, folder: Path) -> Iterator[tuple[Measured, Browser]]:
    """Run a page that has read all that there is, and a browser."""
    port = free_ports(1)[0]
    variables = {
        "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "STREAM_BROKER": settings.broker,
        "STREAM_GROUP": settings.group, "STREAM_TOPIC_PREFIX": settings.topic_prefix, "STREAM_PAGE_PORT": str(port),
    }  # fmt: skip
    command = ["env", "-i", *(f"{k}={v}" for k, v in variables.items()), str(OWN_PYTHON), "-m", "stream.cli", "page"]
    process = Measured(f"page-{port}", command, folder=folder)
    process.start(lambda: "page.started" in process.log.read_text("utf-8", "replace"), timeout_s=_START_S)
    try:
        browser = Browser(port)
        deadline = time.monotonic() + _START_S
        while browser.snapshot.get("state") != "live":
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the page is not live: {browser.snapshot}; {log_of(process)}")
            time.sleep(_SLICE_S)
        yield process, browser
    finally:
        process.kill()


def alone(on: Stage, rate: int, seconds: float) -> dict[str, Any]:
    """Return how often a browser hears of so many events a second, and what the page needs for that."""
    sent = recorded(on, int(rate * (seconds + _SETTLED_S)))
    prefix = f"replayed-{secrets.token_hex(3)}-"
    settings = Settings.model_validate(
        {"broker": on.broker, "topic_prefix": prefix, "group": prefix + "g", "partitions": 4}
    )
    topics.ensure(settings)
    with page(settings, on.folder) as (process, browser):
        replay = threading.Thread(target=_replay, args=(settings, sent, rate), daemon=True)
        replay.start()
        time.sleep(_SETTLED_S)
        begun, cpu_s = time.monotonic(), process.cpu_s()
        replay.join()
        took, cpu_s = time.monotonic() - begun, process.cpu_s() - cpu_s
        counts = [browser.seconds[second] for second in range(int(begun) + 1, int(begun + took))]
        deadline = time.monotonic() + _END_S
        while (snapshot := browser.snapshot)["totals"]["correctness"] + snapshot["skipped"] < len(sent):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"expected {len(sent)} events, the page knows {snapshot['totals']}")
            time.sleep(_SLICE_S)
        return {
            "events_per_s": round(rate * (seconds + _SETTLED_S) / (took + _SETTLED_S), 1),
            "updates_per_s_min": min(counts), "updates_per_s_median": statistics.median(counts),
            "cpu_s_per_s": round(cpu_s / took, 3), "resident_mb": round(process.resident_mb(), 1),
            "skipped": snapshot["skipped"], "snapshot_bytes": len(browser.latest),
        }  # fmt: skip


def recorded(on: Stage, events: int) -> list[list[Message]]:
    """Return events and all that a worker writes of each, one list an event, in the order of the events."""
    with prepared(on, _WORKER, "full") as spec:
        load.preload(on.broker, spec.source, events)
        with running(_WORKER, spec) as process:
            await_predictions(spec, events, process)
        found: dict[tuple[int, int], list[Message]] = {}
        for message in sorted(read_whole(on.broker, spec.source), key=lambda m: m.timestamp()[1]):
            place = message.partition() or 0, message.offset() or 0
            found[place] = [("interactions", message.key() or b"", message.value() or b"")]
        for name, topic in spec.outputs.items():
            for message in read_whole(on.broker, topic):
                raw = message.value() or b""
                if b'"prediction_id":' in raw:
                    seen = glance(raw)
                    place = seen.partition, seen.offset
                else:
                    source = orjson.loads(raw).get("source") or {"partition": 0, "offset": 0}
                    place = source["partition"], source["offset"]
                found.get(place, found[0, 0]).append((name, message.key() or b"", raw))
        return list(found.values())


def _replay(settings: Settings, sent: list[list[Message]], rate: int) -> None:
    """Send what belongs to each event, at a pace; events a moment before what comes of them."""
    producer = Producer(producer_config(settings))
    slice_ = round(rate * _SLICE_S)
    started = time.monotonic()
    for number, first in enumerate(range(0, len(sent), slice_)):
        time.sleep(max(0.0, started + number * _SLICE_S - time.monotonic()))
        batch = sent[first : first + slice_]
        for part in (slice(0, 1), slice(1, None)):
            for messages in batch:
                for name, key, value in messages[part]:
                    producer.produce(settings.topic(name), value, key)
        producer.poll(0)
    producer.flush(_END_S)


def beside(on: Stage, seconds: float, rounds: int) -> dict[str, Any]:
    """Return the worker's events a second with and without a page beside it, and what became of the page."""
    rates: dict[str, list[float]] = {"without": [], "with": []}
    shown: list[dict[str, Any]] = []
    for number in range(rounds):
        for name in ("without", "with") if number % 2 else ("with", "without"):
            known = rates["without"] or rates["with"]
            events = round((known[-1] if known else _GUESS) * seconds / (1 - WARM[0]), -3)
            rate, seen = _throughput(on, int(events), with_page=name == "with")
            rates[name].append(rate)
            shown += [seen] if seen else []
            click.echo(f"round {number + 1}  {name:8}{rate:9,.0f} events/s  {json.dumps(seen)}", err=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "rates": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "median": {name: round(rate) for name, rate in medians.items()},
        "with/without": round(medians["with"] / medians["without"], 4),
        "pages": shown,
    }


def _throughput(on: Stage, events: int, *, with_page: bool) -> tuple[float, dict[str, Any]]:
    with prepared(on, _WORKER, "full") as spec:
        load.preload(on.broker, spec.source, events)
        around = page(settings_of(on, spec), on.folder) if with_page else nullcontext()
        with around as beside_it:
            seen = _run(spec, events, beside_it)
        appended_s = Predictions.read(spec).appended_s
        if len(appended_s) != events:
            raise BenchmarkError(f"expected {events} predictions, found {len(appended_s)}")
        timed, took = timed_part(appended_s)
        return timed / took, seen


def _run(spec: Spec, events: int, beside_it: tuple[Measured, Browser] | None) -> dict[str, Any]:
    """Let the worker predict all, and return what the page did meanwhile."""
    with running(_WORKER, spec) as process:
        if beside_it is None:
            await_predictions(spec, events, process)
            return {}
        page_process, browser = beside_it
        begun, cpu_s = time.monotonic(), page_process.cpu_s()
        await_predictions(spec, events, process)
        took = time.monotonic() - begun
        counts = [browser.seconds[second] for second in range(int(begun) + 1, int(begun + took))]
        return {
            "cpu_s_per_s": round((page_process.cpu_s() - cpu_s) / took, 3), "skipped": browser.snapshot["skipped"],
            "updates_per_s_median": statistics.median(counts),
        }  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
