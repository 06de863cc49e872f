"""The documents say what the code does: settings, metrics, messages, and the README's own examples."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import TOPICS, decode_interaction
from stream.reference import BEGIN, END, README, main, replaced, settings_table
from stream.settings import Settings
from stream.telemetry import Metrics, TrainerMetrics

ROOT = README.parent
DOCS = ROOT / "docs"
DOCUMENTS = sorted([README, ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])


def blocks(document: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def first_event() -> str:
    """Return the README's example of a producer."""
    return next(block for block in blocks(README, "python") if "Producer" in block)


def test_the_settings_table_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A setting that changed without `python -m stream.reference` is noticed."""
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_every_setting_has_a_row_and_no_secret_a_value() -> None:
    """Each field stands once, with a description; secrets show that they are, and nothing more."""
    rows = {row.split("`")[1]: row for row in settings_table().splitlines()[2:]}
    assert list(rows) == [f"STREAM_{name.upper()}" for name in Settings.model_fields]
    assert all(not row.endswith("|  |") for row in rows.values())
    assert rows["STREAM_SASL_PASSWORD"].startswith("| `STREAM_SASL_PASSWORD` | unset | secret |")
    assert rows["STREAM_LEARNING_RATE"].startswith("| `STREAM_LEARNING_RATE` | `0.006` | above 0, to 1 |")
    assert "| `create`, `check`, `trust` |" in rows["STREAM_TOPICS"]


def test_the_table_knows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set where it is made does not get in."""
    before = settings_table()
    monkeypatch.setenv("STREAM_BROKER", "kafka.internal:9092")
    assert settings_table() == before


def test_a_stale_table_is_named_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` changes nothing and fails; without it the table is written, and what stands around it is kept."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    assert main(["--check"], readme=readme) == 1
    assert "run `python -m stream.reference`" in capsys.readouterr().err
    assert "old" in readme.read_text(encoding="utf-8")
    assert main([], readme=readme) == 0
    assert main(["--check"], readme=readme) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_text_without_the_markers_is_refused(text: str) -> None:
    """Nothing is written into a text that does not say where."""
    with pytest.raises(ValueError, match="expected the lines"):
        replaced(text, "table")


def test_the_examples_have_ten_lines_and_their_imports_work() -> None:
    """Each Python block of the README is valid, and imports what there is."""
    examples = blocks(README, "python")
    assert len(examples) == 2
    for example in examples:
        assert len([line for line in example.splitlines() if line.strip()]) <= 10
        for statement in ast.walk(ast.parse(example)):
            if isinstance(statement, ast.Import):
                for name in statement.names:
                    importlib.import_module(name.name)
            elif isinstance(statement, ast.ImportFrom):
                module = importlib.import_module(statement.module or "")
                assert all(hasattr(module, name.name) for name in statement.names)


class Recorder:
    """Stands in for a producer, and keeps what it was given."""

    made: list["Recorder"]

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.sent: list[tuple[str, str, str]] = []
        self.made.append(self)

    def produce(self, topic: str, *, key: str, value: str) -> None:
        """Keep a message."""
        self.sent.append((topic, key, value))

    def flush(self) -> None:
        """Do nothing."""


def test_the_first_event_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README's producer sends is accepted, under the user's key and Java's partitioner."""
    monkeypatch.setattr(Recorder, "made", [], raising=False)
    monkeypatch.setattr("confluent_kafka.Producer", Recorder)
    exec(compile(first_event(), README.name, "exec"), {})  # noqa: S102 (our own example)
    (producer,) = Recorder.made
    ((topic, key, value),) = producer.sent
    assert producer.config["partitioner"] == "murmur2_random"
    assert topic == "interactions"
    assert decode_interaction(value.encode()).user_id == key


def sections() -> dict[str, list[str]]:
    """Return the JSON examples of `docs/messages.md`, by topic."""
    parts = re.split(r"^## ", (DOCS / "messages.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {part.splitlines()[0]: re.findall(r"^```json\n(.*?)^```", part, re.DOTALL | re.MULTILINE) for part in parts}


def test_every_topic_has_an_example_that_is_valid() -> None:
    """`docs/messages.md` shows each topic, and what it shows is what the models take."""
    examples = sections()
    assert examples.keys() == TOPICS.keys()
    for topic, messages in examples.items():
        assert messages
        for message in messages:
            TOPICS[topic].adapter.validate_json(message)


def test_the_predictions_in_the_readme_are_valid() -> None:
    """The README's predictions, shortened as they are, still are some."""
    correctness, risk = blocks(README, "json")
    assert orjson.loads(correctness)["fallback"]
    TOPICS["predictions.correctness"].adapter.validate_json(correctness)
    TOPICS["predictions.risk"].adapter.validate_json(risk)


def test_every_metric_is_described() -> None:
    """`docs/metrics.md` lists the metrics that there are, with their kinds and labels, and no others."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (?:`([\w,]+)`)? ?\|", (DOCS / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    found = {}
    for registry in (Metrics(100).registry, TrainerMetrics().registry):
        for metric in registry.collect():
            name = metric.name + ("_total" if metric.type == "counter" else "")
            (collector,) = {registry._names_to_collectors[metric.name]}
            labels: tuple[str, ...] = getattr(collector, "_labelnames", ())
            found[name] = (metric.type, ",".join(labels))
    assert {name: (kind, labels) for name, kind, labels in rows} == found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_name_what_is_there(document: Path) -> None:
    """Settings that a document names exist, and its links to files lead somewhere."""
    text = document.read_text(encoding="utf-8")
    known = {f"STREAM_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bSTREAM_[A-Z_]*[A-Z]\b", text)) <= known
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / link).exists(), link
