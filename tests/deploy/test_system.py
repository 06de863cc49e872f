"""The system that docker-compose.yml describes, each command of it as a process on the real broker and Redis."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.broker.kafka import KafkaServer
from tests.broker.redis_server import RedisServer
from tests.deploy.compose import ROOT, services
from tests.deploy.system import Composed
from tests.flow.system import await_effect

PREDICTED = 50
MOST_MEMORY = 0.6
"""Share of its limit that a service may take up when it has just begun: state and buffers grow."""


@pytest.fixture
def composed(kafka: KafkaServer, redis_server: RedisServer, prefix: str, tmp_path: Path) -> Iterator[Composed]:
    """Give the services, none of which runs yet."""
    # A run in the background ignores Ctrl-C, and so would all that it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    system = Composed(tmp_path, prefix, kafka.bootstrap, redis_server.url)
    yield system
    system.end()
    signal.signal(signal.SIGINT, before)


def shown() -> list[tuple[str, str]]:
    """Return the queries of the dashboard's first four rows, by panel, which have data as soon as answers come."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "learnerstream.json").read_text("utf-8"))
    headings = [place for place, panel in enumerate(dashboard["panels"]) if panel["type"] == "row"]
    values = {"$__rate_interval": "30s", "$instance": ".*", "$model": "knowledge"}
    found = []
    for panel in dashboard["panels"][: headings[4]]:
        for target in panel.get("targets", []):
            expr = target["expr"]
            for name, value in values.items():
                expr = expr.replace(name, value)
            found.append((panel["title"], expr))
    return found


def assert_becomes(look: Callable[[], Any], expected: object) -> None:
    """Wait until a look finds what is expected: a scrape that comes late has others after it."""
    with suppress(AssertionError):  # what it found instead is told below
        await_effect(lambda: bool(look() == expected))
    assert look() == expected


@pytest.mark.timeout(480)
def test_the_system_of_compose(composed: Composed) -> None:
    """
    Each service becomes healthy by its own check; Prometheus sees all of them, nothing alarms it; each ends in order.

    Answers of the simulator become predictions, the dashboard has something to show, the page has what it needs, and
    nothing is written but into volumes.
    """
    composed.up()

    predicted = 'sum(stream_predictions_total{kind="correctness"})'
    await_effect(lambda: [value for _, value in composed.series(predicted) if value > PREDICTED] != [])
    up = [("prometheus", 1.0), ("stream-trainer", 1.0), ("stream-worker", 1.0), ("stream-worker", 1.0)]
    assert_becomes(lambda: sorted((labels["job"], value) for labels, value in composed.series("up")), up)
    assert_becomes(lambda: {value for _, value in composed.series("stream_ready")}, {1.0})
    assert_becomes(lambda: [value for _, value in composed.series("stream_partitions")], [8.0, 8.0])
    assert_becomes(
        lambda: {rule["health"] for group in composed.ask("rules")["groups"] for rule in group["rules"]}, {"ok"}
    )
    assert composed.series('ALERTS{alertstate="firing"}') == []
    assert_becomes(lambda: [title for title, expr in shown() if title != "Alerts" and not composed.series(expr)], [])

    with composed.get("page", "/") as page, composed.get("page", "/snapshots") as snapshots:
        assert b"<title>" in page.read()
        said = (json.loads(line.removeprefix(b"data: ")) for line in snapshots if line.startswith(b"data: "))
        # It goes behind all else on the machine, and may have read nothing when it is asked first.
        assert any(snapshot["totals"]["answers"] > 0 for snapshot in said)

    took = {name: composed.memory_bytes(name) / services()[name].memory_bytes for name in composed.processes}
    assert {name: share for name, share in took.items() if share > MOST_MEMORY} == {}

    status = {
        name: composed.stop(name) for name in ("simulator", "page", "trainer", "worker-1", "worker-2", "prometheus")
    }
    assert status == dict.fromkeys(status, 0)
    assert status.keys() | {"topics"} == {
        name for name, service in services().items() if service.is_ours or name == "prometheus"
    }
    home = composed.folder / "home"
    assert {path.name for path in home.iterdir()} == {"models", "trainer"}
    assert not list((composed.folder / "site").rglob("*.pyc"))
