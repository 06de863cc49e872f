"""
Plain deep knowledge tracing: what an LSTM learns from skills and right answers alone.

No features, no items, no times. Not the network that serves, which is `stream.learning.network`'s.

Source:
    Piech et al. 2015, Deep Knowledge Tracing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream.learning.history import History, Known
from stream.learning.references import Prediction, stopping
from stream.models.lnirt import sigmoid
from stream.models.quality import log_losses

_EMBEDDING = 64
_HIDDEN = 128
_LAYERS = 2
_DROPOUT = 0.2

_LEARNING_RATE = 1e-3
_MAX_GRADIENT = 1.0
_WINDOW = 128
"""Answers through which a gradient flows back; the state flows on."""

_USERS = 32
"""In a batch of training."""

_PREDICTED_USERS = 256
_MOST_EPOCHS = 40


@dataclass(frozen=True, slots=True)
class _Window:
    """
    Some turns of some users.

    Attributes:
        rows: Of the history, int64 `(B, T)`; any row where there is no answer.
        there: Where there is one, bool `(B, T)`.
        skills: Rows of the vocabulary, int64 `(B, T, S)`, 0 where there are fewer.
        correct: int64 `(B, T)`.
        began: The place in this window of the user's first answer at the same moment, -1 for one before it, int64
            `(B, T)`.
    """

    rows: NDArray[np.int64]
    there: NDArray[np.bool_]
    skills: Tensor
    correct: Tensor
    began: Tensor


class _Sequences:
    """
    A history, user by user.

    Args:
        history: Past answers.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._skills = history.skill_rows[:, (history.skill_rows > 0).any(axis=0)]  # (N, S): as many as are in use
        self._rows = np.argsort(history.user, kind="stable")
        self.length = np.bincount(history.user, minlength=history.users)
        self._first = np.cumsum(self.length) - self.length

    def batches(self, users: NDArray[np.int64], size: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yield users in batches of about the same length, the batches in random order."""
        order = users[np.argsort(self.length[users] + random.random(len(users)))]
        for start in random.permutation(np.arange(0, len(order), size)):
            yield order[start : start + size]

    def windows(self, users: NDArray[np.int64]) -> Iterator[_Window]:
        """Yield the answers of users, window by window."""
        length, first = self.length[users][:, None], self._first[users][:, None]
        longest = int(length.max())
        for start in range(0, longest, _WINDOW):
            turns = np.arange(start, min(start + _WINDOW, longest))
            there = turns < length  # (B, T)
            rows = self._rows[first + np.where(there, turns, 0)]  # (B, T)
            began = np.where(there, np.maximum(self._history.began[rows] - start, -1), -1)
            skills, correct = self._skills[rows], self._history.correct[rows].astype(np.int64)
            yield _Window(rows, there, *(torch.from_numpy(each) for each in (skills, correct, began)))


@dataclass(frozen=True, slots=True)
class _Past:
    """
    Of users, what went before a window.

    Attributes:
        hidden: The LSTM's, `(L, B, H)`.
        cell: The LSTM's, `(L, B, H)`.
        held: What the latest answer was predicted from, `(B, H)`: others of its moment may follow.
    """

    hidden: Tensor
    cell: Tensor
    held: Tensor

    @classmethod
    def none(cls, users: int) -> Self:
        """Return that of users who have not answered yet."""
        nothing = torch.zeros(_LAYERS, users, _HIDDEN)
        return cls(nothing, nothing, nothing[-1])

    def detached(self) -> "_Past":
        """Return the same, through which no gradient flows back."""
        return _Past(self.hidden.detach(), self.cell.detach(), self.held.detach())


class _Network(nn.Module):
    def __init__(self, skills: int) -> None:
        super().__init__()
        self.vocabulary = skills + 1
        self.answer = nn.Embedding(2 * self.vocabulary, _EMBEDDING)
        self.lstm = nn.LSTM(_EMBEDDING, _HIDDEN, _LAYERS, batch_first=True, dropout=_DROPOUT)
        self.drop = nn.Dropout(_DROPOUT)
        # The output layer, of which only the rows of the skills that are asked are computed.
        self.weight = nn.Embedding(self.vocabulary, _HIDDEN)
        self.bias = nn.Embedding(self.vocabulary, 1)
        nn.init.uniform_(self.weight.weight, -(_HIDDEN**-0.5), _HIDDEN**-0.5)
        nn.init.zeros_(self.bias.weight)

    def forward(self, window: _Window, past: _Past) -> tuple[Tensor, _Past]:
        """Return the logit of each answer, `(B, T)`, from the answers before its moment, and what the window leaves."""
        share = (window.skills > 0).float()
        share = (share / share.sum(-1, keepdim=True).clamp(min=1)).unsqueeze(-1)  # (B, T, S, 1)
        answered = self.answer(window.skills + self.vocabulary * window.correct.unsqueeze(-1))  # (B, T, S, E)
        outputs, (hidden, cell) = self.lstm((answered * share).sum(-2), (past.hidden, past.cell))  # (B, T, H)
        # Answers of one moment are all predicted from what was before the first of them: `held` if that was before
        # this window, else the state after the turn before it.
        states = torch.cat([past.held.unsqueeze(1), past.hidden[-1].unsqueeze(1), outputs[:, :-1]], dim=1)
        before = states.gather(1, (window.began + 1).unsqueeze(-1).expand_as(outputs))  # (B, T, H)
        weight = (self.weight(window.skills) * share).sum(-2)  # (B, T, H)
        bias = (self.bias(window.skills) * share).sum((-1, -2))  # (B, T)
        return (self.drop(before) * weight).sum(-1) + bias, _Past(hidden, cell, before[:, -1])


class PlainDkt:
    """
    The network, trained on the training users and stopped by the validation users.

    Args:
        seed: Of the weights, the order and the dropout.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(
        self,
        history: History,
        known: Known,  # noqa: ARG002 (that is the point of it)
        training: NDArray[np.bool_],
        validation: NDArray[np.bool_],
    ) -> Self:
        """Train with Adam until the validation users' log loss no longer falls."""
        sequences, random = _Sequences(history), np.random.default_rng(self._seed)
        users, held_out = np.unique(history.user[training]), np.unique(history.user[validation])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._network = network = _Network(len(history.names))
            optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)

            def epoch() -> None:
                for who in sequences.batches(users, _USERS, random):
                    past = _Past.none(len(who))
                    for window in sequences.windows(who):
                        logit, past = network(window, past.detached())
                        there = torch.from_numpy(window.there)
                        loss = nn.functional.binary_cross_entropy_with_logits(
                            logit[there], window.correct[there].float()
                        )
                        optimizer.zero_grad()
                        loss.backward()  # type: ignore[no-untyped-call]
                        nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT)
                        optimizer.step()

            def loss() -> float:
                p_correct = self._predict(history, sequences, held_out)
                return float(log_losses(history.correct[validation], p_correct[validation]).mean())

            stopping.train(network, optimizer, epoch, loss, _MOST_EPOCHS)
        return self

    def predict(self, history: History, known: Known) -> Prediction:  # noqa: ARG002
        """Return the probabilities, each from the user's whole past."""
        return Prediction(self._predict(history, _Sequences(history), np.arange(history.users)))

    def _predict(self, history: History, sequences: _Sequences, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probabilities of users' answers, `(N,)`, 0.5 of others."""
        p_correct = np.full(len(history.user), 0.5)
        with torch.no_grad():
            for who in sequences.batches(users, _PREDICTED_USERS, np.random.default_rng(0)):
                past = _Past.none(len(who))
                for window in sequences.windows(who):
                    logit, past = self._network(window, past)
                    p_correct[window.rows[window.there]] = sigmoid(logit.numpy()[window.there])
        return p_correct
