"""
How good predictions are on users who played no part: the protocol `user-split`.

Users are split once; the network learns from the training users and is stopped by the validation users, and every
answer of the test users is predicted from that user's earlier answers only, by the artifact's own graph on the worker's
own records. What is known of the predicted answer is its item, its skills and when it was asked.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.files.answers import AnswersFile
from stream.learning.history import TEST, TRAINING, VALIDATION, History, Known, prepare, walk
from stream.learning.measured import Evaluation, figures, longest_s, versions
from stream.learning.network import Network, export
from stream.learning.offline import Recipe, fit, runs_of
from stream.learning.progress import Part, Teller
from stream.learning.references import Prediction, Reference
from stream.learning.references.boosting import Boosting
from stream.learning.references.dkt import PlainDkt
from stream.learning.references.embeddings import EmbeddingCorrectness, EmbeddingTime
from stream.learning.references.simple import ItemMean, Logistic, TimeMedian
from stream.models.dkt import KNOWLEDGE, Dkt
from stream.models.fallback import Fallback
from stream.models.quality import log_losses
from stream.models.runtime import Graph
from stream.ports import Identity, Predictor

NETWORK, LNIRT = "knowledge", "lnirt"


@dataclass(frozen=True, slots=True)
class UserSplit(Evaluation):
    """
    What came out.

    Attributes:
        history: All answers.
        known: Before each of them.
        network: That was learned.
        epochs: Figures of each epoch of training; see `stream.learning.offline.fit`.
    """

    history: History
    known: Known
    network: Network
    epochs: list[dict[str, float]]


def evaluate(file: AnswersFile, *, recipe: Recipe, everything: bool, teller: Teller) -> UserSplit:
    """
    Train on a part of a file's users and predict another's answers.

    Args:
        file: Past answers.
        recipe: Of the network; its seed is the split's too.
        everything: The reference models too.
        teller: Told of progress.

    Raises:
        UserError: If there are too few users, or all answers are right or all wrong.
    """
    started = time.monotonic()
    history = History.of(file)
    seed, part = recipe.seed, history.split(recipe.seed)
    _check(file, history, part)
    known = prepare(history, part, seed, lambda share: teller.advance(share * _READING))
    teller.say(f"read {len(history.user)} answers of {history.users} users")
    training, validation = (runs_of(history, known.features, part == which) for which in (TRAINING, VALIDATION))
    epochs: list[dict[str, float]] = []
    learning_from = time.monotonic()
    learning = Part(teller, 1 - _READING - (_OTHERS if everything else 0))
    network = fit(training, validation, len(history.names), recipe, learning, epochs.append).network
    learned_s = time.monotonic() - learning_from
    graph = Dkt(Graph(export(network)), Identity(KNOWLEDGE, 1, "champion", "evaluated"), history.names)
    said = {
        NETWORK: predict(history, part != TRAINING, known, graph),
        LNIRT: predict(history, part != TRAINING, known, Fallback(KNOWLEDGE)),
    }
    part_of = part[history.user]
    serving = min(said, key=lambda name: _log_loss(history, said[name], part_of == VALIDATION))
    if everything:
        is_training, is_validation = part_of == TRAINING, part_of == VALIDATION
        references = _references(seed)
        for name, model in references.items():
            teller.say(f"fitting {name}")
            said[name] = model.fit(history, known, is_training, is_validation).predict(history, known)
            teller.advance(_OTHERS / len(references))
    elif serving != NETWORK:
        said = {serving: said[serving]}
    tested = np.flatnonzero(part_of == TEST)
    cut_s = longest_s(history, part_of == TRAINING)
    report = {
        "file": file.path.name,
        "digest": file.digest,
        "task": KNOWLEDGE,
        "protocol": "user-split",
        "seed": seed,
        "n": len(tested),
        "users": {"training": int((part == TRAINING).sum()), "validation": int((part == VALIDATION).sum()),
                  "test": int((part == TEST).sum())},
        "serving": serving,
        "models": {name: figures(history, each, tested, cut_s) for name, each in said.items()},
        "seconds": round(time.monotonic() - started, 1),
        "training_seconds": round(learned_s, 1),
        "epochs": len(epochs),
        "versions": versions(),
    }  # fmt: skip
    in_file = np.array([answer.row for answer in file.answers])
    return UserSplit(report, tested, in_file, said, history, known, network, epochs)


_READING, _OTHERS = 0.2, 0.4
"""Of the work, about: reading the file and computing features; the reference models."""


def _references(seed: int) -> dict[str, Reference]:
    return {
        "item_mean": ItemMean(),
        "logistic": Logistic(),
        "boosting": Boosting(seed),
        "dkt": PlainDkt(seed),
        "embedding_correctness": EmbeddingCorrectness(seed),
        "median": TimeMedian(),
        "item_median": TimeMedian(by_item=True),
        "item_median_user_speed": TimeMedian(by_item=True, by_user=True),
        "embedding_time": EmbeddingTime(seed),
    }


def _check(file: AnswersFile, history: History, part: NDArray[np.int8]) -> None:
    parts = {"training": TRAINING, "validation": VALIDATION, "test": TEST}
    if not all((part == which).any() for which in parts.values()):
        raise UserError(
            f"{file.path}: expected at least {_LEAST_USERS} users, so that each part has one, found {history.users}; "
            "use a file with more users"
        )
    for name, which in parts.items():
        correct = history.correct[part[history.user] == which]
        if correct.all() or not correct.any():
            raise UserError(
                f"{file.path}: expected right and wrong answers among the {name} users, found only "
                f"{'right' if correct.all() else 'wrong'} ones; check the column correct, or use more users"
            )


_LEAST_USERS = 8


def predict(history: History, chosen: NDArray[np.bool_], known: Known, predictor: Predictor) -> Prediction:
    """
    Return what a predictor says of the answers of users, through the states that it would have when serving.

    Args:
        history: Past answers.
        chosen: Whose, bool `(users,)`.
        known: With the item parameters that they meet.
        predictor: Serves.
    """
    count = len(history.user)
    p_correct, mu, sigma = np.full(count, 0.5), np.zeros(count), np.ones(count)
    hidden = np.zeros((int(chosen.sum()), predictor.hidden_size), np.float16)
    held = hidden.copy()
    for wave in walk(history, chosen, known.items):
        who = wave.who
        held[who[wave.began]] = hidden[who[wave.began]]
        asked_before = np.zeros(len(who), bool)
        hidden[who], forecast = predictor.step(
            hidden[who], wave.answers, wave.questions, wave.features, asked_before, wave.features
        )
        if not wave.began.all():
            forecast = predictor.predict(held[who], wave.questions, wave.features)
        p_correct[wave.rows], mu[wave.rows], sigma[wave.rows] = forecast.p_correct, forecast.mu, forecast.sigma
    return Prediction(p_correct, mu, sigma)


def _log_loss(history: History, said: Prediction, mine: NDArray[np.bool_]) -> float:
    assert said.p_correct is not None  # noqa: S101 (both that may serve say something of correctness)
    return float(log_losses(history.correct[mine], said.p_correct[mine]).mean())
