"""When the trainer learns and judges, and from whose answers: the decisions of its loop, without Kafka."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from schemas import ModelRef, Release, Source, TrainingExample
from stream.learning.runs import Buffer
from stream.learning.trainer import Candidate, Plan
from stream.learning.update import reorder
from stream.models.features import COUNT, VERSION

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def example(number: int, user: str = "u-1", version: int = 0) -> TrainingExample:
    """Return one answer's example."""
    return TrainingExample(
        example_id=f"x{number}",
        event_id=f"e{number}",
        user_id=user,
        topic_id="t",
        skills=("t",),
        correct=True,
        timestamp=NOW,
        source=Source(event_id=f"e{number}", topic="interactions", partition=0, offset=number),
        model=ModelRef(name="knowledge", version=version, variant="champion" if version else "fallback"),
        state_format="none",
        feature_version=VERSION,
        features=(0.0,) * COUNT,
        p_before=0.5,
        p_before_fallback=0.5,
        median_before=1.0,
        median_before_fallback=1.0,
    )


def plan(champion: int = 0) -> Plan:
    """Return a plan that learns every 5 answers from 10 on, and judges on 20."""
    release = Release(version=champion, sha256="0" * 64, path="v", state_format="f") if champion else None
    return Plan(learn_every=5, learn_from=10, gate_answers=20, buffer=Buffer(1_000, 100), champion=release)


def test_the_first_update_waits_for_ten_answers_and_the_next_for_five() -> None:
    """Every 5 completed answers, from 10 on; none while a candidate waits."""
    wishes = plan()
    answered = []
    for number in range(30):
        wishes.buffer.add(example(number))
        if wishes.wishes_update():
            answered.append(wishes.buffer.count)
            wishes.learned = wishes.buffer.count
    assert answered == [10, 15, 20, 25, 30]
    wishes.candidate = Candidate(Path("v1"), 1, wishes.buffer.count)
    for number in range(30, 60):
        wishes.buffer.add(example(number))
    assert not wishes.wishes_update()


@pytest.mark.parametrize(
    ("met", "can"),
    [
        ({0: 19}, False),
        ({7: 19, 0: 20}, False),
        ({7: 20}, True),
        ({7: 20, 4: 300}, True),
        ({4: 79}, False),
        ({4: 80}, True),  # the champion is kept out by the workers: what serves instead is the measure
    ],
)
def test_a_candidate_is_judged_on_answers_that_the_champion_served(met: dict[int, int], can: bool) -> None:
    """Answers that an earlier model served say nothing of the champion; without any of its own, patience ends."""
    waiting = plan(champion=7)
    waiting.candidate = Candidate(Path("v8"), 8, 0, Counter(met))
    assert waiting.can_judge() is can


def test_an_erasure_drops_what_came_before_it_and_no_more() -> None:
    """A user who came back after the erasure keeps the answers given since."""
    buffer = Buffer(1_000, 100)
    for number in range(4):
        buffer.add(example(number), at=float(number))
    buffer.add(example(9, user="u-2"), at=0.0)
    buffer.forget("u-1", until=2.0)
    assert len(buffer) == 2
    assert buffer.runs().number[buffer.runs().there].tolist() == [3, 4]


def test_weights_follow_their_skills_into_another_order() -> None:
    """A model of another vocabulary is gone on from with each skill's own row; new skills start as unknown ones."""
    old = np.arange(1_024, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    same = reorder({"skill.weight": old}, ("a", "b"), ("a", "b", "c"))
    assert same["skill.weight"] is old
    new = reorder({"skill.weight": old, "out.bias": old}, ("a", "b"), ("c", "b", "a"))
    assert new["skill.weight"][:4, 0].tolist() == [0.0, 0.0, 2.0, 1.0]
    assert new["skill.weight"].shape == old.shape
    assert new["out.bias"] is old
