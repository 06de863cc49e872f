"""
A record of every training: what it was asked, what it saw, how it went, what came out.

JSON in a folder; and in MLflow where that is installed (extra `tracking`), as its own variables say where.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import structlog

from stream.errors import UserError

EXPERIMENT = "learnerstream"

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Run:
    """
    One training.

    Attributes:
        file: Name of the file of answers.
        digest: SHA-256 of it.
        parameters: What was asked for.
        epochs: Figures of each epoch, in order.
        figures: Of what came out.
        artifact: Where that stands; None if nothing came out.
    """

    file: str
    digest: str
    parameters: dict[str, float]
    epochs: list[dict[str, float]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    artifact: Path | None = None


def make_folder(folder: Path) -> None:
    """
    Make the folder of the records, if it is not there.

    Raises:
        UserError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: expected a folder for records, found {error.strerror}; set STREAM_RUNS to another"
        ) from error


@contextmanager
def tracked(run: Run, folder: Path) -> Iterator[Run]:
    """
    Record a training when it ends, however it ends: finished, failed or interrupted.

    Args:
        run: Filled by the block.
        folder: Of the records; made if it is not there.

    Raises:
        UserError: If the folder cannot be made.
    """
    make_folder(folder)
    started_at, started = datetime.now(UTC), time.monotonic()
    status = "failed"
    try:
        yield run
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        record = {
            "status": status,
            "started_at": started_at.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "file": run.file,
            "digest": run.digest,
            "parameters": run.parameters,
            "epochs": run.epochs,
            "figures": run.figures,
            "artifact": None if run.artifact is None else str(run.artifact),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy")},
        }
        path = folder / f"{started_at:%Y%m%dT%H%M%S}-{uuid4().hex[:6]}.json"
        try:
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
            temporary.rename(path)
        except OSError as error:
            _log.warning("a training could not be recorded", record=str(path), error=str(error))
        if find_spec("mlflow") is not None:
            try:
                _log_to_mlflow(run, status, path)
            except Exception as error:  # noqa: BLE001 (a server that is away must not cost the training)
                _log.warning("MLflow could not be told of a training", record=str(path), error=str(error))


def _log_to_mlflow(run: Run, status: str, record: Path) -> None:
    # It calls home unless told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: PLC0415 (slow to import, and not always there)

    mlflow.set_experiment(EXPERIMENT)
    mlflow.start_run(run_name=record.stem, tags={"file": run.file, "digest": run.digest, "artifact": str(run.artifact)})
    try:
        mlflow.log_params(run.parameters)
        for figures in run.epochs:
            of_epoch = {name: value for name, value in figures.items() if name != "epoch"}
            mlflow.log_metrics(of_epoch, step=int(figures["epoch"]))
        mlflow.log_metrics({f"final_{name}": value for name, value in run.figures.items()})
        if record.exists():
            mlflow.log_artifact(str(record))
        if run.artifact is not None:
            mlflow.log_artifacts(str(run.artifact), "artifact")
    finally:
        mlflow.end_run({"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}[status])
