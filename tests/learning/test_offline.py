"""From a log of past answers to examples and a first network, the worker's own way."""

from typing import Any

import numpy as np
import pytest

from stream.errors import UserError
from stream.learning import offline
from stream.learning.runs import Buffer
from stream.models.features import COLUMN
from tests import networks
from tests.learning.test_runs import of
from tests.worlds import START, Core, examples, interaction, placed


def test_examples_are_the_workers() -> None:
    """Without item parameters yet, an example is the very one that the worker would have emitted."""
    events: list[dict[str, Any]] = [
        {
            "event_id": f"e-{i}",
            "type": "quiz_complete",
            "user_id": f"u-{i % 3}",
            "topic_id": "area",
            "item_id": f"i-{i % 4}",
            "correct": bool(i % 2),
            "duration_seconds": 10.0 + i,
            "timestamp": f"2026-01-05T08:{i:02d}:00Z",
        }
        for i in range(40)
    ]
    live = examples(
        Core()
        .feed(placed(interaction(**(event | {"user": event["user_id"], "difficulty": None})) for event in events))
        .messages
    )
    found = sorted(offline.examples(events), key=lambda example: example.source.offset)
    expected = sorted(live, key=lambda example: example.source.offset)
    assert len(found) == 40
    assert [(e.event_id, e.features, e.p_before) for e in found] == [
        (e.event_id, e.features, e.p_before) for e in expected
    ]


def test_other_events_are_history() -> None:
    """A view between answers is no example, and shows in the gap."""
    answer = {"type": "quiz_complete", "user_id": "u", "topic_id": "t", "correct": True}
    view = {"type": "resource_view", "user_id": "u", "topic_id": "t", "timestamp": "2026-01-05T08:10:00Z"}
    first = answer | {"timestamp": "2026-01-05T08:00:00Z"}
    last = answer | {"timestamp": "2026-01-05T08:10:10Z"}
    *_, example = offline.examples([first, view, last])
    assert example.features[COLUMN["gap"]] == pytest.approx(np.log1p(10) / 10, rel=1e-5)
    assert example.timestamp > START


def test_item_parameters_are_those_from_before() -> None:
    """An item is known by the answers of earlier batches, never by its own."""
    events = [
        {
            "type": "quiz_complete",
            "user_id": f"u-{i}",
            "topic_id": "t",
            "item_id": "i",
            "correct": False,
            "timestamp": f"2026-01-05T08:{i // 60:02d}:{i % 60:02d}Z",
        }
        for i in range(450)
    ]
    found = sorted(offline.examples(events), key=lambda example: example.source.offset)
    known = [round(np.expm1(5 * example.features[COLUMN["item_answers"]])) for example in found]
    assert known == [0] * 200 + [200] * 200 + [400] * 50
    assert found[0].p_before == 0.5
    assert found[200].p_before < 0.2


def test_a_network_is_fitted_and_stopped_in_time() -> None:
    """From a log of answers a network comes out that does not lose to the fallback on users held out."""
    told: list[str] = []
    buffer = networks.buffer_of(networks.simulated_examples()[:1_500])
    with networks.own_torch():
        network, figures = offline.fit(buffer, 2, 0.002, 1, told.append)
    assert figures["logloss"] <= figures["logloss_fallback"]
    assert figures["answers"] > 50
    assert 1 <= len(told) <= 2
    assert "log loss" in told[0]
    assert network.shape.hidden_size == 512


def test_too_few_users_to_learn_from() -> None:
    """With fewer than ten users none can be held out: one sentence says so."""
    buffer = Buffer(100, 10)
    for number in range(9):
        buffer.add(of(f"u-{number}", number))
    with pytest.raises(UserError, match="at least 10 users"):
        offline.fit(buffer, 1, 0.002, 1, lambda line: None)
