"""How good predictions are: AUC, log loss and calibration, for metrics, the gate and reports. Pure."""

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-6


def log_losses(correct: NDArray[np.generic], p_correct: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the log loss of each prediction, `(N,)`."""
    p = np.clip(np.asarray(p_correct, np.float64), _LEAST, 1 - _LEAST)
    return -np.log(np.where(correct, p, 1 - p))


def brier(correct: NDArray[np.generic], p_correct: NDArray[np.generic]) -> float:
    """Return the mean squared error of probabilities (Brier 1950)."""
    return float(np.mean((np.asarray(p_correct, np.float64) - np.asarray(correct, np.float64)) ** 2))


def calibration_error(correct: NDArray[np.generic], p_correct: NDArray[np.generic], bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal width (Naeini et al. 2015)."""
    p, right = np.asarray(p_correct, np.float64), np.asarray(correct, np.float64)
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, right - p, bins)
    return float(np.abs(gap).sum() / len(p))


def auc(correct: NDArray[np.generic], p_correct: NDArray[np.generic]) -> float | None:
    """Return the area under the ROC curve, ties counted half; None where all answers are right or all wrong."""
    right = np.asarray(correct, bool)
    positives, negatives = int(right.sum()), int((~right).sum())
    if positives == 0 or negatives == 0:
        return None
    _, inverse, counts = np.unique(np.asarray(p_correct), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mean rank of ties, from 1
    return float((ranks[right].sum() - positives * (positives + 1) / 2) / (positives * negatives))
