"""
Faust's aiokafka transport, made to hand an agent one batch for each fetched partition.

Inside Faust's own extension points: assignment, rebalancing, recovery and commits stay its own. Why not `Stream.take`:
`docs/decisions/0003-batches-by-partition.md`.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import faust
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import AppT
from faust.types.tuples import TP, ConsumerMessage

from stream.ports import Record
from stream.transport.progress import Batch, Progress, Stamp


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust 0.15.3 writes 1500 ms into the call. A broker that holds an empty fetch for that long whatever arrives
        # meanwhile, as librdkafka's mock cluster does, would add as much to every latency. Can go once Faust has a
        # setting.
        consumer._fetch_max_wait_ms = cast("TransportApp", self.app).fetch_max_wait_ms  # noqa: SLF001
        return consumer


RECOVERY_IDLE_S = 5.0
"""A recovery that has records to read, of which none has come for this long, reads them again."""


class _Consumer(driver.Consumer):
    _recovery_left: Mapping[TP, int] = MappingProxyType({})
    _recovery_moved_at = 0.0

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _ours(self) -> "TransportApp":
        return cast("TransportApp", self.app)

    async def perform_seek(self) -> None:
        """Put every partition to what is committed, and begin to read the source topics anew from there."""
        await super().perform_seek()
        places = [tp for tp in self.assignment() if tp.topic in self._ours.batched]
        starts = await self.earliest_offsets(*places) if places else {}
        for tp in places:
            self._ours.progress.expect(tp, max(self._committed_offset[tp] or 0, starts[tp]), time.monotonic())

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109 (Faust's)
        """
        Yield what was fetched: a batch for each partition of a source topic, single messages of changelogs.

        Args:
            timeout: Seconds to wait for anything.
        """
        progress = self._ours.progress
        await self._unstick_recovery()
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
                for record in records:
                    yield tp, self._to_message(tp, record)
                continue
            for start in range(0, len(records), self._ours.batch_max):
                stamp = progress.stamp(tp, epochs)
                if stamp is not None:
                    yield tp, _message(tp, records[start : start + self._ours.batch_max], stamp, generation)

    async def _unstick_recovery(self) -> None:
        """
        Read changelogs again from what was applied last, if recovery waits for records and none comes.

        Around a rebalance Faust 0.15.3 can drop what it has fetched of a changelog; recovery then waits for ever.
        Reading a record twice changes nothing.
        """
        recovery = cast("TableManager", self.app.tables).recovery
        left = {tp: count for tp, count in recovery.active_remaining().items() if count > 0}
        now = time.monotonic()
        if not (recovery.in_recovery and self.flow_active) or left != self._recovery_left:
            self._recovery_left, self._recovery_moved_at = left, now
        elif left and now - self._recovery_moved_at > RECOVERY_IDLE_S:
            self._recovery_moved_at = now
            for tp in left.keys() & self.assignment():
                await self.seek(tp, max(recovery.active_offsets[tp], 0))

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

    def _new_offset(self, tp: TP) -> int | None:
        """
        Return the offset to commit: what our agents have made safe, never what Faust counts as acknowledged.

        Faust 0.15.3 acknowledges in `finally`, whatever happened, and its own search for gaps can commit past a
        message in flight (#606).
        """
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        self._gap[tp].clear()
        return self._ours.progress.safe(tp)


def _message(tp: TP, records: list[Any], stamp: Stamp, generation: int) -> ConsumerMessage:
    """Return a batch as one message of Faust's; without the generation a stream drops it silently."""
    last = records[-1]
    # Faust carries a message's value to the schema as it is; `Batches` below takes it as such.
    value: Any = Batch(stamp, [_record(record) for record in records])
    return ConsumerMessage(
        tp.topic, tp.partition, last.offset, last.timestamp / 1000, last.timestamp_type, [], None, value, None, 0, 0,
        tp, generation_id=generation,
    )  # fmt: skip


def _record(fetched: Any) -> Record:
    return Record(
        topic=fetched.topic,
        partition=fetched.partition,
        offset=fetched.offset,
        key=fetched.key,
        value=fetched.value,
        timestamp_s=fetched.timestamp / 1000,
        headers=tuple(fetched.headers),
    )


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
        progress: Where each partition of the source topics stands.
    """

    batched: frozenset[str] = frozenset()
    batch_max: int = 500
    fetch_max_wait_ms: int = 500
    progress: Progress

    def _new_transport(self) -> Transport:
        self.progress = Progress()
        return Transport(self.conf.broker_consumer, self)


class Batches(faust.Schema[bytes, bytes]):
    """Passes a fetched batch through as the event's value, undecoded."""

    def compile(self, app: AppT, **_: Any) -> Callable[..., Any]:
        """Return what Faust calls for each message."""

        async def decode(message: ConsumerMessage, *, propagate: bool = False) -> Any:  # noqa: ARG001 (nothing can fail)
            return app.create_event(None, message.value, {}, message)

        return decode
