"""
The README's table of settings, generated: `python -m stream.reference [--check]`.

Made from the fields of `stream.settings` alone, never from the environment: no value of a running system can get in.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from stream.settings import Settings

README: Final = Path(__file__).parent.parent / "README.md"
BEGIN: Final = "<!-- settings: made by python -m stream.reference -->"
END: Final = "<!-- end of settings -->"


def settings_table() -> str:
    """Return a row for each setting: its variable, default, range and description."""
    rows = ["| variable | default | range | what it is |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        cells = (f"`STREAM_{name.upper()}`", _default(field), _range(field), field.description or "")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def replaced(text: str, table: str) -> str:
    """
    Return a text with the table between the two markers.

    Raises:
        ValueError: If the markers do not stand in it once, in their order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"expected the lines {BEGIN} and {END} once, in this order")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "unset"
    text = str(field.default)
    return f"`{text}`" if text else "empty"


def _range(field: FieldInfo) -> str:
    kinds = get_args(field.annotation) or (field.annotation,)
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in kinds)
    if SecretStr in kinds:
        return "secret"
    if Path in kinds:
        return "path"
    held_to = {
        name: value
        for constraint in field.metadata
        for name in ("pattern", "ge", "gt", "le")
        if (value := getattr(constraint, name, None)) is not None
    }
    if "pattern" in held_to:
        return f"`{held_to['pattern'].removeprefix('^').removesuffix('$')}`"
    if "le" not in held_to:
        return ""
    low = f"above {held_to['gt']:,}," if "gt" in held_to else f"{held_to['ge']:,}"
    return f"{low} to {held_to['le']:,}"


def main(arguments: Sequence[str] | None = None, readme: Path = README) -> int:
    """Write the table into the README, or with `--check` say whether it differs; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stream.reference", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the table differs")
    options = parser.parse_args(arguments)
    text = readme.read_text(encoding="utf-8")
    expected = replaced(text, settings_table())
    if expected == text:
        return 0
    if options.check:
        sys.stderr.write(f"{readme.name}: its settings are not those of the code; run `python -m stream.reference`\n")
        return 1
    readme.write_text(expected, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
