"""
Faust's aiokafka transport, made to hand an agent one batch for each fetched partition.

Inside Faust's own extension points: assignment, rebalancing, recovery and commits stay its own. Why not `Stream.take`:
`docs/decisions/0003-batches-by-partition.md`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, cast

import faust
from aiokafka import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import AppT, StreamT
from faust.types.tuples import TP, ConsumerMessage

from stream.errors import DeliveryError, MembershipError
from stream.ports import Record
from stream.transport.engine import Engine, Handler, stop_now
from stream.transport.exactly_once import membership
from stream.transport.offsets import committed, starts
from stream.transport.progress import Batch, Place, Progress, Stamp
from stream.transport.recovery import Restoring
from stream.transport.settlement import Guarantee
from stream.transport.vigil import Vigil


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust 0.15.3 writes 1500 ms into the call. A broker that holds an empty fetch for that long whatever arrives
        # meanwhile, as librdkafka's mock cluster does, would add as much to every latency. Can go once Faust has a
        # setting.
        consumer._fetch_max_wait_ms = cast("TransportApp", self.app).fetch_max_wait_ms  # noqa: SLF001
        # Faust reads uncommitted records unless its own exactly-once is on, which is not ours: what a producer of
        # events has aborted must not be answered. Can go once Faust lets an app choose.
        consumer._isolation_level = "read_committed"  # noqa: SLF001
        return consumer

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let the driver fetch no changelogs: Faust's own pauses do not reach it."""
        changelogs = cast("TransportApp", self.app).tables.changelog_topics
        self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in assigned if tp.topic in changelogs))
        await super().on_partitions_assigned(assigned, generation_id)

    async def crash(self, reason: BaseException) -> None:
        """
        End the process.

        Faust 0.15.3 only marks its services as crashed, from a thread that is not theirs, and its shutdown may wait for
        this one: a worker that lives and does nothing (#175, #640).
        """
        stop_now(reason)


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _ours(self) -> "TransportApp":
        return cast("TransportApp", self.app)

    def membership(self) -> bytes | None:
        """Return our place in the consumer group, as librdkafka writes it; None where we are not in it."""
        coordinator = self._thread._ensure_consumer()._coordinator  # noqa: SLF001 (nothing public tells the member's id)
        # Each read once: the consumer's thread may reset both at any moment.
        generation, member = coordinator.generation, coordinator.member_id
        # Without them the broker would take us for one who assigns himself, and fence nothing.
        if generation < 0 or not member:
            return None
        return membership(self.app.conf.id, generation, member, self.app.conf.consumer_group_instance_id or None)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Read source topics only: changelogs are read by `stream.transport.recovery`."""
        super().resume_partitions({tp for tp in tps if not self._is_changelog_tp(tp)})

    async def perform_seek(self) -> None:
        """
        Put every source partition to what is committed, and begin to read it anew from there.

        Faust 0.15.3 asks for one partition after the other, changelogs too, which took five seconds of a failover; and
        it may be told an offset that our own last transaction is about to change.
        """
        places = [tp for tp in self.assignment() if tp.topic in self._ours.batched]
        call, settings = asyncio.get_running_loop().run_in_executor, self._ours.restoring.settings
        try:
            first, found = await asyncio.gather(
                call(None, starts, settings, places), call(None, partial(committed, settings, places, stable=True))
            )
        except DeliveryError as error:
            stop_now(error)
            raise
        for place in found:
            tp = TP(place.topic, place.partition)
            offset = max(place.offset, first[tp], 0)
            self._read_offset[tp] = self._committed_offset[tp] = offset or None
            self._ours.progress.expect(tp, offset, time.monotonic())
        await self._ours.engine.open()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109 (Faust's)
        """
        Yield what was fetched: a batch for each partition.

        Args:
            timeout: Seconds to wait for anything.
        """
        progress = self._ours.progress
        await self._seek_where_wanted(progress)
        epochs = progress.epochs()
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        for source, records in fetched.items():
            tp = TP(source.topic, source.partition)
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if tp.topic not in self._ours.batched:
                continue
            for start in range(0, len(records), self._ours.batch_max):
                stamp = progress.stamp(tp, epochs)
                if stamp is not None:
                    yield tp, _message(tp, records[start : start + self._ours.batch_max], stamp, generation)

    async def _seek_where_wanted(self, progress: Progress) -> None:
        """Seek here, between two fetches, and nowhere else: so no fetch can run beside it."""
        assigned = self.assignment()
        ends: dict[tuple[str, int], int] = {
            tp: self.highwater(tp) or 0 for tp in assigned if tp.topic in self._ours.batched
        }
        if self.flow_active:
            progress.check_idle(ends, time.monotonic())
        progress.forget(set(progress.epochs()) - set(ends))
        for place, offset in progress.take_seeks().items():
            await self.seek(TP(*place), offset)

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: `Progress` sees what stands still, and does something about it."""

    async def _commit_offsets(  # (Faust's signature)
        self,
        offsets: Mapping[TP, int],
        start_new_transaction: bool = True,  # noqa: FBT002
    ) -> bool:
        """
        Commit, and forget what could not be committed.

        Faust 0.15.3 takes it for committed, and tries again only when there is more (#316). Can go once it does not.
        """
        before = {tp: self._committed_offset[tp] for tp in offsets}
        did_commit = bool(await super()._commit_offsets(offsets, start_new_transaction))
        if not did_commit:
            for tp, offset in offsets.items():
                if self._committed_offset[tp] == offset:
                    self._committed_offset[tp] = before[tp]
        return did_commit

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        """
        Return all source partitions of ours: `Progress` says what of them may be committed.

        Faust 0.15.3 asks for acknowledgements, and has forgotten all of them when partitions are revoked: what was made
        safe last would be read again by the next owner.
        """
        return (
            tp
            for tp in self.assignment()
            if tp.topic in self._ours.batched and (topics is None or tp in topics or tp.topic in topics)
        )

    def _new_offset(self, tp: TP) -> int | None:
        """
        Return the offset to commit: what our agents have made safe, never what Faust counts as acknowledged.

        Faust 0.15.3 acknowledges in `finally`, whatever happened, and its own search for gaps can commit past a
        message in flight (#606). With transactions of our own it commits nothing.
        """
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        self._gap[tp].clear()
        return self._ours.progress.safe(tp) if self._ours.commits else None


def _message(tp: TP, records: list[Any], stamp: Stamp, generation: int) -> ConsumerMessage:
    """Return a batch as one message of Faust's; without the generation a stream drops it silently."""
    last = records[-1]
    # Faust carries a message's value to the schema as it is; `Batches` below takes it as such.
    value: Any = Batch(stamp, [_record(record) for record in records])
    return ConsumerMessage(
        tp.topic, tp.partition, last.offset, last.timestamp / 1000, last.timestamp_type, [], None, value, None, 0, 0,
        tp, generation_id=generation,
    )  # fmt: skip


_make = Record._make


def _record(fetched: Any) -> Record:
    return _make((
        fetched.topic, fetched.partition, fetched.offset, fetched.key, fetched.value, fetched.timestamp / 1000,
        tuple(fetched.headers),
    ))  # fmt: skip


class Transport(driver.Transport):
    """Faust's transport with our consumer."""

    Consumer = _Consumer


class TransportApp(faust.App):
    """
    A Faust app on our transport.

    Attributes:
        batched: Source topics that are read in batches.
        batch_max: Records in one, at most.
        fetch_max_wait_ms: How long the broker may hold a fetch while nothing comes.
        commits: Whether Faust commits offsets; False where a transaction does.
        progress: Where each partition of the source topics stands.
        vigil: Tells whether this process has slept.
        guarantee: Makes batches safe.
        engine: Processes what the agents hand in.
        restoring: What recovery works with.
    """

    batched: frozenset[str] = frozenset()
    batch_max: int = 500
    fetch_max_wait_ms: int = 500
    commits: bool = True
    progress: Progress
    vigil: Vigil
    guarantee: Guarantee
    engine: Engine
    restoring: Restoring

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Make no folders: tables are in memory and on Kafka."""

    async def on_start(self) -> None:
        """Watch and process."""
        await super().on_start()
        self.vigil.start()
        self.engine.start()

    async def on_stop(self) -> None:
        """Finish and commit what is in hand, then end."""
        await super().on_stop()
        self.engine.stop()
        self.vigil.stop()

    def attach(self, topic: str, handler: Handler) -> None:
        """Let a handler process a topic: an agent, one instance, hands its batches to the engine."""
        self.batched |= {topic}
        self.engine.attach(topic, handler)

        async def agent(stream: StreamT[Batch]) -> None:
            async for batch in stream:
                await self.engine.offer(batch)

        channel = self.topic(topic, schema=Batches(key_type=bytes, value_type=bytes))
        self.agent(channel, name=f"stream.agents.{topic}", concurrency=1)(agent)

    def membership(self) -> bytes | None:
        """Return our place in the consumer group, as librdkafka writes it; None where we are not in it."""
        return cast("_Consumer", self.consumer).membership()

    def owned(self) -> AbstractSet[Place]:
        """Return the partitions that are assigned to us."""
        return self.consumer.assignment()

    def on_rebalance_start(self) -> None:
        """
        Begin a rebalance, unless another has taken our place in the group: to join again would take it back, and so on.

        aiokafka 0.14 sends heartbeats and commits without the instance's id, so that Kafka says that it does not know
        the member, never that it is fenced. Can go once aiokafka names the instance, and stops there by itself.
        """
        instance = self.conf.consumer_group_instance_id
        if instance and self.consumer.assignment() and self.membership() is None:
            stop_now(
                MembershipError(
                    f"STREAM_INSTANCE_ID={instance} is another worker's by now, or the session has ended: "
                    "give each worker an id of its own, and restart this one"
                )
            )
        super().on_rebalance_start()

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """Make safe what is in hand before partitions go or the app ends, then let Faust commit it."""
        await self.engine.drain()
        await super()._consumer_wait_empty(consumer, logger)
        # The one in there does nothing if another was under way, which knew less.
        await consumer.commit()


class Batches(faust.Schema[bytes, bytes]):
    """Passes a fetched batch through as the event's value, undecoded."""

    def compile(self, app: AppT, **_: Any) -> Callable[..., Any]:
        """Return what Faust calls for each message."""

        async def decode(message: ConsumerMessage, *, propagate: bool = False) -> Any:  # noqa: ARG001 (nothing can fail)
            return app.create_event(None, message.value, {}, message)

        return decode
