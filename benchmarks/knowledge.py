"""
How well pyKT's models predict a file's answers: `python -m benchmarks.knowledge FILE --report OUT.json`.

The users are split as `stream evaluate` splits them, and every answer of the test users counts: pyKT's models say
nothing of a user's first answer, so there the training users' mean of the item stands in, and a second pair of figures
leaves those answers out. `--ours` puts what `stream evaluate --predictions` wrote into the same table. How pyKT is run
stands at the head of `benchmarks/peers/pykt_models.py`; each model runs alone, on one thread.

Answers with several skills have their combination as concept (pyKT would repeat the answer for each, and the second
would know the first's outcome). Gaps are between moments at which answers were asked, as ours are. `dkt/items` is dkt
with items as its concepts; most of pyKT's models do not look at items else.
"""

import csv
import gzip
import json
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.environments import ROOT, environment, python_of, versions
from stream.errors import UserError
from stream.files.answers import AnswersFile
from stream.files.formats import read_answers
from stream.learning.history import TEST, TRAINING, VALIDATION, History
from stream.models.quality import auc, log_losses

SEED = 42
DEFAULT = "dkt,dkt/items,dkt_forget/items,hawkes"
"""DKT, and the two of the best AUC on the validation users of lkt_memphis among those that end within the limit."""

OURS = "learnerstream"
_FOLDS = {VALIDATION: 0, TRAINING: 1, TEST: -1}
_COLUMNS = (
    ("AUC", "auc", ".4f"), ("log loss", "logloss", ".4f"),
    ("AUC", "auc_predicted", ".4f"), ("log loss", "logloss_predicted", ".4f"),
    ("validation", "auc_validation", ".4f"), ("epochs", "epochs", ",d"), ("seconds", "seconds", ",.0f"),
    ("parameters", "parameters", ",d"),
)  # fmt: skip


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option("--models", default=DEFAULT, show_default=True, help="Of pyKT, joined by commas.")
@click.option("--ours", type=click.Path(path_type=Path), help="Predictions that `stream evaluate` wrote of this file.")
@click.option("--limit", default=1200.0, show_default=True, help="Seconds that a model may take.")
def main(file: Path, report: Path | None, models: str, ours: Path | None, limit: float) -> None:
    """Train models of pyKT on some users of FILE and predict others."""
    try:
        contest = Contest.of(read_answers(file))
        found = {} if ours is None else {OURS: contest.figures(read_predictions(ours, contest))}
    except UserError as error:
        raise click.ClickException(str(error)) from error
    python = python_of("pykt")
    failed: dict[str, str] = {}
    for name in models.split(","):
        click.echo(f"{name} ...", err=True)
        try:
            found[name] = run(contest, python, name, limit)
        except ModelFailed as error:
            failed[name] = str(error)
    figures = {
        "file": file.name, "digest": contest.file.digest, "seed": SEED, "n": len(contest.rows),
        "users": {name: int((contest.part == which).sum())
                  for name, which in (("training", TRAINING), ("validation", VALIDATION), ("test", TEST))},
        "versions": {"python": platform.python_version(), "numpy": version("numpy")}
        | versions(python, "pykt-toolkit", "torch", "pandas", "scikit-learn"),
        "models": found, "failed": failed,
    }  # fmt: skip
    if report is not None:
        report.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    click.echo(table(figures))


class ModelFailed(Exception):
    """A model of pyKT said nothing; the message has why. The others are not affected."""


@dataclass(frozen=True, slots=True)
class Contest:
    """
    A file, and which of its answers are to be predicted.

    Attributes:
        file: Read.
        history: Its columns.
        part: Of each user, int8 `(users,)`.
        rows: Of the file, in its order, int64 `(M,)`.
        is_first: Whether each is its user's first, bool `(M,)`.
        item_mean: The training users' share of right answers to the item of each, `(M,)`.
    """

    file: AnswersFile
    history: History
    part: NDArray[np.int8]
    rows: NDArray[np.int64]
    is_first: NDArray[np.bool_]
    item_mean: NDArray[np.float64]

    @classmethod
    def of(cls, file: AnswersFile) -> "Contest":
        """Split a file's users."""
        history = History.of(file)
        part = history.split(SEED)
        part_of = part[history.user]
        rows = np.flatnonzero(part_of == TEST)
        items = numbers([answer.item_id for answer in file.answers])
        is_training = part_of == TRAINING
        count = np.bincount(items[is_training], minlength=items.max() + 1)
        right = np.bincount(items[is_training], history.correct[is_training], minlength=items.max() + 1)
        mean = (right + history.correct[is_training].mean()) / (count + 1)  # one answer of all items' mean more
        return cls(file, history, part, rows, history.turn[rows] == 0, mean[items[rows]])

    def figures(self, p_correct: NDArray[np.float64]) -> dict[str, Any]:
        """
        Return the figures of predictions of the rows.

        Args:
            p_correct: `(M,)`, NaN where there is none.
        """
        is_there = ~np.isnan(p_correct) & ~self.is_first
        filled = np.where(np.isnan(p_correct), self.item_mean, p_correct)
        correct = self.history.correct[self.rows]
        return {
            "auc": auc(correct, filled),
            "logloss": float(log_losses(correct, filled).mean()),
            "n_predicted": int(is_there.sum()),
            "auc_predicted": auc(correct[is_there], filled[is_there]),
            "logloss_predicted": float(log_losses(correct[is_there], filled[is_there]).mean()),
        }


def numbers(names: list[str]) -> NDArray[np.int64]:
    """Return each name's number, in order of appearance, from 1: some of pyKT's models take 0 for padding."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known) + 1) for name in names])


def read_predictions(path: Path, contest: Contest) -> NDArray[np.float64]:
    """
    Return our predictions of the contest's rows.

    Raises:
        UserError: If the file holds others.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        said = {int(cells["row"]): float(cells["p_correct"]) for cells in csv.DictReader(file)}
    if said.keys() != set(contest.rows.tolist()):
        raise UserError(
            f"{path}: expected predictions of {len(contest.rows)} answers of the test users of {contest.file.path}, "
            f"seed {SEED}, found {len(said)} of others; make them by `stream evaluate` of the same file"
        )
    return np.array([said[row] for row in contest.rows.tolist()])


def run(contest: Contest, python: Path, name: str, limit_s: float) -> dict[str, Any]:
    """
    Return the figures of one model.

    Raises:
        ModelFailed: If it does not come to an end.
    """
    model, _, concepts = name.partition("/")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        job = write(contest, folder, by_item=concepts == "items") | {"model": model, "seed": SEED}
        (folder / "job.json").write_text(json.dumps(job), "utf-8")
        command = [str(python), "-u", "-m", "benchmarks.peers.pykt_models", str(folder)]
        started = time.monotonic()
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ModelFailed(f"did not finish in {limit_s:.0f} s{came_to(error.stdout)}") from error
        if done.returncode != 0:
            raise ModelFailed((done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1])
        told: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
        said: NDArray[np.float64] = np.load(folder / "predictions.npy")
    return contest.figures(in_place(contest, said)) | told | {"seconds": round(time.monotonic() - started, 1)}


def came_to(output: bytes | str | None) -> str:
    """Return how far pyKT's training came, as it says it of each epoch, or nothing."""
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""
    epochs = [line for line in text.splitlines() if line.startswith("Epoch: ")]
    return f" ({epochs[-1].partition(', train loss')[0]})" if epochs else ""


def write(contest: Contest, folder: Path, *, by_item: bool) -> dict[str, int]:
    """Write the users' histories for the peer, a user a line, and return what it has to know of them."""
    answers, history = contest.file.answers, contest.history
    items = numbers([answer.item_id for answer in answers])
    concepts = items if by_item else numbers([";".join(answer.skills) for answer in answers])
    columns = {"questions": items, "concepts": concepts, "responses": history.correct.astype(np.int64)}
    if contest.file.has_timestamps:
        columns["timestamps"] = asked_at_ms(history)
    of_users = rows_of_users(history)
    with (folder / "users.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fold", "uid", *columns))
        for user, rows in enumerate(of_users):
            cells = (",".join(map(str, column[rows].tolist())) for column in columns.values())
            writer.writerow((_FOLDS[int(contest.part[user])], user, *cells))
    return {"questions": int(items.max()) + 1, "concepts": int(concepts.max()) + 1, "longest": max(map(len, of_users))}


def asked_at_ms(history: History) -> NDArray[np.int64]:
    """Return when each answer was asked, milliseconds since the epoch, for no user before an earlier one, `(N,)`."""
    asked_at = history.at - np.nan_to_num(history.response_time_s.astype(np.float64))
    for rows in rows_of_users(history):
        asked_at[rows] = np.maximum.accumulate(asked_at[rows])
    return np.round(1000 * asked_at).astype(np.int64)


def rows_of_users(history: History) -> list[NDArray[np.int64]]:
    """Return the rows of each user, in order."""
    order = np.argsort(history.user, kind="stable")
    return np.split(order, np.cumsum(np.bincount(history.user, minlength=history.users))[:-1])


def in_place(contest: Contest, said: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the peer said, test user after test user and without the first answers, in the order of the rows."""
    of_users = rows_of_users(contest.history)
    asked = np.concatenate([of_users[user][1:] for user in np.flatnonzero(contest.part == TEST)])
    if len(asked) != len(said):
        raise ModelFailed(f"{len(asked)} predictions were expected, {len(said)} came")
    of_all = np.full(len(contest.history.user), np.nan)
    of_all[asked] = said
    return of_all[contest.rows]


def table(figures: dict[str, Any]) -> str:
    """Return a report as a table for people."""
    lines = [f"{figures['file']}: {figures['n']} answers of {figures['users']['test']} users, seed {figures['seed']}"]
    lines.append(f"{'':16}{'all answers':>22}{'but the first ones':>22}")
    lines.append(f"{'':16}" + "".join(f"{title:>11}" for title, *_ in _COLUMNS))
    for name, found in figures["models"].items():
        cells = "".join(f"{format(found[key], form) if key in found else '':>11}" for _, key, form in _COLUMNS)
        lines.append(f"{name:16}{cells}" + ("  knows answers before they are given" if found.get("leaks") else ""))
    lines += [f"{name:16}  {reason}" for name, reason in figures["failed"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
