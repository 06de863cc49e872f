"""
Predictions and training examples as the bytes that go out.

Pure. Written by orjson from plain values: a test holds every message to its schema, so that the hot path need not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import uuid5

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas import Academic, Interaction, PredictionRequest, Target, risk_category
from schemas.base import EVENT_NAMESPACE
from stream.models import features, risk
from stream.ports import Forecast, Identity, Message, Record

_Z90 = 1.2815515655446004  # the normal distribution's 90% quantile
_MU_RANGE = (-3.0, 14.0)  # log seconds: 50 ms to two weeks
_SIGMA_RANGE = (0.02, 3.0)
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What is predicted after one answer.

    Attributes:
        targets: Published as targets.
        mastered: Skills whose mastery is published.
        user_id: Whose answer it was.
    """

    targets: Sequence[Target]
    mastered: Sequence[str]
    user_id: str

    @property
    def all(self) -> list[Target]:
        """Every question, targets first; a skill's mastery is asked as a topic of which no item is named."""
        return [
            *self.targets,
            *(Target.model_construct(topic_id=skill, item_id=None, difficulty=None) for skill in self.mastered),
        ]


@dataclass(frozen=True, slots=True)
class Answered:
    """
    Answers of one wave and all that was said of them, `B` rows.

    Attributes:
        records: Where they came from.
        events: The answers.
        identity: What predicted.
        failed: Whether that is the fallback, because the model failed.
        targets: What was asked after each.
        before: Of the answers themselves, `(B,)`.
        before_fallback: What the fallback said, `(B,)`.
        after: Of the targets, in their order over all rows, `(N,)`.
        features: Of the answers as they were asked, `(B, F)`.
    """

    records: Sequence[Record]
    events: Sequence[Interaction]
    identity: Identity
    failed: bool
    targets: Sequence[Asked]
    before: Forecast
    before_fallback: Forecast
    after: Forecast
    features: NDArray[np.float32]


def prediction_id(event_id: str, kind: str) -> str:
    """Return the id of an event's prediction: the same whenever it is made."""
    return str(uuid5(EVENT_NAMESPACE, f"{event_id}/{kind}"))


def answer_messages(answered: Answered, now: datetime) -> list[Message]:
    """Return a correctness prediction, a time prediction and a training example for each answer."""
    produced_at = now.isoformat()
    model = _model(answered.identity)
    p_before, p_before_fallback = (_probabilities(f) for f in (answered.before, answered.before_fallback))
    p50_before, p50_before_fallback = (_times(f)["p50"] for f in (answered.before, answered.before_fallback))
    p_after, times = _probabilities(answered.after), _times(answered.after)
    messages: list[Message] = []
    start = 0
    for i, (record, event, asked) in enumerate(zip(answered.records, answered.events, answered.targets, strict=True)):
        middle = start + len(asked.targets)
        end = middle + len(asked.mastered)
        key = event.user_id.encode()
        source = _source(record, event.event_id)
        names = [_named(target) for target in asked.targets]
        common = {
            "schema_version": 1,
            "user_id": event.user_id,
            "source": source,
            "produced_at": produced_at,
            "model": model,
            "fallback": answered.failed or answered.identity.variant == "fallback",
        }
        correctness = common | {
            "prediction_id": prediction_id(event.event_id, "correctness"),
            "targets": [name | {"p_correct": p} for name, p in zip(names, p_after[start:middle], strict=True)],
            "mastery": dict(zip(asked.mastered, p_after[middle:end], strict=True)),
            "observed": {"p_before": p_before[i], "correct": bool(event.correct)},
        }
        time = common | {
            "prediction_id": prediction_id(event.event_id, "time"),
            "targets": [
                name | {what: values[start + t] for what, values in times.items()} for t, name in enumerate(names)
            ],
            "observed": {"p50_before": p50_before[i], "response_time_seconds": event.duration_seconds},
        }
        example = {
            "schema_version": 1,
            "example_id": prediction_id(event.event_id, "example"),
            "event_id": event.event_id,
            "user_id": event.user_id,
            "topic_id": event.topic_id,
            "item_id": event.item_id,
            "skills": event.skills,
            "difficulty": event.difficulty,
            "correct": bool(event.correct),
            "response_time_seconds": event.duration_seconds,
            "timestamp": event.timestamp.isoformat(),
            "source": source,
            "model": model,
            "state_format": answered.identity.state_format,
            "feature_version": features.VERSION,
            "features": answered.features[i],
            "p_before": p_before[i],
            "p_before_fallback": p_before_fallback[i],
            "median_before": p50_before[i],
            "median_before_fallback": p50_before_fallback[i],
        }
        messages += [
            Message("predictions.correctness", key, _json(correctness), str(correctness["prediction_id"])),
            Message("predictions.time", key, _json(time), str(time["prediction_id"])),
            Message("training-examples", key, _json(example), str(example["example_id"])),
        ]
        start = end
    return messages


def risk_prediction(
    record: Record,
    event: Interaction | Academic,
    risks: risk.Risks,
    row: int,
    reason: Literal["academics", "first_interaction_of_day"],
    now: datetime,
) -> Message:
    """Return the risk prediction of one user."""
    score = round(float(risks.score[row]), _DIGITS)
    prediction = {
        "schema_version": 1,
        "prediction_id": prediction_id(event.event_id, "risk"),
        "user_id": event.user_id,
        "source": _source(record, event.event_id),
        "produced_at": now.isoformat(),
        "model": {"name": risk.NAME, "version": 0, "variant": "fallback"},
        "fallback": True,
        "score": score,
        "category": risk_category(score),
        "factors": [{"feature": name, "contribution": round(size, _DIGITS)} for name, size in risks.factors(row)],
        "reason": reason,
    }
    return Message("predictions.risk", event.user_id.encode(), _json(prediction), str(prediction["prediction_id"]))


def reply_message(
    request: PredictionRequest, forecast: Forecast, identity: Identity, failed: bool, now: datetime
) -> Message:
    """Return the answer to a request."""
    p_correct, times = _probabilities(forecast), _times(forecast)
    reply = {
        "schema_version": 1,
        "reply_id": prediction_id(request.request_id, "reply"),
        "request_id": request.request_id,
        "user_id": request.user_id,
        "produced_at": now.isoformat(),
        "model": _model(identity),
        "fallback": failed or identity.variant == "fallback",
        "targets": [
            _named(target) | {"p_correct": p_correct[t]} | {what: values[t] for what, values in times.items()}
            for t, target in enumerate(request.targets)
        ],
    }
    return Message("prediction-replies", request.user_id.encode(), _json(reply), str(reply["reply_id"]))


def _json(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _model(identity: Identity) -> dict[str, Any]:
    return {"name": identity.name, "version": identity.version, "variant": identity.variant}


def _source(record: Record, event_id: str) -> dict[str, Any]:
    return {"event_id": event_id, "topic": record.topic, "partition": record.partition, "offset": record.offset}


def _named(target: Target) -> dict[str, Any]:
    return {"topic_id": target.topic_id, "item_id": target.item_id, "difficulty": target.difficulty}


def _probabilities(forecast: Forecast) -> list[float]:
    rounded: list[float] = np.round(forecast.p_correct.astype(np.float64), _DIGITS).tolist()
    return rounded


def _times(forecast: Forecast) -> dict[str, list[float]]:
    """Return the mean and the quantiles of log-normal response times, in seconds."""
    mu = np.clip(forecast.mu.astype(np.float64), *_MU_RANGE)
    sigma = np.clip(forecast.sigma.astype(np.float64), *_SIGMA_RANGE)
    exponents = {"expected_seconds": mu + sigma**2 / 2, "p10": mu - _Z90 * sigma, "p50": mu, "p90": mu + _Z90 * sigma}
    return {name: np.round(np.exp(exponent), 4).tolist() for name, exponent in exponents.items()}
