"""docker-compose.yml: what its schema allows, and what a service of it has to have."""

import json
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from yamllint import linter
from yamllint.config import YamlLintConfig

from stream.settings import SECRETS, Settings
from tests.deploy.compose import COMPOSE, ROOT, Service, image_environment, services

_STYLE = """
extends: default
rules:
  line-length: {max: 120}
  document-start: disable
  comments: {min-spaces-from-content: 1}
"""
_SCHEMA = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"

each_service = pytest.mark.parametrize("service", services().values(), ids=lambda service: service.name)


def files() -> list[str]:
    """Return every YAML file that a deployment reads."""
    return [str(path.relative_to(ROOT)) for path in (COMPOSE, *sorted((ROOT / "deploy").rglob("*.yml")))]


def test_it_is_what_compose_reads() -> None:
    """The published schema of the Compose specification has nothing against it."""
    schema = json.loads(Path(str(distribution("check-jsonschema").locate_file(_SCHEMA))).read_text("utf-8"))

    assert schema["properties"]["services"], "expected the Compose specification"
    assert not [error.message for error in Draft7Validator(schema).iter_errors(yaml.safe_load(COMPOSE.read_text()))]


@pytest.mark.parametrize("file", files())
def test_yaml_is_tidy(file: str) -> None:
    """No key twice, no tab, no line that is too long."""
    flaws = linter.run((ROOT / file).read_text("utf-8"), YamlLintConfig(_STYLE))

    assert not [f"{flaw.line}: {flaw.desc}" for flaw in flaws]


def test_it_has_all_that_there_is() -> None:
    """Broker, Redis, topics, two workers, trainer, simulator, page, Prometheus, Grafana."""
    assert set(services()) == {
        "kafka", "redis", "topics", "worker-1", "worker-2", "trainer", "simulator", "page", "prometheus", "grafana",
    }  # fmt: skip


@each_service
def test_an_image_is_pinned(service: Service) -> None:
    """An image has a whole version; ours is the project's."""
    tag = service.said["image"].rpartition(":")[2]

    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-[a-z]+)?", tag), f"expected a whole version, found {tag}"
    if service.is_ours:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        assert (tag, service.said["build"]["args"]["VERSION"]) == (version, version)


@each_service
def test_a_service_is_nobody_in_particular(service: Service) -> None:
    """It is not root, gets no rights, and but for Kafka cannot write to its own file system."""
    user = service.said["user"].partition(":")[0]

    assert user not in {"", "0", "root"}
    assert service.said["cap_drop"] == ["ALL"]
    assert service.said["security_opt"] == ["no-new-privileges:true"]
    assert service.said.get("read_only", False) is (service.name != "kafka")
    assert not {"privileged", "network_mode", "pid", "devices", "cap_add"} & service.said.keys()
    assert not [volume for volume in service.said.get("volumes", []) if "docker.sock" in volume]


@each_service
def test_a_service_is_bounded(service: Service) -> None:
    """Processor, memory, processes and logs have a limit; no processor's is above what the smallest machine has."""
    limits = service.said["deploy"]["resources"]["limits"]

    assert 0 < float(limits["cpus"]) <= 1
    assert 0 < service.memory_bytes <= 4 << 30
    assert 0 < limits["pids"] <= 500
    assert service.said["logging"]["options"].keys() == {"max-size", "max-file"}


@each_service
def test_a_service_is_asked_for_its_health(service: Service) -> None:
    """What stays up has a health check and is started anew; what runs once has neither."""
    check = service.said["healthcheck"]
    if service.runs_once:
        assert check == {"disable": True}
        return
    assert service.said["restart"] == "unless-stopped"
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@each_service
def test_a_service_waits_for_what_can_be_waited_for(service: Service) -> None:
    """What it depends on is healthy, or has run once to its end."""
    for name, wait in service.said.get("depends_on", {}).items():
        expected = "service_completed_successfully" if services()[name].runs_once else "service_healthy"
        assert wait == {"condition": expected}


def test_what_runs_once_is_waited_for() -> None:
    """Else `docker compose up --wait` takes its end for a failure."""
    once = {name for name, service in services().items() if service.runs_once}

    assert once == {"topics"}
    assert all("topics" in services()[name].said["depends_on"] for name in ("worker-1", "worker-2", "trainer", "page"))


@each_service
def test_ports_are_on_loopback(service: Service) -> None:
    """Nothing is published beyond this machine."""
    assert {host for host, _, _ in service.ports} <= {"127.0.0.1"}


def test_no_port_is_published_twice() -> None:
    """Each port of the host belongs to one service."""
    outside = [port for service in services().values() for _, port, _ in service.ports]

    assert len(outside) == len(set(outside))


@each_service
def test_its_settings_are_settings(service: Service) -> None:
    """Each `STREAM_` variable is a setting, with a value that it takes, and none is a secret."""
    given = {name: value for name, value in service.environment.items() if name.startswith("STREAM_")}
    values = {name.removeprefix("STREAM_").lower(): value for name, value in given.items()}

    assert values.keys() <= Settings.model_fields.keys()
    assert not {"sasl_password", "pseudonym_key"} & values.keys() & set(SECRETS)
    assert bool(given) is service.is_ours
    Settings.model_validate(values)


def test_workers_differ_in_their_ids_alone() -> None:
    """Static membership needs an id for each; all else is the same."""
    said = {name: dict(services()[name].said) for name in ("worker-1", "worker-2")}
    for name, of_worker in said.items():
        assert of_worker["environment"]["STREAM_INSTANCE_ID"] == name
        of_worker["environment"] = of_worker["environment"] | {"STREAM_INSTANCE_ID": "its own"}
        del of_worker["ports"]

    assert said["worker-1"] == said["worker-2"]


def test_there_is_a_partition_for_every_worker() -> None:
    """A worker without partitions would have nothing to do."""
    partitions = {service.environment["STREAM_PARTITIONS"] for service in services().values() if service.is_ours}

    assert partitions == {"16"}


def test_what_is_kept_is_kept_in_volumes() -> None:
    """Each named volume is declared; only the trainer writes models, workers read them; places are the image's."""
    declared = yaml.safe_load(COMPOSE.read_text("utf-8"))["volumes"]
    mounts = {name: [v.split(":") for v in service.said.get("volumes", [])] for name, service in services().items()}
    named = {mount[0] for of_service in mounts.values() for mount in of_service if not mount[0].startswith(".")}
    store = image_environment()["STREAM_MODEL_STORE"]

    assert named == set(declared)
    assert ["models", store] in mounts["trainer"]
    assert mounts["worker-1"] == [["models", store, "ro"]]
    for name in ("STREAM_BUFFER", "STREAM_RISK_EXAMPLES"):
        folder = image_environment()[name].rpartition("/")[0]
        assert ["trainer", folder] in mounts["trainer"]


def test_what_is_mounted_is_there() -> None:
    """Each folder of the checkout that a service reads exists, and cannot be written to from there."""
    for service in services().values():
        for mount in (volume.split(":") for volume in service.said.get("volumes", [])):
            if mount[0].startswith("."):
                assert (ROOT / mount[0]).is_dir()
                assert mount[2] == "ro"


def test_grafana_reads_what_is_provisioned() -> None:
    """The dashboard's folder and the data source's host are those of the services."""
    mounts = dict(volume.split(":")[:2] for volume in services()["grafana"].said["volumes"])
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "learnerstream.yml").read_text())["providers"]
    home = services()["grafana"].environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"] == home.rpartition("/")[0]
    assert (ROOT / "deploy" / "grafana" / "dashboards" / home.rpartition("/")[2]).is_file()
    assert source["url"] == "http://prometheus:9090"


def test_nobody_can_change_grafana() -> None:
    """There is no account, and so no password that anyone could know."""
    environment = services()["grafana"].environment

    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in environment if "PASSWORD" in name]
