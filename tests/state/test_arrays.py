"""`ArrayStore`: a dictionary of records that is read and written a batch at a time, and restored in any order."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.state.arrays import ArrayStore, Layout, Records

DTYPE = np.dtype([("seen", "<i8"), ("erasure_seen", "<i8"), ("value", "<u4", (3,))])

Seen = tuple[int, int]


def _empty(count: int) -> Records:
    records = np.zeros(count, DTYPE)
    records["seen"] = records["erasure_seen"] = -1
    return records


def _encode(records: Records) -> list[bytes]:
    return [row.tobytes() for row in records]


def _decode(values: Sequence[bytes]) -> Records:
    return np.frombuffer(b"".join(values), DTYPE)


LAYOUT = Layout(_empty, _encode, _decode, ("seen", "erasure_seen"))


def record(seen: int, erasure_seen: int = -1, value: int = 0) -> Records:
    """Return one record, `(1,)`."""
    one = _empty(1)
    one["seen"], one["erasure_seen"], one["value"] = seen, erasure_seen, (value, value + 1, value + 2)
    return one


def packed(seen: int, erasure_seen: int = -1, value: int = 0) -> bytes:
    """Return one record as a changelog has it."""
    return record(seen, erasure_seen, value).tobytes()


def user(number: int) -> bytes:
    """Return a user's key."""
    return b"u-%d" % number


def contents(store: ArrayStore) -> dict[bytes, bytes]:
    """Return all that a store holds."""
    users = list(store)
    return dict(zip(users, _encode(store.gather(users)), strict=True))


users = st.integers(0, 30)
puts = st.lists(users, unique=True, max_size=12)
steps = st.one_of(
    st.tuples(st.just("put"), puts),
    st.tuples(st.just("get"), st.lists(users, max_size=12)),
    st.tuples(st.just("remove"), puts),
    st.tuples(st.just("drop"), st.lists(st.integers(0, 2), max_size=1)),
)


# Blocks of 1 to 64 rows: one block, a few, and more than are gone through one by one.
@pytest.mark.parametrize("block_rows", [1, 3, 64])
@given(sequence=st.lists(steps, max_size=40))
def test_it_is_a_dictionary(block_rows: int, sequence: list[tuple[str, list[int]]]) -> None:
    """Whatever is put, removed and dropped, the store holds what a dictionary would."""
    store, model, count = ArrayStore(LAYOUT, block_rows), dict[bytes, bytes](), 0
    for act, numbers in sequence:
        names = [user(number) for number in numbers]
        if act == "put":
            records = _decode([packed(count + i, value=count + i) for i in range(len(names))])
            count += len(names)
            store.scatter(names, [number % 3 for number in numbers], records)
            model.update(zip(names, _encode(records), strict=True))
        elif act == "get":
            assert _encode(store.gather(names)) == [model.get(name, _empty(1).tobytes()) for name in names]
        elif act == "remove":
            for number, name in zip(numbers, names, strict=True):
                assert store.restore(number % 3, [name], [None]) == []
                model.pop(name, None)
        else:
            for partition in numbers:
                store.drop(partition)
                model = {name: value for name, value in model.items() if int(name[2:]) % 3 != partition}
        assert contents(store) == model
        assert len(store) == len(model)
        assert {user(number) for number in range(31) if user(number) in store} == set(model)
    for partition in range(3):
        assert sorted(store.users(partition)) == sorted(name for name in model if int(name[2:]) % 3 == partition)


def test_a_batch_over_many_blocks_is_scattered_and_gathered_in_its_order() -> None:
    """Twenty blocks, a batch in no order, users of whom nothing is known among it."""
    store, random = ArrayStore(LAYOUT, block_rows=4), np.random.default_rng(5)
    names = [user(number) for number in range(80)]
    for _ in range(5):
        order = random.permutation(80)
        records = _empty(80)
        records["seen"] = random.integers(0, 1000, 80)
        store.scatter([names[i] for i in order], [0] * 80, records[order])
        asked = random.permutation(100)[:50]
        found = store.gather([user(int(i)) for i in asked])
        assert found["seen"].tolist() == [records["seen"][i] if i < 80 else -1 for i in asked]
    assert len(store._blocks) == 20


def test_what_is_gathered_is_a_copy() -> None:
    """Who changes what was gathered, or what was scattered, changes nothing that is kept."""
    for block_rows in (1, 2, 64):
        store = ArrayStore(LAYOUT, block_rows)
        names, records = [user(number) for number in range(10)], _empty(10)
        records["seen"] = 7
        store.scatter(names, [0] * 10, records)
        records["seen"] = 8
        found = store.gather([*names, b"nobody"])
        found["seen"] = 9
        found["value"] = 9
        assert store.gather(names)["seen"].tolist() == [7] * 10
        assert store.gather([b"nobody"]) == _empty(1)


def test_rows_of_the_forgotten_are_used_again() -> None:
    """As many users come as go: the arrays do not grow, and nothing of those who went is left."""
    store = ArrayStore(LAYOUT, block_rows=4)
    for turn in range(10):
        names = [b"%d-%d" % (turn, i) for i in range(8)]
        assert store.gather(names)["seen"].tolist() == [-1] * 8
        store.scatter(names, [turn % 2] * 8, _decode([packed(turn)] * 8))
        store.drop(turn % 2)
    assert len(store) == 0
    assert len(store._blocks) == 2
    store.scatter([b"new"], [3], record(1))
    assert (store.users(0), store.users(1), store.users(3)) == ([], [], [b"new"])


def test_the_bytes_of_a_store_are_those_of_its_rows() -> None:
    """Of every row that was ever used: what was freed is used again, and is not given back."""
    store = ArrayStore(LAYOUT)
    assert store.size_bytes == 0
    store.scatter([user(number) for number in range(5)], [0] * 5, _empty(5))
    assert store.size_bytes == 5 * DTYPE.itemsize
    store.remove(user(2))
    assert store.size_bytes == 5 * DTYPE.itemsize
    store.scatter([user(9)], [0], _empty(1))
    assert store.size_bytes == 5 * DTYPE.itemsize


def test_a_block_is_only_reserved() -> None:
    """Growing by a block that would take 3.5 GiB if it were written costs next to nothing."""
    large = np.dtype([("seen", "<i8"), ("value", "V65536")])
    layout = Layout(lambda count: np.zeros(count, large), _encode, _decode, ("seen",))
    store = ArrayStore(layout, block_rows=56_000)
    store.scatter([b"u"], [0], np.ones(1, large))
    assert store.gather([b"u"])["seen"] == 1
    assert _resident_bytes() < 2 * 2**30


def _resident_bytes() -> int:
    """Return the memory that this process has touched; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as status:  # noqa: PTH123 (no file on a disk)
            return int(status.read().split()[1]) * 4096
    except OSError:
        return 0


written = st.lists(
    st.tuples(st.integers(0, 4), st.none() | st.tuples(st.integers(-1, 4), st.integers(-1, 2))), max_size=30
)


def restored(store: ArrayStore, changes: Sequence[tuple[int, bytes | None]], *cuts: int) -> set[bytes]:
    """Restore a changelog, cut into parts, and return whose records are to be written again, as a table counts them."""
    outdated = set[bytes]()
    bounds = [0, *sorted(cut for cut in cuts if cut < len(changes)), len(changes)]
    for start, end in itertools.pairwise(bounds):
        part = changes[start:end]
        names = [user(number) for number, _ in part]
        found = store.restore(1, names, [value for _, value in part])
        assert len(found) == len(set(found))
        outdated = outdated.difference(names) | set(found)
    return outdated


@given(log=written, cuts=st.lists(st.integers(1, 29), max_size=4))
def test_the_record_that_has_seen_most_stays_whenever_it_was_written(
    log: list[tuple[int, Seen | None]], cuts: list[int]
) -> None:
    """
    What is restored is, of each user since its last removal, the most seen record; of equal ones the later.

    The users whose last written record is another one are told, and no others.
    """
    changes = [(n, None if seen is None else packed(*seen, value=i)) for i, (n, seen) in enumerate(log)]
    best, last = dict[bytes, bytes](), dict[bytes, bytes]()
    most = dict[bytes, Seen]()
    for (number, seen), (_, value) in zip(log, changes, strict=True):
        name = user(number)
        if seen is None or value is None:
            for known in (best, last, most):
                known.pop(name, None)
            continue
        last[name] = value
        if name not in most or seen >= most[name]:
            best[name], most[name] = value, seen
    store = ArrayStore(LAYOUT, block_rows=2)
    outdated = restored(store, changes, *cuts)
    assert contents(store) == best
    assert outdated == {name for name in best if best[name] != last[name]}
    assert set(store.users(1)) == set(best)


@given(order=st.permutations(list(range(6))))
def test_the_order_of_a_changelog_does_not_matter(order: list[int]) -> None:
    """The same records of different ages, written in any order, restore the same."""
    ages = [(-1, -1), (0, -1), (0, 0), (3, -1), (3, 2), (9, -1)]
    store = ArrayStore(LAYOUT)
    outdated = store.restore(0, [b"u"] * 6, [packed(*ages[i], value=i) for i in order])
    assert contents(store) == {b"u": packed(9, -1, value=5)}
    assert outdated == ([] if order[-1] == 5 else [b"u"])


def test_a_held_record_is_no_older_than_what_is_read_again() -> None:
    """A changelog read over what memory holds already takes nothing back."""
    store = ArrayStore(LAYOUT)
    store.scatter([b"u"], [1], record(7, value=1))
    assert store.restore(1, [b"u"], [packed(5)]) == [b"u"]
    assert contents(store) == {b"u": packed(7, value=1)}
    assert store.restore(1, [b"u"], [packed(7, value=2)]) == []
    assert contents(store) == {b"u": packed(7, value=2)}


def test_an_empty_record_is_kept_for_what_it_is() -> None:
    """A stored record that has seen nothing makes its user known; the emptiness of a user without one does not."""
    store = ArrayStore(LAYOUT)
    assert store.restore(0, [b"u"], [packed(-1, value=3)]) == []
    assert contents(store) == {b"u": packed(-1, value=3)}
    assert store.restore(0, [], []) == []


def test_what_is_outdated_only_for_a_moment_is_not_told() -> None:
    """Within one part, too, what counts is the last written record, not one that was outdated before it."""
    names: list[Any] = [b"u", b"u", b"v", b"u"]
    assert ArrayStore(LAYOUT).restore(0, names, [packed(5), packed(3), None, packed(7)]) == []
    names = [b"u", b"u", b"u"]
    assert ArrayStore(LAYOUT).restore(0, names, [packed(5), packed(3), None]) == []
    names = [b"u", b"u", b"v", b"u"]
    assert ArrayStore(LAYOUT).restore(0, names, [packed(5), packed(3), None, packed(4)]) == [b"u"]
