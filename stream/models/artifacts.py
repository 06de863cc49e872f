"""
Model artifacts: a folder with `model.onnx`, `manifest.json`, `golden.npz`, `weights.npz` and `card.md`.

Where a form with weights of 8 bits was found good enough, `model-int8.onnx` and `golden-int8.npz` stand beside them.

Files are read as bytes, checked, and only then handed to onnxruntime; nothing is unpickled. What is checked: the
manifest's digest against the announcement, each file's digest and size, the operators, that no tensor lies outside
the file, the inputs and outputs, and that the graph gives the golden outputs. Writing is atomic: a folder appears
whole or not at all.
"""

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas import Release
from stream.errors import ArtifactError, InferenceError
from stream.models import features
from stream.models.dkt import INPUTS, OUTPUTS, Dkt
from stream.models.onnx_file import check_model
from stream.models.runtime import Graph
from stream.ports import Identity

MODEL, MANIFEST, GOLDEN, WEIGHTS, CARD = "model.onnx", "manifest.json", "golden.npz", "weights.npz", "card.md"
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


class Manifest(BaseModel):
    """What an artifact says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[2] = 2
    name: str
    version: int = Field(ge=1)
    state_format: str
    hidden_size: int
    feature_version: int
    features: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    skills: tuple[str, ...]
    trained_on: Span
    recipe: dict[str, float]
    metrics: dict[str, float]
    files: dict[str, str]
    """SHA-256 of each other file, by name."""


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def load(
    folder: Path,
    *,
    variant: Literal["champion", "challenger"],
    sha256: str | None = None,
    max_bytes: int = 67_108_864,
    precision: Precision = "fp32",
) -> Dkt:
    """
    Return the model in a folder.

    Args:
        folder: The artifact.
        variant: The part that the model is to play.
        sha256: Digest of the manifest, as announced; None where there is no announcement.
        max_bytes: Largest model file.
        precision: `int8` for the form with weights of 8 bits, where the artifact has one.

    Raises:
        ArtifactError: If anything is not as it should be; the message says what.
    """
    manifest = read_manifest(folder, sha256)
    is_small = precision == "int8" and MODEL_INT8 in manifest.files
    name, golden = (MODEL_INT8, GOLDEN_INT8) if is_small else (MODEL, GOLDEN)
    model = _read(folder, name, manifest, max_bytes)
    check_model(model)
    try:
        graph = Graph(model)
    except Exception as error:  # onnxruntime's classes share no base but Exception
        raise ArtifactError(f"{folder / name}: expected a graph that onnxruntime loads, found: {error}") from error
    dkt = Dkt(graph, Identity(manifest.name, manifest.version, variant, manifest.state_format), manifest.skills)
    _check_golden(graph, _read(folder, golden, manifest, max_bytes))
    return dkt


def read_manifest(folder: Path, sha256: str | None = None) -> Manifest:
    """
    Return an artifact's manifest.

    Raises:
        ArtifactError: If it is absent, not of this form, has another digest, or was made for other features.
    """
    content = _bytes(folder / MANIFEST, _MANIFEST_MAX_BYTES)
    if sha256 is not None and digest(content) != sha256:
        raise ArtifactError(f"{folder / MANIFEST}: expected the announced digest {sha256}, found {digest(content)}")
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactError(f"{folder / MANIFEST}: not a manifest: {error}") from error
    if manifest.feature_version != features.VERSION or manifest.features != features.NAMES:
        raise ArtifactError(
            f"{folder}: expected features of version {features.VERSION}, "
            f"found version {manifest.feature_version}; train it again"
        )
    return manifest


def release(store: Path, name: str, version: int) -> Release:
    """
    Return the announcement of a version in the store.

    Raises:
        ArtifactError: If it is not there, or is another version than its folder says.
    """
    folder = store / name / f"v{version}"
    manifest = read_manifest(folder)
    if (manifest.name, manifest.version) != (name, version):
        raise ArtifactError(f"{folder}: expected {name} version {version}, found {manifest.name} {manifest.version}")
    return Release(
        version=version,
        sha256=digest((folder / MANIFEST).read_bytes()),
        path=folder.relative_to(store).as_posix(),
        state_format=manifest.state_format,
    )


def read_weights(folder: Path, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """Return an artifact's weights by name, for a warm start; raises `ArtifactError` like `load`."""
    return _arrays(_read(folder, WEIGHTS, manifest, 1 << 31))


def _bytes(path: Path, max_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ArtifactError(f"{path}: expected at most {max_bytes} bytes, found {size} (STREAM_MODEL_MAX_BYTES)")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error


def _read(folder: Path, name: str, manifest: Manifest, max_bytes: int) -> bytes:
    content = _bytes(folder / name, max_bytes)
    expected = manifest.files.get(name)
    if digest(content) != expected:
        raise ArtifactError(f"{folder / name}: expected digest {expected}, found {digest(content)}")
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


def _check_golden(graph: Graph, content: bytes) -> None:
    golden = _arrays(content)
    missing = {*INPUTS, *OUTPUTS} - golden.keys()
    if missing:
        raise ArtifactError(f"expected golden vectors of every input and output, found none of {sorted(missing)}")
    try:
        results = graph.run(OUTPUTS, {name: golden[name] for name in INPUTS})
    except InferenceError as error:
        raise ArtifactError(f"the model failed on its golden vectors: {error}") from error
    for name, result in zip(OUTPUTS, results, strict=True):
        if result.shape != golden[name].shape or not np.allclose(result, golden[name], atol=GOLDEN_TOLERANCE):
            raise ArtifactError(
                f"expected the golden output {name}, found other numbers: the graph is not the one that was trained"
            )


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as the bytes of an `.npz` file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """
    Give a temporary folder beside `folder` that takes its name when the block ends well, and vanishes when it does not.

    Raises:
        ArtifactError: If `folder` exists already: an artifact is never written over.
    """
    if folder.exists():
        raise ArtifactError(f"{folder}: exists already; choose another place")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
