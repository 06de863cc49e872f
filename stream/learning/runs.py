"""
Runs of users' answers, bounded: what the trainer learns from.

A recurrent network cannot learn from single answers, so each user's latest ones are kept together, in order, with the
very features that the prediction used. Pure; kept in memory, and read again from the topic after a restart.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from schemas import TrainingExample
from stream.models.dkt import SKILLS, item_rows, time_input
from stream.models.features import COUNT
from stream.state.learner import DIFFICULTIES, key64

_LEVEL = {level: index + 1 for index, level in enumerate(DIFFICULTIES)}


@dataclass(frozen=True, slots=True)
class Runs:
    """
    Runs of answers, padded on the right.

    Attributes:
        skills: Rows of the vocabulary, int64 `(B, T, SKILLS)`, 0 where there are fewer.
        item: Rows of the embedding of items, int64 `(B, T)`.
        correct: int64 `(B, T)`.
        time: Log seconds relative to 60 s and whether they are known, float32 `(B, T, 2)`.
        level: 0 unknown, 1 to 3, int64 `(B, T)`.
        features: float32 `(B, T, COUNT)`.
        there: Whether a place holds an answer, bool `(B, T)`.
        number: The trainer's running number of each answer, int64 `(B, T)`; tells old from new.
        version: Of the model that served it, int64 `(B, T)`; 0 for the fallback.
        p_serving: What that said of it, float32 `(B, T)`.
        p_fallback: What the fallback said, float32 `(B, T)`.
    """

    skills: NDArray[np.int64]
    item: NDArray[np.int64]
    correct: NDArray[np.int64]
    time: NDArray[np.float32]
    level: NDArray[np.int64]
    features: NDArray[np.float32]
    there: NDArray[np.bool_]
    number: NDArray[np.int64]
    version: NDArray[np.int64]
    p_serving: NDArray[np.float32]
    p_fallback: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.correct)

    def take(self, rows: NDArray[np.int64]) -> "Runs":
        """Return some of the runs, cut behind the last answer that is there in any of them."""
        lengths = np.where(self.there[rows], np.arange(self.there.shape[1]) + 1, 0)
        return self.part(rows, int(lengths.max(initial=1)))

    def part(self, rows: NDArray[np.int64], longest: int | None = None) -> "Runs":
        """Return some of the runs, each cut to `longest` places."""
        return Runs(*(getattr(self, field.name)[rows, :longest] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class _Answer:
    number: int
    event_id: str
    skills: tuple[str, ...]
    item: int
    correct: bool
    response_time_s: float
    level: int
    features: NDArray[np.float32]
    at: float
    version: int
    p_serving: float
    p_fallback: float


def _item_row(item_id: str | None) -> int:
    return 0 if item_id is None else int(item_rows(np.array([key64(item_id)], np.uint64))[0])


class Buffer:
    """
    The latest answers of the users who answered latest.

    Args:
        max_answers: Kept in all; the user who has been quiet longest goes first.
        max_run: Kept of one user; the oldest go first.
    """

    def __init__(self, max_answers: int, max_run: int) -> None:
        self._max_answers = max_answers
        self._max_run = max_run
        self._runs: OrderedDict[str, deque[_Answer]] = OrderedDict()
        self._size = 0
        self._rows: dict[str, int] = {}
        self.count = 0
        """Answers ever added; the next one's number."""

    def __len__(self) -> int:
        """Return the number of answers that are kept."""
        return self._size

    @property
    def skills(self) -> tuple[str, ...]:
        """Every skill met, in order of appearance: a skill's embedding row is its place here, from 1."""
        return tuple(self._rows)

    def know(self, skills: Sequence[str]) -> None:
        """Take over the skills of a published model, so that rows stay what they were."""
        for skill in skills:
            self._rows.setdefault(skill, len(self._rows) + 1)

    def add(self, example: TrainingExample, at: float = 0.0) -> bool:
        """
        Add an answer; return False, and change nothing, if its event is among the user's already.

        Args:
            example: What the model saw, and what happened.
            at: Kafka's timestamp of the example, seconds since the epoch.
        """
        run = self._runs.setdefault(example.user_id, deque())
        if any(answer.event_id == example.event_id for answer in run):
            return False
        self._runs.move_to_end(example.user_id)
        self.know(example.skills)
        seconds = example.response_time_seconds
        run.append(
            _Answer(
                self.count, example.event_id, example.skills, _item_row(example.item_id), example.correct,
                float("nan") if seconds is None else seconds, _LEVEL.get(example.difficulty or "", 0),
                np.asarray(example.features, np.float32), at, example.model.version,
                example.p_before, example.p_before_fallback,
            )
        )  # fmt: skip
        self.count += 1
        self._size += 1
        if len(run) > self._max_run:
            run.popleft()
            self._size -= 1
        while self._size > self._max_answers and len(self._runs) > 1:
            self._size -= len(self._runs.popitem(last=False)[1])
        return True

    def forget(self, user_id: str, until: float = float("inf")) -> None:
        """Drop a user's answers up to Kafka's timestamp `until`, seconds since the epoch."""
        run = self._runs.get(user_id, deque())
        kept = deque(answer for answer in run if answer.at > until)
        self._size -= len(run) - len(kept)
        if kept:
            self._runs[user_id] = kept
        else:
            self._runs.pop(user_id, None)

    def runs(self, since: int | None = None) -> Runs:
        """
        Return every run.

        Args:
            since: Only runs with an answer of this number or above.
        """
        chosen = [run for run in self._runs.values() if run and (since is None or run[-1].number >= since)]
        return self._pad(chosen)

    def _pad(self, chosen: list[deque[_Answer]]) -> Runs:
        users, longest = len(chosen), max(map(len, chosen), default=1)
        skills = np.zeros((users, longest, SKILLS), np.int64)
        item, correct, level, number, version = (np.zeros((users, longest), np.int64) for _ in range(5))
        seconds = np.full((users, longest), np.nan, np.float32)
        of_features = np.zeros((users, longest, COUNT), np.float32)
        there = np.zeros((users, longest), bool)
        p_serving, p_fallback = (np.full((users, longest), 0.5, np.float32) for _ in range(2))
        for row, run in enumerate(chosen):
            for t, answer in enumerate(run):
                rows = [self._rows[skill] for skill in answer.skills[:SKILLS]]
                skills[row, t, : len(rows)] = rows
            size = len(run)
            there[row, :size] = True
            item[row, :size] = [a.item for a in run]
            correct[row, :size] = [a.correct for a in run]
            level[row, :size] = [a.level for a in run]
            number[row, :size] = [a.number for a in run]
            version[row, :size] = [a.version for a in run]
            seconds[row, :size] = [a.response_time_s for a in run]
            of_features[row, :size] = [a.features for a in run]
            p_serving[row, :size] = [a.p_serving for a in run]
            p_fallback[row, :size] = [a.p_fallback for a in run]
        return Runs(
            skills,
            item,
            correct,
            time_input(seconds),
            level,
            of_features,
            there,
            number,
            version,
            p_serving,
            p_fallback,
        )
