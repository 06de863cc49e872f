"""Ctrl-C, or SIGTERM, ends a command by one line and exit status 130, whenever it comes; nothing is left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from stream import ending
from stream.cli import main

pytestmark = pytest.mark.timeout(180)

DEMO = ("demo", "--headless", "--port", "0", "--events", "200000")

AT_AN_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, {before})
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder)
from stream.console import main
main()
"""
"""The command line, told to end while it imports a module."""

AFTER_A_WHILE = "from stream import console; console.end_at_once(); print('begun', flush=True); console.main()"


@contextmanager
def started(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a demo by a few lines of Python; it outlives no test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_")}
    with subprocess.Popen(
        [sys.executable, "-c", code, *DEMO], env=environment | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def assert_ended(process: subprocess.Popen[str], folder: Path) -> None:
    """One line that says so, the exit status of a command that was stopped, no files."""
    _, said = process.communicate(timeout=90)
    assert process.returncode == ending.STOPPED == 130, said
    assert len(said.splitlines()) == 1, said
    assert "stopped" in said
    assert not list(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["click", "confluent_kafka", "pydantic", "stream.demo.run", "stream.page"])
def test_an_end_while_it_imports(module: str, number: signal.Signals, tmp_path: Path) -> None:
    """No traceback, wherever the import was."""
    code = AT_AN_IMPORT.format(before="signal.default_int_handler", module=module, number=int(number))
    with started(code, tmp_path) as process:
        assert_ended(process, tmp_path)


@pytest.mark.parametrize("module", ["click", "stream.demo.run"])
def test_ctrl_c_is_heard_where_a_script_has_it_ignored(module: str, tmp_path: Path) -> None:
    """As a shell without a terminal has what it starts by `&`."""
    code = AT_AN_IMPORT.format(before="signal.SIG_IGN", module=module, number=int(signal.SIGINT))
    with started(code, tmp_path) as process:
        assert_ended(process, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.5, 1.2, 2.5])
def test_an_end_at_any_moment(seconds: float, number: signal.Signals, tmp_path: Path) -> None:
    """Whatever the demo does at that moment on this machine, its outcome is the same."""
    with started(AFTER_A_WHILE, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        process.send_signal(number)
        assert_ended(process, tmp_path)


def test_ctrl_c_ends_any_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one line, where click has it aborted with the exit status of a failure."""

    def ended(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("stream.adapters.pseudonym.pseudonym", ended)
    done = CliRunner().invoke(main, ["pseudonym", "ada"], env={"STREAM_PSEUDONYM_KEY": "k" * 32})
    assert (done.exit_code, done.output) == (ending.STOPPED, "stream: stopped\n")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back what these tests change in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_what_is_in_hand_is_put_in_order() -> None:
    """From when a command has its settings on; a program that imports ours keeps what it asked for."""
    before = signal.getsignal(signal.SIGTERM)
    ending.end_in_order()
    assert signal.getsignal(signal.SIGTERM) == before
    ending.end_at_once()
    CliRunner().invoke(main, ["pseudonym", "ada"])
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
