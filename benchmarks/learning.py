"""
What learning live is worth, and that it can be trusted: the second half of `make quality DATA=DIR`.

On real answers in the order in which they came, against the same system frozen; simulated courses that change, or that
have users who answer at random or upside down; challengers that are no better; and a hundred swaps on a real broker.
Each is a benchmark of its own as well (`benchmarks.learning_gate`, `learning_drift`, `learning_poison`, `swaps`); here
they run one after the other into one report, one table against what is aimed at, and one picture for the documents.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.quality_tables import SEED, table
from benchmarks.report import merge
from stream.errors import UserError
from stream.files.formats import read_answers
from stream.learning.first import use_cores
from stream.learning.measured import Evaluation
from stream.learning.progress import Lines
from stream.learning.progressive import evaluate
from stream.models.dkt import KNOWLEDGE
from stream.models.quality import log_losses

FILE = "lkt_memphis"
AIMS = {"auc": 0.855, "logloss": 0.475, "seconds": 300.0}
PEERS = {"River's logistic regression, ten features": 0.837, "Elo": 0.760}
"""AUC over the same 70%, as measured by others on the same file."""

_SMOOTHED = 4_000
"""Answers over which a line of the picture goes."""

_PARTS = ("progressive", "gate", "drift", "poison", "swaps")


def progressive(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Return the report of a file's answers to come, and the lines of its picture.

    The serving system is run alone first, for its time; then beside its frozen twin.
    """
    use_cores()
    teller = Lines(lambda line: click.echo(f"  {line}", err=True))
    file = read_answers(path)
    alone = evaluate(file, seed=SEED, everything=False, teller=teller).report
    found = evaluate(file, seed=SEED, everything=True, teller=teller)
    return {"alone": alone, "beside": found.report}, _lines(found, path)


def _lines(found: Evaluation, path: Path) -> dict[str, Any]:
    """Return log losses over the latest answers, by system, at evenly spaced answers."""
    answers = read_answers(path).answers
    correct = np.array([answers[row].correct for row in found.file_rows])
    at = np.arange(_SMOOTHED, len(correct), max(len(correct) // 400, 1))
    lines: dict[str, list[float]] = {}
    for name in (KNOWLEDGE, "frozen", "lnirt"):
        p_correct = found.said[name].p_correct
        assert p_correct is not None  # noqa: S101 (all three say something of correctness)
        total = np.concatenate([[0.0], np.cumsum(log_losses(correct, p_correct))])
        lines[name] = ((total[at] - total[at - _SMOOTHED]) / _SMOOTHED).round(5).tolist()
    swaps = [swap["at_event"] for swap in found.report["swaps"]]
    # Until the first swap all three say the same.
    return {"at": at.tolist(), "lines": lines, "swaps": swaps, "answers": len(correct)}


def aims(result: Mapping[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Return what was measured, what is aimed at, and whether it holds."""
    rows: list[tuple[str, str, str, bool]] = []
    if "progressive" in result:
        alone, beside = result["progressive"]["alone"], result["progressive"]["beside"]
        of, paired = alone["models"][KNOWLEDGE], beside["paired"]
        rows += [
            (f"{FILE}, to come: AUC", f"{of['auc']:.4f}", f">= {AIMS['auc']}", of["auc"] >= AIMS["auc"]),
            ("log loss", f"{of['logloss']:.4f}", f"<= {AIMS['logloss']}", of["logloss"] <= AIMS["logloss"]),
            ("seconds", f"{alone['seconds']:.0f}", f"<= {AIMS['seconds']:.0f}", alone["seconds"] <= AIMS["seconds"]),
            (
                "gain in log loss over frozen, 95% by users",
                f"{paired['gain']:.4f} ({paired['low']:.4f} to {paired['high']:.4f})", "> 0", paired["low"] > 0,
            ),
        ]  # fmt: skip
    if "gate" in result:
        usual = result["gate"]["usual"]
        equal, better = (usual[kind]["promoted"] / usual[kind]["runs"] for kind in ("equal", "better"))
        rows += [
            ("gate: equal challengers promoted", f"{equal:.1%}", "<= 5%", equal <= 0.05),  # noqa: PLR2004
            ("better by .01, promoted", f"{better:.1%}", ">= 90%", better >= 0.9),  # noqa: PLR2004
        ]
    if "drift" in result:
        mean, target = result["drift"]["mean"], result["drift"]["target"]
        learning, frozen = mean["learning"]["regained"], mean["frozen"]["regained"]
        rows += [
            ("drift: regained within 5,000 answers", f"{learning:.0%}", f">= {target:.0%}", learning >= target),
            ("by the frozen system", f"{frozen:.0%}", f"< {target:.0%}", frozen < target),
        ]
    if "poison" in result:
        target = result["poison"]["target"]
        for name, falls in result["poison"]["falls"].items():
            rows += [
                (f"one bad user in twenty, {name}, {kind}: fall of AUC", f"{fall:.4f}", f"<= {target}", fall <= target)
                for kind, fall in falls.items()
            ]
    if "swaps" in result:
        swaps = result["swaps"]
        wrong = swaps["missing"] + swaps["doubled_after_deduplication"]
        memory, stall = max(swaps["resident_ratio"]), max(swaps["stall_ms"]["p50"], swaps["stall_ms"]["p90"])
        rows += [
            (f"{swaps['plan']['swaps']} swaps: lost or doubled of {swaps['events']:,}", f"{wrong}", "0", wrong == 0),
            ("p99 latency over that without", f"{swaps['p99_ratio']:.2f}", "<= 2", swaps["p99_ratio"] <= 2),  # noqa: PLR2004
            ("pause at a swap beyond that without, ms", f"{stall:.0f}", "<= 50", stall <= 50),  # noqa: PLR2004
            ("memory over that after the tenth", f"{memory:.3f}", "<= 1.05", memory <= 1.05),  # noqa: PLR2004
        ]
    return rows


def picture(result: Mapping[str, Any], path: Path) -> None:
    """Draw what was found on real answers to come, and after a simulated change, side by side."""
    mpl.rcParams |= {"svg.hashsalt": "learnerstream", "font.size": 9, "axes.spines.top": False,
                     "axes.spines.right": False, "svg.fonttype": "none"}  # fmt: skip
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    figure.patch.set_facecolor("white")
    left, right = figure.subplots(1, 2)
    lines = result["lines"]
    at = np.array(lines["at"])
    names = {"lnirt": ("fallback (LNIRT)", "#8a8a8a"), "frozen": ("frozen after 30%", "#c46a1b"),
             KNOWLEDGE: ("learning", "#1763a6")}  # fmt: skip
    for name, (label, colour) in names.items():
        left.plot(at, lines["lines"][name], color=colour, label=label, linewidth=1.4)
    for place, swap in enumerate(lines["swaps"]):
        left.axvline(swap, color="#1763a6", linewidth=0.5, alpha=0.35, label="a model goes live" if not place else None)
    left.set(title=f"{FILE}: answers to come, as they came", xlabel="answers",
             ylabel=f"log loss over the latest {_SMOOTHED:,}")  # fmt: skip
    left.legend(frameon=False, fontsize=8)
    drift, of_bin = result["drift"], result["drift"]["curve"]["answers"]
    for name in ("frozen", "learning"):
        bins = drift["curve"][name]
        label, colour = names[KNOWLEDGE if name == "learning" else name]
        label = label if name == "learning" else "frozen at the change"
        right.plot((np.arange(len(bins)) + 0.5) * of_bin, bins, color=colour, label=label, linewidth=1.4)
    changed = len(drift["curve"]["learning"]) * of_bin / 2
    right.axvline(changed, color="#333333", linewidth=0.8, linestyle=":")
    right.annotate("items change", (changed, right.get_ylim()[1]), (4, -10), textcoords="offset points", fontsize=8)
    right.set(title=f"Half the items harder, half easier: mean of {len(drift['seeds'])} courses", xlabel="answers",
              ylabel="log loss beyond the truth's")  # fmt: skip
    right.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _run(module: str, *options: str) -> dict[str, Any]:
    """Run a benchmark in a process of its own, and return its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run([sys.executable, "-m", module, "--report", str(report), *options], check=True)
        found: dict[str, Any] = json.loads(report.read_bytes())
        return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder with the real answers.")
@click.option("--report", type=click.Path(path_type=Path), default=Path("reports/quality.json"), show_default=True)
@click.option("--only", multiple=True, type=click.Choice(_PARTS), help="Only these; the report keeps the others.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the picture of the documents, .svg.")
def main(data: Path, report: Path, only: tuple[str, ...], plot: Path | None) -> None:
    """Measure what learning live is worth, and what it survives."""
    folder = data / "kt" if (data / "kt").is_dir() else data
    path = folder / f"{FILE}.csv.gz"
    if not path.is_file():
        raise click.ClickException(f"expected the file {path}; name its folder: make quality DATA=DIR")
    report.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(report.read_bytes()) if report.is_file() else {}
    result: dict[str, Any] = before.get("learning", {})
    for part in only or _PARTS:
        click.echo(f"{part} ...", err=True)
        if part == "progressive":
            result["progressive"], result["lines"] = progressive(path)
        elif part == "poison":
            result["poison"] = _run("benchmarks.learning_poison", "--data", str(path))
        elif part == "swaps":
            result["swaps"] = _run("benchmarks.swaps")["swaps"]
        else:
            result[part] = _run(f"benchmarks.learning_{part}")
        # After each part: an hour's work is not lost to what comes later.
        merge(report, {"learning": result})
    rows = aims(result)
    click.echo(table(["what", "measured", "aim", ""], [[*row[:3], "" if row[3] else "missed"] for row in rows]))
    if plot is not None:
        picture(result, plot)


if __name__ == "__main__":
    try:
        main()
    except (UserError, subprocess.CalledProcessError) as error:
        sys.exit(f"quality: {error}")
