"""From past answers to a first network, stopped in time by users held out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stream.learning import offline, update
from stream.learning.history import History
from stream.learning.offline import WINDOW, Recipe, runs_of
from stream.learning.progress import Lines
from stream.learning.update import Training
from stream.models.features import COLUMN, COUNT
from tests import networks
from tests.learning.test_history import file_of


def test_runs_are_windows_of_a_users_past() -> None:
    """A long past goes on in the next run; what was chosen is there once, everything in its place."""
    history = History.of(file_of({"a": WINDOW + 3, "b": 5, "c": 2}))
    features = np.random.default_rng(1).random((len(history.user), COUNT)).astype(np.float32)
    runs = runs_of(history, features, np.array([True, True, False]))
    assert runs.there.sum(axis=1).tolist() == [WINDOW, 3, 5]
    rows = runs.number[runs.there]
    assert sorted(rows.tolist()) == np.flatnonzero(history.user < 2).tolist()
    assert np.array_equal(runs.features[runs.there], features[rows])
    assert np.array_equal(runs.correct[runs.there], history.correct[rows])
    assert np.array_equal(runs.skills[runs.there], history.skill_rows[rows])
    known = ~np.isnan(history.response_time_s[rows])
    assert np.array_equal(runs.time[runs.there][:, 1] > 0, known)
    expected = 1 / (1 + np.exp(-features[rows][:, COLUMN["lnirt_logit"]]))
    assert np.allclose(runs.p_fallback[runs.there], expected, atol=1e-6)


def test_a_network_is_fitted_and_stopped_in_time() -> None:
    """It does not lose to the fallback on users held out."""
    told: list[str] = []
    epochs: list[dict[str, float]] = []
    buffer = networks.buffer_of(networks.simulated_examples()[:1_500])
    runs = buffer.runs()
    order = np.random.default_rng(1).permutation(len(runs))
    others, some = np.split(order, [len(runs) // 10])
    with networks.own_torch():
        recipe = Recipe(seed=1, epochs=2)
        fitted = offline.fit(
            runs.take(some), runs.take(others), len(buffer.skills), recipe, Lines(told.append), epochs.append
        )
    figures = fitted.figures
    assert figures["logloss"] <= figures["logloss_fallback"]
    assert figures["answers"] > 50
    assert 1 <= len(told) <= 2
    assert "log loss" in told[0]
    assert [figures["epoch"] for figures in epochs] == list(range(1, len(told) + 1))
    assert not fitted.network.training
    assert fitted.network.shape.hidden_size == 128


def test_what_does_not_help_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch that makes it worse leaves nothing behind, the learning rate falls, and patience ends."""
    rates: list[float] = []
    buffer = networks.buffer_of(networks.simulated_examples()[:400])
    runs = buffer.runs()

    def ruin(training: Training, progress: object, done: object) -> float:
        rates.append(training.learning_rate)
        for parameter in training.average.parameters():
            parameter.data.add_(1.0)
        return 0.0

    monkeypatch.setattr(Training, "epoch", ruin)
    with networks.own_torch():
        recipe = Recipe(seed=1, epochs=100, learning_rate=0.01)
        fitted = offline.fit(runs, runs, len(buffer.skills), recipe, Lines(print), lambda figures: None)
        fitted.network.calibration.copy_(torch.tensor([1.0, 0.0, 0.0]))
        figures = offline.evaluate(fitted.network, runs)
    assert figures["logloss"] == pytest.approx(figures["logloss_fallback"], abs=1e-6)
    assert rates == pytest.approx([0.01 * 0.4**n for n in range(4)])


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    """It follows the network that is trained, and lies behind it."""
    buffer = networks.buffer_of(networks.simulated_examples()[:400])
    runs = buffer.runs()
    with networks.own_torch():
        network = update.fresh(update.shape_for(len(buffer.skills)), runs)
        before = network.out.weight.detach().clone()
        training = Training(network, runs, 0.002, 1)
        training.epoch(lambda: 0.0)
    moved = (network.out.weight - before).norm()
    followed = (training.average.out.weight - before).norm()
    assert 0 < followed < moved


def test_the_embedding_of_items_is_as_wide_as_they_can_fill() -> None:
    """Items met fifty times on average have 32 numbers, items met seldom 8."""
    history = History.of(file_of({f"u{n}": 20 for n in range(30)}))
    runs = runs_of(history, np.zeros((len(history.user), COUNT), np.float32), np.ones(30, bool))
    often, seldom = runs.item % 3 + 1, runs.number % 300 + 1
    assert offline.item_width(replace(runs, item=often)) == 32
    assert offline.item_width(replace(runs, item=seldom)) == 8
