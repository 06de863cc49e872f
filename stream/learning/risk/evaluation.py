"""
How good the risk model is on past enrolments: what `stream evaluate FOLDER --task risk` does.

Students are split once; what is learned from some of them is asked about others, at the end of given days of their
presentations, knowing what had happened by then.
"""

import csv
import gzip
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.predictions import RISK_LIMITS
from stream.files.oulad import Oulad, read_oulad
from stream.learning.evaluation import check_places
from stream.learning.first import use_cores
from stream.learning.history import TEST, TRAINING, VALIDATION
from stream.learning.measured import versions
from stream.learning.progress import Part, Teller, telling
from stream.learning.risk.fairness import HIGH, abroca, by_slice
from stream.learning.risk.first import telling_epochs
from stream.learning.risk.page import Shown, render
from stream.learning.risk.references import REFERENCES, ByDay
from stream.learning.risk.snapshots import AT_RISK, Snapshots
from stream.learning.risk.split import DAYS, DRAWN, LAST, check, drawn, look, moments, split, students_of, vocabulary
from stream.learning.risk.training import RiskRecipe, Trained, train
from stream.models.quality import auc, calibration_error, log_losses
from stream.models.risk import RISK, LogisticRisk
from stream.state.academic import OUTCOMES

SLICES = ("gender", "disability", "imd_band", "age_band", "region", "education")
"""Fields of an enrolment by which fairness is looked at, where a folder has them."""

_LOOKING, _OTHERS = 0.2, 0.05
"""Of the work, about: seeing users through the fold; the reference models."""


@dataclass(frozen=True, slots=True)
class RiskEvaluation:
    """
    What came out.

    Attributes:
        report: As JSON; see `docs/evaluation.md`.
        oulad: Past enrolments.
        test: Users who played no part, one row a user and day; `user` is a place in `oulad.enrolments`.
        day: Of each row, `(N,)`.
        score: What would have been said of each, `(N,)`.
        trained: The model.
    """

    report: dict[str, Any]
    oulad: Oulad
    test: Snapshots
    day: NDArray[np.int64]
    score: NDArray[np.float32]
    trained: Trained


def evaluate_folder(
    folder: Path,
    *,
    recipe: RiskRecipe,
    everything: bool,
    kept: Collection[str],
    report: Path | None,
    predictions: Path | None,
    page: Path | None,
    write: Callable[[str], None],
) -> None:
    """
    Evaluate a folder, tell the table, and write what is asked for.

    Raises:
        UserError: If the folder cannot be read or has too few students, or a file cannot be written.
    """
    check_places(report, predictions, page)
    use_cores()
    with telling("evaluating", write) as teller:
        found = evaluate(read_oulad(folder), recipe=recipe, everything=everything, kept=kept, teller=teller)
    if report is not None:
        report.write_text(json.dumps(found.report, indent=1) + "\n", "utf-8")
    if predictions is not None:
        write_predictions(found, predictions)
    if page is not None:
        page.write_text(render(found.report, shown(found)), "utf-8")
    write(table(found.report))


def evaluate(
    oulad: Oulad, *, recipe: RiskRecipe, everything: bool, kept: Collection[str], teller: Teller
) -> RiskEvaluation:
    """
    Train on a part of the students and predict what became of others.

    Args:
        oulad: Past enrolments.
        recipe: Of the model; its seed is the split's too.
        everything: The reference models too.
        kept: Fields of an enrolment that the models may see.
        teller: Told of progress.

    Raises:
        UserError: If there are too few students.
    """
    started = time.monotonic()
    check(oulad)
    part = split(oulad, recipe.seed)
    student = students_of(oulad)
    students = {
        name: len(np.unique(student[part == which]))
        for name, which in (("training", TRAINING), ("validation", VALIDATION), ("test", TEST))
    }
    days = drawn(oulad, DRAWN, LAST, recipe.seed)
    at = moments(oulad, DAYS).of(part == TEST)
    asked = (days.of(part == TRAINING), days.of(part == VALIDATION), at)
    share = _LOOKING / sum(map(len, asked))
    learned, held_out, test = (look(oulad, each, kept, Part(teller, share * len(each)).advance) for each in asked)
    teller.say(f"saw {len(learned)} days of {students['training']} students to learn from, {len(test)} to predict")
    learning_from = time.monotonic()
    learning = Part(teller, 1 - _LOOKING - (_OTHERS if everything else 0))
    known = vocabulary(oulad, part == TRAINING, kept)
    trained = train(learned, held_out, known, recipe, telling_epochs(recipe, learning))
    learned_s = time.monotonic() - learning_from
    serving = trained.calibrated(test)
    said: dict[str, NDArray[np.floating]] = {trained.serving: serving}
    if everything:
        said = {**trained.scores(test), "fallback": LogisticRisk().score(test.seen).score}
        teller.say(f"fitting {', '.join(REFERENCES)}")
        # They have nothing to be stopped or calibrated on: they may learn from all who are not asked about.
        past = moments(oulad, DAYS).of(part != TEST)
        seen = look(oulad, past, kept, Part(teller, _OTHERS).advance)
        for name, make in REFERENCES.items():
            said[name] = ByDay(known, make, recipe.seed).fit(seen, past.day).predict(test, at.day)
    report = {
        "file": oulad.path.resolve().name,
        "digest": oulad.digest,
        "task": RISK,
        "protocol": "user-split",
        "seed": recipe.seed,
        "n": len(test),
        "users": students,
        "enrolments": len(oulad.enrolments),
        "fields": sorted(kept),
        "serving": trained.serving,
        "by_day": by_day(test, at.day, serving),
        "models": {name: figures(test, at.day, score) for name, score in said.items()},
        "fairness": fairness(oulad, test, serving),
        "seconds": round(time.monotonic() - started, 1),
        "training_seconds": round(learned_s, 1),
        "epochs": len(trained.epochs),
        "versions": versions(),
    }
    return RiskEvaluation(report, oulad, test, at.day, serving, trained)


def by_day(test: Snapshots, day: NDArray[np.int64], score: NDArray[np.floating]) -> dict[str, dict[str, Any]]:
    """Return how good scores are at the end of each day."""
    found = {}
    for each in np.unique(day).tolist():
        rows = day == each
        found[str(each)] = {"n": int(rows.sum())} | _ranked(test.outcome[rows] >= AT_RISK, score[rows])
    return found


def figures(test: Snapshots, day: NDArray[np.int64], score: NDArray[np.floating]) -> dict[str, Any]:
    """Return how good the scores of one model are: over all rows, and by day."""
    at_risk, p = test.outcome >= AT_RISK, score.astype(np.float64)
    is_high = p >= HIGH
    hits, misses, alarms = (int(rows.sum()) for rows in (is_high & at_risk, ~is_high & at_risk, is_high & ~at_risk))
    category = np.searchsorted(RISK_LIMITS, p, side="right")
    confusion = np.zeros((len(RISK_LIMITS) + 1, len(OUTCOMES)), np.int64)
    np.add.at(confusion, (category, test.outcome), 1)
    error = p - test.risk
    spread = float(((test.risk - test.risk.mean()) ** 2).mean())
    rounded = {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1 - float((error**2).mean()) / spread if spread else None,
        "accuracy": float((is_high == at_risk).mean()),
        "precision": hits / (hits + alarms) if hits + alarms else None,
        "recall": hits / (hits + misses) if hits + misses else None,
        "f1": 2 * hits / (2 * hits + misses + alarms) if hits + misses + alarms else None,
    }
    return {
        "by_day": by_day(test, day, score),
        **_ranked(at_risk, p),
        **{name: None if value is None else round(value, 5) for name, value in rounded.items()},
        # A row for each category from Low to Critical, a column for each outcome from distinction to withdrawn.
        "confusion": confusion.tolist(),
    }


def _ranked(at_risk: NDArray[np.bool_], score: NDArray[np.floating]) -> dict[str, float | None]:
    area = auc(at_risk, score)
    return {
        "auc": None if area is None else round(area, 5),
        "logloss": round(float(log_losses(at_risk, score).mean()), 5),
        "ece": round(calibration_error(at_risk, score), 5),
    }


def groups_of(oulad: Oulad, test: Snapshots, field: str) -> list[str]:
    """Return the group of each row by a field of the enrolment, `unknown` where it is not known."""
    return [str(oulad.enrolments[user].context.get(field, "unknown")) for user in test.user.tolist()]


def fairness(oulad: Oulad, test: Snapshots, score: NDArray[np.floating]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return figures of the serving model by the groups of each field that the folder has."""
    at_risk = test.outcome >= AT_RISK
    found = {}
    for field in SLICES:
        groups = groups_of(oulad, test, field)
        if set(groups) == {"unknown"}:
            continue
        areas = abroca(groups, at_risk, score)
        found[field] = {
            group: {
                name: round(value, 5) if isinstance(value, float) else value
                for name, value in (asdict(of) | {"abroca": areas[group]}).items()
            }
            for group, of in by_slice(groups, at_risk, score).items()
        }
    return found


def shown(found: RiskEvaluation) -> Shown:
    """Return what a page shows of an evaluation."""
    groups = {field: groups_of(found.oulad, found.test, field) for field in found.report["fairness"]}
    return Shown(
        found.day, found.score.astype(np.float64), found.test.outcome, groups, found.trained.attention(found.test),
        found.trained.importance(found.test),
    )  # fmt: skip


def write_predictions(found: RiskEvaluation, path: Path) -> None:
    """Write what was said of each test enrolment on each day, CSV, gzipped: its id in events, the day, the score."""
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("enrolment", "day", "score"))
        for user, day, score in zip(
            *(each.tolist() for each in (found.test.user, found.day, found.score)), strict=True
        ):
            writer.writerow((found.oulad.enrolments[user].user_id, day, f"{score:.6f}"))


def table(report: Mapping[str, Any]) -> str:
    """Return a report as a table for people."""
    days = list(report["by_day"])
    head = (*(f"day {day}" for day in days), "AUC", "log loss", "ECE", "F1")
    about = f"{report['file']}: {report['n']} predictions of {report['users']['test']} students, seed {report['seed']}"
    lines = [
        f"{about}; AUC at the end of each day, and over all",
        f"{'':24}" + "".join(f"{name:>10}" for name in head),
    ]
    for name, of in report["models"].items():
        values = [*(of["by_day"][day]["auc"] for day in days), *(of[key] for key in ("auc", "logloss", "ece", "f1"))]
        cells = "".join(f"{'' if value is None else format(value, '.4f'):>10}" for value in values)
        lines.append(f"{name + (' (serves)' if name == report['serving'] else ''):24}{cells}")
    return "\n".join(lines)
