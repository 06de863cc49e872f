"""Messages on their way out: ids that repeat, times from log-normals, numbers that JSON can hold."""

import json
import uuid
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import TimePrediction
from schemas.base import EVENT_NAMESPACE
from stream import emission
from stream.emission import Answered, Asked
from stream.models.features import COUNT
from stream.models.items import question
from stream.ports import Forecast, Message, Record
from tests import laws, networks
from tests.worlds import (
    NOW,
    Core,
    check,
    correctness,
    ended,
    examples,
    grade,
    interaction,
    placed,
    placed_academics,
    risks,
    times,
)


def forecast(mu: float, sigma: float, p: float = 0.5) -> Forecast:
    """Return a forecast of one question."""
    return Forecast(*(np.array([value], np.float32) for value in (p, mu, sigma)))


def messages_of(said: Forecast) -> list[Message]:
    """Return the messages of one answer of which everything is said to be the same."""
    event = interaction()
    target = question("area")
    return emission.answer_messages(
        Answered(
            records=[Record("interactions", 2, 7, b"u-1", None, 0.0)],
            events=[event],
            identity=networks.fallback().identity,
            failed=False,
            asked=[Asked([target], [], [target])],
            forecast=Forecast(*(np.repeat(column, 2) for column in (said.p_correct, said.mu, said.sigma))),
            fallback=said,
            features=np.zeros((1, COUNT), np.float32),
            answers_before=np.zeros(1, np.uint32),
        ),
        NOW,
    )


def test_ids_are_of_event_and_kind() -> None:
    """An event's prediction has the same id whenever, wherever and by whatever it is made; each kind has its own."""
    kinds = ("correctness", "time", "risk", "example", "reply")
    ids = [emission.prediction_id("e-1", kind) for kind in kinds]
    assert ids == [emission.prediction_id("e-1", kind) for kind in kinds]
    assert len({*ids, emission.prediction_id("e-2", "time")}) == 6
    assert all(uuid.UUID(each).version == 5 for each in ids)
    first = Core().feed(placed([interaction(event_id="e-1")])).messages
    later = Core(networks.random_dkt()).feed(placed([interaction(event_id="e-1")], first=900)).messages
    assert [m.message_id for m in first] == [m.message_id for m in later]


def test_ids_never_change() -> None:
    """Consumers drop repeats by id, over releases: these are pinned."""
    assert emission.prediction_id("e-1", "correctness") == "91c7ca43-cc6e-5942-92ca-9e98ab8fc286"


def test_a_prediction_names_its_source_and_model() -> None:
    """Event, topic, partition and offset; name, version and variant."""
    message = messages_of(forecast(4.0, 0.5))[1]
    prediction = TimePrediction.model_validate_json(message.value)
    assert (prediction.source.topic, prediction.source.partition, prediction.source.offset) == ("interactions", 2, 7)
    assert (prediction.model.name, prediction.model.version, prediction.model.variant) == ("knowledge", 0, "fallback")
    assert prediction.fallback
    assert message.message_id == prediction.prediction_id
    assert prediction.produced_at == NOW


def test_times_are_those_of_a_log_normal() -> None:
    """The mean is exp(mu + sigma²/2), the median exp(mu), and a tenth lies on either side of p10 and p90."""
    (prediction,) = times(messages_of(forecast(np.log(40.0), 0.5)))
    (target,) = prediction.targets
    random = np.random.default_rng(1).lognormal(np.log(40.0), 0.5, 400_000)
    assert target.p50 == pytest.approx(40, rel=1e-3)
    assert target.expected_seconds == pytest.approx(random.mean(), rel=5e-3)
    assert (random < target.p10).mean() == pytest.approx(0.1, abs=2e-3)
    assert (random < target.p90).mean() == pytest.approx(0.9, abs=2e-3)


@settings(max_examples=60)
@given(mu=st.floats(-1e6, 1e6, width=32), sigma=st.floats(0, 1e6, width=32), p=st.floats(0, 1, width=32))
def test_any_forecast_keeps_to_the_schema(mu: float, sigma: float, p: float) -> None:
    """However far off a model is, what goes out is positive, finite and in order."""
    messages = messages_of(forecast(mu, sigma, p))
    check(messages)
    for target in times(messages)[0].targets:
        assert 0 < target.p10 < target.p50 < target.p90
        assert np.isfinite(target.expected_seconds)


def test_an_example_carries_the_very_features() -> None:
    """What the trainer gets is, bit for bit, what the prediction was made from."""
    core = Core(networks.random_dkt())
    outcome = core.feed(
        placed([interaction(skills=["area", "ratios"], duration_seconds=None, difficulty=None, item_id=None)])
    )
    (example,) = examples(outcome.messages)
    assert example.skills == ("area", "ratios")
    assert (example.item_id, example.difficulty, example.response_time_seconds) == (None, None, None)
    said = networks.fallback().predict(
        np.zeros((1, 0), np.float16), laws.make_batch(1, 1, 1).questions, np.array([example.features], np.float32)
    )
    assert example.p_before_fallback == pytest.approx(said.p_correct[0], abs=1e-6)
    assert example.median_before_fallback == pytest.approx(np.exp(said.mu[0]), rel=1e-4)
    (prediction,) = correctness(outcome.messages)
    assert prediction.observed.p_before == example.p_before


def test_a_served_model_is_not_marked_as_fallback() -> None:
    """`fallback` says whether the fallback spoke; the model says which."""
    (prediction,) = correctness(Core(networks.random_dkt()).feed(placed([interaction()])).messages)
    assert not prediction.fallback
    assert (prediction.model.version, prediction.model.variant) == (1, "champion")


def test_risk_is_marked_as_the_fallback_that_it_is() -> None:
    """The logistic score is no network yet, and says so."""
    (risk,) = risks(Core().feed(placed([interaction()])).messages)
    assert risk.fallback
    assert (risk.model.name, risk.model.version, risk.model.variant) == ("risk", 0, "fallback")
    assert risk.prediction_id == emission.prediction_id(risk.source.event_id, "risk")


def test_an_outcome_and_a_label_go_to_the_trainer() -> None:
    """How a course ended, or what an adviser says, under an id of its own and with its place."""
    core = Core()
    label = grade(at_s=60, type="risk_labelled", score=0.9, event_id="l-1")
    outcome = core.feed_academics(placed_academics([ended(0, "withdrawn", event_id="o-1"), label]))
    check(outcome.messages)
    of_topic = [json.loads(m.value) for m in outcome.messages if m.topic == "training-examples"]
    assert [(o["type"], o["event_id"], o["outcome"], o["score"]) for o in of_topic] == [
        ("risk_outcome", "o-1", "withdrawn", None), ("risk_outcome", "l-1", None, 0.9),
    ]  # fmt: skip
    assert [o["example_id"] for o in of_topic] == [
        emission.prediction_id(id_, "risk_outcome") for id_ in ("o-1", "l-1")
    ]
    assert [o["source"]["offset"] for o in of_topic] == [0, 1]
    assert len(risks(outcome.messages)) == len(outcome.risk_scores) == 2


@given(event_id=st.text(min_size=1, max_size=80), kind=st.sampled_from(("correctness", "time", "example")))
def test_ids_are_those_of_uuid5(event_id: str, kind: str) -> None:
    """The short way to an id leads to the id that the standard library makes."""
    assert emission.prediction_id(event_id, kind) == str(uuid.uuid5(EVENT_NAMESPACE, f"{event_id}/{kind}"))


def test_a_topic_that_is_a_skill_too_is_predicted_alike() -> None:
    """A topic met before stands among the targets and in the mastery: it is asked once, with one answer."""
    core = Core(networks.random_dkt())
    core.feed(placed([interaction(topic_id="area"), interaction(topic_id="angles", at_s=60, skills=["angles", "x"])]))
    (said,) = correctness(core.feed(placed([interaction(at_s=900)], first=5)).messages)
    of_topics = {target.topic_id: target.p_correct for target in said.targets if target.difficulty is None}
    assert list(of_topics) == ["angles", "area"]
    assert list(said.mastery) == ["fractions", "angles", "x", "area"]
    assert {topic: said.mastery[topic] for topic in of_topics} == of_topics


@pytest.mark.parametrize(
    "text", ["2026-01-05T09:30:00Z", "1970-01-01T00:00:00.000001-03:30", "2100-12-31T23:59:59.12+14:00"]
)
def test_moments_are_written_as_iso_8601(text: str) -> None:
    """The event's moment and the prediction's own read as `isoformat` writes them."""
    event = interaction(timestamp=text, duration_seconds=None)
    messages = Core().feed(placed([event])).messages
    (example,) = (json.loads(message.value) for message in messages if message.topic == "training-examples")
    assert example["timestamp"] == event.timestamp.isoformat()
    assert {json.loads(m.value)["produced_at"] for m in messages if m.topic != "training-examples"} == {NOW.isoformat()}


def test_moments_in_any_zone_go_out_aware() -> None:
    """The event's own moment is kept, its offset too."""
    event = interaction(timestamp="2026-01-05T09:30:00+05:30")
    (example,) = examples(Core().feed(placed([event])).messages)
    assert example.timestamp == event.timestamp
    assert example.timestamp.utcoffset() == timedelta(hours=5, minutes=30)
