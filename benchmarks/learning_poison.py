"""
Some users answer at random, or upside down: `python -m benchmarks.learning_poison`.

One user in twenty, on simulated courses (`benchmarks.worlds`) and, with `--data FILE`, on real answers. The system goes
through the same answers three times: as they are, with those users' outcomes drawn by a coin, and with their outcomes
turned round. What is compared is how well the other users are predicted, over the last 70% of all answers. An update is
one pass over the buffer, as in `benchmarks.learning_drift`.
"""

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_drift import ONE_PASS, served
from benchmarks.worlds import world
from stream.files.answers import AnswersFile, in_replay_order
from stream.files.formats import read_answers
from stream.learning.history import History
from stream.learning.measured import versions
from stream.learning.progressive import Schedule
from stream.models.quality import auc, log_losses

SHARE = 0.05
WARM_UP = 0.3
TARGET = 0.01
KINDS = ("honest", "random", "flipped")
_UPDATES = 50
"""At most, as `stream evaluate` has them."""


def outcomes(kind: str, correct: NDArray[np.bool_], is_bad: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """
    Return what everybody answers.

    Args:
        kind: One of `KINDS`: how the bad users answer.
        correct: How everybody would, `(N,)`.
        is_bad: Whose answers are the bad users', `(N,)`.
        seed: Of the coin.
    """
    if kind == "honest":
        return correct
    other = np.random.default_rng(seed).random(len(correct)) < 0.5 if kind == "random" else ~correct  # noqa: PLR2004
    return np.where(is_bad, other, correct)


def measure(path: Path | None, seed: int) -> dict[str, Any]:
    """Return how well clean users are predicted, by how the others answer."""
    file = world(seed).file if path is None else read_answers(path)
    file = replace(file, answers=list(in_replay_order(file)))
    history = History.of(file)
    bad = np.random.default_rng(seed).permutation(history.users)[: round(SHARE * history.users)]
    is_bad = np.isin(history.user, bad)
    counted = ~is_bad & (np.arange(len(is_bad)) >= WARM_UP * len(is_bad))
    found: dict[str, Any] = {"seed": seed, "answers": len(is_bad), "bad_users": len(bad)}
    for kind in KINDS:
        said = served(_answered(file, outcomes(kind, history.correct, is_bad, seed)), _schedule(file), seed).said
        assert said.p_correct is not None  # noqa: S101 (the system says something of correctness)
        correct, p = history.correct[counted], said.p_correct[counted]
        found[kind] = {"auc": auc(correct, p), "logloss": float(log_losses(correct, p).mean())}
    for kind in KINDS[1:]:
        found[kind]["fall"] = found["honest"]["auc"] - found[kind]["auc"]
    return found


def _answered(file: AnswersFile, correct: NDArray[np.bool_]) -> AnswersFile:
    answers = [replace(answer, correct=was) for answer, was in zip(file.answers, correct.tolist(), strict=True)]
    return replace(file, answers=answers)


def _schedule(file: AnswersFile) -> Schedule:
    return replace(ONE_PASS, learn_every=max(ONE_PASS.learn_every, len(file.answers) // _UPDATES))


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the figures of one file, or of the simulated courses, as a table for people."""
    lines = [f"{name}: {rows[0]['answers']} answers, {rows[0]['bad_users']} bad users",
             f"{'seed':>6}{'honest':>10}{'random':>10}{'flipped':>10}{'fall':>10}{'fall':>10}"]  # fmt: skip
    for row in rows:
        cells = [row[kind]["auc"] for kind in KINDS] + [row[kind]["fall"] for kind in KINDS[1:]]
        lines.append(f"{row['seed']:>6}" + "".join(f"{cell:10.4f}" for cell in cells))
    return "\n".join(lines)


@click.command()
@click.option("--seeds", default=3, show_default=True, help="Simulated courses; who is bad in a file.")
@click.option("--data", type=click.Path(path_type=Path), help="A file of answers beside them; its bad users by seed 1.")
@click.option("--jobs", default=2, show_default=True, help="Runs at a time.")
@click.option("--report", type=click.Path(path_type=Path), default=Path("reports/poison.json"), show_default=True)
def main(seeds: int, data: Path | None, jobs: int, report: Path) -> None:
    """Measure what one bad user in twenty costs the others."""
    started = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        real = None if data is None else pool.submit(measure, data, 1)
        found = {"simulated": list(pool.map(partial(measure, None), range(1, seeds + 1)))}
        if data is not None and real is not None:
            found[data.name] = [real.result()]
    falls = {
        name: {kind: float(np.mean([row[kind]["fall"] for row in rows])) for kind in KINDS[1:]}
        for name, rows in found.items()
    }
    result = {
        "share": SHARE, "target": TARGET, "runs": found, "falls": falls,
        "seconds": round(time.monotonic() - started, 1), "versions": versions(),
    }  # fmt: skip
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for name, rows in found.items():
        click.echo(table(name, rows))
        click.echo("".join(f"mean fall, {kind}: {fall:.4f}; " for kind, fall in falls[name].items()))
    click.echo(f"wanted at most {TARGET}; {result['seconds']} s, report in {report}")


if __name__ == "__main__":
    main()
