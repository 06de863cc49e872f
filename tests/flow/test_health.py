"""`/healthz`, `/readyz` and `/metrics` of real processes on the real broker."""

from functools import partial
from operator import eq
from pathlib import Path

import pytest

from stream.ports import STAGES
from tests.deploy import promtool
from tests.flow.releases import announce, damage, make_release
from tests.flow.system import START_S, System, await_effect, exit_status, prepare, rounds

pytestmark = pytest.mark.timeout(180)

REPEATED = 'stream_events_total{outcome="repeated",type="quiz_complete"}'
LOADED = "the announced knowledge model could not be loaded, and the fallback serves\n"


@pytest.mark.parametrize("guarantee", ["exactly_once"])
def test_a_worker_is_ready_when_all_is_known_and_says_how_far_it_is(system: System) -> None:
    """Not while what is announced cannot be loaded; then what it counts adds up, and promtool finds no fault."""
    release = make_release(system, 1)
    damage(system, release)
    announce(system, release)
    system.start("worker")
    system.start("trainer")
    # Alive from the start; ready it is only when there is nothing left to wait for.
    assert system.asked("worker", "/healthz") == (200, "ok\n")
    await_effect(lambda: system.asked("worker", "/readyz") == (503, LOADED))
    assert system.metric("worker", "stream_ready") == 0
    damage(system, release)
    await_effect(lambda: system.asked("worker", "/readyz") == (200, "ready\n"))
    await_effect(lambda: system.asked("trainer", "/readyz") == (200, "ready\n"))

    system.send([*rounds(users=6, answers=4), *rounds(users=2, answers=1)])
    system.examples(24)
    system.await_metric("worker", REPEATED, partial(eq, 2))
    # Behind the last record of each partition stands the marker of a transaction: that is no lag.
    await_effect(partial(system.is_through, "worker", 4))
    await_effect(partial(system.is_through, "trainer", 2, "stream_trainer"))
    for name in ("worker", "trainer"):
        promtool.check("check", "metrics", text=system.asked(name, "/metrics")[1])
        assert system.samples(name, "stream_stalled") == {"": 0}
        assert system.samples(name, "stream_ready") == {"": 1}
    assert system.samples("worker", "stream_partitions") == {"": 4}
    assert system.samples("worker", "stream_state_users")['table="learners"'] == 6
    assert system.samples("worker", "stream_state_bytes")['table="learners"'] > 6 * 1_000
    assert system.samples("worker", "stream_changelog_bytes_total")['table="learners"'] > 6 * 1_000
    assert system.samples("worker", "stream_changelog_bytes_total")['table="names"'] > 0
    counts = system.samples("worker", "stream_stage_seconds_count")
    assert {stage for stage in STAGES if counts[f'stage="{stage}"'] > 0} == set(STAGES)
    # Each answer once: what an AUC or a time error cannot be told of has no sample, log loss always has.
    assert 'model="serving",version="1"' in system.samples("worker", "stream_live_logloss_nats")
    assert 'model="fallback",version="0"' in system.samples("worker", "stream_live_time_error_seconds")


# The flow of events, what makes safe, or the loop itself waits for as long as a file is there.
HELD_UP = """
import asyncio, pathlib, time
from stream import health
from stream.transport import at_least_once, engine
from stream.transport.faust_transport import _Consumer

getmany = _Consumer.getmany

async def suspended(self, timeout):
    while pathlib.Path("flow-waits").exists():
        await asyncio.sleep(0.05)
    async for each in getmany(self, timeout):
        yield each

_Consumer.getmany = suspended
submit, process, patient = at_least_once.AtLeastOnce.submit, engine.Engine._process, health.Health.__init__

async def held_up(self, settlement):
    while pathlib.Path("commits-wait").exists():
        await asyncio.sleep(0.05)
    await submit(self, settlement)

async def blocked(self, *args):
    while pathlib.Path("loop-waits").exists():
        time.sleep(0.05)
    await process(self, *args)

at_least_once.AtLeastOnce.submit, engine.Engine._process = held_up, blocked
health.Health.__init__ = lambda self, stalled_after_s=1.5, clock=time.monotonic: patient(self, 1.5, clock)
"""


def test_a_worker_that_lives_and_does_nothing_is_noticed(system: System) -> None:
    """
    A flow that never begins after the assignment, agents that stop while there is lag, a loop that stands still.

    Each ends, and nothing is lost.
    """
    prepare(system, "worker", HELD_UP)
    (system.folder / "flow-waits").touch()
    system.start("worker")
    await_effect(lambda: system.asked("worker", "/readyz") == (200, "ready\n"), within_s=START_S)
    sent = 0
    for file, said in (
        ("flow-waits", "partitions are to be read"),
        ("commits-wait", "has committed nothing for"),
        ("loop-waits", "has not turned for"),
    ):
        held = Path(system.folder / file)
        held.touch()
        sent += system.send(rounds(users=8, answers=3, first=sent // 8))
        await_effect(partial(_is_stalled, system, said))
        assert system.metric("worker", "stream_stalled") == 1
        assert system.asked("worker", "/readyz") == (200, "ready\n")
        held.unlink()
        await_effect(lambda: system.asked("worker", "/healthz") == (200, "ok\n"))
        assert len(system.predictions("correctness", sent)) == sent
        await_effect(partial(system.is_through, "worker", 4))
    counts = system.samples("worker", "stream_stage_seconds_count")
    assert min(counts['stage="produce"'], counts['stage="commit"']) > 0


TOLD_AT_ONCE = """
import os, signal
import faust

execute = faust.Worker.execute_from_commandline

def told(self):
    os.kill(os.getpid(), signal.SIGTERM)
    execute(self)

faust.Worker.execute_from_commandline = told
"""


def test_a_worker_that_is_told_to_end_as_soon_as_it_has_begun_ends_well(system: System) -> None:
    """Before it is in its group, and before its loop has turned."""
    prepare(system, "worker", TOLD_AT_ONCE)
    system.start("worker")
    assert exit_status(system, "worker") == 0


def _is_stalled(system: System, said: str) -> bool:
    status, sentence = system.asked("worker", "/healthz")
    return status == 503 and said in sentence
