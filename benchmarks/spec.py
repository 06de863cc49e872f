"""
What a system is told when it starts: where the broker is, which job, under which names.

Handed over as one JSON argument, for the peers run in other environments. Imports nothing but the standard library.
"""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Literal

JobName = Literal["full", "core"]

OUTPUTS = {
    "full": ("predictions.correctness", "predictions.time", "predictions.risk", "training-examples"),
    "core": ("predictions.correctness",),
}
"""Topics that a job writes to, by the catalog's names."""

COMMIT_INTERVAL_S = 1.0
"""Seconds between two commits, checkpoints or snapshots, of every system that has such an interval."""

LINGER_MS = 5
COMPRESSION = "lz4"
"""Of every producer, as the worker has them by default."""


@dataclass(frozen=True, slots=True)
class Spec:
    """
    One system's place in a run.

    Attributes:
        broker: Bootstrap servers.
        group: Consumer group; the changelog's name begins with it.
        prefix: Put before the catalog's names of topics.
        partitions: Of every topic.
        job: Which of the two.
        model: Folder of the artifact (full), or the ONNX file (core).
        folder: For what the system keeps on disk.
        exactly_once: By a transaction, where the system has both.
    """

    broker: str
    group: str
    prefix: str
    partitions: int
    job: JobName
    model: str
    folder: str
    exactly_once: bool = False

    @property
    def source(self) -> str:
        """The broker's name of the topic of events."""
        return self.prefix + "interactions"

    @property
    def changelog(self) -> str:
        """The broker's name of the topic that holds each user's latest state."""
        return f"{self.group}-learners-changelog"

    @property
    def outputs(self) -> dict[str, str]:
        """The broker's names of the topics that the job writes to, by the catalog's."""
        return {name: self.prefix + name for name in OUTPUTS[self.job]}

    def to_json(self) -> str:
        """Return the argument."""
        return json.dumps(asdict(self))


def from_arguments() -> Spec:
    """Return what the process was started with."""
    return Spec(**json.loads(sys.argv[1]))
