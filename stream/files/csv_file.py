"""
CSV files (also gzipped) that people bring: opened, split into rows, and refused with a place and a remedy.

`CsvFile` is strict, for tables that people write for us; `Table` takes what others publish, as it is. What a file means
is its reader's, beside this module.
"""

import csv
import gzip
import hashlib
import math
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import NoReturn, Protocol

from stream.errors import BadAnswersFile

_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

_LONGEST_CELL = 1 << 20
"""Characters; Python's own limit, an eighth of it, is less than some of the published cells."""
_FEW_LINES = 100
"""Of one row, by the line breaks in its cells; if it has more, what are its lines? See `Table._holds_rows`."""
_BEGINNING = 20
"""Letters that are shown of what is no text."""
_UNQUOTE = 'close the quotes, and write a quote inside a cell as ""'
_END = "\0end\0"
"""A line of our own after the last, which a quote that is never closed swallows."""


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
            found = visible(", ".join(self.header)[:200]) or "an empty line"
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
        with _text(path, file, f"expected a header line with {', '.join(required)}", errors="strict") as text:
            reader = csv.reader(text, strict=True)
            with _sentences(path, reader):
                yield CsvFile(path, digest, reader, required)


class Table:
    """
    One reading of a published table, up to its end.

    Bytes that are no UTF-8 come as lone surrogates: some of the files are Latin-1, and most of their cells are of no
    interest. `plain` reads them.

    Args:
        path: For messages.
        reader: Of its rows and a last one with `_END`, the header first.
        separator: Of cells.
    """

    def __init__(self, path: Path, reader: _Reader, separator: str) -> None:
        self._path = path
        self._reader = reader
        self._separator = separator
        self._rows = self._whole()
        self.header = [name.strip() for name in next(self._rows, [])]
        """Names of its columns."""
        self._check_header()
        self.count = 0
        """Rows read so far, blank lines not counted."""
        self.short = 0
        """Of them, those that lack cells that were asked for."""

    def places(self, *columns: str | tuple[str, ...]) -> list[int]:
        """Return where columns stand, by their names or the names that they may have; -1 if they are not there."""
        alternatives = ((names,) if isinstance(names, str) else names for names in columns)
        return [next((self.header.index(name) for name in names if name in self.header), -1) for names in alternatives]

    def demand(self, what: str, *columns: str) -> None:
        """
        Check that columns are there.

        Args:
            what: The table is, for messages: `EdNet's table of questions`.
            columns: That it must have.

        Raises:
            BadAnswersFile: If one is not.
        """
        lacking = [name for name in columns if name not in self.header]
        if lacking:
            self._refuse(
                1, f"{what}, with {', '.join(columns)}", f"it without {', '.join(lacking)}",
                "take the table that came with the set",
            )  # fmt: skip

    def rows(self, *columns: str | tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Give each row's number, from 0, and its cells of columns as `places` takes them, at least two."""
        return self.rows_at(self.places(*columns))

    def rows_at(self, places: Sequence[int]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Give each row's number and its cells at some places, at least two; -1 gives empty cells."""
        pick, last = itemgetter(*places), max(places)
        for cells in self._rows:
            if not cells:
                continue
            row = self.count
            self.count += 1
            if len(cells) <= last:
                self.short += 1
                continue
            cells.append("")
            yield row, pick(cells)

    def _whole(self) -> Iterator[list[str]]:
        """Give the rows, and refuse one that a quote which is never closed has made of several."""
        began, width = 0, 0
        try:
            for cells in self._reader:
                if cells == [_END]:
                    return
                lines = self._reader.line_num - began
                if lines > 1 and (len(cells) != width or cells[-1].endswith(_END)):
                    break
                if lines > _FEW_LINES and self._holds_rows(cells):
                    break
                began, width = self._reader.line_num, width or len(cells)
                yield cells
        except csv.Error as error:
            self._refuse(began + 1, "CSV", f"a row that cannot be split ({error})", _UNQUOTE)
        self._refuse(began + 1, "a row", "a quote that is not closed in it", _UNQUOTE)

    def _holds_rows(self, cells: list[str]) -> bool:
        """Return whether most lines within a row's cells are rows themselves: two stray quotes have made them one."""
        lines = [line for cell in cells for line in cell.splitlines()[1:-1] if line]
        rows = sum(line.count(self._separator) == len(cells) - 1 for line in lines)
        return 2 * rows > len(lines)

    def _check_header(self) -> None:
        names = self.header
        begins = self._separator.join(names)
        if any(_is_control(letter) for letter in begins):
            raise BadAnswersFile(
                f"{self._path} is no text, it begins with '{visible(begins[:_BEGINNING])}'; expected a table with a "
                "header: name the file that holds the table."
            )
        if not any(names):
            self._refuse(1, "a header", "an empty line", "take out the empty lines before the header")
        if self._separator == "\t" and all(len(name) > 1 and name[0] == name[-1] == '"' for name in names):
            found = f"the names in quotes ({visible(names[0][:80])}, ...)"
            self._refuse(1, "cells without quotes, as tables with tabs have them", found, "save the table without them")
        if len(names) == 1 and ";" in names[0]:
            self._refuse(1, "cells separated by commas or tabs", "semicolons", "save the table with commas")

    def _refuse(self, line: int, expected: str, found: str, remedy: str) -> NoReturn:
        raise BadAnswersFile(f"{self._path}, line {line}: expected {expected}, found {found}: {remedy}.")


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """
    Open a published table for one reading: separated by tabs if its header has any, then without quotes; else commas.

    Raises:
        BadAnswersFile: If it cannot be read; also later, while its rows are read.
    """
    expected = "expected a table with a header"
    with _open(path, expected) as file, _text(path, file, expected, errors="surrogateescape") as text:
        with _sentences(path, csv.reader([])):
            header = text.readline()
        rows = chain([header], text, [_END])
        if "\t" in header:
            separator, reader = "\t", csv.reader(rows, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            separator, reader = ",", csv.reader(rows)
        csv.field_size_limit(_LONGEST_CELL)
        with _sentences(path, reader):
            yield Table(path, reader, separator)


def header_of(line: str) -> tuple[str, ...]:
    """Return the names of columns in a first line, nothing where it can be none; parted as `open_table` parts it."""
    reader = csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE) if "\t" in line else csv.reader([line])
    try:
        return tuple(name.strip() for name in next(reader, []))
    except csv.Error:
        return ()


def digest_of(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of a file's bytes as they lie on disk, in hex; of several, that of all their digests."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def plain(text: str) -> str:
    """Return a table's cell on one line, spaces around cut, read as Latin-1 if it is no UTF-8."""
    if any(_is_escaped(letter) for letter in text):
        text = text.encode("utf-8", "surrogateescape").decode("latin-1")
    return " ".join("".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text).split())


def visible(text: str) -> str:
    """Return a text of a file as a message shows it: with nothing in it that a terminal would obey or cannot show."""
    return "".join(letter if letter.isprintable() else _written(letter) for letter in text)


def _written(letter: str) -> str:
    """Return a letter as Python writes it, a byte that is no UTF-8 as itself."""
    return f"\\x{ord(letter) - 0xDC00:02x}" if _is_escaped(letter) else repr(letter)[1:-1]


def _is_control(letter: str) -> bool:
    """Return whether a letter stands in no text; one that is no UTF-8 may stand in a text of another encoding."""
    return unicodedata.category(letter) == "Cc" and not letter.isspace()


def _is_escaped(letter: str) -> bool:
    return "\ud800" <= letter <= "\udfff"


@contextmanager
def _text(path: Path, file: BufferedReader, expected: str, errors: str) -> Iterator[TextIOWrapper]:
    """Unpack a file, from its start."""
    file.seek(0)
    magic = file.read(len(_ZIP_MAGIC))
    file.seek(0)
    if not magic:
        raise BadAnswersFile(f"{path} is empty; {expected}.")
    if magic == _ZIP_MAGIC:
        raise BadAnswersFile(f"{path} is a zip archive; {expected}: unpack it, and name what was in it.")
    if magic.startswith(_UTF16_MARKS):
        raise BadAnswersFile(f"{path}: expected UTF-8, found UTF-16: save the file as UTF-8.")
    is_gzip = magic.startswith(_GZIP_MAGIC)
    if path.suffix == ".gz" and not is_gzip:
        found = f"{magic[: len(_GZIP_MAGIC)]!r}"
        raise BadAnswersFile(
            f"{path}: expected gzip, as the name says, found {found} first: compress it or drop the .gz."
        )
    unpacked = gzip.GzipFile(fileobj=file) if is_gzip else file
    with TextIOWrapper(unpacked, encoding="utf-8-sig", errors=errors, newline="") as text:
        yield text


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
        remedy = _UNQUOTE
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
