"""
The gate on simulated challengers: `python -m benchmarks.learning_gate --report FILE`.

Users of different abilities, some of whom answer far more than others, answer in sessions. Champion and challenger both
say the true logit plus an error, of which a part is common to them and a part the same for all answers of a user. An
equal challenger errs as much as the champion; a better one errs less, by 0.01 of expected log loss. Told is how often a
challenger is promoted, and after how many answers its trial ends.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.quality_tables import table
from stream.learning.gate import Answers, Decision, Trial
from stream.models.lnirt import sigmoid
from stream.models.quality import log_losses

EVERY, BUDGET = 250, 20_000
BETTER = 0.01
"""Of expected log loss, nats an answer."""


@dataclass(frozen=True, slots=True)
class Scene:
    """
    Who answers, and how the two models err.

    Attributes:
        users: In all.
        spread: Standard deviation of the log of how many sessions a user has.
        session: Answers of a user in a row, on average.
        error: Of the challenger's logits, standard deviation.
        of_user: Share of the error's variance that is the same for all answers of a user.
        common: Share of the error's variance that champion and challenger have in common.
    """

    users: int = 400
    spread: float = 1.0
    session: int = 10
    error: float = 0.3
    of_user: float = 0.3
    common: float = 0.3


SCENES = {
    "usual": Scene(),
    "close models": Scene(error=0.15),
    "far models": Scene(error=0.6),
    "errors by user": Scene(of_user=1.0),
    "2,000 users": Scene(users=2_000),
    "100 users": Scene(users=100),
    "30 users": Scene(users=30),
    "8 users": Scene(users=8),
}


def simulate_gate(seed: int, runs: int, scene: Scene | None = None, gain: float = 0.0) -> dict[str, Any]:
    """
    Put challengers on trial one after another, and return how it went.

    Args:
        seed: Of everything random.
        runs: Challengers.
        scene: Who answers; the usual one if it is not given.
        gain: By how much each is better than the champion in expected log loss.

    Returns:
        `runs`; `promoted` of them; `answers` until the decision, the median, and until a promotion, `answers_promoted`.
    """
    random = np.random.default_rng(seed)
    decisions = [try_out(answers(scene or Scene(), gain, random)) for _ in range(runs)]
    taken = [decision.n for decision in decisions if decision.promoted]
    return {
        "runs": runs,
        "promoted": len(taken),
        "answers": float(np.median([decision.n for decision in decisions])),
        "answers_promoted": float(np.median(taken)) if taken else None,
    }


def try_out(met: Answers, batch: int = 50) -> Decision:
    """Return what the gate decides when it is given answers batch by batch, as they come; there are `BUDGET`."""
    trial = Trial(EVERY, BUDGET)
    for start in range(0, BUDGET, batch):
        trial.add(met.take(slice(start, start + batch)))
        decision = trial.look()
        if decision is not None:
            return decision
    raise AssertionError("a trial ends with its budget")


def answers(scene: Scene, gain: float, random: np.random.Generator, count: int = BUDGET) -> Answers:
    """Return simulated answers, `(count,)`, on which the challenger is better by `gain` in expectation."""
    weight = np.exp(random.normal(0, scene.spread, scene.users))
    lengths = random.geometric(1 / scene.session, count)
    user = np.repeat(random.choice(scene.users, count, p=weight / weight.sum()), lengths)[:count]
    truth = random.normal(0.5, 1, scene.users)[user] + random.normal(0, 1, count)
    common, own, other, fallback = (_errors(scene, user, random) for _ in range(4))
    common *= scene.error * np.sqrt(scene.common)
    own_error = scene.error * np.sqrt(1 - scene.common)
    log_s = 2.5 + random.normal(0, 0.5, count)
    about = log_s + random.normal(0, 0.2, count)
    return Answers(
        user,
        random.random(count) < sigmoid(truth),
        sigmoid(truth + common + own_error * own),
        sigmoid(truth + common + _champion_error(scene, gain) * other),
        sigmoid(truth + fallback),
        np.exp(log_s + random.normal(0, 0.7, count)),
        *(np.exp(about + random.normal(0, 0.1, count)) for _ in range(3)),
    )


def _errors(scene: Scene, user: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
    """Return errors of variance 1, `(N,)`, of which a part is the user's."""
    of_user, of_answer = random.normal(0, 1, scene.users)[user], random.normal(0, 1, len(user))
    errors: NDArray[np.float64] = np.sqrt(scene.of_user) * of_user + np.sqrt(1 - scene.of_user) * of_answer
    return errors


@cache
def _champion_error(scene: Scene, gain: float) -> float:
    """Return the standard deviation of the champion's own error at which the challenger is better by `gain`."""
    random = np.random.default_rng(1)
    truth = random.normal(0.5, np.sqrt(2), 200_000)
    common = random.normal(0, scene.error * np.sqrt(scene.common), len(truth))
    own = random.normal(0, 1, len(truth))

    def loss(error: float) -> float:
        p, said = sigmoid(truth), sigmoid(truth + common + error * own)
        return float((p * log_losses(np.ones(len(p)), said) + (1 - p) * log_losses(np.zeros(len(p)), said)).mean())

    challenger = scene.error * float(np.sqrt(1 - scene.common))
    wanted, low, high = loss(challenger) + gain, challenger, challenger + 3
    for _ in range(40 if gain else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if loss(middle) < wanted else (low, middle)
    return low


def rows(report: dict[str, Any]) -> list[Sequence[str]]:
    """Return the rows of the table of a report."""
    return [
        [
            name,
            f"{100 * of['equal']['promoted'] / of['equal']['runs']:.1f}%", f"{of['equal']['answers']:,.0f}",
            f"{100 * of['better']['promoted'] / of['better']['runs']:.1f}%", f"{of['better']['answers']:,.0f}",
        ]
        for name, of in report.items()
    ]  # fmt: skip


@click.command()
@click.option("--report", type=click.Path(path_type=Path), default=Path("reports/gate.json"), show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=400, show_default=True, help="Challengers of each kind.")
@click.option("--seed", default=1, show_default=True)
def main(report: Path, runs: int, seed: int) -> None:
    """Measure how often challengers of a simulated champion are promoted."""
    found = {
        name: {"scene": asdict(scene)}
        | {kind: simulate_gate(seed, runs, scene, gain) for kind, gain in (("equal", 0.0), ("better", BETTER))}
        for name, scene in SCENES.items()
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    head = ["challengers", "equal: promoted", "answers", f"better by {BETTER}: promoted", "answers"]
    click.echo(table(head, rows(found)))


if __name__ == "__main__":
    main()
