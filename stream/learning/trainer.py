"""
The trainer: a process of its own that reads `training-examples`, learns, gates, and announces.

Its composition root and its loop. Updates run in a child process, never two at once; reading never waits for one. The
buffer is in memory: after a restart it is read again from the topic, up to the offsets that were committed, and goes
on from there.
"""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from pydantic import ValidationError

from schemas import (
    GateDecided,
    InvalidEvent,
    ItemParameters,
    ModelRollout,
    Release,
    TrainingExample,
    UpdateStarted,
    decode_erasure,
    parameters_key,
)
from stream.errors import ArtifactError, InferenceError
from stream.learning.gate import Compared, Decision, decide
from stream.learning.item_statistics import ItemStatistics
from stream.learning.replay import predict_runs
from stream.learning.runs import Buffer
from stream.learning.update import Wish, prepare, reorder, update
from stream.models import features
from stream.models.artifacts import load, read_manifest, read_weights, release
from stream.models.dkt import KNOWLEDGE
from stream.models.items import key_of
from stream.settings import Settings
from stream.telemetry import TrainerMetrics, serve
from stream.transport import topics
from stream.transport.clients import consumer_config, is_fatal
from stream.transport.outbox import KafkaOutbox
from stream.transport.rollout import announce, parse, read_whole

log = structlog.get_logger()

_BATCH = 500
_POLL_S = 0.05
_LOST_CHILD_WAIT_S = 5.0
_PATIENCE = 4
"""Times `gate_answers` after which a candidate is judged even if the champion has hardly served."""


@dataclass(slots=True)
class Candidate:
    """
    A frozen candidate that waits for its answers.

    Attributes:
        folder: Its artifact.
        version: Its version.
        frozen_at: Number of the first answer that it has not learned from.
        met: Answers since, by the version that served them.
    """

    folder: Path
    version: int
    frozen_at: int
    met: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Plan:
    """
    When to learn, and from what: the decisions of the loop, without Kafka or processes.

    Attributes:
        learn_every: Completed answers between two wishes.
        learn_from: Completed answers before the first.
        gate_answers: Answers after the freeze on which a candidate is judged.
        buffer: What is learned from.
        learned: Answers up to the newest wish.
        candidate: What waits for the gate.
        champion: What serves; None for the fallback.
    """

    learn_every: int
    learn_from: int
    gate_answers: int
    buffer: Buffer
    learned: int = 0
    candidate: Candidate | None = None
    champion: Release | None = None

    def wishes_update(self) -> bool:
        """Return whether enough answers have come since the last wish; never while a candidate waits to be judged."""
        enough = self.buffer.count >= max(self.learn_from, self.learned + self.learn_every)
        return enough and self.candidate is None

    @property
    def serving(self) -> int:
        """The version that should serve; 0 for the fallback."""
        return self.champion.version if self.champion is not None else 0

    def can_judge(self) -> bool:
        """
        Return whether the candidate has met enough answers that the champion served.

        Those that an earlier model served, before the workers took the champion up, say nothing of it. If it never
        serves, because the workers keep it out, the candidate is judged in the end by what serves instead.
        """
        if self.candidate is None:
            return False
        met = self.candidate.met
        return met[self.serving] >= self.gate_answers or met.total() >= _PATIENCE * self.gate_answers


def judge(plan: Plan, candidate: Candidate, max_bytes: int) -> tuple[Decision, int, int]:
    """
    Compare a candidate with what served on the answers that came after its freeze.

    Returns:
        The decision, the number of answers and of users compared.

    Raises:
        ArtifactError: If the artifact is not as it should be.
        InferenceError: If it gave numbers that are not finite.
    """
    predictor = load(candidate.folder, variant="challenger", max_bytes=max_bytes)
    runs = plan.buffer.runs(since=candidate.frozen_at)
    p_candidate = predict_runs(predictor, runs)
    fresh = runs.there & (runs.number >= candidate.frozen_at)
    if candidate.met[plan.serving] >= plan.gate_answers:
        fresh &= runs.version == plan.serving
    user = np.broadcast_to(np.arange(len(runs))[:, None], fresh.shape)[fresh]
    compared = Compared(
        user, runs.correct[fresh].astype(bool), p_candidate[fresh], runs.p_serving[fresh], runs.p_fallback[fresh]
    )
    return decide(compared), int(fresh.sum()), len(np.unique(user))


@dataclass(slots=True)
class Trainer:
    """The loop. Everything that it touches is handed in; `run_trainer` composes it."""

    settings: Settings
    plan: Plan
    statistics: ItemStatistics
    outbox: KafkaOutbox
    metrics: TrainerMetrics
    submit: Callable[[Wish], Future[Path]]
    now: Callable[[], datetime]
    version: int = 0
    replayed_to: dict[int, int] = field(default_factory=dict)
    """Offsets of `training-examples`, by partition, before which examples only fill the buffer again."""
    rereading: set[int] = field(default_factory=set)
    """Partitions that are still before that offset: until then nothing is learned or judged."""
    erased_at: dict[str, float] = field(default_factory=dict)
    """When users were erased, by Kafka's timestamps: what they did before is never learned from again."""
    _running: tuple[Future[Path], Candidate] | None = None
    _started_at: float = 0.0
    _failed_at: float = float("-inf")

    @property
    def wants_more(self) -> bool:
        """Whether to go on reading: a busy trainer may be told to let its backlog wait."""
        limit = self.settings.trainer_backlog
        if not limit or self._running is None:
            return True
        return self.plan.buffer.count < self._running[1].frozen_at + limit

    def reached(self, partition: int, offset: int) -> None:
        """Take note of how far `training-examples` has been read, whatever stands there."""
        if offset >= self.replayed_to.get(partition, 0) - 1:
            self.rereading.discard(partition)

    def read(self, example: TrainingExample, partition: int, offset: int, at: float) -> None:
        """
        Take an example into the buffer and, if it is new, into the item statistics.

        Args:
            example: What the model saw, and what happened.
            partition: Of `training-examples`.
            offset: There.
            at: Kafka's timestamp, seconds since the epoch.
        """
        if at <= self.erased_at.get(example.user_id, 0.0):
            return
        if example.feature_version != features.VERSION or len(example.features) != features.COUNT:
            return
        if not self.plan.buffer.add(example, at):
            return
        for candidate in (self._running[1] if self._running else None, self.plan.candidate):
            if candidate is not None:
                candidate.met[example.model.version] += 1
        self.metrics.examples.inc()
        if offset >= self.replayed_to.get(partition, 0):
            self.statistics.learn(example, (partition, offset))

    def forget(self, user_id: str, at: float) -> None:
        """Drop what is kept of a user; `at` is Kafka's timestamp of the erasure."""
        self.erased_at[user_id] = max(at, self.erased_at.get(user_id, 0.0))
        self.plan.buffer.forget(user_id, at)

    def turn(self) -> None:
        """Do what is due: take up a finished update, judge a candidate, start an update."""
        self.metrics.buffered.set(len(self.plan.buffer))
        if self._running is not None and self._running[0].done():
            self._take_up(*self._running)
        if self.rereading:
            return
        if self.plan.can_judge():
            self._judge()
        if self._running is None and self.plan.wishes_update():
            self._start()

    def publish_items(self) -> None:
        """Publish the item parameters that have changed, and return when they are confirmed."""
        for parameters in self.statistics.publish(self.now()):
            self.outbox.send(
                self.settings.topic("item-parameters"),
                key=parameters_key(parameters),
                value=parameters.model_dump_json().encode(),
            )
        self.outbox.flush_now()

    def _start(self) -> None:
        if time.monotonic() < self._failed_at + _LOST_CHILD_WAIT_S:
            return
        self.version += 1
        champion, start, state_format = self.plan.champion, None, None
        if champion is not None:
            try:
                folder = self.settings.model_store / champion.path
                manifest = read_manifest(folder, champion.sha256)
                start = reorder(read_weights(folder, manifest), manifest.skills, self.plan.buffer.skills)
                state_format = champion.state_format
            except ArtifactError as error:
                log.warning("update.started_from_nothing", reason=str(error))
        wish = Wish(
            name=KNOWLEDGE,
            version=self.version,
            folder=self.settings.model_store / KNOWLEDGE / f"v{self.version}",
            runs=self.plan.buffer.runs(),
            skills=self.plan.buffer.skills,
            state_format=state_format,
            start=start,
            seconds=self.settings.update_seconds,
            learning_rate=self.settings.learning_rate,
            seed=self.version,
        )
        self.plan.learned = self.plan.buffer.count
        self._started_at = time.monotonic()
        self._tell(
            UpdateStarted(
                event_id=str(uuid4()), name=KNOWLEDGE, at=self.now(), answers=len(self.plan.buffer),
                candidate_version=self.version,
            )
        )  # fmt: skip
        self._running = (self.submit(wish), Candidate(wish.folder, wish.version, self.plan.buffer.count))

    def _take_up(self, future: Future[Path], candidate: Candidate) -> None:
        self._running = None
        self.metrics.update_seconds.observe(time.monotonic() - self._started_at)
        error = future.exception()
        if error is None:
            self.metrics.updates.labels("frozen").inc()
            self.plan.candidate = candidate
            return
        # That update is lost, and only that: what serves goes on serving, and the next one starts from it.
        log.error("update.failed", version=candidate.version, reason=f"{type(error).__name__}: {error}")
        self.metrics.updates.labels("failed").inc()
        self._failed_at = time.monotonic()

    def _judge(self) -> None:
        candidate, self.plan.candidate = self.plan.candidate, None
        if candidate is None:
            return
        try:
            decision, answers, users = judge(self.plan, candidate, self.settings.model_max_bytes)
            promoted = release(self.settings.model_store, KNOWLEDGE, candidate.version)
        except (ArtifactError, InferenceError) as error:
            log.error("candidate.refused", version=candidate.version, reason=str(error))  # noqa: TRY400
            self.metrics.updates.labels("refused").inc()
            return
        self._count(decision)
        log.info("gate.decided", version=candidate.version, promoted=decision.promoted, reason=decision.reason,
                 answers=answers, z=round(decision.z, 2))  # fmt: skip
        champion = self.plan.champion
        if decision.promoted:
            self._announce(promoted)
        elif decision.falls_back and champion is not None:
            self._announce(None)
        self._tell(
            GateDecided(
                event_id=str(uuid4()), name=KNOWLEDGE, at=self.now(), candidate_version=candidate.version,
                champion_version=champion.version if champion else None, promoted=decision.promoted,
                reason=decision.reason, n=answers, users=users, logloss_candidate=decision.logloss[0],
                logloss_champion=decision.logloss[1], logloss_fallback=decision.logloss[2],
                auc_candidate=decision.auc[0], auc_champion=decision.auc[1], auc_fallback=decision.auc[2],
                z=decision.z,
            )
        )  # fmt: skip

    def _count(self, decision: Decision) -> None:
        self.metrics.gates.labels("promoted" if decision.promoted else "kept_out").inc()
        for model, loss, area in zip(("candidate", "serving", "fallback"), decision.logloss, decision.auc, strict=True):
            self.metrics.logloss.labels(model).set(loss)
            if area is not None:
                self.metrics.auc.labels(model).set(area)

    def _announce(self, champion: Release | None) -> None:
        rollout = announce(self.outbox, self.settings, champion, self.plan.champion, self.now())
        self.follow(rollout)

    def follow(self, rollout: ModelRollout) -> None:
        """Take note of what is to serve from now on, whoever announced it."""
        self.plan.champion = rollout.champion
        self.metrics.version.set(self.plan.serving)

    def _tell(self, event: UpdateStarted | GateDecided) -> None:
        self.outbox.send(
            self.settings.topic("model-events"), key=KNOWLEDGE.encode(), value=event.model_dump_json().encode()
        )


def run_trainer(settings: Settings) -> None:
    """
    Run the trainer until it is told to stop.

    Raises:
        UserError: If topics, broker or ports are not as they should be.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: stopping.append(got))
    topics.ensure(settings)
    metrics = TrainerMetrics()
    serve(metrics.registry, settings.metrics_host, settings.trainer_metrics_port, "STREAM_TRAINER_METRICS_PORT")
    settings.model_store.mkdir(parents=True, exist_ok=True)
    for unfinished in (settings.model_store / KNOWLEDGE).glob(".v*-*"):
        # An update was killed while it wrote; there is one trainer, so nobody else is at it.
        shutil.rmtree(unfinished, ignore_errors=True)
    rollout, published, erasures = _read_control(settings)
    plan = Plan(
        settings.learn_every, settings.learn_from, settings.gate_answers,
        Buffer(settings.buffer_answers, settings.buffer_run),
    )  # fmt: skip
    statistics = ItemStatistics()
    statistics.restore((key_of(p), p) for p in published)
    version = _last_version(settings.model_store / KNOWLEDGE)
    if rollout is not None:
        version = max(version, *(r.version for r in (rollout.champion, rollout.previous) if r is not None), 0)
        if rollout.champion is not None:
            plan.buffer.know(_skills(settings, rollout.champion))
    children = _Children()
    trainer = Trainer(
        settings, plan, statistics, KafkaOutbox(settings), metrics, children.submit, lambda: datetime.now(UTC), version
    )
    if rollout is not None:
        trainer.follow(rollout)
    for user_id, at in erasures:
        trainer.forget(user_id, at)
    log.info("trainer.started", broker=settings.broker, champion=plan.champion.version if plan.champion else 0)
    try:
        _loop(settings, trainer, stopping)
    finally:
        children.stop()
    log.info("trainer.ended")


def _skills(settings: Settings, champion: Release) -> tuple[str, ...]:
    try:
        return read_manifest(settings.model_store / champion.path, champion.sha256).skills
    except ArtifactError as error:
        log.warning("champion.unreadable", reason=str(error))
        return ()


def _last_version(folder: Path) -> int:
    """Return the highest version that was ever written, so that none is used twice."""
    names = [path.name[1:] for path in folder.glob("v*")] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


class _Children:
    """One child process that trains; made anew if it was lost."""

    def __init__(self) -> None:
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), initializer=prepare)
        # Loading torch takes seconds: it is done while the first answers come in.
        pool.submit(prepare_done)
        return pool

    def submit(self, wish: Wish) -> Future[Path]:
        """Start an update."""
        try:
            return self._pool.submit(update, wish)
        except BrokenProcessPool:
            log.warning("trainer.child_lost")
            self._pool = self._new()
            return self._pool.submit(update, wish)

    def stop(self) -> None:
        """End the child, whatever it is doing: an artifact appears whole or not at all."""
        processes = list(self._pool._processes.values()) if self._pool._processes else []  # noqa: SLF001
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()


def prepare_done() -> None:
    """Do nothing: a first task, so that the child is there."""


def _loop(settings: Settings, trainer: Trainer, stopping: list[int]) -> None:
    examples, erasures, updates = map(settings.topic, ("training-examples", "erasures", "model-updates"))
    consumer = Consumer(consumer_config(settings, f"{settings.group}-trainer"))

    def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
        # The buffer is in memory: examples are read again from their beginning, and count as new from the committed
        # offset on.
        committed = consumer.committed(partitions, timeout=15)
        for partition in committed:
            if partition.topic == examples and partition.partition not in trainer.replayed_to:
                reached = max(partition.offset, 0)
                partition.offset, end = consumer.get_watermark_offsets(partition, timeout=15)
                if trainer.statistics.forget_seen(partition.partition, end):
                    log.warning("examples.made_anew", topic=examples, partition=partition.partition, end=end)
                trainer.replayed_to[partition.partition] = reached
                if partition.offset < reached:
                    trainer.rereading.add(partition.partition)
        consumer.assign(committed)

    consumer.subscribe([examples, erasures, updates], on_assign=assigned)
    committed_at = time.monotonic()
    is_paused = False
    try:
        while not stopping:
            if trainer.wants_more == is_paused:
                (consumer.pause if not is_paused else consumer.resume)(consumer.assignment())
                is_paused = not is_paused
            for message in consumer.consume(_BATCH, _POLL_S):
                _take(message, trainer, erasures, updates)
            trainer.turn()
            if time.monotonic() - committed_at >= settings.publish_items_every_s:
                _settle(consumer, trainer, examples)
                committed_at = time.monotonic()
        _settle(consumer, trainer, examples)
    finally:
        consumer.close()


def _settle(consumer: Consumer, trainer: Trainer, examples: str) -> None:
    """
    Publish what has been learned of items, and only then commit what it was learned from.

    What is learned again, because the process ended in between, is known by what each record has seen.
    """
    trainer.publish_items()
    positions = [p for p in consumer.position(consumer.assignment()) if p.offset >= 0]
    for position in positions:
        # While the buffer is read again, the position is behind what was committed: that must not go back.
        if position.topic == examples:
            position.offset = max(position.offset, trainer.replayed_to.get(position.partition, 0))
    if positions:
        try:
            consumer.commit(offsets=positions, asynchronous=False)
        except KafkaException as error:
            # A rebalance or a coordinator that moves: the next turn commits what this one could not.
            log.warning("trainer.commit_failed", reason=error.args[0].str())


def _take(message: KafkaMessage, trainer: Trainer, erasures: str, updates: str) -> None:
    error = message.error()
    if error is not None:
        if is_fatal(error):
            raise KafkaException(error)
        return
    if message.topic() not in (erasures, updates):
        trainer.reached(message.partition() or 0, message.offset() or 0)
    value = message.value()
    if value is None:
        return
    try:
        _, timestamp_ms = message.timestamp()
        if message.topic() == erasures:
            trainer.forget(decode_erasure(value).user_id, timestamp_ms / 1000)
        elif message.topic() == updates:
            rollout = parse(value)
            if rollout is not None:
                trainer.follow(rollout)
        else:
            example = TrainingExample.model_validate_json(value)
            trainer.read(example, message.partition() or 0, message.offset() or 0, timestamp_ms / 1000)
    except (ValidationError, InvalidEvent) as problem:
        log.warning("example.unreadable", topic=message.topic(), partition=message.partition(),
                    offset=message.offset(), reason=str(problem))  # fmt: skip


def _read_control(settings: Settings) -> tuple[ModelRollout | None, list[ItemParameters], list[tuple[str, float]]]:
    """Return the rollout that should be, all item parameters, and all erasures, as they stand on their topics now."""
    rollouts: list[ModelRollout] = []
    parameters: dict[bytes, ItemParameters] = {}
    erasures: list[tuple[str, float]] = []

    def take(topic: str, key: bytes, value: bytes, at: float) -> None:
        try:
            if topic == "item-parameters":
                parameters[key] = ItemParameters.model_validate_json(value)
            elif topic == "erasures":
                erasures.append((decode_erasure(value).user_id, at))
            elif (rollout := parse(value)) is not None:
                rollouts.append(rollout)
        except (ValidationError, InvalidEvent) as error:
            log.warning("control.unreadable", topic=topic, reason=str(error))

    read_whole(settings, ("model-updates", "item-parameters", "erasures"), take)
    return rollouts[-1] if rollouts else None, list(parameters.values()), erasures
