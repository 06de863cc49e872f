"""What the demo sends: simulated learners, a file of past answers, a folder of OULAD, or events of another platform."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from stream.adapters.detection import AUTO, FAMILIES, FORMATS
from stream.convert import Summary, converter, holds_events, messages
from stream.demo.counted import ACADEMICS, ANSWERS, ANY, Counted
from stream.demo.simulator import simulate
from stream.demo.source import Event, Sending, sending
from stream.errors import UserError
from stream.files.answers import as_interactions
from stream.files.formats import FORMAT_NAMES, OULAD, find_format, read_answers
from stream.files.oulad import read_oulad
from stream.settings import Settings

DEFAULT_ANSWERS: Final = 20_000
FOREIGN_TOPIC: Final = "platform-events"
"""Where foreign events are sent; the worker reads it as one of STREAM_SOURCES."""


@dataclass(frozen=True, slots=True)
class Source:
    """
    What is sent.

    Attributes:
        messages: In their order.
        total: How many events of ours count.
        counted: What counts.
        sources: STREAM_SOURCES for the worker.
        told: What was skipped or ignored; empty for nothing.
    """

    messages: Iterable[Sending]
    total: int
    counted: Counted
    sources: str = ""
    told: str = ""


def source_of(name: str, format_: str, events: int | None, seed: int, settings: Settings) -> Source:
    """
    Return what a source holds.

    Args:
        name: `simulate`, or the path of a file or folder.
        format_: Of the file, `auto` to recognise it.
        events: Answers to send, or academic events where there are none; None for all.
        seed: Of the simulated learners.
        settings: For pseudonyms.

    Raises:
        UserError: If it cannot be read, or holds less than what is wanted.
    """
    if name == "simulate":
        if format_ != AUTO:
            raise UserError(f"--format {format_}: expected a file in --source, found none; leave it out")
        total = events or DEFAULT_ANSWERS
        return Source(_ours(simulate(seed, answers=total)), total, ANSWERS)
    path = Path(name)
    if not path.exists():
        raise UserError(
            "--source: expected `simulate`, a file of past answers or of another platform's events, or a folder of "
            f"OULAD, found nothing at {path}"
        )
    if is_foreign(path, format_):
        return _foreign(path, format_, events, settings)
    recorded = recorded_in(path, format_)
    total = _wanted(events, recorded.total, recorded.counted, path)
    return Source(_ours(islice(recorded.events, total)), total, recorded.counted, told=recorded.told)


class Recorded(NamedTuple):
    """
    Past events of a file or folder.

    Attributes:
        events: Of ours, in time order.
        total: How many of them count.
        counted: What counts.
        is_timed: Whether their moments are the file's.
        told: What was skipped of the file, or chosen; empty for nothing.
    """

    events: Iterable[Event]
    total: int
    counted: Counted
    is_timed: bool = True
    told: str = ""


def recorded_in(path: Path, format_: str) -> Recorded:
    """
    Return the answers of a file, or the academic events of a folder of OULAD.

    Raises:
        BadAnswersFile: If it cannot be read.
    """
    if find_format(path, format_) is OULAD:
        oulad = read_oulad(path)
        return Recorded(
            (("academics", oulad.event(happened)) for happened in oulad.happened), len(oulad.happened), ACADEMICS
        )
    answers = read_answers(path, format_)
    events = (("interactions", event) for event in as_interactions(answers))
    return Recorded(events, len(answers.answers), ANSWERS, answers.has_timestamps, answers.told())


def converted_from(path: Path, format_: str, settings: Settings) -> Recorded:
    """Return what the events of another platform become, in the file's order; `settings` are for pseudonyms."""
    into, summary = converter(settings, format_), Summary()
    events: list[Event] = []
    for read in messages(path):
        result = read.converted_by(into)
        summary.add(read.place, result)
        events += [(event.topic, orjson.loads(event.value)) for event in result.events]
    return Recorded(events, len(events), ANY, told=summary.told(path))


def is_foreign(path: Path, format_: str) -> bool:
    """
    Return whether a file holds events of a platform, by the format's name or by how it begins.

    Raises:
        UserError: If there is no such format.
    """
    if format_ not in FORMATS and format_ not in FORMAT_NAMES:
        known = ", ".join(dict.fromkeys((*FORMATS, *FORMAT_NAMES)))
        raise UserError(f"--format: expected one of {known}, found {format_}")
    return format_ in FAMILIES or (format_ == AUTO and path.is_file() and holds_events(path))


def _ours(events: Iterable[Event]) -> Iterable[Sending]:
    return (sending(topic, event) for topic, event in events)


def _wanted(events: int | None, there: int, counted: Counted, path: Path) -> int:
    if events is not None and events > there:
        raise UserError(f"--events: expected at most {there}, the {counted.name} in {path}, found {events}")
    return events or there


def _foreign(path: Path, format_: str, events: int | None, settings: Settings) -> Source:
    """Return the messages of a file as they are, with what the worker will make of each."""
    into, summary = converter(settings, format_), Summary()
    sent: list[Sending] = []
    for read in messages(path):
        # Without the spaces of many lines: a list is one message, and those have a largest size.
        raw = read.raw if read.value is None else orjson.dumps(read.value)
        result = read.converted_by(into)
        summary.add(read.place, result)
        ours = [(event.topic, orjson.loads(event.value)) for event in result.events]
        # One partition, so that events keep their order whomever they are of.
        # The worker must take the same time for what names none.
        headers = () if read.at is None else (("ce_time", read.at.isoformat().encode()),)
        sent.append(Sending(FOREIGN_TOPIC, None, raw, ours, bool(result.faults), 0, headers))
    made = [event for message in sent for event in message.events]
    answers = sum(ANSWERS.is_one(*event) for event in made)
    counted, there = (ANSWERS, answers) if answers else (ACADEMICS, sum(ACADEMICS.is_one(*event) for event in made))
    if not there:
        raise UserError(
            f"{path}: expected answers, grades or other evidence of learning, found none in {len(sent)} messages; "
            f"`stream convert {path}` says what they are"
        )
    chosen = _up_to(sent, _wanted(events, there, counted, path), counted)
    total = sum(counted.is_one(*event) for message in chosen for event in message.events)
    return Source(chosen, total, counted, f"{FOREIGN_TOPIC}={format_}", summary.told(path))


def _up_to(messages_: Sequence[Sending], total: int, counted: Counted) -> list[Sending]:
    """Return messages until so many events that count are in them; a message is not cut."""
    chosen: list[Sending] = []
    for message in messages_:
        if total <= 0:
            break
        chosen.append(message)
        total -= sum(counted.is_one(*event) for event in message.events)
    return chosen
