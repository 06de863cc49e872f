"""
Users as the page knows them: their latest answers, what is said of them, and who is on the map of skills.

Pure, and bounded: of 5,000 users and 100,000 answers at most, those who were active last; of 20,000 users the risk.
"""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import islice
from sys import intern
from typing import Final, NamedTuple, get_args

from schemas.predictions import RiskCategory
from stream.emission import content
from stream.page.lives import moment
from stream.page.shape import Factor, Heat, Json, PathAnswer, Risk, Row, UserRisk

MOST_USERS: Final = 5_000
MOST_ANSWERS: Final = 100_000
PATH: Final = 100
"""Answers that are kept of one user."""

MOST_SKILLS: Final = 10_000
"""Skills that are counted; when there are more, those practised least begin anew."""

MOST_RISKS: Final = 20_000
AT_RISK: Final = 20
"""Users at risk that are shown."""

ROWS, COLUMNS, ACTIVE = 16, 12, 12
STAY_S: Final = 30.0
"""For which a user keeps a row of the map after the last answer: rows that change at every look cannot be read."""

_CATEGORIES: Final[tuple[str, ...]] = get_args(RiskCategory)


class Past(NamedTuple):
    """One answer as it is kept; see `PathAnswer`."""

    example_id: str
    at: float
    topic_id: str
    item_id: str | None
    skills: tuple[str, ...]
    difficulty: str | None
    correct: bool
    p_before: float
    p_fallback: float
    seconds: float | None
    expected_s: float
    version: int

    def as_json(self) -> PathAnswer:
        """Return it as the page has it."""
        return {
            "at": self.at, "topic_id": self.topic_id, "item_id": self.item_id,
            "skills": list(self.skills), "difficulty": self.difficulty, "correct": self.correct,
            "p_before": self.p_before, "p_fallback": self.p_fallback, "seconds": self.seconds,
            "expected_s": self.expected_s, "version": self.version,
        }  # fmt: skip


@dataclass(slots=True)
class Known:
    """
    What is known of one user.

    Attributes:
        active_at: When something of the user came last.
        answers: The latest, the oldest first.
        total: Answers in all.
        said: The latest correctness prediction, raw: few of them are ever looked at.
    """

    active_at: float = 0.0
    answers: deque[Past] = field(default_factory=lambda: deque(maxlen=PATH))
    total: int = 0
    said: bytes | None = None

    def mastery(self) -> dict[str, float]:
        """Return what was said last of the user's skills; nothing of what no worker writes."""
        if self.said is None:
            return {}
        try:
            return {skill: float(p) for skill, p in content(self.said)["mastery"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}


class People:
    """Users by when they were active, and the map of those who were active lately."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._kept = 0
        self._practised: Counter[str] = Counter()
        self._rows: list[str] = []

    def touch(self, user_id: str, at: float) -> Known:
        """Return what is known of a user who has just been active; those active longest ago make room."""
        known = self._known.get(user_id)
        if known is None:
            known = self._known[user_id] = Known()
        else:
            self._known.move_to_end(user_id)
        known.active_at = at
        while len(self._known) > MOST_USERS or self._kept > MOST_ANSWERS:
            self.forget(next(iter(self._known)))
        return known

    def answered(self, example: Json, at: float) -> None:
        """Add an answer to its user's path."""
        known = self.touch(example["user_id"], at)
        skills = tuple(map(intern, example["skills"]))
        item_id = example["item_id"]
        self._kept += len(known.answers) < PATH
        known.total += 1
        known.answers.append(
            Past(
                example["example_id"], moment(example["timestamp"]), intern(example["topic_id"]),
                None if item_id is None else intern(item_id), skills, example["difficulty"], example["correct"],
                example["p_before"], example["p_before_fallback"], example["response_time_seconds"],
                example["median_before"], example["model"]["version"],
            )
        )  # fmt: skip
        practised = self._practised
        for skill in skills:
            practised[skill] += 1
        if len(practised) > MOST_SKILLS:
            self._practised = Counter(dict(practised.most_common(MOST_SKILLS // 2)))

    def corrected(self, user_id: str, example_id: str, correct: bool) -> None:
        """Put right how an answer came out, if it is on the user's path still."""
        known = self._known.get(user_id)
        if known is None:
            return
        for place, past in enumerate(known.answers):
            if past.example_id == example_id:
                known.answers[place] = past._replace(correct=correct)

    def forget(self, user_id: str) -> None:
        """Drop all that is known of a user."""
        known = self._known.pop(user_id, None)
        if known is not None:
            self._kept -= len(known.answers)

    def of(self, user_id: str) -> Known | None:
        """Return what is known of a user."""
        return self._known.get(user_id)

    def active(self) -> list[str]:
        """Return the ids of those active last, the latest first."""
        return list(islice(reversed(self._known), ACTIVE))

    def heat(self, at: float) -> Heat:
        """Return the map: those who were active lately keep their rows, others make room for the latest."""
        skills = [skill for skill, _ in self._practised.most_common(COLUMNS)]
        self._rows = _kept_rows(self._rows, self._known, at)
        return {"skills": skills, "users": [self._row(user_id, skills) for user_id in self._rows]}

    def _row(self, user_id: str, skills: list[str]) -> Row:
        known = self._known[user_id]
        mastery = known.mastery()
        return {"user_id": user_id, "answers": known.total, "mastery": [mastery.get(skill) for skill in skills]}


def _kept_rows(rows: list[str], known: OrderedDict[str, Known], at: float) -> list[str]:
    """Return who is on the map, each in the place of before."""
    here = [user_id for user_id in rows if user_id in known]
    wanted = dict.fromkeys(user_id for user_id in here if at - known[user_id].active_at <= STAY_S)
    with_answers = (user_id for user_id in reversed(known) if known[user_id].total)
    for user_id in islice(with_answers, ROWS + len(wanted)):
        if len(wanted) >= ROWS:
            break
        wanted[user_id] = None
    newcomers = iter([user_id for user_id in wanted if user_id not in here])
    places = [user_id if user_id in wanted else next(newcomers, None) for user_id in here]
    return [user_id for user_id in (*places, *newcomers) if user_id is not None]


class RiskSaid(NamedTuple):
    """The latest that was said of a user's risk; `category` None once the course has ended."""

    as_of: float
    category: str | None
    before: str | None = None
    score: float = 0.0
    version: int = 0
    reason: str = ""
    factors: tuple[tuple[str, float, float | None], ...] = ()

    def as_json(self, user_id: str) -> UserRisk:
        """Return it as the page has it."""
        factors: list[Factor] = [
            {"feature": feature, "contribution": size, "value": value} for feature, size, value in self.factors
        ]
        return {
            "user_id": user_id, "score": self.score, "category": self.category or "", "before": self.before,
            "as_of": self.as_of, "version": self.version, "reason": self.reason, "factors": factors,
        }  # fmt: skip


class Risks:
    """What was said last of each user's risk, by the moments for which it holds."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, RiskSaid] = OrderedDict()
        self._shown: Risk | None = None

    def said(self, prediction: Json) -> None:
        """Take note of a prediction; one of an earlier moment than what is known changes nothing."""
        user_id, as_of = prediction["user_id"], moment(prediction.get("as_of") or prediction["produced_at"])
        before = self._said.get(user_id)
        if before is not None and as_of < before.as_of:
            return
        self._said[user_id] = self._next(prediction, as_of, before)
        self._said.move_to_end(user_id)
        if len(self._said) > MOST_RISKS:
            self._said.popitem(last=False)
        self._shown = None

    def forget(self, user_id: str) -> None:
        """Drop what was said of a user."""
        if self._said.pop(user_id, None) is not None:
            self._shown = None

    def of(self, user_id: str) -> UserRisk | None:
        """Return what was said last of a user whose course goes on."""
        said = self._said.get(user_id)
        return said.as_json(user_id) if said is not None and said.category is not None else None

    def shown(self) -> Risk:
        """Return how many are in each category, and those with the highest scores."""
        if self._shown is None:
            going_on = [(user_id, said) for user_id, said in self._said.items() if said.category is not None]
            counts = Counter(said.category for _, said in going_on)
            highest = nlargest(AT_RISK, going_on, key=lambda each: (each[1].score, each[1].as_of, each[0]))
            self._shown = {
                "categories": {category: counts[category] for category in _CATEGORIES},
                "users": [said.as_json(user_id) for user_id, said in highest],
            }
        return self._shown

    @staticmethod
    def _next(prediction: Json, as_of: float, before: RiskSaid | None) -> RiskSaid:
        if prediction.get("outcome") is not None:
            return RiskSaid(as_of, None)
        category = intern(prediction["category"])
        earlier = None
        if before is not None and before.category is not None:
            earlier = before.before if before.category == category else before.category
        factors = tuple((intern(f["feature"]), f["contribution"], f.get("value")) for f in prediction["factors"])
        return RiskSaid(
            as_of, category, earlier, float(prediction["score"]), prediction["model"]["version"],
            intern(prediction["reason"]), factors,
        )  # fmt: skip
