"""`Names`: what stands behind keys, and which partition's changelog holds it already."""

from hypothesis import given
from hypothesis import strategies as st

from stream.state.learner import key64
from stream.state.names import Names

some = st.lists(st.sampled_from(["fractions", "ratios", "area", "", "größe"]), max_size=6)


def test_a_name_is_known_once_it_was_met() -> None:
    """Its key is the one that records hold; a key that was never met has no name."""
    names = Names()
    assert names.name(key64("ratios")) is None
    assert names.key("ratios") == key64("ratios")
    assert names.name(key64("ratios")) == "ratios"


def test_a_name_is_written_once_in_each_partition() -> None:
    """Twice in one batch or in two, a partition's changelog gets it once; another partition gets it too."""
    names = Names()
    assert names.not_stored(0, ["b", "a", "b"]) == ["b", "a"]
    assert names.not_stored(0, ["a", "c"]) == ["c"]
    assert names.not_stored(1, ["a"]) == ["a"]


def test_a_name_that_is_written_was_met() -> None:
    """Whoever writes what a key stands for can name it, and not only after a restart."""
    names = Names()
    names.not_stored(0, ["education=A level"])
    assert names.name(key64("education=A level")) == "education=A level"


def test_what_was_undone_is_written_again() -> None:
    """A name whose record never reached the changelog is not taken for stored; the others of its partition are."""
    names = Names()
    names.not_stored(0, ["a", "b"])
    names.not_stored(1, ["a"])
    names.unstore(0, ["a"])
    assert names.not_stored(0, ["a", "b"]) == ["a"]
    assert names.not_stored(1, ["a"]) == []
    names.unstore(7, ["a"])


def test_a_partition_that_went_is_asked_anew() -> None:
    """What its changelog holds is forgotten, and only its; names stay known."""
    names = Names()
    names.key("a")
    names.not_stored(0, ["a"])
    names.not_stored(1, ["a"])
    names.forget(0)
    names.forget(5)
    assert names.name(key64("a")) == "a"
    assert names.not_stored(1, ["a"]) == []
    assert names.not_stored(0, ["a"]) == ["a"]


@given(st.lists(st.tuples(st.sampled_from(["put", "undo", "restore", "forget"]), st.integers(0, 2), some), max_size=30))
def test_a_changelog_holds_every_name_that_it_is_taken_to_hold(steps: list[tuple[str, int, list[str]]]) -> None:
    """Whatever is put, undone, restored and forgotten: nothing is left out, and nothing is written twice."""
    names = Names()
    changelogs: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    for act, partition, wanted in steps:
        held = changelogs[partition]
        if act in ("put", "undo"):
            new = names.not_stored(partition, wanted)
            assert sorted(new) == sorted(set(wanted) - held)
            if act == "put":
                held.update(new)
            else:
                names.unstore(partition, new)
        elif act == "restore":
            held.update(wanted)
            names.restore(partition, wanted)
            assert all(names.name(key64(name)) == name for name in wanted)
        else:
            held.clear()
            names.forget(partition)
