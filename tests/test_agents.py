"""The handlers on a desk without a broker: what they return, what they change, and what undoing leaves."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import faust
import orjson
import pytest

from schemas import ItemParameters
from stream.agents import academics, erasure, interactions, requests
from stream.agents.control import Live
from stream.agents.desk import Desk
from stream.app import ACADEMIC_LAYOUT, learner_layout
from stream.errors import ControlError
from stream.intake import Limits
from stream.models.fallback import Fallback
from stream.models.items import ItemTable
from stream.pipeline import Models
from stream.ports import Message, Record
from stream.state import academic, codec, learner
from stream.state.arrays import ArrayStore
from stream.state.names import Names
from stream.state.tables import NameTable, RecordTable
from stream.telemetry import Silent
from stream.transport.changelogs import Part
from stream.transport.partitioner import Partitioner
from stream.transport.settlement import Change, Work
from tests import networks
from tests.fakes import PoisonedPredictor
from tests.worlds import NOW, PREDICTIONS, moment

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


@dataclass
class Counting(Silent):
    """Telemetry and a read model that remember."""

    reads: dict[str, int] = field(default_factory=dict)
    said: list[tuple[str, ...]] = field(default_factory=list)
    repeats: int = 0
    predictions: dict[str, int] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)

    def read(self, kind: str, count: int) -> None:
        """Remember it."""
        self.reads[kind] = self.reads.get(kind, 0) + count

    def predicted(self, kind: str, count: int) -> None:
        """Remember it."""
        self.predictions[kind] = self.predictions.get(kind, 0) + count

    def repeated(self, count: int) -> None:
        """Remember it."""
        self.repeats += count

    def dead(self, reason: str) -> None:
        """Remember it."""
        self.said.append(("dead", reason))

    def model(self, version: int) -> None:
        """Remember it."""
        self.versions.append(version)

    def offer(self, user_id: str, kind: str, prediction: bytes) -> None:
        """Remember it."""
        self.said.append(("offered", user_id, kind))

    def forget(self, user_id: str) -> None:
        """Remember it."""
        self.said.append(("forgot", user_id))


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
    assert told.reads == {"tombstone": 0, "quiz_complete": 1}
    assert {said[2] for said in told.said if said[0] == "offered"} == {"correctness", "time", "risk"}
    assert told.predictions["time"] == 1


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
    assert told.repeats == 2


def test_an_academic_event_is_scored_and_kept(desk: Desk) -> None:
    """A risk goes out, the weekly steps to their own changelog."""
    work = academics.handle([grade(0), grade(1, "u-2")], desk)
    assert topics(work.outputs) == ["predictions.risk"] * 2
    assert [(c.topic, c.partition, c.key) for c in work.changes] == [
        ("g-academics-changelog", PARTITION_OF(user), user) for user in (b"u-1", b"u-2")
    ]
    assert list(work.ahead) == []
    assert desk.academics.get_records([b"u-1"])["events"].tolist() == [1]


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
    assert told.reads["tombstone"] == 1


@pytest.mark.parametrize("handle", [interactions.handle, academics.handle, erasure.handle, requests.handle])
def test_a_batch_of_nothing_but_bad_events_is_work_too(desk: Desk, told: Counting, handle: Any) -> None:
    """Their letters must be safe before they are committed, and nothing is put anywhere."""
    work = handle([Record("interactions", 0, 5, b"u-9", b"{", 0.0)], desk)
    assert topics(work.outputs) == ["dead-letters"]
    assert (list(work.changes), list(work.ahead)) == ([], [])
    work.undo()
    confirm(work)
    assert ("dead", "not_json") in told.said


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
    assert told.reads["erasure"] == 1


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
    assert told.repeats == 2


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
    assert told.reads["prediction_request"] == 2
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
    control.live, control.is_caught_up = Live(desk.models.fallback), False
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
    control.live = Live(champion, on_trial, 0.25)
    desk.refresh()
    assert (desk.models.predictor, desk.models.challenger, desk.models.share) == (champion, on_trial, 0.25)
    confirm(interactions.handle([answer(0), answer(1, "u-2")], desk))
    assert desk.beside is not None
    assert len(desk.beside) == 2
    confirm(erasure.handle([erase(0)], desk))
    assert len(desk.beside) == 1
    interactions.handle([answer(2, "u-2")], desk).undo()
    assert len(desk.beside) == 0
    control.live = Live(on_trial)
    desk.refresh()
    assert desk.models.predictor is on_trial
    assert desk.models.challenger is None
    assert desk.beside is None


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
