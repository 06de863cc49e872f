"""
How well those who fail or leave are found in time, on real enrolments: part of `make quality DATA=DIR`.

DIR holds an OULAD folder `risk`. Split, training and evaluation are those of `stream evaluate --task risk --models
all`, once for each seed; models are compared in pairs, on the same students.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click

from benchmarks.quality_tables import table
from benchmarks.report import merge
from stream.errors import UserError
from stream.files.oulad import is_oulad, read_oulad
from stream.learning.first import use_cores
from stream.learning.progress import Lines
from stream.learning.risk.evaluation import evaluate
from stream.learning.risk.split import DAYS
from stream.learning.risk.training import RiskRecipe
from stream.settings import Settings

SEEDS = (42, 43, 44, 45, 46)

SEED, MIN_AUC = 42, {30: 0.767, 60: 0.833, 90: 0.853, 120: 0.879}
"""Of one seed, by day."""

MAX_ECE = 0.03
"""On every day, mean over the seeds."""

KEPT = frozenset(Settings.model_fields["risk_features"].default.split(","))
"""Fields of an enrolment that the model sees: the defaults, whatever is set where this runs."""

_RIVAL = "boosting_by_day"
"""What has to be beaten, over all days and seeds: boosting on the same fields, made anew for each day."""

_OTHERS = ("boosting", "network", _RIVAL, "logistic", "fallback")


def of_serving(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures of what would serve."""
    found: Mapping[str, Any] = report["models"][report["serving"]]
    return found


def by_day(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of days: mean over the seeds."""
    rows = []
    for day in map(str, DAYS):
        serving = [of_serving(report)["by_day"][day] for report in reports]
        others = ([report["models"][name]["by_day"][day]["auc"] for report in reports] for name in _OTHERS)
        rows.append(
            [
                f"day {day}", *(f"{mean(of[key] for of in serving):.4f}" for key in ("auc", "logloss", "ece")),
                *(f"{mean(areas):.4f}" for areas in others), _interval(gains(reports, day)),
            ]
        )  # fmt: skip
    return table(["end of", "AUC", "log loss", "ECE", *_OTHERS, f"gain over {_RIVAL}"], rows)


def gains(reports: Sequence[Mapping[str, Any]], day: str) -> list[float]:
    """Return by how much the AUC of what serves is above the rival's, for each seed."""
    return [of_serving(r)["by_day"][day]["auc"] - r["models"][_RIVAL]["by_day"][day]["auc"] for r in reports]


def _interval(values: Sequence[float]) -> str:
    """Return a mean, and its 95% interval where there are several values."""
    if len(values) < len(SEEDS):
        return f"{mean(values):+.4f}"
    wide = _STUDENT_95 * stdev(values) / len(values) ** 0.5
    return f"{mean(values):+.4f} ± {wide:.4f}"


_STUDENT_95 = 2.776
"""Student's t at 95%, four degrees of freedom: five seeds."""


def by_seed(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of seeds."""
    rows = []
    for report in reports:
        of = of_serving(report)
        areas = (f"{of['by_day'][str(day)]['auc']:.4f}" for day in DAYS)
        rest = (f"{of[key]:.4f}" for key in ("auc", "ece", "f1"))
        rows.append([str(report["seed"]), report["serving"], *areas, *rest, f"{report['training_seconds']:.0f}"])
    return table(["seed", "serves", *(f"day {day}" for day in DAYS), "AUC", "ECE", "F1", "training s"], rows)


def missed(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each aim that is missed."""
    areas = [(of_serving(r)["by_day"], day) for r in reports if r["seed"] == SEED for day in DAYS]
    found = [
        f"seed {SEED}, day {day}: AUC {of[str(day)]['auc']:.4f}, aim {MIN_AUC[day]}"
        for of, day in areas
        if of[str(day)]["auc"] < MIN_AUC[day]
    ]
    for day in DAYS:
        error = mean(of_serving(report)["by_day"][str(day)]["ece"] for report in reports)
        if error > MAX_ECE:
            found.append(f"day {day}: calibration error {error:.4f}, aim {MAX_ECE}")
    gain = mean(each for day in DAYS for each in gains(reports, str(day)))
    if gain < 0:
        found.append(f"AUC over all days and seeds {-gain:.4f} below {_RIVAL}'s")
    return found


def tables(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return all of it as tables for people."""
    sentences = missed(reports)
    return "\n\n".join(
        [
            "Who will fail or leave, students held out:", by_day(reports), "By seed:", by_seed(reports),
            "Missed: " + "; ".join(sentences) if sentences else "Every aim is reached.",
        ]
    )  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder with the OULAD folder risk.")
@click.option("--report", type=click.Path(path_type=Path), default=Path("reports/quality.json"), show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=SEEDS, show_default=True, help="Of the splits.")
@click.option("--check", is_flag=True, help="Only see whether the data is there.")
def main(data: Path, report: Path, seeds: tuple[int, ...], *, check: bool) -> None:
    """Measure the risk model on real enrolments."""
    folder = data / "risk" if (data / "risk").is_dir() else data
    if not is_oulad(folder):
        raise click.ClickException(
            f"expected an OULAD folder, {data / 'risk'} or {data} itself, found neither; name the folder that "
            "holds it: make quality DATA=DIR"
        )
    if check:
        return
    use_cores()
    report.parent.mkdir(parents=True, exist_ok=True)
    oulad = read_oulad(folder)
    found = []
    for seed in seeds:
        click.echo(f"risk, seed {seed} ...", err=True)
        recipe = RiskRecipe(seed=seed)
        teller = Lines(lambda line: click.echo(f"  {line}", err=True))
        found.append(evaluate(oulad, recipe=recipe, everything=True, kept=KEPT, teller=teller).report)
        # After each seed: an hour's work is not lost to what comes later.
        merge(report, {"risk": {"recipe": asdict(recipe) | {"seed": list(seeds), "seconds": None}, "seeds": found}})
    click.echo(tables(found))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"quality: {error}")
