"""
The Grafana dashboard, written from here: `python deploy/grafana/dashboard.py`; `--check` only says whether it differs.

Rows of panels are laid out from left to right. Every panel says in its description what to make of it. In queries,
`@worker` and `@trainer` stand for the jobs of `deploy/prometheus/prometheus.yml`, `@rate` for a range that fits the
zoom; the variables `$instance` and `$model` narrow what is shown.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent / "dashboards" / "learnerstream.json"

_SCHEMA = 39
"""Version of the classic dashboard model; every later Grafana reads it."""
_COLUMNS = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_STANDS_FOR = {
    "@worker": 'job="stream-worker", instance=~"$instance"',
    "@trainer": 'job="stream-trainer"',
    "@rate": "$__rate_interval",
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Panel:
    """
    One panel.

    Attributes:
        title: What it shows.
        about: What to make of it.
        queries: PromQL by the legend of its series, which names labels in double braces.
        unit: Of Grafana's units.
        kind: `timeseries`, `stat` (one number as of now), `heatmap` (of a histogram's buckets) or `table` (as of now).
        width: Columns, of 24.
        height: Grid lines.
        is_stacked: Whether series lie on each other.
        is_stepped: Whether a value holds until the next.
        decimals: After the point; as many as it takes if None.
        red_from: From which value on a stat is red, green below; None: neither.
        red_below: The other way round.
    """

    title: str
    about: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    is_stacked: bool = False
    is_stepped: bool = False
    decimals: int | None = None
    red_from: float | None = None
    red_below: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


_Stat = partial(Panel, kind="stat", width=3, height=4)


def _rate(metric: str, by: str, labels: str = "@worker") -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[@rate]))"


def _hourly(metric: str, by: str, labels: str) -> str:
    return f"sum by ({by}) (increase({metric}{{{labels}}}[1h]))"


def _quantiles(metric: str, *shares: int, by: str = "", labels: str = "@worker") -> dict[str, str]:
    """Return percentiles of a histogram, by their legends."""
    buckets = _rate(f"{metric}_bucket", f"le, {by}" if by else "le", labels)
    legend = f"{{{{{by}}}}} " if by else ""
    return {f"{legend}p{share}": f"histogram_quantile({share / 100}, {buckets})" for share in shares}


def _live(metric: str) -> dict[str, str]:
    """Return a figure of live quality: of what serves, by version, and of the others on the same answers."""
    return {
        "version {{version}}": f'avg by (version) ({metric}{{@worker, model="serving"}})',
        "fallback": f'avg({metric}{{@worker, model="fallback"}})',
        "challenger {{version}}": f'avg by (version) ({metric}{{@worker, model="challenger"}})',
    }


_OVERVIEW = Row(
    "Overview",
    (
        _Stat(
            "Workers ready",
            "Recovered, control topics read, the announced model loaded.",
            {"": 'sum(stream_ready{job="stream-worker"})'},
            red_below=1,
        ),
        _Stat(
            "Stalled",
            "Processes that live and do nothing: their /healthz fails.",
            {"": "sum(stream_stalled)"},
            red_from=1,
        ),
        _Stat("Events/s", "Read by all workers.", {"": "sum(rate(stream_events_total{@worker}[@rate]))"}, decimals=1),
        _Stat(
            "Waiting events",
            "Between what is next to be processed and the ends of the topics.",
            {"": "sum(stream_lag_records{@worker})"},
            red_from=1_000,
        ),
        _Stat(
            "Latency, p99",
            "From an event's Kafka timestamp to its confirmed predictions.",
            {"": _quantiles("stream_latency_seconds", 99)["p99"]},
            "s",
            red_from=2,
        ),
        _Stat(
            "Dead letters, last hour",
            "Events that count for nobody; the topic dead-letters says why.",
            {"": "sum(increase(stream_dead_letters_total[1h]))"},
            decimals=0,
            red_from=1,
        ),
        _Stat(
            "Serving",
            "Version that serves in most workers; 0 is the fallback.",
            {"": 'quantile(0.5, stream_model_version{job="stream-worker", name="$model"})'},
            decimals=0,
        ),
        _Stat(
            "Alerts firing",
            "Of deploy/prometheus/rules.yml; docs/runbook.md explains each.",
            {"": 'count(ALERTS{alertname=~"Stream.*", alertstate="firing"}) or vector(0)'},
            red_from=1,
        ),
        Panel(
            "Events by what became of them",
            "Applied, repeated (known by offset or id), ignored, dead.",
            {"{{outcome}}": _rate("stream_events_total", "outcome")},
            "eps",
            is_stacked=True,
        ),
        Panel(
            "Latency",
            "From an event's Kafka timestamp to its confirmed predictions; high while a backlog is worked off.",
            _quantiles("stream_latency_seconds", 50, 90, 99),
            "s",
        ),
        Panel(
            "Alerts",
            "What fires or is about to; docs/runbook.md has a paragraph for each.",
            {"": 'ALERTS{alertname=~"Stream.*"}'},
            kind="table",
        ),
    ),
)

_THROUGHPUT = Row(
    "Throughput and progress",
    (
        Panel(
            "Events by type",
            "What learners do.",
            {"{{type}}": _rate("stream_events_total", "type")},
            "eps",
            is_stacked=True,
        ),
        Panel(
            "Predictions by kind",
            "Confirmed by the broker.",
            {"{{kind}}": _rate("stream_predictions_total", "kind")},
            "eps",
            is_stacked=True,
        ),
        Panel(
            "Events by worker",
            "Even, where partitions and users are.",
            {"{{instance}}": _rate("stream_events_total", "instance")},
            "eps",
            is_stacked=True,
        ),
        Panel(
            "Waiting events by topic",
            "A backlog that shrinks is worked off; one that grows is StreamLagGrowing.",
            {"{{topic}}": "sum by (topic) (stream_lag_records{@worker})"},
        ),
        Panel(
            "Age of what is committed",
            "For how long nothing was committed though there was something to; 0 is right.",
            {"{{instance}} {{topic}}": "max by (instance, topic) (stream_commit_age_seconds{@worker})"},
            "s",
        ),
        Panel(
            "Latency, all of it",
            "Each column a moment: where most events are, and how far the slow ones.",
            {"{{le}}": "sum by (le) (increase(stream_latency_seconds_bucket{@worker}[@rate]))"},
            "s",
            kind="heatmap",
        ),
    ),
)

_STAGES = Row(
    "Batches and stages",
    (
        Panel(
            "Where the time goes",
            "Seconds that all workers spend on each stage, in a second. Stages of different batches overlap.",
            {"{{stage}}": _rate("stream_stage_seconds_sum", "stage")},
            "s",
            is_stacked=True,
        ),
        Panel(
            "Stages of the slowest batches",
            "One batch in a hundred takes as long.",
            _quantiles("stream_stage_seconds", 99, by="stage"),
            "s",
        ),
        Panel(
            "Batches",
            "From a batch's arrival until it was on its way.",
            _quantiles("stream_batch_seconds", 50, 99),
            "s",
        ),
        Panel(
            "Events in a batch",
            "Full batches (STREAM_BATCH_MAX) mean a backlog.",
            _quantiles("stream_batch_events", 50, 99),
        ),
    ),
)

_STATE = Row(
    "State and recovery",
    (
        Panel(
            "Users in state",
            "By table, of all workers.",
            {"{{table}}": "sum by (table) (stream_state_users{@worker})"},
        ),
        Panel(
            "Bytes of state",
            "By table, of all workers.",
            {"{{table}}": "sum by (table) (stream_state_bytes{@worker})"},
            "bytes",
        ),
        Panel(
            "Bytes of a user",
            "The mean; at most 4 KiB in all tables by design.",
            {
                "{{table}}": "sum by (table) (stream_state_bytes{@worker})"
                " / sum by (table) (stream_state_users{@worker})"
            },
            "bytes",
        ),
        Panel(
            "Changelogs written",
            "What a recovery has to read, until it is compacted.",
            {"{{table}}": _rate("stream_changelog_bytes_total", "table")},
            "Bps",
        ),
        Panel(
            "Recovery: records left",
            "0 but after a start or a rebalance.",
            {"{{instance}}": "stream_recovery_left_records{@worker}"},
        ),
        Panel(
            "Latest recovery",
            "How long it took.",
            {"{{instance}}": "stream_recovery_seconds{@worker}"},
            "s",
            is_stepped=True,
        ),
        Panel(
            "Partitions by worker",
            "Of interactions; a worker without any has nothing to do.",
            {"{{instance}}": "stream_partitions{@worker}"},
            is_stacked=True,
            is_stepped=True,
        ),
    ),
)

_QUALITY = Row(
    "Models and live quality",
    (
        Panel(
            "AUC of answers",
            "Over the latest answers, mean of the workers. Higher is better.",
            _live("stream_live_auc_ratio"),
            "none",
            decimals=3,
        ),
        Panel(
            "Log loss of answers",
            "In nats. Lower is better; above the fallback's for long is StreamWorseThanFallback.",
            _live("stream_live_logloss_nats"),
            "none",
            decimals=3,
        ),
        Panel(
            "Calibration error of answers",
            "How far what is said is from how often it is so. Lower is better.",
            _live("stream_live_ece_ratio"),
            "none",
            decimals=3,
        ),
        Panel(
            "Error of expected times",
            "The mean, of the median that was said. Lower is better.",
            _live("stream_live_time_error_seconds"),
            "s",
        ),
        Panel(
            "Versions that serve",
            "By worker; they follow an announcement within a second or so. 0 is the fallback.",
            {"{{instance}}": 'stream_model_version{@worker, name="$model"}'},
            is_stepped=True,
            decimals=0,
        ),
        Panel(
            "Log loss, as the trainer sees it",
            "Of the chosen model, over all workers: what served, and the fallback on the same.",
            {"{{slice}}": 'stream_trainer_live_logloss_nats{@trainer, name="$model", slice=~"all|fallback"}'},
            "none",
            decimals=3,
        ),
    ),
)

_GATE = Row(
    "Gate and swaps",
    (
        Panel(
            "The trial: gain and what is needed",
            "In nats of log loss. Promoted when the gain is above what is needed, and margins are kept.",
            {
                "gain": 'stream_trainer_trial_gain_nats{@trainer, name="$model"}',
                "needed": 'stream_trainer_trial_needed_nats{@trainer, name="$model"}',
            },
            "none",
            decimals=3,
        ),
        Panel(
            "The trial: judged by",
            "Answers, or weeks of users, on which both were compared.",
            {"answers": 'stream_trainer_trial_answers{@trainer, name="$model"}'},
        ),
        Panel(
            "Versions",
            "As announced: what serves, what is on trial, what a rollback goes back to.",
            {
                "champion": 'stream_trainer_champion_version{@trainer, name="$model"}',
                "challenger": 'stream_trainer_challenger_version{@trainer, name="$model"}',
                "previous": 'stream_trainer_previous_version{@trainer, name="$model"}',
            },
            is_stepped=True,
            decimals=0,
        ),
        Panel(
            "Gate decisions",
            "Within an hour.",
            {"{{outcome}}": _hourly("stream_trainer_gate_decisions_total", "outcome", '@trainer, name="$model"')},
            decimals=0,
        ),
        Panel(
            "Log loss at the latest gate",
            "Of candidate, champion and fallback on the same answers.",
            {"{{model}}": 'stream_trainer_gate_logloss_nats{@trainer, name="$model"}'},
            "none",
            decimals=3,
        ),
        Panel(
            "AUC at the latest gate",
            "Of candidate, champion and fallback on the same answers.",
            {"{{model}}": 'stream_trainer_gate_auc_ratio{@trainer, name="$model"}'},
            "none",
            decimals=3,
        ),
        Panel(
            "Promotions, rollbacks, swaps",
            "Within an hour. A rollback is StreamRolledBack, a refusal StreamModelRefused.",
            {
                "promotions": 'increase(stream_trainer_promotions_total{@trainer, name="$model"}[1h])',
                "rollbacks": 'increase(stream_trainer_rollbacks_total{@trainer, name="$model"}[1h])',
                "swaps in a worker": 'max(increase(stream_model_swaps_total{@worker, name="$model"}[1h]))',
                "refused by a worker": 'max(increase(stream_models_refused_total{@worker, name="$model"}[1h]))',
            },
            decimals=0,
        ),
    ),
)

_RISK = Row(
    "Risk",
    (
        Panel(
            "Risks by category",
            "Said and confirmed, within an hour.",
            {"{{category}}": _hourly("stream_risk_predictions_total", "category", "@worker")},
            is_stacked=True,
            decimals=0,
        ),
        Panel(
            "Error rates by group",
            "Of the fields in STREAM_RISK_SLICES: said to be at risk and was not, and the other way round. Different "
            "rates are a reason to look, not a verdict.",
            {
                "false alarm {{slice}}": 'stream_trainer_live_false_positive_ratio{@trainer, name="risk"}',
                "missed {{slice}}": 'stream_trainer_live_false_negative_ratio{@trainer, name="risk"}',
            },
            "percentunit",
        ),
        Panel(
            "Said and so",
            "Mean score beside the share that failed or left.",
            {
                "mean score": 'stream_trainer_live_mean_score_ratio{@trainer, name="risk", slice="all"}',
                "failed or left": 'stream_trainer_live_base_ratio{@trainer, name="risk", slice="all"}',
            },
            "percentunit",
        ),
        Panel(
            "Users whose week is to be closed",
            "Back to 0 soon after a week's end; else StreamWeekClosingStuck.",
            {"users": "sum(stream_closing_users{@worker})"},
        ),
        Panel(
            "Weeks closed",
            "Within an hour.",
            {"weeks": "sum(increase(stream_week_closings_total{@worker}[1h]))"},
            decimals=0,
        ),
        Panel(
            "What became known",
            "Weeks that an outcome or an adviser labelled, within an hour.",
            {"weeks": "increase(stream_trainer_risk_labelled_total{@trainer}[1h])"},
            decimals=0,
        ),
    ),
)

_ANSWERS, _RISKS = '@worker, kind="correctness"', '@worker, kind="risk"'

_FAILURES = Row(
    "Failures",
    (
        Panel(
            "Dead letters by reason",
            "Within a quarter of an hour.",
            {"{{reason}}": "sum by (reason) (increase(stream_dead_letters_total[15m]))"},
            is_stacked=True,
            decimals=0,
        ),
        Panel(
            "Share of the fallback",
            "Because the model failed, not because there is none.",
            {
                "answers": _rate("stream_fallbacks_total", "job")
                + " / "
                + _rate("stream_predictions_total", "job", _ANSWERS),
                "risks": _rate("stream_risk_fallbacks_total", "job")
                + " / "
                + _rate("stream_predictions_total", "job", _RISKS),
            },
            "percentunit",
        ),
        Panel(
            "Failures that workers go on after",
            "By part, within a quarter of an hour.",
            {"{{part}}": "sum by (part) (increase(stream_failures_total[15m]))"},
            is_stacked=True,
            decimals=0,
        ),
        Panel(
            "Failures that the trainer goes on after",
            "By part, within a quarter of an hour.",
            {"{{part}}": "sum by (part) (increase(stream_trainer_failures_total{@trainer}[15m]))"},
            is_stacked=True,
            decimals=0,
        ),
        Panel(
            "Aborted transactions",
            "Within a quarter of an hour; some at a rebalance are right.",
            {"{{job}}": "sum by (job) (increase(stream_aborted_transactions_total[15m]))"},
            decimals=0,
        ),
        Panel(
            "Foreign events",
            "Of STREAM_SOURCES, by what became of them.",
            {"{{source}} {{outcome}}": "sum by (source, outcome) (rate(stream_source_events_total[@rate]))"},
            "eps",
            is_stacked=True,
        ),
        Panel(
            "Foreign events of which nothing came",
            "No evidence of learning; the ten most frequent kinds, within an hour.",
            {"{{kind}}": "topk(10, sum by (kind) (increase(stream_source_ignored_total[1h])))"},
            decimals=0,
        ),
    ),
)

_LEARNING = Row(
    "Trainer",
    (
        Panel(
            "Examples read",
            "And corrections of earlier ones.",
            {
                "examples": _rate("stream_trainer_examples_total", "job", "@trainer"),
                "corrections {{outcome}}": _rate("stream_trainer_corrections_total", "outcome", "@trainer"),
            },
            "eps",
        ),
        Panel(
            "Waiting messages by topic",
            "What the trainer has not read yet; growing for long is StreamTrainerLagGrowing.",
            {"{{topic}}": "sum by (topic) (stream_trainer_lag_records{@trainer})"},
        ),
        Panel(
            "Age of what the trainer has committed",
            "For how long nothing was committed though there was something to; 0 is right.",
            {"{{topic}}": "max by (topic) (stream_trainer_commit_age_seconds{@trainer})"},
            "s",
        ),
        Panel(
            "Updates",
            "Within an hour, by how they ended; those that failed or were refused are StreamUpdatesFailing.",
            {"{{name}} {{outcome}}": _hourly("stream_trainer_updates_total", "name, outcome", "@trainer")},
            decimals=0,
        ),
        Panel(
            "How long an update takes",
            "The export too.",
            _quantiles("stream_trainer_update_seconds", 50, 99, by="name", labels="@trainer"),
            "s",
        ),
        Panel(
            "Drift",
            "Within an hour, by kind.",
            {"{{name}} {{kind}}": _hourly("stream_trainer_drifts_total", "name, kind", "@trainer")},
            decimals=0,
        ),
        Panel(
            "What it remembers",
            "Answers and users in the buffer, users of whom weeks are kept.",
            {
                "answers": "stream_trainer_buffered_answers{@trainer}",
                "users": "stream_trainer_buffered_users{@trainer}",
                "users of risk": "stream_trainer_risk_users{@trainer}",
            },
        ),
        Panel(
            "What it keeps on disk",
            "STREAM_BUFFER_BYTES bounds each.",
            {
                "answers": "stream_trainer_buffered_bytes{@trainer}",
                "weeks": "stream_trainer_risk_bytes{@trainer}",
            },
            "bytes",
        ),
        Panel(
            "AUC by slice",
            "Of the chosen model, over the latest that was judged.",
            {"{{slice}}": 'stream_trainer_live_auc_ratio{@trainer, name="$model"}'},
            "none",
            decimals=3,
        ),
    ),
)

ROWS = (_OVERVIEW, _THROUGHPUT, _STAGES, _STATE, _QUALITY, _GATE, _RISK, _FAILURES, _LEARNING)


def dashboard() -> Json:
    """Return the whole dashboard, as Grafana reads it."""
    return {
        "uid": "learnerstream",
        "title": "learnerstream",
        "description": "Workers, trainer, models and their quality. Written by deploy/grafana/dashboard.py.",
        "tags": ["learnerstream"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": [_swaps()]},
        "panels": _laid_out(),
    }


def _variables() -> list[Json]:
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "label": "Worker",
            "type": "query",
            "datasource": _SOURCE,
            "query": 'label_values(stream_ready{job="stream-worker"}, instance)',
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        },
        {
            "name": "model",
            "label": "Model",
            "type": "custom",
            "query": "knowledge,risk",
            "current": {"selected": True, "text": "knowledge", "value": "knowledge"},
            "options": [
                {"selected": name == "knowledge", "text": name, "value": name} for name in ("knowledge", "risk")
            ],
        },
    ]


def _swaps() -> Json:
    """Return the marks at the moments in which a model went live."""
    return {
        "name": "Swaps",
        "enable": True,
        "iconColor": "purple",
        "datasource": _SOURCE,
        "expr": 'max by (name) (changes(stream_trainer_champion_version{job="stream-trainer"}[1m])) > 0',
        "titleFormat": "{{name}}: another version was announced",
    }


def _laid_out() -> list[Json]:
    """Return headings and panels with ids and places."""
    panels: list[Json] = []
    y = 0
    for row in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
            }
        )
        y, x, tallest = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                y, x, tallest = y + tallest, 0, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            panels.append({"id": len(panels) + 1, "gridPos": place} | _panel(panel))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return panels


def _panel(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "custom": _custom(panel)}
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.kind == "stat":
        defaults |= {"thresholds": _thresholds(panel), "color": {"mode": "thresholds"}}
        del defaults["custom"]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": [
            _target(chr(ord("A") + number), legend, expr, panel.kind)
            for number, (legend, expr) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "transformations": [_COLUMNS_OF_ALERTS] if panel.kind == "table" else [],
    }


def _custom(panel: Panel) -> Json:
    if panel.kind != "timeseries":
        return {}
    return {
        "lineWidth": 1,
        "fillOpacity": 30 if panel.is_stacked else 8,
        "showPoints": "never",
        "lineInterpolation": "stepAfter" if panel.is_stepped else "linear",
        "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
    }


def _thresholds(panel: Panel) -> Json:
    steps: list[Json] = [{"value": None, "color": "text"}]
    if panel.red_from is not None:
        steps = [{"value": None, "color": "green"}, {"value": panel.red_from, "color": "red"}]
    if panel.red_below is not None:
        steps = [{"value": None, "color": "red"}, {"value": panel.red_below, "color": "green"}]
    return {"mode": "absolute", "steps": steps}


def _target(name: str, legend: str, expr: str, kind: str) -> Json:
    for token, text in _STANDS_FOR.items():
        expr = expr.replace(token, text)
    is_now = kind in ("stat", "table")
    return {
        "refId": name,
        "editorMode": "code",
        "expr": expr,
        "legendFormat": legend,
        "instant": is_now,
        "range": not is_now,
        "format": {"heatmap": "heatmap", "table": "table"}.get(kind, "time_series"),
    }


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "values": False, "fields": ""},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "value",
            "justifyMode": "center",
            "orientation": "auto",
            "wideLayout": True,
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "yAxis": {"unit": panel.unit},
            "tooltip": {"mode": "single"},
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 32, "reverse": False},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
        }
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


_COLUMNS_OF_ALERTS: Json = {
    "id": "organize",
    "options": {
        "indexByName": {"alertname": 0, "alertstate": 1, "severity": 2, "instance": 3},
        "includeByName": {"alertname": True, "alertstate": True, "severity": True, "instance": True},
        "renameByName": {"alertname": "Alert", "alertstate": "State", "severity": "Severity", "instance": "Where"},
        "excludeByName": {},
    },
}


def _text(whole: Json) -> str:
    """Return it as JSON with one line for each panel, so that a change shows where it is."""
    panels = ",\n    ".join(map(json.dumps, whole["panels"]))
    return json.dumps(whole | {"panels": [_HERE]}, indent=2).replace(f'"{_HERE}"', panels) + "\n"


_HERE = "@panels"


def main(arguments: Sequence[str]) -> int:
    """Write the dashboard, or with `--check` say whether it is as it would be written."""
    text = _text(dashboard())
    if "--check" not in arguments:
        PLACE.write_text(text, encoding="utf-8")
        return 0
    if PLACE.exists() and PLACE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{PLACE.name} is not what dashboard.py says: run `python deploy/grafana/dashboard.py`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
