"""
The risk network: three streams of ten weeks, each read both ways by a GRU, joined, and attended to.

What goes in is measured against what is usual in the same course at the same time; that is part of the network, so that
a served graph takes what `stream.models.weekly` gives. What is not known counts as usual.

Source:
    Cho et al. 2014, Learning phrase representations using RNN encoder-decoder (GRU); Vaswani et al. 2017, Attention is
    all you need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream.models.risk_network import Inputs, Vocabulary
from stream.models.weekly import COLUMNS_OF, FEATURES
from stream.state.academic import OUTCOMES, WEEKS

HIDDEN: Final = 42
JOINED: Final = 256
HEADS: Final = 4
KEY: Final = 16
OF_CONTEXT: Final = 64
DROPOUT: Final = 0.3

COURSE_WEEKS: Final = 42
"""Rows of what is usual: at any time, at the start of a course, and at the end of each of its forty weeks."""

_ANY_TIME, _START = 0, 1
_POSITION = 2
_LARGEST = 5.0
TEN_WEEKS: Final = 70.0
"""Days: a step's place in its course is counted in so many."""


@dataclass(frozen=True, slots=True)
class Shape:
    """
    The network's dimensions.

    Attributes:
        facts: `V`, texts of enrolments that it knows.
        numbers: `K`, numbers of enrolments.
        fields: Of these texts and numbers.
        courses: `C`, courses of which it knows what is usual.
    """

    facts: int
    numbers: int
    fields: int
    courses: int

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Shape":
        """Return the shape that weights are of."""
        facts, fields = arrays["usual.risk_of_fact"].shape
        return cls(facts, len(arrays["usual.number_center"]), fields, len(arrays["usual.center"]) - 1)


class Relative(NamedTuple):
    """
    Users against what is usual.

    Attributes:
        steps: `(B, WEEKS, 42)`; 0 is usual, or not known.
        position: Where in the course each step is, and whether that is known, `(B, WEEKS, 2)`.
        context: Texts, numbers and the newest position, `(B, V + K + 2)`.
        newest: The newest step as it is, what is not known in its place usual, `(B, 42)`.
        background: Log odds of being at risk of users with the same text in a field, numbers, position,
            `(B, fields + K + 2)`.
    """

    steps: Tensor
    position: Tensor
    context: Tensor
    newest: Tensor
    background: Tensor


class Usual(nn.Module):
    """What is usual in a course at a time: centres and spreads of the features, not learned by gradients."""

    center: Tensor
    spread: Tensor
    course_of_fact: Tensor
    risk_of_fact: Tensor
    number_center: Tensor
    number_spread: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = (shape.courses + 1, COURSE_WEEKS, len(FEATURES))
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self.register_buffer("course_of_fact", torch.zeros(shape.facts))
        self.register_buffer("risk_of_fact", torch.zeros(shape.facts, shape.fields))
        self.register_buffer("number_center", torch.zeros(shape.numbers))
        self.register_buffer("number_spread", torch.ones(shape.numbers))

    def forward(self, steps: Tensor, day: Tensor, facts: Tensor, numbers: Tensor) -> Relative:
        """
        Measure users.

        Args:
            steps: `(B, WEEKS, 42)`, NaN where nothing is known.
            day: Days since the course began by the end of each step, NaN where unknown, `(B, WEEKS)`.
            facts: 1 for each text that is a user's, `(B, V)`.
            numbers: `(B, K)`, NaN where unknown.
        """
        # A column more, for a school that tells of no courses.
        course = nn.functional.pad(facts * self.course_of_fact, (0, 1)).amax(dim=1).long()[:, None]  # (B, 1)
        is_day = ~torch.isnan(day)
        position = torch.where(is_day, day, torch.zeros_like(day))
        # Between the ends of two weeks, what is usual lies between theirs.
        weeks = torch.clamp((position + 1) / 7, 0, COURSE_WEEKS - 1 - _START)
        earlier = torch.floor(weeks)
        share = torch.where(is_day, weeks - earlier, torch.zeros_like(day)).unsqueeze(-1)
        row = torch.where(is_day, earlier + _START, torch.full_like(day, _ANY_TIME)).long()
        later = course * COURSE_WEEKS + torch.clamp(row + 1, max=COURSE_WEEKS - 1)
        row = course * COURSE_WEEKS + row
        center, spread = self.center.flatten(0, 1), self.spread.flatten(0, 1)
        center = center[row] * (1 - share) + center[later] * share  # (B, WEEKS, 42)
        spread = spread[row] * (1 - share) + spread[later] * share
        filled = torch.where(torch.isnan(steps), center, steps)
        relative = torch.clamp((filled - center) / spread, -_LARGEST, _LARGEST)
        number = (numbers - self.number_center) / self.number_spread
        number = torch.clamp(torch.where(torch.isnan(number), torch.zeros_like(number), number), -_LARGEST, _LARGEST)
        where = torch.stack([position / TEN_WEEKS - 1, is_day.float()], dim=-1)  # (B, WEEKS, 2)
        plain = torch.cat([number, where[:, -1]], dim=1)
        return Relative(
            relative, where, torch.cat([facts, plain], dim=1), filled[:, -1],
            torch.cat([facts @ self.risk_of_fact, plain], dim=1),
        )  # fmt: skip


class Said(NamedTuple):
    """
    What the network says.

    Attributes:
        log_odds: Of being at risk, `(B,)`.
        classes: Log odds of the four outcomes, up to a constant, `(B, 4)`.
        attention: To each week by each head, `(B, HEADS, WEEKS)`.
        fused: What both heads read, `(B, 64)`.
    """

    log_odds: Tensor
    classes: Tensor
    attention: Tensor
    fused: Tensor


class Network(nn.Module):
    """Three bidirectional GRUs of two layers, attention over the ten steps, and two heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.usual = Usual(shape)
        self.streams = nn.ModuleList(
            nn.GRU(
                columns.stop - columns.start + _POSITION, HIDDEN, num_layers=2, batch_first=True, bidirectional=True,
                dropout=DROPOUT,
            )
            for columns in COLUMNS_OF.values()
        )  # fmt: skip
        self.joined = nn.Linear(2 * HIDDEN * len(COLUMNS_OF), JOINED)
        self.query = nn.Linear(JOINED, HEADS * KEY)
        self.key = nn.Linear(JOINED, HEADS * KEY)
        self.attended = nn.Linear(JOINED, JOINED)
        self.norm = nn.LayerNorm(JOINED)
        self.of_context = nn.Linear(shape.facts + shape.numbers + _POSITION, OF_CONTEXT)
        self.fuse = nn.Linear(JOINED + OF_CONTEXT + len(FEATURES), 128)
        self.narrow = nn.Linear(128, 64)
        self.risk = nn.Linear(64, 1)
        self.outcome = nn.Linear(64, len(OUTCOMES))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, seen: Relative) -> Said:
        """Return what is said of users."""
        read = [
            gru(torch.cat([seen.steps[..., columns], seen.position], dim=-1))[0]
            for gru, columns in zip(self.streams, COLUMNS_OF.values(), strict=True)
        ]
        steps = torch.relu(self.joined(torch.cat(read, dim=-1)))  # (B, WEEKS, 256)
        query = self.query(steps[:, -1]).view(-1, 1, HEADS, KEY)
        key = self.key(steps).view(-1, WEEKS, HEADS, KEY)
        attention = torch.softmax((query * key).sum(-1) / KEY**0.5, dim=1).transpose(1, 2)  # (B, HEADS, WEEKS)
        # Each head attends to its own quarter of what was joined.
        quarters = steps.view(-1, WEEKS, HEADS, JOINED // HEADS).transpose(1, 2)  # (B, HEADS, WEEKS, 64)
        heads = (self.drop(attention).unsqueeze(-1) * quarters).sum(dim=2).flatten(1)  # (B, 256)
        summary = self.norm(steps[:, -1] + self.drop(self.attended(heads)))
        context = torch.relu(self.of_context(seen.context))
        fused = self.drop(torch.relu(self.fuse(torch.cat([summary, context, seen.steps[:, -1]], dim=1))))
        fused = self.drop(torch.relu(self.narrow(fused)))
        return Said(self.risk(fused).squeeze(1), self.outcome(fused), attention, fused)


def tensors(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the inputs of a graph as `Usual` takes them."""
    return (
        torch.from_numpy(inputs.steps), torch.from_numpy(inputs.day),
        torch.from_numpy(inputs.facts), torch.from_numpy(inputs.numbers),
    )  # fmt: skip


LEAST_OF_COURSE = 30
"""Users of a course in a week below which what is usual there is taken from the course, or from all."""

_OTHERS = 50
"""Users like all others, who are added to those of whom a text is said: few of them say little."""

_LEAST_SPREAD = 0.1
"""Of a feature's spread over all: where everyone is alike, a small difference is not made a large one."""


def measure(
    usual: Usual, inputs: Inputs, user: NDArray[np.int64], risk: NDArray[np.float32], vocabulary: Vocabulary
) -> None:
    """
    Learn what is usual, in place.

    Args:
        usual: What learns.
        inputs: Of users at moments, `(N,)`.
        user: Who they are, `(N,)`.
        risk: Whether they are at risk, `(N,)`.
        vocabulary: What the columns of `inputs` stand for.
    """
    courses = courses_of(vocabulary)
    rows = np.arange(len(vocabulary.facts))
    # One row of each user: many weeks of one say no more of what a text goes with.
    _, first = np.unique(user, return_index=True)
    facts, risk = inputs.facts[first], risk[first]
    share = (facts.T @ risk + _OTHERS * risk.mean()) / (facts.sum(axis=0) + _OTHERS)
    usual.risk_of_fact[rows, vocabulary.field_of_fact] = torch.from_numpy(np.log(share / (1 - share)))
    usual.course_of_fact.copy_(torch.from_numpy(courses.astype(np.float32)))
    course = (inputs.facts * courses).max(axis=1, initial=0).astype(np.int64).repeat(WEEKS)
    steps, day = inputs.steps.astype(np.float64).reshape(-1, len(FEATURES)), inputs.day.reshape(-1)
    known = ~np.isnan(day)
    weeks = np.clip((np.where(known, day, 0) + 1) / 7, 0, COURSE_WEEKS - 1 - _START)
    share = np.where(known, weeks - np.floor(weeks), 0.0)
    row = np.where(known, np.floor(weeks).astype(np.int64) + _START, _ANY_TIME)
    # A day between the ends of two weeks counts for both, the more the nearer.
    times = ((row, 1 - share), (np.minimum(row + 1, COURSE_WEEKS - 1), share))
    any_time = ((np.full(len(row), _ANY_TIME), np.ones(len(row))),)
    shape = (len(usual.center), COURSE_WEEKS)
    center, spread, count = _moments(steps, course, times, shape)
    by_course, of_all = _moments(steps, course, any_time, shape), _moments(steps, 0 * course, any_time, shape)
    by_week = _moments(steps, 0 * course, times, shape)
    # From the most particular that enough is known of to the most general.
    for wider, part in ((by_course, np.s_[:, :1]), (by_week, np.s_[:1, :]), (of_all, np.s_[:1, :1])):
        few = count < LEAST_OF_COURSE
        center, spread, count = (
            np.where(few, wide[part], own) for wide, own in zip(wider, (center, spread, count), strict=True)
        )
    least = np.maximum(_LEAST_SPREAD * of_all[1][:1, :1], 1e-3)
    usual.center.copy_(torch.from_numpy(center.astype(np.float32)))
    usual.spread.copy_(torch.from_numpy(np.maximum(spread, least).astype(np.float32)))
    present = ~np.isnan(inputs.numbers)
    for column in range(inputs.numbers.shape[1]):
        values = inputs.numbers[present[:, column], column]
        if len(values):
            usual.number_center[column] = float(values.mean())
            usual.number_spread[column] = max(float(values.std()), 1e-3)


def courses_of(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Return the number of the course that each fact names, from 1; 0 for one that names none, `(V,)`."""
    is_course = np.array([fact.startswith("course=") for fact in vocabulary.facts], bool)
    return np.where(is_course, is_course.cumsum(), 0)


def _moments(
    steps: NDArray[np.float64],
    course: NDArray[np.int64],
    times: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]],
    shape: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """
    Return means, standard deviations and counts by course and time, `(*shape, 42)`; of nothing 0, 1 and 0.

    Args:
        steps: `(N, 42)`.
        course: Of each, `(N,)`.
        times: Rows of time that each counts for, and how much, `(N,)` both.
        shape: Courses and times.
    """
    sums = np.zeros((3, shape[0] * shape[1], steps.shape[1]))
    for time, much in times:
        for column in range(steps.shape[1]):
            known = ~np.isnan(steps[:, column]) & (much > 0)
            of, weight, values = course[known] * shape[1] + time[known], much[known], steps[known, column]
            for place, power in enumerate((np.ones_like(values), values, values**2)):
                sums[place, :, column] += np.bincount(of, weight * power, len(sums[0]))
    count = sums[0]
    mean = np.divide(sums[1], count, out=np.zeros_like(count), where=count > 0)
    variance = np.divide(sums[2], count, out=np.ones_like(count), where=count > 0) - mean**2
    spread = np.where(count > 0, np.sqrt(np.maximum(variance, 0.0)), 1.0)
    whole = (*shape, steps.shape[1])
    return mean.reshape(whole), spread.reshape(whole), count.reshape(whole)
