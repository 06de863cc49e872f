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
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from pydantic import ValidationError

from schemas import ItemParameters, ModelRefused, ModelRollout, ModelSwapped, Release
from stream.errors import ArtifactError, ControlError
from stream.models.artifacts import load
from stream.models.dkt import KNOWLEDGE, Dkt
from stream.models.fallback import Fallback
from stream.ports import Message, Predictor, Telemetry
from stream.settings import Settings
from stream.transport.clients import consumer_config, is_fatal

log = structlog.get_logger()

_POLL_S = 0.1
_RETRY_S = 5.0


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
        self._fallback = fallback
        self._telemetry = telemetry
        self._announce = announce
        self._worker = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._updates, self._items = settings.topic("model-updates"), settings.topic("item-parameters")
        self._parameters: deque[ItemParameters] = deque()
        self._arrived: deque[Predictor] = deque(maxlen=1)
        self._serving: Release | None = None
        self._wanted: Release | None = None
        self._refused: Release | None = None
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

    def take_predictor(self) -> Predictor | None:
        """Return the model to serve from now on, None if it is still the same."""
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
            self._wanted, self._retry_at = rollout.champion, 0.0

    def _settle(self) -> None:
        """Load the announced model if it is another; only the newest announcement counts."""
        if time.monotonic() >= self._retry_at:
            self._retry_at = float("inf")
            if self._wanted != self._serving:
                self._swap(self._wanted)
        self._caught_up.set()

    def _swap(self, release: Release | None) -> None:
        if release is None:
            self._arrived.append(self._fallback)
        else:
            try:
                self._arrived.append(self._load(release))
            except ArtifactError as error:
                if release != self._refused:
                    self._refused = release
                    log.error("model.refused", version=release.version, reason=str(error))  # noqa: TRY400
                    self._telemetry.refused()
                    self._tell(
                        ModelRefused(
                            event_id=str(uuid4()), name=KNOWLEDGE, at=datetime.now(UTC),
                            version=release.version, reason=str(error), worker=self._worker,
                        )
                    )  # fmt: skip
                # The store may only be slow to show the folder: it is looked at again, while the old model serves.
                self._retry_at = time.monotonic() + _RETRY_S
                return
        previous, self._serving = self._serving, release
        self._tell(
            ModelSwapped(
                event_id=str(uuid4()), name=KNOWLEDGE, at=datetime.now(UTC), worker=self._worker,
                version=release.version if release else None, previous=previous.version if previous else None,
            )
        )  # fmt: skip

    def _load(self, release: Release) -> Dkt:
        folder = Path(self._settings.model_store) / release.path
        return load(
            folder, variant="champion", sha256=release.sha256, max_bytes=self._settings.model_max_bytes,
            precision=self._settings.model_precision,
        )  # fmt: skip

    def _tell(self, event: ModelSwapped | ModelRefused) -> None:
        self._announce(Message("model-events", KNOWLEDGE.encode(), event.model_dump_json().encode()))
