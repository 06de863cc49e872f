"""A model on trial beside what serves, states that are rebuilt within a budget, and answers corrected later."""

import json

import numpy as np
import pytest

from schemas import Interaction, InvalidEvent, TrainingExample, decode_interaction
from stream.emission import prediction_id
from stream.intake import Accepted
from stream.models.dkt import Dkt
from stream.models.runtime import Graph
from stream.pipeline import Outcome
from stream.ports import Identity
from stream.state.beside import NOWHERE
from stream.state.learner import remembered
from tests import networks
from tests.fakes import FailingPredictor
from tests.worlds import (
    TOPIC_NAMES,
    Core,
    answers,
    check,
    corrections,
    correctness,
    examples,
    interaction,
    placed,
    times,
)

USERS = 12


def challenger(lineage: str = "lstm-test-1", version: int = 7) -> Dkt:
    """Return a predictor on trial that knows one topic less than the champion, so that it says other things."""
    identity = Identity("knowledge", version, "challenger", lineage)
    return Dkt(Graph(networks.random_model()), identity, TOPIC_NAMES[1:])


def some_answers(each: int = 4) -> list[list[Accepted[Interaction]]]:
    """Return the answers of some users, in batches."""
    events = [answers(each, user=f"u-{i}", topic_id=TOPIC_NAMES[i % 5]) for i in range(USERS)]
    turns = [event for turn in zip(*events, strict=True) for event in turn]
    log = placed(turns)
    return [log[start : start + 7] for start in range(0, len(log), 7)]


def fed(core: Core, each: int = 4) -> list[Outcome]:
    """Feed them, and return what became of them."""
    return [core.feed(batch) for batch in some_answers(each)]


def said(outcomes: list[Outcome]) -> list[TrainingExample]:
    """Return the examples of outcomes."""
    return [example for outcome in outcomes for example in examples(outcome.messages)]


def test_a_shadow_is_measured_and_not_heard() -> None:
    """With share 0 what goes out is what would go out without a trial, and examples carry what was said beside."""
    alone, watched = fed(Core(networks.random_dkt())), fed(Core(networks.random_dkt(), challenger=challenger()))
    for without, beside in zip(alone, watched, strict=True):
        check(beside.messages)
        for topic in ("predictions.correctness", "predictions.time"):
            values = [[m.value for m in o.messages if m.topic == topic] for o in (without, beside)]
            assert values[0] == values[1]
    assert all(example.unheard is None for example in said(alone))
    heard = said(watched)
    assert {e.unheard.model.version for e in heard if e.unheard} == {7}
    assert {e.unheard.model.variant for e in heard if e.unheard} == {"challenger"}
    assert all(e.model.version == 1 for e in heard)
    assert any(e.unheard and e.unheard.p_before != e.p_before for e in heard)
    observed = np.concatenate([outcome.observed for outcome in watched])
    assert observed["challenger_p"] == pytest.approx([e.unheard.p_before for e in heard if e.unheard], abs=1e-6)
    medians = [e.unheard.median_before for e in heard if e.unheard]
    assert observed["challenger_median_s"] == pytest.approx(medians, rel=1e-5)
    assert {(row["serving_version"], row["challenger_version"]) for row in observed} == {(1, 7)}


def test_the_challenger_says_what_it_would_say_as_champion() -> None:
    """Its states are those that it would serve with: word for word what it says when it serves all along."""
    as_champion = fed(Core(challenger("lstm-other")))
    as_shadow = fed(Core(networks.fallback(), challenger=challenger("lstm-other")))
    for served, shadow in zip(said(as_champion), said(as_shadow), strict=True):
        assert shadow.unheard is not None
        assert shadow.unheard.p_before == served.p_before
        assert shadow.unheard.median_before == served.median_before
        assert shadow.state_version == served.state_version


def test_a_share_of_the_users_is_served_by_the_challenger() -> None:
    """Those users hear the challenger in all that goes out, the others the champion; each example has both."""
    everyone = fed(Core(challenger("lstm-test-1")))
    nobody = fed(Core(networks.random_dkt()))
    core = Core(networks.random_dkt(), challenger=challenger(), share=0.5)
    shared = fed(core)
    served = {user for user in (f"u-{i}" for i in range(USERS)) if core.models.serves(user)}
    assert 0 < len(served) < USERS
    for mixed, new, old in zip(shared, everyone, nobody, strict=True):
        check(mixed.messages)
        for read in (correctness, times):
            for got, if_new, if_old in zip(*(read(o.messages) for o in (mixed, new, old)), strict=True):
                expected = if_new if got.user_id in served else if_old
                assert got.targets == expected.targets
                assert got.model.variant == ("challenger" if got.user_id in served else "champion")
                assert got.model.version == (7 if got.user_id in served else 1)
    for example, by_new, by_old in zip(said(shared), said(everyone), said(nobody), strict=True):
        both = {example.model.version: example.p_before}
        assert example.unheard is not None
        both[example.unheard.model.version] = example.unheard.p_before
        assert both == {7: by_new.p_before, 1: by_old.p_before}
    observed = np.concatenate([outcome.observed for outcome in shared])
    for row, example in zip(observed, said(shared), strict=True):
        assert row["serving_version"] == example.model.version
        assert row["serving_p"] == pytest.approx(example.p_before, abs=1e-6)
        heard = example.p_before if example.user_id in served else example.unheard and example.unheard.p_before
        assert row["challenger_p"] == pytest.approx(heard, abs=1e-6)


def test_the_share_is_of_users_and_stable() -> None:
    """About as many users as were wished are served, always the same, and more of them as the share grows."""
    users = [f"learner-{i}" for i in range(4_000)]
    model = challenger()
    of_share = {
        share: set(filter(Core(challenger=model, share=share).models.serves, users)) for share in (0.0, 0.1, 0.4)
    }
    assert not of_share[0.0]
    assert abs(len(of_share[0.1]) - 400) < 80
    assert of_share[0.1] < of_share[0.4]


def test_a_warm_started_challenger_goes_on_from_the_champions_states() -> None:
    """It begins in the middle of a user's history with what the champion knows."""
    batches = some_answers(6)
    before = Core(networks.random_dkt())
    for batch in batches[:6]:
        before.feed(batch)
    core = Core(networks.random_dkt(), challenger=challenger())
    core.learners, core.names = dict(before.learners), list(before.names)
    core.models.names.restore(0, core.names)
    core.feed(batches[6])
    users = [accepted.event.user_id for accepted in batches[6]]
    after = core.users(users)
    assert after.beside is not None
    assert (after.beside["answers"] == after.learners["answers"]).all()
    lone = challenger()
    again = Core(lone)
    again.learners = {f"u-{i}": before.learners[f"u-{i}"] for i in range(USERS)}
    again.models.names.restore(0, before.names)
    again.feed(batches[6])
    expected = again.users(users).learners["hidden"]
    assert (after.beside["hidden"] == expected[:, : lone.hidden_size]).all()


def test_a_state_that_has_missed_an_answer_begins_anew() -> None:
    """After a rebalance, or a batch that was undone, states beside that are behind or ahead are not gone on from."""
    core = Core(networks.random_dkt(), challenger=challenger("lstm-other"))
    core.feed(placed(answers(5)))
    assert core.beside is not None
    stale = core.beside.gather([b"u-1"])
    core.feed(placed([interaction(at_s=900)], first=5))
    fresh = core.beside.gather([b"u-1"])
    core.beside.scatter([b"u-1"], [0], stale)
    core.feed(placed([interaction(at_s=1_000)], first=6))
    rebuilt = core.beside.gather([b"u-1"])
    assert fresh["answers"][0] == 6
    assert rebuilt["answers"][0] == 7
    expected = challenger("lstm-other").rebuild(remembered(core.users(["u-1"]).learners))
    assert float(np.corrcoef(rebuilt["hidden"][0], expected[0])[0, 1]) > 0.95


def test_a_challenger_that_fails_harms_nothing() -> None:
    """What serves goes on as if there were none, and that it failed is counted."""
    failing = FailingPredictor(challenger())
    alone, tried = fed(Core(networks.random_dkt())), fed(Core(networks.random_dkt(), challenger=failing, share=0.5))
    for without, beside in zip(alone, tried, strict=True):
        assert beside.unchallenged == len(beside.observed)
        assert beside.fell_back == 0
        assert [p.targets for p in correctness(without.messages)] == [p.targets for p in correctness(beside.messages)]
    assert all(example.unheard is None for example in said(tried))


def test_it_is_on_trial_beside_a_fallback_in_need_too() -> None:
    """Where the champion fails the fallback is heard, and the challenger is measured against what was heard."""
    core = Core(FailingPredictor(networks.random_dkt()), challenger=challenger())
    outcome = core.feed(placed(answers(3)))
    assert outcome.fell_back == 3
    assert [e.model.version for e in examples(outcome.messages)] == [0, 0, 0]
    assert [e.unheard.model.version for e in examples(outcome.messages) if e.unheard] == [7, 7, 7]


# ------------------------------------------------------------------------------------------------ states of others


def another() -> FailingPredictor:
    """Return a model of another lineage that counts whom it rebuilds."""
    model = FailingPredictor(networks.dkt(networks.random_model(), TOPIC_NAMES[:-1], 9))
    model.is_failing = False
    return model


def test_states_are_rebuilt_within_a_budget() -> None:
    """A batch rebuilds as many users as its budget reaches; each of the others is reached when he appears again."""
    core = Core(networks.random_dkt())
    for i in range(6):
        core.feed(placed(answers(10, user=f"u-{i}"), first=10 * i))
    model = another()
    swapped = core.restarted(predictor=model)
    swapped.rebuild_answers = 25
    rounds = []
    for turn in range(3):
        events = [interaction(f"u-{i}", at_s=2_000 + 60 * turn) for i in range(6)]
        before = model.rebuilt
        outcome = swapped.feed(placed(events, first=100 + 10 * turn))
        check(outcome.messages)
        assert outcome.fell_back == 0
        assert {p.model.version for p in correctness(outcome.messages)} == {9}
        rounds.append(model.rebuilt - before)
    assert rounds == [2, 2, 2]
    whole = core.restarted(predictor=another())
    whole.feed(placed([interaction("u-5", at_s=2_000)], first=100))
    rebuilt_late, at_once = swapped.learner("u-0")["hidden"], whole.learner("u-5")["hidden"]
    assert swapped.learner("u-5")["hidden_format"] == whole.learner("u-5")["hidden_format"] != 0
    assert np.isfinite(rebuilt_late).all()
    assert np.isfinite(at_once).all()


def test_whom_the_budget_does_not_reach_hears_nothing_of_the_challenger() -> None:
    """A challenger is measured with the states that it would serve with, never with empty ones of known users."""
    core = Core(networks.random_dkt())
    for i in range(4):
        core.feed(placed(answers(10, user=f"u-{i}"), first=10 * i))
    tried = Core(networks.random_dkt(), challenger=challenger("lstm-other"), rebuild_answers=20)
    tried.learners, tried.names = core.learners, core.names
    tried.models.names.restore(0, tried.names)
    outcome = tried.feed(placed([interaction(f"u-{i}", at_s=2_000) for i in range(4)], first=100))
    assert [e.unheard is not None for e in examples(outcome.messages)] == [True, True, False, False]
    assert np.isnan(outcome.observed["challenger_p"]).tolist() == [False, False, True, True]
    assert tried.beside is not None
    assert tried.beside.gather([b"u-3"])["answers"][0] == NOWHERE


# ------------------------------------------------------------------------------------------------ corrected answers


def correction(of: str, correct: bool, at_s: float = 5_000.0, user: str = "u-1") -> Interaction:
    """Return the correction of an answer."""
    return interaction(user, at_s, type="answer_correction", corrects=of, correct=correct, score=None)


def test_a_corrected_answer_changes_counts_and_finds_its_example() -> None:
    """Counts are those of the answer as it now stands, the state is rebuilt, and the trainer is told which example."""
    log = answers(5, correct=True)
    core, honest = Core(networks.random_dkt()), Core(networks.random_dkt())
    core.feed(placed(log))
    told = core.feed(placed([correction(log[2].event_id, False)], first=5))
    honest.feed(placed([*log[:2], log[2].model_copy(update={"correct": False}), *log[3:]]))
    check(told.messages)
    assert correctness(told.messages) == []
    (corrected,) = corrections(told.messages)
    assert corrected.example_id == prediction_id(log[2].event_id, "example")
    assert corrected.correct is False
    mine, theirs = core.learner(), honest.learner()
    for name in ("answers", "correct", "level_correct", "concept_correct", "answer_flags", "last_at", "risk_day"):
        assert np.array_equal(mine[name], theirs[name]), name
    assert mine["hidden_format"] == 0
    core.feed(placed([interaction(at_s=6_000)], first=6))
    honest.feed(placed([interaction(at_s=6_000)], first=6))
    together = np.corrcoef(core.learner()["hidden"].astype(float), honest.learner()["hidden"].astype(float))[0, 1]
    assert together > 0.95


def test_a_correction_that_changes_nothing_or_comes_again_counts_once() -> None:
    """The same outcome again, an unknown answer, a repeated correction: counts stay right."""
    log = answers(3, correct=True)
    core = Core(networks.random_dkt())
    core.feed(placed(log))
    once = correction(log[1].event_id, False)
    core.feed(placed([once, once], first=3))
    assert core.learner()["correct"] == 2
    before = core.learner()
    told = core.feed(placed([correction("nobody-knows", True)], first=5))
    assert len(corrections(told.messages)) == 1
    after = core.learner()
    changed = [name for name in after.dtype.names if not np.array_equal(before[name], after[name])]
    assert changed == ["seen", "other_id"]
    first = correction(log[1].event_id, True, at_s=6_000.0)
    core.feed(placed([first, correction(log[1].event_id, False, at_s=7_000.0)], first=6))
    assert core.learner()["correct"] == 2
    again = core.feed(placed([first], first=8))
    assert (core.learner()["correct"], again.repeated, again.messages) == (2, 1, [])


def test_a_correction_needs_to_say_of_what_and_to_what() -> None:
    """Without the answer's id, or an outcome, it is refused with a sentence."""
    good = {
        "type": "answer_correction", "user_id": "u-1", "topic_id": "area", "corrects": "e-1", "correct": True,
        "timestamp": "2026-01-05T08:00:00Z",
    }  # fmt: skip
    assert decode_interaction(json.dumps(good).encode()).corrects == "e-1"
    for missing, said_of in (("corrects", "corrects: expected the event_id"), ("correct", "score, correct: expected")):
        bad = {name: value for name, value in good.items() if name != missing}
        with pytest.raises(InvalidEvent, match=said_of):
            decode_interaction(json.dumps(bad).encode())


def test_a_correction_reaches_the_challengers_state_too() -> None:
    """A state beside that has learned the wrong outcome begins anew."""
    log = answers(3)
    core = Core(networks.random_dkt(), challenger=challenger())
    core.feed(placed(log))
    core.feed(placed([correction(log[0].event_id, not log[0].correct)], first=3))
    assert core.beside is not None
    assert core.beside.gather([b"u-1"])["answers"][0] == NOWHERE


def test_an_answer_after_a_correction_is_predicted_from_the_rebuilt_state() -> None:
    """Whether both came in one batch or in two."""
    log = answers(6)
    events = [correction(log[1].event_id, not log[1].correct), interaction(at_s=6_000.0)]
    apart, together = Core(networks.random_dkt()), Core(networks.random_dkt())
    for core in (apart, together):
        core.feed(placed(log))
    said = [apart.feed([accepted]) for accepted in placed(events, first=6)][1]
    at_once = together.feed(placed(events, first=6))
    assert [p.targets for p in correctness(at_once.messages)] == [p.targets for p in correctness(said.messages)]
    assert np.array_equal(apart.learner()["hidden"], together.learner()["hidden"])


def test_a_user_with_more_answers_than_the_budget_is_rebuilt_all_the_same() -> None:
    """Else he would be predicted from an empty state for ever."""
    core = Core(networks.random_dkt())
    core.feed(placed(answers(40)))
    model = another()
    swapped = core.restarted(predictor=model)
    swapped.rebuild_answers = 10
    swapped.feed(placed([interaction(at_s=9_000)], first=100))
    assert model.rebuilt == 1
