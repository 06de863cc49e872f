"""Events as platforms send them, in order and in numbers, for tests that need many."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
ANSWERED = "http://adlnet.gov/expapi/verbs/answered"
INITIALIZED = "http://adlnet.gov/expapi/verbs/initialized"
QUESTION = "http://adlnet.gov/expapi/activities/cmi.interaction"

Event = dict[str, Any]


def moment(number: int) -> str:
    """Return the moment of an event, a minute after the one before."""
    return (START + timedelta(minutes=number)).isoformat().replace("+00:00", "Z")


def event_id(user: str, number: int) -> str:
    """Return the id of a user's event; it looks random, as platforms' do."""
    return str(UUID(bytes=uuid5(NAMESPACE_URL, f"{user}/{number}").bytes, version=4))


def statement(user: str, number: int, *, verb: str = ANSWERED, item: int | None = None, **result: Any) -> Event:
    """Return an xAPI statement of a user, whose mail address it gives away."""
    activity = f"https://lms.example/quiz/1/question/{number % 7 if item is None else item}"
    made: Event = {
        "id": event_id(user, number),
        "version": "1.0.3",
        "actor": {"objectType": "Agent", "name": f"{user.title()} Lovelace", "mbox": f"mailto:{user}@school.example"},
        "verb": {"id": verb, "display": {"en": verb.rpartition("/")[2]}},
        "object": {
            "objectType": "Activity",
            "id": activity,
            "definition": {"type": QUESTION, "interactionType": "choice", "name": {"en": "A question"}},
        },
        "context": {"contextActivities": {"parent": [{"id": "https://lms.example/quiz/1"}]}},
        "timestamp": moment(number),
    }
    if result:
        made["result"] = result
    return made


def xapi_answer(user: str, number: int, *, correct: bool = True, **fields: Any) -> Event:
    """Return an answer as an xAPI statement."""
    return statement(user, number, success=correct, response="free text of the learner", **fields)


def caliper_answer(user: str, number: int, *, score: float = 1.0) -> Event:
    """Return an answer as Caliper says it: the grade of an attempt at an item."""
    item = f"https://lms.example/assessment/2/item/{number % 7}"
    return {
        "@context": "http://purl.imsglobal.org/ctx/caliper/v1p2",
        "id": f"urn:uuid:{event_id(user, number)}",
        "type": "GradeEvent",
        "profile": "GradingProfile",
        "actor": {"id": "https://lms.example/autograder", "type": "SoftwareApplication"},
        "action": "Graded",
        "object": {
            "id": f"{item}/users/{user}/attempts/{number}",
            "type": "Attempt",
            "assignee": {"id": f"https://lms.example/users/{user}", "type": "Person", "name": "Ada Lovelace"},
            "assignable": {
                "id": item,
                "type": "AssessmentItem",
                "isPartOf": {"id": "https://lms.example/assessment/2", "type": "Assessment"},
            },
            "count": 1,
            "startedAtTime": moment(number),
            "endedAtTime": moment(number),
            "duration": "PT21.5S",
        },
        "eventTime": moment(number),
        "generated": {"id": f"{item}/scores/{number}", "type": "Score", "maxScore": 2.0, "scoreGiven": 2.0 * score},
    }


def envelope(*events: Event) -> Event:
    """Return Caliper events as a sensor sends them."""
    return {
        "sensor": "https://lms.example/sensor",
        "sendTime": moment(0),
        "dataVersion": "http://purl.imsglobal.org/ctx/caliper/v1p2",
        "data": list(events),
    }


def cloud_event(data: object, type_: str = "org.example.statement") -> Event:
    """Return an event inside a CloudEvent in structured mode."""
    return {"specversion": "1.0", "id": "ce-1", "type": type_, "source": "/lms", "data": data}
