"""
Foreign topics into ours: read, converted, written under the user's key, exactly once.

In a consumer group of its own, by a thread of the worker or as a process of its own (`stream ingest`): each batch's
events, dead letters and offsets are one Kafka transaction, fenced by the group's generation (KIP-447), whatever
guarantee the worker itself gives. Why: `docs/decisions/0024-ingest.md`.
"""

import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple
from uuid import uuid4

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from stream.adapters.converter import Converted, Converter, Fault, Result
from stream.adapters.once import Once
from stream.adapters.pseudonym import as_they_are
from stream.convert import converter, named
from stream.errors import DeliveryError, SourceError, TransactionError, UserError
from stream.health import Health
from stream.intake import Dead, Limits, dead_letter, moment_of
from stream.ports import Record, Telemetry
from stream.settings import Settings
from stream.telemetry import Metrics, serve
from stream.transport import topics
from stream.transport.clients import consumer_config, is_fatal
from stream.transport.engine import stop_now
from stream.transport.exactly_once import abort, retried, transaction_config
from stream.transport.outbox import KafkaOutbox
from stream.transport.source import record_of
from stream.transport.standings import Standings

log = structlog.get_logger()

_POLL_S: Final = 0.2
_TOGETHER_S: Final = 0.01
"""So long a batch waits for more: a transaction costs as much as many of its events."""

_LIMIT: Final = 5
"""Sessions after which a transaction's calls are given up: two for offsets and commit each, and one to abort."""

_INIT_S: Final = 30.0
_WARM_RECORDS: Final = 2_000
"""Records of a partition that are read again at its beginning, to know what was opened and answered before."""

_WARM_S: Final = 10.0
_ABORTS_MAX: Final = 20
"""So many aborted transactions one after the other are no accident."""

_LOOP: Final = "ingest"
_BEAT_S: Final = 0.5
"""How often it is put down where the sources stand."""

_STOP_S: Final = 5.0
_FAULTS_SHOWN: Final = 10


class AbortedError(Exception):
    """A transaction was aborted: what it held is read again."""


class _Count(NamedTuple):
    """What became of a record's events: its topic, how many were converted, ignored by kind, and bad."""

    topic: str
    converted: int
    ignored: Counter[str]
    bad: int


class _Batch(NamedTuple):
    """
    What is sent in one transaction.

    Attributes:
        events: Of ours, with the records that they came in.
        dead: Records in which something was wrong.
        counts: What is told of them once they are safe.
        positions: Where reading goes on, of each topic and partition.
    """

    events: list[tuple[Record, Converted]]
    dead: list[Dead]
    counts: list[_Count]
    positions: dict[tuple[str, int], int]


class Ingest:
    """
    Reads the topics of STREAM_SOURCES.

    Args:
        settings: All of them.
        telemetry: Told what became of the events.
        health: Told how far it is.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, health: Health) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._health = health
        for topic in settings.source_formats:  # from 0 on: a rise from nothing is none to Prometheus
            telemetry.ingested(topic, 0, {}, 0)
        if settings.source_formats:
            health.lacks(_LOOP, "the topics of STREAM_SOURCES have not been assigned yet")
        self._withheld = named(settings) is not as_they_are
        self._limits = Limits(settings.event_max_bytes, settings.dead_letter_max_bytes)
        self._converters: dict[str, Converter] = {}
        self._topic_ids: dict[str, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._aborts = 0

    def start(self) -> None:
        """Begin, if there are sources."""
        if self._settings.source_formats:
            self._thread.start()

    def tell_to_stop(self) -> None:
        """Have the work end after the batch in hand."""
        self._stopping.set()

    def stop(self) -> None:
        """Finish the batch in hand, and end."""
        self.tell_to_stop()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 (nothing may be read and not written)
            stop_now(error)

    def run(self) -> None:
        """
        Work until told to stop.

        Raises:
            UserError: If the broker has no transactions.
            SourceError: If the sources cannot be read, or nothing of them written.
        """
        producer = Producer(transaction_config(self._settings, f"{self._settings.group}-ingest/{uuid4().hex}"))
        outbox = KafkaOutbox(self._settings, producer)
        try:
            retried(producer.init_transactions, _INIT_S)
        except KafkaException as error:
            raise UserError(
                f"STREAM_SOURCES needs transactions, and the broker at {self._settings.broker} has not given any: "
                f"{error.args[0].str()}; on a small cluster set its transaction.state.log.replication.factor and "
                "transaction.state.log.min.isr to no more than it has brokers"
            ) from error
        log.info("ingest.started", sources=sorted(self._settings.source_formats))
        while not self._stopping.is_set():
            consumer = Consumer(consumer_config(self._settings, self._group) | {"enable.partition.eof": True})
            try:
                self._read(consumer, producer, outbox, Standings(consumer, str))
            except AbortedError as error:
                self._telemetry.aborted()
                log.warning("ingest.aborted", reason=str(error))
                self._aborts += 1
                if self._aborts > _ABORTS_MAX:
                    raise SourceError(
                        f"{self._aborts} transactions in a row were aborted; the last: {error}"
                    ) from error
            finally:
                consumer.close()
        log.info("ingest.ended")

    @property
    def _group(self) -> str:
        return f"{self._settings.group}-ingest"

    def _read(self, consumer: Consumer, producer: Producer, outbox: KafkaOutbox, standings: Standings) -> None:
        """Read, and write, until told to stop; raises `AbortedError` when the batch in hand is undone."""
        consumer.subscribe(list(self._settings.source_formats), on_assign=partial(self._assigned, standings))
        beaten_at = 0.0
        while not self._stopping.is_set():
            if time.monotonic() - beaten_at > _BEAT_S:
                self._health.beat(_LOOP, standings.now())
                beaten_at = time.monotonic()
            # In one call: what was fetched before a rebalance is another's, and only within a call the client drops it.
            try:
                fetched = consumer.consume(self._settings.batch_max, _TOGETHER_S)
            except KafkaException as error:
                # Of the rebalance that it served.
                raise AbortedError(str(error)) from error
            records = [
                record_of(message) for message in fetched if not (standings.is_end(message) or _is_trouble(message))
            ]
            if records:
                # Of now: a worker that sleeps while it converts must not commit under a later membership.
                place_in_group = consumer.consumer_group_metadata()
                batch = self._convert(records)
                self._write(batch, place_in_group, producer, outbox)
                standings.commit(TopicPartition(*place, offset) for place, offset in batch.positions.items())

    def _assigned(self, standings: Standings, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin anew with what is remembered of users: the events before are read again, and nothing is written."""
        once = Once(self._settings.opened_limit_s)
        self._converters = {
            topic: converter(self._settings, format_, once) for topic, format_ in self._settings.source_formats.items()
        }
        self._topic_ids = topics.ids(self._settings, {partition.topic for partition in partitions})
        places = [self._place(place) for place in consumer.committed(partitions, timeout=_INIT_S)]
        consumer.assign(places)
        standings.begin(places)
        for record in _before(self._settings, places, self._stopping.is_set):
            # What made our code raise then does so again, and is a dead letter already.
            with suppress(Exception):
                self._result(record)
        self._health.has(_LOOP)

    def _place(self, committed: TopicPartition) -> TopicPartition:
        """Return where to begin: where reading had come to, unless that was another topic of the same name."""
        topic_id = self._topic_ids.get(committed.topic, "")
        if committed.metadata and topic_id and committed.metadata != topic_id:
            log.warning("ingest.topic_is_new", topic=committed.topic, partition=committed.partition)
            return TopicPartition(committed.topic, committed.partition, OFFSET_BEGINNING)
        return TopicPartition(committed.topic, committed.partition, committed.offset)

    def _result(self, record: Record) -> Result:
        sent_at = moment_of(record.timestamp_s) if record.timestamp_s > 0 else None
        return self._converters[record.topic].convert(record.value or b"", record.headers, sent_at)

    def _convert(self, records: Sequence[Record]) -> _Batch:
        """Return what becomes of records; what makes our own code raise is put aside like what is bad."""
        batch = _Batch([], [], [], {})
        for record in records:
            batch.positions[record.topic, record.partition] = record.offset + 1
            if record.value is None:
                batch.counts.append(_Count(record.topic, 0, Counter(("tombstone",)), 0))
                continue
            try:
                result = self._result(record)
            except Exception as error:  # noqa: BLE001 (one record must not hold up all others)
                batch.dead.append(self._failed(record, error))
                batch.counts.append(_Count(record.topic, 0, Counter(), 1))
                continue
            batch.events.extend((record, event) for event in result.events)
            if result.faults:
                batch.dead.append(_dead(record, result.faults))
            batch.counts.append(_Count(record.topic, result.converted, Counter(result.ignored), len(result.faults)))
        return batch

    def _failed(self, record: Record, error: Exception) -> Dead:
        """Return a record that made our own code raise; under pseudonyms without what it raised with."""
        said = type(error).__name__ if self._withheld else f"{type(error).__name__}: {error}"
        told = None if self._withheld else "".join(traceback.format_exception(error))
        return Dead(record, "processing_failed", f"our own code raised {said}; please report it", told)

    def _write(self, batch: _Batch, place_in_group: object, producer: Producer, outbox: KafkaOutbox) -> None:
        now = datetime.now(UTC)
        within_s = self._settings.session_timeout_s
        with _ended_after(_LIMIT * within_s):
            try:
                producer.begin_transaction()
                self._send(batch, outbox, now)
                positions = [
                    TopicPartition(*place, offset, self._topic_ids.get(place[0], ""))
                    for place, offset in batch.positions.items()
                ]
                retried(lambda _: producer.send_offsets_to_transaction(positions, place_in_group, within_s), within_s)
                retried(producer.commit_transaction, within_s)
            except (KafkaException, DeliveryError) as error:
                abort(producer, outbox, error, within_s)
                raise AbortedError(str(error)) from error
        self._aborts = 0
        for dead in batch.dead:
            self._telemetry.dead(dead.reason)
        for count in batch.counts:
            self._telemetry.ingested(*count)

    def _send(self, batch: _Batch, outbox: KafkaOutbox, now: datetime) -> None:
        for record, event in batch.events:
            topic = self._settings.topic(event.topic)
            outbox.send(topic, key=event.user_id.encode(), value=event.value, headers=_origin(record, event))
        letters = [dead_letter(dead, self._limits, now, withheld=self._withheld) for dead in batch.dead]
        outbox.send_all(letters, now.isoformat())


def _dead(record: Record, faults: Sequence[Fault]) -> Dead:
    """Return a record in which something was wrong; what else it held has gone on."""
    detail = "; ".join(fault.detail for fault in faults[:_FAULTS_SHOWN])
    if len(faults) > _FAULTS_SHOWN:
        detail += f"; and {len(faults) - _FAULTS_SHOWN} more"
    return Dead(record, faults[0].error.reason, detail)


@contextmanager
def _ended_after(limit_s: float) -> Iterator[None]:
    """
    End the process if something does not come back.

    librdkafka 2.16 can wait for ever for the group's coordinator when the broker has been away, whatever time it was
    given (its issues 5456 and 5511). Can go when they are mended.
    """
    late = TransactionError(
        f"the Kafka client has not come back from a transaction of foreign events for {limit_s:.0f} s: restart"
    )
    timer = threading.Timer(limit_s, stop_now, (late,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _before(settings: Settings, positions: Sequence[TopicPartition], is_over: Callable[[], bool]) -> Iterator[Record]:
    """Give the last records before these positions, of each partition in its order; what does not come is left out."""
    begun = [TopicPartition(p.topic, p.partition, max(p.offset - _WARM_RECORDS, 0)) for p in positions if p.offset > 0]
    if not begun:
        return
    upto = {(p.topic, p.partition): p.offset for p in positions if p.offset > 0}
    left = set(upto)
    reader = Consumer(consumer_config(settings, f"{settings.group}-ingest") | {"enable.partition.eof": True})
    try:
        reader.assign(begun)
        end = time.monotonic() + _WARM_S
        while left and time.monotonic() < end and not is_over():
            for message in reader.consume(settings.batch_max, _POLL_S):
                place = message.topic() or "", message.partition() or 0
                offset = message.offset() or 0
                if message.error() is None and offset < upto[place]:
                    yield record_of(message)
                # At its end, or at the last that is wanted of it.
                if message.error() is not None or offset >= upto[place] - 1:
                    left.discard(place)
    finally:
        reader.close()


def _is_trouble(message: KafkaMessage) -> bool:
    """
    Return whether a message is an error of the client's, which goes on by itself.

    Raises:
        SourceError: If it will not.
    """
    error = message.error()
    if error is None:
        return False
    if is_fatal(error):
        raise SourceError(f"topic {message.topic()} cannot be read: {error.str()}; check STREAM_SOURCES and the ACLs")
    log.warning("ingest.waiting", topic=message.topic(), reason=error.str())
    return True


def _origin(record: Record, event: Converted) -> list[tuple[str, bytes]]:
    """Return the headers that say where an event came from."""
    return [
        ("source_topic", record.topic.encode()),
        ("source_partition", str(record.partition).encode()),
        ("source_offset", str(record.offset).encode()),
        ("source_id", event.event_id.encode()),
    ]


def run_ingest(settings: Settings) -> None:
    """
    Convert foreign topics until told to stop, in a process of its own.

    Raises:
        UserError: If there are no sources, or topics, broker or ports are not as they should be.
    """
    if not settings.source_formats:
        raise UserError("STREAM_SOURCES: expected foreign topics, such as lms.xapi=xapi, found none")
    topics.ensure(settings)
    metrics = Metrics(settings.quality_window, Health(settings.stalled_after_s))
    serve(
        metrics.registry, metrics.health, settings.metrics_host, settings.worker_metrics_port,
        "STREAM_WORKER_METRICS_PORT",
    )  # fmt: skip
    ingest = Ingest(settings, metrics, metrics.health)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: ingest.tell_to_stop())
    ingest.run()
