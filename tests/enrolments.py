"""A folder as OULAD is, of students who are simulated: those who are less able hand in less, score less and leave."""

import csv
import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PRESENTATIONS = {("AAA", "2013J"): 240, ("BBB", "2014B"): 200}
DUE = (20, 45, 70, 95, 120, 150, 180)
EDUCATION = ("A Level or Equivalent", "HE Qualification", "Lower Than A Level")

EVENTS = (
    "code_module", "code_presentation", "id_student", "day", "event", "id_assessment", "assessment_type", "weight",
    "score", "days_late",
)  # fmt: skip
INFO = (
    "code_module", "code_presentation", "id_student", "gender", "region", "highest_education", "imd_band", "age_band",
    "num_of_prev_attempts", "studied_credits", "disability", "final_result",
)  # fmt: skip

Row = tuple[Any, ...]


class Simulated:
    """
    Tables of simulated enrolments.

    Args:
        students: How many; every fifth takes both presentations.
        seed: Of all chance.
    """

    def __init__(self, students: int, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self.courses: list[Row] = [(*key, days) for key, days in PRESENTATIONS.items()]
        self.assessments: list[Row] = []
        for module, (key, _) in enumerate(PRESENTATIONS.items()):
            self.assessments += [(*key, 100 * module + n, "TMA", float(due), 12.5) for n, due in enumerate(DUE)]
            self.assessments.append((*key, 100 * module + 99, "Exam", "", 100.0))
        self.info: list[Row] = []
        self.registrations: list[Row] = []
        self.submissions: list[Row] = []
        self.events: list[Row] = []
        keys = list(PRESENTATIONS)
        for student in range(students):
            for module in (0, 1) if student % 5 == 0 else (student % 2,):
                self._enrol(1_000 + student, keys[module], module)

    def _enrol(self, student: int, key: tuple[str, str], module: int) -> None:
        random = self._random
        ability = float(random.normal())
        registered = int(random.integers(-60, 6)) if random.random() > 0.05 else None
        left = int(random.integers(8, 190)) if random.random() < 1 / (1 + math.exp(1.2 + 1.2 * ability)) else None
        told: list[tuple[Row, Row]] = []
        points = 0
        for number, due in enumerate(DUE):
            work = (100 * module + number, "TMA", 12.5)
            if (left is not None and left <= due) or (registered or -1) > due:
                continue
            comes = random.random() < 1 / (1 + math.exp(-1.5 - 1.5 * ability))
            day = due - int(random.integers(0, 4)) if comes else due + int(random.integers(1, 9))
            if not comes:
                told.append((("assessment_overdue", due + 1), (*work, "", "")))
            if comes or random.random() < 0.3:
                score = int(np.clip(random.normal(62 + 14 * ability, 9), 0, 100))
                points += score
                shown = score if random.random() > 0.02 else ""
                told.append((("assessment_submitted", day), (*work, shown, float(day - due))))
                self.submissions.append((work[0], student, day, 0, shown))
        mean = points / len(DUE)
        result = "Withdrawn" if left is not None else "Fail" if mean < 42 else "Pass" if mean < 72 else "Distinction"
        day_of_registration = "" if registered is None else registered
        told.append((("registered", day_of_registration), ("", "", "", "", "")))
        if left is not None:
            told.append((("withdrawn", left), ("", "", "", "", "")))
        told.sort(key=lambda row: -math.inf if row[0][1] == "" else float(row[0][1]))
        self.events += [(*key, student, day, kind, *rest) for (kind, day), rest in told]
        self.registrations.append((*key, student, day_of_registration, "" if left is None else left))
        self.info.append(
            (
                *key, student, "FM"[student % 2], "Scotland", EDUCATION[student % 3],
                "" if student % 7 == 0 else "20-30%", "0-35", student % 3, 60, "NY"[student % 4 == 0], result,
            )
        )  # fmt: skip

    def write(self, folder: Path) -> Path:
        """Write the tables in the form in which they are handed on: gzipped, with a table of events."""
        _write(folder / "oulad_courses.csv.gz", (*INFO[:2], "module_presentation_length"), self.courses)
        _write(folder / "oulad_studentInfo.csv.gz", INFO, self.info)
        _write(folder / "oulad_events.csv.gz", EVENTS, self.events)
        return folder

    def write_original(self, folder: Path) -> Path:
        """Write the tables as the university publishes them: no events, and `?` for what is not known."""
        head = (*INFO[:2], "id_assessment", "assessment_type", "date", "weight")
        registration = (*INFO[:3], "date_registration", "date_unregistration")
        submission = ("id_assessment", "id_student", "date_submitted", "is_banked", "score")
        _write(folder / "courses.csv", (*INFO[:2], "module_presentation_length"), self.courses)
        _write(folder / "studentInfo.csv", INFO, self.info)
        _write(folder / "assessments.csv", head, self.assessments)
        _write(folder / "studentRegistration.csv", registration, self.registrations)
        _write(folder / "studentAssessment.csv", submission, self.submissions)
        return folder


def _write(path: Path, head: Sequence[str], rows: Sequence[Row]) -> None:
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        unknown = "" if path.suffix == ".gz" else "?"
        writer.writerows(tuple(unknown if cell == "" else cell for cell in row) for row in rows)
