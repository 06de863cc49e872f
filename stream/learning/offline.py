"""
A log of past answers, as the worker would have seen it: the way from a file to training examples and a first artifact.

The worker's own pipeline makes the examples, item parameters as they stood before each answer; only the training at
the end differs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from schemas import Interaction, TrainingExample, decode_interaction
from stream import pipeline
from stream.errors import UserError
from stream.intake import Accepted
from stream.learning.item_statistics import ItemStatistics
from stream.learning.network import Network
from stream.learning.runs import Buffer, Runs
from stream.learning.update import Training, copy_weights, forward, shape_for
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.models.lnirt import sigmoid
from stream.models.quality import auc, log_losses
from stream.pipeline import Models, Users
from stream.ports import Record
from stream.state import academic, learner
from stream.state.names import Names

_BATCH = 200
"""Answers between two refreshes of the item parameters; the live trainer is slower."""


def examples(events: Iterable[Mapping[str, Any]], remembered: int = 100) -> Iterator[TrainingExample]:
    """Yield the training example of each answer, made by the worker's pipeline with the fallback serving."""
    fallback = Fallback("knowledge")
    models = Models(fallback, fallback, ItemTable(), Names())
    statistics = ItemStatistics()
    rows: dict[str, int] = {}
    learners = learner.new_learners(0, remembered)
    offset = 0
    source = iter(events)
    while batch := [decode_interaction(orjson.dumps(event)) for event in islice(source, _BATCH)]:
        accepted, offset = _accepted(batch, offset), offset + len(batch)
        for event in batch:
            rows.setdefault(event.user_id, len(rows))
        if len(rows) > len(learners):
            more = learner.new_learners(max(len(rows), 2 * len(learners)) - len(learners), remembered)
            learners = np.concatenate([learners, more])
        chosen = np.array(list(dict.fromkeys(rows[event.user_id] for event in batch)))
        local = {event.user_id: int(np.flatnonzero(chosen == rows[event.user_id])[0]) for event in batch}
        users = Users(local, learners[chosen], academic.new_academics(len(chosen)))
        outcome = pipeline.interactions(accepted, users, models, 0, datetime.now(UTC))
        learners[chosen] = outcome.users.learners
        for message in outcome.messages:
            if message.topic == "training-examples":
                example = TrainingExample.model_validate_json(message.value)
                statistics.learn(example)
                yield example
        models.items.update(statistics.publish(datetime.now(UTC)))


def _accepted(batch: list[Interaction], offset: int) -> list[Accepted[Interaction]]:
    return [
        Accepted(Record("interactions", 0, offset + i, event.user_id.encode(), None, 0.0), event)
        for i, event in enumerate(batch)
    ]


def fit(
    buffer: Buffer, epochs: int, learning_rate: float, seed: int, tell: Callable[[str], None]
) -> tuple[Network, dict[str, float]]:
    """
    Return a network trained on whole runs, stopped early by a tenth of the users, and its figures on them.

    Args:
        buffer: All answers.
        epochs: At most.
        learning_rate: AdamW's.
        seed: Of the split, the weights and the order.
        tell: Called with a line after each epoch.

    Raises:
        UserError: If there are too few users to hold some out.
    """
    runs = buffer.runs()
    if len(runs) < 10:  # noqa: PLR2004 (a tenth must be somebody)
        raise UserError(f"expected answers of at least 10 users to learn from, found {len(runs)}")
    order = np.random.default_rng(seed).permutation(len(runs))
    held_out = runs.take(order[: len(runs) // 10])
    kept = runs.take(order[len(runs) // 10 :])
    torch.manual_seed(seed)
    network = Network(shape_for(len(buffer.skills)))
    best, best_weights, waited = evaluate(network, held_out), copy_weights(network), 0
    training = Training(network, kept, learning_rate, seed)
    for epoch in range(epochs):
        training.epoch(lambda done=epoch: done / epochs)  # type: ignore[misc]
        figures = evaluate(network, held_out)
        tell(f"epoch {epoch + 1}: log loss {figures['logloss']:.4f}, AUC {figures['auc']:.4f} on users held out")
        if figures["logloss"] < best["logloss"]:
            best, best_weights, waited = figures, copy_weights(network), 0
        elif (waited := waited + 1) == _PATIENCE:
            break
    network.load_state_dict(best_weights)
    return network, best


_PATIENCE = 3
"""Epochs without a better log loss after which training stops."""


def evaluate(network: Network, runs: Runs) -> dict[str, float]:
    """Return log loss and AUC of a network on every answer of runs, and the fallback's."""
    network.eval()
    with torch.no_grad():
        logits: NDArray[np.float32] = forward(network, runs)[..., 0].numpy()
    correct = runs.correct[runs.there].astype(bool)
    p, p_fallback = sigmoid(logits[runs.there]), runs.p_fallback[runs.there]
    return {
        "logloss": float(log_losses(correct, p).mean()),
        "auc": auc(correct, p) or 0.5,
        "logloss_fallback": float(log_losses(correct, p_fallback).mean()),
        "auc_fallback": auc(correct, p_fallback) or 0.5,
        "answers": float(len(correct)),
    }
