"""
One user's record, as a row of a structured array.

Pure values: no clock, no I/O. Arrays of records have a leading `B`; nothing here changes its input.
How a record is stored is `stream.state.codec`'s; what is learned from an answer is `stream.models`'.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]
"""A structured array of `learner_dtype`, one row a user."""

CONCEPTS = 20
"""Topics and skills counted for a user, the latest met. The 16 latest skills are published as mastery."""

HIDDEN_CAPACITY = 512
"""float16 numbers for a network's recurrent state: two layers of 128, h and c."""

OTHERS = 8
"""Ids remembered of events that are no answers (views, feedback)."""

DIFFICULTIES: Final = ("easy", "medium", "hard")

IS_TOPIC, IS_SKILL = 1, 2
_CORRECT, _TIMED = 1, 2
_TIME_STEPS_PER_E = 22.0
"""Remembered response times are kept as `round(22 ln(1 + 10 t))` in a byte: within 2.5% of the time, up to 10,000 s."""

_COUNT_LIMIT = 60_000
"""A concept's counts are halved here, so that 16 bits suffice and rates stay what they were."""


@lru_cache(maxsize=8)
def learner_dtype(remembered: int) -> np.dtype[Any]:
    """
    Return the layout of a record.

    Args:
        remembered: Answers remembered of a user.

    `seen` and `erasure_seen` are the last offsets applied of `interactions` and `erasures`. Offsets are -1 and times
    0 where there is none. `answers` counts all answers ever; the remembered ones are a ring whose next place is
    `answers % remembered`.
    """
    return np.dtype(
        [
            ("seen", "<i8"),
            ("erasure_seen", "<i8"),
            ("last_at", "<f8"),
            ("risk_day", "<u2"),
            ("answers", "<u4"),
            ("correct", "<u4"),
            ("timed", "<u4"),
            ("time_s", "<f8"),
            ("level_answers", "<u4", (3,)),
            ("level_correct", "<u4", (3,)),
            ("level_timed", "<u4", (3,)),
            ("level_time_s", "<f4", (3,)),
            ("views", "<u4"),
            ("feedback", "<u4"),
            ("ability", "<f4"),
            ("ability_var", "<f4"),
            ("speed", "<f4"),
            ("speed_var", "<f4"),
            ("other_id", "<u2", (OTHERS, 3)),
            ("answer_id", "<u2", (remembered, 3)),
            ("answer_item", "<u4", (remembered,)),
            ("answer_skill", "<u4", (remembered,)),
            ("answer_at", "<u4", (remembered,)),
            ("answer_time", "u1", (remembered,)),
            ("answer_flags", "u1", (remembered,)),
            ("concept", "<u8", (CONCEPTS,)),
            ("concept_answers", "<u2", (CONCEPTS,)),
            ("concept_correct", "<u2", (CONCEPTS,)),
            ("concept_timed", "<u2", (CONCEPTS,)),
            ("concept_time_s", "<f4", (CONCEPTS,)),
            ("concept_at", "<u4", (CONCEPTS,)),
            ("concept_kind", "u1", (CONCEPTS,)),
            ("hidden_format", "<u4"),
            ("hidden", "<f2", (HIDDEN_CAPACITY,)),
        ]
    )


def new_learners(count: int, remembered: int) -> Records:
    """Return records of `count` users of whom nothing is known, shape `(count,)`."""
    records = np.zeros(count, learner_dtype(remembered))
    records["seen"] = -1
    records["erasure_seen"] = -1
    records["ability_var"] = PRIOR_ABILITY_VAR
    records["speed_var"] = PRIOR_SPEED_VAR
    return records


PRIOR_ABILITY_VAR = 1.0
"""Abilities are standard normal over users: the scale of item response theory (Rasch 1960; Birnbaum 1968)."""

PRIOR_SPEED_VAR = 0.25
"""Variance of log speed over users; van der Linden 2007 reports 0.1 to 0.3 for his tests."""


def erased(records: Records, offset: int) -> Records:
    """
    Return the empty markers of erased users: nothing but what has been seen.

    Args:
        records: Users, `(B,)`.
        offset: Of the erasure in its partition; one that has been seen already erases nothing that came later.
    """
    markers = new_learners(len(records), records.dtype["answer_id"].shape[0])
    markers["seen"] = records["seen"]
    markers["erasure_seen"] = offset
    return np.where(records["erasure_seen"] < offset, markers, records)


@lru_cache(maxsize=200_000)
def key64(name: str) -> int:
    """Return a stable 64-bit key of an identifier; never 0, which stands for none."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") or 1


def id64(event_id: str) -> int:
    """Return the hash of an event id, of which the lower 48 bits are remembered."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "little")


def id48(event: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """
    Return the lower 48 bits of hashes, `(…, 3)`.

    Enough: an event is taken for one of 108 remembered ones once in 10^12 events, and six bytes keep a user within 4
        KiB.
    """
    return np.ascontiguousarray(event, "<u8").view("<u2").reshape(*event.shape, 4)[..., :3]


@dataclass(frozen=True, slots=True)
class Answers:
    """
    One answer a row, at most one of each user.

    Attributes:
        event: Hashes of the event ids, uint64 `(B,)`.
        item: Keys of the items, uint64 `(B,)`, 0 where there is none.
        topic: Keys of the topics, uint64 `(B,)`.
        skills: Keys of the skills, uint64 `(B, S)`, 0 where a row has fewer.
        level: 0 easy, 1 medium, 2 hard, -1 unknown, int8 `(B,)`.
        correct: bool `(B,)`.
        response_time_s: float32 `(B,)`, NaN where unknown.
        at: Seconds since the epoch when the answer was given, float64 `(B,)`.
    """

    event: NDArray[np.uint64]
    item: NDArray[np.uint64]
    topic: NDArray[np.uint64]
    skills: NDArray[np.uint64]
    level: NDArray[np.int8]
    correct: NDArray[np.bool_]
    response_time_s: NDArray[np.float32]
    at: NDArray[np.float64]

    @property
    def asked_at(self) -> NDArray[np.float64]:
        """Seconds since the epoch when the items were asked: the answer's moment less its response time."""
        return self.at - np.nan_to_num(self.response_time_s.astype(np.float64))


def has_seen(records: Records, event: NDArray[np.uint64], offset: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return, for each row, whether the event at this offset, or its id, has been applied already, `(B,)`."""
    known = np.concatenate([records["answer_id"], records["other_id"]], axis=1)  # (B, R + OTHERS, 3)
    return np.asarray((offset <= records["seen"]) | (known == id48(event)[:, None]).all(axis=2).any(axis=1))


def remember_others(
    records: Records, event: NDArray[np.uint64], at: NDArray[np.float64], is_view: NDArray[np.bool_]
) -> Records:
    """Return the records after one view or feedback each."""
    after = records.copy()
    rows = np.arange(len(after))
    after["other_id"][rows, (after["views"] + after["feedback"]) % OTHERS] = id48(event)
    after["views"] += is_view
    after["feedback"] += ~is_view
    after["last_at"] = np.maximum(after["last_at"], at)
    return after


def remember_answers(records: Records, answers: Answers) -> Records:
    """
    Return the records after one answer each: counters and remembered answers.

    Ability, speed and hidden state are `stream.models`' to update. Answers out of order count like any other;
    `last_at` never goes back.
    """
    after = records.copy()
    rows = np.arange(len(after))
    correct = answers.correct
    timed = ~np.isnan(answers.response_time_s)
    time_s = np.nan_to_num(answers.response_time_s)

    place = after["answers"] % after.dtype["answer_id"].shape[0]
    after["answer_id"][rows, place] = id48(answers.event)
    after["answer_item"][rows, place] = answers.item.astype(np.uint32)
    after["answer_skill"][rows, place] = answers.skills[:, 0].astype(np.uint32)
    after["answer_at"][rows, place] = answers.at.astype(np.uint32)
    after["answer_time"][rows, place] = encode_times(time_s)
    after["answer_flags"][rows, place] = (
        correct * _CORRECT + timed * _TIMED + ((answers.level + 1).astype(np.uint8) << 2)
    )

    after["answers"] += 1
    after["correct"] += correct
    after["timed"] += timed
    after["time_s"] += time_s
    known = rows[answers.level >= 0]
    level = answers.level[known]
    after["level_answers"][known, level] += 1
    after["level_correct"][known, level] += correct[known]
    after["level_timed"][known, level] += timed[known]
    after["level_time_s"][known, level] += time_s[known]
    after["last_at"] = np.maximum(after["last_at"], answers.at)

    # A skill of the topic's own name is the same concept: it is counted once, and known as both.
    both = (answers.skills == answers.topic[:, None]).any(axis=1)
    kind = np.where(both, IS_TOPIC | IS_SKILL, IS_TOPIC).astype(np.uint8)
    _count_concepts(after, answers.topic, kind, correct, timed, time_s, answers.at, np.ones(len(rows), bool))
    kind = np.full(len(rows), IS_SKILL, np.uint8)
    for column in range(answers.skills.shape[1]):
        skill = answers.skills[:, column]
        _count_concepts(after, skill, kind, correct, timed, time_s, answers.at, (skill != 0) & (skill != answers.topic))
    return after


def find_concepts(concepts: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the place of a key among the concepts of each row, `(N,)`, or -1 where it has not been met lately."""
    found = concepts == key[:, None]  # (N, CONCEPTS)
    return np.where(found.any(axis=1), found.argmax(axis=1), -1)


def _count_concepts(
    after: Records,
    key: NDArray[np.uint64],
    kind: NDArray[np.uint8],
    correct: NDArray[np.bool_],
    timed: NDArray[np.bool_],
    time_s: NDArray[np.float32],
    at: NDArray[np.float64],
    where: NDArray[np.bool_],
) -> None:
    """Count one answer under a concept of each row of `after`, in place; the longest unmet gives way to a new one."""
    place = find_concepts(after["concept"], key)
    new = np.flatnonzero(where & (place < 0))
    if len(new):
        # Unused places go first; times alone would not tell them from a concept met in 1970, as files of relative
        # seconds have it.
        met_at = np.where(after["concept"][new] != 0, after["concept_at"][new].astype(np.int64), -1)
        place[new] = met_at.argmin(axis=1)
        for field in ("concept_answers", "concept_correct", "concept_timed", "concept_time_s", "concept_kind"):
            after[field][new, place[new]] = 0
        after["concept"][new, place[new]] = key[new]
        after["concept_at"][new, place[new]] = 0
    rows = np.flatnonzero(where)
    place = place[rows]
    after["concept_kind"][rows, place] |= kind[rows]
    after["concept_answers"][rows, place] += 1
    after["concept_correct"][rows, place] += correct[rows]
    after["concept_timed"][rows, place] += timed[rows]
    after["concept_time_s"][rows, place] += time_s[rows]
    after["concept_at"][rows, place] = np.maximum(after["concept_at"][rows, place], at[rows].astype(np.uint32))
    full = after["concept_answers"][rows, place] >= _COUNT_LIMIT
    for field in ("concept_answers", "concept_correct", "concept_timed"):
        after[field][rows[full], place[full]] //= 2
    after["concept_time_s"][rows[full], place[full]] /= 2


def encode_times(time_s: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return response times as bytes on a logarithmic scale."""
    return np.clip(np.round(_TIME_STEPS_PER_E * np.log1p(10 * time_s)), 0, 255).astype(np.uint8)


def decode_times(code: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the response times, in seconds, that bytes stand for."""
    return (np.expm1(code / _TIME_STEPS_PER_E) / 10).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Remembered:
    """
    The remembered answers of users, oldest first.

    Attributes:
        item: Low 32 bits of the items' keys, uint32 `(B, R)`.
        skill: Low 32 bits of the first skills' keys, uint32 `(B, R)`.
        correct: bool `(B, R)`.
        response_time_s: float32 `(B, R)`, NaN where unknown.
        at: Whole seconds since the epoch, uint32 `(B, R)`.
        count: How many of a row's last places are filled, `(B,)`.
    """

    item: NDArray[np.uint32]
    skill: NDArray[np.uint32]
    correct: NDArray[np.bool_]
    response_time_s: NDArray[np.float32]
    at: NDArray[np.uint32]
    count: NDArray[np.int64]


def remembered(records: Records, latest: int | None = None) -> Remembered:
    """Return the (at most `latest`) remembered answers of each row, right-aligned."""
    size = records.dtype["answer_id"].shape[0]
    wanted = size if latest is None else min(latest, size)
    rows = np.arange(len(records))[:, None]
    places = (records["answers"][:, None].astype(np.int64) + np.arange(size - wanted, size)) % size  # (B, wanted)
    flags = records["answer_flags"][rows, places]
    time_s = decode_times(records["answer_time"][rows, places])
    # A ring that was stored with fewer places has empty ones among its oldest: what counts is what is there, not
    # `answers`.
    there = (records["answer_id"][rows, places] != 0).any(axis=2)  # (B, wanted)
    return Remembered(
        item=records["answer_item"][rows, places],
        skill=records["answer_skill"][rows, places],
        correct=(flags & _CORRECT) > 0,
        response_time_s=np.where(flags & _TIMED, time_s, np.nan).astype(np.float32),
        at=records["answer_at"][rows, places],
        count=there.sum(axis=1),
    )
