"""
What metrics cost the worker: `python -m benchmarks.metrics --report FILE`.

The full job, as `benchmarks.throughput` measures it, by the worker as it is and by one that counts and times nothing,
in turn, in both orders, so that what else the machine does hits both alike. What counts is the ratio of throughput
within a round, and the CPU time that an event takes more, which a busy machine disturbs less. The worker as it is is
scraped every five seconds, twice as often as our Prometheus does, and the scrapes are timed while it works.
"""

import statistics
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from benchmarks.arena import BenchmarkError, Run, Stage, measure, stage
from benchmarks.metrics_worker import SILENT
from benchmarks.report import merge
from benchmarks.spec import Spec
from benchmarks.systems import OWN_PYTHON, WORKER_SETTINGS, System
from benchmarks.throughput import machine
from tests.broker.process import free_ports

_AIM = 0.98
"""Of the silent worker's throughput, that is to be left."""

_EVERY_S = 5.0


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--rounds", default=6, show_default=True, help="Of both, an even number.")
@click.option("--events", default=60_000, show_default=True, help="Of each measurement.")
def main(report: Path | None, rounds: int, events: int) -> None:
    """Measure the worker with its metrics and without."""
    started = time.monotonic()
    scrapes: list[tuple[float, int]] = []
    runs: dict[str, list[Run]] = {"metrics": [], "silent": []}
    with stage() as on:
        for number in range(rounds):
            names = list(runs) if number % 2 == 0 else list(runs)[::-1]
            for name in names:
                runs[name].append(_measured(on, name, events, scrapes))
                run = runs[name][-1]
                click.echo(
                    f"round {number + 1}  {name:8}{run.rate:9,.0f} events/s  "
                    f"{1e6 * run.cpu_s / events:.1f} us CPU an event",
                    err=True,
                )
    figures = _figures(runs, scrapes, events)
    if report is not None:
        merge(report, {"metrics": figures, "seconds": round(time.monotonic() - started, 1)})
    click.echo(_said(figures))


def _measured(on: Stage, name: str, events: int, scrapes: list[tuple[float, int]]) -> Run:
    (port,) = free_ports(1)
    with _scraping(port, scrapes) if name == "metrics" else _scraping(0, []):
        return measure(on, _worker(name, port), "full", events, whole=False)


def _worker(name: str, port: int) -> System:
    def variables(spec: Spec) -> dict[str, str]:
        return WORKER_SETTINGS | {
            "STREAM_BROKER": spec.broker,
            "STREAM_GROUP": spec.group,
            "STREAM_TOPIC_PREFIX": spec.prefix,
            "STREAM_PARTITIONS": str(spec.partitions),
            "STREAM_MODEL_STORE": str(Path(spec.model).parents[1]),
            "STREAM_WORKER_METRICS_PORT": str(port),
            SILENT: name,
        }

    module = "benchmarks.metrics_worker"
    return System(
        name, name, {"full": 8_000, "core": 0}, lambda: OWN_PYTHON, {"full": module, "core": module}, variables, ()
    )


@contextmanager
def _scraping(port: int, scrapes: list[tuple[float, int]]) -> Iterator[None]:
    """Scrape a port again and again, and keep how many seconds each took, and how many bytes came; port 0: nothing."""
    stopping = threading.Event()

    def scrape() -> None:
        while not stopping.wait(_EVERY_S):
            began_at = time.perf_counter()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
                    size = len(page.read())
            except (urllib.error.URLError, ConnectionError):  # it has not begun, or has ended
                continue
            scrapes.append((time.perf_counter() - began_at, size))

    thread = threading.Thread(target=scrape, daemon=True)
    if port:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        if port:
            thread.join()


def _figures(runs: dict[str, list[Run]], scrapes: list[tuple[float, int]], events: int) -> dict[str, Any]:
    pairs = list(zip(runs["metrics"], runs["silent"], strict=True))
    extra_us = [1e6 * (one.cpu_s - other.cpu_s) / events for one, other in pairs]
    took_ms = sorted(1_000 * seconds for seconds, _ in scrapes)
    return {
        "rounds": len(pairs),
        "events": events,
        "events_per_s": {name: [round(run.rate) for run in each] for name, each in runs.items()},
        "cpu_us_per_event": {name: [round(1e6 * run.cpu_s / events, 1) for run in each] for name, each in runs.items()},
        "throughput_ratio": round(statistics.median(one.rate / other.rate for one, other in pairs), 4),
        "throughput_ratios": [round(one.rate / other.rate, 4) for one, other in pairs],
        # What both take to start is in neither difference.
        "extra_cpu_us_per_event": round(statistics.median(extra_us), 2),
        "extra_cpu_us_per_events": [round(us, 2) for us in extra_us],
        "scrapes": len(scrapes),
        "scrape_ms": {"p50": round(statistics.median(took_ms), 1), "max": round(took_ms[-1], 1)} if took_ms else None,
        "scrape_bytes": max((size for _, size in scrapes), default=None),
        "machine": machine(),
    }


def _said(figures: dict[str, Any]) -> str:
    verdict = "within" if figures["throughput_ratio"] >= _AIM else "NOT within"
    return (
        f"metrics leave {figures['throughput_ratio']:.1%} of the throughput ({verdict} the aim of {_AIM:.0%}) and take "
        f"{figures['extra_cpu_us_per_event']:+.1f} us CPU an event; medians of {figures['rounds']} rounds: "
        f"{figures['throughput_ratios']}, {figures['extra_cpu_us_per_events']}\n"
        f"a scrape of {figures['scrape_bytes']} bytes under load: {figures['scrape_ms']} ms"
    )


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
