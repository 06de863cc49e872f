"""
What the core needs of others, as protocols, and the values that pass through them.

Owned by whoever needs them: the pipeline needs a predictor and a clock; the agents need an outbox, telemetry and a
read model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.models.features import Questions
from stream.models.weekly import Seen
from stream.state.learner import Answers, Remembered

Clock = Callable[[], datetime]
"""Returns the present moment, aware."""

Hidden = NDArray[np.float16]
"""Recurrent states, `(B, size)`; `size` is the predictor's."""


Observed = NDArray[np.void]
"""Answers beside what had been said of them before they were seen, `(A,)` of `OBSERVED`."""

OBSERVED: Final = np.dtype(
    [
        ("correct", bool),
        ("seconds", np.float32),  # that it took; NaN where unknown
        *(
            (f"{voice}_{field}", kind)
            for voice in ("serving", "fallback", "challenger")
            for field, kind in (
                ("version", np.int32),
                ("p", np.float32),  # of a right answer; NaN where it said nothing
                ("median_s", np.float32),  # of the time that it takes
            )
        ),
    ]
)
"""One answer: whether it was right, how long it took, and what each voice had said of it."""


class Record(NamedTuple):
    """
    One message as it came.

    Attributes:
        topic: The broker's name.
        partition: Its partition there.
        offset: Its place in the partition.
        key: Raw.
        value: Raw; None for a tombstone.
        timestamp_s: Kafka's timestamp, seconds since the epoch.
        headers: Names and raw values.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_s: float
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Message(NamedTuple):
    """
    One message to be sent.

    Attributes:
        topic: The catalog's name of the topic, without the prefix.
        key: Raw.
        value: Raw.
        message_id: Becomes `ce_id`; None for messages without CloudEvents headers.
    """

    topic: str
    key: bytes
    value: bytes
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    What a model says of answers to come, one row a question.

    Attributes:
        p_correct: Probability of a right answer, float32 `(N,)`, in (0, 1).
        mu: Mean of the log response time in seconds, float32 `(N,)`.
        sigma: Standard deviation of the log response time, float32 `(N,)`, above 0.
    """

    p_correct: NDArray[np.float32]
    mu: NDArray[np.float32]
    sigma: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Which model it is.

    Attributes:
        name: What it predicts, for instance `knowledge`.
        version: 0 for the fallback, 1 and up for published ones.
        variant: The part that it plays.
        state_format: Architecture and lineage of its hidden states; `none` where it keeps none.
    """

    name: str
    version: int
    variant: Literal["champion", "challenger", "fallback"]
    state_format: str


class Predictor(Protocol):
    """
    Predicts answers, and folds answers into hidden states that the caller keeps.

    Implementations hold weights and no state; `tests/laws.py` is what each must obey.
    """

    @property
    def identity(self) -> Identity:
        """Which model it is."""

    @property
    def hidden_size(self) -> int:
        """Numbers in one user's hidden state; 0 for none."""

    def predict(self, hidden: Hidden, questions: Questions, features: NDArray[np.float32]) -> Forecast:
        """
        Return what the users would answer now.

        Args:
            hidden: States of the users, `(B, hidden_size)`; `questions.row` points into it.
            questions: `(N,)`.
            features: `(N, F)`.

        Raises:
            InferenceError: If the model failed, or gave numbers that are not finite.
        """

    def step(
        self,
        hidden: Hidden,
        answers: Answers,
        questions: Questions,
        features: NDArray[np.float32],
        after: NDArray[np.bool_],
        known: NDArray[np.float32] | None = None,
    ) -> tuple[Hidden, Forecast]:
        """
        Fold one answer of each user into the users' states, and predict in the same run.

        Args:
            hidden: States before the answers, `(B, hidden_size)`; not changed.
            answers: `(B,)`.
            questions: `(N,)`.
            features: `(N, F)`.
            after: Whether a question is asked after the answer (True) or before it (False), `(N,)`.
            known: Features of the answers, as they were asked, `(B, F)`; None if nobody knows them any more.

        Returns:
            The next states, `(B, hidden_size)`, and the forecasts, `(N,)`.

        Raises:
            InferenceError: If the model failed, or gave numbers that are not finite.
        """

    def rebuild(self, remembered: Remembered) -> Hidden:
        """
        Return the states that the remembered answers lead to, from nothing, `(B, hidden_size)`.

        Raises:
            InferenceError: If the model failed, or gave numbers that are not finite.
        """


@dataclass(frozen=True, slots=True)
class Risks:
    """
    Risks of users, and what they are made of, one row a user.

    Attributes:
        score: In [0, 1], calibrated, float32 `(N,)`.
        factors: Names of what may have moved the score, `F` of them: features of the steps, fields of the enrolment.
        contributions: Log odds that each adds against its neutral value, float32 `(N, F)`.
        values: What each is now, NaN where it is no number or not known, float32 `(N, F)`.
    """

    score: NDArray[np.float32]
    factors: tuple[str, ...]
    contributions: NDArray[np.float32]
    values: NDArray[np.float32]

    def strongest(self, count: int, least: float) -> list[list[tuple[str, float, float]]]:
        """
        Return the name, contribution and value of each user's strongest factors, the strongest first.

        Args:
            count: Factors, at most.
            least: Size of a contribution below which a factor is not worth naming.
        """
        order = (-np.abs(self.contributions)).argsort(axis=1, kind="stable")[:, :count]
        sizes = np.take_along_axis(self.contributions, order, axis=1).astype(np.float64).tolist()
        values = np.take_along_axis(self.values, order, axis=1).astype(np.float64).tolist()
        return [
            [(self.factors[f], size, value) for f, size, value in zip(*of_user, strict=True) if abs(size) >= least]
            for of_user in zip(order.tolist(), sizes, values, strict=True)
        ]

    def take(self, rows: NDArray[np.integer]) -> "Risks":
        """Return the risks of some of the users."""
        return Risks(self.score[rows], self.factors, self.contributions[rows], self.values[rows])

    def replaced(self, rows: NDArray[np.integer], by: "Risks") -> "Risks":
        """Return the same risks, with others for some of the rows; what another model's factors are called is added."""
        factors = tuple(dict.fromkeys((*self.factors, *by.factors)))
        columns = np.array([factors.index(name) for name in by.factors])
        score = self.score.copy()
        score[rows] = by.score
        N, F = self.contributions.shape
        contributions = np.zeros((N, len(factors)), np.float32)
        values = np.full((N, len(factors)), np.nan, np.float32)
        contributions[:, :F], values[:, :F] = self.contributions, self.values
        contributions[rows], values[rows] = 0, np.nan
        contributions[rows[:, None], columns], values[rows[:, None], columns] = by.contributions, by.values
        return Risks(score, factors, contributions, values)


class RiskModel(Protocol):
    """Scores users by their weekly steps; holds weights and no state."""

    @property
    def identity(self) -> Identity:
        """Which model it is."""

    def score(self, seen: Seen) -> Risks:
        """
        Return the risks of users.

        Raises:
            InferenceError: If the model failed, or gave numbers that are not finite.
        """


class Outbox(Protocol):
    """Takes messages to Kafka; `flush` is the moment at which they are safe."""

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> None:
        """Queue a message. `topic` is the broker's name; without `partition`, the key's murmur2 decides."""

    async def flush(self) -> None:
        """
        Return when all that was queued is confirmed.

        Raises:
            DeliveryError: If anything was not.
        """


OUTCOMES: Final = ("applied", "repeated", "ignored", "dead")
"""What becomes of an event: it had its effect, had had it before, was nothing (a tombstone), or is a dead letter."""

STAGES: Final = ("decode", "features", "inference", "produce", "commit")
"""A batch's way: read, made into questions and state, predicted, confirmed by the broker, committed."""


class Telemetry(Protocol):
    """What happens, told to whoever counts it."""

    def read(self, kind: str, outcome: str, count: int) -> None:
        """Count events that were read, by type and by what became of them; see `OUTCOMES`."""

    def predicted(self, kind: str, count: int) -> None:
        """Count predictions that were confirmed, by kind."""

    def ingested(self, source: str, converted: int, ignored: Mapping[str, int], bad: int) -> None:
        """Count foreign events of a source: converted, ignored by kind, and bad."""

    def dead(self, reason: str) -> None:
        """Count a dead letter."""

    def fell_back(self, count: int) -> None:
        """Count answers that the fallback had to predict because the model failed."""

    def risks(self, scores: NDArray[np.float32]) -> None:
        """Count risks that were said and confirmed, by category."""

    def risk_fell_back(self, count: int) -> None:
        """Count risks that the fallback had to score because the model failed."""

    def week_closed(self) -> None:
        """Count a week whose closing has begun."""

    def closing(self, waiting: int) -> None:
        """Record how many users wait for a week to be closed."""

    def latency(self, seconds: NDArray[np.float64]) -> None:
        """Record the time from an event's Kafka timestamp to its confirmed predictions."""

    def batch(self, events: int, seconds: float) -> None:
        """Record a batch's size and how long it took."""

    def staged(self, stage: str, seconds: float) -> None:
        """Record how long a stage of a batch's way took; see `STAGES`."""

    def changed(self, table: str, size_bytes: int) -> None:
        """Count bytes that a table's changelog was given, and that are confirmed."""

    def observed(self, observed: Observed) -> None:
        """Record outcomes beside what had been said of them."""

    def model(self, name: str, version: int) -> None:
        """Record which version of a model serves; 0 is the fallback."""

    def challenger(self, name: str, version: int) -> None:
        """Record which version of a model is on trial; 0 is none."""

    def swapped(self, name: str) -> None:
        """Count a swap of a model."""

    def refused(self, name: str) -> None:
        """Count a version of a model that was kept out."""

    def failed(self, part: str) -> None:
        """Count a failure of a part that the worker goes on without, for instance `redis`."""

    def aborted(self) -> None:
        """Count a transaction that was aborted."""

    def recovering(self, read: int, left: int) -> None:
        """Record how many changelog records have been read, and about how many are left."""

    def recovered(self, records: int, seconds: float) -> None:
        """Record a recovery that is over."""


class ReadModel(Protocol):
    """Keeps the latest predictions of each user where others can look them up."""

    def offer(self, user_id: str, kind: str, prediction: bytes) -> None:
        """Take the latest prediction of a user; it is written soon, and later if the store is away."""

    def forget(self, user_id: str) -> None:
        """Remove all that is kept of a user."""
