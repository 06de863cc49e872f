"""What a network says of runs of answers, in torch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream.learning.network import Network
from stream.learning.runs import Runs

EVALUATED_RUNS = 256


def forward(network: Network, runs: Runs) -> torch.Tensor:
    """Return the network's forecasts of every answer of the runs, `(B, T, 3)`, on its device."""
    columns = (runs.skills, runs.item, runs.correct, runs.time, runs.level, runs.features)
    result: torch.Tensor = network(*(tensor(network, column) for column in columns))
    return result


def tensor(network: Network, column: NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor on the network's device."""
    return torch.from_numpy(np.ascontiguousarray(column)).to(network.center.device)


def forecasts(network: Network, runs: Runs) -> NDArray[np.float32]:
    """Return what a network says of every answer of runs, `(N, 3)`: logit, mu relative to log 60 s, log sigma."""
    network.eval()
    said = [np.zeros((0, 3), np.float32)]
    with torch.no_grad():
        for start in range(0, len(runs), EVALUATED_RUNS):
            some = runs.part(np.arange(start, min(start + EVALUATED_RUNS, len(runs))))
            said.append(forward(network, some).cpu().numpy()[some.there])
    return np.concatenate(said)
