"""A system of its own for each test, on the run's one broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.kafka import KafkaServer
from tests.flow.system import System


@pytest.fixture
def guarantee() -> str:
    """Return the workers' guarantee; a test that holds for both is parametrised by this name."""
    return "at_least_once"


@pytest.fixture
def system(kafka: KafkaServer, prefix: str, tmp_path: Path, guarantee: str) -> Iterator[System]:
    """Give a system with topics and nothing running; what it starts ends with the test."""
    system = System(tmp_path, kafka.bootstrap, prefix, {"guarantee": guarantee})
    system.create_topics()
    yield system
    system.end()
