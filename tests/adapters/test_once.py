"""One answer, once; and how long it took."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stream.adapters.conversion import Conversion, Made, Occasion, Opened, answer, view
from stream.adapters.once import RESENT, TWIN, UNCHANGED, VOIDED, Once

START = datetime(2026, 3, 2, 10, tzinfo=UTC)


def _occasion(event_id: str, at_s: float, user: str = "u-1") -> Occasion:
    return Occasion(event_id, user, START + timedelta(seconds=at_s), {"format": "test"})


def answered(
    event_id: str, at_s: float, *, item: str = "i-1", witness: str = "server", attempt: str = "", user: str = "u-1",
    **fields: Any,
) -> Conversion:  # fmt: skip
    """Return the conversion of a statement of an answer."""
    fields = {"correct": True} | fields
    return Conversion(
        (Made("interactions", answer(_occasion(event_id, at_s, user), item, "t-1", **fields), witness, attempt),)
    )


def stands(event_id: str, at_s: float, **fields: Any) -> Conversion:
    """Return the conversion of a statement of how a whole stands."""
    (made,) = answered(event_id, at_s, **fields).made
    return Conversion((made._replace(is_status=True),))


def opened(at_s: float, item: str = "i-1", user: str = "u-1") -> Conversion:
    """Return the conversion of an event that shows an item."""
    return Conversion(ignored="shown", opened=(Opened(user, item, (START + timedelta(seconds=at_s)).timestamp()),))


def kept(once: Once, *conversions: Conversion) -> list[str]:
    """Return the ids of the events that were kept."""
    return [made.event["event_id"] for conversion in conversions for made in once.sift(conversion)[0]]


def test_two_witnesses_of_one_answer_are_one() -> None:
    """Browser and server say the same, seconds apart: the second statement is left out."""
    once = Once()
    assert kept(once, answered("a", 0, witness="browser")) == ["a"]
    assert once.sift(answered("b", 2, witness="server")) == ([], [TWIN])


def test_one_witness_speaks_of_two_answers() -> None:
    """A user who answers twice within seconds has answered twice."""
    assert kept(Once(), answered("a", 0), answered("b", 2)) == ["a", "b"]


def test_each_answer_of_two_witnesses_is_kept_once() -> None:
    """Browser, server, browser, server: two answers."""
    log = [
        answered(f"{witness}-{n}", 10 * n + late, witness=witness)
        for n in range(2)
        for late, witness in enumerate(("browser", "server"))
    ]
    assert kept(Once(), *log) == ["browser-0", "browser-1"]


def test_another_outcome_item_user_or_hour_is_another_answer() -> None:
    """Only what agrees is one."""
    once = Once()
    log = [
        answered("a", 0, witness="browser"),
        answered("b", 1, correct=False),
        answered("c", 2, item="i-2"),
        answered("d", 3, user="u-2"),
    ]
    assert kept(once, *log) == ["a", "b", "c", "d"]
    assert kept(Once(), answered("a", 0, witness="browser"), answered("b", 3_600)) == ["a", "b"]


def test_attempts_tell_answers_apart() -> None:
    """Two witnesses that number their attempts agree by the number, however far apart they are."""
    first = answered("a", 0, witness="browser", attempt="1")
    assert kept(Once(), first, answered("b", 1, attempt="2")) == ["a", "b"]
    assert kept(Once(), first, answered("b", 300, attempt="1")) == ["a"]


def test_an_attempt_that_is_logged_twice_at_once_is_one() -> None:
    """By one witness, which names the attempt, within a second; later, or of another outcome, it is a second answer."""
    once = Once()
    log = [answered("a", 0, attempt="1"), answered("b", 0.9, attempt="1"), answered("c", 1.1, attempt="1")]
    assert kept(once, *log) == ["a", "c"]
    assert kept(once, answered("d", 1.5, attempt="1", correct=False)) == ["d"]


def test_a_score_and_a_verdict_agree_by_what_they_mean() -> None:
    """A score of one half is right, as the schema has it."""
    scored = answered("a", 0, witness="browser", correct=None, score=0.5)
    assert kept(Once(), scored, answered("b", 1)) == ["a"]
    assert kept(Once(), scored, answered("b", 1, correct=False)) == ["a", "b"]


def test_an_event_that_is_sent_again_is_left_out() -> None:
    """Whatever its kind."""
    once = Once()
    seen = Conversion((Made("interactions", view(_occasion("v", 0), "i-1", "t-1")),))
    assert kept(once, answered("a", 0), seen) == ["a", "v"]
    assert once.sift(answered("a", 0)) == ([], [RESENT])
    assert once.sift(seen) == ([], [RESENT])


def test_one_id_may_say_several_things() -> None:
    """A platform that names an enrolment, a grade and a pass alike means three events."""
    once = Once()
    ids = kept(once, answered("a", 0), answered("a", 0, item="i-2"), answered("a", 0, user="u-2"))
    assert ids[0] == "a"
    assert len(set(ids)) == 3
    assert all(each.startswith("a/") for each in ids[1:])
    assert kept(once, answered("a", 0, item="i-2")) == []
    again = kept(Once(), answered("a", 0), answered("a", 0, item="i-2"), answered("a", 0, user="u-2"))
    assert again == ids


def test_the_time_since_an_item_was_shown_is_its_answers() -> None:
    """Marked as derived, in seconds."""
    once = Once()
    once.sift(opened(0))
    ((made,), _) = once.sift(answered("a", 21.5))
    assert made.event["duration_seconds"] == 21.5
    assert made.event["metadata"]["duration_derived"] is True


def test_a_view_shows_its_item() -> None:
    """A page view is an opening too."""
    once = Once()
    once.sift(Conversion((Made("interactions", view(_occasion("v", 0), "i-1", "t-1")),)))
    ((made,), _) = once.sift(answered("a", 30))
    assert made.event["duration_seconds"] == 30


def test_nothing_is_derived_of_nothing() -> None:
    """Not from another item or user, not from an opening after the answer, not twice from one, not beyond the limit."""
    for log in (
        [opened(0, item="i-2")],
        [opened(0, user="u-2")],
        [opened(60)],
        [opened(-1_801)],
        [opened(0), answered("before", 10)],
        [],
    ):
        once = Once(opened_limit_s=1_800)
        for conversion in log:
            once.sift(conversion)
        ((made,), _) = once.sift(answered("a", 30))
        assert "duration_seconds" not in made.event, log
        assert "duration_derived" not in made.event["metadata"], log


def test_what_the_event_says_itself_stands() -> None:
    """A duration of the event's own is neither replaced nor marked."""
    once = Once()
    once.sift(opened(0))
    ((made,), _) = once.sift(answered("a", 30, duration_s=5.0))
    assert made.event["duration_seconds"] == 5.0
    assert "duration_derived" not in made.event["metadata"]


def test_what_others_did_took_the_user_no_time() -> None:
    """A module that a teacher marks as passed tells nothing of how long anybody looked at it."""
    once = Once()
    once.sift(opened(0))
    (made,) = answered("a", 30).made
    ((kept_,), _) = once.sift(Conversion((made._replace(tells_time=False),)))
    assert "duration_seconds" not in kept_.event


def test_a_solution_that_is_seen_begins_nothing() -> None:
    """Whoever looks at it has had the question before."""
    once = Once()
    once.sift(Conversion((Made("interactions", view(_occasion("v", 0), "i-1", "t-1"), tells_time=False),)))
    ((made,), _) = once.sift(answered("a", 30))
    assert "duration_seconds" not in made.event


def test_a_limit_of_zero_derives_nothing() -> None:
    """The setting's way to switch it off."""
    once = Once(opened_limit_s=0)
    once.sift(opened(0))
    ((made,), _) = once.sift(answered("a", 30))
    assert "duration_seconds" not in made.event


def test_what_was_taken_back_is_left_out() -> None:
    """With all of its parts."""
    once = Once()
    once.take_back("a")
    assert once.sift(answered("a", 0)) == ([], [VOIDED])
    assert once.sift(answered("a/2", 0)) == ([], [VOIDED])
    assert kept(once, answered("b", 0)) == ["b"]


@pytest.mark.parametrize("questions", [1, 16, 17, 60])
def test_a_quiz_that_is_graded_at_its_end_is_answered_once(questions: int) -> None:
    """However many questions come between an answer and its grade."""
    told = [answered(f"a-{n}", n, item=f"i-{n}", witness="browser", attempt=f"try-{n}") for n in range(questions)]
    graded = [
        answered(f"g-{n}", 900 + n, item=f"i-{n}", witness="autograder", attempt=f"try-{n}") for n in range(questions)
    ]
    assert kept(Once(), *told, *graded) == [f"a-{n}" for n in range(questions)]


@pytest.mark.parametrize("outcomes", [(True, True), (True, False), (False, True)])
def test_two_logs_one_after_the_other_tell_two_answers(outcomes: tuple[bool, bool]) -> None:
    """All that the browser says, then all that the server says: each answer has both as witnesses."""
    log = [
        answered(f"{witness}-{n}", 10 * n + late, witness=witness, correct=correct)
        for late, witness in enumerate(("browser", "server"))
        for n, correct in enumerate(outcomes)
    ]
    assert kept(Once(), *log) == ["browser-0", "browser-1"]


def test_three_witnesses_are_one_answer() -> None:
    """As wrappers of SCORM say it: passed, completed, terminated."""
    log = [answered(verb, at, witness=verb) for at, verb in enumerate(("passed", "completed", "terminated"))]
    assert kept(Once(), *log) == ["passed"]


def test_an_attempt_is_counted_anew_after_a_reset() -> None:
    """The first attempt of today is not the first of last month."""
    first = answered("a", 0, witness="browser", attempt="1")
    assert kept(Once(), first, answered("b", 30 * 86_400, attempt="1")) == ["a", "b"]


def test_a_status_is_told_once() -> None:
    """However often, by whomever, and however long after; it takes no time from an opening."""
    once, day = Once(), 86_400
    log = [stands("a", 0, attempt="1"), stands("b", 40, attempt="1"), stands("c", 600, attempt="1", witness="exit")]
    assert kept(once, *log) == ["a"]
    once.sift(opened(3 * day))
    assert once.sift(stands("d", 3 * day + 300, attempt="1", witness="exit")) == ([], [UNCHANGED])
    ((made,), _) = once.sift(answered("e", 3 * day + 400, attempt="2"))
    assert made.event["duration_seconds"] == 400


def test_a_status_of_no_attempt_is_of_the_first_that_is_named() -> None:
    """Whoever names it next says so of it; the next attempt is another."""
    first = [stands("unnamed", 0, witness="gradebook"), stands("1", 1, attempt="1"), stands("2", 3_600, attempt="2")]
    assert kept(Once(), *first) == ["unnamed", "2"]
    assert kept(Once(), *first, stands("still 1", 3_700, attempt="1"), stands("still 2", 3_800)) == ["unnamed", "2"]
    assert kept(Once(), stands("1", 0, attempt="1"), stands("unnamed", 1), stands("2", 60, attempt="2")) == ["1", "2"]


def test_a_status_is_no_second_statement_of_an_answer() -> None:
    """Though another witness has told of the same attempt and outcome: it has changed in between."""
    log = [
        stands("failed", 0, attempt="A", correct=False, witness="failed"),
        stands("passed", 600, attempt="A", witness="passed"),
        stands("failed again", 1_200, attempt="A", correct=False, witness="terminated"),
    ]
    assert kept(Once(), *log) == ["failed", "passed", "failed again"]


def test_an_answer_soon_after_a_status_is_told_by_it() -> None:
    """If another witness says so; who said the status itself speaks of a second answer."""
    log = [stands("status", 0, witness="exit"), answered("one", 2), answered("two", 4)]
    assert kept(Once(), *log) == ["status", "two"]
    assert kept(Once(), stands("status", 0), answered("one", 2)) == ["status", "one"]


def test_a_status_that_comes_late_changes_nothing_that_was_said_since() -> None:
    """It is held against what was said of the time around its own."""
    passed, late = stands("passed", 3_600, attempt="1"), stands("late", 0, attempt="1", correct=False)
    assert kept(Once(), passed, late, stands("restated", 3_900, attempt="1")) == ["passed", "late"]
    failed = stands("failed", 0, attempt="1", correct=False)
    restated = [stands("a", 600, attempt="1", correct=False), stands("b", 3_000, attempt="1")]
    assert kept(Once(), failed, passed, *restated) == ["failed", "passed"]
    changed = [stands("a", 4_200, attempt="1"), stands("late", 3_900, attempt="1", correct=False)]
    assert kept(Once(), passed, *changed, stands("b", 4_500, attempt="1")) == ["passed", "late"]
    hourly = [stands(str(hour), 3_600 * hour) for hour in range(48)]
    assert kept(Once(), *hourly, stands("early", -3_600), stands("between", 1_800)) == ["0"]


def test_a_status_that_changes_is_told() -> None:
    """Also back to what it was, and of another attempt."""
    log = [
        stands("failed", 0, attempt="1", correct=False),
        stands("passed", 10, attempt="1"),
        stands("failed again", 20, attempt="1", correct=False),
        stands("another", 30, attempt="2", correct=False),
        stands("another once more", 40, attempt="2", correct=False),
        stands("still", 50, attempt="1", correct=False),
    ]
    assert kept(Once(), *log) == ["failed", "passed", "failed again", "another"]


def test_a_status_of_no_attempt_counts_for_a_day_since_it_was_told() -> None:
    """The same verdict a day later is another attempt; one that is told hour by hour is not."""
    day = 86_400
    assert kept(Once(), stands("a", 0), stands("b", 600), stands("c", day - 1), stands("d", 2 * day)) == ["a", "d"]
    hourly = [stands(str(hour), 3_600 * hour) for hour in range(48)]
    assert kept(Once(), *hourly) == ["0"]


def test_a_status_after_an_answer_to_the_whole_says_nothing_new() -> None:
    """But the same answer once more is an answer."""
    assert kept(Once(), answered("a", 0), stands("b", 600, witness="exit"), answered("c", 700)) == ["a", "c"]


def test_openings_out_of_order_invent_nothing() -> None:
    """A late one replaces no newer one, spans no answer, and one of the future serves its own answer."""
    for log, at, expected in (
        ([opened(100), opened(0)], 150, 50.0),
        ([answered("x", 100), opened(0)], 150, None),
        ([opened(200), answered("x", 150, witness="x")], 230, 30.0),
        ([opened(100), answered("x", 100, correct=False)], 150, None),
    ):
        once = Once()
        for conversion in log:
            once.sift(conversion)
        ((made,), _) = once.sift(answered("a", at))
        assert made.event.get("duration_seconds") == expected, log


def test_a_statement_without_a_time_is_known_when_it_comes_again() -> None:
    """Under another time of its message."""
    once, again = Once(), answered("a", 500)
    for conversion in (first := answered("a", 0), again):
        conversion.made[0].event["metadata"]["timestamp_derived"] = True
    assert kept(once, first) == ["a"]
    assert once.sift(again) == ([], [RESENT])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was met last is known."""
    monkeypatch.setattr("stream.adapters.once._MEETINGS", 100)
    once = Once()
    for number in range(1_000):
        once.sift(opened(number, item=f"i-{number}"))
    ((last,), _) = once.sift(answered("a", 1_010, item="i-999"))
    ((first,), _) = once.sift(answered("b", 1_010, item="i-3"))
    assert last.event["duration_seconds"] == 11
    assert "duration_seconds" not in first.event
