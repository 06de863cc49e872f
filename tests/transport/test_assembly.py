"""What the assembled app does around recovery and before sending; its consumer and its outbox are stand-ins."""

from collections.abc import Sequence
from typing import Any

import faust
import numpy as np
import pytest
from faust.types import TP

from stream.errors import SleptError
from stream.ports import Record
from stream.settings import Settings
from stream.state.arrays import ArrayStore, Layout, Records
from stream.state.tables import RecordTable
from stream.telemetry import Silent
from stream.transport import engine, faust_transport
from stream.transport.assembly import _speaks, assemble
from stream.transport.changelogs import Part
from stream.transport.faust_transport import TransportApp
from stream.transport.progress import Batch, Place, Stamp
from stream.transport.settlement import Change, Settlement, Work
from stream.transport.vigil import Vigil

SETTINGS = Settings(group="g", broker="127.0.0.1:1", partitions=4)
DTYPE = np.dtype([("seen", "<i8")])
CHANGELOG = "g-learners-changelog"


class Outbox:
    """Remembers what was sent, and whether it was flushed."""

    def __init__(self) -> None:
        self.said: list[Change | str] = []

    def send_changes(self, changes: Sequence[Change]) -> None:
        """Remember them."""
        self.said += changes

    async def flush(self) -> None:
        """Remember it."""
        self.said.append("flushed")


def layout() -> Layout:
    """Return records that are nothing but what was seen."""

    def decode(values: Sequence[bytes]) -> Records:
        return np.frombuffer(b"".join(values), DTYPE)

    return Layout(
        lambda count: np.full(count, -1, "<i8").view(DTYPE), lambda r: [row.tobytes() for row in r], decode, ("seen",)
    )


class Consumer:
    """Has partitions 1 and 3 of `interactions` with their changelog, and a standby of 2."""

    def assignment(self) -> set[TP]:
        """Return all that is assigned."""
        return {TP("interactions", 1), TP("interactions", 3)} | {TP(CHANGELOG, partition) for partition in (1, 2, 3)}


@pytest.fixture
def outbox() -> Outbox:
    """Return an outbox that remembers."""
    return Outbox()


@pytest.fixture
async def app(outbox: Outbox) -> TransportApp:
    """Return an app that is never started; made where a loop runs, or Faust would make one and leave it open."""
    sends: Any = outbox
    app = assemble(TransportApp, SETTINGS, Silent(), sends)
    app.attach("interactions", lambda _: Work())
    consumer: Any = Consumer()
    app._consumer = consumer
    return app


def value(seen: int) -> bytes:
    """Return a record as a changelog has it."""
    return np.array([seen], "<i8").tobytes()


def settlement(*partitions: int) -> Settlement:
    """Return a settlement of these partitions."""
    batches = [Batch(Stamp(1, after=0), [Record("interactions", p, 0, b"u", b"{}", 0.0)]) for p in partitions]
    return Settlement(tuple(batches), Work(), b"m")


async def test_records_are_repaired_of_our_own_partitions_only(app: TransportApp, outbox: Outbox) -> None:
    """A standby's changelog is its owner's to write: what we hold of it may be older than what he has written since."""
    table = RecordTable(app, "learners", ArrayStore(layout()))
    for partition in (1, 2, 3):
        table.restore(Part((CHANGELOG, partition), [b"u%d" % partition] * 2, [value(7), value(6)], 2))
    await app.restoring.repair()
    assert outbox.said == [Change(CHANGELOG, p, b"u%d" % p, value(7)) for p in (1, 3)] + ["flushed"]
    await app.restoring.repair()
    assert outbox.said.count("flushed") == 1


async def test_tables_are_found_by_their_changelogs(app: TransportApp) -> None:
    """Recovery knows a partition by its topic."""
    table = RecordTable(app, "learners", ArrayStore(layout()))
    assert app.restoring.tables() == {CHANGELOG: table}


async def test_a_worker_speaks_for_what_it_owns(app: TransportApp) -> None:
    """With a batch in hand of a partition that has gone, it must not be heard."""
    check = _speaks(app)
    check([])
    check([settlement(1, 3), settlement(3)])
    with pytest.raises(SleptError, match=r"partitions \[\('interactions', 0\)\] were lost"):
        check([settlement(1), settlement(0, 3)])
    besides = Settlement((), Work(), b"m", frozenset({("interactions", 0)}))
    with pytest.raises(SleptError, match=r"partitions \[\('interactions', 0\)\] were lost"):
        check([settlement(1), besides])


def test_a_worker_that_slept_does_not_speak(app: TransportApp) -> None:
    """Whatever it believes to own."""
    moments = iter([0.0, 8.0])
    app.vigil = Vigil(7.0, lambda: next(moments))
    with pytest.raises(SleptError, match="stood still for 8"):
        _speaks(app)([])


@pytest.mark.parametrize(("session_timeout_s", "limit_s"), [(6.0, 4.2), (30.0, 21.0)])
async def test_a_sleep_is_noticed_before_the_session_ends(session_timeout_s: float, limit_s: float) -> None:
    """The limit leaves room for the last heartbeat before it, and the last undelivered message is given up sooner."""
    stand_in: Any = Outbox()
    settings = Settings(group="g", broker="127.0.0.1:1", session_timeout_s=session_timeout_s)
    app = assemble(TransportApp, settings, Silent(), stand_in)
    assert app.vigil._limit_s == pytest.approx(limit_s)
    assert app.engine.finish_s < session_timeout_s
    assert app.commits


class Sizes(Silent):
    """Remembers what changelogs were given."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def changed(self, table: str, size_bytes: int) -> None:
        """Remember it."""
        self.sizes[table] = size_bytes


async def test_what_changelogs_were_given_is_counted_by_table(outbox: Outbox) -> None:
    """Keys and values, under the table's name."""
    sends: Any = outbox
    sizes = Sizes()
    app = assemble(TransportApp, SETTINGS, sizes, sends)
    app.told.changed(
        [
            Change(CHANGELOG, 1, b"u", b"12345"),
            Change("g-names-changelog", 1, b"a", b"a"),
            Change(CHANGELOG, 2, b"v", b""),
        ]
    )
    assert sizes.sizes == {"learners": 7, "names": 2}


class Ends:
    """A source that is closed as soon as it has been asked where both of our partitions end."""

    def __init__(self) -> None:
        self.asked: list[Place] = []

    @property
    def is_closed(self) -> bool:
        """Return whether it must not be asked any more."""
        return len(self.asked) == 2

    def end(self, place: Place) -> int:
        """Return the end."""
        assert not self.is_closed, "a client that is being closed must not be asked"
        self.asked.append(place)
        return 9


async def test_where_our_partitions_stand_is_put_down(app: TransportApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of those that are ours only, under the catalog's names; not once the source is being closed.

    A partition that is ours, and that nobody has begun to read, is told too.
    """
    monkeypatch.setattr(faust_transport, "_BEAT_S", 0.0)
    source: Any = Ends()
    app.source = source
    app.progress.expect(("interactions", 1), 5, now=0.0)
    app.progress.expect(("interactions", 2), 5, now=0.0)
    await app._beat()
    assert {place: lag for place, lag, _ in app.health.behind()} == {("interactions", 1): 4, ("interactions", 3): 0}


async def as_it_is(app: faust.App) -> None:
    """Start nothing."""


async def test_whoever_cannot_put_down_where_partitions_stand_ends(
    app: TransportApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error there is no silence that looks like a loop which stands still."""
    ended: list[BaseException] = []
    monkeypatch.setattr(engine, "stop_now", ended.append)
    monkeypatch.setattr(faust.App, "on_start", as_it_is)
    monkeypatch.setattr(engine.Engine, "start", lambda _: None)
    monkeypatch.setattr(Vigil, "start", lambda _: None)
    nobody: Any = object()
    app.source = nobody
    await app.on_start()
    assert app._beating is not None
    await app._beating
    assert [type(error) for error in ended] == [AttributeError]


async def test_an_app_is_ready_when_its_partitions_are_its_own(app: TransportApp) -> None:
    """Not before the first assignment, and not during a rebalance."""
    assert app.health.lacking() == "no partitions have been assigned yet"
    app.on_rebalance_start()
    assert app.health.lacking() == "partitions are being assigned, and their state is read"
    app.on_rebalance_end()
    assert app.health.lacking() is None
    app.on_rebalance_start()
    assert app.health.lacking() is not None
