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
from stream.state.learner import Records, decode_times, find_concepts, joined

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
    concept, is_met = find_concepts(records["concept"][row], questions.topic)
    item_seen, item_correct, item_at = _item_past(records, questions)

    out[:, _HISTORY] = _history(records, questions, concept, is_met)[:, : len(_HISTORY_NAMES)]

    last_at = records["last_at"][row]
    met_at = np.array([last_at, records["concept_at"][row, concept], item_at])  # (3, N)
    is_known = np.array([last_at > 0, is_met, item_seen > 0])
    out[:, _GAPS] = (np.log1p(np.maximum(questions.asked_at - met_at, 0)) / 10 * is_known).T

    for name, values in (
        ("item_seen", item_seen / 5),
        ("item_latest_correct", item_correct),
        ("ability", belief.ability),
        ("ability_sd", np.sqrt(belief.ability_var)),
        ("speed", belief.speed),
        ("item_difficulty", questions.parameters.difficulty),
        ("item_rate", questions.parameters.rate),
        ("item_answers", np.log1p(questions.parameters.answers) / 5),
        ("lnirt_logit", belief.logit),
        ("lnirt_mu", belief.mu - LOG_PRIOR_SECONDS),
        ("lnirt_sigma", belief.sigma),
    ):
        out[:, COLUMN[name]] = values
    return out


def _history(
    records: Records, questions: Questions, concept: NDArray[np.int64], is_met: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return rate, seconds / 100 and scaled count over all answers, the topic, the level, the latest five `(N, 12)`."""
    row, counts = questions.row, joined(records)
    level, has_level = np.maximum(questions.level, 0), questions.level >= 0
    latest, latest_time_s = _latest5(records)
    counted = np.empty((4, len(row), 3))  # answers, right ones, timed ones
    counted[0] = counts["all"][row]
    counted[1] = counts["concept"][row, :, concept] * is_met[:, None]
    counted[2] = counts["level"][row, :, level] * has_level[:, None]
    counted[3] = latest[row]
    time_s = np.empty((4, len(row)))
    time_s[0] = records["time_s"][row]
    time_s[1] = records["concept_time_s"][row, concept]
    time_s[2] = records["level_time_s"][row, level]
    time_s[3] = latest_time_s[row]

    answers, correct, timed = counted[..., 0], counted[..., 1], counted[..., 2]
    out = np.empty((len(row), 4, 3))
    out[..., 0] = np.where(answers > 0, correct / np.maximum(answers, 1), 0.5).T
    out[..., 1] = np.where(timed > 0, time_s / np.maximum(timed, 1), PRIOR_SECONDS).T / 100
    out[..., 2] = answers.T / _SCALES
    return out.reshape(len(row), 12)


_HISTORY_NAMES = NAMES[: NAMES.index("latest5_seconds") + 1]
_HISTORY = slice(0, len(_HISTORY_NAMES))
_SCALES = np.array([100, 20, 20, 1])
_GAPS = slice(COLUMN["gap"], COLUMN["item_gap"] + 1)


def _latest5(records: Records) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return how many answers, right ones and timed ones the latest five are, `(B, 3)`, and their seconds, `(B,)`."""
    size = records.dtype["answer_id"].shape[0]
    rows = np.arange(len(records))[:, None]
    answers = records["answers"][:, None].astype(np.int64)
    places = (answers - _BACK) % size  # (B, 5)
    flags = np.where(answers >= _BACK, records["answer_flags"][rows, places], 0)
    is_timed = (flags & 2) > 0
    counted = np.array([np.minimum(answers[:, 0], len(_BACK)), (flags & 1).sum(axis=1), is_timed.sum(axis=1)])
    return counted.T, (decode_times(records["answer_time"][rows, places]) * is_timed).sum(axis=1)


_BACK = np.arange(1, 6)


def _item_past(
    records: Records, questions: Questions
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """
    Return the user's own past with each item.

    How often it was met, whether the latest answer was right (0.5: never met), and when that was, each `(N,)`.
    """
    count = len(questions.row)
    seen, latest_correct, latest_at = np.zeros(count), np.full(count, 0.5), np.zeros(count)
    # Most questions name no item, and most items are new to a user: what is remembered of an answer is read where one
    # was met.
    with_item = questions.item.nonzero()[0]
    items = questions.item[with_item].astype(np.uint32)
    same = records["answer_item"][questions.row[with_item]] == items[:, None]  # (M, R)
    met = same.any(axis=1).nonzero()[0]
    if len(met):
        same, where = same[met], with_item[met]
        row = questions.row[where]
        at = records["answer_at"][row] * same  # (M, R)
        place = at.argmax(axis=1)
        seen[where] = same.sum(axis=1)
        latest_correct[where] = records["answer_flags"][row, place] & 1
        latest_at[where] = at[np.arange(len(row)), place]
    return seen, latest_correct, latest_at
