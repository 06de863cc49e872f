"""What is remembered is the latest, and no more of it than was agreed."""

import pytest

from stream.page.bounded import Latencies, Latest


def test_an_id_is_new_once_while_it_is_remembered() -> None:
    """The oldest is forgotten first: an id that comes again after so many others is new again."""
    latest = Latest(3)
    assert [latest.is_new(id_) for id_ in "abcab"] == [True, True, True, False, False]
    assert latest.is_new("d")
    assert [latest.is_new(id_) for id_ in "bcda"] == [False, False, False, True]


def test_a_latency_is_known_once_both_ends_are() -> None:
    """Whichever of event and prediction is read first, and of no other place."""
    latencies = Latencies()
    assert latencies.sent(1, 7, 10.0) is None
    assert latencies.said(7, 1, 99.0) is None
    assert latencies.said(1, 7, 10.25) == 0.25
    assert latencies.sent(7, 1, 98.5) == 0.5
    assert latencies.said(1, 7, 20.0) is None  # it was known already


@pytest.mark.parametrize("is_read_first", [True, False])
def test_what_nothing_comes_of_is_forgotten(is_read_first: bool) -> None:
    """Views are answered by no prediction: the oldest places make room."""
    latencies = Latencies(most=3)
    first, then = (latencies.sent, latencies.said) if is_read_first else (latencies.said, latencies.sent)
    for offset in range(5):
        first(0, offset, float(offset))
    assert [then(0, offset, float(offset)) for offset in range(5)] == [None, None, 0.0, 0.0, 0.0]
