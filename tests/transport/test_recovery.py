"""`BatchedRecovery`: what is told of a recovery, whatever becomes of it; the changelogs are stand-ins."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faust.types import TP

from stream.health import Health
from stream.settings import Settings
from stream.transport import recovery
from stream.transport.changelogs import Part
from stream.transport.progress import Place
from stream.transport.recovery import BatchedRecovery, Held, Restoring

PLACE: Place = ("learners", 0)


class Endless:
    """Changelogs that never bring a record."""

    behind = True

    def read(self, wait_s: float) -> list[Part]:
        """Return nothing."""
        return []


@asynccontextmanager
async def reading(settings: Settings, offsets: Mapping[Place, int]) -> AsyncIterator[tuple[Endless, Any]]:
    """Yield a reader that finds no end, and how it is called."""

    async def call(act: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return act(*args)

    yield Endless(), call


async def nothing() -> None:
    """Repair nothing."""


async def ours(partitions: set[int]) -> bool:
    """Take partitions over."""
    return True


async def test_a_recovery_that_was_cut_short_is_over_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rebalance ends it; where that leaves nothing to read, nobody waits for it any more."""
    monkeypatch.setattr(recovery, "_reading", reading)
    monkeypatch.setattr(recovery, "starts", lambda _, places: dict.fromkeys(places, 0))
    monkeypatch.setattr(recovery, "ends", lambda _, places: dict.fromkeys(places, 90))
    health = Health()
    made = object.__new__(BatchedRecovery)
    made._with = Restoring(Settings(), dict, health, ours, nothing)
    made._held, made._standby_task, made._generation_id = Held(), None, 1
    made.active_tps, made.standby_tps = {TP(*PLACE)}, set()
    cut_short = asyncio.ensure_future(made._recover())
    async with asyncio.timeout(10):
        while health.lacking() is None:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0)
    assert health.lacking() == "state is recovering: about 90 changelog records are left"
    cut_short.cancel()
    await asyncio.wait({cut_short})
    made.active_tps = set()
    await made._recover()
    assert health.lacking() is None
