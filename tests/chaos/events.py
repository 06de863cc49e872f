"""
Answers of many learners, as an LMS with a bad day sends them. Pure and the same for a seed.

Some users answer a hundred times as often as others; some answers come late, some twice, a few messages are no
events at all. `stream.demo.simulator` is richer in what learners know; here only the places where a state can break
matter: users who stand several times in a batch, more answers than are remembered, more concepts than are kept.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson

from schemas import ItemParameters

TOPICS = tuple(f"topic-{number:02d}" for number in range(24))
"""More than the concepts that a record keeps."""

ITEMS = 400
DIFFICULTIES = ("easy", "medium", "hard")
_START = datetime(2026, 1, 5, 8, tzinfo=UTC)
_SPAN_S = 30 * 86_400.0
_RESENT_WITHIN = 60
"""A re-sent event follows within so many events, while the most eager user still remembers the first."""

_OTHERS, _ACADEMICS, _RESENT, _LATE, _BROKEN = 0.12, 0.02, 0.01, 0.02, 0.0005


@dataclass(frozen=True, slots=True)
class Event:
    """
    One message to be sent.

    Attributes:
        topic: The catalog's name.
        key: Raw.
        value: Raw.
        is_answer: Whether it is an answer that was not sent before.
    """

    topic: str
    key: bytes
    value: bytes
    is_answer: bool


def events(seed: int, answers: int, users: int) -> Iterator[Event]:
    """
    Yield events without end.

    Args:
        seed: Of all of them.
        answers: Within the first so many answers every user stands at least once; they span a month.
        users: How many there are.
    """
    random = np.random.default_rng([seed, 1])
    ability = random.normal(0, 1, users)
    again: dict[int, list[Event]] = {}
    for number, user in enumerate(_users(random, answers, users)):
        at_s = _SPAN_S * number / answers + random.uniform(0, 600)
        name = f"learner-{user:05d}"
        chance = random.random()
        if chance < _OTHERS:
            yield _event("interactions", name, _other(random, number, name, at_s))
        elif chance < _OTHERS + _ACADEMICS:
            yield _event("academics", name, _attendance(random, number, name, at_s))
        elif chance < _OTHERS + _ACADEMICS + _BROKEN:
            yield Event("interactions", name.encode(), b'{"type": "quiz_complete", ', False)
        answer = _answer(random, number, name, at_s, float(ability[user]))
        sent = Event("interactions", name.encode(), orjson.dumps(answer), True)
        yield sent
        if random.random() < _RESENT:
            due = number + int(random.integers(1, _RESENT_WITHIN))
            again.setdefault(due, []).append(Event(sent.topic, sent.key, sent.value, False))
        yield from again.pop(number, ())


def _users(random: np.random.Generator, answers: int, users: int) -> Iterator[int]:
    """Yield who answers next."""
    weight = (np.arange(users) + 5.0) ** -0.5
    weight /= weight.sum()
    everyone = np.concatenate([np.arange(users), random.choice(users, answers - users, p=weight)])
    random.shuffle(everyone)
    yield from everyone.tolist()
    while True:
        yield from random.choice(users, 1_000, p=weight).tolist()


def _event(topic: str, name: str, event: dict[str, Any]) -> Event:
    return Event(topic, name.encode(), orjson.dumps(event), False)


def _answer(random: np.random.Generator, number: int, name: str, at_s: float, ability: float) -> dict[str, Any]:
    item = int(random.integers(ITEMS))
    topic = TOPICS[item % len(TOPICS)]
    event: dict[str, Any] = {
        "event_id": f"answer-{number}",
        "type": "quiz_complete",
        "user_id": name,
        "topic_id": topic,
        "item_id": f"item-{item:03d}",
        "correct": bool(random.random() < 1 / (1 + math.exp(_difficulty(item) - ability))),
        "timestamp": _moment(at_s - (random.uniform(600, 7_200) if random.random() < _LATE else 0.0)),
    }
    chance = random.random(5)
    if chance[0] < 0.8:
        event["difficulty"] = DIFFICULTIES[item % 3]
    if chance[1] < 0.95:
        event["duration_seconds"] = round(float(random.lognormal(3.2, 0.6)), 2)
    if chance[2] < 0.4:
        others = random.choice(len(TOPICS), int(random.integers(0, 4)), replace=False)
        event["skills"] = [topic, *(TOPICS[other] for other in others if TOPICS[other] != topic)]
    if chance[3] < 0.05:
        event["metadata"] = {"next_items": [f"item-{int(random.integers(ITEMS)):03d}"]}
    if chance[4] < 0.1:
        event["item_id"] = None
    return {field: value for field, value in event.items() if value is not None}


def _other(random: np.random.Generator, number: int, name: str, at_s: float) -> dict[str, Any]:
    is_view = random.random() < 0.7
    return {
        "event_id": f"other-{number}",
        "type": "resource_view" if is_view else "feedback_recommendation",
        "user_id": name,
        "topic_id": TOPICS[int(random.integers(len(TOPICS)))],
        "timestamp": _moment(at_s),
    }


def _attendance(random: np.random.Generator, number: int, name: str, at_s: float) -> dict[str, Any]:
    return {
        "event_id": f"attendance-{number}",
        "type": "attendance_recorded",
        "user_id": name,
        "status": "present" if random.random() < 0.8 else "absent",
        "timestamp": _moment(at_s),
    }


def _moment(at_s: float) -> str:
    return (_START + timedelta(milliseconds=round(at_s * 1000))).isoformat(timespec="milliseconds")


def _difficulty(item: int) -> float:
    return (item * 37 % 100) / 25 - 2


def item_parameters() -> Iterator[ItemParameters]:
    """Yield what is known of items, topics, levels and the population: the same for every run, and it never changes."""
    yield _known("population", 0.1, 3.3)
    for number, topic in enumerate(TOPICS[:-2]):
        yield _known("topic", number / 12 - 1, 3.0 + number / 40, topic_id=topic)
        for step, level in enumerate(DIFFICULTIES):
            yield _known("topic_difficulty", step - 1.0, 3.0 + step / 3, topic_id=topic, difficulty=level)
    for item in range(ITEMS - ITEMS // 10):
        yield _known("item", _difficulty(item), 2.6 + item % 13 / 10, item_id=f"item-{item:03d}")


def _known(subject: str, logit: float, intensity: float, **names: str) -> ItemParameters:
    counts = {"answers": 200, "correct": 120, "timed": 190, "version": 1}
    return ItemParameters.model_validate(
        {
            "subject": subject,
            "difficulty_logit": logit,
            "discrimination": 1.0 + abs(logit) / 5,
            "time_intensity": intensity,
            "time_sigma": 0.5,
            "updated_at": _START,
        }
        | counts
        | names
    )
