"""
The trainer: a process of its own that reads `training-examples`, learns, has candidates tried, and announces.

Its composition root and its loop. What becomes of each model is a `stream.learning.lifecycle`'s; updates run in a child
process, never two at once, and reading never waits for one. Where it ends, by whatever cause, it goes on from the
replay buffer, the file of risk examples, and the places that stand in each.
"""

import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

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
    RiskExample,
    RiskOutcome,
    TrainingMessage,
    decode_erasure,
    parameters_key,
)
from stream.errors import ArtifactError, StoreError
from stream.health import Health
from stream.learning.buffer import Buffer
from stream.learning.children import Children
from stream.learning.drift import FeatureDrift, LossDrift
from stream.learning.item_statistics import ItemStatistics
from stream.learning.judged import Judged, judged_answer
from stream.learning.lifecycle import (
    Lifecycle,
    Rules,
    Said,
    Surroundings,
    knowledge_artifacts,
    risk_artifacts,
    said_of,
)
from stream.learning.observer import Observer
from stream.learning.risk import watch as risk_watch
from stream.learning.risk.examples import RiskExamples
from stream.learning.risk.update import RiskWish
from stream.learning.risk.update import update as update_risk
from stream.learning.triggers import Triggers
from stream.learning.update import Wish, update
from stream.learning.watch import Watch
from stream.models import features
from stream.models.artifacts import read_manifest
from stream.models.dkt import KNOWLEDGE
from stream.models.features import COLUMN
from stream.models.items import chain, key_of
from stream.models.risk import RISK
from stream.models.store import Store
from stream.settings import Settings
from stream.telemetry import TrainerMetrics, serve
from stream.transport import topics
from stream.transport.clients import consumer_config, is_fatal
from stream.transport.offsets import ends
from stream.transport.outbox import KafkaOutbox
from stream.transport.rollout import announce, current, parse, read_whole
from stream.transport.standings import Standings

log = structlog.get_logger()

_BATCH = 500
_POLL_S = 0.05
_BEAT_S = 0.5
"""How often it is put down where the topics stand."""

_MOST_UNCOMMITTED = 100_000
"""Answers that may wait in memory for a disk that is full; then reading waits for it."""

_MESSAGE: TypeAdapter[TrainingMessage] = TypeAdapter(TrainingMessage)
_EVENT: TypeAdapter[ModelEvent] = TypeAdapter(ModelEvent)


Begin = Callable[[int, Release | None], Future[str]]
"""Starts an update of a model, for a version, from a champion; its result is the artifact's path in the store."""


@dataclass(slots=True)
class Kafka:
    """What a lifecycle reaches of the world: the broker, the child that trains, the clock."""

    name: str
    settings: Settings
    outbox: KafkaOutbox
    children: Children
    begin: Begin
    settle: Callable[[], bool] = lambda: True
    """Makes durable what was read; the trainer's."""
    own: deque[ModelRollout] = field(default_factory=deque)
    """Announcements of ours that have not come back from the topic yet."""

    def is_free(self) -> bool:
        """Return whether an update may begin."""
        return self.children.is_free()

    def submit(self, version: int, champion: Release | None) -> Future[str]:
        """Start an update that begins from the champion."""
        return self.begin(version, champion)

    def limit(self) -> str | None:
        """End an update that is beyond its limits."""
        return self.children.limit()

    def current(self) -> ModelRollout | None:
        """Return what stands announced."""
        return current(self.settings, self.name)

    def announce(self, rollout: ModelRollout) -> None:
        """Say what should serve."""
        announce(self.outbox, self.settings, rollout)
        self.own.append(rollout)

    def tell(self, event: ModelEvent) -> None:
        """Tell of something that happened."""
        self.outbox.send(
            self.settings.topic("model-events"), key=self.name.encode(), value=event.model_dump_json().encode()
        )

    def now(self) -> datetime:
        """Return the present moment."""
        return datetime.now(UTC)


def begin_knowledge(settings: Settings, children: Children) -> Begin:
    """Return what starts an update of the knowledge model."""

    def begin(version: int, champion: Release | None) -> Future[str]:
        wish = Wish(
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
        return children.submit(update, wish)

    return begin


def begin_risk(settings: Settings, children: Children) -> Begin:
    """Return what starts an update of the risk model."""

    def begin(version: int, champion: Release | None) -> Future[str]:
        wish = RiskWish(
            version=version,
            store=settings.model_store,
            path=Store.folder_of(RISK, version),
            examples=settings.risk_examples,
            weeks=settings.update_answers,
            champion=champion,
            seconds=settings.update_seconds,
            learning_rate=settings.risk_learning_rate,
            seed=version,
            fields=tuple(sorted(settings.risk_feature_fields)),
        )
        return children.submit(update_risk, wish)

    return begin


class Life(NamedTuple):
    """A model's lifecycle, and what it reaches of the world."""

    lifecycle: Lifecycle
    kafka: Kafka


@dataclass(slots=True)
class Trainer:
    """
    What is done with each message, and in each turn. Everything that it touches is handed in.

    Attributes:
        settings: All of them.
        outbox: To the broker.
        buffer: Answers to learn from.
        risk: Weeks of users to learn from.
        statistics: Of items.
        features: Watches whether they drift.
        lives: By the model's name.
        metrics: Where it counts.
    """

    settings: Settings
    outbox: KafkaOutbox
    buffer: Buffer
    risk: RiskExamples
    statistics: ItemStatistics
    features: FeatureDrift
    lives: Mapping[str, Life]
    metrics: TrainerMetrics

    @property
    def wants_more(self) -> bool:
        """Whether to go on reading: a busy trainer may be told to let its backlog wait, and a full disk makes it."""
        return not self.lets_wait and self.buffer.uncommitted + self.risk.uncommitted < _MOST_UNCOMMITTED

    @property
    def lets_wait(self) -> bool:
        """Whether the backlog waits on purpose, for an update to end."""
        limit, knowledge = self.settings.trainer_backlog, self.lives[KNOWLEDGE].lifecycle
        return bool(limit and knowledge.is_learning and self.buffer.count >= knowledge.triggers.learned + limit)

    def read(self, message: TrainingMessage, partition: int, offset: int, at: float) -> None:
        """
        Take what a worker tells of an answer, or of a risk; `at` is Kafka's timestamp, seconds since the epoch.

        What came before is known by its place, its event's id, or the erasure of its user, and changes nothing. Each of
        the two files keeps the places up to which it was read, so each is told of every place.
        """
        if isinstance(message, RiskExample | RiskOutcome):
            self.buffer.passed(partition, offset)
            self.risk.read(message, at, (partition, offset))
            return
        self.risk.passed(partition, offset)
        if isinstance(message, ExampleCorrection):
            self._correct(message, (partition, offset))
        elif message.feature_version != features.VERSION or len(message.features) != features.COUNT:
            self.buffer.passed(partition, offset)
        elif self.buffer.add(message, at, (partition, offset)):
            self.metrics.examples.inc()
            self.statistics.learn(message, (partition, offset))
            knowledge = self.lives[KNOWLEDGE].lifecycle
            knowledge.drifted(self.features.add(message.user_id, message.features, message.state_version))
            knowledge.observe(judged_answer(message, at))

    def passed(self, partition: int, offset: int) -> None:
        """Take note of a place that brought nothing that could be read."""
        self.buffer.passed(partition, offset)
        self.risk.passed(partition, offset)

    def places(self, partition: int, end: int) -> int:
        """
        Return the offset from which to read a partition of `training-examples`, the lower one of both files'.

        Args:
            partition: Which.
            end: Its end now; below what was read, the topic was made anew.
        """
        made_anew = [file.made_anew(partition, end) for file in (self.buffer, self.risk)]
        if any(made_anew):
            log.warning("examples.made_anew", partition=partition, end=end)
        self.statistics.forget_seen(partition, end)
        return min(file.places().get(partition, 0) for file in (self.buffer, self.risk))

    def _correct(self, correction: ExampleCorrection, place: tuple[int, int]) -> None:
        if self.buffer.has_read(*place):
            return
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
        self.risk.forget(user_id, at)
        self.features.forget(user_id)

    def heard(self, rollout: ModelRollout) -> None:
        """Follow an announcement from the topic; where one of ours is still to come there, that is what counts."""
        life = self.lives.get(rollout.name)
        if life is None:
            return
        own = life.kafka.own
        if own and own[0] == rollout:
            own.popleft()
        if not own:
            life.lifecycle.heard(rollout)

    def happened(self, event: ModelEvent) -> None:
        """Take note of what others tell of a model."""
        life = self.lives.get(event.name)
        if life is None:
            return
        if isinstance(event, LearnRequested):
            life.lifecycle.triggers.ask("hand")
        elif isinstance(event, ModelRefused):
            life.lifecycle.refused(event.version, event.reason)

    def turn(self) -> None:
        """Do what is due."""
        self.metrics.buffered.set(len(self.buffer))
        self.metrics.buffered_users.set(self.buffer.users)
        self.metrics.buffered_bytes.set(self.buffer.size_bytes)
        self.metrics.risk_users.set(self.risk.users)
        self.metrics.risk_bytes.set(self.risk.size_bytes)
        now = time.monotonic()
        # Risk first: it seldom wishes for an update, and the knowledge model nearly always does.
        self.lives[RISK].lifecycle.turn(self.risk.learnable, now)
        self.lives[KNOWLEDGE].lifecycle.turn(self.buffer.count, now)

    def settle(self) -> bool:
        """
        Publish what has been learned of items, and then make durable what it was learned from.

        What is learned again, because the process ended in between, is known by what each record has seen. Risks are
        judged here: what an outcome labels counts once it is durable that it does, and only once.

        Returns:
            Whether it is: a disk that is full is tried again the next time.
        """
        for parameters in self.statistics.publish(datetime.now(UTC)):
            self.outbox.send(
                self.settings.topic("item-parameters"),
                key=parameters_key(parameters),
                value=parameters.model_dump_json().encode(),
            )
        self.outbox.flush_now()
        try:
            self.buffer.commit()
            judged = self.risk.commit()
        except StoreError as error:
            log.error("buffer.not_written", reason=str(error))  # noqa: TRY400 (the sentence says it)
            self.metrics.failures.labels("buffer").inc()
            return False
        self.metrics.risk_labelled.inc(len(judged))
        for each in judged:
            self.lives[RISK].lifecycle.observe(each)
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
    metrics = TrainerMetrics(Health(settings.stalled_after_s + settings.publish_items_every_s))
    health = metrics.health
    health.lacks("topics", "the topics have not been assigned yet")
    health.lacks("store", "the store of models has not been reached yet")
    serve(metrics.registry, health, settings.metrics_host, settings.trainer_metrics_port, "STREAM_TRAINER_METRICS_PORT")
    store = _reached(settings, metrics, stopping)
    if store is None:
        return
    health.has("store")
    updates = (settings.topic("model-updates"), 0)
    end_of_updates = ends(settings, [updates])[updates]
    rollouts, published, erasures = _read_control(settings)
    statistics = ItemStatistics()
    statistics.restore((key_of(p), p) for p in published)
    kept = {"max_users": settings.buffer_users, "max_bytes": settings.buffer_bytes}
    with (
        Buffer(settings.buffer, max_run=settings.buffer_run, **kept) as buffer,
        RiskExamples(settings.risk_examples, **kept) as risk,
    ):
        children = Children(settings.update_memory_mb, _LIMIT_FACTOR * settings.update_seconds + _LIMIT_S)
        try:
            trainer = _compose(settings, store, buffer, risk, statistics, children, metrics)
            _go_on(trainer, store, rollouts)
            for user_id, at in erasures:
                trainer.forget(user_id, at)
            log.info("trainer.started", broker=settings.broker, buffered=len(buffer), weeks_of=risk.users,
                     champions={name: life.lifecycle.serving for name, life in trainer.lives.items()})  # fmt: skip
            _loop(settings, trainer, stopping, end_of_updates)
        finally:
            children.stop()
    log.info("trainer.ended")


_LIMIT_FACTOR, _LIMIT_S = 3.0, 600.0
"""
An update's first pass is whole however short its time, trees and factors are learned after it, and it is exported: so
much more it may take.
"""


def _compose(
    settings: Settings,
    store: Store,
    buffer: Buffer,
    risk: RiskExamples,
    statistics: ItemStatistics,
    children: Children,
    metrics: TrainerMetrics,
) -> Trainer:
    outbox = KafkaOutbox(settings)
    of_knowledge = Kafka(KNOWLEDGE, settings, outbox, children, begin_knowledge(settings, children))
    of_risk = Kafka(RISK, settings, outbox, children, begin_risk(settings, children))
    lives = {
        KNOWLEDGE: Life(knowledge_lifecycle(settings, store, metrics, of_knowledge, buffer.count), of_knowledge),
        RISK: Life(risk_lifecycle(settings, store, metrics, of_risk, risk.labelled), of_risk),
    }
    drift = FeatureDrift(settings.watch_window)
    trainer = Trainer(settings, outbox, buffer, risk, statistics, drift, lives, metrics)
    of_knowledge.settle = of_risk.settle = trainer.settle
    return trainer


def knowledge_lifecycle(
    settings: Settings, store: Store, metrics: TrainerMetrics, around: Surroundings, learnable: int = 0
) -> Lifecycle:
    """Return the knowledge model's life; `learnable` answers have come."""
    triggers = Triggers(settings.learn_every, settings.learn_from, 60 * settings.learn_every_minutes)
    observer = Observer(KNOWLEDGE, Watch(settings.watch_window), LossDrift())
    return Lifecycle(
        knowledge_artifacts(store), _rules(settings), triggers, observer, metrics.of(KNOWLEDGE), around,
        _swept(store, KNOWLEDGE), learnable,
    )  # fmt: skip


def risk_lifecycle(
    settings: Settings, store: Store, metrics: TrainerMetrics, around: Surroundings, learnable: int = 0
) -> Lifecycle:
    """Return the risk model's life; `learnable` weeks are labelled."""
    # Those who withdraw are known first: a loss that rises tells of the order of outcomes, not of a drift, and while it
    # is known of few that they pass, one that says of everybody that he will withdraw looks the better one.
    rules = replace(
        _rules(settings), learn_on_drift=False, least_of_each=_LEAST_OF_EACH,
        step_budget_ms=settings.risk_step_budget_ms, step_budget_setting="STREAM_RISK_STEP_BUDGET_MS",
    )  # fmt: skip
    observer = Observer(RISK, Watch(settings.watch_window, risk_watch.figures), None)
    return Lifecycle(
        risk_artifacts(store), rules, Triggers(settings.risk_learn_every, settings.risk_learn_from), observer,
        metrics.of(RISK), around, _swept(store, RISK), learnable,
    )  # fmt: skip


def _rules(settings: Settings) -> Rules:
    return Rules(
        gate_every=settings.gate_every,
        gate_budget=settings.gate_budget,
        share=settings.challenger_share,
        step_budget_ms=settings.step_budget_ms,
        step_budget_setting="STREAM_STEP_BUDGET_MS",
        model_max_bytes=settings.model_max_bytes,
        rollback_window=settings.rollback_window,
        rollback_margin=settings.rollback_margin,
        learn_on_drift=settings.learn_on_drift,
        keep_models=settings.keep_models,
    )


_LEAST_OF_EACH = 50
"""Weeks of users who failed or withdrew, and of others."""


def _swept(store: Store, name: str) -> int:
    """
    Return the highest version of a model that was ever begun, so that none is used twice, and sweep up the interrupted.

    There is one trainer, so nobody else is at it.
    """
    last = store.last_version(name)
    store.sweep(name)
    return last


def _go_on(trainer: Trainer, store: Store, rollouts: Mapping[str, ModelRollout]) -> None:
    """Follow what stands announced, and hold it against what was judged before a restart."""
    if (rollout := rollouts.get(KNOWLEDGE)) is not None:
        if rollout.champion is not None:
            trainer.buffer.know(_skills(store, rollout.champion))
            _recall(trainer.buffer, trainer.lives[KNOWLEDGE].lifecycle)
        trainer.lives[KNOWLEDGE].lifecycle.follow(rollout, again=True)
    most = max(_RECALLED, trainer.settings.gate_budget, trainer.settings.watch_window)
    go_on_with_risk(trainer.lives[RISK].lifecycle, rollouts.get(RISK), trainer.risk.latest(most))


def go_on_with_risk(lifecycle: Lifecycle, rollout: ModelRollout | None, judged: Sequence[Judged]) -> None:
    """
    Go on after a restart with what was judged of risks before it, weeks of which came slowly: quality, guard, trial.

    Args:
        lifecycle: The risk model's.
        rollout: What stands announced, if anything does.
        judged: The latest, in order.
    """
    lifecycle.recall(*said_of(judged))
    if rollout is not None:
        lifecycle.follow(rollout, again=True)
    lifecycle.resume(judged)


def _reached(settings: Settings, metrics: TrainerMetrics, stopping: list[int]) -> Store | None:
    """Return the store as soon as it can be reached; None if the trainer is told to stop before."""
    while not stopping:
        try:
            store = Store(settings.model_store)
            store.versions(KNOWLEDGE)  # reaches it
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
"""Judged predictions: more than a rollback looks at, before a swap and after."""


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
        settings.topic("model-events"): lambda _, value: trainer.happened(_EVENT.validate_json(value)),
    }
    consumer = Consumer(consumer_config(settings, f"{settings.group}-trainer") | {"enable.partition.eof": True})
    standings = Standings(consumer, lambda topic: topic.removeprefix(settings.topic_prefix))
    health = trainer.metrics.health

    is_paused = False

    def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
        nonlocal is_paused
        # Of examples the files' places count: they became durable with what was read up to there.
        committed = consumer.committed(partitions, timeout=15)
        for partition in committed:
            if partition.topic == examples:
                first, end = consumer.get_watermark_offsets(partition, timeout=15)
                partition.offset = max(trainer.places(partition.partition, end), first)
            elif partition.topic == updates:
                # What stood there at the start has been followed; what we have announced since comes back here.
                partition.offset = end_of_updates
        consumer.assign(committed)
        is_paused = False  # what is assigned is read
        standings.begin(committed)
        health.has("topics")

    consumer.subscribe(list(takers), on_assign=assigned)
    settled_at = beaten_at = time.monotonic()
    try:
        while not stopping:
            is_paused = _paced(consumer, trainer, examples, is_paused=is_paused)
            for message in consumer.consume(_BATCH, _POLL_S):
                if not standings.is_end(message):
                    _take(message, trainer, takers)
            trainer.turn()
            if time.monotonic() - settled_at >= settings.publish_items_every_s:
                standings.commit(_settle(consumer, trainer))
                settled_at = time.monotonic()
            if time.monotonic() - beaten_at >= _BEAT_S:
                health.beat("trainer", standings.now({examples} if is_paused and trainer.lets_wait else ()))
                beaten_at = time.monotonic()
        _settle(consumer, trainer)
    finally:
        consumer.close()


def _paced(consumer: Consumer, trainer: Trainer, examples: str, *, is_paused: bool) -> bool:
    """Have examples be read, or not, as the trainer wants it now; return whether they are not."""
    if trainer.wants_more == is_paused:
        of_examples = [place for place in consumer.assignment() if place.topic == examples]
        (consumer.resume if is_paused else consumer.pause)(of_examples)
    return not trainer.wants_more


def _settle(consumer: Consumer, trainer: Trainer) -> list[TopicPartition]:
    """
    Make durable what was read, and then commit the offsets, for those who watch how far behind the trainer is.

    Returns:
        What is committed; nothing if that failed.
    """
    positions = [p for p in consumer.position(consumer.assignment()) if p.offset >= 0]
    if not trainer.settle() or not positions:
        return []
    try:
        consumer.commit(offsets=positions, asynchronous=False)
    except KafkaException as error:
        # A rebalance or a coordinator that moves: the next turn commits what this one could not.
        log.warning("trainer.commit_failed", reason=error.args[0].str())
        return []
    return positions


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
            trainer.passed(*_place(message))


def _place(message: KafkaMessage) -> tuple[int, int]:
    return message.partition() or 0, message.offset() or 0


def _at(message: KafkaMessage) -> float:
    return message.timestamp()[1] / 1000


def _follow(trainer: Trainer, value: bytes) -> None:
    rollout = parse(value)
    if rollout is not None:
        trainer.heard(rollout)


def _read_control(
    settings: Settings,
) -> tuple[dict[str, ModelRollout], list[ItemParameters], list[tuple[str, float]]]:
    """
    Return the rollouts that should be, by the model's name, all item parameters, and all erasures.

    As they stand on their topics now.
    """
    rollouts: dict[str, ModelRollout] = {}
    parameters: dict[bytes, ItemParameters] = {}
    erasures: list[tuple[str, float]] = []

    def take(topic: str, key: bytes, value: bytes, at: float) -> None:
        try:
            if topic == "item-parameters":
                parameters[key] = ItemParameters.model_validate_json(value)
            elif topic == "erasures":
                erasures.append((decode_erasure(value).user_id, at))
            elif (rollout := parse(value)) is not None:
                rollouts[rollout.name] = rollout
        except (ValidationError, InvalidEvent) as error:
            log.warning("control.unreadable", topic=topic, reason=str(error))

    read_whole(settings, ("model-updates", "item-parameters", "erasures"), take)
    return rollouts, list(parameters.values()), erasures
