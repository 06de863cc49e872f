"""
Predictions and training examples as the bytes that go out.

Pure. Written by orjson from plain values: a test holds every message to its schema, so that the hot path need not.
"""

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas import Interaction, OutcomeRecorded, PredictionRequest, RiskLabelled, risk_category
from schemas.base import EVENT_NAMESPACE
from stream.models import features, risk, weekly
from stream.models.items import Question
from stream.models.lnirt import Z_90
from stream.ports import Forecast, Identity, Message, Record, Risks
from stream.state.academic import OUTCOMES

_MU_RANGE = (-3.0, 14.0)  # log seconds: 50 ms to two weeks
_SIGMA_RANGE = (0.02, 3.0)
_DIGITS, _TIME_DIGITS = 6, 4


def content(raw: bytes) -> dict[str, Any]:
    """
    Return a message of ours, without the envelope of a structured CloudEvent.

    Raises:
        ValueError: If it is no JSON.
    """
    message: dict[str, Any] = orjson.loads(raw)
    return message["data"] if "specversion" in message else message


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

    def of_challenger(self, heard: Forecast) -> Forecast:
        """Return what the challenger said of the answers, `(B,)`, beside the forecasts that were heard, `(B,)`."""
        return Forecast(
            p_correct=np.where(self.serves, heard.p_correct, self.unheard.p_correct),
            mu=np.where(self.serves, heard.mu, self.unheard.mu),
            sigma=np.where(self.serves, heard.sigma, self.unheard.sigma),
        )


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
    times, p50_fallback = _times(answered.forecast), medians(answered.fallback).tolist()
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
        source = source_of(record, event_id)
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
    rows = zip(trial.there.tolist(), trial.serves.tolist(), _probabilities(said), medians(said).tolist(), strict=True)
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
            "source": source_of(record, event.event_id),
            "timestamp": event.timestamp,
        }
        id_ = prediction_id(event.event_id, "correction")
        messages.append(Message("training-examples", event.user_id.encode(), _json(correction), id_))
    return messages


@dataclass(frozen=True, slots=True)
class Scored:
    """
    Users whose risk was scored, `N` rows.

    Attributes:
        user_ids: Whose.
        sources: What of them made it, as `source` of a prediction says it.
        as_of: The moments of event time for which it holds, seconds since the epoch.
        risks: What was said.
        voices: Who said each, and whether it is the fallback.
        outcomes: How their courses ended, a place of `OUTCOMES` and 1; 0 while they go on.
    """

    user_ids: Sequence[str]
    sources: Sequence[dict[str, Any]]
    as_of: Sequence[float]
    risks: Risks
    voices: Sequence[tuple[Identity, bool]]
    outcomes: Sequence[int]


RiskReason = Literal["academics", "first_interaction_of_day", "week_closed"]


def risk_predictions(scored: Scored, reason: RiskReason, now: datetime) -> list[Message]:
    """Return the risk predictions of users."""
    scores = _rounded(scored.risks.score)
    messages = []
    for user_id, source, as_of, (identity, is_fallback), outcome, score, factors in zip(
        scored.user_ids, scored.sources, scored.as_of, scored.voices, scored.outcomes, scores,
        scored.risks.strongest(risk.FACTORS, risk.LEAST_FACTOR), strict=True,
    ):  # fmt: skip
        id_ = prediction_id(source["event_id"], "risk")
        prediction = {
            "schema_version": 1,
            "prediction_id": id_,
            "user_id": user_id,
            "source": source,
            "produced_at": now,
            "model": _model(identity),
            "fallback": is_fallback,
            "score": score,
            "category": risk_category(score),
            "factors": [
                {
                    "feature": name, "contribution": round(size, _DIGITS),
                    "value": None if math.isnan(value) else round(value, _DIGITS),
                }
                for name, size, value in factors
            ],
            "reason": reason,
            "outcome": OUTCOMES[outcome - 1] if outcome else None,
            "as_of": datetime.fromtimestamp(as_of, UTC),
        }  # fmt: skip
        messages.append(Message("predictions.risk", user_id.encode(), _json(prediction), id_))
    return messages


class Enrolled(NamedTuple):
    """
    What is kept of an enrolment, by its names.

    Attributes:
        course_id: None where it is not known.
        context: What may be a feature.
        slices: By which fairness is watched.
    """

    course_id: str | None
    context: dict[str, str | float]
    slices: dict[str, str]


def risk_examples(
    scored: Scored,
    week: int,
    steps: NDArray[np.float32],
    enrolled: Sequence[Enrolled],
    fallback: NDArray[np.float32],
    unheard: Sequence[tuple[Identity, float] | None],
) -> list[Message]:
    """
    Return the training examples of users for whom a week was closed.

    Args:
        scored: Who, and what was said, `N` rows.
        week: That was closed.
        steps: What the model saw, `(N, WEEKS, F)`.
        enrolled: What is known of their enrolments, `N`.
        fallback: What the fallback says of them, `(N,)`.
        unheard: What the other model on trial said, and which it is, `N`; None where nothing is on trial.
    """
    packed = np.ascontiguousarray(steps, "<f2")
    scores, by_fallback = _rounded(scored.risks.score), _rounded(fallback)
    messages = []
    for i, (user_id, source, as_of, (identity, _), of) in enumerate(
        zip(scored.user_ids, scored.sources, scored.as_of, scored.voices, enrolled, strict=True)
    ):
        id_, other = prediction_id(source["event_id"], "risk_example"), unheard[i]
        example = {
            "schema_version": 1,
            "type": "risk",
            "example_id": id_,
            "user_id": user_id,
            "week": week,
            "as_of": datetime.fromtimestamp(as_of, UTC),
            "course_id": of.course_id,
            "model": _model(identity),
            "feature_version": weekly.VERSION,
            "steps": b64encode(packed[i]).decode(),
            "context": of.context,
            "slices": of.slices,
            "score": scores[i],
            "score_fallback": by_fallback[i],
            "unheard": None if other is None else {"model": _model(other[0]), "score": round(other[1], _DIGITS)},
        }
        messages.append(Message("training-examples", user_id.encode(), _json(example), id_))
    return messages


def risk_outcomes(events: Sequence[tuple[Record, OutcomeRecorded | RiskLabelled]]) -> list[Message]:
    """Return what the trainer is told of what became of users."""
    messages = []
    for record, event in events:
        id_ = prediction_id(event.event_id, "risk_outcome")
        outcome = {
            "schema_version": 1,
            "type": "risk_outcome",
            "example_id": id_,
            "event_id": event.event_id,
            "user_id": event.user_id,
            "outcome": event.outcome if isinstance(event, OutcomeRecorded) else None,
            "score": event.score if isinstance(event, RiskLabelled) else None,
            "source": source_of(record, event.event_id),
            "timestamp": event.timestamp,
        }
        messages.append(Message("training-examples", event.user_id.encode(), _json(outcome), id_))
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


def source_of(record: Record, event_id: str) -> dict[str, Any]:
    """Return where an event came from, as messages say it."""
    return {"event_id": event_id, "topic": record.topic, "partition": record.partition, "offset": record.offset}


def _probabilities(forecast: Forecast) -> list[float]:
    return _rounded(forecast.p_correct)


def _rounded(numbers: NDArray[np.float32]) -> list[float]:
    rounded: list[float] = numbers.astype(np.float64).round(_DIGITS).tolist()
    return rounded


def _times(forecast: Forecast) -> list[list[float]]:
    """Return mean, 10%, 50% and 90% quantile of each log-normal response time, in seconds."""
    mu, sigma = _within(forecast.mu, *_MU_RANGE), _within(forecast.sigma, *_SIGMA_RANGE)
    exponents = np.array([mu + sigma**2 / 2, mu - Z_90 * sigma, mu, mu + Z_90 * sigma])  # (4, N)
    seconds: list[list[float]] = np.exp(exponents.T).round(_TIME_DIGITS).tolist()
    return seconds


_P50 = 2
"""Where the median stands in a row of `_times`."""


def medians(forecast: Forecast) -> NDArray[np.float64]:
    """Return the medians of response times as they are published, in seconds, `(N,)`."""
    seconds: NDArray[np.float64] = np.exp(_within(forecast.mu, *_MU_RANGE)).round(_TIME_DIGITS)
    return seconds


def _within(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float64]:
    return np.minimum(np.maximum(values.astype(np.float64), low), high)
