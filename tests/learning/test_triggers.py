"""When an update is wished for: after answers, after minutes, on drift, by hand; never two at once."""

from stream.learning.triggers import Triggers


def test_the_first_waits_for_ten_answers_and_the_next_for_five() -> None:
    """Every K answers, at least ten before the first."""
    triggers = Triggers(every=5, first=10)
    assert [triggers.wish(n, 0.0, False) for n in (0, 4, 9, 10)] == [None, None, None, "answers"]
    triggers.started(12, 0.0)
    assert [triggers.wish(n, 0.0, False) for n in (12, 16, 17)] == [None, None, "answers"]


def test_many_answers_are_one_wish() -> None:
    """What came while an update ran does not queue."""
    triggers = Triggers(every=5, first=10)
    triggers.started(10, 0.0)
    assert triggers.wish(1_000, 1.0, False) == "answers"
    triggers.started(1_000, 1.0)
    assert triggers.wish(1_000, 2.0, False) is None


def test_minutes_pass() -> None:
    """After so long a wait a single answer is enough, and without any there is nothing to learn."""
    triggers = Triggers(every=1_000, first=1, every_s=600.0)
    assert triggers.wish(0, 0.0, False) is None
    assert triggers.wish(3, 100.0, False) is None
    assert triggers.wish(3, 699.0, False) is None
    assert triggers.wish(3, 700.0, False) == "minutes"
    triggers.started(3, 700.0)
    assert triggers.wish(3, 5_000.0, False) is None
    assert triggers.wish(4, 5_000.0, False) == "minutes"


def test_a_candidate_on_trial_holds_up_answers_and_minutes_only() -> None:
    """By hand, or as the loss rises, an update begins in place of the trial; as a feature drifts, after it."""
    triggers = Triggers(every=5, first=10, every_s=1.0)
    assert triggers.wish(100, 50.0, True) is None
    triggers.ask("drift", at_once=False)
    assert triggers.wish(100, 50.0, True) is None
    assert triggers.wish(100, 50.0, False) == "drift"
    triggers.ask("drift")
    assert triggers.wish(100, 50.0, True) == "drift"
    triggers.ask("hand")
    triggers.ask("drift")
    assert triggers.wish(100, 50.0, True) == "hand"
    triggers.started(100, 50.0)
    assert triggers.wish(104, 50.5, False) is None


def test_by_hand_needs_no_new_answers_but_enough_of_them() -> None:
    """An operator may wish for another update of the same answers; of fewer than the first update needs, not."""
    triggers = Triggers(every=5, first=10)
    triggers.started(20, 0.0)
    triggers.ask("hand")
    assert triggers.wish(20, 1.0, False) == "hand"
    early = Triggers(every=5, first=10)
    early.ask("hand")
    assert early.wish(9, 0.0, False) is None
    assert early.wish(10, 0.0, False) == "hand"


def test_what_came_to_nothing_is_wished_for_again() -> None:
    """A store that was full is no fault of the answers."""
    triggers = Triggers(every=5, first=10)
    triggers.started(20, 0.0)
    triggers.again()
    assert triggers.wish(20, 1.0, False) == "answers"
