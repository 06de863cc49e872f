"""docker-compose.yml and the Dockerfile, as values: which services there are, and what a process of one is given."""

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"

_UNIT = {"m": 1 << 20, "g": 1 << 30}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """
    One service.

    Attributes:
        name: In the file.
        said: What the file says of it, merged and with the defaults of its variables.
    """

    name: str
    said: Json

    @property
    def is_ours(self) -> bool:
        """Whether its image is built from this project."""
        return "build" in self.said

    @property
    def runs_once(self) -> bool:
        """Whether it ends by itself when it is done."""
        return bool(self.said["restart"] == "no")

    @property
    def command(self) -> list[str]:
        """What is run: the image's entry point and the command."""
        return [*entry_point(), *self.said["command"]] if self.is_ours else list(self.said["command"])

    @property
    def environment(self) -> dict[str, str]:
        """Variables: the image's, and the file's over them."""
        own: dict[str, str] = self.said.get("environment", {})
        return (image_environment() if self.is_ours else {}) | own

    @property
    def probe(self) -> list[str]:
        """The command of its health check."""
        kind: str
        command: list[str]
        kind, *command = self.said["healthcheck"]["test"]
        assert kind == "CMD", f"expected a command without a shell, found {kind}"
        return command

    @property
    def waits_for(self) -> set[str]:
        """Names of the services that come before it."""
        return set(self.said.get("depends_on", {}))

    @property
    def memory_bytes(self) -> int:
        """How much memory it may take up."""
        text: str = self.said["deploy"]["resources"]["limits"]["memory"]
        return int(text[:-1]) * _UNIT[text[-1]]

    @property
    def ports(self) -> list[tuple[str, int, int]]:
        """Host's address, host's port and container's port of each that is published."""
        return [(host, int(outside), int(inside)) for host, outside, inside in map(_port, self.said.get("ports", []))]


@cache
def services() -> dict[str, Service]:
    """Return the services by name, in the file's order."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text("utf-8"))
    return {name: Service(name, said) for name, said in yaml.safe_load(text)["services"].items()}


@cache
def stages() -> dict[str, list[str]]:
    """Return the instructions of the Dockerfile's stages by name, continued lines as one."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        begins = re.fullmatch(r"FROM \S+ AS (\w+)", line)
        if begins:
            found[begins[1]] = []
        if found:
            list(found.values())[-1].append(line)
    return found


def image_environment() -> dict[str, str]:
    """Return the variables that our images have."""
    texts = [line.removeprefix("ENV ") for line in stages()["base"] if line.startswith("ENV ")]
    return dict(part.split("=", 1) for text in texts for part in shlex.split(text))


def entry_point() -> list[str]:
    """Return the entry point of our images."""
    (line,) = (line for line in stages()["base"] if line.startswith("ENTRYPOINT "))
    words: list[str] = yaml.safe_load(line.removeprefix("ENTRYPOINT "))
    return words


def _port(text: str) -> tuple[str, str, str]:
    host, outside, inside = text.rsplit(":", 2)
    return host, outside, inside
