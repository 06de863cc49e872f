"""The JSON Schemas in the repository are those of the models, and every topic has one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import schemas
from schemas import TOPICS
from schemas.generate import FOLDER, differences, expected_files, main

DESIGNED_TOPICS = {
    "interactions",
    "academics",
    "prediction-requests",
    "prediction-replies",
    "predictions.correctness",
    "predictions.time",
    "predictions.risk",
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
    assert differences(FOLDER, expected_files()) == []


@pytest.mark.parametrize("name", sorted(DESIGNED_TOPICS))
def test_a_schema_says_what_it_describes(name: str) -> None:
    """Each file is JSON Schema, names its topic, and asks for the user where the topic is keyed by user."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert name in schema["$comment"]
    variants = [schema["$defs"][each["$ref"].split("/")[-1]] for each in schema.get("oneOf", [])] or [schema]
    for variant in variants:
        assert "schema_version" in variant["properties"]
        if "user_id" in variant["properties"]:
            assert "user_id" in variant["required"]


@pytest.mark.parametrize("name", sorted(DESIGNED_TOPICS))
def test_a_schema_is_closed_where_we_write(name: str) -> None:
    """What we emit has no other fields; what we read may have."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    variants = [schema["$defs"][each["$ref"].split("/")[-1]] for each in schema.get("oneOf", [])] or [schema]
    for variant in variants:
        assert variant.get("additionalProperties", True) is (TOPICS[name].direction == "in")


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    """The output depends on the models alone; what is left over is removed."""
    (tmp_path / "gone.schema.json").write_text("{}", encoding="utf-8")
    assert main([], folder=tmp_path) == 0
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([], folder=tmp_path) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert first.keys() == {f"{name}.schema.json" for name in DESIGNED_TOPICS}


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` changes nothing, fails, and says which files are missing, stale or left over."""
    main([], folder=tmp_path)
    assert main(["--check"], folder=tmp_path) == 0
    (tmp_path / "interactions.schema.json").write_text("{}", encoding="utf-8")
    (tmp_path / "erasures.schema.json").unlink()
    (tmp_path / "gone.schema.json").write_text("{}", encoding="utf-8")
    assert main(["--check"], folder=tmp_path) == 1
    told = capsys.readouterr().err
    assert "interactions.schema.json: differs" in told
    assert "erasures.schema.json: missing" in told
    assert "gone.schema.json: no topic of that name" in told
    assert (tmp_path / "interactions.schema.json").read_text(encoding="utf-8") == "{}"


def test_schemas_need_pydantic_only() -> None:
    """A producer may import the contracts without the worker, Kafka, numpy or torch."""
    program = (
        "import sys, schemas;"
        "others = 'stream faust aiokafka confluent_kafka redis numpy torch orjson structlog';"
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
