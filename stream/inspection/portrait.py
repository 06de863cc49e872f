"""
One user's records, as JSON has them: counts, beliefs, names, weeks. Pure.

The records themselves are `stream.state.learner`'s and `stream.state.academic`'s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas import ModelRollout
from stream.pipeline import format_tag
from stream.state import academic, codec, learner
from stream.state.learner import key64

Portrait = dict[str, Any]
"""What is known of a user, as JSON has it; a value that is not known is None."""

_Number = float | NDArray[Any]
"""A number, or what numpy has of one."""

_LOW_BITS: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Stored:
    """
    What changelogs hold of a user.

    Attributes:
        learner: The record that counts, as bytes; None if there is none.
        academic: The same of what a school recorded.
        names: Of topics, skills and facts that the partition has met.
    """

    learner: bytes | None
    academic: bytes | None
    names: Sequence[str] = ()


def latest(
    values: Sequence[bytes], decode: Callable[[Sequence[bytes]], learner.Records], seen: Sequence[str]
) -> bytes | None:
    """
    Return the record that counts: the one that has seen most, as recovery keeps it; of equal ones the later.

    Args:
        values: As they were written; none for None.
        decode: Values into records.
        seen: Fields that say what a record has seen, the most significant first.
    """
    if not values:
        return None
    records = decode(values)
    return values[max(range(len(values)), key=lambda n: (*(records[field][n] for field in seen), n))]


def described(stored: Stored, rollout: ModelRollout | None, remembered: int, *, is_whole: bool = True) -> Portrait:
    """
    Return what is stored of a user, as JSON has it. Pure.

    Args:
        stored: By the changelogs.
        rollout: What is announced of the knowledge model, which hidden states may be of.
        remembered: Answers that are remembered of a user.
        is_whole: Whether all announcements were read; if not, there may be a later one.
    """
    names = _Names(stored.names)
    record = codec.decode_learners([stored.learner], remembered)
    step = codec.decode_academics([stored.academic])
    markers = [stored.learner is None or _is_erased(record), stored.academic is None or _is_erased(step)]
    row = record[0]
    return {
        "erased": all(markers),
        "seen": {
            "interactions": _offset(row["seen"]),
            "academics": _offset(step[0]["seen"]),
            "erasures": _offset(max(row["erasure_seen"], step[0]["erasure_seen"])),
        },
        "size_bytes": {"learners": len(stored.learner or b""), "academics": len(stored.academic or b"")},
        "history": _history(row),
        "ability": _belief(row, "ability"),
        "speed": _belief(row, "speed"),
        "topics": _concepts(row, learner.IS_TOPIC, names),
        "skills": _concepts(row, learner.IS_SKILL, names),
        "remembered": _remembered(record, names),
        "hidden": _hidden(int(row["hidden_format"]), rollout, is_whole=is_whole),
        "academics": _academics(step[0], names) if step[0]["events"] else None,
    }


def _is_erased(record: learner.Records) -> bool:
    return bool((record["erasure_seen"][0] >= 0) & (record["last_at"][0] == 0))


class _Names:
    """The names behind keys, and behind their low 32 bits."""

    def __init__(self, names: Sequence[str]) -> None:
        self._of = {key64(name): name for name in names}
        self._of_low = {key & _LOW_BITS: name for key, name in self._of.items()}

    def of(self, key: int) -> str:
        """Return the name of a key; the key itself, in hexadecimal, if it was never met."""
        return self._of.get(key) or f"{key:016x}"

    def of_low(self, bits: int) -> str:
        """Return the name of the low bits of a key."""
        return self._of_low.get(bits) or f"{bits:08x}"


def _offset(offset: int) -> int | None:
    return None if offset < 0 else int(offset)


def _moment(seconds: _Number) -> str | None:
    return datetime.fromtimestamp(float(seconds), UTC).isoformat() if seconds > 0 else None


def _share(part: _Number, of: _Number) -> float | None:
    return round(float(part) / float(of), 4) if of else None


def _history(row: learner.Records) -> Portrait:
    return {
        "answers": int(row["answers"]),
        "correct_share": _share(row["correct"], row["answers"]),
        "mean_seconds": _share(row["time_s"], row["timed"]),
        "views": int(row["views"]),
        "feedback": int(row["feedback"]),
        "last_at": _moment(row["last_at"]),
        "by_difficulty": {
            name: {
                "answers": int(row["level_answers"][level]),
                "correct_share": _share(row["level_correct"][level], row["level_answers"][level]),
                "mean_seconds": _share(row["level_time_s"][level], row["level_timed"][level]),
            }
            for level, name in enumerate(learner.DIFFICULTIES)
            if row["level_answers"][level]
        },
    }


def _belief(row: learner.Records, name: str) -> Portrait:
    return {"mean": round(float(row[name]), 4), "deviation": round(float(row[f"{name}_var"]) ** 0.5, 4)}


def _concepts(row: learner.Records, kind: int, names: _Names) -> list[Portrait]:
    """Return the topics or skills that were met lately, the latest first."""
    places = [
        n for n in np.argsort(-row["concept_at"].astype(np.int64), kind="stable") if row["concept_kind"][n] & kind
    ]
    return [
        {
            "name": names.of(int(row["concept"][n])),
            "answers": int(row["concept_answers"][n]),
            "correct_share": _share(row["concept_correct"][n], row["concept_answers"][n]),
            "mean_seconds": _share(row["concept_time_s"][n], row["concept_timed"][n]),
            "last_at": _moment(row["concept_at"][n]),
        }
        for n in places
    ]


def _remembered(record: learner.Records, names: _Names) -> list[Portrait]:
    """Return the remembered answers, the oldest first; of an item only its key is kept."""
    kept = learner.remembered(record)
    first = kept.item.shape[1] - int(kept.count[0])
    return [
        {
            "at": _moment(kept.at[0, n]),
            "skill": names.of_low(int(kept.skill[0, n])),
            "item_key": f"{int(kept.item[0, n]):08x}" if kept.item[0, n] else None,
            "correct": bool(kept.correct[0, n]),
            "seconds": None if np.isnan(kept.response_time_s[0, n]) else round(float(kept.response_time_s[0, n]), 1),
        }
        for n in range(first, kept.item.shape[1])
    ]


def _hidden(tag: int, rollout: ModelRollout | None, *, is_whole: bool) -> Portrait | None:
    """Return whose hidden state a record holds; None if it holds none, and is rebuilt when the user next appears."""
    if not tag:
        return None
    announced = [] if rollout is None else [rollout.champion, rollout.challenger, rollout.previous]
    reads = [each for each in announced if each is not None and format_tag(each.state_format) == tag]
    format_, version = (reads[0].state_format, reads[0].version) if reads else (None, None)
    return {"format": format_, "version": version, "tag": f"{tag:08x}", "whole": is_whole}


def _academics(row: academic.Records, names: _Names) -> Portrait:
    week = int(row["week"])
    kept = [w for w in range(max(week + 1 - academic.WEEKS, 1), week + 1) if row["counts"][w % academic.WEEKS].any()]
    outcome = int(row["outcome"])
    return {
        "events": int(row["events"]),
        "last_at": _moment(row["last_at"]),
        "outcome": academic.OUTCOMES[outcome - 1] if outcome else None,
        "enrolment": [names.of(int(key)) for key in row["fact"] if key],
        "starts": _day(int(row["starts_day"])),
        "weeks": [
            {"monday": _monday(w)} | _counts(row["counts"][w % academic.WEEKS], row["sums"][w % academic.WEEKS])
            for w in kept
        ],
        "before": _counts(row["before_counts"], row["before_sums"]) or None,
    }


def _counts(counts: NDArray[Any], sums: NDArray[Any]) -> Portrait:
    """Return what was counted, and the mean score where work was graded."""
    found: Portrait = {name: int(counts[place]) for name, place in academic.COUNT.items() if counts[place]}
    graded = int(counts[academic.COUNT["graded"]])
    return found | ({"mean_score": _share(sums[academic.SUM["score"]], graded)} if graded else {})


def _day(day: int) -> str | None:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat() if day else None


def _monday(week: int) -> str | None:
    return _day(int(academic.first_day(np.int64(week))))  # type: ignore[arg-type]
