"""
Events a second of every system on both jobs: `python -m benchmarks.throughput --report FILE`.

Rounds go through all systems one after another, so that what else the machine does hits all alike, and the median of
the rounds counts. Each gets as many events as it takes about `--seconds` for, is started on a topic that holds them,
and is timed by the broker's clock, up to its last prediction, after a warm-up of a sixth to a third of them. In the
first round all outputs and the durable state are read back. What each peer is tuned with stands at the head of its
file.
"""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, get_args

import click

from benchmarks import load
from benchmarks.arena import PARTITIONS, WARM, BenchmarkError, Run, Stage, measure, median, stage
from benchmarks.report import merge, table
from benchmarks.spec import COMMIT_INTERVAL_S, COMPRESSION, LINGER_MS, JobName
from benchmarks.systems import SYSTEMS, WORKER_SETTINGS, System

JOBS: tuple[JobName, ...] = get_args(JobName)
_LEAST_EVENTS = 2_000
_P_TOLERANCE = 0.02
"""Largest difference between two systems' predictions of an event: kernels differ in the last digits by batch size."""


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=8.0, show_default=True, help="Of each measurement, roughly.")
@click.option("--events", type=int, help="Events for every system, instead of by its speed.")
@click.option("--only", help="Systems, joined by commas.")
@click.option("--job", type=click.Choice(JOBS), help="One of the two jobs alone.")
def main(
    report: Path | None, rounds: int, seconds: float, events: int | None, only: str | None, job: JobName | None
) -> None:
    """Measure every system on both jobs."""
    chosen = [s for s in SYSTEMS if s.is_there and (only is None or s.name in only.split(","))]
    jobs = JOBS if job is None else (job,)
    started = time.monotonic()
    with stage() as on:
        bench = Bench(on, seconds, events)
        for number in range(rounds):
            for of_job in jobs:
                for system in chosen:
                    bench.run(system, of_job, number)
    figures = bench.figures(chosen) | {"seconds": round(time.monotonic() - started, 1)}
    if report is not None:
        merge(report, figures)
    click.echo(table(figures))


class Bench:
    """
    Runs of one invocation.

    Args:
        on: Where.
        seconds: That a measurement should take.
        events: For every system, None for as many as fit the seconds.
    """

    def __init__(self, on: Stage, seconds: float, events: int | None) -> None:
        self._on = on
        self._seconds = seconds
        self._events = events
        self._runs: dict[JobName, dict[str, list[Run]]] = {job: {} for job in JOBS}
        self._said: dict[JobName, dict[str, float]] = {job: {} for job in JOBS}

    def run(self, system: System, job: JobName, number: int) -> None:
        """Measure once, and say so."""
        runs = self._runs[job].setdefault(system.name, [])
        rate = runs[-1].rate if runs else system.guess[job]
        events = self._events or max(_LEAST_EVENTS, round(rate * self._seconds / (1 - WARM[0]), -3))
        run = measure(self._on, system, job, int(events), whole=number == 0)
        self._compare(system, job, run)
        runs.append(run)
        click.echo(
            f"round {number + 1}  {job}  {system.name:14}{run.rate:9,.0f} events/s  "
            f"{run.events:,} events, {run.seconds:.1f} s timed, {1e6 * run.cpu_s / run.events:.0f} us CPU an event, "
            f"{run.resident_mb:.0f} MB",
            err=True,
        )

    def _compare(self, system: System, job: JobName, run: Run) -> None:
        """See that the system said what the others said of the same events."""
        said = self._said[job]
        both = [event for event in run.p_correct if event in said]
        differ = [event for event in both if abs(run.p_correct[event] - said[event]) > _P_TOLERANCE]
        if differ:
            raise BenchmarkError(
                f"{system.name}, {job}: {len(differ)} of {len(both)} predictions differ from those of other systems, "
                f"the first of event {differ[0]}: {run.p_correct[differ[0]]} and {said[differ[0]]}"
            )
        said |= run.p_correct

    def figures(self, systems: list[System]) -> dict[str, Any]:
        """Return the report."""
        figures: dict[str, Any] = {
            job: {name: median([run.rate for run in runs]) for name, runs in of_job.items()}
            for job, of_job in self._runs.items()
        }
        figures["runs"] = {
            job: {name: [_figures_of(run) for run in runs] for name, runs in of_job.items()}
            for job, of_job in self._runs.items()
        }
        figures["ratios"] = {job: ratios(figures[job]) for job in JOBS}
        figures["versions"] = {"python": platform.python_version()} | {s.name: s.versions() for s in systems}
        figures["machine"] = machine()
        figures["settings"] = {
            "partitions": PARTITIONS, "users": load.USERS, "warm_up": WARM, "commit_interval_s": COMMIT_INTERVAL_S,
            "linger_ms": LINGER_MS, "compression": COMPRESSION, "worker": WORKER_SETTINGS,
        }  # fmt: skip
        return figures


def _figures_of(run: Run) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "events_per_s": round(run.rate, 1), "events": run.events, "seconds": round(run.seconds, 3),
        "cpu_us_per_event": round(1e6 * run.cpu_s / run.events, 1), "resident_mb": round(run.resident_mb, 1),
    }  # fmt: skip
    if run.messages is not None and run.output_bytes is not None:
        figures |= {"messages": run.messages, "output_bytes_per_event": round(run.output_bytes / run.events, 1),
                    "users_durable": run.users}  # fmt: skip
    return figures


def ratios(rates: dict[str, float]) -> dict[str, float]:
    """Return what the worker does at least once over each other system, and exactly once over at least once."""
    ours = rates.get("at_least_once")
    if ours is None:
        return {}
    others = ("quix", "bytewax", "faust_plain", "by_hand")
    found = {f"at_least_once/{name}": round(ours / rates[name], 3) for name in others if name in rates}
    if "exactly_once" in rates:
        found["exactly_once/at_least_once"] = round(rates["exactly_once"] / ours, 3)
    return found


def machine() -> dict[str, Any]:
    """Return what it was measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {"cpus": os.cpu_count(), "cpu": model, "system": platform.platform(), "load": os.getloadavg()}


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
