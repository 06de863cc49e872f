"""What the documents say of a deployment is so: services, places, ports and settings are those of the files."""

import re
import shlex
from typing import Any

import pytest
import yaml

from stream.settings import Settings
from tests.deploy.compose import ROOT, services, stages

DEPLOY, RUNBOOK = (ROOT / "docs" / name for name in ("deploy.md", "runbook.md"))
_NAMING = {"exec", "logs", "restart", "run", "stop", "start"}
"""Subcommands of compose that are given services."""


def composed() -> list[str]:
    """Return every line of the documents that calls compose."""
    text = DEPLOY.read_text("utf-8") + RUNBOOK.read_text("utf-8")
    return re.findall(r"^docker compose .*$", text, flags=re.MULTILINE)


def manifests() -> list[dict[str, Any]]:
    """Return the manifests of Kubernetes in the documents."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", DEPLOY.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [part for block in blocks for part in yaml.safe_load_all(block) if "kind" in part]


@pytest.mark.parametrize("line", sorted(set(composed())))
def test_services_that_are_named_exist(line: str) -> None:
    """A line that somebody types names services of the compose file."""
    command, *words = shlex.split(line)[2:]
    if command in _NAMING:
        named = [word for word in words if not word.startswith("--") and not word.isdecimal()]
        count = 1 if command in {"exec", "run"} else len(named)
        assert set(named[:count]) <= services().keys()


def test_the_table_of_services_is_whole() -> None:
    """Each service is listed, each published port is told, and each volume."""
    text = DEPLOY.read_text("utf-8")
    table = text[text.index("| service |") : text.index("First the broker starts")]
    for name, service in services().items():
        assert f"`{name}`" in table
        for _, outside, _ in service.ports:
            assert str(outside) in table
    volumes = text[text.index("| volume |") : text.index("Grafana has no administrator")]
    named = {v.split(":")[0] for service in services().values() for v in service.said.get("volumes", [])}
    assert {name for name in named if not name.startswith(".")} == set(
        re.findall(r"^\| `(\w+)`", volumes, re.MULTILINE)
    )


def test_images_of_others_are_told() -> None:
    """What nobody has started here is named with its version."""
    text = DEPLOY.read_text("utf-8")

    assert all(f"`{service.said['image']}`" in text for service in services().values() if not service.is_ours)


def test_the_manifest_asks_what_the_image_answers() -> None:
    """Liveness is /healthz, readiness /readyz, on the image's port; variables are settings; it is the image's user."""
    (manifest,) = manifests()
    pod = manifest["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    names = {variable["name"] for variable in worker["env"]}

    assert manifest["spec"]["selector"]["matchLabels"] == manifest["spec"]["template"]["metadata"]["labels"]
    assert worker["image"] == services()["worker-1"].said["image"]
    assert worker["args"] == services()["worker-1"].said["command"]
    assert f"EXPOSE {worker['ports'][0]['containerPort']}" in " ".join(stages()["worker"])
    assert {worker[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "startup")} == {"/healthz"}
    assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {worker[f"{kind}Probe"]["httpGet"]["port"] for kind in ("liveness", "startup", "readiness")} == {"metrics"}
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['fsGroup']}" in stages()["worker"]
    assert pod["terminationGracePeriodSeconds"] == int(services()["worker-1"].said["stop_grace_period"][:-1])
    assert {name.removeprefix("STREAM_").lower() for name in names} <= Settings.model_fields.keys()
    assert {mount["name"] for mount in worker["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
