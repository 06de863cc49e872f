"""
The features of a question put to a user: one piece of code for serving, training and evaluation.

Pure: records and parameters in, numbers out. What is known of a question is its item, its topic, its difficulty and
    the moment at which it was asked; never what was answered, nor how long that took.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.models.items import PRIOR_SECONDS, Parameters
from stream.models.lnirt import Belief
from stream.state.learner import Records, decode_times, find_concepts

VERSION = 1

NAMES = (
    # The user's history: shares, seconds / 100, counts / 100 and / 20; 0.5 and 60 s where there is none.
    "rate",
    "seconds",
    "answers",
    "topic_rate",
    "topic_seconds",
    "topic_answers",
    "level_rate",
    "level_seconds",
    "level_answers",
    "latest5_rate",
    "latest5_seconds",
    # Times since: ln(1 + seconds) / 10; 0 where it was never met, which the counts tell.
    "gap",
    "topic_gap",
    "item_gap",
    # The user's own past with this item, of the remembered answers.
    "item_seen",
    "item_latest_correct",
    # The population's: item parameters, and what LNIRT makes of them.
    "ability",
    "ability_sd",
    "speed",
    "item_difficulty",
    "item_rate",
    "item_answers",
    "lnirt_logit",
    "lnirt_mu",
    "lnirt_sigma",
)
COUNT = len(NAMES)
COLUMN = {name: column for column, name in enumerate(NAMES)}
LOG_PRIOR_SECONDS = float(np.log(PRIOR_SECONDS))
"""`lnirt_mu` is relative to this, so that 0 is a usual value."""


@dataclass(frozen=True, slots=True)
class Questions:
    """
    What may be asked, one row a question.

    Attributes:
        row: Whose question it is: a row of the records, int64 `(N,)`.
        item: Keys, uint64 `(N,)`, 0 for none.
        topic: Keys, uint64 `(N,)`.
        skills: Keys, uint64 `(N, S)`, 0 where there are fewer.
        level: 0 to 2, -1 unknown, int8 `(N,)`.
        asked_at: Seconds since the epoch, float64 `(N,)`.
        parameters: Of the items, each column `(N,)`.
    """

    row: NDArray[np.int64]
    item: NDArray[np.uint64]
    topic: NDArray[np.uint64]
    skills: NDArray[np.uint64]
    level: NDArray[np.int8]
    asked_at: NDArray[np.float64]
    parameters: Parameters


def features(records: Records, questions: Questions, belief: Belief) -> NDArray[np.float32]:
    """
    Return the features of each question, float32 `(N, COUNT)`, in the order of `NAMES`.

    Args:
        records: Users as they were before the questions, `(B,)`.
        questions: `(N,)`.
        belief: LNIRT's, of the same questions.
    """
    row = questions.row
    out = np.empty((len(row), COUNT), np.float32)

    def put(name: str, values: NDArray[np.generic] | NDArray[np.float64]) -> None:
        out[:, COLUMN[name]] = values

    # The features of a user, computed once a user and spread over the questions.
    latest = _latest5(records)
    put("rate", _rate(records["correct"], records["answers"])[row])
    put("seconds", _seconds(records["time_s"], records["timed"])[row])
    put("answers", records["answers"][row] / 100)
    put("latest5_rate", latest[0][row])
    put("latest5_seconds", latest[1][row])
    put("ability", records["ability"][row])
    put("ability_sd", np.sqrt(records["ability_var"])[row])
    put("speed", records["speed"][row])

    level = np.maximum(questions.level, 0)
    known = questions.level >= 0
    level_answers = records["level_answers"][row, level] * known
    put("level_rate", _rate(records["level_correct"][row, level] * known, level_answers))
    put(
        "level_seconds",
        _seconds(records["level_time_s"][row, level] * known, records["level_timed"][row, level] * known),
    )
    put("level_answers", level_answers / 20)

    concept = find_concepts(records["concept"][row], questions.topic)
    met = concept >= 0
    topic_answers = records["concept_answers"][row, concept] * met
    put("topic_rate", _rate(records["concept_correct"][row, concept] * met, topic_answers))
    put(
        "topic_seconds",
        _seconds(records["concept_time_s"][row, concept] * met, records["concept_timed"][row, concept] * met),
    )
    put("topic_answers", topic_answers / 20)
    put("topic_gap", _gap(questions.asked_at - records["concept_at"][row, concept]) * met)
    put("gap", _gap(questions.asked_at - records["last_at"][row]) * (records["last_at"][row] > 0))

    seen, latest_correct, item_at = _item_past(records, questions)
    put("item_seen", seen / 5)
    put("item_latest_correct", latest_correct)
    put("item_gap", _gap(questions.asked_at - item_at) * (seen > 0))

    put("item_difficulty", questions.parameters.difficulty)
    put("item_rate", questions.parameters.rate)
    put("item_answers", np.log1p(questions.parameters.answers) / 5)
    put("lnirt_logit", belief.logit)
    put("lnirt_mu", belief.mu - LOG_PRIOR_SECONDS)
    put("lnirt_sigma", belief.sigma)
    return out


def _rate(correct: NDArray[np.generic], answers: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.where(answers > 0, correct / np.maximum(answers, 1), 0.5)  # type: ignore[operator]


def _seconds(total_s: NDArray[np.generic], timed: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.where(timed > 0, total_s / np.maximum(timed, 1), PRIOR_SECONDS) / 100  # type: ignore[operator]


def _gap(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log1p(np.maximum(seconds, 0)) / 10)


def _latest5(records: Records) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the success rate and the mean time / 100 of each user's latest five answers."""
    size = records.dtype["answer_id"].shape[0]
    rows = np.arange(len(records))[:, None]
    back = np.arange(1, 6)
    places = (records["answers"][:, None].astype(np.int64) - back) % size  # (B, 5)
    there = back <= records["answers"][:, None]
    flags = records["answer_flags"][rows, places] * there
    correct = (flags & 1).sum(axis=1)
    timed = (flags & 2) > 0
    seconds = (decode_times(records["answer_time"][rows, places]) * timed).sum(axis=1)
    return _rate(correct, there.sum(axis=1)), _seconds(seconds, timed.sum(axis=1))


def _item_past(
    records: Records, questions: Questions
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """
    Return the user's own past with each item.

    How often it was met, whether the latest answer was right (0.5: never met), and when that was, each `(N,)`.
    """
    count = len(questions.row)
    seen, latest_correct, latest_at = np.zeros(count), np.full(count, 0.5), np.zeros(count)
    # Most questions name no item; the rings of 100 answers are read for the others only.
    with_item = np.flatnonzero(questions.item != 0)
    row = questions.row[with_item]
    same = records["answer_item"][row] == questions.item[with_item].astype(np.uint32)[:, None]  # (M, R)
    at = records["answer_at"][row] * same  # (M, R)
    place = at.argmax(axis=1)
    times = same.sum(axis=1)
    seen[with_item] = times
    flags = records["answer_flags"][row, place]
    latest_correct[with_item] = np.where(times > 0, flags & 1, 0.5)
    latest_at[with_item] = at[np.arange(len(row)), place]
    return seen, latest_correct, latest_at
