"""
Simulated learners of one course: their answers, views and feedback, and what the school records about them.

Pure and deterministic for a seed: no clock, no I/O, time is event time. The learners are richer than the
fallback assumes, so that a model has something to find; where each number comes from stands in
`docs/simulator.md`. What is sent, and how fast, is decided by whoever reads the iterator.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Event: TypeAlias = dict[str, Any]
# When (seconds since 1970), which stream (a tie-break), logical topic, event, an answer's true probability.
_Happening: TypeAlias = tuple[float, int, str, Event, float | None]

# A Monday, and so long ago that a hundred terms end before today: a worker does not take events of the future.
START_S = datetime(2001, 1, 1, 8, tzinfo=UTC).timestamp()
_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S
_WEEK_S = 7 * _DAY_S

_SKILL_NAMES = (
    *("fractions", "decimals", "percentages", "ratios"),
    *("expressions", "equations", "inequalities", "functions"),
    *("angles", "triangles", "area", "volume"),
)
_STRAND = 4  # skills in a strand: the neighbours that help each other
_WEEKDAYS = (1.15, 1.2, 1.15, 1.1, 0.7, 0.6, 1.1)  # Monday to Sunday, mean 1
# A week starts on Monday at 8:00.
_LECTURES_S = (2 * _HOUR_S, 3 * _DAY_S + 2 * _HOUR_S)  # Monday and Thursday at 10:00
_DEADLINE_S = 4 * _DAY_S + 6 * _HOUR_S  # Friday at 14:00
_MEAN_ENGAGEMENT = 0.67  # of `engagement`, over learners and weeks
_SHORTEST_ANSWER_S = 0.8
_LONGEST_ANSWER_S = 900.0
_LONGEST_SESSION = 40  # answers

# Chances of what a learner does; chosen by us, see docs/simulator.md.
_READS_FIRST = 0.25  # views a text before a session's first item
_READS_AFTER_WRONG = 0.08
_RATES_RECOMMENDATION = 0.12  # at a session's end
_ACCEPTS = 0.6
_COMES_BACK = 0.5  # an item that went wrong is taken up again, and each time one waits, it is its turn
_IN_FOCUS = 0.5  # the week's skill, and not any skill taught so far
_MET_BEFORE = 0.4  # an item of the skill that was met before, and not any of its items

_ASKS_TWO = 0.15  # share of items that ask for a second skill, where the strand has one before

# Shares of answers that an LMS sends with less, or more.
_WITH_SCORE_ALONE = 0.1
_WITHOUT_DURATION = 0.05
_WITH_SUGGESTIONS = 0.05

# Shares of what the school writes down and of what it takes back.
_EXCUSED_LATER = 0.15  # of absences, when a note comes
_GRADED_LATER = 0.1  # of the work handed in: first without a grade
_REGRADED = 0.05
_LONGEST_LATENESS = 13  # days

# What is known of an enrolment: shares as in OULAD where it has them, see docs/simulator.md.
_EDUCATIONS = ((-0.2, "below A level"), (1.0, "A level"), (math.inf, "higher education"))  # up to this schooling
_EDUCATION_UNKNOWN = 0.03
_SECOND_ATTEMPT, _THIRD_ATTEMPT = 0.12, 0.2
_CREDITS, _CREDIT_SHARES = (30, 60, 90, 120), (0.12, 0.56, 0.1, 0.22)
_DISABLED = 0.1

_WITHDRAWN_BELOW = 0.15  # engagement in the last week
_PASS_MARK = 50.0
_DISTINCTION_MARK = 72.0


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """
    The size of the course and how its learners learn, forget and work.

    The sources of the defaults are in `docs/simulator.md`. Abilities and difficulties are in logits.

    Attributes:
        items: In all; skills differ a little in how many they have.

        sessions_per_week, answers_per_session: Means; a learner's engagement and habit move the first.

        general_sd, strand_sd, own_sd: Spread over learners of an ability's three parts: common to all
            skills, common to a strand of related skills, and the skill's own.

        item_mean, item_sd: Of the items' difficulties.

        gain: What one right answer adds to its skill for an average learner; falls to zero at `ceiling`.

        wrong_gain: Share of the gain that a wrong answer brings, when its solution has been read.

        transfer: Share of the gain that reaches the next skill of the strand.

        fading: Share of a gain that is forgotten in the end; the rest stays.

        fastest_fading_days, slowest_fading_days: Half-lives of the fading part; skills lie between them.

        memory_boost: How much easier an item is to a learner who has just met it.

        memory_half_life_days: Half-life of that memory after the first meeting; repetitions lengthen it.

        memory_growth: A well-spaced right repetition lengthens it by the factor `1 + memory_growth`.

        guess, slip: Highest chance of a right answer without knowledge, and of a wrong one in spite of it;
            items lie between 0 and that.

        sliding: Share of learners whose engagement slides away in a term.
    """

    learners: int = 240
    skills: int = 12
    items: int = 180
    term_weeks: int = 10
    sessions_per_week: float = 1.5
    answers_per_session: float = 5.0
    general_sd: float = 0.7
    strand_sd: float = 0.5
    own_sd: float = 0.8
    item_mean: float = 1.0
    item_sd: float = 0.9
    gain: float = 0.3
    wrong_gain: float = 0.7
    ceiling: float = 2.5
    transfer: float = 0.3
    fading: float = 0.6
    fastest_fading_days: float = 3.0
    slowest_fading_days: float = 21.0
    memory_boost: float = 2.8
    memory_half_life_days: float = 2.0
    memory_growth: float = 1.5
    guess: float = 0.2
    slip: float = 0.08
    sliding: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a course that cannot be, or in which nobody ever answers."""
        if min(self.learners, self.skills, self.term_weeks) < 1 or self.items < self.skills:
            raise ValueError(f"expected a learner, a skill, a week and an item for each skill, found {self}")
        if self.sessions_per_week <= 0 or self.answers_per_session < 1:
            raise ValueError(f"expected sessions in a week, and an answer in each, found {self}")


@dataclass(frozen=True, slots=True)
class Item:
    """
    One exercise.

    Attributes:
        skills: Indices of the skills that it asks for; the first is its topic.

        guess, slip: Chances of a right answer without knowledge, and of a wrong one in spite of it.

        time_intensity: Log seconds that an average learner needs.

        time_sd: Spread of the log seconds.
    """

    number: int
    item_id: str
    skills: tuple[int, ...]
    skill_ids: tuple[str, ...]
    level: Literal["easy", "medium", "hard"]
    difficulty: float
    guess: float
    slip: float
    time_intensity: float
    time_sd: float


@dataclass(frozen=True, slots=True)
class Course:
    """
    What is taught: skills, how they help each other and fade, and items.

    Attributes:
        related: For each skill the skills that profit from its practice, with the share of the gain.

        half_lives_s: For each skill, of the fading part of what practice brought.

        by_skill: The items of each skill, as their topic.
    """

    skill_ids: tuple[str, ...]
    related: tuple[tuple[tuple[int, float], ...], ...]
    half_lives_s: tuple[float, ...]
    by_skill: tuple[tuple[Item, ...], ...]


@dataclass(frozen=True, slots=True)
class Learner:
    """
    One learner's lasting traits.

    Attributes:
        abilities: For each skill, before the course.

        general: The part of the abilities that all skills share; grades depend on it.

        speed: Log seconds by which the learner is faster than the average.

        pace: Factor of what practice brings.

        habit: Factor of how often the learner studies.

        hour: Time of day at which sessions start, hours after 8:00.
    """

    number: int
    user_id: str
    abilities: tuple[float, ...]
    general: float
    speed: float
    pace: float
    habit: float
    hour: float


@dataclass(frozen=True, slots=True)
class Enrolment:
    """
    What the school knows of a learner before the first course.

    Attributes:
        days_before: Days before the course at which the learner enrolled.

        context: Fields by name. Education and earlier attempts go with ability; gender, disability and credits go
            with nothing.
    """

    days_before: int
    context: Mapping[str, str | int | None]


class Knowledge:
    """What one learner knows as time goes on: what practice added to each skill, memories of items."""

    def __init__(self, course: Course, learner: Learner, settings: SimulatorSettings) -> None:
        self._course = course
        self._learner = learner
        self._settings = settings
        self._kept = [0.0] * len(course.skill_ids)
        self._fading = [0.0] * len(course.skill_ids)
        self._practised_at = [START_S] * len(course.skill_ids)
        self._memories: dict[int, tuple[float, float]] = {}  # item: when it was met last, half-life (s)

    def ability(self, skill: int, at: float) -> float:
        """Give the ability in a skill (logits) at a moment; what practice brought has faded by then."""
        return self._learner.abilities[skill] + self._kept[skill] + self._faded(skill, at)

    def recall(self, item: Item, at: float) -> float:
        """Give the strength in [0, 1] of the memory of an item; 0 if it was never met."""
        memory = self._memories.get(item.number)
        return 0.0 if memory is None else math.exp2((memory[0] - at) / memory[1])

    def logit(self, item: Item, at: float) -> float:
        """Give the learner's advantage over an item, its skills counting alike; without guess and slip."""
        ability = sum([self.ability(skill, at) for skill in item.skills]) / len(item.skills)
        return ability - item.difficulty + self._settings.memory_boost * self.recall(item, at)

    def p_correct(self, item: Item, at: float) -> float:
        """Give the true probability of a right answer to an item asked at a moment."""
        return p_of_logit(item, self.logit(item, at))

    def has_met(self, item: Item) -> bool:
        """Say whether the learner ever answered an item."""
        return item.number in self._memories

    def learn(self, item: Item, *, correct: bool, at: float) -> None:
        """Take in an answer and its solution: skills, related skills and the memory of the item grow."""
        settings = self._settings
        share = 1.0 if correct else settings.wrong_gain
        gain = self._learner.pace * settings.gain * share / len(item.skills)
        for skill in item.skills:
            self.practise(skill, gain, at)
        half_life = settings.memory_half_life_days * _DAY_S
        memory = self._memories.get(item.number)
        if memory is not None:
            half_life = memory[1] * (1.0 + settings.memory_growth * share * (1.0 - self.recall(item, at)))
        self._memories[item.number] = (at, half_life)

    def practise(self, skill: int, gain: float, at: float) -> None:
        """Raise a skill and, by its share, each related one."""
        self._raise(skill, gain, at)
        for other, share in self._course.related[skill]:
            self._raise(other, gain * share, at)

    def _faded(self, skill: int, at: float) -> float:
        return self._fading[skill] * math.exp2((self._practised_at[skill] - at) / self._course.half_lives_s[skill])

    def _raise(self, skill: int, gain: float, at: float) -> None:
        left = self._faded(skill, at)
        gain *= max(0.0, 1.0 - (self._kept[skill] + left) / self._settings.ceiling)
        self._kept[skill] += gain * (1.0 - self._settings.fading)
        self._fading[skill] = left + gain * self._settings.fading
        self._practised_at[skill] = at


def p_of_logit(item: Item, logit: float) -> float:
    """Give the probability of a right answer between the item's guess and one minus its slip."""
    return item.guess + (1.0 - item.guess - item.slip) / (1.0 + math.exp(-logit))


def simulate(
    seed: int, settings: SimulatorSettings | None = None, *, answers: int | None = None
) -> Iterator[tuple[str, Event]]:
    """
    Give (logical topic, event) in event-time order over all learners.

    The same seed and settings give the same events, ids included. Terms follow one another for ever, with the
    same learners.

    Args:
        seed: Of the course, its learners and all that they do.

        settings: `None` for the defaults.

        answers: End right after so many answers, other events not counted; `None` never ends.
    """
    for topic, event, _ in simulate_with_truth(seed, settings, answers=answers):
        yield topic, event


def simulate_with_truth(
    seed: int, settings: SimulatorSettings | None = None, *, answers: int | None = None
) -> Iterator[tuple[str, Event, float | None]]:
    """Give the events of `simulate` and with each answer its true probability, which no event carries."""
    settings = settings or SimulatorSettings()
    course = make_course(seed, settings)
    streams: list[Iterator[_Happening]] = []
    for number in range(settings.learners):
        learner = make_learner(seed, number, course, settings)
        streams.append(_Studies(seed, course, learner, settings).happenings())
        streams.append(_Records(seed, learner, settings).happenings())
    left = math.inf if answers is None else answers
    if left <= 0:
        return
    for _, _, topic, event, p_correct in heapq.merge(*streams):
        yield topic, event, p_correct
        if p_correct is not None:
            left -= 1
            if left <= 0:
                return


def make_course(seed: int, settings: SimulatorSettings) -> Course:
    """Draw the skills and items that all learners share."""
    rng = _random(f"{seed}/course")
    skills = range(settings.skills)
    skill_ids = tuple(_SKILL_NAMES[k] if k < len(_SKILL_NAMES) else f"skill-{k + 1:02d}" for k in skills)
    numbers = itertools.count()
    ratio = settings.slowest_fading_days / settings.fastest_fading_days
    return Course(
        skill_ids=skill_ids,
        related=tuple(_related(skill, settings) for skill in skills),
        half_lives_s=tuple(settings.fastest_fading_days * ratio ** rng.random() * _DAY_S for _ in skills),
        by_skill=tuple(
            tuple(_make_item(next(numbers), skill, n, skill_ids, settings, rng) for n in range(count))
            for skill, count in enumerate(_item_counts(settings, rng))
        ),
    )


def make_learner(seed: int, number: int, course: Course, settings: SimulatorSettings) -> Learner:
    """Draw a learner's lasting traits."""
    rng = _random(f"{seed}/learner/{number}")
    general = rng.gauss(0.0, settings.general_sd)
    skills = range(len(course.skill_ids))
    strands = [rng.gauss(0.0, settings.strand_sd) for _ in skills[::_STRAND]]
    return Learner(
        number=number,
        user_id=f"learner-{number + 1:04d}",
        abilities=tuple(general + strands[k // _STRAND] + rng.gauss(0.0, settings.own_sd) for k in skills),
        general=general,
        speed=rng.gauss(0.1 * general, 0.3),
        pace=math.exp(rng.gauss(0.0, 0.3)),
        habit=math.exp(rng.gauss(0.0, 0.3)),
        hour=min(14.0, max(0.5, rng.gauss(9.0, 2.5))),
    )


def make_enrolment(seed: int, learner: Learner) -> Enrolment:
    """Draw what is known of a learner's enrolment; a few have not told their education."""
    rng = _random(f"{seed}/enrolment/{learner.number}")
    schooling = learner.general + rng.gauss(0.0, 0.7)
    education = next(name for most, name in _EDUCATIONS if schooling < most)
    has_tried = rng.random() < _SECOND_ATTEMPT * math.exp(-learner.general)
    return Enrolment(
        days_before=rng.randint(1, 14),
        context={
            "education": None if rng.random() < _EDUCATION_UNKNOWN else education,
            "attempts": has_tried + (has_tried and rng.random() < _THIRD_ATTEMPT),
            "credits": rng.choices(_CREDITS, _CREDIT_SHARES)[0],
            "gender": rng.choice(("female", "male")),
            "disability": "yes" if rng.random() < _DISABLED else "no",
        },
    )


def engagement(seed: int, learner: Learner, term: int, settings: SimulatorSettings) -> tuple[float, ...]:
    """
    Draw a learner's engagement for each week of a term, in [0.02, 1].

    For some it slides away from a week on. It drives practice, attendance, grades, incidents and the outcome.
    """
    rng = _random(f"{seed}/engagement/{learner.number}/{term}")
    level = min(0.95, rng.betavariate(7.0, 2.5))
    is_sliding = rng.random() < settings.sliding
    slides_from = rng.uniform(0.15, 0.6) * settings.term_weeks
    loss = rng.uniform(0.1, 0.25) * 10 / settings.term_weeks
    weeks = []
    for week in range(settings.term_weeks):
        if is_sliding and week >= slides_from:
            level -= loss
        weeks.append(min(1.0, max(0.02, level + rng.gauss(0.0, 0.06))))
    return tuple(weeks)


def _related(skill: int, settings: SimulatorSettings) -> tuple[tuple[int, float], ...]:
    shares = {
        **{other: 1.0 for other in (skill - 1, skill + 1) if other // _STRAND == skill // _STRAND},
        **{other: 0.5 for other in (skill - 2, skill + 2) if other // _STRAND == skill // _STRAND},
        **dict.fromkeys((skill - _STRAND, skill + _STRAND), 0.25),
    }
    return tuple(
        (other, settings.transfer * share)
        for other, share in shares.items()
        if 0 <= other < settings.skills and settings.transfer
    )


def _item_counts(settings: SimulatorSettings, rng: Random) -> list[int]:
    counts = [settings.items // settings.skills] * settings.skills
    for k in range(settings.items % settings.skills):
        counts[k] += 1
    for k in range(0, settings.skills - 1, 2):
        moved = rng.randint(0, counts[k + 1] // 5)
        counts[k] += moved
        counts[k + 1] -= moved
    return counts


def _make_item(
    number: int, skill: int, n: int, skill_ids: tuple[str, ...], settings: SimulatorSettings, rng: Random
) -> Item:
    relative = rng.gauss(0.0, settings.item_sd)
    judged = relative + rng.gauss(0.0, 0.4 * settings.item_sd)  # what its author thought of it
    asks_two = skill % _STRAND > 0 and rng.random() < _ASKS_TWO
    skills = (skill, skill - 1) if asks_two else (skill,)
    edge = 0.5 * settings.item_sd
    return Item(
        number=number,
        item_id=f"{skill_ids[skill]}-{n + 1:02d}",
        skills=skills,
        skill_ids=tuple(skill_ids[k] for k in skills),
        level="easy" if judged < -edge else "hard" if judged > edge else "medium",
        difficulty=settings.item_mean + relative,
        guess=settings.guess * rng.random(),
        slip=settings.slip * rng.random(),
        time_intensity=rng.gauss(3.0 + 0.15 * relative, 0.4),
        time_sd=rng.uniform(0.3, 0.55),
    )


class _Studies:
    """What one learner does on the platform, session after session, for ever."""

    def __init__(self, seed: int, course: Course, learner: Learner, settings: SimulatorSettings) -> None:
        self.seed = seed
        self.course = course
        self.learner = learner
        self.settings = settings
        self.rng = _random(f"{seed}/studies/{learner.number}")
        self.knowledge = Knowledge(course, learner, settings)
        self.met: list[list[Item]] = [[] for _ in course.skill_ids]
        self.to_retry: list[Item] = []
        self.events = itertools.count(1)
        self.stream = 2 * learner.number

    def happenings(self) -> Iterator[_Happening]:
        settings = self.settings
        daily = self.learner.habit * settings.sessions_per_week / 7 / _MEAN_ENGAGEMENT
        random = self.rng.random
        at = START_S
        for term in itertools.count():
            engaged = engagement(self.seed, self.learner, term, settings)
            for day in range(7 * settings.term_weeks):
                if random() >= daily * engaged[day // 7] * _WEEKDAYS[day % 7]:
                    continue
                hour = max(0.1, self.learner.hour + 1.5 * (random() - 0.5))
                morning = START_S + (term * settings.term_weeks * 7 + day) * _DAY_S
                at = max(at + 60.0, morning + hour * _HOUR_S)
                focus = day * settings.skills // (7 * settings.term_weeks)
                taught = settings.skills if term else min(settings.skills, focus + 3)
                for happening in self.session(at, focus, taught):
                    at = happening[0]
                    yield happening

    def session(self, at: float, focus: int, taught: int) -> Iterator[_Happening]:
        rng, random = self.rng, self.rng.random
        item = self.choose(focus, taught)
        if random() < _READS_FIRST:
            at += math.exp(rng.gauss(5.0, 0.7))
            yield self.view(item, at)
        go_on = 1.0 - 1.0 / self.settings.answers_per_session
        for _ in range(_LONGEST_SESSION):
            logit = self.knowledge.logit(item, at)
            p_correct = p_of_logit(item, logit)
            correct = random() < p_correct
            response_time_s = self.response_time(item, logit, at)
            at += response_time_s
            if not self.knowledge.has_met(item):
                self.met[item.skills[0]].append(item)
            self.knowledge.learn(item, correct=correct, at=at)
            if not correct and random() < _COMES_BACK:
                self.to_retry.append(item)
            answered, item = item, self.choose(focus, taught)
            event = self.event("quiz_complete", answered, at)
            event.update(self.answer(answered, item, correct, response_time_s))
            yield at, self.stream, "interactions", event, p_correct
            if random() >= go_on:
                break
            at += math.exp(rng.gauss(2.0, 0.8))
            if not correct and random() < _READS_AFTER_WRONG:
                at += math.exp(rng.gauss(4.0, 0.7))
                yield self.view(answered, at)
        if random() < _RATES_RECOMMENDATION:
            at += 5.0 + 20.0 * random()
            yield self.feedback(item, at)

    def choose(self, focus: int, taught: int) -> Item:
        """Choose the next item: one that went wrong, one met before, or any; often of the week's skill."""
        random = self.rng.random
        if self.to_retry and random() < _COMES_BACK:
            return self.to_retry.pop(0)
        skill = focus if random() < _IN_FOCUS else int(random() * taught)
        met = self.met[skill]
        if met and random() < _MET_BEFORE:
            return met[int(random() * len(met))]
        items = self.course.by_skill[skill]
        return items[int(random() * len(items))]

    def response_time(self, item: Item, logit: float, at: float) -> float:
        sureness = 0.12 * min(3.0, abs(logit)) + 0.25 * self.knowledge.recall(item, at)
        log_s = self.rng.gauss(item.time_intensity - self.learner.speed - sureness, item.time_sd)
        return min(_LONGEST_ANSWER_S, max(_SHORTEST_ANSWER_S, math.exp(log_s)))

    def answer(self, item: Item, following: Item, correct: bool, response_time_s: float) -> Event:
        """Give what only an answer says; some lack a duration or have a score alone, some suggest items."""
        random = self.rng.random
        event: Event = {"item_id": item.item_id, "difficulty": item.level}
        if len(item.skills) > 1:
            event["skills"] = list(item.skill_ids)
        if random() < _WITH_SCORE_ALONE:
            event["score"] = round(0.5 + 0.5 * random() if correct else 0.49 * random(), 3)
        else:
            event["correct"] = correct
        if random() >= _WITHOUT_DURATION:
            event["duration_seconds"] = round(response_time_s, 3)
        if random() < _WITH_SUGGESTIONS:
            event["metadata"] = {"next_items": self.suggestions(following)}
        return event

    def suggestions(self, following: Item) -> list[str | Event]:
        other = self.course.by_skill[following.skills[0]][0]
        topic_id = following.skill_ids[0]
        named = {"topic_id": topic_id, "item_id": following.item_id, "difficulty": following.level}
        return [named, other.item_id]

    def view(self, item: Item, at: float) -> _Happening:
        self.knowledge.practise(item.skills[0], 0.5 * self.settings.gain * self.learner.pace, at)
        event = self.event("resource_view", item, at)
        event["duration_seconds"] = round(math.exp(self.rng.gauss(4.5, 0.5)), 3)
        event["metadata"] = {"resource_id": f"{item.skill_ids[0]}-text"}
        return at, self.stream, "interactions", event, None

    def feedback(self, item: Item, at: float) -> _Happening:
        event = self.event("feedback_recommendation", item, at)
        event["metadata"] = {"item_id": item.item_id, "accepted": self.rng.random() < _ACCEPTS}
        return at, self.stream, "interactions", event, None

    def event(self, kind: str, item: Item, at: float) -> Event:
        return {
            "schema_version": 1,
            "event_id": f"simulated-{self.seed}-{self.learner.number + 1}-{next(self.events)}",
            "type": kind,
            "user_id": self.learner.user_id,
            "topic_id": item.skill_ids[0],
            "timestamp": _rfc3339(at),
        }


class _Records:
    """What the school writes down about one learner, term after term, for ever."""

    def __init__(self, seed: int, learner: Learner, settings: SimulatorSettings) -> None:
        self.seed = seed
        self.learner = learner
        self.settings = settings
        self.rng = _random(f"{seed}/records/{learner.number}")
        self.events = itertools.count(1)
        self.stream = 2 * learner.number + 1
        self.course_id = ""

    def happenings(self) -> Iterator[_Happening]:
        enrolment = make_enrolment(self.seed, self.learner)
        for term in itertools.count():
            starts = START_S + term * self.settings.term_weeks * _WEEK_S
            ends = starts + self.settings.term_weeks * _WEEK_S
            self.course_id = f"mathematics-{term + 1}"
            # Later courses are enrolled in when the one before is over.
            enrolled = starts + 900.0 if term else starts - enrolment.days_before * _DAY_S
            content = {"type": "enrolment_recorded", "starts_at": _rfc3339(starts), "context": dict(enrolment.context)}
            yield self.happening(enrolled, self.event(content, enrolled))
            marks: list[float] = []
            engaged = engagement(self.seed, self.learner, term, self.settings)
            for at, event in sorted(self.term(starts, engaged, marks), key=_moment):
                if at < ends:
                    yield self.happening(at, event)
            ended = ends + 600.0 * self.rng.random()
            outcome = {"type": "outcome_recorded", "outcome": _outcome(engaged[-1], marks)}
            yield self.happening(ended, self.event(outcome, ended))

    def term(self, starts: float, engaged: tuple[float, ...], marks: list[float]) -> Iterator[tuple[float, Event]]:
        """Give what is written down in a term, and when; corrections say when what they correct happened."""
        rng = self.rng
        ends = starts + len(engaged) * _WEEK_S
        for week, level in enumerate(engaged):
            monday = starts + week * _WEEK_S
            for lecture_s in _LECTURES_S:
                yield from self.lecture(monday + lecture_s + 900.0 * rng.random(), level)
            if week % 2 == 1:
                yield from self.sheet(week, monday + _DEADLINE_S, ends, level, marks)
            if rng.random() < 0.005 + 0.15 * (1.0 - level) ** 2:
                yield self.incident(monday + rng.uniform(0.1, 4.4) * _DAY_S)

    def lecture(self, at: float, engaged: float) -> Iterator[tuple[float, Event]]:
        """Give who was there, and sometimes a note that excuses an absence some days later."""
        recorded = self.event({"type": "attendance_recorded", "status": self.attendance(engaged)}, at)
        yield at, recorded
        if recorded["status"] == "absent" and self.rng.random() < _EXCUSED_LATER:
            excuse = {"type": "attendance_recorded", "status": "excused", "corrects": recorded["event_id"]}
            yield at + self.rng.uniform(0.2, 5.0) * _DAY_S, self.event(excuse, at)

    def attendance(self, engaged: float) -> str:
        absent = 0.02 + 0.85 * (1.0 - engaged) ** 2
        drawn = self.rng.random()
        if drawn < absent:
            return "absent"
        if drawn < absent + 0.02:
            return "excused"
        return "late" if drawn < absent + 0.02 + 0.15 * (1.0 - engaged) else "present"

    def sheet(
        self, week: int, deadline: float, ends: float, engaged: float, marks: list[float]
    ) -> Iterator[tuple[float, Event]]:
        """Give what becomes of a piece of work: in time, late after it was overdue, or never; and its grades."""
        rng = self.rng
        work: Event = {"assessment_id": f"sheet-{week // 2 + 1}"}
        work["weight"] = round(2 / self.settings.term_weeks, 4) if self.settings.term_weeks > 1 else 1.0
        days_late = self.days_late(engaged)
        handed_in = deadline + days_late * _DAY_S - 4 * _HOUR_S * rng.random()
        is_missing = rng.random() < (1.0 - engaged) ** 2.5 or handed_in >= ends
        if is_missing or days_late > 0:
            yield deadline + 60.0, self.event({"type": "work_overdue", **work}, deadline + 60.0)
        if is_missing:
            marks.append(0.0)
            return
        mark = min(100.0, max(0.0, rng.gauss(40.0 + 35.0 * engaged + 9.0 * self.learner.general, 8.0)))
        grade = {"type": "grade_recorded", "score": round(mark, 1), "max_score": 100.0, "days_late": days_late, **work}
        written = handed_in
        if rng.random() < _GRADED_LATER:
            yield handed_in, self.event({**grade, "score": None}, handed_in)
            written += rng.uniform(1.0, 4.0) * _DAY_S
        first = self.event(grade, handed_in)
        yield written, first
        if rng.random() < _REGRADED:
            mark = min(100.0, mark + rng.uniform(2.0, 12.0))
            better = {**grade, "score": round(mark, 1), "corrects": first["event_id"]}
            yield written + rng.uniform(1.0, 6.0) * _DAY_S, self.event(better, handed_in)
        marks.append(mark)

    def days_late(self, engaged: float) -> float:
        """Draw how late work comes, whole days, below 0 for early."""
        if self.rng.random() < 0.05 + 0.4 * (1.0 - engaged):
            return float(min(_LONGEST_LATENESS, 1 + int(self.rng.expovariate(1 / 3.0))))
        return -float(min(_LONGEST_LATENESS, int(self.rng.expovariate(1 / 1.5))))

    def incident(self, at: float) -> tuple[float, Event]:
        severity = self.rng.choices(("minor", "moderate", "major"), (0.75, 0.2, 0.05))[0]
        event: Event = {"type": "discipline_recorded", "severity": severity}
        if severity != "minor":
            event["sanction"] = "detention" if severity == "moderate" else "suspension"
        return at, self.event(event, at)

    def event(self, content: Event, happened: float) -> Event:
        return {
            "schema_version": 1,
            "event_id": f"recorded-{self.seed}-{self.learner.number + 1}-{next(self.events)}",
            "user_id": self.learner.user_id,
            "course_id": self.course_id,
            "timestamp": _rfc3339(happened),
            **content,
        }

    def happening(self, at: float, event: Event) -> _Happening:
        return at, self.stream, "academics", event, None


def _random(name: str) -> Random:
    """Give a source of chance of its own to each part, so that one does not shift another."""
    return Random(name)  # noqa: S311 - it must repeat, and guards nothing


def _outcome(engaged_last: float, marks: list[float]) -> str:
    mean = sum(marks) / len(marks) if marks else 0.0
    if engaged_last < _WITHDRAWN_BELOW:
        return "withdrawn"
    return "distinction" if mean >= _DISTINCTION_MARK else "pass" if mean >= _PASS_MARK else "fail"


def _moment(recorded: tuple[float, Event]) -> float:
    return recorded[0]


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
