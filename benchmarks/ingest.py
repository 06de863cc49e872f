"""
What reading foreign events costs: `python -m benchmarks.ingest --report FILE`.

First each family's adapter over its fixtures, one event at a time on one core. Then, on a broker of its own, a topic
filled with xAPI statements and Caliper events of 2,000 users, read three ways, each from the beginning: by `stream
ingest` alone; by a worker that predicts what that wrote; by a worker that does both. Rates are by the timestamps of
what comes out, the first fifth being warm-up; broker, reader and process share the cores.
"""

import json
import secrets
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.report import merge
from benchmarks.throughput import machine
from stream.adapters.conversion import Family
from stream.adapters.converter import Converter
from stream.adapters.detection import FAMILIES
from stream.settings import Settings
from stream.transport import topics
from stream.transport.clients import consumer_config, producer_config
from tests.adapters.platforms import caliper_answer, xapi_answer
from tests.broker.kafka import KafkaServer, missing
from tests.broker.process import ServerProcess

_USERS: Final = 2_000
_PARTITIONS: Final = 4
_WARM: Final = 0.2
_START_S, _SILENCE_S = 60.0, 60.0
_LATENCY_WARM_S, _LATENCY_S = 5.0, 15.0
_FIXTURES: Final = Path("tests/adapters")
_REPEATS, _ROUNDS = 20, 7


class IngestError(Exception):
    """It could not be measured; the message says why."""


@click.command()
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON; what stands there stays.")
@click.option("--events", default=60_000, show_default=True, help="Foreign events.")
@click.option("--rounds", default=3, show_default=True, help="Of the three ways, in turn.")
@click.option("--rate", default=500, show_default=True, help="Foreign events a second of which latency is taken.")
@click.option("--adapters-only", is_flag=True, help="Without a broker.")
def main(report: Path | None, events: int, rounds: int, rate: int, *, adapters_only: bool) -> None:
    """Measure adapters and ingest."""
    started = time.monotonic()
    figures: dict[str, Any] = {"adapters": adapters()}
    if not adapters_only:
        absent = missing()
        if absent:
            sys.exit(f"benchmark: {absent}")
        with (
            tempfile.TemporaryDirectory(prefix="ingest-") as folder,
            KafkaServer(Path(folder) / "broker", password=secrets.token_hex(8)) as kafka,
        ):
            figures |= throughput(kafka.bootstrap, Path(folder), events, rounds)
            figures["latency"] = latency(kafka.bootstrap, Path(folder), rate)
    figures["machine"] = machine()
    if report is not None:
        merge(report, {"ingest": figures, "seconds": round(time.monotonic() - started, 1)})
    click.echo(json.dumps(figures, indent=1))


def adapters() -> dict[str, dict[str, float]]:
    """Return microseconds an event of each family: of the adapter alone, and of everything from bytes to bytes."""
    found = {}
    for name, family in FAMILIES.items():
        events = [
            line["event"]
            for path in sorted((_FIXTURES / name).glob("*.jsonl"))
            for line in map(orjson.loads, path.read_text("utf-8").splitlines())
            if "bad" not in line
        ]
        if not events:
            continue
        singles = [part for event in events for part in _singles(family, event)]
        alone = [_microseconds(partial(family.convert, event)) for event in singles]
        whole = [_microseconds(partial(_whole, orjson.dumps(event))) for event in events]
        empty = _microseconds(Converter)
        found[name] = {
            "events": len(singles),
            "adapter_us_median": round(float(np.median(alone)), 1),
            "adapter_us_max": round(max(alone), 1),
            "bytes_to_bytes_us_median": round(float(np.median(whole)) - empty, 1),
        }
        click.echo(f"{name:14}{json.dumps(found[name])}", err=True)
    return found


def _singles(family: Family, event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the events in an envelope, or the event itself."""
    parts = family.parts(event)
    return [event] if parts is None else [part for _, part in parts if isinstance(part, dict)]


def _whole(raw: bytes) -> object:
    return Converter().convert(raw)


def _microseconds(call: Callable[[], object]) -> float:
    """Return the fastest of several rounds: what disturbs a round only makes it slower."""
    try:
        call()
    except ValueError:  # a part that is bad, of an envelope that is not
        return 0.0
    return 1e6 * min(timeit.repeat(call, number=_REPEATS, repeat=_ROUNDS)) / _REPEATS


def throughput(bootstrap: str, folder: Path, events: int, rounds: int) -> dict[str, Any]:
    """Return events a second of the three ways, every round's and the medians, and their ratio."""
    source = f"platform-{secrets.token_hex(3)}"
    base = {"broker": bootstrap, "partitions": _PARTITIONS, "sources": f"{source}=auto"}
    topics.ensure(Settings.model_validate(base | {"topic_prefix": "made-"}))
    _fill(Settings.model_validate(base), source, events)
    rates: dict[str, list[float]] = {"ingest": [], "worker": [], "both": []}
    for _ in range(rounds):
        prefix = f"ingest-{secrets.token_hex(3)}-"
        of = base | {"topic_prefix": prefix, "group": prefix + "g", "model_store": str(folder / "models")}
        rates["ingest"].append(_run(of, folder, "ingest", "interactions", events))
        rates["worker"].append(_run(of | {"sources": ""}, folder, "worker", "predictions.correctness", events))
        prefix = f"both-{secrets.token_hex(3)}-"
        of |= {"topic_prefix": prefix, "group": prefix + "g"}
        rates["both"].append(_run(of, folder, "worker", "predictions.correctness", events))
        click.echo("  ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items()), err=True)
    median = {name: round(float(np.median(found))) for name, found in rates.items()}
    return {
        "events": events, "rates": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "median": median, "ingest/worker": round(median["ingest"] / median["worker"], 2),
    }  # fmt: skip


def latency(bootstrap: str, folder: Path, rate: int) -> dict[str, float]:
    """Return milliseconds from a foreign event's sending to its consumed prediction, and to that of one of ours."""
    found: dict[str, float] = {"rate": rate}
    for name in ("foreign", "ours"):
        prefix = f"latency-{secrets.token_hex(3)}-"
        source = f"{prefix}platform"
        of = {
            "broker": bootstrap, "partitions": _PARTITIONS, "topic_prefix": prefix, "group": prefix + "g",
            "model_store": str(folder / "models"), "sources": f"{source}=xapi" if name == "foreign" else "",
        }  # fmt: skip
        settings = Settings.model_validate(of)
        topics.ensure(settings)
        into = source if name == "foreign" else settings.topic("interactions")
        with _process(of, folder, "worker"):
            waited = _paced(settings, into, rate, is_foreign=name == "foreign")
        p50, p99 = (float(quantile) for quantile in np.quantile(waited, (0.5, 0.99)))
        found |= {f"{name}_p50_ms": round(1e3 * p50, 1), f"{name}_p99_ms": round(1e3 * p99, 1)}
        click.echo(f"{name}: p50 {1e3 * p50:.1f} ms, p99 {1e3 * p99:.1f} ms at {rate}/s", err=True)
    return found


def _paced(settings: Settings, topic: str, rate: int, *, is_foreign: bool) -> list[float]:
    """Return the seconds from when each event was due to when its prediction was read, without the warm-up."""
    producer = Producer(producer_config(settings))
    reader = Consumer(consumer_config(settings, settings.group + "-reader"))
    reader.assign([TopicPartition(settings.topic("predictions.correctness"), p, 0) for p in range(_PARTITIONS)])
    due: dict[str, float] = {}
    arrived: dict[str, float] = {}
    count = round(rate * (_LATENCY_WARM_S + _LATENCY_S))
    started, sent = time.monotonic() + 0.5, 0
    give_up_at = started + count / rate + _SILENCE_S
    while len(arrived) < count and time.monotonic() < give_up_at:
        while sent < count and time.monotonic() >= started + sent / rate:
            statement = xapi_answer(f"user{sent % 500}", sent)
            due[statement["id"]] = started + sent / rate
            event = statement if is_foreign else _ours(statement)
            key = event["user_id"] if not is_foreign else f"user{sent % 500}"
            producer.produce(topic, orjson.dumps(event), key)
            sent += 1
        producer.poll(0)
        for message in reader.consume(1_000, 0.002):
            value = message.value()
            if message.error() is None and value is not None:
                arrived.setdefault(orjson.loads(value)["source"]["event_id"], time.monotonic())
    reader.close()
    if len(arrived) < count:
        raise IngestError(f"{len(arrived)} of {count} predictions came in time")
    return [arrived[id_] - at for id_, at in due.items() if at > started + _LATENCY_WARM_S]


def _ours(statement: Mapping[str, Any]) -> dict[str, Any]:
    (event,) = Converter().convert_value(statement).events
    made: dict[str, Any] = orjson.loads(event.value)
    return made


def _fill(settings: Settings, topic: str, events: int) -> None:
    """Put answers of all users in turn on a topic, keyed by the user."""
    producer = Producer(producer_config(settings))
    for number in range(events):
        user, turn = f"user{number % _USERS}", number // _USERS
        event = xapi_answer(user, turn, correct=number % 3 > 0) if number % 2 else caliper_answer(user, turn)
        producer.produce(topic, orjson.dumps(event), user.encode())
        producer.poll(0)
    if producer.flush(60):
        raise IngestError("the foreign events could not all be sent")


def _run(of: dict[str, Any], folder: Path, command: str, topic: str, events: int) -> float:
    """Return the events a second that a command brings onto a topic."""
    settings = Settings.model_validate(of)
    topics.ensure(settings)
    with _process(of, folder, command):
        stamps = _stamps(settings, topic, events)
    stamps.sort()
    warm = int(_WARM * events)
    return (events - warm) / (stamps[-1] - stamps[warm])


@contextmanager
def _process(of: dict[str, Any], folder: Path, command: str) -> Iterator[None]:
    given = of | {"worker_metrics_port": 0, "log_level": "info"}
    variables = [f"STREAM_{name.upper()}={value}" for name, value in given.items() if value != ""]
    name = f"{command}-{secrets.token_hex(3)}"
    process = ServerProcess(name, ["env", *variables, sys.executable, "-m", "stream.cli", command], folder=folder)
    log = folder / f"{name}.log"
    process.start(lambda: f"{command}.started" in log.read_text("utf-8", "replace"), timeout_s=_START_S)
    try:
        yield
    finally:
        process.kill()


def _stamps(settings: Settings, topic: str, events: int) -> list[float]:
    """Return the timestamps of so many committed messages of a topic, in seconds."""
    reader = Consumer(consumer_config(settings, settings.group + "-reader"))
    reader.assign([TopicPartition(settings.topic(topic), p, 0) for p in range(settings.partitions)])
    stamps: list[float] = []
    moved_at = time.monotonic()
    try:
        while len(stamps) < events:
            found = [m.timestamp()[1] / 1000 for m in reader.consume(5_000, 0.2) if m.error() is None]
            stamps += found
            if found:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > _SILENCE_S:
                raise IngestError(f"{len(stamps)} of {events} messages on {topic}, and no more for {_SILENCE_S:.0f} s")
    finally:
        reader.close()
    return stamps


if __name__ == "__main__":
    try:
        main()
    except IngestError as error:
        sys.exit(f"benchmark: {error}")
