"""
The live system over past answers, from nothing: predict each answer, then learn from it.

In replay order, through the worker's own records and features, the trainer's item statistics, updates and gate. No
broker and no clock: the worker takes a batch of answers at a time, item parameters arrive between two batches, and an
update is done when it was asked for. Its candidate predicts beside what serves, on states of its own, until the gate
decides; then the next update is due.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from stream.errors import UserError
from stream.files.answers import AnswersFile, in_replay_order
from stream.learning.gate import Answers, Gains, Trial, budget_of, student
from stream.learning.history import ANY_TIME, REMEMBERED, History, Wave, learn_wave, meet, remember
from stream.learning.item_statistics import ItemStatistics
from stream.learning.measured import Evaluation, figures, longest_s, versions
from stream.learning.network import Network, export, weights
from stream.learning.offline import in_runs
from stream.learning.progress import Part, Teller
from stream.learning.references import Prediction
from stream.learning.runs import Runs
from stream.learning.update import fresh, shape_for, split, train, warm
from stream.models.dkt import KNOWLEDGE, Dkt
from stream.models.fallback import Fallback
from stream.models.features import COLUMN, COUNT
from stream.models.items import ItemTable
from stream.models.lnirt import sigmoid
from stream.models.quality import log_losses
from stream.models.runtime import Graph
from stream.ports import Forecast, Hidden, Identity, Predictor
from stream.state import arrays, learner


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    When the system learns.

    Attributes:
        batch: Answers that the worker takes at once.
        learn_from: Answers before the first update.
        learn_every: Answers between two updates, at least; none begins while a candidate is on trial.
        gate_every: Answers between two looks at a candidate.
        gate_budget: Answers after which a candidate that is not better is given up, at most; see `budget_of`.
        update_seconds: Of training in one update, at most.
        learning_rate: AdamW's.
        run: Answers kept of one user.
        buffer: Answers kept in all: of the users who answered latest.
        learn_until: Answers after which nothing is learned any more: weights, item parameters and statistics.
    """

    batch: int = 200
    learn_from: int = 200
    learn_every: int = 200
    gate_every: int = 250
    gate_budget: int = 20_000
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
    schedule = Schedule()
    schedule = replace(schedule, learn_every=max(schedule.learn_every, count // _UPDATES))
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
    if everything:
        report["paired"] = {"versus": "frozen"} | paired(history, serving.said, said["frozen"], rows)
    return Evaluation(report, rows, np.array([answer.row for answer in answers]), said)


_WARM_UP = 0.3
_LEAST_ANSWERS = 100
_UPDATES = 50
"""In a file, at most: a million answers take hours else."""


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
        self._updates, self._learned = 0, 0
        self._lost = Gains()
        self.said = _nothing_yet(count)
        """What served said of each answer before it was learned from."""
        self.fallback = _nothing_yet(count)
        """What LNIRT said of it."""
        self._beside = _nothing_yet(count)
        self.decisions: list[dict[str, float]] = []
        """Decisions of the gate: `at_event`, `version`, `promoted`, `gain`."""

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
                self._show(rows)
                self._judge(int(rows[-1]) + 1, teller)
                self._learn(int(rows[-1]) + 1)
            else:
                self._candidate = None
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
        candidate = self._candidate
        self.features[wave.rows] = wave.features
        _note(self.fallback, wave, Forecast(sigmoid(wave.belief.logit), wave.belief.mu, wave.belief.sigma))
        _note(self.said, wave, _step(self.worker, self.hidden, wave))
        if candidate is not None:
            _note(self._beside, wave, _step(candidate.model, candidate.hidden, wave))
        remember(self.records, wave)

    def _runs(self, until: int) -> Runs:
        """Return the latest answers of the users who answered latest, as the trainer's buffer keeps them."""
        user = self._history.user[:until]
        recent = np.zeros(self._history.users, bool)
        recent[user[max(0, until - self._schedule.buffer) :]] = True
        rows = np.argsort(user, kind="stable")
        rows = rows[recent[user[rows]]]
        length = np.bincount(user[rows], minlength=self._history.users)
        place = self._history.turn[rows] - np.maximum(length - self._schedule.run, 0)[user[rows]]
        rows, place = rows[place >= 0], place[place >= 0]
        return in_runs(self._history, self.features, rows, np.cumsum(place == 0) - 1, place)

    def _learn(self, until: int) -> None:
        """Freeze a candidate that has learned from all answers so far, unless one waits to be judged."""
        schedule = self._schedule
        due = max(schedule.learn_from, self._learned + schedule.learn_every)
        if self._candidate is not None or until < due:
            return
        self._updates, self._learned = self._updates + 1, until
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
        goes_on = lineage == self.worker.identity.state_format
        hidden = self.hidden.copy() if goes_on else model.rebuild(learner.remembered(self.records))
        trial = Trial(schedule.gate_every, budget_of(until, schedule.gate_budget))
        self._candidate = _Candidate(network, model, hidden, trial)

    def _show(self, rows: NDArray[np.int64]) -> None:
        """Have the trial, and the watch over what serves, take the answers of a batch."""
        user, correct = self._history.user[rows], self._history.correct[rows]
        if self._champion is not None:
            losses = [log_losses(correct, _probabilities(said)[rows]) for said in (self.said, self.fallback)]
            self._lost.add(user, losses[0] - losses[1])
        if self._candidate is None:
            return
        three = (self._beside, self.said, self.fallback)
        p_candidate, p_champion, p_fallback = (_probabilities(said)[rows] for said in three)
        median_candidate, median_champion, median_fallback = (_medians(said, rows) for said in three)
        self._candidate.trial.add(
            Answers(
                user, correct, p_candidate, p_champion, p_fallback,
                self._history.response_time_s[rows], median_candidate, median_champion, median_fallback,
            )
        )  # fmt: skip

    def _judge(self, until: int, teller: Teller) -> None:
        """Swap if the gate finds the candidate better; fall back if what serves has been worse than the fallback."""
        if self._lost.is_above_zero():
            teller.say(f"answer {until}: the fallback serves, its log loss was better by {self._lost.mean:.4f}")
            self._champion, self._candidate, self._lost = None, None, Gains()
            self.worker = Fallback(KNOWLEDGE)
            self.hidden = self.worker.rebuild(learner.remembered(self.records))
        candidate = self._candidate
        decision = candidate.trial.look() if candidate is not None else None
        if candidate is None or decision is None:
            return
        self._candidate = None
        version = candidate.model.identity.version
        self.decisions.append(
            {"at_event": until, "version": version, "promoted": decision.promoted, "gain": round(decision.gain, 5)}
        )
        if decision.promoted:
            self._champion, self.worker, self.hidden = candidate.network, candidate.model, candidate.hidden
            self._lost = Gains()
            teller.say(f"answer {until}: version {version} serves, log loss {decision.candidate.logloss:.4f}, "
                       f"what served before {decision.champion.logloss:.4f}")  # fmt: skip


def _nothing_yet(count: int) -> Prediction:
    return Prediction(np.full(count, 0.5), np.zeros(count), np.ones(count))


def _step(model: Predictor, hidden: Hidden, wave: Wave) -> Forecast:
    """Return what a model says of the answers of a wave, and take its states, of all users, on in place."""
    before, known = np.zeros(len(wave.rows), bool), wave.features
    hidden[wave.who], forecast = model.step(hidden[wave.who], wave.answers, wave.questions, known, before, known)
    return forecast


def _note(said: Prediction, wave: Wave, forecast: Forecast) -> None:
    """Keep what was said of the answers of a wave."""
    values = (forecast.p_correct, forecast.mu, forecast.sigma)
    for column, value in zip((said.p_correct, said.mu, said.sigma), values, strict=True):
        assert column is not None  # noqa: S101 (made with all three)
        column[wave.rows] = value


def _probabilities(said: Prediction) -> NDArray[np.float64]:
    assert said.p_correct is not None  # noqa: S101 (all that is said here is of both)
    return said.p_correct


def _medians(said: Prediction, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    assert said.mu is not None  # noqa: S101 (all that is said here is of both)
    return np.exp(said.mu[rows])


@dataclass(slots=True)
class _Candidate:
    """
    A candidate on trial.

    Attributes:
        network: Its weights.
        model: What predicts.
        hidden: Its own states of all users.
        trial: Of it.
    """

    network: Network
    model: Dkt
    hidden: Hidden
    trial: Trial


def paired(history: History, one: Prediction, other: Prediction, rows: NDArray[np.int64]) -> dict[str, float]:
    """
    Return by how much less one loses than the other on the same answers, with a 95% interval by users.

    Args:
        history: Past answers.
        one: What it said.
        other: What the other one said.
        rows: Of which answers.
    """
    losses = [log_losses(history.correct[rows], _probabilities(said)[rows]) for said in (other, one)]
    gains = Gains()
    gains.add(history.user[rows], losses[0] - losses[1])
    wide = student(_Z_95, gains.freedom) * gains.error
    found = {"users": gains.users, "gain": gains.mean, "low": gains.mean - wide, "high": gains.mean + wide}
    return {name: round(value, 5) for name, value in found.items()}


_Z_95 = 1.96
