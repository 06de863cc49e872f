"""
The worker's composition root: settings in, a Faust app with its agents and tables out.

Nothing is made at import; nothing connects before the app starts.
"""

import asyncio
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import faust
import structlog
from faust.types import TP, StreamT

from stream.agents import academics, erasure, interactions, requests
from stream.agents.control import Control
from stream.agents.desk import Desk, stop_now, work
from stream.errors import StateError
from stream.intake import Limits
from stream.models.dkt import KNOWLEDGE
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.pipeline import Models
from stream.ports import Message, Record
from stream.settings import Settings
from stream.state.codec import Names, is_marker, seen_offset
from stream.state.read_model import NoReadModel, RedisReadModel
from stream.state.tables import PackedTable
from stream.telemetry import Metrics, serve
from stream.transport import topics
from stream.transport.faust_transport import Batches, TransportApp
from stream.transport.outbox import KafkaOutbox
from stream.transport.partitioner import Partitioner
from stream.transport.progress import Batch

log = structlog.get_logger()

_REFRESH_S = 1.0
"""How often a worker without events takes over what the control topics have brought."""


class WorkerApp(TransportApp):
    """A Faust app that starts and ends with what stands beside it: control topics, read model."""

    control: Control
    read_model: RedisReadModel | NoReadModel

    def _create_directories(self) -> None:
        """Make no folders: tables are in memory and on Kafka."""

    async def on_start(self) -> None:
        """Start reading the control topics before the first event can arrive."""
        await super().on_start()
        self.control.start()
        self.read_model.start()

    async def on_stop(self) -> None:
        """Finish and commit the batch in hand, then end what stands beside."""
        await super().on_stop()
        await asyncio.get_running_loop().run_in_executor(None, self.control.stop)
        await asyncio.get_running_loop().run_in_executor(None, self.read_model.stop)
        log.info("worker.ended")


def create_app(settings: Settings, metrics: Metrics | None = None) -> WorkerApp:
    """
    Return the worker's Faust app.

    Args:
        settings: All of them.
        metrics: Where it counts; fresh ones if not given.
    """
    telemetry = metrics or Metrics(settings.quality_window)
    app = WorkerApp(
        settings.group,
        broker=[f"kafka://{server.strip()}" for server in settings.broker.split(",")],
        broker_credentials=_credentials(settings),
        store="memory://",
        datadir=tempfile.gettempdir(),
        topic_partitions=settings.partitions,
        # Topics are made by `stream.transport.topics`, with the settings that state depends on.
        topic_allow_declare=False,
        topic_disable_leader=True,
        # Faust's web server would show every table to whoever can reach it.
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=settings.message_max_bytes,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_request_timeout=max(40.0, settings.session_timeout_s + 5),
        broker_commit_interval=settings.commit_interval_s,
        broker_max_poll_records=settings.batch_max * 4,
        # Batches, not events, wait before an agent.
        stream_buffer_maxsize=16,
        # A rebalance or a stop waits for the batch in hand.
        stream_wait_empty=True,
        table_standby_replicas=0,
        producer_threaded=False,
    )
    app.batch_max, app.fetch_max_wait_ms = settings.batch_max, settings.fetch_max_wait_ms
    outbox = KafkaOutbox(settings)
    learners = PackedTable.declare(app, "learners", outbox)
    steps = PackedTable.declare(app, "academics", outbox)
    fallback = Fallback(KNOWLEDGE)
    app.control = Control(settings, fallback, telemetry, lambda event: _announce(outbox, event))
    app.read_model = (
        NoReadModel()
        if settings.redis_url is None
        else RedisReadModel(settings.redis_url.get_secret_value(), settings.redis_pending_max, telemetry)
    )
    desk = Desk(
        learners=learners,
        academics=steps,
        outbox=outbox,
        control=app.control,
        read_model=app.read_model,
        telemetry=telemetry,
        clock=lambda: datetime.now(UTC),
        partition_of=Partitioner(settings.partitions),
        limits=Limits(settings.event_max_bytes, settings.dead_letter_max_bytes),
        remembered=settings.remembered_answers,
        latest_topics=settings.latest_topics,
        models=Models(fallback, fallback, ItemTable(), Names()),
        owns=partial(_owns, app),
    )
    handlers: dict[str, Callable[[list[Record], Desk], Awaitable[None]]] = {
        "interactions": interactions.handle,
        "academics": academics.handle,
        "prediction-requests": requests.handle,
        "erasures": erasure.handle,
    }
    app.batched = frozenset(settings.topic(name) for name in handlers)
    for name, handle in handlers.items():
        _attach(app, settings.topic(name), desk, name, handle)
    app.timer(interval=_REFRESH_S, name="stream.agents.control")(desk.refresh_idle)
    for source, table in (("interactions", learners), ("academics", steps)):
        table.check_recovered = partial(_check_recovered, app, settings.topic(source), table)
    return app


def _attach(
    app: WorkerApp, topic: str, desk: Desk, name: str, handle: Callable[[list[Record], Desk], Awaitable[None]]
) -> None:
    """Add the agent that reads a topic; one instance, so that batches become safe in order."""
    channel = app.topic(topic, schema=Batches(key_type=bytes, value_type=bytes))

    async def agent(stream: StreamT[Batch]) -> None:
        await work(stream, app.progress, desk, handle)

    app.agent(channel, name=f"stream.agents.{name}", concurrency=1)(agent)


def _announce(outbox: KafkaOutbox, event: Message) -> None:
    outbox.send_all([event], datetime.now(UTC).isoformat())


def _owns(app: WorkerApp, record: Record) -> bool:
    return TP(record.topic, record.partition) in app.consumer.assignment()


async def _check_recovered(app: WorkerApp, source: str, table: PackedTable, partitions: set[int]) -> None:
    """
    Look at what was recovered, before the first event.

    A source topic that was made anew stops the worker: its offsets would be taken for ones that have been seen.
    """
    for partition in sorted(partitions):
        seen = -1
        for user, value in table.of_partition(partition):
            seen = max(seen, seen_offset(value))
            if is_marker(value):
                # Erased, and perhaps the worker that did it ended before Redis was told.
                app.read_model.forget(user)
        if seen < 0:
            continue
        tp = TP(source, partition)
        end = (await app.consumer.highwaters(tp))[tp]
        if seen >= end:
            stop_now(
                StateError(
                    f"topic {source} partition {partition} ends at offset {end}, but state has seen offset {seen}: the "
                    "topic was made anew. Start with another STREAM_GROUP, or delete the changelog topics so that "
                    "state begins anew too"
                )
            )


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


def run_worker(settings: Settings) -> None:
    """
    Run a worker until it is told to stop.

    Raises:
        UserError: If topics, broker or ports are not as they should be.
    """
    created = topics.ensure(settings)
    if created:
        log.info("topics.created", topics=created)
    metrics = Metrics(settings.quality_window)
    serve(metrics.registry, settings.metrics_host, settings.worker_metrics_port, "STREAM_WORKER_METRICS_PORT")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = create_app(settings, metrics)
    log.info("worker.started", broker=settings.broker, group=settings.group, pid=os.getpid())
    worker = faust.Worker(
        app,
        loop=loop,
        loglevel="WARNING",
        override_logging=False,
        redirect_stdouts=False,
        quiet=True,
        blocking_timeout=30,
    )
    # Its spinner writes control characters, terminal or not.
    worker.spinner = None
    worker.execute_from_commandline()
