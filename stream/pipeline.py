"""
The core: a batch of events and the states of their users in, next states and predictions out.

Pure: no Kafka, no table, no clock of its own. A user's second event of a batch goes into the next wave, so that
    within a wave every user stands once and all is arrays. Bytes on the wire are `stream.emission`'s.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
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
from stream.models.items import ItemTable
from stream.ports import Forecast, Hidden, Message, Predictor
from stream.state import academic, learner
from stream.state.codec import Names
from stream.state.learner import DIFFICULTIES, IS_SKILL, IS_TOPIC, Answers, id64

MASTERED = 16
"""Skills, the latest met, whose mastery is published."""

_DAY_S = 86_400
_LEVEL = {level: index for index, level in enumerate(DIFFICULTIES)}


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
    outcome = nothing(replace(users, learners=users.learners.copy()))
    for wave in _waves(batch):
        outcome = join(outcome, _wave(wave, outcome.users, models, latest_topics, now))
    return outcome


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
    rows = np.array([users.row[a.event.user_id] for a in wave])
    offsets = np.array([a.record.offset for a in wave], np.int64)
    ids = np.array([id64(a.event.event_id) for a in wave], np.uint64)
    at = np.array([a.event.timestamp.timestamp() for a in wave])
    before = users.learners[rows]
    fresh = ~learner.has_seen(before, ids, offsets)
    is_answer = np.array([a.event.type == "quiz_complete" for a in wave])
    is_view = np.array([a.event.type == "resource_view" for a in wave])

    after = before.copy()
    others = np.flatnonzero(fresh & ~is_answer)
    after[others] = learner.remember_others(before[others], ids[others], at[others], is_view[others])
    chosen = np.flatnonzero(fresh & is_answer)
    answered = [wave[i] for i in chosen]
    outcome = nothing(users)
    if answered:
        answers = _answers(answered, ids[chosen], at[chosen], models.names)
        next_learners, outcome = _answer(answered, answers, before[chosen], users, models, latest_topics, now)
        after[chosen] = next_learners
    # An event seen under its id at another offset still moves the offset on: it need not be looked at again.
    after["seen"] = np.maximum(before["seen"], offsets)

    day = (at // _DAY_S).astype(np.uint16)
    new_day = np.flatnonzero(fresh & (day > before["risk_day"]))
    after["risk_day"][new_day] = day[new_day]
    users.learners[rows] = after
    returned = after[new_day]
    # How long nothing came is a sign of risk, and over with this very event: it is scored as it stood before.
    returned["last_at"] = before["last_at"][new_day]
    risks = risk.score(returned, users.academics[rows[new_day]], at[new_day])
    messages = [
        emission.risk_prediction(wave[i].record, wave[i].event, risks, row, "first_interaction_of_day", now)
        for row, i in enumerate(new_day)
    ]
    return replace(outcome, messages=outcome.messages + messages, repeated=int((~fresh).sum()))


def _answers(
    batch: Sequence[Accepted[Interaction]], ids: NDArray[np.uint64], at: NDArray[np.float64], names: Names
) -> Answers:
    """Return answers as columns."""
    events = [a.event for a in batch]
    skills = [tuple(dict.fromkeys(event.skills)) for event in events]
    columns = np.zeros((len(events), max(map(len, skills))), np.uint64)
    for row, of_event in enumerate(skills):
        columns[row, : len(of_event)] = [names.key(skill) for skill in of_event]
    unknown = float("nan")
    return Answers(
        event=ids,
        item=np.array([learner.key64(e.item_id) if e.item_id else 0 for e in events], np.uint64),
        topic=np.array([names.key(e.topic_id) for e in events], np.uint64),
        skills=columns,
        level=np.array([_LEVEL.get(e.difficulty or "", -1) for e in events], np.int8),
        correct=np.array([bool(e.correct) for e in events]),
        response_time_s=np.array(
            [unknown if e.duration_seconds is None else e.duration_seconds for e in events], np.float32
        ),
        at=at,
    )


def _answer(
    batch: Sequence[Accepted[Interaction]],
    answers: Answers,
    before: learner.Records,
    users: Users,
    models: Models,
    latest_topics: int,
    now: datetime,
) -> tuple[learner.Records, Outcome]:
    """Predict answers as they were asked, learn from them, and predict what comes next."""
    events = [a.event for a in batch]
    users_of = np.arange(len(batch))
    asked_rows = np.array([models.items.row(e.item_id, e.topic_id, e.difficulty) for e in events], np.int64)
    asked = Questions(
        users_of, answers.item, answers.topic, answers.skills, answers.level, answers.asked_at,
        models.items.parameters(asked_rows),
    )  # fmt: skip
    asked_features = features(before, asked, lnirt.believe(before, users_of, asked.parameters))

    after = lnirt.learn(learner.remember_answers(before, answers), answers, asked.parameters)
    targets = [
        Asked(_targets(event, row, latest_topics), _mastered(event, row), event.user_id)
        for event, row in zip(events, _latest_concepts(after, models.names), strict=True)
    ]
    next_asked = _questions([t.all for t in targets], answers.at, models)
    next_features = features(after, next_asked, lnirt.believe(after, next_asked.row, next_asked.parameters))

    questions = _concatenate(asked, next_asked)
    every_feature = np.concatenate([asked_features, next_features])
    is_after = np.arange(len(questions.row)) >= len(batch)
    said_by_fallback = models.fallback.predict(before["hidden"][:, :0], questions, every_feature)
    predictor: Predictor = models.predictor
    try:
        hidden, forecast = predictor.step(
            current_hidden(before, predictor), answers, questions, every_feature, is_after
        )
    except InferenceError:
        predictor, hidden, forecast = models.fallback, before["hidden"][:, :0], said_by_fallback
    _keep_hidden(after, hidden, predictor)

    said = _slice(forecast, 0, len(batch))
    said_fallback = _slice(said_by_fallback, 0, len(batch))
    answered = Answered(
        records=[a.record for a in batch],
        events=events,
        identity=predictor.identity,
        failed=predictor is not models.predictor,
        targets=targets,
        before=said,
        before_fallback=said_fallback,
        after=_slice(forecast, len(batch), len(questions.row)),
        features=asked_features,
    )
    return after, Outcome(
        users=users,
        messages=emission.answer_messages(answered, now),
        dead=[],
        correct=answers.correct,
        p_correct=said.p_correct,
        p_fallback=said_fallback.p_correct,
        repeated=0,
        fell_back=len(batch) if answered.failed else 0,
    )


def format_tag(state_format: str) -> int:
    """Return the number under which a record says whose hidden state it holds; never 0."""
    return int.from_bytes(blake2b(state_format.encode(), digest_size=4).digest(), "little") or 1


def current_hidden(records: learner.Records, predictor: Predictor) -> Hidden:
    """
    Return the hidden states that a predictor may go on from, `(B, hidden_size)`.

    States of another format are rebuilt from the remembered answers.
    """
    hidden = records["hidden"][:, : predictor.hidden_size].copy()
    foreign = np.flatnonzero(records["hidden_format"] != format_tag(predictor.identity.state_format))
    if predictor.hidden_size and len(foreign):
        hidden[foreign] = predictor.rebuild(learner.remembered(records[foreign]))
    return hidden


def _keep_hidden(after: learner.Records, hidden: Hidden, predictor: Predictor) -> None:
    """
    Put hidden states into records, in place.

    Without any, what stands there is outdated by this answer, and is marked so.
    """
    after["hidden_format"] = format_tag(predictor.identity.state_format) if predictor.hidden_size else 0
    after["hidden"][:, : hidden.shape[1]] = hidden


def _targets(event: Interaction, concepts: list[tuple[str, int]], latest_topics: int) -> list[Target]:
    """Return what is predicted after an answer: its topic at each difficulty, other topics, what the event names."""
    topics = [name for name, kind in concepts if kind & IS_TOPIC and name != event.topic_id]
    return [
        *(Target.model_construct(topic_id=event.topic_id, item_id=None, difficulty=level) for level in DIFFICULTIES),
        *(Target.model_construct(topic_id=name, item_id=None, difficulty=None) for name in topics[:latest_topics]),
        *next_items(event),
    ]


def _mastered(event: Interaction, concepts: list[tuple[str, int]]) -> list[str]:
    """Return the skills whose mastery is published: the event's, and the latest met."""
    latest = [name for name, kind in concepts if kind & IS_SKILL]
    return list(dict.fromkeys([*event.skills, *latest[:MASTERED]]))


def _latest_concepts(records: learner.Records, names: Names) -> list[list[tuple[str, int]]]:
    """Return names and kinds of each user's concepts, the latest met first."""
    order = np.argsort(-records["concept_at"].astype(np.int64), axis=1, kind="stable")
    keys = np.take_along_axis(records["concept"], order, axis=1).tolist()
    kinds = np.take_along_axis(records["concept_kind"], order, axis=1).tolist()
    return [
        [(name, kind) for key, kind in zip(*of_user, strict=True) if key and (name := names.name(key)) is not None]
        for of_user in zip(keys, kinds, strict=True)
    ]


def _questions(targets: Sequence[Sequence[Target]], at: NDArray[np.float64], models: Models) -> Questions:
    """Return the targets of all users as one batch of questions."""
    row = np.repeat(np.arange(len(targets)), [len(t) for t in targets])
    flat = [target for of_user in targets for target in of_user]
    topic = np.array([models.names.key(t.topic_id) for t in flat], np.uint64)
    items = np.array([models.items.row(t.item_id, t.topic_id, t.difficulty) for t in flat], np.int64)
    return Questions(
        row=row,
        item=np.array([learner.key64(t.item_id) if t.item_id else 0 for t in flat], np.uint64),
        topic=topic,
        skills=topic[:, None],
        level=np.array([_LEVEL.get(t.difficulty or "", -1) for t in flat], np.int8),
        asked_at=at[row],
        parameters=models.items.parameters(items),
    )


def _concatenate(first: Questions, second: Questions) -> Questions:
    width = max(first.skills.shape[1], second.skills.shape[1])
    skills = [np.pad(q.skills, ((0, 0), (0, width - q.skills.shape[1]))) for q in (first, second)]
    columns = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("row", "item", "topic", "level", "asked_at")
    }
    parameters = [
        np.concatenate([getattr(first.parameters, name), getattr(second.parameters, name)])
        for name in type(first.parameters).__slots__
    ]
    return Questions(skills=np.concatenate(skills), parameters=type(first.parameters)(*parameters), **columns)


def _slice(forecast: Forecast, start: int, end: int) -> Forecast:
    return Forecast(forecast.p_correct[start:end], forecast.mu[start:end], forecast.sigma[start:end])


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
        messages.append(emission.risk_prediction(accepted.record, accepted.event, risks, 0, "academics", now))
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
    asked_at = (request.timestamp or now).timestamp()
    questions = _questions([request.targets], np.array([asked_at]), models)
    of_questions = features(record, questions, lnirt.believe(record, questions.row, questions.parameters))
    predictor: Predictor = models.predictor
    try:
        forecast = predictor.predict(current_hidden(record, predictor), questions, of_questions)
    except InferenceError:
        predictor = models.fallback
        forecast = predictor.predict(record["hidden"][:, :0], questions, of_questions)
    return emission.reply_message(request, forecast, predictor.identity, predictor is not models.predictor, now)
