"""How long work tells of itself: lines, and on a terminal a bar with the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Teller(Protocol):
    """Told of work as it goes on."""

    def say(self, line: str) -> None:
        """Tell of something that has happened."""

    def advance(self, share: float) -> None:
        """Tell that one more share of the work in hand, of 1, is done."""


@dataclass(frozen=True, slots=True)
class Lines:
    """
    Lines and no bar.

    Attributes:
        write: Takes each line.
    """

    write: Callable[[str], None]

    def say(self, line: str) -> None:
        """Write the line."""
        self.write(line)

    def advance(self, share: float) -> None:
        """Pass over it: a line for each would be too many."""


@dataclass(frozen=True, slots=True)
class Part:
    """
    Tells of a part of the work.

    Attributes:
        teller: Told.
        share: Of the whole work.
    """

    teller: Teller
    share: float

    def say(self, line: str) -> None:
        """Tell of something that has happened."""
        self.teller.say(line)

    def advance(self, share: float) -> None:
        """Tell of a share of this part."""
        self.teller.advance(share * self.share)


class _Bar:
    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=1.0)

    def say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False)

    def advance(self, share: float) -> None:
        self._progress.advance(self._task, share)


def remark(line: str) -> None:
    """Write a line to standard error, for the person who looks on; nothing if it is empty."""
    if line:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(line)


@contextmanager
def telling(what: str, write: Callable[[str], None]) -> Iterator[Teller]:
    """
    Give a teller: a bar with the time that is left at most where standard error is a terminal, lines where it is not.

    Args:
        what: Is going on.
        write: Takes the lines where there is no bar.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(write)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        TextColumn("at most"), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress, what)
