"""A first artifact from a file of past answers: what `stream train` does."""

import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from stream.errors import UserError
from stream.files.answers import AnswersFile
from stream.files.formats import AUTO, read_answers
from stream.learning.history import TRAINING, VALIDATION, History, prepare
from stream.learning.offline import Fitted, Recipe, fit, runs_of
from stream.learning.progress import remark, telling
from stream.learning.publication import Publication, publish, weights_digest
from stream.learning.search import needs_optuna, search
from stream.learning.tracking import Run, make_folder, tracked
from stream.models.artifacts import Span
from stream.models.dkt import KNOWLEDGE
from stream.models.store import Store

_HELD_OUT = 10
"""One in so many users is held out: they say when training is over."""


def train_file(
    file: Path,
    out: Path,
    *,
    recipe: Recipe,
    trials: int,
    records: Path,
    write: Callable[[str], None],
    format_: str = AUTO,
) -> dict[str, float]:
    """
    Train on a file and write the artifact; it appears whole or not at all.

    Args:
        file: Past answers.
        out: Folder of the artifact; must not exist yet.
        recipe: How.
        trials: Recipes to search through; 0 takes the one given.
        records: Folder in which each training is recorded.
        write: Takes the lines about progress where there is no terminal.
        format_: Of the file, one of `stream.files.formats.FORMAT_NAMES`.

    Returns:
        Its figures on users held out, beside the fallback's.

    Raises:
        UserError: If the file cannot be read, is too small, `out` exists already, or the search lacks Optuna.
        StoreError: If the artifact could not be written.
    """
    check_out(out)
    if trials:
        needs_optuna()
    make_folder(records)
    use_cores()
    answers = read_answers(file, format_)
    remark(answers.told())
    history = History.of(answers)
    if history.users < _HELD_OUT:
        raise UserError(f"{file}: expected answers of at least {_HELD_OUT} users to learn from, found {history.users}")
    part = np.full(history.users, TRAINING, np.int8)
    part[np.random.default_rng(recipe.seed).permutation(history.users)[: history.users // _HELD_OUT]] = VALIDATION
    with telling("reading", write) as teller:
        known = prepare(history, part, recipe.seed, teller.advance)
        teller.say(f"read {len(history.user)} answers of {history.users} users")
    training, validation = (runs_of(history, known.features, part == which) for which in (TRAINING, VALIDATION))

    def attempt(run: Run, tried: Recipe) -> Fitted:
        with telling("training", write) as teller:
            fitted = fit(training, validation, len(history.names), tried, teller, run.epochs.append)
        run.figures.update(fitted.figures)
        return fitted

    def trial(tried: Recipe) -> Fitted:
        with tracked(Run(file.name, answers.digest, asdict(tried)), records) as run:
            return attempt(run, tried)

    found = search(recipe, trials, trial) if trials else None
    chosen = recipe if found is None else found[0]
    with tracked(Run(file.name, answers.digest, asdict(chosen)), records) as run:
        fitted = attempt(run, chosen) if found is None else found[1]
        run.figures.update(fitted.figures)
        state_format = f"lstm-1x{chosen.hidden}-{KNOWLEDGE}-{weights_digest(fitted.network)}"
        span = _span(answers, history, int(training.there.sum()), int((part == TRAINING).sum()))
        about = Publication(
            KNOWLEDGE, version_of(out), state_format, history.names, span, fitted.figures, asdict(chosen), validation
        )
        publish(fitted.network, Store(str(out.parent)), out.name, about)
        run.artifact = out
    return fitted.figures


def check_out(out: Path) -> None:
    """
    Check that an artifact can be made.

    Raises:
        UserError: If there is something already, or no folder to make it in.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; choose another folder for --out")
    if out.parent.exists() and not out.parent.is_dir():
        raise UserError(f"{out}: expected a folder to make it in, found the file {out.parent}; choose another --out")


def version_of(out: Path) -> int:
    """Return the version that a folder's name says, `v7` for instance; 1 if it says none."""
    return int(out.name[1:]) if out.name[:1] == "v" and out.name[1:].isdigit() else 1


def use_cores() -> None:
    """Have torch use half of the machine's threads: hyper-threads of one core only wait for each other."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))


def _span(answers: AnswersFile, history: History, count: int, users: int) -> Span:
    if not answers.has_timestamps:
        return Span(answers=count, users=users)
    first, last = (
        datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") for at in (history.at.min(), history.at.max())
    )
    return Span(answers=count, users=users, first_at=first, last_at=last)
