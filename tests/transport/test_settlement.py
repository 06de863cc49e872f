"""The queue in which settlements wait, and which of their changes are sent."""

import asyncio
from collections.abc import Awaitable

from hypothesis import given
from hypothesis import strategies as st

from stream.ports import Record
from stream.transport.progress import Batch, Stamp
from stream.transport.settlement import Change, Queue, Settlement, Work, newest

WAIT_S = 10.0


def settlement(events: int = 1, *changes: Change, first: int = 0) -> Settlement:
    """Return a settlement of so many events."""
    records = [Record("interactions", 0, first + i, b"u", b"{}", 0.0) for i in range(events)]
    return Settlement((Batch(Stamp(1, after=0), records),), Work(changes=changes), b"m")


def change(key: str, value: str, topic: str = "learners") -> Change:
    """Return a change of the user's record."""
    return Change(topic, 0, key.encode(), value.encode())


async def begun(act: Awaitable[None]) -> "asyncio.Task[None]":
    """Return a task that has gone as far as it can by itself."""
    task = asyncio.ensure_future(act)
    for _ in range(10):
        await asyncio.sleep(0)
    return task


async def done(task: "asyncio.Task[None]") -> None:
    """Wait for a task to end."""
    await asyncio.wait_for(task, WAIT_S)


async def test_who_fills_the_room_waits_until_something_is_done() -> None:
    """Events that were taken still count: only what is done makes room."""
    queue = Queue(room=5)
    first, second = settlement(3), settlement(2)
    await done(await begun(queue.put(first)))
    blocked = await begun(queue.put(second))
    assert not blocked.done()
    taken = queue.take()
    assert taken == [first, second]
    blocked_still = await begun(queue.await_any())
    assert not blocked.done()
    await queue.done([first])
    await done(blocked)
    assert not blocked_still.done()
    blocked_still.cancel()


async def test_one_larger_than_the_room_is_taken_all_the_same() -> None:
    """A settlement is in the queue before whoever submits it has to wait."""
    queue = Queue(room=2)
    large = settlement(7)
    blocked = await begun(queue.put(large))
    assert not blocked.done()
    assert queue.take() == [large]
    await queue.done([large])
    await done(blocked)


async def test_whoever_waits_for_one_is_woken() -> None:
    """An empty queue is waited at; a full one is not."""
    queue = Queue(room=100)
    waiting = await begun(queue.await_any())
    assert not waiting.done()
    await queue.put(settlement())
    await done(waiting)
    await done(await begun(queue.await_any()))
    queue.take()
    waiting = await begun(queue.await_any())
    assert not waiting.done()
    waiting.cancel()


async def test_it_is_empty_when_all_is_done_not_when_all_is_taken() -> None:
    """What is under way is not safe yet."""
    queue = Queue(room=100)
    await done(await begun(queue.empty()))
    await queue.put(settlement(2))
    await queue.put(settlement(1))
    draining = await begun(queue.empty())
    taken = queue.take()
    await queue.done(taken[:1])
    for _ in range(10):
        await asyncio.sleep(0)
    assert not draining.done()
    await queue.done(taken[1:])
    await done(draining)


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "back", "done"]), st.integers(0, 5)), max_size=40))
def test_nothing_is_lost_and_the_order_stays(steps: list[tuple[str, int]]) -> None:
    """However often some of what was taken is put back, what is done is what was put, in its order."""

    async def play() -> None:
        queue, put, taken, finished = Queue(room=10_000), list[Settlement](), list[Settlement](), list[Settlement]()
        for act, count in [*steps, ("back", 10_000), ("take", 0), ("done", 10_000)]:
            if act == "put":
                put.append(settlement(count + 1, first=len(put)))
                await queue.put(put[-1])
            elif act == "take" and not taken:
                taken = queue.take()
            elif act == "back":
                kept = max(len(taken) - count, 0)
                back, taken = taken[kept:], taken[:kept]
                queue.put_back(back)
            elif act == "done":
                finished += taken[:count]
                await queue.done(taken[:count])
                taken = taken[count:]
        assert finished == put
        await asyncio.wait_for(queue.empty(), WAIT_S)

    asyncio.run(play())


def test_events_are_counted_over_all_batches() -> None:
    """A settlement covers batches of several partitions."""
    batches = settlement(3).batches + settlement(4).batches
    assert Settlement(batches, Work(), b"m").events == 7


async def test_what_covers_no_record_is_waited_for() -> None:
    """Work that no event asked for is under way until it is done, and speaks for its partitions."""
    queue, place = Queue(100), ("interactions", 3)
    besides = Settlement((), Work(), b"m", frozenset({place}))
    assert besides.places == {place}
    assert Settlement(settlement(1).batches, Work(), b"m", frozenset({place})).places > {place}
    await queue.put(besides)
    empty = await begun(queue.empty())
    taken = queue.take()
    assert not empty.done()
    await queue.done(taken)
    await done(empty)


def test_of_each_key_the_newest_change_is_sent() -> None:
    """Within one settlement and over several; the same key of another changelog is another's."""
    other = change("a", "1", topic="academics")
    found = newest([settlement(1, change("a", "1"), change("b", "1"), other), settlement(1, change("a", "2"))])
    assert sorted(found, key=repr) == sorted([change("a", "2"), change("b", "1"), other], key=repr)
    assert newest([]) == []


changes = st.builds(change, st.sampled_from("abc"), st.integers(0, 99).map(str), st.sampled_from(["learners", "names"]))


@given(st.lists(st.lists(changes, max_size=5), max_size=5))
def test_what_is_sent_leaves_a_changelog_as_all_would_have(groups: list[list[Change]]) -> None:
    """Compaction makes no difference between the newest changes and every change."""
    found = newest(settlement(1, *group) for group in groups)
    everything = {(c.topic, c.key): c.value for group in groups for c in group}
    assert {(c.topic, c.key): c.value for c in found} == everything
    assert len(found) == len(everything)
