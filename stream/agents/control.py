"""
The control topics, read whole by every worker: which models should serve, and what items are like.

Outside of the consumer group, by a thread of its own that also loads and checks models, so that a swap costs the hot
path a reference. The agents take what has arrived between two batches.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, Literal, Protocol, TypeVar
from uuid import uuid4

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from pydantic import ValidationError

from schemas import ItemParameters, ModelRefused, ModelRollout, ModelSwapped, Release
from stream.errors import ArtifactError, ControlError, StoreError
from stream.health import Health
from stream.models.artifacts import load, load_risk
from stream.models.dkt import KNOWLEDGE
from stream.models.fallback import Fallback
from stream.models.risk import RISK
from stream.models.risk_network import RiskNetwork
from stream.models.store import Store
from stream.pipeline import RiskModels
from stream.ports import Message, Predictor, RiskModel, Telemetry
from stream.settings import Settings
from stream.transport.clients import consumer_config, is_fatal

log = structlog.get_logger()

_POLL_S = 0.1
_RETRY_S = 5.0


M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
L = TypeVar("L")
Variant = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class Playing(Generic[M]):
    """
    What speaks under one model's name.

    Attributes:
        champion: Serves.
        challenger: Is on trial; None if nothing is.
        share: Of the users whom the challenger serves.
    """

    champion: M
    challenger: M | None = None
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Live:
    """
    What predicts.

    Attributes:
        knowledge: Answers.
        risk: Risks.
    """

    knowledge: Playing[Predictor]
    risk: Playing[RiskModel]


class _Artifact(Protocol[M_co]):
    """A model that was loaded."""

    def playing(self, variant: Variant) -> M_co:
        """Return the same model in another part."""


class Followed(Generic[M]):
    """
    One model's rollout: what is announced of it, and what of that could be loaded.

    Args:
        name: The model's.
        fallback: What serves where no version is announced.
        load: Loads and checks the version that a release announces.
        telemetry: Told of refused versions.
        tell: Takes events for `model-events`.
        worker: Who tells.
    """

    def __init__(
        self,
        name: str,
        fallback: M,
        load: Callable[[Release], _Artifact[M]],
        telemetry: Telemetry,
        tell: Callable[[ModelSwapped | ModelRefused], None],
        worker: str,
    ) -> None:
        self._name = name
        self._fallback = fallback
        self._read = load
        self._telemetry = telemetry
        self._tell = tell
        self._worker = worker
        self.playing = Playing(fallback)
        self._serving: Release | None = None
        self._trying: Release | None = None
        self._on_trial: _Artifact[M] | None = None
        self._wanted: ModelRollout | None = None
        self._refused: set[Release] = set()
        self._retry_at = float("inf")
        self._is_settled = False
        telemetry.model(name, 0)
        telemetry.challenger(name, 0)

    @property
    def is_bereft(self) -> bool:
        """Whether the fallback serves in place of the version that was announced at the start."""
        return not self._is_settled

    def announced(self, rollout: ModelRollout) -> None:
        """Take note of what should be from now on; only the newest announcement counts."""
        self._wanted, self._retry_at = rollout, 0.0

    def settle(self) -> bool:
        """
        Load what is announced and is not there yet, and return whether anything else plays now.

        What cannot be loaded is looked at again, while what there is goes on.
        """
        if self._wanted is None or time.monotonic() < self._retry_at:
            self._is_settled |= self._wanted is None
            return False
        self._retry_at = float("inf")
        before = self.playing
        self._swap(self._wanted)
        self._is_settled |= self._serving == self._wanted.champion
        return self.playing != before

    def _swap(self, wanted: ModelRollout) -> None:
        playing = replace(self.playing, share=wanted.challenger_share)
        serving = self._serving
        if wanted.champion is None:
            playing, serving = replace(playing, champion=self._fallback), None
        elif wanted.champion != serving and (champion := self._champion(wanted.champion)) is not None:
            playing, serving = replace(playing, champion=champion), wanted.champion
        if wanted.challenger != self._trying:
            playing, self._trying, self._on_trial = replace(playing, challenger=None), None, None
        if wanted.challenger is not None and self._trying is None:
            artifact = self._load(wanted.challenger, "challenger")
            if artifact is not None:
                playing = replace(playing, challenger=artifact.playing("challenger"))
                self._trying, self._on_trial = wanted.challenger, artifact
        self.playing = playing
        previous, self._serving = self._serving, serving
        if serving != previous:
            self._tell(
                ModelSwapped(
                    event_id=str(uuid4()), name=self._name, at=datetime.now(UTC), worker=self._worker,
                    version=serving.version if serving else None, previous=previous.version if previous else None,
                )
            )  # fmt: skip

    def _champion(self, release: Release) -> M | None:
        """Return a release as champion: what is on trial is here already, whatever has become of the store."""
        artifact = self._on_trial if release == self._trying else self._load(release, "champion")
        return None if artifact is None else artifact.playing("champion")

    def _load(self, release: Release, variant: Variant) -> _Artifact[M] | None:
        """Return the model of a release; None, and all that follows from it, if it is not as it should be."""
        try:
            model = self._read(release)
        except (ArtifactError, StoreError) as error:
            # The store may be away, or slow to show the folder: it is looked at again, while the old model serves.
            self._retry_at = time.monotonic() + _RETRY_S
            if isinstance(error, StoreError):
                self._telemetry.failed("store")
            if release not in self._refused:
                self._refused.add(release)
                log.error("model.refused", model=self._name, version=release.version, variant=variant,  # noqa: TRY400
                          reason=str(error))  # fmt: skip
                self._telemetry.refused(self._name)
                self._tell(
                    ModelRefused(
                        event_id=str(uuid4()), name=self._name, at=datetime.now(UTC),
                        version=release.version, reason=str(error), worker=self._worker,
                    )
                )  # fmt: skip
            return None
        self._refused.discard(release)
        return model


class Control:
    """
    Follows `model-updates` and `item-parameters`.

    Args:
        settings: Broker, topics, model store.
        fallback: What answers where no knowledge model is announced.
        telemetry: Told of refused models.
        health: Told what is not known yet, or not loaded.
        announce: Takes events for `model-events`.
    """

    def __init__(
        self,
        settings: Settings,
        fallback: Fallback,
        telemetry: Telemetry,
        health: Health,
        announce: Callable[[Message], None],
    ) -> None:
        self._settings = settings
        self._announce = announce
        self._telemetry = telemetry
        self._health = health
        health.lacks("control", "the control topics have not been read to their end yet")
        self._worker = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._updates, self._items = settings.topic("model-updates"), settings.topic("item-parameters")
        self._parameters: deque[ItemParameters] = deque()
        self._arrived: deque[Live] = deque(maxlen=1)
        given = {"variant": "champion", "max_bytes": settings.model_max_bytes, "precision": settings.model_precision}
        store, told = Store(settings.model_store), (telemetry, self._tell, self._worker)
        read_risk = partial(read_allowed_risk, store, settings.risk_feature_fields, given)
        self._knowledge = Followed[Predictor](KNOWLEDGE, fallback, partial(_read, load, store, given), *told)
        self._risk = Followed[RiskModel](RISK, RiskModels().model, read_risk, *told)
        self._followed: dict[str, Followed[Any]] = {KNOWLEDGE: self._knowledge, RISK: self._risk}
        self._caught_up = threading.Event()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join(timeout=3)

    @property
    def is_caught_up(self) -> bool:
        """
        Whether all has been read that stood on the topics at the start.

        Raises:
            ControlError: If reading has failed.
        """
        if self._failure is not None:
            raise ControlError(f"the control topics could not be read: {self._failure}") from self._failure
        return self._caught_up.is_set()

    def take_parameters(self) -> list[ItemParameters]:
        """Return the item parameters that have arrived since."""
        return [self._parameters.popleft() for _ in range(len(self._parameters))]

    def take_live(self) -> "Live | None":
        """Return what is to be live from now on, None if it is still the same."""
        return self._arrived.popleft() if self._arrived else None

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:
            log.exception("control.failed")
            self._failure = error

    def _follow(self) -> None:
        consumer = Consumer(
            consumer_config(self._settings, f"{self._settings.group}-control-{self._worker}")
            | {"enable.partition.eof": True, "allow.auto.create.topics": True}
        )
        try:
            waiting = self._assign(consumer)
            while not self._stopping.is_set():
                for message in consumer.consume(1_000, _POLL_S):
                    error = message.error()
                    if error is None:
                        self._read(message.topic() or "", message.value())
                    elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                        waiting.discard((message.topic(), message.partition()))
                    elif is_fatal(error):
                        raise KafkaException(error)
                if not waiting:
                    self._settle()
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> set[tuple[str, int]]:
        """Assign every partition of both topics from the beginning, and return them."""
        partitions = []
        for topic in (self._updates, self._items):
            metadata = consumer.list_topics(topic, timeout=15).topics[topic]
            if metadata.error is not None or not metadata.partitions:
                raise ControlError(f"topic {topic} cannot be read: {metadata.error or 'it has no partitions'}")
            partitions += [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in metadata.partitions]
        consumer.assign(partitions)
        return {(p.topic, p.partition) for p in partitions}

    def _read(self, topic: str, value: bytes | None) -> None:
        if value is None:
            return
        try:
            if topic == self._items:
                self._parameters.append(ItemParameters.model_validate_json(value))
                return
            rollout = ModelRollout.model_validate_json(value)
        except ValidationError as error:
            # Nothing that we write; what is known already goes on.
            log.warning("control.unreadable", topic=topic, error=str(error))
            self._telemetry.failed("control")
            return
        followed = self._followed.get(rollout.name)
        if followed is not None:
            followed.announced(rollout)

    def _settle(self) -> None:
        """Have each model play as it is announced."""
        changed = [followed.settle() for followed in self._followed.values()]
        if any(changed):
            self._arrived.append(Live(self._knowledge.playing, self._risk.playing))
        for name, followed in self._followed.items():
            if followed.is_bereft:
                self._health.lacks(name, f"the announced {name} model could not be loaded, and the fallback serves")
            else:
                self._health.has(name)
        self._health.has("control")
        self._caught_up.set()

    def _tell(self, event: ModelSwapped | ModelRefused) -> None:
        self._announce(Message("model-events", event.name.encode(), event.model_dump_json().encode()))


def _read(load: Callable[..., L], store: Store, given: dict[str, Any], release: Release) -> L:
    """Return the model of a release; raises `ArtifactError` and `StoreError` like `stream.models.artifacts.load`."""
    return load(store, release.path, sha256=release.sha256, **given)


def read_allowed_risk(store: Store, fields: Collection[str], given: dict[str, Any], release: Release) -> RiskNetwork:
    """
    Return the risk model of a release, if it sees nothing that it may not; it may have learned by other settings.

    Args:
        store: Where models are kept.
        fields: Of an enrolment that a model may see, beside the course and what follows.
        given: Further arguments of `load_risk`.
        release: What is announced.

    Raises:
        ArtifactError: If the model knows other fields, or as `load_risk`.
        StoreError: If the store cannot be read.
    """
    model = _read(load_risk, store, given, release)
    found = model.beyond(fields)
    if found:
        raise ArtifactError(
            f"{store.place(release.path)}: expected only fields of STREAM_RISK_FEATURES "
            f"({', '.join(sorted(fields)) or 'none'}), found {', '.join(found)}; train a model without, or name there "
            "what it may see"
        )
    return model
