"""What is known of items: the most particular that there is, and the population where there is nothing."""

from typing import Any

import numpy as np
import pytest

from schemas import ItemParameters
from stream.models.items import PRIOR_TIME_INTENSITY, ItemTable, key_of, question
from stream.state.learner import key64
from tests.worlds import NOW


def published(subject: str, logit: float, answers: int = 8, correct: int = 2, **names: Any) -> ItemParameters:
    """Return parameters as the trainer publishes them."""
    return ItemParameters.model_validate(
        {
            "subject": subject,
            "difficulty_logit": logit,
            "discrimination": 1.2,
            "time_intensity": 3.5,
            "time_sigma": 0.4,
            "answers": answers,
            "correct": correct,
            "timed": answers,
            "version": 1,
            "updated_at": NOW,
        }
        | names
    )


def difficulty(table: ItemTable, item: str | None, topic: str, level: str | None) -> float:
    """Return the difficulty that a question is taken to have."""
    return float(table.parameters(table.rows([question(topic, item, level)])).difficulty[0])


def test_nothing_known_is_the_prior() -> None:
    """Of an unknown population: difficulty 0, rate a half, the prior's time."""
    parameters = ItemTable().parameters(np.array([0]))
    assert [float(column[0]) for column in (parameters.difficulty, parameters.discrimination, parameters.rate)] == [
        0,
        1,
        0.5,
    ]
    assert parameters.time_intensity[0] == pytest.approx(PRIOR_TIME_INTENSITY)


def test_the_most_particular_is_taken() -> None:
    """An item before its topic at its difficulty, that before the topic, that before the population."""
    table = ItemTable()
    questions: list[tuple[str | None, str, str | None]] = [
        ("i", "t", "hard"),
        (None, "t", "hard"),
        ("j", "t", None),
        ("j", "o", "hard"),
    ]
    seen = []
    for parameters in (
        published("population", 0.1),
        published("topic", 0.2, topic_id="t"),
        published("topic_difficulty", 0.3, topic_id="t", difficulty="hard"),
        published("item", 0.4, item_id="i"),
    ):
        table.update([parameters])
        seen.append([difficulty(table, *question) for question in questions])
    assert seen == [
        pytest.approx([0.1, 0.1, 0.1, 0.1]),
        pytest.approx([0.2, 0.2, 0.2, 0.1]),
        pytest.approx([0.3, 0.3, 0.2, 0.1]),
        pytest.approx([0.4, 0.3, 0.2, 0.1]),
    ]


def test_the_last_of_a_key_wins() -> None:
    """Published again, parameters replace what was known, and rates are smoothed."""
    table = ItemTable()
    table.update([published("item", 1.0, item_id="i"), published("item", 2.0, item_id="i")])
    assert difficulty(table, "i", "t", None) == 2
    row = table.parameters(table.rows([question("t", "i")]))
    assert row.rate[0] == pytest.approx(3 / 10)
    assert row.answers[0] == 8
    assert len(table) == 2


def test_the_table_grows() -> None:
    """Thousands of items are kept, each its own."""
    table = ItemTable()
    table.update(published("item", i / 100, item_id=f"i-{i}") for i in range(5_000))
    assert len(table) == 5_001
    for i in (0, 1_022, 1_023, 1_024, 4_999):
        assert difficulty(table, f"i-{i}", "t", None) == pytest.approx(i / 100)


def test_a_published_item_says_its_topic_and_stays_an_item() -> None:
    """An item may name its topic and difficulty; its key is the item alone."""
    assert key_of(published("item", 1.0, item_id="i", topic_id="t", difficulty="easy")) == ("i", None, None)


def test_a_question_is_made_once() -> None:
    """The same names are the same question, which carries its keys and its level."""
    asked = question("t", "i", "hard")
    assert question("t", "i", "hard") is asked
    assert (asked.topic, asked.item, asked.level) == (key64("t"), key64("i"), 2)
    assert (question("t").item, question("t").level) == (0, -1)
    assert len({asked, question("t"), question("t", "i"), question("t", None, "hard")}) == 4


def test_rows_are_found_again_and_anew() -> None:
    """Of many questions each gets its own row, asked again the same; what is published later is found from then on."""
    table = ItemTable()
    table.update([published("topic", 0.2, topic_id="t"), published("item", 0.4, item_id="i")])
    asked = [question("t"), question("t", "i"), question("o"), question("t")]
    assert table.rows(asked).tolist() == table.rows(asked).tolist() == [1, 2, 0, 1]
    table.update([published("topic", 0.7, topic_id="o")])
    assert table.rows(asked).tolist() == [1, 2, 3, 1]
    assert table.rows([]).shape == (0,)
