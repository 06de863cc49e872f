"""
The core job on the worker's own transport: one table, one handler, both guarantees.

Batches, changelog, recovery and transactions are those of the worker; only what is done with a batch is another.
Settings come as `STREAM_*` variables, as the worker's do.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.job import CORE_STATE, CoreJob
from benchmarks.spec import from_arguments
from stream.app import run_app
from stream.ports import Message, Record
from stream.settings import Settings
from stream.state.arrays import ArrayStore, Layout, Records
from stream.state.tables import RecordTable
from stream.telemetry import Metrics, set_up_logging
from stream.transport.assembly import assemble
from stream.transport.faust_transport import TransportApp
from stream.transport.outbox import KafkaOutbox
from stream.transport.settlement import Work


def empty(count: int) -> Records:
    """Return records of so many users of whom nothing is known."""
    records = np.zeros(count, CORE_STATE)
    records["seen"] = -1
    return records


def encode(records: Records) -> list[bytes]:
    """Return records as changelog values."""
    packed, size = records.tobytes(), CORE_STATE.itemsize
    return [packed[start : start + size] for start in range(0, len(packed), size)]


def decode(values: Sequence[bytes]) -> Records:
    """Return changelog values as records."""
    return np.frombuffer(b"".join(values), CORE_STATE)


def handle(job: CoreJob, table: RecordTable, records: list[Record]) -> Work:
    """Process a batch, and return what has to become safe."""
    placed = {record.key or b"": record.partition for record in records}
    users, partitions = list(placed), list(placed.values())
    before = table.get_records(users)
    after = before.copy()
    outputs = job.step(records, {user: row for row, user in enumerate(users)}, after)
    return Work(
        outputs=[Message(output.topic, output.key, output.value) for output in outputs],
        changes=table.put(users, partitions, after),
        undo=partial(table.put_back, users, partitions, before),
    )


def create(settings: Settings, model: Path) -> TransportApp:
    """Return an app of one table and one handler."""
    app = assemble(TransportApp, settings, Metrics(settings.quality_window), KafkaOutbox(settings))
    table = RecordTable(app, "learners", ArrayStore(Layout(empty, encode, decode, ("seen",))))
    app.attach(settings.topic("interactions"), partial(handle, CoreJob(model), table))
    return app


def main() -> None:
    """Run until SIGTERM."""
    spec = from_arguments()
    settings = Settings()
    set_up_logging(settings.log_level)
    run_app(partial(create, settings, Path(spec.model)))


if __name__ == "__main__":
    main()
