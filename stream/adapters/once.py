"""
One answer, once; and how long it took, where only the user's events together say so.

What is remembered is bounded, in memory, and follows from the events before: whoever reads them again remembers the
same.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from schemas.events import PASS_SCORE
from stream.adapters.conversion import Conversion, Made
from stream.adapters.fields import derived, name

TOGETHER_S: Final = 60.0
"""Two witnesses of one answer are this far apart at most: a browser's clock may be off, a grade takes its time."""

SAME_ATTEMPT_S: Final = 86_400.0
"""So far apart at most where both name the same attempt: after a reset attempts are counted anew."""

ECHO_S: Final = 1.0
"""One witness that names the same attempt once more this soon has logged it twice, as old servers of Open edX did."""

OPENED_LIMIT_S: Final = 1_800.0
"""After so long nobody has looked at an item all the while."""

SAME_STATUS_S: Final = 86_400.0
"""A status that comes again within this time is the same one, where nobody says of which attempt it is."""

RESENT, TWIN, VOIDED = "sent again", "another statement of one answer", "voided"
UNCHANGED = "a status that has not changed"

_MEETINGS: Final = 50_000
"""Of users with items, some 40 MB: a thousand users in the midst of a quiz of fifty questions."""

_ANSWERS: Final = 6  # of one user to one item
_SAID: Final = 100_000
_VOIDED: Final = 10_000
_DIGITS: Final = 3
_TOLD_BY: Final = ("item_id", "assessment_id", "course_id", "correct", "score", "outcome")

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Bounded(OrderedDict[K, V], Generic[K, V]):
    """A mapping that forgets what was put in first, or not touched for longest."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: K, value: V) -> None:
        """Add or replace, as the newest."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


@dataclass(slots=True)
class _Answered:
    """
    One answer.

    Attributes:
        at: When, seconds since the epoch.
        correct: Its outcome.
        attempt: Which it is, empty where nobody says so.
        witnesses: Who has spoken of it.
        told_at: When it was spoken of last, of a status, which is said again and again.
    """

    at: float
    correct: bool
    attempt: str
    witnesses: set[str]
    told_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.told_at = self.at

    def is_told_by(self, witness: str, other: "_Answered") -> bool:
        """Return whether another statement is of this answer too; each witness speaks of it once, but for echoes."""
        if self.correct is not other.correct:
            return False
        is_echo, apart_s = witness in self.witnesses, abs(other.at - self.at)
        if self.attempt and other.attempt:
            return self.attempt == other.attempt and apart_s <= (ECHO_S if is_echo else SAME_ATTEMPT_S)
        return not is_echo and apart_s <= TOGETHER_S

    def may_be_of(self, attempt: str) -> bool:
        """Return whether nothing says that an answer is of another attempt than this one."""
        return not self.attempt or not attempt or self.attempt == attempt

    def is_still(self, status: "_Answered") -> bool:
        """Return whether a status of the same attempt says nothing new; an attempt that is named may last."""
        if self.correct is not status.correct:
            return False
        is_named = bool(self.attempt and status.attempt)
        return is_named or max(self.at - status.at, status.at - self.told_at) <= SAME_STATUS_S


@dataclass(slots=True)
class _Meeting:
    """A user and an item: when it was last shown, and the latest answers in the order in which they came."""

    opened_at: float | None = None
    answers: list[_Answered] = field(default_factory=list)

    def show(self, at: float) -> None:
        """Remember that the item was shown; events may come out of order."""
        self.opened_at = at if self.opened_at is None else max(self.opened_at, at)

    def repeated(self, status: _Answered) -> _Answered | None:
        """Return the answer that a status says once more: of its attempt the last before it, or the next after it."""
        known = [each for each in self.answers if each.may_be_of(status.attempt)]
        before = max((each for each in known if each.at <= status.at), key=attrgetter("told_at"), default=None)
        after = min((each for each in known if each.at > status.at), key=attrgetter("at"), default=None)
        return next((each for each in (before, after) if each is not None and each.is_still(status)), None)

    def took_s(self, at: float) -> float | None:
        """Return the seconds since the item was shown, None if it was not, or was answered since; serves once."""
        opened_at = self.opened_at
        if opened_at is None or opened_at >= at:
            return None
        self.opened_at = None
        return None if any(opened_at <= answer.at < at for answer in self.answers) else at - opened_at


class Once:
    """
    What is remembered of the users' events so far.

    Args:
        opened_limit_s: Seconds after which an item that was opened tells nothing of how long its answer took; 0: never.
    """

    def __init__(self, opened_limit_s: float = OPENED_LIMIT_S) -> None:
        self._opened_limit_s = opened_limit_s
        self._meetings: _Bounded[tuple[str, str], _Meeting] = _Bounded(_MEETINGS)
        # By their hashes: two that are alike by chance are one in a million years.
        self._said: _Bounded[int, None] = _Bounded(_SAID)
        self._ids: _Bounded[int, None] = _Bounded(_SAID)
        self._voided: _Bounded[str, None] = _Bounded(_VOIDED)

    def take_back(self, event_id: str) -> None:
        """Remember that the platform has taken an event back: it is left out if it comes later."""
        self._voided.put(event_id, None)

    def sift(self, conversion: Conversion) -> tuple[list[Made], list[str]]:
        """
        Return what of a conversion is new, and why the rest is left out.

        An answer that does not say how long it took gets the time since the user was last shown its item, marked by
        `metadata.duration_derived`; an event under an id that has said something else gets an id of its own. Events
        are changed in place.
        """
        kept: list[Made] = []
        left_out: list[str] = []
        for made in conversion.made:
            why = self._why_not(made)
            if why:
                left_out.append(why)
            else:
                kept.append(made)
        for opened in conversion.opened:
            self._meeting(opened.user_id, opened.item_id).show(opened.at)
        return kept, left_out

    def _why_not(self, made: Made) -> str:
        """Return why an event is left out, empty if it is not; takes note of it."""
        event = made.event
        event_id = event["event_id"]
        if self._voided and (event_id in self._voided or event_id.rpartition("/")[0] in self._voided):
            return VOIDED
        kind = event["type"]
        # What names no time has that of its message, which is another when it is sent again.
        at = None if event["metadata"].get("timestamp_derived") else event["timestamp"]
        said = (event_id, kind, event["user_id"], at, *map(event.get, _TOLD_BY))
        if hash(said) in self._said:
            return RESENT
        self._said.put(hash(said), None)
        if hash(event_id) in self._ids:
            # Some platforms give one id to several things, of which readers would know the first only.
            event["event_id"] = name(f"{event_id}/{derived(*said)[:8]}")
        self._ids.put(hash(event_id), None)
        if kind == "quiz_complete":
            return self._answer(made, event)
        if kind == "resource_view" and made.tells_time and "item_id" in event:
            self._meeting(event["user_id"], event["item_id"]).show(_seconds(event))
        return ""

    def _answer(self, made: Made, event: dict[str, Any]) -> str:
        item_id = event.get("item_id")
        if item_id is None:
            return ""
        meeting = self._meeting(event["user_id"], item_id)
        correct = event.get("correct")
        now = _Answered(
            _seconds(event), event["score"] >= PASS_SCORE if correct is None else correct, made.attempt, {made.witness}
        )
        said_before = meeting.repeated(now) if made.is_status else None
        if said_before is not None:
            # Who says of which attempt it is says so of all that was said before.
            said_before.attempt = said_before.attempt or now.attempt
            said_before.told_at = max(said_before.told_at, now.at)
            return UNCHANGED
        if made.witness and not made.is_status:
            known = next((each for each in meeting.answers if each.is_told_by(made.witness, now)), None)
            if known is not None:
                known.witnesses.add(made.witness)
                return TWIN
        took_s = meeting.took_s(now.at) if made.tells_time else None
        meeting.answers = [*meeting.answers, now][-_ANSWERS:]
        if took_s is not None and took_s <= self._opened_limit_s and "duration_seconds" not in event:
            event["duration_seconds"] = round(took_s, _DIGITS)
            event["metadata"]["duration_derived"] = True
        return ""

    def _meeting(self, user_id: str, item_id: str) -> _Meeting:
        key = (user_id, item_id)
        meeting = self._meetings.get(key)
        if meeting is None:
            meeting = _Meeting()
        self._meetings.put(key, meeting)
        return meeting


def _seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()
