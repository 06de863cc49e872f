"""The agent for `interactions`: answers, views, feedback."""

from schemas import decode_interaction
from stream import pipeline
from stream.agents.desk import Desk
from stream.intake import read
from stream.ports import Record


async def handle(records: list[Record], desk: Desk) -> None:
    """Predict a batch of interactions and keep what was learned of their users."""
    accepted, dead = read(records, decode_interaction, desk.partition_of, desk.limits)
    desk.telemetry.read("tombstone", sum(record.value is None for record in records))
    now = desk.clock()
    outcome = pipeline.survive(
        accepted,
        desk.users(accepted),
        lambda batch, users: pipeline.interactions(batch, users, desk.models, desk.latest_topics, now),
    )
    await desk.settle(outcome, dead, accepted, desk.keep_learners)
