"""
From past answers to a first network: runs, training, early stopping, calibration.

What was known before each answer is `stream.learning.history`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream.learning.calibration import calibrate
from stream.learning.forward import forecasts
from stream.learning.history import History
from stream.learning.network import Network
from stream.learning.progress import Teller
from stream.learning.runs import Runs
from stream.learning.update import WEIGHT_DECAY, Training, copy_weights, fresh, shape_for
from stream.models.dkt import item_rows, time_input
from stream.models.features import COLUMN
from stream.models.lnirt import sigmoid
from stream.models.quality import auc, log_losses


def runs_of(history: History, features: NDArray[np.float32], chosen: NDArray[np.bool_]) -> Runs:
    """
    Return the answers of users as runs of at most `WINDOW`; a longer past goes on in the next one.

    Args:
        history: Past answers.
        features: Of each, `(N, COUNT)`.
        chosen: Whose, bool `(users,)`.
    """
    rows = np.argsort(history.user, kind="stable")
    rows = rows[chosen[history.user[rows]]]
    place = history.turn[rows] % WINDOW
    return in_runs(history, features, rows, np.cumsum(place == 0) - 1, place)


def in_runs(
    history: History,
    features: NDArray[np.float32],
    rows: NDArray[np.int64],
    run: NDArray[np.int64],
    place: NDArray[np.int64],
) -> Runs:
    """
    Return answers as runs; what served them is taken to be the fallback.

    Args:
        history: Past answers.
        features: Of each, `(N, COUNT)`.
        rows: Of the history, `(M,)`.
        run: In which each stands, from 0, `(M,)`.
        place: And where there, `(M,)`.
    """
    shape = (int(run.max(initial=-1)) + 1, int(place.max(initial=0)) + 1)

    def padded(values: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        out = np.full((*shape, *values.shape[1:]), fill, values.dtype)
        out[run, place] = values
        return out

    items = item_rows(np.array([history.questions[row].item for row in rows.tolist()], np.uint64))
    seconds = padded(history.response_time_s[rows], np.nan)
    p_fallback = sigmoid(features[rows][:, COLUMN["lnirt_logit"]])
    return Runs(
        padded(history.skill_rows[rows]), padded(items), padded(history.correct[rows].astype(np.int64)),
        time_input(seconds),
        np.zeros(shape, np.int64), padded(features[rows]), padded(np.ones(len(rows), bool)), padded(rows),
        np.zeros(shape, np.int64), padded(p_fallback), padded(p_fallback),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    How a network is made.

    Attributes:
        seed: Of the weights and the order.
        epochs: At most.
        learning_rate: AdamW's, at first: an update of what serves starts from what is learned, and may be bolder.
        weight_decay: AdamW's.
        hidden: Of the LSTM.
        item: Width of the embedding of items; 0 chooses by how often items are met.
        head: Width of the head.
        dropout: In the head.
    """

    seed: int = 42
    epochs: int = 30
    learning_rate: float = 0.002
    weight_decay: float = WEIGHT_DECAY
    hidden: int = 64
    item: int = 0
    head: int = 128
    dropout: float = 0.3


WINDOW = 128
"""Answers of a run in training: the features carry what lies further back."""

_PATIENCE = 4
"""Epochs without a better log loss after which training stops."""

_SLOWER = 0.4
_LEAST_GAIN = 1e-4


@dataclass(frozen=True, slots=True)
class Fitted:
    """
    What came out.

    Attributes:
        network: Trained and calibrated, for serving.
        figures: On the users held out, calibrated.
    """

    network: Network
    figures: dict[str, float]


def device() -> torch.device:
    """Return where training runs: on the graphics processor where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    training: Runs,
    validation: Runs,
    skills: int,
    recipe: Recipe,
    teller: Teller,
    on_epoch: Callable[[dict[str, float]], None],
) -> Fitted:
    """
    Return a network trained on runs, stopped early and calibrated by other users' runs.

    What is kept is the average of the latest weights. The learning rate falls, from the best weights so far, whenever
    an epoch has not helped.

    Args:
        training: Learned from.
        validation: Of other users.
        skills: In the vocabulary.
        recipe: How.
        teller: Told of each epoch.
        on_epoch: Given each epoch's figures: epoch, loss, learning_rate; logloss and auc of the users held out.
    """
    torch.manual_seed(recipe.seed)
    item = recipe.item or item_width(training)
    shape = replace(shape_for(skills), hidden=recipe.hidden, item=item, head=recipe.head, dropout=recipe.dropout)
    learning = Training(
        fresh(shape, training).to(device()), training, recipe.learning_rate, recipe.seed, recipe.weight_decay
    )
    network = learning.average
    best, best_weights, waited = evaluate(network, validation)["logloss"], copy_weights(network), 0
    for epoch in range(recipe.epochs):
        rate = learning.learning_rate
        loss = learning.epoch(_begun, lambda share: teller.advance(share / recipe.epochs))
        found = evaluate(network, validation)
        on_epoch(
            {"epoch": epoch + 1, "loss": loss, "learning_rate": rate, "logloss": found["logloss"], "auc": found["auc"]}
        )
        teller.say(f"epoch {epoch + 1}: log loss {found['logloss']:.4f}, AUC {found['auc']:.4f} on users held out")
        if found["logloss"] < best - _LEAST_GAIN:
            best, best_weights, waited = found["logloss"], copy_weights(network), 0
        else:
            learning.go_back(best_weights, _SLOWER)
            waited += 1
            if waited == _PATIENCE:
                break
    network.load_state_dict(best_weights)
    network.cpu().eval()
    calibrate(network, validation)
    return Fitted(network, evaluate(network, validation))


def item_width(runs: Runs) -> int:
    """Return the width of the embedding of items: items that are met seldom cannot fill a wide one."""
    return 32 if runs.there.sum() >= _OFTEN * len(np.unique(runs.item[runs.there])) else 8


_OFTEN = 50
"""Answers of an item, on average."""


def _begun() -> float:
    return 0.0


def evaluate(network: Network, runs: Runs) -> dict[str, float]:
    """Return log loss and AUC of a network on every answer of runs, and the fallback's."""
    p, p_fallback = sigmoid(forecasts(network, runs)[:, 0]), runs.p_fallback[runs.there]
    correct = runs.correct[runs.there].astype(bool)
    return {
        "logloss": float(log_losses(correct, p).mean()),
        "auc": auc(correct, p) or 0.5,
        "logloss_fallback": float(log_losses(correct, p_fallback).mean()),
        "auc_fallback": auc(correct, p_fallback) or 0.5,
        "answers": float(len(correct)),
    }
