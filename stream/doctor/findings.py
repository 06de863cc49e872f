"""What one check comes to. Pure."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "wrong", "unsure"]
"""As it should be; to be mended; or it cannot be told from here."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One line of the report.

    Attributes:
        name: What was looked at.
        verdict: What it comes to.
        found: What was found, a sentence; of `unsure`, why it cannot be told.
        remedy: What to do, or to type; empty where there is nothing to do.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(name, "ok", found)


def wrong(name: str, found: str, remedy: str) -> Finding:
    """Return that something is to be mended, and how."""
    return Finding(name, "wrong", found, remedy)


def unsure(name: str, found: str, remedy: str = "") -> Finding:
    """Return that something cannot be told, and why."""
    return Finding(name, "unsure", found, remedy)


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number and what it counts."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: list[str], most: int = 3) -> str:
    """Return some of the names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
