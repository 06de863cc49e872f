"""Where the partitions of a consumer of our own stand, from what its client knows: nothing is asked of the broker."""

from collections.abc import Callable, Collection, Iterable

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from stream.health import Place, Standing


class Standings:
    """
    Follows one consumer, on the thread that reads from it. Its `enable.partition.eof` must be set.

    Args:
        consumer: Of librdkafka.
        named: Returns what a topic is called in what is told.
    """

    def __init__(self, consumer: Consumer, named: Callable[[str], str]) -> None:
        self._consumer = consumer
        self._named = named
        self._begun: dict[Place, int] = {}
        self._read: dict[Place, int] = {}
        self._ended: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}

    def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Take note of all partitions that are assigned from now on, and of where reading them begins."""
        self._begun = {(p.topic, p.partition): p.offset for p in partitions}
        self._read, self._ended, self._committed = {}, {}, {}

    def is_end(self, message: Message) -> bool:
        """
        Return whether a message only says that a partition's end has been reached; take note of that, or of the record.

        At the end may stand markers of transactions, which take up offsets and are nothing to read.
        """
        error, offset = message.error(), message.offset() or 0
        place = message.topic() or "", message.partition() or 0
        if error is None:
            self._read[place] = offset + 1
            return False
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 (its only name)
            return False
        self._ended[place] = offset
        return True

    def commit(self, positions: Iterable[TopicPartition]) -> None:
        """Take note of what has been committed."""
        self._committed |= {(p.topic, p.partition): p.offset for p in positions}

    def now(self, held: Collection[str] = ()) -> dict[Place, Standing]:
        """Return where all partitions stand; of the topics `held`, reading on waits on purpose."""
        places = [(p.topic, p.partition) for p in self._consumer.assignment()]
        return {
            (self._named(place[0]), place[1]): self._standing(place, is_held=place[0] in held)
            for place in places
            if place in self._begun
        }

    def _standing(self, place: Place, *, is_held: bool) -> Standing:
        first, end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        begun = self._begun[place] if self._begun[place] >= 0 else max(first, 0)
        # Not the client's position: at an end it passes the markers, and whoever commits commits what was read.
        read, ended = self._read.get(place, begun), self._ended.get(place, -1)
        committed, upto = self._committed.get(place, begun), max(read, ended)
        # Behind the last record that there was to read nothing is left to process, nor to commit. What the broker holds
        # behind that end (an open transaction) may not be read yet: there is lag again from the next record on.
        return Standing(
            end=upto if ended >= read else max(end, read),
            next=upto,
            committed=upto if committed >= read else committed,
            is_held=is_held,
        )
