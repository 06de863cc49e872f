"""What becomes of models: tried beside what serves, promoted, kept out, taken back, and never by half."""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import TypeVar

import numpy as np
import pytest

from schemas import (
    CandidateDropped,
    ChallengerStarted,
    DriftDetected,
    GateDecided,
    ModelEvent,
    ModelRef,
    ModelRollout,
    QualityMeasured,
    Release,
    RolledBack,
    Unheard,
    UpdateStarted,
)
from stream.errors import StoreError
from stream.learning.drift import LossDrift
from stream.learning.judged import judged_answer
from stream.learning.lifecycle import Lifecycle, Rules, Said, knowledge_artifacts
from stream.learning.observer import Observer
from stream.learning.publication import STEP_MS, Publication, publish
from stream.learning.triggers import Triggers
from stream.learning.update import NotFiniteError
from stream.learning.watch import Watch
from stream.models.artifacts import Span, read_manifest, release
from stream.models.dkt import KNOWLEDGE
from stream.models.store import Store
from stream.telemetry import TrainerMetrics
from tests import networks
from tests.learning.test_buffer import example

RULES = Rules(
    gate_every=100, gate_budget=4_000, share=0.2, step_budget_ms=10_000, step_budget_setting="STREAM_STEP_BUDGET_MS",
    model_max_bytes=1 << 26, rollback_window=2_000,
    rollback_margin=0.05, learn_on_drift=True, keep_models=20,
)  # fmt: skip
USERS = 40

E = TypeVar("E")


@dataclass
class Around:
    """The world as the lifecycle reaches it; updates end when the test says so."""

    announced: list[ModelRollout] = field(default_factory=list)
    told: list[ModelEvent] = field(default_factory=list)
    updates: list[tuple[int, Release | None, Future[str]]] = field(default_factory=list)
    beyond: str | None = None
    by_hand: ModelRollout | None = None
    is_settled: bool = True
    others: int = 0

    def is_free(self) -> bool:
        """Say whether another model's update runs."""
        return not self.others

    def submit(self, version: int, champion: Release | None) -> Future[str]:
        """Begin an update."""
        self.updates.append((version, champion, Future()))
        return self.updates[-1][2]

    def limit(self) -> str | None:
        """End it."""
        return self.beyond

    def current(self) -> ModelRollout | None:
        """Return what stands on the topic."""
        return self.by_hand or (self.announced[-1] if self.announced else None)

    def settle(self) -> bool:
        """Have a disk that may be full."""
        return self.is_settled

    def announce(self, rollout: ModelRollout) -> None:
        """Remember it."""
        self.announced.append(rollout)

    def tell(self, event: ModelEvent) -> None:
        """Remember it."""
        self.told.append(event)

    def now(self) -> datetime:
        """Return a moment that goes on."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=len(self.announced) + len(self.told))

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of a kind."""
        return [event for event in self.told if isinstance(event, kind)]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of five versions of one lineage."""
    folder = tmp_path_factory.mktemp("published")
    store = Store(str(folder))
    for version in range(1, 6):
        about = Publication(KNOWLEDGE, version, "lstm-1", (), Span(answers=100, users=10), {})
        publish(networks.random_network(), store, store.folder_of(KNOWLEDGE, version), about)
    return folder


class World:
    """A lifecycle, and answers for it."""

    def __init__(self, folder: Path, rules: Rules = RULES, version: int = 0) -> None:
        self.store = Store(str(folder))
        self.around, self.metrics = Around(), TrainerMetrics()
        observer = Observer(KNOWLEDGE, Watch(500), LossDrift())
        self.life = Lifecycle(
            knowledge_artifacts(self.store), rules, Triggers(every=5, first=10), observer, self.metrics.of(KNOWLEDGE),
            self.around, version,
        )  # fmt: skip
        self.answers, self.clock = 0, 0.0
        self._random = np.random.default_rng(7)

    def answer(self, count: int, served: float = 0.6, beside: float | None = None, version: int | None = None) -> None:
        """
        Let answers come by, of which six in ten are right.

        `served` and `beside` are what the one that is heard and the other say of a right answer, and 1 less that of a
        wrong one: above one half, the more the better.
        """
        rollout = self.life.rollout
        heard = self.life.serving if version is None else version
        for _ in range(count):
            correct = bool(self._random.random() < 0.6)
            tilt = float(self._random.normal(0, 0.02))
            unheard = None
            if beside is not None and rollout.challenger is not None:
                unheard = Unheard(
                    model=ModelRef(name=KNOWLEDGE, version=rollout.challenger.version, variant="challenger"),
                    state_format="lstm-1", p_before=(beside if correct else 1 - beside) + tilt, median_before=30.0,
                )  # fmt: skip
            answer = example(
                f"u-{self._random.integers(USERS)}", self.answers, version=heard, correct=correct,
                p_before=(served if correct else 1 - served) + tilt, p_before_fallback=0.58 if correct else 0.42,
                unheard=unheard,
            )  # fmt: skip
            self.life.observe(judged_answer(answer, self.around.now().timestamp()))
            self.answers += 1
        self.turn()

    def turn(self, seconds: float = 0.1) -> None:
        """Let time pass."""
        self.clock += seconds
        self.life.turn(self.answers, self.clock)

    def finish(self, error: BaseException | None = None) -> int:
        """End the update that runs, and return its version."""
        version, _, future = self.around.updates[-1]
        if error is None:
            future.set_result(self.store.folder_of(KNOWLEDGE, version))
        else:
            future.set_exception(error)
        self.turn()
        return version

    def promote(self) -> int:
        """Bring a candidate live through the gate, and return its version."""
        while not self.around.updates or self.around.updates[-1][2].done():
            self.answer(20)
        version = self.finish()
        for _ in range(40):
            if self.life.serving == version:
                return version
            self.answer(100, served=0.6, beside=0.7)
        raise AssertionError("it was not promoted")

    def metric(self, name: str, **labels: str) -> float | None:
        """Return a metric's value."""
        if "part" not in labels:
            labels |= {"name": KNOWLEDGE}
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def world(published: Path, tmp_path: Path) -> Iterator[World]:
    """Return a lifecycle over a store of its own."""
    return World(copytree(published, tmp_path / "store"))  # type: ignore[return-value]


def test_a_candidate_is_tried_beside_what_serves(world: World) -> None:
    """After ten answers an update begins; its candidate is announced as challenger, with the share that was chosen."""
    world.answer(9)
    assert world.around.updates == []
    world.answer(1)
    assert world.around.of(UpdateStarted)[0].trigger == "answers"
    world.answer(500)
    assert len(world.around.updates) == 1
    assert world.finish() == 1
    (rollout,) = world.around.announced
    assert (rollout.champion, rollout.challenger_share) == (None, 0.2)
    assert rollout.challenger == release(world.store, KNOWLEDGE, 1)
    (started,) = world.around.of(ChallengerStarted)
    assert (started.candidate_version, started.champion_version, started.share) == (1, None, 0.2)
    assert world.metric("stream_trainer_challenger_version") == 1
    world.answer(50, beside=0.6)
    assert len(world.around.updates) == 1


def test_a_better_candidate_goes_live_and_the_next_starts_from_it(world: World) -> None:
    """Its decision is told with figures; what served before is what a rollback goes back to."""
    world.promote()
    (decided,) = world.around.of(GateDecided)
    assert decided.promoted
    assert decided.gain > decided.needed > 0
    assert decided.candidate.logloss < decided.champion.logloss
    assert decided.candidate.n == decided.champion.n == decided.fallback.n >= 100
    assert world.life.rollout.challenger is None
    assert world.metric("stream_trainer_champion_version") == 1
    assert world.metric("stream_trainer_promotions_total") == 1
    second = world.promote()
    began_from = {version: champion for version, champion, _ in world.around.updates}
    assert began_from[second] == release(world.store, KNOWLEDGE, 1)
    assert world.life.rollout.previous == release(world.store, KNOWLEDGE, 1)
    assert world.metric("stream_trainer_previous_version") == 1


def test_a_candidate_that_is_no_better_is_kept_out_and_the_next_begins(world: World) -> None:
    """What served goes on, and the reason has the figures."""
    world.answer(20)
    world.finish()
    while world.life.rollout.challenger is not None:
        world.answer(100, beside=0.55)
    (decided,) = world.around.of(GateDecided)
    assert not decided.promoted
    assert "needed" in decided.reason
    assert world.life.serving == 0
    assert world.metric("stream_trainer_gate_decisions_total", outcome="kept_out") == 1
    assert len(world.around.updates) == 2


def test_answers_that_others_served_say_nothing(world: World) -> None:
    """Before all workers have taken a champion up, what an earlier one said is not held against the challenger."""
    world.promote()
    world.answer(10)
    world.finish()
    before = world.metric("stream_trainer_trial_answers")
    world.answer(300, served=0.5, beside=0.9, version=0)
    assert world.metric("stream_trainer_trial_answers") == before == 0
    assert world.life.serving == 1


# ------------------------------------------------------------------------------------------------- what goes wrong


def test_an_update_that_fails_costs_nothing_else(world: World) -> None:
    """A NaN, or a child that was lost: told, counted, and the next one begins when there is more to learn."""
    world.answer(20)
    world.finish(NotFiniteError("expected a finite loss, found nan"))
    (dropped,) = world.around.of(CandidateDropped)
    assert "NotFiniteError" in dropped.reason
    assert world.around.announced == []
    assert world.metric("stream_trainer_failures_total", part="child") == 1
    world.turn(60)
    assert len(world.around.updates) == 1
    world.answer(5)
    assert len(world.around.updates) == 2
    assert world.around.updates[-1][0] == 2


def test_a_store_that_is_full_is_tried_again(world: World) -> None:
    """Counted as the store's, and tried again in five seconds though no answer has come."""
    world.answer(20)
    world.finish(StoreError("no space left"))
    assert world.metric("stream_trainer_failures_total", part="store") == 1
    world.turn(4)
    assert len(world.around.updates) == 1
    world.turn(2)
    assert len(world.around.updates) == 2


def test_a_damaged_candidate_is_never_announced(world: World, tmp_path: Path) -> None:
    """It is loaded and checked before anybody hears of it."""
    model = tmp_path / "store" / "knowledge" / "v1" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    world.answer(20)
    world.finish()
    assert world.around.announced == []
    assert "digest" in world.around.of(CandidateDropped)[0].reason
    assert world.metric("stream_trainer_updates_total", outcome="refused") == 1


def test_a_candidate_that_is_too_slow_is_never_announced(world: World, published: Path, tmp_path: Path) -> None:
    """Its step is timed when it is made."""
    slow = World(copytree(published, tmp_path / "slow"), replace(RULES, step_budget_ms=1e-6))
    slow.answer(20)
    slow.finish()
    assert slow.around.announced == []
    assert "STREAM_STEP_BUDGET_MS" in slow.around.of(CandidateDropped)[0].reason
    assert read_manifest(world.store, "knowledge/v1").metrics[STEP_MS] > 0


# -------------------------------------------------------------------------------------------------------- rollback


def worse(world: World, served: float) -> None:
    """Let what serves say such things until it does not serve any more."""
    serving = world.life.serving
    for _ in range(40):
        if world.life.serving != serving:
            return
        world.answer(50, served=served)
    raise AssertionError(f"version {serving} still serves")


def test_a_model_that_predicts_badly_is_taken_back(world: World) -> None:
    """To what served before; and if that is bad too, to the fallback, never forth and back."""
    world.promote()
    second = world.promote()
    worse(world, 0.2)
    (back,) = world.around.of(RolledBack)
    assert (back.version, back.to_version) == (second, 1)
    assert back.logloss_after > back.logloss_before + 0.05
    assert (world.life.serving, world.life.rollout.previous, world.life.rollout.challenger) == (1, None, None)
    assert world.metric("stream_trainer_rollbacks_total") == 1
    worse(world, 0.1)
    assert world.life.serving == 0
    assert world.around.of(RolledBack)[-1].to_version is None


def test_a_model_that_becomes_worse_than_the_fallback_gives_way_to_it(world: World) -> None:
    """Long after its window, slowly, and to the fallback: what served before is older still."""
    world.promote()
    world.promote()
    for _ in range(25):
        world.answer(100, served=0.58)
    assert world.around.of(RolledBack) == []
    worse(world, 0.53)
    (back,) = world.around.of(RolledBack)
    assert back.to_version is None
    assert back.logloss_after > back.logloss_before
    assert "fallback" in back.reason


def test_answers_of_others_are_not_held_against_what_serves(world: World) -> None:
    """Neither those of a bad challenger that serves a share, nor those of a version that was taken back."""
    world.promote()
    bad = release(world.store, KNOWLEDGE, 5)
    world.life.follow(world.life.rollout.model_copy(update={"challenger": bad, "challenger_share": 0.4}))
    world.around.by_hand = world.life.rollout
    for _ in range(20):
        world.answer(60, served=0.65)
        world.answer(40, served=0.1, version=5)
        world.clock += 11
    assert world.life.serving == 1
    assert world.around.of(RolledBack) == []


def test_a_guard_goes_on_after_a_restart(world: World, published: Path, tmp_path: Path) -> None:
    """The latest answers from before are held against what serves, and what it has served of them counts."""
    again = World(copytree(published, tmp_path / "again"))
    random = np.random.default_rng(1)
    correct = random.random(1_200) < 0.6
    version = np.repeat([1, 2], 600)
    right = np.where(version == 1, 0.65, 0.3)
    said = Said(version, random.integers(0, USERS, 1_200), np.where(correct, right, 1 - right), np.full(1_200, 0.55))
    again.life.recall(correct, said)
    rollout = ModelRollout(
        name=KNOWLEDGE, champion=release(world.store, KNOWLEDGE, 2), previous=release(world.store, KNOWLEDGE, 1),
        decided_at=datetime(2026, 6, 1, tzinfo=UTC),
    )  # fmt: skip
    again.life.follow(rollout, again=True)
    again.turn()
    assert [back.to_version for back in again.around.of(RolledBack)] == [1]


def test_a_model_that_is_as_good_stays(world: World) -> None:
    """Over its whole window."""
    world.promote()
    for _ in range(60):
        world.answer(50, served=0.61)
    assert world.around.of(RolledBack) == []


# ---------------------------------------------------------------------------------- trials that nobody can measure


def test_a_trial_that_nobody_measures_ends(world: World) -> None:
    """All workers may keep it out, or fail over each answer: learning goes on all the same."""
    world.answer(20)
    first = world.finish()
    for _ in range(45):
        world.answer(100)
    (dropped,) = world.around.of(CandidateDropped)
    assert dropped.candidate_version == first
    assert "measured on 0" in dropped.reason
    assert world.life.is_learning


def test_a_candidate_that_a_worker_keeps_out_is_dropped(world: World) -> None:
    """What cannot serve everywhere is not promoted; that others are refused is no matter."""
    world.answer(20)
    first = world.finish()
    world.life.refused(first + 1, "damaged")
    assert world.around.of(CandidateDropped) == []
    world.life.refused(first, "damaged")
    assert world.life.rollout.challenger is None
    assert "damaged" in world.around.of(CandidateDropped)[0].reason


def test_what_somebody_else_announced_meanwhile_stands(world: World) -> None:
    """A decision of ours that would come after an operator's announcement is not announced: his counts."""
    world.answer(20)
    first = world.finish()
    world.around.by_hand = ModelRollout(
        name=KNOWLEDGE, champion=release(world.store, KNOWLEDGE, 5), decided_at=datetime(2026, 6, 1, tzinfo=UTC)
    )
    announced = len(world.around.announced)
    for _ in range(20):
        world.answer(100, beside=0.75)
    assert len(world.around.announced) == announced
    assert world.life.serving == 5
    assert world.around.of(CandidateDropped)[0].candidate_version == first
    assert world.around.of(GateDecided) == []


def test_an_update_waits_for_a_disk_that_is_full(world: World) -> None:
    """It would learn from less than what has been read."""
    world.around.is_settled = False
    world.answer(20)
    assert world.around.updates == []
    world.around.is_settled = True
    world.turn(6)
    assert len(world.around.updates) == 1


# -------------------------------------------------------------------------------------------- by hand, and on drift


def test_by_hand_an_update_takes_the_place_of_a_trial(world: World) -> None:
    """What is on trial is dropped, with the reason, and the update begins."""
    world.answer(20)
    world.finish()
    world.life.triggers.ask("hand")
    world.answer(10, beside=0.6)
    assert "asked for by hand" in world.around.of(CandidateDropped)[0].reason
    assert world.life.rollout.challenger is None
    assert [started.trigger for started in world.around.of(UpdateStarted)] == ["answers", "hand"]


def test_a_loss_that_rises_is_drift_and_is_learned_from_at_once(world: World) -> None:
    """Told, counted, and the candidate that learned from how it was before makes room."""
    world.answer(20)
    world.finish()
    world.answer(900, served=0.75, beside=0.75)
    for _ in range(40):
        if world.around.of(DriftDetected):
            break
        world.answer(50, served=0.35, beside=0.35)
    assert world.around.of(DriftDetected)[0].kind == "loss"
    assert (world.metric("stream_trainer_drifts_total", kind="loss") or 0) >= 1
    if world.life.is_learning:
        # It began before the change was seen: its candidate makes room as well.
        world.finish()
    assert world.around.of(UpdateStarted)[-1].trigger == "drift"
    assert world.life.rollout.challenger is None


def test_quality_is_told_every_ten_seconds(world: World) -> None:
    """As an event and as metrics, and not while nothing comes."""
    world.answer(100)
    world.turn(11)
    world.answer(100)
    assert len(world.around.of(QualityMeasured)) == 2
    world.turn(100)
    assert len(world.around.of(QualityMeasured)) == 2
    assert world.around.of(QualityMeasured)[-1].overall.n == 200
    assert world.metric("stream_trainer_live_logloss_nats", slice="all") == pytest.approx(
        world.around.of(QualityMeasured)[-1].overall.logloss
    )


def test_a_trial_by_hand_is_decided_like_any_other(world: World) -> None:
    """`stream models promote 3 --share .5`: the gate decides when it has seen enough."""
    third = release(world.store, KNOWLEDGE, 3)
    by_hand = ModelRollout(
        name=KNOWLEDGE, challenger=third, challenger_share=0.5, decided_at=datetime(2026, 6, 1, tzinfo=UTC)
    )
    world.around.announced.append(by_hand)
    world.life.follow(by_hand)
    for _ in range(30):
        if world.life.serving == 3:
            break
        world.answer(100, beside=0.7)
    assert world.life.serving == 3
    world.answer(20)
    assert world.around.updates[-1][0] == 4


def test_a_candidate_whose_place_is_taken_is_told_of(world: World) -> None:
    """An operator promotes another version while a candidate is on trial."""
    world.answer(20)
    first = world.finish()
    other = ModelRollout(
        name=KNOWLEDGE, champion=release(world.store, KNOWLEDGE, 5), decided_at=datetime(2026, 6, 1, tzinfo=UTC)
    )
    world.life.heard(other)
    assert [dropped.candidate_version for dropped in world.around.of(CandidateDropped)] == [first]
    world.life.heard(other)
    assert len(world.around.of(CandidateDropped)) == 1


def test_old_versions_leave_the_store(published: Path, tmp_path: Path) -> None:
    """All but the latest few, and never one that is announced."""
    small = World(copytree(published, tmp_path / "small"), replace(RULES, keep_models=2), version=4)
    by_hand = ModelRollout(
        name=KNOWLEDGE, champion=release(small.store, KNOWLEDGE, 2), previous=release(small.store, KNOWLEDGE, 1),
        decided_at=datetime(2026, 6, 1, tzinfo=UTC),
    )  # fmt: skip
    small.around.announced.append(by_hand)
    small.life.follow(by_hand)
    small.answer(20)
    small.finish()
    assert small.store.versions(KNOWLEDGE) == [1, 2, 4, 5]
