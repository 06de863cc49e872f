"""
Predictions and training examples as the bytes that go out.

Pure. Written by orjson from plain values: a test holds every message to its schema, so that the hot path need not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha1
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas import Academic, Interaction, PredictionRequest, risk_category
from schemas.base import EVENT_NAMESPACE
from stream.models import features, risk
from stream.models.items import Question
from stream.models.lnirt import Z_90
from stream.ports import Forecast, Identity, Message, Record

_MU_RANGE = (-3.0, 14.0)  # log seconds: 50 ms to two weeks
_SIGMA_RANGE = (0.02, 3.0)
_DIGITS, _TIME_DIGITS = 6, 4


class Asked(NamedTuple):
    """
    What is predicted after one answer.

    Attributes:
        targets: Published as targets.
        mastered: Skills whose mastery is published; it is asked as a topic of which no item is named.
        all: Every question, each once.
    """

    targets: Sequence[Question]
    mastered: Sequence[Question]
    all: Sequence[Question]


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """
    What a model on trial, or the champion in its place, said of answers without being heard, `B` rows.

    Attributes:
        identity: The challenger.
        there: Whether both have predicted, bool `(B,)`.
        serves: Whether the challenger was heard, bool `(B,)`.
        unheard: Forecasts of the other one, `(B,)`; NaN where it was not there.
    """

    identity: Identity
    there: NDArray[np.bool_]
    serves: NDArray[np.bool_]
    unheard: Forecast

    def p_challenger(self, served: Forecast) -> NDArray[np.float32]:
        """Return what the challenger said of the answers, `(B,)`, beside the forecasts that were heard."""
        return np.where(self.serves, served.p_correct[: len(self.serves)], self.unheard.p_correct)


@dataclass(frozen=True, slots=True)
class Answered:
    """
    Answers of one wave and all that was said of them, `B` rows.

    Attributes:
        records: Where they came from.
        events: The answers.
        identity: What predicted.
        failed: Whether that is the fallback, because the model failed.
        asked: What was asked after each.
        forecast: Of the answers themselves, then of all that was asked after each, `(B + N,)`.
        fallback: What the fallback said of the answers themselves, `(B,)`.
        features: Of the answers as they were asked, `(B, F)`.
        answers_before: Answers that each user's state had taken in, `(B,)`.
        trial: What was said beside; None while nothing is on trial.
    """

    records: Sequence[Record]
    events: Sequence[Interaction]
    identity: Identity
    failed: bool
    asked: Sequence[Asked]
    forecast: Forecast
    fallback: Forecast
    features: NDArray[np.float32]
    answers_before: NDArray[np.uint32]
    trial: SecondOpinion | None = None


def prediction_id(event_id: str, kind: str) -> str:
    """Return the id of an event's prediction, a UUID of version 5: the same whenever it is made."""
    x = sha1(_NAMESPACE + f"{event_id}/{kind}".encode(), usedforsecurity=False).hexdigest()
    return f"{x[:8]}-{x[8:12]}-5{x[13:16]}-{_VARIANT[x[16]]}{x[17:20]}-{x[20:32]}"


# What `uuid.uuid5` does, at a quarter of its time: an answer has three ids.
_NAMESPACE = EVENT_NAMESPACE.bytes
_VARIANT = {f"{digit:x}": f"{digit & 0b0011 | 0b1000:x}" for digit in range(16)}  # RFC 9562, section 4.1


def answer_messages(answered: Answered, now: datetime) -> list[Message]:
    """Return a correctness prediction, a time prediction and a training example for each answer."""
    p_correct, p_fallback = _probabilities(answered.forecast), _probabilities(answered.fallback)
    times, p50_fallback = _times(answered.forecast), _medians(answered.fallback)
    trial, answers_before = answered.trial, answered.answers_before.tolist()
    is_fallback = answered.failed or answered.identity.variant == "fallback"
    champion = _Voice(_model(answered.identity), answered.identity.state_format, is_fallback)
    voices = [(champion, None)] * len(answered.events) if trial is None else _voices(champion, trial)
    messages: list[Message] = []
    end = len(answered.events)
    for i, (record, event, asked) in enumerate(zip(answered.records, answered.events, answered.asked, strict=True)):
        start, end = end, end + len(asked.all)
        event_id, user_id, response_time_s = event.event_id, event.user_id, event.duration_seconds
        key = user_id.encode()
        source = _source(record, event_id)
        is_correct = bool(event.correct)
        voice, unheard = voices[i]
        model = voice.model
        common = {
            "schema_version": 1, "user_id": user_id, "source": source, "produced_at": now, "model": model,
            "fallback": voice.is_fallback,
        }  # fmt: skip
        of_correctness, of_time, of_example = (
            prediction_id(event_id, kind) for kind in ("correctness", "time", "example")
        )
        median = times[i][_P50]
        p_of = dict(zip(asked.all, p_correct[start:end], strict=True))
        times_of = dict(zip(asked.all, times[start:end], strict=True))
        correctness = {
            **common,
            "prediction_id": of_correctness,
            "targets": [
                {"topic_id": q.topic_id, "item_id": q.item_id, "difficulty": q.difficulty, "p_correct": p_of[q]}
                for q in asked.targets
            ],
            "mastery": {q.topic_id: p_of[q] for q in asked.mastered},
            "observed": {"p_before": p_correct[i], "correct": is_correct},
        }
        time = {
            **common,
            "prediction_id": of_time,
            "targets": [
                {
                    "topic_id": q.topic_id, "item_id": q.item_id, "difficulty": q.difficulty,
                    "expected_seconds": mean, "p10": p10, "p50": p50, "p90": p90,
                }
                for q in asked.targets
                for mean, p10, p50, p90 in (times_of[q],)
            ],
            "observed": {"p50_before": median, "response_time_seconds": response_time_s},
        }  # fmt: skip
        example = {
            "schema_version": 1,
            "type": "answer",
            "example_id": of_example,
            "event_id": event_id,
            "user_id": user_id,
            "topic_id": event.topic_id,
            "item_id": event.item_id,
            "skills": event.skills,
            "difficulty": event.difficulty,
            "correct": is_correct,
            "response_time_seconds": response_time_s,
            "timestamp": event.timestamp,
            "source": source,
            "model": model,
            "state_format": voice.state_format,
            "state_version": answers_before[i],
            "feature_version": features.VERSION,
            "features": answered.features[i],
            "p_before": p_correct[i],
            "p_before_fallback": p_fallback[i],
            "median_before": median,
            "median_before_fallback": p50_fallback[i],
            "unheard": unheard,
        }
        messages += (
            Message("predictions.correctness", key, _json(correctness), of_correctness),
            Message("predictions.time", key, _json(time), of_time),
            Message("training-examples", key, _json(example), of_example),
        )
    return messages


class _Voice(NamedTuple):
    """A model as predictions name it, the format of its states, and whether it is the fallback."""

    model: dict[str, Any]
    state_format: str
    is_fallback: bool


def _voices(champion: _Voice, trial: SecondOpinion) -> list[tuple[_Voice, dict[str, Any] | None]]:
    """Return who was heard of each answer, and what the other one said of it."""
    challenger = _Voice(_model(trial.identity), trial.identity.state_format, False)
    unheard = trial.unheard
    said = Forecast(*(np.where(trial.there, x, np.float32(1)) for x in (unheard.p_correct, unheard.mu, unheard.sigma)))
    voices: list[tuple[_Voice, dict[str, Any] | None]] = []
    rows = zip(trial.there.tolist(), trial.serves.tolist(), _probabilities(said), _medians(said), strict=True)
    for there, serves, p_before, median_before in rows:
        heard, other = (challenger, champion) if serves else (champion, challenger)
        words = {
            "model": other.model, "state_format": other.state_format,
            "p_before": p_before, "median_before": median_before,
        }  # fmt: skip
        voices.append((heard, words if there else None))
    return voices


def corrections(events: Sequence[tuple[Record, Interaction]]) -> list[Message]:
    """Return what the trainer is told of corrected outcomes: the example of each answer is found by its id."""
    messages = []
    for record, event in events:
        correction = {
            "schema_version": 1,
            "type": "correction",
            "example_id": prediction_id(event.corrects or "", "example"),
            "event_id": event.event_id,
            "user_id": event.user_id,
            "correct": bool(event.correct),
            "source": _source(record, event.event_id),
            "timestamp": event.timestamp,
        }
        id_ = prediction_id(event.event_id, "correction")
        messages.append(Message("training-examples", event.user_id.encode(), _json(correction), id_))
    return messages


def risk_predictions(
    events: Sequence[tuple[Record, Interaction | Academic]],
    risks: risk.Risks,
    reason: Literal["academics", "first_interaction_of_day"],
    now: datetime,
) -> list[Message]:
    """Return the risk predictions of users, one for each event."""
    scores = risks.score.astype(np.float64).round(_DIGITS).tolist()
    messages = []
    for (record, event), score, factors in zip(events, scores, risks.factors(), strict=True):
        id_ = prediction_id(event.event_id, "risk")
        prediction = {
            "schema_version": 1,
            "prediction_id": id_,
            "user_id": event.user_id,
            "source": _source(record, event.event_id),
            "produced_at": now,
            "model": {"name": risk.NAME, "version": 0, "variant": "fallback"},
            "fallback": True,
            "score": score,
            "category": risk_category(score),
            "factors": [{"feature": name, "contribution": round(size, _DIGITS)} for name, size in factors],
            "reason": reason,
        }
        messages.append(Message("predictions.risk", event.user_id.encode(), _json(prediction), id_))
    return messages


def reply_message(
    request: PredictionRequest, forecast: Forecast, identity: Identity, failed: bool, now: datetime
) -> Message:
    """Return the answer to a request."""
    reply_id = prediction_id(request.request_id, "reply")
    reply = {
        "schema_version": 1,
        "reply_id": reply_id,
        "request_id": request.request_id,
        "user_id": request.user_id,
        "produced_at": now,
        "model": _model(identity),
        "fallback": failed or identity.variant == "fallback",
        "targets": [
            {
                "topic_id": target.topic_id, "item_id": target.item_id, "difficulty": target.difficulty,
                "p_correct": p, "expected_seconds": mean, "p10": p10, "p50": p50, "p90": p90,
            }
            for target, p, (mean, p10, p50, p90) in zip(
                request.targets, _probabilities(forecast), _times(forecast), strict=True
            )
        ],
    }  # fmt: skip
    return Message("prediction-replies", request.user_id.encode(), _json(reply), reply_id)


def _json(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _model(identity: Identity) -> dict[str, Any]:
    return {"name": identity.name, "version": identity.version, "variant": identity.variant}


def _source(record: Record, event_id: str) -> dict[str, Any]:
    return {"event_id": event_id, "topic": record.topic, "partition": record.partition, "offset": record.offset}


def _probabilities(forecast: Forecast) -> list[float]:
    rounded: list[float] = forecast.p_correct.astype(np.float64).round(_DIGITS).tolist()
    return rounded


def _times(forecast: Forecast) -> list[list[float]]:
    """Return mean, 10%, 50% and 90% quantile of each log-normal response time, in seconds."""
    mu, sigma = _within(forecast.mu, *_MU_RANGE), _within(forecast.sigma, *_SIGMA_RANGE)
    exponents = np.array([mu + sigma**2 / 2, mu - Z_90 * sigma, mu, mu + Z_90 * sigma])  # (4, N)
    seconds: list[list[float]] = np.exp(exponents.T).round(_TIME_DIGITS).tolist()
    return seconds


_P50 = 2
"""Where the median stands in a row of `_times`."""


def _medians(forecast: Forecast) -> list[float]:
    """Return the medians of response times, in seconds."""
    seconds: list[float] = np.exp(_within(forecast.mu, *_MU_RANGE)).round(_TIME_DIGITS).tolist()
    return seconds


def _within(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float64]:
    return np.minimum(np.maximum(values.astype(np.float64), low), high)
