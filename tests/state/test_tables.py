"""Tables on a Faust app that reaches no broker: what has to reach a changelog, and what comes back from one."""

import tempfile
from typing import Any

import faust
import pytest
from faust.types import TP

from stream.app import ACADEMIC_LAYOUT, learner_layout
from stream.errors import StateError
from stream.state import codec, learner
from stream.state.arrays import ArrayStore, Records
from stream.state.learner import key64
from stream.state.names import Names
from stream.state.tables import NameTable, OurTable, RecordTable
from stream.transport.changelogs import Part
from stream.transport.settlement import Change

CHANGELOG, NAMES = "g-learners-changelog", "g-names-changelog"
REMEMBERED = 5


@pytest.fixture
async def app() -> faust.App:
    """Return an app that is never started; made where a loop runs, or Faust would make one and leave it open."""
    return faust.App(
        "g",
        broker="kafka://127.0.0.1:1",
        store="memory://",
        datadir=tempfile.gettempdir(),
        topic_partitions=4,
        web_enabled=False,
    )


@pytest.fixture
def table(app: faust.App) -> RecordTable:
    """Return the table of learners."""
    return RecordTable(app, "learners", ArrayStore(learner_layout(REMEMBERED)))


def records(*seen: int, views: int = 0) -> Records:
    """Return records that have seen these offsets."""
    rows = learner.new_learners(len(seen), REMEMBERED)
    rows["seen"], rows["views"] = seen, views
    return rows


def part(keys: list[bytes], values: list[bytes | None], partition: int = 2, topic: str = CHANGELOG) -> Part:
    """Return a part of a changelog."""
    return Part((topic, partition), keys, values, len(keys))


def packed(*seen: int, views: int = 0) -> list[bytes | None]:
    """Return records as a changelog has them."""
    return [*codec.encode_learners(records(*seen, views=views))]


def whole(table: RecordTable, partition: int) -> list[tuple[bytes, bytes]]:
    """Return the users of a partition and their records' bytes."""
    return [
        (user, row.tobytes())
        for users, rows in table.of_partition(partition)
        for user, row in zip(users, rows, strict=True)
    ]


def test_what_was_put_must_reach_the_users_partition_of_the_changelog(table: RecordTable) -> None:
    """One change a user: the changelog as the broker has it, the user's partition, the record's bytes."""
    rows = records(7, 9)
    assert table.put([b"a", b"b"], [2, 0], rows) == [
        Change(CHANGELOG, 2, b"a", codec.encode_learners(rows)[0]),
        Change(CHANGELOG, 0, b"b", codec.encode_learners(rows)[1]),
    ]
    assert table.get_records([b"b", b"a", b"c"])["seen"].tolist() == [9, 7, -1]
    assert table.put([], [], rows[:0]) == []


def test_a_change_keeps_the_bytes_of_its_moment(table: RecordTable) -> None:
    """What waits to be sent is not changed by what is put after it."""
    (first,) = table.put([b"a"], [2], records(7))
    table.put([b"a"], [2], records(8))
    assert first.value == packed(7)[0]


def test_a_put_is_undone(table: RecordTable) -> None:
    """Every user's record is what it was, byte for byte; one who had none reads as new again."""
    table.put([b"a"], [2], records(7, views=3))
    names = [b"a", b"new"]
    before = table.get_records(names)
    table.put(names, [2, 1], records(8, 0))
    table.put_back(names, [2, 1], before)
    assert table.get_records(names).tobytes() == before.tobytes()
    assert table.get_records([b"new"]) == learner.new_learners(1, REMEMBERED)


def test_what_is_restored_is_what_was_put(app: faust.App, table: RecordTable) -> None:
    """The changes of one worker, read by another, give the same users with the same records in the same partitions."""
    changes = [*table.put([b"a", b"b"], [2, 0], records(7, 9)), *table.put([b"a"], [2], records(8, views=1))]
    other = RecordTable(app, "again", ArrayStore(learner_layout(REMEMBERED)))
    for partition in range(4):
        its = [change for change in changes if change.partition == partition]
        other.restore(part([change.key for change in its], [change.value for change in its], partition))
    for partition in range(4):
        assert whole(other, partition) == whole(table, partition)
    assert [user for user, _ in whole(other, 2)] == [b"a"]
    assert other.to_repair({0, 1, 2, 3}) == []


def test_a_tombstone_removes_a_user(table: RecordTable) -> None:
    """None in a changelog: nothing is known of the user any more."""
    table.restore(part([b"a", b"b", b"a"], [*packed(7, 8), None]))
    assert [user for user, _ in whole(table, 2)] == [b"b"]


def test_only_the_partition_is_dropped(table: RecordTable) -> None:
    """What belongs to another partition stays, and what was to be repaired of the dropped one is forgotten too."""
    table.put([b"a", b"b", b"c"], [2, 0, 2], records(1, 2, 3))
    table.restore(part([b"a"], packed(0)))
    table.drop(2)
    assert whole(table, 2) == []
    assert [user for user, _ in whole(table, 0)] == [b"b"]
    assert table.to_repair({0, 2}) == []
    table.drop(3)


def test_a_record_that_was_written_after_a_newer_one_is_repaired(table: RecordTable) -> None:
    """Of whom an older record stands last, the best is written again: once, and of the partitions asked for only."""
    table.restore(part([b"a", b"b", b"a"], packed(7, 5, 6)))
    table.restore(part([b"c", b"c"], packed(4, 1), partition=0))
    assert table.to_repair({1}) == []
    (expected,) = packed(7)
    assert expected is not None
    assert table.to_repair({2}) == [Change(CHANGELOG, 2, b"a", expected)]
    assert table.to_repair({2}) == []
    assert [change.key for change in table.to_repair({0, 1, 2})] == [b"c"]


def test_what_a_later_part_puts_right_is_not_repaired(table: RecordTable) -> None:
    """A changelog is read in parts: the newer record may come in the next one, or the user's removal."""
    table.restore(part([b"a", b"a", b"b", b"b"], packed(7, 6, 3, 2)))
    table.restore(part([b"a", b"b"], [*packed(8), None]))
    assert table.to_repair({2}) == []
    assert [user for user, _ in whole(table, 2)] == [b"a"]


def test_a_user_who_was_removed_is_not_repaired(table: RecordTable) -> None:
    """An outdated record that a removal follows in the same part is nothing to write again."""
    table.restore(part([b"a", b"a", b"a"], [*packed(7, 6), None]))
    assert table.to_repair({2}) == []


def test_a_repair_writes_what_is_held_then(table: RecordTable) -> None:
    """What was put since the reading is not overwritten by the state of the reading."""
    table.restore(part([b"a", b"a"], packed(7, 6)))
    table.put([b"a"], [2], records(9))
    assert [change.value for change in table.to_repair({2})] == packed(9)


def test_a_foreign_record_stops_the_worker(table: RecordTable) -> None:
    """A changelog that holds something else is never guessed at."""
    with pytest.raises(StateError, match="table learners"):
        table.restore(part([b"a"], [b"\x21" + bytes(100)]))


def test_faust_reads_and_never_writes(table: RecordTable) -> None:
    """Faust lists a table's packed records; each of its own ways of writing is refused and changes nothing."""
    table.put([b"a"], [2], records(7))
    before = {b"a": packed(7)[0]}
    assert dict(table) == before
    assert (b"a" in table, b"b" in table, len(table)) == (True, False, 1)
    with pytest.raises(KeyError):
        table[b"b"]
    writing: list[Any] = [
        lambda: table.__setitem__(b"b", b"x"),
        lambda: table.__setitem__(b"a", b"x"),
        lambda: table.__delitem__(b"a"),
        lambda: table.pop(b"a"),
        table.clear,
        lambda: table.update({b"a": b"x"}),
        lambda: table.setdefault(b"b", b"x"),
    ]
    for write in writing:
        with pytest.raises(NotImplementedError, match=r"put\(\)"):
            write()
    data: Any = table.data
    for write in (lambda: data.__setitem__(b"a", b"x"), lambda: data.__delitem__(b"a")):
        with pytest.raises(TypeError):
            write()
    assert dict(table) == before


async def test_faust_restores_and_drops_nothing(table: RecordTable) -> None:
    """Faust's own recovery and its dropping of partitions go past what is kept."""
    table.put([b"a"], [2], records(7))
    store: Any = table.data
    store.apply_changelog_batch([object()], lambda key: key, lambda value: value)
    await store.on_recovery_completed(set(), {TP(CHANGELOG, 2)})
    assert table.get_records([b"a"])["seen"].tolist() == [7]


async def test_records_are_checked_after_recovery(table: RecordTable) -> None:
    """Whoever wants to look is told once of active partitions that were read, not of standbys or of what stayed."""
    told = []

    async def check(partitions: set[int]) -> None:
        told.append(partitions)

    table.check_recovered = check
    for partition in (1, 2):
        table.restore(Part((CHANGELOG, partition), [b"a"], packed(7), 1))
    await table.on_recovery_completed({TP(CHANGELOG, 1), TP(CHANGELOG, 3)}, {TP(CHANGELOG, 2)})
    await table.on_recovery_completed({TP(CHANGELOG, 1), TP(CHANGELOG, 3)}, {TP(CHANGELOG, 2)})
    assert told == [{1}, set()]


def test_academic_records_have_a_table_too(app: faust.App) -> None:
    """Another layout, its own changelog; each table takes its own records only."""
    table = RecordTable(app, "academics", ArrayStore(ACADEMIC_LAYOUT))
    rows = ACADEMIC_LAYOUT.empty(1)
    rows["seen"] = 4
    (change,) = table.put([b"a"], [1], rows)
    assert change == Change("g-academics-changelog", 1, b"a", codec.encode_academics(rows)[0])
    with pytest.raises(StateError, match="table academics"):
        table.restore(part([b"a"], packed(7)))


def test_names_go_to_each_partition_once(app: faust.App) -> None:
    """A name's change is of its partition; what was undone is written again, what was stored is not."""
    table = NameTable(app, "names", Names())
    changes = table.put(1, ["ratios", "größe", "ratios"])
    assert changes == [Change(NAMES, 1, name.encode(), name.encode()) for name in ("ratios", "größe")]
    assert table.put(1, ["größe", "ratios"]) == []
    assert table.put(3, ["ratios"]) == [Change(NAMES, 3, b"ratios", b"ratios")]
    table.put_back(changes[1:])
    assert table.put(1, ["ratios", "größe"]) == changes[1:]


def test_names_come_back_from_the_changelog(app: faust.App) -> None:
    """A new worker knows them by their keys, and does not write them again; after a drop it would."""
    names, other = Names(), Names()
    changes = NameTable(app, "names", names).put(1, ["ratios", "größe"])
    table = NameTable(app, "others", other)
    table.restore(part([c.key for c in changes], [c.value for c in changes], 1, NAMES))
    assert [other.name(key64(name)) for name in ("ratios", "größe", "area")] == ["ratios", "größe", None]
    assert table.put(1, ["ratios", "größe"]) == []
    assert len(table.put(2, ["ratios"])) == 1
    assert table.to_repair({1, 2}) == []
    table.drop(1)
    assert len(table.put(1, ["ratios"])) == 1
    assert other.name(key64("größe")) == "größe"


def test_a_table_has_to_say_how_it_is_restored(app: faust.App) -> None:
    """What the two kinds of tables share does neither by itself, and repairs nothing."""
    table = OurTable(app, "bare", {})
    with pytest.raises(NotImplementedError):
        table.drop(0)
    assert table.to_repair({0}) == []
