"""What items are like: hard ones come out hard, new ones start from their topic, a restart loses nothing."""

import numpy as np
import pytest

from schemas import ItemParameters, TrainingExample
from stream.learning.item_statistics import ItemStatistics
from stream.models.features import COUNT
from stream.models.items import POPULATION, Key, chain, key_of
from tests.worlds import NOW, START

ITEM, TOPIC, LEVEL = ("i-1", None, None), (None, "area", None), (None, "area", "hard")


def example(
    number: int = 0, *, item: str | None = "i-1", correct: bool = True, seconds: float | None = 30.0, **more: str | None
) -> TrainingExample:
    """Return an example of an average user."""
    return TrainingExample.model_validate(
        {
            "example_id": f"x-{number}",
            "event_id": f"e-{number}",
            "user_id": "u-1",
            "topic_id": "area",
            "item_id": item,
            "skills": ("area",),
            "difficulty": "hard",
            "correct": correct,
            "response_time_seconds": seconds,
            "timestamp": START,
            "source": {"event_id": f"e-{number}", "topic": "interactions", "partition": 0, "offset": number},
            "model": {"name": "knowledge", "version": 0, "variant": "fallback"},
            "state_format": "none",
            "feature_version": 1,
            "features": (0.0,) * COUNT,
            "p_before": 0.5,
            "p_before_fallback": 0.5,
            "median_before": 60.0,
            "median_before_fallback": 60.0,
        }
        | more
    )


def learned(*examples: TrainingExample) -> ItemStatistics:
    """Return the statistics after examples."""
    statistics = ItemStatistics()
    for each in examples:
        statistics.learn(each)
    return statistics


def restarted(statistics: ItemStatistics) -> ItemStatistics:
    """Return statistics that have read, as JSON, what these have published."""
    after = ItemStatistics()
    read = [ItemParameters.model_validate_json(p.model_dump_json()) for p in statistics.publish(NOW)]
    after.restore((key_of(p), p) for p in read)
    return after


def difficulty(statistics: ItemStatistics, key: Key) -> float:
    """Return the difficulty of what stands under a key."""
    return statistics._parameters(key, NOW).difficulty_logit


def test_hard_items_come_out_hard() -> None:
    """Items that are answered wrongly have the higher difficulty, near the one that explains it."""
    random = np.random.default_rng(1)
    statistics = ItemStatistics()
    for number in range(1_200):
        item, p = (("easy", 0.85), ("hard", 0.2))[number % 2]
        statistics.learn(example(number, item=item, correct=bool(random.random() < p)))
    hard, easy = (difficulty(statistics, (item, None, None)) for item in ("hard", "easy"))
    assert hard > 0.8
    assert easy < -0.8
    assert easy < difficulty(statistics, TOPIC) < hard


def test_slow_items_come_out_slow() -> None:
    """Time intensity follows the answers' log seconds, spread theirs; answers without a time move neither."""
    random = np.random.default_rng(1)
    statistics = learned(*(example(n, seconds=float(random.lognormal(np.log(100), 0.3))) for n in range(400)))
    parameters = statistics._parameters(ITEM, NOW)
    assert parameters.time_intensity == pytest.approx(np.log(100), abs=0.1)
    assert parameters.time_sigma == pytest.approx(0.3, abs=0.06)
    assert (parameters.answers, parameters.timed) == (400, 400)
    untimed = learned(example(0, seconds=None))._parameters(ITEM, NOW)
    fresh = ItemStatistics()._parameters(POPULATION, NOW)
    assert (untimed.timed, untimed.time_intensity, untimed.time_sigma) == (0, fresh.time_intensity, fresh.time_sigma)


def test_an_answer_moves_everything_above_it() -> None:
    """Item, topic at its difficulty, topic and population learn from one answer, and all are published."""
    statistics = learned(example(correct=False))
    published = {key_of(parameters): parameters for parameters in statistics.publish(NOW)}
    assert published.keys() == {ITEM, TOPIC, LEVEL, POPULATION}
    assert all(parameters.difficulty_logit > 0 for parameters in published.values())
    assert all((parameters.answers, parameters.correct) == (1, 0) for parameters in published.values())


def test_an_answer_of_no_item_and_no_difficulty() -> None:
    """What is not named is not learned."""
    statistics = learned(example(item=None, difficulty=None))
    assert {key_of(parameters) for parameters in statistics.publish(NOW)} == {TOPIC, POPULATION}


def test_a_new_item_starts_from_its_topic() -> None:
    """A new item of a hard topic is taken for hard before it has been answered often."""
    of_hard, of_unknown = learned(*(example(n, item=f"i-{n}", correct=False) for n in range(60))), ItemStatistics()
    for statistics in (of_hard, of_unknown):
        statistics.learn(example(999, item="new", correct=True))
    new = ("new", None, None)
    assert difficulty(of_hard, new) > difficulty(of_unknown, new) + 0.5
    assert difficulty(of_hard, new) < difficulty(of_hard, TOPIC)


def test_only_what_changed_is_published() -> None:
    """Asked again, nothing is published twice; versions count up."""
    statistics = learned(example(0))
    first = statistics.publish(NOW)
    assert statistics.publish(NOW) == []
    statistics.learn(example(1, item="i-2", difficulty=None))
    again = statistics.publish(NOW)
    assert {key_of(parameters) for parameters in again} == {("i-2", None, None), TOPIC, POPULATION}
    assert {parameters.version for parameters in first} == {1}
    assert {parameters.version for parameters in again} == {3}


def test_a_restart_loses_nothing() -> None:
    """Restored from what was published, everything is what it was, and learning goes on alike."""
    random = np.random.default_rng(2)
    before = learned(
        *(
            example(n, item=f"i-{n % 5}", correct=bool(random.random() < 0.3), seconds=float(random.lognormal(3, 0.5)))
            for n in range(300)
        )
    )
    published = before.publish(NOW)
    after = ItemStatistics()
    after.restore((key_of(parameters), parameters) for parameters in published)
    for parameters in published:
        restored = after._parameters(key_of(parameters), NOW)
        for name, value in parameters.model_dump().items():
            found = getattr(restored, name)
            assert found == (pytest.approx(value) if isinstance(value, float) else value), name
    for statistics in (before, after):
        statistics.learn(example(900, item="i-1", correct=True))
    for key in chain("i-1", "area", "hard"):
        assert difficulty(after, key) == pytest.approx(difficulty(before, key), abs=0.1)
    assert after.publish(NOW)[0].version == 2


def test_what_is_restored_is_not_published_again() -> None:
    """A restart writes nothing of its own."""
    after = ItemStatistics()
    after.restore((key_of(parameters), parameters) for parameters in learned(example()).publish(NOW))
    assert after.publish(NOW) == []


def test_parameters_stay_in_range() -> None:
    """However one-sided the answers, what is published is finite and positive where it must be."""
    for correct in (True, False):
        statistics = learned(
            *(example(n, correct=correct, seconds=0.0 if correct else 604_800.0) for n in range(3_000))
        )
        for parameters in statistics.publish(NOW):
            assert abs(parameters.difficulty_logit) < 20
            assert 0.4 <= parameters.discrimination <= 2.5 + 1e-9
            assert 0.05 < parameters.time_sigma < 3


def test_what_was_published_and_not_committed_counts_once() -> None:
    """Whatever of it was published: each record knows what it has seen, of each partition by itself."""
    before = ItemStatistics()
    for offset in range(10):
        before.learn(example(offset, item=f"i-{offset % 2}"), (0, offset))
    published = before.publish(NOW)
    after = ItemStatistics()
    # One record did not get there: it is what it was before, and learns again.
    after.restore((key_of(p), p) for p in published if p.item_id != "i-0")
    for offset in range(12):
        after.learn(example(offset, item=f"i-{offset % 2}"), (0, offset))
    after.learn(example(100, item="i-0"), (1, 0))
    assert {key: after._parameters(key, NOW).answers for key in [("i-0", None, None), ("i-1", None, None), TOPIC]} == {
        ("i-0", None, None): 7,
        ("i-1", None, None): 6,
        TOPIC: 13,
    }
    assert restarted(after)._parameters(TOPIC, NOW).seen == {0: 12, 1: 1}


def test_a_topic_that_was_made_anew_counts_again() -> None:
    """Offsets that the topic no longer has say nothing of the answers on it now; other partitions are not touched."""
    statistics = ItemStatistics()
    for offset in range(10):
        statistics.learn(example(offset), (0, offset))
    statistics.learn(example(50), (1, 5))
    assert not statistics.forget_seen(0, 10)
    assert statistics.forget_seen(0, 3)
    for offset in range(3):
        statistics.learn(example(offset), (0, offset))
    statistics.learn(example(50), (1, 5))
    assert statistics._parameters(POPULATION, NOW).answers == 14
