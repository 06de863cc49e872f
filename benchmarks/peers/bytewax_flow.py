"""
The job in Bytewax 0.21, whose stateful operator gets what has come for one key.

Settings, and why:
    `stateful_batch` instead of `stateful_map`: its documented low-level form; what has come for a key is one call, and
        `stateful_map` is built of it.
    Recovery on, a snapshot every second: the changed users' states go to SQLite, and the offsets with them. With
        recovery, Bytewax has the interval be named; 1 s is what the worker commits at. A longer one would write less,
        and repeat more after a crash.
    State as bytes: its pickle is a copy.
    KafkaSource(batch_size=...): see `BATCH`.
    linger.ms=5, lz4, idempotence, murmur2: as everywhere. Its sink flushes after every batch.
    One worker: two threads share one interpreter lock, and the machine's other core is the broker's.
"""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.job import Job, make_job
from benchmarks.spec import COMMIT_INTERVAL_S, COMPRESSION, LINGER_MS, from_arguments
from stream.ports import Record

BATCH = {"full": 100, "core": 1_000}
"""
Events of a partition at once. The default is 1,000, which its documentation calls suitable for throughput; the full
job's steps take so long that predictions would come in bursts seconds apart.
"""

Source: TypeAlias = KafkaSourceMessage[bytes, bytes]
Sink: TypeAlias = KafkaSinkMessage[bytes, bytes]


class Learner(op.StatefulBatchLogic[Source, Sink, bytes]):
    """One user's state between two batches."""

    def __init__(self, job: Job, topics: dict[str, str], state: bytes | None) -> None:
        self._job = job
        self._topics = topics
        self._state = state

    def on_batch(self, values: list[Source]) -> tuple[Iterable[Sink], bool]:
        """Process what has come for this user; the state stays."""
        records = [
            Record(
                m.topic or "", m.partition or 0, m.offset or 0, m.key, m.value,
                m.timestamp[1] / 1000 if m.timestamp else 0.0,
            )
            for m in values
        ]  # fmt: skip
        key = values[0].key
        outputs, changed = self._job(records, {} if self._state is None else {key: self._state})
        self._state = changed[key]
        topics = self._topics
        return [KafkaSinkMessage(o.key, o.value, topics[o.topic], o.headers) for o in outputs], False

    def snapshot(self) -> bytes:
        """Return the state to be kept."""
        return self._state or b""


def main() -> None:
    """Run until it is killed."""
    spec = from_arguments()
    job = make_job(spec.job, Path(spec.model), spec.partitions)
    recovery = Path(spec.folder) / "recovery"
    recovery.mkdir(parents=True)
    init_db_dir(recovery, 1)
    flow = Dataflow("bench")
    source: KafkaSource = KafkaSource([spec.broker], [spec.source], batch_size=BATCH[spec.job])
    sink = KafkaSink(
        [spec.broker],
        None,
        add_config={
            "enable.idempotence": "true", "partitioner": "murmur2_random", "linger.ms": str(LINGER_MS),
            "compression.type": COMPRESSION, "queue.buffering.max.messages": "1000000",
        },
    )  # fmt: skip
    events = op.input("in", flow, source)
    of_users = op.key_on("key", events, lambda message: message.key.decode())
    predictions = op.stateful_batch("step", of_users, lambda state: Learner(job, spec.outputs, state))
    op.output("out", op.key_rm("unkey", predictions), sink)
    cli_main(
        flow,
        workers_per_process=1,
        epoch_interval=timedelta(seconds=COMMIT_INTERVAL_S),
        recovery_config=RecoveryConfig(recovery),
    )


if __name__ == "__main__":
    main()
