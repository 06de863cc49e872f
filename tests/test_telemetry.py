"""Metrics: what is counted under which name, live quality, and where they are served."""

import io
import math
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from schemas import TOPICS, Figures
from stream.errors import UserError
from stream.health import Health, Standing
from stream.learning.watch import Quality
from stream.models.quality import auc, calibration_error, log_losses
from stream.ports import OBSERVED, STAGES, Observed, Telemetry
from stream.telemetry import Metrics, Silent, TrainerMetrics, bar, serve
from stream.telemetry.quality import LiveQuality
from stream.telemetry.sheet import Sheet
from tests.broker.process import free_ports


def test_every_happening_has_its_metric() -> None:
    """What the worker is told of is what a scrape shows."""
    metrics = Metrics(100)
    metrics.read("quiz_complete", "applied", 5)
    metrics.read("quiz_complete", "applied", 2)
    metrics.read("quiz_complete", "repeated", 3)
    metrics.predicted("time", 7)
    metrics.dead("not_json")
    metrics.fell_back(4)
    metrics.risks(np.array([0.1, 0.2, 0.6, 0.75], np.float32))
    metrics.risk_fell_back(2)
    metrics.week_closed()
    metrics.closing(300)
    metrics.latency(np.array([0.004, 0.3]))
    metrics.batch(500, 0.2)
    metrics.staged("decode", 0.004)
    metrics.changed("learners", 900)
    metrics.changed("learners", 100)
    metrics.model("risk", 7)
    metrics.challenger("risk", 8)
    metrics.swapped("risk")
    metrics.refused("risk")
    metrics.failed("redis")
    metrics.aborted()
    metrics.aborted()
    value = metrics.registry.get_sample_value
    assert value("stream_events_total", {"type": "quiz_complete", "outcome": "applied"}) == 7
    assert value("stream_events_total", {"type": "quiz_complete", "outcome": "repeated"}) == 3
    assert value("stream_predictions_total", {"kind": "time"}) == 7
    assert value("stream_dead_letters_total", {"reason": "not_json"}) == 1
    assert value("stream_fallbacks_total") == 4
    said = {name: value("stream_risk_predictions_total", {"category": name}) for name in ("Low", "High", "Critical")}
    assert said == {"Low": 2, "High": 1, "Critical": 1}
    assert value("stream_risk_fallbacks_total") == 2
    assert value("stream_week_closings_total") == 1
    assert value("stream_closing_users") == 300
    assert value("stream_latency_seconds_count") == 2
    assert value("stream_latency_seconds_sum") == pytest.approx(0.304)
    assert value("stream_latency_seconds_bucket", {"le": "0.005"}) == 1
    assert value("stream_batch_events_sum") == 500
    assert value("stream_batch_seconds_count") == 1
    assert value("stream_stage_seconds_sum", {"stage": "decode"}) == 0.004
    assert value("stream_changelog_bytes_total", {"table": "learners"}) == 1_000
    assert value("stream_model_version", {"name": "risk"}) == 7
    assert value("stream_challenger_version", {"name": "risk"}) == 8
    assert value("stream_model_swaps_total", {"name": "risk"}) == 1
    assert value("stream_models_refused_total", {"name": "risk"}) == 1
    assert value("stream_failures_total", {"part": "redis"}) == 1
    assert value("stream_aborted_transactions_total") == 2


def test_the_workers_alarms_begin_at_0() -> None:
    """What may be alerted on is there before it counts: from nothing to 1 is no rise to Prometheus."""
    value = Metrics(100).registry.get_sample_value
    for part in ("control", "challenger", "closing", "redis", "redis_pending", "redis_refused", "store"):
        assert value("stream_failures_total", {"part": part}) == 0
    for reason in ("not_json", "bad_value", "wrong_partition", "from_the_future", "processing_failed"):
        assert value("stream_dead_letters_total", {"reason": reason}) == 0
    for type_, outcome in (
        ("quiz_complete", "applied"), ("grade_recorded", "repeated"), ("erasure", "applied"), ("risk_labelled", "dead"),
        ("prediction-requests", "dead"), ("tombstone", "ignored"),
    ):  # fmt: skip
        assert value("stream_events_total", {"type": type_, "outcome": outcome}) == 0
    for stage in STAGES:
        assert value("stream_stage_seconds_count", {"stage": stage}) == 0


class Table:
    """A table of three users."""

    size_bytes = 7_000

    def __len__(self) -> int:
        """Return how many there are."""
        return 3


def test_state_and_progress_are_looked_up_when_somebody_scrapes() -> None:
    """Users, bytes, lag and commit age are what they are at that moment; what is no longer ours has no sample."""
    now = [100.0]
    metrics = Metrics(100, Health(60, lambda: now[0]))
    value = metrics.registry.get_sample_value
    assert value("stream_state_users", {"table": "learners"}) is None
    metrics.keeps({"learners": Table()})
    assert value("stream_state_users", {"table": "learners"}) == 3
    assert value("stream_state_bytes", {"table": "learners"}) == 7_000
    waiting = Standing(end=20, next=12, committed=5)
    for place in (("interactions", 3), ("interactions", 4), ("academics", 3)):
        metrics.health.beat("worker", {place: waiting})
    metrics.health.beat("worker", {("interactions", 3): waiting, ("academics", 3): Standing(7, 7, 7)})
    now[0] += 30
    assert value("stream_partitions") == 1
    for topic, lag, age in (("interactions", 8, 30), ("academics", 0, 0)):
        labels = {"topic": topic, "partition": "3"}
        assert (value("stream_lag_records", labels), value("stream_commit_age_seconds", labels)) == (lag, age)
    assert value("stream_lag_records", {"topic": "interactions", "partition": "4"}) is None
    assert (value("stream_ready"), value("stream_stalled")) == (1, 0)
    now[0] += 31
    metrics.health.lacks("control", "unread")
    assert (value("stream_ready"), value("stream_stalled")) == (0, 1)


def test_what_runs_is_told() -> None:
    """Worker and trainer name the versions of the program, of Python and of onnxruntime."""
    for registry in (Metrics(10).registry, TrainerMetrics().registry):
        (info,) = (metric for metric in registry.collect() if metric.name == "stream_build")
        (sample,) = info.samples
        assert sample.labels.keys() == {"version", "python", "onnxruntime"}
        assert all(sample.labels.values())


def test_many_values_at_once_are_counted_as_one_by_one() -> None:
    """The histogram that takes arrays says what prometheus-client's own says; its ends belong to their buckets."""
    sheet = Sheet()
    ends = (0.1, 0.5, 2.0)
    at_once, one_by_one = sheet.spread("many", "Many.", ends), sheet.histogram("one", "One.", ends)
    for values in ([0.1, 0.05, 3.0], [], [0.5, 0.500001, 2.0, -1.0]):
        at_once.add(np.array(values, np.float64))
        for each in values:
            one_by_one.observe(each)
    value = sheet.registry.get_sample_value
    for end in ("0.1", "0.5", "2.0", "+Inf"):
        assert value("many_bucket", {"le": end}) == value("one_bucket", {"le": end}), end
    assert value("many_count") == value("one_count") == 7
    assert value("many_sum") == pytest.approx(value("one_sum"))


def test_recovery_is_seen_while_it_runs_and_afterwards() -> None:
    """What is left goes down to nothing; records read are counted over all recoveries, the time is the latest's."""
    metrics = Metrics(100)
    value = metrics.registry.get_sample_value
    metrics.recovering(0, 1_000)
    assert value("stream_recovery_left_records") == 1_000
    metrics.recovering(600, 400)
    assert value("stream_recovery_left_records") == 400
    assert value("stream_ready") == 0
    assert metrics.health.lacking() == "state is recovering: about 400 changelog records are left"
    assert value("stream_recovery_records_total") == 0
    metrics.recovered(1_000, 2.5)
    assert value("stream_ready") == 1
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
    monkeypatch.setattr(bar, "_AFTER_S", 0.0)
    screen = io.StringIO()
    drawn = bar.Bar()
    drawn._console = Console(file=screen, force_terminal=True, width=80)
    drawn.show(0, 1_000)
    drawn.show(250, 750)
    assert drawn._progress is not None
    assert [(task.completed, task.total) for task in drawn._progress.tasks] == [(250, 1_000)]
    shown = drawn._progress
    drawn.end()
    assert shown.finished is False
    assert shown.live.is_started is False
    assert "state from the changelogs" in screen.getvalue()
    drawn.end()


def test_recovery_without_a_terminal_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file gets no bar, and a moment's recovery none anywhere."""
    monkeypatch.setattr(bar, "_AFTER_S", 3600.0)  # whatever a moment takes on this machine
    screen = io.StringIO()
    drawn = bar.Bar()
    drawn._console = Console(file=screen, force_terminal=True, width=80)
    drawn.show(0, 1_000)
    drawn.show(999, 1)
    monkeypatch.setattr(bar, "_AFTER_S", 0.0)
    drawn._console = Console(file=screen, force_terminal=False, width=80)
    drawn.show(0, 1_000)
    drawn.show(999, 1)
    drawn.end()
    assert screen.getvalue() == ""


def observed(count: int, **columns: object) -> Observed:
    """Return answers of which all that is not given is 0, and of which no challenger said anything."""
    rows = np.zeros(count, OBSERVED)
    rows["challenger_p"] = np.nan
    for name, values in columns.items():
        rows[name] = values
    return rows


def test_live_quality_goes_over_the_latest_answers() -> None:
    """Of what serves, of the fallback and of the challenger, over a window that moves on, and each by its version."""
    random = np.random.default_rng(1)
    answers = observed(250, correct=random.random(250) < 0.6, seconds=random.exponential(20, 250))
    for voice in ("serving", "fallback", "challenger"):
        answers[f"{voice}_p"], answers[f"{voice}_median_s"] = random.random(250), random.exponential(20, 250)
    answers["challenger_p"][:200] = np.nan  # its trial began late
    answers["serving_version"] = np.where(np.arange(250) < 180, 3, 4)
    answers["challenger_version"] = 5
    answers["seconds"][::7] = np.nan
    metrics = Metrics(100)
    for start in range(0, 250, 30):
        metrics.observed(answers[start : start + 30])
    for model, version, first, end in (
        ("serving", 3, 150, 180), ("serving", 4, 180, 250), ("fallback", 0, 150, 250), ("challenger", 5, 200, 250),
    ):  # fmt: skip
        said = answers[first:end]
        p, labels = said[f"{model}_p"], {"model": model, "version": str(version)}
        late = np.abs(said["seconds"] - said[f"{model}_median_s"])
        for name, expected in (
            ("auc_ratio", auc(said["correct"], p)),
            ("logloss_nats", log_losses(said["correct"], p).mean()),
            ("ece_ratio", calibration_error(said["correct"], p)),
            ("time_error_seconds", late[~np.isnan(said["seconds"])].mean()),
        ):
            value = metrics.registry.get_sample_value(f"stream_live_{name}", labels)
            assert value == pytest.approx(expected, rel=1e-5), (name, labels)
    shown = {tuple(s.labels.values()) for m in metrics.registry.collect() for s in m.samples if "stream_live" in s.name}
    assert shown == {("serving", "3"), ("serving", "4"), ("fallback", "0"), ("challenger", "5")}


def test_more_answers_than_the_window_at_once() -> None:
    """Of a batch larger than the window its end counts."""
    quality = LiveQuality(10)
    correct = np.arange(25) % 2 == 0
    p = np.linspace(0.1, 0.9, 25).astype(np.float32)
    quality.add(observed(25, correct=correct, serving_p=p, fallback_p=p))
    (serving, _) = quality.figures()
    assert serving[2].logloss == pytest.approx(log_losses(correct[15:], p[15:]).mean(), rel=1e-5)


def test_what_cannot_be_told_has_no_sample() -> None:
    """Nothing measured is nothing shown, never 0; with right answers of unknown length only log loss and ECE are."""
    metrics = Metrics(10)
    names = [f"stream_live_{name}" for name in ("auc_ratio", "logloss_nats", "ece_ratio", "time_error_seconds")]
    labels = {"model": "fallback", "version": "0"}
    assert [metrics.registry.get_sample_value(name, labels) for name in names] == [None] * 4
    metrics.observed(observed(1, correct=True, seconds=np.nan, serving_p=0.5, fallback_p=0.5))
    found = [metrics.registry.get_sample_value(name, labels) for name in names]
    assert found == [None, pytest.approx(math.log(2)), pytest.approx(0.5), None]


def test_names_follow_the_convention() -> None:
    """Every metric begins with `stream_` and tells of no single user."""
    for registry in (Metrics(10).registry, TrainerMetrics().registry):
        for metric in registry.collect():
            assert metric.name.startswith("stream_")
            assert metric.documentation
            assert all("user" not in sample.labels for sample in metric.samples)


def test_every_type_and_topic_that_may_be_counted_begins_at_0() -> None:
    """A new type of event, or a topic that is read, gets its series by itself."""
    (events,) = (metric for metric in Metrics(10).registry.collect() if metric.name == "stream_events")
    shown = {(sample.labels["type"], sample.labels["outcome"]) for sample in events.samples}
    assert {("answer_correction", "applied"), ("enrolment_recorded", "applied"), ("work_overdue", "dead")} <= shown
    assert {type_ for type_, outcome in shown if type_ in TOPICS} == {
        "interactions", "academics", "prediction-requests", "erasures",
    }  # fmt: skip


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
    for outcome in ("frozen", "failed", "refused"):
        assert value("stream_trainer_updates_total", {"name": "risk", "outcome": outcome}) == 0.0
    for outcome in ("promoted", "kept_out"):
        assert value("stream_trainer_gate_decisions_total", {"name": "risk", "outcome": outcome}) == 0.0
    assert value("stream_trainer_rollbacks_total", {"name": "risk"}) == 0.0


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Give a port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_the_users_to_mend(taken_port: int) -> None:
    """The sentence names the port and the setting."""
    with pytest.raises(UserError, match=rf"port {taken_port} .*STREAM_WORKER_METRICS_PORT"):
        serve(CollectorRegistry(), Health(), "127.0.0.1", taken_port, "STREAM_WORKER_METRICS_PORT")


def test_a_host_that_is_none_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody knows is no stack trace."""

    def refused(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", refused)  # some resolvers know every name, some say nothing
    with pytest.raises(UserError, match=r"on no\.such\.host\.invalid cannot be used \(no such name\)"):
        serve(CollectorRegistry(), Health(), "no.such.host.invalid", 1, "STREAM_WORKER_METRICS_PORT")


def test_port_0_serves_nothing() -> None:
    """Metrics can be turned off."""
    assert serve(CollectorRegistry(), Health(), "127.0.0.1", 0, "STREAM_WORKER_METRICS_PORT") is None


@pytest.fixture
def now() -> list[float]:
    """Return the clock that the server's health goes by."""
    return [0.0]


@pytest.fixture
def served(now: list[float]) -> Iterator[tuple[Metrics, str]]:
    """Give metrics, and where they are served."""
    (port,) = free_ports(1)
    metrics = Metrics(10, Health(60, lambda: now[0]))
    server = serve(metrics.registry, metrics.health, "127.0.0.1", port, "X")
    assert server is not None
    yield metrics, f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def asked(url: str, method: str = "GET") -> tuple[int, str, str]:
    """Return the status, the type and the text of an answer."""
    request = urllib.request.Request(url, method=method)  # noqa: S310 (our own server)
    try:
        with urllib.request.urlopen(request, timeout=60) as page:  # noqa: S310
            return page.status, page.headers["Content-Type"], page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


TEXT = "text/plain; charset=utf-8"


def test_metrics_are_served(served: tuple[Metrics, str]) -> None:
    """`/metrics` is there over HTTP, and says nothing of when counters were made."""
    metrics, url = served
    metrics.model("knowledge", 3)
    status, _, page = asked(f"{url}/metrics")
    assert status == 200
    assert 'stream_model_version{name="knowledge"} 3.0' in page
    assert "_created" not in page


def test_health_is_served(served: tuple[Metrics, str], now: list[float]) -> None:
    """200 in one word, or 503 with the sentence that says what is wrong."""
    metrics, url = served
    assert asked(f"{url}/healthz") == (200, TEXT, "ok\n")
    assert asked(f"{url}/readyz") == (200, TEXT, "ready\n")
    metrics.health.lacks("control", "the control topics are unread")
    assert asked(f"{url}/healthz") == (200, TEXT, "ok\n")
    assert asked(f"{url}/readyz") == (503, TEXT, "the control topics are unread\n")
    metrics.health.recovering(5, 10)
    now[0] += 61
    assert asked(f"{url}/healthz") == (503, TEXT, "no state has been recovered for 61 s, with about 10 records left\n")


def test_other_paths_are_told_what_there_is(served: tuple[Metrics, str]) -> None:
    """404 names the three; nothing can be sent there."""
    _, url = served
    assert asked(f"{url}/") == (404, TEXT, "expected /metrics, /healthz or /readyz\n")
    assert asked(f"{url}/healthz", "POST") == (405, TEXT, "expected GET\n")


def test_silence_takes_everything() -> None:
    """Who counts nothing takes the same as who does."""
    silent: Telemetry = Silent()
    none = np.zeros(0, np.float32)
    silent.read("x", "applied", 1)
    silent.predicted("x", 1)
    silent.staged("x", 1.0)
    silent.changed("x", 1)
    silent.dead("x")
    silent.fell_back(1)
    silent.risks(none)
    silent.risk_fell_back(1)
    silent.week_closed()
    silent.closing(1)
    silent.latency(none.astype(np.float64))
    silent.batch(1, 1.0)
    silent.observed(observed(0))
    silent.model("x", 1)
    silent.challenger("x", 1)
    silent.swapped("x")
    silent.refused("x")
    silent.failed("x")
    silent.aborted()
    silent.recovering(1, 1)
    silent.recovered(1, 1.0)
