"""
What serves, as one module: network and trees, how far each is heard, calibration, and what explains a score.

Factors are learned: for users of the training data the score is made again with each feature as if it were not known,
which is as if it were usual, and a small network learns what that changes. One run then costs no more for its factors.

Source:
    Platt 1999, Probabilistic outputs for support vector machines (calibration); Schwab and Karlen 2019, CXPlain: causal
    explanations for model interpretation under uncertainty (an explanation as a supervised task); Zeiler and Fergus
    2014, Visualizing and understanding convolutional networks (occlusion).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream.learning.risk.boosting import BORDERS, TreeNode, Trees
from stream.learning.risk.network import TEN_WEEKS, Network, Relative, tensors
from stream.models.risk import FACTORS, LEAST_FACTOR
from stream.models.risk_network import Inputs, Vocabulary
from stream.models.weekly import FEATURES

_LAG = 3
"""Steps back that the explainer compares the newest with."""

_AT_ONCE = 2_048
_WIDE = 96


def tree_inputs(seen: Relative) -> Tensor:
    """Return what trees look at: the newest step as it is and against what is usual, and the background."""
    return torch.cat([seen.newest, seen.steps[:, -1], seen.background], dim=1)


def _stage(position: Tensor) -> Tensor:
    """Return 1 for the stage of the course that users are in, `(B, 2)` to `(B, stages)`."""
    day, is_day = (position[:, 0] + 1) * TEN_WEEKS, position[:, 1]
    passed = [torch.where(is_day > 0, (day >= border).float(), torch.ones_like(day)) for border in BORDERS]
    since = [torch.ones_like(day), *passed]
    until = [*passed, torch.zeros_like(day)]
    return torch.stack([a - b for a, b in zip(since, until, strict=True)], dim=1)


class Explainer(nn.Module):
    """
    Says what each factor adds to the log odds.

    Args:
        context: Numbers of the context.
        fused: Numbers that the network's heads read.
        factors: `F`.
    """

    def __init__(self, context: int, fused: int, factors: int) -> None:
        super().__init__()
        self.read = nn.Linear(3 * len(FEATURES) + context + fused + 2, _WIDE)
        self.more = nn.Linear(_WIDE, _WIDE)
        self.say = nn.Linear(_WIDE, factors)
        self.linear = nn.Linear(3 * len(FEATURES) + context, factors)

    def forward(self, seen: Relative, fused: Tensor, log_odds: Tensor) -> Tensor:
        """Return contributions, `(B, F)`; `log_odds` are those of network and trees, `(B, 2)`."""
        newest = seen.steps[:, -1]
        plain = torch.cat([newest, newest - seen.steps[:, -1 - _LAG], seen.steps.mean(dim=1), seen.context], dim=1)
        hidden = torch.relu(self.read(torch.cat([plain, fused, log_odds], dim=1)))
        contributions: Tensor = self.say(torch.relu(self.more(hidden))) + self.linear(plain)
        return contributions


@dataclass(frozen=True, slots=True)
class Calibration:
    """
    Log odds that are published: `network` times the network's and `trees` times the trees'.

    Without an intercept: one fitted to the users held out, few as they are, made calibration worse on others.
    """

    network: float
    trees: float


class Served(nn.Module):
    """
    What is exported: users in, scores and contributions out.

    Args:
        network: Of the shape of the vocabulary.
        trees: Beside it, of each stage of a course.
        vocabulary: What both know of enrolments.
    """

    weight: Tensor
    field_of_fact: Tensor
    field_of_number: Tensor

    def __init__(self, network: Network, trees: Sequence[Trees], vocabulary: Vocabulary) -> None:
        super().__init__()
        self.network = network
        self.trees = tuple(trees)
        self.vocabulary = vocabulary
        shape = network.shape
        factors = len(vocabulary.factors)
        self.explainer = Explainer(shape.facts + shape.numbers + 2, network.narrow.out_features, factors)
        self.register_buffer("weight", torch.tensor([1.0, 1.0]))
        field = np.zeros((shape.facts, len(vocabulary.fields)), np.float32)
        field[np.arange(shape.facts), vocabulary.field_of_fact] = 1
        self.register_buffer("field_of_fact", torch.from_numpy(field))
        number = np.zeros((shape.numbers, len(vocabulary.fields)), np.float32)
        number[np.arange(shape.numbers), vocabulary.field_of_number] = 1
        self.register_buffer("field_of_number", torch.from_numpy(number))

    def calibrate(self, calibration: Calibration) -> None:
        """Take over a calibration."""
        self.weight.copy_(torch.tensor([calibration.network, calibration.trees]))

    def both(self, seen: Relative) -> tuple[Tensor, Tensor]:
        """Return the log odds of network and trees, `(B, 2)`, and what the network's heads read, `(B, 64)`."""
        said = self.network(seen)
        inputs = tree_inputs(seen)
        of_stages = torch.cat([TreeNode.apply(inputs, trees) for trees in self.trees], dim=1)  # (B, stages)
        of_trees = (of_stages * _stage(seen.position[:, -1])).sum(dim=1, keepdim=True)
        return torch.cat([said.log_odds[:, None], of_trees], dim=1), said.fused

    def forward(self, steps: Tensor, day: Tensor, facts: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores, `(B,)`, and contributions, `(B, F)`; shapes as in `stream.models.risk_network.INPUTS`."""
        seen = self.network.usual(steps, day, facts, numbers)
        log_odds, fused = self.both(seen)
        score = torch.sigmoid((log_odds * self.weight).sum(dim=1))
        of_steps = (~torch.isnan(steps)).float().amax(dim=1)  # (B, 42)
        of_fields = facts @ self.field_of_fact + (~torch.isnan(numbers)).float() @ self.field_of_number
        is_known = torch.cat([of_steps, torch.clamp(of_fields, max=1.0)], dim=1)
        # What is not known is usual already: it adds nothing.
        return score, self.explainer(seen, fused, log_odds) * is_known

    def log_odds(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the log odds of network and trees, before calibration, `(B, 2)`."""
        parts = []
        self.eval()
        with torch.no_grad():
            for start in range(0, len(inputs), _AT_ONCE):
                seen = self.network.usual(*tensors(inputs.take(slice(start, start + _AT_ONCE))))
                parts.append(self.both(seen)[0].numpy())
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)

    def calibrated(self, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log odds that are published, `(B,)`."""
        return np.asarray(log_odds @ self.weight.numpy())


def without(inputs: Inputs, vocabulary: Vocabulary, factor: int) -> Inputs:
    """Return users as if one factor were not known of them, which counts as usual."""
    if factor < len(FEATURES):
        steps = inputs.steps.copy()
        steps[:, :, factor] = np.nan
        return Inputs(steps, inputs.day, inputs.facts, inputs.numbers)
    field = factor - len(FEATURES)
    facts, numbers = inputs.facts.copy(), inputs.numbers.copy()
    facts[:, vocabulary.field_of_fact == field] = 0
    numbers[:, vocabulary.field_of_number == field] = np.nan
    return Inputs(inputs.steps, inputs.day, facts, numbers)


def is_known(inputs: Inputs, vocabulary: Vocabulary, factor: int) -> NDArray[np.bool_]:
    """Return of which users a factor is known, `(B,)`."""
    if factor < len(FEATURES):
        return np.asarray((~np.isnan(inputs.steps[:, :, factor])).any(axis=1))
    field = factor - len(FEATURES)
    of_facts = inputs.facts[:, vocabulary.field_of_fact == field] > 0
    of_numbers = ~np.isnan(inputs.numbers[:, vocabulary.field_of_number == field])
    return np.asarray(of_facts.any(axis=1) | of_numbers.any(axis=1))


def occluded(served: Served, inputs: Inputs) -> NDArray[np.float32]:
    """Return by how much each factor raises the published log odds, against its not being known, `(B, F)`."""
    vocabulary = served.vocabulary
    whole = served.calibrated(served.log_odds(inputs))
    effects = np.zeros((len(inputs), len(vocabulary.factors)), np.float32)
    for factor in range(len(vocabulary.factors)):
        rows = is_known(inputs, vocabulary, factor).nonzero()[0]
        if len(rows):
            changed = served.calibrated(served.log_odds(without(inputs.take(rows), vocabulary, factor)))
            effects[rows, factor] = whole[rows] - changed
    return effects


def learn_to_explain(served: Served, inputs: Inputs, *, epochs: int, seed: int) -> None:
    """
    Fit the explainer to what occlusion says of users, in place.

    Args:
        served: Network, trees and calibration stay as they are.
        inputs: `(N,)`.
        epochs: Passes.
        seed: Of the order.
    """
    effects = torch.from_numpy(occluded(served, inputs))
    known = torch.from_numpy(
        np.stack([is_known(inputs, served.vocabulary, f) for f in range(effects.shape[1])], axis=1).astype(np.float32)
    )
    with torch.no_grad():
        seen = served.network.usual(*tensors(inputs))
        starts = range(0, len(inputs), _AT_ONCE)
        parts = [served.both(rows_of(seen, slice(start, start + _AT_ONCE))) for start in starts]
    log_odds, fused = (torch.cat(part) for part in zip(*parts, strict=True))
    optimizer = torch.optim.Adam(served.explainer.parameters(), _EXPLAINER_RATE)
    steps = epochs * -(-len(inputs) // _EXPLAINER_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _EXPLAINER_RATE, total_steps=max(steps, 2))
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = torch.from_numpy(random.permutation(len(inputs)))
        for start in range(0, len(inputs), _EXPLAINER_BATCH):
            rows = order[start : start + _EXPLAINER_BATCH]
            said = served.explainer(rows_of(seen, rows), fused[rows], log_odds[rows]) * known[rows]
            loss = nn.functional.smooth_l1_loss(said, effects[rows], beta=_SMALL_EFFECT)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


_EXPLAINER_RATE, _EXPLAINER_BATCH = 3e-3, 128
_SMALL_EFFECT = 0.1
"""Log odds: errors below count by their squares."""


def rows_of(seen: Relative, rows: Tensor | slice) -> Relative:
    """Return some of the users."""
    return Relative(*(column[rows] for column in seen))


def faithfulness(served: Served, inputs: Inputs, contributions: NDArray[np.float32]) -> float:
    """Return how often the factors that are named move the score the way they say, when set to what is usual."""
    effects = occluded(served, inputs)
    order = (-np.abs(contributions)).argsort(axis=1, kind="stable")[:, :FACTORS]
    said, done = (np.take_along_axis(values, order, axis=1) for values in (contributions, effects))
    named = np.abs(said) >= LEAST_FACTOR
    return float((np.sign(said) == np.sign(done))[named].mean()) if named.any() else 1.0
