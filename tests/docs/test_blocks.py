"""Every code block of every document runs, or is checked, in the way of its language."""

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, all_blocks, blocks_of
from tests.docs.runners import NOT_RUN, RUNNERS, lines_of_shell, not_run
from tests.docs.stage import Stage

pytestmark = pytest.mark.timeout(400)  # of which its broker may take more than a minute

WALK = "docs/start.md"
"""The one page that runs on the demo: `tests.docs.test_start`."""

BLOCKS = all_blocks()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_names_a_language_that_can_be_run(block: Block) -> None:
    """What nobody runs goes stale: a block says what it is, and there is a way to try that."""
    assert block.language in RUNNERS, (
        f"{block.place}: expected one of {', '.join(RUNNERS)} behind the fence, found {block.language!r}; output and "
        "drawings are `text`, and another language needs a runner in tests/docs/runners.py"
    )


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language in RUNNERS and block.document != WALK],
    ids=lambda block: block.place,
)
def test_a_block_runs(block: Block, stage: Stage) -> None:
    """Commands and programs do what they are to do on a real broker, and data is what its reader takes."""
    RUNNERS[block.language](block, stage.of(block.document))


def test_what_is_not_run_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Each reason for not running a line is still needed; the lines are printed, so that the list stays short."""
    left_out = {
        line.strip(): why
        for block in BLOCKS
        if block.language in ("sh", "console")
        for line in lines_of_shell(block.text)
        if (why := not_run(line.removeprefix("$ "))) is not None
    }
    with capsys.disabled():
        print(f"\n{len(left_out)} lines of shell in the documents are not run:")  # noqa: T201 (what it is for)
        for line, why in sorted(left_out.items()):
            print(f"  {line}  ({why})")  # noqa: T201 (what it is for)
    assert set(left_out.values()) == set(NOT_RUN.values())


def test_a_block_that_is_never_closed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a page as code is a slip of the writer's."""
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\nstream doctor\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md:3: expected ``` that closes"):
        list(blocks_of(page))


@pytest.mark.parametrize(
    ("language", "text", "why"),
    [
        ("sh", "stream models list --models\n", "exit status 2"),
        ("console", "only output\n", "expected a command"),
        ("python", "raise SystemExit('no')\n", "no"),
        ("json", '{"colour": "red"}\n', "fits none"),
        ("yaml", "colour: red\n", "expected rules"),
        ("text", "stream worker\n", "looks like a command"),
        ("text", "$ ls\n", "looks like a command"),
    ],
)
def test_a_bad_block_is_found(language: str, text: str, why: str, stage: Stage) -> None:
    """Each runner refuses what is wrong."""
    with pytest.raises(AssertionError, match=why):
        RUNNERS[language](Block("docs/bad.md", 1, language, "Bad", text), stage.of("docs/bad.md"))


def test_blocks_are_read_with_their_place() -> None:
    """The README's first block stands where it stands."""
    first = next(blocks_of(ROOT / "README.md"))
    assert (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[first.line - 1].startswith("```")
