"""
The job by hand: confluent-kafka in a loop, a batch at a time, with a changelog.

The bar that a framework is held against. A batch is made safe in the worker's own order: outputs are flushed, then the
latest state of each of the batch's users goes to the changelog and is flushed, then offsets are committed. State is
read back from the changelog when partitions are assigned.

Settings, and why:
    poll, then what is there: `consume(n)` alone would wait for a full batch; so a batch is what has come meanwhile,
        and nothing waits while there is something to do.
    2,000 events at most, see `BATCH`; what waits at once is all there is at lower rates.
    linger.ms=5, lz4, idempotence, murmur2: as the worker has them; `flush` does not wait for the linger.
    Asynchronous commits: what is flushed need not wait for them; at least once holds.
"""

import gc
import signal
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from benchmarks.job import make_job
from benchmarks.spec import COMPRESSION, LINGER_MS, from_arguments
from stream.ports import Record

BATCH = 2_000
"""From 500 to 4,000 an event costs the same (core 30 us of CPU, full 250), and fewer batches wait less often."""

_TIMEOUT_S = 30.0


def main() -> None:
    """Run until SIGTERM."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)  # as the worker has it
    spec = from_arguments()
    job = make_job(spec.job, Path(spec.model), spec.partitions)
    states: dict[bytes, bytes] = {}
    outputs_of = spec.outputs
    producer = Producer(
        {"bootstrap.servers": spec.broker, "enable.idempotence": True, "partitioner": "murmur2_random",
         "linger.ms": LINGER_MS, "compression.type": COMPRESSION, "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    consumer = Consumer(
        {"bootstrap.servers": spec.broker, "group.id": spec.group, "enable.auto.commit": False,
         "auto.offset.reset": "earliest", "fetch.queue.backoff.ms": 10}
    )  # fmt: skip

    def assigned(_consumer: Consumer, partitions: list[TopicPartition]) -> None:
        states.update(restore(spec.broker, spec.changelog, [p.partition for p in partitions]))

    consumer.subscribe([spec.source], on_assign=assigned)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    while not stopping:
        first = consumer.poll(0.2)
        if first is None:
            continue
        records = [
            Record(m.topic() or "", m.partition() or 0, m.offset() or 0, m.key(), m.value(), m.timestamp()[1] / 1000)
            for m in [first, *consumer.consume(BATCH - 1, 0)]
            if m.error() is None
        ]
        if not records:
            continue
        outputs, changed = job(records, states)
        for output in outputs:
            producer.produce(outputs_of[output.topic], output.value, output.key, headers=[*output.headers])
        flush(producer)
        partition_of = {record.key: record.partition for record in records}
        for key, value in changed.items():
            producer.produce(spec.changelog, value, key, partition=partition_of[key])
        flush(producer)
        states.update(changed)
        consumer.commit(asynchronous=True)
    consumer.close()


def flush(producer: Producer) -> None:
    """Return when all is confirmed; raise if it is not."""
    if producer.flush(_TIMEOUT_S):
        raise RuntimeError("not all messages were delivered")


def restore(broker: str, changelog: str, partitions: list[int]) -> dict[bytes, bytes]:
    """Return the latest state of each user on these partitions of the changelog."""
    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": "restore", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    states: dict[bytes, bytes] = {}
    waiting = set(partitions)
    consumer.assign([TopicPartition(changelog, partition, OFFSET_BEGINNING) for partition in partitions])
    while waiting:
        for message in consumer.consume(1_000, 0.1):
            error, key, value = message.error(), message.key(), message.value()
            if error is None and key is not None and value is not None:
                states[key] = value
            elif error is not None and error.name() == "_PARTITION_EOF":
                waiting.discard(message.partition() or 0)
            elif error is not None:
                raise KafkaException(error)
    consumer.close()
    return states


if __name__ == "__main__":
    main()
