"""
The control topics, read whole by every worker: which model should serve, and what items are like.

Outside of the consumer group, by a thread of its own that also loads and checks models, so that a swap costs the hot
path a reference. The agents take what has arrived between two batches.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from pydantic import ValidationError

from schemas import ItemParameters, ModelRefused, ModelRollout, ModelSwapped, Release
from stream.errors import ArtifactError, ControlError, StoreError
from stream.models.artifacts import load
from stream.models.dkt import KNOWLEDGE, Dkt
from stream.models.fallback import Fallback
from stream.models.store import Store
from stream.ports import Message, Predictor, Telemetry
from stream.settings import Settings
from stream.transport.clients import consumer_config, is_fatal

log = structlog.get_logger()

_POLL_S = 0.1
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Live:
    """
    What predicts.

    Attributes:
        champion: Serves.
        challenger: Is on trial; None if nothing is.
        share: Of the users whom the challenger serves.
    """

    champion: Predictor
    challenger: Predictor | None = None
    share: float = 0.0


class Control:
    """
    Follows `model-updates` and `item-parameters`.

    Args:
        settings: Broker, topics, model store.
        fallback: What serves where no model is announced.
        telemetry: Told of refused models.
        announce: Takes events for `model-events`.
    """

    def __init__(
        self, settings: Settings, fallback: Fallback, telemetry: Telemetry, announce: Callable[[Message], None]
    ) -> None:
        self._settings = settings
        self._store = Store(settings.model_store)
        self._fallback = fallback
        self._telemetry = telemetry
        self._announce = announce
        self._worker = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._updates, self._items = settings.topic("model-updates"), settings.topic("item-parameters")
        self._parameters: deque[ItemParameters] = deque()
        self._arrived: deque[Live] = deque(maxlen=1)
        self._live = Live(fallback)
        self._serving: Release | None = None
        self._trying: Release | None = None
        self._wanted = ModelRollout(name=KNOWLEDGE, decided_at=datetime.now(UTC))
        self._refused: set[Release] = set()
        self._retry_at = float("inf")
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
        if rollout.name == KNOWLEDGE:
            self._wanted, self._retry_at = rollout, 0.0

    def _settle(self) -> None:
        """Load what is announced and not yet live; only the newest announcement counts."""
        if time.monotonic() >= self._retry_at:
            self._retry_at = float("inf")
            self._swap(self._wanted)
        self._caught_up.set()

    def _swap(self, wanted: ModelRollout) -> None:
        """Make live what can be loaded of it; what cannot is looked at again, while what there is goes on."""
        live = Live(self._live.champion, self._live.challenger, wanted.challenger_share)
        serving, trying = self._serving, self._trying
        if wanted.champion is None:
            live, serving = replace(live, champion=self._fallback), None
        elif wanted.champion != serving and (champion := self._champion(wanted.champion)) is not None:
            live, serving = replace(live, champion=champion), wanted.champion
        if wanted.challenger is None or wanted.challenger != trying:
            live, trying = replace(live, challenger=None), None
        if wanted.challenger is not None and trying is None:
            challenger = self._load(wanted.challenger, "challenger")
            live, trying = replace(live, challenger=challenger), wanted.challenger if challenger is not None else None
        if live == self._live:
            return
        self._live = live
        self._arrived.append(live)
        previous, self._serving, self._trying = self._serving, serving, trying
        if serving != previous:
            self._tell(
                ModelSwapped(
                    event_id=str(uuid4()), name=KNOWLEDGE, at=datetime.now(UTC), worker=self._worker,
                    version=serving.version if serving else None, previous=previous.version if previous else None,
                )
            )  # fmt: skip

    def _champion(self, release: Release) -> Dkt | None:
        """Return a release as champion: what is on trial is here already, whatever has become of the store."""
        challenger = self._live.challenger
        if release == self._trying and isinstance(challenger, Dkt):
            return challenger.playing("champion")
        return self._load(release, "champion")

    def _load(self, release: Release, variant: Literal["champion", "challenger"]) -> Dkt | None:
        """Return the model of a release; None, and all that follows from it, if it is not as it should be."""
        try:
            model = load(
                self._store, release.path, variant=variant, sha256=release.sha256,
                max_bytes=self._settings.model_max_bytes, precision=self._settings.model_precision,
            )  # fmt: skip
        except (ArtifactError, StoreError) as error:
            # The store may be away, or slow to show the folder: it is looked at again, while the old model serves.
            self._retry_at = time.monotonic() + _RETRY_S
            if release not in self._refused:
                self._refused.add(release)
                log.error("model.refused", version=release.version, variant=variant, reason=str(error))  # noqa: TRY400
                self._telemetry.refused()
                self._tell(
                    ModelRefused(
                        event_id=str(uuid4()), name=KNOWLEDGE, at=datetime.now(UTC),
                        version=release.version, reason=str(error), worker=self._worker,
                    )
                )  # fmt: skip
            return None
        self._refused.discard(release)
        return model

    def _tell(self, event: ModelSwapped | ModelRefused) -> None:
        self._announce(Message("model-events", KNOWLEDGE.encode(), event.model_dump_json().encode()))
