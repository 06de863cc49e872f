"""Where the partitions of a consumer stand, by what its client knows; the client is a stand-in."""

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from stream.health import Standing
from stream.transport.standings import Standings

UNKNOWN = -1001
NOT_ASKED = (UNKNOWN, UNKNOWN)
A, B = ("t-answers", 0), ("t-erasures", 3)


class Client:
    """
    A consumer that knows positions, and the watermarks that its last fetches brought.

    As the real one's, a position passes the markers at an end when that is handed out.
    """

    def __init__(self) -> None:
        self.positions = {A: UNKNOWN, B: UNKNOWN}
        self.bounds = {A: NOT_ASKED, B: NOT_ASKED}
        self.assigned = [A, B]

    def assignment(self) -> list[TopicPartition]:
        """Return what is assigned."""
        return [TopicPartition(*place) for place in self.assigned]

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Return how far each has been read."""
        return [TopicPartition(p.topic, p.partition, self.positions[p.topic, p.partition]) for p in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, cached: bool) -> tuple[int, int]:
        """Return what the last fetch brought."""
        assert cached, "the broker is not to be asked"
        return self.bounds[partition.topic, partition.partition]


class Said:
    """A message that says something of a partition."""

    def __init__(self, place: tuple[str, int], offset: int, code: int | None) -> None:
        self._place, self._offset, self._code = place, offset, code

    def topic(self) -> str:
        """Return its topic."""
        return self._place[0]

    def partition(self) -> int:
        """Return its partition."""
        return self._place[1]

    def offset(self) -> int:
        """Return its place, or the end that it tells of."""
        return self._offset

    def error(self) -> KafkaError | None:
        """Return what it says."""
        return None if self._code is None else KafkaError(self._code)


@pytest.fixture
def client() -> Client:
    """Return the consumer."""
    return Client()


@pytest.fixture
def standings(client: Client) -> Standings:
    """Return what follows it; one partition is read from offset 5, of the other nothing is committed yet."""
    known: Any = client
    standings = Standings(known, lambda topic: topic.removeprefix("t-"))
    standings.begin([TopicPartition(*A, 5), TopicPartition(*B, UNKNOWN)])
    return standings


def read(standings: Standings, client: Client, place: tuple[str, int], offset: int) -> None:
    """Have the client hand out a record."""
    client.positions[place] = offset + 1
    record: Any = Said(place, offset, None)
    assert not standings.is_end(record)


def at_end(standings: Standings, client: Client, place: tuple[str, int], offset: int) -> None:
    """Have the client say that an end has been reached."""
    client.positions[place] = offset
    said: Any = Said(place, offset, KafkaError._PARTITION_EOF)
    assert standings.is_end(said)


def test_nothing_is_known_before_the_first_fetch(standings: Standings) -> None:
    """And what is not known is no lag."""
    assert standings.now() == {("answers", 0): Standing(5, 5, 5), ("erasures", 3): Standing(0, 0, 0)}


def test_lag_and_what_is_not_committed(standings: Standings, client: Client) -> None:
    """By the ends that fetches brought; a partition of which nothing was committed begins where it is kept from."""
    client.bounds |= {A: (0, 90), B: (30, 40)}
    read(standings, client, A, 59)
    assert standings.now() == {("answers", 0): Standing(90, 60, 5), ("erasures", 3): Standing(40, 30, 30)}
    standings.commit([TopicPartition(*A, 60)])
    assert standings.now()["answers", 0] == Standing(90, 60, 60)
    client.bounds[B] = (0, 40)
    assert standings.now()["erasures", 3] == Standing(40, 0, 0)


def test_markers_at_an_end_are_neither_lag_nor_due(standings: Standings, client: Client) -> None:
    """Where the client says that a partition ends, nothing is left, whatever stands behind its last record."""
    client.bounds[A] = (0, 62)
    read(standings, client, A, 59)
    standings.commit([TopicPartition(*A, 60)])
    assert standings.now()["answers", 0].lag == 2
    at_end(standings, client, A, 62)
    assert standings.now()["answers", 0] == Standing(62, 62, 62)
    assert not standings.now()["answers", 0].is_due


def test_what_is_read_before_an_end_in_markers_is_due_until_it_is_committed(
    standings: Standings, client: Client
) -> None:
    """The last record's commit is enough, though the client's own position stands behind the marker by then."""
    client.bounds[A] = (0, 62)
    read(standings, client, A, 60)
    at_end(standings, client, A, 62)
    assert standings.now()["answers", 0] == Standing(62, 62, 5)
    standings.commit([TopicPartition(*A, 60)])
    assert standings.now()["answers", 0].is_due
    standings.commit([TopicPartition(*A, 61)])
    assert standings.now()["answers", 0] == Standing(62, 62, 62)


def test_what_an_open_transaction_holds_back_is_no_lag(standings: Standings, client: Client) -> None:
    """The broker's end grows, and there is nothing to read before it ends; then lag counts again."""
    client.bounds[A] = (0, 5)
    at_end(standings, client, A, 5)
    client.bounds[A] = (0, 20)
    assert standings.now()["answers", 0] == Standing(5, 5, 5)
    read(standings, client, A, 5)
    assert standings.now()["answers", 0] == Standing(20, 6, 5)


def test_only_what_says_an_end_is_one(standings: Standings) -> None:
    """Another error is none, nor is it a record: whoever reads looks at it."""
    trouble: Any = Said(A, 61, KafkaError._TRANSPORT)
    assert not standings.is_end(trouble)
    assert standings.now()["answers", 0] == Standing(5, 5, 5)


def test_what_has_gone_to_another_is_not_told(standings: Standings, client: Client) -> None:
    """Nor does a partition that comes back remember what had been committed before."""
    client.bounds[A] = (0, 90)
    read(standings, client, A, 59)
    standings.commit([TopicPartition(*A, 60)])
    client.assigned = [B]
    assert standings.now().keys() == {("erasures", 3)}
    at_end(standings, client, A, 80)
    client.assigned, client.positions[A] = [A, B, ("t-answers", 1)], UNKNOWN
    standings.begin([TopicPartition(*A, 70), TopicPartition(*B, 1)])
    assert standings.now() == {("answers", 0): Standing(90, 70, 70), ("erasures", 3): Standing(1, 1, 1)}


def test_a_topic_may_wait_on_purpose(standings: Standings, client: Client) -> None:
    """Its partitions alone are held."""
    client.bounds[A] = (0, 90)
    held = standings.now({"t-answers"})
    assert (held["answers", 0].is_held, held["erasures", 3].is_held) == (True, False)
    assert not held["answers", 0].is_due
