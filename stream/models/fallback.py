"""
LNIRT as a predictor: what serves when nothing else can.

Its beliefs are in the users' records and reach it as features, so it keeps no hidden state and cannot fail.
"""

import numpy as np
from numpy.typing import NDArray

from stream.models.features import COLUMN, LOG_PRIOR_SECONDS, Questions
from stream.models.lnirt import sigmoid
from stream.ports import Forecast, Hidden, Identity
from stream.state.learner import Answers, Remembered


class Fallback:
    """Answers with LNIRT's own belief."""

    hidden_size = 0

    def __init__(self, name: str) -> None:
        self.identity = Identity(name, 0, "fallback", "none")

    def predict(self, hidden: Hidden, questions: Questions, features: NDArray[np.float32]) -> Forecast:  # noqa: ARG002 (keeps no state)
        """Return LNIRT's forecasts; see `stream.ports.Predictor`."""
        return Forecast(
            p_correct=sigmoid(features[:, COLUMN["lnirt_logit"]]),
            mu=features[:, COLUMN["lnirt_mu"]] + np.float32(LOG_PRIOR_SECONDS),
            sigma=features[:, COLUMN["lnirt_sigma"]],
        )

    def step(
        self,
        hidden: Hidden,
        answers: Answers,  # noqa: ARG002 (its beliefs have learned from them already)
        questions: Questions,
        features: NDArray[np.float32],
        after: NDArray[np.bool_],  # noqa: ARG002 (each question's features say when it is asked)
        known: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> tuple[Hidden, Forecast]:
        """Return the states unchanged, and LNIRT's forecasts."""
        return hidden, self.predict(hidden, questions, features)

    def rebuild(self, remembered: Remembered) -> Hidden:
        """Return states of no numbers."""
        return np.zeros((len(remembered.count), 0), np.float16)
