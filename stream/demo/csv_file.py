"""
CSV files (also gzipped) that people bring: opened, split into rows, and refused with a place and a remedy.

What a file means is its reader's: `stream.demo.answers`, `stream.demo.oulad`.
"""

import csv
import gzip
import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import NoReturn, Protocol

from stream.errors import BadAnswersFile

_GZIP_MAGIC = b"\x1f\x8b"


class _Reader(Protocol):
    """What `csv.reader` gives; its own type is private."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


class CsvFile:
    """
    One reading of one file, up to its end.

    Args:
        path: For messages.
        digest: SHA-256 of the file's bytes as they lie on disk (gzipped or not), in hex.
        reader: Of the file's rows, the header first.
        required: Columns that the header must name.
    """

    def __init__(self, path: Path, digest: str, reader: _Reader, required: Sequence[str]) -> None:
        self.path = path
        self.digest = digest
        self._reader = reader
        self.required = required
        self.header = [name.strip() for name in next(reader, [])]
        for name in required:
            self.place(name)

    def rows(self) -> Iterator[list[str]]:
        """Give the cells of each row but blank ones."""
        for cells in self._reader:
            if not cells:
                continue
            if len(cells) != len(self.header):
                expected = f"{len(self.header)} cells, as in the header"
                self.refuse(None, expected, f"{len(cells)}", "put cells that hold commas in quotes")
            yield cells

    def place(self, name: str) -> int:
        """Return where a column stands."""
        if name not in self.header:
            expected = f"a header with {', '.join(self.required)}"
            found = ", ".join(self.header)[:200] or "an empty line"
            self.refuse(name, expected, found, "add or rename the column, and separate cells by commas")
        if self.header.count(name) > 1:
            self.refuse(name, "the column once", f"it {self.header.count(name)} times", "rename the others")
        return self.header.index(name)

    def refuse(self, column: str | None, expected: str, found: str, remedy: str) -> NoReturn:
        """
        End the reading at the line in hand.

        Raises:
            BadAnswersFile: Always.
        """
        place = f"line {max(self._reader.line_num, 1)}" + (f", column {column}" if column else "")
        raise BadAnswersFile(f"{self.path}, {place}: expected {expected}, found {found}: {remedy}.")


@contextmanager
def open_csv(path: Path, what: str, required: Sequence[str]) -> Iterator[CsvFile]:
    """
    Open a file for one reading.

    Args:
        path: Of the file.
        what: It holds, for messages: `a CSV file of answers`.
        required: Columns that it must have.

    Raises:
        BadAnswersFile: If it cannot be read, or lacks a column; also later, while its rows are read.
    """
    with _open(path, f"expected {what} (.csv or .csv.gz)") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        magic = file.read(len(_GZIP_MAGIC))
        file.seek(0)
        if not magic:
            raise BadAnswersFile(f"{path} is empty; expected a header line with {', '.join(required)}.")
        is_gzip = magic == _GZIP_MAGIC
        if path.suffix == ".gz" and not is_gzip:
            raise BadAnswersFile(
                f"{path}: expected gzip, as the name says, found {magic!r} first: compress it or drop the .gz."
            )
        unpacked = gzip.GzipFile(fileobj=file) if is_gzip else file
        with TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            with _sentences(path, reader):
                yield CsvFile(path, digest, reader, required)


def _open(path: Path, expected: str) -> BufferedReader:
    if path.is_dir():
        raise BadAnswersFile(f"{path} is a folder; {expected}: name the file inside it.")
    if not path.exists():
        raise BadAnswersFile(f"{path} does not exist; {expected}: check the path.")
    if not path.is_file():
        raise BadAnswersFile(f"{path} is not an ordinary file; {expected}: save the rows to a file first.")
    try:
        return path.open("rb")
    except OSError as error:
        raise BadAnswersFile(f"{path} cannot be opened ({error.strerror}); {expected} that may be read.") from error


@contextmanager
def _sentences(path: Path, reader: _Reader) -> Iterator[None]:
    """Turn what is wrong with a file's bytes into a sentence."""
    try:
        yield
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x}"
        expected, remedy = "UTF-8", "save the file as UTF-8"
        fault: Exception = error
    except csv.Error as error:
        expected, found = "CSV", f"a row that cannot be split ({error})"
        remedy = 'close the quotes, and write a quote inside a cell as ""'
        fault = error
    except (EOFError, zlib.error, OSError) as error:
        expected, found = "more of the file", f"it damaged ({error})"
        remedy = "copy or make it again"
        fault = error
    else:
        return
    place = f"after line {reader.line_num}"
    raise BadAnswersFile(f"{path}, {place}: expected {expected}, found {found}: {remedy}.") from fault


def number(text: str) -> float | None:
    """Return a finite number, None where a text is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    # Python reads "1_000" as a number, which a CSV never means; infinities and NaN are numbers of no moment.
    return value if math.isfinite(value) and "_" not in text else None


def shown(text: str) -> str:
    """Return a cell as a message shows it."""
    return repr(text[:80]) if text.strip() else "an empty cell"
