"""The demo's figures are made of what consumers of the topics see."""

from typing import Any

import orjson
import pytest

from schemas import risk_category
from stream.demo.counted import ACADEMICS, ANSWERS
from stream.demo.tally import EXAMPLES, Tally


def answer(number: int) -> tuple[str, dict[str, Any]]:
    """Return the part of an answer that the tally looks at, after its topic."""
    return "interactions", {"event_id": f"e{number}", "type": "quiz_complete"}


def prediction(number: int, kind: str) -> bytes:
    """Return the part of a prediction that the tally looks at."""
    return orjson.dumps({"prediction_id": f"{kind}-{number}", "source": {"event_id": f"e{number}"}, "user_id": "u"})


def risk(
    number: int,
    score: float,
    *,
    user: str = "u",
    day: int | None = None,
    reason: str = "academics",
    version: int = 0,
    outcome: str | None = None,
) -> bytes:
    """Return the part of a risk prediction that the tally looks at."""
    factors = [
        {"feature": "missing", "contribution": 1.27, "value": 2.0},
        {"feature": "education=A level", "contribution": -0.04, "value": None},
    ]
    return orjson.dumps(
        {"prediction_id": f"risk-{number}", "source": {"event_id": f"e{number}"}, "user_id": user, "score": score,
         "category": risk_category(score), "reason": reason, "factors": factors, "outcome": outcome,
         "model": {"version": version}, "as_of": f"2026-03-{number if day is None else day:02d}T10:00:00Z"}
    )  # fmt: skip


def example(number: int, version: int, *, correct: bool, p: float, p_fallback: float) -> bytes:
    """Return the part of a training example that the tally looks at."""
    return orjson.dumps(
        {"event_id": f"e{number}", "model": {"version": version}, "correct": correct, "p_before": p,
         "p_before_fallback": p_fallback}
    )  # fmt: skip


def test_answers_count_when_both_predictions_have_come() -> None:
    """An answer is done when correctness and time are there; latency is from sent to correctness."""
    tally = Tally()
    tally.sent(*answer(1), at=10.0)
    tally.sent("interactions", {"event_id": "view", "type": "resource_view"}, at=10.0)
    tally.saw("predictions.correctness", prediction(1, "correctness"), 10.25)
    assert tally.answered == 0
    tally.saw("predictions.time", prediction(1, "time"), 10.5)
    tally.saw("predictions.risk", risk(1, 0.6, reason="first_interaction_of_day"), 10.5)
    assert (tally.answered, tally.answers_sent, tally.events_sent) == (1, 1, 2)
    assert tally.latency_s() == {"p50": 0.25, "p99": 0.25}
    assert tally.report(2.0, read=2)["predictions"] == {"correctness": 1, "time": 1, "risk": 1}


def test_academic_events_count_when_their_risk_has_come() -> None:
    """Only the prediction of the event itself counts, once; where there are no answers, latency is of these."""
    tally = Tally()
    for number in (1, 2):
        tally.sent("academics", {"event_id": f"e{number}", "type": "attendance_recorded"}, at=10.0)
    tally.saw("predictions.risk", risk(1, 0.1), 10.5)
    tally.saw("predictions.risk", risk(1, 0.1), 10.7)
    tally.saw("predictions.risk", risk(7, 0.1, reason="week_closed"), 10.8)
    assert (tally.academics_sent, tally.scored, tally.due, tally.done) == (2, 1, 2, 1)
    assert (tally.of(ACADEMICS), tally.of(ANSWERS)) == (1, 0)
    assert tally.latency_s() == {"p50": 0.5, "p99": 0.5}
    report = tally.report(1.0, read=2)
    assert report["events"] == {"answers": 0, "academics": 2, "sent": 2, "read": 2, "dead": 0}
    assert report["risk"]["by_reason"] == {"academics": 2, "first_interaction_of_day": 0, "week_closed": 1}


def test_users_enter_high_and_leave_it() -> None:
    """High and Critical are one side of the line: a change is told when a user crosses it, with its factors."""
    tally = Tally()
    for number, score in enumerate((0.1, 0.6, 0.9, 0.4, 0.3, 0.75), start=1):
        tally.saw("predictions.risk", risk(number, score), 0.0)
    assert [change.entered for change in tally.changes] == [True, False, True]
    report = tally.report(1.0, read=0)["risk"]
    assert (report["entered_high"], report["left_high"]) == (2, 1)
    assert report["categories"] == {"Low": 0, "Medium": 0, "High": 0, "Critical": 1}
    assert [(change["from"], change["to"]) for change in report["examples"]] == [
        ("Low", "High"), ("Critical", "Medium"), ("Medium", "Critical"),
    ]  # fmt: skip
    assert report["examples"][0]["factors"] == [
        {"feature": "missing", "contribution": 1.27, "value": 2.0},
        {"feature": "education=A level", "contribution": -0.04, "value": None},
    ]
    assert orjson.loads(orjson.dumps(report)) == report


def test_a_user_may_be_in_high_from_the_first_prediction_on() -> None:
    """Nothing was said before: it counts as entering; a first prediction below the line is no change."""
    tally = Tally()
    tally.saw("predictions.risk", risk(1, 0.8, user="new"), 0.0)
    tally.saw("predictions.risk", risk(2, 0.2, user="other"), 0.0)
    (change,) = tally.changes
    assert (change.user_id, change.before, change.entered) == ("new", None, True)
    assert change.as_json()["from"] is None


def test_a_users_risks_are_in_the_order_of_event_time() -> None:
    """What holds for an earlier moment than is known already changes nothing but the counts."""
    tally = Tally()
    tally.saw("predictions.risk", risk(1, 0.2, day=9), 0.0)
    tally.saw("predictions.risk", risk(2, 0.9, day=8), 0.0)
    assert tally.changes == []
    assert tally.categories()["Low"] == 1
    assert tally.counts["risk"] == 2


def test_the_report_shows_some_changes_of_either_kind() -> None:
    """However many there were, the latest few that entered and that left."""
    tally = Tally()
    for number in range(100):
        tally.saw("predictions.risk", risk(1, 0.9, user=f"u{number}"), 0.0)
    tally.saw("predictions.risk", risk(2, 0.1, user="u3"), 0.0)
    report = tally.report(1.0, read=0)["risk"]
    assert (report["entered_high"], report["left_high"], len(report["examples"])) == (100, 1, EXAMPLES + 1)
    assert report["examples"][-1]["to"] == "Low"


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


def test_only_answers_are_judged() -> None:
    """Corrections and examples of risk come on the same topic, and have no answer to be judged by."""
    tally = Tally()
    for kind in ("correction", "risk", "risk_outcome"):
        tally.saw("training-examples", orjson.dumps({"type": kind, "event_id": "e1"}), 0.0)
    assert (tally.examples, tally.outcomes) == (3, [])


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
    told(tally, "update_started")
    assert tally.updating == {"knowledge"}
    for type_ in ("quality_measured", "model_swapped"):
        told(tally, type_)
        assert tally.updating == {"knowledge"}
    told(tally, "challenger_started")
    assert (tally.dead, tally.swaps["knowledge"], tally.updating) == (2, 1, set())
    assert tally.first_dead == "score: expected at most 1, found 3"


def test_the_two_models_are_told_apart() -> None:
    """Swaps and gates of the risk model are its own: none of them counts as one of what predicts answers."""
    tally = Tally()
    for type_ in ("update_started", "gate_decided", "model_swapped"):
        told(tally, type_, name="risk")
    tally.saw("predictions.risk", risk(1, 0.2, version=3), 0.0)
    report = tally.report(1.0, read=0)
    assert (report["swaps"], report["gate_decisions"]) == (0, 0)
    assert (report["risk"]["swaps"], report["risk"]["gate_decisions"]) == (1, 1)
    assert (tally.updating, tally.risk_version) == ({"risk"}, 3)


def told(tally: Tally, type_: str, name: str = "knowledge") -> None:
    """Show the tally a model event."""
    tally.saw("model-events", orjson.dumps({"type": type_, "name": name}), 0.0)


def test_users_whose_course_has_ended_are_at_risk_no_more() -> None:
    """They are counted by what was said before the end, not by what is said of the end itself; none leaves High."""
    tally = Tally()
    tally.saw("predictions.risk", risk(1, 0.9, user="lost"), 1.0)
    tally.saw("predictions.risk", risk(2, 0.6, user="saved"), 1.0)
    tally.saw("predictions.risk", risk(3, 0.1, user="fine"), 1.0)
    tally.saw("predictions.risk", risk(4, 0.2, user="lost", outcome="withdrawn"), 2.0)
    tally.saw("predictions.risk", risk(5, 0.7, user="saved", outcome="fail"), 2.0)
    tally.saw("predictions.risk", risk(6, 0.7, user="saved", outcome="pass"), 3.0)
    found = tally.risk()
    assert found["categories"] == {"Low": 1, "Medium": 0, "High": 0, "Critical": 0}
    assert found["ended"]["Critical"] == {"users": 1, "failed_or_left": 1}
    assert found["ended"]["High"] == {"users": 1, "failed_or_left": 0}
    assert (found["entered_high"], found["left_high"]) == (2, 0)
