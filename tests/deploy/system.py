"""docker-compose.yml without containers: its services of ours, and Prometheus, as processes on this machine."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import orjson
import psutil

from tests.broker.process import ServerProcess, free_ports
from tests.deploy.compose import ROOT, Json, Service, services
from tests.deploy.promtool import prometheus, promtool

HEALTHY_S = 90.0
_HOME = "/var/lib/learnerstream"
_PORTS = {"worker": "STREAM_WORKER_METRICS_PORT", "trainer": "STREAM_TRAINER_METRICS_PORT", "page": "STREAM_PAGE_PORT"}


@dataclass
class Composed:
    """
    The services as processes.

    What a container would have is replaced, and nothing else: names of hosts, ports, folders, and the topics' prefix.

    Attributes:
        folder: For volumes, logs and what is installed.
        prefix: Of topics and group.
        broker: Address of Kafka.
        redis: URL of Redis.
        processes: By the service's name, those that were started.
        ports: By the service's name, the port of this machine that stands for its container's.
    """

    folder: Path
    prefix: str
    broker: str
    redis: str
    processes: dict[str, ServerProcess] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [name for name, service in services().items() if service.ports]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        for folder in ("home/models", "home/trainer", "tmp", "prometheus"):
            (self.folder / folder).mkdir(parents=True)
        self._install()
        self._configure_prometheus()

    def up(self) -> None:
        """Start every service that can be, as `docker compose up` does: what it depends on is healthy, or has ended."""
        waiting = [name for name, service in services().items() if service.is_ours or name == "prometheus"]
        missing = set(waiting)
        while waiting:
            able = [name for name in waiting if not services()[name].waits_for & missing]
            assert able, f"{waiting} wait for each other"
            for name in able:
                if services()[name].runs_once:
                    self._run(name)
                else:
                    self._start(name)
            self._await_health([name for name in able if name in self.processes])
            missing -= set(able)
            waiting = [name for name in waiting if name not in able]

    def _run(self, name: str) -> None:
        """Run a service that ends by itself, and expect it to succeed."""
        service = services()[name]
        done = subprocess.run(
            self._words(service, service.command),
            cwd=self.folder / "home", env=self._environment(service), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def _start(self, name: str) -> None:
        service = services()[name]
        words = self._words(service, service.command if service.is_ours else ["prometheus", *service.command])
        variables = [f"{key}={value}" for key, value in self._environment(service).items()]
        process = ServerProcess(name, ["env", "-i", *variables, *words], folder=self.folder / "home")
        process.log = self.folder / f"{name}.log"
        process.start(lambda: True, timeout_s=HEALTHY_S)
        self.processes[name] = process

    def _await_health(self, names: list[str]) -> None:
        """Return when each one's health check is content."""
        deadline = time.monotonic() + HEALTHY_S
        for name in names:
            while (said := self.probe(name))[0] != 0:
                assert self.processes[name].is_running, f"{name} has ended: {self.words(name)}"
                assert time.monotonic() < deadline, f"{name} is not healthy: {said[1]}{self.words(name)}"
                time.sleep(0.1)

    def probe(self, name: str) -> tuple[int, str]:
        """Return the exit status of a service's health check, and what it said."""
        service = services()[name]
        done = subprocess.run(
            self._words(service, service.probe),
            cwd=self.folder / "home", env=self._environment(service), capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def memory_bytes(self, name: str) -> int:
        """Return what a service takes up, with the processes that it has started."""
        process = self.processes[name]._process
        assert process is not None
        first = psutil.Process(process.pid)
        found: int = first.memory_info().rss
        for child in first.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                found += child.memory_info().rss
        return found

    def stop(self, name: str) -> int:
        """Tell a service to end as compose would, and return its exit status; within its grace."""
        said = services()[name].said
        process = self.processes[name]
        assert process._process is not None
        process._signal(signal.Signals[said.get("stop_signal", "SIGTERM")])
        status = process._process.wait(float(said.get("stop_grace_period", "10s").removesuffix("s")))
        process.kill()
        return status

    def end(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes.values():
            process.kill()

    def words(self, name: str) -> str:
        """Return the latest lines of a service's log."""
        return "\n".join(["", *self.processes[name].log.read_text("utf-8", "replace").splitlines()[-15:]])

    def get(self, name: str, path: str) -> HTTPResponse:
        """Return what a service answers over HTTP."""
        found: HTTPResponse = urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=60)
        return found

    def ask(self, path: str, **query: str) -> Any:
        """Return what Prometheus answers to a question of its API."""
        with self.get("prometheus", f"/api/v1/{path}?{urlencode(query)}") as answer:
            said: Json = orjson.loads(answer.read())
        assert said["status"] == "success", said
        return said["data"]

    def series(self, expr: str) -> list[tuple[Json, float]]:
        """Return what an expression gives now: labels and values."""
        return [(each["metric"], float(each["value"][1])) for each in self.ask("query", query=expr)["result"]]

    def _install(self) -> None:
        """Put the wheel's own files before the checkout's, with the command that it installs."""
        wheels = self.folder / "wheels"
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels], cwd=ROOT, check=True)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.folder / "site")
            (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
            module, function = archive.read(entry).decode().split("stream = ")[1].split()[0].split(":")
        commands = self.folder / "bin"
        commands.mkdir()
        # As pip writes it: a child process that is spawned reads it again, and must not run it.
        script = f"#!{sys.executable}\nfrom {module} import {function}\nif __name__ == '__main__':\n    {function}()\n"
        (commands / "stream").write_text(script, "utf-8")
        (commands / "stream").chmod(0o755)
        (commands / "probe").symlink_to(ROOT / "deploy" / "probe.py")
        for command in (prometheus(), promtool()):
            (commands / command.name).symlink_to(command)

    def _configure_prometheus(self) -> None:
        """Have Prometheus read what compose mounts, with this machine's ports, and look every second."""
        configuration = self.folder / "etc"
        configuration.mkdir()
        for file in ("prometheus.yml", "rules.yml"):
            text = (ROOT / "deploy" / "prometheus" / file).read_text("utf-8")
            for name, service in services().items():
                for _, _, inside in service.ports:
                    text = text.replace(f'"{name}:{inside}"', f'"127.0.0.1:{self.ports[name]}"')
            text = text.replace('"127.0.0.1:9090"', f'"127.0.0.1:{self.ports["prometheus"]}"')
            (configuration / file).write_text(text.replace("_interval: 10s", "_interval: 1s"), "utf-8")

    def _environment(self, service: Service) -> dict[str, str]:
        """Return what a container of a service has, on this machine."""
        variables = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "site"),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
        } | service.environment
        if not service.is_ours:
            return variables
        variables |= {"STREAM_TOPIC_PREFIX": self.prefix, "STREAM_GROUP": f"{self.prefix}g"}
        command = service.said["command"][0]
        if command in _PORTS:
            variables[_PORTS[command]] = str(self.ports[service.name])
        return {name: self._here(value) for name, value in variables.items()}

    def _words(self, service: Service, words: list[str]) -> list[str]:
        """Return a command of a service with what stands for its places here."""
        here = [self._here(word) for word in words]
        for _, _, inside in service.ports:
            here = [word.replace(f":{inside}", f":{self.ports[service.name]}") for word in here]
        if here[0] == "prometheus":
            here.append(f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}")
        return here

    def _here(self, text: str) -> str:
        places = {
            "redis://redis:6379/0": self.redis,
            "kafka:9092": self.broker,
            "0.0.0.0": "127.0.0.1",  # noqa: S104 (what a container listens on)
            _HOME: str(self.folder / "home"),
            "/etc/prometheus/": f"{self.folder / 'etc'}/",
            "=/prometheus": f"={self.folder / 'prometheus'}",
        }
        for there, here in places.items():
            text = text.replace(there, here)
        return text
