"""What the trainer does with each message: counted once, learned from, followed, and durable when it says so."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import ItemParameters, ModelRollout, Release
from stream.errors import StoreError
from stream.learning import children
from stream.learning.buffer import Buffer
from stream.learning.children import Children
from stream.learning.item_statistics import ItemStatistics
from stream.learning.lifecycle import Lifecycle
from stream.learning.observer import Observer
from stream.learning.trainer import Kafka, Trainer
from stream.learning.triggers import Triggers
from stream.models import features
from stream.models.dkt import KNOWLEDGE
from stream.models.items import key_of
from stream.models.store import Store
from stream.settings import Settings
from stream.telemetry import TrainerMetrics
from tests.learning.test_buffer import correction, example
from tests.learning.test_lifecycle import RULES


class Sent:
    """An outbox that remembers."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.flushed = 0

    def send(self, topic: str, *, key: bytes, value: bytes) -> None:
        """Remember a message."""
        self.messages.append((topic, value))

    def flush_now(self) -> None:
        """Take note of how many are confirmed."""
        self.flushed = len(self.messages)

    def parameters(self) -> dict[str | None, ItemParameters]:
        """Return the latest parameters of items, by item."""
        found = (ItemParameters.model_validate_json(v) for topic, v in self.messages if topic == "item-parameters")
        return {parameters.item_id: parameters for parameters in found if parameters.subject == "item"}


class Idle:
    """No process at all."""

    def submit(self, wish: object) -> Future[str]:
        """Begin, and never end."""
        return Future()

    def limit(self) -> None:
        """Find nothing beyond its limits."""


def make(folder: Path) -> Trainer:
    """Return a trainer over a buffer in a folder, that never starts an update by itself."""
    settings = Settings(buffer=folder / "buffer.sqlite", model_store=str(folder / "models"))
    buffer = Buffer(settings.buffer, max_users=100, max_bytes=1 << 24, max_run=100)
    outbox: Any = Sent()
    idle: Any = Idle()
    metrics, observer = TrainerMetrics(), Observer(KNOWLEDGE, 100)
    kafka = Kafka(settings, outbox, idle)
    triggers = Triggers(every=1_000, first=1_000)
    lifecycle = Lifecycle(RULES, Store(settings.model_store), triggers, observer, metrics, kafka)
    return Trainer(settings, buffer, ItemStatistics(), observer, lifecycle, kafka, metrics)


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    """Return it."""
    made = make(tmp_path)
    yield made
    made.buffer.close()


def sent(trainer: Trainer) -> Sent:
    """Return its outbox."""
    outbox: Any = trainer.kafka.outbox
    assert isinstance(outbox, Sent)
    return outbox


def test_an_answer_counts_once(trainer: Trainer) -> None:
    """Read twice, at its offset or at another, it is in buffer and parameters once."""
    first = example("u-1", 1, item_id="i-1")
    for offset in (5, 5, 6):
        trainer.read(first, 0, offset, 100.0)
    assert trainer.settle()
    assert (len(trainer.buffer), sent(trainer).parameters()["i-1"].answers) == (1, 1)
    assert trainer.metrics.registry.get_sample_value("stream_trainer_examples_total") == 1
    assert trainer.buffer.places() == {0: 7}


def test_a_killed_trainer_goes_on_where_it_had_settled(trainer: Trainer, tmp_path: Path) -> None:
    """What came after the last settlement is read again, nothing before it, and parameters know the difference."""
    for number in range(4):
        trainer.read(example("u-1", number, item_id="i-1"), 0, number, 100.0)
    trainer.settle()
    published = sent(trainer).parameters().values()
    trainer.read(example("u-1", 4, item_id="i-1"), 0, 4, 100.0)
    again = make(tmp_path)
    again.statistics.restore(((p.item_id, None, None), p) for p in published)
    assert again.buffer.places() == {0: 4}
    for number in range(3, 6):
        again.read(example("u-1", number, item_id="i-1"), 0, number, 100.0)
    again.settle()
    assert (len(again.buffer), sent(again).parameters()["i-1"].answers) == (6, 6)
    again.buffer.close()


def test_a_corrected_outcome_moves_what_was_learned(trainer: Trainer) -> None:
    """Found by the id of its example; the item's right answers follow. What nobody knows is counted as missing."""
    trainer.read(example("u-1", 1, item_id="i-1", correct=True), 0, 0, 100.0)
    trainer.settle()
    before = sent(trainer).parameters()["i-1"]
    trainer.read(correction("u-1", 1, correct=False), 0, 1, 101.0)
    trainer.read(correction("u-1", 1, correct=False), 0, 1, 101.0)
    trainer.read(correction("u-1", 77, correct=False), 0, 2, 101.0)
    trainer.settle()
    after = sent(trainer).parameters()["i-1"]
    assert (before.correct, after.correct, after.answers) == (1, 0, 1)
    assert after.difficulty_logit > before.difficulty_logit
    runs = trainer.buffer.runs()
    assert runs.correct[runs.there].tolist() == [0]
    value = trainer.metrics.registry.get_sample_value
    assert value("stream_trainer_corrections_total", {"outcome": "found"}) == 1
    assert (value("stream_trainer_corrections_total", {"outcome": "missing"}) or 0) >= 1


def test_a_correction_counts_once_though_the_trainer_is_killed(trainer: Trainer, tmp_path: Path) -> None:
    """Published, and killed before the buffer was: read again, parameters know that they have it already."""
    for number in range(3):
        trainer.read(example("u-1", number, item_id="i-1", correct=True), 0, number, 100.0)
    trainer.settle()
    trainer.read(correction("u-1", 1, correct=False), 0, 3, 101.0)
    published = {p.item_id: p for p in trainer.statistics.publish(trainer.kafka.now())}
    assert published["i-1"].correct == 2
    again = make(tmp_path)
    again.statistics.restore((key_of(parameters), parameters) for parameters in published.values())
    again.read(correction("u-1", 1, correct=False), 0, 3, 101.0)
    again.read(example("u-1", 4, item_id="i-1", correct=True), 0, 4, 102.0)
    again.settle()
    assert (sent(again).parameters()["i-1"].correct, sent(again).parameters()["i-1"].answers) == (3, 4)
    again.buffer.close()


def test_answers_of_other_features_are_passed_over(trainer: Trainer) -> None:
    """A worker of another release saw other columns: its examples are read, and not learned from."""
    other = example("u-1", 1).model_copy(update={"feature_version": features.VERSION + 1})
    trainer.read(other, 3, 9, 100.0)
    assert (len(trainer.buffer), trainer.buffer.places()) == (0, {3: 10})


def test_a_disk_that_is_full_is_tried_again(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, nothing lost, and offsets are committed only when it has worked."""

    def full(_: Buffer) -> None:
        raise StoreError("no space left")

    trainer.read(example("u-1", 1), 0, 0, 100.0)
    with monkeypatch.context() as patched:
        patched.setattr(Buffer, "commit", full)
        assert not trainer.settle()
    assert trainer.metrics.registry.get_sample_value("stream_trainer_failures_total", {"part": "buffer"}) == 1
    assert trainer.settle()
    assert trainer.buffer.uncommitted == 0


def rollout(version: int | None, second: int) -> ModelRollout:
    """Return an announcement."""
    champion = None
    if version is not None:
        champion = Release(version=version, sha256="0" * 64, path=f"knowledge/v{version}", state_format="lstm-1")
    return ModelRollout(
        name=KNOWLEDGE, champion=champion, decided_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    )


def test_what_stands_on_the_topic_last_is_followed(trainer: Trainer) -> None:
    """An operator's announcement before ours is overruled by it, one after it overrules it, whatever is read when."""
    ours, theirs = rollout(1, 5), rollout(2, 4)
    trainer.kafka.announce(ours)
    trainer.lifecycle.follow(ours)
    trainer.heard(theirs)
    assert trainer.lifecycle.serving == 1
    trainer.heard(ours)
    assert trainer.lifecycle.serving == 1
    trainer.heard(rollout(3, 1))
    assert trainer.lifecycle.serving == 3
    trainer.heard(rollout(None, 9))
    assert trainer.lifecycle.serving == 0


def test_an_erased_user_is_gone(trainer: Trainer) -> None:
    """From the buffer at once; and what he did before and comes late is refused."""
    trainer.read(example("u-1", 1), 0, 0, 100.0)
    trainer.forget("u-1", 150.0)
    trainer.read(example("u-1", 2), 0, 1, 140.0)
    assert len(trainer.buffer) == 0
    trainer.read(example("u-1", 3), 0, 2, 160.0)
    assert len(trainer.buffer) == 1


# ------------------------------------------------------------------------------------------------- the child's limits


def _hold(megabytes: int) -> int:
    """Hold so much memory for a while, in a child."""
    held = bytearray(megabytes << 20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(60)
    return os.getpid()


@pytest.mark.parametrize(
    ("memory_mb", "limit_s", "said"), [(600, 60.0, "STREAM_UPDATE_MEMORY_MB"), (100_000, 3.0, "STREAM_UPDATE_SECONDS")]
)
def test_an_update_beyond_its_limits_is_ended(
    monkeypatch: pytest.MonkeyPatch, memory_mb: int, limit_s: float, said: str
) -> None:
    """Whether it takes too much memory or too long; the next one has a child of its own."""
    monkeypatch.setattr(children, "update", _hold)
    pool = Children(memory_mb, limit_s)
    try:
        wish: Any = 500
        future = pool.submit(wish)
        found, until = None, time.monotonic() + 60
        while found is None and time.monotonic() < until:
            time.sleep(0.1)
            found = pool.limit()
        assert found is not None
        assert said in found
        assert future.exception(timeout=30) is not None
        monkeypatch.setattr(children, "update", os.getpgid)
        nobody: Any = 0
        assert pool.submit(nobody).result(timeout=60)
    finally:
        pool.stop()
