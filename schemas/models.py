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

_REASON: Final = "A sentence."
_TYPE: Final = "What happened."


def _relative_path(path: str) -> str:
    """Refuse what could lead out of the folder of artifacts."""
    if path.startswith("/") or "\\" in path or "\0" in path or ":" in path or ".." in path.split("/"):
        raise ValueError(f"expected a relative path without '..', found {path!r}")
    return path


class Release(EmittedValue):
    """One version of a model, and how to be sure of it."""

    version: Version = Field(description="Of the model, from 1.")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of manifest.json.")
    path: Annotated[Name, AfterValidator(_relative_path)] = Field(description="Relative to the folder of artifacts.")
    state_format: Name = Field(description="Architecture and lineage of its hidden states.")


class ModelRollout(Emitted):
    """What should serve under a model's name; no champion means that the fallback serves."""

    name: Name = Field(description="`knowledge` or `risk`; also the message's key.")
    champion: Release | None = Field(default=None, description="What should serve; null: the fallback.")
    previous: Release | None = Field(default=None, description="What served before, to go back to.")
    challenger: Release | None = Field(default=None, description="What is on trial beside it.")
    challenger_share: Probability = Field(
        default=0.0, description="Share of the users whom the challenger serves; 0: it only predicts."
    )
    decided_at: Moment = Field(description="When it was decided.")


class _ModelEvent(Emitted):
    """Something that happened to a model."""

    event_id: Identifier = Field(description="Names the event.")
    name: Name = Field(description="The model, `knowledge` or `risk`; also the message's key.")
    at: Moment = Field(description="When it happened.")


class ModelSwapped(_ModelEvent):
    """A worker serves another version from here on; no version means the fallback."""

    type: Literal["model_swapped"] = Field(default="model_swapped", description=_TYPE)
    version: Version | None = Field(default=None, description="What serves; null: the fallback.")
    previous: Version | None = Field(default=None, description="What served; null: the fallback.")
    worker: Name = Field(description="Which worker, by its host.")


class Figures(EmittedValue):
    """How good predictions were on answers, or on weeks of users, each made before it was known what came."""

    n: Count = Field(description="Answers; of risk, weeks of users.")
    logloss: Annotated[float, Field(ge=0)] = Field(description="Mean log loss, nats; the lower the better.")
    auc: Probability | None = Field(
        default=None, description="Area under the ROC curve; null where all were right, or all wrong."
    )
    ece: Probability = Field(description="Expected calibration error, 10 bins.")
    time_mae_seconds: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Mean absolute error of the median response time; null where no time is known."
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

    type: Literal["challenger_started"] = Field(default="challenger_started", description=_TYPE)
    candidate_version: Version = Field(description="On trial.")
    champion_version: Version | None = Field(default=None, description="What serves; null for the fallback.")
    share: Probability = Field(description="Of the users whom it serves; 0: it only predicts.")
    budget: Count = Field(description="Answers after which it is given up.")


class GateDecided(_ModelEvent):
    """A challenger was compared with what serves, on answers that came after it was frozen."""

    type: Literal["gate_decided"] = Field(default="gate_decided", description=_TYPE)
    candidate_version: Version = Field(description="On trial.")
    champion_version: Version | None = Field(default=None, description="What serves; null for the fallback.")
    promoted: Flag = Field(description="Whether the candidate serves from here on.")
    reason: Annotated[str, Field(min_length=1)] = Field(description=_REASON)
    users: Count = Field(description="Whose answers were compared.")
    gain: float = Field(description="Of log loss by the candidate, nats an answer; above 0 it is better.")
    needed: float = Field(description="The gain that would have been significant at 95%, looked at again and again.")
    candidate: Figures = Field(description="How good the candidate was.")
    champion: Figures = Field(description="How good what serves was, on the same answers.")
    fallback: Figures = Field(description="How good the fallback was, on the same answers.")


class CandidateDropped(_ModelEvent):
    """An update or a candidate came to nothing before the gate could compare it; what serves goes on."""

    type: Literal["candidate_dropped"] = Field(default="candidate_dropped", description=_TYPE)
    candidate_version: Version = Field(description="That is given up.")
    reason: Annotated[str, Field(min_length=1)] = Field(description=_REASON)


class RolledBack(_ModelEvent):
    """What served was taken back by itself, because live log loss had worsened."""

    type: Literal["rolled_back"] = Field(default="rolled_back", description=_TYPE)
    version: Version = Field(description="Taken back.")
    to_version: Version | None = Field(default=None, description="Serves from here on; null for the fallback.")
    reason: Annotated[str, Field(min_length=1)] = Field(description=_REASON)
    n: Count = Field(description="Answers since the swap; of risk, weeks of users of which it is known what came.")
    logloss_before: float = Field(
        description="Before the swap; where the fallback takes over because it has become better, its own since."
    )
    logloss_after: float = Field(description="Of what was taken back, since it went live.")
    worsened: float = Field(description="By so many nats, beyond what the fallback worsened too.")


class LearnRequested(_ModelEvent):
    """Somebody asked for an update now."""

    type: Literal["learn_requested"] = Field(default="learn_requested", description=_TYPE)


class DriftDetected(_ModelEvent):
    """What comes in, or how well it is predicted, is no longer what it was."""

    type: Literal["drift_detected"] = Field(default="drift_detected", description=_TYPE)
    kind: Literal["feature", "loss"] = Field(description="What has moved: what comes in, or how well it is predicted.")
    subject: Name = Field(description="The feature's name; for the loss `logloss`.")
    before: float = Field(description="Mean before.")
    after: float = Field(description="Mean after.")
    p_value: Probability | None = Field(default=None, description="Of a feature, corrected for how many are tested.")


class QualityMeasured(_ModelEvent):
    """How good predictions were over the latest answers: overall, by version, and by slice."""

    type: Literal["quality_measured"] = Field(default="quality_measured", description=_TYPE)
    overall: Figures = Field(description="Of what served.")
    fallback: Figures = Field(description="Of the fallback on the same answers.")
    versions: dict[str, Figures] = Field(description="By the version that served; 0 is the fallback.")
    slices: dict[str, Figures] = Field(
        description="`topic:…` of the most frequent, `difficulty:…`, `users:new`; of risk, `FIELD:VALUE` of the fields "
        "by which fairness is watched."
    )


class ModelRefused(_ModelEvent):
    """A worker kept a release out; what it had goes on serving."""

    type: Literal["model_refused"] = Field(default="model_refused", description=_TYPE)
    version: Version = Field(description="That was kept out.")
    reason: Annotated[str, Field(min_length=1)] = Field(description=_REASON)
    worker: Name = Field(description="Which worker, by its host.")


class UpdateStarted(_ModelEvent):
    """The trainer began to learn a candidate."""

    type: Literal["update_started"] = Field(default="update_started", description=_TYPE)
    answers: Count = Field(description="That it learns from.")
    candidate_version: Version = Field(description="That it will be.")
    trigger: Literal["answers", "minutes", "drift", "hand"] = Field(description="What called for it.")


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

    subject: Literal["item", "topic", "topic_difficulty", "population"] = Field(description="What it is known of.")
    item_id: Identifier | None = Field(default=None, description="Of an item: which.")
    topic_id: Identifier | None = Field(default=None, description="Of a topic: which; of an item: its topic.")
    difficulty: Difficulty | None = Field(default=None, description="Of a topic at one difficulty: which.")
    difficulty_logit: float = Field(description="Difficulty, logits; above 0 it is harder than the average.")
    discrimination: Positive = Field(description="How sharply it tells users apart; 1 is usual.")
    time_intensity: float = Field(description="Mean log response time, log seconds.")
    time_sigma: Positive = Field(description="Standard deviation of the log seconds.")
    answers: Count = Field(description="That it is known from.")
    correct: Count = Field(description="How many of them were right.")
    timed: Count = Field(description="Of how many the time is known.")
    seen: dict[Count, Count] = Field(
        default_factory=dict, description="Of `training-examples`, by partition: the offset up to which it has counted."
    )
    version: Count = Field(description="Grows with each publication of the subject.")
    updated_at: Moment = Field(description="When it was published.")

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
