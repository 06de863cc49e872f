"""When an update is wished for. Pure: no clock, no Kafka; `stream.learning.trainer` starts what is wished."""

from dataclasses import dataclass
from typing import Literal

Trigger = Literal["answers", "minutes", "drift", "hand"]


@dataclass(slots=True)
class Triggers:
    """
    The four triggers of an update.

    At most one update is under way, and none waits behind it: what came meanwhile is one wish, once it has ended. While
    a candidate is on trial only what asks for an update at once has one.

    Attributes:
        every: Completed answers between two wishes.
        first: Completed answers before the first.
        every_s: Seconds after which an update is wished for, if any answer came; 0 for never.
        learned: Answers up to the newest update.
        learned_at: When that began, seconds of a monotonic clock; of the first, when answers first came.
        asked: What asks for an update, however few answers have come.
        at_once: Whether it does not even wait for a candidate that is on trial.
    """

    every: int
    first: int
    every_s: float = 0.0
    learned: int = 0
    learned_at: float | None = None
    asked: Literal["drift", "hand"] | None = None
    at_once: bool = False

    def ask(self, trigger: Literal["drift", "hand"], *, at_once: bool = True) -> None:
        """Ask for an update; that somebody asked by hand is not forgotten over drift."""
        if self.asked != "hand":
            self.asked = trigger
        self.at_once |= at_once

    def wish(self, answers: int, now: float, is_on_trial: bool) -> Trigger | None:
        """
        Return what wishes for an update, None if nothing does.

        Args:
            answers: Ever completed.
            now: Seconds of a monotonic clock.
            is_on_trial: Whether a candidate is on trial.
        """
        if self.learned_at is None and answers > self.learned:
            self.learned_at = now
        if answers < self.first:
            return None
        if is_on_trial and not self.at_once:
            return None
        if self.asked is not None or answers <= self.learned:
            return self.asked
        if answers >= self.learned + self.every:
            return "answers"
        is_due = self.every_s > 0 and self.learned_at is not None and now >= self.learned_at + self.every_s
        return "minutes" if is_due else None

    def started(self, answers: int, now: float) -> None:
        """Take note of an update that learns from so many answers."""
        self.learned, self.learned_at, self.asked, self.at_once = answers, now, None, False

    def again(self) -> None:
        """Wish anew for what came to nothing through no fault of the answers."""
        self.learned = 0
