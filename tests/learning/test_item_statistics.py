"""
What items are like: hard ones come out hard, new ones start from their topic, a restart loses nothing.

And what is not as it was is followed, what was corrected is mended, and nobody decides alone.
"""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.worlds import excess
from schemas import ItemParameters, TrainingExample
from stream.files.answers import Answer, AnswersFile
from stream.learning.history import History, learn_items
from stream.learning.item_statistics import Answered, ItemStatistics
from stream.models.features import COLUMN, COUNT
from stream.models.items import POPULATION, Key, chain, key_of, question
from tests.worlds import NOW, START

ITEM, TOPIC, LEVEL = ("i-1", None, None), (None, "area", None), (None, "area", "hard")


def example(
    number: int = 0,
    *,
    item: str | None = "i-1",
    correct: bool = True,
    seconds: float | None = 30.0,
    known: dict[str, float] | None = None,
    **more: str | None,
) -> TrainingExample:
    """Return an example of an average user, or one of whom this is known, by names of features."""
    features = np.zeros(COUNT)
    for name, value in (known or {}).items():
        features[COLUMN[name]] = value
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
            "state_version": number,
            "feature_version": 1,
            "features": tuple(features.tolist()),
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


ITEMS, OF_EACH, AFTER = 20, 150, 50
"""Items of one topic, answers to each before a change, and after it."""

TARGETS = np.random.default_rng(3).normal(0, 0.9, ITEMS)
SHIFT = np.where(np.arange(ITEMS) % 2 == 0, 1.0, -1.0)


class Class:
    """Users who answer items in turn, each once; how able they are is known but for an error of half a logit."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def answers(self, difficulty: NDArray[np.float64], rounds: int) -> list[tuple[tuple[Key, ...], Answered]]:
        """Return that many answers to each item, with the keys of what was answered."""
        given = []
        for _ in range(rounds):
            ability = self._random.normal(0, 0.9, ITEMS)
            believed = ability + self._random.normal(0, 0.5, ITEMS)
            right = self._random.random(ITEMS) < 1 / (1 + np.exp(difficulty - ability))
            given += [
                (keys_of(item), Answered(bool(right[item]), None, float(believed[item]), 0.25, 0.0))
                for item in self._random.permutation(ITEMS)
            ]
        return given


def keys_of(item: int) -> tuple[Key, ...]:
    """Return what is known of an item by."""
    return chain(f"i-{item}", "area", None)


def moved(statistics: ItemStatistics, given: list[tuple[tuple[Key, ...], Answered]]) -> ItemStatistics:
    """Return the statistics after answers."""
    for keys, answer in given:
        assert statistics.move(keys, answer)
    return statistics


def difficulties(statistics: ItemStatistics) -> NDArray[np.float64]:
    """Return what the items' difficulties are taken to be, `(ITEMS,)`."""
    return np.array([difficulty(statistics, keys_of(item)[0]) for item in range(ITEMS)])


def cost(statistics: ItemStatistics, truth: NDArray[np.float64]) -> float:
    """Return the expected log loss that wrong difficulties cost a class as able as all are, nats an answer."""
    ability = np.linspace(-1.5, 1.5, 31)[:, None]
    right, said = (1 / (1 + np.exp(d - ability)) for d in (truth, difficulties(statistics)))
    return float(excess(right, said).mean())


def test_a_change_of_items_is_followed() -> None:
    """
    Half of the items become a logit harder, half easier; 50 answers each later four fifths of the cost are regained.

    Not so by statistics for which an old answer says as much as a new one.
    """
    regained = {}
    for follows in (True, False):
        shares = []
        for seed in range(3):
            of_class, statistics = Class(seed), ItemStatistics(follows=follows)
            moved(statistics, of_class.answers(TARGETS, OF_EACH))
            before, changed = cost(statistics, TARGETS), cost(statistics, TARGETS + SHIFT)
            moved(statistics, of_class.answers(TARGETS + SHIFT, AFTER))
            shares.append((changed - cost(statistics, TARGETS + SHIFT)) / (changed - before))
        regained[follows] = np.mean(shares)
    assert regained[True] > 0.8
    assert regained[False] < 0.65


def test_the_change_of_one_item_is_followed() -> None:
    """Nothing else changes; the others stay what they were."""
    alone = TARGETS + 2.0 * (np.arange(ITEMS) == 7)
    steps = []
    for seed in range(4):
        of_class, statistics = Class(seed), ItemStatistics()
        moved(statistics, of_class.answers(TARGETS, OF_EACH))
        before = difficulties(statistics)
        moved(statistics, of_class.answers(alone, 60))
        after = difficulties(statistics)
        steps.append(after[7] - before[7])
        assert np.sqrt(np.mean(np.delete(after - TARGETS, 7) ** 2)) < 0.35
    assert np.mean(steps) > 1.3


def test_following_costs_little_where_nothing_changes() -> None:
    """After 300 answers to each, difficulties are as right as those of statistics that never expect a change."""
    errors = {}
    for follows in (True, False):
        found = [
            difficulties(moved(ItemStatistics(follows=follows), Class(seed).answers(TARGETS, 300))) - TARGETS
            for seed in range(4)
        ]
        errors[follows] = float(np.sqrt(np.mean(np.square(found))))
    assert errors[True] < 0.35
    assert errors[True] < 1.25 * errors[False]


def test_counts_forget_what_was_before_a_change() -> None:
    """The share of right answers is soon that of now; where nothing changes, every answer counts."""
    of_class, statistics = Class(6), ItemStatistics()
    moved(statistics, of_class.answers(TARGETS, OF_EACH))
    still = [statistics._parameters(keys_of(item)[0], NOW) for item in range(ITEMS)]
    assert sum(p.answers for p in still) > 0.97 * ITEMS * OF_EACH
    moved(statistics, of_class.answers(TARGETS + 3.0, 80))
    for item, was in enumerate(still):
        now = statistics._parameters(keys_of(item)[0], NOW)
        assert now.correct <= now.answers < was.answers
    rates = [p.correct / p.answers for p in (statistics._parameters(keys_of(i)[0], NOW) for i in range(ITEMS))]
    ability = np.random.default_rng(0).normal(0, 0.9, 2_000)[:, None]
    assert np.mean(rates) == pytest.approx(float((1 / (1 + np.exp(TARGETS + 3.0 - ability))).mean()), abs=0.08)


def test_a_restart_goes_on_following() -> None:
    """In the middle of a change, restored from what was published, difficulties are what they were, and go on."""
    of_class, before = Class(7), ItemStatistics()
    moved(before, of_class.answers(TARGETS, OF_EACH))
    moved(before, of_class.answers(TARGETS + SHIFT, AFTER // 2))
    after = restarted(before)
    np.testing.assert_allclose(difficulties(after), difficulties(before), atol=1e-6)
    half = cost(after, TARGETS + SHIFT)
    moved(after, of_class.answers(TARGETS + SHIFT, AFTER))
    assert cost(after, TARGETS + SHIFT) < 0.7 * half


AVERAGE = Answered(correct=True, response_time_s=20.0, ability=0.0, ability_var=0.3, speed=0.0)


@pytest.mark.parametrize("name", ["response_time_s", "ability", "ability_var", "speed", "item_practised"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_stops_that_answer_only(name: str, value: float) -> None:
    """It moves nothing, not even what it was fine for; the next answer counts."""
    statistics = ItemStatistics()
    bad = Answered(**(asdict(AVERAGE) | {name: value}))
    assert not statistics.move(chain("i-1", "area", "hard"), bad, (0, 0))
    assert statistics.publish(NOW) == []
    assert statistics.move(chain("i-1", "area", "hard"), AVERAGE, (0, 2))
    assert all(math.isfinite(p.difficulty_logit) for p in statistics.publish(NOW))


@pytest.mark.parametrize(("ability", "ability_var"), [(math.nan, 0.3), (math.inf, 0.3), (0.0, math.nan), (0.0, -1.0)])
def test_a_correction_with_a_number_that_is_none_is_refused(ability: float, ability_var: float) -> None:
    """It moves nothing."""
    statistics = learned(example(correct=False))
    statistics.publish(NOW)
    assert not statistics.correct(chain("i-1", "area", "hard"), False, True, ability, ability_var)
    assert statistics.publish(NOW) == []


@pytest.mark.parametrize("name", ["ability", "ability_sd", "speed", "item_right", "topic_wrong"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300, -1e300])
def test_features_of_any_size_leave_finite_parameters(name: str, value: float) -> None:
    """Whatever an example says, what is published is finite, and the trainer goes on."""
    statistics = learned(example(0), example(1))
    fine = example(2, correct=False)
    features = list(fine.features)
    features[COLUMN[name]] = value
    statistics.learn(fine.model_copy(update={"features": tuple(features)}))
    statistics.learn(example(3))
    for parameters in statistics.publish(NOW):
        numbers = (parameters.difficulty_logit, parameters.discrimination, parameters.time_intensity)
        assert all(map(math.isfinite, (*numbers, parameters.time_sigma)))
        assert abs(parameters.difficulty_logit) < 5


def test_published_numbers_that_are_none_are_not_taken_over() -> None:
    """What stands under that key starts anew, as if it had never been met."""
    published = {key_of(p): p for p in learned(example()).publish(NOW)}
    bad = published | {ITEM: published[ITEM].model_copy(update={"difficulty_logit": math.nan})}
    after = ItemStatistics()
    after.restore(bad.items())
    after.learn(example(1))
    assert after._parameters(ITEM, NOW).answers == 1
    assert after._parameters(TOPIC, NOW).answers == 2


@pytest.mark.parametrize("others", [0, 5, 40, 300])
@pytest.mark.parametrize("correct", [True, False])
def test_a_corrected_outcome_counts_as_it_should_have(others: int, correct: bool) -> None:
    """Counts and difficulties are nearly those of the other outcome, however many answers have come since."""
    random = np.random.default_rng(others)
    keys = chain("i-1", "area", None)
    since = [replace(AVERAGE, correct=bool(random.random() < 0.6)) for _ in range(others)]
    right, mended = (moved(ItemStatistics(), Class(10).answers(TARGETS, 10)) for _ in range(2))
    for answer in (replace(AVERAGE, correct=correct), *since):
        right.move(keys, answer)
    for answer in (replace(AVERAGE, correct=not correct), *since):
        mended.move(keys, answer)
    assert mended.correct(keys, not correct, correct, AVERAGE.ability, AVERAGE.ability_var)
    for key in keys:
        found, wanted = mended._parameters(key, NOW), right._parameters(key, NOW)
        assert (found.answers, found.correct) == pytest.approx((wanted.answers, wanted.correct), abs=1)
        assert found.difficulty_logit == pytest.approx(wanted.difficulty_logit, abs=0.06)


def test_a_correction_moves_the_right_way_and_is_published_once() -> None:
    """A right answer makes the item easier; read again after a restart, it is passed over."""
    statistics = ItemStatistics()
    keys = chain("i-1", "area", None)
    for offset in range(10):
        statistics.move(keys, replace(AVERAGE, correct=False), (0, offset))
    before = difficulty(statistics, ITEM)
    statistics.publish(NOW)
    assert statistics.correct(keys, False, True, 0.0, 0.3, (0, 10))
    assert {key_of(p) for p in statistics.publish(NOW)} == set(keys)
    once = difficulty(statistics, ITEM)
    assert once < before - 0.1
    assert statistics._parameters(ITEM, NOW).correct == 1
    statistics.correct(keys, False, True, 0.0, 0.3, (0, 10))
    statistics.correct(keys, True, True, 0.0, 0.3, (0, 11))
    assert difficulty(statistics, ITEM) == once
    assert statistics.publish(NOW) == []


def test_a_correction_of_what_is_not_known_is_passed_over() -> None:
    """No item comes into being by it, and no count falls below 0."""
    statistics = ItemStatistics()
    statistics.correct(chain("i-1", "area", None), True, False, 0.0, 0.3)
    assert {key_of(p) for p in statistics.publish(NOW)} == {POPULATION}
    assert statistics._parameters(POPULATION, NOW).correct == 0


def test_nobody_decides_alone_what_an_item_is_like() -> None:
    """One user's thousand wrong answers to an item move it by far less than a hundred of twenty users."""
    after = {}
    for who in ("nobody", "one user", "twenty users"):
        statistics = ItemStatistics()
        moved(statistics, Class(8).answers(TARGETS, OF_EACH))
        for n in range({"nobody": 0, "one user": 1_000, "twenty users": 100}[who]):
            practised = min(n, 100) if who == "one user" else n // 20
            wrong = replace(AVERAGE, correct=False, item_practised=practised, topic_practised=practised)
            statistics.move(keys_of(0), wrong)
        after[who] = difficulty(statistics, keys_of(0)[0])
    by_one, by_twenty = (after[who] - after["nobody"] for who in ("one user", "twenty users"))
    assert by_twenty > 0.8
    assert by_one < 0.3


def test_practice_is_what_the_example_says() -> None:
    """From the twentieth remembered answer to an item on, a user's answers to it move nothing."""
    statistics = ItemStatistics()
    for right, wrong, counts in ((12, 7, True), (12, 8, False), (0, 20, False), (0, 0, True)):
        known = {"item_right": math.log1p(right), "item_wrong": math.log1p(wrong)}
        assert statistics.learn(example(known=known)) == counts
    assert statistics._parameters(ITEM, NOW).answers == 2


def test_past_answers_know_it_too() -> None:
    """Of sixty answers of one user to one item in a file, twenty count; of another user's to another, all ten."""
    answers = [Answer(n, "u", "i-1", ("area",), n % 2 == 0, 1e9 + 60 * n, None) for n in range(60)]
    answers += [Answer(60 + n, "v", "i-2", ("area",), True, 1e9 + 60 * n, None) for n in range(10)]
    file = AnswersFile(Path("a.csv"), "0" * 64, answers, has_timestamps=True, has_response_times=False)
    items = learn_items(History.of(file), np.array([True, True]))
    found = items.parameters(items.rows([question("area", "i-1"), question("area", "i-2")]))
    assert found.answers.tolist() == [20, 10]


def test_one_users_streak_is_no_change() -> None:
    """Ten users answer an item nine times each in a row, half of them always rightly: nothing is forgotten."""
    statistics = ItemStatistics()
    moved(statistics, Class(9).answers(TARGETS, OF_EACH))
    was = statistics._parameters(keys_of(0)[0], NOW).answers
    for user in range(10):
        for n in range(9):
            streak = replace(AVERAGE, correct=user % 2 == 0, item_practised=n, topic_practised=n)
            statistics.move(keys_of(0), streak)
    assert statistics._parameters(keys_of(0)[0], NOW).answers >= was + 85


def test_the_order_of_turns_is_not_that_of_time() -> None:
    """Everybody is right at first and wrong the second time: no change of the item, for all answers of a file count."""
    answers = [
        Answer(2 * user + turn, f"u{user}", "i-1", ("area",), turn == 0, 1e9 + user * 1e5 + turn * 60, None)
        for user in range(150)
        for turn in range(2)
    ]
    file = AnswersFile(Path("a.csv"), "0" * 64, answers, has_timestamps=True, has_response_times=False)
    items = learn_items(History.of(file), np.full(150, True))
    found = items.parameters(items.rows([question("area", "i-1")]))
    assert (found.answers.item(), found.rate.item()) == (300, 0.5)
