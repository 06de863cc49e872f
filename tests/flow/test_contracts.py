"""What a consumer reads from the real broker is what the contracts say: CloudEvents, JSON Schemas, xAPI statements."""

import json
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
import pytest
import yaml
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from schemas import TOPICS
from schemas.generate import ROOT
from schemas.statements import EXTENSION
from stream.ports import Record
from tests.flow.system import Message, System, answer

HOME = "https://lms.example.org"
STATED = {"risk_statements": True, "actor_home_page": HOME}

GRADE = (
    "academics",
    {
        "event_id": "grade-1",
        "type": "grade_recorded",
        "user_id": "ada",
        "score": 41,
        "timestamp": "2026-03-01T09:00:00Z",
    },
)
REQUEST = ("prediction-requests", {"request_id": "q-1", "user_id": "ada", "targets": [{"topic_id": "ratios"}]})
BAD = ("academics", {"event_id": "bad-1", "type": "grade_recorded", "user_id": "ada", "timestamp": "yesterday"})

READ = (
    "predictions.correctness", "predictions.time", "predictions.risk", "predictions.risk.xapi", "prediction-replies",
    "training-examples", "dead-letters",
)  # fmt: skip
RISKS = ("predictions.risk", "predictions.risk.xapi")
_RISKS = 4


@cache
def value_schema(topic: str) -> Draft202012Validator:
    """Return what checks the values of a topic, as it is published."""
    schema = json.loads((ROOT / "schemas" / "json" / f"{topic}.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema, format_checker=FormatChecker())


@cache
def header_schema(topic: str) -> Draft7Validator:
    """Return what checks the headers of a topic, as the AsyncAPI document has it."""
    return Draft7Validator(described(topic, is_enveloped=False)["headers"], format_checker=FormatChecker())


@cache
def envelope_schema(topic: str) -> Draft7Validator:
    """Return what checks the values of a topic in structured mode, as the AsyncAPI document has it."""
    return Draft7Validator(described(topic, is_enveloped=True)["payload"] | {"components": DOCUMENT["components"]})


DOCUMENT = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text(encoding="utf-8"))


def described(topic: str, *, is_enveloped: bool) -> dict[str, Any]:
    """Return what the document says of a topic's first message, in an envelope or without."""
    (name, *_) = [name for name in DOCUMENT["channels"][topic]["messages"] if name.endswith("Envelope") is is_enveloped]
    message: dict[str, Any] = DOCUMENT["components"]["messages"][name]
    return message


def headers_of(record: Record) -> dict[str, bytes]:
    """Return the headers of a record."""
    return {name: value for name, value in record.headers if value is not None}


def event_of(record: Record) -> BaseCloudEvent:
    """Return what the official SDK makes of a record."""
    return from_kafka_event(KafkaMessage(headers=headers_of(record), key=record.key, value=record.value or b""))


def received(system: System) -> dict[str, list[Record]]:
    """
    Run a worker over a grade, answers of two weeks, a request and something bad; return what came out, by topic.

    There are four risks: of the grade, of the first interaction of either day, and of the week that is over.
    """
    system.options |= STATED
    system.create_topics()
    system.start("worker")
    system.send([GRADE, answer("ada", 1), BAD, REQUEST, answer("ada", 2, timestamp="2026-03-11T09:00:00Z")])

    def is_complete(found: list[Record]) -> bool:
        count = Counter(record.topic for record in found)
        return min(count[topic] for topic in READ) >= 1 and min(count[topic] for topic in RISKS) >= _RISKS

    records = system.records(*READ, until=is_complete)
    return {topic: [record for record in records if record.topic == topic] for topic in READ}


def data_of(event: BaseCloudEvent) -> Mapping[str, Any]:
    """Return the data of an event."""
    data = event.get_data()
    assert isinstance(data, dict)
    return data


def test_predictions_are_cloud_events_in_binary_mode(system: System) -> None:
    """Of every topic: the SDK reads it, its id is the message's, and value and headers are by their schemas."""
    ids = {"predictions.risk.xapi": "id", "prediction-replies": "reply_id", "training-examples": "example_id",
           "dead-letters": "dead_letter_id"}  # fmt: skip
    for topic, records in received(system).items():
        for record in records:
            event = event_of(record)
            value: Message = orjson.loads(record.value or b"")
            assert event.get_type() == f"learnerstream.{topic}.v1"
            assert event.get_source() == "/learnerstream"
            assert event.get_id() == value[ids.get(topic, "prediction_id")]
            assert event.get_data() == value
            assert event.get_extension("partitionkey") == "ada"
            value_schema(topic).validate(value)
            header_schema(topic).validate({name: raw.decode() for name, raw in headers_of(record).items()})


def test_predictions_are_cloud_events_in_structured_mode(system: System) -> None:
    """What others read comes in envelopes, and what is in them is what there is without; the rest stays as it is."""
    system.options |= {"cloudevents": "structured"}
    for topic, records in received(system).items():
        is_enveloped = TOPICS[topic].cloud_events == "as set"
        for record in records:
            names = headers_of(record).keys()
            assert (names == {"content-type"}) is is_enveloped
            event = event_of(record)
            assert event.get_type() == f"learnerstream.{topic}.v1"
            value_schema(topic).validate(data_of(event))
            if is_enveloped:
                envelope_schema(topic).validate(orjson.loads(record.value or b""))


@pytest.mark.parametrize("guarantee", ["exactly_once"])
def test_each_risk_is_stated_once(system: System) -> None:
    """A statement for every risk prediction, of the learner whom the home page knows, saying the same."""
    found = received(system)
    said = {data["prediction_id"]: data for record in found["predictions.risk"] if (data := data_of(event_of(record)))}
    statements = [data_of(event_of(record)) for record in found["predictions.risk.xapi"]]
    assert len(said) == len(found["predictions.risk"]) == len(statements) == _RISKS
    assert {prediction["reason"] for prediction in said.values()} == {
        "academics", "first_interaction_of_day", "week_closed",
    }  # fmt: skip
    assert {record.key for record in found["predictions.risk.xapi"]} == {b"ada"}
    for statement in statements:
        behind = said.pop(statement["context"]["extensions"][EXTENSION + "prediction-id"])
        assert statement["actor"]["account"] == {"homePage": HOME, "name": "ada"}
        assert statement["result"]["score"]["scaled"] == behind["score"]
        assert statement["timestamp"] == behind["as_of"]
    assert said == {}
