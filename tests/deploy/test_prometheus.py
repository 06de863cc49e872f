"""Configuration and alerts of Prometheus, by its own tool; and that each alert can be understood."""

import re
from typing import Any

import pytest
import yaml

from tests.deploy.compose import ROOT, services
from tests.deploy.metrics import asked, given, matched, recorded
from tests.deploy.promtool import check

FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "docs" / "runbook.md"
JOBS = {"stream-worker", "stream-trainer", "stream-ingest"}
OF_TARGETS = {"job", "instance"}

Json = dict[str, Any]


def rules(kind: str) -> dict[str, Json]:
    """Return the rules of a kind, `alert` or `record`, by name."""
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text("utf-8"))["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def looks_at(alert: str) -> list[Json]:
    """Return the looks that rules_test.yml takes at an alert."""
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text("utf-8"))["tests"]
    looks = [look for test in tests for look in test["promql_expr_test"]]
    return [look for look in looks if look["expr"] == f'ALERTS{{alertname="{alert}", alertstate="firing"}}']


each_alert = pytest.mark.parametrize("alert", rules("alert").values(), ids=lambda alert: alert["alert"])
each_rule = pytest.mark.parametrize(
    "rule",
    [*rules("record").values(), *rules("alert").values()],
    ids=lambda rule: rule.get("alert", rule.get("record")),
)


def test_prometheus_takes_the_configuration() -> None:
    """Prometheus has nothing against the configuration, nor against the rules that it names."""
    check("check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yml")


def test_alerts_fire_when_they_should() -> None:
    """Every look of rules_test.yml sees what it expects."""
    check("test", "rules", FOLDER / "rules_test.yml")


def test_it_asks_whom_compose_starts() -> None:
    """Each target is a service's port inside of its container, and each service with metrics is a target."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    targets = {job["job_name"]: set(job["static_configs"][0]["targets"]) for job in configuration["scrape_configs"]}
    inside = {name: f"{name}:{port}" for name, service in services().items() for _, _, port in service.ports}

    assert targets["stream-worker"] == {inside["worker-1"], inside["worker-2"]}
    assert targets["stream-trainer"] == {inside["trainer"]}
    assert targets.keys() - {"prometheus"} <= JOBS


@each_alert
def test_an_alert_is_tested_both_ways(alert: Json) -> None:
    """rules_test.yml has seen it fire, and seen it keep quiet before."""
    looks = looks_at(alert["alert"])

    assert any(look["exp_samples"] for look in looks)
    assert any(not look["exp_samples"] for look in looks)


@each_alert
def test_an_alert_says_what_to_do(alert: Json) -> None:
    """It is critical or a warning, says what happened in sentences, and leads to its paragraph of the runbook."""
    said = alert["annotations"]

    assert re.fullmatch(r"Stream[A-Z][A-Za-z]+", alert["alert"])
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert said.keys() == {"summary", "description", "runbook_url"}
    assert said["summary"].endswith((".", "}}."))
    assert said["description"].endswith(".")
    assert said["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


def test_the_runbook_has_a_paragraph_for_each() -> None:
    """One heading an alert, in the rules' order, and no other."""
    found = re.findall(r"^### (\w+)$", RUNBOOK.read_text("utf-8"), flags=re.MULTILINE)

    assert found == list(rules("alert"))


@each_rule
def test_a_rule_asks_for_what_there_is(rule: Json) -> None:
    """Each series of it is one that the code gives, with the labels by which it is selected, or another rule's."""
    series = given()

    assert asked(rule["expr"]) <= series.keys()
    assert recorded(rule["expr"]) <= rules("record").keys()
    for name, labels in matched(rule["expr"]):
        assert labels <= series[name] | OF_TARGETS


@each_rule
def test_a_rule_goes_by_the_jobs_of_the_configuration(rule: Json) -> None:
    """A job that nobody has would never fire."""
    assert set(re.findall(r'job="([^"]*)"', rule["expr"])) <= JOBS


def test_what_is_recorded_is_used() -> None:
    """A rule that records what nobody asks for costs for nothing."""
    used = {name for rule in rules("alert").values() for name in recorded(rule["expr"])}

    assert used == rules("record").keys()
