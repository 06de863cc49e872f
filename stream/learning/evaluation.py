"""
How good predictions are on a file of past answers: what `stream evaluate` does.

Users are split once; the network learns from the training users and is stopped by the validation users, and every
answer of the test users is predicted from that user's earlier answers only, by the artifact's own graph on the worker's
own records. What is known of the predicted answer is its item, its skills and when it was asked.

Source:
    Naeini et al. 2015 (expected calibration error); Pavlik et al. 2009 (logistic regression on counts).
"""

import csv
import gzip
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream.demo.answers import AnswersFile, read_answers
from stream.errors import UserError
from stream.learning.first import use_cores
from stream.learning.history import TEST, TRAINING, VALIDATION, History, Known, prepare, walk
from stream.learning.network import Network, export
from stream.learning.offline import Recipe, fit, runs_of
from stream.learning.page import render
from stream.learning.progress import Teller, telling
from stream.learning.references import Prediction, Reference
from stream.learning.references.boosting import Boosting
from stream.learning.references.dkt import PlainDkt
from stream.learning.references.embeddings import EmbeddingCorrectness, EmbeddingTime
from stream.learning.references.simple import ItemMean, Logistic, TimeMedian
from stream.models.dkt import KNOWLEDGE, Dkt
from stream.models.fallback import Fallback
from stream.models.lnirt import MIN_SECONDS, Z_90
from stream.models.quality import auc, brier, calibration_error, log_losses
from stream.models.runtime import Graph
from stream.ports import Identity, Predictor

FIGURES = ("auc", "logloss", "brier", "ece", "time_mae_s", "time_mae_s_clipped_p99", "time_coverage_80")
_SHORT = dict(zip(FIGURES, ("AUC", "log loss", "Brier", "ECE", "MAE s", "clipped", "cover 80"), strict=True))
NETWORK, LNIRT = "knowledge", "lnirt"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    What came out.

    Attributes:
        report: As JSON; see `docs/evaluation.md`.
        rows: Of the file, that were predicted, `(M,)`.
        serving: What the model that would serve said of them, `(N,)`.
        said: What each model said, by its name, of the test users at least, `(N,)`.
        history: All answers.
        known: Before each of them.
        network: That was learned.
        epochs: Figures of each epoch of training; see `stream.learning.offline.fit`.
    """

    report: dict[str, Any]
    rows: NDArray[np.int64]
    serving: Prediction
    said: dict[str, Prediction]
    history: History
    known: Known
    network: Network
    epochs: list[dict[str, float]]


def evaluate_file(
    file: Path,
    *,
    recipe: Recipe,
    everything: bool,
    report: Path | None,
    predictions: Path | None,
    page: Path | None,
    write: Callable[[str], None],
) -> None:
    """
    Evaluate a file, tell the table, and write what is asked for.

    Raises:
        UserError: As `evaluate` does, or if a file cannot be written.
    """
    for path in (report, predictions, page):
        if path is not None and not path.resolve().parent.is_dir():
            raise UserError(f"{path}: the folder {path.parent} does not exist; make it, or choose another place")
    use_cores()
    answers = read_answers(file)
    with telling("evaluating", write) as teller:
        found = evaluate(answers, recipe=recipe, everything=everything, teller=teller)
    if report is not None:
        report.write_text(json.dumps(found.report, indent=1) + "\n", "utf-8")
    if predictions is not None:
        write_predictions(found, predictions)
    if page is not None:
        history = found.history
        page.write_text(
            render(found.report, history, found.rows, found.serving, history.names, found.epochs), encoding="utf-8"
        )
    write(table(found.report))


def write_predictions(found: Evaluation, path: Path) -> None:
    """Write what the serving model said of each test answer, CSV, gzipped: row of the file, probability, times."""
    said = found.serving
    assert said.p_correct is not None  # noqa: S101 (what serves says something of both)
    assert said.mu is not None  # noqa: S101
    assert said.sigma is not None  # noqa: S101
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "p_correct", "time_p10", "time_p50", "time_p90"))
        for row in found.rows.tolist():
            mu, wide = said.mu[row], Z_90 * said.sigma[row]
            times = (f"{value:.4g}" for value in np.exp([mu - wide, mu, mu + wide]))
            writer.writerow((row, f"{said.p_correct[row]:.6f}", *times))


def table(report: Mapping[str, Any]) -> str:
    """Return a report as a table for people."""
    lines = [f"{report['file']}: {report['n']} answers of {report['users']['test']} users, seed {report['seed']}"]
    lines.append(f"{'':24}" + "".join(f"{_SHORT[name]:>10}" for name in FIGURES))
    for name, found in report["models"].items():
        cells = "".join(f"{'' if found[key] is None else format(found[key], '.4f'):>10}" for key in FIGURES)
        lines.append(f"{name + (' (serves)' if name == report['serving'] else ''):24}{cells}")
    return "\n".join(lines)


def evaluate(file: AnswersFile, *, recipe: Recipe, everything: bool, teller: Teller) -> Evaluation:
    """
    Train on a part of a file's users and predict another's answers.

    Args:
        file: Past answers.
        recipe: Of the network; its seed is the split's too.
        everything: The reference models too.
        teller: Told of progress.

    Raises:
        UserError: If there are too few users, or all answers are right or all wrong.
    """
    started = time.monotonic()
    history = History.of(file)
    seed, part = recipe.seed, history.split(recipe.seed)
    _check(file, history, part)
    known = prepare(history, part, seed, lambda share: teller.advance(share * _READING))
    teller.say(f"read {len(history.user)} answers of {history.users} users")
    training, validation = (runs_of(history, known.features, part == which) for which in (TRAINING, VALIDATION))
    epochs: list[dict[str, float]] = []
    learning_from = time.monotonic()
    learning = _Part(teller, 1 - _READING - (_OTHERS if everything else 0))
    network = fit(training, validation, len(history.names), recipe, learning, epochs.append).network
    learned_s = time.monotonic() - learning_from
    graph = Dkt(Graph(export(network)), Identity(KNOWLEDGE, 1, "champion", "evaluated"), history.names)
    said = {
        NETWORK: predict(history, part != TRAINING, known, graph),
        LNIRT: predict(history, part != TRAINING, known, Fallback(KNOWLEDGE)),
    }
    part_of = part[history.user]
    serving = min(said, key=lambda name: _log_loss(history, said[name], part_of == VALIDATION))
    if everything:
        is_training, is_validation = part_of == TRAINING, part_of == VALIDATION
        references = _references(seed)
        for name, model in references.items():
            teller.say(f"fitting {name}")
            said[name] = model.fit(history, known, is_training, is_validation).predict(history, known)
            teller.advance(_OTHERS / len(references))
    elif serving != NETWORK:
        said = {serving: said[serving]}
    tested = np.flatnonzero(part_of == TEST)
    cut_s = _p99(history, part_of == TRAINING)
    report = {
        "file": file.path.name,
        "digest": file.digest,
        "task": KNOWLEDGE,
        "protocol": "user-split",
        "seed": seed,
        "n": len(tested),
        "users": {"training": int((part == TRAINING).sum()), "validation": int((part == VALIDATION).sum()),
                  "test": int((part == TEST).sum())},
        "serving": serving,
        "models": {name: figures(history, each, tested, cut_s) for name, each in said.items()},
        "seconds": round(time.monotonic() - started, 1),
        "training_seconds": round(learned_s, 1),
        "epochs": len(epochs),
        "versions": {"python": platform.python_version(), "torch": torch.__version__}
        | {name: version(name) for name in ("numpy", "onnxruntime")},
    }  # fmt: skip
    return Evaluation(report, tested, said[serving], said, history, known, network, epochs)


_READING, _OTHERS = 0.2, 0.4
"""Of the work, about: reading the file and computing features; the reference models."""


@dataclass(frozen=True, slots=True)
class _Part:
    """
    Tells of a part of the work.

    Attributes:
        teller: Told.
        share: Of the whole work.
    """

    teller: Teller
    share: float

    def say(self, line: str) -> None:
        """Tell of something that has happened."""
        self.teller.say(line)

    def advance(self, share: float) -> None:
        """Tell of a share of this part."""
        self.teller.advance(share * self.share)


def _references(seed: int) -> dict[str, Reference]:
    return {
        "item_mean": ItemMean(),
        "logistic": Logistic(),
        "boosting": Boosting(seed),
        "dkt": PlainDkt(seed),
        "embedding_correctness": EmbeddingCorrectness(seed),
        "median": TimeMedian(),
        "item_median": TimeMedian(by_item=True),
        "item_median_user_speed": TimeMedian(by_item=True, by_user=True),
        "embedding_time": EmbeddingTime(seed),
    }


def _check(file: AnswersFile, history: History, part: NDArray[np.int8]) -> None:
    parts = {"training": TRAINING, "validation": VALIDATION, "test": TEST}
    if not all((part == which).any() for which in parts.values()):
        raise UserError(
            f"{file.path}: expected at least {_LEAST_USERS} users, so that each part has one, found {history.users}; "
            "use a file with more users"
        )
    for name, which in parts.items():
        correct = history.correct[part[history.user] == which]
        if correct.all() or not correct.any():
            raise UserError(
                f"{file.path}: expected right and wrong answers among the {name} users, found only "
                f"{'right' if correct.all() else 'wrong'} ones; check the column correct, or use more users"
            )


_LEAST_USERS = 8


def predict(history: History, chosen: NDArray[np.bool_], known: Known, predictor: Predictor) -> Prediction:
    """
    Return what a predictor says of the answers of users, through the states that it would have when serving.

    Args:
        history: Past answers.
        chosen: Whose, bool `(users,)`.
        known: With the item parameters that they meet.
        predictor: Serves.
    """
    count = len(history.user)
    p_correct, mu, sigma = np.full(count, 0.5), np.zeros(count), np.ones(count)
    hidden = np.zeros((int(chosen.sum()), predictor.hidden_size), np.float16)
    held = hidden.copy()
    for wave in walk(history, chosen, known.items):
        who = wave.who
        held[who[wave.began]] = hidden[who[wave.began]]
        asked_before = np.zeros(len(who), bool)
        hidden[who], forecast = predictor.step(
            hidden[who], wave.answers, wave.questions, wave.features, asked_before, wave.features
        )
        if not wave.began.all():
            forecast = predictor.predict(held[who], wave.questions, wave.features)
        p_correct[wave.rows], mu[wave.rows], sigma[wave.rows] = forecast.p_correct, forecast.mu, forecast.sigma
    return Prediction(p_correct, mu, sigma)


def _log_loss(history: History, said: Prediction, mine: NDArray[np.bool_]) -> float:
    assert said.p_correct is not None  # noqa: S101 (both that may serve say something of correctness)
    return float(log_losses(history.correct[mine], said.p_correct[mine]).mean())


def _p99(history: History, mine: NDArray[np.bool_]) -> float | None:
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
