"""Foreign topics on the real broker: converted, re-keyed, exactly once, and predicted."""

import signal
from collections import Counter
from collections.abc import Iterable
from functools import partial
from operator import eq
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas import DeadLetter
from stream.adapters.pseudonym import pseudonym
from stream.ports import Record
from stream.transport.clients import client_config, producer_config
from stream.transport.partitioner import Partitioner
from tests.adapters.platforms import (
    INITIALIZED,
    caliper_answer,
    cloud_event,
    envelope,
    event_id,
    statement,
    xapi_answer,
)
from tests.flow.system import KILLED_S, PARTITIONS, System, await_effect, both_guarantees, prepare

Headers = list[tuple[str, str | bytes | None]]


def source(system: System, format_: str = "auto", **options: object) -> str:
    """Return the foreign topic of a system, which its workers are told of."""
    topic = f"{system.prefix}platform"
    system.options |= {"sources": f"{topic}={format_}", **options}
    system.create_topics()
    return topic


def put(
    system: System,
    topic: str,
    events: Iterable[object],
    headers: Headers | None = None,
    key: bytes | None = None,
    transactional_id: str | None = None,
) -> None:
    """Send a platform's events, without keys wherever the producer likes; in one transaction, if an id is given."""
    named = {} if transactional_id is None else {"transactional.id": transactional_id}
    producer = Producer(producer_config(system.settings) | named)
    if named:
        producer.init_transactions(30)
        producer.begin_transaction()
    for event in events:
        producer.produce(topic, orjson.dumps(event), key, headers=headers)
    if named:
        producer.commit_transaction(30)
    assert producer.flush(30) == 0


def mixed(users: int, answers: int) -> list[dict[str, Any]]:
    """Return answers of users, every other one by xAPI."""
    return [
        (xapi_answer if user % 2 else caliper_answer)(f"user{user}", number)
        for number in range(answers)
        for user in range(users)
    ]


def ours(system: System, count: int) -> list[Record]:
    """Return the interactions, when there are so many, as whoever reads what is committed sees them."""
    return system.records("interactions", until=lambda found: len(found) >= count)


def written(system: System, id_: str) -> dict[str, Any]:
    """Return the interaction of an id, when it is there."""
    records = system.records(
        "interactions", until=lambda found: any(id_.encode() in (record.value or b"") for record in found)
    )
    events: list[dict[str, Any]] = [orjson.loads(record.value or b"") for record in records]
    (event,) = [event for event in events if event["event_id"] == id_]
    return event


@both_guarantees
def test_a_topic_of_xapi_and_caliper_is_predicted(system: System) -> None:
    """
    Every answer once, under its user's key and partition, with the place that it came from in headers.

    The platform writes in transactions, whose markers stand behind the last record: they are neither lag nor due.
    """
    topic = source(system)
    system.start("worker")
    events = mixed(users=4, answers=10)
    put(system, topic, events, transactional_id=f"{system.prefix}platform")
    predicted = system.predictions("correctness", len(events))
    expected = {event["id"] for event in events}
    assert {prediction["source"]["event_id"] for prediction in predicted} == expected
    partition_of = Partitioner(PARTITIONS)
    for record in ours(system, len(events)):
        event, headers = orjson.loads(record.value or b""), dict(record.headers)
        assert record.key == event["user_id"].encode()
        assert record.partition == partition_of(event["user_id"].encode())
        assert headers["source_topic"] == topic.encode()
        assert headers["source_id"] == event["event_id"].encode()
        assert int(headers["source_partition"] or b"-1") in range(PARTITIONS)
        assert int(headers["source_offset"] or b"-1") >= 0
    # The platform's topic counts like our own, under its own name.
    await_effect(partial(system.is_through, "worker", 5))
    lags = system.samples("worker", "stream_lag_records")
    assert {labels for labels in lags if topic in labels} == {
        f'partition="{partition}",topic="{topic}"' for partition in range(PARTITIONS)
    }
    assert system.asked("worker", "/readyz") == (200, "ready\n")


def test_cloud_events_and_envelopes_are_opened(system: System) -> None:
    """Structured, binary, and Caliper's own envelope around several events."""
    topic = source(system)
    system.start("worker")
    put(
        system,
        topic,
        [cloud_event(xapi_answer("ada", 1)), envelope(caliper_answer("bob", 2), caliper_answer("bob", 3))],
    )
    put(system, topic, [xapi_answer("ada", 4)], [("ce_specversion", b"1.0"), ("ce_type", b"x"), ("ce_id", b"9")])
    said = {m["source"]["event_id"] for m in system.predictions("correctness", 4)}
    assert len(said) == 4


def test_what_is_bad_is_put_aside_and_the_rest_goes_on(system: System) -> None:
    """Each with its place, its bytes and the field that was wrong; what is no evidence is counted by kind."""
    topic = source(system)
    system.start("worker")
    bad = xapi_answer("bob", 1)
    del bad["actor"]["mbox"]
    login = statement("ada", 2, verb="https://w3id.org/xapi/adl/verbs/logged-in")
    put(system, topic, [bad, login, b"{".decode(), xapi_answer("ada", 3)])
    system.predictions("correctness", 1)
    records = system.records("dead-letters", until=lambda found: len(found) >= 2)
    letters = {letter.reason: letter for letter in (DeadLetter.model_validate_json(r.value or b"") for r in records)}
    assert letters.keys() == {"missing_field", "not_an_object"}
    assert letters["missing_field"].detail.startswith("actor")
    assert letters["missing_field"].topic == topic
    assert letters["missing_field"].value is not None
    system.await_metric("worker", 'stream_source_ignored_total{kind="logged-in"}', partial(eq, 1))
    system.await_metric("worker", f'stream_source_events_total{{outcome="bad",source="{topic}"}}', partial(eq, 2))


def test_no_event_is_lost_or_written_twice_when_workers_die(system: System) -> None:
    """Killed between any two instructions, thrice, while another joins: each event is on `interactions` once."""
    system.options["session_timeout_s"] = KILLED_S
    topic = source(system, batch_max=50)
    events = mixed(users=8, answers=150)
    system.start("worker", until="ingest.started")
    for turn in range(3):
        put(system, topic, events[turn * 400 : (turn + 1) * 400])
        if turn == 1:
            system.start("worker-2", until="ingest.started")
        ours(system, turn * 400 + 100)
        system.processes["worker"].kill()
        system.start("worker", until="ingest.started")
    records = ours(system, len(events))
    ids = Counter(orjson.loads(record.value or b"")["event_id"] for record in records)
    assert ids == Counter(event["id"] for event in events)
    said = {m["source"]["event_id"] for m in system.predictions("correctness", len(events))}
    assert said == {event["id"] for event in events}


def test_what_makes_our_own_code_raise_is_put_aside(system: System) -> None:
    """With its traceback; the rest of its batch goes on, and so does the process."""
    topic = source(system)
    prepare(
        system,
        "worker",
        "from stream.adapters import xapi\n"
        "right = xapi.convert\n"
        "def convert(event, carried):\n"
        "    if event['id'] == 'poison': raise ZeroDivisionError('of our own')\n"
        "    return right(event, carried)\n"
        "xapi.convert = convert",
    )
    system.start("worker", until="ingest.started")
    put(system, topic, [xapi_answer("ada", 1), xapi_answer("ada", 2) | {"id": "poison"}, xapi_answer("ada", 3)])
    assert len(ours(system, 2)) == 2
    (letter,) = system.records("dead-letters", until=lambda found: len(found) >= 1)
    read = DeadLetter.model_validate_json(letter.value or b"")
    assert (read.reason, read.topic) == ("processing_failed", topic)
    assert "ZeroDivisionError: of our own" in (read.traceback or "")


def test_what_was_opened_before_a_restart_is_remembered(system: System) -> None:
    """The time of an answer follows from its opening, though another process read that."""
    system.options["session_timeout_s"] = KILLED_S
    topic = source(system)
    system.start("worker")
    put(system, topic, [statement("ada", 0, verb=INITIALIZED, item=3), xapi_answer("ada", 1, item=1)], key=b"ada")
    written(system, event_id("ada", 1))
    system.processes["worker"].kill()
    system.start("worker", until="ingest.started")
    put(system, topic, [xapi_answer("ada", 2, item=3)], key=b"ada")
    answer = written(system, event_id("ada", 2))
    assert answer["duration_seconds"] == 120.0
    assert answer["metadata"]["duration_derived"] is True


def test_under_a_key_no_topic_of_ours_names_anybody(system: System) -> None:
    """Users are pseudonyms everywhere, dead letters keep a digest for the bytes, and erasing works by pseudonym."""
    key = "a secret of the school"
    topic = source(system, pseudonym_key=key)
    system.start("worker")
    bad = xapi_answer("bob", 9) | {"timestamp": "bob@school.example"}
    put(system, topic, [xapi_answer("ada", number) for number in range(5)] + [bad])
    predicted = system.predictions("correctness", 5)
    assert {m["user_id"] for m in predicted} == {pseudonym(key.encode(), "ada@school.example")}
    letters = system.records("dead-letters", until=lambda found: len(found) >= 1)
    everything = [*letters, *ours(system, 5), *system.records("training-examples", until=lambda found: len(found) >= 5)]
    for record in everything:
        written = b"".join([record.key or b"", record.value or b"", *(value or b"" for _, value in record.headers)])
        for personal in (b"ada@", b"bob@", b"Lovelace", b"school.example", b"free text"):
            assert personal not in written, record
    letter = DeadLetter.model_validate_json(letters[0].value or b"")
    assert (letter.value, letter.key, letter.headers) == (None, None, ())
    assert letter.value_bytes == len(orjson.dumps(bad))
    told = system.command("pseudonym", "ada@school.example", pseudonym_key=key)
    assert told.stdout.strip() == predicted[0]["user_id"]


def test_a_process_that_slept_is_not_heard(system: System) -> None:
    """Stopped in the midst of it, it wakes when another has its partitions: each event is there once all the same."""
    system.options["session_timeout_s"] = KILLED_S
    topic = source(system, batch_max=20)
    events = mixed(users=8, answers=100)
    process = system.start("ingest")
    put(system, topic, events[:600])
    ours(system, 60)
    process._signal(signal.SIGSTOP)
    system.start("ingest-2")
    ours(system, 600)
    process._signal(signal.SIGCONT)
    put(system, topic, events[600:])
    ids = Counter(orjson.loads(record.value or b"")["event_id"] for record in ours(system, len(events)))
    assert ids == Counter(event["id"] for event in events)


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(system: System) -> None:
    """Its offsets are not those of before, though they look alike."""
    topic = source(system)
    process = system.start("ingest")
    put(system, topic, mixed(users=2, answers=5))
    ours(system, 10)
    process.stop(timeout_s=20)
    admin = AdminClient(client_config(system.settings))
    admin.delete_topics([topic])[topic].result(30)
    await_effect(lambda: topic not in admin.list_topics(timeout=10).topics)
    system.create_topics()
    put(system, topic, mixed(users=4, answers=5))
    system.start("ingest")
    assert len({orjson.loads(record.value or b"")["event_id"] for record in ours(system, 30)}) == 20


def test_ingest_runs_alone(system: System) -> None:
    """As a process of its own, which ends when it is told to."""
    topic = source(system)
    process = system.start("ingest")
    put(system, topic, mixed(users=2, answers=5))
    assert len(ours(system, 10)) == 10
    process.stop(timeout_s=20)
    assert "ingest.ended" in system.log("ingest")


def test_sources_that_are_our_own_topics_are_refused(system: System) -> None:
    """Reading what we write would never end."""
    said = system.command("worker", sources=f"{system.settings.topic('interactions')}=auto")
    assert said.returncode == 2
    assert "STREAM_SOURCES: expected topics of other systems" in said.stderr


@pytest.mark.parametrize("sources", ["lms=html", "a topic=xapi", "lms=xapi,lms=caliper"])
def test_sources_that_say_nothing_are_told(system: System, sources: str) -> None:
    """One sentence, and the status of a user's mistake."""
    said = system.command("worker", sources=sources)
    assert said.returncode == 2
    assert said.stderr.startswith("stream: STREAM_SOURCES: ")
    assert "Traceback" not in said.stderr
