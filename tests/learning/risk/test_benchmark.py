"""What `make quality` says of the risk model: tables by day and seed, and the aims that are missed."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.risk import KEPT, MIN_AUC, SEED, SEEDS, gains, main, missed, tables


def report(seed: int, serving: float, boosting: float, ece: float = 0.01) -> dict[str, Any]:
    """Return a report with these areas above the aims of each day."""

    def model(above: float) -> dict[str, Any]:
        by_day = {str(day): {"n": 9, "auc": aim + above, "logloss": 0.5, "ece": ece} for day, aim in MIN_AUC.items()}
        return {"by_day": by_day, "auc": 0.8, "ece": ece, "f1": 0.7}

    models = {name: model(boosting) for name in ("boosting", "network", "boosting_by_day", "logistic", "fallback")}
    return {"seed": seed, "serving": "blend", "models": models | {"blend": model(serving)}, "training_seconds": 61.4}


def test_models_are_compared_in_pairs() -> None:
    """By seed; five seeds have an interval about their mean."""
    reports = [report(seed, 0.01 + 0.001 * place, 0.01) for place, seed in enumerate(SEEDS)]
    assert gains(reports, "60") == pytest.approx([0.0, 0.001, 0.002, 0.003, 0.004])
    told = tables(reports)
    assert "+0.0020 ± 0.0020" in told
    assert "| 46 | blend | 0.7810 |" in told
    assert told.endswith("Every aim is reached.")


def test_what_is_missed_is_said() -> None:
    """Each aim has its sentence."""
    sentences = missed([report(SEED, -0.002, 0.001, ece=0.05)])
    assert sentences == [
        *(f"seed 42, day {day}: AUC {aim - 0.002:.4f}, aim {aim}" for day, aim in MIN_AUC.items()),
        *(f"day {day}: calibration error 0.0500, aim 0.03" for day in MIN_AUC),
        "AUC over all days and seeds 0.0030 below boosting_by_day's",
    ]
    # The aims by day are of one seed alone.
    assert missed([report(43, -0.002, -0.003)]) == []


def test_what_is_seen_of_students_does_not_hang_on_settings() -> None:
    """The workload is fixed: the fields that the settings name where nothing is set."""
    assert sorted(KEPT) == ["attempts", "credits", "education", "module", "presentation"]


def test_that_no_data_is_there_is_said_first(tmp_path: Path) -> None:
    """Before an hour is spent on the other model: `make quality` asks with --check."""
    found = CliRunner().invoke(main, ["--data", str(tmp_path), "--check"])
    assert found.exit_code == 1
    assert f"expected an OULAD folder, {tmp_path}/risk or {tmp_path} itself, found neither" in found.output
    (tmp_path / "risk").mkdir()
    (tmp_path / "risk" / "studentInfo.csv").touch()
    assert CliRunner().invoke(main, ["--data", str(tmp_path), "--check"]).exit_code == 0
