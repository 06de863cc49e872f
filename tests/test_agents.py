"""The handlers on a desk without a broker: what they return, what they change, and what undoing leaves."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import faust
import numpy as np
import orjson
import pytest

from schemas import ItemParameters
from stream import closing
from stream.agents import academics, erasure, interactions, requests
from stream.agents.closing import Closing, EventTime
from stream.agents.control import Live, Playing
from stream.agents.desk import Desk
from stream.app import ACADEMIC_LAYOUT, _with, learner_layout
from stream.errors import ControlError
from stream.intake import Limits
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.pipeline import Models, RiskModels
from stream.ports import Message, Predictor, Record
from stream.state import academic, codec, learner
from stream.state.arrays import ArrayStore
from stream.state.names import Names
from stream.state.tables import NameTable, RecordTable
from stream.telemetry import Silent
from stream.transport.changelogs import Part
from stream.transport.partitioner import Partitioner
from stream.transport.settlement import Change, Work
from tests import networks
from tests.fakes import Counting as Failing
from tests.fakes import PoisonedPredictor
from tests.worlds import NOW, PREDICTIONS, START, moment, risk_examples, risks

PARTITIONS, REMEMBERED = 4, 5
PARTITION_OF = Partitioner(PARTITIONS)


class FakeControl:
    """Control topics that say what a test lets them say."""

    def __init__(self) -> None:
        self.is_caught_up = True
        self.live: Live | None = None
        self.parameters: list[ItemParameters] = []

    def take_parameters(self) -> list[ItemParameters]:
        """Hand over what has arrived."""
        parameters, self.parameters = self.parameters, []
        return parameters

    def take_live(self) -> Live | None:
        """Hand over what has arrived."""
        live, self.live = self.live, None
        return live


def live(desk: Desk, champion: Predictor, challenger: Predictor | None = None, share: float = 0.0) -> Live:
    """Return what is to be live: a knowledge model, and the risk model that there is."""
    return Live(Playing(champion, challenger, share), Playing(desk.models.risk.model))


@dataclass
class Counting(Silent):
    """Telemetry and a read model that remember."""

    reads: Counter[tuple[str, str]] = field(default_factory=Counter)
    stages: dict[str, float] = field(default_factory=dict)
    said: list[tuple[str, ...]] = field(default_factory=list)
    predictions: dict[str, int] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)

    def read(self, kind: str, outcome: str, count: int) -> None:
        """Remember it."""
        self.reads[kind, outcome] += count

    def staged(self, stage: str, seconds: float) -> None:
        """Remember it."""
        self.stages[stage] = seconds

    def predicted(self, kind: str, count: int) -> None:
        """Remember it."""
        self.predictions[kind] = self.predictions.get(kind, 0) + count

    def dead(self, reason: str) -> None:
        """Remember it."""
        self.said.append(("dead", reason))

    def model(self, name: str, version: int) -> None:
        """Remember it."""
        self.versions.append(version)

    def offer(self, user_id: str, kind: str, prediction: bytes) -> None:
        """Remember it."""
        self.said.append(("offered", user_id, kind))

    def forget(self, user_id: str) -> None:
        """Remember it."""
        self.said.append(("forgot", user_id))


def _total(told: Counting, outcome: str) -> int:
    """Return how many events of any type had an outcome."""
    return sum(count for (_, found), count in told.reads.items() if found == outcome)


@pytest.fixture
def told() -> Counting:
    """Return what is told."""
    return Counting()


@pytest.fixture
async def desk(told: Counting) -> Desk:
    """Return a desk whose tables belong to an app that is never started."""
    app = faust.App(
        "g",
        broker="kafka://127.0.0.1:1",
        store="memory://",
        datadir=tempfile.gettempdir(),
        topic_partitions=PARTITIONS,
        web_enabled=False,
    )
    names, fallback = Names(), Fallback("knowledge")
    control: Any = FakeControl()
    return Desk(
        learners=RecordTable(app, "learners", ArrayStore(learner_layout(REMEMBERED))),
        academics=RecordTable(app, "academics", ArrayStore(ACADEMIC_LAYOUT)),
        names=NameTable(app, "names", names),
        control=control,
        read_model=told,
        telemetry=told,
        clock=lambda: NOW,
        partition_of=PARTITION_OF,
        limits=Limits(10_000, 1_000),
        latest_topics=3,
        rebuild_answers=5_000,
        models=Models(networks.random_dkt(), fallback, ItemTable(), names),
    )


def record(topic: str, event: dict[str, Any], offset: int) -> Record:
    """Return an event as it came, on its user's partition."""
    user = event["user_id"].encode()
    return Record(topic, PARTITION_OF(user), offset, user, orjson.dumps(event), NOW.timestamp())


def answer(offset: int, user: str = "u-1", **changes: Any) -> Record:
    """Return an answer."""
    event = {
        "type": "quiz_complete",
        "user_id": user,
        "topic_id": "fractions",
        "item_id": f"i-{offset}",
        "difficulty": "medium",
        "correct": True,
        "duration_seconds": 30.0,
        "timestamp": moment(60.0 * offset),
    }
    return record("interactions", event | changes, offset)


def grade(offset: int, user: str = "u-1") -> Record:
    """Return a grade."""
    event = {"type": "grade_recorded", "user_id": user, "score": 70, "timestamp": moment(86_400.0 * offset)}
    return record("academics", event, offset)


def erase(offset: int, user: str = "u-1") -> Record:
    """Return a wish to be forgotten."""
    return record("erasures", {"user_id": user, "timestamp": moment(0)}, offset)


def request(offset: int, user: str = "u-1", **changes: Any) -> Record:
    """Return a question."""
    event = {"request_id": f"r-{offset}", "user_id": user, "targets": [{"topic_id": "fractions"}]}
    return record("prediction-requests", event | changes, offset)


def tables(desk: Desk, *users: str) -> tuple[bytes, bytes]:
    """Return what both tables say of users, byte for byte."""
    keys = [user.encode() for user in users]
    return desk.learners.get_records(keys).tobytes(), desk.academics.get_records(keys).tobytes()


def topics(messages: Sequence[Message]) -> list[str]:
    """Return where messages go."""
    return [message.topic for message in messages]


def confirm(work: Work) -> None:
    """Let all be safe."""
    work.confirmed(NOW.timestamp())


def test_an_answer_is_predicted_kept_and_its_names_go_ahead(desk: Desk, told: Counting) -> None:
    """Outputs, the names before the record that uses them, the record's change; told to others only when safe."""
    work = interactions.handle([answer(0, skills=["area", "fractions"])], desk)
    partition = PARTITION_OF(b"u-1")
    assert set(topics(work.outputs)) >= set(PREDICTIONS) | {"training-examples"}
    assert work.ahead == [Change("g-names-changelog", partition, n, n) for n in (b"fractions", b"area")]
    (change,) = work.changes
    assert (change.topic, change.partition, change.key) == ("g-learners-changelog", partition, b"u-1")
    assert change.value == codec.encode_learners(desk.learner("u-1"))[0]
    assert desk.learner("u-1")["answers"].tolist() == [1]
    assert told.said == []
    assert told.predictions == {}
    confirm(work)
    assert +told.reads == {("quiz_complete", "applied"): 1}
    assert {said[2] for said in told.said if said[0] == "offered"} == {"correctness", "time", "risk"}
    assert told.predictions["time"] == 1


@pytest.mark.parametrize(
    ("handle", "make", "expected"),
    [
        (interactions.handle, lambda: answer(0), {"decode", "features", "inference"}),
        (academics.handle, lambda: grade(0), {"decode", "features", "inference"}),
        (requests.handle, lambda: request(0), {"decode", "features", "inference"}),
        (erasure.handle, lambda: erase(0), {"decode", "features"}),
    ],
)
def test_the_stages_of_a_batch_are_told(
    desk: Desk, told: Counting, handle: Any, make: Callable[[], Record], expected: set[str]
) -> None:
    """Decoding, the models, and all else of a batch; each takes some time, and nothing of it is counted twice."""
    began_at = time.perf_counter()
    _with(handle, desk, [make()])
    lasted_s = time.perf_counter() - began_at
    assert told.stages.keys() == expected
    assert min(told.stages.values()) > 0
    assert sum(told.stages.values()) <= lasted_s


def test_names_are_stored_once_and_only_of_answers(desk: Desk) -> None:
    """The next answer of the partition needs them no more; a view keeps no names."""
    viewed = answer(0, type="resource_view", topic_id="ratios")
    assert list(interactions.handle([viewed], desk).ahead) == []
    assert [c.key for c in interactions.handle([answer(1), answer(2, topic_id="area")], desk).ahead] == [
        b"fractions",
        b"area",
    ]
    assert list(interactions.handle([answer(3)], desk).ahead) == []


def test_what_is_undone_is_as_if_it_had_never_been(desk: Desk) -> None:
    """Tables byte for byte as before, names stored again the next time, and the same work when it comes again."""
    confirm(interactions.handle([answer(0), answer(0, "u-2")], desk))
    users = ("u-1", "u-2", "u-3")
    before = tables(desk, *users)
    batch = [answer(1, skills=["new"]), answer(2, "u-3"), answer(3, topic_id="other"), answer(4, "u-2")]
    work = interactions.handle(batch, desk)
    assert tables(desk, *users) != before
    work.undo()
    assert tables(desk, *users) == before
    again = interactions.handle(batch, desk)
    assert again.outputs == work.outputs
    assert again.changes == work.changes
    assert list(again.ahead) == list(work.ahead) != []


def test_works_are_undone_in_reverse(desk: Desk) -> None:
    """Of several batches on top of each other nothing stays, whichever handler made them."""
    before = tables(desk, "u-1", "u-2")
    works = [
        interactions.handle([answer(0), answer(1, "u-2")], desk),
        academics.handle([grade(0)], desk),
        erasure.handle([erase(0)], desk),
        interactions.handle([answer(2)], desk),
        academics.handle([grade(1), grade(2, "u-2")], desk),
        erasure.handle([erase(1), erase(2, "u-2")], desk),
    ]
    for work in reversed(works):
        work.undo()
    assert tables(desk, "u-1", "u-2") == before


def test_what_comes_again_changes_nothing(desk: Desk, told: Counting) -> None:
    """A batch that is read again is recognised: no prediction, the same record."""
    confirm(interactions.handle([answer(0), answer(1)], desk))
    before = tables(desk, "u-1")
    work = interactions.handle([answer(0), answer(1)], desk)
    confirm(work)
    assert work.outputs == []
    assert tables(desk, "u-1") == before
    assert +told.reads == {("quiz_complete", "applied"): 2, ("quiz_complete", "repeated"): 2}


def test_an_academic_event_is_scored_and_kept(desk: Desk) -> None:
    """A risk goes out, the weekly steps to their own changelog."""
    work = academics.handle([grade(0), grade(1, "u-2")], desk)
    assert topics(work.outputs) == ["predictions.risk"] * 2
    assert [(c.topic, c.partition, c.key) for c in work.changes] == [
        ("g-academics-changelog", PARTITION_OF(user), user) for user in (b"u-1", b"u-2")
    ]
    assert list(work.ahead) == []
    assert desk.academics.get_records([b"u-1"])["events"].tolist() == [1]


def test_an_academic_event_of_the_future_is_a_dead_letter(desk: Desk, told: Counting) -> None:
    """Attendance of the next year changes no record and moves no clock."""
    desk.limits = Limits(10_000, 1_000, future_s=86_400.0)
    days = (NOW - START).days
    work = academics.handle([grade(days + 1, "u-2"), grade(days + 3)], desk)
    assert topics(work.outputs) == ["predictions.risk", "dead-letters"]
    assert desk.academics.get_records([b"u-1"])["events"].tolist() == [0]
    confirm(work)
    assert ("dead", "from_the_future") in told.said
    assert desk.event_time.newest([PARTITION_OF(b"u-1")]) == 0
    assert desk.event_time.newest([PARTITION_OF(b"u-2")]) == NOW.timestamp()


def test_facts_of_an_enrolment_are_named_before_they_are_kept(desk: Desk) -> None:
    """Those that a setting names; once in each partition."""
    desk.models = replace(desk.models, risk=RiskModels(features=frozenset({"education"})))
    event = {
        "type": "enrolment_recorded", "user_id": "u-1", "course_id": "c-1", "timestamp": moment(0),
        "context": {"education": "A level", "gender": "female"},
    }  # fmt: skip
    work = academics.handle([record("academics", event, 0)], desk)
    assert [change.key for change in work.ahead] == [b"course=c-1", b"education=A level"]
    assert list(academics.handle([record("academics", event, 1)], desk).ahead) == []
    work.undo()
    assert list(academics.handle([record("academics", event, 0)], desk).ahead) != []


def test_bad_events_are_dead_letters_and_the_rest_goes_on(desk: Desk, told: Counting) -> None:
    """What cannot be read, and what our own code cannot process, is kept and counted once it is safe."""
    desk.models = Models(
        PoisonedPredictor(desk.models.predictor, ["poison"]), desk.models.fallback, desk.models.items, desk.models.names
    )
    broken = Record("interactions", 0, 5, b"u-9", b"{", 0.0)
    tombstone = Record("interactions", PARTITION_OF(b"u-1"), 6, b"u-1", None, 0.0)
    work = interactions.handle([answer(0), broken, tombstone, answer(7, item_id="poison"), answer(8)], desk)
    assert topics(work.outputs).count("dead-letters") == 2
    assert desk.learner("u-1")["answers"].tolist() == [2]
    assert told.said == []
    confirm(work)
    assert [said[1] for said in told.said if said[0] == "dead"] == ["not_json", "processing_failed"]
    assert +told.reads == {
        ("quiz_complete", "applied"): 2,
        ("quiz_complete", "dead"): 1,
        ("interactions", "dead"): 1,
        ("tombstone", "ignored"): 1,
    }


@pytest.mark.parametrize("handle", [interactions.handle, academics.handle, erasure.handle, requests.handle])
def test_a_batch_of_nothing_but_bad_events_is_work_too(desk: Desk, told: Counting, handle: Any) -> None:
    """Their letters must be safe before they are committed, and nothing is put anywhere."""
    work = handle([Record("interactions", 0, 5, b"u-9", b"{", 0.0)], desk)
    assert topics(work.outputs) == ["dead-letters"]
    assert (list(work.changes), list(work.ahead)) == ([], [])
    work.undo()
    confirm(work)
    assert ("dead", "not_json") in told.said
    assert _total(told, "dead") == 1
    assert _total(told, "applied") == 0


def test_an_erased_user_leaves_an_empty_marker_that_keeps_what_was_seen(desk: Desk, told: Counting) -> None:
    """Nothing of the user but offsets; nobody else loses anything; the read model forgets once it is safe."""
    confirm(interactions.handle([answer(7), answer(8, "u-2")], desk))
    confirm(academics.handle([grade(5), grade(6, "u-2")], desk))
    told.said.clear()
    other = tables(desk, "u-2")
    work = erasure.handle([erase(3)], desk)
    marker = learner.new_learners(1, REMEMBERED)
    marker["seen"], marker["erasure_seen"] = 7, 3
    weeks = academic.new_academics(1)
    weeks["seen"], weeks["erasure_seen"] = 5, 3
    assert tables(desk, "u-1") == (marker.tobytes(), weeks.tobytes())
    assert tables(desk, "u-2") == other
    partition = PARTITION_OF(b"u-1")
    assert work.changes == [
        Change("g-learners-changelog", partition, b"u-1", codec.encode_learners(marker)[0]),
        Change("g-academics-changelog", partition, b"u-1", codec.encode_academics(weeks)[0]),
    ]
    assert told.said == []
    confirm(work)
    assert told.said == [("forgot", "u-1")]
    assert told.reads["erasure", "applied"] == 1


def test_an_erasure_is_undone(desk: Desk) -> None:
    """The user's records are there again, byte for byte."""
    confirm(interactions.handle([answer(0)], desk))
    confirm(academics.handle([grade(0)], desk))
    before = tables(desk, "u-1", "u-2")
    work = erasure.handle([erase(0), erase(1, "u-2"), erase(2)], desk)
    assert tables(desk, "u-1", "u-2") != before
    work.undo()
    assert tables(desk, "u-1", "u-2") == before


def test_half_an_erasure_is_made_whole(desk: Desk) -> None:
    """Killed between the two tables' changelog records: the one that did not arrive is erased when it comes again."""
    confirm(academics.handle([grade(5)], desk))
    marker = learner.new_learners(1, REMEMBERED)
    marker["erasure_seen"] = 3
    desk.learners.put([b"u-1"], [PARTITION_OF(b"u-1")], marker)
    confirm(erasure.handle([erase(3)], desk))
    assert desk.academics.get_records([b"u-1"])["events"].tolist() == [0]


def test_an_erasure_that_comes_again_does_not_erase_what_came_after_it(desk: Desk, told: Counting) -> None:
    """Applied before a crash and read again: later answers and grades stay; a new wish erases them."""
    confirm(erasure.handle([erase(3)], desk))
    confirm(interactions.handle([answer(7)], desk))
    confirm(academics.handle([grade(5)], desk))
    later = tables(desk, "u-1")
    told.said.clear()
    work = erasure.handle([erase(2), erase(3)], desk)
    assert tables(desk, "u-1") == later
    confirm(work)
    assert told.said == [("forgot", "u-1")]
    confirm(erasure.handle([erase(3), erase(4)], desk))
    assert desk.learner("u-1")["answers"].tolist() == [0]
    assert desk.learner("u-1")["erasure_seen"].tolist() == [4]
    assert desk.academics.get_records([b"u-1"])["events"].tolist() == [0]


def test_answers_from_before_an_erasure_do_not_bring_the_user_back(desk: Desk, told: Counting) -> None:
    """A replay of the source is recognised by what the marker has seen."""
    confirm(interactions.handle([answer(0), answer(1)], desk))
    confirm(erasure.handle([erase(0)], desk))
    before = tables(desk, "u-1")
    confirm(interactions.handle([answer(0), answer(1)], desk))
    assert tables(desk, "u-1") == before
    assert _total(told, "repeated") == 2


def test_a_request_is_answered_and_changes_nothing(desk: Desk, told: Counting) -> None:
    """No record, no name, no user: asking leaves no trace in state, and asked again the answer is the same."""
    confirm(interactions.handle([answer(0)], desk))
    before, users = tables(desk, "u-1", "u-2"), list(desk.learners)
    batch = [request(0), request(1, "u-2", targets=[{"topic_id": "unknown"}, {"topic_id": "fractions"}])]
    work = requests.handle(batch, desk)
    assert [message.key for message in work.outputs] == [b"u-1", b"u-2"]
    assert (list(work.changes), list(work.ahead)) == ([], [])
    assert tables(desk, "u-1", "u-2") == before
    assert list(desk.learners) == users
    assert requests.handle(batch, desk).outputs == work.outputs
    work.undo()
    assert tables(desk, "u-1", "u-2") == before
    confirm(work)
    assert told.reads["prediction_request", "applied"] == 2
    assert told.predictions["reply"] == 2


def test_another_worker_goes_on_where_the_changes_end(desk: Desk) -> None:
    """What the handlers returned, restored from changelogs, gives the same tables and the same names."""
    works = [
        interactions.handle([answer(0, skills=["area"]), answer(1, "u-2"), answer(2)], desk),
        academics.handle([grade(0), grade(1, "u-2")], desk),
        erasure.handle([erase(0, "u-2")], desk),
        interactions.handle([answer(3, "u-2", topic_id="ratios")], desk),
    ]
    names = Names()
    app: Any = desk.learners.app
    others: dict[str, Any] = {
        "g-learners-changelog": RecordTable(app, "learners-2", ArrayStore(learner_layout(REMEMBERED))),
        "g-academics-changelog": RecordTable(app, "academics-2", ArrayStore(ACADEMIC_LAYOUT)),
        "g-names-changelog": NameTable(app, "names-2", names),
    }
    for change in (change for work in works for change in (*work.ahead, *work.changes)):
        others[change.topic].restore(Part((change.topic, change.partition), [change.key], [change.value], 1))
    keys = [b"u-1", b"u-2"]
    assert others["g-learners-changelog"].get_records(keys).tobytes() == tables(desk, "u-1", "u-2")[0]
    assert others["g-academics-changelog"].get_records(keys).tobytes() == tables(desk, "u-1", "u-2")[1]
    for partition in range(PARTITIONS):
        assert others["g-learners-changelog"].to_repair({partition}) == []
    concepts = {key for key in desk.learners.get_records(keys)["concept"].ravel().tolist() if key}
    assert concepts
    assert {names.name(key) for key in concepts} == {"fractions", "area", "ratios"}


async def test_what_is_announced_serves_from_the_next_batch_on(desk: Desk, told: Counting) -> None:
    """Taken over between two batches only, counted once; before the control topics are read it waits."""
    control: Any = desk.control
    first = desk.models.predictor
    control.live, control.is_caught_up = live(desk, desk.models.fallback), False
    desk.refresh()
    assert desk.models.predictor is first
    control.is_caught_up = True
    await desk.ready()
    assert desk.models.predictor is desk.models.fallback
    assert told.versions == [0]
    desk.refresh()
    assert told.versions == [0]


async def test_a_challenger_has_states_only_while_it_runs(desk: Desk) -> None:
    """They begin with the trial, go with an erased user, with what is undone, and with the trial's end."""
    control: Any = desk.control
    champion, on_trial = desk.models.predictor, networks.dkt(networks.random_model(), (), 5)
    control.live = live(desk, champion, on_trial, 0.25)
    desk.refresh()
    assert (desk.models.predictor, desk.models.challenger, desk.models.share) == (champion, on_trial, 0.25)
    confirm(interactions.handle([answer(0), answer(1, "u-2")], desk))
    assert desk.beside is not None
    assert len(desk.beside) == 2
    confirm(erasure.handle([erase(0)], desk))
    assert len(desk.beside) == 1
    interactions.handle([answer(2, "u-2")], desk).undo()
    assert len(desk.beside) == 0
    control.live = live(desk, on_trial)
    desk.refresh()
    assert desk.models.predictor is on_trial
    assert desk.models.challenger is None
    assert desk.beside is None


# ----------------------------------------------------------------------------------------------------- weeks that close

WEEK_S = 7 * 86_400.0
LOOK_S = 1.0
OFFSET_OF_NEXT_WEEK = int(WEEK_S / 60)
"""An answer at this offset is a week later."""


@dataclass
class Weeks:
    """A closing on a desk, the partitions that are ours, and a clock that tests turn."""

    desk: Desk
    owned: set[int] = field(default_factory=lambda: set(range(PARTITIONS)))
    now: float = 0.0
    lagging: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin with nothing known."""
        self.closing = Closing(
            self.desk, lambda: self.owned, lambda place: place not in self.lagging, "interactions", "academics",
            lambda: self.now,
        )  # fmt: skip

    def works(self, most: int = 10_000, *, confirmed: bool = True) -> list[Work]:
        """Return the work of so many turns at most, until nobody waits any more, all of it safe or none."""
        works: list[Work] = []
        while len(works) < most and (due_s := self.closing.due_s()) is not None:
            if due_s == LOOK_S:  # nobody waits, but partitions lag
                break
            self.now += due_s
            done = self.closing.turn()
            if done is not None:
                assert {partition for _, partition in done[1]} <= self.owned
                works.append(done[0])
                if confirmed:
                    confirm(done[0])
        return works


def closed_users(works: Sequence[Work]) -> list[str]:
    """Return the users of whom a closed week's prediction was made."""
    return [m.key.decode() for work in works for m in work.outputs if m.topic == "predictions.risk"]


def quiet(desk: Desk, count: int) -> list[str]:
    """Have so many users answer once, and return them."""
    users = [f"q-{number}" for number in range(count)]
    confirm(interactions.handle([answer(1, user) for user in users], desk))
    return users


def move(desk: Desk, weeks: int = 1) -> None:
    """Have event time move on by another user's answer."""
    confirm(interactions.handle([answer(weeks * OFFSET_OF_NEXT_WEEK + 2, "mover")], desk))


def test_a_week_that_is_over_is_closed_for_quiet_users(desk: Desk, told: Counting) -> None:
    """Each once, whatever partition the clock was moved in; not for the one who came only after it."""
    weeks = Weeks(desk)
    users = quiet(desk, 100)
    # The week before theirs is over too, and nobody was there.
    assert closed_users(weeks.works()) == []
    move(desk)
    before = told.predictions["risk"]
    works = weeks.works()
    assert sorted(closed_users(works)) == sorted(users)
    assert all(len(closed_users([work])) <= 32 for work in works)
    assert told.predictions["risk"] == before + 100
    assert {topic for work in works for topic in topics(work.outputs)} == {"predictions.risk", "training-examples"}
    (change, *_) = works[0].changes
    assert change.topic == "g-academics-changelog"
    assert change.value == codec.encode_academics(desk.academics.get_records([change.key]))[0]
    assert weeks.works() == []
    move(desk)
    assert weeks.works() == []


def test_the_example_of_a_closed_week_names_the_enrolment(desk: Desk) -> None:
    """What came with the enrolment, under the names that it came with, in the process that met it."""
    desk.models = replace(desk.models, risk=RiskModels(features=frozenset({"education"}), slices=frozenset({"gender"})))
    event = {
        "type": "enrolment_recorded", "user_id": "u-1", "course_id": "c-1", "timestamp": moment(0),
        "context": {"education": "A level", "gender": "female", "age": 19},
    }  # fmt: skip
    confirm(academics.handle([record("academics", event, 0)], desk))
    weeks = Weeks(desk)
    move(desk)
    messages = [message for work in weeks.works() for message in work.outputs]
    (example,) = risk_examples(messages)
    assert (example.user_id, example.course_id, example.week) == ("u-1", "c-1", academic.week_of(START.timestamp()))
    assert (example.context, example.slices) == ({"education": "A level"}, {"gender": "female"})


def test_of_several_weeks_the_newest_is_closed(desk: Desk) -> None:
    """Also where the closing of an older one has not come to its end."""
    weeks = Weeks(desk)
    users = quiet(desk, 100)
    move(desk, 1)
    begun = closed_users(weeks.works(1))
    assert len(begun) == 32
    move(desk, 5)
    assert sorted(closed_users(weeks.works())) == sorted([*users, "mover"])
    newest = desk.academics.get_records([user.encode() for user in users])["closed"]
    assert set(newest.tolist()) == {academic.week_of(START.timestamp()) + 4}


def test_a_restart_goes_on_where_it_was(desk: Desk) -> None:
    """What the tables hold says who is left, and how far event time had come: nothing else is needed."""
    users = quiet(desk, 100)
    move(desk)
    begun = closed_users(Weeks(desk).works(2))
    desk.event_time = EventTime()
    weeks = Weeks(desk)
    assert weeks.works() == []
    for topic, table in (("interactions", desk.learners), ("academics", desk.academics)):
        for partition in range(PARTITIONS):
            for _, records in table.of_partition(partition):
                desk.recovered((topic, partition), records["last_at"])
    left = closed_users(weeks.works())
    assert len(begun) == 64
    assert sorted(begun + left) == sorted(users)


def test_a_moment_ahead_of_all_clocks_is_not_recovered(desk: Desk) -> None:
    """Neither an answer of the next year nor what it leaves behind moves event time beyond Kafka's clock."""
    desk.limits = Limits(10_000, 1_000, future_s=86_400.0)
    confirm(interactions.handle([answer(1, timestamp="2030-01-01T00:00:00Z")], desk))
    assert desk.learner("u-1")["answers"].tolist() == [1]
    assert desk.event_time.newest(range(PARTITIONS)) == NOW.timestamp()
    desk.event_time = EventTime()
    desk.recovered(("interactions", PARTITION_OF(b"u-1")), desk.learner("u-1")["last_at"])
    assert desk.event_time.newest(range(PARTITIONS)) == 0


@pytest.mark.parametrize("kind", ["quiz_complete", "resource_view"])
def test_a_wrong_year_does_not_stay_with_a_user(desk: Desk, kind: str) -> None:
    """An interaction of 2099 counts at the latest moment that it may name, and the next day is the next day."""
    desk.limits = Limits(10_000, 1_000, future_s=86_400.0)
    latest = NOW.timestamp() + 86_400.0
    wrong = interactions.handle([answer(1, type=kind, timestamp="2099-06-01T00:00:00Z")], desk)
    record = desk.learner("u-1")
    assert record["last_at"].tolist() == [latest]
    assert record["risk_day"].tolist() == [latest // 86_400]
    assert record["active_week"].tolist() == [academic.week_of(latest)]
    (said,) = risks(wrong.outputs)
    assert said.as_of is not None
    assert said.as_of.timestamp() == latest
    assert all(b"2099" not in message.value for message in wrong.outputs)
    later = NOW + timedelta(days=3)
    event = orjson.loads(answer(2).value or b"") | {"timestamp": later.isoformat()}
    after = interactions.handle([answer(2)._replace(value=orjson.dumps(event), timestamp_s=later.timestamp())], desk)
    assert [risk.as_of for risk in risks(after.outputs)] == [later]
    assert desk.learner("u-1")["last_at"].tolist() == [later.timestamp()]


def test_event_time_goes_by_the_earliest_of_the_clocks(desk: Desk) -> None:
    """A client's that is fast, a producer's that is wrong: neither closes a week before it is over."""
    desk.limits = Limits(10_000, 1_000, future_s=86_400.0)
    now = NOW.timestamp()
    fast = (NOW + timedelta(hours=20)).isoformat()
    place = PARTITION_OF(b"u-1")

    def reached(offset: int, timestamp_s: float, timestamp: str) -> float:
        interactions.handle([answer(offset, timestamp=timestamp)._replace(timestamp_s=timestamp_s)], desk)
        return desk.event_time.newest([place])

    before = NOW - timedelta(days=3)
    assert reached(1, 0.0, before.isoformat()) == 0  # of no known moment
    assert reached(2, now, before.isoformat()) == before.timestamp()
    assert reached(3, now - 5, fast) == now - 5
    assert reached(4, now + 400 * 86_400, "2027-03-01T00:00:00Z") == now + 86_400
    assert desk.event_time.of(("interactions", place)) == now + 86_400
    assert desk.event_time.of(("academics", place)) == 0


def _shown(time: EventTime, partition: int, user: str, day: float) -> float:
    """Have a user's event of a day move the time, and return the day that all partitions have come to."""
    at = day * 86_400
    time.move([Record("interactions", partition, 0, user.encode(), b"", at)], [at], at)
    return time.newest(range(PARTITIONS)) / 86_400


def test_time_leaps_when_three_users_have() -> None:
    """More than four weeks at once; what one user alone says of today closes nobody's weeks in a log of last year."""
    time = EventTime()
    assert _shown(time, 0, "a", 100) == 100
    assert _shown(time, 1, "b", 128) == 128
    assert [_shown(time, 0, "of-today", 500 + n) for n in range(9)] == [128] * 9
    assert _shown(time, 1, "b", 129) == 129
    assert [_shown(time, n, f"of-summer-{n}", 200) for n in range(3)] == [129, 129, 200]
    assert [time.of(("interactions", n)) / 86_400 for n in range(3)] == [200, 200, 200]
    assert _shown(time, 3, "of-today", 510) == 200


def test_time_that_goes_on_forgets_who_was_far_ahead() -> None:
    """Of three that are far ahead none counts while time goes on elsewhere between them."""
    time = EventTime()
    days = [_shown(time, 0, user, day) for n in range(4) for user, day in ((f"far-{n}", 900), ("here", 100 + n))]
    assert days == [900, 900, 900, 900, 900, 900, 900, 900]  # the first of all is all that is known
    time = EventTime()
    days = [_shown(time, 0, user, day) for n in range(4) for user, day in (("here", 100 + n), (f"far-{n}", 900))]
    assert days == [100, 100, 101, 101, 102, 102, 103, 103]


@pytest.mark.parametrize(
    ("days", "reached"),
    [
        ([], 0), ([7], 7), ([7, 900], 900), ([7, 8, 9], 9), ([7, 8, 900], 900), ([7, 8, 9, 900], 9),
        ([7, 8, 9, 900, 901], 9), ([7, 8, 9, 900, 901, 902], 902), ([7, 8, 35, 36, 37], 37),
    ],
)  # fmt: skip
def test_a_recovery_finds_the_time_that_three_users_had(days: list[int], reached: int) -> None:
    """Who was far ahead of all others is so after a restart too; where no three were near, the latest is taken."""
    time = EventTime()
    time.recover(("interactions", 0), np.array(days, np.float64) * 86_400)
    assert time.newest([0]) == reached * 86_400


def test_no_week_closes_ahead_of_events_that_have_yet_to_be_read(desk: Desk) -> None:
    """Of a partition with a backlog its own time counts; of one that is quiet and read to its end, the newest."""
    users = quiet(desk, 100)
    of = {user: PARTITION_OF(user.encode()) for user in users}
    behind = next(p for p in range(PARTITIONS) if p != PARTITION_OF(b"mover"))
    late = [user for user in users if of[user] == behind]
    weeks = Weeks(desk, lagging={("interactions", behind)})
    move(desk, 3)
    assert sorted(closed_users(weeks.works())) == sorted(set(users) - set(late))
    # It is looked again, though nothing comes.
    assert weeks.closing.due_s() == LOOK_S
    # Its own events show the end of their first week: that one closes, and no later one.
    confirm(interactions.handle([answer(OFFSET_OF_NEXT_WEEK + 5, late[0])], desk))
    assert sorted(closed_users(weeks.works())) == sorted(late)
    first = academic.week_of(START.timestamp())
    assert set(desk.academics.get_records([user.encode() for user in late])["closed"].tolist()) == {first}
    weeks.lagging.clear()
    assert sorted(closed_users(weeks.works())) == sorted(late)
    assert set(desk.academics.get_records([user.encode() for user in users])["closed"].tolist()) == {first + 2}
    assert weeks.closing.due_s() is None


def test_both_topics_of_a_partition_have_to_be_read(desk: Desk) -> None:
    """Answers that are read ahead of the lectures of the same weeks close none of them."""
    quiet(desk, 20)
    partitions = range(PARTITIONS)
    weeks = Weeks(desk, lagging={("academics", partition) for partition in partitions})
    move(desk, 3)
    assert closed_users(weeks.works()) == []
    for partition in partitions:
        desk.event_time.reach(("academics", partition), START.timestamp() + WEEK_S)
    assert len(closed_users(weeks.works())) == 20
    assert weeks.closing.due_s() == LOOK_S


def test_users_of_different_weeks_are_closed_in_turns_of_their_own(desk: Desk) -> None:
    """Each for the week that is over in his partition, though all of them wait."""
    users = quiet(desk, 60)
    behind = {p for p in range(PARTITIONS) if p != PARTITION_OF(b"mover")}
    weeks = Weeks(desk, lagging={("interactions", partition) for partition in behind})
    move(desk, 3)
    for partition in behind:
        desk.event_time.reach(("interactions", partition), START.timestamp() + WEEK_S)
    works = weeks.works()
    assert sorted(closed_users(works)) == sorted(users)
    first = academic.week_of(START.timestamp())
    assert {
        (PARTITION_OF(example.user_id.encode()) in behind, example.week)
        for work in works
        for example in risk_examples(work.outputs)
    } == {(True, first), (False, first + 2)}
    assert all(len({example.week for example in risk_examples(work.outputs)}) == 1 for work in works)


def test_what_is_undone_is_closed_again(desk: Desk) -> None:
    """The records as before, and the users among those who wait, with the same work."""
    users = quiet(desk, 60)
    weeks = Weeks(desk)
    move(desk)
    before = tables(desk, *users)
    works = weeks.works(2, confirmed=False)
    for work in reversed(works):
        work.undo()
    assert tables(desk, *users) == before
    again = weeks.works()
    assert [m for work in again for m in work.outputs] == [m for work in works for m in work.outputs]


def test_users_of_a_lost_partition_are_not_taken_up_again(desk: Desk) -> None:
    """What is undone because a partition has gone is the next owner's; what waits twice is closed once."""
    users = quiet(desk, 100)
    weeks = Weeks(desk)
    move(desk)
    works = weeks.works(2, confirmed=False)
    weeks.owned = {0, 1}
    weeks.closing.due_s()
    for work in reversed(works):
        work.undo()
    closed = closed_users(weeks.works())
    assert sorted(closed) == sorted(user for user in users if PARTITION_OF(user.encode()) in {0, 1})


def test_what_is_undone_when_the_next_week_is_over_is_closed_once(desk: Desk) -> None:
    """Found for the new week, and waiting again from the old one."""
    users = quiet(desk, 40)
    weeks = Weeks(desk)
    move(desk)
    works = weeks.works(1, confirmed=False)
    move(desk, 2)
    weeks.closing.due_s()
    while weeks.closing._scans:
        assert weeks.closing.turn() is None
    works[0].undo()
    assert sorted(closed_users(weeks.works())) == sorted([*users, "mover"])


def test_of_equal_records_the_one_that_is_closed_further_stays() -> None:
    """Written by a worker that no longer owned the partition, an older one comes behind it on the changelog."""
    older, newer = (academic.new_academics(1) for _ in range(2))
    newer["closed"] = 7
    table = ArrayStore(ACADEMIC_LAYOUT)
    values = [codec.encode_academics(each)[0] for each in (newer, older)]
    assert table.restore(0, [b"u", b"u"], values) == [b"u"]
    assert table.gather([b"u"])["closed"].tolist() == [7]


def test_no_more_is_begun_than_can_be_made_safe(desk: Desk) -> None:
    """While works are on their way nobody else's turn comes; it is asked for again after a moment."""
    quiet(desk, 300)
    weeks = Weeks(desk)
    move(desk)
    works = weeks.works(8, confirmed=False)
    assert weeks.closing.due_s() == pytest.approx(0.024)
    weeks.now += 1
    assert weeks.closing.due_s() == pytest.approx(0.024)
    confirm(works[0])
    assert weeks.closing.due_s() == 0


def test_only_our_partitions_are_closed(desk: Desk) -> None:
    """What goes to another worker is left to it, what comes to us is looked at from the beginning."""
    users = quiet(desk, 200)
    of = {user: PARTITION_OF(user.encode()) for user in users}
    weeks = Weeks(desk, {0, 1})
    desk.event_time.reach(("interactions", 0), START.timestamp() + WEEK_S)
    begun = closed_users(weeks.works(1))
    # The week stays over, though the partition that has shown it is another worker's.
    weeks.owned = {1, 2}
    rest = closed_users(weeks.works())
    weeks.owned = {0, 1, 2, 3}
    last = closed_users(weeks.works())
    assert {of[user] for user in begun} <= {0, 1}
    assert {of[user] for user in rest} <= {1, 2}
    assert 2 in {of[user] for user in rest}
    assert sorted(begun + rest + last) == sorted(users)


def test_one_bad_record_keeps_nobody_else_from_being_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user over whose record our own code raises is left out and counted."""
    real = closing.close

    def close(week: Any, user_ids: Sequence[str], *rest: Any) -> Any:
        if "q-7" in user_ids:
            raise ZeroDivisionError("a defect of ours")
        return real(week, user_ids, *rest)

    monkeypatch.setattr("stream.agents.closing.closing.close", close)
    telemetry: Any = Failing()
    desk.telemetry = telemetry
    users = quiet(desk, 50)
    move(desk)
    assert sorted(closed_users(Weeks(desk).works())) == sorted({*users} - {"q-7"})
    assert telemetry.failures == ["closing"]


async def test_control_topics_that_fail_end_the_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a batch comes or not."""

    class Broken(FakeControl):
        """Control topics that cannot be read."""

        @property
        def is_caught_up(self) -> bool:
            """Fail."""
            raise ControlError("gone")

        @is_caught_up.setter
        def is_caught_up(self, _: bool) -> None:
            """Take no notice."""

    broken: Any = Broken()
    desk.control = broken
    with pytest.raises(ControlError):
        await desk.ready()
    ended: list[BaseException] = []
    monkeypatch.setattr("stream.agents.desk.stop_now", ended.append)
    await desk.refresh_idle()
    assert [type(error) for error in ended] == [ControlError]
