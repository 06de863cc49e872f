"""What every process of ours tells of itself: what it is, whether it is healthy, how far behind it is."""

import platform
from importlib.metadata import version

from stream.health import Health
from stream.telemetry.sheet import Sheet


def declare_process(sheet: Sheet, health: Health) -> None:
    """Declare what a process is and how it is."""
    sheet.info(
        "stream_build_info",
        "What runs: the versions of this program, Python and onnxruntime; the value is always 1.",
        {
            "version": version("learnerstream"),
            "python": platform.python_version(),
            "onnxruntime": version("onnxruntime"),
        },
    )
    sheet.read(
        {
            "stream_ready": "1 when /readyz says so: state is recovered, the control topics are read, what is "
            "announced is loaded.",
            "stream_stalled": "1 when /healthz says that the process lives and does nothing; alert.",
        },
        (),
        lambda: [((), (float(health.lacking() is None), float(health.stalled() is not None)))],
    )


def declare_progress(sheet: Sheet, health: Health, prefix: str) -> None:
    """Declare how far behind a process is; a partition that goes to another process takes its samples along."""
    sheet.read(
        {
            f"{prefix}_lag_records": "Records of a partition of ours that have yet to be processed; topic is the "
            "catalog's name, or a source's own.",
            f"{prefix}_commit_age_seconds": "How long what is committed of a partition of ours has not moved, while "
            "there was something to commit; 0 when all is; alert when it stays above a minute.",
        },
        ("topic", "partition"),
        lambda: [((topic, str(partition)), (lag, age)) for (topic, partition), lag, age in health.behind()],
    )
