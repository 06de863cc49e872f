"""
From past answers to a first network: runs, training, early stopping.

What was known before each answer is `stream.learning.history`'s.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream.learning.history import History
from stream.learning.network import Network
from stream.learning.runs import Runs
from stream.learning.update import EVALUATED_RUNS, Training, copy_weights, forward, fresh, shape_for
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
    starts = history.turn[rows] % WINDOW == 0
    run, place = np.cumsum(starts) - 1, history.turn[rows] % WINDOW
    shape = (int(run[-1]) + 1 if len(run) else 0, int(place.max(initial=0)) + 1)

    def padded(values: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        out = np.full((*shape, *values.shape[1:]), fill, values.dtype)
        out[run, place] = values
        return out

    items = item_rows(np.array([asked.item for asked in history.questions], np.uint64))
    seconds = padded(history.response_time_s[rows], np.nan)
    p_fallback = sigmoid(features[rows][:, COLUMN["lnirt_logit"]])
    return Runs(
        padded(history.skill_rows[rows]), padded(items[rows]), padded(history.correct[rows].astype(np.int64)),
        time_input(seconds),
        np.zeros(shape, np.int64), padded(features[rows]), padded(np.ones(len(rows), bool)), padded(rows),
        np.zeros(shape, np.int64), padded(p_fallback), padded(p_fallback),
    )  # fmt: skip


def fit(
    training: Runs,
    validation: Runs,
    skills: int,
    epochs: int,
    learning_rate: float,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[Network, dict[str, float]]:
    """
    Return a network trained on runs, stopped early by other users' runs, and its figures on these.

    The learning rate falls, from the best weights so far, whenever an epoch has not helped.

    Args:
        training: Learned from.
        validation: Of other users.
        skills: In the vocabulary.
        epochs: At most.
        learning_rate: AdamW's, at first.
        seed: Of the weights and the order.
        tell: Called with a line after each epoch.
    """  # fmt: skip
    torch.manual_seed(seed)
    network = fresh(shape_for(skills), training)
    best, best_weights, waited = evaluate(network, validation), copy_weights(network), 0
    learning = Training(network, training, learning_rate, seed)
    for epoch in range(epochs):
        learning.epoch(_begun)
        found = evaluate(network, validation)
        tell(f"epoch {epoch + 1}: log loss {found['logloss']:.4f}, AUC {found['auc']:.4f} on users held out")
        if found["logloss"] < best["logloss"] - _LEAST_GAIN:
            best, best_weights, waited = found, copy_weights(network), 0
        else:
            network.load_state_dict(best_weights)
            learning.slow_down(_SLOWER)
            waited += 1
            if waited == _PATIENCE:
                break
    network.load_state_dict(best_weights)
    return network, best


LEARNING_RATE = 0.002
"""AdamW's, at first: an update of what serves starts from what is learned, and may be bolder."""

WINDOW = 128
"""Answers of a run in training: the features carry what lies further back."""

_PATIENCE = 4
"""Epochs without a better log loss after which training stops."""

_SLOWER = 0.4
_LEAST_GAIN = 1e-4


def _begun() -> float:
    return 0.0


def evaluate(network: Network, runs: Runs) -> dict[str, float]:
    """Return log loss and AUC of a network on every answer of runs, and the fallback's."""
    network.eval()
    logits = []
    with torch.no_grad():
        for start in range(0, len(runs), EVALUATED_RUNS):
            some = runs.part(np.arange(start, min(start + EVALUATED_RUNS, len(runs))))
            logits.append(forward(network, some)[..., 0].numpy()[some.there])
    correct = runs.correct[runs.there].astype(bool)
    p, p_fallback = sigmoid(np.concatenate(logits)), runs.p_fallback[runs.there]
    return {
        "logloss": float(log_losses(correct, p).mean()),
        "auc": auc(correct, p) or 0.5,
        "logloss_fallback": float(log_losses(correct, p_fallback).mean()),
        "auc_fallback": auc(correct, p_fallback) or 0.5,
        "answers": float(len(correct)),
    }
