"""Which events the demo counts, and waits for: answers, and what a school records. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple


def is_answer(topic: str, event: Mapping[str, Any]) -> bool:
    """Return whether an event is an answer; `topic` is the catalog's name."""
    return topic == "interactions" and event["type"] == "quiz_complete"


def is_academic(topic: str, _event: Mapping[str, Any]) -> bool:
    """Return whether an event is the school's; `topic` is the catalog's name."""
    return topic == "academics"


class Counted(NamedTuple):
    """
    What `--events` and progress count.

    Attributes:
        name: In the plural.
        is_one: Says of a topic and an event whether it counts.
    """

    name: str
    is_one: Callable[[str, Mapping[str, Any]], bool]


ANSWERS: Final = Counted("answers", is_answer)
ACADEMICS: Final = Counted("academic events", is_academic)
"""Where there are no answers."""

ANY: Final = Counted("events", lambda _topic, _event: True)
"""Where both come, as platforms send them."""
