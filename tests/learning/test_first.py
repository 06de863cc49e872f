"""`stream train`: an artifact from a file, whole or not at all, with a card and a record."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stream.errors import UserError
from stream.learning import first, search
from stream.learning.first import train_file
from stream.learning.offline import Recipe, fit
from stream.learning.update import NotFiniteError
from stream.models.artifacts import CARD, GOLDEN_INT8, MODEL, MODEL_INT8, load, read_manifest
from tests import networks
from tests.learning.test_evaluation import simulated
from tests.stores import at

SMALL = Recipe(seed=3, epochs=2)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Return a file of simulated answers."""
    path = tmp_path / "answers.csv"
    rows = [
        f"{a.user_id},{a.item_id},{a.skills[0]},{int(a.correct)},{a.at},{a.response_time_s}"
        for a in simulated().answers[:3_000]
    ]
    path.write_text("\n".join(["user_id,item_id,skill_id,correct,timestamp,response_time_seconds", *rows]) + "\n")
    return path


def train(answers: Path, recipe: Recipe = SMALL, trials: int = 0) -> dict[str, float]:
    """Train into the folder beside the file."""
    with networks.own_torch():
        return train_file(
            answers, answers.parent / "v3", recipe=recipe, trials=trials, records=answers.parent / "runs", write=print
        )


def test_a_file_becomes_an_artifact(answers: Path) -> None:
    """It loads in both precisions, says what it was made from, and the record names it."""
    figures = train(answers)
    folder = answers.parent / "v3"
    manifest = read_manifest(*at(folder))
    assert (manifest.version, manifest.trained_on.users, len(manifest.skills)) == (3, 90, 8)
    assert manifest.trained_on.first_at is not None
    assert manifest.trained_on.first_at < (manifest.trained_on.last_at or "")
    assert manifest.recipe["learning_rate"] == SMALL.learning_rate
    assert manifest.metrics["logloss"] == figures["logloss"] < figures["logloss_fallback"]
    assert manifest.metrics["int8_auc_fall"] <= 0.002
    assert {MODEL_INT8, GOLDEN_INT8, CARD} <= set(manifest.files)
    assert (folder / MODEL_INT8).stat().st_size < (folder / MODEL).stat().st_size / 3
    for precision in ("fp32", "int8"):
        assert load(*at(folder), variant="champion", precision=precision).identity.version == 3
    card = (folder / CARD).read_text("utf-8")
    assert "# knowledge, version 3" in card
    assert f"| auc | {figures['auc']:.6g} |" in card
    assert "90 learners, from 2023-11-1" in card
    (record,) = [json.loads(path.read_bytes()) for path in (answers.parent / "runs").glob("*.json")]
    assert (record["status"], record["artifact"]) == ("finished", str(folder))
    assert len(record["epochs"]) == 2


def test_an_interrupted_training_leaves_no_half_artifact(answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record says so; the folder is not there."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(first, "publish", stop)
    with pytest.raises(KeyboardInterrupt):
        train(answers)
    assert not (answers.parent / "v3").exists()
    (record,) = [json.loads(path.read_bytes()) for path in (answers.parent / "runs").glob("*.json")]
    assert (record["status"], record["artifact"], len(record["epochs"])) == ("interrupted", None, 2)


def test_a_search_keeps_the_best(answers: Path) -> None:
    """Each recipe is recorded, and what is published is no worse than the one that was given."""
    figures = train(answers, Recipe(seed=3, epochs=1), trials=3)
    found = [json.loads(path.read_bytes()) for path in (answers.parent / "runs").glob("*.json")]
    tried = [record for record in found if record["artifact"] is None]
    assert len(tried) == 3
    assert figures["logloss"] == min(record["figures"]["logloss"] for record in tried)
    assert any(record["parameters"]["hidden"] == 64 for record in tried)
    (published,) = [record for record in found if record["artifact"]]
    assert published["parameters"] == min(tried, key=lambda record: record["figures"]["logloss"])["parameters"]
    load(*at(answers.parent / "v3"), variant="champion")


def test_a_search_without_optuna_is_a_clear_sentence(answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, and what to type."""
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'learnerstream\[search\]'"):
        train(answers, trials=2)


def test_a_recipe_that_diverges_does_not_cost_the_others(answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search goes on, and its record says that it failed; if all do, a sentence says so."""
    calls: list[int] = []

    def diverge(*args: Any) -> Any:
        calls.append(1)
        if len(calls) != 2:
            raise NotFiniteError("expected a finite loss, found nan")
        return fit(*args)

    monkeypatch.setattr(first, "fit", diverge)
    train(answers, Recipe(seed=3, epochs=1), trials=3)
    found = [json.loads(path.read_bytes()) for path in (answers.parent / "runs").glob("*.json")]
    assert sorted(record["status"] for record in found) == ["failed", "failed", "finished", "finished"]
    with pytest.raises(UserError, match="found not one"):
        train_file(
            answers,
            answers.parent / "v4",
            recipe=Recipe(seed=3, epochs=1),
            trials=2,
            records=answers.parent,
            write=print,
        )


def test_trainings_of_one_file_do_not_read_each_others_states(answers: Path) -> None:
    """Other weights, another state format."""
    formats = []
    for rate in (0.001, 0.002):
        train(answers, Recipe(seed=3, epochs=1, learning_rate=rate))
        formats.append(read_manifest(*at(answers.parent / "v3")).state_format)
        shutil.rmtree(answers.parent / "v3")
    assert formats[0] != formats[1]


@pytest.mark.parametrize("place", ["runs", "out"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(answers: Path, place: str) -> None:
    """A file where a folder should be."""
    (answers.parent / "taken").touch()
    taken = answers.parent / "taken"
    with pytest.raises(UserError, match=r"expected a folder"):
        train_file(
            answers, taken / "v1" if place == "out" else answers.parent / "v1", recipe=SMALL, trials=0,
            records=taken if place == "runs" else answers.parent / "runs", write=print,
        )  # fmt: skip
    assert not (answers.parent / "v1").exists()


def test_an_artifact_is_not_written_over(answers: Path) -> None:
    """A folder that exists ends it before the work."""
    (answers.parent / "v3").mkdir()
    with pytest.raises(UserError, match="exists already"):
        train(answers)
