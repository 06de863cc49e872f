"""
What the page is sent: the shape of a snapshot, and of one user's path.

The one source for those who make it (`stream.page.board`) and those who show it (`stream/page/static`). Times are
seconds since the epoch, probabilities in [0, 1]; null where nothing is known. Names of users, skills and items are
whatever somebody sent: text, never markup.
"""

from typing import Any, Literal, NotRequired, TypedDict

State = Literal["starting", "catching_up", "live", "lost", "ended"]
"""`lost`: the broker does not answer; `ended`: a demo has seen all that it was to see."""


class Progress(TypedDict):
    """How far a demo has come."""

    done: int
    total: int
    what: str


class Totals(TypedDict):
    """
    Counts since the page began to read, of different messages: one that was sent twice counts once.

    `fallbacks` are correctness predictions that the fallback made; `users` those with answers or predictions.
    """

    answers: int
    correctness: int
    risk: int
    dead_letters: int
    fallbacks: int
    users: int


class Rate(TypedDict):
    """Of the latest 10 s; latency is from an event's Kafka timestamp to that of its correctness prediction."""

    answers_per_s: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None


class Point(TypedDict):
    """
    One point of the curves, at the end of its time.

    Rate and latency are of that time, what is right and wrong of the latest answers up to then. A point is a second at
    first, and wider as the run grows: 240 of them go over up to an hour, and then over the latest hour.
    """

    at: float
    answers_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    auc: float | None
    auc_fallback: float | None
    logloss: float | None
    logloss_fallback: float | None
    ece: float | None


class Swap(TypedDict):
    """A version went live: the moment at which the first worker said so; null is the fallback."""

    at: float
    model: str
    version: int | None
    previous: int | None


Bin = TypedDict("Bin", {"from": float, "to": float, "n": int, "said": float | None, "right": float | None})
"""Answers whose probability was said to be in [from, to): the mean of what was said, and the share that was right."""


class VersionQuality(TypedDict):
    """Of the answers in the window that one version predicted; 0 is the fallback."""

    version: int
    n: int
    auc: float | None
    logloss: float | None
    ece: float | None
    time_error_s: float | None


class Quality(TypedDict):
    """How good predictions were over the latest `window` answers, each made before the answer was seen."""

    window: int
    n: int
    auc: float | None
    logloss: float | None
    ece: float | None
    time_error_s: float | None
    auc_fallback: float | None
    logloss_fallback: float | None
    time_error_fallback_s: float | None
    calibration: list[Bin]
    versions: list[VersionQuality]


class GateFigures(TypedDict):
    """How good one of those compared was; `n` answers, or weeks of users of the risk model."""

    n: int
    auc: float | None
    logloss: float
    ece: float
    time_error_s: float | None


class Entry(TypedDict):
    """
    One line of a model's timeline.

    `version` is what it is about, `against` what served then (null: the fallback); `gain` and `needed` in nats;
    `figures` by `candidate`, `champion` and `fallback`. The last five stand only where they mean something.
    """

    at: float
    what: Literal[
        "update_started", "challenger_started", "promoted", "kept_out", "candidate_dropped", "rolled_back", "swapped",
        "refused", "drift",
    ]  # fmt: skip
    version: int | None
    against: int | None
    reason: str | None
    gain: float | None
    needed: float | None
    users: int | None
    figures: dict[str, GateFigures] | None
    trigger: NotRequired[str]
    answers: NotRequired[int]
    share: NotRequired[float]
    previous: NotRequired[int | None]
    subject: NotRequired[str]
    before: NotRequired[float]
    after: NotRequired[float]


class Trial(TypedDict):
    """What is on trial, and the share of users whom it serves."""

    version: int
    share: float
    since: float


class Learning(TypedDict):
    """What is being trained."""

    version: int
    since: float
    answers: int
    trigger: str


class Model(TypedDict):
    """One model: what serves (0: the fallback), what comes, and what happened, the oldest first."""

    name: str
    serving: int
    trial: Trial | None
    learning: Learning | None
    timeline: list[Entry]


class Row(TypedDict):
    """One user's mastery of the map's skills."""

    user_id: str
    answers: int
    mastery: list[float | None]


class Heat(TypedDict):
    """Users by skills: the skills practised most, and users who were active lately, who keep their rows for a while."""

    skills: list[str]
    users: list[Row]


class Factor(TypedDict):
    """What moved a risk: log odds against the feature's neutral value."""

    feature: str
    contribution: float
    value: float | None


class UserRisk(TypedDict):
    """The latest of a user whose course goes on; `before` is the category that was said last and is another."""

    user_id: str
    score: float
    category: str
    before: str | None
    as_of: float
    version: int
    reason: str
    factors: list[Factor]


class Risk(TypedDict):
    """Users whose course goes on: how many in each category, the lowest first, and those with the highest scores."""

    categories: dict[str, int]
    users: list[UserRisk]


class Dead(TypedDict):
    """An event that was put aside, and its place."""

    at: float
    reason: str
    topic: str
    partition: int
    offset: int
    detail: str


class Snapshot(TypedDict):
    """
    All that the page shows but one user's path.

    Attributes:
        skipped: Messages that were passed over because the page could not keep up; they are in no figure.
        progress: Of a demo only.
    """

    at: float
    state: State
    note: str | None
    broker: str
    group: str
    skipped: int
    progress: Progress | None
    totals: Totals
    rate: Rate
    series: list[Point]
    swaps: list[Swap]
    quality: Quality
    models: list[Model]
    heat: Heat
    risk: Risk
    dead: list[Dead]
    active: list[str]


class PathAnswer(TypedDict):
    """One answer, and what was said before it: by what served, by the fallback, and how long it would take."""

    at: float
    topic_id: str
    item_id: str | None
    skills: list[str]
    difficulty: str | None
    correct: bool
    p_before: float
    p_fallback: float
    seconds: float | None
    expected_s: float
    version: int


class User(TypedDict):
    """One user's path: up to 100 answers, the oldest first. Of one who is forgotten nothing but that."""

    user_id: str
    answers: list[PathAnswer]
    mastery: dict[str, float]
    risk: UserRisk | None
    forgotten: bool


Json = dict[str, Any]
