"""
Tables in the documents that are made from the code: `python -m stream.reference [--check]`.

Made from what is declared alone, never from the environment or a running system: no value of one can get in. A part of
a document that is made stands between two markers, and `PARTS` lists them all.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from stream import manual
from stream.cli import main as command_line
from stream.manual import table
from stream.telemetry import Metrics, TrainerMetrics
from stream.telemetry.sheet import Declared

ROOT: Final = Path(__file__).parent.parent


class Part(NamedTuple):
    """
    A part of a document that is made.

    Attributes:
        document: Its path from the project's root.
        name: Of its markers: what it shows.
        render: Makes its text.
    """

    document: str
    name: str
    render: Callable[[], str]

    @property
    def begin(self) -> str:
        """The line before it."""
        return f"<!-- {self.name}: made by python -m stream.reference -->"

    @property
    def end(self) -> str:
        """The line behind it."""
        return f"<!-- end of {self.name} -->"

    def replaced(self, text: str) -> str:
        """
        Return a document's text with this part as it should be.

        Raises:
            ValueError: If its markers do not stand in it once, in their order.
        """
        begin, end = self.begin, self.end
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise ValueError(f"{self.document}: expected the lines {begin} and {end} once, in this order")
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        return f"{head}{begin}\n{self.render()}\n{end}{tail}"


def metrics_table(declared: Sequence[Declared]) -> str:
    """Return a row for each metric: its name, kind, labels, and what it says."""
    rows = [(f"`{m.name}`", m.kind, f"`{','.join(m.labels)}`" if m.labels else "", m.sentence) for m in declared]
    return table(("metric", "kind", "labels", "what it says"), rows)


PARTS: Final = (
    Part("README.md", "settings", lambda: manual.settings_table(manual.ESSENTIAL)),
    Part("docs/metrics.md", "metrics of the worker", lambda: metrics_table(Metrics(1).sheet.declared)),
    Part("docs/metrics.md", "metrics of the trainer", lambda: metrics_table(TrainerMetrics().sheet.declared)),
    Part("docs/reference/settings.md", "settings", manual.settings_by_section),
    Part("docs/reference/topics.md", "topics to write to", lambda: manual.topics_table("in")),
    Part("docs/reference/topics.md", "topics to read", lambda: manual.topics_table("out")),
    Part("docs/reference/topics.md", "topics of our own", lambda: manual.topics_table("internal")),
    Part("docs/reference/topics.md", "changelogs", manual.changelogs_table),
    Part("docs/reference/cli.md", "commands", lambda: manual.commands(command_line)),
    Part("docs/decisions/index.md", "decisions", lambda: manual.decisions(ROOT / "docs" / "decisions")),
)
"""All of them."""


def main(arguments: Sequence[str] | None = None, root: Path = ROOT, parts: Sequence[Part] = PARTS) -> int:
    """Write what is made into the documents, or with `--check` say what differs; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stream.reference", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if anything differs")
    options = parser.parse_args(arguments)
    stale = []
    for part in parts:
        document = root / part.document
        text = document.read_text(encoding="utf-8")
        expected = part.replaced(text)
        if expected == text:
            continue
        stale.append(f"{part.document}: its {part.name} are not those of the code; run `python -m stream.reference`\n")
        if not options.check:
            document.write_text(expected, encoding="utf-8")
    if options.check:
        sys.stderr.writelines(stale)
    return int(options.check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
