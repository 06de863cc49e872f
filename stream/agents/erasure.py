"""The agent for `erasures`: a user to forget. The trainer forgets by reading the same topic."""

from schemas import decode_erasure
from stream.agents.desk import Desk
from stream.intake import read
from stream.ports import Record
from stream.state import academic, codec, learner


async def handle(records: list[Record], desk: Desk) -> None:
    """Leave an empty marker of each user, which keeps what has been seen, and remove the latest predictions."""
    accepted, dead = read(records, decode_erasure, desk.partition_of, desk.limits)
    await desk.emit([], dead)
    for erasure in accepted:
        user, partition = erasure.event.user_id, erasure.record.partition
        # Also when it was applied before a crash: the tables know of it then, Redis perhaps not.
        desk.read_model.forget(user)
        stored = desk.learner(user)
        if stored["erasure_seen"][0] >= erasure.record.offset:
            continue
        marker = learner.erased(stored, erasure.record.offset)
        academics = academic.erased(codec.decode_academics(desk.academics.stored([user])))
        desk.learners.put(user, partition, codec.encode_learner(marker[0], desk.models.names))
        desk.academics.put(user, partition, codec.encode_academic(academics[0]))
    await desk.outbox.flush()
    desk.telemetry.read("erasure", len(accepted))
