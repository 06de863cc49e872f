"""
One update: train a network on runs for a bounded time, and write it as an artifact.

Runs in a process of its own, so that it never delays the trainer's reading; `stream.learning.gate` decides what
becomes of it.
"""

import copy
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from schemas import Release
from stream.errors import ArtifactError, StreamError
from stream.learning.buffer import load_runs
from stream.learning.calibration import calibrate
from stream.learning.forward import forecasts, forward, tensor
from stream.learning.network import Network, Shape, from_weights, weights
from stream.learning.publication import Publication, publish
from stream.learning.runs import Runs, influence, influence_cap
from stream.models.artifacts import Span, read_manifest, read_weights
from stream.models.lnirt import sigmoid
from stream.models.quality import log_losses
from stream.models.store import Store

log = structlog.get_logger()

BATCH_RUNS = (4, 16)
"""Runs in a batch of training, at least and at most: in between, an epoch has `EPOCH_BATCHES`."""

EPOCH_BATCHES = 128

AVERAGED = 0.99
"""What a step leaves, at least, of the average of the weights so far: it goes over about the latest epoch."""

MAX_GRADIENT = 1.0
WEIGHT_DECAY = 0.01
TIME_WEIGHT = 1.0
"""Weight of the response times' negative log likelihood beside the answers' log loss."""

LAPLACE_SPREAD = 1.2559
"""Standard deviation of a normal distribution over the scale of a Laplace whose 10% to 90% interval is as wide."""

HELD_OUT = 0.1
"""Share of the answers, the newest, that is not learned from in this update."""

PATIENCE = 4
"""Epochs without a better log loss on what is held out after which an update ends."""

MAX_UPDATE_EPOCHS = 16
"""Passes over the buffer in one update: with little data, time alone would over-fit."""


class NotFiniteError(StreamError):
    """Training met a NaN or an infinity; that update is dropped, and the next one starts from what serves."""


@dataclass(frozen=True, slots=True)
class Wish:
    """
    What an update is to do.

    Attributes:
        name: The model's.
        version: The candidate's.
        store: Where models are kept, a folder or URL.
        path: Where in it the artifact is to stand.
        buffer: File of the replay buffer: what to learn from.
        answers: Of it, at most.
        champion: The model that it starts from, None to start from nothing.
        seconds: Of training, at most.
        learning_rate: AdamW's.
        seed: Of everything random.
    """

    name: str
    version: int
    store: str
    path: str
    buffer: Path
    answers: int
    champion: Release | None
    seconds: float
    learning_rate: float
    seed: int


def prepare() -> None:
    """Make a child process ready: it leaves Ctrl-C to its parent, gives way to what serves, and has torch loaded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended: one that was killed could not say so."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def update(wish: Wish) -> str:
    """
    Train, and return the artifact's path in the store.

    Raises:
        NotFiniteError: If a loss was not finite.
        StoreError: If the artifact could not be written.
    """
    torch.manual_seed(wish.seed)
    store = Store(wish.store)
    runs, skills = load_runs(wish.buffer, most=wish.answers, seed=wish.seed)
    shape = shape_for(len(skills))
    start, state_format = _start(store, wish.champion, skills)
    network = fresh(shape, runs) if start is None else warm(shape.vocabulary, start)
    learned, held_out = split(runs)
    metrics = train(network, learned, held_out, wish.seconds, wish.learning_rate, wish.seed)
    span = Span(answers=int(runs.there.sum()), users=len(runs))
    about = Publication(
        wish.name,
        wish.version,
        state_format or f"lstm-{network.shape.layers}x{network.shape.hidden}-{wish.name}-{wish.version}",
        skills,
        span,
        metrics,
        held_out=held_out,
    )
    publish(network, store, wish.path, about)
    return wish.path


def _start(
    store: Store, champion: Release | None, skills: tuple[str, ...]
) -> tuple[dict[str, NDArray[np.float32]] | None, str | None]:
    """Return the weights that an update starts from, and the format of the states that it goes on reading."""
    if champion is None:
        return None, None
    try:
        manifest = read_manifest(store, champion.path, champion.sha256)
        return reorder(read_weights(store, champion.path, manifest), manifest.skills, skills), champion.state_format
    except ArtifactError as error:
        log.warning("update.started_from_nothing", reason=str(error))
        return None, None


def shape_for(skills: int) -> Shape:
    """Return the network's shape for a vocabulary, with room to grow: rows come in powers of two."""
    return Shape(vocabulary=max(1_024, 1 << math.ceil(math.log2(2 * (skills + 1)))))


def fresh(shape: Shape, runs: Runs) -> Network:
    """Return a network that has learned nothing but what features usually are."""
    network = Network(shape)
    network.standardize(runs.features[runs.there])
    return network


def warm(vocabulary: int, arrays: dict[str, NDArray[np.float32]]) -> Network:
    """Return a network that starts from weights; rows of a vocabulary that has grown start from random ones."""
    shape = Shape.of(arrays)
    if shape.vocabulary < vocabulary:
        shape = replace(shape, vocabulary=vocabulary)
        grown = weights(Network(shape))["skill.weight"]
        grown[: len(arrays["skill.weight"])] = arrays["skill.weight"]
        arrays = arrays | {"skill.weight": grown}
    return from_weights(shape, arrays)


def reorder(
    arrays: dict[str, NDArray[np.float32]], skills: tuple[str, ...], wanted: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    """
    Return weights whose skills stand in another order; skills that the model did not know start as unknown ones.

    Args:
        arrays: Of a network.
        skills: In the order of its rows.
        wanted: In the order of the rows that are wanted.
    """
    if wanted[: len(skills)] == skills:
        return arrays
    old = arrays["skill.weight"]
    rows = {skill: row for row, skill in enumerate(skills, 1)}
    new = np.tile(old[:1], (max(len(old), shape_for(len(wanted)).vocabulary), 1))
    for row, skill in enumerate(wanted, 1):
        new[row] = old[rows.get(skill, 0)]
    return arrays | {"skill.weight": new}


class Training:
    """
    AdamW over runs, epoch by epoch.

    Beside the network that is trained, its average over the latest steps is kept: it lies where single batches no
    longer pull, and says more of other users (Polyak and Juditsky 1992).

    Args:
        network: Changed in place.
        runs: What to learn from.
        learning_rate: The highest.
        seed: Of the order of runs.
        weight_decay: AdamW's.
        cap: Answers for which a run may count at most.
    """

    def __init__(
        self,
        network: Network,
        runs: Runs,
        learning_rate: float,
        seed: int,
        weight_decay: float = WEIGHT_DECAY,
        cap: float = math.inf,
    ) -> None:
        self._network = network
        self._runs = runs
        self._learning_rate = learning_rate
        self._optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
        self._random = np.random.default_rng(seed)
        self._cap = cap
        self._steps = 0
        self._averaged = max(AVERAGED, 1 - batch_size(runs) / max(len(runs), 1))
        self.average = copy.deepcopy(network)

    @property
    def learning_rate(self) -> float:
        """The highest of the next epoch."""
        return self._learning_rate

    def go_back(self, state: dict[str, torch.Tensor], factor: float) -> None:
        """Go on from other weights, with a lower learning rate."""
        self._network.load_state_dict(state)
        self.average.load_state_dict(state)
        self._learning_rate *= factor

    def epoch(self, progress: Callable[[], float], done: Callable[[float], None] | None = None) -> float:
        """
        Pass over the runs once, and return the mean loss.

        Args:
            progress: Asked before each batch: how much of the training is over, 0 to 1. The learning rate falls with
                it to a tenth;
                at 1 the epoch is cut short, but not before its first batch.
            done: Told of each batch's share of the runs.

        Raises:
            NotFiniteError: If a loss was not finite.
        """
        self._network.train()
        total, answers = 0.0, 0
        for batch in batches(self._runs, self._random):
            over = min(progress(), 1.0)
            if over >= 1 and answers:
                break
            for group in self._optimizer.param_groups:
                group["lr"] = self._learning_rate * (1 - 0.9 * over)
            count = int(batch.there.sum())
            total, answers = total + self._step(batch) * count, answers + count
            if done is not None:
                done(len(batch) / len(self._runs))
        return total / max(answers, 1)

    def _step(self, batch: Runs) -> float:
        loss = loss_of(self._network, batch, influence(batch, self._cap))
        if not torch.isfinite(loss):
            raise NotFiniteError(f"expected a finite loss, found {loss.item()}")
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), MAX_GRADIENT)
        self._optimizer.step()
        self._steps += 1
        # The first steps are soon forgotten.
        kept = min(self._averaged, (1 + self._steps) / (10 + self._steps))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self._network.parameters(), strict=True):
                mean.lerp_(now, 1 - kept)
        return loss.item()


def train(
    network: Network, learned: Runs, held_out: Runs, seconds: float, learning_rate: float, seed: int
) -> dict[str, float]:
    """
    Train in place for a bounded time, and return the figures.

    The network keeps the average of the weights that said most of what is held out, or those that it started from, and
    is calibrated by it. So little data cannot make it worse than its start. The first epoch is always whole, however
    short the time; there are at most `MAX_UPDATE_EPOCHS`.

    Args:
        network: Changed.
        learned: Learned from.
        held_out: The newest answers, for the gate will ask about what comes after them.
        seconds: At most.
        learning_rate: The highest.
        seed: Of the order.

    Raises:
        NotFiniteError: If a loss was not finite.
    """
    training = Training(network, learned, learning_rate, seed, cap=influence_cap(learned))
    best, best_weights = log_loss(network, held_out), copy_weights(network)
    figures = {"held_out_logloss_before": best, "held_out_answers": float(held_out.there.sum())}
    started = time.monotonic()
    epochs, waited = 0, 0

    def progress() -> float:
        return max(epochs / MAX_UPDATE_EPOCHS, (time.monotonic() - started) / seconds if epochs else 0.0)

    while waited < PATIENCE and (epochs == 0 or progress() < 1):
        training.epoch(progress)
        epochs += 1
        loss = log_loss(training.average, held_out)
        if loss < best:
            best, best_weights, waited = loss, copy_weights(training.average), 0
        else:
            waited += 1
    network.load_state_dict(best_weights)
    calibrate(network, held_out)
    return figures | {"held_out_logloss": best, "epochs": float(epochs)}


def split(runs: Runs) -> tuple[Runs, Runs]:
    """Return the runs to learn from, and those to be held against: the newest tenth of the answers, and only it."""
    newest = np.quantile(runs.number[runs.there], 1 - HELD_OUT)
    learned = replace(runs, there=runs.there & (runs.number < newest))
    held_out = replace(runs, there=runs.there & (runs.number >= newest))
    learned, held_out = (part.take(np.flatnonzero(part.there.any(axis=1))) for part in (learned, held_out))
    return learned, held_out


def copy_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the network's weights, for `load_state_dict`."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def log_loss(network: Network, runs: Runs) -> float:
    """Return the mean log loss of the answers that are there, 0 if there are none."""
    losses = log_losses(runs.correct[runs.there] > 0, sigmoid(forecasts(network, runs)[:, 0]))
    return float(losses.mean()) if len(losses) else 0.0


def batch_size(runs: Runs) -> int:
    """Return how many runs a batch has: fewer where there are few, so that an epoch has steps enough."""
    return min(max(len(runs) // EPOCH_BATCHES, BATCH_RUNS[0]), BATCH_RUNS[1])


def batches(runs: Runs, random: np.random.Generator) -> Iterator[Runs]:
    """Yield the runs in batches of runs of like length, the batches in random order."""
    lengths = runs.there.sum(axis=1) + random.uniform(0, 8, len(runs))
    order = np.argsort(lengths)
    size = batch_size(runs)
    for start in random.permutation(np.arange(0, len(runs), size)):
        yield runs.take(order[start : start + size])


def loss_of(network: Network, runs: Runs, weight: NDArray[np.float32]) -> torch.Tensor:
    """
    Return log loss of the answers plus a share of the response times' negative log likelihood, a scalar.

    Args:
        network: Predicts.
        runs: What happened.
        weight: Of the answers of each run, above 0, `(B,)`.
    """
    logit, mu, log_sigma = forward(network, runs).unbind(-1)  # (B, T) each
    there, correct = tensor(network, runs.there), tensor(network, runs.correct).float()
    weights = tensor(network, weight)[:, None].expand_as(logit)
    answers = torch.nn.functional.binary_cross_entropy_with_logits(
        logit[there], correct[there], weights[there], reduction="sum"
    )
    loss = answers / weights[there].sum()
    time_input = tensor(network, runs.time)
    timed = there & (time_input[..., 1] > 0)
    if timed.any():
        times = time_losses((time_input[..., 0] - mu)[timed], log_sigma[timed])
        loss = loss + TIME_WEIGHT * (weights[timed] * times).sum() / weights[timed].sum()
    return loss


def time_losses(error: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """
    Return the negative log likelihood of each log response time by how far it lies from what was said.

    Laplace's: what is said becomes the median, which a single answer left open over lunch does not move.
    """
    return LAPLACE_SPREAD * (error / log_sigma.exp()).abs() + log_sigma
