"""The risk model's life: judged weeks later, in the order in which outcomes become known, and the same for all that."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from schemas import CandidateDropped, GateDecided, ModelRollout, QualityMeasured, RolledBack, UpdateStarted
from stream.learning.judged import Judged
from stream.learning.trainer import go_on_with_risk, risk_lifecycle
from stream.models.risk import RISK
from stream.models.store import Store
from stream.settings import Settings
from stream.telemetry import TrainerMetrics
from tests.learning.test_lifecycle import Around
from tests.risks import make_risk_release

USERS = 200


class World:
    """A lifecycle, and weeks of users whose outcomes become known."""

    def __init__(self, folder: Path, rollback_window: int = 2_000) -> None:
        self.folder, self.store, self.window = folder, Store(str(folder)), rollback_window
        self.around, self.metrics = Around(), TrainerMetrics()
        settings = Settings(
            gate_every=100, gate_budget=4_000, challenger_share=0.2, risk_step_budget_ms=10_000,
            rollback_window=rollback_window, risk_learn_every=100, risk_learn_from=100, watch_window=500,
        )  # fmt: skip
        self.life = risk_lifecycle(settings, self.store, self.metrics, self.around)
        self.labelled, self.clock = 0, 0.0
        self.judged: list[Judged] = []
        self._random = np.random.default_rng(5)

    def label(
        self, count: int, served: float = 0.6, beside: float | None = None, at_risk: float = 0.4,
        said_at: float | None = None, version: int | None = None,
    ) -> None:  # fmt: skip
        """
        Let it become known of weeks what came; `served` and `beside` are said of what came, 1 less them of the other.

        Args:
            count: Of weeks.
            served: By the one that was heard.
            beside: By the other one, if one is on trial.
            at_risk: Share that failed or withdrew.
            said_at: When; after all that was announced, if not given.
            version: That was heard; the one that serves, if not given.
        """
        challenger = self.life.rollout.challenger
        for _ in range(count):
            came = bool(self._random.random() < at_risk)
            tilt = float(self._random.normal(0, 0.02))
            has_other = beside is not None and challenger is not None
            each = Judged(
                user=int(self._random.integers(USERS)), happened=came,
                version=self.life.serving if version is None else version,
                p=(served if came else 1 - served) + tilt, p_fallback=0.55 if came else 0.45,
                said_at=(self.around.now() + timedelta(days=1)).timestamp() if said_at is None else said_at,
                other=challenger.version if has_other and challenger is not None else None,
                p_other=float("nan") if beside is None else (beside if came else 1 - beside) + tilt,
                slices=(("gender", "F"),),
            )  # fmt: skip
            self.life.observe(each)
            self.judged.append(each)
            self.labelled += 1
        self.turn()

    def restarted(self) -> "World":
        """Return what a trainer that was killed comes back to."""
        again = World(self.folder, self.window)
        again.around.announced.append(self.life.rollout)
        go_on_with_risk(again.life, self.life.rollout, self.judged)
        return again

    def turn(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self.clock += seconds
        self.life.turn(self.labelled, self.clock)

    def finish(self) -> int:
        """End the update that runs, and return its version."""
        version, _, future = self.around.updates[-1]
        make_risk_release(self.store, version)
        future.set_result(self.store.folder_of(RISK, version))
        self.turn()
        return version

    def promote(self) -> int:
        """Bring a candidate live through the gate, and return its version."""
        while not self.around.updates or self.around.updates[-1][2].done():
            self.label(50)
        version = self.finish()
        for _ in range(40):
            if self.life.serving == version:
                return version
            self.label(100, served=0.6, beside=0.75)
        raise AssertionError("it was not promoted")

    def metric(self, name: str, **labels: str) -> float | None:
        """Return a metric's value."""
        return self.metrics.registry.get_sample_value(name, labels | {"name": RISK})


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return it."""
    return World(tmp_path / "store")


def test_a_better_candidate_goes_live(world: World) -> None:
    """By the same gate, under its own name; the figures say how it errs."""
    version = world.promote()
    assert world.metric("stream_trainer_champion_version") == version == 1
    assert {event.name for event in world.around.told} == {RISK}
    assert {rollout.name for rollout in world.around.announced} == {RISK}
    assert world.life.rollout.champion is not None
    assert world.life.rollout.champion.path == "risk/v1"
    world.label(200)
    world.turn(20)
    world.label(1)
    assert world.metric("stream_trainer_live_false_negative_ratio", slice="gender:F") is not None


def test_those_who_withdraw_first_promote_nobody(world: World) -> None:
    """A candidate that says of everybody that he will leave looks better until it is known who passes."""
    world.label(100)
    world.finish()
    world.label(900, served=0.5, beside=0.9, at_risk=1.0)
    assert world.around.of(GateDecided) == []
    # Of those who pass it is as wrong as it was right before.
    world.label(300, served=0.5, beside=0.1, at_risk=0.0)
    while world.life.rollout.challenger is not None:
        world.label(200, served=0.5, beside=0.1, at_risk=0.0)
    assert not any(decided.promoted for decided in world.around.of(GateDecided))


def test_those_who_withdraw_promote_nobody_though_the_budget_is_spent(world: World) -> None:
    """Then it is kept out, for it cannot be told."""
    world.label(100)
    world.finish()
    while not world.around.of(GateDecided):
        world.label(500, served=0.5, beside=0.9, at_risk=1.0)
        assert world.labelled < 3_000
    (decided,) = world.around.of(GateDecided)
    assert not decided.promoted
    assert decided.candidate.n == 2_000
    assert "of one kind only 0 are known, 50 needed" in decided.reason


def test_what_was_said_before_a_trial_does_not_end_it(world: World) -> None:
    """At a term's end thousands of weeks become known that nobody on trial had a say in."""
    world.label(100)
    world.finish()
    world.label(5_000, said_at=0.0)
    assert world.life.rollout.challenger is not None
    assert world.around.of(CandidateDropped) == []
    world.label(4_100)
    assert "measured on 0" in world.around.of(CandidateDropped)[0].reason


def test_a_trial_goes_on_after_a_restart(world: World) -> None:
    """It takes weeks: what was judged of it before counts, and what was judged of others does not."""
    world.label(100)
    world.finish()
    world.label(80, beside=0.62)
    assert world.metric("stream_trainer_trial_answers") == 80
    again = world.restarted()
    again.turn()
    assert again.metric("stream_trainer_trial_answers") == 80
    again.label(30, beside=0.62)
    assert again.metric("stream_trainer_trial_answers") == 110


def test_a_model_that_scores_badly_is_taken_back(world: World) -> None:
    """When it becomes known, to what served before."""
    world.promote()
    second = world.promote()
    for _ in range(40):
        if world.around.of(RolledBack):
            break
        world.label(50, served=0.2)
    (back,) = world.around.of(RolledBack)
    assert (back.name, back.version, back.to_version) == (RISK, second, 1)
    assert world.metric("stream_trainer_rollbacks_total") == 1


def test_what_served_before_is_no_fault_of_what_serves(world: World) -> None:
    """Weeks that an earlier version scored are judged long after the swap."""
    world.promote()
    world.label(600, served=0.1, version=0)
    assert world.around.of(RolledBack) == []


def test_those_who_withdraw_first_take_nobody_back(tmp_path: Path) -> None:
    """While nobody is known to have passed, the fallback's being higher tells nothing."""
    world = World(tmp_path / "store", rollback_window=200)
    world.promote()
    for _ in range(10):
        world.label(100, served=0.52, at_risk=1.0)
    assert world.around.of(RolledBack) == []


def test_those_who_withdraw_after_a_restart_take_nobody_back(tmp_path: Path) -> None:
    """What was known of those who pass counts as it did before: a restart changes no decision."""
    world = World(tmp_path / "store", rollback_window=200)
    world.promote()
    world.label(600, served=0.9)
    again = world.restarted()
    for life in (world, again):
        for _ in range(10):
            life.label(100, served=0.52, at_risk=1.0)
        assert life.around.of(RolledBack) == []


def test_a_promotion_is_judged_by_both_kinds(tmp_path: Path) -> None:
    """The window waits for enough who pass, and is not judged by those who withdrew before."""
    world = World(tmp_path / "store", rollback_window=200)
    world.promote()
    world.label(25, served=0.97, at_risk=0.0)
    for _ in range(83):
        world.label(5, served=0.5, at_risk=1.0)
    world.label(60, served=0.97, at_risk=0.0)
    assert world.around.of(RolledBack) == []
    while not world.around.of(RolledBack):
        world.label(50, served=0.3)
        assert len(world.judged) < 5_000
    assert world.around.of(RolledBack)[0].n > 0


@pytest.mark.parametrize("is_announced", [True, False])
def test_quality_is_known_after_a_restart(world: World, is_announced: bool) -> None:
    """It is of months: also before any model was announced."""
    world.label(300)
    again = World(world.folder)
    go_on_with_risk(again.life, world.life.rollout if is_announced else None, world.judged)
    again.turn()
    (measured,) = again.around.of(QualityMeasured)
    assert measured.overall.n == 300
    assert again.metric("stream_trainer_live_false_negative_ratio", slice="gender:F") is not None


def test_an_update_waits_for_the_other_model(world: World) -> None:
    """There is one child, and never two updates at once."""
    world.around.others = 1
    world.label(300)
    assert world.around.updates == []
    world.around.others = 0
    world.turn()
    assert [started.trigger for started in world.around.of(UpdateStarted)] == ["answers"]


def test_a_loss_that_rises_is_no_drift_of_risk(world: World) -> None:
    """It tells in which order outcomes become known; no trial is ended over it."""
    world.label(100)
    world.finish()
    world.label(1_000, served=0.8, beside=0.8)
    world.label(1_000, served=0.4, beside=0.4)
    assert world.life.rollout.challenger is not None or world.around.of(GateDecided)
    assert [event.type for event in world.around.told if event.type == "drift_detected"] == []


def test_by_hand_any_version_is_put_on_trial(world: World) -> None:
    """And promoted by the gate like any other."""
    third = make_risk_release(world.store, 3)
    by_hand = ModelRollout(
        name=RISK, challenger=third, challenger_share=0.5, decided_at=datetime(2026, 6, 1, tzinfo=UTC)
    )
    world.around.announced.append(by_hand)
    world.life.heard(by_hand)
    while world.life.serving != 3:
        world.label(100, beside=0.8, said_at=datetime(2026, 7, 1, tzinfo=UTC).timestamp())
        assert world.labelled < 4_000
    assert [decided.candidate_version for decided in world.around.of(GateDecided)] == [3]
