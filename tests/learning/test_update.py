"""One update: better than the fallback on what comes later, and nothing at all where something was wrong."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas import Release
from stream.learning.buffer import Buffer, load_runs
from stream.learning.network import Network, Shape, from_weights, weights
from stream.learning.replay import predict_runs
from stream.learning.runs import Runs, influence, influence_cap
from stream.learning.update import NotFiniteError, Wish, batches, loss_of, reorder, shape_for, update, warm
from stream.models.artifacts import digest, load, read_manifest, read_weights
from stream.models.quality import auc, log_losses
from stream.models.store import MANIFEST, Store
from tests import networks
from tests.learning.test_buffer import example


@pytest.fixture(autouse=True)
def _own_torch() -> Iterator[None]:
    """Keep the seed that an update sets from other tests."""
    with networks.own_torch():
        yield


def wish(folder: Path, buffer: Buffer, **changes: object) -> Wish:
    """Return a wish for an update from a buffer."""
    usual = Wish("knowledge", 1, str(folder.parent), folder.name, buffer.path, 1_000_000, None, 15.0, 0.002, 1)
    return replace(usual, **changes)  # type: ignore[arg-type]


def a_few(users: int = 12, each: int = 3) -> Buffer:
    """Return a buffer of few answers."""
    return networks.buffer_of(
        [example(f"u-{number % users}", number, correct=bool(number % 3)) for number in range(users * each)]
    )


def test_an_update_beats_the_fallback_on_later_answers(tmp_path: Path) -> None:
    """From 4,000 simulated answers, through the artifact that would be served, on the 2,000 that come after them."""
    examples = networks.simulated_examples()
    learned = networks.buffer_of(examples[: networks.LEARNED])
    store = Store(str(tmp_path))
    path = update(wish(tmp_path / "knowledge-1", learned))
    dkt = load(store, path, variant="champion")
    runs = networks.buffer_of(examples, learned.skills).runs()
    later = runs.there & (runs.number >= networks.LEARNED)
    correct, p, p_fallback = runs.correct[later], predict_runs(dkt, runs)[later], runs.p_fallback[later]
    assert later.sum() == networks.ANSWERS - networks.LEARNED
    assert log_losses(correct, p).mean() < log_losses(correct, p_fallback).mean() - 0.005
    assert (auc(correct, p) or 0) > (auc(correct, p_fallback) or 1) + 0.01
    manifest = read_manifest(store, path)
    assert (manifest.version, manifest.state_format) == (1, "lstm-1x64-knowledge-1")
    assert (manifest.trained_on.answers, manifest.skills) == (networks.LEARNED, learned.skills)


def test_a_warm_start_keeps_the_lineage(tmp_path: Path) -> None:
    """A later version starts from the weights, and the state format, of the one before."""
    store, buffer = Store(str(tmp_path)), a_few()
    first = update(wish(tmp_path / "1", buffer, seconds=0.01))
    manifest = read_manifest(store, first)
    start = read_weights(store, first, manifest)
    champion = Release(
        version=1,
        sha256=digest((tmp_path / "1" / MANIFEST).read_bytes()),
        path=first,
        state_format=manifest.state_format,
    )
    second = update(wish(tmp_path / "2", buffer, version=2, seconds=0.01, learning_rate=1e-9, champion=champion))
    found = read_manifest(store, second)
    assert (found.version, found.state_format) == (2, manifest.state_format)
    learned = read_weights(store, second, found)
    # Newer answers are held out, and they calibrate it.
    assert learned.pop("calibration").shape == (3,)
    for name, array in learned.items():
        np.testing.assert_allclose(array, start[name], atol=1e-6)


def test_an_update_from_nothing_has_a_lineage_of_its_own(tmp_path: Path) -> None:
    """Started from random weights, a version reads nobody else's states."""
    store = Store(str(tmp_path))
    paths = [update(wish(tmp_path / f"{v}", a_few(), version=v, seconds=0.01)) for v in (1, 2)]
    formats = {read_manifest(store, path).state_format for path in paths}
    assert len(formats) == 2


def test_single_answers_are_enough_for_an_update(tmp_path: Path) -> None:
    """The first ten answers may be of ten users: runs of one answer each."""
    path = update(wish(tmp_path / "m", a_few(users=10, each=1), seconds=0.01))
    assert load(Store(str(tmp_path)), path, variant="champion").hidden_size == 128


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    """One epoch from the same answers and seed leads to the same weights; another seed to others."""
    store, buffer = Store(str(tmp_path)), a_few()
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = update(wish(tmp_path / name, buffer, seconds=1e-6, seed=seed))
        found.append(read_weights(store, path, read_manifest(store, path)))
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])
    assert np.abs(found[0]["lstm.weight_hh_l0"] - found[2]["lstm.weight_hh_l0"]).max() > 0.01


def test_a_champion_that_cannot_be_read_is_not_gone_on_from(tmp_path: Path) -> None:
    """A store that has lost it costs its weights: the update starts from nothing, with a lineage of its own."""
    lost = Release(version=4, sha256="0" * 64, path="knowledge/v4", state_format="lstm-lost")
    path = update(wish(tmp_path / "5", a_few(), version=5, seconds=0.01, champion=lost))
    assert read_manifest(Store(str(tmp_path)), path).state_format == "lstm-1x64-knowledge-5"


def test_a_nan_ends_the_update_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature that is no number, however it came in, raises, and no folder appears."""

    def load_poisoned(path: Path, *, most: int, seed: int) -> tuple[Runs, tuple[str, ...]]:
        runs, skills = load_runs(path, most=most, seed=seed)
        runs.features[3, 1, 0] = np.nan
        return runs, skills

    monkeypatch.setattr("stream.learning.update.load_runs", load_poisoned)
    with pytest.raises(NotFiniteError, match="finite loss"):
        update(wish(tmp_path / "store" / "m", a_few()))
    assert not (tmp_path / "store").exists()


def test_one_user_pulls_no_harder_than_the_cap() -> None:
    """A run of ten times the answers weighs as the cap says: the gradient is that of the capped share."""
    network = networks.random_network()
    long = [example("bot", number, correct=False) for number in range(400)]
    others = [example(f"u-{number % 40}", 1_000 + number) for number in range(400)]
    runs = networks.buffer_of([*long, *others]).runs()
    cap = influence_cap(runs)
    capped, free = (influence(runs, at_most) for at_most in (cap, math.inf))
    answers_of = runs.there.sum(axis=1)
    bot = int(answers_of.argmax())
    assert (capped * answers_of)[bot] == pytest.approx(cap)
    assert (capped[np.arange(len(runs)) != bot] == 1).all()
    with torch.no_grad():
        alone = [loss_of(network, part, influence(part, math.inf)).item() for part in (
            runs.take(np.array([bot])), runs.take(np.flatnonzero(np.arange(len(runs)) != bot)),
        )]  # fmt: skip
        losses = [loss_of(network, runs, weight).item() for weight in (capped, free)]
    for loss, weight in zip(losses, (cap, 400.0), strict=True):
        assert loss == pytest.approx((weight * alone[0] + 400 * alone[1]) / (weight + 400), rel=1e-4)


def test_padding_does_not_count() -> None:
    """What stands behind a run's end changes neither loss nor direction."""
    few = [example(f"u-{number % 3}", number, correct=bool(number % 3)) for number in range(6)]
    runs = networks.buffer_of([*few, *(example("long", number) for number in range(99, 106))]).runs()
    network = networks.random_network()
    with torch.no_grad():
        expected = loss_of(network, runs, np.ones(len(runs), np.float32)).item()
        runs.features[~runs.there] = 1_000
        runs.correct[~runs.there] = 1
        runs.time[~runs.there] = (5.0, 0.0)
        assert loss_of(network, runs, np.ones(len(runs), np.float32)).item() == pytest.approx(expected, rel=1e-6)


def test_answers_without_times_are_learned_from() -> None:
    """Where no response time is known the loss is that of the answers alone."""
    runs = networks.buffer_of(
        [example(f"u-{number % 2}", number, response_time_seconds=None) for number in range(6)]
    ).runs()
    with torch.no_grad():
        assert torch.isfinite(loss_of(networks.random_network(), runs, np.ones(2, np.float32)))


def test_every_run_is_in_one_batch() -> None:
    """An epoch passes over each run once."""
    runs = networks.buffer_of([example(f"u-{number % 75}", number) for number in range(300)]).runs()
    seen = [
        number for batch in batches(runs, np.random.default_rng(1)) for number in batch.number[batch.there].tolist()
    ]
    assert sorted(seen) == list(range(300))


def test_weights_follow_their_skills_into_another_order() -> None:
    """A model of another vocabulary is gone on from with each skill's own row; new skills start as unknown ones."""
    old = np.arange(1_024, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    same = reorder({"skill.weight": old}, ("a", "b"), ("a", "b", "c"))
    assert same["skill.weight"] is old
    new = reorder({"skill.weight": old, "out.bias": old}, ("a", "b"), ("c", "b", "a"))
    assert new["skill.weight"][:4, 0].tolist() == [0.0, 0.0, 2.0, 1.0]
    assert new["skill.weight"].shape == old.shape
    assert new["out.bias"] is old


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
