"""How reading goes is told as it is, with a client that answers as the test wants it to."""

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from stream.page import feed
from stream.page.board import TOPICS
from stream.page.feed import Feed
from stream.settings import Settings


def said(code: int, topic: str | None = None) -> SimpleNamespace:
    """Return an error, or the end of a partition, as the client hands it over."""
    return SimpleNamespace(error=lambda: KafkaError(code), topic=lambda: topic, partition=lambda: 0)


class Client:
    """
    A consumer of ours.

    Attributes:
        is_away: Whether nobody answers.
        messages: What comes next.
    """

    def __init__(self, _: object) -> None:
        self.is_away = False
        self.messages: list[SimpleNamespace] = []

    def list_topics(self, timeout: float) -> SimpleNamespace:
        """Return the topics, each with one partition."""
        if self.is_away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions={0: None}) for topic in TOPICS})

    def consume(self, *_: object) -> list[SimpleNamespace]:
        """Return what comes next."""
        messages, self.messages = self.messages, []
        return messages

    def poll(self, *_: object) -> None:
        """Do nothing."""

    def assign(self, *_: object) -> None:
        """Do nothing."""


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> tuple[Feed, Any]:
    """Return a feed and its client; where topics end nobody says at first."""
    monkeypatch.setattr(feed, "_LOOK_S", 0.0)
    monkeypatch.setattr(feed, "Consumer", Client)
    found = Feed(Settings(broker="127.0.0.1:1"))
    return found, found._consumer


def began(found: Feed) -> None:
    """Let a feed read from the beginning."""
    found._from_start = True
    found._look_at = float("inf")
    assert found.poll() == []
    assert state(found) == "live"


def state(found: Feed) -> str:
    """Return how reading goes, in a word."""
    return found.standing.state


def test_a_broker_that_does_not_say_where_topics_end_is_asked_again(
    reading: tuple[Feed, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says so, and waits, also when the broker goes altogether meanwhile."""
    found, client = reading

    def unsure(*_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(found, "_old_places", unsure)
    assert found.poll() == []
    assert found.standing.state == "lost"
    assert "does not say where topics end" in (found.standing.note or "")
    client.is_away = True
    assert found.poll() == []
    assert "no Kafka broker answers" in (found.standing.note or "")
    client.is_away = False
    began(found)


@pytest.mark.parametrize("code", [KafkaError._SSL, KafkaError._AUTHENTICATION, KafkaError._ALL_BROKERS_DOWN])
def test_trouble_that_has_passed_is_told_no_more(reading: tuple[Feed, Any], code: int) -> None:
    """Where nothing is sent no message says that all is well: the broker is asked, until it answers."""
    found, client = reading
    began(found)
    found._troubled(KafkaError(code))
    client.is_away = True
    found.poll()
    assert state(found) == "lost"
    client.is_away = False
    found.poll()
    assert state(found) == "live"


def test_a_topic_that_may_not_be_read_is_named_until_it_may(reading: tuple[Feed, Any]) -> None:
    """That the broker answers is not enough; what comes of another topic neither."""
    found, client = reading
    began(found)
    client.messages = [said(KafkaError.TOPIC_AUTHORIZATION_FAILED, "erasures")]
    found.poll()
    client.messages = [said(KafkaError._PARTITION_EOF, "dead-letters")]
    found.poll()
    assert "does not let the page read erasures" in (found.standing.note or "")
    client.messages = [said(KafkaError._PARTITION_EOF, "erasures")]
    found.poll()
    assert found.standing.state == "live"


def test_a_loss_is_logged_when_it_begins_and_when_it_ends(reading: tuple[Feed, Any]) -> None:
    """Once each, with what is wrong, however often is looked meanwhile; another reason is another line."""
    found, client = reading
    client.is_away = True
    with capture_logs() as logs:
        for _ in range(3):
            found.poll()
        client.is_away = False
        began(found)
        found.poll()
        client.messages = [said(KafkaError.TOPIC_AUTHORIZATION_FAILED, "erasures")]
        for _ in range(3):
            found.poll()
        client.messages = [said(KafkaError._PARTITION_EOF, "erasures")]
        found.poll()
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("warning", "page.lost"), ("info", "page.found"), ("warning", "page.lost"), ("info", "page.found"),
    ]  # fmt: skip
    assert logs[0]["error"] == "no Kafka broker answers at 127.0.0.1:1; it is tried again every second"
    assert "does not let the page read erasures" in logs[2]["error"]
