"""
Half of the items become a logit harder, the others a logit easier: `python -m benchmarks.learning_drift`.

Simulated courses (`benchmarks.worlds`), ten seeds. At half time the items change; one system goes on learning, the
same one learns nothing from then on. What is measured is by how much the expected log loss of what they say exceeds the
truth's, which the simulator knows: before the change, and from 4,000 to 5,000 answers after it. The cost of the change
is what it adds to the frozen system's, over the whole second half; regained is the share of it that is gone again.

An update is one pass over the buffer, however long that takes, so that the figures are the machine's nowhere: live, an
update may take several passes.
"""

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.worlds import World, excess, world
from stream.files.answers import AnswersFile
from stream.learning.history import History
from stream.learning.measured import versions
from stream.learning.progress import Lines
from stream.learning.progressive import Schedule, System

HARDER_BY = 1.0
BEFORE = 2_500
WINDOW = (4_000, 5_000)
TARGET = 0.8
BIN = 250
ONE_PASS = Schedule(update_seconds=1e-3)


def served(file: AnswersFile, schedule: Schedule, seed: int) -> System:
    """Return a system that has gone through a file whose answers are in replay order."""
    torch.set_num_threads(1)
    system = System(History.of(file), schedule, seed)
    system.run(Lines(_nobody))
    return system


def _nobody(_line: str) -> None:
    """Tell nobody."""


def measure(seed: int) -> dict[str, Any]:
    """Return what both systems said too much, of one course: before, after, regained, and in bins."""
    course = world(seed, harder_by=HARDER_BY)
    schedules = {"learning": ONE_PASS, "frozen": replace(ONE_PASS, learn_until=course.changed_at)}
    above = {name: _excess(course, served(course.file, schedule, seed)) for name, schedule in schedules.items()}
    changed_at = course.changed_at
    before = float(above["frozen"][changed_at - BEFORE : changed_at].mean())
    cost = float(above["frozen"][changed_at:].mean()) - before
    found: dict[str, Any] = {"seed": seed, "before": before, "cost": cost}
    for name, of_answer in above.items():
        after = float(of_answer[changed_at + WINDOW[0] : changed_at + WINDOW[1]].mean())
        bins = of_answer[: len(of_answer) // BIN * BIN].reshape(-1, BIN).mean(axis=1)
        found[name] = {"after": after, "regained": 1 - (after - before) / cost, "bins": bins.tolist()}
    return found


def _excess(course: World, system: System) -> NDArray[np.float64]:
    said = system.said.p_correct
    assert said is not None  # noqa: S101 (the system says something of correctness)
    return excess(course.p_correct, said)


def table(report: dict[str, Any]) -> str:
    """Return a report as a table for people."""
    rows = [*report["seeds"], report["mean"]]
    lines = [f"{'seed':>6}{'before':>10}{'cost':>10}{'learning':>10}{'frozen':>10}{'regained':>10}{'frozen':>10}"]
    for row in rows:
        learning, frozen = row["learning"], row["frozen"]
        cells = (row["before"], row["cost"], learning["after"], frozen["after"], learning["regained"])
        lines.append(f"{row['seed']:>6}" + "".join(f"{cell:10.4f}" for cell in (*cells, frozen["regained"])))
    return "\n".join(lines)


@click.command()
@click.option("--seeds", default=10, show_default=True, help="Simulated courses.")
@click.option("--jobs", default=2, show_default=True, help="Courses at a time.")
@click.option("--report", type=click.Path(path_type=Path), default=Path("reports/drift.json"), show_default=True)
def main(seeds: int, jobs: int, report: Path) -> None:
    """Measure how fast the learning system regains what a change of all items has cost."""
    started = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(measure, range(1, seeds + 1)))
    bins = {name: np.array([of_seed[name].pop("bins") for of_seed in found]) for name in ("learning", "frozen")}
    mean: dict[str, Any] = {"seed": "mean"} | {
        key: float(np.mean([of_seed[key] for of_seed in found])) for key in ("before", "cost")
    }
    for name in bins:
        after = float(np.mean([of_seed[name]["after"] for of_seed in found]))
        mean[name] = {"after": after, "regained": 1 - (after - mean["before"]) / mean["cost"]}
    result = {
        "harder_by": HARDER_BY, "before": BEFORE, "window": WINDOW, "target": TARGET, "schedule": asdict(ONE_PASS),
        "seeds": found, "mean": mean,
        "curve": {"answers": BIN} | {name: of_bin.mean(axis=0).round(5).tolist() for name, of_bin in bins.items()},
        "seconds": round(time.monotonic() - started, 1), "versions": versions(),
    }  # fmt: skip
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    click.echo(table(result))
    regained = mean["learning"]["regained"]
    click.echo(f"regained {regained:.0%}, wanted {TARGET:.0%}; {result['seconds']} s, report in {report}")


if __name__ == "__main__":
    main()
