"""
A Faust app on our transport, put together: consumer settings, guarantee, engine, recovery.

The worker's composition root adds agents and tables; so does whoever builds another app on the same transport.
"""

import ssl
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import faust

from stream.errors import SleptError
from stream.health import Health
from stream.ports import Telemetry
from stream.settings import Settings
from stream.state.tables import OurTable
from stream.transport.at_least_once import AtLeastOnce
from stream.transport.engine import Engine
from stream.transport.exactly_once import ExactlyOnce
from stream.transport.faust_transport import TransportApp
from stream.transport.outbox import KafkaOutbox
from stream.transport.progress import Progress
from stream.transport.recovery import BatchedTableManager, Restoring
from stream.transport.settlement import Change, Settlement
from stream.transport.source import Source
from stream.transport.topics import TABLES, changelog
from stream.transport.vigil import Vigil

A = TypeVar("A", bound=TransportApp)

_ROOM = 8
"""Batches of the largest size that may be under way to the broker, before processing waits."""

_SLEEP_SHARE = 0.7
"""Of the session, that a process may stand still: the rest is what lies between its last heartbeat and its sleep."""


def assemble(
    kind: type[A], settings: Settings, telemetry: Telemetry, outbox: KafkaOutbox, health: Health | None = None
) -> A:
    """
    Return an app of this kind without agents or tables.

    Args:
        kind: The app's class.
        settings: All of them.
        telemetry: Told of batches, recovery and transactions.
        outbox: Takes what needs no transaction; with at least once, everything.
        health: Told how the process is.
    """
    app = kind(settings.group, **_options(settings))
    app.batch_max = settings.batch_max
    app.source = Source(settings, 4 * settings.batch_max)
    app.progress = Progress()
    app.health, app.told = health or Health(), _Telling(settings, telemetry)
    app.health.lacks("partitions", "no partitions have been assigned yet")
    app.vigil = Vigil(_SLEEP_SHARE * settings.session_timeout_s)
    room = _ROOM * settings.batch_max
    if settings.guarantee == "exactly_once":
        app.commits = False
        app.guarantee = ExactlyOnce(settings, app.progress, room, app.told)
    else:
        app.guarantee = AtLeastOnce(outbox, app.progress, _speaks(app), room, app.told)
    app.engine = Engine(
        app.guarantee, app.progress, settings.batch_max, app.owned, app.membership, telemetry,
        finish_s=0.8 * settings.session_timeout_s,
    )  # fmt: skip

    async def take_over(partitions: set[int]) -> bool:
        membership = app.membership()
        # None: already out of the group again, and another rebalance on its way.
        return membership is not None and await app.guarantee.take_over(partitions, membership)

    async def repair() -> None:
        tables = [table for table in app.tables.values() if isinstance(table, OurTable)]
        # Of the source topics: Faust's assignment names standbys' changelogs too, which are others' to write.
        owned = {partition for topic, partition in app.owned() if topic in app.batched}
        changes = [change for table in tables for change in table.to_repair(owned)]
        outbox.send_changes(changes)
        if changes:
            await outbox.flush()

    def tables() -> dict[str, OurTable]:
        return {table.changelog: table for table in app.tables.values() if isinstance(table, OurTable)}

    app.restoring = Restoring(settings, tables, telemetry, take_over, repair)
    return app


class _Telling:
    """
    Tells whoever counts what it takes to make batches safe; see `Told`.

    Args:
        settings: What changelogs are called.
        telemetry: Told.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._tables = {changelog(settings, table): table for table in TABLES}

    def staged(self, stage: str, seconds: float) -> None:
        """Take note of how long a stage took."""
        self._telemetry.staged(stage, seconds)

    def changed(self, changes: Sequence[Change]) -> None:
        """Count the bytes of each table's changelog records."""
        sizes = Counter[str]()
        for topic, _, key, value in changes:
            sizes[topic] += len(key) + len(value)
        for topic, size_bytes in sizes.items():
            self._telemetry.changed(self._tables.get(topic, topic), size_bytes)

    def aborted(self) -> None:
        """Count a transaction that was aborted."""
        self._telemetry.aborted()


def _options(settings: Settings) -> dict[str, Any]:
    """Return how Faust is set up."""
    return {
        "broker": [f"kafka://{server.strip()}" for server in settings.broker.split(",")],
        "broker_credentials": _credentials(settings),
        "store": "memory://",
        "datadir": tempfile.gettempdir(),
        "topic_partitions": settings.partitions,
        # Topics are made by `stream.transport.topics`, with the settings that state depends on.
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        # Faust's web server would show every table to whoever can reach it.
        "web_enabled": False,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.instance_id,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.heartbeat_s,
        "broker_request_timeout": max(40.0, settings.session_timeout_s + 5),
        "broker_commit_interval": settings.commit_interval_s,
        # Batches, not events, wait before an agent.
        "stream_buffer_maxsize": 16,
        # A rebalance or a stop waits for what is in hand: see `TransportApp`.
        "stream_wait_empty": True,
        "table_standby_replicas": settings.standby_replicas,
        "producer_threaded": False,
        "TableManager": BatchedTableManager,
    }


def _speaks(app: TransportApp) -> Callable[[Sequence[Settlement]], None]:
    """Return a check that this worker may still speak for the partitions of settlements."""

    def check(settlements: Sequence[Settlement]) -> None:
        app.vigil.check()
        lost = {place for s in settlements for place in s.places} - app.owned()
        if lost:
            raise SleptError(f"partitions {sorted(lost)} were lost with batches of them in hand; restart the worker")

    return check


def _credentials(settings: Settings) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """Return how Faust's own consumer proves who we are, as `stream.transport.clients` does for the others."""
    context = None
    if settings.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
        if settings.ssl_cert_file is not None:
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    if settings.security_protocol.startswith("SASL"):
        password = settings.sasl_password.get_secret_value() if settings.sasl_password else ""
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=password,
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
