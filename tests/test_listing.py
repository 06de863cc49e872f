"""What the commands say of models: each version in a line, what is live, and how good it is."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas import Figures, GateDecided, ModelRollout, QualityMeasured, Release
from stream.errors import ArtifactError
from stream.listing import Known, listed, shown, versions_of
from stream.models.artifacts import read_risk_manifest
from stream.models.risk import RISK
from stream.models.store import Store
from tests.risks import make_risk_release

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FIGURES = Figures(n=600, logloss=0.5, auc=0.75, ece=0.02)


@pytest.fixture
def released(tmp_path: Path) -> tuple[Release, Any]:
    """Return a risk model's release, and its manifest."""
    store = Store(str(tmp_path))
    release = make_risk_release(store, 2)
    return release, read_risk_manifest(store, release.path)


def test_each_version_of_risk_has_a_line(released: tuple[Release, Any]) -> None:
    """What it learned from, what the gate decided, the part that it plays, or why it cannot be used."""
    release, manifest = released
    decided = GateDecided(
        event_id="e", name=RISK, at=NOW, candidate_version=2, promoted=True, reason="it is better", users=120,
        gain=0.1, needed=0.05, candidate=FIGURES, champion=FIGURES, fallback=FIGURES,
    )  # fmt: skip
    rollout = ModelRollout(name=RISK, champion=release, decided_at=NOW)
    about = Known(RISK, {1: ArtifactError("no such file"), 2: manifest}, rollout, [decided])
    assert versions_of(about) == [1, 2]
    told = "promoted: it is better (log loss 0.5000, the fallback 0.5000, 600 predictions of 120 users)"
    assert listed(about) == [
        "risk version 1: cannot be used: no such file",
        f"risk version 2: 360 weeks of 120 users, 50% at risk; {told}  <- champion",
    ]
    assert listed(about._replace(rollout=None))[-1] == "no version of risk is announced: the fallback serves"


def test_what_is_live_says_how_it_errs(released: tuple[Release, Any]) -> None:
    """By slice; and one version says what it knows of enrolments."""
    release, manifest = released
    errs = FIGURES.model_copy(update={"base_rate": 0.4, "mean_score": 0.35, "fpr": 0.1, "fnr": 0.3})
    measured = QualityMeasured(
        event_id="e", name=RISK, at=NOW, overall=errs, fallback=FIGURES, versions={"2": errs}, slices={"gender:F": errs}
    )
    about = Known(RISK, {2: manifest}, ModelRollout(name=RISK, champion=release, decided_at=NOW), [measured])
    figures = "600 predictions, log loss 0.5000, AUC 0.7500, calibration error 0.0200"
    errors = "at risk 0.4000, mean score 0.3500, false positives 0.1000, false negatives 0.3000"
    assert shown(about, None) == [
        "champion: version 2",
        "2026-03-01 00:00:00, over the latest that were judged:",
        f"  all: {figures}, {errors}",
        f"  fallback: {figures}",
        f"  version 2: {figures}, {errors}",
        f"  gender:F: {figures}, {errors}",
    ]
    of_version = shown(about, 2)
    assert of_version[1] == f"  {manifest.serving} serves, 4 texts and 2 numbers of enrolments"
    assert any(line.startswith("  logloss ") for line in of_version)
