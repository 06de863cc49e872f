"""
A small world for tests: events of learners, and the worker's core around dictionaries instead of tables.

No Kafka and no Faust: `Core` does what the agents do with a batch, records going through the codec each time.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import strategies as st

from schemas import (
    TOPICS,
    Academic,
    CorrectnessPrediction,
    ExampleCorrection,
    Interaction,
    RiskExample,
    RiskPrediction,
    TimePrediction,
    TrainingExample,
    decode_academic,
    decode_interaction,
)
from stream import pipeline
from stream.intake import Accepted
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.pipeline import Models, Outcome, RiskModels, Users
from stream.ports import Message, Predictor, Record
from stream.state import codec
from stream.state.arrays import Rows
from stream.state.beside import new_states
from stream.state.names import Names

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
"""A Monday."""

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPIC_NAMES = ("fractions", "decimals", "ratios", "angles", "area", "volume")

PREDICTIONS = ("predictions.correctness", "predictions.time", "predictions.risk")


def moment(after_s: float) -> str:
    """Return a moment so many seconds after the start, to the millisecond."""
    return (START + timedelta(milliseconds=round(after_s * 1000))).isoformat(timespec="milliseconds")


def interaction(user: str = "u-1", at_s: float = 0.0, **changes: Any) -> Interaction:
    """Return an answer as the worker reads it, some fields changed; None leaves a field out."""
    event = {
        "type": "quiz_complete",
        "user_id": user,
        "topic_id": "fractions",
        "item_id": "i-1",
        "difficulty": "medium",
        "correct": True,
        "duration_seconds": 30.0,
        "timestamp": moment(at_s),
    } | changes
    return decode_interaction(orjson.dumps({name: value for name, value in event.items() if value is not None}))


def view(user: str = "u-1", at_s: float = 0.0, **changes: Any) -> Interaction:
    """Return a view of a resource."""
    return interaction(user, at_s, **({"type": "resource_view", "correct": None, "difficulty": None} | changes))


def grade(user: str = "u-1", at_s: float = 0.0, **changes: Any) -> Academic:
    """Return a grade, or another academic event by its `type` and fields."""
    event = {"type": "grade_recorded", "user_id": user, "score": 70, "timestamp": moment(at_s)} | changes
    # Only work has a score that is null: it is not graded yet.
    known = {name: value for name, value in event.items() if value is not None or event["type"] == "grade_recorded"}
    return decode_academic(json.dumps(known).encode())


def attendance(at_s: float = 0.0, status: str = "present", **changes: Any) -> Academic:
    """Return whether a user was at a lecture."""
    return grade(at_s=at_s, **({"type": "attendance_recorded", "score": None, "status": status} | changes))


def incident(at_s: float = 0.0, severity: str = "minor", **changes: Any) -> Academic:
    """Return an incident."""
    return grade(at_s=at_s, **({"type": "discipline_recorded", "score": None, "severity": severity} | changes))


def overdue(at_s: float = 0.0, assessment_id: str = "a-1", **changes: Any) -> Academic:
    """Return that a piece of work was not handed in in time."""
    fields = {"type": "work_overdue", "score": None, "assessment_id": assessment_id}
    return grade(at_s=at_s, **(fields | changes))


def enrolment(at_s: float = 0.0, **changes: Any) -> Academic:
    """Return an enrolment."""
    return grade(at_s=at_s, **({"type": "enrolment_recorded", "score": None, "course_id": "c-1"} | changes))


def ended(at_s: float = 0.0, how: str = "pass", **changes: Any) -> Academic:
    """Return how a course ended."""
    return grade(at_s=at_s, **({"type": "outcome_recorded", "score": None, "outcome": how} | changes))


def answers(count: int, user: str = "u-1", every_s: float = 60.0, **changes: Any) -> list[Interaction]:
    """Return answers of one user at regular times, each to an item of its own."""
    return [interaction(user, i * every_s, **({"item_id": f"i-{i}"} | changes)) for i in range(count)]


def placed(events: Iterable[Interaction], first: int = 0) -> list[Accepted[Interaction]]:
    """Return events with their places in a partition, from an offset on."""
    return [
        Accepted(Record("interactions", 0, first + i, event.user_id.encode(), None, 0.0), event)
        for i, event in enumerate(events)
    ]


def placed_academics(events: Iterable[Academic], first: int = 0) -> list[Accepted[Academic]]:
    """Return academic events with their places in a partition, from an offset on."""
    return [
        Accepted(Record("academics", 0, first + i, event.user_id.encode(), None, 0.0), event)
        for i, event in enumerate(events)
    ]


class Core:
    """The worker's core, its tables dictionaries of packed records."""

    def __init__(
        self,
        predictor: Predictor | None = None,
        remembered: int = 100,
        latest_topics: int = 3,
        items: ItemTable | None = None,
        challenger: Predictor | None = None,
        share: float = 0.0,
        rebuild_answers: int = 5_000,
        risk: RiskModels | None = None,
    ) -> None:
        fallback = Fallback("knowledge")
        self.models = Models(
            predictor or fallback, fallback, items or ItemTable(), Names(), challenger, share, risk or RiskModels()
        )
        self.rebuild_answers = rebuild_answers
        self.beside = Rows(new_states(1, challenger.hidden_size)) if challenger is not None else None
        self.remembered = remembered
        self.latest_topics = latest_topics
        self.learners: dict[str, bytes] = {}
        self.academics: dict[str, bytes] = {}
        self.names: list[str] = []

    def restarted(self, predictor: Predictor | None = None, remembered: int | None = None) -> "Core":
        """Return what a new process makes of the same tables, perhaps with another model or setting."""
        other = Core(
            predictor or self.models.predictor, remembered or self.remembered, self.latest_topics, self.models.items,
            risk=self.models.risk,
        )  # fmt: skip
        other.learners, other.academics, other.names = dict(self.learners), dict(self.academics), list(self.names)
        other.models.names.restore(0, other.names)
        return other

    def users(self, names: Iterable[str]) -> Users:
        """Return the states of users."""
        users = list(dict.fromkeys(names))
        return Users(
            {user: row for row, user in enumerate(users)},
            codec.decode_learners([self.learners.get(user) for user in users], self.remembered),
            codec.decode_academics([self.academics.get(user) for user in users]),
            self.beside.gather([user.encode() for user in users]) if self.beside is not None else None,
        )

    def feed(self, batch: Sequence[Accepted[Interaction]]) -> Outcome:
        """Process a batch as the agent does, and keep the next states."""
        outcome = pipeline.survive(
            batch,
            self.users(accepted.event.user_id for accepted in batch),
            lambda part, users: pipeline.interactions(
                part, users, self.models, self.latest_topics, NOW, self.rebuild_answers
            ),
        )
        for user, row in outcome.users.row.items():
            self.learners[user] = codec.encode_learners(outcome.users.learners[row : row + 1])[0]
            if self.beside is not None and outcome.users.beside is not None:
                self.beside.scatter([user.encode()], [0], outcome.users.beside[row : row + 1])
        met = (name for accepted in batch for name in (accepted.event.topic_id, *accepted.event.skills))
        self.names += self.models.names.not_stored(0, met)
        return outcome

    def feed_academics(self, batch: Sequence[Accepted[Academic]]) -> Outcome:
        """Process a batch of academic events as the agent does, and keep the next states."""
        outcome = pipeline.survive(
            batch,
            self.users(accepted.event.user_id for accepted in batch),
            lambda part, users: pipeline.academics(part, users, self.models.risk, NOW),
        )
        for user, row in outcome.users.row.items():
            self.academics[user] = codec.encode_academics(outcome.users.academics[row : row + 1])[0]
        return outcome

    def feed_one_by_one(self, batch: Sequence[Accepted[Interaction]]) -> list[Message]:
        """Process each event as a batch of its own, and return all messages."""
        return [message for accepted in batch for message in self.feed([accepted]).messages]

    def learner(self, user: str = "u-1") -> Any:
        """Return a user's record, a row of `learner.Records`."""
        return self.users([user]).learners[0]

    def academic(self, user: str = "u-1") -> Any:
        """Return a user's academic record, a row of `academic.Records`."""
        return self.users([user]).academics[0]


def correctness(messages: Iterable[Message]) -> list[CorrectnessPrediction]:
    """Return the correctness predictions among messages."""
    return [
        CorrectnessPrediction.model_validate_json(m.value) for m in messages if m.topic == "predictions.correctness"
    ]


def times(messages: Iterable[Message]) -> list[TimePrediction]:
    """Return the time predictions among messages."""
    return [TimePrediction.model_validate_json(m.value) for m in messages if m.topic == "predictions.time"]


def risks(messages: Iterable[Message]) -> list[RiskPrediction]:
    """Return the risk predictions among messages."""
    return [RiskPrediction.model_validate_json(m.value) for m in messages if m.topic == "predictions.risk"]


def examples(messages: Iterable[Message]) -> list[TrainingExample]:
    """Return the training examples among messages."""
    of_topic = [TOPICS[m.topic].adapter.validate_json(m.value) for m in messages if m.topic == "training-examples"]
    return [example for example in of_topic if isinstance(example, TrainingExample)]


def risk_examples(messages: Iterable[Message]) -> list[RiskExample]:
    """Return the examples of closed weeks among messages."""
    of_topic = [TOPICS[m.topic].adapter.validate_json(m.value) for m in messages if m.topic == "training-examples"]
    return [example for example in of_topic if isinstance(example, RiskExample)]


def corrections(messages: Iterable[Message]) -> list[ExampleCorrection]:
    """Return the corrections of examples among messages."""
    of_topic = [TOPICS[m.topic].adapter.validate_json(m.value) for m in messages if m.topic == "training-examples"]
    return [correction for correction in of_topic if isinstance(correction, ExampleCorrection)]


def prediction_ids(messages: Iterable[Message]) -> list[str | None]:
    """Return the ids of the predictions among messages."""
    return [message.message_id for message in messages if message.topic in PREDICTIONS]


def check(messages: Iterable[Message]) -> None:
    """Hold every message to its topic's schema."""
    for message in messages:
        TOPICS[message.topic].adapter.validate_json(message.value)


@st.composite
def histories(draw: st.DrawFn, users: int = 3, max_size: int = 25) -> list[Interaction]:
    """Draw interactions of a few users: answers with and without times, views, several skills, some out of order."""
    drawn = []
    at_s = 0.0
    for number in range(draw(st.integers(1, max_size))):
        at_s += draw(st.sampled_from((0.0, 5.0, 400.0, 90_000.0, -600.0)))
        is_answer = draw(st.sampled_from((True, True, True, False)))
        common: dict[str, Any] = {
            "event_id": f"e-{number}",
            "user": f"u-{draw(st.integers(1, users))}",
            "at_s": max(at_s, 0.0),
            "topic_id": draw(st.sampled_from(TOPIC_NAMES)),
            "item_id": draw(st.sampled_from((None, "i-1", "i-2", "i-3"))),
        }
        if not is_answer:
            drawn.append(view(**common))
            continue
        drawn.append(
            interaction(
                **common,
                skills=draw(st.none() | st.lists(st.sampled_from(TOPIC_NAMES), min_size=1, max_size=5, unique=True)),
                difficulty=draw(st.sampled_from((None, "easy", "medium", "hard"))),
                correct=draw(st.booleans()),
                duration_seconds=draw(st.none() | st.integers(0, 900_000).map(lambda ms: ms / 1000)),
            )
        )
    return drawn
