"""
Answers of 5,000 users, the same for every system: a seed gives the same bytes again.

Who answers is drawn with log-normal weights, as platforms have it: a few users answer thirty times as often as the
middle one. Each keeps to the four skills of one strand, so that a user's predictions are of full size after a few
answers. One in twenty names what comes next, one in ten asks for two skills.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
import orjson
from confluent_kafka import Producer

USERS = 5_000
STRANDS = (
    ("fractions", "decimals", "percentages", "ratios"),
    ("expressions", "equations", "inequalities", "functions"),
    ("angles", "triangles", "area", "volume"),
)
SKILLS = tuple(skill for strand in STRANDS for skill in strand)
_ITEMS = 25  # of each skill
_SPREAD = 1.0  # of the logarithm of how often a user answers
_LEVELS = ("easy", "medium", "hard")
_START = datetime(2026, 3, 2, 6, tzinfo=UTC)
_BETWEEN = timedelta(milliseconds=10)
_DRAWN = 10_000


def user_ids(count: int) -> list[str]:
    """Return the users' ids, as long as a UUID is."""
    return [f"{number:08x}-7c1e-4b52-9a40-{number * 2_654_435_761 % (1 << 48):012x}" for number in range(count)]


def answers(seed: int = 1, users: int = USERS) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of one answer after another, without end."""
    rng = np.random.default_rng(seed)
    ids = user_ids(users)
    weights = rng.lognormal(0.0, _SPREAD, users)
    weights /= weights.sum()
    ability = rng.normal(0.0, 1.0, users)
    at = _START
    number = 0
    while True:
        drawn = zip(
            rng.choice(users, _DRAWN, p=weights).tolist(),
            rng.integers(0, len(STRANDS[0]), _DRAWN).tolist(),
            rng.integers(0, _ITEMS, _DRAWN).tolist(),
            rng.random((_DRAWN, 4)).tolist(),
            np.exp(rng.normal(3.0, 0.6, _DRAWN)).round(1).tolist(),
            strict=True,
        )
        for user, place, item, (right, hints, pairs, levels), seconds in drawn:
            strand = STRANDS[user % len(STRANDS)]
            skill = strand[place]
            event = {
                "event_id": f"{number:08x}-51d2-4e0f-8f7a-{user:012x}",
                "type": "quiz_complete",
                "user_id": ids[user],
                "topic_id": skill,
                "item_id": f"{skill}-{item:02d}",
                "difficulty": _LEVELS[int(3 * levels)],
                "correct": right < 1 / (1 + np.exp(-ability[user])),
                "duration_seconds": seconds,
                "timestamp": at.isoformat(timespec="milliseconds"),
            }
            if pairs < 0.1:  # noqa: PLR2004 (see the head)
                event["skills"] = [skill, strand[place - 1]]
            if hints < 0.05:  # noqa: PLR2004 (see the head)
                event["metadata"] = {"next_items": [f"{skill}-{(item + 1) % _ITEMS:02d}", f"{strand[place - 1]}-00"]}
            yield ids[user].encode(), orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)
            at += _BETWEEN
            number += 1


def preload(broker: str, topic: str, count: int, users: int = USERS, skip: int = 0) -> int:
    """Put the first `count` answers behind `skip` others on a topic, and return how many users they are of."""
    producer = Producer(
        {"bootstrap.servers": broker, "partitioner": "murmur2_random", "linger.ms": 50, "compression.type": "lz4",
         "queue.buffering.max.messages": 1_000_000, "enable.idempotence": True, "log_level": 3}
    )  # fmt: skip
    seen = set()
    for number, (key, value) in enumerate(islice(answers(users=users), skip, skip + count)):
        producer.produce(topic, value, key)
        seen.add(key)
        if number % 10_000 == 0:
            producer.poll(0)
    if producer.flush(60):
        raise RuntimeError(f"{topic}: not all of {count} answers were delivered")
    return len(seen)
