"""The agent for `academics`: attendance, grades, discipline, outcomes."""

from schemas import decode_academic
from stream import pipeline
from stream.agents.desk import Desk
from stream.intake import read
from stream.ports import Record
from stream.transport.settlement import Work


def handle(records: list[Record], desk: Desk) -> Work:
    """Score a batch of academic events and keep the weekly steps of their users."""
    accepted, dead = read(records, decode_academic, desk.partition_of, desk.limits)
    now = desk.clock()
    before = desk.users(accepted)
    outcome = pipeline.survive(accepted, before, lambda batch, users: pipeline.academics(batch, users, now))
    return desk.work(desk.academics, before.academics, outcome.users.academics, outcome, dead, accepted)
