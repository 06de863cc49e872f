"""What we send: nothing but what is declared, within its ranges, and the same after a round trip."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas import (
    TOPICS,
    CandidateDropped,
    ChallengerStarted,
    CorrectnessPrediction,
    DeadLetter,
    DriftDetected,
    Emitted,
    ExampleCorrection,
    Forecast,
    GateDecided,
    ItemParameters,
    LearnRequested,
    ModelEvent,
    ModelRefused,
    ModelRollout,
    ModelSwapped,
    PredictionReply,
    QualityMeasured,
    Release,
    RiskExample,
    RiskOutcome,
    RiskPrediction,
    RolledBack,
    TimePrediction,
    TrainingExample,
    UpdateStarted,
    parameters_key,
    risk_category,
)

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SHA256 = "0123456789abcdef" * 4
MODEL = {"name": "knowledge", "version": 3, "variant": "champion"}
SOURCE = {"event_id": "e-1", "topic": "interactions", "partition": 4, "offset": 17}
TIMES = {"expected_seconds": 40.0, "p10": 10.0, "p50": 30.0, "p90": 90.0}
HEAD: dict[str, Any] = {
    "prediction_id": "p-1",
    "user_id": "u-1",
    "source": SOURCE,
    "produced_at": NOW,
    "model": MODEL,
    "fallback": False,
}
RELEASE = {"version": 3, "sha256": SHA256, "path": "knowledge/3", "state_format": "dkt-1"}

CORRECTNESS: dict[str, Any] = HEAD | {
    "targets": [
        {"topic_id": "t", "item_id": "i", "difficulty": "easy", "p_correct": 0.7},
        {"topic_id": "t", "p_correct": 1},
    ],
    "mastery": {"t": 0.4},
    "observed": {"p_before": 0.6, "correct": True},
}
TIME: dict[str, Any] = HEAD | {
    "targets": [{"topic_id": "t"} | TIMES],
    "observed": {"p50_before": 31.0, "response_time_seconds": None},
}
RISK: dict[str, Any] = HEAD | {
    "score": 0.6,
    "category": "High",
    "factors": [{"feature": "absences", "contribution": 0.2, "value": 3.0}],
    "reason": "academics",
    "as_of": NOW,
}
RISK_EXAMPLE: dict[str, Any] = {
    "type": "risk",
    "example_id": "x-2",
    "user_id": "u-1",
    "week": 2923,
    "as_of": NOW,
    "course_id": "c-1",
    "model": MODEL,
    "feature_version": 1,
    "steps": "AAAA",
    "context": {"education": "A level", "credits": 60.0},
    "slices": {"gender": "female"},
    "score": 0.6,
    "score_fallback": 0.5,
    "unheard": {"model": {"name": "risk", "version": 4, "variant": "challenger"}, "score": 0.7},
}
RISK_OUTCOME: dict[str, Any] = {
    "type": "risk_outcome",
    "example_id": "x-3",
    "event_id": "e-1",
    "user_id": "u-1",
    "outcome": "withdrawn",
    "source": HEAD["source"],
    "timestamp": NOW,
}
REPLY: dict[str, Any] = {
    "reply_id": "r-1",
    "request_id": "q-1",
    "user_id": "u-1",
    "produced_at": NOW,
    "model": MODEL,
    "fallback": True,
    "targets": [{"topic_id": "t", "p_correct": 0.5} | TIMES],
}
UNHEARD: dict[str, Any] = {
    "model": {"name": "knowledge", "version": 4, "variant": "challenger"},
    "state_format": "dkt-2",
    "p_before": 0.6,
    "median_before": 55.0,
}
EXAMPLE: dict[str, Any] = {
    "type": "answer",
    "example_id": "x-1",
    "event_id": "e-1",
    "user_id": "u-1",
    "topic_id": "t",
    "item_id": "i",
    "skills": ["t"],
    "difficulty": None,
    "correct": False,
    "response_time_seconds": 12.5,
    "timestamp": NOW,
    "source": SOURCE,
    "model": MODEL,
    "state_format": "dkt-1",
    "state_version": 12,
    "feature_version": 1,
    "features": [0.5, -1.0],
    "p_before": 0.5,
    "p_before_fallback": 0.4,
    "median_before": 60.0,
    "median_before_fallback": 50.0,
    "unheard": UNHEARD,
}
CORRECTION: dict[str, Any] = {
    "type": "correction",
    "example_id": "x-1",
    "event_id": "e-2",
    "user_id": "u-1",
    "correct": True,
    "source": SOURCE,
    "timestamp": NOW,
}
ROLLOUT: dict[str, Any] = {
    "name": "knowledge",
    "champion": RELEASE,
    "previous": None,
    "challenger": RELEASE | {"version": 4},
    "challenger_share": 0.1,
    "decided_at": NOW,
}
ABOUT = {"event_id": "m-1", "name": "knowledge", "at": NOW}
SWAPPED: dict[str, Any] = ABOUT | {"type": "model_swapped", "version": 3, "previous": None, "worker": "w-1"}
REFUSED: dict[str, Any] = ABOUT | {"type": "model_refused", "version": 3, "reason": "digest", "worker": "w-1"}
STARTED: dict[str, Any] = ABOUT | {
    "type": "update_started",
    "answers": 10,
    "candidate_version": 4,
    "trigger": "answers",
}
FIGURES: dict[str, Any] = {"n": 500, "logloss": 0.5, "auc": 0.8, "ece": 0.02, "time_mae_seconds": 9.5}
TRIED: dict[str, Any] = ABOUT | {
    "type": "challenger_started",
    "candidate_version": 4,
    "champion_version": None,
    "share": 0.1,
    "budget": 20_000,
}
DECIDED: dict[str, Any] = ABOUT | {
    "type": "gate_decided",
    "candidate_version": 4,
    "champion_version": None,
    "promoted": True,
    "reason": "better",
    "users": 40,
    "gain": 0.1,
    "needed": 0.05,
    "candidate": FIGURES,
    "champion": FIGURES | {"auc": None},
    "fallback": FIGURES | {"time_mae_seconds": None},
}
DROPPED: dict[str, Any] = ABOUT | {"type": "candidate_dropped", "candidate_version": 4, "reason": "not finite"}
BACK: dict[str, Any] = ABOUT | {
    "type": "rolled_back",
    "version": 4,
    "to_version": None,
    "reason": "worse",
    "n": 300,
    "logloss_before": 0.5,
    "logloss_after": 0.9,
    "worsened": 0.4,
}
REQUESTED: dict[str, Any] = ABOUT | {"type": "learn_requested"}
DRIFTED: dict[str, Any] = ABOUT | {
    "type": "drift_detected",
    "kind": "feature",
    "subject": "gap",
    "before": 0.4,
    "after": 0.7,
    "p_value": 0.001,
}
MEASURED: dict[str, Any] = ABOUT | {
    "type": "quality_measured",
    "overall": FIGURES,
    "fallback": FIGURES,
    "versions": {"4": FIGURES},
    "slices": {"users:new": FIGURES},
}
PARAMETERS: dict[str, Any] = {
    "subject": "item",
    "item_id": "i",
    "topic_id": "t",
    "difficulty": None,
    "difficulty_logit": -0.3,
    "discrimination": 1.0,
    "time_intensity": 3.4,
    "time_sigma": 0.5,
    "answers": 9,
    "correct": 6,
    "timed": 8,
    "version": 2,
    "updated_at": NOW,
}
DEAD: dict[str, Any] = {
    "dead_letter_id": "d-1",
    "reason": "not_json",
    "detail": "expected JSON in UTF-8",
    "topic": "interactions",
    "partition": 0,
    "offset": 5,
    "timestamp": datetime(9000, 1, 1, tzinfo=UTC),
    "key": "dS0x",
    "value": "/w==",
    "value_bytes": 1,
    "value_sha256": SHA256,
    "value_cut": False,
    "headers": [["source", "bG1z"], ["empty", None]],
    "traceback": None,
    "recorded_at": NOW,
}
EMITTED: list[tuple[str, type[Emitted], dict[str, Any]]] = [
    ("predictions.correctness", CorrectnessPrediction, CORRECTNESS),
    ("predictions.time", TimePrediction, TIME),
    ("predictions.risk", RiskPrediction, RISK),
    ("prediction-replies", PredictionReply, REPLY),
    ("training-examples", TrainingExample, EXAMPLE),
    ("training-examples", ExampleCorrection, CORRECTION),
    ("training-examples", RiskExample, RISK_EXAMPLE),
    ("training-examples", RiskOutcome, RISK_OUTCOME),
    ("model-updates", ModelRollout, ROLLOUT),
    ("model-events", ModelSwapped, SWAPPED),
    ("model-events", ModelRefused, REFUSED),
    ("model-events", UpdateStarted, STARTED),
    ("model-events", ChallengerStarted, TRIED),
    ("model-events", GateDecided, DECIDED),
    ("model-events", CandidateDropped, DROPPED),
    ("model-events", RolledBack, BACK),
    ("model-events", LearnRequested, REQUESTED),
    ("model-events", DriftDetected, DRIFTED),
    ("model-events", QualityMeasured, MEASURED),
    ("item-parameters", ItemParameters, PARAMETERS),
    ("dead-letters", DeadLetter, DEAD),
]
every_message = pytest.mark.parametrize(
    ("topic", "model", "content"), EMITTED, ids=[model.__name__ for _, model, _ in EMITTED]
)


@every_message
def test_a_message_is_the_same_after_the_wire(topic: str, model: type[Emitted], content: dict[str, Any]) -> None:
    """What is written to a topic is read back by the topic's contract, with its version."""
    sent = model(**content)
    raw = sent.model_dump_json().encode()
    assert TOPICS[topic].adapter.validate_json(raw) == sent
    assert json.loads(raw)["schema_version"] == 1


@every_message
def test_a_message_has_no_field_that_is_not_declared(topic: str, model: type[Emitted], content: dict[str, Any]) -> None:
    """A slip of the pen does not reach a topic."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        model(**content | {"note": "x"})


@every_message
def test_a_message_cannot_be_changed(topic: str, model: type[Emitted], content: dict[str, Any]) -> None:
    """Messages are frozen, whatever the field."""
    message = model(**content)
    for name in model.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(message, name, None)


@every_message
def test_another_version_is_refused(topic: str, model: type[Emitted], content: dict[str, Any]) -> None:
    """A message of a schema that we do not know is not taken for one that we do."""
    with pytest.raises(ValidationError, match="schema_version"):
        model(**content, schema_version=2)


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (CorrectnessPrediction, CORRECTNESS | {"targets": [{"topic_id": "t", "p_correct": 1.01}]}),
        (CorrectnessPrediction, CORRECTNESS | {"targets": [{"topic_id": "t", "p_correct": float("nan")}]}),
        (CorrectnessPrediction, CORRECTNESS | {"mastery": {"t": -0.1}}),
        (CorrectnessPrediction, CORRECTNESS | {"observed": {"p_before": 0.5, "correct": 1}}),
        (CorrectnessPrediction, CORRECTNESS | {"produced_at": NOW.replace(tzinfo=None)}),
        (CorrectnessPrediction, CORRECTNESS | {"produced_at": 1_769_851_800}),
        (CorrectnessPrediction, CORRECTNESS | {"user_id": ""}),
        (CorrectnessPrediction, CORRECTNESS | {"source": SOURCE | {"offset": -1}}),
        (CorrectnessPrediction, CORRECTNESS | {"model": MODEL | {"variant": "spare"}}),
        (TimePrediction, TIME | {"targets": [{"topic_id": "t"} | TIMES | {"p10": 0}]}),
        (TimePrediction, TIME | {"targets": [{"topic_id": "t"} | TIMES | {"p90": float("inf")}]}),
        (RiskPrediction, RISK | {"score": 1.5, "category": "Critical"}),
        (RiskPrediction, RISK | {"factors": RISK["factors"] * 6}),
        (RiskPrediction, RISK | {"reason": "because"}),
        (RiskExample, RISK_EXAMPLE | {"score_fallback": 1.5}),
        (RiskExample, RISK_EXAMPLE | {"context": {"education": None}}),
        (RiskExample, RISK_EXAMPLE | {"slices": {"gender": 1}}),
        (RiskOutcome, RISK_OUTCOME | {"outcome": "expelled"}),
        (TrainingExample, EXAMPLE | {"features": [float("nan")]}),
        (TrainingExample, EXAMPLE | {"median_before": 0}),
        (ModelRollout, ROLLOUT | {"challenger_share": 1.5}),
        (ModelRollout, ROLLOUT | {"champion": RELEASE | {"version": 0}}),
        (ModelSwapped, SWAPPED | {"type": "model_refused"}),
        (GateDecided, DECIDED | {"candidate": FIGURES | {"auc": 1.2}}),
        (ChallengerStarted, TRIED | {"share": 1.5}),
        (DriftDetected, DRIFTED | {"p_value": 2.0}),
        (TrainingExample, EXAMPLE | {"unheard": UNHEARD | {"p_before": 1.2}}),
        (ItemParameters, PARAMETERS | {"discrimination": 0}),
        (DeadLetter, DEAD | {"value_sha256": "abc"}),
    ],
)
def test_a_value_out_of_its_range_is_never_sent(model: type[Emitted], content: dict[str, Any]) -> None:
    """Ranges are held on the way out as well."""
    with pytest.raises(ValidationError):
        model(**content)


@pytest.mark.parametrize(
    ("score", "category"),
    [
        (0, "Low"),
        (0.2499, "Low"),
        (0.25, "Medium"),
        (0.5, "High"),
        (0.7499, "High"),
        (0.75, "Critical"),
        (1, "Critical"),
    ],
)
def test_a_limit_belongs_to_the_higher_category(score: float, category: str) -> None:
    """Low < .25, Medium < .5, High < .75, Critical from there on."""
    assert risk_category(score) == category
    assert RiskPrediction(**RISK | {"score": score, "category": category}).category == category


@given(score=st.floats(min_value=0, max_value=1), category=st.sampled_from(["Low", "Medium", "High", "Critical"]))
def test_a_category_is_never_at_odds_with_its_score(score: float, category: str) -> None:
    """A prediction whose category is not its score's cannot be made."""
    content = RISK | {"score": score, "category": category}
    if category == risk_category(score):
        RiskPrediction(**content)
    else:
        with pytest.raises(ValidationError, match="category"):
            RiskPrediction(**content)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a/..", "..", "a\\..\\x", "C:x", "", "a\0b"])
def test_a_release_stays_in_the_folder_of_artifacts(path: str) -> None:
    """A path that leads out, on any system, is refused."""
    with pytest.raises(ValidationError):
        Release.model_validate(RELEASE | {"path": path})


@pytest.mark.parametrize("path", ["knowledge/3", "a..b/c", "x"])
def test_a_release_may_be_anywhere_in_the_folder(path: str) -> None:
    """Ordinary paths are kept as they are."""
    assert Release.model_validate(RELEASE | {"path": path}).path == path


@pytest.mark.parametrize("content", [SWAPPED, REFUSED, STARTED, DECIDED])
def test_a_model_event_is_told_by_its_type(content: dict[str, Any]) -> None:
    """One topic carries all of them."""
    event: BaseModel = TypeAdapter[Any](ModelEvent).validate_python(content)
    assert event.model_dump()["type"] == content["type"]


@pytest.mark.parametrize(
    ("named", "key"),
    [
        ({"subject": "item", "item_id": "i-1"}, b"item/i-1"),
        ({"subject": "topic", "topic_id": "t"}, b"topic/t"),
        ({"subject": "topic_difficulty", "topic_id": "t", "difficulty": "hard"}, b"topic/t/hard"),
        ({"subject": "population"}, b"population"),
        ({"subject": "topic", "topic_id": "t/hard"}, b"topic/t%2Fhard"),
        ({"subject": "item", "item_id": "é%2F"}, "item/é%252F".encode()),
    ],
)
def test_parameters_are_kept_under_their_subject(named: dict[str, Any], key: bytes) -> None:
    """Each subject has one key, and no two subjects share one."""
    nobody = {"item_id": None, "topic_id": None, "difficulty": None}
    assert parameters_key(ItemParameters(**PARAMETERS | nobody | named)) == key


@pytest.mark.parametrize(
    "named",
    [
        {"subject": "item", "item_id": None},
        {"subject": "topic", "topic_id": None},
        {"subject": "topic_difficulty", "difficulty": None},
        {"subject": "topic_difficulty", "difficulty": "easy", "topic_id": None},
        {"subject": "everything"},
    ],
)
def test_parameters_name_their_subject(named: dict[str, Any]) -> None:
    """Parameters of something without a name are refused."""
    with pytest.raises(ValidationError):
        ItemParameters(**PARAMETERS | named)


def test_a_forecast_says_both_what_and_how_long() -> None:
    """A forecast without a time is none."""
    with pytest.raises(ValidationError, match="p50"):
        Forecast.model_validate({"topic_id": "t", "p_correct": 0.5} | {k: v for k, v in TIMES.items() if k != "p50"})
