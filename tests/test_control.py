"""Rollouts as a worker follows them: of each model by itself, loaded or kept out, told and counted."""

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from schemas import ModelRefused, ModelRollout, ModelSwapped, Release
from stream.agents.control import Followed, read_allowed_risk
from stream.errors import StoreError
from stream.models.artifacts import MODEL
from stream.models.risk import RISK, LogisticRisk
from stream.models.store import Store
from stream.ports import RiskModel
from stream.settings import Settings
from stream.telemetry import Metrics
from tests.risks import make_risk_release

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class World:
    """A risk model's rollout in a worker."""

    def __init__(self, folder: Path) -> None:
        self.store, self.metrics = Store(str(folder)), Metrics(100)
        self.told: list[ModelSwapped | ModelRefused] = []
        self.fallback, self.loaded = LogisticRisk(), 0
        self.fields: Collection[str] = Settings().risk_feature_fields
        self.followed = Followed[RiskModel](RISK, self.fallback, self._load, self.metrics, self.told.append, "w-1")

    def _load(self, release: Release) -> Any:
        self.loaded += 1
        return read_allowed_risk(self.store, self.fields, {"variant": "champion"}, release)

    def announce(self, champion: Release | None, challenger: Release | None = None, share: float = 0.0) -> bool:
        """Have a rollout come, and return whether anything else plays then."""
        self.followed.announced(
            ModelRollout(name=RISK, champion=champion, challenger=challenger, challenger_share=share, decided_at=NOW)
        )
        return self.followed.settle()

    def plays(self) -> tuple[tuple[int, str], tuple[int, str] | None, float]:
        """Return version and part of who serves, of who is on trial, and the share."""
        playing = self.followed.playing
        tried = playing.challenger
        champion = playing.champion.identity
        return (
            (champion.version, champion.variant),
            None if tried is None else (tried.identity.version, tried.identity.variant),
            playing.share,
        )

    def damage(self, release: Release) -> None:
        """Change a byte of a release's model; a second time, change it back."""
        file = Path(self.store.place(f"{release.path}/{MODEL}"))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return it."""
    return World(tmp_path)


def test_the_fallback_serves_until_something_is_announced(world: World) -> None:
    """And its version is shown from the start."""
    assert not world.followed.settle()
    assert world.followed.playing.champion is world.fallback
    assert world.metrics.registry.get_sample_value("stream_model_version", {"name": RISK}) == 0


def test_what_is_announced_plays(world: World) -> None:
    """On trial, then promoted without being loaded again, then taken back; each swap is told under its name."""
    one, two = make_risk_release(world.store, 1), make_risk_release(world.store, 2)
    assert world.announce(one)
    assert world.plays() == ((1, "champion"), None, 0.0)
    assert world.announce(one, two, 0.25)
    assert world.plays() == ((1, "champion"), (2, "challenger"), 0.25)
    assert not world.announce(one, two, 0.25)
    loaded = world.loaded
    assert world.announce(two)
    assert world.plays() == ((2, "champion"), None, 0.0)
    assert world.loaded == loaded
    assert world.announce(None)
    assert world.followed.playing.champion is world.fallback
    assert [(e.name, getattr(e, "previous", 0), e.version) for e in world.told] == [
        (RISK, None, 1), (RISK, 1, 2), (RISK, 2, None),
    ]  # fmt: skip


def test_a_spoilt_artifact_is_kept_out_and_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, however often it is looked at again; what there is goes on, and when it is mended it plays."""
    clock = [100.0]
    monkeypatch.setattr("stream.agents.control.time.monotonic", lambda: clock[0])
    one, two = make_risk_release(world.store, 1), make_risk_release(world.store, 2)
    world.announce(one)
    world.damage(two)
    assert not world.announce(two)
    assert world.plays()[0] == (1, "champion")
    for _ in range(3):
        clock[0] += 10
        assert not world.followed.settle()
    (refused,) = (event for event in world.told if isinstance(event, ModelRefused))
    assert (refused.name, refused.version, refused.worker) == (RISK, 2, "w-1")
    assert "digest" in refused.reason
    assert world.metrics.registry.get_sample_value("stream_models_refused_total", {"name": RISK}) == 1
    world.damage(two)
    loaded = world.loaded
    clock[0] += 1
    assert not world.followed.settle()
    assert world.loaded == loaded, "it is looked at again in some seconds"
    clock[0] += 10
    assert world.followed.settle()
    assert world.plays()[0] == (2, "champion")


def test_who_starts_without_what_is_announced_is_bereft(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start, until it loads; a model that is refused later leaves nobody so, for the old one serves."""
    clock, bereft = [100.0], [world.followed.is_bereft]
    monkeypatch.setattr("stream.agents.control.time.monotonic", lambda: clock[0])
    one, two = make_risk_release(world.store, 1), make_risk_release(world.store, 2)
    world.damage(one)
    world.announce(one)
    bereft.append(world.followed.is_bereft)
    world.damage(one)
    clock[0] += 10
    world.followed.settle()
    bereft.append(world.followed.is_bereft)
    world.damage(two)
    world.announce(two)
    bereft.append(world.followed.is_bereft)
    assert bereft == [True, True, False, False]


def test_who_starts_with_nothing_announced_is_not_bereft(world: World) -> None:
    """The fallback is what should serve, and goes on to when the first model is refused."""
    world.followed.settle()
    assert not world.followed.is_bereft
    one = make_risk_release(world.store, 1)
    world.damage(one)
    world.announce(one)
    assert not world.followed.is_bereft


def test_a_store_that_cannot_be_read_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time; a spoilt artifact is no failure of the store."""
    release = make_risk_release(world.store, 1)
    world.damage(release)
    world.announce(release)
    failures = partial(world.metrics.registry.get_sample_value, "stream_failures_total", {"part": "store"})
    assert failures() == 0

    def away(*_: object, **__: object) -> NoReturn:
        raise StoreError("the store is away")

    monkeypatch.setattr("stream.agents.control.load_risk", away)
    world.announce(release)
    world.announce(release)
    assert failures() == 2
    assert world.metrics.registry.get_sample_value("stream_models_refused_total", {"name": RISK}) == 1


def test_a_spoilt_challenger_does_not_keep_the_champion_out(world: World) -> None:
    """Of one announcement the part that can be loaded plays."""
    one, two = make_risk_release(world.store, 1), make_risk_release(world.store, 2)
    world.damage(two)
    assert world.announce(one, two, 0.5)
    assert world.plays() == ((1, "champion"), None, 0.5)


@pytest.mark.parametrize(
    ("fields", "allowed", "found"),
    [
        ((), r"\(none\)", "education, attempts"),
        (("credits", "education"), r"\(credits, education\)", "attempts"),
        (("attempts",), r"\(attempts\)", "education"),
    ],
)
def test_a_model_that_sees_more_than_it_may_is_kept_out(
    world: World, fields: Collection[str], allowed: str, found: str
) -> None:
    """Whatever held when it was trained: neither as champion nor on trial, and the sentence says which fields."""
    one, two = make_risk_release(world.store, 1), make_risk_release(world.store, 2)
    assert world.announce(one)
    world.fields = fields
    assert not world.announce(two)
    assert not world.announce(one, two)
    assert world.plays() == ((1, "champion"), None, 0.0)
    (refused,) = (event for event in world.told if isinstance(event, ModelRefused))
    assert (refused.version, refused.worker) == (2, "w-1")
    sentence = (
        rf"risk/v2: expected only fields of STREAM_RISK_FEATURES {allowed}, found {found}; "
        r"train a model without, or name there what it may see$"
    )
    assert re.search(sentence, refused.reason), refused.reason


def test_the_course_and_what_follows_may_always_be_seen(world: World) -> None:
    """They are no fields of the context; more may be named than a model knows."""
    world.fields = ("attempts", "education", "more")
    assert world.announce(make_risk_release(world.store, 1))
    assert [event.type for event in world.told] == ["model_swapped"]


def _other_name(store: Store) -> Release:
    return make_risk_release(store, 7).model_copy(update={"sha256": "0" * 64})


@pytest.mark.parametrize(
    "wrong", [_other_name, lambda store: make_risk_release(store, 8).model_copy(update={"path": "risk/v9"})]
)
def test_what_is_not_what_was_announced_is_kept_out(world: World, wrong: Callable[[Store], Release]) -> None:
    """Another digest, or nothing at all where it should be."""
    assert not world.announce(wrong(world.store))
    assert world.followed.playing.champion is world.fallback
    assert [event.type for event in world.told] == ["model_refused"]
