"""The findings, for people and for machines."""

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.text import Text

from stream.doctor.findings import Finding, counted

_COLOURS: Final = {"ok": "green", "wrong": "bold red", "unsure": "yellow"}
_MARGIN: Final = 8
_WIDEST: Final = 100


def show(console: Console, finding: Finding) -> None:
    """Print a finding: its verdict, what was found, and below it what to do."""
    width = min(console.width, _WIDEST) - _MARGIN
    # Names of topics and settings stay whole, so that they can be copied.
    lines = textwrap.wrap(f"{finding.name}: {finding.found}", width, break_long_words=False, break_on_hyphens=False)
    text = Text().append(f"{finding.verdict:<{_MARGIN}}", style=_COLOURS[finding.verdict])
    text.append(f"\n{'':<{_MARGIN}}".join(lines))
    console.print(text, soft_wrap=True, highlight=False)
    if finding.remedy:
        # Not wrapped: a command that is copied must stay one line.
        console.print(Text(f"{'':<{_MARGIN}}-> {finding.remedy}"), soft_wrap=True, highlight=False)


def summary(findings: Sequence[Finding]) -> str:
    """Return how many findings are of which verdict."""
    counts = Counter(finding.verdict for finding in findings)
    if counts["wrong"]:
        return f"{counted(counts['wrong'], 'thing is', 'things are')} wrong; each line says what to do"
    unsure = counts["unsure"]
    return "nothing is wrong" + (f"; {counted(unsure, 'thing')} cannot be told from here" if unsure else "")


def as_json(findings: Iterable[Finding]) -> str:
    """Return the findings as JSON: `wrong` says whether anything is, `findings` has name, verdict, found, remedy."""
    found = [asdict(finding) for finding in findings]
    return json.dumps({"wrong": any(each["verdict"] == "wrong" for each in found), "findings": found}, indent=1)
