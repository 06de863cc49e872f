"""
What all tests share: real servers for the run, names of one's own on them, and a clean environment.

A test that uses `kafka` is marked `broker` by itself, and its result says so in the JUnit report, where
`.ci/run` counts it.
"""

import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from hypothesis import settings
from playwright.sync_api import Browser

from tests.broker import kafka as kafka_broker
from tests.broker import redis_server as redis_broker
from tests.broker.kafka import KafkaServer
from tests.broker.redis_server import RedisServer
from tests.page import browser

_REQUIRE_BROKER = "STREAM_REQUIRE_BROKER"

# No deadline: the machine is shared with a broker. In CI the examples are the same every time.
settings.register_profile("stream", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("stream")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on the real broker, and have the JUnit report say so."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("broker")
        if item.get_closest_marker("broker"):
            item.user_properties.append(("broker", "real"))


def _do_without(lack: str) -> NoReturn:
    if os.environ.get(_REQUIRE_BROKER) == "1":
        pytest.fail(lack, pytrace=False)
    pytest.skip(lack)


@pytest.fixture(scope="session")
def sasl_password() -> str:
    """Return the password of the user `worker` on the broker's SASL listener."""
    return secrets.token_hex(16)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, sasl_password: str) -> Iterator[KafkaServer]:
    """Start one real broker for the whole run; who stops or kills it starts it again."""
    lack = kafka_broker.missing()
    if lack:
        _do_without(lack)
    server = KafkaServer(tmp_path_factory.mktemp("kafka"), password=sasl_password)
    with server:
        yield server
    shutil.rmtree(server.data)  # the log stays, as pytest keeps the folders of the latest runs


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start one real Redis for the whole run; who stops or kills it starts it again."""
    lack = redis_broker.missing()
    if lack:
        _do_without(lack)
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def asyncapi_schema() -> dict[str, Any]:
    """Return the official JSON Schema of AsyncAPI 3.0, which `make test` fetches."""
    archives = sorted((Path(__file__).parents[1] / ".cache" / "asyncapi").glob("asyncapi-specs-*.tgz"))
    if not archives:
        _do_without("the schemas of AsyncAPI are missing: run `make test` once, which fetches them")
    with tarfile.open(archives[-1]) as archive:
        schema = archive.extractfile("package/schemas/3.0.0.json")
        assert schema is not None
        content: dict[str, Any] = json.load(schema)
    return content


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Open a real Chromium for the tests of one module, none of which may be async."""
    lack = browser.missing()
    if lack:
        _do_without(lack)
    with browser.opened() as opened:
        yield opened


@pytest.fixture
def prefix() -> str:
    """Return a name that nothing else on the servers begins with, for topics, groups and keys."""
    return f"t{secrets.token_hex(6)}-"


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Take back how a command that ran in the test's own process has set up the log."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's `STREAM_*` settings away from the tests."""
    for name in [name for name in os.environ if name.startswith("STREAM_") and name != _REQUIRE_BROKER]:
        monkeypatch.delenv(name)
