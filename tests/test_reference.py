"""The documents say what the code does: settings, metrics, messages, and the README's own examples."""

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import Metric

from schemas import TOPICS, decode_interaction
from stream.manual import settings_table
from stream.reference import PARTS, ROOT, Part, main, metrics_table
from stream.settings import Settings
from stream.telemetry import Metrics, TrainerMetrics
from stream.telemetry.sheet import Declared

README = ROOT / "README.md"
DOCS = ROOT / "docs"
DOCUMENTS = sorted([README, ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])


def blocks(document: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def first_event() -> str:
    """Return the README's example of a producer."""
    return next(block for block in blocks(README, "python") if "Producer" in block)


def test_what_is_made_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A setting or a metric that changed without `python -m stream.reference` is noticed."""
    assert main(["--check"]) == 0, capsys.readouterr().err
    assert {part.document for part in PARTS} >= {"README.md", "docs/metrics.md"}


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


ONE = Part("one.md", "colours", lambda: "red")
OTHER = Part("one.md", "shapes", lambda: "round")


def test_a_stale_part_is_named_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` changes nothing and fails; without it both parts are written, and what stands around them is kept."""
    document = tmp_path / ONE.document
    document.write_text(f"before\n{ONE.begin}\nold\n{ONE.end}\nbetween\n{OTHER.begin}\nround\n{OTHER.end}\nafter\n")
    assert main(["--check"], tmp_path, (ONE, OTHER)) == 1
    assert capsys.readouterr().err == (
        "one.md: its colours are not those of the code; run `python -m stream.reference`\n"
    )
    assert "old" in document.read_text()
    assert main([], tmp_path, (ONE, OTHER)) == 0
    assert main(["--check"], tmp_path, (ONE, OTHER)) == 0
    assert document.read_text() == (
        f"before\n{ONE.begin}\nred\n{ONE.end}\nbetween\n{OTHER.begin}\nround\n{OTHER.end}\nafter\n"
    )


@pytest.mark.parametrize("text", ["", ONE.begin, f"{ONE.end}\n{ONE.begin}", f"{ONE.begin}{ONE.begin}{ONE.end}"])
def test_a_text_without_the_markers_is_refused(text: str) -> None:
    """Nothing is written into a text that does not say where."""
    with pytest.raises(ValueError, match=r"one\.md: expected the lines"):
        ONE.replaced(text)


def test_the_examples_have_fifteen_lines_and_their_imports_work() -> None:
    """Each Python block of the README is valid, and imports what there is."""
    examples = blocks(README, "python")
    assert len(examples) == 3
    for example in examples:
        assert len([line for line in example.splitlines() if line.strip()]) <= 15
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
    left = 0

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.sent: list[tuple[str, str, str]] = []
        self.made.append(self)

    def produce(self, topic: str, *, key: str, value: str) -> None:
        """Keep a message."""
        self.sent.append((topic, key, value))

    def flush(self, within_s: float) -> int:
        """Return how many messages no broker has taken within so many seconds."""
        assert within_s > 0
        return self.left


def test_the_first_event_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README's producer sends is accepted, under the user's key and Java's partitioner."""
    monkeypatch.setattr(sys, "argv", ["send_answer.py"])
    monkeypatch.setattr(Recorder, "made", [], raising=False)
    monkeypatch.setattr("confluent_kafka.Producer", Recorder)
    exec(compile(first_event(), README.name, "exec"), {})  # noqa: S102 (our own example)
    (producer,) = Recorder.made
    ((topic, key, value),) = producer.sent
    assert producer.config["partitioner"] == "murmur2_random"
    assert topic == "interactions"
    assert decode_interaction(value.encode()).user_id == key


@pytest.mark.parametrize("name", ["send_answer.py", "send_statement.py"])
def test_an_event_that_no_broker_takes_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The examples end with a sentence that names the address, not never."""
    monkeypatch.setattr(sys, "argv", [name, "kafkaa:9092", "interactions"])
    monkeypatch.setattr(Recorder, "made", [], raising=False)
    monkeypatch.setattr(Recorder, "left", 1)
    monkeypatch.setattr("confluent_kafka.Producer", Recorder)
    text = (README.parent / "examples" / name).read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match=r"no Kafka broker took it within 10 s at 'kafkaa:9092'"):
        exec(compile(text, name, "exec"), {})  # noqa: S102 (our own example)


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


@pytest.mark.parametrize("metrics", [Metrics(100), TrainerMetrics()], ids=["worker", "trainer"])
def test_every_metric_is_declared_as_it_is_scraped(metrics: Metrics | TrainerMetrics) -> None:
    """What is declared is what a scrape brings: each name once, its kind, its sentence, and its labels."""
    declared = {each.name: each for each in metrics.sheet.declared}
    assert len(declared) == len(metrics.sheet.declared)
    scraped = {_scraped(metric): metric for metric in metrics.registry.collect()}
    assert scraped.keys() == declared.keys()
    for name, metric in scraped.items():
        assert (metric.type, metric.documentation) == (declared[name].kind, declared[name].sentence)
        for sample in metric.samples:
            assert sample.labels.keys() - {"le"} == set(declared[name].labels)


def _scraped(metric: Metric) -> str:
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


def test_a_metrics_row_says_all_of_it() -> None:
    """Name, kind, labels and sentence, in this order."""
    rows = metrics_table(
        [Declared("stream_a_total", "counter", ("b", "c"), "What it is."), Declared("d", "gauge", (), "D")]
    )
    assert rows.splitlines()[2:] == [
        "| `stream_a_total` | counter | `b,c` | What it is. |",
        "| `d` | gauge |  | D |",
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_name_what_is_there(document: Path) -> None:
    """Settings that a document names exist, and its links to files lead somewhere."""
    text = document.read_text(encoding="utf-8")
    known = {f"STREAM_{name.upper()}" for name in Settings.model_fields}
    known.add("STREAM_PARTITONS")  # which `docs/doctor.md` shows `stream doctor` to find
    assert set(re.findall(r"\bSTREAM_[A-Z_]*[A-Z]\b", text)) <= known
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / link).exists(), link
