"""`stream evaluate`: users are split once, what serves is chosen before the test users are seen, nothing leaks."""

import csv
import gzip
from pathlib import Path

import numpy as np
import orjson
import pytest

from stream.errors import BadAnswersFile, UserError
from stream.files.answers import Answer, AnswersFile
from stream.learning.evaluation import evaluate_file
from stream.learning.history import TEST, History
from stream.learning.measured import FIGURES, Evaluation, figures, table
from stream.learning.offline import Recipe
from stream.learning.progress import Lines
from stream.learning.references import Prediction
from stream.learning.user_split import evaluate
from stream.models.lnirt import sigmoid
from tests import networks

USERS, ANSWERS = 300, 30
QUIET = Lines(lambda line: None)


def simulated(seed: int = 1) -> AnswersFile:
    """Return answers of users of different abilities on items of different difficulties, in their own time."""
    random = np.random.default_rng(seed)
    difficulty, intensity = random.normal(0, 1.2, 40), random.normal(2.5, 0.4, 40)
    answers: list[Answer] = []
    for user in range(USERS):
        ability, speed = random.normal(0, 1.0), random.normal(0, 0.4)
        for turn in range(ANSWERS):
            item = int(random.integers(0, 40))
            answers.append(
                Answer(
                    1 + 2 * len(answers), f"u-{user}", f"i-{item}", (f"s-{item % 8}",),
                    bool(random.random() < sigmoid(np.array(ability - difficulty[item]))),
                    1.7e9 + 600.0 * turn, float(np.exp(random.normal(intensity[item] - speed, 0.5))),
                )
            )  # fmt: skip
    return AnswersFile(Path("simulated.csv"), "0" * 64, answers, True, True)


@pytest.fixture(scope="module")
def found() -> Evaluation:
    """Return an evaluation of simulated answers, all models."""
    with networks.own_torch():
        return evaluate(simulated(), recipe=Recipe(epochs=8), everything=True, teller=QUIET)


def test_the_report_says_what_is_promised(found: Evaluation) -> None:
    """All keys, all models, JSON; as many answers as the test users gave."""
    report = orjson.loads(orjson.dumps(found.report))
    assert {"file", "task", "protocol", "seed", "n", "serving", "models", "seconds", "versions"} <= set(report)
    assert (report["protocol"], report["seed"], report["n"]) == ("user-split", 42, 60 * ANSWERS)
    assert set(report["models"]) == {
        "knowledge", "lnirt", "item_mean", "logistic", "boosting", "dkt", "embedding_correctness",
        "median", "item_median", "item_median_user_speed", "embedding_time",
    }  # fmt: skip
    assert all(set(of_model) == set(FIGURES) for of_model in report["models"].values())
    assert report["models"]["item_mean"]["time_mae_s"] is None
    assert report["models"]["median"]["auc"] is None
    assert "knowledge" in table(report)


def test_who_knows_more_predicts_better(found: Evaluation) -> None:
    """On answers of abilities and difficulties: better than the item's mean, and times better than the median."""
    of = found.report["models"]
    assert of["lnirt"]["auc"] > of["item_mean"]["auc"] + 0.02
    assert of["logistic"]["auc"] > of["item_mean"]["auc"] + 0.01
    serving = of[found.report["serving"]]
    assert serving["logloss"] < of["item_mean"]["logloss"]
    assert serving["ece"] < 0.06
    assert serving["time_mae_s_clipped_p99"] < 0.9 * of["median"]["time_mae_s_clipped_p99"]
    assert of["item_median_user_speed"]["time_mae_s_clipped_p99"] < of["item_median"]["time_mae_s_clipped_p99"]
    assert 0.7 < serving["time_coverage_80"] < 0.9


def test_test_users_answers_are_predicted(found: Evaluation) -> None:
    """Of each of them every answer, and nobody else's."""
    history = History.of(simulated())
    expected = np.flatnonzero(history.split(42)[history.user] == TEST)
    assert np.array_equal(found.rows, expected)
    assert found.serving.p_correct is not None
    assert ((found.serving.p_correct[expected] > 0) & (found.serving.p_correct[expected] < 1)).all()


def test_the_outcome_reaches_no_prediction_of_it(found: Evaluation) -> None:
    """The last test answer turned round: not a digit of any test prediction moves."""
    file = simulated()
    last = int(found.rows[-1])
    answer = file.answers[last]
    turned = Answer(
        last, answer.user_id, answer.item_id, answer.skills, not answer.correct,
        (answer.at or 0) + 30.0, (answer.response_time_s or 0) + 30.0,
    )  # fmt: skip
    file.answers[last] = turned
    with networks.own_torch():
        again = evaluate(file, recipe=Recipe(epochs=8), everything=True, teller=QUIET)
    assert again.serving.p_correct is not None
    assert found.serving.p_correct is not None
    assert np.allclose(again.serving.p_correct[found.rows], found.serving.p_correct[found.rows], atol=1e-5)
    assert again.serving.mu is not None
    assert found.serving.mu is not None
    assert np.allclose(again.serving.mu[found.rows], found.serving.mu[found.rows], atol=1e-5)


def test_figures_of_what_is_known_by_hand() -> None:
    """A median that is always right, an interval that always holds, a coin."""
    history = History.of(simulated())
    rows = np.arange(len(history.user))
    log_s = np.log(history.response_time_s.astype(np.float64))
    of = figures(history, Prediction(np.full(len(rows), 0.5), log_s, np.ones(len(rows))), rows, 100.0)
    assert (of["auc"], of["brier"], of["time_mae_s_clipped_p99"], of["time_coverage_80"]) == (0.5, 0.25, 0.0, 1.0)
    assert of["logloss"] == pytest.approx(np.log(2), abs=1e-5)
    assert of["ece"] == pytest.approx(abs(history.correct.mean() - 0.5), abs=1e-5)
    assert figures(history, Prediction(None, log_s + np.log(2), np.full(len(rows), 0.01)), rows, 1e9)[
        "time_mae_s"
    ] == pytest.approx(float(history.response_time_s.mean()), rel=1e-4)


def test_files_that_are_written(found: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report as JSON, and each prediction with its row."""
    monkeypatch.setattr("stream.learning.user_split.evaluate", lambda *_, **__: found)
    monkeypatch.setattr("stream.learning.evaluation.read_answers", lambda path, format_: simulated())
    told: list[str] = []
    report, predictions, page = (tmp_path / name for name in ("report.json", "predictions.csv.gz", "page.html"))
    evaluate_file(
        tmp_path / "x.csv", protocol="user-split", recipe=Recipe(epochs=1), everything=True, report=report,
        predictions=predictions, page=page, write=told.append,
    )  # fmt: skip
    assert orjson.loads(report.read_bytes()) == orjson.loads(orjson.dumps(found.report))
    with gzip.open(predictions, "rt") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == (1 + 2 * found.rows).tolist(), "rows of the file, not of the answers"
    assert all(0 < float(r["time_p10"]) < float(r["time_p50"]) < float(r["time_p90"]) for r in rows)
    assert "(serves)" in told[-1]
    assert f"{found.report['models'][found.report['serving']]['auc']:.4f}" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["u,i,s,2"], "correct: expected 0 or 1"),
        ([f"u{n},i,s,1" for n in range(60)], "expected right and wrong answers among the training users"),
        ([f"u{n % 3},i,s,{n % 2}" for n in range(60)], "expected at least 8 users"),
    ],
)
def test_a_bad_file_gets_a_clear_sentence(tmp_path: Path, rows: list[str], sentence: str) -> None:
    """What was expected, what was found, what to do."""
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(["user_id,item_id,skill_id,correct", *rows]) + "\n")
    with pytest.raises((UserError, BadAnswersFile)) as caught:
        evaluate_file(
            path,
            protocol="user-split",
            recipe=Recipe(epochs=1),
            everything=False,
            report=None,
            predictions=None,
            page=None,
            write=print,
        )
    assert sentence in str(caught.value)


def test_a_report_that_could_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    """A folder that does not exist is named at once."""
    with pytest.raises(UserError, match="does not exist"):
        evaluate_file(
            tmp_path / "x.csv", protocol="user-split", recipe=Recipe(), everything=False,
            report=tmp_path / "none" / "r.json", predictions=None, page=None, write=print,
        )  # fmt: skip
