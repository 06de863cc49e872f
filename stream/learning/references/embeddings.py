"""
Networks on embeddings of who is asked and of what is asked, beside the user's history in a few numbers.

A user that was not learned from has an embedding of its own, row 0, as have a new topic and an unknown difficulty.

Source:
    Guo, Berkhahn 2016, Entity embeddings of categorical variables; a baseline that is common in production.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream.learning.history import History, Known
from stream.learning.network import LEVELS, LOG_SIGMA_RANGE
from stream.learning.references import Prediction, log_seconds, stopping, timed
from stream.learning.update import time_losses
from stream.models.features import COLUMN
from stream.models.lnirt import sigmoid

_HISTORY = slice(0, COLUMN["item_latest_correct"] + 1)
"""The columns of the user's own history, in averages and gaps; what is known of the item is not among them."""

_OF_USER = (16, 64)
_OF_TOPIC = (8, 32)
_OF_LEVEL = 4
_LAYERS = ((128, 0.3), (64, 0.2), (32, 0.1))
"""Widths, and how much is dropped after each."""

_UNKNOWN_USERS = 0.3
"""Share of the answers that are learned from as those of an unknown user."""

_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.01
_MAX_GRADIENT = 1.0
_BATCH = 512
_MOST_EPOCHS = 40


def _size(rows: int, limits: tuple[int, int]) -> int:
    """Return the numbers of an embedding: the more there is to tell apart, the more."""
    return int(np.clip(round(rows**0.5), *limits))


class _Network(nn.Module):
    def __init__(self, users: int, topics: int, outputs: int) -> None:
        super().__init__()
        self.user = nn.Embedding(users, _size(users, _OF_USER))
        self.topic = nn.Embedding(topics, _size(topics, _OF_TOPIC), padding_idx=0)
        self.level = nn.Embedding(LEVELS, _OF_LEVEL)
        self.usual = nn.BatchNorm1d(_HISTORY.stop)
        width = self.user.embedding_dim + self.topic.embedding_dim + _OF_LEVEL + _HISTORY.stop
        layers: list[nn.Module] = []
        for wide, dropped in _LAYERS:
            layers += [nn.Linear(width, wide), nn.BatchNorm1d(wide), nn.ReLU(), nn.Dropout(dropped)]
            width = wide
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, user: Tensor, topic: Tensor, level: Tensor, numbers: Tensor) -> Tensor:
        """Return `(B, outputs)` of users, topics and levels, `(B,)` each, and numbers, `(B, 16)`."""
        if self.training:
            user = user * (torch.rand(len(user)) >= _UNKNOWN_USERS)
        inputs = [self.user(user), self.topic(topic), self.level(level), self.usual(numbers)]
        outputs: Tensor = self.layers(torch.cat(inputs, dim=-1))
        return outputs


@dataclass(frozen=True, slots=True)
class _Fitted:
    """
    A network, and the rows of its embeddings.

    Attributes:
        network: The network.
        users: The row of each user, 0 for an unknown one, int64 `(users,)`.
        topics: The row of each topic's key; others have row 0.
    """

    network: _Network
    users: NDArray[np.int64]
    topics: dict[int, int]

    def inputs(self, history: History, known: Known) -> tuple[Tensor, ...]:
        """Return the network's inputs for every answer."""
        topic = np.array([self.topics.get(asked.topic, 0) for asked in history.questions])
        level = np.array([asked.level + 1 for asked in history.questions])
        columns = (self.users[history.user], topic, level, known.features[:, _HISTORY])
        return tuple(torch.from_numpy(column) for column in columns)

    def outputs(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return what the network says, `(N, outputs)`."""
        with torch.no_grad():
            outputs: Tensor = self.network.eval()(*inputs)
        return outputs


def _fit(
    history: History,
    known: Known,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    target: NDArray[np.float32],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    outputs: int,
    seed: int,
) -> _Fitted:
    """
    Return a network that is trained with AdamW until the validation answers' loss no longer falls.

    Args:
        history: Past answers.
        known: What was known before each.
        rows: To learn from, and to be stopped by.
        target: Of every answer, `(N,)`.
        loss_of: What the network says, `(B, outputs)`, and targets, `(B,)`, to a scalar.
        outputs: Of the network.
        seed: Of the weights, the order and the dropout.
    """
    training, validation = rows
    known_users = np.unique(history.user[training])
    users = np.zeros(history.users, np.int64)
    users[known_users] = np.arange(1, len(known_users) + 1)
    topics: dict[int, int] = {}
    for row in training.tolist():
        topics.setdefault(history.questions[row].topic, len(topics) + 1)
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(len(known_users) + 1, len(topics) + 1, outputs)
        fitted = _Fitted(network, users, topics)
        optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        inputs, targets = fitted.inputs(history, known), torch.from_numpy(target)
        held_out = tuple(column[validation] for column in inputs)

        def epoch() -> None:
            # Of equal size, so that no batch is too small for its norm.
            for batch in np.array_split(random.permutation(training), max(1, len(training) // _BATCH)):
                loss = loss_of(network(*(column[batch] for column in inputs)), targets[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT)
                optimizer.step()

        def loss() -> float:
            return loss_of(fitted.outputs(held_out), targets[validation]).item()

        stopping.train(network, optimizer, epoch, loss, _MOST_EPOCHS)
    return fitted


class EmbeddingCorrectness:
    """
    Says whether answers will be right.

    Args:
        seed: Of everything random.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, history: History, known: Known, training: NDArray[np.bool_], validation: NDArray[np.bool_]) -> Self:
        """Train on the log loss."""
        rows = np.flatnonzero(training), np.flatnonzero(validation)
        target = history.correct.astype(np.float32)
        self._fitted = _fit(history, known, rows, target, _log_loss, 1, self._seed)
        return self

    def predict(self, history: History, known: Known) -> Prediction:
        """Return the probabilities."""
        logit = self._fitted.outputs(self._fitted.inputs(history, known))[:, 0]
        return Prediction(sigmoid(logit.numpy()).astype(np.float64))


def _log_loss(outputs: Tensor, correct: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], correct)


class EmbeddingTime:
    """
    Says how long answers will take.

    Args:
        seed: Of everything random.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._fitted: _Fitted | None = None
        self._usual = 0.0

    def fit(self, history: History, known: Known, training: NDArray[np.bool_], validation: NDArray[np.bool_]) -> Self:
        """Train on the likelihood of the log response times, if there are enough."""
        rows = timed(history, training), timed(history, validation)
        if min(map(len, rows)) >= _LEAST_TIMED:
            log_s = log_seconds(history)
            self._usual = float(np.median(log_s[rows[0]]))
            target = (log_s - self._usual).astype(np.float32)
            self._fitted = _fit(history, known, rows, target, _laplace, 2, self._seed)
        return self

    def predict(self, history: History, known: Known) -> Prediction:
        """Return the medians, and how far answers lie about them."""
        if self._fitted is None:
            return Prediction(None)
        mu, log_sigma = self._fitted.outputs(self._fitted.inputs(history, known)).numpy().astype(np.float64).T
        return Prediction(None, mu + self._usual, np.exp(np.clip(log_sigma, *LOG_SIGMA_RANGE)))


_LEAST_TIMED = 2
"""A batch of one answer has no norm."""


def _laplace(outputs: Tensor, log_s: Tensor) -> Tensor:
    """Return the mean negative log likelihood."""
    return time_losses(log_s - outputs[:, 0], outputs[:, 1].clamp(*LOG_SIGMA_RANGE)).mean()
