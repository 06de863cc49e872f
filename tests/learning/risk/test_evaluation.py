"""The evaluation of the risk model: figures by hand, and a whole one on simulated enrolments, report, page and all."""

import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from stream.cli import main
from stream.errors import UserError
from stream.files.oulad import read_oulad
from stream.learning.progress import Lines
from stream.learning.risk.evaluation import (
    RiskEvaluation,
    evaluate,
    evaluate_folder,
    fairness,
    figures,
    shown,
    table,
    write_predictions,
)
from stream.learning.risk.first import train_folder
from stream.learning.risk.page import render
from stream.learning.risk.snapshots import Snapshots, risk_of
from stream.learning.risk.split import DAYS
from stream.learning.risk.training import RiskRecipe
from stream.models.artifacts import read_risk_manifest
from stream.models.store import Store
from stream.models.weekly import Seen
from tests.enrolments import Simulated
from tests.learning.test_page import Tags
from tests.networks import own_torch

KEPT = frozenset({"education", "attempts", "credits"})
QUICK = RiskRecipe(epochs=3, explained=300, explain_epochs=2)
MODELS = {"network", "boosting", "blend", "fallback", "logistic", "boosting_by_day"}


def quiet(_: str) -> None:
    """Tell nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 400 simulated students."""
    return Simulated(400).write(tmp_path_factory.mktemp("oulad"))


@pytest.fixture(scope="module")
def found(folder: Path) -> RiskEvaluation:
    """Return an evaluation with all models."""
    with own_torch():
        return evaluate(read_oulad(folder), recipe=QUICK, everything=True, kept=KEPT, teller=Lines(quiet))


def became(outcome: list[int]) -> Snapshots:
    """Return users of whom nothing is known but what became of them."""
    count = len(outcome)
    nothing = Seen(*(np.zeros((count, 1)) for _ in range(6)))  # type: ignore[arg-type] # never looked at
    places = np.array(outcome)
    return Snapshots(nothing, np.arange(count), np.zeros(count, np.int64), places, risk_of(places))


def test_figures_by_hand() -> None:
    """Two days; a row of the confusion matrix for each category, a column for each outcome."""
    test = became([0, 1, 2, 3, 1, 2])
    score = np.array([0.1, 0.3, 0.6, 0.9, 0.75, 0.2])
    told = figures(test, np.array([30, 30, 30, 30, 60, 60]), score)
    assert told["confusion"] == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]]
    assert told["accuracy"] == pytest.approx(4 / 6, abs=1e-5)
    assert (told["precision"], told["recall"], told["f1"]) == (0.66667, 0.66667, 0.66667)
    errors = np.array([0.1, 0.3, 0.4, 0.1, 0.75, 0.8])
    assert told["mae"] == pytest.approx(errors.mean(), abs=1e-5)
    assert told["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), abs=1e-5)
    assert told["r2"] == pytest.approx(1 - (errors**2).mean() / 0.25, abs=1e-5)
    assert told["auc"] == pytest.approx(6 / 9, abs=1e-5)
    assert set(told["by_day"]) == {"30", "60"}
    assert told["by_day"]["30"] == {
        "n": 4, "auc": 1.0, "logloss": pytest.approx(-np.log([0.9, 0.7, 0.6, 0.9]).mean(), abs=1e-5),
        "ece": pytest.approx(0.9 / 4, abs=1e-5),
    }  # fmt: skip
    assert told["by_day"]["60"]["auc"] == 0.0


def test_figures_about_nobody_are_null() -> None:
    """Where all pass there is no AUC, no recall and nothing to explain."""
    told = figures(became([0, 1]), np.array([30, 30]), np.array([0.1, 0.2]))
    assert [told[name] for name in ("auc", "precision", "recall", "f1", "r2")] == [None] * 5
    assert json.loads(json.dumps(told)) == told


def test_the_report(found: RiskEvaluation) -> None:
    """All that the contract asks for, and every model better than chance but not perfect."""
    report = json.loads(json.dumps(found.report))
    assert (report["task"], report["protocol"], report["seed"]) == ("risk", "user-split", 42)
    assert report["users"] == {"training": 288, "validation": 32, "test": 80}
    assert set(report["models"]) == MODELS
    assert report["serving"] in {"network", "boosting", "blend"}
    assert report["by_day"] == report["models"][report["serving"]]["by_day"]
    assert report["n"] == sum(of["n"] for of in report["by_day"].values()) == len(found.test)
    for name, of in report["models"].items():
        assert set(of["by_day"]) == {str(day) for day in DAYS}, name
        assert 0.55 < of["auc"] < 0.999, name
        assert np.array(of["confusion"]).sum() == report["n"], name
    serving, fallback = (report["models"][name] for name in (report["serving"], "fallback"))
    assert serving["auc"] > max(0.85, fallback["auc"] + 0.03)
    assert serving["logloss"] < fallback["logloss"]
    assert {"seconds", "versions", "digest", "file", "fairness"} <= set(report)


def test_fairness_in_the_report(found: RiskEvaluation) -> None:
    """By every field that the folder has, models see it or not; the largest group is nothing away from itself."""
    by_field = found.report["fairness"]
    assert list(by_field) == ["gender", "disability", "imd_band", "age_band", "region", "education"]
    for groups in by_field.values():
        assert sum(of["n"] for of in groups.values()) == found.report["n"]
        assert next(iter(groups.values()))["abroca"] == 0.0
    assert set(by_field["imd_band"]) == {"20-30%", "unknown"}
    assert by_field["gender"]["F"].keys() == {
        "n", "base_rate", "mean_score", "fpr", "fnr", "auc", "ece", "abroca",
    }  # fmt: skip


def test_predictions_of_what_serves(found: RiskEvaluation, tmp_path: Path) -> None:
    """A row for each test enrolment and day, with its id in events."""
    path = tmp_path / "p.csv.gz"
    write_predictions(found, path)
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found.report["n"]
    assert rows[0].keys() == {"enrolment", "day", "score"}
    assert rows[0]["enrolment"] == found.oulad.enrolments[int(found.test.user[0])].user_id
    assert [float(row["score"]) for row in rows] == pytest.approx(found.score.tolist(), abs=1e-6)


def test_the_table_for_people(found: RiskEvaluation) -> None:
    """A line for each model, and what serves is marked."""
    lines = table(found.report).splitlines()
    assert len(lines) == 2 + len(MODELS)
    assert sum("(serves)" in line for line in lines) == 1


def test_the_page_is_well_formed_and_loads_nothing(found: RiskEvaluation) -> None:
    """Each tag is closed in order, ids are unique, what names a drawing is there; no address, no script."""
    page = render(found.report, shown(found))
    tags = Tags(page)
    assert not tags.open
    assert len(tags.ids) == len(set(tags.ids))
    assert set(tags.named) == set(tags.ids)
    assert tags.seen.count("h1") == 1
    assert tags.seen.count("caption") == tags.seen.count("table")
    assert not re.search(r"https?://|\bsrc=|\bhref=|@import|url\(|<script|<link|<img", page)
    assert "default-src 'none'" in page
    for heading in (
        "How soon is it known?",
        "What became of whom",
        "ABROCA",
        "Which weeks it looks at",
        "Single students",
    ):
        assert heading in page
    assert "nan" not in page


def test_foreign_words_stay_words(found: RiskEvaluation) -> None:
    """Groups, as the folder names them, are escaped."""
    nasty = "<script>alert('region')</script>"
    told = shown(found)
    groups = dict(told.groups) | {"region": [nasty, "Wales"] * (len(told.day) // 2) + ["Wales"] * (len(told.day) % 2)}
    of_all = found.report["fairness"]["region"]["Scotland"]
    by_field = found.report["fairness"] | {"region": {"Wales": of_all, nasty: of_all}}
    changed = type(told)(told.day, told.score, told.outcome, groups, told.attention, told.importance)
    page = render(found.report | {"fairness": by_field}, changed)
    assert "script" not in Tags(page).seen
    assert "&lt;script&gt;" in page


def test_a_folder_without_persons_has_no_slices_of_them(tmp_path: Path) -> None:
    """Only education is left to look by."""
    simulated = Simulated(40)
    simulated.info = [(*row[:3], "", "", row[5], "", "", *row[8:10], "", row[11]) for row in simulated.info]
    oulad = read_oulad(simulated.write(tmp_path))
    test = became([0, 1, 2, 3] * 10)
    assert list(fairness(oulad, test, np.linspace(0, 1, 40))) == ["education"]


def test_too_few_students_or_no_place_are_a_sentence(tmp_path: Path) -> None:
    """Before any work is done."""
    few = Simulated(20).write(tmp_path)
    options: dict[str, Any] = {"recipe": QUICK, "everything": False, "kept": KEPT, "predictions": None, "page": None}
    with pytest.raises(UserError, match="expected at least 250 students"):
        evaluate_folder(few, report=None, write=quiet, **options)
    with pytest.raises(UserError, match=r"the folder .* does not exist"):
        evaluate_folder(few, report=tmp_path / "none" / "r.json", write=quiet, **options)


def test_a_first_model_of_a_folder(folder: Path, tmp_path: Path) -> None:
    """An artifact with what it knows of enrolments, and a record of the training that is JSON."""
    out, records = tmp_path / "v3", tmp_path / "runs"
    with own_torch():
        told = train_folder(folder, out, recipe=QUICK, kept=KEPT, records=records, write=quiet)
    assert {"auc", "logloss", "ece"} <= set(told)
    manifest = read_risk_manifest(Store(str(tmp_path)), "v3")
    assert manifest.version == 3
    assert manifest.facts[:2] == ("course=AAA-2013J", "course=BBB-2014B")
    (record,) = records.glob("*.json")
    run = json.loads(record.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert run["status"] == "finished"
    assert [epoch["epoch"] for epoch in run["epochs"]] == [1, 2, 3]
    with pytest.raises(UserError, match="exists already"):
        train_folder(folder, out, recipe=QUICK, kept=KEPT, records=records, write=quiet)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["evaluate", "answers.csv", "--task", "risk"],
            "--task risk: expected an OULAD folder, found the file answers.csv",
        ),
        (
            ["train", "answers.csv", "--task", "risk", "--out", "v1"],
            "--task risk: expected an OULAD folder, found the file",
        ),
        (["evaluate", "."], "is a folder; expected a file of answers, or a folder with the tables of OULAD or with"),
        (
            ["train", ".", "--out", "v1"],
            "is a folder; expected a file of answers, or a folder with the tables of OULAD",
        ),
        (["replay", "answers.csv", "--format", "junyi"], "which lacks exercise, time_done: --format csv fits"),
        (["replay", "answers.csv", "--format", "html"], "--format: expected one of auto, xapi, caliper, canvas, "),
        (["train", "answers.csv", "--format", "excel", "--out", "v1"], "--format: expected one of auto, csv, "),
        (
            ["evaluate", ".", "--task", "risk", "--protocol", "progressive"],
            "is evaluated on students held out; leave out",
        ),
        (
            ["train", ".", "--task", "risk", "--out", "v1", "--search", "3"],
            "--search tries recipes of --task knowledge only",
        ),
        (["evaluate", ".", "--task", "risk"], ". is not an OULAD folder: expected courses.csv or oulad_courses.csv"),
        (["replay", "."], "found neither: name the file or folder that holds the data"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clear sentence each, exit code 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.csv").write_text("user_id,item_id,skill_id,correct\nu,i,s,1\n")
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 2
    assert words in ended.stderr
