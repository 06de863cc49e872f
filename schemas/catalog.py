"""
Which topic carries which message: who writes and reads it, by which key, how long it is kept.

The one source of `stream.transport.topics`, of the JSON Schemas, of `asyncapi.yaml` and of `docs/contracts.html`.
Names here are logical: what a topic is called on a broker is a setting of `stream`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from schemas.dead_letters import DeadLetter
from schemas.erasures import ERASURE
from schemas.events import ACADEMIC, INTERACTION
from schemas.examples import TrainingMessage
from schemas.models import ItemParameters, ModelEvent, ModelRollout
from schemas.predictions import CorrectnessPrediction, RiskPrediction, TimePrediction
from schemas.requests import REQUEST, PredictionReply
from schemas.statements import STATEMENT

Cleanup = Literal["delete", "compact"]
Direction = Literal["in", "out", "internal"]
CloudEvents = Literal["no", "binary", "as set"]


@dataclass(frozen=True, slots=True)
class Key:
    """
    What stands in a message's key.

    Attributes:
        name: In a word.

        schema: JSON Schema of the key's text.
    """

    name: str
    schema: Mapping[str, Any]


def _key(name: str, description: str, **schema: object) -> Key:
    return Key(name, MappingProxyType({"type": "string", "description": description} | schema))


_USER: Final = _key("user", "The `user_id` of the value, in UTF-8.", minLength=1, maxLength=256)
_MODEL: Final = _key("model name", "The `name` of the value: which model, `knowledge` or `risk`.")
_SUBJECT: Final = _key(
    "subject",
    "`item/ID`, `topic/ID`, `topic/ID/DIFFICULTY` or `population`; a slash within an id is `%2F`.",
    pattern=r"^(item/.+|topic/.+|population)$",
)
_ANY: Final = _key("as it came", "The key of the record that was put aside, whatever it is, cut like its value.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """
    What one topic promises.

    Attributes:
        adapter: Reads and checks the topic's values.

        direction: `in` is written by others, `out` by us for others, `internal` by us for us.

        about: What a message says, in a sentence.

        writers: Who writes it.

        readers: Who reads it.

        key: What stands in a message's key; its murmur2 decides the partition.

        partitions: How many; None for as many as a setting says.

        cleanup: How the broker forgets.

        retention_hours: How long a message is kept; None leaves it to compaction, or to the topic's owner.

        cloud_events: Whether a message is a CloudEvent: in binary mode, or in whichever mode a setting says.

        is_optional: Whether it is there only if a setting says so.
    """

    name: str
    adapter: TypeAdapter[Any]
    direction: Direction
    about: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    key: Key = _USER
    partitions: int | None = None
    cleanup: Cleanup = "delete"
    retention_hours: int | None = None
    cloud_events: CloudEvents = "no"
    is_optional: bool = False


_DAY_H: Final = 24
_WEEK_H: Final = 7 * _DAY_H

_CONTRACTS: Final = (
    Contract(
        name="interactions",
        adapter=INTERACTION,
        direction="in",
        about="What a learner did: an answer, a view, feedback on a recommendation, or the correction of an answer.",
        writers=("learning platform", "ingest"),
        readers=("worker",),
    ),
    Contract(
        name="academics",
        adapter=ACADEMIC,
        direction="in",
        about="What a school records of a learner: enrolment, attendance, grades, incidents, outcomes.",
        writers=("learning platform", "ingest"),
        readers=("worker",),
    ),
    Contract(
        name="prediction-requests",
        adapter=REQUEST,
        direction="in",
        about="What would happen if: a learner and what it may be asked. Nothing changes by asking.",
        writers=("application",),
        readers=("worker",),
        retention_hours=_DAY_H,
    ),
    Contract(
        name="erasures",
        adapter=ERASURE,
        direction="in",
        about="A learner to forget, everywhere.",
        writers=("operator", "application"),
        readers=("worker", "trainer"),
        retention_hours=_WEEK_H,
    ),
    Contract(
        name="prediction-replies",
        adapter=TypeAdapter(PredictionReply),
        direction="out",
        about="The answer to a request, target by target.",
        writers=("worker",),
        readers=("application",),
        retention_hours=_DAY_H,
        cloud_events="as set",
    ),
    Contract(
        name="predictions.correctness",
        adapter=TypeAdapter(CorrectnessPrediction),
        direction="out",
        about="After each answer: how likely right answers are from here on.",
        writers=("worker",),
        readers=("application",),
        retention_hours=_WEEK_H,
        cloud_events="as set",
    ),
    Contract(
        name="predictions.time",
        adapter=TypeAdapter(TimePrediction),
        direction="out",
        about="After each answer: how long answers will take from here on.",
        writers=("worker",),
        readers=("application",),
        retention_hours=_WEEK_H,
        cloud_events="as set",
    ),
    Contract(
        name="predictions.risk",
        adapter=TypeAdapter(RiskPrediction),
        direction="out",
        about="How much a learner is at risk of failing or leaving the course, and why.",
        writers=("worker",),
        readers=("application",),
        retention_hours=_WEEK_H,
        cloud_events="as set",
    ),
    Contract(
        name="predictions.risk.xapi",
        adapter=STATEMENT,
        direction="out",
        about="Each risk prediction once more, as an xAPI statement; only with STREAM_RISK_STATEMENTS.",
        writers=("worker",),
        readers=("learning record store",),
        retention_hours=_WEEK_H,
        cloud_events="as set",
        is_optional=True,
    ),
    Contract(
        name="model-events",
        adapter=TypeAdapter(ModelEvent),
        direction="out",
        about="What happened to the models: updates, trials, decisions, swaps, drift, quality.",
        writers=("worker", "trainer", "operator"),
        readers=("application", "trainer"),
        key=_MODEL,
        partitions=1,
        retention_hours=4 * _WEEK_H,
    ),
    Contract(
        name="dead-letters",
        adapter=TypeAdapter(DeadLetter),
        direction="out",
        about="A record that could not be used: why, where it stands, and its bytes.",
        writers=("worker", "ingest"),
        readers=("operator", "application"),
        key=_ANY,
        retention_hours=4 * _WEEK_H,
        cloud_events="binary",
    ),
    Contract(
        name="training-examples",
        adapter=TypeAdapter(TrainingMessage),
        direction="internal",
        about="What the models saw and what happened: answers, weeks of learners, and what came out later.",
        writers=("worker",),
        readers=("trainer",),
        retention_hours=_WEEK_H,
        cloud_events="binary",
    ),
    Contract(
        name="model-updates",
        adapter=TypeAdapter(ModelRollout),
        direction="internal",
        about="What should serve under a model's name; the last word counts.",
        writers=("trainer", "operator"),
        readers=("worker", "trainer"),
        key=_MODEL,
        # One small record: one partition keeps the order of decisions.
        partitions=1,
        cleanup="compact",
    ),
    Contract(
        name="item-parameters",
        adapter=TypeAdapter(ItemParameters),
        direction="internal",
        about="What is known over all learners of an item, a topic, or of everything.",
        writers=("trainer",),
        readers=("worker", "trainer"),
        key=_SUBJECT,
        cleanup="compact",
    ),
)

TOPICS: Final[Mapping[str, Contract]] = MappingProxyType({contract.name: contract for contract in _CONTRACTS})
