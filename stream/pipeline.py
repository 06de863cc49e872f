"""
The core: a batch of events and the states of their users in, next states and predictions out.

Pure: no Kafka, no table, no clock of its own. A user's second event of a batch goes into the next wave, so that
    within a wave every user stands once and all is arrays. Bytes on the wire are `stream.emission`'s.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, reduce
from hashlib import blake2b
from itertools import chain, islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas import Academic, Interaction, PredictionRequest, Target, next_items
from stream import emission
from stream.emission import Answered, Asked
from stream.errors import InferenceError
from stream.intake import Accepted, Dead
from stream.models import lnirt, risk
from stream.models.fallback import Fallback
from stream.models.features import Questions, features
from stream.models.items import ItemTable, Question, question
from stream.ports import Forecast, Hidden, Message, Predictor
from stream.state import academic, arrays, learner
from stream.state.learner import DIFFICULTIES, IS_SKILL, IS_TOPIC, Answers, id64
from stream.state.names import Names

MASTERED = 16
"""Skills, the latest met, whose mastery is published."""

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Users:
    """
    The states of the users of a batch.

    Attributes:
        row: Row of each user.
        learners: `(U,)`; not changed.
        academics: `(U,)`; not changed.
    """

    row: dict[str, int]
    learners: learner.Records
    academics: academic.Records


@dataclass(frozen=True, slots=True)
class Models:
    """
    What predicts.

    Attributes:
        predictor: What serves.
        fallback: What answers when it fails.
        items: What is known of items over all users.
        names: Identifiers behind keys.
    """

    predictor: Predictor
    fallback: Fallback
    items: ItemTable
    names: Names


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of a batch.

    Attributes:
        users: The next states.
        messages: To be sent; those of one user in the order of the user's events.
        dead: Events that our own code could not process.
        correct: Of each answer, bool `(A,)`.
        p_correct: What had been said of it, float32 `(A,)`.
        p_fallback: What the fallback had said of it, float32 `(A,)`.
        repeated: Events that had been seen already.
        fell_back: Answers that the fallback predicted because the model failed.
    """

    users: Users
    messages: list[Message]
    dead: list[Dead]
    correct: NDArray[np.bool_]
    p_correct: NDArray[np.float32]
    p_fallback: NDArray[np.float32]
    repeated: int
    fell_back: int


def nothing(users: Users) -> Outcome:
    """Return the outcome of an empty batch."""
    none = np.zeros(0, np.float32)
    return Outcome(users, [], [], np.zeros(0, bool), none, none, 0, 0)


def join(first: Outcome, second: Outcome) -> Outcome:
    """Return two outcomes as one; the second started from the first's states."""
    return Outcome(
        second.users,
        first.messages + second.messages,
        first.dead + second.dead,
        np.concatenate([first.correct, second.correct]),
        np.concatenate([first.p_correct, second.p_correct]),
        np.concatenate([first.p_fallback, second.p_fallback]),
        first.repeated + second.repeated,
        first.fell_back + second.fell_back,
    )


E = TypeVar("E", Interaction, Academic)


def survive(
    batch: Sequence[Accepted[E]], users: Users, process: Callable[[Sequence[Accepted[E]], Users], Outcome]
) -> Outcome:
    """
    Return what became of a batch, even if an event of it makes our own code raise.

    The batch is halved until the event stands alone; it is tried a second time and then given up with its traceback,
    and the rest goes on. The states of a half that raised are those from before it, so nothing is applied twice.
    """
    if not batch:
        return nothing(users)
    try:
        return process(batch, users)
    except Exception:  # noqa: BLE001 (searched for below)
        if len(batch) > 1:
            middle = len(batch) // 2
            first = survive(batch[:middle], users, process)
            return join(first, survive(batch[middle:], first.users, process))
    try:
        return process(batch, users)
    except Exception as error:  # noqa: BLE001 (any error of ours is this event's end, never the partition's)
        detail = f"expected to process it, found {type(error).__name__}: {error}"
        dead = Dead(batch[0].record, "processing_failed", detail, traceback.format_exc())
        return replace(nothing(users), dead=[dead])


def interactions(
    batch: Sequence[Accepted[Interaction]], users: Users, models: Models, latest_topics: int, now: datetime
) -> Outcome:
    """
    Fold interactions into the states of their users and predict.

    Args:
        batch: In the order of their partitions' offsets.
        users: Every user of the batch.
        models: What predicts.
        latest_topics: Topics met last that a prediction covers besides the event's own.
        now: Stamped on what is produced.
    """
    next_users = replace(users, learners=arrays.take(users.learners, np.arange(len(users.learners))))
    outcomes = [_wave(wave, next_users, models, latest_topics, now) for wave in _waves(batch)]
    return reduce(join, outcomes) if outcomes else nothing(next_users)


def _waves(batch: Sequence[Accepted[E]]) -> list[list[Accepted[E]]]:
    """Return the batch in waves in which each user stands at most once; a user's events keep their order."""
    waves: list[list[Accepted[E]]] = []
    turns: dict[str, int] = {}
    for accepted in batch:
        turn = turns.get(accepted.event.user_id, 0)
        turns[accepted.event.user_id] = turn + 1
        if turn == len(waves):
            waves.append([])
        waves[turn].append(accepted)
    return waves


def _wave(
    wave: list[Accepted[Interaction]], users: Users, models: Models, latest_topics: int, now: datetime
) -> Outcome:
    """Process events of different users; `users.learners` is changed in place, as it is this batch's own copy."""
    events = [a.event for a in wave]
    learners = users.learners
    rows = np.array([users.row[event.user_id] for event in events])
    offsets = np.array([a.record.offset for a in wave], np.int64)
    ids = np.array([id64(event.event_id) for event in events], np.uint64)
    at = np.array([event.timestamp.timestamp() for event in events])
    last_at, risk_day = learners["last_at"][rows], learners["risk_day"][rows]
    fresh = ~learner.has_seen(learners, rows, ids, offsets)
    is_answer = np.array([event.type == "quiz_complete" for event in events])

    others = (fresh & ~is_answer).nonzero()[0]
    if len(others):
        is_view = np.array([events[i].type == "resource_view" for i in others])
        learner.remember_others(learners, rows[others], ids[others], at[others], is_view)
    outcome = nothing(users)
    chosen = (fresh & is_answer).nonzero()[0]
    if len(chosen):
        answered = [wave[i] for i in chosen]
        answers = _answers([a.event for a in answered], ids[chosen], at[chosen], models.names)
        outcome = _answer(answered, answers, rows[chosen], users, models, latest_topics, now)
    # An event seen under its id at another offset still moves the offset on: it need not be looked at again.
    learners["seen"][rows] = np.maximum(learners["seen"][rows], offsets)

    day = (at // _DAY_S).astype(np.uint16)
    new_day = (fresh & (day > risk_day)).nonzero()[0]
    messages = outcome.messages
    if len(new_day):
        learners["risk_day"][rows[new_day]] = day[new_day]
        returned = arrays.take(learners, rows[new_day])
        # How long nothing came is a sign of risk, and over with this very event: it is scored as it stood before.
        returned["last_at"] = last_at[new_day]
        risks = risk.score(returned, users.academics[rows[new_day]], at[new_day])
        of_events = [(wave[i].record, events[i]) for i in new_day]
        messages = messages + emission.risk_predictions(of_events, risks, "first_interaction_of_day", now)
    return replace(outcome, messages=messages, repeated=len(wave) - int(np.count_nonzero(fresh)))


def _answers(events: Sequence[Interaction], ids: NDArray[np.uint64], at: NDArray[np.float64], names: Names) -> Answers:
    """Return answers as columns."""
    asked = [question(e.topic_id, e.item_id, e.difficulty) for e in events]
    skills = [list(dict.fromkeys(map(names.key, event.skills))) for event in events]
    width = max(map(len, skills))
    unknown = float("nan")
    return Answers(
        event=ids,
        item=np.array([q.item for q in asked], np.uint64),
        topic=np.array([names.key(q.topic_id) for q in asked], np.uint64),
        skills=np.array([keys + [0] * (width - len(keys)) for keys in skills], np.uint64),
        level=np.array([q.level for q in asked], np.int8),
        correct=np.array([bool(e.correct) for e in events]),
        response_time_s=np.array(
            [unknown if e.duration_seconds is None else e.duration_seconds for e in events], np.float32
        ),
        at=at,
    )


def _answer(
    batch: Sequence[Accepted[Interaction]],
    answers: Answers,
    rows: NDArray[np.int64],
    users: Users,
    models: Models,
    latest_topics: int,
    now: datetime,
) -> Outcome:
    """Predict answers as they were asked, learn from them in place, and predict what comes next."""
    B = len(batch)
    events = [a.event for a in batch]
    answered = [question(e.topic_id, e.item_id, e.difficulty) for e in events]
    states = arrays.take(users.learners, np.array([rows, rows]))  # (2, B)
    before, after = states
    learner.remember_answers(after, answers)
    lnirt.learn(after, answers, models.items.parameters(models.items.rows(answered)))
    asked = [
        _asked(event, concepts, latest_topics, models.names)
        for event, concepts in zip(events, _latest_concepts(after, models.names), strict=True)
    ]

    # One run for all: the answers themselves, put to the users as they were, then what is asked of them afterwards.
    user = np.concatenate([np.arange(B), np.arange(B).repeat([len(each.all) for each in asked])])
    is_after = np.arange(len(user)) >= B
    asked_at = answers.at[user]
    asked_at[:B] = answers.asked_at(before["last_at"])
    flat = list(chain(answered, *(each.all for each in asked)))
    questions = _questions(flat, user + B * is_after, asked_at, answers.skills, models)
    belief = lnirt.believe(states.reshape(-1), questions.row, questions.parameters)
    every_feature = features(states.reshape(-1), questions, belief)
    questions = replace(questions, row=user)

    said_by_fallback = models.fallback.predict(before["hidden"][:, :0], questions, every_feature)
    predictor: Predictor = models.predictor
    try:
        hidden, forecast = predictor.step(
            current_hidden(before, predictor), answers, questions, every_feature, is_after, every_feature[:B]
        )
    except InferenceError:
        predictor, hidden, forecast = models.fallback, before["hidden"][:, :0], said_by_fallback
    _keep_hidden(after, hidden, predictor)
    arrays.put(users.learners, rows, after)

    failed = predictor is not models.predictor
    said_by_fallback = _first(said_by_fallback, B)
    said = Answered(
        records=[a.record for a in batch],
        events=events,
        identity=predictor.identity,
        failed=failed,
        asked=asked,
        forecast=forecast,
        fallback=said_by_fallback,
        features=every_feature[:B],
    )
    return Outcome(
        users=users,
        messages=emission.answer_messages(said, now),
        dead=[],
        correct=answers.correct,
        p_correct=forecast.p_correct[:B],
        p_fallback=said_by_fallback.p_correct,
        repeated=0,
        fell_back=B if failed else 0,
    )


@lru_cache(maxsize=64)
def format_tag(state_format: str) -> int:
    """Return the number under which a record says whose hidden state it holds; never 0."""
    return int.from_bytes(blake2b(state_format.encode(), digest_size=4).digest(), "little") or 1


def current_hidden(records: learner.Records, predictor: Predictor) -> Hidden:
    """
    Return the hidden states that a predictor may go on from, `(B, hidden_size)`.

    States of another format are rebuilt from the remembered answers.
    """
    hidden = records["hidden"][:, : predictor.hidden_size]
    is_foreign = records["hidden_format"] != format_tag(predictor.identity.state_format)
    foreign = (is_foreign & (records["answers"] > 0)).nonzero()[0]
    if predictor.hidden_size and len(foreign):
        hidden = hidden.copy()
        hidden[foreign] = predictor.rebuild(learner.remembered(records[foreign]))
    return hidden


def _keep_hidden(after: learner.Records, hidden: Hidden, predictor: Predictor) -> None:
    """
    Put hidden states into records, in place.

    Without any, what stands there is outdated by this answer, and is marked so.
    """
    after["hidden_format"] = format_tag(predictor.identity.state_format) if predictor.hidden_size else 0
    after["hidden"][:, : hidden.shape[1]] = hidden


def _asked(event: Interaction, concepts: Sequence[tuple[Question, int]], latest_topics: int, names: Names) -> Asked:
    """
    Return what is predicted after an answer.

    Targets are its topic at each difficulty, other topics, and what the event names. Mastery is of the event's skills
    and the latest met.
    """
    own = event.topic_id
    topics = [concept for concept, kind in concepts if kind & IS_TOPIC and concept.topic_id != own]
    skills = [concept for concept, kind in concepts if kind & IS_SKILL]
    targets = [*_at_each_difficulty(own), *topics[:latest_topics], *_named(next_items(event), names)]
    mastered = list(dict.fromkeys([*map(question, event.skills), *skills[:MASTERED]]))
    return Asked(targets, mastered, list(dict.fromkeys([*targets, *mastered])))


@lru_cache(maxsize=10_000)
def _at_each_difficulty(topic_id: str) -> tuple[Question, ...]:
    return tuple(question(topic_id, None, difficulty) for difficulty in DIFFICULTIES)


def _named(targets: Sequence[Target], names: Names) -> list[Question]:
    """Return targets that others named; their topics may be new to this process."""
    for target in targets:
        names.key(target.topic_id)
    return [question(target.topic_id, target.item_id, target.difficulty) for target in targets]


def _latest_concepts(records: learner.Records, names: Names) -> Iterator[list[tuple[Question, int]]]:
    """Yield each user's concepts, the latest met first, as questions, and what they are: topic, skill or both."""
    order = (-records["concept_at"].astype(np.int64)).argsort(axis=1, kind="stable")
    rows = np.arange(len(records))[:, None]
    keys, kinds = records["concept"][rows, order], records["concept_kind"][rows, order]
    is_used = keys != 0
    used = zip(map(names.name, keys[is_used].tolist()), kinds[is_used].tolist(), strict=True)
    for count in is_used.sum(axis=1).tolist():
        yield [(question(name), kind) for name, kind in islice(used, count) if name is not None]


def _questions(
    asked: Sequence[Question],
    row: NDArray[np.int64],
    asked_at: NDArray[np.float64],
    skills_of_first: NDArray[np.uint64],
    models: Models,
) -> Questions:
    """
    Return questions as columns.

    Args:
        asked: `(N,)`.
        row: Whose they are, `(N,)`.
        asked_at: Seconds since the epoch, `(N,)`.
        skills_of_first: Of the first of them, `(A, S)`; the others' are their topics.
        models: What knows the items.
    """
    topic = np.array([q.topic for q in asked], np.uint64)
    skills = np.zeros((len(asked), skills_of_first.shape[1]), np.uint64)
    skills[:, 0] = topic
    skills[: len(skills_of_first)] = skills_of_first
    return Questions(
        row=row,
        item=np.array([q.item for q in asked], np.uint64),
        topic=topic,
        skills=skills,
        level=np.array([q.level for q in asked], np.int8),
        asked_at=asked_at,
        parameters=models.items.parameters(models.items.rows(asked)),
    )


def _first(forecast: Forecast, count: int) -> Forecast:
    return Forecast(forecast.p_correct[:count], forecast.mu[:count], forecast.sigma[:count])


def academics(batch: Sequence[Accepted[Academic]], users: Users, now: datetime) -> Outcome:
    """
    Fold academic events into the weekly steps of their users, and score the risk after each.

    Args:
        batch: In the order of their partitions' offsets.
        users: Every user of the batch.
        now: Stamped on what is produced.
    """
    records = users.academics.copy()
    messages: list[Message] = []
    repeated = 0
    for accepted in batch:
        row = users.row[accepted.event.user_id]
        if academic.has_seen(records[row], accepted.event, accepted.record.offset):
            records[row]["seen"] = max(int(records[row]["seen"]), accepted.record.offset)
            repeated += 1
            continue
        records[row] = academic.fold(records[row], accepted.event, accepted.record.offset)
        at = np.array([accepted.event.timestamp.timestamp()])
        risks = risk.score(users.learners[row : row + 1], records[row : row + 1], at)
        messages += emission.risk_predictions([(accepted.record, accepted.event)], risks, "academics", now)
    return replace(nothing(replace(users, academics=records)), messages=messages, repeated=repeated)


def reply(request: PredictionRequest, record: learner.Records, models: Models, now: datetime) -> Message:
    """
    Return what a user would answer to the targets of a request; the user's state is not changed.

    Args:
        request: What is asked.
        record: The user, `(1,)`.
        models: What predicts.
        now: Stamped on the reply; the moment of the question, where the request names none.
    """
    asked = _named(request.targets, models.names)
    asked_at = np.full(len(asked), (request.timestamp or now).timestamp())
    no_skills = np.zeros((0, 1), np.uint64)
    questions = _questions(asked, np.zeros(len(asked), np.int64), asked_at, no_skills, models)
    of_questions = features(record, questions, lnirt.believe(record, questions.row, questions.parameters))
    predictor: Predictor = models.predictor
    try:
        forecast = predictor.predict(current_hidden(record, predictor), questions, of_questions)
    except InferenceError:
        predictor = models.fallback
        forecast = predictor.predict(record["hidden"][:, :0], questions, of_questions)
    return emission.reply_message(request, forecast, predictor.identity, predictor is not models.predictor, now)
