"""The store of models: an artifact is there whole or not at all, wherever it stands, and old ones go."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ArtifactError, StoreError, UserError
from stream.learning.publication import Publication, publish
from stream.models.artifacts import Span, load, read_manifest, read_weights, release
from stream.models.store import MANIFEST, Store, outdated
from tests import networks
from tests.worlds import TOPIC_NAMES

FILES = {MANIFEST: b"{}", "model.onnx": b"graph", "card.md": b"card"}
LARGE = 1_000_000
SPECIAL = "a [b]*?-~é"
"""What a shell or a pattern would read otherwise, in the name of the store's folder."""

Url = Callable[[str], str]


@pytest.fixture(params=["disk", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Url:
    """Return what gives URLs of places of this test's own, by their names: on a disk, and where nothing is renamed."""
    own = uuid4().hex
    return lambda name: str(tmp_path / name) if request.param == "disk" else f"memory://{own}/{name}"


@pytest.fixture
def store(url: Url) -> Store:
    """Return a store that does not exist yet."""
    return Store(url(f"models/{SPECIAL}"))


@pytest.fixture
def disk(tmp_path: Path) -> Store:
    """Return a store that is a folder."""
    return Store(str(tmp_path / "models"))


@pytest.fixture
def memory() -> Store:
    """Return a store in memory, which behaves as an object store."""
    return Store(f"memory://{uuid4().hex}/models")


def fill(store: Store, *versions: int) -> None:
    """Publish versions of one model."""
    for version in versions:
        store.publish(store.folder_of("knowledge", version), FILES)


def left(store: Store) -> list[str]:
    """Return every file and folder in a store, beside the model's own folder."""
    found = store._fs.find(store._root, withdirs=True)
    return sorted(path.removeprefix(store._root) for path in found if not path.endswith((store._root, "/knowledge")))


def fail(error: BaseException, *, after: int = 0) -> Callable[..., None]:
    """Return what raises when it is called, after so many calls that do nothing."""
    calls: list[int] = []

    def failing(*_: object, **__: object) -> None:
        calls.append(1)
        if len(calls) > after:
            raise error

    return failing


def hinder(monkeypatch: pytest.MonkeyPatch, store: Store, error: BaseException, *, after: str = "") -> None:
    """
    Have each write to a store fail.

    Args:
        monkeypatch: Undoes it.
        store: On a disk or in memory.
        error: What is raised.
        after: Name of a file: only what is written from it on fails. On a disk, the second file.
    """
    if isinstance(store._fs, LocalFileSystem):
        monkeypatch.setattr(os, "fsync", fail(error, after=1 if after else 0))
        return
    real = MemoryFileSystem.pipe_file

    def pipe_file(fs: MemoryFileSystem, path: str, value: bytes) -> None:
        if path.endswith(after):
            raise error
        real(fs, path, value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)


def test_a_version_is_there_once_it_is_published(store: Store) -> None:
    """A store begins empty; what is published is listed and read, in the order of versions, not of their names."""
    assert (store.versions("knowledge"), store.last_version("knowledge")) == ([], 0)
    fill(store, 2, 10, 1)
    assert (store.versions("knowledge"), store.last_version("knowledge")) == ([1, 2, 10], 10)
    assert store.versions("other") == []
    for name, content in FILES.items():
        assert store.read(f"knowledge/v10/{name}", LARGE) == content


def test_other_names_are_no_versions(store: Store) -> None:
    """What is no version of ours is neither listed nor swept."""
    names = ["v01", "v0", "v-1", "v1.old", "version", "w7", "v٣"]
    for name in names:
        store.publish(f"knowledge/{name}", FILES)
    before = left(store)
    assert (store.versions("knowledge"), store.last_version("knowledge")) == ([], 0)
    store.sweep("knowledge")
    assert left(store) == before
    assert {path.split("/")[2] for path in before} == set(names)


def test_a_listing_is_fresh(url: Url) -> None:
    """What another process has published since is seen."""
    reader, writer = Store(url("models")), Store(url("models"))
    assert reader.versions("knowledge") == []
    fill(writer, 1)
    assert reader.versions("knowledge") == [1]
    writer.remove("knowledge", 1)
    assert reader.versions("knowledge") == []


def test_the_cache_of_listings_is_not_trusted(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filesystem that remembers listings is told to forget them before each question."""
    asked: list[str] = []
    for name in ("invalidate_cache", "ls", "info", "find"):
        real = getattr(MemoryFileSystem, name)

        def note(
            fs: MemoryFileSystem, *args: object, _name: str = name, _real: object = real, **more: object
        ) -> object:
            asked.append(_name)
            return _real(fs, *args, **more)  # type: ignore[operator]

        monkeypatch.setattr(MemoryFileSystem, name, note)
    for question in (memory.versions, memory.last_version, memory.sweep):
        asked.clear()
        question("knowledge")
        assert asked[:2] == ["invalidate_cache", "ls"]
    asked.clear()
    fill(memory, 1)
    assert asked[:2] == ["invalidate_cache", "info"]
    asked.clear()
    memory.read("knowledge/v1/model.onnx", LARGE)
    assert asked[:2] == ["invalidate_cache", "info"]


def test_an_artifact_is_never_written_over(store: Store) -> None:
    """A version that is there stays as it is."""
    fill(store, 1)
    with pytest.raises(ArtifactError, match=r"knowledge/v1: exists already"):
        store.publish("knowledge/v1", FILES | {"model.onnx": b"another"})
    assert store.read("knowledge/v1/model.onnx", LARGE) == b"graph"
    assert store.versions("knowledge") == [1]


def test_a_folder_on_a_disk_is_never_written_into(disk: Store, tmp_path: Path) -> None:
    """Nor if it is empty, for it was made by somebody else, or is a link that leads nowhere."""
    (tmp_path / "models/knowledge/v1").mkdir(parents=True)
    (tmp_path / "models/knowledge/v2").symlink_to(tmp_path / "nowhere")
    for version in (1, 2):
        with pytest.raises(ArtifactError, match="exists already"):
            fill(disk, version)
    assert left(disk) == ["/knowledge/v1", "/knowledge/v2"]


def test_the_manifest_is_written_last(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is renamed, an artifact appears with its last file; it is looked for while each is written."""
    seen: list[tuple[str, list[int]]] = []
    real = MemoryFileSystem.pipe_file

    def pipe_file(fs: MemoryFileSystem, path: str, value: bytes) -> None:
        seen.append((path.rpartition("/")[2], memory.versions("knowledge")))
        real(fs, path, value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    fill(memory, 1)
    assert seen == [("model.onnx", []), ("card.md", []), (MANIFEST, [])]
    assert memory.versions("knowledge") == [1]


def test_a_folder_on_a_disk_appears_whole(disk: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each file is on the disk before the folder takes its name, and other users may read it."""
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append((tmp_path / "models/knowledge/v1").exists()))
    fill(disk, 1)
    assert seen == [False] * len(FILES)
    folder = tmp_path / "models/knowledge/v1"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert folder.stat().st_mode & 0o777 == 0o755
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("after", ["model.onnx", "card.md", MANIFEST])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "broken")], ids=["interrupt", "error"])
def test_an_interrupted_publication_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, after: str, error: BaseException
) -> None:
    """Whatever goes wrong at whichever file, no artifact appears, and none of its files stays."""
    fill(store, 1)
    before = left(store)
    with monkeypatch.context() as patch:
        hinder(patch, store, error, after=after)
        with pytest.raises((KeyboardInterrupt, StoreError)):
            fill(store, 2)
    assert (store.versions("knowledge"), left(store)) == ([1], before)
    fill(store, 2)
    assert store.versions("knowledge") == [1, 2]


def test_a_full_store_is_a_sentence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was expected, what was found, what to do; and nothing is listed."""
    with monkeypatch.context() as patch:
        hinder(patch, store, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(
            StoreError, match=r"v3: expected to write an artifact, found: No space left on device; check"
        ):
            fill(store, 3)
    assert (store.versions("knowledge"), left(store)) == ([], [])


class OddError(Exception):
    """An error of a library that knows no `OSError`."""


def test_a_store_that_goes_away_meanwhile_shows_no_artifact(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be removed then; without its manifest it is no artifact, and its version is not used again."""
    with monkeypatch.context() as patch:
        hinder(patch, memory, OddError("gone"), after="card.md")
        for name in ("find", "rm_file", "rmdir"):
            patch.setattr(MemoryFileSystem, name, fail(OddError("cannot be removed")))
        with pytest.raises(StoreError, match="found: OddError: gone"):
            fill(memory, 4)
    assert left(memory) == ["/knowledge/v4", "/knowledge/v4/model.onnx"]
    assert (memory.versions("knowledge"), memory.last_version("knowledge")) == ([], 4)
    memory.sweep("knowledge")
    assert left(memory) == []


def test_a_store_that_is_gone_is_told_of(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for an empty one; a model in it cannot be read, and the old one goes on."""
    fill(memory, 1)
    for name in ("pipe_file", "cat_file", "find", "rm_file", "rmdir", "ls", "info"):
        monkeypatch.setattr(MemoryFileSystem, name, fail(OddError("no route")))
    for question in (memory.versions, memory.last_version, memory.sweep):
        with pytest.raises(StoreError, match=r"knowledge: expected to .* versions, found: OddError: no route"):
            question("knowledge")
    with pytest.raises(StoreError, match="no route"):
        memory.remove("knowledge", 1)
    with pytest.raises(StoreError, match="no route"):
        fill(memory, 2)
    with pytest.raises(StoreError, match=r"knowledge/v1/manifest.json: expected to read it, found: OddError: no route"):
        memory.read(f"knowledge/v1/{MANIFEST}", LARGE)


def test_a_file_where_the_store_should_be(tmp_path: Path) -> None:
    """It holds no version, and none can be written; the file stays."""
    (tmp_path / "models").write_bytes(b"a file")
    store = Store(str(tmp_path / "models"))
    assert store.versions("knowledge") == []
    with pytest.raises(StoreError, match="expected to write an artifact"):
        fill(store, 1)
    with pytest.raises(ArtifactError, match="cannot be read"):
        store.read("knowledge/v1/model.onnx", LARGE)
    assert (tmp_path / "models").read_bytes() == b"a file"


def test_folders_are_made_where_they_are_real(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made within the store only: it is no business of ours to create somebody's bucket."""
    made: list[str] = []
    real = MemoryFileSystem.pipe_file

    def mkdir(_: MemoryFileSystem, path: str, *, create_parents: bool) -> None:
        assert not create_parents
        if path in made:
            raise FileExistsError(path)
        made.append(path)

    def pipe_file(fs: MemoryFileSystem, path: str, value: bytes) -> None:
        if path.rpartition("/")[0] not in made:
            raise FileNotFoundError(path)
        real(fs, path, value)

    monkeypatch.setattr(MemoryFileSystem, "mkdir", mkdir)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    fill(memory, 1, 2)
    folders = ["/knowledge", "/knowledge/v1", "/knowledge/v2"]
    assert [path.removeprefix(memory._root) for path in made] == folders
    assert memory.versions("knowledge") == [1, 2]


def test_a_removed_version_is_gone(store: Store) -> None:
    """With its folder; the others stay, and to remove what is not there changes nothing."""
    fill(store, 1, 11, 2)
    store.remove("knowledge", 1)
    store.remove("knowledge", 1)
    store.remove("other", 1)
    assert (store.versions("knowledge"), store.last_version("knowledge")) == ([2, 11], 11)
    assert not any("v1/" in path or path.endswith("v1") for path in left(store))
    with pytest.raises(ArtifactError, match="cannot be read"):
        store.read(f"knowledge/v1/{MANIFEST}", LARGE)


def test_the_manifest_is_removed_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted there, what is left is none that could be read; and the next sweep has the rest."""
    fill(store, 1)
    kind = type(store._fs)
    real = kind.rm_file
    removed: list[str] = []

    def rm_file(fs: object, path: str) -> None:
        if removed:
            raise OSError(errno.EIO, "broken")
        removed.append(path.rpartition("/")[2])
        real(fs, path)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "rm_file", rm_file)
        with pytest.raises(StoreError, match="broken"):
            store.remove("knowledge", 1)
    assert (removed, store.versions("knowledge"), store.last_version("knowledge")) == ([MANIFEST], [], 1)
    store.sweep("knowledge")
    assert (left(store), store.last_version("knowledge")) == ([], 0)


def test_a_sweep_takes_what_was_interrupted(store: Store) -> None:
    """Temporary folders, and versions without a manifest; what is whole, and what is not ours, stays."""
    fill(store, 3)
    for path in (".v4-abc/model.onnx", "v5/model.onnx", "v5/deep/er", ".hidden/file", "notes/v6"):
        store._fs.makedirs(f"{store._root}/knowledge/{path}".rpartition("/")[0], exist_ok=True)
        store._fs.pipe_file(f"{store._root}/knowledge/{path}", b"x")
    assert (store.versions("knowledge"), store.last_version("knowledge")) == ([3], 5)
    store.sweep("knowledge")
    found = {path.split("/")[2] for path in left(store)}
    assert found == {"v3", ".hidden", "notes"}
    assert store.versions("knowledge") == [3]


def test_an_unfinished_version_is_not_used_twice(disk: Store, tmp_path: Path) -> None:
    """A temporary folder that a killed process left counts as begun."""
    fill(disk, 3)
    (tmp_path / "models/knowledge/.v7-abc").mkdir()
    assert disk.last_version("knowledge") == 7


OUTSIDE = ["../secret", "knowledge/../../secret", "/secret", "knowledge//secret", "knowledge/./x", "", ".", "..",
           "..\\secret", "knowledge/..", "memory://elsewhere/secret"]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_store(url: Url, path: str) -> None:
    """Nothing beside the store is read, written or removed, and nothing is written before that is known."""
    store, beside = Store(url("models")), Store(url("secret"))
    beside.publish("v1", FILES)
    refused = pytest.raises(ArtifactError, match="expected a path in the store")
    with refused:
        store.read(path, LARGE)
    with refused:
        store.read(f"{path}/../secret/v1/model.onnx", LARGE)
    with refused:
        store.publish(path, FILES)
    with refused:
        store.publish("knowledge/v1", {"model.onnx": b"graph", path: b"x", MANIFEST: b"{}"})
    for change in (store.versions, store.last_version, store.sweep, lambda name: store.remove(name, 1)):
        with refused:
            change(path)
    assert left(store) == []
    assert len(left(beside)) == 1 + len(FILES)


def test_what_is_too_large_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is asked first; the sentence names the setting."""
    fill(store, 1)
    assert store.read("knowledge/v1/model.onnx", len(b"graph")) == b"graph"
    monkeypatch.setattr(type(store._fs), "cat_file", fail(AssertionError("it was read")))
    with pytest.raises(ArtifactError, match=r"at most 4 bytes, found 5 \(STREAM_MODEL_MAX_BYTES\)") as refused:
        store.read("knowledge/v1/model.onnx", 4)
    assert "cannot be read" not in str(refused.value)


def test_a_size_that_is_not_told_is_counted(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some filesystems do not know it before."""
    fill(memory, 1)
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_: {"type": "file", "size": None})
    assert memory.read("knowledge/v1/model.onnx", 5) == b"graph"
    with pytest.raises(ArtifactError, match="STREAM_MODEL_MAX_BYTES"):
        memory.read("knowledge/v1/model.onnx", 4)


@pytest.mark.parametrize("path", ["knowledge/v2/model.onnx", "knowledge/v1", "knowledge/v1/model.onnx/more", "a\0b"])
def test_what_cannot_be_read_is_an_artifact_error(store: Store, path: str) -> None:
    """What is not there, a folder, a file taken for one, and no name at all."""
    fill(store, 1)
    with pytest.raises(ArtifactError, match="cannot be read"):
        store.read(path, LARGE)


def test_a_plain_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative one stays where it was when it was named; `~` and `::` are names like others."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("models", "~", "zip::models", "s3:"):
        store = Store(name)
        assert str(store) == str(tmp_path / name)
        monkeypatch.chdir("/")
        fill(store, 1)
        monkeypatch.chdir(tmp_path)
        assert (tmp_path / name / "knowledge/v1" / MANIFEST).is_file()
    assert not (tmp_path / "home").exists()


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    """It is written as a folder is: at once."""
    store = Store(f"file://{tmp_path}/models/")
    assert store.place("knowledge/v1") == f"{tmp_path}/models/knowledge/v1"
    fill(store, 1)
    assert (tmp_path / "models/knowledge/v1" / MANIFEST).is_file()
    assert store._is_disk


def test_a_url_that_nothing_reaches_is_the_users_mistake() -> None:
    """The sentence names the setting, and what to install; a password in the URL is not told."""
    with pytest.raises(UserError, match=r"STREAM_MODEL_STORE: .*found nosuch://there/x: Protocol not known: nosuch"):
        Store("nosuch://me:secret@there/x")


def test_what_reaches_s3_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to type."""

    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("stream.models.store.url_to_fs", missing)
    with pytest.raises(UserError, match=r"Install s3fs to access S3; .*pip install 'learnerstream\[s3\]'"):
        Store("s3://bucket/models")


def test_a_store_that_refuses_the_connection_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some filesystems connect when they are named."""
    monkeypatch.setattr("stream.models.store.url_to_fs", fail(ConnectionRefusedError(errno.ECONNREFUSED, "refused")))
    with pytest.raises(StoreError, match=r"^sftp://there/models: expected a store of models, found: refused; check"):
        Store("sftp://me:secret@there/models")


def test_no_password_is_told() -> None:
    """Errors are logged, and announced to whoever reads the topics."""
    store = Store("memory://me:secret@bucket/models/")
    assert str(store) == "memory://bucket/models"
    with pytest.raises(ArtifactError) as refused:
        store.read("knowledge/v1/model.onnx", LARGE)
    assert str(refused.value).startswith("memory://bucket/models/knowledge/v1/model.onnx: cannot be read")


def test_an_artifact_is_loaded_from_where_it_was_published(store: Store) -> None:
    """The whole way: exported, written, announced, read for serving and for training on."""
    path = store.folder_of("knowledge", 7)
    about = Publication("knowledge", 7, "lstm-test", TOPIC_NAMES, Span(answers=0, users=0), {"logloss": 0.5})
    publish(networks.random_network(), store, path, about)
    announced = release(store, "knowledge", 7)
    assert (announced.version, announced.path, announced.state_format) == (7, "knowledge/v7", "lstm-test")
    dkt = load(store, announced.path, variant="champion", sha256=announced.sha256)
    assert (dkt.identity.name, dkt.identity.version) == ("knowledge", 7)
    assert read_weights(store, path, read_manifest(store, path, announced.sha256)).keys()
    with pytest.raises(ArtifactError, match="expected the announced digest"):
        load(store, path, variant="champion", sha256="0" * 64)
    with pytest.raises(ArtifactError, match="cannot be read"):
        release(store, "knowledge", 8)


def test_a_version_in_another_ones_folder_is_not_announced(store: Store) -> None:
    """What a folder is called, and what its manifest says, is one thing."""
    about = Publication("knowledge", 7, "lstm-test", TOPIC_NAMES, Span(answers=0, users=0), {"logloss": 0.5})
    publish(networks.random_network(), store, "knowledge/v8", about)
    with pytest.raises(ArtifactError, match="expected knowledge version 8, found knowledge 7"):
        release(store, "knowledge", 8)


def test_the_oldest_versions_go() -> None:
    """Beyond the latest that are kept, and never one that is announced."""
    assert outdated([5, 1, 4, 2, 3], 2, []) == [1, 2, 3]
    assert outdated([5, 1, 4, 2, 3], 2, [2, 5]) == [1, 3]
    assert outdated([5, 1, 4, 2, 3], 5, []) == outdated([], 3, [1]) == []


@given(st.sets(st.integers(1, 40)), st.integers(1, 20), st.sets(st.integers(1, 40)))
def test_what_is_kept_is_the_latest_and_the_announced(versions: set[int], keep: int, announced: set[int]) -> None:
    """Whatever the versions: what stays is exactly those, and what was removed once is not asked for again."""
    gone = outdated(versions, keep, announced)
    stays = versions - set(gone)
    assert stays == set(sorted(versions)[-keep:]) | (versions & announced)
    assert gone == sorted(gone)
    assert outdated(stays, keep, announced) == []
