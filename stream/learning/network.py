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
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream.models.dkt import INPUTS, OUTPUTS, SKILLS
from stream.models.features import COLUMN, COUNT

LEVELS = 4  # unknown, easy, medium, hard
LOG_SIGMA_RANGE = (-3.0, 1.2)


@dataclass(frozen=True, slots=True)
class Shape:
    """
    Sizes of the network.

    Attributes:
        vocabulary: Rows of the skill embedding; row 0 stands for unknown skills, and free rows wait for new ones.
        embedding: Of skill and of correctness.
        hidden: `H` of the LSTM.
        layers: `L` of the LSTM.
        head: Width of the heads' hidden layer.
        dropout: In training, between layers and before the head.
    """

    vocabulary: int = 1_024
    embedding: int = 64
    hidden: int = 128
    layers: int = 2
    head: int = 64
    dropout: float = 0.2

    @property
    def hidden_size(self) -> int:
        """Numbers in one user's state: h and c of each layer."""
        return 2 * self.layers * self.hidden


class Network(nn.Module):
    """The whole network: `forward` is training's way through it, over runs; `Step` is serving's, answer by answer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.skill = nn.Embedding(shape.vocabulary, shape.embedding)
        self.correct = nn.Embedding(2, shape.embedding)
        self.time = nn.Linear(2, shape.embedding, bias=False)
        self.lstm = nn.LSTM(2 * shape.embedding, shape.hidden, shape.layers, batch_first=True, dropout=shape.dropout)
        # The head's first layer is a sum of parts, so that a user's part is computed once for all of the user's
        # questions.
        self.of_hidden = nn.Linear(shape.hidden, shape.head)
        self.of_skill = nn.Linear(shape.embedding, shape.head, bias=False)
        self.of_level = nn.Embedding(LEVELS, shape.head)
        self.of_features = nn.Linear(COUNT, shape.head, bias=False)
        self.out = nn.Linear(shape.head, 3)
        self.drop = nn.Dropout(shape.dropout)
        # Nothing learned yet: no correction of LNIRT.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        nn.init.normal_(self.skill.weight, std=0.1)

    def skills(self, rows: Tensor) -> Tensor:
        """Return the mean embedding of an answer's skills, `(…, E)`; row 0 counts only where nothing else is known."""
        known = (rows > 0).float()  # (…, SKILLS)
        weights = known / known.sum(-1, keepdim=True).clamp(min=1)
        unknown = (known.sum(-1, keepdim=True) == 0).float() / SKILLS
        mean: Tensor = (self.skill(rows) * (weights + unknown).unsqueeze(-1)).sum(-2)
        return mean

    def answer(self, skills: Tensor, correct: Tensor, time: Tensor) -> Tensor:
        """Return the LSTM's input for answers, `(…, 2 E)`."""
        return torch.cat([self.skills(skills), self.correct(correct) + self.time(time)], dim=-1)

    def head(self, of_hidden: Tensor, skills: Tensor, level: Tensor, features: Tensor) -> Tensor:
        """
        Return forecasts, `(…, 3)`: logit, mu relative to log 60 s, log sigma.

        Args:
            of_hidden: The user's part, `(…, head)`.
            skills: Of the questions, `(…, SKILLS)`.
            level: `(…)`.
            features: `(…, COUNT)`.
        """
        hidden = of_hidden + self.of_skill(self.skills(skills)) + self.of_level(level) + self.of_features(features)
        correction = self.out(self.drop(torch.relu(hidden)))  # (…, 3)
        logit = features[..., COLUMN["lnirt_logit"]] + correction[..., 0]
        mu = features[..., COLUMN["lnirt_mu"]] + correction[..., 1]
        log_sigma = features[..., COLUMN["lnirt_sigma"]].clamp(min=0.05).log() + correction[..., 2]
        return torch.stack([logit, mu, log_sigma.clamp(*LOG_SIGMA_RANGE)], dim=-1)

    def forward(self, skills: Tensor, correct: Tensor, time: Tensor, level: Tensor, features: Tensor) -> Tensor:
        """
        Return the forecast of each answer of runs from the answers before it, `(B, T, 3)`.

        Args:
            skills: `(B, T, SKILLS)`.
            correct: `(B, T)`.
            time: `(B, T, 2)`.
            level: `(B, T)`.
            features: `(B, T, COUNT)`.
        """
        # The last answer leads to no forecast here, but torch runs no LSTM over nothing, as runs of a single answer
        # would have it.
        outputs, _ = self.lstm(self.answer(skills, correct, time))  # (B, T, H)
        nothing = outputs.new_zeros(len(outputs), 1, self.shape.hidden)
        before = self.drop(torch.cat([nothing, outputs[:, :-1]], dim=1))  # (B, T, H)
        return self.head(self.of_hidden(before), skills, level, features)


class Step(nn.Module):
    """One answer of each user, and any questions before or after it: what is exported."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(  # noqa: PLR0913, PLR0917 (the inputs of the graph)
        self,
        hidden: Tensor,
        skills: Tensor,
        correct: Tensor,
        time: Tensor,
        row: Tensor,
        after: Tensor,
        asked_skills: Tensor,
        level: Tensor,
        features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the next states and the forecasts; shapes as in `stream.models.dkt.INPUTS`."""
        shape = self.network.shape
        states = hidden.view(-1, 2, shape.layers, shape.hidden).permute(1, 2, 0, 3)  # (2, L, B, H)
        answer = self.network.answer(skills, correct, time).unsqueeze(1)  # (B, 1, 2E)
        _, (h, c) = self.network.lstm(answer, (states[0].contiguous(), states[1].contiguous()))
        next_hidden = torch.stack([h, c]).permute(2, 0, 1, 3).reshape(-1, shape.hidden_size)  # (B, 2LH)
        of_hidden = torch.stack([self.network.of_hidden(states[0, -1]), self.network.of_hidden(h[-1])])  # (2, B, head)
        when = after.unsqueeze(-1)
        of_question = of_hidden[0][row] * (1 - when) + of_hidden[1][row] * when  # (N, head)
        return next_hidden, self.network.head(of_question, asked_skills, level, features)


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
        "correct": random.integers(0, 2, users),
        "time": np.stack([random.normal(0, 1, users), np.ones(users)], axis=1).astype(np.float32),
        "row": random.integers(0, users, questions),
        "after": random.integers(0, 2, questions).astype(np.float32),
        "asked_skills": random.integers(0, 8, (questions, SKILLS)),
        "level": random.integers(0, LEVELS, questions),
        "features": features,
    }
    return {name: inputs[name] for name in INPUTS}


def export(network: Network) -> bytes:
    """Return the step as an ONNX model."""
    step = Step(network).eval()
    inputs = tuple(torch.from_numpy(array) for array in examples_of_inputs(network.shape, seed=0).values())
    users, questions = {0: "users"}, {0: "questions"}
    of_user = {"hidden", "skills", "correct", "time", "next_hidden"}
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
