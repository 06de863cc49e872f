"""
What the demo has seen on the topics, and the figures that are made of it.

Pure: messages in, figures out. Everything shown or reported comes from what consumers of the topics would see.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from stream.models.quality import auc, log_losses

RECENT = 2_000
"""Answers over which the view's live figures go."""


@dataclass(slots=True)
class Tally:
    """Counts and outcomes, filled by `sent` and `saw`."""

    answers_sent: int = 0
    events_sent: int = 0
    dead: int = 0
    first_dead: str = ""
    """What was wrong with the first of them."""
    counts: dict[str, int] = field(default_factory=lambda: {"correctness": 0, "time": 0, "risk": 0})
    prediction_ids: set[str] = field(default_factory=set)
    latencies_s: list[float] = field(default_factory=list)
    examples: int = 0
    outcomes: list[tuple[bool, float, float, int]] = field(default_factory=list)
    """Of each answer: correct, what was said, what the fallback said, the version that said it."""
    swaps: int = 0
    models: list[dict[str, int]] = field(default_factory=list)
    gates: list[Mapping[str, Any]] = field(default_factory=list)
    at_risk: dict[str, str] = field(default_factory=dict)
    updating: bool = False
    _sent_at: dict[str, float] = field(default_factory=dict)
    _event_ids: set[str] = field(default_factory=set)

    def sent(self, event: Mapping[str, Any], answer: bool, at: float) -> None:
        """Take note of an event that is about to be sent, at a monotonic time in seconds."""
        self.events_sent += 1
        if answer:
            self.answers_sent += 1
            self._sent_at[event["event_id"]] = at

    def saw(self, topic: str, value: bytes, at: float) -> None:
        """Take note of a message, `topic` by the catalog's name, at a monotonic time in seconds."""
        if topic == "dead-letters":
            self.dead += 1
            self.first_dead = self.first_dead or orjson.loads(value)["detail"]
            return
        message = orjson.loads(value)
        if topic == "training-examples":
            self._saw_example(message)
        elif topic == "model-events":
            self._saw_model_event(message)
        else:
            self._saw_prediction(topic.removeprefix("predictions."), message, at)

    def _saw_prediction(self, kind: str, message: Mapping[str, Any], at: float) -> None:
        self.counts[kind] += 1
        self.prediction_ids.add(message["prediction_id"])
        if kind == "correctness":
            sent_at = self._sent_at.pop(message["source"]["event_id"], None)
            if sent_at is not None:
                self.latencies_s.append(at - sent_at)
        elif kind == "risk":
            self.at_risk[message["user_id"]] = message["category"]

    def _saw_example(self, message: Mapping[str, Any]) -> None:
        self.examples += 1
        if message["event_id"] in self._event_ids:
            return
        self._event_ids.add(message["event_id"])
        version = message["model"]["version"]
        # Partitions arrive in no order among each other: a version counts from its first answer.
        if version and all(version != model["version"] for model in self.models):
            self.models.append({"version": version, "at_event": len(self.outcomes)})
        self.outcomes.append((message["correct"], message["p_before"], message["p_before_fallback"], version))

    def _saw_model_event(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "model_swapped":
            self.swaps += 1
        elif message["type"] == "gate_decided":
            self.gates.append(message)
        elif message["type"] in {"update_started", "challenger_started", "candidate_dropped"}:
            self.updating = message["type"] == "update_started"

    @property
    def answered(self) -> int:
        """Answers of which both predictions have come."""
        return min(self.counts["correctness"], self.counts["time"])

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
        """Return the median and the 99th percentile of the time from produce to consumed prediction."""
        if not self.latencies_s:
            return {"p50": None, "p99": None}
        p50, p99 = np.percentile(self.latencies_s, [50, 99])
        return {"p50": float(p50), "p99": float(p99)}

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
            "events": {"answers": self.answers_sent, "sent": self.events_sent, "read": read, "dead": self.dead},
            "predictions": dict(self.counts),
            "distinct_prediction_ids": len(self.prediction_ids),
            "latency_s": self.latency_s(),
            "swaps": self.swaps,
            "models": self.models,
            "live": {"auc": whole["auc_serving"], "logloss": whole["logloss_serving"]},
            "live_fallback": {"auc": whole["auc_fallback"], "logloss": whole["logloss_fallback"]},
            "after_swap": self.quality(self.models[0]["at_event"]) if self.models else self.quality(len(self.outcomes)),
            "gate_decisions": len(self.gates),
        }
