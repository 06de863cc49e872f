"""
One user's record, as a row of a structured array.

No clock, no I/O. Arrays of records have a leading `B`. What folds events into records changes them in place, so that
a batch copies each record once or twice, and not at every step: callers hand over a copy of their own.
How a record is stored is `stream.state.codec`'s; what is learned from an answer is `stream.models`'.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]
"""A structured array of `learner_dtype`, one row a user."""

CONCEPTS = 20
"""Topics and skills counted for a user, the latest met. The 16 latest skills are published as mastery."""

HIDDEN_CAPACITY = 256
"""float16 numbers for a network's recurrent state, h and c: a layer of 128, or two of 64; the usual one fills 128."""

ACTIVE_WEEKS = 10
"""Weeks of which a user's activity is kept."""

OTHERS = 8
"""Ids remembered of events that are no answers (views, feedback)."""

DIFFICULTIES: Final = ("easy", "medium", "hard")

IS_TOPIC, IS_SKILL = 1, 2
_CORRECT, _TIMED = 1, 2
_TIME_STEPS_PER_E = 22.0
"""Remembered response times are kept as `round(22 ln(1 + 10 t))` in a byte: within 2.5% of the time, up to 10,000 s."""

AT_ONCE_S = 1_800.0
"""An answer without a response time that follows within this was asked right after what came before."""

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
            # The newest week of activity; a week's place is its number modulo ACTIVE_WEEKS.
            ("active_week", "<u2"),
            ("active_days", "u1", (ACTIVE_WEEKS,)),  # a bit a day, Monday the lowest
            ("active_answers", "<u2", (ACTIVE_WEEKS,)),
            ("active_correct", "<u2", (ACTIVE_WEEKS,)),
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


@lru_cache(maxsize=8)
def _joined_dtype(remembered: int) -> np.dtype[Any]:
    layout = learner_dtype(remembered)
    offset = {name: place for name, (_, place, *_) in (layout.fields or {}).items()}
    joined = {
        "belief": ("ability", ("<f4", (4,))),
        "event_id": ("other_id", ("<u2", (OTHERS + remembered, 3))),
        "answer": ("answer_item", ("<u4", (3, remembered))),
        "answer_byte": ("answer_time", ("u1", (2, remembered))),
        "all": ("answers", ("<u4", (3,))),
        "level": ("level_answers", ("<u4", (3, len(DIFFICULTIES)))),
        "concept": ("concept_answers", ("<u2", (3, CONCEPTS))),
    }
    return np.dtype(
        {
            "names": list(joined),
            "formats": [kind for _, kind in joined.values()],
            "offsets": [offset[first] for first, _ in joined.values()],
            "itemsize": layout.itemsize,
        }
    )


def joined(records: Records) -> Records:
    """
    Return a view of the same records, `(B,)`, in which fields that lie side by side are one.

    `belief` is ability and speed, each with its variance, `(B, 4)`; `event_id` every remembered id,
    `(B, OTHERS + R, 3)`. Of remembered answers, `answer` is item, skill and moment, `(B, 3, R)`, and `answer_byte` time
    and flags, `(B, 2, R)`. The counts of answers, right ones and timed ones are `all`, `(B, 3)`; `level`, `(B, 3, 3)`,
    a column a difficulty; and `concept`, `(B, 3, CONCEPTS)`.
    """
    return records.view(_joined_dtype(records.dtype["answer_id"].shape[0]))


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


def erased(records: Records, offset: int | NDArray[np.int64]) -> Records:
    """
    Return the empty markers of erased users: nothing but what has been seen.

    Args:
        records: Users, `(B,)`.
        offset: Of the erasure in its partition, of all or of each; one that has been seen already erases nothing that
            came later.
    """
    markers = new_learners(len(records), records.dtype["answer_id"].shape[0])
    markers["seen"] = records["seen"]
    markers["erasure_seen"] = offset
    return np.where(records["erasure_seen"] < offset, markers, records)


def markers(records: Records) -> NDArray[np.int64]:
    """Return the rows of empty markers: of users who were erased and have not come back."""
    return np.flatnonzero((records["erasure_seen"] >= 0) & (records["last_at"] == 0))


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

    def take(self, rows: NDArray[np.int64]) -> "Answers":
        """Return some of the answers."""
        return Answers(*(getattr(self, field.name)[rows] for field in fields(self)))

    def asked_at(self, last_at: NDArray[np.float64]) -> NDArray[np.float64]:
        """
        Return when the items were asked, in seconds since the epoch: the answers' moments less their response times.

        Where a response time is not known, an answer that follows within half an hour was asked at once: the gap would
        hide how long it took, and give it away.

        Args:
            last_at: When the users were last heard of, 0 for never, `(B,)`.
        """
        is_known = ~np.isnan(self.response_time_s)
        asked_at = self.at - np.where(is_known, self.response_time_s, 0).astype(np.float64)
        at_once = ~is_known & (last_at > 0) & (self.at - last_at < AT_ONCE_S)
        return np.where(at_once, last_at, asked_at)


def has_seen(
    records: Records, rows: NDArray[np.int64], event: NDArray[np.uint64], offset: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """
    Return whether events, or other ones with their ids, have been applied already, `(B,)`.

    Args:
        records: Users, `(U,)`.
        rows: Whose event it is, `(B,)`.
        event: Hashes of the event ids, `(B,)`.
        offset: Of the events in their partition, `(B,)`.
    """
    seen = np.asarray(offset <= records["seen"][rows])
    known, wanted = joined(records)["event_id"], id48(event)
    # The first of an id's three numbers decides nearly always; the others are read where it agrees.
    of, place = (known[rows, :, 0] == wanted[:, :1]).nonzero()
    if len(of):
        np.logical_or.at(seen, of, (known[rows[of], place] == wanted[of]).all(axis=1))
    return seen


def remember_others(
    records: Records,
    rows: NDArray[np.int64],
    event: NDArray[np.uint64],
    at: NDArray[np.float64],
    is_view: NDArray[np.bool_],
) -> None:
    """Count one view or feedback of each user of `rows`, in place."""
    place = (records["views"][rows] + records["feedback"][rows]) % OTHERS
    records["other_id"][rows, place] = id48(event)
    records["views"][rows] += is_view
    records["feedback"][rows] += ~is_view
    records["last_at"][rows] = np.maximum(records["last_at"][rows], at)


def remember_activity(
    records: Records,
    rows: NDArray[np.int64],
    day: NDArray[np.int64],
    answered: NDArray[np.bool_],
    correct: NDArray[np.bool_],
) -> None:
    """
    Count one event of each user of `rows` in its week, in place; one older than the weeks that are kept counts nowhere.

    Args:
        records: Users, `(U,)`.
        rows: Whose events, each user at most once, `(B,)`.
        day: Of the events, since the epoch, `(B,)`.
        answered: Whether it is an answer, `(B,)`.
        correct: Whether it is a right one, `(B,)`.
    """
    since_monday = day - FIRST_MONDAY
    week = since_monday // 7 + 1
    newest = records["active_week"][rows].astype(np.int64)
    is_new = week > newest
    if is_new.any():
        who, now, before = rows[is_new], week[is_new], newest[is_new]
        # The places of all weeks between, at most the whole ring.
        passed = now[:, None] - np.arange(ACTIVE_WEEKS)
        who_passed, nth = (passed > before[:, None]).nonzero()
        places = passed[who_passed, nth] % ACTIVE_WEEKS
        for field in ("active_days", "active_answers", "active_correct"):
            records[field][who[who_passed], places] = 0
        records["active_week"][who] = now
    kept = week > np.maximum(newest, week) - ACTIVE_WEEKS
    who, place = rows[kept], (week % ACTIVE_WEEKS)[kept]
    records["active_days"][who, place] |= (1 << (since_monday % 7)[kept]).astype(np.uint8)
    room = records["active_answers"][who, place] < _COUNT_LIMIT
    records["active_answers"][who, place] += answered[kept] & room
    records["active_correct"][who, place] += correct[kept] & room


FIRST_MONDAY: Final = 4
"""1970-01-05, in days since the epoch: weeks are counted from there, the first is 1."""


def remember_ids(records: Records, rows: NDArray[np.int64], event: NDArray[np.uint64]) -> None:
    """
    Remember the ids of events that count as nothing, in place: where there is room, else in the place of some other.

    Args:
        records: Users, `(U,)`.
        rows: Whose events, each user at most once, `(B,)`.
        event: Hashes of the event ids, `(B,)`.
    """
    # Views fill the places from the first on.
    is_free = (records["other_id"][rows] == 0).all(axis=2)[:, ::-1]
    place = np.where(is_free.any(axis=1), OTHERS - 1 - is_free.argmax(axis=1), (event % OTHERS).astype(np.int64))
    records["other_id"][rows, place] = id48(event)


def remember_answers(records: Records, answers: Answers) -> None:
    """
    Count and remember one answer of each user, in place.

    Ability, speed and hidden state are `stream.models`' to update. Answers out of order count like any other;
    `last_at` never goes back.
    """
    rows = np.arange(len(records))
    counted = np.ones((len(rows), 3), np.uint16)  # an answer, whether right, whether timed
    counted[:, 1] = answers.correct
    counted[:, 2] = ~np.isnan(answers.response_time_s)
    time_s = np.where(counted[:, 2], answers.response_time_s, np.float32(0))

    at = answers.at.astype(np.uint32)
    flags = counted[:, 1] * _CORRECT + counted[:, 2] * _TIMED + ((answers.level + 1) << 2)
    fields = joined(records)
    place = records["answers"] % records.dtype["answer_id"].shape[0]
    records["answer_id"][rows, place] = id48(answers.event)
    fields["answer"][rows, :, place] = _columns(answers.item, answers.skills[:, 0], at)
    fields["answer_byte"][rows, :, place] = _columns(encode_times(time_s), flags)

    fields["all"] += counted
    records["time_s"] += time_s
    records["last_at"] = np.maximum(records["last_at"], answers.at)
    known = (answers.level >= 0).nonzero()[0]
    level = answers.level[known]
    fields["level"][known, :, level] += counted[known]
    records["level_time_s"][known, level] += time_s[known]

    # A skill of the topic's own name is the same concept: it is counted once, and known as both.
    is_topic = answers.skills == answers.topic[:, None]
    kind = np.where(is_topic.any(axis=1), IS_TOPIC | IS_SKILL, IS_TOPIC).astype(np.uint8)
    _count_concepts(records, rows, answers.topic, kind, counted, time_s, at)
    further = (answers.skills != 0) & ~is_topic
    for column in further.any(axis=0).nonzero()[0]:
        who = further[:, column].nonzero()[0]
        kind = np.full(len(who), IS_SKILL, np.uint8)
        _count_concepts(records, who, answers.skills[who, column], kind, counted[who], time_s[who], at[who])


def correct_answers(
    records: Records,
    rows: NDArray[np.int64],
    event: NDArray[np.uint64],
    correct: NDArray[np.bool_],
    concepts: NDArray[np.uint64],
) -> NDArray[np.bool_]:
    """
    Give one remembered answer of each user of `rows` another outcome, in place, and return whether it had another.

    Counts of right answers follow, and the hidden state is marked to be rebuilt from the remembered answers. Ability
    stays: one answer among many hardly moves it. An answer that is no longer remembered stays as it was.

    Args:
        records: Users, `(U,)`.
        rows: Whose answer it is, each user at most once, `(B,)`.
        event: Hashes of the answers' event ids, `(B,)`.
        correct: What the outcomes are now, `(B,)`.
        concepts: Keys of topic and skills, each once, 0 where a row has fewer, `(B, C)`.
    """
    known = records["answer_id"][rows] == id48(event)[:, None]
    is_known = known.all(axis=2)  # (B, R)
    place = is_known.argmax(axis=1)
    flags = records["answer_flags"][rows, place]
    changed: NDArray[np.bool_] = is_known.any(axis=1) & (((flags & _CORRECT) > 0) != correct)
    who, at, now = rows[changed], place[changed], correct[changed]
    flags = flags[changed]
    records["answer_flags"][who, at] = np.where(now, flags | _CORRECT, flags & ~np.uint8(_CORRECT))
    step = np.where(now, 1, -1)
    records["correct"][who] += step.astype(np.uint32)
    level = (flags >> 2).astype(np.int64) - 1
    of_level = level >= 0
    records["level_correct"][who[of_level], level[of_level]] += step[of_level].astype(np.uint32)
    for column in concepts[changed].T:
        held, is_met = find_concepts(records["concept"][who], column)
        is_met &= column != 0
        one, where = who[is_met], held[is_met]
        # It may have been forgotten and met again since, or halved.
        most = records["concept_answers"][one, where].astype(np.int64)
        moved = records["concept_correct"][one, where].astype(np.int64) + step[is_met]
        records["concept_correct"][one, where] = np.clip(moved, 0, most)
    records["hidden_format"][who] = 0
    return changed


def _columns(*columns: NDArray[Any]) -> NDArray[np.uint32]:
    """Return the lower 32 bits of columns side by side, `(B, columns)`."""
    side_by_side = np.empty((len(columns), len(columns[0])), np.uint32)
    for row, column in zip(side_by_side, columns, strict=True):
        row[:] = column
    return side_by_side.T


def find_concepts(concepts: NDArray[np.uint64], key: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the place of a key among the concepts of each row, `(N,)`, and whether it has been met lately at all."""
    found = concepts == key[:, None]  # (N, CONCEPTS)
    place = found.argmax(axis=1)
    return place, found[np.arange(len(place)), place]


def _count_concepts(
    records: Records,
    rows: NDArray[np.int64],
    key: NDArray[np.uint64],
    kind: NDArray[np.uint8],
    counted: NDArray[np.uint16],
    time_s: NDArray[np.float32],
    at: NDArray[np.uint32],
) -> None:
    """Count one answer under a concept of each of `rows`, in place; the longest unmet gives way to a new one."""
    of_concepts = joined(records)["concept"]
    concepts = records["concept"][rows]
    place, is_known = find_concepts(concepts, key)
    if not is_known.all():
        new = (~is_known).nonzero()[0]
        who = rows[new]
        # Unused places go first; times alone would not tell them from a concept met in 1970, as files of relative
        # seconds have it.
        met_at = np.where(concepts[new] != 0, records["concept_at"][who].astype(np.int64), -1)
        place[new] = met_at.argmin(axis=1)
        records["concept"][who, place[new]] = key[new]
        of_concepts[who, :, place[new]] = 0
        for field in ("concept_time_s", "concept_at", "concept_kind"):
            records[field][who, place[new]] = 0
    records["concept_kind"][rows, place] |= kind
    records["concept_time_s"][rows, place] += time_s
    records["concept_at"][rows, place] = np.maximum(records["concept_at"][rows, place], at)
    of_concepts[rows, :, place] += counted
    full = (of_concepts[rows, 0, place] >= _COUNT_LIMIT).nonzero()[0]
    if len(full):
        of_concepts[rows[full], :, place[full]] //= 2
        records["concept_time_s"][rows[full], place[full]] /= 2


def encode_times(time_s: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return response times as bytes on a logarithmic scale."""
    return np.minimum((_TIME_STEPS_PER_E * np.log1p(10 * time_s)).round(), 255).astype(np.uint8)


def decode_times(code: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the response times, in seconds, that bytes stand for."""
    return _DECODED_TIMES[code]


_DECODED_TIMES = (np.expm1(np.arange(256, dtype=np.uint8) / _TIME_STEPS_PER_E) / 10).astype(np.float32)


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
