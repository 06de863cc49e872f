"""
Deep knowledge tracing, serving side.

One step of an LSTM for a batch of users, and the forecasts of any questions in the same run.

Pure but for the graph that it is given. The network that is trained and exported is `stream.learning.network`'s; the
inputs named here are the contract between the two.

Source:
    Piech et al. 2015, Deep Knowledge Tracing.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stream.errors import ArtifactError, InferenceError
from stream.models.features import COUNT, LOG_PRIOR_SECONDS, Questions
from stream.models.items import ItemTable
from stream.models.lnirt import MIN_SECONDS, sigmoid
from stream.models.runtime import Graph
from stream.ports import Forecast, Hidden, Identity
from stream.state.learner import HIDDEN_CAPACITY, Answers, Remembered, key64

KNOWLEDGE = "knowledge"
"""The name of the model that says whether answers will be right and how long they take."""

SKILLS = 4
"""Skills of one answer that the network sees; further ones count in the history only."""

ITEM_ROWS = 4_096
"""Rows of the embedding of items, which share them by hash: new items need no training to be told apart. 0: none."""

INPUTS = {
    "hidden": "tensor(float)",  # (B, hidden_size): h then c, each layer by layer
    "skills": "tensor(int64)",  # (B, SKILLS), 0 where there are fewer
    "item": "tensor(int64)",  # (B,), 0 to ITEM_ROWS - 1
    "correct": "tensor(int64)",  # (B,)
    "time": "tensor(float)",  # (B, 2): log seconds relative to 60 s, and whether it is known
    "known": "tensor(float)",  # (B, COUNT): features of the answers, as they were asked
    "is_known": "tensor(float)",  # (B,): 1 where there are such
    "row": "tensor(int64)",  # (N,): whose question
    "after": "tensor(float)",  # (N,): 1 asked after the answer, 0 before
    "asked_skills": "tensor(int64)",  # (N, SKILLS)
    "asked_item": "tensor(int64)",  # (N,)
    "level": "tensor(int64)",  # (N,): 0 unknown, 1 to 3
    "features": "tensor(float)",  # (N, COUNT)
}
OUTPUTS = ("next_hidden", "forecast")  # (B, hidden_size); (N, 3): logit, mu relative to log 60, log sigma


def item_rows(keys: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the embedding rows of items by their keys, of which the low 32 bits count, 0 where there is none."""
    low = keys.astype(np.uint32).astype(np.int64)
    return np.where(low == 0, 0, 1 + low % (ITEM_ROWS - 1))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """
    Which row of the embedding stands for a skill: 1 and up in order of appearance, 0 for an unknown one.

    Attributes:
        keys: 64-bit keys of the skills, sorted, uint64 `(K,)`.
        rows: Their rows, int64 `(K,)`.
    """

    keys: NDArray[np.uint64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, skills: Sequence[str]) -> "Vocabulary":
        """Return the vocabulary of skills in order of appearance."""
        keys = np.array([key64(skill) for skill in skills], np.uint64)
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], order.astype(np.int64) + 1)

    def lookup(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rows of 64-bit keys, of any shape."""
        return self._find(self.keys, self.rows, keys)

    def lookup_some(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rows of the first skills of answers or questions, `(N, SKILLS)`, however many each has."""
        rows = np.zeros((len(keys), SKILLS), np.int64)
        rows[:, : keys.shape[1]] = self.lookup(keys[:, :SKILLS])
        return rows

    def lookup32(self, keys: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return the rows of the low halves of keys, as remembered answers keep them."""
        low = self.keys.astype(np.uint32)
        order = np.argsort(low, kind="stable")
        return self._find(low[order], self.rows[order], keys)

    @staticmethod
    def _find(keys: NDArray[np.generic], rows: NDArray[np.int64], wanted: NDArray[np.generic]) -> NDArray[np.int64]:
        if len(keys) == 0:
            return np.zeros(wanted.shape, np.int64)
        place = np.minimum(keys.searchsorted(wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, rows[place], 0)


class Dkt:
    """
    A published knowledge-tracing network.

    Args:
        graph: The exported step.
        identity: Which model it is.
        skills: The skills that it knows, in order of their embedding rows.

    Raises:
        ArtifactError: If the graph's inputs or outputs are not those of `INPUTS` and `OUTPUTS`, or its state is too
            large.
    """

    def __init__(self, graph: Graph, identity: Identity, skills: Sequence[str]) -> None:
        found = {name: kind for name, (kind, _) in graph.inputs.items()}
        if found != INPUTS or set(graph.outputs) != set(OUTPUTS):
            raise ArtifactError(
                f"expected a graph from {INPUTS} to {OUTPUTS}, found {found} to {sorted(graph.outputs)}"
            )
        size, features = (next(iter(graph.inputs[name][1][1:]), None) for name in ("hidden", "features"))
        if not isinstance(size, int) or not 0 < size <= HIDDEN_CAPACITY:
            raise ArtifactError(f"expected a hidden state of 1 to {HIDDEN_CAPACITY} numbers, found {size}")
        if features != COUNT:
            raise ArtifactError(f"expected {COUNT} features, found {features}: the model was trained with other ones")
        self._graph = graph
        self._vocabulary = Vocabulary.of(skills)
        self.identity = identity
        self.hidden_size: int = size

    def playing(self, variant: Literal["champion", "challenger"]) -> "Dkt":
        """Return the same model, graph and all, in another part."""
        other = copy.copy(self)
        other.identity = replace(self.identity, variant=variant)
        return other

    def predict(self, hidden: Hidden, questions: Questions, features: NDArray[np.float32]) -> Forecast:
        """Return what the users would answer now; see `stream.ports.Predictor`."""
        count = len(hidden)
        nobody = np.zeros((count, SKILLS), np.int64)
        before = np.zeros(len(questions.row), bool)
        answered = (nobody, np.zeros(count, np.int64), np.zeros(count, bool), np.full(count, np.nan, np.float32))
        return self._run(hidden, answered, None, questions, features, before)[1]

    def step(
        self,
        hidden: Hidden,
        answers: Answers,
        questions: Questions,
        features: NDArray[np.float32],
        after: NDArray[np.bool_],
        known: NDArray[np.float32] | None = None,
    ) -> tuple[Hidden, Forecast]:
        """Return the next states and the forecasts; see `stream.ports.Predictor`."""
        skills = self._vocabulary.lookup_some(answers.skills)
        answered = (skills, item_rows(answers.item), answers.correct, answers.response_time_s)
        return self._run(hidden, answered, known, questions, features, after)

    def rebuild(self, remembered: Remembered) -> Hidden:
        """Return the states that the remembered answers lead to, from nothing; see `stream.ports.Predictor`."""
        users, latest = remembered.item.shape
        hidden = np.zeros((users, self.hidden_size), np.float16)
        skills = np.zeros((users, latest, SKILLS), np.int64)
        skills[:, :, 0] = self._vocabulary.lookup32(remembered.skill)
        items = item_rows(remembered.item)
        # Users who have answered less often join later, as the answers are right-aligned.
        for t in range(latest - int(remembered.count.max(initial=0)), latest):
            who = np.flatnonzero(remembered.count >= latest - t)
            answered = (skills[who, t], items[who, t], remembered.correct[who, t], remembered.response_time_s[who, t])
            # What was known when they were asked is not remembered; training has such answers too.
            hidden[who], _ = self._run(hidden[who], answered, None, _ANY_QUESTION, _ANY_FEATURES, np.zeros(1, bool))
        return hidden

    def replay(
        self,
        hidden: Hidden,
        skills: NDArray[np.int64],
        item: NDArray[np.int64],
        correct: NDArray[np.int64],
        time: NDArray[np.float32],
        level: NDArray[np.int64],
        features: NDArray[np.float32],
    ) -> tuple[Hidden, NDArray[np.float32]]:
        """
        Return the next states, and what was to be said of one answer of each user before it was seen, `(B,)`.

        For answers that were turned into the network's inputs before, as training keeps them; skills that the
        artifact does not know count as unknown.

        Raises:
            InferenceError: Like `step`.
        """
        if not len(hidden):
            return hidden.copy(), np.zeros(0, np.float32)
        rows = np.where(skills <= len(self._vocabulary.keys), skills, 0)
        users, before = np.arange(len(hidden)), np.zeros(len(hidden), bool)
        answered, asked = (rows, item, correct, time), (users, before, rows, item, level, features)
        next_hidden, forecast = self._infer(hidden, answered, features, asked)
        return next_hidden, sigmoid(forecast[:, 0])

    def _run(
        self,
        hidden: Hidden,
        answered: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]],
        known: NDArray[np.float32] | None,
        questions: Questions,
        features: NDArray[np.float32],
        after: NDArray[np.bool_],
    ) -> tuple[Hidden, Forecast]:
        if not len(hidden):
            # onnxruntime ends the whole process over an LSTM of an empty batch.
            none = np.zeros(0, np.float32)
            return hidden.copy(), Forecast(none, none, none)
        if not len(questions.row):
            # onnxruntime's ReduceSum gives another shape where nothing is summed: one is asked that nobody reads.
            hidden, read_by_nobody = self._run(hidden, answered, known, _ANY_QUESTION, _ANY_FEATURES, np.zeros(1, bool))
            none = read_by_nobody.p_correct[:0]
            return hidden, Forecast(none, none, none)
        skills, item, correct, response_time_s = answered
        asked_skills = self._vocabulary.lookup_some(questions.skills)
        next_hidden, forecast = self._infer(
            hidden,
            (skills, item, correct, time_input(response_time_s)),
            known,
            (
                questions.row,
                after,
                asked_skills,
                item_rows(questions.item),
                questions.level.astype(np.int64) + 1,
                features,
            ),
        )
        return next_hidden, Forecast(
            p_correct=sigmoid(forecast[:, 0]),
            mu=forecast[:, 1] + np.float32(LOG_PRIOR_SECONDS),
            sigma=np.exp(forecast[:, 2]),
        )

    def _infer(
        self,
        hidden: Hidden,
        answered: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any], NDArray[np.float32]],
        known: NDArray[np.float32] | None,
        asked: tuple[
            NDArray[np.int64],
            NDArray[np.bool_],
            NDArray[np.int64],
            NDArray[np.int64],
            NDArray[np.int64],
            NDArray[np.float32],
        ],
    ) -> tuple[Hidden, NDArray[np.float32]]:
        """
        Run the graph on its own inputs, and return the next states and the raw forecasts, `(N, 3)`.

        Args:
            hidden: `(B, hidden_size)`, at least one row.
            answered: Skills, item, correctness and time of the answers, `(B, …)` each.
            known: Features of the answers, as they were asked, `(B, COUNT)`; None if nobody knows.
            asked: Row, whether after it, skills, item, level, features: of at least one question, `(N, …)` each.

        Raises:
            InferenceError: If the graph failed, or gave other shapes.
        """
        skills, item, correct, time = answered
        row, after, asked_skills, asked_item, level, features = asked
        next_hidden, forecast = self._graph.run(
            OUTPUTS,
            {
                "hidden": hidden.astype(np.float32),
                "skills": skills,
                "item": item,
                "correct": correct.astype(np.int64),
                "time": time,
                "known": np.zeros((len(hidden), COUNT), np.float32) if known is None else known,
                "is_known": np.full(len(hidden), known is not None, np.float32),
                "row": row,
                "after": after.astype(np.float32),
                "asked_skills": asked_skills,
                "asked_item": asked_item,
                "level": level,
                "features": features,
            },
        )
        if next_hidden.shape != hidden.shape or forecast.shape != (len(row), 3):
            raise InferenceError(
                f"expected states of {hidden.shape} and 3 numbers a question, "
                f"found {next_hidden.shape} and {forecast.shape}"
            )
        return next_hidden.astype(np.float16), forecast


def time_input(response_time_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the network's input of response times, `(…, 2)`: log seconds relative to 60 s, and whether known."""
    known = ~np.isnan(response_time_s)
    log_time = np.log(np.maximum(np.where(known, response_time_s, 60), MIN_SECONDS)) - LOG_PRIOR_SECONDS
    inputs = np.empty((*response_time_s.shape, 2), np.float32)
    inputs[..., 0] = log_time
    inputs[..., 1] = known
    return inputs


def _any_question() -> Questions:
    """Return one question of the first user, about nothing that is known."""
    row, key = np.zeros(1, np.int64), np.zeros(1, np.uint64)
    level, asked_at = np.full(1, -1, np.int8), np.zeros(1)
    return Questions(row, key, key, np.zeros((1, SKILLS), np.uint64), level, asked_at, ItemTable().parameters(row))


_ANY_QUESTION = _any_question()
_ANY_FEATURES = np.zeros((1, COUNT), np.float32)
