"""`Held.plan`: which changelogs an assignment has read, from where, and what memory must forget first."""

from hypothesis import given
from hypothesis import strategies as st

from stream.transport.progress import Place
from stream.transport.recovery import Held, Plan

A, B, C, D = (("learners", partition) for partition in range(4))

places = st.sets(st.tuples(st.sampled_from(["learners", "names"]), st.integers(0, 3)), max_size=8)


@st.composite
def helds(draw: st.DrawFn) -> Held:
    """Draw what memory may hold: a partition is whole and ours, or read up to an offset, or neither."""
    active = draw(places)
    offsets = draw(st.dictionaries(st.sampled_from(sorted(draw(places) | {A})), st.integers(0, 5)))
    return Held(draw(st.integers(3, 9)), active, {place: o for place, o in offsets.items() if place not in active})


def test_at_first_everything_is_read_from_the_beginning() -> None:
    """A new worker holds nothing, so there is nothing to keep or to forget."""
    assert Held().plan(1, {A, B}, {C}) == Plan(set(), {A: 0, B: 0, C: 0}, set())
    assert Held().plan(0, {A}, set()) == Plan(set(), {A: 0}, set())


def test_what_stays_ours_is_kept() -> None:
    """From one generation to the next, and when the same one comes twice, only what is new is read."""
    held = Held(5, {A, B})
    for generation in (5, 6):
        assert held.plan(generation, {A, C}, set()) == Plan({A}, {C: 0}, {B})


def test_whoever_missed_a_generation_trusts_nothing_of_it() -> None:
    """Somebody else may have written meanwhile: it is forgotten and read again."""
    for generation in (3, 4, 7, 100):
        assert Held(5, {A, B}).plan(generation, {A}, set()) == Plan(set(), {A: 0}, {A, B})


def test_a_standby_that_becomes_ours_is_read_on() -> None:
    """From where it stands: that is what standbys are for, whatever generations were missed."""
    for generation in (6, 100):
        assert Held(5, {A}, {B: 70}).plan(generation, {B}, set()) == Plan(set(), {B: 70}, {A})


def test_a_standby_that_stays_one_is_read_on() -> None:
    """It is neither read from the beginning nor forgotten."""
    assert Held(5, {A}, {B: 70, C: 9}).plan(6, {A}, {B}) == Plan({A}, {B: 70}, {C})


def test_what_was_ours_is_no_standby() -> None:
    """Its offset was never counted while we wrote it ourselves: forgotten, and read from the beginning."""
    assert Held(5, {A, B}).plan(6, {A}, {B}) == Plan({A}, {B: 0}, {B})


def test_a_standby_of_which_nothing_was_read_begins() -> None:
    """Offset 0 continues nothing."""
    plan = Held(5, set(), {B: 0}).plan(6, set(), {B})
    assert (plan.kept, plan.read) == (set(), {B: 0})


def test_a_recovery_that_was_broken_off_goes_on() -> None:
    """What had been read of a partition before another rebalance came is in memory: it is read on from there."""
    held = Held(5, {A})
    plan = held.plan(6, {A, B, C}, set())
    interrupted = Held(6, plan.kept, {place: offset for place, offset in plan.read.items() if offset})
    interrupted.standby[B] = 40  # read so far; C had not begun
    assert interrupted.plan(7, {A, B, C}, {D}) == Plan({A}, {B: 40, C: 0, D: 0}, set())
    assert interrupted.plan(7, {A}, set()) == Plan({A}, {}, {B})


@given(held=helds(), generation=st.integers(3, 11), active=places, standby=places)
def test_what_memory_holds_afterwards_is_right(
    held: Held, generation: int, active: set[Place], standby: set[Place]
) -> None:
    """Every assigned partition is kept or read, and nothing is left that is neither kept nor read on."""
    standby -= active
    plan = held.plan(generation, active, standby)
    in_memory = held.active | {place for place, offset in held.standby.items() if offset}
    continued = {place for place, offset in plan.read.items() if offset}
    # Each active partition is either kept or read; each standby is read; nothing else is.
    assert plan.kept | set(plan.read) == active | standby
    assert plan.kept.isdisjoint(plan.read)
    assert plan.kept <= active
    # What is kept was whole and ours, in this generation or the one before.
    assert plan.kept <= held.active
    assert not plan.kept or generation in (held.generation, held.generation + 1)
    if generation in (held.generation, held.generation + 1):
        assert plan.kept == held.active & active
    # What is read on is in memory up to that very offset; what is read from the beginning is not in memory.
    assert all(held.standby[place] == plan.read[place] for place in continued)
    assert {place for place, offset in held.standby.items() if offset} & set(plan.read) == continued
    assert (in_memory - plan.dropped) & set(plan.read) == continued
    # Whatever stays is kept or read on; nothing that stays is dropped.
    assert in_memory - plan.dropped == plan.kept | continued
    assert plan.dropped.isdisjoint(plan.kept | continued)
    assert plan.dropped <= held.active | set(held.standby)


@given(held=helds(), assignments=st.lists(st.tuples(st.integers(0, 2), places, places), max_size=6))
def test_planning_changes_nothing(held: Held, assignments: list[tuple[int, set[Place], set[Place]]]) -> None:
    """The same assignment gives the same plan, and a plan may be changed without harm."""
    before = Held(held.generation, set(held.active), dict(held.standby))
    for step, active, standby in assignments:
        first = held.plan(held.generation + step, active, standby - active)
        copy = Plan(set(first.kept), dict(first.read), set(first.dropped))
        first.kept.clear()
        first.read.clear()
        first.dropped.clear()
        assert held == before
        assert held.plan(held.generation + step, active, standby - active) == copy
