"""`stream page` on a real broker: what it shows is what stands on the topics, whenever it was opened."""

import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

import numpy as np
import orjson
import pytest
from confluent_kafka import Producer

from stream.models.quality import auc, log_losses
from stream.page import feed
from stream.page.board import Standing
from stream.page.feed import Batch, Feed
from stream.page.shape import Snapshot
from stream.transport.clients import client_config
from stream.transport.outbox import KafkaOutbox
from tests.broker.kafka import KafkaServer
from tests.flow.system import PARTITIONS, WAIT_S, Message, System, answer, distinct
from tests.page.messages import example

pytestmark = pytest.mark.timeout(180)

GONE, USERS, EACH = "gone/ünï", ("ada", "bo", "cy", "di", "ed"), 30


def shown(system: System, page: str, enough: Callable[[Snapshot], bool], within_s: float = WAIT_S) -> Snapshot:
    """Return the first snapshot of a page that is as it should be."""
    deadline = time.monotonic() + within_s
    address = f"http://127.0.0.1:{system.ports[page]}/snapshots"
    snapshot: Snapshot | None = None
    with urllib.request.urlopen(address, timeout=within_s) as lines:
        for line in lines:
            if line.startswith(b"data: "):
                snapshot = orjson.loads(line[len(b"data: ") :])
                if snapshot is not None and enough(snapshot):
                    return snapshot
            assert time.monotonic() < deadline, f"{page} shows {snapshot}; {system.words()}"
    raise AssertionError(f"{page} has ended; {system.words()}")


def path_of(system: System, page: str, user: str) -> Message:
    """Return what a page says of a user, `error` if nothing."""
    address = f"http://127.0.0.1:{system.ports[page]}/users?id={quote(user, safe='')}"
    try:
        with urllib.request.urlopen(address, timeout=10) as found:
            path: Message = orjson.loads(found.read())
    except urllib.error.HTTPError as error:
        path = orjson.loads(error.read())
    return path


def of_user(user: str, number: int) -> tuple[str, Message]:
    """Return one answer of a user to one of several skills; who is right depends on both."""
    skill = ("fractions", "angles", "area")[number % 3]
    is_right = (number * 7 + len(user) * 3 + ord(user[0])) % 5 > 1
    return answer(user, number, topic_id=skill, item_id=f"{skill}-{number % 4}", correct=is_right)


def events() -> list[tuple[str, Message]]:
    """Return answers of all users in turn, what a school records of two, and an answer that cannot be read."""
    sent = [of_user(user, number) for number in range(EACH) for user in (*USERS, GONE)]
    for day in range(1, 5):
        recorded = {"type": "grade_recorded", "timestamp": f"2026-03-0{day}T12:00:00Z", "course_id": "c"}
        sent += [
            ("academics", recorded | {"event_id": f"{user}-{day}", "user_id": user, "assessment": f"a{day}",
                                      "score": score, "score_max": 100})
            for user, score in (("ada", 95), ("bo", 5))
        ]  # fmt: skip
    return [*sent, answer("ada", 99, score=3)]


def assert_is_what_the_topics_say(snapshot: Snapshot, system: System, page: str) -> None:
    """Hold a page against the topics, read whole; one user has been erased."""
    assert GONE not in orjson.dumps(snapshot).decode()
    assert path_of(system, page, GONE) == {
        "user_id": GONE, "answers": [], "mastery": {}, "risk": None, "forgotten": True,
    }  # fmt: skip
    counts = snapshot["totals"]
    names = ("training-examples", "predictions.correctness", "predictions.risk", "dead-letters")
    expected = counts["answers"] + counts["correctness"] + counts["risk"] + counts["dead_letters"]
    found = system.read(*names, until=lambda messages: len(messages) >= expected)
    data = [message.get("data", message) | {"_topic": message["_topic"]} for message in found]
    of = {name: [message for message in data if message["_topic"] == name] for name in names}
    examples = distinct([m for m in of["training-examples"] if m["type"] == "answer"], "example_id")
    assert (counts["answers"], counts["users"]) == (len(examples), len(USERS))
    assert counts["correctness"] == len(distinct(of["predictions.correctness"], "prediction_id")) == len(examples)
    assert counts["risk"] == len(distinct(of["predictions.risk"], "prediction_id"))
    assert (counts["dead_letters"], counts["fallbacks"]) == (1, len(examples))

    correct, p = np.array([m["correct"] for m in examples]), np.array([m["p_before"] for m in examples])
    quality = snapshot["quality"]
    assert quality["n"] == len(examples)
    assert quality["auc"] == pytest.approx(auc(correct, p), abs=1e-5)
    assert quality["logloss"] == pytest.approx(log_losses(correct, p).mean(), abs=1e-5)

    (letter,) = of["dead-letters"]
    places = {name: letter[name] for name in ("reason", "topic", "partition", "offset", "detail")}
    assert [{name: dead[name] for name in places} for dead in snapshot["dead"]] == [places]  # type: ignore[literal-required]

    latest = {m["user_id"]: m for m in sorted(of["predictions.risk"], key=lambda m: str(m["as_of"]))}
    latest.pop(GONE)
    categories = Counter(m["category"] for m in latest.values())
    assert snapshot["risk"]["categories"] == {name: categories[name] for name in ("Low", "Medium", "High", "Critical")}
    assert {user["user_id"]: user["score"] for user in snapshot["risk"]["users"]} == {
        user: m["score"] for user, m in latest.items()
    }

    said = {m["user_id"]: m for m in sorted(of["predictions.correctness"], key=lambda m: int(m["source"]["offset"]))}
    for user in USERS:
        path = path_of(system, page, user)
        mine = [m for m in examples if m["user_id"] == user]
        assert [
            (a["correct"], a["p_before"], a["p_fallback"], a["expected_s"], a["seconds"]) for a in path["answers"]
        ] == [
            (m["correct"], m["p_before"], m["p_before_fallback"], m["median_before"], m["response_time_seconds"])
            for m in mine
        ]
        assert path["mastery"] == said[user]["mastery"]
    rows = {row["user_id"]: row["mastery"] for row in snapshot["heat"]["users"]}
    skills = snapshot["heat"]["skills"]
    assert rows == {user: [said[user]["mastery"].get(skill) for skill in skills] for user in USERS}
    # Of the whole curve too: the rate is of the last seconds, in which maybe nothing came.
    rate = snapshot["rate"]
    latency = [(p["p50_ms"], p["p99_ms"]) for p in snapshot["series"] if p["p50_ms"] is not None]
    assert latency
    if rate["latency_p50_ms"] is not None:
        latency.append((rate["latency_p50_ms"], rate["latency_p99_ms"]))
    assert all(0 < p50 <= (p99 or 0) for p50, p99 in latency)


TOTAL = EACH * (len(USERS) + 1)
RISKS = 8 + 2 * (len(USERS) + 1)
"""A prediction of each grade, and of each user one on the day of the answers and one when that week is over."""


def has_all(snapshot: Snapshot) -> bool:
    """Return whether a page has seen all that comes of the events."""
    counts, is_exact = snapshot["totals"], snapshot["quality"]["n"] == TOTAL
    found = (counts["answers"], counts["correctness"], counts["risk"], counts["dead_letters"])
    return found == (TOTAL, TOTAL, RISKS, 1) and is_exact


def test_the_page_shows_what_stands_on_the_topics(system: System) -> None:
    """What comes while it is open, as it comes; a user who is erased is gone at once."""
    system.start("page")
    system.start("worker")
    system.send(events())
    before = shown(system, "page", has_all)
    assert before["totals"]["users"] == len(USERS) + 1
    assert len(path_of(system, "page", GONE)["answers"]) == EACH
    assert path_of(system, "page", "nobody") == {"error": "nothing is known of 'nobody' here"}
    assert system.command("erase", GONE).returncode == 0
    after = shown(system, "page", lambda snapshot: snapshot["totals"]["users"] == len(USERS))
    assert_is_what_the_topics_say(after, system, "page")


@pytest.mark.parametrize("guarantee", ["exactly_once"])
def test_a_page_that_is_opened_later_shows_the_same(system: System) -> None:
    """What was said in the minutes before, in transactions and in envelopes too, but of nobody who was erased since."""
    system.options |= {"cloudevents": "structured"}
    system.start("worker")
    system.send(events())
    system.read("predictions.risk", until=lambda found: len(found) >= RISKS)
    system.read("predictions.time", until=lambda found: len(found) >= TOTAL)
    assert system.command("erase", GONE).returncode == 0
    system.start("page")
    late = shown(system, "page", has_all)
    assert late["state"] == "live"
    assert sum(point["answers_per_s"] for point in late["series"]) == TOTAL
    assert_is_what_the_topics_say(late, system, "page")


def test_the_page_comes_back_with_the_broker(system: System, kafka: KafkaServer) -> None:
    """While the broker is away the page says so and still answers; then it goes on where it was."""

    def send(number: int) -> None:
        outbox = system.outbox()
        outbox.send(system.settings.topic("training-examples"), key=b"u", value=example(number).value)
        outbox.flush_now()
        outbox.close()

    system.start("page")
    send(1)
    shown(system, "page", lambda snapshot: snapshot["totals"]["answers"] == 1 and snapshot["state"] == "live")
    try:
        kafka.stop()
        lost = shown(system, "page", lambda snapshot: snapshot["state"] == "lost")
        assert f"no Kafka broker answers at {kafka.bootstrap}" in (lost["note"] or "")
        assert len(path_of(system, "page", "u")["answers"]) == 1
    finally:
        kafka.start()
    shown(system, "page", lambda snapshot: snapshot["state"] == "live")
    send(2)
    shown(system, "page", lambda snapshot: snapshot["totals"]["answers"] == 2)
    assert system.processes["page"].is_running


def taken(reading: Feed, enough: Callable[[list[Batch]], bool]) -> list[Batch]:
    """Return what a feed hands over until it is enough."""
    batches: list[Batch] = []
    deadline = time.monotonic() + WAIT_S
    while not enough(batches):
        assert time.monotonic() < deadline, f"only {batches} came; {reading.standing}"
        batches += reading.poll()
    return batches


def test_what_is_older_comes_in_the_order_of_its_time(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the large topics the latest minutes, of risks and erasures a day, of models all; and never too much."""
    monkeypatch.setattr(feed, "_OLD", 40)
    settings, now = system.settings, time.time()
    producer = Producer(client_config(settings))

    def put(name: str, number: int, minutes: float) -> None:
        partition = number % PARTITIONS if name in feed.LARGE else 0
        timestamp = round(1000 * (now - 60 * minutes))
        producer.produce(settings.topic(name), b"{}", f"u{number}".encode(), partition, timestamp=timestamp)

    for name in ("training-examples", "predictions.correctness"):
        put(name, 77, 16)
    for number in range(20):
        put("training-examples", number, 14 - number / 2)
    for number in range(100):  # more than are read
        put("interactions", number, 14 - number / 10)
    for name, minutes in (("erasures", 23 * 60), ("predictions.risk", 25 * 60), ("model-events", 9 * 24 * 60)):
        put(name, 78, minutes)
    assert producer.flush(30) == 0
    reading = Feed(settings)
    try:
        batches = taken(reading, bool)
        records = [record for batch in batches for record in batch.records]
        assert reading.standing == Standing("live")
        assert [record.timestamp_s for record in records] == sorted(record.timestamp_s for record in records)
        assert Counter(record.topic for record in records) == {
            "training-examples": 20, "interactions": 40, "erasures": 1, "model-events": 1,
        }  # fmt: skip
        assert all(0 <= batch.at - record.timestamp_s <= 1 for batch in batches for record in batch.records)
        put("predictions.correctness", 79, 0)
        assert producer.flush(30) == 0
        (batch,) = taken(reading, bool)
        assert [record.key for record in batch.records] == [b"u79"]
        assert batch.at == pytest.approx(time.time(), abs=30)
    finally:
        reading.close()


def test_who_cannot_keep_up_goes_on_from_the_end(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was passed over is counted; of the small topics nothing is."""
    monkeypatch.setattr(feed, "_MOST_BEHIND", 300)
    monkeypatch.setattr(feed, "_LOOK_S", 0.0)
    settings, many = system.settings, 2_000
    reading = Feed(settings)
    outbox = KafkaOutbox(settings)
    try:
        taken(reading, lambda _: reading.standing.state == "live")
        monkeypatch.setattr(feed, "_BATCH", 20)
        for number in range(many):
            outbox.send(settings.topic("training-examples"), key=f"u{number}".encode(), value=b"{}")
        for number in range(50):
            outbox.send(settings.topic("dead-letters"), key=f"u{number}".encode(), value=b"{}")
        outbox.flush_now()

        def has_all(batches: list[Batch]) -> bool:
            found = Counter(record.topic for batch in batches for record in batch.records)
            return found["training-examples"] + reading.standing.skipped == many and found["dead-letters"] == 50

        batches = taken(reading, has_all)
        assert reading.standing.skipped > many / 2
        outbox.send(settings.topic("training-examples"), key=b"next", value=b"{}")
        outbox.flush_now()
        (batch,) = taken(reading, bool)
        assert [record.key for record in batch.records] == [b"next"]
        assert len({(r.topic, r.partition, r.offset) for b in batches for r in b.records}) == sum(
            len(b.records) for b in batches
        )
    finally:
        reading.close()
        outbox.close()


def test_what_the_page_needs_is_told_in_one_sentence(system: System) -> None:
    """A port that is taken, topics that are not there: what to type, and exit status 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = system.command("page", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in done.stderr
    assert "--port or STREAM_PAGE_PORT" in done.stderr
    done = system.command("page", topic_prefix="nothing-here-")
    assert done.returncode == 2
    assert "found no nothing-here-academics" in done.stderr
    assert "run `stream topics create`" in done.stderr
    assert "Traceback" not in done.stderr
