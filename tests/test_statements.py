"""Risks as xAPI statements: by the rules of xAPI 1.0.3, and saying what the prediction says."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import TOPICS, risk_category
from schemas.generate import samples
from schemas.statements import EXTENSION
from stream.adapters import xapi
from stream.ports import Message
from stream.settings import Settings
from stream.statements import of_risks
from stream.transport.topics import wanted
from tests.schemas.test_messages import RISK

HOME = "https://lms.example.org"

_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
_KNOWN = {
    "id", "actor", "verb", "object", "result", "context", "timestamp", "stored", "authority", "version", "attachments",
}  # fmt: skip


def risk(**fields: Any) -> dict[str, Any]:
    """Return a risk prediction as it goes out."""
    prediction = TOPICS["predictions.risk"].adapter.validate_python(RISK | fields)
    content: dict[str, Any] = prediction.model_dump(mode="json")
    return content


def stated(prediction: dict[str, Any]) -> dict[str, Any]:
    """Return the statement of a prediction, which its contract takes."""
    (message,) = of_risks([Message("predictions.risk", b"u-1", orjson.dumps(prediction), "p-1")], HOME)
    TOPICS["predictions.risk.xapi"].adapter.validate_json(message.value)
    statement: dict[str, Any] = orjson.loads(message.value)
    return statement


def broken_rules(statement: dict[str, Any]) -> list[str]:
    """Return which rules of xAPI 1.0.3 (part two, data) a statement breaks."""
    actor, score = statement["actor"], statement["result"]["score"]["scaled"]
    activity, context = statement["object"], statement["context"]
    moment = datetime.fromisoformat(statement["timestamp"])
    identifiers = [actor.keys() & {"mbox", "mbox_sha1sum", "openid", "account"}]
    extensions = [*statement["result"]["extensions"], *context["extensions"]]
    rules = {
        "2.1: only known properties": statement.keys() <= _KNOWN,
        "2.2: no nulls outside of extensions": None not in _values(statement),
        "2.4.1: the id is a UUID": str(UUID(statement["id"])) == statement["id"],
        "2.4.2: an agent has one identifier": [len(each) for each in identifiers] == [1],
        "2.4.2.4: an account is a home page and a name": bool(_IRI.fullmatch(actor["account"]["homePage"]))
        and actor["account"].keys() == {"homePage", "name"},
        "2.4.3: the verb is an IRI": bool(_IRI.fullmatch(statement["verb"]["id"])),
        "4.2: words are by language": all(
            re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", tag)
            for words in (statement["verb"]["display"], activity["definition"]["name"])
            for tag in words
        ),
        "2.4.4: an activity is an IRI, and so is its type": bool(_IRI.fullmatch(activity["id"]))
        and bool(_IRI.fullmatch(activity["definition"]["type"])),
        "2.4.5.1: scaled is from -1 to 1": -1 <= score <= 1,
        "2.4.6: a platform is only of an activity": activity["objectType"] == "Activity",
        "4.1: extensions are by IRI": all(_IRI.fullmatch(key) for key in extensions),
        "4.5: the time is ISO 8601 with an offset": moment.tzinfo is not None,
    }
    return [rule for rule, is_kept in rules.items() if not is_kept]


def _values(node: Any) -> list[Any]:
    """Return every value of a statement, but what stands in extensions."""
    if isinstance(node, dict):
        return [value for name, each in node.items() if name != "extensions" for value in _values(each)]
    return [value for each in node for value in _values(each)] if isinstance(node, list) else [node]


def test_a_statement_says_what_the_prediction_says() -> None:
    """Who, how much, for when, and why; the prediction behind it by its id."""
    prediction = risk()
    statement = stated(prediction)
    assert broken_rules(statement) == []
    assert statement["actor"]["account"] == {"homePage": HOME, "name": prediction["user_id"]}
    assert statement["result"]["score"] == {"scaled": prediction["score"]}
    assert statement["timestamp"] == prediction["as_of"]
    said = statement["result"]["extensions"] | statement["context"]["extensions"]
    assert {name.removeprefix(EXTENSION): value for name, value in said.items()} == {
        "category": "High",
        "factors": prediction["factors"],
        "prediction-id": "p-1",
        "model": prediction["model"],
        "fallback": False,
        "reason": "academics",
        "source": prediction["source"],
    }


def test_an_outcome_is_said_once_there_is_one() -> None:
    """A course that has ended says so; xAPI has no null for one that goes on."""
    assert stated(risk(outcome="pass"))["result"]["extensions"][EXTENSION + "outcome"] == "pass"
    assert EXTENSION + "outcome" not in stated(risk())["result"]["extensions"]


@given(score=st.floats(0, 1), user=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_every_statement_keeps_the_rules(score: float, user: str) -> None:
    """Whatever the score and whoever the learner."""
    fields = {"score": score, "category": risk_category(score), "user_id": user[:256]}
    assert broken_rules(stated(risk(**fields))) == []


def test_a_prediction_that_is_made_again_makes_the_same_statement() -> None:
    """A store that has a statement takes it once; its id is fixed for good, not only within a run."""
    first, again = stated(risk()), stated(risk(produced_at="2026-02-01T10:00:00Z"))
    assert first == again
    assert UUID(first["id"]).version == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"model": RISK["model"] | {"version": RISK["model"]["version"] + 1}},
        {"score": 0.65, "category": "High"},
        {"source": RISK["source"] | {"offset": RISK["source"]["offset"] + 1}},
        {"source": RISK["source"] | {"topic": "other-academics"}},
        {"factors": []},
        {"outcome": "pass"},
        {"prediction_id": "p-2"},
        {"user_id": "u-2"},
    ],
    ids="-".join,
)
def test_what_says_something_else_is_another_statement(fields: dict[str, Any]) -> None:
    """
    A store answers a second content under an id with 409, so that none may have two.

    A prediction is made again after a swap of the model, at another place, or by another group.
    """
    first, other = stated(risk()), stated(risk(**fields))
    assert first | {"id": ""} != other | {"id": ""}
    assert first["id"] != other["id"]


def test_another_home_page_is_another_statement() -> None:
    """It is of another account."""
    value = orjson.dumps(risk())
    ids = {
        message.message_id
        for home in (HOME, "https://other.example.org")
        for message in of_risks([Message("predictions.risk", b"u-1", value, "p-1")], home)
    }
    assert len(ids) == 2


def test_a_statement_goes_to_the_user_and_is_an_event_of_its_own() -> None:
    """Its key is the prediction's, its id its own; other messages make none."""
    value = orjson.dumps(risk())
    messages = [Message("predictions.time", b"u-1", b"{}", "t-1"), Message("predictions.risk", b"u-1", value, "p-1")]
    (message,) = of_risks(messages, HOME)
    assert of_risks([message], HOME) == []
    assert (message.topic, message.key) == ("predictions.risk.xapi", b"u-1")
    assert message.message_id == orjson.loads(message.value)["id"] != "p-1"


def test_a_statement_that_comes_back_is_no_evidence() -> None:
    """A store may forward what it gets to a topic that we read: what we say of a learner is nothing the learner did."""
    found = xapi.convert(stated(risk()))
    assert found.made == ()
    assert found.ignored == "predicted"


def test_the_shown_statement_is_that_of_the_shown_prediction() -> None:
    """What the documents show belongs together."""
    shown = [stated(prediction) for prediction in samples()["predictions.risk"]]
    assert shown == samples()["predictions.risk.xapi"]


def test_the_topic_is_there_only_where_statements_are_wanted() -> None:
    """A setting brings it; without one no broker has a topic that stays empty."""
    without, with_them = Settings(), Settings(risk_statements=True, actor_home_page=HOME)
    assert "predictions.risk.xapi" not in {topic.name for topic in wanted(without)}
    assert {topic.name for topic in wanted(with_them)} - {topic.name for topic in wanted(without)} == {
        "predictions.risk.xapi"
    }


def test_statements_need_to_know_whose_ids_they_are() -> None:
    """A home page that nobody named would give every learner a second identity in the store."""
    with pytest.raises(ValidationError, match="needs STREAM_ACTOR_HOME_PAGE"):
        Settings(risk_statements=True)
    with pytest.raises(ValidationError, match="actor_home_page"):
        Settings(risk_statements=True, actor_home_page="lms")


@pytest.mark.parametrize(
    "page",
    [HOME, "http://127.0.0.1:8080/moodle", "http://[::1]/", "https://schule.example/ä?a=%20b#c", "https://ä.example"],
)
def test_a_home_page_is_a_url(page: str) -> None:
    """Of any script's letters: stores ask for an IRL."""
    assert Settings(actor_home_page=page).actor_home_page == page


@pytest.mark.parametrize(
    "page",
    ["http://<>", 'https://x"y', "https://x\ty", "https://x y", "https://x\n", "https://", "https:///moodle",
     "https://lms:port", "https://lms/%zz", "ftp://lms", "https://a\\b", "https://a{b}"],
)  # fmt: skip
def test_what_is_no_url_is_refused_in_a_sentence(page: str) -> None:
    """A store would refuse every statement, long after the worker has started."""
    with pytest.raises(ValidationError, match=r"expected a URL such as https://lms\.example\.org, found"):
        Settings(actor_home_page=page)
