"""Prometheus' own commands: found on the PATH, where `make broker` installs them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool() -> Path:
    """Return the command `promtool`; without it the test is skipped, or fails where servers are required."""
    return _command("promtool")


def prometheus() -> Path:
    """Return the command `prometheus`; without it the test is skipped, or fails where servers are required."""
    return _command("prometheus")


def check(*arguments: str | Path, text: str | None = None) -> None:
    """
    Run promtool, and expect it to be content and silent about flaws.

    Args:
        arguments: Of the command.
        text: For its standard input.

    Raises:
        AssertionError: With what it said, if it found anything.
    """
    done = subprocess.run([promtool(), *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _command(name: str) -> Path:
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    lack = f"The command {name} is missing: `make broker` installs it or says how."
    if os.environ.get("STREAM_REQUIRE_BROKER") == "1":
        pytest.fail(lack, pytrace=False)
    pytest.skip(lack)
