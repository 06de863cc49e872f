"""One update of the risk model: from nothing, from what serves, and who is never learned from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import Release
from stream.errors import UserError
from stream.learning.risk import update as updating
from stream.learning.risk.snapshots import Snapshots
from stream.learning.risk.training import RiskRecipe
from stream.learning.risk.update import HELD_OUT, RiskWish, split, update
from stream.models.artifacts import load_risk, read_risk_manifest, read_weights, release
from stream.models.store import Store
from stream.state.academic import fact_key
from tests.learning.risk.pupils import VOCABULARY, pupils
from tests.risks import make_risk_release

FIELDS = ("attempts", "education")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train little: what is learned is another test's."""
    monkeypatch.setattr(updating, "MAX_EPOCHS", 1)
    monkeypatch.setattr(updating, "_EXPLAINED", 40)
    quick = lambda **given: RiskRecipe(**(given | {"explain_epochs": 1}))  # noqa: E731 (stands for a class)
    monkeypatch.setattr(updating, "RiskRecipe", quick)


def given(monkeypatch: pytest.MonkeyPatch, snapshots: Snapshots) -> None:
    """Have the file of examples hold these."""

    def loaded(*_: Any) -> Any:
        return snapshots, VOCABULARY.facts, VOCABULARY.numbers

    monkeypatch.setattr(updating, "load_snapshots", loaded)


def wish(store: Store, version: int, champion: Release | None, fields: tuple[str, ...] = FIELDS) -> RiskWish:
    """Return what is to be done."""
    return RiskWish(
        version, str(store), store.folder_of("risk", version), Path("nowhere"), 10_000, champion, 30.0, 1e-4, version,
        fields,
    )  # fmt: skip


def usual(store: Store, version: int) -> Any:
    """Return what a version takes for usual."""
    path = store.folder_of("risk", version)
    return read_weights(store, path, read_risk_manifest(store, path))["network.usual.center"]


def test_the_same_users_are_held_out_of_every_update(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever else has come: who was learned from is never among those who say how good it is."""
    some, more = pupils(100), Snapshots.joined([pupils(100), pupils(50, seed=3, first=500)])
    (learned, held_out), (later_learned, later_held_out) = split(some), split(more)
    assert not set(learned.user) & set(later_held_out.user)
    assert not set(held_out.user) & set(later_learned.user)
    assert set(held_out.user) == {user for user in some.user if user % HELD_OUT == 0}


def test_a_first_update_begins_from_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The artifact loads, and says what it was learned from: only those who were not held out."""
    store, snapshots = Store(str(tmp_path)), pupils(150)
    given(monkeypatch, snapshots)
    path = update(wish(store, 1, None))
    assert load_risk(store, path, variant="challenger").identity.version == 1
    learned, _ = split(snapshots)
    span = read_risk_manifest(store, path).trained_on
    assert (span.weeks, span.users) == (len(learned), len(np.unique(learned.user)))
    _, first = np.unique(learned.user, return_index=True)
    assert span.at_risk == pytest.approx(float(learned.risk[first].mean()))


def test_an_update_goes_on_from_what_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is usual, and the trees, stay; the vocabulary does."""
    store = Store(str(tmp_path))
    champion = make_risk_release(store, 1)
    given(monkeypatch, pupils(150, seed=5))
    update(wish(store, 2, champion))
    np.testing.assert_array_equal(usual(store, 2), usual(store, 1))
    assert read_risk_manifest(store, "risk/v2").facts == VOCABULARY.facts


@pytest.mark.parametrize("why", ["courses", "fields", "spoilt"])
def test_what_cannot_be_gone_on_from_is_begun_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, why: str) -> None:
    """Courses that it does not know, a field that it may no longer see, weights that cannot be read."""
    store = Store(str(tmp_path))
    champion = make_risk_release(store, 1)
    snapshots, before = pupils(200, seed=5), usual(store, 1)
    fields: tuple[str, ...] = FIELDS
    if why == "courses":
        snapshots.seen.fact[snapshots.user % 2 == 0, 0] = fact_key("course", "chemistry")
    elif why == "fields":
        fields = ("attempts",)
    else:
        (tmp_path / "risk/v1/weights.npz").write_bytes(b"spoilt")
    given(monkeypatch, snapshots)
    update(wish(store, 2, champion, fields))
    assert not np.array_equal(usual(store, 2), before)
    assert release(store, "risk", 2).version == 2


def test_too_few_outcomes_are_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says how many of each there are; nothing is written."""
    snapshots = pupils(150)
    given(monkeypatch, snapshots.take(snapshots.risk > 0))
    with pytest.raises(UserError, match=r"some at risk and some not, found \d+, \d+ of them at risk"):
        update(wish(Store(str(tmp_path)), 1, None))
    assert not (tmp_path / "risk").exists()
