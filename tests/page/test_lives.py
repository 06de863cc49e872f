"""What became of the models follows from what workers and trainer tell, once for all workers."""

from typing import Any

import orjson
import pytest

from stream.page.board import Board, Standing
from stream.page.lives import LEARNING_S, MOST_ENTRIES, moment
from stream.page.shape import Model, Swap
from stream.ports import Record
from tests.page.messages import happened, rollout, swapped

NOW = moment("2026-03-02T06:10:00Z")
FIGURES = {"n": 500, "logloss": 0.51, "auc": 0.74, "ece": 0.02, "time_mae_seconds": 4.5}


def told(*records: Record, at: float = NOW) -> tuple[Model, list[Swap]]:
    """Return the life of the knowledge model, and the swaps, after messages."""
    board = Board("b", "g", 100)
    board.take(records, at)
    snapshot = orjson.loads(orjson.dumps(board.snapshot(at, Standing("live"))))
    return snapshot["models"][0], snapshot["swaps"]


def decided(number: int, candidate: int, *, promoted: bool, **fields: Any) -> Record:
    """Return a decision of the gate."""
    given = {
        "candidate_version": candidate, "champion_version": None, "promoted": promoted, "reason": "it is better",
        "users": 40, "gain": 0.02, "needed": 0.01, "candidate": FIGURES, "champion": FIGURES | {"logloss": 0.53},
        "fallback": FIGURES | {"auc": None, "time_mae_seconds": None},
    } | fields  # fmt: skip
    return happened(number, "gate_decided", **given)


def test_a_models_life_is_told_in_order() -> None:
    """Trained, on trial, promoted, live: a line each, with the gate's figures."""
    started = happened(1, "update_started", candidate_version=1, answers=400, trigger="answers")
    model, _ = told(started)
    assert model["learning"] == {"version": 1, "since": NOW - 599, "answers": 400, "trigger": "answers"}
    challenger = happened(2, "challenger_started", candidate_version=1, champion_version=None, share=0.1, budget=900)
    model, _ = told(started, rollout(2, None, 1, 0.1), challenger)
    assert (model["learning"], model["trial"]) == (None, {"version": 1, "share": 0.1, "since": NOW - 598})
    model, swaps = told(
        started, rollout(2, None, 1, 0.1), challenger, rollout(3, 1), decided(3, 1, promoted=True), swapped(4, 1, None),
        happened(5, "quality_measured"), happened(6, "learn_requested"),
    )  # fmt: skip
    assert (model["serving"], model["trial"], model["learning"]) == (1, None, None)
    assert [entry["what"] for entry in model["timeline"]] == [
        "update_started", "challenger_started", "promoted", "swapped",
    ]  # fmt: skip
    assert model["timeline"][0]["trigger"] == "answers"
    assert model["timeline"][1]["share"] == 0.1
    promoted = model["timeline"][2]
    assert (promoted["version"], promoted["against"], promoted["reason"]) == (1, None, "it is better")
    assert (promoted["gain"], promoted["needed"], promoted["users"]) == (0.02, 0.01, 40)
    assert promoted["figures"] == {
        "candidate": {"n": 500, "auc": 0.74, "logloss": 0.51, "ece": 0.02, "time_error_s": 4.5},
        "champion": {"n": 500, "auc": 0.74, "logloss": 0.53, "ece": 0.02, "time_error_s": 4.5},
        "fallback": {"n": 500, "auc": None, "logloss": 0.51, "ece": 0.02, "time_error_s": None},
    }
    assert swaps == [{"at": NOW - 596, "model": "knowledge", "version": 1, "previous": None}]


def test_what_came_to_nothing_is_told_too() -> None:
    """Kept out, dropped, refused, taken back, drift: each with its reason."""
    model, _ = told(
        decided(1, 1, promoted=False, reason="no better"),
        happened(2, "candidate_dropped", candidate_version=2, reason="too slow"),
        happened(3, "model_refused", version=3, reason="bad digest", worker="w"),
        happened(4, "rolled_back", version=4, to_version=None, reason="worse", n=9, logloss_before=0.5,
                 logloss_after=0.6, worsened=0.1),
        happened(5, "drift_detected", kind="feature", subject="item_rate", before=0.25, after=0.5, p_value=0.01),
        happened(6, "drift_detected", kind="loss", subject="logloss", before=0.5, after=0.625, p_value=None),
    )  # fmt: skip
    lines = [(entry["what"], entry["version"], entry["reason"]) for entry in model["timeline"]]
    assert lines == [
        ("kept_out", 1, "no better"), ("candidate_dropped", 2, "too slow"), ("refused", 3, "bad digest"),
        ("rolled_back", 4, "worse"), ("drift", None, "item rate went from 0.25 to 0.5"),
        ("drift", None, "log loss went from 0.5 to 0.625"),
    ]  # fmt: skip
    assert (model["timeline"][3]["gain"], model["timeline"][3]["against"]) == (-0.1, None)
    assert (model["timeline"][4]["subject"], model["timeline"][4]["after"]) == ("item_rate", 0.5)


SWAPS = [(1, "w1", 2), (2, "w2", 2), (3, "w1", 3), (4, "w2", 3)]


@pytest.mark.parametrize(
    ("announced", "lines"),
    [
        (SWAPS, [2, 3]),
        ([SWAPS[0], SWAPS[2], SWAPS[1], SWAPS[3]], [2, 3]),  # the second worker is late by a whole version
        ([*SWAPS, (5, "w1", 2), (6, "w2", 2), (7, "w1", 4), (8, "w2", 4)], [2, 3, 2, 4]),  # taken back between
        ([(1, "w1", 2), (2, "w1", 3), (3, "w1", 2), (4, "w2", 2), (5, "w2", 3), (6, "w2", 2)], [2, 3, 2]),
        ([*SWAPS, (5, "w2", 2)], [2, 3, 2]),  # whichever of them is the first to take it back
        ([*SWAPS, (5, "w3", 3)], [2, 3]),  # one that has just started
        ([*SWAPS, (5, "w3", 3), (6, "w1", None), (7, "w2", None), (8, "w3", None)], [2, 3, None]),
    ],
)
def test_several_workers_swap_once(announced: list[tuple[int, str, int | None]], lines: list[int | None]) -> None:
    """Each worker tells of each swap: a version that went live is one line, at the first word of it."""
    before: dict[str, int | None] = {}
    records = []
    for number, worker, version in announced:
        records.append(swapped(number, version, before.get(worker), worker))
        before[worker] = version
    model, swaps = told(*records)
    assert [swap["version"] for swap in swaps] == lines
    assert [swap["previous"] for swap in swaps] == [None, *lines[:-1]]
    assert [entry["what"] for entry in model["timeline"]] == ["swapped"] * len(lines)
    assert model["serving"] == (lines[-1] or 0)


def test_what_serves_is_known_though_its_swap_was_long_ago() -> None:
    """Events leave after weeks; what is announced stays."""
    model, swaps = told(rollout(1, 7, 8, 0.5))
    assert (model["serving"], swaps) == (7, [])
    assert model["trial"] == {"version": 8, "share": 0.5, "since": NOW - 599}
    assert told(rollout(3, 7), rollout(1, 5, 8))[0]["trial"] is None


def test_the_fallback_serves_as_soon_as_it_is_announced() -> None:
    """A worker that begins with it tells no swap, and while none runs nobody does."""
    model, swaps = told(rollout(1, 7), swapped(2, 7, None), rollout(3, None, 8))
    assert (model["serving"], [swap["version"] for swap in swaps]) == (0, [7])
    assert told(rollout(3, 7), swapped(2, 7, None), rollout(1, None))[0]["serving"] == 7


@pytest.mark.parametrize("ending", ["challenger_started", "candidate_dropped"])
def test_an_update_ends_by_its_own_word_or_by_silence(ending: str) -> None:
    """A trainer that was killed tells nothing any more: after an hour its update is taken for lost."""
    started = happened(1, "update_started", candidate_version=4, answers=10, trigger="drift")
    end = happened(2, ending, candidate_version=4, champion_version=3, share=0.0, budget=9, reason="r")
    other = happened(2, "candidate_dropped", candidate_version=3, reason="its place is needed")
    assert told(started, other)[0]["learning"] is not None
    assert told(started, end)[0]["learning"] is None
    assert told(started, at=NOW + LEARNING_S - 600)[0]["learning"] is not None
    assert told(started, at=NOW + LEARNING_S)[0]["learning"] is None


def test_the_two_models_are_told_apart() -> None:
    """An event of the risk model is in its own timeline, of a model that nobody knows in none; the latest 40 stay."""
    board = Board("b", "g", 100)
    many = [happened(n, "candidate_dropped", "risk", candidate_version=n, reason="r") for n in range(50)]
    board.take([*many, happened(1, "candidate_dropped", "other", candidate_version=1, reason="r")], NOW)
    knowledge, risk = board.snapshot(NOW, Standing("live"))["models"]
    assert (knowledge["name"], knowledge["timeline"]) == ("knowledge", [])
    assert [entry["version"] for entry in risk["timeline"]] == list(range(50 - MOST_ENTRIES, 50))
