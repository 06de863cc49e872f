"""The documents as a site: built without a warning, and nothing in it comes from another host."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.docs.blocks import DOCS, ROOT
from tests.page.browser import complaints

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
    assert done.returncode == 0, done.stderr
    assert said == []
    return folder


class Loads(HTMLParser):
    """What a page has a browser fetch by itself: all that it names, but for links that a reader follows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what a tag loads."""
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "action") or (name == "href" and tag not in ("a", "base")):
                self.found.append(value or "")
            if name == "class" and "mermaid" in (value or "").split():
                self.found.append("https://mermaid")  # whose renderer the theme fetches from elsewhere


def foreign(site: Path) -> Iterator[str]:
    """Yield what the site's pages and styles would fetch from other hosts, with the file that does."""
    for file in site.rglob("*"):
        if file.suffix in (".html", ".svg"):
            found = Loads(file.read_text(encoding="utf-8")).found
        elif file.suffix == ".css":
            found = re.findall(r"""(?:url\(|@import)\s*["']?([^"')]+)""", file.read_text(encoding="utf-8"))
        else:
            continue
        yield from (f"{file.relative_to(site)}: {url}" for url in found if re.match(r"(?:https?:)?//", url.strip()))


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    """Pages are read where there is no network, and tell nobody who reads them."""
    assert list(foreign(site)) == []


def test_what_comes_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    """Fonts, scripts, pictures and styles of other hosts are found; links to them are not meant."""
    (tmp_path / "page.html").write_text(
        '<link href="https://fonts.example/x"><script src="//cdn.example/y.js"></script><a href="https://ok.example">a</a>'
        '<pre class="mermaid">graph</pre>',
        encoding="utf-8",
    )
    (tmp_path / "page.css").write_text('@import "https://a.example/z.css"; a { background: url(b.png) }', "utf-8")
    assert len(list(foreign(tmp_path))) == 4


def test_every_page_is_in_the_site(site: Path) -> None:
    """Each document has its page, the changelog too, and pages that a reader may look for can be searched."""
    for document in DOCS.rglob("*.md"):
        assert (site / document.relative_to(DOCS).with_suffix(".html")).is_file()
    assert "Keep a Changelog" in (site / "changelog.html").read_text(encoding="utf-8")
    search = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "stream doctor" in search


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, chromium: Browser, site: Path) -> Iterator[Page]:
    """Give a page on which the site is opened from the disk; at the end nothing went wrong, and no host was asked."""
    width, height = SIZES[request.param]
    page = chromium.new_page(viewport={"width": width, "height": height})
    wrong = complaints(page, site.as_uri())
    page.goto((site / "index.html").as_uri())
    yield page
    page.close()
    assert wrong == []


def test_the_search_finds_where_there_is_no_server(page: Page) -> None:
    """The box is there, on a phone behind its sign; what is typed is found, and leads to its page."""
    box, sign = page.locator("input[name=query]"), page.locator("header label[for=__search]").first
    (sign if sign.is_visible() else box).click()
    box.press_sequentially("murmur2")
    found = page.locator(".md-search-result__link")
    expect(found.first).to_be_visible()
    expect(page.locator(".md-search-result__meta")).to_contain_text("matching documents")
    found.first.click()
    expect(page.locator("article")).to_contain_text("murmur2")


@pytest.mark.parametrize("name", ["reference/settings", "reference/topics", "metrics", "reference/cli"])
def test_the_reference_is_read_without_scrolling_aside(page: Page, site: Path, name: str) -> None:
    """No row is wider than the page, and sentences have nearly all of its width."""
    page.goto((site / f"{name}.html").as_uri())
    expect(page.locator("tbody tr").first).to_be_visible()
    place = 1 if name == "reference/topics" else -1
    tables = "table:has(th:nth-child(4))" if name == "metrics" else "table:has(td:first-child code)"
    widths = page.evaluate(
        """([tables, place]) => [...document.querySelectorAll(`${tables} tbody tr`)].map((row) => {
            const page = document.querySelector("article").getBoundingClientRect();
            const cells = [...row.cells].map((cell) => cell.getBoundingClientRect());
            return [cells.at(place).width / page.width, Math.max(...cells.map((cell) => cell.right)) - page.right];
        })""",
        [tables, place],
    )
    assert widths
    assert min(share for share, _ in widths) > 0.8
    assert max(over for _, over in widths) <= 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("picture", sorted(DOCS.rglob("*.svg")), ids=lambda path: path.name)
def test_a_diagram_says_what_it_shows_and_loads_nothing(picture: Path) -> None:
    """A screen reader reads title and description of ours; no picture names another host."""
    root = ET.parse(picture).getroot()  # noqa: S314 (our own)
    assert root.tag == f"{SVG}svg"
    references = [value for element in root.iter() for name, value in element.items() if name.endswith("href")]
    assert all(value.startswith("#") for value in references)
    if picture.name != "learning.svg":  # drawn by matplotlib, on white
        assert root.findtext(f"{SVG}title")
        assert root.findtext(f"{SVG}desc")
        assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")


def test_pictures_have_words_for_those_who_do_not_see_them() -> None:
    """Each picture of each page has a text in its place."""
    for document in (ROOT / "README.md", *DOCS.rglob("*.md")):
        assert not re.findall(r"!\[\s*\]\(", document.read_text(encoding="utf-8")), document
