"""The systems that are measured: how each is started, and what it is called in the report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from benchmarks.environments import ROOT, environment, python_of, versions
from benchmarks.spec import COMMIT_INTERVAL_S, COMPRESSION, LINGER_MS, JobName, Spec
from stream.settings import Settings

OWN_PYTHON = ROOT / ".venv" / "bin" / "python"

WORKER_SETTINGS = {
    "STREAM_COMMIT_INTERVAL_S": str(COMMIT_INTERVAL_S),
    "STREAM_COMPRESSION": COMPRESSION,
    "STREAM_LINGER_MS": str(LINGER_MS),
    "STREAM_BATCH_MAX": "2000",
    "STREAM_LOG_LEVEL": "warning",
    "STREAM_WORKER_METRICS_PORT": "0",
    "STREAM_TOPICS": "check",
}
"""All but the batch (2,000, as by hand) are the worker's defaults or silence it."""


@dataclass(frozen=True, slots=True)
class System:
    """
    One system.

    Attributes:
        name: In the report.
        title: In the table.
        guess: Events/s of each job, roughly: how many events the first round gets.
        python: Its interpreter.
        module: Of each job, what is run.
        variables: Of its process besides the usual ones.
        exactly_once: Whether it is to use transactions.
        settles_s: Seconds to wait, after its last prediction, until its state must be durable without being stopped.
        packages: Whose versions are reported.
    """

    name: str
    title: str
    guess: Mapping[JobName, float]
    python: Callable[[], Path]
    module: Mapping[JobName, str]
    variables: Callable[[Spec], dict[str, str]]
    packages: tuple[str, ...]
    exactly_once: bool = False
    settles_s: float = 0.0

    def command(self, spec: Spec) -> list[str]:
        """Return what starts it."""
        module = self.module[spec.job]
        argument = "worker" if module == "stream.cli" else spec.to_json()
        variables = environment() | self.variables(spec)
        return ["env", "-i", *(f"{k}={v}" for k, v in variables.items()), str(self.python()), "-m", module, argument]

    @property
    def is_there(self) -> bool:
        """Whether this checkout has it: the worker's settings know its guarantee."""
        guarantees = get_args(Settings.model_fields["guarantee"].annotation)
        return not self.exactly_once or "exactly_once" in guarantees

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages."""
        return versions(self.python(), *self.packages)


def _worker(name: str, title: str, *, exactly_once: bool) -> System:
    def variables(spec: Spec) -> dict[str, str]:
        return WORKER_SETTINGS | {
            "STREAM_BROKER": spec.broker,
            "STREAM_GROUP": spec.group,
            "STREAM_TOPIC_PREFIX": spec.prefix,
            "STREAM_PARTITIONS": str(spec.partitions),
            "STREAM_MODEL_STORE": str(Path(spec.model).parents[1]),
            "STREAM_GUARANTEE": name,
        }

    return System(
        name, title, {"full": 8_000, "core": 40_000}, lambda: OWN_PYTHON,
        {"full": "stream.cli", "core": "benchmarks.core_worker"}, variables,
        ("faust-streaming", "aiokafka", "confluent-kafka", "onnxruntime", "numpy", "pydantic"),
        exactly_once=exactly_once,
    )  # fmt: skip


def _peer(
    name: str, title: str, module: str, guess: tuple[float, float], packages: tuple[str, ...], settles_s: float = 0.0
) -> System:
    path = f"benchmarks.peers.{module}"
    return System(
        name, title, {"full": guess[0], "core": guess[1]}, lambda: python_of(module.removesuffix("_flow")),
        {"full": path, "core": path}, lambda _: {}, (*packages, "onnxruntime", "numpy", "pydantic"),
        settles_s=settles_s,
    )  # fmt: skip


SYSTEMS = (
    _worker("at_least_once", "this worker, at least once", exactly_once=False),
    _worker("exactly_once", "this worker, exactly once", exactly_once=True),
    _peer("quix", "Quix Streams", "quix", (700, 5_000), ("quixstreams", "confluent-kafka")),
    _peer("bytewax", "Bytewax", "bytewax_flow", (700, 8_000), ("bytewax", "confluent-kafka"), 3.0),
    _peer("faust_plain", "Faust, one event at a time", "faust_plain", (500, 2_000), ("faust-streaming", "aiokafka")),
    _peer("by_hand", "confluent-kafka by hand", "by_hand", (10_000, 40_000), ("confluent-kafka",)),
)
