"""
The live system over past answers, from nothing: predict each answer, then learn from it.

In replay order, through the worker's own records and features, the trainer's item statistics, updates and gate. No
broker and no clock: the worker takes a batch of answers at a time, item parameters arrive between two batches, and an
update is done when it was asked for; its candidate is judged on the answers that come after it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from stream.demo.answers import AnswersFile, in_replay_order
from stream.errors import UserError
from stream.learning.gate import Compared, decide
from stream.learning.history import ANY_TIME, REMEMBERED, History, Wave, learn_wave, meet, remember
from stream.learning.item_statistics import ItemStatistics
from stream.learning.measured import Evaluation, figures, longest_s, versions
from stream.learning.network import Network, export, weights
from stream.learning.offline import in_runs
from stream.learning.progress import Part, Teller
from stream.learning.references import Prediction
from stream.learning.replay import predict_runs
from stream.learning.runs import Runs
from stream.learning.update import fresh, shape_for, split, train, warm
from stream.models.dkt import KNOWLEDGE, Dkt
from stream.models.fallback import Fallback
from stream.models.features import COLUMN, COUNT
from stream.models.items import ItemTable
from stream.models.lnirt import sigmoid
from stream.models.runtime import Graph
from stream.ports import Identity, Predictor
from stream.state import arrays, learner


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    When the system learns.

    Attributes:
        batch: Answers that the worker takes at once.
        learn_from: Answers before the first update.
        gate_answers: On which a candidate is judged; the next update begins when that is done.
        update_seconds: Of training in one update, at most.
        learning_rate: AdamW's.
        run: Answers kept of one user.
        buffer: Answers kept in all: of the users who answered latest.
        learn_until: Answers after which nothing is learned any more: weights, item parameters and statistics.
    """

    batch: int = 200
    learn_from: int = 200
    gate_answers: int = 1_000
    update_seconds: float = 4.0
    learning_rate: float = 0.006
    run: int = 200
    buffer: int = 200_000
    learn_until: int | None = None


def evaluate(file: AnswersFile, *, seed: int, everything: bool, teller: Teller) -> Evaluation:
    """
    Have the system go through a file, and say how good it was over the last 70% of the answers.

    Args:
        file: Past answers.
        seed: Of everything random.
        everything: Beside it the same system that learns nothing after the first 30%, and the item mean so far.
        teller: Told of progress.

    Raises:
        UserError: If there are too few answers, or those that count are all right or all wrong.
    """
    started = time.monotonic()
    answers = list(in_replay_order(file))
    history = History.of(replace(file, answers=answers))
    count = len(history.user)
    first = int(_WARM_UP * count)
    rows = np.arange(first, count)
    correct = history.correct[rows]
    if count < _LEAST_ANSWERS or correct.all() or not correct.any():
        raise UserError(
            f"{file.path}: expected at least {_LEAST_ANSWERS} answers, right and wrong ones among the last 70%, found "
            f"{count} answers, {int(correct.sum())} of the last {len(rows)} right; use a larger file"
        )
    teller.say(f"read {count} answers of {history.users} users")
    schedule = Schedule(gate_answers=max(_GATE_ANSWERS, count // _UPDATES))
    systems = {KNOWLEDGE: System(history, schedule, seed)}
    if everything:
        systems["frozen"] = System(history, replace(schedule, learn_until=first), seed)
    for system in systems.values():
        system.run(Part(teller, 1 / len(systems)))
    serving = systems[KNOWLEDGE]
    said = {name: system.said for name, system in systems.items()} | {"lnirt": serving.fallback}
    if everything:
        said["item_mean"] = Prediction(serving.features[:, COLUMN["item_rate"]].astype(np.float64))
    cut_s = longest_s(history, np.arange(count) < first)
    report = {
        "file": file.path.name,
        "digest": file.digest,
        "task": KNOWLEDGE,
        "protocol": "progressive",
        "seed": seed,
        "n": len(rows),
        "users": {"test": len(np.unique(history.user[rows]))},
        "serving": KNOWLEDGE,
        "models": {name: figures(history, each, rows, cut_s) for name, each in said.items()},
        "swaps": [decision for decision in serving.decisions if decision["promoted"]],
        "decisions": len(serving.decisions),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    return Evaluation(report, rows, np.array([answer.row for answer in answers]), said)


_WARM_UP = 0.3
_LEAST_ANSWERS = 100
_GATE_ANSWERS, _UPDATES = 1_000, 50
"""A candidate is judged on so many answers, or on a fiftieth of the file if that is more: a million take hours else."""


class System:
    """
    Worker and trainer in one, over the answers of a history, whose rows are in replay order.

    Args:
        history: Past answers.
        schedule: When it learns.
        seed: Of everything random.
    """

    def __init__(self, history: History, schedule: Schedule, seed: int) -> None:
        count = len(history.user)
        self._history = history
        self._schedule = schedule
        self._seed = seed
        self.features = np.zeros((count, COUNT), np.float32)
        self.records = learner.new_learners(history.users, REMEMBERED)
        self._items, self._statistics = ItemTable(), ItemStatistics()
        self.worker: Predictor = Fallback(KNOWLEDGE)
        self.hidden = np.zeros((history.users, self.worker.hidden_size), np.float16)
        self._champion: Network | None = None
        self._candidate: _Candidate | None = None
        self._updates = 0
        self.said = Prediction(np.full(count, 0.5), np.zeros(count), np.ones(count))
        """What served said of each answer before it was learned from."""
        self.fallback = Prediction(np.full(count, 0.5), np.zeros(count), np.ones(count))
        """What LNIRT said of it."""
        self.decisions: list[dict[str, float]] = []
        """Decisions of the gate: `at_event`, `version`, `promoted`, `z`."""

    def run(self, teller: Teller) -> None:
        """Go through all answers; tells of swaps."""
        count, schedule = len(self._history.user), self._schedule
        for start in range(0, count, schedule.batch):
            rows = np.arange(start, min(start + schedule.batch, count))
            learns = schedule.learn_until is None or start < schedule.learn_until
            for wave in self._waves(rows):
                self._take(wave)
                if learns:
                    learn_wave(self._history, self._statistics, wave)
            if learns:
                self._items.update(self._statistics.publish(ANY_TIME))
                self._judge(int(rows[-1]) + 1, teller)
                self._learn(int(rows[-1]) + 1)
            teller.advance(len(rows) / count)

    def _waves(self, rows: NDArray[np.int64]) -> Iterator[Wave]:
        """Yield a batch in waves of one answer of each user at most, in order."""
        user = self._history.user[rows]
        order = np.argsort(user, kind="stable")
        is_first = np.ones(len(rows), bool)
        is_first[1:] = user[order][1:] != user[order][:-1]
        begin = np.flatnonzero(is_first)
        nth = np.empty(len(rows), np.int64)
        nth[order] = np.arange(len(rows)) - begin[np.cumsum(is_first) - 1]
        for turn in range(int(nth.max()) + 1):
            some = rows[nth == turn]
            who = self._history.user[some]
            began = np.ones(len(some), bool)
            yield meet(self._history, some, who, began, arrays.take(self.records, who), self._items)

    def _take(self, wave: Wave) -> None:
        """Predict the answers of a wave, and take the users' states on."""
        rows, who, known = wave.rows, wave.who, wave.features
        self.hidden[who], forecast = self.worker.step(
            self.hidden[who], wave.answers, wave.questions, known, np.zeros(len(rows), bool), known
        )
        self.features[rows] = known
        for said, (p_correct, mu, sigma) in (
            (self.said, (forecast.p_correct, forecast.mu, forecast.sigma)),
            (self.fallback, (sigmoid(wave.belief.logit), wave.belief.mu, wave.belief.sigma)),
        ):
            for column, values in zip((said.p_correct, said.mu, said.sigma), (p_correct, mu, sigma), strict=True):
                if column is not None:
                    column[rows] = values
        remember(self.records, wave)

    def _runs(self, until: int, since: int = 0) -> Runs:
        """Return the latest answers of each user who has answered since a row, as the trainer's buffer keeps them."""
        user = self._history.user[:until]
        recent = np.zeros(self._history.users, bool)
        recent[user[max(since, until - self._schedule.buffer) :]] = True
        rows = np.argsort(user, kind="stable")
        rows = rows[recent[user[rows]]]
        length = np.bincount(user[rows], minlength=self._history.users)
        place = self._history.turn[rows] - np.maximum(length - self._schedule.run, 0)[user[rows]]
        rows, place = rows[place >= 0], place[place >= 0]
        return in_runs(self._history, self.features, rows, np.cumsum(place == 0) - 1, place)

    def _learn(self, until: int) -> None:
        """Freeze a candidate that has learned from all answers so far, unless one waits to be judged."""
        schedule = self._schedule
        if self._candidate is not None or until < schedule.learn_from:
            return
        self._updates += 1
        torch.manual_seed(self._seed + self._updates)
        runs = self._runs(until)
        skills = int(runs.skills.max())
        shape = shape_for(skills)
        champion = self._champion
        network = fresh(shape, runs) if champion is None else warm(shape.vocabulary, weights(champion))
        train(network, *split(runs), schedule.update_seconds, schedule.learning_rate, self._seed + self._updates)
        lineage = f"lstm-{self._updates}" if champion is None else self.worker.identity.state_format
        identity = Identity(KNOWLEDGE, self._updates, "champion", lineage)
        model = Dkt(Graph(export(network.eval())), identity, self._history.names[:skills])
        self._candidate = _Candidate(network, model, until)

    def _judge(self, until: int, teller: Teller) -> None:
        """Have the gate decide on the candidate when it has met enough answers; swap if it is better."""
        candidate = self._candidate
        if candidate is None or until < candidate.frozen_at + self._schedule.gate_answers:
            return
        self._candidate = None
        runs = self._runs(until, candidate.frozen_at)
        newer = runs.there & (runs.number >= candidate.frozen_at)
        rows = runs.number[newer]
        p_serving, p_fallback = self.said.p_correct, self.fallback.p_correct
        assert p_serving is not None  # noqa: S101 (made with both)
        assert p_fallback is not None  # noqa: S101
        compared = Compared(
            self._history.user[rows], self._history.correct[rows], predict_runs(candidate.model, runs)[newer],
            p_serving[rows].astype(np.float32), p_fallback[rows].astype(np.float32),
        )  # fmt: skip
        decision = decide(compared)
        version = candidate.model.identity.version
        self.decisions.append({"at_event": until, "version": version, "promoted": decision.promoted, "z": decision.z})
        if not decision.promoted:
            if decision.falls_back and self._champion is not None:
                self._champion, self.worker = None, Fallback(KNOWLEDGE)
                self.hidden = np.zeros((self._history.users, self.worker.hidden_size), np.float16)
                teller.say(f"answer {until}: the fallback serves, log loss {decision.logloss[2]:.4f}")
            return
        same_lineage = candidate.model.identity.state_format == self.worker.identity.state_format
        self._champion, self.worker = candidate.network, candidate.model
        if not same_lineage:
            self.hidden = self.worker.rebuild(learner.remembered(self.records))
        teller.say(f"answer {until}: version {version} serves, log loss {decision.logloss[0]:.4f}, "
                   f"what served before {decision.logloss[1]:.4f}")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Candidate:
    network: Network
    model: Dkt
    frozen_at: int
