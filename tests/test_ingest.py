"""Ingest's transactions against a client that fails as told; on the real broker: `tests/flow/test_ingest.py`."""

import threading
from collections import Counter
from typing import Any

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.adapters.converter import Converter
from stream.agents import ingest
from stream.agents.ingest import AbortedError, Ingest
from stream.health import Health
from stream.ports import Record
from stream.settings import Settings
from stream.telemetry import Metrics, Silent
from stream.transport.outbox import KafkaOutbox
from tests.adapters.platforms import xapi_answer


class Client:
    """A transactional producer that keeps what it is told, and fails where it is to."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.calls: list[str] = []
        self.sent: list[tuple[str, bytes]] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails_at:
            raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))

    def begin_transaction(self) -> None:
        """Begin."""
        self._call("begin")

    def produce(self, topic: str, value: bytes, *_: Any, **__: Any) -> None:
        """Keep a message."""
        self.sent.append((topic, value))

    def send_offsets_to_transaction(self, positions: Any, *_: Any) -> None:
        """Keep where reading had come to."""
        self.positions = [(p.topic, p.partition, p.offset) for p in positions]
        self._call("offsets")

    def commit_transaction(self, *_: Any) -> None:
        """Commit."""
        self._call("commit")

    def abort_transaction(self, *_: Any) -> None:
        """Abort."""
        self._call("abort")

    def poll(self, *_: Any) -> int:
        """Do nothing."""
        return 0


class Told(Silent):
    """Keeps what was counted."""

    def __init__(self) -> None:
        self.counts: list[tuple[str, int, Counter[str], int]] = []

    def ingested(self, source: str, converted: int, ignored: Any, bad: int) -> None:
        """Keep the counts."""
        self.counts.append((source, converted, ignored, bad))


RECORDS = [
    Record("lms", 0, 7, None, orjson.dumps(xapi_answer("ada", 1)), 0.0),
    Record("lms", 0, 8, None, b"{", 0.0),
    Record("lms", 1, 3, None, None, 0.0),
]


def working() -> tuple[Ingest, Told]:
    """Return an ingest to which a partition has been assigned."""
    told = Told()
    made = Ingest(Settings(sources="lms=auto"), told, Health())
    made._converters = {"lms": Converter()}
    told.counts.clear()
    return made, told


def test_the_alarms_of_every_source_begin_at_0() -> None:
    """Before anything has been read of it: from nothing to 1 is no rise to Prometheus."""
    metrics = Metrics(100)
    Ingest(Settings(sources="lms=auto,sis=xapi"), metrics, metrics.health)
    for source in ("lms", "sis"):
        for outcome in ("converted", "ignored", "bad"):
            labels = {"source": source, "outcome": outcome}
            assert metrics.registry.get_sample_value("stream_source_events_total", labels) == 0


def write(made: Ingest, client: Any) -> None:
    """Write what becomes of the records."""
    made._write(made._convert(RECORDS), object(), client, KafkaOutbox(Settings(), client))


def test_events_dead_letters_and_positions_are_one_transaction() -> None:
    """In this order, and counted once they are safe."""
    (made, told), client = working(), Client()
    write(made, client)
    assert client.calls == ["begin", "offsets", "commit"]
    assert [topic for topic, _ in client.sent] == ["interactions", "dead-letters"]
    assert sorted(client.positions) == [("lms", 0, 9), ("lms", 1, 4)]
    assert told.counts == [("lms", 1, Counter(), 0), ("lms", 0, Counter(), 1), ("lms", 0, Counter(("tombstone",)), 0)]


@pytest.mark.parametrize("fails_at", ["begin", "offsets", "commit"])
def test_what_fails_is_aborted_and_not_counted(fails_at: str) -> None:
    """It is read again: by whoever has the partition then."""
    (made, told), client = working(), Client(fails_at)
    with pytest.raises(AbortedError):
        write(made, client)
    assert client.calls[-1] == "abort"
    assert told.counts == []


def test_a_client_that_does_not_come_back_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts again is better than one that waits for ever."""
    ended = threading.Event()
    monkeypatch.setattr(ingest, "stop_now", lambda error: ended.set())
    with ingest._ended_after(0.01):
        assert ended.wait(60)
    ended.clear()
    with ingest._ended_after(600):
        (timer,) = (t for t in threading.enumerate() if isinstance(t, threading.Timer) and t.interval == 600)
    timer.join(60)
    assert not timer.is_alive()
    assert not ended.is_set()
