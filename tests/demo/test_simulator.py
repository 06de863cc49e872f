"""Simulated learners: their events, and that they learn, forget, remember and slide as the docs say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

import schemas
from stream.demo.simulator import (
    START_S,
    Course,
    Knowledge,
    SimulatorSettings,
    engagement,
    make_course,
    make_enrolment,
    make_learner,
    simulate,
    simulate_with_truth,
)
from stream.state.academic import COUNT, fold, new_academics

SETTINGS = SimulatorSettings()
DAY_S = 86400.0


@cache
def run() -> list[tuple[str, dict[str, Any], float | None]]:
    """A default run of 20,000 answers."""
    return list(simulate_with_truth(42, answers=20_000))


def beginner(**changes: Any) -> tuple[Knowledge, Course]:
    """Give a learner who has practised nothing yet, and the course."""
    settings = replace(SETTINGS, **changes)
    course = make_course(1, settings)
    return Knowledge(course, make_learner(1, 0, course, settings), settings), course


def is_correct(event: dict[str, Any]) -> bool:
    """Say whether an answer was right, as the schema reads it."""
    return bool(event["correct"]) if "correct" in event else event["score"] >= 0.5


def test_the_same_seed_gives_the_same_events() -> None:
    """Two runs of one seed are equal, byte for byte; another seed differs."""
    first, again, other = (json.dumps(list(simulate(seed, answers=500))) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    """How many answers are asked for changes nothing but the end."""
    shorter = list(simulate(7, answers=200))
    assert list(islice(simulate(7), len(shorter))) == shorter


def test_a_run_does_not_depend_on_how_text_is_hashed() -> None:
    """Processes with other hash seeds give the same events."""
    script = "from stream.demo.simulator import simulate; print(list(simulate(7, answers=99)))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("answers", [0, 1, 333])
def test_the_number_of_answers_is_exact(answers: int) -> None:
    """The run ends with the answer asked for, whatever else happened before."""
    events = [event for _, event in simulate(3, answers=answers)]
    assert sum(event["type"] == "quiz_complete" for event in events) == answers
    assert not events or events[-1]["type"] == "quiz_complete"


def test_events_are_in_time_order() -> None:
    """No event is before another that was given earlier, but for those that take the place of one of their moment."""
    first_of_work: dict[tuple[str, str, str], str] = {}
    stamps = []
    for _, event, _ in run():
        work = (event["user_id"], event.get("course_id", ""), event.get("assessment_id", ""))
        if event["type"] == "grade_recorded" and work in first_of_work:
            assert event["timestamp"] == first_of_work[work]
        elif "corrects" not in event:
            stamps.append(event["timestamp"])
            if event["type"] == "grade_recorded":
                first_of_work[work] = event["timestamp"]
    assert all(earlier <= later for earlier, later in pairwise(stamps))
    interactions = [event["timestamp"] for topic, event, _ in run() if topic == "interactions"]
    assert stamps[0] >= "2000-12-18T08:00:00"
    assert min(interactions) >= "2001-01-01T08:00:00"


def test_every_event_is_valid() -> None:
    """Events are what the schemas say, on the topic that they name."""
    decode = {"interactions": schemas.decode_interaction, "academics": schemas.decode_academic}
    for topic, event, _ in run():
        read = decode[topic](json.dumps(event, allow_nan=False).encode())
        assert (read.event_id, read.user_id, read.type) == (
            event["event_id"],
            event["user_id"],
            event["type"],
        )


def test_event_ids_differ() -> None:
    """No two events share an id."""
    assert len({event["event_id"] for _, event, _ in run()}) == len(run())


def test_a_run_has_all_kinds_of_events() -> None:
    """Views, feedback, attendance, grades, incidents and outcomes come on top of the answers."""
    counts = Counter(event["type"] for _, event, _ in run())
    assert counts["quiz_complete"] == 20_000
    assert counts["outcome_recorded"] == 240
    assert counts["attendance_recorded"] >= 240 * 2 * 10
    assert counts["grade_recorded"] >= 240 * 4
    assert counts["enrolment_recorded"] >= 240
    assert min(counts["resource_view"], counts["feedback_recommendation"], counts["work_overdue"]) > 200
    assert counts["discipline_recorded"] > 20
    assert counts["quiz_complete"] > 0.65 * len(run())


def test_answers_vary_as_those_of_an_lms_do() -> None:
    """All name an item and a level; a few lack a duration, have a score alone, two skills, or suggestions."""
    answers = [event for _, event, p_correct in run() if p_correct is not None]
    assert all(event["item_id"] and event["difficulty"] in ("easy", "medium", "hard") for event in answers)
    assert all(("correct" in event) != ("score" in event) for event in answers)
    assert 0.03 < mean("duration_seconds" not in event for event in answers) < 0.07
    assert 0.07 < mean("score" in event for event in answers) < 0.13
    assert 0.05 < mean(len(event.get("skills", ())) == 2 for event in answers) < 0.25
    suggesting = [schemas.decode_interaction(json.dumps(event).encode()) for event in answers if "metadata" in event]
    assert 0.03 < len(suggesting) / len(answers) < 0.07
    assert all(len(schemas.next_items(event)) == 2 for event in suggesting)


def test_a_run_of_20000_answers_is_a_term() -> None:
    """240 learners give about 80 answers each in a little more than ten weeks, on 180 items."""
    answers = [event for _, event, p_correct in run() if p_correct is not None]
    by_skill = Counter(len(items) for items in make_course(42, SETTINGS).by_skill)
    assert len({event["user_id"] for event in answers}) == 240
    assert "2001-03-12" < answers[-1]["timestamp"] < "2001-03-26"
    assert len({event["item_id"] for event in answers}) == 180
    assert min(by_skill) >= 12
    assert max(by_skill) <= 18


def test_the_true_probability_is_true() -> None:
    """Answers are right as often as the truth says, over all and in each tenth of it; no event carries it."""
    truths = [(p_correct, is_correct(event)) for _, event, p_correct in run() if p_correct is not None]
    assert 0.62 < mean(correct for _, correct in truths) < 0.72
    tenths = defaultdict(list)
    for p_correct, correct in truths:
        tenths[int(10 * p_correct)].append(correct - p_correct)
    assert all(abs(mean(errors)) < 4 * 0.5 / len(errors) ** 0.5 for errors in tenths.values())
    assert not any("p_correct" in event for _, event, _ in run())


def test_levels_follow_difficulty() -> None:
    """Items called easy are answered right more often than medium ones, and those than hard ones."""
    by_level = defaultdict(list)
    for _, event, p_correct in run():
        if p_correct is not None:
            by_level[event["difficulty"]].append(is_correct(event))
    assert mean(by_level["easy"]) > mean(by_level["medium"]) + 0.05 > mean(by_level["hard"]) + 0.1


def test_practice_raises_the_skill() -> None:
    """A right answer raises its skill, a wrong one whose solution was read raises it less."""
    abilities = []
    for correct in (True, False):
        knowledge, course = beginner()
        item = course.by_skill[4][0]
        before = knowledge.ability(4, START_S)
        knowledge.learn(item, correct=correct, at=START_S)
        abilities.append(knowledge.ability(4, START_S) - before)
    right, wrong = abilities
    assert right > wrong > 0


def test_practice_brings_less_and_less() -> None:
    """However long one practises, each gain is smaller than the last, and all stay below the ceiling."""
    knowledge, _ = beginner()
    levels = [knowledge.ability(0, START_S)]
    for _ in range(200):
        knowledge.practise(0, 0.3, START_S)
        levels.append(knowledge.ability(0, START_S))
    gains = [later - earlier for earlier, later in pairwise(levels)]
    assert all(earlier >= later > -1e-12 for earlier, later in pairwise(gains))
    assert levels[-1] - levels[0] <= SETTINGS.ceiling + 1e-9


def test_time_fades_what_practice_brought_but_not_all() -> None:
    """Ability falls between sessions towards what stays, and never below what it was before practice."""
    knowledge, _ = beginner()
    before = knowledge.ability(0, START_S)
    knowledge.practise(0, 1.0, START_S)
    later = [knowledge.ability(0, START_S + days * DAY_S) for days in (0, 1, 7, 30, 3650)]
    assert all(earlier > fresher for earlier, fresher in pairwise(later))
    assert later[-1] == pytest.approx(before + (1 - SETTINGS.fading) * (later[0] - before))


def test_skills_fade_at_different_speeds() -> None:
    """Half-lives lie between the two that the settings name, and differ."""
    half_lives = [half_life / DAY_S for half_life in make_course(1, SETTINGS).half_lives_s]
    assert SETTINGS.fastest_fading_days <= min(half_lives) < max(half_lives) <= SETTINGS.slowest_fading_days
    assert len(set(half_lives)) == SETTINGS.skills


def test_practice_transfers_to_related_skills() -> None:
    """Practice of a skill helps its neighbours, the nearest most, and no skill of a far strand."""
    knowledge, _ = beginner()
    before = [knowledge.ability(skill, START_S) for skill in range(12)]
    knowledge.practise(0, 1.0, START_S)
    gained = [knowledge.ability(skill, START_S) - old for skill, old in enumerate(before)]
    assert gained[0] > gained[1] > gained[2] > gained[4] > 0
    assert gained[8] == 0


def test_without_transfer_only_the_skill_gains() -> None:
    """With a transfer of zero practice stays in its skill."""
    knowledge, _ = beginner(transfer=0.0)
    before = knowledge.ability(1, START_S)
    knowledge.practise(0, 1.0, START_S)
    assert knowledge.ability(1, START_S) == before


def test_an_item_met_just_now_is_easier() -> None:
    """An item is remembered, less as days go by; another item of the skill is not."""
    knowledge, course = beginner(gain=0.0)
    item, other = course.by_skill[0][:2]
    before, other_before = (knowledge.p_correct(one, START_S) for one in (item, other))
    knowledge.learn(item, correct=False, at=START_S)
    after = [knowledge.p_correct(item, START_S + days * DAY_S) for days in (0, 1, 10, 1000)]
    assert all(earlier > later for earlier, later in pairwise(after))
    assert after[-1] == pytest.approx(before)
    assert knowledge.p_correct(other, START_S) == other_before


def test_spaced_repetition_is_remembered_longer_than_massed() -> None:
    """Two answers a week apart leave a longer memory than two in a minute."""
    recalls = []
    for gap_s in (60.0, 7 * DAY_S):
        knowledge, course = beginner()
        item = course.by_skill[0][0]
        knowledge.learn(item, correct=True, at=START_S)
        knowledge.learn(item, correct=True, at=START_S + gap_s)
        recalls.append(knowledge.recall(item, START_S + gap_s + 5 * DAY_S))
    massed, spaced = recalls
    assert spaced > massed + 0.1


def test_items_come_again() -> None:
    """Many answers are to items that the learner met before, some minutes ago, some days."""
    met: dict[tuple[str, str], str] = {}
    same_day = other_day = answers = 0
    for _, event, p_correct in run():
        if p_correct is None:
            continue
        answers += 1
        day = met.get((event["user_id"], event["item_id"]))
        same_day += day == event["timestamp"][:10]
        other_day += day is not None and day != event["timestamp"][:10]
        met[event["user_id"], event["item_id"]] = event["timestamp"][:10]
    assert same_day > 0.1 * answers
    assert other_day > 0.1 * answers


def test_sure_learners_are_quicker() -> None:
    """Answers with a very high true probability take less time than those on the edge."""
    timed = [(p, event["duration_seconds"]) for _, event, p in run() if p is not None and "duration_seconds" in event]
    assert mean(s for p, s in timed if p > 0.9) < 0.9 * mean(s for p, s in timed if 0.4 < p < 0.6)


def test_engagement_slides_for_some() -> None:
    """About a fifth of the learners end a term far below where they began; the rest stay near."""
    course = make_course(42, SETTINGS)
    paths = [engagement(42, make_learner(42, n, course, SETTINGS), 0, SETTINGS) for n in range(240)]
    falls = [path[0] - path[-1] for path in paths]
    assert 0.1 < mean(fall > 0.35 for fall in falls) < 0.3
    assert all(0 < level <= 1 for path in paths for level in path)


def test_engagement_drives_practice_and_records() -> None:
    """Whoever ends disengaged practises less, misses more and fails more than the others."""
    course = make_course(42, SETTINGS)
    ends = {}
    for number in range(240):
        learner = make_learner(42, number, course, SETTINGS)
        ends[learner.user_id] = engagement(42, learner, 0, SETTINGS)[-1]
    answers: Counter[str] = Counter()
    absences: Counter[str] = Counter()
    outcomes = {}
    for _, event, _ in run():
        if event["timestamp"] > "2001-02-12":
            answers[event["user_id"]] += event["type"] == "quiz_complete"
        absences[event["user_id"]] += event.get("status") == "absent"
        if event["type"] == "outcome_recorded":
            outcomes[event["user_id"]] = event["outcome"]
    slid = [user for user, end in ends.items() if end < 0.3]
    steady = [user for user, end in ends.items() if end > 0.6]
    assert mean(answers[user] for user in slid) < 0.6 * mean(answers[user] for user in steady)
    assert mean(absences[user] for user in slid) > 2 * mean(absences[user] for user in steady)
    assert mean(outcomes[user] in ("fail", "withdrawn") for user in slid) > 0.6
    assert mean(outcomes[user] in ("fail", "withdrawn") for user in steady) < 0.2


def academics(course_id: str = "mathematics-1") -> list[dict[str, Any]]:
    """Give what the school records of one course."""
    return [event for _, event, _ in run() if event.get("course_id") == course_id]


def outcomes() -> dict[str, str]:
    """Give how the first course ended for each learner."""
    return {event["user_id"]: event["outcome"] for event in academics() if event["type"] == "outcome_recorded"}


def test_everyone_is_enrolled_before_the_course_begins() -> None:
    """Each learner's first record is an enrolment of at most two weeks before, with what was known then."""
    first: dict[str, dict[str, Any]] = {}
    for _, event, _ in run():
        first.setdefault(event["user_id"], event)
    assert len(first) == 240
    for event in first.values():
        assert event["type"] == "enrolment_recorded"
        assert "2000-12-18" <= event["timestamp"] < event["starts_at"] == "2001-01-01T08:00:00.000Z"
        assert set(event["context"]) == {"education", "attempts", "credits", "gender", "disability"}
    unknown = sum(event["context"]["education"] is None for event in first.values())
    assert 0 < unknown < 20


def test_the_next_course_is_enrolled_in_when_the_one_before_is_over() -> None:
    """What is known of an enrolment begins anew after an outcome, so no enrolment comes before it."""
    settings = SimulatorSettings(learners=5, term_weeks=2, skills=3, items=12)
    enrolled: dict[str, str] = {}
    for topic, event in islice(simulate(1, settings), 2_000):
        if event["type"] == "enrolment_recorded":
            assert event["user_id"] not in enrolled
            enrolled[event["user_id"]] = event["course_id"]
        elif topic == "academics":
            assert enrolled[event["user_id"]] == event["course_id"]
        if event["type"] == "outcome_recorded":
            del enrolled[event["user_id"]]


def test_corrections_name_what_came_before_them() -> None:
    """A correction refers to an earlier record of its user and kind, and is of the moment of that record."""
    known: dict[str, dict[str, Any]] = {}
    corrections = []
    for topic, event, _ in run():
        if "corrects" in event:
            corrected = known[event["corrects"]]
            assert all(event[name] == corrected[name] for name in ("user_id", "type", "course_id", "timestamp"))
            corrections.append((corrected, event))
        if topic == "academics":
            known[event["event_id"]] = event
    excused = [(old["status"], new["status"]) for old, new in corrections if new["type"] == "attendance_recorded"]
    assert set(excused) == {("absent", "excused")}
    raised = [new["score"] - old["score"] for old, new in corrections if new["type"] == "grade_recorded"]
    assert min(raised) >= 0
    assert min(len(excused), len(raised)) > 20
    assert len(corrections) < 0.05 * len(known)


def test_corrections_change_what_is_known_of_a_user() -> None:
    """Folded as the worker does: an excused absence is none, and work that was graded again counts once."""
    records: dict[str, Any] = {}
    changed: Counter[str] = Counter()
    for topic, raw, _ in run():
        if topic != "academics":
            continue
        event = schemas.decode_academic(json.dumps(raw).encode())
        before = records.setdefault(event.user_id, new_academics(1)[0])
        after = records[event.user_id] = fold(before, event, int(before["seen"]) + 1)
        if "corrects" not in raw:
            continue
        counts = {name: int(total(after, name) - total(before, name)) for name in ("absent", "excused", "handed_in")}
        is_attendance = raw["type"] == "attendance_recorded"
        assert counts == {"absent": -is_attendance, "excused": is_attendance, "handed_in": 0}
        changed[raw["type"]] += 1
    assert min(changed.values()) > 20
    assert len(changed) == 2


def total(record: Any, name: str) -> int:
    """Give how often something is counted in a user's record, in all weeks."""
    return int(record["counts"][:, COUNT[name]].sum() + record["before_counts"][COUNT[name]])


def test_work_that_comes_late_was_overdue_first() -> None:
    """Late work follows its report as overdue, work in time has none, and some of what is overdue never comes."""
    overdue: set[tuple[str, str]] = set()
    handed_in: set[tuple[str, str]] = set()
    late = set()
    for event in academics():
        work = (event["user_id"], event.get("assessment_id", ""))
        if event["type"] == "work_overdue":
            assert work not in handed_in
            overdue.add(work)
        elif event["type"] == "grade_recorded":
            assert (work in overdue) == (event["days_late"] > 0)
            handed_in.add(work)
            if event["days_late"] > 0:
                late.add(work)
    assert 0.1 < len(late) / len(handed_in) < 0.25
    assert len(overdue - handed_in) > 50
    assert len(overdue | handed_in) == 240 * 5


def test_work_may_come_before_its_grade() -> None:
    """Some work is first recorded without a score, and gets one in a second record of the same assessment."""
    ungraded: set[tuple[str, str]] = set()
    graded: set[tuple[str, str]] = set()
    for event in academics():
        if event["type"] == "grade_recorded":
            work = (event["user_id"], event["assessment_id"])
            if event["score"] is None:
                assert work not in ungraded | graded
                ungraded.add(work)
            else:
                graded.add(work)
    assert 0.05 < len(ungraded) / len(ungraded | graded) < 0.15
    assert len(ungraded - graded) < 0.5 * len(ungraded)


def test_incidents_that_are_not_minor_have_a_sanction() -> None:
    """A sanction follows from a moderate or major incident."""
    incidents = [event for _, event, _ in run() if event["type"] == "discipline_recorded"]
    assert all(("sanction" in event) == (event["severity"] != "minor") for event in incidents)


def test_those_who_fail_miss_more_work() -> None:
    """Work that never came, by how the course ended: rare of those who pass, frequent of the others."""
    handed_in: dict[str, set[str]] = defaultdict(set)
    for event in academics():
        if event["type"] == "grade_recorded":
            handed_in[event["user_id"]].add(event["assessment_id"])
    missing = defaultdict(list)
    for user_id, outcome in outcomes().items():
        missing[outcome].append(1 - len(handed_in[user_id]) / 5)
    assert mean(missing["pass"]) < 0.1
    assert min(mean(missing["fail"]), mean(missing["withdrawn"])) > 3 * mean(missing["pass"])
    at_risk = sum(outcome in ("fail", "withdrawn") for outcome in outcomes().values())
    assert 0.2 < at_risk / 240 < 0.4


@pytest.mark.parametrize(("field", "group"), [("gender", "female"), ("disability", "yes")])
def test_who_a_learner_is_says_nothing_of_the_outcome(field: str, group: str) -> None:
    """Ability and engagement, which decide how a course ends, are the same in every group, over many learners."""
    settings = replace(SETTINGS, learners=3_000)
    course = make_course(5, settings)
    abilities = defaultdict(list)
    slides = defaultdict(list)
    for number in range(settings.learners):
        learner = make_learner(5, number, course, settings)
        is_of_group = make_enrolment(5, learner).context[field] == group
        abilities[is_of_group].append(learner.general)
        slides[is_of_group].append(engagement(5, learner, 0, settings)[-1])
    for values in (abilities, slides):
        spread = stdev(values[False])
        error = spread * (1 / len(values[True]) + 1 / len(values[False])) ** 0.5
        assert abs(mean(values[True]) - mean(values[False])) < 3 * error


def test_education_and_attempts_go_with_ability() -> None:
    """What may be a feature says a little: the abler have more education and fewer attempts behind them."""
    settings = replace(SETTINGS, learners=1_000)
    course = make_course(5, settings)
    learners = [make_learner(5, number, course, settings) for number in range(settings.learners)]
    abilities = defaultdict(list)
    for learner in learners:
        context = make_enrolment(5, learner).context
        abilities[context["education"]].append(learner.general)
        abilities[context["attempts"]].append(learner.general)
    assert mean(abilities["below A level"]) < mean(abilities["A level"]) < mean(abilities["higher education"])
    assert mean(abilities[1]) < mean(abilities[0])


def test_terms_follow_one_another() -> None:
    """After a term the same learners go on with the next course, and each term has one outcome for each."""
    settings = SimulatorSettings(learners=5, term_weeks=2, skills=3, items=12)
    events = [event for _, event in islice(simulate(1, settings), 2_000)]
    outcomes = Counter(
        (event["user_id"], event["course_id"]) for event in events if event["type"] == "outcome_recorded"
    )
    assert len({event["user_id"] for event in events}) == 5
    assert len(outcomes) > 20
    assert set(outcomes.values()) == {1}


@pytest.mark.parametrize(
    "changes",
    [{"learners": 0}, {"skills": 20, "items": 10}, {"sessions_per_week": 0}, {"answers_per_session": 0}],
)
def test_a_course_that_cannot_be_is_refused(changes: dict[str, int]) -> None:
    """Settings without learners, items or answers are refused with what was expected."""
    with pytest.raises(ValueError, match="expected"):
        SimulatorSettings(**changes)
