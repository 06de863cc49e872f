"""
Gradient boosting beside the network: fitted by scikit-learn, kept as arrays, served as nodes of the graph.

A course has three stages, each with trees of its own: what says much after five weeks says little after fifteen.

The node is written here because skl2onnx 1.20 fails with onnx 1.23 over its own attributes; it can go when that is
mended.

Source:
    Ke et al. 2017, LightGBM: a highly efficient gradient boosting decision tree (histograms and leaf-wise growth).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

_LEAF = -1


@dataclass(frozen=True, slots=True)
class Trees:
    """
    Regression trees whose leaves add up to log odds; nodes of all trees stand one after the other.

    Attributes:
        feature: Column that a node looks at, -1 for a leaf, int32 `(N,)`.
        threshold: Up to it a value goes left, float32 `(N,)`.
        left: Node, int32 `(N,)`.
        right: Node, int32 `(N,)`.
        value: Log odds that a leaf adds, float32 `(N,)`.
        root: First node of each tree, int32 `(T,)`.
        base: Log odds before any tree, float32 `(1,)`.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]
    root: NDArray[np.int32]
    base: NDArray[np.float32]

    def log_odds(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the trees say of rows without NaN, `(B, F)` to `(B,)`."""
        total = np.full(len(inputs), self.base[0], np.float32)
        for root in self.root.tolist():
            node = np.full(len(inputs), root, np.int32)
            going = np.arange(len(inputs))
            while len(going):
                at = node[going]
                inner = self.feature[at] != _LEAF
                going, at = going[inner], at[inner]
                is_left = inputs[going, self.feature[at]] <= self.threshold[at]
                node[going] = np.where(is_left, self.left[at], self.right[at])
            total += self.value[node]
        return total


STAGES: Final = ((None, 45.0), (40.0, 75.0), (70.0, None))
"""
From which to which day of a course the trees of a stage learn. They overlap, for what is learned from the days on
either side holds at a border too.
"""

BORDERS: Final = tuple((until + since) / 2 for (_, until), (since, _) in pairwise(STAGES) if until and since)
"""Days at which the next stage's trees are heard; where the day is not known, the last ones are."""


def arrays_of(stages: Sequence[Trees]) -> dict[str, NDArray[Any]]:
    """Return the arrays of trees, by name."""
    return {
        f"{_PREFIX}{stage}.{column.name}": getattr(trees, column.name)
        for stage, trees in enumerate(stages)
        for column in fields(Trees)
    }


def stages_of(arrays: Mapping[str, NDArray[Any]]) -> tuple[Trees, ...]:
    """Return the trees of each stage from their arrays; raises `KeyError` if one is not there."""
    return tuple(
        Trees(*(arrays[f"{_PREFIX}{stage}.{column.name}"] for column in fields(Trees))) for stage in range(len(STAGES))
    )


def is_of_trees(name: str) -> bool:
    """Return whether an array is one of the trees'."""
    return name.startswith(_PREFIX)


_PREFIX = "trees."


@dataclass(frozen=True, slots=True)
class Rows:
    """
    What trees learn from.

    Attributes:
        inputs: Without NaN, float32 `(N, F)`.
        day: Of the course, NaN where unknown, float32 `(N,)`.
        risk: Whether at risk; a label between 0 and 1 counts as the nearer, float32 `(N,)`.
    """

    inputs: NDArray[np.float32]
    day: NDArray[np.float32]
    risk: NDArray[np.float32]

    def of_stage(self, since: float | None, until: float | None) -> "Rows":
        """Return the rows of a stage; all, where it has too few, or only users who became the same."""
        inside = np.isnan(self.day)
        inside |= (self.day >= (-np.inf if since is None else since)) & (
            self.day <= (np.inf if until is None else until)
        )
        of_stage = self.risk[inside] >= _HALF
        if len(of_stage) < _LEAST_ROWS or of_stage.all() or not of_stage.any():
            return self
        return Rows(self.inputs[inside], self.day[inside], self.risk[inside])


def boost_stages(learned: Rows, seed: int) -> tuple[Trees, ...]:
    """Return the trees of each stage; `seed` is of everything random."""
    return tuple(boost(learned.of_stage(*stage), seed) for stage in STAGES)


def boost(learned: Rows, seed: int) -> Trees:
    """Return trees that say whether users are at risk; `seed` is of everything random."""
    least_in_leaf = min(LEAST_IN_LEAF, max(len(learned.risk) // _LEAST_LEAVES, 5))
    model = HistGradientBoostingClassifier(
        learning_rate=LEARNING_RATE, max_iter=TREES, max_leaf_nodes=LEAVES, min_samples_leaf=least_in_leaf,
        l2_regularization=L2, max_features=COLUMNS, early_stopping=False, random_state=seed,
    )  # fmt: skip
    return _trees(model.fit(learned.inputs, learned.risk >= _HALF))


_HALF = 0.5
_LEAST_ROWS = 200
LEARNING_RATE, TREES, LEAVES, LEAST_IN_LEAF, L2, COLUMNS = 0.06, 150, 12, 150, 5.0, 0.5
"""Of the boosting; the share of the columns is drawn for each split."""

_LEAST_LEAVES = 50
"""Of so many leaves there must be enough rows, however few there are."""


def _trees(model: HistGradientBoostingClassifier) -> Trees:
    """Return a fitted model's trees. scikit-learn has no public way to them; skl2onnx takes the same one."""
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("feature", "threshold", "left", "right", "value")}
    root, count = [], 0
    for (predictor,) in model._predictors:  # noqa: SLF001
        nodes = predictor.nodes
        is_leaf = nodes["is_leaf"].astype(bool)
        root.append(count)
        columns["feature"].append(np.where(is_leaf, _LEAF, nodes["feature_idx"]))
        columns["threshold"].append(nodes["num_threshold"])
        columns["left"].append(np.where(is_leaf, 0, nodes["left"] + count))
        columns["right"].append(np.where(is_leaf, 0, nodes["right"] + count))
        columns["value"].append(np.where(is_leaf, nodes["value"], 0.0))
        count += len(nodes)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Trees(
        joined["feature"].astype(np.int32), _not_above(joined["threshold"]),
        joined["left"].astype(np.int32), joined["right"].astype(np.int32),
        joined["value"].astype(np.float32), np.array(root, np.int32),
        np.ravel(model._baseline_prediction).astype(np.float32),  # noqa: SLF001
    )  # fmt: skip


def _not_above(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return thresholds as float32, never above themselves: what a float32 goes left of stays the same."""
    narrow = threshold.astype(np.float32)
    return np.where(narrow > threshold, np.nextafter(narrow, np.float32(-np.inf)), narrow).astype(np.float32)


class TreeNode(torch.autograd.Function):
    """The trees as one node of an exported graph: `TreeEnsembleRegressor` of `ai.onnx.ml`."""

    @staticmethod
    def forward(_: object, inputs: torch.Tensor, trees: Trees) -> torch.Tensor:
        """Return log odds, `(B, F)` to `(B, 1)`."""
        return torch.from_numpy(trees.log_odds(inputs.detach().numpy()))[:, None]

    @staticmethod
    def symbolic(graph: Any, inputs: Any, trees: Trees) -> Any:  # noqa: ANN401 (torch names no type for it)
        """Return the node."""
        number = np.arange(len(trees.feature))
        tree = np.searchsorted(trees.root, number, side="right") - 1
        place = number - trees.root[tree]
        is_leaf = trees.feature == _LEAF
        leaves = np.flatnonzero(is_leaf)
        said = graph.op(
            "ai.onnx.ml::TreeEnsembleRegressor", inputs,
            n_targets_i=1, base_values_f=trees.base.tolist(), aggregate_function_s="SUM",
            nodes_treeids_i=tree.tolist(), nodes_nodeids_i=place.tolist(),
            nodes_featureids_i=np.where(is_leaf, 0, trees.feature).tolist(),
            nodes_modes_s=["LEAF" if leaf else "BRANCH_LEQ" for leaf in is_leaf.tolist()],
            nodes_values_f=trees.threshold.tolist(),
            nodes_truenodeids_i=np.where(is_leaf, 0, trees.left - trees.root[tree]).tolist(),
            nodes_falsenodeids_i=np.where(is_leaf, 0, trees.right - trees.root[tree]).tolist(),
            target_treeids_i=tree[leaves].tolist(), target_nodeids_i=place[leaves].tolist(),
            target_ids_i=[0] * len(leaves), target_weights_f=trees.value[leaves].tolist(),
        )  # fmt: skip
        # The exporter knows no shapes of this operator.
        said.setType(inputs.type().with_sizes([None, 1]))
        return said
