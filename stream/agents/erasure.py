"""The agent for `erasures`: a user to forget. The trainer forgets by reading the same topic."""

import numpy as np

from schemas import decode_erasure
from stream.agents.desk import Desk
from stream.intake import read
from stream.ports import Record
from stream.state import academic, learner
from stream.transport.settlement import Work


def handle(records: list[Record], desk: Desk) -> Work:
    """Leave an empty marker of each user, which keeps what has been seen, and remove the latest predictions."""
    with desk.watch.stage("decode"):
        accepted, dead = read(records, decode_erasure, desk.partition_of, desk.limits)
    last = {erasure.event.user_id: erasure.record for erasure in accepted}
    users = [user.encode() for user in last]
    partitions = [record.partition for record in last.values()]
    learners, academics = desk.learners.get_records(users), desk.academics.get_records(users)
    offsets = np.array([record.offset for record in last.values()], np.int64)
    changes = [
        *desk.learners.put(users, partitions, learner.erased(learners, offsets)),
        *desk.academics.put(users, partitions, academic.erased(academics, offsets)),
    ]

    desk.forget(users)

    def undo() -> None:
        desk.learners.put_back(users, partitions, learners)
        desk.academics.put_back(users, partitions, academics)

    def confirmed(sent_at: float) -> None:  # noqa: ARG001 (erasures count in no latency)
        desk.buried(dead, "erasures")
        # Also of one that had been applied already: Redis may not know of it.
        for user in last:
            desk.read_model.forget(user)
        desk.telemetry.read("erasure", "applied", len(accepted))

    return Work(outputs=desk.letters(dead), changes=changes, undo=undo, confirmed=confirmed)
