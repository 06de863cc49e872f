"""Laws of the reference models: they learn what there is to learn, know nothing of what comes, and repeat exactly."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stream.files.answers import Answer, AnswersFile
from stream.learning.history import TEST, TRAINING, VALIDATION, History, Known, prepare
from stream.learning.measured import figures
from stream.learning.references import Prediction, Reference, dkt, embeddings, stopping
from stream.learning.references.embeddings import EmbeddingCorrectness, EmbeddingTime
from stream.learning.user_split import _references
from stream.models.lnirt import sigmoid
from tests import networks

SEED = 1
USERS, ANSWERS, SKILLS = 200, 24, 6
TOGETHER = 3
"""Answers of one moment."""

CORRECTNESS = ("item_mean", "logistic", "boosting", "dkt", "embedding_correctness")
TIME = ("boosting", "median", "item_median", "item_median_user_speed", "embedding_time")
NAMES = (*CORRECTNESS, *TIME[1:])
LEARNED = ("boosting", "dkt", "embedding_correctness", "embedding_time")


@cache
def simulated(*, response_times: bool = True) -> AnswersFile:
    """Return answers of users who differ in ability and speed, on items of skills that differ, three at a moment."""
    random = np.random.default_rng(1)
    difficulty, intensity = random.normal(0, 1.2, SKILLS), random.normal(2.5, 0.7, SKILLS)
    answers: list[Answer] = []
    for user in range(USERS):
        ability, speed = random.normal(0, 2.0), random.normal(0, 0.5)
        for turn in range(ANSWERS):
            skill = int(random.integers(0, SKILLS))
            skills = (f"s-{skill}", f"s-{(skill + 1) % SKILLS}") if random.random() < 0.2 else (f"s-{skill}",)
            seconds = float(np.exp(random.normal(intensity[skill] - speed, 0.4)))
            answers.append(
                Answer(
                    len(answers), f"u-{user}", f"i-{skill}-{random.integers(0, 2)}", skills,
                    bool(random.random() < sigmoid(np.array(ability - difficulty[skill]))),
                    1.7e9 + 6_000.0 * (turn // TOGETHER), seconds if response_times else None,
                )
            )  # fmt: skip
    return AnswersFile(Path("simulated.csv"), "0" * 64, answers, True, response_times)


def rows_of(history: History, which: int) -> NDArray[np.bool_]:
    """Return the answers of a part of the users, bool `(N,)`."""
    return np.asarray(history.split(SEED)[history.user] == which)


@cache
def known_of(*, response_times: bool = True) -> tuple[History, Known]:
    """Return the simulated history, and what was known."""
    history = History.of(simulated(response_times=response_times))
    return history, prepare(history, history.split(SEED), SEED)


def fitted(name: str, *, seed: int = SEED, response_times: bool = True) -> Reference:
    """Return a model, fitted."""
    history, known = known_of(response_times=response_times)
    with networks.own_torch():
        return _references(seed)[name].fit(history, known, rows_of(history, TRAINING), rows_of(history, VALIDATION))


@cache
def model(name: str) -> Reference:
    """Return the same, once a run."""
    return fitted(name)


@cache
def said(name: str) -> Prediction:
    """Return what it says of the simulated history."""
    return model(name).predict(*known_of())


def changed(**columns: NDArray[np.generic]) -> tuple[History, Known]:
    """Return the history with other columns, and what would have been known."""
    history = replace(known_of()[0], **columns)  # type: ignore[arg-type]
    return history, prepare(history, history.split(SEED), SEED)


def differences(a: Prediction, b: Prediction) -> NDArray[np.float64]:
    """Return how far two predictions lie apart, answer by answer, `(N,)`."""
    pairs = ((a.p_correct, b.p_correct), (a.mu, b.mu), (a.sigma, b.sigma))
    found = [np.abs(one - other) for one, other in pairs if one is not None and other is not None]
    return np.max(found, axis=0)  # type: ignore[no-any-return]


def moment_of_a_test_user() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of a test user: before a moment in the middle, at it, and after it."""
    history, _ = known_of()
    rows = np.flatnonzero(history.user == np.flatnonzero(history.split(SEED) == TEST)[0])
    middle = ANSWERS // 2
    assert len(set(history.at[rows[middle : middle + TOGETHER]])) == 1
    return rows[:middle], rows[middle : middle + TOGETHER], rows[middle + TOGETHER :]


def test_each_says_what_it_is_for_and_nothing_else() -> None:
    """Of correctness, of time, or of both; of every answer, and within bounds."""
    assert set(_references(SEED)) == set(NAMES)
    for name in NAMES:
        found = said(name)
        assert (found.p_correct is not None) == (name in CORRECTNESS), name
        assert (found.mu is not None) == (found.sigma is not None) == (name in TIME), name
        if found.p_correct is not None:
            assert found.p_correct.shape == (USERS * ANSWERS,)
            assert ((found.p_correct > 0) & (found.p_correct < 1)).all()
        if found.mu is not None and found.sigma is not None:
            assert np.isfinite(found.mu).all()
            assert (found.sigma > 0).all()


@pytest.mark.parametrize("name", CORRECTNESS)
def test_correctness_is_learned(name: str) -> None:
    """The item's mean beats the training users' share of right answers, and all others beat the item's mean."""
    history, _ = known_of()
    training, tested = rows_of(history, TRAINING), np.flatnonzero(rows_of(history, TEST))
    share = np.full(len(history.user), history.correct[training].mean())
    below = Prediction(share) if name == "item_mean" else said("item_mean")
    least, found = (figures(history, each, tested, None)["logloss"] for each in (below, said(name)))
    assert found is not None
    assert least is not None
    assert found < least - (0.005 if name == "item_mean" else 0.05)


@pytest.mark.parametrize("name", TIME)
def test_time_is_learned(name: str) -> None:
    """Whatever knows the item or the user errs less than the median, and the interval holds what it says."""
    history, _ = known_of()
    tested = np.flatnonzero(rows_of(history, TEST))
    median, found = (figures(history, said(each), tested, 100.0) for each in ("median", name))
    error, error_of_median = found["time_mae_s_clipped_p99"], median["time_mae_s_clipped_p99"]
    assert error is not None
    assert error_of_median is not None
    assert name == "median" or error < 0.97 * error_of_median
    assert name in {"median", "item_median"} or error < 0.85 * error_of_median
    assert 0.72 < (found["time_coverage_80"] or 0) < 0.88


@cache
def with_another_future() -> tuple[History, Known]:
    """Return the history with other outcomes of a moment, and other outcomes and times of what came after it."""
    _, moment, after = moment_of_a_test_user()
    history, _ = known_of()
    correct, seconds = history.correct.copy(), history.response_time_s.copy()
    correct[moment] ^= True
    correct[after] ^= True
    seconds[after] *= 3
    return changed(correct=correct, response_time_s=seconds)


@pytest.mark.parametrize(("name", "window"), [(name, 128) for name in NAMES] + [("dkt", 5), ("dkt", 2)])
def test_what_comes_is_not_known(name: str, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the answer's own outcome, nor others of its moment, nor later ones; what went before is."""
    monkeypatch.setattr(dkt, "_WINDOW", window)
    before, moment, after = moment_of_a_test_user()
    found = differences(said(name), model(name).predict(*with_another_future()))
    assert found[np.concatenate([before, moment])].max() < 1e-6
    if name not in {"item_mean", "median", "item_median"}:  # which look at nobody's past
        assert found[after[TOGETHER:]].min() > 1e-5
    history, _ = known_of()
    assert found[history.user != history.user[moment[0]]].max() < 1e-6


@cache
def with_a_slower_moment() -> tuple[History, Known]:
    """Return the history with answers of a moment that took longer, and so were given later: asked as before."""
    _, moment, _ = moment_of_a_test_user()
    history, _ = known_of()
    at, seconds = history.at.copy(), history.response_time_s.copy()
    at[moment] += 32.0
    seconds[moment] += 32.0
    return changed(at=at, response_time_s=seconds)


@pytest.mark.parametrize("name", NAMES)
def test_how_long_it_took_is_not_known(name: str) -> None:
    """Only when it was asked; afterwards it is."""
    _, moment, after = moment_of_a_test_user()
    found = differences(said(name), model(name).predict(*with_a_slower_moment()))
    assert found[moment].max() < 1e-4
    if name in {"item_median_user_speed", "embedding_time"}:
        assert found[after].min() > 1e-3


@pytest.mark.parametrize("window", [2, 5, 128])
def test_plain_dkt_knows_the_latest_answer_before_the_moment(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It turns, and all answers of the next moment are predicted otherwise; whatever the window, the same is said."""
    before, moment, _ = moment_of_a_test_user()
    history, _ = known_of()
    correct = history.correct.copy()
    correct[before[-1]] ^= True
    once = model("dkt").predict(*known_of())
    monkeypatch.setattr(dkt, "_WINDOW", window)
    assert differences(once, model("dkt").predict(*known_of())).max() < 1e-5
    found = differences(once, model("dkt").predict(replace(history, correct=correct), known_of()[1]))
    assert found[moment].min() > 1e-4
    assert found[before].max() < 1e-5


def test_plain_dkt_is_plain() -> None:
    """No features, no items, no times, and the order of an answer's skills says nothing."""
    history, known = known_of()
    blind = Known(np.full_like(known.features, np.nan), known.items)
    only_skills = replace(
        history, questions=[], skills=history.skills * 0, response_time_s=history.response_time_s * np.nan,
        skill_rows=np.where((history.skill_rows[:, 1] > 0)[:, None], history.skill_rows[:, [1, 0, 2, 3]],
                            history.skill_rows),
    )  # fmt: skip
    assert not np.array_equal(only_skills.skill_rows, history.skill_rows)
    assert differences(said("dkt"), model("dkt").predict(only_skills, blind)).max() < 1e-5


@pytest.mark.parametrize("name", LEARNED)
def test_a_seed_repeats_exactly(name: str) -> None:
    """Chance outside does not enter, and none of it is used up."""
    first = said(name)
    history, known = known_of()
    with networks.own_torch():
        torch.manual_seed(5)
        before = torch.get_rng_state()
        again = _references(SEED)[name].fit(history, known, rows_of(history, TRAINING), rows_of(history, VALIDATION))
        assert torch.equal(torch.get_rng_state(), before)
    assert differences(first, again.predict(history, known)).max() == 0.0
    if name != "boosting":  # whose only chance is which answers tell where its bins lie, where there are very many
        assert differences(first, fitted(name, seed=2).predict(history, known)).max() > 1e-3


@pytest.mark.parametrize("name", ["embedding_correctness", "embedding_time"])
def test_unknown_users_share_an_embedding_that_is_learned(name: str) -> None:
    """Training users have each their own; row 0 is far from where it began."""
    found, (history, _) = model(name), known_of()
    assert isinstance(found, EmbeddingCorrectness | EmbeddingTime)
    fit = found._fitted
    assert fit is not None
    known_users = history.split(SEED) == TRAINING
    assert (fit.users[~known_users] == 0).all()
    assert sorted(fit.users[known_users]) == list(range(1, int(known_users.sum()) + 1))
    with networks.own_torch():
        torch.manual_seed(SEED)
        began = embeddings._Network(int(known_users.sum()) + 1, len(fit.topics) + 1, 1 + (name == "embedding_time"))
    moved = (fit.network.user.weight[0] - began.user.weight[0]).abs().max().item()
    assert moved > 0.01
    tested = rows_of(history, TEST)
    assert all(
        np.isfinite(values[tested]).all()
        for values in (said(name).p_correct, said(name).mu, said(name).sigma)
        if values is not None
    )


@pytest.mark.parametrize("name", ["boosting", "median", "item_median_user_speed", "embedding_time"])
def test_without_response_times_nothing_is_said_of_them(name: str) -> None:
    """And correctness goes on."""
    found = fitted(name, response_times=False).predict(*known_of(response_times=False))
    assert found.mu is None
    assert found.sigma is None
    assert (found.p_correct is not None) == (name == "boosting")


def test_the_best_weights_are_kept() -> None:
    """Epochs that did not help are undone, and the next ones are slower; when that did not help either, it ends."""
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    torch.nn.init.constant_(network.weight, 1.0)
    losses = iter([0.5, 0.6, 0.4, 0.45, float("nan"), 0.41, 0.42, 0.39, 0.4, 0.4, 0.3])
    began, rates = list[float](), list[float]()

    def epoch() -> None:
        assert network.training
        began.append(network.weight.item())
        rates.append(optimizer.param_groups[0]["lr"])
        torch.nn.init.constant_(network.weight, 10.0 * len(began))

    def loss() -> float:
        assert not network.training
        return next(losses)

    stopping.train(network, optimizer, epoch, loss, epochs=99)
    assert began == [1, 10, 20, 30, 40, 30, 60, 30, 80, 90]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.4, 0.4, 0.16, 0.16, 0.16])
    assert network.weight.item() == 80
