"""
The learned risk model: one ONNX graph, in which a network over ten weeks and gradient boosting may both have a say.

What the graph holds is `stream.learning.risk`'s; here users become its inputs, and its outputs `Risks`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream.errors import ArtifactError
from stream.models.runtime import Graph
from stream.models.weekly import FEATURES, NAMES, NUMBERS, Seen
from stream.ports import Identity, Risks
from stream.state.academic import WEEKS
from stream.state.learner import key64

INPUTS: Final = {
    "steps": "tensor(float)",  # (B, WEEKS, 42), NaN where nothing is known
    "day": "tensor(float)",  # (B, WEEKS), NaN where unknown
    "facts": "tensor(float)",  # (B, V), 1 for each text that is a user's
    "numbers": "tensor(float)",  # (B, K), NaN where unknown
}
OUTPUTS: Final = ("score", "contributions")  # (B,); (B, F) log odds, of the features, then of the context's fields


@dataclass(frozen=True, slots=True)
class Inputs:
    """
    Users as the graph takes them.

    Attributes:
        steps: float32 `(B, WEEKS, 42)`, NaN where nothing is known.
        day: float32 `(B, WEEKS)`, NaN where unknown.
        facts: 1 for each text that is a user's, float32 `(B, V)`.
        numbers: float32 `(B, K)`, NaN where unknown.
    """

    steps: NDArray[np.float32]
    day: NDArray[np.float32]
    facts: NDArray[np.float32]
    numbers: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.steps)

    def named(self) -> dict[str, NDArray[np.float32]]:
        """Return them by the graph's names."""
        return {name: getattr(self, name) for name in INPUTS}

    def take(self, rows: NDArray[np.integer] | slice) -> "Inputs":
        """Return some of the users."""
        return Inputs(self.steps[rows], self.day[rows], self.facts[rows], self.numbers[rows])


class Vocabulary:
    """
    What a model knows of enrolments.

    Args:
        facts: `field=text`, in the order of the graph's columns.
        numbers: Fields whose values are numbers, in the same way.
    """

    def __init__(self, facts: Sequence[str], numbers: Sequence[str]) -> None:
        self.facts, self.numbers = tuple(facts), tuple(numbers)
        keys = np.array([key64(fact) for fact in facts], np.uint64)
        self._order = keys.argsort()
        self._sorted = keys[self._order]
        of_facts = [fact.partition("=")[0] for fact in facts]
        self.fields = tuple(dict.fromkeys((*of_facts, *numbers)))
        """Names of the enrolment's fields, as factors name them."""
        self.field_of_fact = np.array([self.fields.index(field) for field in of_facts], np.int64)
        self.field_of_number = np.array([self.fields.index(field) for field in numbers], np.int64)

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of what may move a score: the features, then the fields."""
        return (*NAMES, *self.fields)

    def beyond(self, fields: Collection[str]) -> tuple[str, ...]:
        """Return what it knows of an enrolment besides the course, what follows, and these fields."""
        return tuple(field for field in self.fields if field not in {"course", *NUMBERS, *fields})

    def inputs(self, seen: Seen) -> Inputs:
        """Return users as the graph takes them; what the model does not know is left out."""
        facts = np.zeros((len(seen), len(self.facts)), np.float32)
        if self.facts:
            place = np.searchsorted(self._sorted, seen.fact).clip(max=len(self.facts) - 1)
            rows, slots = ((self._sorted[place] == seen.fact) & (seen.fact != 0)).nonzero()
            facts[rows, self._order[place[rows, slots]]] = 1
        return Inputs(seen.steps, seen.day, facts, seen.numbers(self.numbers))

    def values(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return what factors are now, `(B, F)`: of the newest step and the numbers, NaN where it is no number."""
        values = np.full((len(inputs), len(self.factors)), np.nan, np.float32)
        values[:, : len(NAMES)] = inputs.steps[:, -1]
        values[:, len(NAMES) + self.field_of_number] = inputs.numbers
        return values


class RiskNetwork:
    """
    A `RiskModel` from an artifact.

    Args:
        graph: The model.
        identity: Which it is.
        vocabulary: What it knows of enrolments.

    Raises:
        ArtifactError: If the graph's inputs and outputs are not those of a risk model.
    """

    def __init__(self, graph: Graph, identity: Identity, vocabulary: Vocabulary) -> None:
        found = {name: kind for name, (kind, _) in graph.inputs.items()}
        if found != INPUTS or set(graph.outputs) != set(OUTPUTS):
            raise ArtifactError(
                f"expected a graph from {INPUTS} to {OUTPUTS}, found {found} to {sorted(graph.outputs)}"
            )
        sizes = {name: graph.inputs[name][1][1:] for name in INPUTS}
        wanted = {
            "steps": (WEEKS, len(FEATURES)), "day": (WEEKS,),
            "facts": (len(vocabulary.facts),), "numbers": (len(vocabulary.numbers),),
        }  # fmt: skip
        if sizes != wanted:
            raise ArtifactError(f"expected inputs of shape {wanted} a user, found {sizes}")
        self._graph = graph
        self._vocabulary = vocabulary
        self.identity = identity

    def beyond(self, fields: Collection[str]) -> tuple[str, ...]:
        """Return what it sees of an enrolment that these fields do not name; see `Vocabulary.beyond`."""
        return self._vocabulary.beyond(fields)

    def playing(self, variant: Literal["champion", "challenger"]) -> "RiskNetwork":
        """Return the same model in another part."""
        return RiskNetwork(self._graph, replace(self.identity, variant=variant), self._vocabulary)

    def score(self, seen: Seen) -> Risks:
        """Return the risks of users; see `RiskModel`."""
        inputs = self._vocabulary.inputs(seen)
        score, contributions = self._graph.run(OUTPUTS, inputs.named())
        return Risks(score, self._vocabulary.factors, contributions, self._vocabulary.values(inputs))
