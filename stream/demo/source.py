"""Events to the broker, at a pace: what `simulate`, `replay` and the demo send."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stream.demo.counted import ANSWERS, Counted
from stream.settings import Settings
from stream.transport.outbox import KafkaOutbox
from stream.transport.topics import ensure

Event = tuple[str, Mapping[str, Any]]
"""The catalog's name of a topic, and an event."""

_FLUSH_EVERY = 500


class Sending(NamedTuple):
    """
    One message on its way.

    Attributes:
        topic: The catalog's name, or a foreign topic's.
        key: Raw, None where a foreign message has none.
        value: Raw.
        events: Of ours: itself, or what it becomes.
        is_faulty: Whether it becomes a dead letter.
        partition: None for the key's.
        headers: Names and raw values.
    """

    topic: str
    key: bytes | None
    value: bytes
    events: Sequence[Event]
    is_faulty: bool = False
    partition: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def sending(topic: str, event: Mapping[str, Any]) -> Sending:
    """Return an event of ours on its way, under its user's key."""
    return Sending(topic, str(event["user_id"]).encode(), orjson.dumps(event), [(topic, event)])


class Pace:
    """
    Says when the next event may go.

    Args:
        rate: Events a second, None for no limit.
        speed: Times faster than the events' own time, None to ignore it.
    """

    def __init__(self, rate: float | None, speed: float | None = None) -> None:
        self._rate = rate
        self._speed = speed
        self._started = time.monotonic()
        self._first_at: float | None = None
        self._sent = 0

    def wait_s(self, event: Mapping[str, Any] | None = None) -> float:
        """Return how long to wait before this event, in seconds, 0 or less for not at all; `speed` needs its moment."""
        due = 0.0
        if self._rate is not None:
            due = self._sent / self._rate
        if self._speed is not None and event is not None:
            at = datetime.fromisoformat(event["timestamp"]).timestamp()
            self._first_at = at if self._first_at is None else self._first_at
            due = max(due, (at - self._first_at) / self._speed)
        self._sent += 1
        return due - (time.monotonic() - self._started)


def produce(
    settings: Settings,
    events: Iterable[Event],
    rate: float | None,
    speed: float | None = None,
    total: int | None = None,
    counted: Counted = ANSWERS,
) -> None:
    """
    Send events until they end or Ctrl-C, and wait until the broker has them, with a progress bar on a terminal.

    Args:
        settings: Broker and topics.
        events: What to send.
        rate: Events a second, at most.
        speed: Times faster than the events' own time.
        total: Of what is counted, if known.
        counted: What the bar counts.
    """
    # A broker may make topics by itself when something is sent to them, with too few partitions for good.
    ensure(settings)
    outbox = KafkaOutbox(settings)
    pace = Pace(rate, speed)
    done = sent = 0
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(counted.name, total=total)
        try:
            for topic, event in events:
                wait_s = pace.wait_s(event)
                if wait_s > 0:
                    time.sleep(wait_s)
                send(outbox, settings.topic(topic), event)
                sent += 1
                if counted.is_one(topic, event):
                    done += 1
                    progress.update(task, completed=done)
                if sent % _FLUSH_EVERY == 0:
                    outbox.flush_now()
        except KeyboardInterrupt:
            pass
        outbox.flush_now()
    console.print(f"sent {sent} events, {done} of them {counted.name}, to {settings.broker}", highlight=False)


def send(outbox: KafkaOutbox, topic: str, event: Mapping[str, Any]) -> None:
    """Queue an event under its user's key."""
    outbox.send(topic, key=str(event["user_id"]).encode(), value=orjson.dumps(event))


def feed(
    outbox: KafkaOutbox,
    settings: Settings,
    messages: Iterable[Sending],
    pace: Pace,
    may_send: Callable[[], bool],
    sent: Callable[[Sending], None],
) -> None:
    """
    Send events with back-pressure.

    Args:
        outbox: Takes them.
        settings: Topics.
        messages: What to send.
        pace: The highest rate.
        may_send: Asked before each message; false makes it wait.
        sent: Told of each message, just before it goes.
    """
    for number, message in enumerate(messages):
        wait_s = pace.wait_s()
        if wait_s > 0:
            time.sleep(wait_s)
        if not may_send():
            outbox.flush_now()
            while not may_send():
                time.sleep(0.005)
        sent(message)
        topic = settings.topic(message.topic)
        headers = list(message.headers)
        outbox.send(topic, key=message.key, value=message.value, headers=headers, partition=message.partition)
        if number % 100 == 0:
            outbox.flush_now()
    outbox.flush_now()
