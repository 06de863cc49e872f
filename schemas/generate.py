"""
The contracts as files, generated from the models: `python -m schemas.generate [--check]`.

JSON Schemas of every topic, one AsyncAPI document, one page. The files are committed, for readers who have no Python; a
test holds them to the models. The samples, read from `samples/`, are written by hand.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from schemas import asyncapi, page
from schemas.catalog import TOPICS, Contract

ROOT: Final = Path(__file__).parent.parent
SAMPLES: Final = Path(__file__).parent / "samples"

_JSON: Final = "schemas/json"
_SUFFIX: Final = ".schema.json"


def render(contract: Contract) -> str:
    """
    Text of one topic's JSON Schema.

    Of what may be sent where others write the topic, of what stands in it where we do.
    """
    schema = asyncapi.published(contract.adapter.json_schema(mode=asyncapi.mode_of(contract)))
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Value of the topic {contract.name}.",
    }
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


def samples() -> asyncapi.Samples:
    """Messages that show what each topic carries, by topic."""
    return {
        name: [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in TOPICS
    }


def expected_files() -> dict[str, str]:
    """Text of every file, by its path within the project."""
    shown = samples()
    schemas = {f"{_JSON}/{name}{_SUFFIX}": render(contract) for name, contract in TOPICS.items()}
    return schemas | {
        "schemas/asyncapi.yaml": _HEAD + _as_yaml(asyncapi.document(shown)),
        "docs/contracts.html": page.render(shown),
    }


_HEAD: Final = "# Made by python -m schemas.generate; change the catalog, the models or the samples, not this file.\n"


class _Dumper(yaml.SafeDumper):
    """Writes what is there twice twice, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 (the parent's signature)
        """Return that nothing is written as a reference to something before it."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _as_yaml(document: Mapping[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def differences(root: Path, expected: Mapping[str, str]) -> list[str]:
    """One line for every file that is missing, stale or left over."""
    present = {name: path.read_text(encoding="utf-8") for name in expected if (path := root / name).is_file()}
    missing = [f"{name}: missing" for name in expected.keys() - present.keys()]
    left_over = [f"{name}: no topic of that name" for name in _schemas(root) - expected.keys()]
    stale = [f"{name}: differs" for name, text in present.items() if text != expected[name]]
    return sorted(missing + left_over + stale)


def _schemas(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / _JSON).glob(f"*{_SUFFIX}")}


def write(root: Path, expected: Mapping[str, str]) -> None:
    """Write every file and remove those left over."""
    for name in _schemas(root) - expected.keys():
        (root / name).unlink()
    for name, text in expected.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the files, or with `--check` say which of them differ; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file differs")
    options = parser.parse_args(arguments)
    if not options.check:
        write(root, expected_files())
        return 0
    found = differences(root, expected_files())
    if found:
        sys.stderr.write("contracts differ from the models; run `python -m schemas.generate`:\n")
        sys.stderr.writelines(f"  {line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
