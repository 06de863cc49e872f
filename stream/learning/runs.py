"""
Runs of users' answers: what a network learns from, and how one answer is packed.

A recurrent network cannot learn from single answers, so each user's latest ones are kept together, in order, with the
very features that the prediction used. Pure; `stream.learning.buffer` keeps the answers.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas import TrainingExample
from stream.models.dkt import SKILLS, item_rows, time_input
from stream.models.features import COUNT
from stream.state.learner import DIFFICULTIES, key64

ANSWER = np.dtype(
    [
        ("skills", "<i4", SKILLS),  # numbers that the buffer gave them, 0 where there are fewer
        ("item", "<u8"),  # its key, 0 for none
        ("version", "<i8"),  # of the model that served it; 0 for the fallback
        ("response_time_s", "<f4"),  # NaN where unknown
        ("p_serving", "<f4"),
        ("p_fallback", "<f4"),
        ("level", "u1"),  # 0 unknown, 1 to 3
        ("correct", "u1"),
        ("features", "<f4", COUNT),
    ]
)
"""One answer as it is kept."""

_PACKED = struct.Struct(f"<{SKILLS}iQq3f2B{COUNT}f")  # the same, ten times as fast for a single one
_LEVEL = {level: index + 1 for index, level in enumerate(DIFFICULTIES)}
_LARGEST = float(np.finfo(np.float32).max)
_LONGEST_S = 1e9

PADDING = 8
"""Places for each answer at most: a few long runs among many short ones would otherwise take up gigabytes."""

PLACES = 1 << 18
"""So many places, some 80 MB, are given whatever the padding."""

INFLUENCE = (50, 3)
"""Answers for which a run may count, and times the usual run, whichever is more."""


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


def influence_cap(runs: Runs) -> float:
    """Return for how many answers a run may count at most, among these runs."""
    least, times = INFLUENCE
    lengths = runs.there.sum(axis=1)
    return max(float(least), times * float(np.median(lengths))) if len(runs) else float(least)


def influence(runs: Runs, cap: float) -> NDArray[np.float32]:
    """
    Return what each answer of a run weighs, float32 `(B,)`, in (0, 1], so that no user pulls harder than `cap` answers.

    Args:
        runs: Of different users.
        cap: `influence_cap` of all that is learned from, of which these runs may be a part.
    """
    lengths = np.maximum(runs.there.sum(axis=1), 1)
    weight: NDArray[np.float32] = np.minimum(1, cap / lengths, dtype=np.float32)
    return weight


def can_pack(example: TrainingExample) -> bool:
    """Return whether an example's features are as many as there are columns, each within the range of a float32."""
    features = example.features
    return len(features) == COUNT and min(features) >= -_LARGEST and max(features) <= _LARGEST


def packed(example: TrainingExample, skills: Sequence[int]) -> bytes:
    """
    Return an answer as one `ANSWER`.

    Args:
        example: What the model saw, and what happened; `can_pack` is true of it.
        skills: The numbers of its skills, of which the first ones are kept.
    """
    seconds = example.response_time_seconds
    return _PACKED.pack(
        *skills[:SKILLS], *(0,) * (SKILLS - len(skills)),
        0 if example.item_id is None else key64(example.item_id),
        example.model.version,
        float("nan") if seconds is None else min(seconds, _LONGEST_S),
        example.p_before, example.p_before_fallback,
        _LEVEL.get(example.difficulty or "", 0), example.correct, *example.features,
    )  # fmt: skip


def with_outcome(record: bytes, correct: bool) -> bytes:
    """Return an `ANSWER` with another outcome."""
    answer = np.frombuffer(bytearray(record), ANSWER)
    answer["correct"] = correct
    return answer.tobytes()


def longest_run(lengths: NDArray[np.int64]) -> int:
    """Return how many of their latest answers runs may keep, so that padding them all alike stays bounded."""
    places = max(PADDING * int(lengths.sum()), PLACES)
    return max(min(int(lengths.max(initial=1)), places // max(len(lengths), 1)), 1)


def padded(
    answers: NDArray[np.void],
    number: NDArray[np.int64],
    lengths: NDArray[np.int64],
    skill_rows: NDArray[np.int64],
    longest: int | None = None,
) -> Runs:
    """
    Return runs as the network wants them.

    Args:
        answers: Each an `ANSWER`, one run after the other, `(N,)`.
        number: Running number of each, `(N,)`.
        lengths: Of the runs, `(B,)`.
        skill_rows: The row of the embedding for each number of a skill, `(S,)`; the first, of none, is 0.
        longest: Of each run only so many, the latest, are kept; None for all.
    """
    if longest is not None:
        before_end = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(answers))  # from 1, the latest
        answers, number = answers[before_end <= longest], number[before_end <= longest]
        lengths = np.minimum(lengths, longest)
    there = np.arange(lengths.max(initial=1)) < lengths[:, None]  # (B, T)

    def spread(values: NDArray[Any], dtype: type[np.generic], empty: float = 0) -> NDArray[Any]:
        places = np.full((*there.shape, *values.shape[1:]), empty, dtype)
        places[there] = values
        return places

    return Runs(
        skills=spread(skill_rows[answers["skills"]], np.int64),
        item=spread(item_rows(answers["item"]), np.int64),
        correct=spread(answers["correct"], np.int64),
        time=time_input(spread(answers["response_time_s"], np.float32, np.nan)),
        level=spread(answers["level"], np.int64),
        features=spread(answers["features"], np.float32),
        there=there,
        number=spread(number, np.int64),
        version=spread(answers["version"], np.int64),
        p_serving=spread(answers["p_serving"], np.float32, 0.5),
        p_fallback=spread(answers["p_fallback"], np.float32, 0.5),
    )
