"""Snapshots: users as the risk model sees them at some moment, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.models.weekly import Seen
from stream.state.academic import OUTCOMES

AT_RISK: Final = 2
"""Outcomes from this one on are what is at risk: fail, withdrawn."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """
    Users at moments, one row each; several rows may be of one user.

    Attributes:
        seen: What the model sees, `(N,)`.
        user: Whose, any integers, int64 `(N,)`: rows of a user belong together.
        week: In which week, int64 `(N,)`.
        outcome: Place in `OUTCOMES`; the class nearest to an adviser's label, int64 `(N,)`.
        risk: 1 for what is at risk, 0 for what is not, an adviser's label in between, float32 `(N,)`.
    """

    seen: Seen
    user: NDArray[np.int64]
    week: NDArray[np.int64]
    outcome: NDArray[np.int64]
    risk: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Snapshots":
        """Return some of the rows."""
        chosen = np.arange(len(self))[rows]
        return Snapshots(
            self.seen.take(chosen), self.user[chosen], self.week[chosen], self.outcome[chosen], self.risk[chosen]
        )

    @classmethod
    def joined(cls, parts: Sequence["Snapshots"]) -> "Snapshots":
        """Return the rows of several, at least one, one after the other."""
        seen = Seen(*(np.concatenate([getattr(p.seen, f.name) for p in parts]) for f in fields(Seen)))
        names = [f.name for f in fields(cls) if f.name != "seen"]
        return cls(seen, *(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def risk_of(outcome: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return 1 where an outcome is what is at risk."""
    return (np.asarray(outcome) >= AT_RISK).astype(np.float32)


def outcome_of_label(score: float) -> int:
    """Return the place in `OUTCOMES` of the category that a label in [0, 1] falls into."""
    return min(int(score * len(OUTCOMES)), len(OUTCOMES) - 1)
