"""What every agent works with, and how a batch's outcome becomes work to be made safe."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import structlog
from numpy.typing import NDArray

from schemas import Academic, Interaction
from stream import statements
from stream.agents.closing import EventTime
from stream.agents.control import Control, Live
from stream.agents.stopwatch import Stopwatch
from stream.closing import Closed
from stream.errors import ControlError
from stream.intake import Accepted, Dead, Limits, dead_letter
from stream.pipeline import Models, Outcome, Users
from stream.ports import Clock, Message, Predictor, ReadModel, RiskModel, Telemetry
from stream.state.arrays import Records, Rows
from stream.state.beside import new_states
from stream.state.tables import NameTable, RecordTable
from stream.transport.engine import stop_now
from stream.transport.partitioner import Partitioner
from stream.transport.progress import Place
from stream.transport.settlement import Change, Work

log = structlog.get_logger()

Model = Predictor | RiskModel

_POLL_S = 0.02

_READ_MODEL_KINDS = {
    "predictions.correctness": "correctness",
    "predictions.time": "time",
    "predictions.risk": "risk",
}


@dataclass(slots=True)
class Desk:
    """
    Everything that the agents share.

    `models` is what serves now, exchanged between two batches, and `beside` keeps the states of what is on trial.
    `actor_home_page` is that of xAPI statements about risks; None where there are to be none.
    """

    learners: RecordTable
    academics: RecordTable
    names: NameTable
    control: Control
    read_model: ReadModel
    telemetry: Telemetry
    clock: Clock
    partition_of: Partitioner
    limits: Limits
    latest_topics: int
    rebuild_answers: int
    models: Models
    beside: Rows | None = None
    event_time: EventTime = field(default_factory=EventTime)
    actor_home_page: str | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)

    async def ready(self) -> None:
        """
        Return when the control topics have been read whole, and what they announce serves.

        Raises:
            ControlError: If they cannot be read.
        """
        while not self.control.is_caught_up:  # noqa: ASYNC110 (a thread sets it, and may fail)
            await asyncio.sleep(_POLL_S)
        self.refresh()

    async def refresh_idle(self) -> None:
        """Take over what the control topics have brought while no batch comes."""
        try:
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
        live = self.control.take_live()
        if live is not None:
            self._swap(live)

    def _swap(self, live: Live) -> None:
        before, knowledge, risk = self.models, live.knowledge, live.risk
        if knowledge.challenger is not before.challenger:
            self.beside = (
                None if knowledge.challenger is None else Rows(new_states(1, knowledge.challenger.hidden_size))
            )
        self._told_of(before.predictor, knowledge.champion, before.challenger, knowledge.challenger)
        self._told_of(before.risk.model, risk.champion, before.risk.challenger, risk.challenger)
        self.models = replace(
            before, predictor=knowledge.champion, challenger=knowledge.challenger, share=knowledge.share,
            risk=replace(before.risk, model=risk.champion, challenger=risk.challenger, share=risk.share),
        )  # fmt: skip

    def _told_of(self, before: Model, champion: Model, tried: Model | None, challenger: Model | None) -> None:
        """Tell whoever counts of a model's swap, and of its trial's beginning or end."""
        identity = champion.identity
        if challenger is not tried:
            self.telemetry.challenger(identity.name, challenger.identity.version if challenger is not None else 0)
        if champion is not before:
            log.info("model.swapped", model=identity.name, version=identity.version, previous=before.identity.version)
            self.telemetry.swapped(identity.name)
            self.telemetry.model(identity.name, identity.version)

    def timed(self) -> Models:
        """Return what predicts, its time taken."""
        return self.watch.timed(self.models)

    def users(self, accepted: Sequence[Accepted[Interaction]] | Sequence[Accepted[Academic]]) -> Users:
        """Return the states of the users of a batch."""
        row = {name: i for i, name in enumerate(dict.fromkeys(a.event.user_id for a in accepted))}
        keys = [name.encode() for name in row]
        beside = self.beside.gather(keys) if self.beside is not None else None
        return Users(row, self.learners.get_records(keys), self.academics.get_records(keys), beside)

    def forget(self, users: Sequence[bytes]) -> None:
        """Drop what is kept of users beside their records."""
        for user in users:
            if self.beside is not None:
                self.beside.remove(user)

    def learner(self, user_id: str) -> Records:
        """Return one user's record, `(1,)`."""
        return self.learners.get_records([user_id.encode()])

    def letters(self, dead: Iterable[Dead]) -> list[Message]:
        """Return the dead letters of records that cannot be used."""
        now = self.clock()
        return [dead_letter(d, self.limits, now) for d in dead]

    def stated(self, messages: Iterable[Message]) -> list[Message]:
        """Return what xAPI statements say of messages; none where they are not wanted."""
        return [] if self.actor_home_page is None else statements.of_risks(messages, self.actor_home_page)

    def buried(self, dead: Iterable[Dead], unread: str) -> None:
        """
        Count records whose dead letters are confirmed.

        Args:
            dead: The records.
            unread: What they count as where their type could not be read.
        """
        for d in dead:
            self.telemetry.dead(d.reason)
            self.telemetry.read(d.type or unread, "dead", 1)
            if d.traceback is not None:
                log.error("event.failed", topic=d.record.topic, partition=d.record.partition, offset=d.record.offset,
                          detail=d.detail)  # fmt: skip

    def work(
        self,
        table: RecordTable,
        before: Records,
        after: Records,
        outcome: Outcome,
        dead: Sequence[Dead],
        accepted: Sequence[Accepted[Interaction]] | Sequence[Accepted[Academic]],
        names: Sequence[Change] = (),
        tombstones: int = 0,
    ) -> Work:
        """
        Put the next records into their table, and return what has to become safe.

        Args:
            table: That changes.
            before: Its records before the batch, one row a user as in `outcome.users.row`.
            after: And after it.
            outcome: What became of the batch.
            dead: What of it could not be read.
            accepted: What could.
            names: That the records use, and that were not stored yet.
            tombstones: That were ignored.
        """
        users = [name.encode() for name in outcome.users.row]
        placed = {a.event.user_id: a.record.partition for a in accepted}
        partitions = [placed[name] for name in outcome.users.row]
        dead = [*dead, *outcome.dead]
        topic = "interactions" if table is self.learners else "academics"

        # Academic events leave these states as they were.
        if table is self.learners and self.beside is not None and outcome.users.beside is not None:
            self.beside.scatter(users, partitions, outcome.users.beside)

        def undo() -> None:
            table.put_back(users, partitions, before)
            self.names.put_back(names)
            # Of these answers the challenger's states know more than the records again: they begin anew.
            self.forget(users)

        def confirmed(sent_at: float) -> None:
            self.buried(dead, topic)
            self.telemetry.read("tombstone", "ignored", tombstones)
            self._confirmed(outcome, accepted, sent_at)

        return Work(
            outputs=[*outcome.messages, *self.stated(outcome.messages), *self.letters(dead)],
            ahead=names,
            changes=table.put(users, partitions, after),
            undo=undo,
            confirmed=confirmed,
        )

    def _confirmed(
        self,
        outcome: Outcome,
        accepted: Sequence[Accepted[Interaction]] | Sequence[Accepted[Academic]],
        sent_at: float,
    ) -> None:
        """Tell whoever counts, and the read model, of what is safe now."""
        self.telemetry.latency(sent_at - np.array([a.record.timestamp_s for a in accepted]))
        read = Counter[str](a.event.type for a in accepted)
        read.subtract(outcome.again)
        read.subtract(d.type for d in outcome.dead if d.type is not None)
        for outcome_name, counts in (("applied", read), ("repeated", outcome.again)):
            for type_, count in counts.items():
                self.telemetry.read(type_, outcome_name, count)
        for topic, count in Counter(m.topic for m in outcome.messages if m.topic in _READ_MODEL_KINDS).items():
            self.telemetry.predicted(_READ_MODEL_KINDS[topic], count)
        if outcome.fell_back:
            log.error("inference.failed", answers=outcome.fell_back)
            self.telemetry.fell_back(outcome.fell_back)
        if outcome.unchallenged:
            log.error("challenger.failed", answers=outcome.unchallenged)
            self.telemetry.failed("challenger")
        self.telemetry.observed(outcome.observed)
        self._scored(outcome.risk_scores, outcome.risk_fell_back, outcome.risk_unchallenged)
        self._offer(outcome.messages)

    def move_time(
        self,
        accepted: Sequence[Accepted[Interaction]] | Sequence[Accepted[Academic]],
        moments: Sequence[float],
        now: datetime,
    ) -> None:
        """
        Let events move event time.

        Args:
            accepted: Of a batch.
            moments: When each happened, seconds since the epoch.
            now: By our own clock.
        """
        records = (each.record for each in accepted)
        self.event_time.move(records, moments, now.timestamp() + self.limits.future_s)

    def recovered(self, place: Place, last_at: NDArray[np.float64]) -> None:
        """
        Take note of how far event time had come in a partition.

        Args:
            place: The partition of a source topic, whose users' records have been recovered.
            last_at: When they were last heard of, seconds since the epoch.
        """
        # Records keep events' own moments, up to the limit ahead of Kafka's clock: weeks must not close early by them.
        known = last_at[last_at <= self.clock().timestamp()]
        self.event_time.recover(place, known)

    def closed(self, closed: Closed) -> None:
        """Tell whoever counts, and the read model, of users for whom a week was closed."""
        self.telemetry.predicted("risk", len(closed.scores))
        self._scored(closed.scores, closed.fell_back, closed.unchallenged)
        self._offer(closed.messages)

    def _scored(self, scores: NDArray[np.float32], fell_back: int, unchallenged: int) -> None:
        self.telemetry.risks(scores)
        if fell_back:
            log.error("inference.failed", risks=fell_back)
            self.telemetry.risk_fell_back(fell_back)
        if unchallenged:
            log.error("challenger.failed", risks=unchallenged)
            self.telemetry.failed("challenger")

    def _offer(self, messages: Iterable[Message]) -> None:
        for message in messages:
            kind = _READ_MODEL_KINDS.get(message.topic)
            if kind is not None:
                self.read_model.offer(message.key.decode(), kind, message.value)
