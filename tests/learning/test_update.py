"""One update: better than the fallback on what comes later, and nothing at all where something was wrong."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stream.learning.network import Network, Shape, from_weights, weights
from stream.learning.replay import predict_runs
from stream.learning.runs import Buffer
from stream.learning.update import NotFiniteError, Wish, batches, loss_of, shape_for, update, warm
from stream.models.artifacts import load, read_manifest, read_weights
from stream.models.quality import auc, log_losses
from tests import networks
from tests.learning.test_runs import of


@pytest.fixture(autouse=True)
def _own_torch() -> Iterator[None]:
    """Keep the seed that an update sets from other tests."""
    with networks.own_torch():
        yield


def wish(folder: Path, buffer: Buffer, **changes: object) -> Wish:
    """Return a wish for an update from a buffer."""
    usual = Wish("knowledge", 1, folder, buffer.runs(), buffer.skills, None, None, 15.0, 0.002, 1)
    return replace(usual, **changes)  # type: ignore[arg-type]


def a_few(users: int = 12, each: int = 3) -> Buffer:
    """Return a buffer of few answers."""
    buffer = Buffer(1_000, 100)
    for number in range(users * each):
        buffer.add(of(f"u-{number % users}", number, correct=bool(number % 3)))
    return buffer


def test_an_update_beats_the_fallback_on_later_answers(tmp_path: Path) -> None:
    """From 4,000 simulated answers, through the artifact that would be served, on the 2,000 that come after them."""
    examples = networks.simulated_examples()
    learned = networks.buffer_of(examples[: networks.LEARNED])
    folder = update(wish(tmp_path / "knowledge-1", learned))
    dkt = load(folder, variant="champion")
    whole = Buffer(100_000, 1_000)
    whole.know(learned.skills)
    for example in examples:
        whole.add(example)
    runs = whole.runs()
    later = runs.there & (runs.number >= networks.LEARNED)
    correct, p, p_fallback = runs.correct[later], predict_runs(dkt, runs)[later], runs.p_fallback[later]
    assert later.sum() == networks.ANSWERS - networks.LEARNED
    assert log_losses(correct, p).mean() < log_losses(correct, p_fallback).mean() - 0.005
    assert (auc(correct, p) or 0) > (auc(correct, p_fallback) or 1) + 0.01
    manifest = read_manifest(folder)
    assert (manifest.version, manifest.state_format) == (1, "lstm-1x64-knowledge-1")
    assert (manifest.trained_on.answers, manifest.skills) == (networks.LEARNED, learned.skills)


def test_a_warm_start_keeps_the_lineage(tmp_path: Path) -> None:
    """A later version starts from the weights, and the state format, of the one before."""
    buffer = a_few()
    first = update(wish(tmp_path / "1", buffer, seconds=0.01))
    manifest = read_manifest(first)
    start = read_weights(first, manifest)
    second = update(
        wish(
            tmp_path / "2",
            buffer,
            version=2,
            seconds=0.01,
            learning_rate=1e-9,
            start=start,
            state_format=manifest.state_format,
        )
    )
    found = read_manifest(second)
    assert (found.version, found.state_format) == (2, manifest.state_format)
    learned = read_weights(second, found)
    # Newer answers are held out, and they calibrate it.
    assert learned.pop("calibration").shape == (3,)
    for name, array in learned.items():
        np.testing.assert_allclose(array, start[name], atol=1e-6)


def test_an_update_from_nothing_has_a_lineage_of_its_own(tmp_path: Path) -> None:
    """Started from random weights, a version reads nobody else's states."""
    formats = {
        read_manifest(update(wish(tmp_path / f"{v}", a_few(), version=v, seconds=0.01))).state_format for v in (1, 2)
    }
    assert len(formats) == 2


def test_single_answers_are_enough_for_an_update(tmp_path: Path) -> None:
    """The first ten answers may be of ten users: runs of one answer each."""
    folder = update(wish(tmp_path / "m", a_few(users=10, each=1), seconds=0.01))
    assert load(folder, variant="champion").hidden_size == 128


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    """One epoch from the same answers and seed leads to the same weights; another seed to others."""
    buffer = a_few()
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = update(wish(tmp_path / name, buffer, seconds=1e-6, seed=seed))
        found.append(read_weights(folder, read_manifest(folder)))
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])
    assert np.abs(found[0]["lstm.weight_hh_l0"] - found[2]["lstm.weight_hh_l0"]).max() > 0.01


def test_a_nan_ends_the_update_and_leaves_nothing(tmp_path: Path) -> None:
    """A feature that is no number raises, and no folder appears."""
    buffer = a_few()
    runs = buffer.runs()
    runs.features[3, 1, 0] = np.nan
    with pytest.raises(NotFiniteError, match="finite loss"):
        update(wish(tmp_path / "store" / "m", buffer, runs=runs))
    assert not (tmp_path / "store").exists()


def test_padding_does_not_count() -> None:
    """What stands behind a run's end changes neither loss nor direction."""
    buffer = a_few(users=3, each=2)
    buffer.add(of("long", 99))
    for number in range(100, 106):
        buffer.add(of("long", number))
    runs = buffer.runs()
    network = networks.random_network()
    with torch.no_grad():
        expected = loss_of(network, runs).item()
        runs.features[~runs.there] = 1_000
        runs.correct[~runs.there] = 1
        runs.time[~runs.there] = (5.0, 0.0)
        assert loss_of(network, runs).item() == pytest.approx(expected, rel=1e-6)


def test_answers_without_times_are_learned_from() -> None:
    """Where no response time is known the loss is that of the answers alone."""
    buffer = Buffer(100, 10)
    for number in range(6):
        buffer.add(of(f"u-{number % 2}", number, seconds=None))
    with torch.no_grad():
        assert torch.isfinite(loss_of(networks.random_network(), buffer.runs()))


def test_every_run_is_in_one_batch() -> None:
    """An epoch passes over each run once."""
    buffer = Buffer(10_000, 100)
    for number in range(300):
        buffer.add(of(f"u-{number % 75}", number))
    runs = buffer.runs()
    seen = [
        number for batch in batches(runs, np.random.default_rng(1)) for number in batch.number[batch.there].tolist()
    ]
    assert sorted(seen) == list(range(300))


def test_a_vocabulary_that_has_grown() -> None:
    """A network takes more skills than it was made for; what it knew stays."""
    small = weights(Network(Shape(vocabulary=8)))
    grown = weights(warm(16, small))
    np.testing.assert_array_equal(grown["skill.weight"][:8], small["skill.weight"])
    assert grown["skill.weight"].shape == (16, 64)
    assert np.abs(grown["skill.weight"][8:]).max() > 0
    assert weights(warm(4, small))["skill.weight"].shape == (8, 64)


@pytest.mark.parametrize("skills", [0, 1, 500, 511, 512, 5_000])
def test_a_shape_has_room_to_grow(skills: int) -> None:
    """There are rows for all skills, the unknown one, and about as many again."""
    rows = shape_for(skills).vocabulary
    assert rows >= max(1_024, 2 * (skills + 1))


def test_weights_of_another_shape_are_refused() -> None:
    """Weights that do not fit are not forced."""
    arrays = weights(Network(Shape()))
    del arrays["out.bias"]
    with pytest.raises(ValueError, match="expected weights"):
        from_weights(Shape(), arrays)
