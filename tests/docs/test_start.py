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

ENDLESS = "read_predictions.py"
SEEN = {
    ("3. Consume a prediction", ENDLESS): (r'"user_id": "learner-1"', r'"p_correct"', r'"p50"'),
    ("3. Consume a prediction", "stream inspect"): (r"^user learner-1, partition", r"100% right"),
    ("4. Read a metric", "stream_predictions_total"): (r'^stream_predictions_total\{kind="correctness"\} [1-9]',),
    ("4. Read a metric", "/readyz"): (r"^ready$",),
    ("5. Break something, and find it", "stream_dead_letters_total"): (
        r'^stream_dead_letters_total\{reason="wrong_partition"\} [1-9]',
    ),
    ("5. Break something, and find it", "stream doctor"): (
        r"^wrong +producers: interactions",
        r"-> set partitioner=murmur2_random",
        r"^something is wrong$",
    ),
}
"""What a block must show that only looks, by its section and a part of what is typed."""

_WAIT_S, _PATIENCE_S = 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Walk:
    """A second terminal beside a demo that runs."""

    folder: Path
    environment: dict[str, str]
    metrics_port: int

    def typed(self, script: str) -> None:
        """Type a block, and expect it to succeed."""
        status, said, error = self._run(script)
        assert status == 0, f"{script}\n{said}{error}"

    def looked(self, script: str, patterns: tuple[str, ...]) -> None:
        """Type a block that only looks, and expect it to show these; again and again, as whoever types waits a bit."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            status, said, error = self._run(script)
            missing = [pattern for pattern in patterns if not re.search(pattern, said, re.MULTILINE)]
            if (status == 0 and not missing) or time.monotonic() > end:
                break
            time.sleep(0.5)
        assert (status, missing) == (0, []), f"{script}\n{said}{error}"

    def _run(self, script: str) -> tuple[int, str, str]:
        """Return a block's exit status, output and errors; of one that never ends, its first two lines."""
        script = script.replace("127.0.0.1:6066", f"127.0.0.1:{self.metrics_port}")
        with subprocess.Popen(
            ["bash", "-euc", script], cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            try:
                if ENDLESS in script:
                    return 0, process.stdout.readline() + process.stdout.readline(), ""
                said, error = process.communicate(timeout=_WAIT_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, said, error


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


@pytest.mark.timeout(480)
def test_a_newcomer_gets_to_the_end(walk: Walk) -> None:
    """Own event, prediction, user, metric, a mistake, and the doctor who finds it; Ctrl-C ends it in order."""
    left = dict(SEEN)
    for block in blocks_of(ROOT / "docs" / "start.md"):
        if block.language == "sh" and not all(not_run(line) for line in lines_of_shell(block.text)):
            found = [place for place in left if place[0] == block.heading and place[1] in block.text]
            if found:
                walk.looked(block.text, left.pop(found[0]))
            else:
                walk.typed(block.text)
    assert not left, "what is to be looked at is looked at"
    # The demo's learners live in 2001: an answer of today does not end their weeks.
    walk.looked(".venv/bin/stream inspect learner-0001", (r"risk .* as of 200[01]-",))
