"""
The demo's composition root.

A broker in this process, worker and trainer as processes of their own, a source, and what a consumer sees.
"""

import ctypes
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from confluent_kafka import Consumer, TopicPartition
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stream.demo.broker import PARTITIONS, EmbeddedBroker
from stream.demo.counted import ACADEMICS, ANSWERS, Counted
from stream.demo.ours import Ours
from stream.demo.source import Pace, Sending, feed
from stream.demo.sources import FOREIGN_TOPIC, Source, source_of
from stream.demo.tally import Tally
from stream.demo.view import render
from stream.ending import STOPPED, end_by_signals, end_undisturbed
from stream.errors import StreamError, UserError
from stream.page import address_of
from stream.settings import PSEUDONYM_SECRETS, SECRETS, Settings
from stream.transport.clients import consumer_config
from stream.transport.outbox import KafkaOutbox
from stream.transport.topics import wanted

WATCHED = (
    "predictions.correctness",
    "predictions.time",
    "predictions.risk",
    "training-examples",
    "model-events",
    "dead-letters",
)
IN_FLIGHT = 400
"""Answers, and academic events, that may be on their way: far below what the embedded broker keeps of a partition."""

UNREAD = 8_000
"""Events that the worker may have yet to commit, for the same reason: views are answered by no prediction."""

FOREIGN_BYTES = 1_500_000
"""Of foreign messages that may be sent until all before are answered, for the same reason: some come to nothing."""

TRAINER_LAG = 2_000
"""Examples that the trainer may be behind, for the same reason."""

LEAST_BACKLOG, UPDATES = 1_000, 20
"""Answers that may come by while an update runs, or a share of all: so a slow machine learns as often as a fast one."""

PAGE_PORT = 6068
"""Of the live page, if nothing else is asked for."""

_STALL_S = 120.0
_START_S = 60.0
_STOP_S = 3.0
_QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """
    What was asked for on the command line.

    Attributes:
        source: `simulate`, a file of past answers, or a folder of OULAD.
        format_: Of the file, `auto` to recognise it.
        events: Answers to send, None for the default; of a folder academic events, for it holds no answers.
        rate: Events a second at most, None for no limit but back-pressure.
        headless: No live view.
        report: Where the figures go.
        port: Of the worker's `/metrics`; 0 for none.
        page_port: Of the live page; 0 for none, None for the usual one, but none if headless.
        stay: Go on after the end, until Ctrl-C; on a terminal it does so without being told, unless headless.
        seed: Of the simulated learners.
    """

    source: str
    format_: str
    events: int | None
    rate: float | None
    headless: bool
    report: Path | None
    port: int
    page_port: int | None
    stay: bool
    seed: int

    @property
    def served_at(self) -> int:
        """Port of the live page, 0 for none."""
        return self.page_port if self.page_port is not None else 0 if self.headless else PAGE_PORT

    @property
    def stays(self) -> bool:
        """Whether the demo goes on after its end."""
        return self.stay or (not self.headless and sys.stdout.isatty() and sys.stderr.isatty())


class DemoFailed(StreamError):
    """The demo did not end as it should; the message says what was missing, and the processes' last words."""


def run_demo(options: DemoOptions, settings: Settings) -> int:
    """
    Run the demo, and return the exit status.

    Raises:
        UserError: If the source cannot be read, or the port or the report's folder cannot be used.
        DemoFailed: If a process died or predictions are missing.
    """
    end_by_signals()
    source = source_of(options.source, options.format_, options.events, options.seed, settings)
    _check_report(options.report)
    _check_port(settings.metrics_host, options.port, "--port")
    _check_port(settings.page_host, options.served_at, "--page-port")
    if source.told:
        _say(source.told)
    folder = Path(tempfile.mkdtemp(prefix="learnerstream-demo-"))
    is_told = False
    try:
        with _Demo(options, settings, folder, source) as demo:
            report = demo.run()
            if options.report is not None:
                _write(options.report, report)
            _say(_summary(report, source.counted), sys.stdout)
            is_told = True
            if options.stays:
                demo.stay()
    except KeyboardInterrupt:
        if is_told:
            return 0
        _say("stopped; nothing was written")
        return STOPPED
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _say(words: str, to: TextIO | None = None) -> None:
    """Tell whoever runs the command, at once though it may be read by a pipe."""
    print(words, file=to or sys.stderr, flush=True)


def _check_report(report: Path | None) -> None:
    if report is not None and not os.access(report.absolute().parent, os.W_OK):
        raise UserError(f"--report: expected a folder that can be written to, found {report.absolute().parent}")


def _check_port(host: str, port: int, option: str) -> None:
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} on {host} cannot be used ({error.strerror}): choose another by {option}"
            ) from error


class _Demo:
    """One run."""

    def __init__(self, options: DemoOptions, settings: Settings, folder: Path, source: Source) -> None:
        self._options = options
        self._broker = EmbeddedBroker()
        self._source = source
        self._folder = folder
        self._settings = settings.model_copy(
            update={
                "broker": self._broker.address,
                "group": "learnerstream-demo",
                "topic_prefix": "",
                "partitions": PARTITIONS,
                "topics": "trust",
                "sources": self._source.sources,
                "commit_interval_s": 0.2,
                # What the tally reads.
                "cloudevents": "binary",
                "risk_statements": False,
                "security_protocol": "PLAINTEXT",
                "ssl_ca_file": None,
                "ssl_cert_file": None,
                "ssl_key_file": None,
                "model_store": str(folder / "models"),
                "buffer": folder / "buffer.sqlite",
                "risk_examples": folder / "risk-examples.sqlite",
                "redis_url": None,
                "worker_metrics_port": options.port,
                "page_port": options.served_at or PAGE_PORT,
                "trainer_metrics_port": 0,
                "trainer_backlog": max(LEAST_BACKLOG, source.total // UPDATES),
                "publish_items_every_s": 0.5,
                "session_timeout_s": 30.0,
                # Who a learner is plays no part in the score; fairness is watched by it.
                "risk_slices": "gender,disability",
                # The embedded broker holds an empty fetch for the whole wait, whatever comes meanwhile.
                "fetch_max_wait_ms": 20,
                "log_level": "info",
            }
        )
        self._broker.make([topic.name for topic in wanted(self._settings)] + list(self._settings.source_formats))
        self._tally = Tally(Ours(self._settings.source_formats))
        self._seen: dict[tuple[str, int], int] = {}
        self._read = self._learned = self._foreign_bytes = 0
        self._holding = False
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._page: subprocess.Popen[bytes] | None = None
        self._watcher = threading.Thread(target=self._guard, args=(self._watch,), name="watcher", daemon=True)
        self._askers: dict[str, Consumer] = {}

    def __enter__(self) -> Self:
        """Return the demo, of which nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all that runs."""
        # A second Ctrl-C, or the terminal's going, must not leave processes behind.
        end_undisturbed()
        self._stopping.set()
        self._stop()
        if self._watcher.is_alive():
            self._watcher.join(timeout=2)
        for asker in self._askers.values():
            asker.close()

    def run(self) -> dict[str, Any]:
        """Run until all is predicted, and return the report; worker, trainer and page still run."""
        source = threading.Thread(target=self._guard, args=(self._feed,), name="source", daemon=True)
        self._children = {name: self._start(name) for name in ("worker", "trainer")}
        if self._options.served_at:
            self._page = self._start("page", *self._of_page)
        self._watcher.start()
        with Console(stderr=True).status("starting broker, worker and trainer ..."):
            self._await_start()
        self._show_where()
        started = time.monotonic()
        source.start()
        with self._showing(started) as show:
            self._await_end(source, show)
        seconds = time.monotonic() - started
        report = self._tally.report(seconds, min(self._committed_events(), self._tally.events_sent))
        self._check(report)
        return report

    def stay(self) -> None:
        """Have all go on until Ctrl-C: to be looked at, and to be tried."""
        for line in self._where():
            _say(line)
        _say(f"{'worker and trainer' if self._page is None else 'worker, trainer and page'} go on; Ctrl-C ends them")
        while True:
            time.sleep(0.2)
            self._check_children()

    def _show_where(self) -> None:
        """Say where the demo is to be seen and reached, and open the page if somebody sits before a screen."""
        for line in self._where():
            _say(line)
        if self._page is not None and not self._options.headless and sys.stderr.isatty() and _has_display():
            webbrowser.open(self._address)

    def _where(self) -> list[str]:
        """Return where the demo is to be seen, and, where there is time for that, how to reach its broker."""
        lines = []
        if self._page is not None:
            lines.append(f"live page: {self._address}")
        if self._options.stays:
            reached = {
                "STREAM_BROKER": self._settings.broker,
                "STREAM_GROUP": self._settings.group,
                "STREAM_PARTITIONS": str(PARTITIONS),
                "STREAM_TOPICS": self._settings.topics,
                "STREAM_MODEL_STORE": self._settings.model_store,
                "STREAM_WORKER_METRICS_PORT": str(self._options.port),
            }
            if self._page is not None:
                reached["STREAM_PAGE_PORT"] = str(self._options.served_at)
            variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in reached.items())
            lines.append(f"another terminal: export {variables}")
        return lines

    @property
    def _address(self) -> str:
        return address_of(self._settings.page_host, self._options.served_at)

    @property
    def _of_page(self) -> tuple[str, ...]:
        """Options that tell the page what it looks at."""
        return "--from-start", "--total", str(self._source.total), "--counted", self._source.counted.name

    def _start(self, command: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a command of ours with the demo's settings; its log goes to a file."""
        # The caller's own settings must not reach through, neither those of the demo nor secrets.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_")}
        values = self._settings.model_dump(exclude_none=True, exclude={"sasl_username", *SECRETS})
        environment["TMPDIR"] = str(self._folder)
        environment |= {f"STREAM_{name.upper()}": str(value) for name, value in values.items()}
        for name in PSEUDONYM_SECRETS:
            secret = getattr(self._settings, name)
            if secret is not None:
                environment[f"STREAM_{name.upper()}"] = secret.get_secret_value()
        with (self._folder / f"{command}.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603 (our own command)
                [sys.executable, "-m", "stream.cli", command, *options],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches this process alone, which ends the others in order.
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 (one system call)
            )

    def _await_start(self) -> None:
        """Return when the trainer reads: before, learning could not keep up with what comes."""
        end = time.monotonic() + _START_S
        while not any("trainer.started" in line for line in self._log("trainer")):
            self._check_children()
            if time.monotonic() > end:
                raise DemoFailed(f"the trainer did not start within {_START_S:.0f} s:\n" + self._last_words("trainer"))
            time.sleep(0.1)

    def _await_end(self, source: threading.Thread, show: "_Show") -> None:
        moved_at, progress = time.monotonic(), (-1, -1, -1)
        while True:
            time.sleep(0.2)
            self._check_children()
            if self._failure is not None:
                raise DemoFailed(f"the demo's own consumer or source failed: {self._failure!r}") from self._failure
            self._learned = self._committed(f"{self._settings.group}-trainer", "training-examples")
            self._read = self._committed_events()
            show(self._tally)
            now = (len(self._tally.prediction_ids) + self._tally.dead, self._learned, self._read)
            if now != progress:
                moved_at, progress = time.monotonic(), now
            idle_s = time.monotonic() - moved_at
            if not source.is_alive() and self._tally.done >= self._tally.due and idle_s > _QUIET_S:
                return
            if idle_s > _STALL_S:
                raise DemoFailed(
                    f"nothing has moved for {_STALL_S:.0f} s at {self._done} of {self._source.total} "
                    f"{self._source.counted.name}:\n"
                    + self._last_words("worker") + self._last_words("trainer")
                )  # fmt: skip

    @contextmanager
    def _showing(self, started: float) -> "Iterator[_Show]":
        """Give what shows the state: a live table, a progress bar, or nothing where there is no terminal."""
        console = Console(stderr=True)
        if not console.is_terminal:
            yield lambda _: None
        elif self._options.headless:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with Progress(*columns, console=console, transient=True) as bar:
                task = bar.add_task(self._source.counted.name, total=self._source.total)
                yield lambda _: bar.update(task, completed=self._done)
        else:
            with Live(console=console, refresh_per_second=4) as live:
                yield lambda tally: live.update(
                    render(tally, self._source.counted, self._source.total, time.monotonic() - started, console.height)
                )

    @property
    def _done(self) -> int:
        """Events of what is counted that all predictions have come of."""
        return self._tally.of(self._source.counted)

    def _guard(self, work: Callable[..., None], *arguments: object) -> None:
        """Run a thread's work, and keep its error for the main thread."""
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 (told by the main thread)
            self._failure = error

    def _feed(self) -> None:
        outbox = KafkaOutbox(self._settings)

        def note(message: Sending) -> None:
            self._foreign_bytes += len(message.value) if message.topic == FOREIGN_TOPIC else 0
            self._tally.faulty_sent += message.is_faulty
            for topic, event in message.events:
                self._tally.sent(topic, event, time.monotonic())

        try:
            feed(outbox, self._settings, self._source.messages, Pace(self._options.rate), self._may_send, note)
        finally:
            # Before the broker goes, of which it would complain.
            outbox.close()

    def _may_send(self) -> bool:
        """
        Return whether another event may go.

        Once too many are on their way, none goes until half of them have arrived: the embedded broker hands out what
        was sent together, one such set of a partition at a time, so that trickling would slow everything down.
        """
        if self._stopping.is_set():
            raise KeyboardInterrupt
        tally = self._tally
        if tally.done >= tally.due and self._read >= tally.events_sent:
            self._foreign_bytes = 0
        waiting = (
            (tally.answers_sent - tally.answered, IN_FLIGHT),
            (tally.academics_sent - tally.scored, IN_FLIGHT),
            (tally.events_sent - self._read, UNREAD),
            (tally.examples - self._learned, TRAINER_LAG),
            (self._foreign_bytes, FOREIGN_BYTES),
        )
        self._holding = any(count >= (most // 2 if self._holding else most) for count, most in waiting)
        return not self._holding

    def _watch(self) -> None:
        """Consume what a consumer would, from the beginning."""
        consumer = Consumer(consumer_config(self._settings, "learnerstream-demo-view"))
        partitions = [
            TopicPartition(self._settings.topic(topic), partition, 0)
            for topic in WATCHED
            for partition in range(PARTITIONS)
        ]
        consumer.assign(partitions)
        try:
            while not self._stopping.is_set():
                for message in consumer.consume(1_000, 0.05):
                    topic, value = message.topic(), message.value()
                    if message.error() is None and topic is not None and value is not None:
                        self._expect(topic, message.partition() or 0, message.offset() or 0)
                        self._tally.saw(topic, value, time.monotonic())
        finally:
            consumer.close()

    def _expect(self, topic: str, partition: int, offset: int) -> None:
        """Notice a gap: the embedded broker drops old records without a word."""
        expected = self._seen.get((topic, partition), 0)
        # Ingest writes dead letters in transactions, whose markers take up offsets; how many must come is known.
        if offset != expected and topic != "dead-letters":
            raise DemoFailed(f"topic {topic} partition {partition}: expected offset {expected}, found {offset}")
        self._seen[topic, partition] = offset + 1

    def _committed_events(self) -> int:
        """Return how many events the worker has committed."""
        return self._committed(self._settings.group, "interactions", "academics")

    def _committed(self, group: str, *topics: str) -> int:
        """Return how many records of topics a group has committed."""
        asker = self._askers.get(group)
        if asker is None:
            asker = self._askers[group] = Consumer(consumer_config(self._settings, group))
        partitions = [TopicPartition(self._settings.topic(t), p) for t in topics for p in range(PARTITIONS)]
        return sum(max(p.offset, 0) for p in asker.committed(partitions, timeout=10))

    def _check_children(self) -> None:
        for name, child in self._children.items():
            status = child.poll()
            if status is not None:
                raise DemoFailed(f"the {name} ended with status {status}:\n" + self._last_words(name))
        if self._page is not None and self._page.poll() is not None:
            # It only looks on: what is predicted is as good without it.
            _say(f"the live page ended with status {self._page.returncode}, the demo goes on without it:\n"
                 + self._last_words("page"))  # fmt: skip
            self._page = None

    def _log(self, name: str) -> list[str]:
        return (self._folder / f"{name}.log").read_text("utf-8", "replace").splitlines()

    def _last_words(self, name: str) -> str:
        return "".join(f"  {name}: {line}\n" for line in self._log(name)[-15:])

    def _stop(self) -> None:
        """End worker, trainer and page: politely, then not."""
        children = [*self._children.values(), *([] if self._page is None else [self._page])]
        for child in children:
            child.terminate()
        end = time.monotonic() + _STOP_S
        for child in children:
            try:
                child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _check(self, report: Mapping[str, Any]) -> None:
        """Hold the demo to its word: one prediction of a kind for each event, none doubled, none lost."""
        counts, sent = report["predictions"], report["events"]
        of_academics = report["risk"]["by_reason"]["academics"]
        problems = [
            f"{found} {kind} predictions for {expected} {events}"
            for found, kind, expected, events in (
                (counts["correctness"], "correctness", sent["answers"], ANSWERS.name),
                (counts["time"], "time", sent["answers"], ANSWERS.name),
                (of_academics, "risk", sent["academics"], ACADEMICS.name),
            )
            if found != expected
        ]
        if report["distinct_prediction_ids"] != sum(counts.values()):
            problems.append(f"{report['distinct_prediction_ids']} distinct ids of {sum(counts.values())} predictions")
        if self._tally.dead != self._tally.faulty_sent:
            problems.append(
                f"{self._tally.dead} dead letters where {self._tally.faulty_sent} were due, the first because "
                f"{self._tally.first_dead}"
            )
        if problems:
            raise DemoFailed("expected each event predicted once, found " + ", ".join(problems))


def _has_display() -> bool:
    """Return whether a browser would be seen: not on a server's console."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


_Show = Callable[[Tally], object]
"""Called with the tally several times a second."""


def _die_with_parent() -> None:
    """Have the kernel end this child with its parent, however that ends (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _write(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    temporary.replace(path)


def _summary(report: Mapping[str, Any], counted: Counted) -> str:
    events, counts, latency, after = (report[name] for name in ("events", "predictions", "latency_s", "after_swap"))
    risk = report["risk"]
    sent = events["answers" if counted is ANSWERS else "academics"]
    p50, p99 = (1000 * (latency[name] or 0) for name in ("p50", "p99"))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    text = (
        f"{sent:,} {counted.name} in {report['seconds']:.1f} s: {kinds} predictions, {events['dead']} dead letters\n"
        f"latency p50 {p50:.0f} ms, p99 {p99:.0f} ms; model swaps: {report['swaps']}\n"
        f"risk: {', '.join(f'{count:,} {category}' for category, count in risk['categories'].items())}; "
        f"High was entered {risk['entered_high']:,} times and left {risk['left_high']:,} times{_endings(risk['ended'])}"
    )
    if after["auc_serving"] is None:
        return text
    return text + (
        f"\nafter the first swap, {after['n']:,} answers: AUC {after['auc_serving']:.4f} "
        f"(fallback {after['auc_fallback']:.4f}), log loss {after['logloss_serving']:.4f} "
        f"(fallback {after['logloss_fallback']:.4f})"
    )


def _endings(ended: Mapping[str, Mapping[str, int]]) -> str:
    """Return what became of users whose course has ended, by what was said last; nothing while none has."""
    parts = [
        f"{of['failed_or_left'] / of['users']:.0%} of {of['users']:,} {category}"
        for category, of in ended.items()
        if of["users"]
    ]
    return f"; courses ended, of whom failed or left: {', '.join(parts)}" if parts else ""
