"""
The core: a batch of events and the states of their users in, next states and predictions out.

Pure: no Kafka, no table, no clock of its own. A user's second event of a batch goes into the next wave, so that
    within a wave every user stands once and all is arrays. Bytes on the wire are `stream.emission`'s.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache, reduce
from hashlib import blake2b
from itertools import chain, islice
from typing import Any, NamedTuple, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas import Academic, Interaction, OutcomeRecorded, PredictionRequest, RiskLabelled, Target, next_items
from stream import emission
from stream.emission import Answered, Asked, SecondOpinion
from stream.errors import InferenceError
from stream.intake import Accepted, Dead
from stream.models import lnirt, risk, weekly
from stream.models.features import Questions, features
from stream.models.items import ItemTable, Question, question
from stream.ports import OBSERVED, Forecast, Hidden, Identity, Message, Observed, Predictor, RiskModel, Risks
from stream.state import academic, arrays, learner
from stream.state.beside import NOWHERE
from stream.state.learner import DIFFICULTIES, IS_SKILL, IS_TOPIC, Answers, id64, key64
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
        beside: The challenger's states, `(U,)`; not changed. None while nothing is on trial.
    """

    row: dict[str, int]
    learners: learner.Records
    academics: academic.Records
    beside: arrays.Records | None = None


_LOGISTIC = risk.LogisticRisk()


@dataclass(frozen=True, slots=True)
class RiskModels:
    """
    What scores risk.

    Attributes:
        model: What serves.
        challenger: What is on trial: it scores beside what serves, at the end of each week.
        share: Of the users whom the challenger serves.
        features: Fields of an enrolment that a model may see.
        slices: Those by which fairness is watched.
    """

    model: RiskModel = _LOGISTIC
    challenger: RiskModel | None = None
    share: float = 0.0
    features: frozenset[str] = frozenset()
    slices: frozenset[str] = frozenset()

    @property
    def kept(self) -> frozenset[str]:
        """Fields of an enrolment that are kept."""
        return self.features | self.slices


@dataclass(frozen=True, slots=True)
class Models:
    """
    What predicts.

    Attributes:
        predictor: What serves.
        fallback: What answers when it fails.
        items: What is known of items over all users.
        names: Identifiers behind keys.
        challenger: What is on trial: it predicts every answer beside what serves.
        share: Of the users whom the challenger serves, by a stable hash of their ids; 0: it only predicts.
        risk: What scores risk.
    """

    predictor: Predictor
    fallback: Predictor
    items: ItemTable
    names: Names
    challenger: Predictor | None = None
    share: float = 0.0
    risk: RiskModels = RiskModels()

    def serves(self, user_id: str) -> bool:
        """Return whether the challenger serves a user, as far as it knows him."""
        return self.challenger is not None and is_of_share(user_id, self.share)


def is_of_share(user_id: str, share: float) -> bool:
    """Return whether a user is among a share of all, by a stable hash of the id."""
    return key64(user_id) < share * 2**64


def _no_scores() -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of a batch.

    Attributes:
        users: The next states.
        messages: To be sent; those of one user in the order of the user's events.
        dead: Events that our own code could not process.
        observed: Each answer beside what had been said of it, `(A,)`.
        again: Events that had been seen already, by type.
        fell_back: Answers that the fallback predicted because the model failed.
        unchallenged: Answers of which the challenger said nothing because it failed.
        risk_scores: Risks that were said, float32 `(R,)`.
        risk_fell_back: Risks that the fallback scored because the model failed.
        risk_unchallenged: Risks of which the challenger said nothing because it failed.
    """

    users: Users
    messages: list[Message]
    dead: list[Dead]
    observed: Observed
    again: Counter[str] = field(default_factory=Counter)
    fell_back: int = 0
    unchallenged: int = 0
    risk_scores: NDArray[np.float32] = field(default_factory=_no_scores)
    risk_fell_back: int = 0
    risk_unchallenged: int = 0

    @property
    def repeated(self) -> int:
        """Events that had been seen already."""
        return self.again.total()


def nothing(users: Users) -> Outcome:
    """Return the outcome of an empty batch."""
    return Outcome(users, [], [], np.zeros(0, OBSERVED))


def join(first: Outcome, second: Outcome) -> Outcome:
    """Return two outcomes as one; the second started from the first's states."""
    return Outcome(
        second.users,
        first.messages + second.messages,
        first.dead + second.dead,
        np.concatenate([first.observed, second.observed]),
        first.again + second.again,
        first.fell_back + second.fell_back,
        first.unchallenged + second.unchallenged,
        np.concatenate([first.risk_scores, second.risk_scores]),
        first.risk_fell_back + second.risk_fell_back,
        first.risk_unchallenged + second.risk_unchallenged,
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
        dead = Dead(batch[0].record, "processing_failed", detail, traceback.format_exc(), batch[0].event.type)
        return replace(nothing(users), dead=[dead])


def interactions(
    batch: Sequence[Accepted[Interaction]],
    users: Users,
    models: Models,
    latest_topics: int,
    now: datetime,
    rebuild_answers: int = 5_000,
) -> Outcome:
    """
    Fold interactions into the states of their users and predict.

    Args:
        batch: In the order of their partitions' offsets.
        users: Every user of the batch.
        models: What predicts.
        latest_topics: Topics met last that a prediction covers besides the event's own.
        now: Stamped on what is produced.
        rebuild_answers: Remembered answers that may be read again to rebuild hidden states.
    """
    rows = np.arange(len(users.learners))
    beside = None if users.beside is None else arrays.take(users.beside, rows)
    next_users = replace(users, learners=arrays.take(users.learners, rows), beside=beside)
    answering = np.zeros(len(rows), bool)
    answering[[users.row[a.event.user_id] for a in batch if a.event.type == "quiz_complete"]] = True
    outcomes = []
    is_stale = True
    for wave in _waves(batch):
        if is_stale:
            _rebuild(next_users, answering, models, rebuild_answers)
        outcomes.append(_wave(wave, next_users, models, latest_topics, now))
        is_stale = any(accepted.event.type == "answer_correction" for accepted in wave)
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
    fresh = ~learner.has_seen(learners, rows, ids, offsets)
    is_answer = np.array([event.type == "quiz_complete" for event in events])
    is_correction = np.array([event.type == "answer_correction" for event in events])
    # A correction is the platform's doing, not the user's.
    acted = fresh & ~is_correction
    day = (at // _DAY_S).astype(np.int64)
    new_day = (acted & (day > learners["risk_day"][rows])).nonzero()[0]
    # How long nothing came is a sign of risk, and over with this very event: it is scored as all stood before.
    returned = arrays.take(learners, rows[new_day])

    others = (fresh & ~is_answer & ~is_correction).nonzero()[0]
    if len(others):
        is_view = np.array([events[i].type == "resource_view" for i in others])
        learner.remember_others(learners, rows[others], ids[others], at[others], is_view)
    outcome = nothing(users)
    chosen = (fresh & is_answer).nonzero()[0]
    if len(chosen):
        answered = [wave[i] for i in chosen]
        answers = _answers([a.event for a in answered], ids[chosen], at[chosen], models.names)
        outcome = _answer(answered, answers, rows[chosen], users, models, latest_topics, now)
    corrected = (fresh & is_correction).nonzero()[0]
    if len(corrected):
        learner.remember_ids(learners, rows[corrected], ids[corrected])
        outcome.messages.extend(_correct([wave[i] for i in corrected], rows[corrected], users, models.names))
    # An event seen under its id at another offset still moves the offset on: it need not be looked at again.
    learners["seen"][rows] = np.maximum(learners["seen"][rows], offsets)

    if len(new_day):
        learners["risk_day"][rows[new_day]] = day[new_day]
        school = users.academics[rows[new_day]]
        as_of = np.maximum.reduce([at[new_day], returned["last_at"], school["last_at"]])
        scored, judged = _scored([wave[i] for i in new_day], returned, school, as_of, models.risk)
        outcome = _with_risks(outcome, judged, emission.risk_predictions(scored, "first_interaction_of_day", now))
    who = acted.nonzero()[0]
    if len(who):
        right = np.array([bool(event.correct) for event in events])
        learner.remember_activity(learners, rows[who], day[who], is_answer[who], (is_answer & right)[who])
    return replace(outcome, again=Counter(events[i].type for i in (~fresh).nonzero()[0]))


def _with_risks(outcome: Outcome, judged: "Judged", messages: list[Message]) -> Outcome:
    """Return an outcome with risks that were scored besides, and the messages that say them."""
    return replace(
        outcome,
        messages=outcome.messages + messages,
        risk_scores=judged.risks.score,
        risk_fell_back=judged.fell_back,
        risk_unchallenged=judged.unchallenged,
    )


def _scored(
    batch: Sequence[Accepted[Any]],
    learners: learner.Records,
    school: academic.Records,
    as_of: NDArray[np.float64],
    models: RiskModels,
) -> tuple[emission.Scored, "Judged"]:
    """Score users, one for each event; those of the challenger's share by the challenger."""
    user_ids = [a.event.user_id for a in batch]
    judged = score_risks(user_ids, weekly.see(learners, school, as_of), models)
    sources = [emission.source_of(a.record, a.event.event_id) for a in batch]
    outcomes = school["outcome"].tolist()
    return emission.Scored(user_ids, sources, as_of.tolist(), judged.risks, judged.voices, outcomes), judged


@dataclass(frozen=True, slots=True)
class Judged:
    """
    What was said of the risks of users, `N` rows.

    Attributes:
        risks: What is published.
        voices: Who said each, and whether that is the fallback.
        unheard: What the other one of champion and challenger said, and which it is; None where it was not asked.
        fell_back: How many the fallback scored because the model failed.
        unchallenged: Of how many the challenger said nothing because it failed.
    """

    risks: Risks
    voices: Sequence[tuple[Identity, bool]]
    unheard: Sequence[tuple[Identity, float] | None]
    fell_back: int = 0
    unchallenged: int = 0


def score_risks(user_ids: Sequence[str], seen: weekly.Seen, models: RiskModels, *, everybody: bool = False) -> Judged:
    """
    Return the risks of users; those of the challenger's share are published as it says.

    Args:
        user_ids: `N`.
        seen: `(N,)`.
        models: What scores.
        everybody: Whether champion and challenger are both to score everybody, heard or not.
    """
    N = len(user_ids)
    identity, fell_back = models.model.identity, 0
    try:
        risks = models.model.score(seen)
    except InferenceError:
        risks, identity, fell_back = _LOGISTIC.score(seen), _LOGISTIC.identity, N
    alone = Judged(risks, [(identity, identity.variant == "fallback")] * N, [None] * N, fell_back)
    if models.challenger is None:
        return alone
    serves = np.array([is_of_share(user_id, models.share) for user_id in user_ids], bool)
    asked = np.arange(N) if everybody else serves.nonzero()[0]
    if not len(asked):
        return alone
    try:
        said = models.challenger.score(seen.take(asked))
    except Exception:  # noqa: BLE001 (whatever is wrong with it must cost nobody: what serves has spoken for them)
        return replace(alone, unchallenged=len(asked))
    return _beside(alone, models.challenger.identity, asked, serves, said)


def _beside(
    alone: Judged, challenger: Identity, asked: NDArray[np.int64], serves: NDArray[np.bool_], said: Risks
) -> Judged:
    """Return what the champion said alone, and the challenger of those whom it was asked about, side by side."""
    heard = serves[asked].nonzero()[0]
    risks = alone.risks.replaced(asked[heard], said.take(heard)) if len(heard) else alone.risks
    voices, unheard = [*alone.voices], [*alone.unheard]
    for place, row in enumerate(asked.tolist()):
        if serves[row]:
            unheard[row], voices[row] = (voices[row][0], float(alone.risks.score[row])), (challenger, False)
        else:
            unheard[row] = (challenger, float(said.score[place]))
    return replace(alone, risks=risks, voices=voices, unheard=unheard)


def fallback_scores(seen: weekly.Seen) -> NDArray[np.float32]:
    """Return the risks that the fallback sees, `(N,)`."""
    return _LOGISTIC.score(seen).score


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
    is_current = can_read(before, predictor)
    try:
        hidden, forecast = predictor.step(
            np.where(is_current[:, None], before["hidden"][:, : predictor.hidden_size], np.float16(0)),
            answers, questions, every_feature, is_after, every_feature[:B],
        )  # fmt: skip
    except InferenceError:
        predictor, hidden, forecast = models.fallback, before["hidden"][:, :0], said_by_fallback
    _keep_hidden(after, hidden, predictor, is_current)

    trial, unchallenged = None, 0
    if models.challenger is not None and users.beside is not None:
        serves = np.array([models.serves(event.user_id) for event in events])
        on_trial = OnTrial(models.challenger, users.beside, rows, serves)
        try:
            trial, forecast = _challenge(on_trial, answers, questions, every_feature, is_after, forecast)
        except Exception:  # noqa: BLE001 (whatever is wrong with it must cost no event)
            # Its states have missed these answers, and begin anew.
            unchallenged = B
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
        answers_before=before["answers"],
        trial=trial,
    )
    return Outcome(
        users=users,
        messages=emission.answer_messages(said, now),
        dead=[],
        observed=_observed(answers, predictor.identity.version, _first(forecast, B), said_by_fallback, trial),
        fell_back=B if failed else 0,
        unchallenged=unchallenged,
    )


def _observed(
    answers: Answers, version: int, heard: Forecast, by_fallback: Forecast, trial: SecondOpinion | None
) -> Observed:
    """
    Return answers beside what had been said of them, `(B,)`.

    Args:
        answers: `(B,)`.
        version: That predicted, where the challenger was not heard.
        heard: What was said of each, `(B,)`.
        by_fallback: What the fallback said, `(B,)`.
        trial: What the challenger said, or the champion in its place.
    """
    rows = np.zeros(len(answers.correct), OBSERVED)
    rows["correct"], rows["seconds"] = answers.correct, answers.response_time_s
    rows["serving_version"], rows["serving_p"] = version, heard.p_correct
    rows["serving_median_s"] = emission.medians(heard)
    rows["fallback_p"], rows["fallback_median_s"] = by_fallback.p_correct, emission.medians(by_fallback)
    rows["challenger_p"] = np.nan
    if trial is not None:
        of_challenger = trial.of_challenger(heard)
        rows["serving_version"][trial.serves] = trial.identity.version
        rows["challenger_version"], rows["challenger_p"] = trial.identity.version, of_challenger.p_correct
        rows["challenger_median_s"] = emission.medians(of_challenger)
    return rows


class OnTrial(NamedTuple):
    """
    A challenger, and where its states stand.

    Attributes:
        predictor: The challenger.
        beside: Its states, of all users, `(U,)`; changed in place.
        rows: The users who answer, `(B,)`.
        serves: Whether it serves each of these, bool `(B,)`.
    """

    predictor: Predictor
    beside: arrays.Records
    rows: NDArray[np.int64]
    serves: NDArray[np.bool_]


def _challenge(
    on_trial: OnTrial,
    answers: Answers,
    questions: Questions,
    every_feature: NDArray[np.float32],
    is_after: NDArray[np.bool_],
    forecast: Forecast,
) -> tuple[SecondOpinion, Forecast]:
    """
    Have the challenger predict the answers too, and all that was asked of the users whom it serves.

    Args:
        on_trial: The challenger; its states are taken on in place.
        answers: `(B,)`.
        questions: The answers themselves, then what is asked afterwards, `(N,)`.
        every_feature: `(N, COUNT)`.
        is_after: Whether a question is asked after the answer, `(N,)`.
        forecast: The champion's, `(N,)`.

    Returns:
        What the one that did not serve said of the answers, and the forecasts of those that serve.

    Raises:
        InferenceError: If the challenger failed.
    """
    predictor, beside, rows, serves = on_trial
    B = len(rows)
    states = arrays.take(beside, rows)
    there = states["answers"] != NOWHERE
    who = there.nonzero()[0]
    serves = serves & there
    # What is asked of the answers themselves comes first, so that row i of `said` is user i of `who`.
    chosen = (there[questions.row] & (~is_after | serves[questions.row])).nonzero()[0]
    place = np.zeros(B, np.int64)
    place[who] = np.arange(len(who))
    hidden, said = predictor.step(
        states["hidden"][who], answers.take(who), questions.take(chosen, place[questions.row[chosen]]),
        every_feature[chosen], is_after[chosen], every_feature[who],
    )  # fmt: skip
    beside["hidden"][rows[who]] = hidden
    beside["answers"][rows[who]] += 1

    columns = [
        (np.array(of_champion), of_challenger)
        for of_champion, of_challenger in (
            (forecast.p_correct, said.p_correct), (forecast.mu, said.mu), (forecast.sigma, said.sigma),
        )
    ]  # fmt: skip
    unheard = []
    is_served = serves[questions.row[chosen]]
    for of_champion, of_challenger in columns:
        other = np.full(B, np.nan, np.float32)
        other[who] = np.where(serves[who], of_champion[who], of_challenger[: len(who)])
        unheard.append(other)
        of_champion[chosen[is_served]] = of_challenger[is_served]
    served = Forecast(*(of_champion for of_champion, _ in columns))
    return SecondOpinion(predictor.identity, there, serves, Forecast(*unheard)), served


def _correct(
    batch: Sequence[Accepted[Interaction]], rows: NDArray[np.int64], users: Users, names: Names
) -> list[Message]:
    """Give remembered answers other outcomes, in place, and return what the trainer is told of them."""
    events = [a.event for a in batch]
    known_by = [list(dict.fromkeys(map(names.key, (e.topic_id, *e.skills)))) for e in events]
    width = max(map(len, known_by))
    changed = learner.correct_answers(
        users.learners, rows,
        np.array([id64(e.corrects or "") for e in events], np.uint64),
        np.array([bool(e.correct) for e in events]),
        np.array([keys + [0] * (width - len(keys)) for keys in known_by], np.uint64),
    )  # fmt: skip
    if users.beside is not None:
        users.beside["answers"][rows[changed]] = NOWHERE
    return emission.corrections([(a.record, a.event) for a in batch])


@lru_cache(maxsize=64)
def format_tag(state_format: str) -> int:
    """Return the number under which a record says whose hidden state it holds; never 0."""
    return int.from_bytes(blake2b(state_format.encode(), digest_size=4).digest(), "little") or 1


def can_read(records: learner.Records, predictor: Predictor) -> NDArray[np.bool_]:
    """Return whether a predictor may go on from the hidden state of each record, `(B,)`; from nothing it always may."""
    is_its_own = records["hidden_format"] == format_tag(predictor.identity.state_format)
    is_readable: NDArray[np.bool_] = is_its_own | (records["answers"] == 0)
    return is_readable


def current_hidden(records: learner.Records, predictor: Predictor) -> Hidden:
    """
    Return the hidden states that a predictor may go on from, `(B, hidden_size)`.

    States of another format are rebuilt from the remembered answers.
    """
    hidden: Hidden = records["hidden"][:, : predictor.hidden_size].copy()
    foreign = (~can_read(records, predictor)).nonzero()[0]
    if predictor.hidden_size and len(foreign):
        hidden[foreign] = predictor.rebuild(learner.remembered(records[foreign]))
    return hidden


def _rebuild(users: Users, answering: NDArray[np.bool_], models: Models, budget: int) -> None:
    """
    Rebuild the states that the models cannot read from the remembered answers, in place, as far as the budget goes.

    Of users who answer in this batch, bool `(U,)`: of others nobody needs them.

    Whoever is not reached is predicted from an empty state this time, which the features make up for in part, and is
    looked at again when he next appears; of a challenger he hears nothing until then.
    """
    learners, predictor = users.learners, models.predictor
    if predictor.hidden_size:
        foreign = (answering & ~can_read(learners, predictor)).nonzero()[0]
        reached, hidden = _rebuilt(learners, foreign, predictor, budget)
        learners["hidden"][reached, : predictor.hidden_size] = hidden
        learners["hidden_format"][reached] = format_tag(predictor.identity.state_format)
        budget -= len(reached) * _remembered(learners)
    beside, challenger = users.beside, models.challenger
    if beside is None or challenger is None:
        return
    behind = answering & (beside["answers"] != learners["answers"])
    beside["answers"][behind] = NOWHERE
    shared = (behind & can_read(learners, challenger)).nonzero()[0]
    beside["hidden"][shared] = learners["hidden"][shared, : challenger.hidden_size]
    foreign = (behind & ~can_read(learners, challenger)).nonzero()[0]
    reached, hidden = _rebuilt(learners, foreign, challenger, budget)
    beside["hidden"][reached] = hidden
    begun = np.concatenate([shared, reached])
    beside["answers"][begun] = learners["answers"][begun]


def _remembered(learners: learner.Records) -> int:
    """Return how many answers are remembered of each user, at most."""
    remembered: int = learners.dtype["answer_id"].shape[0]
    return remembered


def _rebuilt(
    learners: learner.Records, foreign: NDArray[np.int64], predictor: Predictor, budget: int
) -> tuple[NDArray[np.int64], Hidden]:
    """
    Return the first of `foreign` users whom the budget reaches, and their states; of a model that fails, nobody.

    A whole budget reaches one user at least, however much is remembered of each.
    """
    cost = np.minimum(learners["answers"][foreign], _remembered(learners))
    reached = foreign[(cost.cumsum() <= budget) | ((cost.cumsum() == cost) & (budget > 0))]
    nobody = reached[:0], np.zeros((0, predictor.hidden_size), np.float16)
    if not len(reached):
        return nobody
    try:
        return reached, predictor.rebuild(learner.remembered(learners[reached]))
    except InferenceError:
        return nobody


def _keep_hidden(after: learner.Records, hidden: Hidden, predictor: Predictor, is_whole: NDArray[np.bool_]) -> None:
    """
    Put hidden states into records, in place.

    Without any, or where they have not taken in all answers, what stands there is marked as outdated.
    """
    tag = format_tag(predictor.identity.state_format) if predictor.hidden_size else 0
    after["hidden_format"] = np.where(is_whole, tag, 0)
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


def academics(batch: Sequence[Accepted[Academic]], users: Users, models: RiskModels, now: datetime) -> Outcome:
    """
    Fold academic events into the weekly steps of their users, and score the risk after each.

    Args:
        batch: In the order of their partitions' offsets.
        users: Every user of the batch.
        models: What scores, and what is kept of enrolments.
        now: Stamped on what is produced.
    """
    records = users.academics.copy()
    fresh: list[Accepted[Academic]] = []
    again = Counter[str]()
    after: list[academic.Records] = []
    for accepted in batch:
        row = users.row[accepted.event.user_id]
        if academic.has_seen(records[row], accepted.event, accepted.record.offset):
            records[row]["seen"] = max(int(records[row]["seen"]), accepted.record.offset)
            again[accepted.event.type] += 1
            continue
        records[row] = academic.fold(records[row], accepted.event, accepted.record.offset, models.kept)
        fresh.append(accepted)
        after.append(records[row].copy())
    outcome = replace(nothing(replace(users, academics=records)), again=again)
    if not fresh:
        return outcome
    learners = users.learners[[users.row[a.event.user_id] for a in fresh]]
    school = np.array(after, academic.DTYPE)
    as_of = np.maximum(school["last_at"], learners["last_at"])
    scored, judged = _scored(fresh, learners, school, as_of, models)
    messages = emission.risk_predictions(scored, "academics", now)
    messages += emission.risk_outcomes(
        [(a.record, a.event) for a, record in zip(fresh, after, strict=True) if _is_label(a.event, record)]
    )
    return _with_risks(outcome, judged, messages)


def _is_label(event: Academic, record: academic.Records) -> TypeGuard[OutcomeRecorded | RiskLabelled]:
    """Return whether an event says what became of the user in the present course."""
    if isinstance(event, OutcomeRecorded):
        return academic.is_of_course(record, event.course_id)
    return isinstance(event, RiskLabelled)


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
