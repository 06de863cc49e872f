"""The trainer's metrics."""

from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol

from prometheus_client import Gauge

from schemas import Figures
from stream.health import Health
from stream.telemetry.process import declare_process, declare_progress
from stream.telemetry.sheet import Labels, Sheet


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
    """
    The trainer's metrics; what becomes of one model is counted by its `ModelMetrics`.

    Args:
        health: What is known of how the process is; of one that nothing is known of if not given.
    """

    def __init__(self, health: Health | None = None) -> None:
        self.health = health or Health()
        sheet = self.sheet = Sheet()
        self.registry = sheet.registry
        declare_process(sheet, self.health)
        declare_progress(sheet, self.health, "stream_trainer")
        self.examples = sheet.counter(
            "stream_trainer_examples_total", "Answers read; those that had been read before do not count."
        )
        self.corrections = sheet.counter(
            "stream_trainer_corrections_total",
            "Corrections of earlier answers: found, or missing (their example is no longer in the buffer).",
            {"outcome": ("found", "missing")},
        )
        self.failures = sheet.counter(
            "stream_trainer_failures_total",
            "Failures that the trainer goes on after, by part: store (of models), buffer (or the file of risk "
            "examples), child (an update's process was lost); alert if it keeps growing.",
            {"part": ("store", "buffer", "child")},
        )
        self.buffered = sheet.gauge("stream_trainer_buffered_answers", "Answers in the buffer.")
        self.buffered_users = sheet.gauge("stream_trainer_buffered_users", "Users in the buffer.")
        self.buffered_bytes = sheet.gauge(
            "stream_trainer_buffered_bytes", "Bytes of their answers; the file is up to half as large again."
        )
        self.risk_users = sheet.gauge(
            "stream_trainer_risk_users",
            "Users of whom weeks are kept until it is known what became of them, and to learn from.",
        )
        self.risk_bytes = sheet.gauge("stream_trainer_risk_bytes", "Bytes of these weeks.")
        self.risk_labelled = sheet.counter(
            "stream_trainer_risk_labelled_total", "Weeks of which it became known, by an outcome or an adviser's label."
        )

        one: Labels = {"name": ()}
        self.updates = sheet.counter(
            "stream_trainer_updates_total",
            "Updates, by how they ended: frozen (a candidate), failed, refused (the artifact did not load); name is "
            "knowledge or risk, here and below.",
            {"name": (), "outcome": ()},
        )
        self.update_seconds = sheet.histogram(
            "stream_trainer_update_seconds", "How long an update took, the export too.", (1, 2, 5, 10, 20, 60, 300), one
        )
        self.version = sheet.gauge("stream_trainer_champion_version", "The version announced; 0 is the fallback.", one)
        self.previous = sheet.gauge(
            "stream_trainer_previous_version", "What a rollback goes back to; 0 is the fallback.", one
        )
        self.challenger = sheet.gauge("stream_trainer_challenger_version", "The version on trial; 0: none.", one)
        self.trial_answers = sheet.gauge(
            "stream_trainer_trial_answers",
            "Answers, or weeks of users, on which the challenger has been compared so far.",
            one,
        )
        self.trial_gain = sheet.gauge(
            "stream_trainer_trial_gain_nats", "Log loss that it saves, each; below 0 it is worse.", one
        )
        self.trial_needed = sheet.gauge(
            "stream_trainer_trial_needed_nats", "The gain that would be significant by now.", one
        )
        self.gates = sheet.counter(
            "stream_trainer_gate_decisions_total",
            "Decisions of the gate: promoted, kept_out.",
            {"name": (), "outcome": ()},
        )
        self.promotions = sheet.counter("stream_trainer_promotions_total", "Versions that went live.", one)
        self.rollbacks = sheet.counter(
            "stream_trainer_rollbacks_total",
            "Versions that the trainer itself took back, because live log loss had worsened; alert.",
            one,
        )
        self.at_gate = _gauges(sheet, "stream_trainer_gate", "model", _AT_GATE)
        self.live = _gauges(sheet, "stream_trainer_live", "slice", _LIVE)
        self.drifts = sheet.counter(
            "stream_trainer_drifts_total",
            "Drifts: loss (the log loss of what served has risen, by ADWIN), feature (a feature is distributed "
            "otherwise, by Kolmogorov and Smirnov).",
            {"name": (), "kind": ()},
        )

    def of(self, name: str) -> "ModelMetrics":
        """Return the metrics of one model's life."""
        return ModelMetrics(self, name)


_AT_GATE: Final = {
    "auc": ("auc_ratio", "AUC at the latest gate: candidate, champion, fallback."),
    "logloss": ("logloss_nats", "Mean log loss of the same."),
    "ece": ("ece_ratio", "Expected calibration error of the same, 10 bins."),
    "time_mae_seconds": ("time_error_seconds", "Mean absolute error of the median response time of the same."),
}
_LIVE: Final = {
    "auc": (
        "auc_ratio",
        "AUC over the latest answers, or weeks of which it is known (STREAM_WATCH_WINDOW), of all workers, by slice.",
    ),
    "logloss": ("logloss_nats", "Mean log loss over the same."),
    "ece": ("ece_ratio", "Expected calibration error over the same, 10 bins."),
    "time_mae_seconds": (
        "time_error_seconds",
        "Mean absolute error of the median response time over the same; of answers only.",
    ),
    "fpr": (
        "false_positive_ratio",
        "Of risk only, as those that follow: share said to be High or Critical (.5 and above) of those that passed.",
    ),
    "fnr": ("false_negative_ratio", "Share said to be below of those that failed or withdrew."),
    "base_rate": ("base_ratio", "Share that failed or withdrew."),
    "mean_score": ("mean_score_ratio", "Mean of the scores."),
}
"""By the field of `Figures`: the end of a metric's name, and what it says."""


def _gauges(sheet: Sheet, begin: str, label: str, what: Mapping[str, tuple[str, str]]) -> dict[str, Gauge]:
    """Return gauges of figures, by the field of `Figures`; each by the model's name and another label."""
    labels: Labels = {"name": (), label: ()}
    return {field: sheet.gauge(f"{begin}_{end}", sentence, labels) for field, (end, sentence) in what.items()}


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
        # From 0 on: a rise from nothing is none to Prometheus.
        for count, values in (
            (self.drifts, ("feature", "loss")),
            (self.updates, ("frozen", "failed", "refused")),
            (self.gates, ("promoted", "kept_out")),
        ):
            for value in values:
                count(value)
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
