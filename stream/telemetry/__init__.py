"""
Every metric, in one place, behind the `Telemetry` protocol: the core never sees prometheus-client.

Names are `stream_<what>_<unit>`, labels are bounded, and nothing tells of a single user. A metric's sentence stands
where it is declared, and nowhere else: `docs/metrics.md` is made from it.
"""

from stream.telemetry.logs import set_up_logging
from stream.telemetry.serving import serve
from stream.telemetry.trainer import ModelMetrics, TrainerMetrics
from stream.telemetry.worker import Metrics, Silent

__all__ = ["Metrics", "ModelMetrics", "Silent", "TrainerMetrics", "serve", "set_up_logging"]
