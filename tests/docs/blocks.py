"""
Fenced code blocks of the documents, with where they stand.

What becomes of a block is not known here: `tests.docs.runners` knows it by the language.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_OPENS = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*)(?P<rest>.*)$")
_HEADING = re.compile(r"^#+ +(.+?)\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """
    One block.

    Attributes:
        document: Where it stands, from the root.

        line: Of the fence that opens it, from 1.

        language: Empty where it names none.

        heading: The nearest one above, without its marks.

        text: What stands between the fences, without their indent.
    """

    document: str
    line: int
    language: str
    heading: str
    text: str

    @property
    def place(self) -> str:
        """Where to look, as editors take it."""
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """Return the README and every page."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks_of(document: Path) -> Iterator[Block]:
    """
    Yield the fenced blocks of a document.

    Raises:
        ValueError: If one is never closed.
    """
    name = document.relative_to(ROOT).as_posix()
    heading = ""
    lines = enumerate(document.read_text(encoding="utf-8").splitlines(), start=1)
    for number, line in lines:
        if found := _HEADING.match(line):
            heading = found[1].strip("`")
        if opened := _OPENS.match(line):
            indent = len(opened["indent"])
            inside = []
            for _, row in lines:
                if row.strip() == opened["fence"]:
                    break
                inside.append(row[min(indent, len(row) - len(row.lstrip())) :] + "\n")
            else:
                raise ValueError(f"{name}:{number}: expected {opened['fence']} that closes the block, found the end")
            yield Block(name, number, opened["language"], heading, "".join(inside))


def all_blocks() -> list[Block]:
    """Return every block of every document."""
    return [block for document in documents() for block in blocks_of(document)]
