"""
The features of a question put to a user: one piece of code for serving, training and evaluation.

Pure: records and parameters in, numbers out. What is known of a question is its item, its topic, its difficulty and
    the moment at which it was asked; never what was answered, nor how long that took.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.models.items import PRIOR_SECONDS, Parameters
from stream.models.lnirt import Belief
from stream.state.learner import Records, decode_times, find_concepts, joined

VERSION = 2

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
    # Practice of the item, and then of the topic (of the first skill, where skills are named), in remembered answers:
    # right and wrong ones, ln(1 + n); the same faded by the root of the minutes since; the share of right ones, the
    # latest counting most; how few answers lie in between, 1 / n; the latest response time, log seconds about 20 s.
    "item_right",
    "item_wrong",
    "item_right_faded",
    "item_wrong_faded",
    "item_recent",
    "item_nearness",
    "item_latest_time",
    "topic_right",
    "topic_wrong",
    "topic_right_faded",
    "topic_wrong_faded",
    "topic_recent",
    "topic_nearness",
    "topic_latest_time",
    # The latest answers on anything: shares of right ones that forget fast, less and slowly, of both kinds how many in
    # a row, ln(1 + n) and below 0 for wrong ones, the latest response time, and whether it was of this item or topic.
    "recent_fast",
    "recent",
    "recent_slow",
    "row",
    "latest_time",
    "same_item",
    "same_topic",
    # All skills of the question: right and wrong answers, ln(1 + n), shares of right ones, met at all; means, and the
    # least share.
    "skills_right",
    "skills_wrong",
    "skills_rate",
    "skills_met",
    "skills_least",
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

    def take(self, rows: NDArray[np.int64], of: NDArray[np.int64]) -> "Questions":
        """
        Return some of the questions.

        Args:
            rows: Which, `(M,)`.
            of: Whose question each is, `(M,)`: their users may be another selection of records.
        """
        return Questions(
            of, self.item[rows], self.topic[rows], self.skills[rows], self.level[rows], self.asked_at[rows],
            self.parameters.take(rows),
        )  # fmt: skip


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
    past = _past(records)
    item_seen, item_correct, item_at = _item_past(records, questions)
    # Of a remembered answer its first skill is kept, which is its topic where it named none.
    skill = questions.skills[:, 0]
    out[:, _PRACTICE[0]] = _practice(past, questions, past.item, questions.item.astype(np.uint32), questions.item > 0)
    out[:, _PRACTICE[1]] = _practice(past, questions, past.skill, skill.astype(np.uint32), skill > 0)
    out[:, _LATEST] = _latest(past, questions)
    out[:, _SKILLS] = _skills(records, questions)

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


_PRACTICE = tuple(slice(COLUMN[f"{what}_right"], COLUMN[f"{what}_latest_time"] + 1) for what in ("item", "topic"))
_LATEST = slice(COLUMN["recent_fast"], COLUMN["same_topic"] + 1)
_SKILLS = slice(COLUMN["skills_right"], COLUMN["skills_least"] + 1)
_USUAL_LOG_S = 3.0
_FORGETS = np.array([0.5, 0.8, 0.95])
_FORGETS_PRACTICE = 0.75


@dataclass(frozen=True, slots=True)
class _Past:
    """
    The remembered answers of users, the latest first, `(B, R)` each; zeros where there are fewer.

    Attributes:
        there: Whether one is.
        item: The lower halves of keys.
        skill: The same, of the first skill.
        correct: Whether it was right.
        timed: Whether its response time is known.
        time: Log seconds about the usual.
        at: Seconds since the epoch.
    """

    there: NDArray[np.bool_]
    item: NDArray[np.uint32]
    skill: NDArray[np.uint32]
    correct: NDArray[np.bool_]
    timed: NDArray[np.bool_]
    time: NDArray[np.float32]
    at: NDArray[np.float64]


def _past(records: Records) -> _Past:
    size = records.dtype["answer_id"].shape[0]
    back = np.arange(1, size + 1)
    answers = records["answers"].astype(np.int64)[:, None]
    there = answers >= back  # (B, R)
    place = (answers - back) % size
    rows = np.arange(len(records))[:, None]
    flags = np.where(there, records["answer_flags"][rows, place], 0)
    seconds = _SECONDS[records["answer_time"][rows, place]]
    return _Past(
        there,
        np.where(there, records["answer_item"][rows, place], 0),
        np.where(there, records["answer_skill"][rows, place], 0),
        (flags & 1) > 0,
        (flags & 2) > 0,
        seconds,
        records["answer_at"][rows, place].astype(np.float64),
    )


_SECONDS = (np.log(np.maximum(decode_times(np.arange(256, dtype=np.uint8)), 0.05)) - _USUAL_LOG_S).astype(np.float32)
"""Log seconds about the usual, by the byte that is remembered."""


def _practice(
    past: _Past,
    questions: Questions,
    met: NDArray[np.uint32],
    wanted: NDArray[np.uint32],
    is_named: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return what the remembered answers say of practising one thing, `(N, 7)`; `met` is `(B, R)`, `wanted` `(N,)`."""
    count = len(questions.row)
    out = np.zeros((count, 7))
    out[:, 4] = 0.5
    named = is_named.nonzero()[0]
    row = questions.row[named]
    same = (met[row] == wanted[named, None]) & past.there[row]  # (M, R)
    where, back = same.nonzero()
    if not len(where):
        return out
    row, where_all = row[where], named[where]
    right, timed = past.correct[row, back], past.timed[row, back]
    age_min = np.maximum(questions.asked_at[where_all] - past.at[row, back], 0) / 60
    faded = 1 / np.sqrt(1 + age_min)
    # Pairs stand in the order of the questions, the latest answer first.
    is_first = np.ones(len(where), bool)
    is_first[1:] = where[1:] != where[:-1]
    begin = is_first.nonzero()[0]
    nth = np.arange(len(where)) - begin[np.cumsum(is_first) - 1]
    weight = _FORGETS_PRACTICE**nth

    def total(of: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(where_all, of, count), np.float64)

    out[:, 0], out[:, 1] = np.log1p(total(right)), np.log1p(total(~right))
    out[:, 2], out[:, 3] = np.log1p(total(right * faded)), np.log1p(total(~right * faded))
    out[:, 4] = (0.5 + total(right * weight)) / (1 + total(weight))
    out[where_all[begin], 5] = 1 / (1 + back[begin])
    known = timed.nonzero()[0]
    # Written from the oldest to the latest, which stays.
    out[where_all[known[::-1]], 6] = past.time[row[known[::-1]], back[known[::-1]]]
    return out


def _latest(past: _Past, questions: Questions) -> NDArray[np.float64]:
    """Return what the latest answers on anything say, `(N, 7)`."""
    users, size = past.there.shape
    of_user = np.zeros((users, 5))
    weights = _FORGETS[:, None] ** np.arange(size)  # (3, R)
    of_user[:, :3] = (0.5 + past.correct @ weights.T) / (1 + past.there @ weights.T)
    first = past.correct[:, :1]
    differs = (past.correct != first) | ~past.there
    length = np.where(differs.any(axis=1), differs.argmax(axis=1), size)
    of_user[:, 3] = np.log1p(length) * np.where(first[:, 0], 1, -1)
    of_user[:, 4] = np.where(past.timed[:, 0], past.time[:, 0], 0)
    row = questions.row
    out = np.empty((len(row), 7))
    out[:, :5] = of_user[row]
    out[:, 5] = past.there[row, 0] & (questions.item > 0) & (past.item[row, 0] == questions.item.astype(np.uint32))
    out[:, 6] = past.there[row, 0] & (past.skill[row, 0] == questions.skills[:, 0].astype(np.uint32))
    return out


def _skills(records: Records, questions: Questions) -> NDArray[np.float64]:
    """Return what the counts of all skills of a question say, `(N, 5)`."""
    count, width = questions.skills.shape
    answers, right, met = np.zeros((count, width)), np.zeros((count, width)), np.zeros((count, width), bool)
    has = questions.skills != 0
    for column in has.any(axis=0).nonzero()[0]:
        who = has[:, column].nonzero()[0]
        row = questions.row[who]
        place, is_met = find_concepts(records["concept"][row], questions.skills[who, column])
        answers[who, column] = records["concept_answers"][row, place] * is_met
        right[who, column] = records["concept_correct"][row, place] * is_met
        met[who, column] = is_met
    share = (right + 0.5) / (answers + 1)
    of_skills = np.maximum(has.sum(axis=1), 1)
    out = np.empty((count, 5))
    out[:, 0] = np.log1p(right).sum(axis=1) / of_skills
    out[:, 1] = np.log1p(answers - right).sum(axis=1) / of_skills
    out[:, 2] = (share * has).sum(axis=1) / of_skills
    out[:, 3] = met.sum(axis=1) / of_skills
    out[:, 4] = np.where(has, share, 1).min(axis=1, initial=1)
    return out
