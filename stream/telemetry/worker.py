"""The worker's metrics, and those of `stream ingest`."""

import collections
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from schemas import TOPICS, Academic, Interaction, risk_category
from schemas.base import Reason
from schemas.predictions import RiskCategory
from stream.health import Health
from stream.ports import OUTCOMES, STAGES, Observed
from stream.telemetry.bar import Bar
from stream.telemetry.process import declare_process, declare_progress
from stream.telemetry.quality import LiveQuality
from stream.telemetry.sheet import Sheet
from stream.transport.topics import TABLES

_MOST_KINDS: Final = 200

LATENCY_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STAGE_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_TYPES: Final = (
    *get_args(Interaction.model_fields["type"].annotation),
    *(type_ for model in get_args(get_args(Academic)[0]) for type_ in get_args(model.model_fields["type"].annotation)),
    "prediction_request",
    "erasure",
)
_READ_TOPICS: Final = tuple(contract.name for contract in TOPICS.values() if contract.direction == "in")
_REASONS: Final = (*get_args(Reason), "wrong_key", "wrong_partition", "from_the_future", "processing_failed")
_PARTS: Final = ("control", "challenger", "closing", "redis", "redis_pending", "redis_refused", "store")


class Silent:
    """Counts nothing."""

    def read(self, kind: str, outcome: str, count: int) -> None:
        """Do nothing."""

    def predicted(self, kind: str, count: int) -> None:
        """Do nothing."""

    def ingested(self, source: str, converted: int, ignored: Mapping[str, int], bad: int) -> None:
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

    def staged(self, stage: str, seconds: float) -> None:
        """Do nothing."""

    def changed(self, table: str, size_bytes: int) -> None:
        """Do nothing."""

    def observed(self, observed: Observed) -> None:
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


class Kept(Protocol):
    """A table's records in memory."""

    def __len__(self) -> int:
        """Return how many users have one."""

    @property
    def size_bytes(self) -> int:
        """What they take up."""


class Metrics:
    """
    The worker's metrics.

    Args:
        quality_window: Answers over which live quality goes.
        health: What is known of how the process is; of one that nothing is known of if not given.
    """

    def __init__(self, quality_window: int, health: Health | None = None) -> None:
        self.health = health or Health()
        sheet = self.sheet = Sheet()
        self.registry = sheet.registry
        self._tables: Mapping[str, Kept] = {}
        self._kinds: set[str] = set()
        self._bar = Bar()
        self._quality = LiveQuality(quality_window)

        declare_process(sheet, self.health)
        declare_progress(sheet, self.health, "stream")
        sheet.read(
            {"stream_partitions": "Partitions of interactions that are this worker's."},
            (),
            lambda: [((), (self.health.owned("interactions"),))],
        )
        self._events = sheet.counter(
            "stream_events_total",
            "Events read, by type and by what became of them: applied; repeated, as they had been applied before; "
            "ignored, as a null value (of type tombstone) is; dead, with a dead letter: where the type could not be "
            "read, it is the topic.",
            {"type": (), "outcome": ()},
        )
        _begin_events(self._events)
        self._ingested = sheet.counter(
            "stream_source_events_total",
            "Foreign events of the topics of STREAM_SOURCES: converted, ignored or bad; alert on bad.",
            {"source": (), "outcome": ("converted", "ignored", "bad")},
        )
        self._ignored = sheet.counter(
            "stream_source_ignored_total",
            f"Foreign events of which nothing came, by what they were; {_MOST_KINDS} kinds, the rest as other.",
            {"kind": ()},
        )
        self._predictions = sheet.counter(
            "stream_predictions_total", "Confirmed predictions: correctness, time, risk, reply.",
            {"kind": ("correctness", "time", "risk", "reply")},
        )  # fmt: skip
        self._dead = sheet.counter(
            "stream_dead_letters_total",
            "Dead letters, by reason; alert on processing_failed, which is our own fault.",
            {"reason": _REASONS},
        )
        self._fallbacks = sheet.counter(
            "stream_fallbacks_total", "Answers that the fallback predicted because the model failed; alert."
        )
        self._risks = sheet.counter(
            "stream_risk_predictions_total", "Confirmed risk predictions: Low, Medium, High, Critical.",
            {"category": get_args(RiskCategory)},
        )  # fmt: skip
        self._risk_fallbacks = sheet.counter(
            "stream_risk_fallbacks_total", "Risks that the fallback scored because the model failed; alert."
        )
        self._weeks = sheet.counter("stream_week_closings_total", "Weeks whose closing has begun in this worker.")
        self._closing = sheet.gauge(
            "stream_closing_users", "Users who wait for the week to be closed; alert if it stays above 0 for long."
        )
        self._latency = sheet.spread(
            "stream_latency_seconds", "From an event's Kafka timestamp to its confirmed predictions.", LATENCY_BUCKETS_S
        )
        self._batch_events = sheet.histogram(
            "stream_batch_events", "Events in a batch.", (1, 10, 50, 100, 200, 500, 1000, 5000)
        )
        self._batch_seconds = sheet.histogram(
            "stream_batch_seconds", "How long a batch was processed, until it was on its way.", STAGE_BUCKETS_S
        )
        self._stages = sheet.histogram(
            "stream_stage_seconds",
            "How long a stage of a batch took: decode (bytes into events), inference (the models, fallbacks too), "
            "features (all else of its processing), produce (until its outputs and changelog records are confirmed; "
            "batches that are sent together count once), commit (of offsets; with exactly once, of the transaction).",
            STAGE_BUCKETS_S,
            {"stage": STAGES},
        )
        self._aborts = sheet.counter(
            "stream_aborted_transactions_total",
            "With exactly once, or with sources: transactions that were aborted, and their batches undone; alert if it "
            "keeps growing.",
        )
        sheet.read(
            {
                "stream_state_users": "Users in a table of this worker.",
                "stream_state_bytes": "Bytes of their records in memory, without the index of their ids.",
            },
            ("table",),
            lambda: [((name,), (len(table), table.size_bytes)) for name, table in self._tables.items()],
        )
        self._changes = sheet.counter(
            "stream_changelog_bytes_total", "Bytes of keys and values that a table's changelog was given.",
            {"table": TABLES},
        )  # fmt: skip
        self._recovery_left = sheet.gauge(
            "stream_recovery_left_records", "Changelog records left to read, about; 0 when there is nothing to recover."
        )
        self._recovery_read = sheet.counter("stream_recovery_records_total", "Changelog records read.")
        self._recovery_seconds = sheet.gauge("stream_recovery_seconds", "How long the latest recovery took.")
        self._version = sheet.gauge(
            "stream_model_version",
            "The version that serves; 0 is the fallback; name is knowledge or risk.",
            {"name": ()},
        )
        self._challenger = sheet.gauge(
            "stream_challenger_version",
            "The version on trial, which predicts beside the one that serves; 0 is none.",
            {"name": ()},
        )
        self._swaps = sheet.counter("stream_model_swaps_total", "Swaps of models in this worker.", {"name": ()})
        self._refused = sheet.counter(
            "stream_models_refused_total", "Models that were kept out, each once until it loads; alert.", {"name": ()}
        )
        self._failures = sheet.counter(
            "stream_failures_total",
            "Failures that the worker goes on after, by part: control (an unreadable control message), challenger "
            "(what is on trial failed; what serves did not), closing (a user's record made our own code raise when a "
            "week was closed: our own fault, alert), redis, redis_pending (latest predictions dropped), redis_refused "
            "(Redis refused a write), store (models could not be read).",
            {"part": _PARTS},
        )
        sheet.read(
            {
                "stream_live_auc_ratio": "AUC over the latest answers (STREAM_QUALITY_WINDOW) of this worker, by part "
                "and version: serving, fallback (version 0), and challenger on those that it predicted.",
                "stream_live_logloss_nats": "Mean log loss over the same.",
                "stream_live_ece_ratio": "Expected calibration error over the same, 10 bins.",
                "stream_live_time_error_seconds": "Mean absolute error of the median response time over the same.",
            },
            ("model", "version"),
            lambda: [((voice, str(version)), figures) for voice, version, figures in self._quality.figures()],
        )

    def keeps(self, tables: Mapping[str, Kept]) -> None:
        """Show from now on what is in these tables."""
        self._tables = dict(tables)

    def read(self, kind: str, outcome: str, count: int) -> None:
        """Count events that were read, by type and by what became of them."""
        self._events.labels(kind, outcome).inc(count)

    def predicted(self, kind: str, count: int) -> None:
        """Count predictions that were confirmed, by kind."""
        self._predictions.labels(kind).inc(count)

    def ingested(self, source: str, converted: int, ignored: Mapping[str, int], bad: int) -> None:
        """Count foreign events of a source: converted, ignored by kind, and bad."""
        for outcome, count in (("converted", converted), ("ignored", sum(ignored.values())), ("bad", bad)):
            self._ingested.labels(source, outcome).inc(count)
        for kind, count in ignored.items():
            # Kinds are whatever platforms call things: a bounded number of them, the rest together.
            known = kind if kind in self._kinds or len(self._kinds) < _MOST_KINDS else "other"
            self._kinds.add(known)
            self._ignored.labels(known).inc(count)

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
        self._latency.add(seconds)

    def batch(self, events: int, seconds: float) -> None:
        """Record a batch's size and how long it took."""
        self._batch_events.observe(events)
        self._batch_seconds.observe(seconds)

    def staged(self, stage: str, seconds: float) -> None:
        """Record how long a stage of a batch's way took."""
        self._stages.labels(stage).observe(seconds)

    def changed(self, table: str, size_bytes: int) -> None:
        """Count bytes that a table's changelog was given."""
        self._changes.labels(table).inc(size_bytes)

    def observed(self, observed: Observed) -> None:
        """Record outcomes beside what had been said of them."""
        self._quality.add(observed)

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
        self.health.recovering(read, left)
        self._recovery_left.set(left)
        self._bar.show(read, left)

    def recovered(self, records: int, seconds: float) -> None:
        """Record a recovery that is over."""
        self.health.recovered(records, seconds)
        self._recovery_left.set(0)
        self._recovery_read.inc(records)
        self._recovery_seconds.set(seconds)
        self._bar.end()


def _begin_events(events: Counter) -> None:
    """Show every event that there may be, from 0 on."""
    combinations: Iterable[tuple[str, str]] = [
        *((type_, outcome) for type_ in _TYPES for outcome in OUTCOMES if outcome != "ignored"),
        *((topic, "dead") for topic in _READ_TOPICS),
        ("tombstone", "ignored"),
    ]
    for type_, outcome in combinations:
        events.labels(type_, outcome)
