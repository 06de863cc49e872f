"""
How long the users of a worker that was killed are without predictions: `python -m benchmarks.failover --report FILE`.

Two workers with default settings share 16 partitions; of 160 users, 16 answer each tenth of a second. One worker is
killed with -9. What counts is the time until every partition has had a prediction of an answer that was sent after the
kill, as a consumer of committed records sees it: once with another worker that takes over, in both guarantees, and once
with the same worker started again at once under its `STREAM_INSTANCE_ID`. The median of the rounds is reported; where
the time went is told on the way, by the worker's log.
"""

import os
import platform
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from benchmarks.report import merge
from stream.settings import Settings
from stream.transport import topics
from stream.transport.clients import consumer_config
from stream.transport.outbox import KafkaOutbox
from tests.broker.kafka import KafkaServer, missing
from tests.broker.process import ServerError, ServerProcess

CASES = {"at_least_once": "at_least_once", "exactly_once": "exactly_once", "static": "at_least_once"}
"""Each case's guarantee."""

USERS, SHARES = 160, 10
WARM_UP = 20
"""So often every partition has predicted before the kill."""

_PACE_S = 0.1
_LONGEST_S, _START_S = 120.0, 60.0
_LEARNED, _RECOVERED = "because it is rebalancing", "state.recovered"


class FailoverError(Exception):
    """It could not be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Run:
    """
    One kill.

    Attributes:
        seconds: From the kill to the first prediction of the partition that came back last.
        started_s: From the kill until the worker that was started again ran; None where another took over.
        learned_s: From the kill until the other worker was told of the rebalance; None where there was none.
        recovered_s: From the kill until state was recovered.
        recovery_s: Seconds of that which reading changelogs took.
        records: That were read.
    """

    seconds: float
    started_s: float | None
    learned_s: float | None
    recovered_s: float | None
    recovery_s: float | None
    records: int | None


@dataclass(slots=True)
class Group:
    """
    Two workers on topics of their own.

    Attributes:
        settings: That they share.
        folder: Of their logs.
        static: Whether they have ids of their own.
    """

    settings: Settings
    folder: Path
    static: bool
    workers: dict[str, ServerProcess] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start a worker, and wait until its command runs."""
        self.begin(name)
        before = time.monotonic()
        while _RECOVERED not in self.log(name):
            if time.monotonic() - before > _START_S:
                raise FailoverError(f"{name} did not recover in {_START_S} s:\n{self.log(name)[-2_000:]}")
            time.sleep(_PACE_S)

    def begin(self, name: str) -> None:
        """Start a worker's process."""
        given = self.settings.model_dump(exclude_defaults=True) | {"worker_metrics_port": 0, "model_store": self.folder}
        if self.static:
            given["instance_id"] = name
        variables = [f"STREAM_{key.upper()}={value}" for key, value in given.items()]
        command = ["env", *variables, sys.executable, "-m", "stream.cli", "worker"]
        self.workers.setdefault(name, ServerProcess(name, command, folder=self.folder))
        self.workers[name].start(lambda: True, timeout_s=_START_S)

    def log(self, name: str) -> str:
        """Return what a worker has logged."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def end(self) -> None:
        """Kill what still runs."""
        for worker in self.workers.values():
            worker.kill()


@contextmanager
def group(bootstrap: str, folder: Path, guarantee: str, *, static: bool) -> Iterator[Group]:
    """Give two running workers."""
    prefix = f"failover-{secrets.token_hex(3)}-"
    place = folder / prefix
    place.mkdir()
    settings = Settings.model_validate(
        {"broker": bootstrap, "group": prefix + "g", "topic_prefix": prefix, "guarantee": guarantee}
    )
    topics.ensure(settings)
    workers = Group(settings, place, static)
    try:
        for name in ("worker-1", "worker-2"):
            workers.start(name)
        yield workers
    finally:
        workers.end()


class Learners:
    """
    Answer, and see what is predicted of it.

    Args:
        settings: Of the workers.
    """

    def __init__(self, settings: Settings) -> None:
        self._outbox = KafkaOutbox(settings)
        self._topic = settings.topic("interactions")
        self._consumer = Consumer(consumer_config(settings, settings.group + "-seen"))
        predictions = settings.topic("predictions.correctness")
        self._consumer.assign([TopicPartition(predictions, p, OFFSET_END) for p in range(settings.partitions)])
        self._partitions = settings.partitions
        self._tick = 0

    def answer(self) -> None:
        """Let a share of the users answer; the moment stands in the event's id."""
        now = datetime.now(UTC)
        for user in range(self._tick % SHARES, USERS, SHARES):
            event = {
                "event_id": f"{now.timestamp():.6f}/{user}", "type": "quiz_complete", "user_id": f"user-{user}",
                "topic_id": f"topic-{self._tick % 5}", "item_id": f"item-{self._tick % 50}", "correct": user % 3 > 0,
                "duration_seconds": 12.0, "timestamp": now.isoformat(),
            }  # fmt: skip
            self._outbox.send(self._topic, key=event["user_id"].encode(), value=orjson.dumps(event))  # type: ignore[attr-defined]
        self._tick += 1

    def await_all(self, since: float) -> float:
        """
        Answer on until each partition has predicted an answer that was given later than `since`.

        Returns:
            When the last of them did, in seconds since the epoch, as `since` is.
        """
        seen: set[int] = set()
        next_at = time.monotonic()
        while True:
            if time.monotonic() >= next_at:
                self.answer()
                next_at += _PACE_S
            for message in self._consumer.consume(500, 0.01):
                if message.error() is None:
                    source = orjson.loads(message.value() or b"{}")["source"]
                    if float(source["event_id"].split("/")[0]) > since:
                        seen.add(source["partition"])
                if len(seen) == self._partitions:
                    return time.time()
            if time.time() - since > _LONGEST_S:
                raise FailoverError(f"{len(seen)} of {self._partitions} partitions were predicted in {_LONGEST_S} s")

    def close(self) -> None:
        """End the clients."""
        self._consumer.close()
        self._outbox.close()


def measure(bootstrap: str, folder: Path, case: str) -> Run:
    """Kill a worker once."""
    static = case == "static"
    with group(bootstrap, folder, CASES[case], static=static) as workers:
        learners = Learners(workers.settings)
        try:
            for _ in range(WARM_UP):
                learners.await_all(time.time())
            other = "worker-1" if static else "worker-2"
            told = len(workers.log(other))
            workers.workers["worker-1"].kill()
            killed_at = time.time()
            if static:
                workers.begin("worker-1")
            seconds = learners.await_all(killed_at) - killed_at
        finally:
            learners.close()
        lines = workers.log(other)[told:].splitlines()
    return Run(round(seconds, 2), *_where(lines, killed_at))


def _where(lines: list[str], killed_at: float) -> tuple[Any, ...]:
    """Return the moments of a log, in seconds since the kill, and what recovery says of itself."""
    recovered = next((line for line in lines if _RECOVERED in line), "")
    took = re.search(r"records=(\d+) seconds=([0-9.]+)", recovered)
    return (
        _moment(next((line for line in lines if "worker.started" in line), ""), killed_at),
        _moment(next((line for line in lines if _LEARNED in line), ""), killed_at),
        _moment(recovered, killed_at),
        float(took[2]) if took else None,
        int(took[1]) if took else None,
    )


def _moment(line: str, killed_at: float) -> float | None:
    """Return when a line was logged: ours in UTC, Python's in local time."""
    found = re.search(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)[.,](\d+)(Z?)", line)
    if found is None:
        return None
    at = datetime.fromisoformat(f"{found[1]}T{found[2]}.{found[3]:0<6}"[:26])
    at = at.replace(tzinfo=UTC) if found[4] else at.astimezone()
    return round(at.timestamp() - killed_at, 2)


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", type=click.Choice(list(CASES)), help="One case alone.")
def main(report: Path | None, rounds: int, only: str | None) -> None:
    """Measure how long a worker's users are without predictions when it is killed."""
    problem = missing()
    if problem is not None:
        raise FailoverError(problem)
    started = time.monotonic()
    runs: dict[str, list[Run]] = {case: [] for case in CASES if only in (None, case)}
    with tempfile.TemporaryDirectory(prefix="failover-") as name:
        folder = Path(name)
        with KafkaServer(folder / "broker", password=secrets.token_hex(8)) as kafka:
            for number in range(rounds):
                for case, found in runs.items():
                    found.append(measure(kafka.bootstrap, folder, case))
                    click.echo(f"round {number + 1}  {case:14}{_words(asdict(found[-1]))}", err=True)
    figures = {case: round(statistics.median(run.seconds for run in found), 2) for case, found in runs.items()}
    if report is not None:
        merge(
            report,
            {
                "failover": figures,
                "failover_runs": {case: [asdict(run) for run in found] for case, found in runs.items()},
                "failover_machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
                "seconds": round(time.monotonic() - started, 1),
            },
        )
    click.echo(_words(figures))


def _words(figures: Mapping[str, object]) -> str:
    return "  ".join(f"{name} {value}" for name, value in figures.items() if value is not None)


if __name__ == "__main__":
    try:
        main()
    except (FailoverError, ServerError) as error:
        sys.exit(f"benchmark: {error}")
