"""
The topics that the page reads: from a little before now on, without a consumer group, and never far behind.

Blocking: `stream.page.app` calls it in a thread of its own. What is older than the start is handed over in the order in
which it was written; from then on messages come as they arrive. Whoever reads faster than the page can is passed over,
and counted.
"""

import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream.errors import UserError
from stream.page.board import TOPICS, Standing
from stream.ports import Record
from stream.settings import Settings
from stream.transport.clients import client_config, consumer_config, is_fatal, is_refusal, refused

log = structlog.get_logger()

_EVENTS: Final = frozenset({"interactions", "academics"})
LARGE: Final = _EVENTS | {"training-examples", "predictions.correctness"}
"""Of which there is one message for every event: those that are passed over when there are too many."""

_HOUR_MS: Final = 3_600_000
_RISK_HOURS: Final = 24
_OLD: Final = 20_000
"""Messages of a topic from before the start, at most: read within seconds."""

_MOST_BEHIND: Final = 60_000
"""Messages: four seconds at 5,000 events a second, each of which is three."""

_BATCH: Final = 2_000
_POLL_S: Final = 0.1
_LOOK_S: Final = 1.0
_ANSWER_S: Final = 5.0
_RECONNECT_MS: Final = 1_000
_QUEUE_KIB: Final = 32_768
_FETCH_BYTES, _FETCH_WAIT_MS = 1_048_576, 250
"""Fetched at once, or after so long: the broker is asked a few times a second, not for every message."""


class Batch(NamedTuple):
    """
    Messages that belong together.

    Attributes:
        at: When they came, or were written if that was before the start.
        records: Their `topic` is the catalog's name.
    """

    at: float
    records: Sequence[Record]


class Feed:
    """
    Reads the topics.

    Args:
        settings: Broker, topics, and how far back to begin.
        from_start: Begin with the oldest messages instead, on a broker that has no admin API.
    """

    def __init__(self, settings: Settings, *, from_start: bool = False) -> None:
        self._settings = settings
        self._from_start = from_start
        self._names = {settings.topic(name): name for name in TOPICS}
        config = consumer_config(settings, f"{settings.group}-page") | {
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": _QUEUE_KIB,
            "reconnect.backoff.max.ms": _RECONNECT_MS,
            "error_cb": self._troubled,
        }
        if not from_start:
            config |= {"fetch.min.bytes": _FETCH_BYTES, "fetch.wait.max.ms": _FETCH_WAIT_MS}
        self._consumer = Consumer(config)
        self._starts: dict[tuple[str, int], int] = {}
        self._waiting: dict[tuple[str, int], int] = {}
        self._old: list[Record] = []
        self._is_behind_start = False
        self._is_down = False
        self._refused = self._unsure = ""
        self._denied: dict[str, str] = {}
        self._skipped = 0
        self._next: dict[tuple[str, int], int] = {}
        self._look_at = 0.0
        self._told: str | None = None

    @property
    def standing(self) -> Standing:
        """How reading goes."""
        if self._is_down:
            return Standing("lost", f"no Kafka broker answers at {self._settings.broker}; it is tried again every "
                            "second", self._skipped)  # fmt: skip
        for wrong in (self._refused, self._unsure, *self._denied.values()):
            if wrong:
                return Standing("lost", wrong, self._skipped)
        if not self._starts:
            return Standing("starting", None, self._skipped)
        if self._waiting:
            return Standing("catching_up", "reading what was said before the page was opened", self._skipped)
        return Standing("live", None, self._skipped)

    def poll(self) -> list[Batch]:
        """
        Return what has come, waiting a moment for it.

        Raises:
            UserError: If topics are missing, or the broker does not let us in.
        """
        batches = self._come()
        self._tell()
        return batches

    def close(self) -> None:
        """End."""
        self._consumer.close()

    def _tell(self) -> None:
        """Log that reading is lost, for what reason, and that it goes on: when that changes, not at each look."""
        standing = self.standing
        wrong = standing.note if standing.state == "lost" else None
        if wrong == self._told:
            return
        self._told = wrong
        if wrong is None:
            log.info("page.found", state=standing.state)
        else:
            log.warning("page.lost", error=wrong)

    def _come(self) -> list[Batch]:
        """Return what has come, as `poll`."""
        if not self._starts and not self._begin():
            time.sleep(_LOOK_S)
            return []
        messages = self._consumer.consume(_BATCH, _POLL_S)
        records = self._records(messages)
        if records or ((self._is_down or self._refused) and self._answers()):
            self._is_down, self._refused = False, ""
        now = time.monotonic()
        if now >= self._look_at and not self._waiting:
            self._look_at = now + _LOOK_S
            self._keep_up()
        return self._batches(records)

    def _begin(self) -> bool:
        """Find the topics and where to begin; return whether the broker answers."""
        try:
            metadata = self._consumer.list_topics(timeout=_ANSWER_S).topics
        except KafkaException as error:
            self._consumer.poll(0)
            if self._refused:
                raise UserError(self._refused) from error
            self._is_down = True
            return False
        missing = sorted(topic for topic in self._names if topic not in metadata)
        if missing:
            raise UserError(
                f"expected the topics of a worker on {self._settings.broker}, found no {', '.join(missing)}: run "
                "`stream topics create`, mend STREAM_TOPIC_PREFIX, or let the page describe and read them"
            )
        places = [TopicPartition(topic, number) for topic in self._names for number in metadata[topic].partitions]
        try:
            starts = [OFFSET_BEGINNING] * len(places) if self._from_start else self._old_places(places)
        except KafkaException as error:
            self._is_down = False
            self._unsure = f"the broker does not say where topics end: {error.args[0].str()}; it is asked again"
            return False
        self._is_down, self._refused, self._unsure = False, "", ""
        self._assign({(p.topic, p.partition): start for p, start in zip(places, starts, strict=True)})
        return True

    def _old_places(self, places: list[TopicPartition]) -> list[int]:
        """Return where to begin, and note how far the start goes: enough to show something, not all."""
        ends = self._ends(places)
        counts: dict[str, int] = {}
        for place in places:
            counts[place.topic] = counts.get(place.topic, 0) + 1
        now_ms = round(time.time() * 1000)
        asked = [TopicPartition(p.topic, p.partition, self._since_ms(p.topic, now_ms)) for p in places]
        found = self._consumer.offsets_for_times([p for p in asked if p.offset > 0], timeout=_ANSWER_S)
        by_time = {(p.topic, p.partition): p.offset for p in found}
        starts = []
        for place in places:
            key = place.topic, place.partition
            end, start = ends[key], by_time.get(key, 0)
            # Nothing as young as that: from the end on. What is before the oldest record is put right by the client.
            start = max(end if start == OFFSET_END else start, end - _OLD // counts[place.topic], 0)
            starts.append(start)
            if start < end:
                self._waiting[key] = end
        self._is_behind_start = bool(self._waiting)
        return starts

    def _since_ms(self, topic: str, now_ms: int) -> int:
        """Return from when on a topic is read, 0 for all of it."""
        name = self._names[topic]
        if name in {"model-events", "model-updates"}:
            return 0
        hours = self._settings.page_history_minutes / 60
        # A user's latest risk may be a day old; whom to forget, and who came back, must be known as far back as that.
        if name in {"predictions.risk", "erasures", "academics"}:
            hours = max(hours, _RISK_HOURS)
        return round(now_ms - hours * _HOUR_MS)

    def _ends(self, places: Iterable[TopicPartition]) -> dict[tuple[str, int], int]:
        admin = AdminClient(client_config(self._settings))
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        futures = admin.list_offsets(dict.fromkeys(places, latest), request_timeout=_ANSWER_S)
        return {(place.topic, place.partition): future.result().offset for place, future in futures.items()}

    def _assign(self, places: dict[tuple[str, int], int]) -> None:
        """Read from these places on."""
        self._starts = places
        self._consumer.assign([TopicPartition(*key, offset) for key, offset in places.items()])

    def _records(self, messages: list[Message]) -> list[Record]:
        """Return what is no error, and note what the errors say."""
        records = []
        names = self._names
        for message in messages:
            error = message.error()
            topic, partition = message.topic() or "", message.partition() or 0
            if self._denied and (error is None or error.code() == KafkaError._PARTITION_EOF):  # noqa: SLF001
                self._denied.pop(topic, None)
            if error is None:
                offset = message.offset() or 0
                records.append(
                    Record(names[topic], partition, offset, message.key(), message.value(),
                           message.timestamp()[1] / 1000)
                )  # fmt: skip
                if self._waiting and offset + 1 >= self._waiting.get((topic, partition), offset + 2):
                    del self._waiting[topic, partition]
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self._waiting.pop((topic, partition), None)
            elif is_fatal(error) and topic in names:
                self._denied[topic] = f"the Kafka broker does not let the page read {topic}: {error.str()}"
            elif is_fatal(error):
                self._refused = f"the Kafka broker does not let the page read: {error.str()}"
        if self._from_start and self._settings.guarantee == "at_least_once":
            self._note_gaps(records)
        return records

    def _note_gaps(self, records: list[Record]) -> None:
        """Count what is not there any more: the embedded broker drops old messages without a word."""
        for record in records:
            # What is written in transactions has gaps of its own: ingest writes events so.
            if record.topic in LARGE - _EVENTS:
                key = record.topic, record.partition
                self._skipped += max(record.offset - self._next.get(key, 0), 0)
                self._next[key] = record.offset + 1

    def _batches(self, records: list[Record]) -> list[Batch]:
        """Return messages as they come; those from before the start all at once, in the order of their time."""
        if self._waiting:
            self._old += records
            return []
        now = time.time()
        if not self._is_behind_start:
            return [Batch(now, records)] if records else []
        old = sorted([*self._old, *records], key=lambda record: record.timestamp_s)
        self._old, self._is_behind_start = [], False
        log.info("page.caught_up", messages=len(old))
        seconds = groupby(old, key=lambda record: min(int(record.timestamp_s) + 1.0, now))
        return [Batch(at, list(of)) for at, of in seconds]

    def _keep_up(self) -> None:
        """Go on from the end if too much has piled up."""
        behind: dict[tuple[str, int], tuple[int, int]] = {}
        places = self._positions()
        for (topic, partition), position in places.items():
            if self._names[topic] in LARGE:
                _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
                behind[topic, partition] = position, max(end, position)
        missed = sum(end - position for position, end in behind.values())
        if missed <= _MOST_BEHIND:
            return
        log.warning("page.skipped", messages=missed)
        self._skipped += missed
        self._assign(places | {key: end for key, (_, end) in behind.items()})

    def _positions(self) -> dict[tuple[str, int], int]:
        """Return what is read next of each partition; where nothing has been read yet, from where on it is."""
        found = self._consumer.position([TopicPartition(*key) for key in self._starts])
        return {
            (p.topic, p.partition): p.offset if p.offset >= 0 else max(self._starts[p.topic, p.partition], 0)
            for p in found
        }

    def _answers(self) -> bool:
        """Return whether the broker answers again."""
        try:
            self._consumer.list_topics(timeout=_LOOK_S)
        except KafkaException:
            return False
        return True

    def _troubled(self, error: KafkaError) -> None:
        """Take note of what the client says of its connections."""
        if is_refusal(error):
            self._refused = refused(self._settings, error)
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._is_down = True
