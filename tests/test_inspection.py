"""What `stream inspect` makes of stored records, without a broker."""

import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from schemas import ModelRollout, Release
from stream.cli import main
from stream.inspection import reading
from stream.inspection.portrait import Portrait, Stored, described, latest
from stream.inspection.text import shown
from stream.pipeline import format_tag
from stream.ports import Record
from stream.settings import Settings
from stream.state import codec, learner
from stream.transport import topics
from tests.worlds import START, Core, answers, attendance, enrolment, grade, interaction, placed, placed_academics, view

SEEN = ("erasure_seen", "seen")
NOTHING_SAID = {"from": "topics", "whole": True, "correctness": None, "time": None, "risk": None}


def core_of_one() -> Core:
    """Return the core after 14 answers of a user to two topics, a view, and three academic events."""
    core = Core()
    events = [
        *answers(12, skills=["halves", "thirds"]),
        view(at_s=800.0),
        interaction(
            at_s=900.0, topic_id="angles", item_id="i-90", difficulty="hard", correct=False, duration_seconds=10
        ),
        interaction(at_s=960.0, topic_id="angles", item_id=None, difficulty=None, duration_seconds=None),
    ]
    core.feed(placed(events))
    recorded = [
        enrolment(course_id="mathematics"),
        attendance(60.0, "absent"),
        grade(at_s=90.0, score=40, max_score=80),
    ]
    core.feed_academics(placed_academics(recorded, first=3))
    return core


def portrait(core: Core, rollout: ModelRollout | None = None, *, is_whole: bool = True, **more: Any) -> Portrait:
    """Return what is stored of the core's user, as the command has it."""
    names = [*core.names, "course=mathematics"]
    stored = Stored(core.learners.get("u-1"), core.academics.get("u-1"), names)
    found = described(stored, rollout, core.remembered, is_whole=is_whole)
    return {"user_id": "u-1", "partition": 2, "partitions": 4} | found | {"predictions": NOTHING_SAID} | more


def test_the_history_is_what_was_sent() -> None:
    """Counts, shares, times, topics and skills by their names, the latest first; nothing is rounded away in JSON."""
    found = portrait(core_of_one())
    history = found["history"]
    assert (history["answers"], history["views"], history["feedback"]) == (14, 1, 0)
    assert history["correct_share"] == round(13 / 14, 4)
    assert history["mean_seconds"] == round((12 * 30 + 10) / 13, 4)
    assert history["by_difficulty"] == {
        "medium": {"answers": 12, "correct_share": 1.0, "mean_seconds": 30.0},
        "hard": {"answers": 1, "correct_share": 0.0, "mean_seconds": 10.0},
    }
    assert datetime.fromisoformat(history["last_at"]).timestamp() == START.timestamp() + 960
    assert [(of["name"], of["answers"]) for of in found["topics"]] == [("angles", 2), ("fractions", 12)]
    assert [of["name"] for of in found["skills"]] == ["angles", "halves", "thirds"]
    assert found["topics"][0]["correct_share"] == 0.5
    assert found["seen"] == {"interactions": 14, "academics": 5, "erasures": None}
    assert found["erased"] is False
    json.dumps(found)
    lines = shown(found)
    assert "               hard: 1 answer, 0% right, 10 s each" in lines
    assert "    fractions: 12 answers, 100% right, 30 s each" in lines
    assert found["remembered"][0]["seconds"] == pytest.approx(30, rel=0.025)
    told = f"about {found['remembered'][0]['seconds']:.0f} s"  # as good as what is stored is
    assert sum(line.endswith(f" right halves, {told}") for line in lines) > 5


def test_remembered_answers_come_oldest_first() -> None:
    """Each with its moment, skill, outcome and time, to the precision of the stored form; of an item its key."""
    remembered = portrait(core_of_one())["remembered"]
    assert len(remembered) == 14
    first, last = remembered[0], remembered[-1]
    assert datetime.fromisoformat(first["at"]) == START
    assert (first["skill"], first["correct"]) == ("halves", True)
    assert first["seconds"] == pytest.approx(30, rel=0.03)
    assert first["item_key"] == f"{learner.key64('i-0') & 0xFFFF_FFFF:08x}"
    assert (last["skill"], last["seconds"], last["item_key"]) == ("angles", None, None)


def test_what_a_school_records_is_shown_by_week() -> None:
    """The enrolment by its names, counts of each week that had any, and the mean of what was graded."""
    academics = portrait(core_of_one())["academics"]
    assert academics["events"] == 3
    assert academics["enrolment"] == ["course=mathematics"]
    (week,) = academics["weeks"]
    assert week["monday"] == START.date().isoformat()
    assert (week["absent"], week["graded"], week["mean_score"]) == (1, 1, 0.5)
    assert academics["outcome"] is None
    assert academics["before"] is None


def test_beliefs_are_told_with_their_doubt() -> None:
    """Mean and standard deviation, as the record has them."""
    core = core_of_one()
    row = core.learner()
    found = portrait(core)
    assert found["ability"]["mean"] == pytest.approx(float(row["ability"]), abs=1e-4)
    assert found["ability"]["deviation"] == pytest.approx(float(row["ability_var"]) ** 0.5, abs=1e-4)
    assert found["speed"]["mean"] == pytest.approx(float(row["speed"]), abs=1e-4)


def test_a_hidden_state_is_told_by_the_version_that_reads_it() -> None:
    """By the announced versions' state formats; one of none of them is rebuilt, as is none at all."""
    core = core_of_one()
    assert portrait(core)["hidden"] is None
    records = codec.decode_learners([core.learners["u-1"]], core.remembered).copy()
    records["hidden_format"] = format_tag("lstm-b")
    core.learners["u-1"] = codec.encode_learners(records)[0]
    releases = {
        part: Release(version=version, sha256="0" * 64, path=f"knowledge/v{version}", state_format=name)
        for part, version, name in (("champion", 3, "lstm-a"), ("challenger", 4, "lstm-b"))
    }
    rollout = ModelRollout(name="knowledge", decided_at=datetime.now(UTC), **releases)
    hidden = portrait(core, rollout)["hidden"]
    assert (hidden["format"], hidden["version"]) == ("lstm-b", 4)
    assert portrait(core, None)["hidden"]["version"] is None
    assert "no longer announced" in "\n".join(shown(portrait(core)))
    assert "knowledge version 4 reads" in "\n".join(shown(portrait(core, rollout)))
    assert "older" not in "\n".join(shown(portrait(core, rollout)))


def test_what_could_not_be_read_in_time_is_not_called_the_latest() -> None:
    """Neither a prediction nor a model; that a model is no longer announced only whoever has read all can say."""
    core = core_of_one()
    records = codec.decode_learners([core.learners["u-1"]], core.remembered).copy()
    records["hidden_format"] = format_tag("lstm-b")
    core.learners["u-1"] = codec.encode_learners(records)[0]
    found = portrait(core, None, is_whole=False, predictions=NOTHING_SAID | {"whole": False})
    assert found["hidden"]["whole"] is False
    lines = shown(found)
    place = next(n for n, line in enumerate(lines) if line.startswith("  hidden state"))
    assert "no longer announced" not in "".join(lines)
    assert lines[place].startswith("  hidden state of a model that was not found (")
    assert lines[place + 1] == "               may be older: not all was read in time"
    assert "  predictions  may be older: not all was read in time, from topics" in lines


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_is_read_says_whether_it_is_all(monkeypatch: pytest.MonkeyPatch, is_whole: bool) -> None:
    """Records of the topics go on into the portrait together with whether they came in time."""
    said = Record("predictions.time", 0, 7, b"u-1", b'{"n": 1}', 0.0)
    monkeypatch.setattr(reading, "tail", lambda *_: ([said], is_whole))
    monkeypatch.setattr(reading, "starts", lambda _, places: dict.fromkeys(places, 0))
    monkeypatch.setattr(reading, "ends", lambda _, places, **_more: dict.fromkeys(places, 9))
    given = Settings()
    existing = {"model-updates": topics.Existing(1, 1), "predictions.time": topics.Existing(1, 1)}
    assert reading._rollout(given, existing) == (None, is_whole)
    found = reading._predictions(given, "u-1", existing)
    assert found == {"from": "topics", "whole": is_whole, "correctness": None, "time": {"n": 1}, "risk": None}


def test_risks_are_in_the_order_of_their_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """As consumers and the page have them: one that came later may hold as of earlier; of equal ones the later."""
    moments = ("2026-03-01T12:00:00.500000Z", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.500000Z", None)
    said: list[dict[str, Any]] = [
        {"n": n, "produced_at": "2026-02-01T00:00:00Z", **({} if as_of is None else {"as_of": as_of})}
        for n, as_of in enumerate(moments)
    ]
    records = [Record("", 0, n, b"u-1", json.dumps(each).encode(), 0.0) for n, each in enumerate(said)]
    looked: list[int] = []

    def tail(_: object, froms: dict[tuple[str, int], int], *_key: object) -> tuple[list[Record], bool]:
        looked.extend(froms.values())
        return records, True

    monkeypatch.setattr(reading, "tail", tail)
    monkeypatch.setattr(reading, "starts", lambda _, places: dict.fromkeys(places, 0))
    monkeypatch.setattr(reading, "ends", lambda _, places, **_more: dict.fromkeys(places, 30_000))
    existing = {f"predictions.{kind}": topics.Existing(1, 1) for kind in ("time", "risk")}
    found = reading._predictions(Settings(), "u-1", existing)
    assert (found["time"]["n"], found["risk"]["n"]) == (3, 2)
    # The last that came is near the end; the latest risk may be farther back.
    assert looked == [29_000, 10_000]


@pytest.mark.parametrize("command", ["inspect", "erase", "pseudonym"])
@pytest.mark.parametrize(("user", "why"), [("\udcff", r" in UTF-8, found '\udcff'"), (" ", ", found an empty one")])
def test_an_id_that_no_event_can_have_is_one_sentence(command: str, user: str, why: str) -> None:
    """Bytes of a terminal that are no text, and none: before anything is asked of a broker."""
    done = CliRunner().invoke(main, [command, user])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"stream: expected a user id{why}\n"


def test_an_erased_user_is_told_as_such() -> None:
    """The marker keeps nothing but what has been seen; who comes back is erased no more."""
    core = core_of_one()
    records = codec.decode_learners([core.learners["u-1"]], core.remembered)
    marker = codec.encode_learners(learner.erased(records, 7))[0]
    found = described(Stored(marker, None), None, core.remembered)
    assert found["erased"] is True
    assert found["seen"] == {"interactions": 14, "academics": None, "erasures": 7}
    whole = {"user_id": "u-1", "partition": 0, "partitions": 4, "predictions": None} | found
    assert " ".join(shown(whole)[-1].split()) == "history erased: nothing is kept but what has been seen"
    # The academic record has not seen the erasure.
    assert described(Stored(marker, core.academics["u-1"]), None, core.remembered)["erased"] is False


def test_the_record_that_has_seen_most_counts() -> None:
    """As in recovery: an erasure before all, then the offset, then the later; none for nobody."""
    decode = partial(codec.decode_learners, remembered=100)

    def value(erasure: int, seen: int, answered: int) -> bytes:
        record = learner.new_learners(1, 100)
        record["erasure_seen"], record["seen"], record["answers"] = erasure, seen, answered
        return codec.encode_learners(record)[0]

    older, newer, again = value(-1, 4, 1), value(-1, 9, 2), value(-1, 9, 3)
    assert latest([newer, older], decode, SEEN) == newer
    assert latest([newer, again], decode, SEEN) == again
    assert latest([value(2, 1, 0), newer], decode, SEEN) == value(2, 1, 0)
    assert latest([], decode, SEEN) is None


def test_an_offset_of_zero_has_been_seen() -> None:
    """The first record of a partition is one; only a negative offset is none."""
    record = learner.new_learners(1, 100)
    record["seen"] = 0
    found = described(Stored(codec.encode_learners(record)[0], None), None, 100)
    assert found["seen"] == {"interactions": 0, "academics": None, "erasures": None}


def test_names_that_were_never_met_are_shown_as_keys() -> None:
    """The changelog of names may have been cut: the record is told all the same."""
    core = core_of_one()
    core.names = []
    found = portrait(core)
    assert found["topics"][0]["name"] == f"{learner.key64('angles'):016x}"


def test_the_text_is_short_and_fits() -> None:
    """At most ten answers, eight topics; each line is a fact, and what a sender wrote moves no terminal."""
    core = Core()
    topics = [f"topic-{n % 12}" for n in range(30)]
    core.feed(placed([interaction(at_s=60.0 * n, topic_id=topic) for n, topic in enumerate(topics)]))
    lines = shown(portrait(core, user_id="evil\x1b[2J\nname"))
    assert lines[0] == "user evil\ufffd[2J\ufffdname, partition 2 of 4"
    assert "  answers (latest 10 of 30)" in lines
    assert sum(" right topic-" in line for line in lines) == 10
    assert sum(line.startswith("    topic-") for line in lines) == 16
    assert max(map(len, lines)) <= 80


def test_predictions_are_told_in_a_line_each() -> None:
    """What was said last, by which model, from where; what was not found is said to be missing."""
    model = {"name": "knowledge", "version": 7, "variant": "champion"}
    said = {"produced_at": "2026-03-01T12:00:00Z", "model": model, "fallback": False}
    target = {"topic_id": "angles", "item_id": None, "difficulty": "hard"}
    predictions = {
        "from": "redis",
        "whole": True,
        "correctness": said | {"targets": [target | {"p_correct": 0.714}] * 6},
        "time": said | {"fallback": True, "targets": [target | {"p50": 21.4}]},
        "risk": None,
    }
    assert shown(portrait(core_of_one(), predictions=predictions))[-5:] == [
        "    correctness by knowledge version 7, 2026-03-01 12:00:00 UTC",
        "      angles/hard 71%, angles/hard 71%, angles/hard 71%",
        "    time by the fallback, 2026-03-01 12:00:00 UTC",
        "      angles/hard 21 s",
        "    risk: none found",
    ]
    factors = [{"feature": "absences", "contribution": 0.4}]
    risk = {"score": 0.61, "category": "High", "factors": factors, "as_of": "2026-02-28T09:30:00Z"}
    predictions["risk"] = said | risk
    assert shown(portrait(core_of_one(), predictions=predictions))[-2:] == [
        "    risk by knowledge version 7, as of 2026-02-28 09:30:00 UTC",
        "      High (0.61), absences +0.40",
    ]


def test_sizes_are_those_of_the_changelog() -> None:
    """In bytes, each table's; together within the 4 KiB of the design."""
    core = core_of_one()
    sizes = portrait(core)["size_bytes"]
    assert sizes == {"learners": len(core.learners["u-1"]), "academics": len(core.academics["u-1"])}
    assert sum(sizes.values()) <= 4096
    assert np.array(list(sizes.values())).all()
