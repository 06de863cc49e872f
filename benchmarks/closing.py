"""
A week closes for 200,000 quiet users while others answer: `python -m benchmarks.closing --report FILE`.

One worker with default settings on a broker of its own. Quiet users have answered once. Then others answer, 500 times a
second; after a while one answer of the next week moves event time on, and the week closes for everybody. What counts is
how many users a second are scored once more, and what the answers' latency is without and with that, from the moment at
which each was due (an open loop, as in `benchmarks.latency`). Sender and reader are processes beside the worker on the
same cores.
"""

import multiprocessing
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from benchmarks.latency import quantiles
from benchmarks.report import merge
from schemas import ModelRollout
from stream.models.artifacts import release
from stream.models.risk import RISK
from stream.models.store import Store
from stream.settings import Settings
from stream.transport import rollout, topics
from stream.transport.clients import consumer_config
from stream.transport.outbox import KafkaOutbox
from tests.broker.kafka import KafkaServer, missing
from tests.broker.process import ServerError, ServerProcess

_SUNDAY = datetime(2026, 3, 8, 6, tzinfo=UTC)
_BUSY_USERS = 500
_WARM_S = 5.0
_START_S, _SILENCE_S = 60.0, 60.0
_STEP_S = 0.02
_CLOSED = b'"week_closed"'
_MOVER = 1 << 40
"""The number of the answer that moves event time."""


class ClosingError(Exception):
    """It could not be measured; the message says why."""


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--users", default=200_000, show_default=True, help="Quiet ones.")
@click.option("--rate", default=500, show_default=True, help="Answers of others, a second.")
@click.option("--seconds", default=20.0, show_default=True, help="Of answers without a closing.")
@click.option("--guarantee", default="at_least_once", show_default=True)
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A risk model's artifact, STORE/risk/vN.",
)
def main(report: Path | None, users: int, rate: int, seconds: float, guarantee: str, model: Path | None) -> None:
    """Measure the closing of a week."""
    absent = missing()
    if absent:
        sys.exit(f"benchmark: {absent}")
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="closing-") as folder,
        KafkaServer(Path(folder) / "broker", password=secrets.token_hex(8)) as kafka,
    ):
        figures = measure(kafka.bootstrap, Path(folder), users, rate, seconds, guarantee, model)
    if report is not None:
        merge(report, {"closing": figures, "seconds": round(time.monotonic() - started, 1)})
    click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def measure(
    bootstrap: str, folder: Path, users: int, rate: int, seconds: float, guarantee: str, model: Path | None
) -> dict[str, Any]:
    """
    Return the figures of one run.

    Raises:
        ClosingError: If answers or users are missing.
    """
    prefix = f"closing-{secrets.token_hex(3)}-"
    store = folder / "models" if model is None else model.resolve().parents[1]
    settings = Settings.model_validate(
        {"broker": bootstrap, "group": prefix + "g", "topic_prefix": prefix, "guarantee": guarantee,
         "model_store": str(store)}
    )  # fmt: skip
    topics.ensure(settings)
    if model is not None:
        announce(settings, int(model.name.removeprefix("v")))
    with worker(settings, folder):
        reader = Reader(settings)
        answer_once(settings, users)
        reader.until(users)
        here, there = multiprocessing.get_context("spawn").Pipe()
        sender = multiprocessing.get_context("spawn").Process(
            target=send, args=(there, settings, rate, seconds), daemon=True
        )
        sender.start()
        moved_at, started_at = here.recv()
        closing_s = reader.until_closed(users + _BUSY_USERS, moved_at)
        here.send(None)
        due = here.recv()
        sender.join()
        reader.until(users + len(due) + 1)
    waited = {number: reader.arrived[number] - at for number, at in due.items()}
    calm = [waited[n] for n, at in due.items() if started_at + _WARM_S <= at < moved_at]
    busy = [waited[n] for n, at in due.items() if moved_at <= at < moved_at + closing_s]
    without, with_ = (quantiles(1e3 * np.array(part)) for part in (calm, busy))
    return {
        "users": users, "rate": rate, "guarantee": guarantee, "model": "logistic" if model is None else model.name,
        "closing_s": round(closing_s, 2), "users_s": round((users + _BUSY_USERS) / closing_s),
        "without": without, "with": with_,
        "p50_ratio": round(with_["p50_ms"] / without["p50_ms"], 3),
        "p99_ratio": round(with_["p99_ms"] / without["p99_ms"], 3),
        "answers": {"without": len(calm), "with": len(busy)},
    }  # fmt: skip


def announce(settings: Settings, version: int) -> None:
    """Say that a version of the risk model should serve."""
    champion = release(Store(settings.model_store), RISK, version)
    rollout.announce(
        KafkaOutbox(settings), settings, ModelRollout(name=RISK, champion=champion, decided_at=datetime.now(UTC))
    )


@contextmanager
def worker(settings: Settings, folder: Path) -> Iterator[ServerProcess]:
    """Give a running worker."""
    given = settings.model_dump(exclude_defaults=True) | {"worker_metrics_port": 0}
    variables = [f"STREAM_{key.upper()}={value}" for key, value in given.items()]
    process = ServerProcess("worker", ["env", *variables, sys.executable, "-m", "stream.cli", "worker"], folder=folder)
    log = folder / "worker.log"
    process.start(lambda: log.exists() and "state.recovered" in log.read_text("utf-8", "replace"), timeout_s=_START_S)
    try:
        yield process
    finally:
        process.kill()


def answer(user: str, number: int, at: datetime) -> bytes:
    """Return an answer; its number stands in its id."""
    return orjson.dumps(
        {
            "event_id": f"{number}", "type": "quiz_complete", "user_id": user, "topic_id": f"topic-{number % 5}",
            "item_id": f"item-{number % 50}", "correct": number % 3 > 0, "duration_seconds": 12.0,
            "timestamp": at.isoformat(timespec="milliseconds"),
        }
    )  # fmt: skip


def answer_once(settings: Settings, users: int) -> None:
    """Have quiet users answer on the Sunday; their numbers are below 0."""
    outbox, topic = KafkaOutbox(settings), settings.topic("interactions")
    for number in range(users):
        user = f"quiet-{number}"
        outbox.send(topic, key=user.encode(), value=answer(user, -1 - number, _SUNDAY))
    outbox.flush_now()
    outbox.close()


def send(pipe: Connection, settings: Settings, rate: int, seconds: float) -> None:
    """
    Answer at a rate on the Sunday, and once on the Monday after so many seconds, until told to stop.

    Tells when the Monday was due and when it began, in the end when each answer was due.
    """
    outbox, topic = KafkaOutbox(settings), settings.topic("interactions")
    started = time.time() + 0.5
    moved_at = started + _WARM_S + seconds
    due: dict[int, float] = {}
    number, is_monday = 0, False
    pipe.send((moved_at, started))
    while not pipe.poll():
        now = time.time()
        if now >= moved_at and not is_monday:
            is_monday = True
            outbox.send(topic, key=b"mover", value=answer("mover", _MOVER, _SUNDAY + timedelta(days=1)))
        while (at := started + number / rate) <= now:
            user = f"busy-{number % _BUSY_USERS}"
            outbox.send(
                topic, key=user.encode(), value=answer(user, number, _SUNDAY + timedelta(seconds=number / rate))
            )
            due[number] = at
            number += 1
        time.sleep(min(max(started + number / rate - time.time(), 0.0), _STEP_S))
    outbox.flush_now()
    pipe.send(due)


class Reader:
    """
    Reads predictions as they come.

    Args:
        settings: Of the worker.

    Attributes:
        arrived: When each answer's prediction was read, by its number, seconds since the epoch.
    """

    def __init__(self, settings: Settings) -> None:
        self.arrived: dict[int, float] = {}
        self._closed = 0
        self._closed_at = 0.0
        self._consumer = Consumer(consumer_config(settings, settings.group + "-reader"))
        names = [settings.topic(name) for name in ("predictions.correctness", "predictions.risk")]
        places = [TopicPartition(name, p, OFFSET_END) for name in names for p in range(settings.partitions)]
        self._consumer.assign(places)
        for place in places:  # wait until it knows where the ends are
            self._consumer.get_watermark_offsets(place, timeout=10)
        self._consumer.poll(1.0)

    def until(self, answers: int) -> None:
        """Return when so many answers have been predicted."""
        moved_at = time.monotonic()
        while len(self.arrived) < answers:
            if self._take():
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > _SILENCE_S:
                raise ClosingError(f"{len(self.arrived)} of {answers} answers were predicted, then nothing came")

    def until_closed(self, users: int, since: float) -> float:
        """Return how long it took from a moment until the week was closed for so many users."""
        moved_at = max(since, time.time())
        while self._closed < users:
            before = self._closed
            self._take()
            moved_at = time.time() if self._closed > before else moved_at
            if time.time() - moved_at > _SILENCE_S:
                raise ClosingError(f"the week was closed for {self._closed} of {users} users, then for nobody")
        return self._closed_at - since

    def _take(self) -> bool:
        messages = self._consumer.consume(1_000, 0.005)
        now = time.time()
        for message in messages:
            value = message.value() or b""
            if message.error() is None and "correctness" in (message.topic() or ""):
                self.arrived.setdefault(int(orjson.loads(value)["source"]["event_id"]), now)
            elif _CLOSED in value:
                self._closed, self._closed_at = self._closed + 1, now
        return bool(messages)


if __name__ == "__main__":
    try:
        main()
    except (ClosingError, ServerError) as error:
        sys.exit(f"benchmark: {error}")
