"""The AsyncAPI document is valid by the official schema, whole, and shows messages that are what it says."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from schemas import TOPICS
from schemas.asyncapi import MESSAGE_MAX_BYTES, PARTITIONS, document
from schemas.generate import ROOT, samples
from stream.settings import Settings
from stream.transport.topics import wanted

Json = dict[str, Any]

WRITTEN: Json = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text(encoding="utf-8"))


def errors(official: Json, written: Json) -> list[str]:
    """Return what the official schema finds wrong with a document."""
    validator = Draft7Validator(official, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(written)]


def test_the_document_is_valid(asyncapi_schema: Json) -> None:
    """What is in the repository is AsyncAPI 3.0, Kafka bindings and schemas included."""
    assert asyncapi_schema["$id"] == "http://asyncapi.com/definitions/3.0.0/asyncapi.json"
    assert errors(asyncapi_schema, WRITTEN) == []


BROKEN: dict[str, Callable[[Json], Any]] = {
    "another version": lambda d: d.update(asyncapi="2.6.0"),
    "no title": lambda d: d["info"].pop("title"),
    "an unknown action": lambda d: d["operations"]["receiveInteractions"].update(action="publish"),
    "an unknown policy": lambda d: d["channels"]["interactions"]["bindings"]["kafka"]["topicConfiguration"].update(
        {"cleanup.policy": ["forget"]}
    ),
    "no partitions": lambda d: d["channels"]["interactions"]["bindings"]["kafka"].update(partitions=0),
    "a key that is no schema": lambda d: d["components"]["messages"]["Interaction"]["bindings"]["kafka"].update(key=7),
    "a payload that is no schema": lambda d: d["components"]["schemas"]["Interaction"].update(type="thing"),
    "a protocol without a host": lambda d: d["servers"]["plaintext"].pop("host"),
    "an unknown field": lambda d: d["channels"]["interactions"].update(publish={}),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_document_is_refused(asyncapi_schema: Json, change: Callable[[Json], Any]) -> None:
    """The official schema is really asked."""
    broken = copy.deepcopy(WRITTEN)
    change(broken)
    assert errors(asyncapi_schema, broken) != []


def test_the_file_says_what_the_generator_says() -> None:
    """Nothing is lost on the way through YAML, and nothing is written as an alias."""
    assert json.dumps(document(samples())) == json.dumps(WRITTEN)
    assert "&id" not in (ROOT / "schemas" / "asyncapi.yaml").read_text(encoding="utf-8")


def references(node: Any) -> list[str]:
    """Return every reference in a document."""
    if isinstance(node, list):
        return [reference for each in node for reference in references(each)]
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [reference for each in node.values() for reference in references(each)]
    return []


def resolved(reference: str) -> Any:
    """Return what a reference within the document leads to."""
    found: Any = WRITTEN
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_every_reference_leads_somewhere() -> None:
    """The document stands alone: no file beside it is needed."""
    found = references(WRITTEN)
    assert found
    assert all(reference.startswith("#/") and resolved(reference) is not None for reference in found)


def examples() -> list[tuple[str, Json]]:
    """Return every example of the document, under the name of its message."""
    messages = WRITTEN["components"]["messages"]
    return [(name, example["payload"]) for name, message in messages.items() for example in message["examples"]]


def test_every_message_has_an_example() -> None:
    """Whoever reads the document sees what each message looks like."""
    assert {name for name, _ in examples()} == set(WRITTEN["components"]["messages"])
    types = {example["type"] for name, example in examples() if name == "Interaction"}
    assert types == set(WRITTEN["components"]["schemas"]["Interaction"]["properties"]["type"]["enum"])


@pytest.mark.parametrize(("name", "payload"), examples())
def test_an_example_is_what_its_schema_says(name: str, payload: Json) -> None:
    """Examples are valid by the document's own schemas, formats included."""
    Draft7Validator.check_schema(WRITTEN["components"]["schemas"][name])
    assert WRITTEN["components"]["messages"][name]["payload"] == {"$ref": f"#/components/schemas/{name}"}
    checks(name).validate(payload)


def nodes(node: Any) -> list[Json]:
    """Return every object of a document."""
    if isinstance(node, list):
        return [found for each in node for found in nodes(each)]
    return [node, *(found for each in node.values() for found in nodes(each))] if isinstance(node, dict) else []


def test_nothing_stands_beside_a_reference() -> None:
    """Draft 7 would ignore it, descriptions included."""
    found = nodes(WRITTEN["components"]["schemas"])
    assert [each for each in found if "$ref" in each and len(each) > 1] == []
    assert [each for each in found if "allOf" in each and "description" in each and "$ref" in each["allOf"][0]] != []


def checks(name: str) -> Draft7Validator:
    """Return what checks payloads by a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": WRITTEN["components"]}
    return Draft7Validator(schema, format_checker=FormatChecker())


@pytest.mark.parametrize("header", [["name"], ["name", None, "more"], [7, "dmFsdWU="], "name"])
def test_a_pair_is_one_in_draft_7(header: Any) -> None:
    """A header of a dead letter is a name and a value: draft 7 has another word for that than 2020-12."""
    (sample, *_) = samples()["dead-letters"]
    assert checks("DeadLetter").is_valid(sample | {"headers": [["name", None], ["other", "dmFsdWU="]]})
    assert not checks("DeadLetter").is_valid(sample | {"headers": [header]})
    assert [each for each in nodes(WRITTEN) if "prefixItems" in each] == []


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_keys_are_texts(topic: str) -> None:
    """A key of the samples is what the document says of keys."""
    keys = {"model name": "knowledge", "subject": "item/fractions-07", "as it came": "", "user": "learner-2"}
    for reference in WRITTEN["channels"][topic]["messages"].values():
        key = resolved(reference["$ref"])["bindings"]["kafka"]["key"]
        assert key["type"] == "string"
        Draft7Validator(key).validate(keys[TOPICS[topic].key.name])


def test_a_reply_can_be_told_by_its_request() -> None:
    """What the document says of where the id stands leads to one, in every example."""
    found: dict[str, set[str]] = {}
    for name, message in WRITTEN["components"]["messages"].items():
        if "correlationId" in message:
            where = message["correlationId"]["location"].removeprefix("$message.payload#/").split("/")
            for example in message["examples"]:
                told: Any = example["payload"]
                for part in where:
                    told = told[part]
                found.setdefault(name, set()).add(told)
    (id_,) = {sample["request_id"] for sample in samples()["prediction-replies"]}
    assert found.keys() == {"PredictionRequest", "PredictionReply", "PredictionReplyEnvelope"}
    assert found["PredictionReply"] == found["PredictionReplyEnvelope"] == {id_}
    assert id_ in found["PredictionRequest"]


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_a_sample_is_valid_by_model_and_json_schema(topic: str) -> None:
    """The samples, the models and the JSON Schemas agree; what we send has all of its fields."""
    schema = json.loads((ROOT / "schemas" / "json" / f"{topic}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    for sample in samples()[topic]:
        TOPICS[topic].adapter.validate_json(json.dumps(sample))
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(sample)


def test_channels_are_the_topics_as_they_are_created() -> None:
    """Partitions, cleanup and retention of the document are those that `stream topics create` sets."""
    settings = Settings(risk_statements=True, actor_home_page="https://lms.example.org")
    created = {topic.name: topic for topic in wanted(settings)}
    assert (settings.partitions, settings.message_max_bytes) == (PARTITIONS, MESSAGE_MAX_BYTES)
    assert WRITTEN["channels"].keys() == TOPICS.keys()
    for name, channel in WRITTEN["channels"].items():
        binding = channel["bindings"]["kafka"]
        config = created[name].config
        assert binding["topic"] == channel["address"] == name
        assert binding["partitions"] == created[name].partitions
        assert binding["topicConfiguration"]["cleanup.policy"] == [config["cleanup.policy"]]
        assert str(binding["topicConfiguration"].get("retention.ms")) == str(config.get("retention.ms"))
        assert str(binding["topicConfiguration"]["max.message.bytes"]) == config["max.message.bytes"]


def test_operations_are_from_our_side() -> None:
    """We receive what our parts read and send what they write, the ingest what it has converted."""
    found: dict[str, set[str]] = {}
    for operation in WRITTEN["operations"].values():
        found.setdefault(operation["channel"]["$ref"].removeprefix("#/channels/"), set()).add(operation["action"])
    does = {"in": {"receive"}, "out": {"send"}, "internal": {"send", "receive"}}
    both = {"interactions", "academics", "model-events"}
    assert found == {
        name: {"send", "receive"} if name in both else does[contract.direction] for name, contract in TOPICS.items()
    }
    summaries = {name: operation["summary"].partition(" it.")[0] for name, operation in WRITTEN["operations"].items()}
    assert summaries["receiveInteractions"] == "The worker reads"
    assert summaries["sendInteractions"] == summaries["sendAcademics"] == "The ingest writes"
    assert summaries["sendDeadLetters"] == "The worker and ingest write"
    assert summaries["receiveErasures"] == "The worker and trainer read"
    request = WRITTEN["operations"]["receivePredictionRequests"]
    assert request["reply"]["channel"]["$ref"] == "#/channels/prediction-replies"


WHO = {
    "interactions": ("learning platform, ingest", "worker"),
    "academics": ("learning platform, ingest", "worker"),
    "prediction-requests": ("application", "worker"),
    "erasures": ("operator, application", "worker, trainer"),
    "prediction-replies": ("worker", "application"),
    "predictions.correctness": ("worker", "application"),
    "predictions.time": ("worker", "application"),
    "predictions.risk": ("worker", "application"),
    "predictions.risk.xapi": ("worker", "learning record store"),
    "model-events": ("worker, trainer, operator", "application, trainer"),
    "dead-letters": ("worker, ingest", "operator, application"),
    "training-examples": ("worker", "trainer"),
    "model-updates": ("trainer, operator", "worker, trainer"),
    "item-parameters": ("trainer", "worker, trainer"),
}


def test_a_channel_names_who_writes_and_who_reads() -> None:
    """Of each topic, the right way round."""
    channels = WRITTEN["channels"]
    assert {name: (", ".join(c["x-writers"]), ", ".join(c["x-readers"])) for name, c in channels.items()} == WHO


def test_cloud_events_are_declared_as_they_are_sent() -> None:
    """The headers of a message are those of the CloudEvents binding, with the message's own type."""
    for name, contract in TOPICS.items():
        messages = WRITTEN["channels"][name]["messages"]
        enveloped = {each for each in messages if each.endswith("Envelope")}
        assert bool(enveloped) is (contract.cloud_events == "as set")
        for reference in (messages[each] for each in messages.keys() - enveloped):
            message = resolved(reference["$ref"])
            has_attributes = "ce_id" in message.get("headers", {}).get("properties", {})
            assert has_attributes is (contract.cloud_events != "no")
            if has_attributes:
                assert message["headers"]["properties"]["ce_type"]["const"] == f"learnerstream.{name}.v1"


def test_the_samples_are_those_of_the_topics() -> None:
    """No sample of a topic that is no more is left."""
    assert {path.stem for path in Path(ROOT / "schemas" / "samples").iterdir()} == set(TOPICS)
