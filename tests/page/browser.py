"""
A real Chromium, driven by Playwright: the one that the system has, for Playwright's own is not fetched.

`STREAM_TEST_BROWSER` names another; what is said where there is none is for the fixtures to say.
"""

import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, expect, sync_playwright

BROWSER_SETTING: Final = "STREAM_TEST_BROWSER"
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS: Final = 60_000
_LOOK_S: Final = 0.02
_AXE: Final = Path(__file__).parents[2] / ".cache" / "axe"


def found() -> str | None:
    """Return the browser's path, None where there is none."""
    named = os.environ.get(BROWSER_SETTING)
    for name in (named,) if named else _NAMES:
        if path := shutil.which(name):
            return path
    return None


def missing() -> str | None:
    """Return what is missing for tests in a browser, and what to do; None where nothing is."""
    if found() is None:
        wanted = os.environ.get(BROWSER_SETTING) or "Chromium"
        return (
            f"tests of the page need {wanted}: install it (on Debian and Ubuntu: apt-get install chromium), or name a "
            f"browser by {BROWSER_SETTING}"
        )
    if _axe_archive() is None:
        return "axe-core is missing: run `make test` once, which fetches it"
    return None


@contextmanager
def opened() -> Iterator[Browser]:
    """
    Open the browser.

    No async test may run meanwhile: Playwright's loop is the running one of this thread.
    """
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found(),
            # In a container the sandbox cannot be set up, and /dev/shm is small.
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        yield browser
        browser.close()


def complaints(page: Page, home: str, expected: tuple[str, ...] = ()) -> list[str]:
    """
    Return a list that grows with each line of the console, each exception, and each request to somebody else.

    Args:
        page: Before it goes anywhere.
        home: With what its own addresses begin.
        expected: Parts of lines that are left out.
    """
    found: list[str] = []

    def said(line: ConsoleMessage) -> None:
        if line.type in {"error", "warning"} and not any(part in line.text for part in expected):
            found.append(line.text)

    def asked(request: Request) -> None:
        if not request.url.startswith(home):
            found.append(request.url)

    def failed(error: Error) -> None:
        found.append(str(error))

    page.on("console", said)
    page.on("pageerror", failed)
    page.on("request", asked)
    return found


def until(page: Page, condition: str, given: object = None) -> None:
    """
    Wait until an expression is true; given something, a function of it.

    Not by Playwright's own `wait_for_function`: that asks a second time from within the page, whose policy forbids it.
    """
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition, given):
        assert time.monotonic() < deadline, f"still not so after {PATIENCE_MS} ms: {condition}"
        time.sleep(_LOOK_S)


def axe() -> str:
    """Return axe-core's source."""
    archive = _axe_archive()
    assert archive is not None
    with tarfile.open(archive) as files:
        source = files.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def barriers(page: Page, source: str) -> list[str]:
    """Return what axe finds on a page that is serious or critical, a line each; targets of 24 pixels among it."""
    page.evaluate(source)  # past the page's own policy, which lets no inline script run
    rules = "{'target-size': {enabled: true}}"  # WCAG 2.5.8; axe itself leaves it out
    results = page.evaluate(f"axe.run(document, {{resultTypes: ['violations'], rules: {rules}}})")
    return [
        f"{violation['id']} ({violation['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for violation in results["violations"]
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]


def _axe_archive() -> Path | None:
    return next(iter(sorted(_AXE.glob("axe-core-*.tgz"))[::-1]), None)
