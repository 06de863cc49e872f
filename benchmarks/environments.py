"""
Environments of the peers, each of its own: their pins clash. `python -m benchmarks.environments` makes all.

They hold what a peer needs and what the pure step imports; the step itself is this checkout's, by PYTHONPATH.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "bench"
_VERSIONS = """
import sys
from importlib.metadata import distributions
for found in distributions():
    if found.name in sys.argv[1:]:
        print(found.name, found.version)
"""
PEERS = ("quix", "bytewax", "faust_plain", "by_hand")


def python_of(peer: str) -> Path:
    """Return a peer's interpreter; its environment is made if it is not there, or was made from another list."""
    listed = Path(__file__).parent / "peers" / f"{peer}.txt"
    folder = CACHE / "environments" / peer
    python = folder / "bin" / "python"
    made_from = folder / ".made-from"
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    if not made_from.exists() or made_from.read_text() != digest:
        click.echo(f"Making the environment of {peer} ...", err=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]
        subprocess.run([str(python), *install, str(listed)], check=True)
        made_from.write_text(digest)
    return python


def versions(python: Path, *packages: str) -> dict[str, str]:
    """Return the versions of packages in an environment, those that it has."""
    told = subprocess.run([str(python), "-c", _VERSIONS, *packages], capture_output=True, text=True, check=True).stdout
    return dict(line.split(maxsplit=1) for line in told.splitlines())


def environment() -> dict[str, str]:
    """Return the variables of a peer's process: none of the caller's settings, one thread a library."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


if __name__ == "__main__":
    for name in PEERS:
        python_of(name)
