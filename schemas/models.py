"""
What is said of models: the rollout that should be, what happened to it, and the items' parameters.

Announcements only; the files behind them are the artifacts of `stream.models`.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import (
    Count,
    Difficulty,
    Emitted,
    EmittedValue,
    Flag,
    Identifier,
    Moment,
    Positive,
    Probability,
)

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Version = Annotated[int, Field(ge=1)]


def _relative_path(path: str) -> str:
    """Refuse what could lead out of the folder of artifacts."""
    if path.startswith("/") or "\\" in path or "\0" in path or ":" in path or ".." in path.split("/"):
        raise ValueError(f"expected a relative path without '..', found {path!r}")
    return path


class Release(EmittedValue):
    """One version of a model, and how to be sure of it."""

    version: Version
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of manifest.json.")
    path: Annotated[Name, AfterValidator(_relative_path)] = Field(description="Relative to the folder of artifacts.")
    state_format: Name


class ModelRollout(Emitted):
    """What should serve under a model's name; no champion means that the fallback serves."""

    name: Name
    champion: Release | None = None
    previous: Release | None = None
    challenger: Release | None = None
    challenger_share: Probability = 0.0
    decided_at: Moment


class _ModelEvent(Emitted):
    """Something that happened to a model."""

    event_id: Identifier
    name: Name
    at: Moment


class ModelSwapped(_ModelEvent):
    """A worker serves another version from here on; no version means the fallback."""

    type: Literal["model_swapped"] = "model_swapped"
    version: Version | None = None
    previous: Version | None = None
    worker: Name


class Figures(EmittedValue):
    """How good predictions were on answers, or on weeks of users, each made before it was known what came."""

    n: Count = Field(description="Answers; of risk, weeks of users.")
    logloss: Annotated[float, Field(ge=0)]
    auc: Probability | None = Field(default=None, description="None where all were right, or all wrong.")
    ece: Probability = Field(description="Expected calibration error, 10 bins.")
    time_mae_seconds: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Mean absolute error of the median response time; None where no time is known."
    )
    base_rate: Probability | None = Field(default=None, description="Of risk: share that failed or withdrew.")
    mean_score: Probability | None = Field(default=None, description="Of risk: mean of what was said.")
    fpr: Probability | None = Field(
        default=None, description="Of risk: share said to be High or Critical, of those that passed."
    )
    fnr: Probability | None = Field(
        default=None, description="Of risk: share said to be Low or Medium, of those that failed or withdrew."
    )


class ChallengerStarted(_ModelEvent):
    """A candidate was frozen, and predicts beside the champion from here on."""

    type: Literal["challenger_started"] = "challenger_started"
    candidate_version: Version
    champion_version: Version | None = None
    share: Probability = Field(description="Of the users whom it serves; 0: it only predicts.")
    budget: Count = Field(description="Answers after which it is given up.")


class GateDecided(_ModelEvent):
    """A challenger was compared with what serves, on answers that came after it was frozen."""

    type: Literal["gate_decided"] = "gate_decided"
    candidate_version: Version
    champion_version: Version | None = None
    promoted: Flag
    reason: Annotated[str, Field(min_length=1)]
    users: Count
    gain: float = Field(description="Of log loss by the candidate, nats an answer; above 0 it is better.")
    needed: float = Field(description="The gain that would have been significant at 95%, looked at again and again.")
    candidate: Figures
    champion: Figures
    fallback: Figures


class CandidateDropped(_ModelEvent):
    """An update or a candidate came to nothing before the gate could compare it; what serves goes on."""

    type: Literal["candidate_dropped"] = "candidate_dropped"
    candidate_version: Version
    reason: Annotated[str, Field(min_length=1)]


class RolledBack(_ModelEvent):
    """What served was taken back by itself, because live log loss had worsened."""

    type: Literal["rolled_back"] = "rolled_back"
    version: Version = Field(description="Taken back.")
    to_version: Version | None = Field(default=None, description="Serves from here on; None for the fallback.")
    reason: Annotated[str, Field(min_length=1)]
    n: Count = Field(description="Answers since the swap; of risk, weeks of users of which it is known what came.")
    logloss_before: float = Field(
        description="Before the swap; where the fallback takes over because it has become better, its own since."
    )
    logloss_after: float = Field(description="Of what was taken back, since it went live.")
    worsened: float = Field(description="By so many nats, beyond what the fallback worsened too.")


class LearnRequested(_ModelEvent):
    """Somebody asked for an update now."""

    type: Literal["learn_requested"] = "learn_requested"


class DriftDetected(_ModelEvent):
    """What comes in, or how well it is predicted, is no longer what it was."""

    type: Literal["drift_detected"] = "drift_detected"
    kind: Literal["feature", "loss"]
    subject: Name = Field(description="The feature's name; for the loss `logloss`.")
    before: float = Field(description="Mean before.")
    after: float = Field(description="Mean after.")
    p_value: Probability | None = Field(default=None, description="Of a feature, corrected for how many are tested.")


class QualityMeasured(_ModelEvent):
    """How good predictions were over the latest answers: overall, by version, and by slice."""

    type: Literal["quality_measured"] = "quality_measured"
    overall: Figures
    fallback: Figures
    versions: dict[str, Figures] = Field(description="By the version that served; 0 is the fallback.")
    slices: dict[str, Figures] = Field(
        description="`topic:…` of the most frequent, `difficulty:…`, `users:new`; of risk, `FIELD:VALUE` of the fields "
        "by which fairness is watched."
    )


class ModelRefused(_ModelEvent):
    """A worker kept a release out; what it had goes on serving."""

    type: Literal["model_refused"] = "model_refused"
    version: Version
    reason: Annotated[str, Field(min_length=1)]
    worker: Name


class UpdateStarted(_ModelEvent):
    """The trainer began to learn a candidate."""

    type: Literal["update_started"] = "update_started"
    answers: Count
    candidate_version: Version
    trigger: Literal["answers", "minutes", "drift", "hand"]


ModelEvent = Annotated[
    ModelSwapped
    | ModelRefused
    | UpdateStarted
    | CandidateDropped
    | ChallengerStarted
    | GateDecided
    | RolledBack
    | LearnRequested
    | DriftDetected
    | QualityMeasured,
    Field(discriminator="type"),
]

_SUBJECTS: Final[dict[str, frozenset[str]]] = {
    "item": frozenset({"item_id"}),
    "topic": frozenset({"topic_id"}),
    "topic_difficulty": frozenset({"topic_id", "difficulty"}),
    "population": frozenset(),
}
"""Fields that name each subject; an item may also say its topic and difficulty."""


class ItemParameters(Emitted):
    """What is known over all users of an item, a topic, a topic at one difficulty, or of everything."""

    subject: Literal["item", "topic", "topic_difficulty", "population"]
    item_id: Identifier | None = None
    topic_id: Identifier | None = None
    difficulty: Difficulty | None = None
    difficulty_logit: float
    discrimination: Positive
    time_intensity: float = Field(description="Log seconds.")
    time_sigma: Positive = Field(description="Of the log seconds.")
    answers: Count
    correct: Count
    timed: Count
    seen: dict[Count, Count] = Field(
        default_factory=dict, description="Of `training-examples`, by partition: the offset up to which it has counted."
    )
    version: Count
    updated_at: Moment

    @model_validator(mode="after")
    def _named_by_subject(self) -> Self:
        missing = sorted(name for name in _SUBJECTS[self.subject] if getattr(self, name) is None)
        if missing:
            raise ValueError(f"{', '.join(missing)}: expected a value for subject {self.subject}, found none")
        return self


def parameters_key(parameters: ItemParameters) -> bytes:
    """
    Key on the compacted topic: `item/ID`, `topic/ID`, `topic/ID/DIFFICULTY` or `population`.

    A slash inside an id is escaped (`%2F`), so that no two subjects share a key.
    """
    match parameters:
        case ItemParameters(subject="item", item_id=str(item_id)):
            key = f"item/{_escaped(item_id)}"
        case ItemParameters(subject="topic", topic_id=str(topic_id)):
            key = f"topic/{_escaped(topic_id)}"
        case ItemParameters(subject="topic_difficulty", topic_id=str(topic_id), difficulty=str(difficulty)):
            key = f"topic/{_escaped(topic_id)}/{difficulty}"
        case _:
            key = "population"
    return key.encode()


def _escaped(identifier: str) -> str:
    return identifier.replace("%", "%25").replace("/", "%2F")
