"""
The report: one JSON file that the benchmarks fill in one after another, and the table that the README shows.

`python -m benchmarks.report FILE` prints the table.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.systems import SYSTEMS


def merge(path: Path, figures: dict[str, Any]) -> None:
    """Put figures into a report; others that stand there stay, and seconds add up."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    seconds = found.get("seconds", 0.0) + figures.get("seconds", 0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found | figures | {"seconds": seconds}, indent=1) + "\n", "utf-8")


def table(figures: dict[str, Any]) -> str:
    """Return a report's figures as Markdown."""
    full, core = figures.get("full", {}), figures.get("core", {})
    lines = ["| events/s | full | core |", "|---|--:|--:|"]
    lines += [
        f"| {system.title} | {_cell(full, system.name)} | {_cell(core, system.name)} |"
        for system in SYSTEMS
        if system.name in full or system.name in core
    ]
    latency = figures.get("latency")
    if latency:
        lines += ["", "| ms at 2,000 events/s, from event to consumed prediction | p50 | p99 |", "|---|--:|--:|"]
        lines += [
            f"| {system.title} | {latency[system.name]['p50_ms']:.1f} | {latency[system.name]['p99_ms']:.1f} |"
            for system in SYSTEMS
            if system.name in latency
        ]
    return "\n".join(lines)


def _cell(rates: dict[str, float], name: str) -> str:
    """Return a rate, and how often it goes into the worker's."""
    if name not in rates:
        return ""
    ours = rates.get("at_least_once")
    ratio = f" ({ours / rates[name]:.2f}x)" if ours and name not in {"at_least_once", "exactly_once"} else ""
    return f"{rates[name]:,.0f}{ratio}"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text("utf-8"))))  # noqa: T201 (what it is for)
