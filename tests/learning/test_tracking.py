"""Each training leaves a record, however it ends."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stream.learning import tracking
from stream.learning.tracking import Run, tracked


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what the folder holds, and see that there is nothing half written."""
    assert not list(folder.glob("*.part"))
    return [json.loads(path.read_bytes()) for path in folder.glob("*.json")]


def a_run() -> Run:
    """Return a run of a file."""
    return Run("answers.csv.gz", "d" * 64, {"learning_rate": 0.002})


def test_a_training_is_recorded(tmp_path: Path) -> None:
    """What it was asked, what it saw, how it went, what came out."""
    with tracked(a_run(), tmp_path / "runs") as run:
        run.epochs.append({"epoch": 1, "logloss": 0.5})
        run.figures["auc"] = 0.8
        run.artifact = Path("models/knowledge/v1")
    (record,) = records(tmp_path / "runs")
    assert (record["status"], record["file"], record["digest"]) == ("finished", "answers.csv.gz", "d" * 64)
    assert (record["parameters"], record["epochs"]) == ({"learning_rate": 0.002}, [{"epoch": 1, "logloss": 0.5}])
    assert (record["figures"], record["artifact"]) == ({"auc": 0.8}, "models/knowledge/v1")
    assert {"python", "torch", "numpy"} <= set(record["versions"])


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_a_training_that_ends_badly_is_recorded_too(tmp_path: Path, error: type[BaseException], status: str) -> None:
    """What was seen until then stays."""

    def run_it() -> None:
        with tracked(a_run(), tmp_path) as run:
            run.epochs.append({"epoch": 1, "logloss": 0.5})
            raise error

    with pytest.raises(error):
        run_it()
    (record,) = records(tmp_path)
    assert (record["status"], len(record["epochs"]), record["artifact"]) == (status, 1, None)


class FakeMlflow(SimpleNamespace):
    """Takes what MLflow takes."""

    def __init__(self) -> None:
        super().__init__(told=[])

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self.told.append((name, args, kwargs))


def test_mlflow_is_told_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters, each epoch, what came out, and how it ended."""
    mlflow = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    with tracked(a_run(), tmp_path) as run:
        run.epochs += [{"epoch": 1, "logloss": 0.5}, {"epoch": 2, "logloss": 0.4}]
        run.figures["auc"] = 0.8
    told = [(name, args) for name, args, _ in mlflow.told]
    assert ("log_params", ({"learning_rate": 0.002},)) in told
    assert ("log_metrics", ({"logloss": 0.4},), {"step": 2}) in mlflow.told
    assert ("log_metrics", ({"final_auc": 0.8},)) in told
    assert told[-1] == ("end_run", ("FINISHED",))


def test_an_mlflow_that_is_away_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training and its record stand."""

    def away(name: str) -> None:
        raise ConnectionError(name)

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(set_experiment=away))
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    with tracked(a_run(), tmp_path):
        pass
    assert records(tmp_path)[0]["status"] == "finished"


def test_an_mlflow_that_fails_half_way_is_left_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is ended, so that the next one can begin."""
    mlflow = FakeMlflow()

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    mlflow.log_metrics = fail
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    with tracked(a_run(), tmp_path) as run:
        run.figures["auc"] = 0.8
    assert mlflow.told[-1][:2] == ("end_run", ("FINISHED",))
