"""
The models that all systems share: one artifact of the worker's network, and the core job's LSTM as one ONNX file.

Weights are random ones of a usual size: what is measured is the cost of a step, which does not depend on them.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.job import CORE_HIDDEN, CORE_ITEMS, CORE_LAYERS
from benchmarks.load import SKILLS
from stream.learning.network import Network, Shape
from stream.learning.publication import Publication, publish
from stream.models.artifacts import Span
from stream.models.dkt import KNOWLEDGE
from stream.models.store import Store

VERSION = 1
LINEAGE = "lstm-bench-1"
_EMBEDDING = 64
_SEED = 7


def make_full(store: Path) -> Path:
    """Return the folder of the artifact in a model store; it is written if it is not there."""
    folder = store / KNOWLEDGE / f"v{VERSION}"
    if not folder.exists():
        make_version(store, VERSION)
    return folder


def make_version(store: Path, version: int, lineage: str = LINEAGE) -> None:
    """Write a version of the worker's network into a model store, with weights of its own."""
    torch.manual_seed(_SEED + version - VERSION)
    network = Network(Shape())
    nn.init.normal_(network.out.weight, std=0.3)
    nn.init.normal_(network.out.bias, std=0.3)
    about = Publication(KNOWLEDGE, version, lineage, SKILLS, Span(answers=0, users=0), {"logloss": 0.5})
    publish(network, Store(str(store)), Store.folder_of(KNOWLEDGE, version), about)


class CoreStep(nn.Module):
    """An answer's embedding into an LSTM's step, and from there the probability that the next answer is right."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Embedding(2 * CORE_ITEMS, _EMBEDDING)
        self.lstm = nn.LSTM(_EMBEDDING, CORE_HIDDEN, CORE_LAYERS, batch_first=True)
        self.out = nn.Linear(CORE_HIDDEN, 1)

    def forward(self, answer: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities, `(B,)`, and the next states, `(B, 4 H)`: h then c, each layer by layer."""
        states = hidden.reshape(-1, 2, CORE_LAYERS, CORE_HIDDEN).permute(1, 2, 0, 3)  # (2, L, B, H)
        x = self.answer(answer).unsqueeze(1)  # (B, 1, E)
        y, (h, c) = self.lstm(x, (states[0].contiguous(), states[1].contiguous()))  # (B, 1, H)
        p_correct = torch.sigmoid(self.out(y[:, 0])).squeeze(-1)  # (B,)
        following = torch.stack([h, c]).permute(2, 0, 1, 3).reshape(-1, 2 * CORE_LAYERS * CORE_HIDDEN)  # (B, 4 H)
        return p_correct, following


def make_core(path: Path) -> Path:
    """Return the core job's ONNX file; it is written if it is not there."""
    if not path.exists():
        torch.manual_seed(_SEED)
        path.parent.mkdir(parents=True, exist_ok=True)
        inputs = (torch.zeros(3, dtype=torch.int64), torch.zeros(3, 2 * CORE_LAYERS * CORE_HIDDEN))
        names, results = ["answer", "hidden"], ["p_correct", "next_hidden"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the old exporter keeps the LSTM one operator
            torch.onnx.export(
                CoreStep().eval(), inputs, path, input_names=names, output_names=results, opset_version=17,
                dynamic_axes={name: {0: "B"} for name in (*names, *results)}, dynamo=False,
            )  # fmt: skip
    return path
