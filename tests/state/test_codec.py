"""Records as stored bytes: nothing is lost, old bytes stay readable, foreign ones stop the worker."""

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Interaction
from stream.errors import StateError
from stream.models.dkt import Dkt
from stream.state import academic, codec, learner
from stream.state.codec import Names
from tests import networks
from tests.worlds import TOPIC_NAMES, Core, answers, grade, histories, interaction, placed, placed_academics, view

DATA = Path(__file__).parent / "data"


def stored(name: str) -> bytes:
    """Return the bytes of a record that an earlier worker stored."""
    return base64.b64decode((DATA / name).read_text("ascii"))


def filled() -> Core:
    """Return a core with a user whose records have something in every field; the pinned bytes were made from it."""
    core = Core(networks.random_dkt(), remembered=5)
    core.feed(
        placed(
            [
                *answers(7, every_s=100.0, correct=False, duration_seconds=None),
                interaction(
                    at_s=900, topic_id="ratios", skills=["area", "ratios"], item_id="i-9", duration_seconds=12.5
                ),
                view(at_s=1000),
            ]
        )
    )
    core.feed_academics(
        placed_academics(
            [
                grade(at_s=0, score=30),
                grade(at_s=700_000, type="attendance_recorded", score=None, status="late"),
                grade(at_s=700_001, type="discipline_recorded", score=None, severity="major"),
                grade(at_s=700_002, type="outcome_recorded", score=None, outcome="fail"),
            ]
        )
    )
    return core


@settings(max_examples=30)
@given(histories(users=1))
def test_a_record_comes_back_as_it_was(events: list[Interaction]) -> None:
    """Encoding and decoding changes nothing, and encoding again gives the same bytes."""
    core = Core()
    core.feed(placed(events))
    value = core.learners["u-1"]
    names = Names()
    (record,) = codec.decode_learners([value], 100, names)
    assert record == core.learner()
    assert codec.encode_learner(record, names) == value


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), remembered=st.integers(5, 200))
def test_any_bytes_of_a_record_come_back(seed: int, remembered: int) -> None:
    """Whatever stands in the fields, odd floats too, comes back bit for bit."""
    dtype = learner.learner_dtype(remembered)
    record = np.frombuffer(np.random.default_rng(seed).bytes(dtype.itemsize), dtype)[0]
    (found,) = codec.decode_learners([codec.encode_learner(record, Names())], remembered, Names())
    assert found.tobytes() == record.tobytes()
    weeks = np.frombuffer(np.random.default_rng(seed).bytes(academic.DTYPE.itemsize), academic.DTYPE)[0]
    assert codec.decode_academics([codec.encode_academic(weeks)])[0].tobytes() == weeks.tobytes()


def test_a_user_without_a_record_is_new() -> None:
    """None in the table stands for a user of whom nothing is known."""
    assert codec.decode_learners([None], 100, Names())[0] == learner.new_learners(1, 100)[0]
    assert codec.decode_academics([None])[0] == academic.new_academics(1)[0]


def test_stored_learners_of_format_11_are_read() -> None:
    """Bytes that a worker of this format stored say the same for ever."""
    value = stored("learner-11.b64")
    assert value[0] == 0x11
    names = Names()
    (record,) = codec.decode_learners([value], 5, names)
    assert (record["seen"], record["erasure_seen"], record["risk_day"]) == (8, -1, 20_458)
    assert (record["answers"], record["correct"], record["timed"], record["time_s"]) == (8, 1, 1, 12.5)
    assert (record["views"], record["feedback"]) == (1, 0)
    assert record["last_at"] == 1_767_601_000.0
    assert record["level_answers"].tolist() == [0, 8, 0]
    met = {
        names.name(int(key)): int(count)
        for key, count in zip(record["concept"], record["concept_answers"], strict=True)
    }
    assert {name: count for name, count in met.items() if name} == {"fractions": 7, "ratios": 1, "area": 1}
    remembered = learner.remembered(record[None])
    assert remembered.count.tolist() == [5]
    assert remembered.correct[0].tolist() == [False, False, False, False, True]
    assert remembered.response_time_s[0, 4] == pytest.approx(12.5, rel=0.025)
    assert np.isnan(remembered.response_time_s[0, :4]).all()
    assert record["hidden"].astype(float).sum() == pytest.approx(0.4244440793991089)
    assert codec.encode_learner(record, names) == value
    assert codec.seen_offset(value) == 8


def test_stored_academics_of_format_21_are_read() -> None:
    """The same of the weekly steps."""
    value = stored("academic-21.b64")
    assert value[0] == 0x21
    (record,) = codec.decode_academics([value])
    assert (record["seen"], record["events"], record["outcome"]) == (3, 4, 3)
    newest, first = academic.latest_weeks(record)
    assert record["attendance"][newest].tolist() == [0, 0, 1, 0]
    assert record["incidents"][newest].tolist() == [0, 0, 1]
    assert (record["grades"][first], record["grade_sum"][first]) == (1, pytest.approx(0.3, rel=1e-3))
    assert codec.encode_academic(record) == value
    assert codec.seen_offset(value) == 3


@pytest.mark.parametrize("value", [b"", b"\x10", b"\x12" + bytes(4_000), b"\x21" + bytes(4_000), b"\x11\x64"])
def test_another_format_stops_the_worker(value: bytes) -> None:
    """Bytes of another format or table are never guessed at."""
    with pytest.raises(StateError, match="table learners"):
        codec.decode_learners([value], 100, Names())


@pytest.mark.parametrize("value", [b"", b"\x21", b"\x22" + bytes(academic.DTYPE.itemsize), b"\x11" + bytes(4_000)])
def test_another_academic_format_stops_the_worker(value: bytes) -> None:
    """The same of the weekly steps."""
    with pytest.raises(StateError, match="table academics"):
        codec.decode_academics([value])


def test_a_truncated_record_stops_the_worker() -> None:
    """Half a record is no record."""
    value = Core()
    value.feed(placed(answers(1)))
    with pytest.raises(StateError, match="expected a record of"):
        codec.decode_learners([value.learners["u-1"][:500]], 100, Names())


@settings(max_examples=30)
@given(
    total=st.integers(0, 30),
    old=st.integers(5, 12),
    new=st.integers(5, 12),
    more=st.integers(0, 20),
    back=st.booleans(),
)
def test_another_number_of_remembered_answers(total: int, old: int, new: int, more: int, back: bool) -> None:
    """After a change of the setting the latest that were stored, and those that come since, are remembered."""
    everything = answers(total + more)
    core = Core(remembered=old)
    core.feed(placed([view(at_s=-10), *everything[:total]]))
    core = core.restarted(remembered=new)
    core.feed(placed([view(at_s=-5), *everything[total:]], first=1000))
    known = min(total, old, new) + more
    size = new
    if back:
        core = core.restarted(remembered=old)
        size = old
        known = min(known, new)
    remembered = learner.remembered(core.learner()[None])
    count = min(known, size)
    assert remembered.count[0] == count
    expected = [learner.key64(f"i-{i}") & 0xFFFFFFFF for i in range(total + more - count, total + more)]
    assert remembered.item[0, size - count :].tolist() == expected
    assert core.learner()["answers"] == total + more


def test_names_come_back_with_the_record() -> None:
    """A new process knows the names of a user's topics and skills from the record alone."""
    core = filled().restarted()
    core.learner()
    assert {core.models.names.name(learner.key64(name)) for name in ("fractions", "ratios", "area")} == {
        "fractions",
        "ratios",
        "area",
    }


def test_too_long_names_are_left_out_the_longest_unmet_first() -> None:
    """Names take up a bounded place; what is cut is what was met longest ago."""
    core = Core()
    core.feed(placed([interaction(at_s=60 * i, topic_id=f"{i:02d}" + "x" * 250) for i in range(12)]))
    value = core.learners["u-1"]
    assert len(value) <= 5 + learner.learner_dtype(100).itemsize + codec.NAMES_MAX_BYTES + learner.CONCEPTS
    names = Names()
    codec.decode_learners([value], 100, names)
    known = [i for i in range(12) if names.name(learner.key64(f"{i:02d}" + "x" * 250))]
    assert known == list(range(4, 12))


def test_a_user_takes_at_most_4_kib() -> None:
    """A user with a full history of 20 concepts, in both tables, fits 4,096 bytes."""
    core = Core(networks.random_dkt())
    core.feed(
        placed(
            [
                interaction(at_s=60 * i, topic_id=f"{TOPIC_NAMES[i % 6][:6]}-{i:02d}", item_id=f"i-{i}")
                for i in range(120)
            ]
        )
    )
    core.feed_academics(placed_academics([grade(at_s=86_400 * i) for i in range(90)]))
    assert len([key for key in core.learner()["concept"] if key]) == learner.CONCEPTS
    assert len(core.learners["u-1"]) + len(core.academics["u-1"]) <= 4_096


def test_the_largest_state_fits() -> None:
    """The usual network's state fills the place that a record has for it."""
    predictor: Dkt = networks.random_dkt()
    assert predictor.hidden_size == learner.HIDDEN_CAPACITY
