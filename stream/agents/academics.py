"""The agent for `academics`: attendance, grades, discipline, outcomes."""

from collections.abc import Sequence

from schemas import Academic, EnrolmentRecorded, decode_academic
from stream import pipeline
from stream.agents.desk import Desk
from stream.intake import Accepted, of_the_present, read
from stream.ports import Record
from stream.state import academic
from stream.transport.settlement import Change, Work


def handle(records: list[Record], desk: Desk) -> Work:
    """Score a batch of academic events and keep the weekly steps of their users."""
    with desk.watch.stage("decode"):
        readable, dead = read(records, decode_academic, desk.partition_of, desk.limits)
        accepted, ahead = of_the_present(readable, desk.limits)
    now, models = desk.clock(), desk.timed()
    desk.move_time(accepted, [each.event.timestamp.timestamp() for each in accepted], now)
    before = desk.users(accepted)
    outcome = pipeline.survive(
        accepted, before, lambda batch, users: pipeline.academics(batch, users, models.risk, now)
    )
    return desk.work(
        desk.academics,
        before.academics,
        outcome.users.academics,
        outcome,
        [*dead, *ahead],
        accepted,
        names=_names(accepted, desk),
    )


def _names(accepted: Sequence[Accepted[Academic]], desk: Desk) -> list[Change]:
    """Return what texts of enrolments are called, where the partitions' changelogs have yet to hold it."""
    of_partition: dict[int, list[str]] = {}
    for a in accepted:
        if isinstance(a.event, EnrolmentRecorded):
            facts = academic.facts_of(a.event, desk.models.risk.kept)
            of_partition.setdefault(a.record.partition, []).extend(facts)
    return [change for partition, names in of_partition.items() for change in desk.names.put(partition, names)]
