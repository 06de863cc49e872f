"""The core: what an event is answered with, that replays and crashes change nothing, that bad events harm no other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas import Interaction, ItemParameters, PredictionReply, PredictionRequest, Target
from stream import pipeline
from stream.demo.simulator import SimulatorSettings, simulate
from stream.intake import Accepted
from stream.models import weekly
from stream.models.dkt import Dkt
from stream.models.items import ItemTable
from stream.models.risk import LogisticRisk
from stream.models.runtime import Graph
from stream.pipeline import Outcome, RiskModels, Users
from stream.ports import Message, Predictor, Risks
from tests import networks
from tests.fakes import FailingPredictor, PoisonedPredictor
from tests.worlds import (
    NOW,
    START,
    TOPIC_NAMES,
    Core,
    answers,
    check,
    correctness,
    examples,
    grade,
    histories,
    interaction,
    placed,
    placed_academics,
    prediction_ids,
    risks,
    times,
    view,
)

every_predictor = pytest.mark.parametrize("predictor", ["fallback", "network"])


def make(predictor: str) -> Predictor:
    """Return one of the predictors."""
    return networks.random_dkt() if predictor == "network" else networks.fallback()


def topics_of(messages: list[Message]) -> list[str]:
    """Return the topics of messages, sorted."""
    return sorted(message.topic for message in messages)


# ---------------------------------------------------------------------------------- what an event is answered with


@every_predictor
def test_an_answer_has_one_prediction_of_each_kind(predictor: str) -> None:
    """Every answer is answered by one correctness and one time prediction, and one training example."""
    outcome = Core(make(predictor)).feed(placed(answers(12)))
    assert len(correctness(outcome.messages)) == len(times(outcome.messages)) == len(examples(outcome.messages)) == 12
    ids = prediction_ids(outcome.messages)
    assert len(set(ids)) == len(ids)


def test_views_and_feedback_are_answered_by_nothing_of_their_own() -> None:
    """A view on a day that has begun brings no message."""
    core = Core()
    core.feed(placed(answers(1)))
    outcome = core.feed(placed([view(at_s=100), view(at_s=200, type="feedback_recommendation")], first=1))
    assert outcome.messages == []
    assert core.learner()["views"] == 1


@every_predictor
def test_every_message_keeps_to_its_schema(predictor: str) -> None:
    """Whatever simulated learners do, what goes out is what the contract says, with ids that never repeat."""
    core = Core(make(predictor))
    stream = list(simulate(3, SimulatorSettings(learners=12), answers=150))
    interactions = placed(interaction(**_known(event)) for topic, event in stream if topic == "interactions")
    academics = placed_academics(grade(**_known(event)) for topic, event in stream if topic == "academics")
    messages = [
        m for start in range(0, len(interactions), 40) for m in core.feed(interactions[start : start + 40]).messages
    ]
    messages += core.feed_academics(academics).messages
    check(messages)
    assert len(correctness(messages)) == 150
    assert len(risks(messages)) > len(academics) > 0
    ids = [message.message_id for message in messages]
    assert len(set(ids)) == len(ids)


def _known(event: dict[str, Any]) -> dict[str, Any]:
    """Return a simulated event as changes of a usual one."""
    nothing: dict[str, Any] = dict.fromkeys(("item_id", "difficulty", "correct", "duration_seconds", "score"))
    return nothing | {"user": event["user_id"]} | event


@settings(max_examples=25)
@given(histories())
def test_any_history_keeps_to_the_schemas(events: list[Interaction]) -> None:
    """The same of drawn histories, through a network."""
    outcome = Core(networks.random_dkt()).feed(placed(events))
    check(outcome.messages)
    assert outcome.dead == []
    assert outcome.fell_back == 0


def test_messages_are_keyed_by_user() -> None:
    """The key decides where a consumer finds a user: always the user's id."""
    outcome = Core().feed(placed([interaction("u-1"), interaction("u-2")]))
    assert {message.key for message in outcome.messages} == {b"u-1", b"u-2"}
    assert all(f'"user_id":"{message.key.decode()}"'.encode() in message.value for message in outcome.messages)


def test_the_targets_of_a_prediction() -> None:
    """The event's topic at each difficulty, the latest other topics, the newest first, and what the event names."""
    core = Core(latest_topics=2)
    events = [interaction(at_s=60 * i, topic_id=topic) for i, topic in enumerate(["area", "ratios", "angles", "area"])]
    named = {"next_items": ["i-7", {"topic_id": "volume", "difficulty": "hard"}]}
    outcome = core.feed(placed([*events, interaction(at_s=900, topic_id="fractions", metadata=named)]))
    prediction, time = correctness(outcome.messages)[-1], times(outcome.messages)[-1]
    expected = [
        ("fractions", None, "easy"),
        ("fractions", None, "medium"),
        ("fractions", None, "hard"),
        ("area", None, None),
        ("angles", None, None),
        ("fractions", "i-7", None),
        ("volume", None, "hard"),
    ]
    for targets in (prediction.targets, time.targets):
        assert [(target.topic_id, target.item_id, target.difficulty) for target in targets] == expected


def test_no_latest_topics_if_none_are_wished() -> None:
    """The number of latest topics is a setting, 0 among its values."""
    outcome = Core(latest_topics=0).feed(
        placed([interaction(topic_id="area"), interaction(at_s=60, topic_id="ratios")])
    )
    assert len(correctness(outcome.messages)[-1].targets) == 3


def test_mastery_covers_the_events_skills_and_the_latest() -> None:
    """Mastery is said of the event's skills and of the 16 latest met, once each."""
    core = Core()
    core.feed(placed([interaction(at_s=60 * i, topic_id="t", skills=[f"s-{i}"]) for i in range(19)]))
    outcome = core.feed(placed([interaction(at_s=5_000, topic_id="t", skills=["new", "s-18"])], first=50))
    mastery = correctness(outcome.messages)[0].mastery
    assert set(mastery) == {"new", *(f"s-{i}" for i in range(4, 19))}
    assert all(0 < p < 1 for p in mastery.values())


def test_quantiles_are_in_order() -> None:
    """Of every target p10 < p50 < p90, and the mean of a log-normal is above its median."""
    outcome = Core(networks.random_dkt()).feed(placed(answers(5, duration_seconds=900.0)))
    for prediction in times(outcome.messages):
        for target in prediction.targets:
            assert target.p10 < target.p50 < target.p90
            assert target.expected_seconds > target.p50


def test_with_nothing_known_it_is_half_and_a_minute() -> None:
    """Of an unknown user and item: 50% and 60 s."""
    request = PredictionRequest(
        request_id="r", user_id="nobody", targets=(Target(topic_id="t"), Target(topic_id="t", item_id="i"))
    )
    core = Core()
    message = pipeline.reply(request, core.users(["nobody"]).learners, core.models, NOW)
    check([message])
    reply = pipeline_reply(message)
    assert [target.p_correct for target in reply.targets] == [0.5, 0.5]
    assert [target.expected_seconds for target in reply.targets] == [pytest.approx(60.0), pytest.approx(60.0)]
    observed = correctness(core.feed(placed([interaction()])).messages)[0].observed
    assert observed.p_before == 0.5


def pipeline_reply(message: Message) -> PredictionReply:
    """Return the reply in a message."""
    return PredictionReply.model_validate_json(message.value)


@every_predictor
def test_a_reply_says_what_a_prediction_says(predictor: str) -> None:
    """What is asked right after an answer is answered like that answer's prediction, and changes nothing."""
    core = Core(make(predictor))
    outcome = core.feed(placed([*answers(4), interaction(at_s=500, item_id="i-3")]))
    said = correctness(outcome.messages)[-1]
    before = dict(core.learners)
    request = PredictionRequest(
        request_id="r",
        user_id="u-1",
        targets=tuple(Target(topic_id=t.topic_id, difficulty=t.difficulty) for t in said.targets),
        timestamp=interaction(at_s=500).timestamp,
    )
    record = core.users(["u-1"]).learners
    untouched = record.copy()
    reply = pipeline_reply(pipeline.reply(request, record, core.models, NOW))
    assert [t.p_correct for t in reply.targets] == pytest.approx([t.p_correct for t in said.targets], abs=1e-3)
    assert record == untouched
    assert core.learners == before
    assert reply.fallback is (predictor == "fallback")


def test_a_reply_of_a_failing_model_is_the_fallbacks() -> None:
    """A request is answered even if the model fails, and the reply says so."""
    core = Core(FailingPredictor(networks.random_dkt()))
    request = PredictionRequest(request_id="r", user_id="u", targets=(Target(topic_id="t"),))
    reply = pipeline_reply(pipeline.reply(request, core.users(["u"]).learners, core.models, NOW))
    assert reply.fallback
    assert reply.model.variant == "fallback"


# ------------------------------------------------------------------------------------------------------------ risk


def test_risk_is_said_on_a_users_first_interaction_of_a_day() -> None:
    """Answer or view, the first event of a day in event time is answered by a risk prediction, others are not."""
    day = 86_400.0
    core = Core()
    events = [view(at_s=0), interaction(at_s=60), interaction(at_s=day), view(at_s=day + 5), interaction(at_s=3 * day)]
    said = [[risk.reason for risk in risks(core.feed([accepted]).messages)] for accepted in placed(events)]
    first = ["first_interaction_of_day"]
    assert said == [first, [], first, [], first]


def test_the_first_of_a_day_is_scored_as_all_stood_before_it() -> None:
    """The answer that brings it is not in what the model sees: nothing is known of a user's first, its result least."""

    class Watching(LogisticRisk):
        """Keeps what it sees."""

        def __init__(self) -> None:
            self.seen: list[weekly.Seen] = []

        def score(self, seen: weekly.Seen) -> Risks:
            """Keep it."""
            self.seen.append(seen)
            return super().score(seen)

    model, day, place = Watching(), 86_400.0, weekly.NAMES.index("success_rate")
    core = Core(risk=RiskModels(model))
    events = [interaction(), interaction(at_s=60, correct=False, item_id="i-2"), interaction(at_s=day, item_id="i-3")]
    core.feed(placed(events))
    first, second = (seen.steps[0, -1, place] for seen in model.seen)
    assert np.isnan(first)
    assert second == pytest.approx(0.5)
    assert core.learner()["risk_day"] == (START.timestamp() + day) // day


def test_a_late_event_begins_no_day() -> None:
    """An event of a day that lies behind brings no risk prediction."""
    core = Core()
    core.feed(placed([interaction(at_s=5 * 86_400)]))
    assert risks(core.feed(placed([interaction(at_s=0)], first=1)).messages) == []


def test_each_users_day_is_its_own() -> None:
    """Every user of a batch has a first event of the day, and its risk goes by the user's own weeks."""
    core = Core()
    bad = [grade("u-2", at_s=60 * i, type="attendance_recorded", score=None, status="absent") for i in range(5)]
    core.feed_academics(placed_academics(bad))
    outcome = core.feed(placed([interaction("u-1"), interaction("u-2"), view("u-3"), interaction("u-1", at_s=60)]))
    scores = {risk.user_id: risk.score for risk in risks(outcome.messages)}
    assert scores.keys() == {"u-1", "u-2", "u-3"}
    assert scores["u-2"] > scores["u-1"] + 0.2


def test_every_academic_event_is_answered_by_a_risk_prediction() -> None:
    """One risk prediction for each, its category from its score, its factors those that moved it."""
    core = Core()
    events = [
        grade(at_s=0, score=95),
        *(grade(at_s=60 * i, type="attendance_recorded", score=None, status="absent") for i in range(1, 6)),
        grade(at_s=900, score=5),
        grade(at_s=1_000, type="discipline_recorded", score=None, severity="major"),
    ]
    outcome = core.feed_academics(placed_academics(events))
    check(outcome.messages)
    said = risks(outcome.messages)
    assert [risk.source.offset for risk in said] == list(range(8))
    assert {risk.reason for risk in said} == {"academics"}
    assert said[0].category == "Low"
    assert said[-1].category == "Critical"
    factors = {factor.feature: factor for factor in said[-1].factors}
    assert {"absent_rate", "grade_mean", "severity_recent"} <= factors.keys()
    assert all(factors[name].contribution > 0 for name in ("absent_rate", "grade_mean", "severity_recent"))
    assert factors["absent_rate"].value == 1
    assert factors["severity_recent"].value == 4
    assert [risk.as_of for risk in said] == sorted(event.timestamp for event in events)


# ---------------------------------------------------------------------------------------- replays, crashes, batches


@every_predictor
@settings(max_examples=25)
@given(events=histories(), data=st.data())
def test_a_crash_changes_nothing(predictor: str, events: list[Interaction], data: st.DataObject) -> None:
    """
    After a crash tables are read again, and events come again from an earlier offset: none is doubled, none lost.

    Event by event, so that states must be the same to the bit.
    """
    log = placed(events)
    undisturbed = Core(make(predictor))
    expected = undisturbed.feed_one_by_one(log)
    core = Core(make(predictor))
    crash = data.draw(st.integers(0, len(log)), label="crash after")
    back = data.draw(st.integers(0, crash), label="events come again from")
    said = core.feed_one_by_one(log[:crash])
    core = core.restarted()
    said += core.feed_one_by_one(log[back:])
    assert core.learners == undisturbed.learners
    assert prediction_ids(said) == prediction_ids(expected)
    assert said == expected


@every_predictor
@settings(max_examples=25)
@given(events=histories(), data=st.data())
def test_a_batch_equals_its_events_one_at_a_time(
    predictor: str, events: list[Interaction], data: st.DataObject
) -> None:
    """However a log is cut: counters are exactly the same, predictions the same but for the last digits."""
    log = placed(events)
    single, batched = Core(make(predictor)), Core(make(predictor))
    expected = single.feed_one_by_one(log)
    cut = data.draw(st.integers(0, len(log)), label="cut")
    said = batched.feed(log[:cut]).messages + batched.feed(log[cut:]).messages
    for user in single.learners:
        ours, theirs = batched.learner(user), single.learner(user)
        for name in ours.dtype.names or ():
            if name in ("hidden", "ability", "ability_var", "speed", "speed_var"):
                np.testing.assert_allclose(
                    ours[name].astype(float), theirs[name].astype(float), atol=2e-3, rtol=2e-3, err_msg=name
                )
            else:
                assert np.array_equal(ours[name], theirs[name]), name
    assert sorted(map(str, prediction_ids(said))) == sorted(map(str, prediction_ids(expected)))
    by_id = {prediction.prediction_id: prediction for prediction in correctness(said)}
    for prediction in correctness(expected):
        found = by_id[prediction.prediction_id]
        assert found.observed.p_before == pytest.approx(prediction.observed.p_before, abs=2e-3)
        assert [t.p_correct for t in found.targets] == pytest.approx(
            [t.p_correct for t in prediction.targets], abs=2e-3
        )
        assert found.mastery == pytest.approx(prediction.mastery, abs=2e-3)
    of_time = {prediction.prediction_id: prediction for prediction in times(said)}
    for time in times(expected):
        medians = [target.p50 for target in of_time[time.prediction_id].targets]
        assert medians == pytest.approx([target.p50 for target in time.targets], rel=1e-2)


@every_predictor
def test_a_users_events_of_a_batch_go_in_order(predictor: str) -> None:
    """The second answer of a user in a batch is predicted with the first one learned."""
    first, second = interaction(at_s=0, correct=False), interaction(at_s=600, item_id="i-2", correct=True)
    together = Core(make(predictor)).feed(placed([first, interaction("u-2", at_s=5), second]))
    alone = Core(make(predictor))
    alone.feed(placed([first]))
    apart = alone.feed(placed([second], first=2))
    mine = [p for p in correctness(together.messages) if p.user_id == "u-1"]
    assert [p.source.offset for p in mine] == [0, 2]
    assert mine[1].observed.p_before == pytest.approx(correctness(apart.messages)[0].observed.p_before, abs=1e-3)
    assert mine[1].observed.p_before < 0.5


def test_states_given_are_not_changed() -> None:
    """The pipeline returns next states; those that it was given stay what they were, whatever happens."""
    core = Core(networks.random_dkt())
    core.feed(placed(answers(3)))
    users = core.users(["u-1"])
    before = users.learners.copy()
    pipeline.interactions(placed(answers(3, every_s=7), first=10), users, core.models, 3, NOW)
    assert users.learners == before


def test_a_replayed_batch_is_quiet_for_academics_too() -> None:
    """The same of academic events, over a crash."""
    log = placed_academics([grade(at_s=60 * i, score=10 * i) for i in range(6)])
    core = Core()
    core.feed_academics(log[:4])
    core = core.restarted()
    outcome = core.feed_academics(log)
    assert (outcome.repeated, len(outcome.messages)) == (4, 2)
    undisturbed = Core()
    undisturbed.feed_academics(log)
    assert core.academics == undisturbed.academics


def test_an_event_learned_by_offset_is_seen_even_if_its_id_is_forgotten() -> None:
    """Ids are remembered for a bounded number of events, offsets for ever."""
    core = Core(remembered=5)
    log = placed(answers(40))
    core.feed(log)
    assert core.feed(log[:3]).repeated == 3


# ---------------------------------------------------------------------------------------------- what raises, fails


def poisoned(*items: str) -> PoisonedPredictor:
    """Return a network that raises something unforeseen over these items."""
    return PoisonedPredictor(networks.random_dkt(), items)


def sixteen() -> list[Accepted[Interaction]]:
    """Return sixteen answers of five users."""
    return placed(
        [interaction(f"u-{i % 5}", at_s=60 * i, item_id=f"i-{i}", topic_id=TOPIC_NAMES[i % 6]) for i in range(16)]
    )


@pytest.mark.parametrize("bad", [[0], [7], [15], [3, 4], [2, 11], [0, 15]])
def test_an_event_that_raises_is_put_aside_alone(bad: list[int]) -> None:
    """What our own code cannot process is dead-lettered with its traceback; the rest is as if it were not there."""
    log = sixteen()
    core = Core(poisoned(*(f"i-{i}" for i in bad)))
    outcome = core.feed(log)
    assert [dead.record.offset for dead in outcome.dead] == bad
    for dead in outcome.dead:
        assert dead.reason == "processing_failed"
        assert "ZeroDivisionError: a defect of ours" in dead.detail
        assert "Traceback" in (dead.traceback or "")
        assert "PoisonedPredictor" in (dead.traceback or "") or "fakes.py" in (dead.traceback or "")
    good = [accepted for i, accepted in enumerate(log) if i not in bad]
    assert sorted(p.source.offset for p in correctness(outcome.messages)) == [a.record.offset for a in good]
    without = Core(poisoned())
    without.feed_one_by_one(good)
    for user in without.learners:
        ours, theirs = core.learner(user), without.learner(user)
        for name in (
            "seen",
            "answers",
            "correct",
            "level_answers",
            "answer_id",
            "concept",
            "concept_answers",
            "concept_at",
        ):
            assert np.array_equal(ours[name], theirs[name]), name
        np.testing.assert_allclose(ours["hidden"], theirs["hidden"], atol=2e-3, rtol=2e-3)


def test_a_batch_of_nothing_but_poison_ends() -> None:
    """If every event raises, every one is dead-lettered, and no state has changed."""
    core = Core(poisoned(*(f"i-{i}" for i in range(16))))
    outcome = core.feed(sixteen())
    assert [dead.record.offset for dead in outcome.dead] == list(range(16))
    assert outcome.messages == []
    assert not any(core.learner(user)["answers"] for user in core.learners)


def test_an_event_is_tried_twice() -> None:
    """What raises once and then no more was no defect of the event: it is predicted, once."""
    calls = 0

    def process(batch: Sequence[Accepted[Interaction]], users: Users) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise MemoryError("for a moment")
        return pipeline.interactions(batch, users, core.models, 3, NOW)

    core = Core()
    outcome = pipeline.survive(placed(answers(1)), core.users(["u-1"]), process)
    assert outcome.dead == []
    assert len(correctness(outcome.messages)) == 1


def test_ctrl_c_is_no_event_that_raises() -> None:
    """Being told to stop is not survived."""

    def process(batch: object, users: Users) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.survive(placed(answers(1)), Core().users(["u-1"]), process)


def test_no_events_are_no_work() -> None:
    """An empty batch leaves users as they are."""
    users = Core().users(["u-1"])

    def process(batch: object, users: Users) -> Outcome:
        pytest.fail("nothing to process")

    outcome = pipeline.survive([], users, process)
    assert (outcome.users, outcome.messages, outcome.dead) == (users, [], [])


def alike(rebuilt: NDArray[np.float16], stepped: NDArray[np.float16]) -> bool:
    """Return whether a state is another but for what was known when its answers were asked, which is not remembered."""
    return float(np.corrcoef(rebuilt.astype(np.float64), stepped.astype(np.float64))[0, 1]) > 0.95


def test_the_fallback_answers_for_a_model_that_fails() -> None:
    """While the model fails the fallback predicts, and says so; when it is back, states are rebuilt."""
    model = FailingPredictor(networks.random_dkt())
    model.is_failing = False
    core = Core(model)
    log = placed(answers(9, every_s=600.0))
    core.feed_one_by_one(log[:3])
    model.is_failing = True
    failed = [core.feed([accepted]) for accepted in log[3:6]]
    assert [outcome.fell_back for outcome in failed] == [1, 1, 1]
    for prediction in correctness([m for outcome in failed for m in outcome.messages]):
        assert prediction.fallback
        assert (prediction.model.variant, prediction.model.version) == ("fallback", 0)
    assert core.learner()["hidden_format"] == 0
    model.is_failing = False
    model.rebuilt = 0
    back = [core.feed([accepted]) for accepted in log[6:]]
    assert [outcome.fell_back for outcome in back] == [0, 0, 0]
    assert not any(p.fallback for outcome in back for p in correctness(outcome.messages))
    assert model.rebuilt == 1
    undisturbed = Core(networks.random_dkt())
    undisturbed.feed_one_by_one(log)
    assert alike(core.learner()["hidden"], undisturbed.learner()["hidden"])


def test_numbers_that_are_not_finite_are_answered_by_the_fallback() -> None:
    """A model that gives NaN is a model that failed: nothing that is not a number goes out or is kept."""

    class Broken(Graph):
        """A graph whose state has been lost."""

        def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
            """Do as the real one, over a state that is not finite."""
            return super().run(outputs, {**inputs, "hidden": inputs["hidden"] * np.nan})

    core = Core(Dkt(Broken(networks.random_model()), networks.random_dkt().identity, ()))
    outcome = core.feed(placed(answers(3)))
    assert outcome.fell_back == 3
    check(outcome.messages)
    assert np.isfinite(core.learner()["hidden"]).all()


def test_the_fallbacks_word_is_kept_beside_the_models() -> None:
    """An example carries what both said, and live quality gets both."""
    outcome = Core(networks.random_dkt()).feed(placed(answers(4)))
    for example, observed in zip(examples(outcome.messages), outcome.observed, strict=True):
        assert example.p_before == pytest.approx(observed["serving_p"], abs=1e-6)
        assert example.median_before == pytest.approx(observed["serving_median_s"], rel=1e-5)
        assert example.p_before_fallback == pytest.approx(observed["fallback_p"], abs=1e-6)
        assert example.median_before_fallback == pytest.approx(observed["fallback_median_s"], rel=1e-5)
        assert example.response_time_seconds == pytest.approx(observed["seconds"])
        assert example.p_before != example.p_before_fallback
        assert example.state_format == "lstm-test-1"
    assert outcome.observed["correct"].tolist() == [True] * 4
    assert outcome.observed["serving_version"].tolist() == [1] * 4
    assert np.isnan(outcome.observed["challenger_p"]).all()


def test_states_of_another_lineage_are_rebuilt_once() -> None:
    """After a swap to another lineage a user's state is rebuilt when the user next appears, and then carried on."""
    core = Core(networks.random_dkt())
    core.feed(placed([*answers(4), *answers(4, user="u-2")]))
    other = FailingPredictor(networks.dkt(networks.random_model(), TOPIC_NAMES[:-1], 9))
    other.is_failing = False
    swapped = core.restarted(predictor=other)
    outcome = swapped.feed(placed([interaction(at_s=900, item_id="i-9")], first=20))
    assert (outcome.fell_back, other.rebuilt) == (0, 1)
    assert correctness(outcome.messages)[0].model.version == 9
    swapped.feed(placed([interaction(at_s=990, item_id="i-8")], first=21))
    assert other.rebuilt == 1
    same = core.restarted(predictor=networks.random_dkt())
    same.feed(placed([interaction(at_s=900, item_id="i-9")], first=20))
    swapped_once = core.restarted(predictor=networks.dkt(networks.random_model(), TOPIC_NAMES[:-1], 9))
    swapped_once.feed(placed([interaction(at_s=900, item_id="i-9")], first=20))
    assert alike(same.learner()["hidden"], swapped_once.learner()["hidden"])


def test_the_tag_of_a_state_format_is_never_none() -> None:
    """Formats have tags of their own, and 0 stands for no state at all."""
    tags = {pipeline.format_tag(f"lstm-{i}") for i in range(1_000)}
    assert len(tags) == 1_000
    assert 0 not in tags


def test_item_parameters_move_predictions() -> None:
    """What the trainer has learned of an item shows in what is said of it."""
    items = ItemTable()
    hard = ItemParameters(
        subject="item",
        item_id="i-1",
        difficulty_logit=2.0,
        discrimination=1.0,
        time_intensity=3.0,
        time_sigma=0.5,
        answers=50,
        correct=5,
        timed=50,
        version=1,
        updated_at=NOW,
    )
    items.update([hard])
    said = correctness(
        Core(items=items).feed(placed([interaction(item_id="i-1"), interaction("u-2", item_id="i-2")])).messages
    )
    assert said[0].observed.p_before < 0.3
    assert said[1].observed.p_before == 0.5


def test_an_outcome_of_another_course_labels_nothing() -> None:
    """The trainer would take it for what became of the present course."""
    core = Core()
    outcome = core.feed_academics(
        placed_academics(
            [
                grade(at_s=0, type="enrolment_recorded", score=None, course_id="a"),
                grade(at_s=60, type="outcome_recorded", score=None, outcome="fail", course_id="b"),
                grade(at_s=120, type="outcome_recorded", score=None, outcome="pass", course_id="a"),
            ]
        )
    )
    labels = [orjson.loads(m.value) for m in outcome.messages if m.topic == "training-examples"]
    assert [label["outcome"] for label in labels] == ["pass"]
    assert [risk.outcome for risk in risks(outcome.messages)] == [None, None, "pass"]
