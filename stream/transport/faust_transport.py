"""
Faust's aiokafka transport, made to hand an agent one batch for each fetched partition.

Inside Faust's own extension points: assignment, rebalancing, recovery and commits stay its own. Why not `Stream.take`:
`docs/decisions/0003-batches-by-partition.md`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from functools import partial
from typing import Any, cast

import faust
from aiokafka import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import AppT, StreamT
from faust.types.tuples import TP, ConsumerMessage

from stream.errors import DeliveryError, MembershipError
from stream.health import Health
from stream.transport.engine import Engine, Handler, or_stop, stop_now
from stream.transport.exactly_once import membership
from stream.transport.offsets import committed, starts
from stream.transport.progress import Batch, Place, Progress
from stream.transport.recovery import Restoring
from stream.transport.settlement import Guarantee, Told
from stream.transport.source import Fetched, Source
from stream.transport.vigil import Vigil

_WAIT_S = 0.1
_BEAT_S = 0.5
"""How often it is put down where the partitions stand: an answer to a scrape is no older."""


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let the driver fetch nothing: it keeps our place in the group; events and changelogs are read by others."""
        self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    async def crash(self, reason: BaseException) -> None:
        """
        End the process.

        Faust 0.15.3 only marks its services as crashed, from a thread that is not theirs, and its shutdown may wait for
        this one: a worker that lives and does nothing (#175, #640).
        """
        stop_now(reason)


class _Consumer(driver.Consumer):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting: tuple[Mapping[Place, int], Future[Fetched]] | None = None

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
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
        if self.should_stop or self._ours.source.is_closed:
            await asyncio.sleep(_WAIT_S)
            return
        # As far as the driver can tell we fetch through it: else it would leave the group after a while.
        with self._thread._ensure_consumer()._subscription.fetch_context():  # noqa: SLF001 (nothing public says so)
            pass
        stamped = await self._fetch(min(timeout, _WAIT_S))
        if self.should_stop or self._ours.source.is_closed or not self.flow_active:
            return
        generation = self.app.consumer_generation_id
        self._ours.engine.announce(len(stamped))
        for batch in stamped:
            tp = TP(*batch.place)
            self.app.monitor.track_tp_end_offset(tp, self._ours.source.end(tp))
            yield tp, _message(tp, batch, generation)

    async def _fetch(self, timeout_s: float) -> list[Batch]:
        """Return what has arrived since, stamped; what is lost from here on will be missed."""
        progress = self._ours.progress
        try:
            epochs, fetched = await self._fetched(timeout_s)
        except Exception as error:  # (in Faust's hands it might end in a worker that lives and does nothing)
            stop_now(error)
            raise
        size = self._ours.batch_max
        batches = []
        for place, records in fetched.items():
            for start in range(0, len(records), size):
                part = records[start : start + size]
                stamp = progress.stamp(place, epochs, part[-1].offset + 1)
                if stamp is not None:
                    batches.append(Batch(stamp, part))
        for place in self._ours.source.take_ended():
            progress.ended(place, epochs)
        return batches

    async def _fetched(self, timeout_s: float) -> tuple[Mapping[Place, int], Fetched]:
        """Return what has arrived, and the epochs at which fetching it began."""
        source = self._ours.source
        if self._waiting is None:
            self._read_where_wanted()
            epochs = self._ours.progress.epochs()
            fetched = source.fetched()
            if fetched:
                return epochs, fetched
            self._waiting = epochs, source.begin_wait(timeout_s)
        # Whoever cancels us leaves the wait to the next call, with the epochs at which it began.
        epochs, waiting = self._waiting
        fetched = await asyncio.shield(asyncio.wrap_future(waiting))
        self._waiting = None
        return epochs, fetched

    def _read_where_wanted(self) -> None:
        """Move here, between two fetches, and nowhere else: so no fetch can run beside it."""
        source, progress = self._ours.source, self._ours.progress
        assigned = {(tp.topic, tp.partition) for tp in self.assignment() if tp.topic in self._ours.batched}
        if self.flow_active:
            progress.check_idle({place: source.end(place) for place in assigned}, time.monotonic())
        progress.forget(set(progress.epochs()) - assigned)
        wanted = progress.take_seeks()
        source.read_from(wanted, assigned)
        for place in wanted:
            # Faust would drop what comes again.
            self._read_offset[TP(*place)] = None

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
        before, began_at = {tp: self._committed_offset[tp] for tp in offsets}, time.perf_counter()
        did_commit = bool(await super()._commit_offsets(offsets, start_new_transaction))
        if did_commit:
            self._ours.told.staged("commit", time.perf_counter() - began_at)
            self._ours.progress.committed({(tp.topic, tp.partition): offset for tp, offset in offsets.items()})
        else:
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


def _message(tp: TP, batch: Batch, generation: int) -> ConsumerMessage:
    """Return a batch as one message of Faust's; without the generation a stream drops it silently."""
    last = batch.records[-1]
    # Faust carries a message's value to the schema as it is; `Batches` below takes it as such.
    value: Any = batch
    return ConsumerMessage(
        tp.topic, tp.partition, last.offset, last.timestamp_s, 0, [], None, value, None, 0, 0, tp,
        generation_id=generation,
    )  # fmt: skip


class Transport(driver.Transport):
    """Faust's transport with our consumer."""

    Consumer = _Consumer


class TransportApp(faust.App):
    """
    A Faust app on our transport.

    Attributes:
        batched: Source topics that are read in batches.
        batch_max: Records in one, at most.
        source: Reads them.
        commits: Whether Faust commits offsets; False where a transaction does.
        progress: Where each partition of the source topics stands.
        vigil: Tells whether this process has slept.
        guarantee: Makes batches safe.
        engine: Processes what the agents hand in.
        restoring: What recovery works with.
        health: Told where the partitions stand, and whether they are ours yet.
        told: Told how long commits take.
    """

    batched: frozenset[str] = frozenset()
    batch_max: int = 500
    commits: bool = True
    source: Source
    progress: Progress
    vigil: Vigil
    guarantee: Guarantee
    engine: Engine
    restoring: Restoring
    health: Health
    told: Told
    _beating: "asyncio.Task[None] | None" = None

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Make no folders: tables are in memory and on Kafka."""

    async def on_start(self) -> None:
        """Watch and process."""
        await super().on_start()
        self.vigil.start()
        self.engine.start()
        self._beating = asyncio.ensure_future(or_stop(self._beat()))

    async def on_stop(self) -> None:
        """Finish and commit what is in hand, then end."""
        await super().on_stop()
        # Faust has stopped the fetcher already, but not that of a worker without partitions.
        self.source.is_closed = True
        await asyncio.get_running_loop().run_in_executor(None, self.source.close)
        self.engine.stop()
        self.vigil.stop()
        if self._beating is not None:
            self._beating.cancel()

    async def _beat(self) -> None:
        """Put down, again and again, that the loop turns and where our partitions stand."""
        prefix = self.restoring.settings.topic_prefix
        # Neither is to be asked of what is being closed.
        while not (self.should_stop or self.source.is_closed):
            # Before the first partitions are ours the consumer may not even have started.
            owned = self.owned() if self.progress.epochs() else ()
            standings = {
                (place[0].removeprefix(prefix), place[1]): self.progress.standing(place, self.source.end(place))
                for place in owned
                if place[0] in self.batched
            }
            self.health.beat("worker", standings)
            await asyncio.sleep(_BEAT_S)

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
        self.health.lacks("partitions", "partitions are being assigned, and their state is read")
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        """Take note that our partitions are ours, and their state is there."""
        super().on_rebalance_end()
        self.health.has("partitions")

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
