"""
What was once written can still be read, and who held to a contract can go on holding to it.

`data/messages` has messages as earlier commits wrote or took them, one of each shape, with the first commit that has
it. `data/v1` has the schemas as they are promised: of what we read and of what passes between our own parts as it is
read, of the rest as it is written, with every field that is always there. Both only ever grow.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas import TOPICS, Contract
from schemas.asyncapi import published
from tests.schemas.compatibility import Json, Side, broken

DATA = Path(__file__).parent / "data"
PROMISED = sorted(path.name.removesuffix(".schema.json") for path in (DATA / "v1").iterdir())

PASSED_OVER = {("model-events", "acf5ab3", "gate_decided")}
"""
Of another form than readers know, and left out by them as a message of another release: decisions of a gate that had
another test, of which what is said now does not follow.
"""


def stored() -> list[tuple[str, str, Json]]:
    """Return topic, commit and message of everything that is kept."""
    return [
        (path.stem, line["commit"], line["message"])
        for path in sorted((DATA / "messages").iterdir())
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    ]


@pytest.mark.parametrize(("topic", "commit", "message"), stored())
def test_a_stored_message_can_be_read(topic: str, commit: str, message: Json) -> None:
    """Whatever may still lie on a topic is read by today's models."""
    raw = json.dumps(message).encode()
    if (topic, commit, message.get("type")) in PASSED_OVER:
        with pytest.raises(ValidationError):
            TOPICS[topic].adapter.validate_json(raw)
        return
    read = TOPICS[topic].adapter.validate_json(raw)
    said = read.model_dump(mode="json", exclude_unset=True)
    assert said.keys() >= message.keys() - {"type"}


def test_messages_of_every_topic_are_stored() -> None:
    """A topic has its messages here as soon as somebody may have stored them."""
    assert {topic for topic, _, _ in stored()} == set(PROMISED)
    assert TOPICS.keys() == set(PROMISED)


def test_a_risk_that_says_no_moment_is_of_when_it_was_made() -> None:
    """Before `as_of` was there, every prediction was of its moment."""
    (first, *_) = [message for topic, commit, message in stored() if (topic, commit) == ("predictions.risk", "acf5ab3")]
    read = TOPICS["predictions.risk"].adapter.validate_python(first)
    assert "as_of" not in first
    assert read.as_of == read.produced_at


def test_an_example_that_says_no_type_is_an_answer() -> None:
    """Before there were corrections and weeks, every example was an answer's."""
    (first, *_) = [message for topic, _, message in stored() if topic == "training-examples" and "type" not in message]
    assert TOPICS["training-examples"].adapter.validate_python(first).type == "answer"


def side_of(contract: Contract) -> Side:
    """Return from which side a topic's messages are promised."""
    return "written" if contract.direction == "out" else "read"


def schema_of(contract: Contract) -> Json:
    """Return the schema of a topic from the side from which it is promised."""
    mode: Any = "serialization" if side_of(contract) == "written" else "validation"
    schema: Json = published(contract.adapter.json_schema(mode=mode))
    return schema


def promised(topic: str) -> Json:
    """Return the schema of a topic as it was promised."""
    schema: Json = json.loads((DATA / "v1" / f"{topic}.schema.json").read_text(encoding="utf-8"))
    return schema


@pytest.mark.parametrize("topic", PROMISED)
def test_a_contract_keeps_what_it_promised(topic: str) -> None:
    """Nothing new is asked for, nothing that was taken is refused, nothing that was there is gone."""
    assert broken(promised(topic), schema_of(TOPICS[topic]), side_of(TOPICS[topic])) == []


@pytest.mark.parametrize("topic", [name for name, contract in TOPICS.items() if contract.direction == "out"])
def test_fields_with_defaults_are_promised_too(topic: str) -> None:
    """We leave none out: of what we write each is required, but the one that xAPI has no null for."""
    schema = promised(topic)
    left_out = {
        name.rsplit("/", 1)[-1]
        for model in [schema, *schema.get("$defs", {}).values()]
        for name in model.get("properties", {}).keys() - set(model.get("required", ()))
    }
    assert left_out == ({"outcome"} if topic.endswith(".xapi") else set())


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_a_contract_is_compatible_with_itself(topic: str) -> None:
    """The rule finds nothing where nothing has changed."""
    schema = schema_of(TOPICS[topic])
    assert broken(schema, schema, side_of(TOPICS[topic])) == []


CHANGES: dict[str, tuple[str, Callable[[Json], Any], str]] = {
    "a new required field": ("interactions", lambda s: s["required"].append("score"), "score: required, and was not"),
    "a field that is gone": ("interactions", lambda s: s["properties"].pop("skills"), "skills: gone"),
    "a narrower range": (
        "interactions",
        lambda s: s["properties"]["score"]["anyOf"][0].update(maximum=0.5),
        "score: number fits no more",
    ),
    "no null any more": (
        "interactions",
        lambda s: s["properties"]["score"]["anyOf"].pop(),
        "score: null fits no more",
    ),
    "a value that is no longer taken": (
        "interactions",
        lambda s: s["properties"]["type"]["enum"].remove("resource_view"),
        "type: the values",
    ),
    "a shorter text": (
        "erasures",
        lambda s: s["properties"]["user_id"].update(maxLength=100),
        "user_id: maxLength 256 is not within 100",
    ),
    "a type that is gone": (
        "academics",
        lambda s: s["discriminator"]["mapping"].pop("risk_labelled"),
        "the type risk_labelled is gone",
    ),
    "an example that must say more": (
        "training-examples",
        lambda s: s["$defs"]["TrainingExample"]["required"].append("unheard"),
        "value(answer).unheard: required, and was not",
    ),
    "a prediction without its score": (
        "predictions.risk",
        lambda s: s["properties"].pop("score"),
        "value.score: gone",
    ),
    "a score of another type": (
        "predictions.risk",
        lambda s: s["properties"]["score"].update(type="string"),
        "score: expected number, found string",
    ),
    "a score that may be null": (
        "predictions.risk",
        lambda s: s["properties"].update(score={"anyOf": [s["properties"]["score"], {"type": "null"}]}),
        "score: null fits no more",
    ),
    "a field that may be absent": (
        "predictions.risk",
        lambda s: s["required"].remove("as_of"),
        "as_of: no longer always there",
    ),
    "a target without its probability": (
        "predictions.correctness",
        lambda s: s["$defs"]["CorrectnessTarget"]["properties"].pop("p_correct"),
        "value.targets[].p_correct: gone",
    ),
    "a default that is no longer written": (
        "predictions.risk",
        lambda s: s["required"].remove("outcome"),
        "outcome: no longer always there",
    ),
    "a value of what we write that is gone": (
        "predictions.risk",
        lambda s: s["properties"]["category"]["enum"].remove("Low"),
        "category: expected the values ['\"Critical\"', '\"High\"', '\"Low\"'",
    ),
    "other values of what we write": (
        "predictions.risk",
        lambda s: s["properties"]["reason"].update(enum=["asked"]),
        "reason: expected the values",
    ),
    "another constant": (
        "predictions.risk",
        lambda s: s["properties"]["schema_version"].update(const=2),
        "schema_version: expected the values ['1'], found ['2']",
    ),
    "a constant that is one of several": (
        "predictions.risk.xapi",
        lambda s: s["$defs"]["Verb"]["properties"]["id"].update(
            enum=[s["$defs"]["Verb"]["properties"]["id"].pop("const"), "b"]
        ),
        "verb.id: expected the values",
    ),
    "any text where there were values": (
        "predictions.risk",
        lambda s: s["properties"]["reason"].pop("enum"),
        "reason: any value",
    ),
    "values of a map that are of another type": (
        "predictions.correctness",
        lambda s: s["properties"]["mastery"].update(additionalProperties={"type": "string"}),
        "mastery.*: expected number, found string",
    ),
    "values of a map that may be anything": (
        "predictions.correctness",
        lambda s: s["properties"]["mastery"].pop("additionalProperties"),
        "mastery.*: expected number, found anything",
    ),
    "a wider range of a map's values": (
        "predictions.correctness",
        lambda s: s["properties"]["mastery"]["additionalProperties"].pop("maximum"),
        "mastery.*: maximum none is not within 1",
    ),
    "a pair of other things": (
        "dead-letters",
        lambda s: s["properties"]["headers"]["items"]["prefixItems"][0].update(type="integer"),
        "headers[][0]: expected string, found integer",
    ),
    "a pair of anything": (
        "dead-letters",
        lambda s: s["properties"]["headers"]["items"].pop("prefixItems"),
        "headers[][0]: expected string, found anything",
    ),
    "a list of other things": (
        "predictions.risk",
        lambda s: s["properties"]["factors"].update(items={"type": "string"}),
        "factors[]: expected object, found string",
    ),
    "a list of anything": (
        "predictions.risk",
        lambda s: s["properties"]["factors"].pop("items"),
        "factors[]: expected object, found anything",
    ),
    "fields that are no longer ignored": (
        "interactions",
        lambda s: s.update(additionalProperties=False),
        "value: further fields, which were ignored, are refused",
    ),
    "a list without repetitions": (
        "interactions",
        lambda s: s["properties"]["skills"]["anyOf"][0].update(uniqueItems=True),
        "skills: array fits no more",
    ),
    "steps where there were none": (
        "academics",
        lambda s: s["$defs"]["RiskLabelled"]["properties"]["score"].update(multipleOf=0.1),
        "score: multipleOf 'none' is not 0.1",
    ),
    "a narrower type of a map's values": (
        "academics",
        lambda s: s["$defs"]["EnrolmentRecorded"]["properties"]["context"]["anyOf"][0].update(
            additionalProperties={"type": "integer"}
        ),
        "context: object fits no more",
    ),
    "shorter names in a map": (
        "academics",
        lambda s: s["$defs"]["EnrolmentRecorded"]["properties"]["context"]["anyOf"][0]["propertyNames"].update(
            maxLength=9
        ),
        "context: object fits no more",
    ),
    "texts no longer in a map": (
        "academics",
        lambda s: next(
            iter(s["$defs"]["EnrolmentRecorded"]["properties"]["context"]["anyOf"][0]["patternProperties"].values())
        )["anyOf"].pop(0),
        "context: object fits no more",
    ),
    "a narrower type of what a list holds": (
        "prediction-requests",
        lambda s: s["properties"]["targets"].update(items={"type": "string"}),
        "targets[]: expected object, found string",
    ),
    "whole numbers only": (
        "academics",
        lambda s: s["$defs"]["RiskLabelled"]["properties"]["score"].update(type="integer"),
        "score: expected number, found integer",
    ),
    "a further condition": (
        "interactions",
        lambda s: s["allOf"].append({"if": {"required": ["item_id"]}, "then": {"required": ["difficulty"]}}),
        "the condition",
    ),
    "a word that nothing is known of": (
        "interactions",
        lambda s: s["properties"]["user_id"].update({"not": {"const": "me"}}),
        "user_id: nothing is known here of not",
    ),
    "a word beside a reference": (
        "predictions.risk",
        lambda s: s["properties"]["model"].update(minProperties=4),
        "model: nothing is known here of minProperties",
    ),
    "a wider range of what we write": (
        "predictions.risk",
        lambda s: s["properties"]["score"].pop("maximum"),
        "score: maximum none is not within 1",
    ),
}


@pytest.mark.parametrize(("topic", "change", "told"), CHANGES.values(), ids=list(CHANGES))
def test_a_change_that_breaks_is_named(topic: str, change: Callable[[Json], Any], told: str) -> None:
    """What others rely on cannot go without a test that fails."""
    old = schema_of(TOPICS[topic])
    new = copy.deepcopy(old)
    change(new)
    found = broken(old, new, side_of(TOPICS[topic]))
    assert any(told in sentence for sentence in found), found


ADDITIONS: dict[str, tuple[str, Callable[[Json], Any]]] = {
    "an optional field that we read": ("interactions", lambda s: s["properties"].update(hints={"type": "integer"})),
    "a further type that we read": ("interactions", lambda s: s["properties"]["type"]["enum"].append("hint_taken")),
    "a longer text that we read": ("erasures", lambda s: s["properties"]["user_id"].update(maxLength=512)),
    "a further field that we write": ("predictions.risk", lambda s: s["properties"].update(trend={"type": "number"})),
    "a field without a condition": ("interactions", lambda s: s["allOf"].pop()),
    "further types where fields may be anything": (
        "interactions",
        lambda s: s["properties"]["type"].pop("enum"),
    ),
    "a constant that we read as one of several": (
        "academics",
        lambda s: s["$defs"]["RiskLabelled"]["properties"]["type"].update(
            enum=[s["$defs"]["RiskLabelled"]["properties"]["type"].pop("const"), "risk_named"]
        ),
    ),
    "a further reason that we write": ("predictions.risk", lambda s: s["properties"]["reason"]["enum"].append("asked")),
    "a narrower range of what we write": (
        "predictions.risk",
        lambda s: s["properties"]["score"].update(maximum=0.99),
    ),
}


@pytest.mark.parametrize(("topic", "change"), ADDITIONS.values(), ids=list(ADDITIONS))
def test_a_change_that_adds_is_none_that_breaks(topic: str, change: Callable[[Json], Any]) -> None:
    """A contract may grow within its version."""
    old = schema_of(TOPICS[topic])
    new = copy.deepcopy(old)
    change(new)
    assert broken(old, new, side_of(TOPICS[topic])) == []
