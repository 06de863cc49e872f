"""
The job in Quix Streams 3.28, which hands over one event at a time and keeps state in RocksDB with a changelog.

Settings, and why:
    State as bytes (`get_bytes`, `set_bytes`): spares it the JSON of its default.
    commit_interval=1.0: at every checkpoint the changelog gets each changed user's latest state, the producer is
        flushed, offsets are committed. The default is 5 s; 1 s is what the worker commits at.
    One `to_topic` with a callable instead of a filtered branch for each topic: fewer callbacks an event.
    linger.ms=5, lz4: as everywhere; idempotence and murmur2 are its defaults.
    At least once, its default. One process, as the worker: it has no threads, and the machine's other core is the
        broker's.
"""

from collections.abc import Iterable
from pathlib import Path

from quixstreams import Application, State, message_context
from quixstreams.models import Serializer, Topic

from benchmarks.job import Output, make_job
from benchmarks.spec import COMMIT_INTERVAL_S, COMPRESSION, LINGER_MS, from_arguments
from stream.ports import Record

_STATE = "state"


class OutputValue(Serializer):
    """Sends an output's own bytes."""

    def __call__(self, value: Output, ctx: object) -> bytes:  # noqa: ARG002 (Quix's signature)
        """Return them."""
        return value.value


def main() -> None:
    """Run until SIGTERM."""
    spec = from_arguments()
    job = make_job(spec.job, Path(spec.model), spec.partitions)
    app = Application(
        broker_address=spec.broker,
        consumer_group=spec.group,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_INTERVAL_S,
        state_dir=Path(spec.folder) / "quix",
        producer_extra_config={
            "linger.ms": LINGER_MS, "compression.type": COMPRESSION, "queue.buffering.max.messages": 1_000_000,
        },
        processing_guarantee="exactly-once" if spec.exactly_once else "at-least-once",
        loglevel="WARNING",
    )  # fmt: skip
    source = app.topic(spec.source, value_deserializer="bytes")
    topics = {name: app.topic(topic, value_serializer=OutputValue()) for name, topic in spec.outputs.items()}

    def step(value: bytes, key: bytes, timestamp: int, _headers: object, state: State) -> Iterable[Output]:
        context = message_context()
        record = Record(context.topic, context.partition, context.offset, key, value, timestamp / 1000)
        stored = state.get_bytes(_STATE)
        outputs, changed = job([record], {} if stored is None else {key: stored})
        state.set_bytes(_STATE, changed[key])
        return outputs

    def topic_of(output: Output, _key: object, _timestamp: int, _headers: object) -> Topic:
        return topics[output.topic]

    frame = app.dataframe(source)
    frame = frame.apply(step, stateful=True, metadata=True, expand=True)
    if spec.job == "full":
        frame = frame.set_headers(lambda output, _key, _timestamp, _headers: output.headers)
    frame.to_topic(topic_of)
    app.run()


if __name__ == "__main__":
    main()
