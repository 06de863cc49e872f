"""Floors of quality on simulated learners who forget: what item response theory alone cannot see, the network must."""

from pathlib import Path

import numpy as np
import pytest

from stream.files.answers import Answer, AnswersFile
from stream.learning.offline import Recipe
from stream.learning.progress import Lines
from stream.learning.user_split import UserSplit, evaluate
from stream.models.lnirt import sigmoid
from stream.models.quality import auc
from tests import networks

USERS, ANSWERS, ITEMS, SKILLS = 200, 60, 40, 8


def forgetful(seed: int = 5) -> tuple[AnswersFile, list[float]]:
    """
    Return answers of learners who learn an item by meeting it and forget it again, and the true probabilities.

    An item met lately is easier by up to 2.5 logits, fading over about twenty minutes; its skill, met lately, by 0.6.
    """
    random = np.random.default_rng(seed)
    difficulty, intensity = random.normal(0.8, 0.8, ITEMS), random.normal(2.5, 0.4, ITEMS)
    answers: list[Answer] = []
    truth: list[float] = []
    for user in range(USERS):
        ability, speed, at = random.normal(0, 0.7), random.normal(0, 0.4), 1.7e9
        met = np.full(ITEMS, -np.inf)
        for _ in range(ANSWERS):
            item = int(random.integers(0, ITEMS))
            minutes = (at - met) / 60
            same_skill = minutes[item % SKILLS :: SKILLS].min()
            logit = ability - difficulty[item] + 2.5 * np.exp(-minutes[item] / 20) + 0.6 * np.exp(-same_skill / 20)
            p = float(sigmoid(np.array(logit)))
            seconds = float(np.exp(random.normal(intensity[item] - speed - 0.4 * np.exp(-minutes[item] / 20), 0.4)))
            truth.append(p)
            correct = bool(random.random() < p)
            at += seconds
            answers.append(Answer(len(answers), f"u{user}", f"i{item}", (f"s{item % SKILLS}",), correct, at, seconds))
            met[item] = at
            at += float(random.exponential(40))
    return AnswersFile(Path("forgetful.csv"), "f" * 64, answers, True, True), truth


@pytest.fixture(scope="module")
def found() -> tuple[UserSplit, list[float]]:
    """Return an evaluation of them, and the truth."""
    file, truth = forgetful()
    with networks.own_torch():
        return evaluate(file, recipe=Recipe(), everything=False, teller=Lines(lambda line: None)), truth


def test_the_network_serves_and_sees_what_lnirt_cannot(found: tuple[UserSplit, list[float]]) -> None:
    """It gains most of the way from LNIRT to the truth, which nobody can beat."""
    evaluation, truth = found
    models, rows = evaluation.report["models"], evaluation.rows
    best = auc(evaluation.history.correct[rows], np.array(truth)[rows]) or 0.5
    assert evaluation.report["serving"] == "knowledge"
    assert models["lnirt"]["auc"] < best - 0.08
    assert models["knowledge"]["auc"] > best - 0.035
    assert models["knowledge"]["logloss"] < models["lnirt"]["logloss"] - 0.04


def test_its_probabilities_and_intervals_hold(found: tuple[UserSplit, list[float]]) -> None:
    """Calibration error below .04, eight in ten response times within the interval, and times better than LNIRT's."""
    models = found[0].report["models"]
    assert models["knowledge"]["ece"] < 0.04
    assert models["knowledge"]["time_coverage_80"] == pytest.approx(0.8, abs=0.04)
    assert models["knowledge"]["time_mae_s_clipped_p99"] < models["lnirt"]["time_mae_s_clipped_p99"]
