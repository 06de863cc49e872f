"""Early stopping: a network is trained for as long as it gets better on users that it does not learn from."""

from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer

from stream.learning.update import copy_weights

_PATIENCE = 2
"""Epochs without a lower loss after which the learning rate falls."""

_FALLS = 2
_SLOWER = 0.4


def train(
    network: nn.Module, optimizer: Optimizer, epoch: Callable[[], None], loss: Callable[[], float], epochs: int
) -> None:
    """
    Train a network, in place; it keeps the weights that did best.

    When epochs have not helped, it goes on from the best weights, with a lower learning rate; when that has not helped
    either, training is over.

    Args:
        network: In training's mode during an epoch, and in evaluation's otherwise.
        optimizer: Of the network's weights.
        epoch: Passes over the training answers once.
        loss: Of the validation answers.
        epochs: At most.
    """
    best, weights, waited, falls = float("inf"), copy_weights(network), 0, 0
    for _ in range(epochs):
        network.train()
        epoch()
        network.eval()
        found = loss()
        if found < best:
            best, weights, waited = found, copy_weights(network), 0
            continue
        waited += 1
        if waited == _PATIENCE:
            if falls == _FALLS:
                break
            network.load_state_dict(weights)
            for group in optimizer.param_groups:
                group["lr"] *= _SLOWER
            waited, falls = 0, falls + 1
    network.load_state_dict(weights)
