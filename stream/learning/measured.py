"""
What an evaluation says: figures of each model, a table, a report, predictions.

Source:
    Naeini et al. 2015 (expected calibration error).
"""

import csv
import gzip
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.learning.history import History
from stream.learning.references import Prediction
from stream.models.lnirt import MIN_SECONDS, Z_90
from stream.models.quality import auc, brier, calibration_error, log_losses

FIGURES = ("auc", "logloss", "brier", "ece", "time_mae_s", "time_mae_s_clipped_p99", "time_coverage_80")
_SHORT = dict(zip(FIGURES, ("AUC", "log loss", "Brier", "ECE", "MAE s", "clipped", "cover 80"), strict=True))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    What came out.

    Attributes:
        report: As JSON; see `docs/evaluation.md`.
        rows: Of the history, that were predicted, `(M,)`.
        file_rows: Where each row of the history stands in the file, from 0, `(N,)`.
        said: What each model said, by its name, of those rows at least, `(N,)`.
    """

    report: dict[str, Any]
    rows: NDArray[np.int64]
    file_rows: NDArray[np.int64]
    said: dict[str, Prediction]

    @property
    def serving(self) -> Prediction:
        """What the model that would serve said."""
        return self.said[self.report["serving"]]


def write_predictions(found: Evaluation, path: Path) -> None:
    """Write what the serving model said of each test answer, CSV, gzipped: row of the file, probability, times."""
    said = found.serving
    assert said.p_correct is not None  # noqa: S101 (what serves says something of both)
    assert said.mu is not None  # noqa: S101
    assert said.sigma is not None  # noqa: S101
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "p_correct", "time_p10", "time_p50", "time_p90"))
        in_file = found.file_rows[found.rows]
        for row in found.rows[np.argsort(in_file)].tolist():
            mu, wide = said.mu[row], Z_90 * said.sigma[row]
            times = (f"{value:.4g}" for value in np.exp([mu - wide, mu, mu + wide]))
            writer.writerow((found.file_rows[row], f"{said.p_correct[row]:.6f}", *times))


def table(report: Mapping[str, Any]) -> str:
    """Return a report as a table for people."""
    lines = [f"{report['file']}: {report['n']} answers of {report['users']['test']} users, seed {report['seed']}"]
    lines.append(f"{'':24}" + "".join(f"{_SHORT[name]:>10}" for name in FIGURES))
    for name, found in report["models"].items():
        cells = "".join(f"{'' if found[key] is None else format(found[key], '.4f'):>10}" for key in FIGURES)
        lines.append(f"{name + (' (serves)' if name == report['serving'] else ''):24}{cells}")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Return what was at work."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy", "onnxruntime")}


def longest_s(history: History, mine: NDArray[np.bool_]) -> float | None:
    """Return the 99th percentile of the response times of answers, bool `(N,)`; None where there are none."""
    times = history.response_time_s[mine]
    times = times[~np.isnan(times)]
    return float(np.percentile(times, 99)) if len(times) else None


def figures(
    history: History, said: Prediction, rows: NDArray[np.int64], cut_s: float | None
) -> Mapping[str, float | None]:
    """
    Return the figures of one model.

    Args:
        history: Past answers.
        said: What the model said.
        rows: Of which answers.
        cut_s: Response times, seconds, count as no longer than this in the clipped error; None where there are none.
    """
    found: dict[str, float | None] = dict.fromkeys(FIGURES)
    if said.p_correct is not None:
        correct, p = history.correct[rows], said.p_correct[rows]
        found["auc"], found["brier"], found["ece"] = auc(correct, p), brier(correct, p), calibration_error(correct, p)
        found["logloss"] = float(log_losses(correct, p).mean())
    timed = rows[~np.isnan(history.response_time_s[rows])]
    if said.mu is not None and said.sigma is not None and cut_s is not None and len(timed):
        seconds, mu = history.response_time_s[timed].astype(np.float64), said.mu[timed]
        median, wide = np.exp(mu), Z_90 * said.sigma[timed]
        log_s = np.log(np.maximum(seconds, MIN_SECONDS))
        found["time_mae_s"] = float(np.abs(seconds - median).mean())
        found["time_mae_s_clipped_p99"] = float(np.abs(np.minimum(seconds, cut_s) - np.minimum(median, cut_s)).mean())
        found["time_coverage_80"] = float(((log_s >= mu - wide) & (log_s <= mu + wide)).mean())
    return {name: None if value is None else round(value, 5) for name, value in found.items()}
