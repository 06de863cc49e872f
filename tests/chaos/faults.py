"""
What goes wrong, and when: a plan that is the same for the same seed.

Pure: values only. What a fault does to processes is `tests.chaos.scene`'s.
"""

from dataclasses import dataclass
from enum import Enum
from random import Random

FIRST, SECOND = "worker", "worker-2"
"""The worker that is there from the beginning, and the one that comes and goes."""


_AFTER_S, _RECOVERING_S = (0.0, 0.4), (2.0, 9.0)
_MANY_KILLS = 4


class Kind(Enum):
    """A fault."""

    KILL = "kill"
    """-9 to a worker, which its supervisor starts again."""
    JOIN = "join"
    """A second worker comes."""
    STALL = "stall"
    """One of the two workers is stopped until the other has taken over, and then goes on with what it had in hand."""
    LEAVE = "leave"
    """The second worker is told to stop."""
    BROKER = "broker"
    """The broker stops in order and comes back."""


@dataclass(frozen=True, slots=True)
class Size:
    """
    How much of everything.

    Attributes:
        answers: Different ones; other events come on top.
        users: Each of them answers at least once.
        ahead: Answers that may be sent before the first of them has been predicted.
        kills: How many, all over the run.
        stalls: How many, all while two workers run.
        broker_restarts: How many.
    """

    answers: int
    users: int
    ahead: int
    kills: int
    stalls: int
    broker_restarts: int


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault.

    Attributes:
        at: Due when so many answers have been predicted.
        kind: What happens.
        victim: To whom, a worker's name; None where the kind says it.
        after_s: Seconds after it is due, so that it falls anywhere in a batch.
    """

    at: int
    kind: Kind
    victim: str | None
    after_s: float


def plan(size: Size, seed: int) -> list[Fault]:
    """
    Return the faults in their order.

    The second worker comes after about a third of the answers and stays for about a third. Each kill falls anywhere
    in its own part of the run; of many, one follows another and hits a worker that recovers. The broker goes while one
    worker is left.
    """
    random = Random(f"faults/{seed}")
    join, leave = random.uniform(0.28, 0.36), random.uniform(0.62, 0.7)
    between = (leave - join) / (size.stalls + 1)
    stalls = [join + between * (number + random.uniform(0.6, 1.0)) for number in range(size.stalls)]
    again = size.kills > _MANY_KILLS
    kills = [0.05 + 0.87 * (number + random.random()) / (size.kills - again) for number in range(size.kills - again)]
    brokers = [random.uniform(leave + 0.03, 0.88) for _ in range(size.broker_restarts)]
    shares = [(join, Kind.JOIN, 0.0), (leave, Kind.LEAVE, 0.0)]
    for kind, moments in ((Kind.STALL, stalls), (Kind.KILL, kills), (Kind.BROKER, brokers)):
        shares += [(share, kind, random.uniform(*_AFTER_S)) for share in moments]
    if again:
        shares.append((random.choice(kills), Kind.KILL, random.uniform(*_RECOVERING_S)))
    shares.sort(key=lambda fault: fault[0])
    return [
        Fault(round(share * size.answers), kind, _victim(kind, join < share < leave, random), after_s)
        for share, kind, after_s in shares
    ]


def _victim(kind: Kind, two: bool, random: Random) -> str | None:
    if kind not in {Kind.KILL, Kind.STALL}:
        return None
    return random.choice((FIRST, SECOND)) if two else FIRST
