"""Training examples as a worker would have made them of a log of events, item parameters as they came to be known."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
import orjson

from schemas import Interaction, TrainingExample, decode_interaction
from stream import pipeline
from stream.intake import Accepted
from stream.learning.item_statistics import ItemStatistics
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.pipeline import Models, Users
from stream.ports import Record
from stream.state import academic, learner
from stream.state.names import Names

_BATCH = 200
"""Answers between two refreshes of the item parameters; the live trainer is slower."""


def examples(events: Iterable[Mapping[str, Any]], remembered: int = 100) -> Iterator[TrainingExample]:
    """Yield the training example of each answer, made by the worker's pipeline with the fallback serving."""
    fallback = Fallback("knowledge")
    models = Models(fallback, fallback, ItemTable(), Names())
    statistics = ItemStatistics()
    rows: dict[str, int] = {}
    learners = learner.new_learners(0, remembered)
    offset = 0
    source = iter(events)
    while batch := [decode_interaction(orjson.dumps(event)) for event in islice(source, _BATCH)]:
        accepted, offset = _accepted(batch, offset), offset + len(batch)
        for event in batch:
            rows.setdefault(event.user_id, len(rows))
        if len(rows) > len(learners):
            more = learner.new_learners(max(len(rows), 2 * len(learners)) - len(learners), remembered)
            learners = np.concatenate([learners, more])
        chosen = np.array(list(dict.fromkeys(rows[event.user_id] for event in batch)))
        local = {event.user_id: int(np.flatnonzero(chosen == rows[event.user_id])[0]) for event in batch}
        users = Users(local, learners[chosen], academic.new_academics(len(chosen)))
        outcome = pipeline.interactions(accepted, users, models, 0, datetime.now(UTC))
        learners[chosen] = outcome.users.learners
        for message in outcome.messages:
            if message.topic == "training-examples":
                example = TrainingExample.model_validate_json(message.value)
                statistics.learn(example)
                yield example
        models.items.update(statistics.publish(datetime.now(UTC)))


def _accepted(batch: list[Interaction], offset: int) -> list[Accepted[Interaction]]:
    return [
        Accepted(Record("interactions", 0, offset + i, event.user_id.encode(), None, 0.0), event)
        for i, event in enumerate(batch)
    ]
