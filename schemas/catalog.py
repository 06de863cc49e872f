"""
Which topic carries which message, and how long it is kept.

Names here are logical: what a topic is called on a broker is a setting of `stream`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from schemas.dead_letters import DeadLetter
from schemas.erasures import ERASURE
from schemas.events import ACADEMIC, INTERACTION
from schemas.examples import TrainingMessage
from schemas.models import ItemParameters, ModelEvent, ModelRollout
from schemas.predictions import CorrectnessPrediction, RiskPrediction, TimePrediction
from schemas.requests import REQUEST, PredictionReply

Cleanup = Literal["delete", "compact"]
Direction = Literal["in", "out", "internal"]


@dataclass(frozen=True, slots=True)
class Contract:
    """
    What one topic promises.

    Attributes:
        adapter: Reads and checks the topic's values.

        cleanup: How the broker forgets.

        retention_hours: How long a message is kept; None leaves it to compaction, or to the topic's owner.

        direction: `in` is written by others, `out` by us for others, `internal` by us for us.
    """

    name: str
    adapter: TypeAdapter[Any]
    cleanup: Cleanup
    retention_hours: int | None
    direction: Direction


_DAY_H: Final = 24
_WEEK_H: Final = 7 * _DAY_H

_CONTRACTS: Final = (
    Contract("interactions", INTERACTION, "delete", None, "in"),
    Contract("academics", ACADEMIC, "delete", None, "in"),
    Contract("prediction-requests", REQUEST, "delete", _DAY_H, "in"),
    Contract("prediction-replies", TypeAdapter(PredictionReply), "delete", _DAY_H, "out"),
    Contract("predictions.correctness", TypeAdapter(CorrectnessPrediction), "delete", _WEEK_H, "out"),
    Contract("predictions.time", TypeAdapter(TimePrediction), "delete", _WEEK_H, "out"),
    Contract("predictions.risk", TypeAdapter(RiskPrediction), "delete", _WEEK_H, "out"),
    Contract("training-examples", TypeAdapter(TrainingMessage), "delete", _WEEK_H, "internal"),
    Contract("model-updates", TypeAdapter(ModelRollout), "compact", None, "internal"),
    Contract("model-events", TypeAdapter(ModelEvent), "delete", 4 * _WEEK_H, "out"),
    Contract("item-parameters", TypeAdapter(ItemParameters), "compact", None, "internal"),
    Contract("erasures", ERASURE, "delete", _WEEK_H, "in"),
    Contract("dead-letters", TypeAdapter(DeadLetter), "delete", 4 * _WEEK_H, "out"),
)

TOPICS: Final[Mapping[str, Contract]] = MappingProxyType({contract.name: contract for contract in _CONTRACTS})
