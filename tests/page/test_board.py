"""What the page shows follows from the messages alone, each counted once, in whatever order partitions are read."""

from base64 import b64encode
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import TOPICS as CONTRACTS
from stream.emission import content
from stream.page import board, forgotten, people
from stream.page.board import REMEMBERED, TOPICS, Board, Standing
from stream.page.glance import glance, without_features
from stream.page.shape import Snapshot
from stream.page.window import MOST, Window
from stream.ports import Record
from tests.page.messages import (
    START,
    correction,
    correctness,
    correctness_value,
    dead_letter,
    erasure,
    event,
    example,
    record,
    risk,
    rollout,
    swapped,
)

LIVE = Standing("live")


def showing(records: Sequence[Record], *, window: int = 1_000, progress: tuple[int, str] | None = None) -> Board:
    """Return a board that has seen messages, all at one moment."""
    shown = Board("kafka:9092", "group", window, progress)
    shown.take(records, START)
    return shown


def look(shown: Board, at: float = START) -> Snapshot:
    """Return what a board shows, after the way to a browser."""
    snapshot: Snapshot = orjson.loads(orjson.dumps(shown.snapshot(at, LIVE)))
    return snapshot


def answered(number: int, user: str = "u", at: float = START, **fields: Any) -> list[Record]:
    """Return all that comes of an answer."""
    return [
        event(number, user, at), example(number, user, at + 0.1, **fields), correctness(number, user, at + 0.1),
    ]  # fmt: skip


def plain_auc(correct: Sequence[bool], p: Sequence[float]) -> float:
    """Return the share of pairs of a right and a wrong answer that are in order, ties counted half."""
    right = [x for x, is_right in zip(p, correct, strict=True) if is_right]
    wrong = [x for x, is_right in zip(p, correct, strict=True) if not is_right]
    return float(np.mean([(a > b) + (a == b) / 2 for a in right for b in wrong]))


def test_the_messages_of_these_tests_are_what_is_written() -> None:
    """Each fits the contract of its topic."""
    assert set(TOPICS) <= set(CONTRACTS)
    for written in (
        example(1), correction(1, correct=True), correctness(1), risk(1, 0.3), dead_letter(1), erasure(),
        swapped(1, 2, None), rollout(1, 2, 3),
    ):  # fmt: skip
        CONTRACTS[written.topic].adapter.validate_json(written.value or b"")


def test_each_message_counts_once() -> None:
    """What a worker sends again after it was killed changes nothing."""
    records = [r for number in range(20) for r in answered(number, f"u{number % 3}")]
    records += [risk(1, 0.3, "u1"), risk(2, 0.6, "u2", reason="week_closed"), dead_letter(1), dead_letter(2)]
    snapshot = look(showing([*records, *records]))
    assert snapshot["totals"] == {
        "answers": 20, "correctness": 20, "risk": 2, "dead_letters": 2, "fallbacks": 20, "users": 3,
    }  # fmt: skip
    assert (snapshot["broker"], snapshot["group"], snapshot["progress"]) == ("kafka:9092", "group", None)
    assert snapshot["rate"] == {"answers_per_s": 20.0, "latency_p50_ms": 100.0, "latency_p99_ms": 100.0}


def test_fallbacks_are_predictions_that_say_so() -> None:
    """A model's own do not count."""
    shown = showing([correctness(1), correctness(2, fallback=False), correctness(3, fallback=False)])
    assert look(shown)["totals"]["fallbacks"] == 1


def test_quality_is_what_anybody_computes_from_the_examples() -> None:
    """AUC, log loss, calibration and error of times over the latest answers of the window, and by version."""
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = [
        {
            "correct": bool(rng.random() < p), "p_before": round(float(p), 6),
            "p_before_fallback": round(float(rng.random()), 6), "median_before": round(float(rng.uniform(5, 30)), 3),
            "median_before_fallback": 15.0, "response_time_seconds": float(n) if n % 4 else None,
            "model": {"name": "knowledge", "version": n % 2, "variant": "champion"},
        }
        for n, p in enumerate(np.append(rng.random(159), 1.0))
    ]  # fmt: skip
    quality = look(showing([example(n, **row) for n, row in enumerate(rows)], window=100))["quality"]
    latest = rows[-100:]
    correct, p = [row["correct"] for row in latest], [row["p_before"] for row in latest]
    p_fallback = [row["p_before_fallback"] for row in latest]
    losses = [-np.log(x if right else max(1 - x, 1e-6)) for x, right in zip(p, correct, strict=True)]
    timed = [row for row in latest if row["response_time_seconds"] is not None]
    error = np.mean([abs(row["median_before"] - row["response_time_seconds"]) for row in timed])
    assert (quality["window"], quality["n"]) == (100, 100)
    assert quality["auc"] == pytest.approx(plain_auc(correct, p), abs=1e-6)
    assert quality["auc_fallback"] == pytest.approx(plain_auc(correct, p_fallback), abs=1e-6)
    assert quality["logloss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert quality["time_error_s"] == pytest.approx(error, abs=1e-5)
    fallback_error = np.mean([abs(15.0 - row["response_time_seconds"]) for row in timed])
    assert quality["time_error_fallback_s"] == pytest.approx(fallback_error, abs=1e-5)
    gaps = 0.0
    for number, found in enumerate(quality["calibration"]):
        inside = [i for i, x in enumerate(p) if min(int(x * 10), 9) == number]
        assert (found["from"], found["to"], found["n"]) == (number / 10, (number + 1) / 10, len(inside))
        assert found["said"] == pytest.approx(np.mean([p[i] for i in inside]), abs=1e-5)
        assert found["right"] == pytest.approx(np.mean([correct[i] for i in inside]), abs=1e-5)
        gaps += abs(sum(p[i] - correct[i] for i in inside)) / 100
    assert quality["ece"] == pytest.approx(gaps, abs=1e-5)
    assert [(of["version"], of["n"]) for of in quality["versions"]] == [(0, 50), (1, 50)]
    ones = [i for i, row in enumerate(latest) if row["model"]["version"] == 1]
    assert quality["versions"][1]["auc"] == pytest.approx(
        plain_auc([correct[i] for i in ones], [p[i] for i in ones]), abs=1e-6
    )


def test_without_answers_nothing_is_known() -> None:
    """All figures are null, none is made up; where all answers are right there is no AUC."""
    nothing = look(showing([]))
    assert [nothing["quality"][name] for name in ("auc", "logloss", "ece", "time_error_s")] == [None] * 4
    assert nothing["rate"] == {"answers_per_s": 0.0, "latency_p50_ms": None, "latency_p99_ms": None}
    assert (nothing["series"], nothing["heat"]["users"], nothing["risk"]["users"]) == ([], [], [])
    right = look(showing([example(n, correct=True) for n in range(3)]))["quality"]
    assert right["auc"] is None
    assert right["logloss"] == pytest.approx(-np.log(0.625), abs=1e-5)


def test_a_correction_changes_the_path_and_the_figures() -> None:
    """As soon as an outcome is put right, all is as if it had been so from the beginning."""
    rows = [example(n, correct=n != 2, p_before=0.1 * n) for n in range(1, 9)]
    right = showing([example(n, correct=True, p_before=0.1 * n) for n in range(1, 9)])
    put_right = showing([*rows, correction(2, correct=True)])
    assert look(put_right)["quality"] == look(right)["quality"]
    assert put_right.user("u") == right.user("u")
    assert look(showing(rows))["quality"] != look(right)["quality"]


def test_the_correction_of_an_answer_that_has_left_changes_no_other() -> None:
    """The window holds the latest; what comes too late for one of before is for its path alone."""
    rows = [example(n, correct=False) for n in range(4)]
    left = showing([*rows, correction(0, correct=True), correction(77, correct=True)], window=2)
    assert look(left)["quality"] == look(showing(rows, window=2))["quality"]


def test_a_users_path_is_what_the_examples_say() -> None:
    """Each answer with what was said before it, the oldest first; the latest 100; mastery of the latest prediction."""
    records = [example(n, p_before=n / 1_000, item_id=None if n == 104 else f"i{n}") for n in range(105)]
    records += [correctness(103, mastery={"fractions": 0.1}), correctness(104, mastery={"fractions": 0.9, "area": 0.4})]
    path = showing(records).user("u")
    assert path is not None
    assert [answer["p_before"] for answer in path["answers"]] == [n / 1_000 for n in range(5, 105)]
    assert path["answers"][-1] == {
        "at": 1_772_431_200.12, "topic_id": "fractions", "item_id": None, "skills": ["fractions"], "difficulty": "easy",
        "correct": True, "p_before": 0.104, "p_fallback": 0.5, "seconds": 12.5, "expected_s": 10.0, "version": 0,
    }  # fmt: skip
    assert path["mastery"] == {"fractions": 0.9, "area": 0.4}
    assert (path["risk"], path["forgotten"]) == (None, False)
    assert showing(records).user("somebody") is None


def test_the_map_shows_who_is_active_by_what_is_practised_most() -> None:
    """Skills by how often they are practised, users by when they were active; null where nothing is said."""
    records = [example(n, f"u{n}", skills=["area", "angles"] if n % 3 else ["angles"]) for n in range(20)]
    records += [correctness(n, f"u{n}", mastery={"area": n / 100}) for n in range(20)]
    snapshot = look(showing([*records, example(99, "u19")]))
    assert snapshot["heat"]["skills"] == ["angles", "area", "fractions"]
    rows = snapshot["heat"]["users"]
    assert [row["user_id"] for row in rows] == [f"u{n}" for n in range(19, 3, -1)]
    assert rows[0] == {"user_id": "u19", "answers": 2, "mastery": [None, 0.19, None]}
    assert snapshot["active"] == [f"u{n}" for n in range(19, 7, -1)]
    assert look(showing([correctness(1, "unanswered")]))["heat"]["users"] == []


def test_a_row_of_the_map_stays_while_its_user_is_active() -> None:
    """Others only come in where somebody has been silent for half a minute; the order of rows stays."""
    shown = showing([example(n, f"u{n}") for n in range(16)])
    first = [row["user_id"] for row in look(shown)["heat"]["users"]]
    shown.take([example(100 + n, f"new{n}") for n in range(20)], START + 5)
    assert [row["user_id"] for row in look(shown, START + 5)["heat"]["users"]] == first
    shown.take([example(200, "u3"), example(201, "late")], START + 40)
    later = [row["user_id"] for row in look(shown, START + 40)["heat"]["users"]]
    assert later.index("u3") == first.index("u3")
    assert {"late", "new19"} < set(later)
    assert {*first} & {*later} == {"u3"}
    assert [row["user_id"] for row in look(shown, START + 400)["heat"]["users"]].count("u3") == 1


def test_risk_is_the_latest_of_each_user_whose_course_goes_on() -> None:
    """By the moment for which it holds; an outcome ends it, and what comes late does not bring it back."""
    records = [
        risk(1, 0.3, "a", day=3), risk(2, 0.9, "a", day=5), risk(3, 0.1, "a", day=4),
        risk(4, 0.8, "b", day=3), risk(5, 0.8, "b", day=6, outcome="withdrawn"), risk(6, 0.2, "b", day=5),
        risk(7, 0.6, "c", day=3), risk(8, 0.55, "c", day=4), risk(9, 0.1, "d", reason="week_closed"),
    ]  # fmt: skip
    shown = showing(records)
    found = look(shown)["risk"]
    assert found["categories"] == {"Low": 1, "Medium": 0, "High": 1, "Critical": 1}
    assert [(user["user_id"], user["category"], user["before"]) for user in found["users"]] == [
        ("a", "Critical", "Medium"), ("c", "High", None), ("d", "Low", None),
    ]  # fmt: skip
    assert found["users"][0] == {
        "user_id": "a", "score": 0.9, "category": "Critical", "before": "Medium", "as_of": 1_772_704_800.0,
        "version": 3, "reason": "academics",
        "factors": [{"feature": "missing", "contribution": 1.27, "value": 2.0}],
    }  # fmt: skip
    path = shown.user("a")
    assert path is not None
    assert (path["risk"], path["answers"]) == (found["users"][0], [])
    assert shown.user("b") is None
    again = showing([*records, risk(10, 0.4, "b", day=20)])
    assert look(again)["risk"]["categories"]["Medium"] == 1
    said_twice = look(showing([*records, risk(10, 0.7, "a", day=5)]))["risk"]["users"][0]
    assert (said_twice["score"], said_twice["before"]) == (0.7, "Critical")


def test_an_erased_user_is_gone_at_once() -> None:
    """From the map, the lists, the letters and the path; what comes of older events, however late, changes nothing."""
    records = [r for n in range(3) for r in answered(n, "gone")] + answered(9, "stays")
    records += [risk(1, 0.9, "gone"), dead_letter(1, "gone"), dead_letter(2, "stays")]
    shown = showing([*records, erasure("gone", START + 1)])
    late = START + 9_000
    shown.take(
        [*answered(7, "gone", START + 1)[:1], *answered(7, "gone", late)[1:], risk(2, 0.9, "gone"),
         dead_letter(3, "gone", late), example(8, "gone", late)], late,
    )  # fmt: skip
    snapshot = look(shown, late)
    text = orjson.dumps(snapshot).decode()
    assert "gone" not in text
    assert "stays" in text
    assert snapshot["totals"]["users"] == 1
    assert (snapshot["totals"]["answers"], snapshot["totals"]["dead_letters"]) == (6, 3)
    path = shown.user("gone")
    assert path == {"user_id": "gone", "answers": [], "mastery": {}, "risk": None, "forgotten": True}


@pytest.mark.parametrize("prefix", ["", "a-"])
def test_who_was_erased_is_back_with_what_comes_of_newer_events(prefix: str) -> None:
    """A worker that is behind may still write of older ones in between: those stay forgotten."""
    shown = Board("b", "g", 100, prefix=prefix)

    def at(number: int, topic: str = "interactions") -> dict[str, Any]:
        return {"topic": prefix + topic, "partition": event(0, "ada").partition, "offset": number}

    shown.take([example(1, "ada", source=at(1)), erasure("ada", START + 1)], START + 1)
    shown.take([event(5, "ada", START + 2), event(6, "ada", START + 3), event(7, "bo", START + 4),
                erasure("ada", START - 60)], START + 4)  # fmt: skip
    shown.take([example(4, "ada", source=at(4)), correctness(4, "ada", source={"event_id": "e"} | at(4)),
                risk(4, 0.9, "ada", source=at(9, "academics")), dead_letter(4, "ada", **at(4))], START + 4)  # fmt: skip
    path = shown.user("ada")
    assert path is not None
    assert path["forgotten"]
    assert look(shown)["dead"] == []
    shown.take([example(5, "ada", source=at(5)), correctness(6, "ada", source={"event_id": "e"} | at(6)),
                event(3, "ada", START + 5, "academics"), risk(5, 0.4, "ada", source=at(3, "academics")),
                dead_letter(6, "ada", **at(6))], START + 5)  # fmt: skip
    path = shown.user("ada")
    assert path is not None
    assert (len(path["answers"]), path["mastery"], path["forgotten"]) == (1, {"fractions": 0.75}, False)
    assert path["risk"] is not None
    assert path["risk"]["score"] == 0.4
    assert [dead["offset"] for dead in look(shown)["dead"]] == [6]
    shown.take([erasure("ada", START + 10), example(8, "ada", source=at(8))], START + 10)
    again = shown.user("ada")
    assert again is not None
    assert again["forgotten"]


@pytest.mark.parametrize("user", ["alice", "gone/\u00fcn\u00ef", "al'ice", 'a"b\\c', "two words"])
@pytest.mark.parametrize("is_late", [False, True])
def test_letters_under_other_keys_name_no_erased_user(user: str, is_late: bool) -> None:
    """A key that is not the event's user is told with both ids: a letter that says an erased one goes."""
    quoted = f"key: expected the event's user_id {user.encode()!r}, found b'bob'; the producer must set it"
    value = orjson.dumps({"user_id": user, "topic_id": "t"})[:-3]  # cut
    letters = [
        dead_letter(1, "bob", detail=quoted),
        dead_letter(2, "bob", detail="no such field", value=b64encode(value).decode()),
        dead_letter(3, "bob", detail=f"expected a skill, found {user!r}"),
        dead_letter(4, "bob", detail="expected a number, found 'alic'"),
    ]
    wish = erasure(user, START + 1)
    shown = showing([wish, *letters] if is_late else [*letters, wish])
    snapshot = look(shown)
    assert [dead["offset"] for dead in snapshot["dead"]] == [4]
    assert snapshot["totals"]["dead_letters"] == 4


def test_a_takeover_is_known_again_after_what_others_did_meanwhile() -> None:
    """A killed worker's partitions move after ten seconds, in which others go on at 5,000 a second."""
    taken_over = [r for n in range(50) for r in answered(n)[1:]]
    shown = showing([*taken_over, *(correctness(n, p_before=0.5) for n in range(1_000, 51_000)), *taken_over])
    assert look(shown)["totals"]["correctness"] == 50_050
    assert REMEMBERED > MOST


def test_an_answer_that_came_twice_is_put_right_where_it_stands_last() -> None:
    """Also when the place of before has been taken by another."""
    window = Window(100)
    for number in (1, 2, 1, *range(3, 101)):
        window.add(str(number), False, 0.5, 0.5, None, 1.0, 1.0, 0)
    before = window.changes
    window.correct("1", True)
    assert window.changes == before + 1
    assert sum(bin_["n"] * (bin_["right"] or 0) for bin_ in window.quality()["calibration"]) == pytest.approx(1)


def test_a_structured_cloud_event_is_the_same_prediction() -> None:
    """An envelope around the value changes nothing."""
    for plain in (correctness(1), risk(1, 0.6)):
        envelope = {"specversion": "1.0", "type": "t", "source": "/s", "datacontenttype": "application/json",
                    "id": "id", "time": "2026-03-02T06:00:00Z", "data": orjson.loads(plain.value or b"")}  # fmt: skip
        structured = record(plain.topic, envelope)
        assert look(showing([event(1), structured])) == look(showing([event(1), plain]))
        assert showing([structured]).user("u") == showing([plain]).user("u")


@given(texts=st.lists(st.text(min_size=1, max_size=20), min_size=3, max_size=3), offset=st.integers(0, 2**40))
def test_no_text_passes_for_a_field(texts: list[str], offset: int) -> None:
    """Whatever ids and skills are called, the beginning of a prediction is read as decoding it would."""
    user, skill, event_id = texts
    place = {"event_id": f'{event_id}","offset":7,"partition":9', "topic": "t", "partition": 3, "offset": offset}
    names = {f'{skill}","fallback":true,"prediction_id":"x': 0.5, "offset": 0.25, "partition": 0.125}
    value = correctness_value(1, user + '"offset":5', source=place, mastery=names, fallback=False)
    for raw in (orjson.dumps(value), orjson.dumps(value, option=orjson.OPT_INDENT_2)):
        assert glance(raw) == (b"correctness-1", 3, offset, False)


@pytest.mark.parametrize("raw", [b"", b"no JSON", b"[]", b"{}", b'"text"', b"null", b'{"type":"answer"}', b"\xff"])
@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic not in {"interactions", "academics"}])
def test_what_nobody_of_ours_wrote_is_passed_by(topic: str, raw: bytes) -> None:
    """The page goes on with the next message; tombstones are none."""
    shown = showing([record(topic, raw), record(topic, None), *answered(1)])
    assert look(shown)["totals"]["answers"] == 1
    assert shown.unreadable <= 1


@pytest.mark.parametrize(
    "bad",
    [
        example(1, p_before=-1), example(1, p_before=2.0), example(1, timestamp="soon"),
        risk(1, 0.3, "v")._replace(value=(risk(1, 0.3, "v").value or b"").replace(b"0.3", b'"high"')),
        correctness(1, mastery=["x"]), correctness(1, mastery={"x": "y"}),
        rollout(1, 2)._replace(value=b'{"name":"knowledge"}'),
    ],
)  # fmt: skip
def test_what_is_no_number_or_moment_ends_nothing(bad: Record) -> None:
    """The picture and the path are those of the other messages."""
    shown = showing([bad, example(5), risk(2, 0.9), risk(3, 0.2, "w")])
    snapshot = look(shown, START + 1)
    assert snapshot["quality"]["n"] in {1, 1 + (bad.topic == "training-examples")}
    assert [user["user_id"] for user in snapshot["risk"]["users"]] == ["u", "w"]
    path = shown.user("u")
    assert path is not None
    assert path["mastery"] == {}


@given(data=st.data())
def test_no_message_ends_the_page(data: st.DataObject) -> None:
    """Whatever a field holds, or that it is missing: the picture and the path are made as before."""
    good = [
        example(1), correction(1, correct=True), correctness(1), risk(1, 0.3), risk(2, 0.9), dead_letter(1),
        erasure("v"), swapped(1, 2, None), rollout(1, 2, 3), rollout(2, 2),
    ]  # fmt: skip
    bad = data.draw(st.sampled_from(good))
    value = orjson.loads(bad.value or b"")
    inside: Any = value
    name = data.draw(st.sampled_from(sorted(value)))
    while isinstance(inside[name], dict) and inside[name] and data.draw(st.booleans()):
        inside = inside[name]
        name = data.draw(st.sampled_from(sorted(inside)))
    junk = data.draw(st.sampled_from([..., None, True, -1, 7, 1e300, "", "x", [], [None], ["x"], {}, {"x": "y"}]))
    if junk is ...:
        del inside[name]
    else:
        inside[name] = junk
    shown = showing([example(5), correctness(5), bad._replace(value=orjson.dumps(value)), *good, example(2)])
    snapshot = look(shown, START + 1)
    assert snapshot["totals"]["answers"] >= 2
    orjson.dumps(shown.user("u"))


@given(st.randoms(use_true_random=False))
def test_the_order_of_partitions_does_not_matter(random: Any) -> None:
    """Each partition comes in its order, and they in any among each other: what is shown is the same."""
    parts: list[list[Record]] = []
    for user in ("a", "b", "c"):
        numbers = range(ord(user) * 100, ord(user) * 100 + 6)
        parts += [
            [event(n, user, START + n % 7) for n in numbers],
            [example(n, user, p_before=n % 100 / 10) for n in numbers] + [correction(numbers[1], user, correct=True)],
            [correctness(n, user, START + n % 7 + n % 3, mastery={"fractions": n % 10 / 10}) for n in numbers],
            [risk(n, n % 10 / 10, user, day=1 + n * 7 % 20) for n in numbers],
        ]
    parts += [[dead_letter(1, "c")], [erasure("c", START + 50)], [swapped(1, 2, None)], [rollout(1, 2, 3)]]
    in_turn = [r for part in parts for r in part]
    mixed = []
    left = [list(part) for part in parts]
    while left:
        part = random.choice(left)
        mixed.append(part.pop(0))
        left = [part for part in left if part]
    one, other = showing(in_turn), showing(mixed)
    a, b = look(one), look(other)
    same = ("totals", "rate", "swaps", "models", "risk", "dead")
    assert {name: value for name, value in a.items() if name in same} == {
        name: value for name, value in b.items() if name in same
    }
    measured = ("n", "auc", "logloss", "ece", "time_error_s", "auc_fallback", "logloss_fallback")
    assert {name: value for name, value in a["quality"].items() if name in measured} == pytest.approx(
        {name: value for name, value in b["quality"].items() if name in measured}
    )
    assert {row["user_id"]: row for row in a["heat"]["users"]} == {row["user_id"]: row for row in b["heat"]["users"]}
    for user in ("a", "b", "c"):
        assert one.user(user) == other.user(user)


def test_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users who were active longest ago make room, by their number and by their answers; what is kept stays right."""
    monkeypatch.setattr(people, "MOST_USERS", 50)
    monkeypatch.setattr(people, "MOST_ANSWERS", 120)
    monkeypatch.setattr(people, "MOST_SKILLS", 10)
    monkeypatch.setattr(people, "MOST_RISKS", 30)
    monkeypatch.setattr(board, "_MOST_USERS_COUNTED", 90)
    monkeypatch.setattr(forgotten, "MOST", 5)
    shown = showing([])
    for n in range(100):
        many = 10 if n % 10 == 0 else 1
        records = [example(100 * n + k, f"u{n}", skills=[f"s{n}", "all"]) for k in range(many)]
        shown.take([*records, risk(n, 0.5, f"u{n}"), dead_letter(n), erasure(f"e{n}")], START)
    kept = [n for n in range(100) if (path := shown.user(f"u{n}")) is not None and path["answers"]]
    assert kept == list(range(100 - len(kept), 100))
    assert 40 <= len(kept) <= 50
    snapshot = look(shown)
    assert sum(snapshot["risk"]["categories"].values()) == 30
    assert snapshot["heat"]["skills"][0] == "all"
    assert len(shown._people._practised) <= 10
    assert (len(snapshot["dead"]), snapshot["totals"]["users"]) == (5, 90)
    assert [n for n in range(100) if shown.user(f"e{n}")] == list(range(95, 100))
    shown.take([example(20_000 + k, f"big{k // 60}") for k in range(240)], START)
    paths = [shown.user(f"big{number}") for number in range(4)]
    assert [len(path["answers"]) for path in paths if path is not None] == [60, 60]


def test_risks_that_were_said_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of users who were heard of first."""
    monkeypatch.setattr(people, "MOST_RISKS", 3)
    records = [risk(n, 0.5, user, day=1 + n) for n, user in enumerate("abcad")]
    assert {user["user_id"] for user in look(showing(records))["risk"]["users"]} == {"a", "c", "d"}


def test_who_answers_much_pushes_out_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is what is kept: of one user 100 answers."""
    monkeypatch.setattr(people, "MOST_ANSWERS", 120)
    shown = showing([*(example(n, "calm") for n in range(20)), *(example(100 + n, "busy") for n in range(500))])
    paths = [shown.user(user) for user in ("calm", "busy")]
    assert [len(path["answers"]) for path in paths if path is not None] == [20, 100]


def test_a_window_keeps_no_more_than_it_shows() -> None:
    """A wish for more than can be looked at twice a second is not fulfilled, and the page says so."""
    assert Window(1_000_000).size == Window(1_000_000).quality()["window"] == 20_000


def test_the_five_latest_dead_letters_are_shown() -> None:
    """Why, and where they stand."""
    dead = look(showing([dead_letter(n) for n in range(7)]))["dead"]
    assert [letter["offset"] for letter in dead] == [2, 3, 4, 5, 6]
    assert dead[0] == {"at": 1_772_431_200.0, "reason": "invalid_event", "topic": "interactions", "partition": 2,
                       "offset": 2, "detail": "score: expected at most 1, found 3"}  # fmt: skip


def test_a_demo_is_over_when_all_has_come_and_nothing_more_does() -> None:
    """It goes on as soon as somebody sends an event of their own; more than all is not counted."""
    shown = showing([example(n) for n in range(3)], progress=(4, "answers"))
    assert look(shown, START + 60)["state"] == "live"
    shown.take([example(3)], START + 60)
    assert look(shown, START + 61)["state"] == "live"
    over = look(shown, START + 63)
    assert (over["state"], over["progress"]) == ("ended", {"done": 4, "total": 4, "what": "answers"})
    assert over["note"] == "all of the demo's 4 answers are predicted; what you send yourself is shown too"
    shown.take([example(4)], START + 70)
    again = look(shown, START + 71)
    assert (again["state"], again["note"], again["progress"]) == ("live", None, over["progress"])
    lost = shown.snapshot(START + 90, Standing("lost", "no broker", 7))
    assert (lost["state"], lost["note"], lost["skipped"]) == ("lost", "no broker", 7)


def test_a_demo_without_answers_counts_academic_events() -> None:
    """A folder of a university's records holds none."""
    shown = showing([risk(1, 0.1), risk(2, 0.1, reason="week_closed")], progress=(5, "academic events"))
    assert look(shown)["progress"] == {"done": 1, "total": 5, "what": "academic events"}


def test_figures_are_made_anew_at_most_twice_a_second() -> None:
    """However often somebody looks; the last look of a demo is exact."""
    shown = showing([example(0)], progress=(9, "answers"))
    assert look(shown)["quality"]["n"] == 1
    shown.take([example(n) for n in range(1, 9)], START + 0.1)
    assert look(shown, START + 0.2)["quality"]["n"] == 1
    assert look(shown, START + 0.7)["quality"]["n"] == 9


def test_each_second_that_is_over_is_a_point() -> None:
    """What came in it, and quality up to then."""
    shown = Board("b", "g", 100)
    for second, many in enumerate((3, 5, 0, 2)):
        records = [r for n in range(many) for r in answered(10 * second + n, at=START + second - 0.1)]
        shown.take(records, START + second + 0.5)
    series = look(shown, START + 4.2)["series"]
    assert [point["at"] for point in series] == [START + n for n in range(1, 5)]
    assert [point["answers_per_s"] for point in series] == [3, 5, 0, 2]
    assert [point["p50_ms"] for point in series] == [100, 100, None, 100]
    assert all(later["at"] - earlier["at"] == 1 for earlier, later in pairwise(series))
    assert series[-1]["auc"] == look(shown, START + 9)["quality"]["auc"]


@pytest.mark.parametrize("features", [[], [0.5], [0.5, -1e-07, 3.0]])
@pytest.mark.parametrize("topic_id", ["fractions", '"features":[', 'a "features":[1] b', "]", "features"])
@pytest.mark.parametrize("is_last", [False, True])
def test_an_example_is_read_without_its_features(features: list[float], topic_id: str, *, is_last: bool) -> None:
    """All else of it is as it was, whatever its texts hold and wherever the features stand."""
    fields = {"topic_id": topic_id, "features": features, "p_before": 0.25, "skills": ["a", "b]"]}
    if is_last:
        fields["features"] = fields.pop("features")
    for message in (fields, {"specversion": "1.0", "data": fields}):
        raw = orjson.dumps(message)
        assert content(without_features(raw)) == fields | {"features": []}
    assert without_features(b'{"type":"correction"}') == b'{"type":"correction"}'
