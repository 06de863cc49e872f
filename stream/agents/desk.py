"""
What every agent works with, and the order in which a batch becomes safe.

Outputs are flushed and confirmed, then the changelog, and only then may the offsets be committed: at least once. A
replay finds in the state what it has seen, so that nothing is applied or predicted twice.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog

from schemas import Academic, Interaction
from stream.agents.control import Control
from stream.errors import ControlError, StateError
from stream.intake import Accepted, Dead, Limits, dead_letter
from stream.pipeline import Models, Outcome, Users
from stream.ports import Clock, Message, ReadModel, Record, Telemetry
from stream.state import codec, learner
from stream.state.tables import PackedTable
from stream.transport.outbox import KafkaOutbox
from stream.transport.partitioner import Partitioner
from stream.transport.progress import Batch, Progress

log = structlog.get_logger()

FINISH_S = 8.0
"""A batch in hand may take this long to be finished when the worker is told to stop."""

_POLL_S = 0.02

_READ_MODEL_KINDS = {
    "predictions.correctness": "correctness",
    "predictions.time": "time",
    "predictions.risk": "risk",
}


@dataclass(slots=True)
class Desk:
    """Everything that the agents share; `models` is what serves now, exchanged between two batches."""

    learners: PackedTable
    academics: PackedTable
    outbox: KafkaOutbox
    control: Control
    read_model: ReadModel
    telemetry: Telemetry
    clock: Clock
    partition_of: Partitioner
    limits: Limits
    remembered: int
    latest_topics: int
    models: Models
    owns: Callable[[Record], bool]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ready(self) -> None:
        """
        Return when the control topics have been read whole, and what they announce serves.

        Raises:
            ControlError: If they cannot be read.
        """
        while not self.control.is_caught_up:  # noqa: ASYNC110 (a thread sets it, and may fail)
            await asyncio.sleep(_POLL_S)
        async with self.lock:
            self.refresh()

    async def refresh_idle(self) -> None:
        """Take over what the control topics have brought while no batch comes."""
        try:
            async with self.lock:
                self.refresh()
        except ControlError as error:
            stop_now(error)

    def refresh(self) -> None:
        """
        Take over what the control topics have brought: between two batches, never within one.

        Raises:
            ControlError: If they are no longer read.
        """
        if not self.control.is_caught_up:
            return
        self.models.items.update(self.control.take_parameters())
        predictor = self.control.take_predictor()
        if predictor is not None:
            log.info(
                "model.swapped", version=predictor.identity.version, previous=self.models.predictor.identity.version
            )
            self.models = Models(predictor, self.models.fallback, self.models.items, self.models.names)
            self.telemetry.swapped()
            self.telemetry.model(predictor.identity.version)

    def users(self, accepted: Sequence[Accepted[Interaction]] | Sequence[Accepted[Academic]]) -> Users:
        """Return the states of the users of a batch."""
        names = list(dict.fromkeys(a.event.user_id for a in accepted))
        return Users(
            {name: row for row, name in enumerate(names)},
            codec.decode_learners(self.learners.stored(names), self.remembered, self.models.names),
            codec.decode_academics(self.academics.stored(names)),
        )

    def learner(self, user_id: str) -> learner.Records:
        """Return one user's record, `(1,)`."""
        return codec.decode_learners(self.learners.stored([user_id]), self.remembered, self.models.names)

    async def emit(self, messages: Sequence[Message], dead: Sequence[Dead]) -> None:
        """Send outputs and dead letters, and return when they are confirmed."""
        now = self.clock()
        letters = [dead_letter(d, self.limits, now) for d in dead]
        self.outbox.send_all([*messages, *letters], now.isoformat())
        await self.outbox.flush()
        for d in dead:
            self.telemetry.dead(d.reason)
            if d.traceback is not None:
                log.error("event.failed", topic=d.record.topic, partition=d.record.partition, offset=d.record.offset,
                          detail=d.detail)  # fmt: skip

    async def settle(
        self, outcome: Outcome, dead: Sequence[Dead], arrived: Sequence[Accepted[Interaction]] |
        Sequence[Accepted[Academic]],
        keep: Callable[[Outcome, dict[str, int]], None],
    ) -> None:  # fmt: skip
        """
        Make a batch safe: outputs, then state, then whatever may be lost.

        Args:
            outcome: What became of it.
            dead: What could not be read.
            arrived: The events that could.
            keep: Puts the next states into their table, given each user's partition.
        """
        await self.emit(outcome.messages, [*dead, *outcome.dead])
        keep(outcome, {a.event.user_id: a.record.partition for a in arrived})
        await self.outbox.flush()
        confirmed_at = time.time()
        self.telemetry.latency(confirmed_at - np.array([a.record.timestamp_s for a in arrived]))
        for type_, count in Counter(a.event.type for a in arrived).items():
            self.telemetry.read(type_, count)
        for topic, count in Counter(m.topic for m in outcome.messages if m.topic in _READ_MODEL_KINDS).items():
            self.telemetry.predicted(_READ_MODEL_KINDS[topic], count)
        if outcome.repeated:
            self.telemetry.repeated(outcome.repeated)
        if outcome.fell_back:
            log.error("inference.failed", answers=outcome.fell_back)
            self.telemetry.fell_back(outcome.fell_back)
        self.telemetry.observed(outcome.correct, outcome.p_correct, outcome.p_fallback)
        for message in outcome.messages:
            kind = _READ_MODEL_KINDS.get(message.topic)
            if kind is not None:
                self.read_model.offer(message.key.decode(), kind, message.value)

    def keep_learners(self, outcome: Outcome, partitions: dict[str, int]) -> None:
        """Put the next records of learners into their table."""
        for user, row in outcome.users.row.items():
            value = codec.encode_learner(outcome.users.learners[row], self.models.names)
            self.learners.put(user, partitions[user], value)

    def keep_academics(self, outcome: Outcome, partitions: dict[str, int]) -> None:
        """Put the next academic records into their table."""
        for user, row in outcome.users.row.items():
            self.academics.put(user, partitions[user], codec.encode_academic(outcome.users.academics[row]))


async def work(
    batches: AsyncIterable[Batch],
    progress: Progress,
    desk: Desk,
    handle: Callable[[list[Record], Desk], Awaitable[None]],
) -> None:
    """
    Hand each batch to `handle`, one at a time over all agents.

    Faust acknowledges a batch even when its agent raises; so any error that gets here ends the process before
    anything is committed.

    Args:
        batches: Each of one partition, in the order of its offsets.
        progress: Says what of a batch is to be processed, and is told what is safe.
        desk: What the agents share.
        handle: Makes a batch safe.
    """
    try:
        await desk.ready()
        async for batch in batches:
            await _finish(_one(batch, progress, desk, handle))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 (nothing may be committed after any of them)
        stop_now(error)


async def _one(
    batch: Batch, progress: Progress, desk: Desk, handle: Callable[[list[Record], Desk], Awaitable[None]]
) -> None:
    async with desk.lock:
        admitted = progress.admit(batch, time.monotonic())
        # A partition that belongs to another worker by now: the batch is that one's to answer.
        if admitted is None or not desk.owns(admitted.records[0]):
            return
        desk.refresh()
        started = time.perf_counter()
        await handle(admitted.records, desk)
        progress.settle(admitted, time.monotonic())
        desk.telemetry.batch(len(admitted.records), time.perf_counter() - started)


async def _finish(batch: Awaitable[None]) -> None:
    """Await a batch to its end even if the agent is cancelled meanwhile: half a batch must not be acknowledged."""
    task = asyncio.ensure_future(batch)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=FINISH_S)
        if not task.done():
            stop_now(TimeoutError(f"the batch in hand took more than {FINISH_S} s to finish"))
        if error := task.exception():
            stop_now(error)
        raise


def stop_now(error: BaseException) -> None:
    """End the process at once, without committing: what was in hand comes again after the restart."""
    if isinstance(error, StateError):
        log.critical("worker.stopped", reason=str(error))
    else:
        log.critical("worker.stopped", reason=str(error), exc_info=error)
    os._exit(1)
