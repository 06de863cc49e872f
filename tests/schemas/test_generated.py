"""The contracts in the repository are those of the models, and every topic has one."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import ValidationError

import schemas
from schemas import TOPICS
from schemas.generate import ROOT, differences, expected_files, main, samples

FOLDER = ROOT / "schemas" / "json"

DESIGNED_TOPICS = {
    "interactions",
    "academics",
    "prediction-requests",
    "prediction-replies",
    "predictions.correctness",
    "predictions.time",
    "predictions.risk",
    "predictions.risk.xapi",
    "training-examples",
    "model-updates",
    "model-events",
    "item-parameters",
    "erasures",
    "dead-letters",
}


def test_every_topic_has_a_contract() -> None:
    """The catalog lists these topics, no more and no fewer, each under its own name."""
    assert TOPICS.keys() == DESIGNED_TOPICS
    assert all(name == contract.name for name, contract in TOPICS.items())


def test_what_is_read_whole_is_compacted_and_nothing_else() -> None:
    """Control topics keep the last word on each key; the others forget by age."""
    compacted = {name for name, contract in TOPICS.items() if contract.cleanup == "compact"}
    assert compacted == {"model-updates", "item-parameters"}
    assert all(TOPICS[name].retention_hours is None for name in compacted)


def test_the_files_are_those_of_the_models() -> None:
    """A model that changed without `python -m schemas.generate` is noticed."""
    assert differences(ROOT, expected_files()) == []


@pytest.mark.parametrize("name", sorted(DESIGNED_TOPICS))
def test_a_schema_says_what_it_describes(name: str) -> None:
    """Each file is JSON Schema, names its topic, and asks for the user where the topic is keyed by user."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert name in schema["$comment"]
    variants = [schema["$defs"][each["$ref"].split("/")[-1]] for each in schema.get("oneOf", [])] or [schema]
    for variant in variants:
        # What a statement may say is xAPI's to decide.
        assert ("schema_version" in variant["properties"]) is not name.endswith(".xapi")
        if "user_id" in variant["properties"]:
            assert "user_id" in variant["required"]


@pytest.mark.parametrize("name", sorted(DESIGNED_TOPICS))
def test_fields_may_be_added(name: str) -> None:
    """Whoever checks messages by the published schemas may go on when we say more; we ourselves say nothing unknown."""
    published = Draft202012Validator(json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")))
    contract = TOPICS[name]
    for sample in samples()[name]:
        longer = with_further_fields(sample)
        published.validate(longer)
        if contract.direction == "in":
            contract.adapter.validate_python(longer)
        else:
            with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
                contract.adapter.validate_python(longer)


def with_further_fields(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a message with a field that no contract knows, in itself and in the objects that have their own schema."""
    longer = copy.deepcopy(sample)
    for each in (longer, *(value for name, value in longer.items() if name in {"source", "model", "observed"})):
        each["further"] = "field"
    return longer


ANSWER = {"type": "quiz_complete", "user_id": "u", "topic_id": "t", "score": 1, "timestamp": "2026-03-01T09:00:00Z"}


@pytest.mark.parametrize(
    ("fields", "is_valid"),
    [
        ({}, True),
        ({"score": None, "correct": False}, True),
        ({"score": 0.5, "correct": None}, True),
        ({"score": None}, False),
        ({"score": None, "correct": None}, False),
        ({"type": "resource_view", "score": None}, True),
        ({"type": "feedback_recommendation", "score": None}, True),
        ({"type": "answer_correction"}, False),
        ({"type": "answer_correction", "corrects": None}, False),
        ({"type": "answer_correction", "corrects": "e-1"}, True),
        ({"type": "answer_correction", "corrects": "e-1", "score": None}, False),
        ({"timestamp": "1969-06-01T00:00:00Z"}, False),
        ({"timestamp": "1970-01-01T00:00:00Z"}, True),
        ({"timestamp": "1969-12-31T23:00:00-02:00"}, True),
        ({"timestamp": "1999-12-31T23:59:59Z"}, True),
        ({"timestamp": "2100-12-31T23:59:59Z"}, True),
        ({"timestamp": "2101-01-01T00:30:00+01:00"}, True),
        ({"timestamp": "2101-02-01T00:00:00Z"}, False),
    ],
)
def test_an_interaction_is_by_its_schema_what_it_is_by_its_model(fields: dict[str, Any], is_valid: bool) -> None:
    """What a type needs, and which years there are, is said to those who have the schema only."""
    schema = json.loads((FOLDER / "interactions.schema.json").read_text(encoding="utf-8"))
    message = ANSWER | fields
    assert Draft202012Validator(schema, format_checker=FormatChecker()).is_valid(message) is is_valid
    if is_valid:
        schemas.decode_interaction(json.dumps(message).encode())
    else:
        with pytest.raises(schemas.InvalidEvent):
            schemas.decode_interaction(json.dumps(message).encode())


def content(root: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    """The output depends on the models alone; what is left over is removed."""
    (tmp_path / "schemas" / "json").mkdir(parents=True)
    (tmp_path / "schemas" / "json" / "gone.schema.json").write_text("{}", encoding="utf-8")
    assert main([], root=tmp_path) == 0
    first = content(tmp_path)
    assert main([], root=tmp_path) == 0
    assert content(tmp_path) == first
    schemas_of = {f"schemas/json/{name}.schema.json" for name in DESIGNED_TOPICS}
    assert first.keys() == schemas_of | {"schemas/asyncapi.yaml", "docs/contracts.html"}


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` changes nothing, fails, and says which files are missing, stale or left over."""
    main([], root=tmp_path)
    assert main(["--check"], root=tmp_path) == 0
    folder = tmp_path / "schemas" / "json"
    (folder / "interactions.schema.json").write_text("{}", encoding="utf-8")
    (folder / "erasures.schema.json").unlink()
    (folder / "gone.schema.json").write_text("{}", encoding="utf-8")
    (tmp_path / "schemas" / "asyncapi.yaml").write_text("asyncapi: 3.0.0", encoding="utf-8")
    (tmp_path / "docs" / "contracts.html").unlink()
    assert main(["--check"], root=tmp_path) == 1
    told = capsys.readouterr().err
    assert "interactions.schema.json: differs" in told
    assert "erasures.schema.json: missing" in told
    assert "gone.schema.json: no topic of that name" in told
    assert "asyncapi.yaml: differs" in told
    assert "contracts.html: missing" in told
    assert (folder / "interactions.schema.json").read_text(encoding="utf-8") == "{}"


def test_schemas_need_pydantic_only() -> None:
    """A producer may import the contracts without the worker, Kafka, numpy or torch."""
    program = (
        "import sys, schemas;"
        "others = 'stream faust aiokafka confluent_kafka redis numpy torch orjson structlog yaml';"
        "print(*sorted(set(others.split()) & sys.modules.keys()))"
    )
    root = Path(schemas.__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=root, env=environment
    )
    assert done.stdout.strip() == ""


def test_every_public_name_can_be_imported() -> None:
    """`__all__` names what is there, once, in order."""
    assert all(hasattr(schemas, name) for name in schemas.__all__)
    assert len(set(schemas.__all__)) == len(schemas.__all__)
