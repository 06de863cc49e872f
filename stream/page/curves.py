"""Throughput and latency over time, and the points of the curves: at most 240, however long the page runs. Pure."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from stream.page.shape import Point, Quality, Rate

MOST_POINTS: Final = 240
WIDEST_S: Final = 16
"""Of a point: 240 of them go over 64 minutes."""

RATE_S: Final = 10
"""Seconds over which the rate goes."""

_MOST_SAMPLES: Final = 2_000
"""Latencies that are kept of a point, the latest: percentiles of more would cost more and say no more."""


@dataclass(slots=True)
class Span:
    """
    What came in a span of time.

    Attributes:
        number: Of the span, in spans since the epoch.
        answers: How many.
        latencies_s: Of the latest of them.
    """

    number: int
    answers: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_SAMPLES))


class Curves:
    """Spans as they fill, and the points that they become."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._width_s = 1
        self._open: Span | None = None
        self._seconds: deque[Span] = deque(maxlen=RATE_S + 1)
        self._first_at: float | None = None

    def add(self, answers: int, latencies_s: Collection[float], at: float) -> None:
        """Count answers that came at a moment, and take note of latencies that became known at it."""
        if not answers and not latencies_s:
            return
        for span in (self._second(at), self._open):
            if span is not None:
                span.answers += answers
                span.latencies_s.extend(latencies_s)

    def is_due(self, at: float) -> bool:
        """Return whether a point is complete by now."""
        return self._open is not None and at >= (self._open.number + 1) * self._width_s

    def advance(self, at: float, quality: Quality) -> None:
        """
        Add the points that are complete.

        Args:
            at: Now.
            quality: Of the latest answers, as far as a point is complete.
        """
        if at - (self.points[-1]["at"] if self.points else at) > MOST_POINTS * WIDEST_S:
            self.points.clear()  # nothing was looked at for more than all points go over
            self._open = Span(int(at // self._width_s))
        while self._open is not None and self.is_due(at):
            self.points.append(_point(self._open, self._width_s, quality))
            self._open = Span(self._open.number + 1)
            if len(self.points) > MOST_POINTS:
                self._widen()

    def rate(self, at: float) -> Rate:
        """Return throughput and latency of the latest seconds."""
        since = at - RATE_S
        seconds = [second for second in self._seconds if second.number + 1 > since]
        latencies = [latency for second in seconds for latency in second.latencies_s]
        begun = max(since, self._first_at or since)
        p50, p99 = _percentiles_ms(latencies)
        return {
            "answers_per_s": round(sum(second.answers for second in seconds) / max(at - begun, 1.0), 2),
            "latency_p50_ms": p50,
            "latency_p99_ms": p99,
        }

    def _second(self, at: float) -> Span:
        """Return the second of a moment; one that is over by now takes what comes late."""
        number = int(at)
        if not self._seconds or self._seconds[-1].number < number:
            self._seconds.append(Span(number))
        if self._open is None:
            self._open = Span(int(at // self._width_s))
            self._first_at = at
        return self._seconds[-1]

    def _widen(self) -> None:
        """Make two points one, or drop the oldest once they are as wide as they get."""
        if self._width_s >= WIDEST_S:
            del self.points[0]
            return
        wide = 2 * self._width_s
        by_span: dict[int, list[Point]] = {}
        for point in self.points:
            by_span.setdefault(round(point["at"] / self._width_s - 1) // 2, []).append(point)
        merged = [_merged(pair, (number + 1) * wide) for number, pair in by_span.items()]
        opened = self._open
        if opened is not None and opened.number % 2:
            # The last half of a pair is open yet: what is known of its first goes on in it.
            first = by_span[opened.number // 2][0]
            merged.pop()
            opened.answers = round(first["answers_per_s"] * self._width_s)
        if opened is not None:
            opened.number //= 2
        self.points, self._width_s = merged, wide


def _point(span: Span, width_s: int, quality: Quality) -> Point:
    p50, p99 = _percentiles_ms(span.latencies_s)
    return {
        "at": float((span.number + 1) * width_s),
        "answers_per_s": round(span.answers / width_s, 2),
        "p50_ms": p50,
        "p99_ms": p99,
        "auc": quality["auc"],
        "auc_fallback": quality["auc_fallback"],
        "logloss": quality["logloss"],
        "logloss_fallback": quality["logloss_fallback"],
        "ece": quality["ece"],
    }


def _merged(points: list[Point], at: float) -> Point:
    """Return two points as one, or one that stands alone at the beginning: the latter's quality, the worse latency."""
    p50 = [point["p50_ms"] for point in points if point["p50_ms"] is not None]
    p99 = [point["p99_ms"] for point in points if point["p99_ms"] is not None]
    return points[-1] | {
        "at": float(at),
        "answers_per_s": round(sum(point["answers_per_s"] for point in points) / 2, 2),
        "p50_ms": round(sum(p50) / len(p50), 2) if p50 else None,
        "p99_ms": max(p99, default=None),
    }


def _percentiles_ms(latencies_s: "list[float] | deque[float]") -> tuple[float | None, float | None]:
    if not latencies_s:
        return None, None
    p50, p99 = (np.percentile(np.fromiter(latencies_s, np.float64, len(latencies_s)), [50, 99]) * 1000).tolist()
    return round(p50, 2), round(p99, 2)
