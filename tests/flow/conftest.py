"""A system of its own for each test, on the run's one broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.kafka import KafkaServer
from tests.flow.system import System


@pytest.fixture
def system(kafka: KafkaServer, prefix: str, tmp_path: Path) -> Iterator[System]:
    """Give a system with topics and nothing running; what it starts ends with the test."""
    system = System(tmp_path, kafka.bootstrap, prefix)
    system.create_topics()
    yield system
    system.end()
