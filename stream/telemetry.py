"""
Every metric, in one place, behind the `Telemetry` protocol: the core never sees prometheus-client.

Names are `stream_<what>_<unit>`, labels are bounded, and nothing tells of a single user.
"""

import collections
import logging
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Protocol
from wsgiref.simple_server import WSGIServer

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from schemas import Figures, risk_category
from stream.errors import UserError
from stream.models.quality import auc, log_losses

_BAR_AFTER_S = 1.0

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Silent:
    """Counts nothing."""

    def read(self, kind: str, count: int) -> None:
        """Do nothing."""

    def predicted(self, kind: str, count: int) -> None:
        """Do nothing."""

    def repeated(self, count: int) -> None:
        """Do nothing."""

    def dead(self, reason: str) -> None:
        """Do nothing."""

    def fell_back(self, count: int) -> None:
        """Do nothing."""

    def risks(self, scores: NDArray[np.float32]) -> None:
        """Do nothing."""

    def risk_fell_back(self, count: int) -> None:
        """Do nothing."""

    def week_closed(self) -> None:
        """Do nothing."""

    def closing(self, waiting: int) -> None:
        """Do nothing."""

    def latency(self, seconds: NDArray[np.float64]) -> None:
        """Do nothing."""

    def batch(self, events: int, seconds: float) -> None:
        """Do nothing."""

    def observed(
        self,
        correct: NDArray[np.bool_],
        p_correct: NDArray[np.float32],
        p_fallback: NDArray[np.float32],
        p_challenger: NDArray[np.float32],
    ) -> None:
        """Do nothing."""

    def model(self, name: str, version: int) -> None:
        """Do nothing."""

    def challenger(self, name: str, version: int) -> None:
        """Do nothing."""

    def swapped(self, name: str) -> None:
        """Do nothing."""

    def refused(self, name: str) -> None:
        """Do nothing."""

    def failed(self, part: str) -> None:
        """Do nothing."""

    def aborted(self) -> None:
        """Do nothing."""

    def recovering(self, read: int, left: int) -> None:
        """Do nothing."""

    def recovered(self, records: int, seconds: float) -> None:
        """Do nothing."""


class LiveQuality:
    """
    Outcomes beside what had been said of them, over the latest answers.

    Args:
        window: Answers that count.
    """

    def __init__(self, window: int) -> None:
        self._rows = np.full((window, 1 + len(_VOICES)), np.nan, np.float32)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, correct: NDArray[np.bool_], *said: NDArray[np.float32]) -> None:
        """Add answers, the oldest first, and what each of `_VOICES` said of them; NaN where it said nothing."""
        with self._lock:
            window = len(self._rows)
            rows = np.stack([correct, *said], axis=1)[-window:]
            self._rows[(self._count + np.arange(len(rows))) % window] = rows
            self._count += len(rows)

    def figures(self, voice: str) -> tuple[float, float]:
        """Return AUC and log loss of one of `_VOICES`; NaN where there is none."""
        column = 1 + _VOICES.index(voice)
        with self._lock:
            rows = self._rows[: min(self._count, len(self._rows))]
            rows = rows[~np.isnan(rows[:, column])]
        if not len(rows):
            return float("nan"), float("nan")
        area = auc(rows[:, 0] > 0, rows[:, column])
        return float("nan") if area is None else area, float(log_losses(rows[:, 0] > 0, rows[:, column]).mean())


_VOICES = ("serving", "fallback", "challenger")


class Metrics:
    """
    The worker's metrics.

    Args:
        quality_window: Answers over which live AUC and log loss go.
    """

    def __init__(self, quality_window: int) -> None:
        self.registry = CollectorRegistry()
        of: Any = {"registry": self.registry}
        self._events = Counter("stream_events_total", "Events read, by type.", ["type"], **of)
        self._repeats = Counter("stream_repeated_events_total", "Events that had been applied already.", **of)
        self._predictions = Counter("stream_predictions_total", "Predictions confirmed, by kind.", ["kind"], **of)
        self._dead = Counter("stream_dead_letters_total", "Dead letters, by reason.", ["reason"], **of)
        self._fallbacks = Counter(
            "stream_fallbacks_total", "Answers predicted by the fallback as the model failed.", **of
        )
        self._risks = Counter("stream_risk_predictions_total", "Risks confirmed, by category.", ["category"], **of)
        self._risk_fallbacks = Counter(
            "stream_risk_fallbacks_total", "Risks scored by the fallback as the model failed.", **of
        )
        self._weeks = Counter("stream_closed_weeks_total", "Weeks whose closing has begun in this worker.", **of)
        self._closing = Gauge("stream_closing_users", "Users who wait for a week to be closed.", **of)
        self._latency = Histogram(
            "stream_latency_seconds", "From an event's Kafka timestamp to its confirmed predictions.",
            buckets=LATENCY_BUCKETS_S, **of,
        )  # fmt: skip
        self._batch_events = Histogram(
            "stream_batch_events", "Events in a batch.", buckets=(1, 10, 50, 100, 200, 500, 1000, 5000), **of
        )
        self._batch_seconds = Histogram("stream_batch_seconds", "From a batch's arrival to its confirmation.", **of)
        self._version = Gauge("stream_model_version", "The version that serves; 0 is the fallback.", ["name"], **of)
        self._challenger = Gauge("stream_challenger_version", "The version on trial; 0 is none.", ["name"], **of)
        self._swaps = Counter("stream_model_swaps_total", "Models that went live in this worker.", ["name"], **of)
        self._refused = Counter("stream_models_refused_total", "Models that were kept out.", ["name"], **of)
        self._failures = Counter(
            "stream_failures_total", "Failures that the worker goes on after, by part.", ["part"], **of
        )
        self._aborts = Counter("stream_aborted_transactions_total", "Transactions that were aborted.", **of)
        self._recovery_left = Gauge("stream_recovery_left_records", "Changelog records left to read, about.", **of)
        self._recovery_read = Counter("stream_recovery_records_total", "Changelog records read.", **of)
        self._recovery_seconds = Gauge("stream_recovery_seconds", "How long the latest recovery took.", **of)
        self._bar = _Bar()
        self._quality = LiveQuality(quality_window)
        area = Gauge("stream_live_auc_ratio", "AUC over the latest answers.", ["model"], **of)
        loss = Gauge("stream_live_logloss_nats", "Mean log loss over the latest answers.", ["model"], **of)
        for voice in _VOICES:
            area.labels(voice).set_function(partial(self._figure, voice, 0))
            loss.labels(voice).set_function(partial(self._figure, voice, 1))

    def _figure(self, voice: str, which: int) -> float:
        return self._quality.figures(voice)[which]

    def read(self, kind: str, count: int) -> None:
        """Count events that were read, by type."""
        self._events.labels(kind).inc(count)

    def predicted(self, kind: str, count: int) -> None:
        """Count predictions that were confirmed, by kind."""
        self._predictions.labels(kind).inc(count)

    def repeated(self, count: int) -> None:
        """Count events that had been seen already."""
        self._repeats.inc(count)

    def dead(self, reason: str) -> None:
        """Count a dead letter."""
        self._dead.labels(reason).inc()

    def fell_back(self, count: int) -> None:
        """Count answers that the fallback had to predict."""
        self._fallbacks.inc(count)

    def risks(self, scores: NDArray[np.float32]) -> None:
        """Count risks that were said, by category."""
        for category, count in collections.Counter(map(risk_category, scores.tolist())).items():
            self._risks.labels(category).inc(count)

    def risk_fell_back(self, count: int) -> None:
        """Count risks that the fallback had to score."""
        self._risk_fallbacks.inc(count)

    def week_closed(self) -> None:
        """Count a week whose closing has begun."""
        self._weeks.inc()

    def closing(self, waiting: int) -> None:
        """Record how many users wait for a week to be closed."""
        self._closing.set(waiting)

    def latency(self, seconds: NDArray[np.float64]) -> None:
        """Record the time from events to their confirmed predictions."""
        for value in seconds.tolist():
            self._latency.observe(value)

    def batch(self, events: int, seconds: float) -> None:
        """Record a batch's size and how long it took."""
        self._batch_events.observe(events)
        self._batch_seconds.observe(seconds)

    def observed(
        self,
        correct: NDArray[np.bool_],
        p_correct: NDArray[np.float32],
        p_fallback: NDArray[np.float32],
        p_challenger: NDArray[np.float32],
    ) -> None:
        """Record outcomes beside what had been said of them."""
        self._quality.add(correct, p_correct, p_fallback, p_challenger)

    def model(self, name: str, version: int) -> None:
        """Record which version of a model serves."""
        self._version.labels(name).set(version)
        for counter in (self._swaps, self._refused):  # from 0 on: a rise from nothing is none to Prometheus
            counter.labels(name)

    def challenger(self, name: str, version: int) -> None:
        """Record which version of a model is on trial."""
        self._challenger.labels(name).set(version)

    def swapped(self, name: str) -> None:
        """Count a swap of a model."""
        self._swaps.labels(name).inc()

    def refused(self, name: str) -> None:
        """Count a version of a model that was kept out."""
        self._refused.labels(name).inc()

    def failed(self, part: str) -> None:
        """Count a failure of a part that the worker goes on without."""
        self._failures.labels(part).inc()

    def aborted(self) -> None:
        """Count a transaction that was aborted."""
        self._aborts.inc()

    def recovering(self, read: int, left: int) -> None:
        """Record how far recovery is, on a terminal as a bar too."""
        self._recovery_left.set(left)
        self._bar.show(read, left)

    def recovered(self, records: int, seconds: float) -> None:
        """Record a recovery that is over."""
        self._recovery_left.set(0)
        self._recovery_read.inc(records)
        self._recovery_seconds.set(seconds)
        self._bar.end()


class _Bar:
    """A bar on standard error, where that is a terminal and it takes longer than a moment."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._began_at = time.monotonic()

    def show(self, read: int, left: int) -> None:
        """Draw it."""
        if read == 0:
            self._began_at = time.monotonic()
        if not self._console.is_terminal or time.monotonic() - self._began_at < _BAR_AFTER_S:
            return
        if self._progress is None:
            columns = (
                TextColumn("state from the changelogs"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.start()
            self._task = self._progress.add_task("")
        if self._task is not None:
            self._progress.update(self._task, completed=read, total=read + left)

    def end(self) -> None:
        """Take it away."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None


class Quality(Protocol):
    """How good predictions were over the latest answers: what a `QualityMeasured` says, and what the watch gives."""

    @property
    def overall(self) -> Figures:
        """Of what served."""

    @property
    def fallback(self) -> Figures:
        """Of the fallback, on the same answers."""

    @property
    def versions(self) -> Mapping[str, Figures]:
        """Of what served, by its version."""

    @property
    def slices(self) -> Mapping[str, Figures]:
        """Of what served, by slice."""


class TrainerMetrics:
    """The trainer's metrics; what becomes of one model is counted by its `ModelMetrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: Any = {"registry": self.registry}
        self.examples = Counter("stream_trainer_examples_total", "Training examples read.", **of)
        self.buffered = Gauge("stream_trainer_buffered_answers", "Answers in the buffer.", **of)
        self.buffered_users = Gauge("stream_trainer_buffered_users", "Users in the buffer.", **of)
        self.buffered_bytes = Gauge("stream_trainer_buffered_bytes", "Bytes of the answers in the buffer.", **of)
        self.risk_users = Gauge("stream_trainer_risk_users", "Users of whom weeks are kept.", **of)
        self.risk_bytes = Gauge("stream_trainer_risk_bytes", "Bytes of these weeks.", **of)
        self.risk_labelled = Counter("stream_trainer_risk_labelled_total", "Weeks of which it became known.", **of)
        self.corrections = Counter(
            "stream_trainer_corrections_total", "Corrections of answers, by outcome.", ["outcome"], **of
        )
        self.failures = Counter(
            "stream_trainer_failures_total", "Failures that the trainer goes on after, by part.", ["part"], **of
        )
        for counter, labels in (
            (self.corrections, ("found", "missing")),
            (self.failures, ("store", "buffer", "child")),
        ):
            for label in labels:  # from 0 on: a rise from nothing is none to Prometheus
                counter.labels(label)

        one: Any = {"labelnames": ["name"], **of}
        self.version = Gauge("stream_trainer_champion_version", "The version announced; 0 is the fallback.", **one)
        self.previous = Gauge(
            "stream_trainer_previous_version", "What a rollback goes back to; 0: the fallback.", **one
        )
        self.challenger = Gauge("stream_trainer_challenger_version", "The version on trial; 0: none.", **one)
        self.trial_answers = Gauge("stream_trainer_trial_answers", "What the trial was judged by so far.", **one)
        self.trial_gain = Gauge("stream_trainer_trial_gain_nats", "Log loss that the challenger saves.", **one)
        self.trial_needed = Gauge("stream_trainer_trial_needed_nats", "The gain that would be significant now.", **one)
        self.promotions = Counter("stream_trainer_promotions_total", "Versions that went live.", **one)
        self.rollbacks = Counter("stream_trainer_rollbacks_total", "Versions taken back by the trainer itself.", **one)
        self.update_seconds = Histogram(
            "stream_trainer_update_seconds", "How long an update took.", buckets=(1, 2, 5, 10, 20, 60, 300), **one
        )
        self.updates = Counter("stream_trainer_updates_total", "Updates, by how they ended.", ["name", "outcome"], **of)
        self.gates = Counter("stream_trainer_gate_decisions_total", "Gate decisions.", ["name", "outcome"], **of)
        self.drifts = Counter("stream_trainer_drifts_total", "Drifts, by kind.", ["name", "kind"], **of)
        self.at_gate = _figures("stream_trainer_gate", "at the latest gate", "model", _JUDGED, self.registry)
        self.live = _figures(
            "stream_trainer_live", "over the latest that was judged", "slice", _JUDGED | _ERRORS, self.registry
        )

    def of(self, name: str) -> "ModelMetrics":
        """Return the metrics of one model's life."""
        return ModelMetrics(self, name)


_JUDGED: Final = {
    "auc": ("auc_ratio", "AUC"),
    "logloss": ("logloss_nats", "Log loss"),
    "ece": ("ece_ratio", "Calibration error"),
    "time_mae_seconds": ("time_error_seconds", "Mean error of times"),
}
_ERRORS: Final = {
    "fpr": ("false_positive_ratio", "Of risk, those said to be at it among those who were not,"),
    "fnr": ("false_negative_ratio", "Of risk, those not said to be at it among those who were,"),
    "base_rate": ("base_ratio", "Of risk, those who were at it,"),
    "mean_score": ("mean_score_ratio", "Of risk, mean score"),
}
"""By the field of `Figures`: the end of a metric's name, and what it is."""


def _figures(
    begin: str, when: str, label: str, what: Mapping[str, tuple[str, str]], registry: CollectorRegistry
) -> dict[str, Gauge]:
    """Return gauges of figures, by the field of `Figures`; each by the model's name and another label."""
    return {
        field: Gauge(f"{begin}_{end}", f"{meaning} {when}.", ["name", label], registry=registry)
        for field, (end, meaning) in what.items()
    }


class ModelMetrics:
    """
    What the trainer counts of one model's life.

    Args:
        of: All of its metrics.
        name: The model's.
    """

    def __init__(self, of: TrainerMetrics, name: str) -> None:
        self._name = name
        self.failures = of.failures
        self.version, self.previous, self.challenger = (
            gauge.labels(name) for gauge in (of.version, of.previous, of.challenger)
        )
        self.trial_answers, self.trial_gain, self.trial_needed = (
            gauge.labels(name) for gauge in (of.trial_answers, of.trial_gain, of.trial_needed)
        )
        self.promotions, self.rollbacks = of.promotions.labels(name), of.rollbacks.labels(name)
        self.update_seconds = of.update_seconds.labels(name)
        self.updates, self.gates, self.drifts = (
            partial(counter.labels, name) for counter in (of.updates, of.gates, of.drifts)
        )
        for kind in ("feature", "loss"):  # from 0 on: a rise from nothing is none to Prometheus
            self.drifts(kind)
        self._at_gate, self._live = of.at_gate, of.live
        self._shown: dict[Gauge, set[str]] = {}

    def show(self, quality: Quality) -> None:
        """Show how good predictions were lately; what there are no figures of goes away."""
        versions = {f"version:{version}": figures for version, figures in quality.versions.items()}
        self._set(self._live, {"all": quality.overall, "fallback": quality.fallback} | versions | dict(quality.slices))

    def show_gate(self, candidate: Figures, champion: Figures, fallback: Figures) -> None:
        """Show the figures of the latest gate."""
        self._set(self._at_gate, {"candidate": candidate, "champion": champion, "fallback": fallback})

    def _set(self, gauges: Mapping[str, Gauge], found: Mapping[str, Figures]) -> None:
        """Set gauges to figures by label, and remove all other labels."""
        for field, gauge in gauges.items():
            values = {label: getattr(figures, field) for label, figures in found.items()}
            values = {label: value for label, value in values.items() if value is not None}
            for label in self._shown.get(gauge, set()) - values.keys():
                gauge.remove(self._name, label)
            for label, value in values.items():
                gauge.labels(self._name, label).set(value)
            self._shown[gauge] = set(values)


def serve(registry: CollectorRegistry, host: str, port: int, setting: str) -> WSGIServer | None:
    """
    Serve `/metrics`; port 0 serves none.

    Raises:
        UserError: If the port is taken; the message names the setting.
    """
    if port == 0:
        return None
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise UserError(
            f"port {port} on {host} cannot be used ({error.strerror}): choose another by {setting}"
        ) from error
    return server


def set_up_logging(level: str) -> None:
    """Log to standard error: our own events by structlog, warnings of the libraries beside them."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
