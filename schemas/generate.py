"""
JSON Schemas of every topic, generated from the models: `python -m schemas.generate [--check]`.

The files are committed, for readers who have no Python; a test holds them to the models.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from schemas.catalog import TOPICS, Contract

FOLDER: Final = Path(__file__).parent / "json"
_SUFFIX: Final = ".schema.json"


def render(contract: Contract) -> str:
    """
    Text of one topic's JSON Schema.

    Of what may be sent where others write the topic, of what stands in it where we do.
    """
    mode: Final = "validation" if contract.direction == "in" else "serialization"
    schema = contract.adapter.json_schema(mode=mode)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Value of the topic {contract.name}.",
    }
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


def expected_files() -> dict[str, str]:
    """Text of every file, by its name."""
    return {f"{name}{_SUFFIX}": render(contract) for name, contract in TOPICS.items()}


def differences(folder: Path, expected: Mapping[str, str]) -> list[str]:
    """One line for every file that is missing, stale or left over."""
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob(f"*{_SUFFIX}")}
    missing = [f"{name}: missing" for name in expected.keys() - present.keys()]
    left_over = [f"{name}: no topic of that name" for name in present.keys() - expected.keys()]
    stale = [f"{name}: differs" for name in expected.keys() & present.keys() if present[name] != expected[name]]
    return sorted(missing + left_over + stale)


def write(folder: Path, expected: Mapping[str, str]) -> None:
    """Write every file and remove those left over."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"*{_SUFFIX}"):
        if path.name not in expected:
            path.unlink()
    for name, text in expected.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Write the files, or with `--check` say which of them differ; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file differs")
    options = parser.parse_args(arguments)
    if not options.check:
        write(folder, expected_files())
        return 0
    found = differences(folder, expected_files())
    if found:
        sys.stderr.write("JSON Schemas differ from the models; run `python -m schemas.generate`:\n")
        sys.stderr.writelines(f"  {line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
