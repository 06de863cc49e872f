"""
At least once, made idempotent by the state.

Outputs are confirmed, then the changelog, then offsets may be committed. Two groups are under way at once: the outputs
of one travel with the changelog of the one before, so that one flush serves both.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from stream.transport.outbox import KafkaOutbox
from stream.transport.progress import Progress
from stream.transport.settlement import Queue, Settlement, Told, newest


class AtLeastOnce:
    """
    A `Guarantee`: nothing is lost; what comes again is recognised.

    Args:
        outbox: Takes everything.
        progress: Told what may be committed.
        check: Raises if this worker may no longer speak for the partitions of these settlements.
        room: Events under way at most.
        told: Told how long it takes, and of what the changelogs were given.
    """

    def __init__(
        self,
        outbox: KafkaOutbox,
        progress: Progress,
        check: Callable[[Sequence[Settlement]], None],
        room: int,
        told: Told,
    ) -> None:
        self._outbox = outbox
        self._progress = progress
        self._check = check
        self._queue = Queue(room)
        self._told = told

    def prepare(self) -> None:
        """Ask nothing of the broker: every broker gives what is needed."""

    async def submit(self, settlement: Settlement) -> None:
        """Take a settlement; see `Guarantee`."""
        await self._queue.put(settlement)

    async def drain(self) -> None:
        """Return when all is safe; see `Guarantee`."""
        await self._queue.empty()

    async def take_over(self, partitions: set[int], place_in_group: bytes) -> bool:  # noqa: ARG002 (for transactions)
        """Return True: an earlier owner's late records are told by what they have seen."""
        return True

    async def run(self) -> None:
        """
        Work until cancelled.

        Raises:
            DeliveryError: If the broker did not take something in time.
            SleptError: If the session may have ended.
        """
        sent: list[Settlement] = []
        sent_at = began_at = 0.0
        while True:
            if not sent:
                await self._queue.await_any()
            fresh, taken_at = self._queue.take(), time.perf_counter()
            # The last moment at which a worker that slept can be kept from being heard.
            self._check([*sent, *fresh])
            now = datetime.now(UTC).isoformat()
            for settlement in fresh:
                self._outbox.send_all(settlement.work.outputs, now)
                self._outbox.send_changes(settlement.work.ahead)
            changes = newest(sent)
            self._outbox.send_changes(changes)
            await self._outbox.flush()
            if sent:
                self._told.staged("produce", time.perf_counter() - began_at)
            self._told.changed([*changes, *(change for s in fresh for change in s.work.ahead)])
            for settlement in sent:
                for batch in settlement.batches:
                    self._progress.settle(batch, time.monotonic())
                settlement.work.confirmed(sent_at)
            await self._queue.done(sent)
            sent, sent_at, began_at = fresh, time.time(), taken_at
