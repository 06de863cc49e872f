"""
Writing an artifact: the exported step, its small form, golden vectors, weights, manifest and card.

Where it stands is `stream.models.store`'s; it appears there whole or not at all.

Source:
    Mitchell et al. 2019, Model cards for model reporting.
"""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from stream.learning.network import Network, Shape, examples_of_inputs, export, weights
from stream.learning.quantize import LARGEST_FALL, quantized
from stream.learning.replay import predict_runs
from stream.learning.runs import Runs
from stream.models import artifacts, features
from stream.models.artifacts import Manifest, Span
from stream.models.dkt import INPUTS, OUTPUTS, Dkt
from stream.models.quality import auc
from stream.models.runtime import Graph
from stream.models.store import MANIFEST, Store
from stream.ports import Identity

STEP_MS = "step_ms"
"""The figure that says how long a step of 500 users took on the machine that trained, milliseconds."""


@dataclass(frozen=True, slots=True)
class Publication:
    """
    What an artifact is to say of itself.

    Attributes:
        name: The model's.
        version: Its, from 1.
        state_format: Which models read its hidden states.
        skills: In order of their rows.
        trained_on: The training data, in short.
        metrics: On users or answers held out.
        recipe: How it was made.
        held_out: Answers on which the small form is held against the whole one; None makes no small form.
    """

    name: str
    version: int
    state_format: str
    skills: tuple[str, ...]
    trained_on: Span
    metrics: Mapping[str, float]
    recipe: Mapping[str, float] = field(default_factory=dict)
    held_out: Runs | None = None


def weights_digest(network: Network) -> str:
    """Return what tells these weights from all others, twelve hexadecimal digits."""
    return artifacts.digest(b"".join(array.tobytes() for array in weights(network).values()))[:12]


def publish(network: Network, store: Store, path: str, about: Publication) -> None:
    """
    Write an artifact.

    Args:
        network: What to export; it is left in evaluation.
        store: Where models are kept.
        path: Of the artifact there, such as `knowledge/v7`.
        about: What it is to say of itself.

    Raises:
        ArtifactError: If it exists already.
        StoreError: If it could not be written.
    """
    model = export(network.eval())
    inputs = examples_of_inputs(network.shape, seed=about.version)
    graph = Graph(model)
    files = {
        artifacts.MODEL: model,
        artifacts.GOLDEN: artifacts.pack(inputs | dict(zip(OUTPUTS, graph.run(OUTPUTS, inputs), strict=True))),
        artifacts.WEIGHTS: artifacts.pack(weights(network)),
    }
    metrics = {**about.metrics, STEP_MS: _step_ms(graph, network.shape)}
    if about.held_out is not None:
        small = quantized(model)
        fall = _fall(model, small, about, about.held_out)
        if fall is not None:
            metrics["int8_auc_fall"] = fall
        if fall is not None and fall <= LARGEST_FALL:
            outputs = Graph(small).run(OUTPUTS, inputs)
            files[artifacts.MODEL_INT8] = small
            files[artifacts.GOLDEN_INT8] = artifacts.pack(inputs | dict(zip(OUTPUTS, outputs, strict=True)))
    names = ("calibration_slope", "calibration_intercept", "calibration_log_sigma")
    recipe = {**about.recipe, "item": network.shape.item, **dict(zip(names, network.calibration.tolist(), strict=True))}
    manifest = Manifest(
        name=about.name,
        version=about.version,
        state_format=about.state_format,
        hidden_size=network.shape.hidden_size,
        feature_version=features.VERSION,
        features=features.NAMES,
        inputs=tuple(INPUTS),
        outputs=OUTPUTS,
        skills=about.skills,
        trained_on=about.trained_on,
        recipe=recipe,
        metrics=metrics,
        files={},
    )
    files[artifacts.CARD] = card(manifest, {name: len(content) for name, content in files.items()}).encode()
    digests = {name: artifacts.digest(content) for name, content in files.items()}
    whole = manifest.model_copy(update={"files": digests})
    store.publish(path, files | {MANIFEST: whole.model_dump_json(indent=1).encode()})


def _step_ms(graph: Graph, shape: Shape) -> float:
    """Return how long a step of 500 users with a question each takes, the median of some, milliseconds."""
    inputs = examples_of_inputs(shape, seed=0, users=500, questions=500)
    taken = []
    for _ in range(1 + _STEPS_TIMED):
        began_at = time.perf_counter()
        graph.run(OUTPUTS, inputs)
        taken.append(1_000 * (time.perf_counter() - began_at))
    return statistics.median(taken[1:])


_STEPS_TIMED = 5


def _fall(model: bytes, small: bytes, about: Publication, held_out: Runs) -> float | None:
    """Return how far the AUC falls with the small form; None where too few answers tell."""
    identity = Identity(about.name, about.version, "challenger", about.state_format)
    there = held_out.there
    if there.sum() < _LEAST_HELD_OUT:
        return None
    found = []
    for form in (model, small):
        said = predict_runs(Dkt(Graph(form), identity, about.skills), held_out)
        found.append(auc(held_out.correct[there], said[there]))
    whole_auc, small_auc = found
    return None if whole_auc is None or small_auc is None else whole_auc - small_auc


_LEAST_HELD_OUT = 200
"""Answers held out below which nothing is said of a fall of .002."""


def card(manifest: Manifest, sizes: Mapping[str, int]) -> str:
    """
    Return a model card, Markdown.

    Args:
        manifest: Of the artifact.
        sizes: Of its other files, bytes.
    """
    span = manifest.trained_on
    when = f", from {span.first_at} to {span.last_at}" if span.first_at and span.last_at else ""
    figures = rows(manifest.metrics)
    recipe = rows(manifest.recipe)
    files = "\n".join(f"| `{name}` | {size:,} |" for name, size in sizes.items())
    return f"""# {manifest.name}, version {manifest.version}

A recurrent network of knowledge tracing: after each answer of a learner it says of any question whether the next answer
will be right, and how long it will take (median, 10% and 90% quantile). One step for an answer, however long the past.

- **For:** ordering practice, telling a teacher where a group stands, planning time. Live, from a stream of answers.
- **Not for:** grading, admission, or any decision about a person that no human looks at. It has learned from what
  learners of one platform did, and says nothing of why.
- **State format:** `{manifest.state_format}` ({manifest.hidden_size} numbers a learner). Only versions of the same
  format read each other's states; for any other the state is rebuilt from the remembered answers.
- **Knows:** {len(manifest.skills):,} skills by name; items by hash; new ones fall back to what is known of their topic,
  and to the population.

## Learned from

{span.answers:,} answers of {span.users:,} learners{when}.

Features: version {manifest.feature_version}, {len(manifest.features)} of them. No name, mail address, gender, age or \
other field about a person goes in.

## Figures on what was held out of training

| figure | value |
|---|--:|
{figures}

The same answers stopped the training and set the calibration, so they flatter a little. `stream evaluate` gives figures
on users who played no part at all.

## How it was made

| | |
|---|--:|
{recipe}

Calibration: the logit is multiplied by the slope and moved by the intercept; the log of the response time's spread is
moved by `calibration_log_sigma`, so that 80% of the times held out lie between the 10% and the 90% quantile.

## Files

| file | bytes |
|---|--:|
{files}
"""


def rows(values: Mapping[str, float]) -> str:
    """Return the rows of a table of names and values, Markdown."""
    return "\n".join(f"| {name} | {value:.6g} |" for name, value in values.items())
