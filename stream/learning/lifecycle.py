"""
What becomes of a model: an update, a trial beside what serves, promotion, and rollback where that was a mistake.

Decisions only, over the predictions that are judged: answers as they come, risks when outcomes are known. Kafka,
processes and clocks are handed in by `stream.learning.trainer`.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol
from uuid import uuid4

import numpy as np
import structlog
from numpy.typing import NDArray

from schemas import (
    CandidateDropped,
    ChallengerStarted,
    GateDecided,
    ModelEvent,
    ModelRollout,
    Release,
    RolledBack,
    UpdateStarted,
)
from stream.errors import ArtifactError, StoreError
from stream.learning.drift import Drift
from stream.learning.gate import Answers, Decision, Gains, Trial, budget_of
from stream.learning.judged import Judged
from stream.learning.observer import Observer
from stream.learning.publication import STEP_MS
from stream.learning.rollback import Guard, Verdict
from stream.learning.triggers import Trigger, Triggers
from stream.models.artifacts import load, load_risk, read_manifest, read_risk_manifest, release
from stream.models.dkt import KNOWLEDGE
from stream.models.quality import log_losses
from stream.models.risk import RISK
from stream.models.store import Store, outdated
from stream.telemetry import ModelMetrics

log = structlog.get_logger()

_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What an operator has chosen.

    What is judged is an answer, or a week of a user of whom it is known what came.

    Attributes:
        gate_every: Judged between two looks of the gate.
        gate_budget: Judged after which a candidate is given up.
        share: Of the users whom a candidate serves while it is on trial.
        step_budget_ms: Milliseconds that a candidate's step of 500 users may take.
        step_budget_setting: What an operator sets it by.
        model_max_bytes: Largest model file.
        rollback_window: Judged after a promotion in which it may be undone.
        rollback_margin: Nats by which live log loss may worsen.
        learn_on_drift: Whether drift asks for an update.
        keep_models: Latest versions that the store keeps.
        least_of_each: Judged of what came and of what did not, before a model is promoted, or taken back.
    """

    gate_every: int
    gate_budget: int
    share: float
    step_budget_ms: float
    step_budget_setting: str
    model_max_bytes: int
    rollback_window: int
    rollback_margin: float
    learn_on_drift: bool
    keep_models: int
    least_of_each: int = 0


class _Manifest(Protocol):
    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures by name."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """
    The artifacts of a model, and how they are read.

    Attributes:
        store: Where they are.
        name: Of the model, on topics and in the store.
        load: Loads and checks one: store, path, its part and the largest model file.
        manifest: Reads its manifest.
    """

    store: Store
    name: str
    load: Callable[..., object]
    manifest: Callable[[Store, str], _Manifest]


def knowledge_artifacts(store: Store) -> Artifacts:
    """Return those of the knowledge model."""
    return Artifacts(store, KNOWLEDGE, load, read_manifest)


def risk_artifacts(store: Store) -> Artifacts:
    """Return those of the risk model."""
    return Artifacts(store, RISK, load_risk, read_risk_manifest)


class Surroundings(Protocol):
    """What the lifecycle needs of others."""

    def is_free(self) -> bool:
        """Return whether an update may begin: there is one at a time, over all models."""

    def submit(self, version: int, champion: Release | None) -> Future[str]:
        """Start an update that begins from the champion; its result is the artifact's path in the store."""

    def limit(self) -> str | None:
        """End an update that is beyond its limits, and return which."""

    def current(self) -> ModelRollout | None:
        """Return what stands announced, whoever did it; None if nothing does."""

    def announce(self, rollout: ModelRollout) -> None:
        """Say what should serve."""

    def settle(self) -> bool:
        """Make durable what was read; return whether it is, and may be learned from."""

    def tell(self, event: ModelEvent) -> None:
        """Tell of something that happened."""

    def now(self) -> datetime:
        """Return the present moment, aware."""


class Said(NamedTuple):
    """
    What had been judged before a restart.

    Attributes:
        version: That served each, int64 `(N,)`.
        user: Whose, any integers, int64 `(N,)`.
        p_serving: float `(N,)`.
        p_fallback: float `(N,)`.
    """

    version: NDArray[np.int64]
    user: NDArray[np.int64]
    p_serving: NDArray[np.floating]
    p_fallback: NDArray[np.floating]


@dataclass(slots=True)
class _Update:
    future: Future[str]
    version: int
    began_at: float


class Lifecycle:
    """
    A model's life.

    Args:
        artifacts: The model's.
        rules: What an operator has chosen.
        triggers: When to learn.
        observer: Watches quality and drift.
        metrics: Where it counts.
        surroundings: Kafka, processes, a clock.
        version: The highest that was ever used.
        learnable: That there ever was to learn from.
    """

    def __init__(
        self,
        artifacts: Artifacts,
        rules: Rules,
        triggers: Triggers,
        observer: Observer,
        metrics: ModelMetrics,
        surroundings: Surroundings,
        version: int = 0,
        learnable: int = 0,
    ) -> None:
        self._artifacts = artifacts
        self._store = artifacts.store
        self._rules = rules
        self.triggers = triggers
        self._observer = observer
        self._metrics = metrics
        self._around = surroundings
        self._version = version
        self._learned = learnable
        """What the newest update could learn from, at most."""
        self.rollout = ModelRollout(name=artifacts.name, decided_at=surroundings.now())
        self._guard = Guard(rules.rollback_window, rules.rollback_margin, rules.least_of_each)
        self._lost = Gains()
        """Of log loss by what serves over the fallback, since it went live."""
        self._losses = np.zeros(2)
        """The sums of both."""
        self._of_each = np.zeros(2, np.int64)
        """How many of what it was judged by did not come, and how many did."""
        self._trial: Trial | None = None
        self._met = 0
        """Judged of what was said since the trial began, whether both models were there or not."""
        self._update: _Update | None = None
        self._retry_at = float("-inf")
        self._tried: list[tuple[Any, ...]] = []
        self._served: list[Judged] = []

    @property
    def serving(self) -> int:
        """The version that should serve; 0 for the fallback."""
        return self.rollout.champion.version if self.rollout.champion is not None else 0

    @property
    def is_learning(self) -> bool:
        """Whether an update is under way."""
        return self._update is not None

    def recall(self, happened: NDArray[np.bool_], said: Said) -> None:
        """Take in what was judged before a restart, in order: what serves is held against it."""
        self._guard.add(said.version, said.user, happened, *_losses(happened, said))

    def resume(self, judged: Sequence[Judged]) -> None:
        """
        Go on after a restart with what was judged before, in order.

        Quality is of it, what serves is held against the fallback by it, and the trial that stands announced goes on.
        """
        for each in judged:
            self._observer.add(each, self.serving)
            if each.said_at >= self.rollout.decided_at.timestamp():
                self._try_on(each)
        self._hold(*said_of(judged))

    def follow(self, rollout: ModelRollout, *, again: bool = False) -> None:
        """Take note of what should serve from now on, whoever announced it; `again` after a restart."""
        before, self.rollout = self.rollout, rollout
        if rollout.champion != before.champion:
            self._observer.swapped()
            self._weigh()
            if rollout.champion is None:
                self._guard.ended()
            else:
                self._guard.started(rollout.champion.version, again=again)
            self._lost, self._losses, self._of_each = Gains(), np.zeros(2), np.zeros(2, np.int64)
        if rollout.challenger != before.challenger or rollout.champion != before.champion:
            self._tried, self._met = [], 0
            self._trial = None
            if rollout.challenger is not None:
                budget = budget_of(self._learned, self._rules.gate_budget)
                self._trial = Trial(self._rules.gate_every, budget, self._rules.least_of_each)
        version = max((r.version for r in (rollout.champion, rollout.challenger) if r is not None), default=0)
        self._version = max(self._version, version)
        self._metrics.version.set(self.serving)
        self._metrics.previous.set(rollout.previous.version if rollout.previous is not None else 0)
        self._metrics.challenger.set(rollout.challenger.version if rollout.challenger is not None else 0)

    def heard(self, rollout: ModelRollout) -> None:
        """Follow what somebody else has announced, and say what becomes of a candidate whose place it takes."""
        tried = self.rollout.challenger
        self.follow(rollout)
        if tried is not None and tried not in (rollout.challenger, rollout.champion):
            self._drop(tried.version, "an announcement by hand took its place")

    def observe(self, judged: Judged) -> None:
        """Take in a prediction that was judged: what serves, and what is on trial, are measured by it."""
        self._observer.add(judged, self.serving)
        self._served.append(judged)
        self._try_on(judged)

    def drifted(self, drifts: Sequence[Drift]) -> None:
        """Take note of what has drifted of features."""
        self._observer.drifted(drifts)

    def _try_on(self, judged: Judged) -> None:
        """Measure what is on trial, if it had a say."""
        challenger = self.rollout.challenger
        if self._trial is None or challenger is None:
            return
        # What was said before the trial, and is judged only now, tells nothing of whether anybody can measure it.
        self._met += judged.said_at >= self.rollout.decided_at.timestamp()
        served, beside = (judged.p, judged.median), (judged.p_other, judged.median_other)
        # What an earlier champion served, before all workers had taken up this one, says nothing of it.
        if (judged.version, judged.other) == (self.serving, challenger.version):
            champion, candidate = served, beside
        elif (judged.version, judged.other) == (challenger.version, self.serving):
            candidate, champion = served, beside
        else:
            return
        self._tried.append(
            (
                judged.user, judged.happened, candidate[0], champion[0], judged.p_fallback,
                judged.seconds, candidate[1], champion[1], judged.median_fallback,
            )
        )  # fmt: skip

    def turn(self, learnable: int, now: float) -> None:
        """
        Do what is due.

        Args:
            learnable: That there ever was to learn from: answers, or weeks of which it is known what came.
            now: Seconds of a monotonic clock.
        """
        self._take_up(now)
        self._judge()
        self._take_back()
        self._look_around(now)
        trigger = self.triggers.wish(learnable, now, self.rollout.challenger is not None)
        if trigger is not None and now >= self._retry_at and self._update is None and self._around.is_free():
            self._start(trigger, learnable, now)

    def _start(self, trigger: Trigger, learnable: int, now: float) -> None:
        if self.rollout.challenger is not None and not self._end_trial(f"{_WHY[trigger]}, and its place is needed"):
            return
        if not self._around.settle():
            self._retry_at = now + _RETRY_S
            return
        self._version += 1
        self.triggers.started(learnable, now)
        self._learned = learnable
        self._tell(UpdateStarted, answers=learnable, candidate_version=self._version, trigger=trigger)
        self._update = _Update(self._around.submit(self._version, self.rollout.champion), self._version, now)

    def _take_up(self, now: float) -> None:
        """Put a finished update on trial."""
        if self._update is None:
            return
        beyond = None if self._update.future.done() else self._around.limit()
        if beyond is not None:
            log.error("update.ended", model=self._artifacts.name, version=self._update.version, reason=beyond)
        if not self._update.future.done():
            return
        update, self._update = self._update, None
        self._metrics.update_seconds.observe(now - update.began_at)
        error = update.future.exception()
        if error is not None:
            # That update is lost, and only that: what serves goes on serving, and the next one starts from it.
            self._retry_at = now + _RETRY_S
            self._metrics.updates("failed").inc()
            is_of_store = isinstance(error, StoreError)
            self._metrics.failures.labels("store" if is_of_store else "child").inc()
            if is_of_store:
                self.triggers.again()
            self._drop(update.version, f"its update failed: {type(error).__name__}: {error}")
            return
        self._try(update, now)

    def _try(self, update: _Update, now: float) -> None:
        """Announce a candidate as challenger, unless something is wrong with it or speaks against it."""
        reason = None
        if self.triggers.at_once and self.triggers.asked is not None:
            reason = f"{_WHY[self.triggers.asked]} while it was learned, and the next one begins"
        elif self.rollout.challenger is not None:
            reason = f"version {self.rollout.challenger.version} was put on trial by hand meanwhile"
        try:
            candidate = self._checked(update.future.result(), update.version)
        except StoreError as error:
            self._metrics.failures.labels("store").inc()
            self._retry_at = now + _RETRY_S
            self.triggers.again()
            reason = str(error)
        except ArtifactError as error:
            reason = str(error)
        if reason is None and not self._announce(challenger=candidate, challenger_share=self._rules.share):
            reason = _OVERTAKEN
        if reason is not None:
            self._metrics.updates("refused").inc()
            self._drop(update.version, reason)
            return
        self._metrics.updates("frozen").inc()
        self._tell(
            ChallengerStarted, candidate_version=candidate.version, champion_version=self.serving or None,
            share=self._rules.share, budget=budget_of(self._learned, self._rules.gate_budget),
        )  # fmt: skip
        self._tidy()

    def _checked(self, path: str, version: int) -> Release:
        """
        Return the release of a candidate that is as it should be.

        Raises:
            ArtifactError: If it is not, or its step takes too long.
        """
        self._artifacts.load(self._store, path, variant="challenger", max_bytes=self._rules.model_max_bytes)
        step_ms = self._artifacts.manifest(self._store, path).metrics.get(STEP_MS, 0.0)
        if step_ms > self._rules.step_budget_ms:
            raise ArtifactError(
                f"{path}: expected a step of 500 users within {self._rules.step_budget_ms:g} ms "
                f"({self._rules.step_budget_setting}), found {step_ms:.1f} ms"
            )
        return release(self._store, self._artifacts.name, version)

    def _tidy(self) -> None:
        """Remove old versions from the store."""
        rollout, name = self.rollout, self._artifacts.name
        announced = {r.version for r in (rollout.champion, rollout.previous, rollout.challenger) if r is not None}
        try:
            for version in outdated(self._store.versions(name), self._rules.keep_models, announced):
                self._store.remove(name, version)
        except StoreError as error:
            # They are looked for again when the next candidate has come.
            log.warning("store.not_tidied", reason=str(error))
            self._metrics.failures.labels("store").inc()

    def _judge(self) -> None:
        """Have the gate look at what is on trial."""
        trial, challenger = self._trial, self.rollout.challenger
        if trial is None or challenger is None:
            return
        if self._tried:
            trial.add(Answers(*map(np.array, zip(*self._tried, strict=True))))
            self._tried = []
        decision = trial.look()
        self._metrics.trial_answers.set(trial.n)
        self._metrics.trial_gain.set(trial.gain)
        self._metrics.trial_needed.set(trial.needed)
        if decision is not None:
            self._decide(decision, challenger)
        elif self._met - trial.n >= self._rules.gate_budget:
            # No worker could load it, or it fails over answers: then nothing would ever be learned again.
            self._end_trial(f"of {self._met} predictions since it was announced it was measured on {trial.n}")

    def refused(self, version: int, reason: str) -> None:
        """Take note that a worker keeps a version out."""
        challenger = self.rollout.challenger
        if challenger is not None and challenger.version == version:
            self._end_trial(f"a worker keeps it out: {reason}")

    def _decide(self, decision: Decision, challenger: Release) -> None:
        champion = self.rollout.champion
        ending = {"challenger": None, "challenger_share": 0.0}
        if not self._announce(**ending | ({"champion": challenger, "previous": champion} if decision.promoted else {})):
            return
        log.info(
            "gate.decided",
            model=self._artifacts.name,
            version=challenger.version,
            promoted=decision.promoted,
            reason=decision.reason,
        )
        self._metrics.show_gate(decision.candidate, decision.champion, decision.fallback)
        self._metrics.gates("promoted" if decision.promoted else "kept_out").inc()
        self._metrics.promotions.inc(decision.promoted)
        self._tell(
            GateDecided, candidate_version=challenger.version, champion_version=champion.version if champion else None,
            promoted=decision.promoted, reason=decision.reason, users=decision.users, gain=decision.gain,
            needed=decision.needed, candidate=decision.candidate, champion=decision.champion,
            fallback=decision.fallback,
        )  # fmt: skip

    def _take_back(self) -> None:
        """Undo a promotion that has made live predictions worse."""
        self._weigh()
        verdict = self._guard.look()
        if verdict is not None and verdict.version == self.serving:
            self._roll_back(verdict, self.rollout.previous)
            return
        lost, is_known = self._lost, self._of_each.min() >= self._rules.least_of_each
        if self.serving and is_known and not self._guard.is_in_window and lost.is_above_zero():
            reason = (
                f"over {lost.n} predictions since it went live its log loss was higher than the fallback's at 95%: by "
                f"{lost.mean:.4f} each, {lost.needed:.4f} needed"
            )
            # What served before is no younger, and was worse by the gate: it would hardly do better.
            serving, fallback = (self._losses / lost.n).tolist()
            self._roll_back(Verdict(self.serving, lost.n, fallback, serving, lost.mean, reason), None)

    def _weigh(self) -> None:
        """Have the guard see what has been judged since it last looked."""
        if self._served:
            happened, said = said_of(self._served)
            self._served = []
            self.recall(happened, said)
            self._hold(happened, said)

    def _hold(self, happened: NDArray[np.bool_], said: Said) -> None:
        """Hold what serves against the fallback, by what was judged of it."""
        mine = said.version == self.serving
        if self.serving and mine.any():
            losses, losses_fallback = _losses(happened, said)
            self._lost.add(said.user[mine], (losses - losses_fallback)[mine])
            self._losses += (losses[mine].sum(), losses_fallback[mine].sum())
            self._of_each += np.bincount(happened[mine], minlength=2)

    def _roll_back(self, verdict: Verdict, target: Release | None) -> None:
        tried = self.rollout.challenger
        if not self._announce(champion=target, previous=None, challenger=None, challenger_share=0.0):
            return
        if tried is not None:
            self._drop(tried.version, f"version {verdict.version}, against which it was on trial, was taken back")
        log.error("model.rolled_back", model=self._artifacts.name, version=verdict.version,
                  to=target.version if target else 0, reason=verdict.reason)  # fmt: skip
        self._metrics.rollbacks.inc()
        self._tell(
            RolledBack, version=verdict.version, to_version=target.version if target else None, n=verdict.n,
            reason=verdict.reason, logloss_before=verdict.logloss_before, logloss_after=verdict.logloss_after,
            worsened=verdict.worsened,
        )  # fmt: skip

    def _look_around(self, now: float) -> None:
        """Tell of quality and drift."""
        for drift in self._observer.drifts():
            log.warning(
                "drift.detected", kind=drift.kind, subject=drift.subject, before=drift.before, after=drift.after
            )
            self._metrics.drifts(drift.kind).inc()
            self._around.tell(self._observer.drift_event(drift, self._around.now()))
            if self._rules.learn_on_drift:
                # Only a loss that rises is worth a trial that has begun.
                self.triggers.ask("drift", at_once=drift.kind == "loss")
        quality = self._observer.measure(now)
        if quality is None:
            return
        self._metrics.show(quality)
        self._around.tell(self._observer.quality_event(quality, self._around.now()))

    def _end_trial(self, reason: str) -> bool:
        """Take what is on trial out of it; return whether it is."""
        challenger = self.rollout.challenger
        if challenger is None or not self._announce(challenger=None, challenger_share=0.0):
            return False
        self._drop(challenger.version, reason)
        return True

    def _drop(self, version: int, reason: str) -> None:
        log.error("candidate.dropped", model=self._artifacts.name, version=version, reason=reason)
        self._tell(CandidateDropped, candidate_version=version, reason=reason)

    def _announce(self, **changes: Release | float | None) -> bool:
        """Announce what changes of the rollout; not if somebody else has announced another meanwhile, who is right."""
        current = self._around.current()
        if current is not None and current != self.rollout:
            self.heard(current)
            return False
        rollout = self.rollout.model_copy(update=changes | {"decided_at": self._around.now()})
        self._around.announce(rollout)
        self.follow(rollout)
        return True

    def _tell(self, kind: Callable[..., ModelEvent], **content: object) -> None:
        self._around.tell(kind(event_id=str(uuid4()), name=self._artifacts.name, at=self._around.now(), **content))


def said_of(judged: Sequence[Judged]) -> tuple[NDArray[np.bool_], Said]:
    """Return what came, bool `(N,)`, and what was said of it."""
    return np.array([each.happened for each in judged], bool), Said(
        version=np.array([each.version for each in judged], np.int64),
        user=np.array([each.user for each in judged], np.int64),
        p_serving=np.array([each.p for each in judged], np.float64),
        p_fallback=np.array([each.p_fallback for each in judged], np.float64),
    )


def _losses(happened: NDArray[np.bool_], said: Said) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log loss of what served, nats, `(N,)`, and of the fallback."""
    return log_losses(happened, said.p_serving), log_losses(happened, said.p_fallback)


_OVERTAKEN = "somebody else announced another rollout meanwhile"
_WHY: Final = {
    "drift": "drift was detected", "hand": "an update was asked for by hand", "answers": "answers have come",
    "minutes": "it is time",
}  # fmt: skip
