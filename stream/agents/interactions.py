"""The agent for `interactions`: answers, views, feedback."""

from collections.abc import Sequence

from schemas import Interaction, decode_interaction
from stream import pipeline
from stream.agents.desk import Desk
from stream.intake import Accepted, moments_of, read
from stream.ports import Record
from stream.transport.settlement import Change, Work


def handle(records: list[Record], desk: Desk) -> Work:
    """Predict a batch of interactions and keep what was learned of their users."""
    with desk.watch.stage("decode"):
        readable, dead = read(records, decode_interaction, desk.partition_of, desk.limits)
        accepted, moments = moments_of(readable, desk.limits)
    now, models = desk.clock(), desk.timed()
    desk.move_time(accepted, moments, now)
    before = desk.users(accepted)
    outcome = pipeline.survive(
        accepted,
        before,
        lambda batch, users: pipeline.interactions(batch, users, models, desk.latest_topics, now, desk.rebuild_answers),
    )
    return desk.work(
        desk.learners,
        before.learners,
        outcome.users.learners,
        outcome,
        dead,
        accepted,
        names=_names(accepted, desk),
        tombstones=sum(record.value is None for record in records),
    )


def _names(accepted: Sequence[Accepted[Interaction]], desk: Desk) -> list[Change]:
    """Return the names that the partitions' changelogs have yet to hold before any record uses them."""
    of_partition: dict[int, list[str]] = {}
    for a in accepted:
        if a.event.type == "quiz_complete":
            of_partition.setdefault(a.record.partition, []).extend((a.event.topic_id, *a.event.skills))
    return [change for partition, names in of_partition.items() for change in desk.names.put(partition, names)]
