"""Artifacts: what is published is loaded, and anything that is not as it was published is kept out."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import ArtifactError
from stream.learning.publication import Publication, publish
from stream.models import features
from stream.models.artifacts import (
    CARD,
    GOLDEN,
    MODEL,
    WEIGHTS,
    Span,
    digest,
    load,
    pack,
    read_manifest,
    read_weights,
)
from stream.models.onnx_file import check_model
from stream.models.store import MANIFEST
from tests import networks
from tests.stores import at
from tests.worlds import TOPIC_NAMES

FILES = (MODEL, MANIFEST, GOLDEN, WEIGHTS)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an artifact as `publish` leaves it; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("models") / "knowledge-1"
    about = Publication("knowledge", 1, "lstm-test", TOPIC_NAMES, Span(answers=0, users=0), {"logloss": 0.5})
    publish(networks.random_network(), *at(folder), about)
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """Return a copy of the artifact to be spoilt."""
    return Path(shutil.copytree(published, tmp_path / "copy"))


def change_manifest(folder: Path, **changes: Any) -> None:
    """Write a manifest with other fields."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes), "utf-8")


def read_all(folder: Path, sha256: str | None = None) -> None:
    """Read an artifact as those do who serve it and who train on from it."""
    load(*at(folder), variant="champion", sha256=sha256)
    read_weights(*at(folder), read_manifest(*at(folder)))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file and its digest: only what is in it can be found wrong."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / MANIFEST).read_bytes())["files"]
    change_manifest(folder, files=files | {name: hashlib.sha256(content).hexdigest()})


def test_what_is_published_is_loaded(published: Path) -> None:
    """An artifact loads with its identity, and holds its files and nothing else."""
    dkt = load(*at(published), variant="champion", sha256=digest((published / MANIFEST).read_bytes()))
    assert (dkt.identity.version, dkt.identity.variant, dkt.identity.state_format) == (1, "champion", "lstm-test")
    assert sorted(path.name for path in published.iterdir()) == sorted((*FILES, CARD))
    assert list(published.parent.iterdir()) == [published]


def test_weights_come_back(published: Path) -> None:
    """The weights for a warm start are those of the network."""
    found = read_weights(*at(published), read_manifest(*at(published)))
    for name, tensor in networks.random_network().state_dict().items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_no_pickle_anywhere(published: Path) -> None:
    """Arrays are read without pickle, and no file holds a pickle."""
    for path in published.iterdir():
        assert b"PROTO" not in path.read_bytes()[:2]
        assert not path.read_bytes().startswith(b"\x80")
    for name in (GOLDEN, WEIGHTS):
        with np.load(published / name, allow_pickle=False) as arrays:
            assert all(arrays[key].dtype.kind in "fi" for key in arrays.files)


@settings(max_examples=60)
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(
    published: Path, tmp_path_factory: pytest.TempPathFactory, name: str, place: float, bit: int
) -> None:
    """One bit of any file, wherever it is, keeps the artifact out."""
    folder = shutil.copytree(published, tmp_path_factory.mktemp("flipped") / "copy")
    announced = digest((folder / MANIFEST).read_bytes())
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="digest"):
        read_all(folder, announced)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    """An artifact is whole or none."""
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_all(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(folder: Path, name: str) -> None:
    """A file that was not written to its end is not read."""
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError):
        read_all(folder)


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is not there, or is a file, is an artifact error and nothing else."""
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ArtifactError, match="cannot be read"):
            load(*at(folder), variant="champion")


def test_too_large_a_model_is_refused_unread(published: Path) -> None:
    """The size is looked at first, and the sentence names the setting."""
    with pytest.raises(ArtifactError, match="STREAM_MODEL_MAX_BYTES"):
        load(*at(published), variant="champion", max_bytes=1_000)


def test_another_manifest_than_announced_is_refused(folder: Path) -> None:
    """A manifest that is good in itself, but not the announced one, is kept out."""
    announced = digest((folder / MANIFEST).read_bytes())
    change_manifest(folder, version=2)
    load(*at(folder), variant="champion")
    with pytest.raises(ArtifactError, match="announced digest"):
        load(*at(folder), variant="champion", sha256=announced)


@pytest.mark.parametrize("changes", [{"feature_version": features.VERSION + 1}, {"features": ["other"]}])
def test_a_model_of_other_features_is_refused(folder: Path, changes: dict[str, object]) -> None:
    """A model that was trained on other features must be trained again."""
    change_manifest(folder, **changes)
    with pytest.raises(ArtifactError, match="train it again"):
        load(*at(folder), variant="champion")


@pytest.mark.parametrize("changes", [{"format": 1}, {"version": 0}, {"files": {"model.onnx": 5}}, {"surprise": 1}])
def test_a_manifest_of_another_form_is_refused(folder: Path, changes: dict[str, object]) -> None:
    """What cannot be understood whole is not used."""
    change_manifest(folder, **changes)
    with pytest.raises(ArtifactError, match="not a manifest"):
        load(*at(folder), variant="champion")


def golden_of(folder: Path) -> dict[str, Any]:
    """Return the golden vectors of an artifact."""
    with np.load(folder / GOLDEN, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize("output", ["forecast", "next_hidden"])
def test_other_golden_numbers_are_refused(folder: Path, output: str) -> None:
    """A graph that does not give its golden outputs is not the one that was trained."""
    golden = golden_of(folder)
    golden[output].flat[3] += 0.01
    replace_file(folder, GOLDEN, pack(golden))
    with pytest.raises(ArtifactError, match="golden"):
        load(*at(folder), variant="champion")


@pytest.mark.parametrize("spoil", ["missing", "shape", "nan", "text"])
def test_golden_vectors_that_are_none_are_refused(folder: Path, spoil: str) -> None:
    """Golden vectors that lack an input, have another shape, are not finite or no numbers."""
    golden = golden_of(folder)
    if spoil == "missing":
        del golden["row"]
    if spoil == "shape":
        golden["forecast"] = golden["forecast"][:1]
    if spoil == "nan":
        golden["forecast"][:] = np.nan
    if spoil == "text":
        golden["forecast"] = golden["forecast"].astype(str)
    replace_file(folder, GOLDEN, pack(golden))
    with pytest.raises(ArtifactError):
        load(*at(folder), variant="champion")


def npy() -> bytes:
    """Return one array without names."""
    return pack({"a": np.zeros(3)})[:4] + b"\x00" * 30


@pytest.mark.parametrize(
    "content",
    [b"", b"no arrays", b"PK\x03\x04 broken", b"\x93NUMPY\x01\x00", npy(), pack({"a": np.array([{}], object)})],
    ids=["empty", "text", "zip", "npy", "header", "pickle"],
)
def test_broken_arrays_are_refused(folder: Path, content: bytes) -> None:
    """Bytes that are no arrays, or would have to be unpickled, are an artifact error, whatever numpy makes of them."""
    replace_file(folder, GOLDEN, content)
    with pytest.raises(ArtifactError):
        load(*at(folder), variant="champion")


Spoil = Callable[[onnx.ModelProto], None]


def _external(model: onnx.ModelProto) -> None:
    """Move a tensor out of the file."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _external_constant(model: onnx.ModelProto) -> None:
    """Have a constant's value outside of the file."""
    node = onnx.helper.make_node("Constant", [], ["x"], value=_outside())
    model.graph.node.append(node)


def _external_branch(model: onnx.ModelProto) -> None:
    """Hide a tensor outside of the file in a branch that has no nodes."""
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    branch = onnx.helper.make_graph([], "branch", [], [output], [_outside()])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["x"], then_branch=branch, else_branch=branch))


def _outside() -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="y", data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere")
    return tensor


def _custom_domain(model: onnx.ModelProto) -> None:
    """Use an operator that a library of somebody's would bring."""
    model.graph.node[0].domain = "com.example"


def _microsoft(model: onnx.ModelProto) -> None:
    """Use an operator of Microsoft's that quantisation does not need."""
    model.graph.node[0].domain = "com.microsoft"


def _custom_in_branch(model: onnx.ModelProto) -> None:
    """Hide a foreign operator in a branch of a branch."""
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    inner = onnx.helper.make_graph([onnx.helper.make_node("Evil", [], ["y"], domain="evil")], "inner", [], [output])
    middle = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    outer = onnx.helper.make_graph([middle], "outer", [], [output])
    model.graph.node.append(onnx.helper.make_node("Loop", ["c"], ["x"], body=outer))


def _function(model: onnx.ModelProto) -> None:
    """Define a function of its own."""
    model.functions.add(name="f", domain="")


def _empty(model: onnx.ModelProto) -> None:
    """Leave nothing to compute."""
    del model.graph.node[:]


@pytest.mark.parametrize(
    "spoil",
    [_external, _external_constant, _external_branch, _custom_domain, _microsoft, _custom_in_branch, _function, _empty],
)
def test_what_a_model_may_not_hold_is_refused(folder: Path, spoil: Spoil) -> None:
    """Tensors outside the file, foreign operators and functions never reach the runtime, wherever they hide."""
    model = onnx.load_model_from_string(networks.random_model())
    spoil(model)
    with pytest.raises(ArtifactError, match="expected"):
        check_model(model.SerializeToString())
    replace_file(folder, MODEL, model.SerializeToString())
    with pytest.raises(ArtifactError, match="expected"):
        load(*at(folder), variant="champion")


def test_our_own_exports_pass() -> None:
    """What we export ourselves is what we let in."""
    check_model(networks.random_model())


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_model_or_refused(content: bytes) -> None:
    """No bytes make the check itself raise anything but its own error."""
    try:
        check_model(content)
    except ArtifactError:
        return
    assert onnx.load_model_from_string(content).graph.node


def test_a_graph_that_the_runtime_refuses_is_refused(folder: Path) -> None:
    """A model of allowed operators that makes no sense is an artifact error too."""
    model = onnx.load_model_from_string(networks.random_model())
    lstm = next(node for node in model.graph.node if node.op_type == "LSTM")
    lstm.input[0] = "nowhere"
    replace_file(folder, MODEL, model.SerializeToString())
    with pytest.raises(ArtifactError, match="onnxruntime loads"):
        load(*at(folder), variant="champion")
