"""onnxruntime in a process that holds learners' data."""

import os
import subprocess
import sys
from pathlib import Path


def test_onnxruntime_neither_calls_home_nor_leaves_a_file(tmp_path: Path) -> None:
    """Importing the runtime, whatever the caller's environment, leaves no telemetry session behind."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", "import stream.models.runtime, os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"],
        env=environment | {"TMPDIR": str(tmp_path)},
        check=True,
        timeout=60,
    )
    assert list(tmp_path.iterdir()) == []
