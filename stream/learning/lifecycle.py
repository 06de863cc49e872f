"""
What becomes of models: an update, a trial beside what serves, promotion, and rollback where that was a mistake.

Decisions only, over the answers that come by. Kafka, processes and clocks are handed in by `stream.learning.trainer`.
"""

from collections.abc import Callable
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
    TrainingExample,
    UpdateStarted,
)
from stream.errors import ArtifactError, StoreError
from stream.learning.gate import Answers, Decision, Gains, Trial, budget_of
from stream.learning.observer import Observer
from stream.learning.publication import STEP_MS
from stream.learning.rollback import Guard, Verdict
from stream.learning.triggers import Trigger, Triggers
from stream.models.artifacts import load, read_manifest, release
from stream.models.dkt import KNOWLEDGE
from stream.models.quality import log_losses
from stream.models.store import Store, outdated
from stream.state.learner import key64
from stream.telemetry import TrainerMetrics

log = structlog.get_logger()

_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What an operator has chosen.

    Attributes:
        gate_every: Answers between two looks of the gate.
        gate_budget: Answers after which a candidate is given up.
        share: Of the users whom a candidate serves while it is on trial.
        step_budget_ms: Milliseconds that a candidate's step of 500 users may take.
        model_max_bytes: Largest model file.
        rollback_window: Answers after a promotion in which it may be undone.
        rollback_margin: Nats by which live log loss may worsen.
        learn_on_drift: Whether drift asks for an update.
        keep_models: Latest versions that the store keeps.
    """

    gate_every: int
    gate_budget: int
    share: float
    step_budget_ms: float
    model_max_bytes: int
    rollback_window: int
    rollback_margin: float
    learn_on_drift: bool
    keep_models: int


class Surroundings(Protocol):
    """What the lifecycle needs of others."""

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
    What was said of answers before a restart.

    Attributes:
        version: That served each, int64 `(N,)`.
        user: Whose answer, any integers, int64 `(N,)`.
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
    The knowledge model's life.

    Args:
        rules: What an operator has chosen.
        store: Where artifacts are.
        triggers: When to learn.
        observer: Watches quality and drift.
        metrics: Where it counts.
        surroundings: Kafka, processes, a clock.
        version: The highest that was ever used.
        answers: Ever completed.
    """

    def __init__(
        self,
        rules: Rules,
        store: Store,
        triggers: Triggers,
        observer: Observer,
        metrics: TrainerMetrics,
        surroundings: Surroundings,
        version: int = 0,
        answers: int = 0,
    ) -> None:
        self._rules = rules
        self._store = store
        self.triggers = triggers
        self._observer = observer
        self._metrics = metrics
        self._around = surroundings
        self._version = version
        self._learned = answers
        """Answers that the newest update could learn from, at most."""
        self.rollout = ModelRollout(name=KNOWLEDGE, decided_at=surroundings.now())
        self._guard = Guard(rules.rollback_window, rules.rollback_margin)
        self._lost = Gains()
        """Of log loss by what serves over the fallback, since it went live."""
        self._losses = np.zeros(2)
        """The sums of both."""
        self._trial: Trial | None = None
        self._met = 0
        """Answers since the trial began, whether both models were there or not."""
        self._update: _Update | None = None
        self._retry_at = float("-inf")
        self._tried: list[tuple[Any, ...]] = []
        self._served: list[tuple[int, int, bool, float, float]] = []

    @property
    def serving(self) -> int:
        """The version that should serve; 0 for the fallback."""
        return self.rollout.champion.version if self.rollout.champion is not None else 0

    @property
    def is_learning(self) -> bool:
        """Whether an update is under way."""
        return self._update is not None

    def recall(self, correct: NDArray[np.bool_], said: Said) -> None:
        """Take in answers from before a restart, in order: what serves is held against them."""
        self._guard.add(
            said.version, said.user, log_losses(correct, said.p_serving), log_losses(correct, said.p_fallback)
        )

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
            self._lost, self._losses = Gains(), np.zeros(2)
        if rollout.challenger != before.challenger or rollout.champion != before.champion:
            self._tried, self._met = [], 0
            self._trial = None
            if rollout.challenger is not None:
                self._trial = Trial(self._rules.gate_every, budget_of(self._learned, self._rules.gate_budget))
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

    def observe(self, example: TrainingExample) -> None:
        """Take an answer in: what serves, and what is on trial, are measured by it."""
        self._observer.add(example, self.serving)
        user = key64(example.user_id) >> 1
        version = example.model.version
        self._served.append((version, user, example.correct, example.p_before, example.p_before_fallback))
        self._met += self._trial is not None
        other, challenger = example.unheard, self.rollout.challenger
        if other is None or challenger is None:
            return
        heard = (example.p_before, example.median_before)
        unheard = (other.p_before, other.median_before)
        # Answers that an earlier champion served, before all workers had taken up this one, say nothing of it.
        if (version, other.model.version) == (self.serving, challenger.version):
            champion, candidate = heard, unheard
        elif (version, other.model.version) == (challenger.version, self.serving):
            candidate, champion = heard, unheard
        else:
            return
        seconds = example.response_time_seconds
        self._tried.append(
            (
                user, example.correct, candidate[0], champion[0], example.p_before_fallback,
                float("nan") if seconds is None else seconds, candidate[1], champion[1], example.median_before_fallback,
            )
        )  # fmt: skip

    def turn(self, answers: int, now: float) -> None:
        """
        Do what is due.

        Args:
            answers: Ever completed.
            now: Seconds of a monotonic clock.
        """
        self._take_up(now)
        self._judge()
        self._take_back()
        self._look_around(now)
        trigger = self.triggers.wish(answers, now, self.rollout.challenger is not None)
        if trigger is not None and self._update is None and now >= self._retry_at:
            self._start(trigger, answers, now)

    def _start(self, trigger: Trigger, answers: int, now: float) -> None:
        if self.rollout.challenger is not None and not self._end_trial(f"{_WHY[trigger]}, and its place is needed"):
            return
        if not self._around.settle():
            self._retry_at = now + _RETRY_S
            return
        self._version += 1
        self.triggers.started(answers, now)
        self._learned = answers
        self._tell(UpdateStarted, answers=answers, candidate_version=self._version, trigger=trigger)
        self._update = _Update(self._around.submit(self._version, self.rollout.champion), self._version, now)

    def _take_up(self, now: float) -> None:
        """Put a finished update on trial."""
        if self._update is None:
            return
        beyond = self._around.limit()
        if beyond is not None:
            log.error("update.ended", version=self._update.version, reason=beyond)
        if not self._update.future.done():
            return
        update, self._update = self._update, None
        self._metrics.update_seconds.observe(now - update.began_at)
        error = update.future.exception()
        if error is not None:
            # That update is lost, and only that: what serves goes on serving, and the next one starts from it.
            self._retry_at = now + _RETRY_S
            self._metrics.updates.labels("failed").inc()
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
            self._metrics.updates.labels("refused").inc()
            self._drop(update.version, reason)
            return
        self._metrics.updates.labels("frozen").inc()
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
        load(self._store, path, variant="challenger", max_bytes=self._rules.model_max_bytes)
        step_ms = read_manifest(self._store, path).metrics.get(STEP_MS, 0.0)
        if step_ms > self._rules.step_budget_ms:
            raise ArtifactError(
                f"{path}: expected a step of 500 users within {self._rules.step_budget_ms:g} ms "
                f"(STREAM_STEP_BUDGET_MS), found {step_ms:.1f} ms"
            )
        return release(self._store, KNOWLEDGE, version)

    def _tidy(self) -> None:
        """Remove old versions from the store."""
        rollout = self.rollout
        announced = {r.version for r in (rollout.champion, rollout.previous, rollout.challenger) if r is not None}
        try:
            for version in outdated(self._store.versions(KNOWLEDGE), self._rules.keep_models, announced):
                self._store.remove(KNOWLEDGE, version)
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
            self._end_trial(f"of {self._met} answers since it was announced it was measured on {trial.n}")

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
        log.info("gate.decided", version=challenger.version, promoted=decision.promoted, reason=decision.reason)
        self._metrics.show_gate(decision.candidate, decision.champion, decision.fallback)
        self._metrics.gates.labels("promoted" if decision.promoted else "kept_out").inc()
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
        elif self.serving and self._guard.version is None and self._lost.is_above_zero():
            lost = self._lost
            reason = (
                f"over {lost.n} answers since it went live its log loss was higher than the fallback's at 95%: by "
                f"{lost.mean:.4f} an answer, {lost.needed:.4f} needed"
            )
            # What served before is no younger, and was worse by the gate: it would hardly do better.
            serving, fallback = (self._losses / lost.n).tolist()
            self._roll_back(Verdict(self.serving, lost.n, fallback, serving, lost.mean, reason), None)

    def _weigh(self) -> None:
        """Have the guard see what has been said since it last looked."""
        if self._served:
            version, user, correct, p, p_fallback = (np.array(column) for column in zip(*self._served, strict=True))
            self._served = []
            losses, losses_fallback = log_losses(correct, p), log_losses(correct, p_fallback)
            self._guard.add(version, user, losses, losses_fallback)
            mine = version == self.serving
            if self.serving and mine.any():
                self._lost.add(user[mine], (losses - losses_fallback)[mine])
                self._losses += (losses[mine].sum(), losses_fallback[mine].sum())

    def _roll_back(self, verdict: Verdict, target: Release | None) -> None:
        tried = self.rollout.challenger
        if not self._announce(champion=target, previous=None, challenger=None, challenger_share=0.0):
            return
        if tried is not None:
            self._drop(tried.version, f"version {verdict.version}, against which it was on trial, was taken back")
        log.error("model.rolled_back", version=verdict.version, to=target.version if target else 0,
                  reason=verdict.reason)  # fmt: skip
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
            self._metrics.drifts.labels(drift.kind).inc()
            self._around.tell(self._observer.drifted(drift, self._around.now()))
            if self._rules.learn_on_drift:
                # Only a loss that rises is worth a trial that has begun.
                self.triggers.ask("drift", at_once=drift.kind == "loss")
        quality = self._observer.measure(now)
        if quality is None:
            return
        self._metrics.show(quality)
        self._around.tell(self._observer.measured(quality, self._around.now()))

    def _end_trial(self, reason: str) -> bool:
        """Take what is on trial out of it; return whether it is."""
        challenger = self.rollout.challenger
        if challenger is None or not self._announce(challenger=None, challenger_share=0.0):
            return False
        self._drop(challenger.version, reason)
        return True

    def _drop(self, version: int, reason: str) -> None:
        log.error("candidate.dropped", version=version, reason=reason)
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
        self._around.tell(kind(event_id=str(uuid4()), name=KNOWLEDGE, at=self._around.now(), **content))


_OVERTAKEN = "somebody else announced another rollout meanwhile"
_WHY: Final = {
    "drift": "drift was detected", "hand": "an update was asked for by hand", "answers": "answers have come",
    "minutes": "it is time",
}  # fmt: skip
