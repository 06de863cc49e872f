"""The agent for `academics`: attendance, grades, discipline, outcomes."""

from schemas import decode_academic
from stream import pipeline
from stream.agents.desk import Desk
from stream.intake import read
from stream.ports import Record


async def handle(records: list[Record], desk: Desk) -> None:
    """Score a batch of academic events and keep the weekly steps of their users."""
    accepted, dead = read(records, decode_academic, desk.partition_of, desk.limits)
    now = desk.clock()
    outcome = pipeline.survive(
        accepted, desk.users(accepted), lambda batch, users: pipeline.academics(batch, users, now)
    )
    await desk.settle(outcome, dead, accepted, desk.keep_academics)
