"""Users as the risk model sees them, made up: grades and missing work say who is at risk, one course is harder."""

from typing import Any

import numpy as np

from stream.learning.risk.snapshots import Snapshots, risk_of
from stream.models.risk_network import Vocabulary
from stream.models.weekly import COLUMN, FEATURES, Seen
from stream.state.academic import FACTS, NUMBERS, WEEKS, fact_key, field_key

VOCABULARY = Vocabulary(
    ("course=algebra", "course=biology", "education=school", "education=university"), ("attempts", "enrolled_before")
)
COURSES, EDUCATIONS = ("algebra", "biology"), ("school", "university")


def pupils(users: int, seed: int = 0, weeks: int = 3, first: int = 0) -> Snapshots:
    """Return `weeks` snapshots of each of so many users."""
    random = np.random.default_rng(seed)
    course, education = random.integers(0, 2, users), random.integers(0, 2, users)
    attempts = random.integers(0, 3, users)
    strength = random.normal(0, 1, users) - 0.4 * attempts + 0.5 * course
    outcome = np.digitize(-strength + random.normal(0, 0.5, users), [-1.0, 0.2, 1.0])
    parts = [
        _at(strength, course, education, attempts, outcome, day, first, random)
        for day in np.linspace(30, 100, weeks).astype(int).tolist()
    ]
    return Snapshots.joined(parts)


def _at(
    strength: Any, course: Any, education: Any, attempts: Any, outcome: Any, day: int, first: int, random: Any
) -> Snapshots:
    users = len(strength)
    steps = np.full((users, WEEKS, len(FEATURES)), np.nan, np.float32)
    steps[:, :, COLUMN["handed_in_week"] :] = 0
    noise = random.normal(0, 0.1, (users, WEEKS))
    steps[:, :, COLUMN["grade_mean"]] = np.clip(0.6 + 0.12 * strength[:, None] + noise, 0, 1)
    steps[:, :, COLUMN["missing"]] = np.maximum(np.round(1 - strength[:, None] + 5 * noise), 0)
    steps[:, :, COLUMN["days_since_work"]] = np.nan
    fact = np.zeros((users, FACTS), np.uint64)
    fact[:, 0] = np.array([fact_key("course", name) for name in COURSES], np.uint64)[course]
    fact[:, 1] = np.array([fact_key("education", name) for name in EDUCATIONS], np.uint64)[education]
    field, value = np.zeros((users, NUMBERS), np.uint32), np.zeros((users, NUMBERS), np.float32)
    field[:, 0], value[:, 0] = field_key("attempts"), attempts
    days = (day - 7 * np.arange(WEEKS - 1, -1, -1)).astype(np.float32)
    seen = Seen(
        steps, fact, np.repeat(days[None], users, axis=0), np.full((users, 1), 20, np.float32), field, value
    )  # fmt: skip
    return Snapshots(
        seen, first + np.arange(users), np.full(users, day // 7), outcome.astype(np.int64), risk_of(outcome)
    )
