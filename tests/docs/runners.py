"""
In which way a block of each language is run or checked.

A runner raises `AssertionError` with a sentence that says what is wrong. A language that has none here has no place in
the documents.
"""

import json
import re
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml
from pydantic import ValidationError

from schemas import TOPICS
from stream.adapters.converter import Converter
from stream.adapters.detection import FAMILIES
from stream.demo.tally import Tally
from stream.files.own import read as read_answers
from tests.docs.blocks import Block
from tests.docs.stage import Stage

Runner = Callable[[Block, Stage], None]

NOT_RUN: Final[Mapping[str, str]] = MappingProxyType(
    {
        r"make\b.*": "sets up .venv first; make's own targets are what CI runs",
        r"git clone\b.*": "the reader has no clone yet",
        r"cd \S+": "into the clone",
        r"(python3? -m )?pip install\b.*": "minutes; `make venv` installs the same",
        r"python3? -m venv\b.*": "beside the environment that runs this",
        r"kafka-acls\b.*": "tests/docs/test_security.py gives these rights on a broker that asks for them",
        r"docker\b.*": "there is no docker engine; tests/deploy runs what the images run",
        r"stream demo\b.*": "broker, worker and trainer once more; tests/demo and the walk of docs/start.md run it",
        r"stream evaluate\b.*--task risk.*": "tests/learning/risk runs it on a made-up folder",
    }
)
"""Lines of shell that are not run here, and why; each is matched whole."""

_COMMAND: Final = re.compile(
    r"^\s*[$%#>]\s+\S"
    r"|^\s*(?:[A-Z_]+=\S+ +)*(?:stream|make|docker|curl|pip|python3?|kafka-[a-z-]+|redis-cli|apt-get) +\S"
)
"""A line that somebody would type: in a block of output it would never run."""


def not_run(line: str) -> str | None:
    """Return why a line of shell is not run, None if it is."""
    bare = re.sub(r"^(?:[A-Z_]+=\S* +)*", "", re.sub(r"\s+#.*", "", line).strip())
    return next((why for pattern, why in NOT_RUN.items() if re.fullmatch(pattern, bare)), None)


def lines_of_shell(text: str) -> list[str]:
    """Return the commands of a block, a continued one as one line; `stream` in a container as `stream` alone."""
    lines = (line for line in text.replace("\\\n", " ").splitlines() if line.strip())
    return [_OUTSIDE.sub("", line) for line in lines if not line.lstrip().startswith("#")]


_OUTSIDE: Final = re.compile(r"^\s*docker compose exec \S+ (?=stream )")


def _shell(block: Block, stage: Stage) -> None:
    script = "\n".join(line for line in lines_of_shell(block.text) if not_run(line) is None)
    if not script or script in stage.done:
        return
    done = stage.run(["bash", "-euo", "pipefail", "-s"], script + "\n")
    assert done.returncode == 0, f"exit status {done.returncode}\n{script}\n{done.stdout}{done.stderr}"
    stage.done.add(script)


def _console(block: Block, stage: Stage) -> None:
    """Run what stands behind a prompt; the rest is what it printed once."""
    typed = "".join(line[2:] + "\n" for line in block.text.splitlines() if line.startswith("$ "))
    assert typed, "expected a command behind `$ `, found none; output alone is `text`"
    _shell(Block(block.document, block.line, "sh", block.heading, typed), stage)


def _python(block: Block, stage: Stage) -> None:
    line = stage.first_line(block.text)
    assert line or "print(" not in block.text, "expected a line of output, found none"


def _json(block: Block, stage: Stage) -> None:
    """A message of the topic that the heading names; else of any topic, or of a platform, or a known shape."""
    value = json.loads(block.text)
    family = Path(block.document).stem
    if block.heading in TOPICS:
        TOPICS[block.heading].adapter.validate_json(block.text)
    elif block.heading in SHAPES:
        expected = SHAPES[block.heading]()
        assert has_shape(value, expected), f"expected a {block.heading.lower()}, with the keys of {expected}"
    elif "connector.class" in value:
        assert all(isinstance(setting, str) for setting in value.values()), (
            "expected texts, as Kafka Connect takes them"
        )
    elif family in FAMILIES:
        result = Converter(family).convert(block.text.encode())
        assert result.read, f"expected an event of {family}, found none"
        assert not result.faults, f"expected an event of {family} that can be read, found {result.faults}"
    else:
        assert any(_fits(topic, block.text) for topic in TOPICS), "expected a message of a topic, found what fits none"


def _fits(topic: str, text: str) -> bool:
    try:
        TOPICS[topic].adapter.validate_json(text)
    except ValidationError:
        return False
    return True


def has_shape(value: Any, example: Any) -> bool:
    """Return whether all that are objects in both have the same keys, however deep."""
    if isinstance(value, dict) and isinstance(example, dict):
        return value.keys() == example.keys() and all(has_shape(value[name], example[name]) for name in value)
    return True


def _yaml(block: Block, stage: Stage) -> None:
    """By what it holds: rules and configurations of Prometheus by promtool, compose and Kubernetes by their names."""
    parts = list(yaml.safe_load_all(block.text))
    assert all(isinstance(part, dict) for part in parts), "expected a mapping"
    for part in parts:
        if "groups" in part:
            _promtool("rules", block.text, stage)
        elif "scrape_configs" in part:
            _promtool("config", block.text, stage)
        else:
            known = part.keys() & {"services", "kind"}
            assert known, f"expected rules, scrape_configs, services or a kind, found {sorted(part)}"


def _promql(block: Block, stage: Stage) -> None:
    """Each line is an expression that Prometheus takes."""
    rules = [{"record": f"line{i}", "expr": line} for i, line in enumerate(block.text.splitlines()) if line.strip()]
    _promtool("rules", yaml.safe_dump({"groups": [{"name": "block", "rules": rules}]}), stage)


def _promtool(what: str, text: str, stage: Stage) -> None:
    file = stage.folder / f"{what}.yml"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run(["promtool", "check", what, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _csv(block: Block, stage: Stage) -> None:
    file = stage.folder / "block.csv"
    file.write_text(block.text, encoding="utf-8")
    assert read_answers(file)


def _toml(block: Block, stage: Stage) -> None:
    assert tomllib.loads(block.text)


def _sql(block: Block, stage: Stage) -> None:
    """On tables that have the columns which the query names."""
    tables = dict(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)\s+(\w+)", block.text)).items()
    with sqlite3.connect(":memory:") as database:
        for table, alias in tables:
            columns = set(re.findall(rf"\b{alias}\.(\w+)", block.text)) or {"id"}
            database.execute(f"CREATE TABLE {table} ({', '.join(sorted(columns))})")
        database.execute(block.text)


def _text(block: Block, stage: Stage) -> None:
    """Output and drawings; what somebody would type belongs into `sh` or `console`, where it runs."""
    typed = [line for line in block.text.splitlines() if _COMMAND.match(line)]
    assert not typed, f"expected output, found what looks like a command: {typed[0]!r}; write it as `sh`"


RUNNERS: Final[Mapping[str, Runner]] = MappingProxyType(
    {
        "sh": _shell,
        "console": _console,
        "python": _python,
        "json": _json,
        "yaml": _yaml,
        "promql": _promql,
        "csv": _csv,
        "sql": _sql,
        "toml": _toml,
        "text": _text,
    }
)

SHAPES: Final[Mapping[str, Callable[[], Any]]] = MappingProxyType(
    {"Report of the demo": lambda: Tally().report(1.0, 0)}
)
"""By heading, what makes an example of what a block is to be."""
