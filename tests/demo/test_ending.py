"""What sends events ends in order, whoever tells it to: all that was sent has arrived."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from stream.demo.broker import PARTITIONS, EmbeddedBroker
from stream.ending import end_by_signals, end_undisturbed
from stream.settings import Settings
from stream.transport.clients import consumer_config

pytestmark = pytest.mark.timeout(180)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back what these tests change in this process."""
    before = [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may themselves run under `nohup`
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_an_end_that_has_begun_is_not_disturbed() -> None:
    """Each signal ends once, also one that was ignored; afterwards none does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_by_signals()
    for number in SIGNALS:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    end_undisturbed()
    for number in SIGNALS:
        os.kill(os.getpid(), number)


@pytest.mark.usefixtures("handlers")
def test_what_is_to_outlive_its_terminal_does() -> None:
    """`nohup` has it ignore that the terminal goes."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_by_signals()
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize("command", ["simulate", "replay"])
def test_sigterm_ends_sending_as_ctrl_c_does(command: str, tmp_path: Path) -> None:
    """Exit status 0, and what is told to be sent stands on the topics; the one in hand may, too."""
    broker = EmbeddedBroker()
    broker.make(["interactions", "academics"])
    settings = Settings(broker=broker.address)
    file = tmp_path / "answers.csv"
    rows = [f"u{n % 20},i{n % 9},s{n % 3},{int(n % 5 > 1)},{n}" for n in range(10_000)]
    file.write_text("user_id,item_id,skill_id,correct,timestamp\n" + "\n".join(rows) + "\n")
    options = {"simulate": ["--rate", "100"], "replay": [str(file), "--speed", "50"]}[command]
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.cli", command, *options],
        env=os.environ | {"STREAM_BROKER": broker.address, "STREAM_TOPICS": "trust"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    reader = Consumer(consumer_config(settings, "reader"))
    places = [TopicPartition(topic, n) for topic in ("interactions", "academics") for n in range(PARTITIONS)]

    def arrived() -> int:
        return sum(reader.get_watermark_offsets(place, timeout=10)[1] for place in places)

    deadline = time.monotonic() + 90
    while not arrived():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    told = re.search(r"^sent (\d+) events", said, re.MULTILINE)
    assert told is not None, said
    assert 0 <= arrived() - int(told[1]) <= 1
    reader.close()
