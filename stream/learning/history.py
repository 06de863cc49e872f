"""
A file of past answers as columns, and what the worker would have known before each of them.

The worker's own records, features and beliefs, over all users at once: the t-th answer of every user is one batch. So
a million answers take a minute, not an hour, and nothing is computed by other code than live.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from stream.files.answers import AnswersFile, made_up_moment
from stream.learning.item_statistics import Answered, ItemStatistics
from stream.models import lnirt
from stream.models.dkt import SKILLS
from stream.models.features import COLUMN, COUNT, Questions, features
from stream.models.items import ItemTable, Question, chain, question
from stream.state import arrays, learner
from stream.state.learner import Answers, key64

REMEMBERED = 100
FOLDS = 5
TRAINING, VALIDATION, TEST = 0, 1, 2


def parts_of(users: int, seed: int) -> NDArray[np.int8]:
    """Return the part of each user, int8 `(users,)`: 72% train, 8% validate, 20% test, as figures are compared."""
    order = np.arange(users)
    np.random.RandomState(seed).shuffle(order)
    part = np.full(users, TRAINING, np.int8)
    part[order[int(0.72 * users) : int(0.8 * users)]] = VALIDATION
    part[order[int(0.8 * users) :]] = TEST
    return part


@dataclass(frozen=True, slots=True)
class History:
    """
    Past answers, one row each, in the file's order; `users` of them in order of appearance.

    Attributes:
        users: How many there are.
        user: Whose answer it is, int64 `(N,)`.
        turn: The answers of that user before it, int64 `(N,)`.
        began: The turn of the user's first answer at the same moment, int64 `(N,)`; without timestamps, its own.
        questions: What was asked, `(N,)`.
        skills: Keys, uint64 `(N, S)`, 0 where there are fewer.
        skill_rows: Rows of the vocabulary, int64 `(N, SKILLS)`, 0 where there are fewer.
        names: The vocabulary's skills, in order of appearance.
        correct: bool `(N,)`.
        response_time_s: float32 `(N,)`, NaN where unknown.
        at: Seconds since the epoch, float64 `(N,)`.
    """

    users: int
    user: NDArray[np.int64]
    turn: NDArray[np.int64]
    began: NDArray[np.int64]
    questions: list[Question]
    skills: NDArray[np.uint64]
    skill_rows: NDArray[np.int64]
    names: tuple[str, ...]
    correct: NDArray[np.bool_]
    response_time_s: NDArray[np.float32]
    at: NDArray[np.float64]

    @classmethod
    def of(cls, file: AnswersFile) -> "History":
        """Return a file's answers as columns."""
        users: dict[str, int] = {}
        vocabulary: dict[str, int] = {}
        count = len(file.answers)
        user, turn, began = (np.zeros(count, np.int64) for _ in range(3))
        width = max(len(answer.skills) for answer in file.answers)
        skills, skill_rows = np.zeros((count, width), np.uint64), np.zeros((count, SKILLS), np.int64)
        at = np.zeros(count)
        turns: list[int] = []
        since: list[tuple[float, int]] = []
        for row, answer in enumerate(file.answers):
            who = users.setdefault(answer.user_id, len(users))
            if who == len(turns):
                turns.append(0)
                since.append((-1.0, 0))
            moment = made_up_moment(turns[who]) if answer.at is None else answer.at
            if moment != since[who][0]:
                since[who] = (moment, turns[who])
            user[row], turn[row], began[row], at[row] = who, turns[who], since[who][1], moment
            turns[who] += 1
            skills[row, : len(answer.skills)] = [key64(skill) for skill in answer.skills]
            rows = [vocabulary.setdefault(skill, len(vocabulary) + 1) for skill in answer.skills]
            skill_rows[row, : len(rows[:SKILLS])] = rows[:SKILLS]
        times = [np.nan if a.response_time_s is None else a.response_time_s for a in file.answers]
        return cls(
            len(users), user, turn, began, [question(a.skills[0], a.item_id) for a in file.answers], skills, skill_rows,
            tuple(vocabulary), np.array([a.correct for a in file.answers]), np.array(times, np.float32), at,
        )  # fmt: skip

    def split(self, seed: int) -> NDArray[np.int8]:
        """Return the part of each user, int8 `(users,)`."""
        return parts_of(self.users, seed)

    def answers(self, rows: NDArray[np.int64]) -> Answers:
        """Return some answers, of different users, as the worker's records take them."""
        asked = [self.questions[row] for row in rows]
        return Answers(
            event=(rows + 1).astype(np.uint64),
            item=np.array([q.item for q in asked], np.uint64),
            topic=np.array([q.topic for q in asked], np.uint64),
            skills=self.skills[rows],
            level=np.full(len(rows), -1, np.int8),
            correct=self.correct[rows],
            response_time_s=self.response_time_s[rows],
            at=self.at[rows],
        )


@dataclass(frozen=True, slots=True)
class Wave:
    """
    One answer of each of some users, and what was known before.

    Attributes:
        rows: Of the history, int64 `(B,)`.
        who: The users' places among those who are walked, int64 `(B,)`.
        began: Whether each is its user's first at its moment, bool `(B,)`.
        answers: `(B,)`.
        questions: What was asked, when it was asked, `(B,)`.
        belief: LNIRT's of them.
        features: float32 `(B, COUNT)`.
    """

    rows: NDArray[np.int64]
    who: NDArray[np.int64]
    began: NDArray[np.bool_]
    answers: Answers
    questions: Questions
    belief: lnirt.Belief
    features: NDArray[np.float32]


def walk(history: History, chosen: NDArray[np.bool_], items: ItemTable) -> Iterator[Wave]:
    """
    Yield the answers of users, turn by turn; answers of one moment are all met before any of them is learned.

    Args:
        history: Of all users.
        chosen: Who is walked, bool `(users,)`.
        items: Looked into before each wave: it may be updated in between.
    """
    place = np.cumsum(chosen) - 1
    rows_of_all = np.argsort(history.user, kind="stable")
    rows_of_all = rows_of_all[chosen[history.user[rows_of_all]]]
    length = np.bincount(place[history.user[rows_of_all]], minlength=int(chosen.sum()))
    first = np.cumsum(length) - length
    records = learner.new_learners(len(length), REMEMBERED)
    held = learner.new_learners(len(length), REMEMBERED)
    for turn in range(int(length.max(initial=0))):
        who = np.flatnonzero(length > turn)
        rows = rows_of_all[first[who] + turn]
        began = history.began[rows] == turn
        arrays.put(held, who[began], arrays.take(records, who[began]))
        wave = meet(history, rows, who, began, arrays.take(held, who), items)
        yield wave
        remember(records, wave)


def meet(
    history: History,
    rows: NDArray[np.int64],
    who: NDArray[np.int64],
    began: NDArray[np.bool_],
    before: learner.Records,
    items: ItemTable,
) -> Wave:
    """Return a wave of answers as records `before` them, `(B,)`, and items know them; the rest as in `Wave`."""
    answers = history.answers(rows)
    parameters = items.parameters(items.rows([history.questions[row] for row in rows]))
    asked = Questions(
        np.arange(len(rows)), answers.item, answers.topic, answers.skills, answers.level,
        answers.asked_at(before["last_at"]), parameters,
    )  # fmt: skip
    belief = lnirt.believe(before, asked.row, parameters)
    return Wave(rows, who, began, answers, asked, belief, features(before, asked, belief))


def remember(records: learner.Records, wave: Wave) -> None:
    """Take the records of a wave's users on, in place."""
    after = arrays.take(records, wave.who)
    learner.remember_answers(after, wave.answers)
    lnirt.learn(after, wave.answers, wave.questions.parameters)
    arrays.put(records, wave.who, after)


@dataclass(frozen=True, slots=True)
class Known:
    """
    What was known before each answer.

    Attributes:
        features: float32 `(N, COUNT)`.
        items: Of the training users' answers: what a new user meets.
    """

    features: NDArray[np.float32]
    items: ItemTable


def _nobody(share: float) -> None:
    """Tell nobody."""


def prepare(history: History, part: NDArray[np.int8], seed: int, advance: Callable[[float], None] = _nobody) -> Known:
    """
    Return what was known before each answer, item parameters of training users only.

    A training user meets items as they are known by the other training users: were they known by his own answers, or
    less well than a new user will know them, a network would learn to trust them too much or too little.

    Args:
        history: Past answers.
        part: Of each user, int8 `(users,)`.
        seed: Of the folds.
        advance: Told of shares of the work, of 1, as they are done.
    """
    is_training = part == TRAINING
    items = learn_items(history, is_training)
    advance(1 / (FOLDS + 2))
    fold = np.random.default_rng(seed).integers(0, FOLDS, history.users)
    known = np.zeros((len(history.user), COUNT), np.float32)
    for number in range(FOLDS):
        _collect(history, is_training & (fold == number), learn_items(history, is_training & (fold != number)), known)
        advance(1 / (FOLDS + 2))
    _collect(history, ~is_training, items, known)
    advance(1 / (FOLDS + 2))
    return Known(known, items)


def learn_items(history: History, chosen: NDArray[np.bool_]) -> ItemTable:
    """Return what the answers of users, bool `(users,)`, make known of items."""
    # Everybody's first answers, then everybody's second ones: an order that is not time's.
    statistics, items = ItemStatistics(follows=False), ItemTable()
    for wave in walk(history, chosen, items):
        learn_wave(history, statistics, wave)
        items.update(statistics.publish(ANY_TIME))
    return items


def learn_wave(history: History, statistics: ItemStatistics, wave: Wave) -> None:
    """Move the parameters of what was answered."""
    belief, known = wave.belief, wave.features
    practised = [
        np.expm1(known[:, COLUMN[f"{what}_right"]]) + np.expm1(known[:, COLUMN[f"{what}_wrong"]])
        for what in ("item", "topic")
    ]
    columns = (
        wave.rows, wave.answers.correct, wave.answers.response_time_s.astype(np.float64),
        belief.ability, belief.ability_var, belief.speed, *practised,
    )  # fmt: skip
    for row, correct, time_s, *of_user in zip(*(column.tolist() for column in columns), strict=True):
        asked = history.questions[row]
        keys = chain(asked.item_id, asked.topic_id, asked.difficulty)
        statistics.move(keys, Answered(correct, None if math.isnan(time_s) else time_s, *of_user))


def _collect(history: History, chosen: NDArray[np.bool_], items: ItemTable, features_of: NDArray[np.float32]) -> None:
    for wave in walk(history, chosen, items):
        features_of[wave.rows] = wave.features


ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
