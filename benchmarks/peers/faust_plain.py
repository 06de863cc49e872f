"""
The job in a plain Faust agent: one event at a time, state in a table, as Faust's documentation shows it.

Settings, and why:
    uvloop: the loop that Faust offers for speed (`faust --loop uvloop`).
    `stream.events()`, and outputs by `send`: `send_soon` only puts them before the same producer.
    stream_wait_empty=False, more records a poll, larger buffers: what its settings' reference names for throughput.
    A table in memory with its changelog: RocksDB, which it advises for large tables, would only add work.
    producer_linger=5 ms, lz4, commits every second, murmur2 (its default): as everywhere.
    At least once: its own exactly-once has open errors.
"""

import sys
from pathlib import Path

import faust
import uvloop
from faust.types import StreamT

from benchmarks.job import make_job
from benchmarks.spec import COMMIT_INTERVAL_S, COMPRESSION, LINGER_MS, Spec, from_arguments
from stream.ports import Record


def create_app(spec: Spec) -> faust.App:
    """Return the app with its agent and its table."""
    job = make_job(spec.job, Path(spec.model), spec.partitions)
    app = faust.App(
        spec.group,
        broker=f"kafka://{spec.broker}",
        store="memory://",
        datadir=spec.folder,
        topic_partitions=spec.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_max_poll_records=2_000,
        stream_buffer_maxsize=16_384,
        stream_wait_empty=False,
        producer_linger=LINGER_MS / 1000,
        producer_max_batch_size=1_048_576,
        producer_compression_type=COMPRESSION,
    )
    table = app.Table("learners", partitions=spec.partitions, key_type=bytes, value_type=bytes)
    topics = {name: app.topic(topic, key_type=bytes, value_type=bytes) for name, topic in spec.outputs.items()}

    async def step(stream: StreamT[bytes]) -> None:
        async for event in stream.events():
            message = event.message
            key = message.key
            record = Record(message.topic, message.partition, message.offset, key, message.value, message.timestamp)
            stored = table.get(key)
            outputs, changed = job([record], {} if stored is None else {key: stored})
            for output in outputs:
                await topics[output.topic].send(key=output.key, value=output.value, headers=output.headers)
            table[key] = changed[key]

    app.agent(app.topic(spec.source, key_type=bytes, value_type=bytes), name="step")(step)
    return app


def main() -> None:
    """Run until SIGTERM."""
    spec = from_arguments()
    uvloop.install()
    app = create_app(spec)
    sys.argv = [sys.argv[0]]
    worker = faust.Worker(app, loop=uvloop.new_event_loop(), loglevel="WARNING", quiet=True, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
