"""
Exactly once: outputs, changelogs and offsets of a group of batches in one Kafka transaction.

A worker that is no longer in its consumer group is fenced by the group's generation, which goes with the offsets
(KIP-447); a transaction that a dead worker left open is ended by fencing its producer's id, which every transaction
leaves in the metadata of the offsets that it commits. Why: `docs/decisions/0011-transactions.md`.
"""

import asyncio
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

import structlog
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.errors import DeliveryError, TransactionError, UserError
from stream.settings import Settings
from stream.transport.clients import client_config, consumer_config, producer_config
from stream.transport.offsets import committed, ends, starts
from stream.transport.outbox import KafkaOutbox
from stream.transport.progress import Place, Progress
from stream.transport.settlement import NO_NAME, Change, Queue, Settlement, Told, newest
from stream.transport.topics import TABLES, changelog

log = structlog.get_logger()

_INIT_S = 30.0
_CALL_S = 2.0
_GRACE_S = 0.5
"""An open transaction is given this long to end by itself before its producer is fenced."""

_POLL_S = 0.05
_BACKOFF_S = 0.2

_LIMIT = 4
"""Sessions after which a transaction's calls are given up: two for the flush, one for offsets and commit each."""

_ABORTS_MAX = 20
"""So many aborted transactions one after the other are no accident."""


class AbortedError(Exception):
    """The transaction cannot be committed; it has been aborted, and none of it will be read."""


def membership(group: str, generation: int, member: str, instance: str | None) -> bytes:
    """
    Return a place in a consumer group as librdkafka writes it (`rd_kafka_consumer_group_metadata_write`).

    The consumer is aiokafka's, the producer librdkafka's: these bytes are how one tells the other who it is.
    """
    written = b"CGMDv2:" + struct.pack("=i", generation) + group.encode() + b"\x00" + member.encode() + b"\x00"
    return written + (b"\x01" if instance is None else b"\x00" + instance.encode() + b"\x00")


def check_membership_format(settings: Settings) -> None:
    """
    Return if librdkafka still writes a place in a group as `membership` does.

    Raises:
        UserError: If not: a fence that may not hold is worse than none.
    """
    consumer = Consumer(consumer_config(settings, settings.group) | {"group.instance.id": "i"})
    try:
        found: Any = consumer.consumer_group_metadata()
    finally:
        consumer.close()
    if found != membership(settings.group, -1, "", "i"):
        raise UserError(
            "STREAM_GUARANTEE=exactly_once: expected librdkafka to write group metadata in the format CGMDv2, found "
            f"{bytes(found)[:12]!r}; install the version of confluent-kafka that the project names"
        )


class _Transactions(Protocol):
    """What is used of a transactional producer."""

    def init_transactions(self, timeout: float) -> None: ...
    def begin_transaction(self) -> None: ...
    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: object, timeout: float
    ) -> None: ...
    def commit_transaction(self, timeout: float) -> None: ...
    def abort_transaction(self, timeout: float) -> None: ...


class ExactlyOnce:
    """
    A `Guarantee`: nothing is lost, nothing comes twice for whoever reads what is committed.

    Args:
        settings: Broker, group, sizes.
        progress: Told what is committed, and what is to be read again.
        room: Events under way at most.
        told: Told of aborted transactions, how long they take, and of what the changelogs were given.
    """

    def __init__(self, settings: Settings, progress: Progress, room: int, told: Told) -> None:
        self._settings = settings
        self._progress = progress
        self._queue = Queue(room)
        self._told = told
        # Joined by what neither may contain: no two workers may ever share one.
        self._id = f"{settings.group}/{settings.instance_id or uuid4().hex}"
        self._busy = asyncio.Lock()
        self._timeout_s = settings.session_timeout_s
        producer = Producer(transaction_config(settings, self._id))
        self._producer: _Transactions = producer
        self._outbox = KafkaOutbox(settings, producer)
        self._aborts = 0
        self._flushed_at = 0.0

    def prepare(self) -> None:
        """
        Make sure of the broker, and end what an earlier life of the same id left open.

        Raises:
            UserError: If the broker has no transactions.
        """
        check_membership_format(self._settings)
        _init(self._producer, self._settings)

    async def submit(self, settlement: Settlement) -> None:
        """Take a settlement; see `Guarantee`."""
        await self._queue.put(settlement)

    async def drain(self) -> None:
        """Return when all is committed or undone; see `Guarantee`."""
        await self._queue.empty()

    async def run(self) -> None:
        """
        Work until cancelled.

        Raises:
            TransactionError: If transactions are aborted one after the other, or this producer's id is another's.
        """
        while True:
            await self._queue.await_any()
            group = _of_one_membership(self._queue.take(), self._queue)
            try:
                await self._transact(group)
            except AbortedError as error:
                await self._undo(group, error)
                continue
            self._aborts = 0
            for settlement in group:
                for batch in settlement.batches:
                    self._progress.settle(batch, time.monotonic())
                    self._progress.committed({batch.place: batch.end})
                settlement.work.confirmed(time.time())
            await self._queue.done(group)

    async def _transact(self, group: Sequence[Settlement]) -> None:
        """Send and commit a group, or raise `AbortedError` when it has been aborted."""
        now, began_at = datetime.now(UTC).isoformat(), time.perf_counter()
        async with self._busy:
            try:
                self._producer.begin_transaction()
                for settlement in group:
                    self._outbox.send_all(settlement.work.outputs, now)
                    self._outbox.send_changes(settlement.work.ahead)
                changes = newest(group)
                self._outbox.send_changes(changes)
                offsets = self._offsets(group)
                untouched = {partition for _, partition in offsets} - {change.partition for change in changes}
                traces = self._traces(untouched)
                self._outbox.send_changes(traces)
                await self._answered(self._commit, offsets, group[0].membership)
            except (KafkaException, DeliveryError) as error:
                await self._answered(self._abort, error)
                raise AbortedError(str(error)) from error
        self._told.staged("produce", self._flushed_at - began_at)
        self._told.staged("commit", time.perf_counter() - self._flushed_at)
        self._told.changed([*changes, *traces, *(change for s in group for change in s.work.ahead)])

    def _offsets(self, group: Sequence[Settlement]) -> dict[Place, int]:
        """
        Return the offsets that a group commits.

        Work without events commits again where its partitions stand: the group's generation, which fences whoever has
        lost them, and our id, which tells the next owner whom to fence, go with offsets alone.

        Raises:
            DeliveryError: If a partition of such work is not known any more.
        """
        offsets: dict[Place, int] = {}
        for place in {place for settlement in group for place in settlement.aside}:
            safe = self._progress.safe(place)
            if safe is None:
                raise DeliveryError(f"topic {place[0]} partition {place[1]}: no longer read, with work of it in hand")
            offsets[place] = safe
        return offsets | {batch.place: batch.end for settlement in group for batch in settlement.batches}

    async def _answered(self, call: Callable[..., None], *args: object) -> None:
        """
        Call the client on a thread.

        Raises:
            TransactionError: If it does not come back. librdkafka 2.16 can wait for ever for the group's coordinator
                when the broker has been away, whatever time it was given (its issues 5456 and 5511). A worker that
                starts again is better than one that waits; the broker has ended the transaction long before. Can go
                when they are mended.
        """
        limit_s = _LIMIT * self._timeout_s + 2 * _CALL_S
        work = asyncio.get_running_loop().run_in_executor(None, call, *args)
        done, _ = await asyncio.wait({work}, timeout=limit_s)
        if not done:
            raise TransactionError(
                f"the Kafka client has not come back from a transaction for {limit_s:.0f} s, which is more than its "
                "calls were given: restart the worker"
            )
        work.result()

    def _traces(self, partitions: set[int]) -> list[Change]:
        """
        Return changelog records without a content, for partitions on which the transaction changes nothing.

        Whoever takes a partition over looks for open transactions on its changelogs.
        """
        topic = changelog(self._settings, "names")
        return [Change(topic, partition, NO_NAME, NO_NAME) for partition in partitions]

    def _commit(self, offsets: Mapping[tuple[str, int], int], place_in_group: bytes) -> None:
        # All is on the changelogs before the group accepts the offsets: so no transaction that could still be committed
        # after we have lost our partitions escapes whoever takes them over.
        self._outbox.flush_now()
        self._flushed_at = time.perf_counter()
        positions = [TopicPartition(*place, offset, self._id) for place, offset in offsets.items()]
        # After a session the broker has ended the transaction.
        within_s = self._timeout_s
        # Given all its time at once: an attempt that has timed out costs the transaction.
        retried(lambda _: self._producer.send_offsets_to_transaction(positions, place_in_group, within_s), within_s)
        retried(self._producer.commit_transaction, within_s)

    def _abort(self, cause: Exception) -> None:
        """Abort the transaction; see `abort`."""
        abort(self._producer, self._outbox, cause, self._timeout_s)

    async def _undo(self, group: Sequence[Settlement], error: AbortedError) -> None:
        """Put memory back to what the changelogs hold, and read the events again."""
        undone = [*group, *self._queue.take()]
        for settlement in reversed(undone):
            settlement.work.undo()
        for place in {batch.place for settlement in undone for batch in settlement.batches}:
            self._progress.rewind(place, time.monotonic())
        self._aborts += 1
        self._told.aborted()
        log.warning("transaction.aborted", reason=str(error), events=sum(s.events for s in undone))
        await self._queue.done(undone)
        if self._aborts > _ABORTS_MAX:
            raise TransactionError(
                f"{self._aborts} transactions were aborted one after the other, the last because: {error}; look at the "
                "broker's load and log, and at what else uses our transactional ids"
            )
        await asyncio.sleep(_BACKOFF_S)

    async def take_over(self, partitions: set[int], place_in_group: bytes) -> bool:
        """
        Fence whoever owned these partitions before, and put our name to them; see `Guarantee`.

        Raises:
            TransactionError: If an open transaction on a changelog does not end, we may not commit, or the client does
                not come back.
            DeliveryError: If the broker does not tell offsets.
        """
        if not partitions:
            return True
        loop, given_up = asyncio.get_running_loop(), threading.Event()
        # A thread cannot be cancelled, and there is but one producer: whoever comes next waits for its end.
        async with self._busy:
            work = loop.run_in_executor(None, self._take_over, sorted(partitions), place_in_group, given_up)
            limit_s = _LIMIT * self._timeout_s + 2 * _INIT_S
            try:
                done, _ = await asyncio.wait({work}, timeout=limit_s)
            except asyncio.CancelledError:
                given_up.set()
                done, _ = await asyncio.wait({work}, timeout=_LIMIT * self._timeout_s + _INIT_S)
                if done:
                    raise
            if not done:
                raise TransactionError(
                    "the Kafka client has not come back from taking partitions over, whatever time it was given: "
                    "restart the worker"
                )
            return work.result()

    def _take_over(self, partitions: Sequence[int], place_in_group: bytes, given_up: threading.Event) -> bool:
        admin = AdminClient(client_config(self._settings))
        # Whom to fence is told by what was committed last, be a transaction open or not.
        source = self._settings.topic("interactions")
        places = [(source, partition) for partition in partitions]
        last = committed(self._settings, places, stable=False)
        previous = {place.partition: place.metadata for place in last if place.metadata}
        self._await_closed(admin, partitions, previous, given_up)
        # Read again when nothing is open, and only when the broker calls it stable: the owner before may have committed
        # in the meantime, and what he has committed must not be taken back.
        stable = committed(self._settings, places, stable=True)
        return not given_up.is_set() and self._claim(stable, place_in_group)

    def _await_closed(
        self, admin: AdminClient, partitions: Sequence[int], previous: Mapping[int, str], given_up: threading.Event
    ) -> None:
        """Return when no transaction is open on the changelogs of the partitions, or nobody waits for it any more."""
        started, fenced = time.monotonic(), set[str]()
        while (waiting := self._open(admin, partitions)) and not given_up.is_set():
            waited_s = time.monotonic() - started
            if waited_s > _GRACE_S:
                for owner in {previous[p] for p in waiting if p in previous} - fenced - {self._id}:
                    log.info("transaction.fenced", owner=owner, partitions=sorted(waiting))
                    fence(self._settings, owner)
                    fenced.add(owner)
            if waited_s > self._timeout_s + _INIT_S:
                raise TransactionError(
                    f"a transaction has been open on the changelogs' partitions {sorted(waiting)} for "
                    f"{waited_s:.0f} s: another producer writes there, or the broker does not end transactions"
                )
            time.sleep(_POLL_S)

    def _open(self, admin: AdminClient, partitions: Sequence[int]) -> set[int]:
        """Return the partitions on which a transaction is open: their last stable offset is not their end."""
        places = [(changelog(self._settings, table), partition) for table in TABLES for partition in partitions]
        # In this order: what is stable may move on in between, and then it is at least as far.
        last = ends(self._settings, places, admin=admin)
        stable = ends(self._settings, places, stable=True, admin=admin)
        return {partition for (topic, partition), end in last.items() if stable[topic, partition] < end}

    def _claim(self, stable: Sequence[TopicPartition], place_in_group: bytes) -> bool:
        """
        Leave our id in the metadata of each partition's offset, so that the next owner knows whom to fence.

        Returns:
            Whether the group let us.
        """
        offsets = {(place.topic, place.partition): place.offset for place in stable}
        offsets |= starts(self._settings, [place for place, offset in offsets.items() if offset < 0])
        try:
            self._producer.begin_transaction()
            self._commit(offsets, place_in_group)
        except (KafkaException, DeliveryError) as error:
            self._abort(error)
            # The group has moved on meanwhile: whoever owns the partitions now has put, or will put, his name there.
            log.info("transaction.outdated", partitions=len(offsets), reason=str(error))
            return False
        return True


def transaction_config(settings: Settings, transactional_id: str) -> dict[str, Any]:
    """Return what a transactional producer needs."""
    return producer_config(settings) | {
        "transactional.id": transactional_id,
        # A transaction left open holds up its readers no longer than a session.
        "transaction.timeout.ms": int(settings.session_timeout_s * 1000),
    }


def _init(producer: _Transactions, settings: Settings) -> None:
    try:
        retried(producer.init_transactions, _INIT_S)
    except KafkaException as error:
        raise UserError(
            f"STREAM_GUARANTEE=exactly_once needs transactions, and the broker at {settings.broker} does not give any: "
            f"{error.args[0].str()}; on a small cluster set its transaction.state.log.replication.factor and "
            "transaction.state.log.min.isr to no more than it has brokers, or set STREAM_GUARANTEE=at_least_once"
        ) from error


def fence(settings: Settings, transactional_id: str) -> None:
    """
    Make sure that the producer of this id is heard no more, and end what it left open.

    Raises:
        TransactionError: If the broker does not do it.
    """
    try:
        retried(Producer(transaction_config(settings, transactional_id)).init_transactions, _INIT_S)
    except KafkaException as error:
        raise TransactionError(
            f"the producer {transactional_id}, which left a transaction open, could not be fenced: "
            f"{error.args[0].str()}; check the broker, and the right to write on transactional ids of the group"
        ) from error


def abort(producer: _Transactions, outbox: KafkaOutbox, cause: Exception, within_s: float) -> None:
    """
    Abort a transaction.

    Raises:
        TransactionError: If that cannot be, which must end the process.
    """
    try:
        retried(producer.abort_transaction, within_s)
    except KafkaException as error:
        raise TransactionError(
            f"a transaction failed ({cause}) and could not be aborted: {error.args[0].str()}"
        ) from error
    outbox.forget_failures()


def retried(act: Callable[[float], None], within_s: float) -> None:
    """Call until it is through, as long as the client says that trying again may help; takes seconds to wait."""
    end = time.monotonic() + within_s
    while True:
        try:
            return act(_CALL_S)
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > end:
                raise


def _of_one_membership(settlements: list[Settlement], queue: Queue) -> list[Settlement]:
    """Return the first settlements that were processed under one membership; the others wait again."""
    count = next((i for i, s in enumerate(settlements) if s.membership != settlements[0].membership), len(settlements))
    queue.put_back(settlements[count:])
    return settlements[:count]
