"""How far the recovery of state is, as a bar on a terminal."""

import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_AFTER_S: Final = 1.0


class Bar:
    """A bar on standard error, where that is a terminal and it takes longer than a moment."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._began_at = time.monotonic()

    def show(self, read: int, left: int) -> None:
        """Draw it."""
        if read == 0:
            self._began_at = time.monotonic()
        if not self._console.is_terminal or time.monotonic() - self._began_at < _AFTER_S:
            return
        if self._progress is None:
            columns = (
                TextColumn("state from the changelogs"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.start()
            self._task = self._progress.add_task("")
        if self._task is not None:
            self._progress.update(self._task, completed=read, total=read + left)

    def end(self) -> None:
        """Take it away."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
