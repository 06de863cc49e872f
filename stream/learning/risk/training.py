"""
Training of the risk model: the network, boosting beside it, and which of both, or their blend, is to serve.

The part held out decides, by log loss; it also says when the network has learned enough, and calibrates. An epoch shows
as many weeks as there are users, drawn anew from all weeks of all users. One of each user would be another thing: who
leaves early has early weeks only, and these would look darker than they are.

Source:
    Loshchilov and Hutter 2019, Decoupled weight decay regularization (AdamW); Polyak and Juditsky 1992, averages.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream.errors import UserError
from stream.learning.calibration import logistic_weights
from stream.learning.risk.boosting import Rows, boost_stages
from stream.learning.risk.model import Calibration, Served, learn_to_explain, rows_of, tree_inputs
from stream.learning.risk.network import Network, Relative, Said, Shape, courses_of, measure, tensors
from stream.learning.risk.snapshots import Snapshots
from stream.models.lnirt import sigmoid
from stream.models.quality import log_losses
from stream.models.risk_network import Inputs, Vocabulary
from stream.models.weekly import FEATURES, NAMES

MAX_GRADIENT: Final = 1.0
AVERAGED: Final = 0.998
"""What a step leaves of the average of the weights so far."""

_MOST_HELD_OUT = 20_000
_MOST_MEASURED = 60_000
_MOST_FOR_TREES = 400_000

_AT_ONCE = 2_048
_LEAST_USERS = 20
_HALF = 0.5
_RIDGE = 1.0

Kind = str
KINDS: Final = ("network", "boosting", "blend")


@dataclass(frozen=True, slots=True)
class RiskRecipe:
    """
    How a risk model is trained.

    Attributes:
        seed: Of everything random.
        epochs: Passes over the users, at most; the learning rate falls to nothing by the last, along a cosine.
        patience: Epochs without a better loss on what is held out after which it ends.
        batch: Users in a step.
        learning_rate: AdamW's, at first.
        weight_decay: AdamW's.
        explained: Users on whom the factors are learned.
        explain_epochs: Passes over them.
        seconds: Of training the network, at most.
    """

    seed: int = 42
    epochs: int = 8
    patience: int = 10
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    explained: int = 4_000
    explain_epochs: int = 60
    seconds: float = float("inf")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass: its number from 1, the loss learned from, the loss on what is held out, seconds since the start."""

    number: int
    loss: float
    held_out: float
    seconds: float


@dataclass(slots=True)
class Trained:
    """
    A trained risk model.

    Attributes:
        served: What is exported.
        serving: Which of `KINDS` the part held out chose.
        calibrations: Of each kind.
        epochs: How training went.
        figures: On the part held out, by name.
    """

    served: Served
    serving: Kind
    calibrations: dict[Kind, Calibration]
    epochs: list[Epoch]
    figures: dict[str, float]

    @property
    def vocabulary(self) -> Vocabulary:
        """What it knows of enrolments."""
        return self.served.vocabulary

    def scores(self, snapshots: Snapshots) -> dict[Kind, NDArray[np.float32]]:
        """Return the scores of users by each kind, `(N,)`, calibrated."""
        log_odds = self.served.log_odds(inputs_of(self.vocabulary, snapshots))
        return {kind: sigmoid(_published(log_odds, c)) for kind, c in self.calibrations.items()}

    def calibrated(self, snapshots: Snapshots) -> NDArray[np.float32]:
        """Return the scores that would be served, `(N,)`."""
        return self.scores(snapshots)[self.serving]

    def contributions(self, snapshots: Snapshots) -> NDArray[np.float32]:
        """Return what each factor adds to the log odds, `(N, F)`; the factors are the vocabulary's."""
        inputs = inputs_of(self.vocabulary, snapshots)
        with torch.no_grad():
            parts = [self.served(*tensors(part))[1].numpy() for part in _parts(inputs)]
        return np.concatenate(parts)

    def attention(self, snapshots: Snapshots) -> NDArray[np.float32]:
        """Return what each head pays to each week, `(N, HEADS, WEEKS)`; a head's add up to 1."""
        inputs = inputs_of(self.vocabulary, snapshots)
        with torch.no_grad():
            usual = self.served.network.usual
            parts = [self.served.network(usual(*tensors(part))).attention.numpy() for part in _parts(inputs)]
        return np.concatenate(parts)

    def importance(self, snapshots: Snapshots) -> dict[str, float]:
        """
        Return how much the network's log odds hang on each feature: the mean of |gradient x input| over ten weeks.

        Source:
            Shrikumar et al. 2016, Not just a black box: gradient x input.
        """
        total = np.zeros(len(FEATURES))
        inputs = inputs_of(self.vocabulary, snapshots)
        for part in _parts(inputs):
            with torch.no_grad():
                seen = self.served.network.usual(*tensors(part))
            steps = seen.steps.clone().requires_grad_()
            said: Said = self.served.network(seen._replace(steps=steps))
            (gradient,) = torch.autograd.grad(said.log_odds.sum(), steps)
            total += (gradient * steps).abs().sum(dim=(0, 1)).detach().numpy()
        return dict(zip(NAMES, (total / max(len(inputs), 1)).tolist(), strict=True))


def inputs_of(vocabulary: Vocabulary, snapshots: Snapshots) -> Inputs:
    """Return users as the graph takes them."""
    inputs = vocabulary.inputs(snapshots.seen)
    return Inputs(inputs.steps.astype(np.float32), inputs.day, inputs.facts, inputs.numbers)


def _parts(inputs: Inputs) -> Iterator[Inputs]:
    for start in range(0, len(inputs), _AT_ONCE):
        yield inputs.take(slice(start, start + _AT_ONCE))


def train(
    learned: Snapshots,
    held_out: Snapshots,
    vocabulary: Vocabulary,
    recipe: RiskRecipe,
    tell: Callable[[Epoch], None] = lambda _: None,
) -> Trained:
    """
    Train a risk model from nothing.

    Args:
        learned: What to learn from, several weeks of each user.
        held_out: Of other users.
        vocabulary: What it is to know of enrolments.
        recipe: How.
        tell: Told of each epoch.

    Raises:
        UserError: If there are too few users, or all became the same.
    """
    _check(learned, held_out)
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    courses = int(courses_of(vocabulary).max(initial=0))
    network = Network(Shape(len(vocabulary.facts), len(vocabulary.numbers), len(vocabulary.fields), courses))
    measured = learned.take(_some(len(learned), _MOST_MEASURED, random))
    with torch.no_grad():
        measure(network.usual, inputs_of(vocabulary, measured), measured.user, measured.risk, vocabulary)
    held_out = held_out.take(_some(len(held_out), _MOST_HELD_OUT, random))
    averaged, epochs = _fit(network, vocabulary, learned, held_out, recipe, tell)
    for_trees = learned.take(_some(len(learned), _MOST_FOR_TREES, random))
    trees = boost_stages(_tree_rows(averaged, vocabulary, for_trees), recipe.seed)
    return _finish(Served(averaged, trees, vocabulary), learned, held_out, recipe, epochs)


def refine(served: Served, learned: Snapshots, held_out: Snapshots, recipe: RiskRecipe) -> Trained:
    """
    Train a risk model further; its trees, and what it takes for usual, stay.

    Args:
        served: The model; changed in place.
        learned: What to learn from.
        held_out: Of other users.
        recipe: How.

    Raises:
        UserError: If there are too few users, or all became the same.
    """
    _check(learned, held_out)
    torch.manual_seed(recipe.seed)
    held_out = held_out.take(_some(len(held_out), _MOST_HELD_OUT, np.random.default_rng(recipe.seed)))
    network, epochs = _fit(served.network, served.vocabulary, learned, held_out, recipe, lambda _: None)
    served.network = network
    return _finish(served, learned, held_out, recipe, epochs)


def _check(learned: Snapshots, held_out: Snapshots) -> None:
    for part, name in ((learned, "to learn from"), (held_out, "to hold out")):
        users, first = np.unique(part.user, return_index=True)
        at_risk = int((part.risk[first] >= _HALF).sum())
        if len(users) < _LEAST_USERS or not 0 < at_risk < len(users):
            raise UserError(
                f"expected at least {_LEAST_USERS} users {name}, some at risk and some not, found {len(users)}, "
                f"{at_risk} of them at risk; bring more outcomes"
            )


def _finish(
    served: Served, learned: Snapshots, held_out: Snapshots, recipe: RiskRecipe, epochs: list[Epoch]
) -> Trained:
    """Calibrate what is to serve, choose its kind, and learn its factors: the last of training, and of an update."""
    log_odds = served.log_odds(inputs_of(served.vocabulary, held_out))
    calibrations = {kind: _calibration(log_odds, held_out.risk, kind) for kind in KINDS}
    losses = {kind: float(_loss(held_out.risk, sigmoid(_published(log_odds, c)))) for kind, c in calibrations.items()}
    serving = min(KINDS, key=losses.__getitem__)
    served.calibrate(calibrations[serving])
    random = np.random.default_rng(recipe.seed)
    explained = learned.take(_some(len(learned), recipe.explained, random))
    learn_to_explain(served, inputs_of(served.vocabulary, explained), epochs=recipe.explain_epochs, seed=recipe.seed)
    figures = {f"logloss_{kind}": loss for kind, loss in losses.items()}
    return Trained(served.eval(), serving, calibrations, epochs, figures)


def _some(count: int, most: int, random: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(random.choice(count, most, replace=False)) if count > most else np.arange(count)


def _fit(
    network: Network, vocabulary: Vocabulary, learned: Snapshots, held_out: Snapshots, recipe: RiskRecipe,
    tell: Callable[[Epoch], None],
) -> tuple[Network, list[Epoch]]:  # fmt: skip
    """Return the average of a network's weights at its best epoch, and how training went."""
    random = np.random.default_rng(recipe.seed)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    users = len(np.unique(learned.user))
    steps_in_all = recipe.epochs * -(-users // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps_in_all)
    average = copy.deepcopy(network).eval()
    others, others_said = _relative(network, vocabulary, held_out), _targets(held_out)
    # From a model that has learned already, what does not help is not taken up.
    best, best_loss = copy.deepcopy(average), _loss_of(average, others, others_said)
    waited = steps = 0
    epochs: list[Epoch] = []
    began_at = time.monotonic()
    while len(epochs) < recipe.epochs and waited < recipe.patience:
        drawn = learned.take(random.choice(len(learned), users, replace=False))
        seen, targets = _relative(network, vocabulary, drawn), _targets(drawn)
        network.train()
        total = 0.0
        for start in range(0, len(drawn), recipe.batch):
            rows = slice(start, start + recipe.batch)
            loss = _objective(network(rows_of(seen, rows)), *(target[rows] for target in targets))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
            optimizer.step()
            schedule.step()
            steps += 1
            _follow(average, network, min(AVERAGED, (1 + steps) / (10 + steps)))
            total += float(loss.detach()) * len(targets[0][rows])
        found = _loss_of(average, others, others_said)
        epochs.append(Epoch(len(epochs) + 1, total / len(drawn), found, time.monotonic() - began_at))
        tell(epochs[-1])
        if found < best_loss:
            best, best_loss, waited = copy.deepcopy(average), found, 0
        else:
            waited += 1
        if epochs[-1].seconds > recipe.seconds:
            break
    return best, epochs


def _relative(network: Network, vocabulary: Vocabulary, snapshots: Snapshots) -> Relative:
    with torch.no_grad():
        parts = [network.usual(*tensors(part)) for part in _parts(inputs_of(vocabulary, snapshots))]
    return Relative(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _targets(snapshots: Snapshots) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(snapshots.risk), torch.from_numpy(snapshots.outcome)


def _objective(said: Said, risk: Tensor, outcome: Tensor) -> Tensor:
    """Half the squared error of the score, and half the cross-entropy of the outcome."""
    squared = nn.functional.mse_loss(torch.sigmoid(said.log_odds), risk)
    return 0.5 * squared + 0.5 * nn.functional.cross_entropy(said.classes, outcome)


def _loss_of(network: Network, seen: Relative, targets: tuple[Tensor, Tensor]) -> float:
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(targets[0]), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            said = network(rows_of(seen, rows))
            total += float(_objective(said, *(target[rows] for target in targets))) * len(targets[0][rows])
    return total / len(targets[0])


def _follow(average: Network, network: Network, kept: float) -> None:
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - kept)


def _tree_rows(network: Network, vocabulary: Vocabulary, snapshots: Snapshots) -> Rows:
    inputs = tree_inputs(_relative(network, vocabulary, snapshots)).numpy()
    return Rows(inputs, snapshots.seen.day[:, -1], snapshots.risk)


_HEARD: Final = {"network": (True, False), "boosting": (False, True), "blend": (True, True)}


def _calibration(log_odds: NDArray[np.float32], risk: NDArray[np.float32], kind: Kind) -> Calibration:
    """Return the weights of both voices that make outcomes most likely; of one that is not heard it is 0."""
    heard = np.array(_HEARD[kind])
    prior = np.full(heard.sum(), 1 / heard.sum())
    weights = np.zeros(2)
    weights[heard] = logistic_weights(log_odds[:, heard].astype(np.float64), risk.astype(np.float64), prior, _RIDGE)
    return Calibration(*weights.tolist())


def _published(log_odds: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float32]:
    return log_odds @ np.array([calibration.network, calibration.trees], np.float32)


def _loss(risk: NDArray[np.float32], score: NDArray[np.float32]) -> float:
    """Return the mean log loss; a label between 0 and 1 counts as so much of both."""
    certain, never = (log_losses(np.full(len(risk), what), score) for what in (True, False))
    return float((risk * certain + (1 - risk) * never).mean())
