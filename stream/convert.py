"""
`stream convert`: foreign events from files or standard input, ours as JSON lines, and a summary of what became of them.

What an event means is decided in `stream.adapters`.
"""

import gzip
import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

import orjson
from rich.console import Console

from schemas import InvalidEvent
from schemas.base import Reason
from stream.adapters.conversion import OTHER, Carried
from stream.adapters.converter import Converter, Fault, Result
from stream.adapters.once import Once
from stream.adapters.pseudonym import Named, as_they_are, pseudonyms
from stream.errors import UserError
from stream.files.formats import of_header
from stream.settings import Settings

STANDARD_INPUT: Final = Path("-")

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_GOES_ON: Final = frozenset({b" ", b"\t", b",", b"]", b"}"})  # what a line begins with that is no new value
_BLANK: Final = re.compile(r"[ \t\r]*")
_WHITE: Final = re.compile(r"\s*")
# Of use for where a value ends; what is in it is orjson's to say.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str)
_KINDS_TOLD: Final = 5
_MOST_KINDS: Final = 200  # as many as the metrics tell apart
_MOST_BAD: Final = 1_000
_LOOKED_AT: Final = 4_096


class Read(NamedTuple):
    """
    One message of a file.

    Attributes:
        place: File and line.
        value: Its JSON; None where it is none.
        raw: Its bytes.
        at: When the file was written: the time of events that name none, as a store of theirs would put it down.
    """

    place: str
    value: Any
    raw: bytes
    at: datetime | None = None

    def converted_by(self, converter: Converter) -> Result:
        """Return what becomes of it; what makes our own code raise is a fault, as it is a dead letter elsewhere."""
        try:
            if self.value is None:
                return converter.convert(self.raw, sent_at=self.at)
            return converter.convert_value(self.value, Carried(at=self.at))
        except Exception as error:  # noqa: BLE001 (one message must not hold up all others)
            # Its name alone: what it says may hold a user's name.
            said = f"our own code raised {type(error).__name__}; please report it"
            # Not one of the schemas' reasons, for the event may be as it should.
            return Result(faults=[Fault("", InvalidEvent(cast("Reason", "processing_failed"), said))])


def named(settings: Settings) -> Named:
    """Return under which ids the users of sources go on."""
    if settings.pseudonym_key is None:
        return as_they_are
    previous = settings.pseudonym_previous_key
    return pseudonyms(
        settings.pseudonym_key.get_secret_value().encode(),
        None if previous is None else previous.get_secret_value().encode(),
        settings.pseudonym_since,
    )


def converter(settings: Settings, format_: str, once: Once | None = None) -> Converter:
    """Return a converter of events of one format, as the settings have it; `once` is shared by sources."""
    return Converter(
        format_, named(settings), once or Once(settings.opened_limit_s),
        context_fields=settings.risk_feature_fields | settings.risk_slice_fields,
        largest_bytes=settings.event_max_bytes,
    )  # fmt: skip


@dataclass(slots=True)
class Summary:
    """
    What became of everything that was read.

    Attributes:
        read: Foreign events.
        converted: Of these, those that became events of ours.
        events: Of ours.
        ignored: How many were of which kind; 200 kinds, the rest as other.
        bad: Place, reason and detail of the first 1,000 others.
        bad_by_reason: How many others there were, by reason, those of `bad` among them.
    """

    read: int = 0
    converted: int = 0
    events: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    bad: list[dict[str, str]] = field(default_factory=list)
    bad_by_reason: Counter[str] = field(default_factory=Counter)

    @property
    def bad_left_out(self) -> int:
        """How many others `bad` has no place of."""
        return self.bad_by_reason.total() - len(self.bad)

    def add(self, place: str, result: Result) -> None:
        """Count what became of one message."""
        self.read += result.read
        self.converted += result.converted
        self.events += len(result.events)
        for kind in result.ignored:
            self.ignored[kind if kind in self.ignored or len(self.ignored) < _MOST_KINDS else OTHER] += 1
        for fault in result.faults:
            self.bad_by_reason[fault.error.reason] += 1
            if len(self.bad) < _MOST_BAD:
                at = f"{place}, {fault.place}" if fault.place else place
                self.bad.append({"place": at, "reason": fault.error.reason, "detail": fault.error.detail})

    def told(self, path: Path) -> str:
        """Return what became of a file in one line."""
        ignored = ", ".join(f"{count} {kind}" for kind, count in self.ignored.most_common(_KINDS_TOLD))
        if len(self.ignored) > _KINDS_TOLD:
            ignored += ", ..."
        return (
            f"{path}: {self.read:,} events read, {self.converted:,} converted, {self.ignored.total():,} ignored"
            + (f" ({ignored})" if ignored else "")
            + f", {self.bad_by_reason.total():,} bad"
            + (f"; the first, {self.bad[0]['place']}: {self.bad[0]['detail']}" if self.bad else "")
        )

    def as_json(self) -> str:
        """Return the summary as one line."""
        return json.dumps(
            {
                "read": self.read, "converted": self.converted, "events": self.events,
                "ignored": dict(self.ignored.most_common()), "bad": self.bad,
                "bad_by_reason": dict(self.bad_by_reason.most_common()), "bad_left_out": self.bad_left_out,
            },
            ensure_ascii=False,
        )  # fmt: skip


def convert_files(paths: Sequence[Path], converter: Converter, out: IO[bytes], summary: Summary) -> None:
    """
    Write the events that files become, a line each.

    Args:
        paths: Of the files; `-` is standard input.
        converter: Of their events, in their order.
        out: Takes the lines.
        summary: Counts what becomes of them, also where this ends in an error.

    Raises:
        UserError: If a file cannot be read; nothing is, if one is not there.
        OSError: If `out` takes no more.
    """
    for path in paths:
        _check(path)
    console = Console(stderr=True)
    with console.status("converting ...") if console.is_terminal else nullcontext() as status:
        try:
            for path in paths:
                for read in messages(path):
                    result = read.converted_by(converter)
                    summary.add(read.place, result)
                    out.writelines(event.value + b"\n" for event in result.events)
                    if status is not None and summary.read % 1_000 == 0:
                        status.update(f"converting: {summary.read} read")
        finally:
            out.flush()


def messages(path: Path) -> Iterator[Read]:
    """
    Give what a file holds: JSON values, one or several a line, or over as many lines as they like; also gzipped.

    What is no JSON is given too: a line, with those after it that go on with it. A list is one message.

    Raises:
        UserError: If the file cannot be read.
    """
    name = "standard input" if path == STANDARD_INPUT else str(path)
    try:
        _check(path)
        with _opened(path) as file:
            at = _written_at(path)
            for read in _messages(name, file):
                yield read._replace(at=at)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name}: cannot be read to its end ({error}); expected JSON, or JSON in gzip") from error


def holds_events(path: Path) -> bool:
    """Return whether a file begins as JSON objects or lists do, also gzipped."""
    try:
        with _opened(path) as file:
            return file.read(_LOOKED_AT).removeprefix(_BOM).lstrip()[:1] in {b"{", b"["}
    except (OSError, EOFError, zlib.error):
        return False


def _check(path: Path) -> None:
    """Check that there is a file to read, without opening it: a pipe can be opened once."""
    if path == STANDARD_INPUT:
        if cast("Any", sys.stdin) is None:
            raise UserError("standard input is closed; name files of events")
    elif path.is_dir():
        raise UserError(f"{path} is a folder; name the files in it")
    elif not path.exists():
        raise UserError(f"{path} does not exist; expected a file of events, or - for standard input")
    elif not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read; expected a file of events that this user may read")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Give a file's bytes, unpacked; standard input stays open."""
    with ExitStack() as stack:
        file = sys.stdin.buffer if path == STANDARD_INPUT else stack.enter_context(path.open("rb"))
        buffered = file if isinstance(file, BufferedReader) else BufferedReader(cast("Any", file))
        is_gzip = buffered.peek(len(_GZIP_MAGIC))[: len(_GZIP_MAGIC)] == _GZIP_MAGIC
        if is_gzip:
            yield cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=buffered)))
        else:
            yield buffered


def _written_at(path: Path) -> datetime:
    """Return when a file was written; standard input is being written."""
    return datetime.now(UTC) if path == STANDARD_INPUT else datetime.fromtimestamp(path.stat().st_mtime, UTC)


class _Lines:
    """
    The lines of a file, of which those taken last may be put back.

    Attributes:
        number: Of the last line that was taken, from 1.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.number = 0
        self._file = file
        self._back: list[bytes] = []  # the next one last

    def take(self) -> bytes:
        """Return the next line, nothing at the end."""
        line = self._back.pop() if self._back else self._file.readline()
        self.number += bool(line)
        return line

    def take_more(self, size: int) -> bytes:
        """Return lines of at least so many bytes, fewer only at the end."""
        taken: list[bytes] = []
        while size > 0 and (line := self.take()):
            taken.append(line)
            size -= len(line)
        return b"".join(taken)

    def put_back(self, raw: bytes) -> None:
        """Have the end of what was taken be taken once more; it may begin within a line."""
        lines = BytesIO(raw).readlines()
        self._back += reversed(lines)
        self.number -= len(lines)


def _messages(name: str, file: IO[bytes]) -> Iterator[Read]:
    """Give each line that is JSON; where one is not, the values that begin in it."""
    lines = _Lines(file)
    while line := lines.take():
        if lines.number == 1:
            if line.startswith(_UTF_16):
                raise UserError(f"{name}: expected UTF-8, found UTF-16; save the file as UTF-8")
            line = line.removeprefix(_BOM)
        if not line.strip():
            continue
        value = _json(line)
        if value is None:
            if lines.number == 1:
                _check_header(name, line)
            yield from _values(name, lines, line)
        else:
            yield Read(f"{name}, line {lines.number}", value, line)


def _check_header(name: str, line: bytes) -> None:
    """Check that a first line is not the header of a table, whose every row would be bad."""
    if (format_ := of_header(_decoded(line))) is not None:
        raise UserError(
            f"{name}: expected events as JSON, found a table of past answers ({format_.what}); `stream replay FILE` "
            "sends those"
        )


def _values(name: str, lines: _Lines, line: bytes) -> Iterator[Read]:
    """Give the objects and lists that begin in a line, wherever they end; what is none is given as it stands."""
    number = lines.number
    text, at = _decoded(line), 0
    while (at := _after(_BLANK, text, at)) < len(text) and text[at] != "\n":
        try:
            end = _end(text, at)
        except (ValueError, RecursionError):
            break
        if end is None:
            # As much again each time, so that what is long is not read anew for each of its lines.
            more = lines.take_more(len(text) - at)
            if not more:
                break
            text, at = text[at:] + _decoded(more), 0
            continue
        raw = _encoded(text[at:end])
        yield Read(f"{name}, line {number}", _json(raw), raw)
        number += text.count("\n", at, end)
        at = end
    else:
        lines.put_back(_encoded(text[at:]))
        return
    over = text.find("\n", at) + 1 or len(text)
    lines.put_back(_encoded(text[over:]))
    yield Read(f"{name}, line {number}", None, _encoded(text[at:over]) + _rest(lines))


def _end(text: str, at: int) -> int | None:
    """
    Return where the object or list ends that begins at a place, None if the text may be too short for it.

    Raises:
        ValueError: If none begins there.
        RecursionError: If it is too deep.
    """
    if text[at] not in "{[":
        raise ValueError(f"expected an object or a list, found {text[at]}")
    try:
        return _DECODER.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        if _after(_WHITE, text, error.pos) == len(text):
            return None
        raise


def _rest(lines: _Lines) -> bytes:
    """Take the lines that go on with something that is no JSON, until one is JSON itself."""
    taken: list[bytes] = []
    while (line := lines.take())[:1] in _GOES_ON and not isinstance(_json(line), dict | list):
        taken.append(line)
    lines.put_back(line)
    return b"".join(taken)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where a pattern that also fits nothing ends."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _json(raw: bytes) -> Any:  # noqa: ANN401 (any JSON)
    """Return what JSON says, None where it is none (or null, which is no event either)."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _decoded(raw: bytes) -> str:
    """Return a text that `_encoded` makes the same bytes of, whatever they are."""
    return raw.decode("utf-8", "surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
