"""
What becomes of one foreign event: events of ours, or the name of what was ignored.

Pure values, and the makers of the events, so that all families write them alike. How a foreign value is read stands in
`stream.adapters.fields`; two statements of one answer meet in `stream.adapters.once`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Protocol

Topic = Literal["interactions", "academics"]
"""The catalog's name of a topic."""

Event = dict[str, Any]
"""An event of ours as plain JSON values, without nulls."""

KIND: Final = re.compile(r"[A-Za-z0-9_.\-()\\/: ]{1,100}")
"""What a kind may be called: it labels a count, and goes on in `metadata`."""

OTHER: Final = "other"
"""The kind of whatever its sender calls otherwise."""


class Made(NamedTuple):
    """
    One event of ours.

    Attributes:
        topic: Where it belongs.
        event: As `schemas.events` describes it.
        witness: Of an answer: what said so (`evaluated`, `server`). Two answers of one user to one item that come close
            together and with the same outcome, but from two witnesses, are one; from one witness, they are two.
        attempt: Of an answer: which attempt at the item it is, as both witnesses name it; empty where they do not.
        tells_time: Whether it may begin or end a response time: a view of a solution may not, nor a result that came
            without the user's doing.
        is_status: Of an answer: whether it says how things stand (a lesson is passed), which platforms say again
            whenever they like. It counts where that has changed since it was said last, or is of another attempt.
    """

    topic: Topic
    event: Event
    witness: str = ""
    attempt: str = ""
    tells_time: bool = True
    is_status: bool = False


class Opened(NamedTuple):
    """
    That a user was shown an item.

    Attributes:
        user_id: Whom.
        item_id: What, as the answer to it will name it.
        at: When, seconds since the epoch.
    """

    user_id: str
    item_id: str
    at: float


@dataclass(frozen=True, slots=True)
class Conversion:
    """
    What became of one foreign event.

    Attributes:
        made: Events of ours, in their order.
        ignored: What it was, where it is no evidence of learning, as `kind_of` has it; empty otherwise.
        opened: Items that it showed to users.
        voids: Id of an earlier foreign event that it takes back.
    """

    made: tuple[Made, ...] = ()
    ignored: str = ""
    opened: tuple[Opened, ...] = ()
    voids: str = ""


class Carried(NamedTuple):
    """
    What a transport says of an event.

    Attributes:
        kind: Its type (a CloudEvent's), empty where it has none.
        at: When it was sent, aware; None where that is not said.
    """

    kind: str = ""
    at: datetime | None = None


UNSAID: Final = Carried()


class Family(Protocol):
    """
    A module that knows one family of platforms.

    `parts` of an envelope gives what is in it with its place, None where the event is no envelope.
    """

    def is_one(self, event: Mapping[str, Any]) -> bool:
        """Return whether a JSON object looks like an event, or an envelope, of this family."""

    def parts(self, event: Mapping[str, Any]) -> Sequence[tuple[str, Any]] | None:
        """Return the events of an envelope with their places in it (`data.0`), None if it is none."""

    def convert(self, event: Mapping[str, Any], carried: Carried = UNSAID) -> Conversion:
        """
        Convert one event.

        Args:
            event: A JSON object.
            carried: What the transport says of it; of use where the event does not say so itself.

        Raises:
            InvalidEvent: If it should say something about learning, and a field that this needs is not as it should be.
        """


class Occasion(NamedTuple):
    """
    What an event has, whatever it says.

    Attributes:
        event_id: Stable over re-sends.
        user_id: The learner's.
        at: When it happened, aware.
        metadata: `format`, `kind` and other plain things that are no personal data.
    """

    event_id: str
    user_id: str
    at: datetime
    metadata: dict[str, Any]


def kind_of(said: str) -> str:
    """Return what its sender calls an event, where that is a plain name; senders may write anything there."""
    return said if KIND.fullmatch(said) else OTHER


def ignored(kind: str, opened: tuple[Opened, ...] = (), voids: str = "") -> Conversion:
    """Return that an event is no evidence of learning, and what else it says."""
    return Conversion((), kind_of(kind), opened, voids)


def answer(
    occasion: Occasion,
    item_id: str,
    topic_id: str,
    *,
    correct: bool | None,
    score: float | None = None,
    duration_s: float | None = None,
    skills: Sequence[str] = (),
) -> Event:
    """
    Return an answer; one of `correct` and `score` must be known.

    Args:
        occasion: Who, when.
        item_id: What was answered.
        topic_id: What it is about.
        correct: Whether it was right, None where only the score says so.
        score: In [0, 1].
        duration_s: Seconds that the answer took, as the event itself says.
        skills: It needs; empty for the topic.
    """
    return _made(
        occasion, type="quiz_complete", topic_id=topic_id, item_id=item_id, skills=list(skills) or None, score=score,
        correct=correct, duration_seconds=duration_s,
    )  # fmt: skip


def view(occasion: Occasion, item_id: str, topic_id: str, duration_s: float | None = None) -> Event:
    """Return that a learner saw something; `duration_s` is how long, in seconds, where the event says so."""
    return _made(occasion, type="resource_view", topic_id=topic_id, item_id=item_id, duration_seconds=duration_s)


def grade(
    occasion: Occasion,
    assessment_id: str | None,
    score: float | None,
    max_score: float | None,
    *,
    course_id: str | None = None,
    weight: float | None = None,
    days_late: float | None = None,
) -> Event:
    """
    Return a grade, or work that was handed in and has none yet.

    Args:
        occasion: Who, when.
        assessment_id: What is graded.
        score: As the platform says it, brought within 0 and `max_score`; None for no grade yet.
        max_score: The best that there is; None for 100.
        course_id: Of the assessment.
        weight: Share of the course's grade, in [0, 1].
        days_late: Negative where it was handed in early.
    """
    made = _made(
        occasion, type="grade_recorded", assessment_id=assessment_id, max_score=max_score, course_id=course_id,
        weight=weight, days_late=days_late,
    )  # fmt: skip
    if score is not None:
        # Penalties and bonus points go beyond the bounds.
        score = max(score, 0.0) if max_score is None else min(max(score, 0.0), max_score)
    # The one field whose null says something.
    made["score"] = score
    return made


def record(occasion: Occasion, kind: str, **fields: Any) -> Event:  # noqa: ANN401 (plain JSON values)
    """Return another academic event of this type (`outcome_recorded`, `enrolment_recorded`, ...), nulls left out."""
    return _made(occasion, type=kind, **fields)


def _made(occasion: Occasion, **fields: Any) -> Event:  # noqa: ANN401 (plain JSON values)
    event: Event = {"event_id": occasion.event_id, "user_id": occasion.user_id, "timestamp": occasion.at.isoformat()}
    event |= {name: value for name, value in fields.items() if value is not None}
    if "kind" in occasion.metadata:
        occasion.metadata["kind"] = kind_of(occasion.metadata["kind"])
    event["metadata"] = occasion.metadata
    return event
