"""One broker and one worker for all documents."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from schemas import ModelRollout
from stream.models.dkt import KNOWLEDGE
from stream.models.risk import RISK
from stream.transport import rollout
from tests.broker.kafka import KafkaServer
from tests.docs.stage import Stage
from tests.flow.releases import make_release
from tests.flow.system import System, answer

SOURCES = "lms.xapi=xapi,lms.events=auto,lms.caliper=caliper,caliper=caliper,canvas=canvas,lms.everything=auto"


@pytest.fixture(scope="module")
def stage(kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Give topics under their own names, a worker that reads them and foreign ones, and the files of a reader."""
    folder = tmp_path_factory.mktemp("docs")
    options: dict[str, object] = {"group": "learnerstream", "sources": SOURCES}
    system = System(folder, kafka.bootstrap, "", options)
    system.create_topics()
    make_release(system, 6)
    for name, champion in ((KNOWLEDGE, make_release(system, 7)), (RISK, None)):
        announced = ModelRollout(name=name, decided_at=datetime.now(UTC), champion=champion)
        rollout.announce(system.outbox(), system.settings, announced)
    del system.options["sources"]  # each command has its own
    with_sources = System(folder, kafka.bootstrap, "", {**system.options, "sources": "lms.xapi=xapi"})
    try:
        with_sources.start("worker")
        with_sources.send([answer("learner-1", 1)])  # so that a consumer has something to read
        settings = system.environment("command") | {"STREAM_PSEUDONYM_KEY": secrets.token_hex(32)}
        yield Stage(folder / "pages", settings, addresses(kafka.bootstrap, with_sources.ports["worker"]))
    finally:
        with_sources.end()


def addresses(broker: str, metrics_port: int) -> dict[str, str]:
    """Return what documents call broker and worker, and where these are."""
    return {"127.0.0.1:9092": broker, "localhost:9092": broker, "127.0.0.1:6066": f"127.0.0.1:{metrics_port}"}
