"""
The topics as an AsyncAPI 3.0 document, made from the catalog and the models.

Pure. The application that it describes is the whole of us, worker, ingest and trainer: it receives what its parts read
and sends what they write. Its schemas are of draft 7, which every tool for AsyncAPI reads; those in `json/` are of
2020-12.

Source:
    AsyncAPI 3.0.0, and version 0.5.0 of its Kafka bindings.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from schemas.catalog import TOPICS, Contract
from schemas.rules import CHANGES, RULES, kept, listed

Json = dict[str, Any]
Samples = Mapping[str, Sequence[Json]]
"""Messages that show what a topic carries, by topic."""

_BINDING: Final = "0.5.0"
PARTITIONS: Final = 16
"""Of a topic that has as many as STREAM_PARTITIONS says: its default."""

MESSAGE_MAX_BYTES: Final = 4_194_304
"""Of every topic, as STREAM_MESSAGE_MAX_BYTES says: its default."""

_HOUR_MS: Final = 3_600_000
_SCHEMAS: Final = "#/components/schemas/"


def document(samples: Samples) -> Json:
    """
    Return the document.

    Args:
        samples: At least one message of each type of each topic.
    """
    variants, schemas = models()
    messages: Json = {}
    for contract in TOPICS.values():
        for type_, name in variants[contract.name].items():
            shown = of_type(samples[contract.name], type_)
            messages[name] = _message(contract, name, shown)
            if contract.cloud_events == "as set":
                messages[name + ENVELOPE] = _enveloped(contract, name, shown)
                schemas[name + ENVELOPE] = envelope(contract, name)
    names = {contract.name: _names(contract, variants[contract.name]) for contract in TOPICS.values()}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:learnerstream",
        "info": _info(),
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {name: _channel(contract, names[name]) for name, contract in TOPICS.items()},
        "operations": dict(_operations(names)),
        "components": {
            "messages": messages,
            "schemas": {name: _draft_7(schema) for name, schema in schemas.items()},
            "securitySchemes": _SECURITY,
        },
    }


def models() -> tuple[dict[str, dict[str, str]], Json]:
    """
    Return the models of each topic and all their schemas.

    Returns:
        By topic and `type` (`""` where there is but one) the model's name; and by name the schema.
    """
    asked = [(name, mode_of(contract), contract.adapter) for name, contract in TOPICS.items()]
    of_topic, together = TypeAdapter.json_schemas(asked, ref_template=_SCHEMAS + "{model}")
    variants = {
        name: {type_: _name(ref) for type_, ref in _variants(of_topic[name, mode]).items()} for name, mode, _ in asked
    }
    return variants, published(together["$defs"])


def published(schema: Any) -> Any:  # noqa: ANN401 (any node of a schema)
    """
    Return a model's schema as others may hold to it: open, for fields may be added.

    Our own models of what we write stay closed, so that nothing goes out that no contract names.
    """
    if isinstance(schema, list):
        return [published(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: published(value)
        for name, value in schema.items()
        if not (name == "additionalProperties" and value is False)
    }


def mode_of(contract: Contract) -> Any:  # noqa: ANN401 (a Literal that pydantic does not export)
    """Return of which side a topic's schema is: of what may be sent to us, or of what we send."""
    return "validation" if contract.direction == "in" else "serialization"


def _variants(schema: Json) -> dict[str, str]:
    mapping: dict[str, str] = schema["discriminator"]["mapping"] if "oneOf" in schema else {"": schema["$ref"]}
    return mapping


def _name(reference: str) -> str:
    return reference.removeprefix(_SCHEMAS)


def _draft_7(schema: Any) -> Any:  # noqa: ANN401 (any node of a schema)
    """Return a schema of 2020-12 in the words of draft 7, without the titles that pydantic makes of field names."""
    if isinstance(schema, list):
        return [_draft_7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    said = {name: _draft_7(value) for name, value in schema.items() if name not in {"prefixItems", "discriminator"}}
    if isinstance(said.get("title"), str) and "properties" not in said:
        del said["title"]
    if "prefixItems" in schema:
        said |= {"items": _draft_7(schema["prefixItems"]), "additionalItems": False}
    if "$ref" in said and len(said) > 1:
        # Draft 7 ignores whatever stands beside a reference.
        said = {"allOf": [{"$ref": said.pop("$ref")}]} | said
    return said


# ------------------------------------------------------------------------------------------------------------ parts


def _info() -> Json:
    rules = "\n\n".join(f"**{heading}.** {text}" for heading, text in RULES.items())
    return {
        "title": "learnerstream",
        "version": "1.0.0",
        "description": "Learners' events in, fresh predictions out, over Kafka: will the next answer be right, how "
        "long will it take, is the learner at risk.\n\n" + rules,
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    }


_SECURITY: Final[Json] = {
    "plain": {"type": "plain", "description": "STREAM_SASL_MECHANISM=PLAIN: user and password."},
    "scramSha256": {"type": "scramSha256", "description": "STREAM_SASL_MECHANISM=SCRAM-SHA-256."},
    "scramSha512": {"type": "scramSha512", "description": "STREAM_SASL_MECHANISM=SCRAM-SHA-512."},
    "certificate": {"type": "X509", "description": "A certificate of the client's own, where the broker asks for one."},
}

_SERVERS: Final = {
    "plaintext": ("kafka", (), "Without encryption: a laptop, or a network of one's own."),
    "ssl": ("kafka-secure", ("certificate",), "Encrypted, STREAM_SECURITY_PROTOCOL=SSL."),
    "sasl": ("kafka", ("plain", "scramSha256", "scramSha512"), "STREAM_SECURITY_PROTOCOL=SASL_PLAINTEXT."),
    "sasl-ssl": ("kafka-secure", ("plain", "scramSha256", "scramSha512"), "STREAM_SECURITY_PROTOCOL=SASL_SSL."),
}


def _servers() -> Json:
    servers: Json = {}
    for name, (protocol, security, description) in _SERVERS.items():
        servers[name] = {
            "host": "{broker}",
            "protocol": protocol,
            "title": name,
            "description": description,
            "variables": {"broker": {"default": "127.0.0.1:9092", "description": "STREAM_BROKER: `host:port`."}},
        }
        if security:
            servers[name]["security"] = [{"$ref": f"#/components/securitySchemes/{each}"} for each in security]
    return servers


def _channel(contract: Contract, names: Sequence[str]) -> Json:
    policy: Json = {"cleanup.policy": [contract.cleanup], "max.message.bytes": MESSAGE_MAX_BYTES}
    if contract.retention_hours is not None:
        policy["retention.ms"] = contract.retention_hours * _HOUR_MS
    return {
        "address": contract.name,
        "title": contract.name,
        "summary": contract.about,
        "description": f"Written by: {listed(contract.writers)}. Read by: {listed(contract.readers)}. "
        f"Key: {contract.key.name}. Kept: {kept(contract)}.\n\n{CHANGES[contract.direction]}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "tags": [{"name": contract.direction}],
        "bindings": {
            "kafka": {
                "topic": contract.name,
                "partitions": contract.partitions or PARTITIONS,
                "replicas": 1,
                "topicConfiguration": policy,
                "bindingVersion": _BINDING,
            }
        },
        "x-direction": contract.direction,
        "x-writers": list(contract.writers),
        "x-readers": list(contract.readers),
        "x-compatibility": CHANGES[contract.direction],
        "x-optional": contract.is_optional,
    }


ENVELOPE: Final = "Envelope"
"""Ends the name of a message in structured mode."""


def _names(contract: Contract, variants: Mapping[str, str]) -> list[str]:
    """Return the names of a topic's messages: of each model, and of its envelope where there is one."""
    return [*variants.values(), *(name + ENVELOPE for name in variants.values() if contract.cloud_events == "as set")]


def _message(contract: Contract, name: str, samples: Sequence[Json]) -> Json:
    sent_by = headers(contract)
    message: Json = {
        "name": name,
        "title": name,
        "contentType": "application/json",
        "payload": {"$ref": _SCHEMAS + name},
        "bindings": {"kafka": {"key": dict(contract.key.schema), "bindingVersion": _BINDING}},
    }
    if sent_by is not None:
        message["headers"] = sent_by
    if contract.name in _CORRELATED:
        message["correlationId"] = {
            "description": "The reply's is that of its request.",
            "location": "$message.payload#/request_id",
        }
    message["examples"] = [{"name": f"{name}-{number}", "payload": sample} for number, sample in enumerate(samples, 1)]
    return message


_CORRELATED: Final = frozenset({"prediction-requests", "prediction-replies"})


def _enveloped(contract: Contract, name: str, samples: Sequence[Json]) -> Json:
    """Return a message as it is with STREAM_CLOUDEVENTS=structured."""
    message = _message(contract, name + ENVELOPE, [_in_envelope(contract, sample) for sample in samples])
    message["summary"] = "With STREAM_CLOUDEVENTS=structured."
    message["contentType"] = "application/cloudevents+json"
    said = {"const": "application/cloudevents+json; charset=UTF-8", "description": "Of the value."}
    message["headers"] = _object({"content-type": said}, is_required=True)
    if "correlationId" in message:
        message["correlationId"] |= {"location": "$message.payload#/data/request_id"}
    return message


def envelope(contract: Contract, name: str) -> Json:
    """Return the JSON Schema of a message in its envelope: the attributes without their prefix, and the value."""
    attributes = {
        attribute.removeprefix("ce_"): schema
        for attribute, schema in _attributes(contract).items()
        if attribute.startswith("ce_")
    }
    attributes["datacontenttype"] = {"const": "application/json", "description": "Of the data."}
    schema = _object(attributes, is_required=True)
    schema["description"] = f"A {name} as a CloudEvent in structured mode."
    schema["properties"]["data"] = {"$ref": _SCHEMAS + name}
    schema["required"].append("data")
    return schema


def _in_envelope(contract: Contract, sample: Json) -> Json:
    """Return a sample as the outbox would send it."""
    return {
        "specversion": "1.0",
        "type": f"learnerstream.{contract.name}.v1",
        "source": "/learnerstream",
        "datacontenttype": "application/json",
        "id": next(sample[field] for field in ("prediction_id", "reply_id", "id") if field in sample),
        "time": next(sample[field] for field in ("produced_at", "timestamp") if field in sample),
        "data": sample,
    }


def of_type(samples: Sequence[Json], type_: str) -> list[Json]:
    """Return the messages of a type; all where it is empty, for the topic has but one model."""
    return [sample for sample in samples if not type_ or sample["type"] == type_]


def headers(contract: Contract) -> Json | None:
    """Return the JSON Schema of a topic's headers, None where there are none."""
    if contract.cloud_events != "no":
        return _object(_attributes(contract), is_required=True)
    if "ingest" in contract.writers:
        return _object(
            {
                "source_topic": {"description": "The foreign topic that it was converted from."},
                "source_partition": {"pattern": "^[0-9]+$", "description": "Its partition there."},
                "source_offset": {"pattern": "^[0-9]+$", "description": "Its place in the partition."},
                "source_id": {"description": "The original event's id."},
            },
            is_required=False,
        )
    return None


def _attributes(contract: Contract) -> dict[str, Json]:
    """Return the headers of a CloudEvent in binary mode, by name."""
    return {
        "ce_specversion": {"const": "1.0", "description": "Of CloudEvents."},
        "ce_id": {"format": "uuid", "description": "The message's own id: drop a second one of the same."},
        "ce_type": {"const": f"learnerstream.{contract.name}.v1", "description": "What the message is."},
        "ce_source": {
            "format": "uri-reference",
            "examples": ["/learnerstream"],
            "description": "Which system: STREAM_CLOUDEVENTS_SOURCE. With `ce_id`, unique.",
        },
        "ce_time": {"format": "date-time", "description": "When it was sent."},
        "content-type": {"const": "application/json", "description": "Of the value."},
    }


def _object(properties: Mapping[str, Json], *, is_required: bool) -> Json:
    described = {name: {"type": "string"} | schema for name, schema in properties.items()}
    required = {"required": list(properties)} if is_required else {}
    return {"type": "object", "properties": described} | required


def _operations(names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Json]]:
    for contract in TOPICS.values():
        for action in ("receive", "send"):
            who = _who(contract, action)
            if not who:
                continue
            operation: Json = {
                "action": action,
                "channel": {"$ref": f"#/channels/{contract.name}"},
                "title": f"{action.capitalize()} {contract.name}",
                "summary": f"The {listed(who)} {_DOES[action]}{'s' if len(who) == 1 else ''} it. {contract.about}",
                "messages": _messages(contract.name, names),
            }
            if action == "receive":
                group = {"type": "string", "description": "STREAM_GROUP.", "default": "learnerstream"}
                operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": _BINDING}}
            if contract.name == "prediction-requests":
                operation["reply"] = {
                    "channel": {"$ref": "#/channels/prediction-replies"},
                    "messages": _messages("prediction-replies", names),
                }
            yield f"{action}{_camel(contract.name)}", operation


_DOES: Final = {"send": "write", "receive": "read"}
_OURS: Final = ("worker", "ingest", "trainer")


def _who(contract: Contract, action: str) -> tuple[str, ...]:
    """Return which parts of us write or read a topic."""
    named = contract.writers if action == "send" else contract.readers
    return tuple(name for name in named if name in _OURS)


def _messages(topic: str, names: Mapping[str, Sequence[str]]) -> list[Json]:
    return [{"$ref": f"#/channels/{topic}/messages/{name}"} for name in names[topic]]


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[.-]", name))
