"""
The worker's composition root: settings in, a Faust app with its agents and tables out.

Nothing is made at import; nothing connects before the app starts.
"""

import asyncio
import gc
import importlib.util
import os
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import faust
import structlog

from stream.agents import academics, erasure, interactions, requests
from stream.agents.closing import Closing
from stream.agents.control import Control
from stream.agents.desk import Desk
from stream.agents.ingest import Ingest
from stream.errors import StateError
from stream.health import Health
from stream.intake import Limits
from stream.models.dkt import KNOWLEDGE
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.pipeline import Models, RiskModels
from stream.ports import Message, Record, Telemetry
from stream.settings import Settings
from stream.state import academic, codec, learner
from stream.state.arrays import ArrayStore, Layout
from stream.state.names import Names
from stream.state.read_model import NoReadModel, RedisReadModel
from stream.state.tables import NameTable, RecordTable
from stream.telemetry import Metrics, serve
from stream.transport import topics
from stream.transport.assembly import assemble
from stream.transport.engine import stop_now
from stream.transport.faust_transport import TransportApp
from stream.transport.offsets import ends
from stream.transport.outbox import KafkaOutbox
from stream.transport.partitioner import Partitioner
from stream.transport.progress import Place
from stream.transport.settlement import Work

log = structlog.get_logger()

_REFRESH_S = 1.0
"""How often a worker without events takes over what the control topics have brought."""


class WorkerApp(TransportApp):
    """A Faust app that starts and ends with what stands beside it: control topics, read model."""

    control: Control
    read_model: RedisReadModel | NoReadModel
    ingest: Ingest

    async def on_start(self) -> None:
        """Start reading the control topics before the first event can arrive."""
        self.control.start()
        self.read_model.start()
        await super().on_start()
        self.ingest.start()

    async def on_stop(self) -> None:
        """Finish and commit the batch in hand, then end what stands beside."""
        await asyncio.get_running_loop().run_in_executor(None, self.ingest.stop)
        await super().on_stop()
        await asyncio.get_running_loop().run_in_executor(None, self.control.stop)
        await asyncio.get_running_loop().run_in_executor(None, self.read_model.stop)
        log.info("worker.ended")


def create_app(settings: Settings, metrics: Metrics | None = None) -> WorkerApp:
    """
    Return the app of a worker.

    Args:
        settings: All of them.
        metrics: Where it counts; fresh ones if not given.
    """
    metrics = metrics or Metrics(settings.quality_window)
    telemetry: Telemetry = metrics
    outbox = KafkaOutbox(settings)
    app = assemble(WorkerApp, settings, telemetry, outbox, metrics.health)
    names = Names()
    kept = {
        "learners": ArrayStore(learner_layout(settings.remembered_answers)),
        "academics": ArrayStore(ACADEMIC_LAYOUT),
    }
    metrics.keeps(kept)
    learners, steps = (RecordTable(app, name, store) for name, store in kept.items())
    fallback = Fallback(KNOWLEDGE)
    risk = RiskModels(features=settings.risk_feature_fields, slices=settings.risk_slice_fields)
    app.ingest = Ingest(settings, telemetry, metrics.health)
    app.control = Control(settings, fallback, telemetry, metrics.health, lambda event: _announce(outbox, event))
    app.read_model = (
        NoReadModel()
        if settings.redis_url is None
        else RedisReadModel(settings.redis_url.get_secret_value(), settings.redis_pending_max, telemetry)
    )
    desk = Desk(
        learners=learners,
        academics=steps,
        names=NameTable(app, "names", names),
        control=app.control,
        read_model=app.read_model,
        telemetry=telemetry,
        clock=lambda: datetime.now(UTC),
        partition_of=Partitioner(settings.partitions),
        limits=Limits(settings.event_max_bytes, settings.dead_letter_max_bytes, settings.future_hours * 3_600),
        latest_topics=settings.latest_topics,
        rebuild_answers=settings.rebuild_answers,
        models=Models(fallback, fallback, ItemTable(), names, risk=risk),
        actor_home_page=settings.actor_home_page if settings.risk_statements else None,
    )
    app.engine.ready, app.engine.between = desk.ready, desk.refresh
    source, academic_events = settings.topic("interactions"), settings.topic("academics")

    def owned() -> set[int]:
        return {partition for topic, partition in app.owned() if topic == source}

    app.engine.aside = Closing(desk, owned, app.progress.is_caught_up, source, academic_events)
    handlers: dict[str, Callable[[list[Record], Desk], Work]] = {
        "interactions": interactions.handle,
        "academics": academics.handle,
        "prediction-requests": requests.handle,
        "erasures": erasure.handle,
    }
    for name, handle in handlers.items():
        app.attach(settings.topic(name), partial(_with, handle, desk))
    app.timer(interval=_REFRESH_S, name="stream.agents.control")(desk.refresh_idle)
    for name, table in (("interactions", learners), ("academics", steps)):
        seen = {"seen": settings.topic(name), "erasure_seen": settings.topic("erasures")}
        table.check_recovered = partial(_check_recovered, settings, desk, seen, table)
    return app


def _with(handle: Callable[[list[Record], Desk], Work], desk: Desk, records: list[Record]) -> Work:
    """Have an agent process a batch, and tell how long its stages took."""
    with desk.watch.stage("features"):
        work = handle(records, desk)
    for stage, seconds in desk.watch.taken().items():
        desk.telemetry.staged(stage, seconds)
    return work


def learner_layout(remembered: int) -> Layout:
    """Return the layout of the table of learners, with so many remembered answers."""
    return Layout(
        empty=partial(learner.new_learners, remembered=remembered),
        encode=codec.encode_learners,
        decode=partial(codec.decode_learners, remembered=remembered),
        # An erasure wins over whatever a worker that had lost the user writes after it.
        seen=("erasure_seen", "seen"),
    )


ACADEMIC_LAYOUT = Layout(
    academic.new_academics, codec.encode_academics, codec.decode_academics, ("erasure_seen", "seen", "closed")
)


def _announce(outbox: KafkaOutbox, event: Message) -> None:
    outbox.send_all([event], datetime.now(UTC).isoformat())


async def _check_recovered(
    settings: Settings,
    desk: Desk,
    topics_of: Mapping[str, str],
    table: RecordTable,
    partitions: set[int],
) -> None:
    """
    Look at what was recovered, before the first event.

    A source topic that was made anew stops the worker: its offsets would be taken for ones that have been seen.

    Args:
        settings: Broker.
        desk: Told of users who have been erased, and of how far event time had come.
        topics_of: By the field that keeps what has been seen of it.
        table: Whose records they are.
        partitions: That have been recovered.
    """
    try:
        last: dict[Place, int] = {}
        for partition in sorted(partitions):
            for users, records in table.of_partition(partition):
                if table.name == "learners":
                    for row in learner.markers(records).tolist():
                        # Erased, and perhaps the worker that did it ended before Redis was told.
                        desk.read_model.forget(users[row].decode())
                desk.recovered((topics_of["seen"], partition), records["last_at"])
                for field, topic in topics_of.items():
                    place = (topic, partition)
                    last[place] = max(last.get(place, -1), int(records[field].max()))
        seen = {place: offset for place, offset in last.items() if offset >= 0}
        end = await asyncio.get_running_loop().run_in_executor(None, ends, settings, seen)
        _compare(seen, end)
    # Faust would drop it without a word.
    except Exception as error:  # noqa: BLE001 (no event may be met before this is known)
        stop_now(error)


def _compare(seen: Mapping[Place, int], end: Mapping[Place, int]) -> None:
    for (topic, partition), offset in seen.items():
        if offset >= end[topic, partition]:
            raise StateError(
                f"topic {topic} partition {partition} ends at offset {end[topic, partition]}, but state has seen "
                f"offset {offset}: the topic was made anew. Start with another STREAM_GROUP, or delete the "
                "changelog topics so that state begins anew too"
            )


def run_worker(settings: Settings) -> None:
    """
    Run a worker until it is told to stop.

    Raises:
        UserError: If topics, broker or ports are not as they should be.
    """
    created = topics.ensure(settings)
    if created:
        log.info("topics.created", topics=created)
    metrics = Metrics(settings.quality_window, Health(settings.stalled_after_s + settings.commit_interval_s))
    serve(
        metrics.registry, metrics.health, settings.metrics_host, settings.worker_metrics_port,
        "STREAM_WORKER_METRICS_PORT",
    )  # fmt: skip
    run_app(lambda: create_app(settings, metrics))


def run_app(create: Callable[[], TransportApp]) -> None:
    """
    Run an app on our transport until it is told to stop.

    Args:
        create: Makes it, on the event loop that it will run on.

    Raises:
        UserError: If the broker cannot give what the guarantee needs.
    """
    loop = new_loop()
    calm_collector()
    app = create()
    app.guarantee.prepare()
    # Until Faust listens, once its loop runs: nothing is in hand yet, and Faust would forget to stop.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    log.info("worker.started", broker=app.restoring.settings.broker, group=app.conf.id, pid=os.getpid())
    # No `blocking_timeout`: its alarm raises wherever the program happens to be, in the middle of a batch too, as soon
    # as the loop is late by a second.
    worker = faust.Worker(
        app,
        loop=loop,
        loglevel="WARNING",
        override_logging=False,
        redirect_stdouts=False,
        quiet=True,
    )
    # Its spinner writes control characters, terminal or not.
    worker.spinner = None
    worker.execute_from_commandline()


def calm_collector() -> None:
    """
    Let Python look for reference cycles less often.

    A batch makes ten thousands of short-lived objects and no cycles; by default every few hundred start a search.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop, set as the present one: uvloop's where there is one, for this thread and Faust's."""
    if importlib.util.find_spec("uvloop") is not None:
        asyncio.set_event_loop_policy(importlib.import_module("uvloop").EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop
