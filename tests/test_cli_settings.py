"""A setting that is wrong is told in our words: what was expected, in which range, and what was found."""

import pytest
from click.testing import CliRunner

from stream.cli import main
from stream.settings import SECRETS, Settings


def refused(**variables: str) -> str:
    """Return what a command says of settings."""
    done = CliRunner().invoke(main, ["pseudonym", "ada"], env=variables)
    assert done.exit_code == 2
    return done.stderr.removeprefix("stream: ").rstrip()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PARTITIONS", "abc", "a whole number from 1 to 1,000"),
        ("PARTITIONS", "0", "a whole number from 1 to 1,000"),
        ("PARTITIONS", "2.5", "a whole number from 1 to 1,000"),
        ("LEARNING_RATE", "0", "a number above 0, to 1"),
        ("LINGER_MS", "soon", "a number from 0 to 1,000"),
        ("GUARANTEE", "maybe", "one of at_least_once, exactly_once"),
        ("RISK_SENSITIVE", "perhaps", "true or false"),
        ("GROUP", "a b", "a text that matches [A-Za-z0-9._-]{1,100}"),
        ("PSEUDONYM_SINCE", "2026-01-31T00:00:00", "a moment with its offset, such as 2026-01-31T00:00:00Z"),
        ("MODEL_STORE", "", "a text that is not empty"),
        ("BROKER", "", "host:port, such as 127.0.0.1:9092 or [::1]:9092, several joined by commas"),
    ],
)
def test_a_wrong_setting_names_type_and_range(name: str, value: str, expected: str) -> None:
    """One sentence, in the words of the reference."""
    assert refused(**{f"STREAM_{name}": value}) == f"STREAM_{name}: expected {expected}, found {value!r}"


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_no_setting_is_refused_in_words_of_a_library(field: str) -> None:
    """Each that refuses what is surely wrong says what it expected; a secret is not shown."""
    wrong = "\t?"
    done = CliRunner().invoke(main, ["pseudonym", "ada"], env={f"STREAM_{field.upper()}": wrong})
    if done.stderr.startswith(f"stream: STREAM_{field.upper()}: "):
        assert done.stderr.startswith(f"stream: STREAM_{field.upper()}: expected ")
        assert (", found " in done.stderr) == (field not in SECRETS)
