"""
Model artifacts: a folder with `model.onnx`, `manifest.json`, `golden.npz`, `weights.npz` and `card.md`.

Where a form with weights of 8 bits was found good enough, `model-int8.onnx` and `golden-int8.npz` stand beside them.

Files are read as bytes, checked, and only then handed to onnxruntime; nothing is unpickled. What is checked: the
manifest's digest against the announcement, each file's digest and size, the operators, that no tensor lies outside
the file, the inputs and outputs, and that the graph gives the golden outputs. Where they are kept is
`stream.models.store`'s.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas import Release
from stream.errors import ArtifactError, InferenceError
from stream.models import features, risk_network, weekly
from stream.models.dkt import INPUTS, OUTPUTS, Dkt
from stream.models.onnx_file import check_model
from stream.models.risk import RISK
from stream.models.risk_network import RiskNetwork, Vocabulary
from stream.models.runtime import Graph
from stream.models.store import MANIFEST, Store
from stream.ports import Identity

MODEL, GOLDEN, WEIGHTS, CARD = "model.onnx", "golden.npz", "weights.npz", "card.md"
MODEL_INT8, GOLDEN_INT8 = "model-int8.onnx", "golden-int8.npz"
GOLDEN_TOLERANCE = 1e-3
"""Largest difference from the golden outputs: kernels differ in the last digits between machines."""

Precision = Literal["fp32", "int8"]

_MANIFEST_MAX_BYTES = 4_194_304


class Span(BaseModel):
    """The training data, in short."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    answers: int
    users: int
    first_at: str | None = None
    last_at: str | None = None


class RiskSpan(BaseModel):
    """The training data of a risk model, in short."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    weeks: int
    """Of users whose outcome is known."""
    users: int
    at_risk: float = Field(ge=0, le=1)
    """Share of these users."""


class _Manifest(BaseModel):
    """What every artifact says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[2] = 2
    name: str
    version: int = Field(ge=1)
    feature_version: int
    features: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    recipe: dict[str, float]
    metrics: dict[str, float]
    files: dict[str, str]
    """SHA-256 of each other file, by name."""

    @property
    def expected_features(self) -> tuple[int, tuple[str, ...]]:
        """The version and the names of the features that this worker makes."""
        raise NotImplementedError


class Manifest(_Manifest):
    """What an artifact of a knowledge model says of itself."""

    state_format: str
    hidden_size: int
    skills: tuple[str, ...]
    trained_on: Span

    @property
    def expected_features(self) -> tuple[int, tuple[str, ...]]:
        """The version and the names of the features that this worker makes."""
        return features.VERSION, features.NAMES


class RiskManifest(_Manifest):
    """What an artifact of a risk model says of itself."""

    facts: tuple[str, ...]
    """Texts of enrolments that it knows, `field=text`."""
    numbers: tuple[str, ...]
    """Fields of enrolments whose values are numbers."""
    serving: Literal["network", "boosting", "blend"]
    trained_on: RiskSpan
    state_format: Literal["none"] = "none"

    @property
    def expected_features(self) -> tuple[int, tuple[str, ...]]:
        """The version and the names of the features that this worker makes."""
        return weekly.VERSION, weekly.NAMES


M = TypeVar("M", bound=_Manifest)


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def load(
    store: Store,
    path: str,
    *,
    variant: Literal["champion", "challenger"],
    sha256: str | None = None,
    max_bytes: int = 67_108_864,
    precision: Precision = "fp32",
) -> Dkt:
    """
    Return the model of an artifact.

    Args:
        store: Where models are kept.
        path: Of the artifact there, such as `knowledge/v7`.
        variant: The part that the model is to play.
        sha256: Digest of the manifest, as announced; None where there is no announcement.
        max_bytes: Largest model file.
        precision: `int8` for the form with weights of 8 bits, where the artifact has one.

    Raises:
        ArtifactError: If anything is not as it should be; the message says what.
    """
    manifest = read_manifest(store, path, sha256)
    graph, golden = _graph(store, path, manifest, max_bytes, precision)
    dkt = Dkt(graph, Identity(manifest.name, manifest.version, variant, manifest.state_format), manifest.skills)
    _check_golden(graph, golden, INPUTS, OUTPUTS)
    return dkt


def load_risk(
    store: Store,
    path: str,
    *,
    variant: Literal["champion", "challenger"],
    sha256: str | None = None,
    max_bytes: int = 67_108_864,
    precision: Precision = "fp32",
) -> RiskNetwork:
    """Return the risk model of an artifact; arguments and errors as `load`."""
    manifest = read_risk_manifest(store, path, sha256)
    graph, golden = _graph(store, path, manifest, max_bytes, precision)
    identity = Identity(manifest.name, manifest.version, variant, manifest.state_format)
    network = RiskNetwork(graph, identity, Vocabulary(manifest.facts, manifest.numbers))
    _check_golden(graph, golden, risk_network.INPUTS, risk_network.OUTPUTS)
    return network


def _graph(store: Store, path: str, manifest: _Manifest, max_bytes: int, precision: Precision) -> tuple[Graph, bytes]:
    """Return the graph of an artifact in one of its forms, its operators checked, and its golden vectors."""
    is_small = precision == "int8" and MODEL_INT8 in manifest.files
    name, golden = (MODEL_INT8, GOLDEN_INT8) if is_small else (MODEL, GOLDEN)
    model = _read(store, path, name, manifest, max_bytes)
    check_model(model)
    try:
        graph = Graph(model)
    except Exception as error:  # onnxruntime's classes share no base but Exception
        place = store.place(f"{path}/{name}")
        raise ArtifactError(f"{place}: expected a graph that onnxruntime loads, found: {error}") from error
    return graph, _read(store, path, golden, manifest, max_bytes)


def read_manifest(store: Store, path: str, sha256: str | None = None) -> Manifest:
    """
    Return an artifact's manifest.

    Raises:
        ArtifactError: If it is absent, not of this form, has another digest, or was made for other features.
    """
    return _read_manifest(store, path, sha256, Manifest)[0]


def read_risk_manifest(store: Store, path: str, sha256: str | None = None) -> RiskManifest:
    """Return the manifest of a risk model; errors as `read_manifest`."""
    return _read_manifest(store, path, sha256, RiskManifest)[0]


def _read_manifest(store: Store, path: str, sha256: str | None, kind: type[M]) -> tuple[M, str]:
    """Return an artifact's manifest, and its digest."""
    place = store.place(f"{path}/{MANIFEST}")
    content = store.read(f"{path}/{MANIFEST}", _MANIFEST_MAX_BYTES)
    found = digest(content)
    if sha256 is not None and found != sha256:
        raise ArtifactError(f"{place}: expected the announced digest {sha256}, found {found}")
    try:
        manifest = kind.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactError(f"{place}: not a manifest: {error}") from error
    version, names = manifest.expected_features
    if manifest.feature_version != version or manifest.features != names:
        raise ArtifactError(
            f"{store.place(path)}: expected features of version {version}, "
            f"found version {manifest.feature_version}; train it again"
        )
    return manifest, found


def release(store: Store, name: str, version: int) -> Release:
    """
    Return the announcement of a version in the store.

    Raises:
        ArtifactError: If it is not there, or is another version than its folder says.
    """
    path = store.folder_of(name, version)
    kind: type[Manifest | RiskManifest] = RiskManifest if name == RISK else Manifest
    manifest, sha256 = _read_manifest(store, path, None, kind)
    if (manifest.name, manifest.version) != (name, version):
        raise ArtifactError(
            f"{store.place(path)}: expected {name} version {version}, found {manifest.name} {manifest.version}"
        )
    return Release(version=version, sha256=sha256, path=path, state_format=manifest.state_format)


def read_weights(store: Store, path: str, manifest: _Manifest) -> dict[str, NDArray[np.float32]]:
    """Return an artifact's weights by name, for a warm start; raises `ArtifactError` like `load`."""
    return _arrays(_read(store, path, WEIGHTS, manifest, 1 << 31))


def _read(store: Store, path: str, name: str, manifest: _Manifest, max_bytes: int) -> bytes:
    content = store.read(f"{path}/{name}", max_bytes)
    expected = manifest.files.get(name)
    if digest(content) != expected:
        raise ArtifactError(f"{store.place(f'{path}/{name}')}: expected digest {expected}, found {digest(content)}")
    return content


def _arrays(content: bytes) -> dict[str, NDArray[np.float32]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except _NOT_ARRAYS as error:
        raise ArtifactError(f"expected arrays without pickle, found: {error}") from error
    strange = sorted(name for name, array in arrays.items() if array.dtype.kind not in "fi")
    if strange:
        raise ArtifactError(f"expected arrays of numbers, found something else in {strange}")
    return arrays


_NOT_ARRAYS = (ValueError, TypeError, OSError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What numpy raises over a file that is no `.npz`, or a broken one."""


def _check_golden(graph: Graph, content: bytes, inputs: Collection[str], outputs: Sequence[str]) -> None:
    golden = _arrays(content)
    missing = {*inputs, *outputs} - golden.keys()
    if missing:
        raise ArtifactError(f"expected golden vectors of every input and output, found none of {sorted(missing)}")
    try:
        results = graph.run(outputs, {name: golden[name] for name in inputs})
    except InferenceError as error:
        raise ArtifactError(f"the model failed on its golden vectors: {error}") from error
    for name, result in zip(outputs, results, strict=True):
        if result.shape != golden[name].shape or not np.allclose(result, golden[name], atol=GOLDEN_TOLERANCE):
            raise ArtifactError(
                f"expected the golden output {name}, found other numbers: the graph is not the one that was trained"
            )


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as the bytes of an `.npz` file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
