"""Runs of answers through the predictor that would serve: what a candidate would have said. Pure."""

import numpy as np
from numpy.typing import NDArray

from stream.learning.runs import Runs
from stream.models.dkt import Dkt


def predict_runs(predictor: Dkt, runs: Runs) -> NDArray[np.float32]:
    """
    Return the probability of each answer from the answers before it, stepped through the served graph, `(B, T)`.

    Args:
        predictor: The artifact.
        runs: Whose skills are rows of the artifact's vocabulary.
    """
    users, longest = runs.correct.shape
    p_correct = np.full((users, longest), 0.5, np.float32)
    hidden = np.zeros((users, predictor.hidden_size), np.float16)
    for t in range(longest):
        who = np.flatnonzero(runs.there[:, t])
        hidden[who], p_correct[who, t] = predictor.replay(
            hidden[who],
            runs.skills[who, t],
            runs.item[who, t],
            runs.correct[who, t],
            runs.time[who, t],
            runs.level[who, t],
            runs.features[who, t],
        )
    return p_correct
