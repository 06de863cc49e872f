"""What the trainer does with each message: counted once, learned from, followed, and durable when it says so."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message as KafkaMessage
from confluent_kafka import TopicPartition

from schemas import ItemParameters, LearnRequested, ModelRollout, Release
from stream.errors import StoreError
from stream.learning import trainer as trainer_module
from stream.learning.buffer import Buffer
from stream.learning.children import Children
from stream.learning.drift import FeatureDrift
from stream.learning.item_statistics import ItemStatistics
from stream.learning.risk.examples import LEAST_OF_EACH, RiskExamples
from stream.learning.trainer import Kafka, Life, Trainer, begin_risk, knowledge_lifecycle, risk_lifecycle
from stream.models import features
from stream.models.dkt import KNOWLEDGE
from stream.models.items import key_of
from stream.models.risk import RISK
from stream.models.store import Store
from stream.settings import Settings
from stream.telemetry import TrainerMetrics
from tests.learning.risk.test_examples import ended
from tests.learning.risk.test_examples import example as week
from tests.learning.test_buffer import NOW, correction, example


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


def never(version: int, champion: Release | None) -> Future[str]:
    """Begin an update that never ends."""
    return Future()


class Idle:
    """No process at all."""

    def is_free(self) -> bool:
        """Be free."""
        return True

    def limit(self) -> None:
        """Find nothing beyond its limits."""


def make(folder: Path, **options: Any) -> Trainer:
    """Return a trainer over files in a folder, in which no update ever ends."""
    settings = Settings(
        buffer=folder / "buffer.sqlite", risk_examples=folder / "risk.sqlite", model_store=str(folder / "models"),
        learn_from=1_000, **options,
    )  # fmt: skip
    buffer = Buffer(settings.buffer, max_users=100, max_bytes=1 << 24, max_run=100)
    risk = RiskExamples(settings.risk_examples, max_users=100, max_bytes=1 << 24)
    outbox: Any = Sent()
    idle: Any = Idle()
    metrics, store = TrainerMetrics(), Store(settings.model_store)
    lives = {}
    for name, lifecycle in ((KNOWLEDGE, knowledge_lifecycle), (RISK, risk_lifecycle)):
        kafka = Kafka(name, settings, outbox, idle, never)
        lives[name] = Life(lifecycle(settings, store, metrics, kafka), kafka)
    return Trainer(settings, outbox, buffer, risk, ItemStatistics(), FeatureDrift(100), lives, metrics)


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    """Return it."""
    made = make(tmp_path)
    yield made
    made.buffer.close()
    made.risk.close()


def sent(trainer: Trainer) -> Sent:
    """Return its outbox."""
    outbox: Any = trainer.outbox
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
    again.risk.close()


def test_a_corrected_outcome_moves_what_was_learned(trainer: Trainer) -> None:
    """Found by its example's id; the item's right answers follow. Counted once, as missing where nobody knows it."""
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
    assert value("stream_trainer_corrections_total", {"outcome": "missing"}) == 1


def test_a_correction_counts_once_though_the_trainer_is_killed(trainer: Trainer, tmp_path: Path) -> None:
    """Published, and killed before the buffer was: read again, parameters know that they have it already."""
    for number in range(3):
        trainer.read(example("u-1", number, item_id="i-1", correct=True), 0, number, 100.0)
    trainer.settle()
    trainer.read(correction("u-1", 1, correct=False), 0, 3, 101.0)
    published = {p.item_id: p for p in trainer.statistics.publish(NOW)}
    assert published["i-1"].correct == 2
    again = make(tmp_path)
    again.statistics.restore((key_of(parameters), parameters) for parameters in published.values())
    again.read(correction("u-1", 1, correct=False), 0, 3, 101.0)
    again.read(example("u-1", 4, item_id="i-1", correct=True), 0, 4, 102.0)
    again.settle()
    assert (sent(again).parameters()["i-1"].correct, sent(again).parameters()["i-1"].answers) == (3, 4)
    again.buffer.close()
    again.risk.close()


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


def test_a_backlog_waits_on_purpose_only_while_an_update_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many answers after it began as the setting says; a disk that is full is no purpose, though reading waits."""
    trainer = make(tmp_path, trainer_backlog=3)
    lifecycle = trainer.lives[KNOWLEDGE].lifecycle
    for number in range(4):
        trainer.read(example("u-1", number), 0, number, 100.0)
    assert (trainer.wants_more, trainer.lets_wait) == (True, False)
    monkeypatch.setattr(type(lifecycle), "is_learning", True)
    assert (trainer.wants_more, trainer.lets_wait) == (False, True)
    lifecycle.triggers.learned = 2
    assert (trainer.wants_more, trainer.lets_wait) == (True, False)
    monkeypatch.setattr(trainer_module, "_MOST_UNCOMMITTED", 4)
    assert (trainer.wants_more, trainer.lets_wait) == (False, False)
    trainer.buffer.close()
    trainer.risk.close()


class Rebalanced:
    """A consumer of one partition of examples, which is assigned anew at every turn, and ends the trainer after two."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stopping: list[int] = []
        self.place = TopicPartition("training-examples", 0, 0)

    def subscribe(self, topics: list[str], on_assign: Callable[[object, list[TopicPartition]], None]) -> None:
        """Remember whom to tell."""
        self.on_assign = on_assign

    def consume(self, most: int, wait_s: float) -> list[KafkaMessage]:
        """Return nothing; the group is rebalanced meanwhile."""
        self.on_assign(self, [self.place])
        if len(self.said) == 4:
            self.stopping.append(1)
        return []

    def assign(self, places: list[TopicPartition]) -> None:
        """Read them, paused or not before."""
        self.said.append("assigned")

    def pause(self, places: list[TopicPartition]) -> None:
        """Read them no more."""
        self.said.append("paused")

    def assignment(self) -> list[TopicPartition]:
        """Return the partition."""
        return [self.place]

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Return them from their beginning."""
        return places

    def get_watermark_offsets(self, place: TopicPartition, **_: object) -> tuple[int, int]:
        """Return an empty partition's."""
        return 0, 0

    def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
        """Know nothing."""
        return []

    def close(self) -> None:
        """End."""


def test_a_backlog_that_waits_does_so_after_a_rebalance_too(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is assigned anew is read again, until it is paused again."""
    consumer = Rebalanced()
    monkeypatch.setattr(trainer_module, "Consumer", lambda _: consumer)
    monkeypatch.setattr(Trainer, "wants_more", False)
    trainer_module._loop(Settings(), trainer, consumer.stopping, 0)
    assert consumer.said == ["paused", "assigned"] * 2


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
    life = trainer.lives[KNOWLEDGE]
    life.kafka.announce(ours)
    life.lifecycle.follow(ours)
    trainer.heard(theirs)
    assert life.lifecycle.serving == 1
    trainer.heard(ours)
    assert life.lifecycle.serving == 1
    trainer.heard(rollout(3, 1))
    assert life.lifecycle.serving == 3
    trainer.heard(rollout(None, 9))
    assert life.lifecycle.serving == 0


def test_an_erased_user_is_gone(trainer: Trainer) -> None:
    """From the buffer at once; and what he did before and comes late is refused."""
    trainer.read(example("u-1", 1), 0, 0, 100.0)
    trainer.forget("u-1", 150.0)
    trainer.read(example("u-1", 2), 0, 1, 140.0)
    assert len(trainer.buffer) == 0
    trainer.read(example("u-1", 3), 0, 2, 160.0)
    assert len(trainer.buffer) == 1


# --------------------------------------------------------------------------------------------------------------- risk


def test_risks_are_judged_when_it_is_durable_what_came(trainer: Trainer) -> None:
    """Neither at once, nor twice: the outcome labels the weeks before it with the settlement."""
    trainer.read(week("u-1", 1), 0, 0, 100.0)
    trainer.read(week("u-1", 2), 0, 1, 101.0)
    trainer.read(ended("u-1", 3), 0, 2, 102.0)
    value = trainer.metrics.registry.get_sample_value
    assert value("stream_trainer_risk_labelled_total") == 0
    for _ in range(2):
        assert trainer.settle()
        assert value("stream_trainer_risk_labelled_total") == 2
    trainer.turn()
    assert value("stream_trainer_live_base_ratio", {"name": RISK, "slice": "all"}) == 1.0
    assert value("stream_trainer_live_logloss_nats", {"name": RISK, "slice": "all"}) is not None
    assert value("stream_trainer_live_logloss_nats", {"name": KNOWLEDGE, "slice": "all"}) is None
    assert (value("stream_trainer_risk_users"), len(trainer.buffer)) == (1, 0)


def test_both_files_know_how_far_the_topic_was_read(trainer: Trainer, tmp_path: Path) -> None:
    """Each is told of every place; where one is behind, what is read again changes nothing in the other."""
    trainer.read(week("u-1", 1), 0, 0, 100.0)
    trainer.read(example("u-1", 1, item_id="i-1"), 0, 1, 101.0)
    trainer.passed(0, 2)
    assert trainer.buffer.places() == trainer.risk.places() == {0: 3}
    trainer.buffer.commit()
    again = make(tmp_path)
    assert (again.buffer.places(), again.risk.places()) == ({0: 3}, {})
    assert again.places(0, 3) == 0
    again.read(week("u-1", 1), 0, 0, 100.0)
    again.read(example("u-1", 1, item_id="i-1"), 0, 1, 101.0)
    assert again.settle()
    assert (len(again.buffer), again.risk.users) == (1, 1)
    assert again.metrics.registry.get_sample_value("stream_trainer_examples_total") == 0
    assert again.places(0, 3) == 2
    assert again.places(0, 1) == 0, "the topic was made anew"
    again.buffer.close()
    again.risk.close()


def test_a_rollout_is_followed_by_the_model_that_it_names(trainer: Trainer) -> None:
    """And by no other; of what nobody knows nothing is made."""
    trainer.heard(rollout(3, 1).model_copy(update={"name": RISK}))
    assert [life.lifecycle.serving for life in (trainer.lives[KNOWLEDGE], trainer.lives[RISK])] == [0, 3]
    trainer.heard(rollout(4, 2).model_copy(update={"name": "another"}))
    asked = LearnRequested(event_id="e", name=RISK, at=NOW)
    trainer.happened(asked)
    assert trainer.lives[RISK].lifecycle.triggers.asked == "hand"
    assert trainer.lives[KNOWLEDGE].lifecycle.triggers.asked is None
    trainer.happened(asked.model_copy(update={"name": "another"}))


def test_an_erased_user_leaves_both_files(trainer: Trainer) -> None:
    """What he did, and what the weeks knew of him."""
    trainer.read(example("u-1", 1), 0, 0, 100.0)
    trainer.read(week("u-1", 1), 0, 1, 100.0)
    trainer.settle()
    assert (trainer.buffer.users, trainer.risk.users) == (1, 1)
    trainer.forget("u-1", 150.0)
    trainer.settle()
    assert (trainer.buffer.users, trainer.risk.users) == (0, 0)


def test_no_risk_is_learned_before_both_kinds_are_known(tmp_path: Path) -> None:
    """Early in a term some withdraw, and nobody has passed: an update would fail."""
    made = make(tmp_path, risk_learn_from=1, risk_learn_every=1)
    for number in range(2 * LEAST_OF_EACH):
        made.read(week(f"u-{number}", 1), 0, 2 * number, 100.0)
        made.read(ended(f"u-{number}", 2, "withdrawn" if number < LEAST_OF_EACH else "pass"), 0, 2 * number + 1, 101.0)
        made.settle()
        made.turn()
        assert made.lives[RISK].lifecycle.is_learning == (number == 2 * LEAST_OF_EACH - 1)
    made.buffer.close()
    made.risk.close()


def test_an_update_of_risk_is_told_which_fields_it_may_see(tmp_path: Path) -> None:
    """Those of the settings, whatever the file holds."""

    class Asked:
        wish: Any = None

        def submit(self, _: Any, wish: Any) -> Future[str]:
            self.wish = wish
            return Future()

    asked: Any = Asked()
    begin_risk(Settings(risk_features="credits, education", risk_examples=tmp_path / "r"), asked)(3, None)
    assert (asked.wish.version, asked.wish.fields) == (3, ("credits", "education"))


# ------------------------------------------------------------------------------------------------- the child's limits


def _hold(megabytes: int) -> str:
    """Hold so much memory for a while, in a child."""
    held = bytearray(megabytes << 20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(60)
    return str(os.getpid())


def _group(process: int) -> str:
    """Return a process's group, in a child."""
    return str(os.getpgid(process))


@pytest.mark.parametrize(
    ("memory_mb", "limit_s", "said"), [(600, 60.0, "STREAM_UPDATE_MEMORY_MB"), (100_000, 3.0, "STREAM_UPDATE_SECONDS")]
)
def test_an_update_beyond_its_limits_is_ended(memory_mb: int, limit_s: float, said: str) -> None:
    """Whether it takes too much memory or too long; the next one has a child of its own."""
    pool = Children(memory_mb, limit_s)
    try:
        assert pool.is_free()
        future = pool.submit(_hold, 500)
        assert not pool.is_free()
        found, until = None, time.monotonic() + 60
        while found is None and time.monotonic() < until:
            time.sleep(0.1)
            found = pool.limit()
        assert found is not None
        assert said in found
        assert future.exception(timeout=30) is not None
        assert pool.submit(_group, 0).result(timeout=60)
        assert pool.is_free()
    finally:
        pool.stop()
