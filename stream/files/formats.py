"""
The formats of files of past answers, how a file's own is recognised, and the one way to read any of them.

A format is a value that says which columns a file must have and how it is read. `docs/answers.md` has the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from stream.errors import BadAnswersFile
from stream.files import assistments, datashop, ednet, junyi, own, riiid
from stream.files.answers import AnswersFile
from stream.files.csv_file import header_of, open_table, visible
from stream.files.oulad import is_oulad
from stream.files.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

AUTO: Final = "auto"
"""Recognises the format by the header."""


@dataclass(frozen=True, slots=True)
class Look:
    """
    What can be seen of a file or folder before it is read.

    Attributes:
        header: Names of its columns; of a folder, those of the first user's file that can be read, none if there is no
            user's file.

        user: That file, of a folder that has one.
    """

    path: Path
    is_folder: bool
    header: tuple[str, ...]
    user: Path | None = None


class Format(Protocol):
    """A format of files of past answers."""

    @property
    def name(self) -> str:
        """What `--format` calls it."""

    @property
    def what(self) -> str:
        """What it is, in words."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names that its header must have; `a|b` is one or the other."""

    def fits(self, look: Look) -> bool:
        """Return whether a file or folder may be of this format."""

    def read(self, path: Path) -> AnswersFile:
        """
        Read a file or folder whole.

        Raises:
            BadAnswersFile: If it cannot be read as this format, or holds no answers.
        """


@dataclass(frozen=True, slots=True)
class Own:
    """Our own format, which is checked row by row."""

    name: str = "csv"
    what: str = "answers in our own format"
    columns: tuple[str, ...] = own.REQUIRED_COLUMNS

    def fits(self, look: Look) -> bool:
        """Return whether a file has the columns."""
        return not look.is_folder and not _lacking(self.columns, look.header)

    def read(self, path: Path) -> AnswersFile:
        """Read a file whole; the first fault ends it."""
        return own.read(path)


@dataclass(frozen=True, slots=True)
class Published:
    """
    A file as its publisher has it.

    Attributes:
        gather: Reads a file.
        never: Columns that it does not have, which tell it from others.
    """

    name: str
    what: str
    columns: tuple[str, ...]
    gather: Callable[[Path, Reading], None]
    never: tuple[str, ...] = ()

    def fits(self, look: Look) -> bool:
        """Return whether a file has the columns."""
        is_other = any(name in look.header for name in self.never)
        return not look.is_folder and not is_other and not _lacking(self.columns, look.header)

    def read(self, path: Path) -> AnswersFile:
        """Read a file whole; what is no answer is skipped and counted."""
        reading = Reading()
        self.gather(path, reading)
        return reading.answers(path, self.what, [path])


@dataclass(frozen=True, slots=True)
class Folder:
    """
    A folder with a file for each user, or one of those files.

    Attributes:
        gather: Reads it, and returns the files that were read.
        never: Columns that its files do not have.
    """

    name: str
    what: str
    columns: tuple[str, ...]
    gather: Callable[[Path, Reading], list[Path]]
    never: tuple[str, ...] = ()

    def fits(self, look: Look) -> bool:
        """Return whether the files have the columns."""
        is_other = any(name in look.header for name in self.never)
        return not is_other and not _lacking(self.columns, look.header)

    def read(self, path: Path) -> AnswersFile:
        """Read all users' files; what is no answer is skipped and counted."""
        reading = Reading()
        read = self.gather(path, reading)
        return reading.answers(path, self.what, read)


@dataclass(frozen=True, slots=True)
class Academic:
    """A folder of OULAD, which holds no answers: `stream.files.oulad` reads it."""

    name: str = "oulad"
    what: str = "a folder of OULAD"
    columns: tuple[str, ...] = ()

    def fits(self, look: Look) -> bool:
        """Return whether a folder holds OULAD's table of students."""
        return look.is_folder and is_oulad(look.path)

    def read(self, path: Path) -> NoReturn:
        """Refuse: there are no answers in it."""
        raise BadAnswersFile(
            f"{path} is {self.what}, which holds grades and outcomes: expected answers to questions; "
            "`stream replay` sends its events, and `stream train` and `stream evaluate` learn from it with --task risk."
        )


OWN: Final = Own()
OULAD: Final = Academic()

_STEP: Final = ("Anon Student Id", "Problem Name", "Step Name")
_ACTIONS: Final = ("timestamp", "action_type", "item_id", "user_answer")

FORMATS: Final[tuple[Format, ...]] = (
    OWN,
    Published(
        "assistments2009", "ASSISTments 2009-2010",
        ("order_id", "user_id", "problem_id", "correct", "|".join(assistments.SKILL_IDS)),
        assistments.read_2009, never=("start_time",),
    ),
    Published(
        "assistments2012", "ASSISTments 2012-2013",
        ("user_id", "problem_id", "correct", "|".join(assistments.SKILL_IDS), "start_time"), assistments.read_2012,
    ),
    Published(
        "assistments2015", "ASSISTments 2014-2015", ("user_id", "log_id", "sequence_id", "correct"),
        assistments.read_2015,
    ),
    Published(
        "assistments2017", "ASSISTments 2017", ("studentId", "problemId", "skill", "correct", "startTime"),
        assistments.read_2017,
    ),
    Folder(
        "ednet-kt1", "EdNet KT1",
        ("timestamp", "solving_id", "question_id", "user_answer", "elapsed_time"), ednet.read_kt1,
    ),
    Folder("ednet-kt3", "EdNet KT3", _ACTIONS, ednet.read_actions),
    Folder("ednet-kt4", "EdNet KT4", (*_ACTIONS, "cursor_time"), ednet.read_actions),
    Published(
        "riiid", "answers of the Riiid challenge",
        ("timestamp", "user_id", "content_id", "content_type_id", "task_container_id", "answered_correctly"),
        riiid.read,
    ),
    Published("junyi", "Junyi Academy 2012-2015", ("user_id", "exercise", "time_done", "correct"), junyi.read),
    Published(
        "junyi2019", "Junyi Academy 2018-2019", ("timestamp_TW", "uuid", "ucid", "upid", "is_correct"), junyi.read_2019
    ),
    Published(
        "kddcup2010", "steps of the KDD Cup 2010",
        (*_STEP, "First Transaction Time", "Correct First Attempt"), datashop.read_steps,
    ),
    Published(
        "datashop-steps", "steps of students from DataShop", (*_STEP, "First Transaction Time", "First Attempt"),
        datashop.read_steps,
    ),
    Published(
        "datashop", "transactions from DataShop", (*_STEP, "Time", "Outcome"), datashop.read_transactions
    ),
    OULAD,
)  # fmt: skip
"""All formats; our own first, which wins where several fit."""

FORMAT_NAMES: Final = (AUTO, *(each.name for each in FORMATS))
"""What `--format` takes."""


def read_answers(path: Path, format_: str = AUTO) -> AnswersFile:
    """
    Read past answers whole, in any of the formats.

    Args:
        path: Of the file or folder.
        format_: One of `FORMAT_NAMES`.

    Raises:
        BadAnswersFile: If the format is not known or does not fit, or the file cannot be read as it.
    """
    return find_format(path, format_).read(path)


def find_format(path: Path, name: str = AUTO) -> Format:
    """
    Return the format of a file or folder.

    Args:
        path: Of the file or folder.
        name: One of `FORMAT_NAMES`; `auto` goes by the header.

    Raises:
        BadAnswersFile: If the format is not known or does not fit, or several do.
    """
    named = next((each for each in FORMATS if each.name == name), None)
    if named is None and name != AUTO:
        raise BadAnswersFile(f"--format: expected one of {', '.join(FORMAT_NAMES)}, found {name}.")
    if named is OWN:
        return OWN  # its own sentences name the line and the column
    look = _look(path)
    fitting = [each for each in FORMATS if each.fits(look)]
    if named is not None:
        return named if named in fitting else _misfit(look, named, fitting)
    best = [each for each in fitting if not any(set(each.columns) < set(other.columns) for other in fitting)]
    if not best:
        _unknown(look)
    if len(best) > 1 and best[0] is not OWN:
        names = " and ".join(each.name for each in best)
        raise BadAnswersFile(f"{path}: the header fits {names}: say which it is by --format.")
    return best[0]


def of_header(line: str) -> Format | None:
    """Return a format whose table may begin with a line, None where there is none."""
    look = Look(Path(), False, header_of(line))
    return next((each for each in FORMATS if each.fits(look)), None)


def _look(path: Path) -> Look:
    if not path.is_dir():
        with open_table(path) as table:
            return Look(path, False, tuple(table.header))
    users = ednet.users(path)
    if not users:
        return Look(path, True, ())
    faults: list[BadAnswersFile] = []
    for user in users:
        try:
            with open_table(user) as table:
                return Look(path, True, tuple(table.header), user)
        except BadAnswersFile as fault:
            faults.append(fault)
    raise faults[0]


def _lacking(columns: tuple[str, ...], header: tuple[str, ...]) -> list[str]:
    """Return the columns that a header lacks."""
    return [name for name in columns if not any(one in header for one in name.split("|"))]


def _misfit(look: Look, named: Format, fitting: list[Format]) -> NoReturn:
    lacking = ", ".join(_lacking(named.columns, look.header))
    lacks = f", which lacks {lacking}" if lacking else ""
    hint = f"--format {fitting[0].name} fits" if fitting else "leave out --format to have it recognised"
    raise BadAnswersFile(f"{look.path}: expected {named.what}, found {_found(look)}{lacks}: {hint}.")


def _unknown(look: Look) -> NoReturn:
    if look.is_folder and not look.header:
        raise BadAnswersFile(
            f"{look.path} is a folder; expected a file of answers, or a folder with the tables of OULAD or with the "
            "users' files of EdNet (u1.csv, u2.csv, ...), found neither: name the file or folder that holds the data."
        )
    known = [each for each in FORMATS if each.columns]
    lacking = {each.name: _lacking(each.columns, look.header) for each in known}
    nearest = min(known, key=lambda each: len(lacking[each.name]) / len(each.columns))
    missing = lacking[nearest.name]
    near = f"; the nearest is {nearest.name}, which lacks column {', '.join(missing)}"
    raise BadAnswersFile(
        f"{look.path}, line 1: expected the header of one of the formats {', '.join(lacking)}, found {_found(look)}: "
        "add or rename columns, or turn the file into one of these"
        f"{near if len(missing) < len(nearest.columns) else ''}."
    )


def _found(look: Look) -> str:
    if look.is_folder and not look.header:
        return "a folder without such files"
    names = ", ".join(name for name in look.header if name) or "an empty line"
    cut = f"{visible(names[:_SHOWN])}..." if len(names) > _SHOWN else visible(names)
    return f"a file with {cut}" if look.user is None else f"a folder with {cut} (in {look.user.name})"


_SHOWN: Final = 120
