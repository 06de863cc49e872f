"""Which series the code can give, and which ones a query of Prometheus asks for."""

import re
from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from stream.telemetry import Metrics, TrainerMetrics

_OF_PROMETHEUS = {"up", "ALERTS"}
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",), "gauge": ("",)}
_RECORDED = re.compile(r"\b[a-z_]+:[a-z0-9_]+(?::[a-z0-9_]+)?\b")


def given() -> dict[str, frozenset[str]]:
    """Return the names of all series that worker and trainer can give, and their labels but for `le`."""
    found: dict[str, frozenset[str]] = {}
    for metrics in (Metrics(quality_window=100), TrainerMetrics()):
        labels = {declared.name: frozenset(declared.labels) for declared in metrics.sheet.declared}
        for name, kind in _families(metrics.registry):
            for ending in _ENDINGS[kind]:
                declared = name + ending if kind in {"counter", "info"} else name
                found[name + ending] = labels[declared] | found.get(name + ending, frozenset())
    return found


def _families(registry: CollectorRegistry) -> Iterable[tuple[str, str]]:
    return [(family.name, family.type) for family in registry.collect()]


def asked(expr: str) -> set[str]:
    """Return the names of the series that an expression asks for, without what rules have recorded."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    return set(re.findall(r"\b(?:stream_\w+|up|ALERTS)\b", _RECORDED.sub("", bare))) - _OF_PROMETHEUS


def recorded(expr: str) -> set[str]:
    """Return the names of the recorded series that an expression asks for."""
    return set(_RECORDED.findall(re.sub(r'"[^"]*"', '""', expr)))


def matched(expr: str) -> list[tuple[str, set[str]]]:
    """Return each series that an expression selects by labels, with the names of those labels."""
    selected = re.findall(r"\b(stream_\w+)\{([^}]*)\}", expr)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))) for name, inside in selected]
