"""What the documents show of the code is complete; that it is up to date, `tests.test_reference` holds."""

import re
from pathlib import Path

import click
import pytest

from schemas import TOPICS
from stream import manual
from stream.cli import main as command_line
from stream.settings import Settings
from stream.telemetry import Metrics, TrainerMetrics
from stream.transport.topics import wanted
from tests.docs.blocks import ROOT


def names(text: str) -> list[str]:
    """Return what the first cells of tables name."""
    return [line.split("`")[1] for line in text.splitlines() if line.startswith(("| `", "| [`"))]


def test_every_setting_stands_in_one_section() -> None:
    """No setting is lost between two sections, and none of these is empty."""
    text = manual.settings_by_section()
    assert names(text) == [f"STREAM_{name.upper()}" for name in Settings.model_fields]
    assert text.count("## ") == len(manual.SECTIONS) == text.count("|---|---|---|---|")
    assert text.index("## Learning") < text.index("`STREAM_LEARN_EVERY`") < text.index("## Logs")


def test_every_topic_stands_once() -> None:
    """The catalog's topics and the changelogs, as many as the broker is asked for."""
    named = [*names(manual.topics_table("in")), *names(manual.topics_table("out")), *names(manual.changelogs_table())]
    named += names(manual.topics_table("internal"))
    assert sorted(named) == sorted([*TOPICS, *(t.name for t in wanted(Settings()) if t.name.endswith("-changelog"))])
    assert "| user | as set | 7 days |" in manual.topics_table("out")
    assert "| user | as set | 1 day |" in manual.topics_table("in")
    assert "| model name | 1 | compacted |" in manual.topics_table("internal")


def test_a_command_has_its_options_and_its_example() -> None:
    """What `--help` says of a command, as Markdown."""

    @click.group()
    def root() -> None:
        pass

    @root.command()
    @click.argument("file")
    @click.option("--count", type=click.IntRange(1, 9), default=3, help="How many | at most.")
    @click.option("--rate", type=click.FloatRange(min=1), help="How fast.")
    @click.option("--quiet", is_flag=True, help="Say nothing.")
    @click.option("--out", required=True, help="Where to.")
    @click.option("--inner", hidden=True, help="What `--help` does not say.")
    def take(**_: object) -> None:
        """
        Take a file.

        Twice if need be.

        Example: stream take FILE --count 2
        """

    assert manual.commands(root).splitlines() == [
        "| command | what it does |",
        "|---|---|",
        "| [`stream take`](#stream-take) | Take a file |",
        "",
        "## stream take",
        "",
        "Take a file.",
        "",
        "Twice if need be.",
        "",
        "Usage: `stream take [OPTIONS] FILE`",
        "",
        "| option | default | what it is |",
        "|---|---|---|",
        "| `--count` 1 to 9 | `3` | How many \\| at most. |",
        "| `--rate` at least 1 |  | How fast. |",
        "| `--quiet` |  | Say nothing. |",
        "| `--out` TEXT | required | Where to. |",
        "",
        "```sh",
        "stream take FILE --count 2",
        "```",
    ]


def test_every_command_shows_an_example() -> None:
    """Each has a section, and each section something to type."""
    text = manual.commands(command_line)
    assert text.count("\n```sh\n") == text.count("\n## stream ") == len(names(text.partition("\n## ")[0]))


def test_a_decision_without_a_title_is_told(tmp_path: Path) -> None:
    """Records are listed by their first line."""
    (tmp_path / "0001-first.md").write_text("# 0001: First\n", encoding="utf-8")
    assert "| 0001 | [First](0001-first.md) |" in manual.decisions(tmp_path)
    (tmp_path / "0002-second.md").write_text("Second\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"0002-second\.md: expected a first line"):
        manual.decisions(tmp_path)


def test_the_failure_table_names_metrics_that_there_are() -> None:
    """What an operator is told to look at is scraped, under that name."""
    declared = {metric.name for sheet in (Metrics(1).sheet, TrainerMetrics().sheet) for metric in sheet.declared}
    text = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+_(?:total|records|seconds|version)|stalled)(?:\{.*?\})?`", text)
    assert len(named) > 10
    assert [name for name in named if f"stream_{name}" not in declared] == []
