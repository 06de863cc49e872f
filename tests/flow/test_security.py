"""A broker that lets in only those who say who they are."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.settings import Settings
from stream.transport.clients import client_config
from tests.broker.kafka import SASL_USER, KafkaServer
from tests.flow.system import System, answer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def secured(kafka: KafkaServer, prefix: str, sasl_password: str, tmp_path: Path) -> Iterator[System]:
    """Give a system whose every client uses the listener with SASL."""
    options = {
        "broker": kafka.sasl_bootstrap,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": SASL_USER,
        "sasl_password": sasl_password,
    }
    system = System(tmp_path, kafka.bootstrap, prefix, dict(options))
    yield system
    system.end()


def test_worker_and_trainer_work_over_sasl(secured: System, sasl_password: str) -> None:
    """Topics, consumers, producers and control topics all use the same credentials; the log never shows them."""
    secured.options["learn_from"] = 1_000_000
    secured.start("worker")
    secured.start("trainer")
    secured.send(answer(user, number) for number in range(5) for user in ("ada", "grace"))
    assert len(secured.predictions("correctness", 10)) == 10
    secured.await_metric("trainer", "stream_trainer_buffered_answers", lambda count: count == 10)
    for name in ("worker", "trainer"):
        secured.processes[name].stop(timeout_s=20)
        assert sasl_password not in secured.log(name)


@pytest.mark.parametrize("command", ["worker", "trainer", "topics check", "erase ada"])
def test_a_wrong_password_is_one_sentence(secured: System, command: str) -> None:
    """Within half a minute the command ends and says what was refused, without the password."""
    secured.create_topics()
    started = time.monotonic()
    wrong = "not-the-password"
    done = secured.command(*command.split(), sasl_password=wrong)
    assert time.monotonic() - started < 30
    assert done.returncode in (1, 2)
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("stream: ")
    assert "uthentication" in last
    assert "Traceback" not in done.stderr
    assert wrong not in done.stderr + done.stdout


def test_sasl_without_a_password_is_one_sentence(secured: System) -> None:
    """The settings are held against each other before anything is reached."""
    del secured.options["sasl_password"]
    done = System(secured.folder, secured.bootstrap, secured.prefix).command(
        "worker", security_protocol="SASL_PLAINTEXT", sasl_username=SASL_USER
    )
    assert done.returncode == 2
    assert "needs STREAM_SASL_USERNAME and STREAM_SASL_PASSWORD" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_certificates_reach_the_clients(tmp_path: Path) -> None:
    """With SSL each file that is set is handed on, and only those; with SASL_SSL the credentials too."""
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    for file in files.values():
        file.touch()
    given = {f"ssl_{name}_file": file for name, file in files.items()}
    config = client_config(Settings.model_validate({"security_protocol": "SSL"} | given))
    assert config["security.protocol"] == "SSL"
    assert config["ssl.ca.location"] == str(files["ca"])
    assert config["ssl.certificate.location"] == str(files["cert"])
    assert config["ssl.key.location"] == str(files["key"])
    assert not [name for name in config if name.startswith("sasl")]

    with_sasl = {"security_protocol": "SASL_SSL", "sasl_username": "me", "sasl_password": "secret"}
    config = client_config(Settings.model_validate(with_sasl | {"ssl_ca_file": files["ca"]}))
    assert (config["sasl.username"], config["sasl.password"], config["sasl.mechanism"]) == ("me", "secret", "PLAIN")
    assert "ssl.certificate.location" not in config
    assert not [name for name in client_config(Settings()) if name.startswith(("sasl", "ssl"))]


def test_a_certificate_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The setting names a file that must exist."""
    with pytest.raises(ValueError, match="expected a file, found nothing at"):
        Settings.model_validate({"ssl_ca_file": tmp_path / "no.pem"})
