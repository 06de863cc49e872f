"""The dashboard: made by its generator, read by Grafana's own model, and asking for nothing that there is not."""

import importlib.util
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from stream.telemetry import Metrics
from tests.deploy.compose import ROOT
from tests.deploy.metrics import asked, given, matched
from tests.deploy.promtool import check
from tests.deploy.test_prometheus import JOBS, OF_TARGETS

GENERATOR: Final = ROOT / "deploy" / "grafana" / "dashboard.py"
PLACE: Final = ROOT / "deploy" / "grafana" / "dashboards" / "learnerstream.json"
_VARIABLES: Final = {"$__rate_interval": "1m", "$instance": ".*", "$model": "knowledge"}

Json = dict[str, Any]


@pytest.fixture(scope="module")
def dashboard() -> Json:
    """Return the dashboard as Grafana is given it."""
    found: Json = json.loads(PLACE.read_text("utf-8"))
    return found


def panels(dashboard: Json) -> list[Json]:
    """Return the panels, without headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: Json) -> list[str]:
    """Return every query: of panels, variables and marks; variables have values."""
    found = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    found += [mark["expr"] for mark in dashboard["annotations"]["list"]]
    for name, value in _VARIABLES.items():
        found = [expr.replace(name, value) for expr in found]
    return found


def test_it_is_what_the_generator_writes() -> None:
    """Whoever changes it changes the generator and runs it."""
    done = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_check_finds_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard that was changed by hand is told, with what to type."""
    generator = _generator()
    changed = tmp_path / "learnerstream.json"
    changed.write_text(PLACE.read_text("utf-8").replace("Latency", "Delay"), "utf-8")
    monkeypatch.setattr(generator, "PLACE", changed)

    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert changed.read_bytes() == PLACE.read_bytes()


def test_grafana_knows_every_field(dashboard: Json) -> None:
    """Read and written by Grafana's published model of a dashboard, nothing is lost: no field is misspelt."""
    plugins.register_default_plugins()
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))

    # What a mark is called is the data source's own, which the model does not list.
    assert list(_lost(dashboard, back)) == ["/annotations/list/0/titleFormat"]


def test_every_query_can_be_read(dashboard: Json, tmp_path: Path) -> None:
    """Prometheus reads each as a rule's expression."""
    recorded = [{"record": f"q{number}", "expr": expr} for number, expr in enumerate(queries(dashboard))]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}), "utf-8")

    check("check", "rules", file)


def test_every_query_asks_for_what_there_is(dashboard: Json) -> None:
    """Each series is one that the code gives, with the labels by which it is selected, drawn and told apart."""
    series = given()
    for expr in queries(dashboard):
        assert asked(expr) <= series.keys()
        for name, labels in matched(expr):
            assert labels <= series[name] | OF_TARGETS | {"le"}
        assert set(re.findall(r'job="([^"]*)"', expr)) <= JOBS


def test_no_variable_is_left(dashboard: Json) -> None:
    """A query uses the variables that there are, and a token of the generator is nobody's."""
    known = {f"${variable['name']}" for variable in dashboard["templating"]["list"]} | {"$__rate_interval"}
    for panel in panels(dashboard):
        for target in panel["targets"]:
            assert set(re.findall(r"\$\w+", target["expr"])) <= known
            assert "@" not in target["expr"]


def test_legends_are_labels_that_are_kept(dashboard: Json) -> None:
    """A label in a legend is one that the query's aggregation leaves."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                by = re.findall(r"by \(([^)]*)\)", target["expr"])
                labels = given()[next(iter(asked(target["expr"])))] | OF_TARGETS | {"le"}
                assert label in (re.split(r",\s*", by[0]) if by else labels)


def test_the_worker_is_shown_whole(dashboard: Json) -> None:
    """Nothing that the worker tells is nowhere to be seen, but for what says what runs."""
    shown = set().union(*map(asked, queries(dashboard)))
    told = {declared.name for declared in Metrics(quality_window=100).sheet.declared}
    unseen = {name for name in told if not any(series.startswith(name) for series in shown)}

    assert unseen == {"stream_build_info", "stream_challenger_version", "stream_recovery_records_total"}


def test_panels_do_not_overlap(dashboard: Json) -> None:
    """Each has a place of its own within the 24 columns, an id, and a title that no other of its kind has."""
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for one, other in itertools.combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
    assert len({panel["title"] for panel in dashboard["panels"]}) == len(places)


def test_every_panel_says_what_to_make_of_it(dashboard: Json) -> None:
    """A description each, a unit each, and the data source that the reader has chosen."""
    for panel in panels(dashboard):
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboard", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dashboard"] = module  # where a dataclass looks its annotations up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["dashboard"]
    return module


def _lost(given: Any, back: Any, at: str = "") -> list[str]:
    """Return the places of what was given and did not come back as it was; what is empty may be left out."""
    if isinstance(given, dict):
        found = []
        for key, value in given.items():
            if isinstance(back, dict) and key in back:
                found += _lost(value, back[key], f"{at}/{key}")
            elif value not in (None, [], {}):
                found.append(f"{at}/{key}")
        return found
    if isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        return [
            place
            for i, (one, other) in enumerate(zip(given, back, strict=True))
            for place in _lost(one, other, f"{at}/{i}")
        ]
    return [] if given == back else [at]
