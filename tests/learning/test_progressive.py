"""`stream evaluate --protocol progressive`: each answer is predicted before it is learned from."""

import csv
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stream.errors import UserError
from stream.files.answers import Answer, AnswersFile, in_replay_order
from stream.learning import progressive
from stream.learning.evaluation import evaluate_file
from stream.learning.gate import Decision, Gains, Trial
from stream.learning.history import History
from stream.learning.measured import FIGURES, Evaluation, write_predictions
from stream.learning.offline import Recipe
from stream.learning.progressive import Schedule, System, evaluate
from stream.state import learner
from tests import networks
from tests.learning.test_evaluation import QUIET, simulated


def some_answers() -> AnswersFile:
    """Return the simulated answers of half of the users."""
    file = simulated()
    return replace(file, answers=file.answers[:4_500])


@pytest.fixture(scope="module")
def found() -> Evaluation:
    """Return an evaluation of simulated answers in their order."""
    with networks.own_torch():
        return evaluate(some_answers(), seed=42, everything=True, teller=QUIET)


def test_the_last_answers_are_reported(found: Evaluation) -> None:
    """The last 70%, in replay order, of the system, of what it would be if it stopped learning, and of the fallback."""
    file = some_answers()
    assert found.report["protocol"] == "progressive"
    assert found.report["n"] == len(found.rows) == 3_150
    assert set(found.report["models"]) == {"knowledge", "frozen", "lnirt", "item_mean"}
    assert all(set(of_model) == set(FIGURES) for of_model in found.report["models"].values())
    order = [answer.row for answer in in_replay_order(file)]
    assert found.file_rows[found.rows].tolist() == order[1_350:]


def test_the_system_learns(found: Evaluation) -> None:
    """It knows more than the item mean so far, and is no worse than its fallback: the gate sees to that."""
    models = found.report["models"]
    assert models["knowledge"]["logloss"] < models["item_mean"]["logloss"] - 0.02
    assert models["knowledge"]["logloss"] < models["lnirt"]["logloss"] + 0.002
    assert models["knowledge"]["auc"] > 0.75


def test_predictions_name_the_rows_of_the_file(found: Evaluation, tmp_path: Path) -> None:
    """Whatever the order in which they were met."""
    write_predictions(found, tmp_path / "p.csv.gz")
    with gzip.open(tmp_path / "p.csv.gz", "rt") as file:
        rows = [int(row["row"]) for row in csv.DictReader(file)]
    assert rows == sorted(found.file_rows[found.rows].tolist())


def system(answers: list[Answer], schedule: Schedule) -> System:
    """Return a system that has gone through answers."""
    with networks.own_torch():
        done = System(History.of(replace(simulated(), answers=answers)), schedule, 1)
        done.run(QUIET)
    return done


class Open(Trial):
    """Ends at the first look, and promotes whatever is on trial."""

    def _verdict(self, *, is_over: bool) -> tuple[bool, str]:
        return True, "whatever it says"


@pytest.fixture
def open_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every candidate go live, and stay: what the network says is what is looked at."""
    monkeypatch.setattr(progressive, "Trial", Open)
    monkeypatch.setattr(Gains, "is_above_zero", lambda gains: False)


@pytest.mark.usefixtures("open_gate")
def test_what_comes_later_changes_nothing_before() -> None:
    """An outcome, a time and all that follows reach no earlier prediction, nor the answer's own."""
    answers = list(in_replay_order(simulated()))[:1_200]
    # Shorter than an epoch takes, of which there is always one: the clock decides nothing.
    schedule = Schedule(gate_every=300, update_seconds=1e-3)
    before = system(answers, schedule)
    at = 900
    turned = [replace(answer, correct=not answer.correct) if n >= at else answer for n, answer in enumerate(answers)]
    turned[at] = replace(
        turned[at], at=(answers[at].at or 0) + 5, response_time_s=(answers[at].response_time_s or 0) + 5
    )
    after = system(turned, schedule)
    assert [decision["at_event"] for decision in before.decisions] == [600, 1_000]
    assert before.said.p_correct is not None
    assert before.fallback.p_correct is not None
    assert np.abs(before.said.p_correct[600:at] - before.fallback.p_correct[600:at]).max() > 0.05
    for one, other in ((before.said, after.said), (before.fallback, after.fallback)):
        assert one.p_correct is not None
        assert other.p_correct is not None
        np.testing.assert_allclose(one.p_correct[: at + 1], other.p_correct[: at + 1], atol=1e-6)
    assert before.said.p_correct is not None
    assert after.said.p_correct is not None
    assert not np.allclose(before.said.p_correct[at + 200 :], after.said.p_correct[at + 200 :], atol=1e-3)


@pytest.mark.usefixtures("open_gate")
def test_a_later_version_goes_on_from_the_states_of_the_one_before() -> None:
    """The first rebuilds them from remembered answers; the next, warm-started, reads them as they are."""
    done = system(list(in_replay_order(simulated()))[:1_000], Schedule(gate_every=200, update_seconds=1e-3))
    versions = [decision["version"] for decision in done.decisions]
    assert versions == [1, 2, 3, 4]
    assert done.worker.identity.state_format == "lstm-1"
    assert done.worker.identity.version == 4
    remembered = learner.remembered(done.records)
    answered = remembered.count > 0
    # Not the same as rebuilt ones, which lack the features that were known; but states of the same network.
    rebuilt = done.worker.rebuild(remembered)[answered].astype(np.float64)
    kept = done.hidden[answered].astype(np.float64)
    assert np.corrcoef(rebuilt.ravel(), kept.ravel())[0, 1] > 0.7


def test_what_has_become_worse_gives_way_to_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a candidate is on trial or not; that one is dropped, for what it was compared with serves no more."""
    swaps: list[int] = []

    class Once(Open):
        def _verdict(self, *, is_over: bool) -> tuple[bool, str]:
            swaps.append(self.n)
            return len(swaps) == 1, "the first one"

    class Losing(Gains):
        def is_above_zero(self) -> bool:
            return self.n >= 200

    monkeypatch.setattr(progressive, "Trial", Once)
    monkeypatch.setattr(progressive, "Gains", Losing)
    done = system(list(in_replay_order(simulated()))[:1_200], Schedule(gate_every=300, update_seconds=1e-3))
    assert [(decision["at_event"], decision["promoted"]) for decision in done.decisions] == [
        (600, True),
        (1_200, False),
    ]
    assert done.worker.identity.version == 0
    assert done.said.p_correct is not None
    assert done.fallback.p_correct is not None
    assert np.array_equal(done.said.p_correct[800:], done.fallback.p_correct[800:])
    assert not np.array_equal(done.said.p_correct[600:800], done.fallback.p_correct[600:800])


@pytest.mark.usefixtures("open_gate")
def test_a_candidate_predicts_on_the_states_that_it_would_serve_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said on trial is what it says when it goes on with the same states: it is swapped in as it stands."""
    seen: list[np.ndarray[tuple[int, ...], np.dtype[np.float16]]] = []

    class Watched(Open):
        def look(self) -> Decision | None:
            decision = super().look()
            if decision is not None and done._candidate is not None:
                seen.append(done._candidate.hidden)
            return decision

    monkeypatch.setattr(progressive, "Trial", Watched)
    answers = list(in_replay_order(simulated()))[:600]
    done = System(
        History.of(replace(simulated(), answers=answers)),
        Schedule(gate_every=400, update_seconds=1e-3, learn_from=200),
        1,
    )
    with networks.own_torch():
        done.run(QUIET)
    assert len(seen) == 1
    assert done.hidden is seen[0]
    assert done._champion is not None
    assert np.abs(done.hidden).max() > 0


def test_what_is_gained_is_said_with_an_interval_by_users(found: Evaluation) -> None:
    """On the same answers, beside the system that stopped learning."""
    paired, models = found.report["paired"], found.report["models"]
    assert paired["versus"] == "frozen"
    assert paired["users"] == found.report["users"]["test"]
    assert paired["gain"] == pytest.approx(models["frozen"]["logloss"] - models["knowledge"]["logloss"], abs=2e-5)
    assert paired["low"] < paired["gain"] < paired["high"]


def test_a_frozen_system_learns_nothing_more() -> None:
    """No decision, and item parameters as they were; users go on being known by their own answers."""
    answers = list(in_replay_order(simulated()))[:1_200]
    done = system(answers, Schedule(gate_every=200, update_seconds=1e-3, learn_until=400))
    assert all(decision["at_event"] <= 400 for decision in done.decisions)
    learning = system(answers, Schedule(gate_every=200, update_seconds=1e-3))
    assert done.fallback.p_correct is not None
    assert learning.fallback.p_correct is not None
    assert np.array_equal(done.fallback.p_correct[:400], learning.fallback.p_correct[:400])
    assert not np.allclose(done.fallback.p_correct[800:], learning.fallback.p_correct[800:], atol=1e-3)


def test_what_it_cannot_do_is_a_clear_sentence(tmp_path: Path) -> None:
    """Too few answers; a page, which there is of the other protocol only."""
    path = tmp_path / "few.csv"
    path.write_text("user_id,item_id,skill_id,correct\n" + "u,i,s,1\n" * 20)
    with pytest.raises(UserError, match="expected at least 100 answers"):
        evaluate_file(
            path, protocol="progressive", recipe=Recipe(), everything=False,
            report=None, predictions=None, page=None, write=print,
        )  # fmt: skip
    with pytest.raises(UserError, match="--page shows an evaluation on users held out"):
        evaluate_file(
            path, protocol="progressive", recipe=Recipe(), everything=False,
            report=None, predictions=None, page=tmp_path / "p.html", write=print,
        )  # fmt: skip
