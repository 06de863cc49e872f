"""
Writing an artifact of a risk model: graph, its small form, golden vectors, weights, manifest and card.

What an artifact is, is `stream.models.artifacts`'; where it stands, `stream.models.store`'s.

Source:
    Mitchell et al. 2019, Model cards for model reporting.
"""

import io
import statistics
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream.learning.publication import STEP_MS, rows
from stream.learning.quantize import quantized
from stream.learning.risk.boosting import arrays_of, is_of_trees, stages_of
from stream.learning.risk.model import Served, faithfulness
from stream.learning.risk.network import Network, Shape
from stream.learning.risk.snapshots import Snapshots
from stream.learning.risk.training import Trained, inputs_of
from stream.models import artifacts, weekly
from stream.models.artifacts import RiskManifest, RiskSpan
from stream.models.quality import auc, calibration_error, log_losses
from stream.models.risk import RISK
from stream.models.risk_network import INPUTS, OUTPUTS, Inputs, Vocabulary
from stream.models.runtime import Graph
from stream.models.store import MANIFEST, Store
from stream.state.academic import WEEKS

LARGEST_FALL = 0.005
"""Of the AUC by the small form: what is worse is not kept."""

LEAST_FAITHFUL = 0.9
"""Share of the named factors that must move the score the way they say; of what is below, the card warns."""

_MOST_HELD_OUT = 5_000
_MOST_EXPLAINED = 300


def publish(trained: Trained, held_out: Snapshots, learned: RiskSpan, store: Store, path: str, version: int) -> None:
    """
    Write an artifact.

    Args:
        trained: What to write.
        held_out: Users that were not learned from: figures are made on them.
        learned: The training data, in short.
        store: Where models are kept.
        path: Of the artifact there, such as `risk/v7`.
        version: Its, from 1.

    Raises:
        ArtifactError: If it exists already.
        StoreError: If it could not be written.
    """
    served = trained.served.eval()
    held_out = held_out.take(np.random.default_rng(0).permutation(len(held_out))[:_MOST_HELD_OUT])
    inputs = inputs_of(served.vocabulary, held_out)
    model = export(served)
    graph = Graph(model)
    golden = inputs.take(slice(0, 3))
    files = {artifacts.MODEL: model, artifacts.GOLDEN: _golden(graph, golden), artifacts.WEIGHTS: _weights(served)}
    score, contributions = _run(graph, inputs)
    metrics = trained.figures | figures(held_out, score)
    few = inputs.take(slice(0, _MOST_EXPLAINED))
    metrics["faithful_factors"] = faithfulness(served, few, contributions[: len(few)])
    metrics[STEP_MS] = _step_ms(graph, inputs)
    # What is usual is looked up: rounded, it would move features across the trees' thresholds.
    small = quantized(model, exact={"Flatten", "Gather"})
    fall = _fall(held_out, score, _run(Graph(small), inputs)[0])
    if fall is not None:
        metrics["int8_auc_fall"] = fall
        if fall <= LARGEST_FALL:
            files |= {artifacts.MODEL_INT8: small, artifacts.GOLDEN_INT8: _golden(Graph(small), golden)}
    weights = served.weight.tolist()
    manifest = RiskManifest(
        name=RISK,
        version=version,
        feature_version=weekly.VERSION,
        features=weekly.NAMES,
        inputs=tuple(INPUTS),
        outputs=OUTPUTS,
        facts=served.vocabulary.facts,
        numbers=served.vocabulary.numbers,
        serving=trained.serving,
        trained_on=learned,
        recipe={"weight_network": weights[0], "weight_trees": weights[1]},
        metrics=metrics,
        files={},
    )
    files[artifacts.CARD] = card(manifest, {name: len(content) for name, content in files.items()}).encode()
    digests = {name: artifacts.digest(content) for name, content in files.items()}
    whole = manifest.model_copy(update={"files": digests})
    store.publish(path, files | {MANIFEST: whole.model_dump_json(indent=1).encode()})


def span_of(learned: Snapshots) -> RiskSpan:
    """Return what was learned from, in short."""
    users, first = np.unique(learned.user, return_index=True)
    return RiskSpan(weeks=len(learned), users=len(users), at_risk=float(learned.risk[first].mean()))


def figures(held_out: Snapshots, score: NDArray[np.float32]) -> dict[str, float]:
    """Return how good scores are: log loss, calibration error and, where both are there, AUC."""
    at_risk = held_out.risk >= _HALF
    area = auc(at_risk, score)
    found = {
        "logloss": float(log_losses(at_risk, score).mean()), "ece": calibration_error(at_risk, score),
        "users": float(len(np.unique(held_out.user))),
    }  # fmt: skip
    return found if area is None else found | {"auc": area}


_HALF = 0.5


def export(served: Served) -> bytes:
    """Return what serves as an ONNX model."""
    shape = served.network.shape
    inputs = (
        torch.zeros(2, WEEKS, len(weekly.FEATURES)), torch.zeros(2, WEEKS),
        torch.zeros(2, shape.facts), torch.zeros(2, shape.numbers),
    )  # fmt: skip
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter is the one whose GRU is a single node; torch warns that it has a successor.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            served.eval(),
            inputs,
            buffer,  # type: ignore[arg-type] # a file of any kind will do
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "users"} for name in (*INPUTS, *OUTPUTS)},
            opset_version=17,
            custom_opsets={"ai.onnx.ml": 3},
            dynamo=False,
        )
    return buffer.getvalue()


def _golden(graph: Graph, inputs: Inputs) -> bytes:
    return artifacts.pack(inputs.named() | dict(zip(OUTPUTS, _run(graph, inputs), strict=True)))


def _run(graph: Graph, inputs: Inputs) -> list[NDArray[np.float32]]:
    return graph.run(OUTPUTS, inputs.named())


def _step_ms(graph: Graph, inputs: Inputs) -> float:
    """Return how long 500 users take, the median of some, milliseconds."""
    batch = inputs.take(np.arange(_USERS_TIMED) % len(inputs))
    taken = []
    for _ in range(1 + _STEPS_TIMED):
        began_at = time.perf_counter()
        _run(graph, batch)
        taken.append(1_000 * (time.perf_counter() - began_at))
    return statistics.median(taken[1:])


_USERS_TIMED, _STEPS_TIMED = 500, 5


def _fall(held_out: Snapshots, whole: NDArray[np.float32], small: NDArray[np.float32]) -> float | None:
    """Return how far the AUC falls with the small form; None where all became the same."""
    at_risk = held_out.risk >= _HALF
    before, after = auc(at_risk, whole), auc(at_risk, small)
    return None if before is None or after is None else before - after


def _weights(served: Served) -> bytes:
    """Return all that an update starts from."""
    arrays: dict[str, NDArray[Any]] = {name: tensor.numpy() for name, tensor in served.state_dict().items()}
    return artifacts.pack(arrays | arrays_of(served.trees))


def served_of(arrays: Mapping[str, NDArray[Any]], vocabulary: Vocabulary) -> Served:
    """Return what serves from the weights of an artifact; raises `ValueError` if they are not of that form."""
    of_network = {n.removeprefix("network."): a for n, a in arrays.items() if n.startswith("network.")}
    try:
        served = Served(Network(Shape.of(of_network)), stages_of(arrays), vocabulary)
        state = {name: torch.from_numpy(a.copy()) for name, a in arrays.items() if not is_of_trees(name)}
        served.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"expected the weights of a risk model, found others: {error}") from error
    return served


def card(manifest: RiskManifest, sizes: Mapping[str, int]) -> str:
    """
    Return a model card, Markdown.

    Args:
        manifest: Of the artifact.
        sizes: Of its other files, bytes.
    """
    span = manifest.trained_on
    fields = ", ".join(dict.fromkeys([*(f.partition("=")[0] for f in manifest.facts), *manifest.numbers]))
    files = "\n".join(f"| `{name}` | {size:,} |" for name, size in sizes.items())
    faithful = manifest.metrics.get("faithful_factors", 1.0)
    warning = "" if faithful >= LEAST_FAITHFUL else "\n**The factors of this version are not to be relied on.**\n"
    return f"""# {manifest.name}, version {manifest.version}

Says of a learner, from ten weeks of attendance, grades, discipline and activity, how likely it is that the course ends
in failing or leaving, and which five things weigh most. What serves is: {manifest.serving}.

- **For:** finding, early enough, whom to offer help. A person looks at each case, and decides.
- **Not for:** grading, admission, exclusion, or any decision that no person takes. The score is no verdict: of those
  whom it calls at risk, many pass. A factor is what moves the score, not what causes the risk.
- **Of the enrolment it sees:** {fields or "nothing"}.

## Learned from

{span.weeks:,} weeks of {span.users:,} learners whose outcome is known, {span.at_risk:.0%} of them at risk.

Features: version {manifest.feature_version}, {len(manifest.features)} a week.

## Figures on learners held out

| figure | value |
|---|--:|
{rows(manifest.metrics)}

The same learners stopped the training and set the calibration, so they flatter a little; `stream evaluate --task risk`
gives figures on learners who played no part at all. `faithful_factors` is how often a named factor moves the score the
way it says, when it is set to what is usual.
{warning}
## How it is put together

| | |
|---|--:|
{rows(manifest.recipe)}

The published log odds are the network's and the trees', each times its weight.

## Files

| file | bytes |
|---|--:|
{files}
"""
