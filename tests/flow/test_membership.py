"""Who owns what while workers die, sleep and come back, on the real broker."""

import re
import signal
import time
from collections import Counter

import pytest

from tests.flow.system import (
    KILLED_S,
    Message,
    System,
    await_committed,
    both_guarantees,
    distinct,
    exit_status,
    prepare,
    rounds,
)
from tests.flow.test_recovery import assert_counted_exactly

pytestmark = [pytest.mark.timeout(240), pytest.mark.long]

SESSION_S = 30
"""Of a worker with static membership: longer than any restart."""


def recovered(system: System, name: str) -> list[tuple[int, int]]:
    """Return, for each recovery of a worker, how many changelog partitions and how many records it read."""
    found = re.findall(r"state\.recovered\W.*?partitions=(\d+) records=(\d+)", system.log(name))
    return [(int(partitions), int(records)) for partitions, records in found]


def stop_a_while(system: System, name: str) -> None:
    """Stop a worker's process as SIGSTOP does: it knows nothing of it."""
    system.processes[name]._signal(signal.SIGSTOP)


def go_on(system: System, name: str) -> None:
    """Let a stopped process go on."""
    system.processes[name]._signal(signal.SIGCONT)


class Rounds:
    """Sends one answer of each user after the other, and knows how many there are."""

    def __init__(self, system: System, users: int) -> None:
        self._system = system
        self.users = users
        self.answers = 0

    def send(self, answers: int = 1) -> None:
        """Send so many answers of each user."""
        self._system.send(rounds(self.users, answers, first=self.answers))
        self.answers += answers

    @property
    def total(self) -> int:
        """All that was sent."""
        return self.users * self.answers

    def predictions(self) -> list[Message]:
        """Return all predictions as they came, once all there should be have."""
        return self._system.predictions("correctness", self.total)

    def answer_until_shared(self, names: tuple[str, ...]) -> None:
        """Send until each of these workers has predicted something."""
        deadline = time.monotonic() + 90
        while not all(
            self._system.metric(name, 'stream_events_total{outcome="applied",type="quiz_complete"}') > 0
            for name in names
        ):
            assert time.monotonic() < deadline, self._system.words()
            self.send()
            self.predictions()

    def assert_exact(self) -> None:
        """Hold that every answer was counted once."""
        assert_counted_exactly(self._system.examples(self.total), self.users, self.answers)


def rebalances(system: System, name: str) -> int:
    """Return how often a worker was told that its group rebalances."""
    return system.log(name).count("because it is rebalancing")


@both_guarantees
def test_a_static_worker_that_was_killed_comes_back_without_a_rebalance(system: System, guarantee: str) -> None:
    """Under its STREAM_INSTANCE_ID it keeps its partitions: long before the session ends its users are answered."""
    for name in ("worker", "worker-2"):
        prepare(system, name, instance_id=f"static-{name}", session_timeout_s=SESSION_S)
        system.start(name)
    sent = Rounds(system, users=24)
    sent.answer_until_shared(("worker", "worker-2"))
    await_committed(system)
    told, partitions = rebalances(system, "worker-2"), recovered(system, "worker-2")
    system.processes["worker"].kill()
    killed_at = time.monotonic()
    sent.send()
    system.start("worker")
    sent.predictions()
    assert time.monotonic() - killed_at < SESSION_S / 2
    sent.assert_exact()
    assert rebalances(system, "worker-2") == told
    assert recovered(system, "worker-2") == partitions
    assert recovered(system, "worker")[-1][1] > 0


def test_two_workers_under_one_instance_id_do_not_take_turns(system: System) -> None:
    """The later one has the place; the earlier one says why it ends, with status 1."""
    for name in ("worker", "worker-2"):
        prepare(system, name, instance_id="same", session_timeout_s=SESSION_S)
    system.start("worker")
    sent = Rounds(system, users=12)
    sent.send(2)
    sent.predictions()
    system.start("worker-2", until="state.recovered")
    assert exit_status(system, "worker") == 1
    log = system.log("worker")
    assert "STREAM_INSTANCE_ID=same is another worker's by now" in log
    assert "Traceback" not in log
    sent.send(2)
    sent.predictions()
    sent.assert_exact()
    assert system.processes["worker-2"].is_running


@both_guarantees
def test_a_standby_takes_over_without_reading_state_again(system: System, guarantee: str) -> None:
    """With STREAM_STANDBY_REPLICAS=1 the survivor has a copy of what the other had; counts go on exactly."""
    for name in ("worker", "worker-2"):
        prepare(system, name, standby_replicas=1, session_timeout_s=KILLED_S)
        system.start(name)
    sent = Rounds(system, users=120)
    sent.answer_until_shared(("worker", "worker-2"))
    for _ in range(6):
        # Round by round: each leaves a record of every user on the changelog.
        sent.send()
        sent.predictions()
    before = len(recovered(system, "worker-2"))
    system.processes["worker"].kill()
    sent.send(2)
    sent.predictions()
    sent.assert_exact()
    taken = recovered(system, "worker-2")[before:]
    # The other's users, about half of them, left more than six records each.
    assert taken
    assert sum(records for _, records in taken) < sent.users, taken


@both_guarantees
def test_a_worker_that_slept_past_its_session_does_no_harm(system: System, guarantee: str) -> None:
    """
    SIGSTOP for longer than the session while events stream in, and SIGCONT: its partitions are another's by then.

    Whether it ends or goes on: nothing is lost, nothing counts twice, no prediction is taken back; exactly once, none
    comes twice.
    """
    names = ("worker", "worker-2")
    for name in names:
        prepare(system, name, session_timeout_s=KILLED_S)
        system.start(name)
    sent = Rounds(system, users=40)
    sent.answer_until_shared(names)
    sent.send(20)
    stop_a_while(system, "worker")
    try:
        sent.send(5)
        # The other one has taken over: what the stopped one had in hand is answered.
        sent.predictions()
    finally:
        go_on(system, "worker")
    sent.send(5)
    sent.predictions()
    process = system.processes["worker"]
    assert process._process is not None
    if guarantee == "at_least_once":
        assert exit_status(system, "worker") == 1
        assert "the process stood still for" in system.log("worker")
        system.start("worker")
    sent.answer_until_shared(names)
    sent.send(5)
    said = sent.predictions()
    sent.assert_exact()
    assert_said_once(said, sent.total, repeats=guarantee == "at_least_once")


def assert_said_once(said: list[Message], total: int, *, repeats: bool) -> None:
    """Hold that there is one prediction of each event, and that where one may be repeated it says the same."""
    first = {m["prediction_id"]: m for m in distinct(said, "prediction_id")}
    assert len(first) == total
    assert repeats or len(said) == total, Counter(Counter(m["prediction_id"] for m in said).values())
    for message in said:
        before = first[message["prediction_id"]]
        assert message["source"] == before["source"]
        # The last digits depend on which events are predicted together.
        assert chances(message) == pytest.approx(chances(before), abs=1e-3)


def chances(prediction: Message) -> list[float]:
    """Return what a prediction says."""
    return [target["p_correct"] for target in prediction["targets"]] + [prediction["observed"]["p_before"]]
