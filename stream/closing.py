"""
The closing of weeks: when a week is over, every user whose course goes on is scored once more.

Also whoever was active in it: one prediction at the end of each week, on what the whole of it left behind. For whoever
goes quiet it is the only one.

Pure, on batches: who is to be scored, and what comes of it. When a week is over, and whose turn it is, is
`stream.agents.closing`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream import emission
from stream.emission import Enrolled
from stream.models import weekly
from stream.models.weekly import MAX_DAYS, NUMBERS, Seen
from stream.pipeline import RiskModels, fallback_scores, score_risks
from stream.ports import Message
from stream.state import academic, learner
from stream.state.academic import WEEKS, field_key, week_end
from stream.state.names import Names

_DAY_S = 86_400.0

STILL_AFTER_S: Final = (MAX_DAYS + 7 * WEEKS) * _DAY_S
"""After so long a silence no feature changes: the ten weeks are empty, and days count no further in the oldest too."""


def to_close(learners: learner.Records, academics: academic.Records, week: int) -> NDArray[np.bool_]:
    """
    Return whose score the end of a week can have changed, and who has not been scored for it, `(N,)`.

    Not: users who came only after it, users whose course has ended, erased users, and those who have been silent for
    so long that they were scored as they still are.

    Args:
        learners: Their histories, `(N,)`.
        academics: Their weekly steps, `(N,)`.
        week: That is over.
    """
    last_at = np.maximum(learners["last_at"], academics["last_at"])
    closed = academics["closed"].astype(np.int64)
    is_still = (closed > 0) & (last_at + STILL_AFTER_S < week_end(closed))
    is_open = (closed < week) & (academics["outcome"] == 0) & ~is_still
    return np.asarray(is_open & _was_there(learners, academics, week))


def _was_there(learners: learner.Records, academics: academic.Records, week: int) -> NDArray[np.bool_]:
    """Return whether anything was known of users by the end of a week, `(N,)`."""
    was_active = (learners["active_days"] > 0) & (_weeks(learners["active_week"]) <= week)
    was_recorded = academics["counts"].any(axis=2) & (_weeks(academics["week"]) <= week)
    enrolled = academics["enrolled_day"].astype(np.int64)
    was_enrolled = (enrolled > 0) & (enrolled * _DAY_S < week_end(np.array(week)))
    has_left = academics["before_counts"].any(axis=1)
    # Whoever comes back after all the weeks of the ring has nothing in it but what came since.
    was_closed = academics["closed"] > 0
    has_answered = learners["answers"] > learners["active_answers"].sum(axis=1, dtype=np.int64)
    return np.asarray(
        was_active.any(axis=1) | was_recorded.any(axis=1) | has_left | was_enrolled | was_closed | has_answered
    )


def _weeks(newest: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the week of each place of a ring, `(N, WEEKS)`."""
    last = newest.astype(np.int64)[:, None]
    return last - (last - np.arange(WEEKS)) % WEEKS


@dataclass(frozen=True, slots=True)
class Week:
    """
    A week that is over.

    Attributes:
        number: As `academic.week_of` counts.
        topic: The broker's name of the topic of academic events, which predictions name as their source.
    """

    number: int
    topic: str


@dataclass(frozen=True, slots=True)
class Closed:
    """
    What became of users for whom a week was closed, `N` rows.

    Attributes:
        academics: Their next records, `(N,)`.
        messages: Predictions and training examples.
        scores: What was said, float32 `(N,)`.
        fell_back: How many the fallback scored because the model failed.
        unchallenged: Of how many the challenger said nothing because it failed.
    """

    academics: academic.Records
    messages: list[Message]
    scores: NDArray[np.float32]
    fell_back: int
    unchallenged: int


def close(
    week: Week,
    user_ids: Sequence[str],
    partitions: Sequence[int],
    learners: learner.Records,
    academics: academic.Records,
    models: RiskModels,
    names: Names,
    now: datetime,
) -> Closed:
    """
    Score users as a week left them, and note that it has been closed for them.

    Args:
        week: That is over.
        user_ids: `N`, each once.
        partitions: Theirs.
        learners: Their histories, `(N,)`.
        academics: Their weekly steps, `(N,)`; not changed.
        models: What scores; a challenger is heard of everybody.
        names: What keys of facts stand for.
        now: Stamped on what is produced.
    """
    # Whoever has been heard of since is seen as of then: nobody is put back.
    end = week_end(np.array(week.number)) - 1.0
    as_of = np.maximum.reduce([np.broadcast_to(end, len(user_ids)), learners["last_at"], academics["last_at"]])
    seen = weekly.see(learners, academics, as_of)
    judged = score_risks(user_ids, seen, models, everybody=True)
    sources = [
        {"event_id": closing_id(user_id, week.number), "topic": week.topic, "partition": partition, "offset": offset}
        for user_id, partition, offset in zip(
            user_ids, partitions, np.maximum(academics["seen"], 0).tolist(), strict=True
        )
    ]
    scored = emission.Scored(user_ids, sources, as_of.tolist(), judged.risks, judged.voices, [0] * len(user_ids))
    enrolled = _enrolled(academics, seen, models, names)
    fallback = fallback_scores(seen)
    messages = emission.risk_predictions(scored, "week_closed", now)
    messages += emission.risk_examples(scored, week.number, seen.steps, enrolled, fallback, judged.unheard)
    after = academics.copy()
    after["closed"] = week.number
    return Closed(after, messages, judged.risks.score, judged.fell_back, judged.unchallenged)


def closing_id(user_id: str, week: int) -> str:
    """Return the event id under which a week is closed for a user: the same whenever and wherever that is done."""
    return emission.prediction_id(f"week/{user_id}", str(week))


def _enrolled(academics: academic.Records, seen: Seen, models: RiskModels, names: Names) -> list[Enrolled]:
    """Return what is kept of enrolments under its names; what this process cannot name is left out."""
    fields = {field_key(field): field for field in models.kept}
    own = np.concatenate([seen.day[:, -1:], seen.number], axis=1).astype(np.float64).tolist()
    enrolled = []
    rows = zip(
        academics["fact"].tolist(), academics["number"]["field"].tolist(), academics["number"]["value"].tolist(), own,
        strict=True,
    )  # fmt: skip
    for (course, *facts), keys, values, numbers in rows:
        texts = dict(fact.split("=", 1) for key in facts if key and (fact := names.name(key)) is not None)
        course_id = (names.name(course) or "").partition("=")[2] or None
        known: dict[str, str | float] = texts | {
            fields[key]: value for key, value in zip(keys, values, strict=True) if key in fields
        }
        context = {field: value for field, value in known.items() if field in models.features}
        context |= {n: v for n, v in zip(("course_day", *NUMBERS), numbers, strict=True) if not np.isnan(v)}
        slices = {
            field: value if isinstance(value, str) else f"{value:g}"
            for field, value in known.items()
            if field in models.slices
        }
        enrolled.append(Enrolled(course_id, context, slices))
    return enrolled
