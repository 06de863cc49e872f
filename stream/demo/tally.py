"""
What the demo has seen on the topics, and the figures that are made of it.

Pure: messages in, figures out. Everything shown or reported comes from what consumers of the topics would see.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, get_args

import numpy as np
import orjson

from schemas.predictions import RiskCategory
from stream.demo.counted import ANSWERS, Counted, is_academic, is_answer
from stream.demo.ours import Ours
from stream.models.dkt import KNOWLEDGE
from stream.models.quality import auc, log_losses
from stream.models.risk import RISK

RECENT = 2_000
"""Answers over which the view's live figures go."""

CATEGORIES: Final = get_args(RiskCategory)
"""The lowest first."""

LOST: Final = frozenset({"fail", "withdrawn"})
"""Outcomes of a course that are at risk."""

REASONS: Final = ("academics", "first_interaction_of_day", "week_closed")
"""What a risk prediction comes for."""

HIGH: Final = frozenset({"High", "Critical"})
EXAMPLES: Final = 10
"""Changes that the report shows of either kind."""


@dataclass(frozen=True, slots=True)
class Risk:
    """The latest that was said of a user's risk."""

    category: str
    score: float
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """
    A user who entered High (High or Critical), or left it.

    Attributes:
        before: What was said before; None at the user's first prediction.
        factors: Feature, contribution in log odds and value of each, the strongest first; of what is said now.
    """

    user_id: str
    before: Risk | None
    now: Risk
    reason: str
    factors: tuple[tuple[str, float, float | None], ...]

    @property
    def entered(self) -> bool:
        """Whether the user entered High; else he left it."""
        return self.now.category in HIGH

    def as_json(self) -> dict[str, Any]:
        """Return the change as the report has it."""
        return {
            "user_id": self.user_id,
            "from": None if self.before is None else self.before.category,
            "to": self.now.category,
            "score_before": None if self.before is None else self.before.score,
            "score": self.now.score,
            "as_of": self.now.as_of.isoformat(),
            "reason": self.reason,
            "factors": [{"feature": f, "contribution": size, "value": value} for f, size, value in self.factors],
        }


@dataclass(slots=True)
class Tally:
    """Counts and outcomes, filled by `sent` and `saw`; one of the two kinds of events may not come at all."""

    ours: Ours | None = None
    """Whose messages count; without it, all do."""
    answers_sent: int = 0
    academics_sent: int = 0
    events_sent: int = 0
    faulty_sent: int = 0
    """Foreign messages in which something is wrong: each becomes a dead letter."""
    dead: int = 0
    first_dead: str = ""
    """What was wrong with the first of them."""
    counts: dict[str, int] = field(default_factory=lambda: {"correctness": 0, "time": 0, "risk": 0})
    prediction_ids: set[str] = field(default_factory=set)
    latencies_s: list[float] = field(default_factory=list)
    """Of answers, from sent to their correctness prediction."""
    risk_latencies_s: list[float] = field(default_factory=list)
    """Of academic events, from sent to their risk prediction."""
    examples: int = 0
    """Whosever they are: what the trainer has to read."""
    outcomes: list[tuple[bool, float, float, int]] = field(default_factory=list)
    """Of each answer: correct, what was said, what the fallback said, the version that said it."""
    swaps: Counter[str] = field(default_factory=Counter)
    """By the model's name."""
    models: list[dict[str, int]] = field(default_factory=list)
    gates: list[Mapping[str, Any]] = field(default_factory=list)
    risks: dict[str, Risk] = field(default_factory=dict)
    """Of each user whose course goes on."""
    ended: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of each other: the category before the end, and the outcome."""
    risk_version: int = 0
    """What said the latest risk; 0 is the formula."""
    by_reason: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)
    updating: set[str] = field(default_factory=set)
    """Names of the models that are being trained."""
    _unscored: set[str] = field(default_factory=set)
    """Ids of academic events whose risk prediction is to come."""
    _sent_at: dict[str, float] = field(default_factory=dict)
    _event_ids: set[str] = field(default_factory=set)

    def sent(self, topic: str, event: Mapping[str, Any], at: float) -> None:
        """Take note of an event that is about to be sent, at a monotonic time in seconds."""
        self.events_sent += 1
        if self.ours is not None:
            self.ours.sent(event)
        if is_answer(topic, event):
            self.answers_sent += 1
            self._sent_at[event["event_id"]] = at
        elif is_academic(topic, event):
            self.academics_sent += 1
            self._unscored.add(event["event_id"])
            self._sent_at[event["event_id"]] = at

    def saw(self, topic: str, value: bytes, at: float) -> None:
        """Take note of a message, `topic` by the catalog's name, at a monotonic time in seconds."""
        message = orjson.loads(value)
        self.examples += topic == "training-examples"
        if self.ours is not None and not self.ours.has(topic, message):
            return
        if topic == "dead-letters":
            self.dead += 1
            self.first_dead = self.first_dead or message["detail"]
        elif topic == "training-examples":
            self._saw_example(message)
        elif topic == "model-events":
            self._saw_model_event(message)
        else:
            self._saw_prediction(topic.removeprefix("predictions."), message, at)

    def _saw_prediction(self, kind: str, message: Mapping[str, Any], at: float) -> None:
        self.counts[kind] += 1
        self.prediction_ids.add(message["prediction_id"])
        if kind == "correctness":
            self._note_latency(self.latencies_s, message, at)
        elif kind == "risk":
            self._saw_risk(message, at)

    def _note_latency(self, latencies_s: list[float], message: Mapping[str, Any], at: float) -> None:
        sent_at = self._sent_at.pop(message["source"]["event_id"], None)
        if sent_at is not None:
            latencies_s.append(at - sent_at)

    def _saw_risk(self, message: Mapping[str, Any], at: float) -> None:
        self.by_reason[message["reason"]] += 1
        if message["reason"] == "academics":
            self._unscored.discard(message["source"]["event_id"])
            self._note_latency(self.risk_latencies_s, message, at)
        self.risk_version = message["model"]["version"]
        user_id = message["user_id"]
        before = self.risks.get(user_id)
        now = Risk(message["category"], message["score"], datetime.fromisoformat(message["as_of"]))
        # A user's risks are in the order of `as_of`; a prediction that is late, or repeated, changes nothing.
        if before is not None and now.as_of < before.as_of:
            return
        if message["outcome"] is not None:
            self.risks.pop(user_id, None)
            if before is not None:
                self.ended[user_id] = (before.category, message["outcome"])
            elif user_id in self.ended:
                self.ended[user_id] = (self.ended[user_id][0], message["outcome"])
            return
        self.risks[user_id] = now
        if (before is not None and before.category in HIGH) != (now.category in HIGH):
            factors = tuple((f["feature"], f["contribution"], f["value"]) for f in message["factors"])
            self.changes.append(Change(user_id, before, now, message["reason"], factors))

    def _saw_example(self, message: Mapping[str, Any]) -> None:
        # Corrections and what the risk model learns from come on the same topic.
        if message.get("type", "answer") != "answer" or message["event_id"] in self._event_ids:
            return
        self._event_ids.add(message["event_id"])
        version = message["model"]["version"]
        # Partitions arrive in no order among each other: a version counts from its first answer.
        if version and all(version != model["version"] for model in self.models):
            self.models.append({"version": version, "at_event": len(self.outcomes)})
        self.outcomes.append((message["correct"], message["p_before"], message["p_before_fallback"], version))

    def _saw_model_event(self, message: Mapping[str, Any]) -> None:
        name = message["name"]
        if message["type"] == "model_swapped":
            self.swaps[name] += 1
        elif message["type"] == "gate_decided":
            self.gates.append(message)
        elif message["type"] == "update_started":
            self.updating.add(name)
        elif message["type"] in {"challenger_started", "candidate_dropped"}:
            self.updating.discard(name)

    def decided(self, name: str) -> int:
        """Return how often the gate has decided on a candidate of a model."""
        return sum(gate["name"] == name for gate in self.gates)

    @property
    def answered(self) -> int:
        """Answers of which both predictions have come."""
        return min(self.counts["correctness"], self.counts["time"])

    @property
    def scored(self) -> int:
        """Academic events of which the risk prediction has come."""
        return self.academics_sent - len(self._unscored)

    def of(self, counted: Counted) -> int:
        """Return of how many answers, or academic events, all predictions have come."""
        return self.answered if counted is ANSWERS else self.scored

    @property
    def done(self) -> int:
        """Answers and academic events of which every prediction has come, or that became dead letters."""
        return self.answered + self.scored + self.dead

    @property
    def due(self) -> int:
        """Answers, academic events and faulty messages that were sent: each is predicted or becomes a dead letter."""
        return self.answers_sent + self.academics_sent + self.faulty_sent

    def quality(self, first: int = 0) -> dict[str, float | int | None]:
        """Return AUC and log loss of what served and of the fallback on the answers from number `first` on."""
        chosen = self.outcomes[max(first, 0) :]
        if not chosen:
            return dict.fromkeys(("auc_serving", "logloss_serving", "auc_fallback", "logloss_fallback")) | {"n": 0}
        correct, serving, fallback = (np.array([row[column] for row in chosen]) for column in range(3))
        return {
            "n": len(chosen),
            "auc_serving": auc(correct, serving),
            "logloss_serving": float(log_losses(correct, serving).mean()),
            "auc_fallback": auc(correct, fallback),
            "logloss_fallback": float(log_losses(correct, fallback).mean()),
        }

    def latency_s(self) -> dict[str, float | None]:
        """Return the median and the 99th percentile of the time from produce to consumed prediction: of answers."""
        # Where there are no answers, academic events stand for them.
        return _percentiles(self.latencies_s if self.answers_sent else self.risk_latencies_s)

    def categories(self) -> dict[str, int]:
        """Return how many users are in each category of risk, the lowest first."""
        counts = Counter(risk.category for risk in self.risks.values())
        return {category: counts[category] for category in CATEGORIES}

    def endings(self) -> dict[str, dict[str, int]]:
        """Return of how many users the course has ended, and how many failed or left, by their last category before."""
        users = Counter(category for category, _ in self.ended.values())
        lost = Counter(category for category, outcome in self.ended.values() if outcome in LOST)
        return {category: {"users": users[category], "failed_or_left": lost[category]} for category in CATEGORIES}

    def risk(self) -> dict[str, Any]:
        """Return the report's part on risk."""
        entered = [change for change in self.changes if change.entered]
        left = [change for change in self.changes if not change.entered]
        examples = sorted(entered[-EXAMPLES:] + left[-EXAMPLES:], key=lambda change: change.now.as_of)
        return {
            "categories": self.categories(),
            "ended": self.endings(),
            "entered_high": len(entered),
            "left_high": len(left),
            "by_reason": {reason: self.by_reason[reason] for reason in REASONS},
            "latency_s": _percentiles(self.risk_latencies_s),
            "swaps": self.swaps[RISK],
            "gate_decisions": self.decided(RISK),
            "examples": [change.as_json() for change in examples],
        }

    def report(self, seconds: float, read: int) -> dict[str, Any]:
        """
        Return the demo's report.

        Args:
            seconds: From the first event to the last prediction.
            read: Events whose offsets the worker has committed.
        """
        whole = self.quality()
        return {
            "seconds": seconds,
            "events": {
                "answers": self.answers_sent, "academics": self.academics_sent, "sent": self.events_sent,
                "read": read, "dead": self.dead,
            },
            "predictions": dict(self.counts),
            "distinct_prediction_ids": len(self.prediction_ids),
            "latency_s": self.latency_s(),
            "swaps": self.swaps[KNOWLEDGE],
            "models": self.models,
            "live": {"auc": whole["auc_serving"], "logloss": whole["logloss_serving"]},
            "live_fallback": {"auc": whole["auc_fallback"], "logloss": whole["logloss_fallback"]},
            "after_swap": self.quality(self.models[0]["at_event"]) if self.models else self.quality(len(self.outcomes)),
            "gate_decisions": self.decided(KNOWLEDGE),
            "risk": self.risk(),
        }  # fmt: skip


def _percentiles(latencies_s: list[float]) -> dict[str, float | None]:
    if not latencies_s:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(latencies_s, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}
