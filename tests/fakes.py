"""Stand-ins for what the core and the agents need of others; each does the least that its real one promises."""

import queue
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray

from stream.errors import InferenceError
from stream.models.features import Questions
from stream.ports import Forecast, Hidden, Identity, Predictor
from stream.state.learner import Answers, Remembered, key64
from stream.telemetry import Silent
from stream.transport.settlement import Change


class FailingPredictor:
    """A predictor whose runtime raises for as long as `is_failing` stands."""

    def __init__(self, real: Predictor) -> None:
        self._real = real
        self.is_failing = True
        self.rebuilt = 0
        """Users whose states were rebuilt."""

    @property
    def identity(self) -> Identity:
        """Return the real one's."""
        return self._real.identity

    @property
    def hidden_size(self) -> int:
        """Return the real one's."""
        return self._real.hidden_size

    def predict(self, hidden: Hidden, questions: Questions, features: NDArray[np.float32]) -> Forecast:
        """Fail, or do as the real one."""
        self._fail()
        return self._real.predict(hidden, questions, features)

    def step(
        self,
        hidden: Hidden,
        answers: Answers,
        questions: Questions,
        features: NDArray[np.float32],
        after: NDArray[np.bool_],
        known: NDArray[np.float32] | None = None,
    ) -> tuple[Hidden, Forecast]:
        """Fail, or do as the real one."""
        self._fail()
        return self._real.step(hidden, answers, questions, features, after, known)

    def rebuild(self, remembered: Remembered) -> Hidden:
        """Do as the real one, and count the users."""
        self.rebuilt += len(remembered.count)
        return self._real.rebuild(remembered)

    def _fail(self) -> None:
        if self.is_failing:
            raise InferenceError("the runtime is out of order")


class PoisonedPredictor(FailingPredictor):
    """A predictor with a defect: it raises something unforeseen over an answer to one of the items."""

    def __init__(self, real: Predictor, items: Iterable[str]) -> None:
        super().__init__(real)
        self.is_failing = False
        self._items = [key64(item) for item in items]

    def step(
        self,
        hidden: Hidden,
        answers: Answers,
        questions: Questions,
        features: NDArray[np.float32],
        after: NDArray[np.bool_],
        known: NDArray[np.float32] | None = None,
    ) -> tuple[Hidden, Forecast]:
        """Raise over a poisonous item, or do as the real one."""
        if np.isin(answers.item, self._items).any():
            raise ZeroDivisionError("a defect of ours")
        return super().step(hidden, answers, questions, features, after, known)


class Counting(Silent):
    """Telemetry that remembers which parts failed."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def failed(self, part: str) -> None:
        """Remember the part."""
        self.failures.append(part)


class Counts:
    """Remembers what making settlements safe took; see `Told`."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float]] = []
        self.changes: list[Change] = []
        self.aborts = 0

    def staged(self, stage: str, seconds: float) -> None:
        """Remember it."""
        self.stages.append((stage, seconds))

    def changed(self, changes: Sequence[Change]) -> None:
        """Remember them."""
        self.changes += changes

    def aborted(self) -> None:
        """Count it."""
        self.aborts += 1


class FakeRedis:
    """
    Hashes in memory behind the client's `pipeline`.

    Args:
        failures: Executions that fail before Redis is there.
    """

    def __init__(self, failures: int = 0) -> None:
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.of_another_type: set[str] = set()
        """Keys that are no hashes."""
        self.executed: queue.Queue[bool] = queue.Queue()
        """Gets whether an execution went well, for tests to wait on."""
        self._failures = failures
        self._commands: list[Callable[[], object]] = []

    def pipeline(self, transaction: bool) -> "FakeRedis":
        """Begin to collect commands."""
        self._commands = []
        return self

    def delete(self, key: str) -> None:
        """Collect a deletion."""
        self._commands.append(lambda: self.hashes.pop(key, None))

    def hset(self, key: str, mapping: dict[str, bytes]) -> None:
        """Collect a write."""
        self._commands.append(lambda: self._hash(key).update(mapping))

    def hget(self, key: str, field: str) -> None:
        """Collect a look."""
        self._commands.append(lambda: self._hash(key).get(field))

    def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Run what was collected, or fail; what is refused raises after all has run, or is among the results."""
        if self._failures:
            self._failures -= 1
            self.executed.put(False)
            raise redis.ConnectionError("no route")
        results = [self._result(command) for command in self._commands]
        self.executed.put(True)
        if raise_on_error and (refused := [each for each in results if isinstance(each, redis.ResponseError)]):
            raise refused[0]
        return results

    def _result(self, command: Callable[[], object]) -> object:
        try:
            return command()
        except redis.ResponseError as error:
            return error

    def _hash(self, key: str) -> dict[str, bytes]:
        if key in self.of_another_type:
            raise redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return self.hashes.setdefault(key, {})
