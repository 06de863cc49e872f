"""
The Open University's learning analytics data (OULAD), as academic events in the order in which they happened.

Kuzilek, Hlosta & Zdrahal 2017, Sci. Data 4:170171. A folder holds the tables under their own names (`studentInfo.csv`)
or as `oulad_studentInfo.csv`, gzipped or not; `docs/oulad.md` says which become what. Nothing here sends anything.
"""

from __future__ import annotations

import math
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn

from stream.errors import BadAnswersFile
from stream.files.csv_file import CsvFile, number, open_csv, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

OUTCOMES: Final = {"Distinction": "distinction", "Pass": "pass", "Fail": "fail", "Withdrawn": "withdrawn"}
"""How `final_result` is told in events."""

TEXTS: Final = {
    "education": "highest_education", "module": "code_module", "presentation": "code_presentation",
    "region": "region", "gender": "gender", "disability": "disability", "imd_band": "imd_band", "age_band": "age_band",
}  # fmt: skip
"""Texts of an enrolment's context, and the columns that they come from."""

NUMBERS: Final = {"attempts": "num_of_prev_attempts", "credits": "studied_credits"}
"""Numbers of an enrolment's context, and the columns that they come from."""

PERSONAL: Final = ("region", "gender", "disability", "imd_band", "age_band")
"""Columns that a folder may come without: what is said of a person is for operators to ask for."""

_PRESENTATION: Final = ("code_module", "code_presentation")
_KEY: Final = (*_PRESENTATION, "id_student")
_EVENTS: Final = (*_KEY, "day", "event", "id_assessment", "weight", "score", "days_late")
_NOON: Final = timedelta(hours=12)
_EVENT_IDS: Final = uuid.UUID("0f6d3b5c-6f39-5c0e-8f5e-1d0c5a1b8e47")
_MOST_DAYS: Final = 3_650.0  # the limits of `schemas.events`: what breaks them would end as a dead letter
_LONGEST_TEXT: Final = 80

Kind = Literal["registered", "assessment_submitted", "assessment_overdue", "withdrawn", "ended"]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """
    One student in one presentation of a module.

    Attributes:
        user_id: As in events, `AAA-2013J-11391`.
        student: The same in all his enrolments.
        course: The presentation, `AAA-2013J`: what is usual at a time hangs on its deadlines.
        starts_at: Day 0 of the presentation.
        days: Length of the presentation.
        context: What was known of the student at the start, by the names of `TEXTS` and `NUMBERS`.
        outcome: How it ended, a value of `OUTCOMES`.
    """

    user_id: str
    student: str
    course: str
    starts_at: datetime
    days: int
    context: dict[str, str | float]
    outcome: str


class Happened(NamedTuple):
    """
    Something that happened in an enrolment.

    Attributes:
        enrolment: Its place in `Oulad.enrolments`.
        day: Since the presentation began, below 0 before.
        kind: What it was.
        event_id: The same whenever the folder is read.
        assessment: Of a piece of work.
        weight: Of it, share of the course in [0, 1].
        score: Share of 100, None where it is not known.
        days_late: None where there is no deadline.
    """

    enrolment: int
    day: int
    kind: Kind
    event_id: str
    assessment: str = ""
    weight: float | None = None
    score: float | None = None
    days_late: float | None = None


@dataclass(frozen=True, slots=True)
class Oulad:
    """
    A folder, read and checked.

    Attributes:
        path: Of the folder.
        digest: SHA-256 of the tables' digests, in hex.
        enrolments: In the order of `studentInfo`; never empty.
        happened: In time order over all presentations.
    """

    path: Path
    digest: str
    enrolments: list[Enrolment]
    happened: list[Happened]

    def moment(self, happened: Happened) -> datetime:
        """Return when something happened: at noon of its day, for the tables know no hours."""
        return self.enrolments[happened.enrolment].starts_at + timedelta(days=happened.day) + _NOON

    def event(self, happened: Happened) -> dict[str, Any]:
        """Return something that happened as a JSON-ready value of `schemas.Academic`."""
        enrolment = self.enrolments[happened.enrolment]
        event: dict[str, Any] = {
            "schema_version": 1,
            "event_id": happened.event_id,
            "user_id": enrolment.user_id,
            "course_id": enrolment.course,
            "timestamp": _rfc3339(self.moment(happened)),
        }
        match happened.kind:
            case "registered":
                starts_at = _rfc3339(enrolment.starts_at)
                return event | {"type": "enrolment_recorded", "starts_at": starts_at, "context": enrolment.context}
            case "assessment_submitted":
                work = {"assessment_id": happened.assessment, "weight": happened.weight}
                return event | {
                    "type": "grade_recorded", **work, "score": happened.score, "max_score": 100.0,
                    "days_late": happened.days_late,
                }  # fmt: skip
            case "assessment_overdue":
                work = {"assessment_id": happened.assessment, "weight": happened.weight}
                return event | {"type": "work_overdue", **work}
            case "withdrawn":
                return event | {"type": "outcome_recorded", "outcome": "withdrawn"}
            case "ended":
                return event | {"type": "outcome_recorded", "outcome": enrolment.outcome}


def is_oulad(folder: Path) -> bool:
    """Return whether a folder holds OULAD's table of students."""
    return folder.is_dir() and _Tables(folder).find("studentInfo") is not None


def academic_events(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Return a folder's events in time order, with the catalog's name of their topic.

    Raises:
        BadAnswersFile: At the first thing that is not as `docs/oulad.md` says.
    """
    oulad = read_oulad(folder)  # whole, before the first is sent
    return (("academics", oulad.event(happened)) for happened in oulad.happened)


def read_oulad(folder: Path) -> Oulad:
    """
    Read a folder whole.

    Raises:
        BadAnswersFile: At the first thing that is not as `docs/oulad.md` says.
    """
    tables = _Tables(folder)
    presentations = _presentations(tables)
    enrolments, ended = _enrolments(tables, presentations)
    place = {enrolment.user_id: row for row, enrolment in enumerate(enrolments)}
    happened = _told(tables, place) if tables.find("events") else _derived(tables, place)
    _register_before_all_else(happened)
    left = {event.enrolment for event in happened if event.kind == "withdrawn"}
    # Nine withdrew by the table of registrations and failed by the table of students: the end has the last word.
    happened += [
        event for event in ended if event.enrolment not in left or enrolments[event.enrolment].outcome != "withdrawn"
    ]
    oulad = Oulad(folder, sha256("".join(tables.digests).encode()).hexdigest(), enrolments, happened)
    happened.sort(key=oulad.moment)
    return oulad


class _Tables:
    """A folder's tables, and the digests of those that were read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.digests: list[str] = []

    def find(self, table: str) -> Path | None:
        """Return where a table lies, None if it is not there."""
        names = (f"{prefix}{table}.csv{suffix}" for prefix in ("oulad_", "") for suffix in (".gz", ""))
        return next((self._folder / name for name in names if (self._folder / name).exists()), None)

    @contextmanager
    def open(self, table: str, required: Sequence[str], optional: Collection[str] = ()) -> Iterator[_Cells]:
        """Give the rows of a table that must be there."""
        with open_csv(self.find(table) or self._missing(table), f"OULAD's table {table}", required) as file:
            self.digests.append(file.digest)
            yield _Cells(file, optional)

    def _missing(self, table: str) -> NoReturn:
        found = "no folder"
        if self._folder.is_dir():
            tables = sorted(entry.name for entry in self._folder.iterdir() if ".csv" in entry.name)
            more = [f"{len(tables) - _MOST_NAMED} more"] if len(tables) > _MOST_NAMED else []
            found = ", ".join(tables[:_MOST_NAMED] + more) or "none of its tables"
        raise BadAnswersFile(
            f"{self._folder} is not an OULAD folder: expected {table}.csv or oulad_{table}.csv (.gz too), found "
            f"{found}; download the data set, unpack it, and name the folder that holds its tables."
        )


_MOST_NAMED: Final = 8
"""OULAD has seven tables."""


class _Cells:
    """The rows of a table, read by the names of their columns."""

    def __init__(self, file: CsvFile, optional: Collection[str] = ()) -> None:
        self._file = file
        self._place = {name: file.place(name) for name in file.header if name in {*file.required, *optional}}
        self._cells: list[str] = []

    def rows(self) -> Iterator[str]:
        """Step from row to row; give what the id of a row's event is made of."""
        for row, cells in enumerate(self._file.rows()):
            self._cells = cells
            yield f"{self._file.digest}/{row}"

    def key(self, columns: Sequence[str] = _KEY) -> str:
        """Return the id of an enrolment, `AAA-2013J-11391`, or of what other columns name."""
        return "-".join(map(self.text, columns))

    def has(self, column: str) -> bool:
        """Return whether a cell is there and not empty; some copies of the data set write `?` for nothing."""
        return column in self._place and self._cells[self._place[column]].strip() not in {"", "?"}

    def text(self, column: str) -> str:
        """Return a cell that must not be empty."""
        text = self._cells[self._place[column]].strip()
        if not 0 < len(text) <= _LONGEST_TEXT:
            self.refuse(column, f"1 to {_LONGEST_TEXT} characters", "fill it in or leave the row out")
        return text

    def number(self, column: str, low: float, high: float) -> float | None:
        """Return a number of a range, None of an empty cell."""
        if not self.has(column):
            return None
        value = number(self._cells[self._place[column]])
        if value is None or not low <= value <= high:
            self.refuse(column, f"a number from {low:g} to {high:g}", "mend it, or leave the cell empty")
        return value

    def refuse_all(self, expected: str, found: str, remedy: str) -> NoReturn:
        """End the reading, for the whole table."""
        self._file.refuse(None, expected, found, remedy)

    def refuse(self, column: str, expected: str, remedy: str) -> NoReturn:
        """End the reading at a cell."""
        self._file.refuse(column, expected, shown(self._cells[self._place[column]]), remedy)


def _presentations(tables: _Tables) -> dict[str, tuple[datetime, int]]:
    """Return when each presentation (`AAA-2013J`) begins, and its length in days."""
    found = {}
    columns = (*_PRESENTATION, "module_presentation_length")
    with tables.open("courses", columns) as cells:
        for _ in cells.rows():
            days = cells.number("module_presentation_length", 1, _MOST_DAYS)
            if days is None:
                cells.refuse("module_presentation_length", "the presentation's length in days", "fill it in")
            found[cells.key(_PRESENTATION)] = _first_monday(cells), int(days)
    return found


def _first_monday(cells: _Cells) -> datetime:
    """
    Return the first Monday of a presentation's month.

    The data set is anonymous and gives no dates: `2013B` began in February, `2013J` in October, as the letter counts.
    """
    code = cells.text("code_presentation")
    year, letter = code[:-1], code[-1]
    if not (len(year) == len("2013") and year.isascii() and year.isdigit() and letter in _MONTHS):
        cells.refuse("code_presentation", "a year and a month's letter, such as 2013B", "write it so")
    first = datetime(int(year), _MONTHS.index(letter) + 1, 1, tzinfo=UTC)
    return first + timedelta(days=-first.weekday() % 7)


_MONTHS: Final = "ABCDEFGHIJKL"


def _enrolments(
    tables: _Tables, presentations: dict[str, tuple[datetime, int]]
) -> tuple[list[Enrolment], list[Happened]]:
    """Return all enrolments, and their ends."""
    enrolments: list[Enrolment] = []
    ended: list[Happened] = []
    required = (*_KEY, "final_result", "highest_education", *NUMBERS.values())
    with tables.open("studentInfo", required, PERSONAL) as cells:
        known = set()
        for origin in cells.rows():
            user_id = cells.key()
            if user_id in known:
                cells.refuse("id_student", f"enrolment {user_id} once", "leave one of the rows out")
            known.add(user_id)
            starts_at, days = presentations.get(cells.key(_PRESENTATION)) or cells.refuse(
                "code_presentation", "a module and presentation of the table of courses", "add them there"
            )
            if cells.text("final_result") not in OUTCOMES:
                cells.refuse("final_result", f"one of {', '.join(OUTCOMES)}", "mend it or leave the row out")
            context: dict[str, str | float] = {f: cells.text(c) for f, c in TEXTS.items() if cells.has(c)}
            counts = ((f, cells.number(c, 0, _MOST_CREDITS)) for f, c in NUMBERS.items())
            context |= {field: count for field, count in counts if count is not None}
            ended.append(Happened(len(enrolments), days, "ended", _event_id(origin)))
            enrolments.append(
                Enrolment(
                    user_id, cells.text("id_student"), cells.key(_PRESENTATION), starts_at, days, context,
                    OUTCOMES[cells.text("final_result")],
                )
            )  # fmt: skip
        if not enrolments:
            cells.refuse_all("a student after the header", "no rows", "check how the file was made")
    return enrolments, ended


_MOST_CREDITS: Final = 10_000


def _told(tables: _Tables, place: dict[str, int]) -> list[Happened]:
    """Return what the table of events tells, in its order."""
    with tables.open("events", _EVENTS) as cells:
        return [_event(cells, _enrolment(cells, place), _event_id(origin)) for origin in cells.rows()]


def _enrolment(cells: _Cells, place: dict[str, int], columns: Sequence[str] = _KEY) -> int:
    enrolment = place.get(cells.key(columns))
    if enrolment is None:
        cells.refuse("id_student", "a student of this presentation in the table studentInfo", "add him there")
    return enrolment


def _register_before_all_else(happened: list[Happened]) -> None:
    """Have those whose day of registration is unknown register before the start, and before all that they did."""
    earliest: dict[int, int] = {}
    for event in happened:
        if event.day != _UNKNOWN_DAY:
            earliest[event.enrolment] = min(event.day, earliest.get(event.enrolment, -1))
    for row, event in enumerate(happened):
        if event.day == _UNKNOWN_DAY:
            happened[row] = event._replace(day=earliest.get(event.enrolment, -1))


_UNKNOWN_DAY: Final = -1_000_000


def _event(cells: _Cells, enrolment: int, event_id: str) -> Happened:
    """Return one row's event."""
    kind = cells.text("event")
    match kind:
        case "registered" | "withdrawn":
            return Happened(enrolment, _day(cells, "day", kind), kind, event_id)
        case "assessment_submitted" | "assessment_overdue":
            return Happened(
                enrolment, _day(cells, "day", kind), kind, event_id, cells.text("id_assessment"), _weight(cells),
                cells.number("score", 0, 100), cells.number("days_late", -_MOST_DAYS, _MOST_DAYS),
            )  # fmt: skip
    return cells.refuse("event", f"one of {', '.join(_KINDS)}", "mend it or leave the row out")


def _day(cells: _Cells, column: str, kind: Kind) -> int:
    day = cells.number(column, -_MOST_DAYS, _MOST_DAYS)
    if day is not None:
        return int(day)
    if kind != "registered":
        cells.refuse(column, "a day since the presentation began", "fill it in or leave the row out")
    return _UNKNOWN_DAY


def _weight(cells: _Cells) -> float | None:
    weight = cells.number("weight", 0, 100)
    return None if weight is None else weight / 100


_KINDS: Final = ("registered", "assessment_submitted", "assessment_overdue", "withdrawn")


class _Assessment(NamedTuple):
    """A piece of work of a presentation; `due` is None without a deadline."""

    presentation: str
    is_exam: bool
    due: int | None
    weight: float | None
    origin: str


def _derived(tables: _Tables, place: dict[str, int]) -> list[Happened]:
    """Return what the data set's own tables tell, and which deadlines passed with nothing handed in."""
    works = _assessments(tables)
    registered = _registrations(tables, place)
    submitted, banked = _submissions(tables, place, works)
    return registered + submitted + list(_overdue(place, works, registered, submitted, banked))


def _registrations(tables: _Tables, place: dict[str, int]) -> list[Happened]:
    happened: list[Happened] = []
    with tables.open("studentRegistration", (*_KEY, "date_registration", "date_unregistration")) as cells:
        for origin in cells.rows():
            enrolment = _enrolment(cells, place)
            day = _day(cells, "date_registration", "registered")
            happened.append(Happened(enrolment, day, "registered", _event_id(origin)))
            if cells.has("date_unregistration"):
                day = _day(cells, "date_unregistration", "withdrawn")
                happened.append(Happened(enrolment, day, "withdrawn", _event_id(f"{origin}/left")))
    return happened


def _submissions(
    tables: _Tables, place: dict[str, int], works: dict[str, _Assessment]
) -> tuple[list[Happened], set[tuple[int, str]]]:
    """Return what was handed in, and what students brought along from an earlier presentation ("banked")."""
    happened: list[Happened] = []
    banked: set[tuple[int, str]] = set()
    columns = ("id_assessment", "id_student", "date_submitted", "is_banked", "score")
    with tables.open("studentAssessment", columns) as cells:
        for origin in cells.rows():
            name = cells.text("id_assessment")
            work = works.get(name) or cells.refuse("id_assessment", "one of the table assessments", "add it there")
            enrolment = place.get(f"{work.presentation}-{cells.text('id_student')}")
            if enrolment is None:
                expected = f"a student of {work.presentation} in the table studentInfo"
                cells.refuse("id_student", expected, "add him there")
            if cells.text("is_banked") == "1":
                banked.add((enrolment, name))
                continue
            day = _day(cells, "date_submitted", "assessment_submitted")
            late, score = None if work.due is None else float(day - work.due), cells.number("score", 0, 100)
            happened.append(
                Happened(enrolment, day, "assessment_submitted", _event_id(origin), name, work.weight, score, late)
            )
    return happened, banked


def _overdue(
    place: dict[str, int],
    works: dict[str, _Assessment],
    registered: list[Happened],
    submitted: list[Happened],
    banked: set[tuple[int, str]],
) -> Iterator[Happened]:
    """Give the deadlines that passed with nothing; exams are sat, not handed in, and most are in no table."""
    since = {event.enrolment: event.day for event in registered if event.kind == "registered"}
    until = {event.enrolment: event.day for event in registered if event.kind == "withdrawn"}
    came = {(event.enrolment, event.assessment): event.day for event in submitted}
    of: dict[str, list[int]] = {}
    for user_id, enrolment in place.items():
        of.setdefault(user_id.rpartition("-")[0], []).append(enrolment)
    for name, work in works.items():
        due = math.inf if work.due is None or work.is_exam else work.due
        for enrolment in of.get(work.presentation, ()):
            is_there = since.get(enrolment, math.inf) <= due < until.get(enrolment, math.inf)
            if is_there and due < came.get((enrolment, name), math.inf) and (enrolment, name) not in banked:
                event_id = _event_id(f"{work.origin}/{enrolment}")
                yield Happened(enrolment, int(due) + 1, "assessment_overdue", event_id, name, work.weight)


def _assessments(tables: _Tables) -> dict[str, _Assessment]:
    works: dict[str, _Assessment] = {}
    with tables.open("assessments", (*_PRESENTATION, "id_assessment", "assessment_type", "date", "weight")) as cells:
        for origin in cells.rows():
            due = cells.number("date", -_MOST_DAYS, _MOST_DAYS)
            works[cells.text("id_assessment")] = _Assessment(
                cells.key(_PRESENTATION), cells.text("assessment_type") == "Exam", None if due is None else int(due),
                _weight(cells), origin,
            )  # fmt: skip
    return works


def _event_id(origin: str) -> str:
    return str(uuid.uuid5(_EVENT_IDS, origin))


def _rfc3339(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
