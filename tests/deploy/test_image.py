"""The images, as far as they can be known without building them: their file, what goes in, and what the probe says."""

import os
import re
import stat
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from stream.settings import Settings
from tests.deploy.compose import DOCKERFILE, ROOT, image_environment, stages

PROBE = ROOT / "deploy" / "probe.py"


def project() -> dict[str, Any]:
    """Return what pyproject.toml says of the project."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile keeps to the rules, the mild ones too."""
    done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True, check=False, env=_path())

    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_both_images_are_nobody_and_say_how_they_are() -> None:
    """Each ends without rights, with a health check that a supervisor may kill by, and its labels last."""
    for name, port in (("worker", "6066"), ("trainer", "6067")):
        lines = stages()[name]
        kinds = [line.partition(" ")[0] for line in lines]
        (check,) = (line for line in lines if line.startswith("HEALTHCHECK "))

        assert "USER 10001:10001" in lines
        assert "RUN" not in kinds[kinds.index("USER") :]
        assert check.endswith(f'CMD ["probe", "http://127.0.0.1:{port}/healthz"]')
        assert f'CMD ["{name}"]' in lines
        assert kinds[-1] == "LABEL"
        assert len(re.findall(r"org\.opencontainers\.image\.\w+=", lines[-1])) == 5


def test_only_the_trainer_gets_torch() -> None:
    """What the images install are the project's own lists, worked out by the Dockerfile's own line."""
    assert "trainer.txt" not in " ".join(stages()["base"] + stages()["worker"])
    assert any("--requirement /lists/worker.txt" in line for line in stages()["base"])
    assert any("--requirement /lists/trainer.txt" in line for line in stages()["trainer"])


@pytest.mark.parametrize("extras", ["", "s3"])
def test_the_lists_are_those_of_the_project(tmp_path: Path, extras: str) -> None:
    """The command of the stage `requirements`, run as it stands, writes what pyproject.toml says, chosen extras too."""
    (command,) = (line.removeprefix("RUN ") for line in stages()["requirements"] if line.startswith("RUN "))
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, env=_path() | {"EXTRAS": extras})
    optional = project()["optional-dependencies"]
    expected = project()["dependencies"] + optional.get(extras, [])

    assert (tmp_path / "worker.txt").read_text("utf-8").splitlines() == expected
    assert (tmp_path / "trainer.txt").read_text("utf-8").splitlines() == optional["train"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trainer.txt", "worker.txt"]
    assert not [line for line in expected if line.startswith("torch")]


def test_its_variables_are_settings() -> None:
    """What the images set by themselves is a setting, and lies in the home of their user."""
    ours = {name: value for name, value in image_environment().items() if name.startswith("STREAM_")}

    assert {name.removeprefix("STREAM_").lower() for name in ours} <= Settings.model_fields.keys()
    assert {ours.pop("STREAM_METRICS_HOST"), ours.pop("STREAM_PAGE_HOST")} == {"0.0.0.0"}  # noqa: S104 (of a container)
    assert all(value.startswith("/var/lib/learnerstream/") for value in ours.values())


def test_the_context_has_what_is_copied_and_no_more() -> None:
    """Everything is left out but for what a COPY names."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    copied = {
        part.rstrip("/")
        for lines in stages().values()
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for part in [word for word in line.split()[1:-1] if not word.startswith("--")]
    }

    assert {name.rstrip("/") for name in kept} - {"deploy"} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_wheel_has_the_page_and_no_tests(tmp_path: Path) -> None:
    """What is installed is the two packages with their data; the command `stream` comes with it."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        scripts = archive.read(entry).decode()
    tracked = {
        str(path.relative_to(ROOT))
        for package in ("stream", "schemas")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert {name for name in names if ".dist-info/" not in name} == tracked
    assert {"stream/page/static/index.html", "stream/page/static/page.js", "stream/page/static/page.css"} <= set(names)
    assert "stream = stream.console:main" in scripts


class _Answer(BaseHTTPRequestHandler):
    """Answers as the path says."""

    def do_GET(self) -> None:
        """Say that all is well on `/fine`, and what is wrong elsewhere."""
        is_fine = self.path == "/fine"
        self.send_response(200 if is_fine else 503)
        self.end_headers()
        self.wfile.write(b"ready\n" if is_fine else b"state is recovering: about 7 records are left\n")

    def log_message(self, *_: object) -> None:
        """Do nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Serve what the probe asks."""
    with HTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [("/fine", 0, "ready\n"), ("/not", 1, "state is recovering: about 7 records are left\n")],
)
def test_the_probe_says_what_is_wrong(endpoint: str, path: str, status: int, said: str) -> None:
    """Its exit status is the verdict, its output the sentence; a proxy is not asked."""
    proxies = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    done = subprocess.run([PROBE, endpoint + path], capture_output=True, text=True, check=False, env=_path() | proxies)

    assert (done.returncode, done.stdout, done.stderr) == (status, said, "")


def test_the_probe_says_that_nobody_answers() -> None:
    """A port behind which nothing is makes a sentence, no traceback."""
    done = subprocess.run([PROBE, "http://127.0.0.1:1/healthz"], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stdout.startswith("http://127.0.0.1:1/healthz does not answer: ")
    assert done.stderr == ""


def test_the_probe_can_be_run() -> None:
    """It keeps its mode in the checkout, and the image gives it one."""
    assert PROBE.stat().st_mode & stat.S_IXUSR
    assert "COPY --chmod=755 deploy/probe.py /usr/local/bin/probe" in stages()["base"]


def _path() -> dict[str, str]:
    """Return an environment in which this interpreter's commands come first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
