"""
Where artifacts are kept: a folder, or anything that fsspec reaches by a URL.

Names, bytes and listings only; what an artifact holds is `stream.models.artifacts`'. An artifact is there once its
manifest is, and the manifest is written last: so it appears whole or not at all, on an object store too.
"""

import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from stream.errors import ArtifactError, StoreError, StreamError, UserError

MANIFEST = "manifest.json"

_VERSION = re.compile(r"v([1-9][0-9]*)")
_UNFINISHED = re.compile(r"\.v([1-9][0-9]*)-.+")
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/@]*@")
_ABSENT = (FileNotFoundError, NotADirectoryError)


class Store:
    """
    A store of artifacts, each in a folder of its own.

    One process writes an artifact; any number may read. Each listing is a fresh one. An object store must give back
    what was written last, as S3 does.

    Args:
        url: A folder, or a URL such as `s3://bucket/models`. A folder of this machine is made when it is first written
            to; any other place, such as a bucket, must exist.

    Raises:
        UserError: If fsspec does not know the URL's kind, or lacks what reaches it.
        StoreError: If it cannot be reached, for what connects at once.
    """

    def __init__(self, url: str) -> None:
        self._shown = _USER_AND_PASSWORD.sub("", url).rstrip("/") or "/"
        self._fs, root = _reached(url, self._shown)
        self._root: str = root.rstrip("/")
        self._is_disk = isinstance(self._fs, LocalFileSystem)
        if self._is_disk:
            self._shown = self._root or "/"

    def __str__(self) -> str:
        return self._shown

    @staticmethod
    def folder_of(name: str, version: int) -> str:
        """Return where in a store a version of a model stands."""
        return f"{name}/v{version}"

    def place(self, path: str) -> str:
        """Return a path in the store as messages name it: from the root of its filesystem, without a password."""
        return f"{self._shown.rstrip('/')}/{path}"

    def read(self, path: str, max_bytes: int) -> bytes:
        """
        Return a file's bytes.

        Args:
            path: Relative, such as `knowledge/v7/model.onnx`.
            max_bytes: Size above which it is not read.

        Raises:
            ArtifactError: If it is not there, is too large, or the path leads out of the store.
            StoreError: If the store cannot be reached.
        """
        place, at = self.place(path), self._at(path)
        try:
            self._fs.invalidate_cache()
            _check_size(place, self._fs.info(at).get("size"), max_bytes)
            content: bytes = self._fs.cat_file(at)
        except ArtifactError:
            raise
        except (*_ABSENT, IsADirectoryError, ValueError) as error:
            raise ArtifactError(f"{place}: cannot be read: {_reason(error)}") from error
        except Exception as error:  # each filesystem has errors of its own
            raise StoreError(
                f"{place}: expected to read it, found: {_reason(error)}; check that the store is there"
            ) from error
        _check_size(place, len(content), max_bytes)
        return content

    def publish(self, folder: str, files: Mapping[str, bytes]) -> None:
        """
        Write an artifact: whole or not at all.

        Args:
            folder: Relative, such as `knowledge/v7`.
            files: Contents by name, `manifest.json` among them.

        Raises:
            ArtifactError: If it is there already: an artifact is never written over.
            StoreError: If it could not be written; what was begun is removed, as far as that can be done.
        """
        for name in files:
            self._at(f"{folder}/{name}")
        with self._telling(f"{self.place(folder)}: expected to write an artifact"):
            if self._is_disk:
                _write_on_disk(Path(self._at(folder)), files)
            else:
                self._write(folder, files)

    def versions(self, name: str) -> list[int]:
        """
        Return the versions of a model, the oldest first.

        Raises:
            StoreError: If the store cannot be listed; one that does not exist yet is empty.
        """
        with self._listing(name):
            return self._versions(self._names(name), name)

    def last_version(self, name: str) -> int:
        """
        Return the highest version that was begun, whole or not, so that none is used twice; 0 if there is none.

        Raises:
            StoreError: If the store cannot be listed.
        """
        with self._listing(name):
            found = [_VERSION.fullmatch(entry) or _UNFINISHED.fullmatch(entry) for entry in self._names(name)]
            return max((int(match[1]) for match in found if match), default=0)

    def remove(self, name: str, version: int) -> None:
        """
        Remove a version, if it is there; from the first moment on it is none that could be read.

        Raises:
            StoreError: If it could not be removed whole.
        """
        with self._removing(name):
            self._remove(self.folder_of(name, version))

    def sweep(self, name: str) -> None:
        """
        Remove what interrupted publications left; whoever calls it is the only one who writes.

        Raises:
            StoreError: If it could not be removed.
        """
        with self._removing(name):
            names = self._names(name)
            whole = {f"v{version}" for version in self._versions(names, name)}
            for entry in names:
                if _UNFINISHED.fullmatch(entry) or (_VERSION.fullmatch(entry) and entry not in whole):
                    self._remove(f"{name}/{entry}")

    def _at(self, path: str) -> str:
        """Return the filesystem's own name of a path, which cannot lead out of the store."""
        parts = path.split("/")
        if "\\" in path or any(part in {"", ".", ".."} for part in parts):
            raise ArtifactError(f"expected a path in the store {self}, found {path!r}")
        return f"{self._root}/{path}"

    def _names(self, name: str) -> list[str]:
        """Return what stands under a model's name: versions, unfinished ones, and whatever else is there."""
        at = self._at(name)
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(at, detail=False)
        except _ABSENT:
            return []
        return [posixpath.basename(entry.rstrip("/")) for entry in entries]

    def _versions(self, names: list[str], name: str) -> list[int]:
        found = sorted(int(match[1]) for match in map(_VERSION.fullmatch, names) if match)
        return [version for version in found if self._is_there(f"{self.folder_of(name, version)}/{MANIFEST}")]

    def _is_there(self, path: str) -> bool:
        # Not `exists`: for some filesystems it is False whatever went wrong.
        self._fs.invalidate_cache()
        try:
            self._fs.info(self._at(path))
        except _ABSENT:
            return False
        return True

    def _write(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write to what cannot rename a folder: the manifest last."""
        if self._is_there(f"{folder}/{MANIFEST}"):
            raise ArtifactError(_exists_already(self.place(folder)))
        try:
            for name in sorted(files, key=lambda name: name == MANIFEST):
                self._write_file(folder, name, files[name])
        except BaseException:
            # The store may be gone: then nothing can be removed, and without a manifest it is no artifact.
            with suppress(Exception):
                self._remove(folder)
            raise

    def _write_file(self, folder: str, name: str, content: bytes) -> None:
        at = self._at(f"{folder}/{name}")
        try:
            self._fs.pipe_file(at, content)
        except FileNotFoundError:
            # Where folders are real they are made, but nothing above them: a mistyped bucket is not created.
            parts = folder.split("/")
            for depth in range(len(parts)):
                with suppress(FileExistsError):
                    self._fs.mkdir(self._at("/".join(parts[: depth + 1])), create_parents=False)
            self._fs.pipe_file(at, content)

    def _remove(self, folder: str) -> None:
        """Remove a folder, its manifest first; not by `rm`, which takes a path for a pattern."""
        at = self._at(folder)
        for file in [f"{at}/{MANIFEST}", *self._all(at, folders=False)]:
            with suppress(*_ABSENT):
                self._fs.rm_file(file)
        # What is left are folders, where these are real.
        for left in sorted(self._all(at, folders=True), reverse=True):
            with suppress(*_ABSENT):
                self._fs.rmdir(left)

    def _all(self, at: str, *, folders: bool) -> list[str]:
        """Return what stands in a folder and in those in it; with the folders, itself too."""
        self._fs.invalidate_cache()
        try:
            return list(self._fs.find(at, withdirs=folders))
        except _ABSENT:
            return []

    def _listing(self, name: str) -> AbstractContextManager[None]:
        return self._telling(f"{self.place(name)}: expected to list versions")

    def _removing(self, name: str) -> AbstractContextManager[None]:
        return self._telling(f"{self.place(name)}: expected to remove versions")

    @contextmanager
    def _telling(self, expected: str) -> Iterator[None]:
        """Turn whatever a filesystem raises into a sentence."""
        try:
            yield
        except StreamError:
            raise
        except Exception as error:  # each filesystem has errors of its own
            raise StoreError(
                f"{expected}, found: {_reason(error)}; check that the store is there, has room, and may be used"
            ) from error


def outdated(versions: Collection[int], keep: int, announced: Collection[int]) -> list[int]:
    """
    Return the versions that need no longer be kept, the oldest first.

    Args:
        versions: Those in the store.
        keep: How many of the latest stay.
        announced: Versions that stay however old they are.
    """
    ordered = sorted(versions)
    return [version for version in ordered[: max(len(ordered) - keep, 0)] if version not in announced]


def _reached(url: str, shown: str) -> tuple[Any, str]:
    """Return the filesystem of a URL or folder, and where in it the store stands."""
    if "://" not in url:
        # A plain folder is taken as it is: fsspec would expand `~`, and read `::` as a chain of filesystems.
        return fsspec.filesystem("file"), os.path.abspath(url)  # noqa: PTH100
    try:
        fs, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"STREAM_MODEL_STORE: expected a folder, or a URL that fsspec reaches, found {shown}: {error}; "
            "what reaches S3 is installed by: pip install 'learnerstream[s3]'"
        ) from error
    except Exception as error:  # each filesystem has errors of its own
        raise StoreError(
            f"{shown}: expected a store of models, found: {_reason(error)}; check that it is there (STREAM_MODEL_STORE)"
        ) from error
    return fs, root


def _write_on_disk(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder under another name, and give it its own when all of it is on the disk."""
    if os.path.lexists(folder):
        raise ArtifactError(_exists_already(str(folder)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, content in files.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _exists_already(place: str) -> str:
    return f"{place}: exists already; choose another place"


def _check_size(place: str, size: int | None, max_bytes: int) -> None:
    """Refuse what is too large; None is a size that a filesystem does not tell."""
    if size is not None and size > max_bytes:
        raise ArtifactError(f"{place}: expected at most {max_bytes} bytes, found {size} (STREAM_MODEL_MAX_BYTES)")


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"
