"""
What should have come out: the interactions of a partition through the pure core, in their order, once.

Whatever depends on how the core is called stands here; no Kafka.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from schemas import Interaction, ItemParameters, ModelRollout, decode_interaction
from stream import pipeline
from stream.intake import Accepted, Limits, read
from stream.models.artifacts import load
from stream.models.dkt import KNOWLEDGE
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.models.store import Store
from stream.pipeline import Models, Users
from stream.ports import Message, Record
from stream.settings import Settings
from stream.state import academic, learner
from stream.state.names import Names
from stream.transport.partitioner import Partitioner

_BATCH = 2_000
_HEAD_BYTES = 5
"""Before a stored record: its format, remembered answers, size."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """
    What a sequential replay of one partition gives.

    Attributes:
        messages: In the order of the answers, without what is the worker's alone (dead letters).
        users: In the order of `learners`.
        learners: Final records, `(U,)`.
        answers: Ids of the events that are answers, each once, as they stand on the topic.
    """

    messages: list[Message]
    users: list[str]
    learners: learner.Records
    answers: list[str]


class Core:
    """
    The core as a worker has it: the same model, the same item parameters, both frozen.

    Args:
        settings: Those of the worker.
        rollout: What serves.
        parameters: What is known of items.
    """

    def __init__(self, settings: Settings, rollout: ModelRollout | None, parameters: Sequence[ItemParameters]) -> None:
        self._settings = settings
        fallback = Fallback(KNOWLEDGE)
        champion = None if rollout is None else rollout.champion
        store = Store(settings.model_store)
        predictor = (
            fallback if champion is None else load(store, champion.path, variant="champion", sha256=champion.sha256)
        )
        items = ItemTable()
        items.update(parameters)
        self._models = Models(predictor, fallback, items, Names())

    def replay(self, records: Sequence[Record]) -> Replayed:
        """Return what becomes of a partition's interactions, from nothing."""
        settings = self._settings
        limits = Limits(settings.event_max_bytes, settings.dead_letter_max_bytes)
        accepted, _ = read(records, decode_interaction, Partitioner(settings.partitions), limits)
        names = list(dict.fromkeys(a.event.user_id for a in accepted))
        users = Users(
            {name: row for row, name in enumerate(names)},
            learner.new_learners(len(names), settings.remembered_answers),
            academic.new_academics(len(names)),
        )
        messages: list[Message] = []
        for start in range(0, len(accepted), _BATCH):
            users, sent = self._feed(accepted[start : start + _BATCH], users)
            messages += sent
        answers = dict.fromkeys(a.event.event_id for a in accepted if a.event.type == "quiz_complete")
        return Replayed(messages, names, users.learners, list(answers))

    def _feed(self, batch: Sequence[Accepted[Interaction]], users: Users) -> tuple[Users, list[Message]]:
        outcome = pipeline.interactions(batch, users, self._models, self._settings.latest_topics, datetime.now(UTC))
        return outcome.users, outcome.messages


def final_learners(changelog: Sequence[Record], remembered: int) -> tuple[list[str], learner.Records, int]:
    """
    Return the users on a changelog, the record of each that has seen most, and how many came too late.

    The last part is the number of records that were written after one that had seen more: what a worker writes that
    was asleep while its partitions moved. Whoever reads the changelog must not take them for the newer ones.
    """
    dtype = learner.learner_dtype(remembered)
    best: dict[bytes, tuple[int, bytes]] = {}
    late = 0
    for record in changelog:
        key, value = record.key or b"", record.value
        if value is None:
            best.pop(key, None)
            continue
        seen = int(np.frombuffer(value, dtype, 1, _HEAD_BYTES)["seen"][0])
        if seen >= best.get(key, (-1, b""))[0]:
            best[key] = (seen, value)
        else:
            late += 1
    stored = [np.frombuffer(value, dtype, 1, _HEAD_BYTES) for _, value in best.values()]
    records = np.concatenate(stored) if stored else np.zeros(0, dtype)
    return [key.decode() for key in best], records, late
