"""
Simulated courses of which the truth is known: the probability of every right answer, before it was given.

Item response theory with what it leaves out: several abilities of a user that grow with practice, items that differ in
how sharply they tell users apart, the memory of an item met lately, users who answer often and users who hardly do.
Nothing here is fitted to what the system assumes, nor kept from it: it sees a file of answers, as of any course.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.files.answers import Answer, AnswersFile
from stream.models.lnirt import sigmoid

USERS, TOPICS, ITEMS, ANSWERS = 300, 10, 100, 25_000

_GENERAL_SD, _TOPIC_SD, _DIFFICULTY_SD = 0.8, 0.5, 0.9
_LOG_DISCRIMINATION_SD = 0.2
_GAIN, _CEILING = 0.04, 1.5
"""Logits that an answer adds to a user's ability in its topic, falling to none when so many have been added."""

_MEMORY, _MEMORY_S = 2.0, 7_200.0
"""Logits by which an item is easier right after it was met, and seconds until that has fallen to a third."""

_ACTIVITY_SD, _POPULARITY_SD = 0.5, 0.3
"""Spreads of the logs of how often a user answers, and an item of a topic is asked."""

_STAYS = 0.7
"""Share of answers that stay with the topic of the user's last one."""

_SECONDS_APART = 5.0
"""Mean between two answers of all users together."""


@dataclass(frozen=True, slots=True)
class World:
    """
    Answers in the order in which they were given, and their truth.

    Attributes:
        file: As it would be read.
        p_correct: Of each answer, `(N,)`.
        user: Whose it is, int64 `(N,)`.
        item: What was answered, int64 `(N,)`.
        harder: By how many logits each item is harder from `changed_at` on, `(items,)`.
        changed_at: The first answer to the changed items.
    """

    file: AnswersFile
    p_correct: NDArray[np.float64]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    harder: NDArray[np.float64]
    changed_at: int

    def answered(self, correct: NDArray[np.bool_]) -> AnswersFile:
        """Return the file with other outcomes, `(N,)`."""
        answers = [replace(a, correct=bool(c)) for a, c in zip(self.file.answers, correct, strict=True)]
        return replace(self.file, answers=answers)


def world(
    seed: int, *, users: int = USERS, items: int = ITEMS, answers: int = ANSWERS, harder_by: float = 0.0
) -> World:
    """
    Return a course in which half of the items become harder at half time, and the other half easier.

    Args:
        seed: Of everything.
        users: Who answer, some often, some seldom, all the time.
        items: In `TOPICS` topics.
        answers: In all.
        harder_by: Logits.
    """
    random = np.random.default_rng(seed)
    general = random.normal(0, _GENERAL_SD, users)
    ability = general[:, None] + random.normal(0, _TOPIC_SD, (users, TOPICS))
    learned = np.zeros((users, TOPICS))
    speed = random.normal(0, 0.3, users)
    difficulty = random.normal(-0.3, _DIFFICULTY_SD, items)
    discrimination = np.exp(random.normal(0, _LOG_DISCRIMINATION_SD, items))
    intensity = random.normal(2.5, 0.4, items)
    harder = np.where(random.permutation(items) < items // 2, harder_by, -harder_by)
    topic_of = np.arange(items) % TOPICS
    popularity = np.exp(random.normal(0, _POPULARITY_SD, items))
    chances = [np.where(topic_of == topic, popularity, 0) for topic in range(TOPICS)]
    activity = np.exp(random.normal(0, _ACTIVITY_SD, users))

    who = random.choice(users, answers, p=activity / activity.sum())
    at = 1.7e9 + np.cumsum(random.exponential(_SECONDS_APART, answers))
    stays, drawn = random.random(answers) < _STAYS, random.integers(0, TOPICS, answers)
    asked = np.array([random.choice(items, answers, p=chance / chance.sum()) for chance in chances])  # (TOPICS, N)
    chance, spread = random.random(answers), random.normal(0, 0.4, answers)

    topic_now = random.integers(0, TOPICS, users)
    met_at = np.full((users, items), -np.inf)
    given: list[Answer] = []
    p_correct, item_of = np.zeros(answers), np.zeros(answers, np.int64)
    for row, user in enumerate(who.tolist()):
        if not stays[row]:
            topic_now[user] = drawn[row]
        topic = int(topic_now[user])
        item = int(asked[topic, row])
        now_harder = harder[item] if row >= answers // 2 else 0.0
        memory = _MEMORY * np.exp((met_at[user, item] - at[row]) / _MEMORY_S)
        distance = ability[user, topic] + learned[user, topic] - difficulty[item] - now_harder + memory
        p = float(sigmoid(discrimination[item] * distance))
        seconds = float(np.exp(intensity[item] - speed[user] + spread[row]))
        p_correct[row], item_of[row] = p, item
        given.append(
            Answer(row, f"u{user}", f"i{item}", (f"t{topic}",), bool(chance[row] < p), float(at[row]), seconds)
        )
        learned[user, topic] += _GAIN * (1 - learned[user, topic] / _CEILING)
        met_at[user, item] = at[row]
    file = AnswersFile(Path("simulated.csv"), f"{seed:064x}", given, has_timestamps=True, has_response_times=True)
    return World(file, p_correct, who, item_of, harder, answers // 2)


def excess(p_correct: NDArray[np.float64], said: NDArray[np.floating]) -> NDArray[np.float64]:
    """
    Return by how much each prediction's expected log loss is above the truth's: a relative entropy, nats, `(N,)`.

    The outcomes play no part, so nothing in it is their noise.
    """
    p, q = np.clip(p_correct, 1e-6, 1 - 1e-6), np.clip(said.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
