"""
The trainer: a process of its own that reads `training-examples`, learns, has candidates tried, and announces.

Its composition root and its loop. What becomes of models is `stream.learning.lifecycle`'s; updates run in a child
process, never two at once, and reading never waits for one. Where it ends, by whatever cause, it goes on from the
replay buffer and the places that stand in it.
"""

import signal
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from pydantic import TypeAdapter, ValidationError

from schemas import (
    ExampleCorrection,
    InvalidEvent,
    ItemParameters,
    LearnRequested,
    ModelEvent,
    ModelRefused,
    ModelRollout,
    Release,
    TrainingMessage,
    decode_erasure,
    parameters_key,
)
from stream.errors import ArtifactError, StoreError
from stream.learning.buffer import Buffer
from stream.learning.children import Children
from stream.learning.item_statistics import ItemStatistics
from stream.learning.lifecycle import Lifecycle, Rules, Said
from stream.learning.observer import Observer
from stream.learning.triggers import Triggers
from stream.learning.update import Wish
from stream.models import features
from stream.models.artifacts import read_manifest
from stream.models.dkt import KNOWLEDGE
from stream.models.features import COLUMN
from stream.models.items import chain, key_of
from stream.models.store import Store
from stream.settings import Settings
from stream.telemetry import TrainerMetrics, serve
from stream.transport import topics
from stream.transport.clients import consumer_config, is_fatal
from stream.transport.offsets import ends
from stream.transport.outbox import KafkaOutbox
from stream.transport.rollout import announce, current, parse, read_whole

log = structlog.get_logger()

_BATCH = 500
_POLL_S = 0.05
_MOST_UNCOMMITTED = 100_000
"""Answers that may wait in memory for a disk that is full; then reading waits for it."""

_MESSAGE: TypeAdapter[TrainingMessage] = TypeAdapter(TrainingMessage)
_EVENT: TypeAdapter[ModelEvent] = TypeAdapter(ModelEvent)


@dataclass(slots=True)
class Kafka:
    """What the lifecycle reaches of the world: the broker, the child that trains, the clock."""

    settings: Settings
    outbox: KafkaOutbox
    children: Children
    settle: Callable[[], bool] = lambda: True
    """Makes durable what was read; the trainer's."""
    own: deque[ModelRollout] = field(default_factory=deque)
    """Announcements of ours that have not come back from the topic yet."""

    def submit(self, version: int, champion: Release | None) -> Future[str]:
        """Start an update that begins from the champion."""
        settings = self.settings
        return self.children.submit(
            Wish(
                name=KNOWLEDGE,
                version=version,
                store=settings.model_store,
                path=Store.folder_of(KNOWLEDGE, version),
                buffer=settings.buffer,
                answers=settings.update_answers,
                champion=champion,
                seconds=settings.update_seconds,
                learning_rate=settings.learning_rate,
                seed=version,
            )
        )

    def limit(self) -> str | None:
        """End an update that is beyond its limits."""
        return self.children.limit()

    def current(self) -> ModelRollout | None:
        """Return what stands announced."""
        return current(self.settings)

    def announce(self, rollout: ModelRollout) -> None:
        """Say what should serve."""
        announce(self.outbox, self.settings, rollout)
        self.own.append(rollout)

    def tell(self, event: ModelEvent) -> None:
        """Tell of something that happened."""
        self.outbox.send(
            self.settings.topic("model-events"), key=KNOWLEDGE.encode(), value=event.model_dump_json().encode()
        )

    def now(self) -> datetime:
        """Return the present moment."""
        return datetime.now(UTC)


@dataclass(slots=True)
class Trainer:
    """What is done with each message, and in each turn. Everything that it touches is handed in."""

    settings: Settings
    buffer: Buffer
    statistics: ItemStatistics
    observer: Observer
    lifecycle: Lifecycle
    kafka: Kafka
    metrics: TrainerMetrics

    @property
    def wants_more(self) -> bool:
        """Whether to go on reading: a busy trainer may be told to let its backlog wait, and a full disk makes it."""
        limit, learned = self.settings.trainer_backlog, self.lifecycle.triggers.learned
        if limit and self.lifecycle.is_learning and self.buffer.count >= learned + limit:
            return False
        return self.buffer.uncommitted < _MOST_UNCOMMITTED

    def read(self, message: TrainingMessage, partition: int, offset: int, at: float) -> None:
        """
        Take what a worker tells of an answer; `at` is Kafka's timestamp, seconds since the epoch.

        What came before is known by its place, its event's id, or the erasure of its user, and changes nothing.
        """
        if isinstance(message, ExampleCorrection):
            self._correct(message, (partition, offset))
        elif message.feature_version != features.VERSION or len(message.features) != features.COUNT:
            self.buffer.passed(partition, offset)
        elif self.buffer.add(message, at, (partition, offset)):
            self.metrics.examples.inc()
            self.statistics.learn(message, (partition, offset))
            self.lifecycle.observe(message)

    def _correct(self, correction: ExampleCorrection, place: tuple[int, int]) -> None:
        corrected = self.buffer.correct(correction, place)
        self.metrics.corrections.labels("missing" if corrected is None else "found").inc()
        if corrected is None or corrected.was_correct == corrected.is_correct:
            return
        of_user = corrected.features
        ability_sd = float(of_user[COLUMN["ability_sd"]])
        self.statistics.correct(
            chain(corrected.item_id, corrected.topic_id, corrected.difficulty),
            corrected.was_correct,
            corrected.is_correct,
            float(of_user[COLUMN["ability"]]),
            ability_sd * ability_sd,
            place,
        )

    def forget(self, user_id: str, at: float) -> None:
        """Drop what is kept of a user; `at` is Kafka's timestamp of the erasure."""
        self.buffer.forget(user_id, at)
        self.observer.forget(user_id)

    def heard(self, rollout: ModelRollout) -> None:
        """Follow an announcement from the topic; where one of ours is still to come there, that is what counts."""
        if self.kafka.own and self.kafka.own[0] == rollout:
            self.kafka.own.popleft()
        if not self.kafka.own:
            self.lifecycle.heard(rollout)

    def turn(self) -> None:
        """Do what is due."""
        self.metrics.buffered.set(len(self.buffer))
        self.metrics.buffered_users.set(self.buffer.users)
        self.metrics.buffered_bytes.set(self.buffer.size_bytes)
        self.lifecycle.turn(self.buffer.count, time.monotonic())

    def settle(self) -> bool:
        """
        Publish what has been learned of items, and then make durable what it was learned from.

        What is learned again, because the process ended in between, is known by what each record has seen.

        Returns:
            Whether it is: a disk that is full is tried again the next time.
        """
        for parameters in self.statistics.publish(self.kafka.now()):
            self.kafka.outbox.send(
                self.settings.topic("item-parameters"),
                key=parameters_key(parameters),
                value=parameters.model_dump_json().encode(),
            )
        self.kafka.outbox.flush_now()
        try:
            self.buffer.commit()
        except StoreError as error:
            log.error("buffer.not_written", reason=str(error))  # noqa: TRY400 (the sentence says it)
            self.metrics.failures.labels("buffer").inc()
            return False
        return True


def run_trainer(settings: Settings) -> None:
    """
    Run the trainer until it is told to stop.

    Raises:
        UserError: If topics, broker, ports or the buffer's file are not as they should be.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: stopping.append(got))
    topics.ensure(settings)
    metrics = TrainerMetrics()
    serve(metrics.registry, settings.metrics_host, settings.trainer_metrics_port, "STREAM_TRAINER_METRICS_PORT")
    store = _reached(settings, metrics, stopping)
    if store is None:
        return
    updates = (settings.topic("model-updates"), 0)
    end_of_updates = ends(settings, [updates])[updates]
    rollout, published, erasures = _read_control(settings)
    statistics = ItemStatistics()
    statistics.restore((key_of(p), p) for p in published)
    with Buffer(
        settings.buffer, max_users=settings.buffer_users, max_bytes=settings.buffer_bytes, max_run=settings.buffer_run
    ) as buffer:
        children = Children(settings.update_memory_mb, _LIMIT_FACTOR * settings.update_seconds + _LIMIT_S)
        try:
            trainer = _compose(settings, store, buffer, statistics, children, metrics)
            if rollout is not None:
                if rollout.champion is not None:
                    buffer.know(_skills(store, rollout.champion))
                    _recall(buffer, trainer.lifecycle)
                trainer.lifecycle.follow(rollout, again=True)
            for user_id, at in erasures:
                trainer.forget(user_id, at)
            log.info("trainer.started", broker=settings.broker, champion=trainer.lifecycle.serving,
                     buffered=len(buffer))  # fmt: skip
            _loop(settings, trainer, stopping, end_of_updates)
        finally:
            children.stop()
    log.info("trainer.ended")


_LIMIT_FACTOR, _LIMIT_S = 3.0, 120.0
"""An update's first pass is whole however short its time, and it is exported too: so much more it may take."""


def _compose(
    settings: Settings,
    store: Store,
    buffer: Buffer,
    statistics: ItemStatistics,
    children: Children,
    metrics: TrainerMetrics,
) -> Trainer:
    rules = Rules(
        gate_every=settings.gate_every,
        gate_budget=settings.gate_budget,
        share=settings.challenger_share,
        step_budget_ms=settings.step_budget_ms,
        model_max_bytes=settings.model_max_bytes,
        rollback_window=settings.rollback_window,
        rollback_margin=settings.rollback_margin,
        learn_on_drift=settings.learn_on_drift,
        keep_models=settings.keep_models,
    )
    triggers = Triggers(settings.learn_every, settings.learn_from, 60 * settings.learn_every_minutes)
    observer = Observer(KNOWLEDGE, settings.watch_window)
    kafka = Kafka(settings, KafkaOutbox(settings), children)
    # The highest version that was ever begun, so that none is used twice; then what was interrupted is swept up. There
    # is one trainer, so nobody else is at it.
    last = store.last_version(KNOWLEDGE)
    store.sweep(KNOWLEDGE)
    lifecycle = Lifecycle(rules, store, triggers, observer, metrics, kafka, last, buffer.count)
    trainer = Trainer(settings, buffer, statistics, observer, lifecycle, kafka, metrics)
    kafka.settle = trainer.settle
    return trainer


def _reached(settings: Settings, metrics: TrainerMetrics, stopping: list[int]) -> Store | None:
    """Return the store as soon as it can be reached; None if the trainer is told to stop before."""
    while not stopping:
        try:
            store = Store(settings.model_store)
            store.versions(KNOWLEDGE)
        except StoreError as error:
            log.error("store.unreachable", reason=str(error))  # noqa: TRY400 (the sentence says it)
            metrics.failures.labels("store").inc()
            time.sleep(_STORE_RETRY_S)
        else:
            return store
    return None


_STORE_RETRY_S = 5.0


def _recall(buffer: Buffer, lifecycle: Lifecycle) -> None:
    """Hold what serves against the latest answers from before a restart."""
    since = max(buffer.count - _RECALLED, 0)
    runs = buffer.runs(since)
    chosen = runs.there & (runs.number >= since)
    in_order = np.argsort(runs.number[chosen])
    user = np.broadcast_to(np.arange(len(runs))[:, None], chosen.shape)
    said = Said(
        runs.version[chosen][in_order], user[chosen][in_order],
        runs.p_serving[chosen][in_order], runs.p_fallback[chosen][in_order],
    )  # fmt: skip
    lifecycle.recall(runs.correct[chosen][in_order] > 0, said)


_RECALLED = 10_000
"""Answers: more than a rollback looks at, before a swap and after."""


def _skills(store: Store, champion: Release) -> tuple[str, ...]:
    try:
        return read_manifest(store, champion.path, champion.sha256).skills
    except (ArtifactError, StoreError) as error:
        log.warning("champion.unreadable", reason=str(error))
        return ()


def _loop(settings: Settings, trainer: Trainer, stopping: list[int], end_of_updates: int) -> None:
    examples, updates = settings.topic("training-examples"), settings.topic("model-updates")
    takers: dict[str, Callable[[KafkaMessage, bytes], None]] = {
        examples: lambda message, value: trainer.read(_MESSAGE.validate_json(value), *_place(message), _at(message)),
        settings.topic("erasures"): lambda message, value: trainer.forget(decode_erasure(value).user_id, _at(message)),
        updates: lambda _, value: _follow(trainer, value),
        settings.topic("model-events"): lambda _, value: _happened(trainer, value),
    }
    consumer = Consumer(consumer_config(settings, f"{settings.group}-trainer"))

    def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
        # Of examples the buffer's places count: they became durable with what was read up to there.
        places = trainer.buffer.places()
        committed = consumer.committed(partitions, timeout=15)
        for partition in committed:
            if partition.topic == examples:
                first, end = consumer.get_watermark_offsets(partition, timeout=15)
                if trainer.buffer.made_anew(partition.partition, end):
                    log.warning("examples.made_anew", topic=examples, partition=partition.partition, end=end)
                    places = trainer.buffer.places()
                trainer.statistics.forget_seen(partition.partition, end)
                partition.offset = max(places.get(partition.partition, 0), first)
            elif partition.topic == updates:
                # What stood there at the start has been followed; what we have announced since comes back here.
                partition.offset = end_of_updates
        consumer.assign(committed)

    consumer.subscribe(list(takers), on_assign=assigned)
    settled_at = time.monotonic()
    is_paused = False
    try:
        while not stopping:
            if trainer.wants_more == is_paused:
                of_examples = [place for place in consumer.assignment() if place.topic == examples]
                (consumer.pause if not is_paused else consumer.resume)(of_examples)
                is_paused = not is_paused
            for message in consumer.consume(_BATCH, _POLL_S):
                _take(message, trainer, takers)
            trainer.turn()
            if time.monotonic() - settled_at >= settings.publish_items_every_s:
                _settle(consumer, trainer)
                settled_at = time.monotonic()
        _settle(consumer, trainer)
    finally:
        consumer.close()


def _settle(consumer: Consumer, trainer: Trainer) -> None:
    """Make durable what was read, and then commit the offsets, for those who watch how far behind the trainer is."""
    positions = [p for p in consumer.position(consumer.assignment()) if p.offset >= 0]
    if not trainer.settle() or not positions:
        return
    try:
        consumer.commit(offsets=positions, asynchronous=False)
    except KafkaException as error:
        # A rebalance or a coordinator that moves: the next turn commits what this one could not.
        log.warning("trainer.commit_failed", reason=error.args[0].str())


def _take(message: KafkaMessage, trainer: Trainer, takers: dict[str, Callable[[KafkaMessage, bytes], None]]) -> None:
    error, value = message.error(), message.value()
    if error is not None:
        if is_fatal(error):
            raise KafkaException(error)
        return
    if value is None:
        return
    try:
        takers[message.topic() or ""](message, value)
    except (ValidationError, InvalidEvent) as problem:
        log.warning("example.unreadable", topic=message.topic(), partition=message.partition(),
                    offset=message.offset(), reason=str(problem))  # fmt: skip
        if message.topic() == trainer.settings.topic("training-examples"):
            trainer.buffer.passed(*_place(message))


def _place(message: KafkaMessage) -> tuple[int, int]:
    return message.partition() or 0, message.offset() or 0


def _at(message: KafkaMessage) -> float:
    return message.timestamp()[1] / 1000


def _follow(trainer: Trainer, value: bytes) -> None:
    rollout = parse(value)
    if rollout is not None:
        trainer.heard(rollout)


def _happened(trainer: Trainer, value: bytes) -> None:
    event = _EVENT.validate_json(value)
    if event.name != KNOWLEDGE:
        return
    if isinstance(event, LearnRequested):
        trainer.lifecycle.triggers.ask("hand")
    elif isinstance(event, ModelRefused):
        trainer.lifecycle.refused(event.version, event.reason)


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
