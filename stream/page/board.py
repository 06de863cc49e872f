"""
The page's memory: messages of topics in, a snapshot and users' paths out.

Pure: a moment is handed in, and nothing is read or written. All of it is bounded, however much comes and for however
long. What comes out is described in `stream.page.shape`, who reads the topics is `stream.page.feed`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from stream.emission import content
from stream.models.dkt import KNOWLEDGE
from stream.models.risk import RISK
from stream.page.bounded import Latencies, Latest
from stream.page.curves import Curves
from stream.page.forgotten import Forgotten, Place, named_in
from stream.page.glance import glance, without_features
from stream.page.lives import Life, moment
from stream.page.people import People, Risks
from stream.page.shape import Dead, Json, Progress, Quality, Snapshot, State, Totals, User
from stream.page.window import Window
from stream.ports import Record

ANSWERS: Final = "answers"
"""What a demo counts, unless it has none: then risk predictions of academic events."""

REMEMBERED: Final = 100_000
"""
Ids of each topic, 20 s at 5,000 a second: a killed worker's partitions move after STREAM_SESSION_TIMEOUT_S, and what it
had not committed is sent again; meanwhile others go on.
"""

_MOST_USERS_COUNTED: Final = 500_000
_MOST_DEAD: Final = 5
_FRESH_S: Final = 0.5
"""For which figures over the window are good: made at most twice a second."""

_QUIET_S: Final = 2.0
"""Without a message, after which a demo that has seen all is over."""


class Standing(NamedTuple):
    """
    How reading goes.

    Attributes:
        state: `ended` is the board's own to say.
        note: A sentence, None where there is nothing to say.
        skipped: Messages that were passed over.
    """

    state: State
    note: str | None = None
    skipped: int = 0


class Board:
    """
    What the page knows.

    Args:
        broker: Where it comes from, to be shown.
        group: The workers', to be shown.
        window: Answers over which quality goes.
        progress: Of a demo: how many there will be of what.
        prefix: Of the broker's names of topics.
    """

    def __init__(
        self, broker: str, group: str, window: int, progress: tuple[int, str] | None = None, prefix: str = ""
    ) -> None:
        self._broker, self._group, self._total, self._prefix = broker, group, progress, prefix
        self._counts = dict.fromkeys((ANSWERS, "correctness", "risk", "dead_letters", "fallbacks"), 0)
        self._scored = 0
        self._users: set[int] = set()
        self._forgotten = Forgotten()
        self._met = {topic: Latest(REMEMBERED) for topic in TOPICS}
        self._window = Window(window)
        self._quality: tuple[float, int, Quality] = (0.0, 0, self._window.quality())
        self._curves = Curves()
        self._new_answers = 0
        self._new_latencies_s: list[float] = []
        self._latencies = Latencies()
        self._people, self._risks = People(), Risks()
        self._lives = {name: Life(name) for name in (KNOWLEDGE, RISK)}
        self._dead: deque[tuple[frozenset[int], Dead]] = deque(maxlen=_MOST_DEAD)
        self._moved_at = 0.0
        self.unreadable = 0
        self._takers: dict[str, Callable[[Record, float], None]] = {
            "interactions": self._took_event,
            "academics": self._took_academic,
            "training-examples": self._took_example,
            "predictions.correctness": self._took_correctness,
            "predictions.risk": self._took_risk,
            "model-events": self._took_model_event,
            "model-updates": self._took_model_update,
            "dead-letters": self._took_dead_letter,
            "erasures": self._took_erasure,
        }

    def take(self, records: Iterable[Record], at: float) -> None:
        """
        Take note of messages, and complete the points that are due before them.

        Args:
            records: Their `topic` is the catalog's name; those of one partition in its order, partitions as they come.
            at: Now, or when they were written if they are read later.
        """
        self.advance(at)
        takers = self._takers
        for record in records:
            try:
                takers[record.topic](record, at)
            except (ValueError, KeyError, TypeError, AttributeError):
                self.unreadable += 1  # nothing that a worker writes; the page is no place to complain of it
            self._moved_at = at
        self._curves.add(self._new_answers, self._new_latencies_s, at)
        self._new_answers, self._new_latencies_s = 0, []

    def advance(self, at: float) -> None:
        """Complete the curves' points up to a moment."""
        if self._curves.is_due(at):
            self._curves.advance(at, self._current_quality(at))

    def snapshot(self, at: float, standing: Standing) -> Snapshot:
        """Return all that is shown but one user's path."""
        self.advance(at)
        progress = self._progress()
        state, note = standing.state, standing.note
        if state == "live" and progress is not None and self._is_over(progress, at):
            of_demo = f"all of the demo's {progress['total']:,} {progress['what']} are predicted"
            state, note = "ended", f"{of_demo}; what you send yourself is shown too"
        return {
            "at": at,
            "state": state,
            "note": note,
            "broker": self._broker,
            "group": self._group,
            "skipped": standing.skipped,
            "progress": progress,
            "totals": self._totals(),
            "rate": self._curves.rate(at),
            "series": self._curves.points,
            "swaps": sorted(
                (swap for life in self._lives.values() for swap in life.swaps), key=lambda swap: swap["at"]
            ),
            "quality": self._current_quality(at, is_last=state == "ended"),
            "models": [life.state(at) for life in self._lives.values()],
            "heat": self._people.heat(at),
            "risk": self._risks.shown(),
            "dead": [dead for _, dead in self._dead],
            "active": self._people.active(),
        }

    def user(self, user_id: str) -> User | None:
        """Return one user's path, None of somebody who is not known."""
        known, risk = self._people.of(user_id), self._risks.of(user_id)
        forgotten = known is None and risk is None and user_id in self._forgotten
        if known is None and risk is None and not forgotten:
            return None
        return {
            "user_id": user_id,
            "answers": [past.as_json() for past in known.answers] if known else [],
            "mastery": known.mastery() if known else {},
            "risk": risk,
            "forgotten": forgotten,
        }

    def _totals(self) -> Totals:
        counts = self._counts
        return {
            "answers": counts[ANSWERS], "correctness": counts["correctness"], "risk": counts["risk"],
            "dead_letters": counts["dead_letters"], "fallbacks": counts["fallbacks"],
            "users": len(self._users),
        }  # fmt: skip

    def _progress(self) -> Progress | None:
        if self._total is None:
            return None
        total, what = self._total
        return {"done": min(total, self._counts[ANSWERS] if what == ANSWERS else self._scored), "total": total,
                "what": what}  # fmt: skip

    def _is_over(self, progress: Progress, at: float) -> bool:
        return progress["done"] >= progress["total"] and at - self._moved_at > _QUIET_S

    def _current_quality(self, at: float, *, is_last: bool = False) -> Quality:
        """Return the window's figures, not made anew for every look."""
        made_at, changes, quality = self._quality
        if changes != self._window.changes and (is_last or not 0 <= at - made_at < _FRESH_S):
            quality = self._window.quality()
            self._quality = at, self._window.changes, quality
        return quality

    def _is_forgotten(self, said: Json) -> bool:
        """Return whether what came of an event is not to be shown."""
        if not self._forgotten:
            return False
        source = said["source"]
        return self._forgotten.covers(said["user_id"], Place(source["topic"], source["partition"], source["offset"]))

    def _count_user(self, user_id: str) -> None:
        if len(self._users) < _MOST_USERS_COUNTED:
            self._users.add(hash(user_id))

    def _took_event(self, record: Record, at: float) -> None:
        self._took_academic(record, at)
        took_s = self._latencies.sent(record.partition, record.offset, record.timestamp_s)
        if took_s is not None:
            self._new_latencies_s.append(took_s)

    def _took_academic(self, record: Record, at: float) -> None:  # noqa: ARG002 (one of several that are called alike)
        if self._forgotten:
            place = Place(self._prefix + record.topic, record.partition, record.offset)
            self._forgotten.happened(record.key, place, record.timestamp_s)

    def _took_example(self, record: Record, at: float) -> None:
        if record.value is None:
            return
        example = content(without_features(record.value))
        kind = example.get("type", "answer")
        if kind == "correction":
            self._window.correct(example["example_id"], example["correct"])
            self._people.corrected(example["user_id"], example["example_id"], example["correct"])
        if kind != "answer" or not self._met[record.topic].is_new(example["example_id"]):
            return
        self._window.add(
            example["example_id"], example["correct"], example["p_before"], example["p_before_fallback"],
            example["response_time_seconds"], example["median_before"], example["median_before_fallback"],
            example["model"]["version"],
        )  # fmt: skip
        self._counts[ANSWERS] += 1
        self._new_answers += 1
        if not self._is_forgotten(example):
            self._count_user(example["user_id"])
            self._people.answered(example, at)

    def _took_correctness(self, record: Record, at: float) -> None:
        if record.value is None or record.key is None:
            return
        seen = glance(record.value)
        if not self._met[record.topic].is_new(seen.id_):
            return
        self._counts["correctness"] += 1
        self._counts["fallbacks"] += seen.is_fallback
        took_s = self._latencies.said(seen.partition, seen.offset, record.timestamp_s)
        if took_s is not None:
            self._new_latencies_s.append(took_s)
        user_id = record.key.decode()
        place = self._prefix + "interactions", seen.partition, seen.offset
        if not self._forgotten or not self._forgotten.covers(user_id, Place(*place)):
            self._count_user(user_id)
            self._people.touch(user_id, at).said = record.value

    def _took_risk(self, record: Record, at: float) -> None:  # noqa: ARG002 (one of several that are called alike)
        if record.value is None:
            return
        prediction = content(record.value)
        if not self._met[record.topic].is_new(prediction["prediction_id"]):
            return
        self._counts["risk"] += 1
        self._scored += prediction["reason"] == "academics"
        if not self._is_forgotten(prediction):
            self._count_user(prediction["user_id"])
            self._risks.said(prediction)

    def _took_model_event(self, record: Record, at: float) -> None:  # noqa: ARG002 (one of several that are called alike)
        if record.value is None:
            return
        event = content(record.value)
        life = self._lives.get(event["name"])
        if life is not None and self._met[record.topic].is_new(event["event_id"]):
            life.happened(event)

    def _took_model_update(self, record: Record, at: float) -> None:  # noqa: ARG002 (one of several that are called alike)
        if record.value is None:
            return
        rollout = content(record.value)
        life = self._lives.get(rollout["name"])
        if life is not None:
            life.announced(rollout)

    def _took_dead_letter(self, record: Record, at: float) -> None:  # noqa: ARG002 (one of several that are called alike)
        if record.value is None:
            return
        letter = content(record.value)
        if not self._met[record.topic].is_new(letter["dead_letter_id"]):
            return
        self._counts["dead_letters"] += 1
        names, place = named_in(letter), Place(letter["topic"], letter["partition"], letter["offset"])
        if any(self._forgotten.covers_hashed(name, place) for name in names):
            return
        dead: Dead = {
            "at": moment(letter["recorded_at"]), "reason": letter["reason"], "topic": letter["topic"],
            "partition": letter["partition"], "offset": letter["offset"], "detail": letter["detail"],
        }  # fmt: skip
        self._dead.append((names, dead))

    def _took_erasure(self, record: Record, at: float) -> None:  # noqa: ARG002 (one of several that are called alike)
        if record.value is None:
            return
        user_id = content(record.value)["user_id"]
        known = hash(user_id)
        self._forgotten.wished(user_id, record.timestamp_s)
        self._users.discard(known)
        self._people.forget(user_id)
        self._risks.forget(user_id)
        for dead in [dead for dead in self._dead if known in dead[0]]:
            self._dead.remove(dead)


TOPICS: Final = (
    "interactions",
    "academics",
    "training-examples",
    "predictions.correctness",
    "predictions.risk",
    "model-events",
    "model-updates",
    "dead-letters",
    "erasures",
)
"""The catalog's names of what the page reads."""
