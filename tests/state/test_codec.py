"""Records as stored bytes: nothing is lost, old bytes stay readable, foreign ones stop the worker."""

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Interaction
from stream.errors import StateError
from stream.learning.network import Shape
from stream.models.dkt import Dkt
from stream.pipeline import RiskModels
from stream.state import academic, codec, learner
from stream.state.academic import COUNT, SUM, WEEKS
from tests import networks
from tests.worlds import (
    TOPIC_NAMES,
    Core,
    answers,
    attendance,
    ended,
    enrolment,
    grade,
    histories,
    incident,
    interaction,
    overdue,
    placed,
    placed_academics,
    view,
)

DATA = Path(__file__).parent / "data"


def stored(name: str) -> bytes:
    """Return the bytes of a record that an earlier worker stored."""
    return base64.b64decode((DATA / name).read_text("ascii"))


def filled() -> Core:
    """Return a core with a user whose records have something in every field; the pinned bytes were made from it."""
    core = Core(networks.random_dkt(), remembered=5, risk=RiskModels(features=frozenset({"education", "credits"})))
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
                enrolment(-700_000, starts_at="2026-01-12T00:00:00Z", context={"education": "A level", "credits": 60}),
                grade(at_s=0, score=30, assessment_id="a-1", weight=0.25, days_late=-2),
                attendance(700_000, "late"),
                incident(700_001, "major", sanction="a talk"),
                overdue(700_001),
                attendance(7_000_000, "absent"),
                ended(7_000_002, "fail"),
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
    records = codec.decode_learners([value], 100)
    assert records[0] == core.learner()
    assert codec.encode_learners(records) == [value]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), remembered=st.integers(5, 200), count=st.integers(0, 5))
def test_any_bytes_of_records_come_back(seed: int, remembered: int, count: int) -> None:
    """Whatever stands in the fields, odd floats too, comes back bit for bit, each record in its place."""
    dtype, random = learner.learner_dtype(remembered), np.random.default_rng(seed)
    records = np.frombuffer(random.bytes(count * dtype.itemsize), dtype)
    values = codec.encode_learners(records)
    assert codec.decode_learners(values, remembered).tobytes() == records.tobytes()
    assert [codec.encode_learners(records[i : i + 1]) for i in range(count)] == [[value] for value in values]
    weeks = np.frombuffer(random.bytes(count * academic.DTYPE.itemsize), academic.DTYPE)
    assert codec.decode_academics(codec.encode_academics(weeks)).tobytes() == weeks.tobytes()


def test_a_user_without_a_record_is_new() -> None:
    """None in the table stands for a user of whom nothing is known, also between others who have a record."""
    assert codec.decode_learners([None], 100)[0] == learner.new_learners(1, 100)[0]
    assert codec.decode_academics([None])[0] == academic.new_academics(1)[0]
    core = filled()
    value, weeks = core.learners["u-1"], core.academics["u-1"]
    assert codec.decode_learners([None, value, None], 5)["seen"].tolist() == [-1, 8, -1]
    assert codec.decode_academics([weeks, None, weeks])["seen"].tolist() == [6, -1, 6]


def test_stored_learners_of_format_13_are_read() -> None:
    """Bytes that a worker of this format stored say the same for ever."""
    value = stored("learner-13.b64")
    assert value[0] == 0x13
    records = codec.decode_learners([value], 5)
    record = records[0]
    assert (record["seen"], record["erasure_seen"], record["risk_day"]) == (8, -1, 20_458)
    assert (record["answers"], record["correct"], record["timed"], record["time_s"]) == (8, 1, 1, 12.5)
    assert (record["views"], record["feedback"]) == (1, 0)
    assert record["last_at"] == 1_767_601_000.0
    assert record["level_answers"].tolist() == [0, 8, 0]
    met = zip(record["concept"].tolist(), record["concept_answers"].tolist(), strict=True)
    expected = {"fractions": 7, "ratios": 1, "area": 1}
    assert {key: count for key, count in met if key} == {learner.key64(name): n for name, n in expected.items()}
    remembered = learner.remembered(record[None])
    assert remembered.count.tolist() == [5]
    assert remembered.correct[0].tolist() == [False, False, False, False, True]
    assert remembered.response_time_s[0, 4] == pytest.approx(12.5, rel=0.025)
    assert np.isnan(remembered.response_time_s[0, :4]).all()
    assert record["hidden"].astype(float).sum() == pytest.approx(-6.293131649494171)
    assert codec.encode_learners(records) == [value]


def test_stored_academics_of_format_23_are_read() -> None:
    """The same of what a school records."""
    value = stored("academic-23.b64")
    assert value[0] == 0x23
    records = codec.decode_academics([value])
    record = records[0]
    assert (record["seen"], record["events"], record["outcome"], record["closed"]) == (6, 7, 3, 0)
    assert record["last_at"] == 1_774_600_002.0
    newest, ten = int(record["week"]), record["counts"]
    assert newest == academic.week_of(1_774_600_002.0)
    assert (ten[newest % WEEKS, COUNT["absent"]], record["streak"][newest % WEEKS]) == (1, -1)
    before = record["before_counts"]
    met = ("graded", "late", "major", "sanctions", "overdue")
    assert {name: int(before[COUNT[name]]) for name in met} == dict.fromkeys(met, 1)
    assert record["before_sums"][SUM["score"]] == pytest.approx(0.3, rel=1e-3)
    assert record["before_sums"][SUM["days_late"]] == -2
    assert (record["before_score"], record["before_streak"]) == (pytest.approx(0.3, rel=1e-3), 1)
    assert (record["starts_day"], record["enrolled_day"]) == (20_465, 20_450)
    facts = [academic.fact_key("course", "c-1"), academic.fact_key("education", "A level")]
    assert record["fact"][:2].tolist() == facts
    assert record["number"][0].tolist() == (academic.field_key("credits"), 60.0)
    assert academic.has_seen(record, attendance(7_000_000, "absent"), 99)
    assert codec.encode_academics(records) == [value]


@pytest.mark.parametrize("value", [b"", b"\x10", b"\x12" + bytes(4_000), b"\x23" + bytes(4_000), b"\x13\x64"])
def test_another_format_stops_the_worker(value: bytes) -> None:
    """Bytes of another format or table are never guessed at."""
    with pytest.raises(StateError, match="table learners"):
        codec.decode_learners([value], 100)
    with pytest.raises(StateError, match="table learners"):
        codec.decode_learners([Core().learners.get("u-1"), filled().learners["u-1"], value], 5)


@pytest.mark.parametrize("value", [b"", b"\x23", b"\x22" + bytes(academic.DTYPE.itemsize), b"\x13" + bytes(4_000)])
def test_another_academic_format_stops_the_worker(value: bytes) -> None:
    """The same of the weekly steps."""
    with pytest.raises(StateError, match="table academics"):
        codec.decode_academics([value])


def test_what_the_version_before_stored_stops_the_worker() -> None:
    """Real bytes of formats 0x12 and 0x22: one sentence says what was found, and the way out."""
    learners, academics = stored("learner-12.b64"), stored("academic-22.b64")
    assert (learners[0], academics[0]) == (0x12, 0x22)
    way_out = "run that version, or start anew with another STREAM_GROUP"
    with pytest.raises(StateError, match=rf"^table learners: expected records of format 0x13, found 12; .*{way_out}$"):
        codec.decode_learners([learners], 5)
    with pytest.raises(StateError, match=rf"^table academics: expected records of format 0x23, found 22; .*{way_out}$"):
        codec.decode_academics([academics])


@pytest.mark.parametrize("remembered", [5, 100])
@pytest.mark.parametrize("cut", [3, 5, 500, -1])
def test_a_truncated_record_stops_the_worker(cut: int, remembered: int) -> None:
    """Half a record is no record, and neither is one with something behind it."""
    value = filled().learners["u-1"]
    for broken in (value[:cut], value + b"\0"):
        with pytest.raises(StateError, match="table learners"):
            codec.decode_learners([broken], remembered)


def test_a_record_of_another_layout_stops_the_worker() -> None:
    """The head tells how long a record is: one of the same format whose fields differ is not guessed at."""
    value = filled().learners["u-1"]
    head, size = value[:3], int.from_bytes(value[3:5], "little")
    longer = head + (size + 4).to_bytes(2, "little") + value[5:] + bytes(4)
    for remembered in (5, 6):
        with pytest.raises(StateError, match=f"expected a record of {size} bytes, found {size + 4}"):
            codec.decode_learners([longer], remembered)


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


def test_a_user_takes_at_most_4_kib() -> None:
    """A user with a full history of 20 concepts, in both tables, fits 4,096 bytes; `docs/state.md` says how."""
    core = Core(networks.random_dkt(), risk=RiskModels(features=frozenset(f"f-{i}" for i in range(20))))
    core.feed(
        placed(
            [
                interaction(at_s=60 * i, topic_id=f"{TOPIC_NAMES[i % 6][:6]}-{i:02d}", item_id=f"i-{i}")
                for i in range(120)
            ]
        )
    )
    context = {f"f-{i}": "x" if i % 2 else i for i in range(20)}
    core.feed_academics(placed_academics([enrolment(context=context), *(grade(at_s=86_400 * i) for i in range(90))]))
    assert len([key for key in core.learner()["concept"] if key]) == learner.CONCEPTS
    sizes = len(core.learners["u-1"]), len(core.academics["u-1"])
    assert sum(sizes) <= 4_096
    page = (Path(__file__).parents[2] / "docs" / "state.md").read_text("utf-8")
    assert f"5 + {sizes[0] - 5:,} and 1 + {sizes[1] - 1:,}: {sum(sizes):,} bytes of 4,096" in page
    assert f"| **record** | **{sizes[0] - 5:,}** |" in page
    assert f"| **record** | **{sizes[1] - 1:,}** |" in page


def test_the_usual_state_fits() -> None:
    """The usual network's state has its place in a record, and so has a plain one of two layers of 64."""
    predictor: Dkt = networks.random_dkt()
    assert 0 < predictor.hidden_size <= learner.HIDDEN_CAPACITY
    assert Shape(hidden=64, layers=2).hidden_size == learner.HIDDEN_CAPACITY
