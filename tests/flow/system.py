"""The product as it is deployed: its own commands as processes on the real broker, and a consumer of what comes out."""

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from stream.demo.source import send
from stream.models.features import COLUMN
from stream.ports import Record
from stream.settings import Settings
from stream.transport import topics
from stream.transport.clients import consumer_config
from stream.transport.outbox import KafkaOutbox
from tests.broker.process import ServerProcess, free_ports

START_S, WAIT_S = 60.0, 90.0
KILLED_S = 8.0
"""Session of workers that are killed, whose partitions others wait for; that of all others outlasts any pause."""

both_guarantees = pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
PARTITIONS = 4

Message = dict[str, Any]


def text_of(value: object) -> str:
    """Return a setting's value as an environment variable has it."""
    return str(value)


@dataclass
class System:
    """
    Workers and a trainer of one test, on topics of its own.

    Attributes:
        folder: For logs and models.
        bootstrap: Of the broker.
        prefix: Of topics and group.
        options: Further settings of every process.
    """

    folder: Path
    bootstrap: str
    prefix: str
    options: dict[str, object] = field(default_factory=dict)
    processes: dict[str, ServerProcess] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The settings that all parts share."""
        return Settings.model_validate(
            {
                "broker": self.bootstrap,
                "group": self.prefix + "g",
                "topic_prefix": self.prefix,
                "partitions": PARTITIONS,
                "model_store": self.folder / "models",
                "buffer": self.folder / "buffer.sqlite",
                "risk_examples": self.folder / "risk-examples.sqlite",
                "session_timeout_s": 30.0,
                "fetch_max_wait_ms": 50,
                "commit_interval_s": 0.2,
                "publish_items_every_s": 0.3,
                # How fast a candidate is says nothing about it on a machine that does other work.
                "step_budget_ms": 10_000.0,
                "risk_step_budget_ms": 10_000.0,
            }
            | self.options
        )

    def create_topics(self) -> None:
        """Create every topic."""
        topics.ensure(self.settings)

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of one process."""
        values = self.settings.model_dump(exclude_defaults=True) | self.options
        port = self.ports.setdefault(name, free_ports(1)[0])
        values |= {"worker_metrics_port": port, "trainer_metrics_port": port, "page_port": port}
        return {f"STREAM_{key.upper()}": text_of(value) for key, value in values.items()}

    def start(self, name: str, *, until: str | None = None) -> ServerProcess:
        """Start `worker`, `worker-2`, `trainer` or `page`, and wait until it says that it runs (or says `until`)."""
        command = name.split("-", maxsplit=1)[0]
        variables = [f"{key}={value}" for key, value in self.environment(name).items()]
        process = self.processes.get(name) or ServerProcess(
            name, ["env", *variables, sys.executable, "-m", "stream.cli", command], folder=self.folder
        )
        self.processes[name] = process
        wanted = until or f"{command}.started"
        before = self.log(name).count(wanted)
        process.start(lambda: self.log(name).count(wanted) > before, timeout_s=START_S)
        return process

    def log(self, name: str) -> str:
        """Return what a process has logged."""
        path = self.folder / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def end(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes.values():
            process.kill()

    def outbox(self) -> KafkaOutbox:
        """Return a producer that gives nothing up within a minute, whatever the workers' session is."""
        return KafkaOutbox(self.settings.model_copy(update={"session_timeout_s": 60.0}))

    def send(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> int:
        """Send events, and return how many of them are answers."""
        settings, outbox, answers = self.settings, self.outbox(), 0
        for topic, event in events:
            send(outbox, settings.topic(topic), event)
            answers += event.get("type") == "quiz_complete"
        outbox.flush_now()
        return answers

    def command(self, *arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
        """Run one command of ours to its end, with the system's settings and these on top."""
        given = {f"STREAM_{key.upper()}": text_of(value) for key, value in options.items()}
        variables = [f"{key}={value}" for key, value in (self.environment("command") | given).items()]
        return subprocess.run(
            ["env", *variables, sys.executable, "-m", "stream.cli", *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip

    def records(self, *names: str, until: Callable[[list[Record]], bool], within_s: float = WAIT_S) -> list[Record]:
        """
        Return the raw messages of topics from their beginning, read until enough have come.

        Their `topic` is the catalog's name.

        Raises:
            AssertionError: If too little came in time.
        """
        settings = self.settings
        consumer = Consumer(consumer_config(settings, self.prefix + "reader"))
        found: list[Record] = []
        try:
            topics_of = {settings.topic(name): consumer.list_topics(settings.topic(name), timeout=10) for name in names}
            consumer.assign(
                [
                    TopicPartition(topic, partition, 0)
                    for topic, metadata in topics_of.items()
                    for partition in metadata.topics[topic].partitions
                ]
            )
            deadline = time.monotonic() + within_s
            while not until(found):
                assert time.monotonic() < deadline, (
                    f"only {len(found)} messages of {names} in {within_s} s; {self.words()}"
                )
                found += [
                    _record(message, settings.topic_prefix)
                    for message in consumer.consume(1_000, 0.1)
                    if message.error() is None
                ]
        finally:
            consumer.close()
        return found

    def read(self, *names: str, until: Callable[[list[Message]], bool], within_s: float = WAIT_S) -> list[Message]:
        """
        Return the messages of topics from their beginning, read until enough have come; see `records`.

        Each has its topic under `_topic` and its key under `_key`.
        """
        found: list[Message] = []
        taken = 0

        def enough(records: list[Record]) -> bool:
            nonlocal taken
            found.extend(_parsed(record) for record in records[taken:] if record.value is not None)
            taken = len(records)
            return until(found)

        self.records(*names, until=enough, within_s=within_s)
        return found

    def events(self, type_: str, count: int = 1, within_s: float = WAIT_S) -> list[Message]:
        """Return the messages of one type on `model-events`, at least so many."""

        def of_type(messages: list[Message]) -> list[Message]:
            return [message for message in messages if message["type"] == type_]

        return of_type(self.read("model-events", until=lambda found: len(of_type(found)) >= count, within_s=within_s))

    def words(self) -> str:
        """Return the latest lines of every log."""
        return "\n".join(f"--- {name}\n" + "\n".join(self.log(name).splitlines()[-12:]) for name in self.processes)

    def examples(self, count: int) -> list[Message]:
        """Return the training examples, at least this many different ones, one of an id."""
        return distinct(
            self.read("training-examples", until=lambda found: len({m["example_id"] for m in found}) >= count),
            "example_id",
        )

    def predictions(self, kind: str, count: int) -> list[Message]:
        """Return all predictions of a kind, as they came, once at least `count` different ones have."""
        return self.read(f"predictions.{kind}", until=lambda found: len({m["prediction_id"] for m in found}) >= count)

    def asked(self, name: str, path: str) -> tuple[int, str]:
        """Return the status and the text of what a process answers on its port of metrics."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=30) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def samples(self, name: str, metric: str) -> dict[str, float]:
        """Return the samples of one of a process's metrics, by their labels as they stand there."""
        rows = re.findall(rf"^{metric}(?:\{{(.*)\}})? (\S+)$", self.asked(name, "/metrics")[1], re.MULTILINE)
        return {labels: float(value) for labels, value in rows}

    def is_through(self, name: str, topics: int, prefix: str = "stream") -> bool:
        """Return whether a process knows of the partitions of so many topics, none with lag or with work to commit."""
        lags, ages = (self.samples(name, f"{prefix}_{what}") for what in ("lag_records", "commit_age_seconds"))
        return len(lags) == len(ages) >= topics * PARTITIONS and not any(lags.values()) and not any(ages.values())

    def metric(self, name: str, line: str) -> float:
        """Return a sample of a process's `/metrics`, 0 where it has none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/metrics", timeout=30) as page:
            for row in page.read().decode().splitlines():
                if row.startswith(line + " "):
                    return float(row.rsplit(" ", 1)[1])
        return 0.0

    def await_metric(self, name: str, line: str, enough: Callable[[float], bool], within_s: float = WAIT_S) -> float:
        """Return a sample as soon as it is as it should be."""
        deadline = time.monotonic() + within_s
        while not enough(value := self.metric(name, line)):
            assert time.monotonic() < deadline, f"{line} of {name} is {value} after {within_s} s; {self.words()}"
            time.sleep(0.1)
        return value


def _record(message: KafkaMessage, prefix: str) -> Record:
    return Record(
        topic=(message.topic() or "").removeprefix(prefix),
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=message.key(),
        value=message.value(),
        timestamp_s=message.timestamp()[1] / 1000,
        headers=_headers(message),
    )


def _headers(message: KafkaMessage) -> tuple[tuple[str, bytes | None], ...]:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return tuple((name, value.encode() if isinstance(value, str) else value) for name, value in pairs)


def _parsed(record: Record) -> Message:
    message: Message = orjson.loads(record.value or b"")
    return message | {"_topic": record.topic, "_key": (record.key or b"").decode()}


def distinct(messages: Iterable[Message], key: str) -> list[Message]:
    """Return the first message of each id."""
    first: dict[str, Message] = {}
    for message in messages:
        first.setdefault(message[key], message)
    return list(first.values())


def answers_before(example: Message) -> int:
    """Return how many answers the user had given, as the state knew when this one was predicted."""
    answers: float = example["features"][COLUMN["answers"]]
    return round(answers * 100)


def answer(user: str, number: int, **fields: Any) -> tuple[str, Message]:
    """Return one answer of a user, a minute after the one before."""
    return "interactions", {
        "event_id": f"{user}-{number}",
        "type": "quiz_complete",
        "user_id": user,
        "topic_id": "fractions",
        "item_id": f"item-{number % 7}",
        "correct": number % 3 != 0,
        "duration_seconds": 20.0,
        "timestamp": f"2026-03-01T{10 + number // 60 % 12:02d}:{number % 60:02d}:00Z",
    } | fields


def await_effect(is_so: Callable[[], bool], within_s: float = WAIT_S) -> None:
    """
    Return as soon as something is so.

    Raises:
        AssertionError: If it is not so in time.
    """
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {within_s} s in vain"
        time.sleep(0.1)


def prepare(system: System, name: str, patch: str = "", **options: object) -> ServerProcess:
    """Have `system.start(name)` run a worker that executes these lines first, with settings of its own."""
    given = {f"STREAM_{key.upper()}": text_of(value) for key, value in options.items()}
    variables = [f"{key}={value}" for key, value in (system.environment(name) | given).items()]
    code = f"{patch}\nfrom stream.cli import main\nmain(['worker'])\n"
    system.processes[name] = ServerProcess(name, ["env", *variables, sys.executable, "-c", code], folder=system.folder)
    return system.processes[name]


def exit_status(system: System, name: str, within_s: float = 45.0) -> int:
    """Return the exit status of a process that ends by itself."""
    process = system.processes[name]
    assert process._process is not None
    status = process._process.wait(within_s)
    process.kill()
    return status


def committed(system: System) -> dict[int, int]:
    """Return the group's committed offsets on `interactions`, by partition; 0 where there are none."""
    settings = system.settings
    consumer = Consumer(consumer_config(settings, settings.group))
    try:
        places = [TopicPartition(settings.topic("interactions"), p) for p in range(PARTITIONS)]
        return {place.partition: max(place.offset, 0) for place in consumer.committed(places, timeout=10)}
    finally:
        consumer.close()


def ends(system: System, topic: str) -> dict[int, int]:
    """Return where the partitions of a topic end, by its name on the broker."""
    consumer = Consumer(consumer_config(system.settings, system.prefix + "reader"))
    try:
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p))[1] for p in range(PARTITIONS)}
    finally:
        consumer.close()


def await_committed(system: System) -> dict[int, int]:
    """Return the committed offsets once they are the ends of the source topic."""
    wanted = ends(system, system.settings.topic("interactions"))
    await_effect(lambda: committed(system) == wanted, within_s=30)
    return wanted


def rounds(users: int, answers: int, first: int = 0) -> list[tuple[str, Message]]:
    """Return answers of users in turn."""
    return [answer(f"user-{user}", number) for number in range(first, first + answers) for user in range(users)]
