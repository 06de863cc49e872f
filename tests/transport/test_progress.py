"""`Progress`: whatever is lost between a fetch and an agent is read again, and nothing is processed twice."""

from hypothesis import given
from hypothesis import strategies as st

from stream.health import Standing
from stream.ports import Record
from stream.transport.progress import IDLE_S, LONGEST_IDLE_S, Batch, Place, Progress, Stamp

PLACE: Place = ("interactions", 3)


def records(first: int, last: int) -> list[Record]:
    """Return records of one partition, both ends included."""
    return [Record(*PLACE, offset, b"u", b"{}", 0.0) for offset in range(first, last + 1)]


def begun(offset: int = 100) -> Progress:
    """Return progress of one partition that is to be read from an offset, its first seek taken."""
    progress = Progress()
    progress.expect(PLACE, offset, now=0.0)
    assert progress.take_seeks() == {PLACE: offset}
    return progress


def fetch(progress: Progress, first: int, last: int) -> Batch:
    """Return a batch as if it had just been fetched."""
    stamp = progress.stamp(PLACE, progress.epochs(), last + 1)
    assert stamp is not None
    return Batch(stamp, records(first, last))


def offsets(batch: Batch | None) -> list[int]:
    """Return the offsets of what was admitted."""
    return [] if batch is None else [record.offset for record in batch.records]


def process(progress: Progress, batch: Batch, now: float = 0.0) -> list[int]:
    """Admit and settle a batch as an agent does, and return what it processed."""
    admitted = progress.admit(batch, now)
    if admitted is not None:
        progress.settle(admitted, now)
    return offsets(admitted)


def test_batches_in_order_are_processed_and_may_be_committed() -> None:
    """What is settled moves the offset that may be committed; what is only admitted does not."""
    progress = begun()
    assert progress.safe(PLACE) == 100
    admitted = progress.admit(fetch(progress, 100, 109), now=0.0)
    assert admitted is not None
    assert progress.safe(PLACE) == 100
    progress.settle(admitted, now=0.0)
    assert progress.safe(PLACE) == 110
    assert process(progress, fetch(progress, 110, 111)) == [110, 111]


def test_a_partition_is_caught_up_once_all_before_its_end_is_processed() -> None:
    """Not before its end was seen, not while what was fetched before that waits, not once there is more."""
    progress = begun()
    assert not progress.is_caught_up(PLACE)
    progress.ended(PLACE, progress.epochs())
    assert progress.is_caught_up(PLACE)  # nothing was there to read
    batch = fetch(progress, 100, 104)
    assert not progress.is_caught_up(PLACE)
    progress.ended(PLACE, progress.epochs())
    assert not progress.is_caught_up(PLACE)
    process(progress, batch)
    assert progress.is_caught_up(PLACE)
    assert not progress.is_caught_up(("interactions", 4))


def test_a_partition_that_ends_in_markers_is_not_read_again() -> None:
    """Transactions leave offsets behind the last record: the end has been seen, and nothing is missing."""
    progress = begun()
    process(progress, fetch(progress, 100, 104))
    progress.ended(PLACE, progress.epochs())
    before = progress.epochs()
    for now in range(0, 10_000, 100):
        progress.check_idle({PLACE: 106}, float(now))
    assert progress.epochs() == before
    # What has come behind the markers, and is not heard of, is read again as anywhere else.
    for now in range(10_000, 10_010):
        progress.check_idle({PLACE: 110}, float(now))
    assert progress.take_seeks() == {PLACE: 105}


def test_a_partition_stands_where_it_is_processed_and_committed() -> None:
    """What waits is lag; what is processed is due until it is committed, however safe it is."""
    progress = begun()
    assert progress.standing(PLACE, 0) == Standing(0, 100, 100)
    batch = progress.admit(fetch(progress, 100, 109), now=0.0)
    assert batch is not None
    assert progress.standing(PLACE, 130) == Standing(130, 110, 100)
    progress.settle(batch, now=0.0)
    progress.committed({PLACE: 105, ("interactions", 9): 7})
    progress.committed({PLACE: 102})
    assert progress.standing(PLACE, 110) == Standing(110, 110, 105)
    progress._again(PLACE, 110, now=0.0)
    assert progress.standing(PLACE, 110) == Standing(110, 110, 105, is_unread=True)


def test_a_partition_that_is_ours_and_not_read_yet_is_due() -> None:
    """Whether reading was never told to begin, or begins anew: until the consumer has been moved, nothing is known."""
    progress = Progress()
    assert progress.standing(PLACE, 0).is_due
    progress.expect(PLACE, 100, now=0.0)
    assert progress.standing(PLACE, 0) == Standing(0, 100, 100, is_unread=True)
    progress.take_seeks()
    assert not progress.standing(PLACE, 0).is_due
    progress.rewind(PLACE, now=1.0)
    assert progress.standing(PLACE, 0).is_due


def test_markers_of_transactions_are_no_lag() -> None:
    """Not from the moment at which the broker says that a partition ends until it ends somewhere else."""
    progress = begun()
    assert process(progress, fetch(progress, 100, 109)) == list(range(100, 110))
    progress.committed({PLACE: 110})
    assert progress.standing(PLACE, 112) == Standing(112, 110, 110)
    progress.ended(PLACE, progress.epochs())
    assert progress.standing(PLACE, 112) == Standing(110, 110, 110)
    progress.check_idle({PLACE: 112}, now=1.0)
    assert progress.standing(PLACE, 112) == Standing(110, 110, 110)
    assert progress.standing(PLACE, 115) == Standing(115, 110, 110)
    # They were the markers of more transactions, and nothing to read.
    progress.ended(PLACE, progress.epochs())
    assert progress.standing(PLACE, 115) == Standing(110, 110, 110)
    progress.check_idle({PLACE: 115}, now=2.0)
    assert progress.standing(PLACE, 115) == Standing(110, 110, 110)
    assert progress.standing(PLACE, 116).is_due


def test_an_end_that_was_seen_before_reading_began_anew_says_nothing() -> None:
    """Neither one of before, nor one whose fetch began before, nor one from before the consumer was moved."""
    progress = begun()
    before = progress.epochs()
    progress.ended(PLACE, before)
    progress.rewind(PLACE, now=1.0)
    assert not progress.is_caught_up(PLACE)
    for epochs in (before, progress.epochs()):
        progress.ended(PLACE, epochs)
        assert not progress.is_caught_up(PLACE)
    progress.take_seeks()
    progress.ended(PLACE, before)
    assert not progress.is_caught_up(PLACE)
    progress.ended(PLACE, progress.epochs())
    assert progress.is_caught_up(PLACE)


def test_a_lost_batch_is_read_again_before_what_follows_it() -> None:
    """A gap within an epoch is no record lost: nothing is processed until reading has begun anew before it."""
    progress = begun()
    assert process(progress, fetch(progress, 100, 104)) == [100, 101, 102, 103, 104]
    fetch(progress, 105, 105)  # never arrives
    late, later = fetch(progress, 106, 110), fetch(progress, 111, 115)
    assert process(progress, late) == []
    assert process(progress, later) == []
    assert progress.take_seeks() == {PLACE: 105}
    assert process(progress, fetch(progress, 105, 115)) == list(range(105, 116))


def test_a_gap_in_the_topic_is_believed() -> None:
    """Transaction markers and compacted records leave gaps, at the beginning of an epoch and later on."""
    progress = begun()
    assert process(progress, fetch(progress, 103, 104)) == [103, 104]
    assert process(progress, fetch(progress, 108, 109)) == [108, 109]
    assert progress.take_seeks() == {}


def test_a_gap_behind_a_lost_batch_is_read_again() -> None:
    """Of the first batch of an epoch too: what was fetched and has not arrived here is missed."""
    progress = begun()
    fetch(progress, 103, 104)  # never arrives
    assert process(progress, fetch(progress, 108, 109)) == []
    assert progress.take_seeks() == {PLACE: 100}
    assert process(progress, fetch(progress, 103, 109)) == list(range(103, 110))


def test_a_fetch_that_began_before_a_seek_is_outdated() -> None:
    """Reading began anew while a fetch was under way: what it brings is dropped, before and after it was stamped."""
    progress = begun()
    epochs = progress.epochs()
    stamped = fetch(progress, 100, 101)
    progress.expect(PLACE, 100, now=0.0)
    assert progress.stamp(PLACE, epochs, 102) is None
    assert process(progress, stamped) == []
    # Until the consumer has been put there, no fetch can be good.
    assert progress.stamp(PLACE, progress.epochs(), 102) is None
    progress.take_seeks()
    assert process(progress, fetch(progress, 100, 101)) == [100, 101]


def test_what_was_processed_already_is_trimmed() -> None:
    """A batch that overlaps what is safe brings only its new records."""
    progress = begun()
    process(progress, fetch(progress, 100, 104))
    assert process(progress, fetch(progress, 102, 106)) == [105, 106]
    assert process(progress, fetch(progress, 100, 106)) == []


def test_a_batch_of_an_earlier_epoch_settles_nothing() -> None:
    """A batch in hand while its partition came back from elsewhere must not move the new beginning."""
    progress = begun()
    admitted = progress.admit(fetch(progress, 100, 109), now=0.0)
    assert admitted is not None
    progress.expect(PLACE, 50, now=0.0)
    progress.settle(admitted, now=0.0)
    assert progress.safe(PLACE) == 50


def test_a_partition_that_stands_still_is_read_again_with_growing_patience() -> None:
    """Records to read, none becoming safe: reading begins anew, twice as late each time, until something comes."""
    progress = begun()
    progress.check_idle({PLACE: 105}, now=IDLE_S - 0.1)
    assert progress.take_seeks() == {}
    now, waits = 0.0, []
    for _ in range(8):
        before = now
        while not progress.take_seeks():
            now += 0.5
            progress.check_idle({PLACE: 105}, now)
        waits.append(now - before)
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == LONGEST_IDLE_S
    assert process(progress, fetch(progress, 100, 102), now) == [100, 101, 102]
    progress.check_idle({PLACE: 105}, now + IDLE_S)
    assert progress.take_seeks() == {PLACE: 103}


def test_a_quiet_partition_is_not_taken_for_a_stalled_one() -> None:
    """After an hour without records the first new one is given its time."""
    progress = begun()
    progress.check_idle({PLACE: 100}, now=3_600.0)
    progress.check_idle({PLACE: 101}, now=3_600.5)
    assert progress.take_seeks() == {}
    assert process(progress, fetch(progress, 100, 100), now=3_600.6) == [100]


def test_a_partition_of_another_worker_is_forgotten() -> None:
    """Nothing of it is admitted, settled or committed."""
    progress = begun()
    batch = fetch(progress, 100, 101)
    progress.forget({PLACE})
    assert process(progress, batch) == []
    assert progress.safe(PLACE) is None
    assert progress.stamp(PLACE, {}, 102) is None
    assert Batch(Stamp(1, after=None), records(1, 1)).place == PLACE


def test_what_is_safe_lags_behind_what_comes_next() -> None:
    """Batches are admitted while earlier ones are on their way; only what is settled may be committed."""
    progress = begun()
    first, second, third = (progress.admit(fetch(progress, 100 + 10 * i, 109 + 10 * i), now=0.0) for i in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert progress.safe(PLACE) == 100
    for batch, safe in ((first, 110), (second, 120), (third, 130)):
        progress.settle(batch, now=0.0)
        assert progress.safe(PLACE) == safe
    progress.settle(first, now=0.0)
    assert progress.safe(PLACE) == 130


def test_what_was_undone_is_read_again_from_what_is_safe() -> None:
    """Everything since is forgotten, also what was fetched or admitted before and comes late."""
    progress = begun()
    safe = progress.admit(fetch(progress, 100, 104), now=0.0)
    assert safe is not None
    progress.settle(safe, now=0.0)
    undone = progress.admit(fetch(progress, 105, 109), now=0.0)
    assert undone is not None
    epochs, late = progress.epochs(), fetch(progress, 110, 114)
    progress.rewind(PLACE, now=0.0)
    assert progress.take_seeks() == {PLACE: 105}
    assert progress.stamp(PLACE, epochs, 102) is None
    assert process(progress, late) == []
    progress.settle(undone, now=0.0)
    assert progress.safe(PLACE) == 105
    assert process(progress, fetch(progress, 105, 114)) == list(range(105, 115))


def test_a_partition_that_has_gone_is_not_rewound() -> None:
    """It is another worker's to read."""
    progress = begun()
    progress.forget({PLACE})
    progress.rewind(PLACE, now=0.0)
    assert progress.take_seeks() == {}
    assert progress.epochs() == {}


def test_a_batch_on_its_way_while_reading_begins_anew_becomes_safe() -> None:
    """Reading again of a partition that was ours all the time takes nothing back, and brings nothing twice."""
    progress = begun()
    on_its_way = progress.admit(fetch(progress, 100, 104), now=0.0)
    assert on_its_way is not None
    fetch(progress, 105, 106)  # never arrives
    assert process(progress, fetch(progress, 107, 108)) == []  # reading begins anew
    assert progress.take_seeks() == {PLACE: 105}
    assert progress.safe(PLACE) == 100
    progress.settle(on_its_way, now=0.0)
    assert progress.safe(PLACE) == 105
    assert process(progress, fetch(progress, 105, 108)) == [105, 106, 107, 108]


def test_a_batch_of_before_a_rewind_settles_nothing_after_reading_began_anew_too() -> None:
    """An undone batch stays undone, however often reading begins anew afterwards."""
    progress = begun()
    undone = progress.admit(fetch(progress, 100, 104), now=0.0)
    assert undone is not None
    progress.rewind(PLACE, now=0.0)
    progress.take_seeks()
    progress.check_idle({PLACE: 200}, now=100.0)
    assert progress.take_seeks() == {PLACE: 100}
    progress.settle(undone, now=100.0)
    assert progress.safe(PLACE) == 100


def test_a_partition_that_came_back_does_not_meet_its_old_batches() -> None:
    """Gone and assigned again, perhaps further on: what was in hand before counts for nothing."""
    progress = begun()
    old = progress.admit(fetch(progress, 100, 149), now=0.0)
    unread = fetch(progress, 150, 159)
    assert old is not None
    progress.forget({PLACE})
    progress.expect(PLACE, 120, now=0.0)
    progress.take_seeks()
    progress.settle(old, now=0.0)
    assert progress.safe(PLACE) == 120
    assert process(progress, unread) == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "admit", "settle", "rewind", "again", "lost"]), st.integers(1, 7)),
        max_size=60,
    )
)
def test_whatever_is_undone_each_record_is_safe_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    """Work is settled in its order or undone to the last; what may be committed is always what was settled, whole."""
    end, position, now = 120, 0, 0.0
    progress, safe, in_hand = Progress(), list[int](), list[Batch]()
    progress.expect(PLACE, 0, now)
    finish = [("admit", 50), ("settle", 50)] * 12
    for act, size in [*steps, *finish]:
        now += 70.0
        position = progress.take_seeks().get(PLACE, position)
        if act == "settle":
            for batch in in_hand[:size]:
                progress.settle(batch, now)
                safe += offsets(batch)
            in_hand = in_hand[size:]
        elif act == "rewind":
            progress.rewind(PLACE, now)
            in_hand = []
        elif act == "again":
            progress.check_idle({PLACE: end}, now)
        elif position < end:
            last = min(position + size, end) - 1
            batch = fetch(progress, position, last)
            position = last + 1
            admitted = None if act == "lost" else progress.admit(batch, now)
            in_hand += [] if admitted is None else [admitted]
        else:
            progress.check_idle({PLACE: end}, now)
        assert progress.safe(PLACE) == len(safe)
    assert safe == list(range(end))


@given(st.lists(st.tuples(st.integers(1, 7), st.sampled_from(["arrives", "lost", "twice", "seek"])), max_size=60))
def test_every_record_is_processed_once_and_in_order(steps: list[tuple[int, str]]) -> None:
    """Whatever is lost, comes twice, or is sought meanwhile, each record is processed once, in order."""
    end, position, done, now = 200, 0, [], 0.0
    progress = Progress()
    progress.expect(PLACE, 0, now)
    for size, fate in [*steps, *[(50, "arrives")] * 12]:
        now += 70.0
        progress.check_idle({PLACE: end}, now)
        for offset in progress.take_seeks().values():
            position = offset
        epochs = progress.epochs()
        if fate == "seek":
            progress.expect(PLACE, progress.safe(PLACE) or 0, now)
        if position == end:
            continue
        last = min(position + size, end) - 1
        stamp = progress.stamp(PLACE, epochs, last + 1)
        brought, position = records(position, last), last + 1
        if stamp is None or fate == "lost":
            continue
        for _ in range(2 if fate == "twice" else 1):
            done += process(progress, Batch(stamp, brought), now)
    assert done == list(range(len(done)))
    assert done == list(range(end))
