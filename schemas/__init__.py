"""
Wire contracts: what stands on every topic, and how it is read from bytes.

Pydantic only; nothing of `stream`, no Kafka. `schemas.catalog` lists the topics, `json/` has their generated
JSON Schemas.
"""

from schemas.base import (
    Difficulty,
    Emitted,
    EmittedValue,
    Identifier,
    InvalidEvent,
    Moment,
    Reason,
    Received,
    ReceivedValue,
)
from schemas.catalog import TOPICS, Contract
from schemas.dead_letters import DeadLetter
from schemas.erasures import Erasure, decode_erasure
from schemas.events import (
    MAX_NEXT_ITEMS,
    Academic,
    AttendanceRecorded,
    DisciplineRecorded,
    GradeRecorded,
    Interaction,
    OutcomeRecorded,
    Target,
    decode_academic,
    decode_interaction,
    next_items,
)
from schemas.examples import TrainingExample
from schemas.models import (
    GateDecided,
    ItemParameters,
    ModelEvent,
    ModelRefused,
    ModelRollout,
    ModelSwapped,
    Release,
    UpdateStarted,
    parameters_key,
)
from schemas.predictions import (
    CorrectnessPrediction,
    CorrectnessTarget,
    Factor,
    ModelRef,
    Observed,
    RiskCategory,
    RiskPrediction,
    Source,
    TimeObserved,
    TimePrediction,
    TimeTarget,
    risk_category,
)
from schemas.requests import Forecast, PredictionReply, PredictionRequest, decode_request

__all__ = [
    "MAX_NEXT_ITEMS",
    "TOPICS",
    "Academic",
    "AttendanceRecorded",
    "Contract",
    "CorrectnessPrediction",
    "CorrectnessTarget",
    "DeadLetter",
    "Difficulty",
    "DisciplineRecorded",
    "Emitted",
    "EmittedValue",
    "Erasure",
    "Factor",
    "Forecast",
    "GateDecided",
    "GradeRecorded",
    "Identifier",
    "Interaction",
    "InvalidEvent",
    "ItemParameters",
    "ModelEvent",
    "ModelRef",
    "ModelRefused",
    "ModelRollout",
    "ModelSwapped",
    "Moment",
    "Observed",
    "OutcomeRecorded",
    "PredictionReply",
    "PredictionRequest",
    "Reason",
    "Received",
    "ReceivedValue",
    "Release",
    "RiskCategory",
    "RiskPrediction",
    "Source",
    "Target",
    "TimeObserved",
    "TimePrediction",
    "TimeTarget",
    "TrainingExample",
    "UpdateStarted",
    "decode_academic",
    "decode_erasure",
    "decode_interaction",
    "decode_request",
    "next_items",
    "parameters_key",
    "risk_category",
]
