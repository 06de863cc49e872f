"""Fairness while risk is live: errors by the values of each field, over what was judged latest."""

import numpy as np
import pytest

from stream.learning.judged import Judged
from stream.learning.risk import watch as risk_watch
from stream.learning.risk.fairness import by_slice
from stream.learning.watch import LEAST_JUDGED, MOST_VALUES, Watch


def judged(at_risk: bool, score: float, version: int = 1, said_of_all: float = 0.3, **slices: str) -> Judged:
    """Return a week of a user of whom it is known what came."""
    return Judged(1, at_risk, version, score, said_of_all, 0.0, slices=tuple(slices.items()))


def test_errors_are_counted_by_group() -> None:
    """As the offline evaluation counts them: false alarms of those that passed, misses of those that did not."""
    random = np.random.default_rng(1)
    gender = random.choice(["F", "M"], 400)
    at_risk = random.random(400) < np.where(gender == "F", 0.3, 0.5)
    score = np.clip(0.25 + 0.4 * at_risk + random.normal(0, 0.2, 400), 0, 1)
    watch = Watch(1_000, risk_watch.figures)
    for row in range(400):
        watch.add(judged(bool(at_risk[row]), float(score[row]), gender=str(gender[row])))
    quality = watch.measure()
    assert quality is not None
    assert quality.slices.keys() == {"gender:F", "gender:M"}
    for group, of in by_slice(gender.tolist(), at_risk, score).items():
        found = quality.slices[f"gender:{group}"]
        assert (found.n, found.auc) == (of.n, of.auc)
        assert found.ece == pytest.approx(of.ece)
        assert (found.fpr, found.fnr) == (of.fpr, of.fnr)
        assert found.base_rate == pytest.approx(of.base_rate)
        assert found.mean_score == pytest.approx(of.mean_score)
        assert found.time_mae_seconds is None
    assert quality.overall.n == 400
    assert quality.fallback.mean_score == pytest.approx(0.3)
    assert quality.fallback.fpr == 0.0


def test_a_group_without_one_of_the_outcomes_has_no_rate() -> None:
    """No figure, and never 0: nobody could be missed where nobody was at risk."""
    watch = Watch(1_000, risk_watch.figures)
    for _ in range(LEAST_JUDGED):
        watch.add(judged(False, 0.7, band="0-35"))
    quality = watch.measure()
    assert quality is not None
    found = quality.slices["band:0-35"]
    assert (found.fnr, found.auc) == (None, None)
    assert found.fpr == 1.0


def test_slices_are_bounded() -> None:
    """Of each field the most frequent values, and none with few: labels never tell of a single user."""
    watch = Watch(10_000, risk_watch.figures)
    for value in range(15):
        for _ in range(LEAST_JUDGED + value):
            watch.add(judged(False, 0.2, region=f"r-{value}", rare=f"{value % 2}" if value < 2 else "usual"))
    for _ in range(LEAST_JUDGED - 1):
        watch.add(judged(True, 0.2, gender="X"))
    quality = watch.measure()
    assert quality is not None
    regions = {name for name in quality.slices if name.startswith("region:")}
    assert regions == {f"region:r-{value}" for value in range(15 - MOST_VALUES, 15)}
    assert "gender:X" not in quality.slices
