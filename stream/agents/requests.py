"""The agent for `prediction-requests`: what would happen if. It changes no state."""

import traceback
from typing import Final

from schemas import decode_request
from stream import pipeline
from stream.agents.desk import Desk
from stream.errors import FatalError
from stream.intake import Dead, read
from stream.ports import Message, Record
from stream.transport.settlement import Work

_TYPE: Final = "prediction_request"


def handle(records: list[Record], desk: Desk) -> Work:
    """Answer a batch of requests; a request that comes again is answered again, under the same reply id."""
    with desk.watch.stage("decode"):
        accepted, dead = read(records, decode_request, desk.partition_of, desk.limits)
    now, models = desk.clock(), desk.timed()
    replies: list[Message] = []
    for request in accepted:
        try:
            replies.append(pipeline.reply(request.event, desk.learner(request.event.user_id), models, now))
        except FatalError:
            raise
        except Exception as error:  # noqa: BLE001 (one request's error must not stop the partition)
            detail = f"expected to answer it, found {type(error).__name__}: {error}"
            dead.append(Dead(request.record, "processing_failed", detail, traceback.format_exc(), _TYPE))

    def confirmed(sent_at: float) -> None:  # noqa: ARG001 (requests count in no latency)
        desk.buried(dead, "prediction-requests")
        desk.telemetry.read(_TYPE, "applied", len(replies))
        desk.telemetry.predicted("reply", len(replies))

    return Work(outputs=[*replies, *desk.letters(dead)], confirmed=confirmed)
