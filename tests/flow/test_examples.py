"""The examples as a newcomer runs them: two producers and a consumer, 15 lines each."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.flow.system import START_S, System

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = {"send_answer.py", "send_statement.py", "read_predictions.py"}


@pytest.fixture
def reader(system: System) -> Iterator["subprocess.Popen[str]"]:
    """Give the consumer, while it runs."""
    topics = [system.settings.topic(f"predictions.{kind}") for kind in ("correctness", "time", "risk")]
    command = [sys.executable, str(EXAMPLES / "read_predictions.py"), system.bootstrap, *topics]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def run(name: str, system: System, topic: str) -> None:
    """Run a producer to its end."""
    subprocess.run([sys.executable, EXAMPLES / name, system.bootstrap, topic], check=True, timeout=START_S)


def test_a_learner_of_two_platforms_is_predicted(system: System, reader: "subprocess.Popen[str]") -> None:
    """One answer in our own format and one statement of the same learner: both come back as predictions."""
    source = f"{system.prefix}lms.xapi"
    system.options |= {"sources": f"{source}=xapi"}
    system.start("worker")
    run("send_answer.py", system, system.settings.topic("interactions"))
    run("send_statement.py", system, source)
    assert reader.stdout is not None
    said: dict[str, set[str]] = {}
    for line in reader.stdout:
        topic, _, prediction = line.partition(" ")
        read = orjson.loads(prediction)
        assert read["user_id"] == "learner-1"
        said.setdefault(topic.removeprefix(system.prefix), set()).add(read["source"]["event_id"])
        if len(said.get("predictions.correctness", ())) == len(said.get("predictions.time", ())) == 2:
            break
    assert "predictions.risk" in said or len(said) == 2


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_example_has_fifteen_lines(name: str) -> None:
    """Blank ones and what it says of itself left out."""
    text = (EXAMPLES / name).read_text("utf-8")
    documentation = ast.parse(text).body[0].end_lineno or 0
    assert 0 < len([line for line in text.splitlines()[documentation:] if line.strip()]) <= 15


def test_the_readme_shows_them_as_they_are() -> None:
    """What is copied from there runs."""
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    assert {path.name for path in EXAMPLES.glob("*.py")} == NAMES
    for name in NAMES:
        body = (EXAMPLES / name).read_text("utf-8").partition('"""\n\n')[2].rstrip()
        assert body.replace("  # fmt: skip", "") in readme, name
