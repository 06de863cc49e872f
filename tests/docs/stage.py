"""
What commands and programs of the documents run on: a real broker, a worker, and the files that a reader would have.

Hosts, ports and topics of a reader are taken for those of the test, and commands that run until they are told to stop
are told so once they say that they run. The rest is done as it is written.
"""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from stream.adapters.converter import Converter
from stream.cli import main as stream
from tests.broker.process import free_ports

SERVICES = {
    "worker": "worker.started",
    "trainer": "trainer.started",
    "ingest": "ingest.started",
    "page": "page.started",
}
"""Commands that run until they are told to stop, and what they log once they run."""

SHORTER = {
    "simulate": ("--events", "20", "--rate", "1000"),
    "train": ("--epochs", "1"),
    "evaluate": ("--epochs", "1", "--models", "serving"),
}
"""What commands are given in addition, so that they end soon: the last of two same options counts."""

LEFT_OUT = ("SASL_", "SSL_", "SECURITY_", "INSTANCE_", "REPLICATION", "REDIS_")
"""Settings of a reader's that the test's broker cannot take."""

_END_S = 150.0
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Stage:
    """
    One place to run things in.

    Attributes:
        folder: Where they run; of a document, so that its blocks find the files of those before.

        settings: `STREAM_*` variables that every command gets, whatever the block says.

        addresses: What a document writes, by what it is here.

        done: Scripts that have run; the same one runs once.
    """

    folder: Path
    settings: dict[str, str]
    addresses: dict[str, str]
    done: set[str] = field(default_factory=set)

    def of(self, document: str) -> "Stage":
        """Return the stage of one document, with the files that a reader would have."""
        folder = self.folder / document.replace("/", "-").removesuffix(".md")
        if not folder.exists():
            folder.mkdir(parents=True)
            _files(folder)
        return replace(self, folder=folder)

    def run(self, command: list[str], text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, with a text as its input."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, input=self.here(text), capture_output=True, text=True,
            timeout=_END_S, check=False,
        )  # fmt: skip

    def first_line(self, program: str) -> str:
        """Run a Python program to its end, or, if it waits for more, until its first line of output; return that."""
        with subprocess.Popen(
            [sys.executable, "-c", self.here(program)], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                line = process.stdout.readline()
                if not line:
                    _, error = process.communicate(timeout=_END_S)
                    assert process.returncode == 0, error
            finally:
                process.kill()
        return line.strip()

    def here(self, text: str) -> str:
        """Return a text with the addresses of here."""
        for written, real in self.addresses.items():
            text = text.replace(written, real)
        return text

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every process."""
        shims = self.folder.parent / "bin"
        _shims(shims)
        path = os.pathsep.join([os.fspath(shims), os.fspath(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("STREAM_")},
            **self.settings,
            "PATH": path,
            "PYTHONPATH": os.fspath(_ROOT),
            "DOCS_SETTINGS": json.dumps(self.settings),
            "DOCS_FOLDER": os.fspath(shims),
        }


def _shims(folder: Path) -> None:
    """Have `stream` and `python` mean ours."""
    if folder.exists():
        return
    folder.mkdir()
    for name, command in (("stream", "-m tests.docs.stage"), ("python", ""), ("python3", "")):
        shim = folder / name
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} {command} "$@"\n', encoding="utf-8")
        shim.chmod(0o755)


def _files(folder: Path) -> None:
    """Write the files that documents name."""
    rows = ["user_id,item_id,skill_id,correct,timestamp,response_time_seconds"]
    rows += [
        f"u{user},item-{number % 5},skill-{number % 2},{(user + number) % 3 and 1},{1_767_000_000 + 60 * number},9.5"
        for number in range(8)
        for user in range(30)
    ]
    csv = "\n".join(rows) + "\n"
    (folder / "answers.csv").write_text(csv, encoding="utf-8")
    with gzip.open(folder / "answers.csv.gz", "wt", encoding="utf-8") as packed:
        packed.write(csv)
    statement, canvas = (_event_of(format_) for format_ in ("xapi", "canvas"))
    for name in ("statements.json", "statements.jsonl", "events.jsonl"):
        (folder / name).write_text(statement, encoding="utf-8")
    (folder / "canvas.jsonl").write_text(canvas, encoding="utf-8")
    (folder / "statements.json.gz").write_bytes(gzip.compress(statement.encode()))


def _event_of(format_: str) -> str:
    """Return an event of a platform that becomes one of ours, as a line."""
    fixtures = _ROOT / "tests" / "adapters" / format_ / "fixtures.jsonl"
    for line in fixtures.read_text(encoding="utf-8").splitlines():
        event = json.dumps(json.loads(line)["event"])
        if Converter(format_).convert(event.encode()).converted:
            return event + "\n"
    raise ValueError(f"expected an event in {fixtures} that becomes one of ours, found none")


def main() -> int:
    """Run `stream` as a block calls it, with the settings of here; return its exit status."""
    for name in [name for name in os.environ if name.startswith(tuple(f"STREAM_{part}" for part in LEFT_OUT))]:
        del os.environ[name]
    os.environ.update(json.loads(os.environ["DOCS_SETTINGS"]))
    arguments = sys.argv[1:]
    if arguments and arguments[0] in SERVICES and "--help" not in arguments:
        return _serve(arguments)
    if arguments[:1] == ["doctor"]:
        _be_patient()
    stream([*arguments, *SHORTER.get(next(iter(arguments), ""), ())], prog_name="stream")
    return 0


def _be_patient() -> None:
    """Give what the doctor asks a minute to answer: a machine that does much else is slow, not wrong."""
    from stream.doctor import examination, kafka, looking  # noqa: PLC0415 (of all commands it alone takes the time)

    limits = {"ASK_S": kafka, "_READ_S": kafka, "CONNECT_S": looking, "_WITHIN_S": examination}
    for limit, module in limits.items():
        assert hasattr(module, limit)
        setattr(module, limit, 60.0)


def _serve(arguments: list[str]) -> int:
    """Run a command that never ends until it says that it runs, then tell it to end; the same one only once."""
    given = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("STREAM_"))
    once = Path(os.environ["DOCS_FOLDER"]) / hashlib.sha256("\n".join([*arguments, *given]).encode()).hexdigest()
    if once.exists():
        return 0
    ports = dict(zip(("WORKER_METRICS", "TRAINER_METRICS", "PAGE"), free_ports(3), strict=True))
    own = {f"STREAM_{name}_PORT": str(port) for name, port in ports.items()}
    own["STREAM_GROUP"] = f"{os.environ['STREAM_GROUP']}-{os.getpid()}"
    said = []
    with subprocess.Popen(
        [sys.executable, "-m", "stream.cli", *arguments], env=os.environ | own, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if SERVICES[arguments[0]] in line:
                process.send_signal(signal.SIGTERM)
                break
        rest, _ = process.communicate(timeout=_END_S)
    if process.returncode not in (0, -signal.SIGTERM):
        sys.stderr.write("".join(said) + rest)
        return process.returncode
    once.touch()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
