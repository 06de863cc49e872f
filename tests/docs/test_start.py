"""The walk of a newcomer, as `docs/start.md` has it: every command of it, in its order, on a demo that stays."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.broker.process import free_ports
from tests.docs.blocks import ROOT, blocks_of
from tests.docs.runners import lines_of_shell, not_run

SEEN = {
    "3. Consume a prediction": (
        r'"user_id": "learner-1"',
        r'"p_correct"',
        r'"p50"',
        r"^user learner-1, partition",
        r"100% right",
    ),
    "4. Read a metric": (r'^stream_predictions_total\{kind="correctness"\} [1-9]', r"^ready$"),
    "5. Break something, and find it": (
        r'^stream_dead_letters_total\{reason="wrong_partition"\} [1-9]',
        r"^wrong +producers: interactions",
        r"-> set partitioner=murmur2_random",
        r"^something is wrong$",
    ),
}
"""What the output of a section's blocks, one after the other, must show."""

ENDLESS = "read_predictions.py"
COUNTED_NOTHING = " 0.0\n"
_WAIT_S, _PATIENCE_S = 60.0, 10.0


@dataclass(frozen=True, slots=True)
class Walk:
    """A second terminal beside a demo that runs."""

    folder: Path
    environment: dict[str, str]
    metrics_port: int

    def typed(self, script: str, patient_until: float | None = None) -> str:
        """Return what a block prints; of one that never ends, its first two lines, of a metric when it has counted."""
        patient_until = patient_until or time.monotonic() + _PATIENCE_S
        script = script.replace("127.0.0.1:6066", f"127.0.0.1:{self.metrics_port}")
        with subprocess.Popen(
            ["bash", "-euc", script], cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            if ENDLESS in script:
                said = process.stdout.readline() + process.stdout.readline()
                os.killpg(process.pid, signal.SIGKILL)
                return said
            said, error = process.communicate(timeout=_WAIT_S)
            assert process.returncode == 0, f"{script}\n{said}{error}"
        # Whoever types gives the worker a moment.
        if said.endswith(COUNTED_NOTHING) and time.monotonic() < patient_until:
            return self.typed(script, patient_until)
        return said


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """Start a short demo that stays, and give a terminal with what it said to copy."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (port,) = free_ports(1)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_")}
    with subprocess.Popen(
        [sys.executable, "-m", "stream.cli", "demo", "--headless", "--stay", "--events", "40", "--page-port", "0",
         "--port", str(port)],
        env=bare, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        said = []
        try:
            for line in demo.stdout:
                said.append(line)
                if "export STREAM_BROKER=" in line:
                    break
            assert said, "the demo said nothing"
            assert "export STREAM_BROKER=" in said[-1], "".join(said)
            copied = dict(word.split("=", 1) for word in shlex.split(said[-1].partition("export ")[2]))
            yield Walk(tmp_path, bare | copied, port)
            demo.send_signal(signal.SIGINT)
            rest, _ = demo.communicate(timeout=_WAIT_S)
            assert demo.returncode == 0, "".join(said) + rest
        finally:
            demo.kill()


@pytest.mark.timeout(180)
def test_a_newcomer_gets_to_the_end(walk: Walk) -> None:
    """Own event, prediction, user, metric, a mistake, and the doctor who finds it; Ctrl-C ends it in order."""
    shown: dict[str, str] = {}
    for block in blocks_of(ROOT / "docs" / "start.md"):
        if block.language == "sh" and not all(not_run(line) for line in lines_of_shell(block.text)):
            shown[block.heading] = shown.get(block.heading, "") + walk.typed(block.text)
    for heading, patterns in SEEN.items():
        for pattern in patterns:
            assert re.search(pattern, shown[heading], re.MULTILINE), f"{heading}: {pattern}: {shown[heading]}"
    # The demo's learners live in 2001: an answer of today does not end their weeks.
    assert re.search(r"risk .* as of 200[01]-", walk.typed(".venv/bin/stream inspect learner-0001"))
