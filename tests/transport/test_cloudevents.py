"""What we send are CloudEvents 1.0 by the Kafka protocol binding: the official SDK reads them, in both modes."""

import re
from datetime import UTC, datetime
from typing import Any, cast

import orjson
import pytest
import yaml
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from confluent_kafka import Producer
from jsonschema import Draft7Validator, FormatChecker
from pydantic import ValidationError

from schemas import TOPICS
from schemas.generate import ROOT, samples
from stream.ports import Message
from stream.settings import Settings
from stream.transport.outbox import KafkaOutbox

NOW = datetime(2026, 11, 22, 7, 30, 0, 123456, UTC)
ID = "13958128-bfa6-5f55-a7ca-2019d24c34ad"
VALUE = orjson.dumps({"schema_version": 1, "user_id": "Zoë", "score": 0.25})
MESSAGE = Message("predictions.risk", "Zoë".encode(), VALUE, ID)

Headers = list[tuple[str, bytes]]


class Recorder:
    """Stands in for a producer, and keeps what it was given: topic, value, key, headers."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes, Headers | None]] = []

    def produce(
        self, topic: str, value: bytes, key: bytes, partition: int, callback: object, headers: Headers | None = None
    ) -> None:
        """Keep a message."""
        self.sent.append((topic, value, key, headers))


def sent(message: Message, **options: Any) -> tuple[str, bytes, bytes, Headers | None]:
    """Return a message as it goes to the broker."""
    producer = Recorder()
    outbox = KafkaOutbox(Settings(topic_prefix="p-", **options), cast("Producer", producer))
    outbox.send_all([message], NOW.isoformat())
    (found,) = producer.sent
    return found


def event_of(message: Message, **options: Any) -> BaseCloudEvent:
    """Return what the official SDK makes of a message."""
    _, value, key, headers = sent(message, **options)
    return from_kafka_event(KafkaMessage(headers=dict(headers or []), key=key, value=value))


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_the_official_sdk_reads_a_prediction(mode: str) -> None:
    """Both modes say the same: every required attribute, the time, the type of the data, and the data."""
    event = event_of(MESSAGE, cloudevents=mode)
    assert event.get_specversion() == "1.0"
    assert event.get_id() == ID
    assert event.get_source() == "/learnerstream"
    assert event.get_type() == "learnerstream.predictions.risk.v1"
    assert event.get_time() == NOW
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == orjson.loads(VALUE)


def test_binary_mode_keeps_the_value_as_it_is() -> None:
    """Attributes are headers, each `ce_` and a name of lower-case letters, in UTF-8; the data is the value."""
    topic, value, key, headers = sent(MESSAGE)
    assert (topic, value, key) == ("p-predictions.risk", VALUE, "Zoë".encode())
    assert headers is not None
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert set(names) == {"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"}
    assert all(re.fullmatch(r"ce_[a-z0-9]{1,20}|content-type", name) for name in names)
    said = {name: raw.decode() for name, raw in headers}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", said["ce_time"])
    assert re.fullmatch(r"/[A-Za-z0-9._/-]+", said["ce_source"])


def test_structured_mode_says_so_and_has_no_attributes_beside() -> None:
    """Headers that begin with `ce_` would make it a binary event; the envelope is JSON, the data within is not text."""
    _, value, key, headers = sent(MESSAGE, cloudevents="structured")
    assert key == "Zoë".encode()
    assert headers == [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    envelope = orjson.loads(value)
    assert envelope.pop("data") == orjson.loads(VALUE)
    assert envelope == {
        "specversion": "1.0",
        "id": ID,
        "source": "/learnerstream",
        "type": "learnerstream.predictions.risk.v1",
        "time": NOW.isoformat(),
        "datacontenttype": "application/json",
    }


@pytest.mark.parametrize("topic", [name for name, contract in TOPICS.items() if contract.cloud_events != "no"])
def test_only_what_others_read_is_ever_enveloped(topic: str) -> None:
    """The trainer reads examples, and operators dead letters, as they are: their mode is always binary."""
    _, value, _, headers = sent(Message(topic, b"k", VALUE, ID), cloudevents="structured")
    is_enveloped = TOPICS[topic].cloud_events == "as set"
    assert (value != VALUE) is is_enveloped
    assert ("ce_id" in dict(headers or [])) is not is_enveloped
    assert TOPICS[topic].direction == "out" or not is_enveloped


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_systems_can_be_told_apart(mode: str) -> None:
    """Ids are made of events' ids, which two schools may both have: their sources keep their predictions apart."""
    source = "https://school-1.example.org/predictions"
    assert event_of(MESSAGE, cloudevents=mode, cloudevents_source=source).get_source() == source


@pytest.mark.parametrize(
    "source",
    [
        "/learnerstream",
        "learnerstream",
        "a/b:c",
        "urn:example:school-1",
        "//school.example:8080/p",
        "%7Eschool/a",
        "/a//b",
    ],
)
def test_a_source_is_a_uri_reference(source: str) -> None:
    """Absolute or not."""
    assert Settings(cloudevents_source=source).cloudevents_source == source


@pytest.mark.parametrize("source", ["%zz", "/a%2", "::", ":a", "1:2", "a:b:c@:%", "http://school:port/"])
def test_what_is_no_uri_reference_is_refused_in_a_sentence(source: str) -> None:
    """The SDKs would take it, and whoever parses it would not."""
    with pytest.raises(ValidationError, match="expected a URI reference such as /learnerstream"):
        Settings(cloudevents_source=source)


DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text(encoding="utf-8"))


def described(topic: str, mode: str) -> dict[str, Any]:
    """Return what the AsyncAPI document says of a topic's one message, in a mode."""
    names = [
        name for name in DOCUMENT["channels"][topic]["messages"] if name.endswith("Envelope") is (mode != "binary")
    ]
    (name,) = names
    message: dict[str, Any] = DOCUMENT["components"]["messages"][name]
    return message


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("topic", [name for name, contract in TOPICS.items() if contract.cloud_events == "as set"])
def test_the_document_describes_what_is_sent(topic: str, mode: str) -> None:
    """Value and headers, in both modes; and a message of the one mode is none of the other."""
    (sample, *_) = samples()[topic]
    _, value, _, headers = sent(Message(topic, b"learner-2", orjson.dumps(sample), ID), cloudevents=mode)
    other = "structured" if mode == "binary" else "binary"
    for named, is_so in ((mode, True), (other, False)):
        message = described(topic, named)
        for schema, said in (
            (message["payload"], orjson.loads(value)),
            (message["headers"], {name: raw.decode() for name, raw in headers or []}),
        ):
            whole = schema | {"components": DOCUMENT["components"]}
            assert Draft7Validator(whole, format_checker=FormatChecker()).is_valid(said) is is_so


def test_a_message_without_an_id_is_no_event() -> None:
    """Rollouts and item parameters have their own keys, and no attributes."""
    assert sent(Message("item-parameters", b"population", VALUE), cloudevents="structured")[1:] == (
        VALUE, b"population", None,
    )  # fmt: skip
