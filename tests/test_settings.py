"""Settings of risk: fields about a person are no features, and what is named fits an enrolment."""

from typing import Any

import pytest
from pydantic import ValidationError

from stream.models import weekly
from stream.settings import Settings, is_sensitive
from stream.state import academic
from stream.transport import topics


@pytest.mark.parametrize(
    "field",
    [
        "gender", "student_gender", "studentGender", "GENDER", "genderIdentity", "sex", "isDisabled", "disability",
        "imd", "imd-band", "imdBand", "IMDBand", "deprivation", "age", "age_band", "ageBand", "studentAge", "age2",
        "dob", "DOB", "DoB", "studentDob", "dateOfBirth", "birth_year", "maritalStatus", "marital", "ethnicity",
        "householdIncome", "nationality", "race", "healthStatus",
    ],
)  # fmt: skip
def test_fields_about_a_person_are_known_by_their_names(field: str) -> None:
    """However the words in a name are set apart."""
    assert is_sensitive(field)


@pytest.mark.parametrize(
    "field",
    [
        "education", "attempts", "credits", "agenda", "usage", "language", "package", "imaging", "packageUsage",
        "teachingLanguage", "adobe", "essex", "pages", "image_count",
    ],
)  # fmt: skip
def test_other_fields_are_allowed(field: str) -> None:
    """Letters that happen to stand within a word say nothing about a person."""
    assert not is_sensitive(field)


def refusal(**given: Any) -> str:
    """Return the sentence with which settings are refused."""
    with pytest.raises(ValidationError) as refused:
        Settings(**given)
    (problem,) = refused.value.errors()
    return str(problem["msg"])


@pytest.mark.parametrize("field", ["ageBand", "dob", "maritalStatus"])
def test_a_sensitive_feature_is_refused_unless_it_is_wished_for(field: str) -> None:
    """The sentence names the field and both ways out; as a slice it needs no permission."""
    sentence = refusal(risk_features=f"credits,{field}")
    assert f"expected no field about a person, found {field}" in sentence
    assert "STREAM_RISK_SLICES" in sentence
    assert "STREAM_RISK_SENSITIVE=true" in sentence
    assert Settings(risk_slices=field).risk_slice_fields == {field}
    assert field in Settings(risk_features=f"credits,{field}", risk_sensitive=True).risk_feature_fields


def test_no_more_fields_are_named_than_an_enrolment_keeps() -> None:
    """Seven, features and slices together; one that is both counts once."""
    most = academic.FACTS - 1
    fields = [f"f-{number}" for number in range(most + 1)]
    assert len(Settings(risk_features=",".join(fields[:most])).risk_feature_fields) == most
    assert Settings(risk_features=",".join(fields[:-3]), risk_slices=",".join(fields[-3:-1])).risk_slice_fields
    both = Settings(risk_features=",".join(fields[:most]), risk_slices="f-0", risk_sensitive=True)
    assert both.risk_slice_fields == {"f-0"}
    for features, slices in ((fields, []), (fields[:4], fields[4:])):
        sentence = refusal(risk_features=",".join(features), risk_slices=",".join(slices))
        assert f"STREAM_RISK_SLICES: expected at most {most} fields together" in sentence
        assert f"found {most + 1}: f-0, f-1, " in sentence
        assert sentence.endswith("; name fewer")


@pytest.mark.parametrize("name", ["course", "course_day", *weekly.NUMBERS])
@pytest.mark.parametrize("setting", ["risk_features", "risk_slices"])
def test_names_of_ours_are_refused(setting: str, name: str) -> None:
    """A field of the context under such a name would be taken for what every enrolment has."""
    sentence = refusal(**{setting: f"age,{name}"}, risk_sensitive=True)
    assert f"STREAM_{setting.upper()}: expected fields of an enrolment's context, found {name}, " in sentence


@pytest.mark.parametrize("table", topics.TABLES)
@pytest.mark.parametrize("group", ["learnerstream", "school.a"])
def test_our_own_changelogs_are_no_sources(group: str, table: str) -> None:
    """What a worker writes there would come back to it; another group's are others'."""
    name = topics.changelog(Settings(group=group), table)
    sentence = refusal(sources=f"lms.xapi=xapi,{name}=auto", group=group)
    assert f"STREAM_SOURCES: expected topics of other systems, found {name}, which the worker itself" in sentence
    assert Settings(sources=name, group="others").source_formats == {name: "auto"}


@pytest.mark.parametrize("name", ["interactions", "x.interactions"])
def test_topics_named_like_ours_are_no_sources(name: str) -> None:
    """With a prefix or without: metrics and health tell of our own by the catalog's names."""
    sentence = refusal(sources=f"{name}=auto", topic_prefix="x.")
    assert f"STREAM_SOURCES: expected topics of other systems, found {name}, which the worker itself" in sentence


def test_a_key_ends_before_its_newline() -> None:
    """As a file that it was read from ends in one; other spaces are its own."""
    for key in (Settings(pseudonym_key=" secret \r\n").pseudonym_key, Settings(pseudonym_key=" secret ").pseudonym_key):
        assert key is not None
        assert key.get_secret_value() == " secret "
    assert "found an empty text" in refusal(pseudonym_key=" \n")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("kafka:9092", "kafka:9092"),
        (" kafka-1.school_a.example:9092, kafka-2:1 ,", "kafka-1.school_a.example:9092,kafka-2:1"),
        ("[::1]:9092", "[::1]:9092"),
        ("[fe80::1%eth0]:65535", "[fe80::1%eth0]:65535"),
    ],
)
def test_addresses_of_brokers(given: str, kept: str) -> None:
    """Names, IPv4 and IPv6, each with its port; spaces around them are nothing."""
    assert Settings(broker=given).broker == kept


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("localhost", "localhost"), ("kafka:9092,other", "other"), ("kafka:0", "kafka:0"), ("kafka:", "kafka:"),
        ("kafka:65536", "kafka:65536"), (":9092", ":9092"), ("::1:9092", "::1:9092"), ("a b:1", "a b:1"),
        ("PLAINTEXT://a:1", "PLAINTEXT://a:1"), ("", ""), (" , ", " , "), ("a:\u0669", "a:\u0669"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(given: str, found: str) -> None:
    """Before anything waits for it; the sentence names the one that is wrong."""
    assert refusal(broker=given).endswith(f"several joined by commas, found {found!r}")
