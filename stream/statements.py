"""
Risks as xAPI statements, for learning record stores that ask no Kafka consumer of their own to be written.

Pure. Made from predictions as they go out, so that nothing that predicts knows of xAPI; what a statement is stands in
`schemas.statements`.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import orjson

from schemas.statements import ACTIVITY, ACTIVITY_TYPE, EXTENSION, VERB
from stream.emission import prediction_id
from stream.ports import Message

_VERB = {"id": VERB, "display": {"en": "was predicted"}}
_OBJECT = {
    "objectType": "Activity",
    "id": ACTIVITY,
    "definition": {"type": ACTIVITY_TYPE, "name": {"en": "Risk of failing or leaving the course"}},
}


def of_risks(messages: Iterable[Message], home_page: str) -> list[Message]:
    """
    Return a statement for each risk prediction among messages.

    Args:
        messages: Of any topics.
        home_page: IRI of the system that knows learners under their user ids.
    """
    return [_message(message, home_page) for message in messages if message.topic == "predictions.risk"]


def _message(message: Message, home_page: str) -> Message:
    stated = statement(orjson.loads(message.value), home_page)
    return Message("predictions.risk.xapi", message.key, orjson.dumps(stated), stated["id"])


def statement(risk: dict[str, Any], home_page: str) -> dict[str, Any]:
    """
    Return what a prediction says as a statement.

    Its time is that for which the prediction holds, not that at which it was made; its id, a UUID, follows from all
    that it says. A prediction that is made again and says the same is the same statement, which a store that has it
    takes for what it is; one that says something else (of another model, for instance) is another, for a store refuses
    a second content under one id.

    Args:
        risk: A risk prediction's fields.
        home_page: IRI of the system that knows learners under their user ids.
    """
    said = _said(risk, home_page)
    digest = sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return {"id": prediction_id(f"{risk['prediction_id']}/{digest}", "statement")} | said


def _said(risk: dict[str, Any], home_page: str) -> dict[str, Any]:
    said = {"category": risk["category"], "factors": risk["factors"]}
    if risk["outcome"] is not None:
        said["outcome"] = risk["outcome"]
    behind = {
        "prediction-id": risk["prediction_id"],
        "model": risk["model"],
        "fallback": risk["fallback"],
        "reason": risk["reason"],
        "source": risk["source"],
    }
    return {
        "actor": {"objectType": "Agent", "account": {"homePage": home_page, "name": risk["user_id"]}},
        "verb": _VERB,
        "object": _OBJECT,
        "result": {"score": {"scaled": risk["score"]}, "extensions": _extensions(said)},
        "context": {"platform": "learnerstream", "extensions": _extensions(behind)},
        "timestamp": risk["as_of"],
    }


def _extensions(values: dict[str, Any]) -> dict[str, Any]:
    return {EXTENSION + name: value for name, value in values.items()}
