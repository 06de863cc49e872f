"""The demo's figures are made of what consumers of the topics see."""

from typing import Any

import orjson
import pytest

from stream.demo.tally import Tally


def event(number: int) -> dict[str, Any]:
    """Return the part of an event that the tally looks at."""
    return {"event_id": f"e{number}"}


def prediction(number: int, kind: str) -> bytes:
    """Return the part of a prediction that the tally looks at."""
    return orjson.dumps(
        {"prediction_id": f"{kind}-{number}", "source": {"event_id": f"e{number}"}, "user_id": "u", "category": "High"}
    )


def example(number: int, version: int, *, correct: bool, p: float, p_fallback: float) -> bytes:
    """Return the part of a training example that the tally looks at."""
    return orjson.dumps(
        {"event_id": f"e{number}", "model": {"version": version}, "correct": correct, "p_before": p,
         "p_before_fallback": p_fallback}
    )  # fmt: skip


def test_answers_count_when_both_predictions_have_come() -> None:
    """An answer is done when correctness and time are there; latency is from sent to correctness."""
    tally = Tally()
    tally.sent(event(1), answer=True, at=10.0)
    tally.sent({"event_id": "view"}, answer=False, at=10.0)
    tally.saw("predictions.correctness", prediction(1, "correctness"), 10.25)
    assert tally.answered == 0
    tally.saw("predictions.time", prediction(1, "time"), 10.5)
    tally.saw("predictions.risk", prediction(1, "risk"), 10.5)
    assert (tally.answered, tally.answers_sent, tally.events_sent) == (1, 1, 2)
    assert tally.latency_s() == {"p50": 0.25, "p99": 0.25}
    assert tally.at_risk == {"u": "High"}
    assert tally.report(2.0, read=2)["predictions"] == {"correctness": 1, "time": 1, "risk": 1}


def test_a_doubled_prediction_shows_in_the_report() -> None:
    """Counts are of messages, ids are distinct: a double is a difference between the two."""
    tally = Tally()
    for _ in range(2):
        tally.saw("predictions.time", prediction(1, "time"), 1.0)
    report = tally.report(1.0, read=0)
    assert (report["predictions"]["time"], report["distinct_prediction_ids"]) == (2, 1)


def test_figures_after_the_first_swap_compare_the_same_answers() -> None:
    """What served and the fallback are held against each other from the first answer of a published model on."""
    tally = Tally()
    tally.saw("training-examples", example(0, 0, correct=True, p=0.5, p_fallback=0.5), 0.0)
    for number in range(1, 5):
        right = number % 2 == 0
        message = example(number, 1 + number // 4, correct=right, p=0.9 if right else 0.1, p_fallback=0.5)
        tally.saw("training-examples", message, 0.0)
        tally.saw("training-examples", message, 0.0)
    report = tally.report(1.0, read=5)
    assert report["models"] == [{"version": 1, "at_event": 1}, {"version": 2, "at_event": 4}]
    assert report["after_swap"]["n"] == 4
    assert report["after_swap"]["auc_serving"] == 1.0
    assert report["after_swap"]["auc_fallback"] == 0.5
    assert report["after_swap"]["logloss_serving"] == pytest.approx(0.1054, abs=1e-4)
    assert report["after_swap"]["logloss_fallback"] == pytest.approx(0.6931, abs=1e-4)
    assert report["live"]["auc"] == 1.0


def test_a_version_is_listed_once_though_partitions_interleave() -> None:
    """The last answers of the model before may come after the first of the new one."""
    tally = Tally()
    for number, version in enumerate((2, 3, 2, 3)):
        tally.saw("training-examples", example(number, version, correct=True, p=0.5, p_fallback=0.5), 0.0)
    assert tally.models == [{"version": 2, "at_event": 0}, {"version": 3, "at_event": 1}]


def test_without_a_swap_nothing_is_compared() -> None:
    """No published model, no answers after it; the keys are there all the same."""
    after = Tally().report(1.0, read=0)["after_swap"]
    assert after["n"] == 0
    assert set(after) == {"n", "auc_serving", "logloss_serving", "auc_fallback", "logloss_fallback"}


def test_dead_letters_and_swaps_are_counted() -> None:
    """Dead letters count, and the first says why; so does each swap that a worker tells of."""
    tally = Tally()
    for detail in ("score: expected at most 1, found 3", "another"):
        tally.saw("dead-letters", orjson.dumps({"detail": detail}), 0.0)
    tally.saw("model-events", orjson.dumps({"type": "update_started"}), 0.0)
    assert tally.updating
    for type_ in ("quality_measured", "model_swapped"):
        tally.saw("model-events", orjson.dumps({"type": type_}), 0.0)
        assert tally.updating
    tally.saw("model-events", orjson.dumps({"type": "challenger_started"}), 0.0)
    assert (tally.dead, tally.swaps, tally.updating) == (2, 1, False)
    assert tally.first_dead == "score: expected at most 1, found 3"
