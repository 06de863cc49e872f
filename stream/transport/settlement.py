"""
What has to become safe before a batch may be committed, and the queue in which it waits.

A batch is processed while earlier ones are still on their way to the broker: what is ready waits here, and is sent as
one group as soon as the group before it is through.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from stream.ports import Message
from stream.transport.progress import Batch, Place


class Change(NamedTuple):
    """
    One changelog record.

    Attributes:
        topic: The changelog's name on the broker.
        partition: Its partition there, which is the user's.
        key: Raw.
        value: Raw.
    """

    topic: str
    partition: int
    key: bytes
    value: bytes


NO_NAME = b""
"""Key and value of a record on the changelog of names that only leaves a trace of its transaction."""


def nothing() -> None:
    """Do nothing: what is called where nobody has asked for more."""


def _nobody(sent_at: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Work:
    """
    What became of a batch, in memory already, not yet safe.

    Attributes:
        outputs: To be delivered before state may move on.
        ahead: Changelog records that `changes` refer to: delivered with the outputs.
        changes: Changelog records of the next states.
        undo: Puts memory back to what it was before the batch.
        confirmed: Called when all is safe, with the moment at which the outputs were, in seconds since the epoch.
    """

    outputs: Sequence[Message] = ()
    ahead: Sequence[Change] = ()
    changes: Sequence[Change] = ()
    undo: Callable[[], None] = nothing
    confirmed: Callable[[float], None] = _nobody


@dataclass(frozen=True, slots=True)
class Settlement:
    """
    Batches that were processed together, or what was done between two of them, and what became of it.

    Attributes:
        batches: Of different partitions, or one after the other of one.
        work: What became of them.
        membership: The consumer's place in its group when they were processed, as librdkafka writes it.
        aside: Partitions of the source topics whose users it is about besides, of which no event was processed.
    """

    batches: tuple[Batch, ...]
    work: Work
    membership: bytes
    aside: frozenset[Place] = frozenset()

    @property
    def events(self) -> int:
        """How many records it covers; one at least, for what covers none is waited for too."""
        return max(sum(len(batch.records) for batch in self.batches), 1)

    @property
    def places(self) -> set[Place]:
        """The partitions for whose users it speaks."""
        return {batch.place for batch in self.batches} | self.aside


def newest(settlements: Iterable[Settlement]) -> list[Change]:
    """Return the changes of settlements, of each key in a changelog the last only."""
    changes = {(change.topic, change.key): change for s in settlements for change in s.work.changes}
    return list(changes.values())


class Told(Protocol):
    """Whoever counts what it takes to make settlements safe."""

    def staged(self, stage: str, seconds: float) -> None:
        """Take note of how long a stage took: `produce`, `commit`."""

    def changed(self, changes: Sequence[Change]) -> None:
        """Take note of changelog records that are confirmed."""

    def aborted(self) -> None:
        """Take note of a transaction that was aborted."""


class Guarantee(Protocol):
    """Makes settlements safe, in their order."""

    def prepare(self) -> None:
        """Make sure of the broker before anything is read; raises `UserError` if it does not give what is needed."""

    async def run(self) -> None:
        """Work until cancelled; raises `FatalError` when the process must end."""

    async def submit(self, settlement: Settlement) -> None:
        """Take a settlement, and return when there is room for the next."""

    async def drain(self) -> None:
        """Return when all that was submitted is safe."""

    async def take_over(self, partitions: set[int], place_in_group: bytes) -> bool:
        """
        Make sure that no earlier owner of these partitions can still be heard, before their state is read.

        Args:
            partitions: That are ours from now on.
            place_in_group: Our membership, as librdkafka writes it.

        Returns:
            Whether that is so; not if the group has moved on meanwhile.
        """


@dataclass(slots=True)
class Queue:
    """
    Settlements that wait for their turn.

    Attributes:
        room: Events that may be under way before whoever submits has to wait.
    """

    room: int
    _waiting: deque[Settlement] = field(default_factory=deque)
    _events: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, settlement: Settlement) -> None:
        """Add one, and return when there is room for another."""
        async with self._changed:
            self._waiting.append(settlement)
            self._events += settlement.events
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._events < self.room)

    async def await_any(self) -> None:
        """Return when one waits."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._waiting))

    def take(self) -> list[Settlement]:
        """Return all that wait, the oldest first; they count as under way until they are `done`."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def put_back(self, settlements: Sequence[Settlement]) -> None:
        """Let settlements that were taken wait again, before all others."""
        self._waiting.extendleft(reversed(settlements))

    async def done(self, settlements: Sequence[Settlement]) -> None:
        """Take note that settlements that were taken are no longer under way."""
        async with self._changed:
            self._events -= sum(settlement.events for settlement in settlements)
            self._changed.notify_all()

    async def empty(self) -> None:
        """Return when nothing waits and nothing is under way."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._events == 0)
