"""Metrics: what is counted under which name, live quality, and where they are served."""

import io
import math
import socket
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from schemas import Figures
from stream import telemetry
from stream.errors import UserError
from stream.learning.watch import Quality
from stream.models.quality import auc, log_losses
from stream.ports import Telemetry
from stream.telemetry import LiveQuality, Metrics, Silent, TrainerMetrics


def test_every_happening_has_its_metric() -> None:
    """What the worker is told of is what a scrape shows."""
    metrics = Metrics(100)
    metrics.read("quiz_complete", 5)
    metrics.read("quiz_complete", 2)
    metrics.predicted("time", 7)
    metrics.repeated(3)
    metrics.dead("not_json")
    metrics.fell_back(4)
    metrics.risks(np.array([0.1, 0.2, 0.6, 0.75], np.float32))
    metrics.risk_fell_back(2)
    metrics.week_closed()
    metrics.closing(300)
    metrics.latency(np.array([0.004, 0.3]))
    metrics.batch(500, 0.2)
    metrics.model("risk", 7)
    metrics.swapped("risk")
    metrics.refused("risk")
    metrics.failed("redis")
    metrics.aborted()
    metrics.aborted()
    value = metrics.registry.get_sample_value
    assert value("stream_events_total", {"type": "quiz_complete"}) == 7
    assert value("stream_predictions_total", {"kind": "time"}) == 7
    assert value("stream_repeated_events_total") == 3
    assert value("stream_dead_letters_total", {"reason": "not_json"}) == 1
    assert value("stream_fallbacks_total") == 4
    said = {name: value("stream_risk_predictions_total", {"category": name}) for name in ("Low", "High", "Critical")}
    assert said == {"Low": 2, "High": 1, "Critical": 1}
    assert value("stream_risk_fallbacks_total") == 2
    assert value("stream_closed_weeks_total") == 1
    assert value("stream_closing_users") == 300
    assert value("stream_latency_seconds_count") == 2
    assert value("stream_latency_seconds_bucket", {"le": "0.005"}) == 1
    assert value("stream_batch_events_sum") == 500
    assert value("stream_batch_seconds_count") == 1
    assert value("stream_model_version", {"name": "risk"}) == 7
    assert value("stream_model_swaps_total", {"name": "risk"}) == 1
    assert value("stream_models_refused_total", {"name": "risk"}) == 1
    assert value("stream_failures_total", {"part": "redis"}) == 1
    assert value("stream_aborted_transactions_total") == 2


def test_recovery_is_seen_while_it_runs_and_afterwards() -> None:
    """What is left goes down to nothing; records read are counted over all recoveries, the time is the latest's."""
    metrics = Metrics(100)
    value = metrics.registry.get_sample_value
    metrics.recovering(0, 1_000)
    assert value("stream_recovery_left_records") == 1_000
    metrics.recovering(600, 400)
    assert value("stream_recovery_left_records") == 400
    assert value("stream_recovery_records_total") == 0
    metrics.recovered(1_000, 2.5)
    assert value("stream_recovery_left_records") == 0
    assert value("stream_recovery_records_total") == 1_000
    assert value("stream_recovery_seconds") == 2.5
    metrics.recovering(0, 7)
    metrics.recovered(5, 0.5)
    assert value("stream_recovery_left_records") == 0
    assert value("stream_recovery_records_total") == 1_005
    assert value("stream_recovery_seconds") == 0.5


def test_recovery_on_a_terminal_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar shows how far it is, at once here; when all is read it is gone."""
    monkeypatch.setattr(telemetry, "_BAR_AFTER_S", 0.0)
    screen = io.StringIO()
    bar = telemetry._Bar()
    bar._console = Console(file=screen, force_terminal=True, width=80)
    bar.show(0, 1_000)
    bar.show(250, 750)
    assert bar._progress is not None
    assert [(task.completed, task.total) for task in bar._progress.tasks] == [(250, 1_000)]
    shown = bar._progress
    bar.end()
    assert shown.finished is False
    assert shown.live.is_started is False
    assert "state from the changelogs" in screen.getvalue()
    bar.end()


def test_recovery_without_a_terminal_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file gets no bar, and a moment's recovery none anywhere."""
    screen = io.StringIO()
    bar = telemetry._Bar()
    bar._console = Console(file=screen, force_terminal=True, width=80)
    bar.show(0, 1_000)
    bar.show(999, 1)
    monkeypatch.setattr(telemetry, "_BAR_AFTER_S", 0.0)
    bar._console = Console(file=screen, force_terminal=False, width=80)
    bar.show(0, 1_000)
    bar.show(999, 1)
    bar.end()
    assert screen.getvalue() == ""


def test_live_quality_goes_over_the_latest_answers() -> None:
    """AUC and log loss of what serves and of the fallback, over a window that moves on."""
    random = np.random.default_rng(1)
    correct = random.random(250) < 0.6
    said, fallback, challenger = (random.random(250).astype(np.float32) for _ in range(3))
    challenger[:200] = np.nan  # its trial began late
    metrics = Metrics(100)
    for start in range(0, 250, 30):
        rows = slice(start, start + 30)
        metrics.observed(correct[rows], said[rows], fallback[rows], challenger[rows])
    for model, p, first in (("serving", said, 150), ("fallback", fallback, 150), ("challenger", challenger, 200)):
        value = metrics.registry.get_sample_value("stream_live_auc_ratio", {"model": model})
        assert value == pytest.approx(auc(correct[first:], p[first:]))
        value = metrics.registry.get_sample_value("stream_live_logloss_nats", {"model": model})
        assert value == pytest.approx(log_losses(correct[first:], p[first:]).mean(), rel=1e-5)


def test_more_answers_than_the_window_at_once() -> None:
    """Of a batch larger than the window its end counts."""
    quality = LiveQuality(10)
    correct = np.arange(25) % 2 == 0
    p = np.linspace(0.1, 0.9, 25).astype(np.float32)
    quality.add(correct, p, p, p)
    assert quality.figures("serving")[1] == pytest.approx(log_losses(correct[15:], p[15:]).mean(), rel=1e-5)


def test_without_answers_live_quality_is_no_number() -> None:
    """Nothing measured is NaN, never 0; with right answers only the AUC stays so."""
    quality = LiveQuality(10)
    assert all(map(math.isnan, quality.figures("serving")))
    half = np.full(1, 0.5, np.float32)
    quality.add(np.ones(1, bool), half, half, half)
    area, loss = quality.figures("fallback")
    assert math.isnan(area)
    assert loss == pytest.approx(math.log(2))


def test_names_follow_the_convention() -> None:
    """Every metric begins with `stream_` and tells of no single user."""
    for registry in (Metrics(10).registry, TrainerMetrics().registry):
        for metric in registry.collect():
            assert metric.name.startswith("stream_")
            assert metric.documentation
            assert all("user" not in sample.labels for sample in metric.samples)


def shown(metrics: TrainerMetrics, name: str) -> dict[str, float]:
    """Return the samples of a metric of the knowledge model with one more label, by its value."""
    (found,) = (metric for metric in metrics.registry.collect() if metric.name == name)
    samples = [(sample.labels, sample.value) for sample in found.samples if sample.labels["name"] == "knowledge"]
    return {label: value for labels, value in samples for key, label in labels.items() if key != "name"}


def figures(logloss: float, area: float | None = 0.7, time_s: float | None = 9.0) -> Figures:
    """Return figures that differ by log loss."""
    return Figures(n=100, logloss=logloss, auc=area, ece=logloss / 10, time_mae_seconds=time_s)


def test_the_trainer_shows_quality_by_slice() -> None:
    """Overall, of the fallback, by version and by slice, each figure under its own name."""
    metrics = TrainerMetrics()
    of = metrics.of("knowledge")
    of.show(
        Quality(
            figures(0.5), figures(0.6), {"0": figures(0.7), "12": figures(0.4)},
            {"topic:ratios, and more": figures(0.3), "users:new": figures(0.65)},
        )
    )  # fmt: skip
    assert shown(metrics, "stream_trainer_live_logloss_nats") == {
        "all": 0.5, "fallback": 0.6, "version:0": 0.7, "version:12": 0.4, "topic:ratios, and more": 0.3,
        "users:new": 0.65,
    }  # fmt: skip
    assert shown(metrics, "stream_trainer_live_ece_ratio")["users:new"] == pytest.approx(0.065)
    assert set(shown(metrics, "stream_trainer_live_auc_ratio").values()) == {0.7}
    assert set(shown(metrics, "stream_trainer_live_time_error_seconds").values()) == {9.0}


def test_what_has_no_figure_any_more_goes_away() -> None:
    """A version that left the window, or an AUC that is not defined, leaves no stale number; it may come back."""
    metrics = TrainerMetrics()
    of = metrics.of("knowledge")
    first = Quality(figures(0.5), figures(0.6), {"1": figures(0.7), "2": figures(0.4)}, {"topic:a": figures(0.3)})
    of.show(first)
    of.show(Quality(figures(0.5, area=None, time_s=None), figures(0.6), {"2": figures(0.4)}, {}))
    assert shown(metrics, "stream_trainer_live_logloss_nats").keys() == {"all", "fallback", "version:2"}
    assert shown(metrics, "stream_trainer_live_auc_ratio").keys() == {"fallback", "version:2"}
    assert shown(metrics, "stream_trainer_live_time_error_seconds").keys() == {"fallback", "version:2"}
    of.show(first)
    assert shown(metrics, "stream_trainer_live_auc_ratio").keys() == {
        "all", "fallback", "version:1", "version:2", "topic:a",
    }  # fmt: skip


def test_the_trainer_shows_the_latest_gate() -> None:
    """Candidate, champion and fallback; an AUC that is not defined is not that of the gate before."""
    metrics = TrainerMetrics()
    of = metrics.of("knowledge")
    of.show_gate(figures(0.4), figures(0.5), figures(0.6))
    assert shown(metrics, "stream_trainer_gate_auc_ratio").keys() == {"candidate", "champion", "fallback"}
    of.show_gate(figures(0.3, area=None), figures(0.5), figures(0.6, time_s=8.0))
    assert shown(metrics, "stream_trainer_gate_logloss_nats") == {"candidate": 0.3, "champion": 0.5, "fallback": 0.6}
    assert shown(metrics, "stream_trainer_gate_auc_ratio").keys() == {"champion", "fallback"}
    assert shown(metrics, "stream_trainer_gate_ece_ratio")["candidate"] == pytest.approx(0.03)
    assert shown(metrics, "stream_trainer_gate_time_error_seconds")["fallback"] == 8.0


def test_errors_are_shown_of_risk_alone() -> None:
    """One model's figures neither stand under the other's name nor take its labels away."""
    metrics = TrainerMetrics()
    knowledge, risk = metrics.of("knowledge"), metrics.of("risk")
    knowledge.show(Quality(figures(0.5), figures(0.6), {}, {}))
    errs = figures(0.4).model_copy(update={"fpr": 0.1, "fnr": 0.3, "base_rate": 0.25, "mean_score": 0.2})
    risk.show(Quality(errs, figures(0.6), {}, {"gender:F": errs.model_copy(update={"fpr": None})}))
    value = metrics.registry.get_sample_value
    assert value("stream_trainer_live_false_positive_ratio", {"name": "risk", "slice": "all"}) == 0.1
    assert value("stream_trainer_live_false_positive_ratio", {"name": "risk", "slice": "gender:F"}) is None
    assert value("stream_trainer_live_false_negative_ratio", {"name": "risk", "slice": "gender:F"}) == 0.3
    assert value("stream_trainer_live_base_ratio", {"name": "risk", "slice": "gender:F"}) == 0.25
    assert value("stream_trainer_live_mean_score_ratio", {"name": "risk", "slice": "gender:F"}) == 0.2
    assert shown(metrics, "stream_trainer_live_false_positive_ratio") == {}
    risk.show(Quality(errs, figures(0.6), {}, {}))
    assert shown(metrics, "stream_trainer_live_logloss_nats") == {"all": 0.5, "fallback": 0.6}


def test_the_trainers_alarms_begin_at_0() -> None:
    """A counter that is alerted on is there before it counts: from nothing to 1 is no rise to Prometheus."""
    metrics = TrainerMetrics()
    metrics.of("risk")
    value = metrics.registry.get_sample_value
    for name, label, of in (
        ("failures", "part", ("store", "buffer", "child")),
        ("corrections", "outcome", ("found", "missing")),
    ):
        assert [value(f"stream_trainer_{name}_total", {label: each}) for each in of] == [0.0] * len(of)
    for kind in ("feature", "loss"):
        assert value("stream_trainer_drifts_total", {"name": "risk", "kind": kind}) == 0.0
    assert value("stream_trainer_rollbacks_total", {"name": "risk"}) == 0.0


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Give a port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_the_users_to_mend(taken_port: int) -> None:
    """The sentence names the port and the setting."""
    with pytest.raises(UserError, match=rf"port {taken_port} .*STREAM_WORKER_METRICS_PORT"):
        telemetry.serve(CollectorRegistry(), "127.0.0.1", taken_port, "STREAM_WORKER_METRICS_PORT")


def test_port_0_serves_nothing() -> None:
    """Metrics can be turned off."""
    assert telemetry.serve(CollectorRegistry(), "127.0.0.1", 0, "STREAM_WORKER_METRICS_PORT") is None


def test_metrics_are_served() -> None:
    """`/metrics` is there over HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    metrics = Metrics(10)
    metrics.model("knowledge", 3)
    server = telemetry.serve(metrics.registry, "127.0.0.1", port, "X")
    assert server is not None
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            assert b'stream_model_version{name="knowledge"} 3.0' in page.read()
    finally:
        server.shutdown()
        server.server_close()


def test_silence_takes_everything() -> None:
    """Who counts nothing takes the same as who does."""
    silent: Telemetry = Silent()
    none = np.zeros(0, np.float32)
    silent.read("x", 1)
    silent.predicted("x", 1)
    silent.repeated(1)
    silent.dead("x")
    silent.fell_back(1)
    silent.risks(none)
    silent.risk_fell_back(1)
    silent.week_closed()
    silent.closing(1)
    silent.latency(none.astype(np.float64))
    silent.batch(1, 1.0)
    silent.observed(none.astype(bool), none, none, none)
    silent.model("x", 1)
    silent.challenger("x", 1)
    silent.swapped("x")
    silent.refused("x")
    silent.failed("x")
    silent.aborted()
    silent.recovering(1, 1)
    silent.recovered(1, 1.0)
