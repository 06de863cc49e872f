"""Live quality: over which answers it goes, and how it is sliced."""

from datetime import UTC, datetime
from time import thread_time
from typing import Any

import numpy as np
import pytest

from schemas import QualityMeasured, TrainingExample
from schemas.predictions import ModelRef, Source
from stream.learning.judged import NEW_BELOW, Judged, judged_answer
from stream.learning.watch import LEAST_JUDGED, MOST_VALUES, Quality, Watch
from stream.models.quality import auc, calibration_error, log_losses

AT = datetime(2026, 1, 5, 8, tzinfo=UTC)


def example(number: int = 0, version: int = 3, **changes: Any) -> Judged:
    """Return an answer, some fields changed."""
    fields: dict[str, Any] = {
        "example_id": f"x-{number}",
        "event_id": f"e-{number}",
        "user_id": "u-1",
        "topic_id": "fractions",
        "skills": ("fractions",),
        "difficulty": "medium",
        "correct": True,
        "response_time_seconds": 20.0,
        "timestamp": AT,
        "source": Source(event_id=f"e-{number}", topic="interactions", partition=0, offset=number),
        "model": ModelRef(name="knowledge", version=version, variant="champion"),
        "state_format": "lstm-1",
        "state_version": 50,
        "feature_version": 1,
        "features": (),
        "p_before": 0.7,
        "p_before_fallback": 0.6,
        "median_before": 18.0,
        "median_before_fallback": 30.0,
    }
    return judged_answer(TrainingExample(**fields | changes), 0.0)


def measured(window: int, examples: list[Judged]) -> Quality:
    """Return what a watch says after some answers."""
    watch = Watch(window)
    for each in examples:
        watch.add(each)
    quality = watch.measure()
    assert quality is not None
    return quality


def test_figures_are_those_of_the_latest_answers() -> None:
    """Served and fallback, on the last answers of the window alone, once it has gone round."""
    random = np.random.default_rng(1)
    correct, p, p_fallback = random.random(250) < 0.6, random.random(250), random.random(250)
    seconds, median = random.exponential(20, 250), random.exponential(20, 250)
    answers = [
        example(
            i, correct=bool(correct[i]), p_before=p[i], p_before_fallback=p_fallback[i],
            response_time_seconds=seconds[i], median_before=median[i],
        )
        for i in range(250)
    ]  # fmt: skip
    quality = measured(100, answers)
    last = slice(150, 250)
    assert quality.overall.n == quality.fallback.n == 100
    for found, said in ((quality.overall, p), (quality.fallback, p_fallback)):
        assert found.logloss == pytest.approx(log_losses(correct[last], said[last]).mean())
        assert found.auc == pytest.approx(auc(correct[last], said[last]))
        assert found.ece == pytest.approx(calibration_error(correct[last], said[last]))
    assert quality.overall.time_mae_seconds == pytest.approx(np.abs(seconds - median)[last].mean())
    assert quality.fallback.time_mae_seconds == pytest.approx(np.abs(seconds - 30)[last].mean())


def test_without_answers_there_is_no_quality() -> None:
    """Nothing is measured of nothing."""
    watch = Watch(10)
    assert len(watch) == 0
    assert watch.measure() is None


def test_unknown_times_and_one_sided_answers_have_no_figure() -> None:
    """Neither a time error without times, nor an AUC where all are right."""
    quality = measured(10, [example(i, response_time_seconds=None) for i in range(5)])
    assert quality.overall.time_mae_seconds is None
    assert quality.overall.auc is None
    assert quality.overall.logloss == pytest.approx(-np.log(0.7))


def test_an_unknown_time_does_not_count_among_known_ones() -> None:
    """The time error goes over the answers whose time is known."""
    quality = measured(10, [example(1, response_time_seconds=None), example(2, response_time_seconds=25.0)])
    assert quality.overall.time_mae_seconds == pytest.approx(7.0)


def test_versions_are_told_apart_and_vanish() -> None:
    """Each version that served is measured on its own answers, until none of them is left in the window."""
    answers = [example(i, version=0, p_before=0.5) for i in range(30)]
    answers += [example(i, version=4, p_before=0.9) for i in range(70)]
    quality = measured(100, answers)
    assert {version: found.n for version, found in quality.versions.items()} == {"0": 30, "4": 70}
    assert quality.versions["0"].logloss == pytest.approx(-np.log(0.5))
    assert quality.versions["4"].logloss == pytest.approx(-np.log(0.9))
    assert measured(70, answers).versions.keys() == {"4"}


def test_slices_have_enough_answers() -> None:
    """Difficulties, new users and topics appear from 50 answers on."""
    new, known = {"state_version": NEW_BELOW - 1}, {"state_version": NEW_BELOW}
    answers = [example(i, difficulty="easy", topic_id="angles", **new) for i in range(LEAST_JUDGED)]
    answers += [example(i, difficulty="hard", topic_id="area", **known) for i in range(LEAST_JUDGED - 1)]
    answers += [example(i, difficulty=None, topic_id="ratios", **known) for i in range(LEAST_JUDGED)]
    quality = measured(1_000, answers)
    expected = {"topic:angles", "topic:ratios", "difficulty:easy", "users:new"}
    assert quality.slices.keys() == expected
    assert {found.n for found in quality.slices.values()} == {LEAST_JUDGED}


def test_only_the_most_frequent_topics_are_slices() -> None:
    """There are ten of them, however many topics a course has."""
    answers = [
        example(topic_id=f"t-{topic}", difficulty=None) for topic in range(15) for _ in range(LEAST_JUDGED + topic)
    ]
    quality = measured(2_000, answers)
    assert quality.slices.keys() == {f"topic:t-{topic}" for topic in range(5, 5 + MOST_VALUES)}


def test_it_can_be_told() -> None:
    """What is measured is what the event says."""
    quality = measured(100, [example(i) for i in range(60)])
    event = QualityMeasured(
        event_id="q-1", name="knowledge", at=AT, overall=quality.overall, fallback=quality.fallback,
        versions=quality.versions, slices=quality.slices,
    )  # fmt: skip
    assert QualityMeasured.model_validate_json(event.model_dump_json()) == event


def test_two_thousand_answers_are_measured_at_once() -> None:
    """A measurement is a matter of milliseconds, of this thread's: 7 where it was written, 10 topics and 4 versions."""
    watch = Watch(2_000)
    for i in range(2_000):
        watch.add(example(i, version=i // 500, topic_id=f"t-{i % 12}", correct=i % 3 > 0, p_before=(i % 97) / 97))
    watch.measure()
    took = []
    for _ in range(5):
        started = thread_time()
        watch.measure()
        took.append(thread_time() - started)
    assert min(took) < 0.05
