"""
The knowledge-tracing network in torch, and its export to one ONNX step.

An LSTM reads a user's answers; two heads say of any question whether the answer will be right and how long it will
take, as corrections of what LNIRT says, so that a network that has learned nothing is LNIRT. The names of the step's
inputs are `stream.models.dkt`'s.

Source:
    Piech et al. 2015, Deep Knowledge Tracing; van der Linden 2007 for the log-normal response times.
"""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream.models.dkt import INPUTS, ITEM_ROWS, OUTPUTS, SKILLS
from stream.models.features import COLUMN, COUNT

LEVELS = 4  # unknown, easy, medium, hard
LOG_SIGMA_RANGE = (-3.0, 1.2)
_FAR = 5.0
"""Spreads from what is usual beyond which a feature counts as this far."""

_LEAST_SPREAD = 1e-2
_ITEM_DROPOUT = 0.3
_UNKNOWN_RUNS = 0.1


@dataclass(frozen=True, slots=True)
class Shape:
    """
    Sizes of the network.

    Attributes:
        vocabulary: Rows of the skill embedding; row 0 stands for unknown skills, and free rows wait for new ones.
        embedding: Of skill and of correctness.
        item: Of an item.
        known: Of what was known when an answer was asked.
        hidden: `H` of the LSTM.
        layers: `L` of the LSTM.
        head: Width of the head's first hidden layer; the second is half as wide.
        dropout: In training, between layers and in the head.
    """

    vocabulary: int = 1_024
    embedding: int = 64
    item: int = 32
    known: int = 64
    hidden: int = 64
    layers: int = 1
    head: int = 128
    dropout: float = 0.3

    @property
    def hidden_size(self) -> int:
        """Numbers in one user's state: h and c of each layer."""
        return 2 * self.layers * self.hidden

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]]) -> "Shape":
        """Return the shape of a network with such weights; what weights do not show is as by default."""
        vocabulary, embedding = arrays["skill.weight"].shape
        layers = sum(name.startswith("lstm.weight_hh_l") for name in arrays)
        return cls(
            vocabulary, embedding, arrays["item.weight"].shape[1], arrays["known.weight"].shape[0],
            arrays["lstm.weight_hh_l0"].shape[1], layers, arrays["of_hidden.weight"].shape[0],
        )  # fmt: skip


class Network(nn.Module):
    """The whole network: `forward` is training's way through it, over runs; `Step` is serving's, answer by answer."""

    center: Tensor
    scale: Tensor
    calibration: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.skill = nn.Embedding(shape.vocabulary, shape.embedding)
        self.item = nn.Embedding(ITEM_ROWS, shape.item)
        self.correct = nn.Embedding(2, shape.embedding)
        self.time = nn.Linear(2, shape.embedding, bias=False)
        between = shape.dropout if shape.layers > 1 else 0.0
        self.known = nn.Linear(COUNT, shape.known)
        width = 2 * shape.embedding + shape.item + shape.known
        self.lstm = nn.LSTM(width, shape.hidden, shape.layers, batch_first=True, dropout=between)
        # The head's first layer is a sum of parts, so that a user's part is computed once for all of the user's
        # questions.
        self.of_hidden = nn.Linear(shape.hidden, shape.head)
        self.of_skill = nn.Linear(shape.embedding, shape.head, bias=False)
        self.of_item = nn.Linear(shape.item, shape.head, bias=False)
        self.of_level = nn.Embedding(LEVELS, shape.head)
        self.of_features = nn.Linear(COUNT, shape.head, bias=False)
        self.between = nn.Linear(shape.head, shape.head // 2)
        self.out = nn.Linear(shape.head // 2, 3)
        # What features usually are, so that each counts alike at first; see `standardize`.
        self.register_buffer("center", torch.zeros(COUNT))
        self.register_buffer("scale", torch.ones(COUNT))
        # What makes forecasts hold what they say: slope and intercept of the logit, shift of log sigma.
        self.register_buffer("calibration", torch.tensor([1.0, 0.0, 0.0]))
        self.drop = nn.Dropout(shape.dropout)
        # Nothing learned yet: no correction of LNIRT.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        nn.init.normal_(self.skill.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.05)

    def standardize(self, features: NDArray[np.float32]) -> None:
        """Take the mean and the spread of features, `(N, COUNT)`, for what is usual."""
        if len(features):
            self.center.copy_(torch.from_numpy(features.mean(axis=0)))
            self.scale.copy_(torch.from_numpy(1 / (features.std(axis=0) + _LEAST_SPREAD)))

    def calibrate(self, slope: float, intercept: float, log_sigma: float) -> None:
        """Have every later forecast's logit, and the spread of its response time, moved on top of what they are now."""
        old = self.calibration.tolist()
        self.calibration.copy_(torch.tensor([slope * old[0], slope * old[1] + intercept, old[2] + log_sigma]))

    def skills(self, rows: Tensor) -> Tensor:
        """Return the mean embedding of an answer's skills, `(…, E)`; row 0 counts only where nothing else is known."""
        known = (rows > 0).float()  # (…, SKILLS)
        weights = known / known.sum(-1, keepdim=True).clamp(min=1)
        unknown = (known.sum(-1, keepdim=True) == 0).float() / SKILLS
        mean: Tensor = (self.skill(rows) * (weights + unknown).unsqueeze(-1)).sum(-2)
        return mean

    def items(self, rows: Tensor) -> Tensor:
        """Return the embeddings of items, `(…, I)`; in training some are left out, as a new item's says nothing yet."""
        embedded: Tensor = self.item(rows)
        if not self.training:
            return embedded
        return embedded * (torch.rand_like(embedded[..., :1]) >= _ITEM_DROPOUT)

    def usual(self, features: Tensor) -> Tensor:
        """Return features in spreads from what is usual, `(…, COUNT)`."""
        return ((features - self.center) * self.scale).clamp(-_FAR, _FAR)

    def answer(
        self, skills: Tensor, items: Tensor, correct: Tensor, time: Tensor, known: Tensor, is_known: Tensor
    ) -> Tensor:
        """Return the LSTM's input for answers, `(…, 2 E + I + K)`; `items` are embedded already."""
        of_known = torch.relu(self.known(self.usual(known))) * is_known.unsqueeze(-1)
        return torch.cat([self.skills(skills), items, self.correct(correct) + self.time(time), of_known], dim=-1)

    def head(self, of_hidden: Tensor, skills: Tensor, items: Tensor, level: Tensor, features: Tensor) -> Tensor:
        """
        Return forecasts, `(…, 3)`: logit, mu relative to log 60 s, log sigma.

        Args:
            of_hidden: The user's part, `(…, head)`.
            skills: Of the questions, `(…, SKILLS)`.
            items: The same, embedded, `(…, I)`.
            level: `(…)`.
            features: `(…, COUNT)`.
        """
        hidden = of_hidden + self.of_skill(self.skills(skills)) + self.of_item(items)
        hidden = hidden + self.of_level(level) + self.of_features(self.usual(features))
        hidden = self.drop(torch.relu(hidden))
        correction = self.out(self.drop(torch.relu(self.between(hidden))))  # (…, 3)
        logit = features[..., COLUMN["lnirt_logit"]] + correction[..., 0]
        logit = logit * self.calibration[0] + self.calibration[1]
        mu = features[..., COLUMN["lnirt_mu"]] + correction[..., 1]
        log_sigma = features[..., COLUMN["lnirt_sigma"]].clamp(min=0.05).log() + correction[..., 2]
        log_sigma = log_sigma + self.calibration[2]
        return torch.stack([logit, mu, log_sigma.clamp(*LOG_SIGMA_RANGE)], dim=-1)

    def forward(
        self, skills: Tensor, item: Tensor, correct: Tensor, time: Tensor, level: Tensor, features: Tensor
    ) -> Tensor:
        """
        Return the forecast of each answer of runs from the answers before it, `(B, T, 3)`.

        Args:
            skills: `(B, T, SKILLS)`.
            item: `(B, T)`.
            correct: `(B, T)`.
            time: `(B, T, 2)`.
            level: `(B, T)`.
            features: `(B, T, COUNT)`.
        """
        # The last answer leads to no forecast here, but torch runs no LSTM over nothing, as runs of a single answer
        # would have it.
        items = self.items(item)  # (B, T, I)
        # A state that is rebuilt from remembered answers does not know what was known: whole runs learn that.
        is_known = features.new_ones(len(correct), 1)
        if self.training:
            is_known = (torch.rand_like(is_known) >= _UNKNOWN_RUNS).float()
        is_known = is_known.expand(correct.shape)
        outputs, _ = self.lstm(self.answer(skills, items, correct, time, features, is_known))  # (B, T, H)
        nothing = outputs.new_zeros(len(outputs), 1, self.shape.hidden)
        before = self.drop(torch.cat([nothing, outputs[:, :-1]], dim=1))  # (B, T, H)
        return self.head(self.of_hidden(before), skills, items, level, features)


class Step(nn.Module):
    """One answer of each user, and any questions before or after it: what is exported."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(  # noqa: PLR0913, PLR0917 (the inputs of the graph)
        self,
        hidden: Tensor,
        skills: Tensor,
        item: Tensor,
        correct: Tensor,
        time: Tensor,
        known: Tensor,
        is_known: Tensor,
        row: Tensor,
        after: Tensor,
        asked_skills: Tensor,
        asked_item: Tensor,
        level: Tensor,
        features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the next states and the forecasts; shapes as in `stream.models.dkt.INPUTS`."""
        shape = self.network.shape
        states = hidden.view(-1, 2, shape.layers, shape.hidden).permute(1, 2, 0, 3)  # (2, L, B, H)
        answer = self.network.answer(skills, self.network.items(item), correct, time, known, is_known)
        answer = answer.unsqueeze(1)  # (B, 1, 2E + I + K)
        _, (h, c) = self.network.lstm(answer, (states[0].contiguous(), states[1].contiguous()))
        next_hidden = torch.stack([h, c]).permute(2, 0, 1, 3).reshape(-1, shape.hidden_size)  # (B, 2LH)
        of_hidden = self.network.of_hidden(torch.stack([states[0, -1], h[-1]]))  # (2, B, head)
        when = after.unsqueeze(-1)
        of_question = of_hidden[0][row] * (1 - when) + of_hidden[1][row] * when  # (N, head)
        return next_hidden, self.network.head(
            of_question, asked_skills, self.network.items(asked_item), level, features
        )


def weights(network: Network) -> dict[str, NDArray[np.float32]]:
    """Return the network's weights by name."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}


def from_weights(shape: Shape, arrays: dict[str, NDArray[np.float32]]) -> Network:
    """Return a network with these weights; raises `ValueError` if they are another shape's."""
    network = Network(shape)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: array.shape for name, array in arrays.items()}
    if expected != found:
        raise ValueError(f"expected weights of {expected}, found {found}")
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return network


def examples_of_inputs(shape: Shape, seed: int, users: int = 3, questions: int = 5) -> dict[str, NDArray[np.generic]]:
    """Return random inputs of a step, by name: for the export and as golden vectors."""
    random = np.random.default_rng(seed)
    features = random.normal(0.5, 0.5, (questions, COUNT)).astype(np.float32)
    features[:, COLUMN["lnirt_sigma"]] = 0.8
    inputs: dict[str, NDArray[np.generic]] = {
        "hidden": (random.normal(0, 0.3, (users, shape.hidden_size))).astype(np.float32),
        "skills": random.integers(0, 8, (users, SKILLS)),
        "item": random.integers(0, ITEM_ROWS, users),
        "correct": random.integers(0, 2, users),
        "time": np.stack([random.normal(0, 1, users), np.ones(users)], axis=1).astype(np.float32),
        "known": random.normal(0.5, 0.5, (users, COUNT)).astype(np.float32),
        "is_known": (np.arange(users) % 2).astype(np.float32),
        "row": random.integers(0, users, questions),
        "after": random.integers(0, 2, questions).astype(np.float32),
        "asked_skills": random.integers(0, 8, (questions, SKILLS)),
        "asked_item": random.integers(0, ITEM_ROWS, questions),
        "level": random.integers(0, LEVELS, questions),
        "features": features,
    }
    return {name: inputs[name] for name in INPUTS}


def export(network: Network) -> bytes:
    """Return the step as an ONNX model."""
    step = Step(network).eval()
    inputs = tuple(torch.from_numpy(array) for array in examples_of_inputs(network.shape, seed=0).values())
    users, questions = {0: "users"}, {0: "questions"}
    of_user = {"hidden", "skills", "item", "correct", "time", "known", "is_known", "next_hidden"}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter is the one whose LSTM onnxruntime runs fastest; torch warns that it has a successor.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            step,
            inputs,
            buffer,  # type: ignore[arg-type] # a file of any kind will do
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: users if name in of_user else questions for name in (*INPUTS, *OUTPUTS)},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
