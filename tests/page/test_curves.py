"""Points of the curves go over the whole run, however long it is, and there are never more than a few."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.page.curves import MOST_POINTS, WIDEST_S, Curves
from stream.page.window import Window
from tests.page.messages import START

NOTHING = Window(100).quality()


def run(curves: Curves, seconds: int, answers: int = 1, start: float = START) -> None:
    """Let seconds pass, with as many answers in the middle of each."""
    for second in range(seconds):
        at = start + second + 0.5
        if curves.is_due(at):
            curves.advance(at, NOTHING)
        curves.add(answers, [second / 1000], at)


def test_rate_and_latency_are_of_the_latest_ten_seconds() -> None:
    """What is older does not count; at the beginning there are fewer than ten."""
    curves = Curves()
    run(curves, 4, answers=3)
    assert curves.rate(START + 4)["answers_per_s"] == pytest.approx(12 / 3.5, abs=0.01)
    run(curves, 30, answers=5, start=START + 4)
    found = curves.rate(START + 34)
    assert found["answers_per_s"] == 5.0
    p50, p99 = np.percentile(np.arange(20, 30), [50, 99])
    assert [found["latency_p50_ms"], found["latency_p99_ms"]] == pytest.approx([p50, p99])
    assert curves.rate(START + 100) == {"answers_per_s": 0.0, "latency_p50_ms": None, "latency_p99_ms": None}
    curves.add(1, [], START + 100)
    assert curves.rate(START + 100)["answers_per_s"] == 0.1


@pytest.mark.parametrize("seconds", [100, 239, 240, 241, 242, 300, 481, 1_000, 3_000])
@pytest.mark.parametrize("start", [START, START + 1, START + 7])
def test_points_grow_wider_and_lose_nothing(seconds: int, start: float) -> None:
    """A point is 1, 2, 4, 8 or 16 s wide; they lie close, cover the run, and hold every answer."""
    curves = Curves()
    run(curves, seconds, answers=2, start=start)
    curves.advance(start + seconds + WIDEST_S, NOTHING)
    widths = {later["at"] - earlier["at"] for earlier, later in pairwise(curves.points)}
    (width,) = widths
    assert width in {1, 2, 4, 8, 16}
    assert MOST_POINTS / 2 - 1 < len(curves.points) <= MOST_POINTS or seconds < MOST_POINTS
    assert curves.points[0]["at"] - width <= start
    assert curves.points[-1]["at"] > start + seconds
    assert sum(point["answers_per_s"] * width for point in curves.points) == pytest.approx(2 * seconds)
    slowest = max(point["p99_ms"] or 0 for point in curves.points)
    assert slowest == pytest.approx(seconds - 1, rel=0.02)


def test_a_slow_second_stays_to_be_seen() -> None:
    """Where points become one, its latency is the worse one, and the rest their mean."""
    curves = Curves()
    for second in range(300):
        at = START + second
        curves.advance(at, NOTHING)
        curves.add(1, [9.0 if second == 20 else 0.1], at)
    assert [point["p99_ms"] for point in curves.points if point["p99_ms"] != 100] == [9_000]
    assert [point["p50_ms"] for point in curves.points if point["p50_ms"] != 100] == [4_550]


def test_the_latest_hour_stays() -> None:
    """Points get no wider than 16 s: from then on the oldest go."""
    curves = Curves()
    run(curves, 5_000)
    assert len(curves.points) == MOST_POINTS
    assert curves.points[-1]["at"] - curves.points[0]["at"] == (MOST_POINTS - 1) * WIDEST_S
    assert START + 5_000 - curves.points[-1]["at"] < WIDEST_S
    assert {point["answers_per_s"] for point in curves.points} == {1.0}


@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=12))
def test_a_pause_is_seen_and_costs_nothing(pauses: list[int]) -> None:
    """While nothing comes points say so; after more than all points go over, they begin anew."""
    curves, at = Curves(), START
    for pause in pauses:
        curves.add(1, [], at)
        at += pause
        curves.advance(at, NOTHING)
        assert len(curves.points) <= MOST_POINTS
        assert all(later["at"] > earlier["at"] for earlier, later in pairwise(curves.points))
        assert all(at - point["at"] <= MOST_POINTS * WIDEST_S + WIDEST_S for point in curves.points)
    curves.advance(at + WIDEST_S, NOTHING)
    assert curves.points[-1]["at"] <= at + WIDEST_S
    assert len({round(later["at"] - earlier["at"]) for earlier, later in pairwise(curves.points)}) <= 1
