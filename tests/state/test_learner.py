"""A user's record: what counts, what is remembered, what is seen, and what gives way."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Interaction
from stream.state import arrays, codec, learner
from stream.state.learner import IS_SKILL, IS_TOPIC, decode_times, encode_times, key64
from tests.worlds import START, TOPIC_NAMES, Core, answers, interaction, placed, view


def after(*events: Interaction, remembered: int = 100) -> Any:
    """Return the record of u-1 after events."""
    core = Core(remembered=remembered)
    core.feed(placed(events))
    return core.learner()


def concepts(record: Any) -> dict[int, tuple[int, int]]:
    """Return kind and answers of each concept of a record, by key."""
    columns = (record["concept"], record["concept_kind"], record["concept_answers"])
    return {int(key): (int(kind), int(count)) for key, kind, count in zip(*columns, strict=True) if key}


def test_counters_go_by_all_and_by_difficulty() -> None:
    """Answers, right ones, timed ones and their seconds are counted over all and for each difficulty."""
    record = after(
        interaction(at_s=0, difficulty="easy", correct=True, duration_seconds=10.0),
        interaction(at_s=60, difficulty="easy", correct=False, duration_seconds=20.0),
        interaction(at_s=120, difficulty="hard", correct=True, duration_seconds=None),
        interaction(at_s=180, difficulty=None, correct=True, duration_seconds=5.0),
    )
    assert (record["answers"], record["correct"], record["timed"], record["time_s"]) == (4, 3, 3, 35.0)
    assert record["level_answers"].tolist() == [2, 0, 1]
    assert record["level_correct"].tolist() == [1, 0, 1]
    assert record["level_timed"].tolist() == [2, 0, 0]
    assert record["level_time_s"].tolist() == [30.0, 0.0, 0.0]


def test_an_answer_without_time_is_an_answer() -> None:
    """Without a response time the answer counts, its time does not, and speed stays what it was."""
    record = after(interaction(duration_seconds=None))
    assert (record["answers"], record["timed"], record["time_s"], record["speed"]) == (1, 0, 0.0, 0.0)
    assert np.isnan(learner.remembered(record[None]).response_time_s[0, -1])
    assert record["ability"] > 0


def test_views_and_feedback_are_history_only() -> None:
    """A view or feedback is counted, moves the last moment on, and is no answer."""
    record = after(view(at_s=5), view(at_s=65, type="feedback_recommendation"))
    assert (record["views"], record["feedback"], record["answers"]) == (1, 1, 0)
    assert record["last_at"] == START.timestamp() + 65


def test_the_ring_keeps_the_latest_answers() -> None:
    """After more answers than are remembered the oldest give way, and order is kept."""
    record = after(*answers(130))
    remembered = learner.remembered(record[None])
    assert record["answers"] == 130
    assert remembered.count[0] == 100
    expected = [key64(f"i-{i}") & 0xFFFFFFFF for i in range(30, 130)]
    assert remembered.item[0].tolist() == expected
    assert remembered.at[0].tolist() == [int(START.timestamp()) + 60 * i for i in range(30, 130)]


def test_fewer_answers_are_right_aligned() -> None:
    """Of a user with few answers the last places are filled, and `count` says how many."""
    remembered = learner.remembered(after(*answers(3))[None], latest=5)
    assert remembered.count.tolist() == [3]
    assert remembered.item[0].tolist() == [0, 0, *(key64(f"i-{i}") & 0xFFFFFFFF for i in range(3))]


def test_out_of_order_answers_count_and_turn_no_clock_back() -> None:
    """A late answer is counted like any other; the last moment stays, gaps are at least zero."""
    record = after(interaction(at_s=1000, item_id="i-1"), interaction(at_s=10, item_id="i-2"))
    assert record["answers"] == 2
    assert record["last_at"] == START.timestamp() + 1000
    place = record["concept"].tolist().index(key64("fractions"))
    assert record["concept_at"][place] == int(START.timestamp()) + 1000


def test_a_skill_of_the_topics_name_is_counted_once() -> None:
    """Topic and skill of one name are one concept, known as both."""
    record = after(interaction(topic_id="area", skills=["angles", "area"]))
    assert concepts(record) == {key64("area"): (IS_TOPIC | IS_SKILL, 1), key64("angles"): (IS_SKILL, 1)}


def test_every_skill_of_an_answer_is_counted() -> None:
    """An answer of several skills counts once for each, once for its topic, and once in all."""
    record = after(
        interaction(at_s=0, topic_id="t", skills=["a", "b", "c"], correct=True),
        interaction(at_s=60, topic_id="t", skills=["b"], correct=False),
    )
    assert record["answers"] == 2
    counted = concepts(record)
    assert [counted[key64(name)][1] for name in ("t", "a", "b", "c")] == [2, 1, 2, 1]
    assert counted[key64("a")][0] == IS_SKILL


def test_a_skill_named_twice_is_counted_once() -> None:
    """An event that repeats a skill says nothing more of it."""
    assert concepts(after(interaction(topic_id="t", skills=["a", "a"])))[key64("a")] == (IS_SKILL, 1)


def test_the_longest_unmet_concept_gives_way() -> None:
    """Twenty concepts are kept; one more drops the one that was met longest ago, not the oldest."""
    events = [interaction(at_s=60 * i, topic_id=f"t-{i}", skills=None) for i in range(20)]
    events.append(interaction(at_s=2000, topic_id="t-0"))
    events.append(interaction(at_s=2060, topic_id="t-20"))
    kept = concepts(after(*events))
    assert len(kept) == learner.CONCEPTS
    assert key64("t-1") not in kept
    assert kept[key64("t-0")][1] == 2
    assert kept[key64("t-20")] == (IS_TOPIC | IS_SKILL, 1)


def test_a_concept_met_at_the_beginning_of_time_stays() -> None:
    """Relative seconds fall in 1970: a concept met at second 0 is not taken for an empty place."""
    record = after(interaction(timestamp="1970-01-01T00:00:00Z", topic_id="t", skills=["a", "t"], duration_seconds=0.0))
    assert concepts(record) == {key64("t"): (IS_TOPIC | IS_SKILL, 1), key64("a"): (IS_SKILL, 1)}


def test_a_late_answer_marks_no_other_concept() -> None:
    """An answer older than all that is kept touches no concept but its own."""
    events = [interaction(at_s=1000 + 60 * i, topic_id=f"t-{i}", skills=["s"]) for i in range(25)]
    core = Core()
    core.feed(placed(events))
    before = concepts(core.learner())
    core.feed(placed([interaction(at_s=0, topic_id="late", skills=["x", "late"])], first=100))
    changed = {key for key, found in concepts(core.learner()).items() if before.get(key) != found}
    assert changed <= {key64("late"), key64("x")}


def test_counts_of_a_concept_never_overflow() -> None:
    """Sixteen bits are enough: full counts are halved, and rates stay what they were."""
    core = Core()
    core.feed(placed([interaction(topic_id="t")]))
    learners = core.users(["u-1"]).learners.copy()
    place = learners["concept"][0].tolist().index(key64("t"))
    for field, value in (("concept_answers", 59_999), ("concept_correct", 29_999), ("concept_timed", 59_999)):
        learners[field][0, place] = value
    learners["concept_time_s"][0, place] = 60_000 * 30.0
    core.learners["u-1"] = learner_bytes(learners[0])
    core.feed(placed([interaction(at_s=60, topic_id="t", item_id="i-9")], first=1))
    record = core.learner()
    assert record["concept_answers"][place] == 30_000
    assert record["concept_correct"][place] == 15_000
    assert record["concept_time_s"][place] / record["concept_timed"][place] == pytest.approx(30, rel=1e-3)


def learner_bytes(record: Any) -> bytes:
    """Return a record as the table would keep it."""
    return codec.encode_learners(record[None])[0]


def test_a_replayed_offset_changes_nothing() -> None:
    """The same event at the same offset leaves the record as it was, byte for byte, and is answered by nothing."""
    core = Core()
    log = placed([*answers(3), view(at_s=500)])
    core.feed(log)
    before = dict(core.learners)
    for part in (log, log[1:3], log[3:]):
        outcome = core.feed(part)
        assert outcome.messages == []
        assert outcome.repeated == len(part)
        assert core.learners == before


def test_a_resent_event_only_moves_the_seen_offset() -> None:
    """An id at another offset, of an answer or of a view, changes nothing but what has been seen."""
    core = Core()
    events = [*answers(3), view(at_s=500)]
    core.feed(placed(events))
    before = core.learner().copy()
    outcome = core.feed(placed(events[2:], first=10))
    assert outcome.messages == []
    assert outcome.repeated == 2
    record = core.learner().copy()
    assert record["seen"] == 11
    record["seen"] = before["seen"]
    assert record == before


def test_an_event_twice_in_one_batch_counts_once() -> None:
    """A repeat is found within a batch too: it stands in the next wave."""
    core = Core()
    (event,) = answers(1)
    outcome = core.feed(placed([event, event]))
    assert outcome.repeated == 1
    assert core.learner()["answers"] == 1


def test_events_of_different_users_do_not_hide_each_other() -> None:
    """What has been seen is a user's own: the same id of another user is another event."""
    core = Core()
    core.feed(placed([interaction("u-1", event_id="same"), interaction("u-2", event_id="same")]))
    assert core.learner("u-2")["answers"] == 1


def test_an_erased_user_leaves_an_empty_marker() -> None:
    """Of an erased user nothing is left but what has been seen."""
    core = Core()
    core.feed(placed(answers(3)))
    marker = learner.erased(core.learner()[None], 7)[0]
    expected = learner.new_learners(1, 100)[0]
    expected["seen"], expected["erasure_seen"] = 2, 7
    assert marker == expected


def test_an_erasure_that_comes_again_erases_nothing_newer() -> None:
    """A replayed erasure leaves what the user has done since."""
    core = Core()
    core.feed(placed(answers(1)))
    marker = learner.erased(core.learner()[None], 7)
    core.learners["u-1"] = learner_bytes(marker[0])
    core.feed(placed([interaction(at_s=900, item_id="new")], first=5))
    record = core.learner()
    assert record["answers"] == 1
    assert learner.erased(record[None], 7)[0] == record
    assert learner.erased(record[None], 8)[0]["answers"] == 0


def test_joined_fields_are_the_same_numbers() -> None:
    """Fields that lie side by side, seen as one, are what they are by themselves: the layout keeps them together."""
    records = learner.new_learners(3, 7)
    _as_bytes(records)[:] = np.random.default_rng(1).integers(0, 256, _as_bytes(records).shape)
    joined = learner.joined(records)
    for field, names in {
        "belief": ("ability", "ability_var", "speed", "speed_var"),
        "answer": ("answer_item", "answer_skill", "answer_at"),
        "answer_byte": ("answer_time", "answer_flags"),
        "all": ("answers", "correct", "timed"),
        "level": ("level_answers", "level_correct", "level_timed"),
        "concept": ("concept_answers", "concept_correct", "concept_timed"),
    }.items():
        np.testing.assert_array_equal(joined[field], np.stack([records[name] for name in names], axis=1))
    ids = np.concatenate([records["other_id"], records["answer_id"]], axis=1)
    np.testing.assert_array_equal(joined["event_id"], ids)


def _as_bytes(records: learner.Records) -> Any:
    return records.view(np.uint8).reshape(len(records), -1)


def test_whole_records_are_taken_and_put() -> None:
    """Taken records are copies; those that are put back stand in their rows, the others stay."""
    core = Core()
    core.feed(placed([interaction(f"u-{i}", item_id=f"i-{i}") for i in range(4)]))
    records = core.users([f"u-{i}" for i in range(4)]).learners.copy()
    expected = records[[3, 1]].copy()
    taken = arrays.take(records, np.array([3, 1]))
    np.testing.assert_array_equal(taken, expected)
    taken["answers"] = 9
    assert records["answers"].tolist() == [1, 1, 1, 1]
    arrays.put(records, np.array([0, 1]), taken)
    assert records["answers"].tolist() == [9, 9, 1, 1]
    assert records[0] == taken[0]
    assert arrays.take(records, np.array([[2, 3]])).shape == (1, 2)


def test_an_id_is_compared_whole() -> None:
    """An event whose id shares but its first or its last bytes with a known one has not been seen."""
    records = learner.new_learners(2, 5)
    known = 0x0003_0002_0001
    learner.remember_others(records, np.array([1]), np.array([known], np.uint64), np.zeros(1), is_view=np.ones(1, bool))
    events = np.array([known, known + (1 << 60), 0x0004_0002_0001, 0x0003_0002_0002], np.uint64)

    def seen(row: int) -> list[bool]:
        return [bool(each) for each in learner.has_seen(records, np.full(4, row), events, np.full(4, 7))]

    assert seen(1) == [True, True, False, False]
    assert seen(0) == [False] * 4
    records["seen"][0] = 7
    assert seen(0) == [True] * 4


@given(st.floats(0, 9_000, width=32))
def test_remembered_times_are_close(time_s: float) -> None:
    """A response time is remembered in a byte, within 2.5% (or a few hundredths of a second)."""
    (found,) = decode_times(encode_times(np.array([time_s], np.float32)))
    assert found == pytest.approx(time_s, rel=0.025, abs=0.03)


def test_codes_of_times_are_their_own_round_trip() -> None:
    """Each of the 256 codes stands for a time that is kept under this code."""
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(encode_times(decode_times(codes)), codes)


@given(st.text(min_size=1, max_size=20))
def test_keys_are_stable_and_never_none(name: str) -> None:
    """A key fits 64 bits and is never 0, which stands for none."""
    assert 0 < key64(name) < 2**64


def test_keys_never_change() -> None:
    """Keys stand in stored records: another hash would lose every user's history."""
    assert key64("fractions") == 14_877_452_246_635_223_544
    assert learner.id64("e-1") == 11_461_081_932_386_169_649
    assert TOPIC_NAMES[0] == "fractions"
