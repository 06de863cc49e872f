"""
What is known of items, topics and levels over all users, as columns.

Filled from the topic `item-parameters`, which only the trainer writes. An item of which nothing is known is taken for
its topic at its difficulty, that for its topic, and that for the population.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from schemas import ItemParameters
from stream.state.learner import DIFFICULTIES, PRIOR_SPEED_VAR, key64

PRIOR_SECONDS = 60.0
"""Expected response time of an answer when nothing is known of user, item or population."""

PRIOR_TIME_SIGMA = 0.7
"""Spread of log response times of one user on one item before any was seen."""

PRIOR_TIME_INTENSITY = float(np.log(PRIOR_SECONDS) - (PRIOR_TIME_SIGMA**2 + PRIOR_SPEED_VAR) / 2)
"""Log seconds such that the mean of the log-normal, not its median, is `PRIOR_SECONDS`."""

_REMEMBERED_QUESTIONS = 1_000_000

COLUMNS = ("difficulty", "discrimination", "time_intensity", "time_sigma", "answers", "rate")
_DEFAULT = (0.0, 1.0, PRIOR_TIME_INTENSITY, PRIOR_TIME_SIGMA, 0.0, 0.5)


@dataclass(frozen=True, slots=True)
class Parameters:
    """
    Parameters of what was asked, one row a question.

    Attributes:
        difficulty: Logits, float32 `(N,)`.
        discrimination: Above 0, float32 `(N,)`.
        time_intensity: Log seconds, float32 `(N,)`.
        time_sigma: Log seconds, above 0, float32 `(N,)`.
        answers: Answers that they were learned from, float32 `(N,)`.
        rate: Share of right answers, float32 `(N,)`.
    """

    difficulty: NDArray[np.float32]
    discrimination: NDArray[np.float32]
    time_intensity: NDArray[np.float32]
    time_sigma: NDArray[np.float32]
    answers: NDArray[np.float32]
    rate: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64]) -> "Parameters":
        """Return those of some of the questions."""
        return Parameters(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """
    What may be asked, with the numbers that stand for it in arrays; made by `question`, and equal to itself only.

    Attributes:
        topic_id: Its topic.
        item_id: Its item, if one is named.
        difficulty: How hard it is, if that is known.
        topic: Key of the topic.
        item: Key of the item, 0 for none.
        level: 0 to 2, -1 unknown.
    """

    topic_id: str
    item_id: str | None
    difficulty: str | None
    topic: int
    item: int
    level: int


@lru_cache(maxsize=200_000)
def question(topic_id: str, item_id: str | None = None, difficulty: str | None = None) -> Question:
    """Return what may be asked; the same few topics and items come again and again."""
    item = 0 if item_id is None else key64(item_id)
    level = -1 if difficulty is None else DIFFICULTIES.index(difficulty)
    return Question(topic_id, item_id, difficulty, key64(topic_id), item, level)


Key = tuple[str | None, str | None, str | None]
"""Of what parameters are known: an item, a topic, a topic at a difficulty, or (all None) the population."""

POPULATION: Key = (None, None, None)


def chain(item_id: str | None, topic_id: str, difficulty: str | None) -> tuple[Key, ...]:
    """Return the keys under which a question may be known, the most particular first."""
    keys: tuple[Key, ...] = ((None, topic_id, None), POPULATION)
    if difficulty is not None:
        keys = ((None, topic_id, difficulty), *keys)
    return keys if item_id is None else ((item_id, None, None), *keys)


def key_of(published: ItemParameters) -> Key:
    """Return the key of published parameters."""
    match published.subject:
        case "item":
            return (published.item_id, None, None)
        case "topic":
            return (None, published.topic_id, None)
        case "topic_difficulty":
            return (None, published.topic_id, published.difficulty)
        case "population":
            return POPULATION


class ItemTable:
    """The item parameters known to this process. Row 0 stands for the population."""

    def __init__(self) -> None:
        self._rows: dict[Key, int] = {POPULATION: 0}
        self._values = np.tile(np.array(_DEFAULT, np.float32), (1_024, 1))
        self._found: dict[Question, int] = {}

    def __len__(self) -> int:
        """Return how many things parameters are known of."""
        return len(self._rows)

    def update(self, published: Iterable[ItemParameters]) -> None:
        """Take over published parameters; the last of a key wins."""
        for parameters in published:
            key = key_of(parameters)
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = len(self._rows)
                self._found.clear()
                if row == len(self._values):
                    self._values = np.concatenate([self._values, np.tile(np.array(_DEFAULT, np.float32), (row, 1))])
            rate = (parameters.correct + 1) / (parameters.answers + 2)
            self._values[row] = (
                parameters.difficulty_logit,
                parameters.discrimination,
                parameters.time_intensity,
                parameters.time_sigma,
                parameters.answers,
                rate,
            )

    def row(self, question: Question) -> int:
        """Return the row of the most particular parameters known of a question."""
        row = self._found.get(question)
        if row is None:
            keys = chain(question.item_id, question.topic_id, question.difficulty)
            row = next((self._rows[key] for key in keys if key in self._rows), 0)
            if len(self._found) >= _REMEMBERED_QUESTIONS:
                self._found.clear()
            self._found[question] = row
        return row

    def rows(self, questions: Sequence[Question]) -> NDArray[np.int64]:
        """Return the rows of questions, `(N,)`."""
        found = self._found
        return np.array([found[q] if q in found else self.row(q) for q in questions], np.int64)

    def parameters(self, rows: NDArray[np.int64]) -> Parameters:
        """Return the parameters in these rows, each column `(N,)`."""
        return Parameters(*self._values[rows].T)
