"""A first artifact from a file of past answers: what `stream train` does."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from stream.demo.answers import read_answers
from stream.errors import UserError
from stream.learning.history import TRAINING, VALIDATION, History, prepare
from stream.learning.offline import LEARNING_RATE, fit, runs_of
from stream.learning.update import Wish, publish
from stream.models.artifacts import Span
from stream.models.dkt import KNOWLEDGE

_HELD_OUT = 10
"""One in so many users is held out: they say when training is over."""


def train_file(file: Path, out: Path, epochs: int, seed: int, tell: Callable[[str], None]) -> dict[str, float]:
    """
    Train on a file and write the artifact; it appears whole or not at all.

    Returns:
        Its figures on users held out, beside the fallback's.

    Raises:
        UserError: If the file cannot be read, is too small, or `out` exists already.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; choose another folder for --out")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    answers = read_answers(file)
    history = History.of(answers)
    if history.users < _HELD_OUT:
        raise UserError(f"{file}: expected answers of at least {_HELD_OUT} users to learn from, found {history.users}")
    part = np.full(history.users, TRAINING, np.int8)
    part[np.random.default_rng(seed).permutation(history.users)[: history.users // _HELD_OUT]] = VALIDATION
    known = prepare(history, part, seed)
    tell(f"read {len(history.user)} answers of {history.users} users")
    training, validation = (runs_of(history, known.features, part == which) for which in (TRAINING, VALIDATION))
    network, figures = fit(training, validation, len(history.names), epochs, LEARNING_RATE, seed, tell)
    version = int(out.name[1:]) if out.name[:1] == "v" and out.name[1:].isdigit() else 1
    state_format = f"lstm-{network.shape.layers}x{network.shape.hidden}-{KNOWLEDGE}-file-{answers.digest[:12]}-{seed}"
    span = Span(answers=int(training.there.sum()), users=int((part == TRAINING).sum()))
    wish = Wish(KNOWLEDGE, version, out, training, history.names, None, None, 0.0, LEARNING_RATE, seed)
    publish(network, out, wish, state_format, figures, span)
    return figures
