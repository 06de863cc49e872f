"""
The fault test in short: two kills, a stall and a second worker that comes and goes, in both guarantees.

In full: `make chaos`.
"""

import logging
from pathlib import Path

import pytest

from tests.broker.kafka import KafkaServer
from tests.chaos.scene import SHORT, run

log = logging.getLogger(__name__)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_faults_lose_nothing_and_count_nothing_twice(
    guarantee: str, kafka: KafkaServer, prefix: str, tmp_path: Path
) -> None:
    """Whatever happens to workers, each answer has one prediction of a kind, and every state is a replay's."""
    report, verdict = run(kafka, tmp_path, prefix, guarantee, SHORT, seed=5, tell=log.info)
    assert verdict.is_good, f"{verdict.words()}\n{report}"
    assert not report["stuck"], report
    assert verdict.answers == report["events"] >= SHORT.answers
    done = {name: report[name] for name in ("kills", "stalls", "rebalances")}
    assert done == {"kills": SHORT.kills, "stalls": SHORT.stalls, "rebalances": 1}
