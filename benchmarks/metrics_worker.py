"""
The worker itself, with all of its metrics, or counting nothing and timing nothing.

Settings come as `STREAM_*` variables, as the worker's do; `BENCHMARK_TELEMETRY=silent` takes the metrics away: counts,
stages, live quality, the bytes of changelogs, and putting down where partitions stand. It leaves what the core computes
for them (`pipeline._observed`, which events came again) and a few readings of the clock a batch.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from stream.agents.stopwatch import Stopwatch
from stream.app import create_app, run_app
from stream.health import Health
from stream.pipeline import Models
from stream.settings import Settings
from stream.telemetry import Metrics, Silent, serve, set_up_logging
from stream.transport.assembly import _Telling
from stream.transport.faust_transport import TransportApp
from stream.transport.settlement import Change

SILENT = "BENCHMARK_TELEMETRY"


class Mute(Silent, Metrics):
    """The worker's metrics, of which every count does nothing."""


def _not_timed(watch: Stopwatch, name: str) -> AbstractContextManager[None]:  # noqa: ARG001 (as the method that it stands for)
    return nullcontext()


def _as_they_are(watch: Stopwatch, models: Models) -> Models:  # noqa: ARG001 (likewise)
    return models


async def _not_beating(app: TransportApp) -> None:
    """Put nothing down."""


def _not_told(telling: _Telling, changes: Sequence[Change]) -> None:
    """Count no bytes."""


def main() -> None:
    """Run until SIGTERM."""
    settings = Settings()
    set_up_logging(settings.log_level)
    kind = Metrics
    if os.environ.get(SILENT) == "silent":
        kind = Mute
        Stopwatch.stage = _not_timed  # type: ignore[assignment, method-assign]
        Stopwatch.timed = _as_they_are  # type: ignore[assignment, method-assign]
        TransportApp._beat = _not_beating  # type: ignore[assignment, method-assign]  # noqa: SLF001 (it has no other name)
        _Telling.changed = _not_told  # type: ignore[assignment, method-assign]
    metrics = kind(settings.quality_window, Health(settings.stalled_after_s))
    port = settings.worker_metrics_port
    serve(metrics.registry, metrics.health, settings.metrics_host, port, "STREAM_WORKER_METRICS_PORT")
    run_app(lambda: create_app(settings, metrics))


if __name__ == "__main__":
    main()
