"""Networks for tests, each made once a run: one with random weights, one that has learned from simulated learners."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from schemas import TrainingExample
from stream.demo.simulator import simulate
from stream.learning.buffer import Buffer
from stream.learning.calibration import calibrate
from stream.learning.network import Network, Shape, export
from stream.learning.update import fresh, shape_for, split, train
from stream.models.dkt import Dkt
from stream.models.fallback import Fallback
from stream.models.runtime import Graph
from stream.ports import Identity
from tests.live import examples
from tests.worlds import TOPIC_NAMES

ANSWERS = 6_000
LEARNED = 4_000


@contextmanager
def own_torch() -> Iterator[None]:
    """Keep torch's chance to oneself, and run it on one thread: on a busy machine two wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            yield
    finally:
        torch.set_num_threads(threads)


def fallback() -> Fallback:
    """Return the fallback."""
    return Fallback("knowledge")


@cache
def random_network() -> Network:
    """Return a network of random weights whose corrections of LNIRT are of a usual size."""
    with own_torch():
        network = Network(Shape())
        torch.nn.init.normal_(network.out.weight, std=0.3)
        torch.nn.init.normal_(network.out.bias, std=0.3)
    return network.eval()


@cache
def random_model() -> bytes:
    """Return its export."""
    return export(random_network())


def dkt(model: bytes, skills: tuple[str, ...], version: int) -> Dkt:
    """Return an exported network as a predictor."""
    return Dkt(Graph(model), Identity("knowledge", version, "champion", f"lstm-test-{version}"), skills)


@cache
def random_dkt() -> Dkt:
    """Return a predictor of random weights that knows most of the topics."""
    return dkt(random_model(), TOPIC_NAMES[:-1], 1)


@cache
def simulated_examples() -> tuple[TrainingExample, ...]:
    """Return training examples of simulated learners, the fallback serving."""
    events = (event for topic, event in simulate(1, answers=ANSWERS) if topic == "interactions")
    return tuple(examples(events))


def buffer_of(examples: Sequence[TrainingExample], skills: Sequence[str] = ()) -> Buffer:
    """Return a buffer that holds all of the examples, and knows these skills first; its file goes with the tests."""
    folder = Path(_FOLDER.name)
    path = folder / f"{len(list(folder.iterdir()))}" / "buffer.sqlite"
    buffer = Buffer(path, max_users=100_000, max_bytes=1 << 30, max_run=1_000)
    buffer.know(skills)
    for offset, example in enumerate(examples):
        buffer.add(example, 0.0, (0, offset))
    buffer.commit()
    return buffer


_FOLDER = TemporaryDirectory(prefix="learnerstream-tests-")


@cache
def trained_network() -> tuple[Network, tuple[str, ...]]:
    """Return a network that has learned a little from simulated learners, calibrated, and the skills that it knows."""
    buffer = buffer_of(simulated_examples()[:2_000])
    runs = buffer.runs()
    with own_torch():
        network = fresh(shape_for(len(buffer.skills)), runs)
        train(network, *split(runs), 2.0, 0.002, 1)
        calibrate(network, runs)
    return network.eval(), buffer.skills


@cache
def trained_dkt() -> Dkt:
    """Return it as a predictor."""
    network, skills = trained_network()
    return dkt(export(network), skills, 2)
