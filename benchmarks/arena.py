"""
One broker, and on it one system after another, each on topics of its own that hold the same events.

Predictions are timed by the broker, at the moment at which it appended them, so that nothing but the system and the
broker runs while one is measured.
"""

import os
import secrets
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient

from benchmarks import load, models
from benchmarks.environments import CACHE
from benchmarks.spec import JobName, Spec
from benchmarks.systems import System
from schemas import ModelRollout
from stream.models.artifacts import release
from stream.models.dkt import KNOWLEDGE
from stream.models.store import Store
from stream.settings import Settings
from stream.transport import rollout, topics
from stream.transport.outbox import KafkaOutbox
from tests.broker.kafka import KafkaServer, missing
from tests.broker.process import ServerError, ServerProcess

PARTITIONS = 4
WARM = (0.15, 0.35)
"""Shares of the predictions, the first ones, that are not timed: at least, and at most."""

_TIMEOUT_S = 180.0
_STOP_S = 20.0
_POLL_S = 0.2
_EOF = "_PARTITION_EOF"


@dataclass(frozen=True, slots=True)
class Stage:
    """
    What all runs share.

    Attributes:
        broker: Bootstrap servers.
        folder: For what systems write.
        store: The model store.
        artifact: The full job's model.
        core: The core job's model.
    """

    broker: str
    folder: Path
    store: Path
    artifact: Path
    core: Path


@dataclass(frozen=True, slots=True)
class Run:
    """
    What one system did.

    Attributes:
        events: How many it was given.
        seconds: From the first timed prediction to the last.
        rate: Timed predictions a second.
        cpu_s: Seconds of CPU of its process, from its start.
        resident_mb: Memory that it held at the end, in MB.
        predictions: On the topic, in all; each event has exactly one.
        messages: On all topics of outputs; None where they were not read.
        output_bytes: Of their keys and values, in all; None likewise.
        users: In its durable state; None likewise.
        p_correct: What was said of each event, by its id.
    """

    events: int
    seconds: float
    rate: float
    cpu_s: float
    resident_mb: float
    predictions: int
    messages: dict[str, int] | None
    output_bytes: int | None
    users: int | None
    p_correct: dict[str, float]


class BenchmarkError(Exception):
    """A system did not do the work; the message says what was missing."""


@contextmanager
def stage() -> Iterator[Stage]:
    """Give a running broker, with the models on disk."""
    problem = missing()
    if problem is not None:
        raise BenchmarkError(problem)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as name:
        folder = Path(name)
        store = folder / "models"
        artifact = models.make_full(store)
        core = models.make_core(folder / "core.onnx")
        server = KafkaServer(folder / "broker", password=secrets.token_hex(8))
        with (server.folder / "server.properties").open("a") as properties:
            properties.write("log.message.timestamp.type=LogAppendTime\n")
        with server:
            yield Stage(server.bootstrap, folder, store, artifact, core)


@contextmanager
def prepared(stage: Stage, system: System, job: JobName) -> Iterator[Spec]:
    """Give a system topics of its own, on which the model is announced; they are deleted afterwards."""
    prefix = f"{system.name.replace('_', '-')}-{job}-{secrets.token_hex(3)}-"
    folder = stage.folder / prefix
    folder.mkdir()
    model = stage.artifact if job == "full" else stage.core
    spec = Spec(
        stage.broker, prefix + "g", prefix, PARTITIONS, job, str(model), str(folder), exactly_once=system.exactly_once
    )
    settings = settings_of(stage, spec)
    topics.ensure(settings)
    outbox = KafkaOutbox(settings)
    champion = release(Store(str(stage.store)), KNOWLEDGE, models.VERSION)
    decided = ModelRollout(name=KNOWLEDGE, champion=champion, decided_at=datetime.now(UTC))
    rollout.announce(outbox, settings, decided)
    outbox.close()
    try:
        yield spec
    finally:
        admin = AdminClient({"bootstrap.servers": stage.broker})
        names = [name for name in admin.list_topics(timeout=10).topics if prefix in name]
        for deleted in admin.delete_topics(names).values():
            deleted.result()
        shutil.rmtree(folder, ignore_errors=True)


def settings_of(stage: Stage, spec: Spec) -> Settings:
    """Return the worker's settings that fit a spec's topics."""
    return Settings.model_validate(
        {
            "broker": spec.broker, "group": spec.group, "topic_prefix": spec.prefix,
            "partitions": spec.partitions, "model_store": stage.store,
        }
    )  # fmt: skip


class Measured(ServerProcess):
    """A system's process, of which the system tells what it has used."""

    def cpu_s(self) -> float:
        """Return the seconds of CPU that its threads have used, 0 once it has ended."""
        if self._process is None or not self.is_running:
            return 0.0
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def resident_mb(self) -> float:
        """Return the memory that it holds now, in MB of 10^6 bytes."""
        if self._process is None:
            return 0.0
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def running(system: System, spec: Spec) -> Iterator[Measured]:
    """Run a system; it is stopped in order if the block ends well, and killed if it does not."""
    process = Measured(system.name, system.command(spec), folder=Path(spec.folder))
    process.start(lambda: True, timeout_s=1)
    try:
        yield process
        with suppress(ServerError):  # a peer that does not stop on SIGTERM has been killed
            process.stop(timeout_s=_STOP_S)
    finally:
        process.kill()


def measure(stage: Stage, system: System, job: JobName, events: int, *, whole: bool) -> Run:
    """
    Let a system do a job on so many events, and see that it did all of it.

    Args:
        stage: What all runs share.
        system: Which one.
        job: Which one.
        events: How many.
        whole: Whether to read back all outputs and the durable state too, and not the predictions alone.

    Raises:
        BenchmarkError: If a prediction or a user is missing, or an event was predicted twice.
    """
    with prepared(stage, system, job) as spec:
        users = load.preload(stage.broker, spec.source, events)
        with running(system, spec) as process:
            await_predictions(spec, events, process)
            cpu_s, resident_mb = process.cpu_s(), process.resident_mb()
            time.sleep(system.settles_s)
        seen = Predictions.read(spec)
        if len(seen.p_correct) != events or seen.count != events:
            raise BenchmarkError(
                f"{system.name}, {job}: expected one prediction for each of {events} events, found {seen.count} "
                f"for {len(seen.p_correct)}; {log_of(process)}"
            )
        if seen.fallback:
            raise BenchmarkError(f"{system.name}, {job}: {seen.fallback} predictions are not the model's")
        durable = durable_users(spec) if whole else None
        if durable is not None and durable != users:
            raise BenchmarkError(f"{system.name}, {job}: expected the state of {users} users, found {durable}")
        messages, size = outputs(spec) if whole else (None, None)
        timed, seconds = timed_part(seen.appended_s)
        rate = timed / seconds
        return Run(events, seconds, rate, cpu_s, resident_mb, seen.count, messages, size, durable, seen.p_correct)


def timed_part(appended_s: list[float]) -> tuple[int, float]:
    """
    Return how many predictions are timed, and how long they took.

    Systems predict in bursts: it is timed from the end of one burst, the one before the longest pause in the part that
    may be left out, to the end of the last, so that no burst is counted without what it took.
    """
    at = np.sort(np.array(appended_s))  # (N,)
    first, last = int(WARM[0] * len(at)), int(WARM[1] * len(at))
    start = first + int(np.diff(at[first : last + 1]).argmax())
    return len(at) - 1 - start, float(at[-1] - at[start])


def await_predictions(spec: Spec, events: int, process: ServerProcess, settled_s: float = 1.5) -> None:
    """
    Return when so many predictions can be read, and none has come for a while.

    Raises:
        BenchmarkError: If the system ends, or nothing comes.
    """
    consumer = _reader(spec.broker)
    topic = spec.outputs["predictions.correctness"]
    partitions = [TopicPartition(topic, partition) for partition in range(spec.partitions)]
    found, moved_at = 0, time.monotonic()
    try:
        while True:
            ends = [_end(consumer, partition) for partition in partitions]
            if sum(ends) > found:
                found, moved_at = sum(ends), time.monotonic()
            # Markers of transactions take up offsets: the exact number is counted afterwards.
            if found >= events and time.monotonic() - moved_at >= settled_s:
                return
            if not process.is_running:
                raise BenchmarkError(f"{process.name} ended after {found} of {events} predictions; {log_of(process)}")
            if time.monotonic() - moved_at > _TIMEOUT_S:
                raise BenchmarkError(f"{process.name} stopped at {found} of {events} predictions; {log_of(process)}")
            time.sleep(_POLL_S)
    finally:
        consumer.close()


def _end(consumer: Consumer, partition: TopicPartition) -> int:
    """Return where a partition ends; 0 where the broker does not tell, as of a topic that it has just made."""
    try:
        return consumer.get_watermark_offsets(partition, timeout=10)[1]
    except KafkaException:
        return 0


def log_of(process: ServerProcess) -> str:
    """Return the last lines that a process wrote."""
    return "its log ends: " + "\n".join(process.log.read_text("utf-8", "replace").splitlines()[-15:])


@dataclass(slots=True)
class Predictions:
    """
    The correctness predictions of a run.

    Attributes:
        count: How many there are.
        fallback: How many of them the fallback made.
        appended_s: When the broker appended each, in no order.
        p_correct: What each said, by its event.
    """

    count: int
    fallback: int
    appended_s: list[float]
    p_correct: dict[str, float]

    @classmethod
    def read(cls, spec: Spec) -> "Predictions":
        """Read them all."""
        found = cls(0, 0, [], {})
        for message in read_whole(spec.broker, spec.outputs["predictions.correctness"]):
            prediction = orjson.loads(message.value() or b"")
            found.count += 1
            found.fallback += prediction.get("fallback", False)
            found.appended_s.append(message.timestamp()[1] / 1000)
            found.p_correct[prediction["source"]["event_id"]] = prediction["targets"][0]["p_correct"]
        return found


def read_whole(broker: str, topic: str) -> Iterator[KafkaMessage]:
    """Yield every committed message that stands on a topic."""
    consumer = _reader(broker)
    try:
        count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(count)])
        waiting = set(range(count))
        while waiting:
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    yield message
                elif error.name() == _EOF:
                    waiting.discard(message.partition() or 0)
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def _reader(broker: str) -> Consumer:
    return Consumer(
        {"bootstrap.servers": broker, "group.id": "benchmark", "enable.auto.commit": False,
         "isolation.level": "read_committed", "enable.partition.eof": True, "check.crcs": False, "log_level": 3}
    )  # fmt: skip


def outputs(spec: Spec) -> tuple[dict[str, int], int]:
    """Return how many messages stand on each topic of outputs, and the bytes of all their keys and values."""
    counts, size = {}, 0
    for name, topic in spec.outputs.items():
        sizes = [len(m.key() or b"") + len(m.value() or b"") for m in read_whole(spec.broker, topic)]
        counts[name] = len(sizes)
        size += sum(sizes)
    return counts, size


def durable_users(spec: Spec) -> int:
    """Return of how many users the state is durable: in the changelog, or in Bytewax's recovery store."""
    store = Path(spec.folder) / "recovery"
    if store.exists():
        users: set[str] = set()
        for path in store.glob("*.sqlite3"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                rows = database.execute("SELECT DISTINCT state_key FROM snaps WHERE step_id = 'bench.step'")
                users.update(key for (key,) in rows)
        return len(users)
    admin = AdminClient({"bootstrap.servers": spec.broker})
    names = [
        name for name in admin.list_topics(timeout=10).topics
        if spec.prefix in name and "changelog" in name and "academics" not in name and "names" not in name
    ]  # fmt: skip
    counts = [len({m.key() for m in read_whole(spec.broker, name) if m.value() is not None}) for name in names]
    return max(counts, default=0)


def median(values: list[float]) -> float:
    """Return the median, rounded to whole events a second."""
    return round(statistics.median(values))
