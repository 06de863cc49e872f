"""The page over HTTP: its own files and nothing else, snapshots as they come, and only for the hosts that it knows."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import quote

import orjson
import pytest
from aiohttp import ClientSession, StreamReader
from aiohttp.test_utils import TestServer
from yarl import URL

from stream.page import address_of, server
from stream.page.board import Board
from stream.page.server import Snapshots, allowed_names, create_server
from tests.page.messages import START, example

LOOPBACK = allowed_names("127.0.0.1", "")
PATIENCE_S = 60.0
TAKES_AT_ONCE = 65_536
"""Bytes that the kernel keeps for a browser that takes little; by itself it would keep as much as it likes."""

IDS = ("ada", 'Ünï/co de"<b>?&#%2F+', ".", "..", "a/../b", "")


class Page:
    """A page that shows a few users, and whose snapshots the test makes."""

    def __init__(self, names: frozenset[str]) -> None:
        self.board = Board("b", "g", 100)
        self.board.take([example(n, user) for n, user in enumerate(IDS)], START)
        self.snapshots = Snapshots()
        self.wrong: str | None = None
        self.first = b'{"number":0}'
        self.server = TestServer(
            create_server(self.board.user, lambda: self.first, self.snapshots, names, lambda: self.wrong),
            host="127.0.0.1",
        )

    def publish(self, number: int, size: int = 0) -> None:
        """Publish a snapshot that says its number, and is as large as that."""
        self.snapshots.publish(orjson.dumps({"number": number, "padding": "x" * size}))

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self.server.make_url("/"))


@asynccontextmanager
async def serving(names: frozenset[str] = LOOPBACK) -> AsyncIterator[tuple[Page, ClientSession]]:
    """Serve a page, and give it and a browser."""
    page = Page(names)
    await page.server.start_server()
    async with ClientSession() as browser:
        try:
            yield page, browser
        finally:
            page.snapshots.end()
            await page.server.close()


async def next_event(lines: StreamReader) -> int:
    """Return the number that the next snapshot says."""
    while not (line := await asyncio.wait_for(lines.readline(), PATIENCE_S)).startswith(b"data: "):
        assert line, "the stream has ended"
    assert await lines.readline() == b"\n"
    number: int = orjson.loads(line[len(b"data: ") :])["number"]
    return number


async def listen(page: Page) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for snapshots as a browser does that takes little at once, and return what arrives."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TAKES_AT_ONCE)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", page.server.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4_096)
    writer.write(b"GET /snapshots HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_the_pages_own_files_are_served_with_a_strict_policy() -> None:
    """Each file by its name and type; scripts, styles and connections of this address alone; nothing may frame it."""
    async with serving() as (page, browser):
        for file in files("stream.page").joinpath("static").iterdir():
            async with browser.get(page.address + file.name) as found:
                assert (found.status, await found.read()) == (HTTPStatus.OK, file.read_bytes())
        async with browser.get(page.address) as found:
            headers, text = found.headers, await found.text()
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert "<html" in text
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'",
            "img-src": "'self' data:", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
        }  # fmt: skip
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
        assert headers["Cache-Control"] == "no-cache"  # asked for again each time: a new version is shown at once
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", ["nothing", "a/b", "static/index.html", "../app.py", "..%2Fapp.py", "__init__.py"])
async def test_anything_else_is_not_there(path: str) -> None:
    """A sentence says what is; nothing outside the page's folder can be asked for."""
    async with serving() as (page, browser), browser.get(page.address + path) as found:
        assert (found.status, await found.text()) == (404, "expected /, /snapshots, /users?id=USER or /healthz\n")
        assert found.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT"])
async def test_it_can_only_be_looked_at(method: str) -> None:
    """No request changes anything, and who asks for the head of a stream without end is not sent the stream."""
    async with serving() as (page, browser), browser.request(method, page.address + "snapshots") as found:
        assert (found.status, found.headers["Allow"][:3]) == (HTTPStatus.METHOD_NOT_ALLOWED, "GET")
        assert page.snapshots.listeners == 0


@pytest.mark.parametrize(
    ("host", "names", "asked", "status"),
    [
        ("127.0.0.1", "", "localhost:6068", 200),
        ("127.0.0.1", "", "LOCALHOST", 200),
        ("127.0.0.1", "", "[::1]:6068", 200),
        ("127.0.0.1", "", "evil.example", 421),
        ("127.0.0.1", "", "localhost.evil.example", 421),
        ("127.0.0.1", "school.example, other.example", "Other.example:443", 200),
        ("192.0.2.7", "", "evil.example", 421),
        ("192.0.2.7", "", "192.0.2.7:6068", 200),
        ("page.internal", "", "page.internal:6068", 200),
        ("0.0.0.0", "", "evil.example", 421),  # noqa: S104
        ("0.0.0.0", "", "127.0.0.1.evil.example", 421),  # noqa: S104
        ("0.0.0.0", "", "localhost:6068", 200),  # noqa: S104
        ("0.0.0.0", "", "192.0.2.7:6068", 200),  # noqa: S104
        ("0.0.0.0", "", "[2001:db8::7]:6068", 200),  # noqa: S104
        ("192.0.2.7", "school.example", "192.0.2.7:6068", 200),
        ("192.0.2.7", "school.example", "school.example", 200),
        ("192.0.2.7", "school.example", "evil.example", 421),
        ("0.0.0.0", "school.example", "10.1.2.3:6068", 200),  # noqa: S104
        ("0.0.0.0", "school.example", "evil.example", 421),  # noqa: S104
    ],
)
async def test_only_known_hosts_are_answered(host: str, names: str, asked: str, status: int) -> None:
    """
    A page of somebody else whose name leads to this machine reads nothing, neither users nor snapshots.

    An address is nobody's name, wherever the page listens: who asks for one is where it leads.
    """
    async with serving(allowed_names(host, names)) as (page, browser):
        for path in ("", "users?id=ada", "healthz", "nothing") if status != HTTPStatus.OK else ("users?id=ada",):
            async with browser.get(page.address + path, headers={"Host": asked}) as found:
                assert found.status == status
                assert status == HTTPStatus.OK or "STREAM_PAGE_NAMES" in await found.text()


async def test_one_users_path_is_asked_for_by_any_id() -> None:
    """Ids are whatever somebody sent; who is not known is told as JSON."""
    async with serving() as (page, browser):
        for user in IDS:
            url = URL(f"{page.address}users?id={quote(user, safe='')}", encoded=True)
            async with browser.get(url) as found:
                assert (found.status, (await found.json())["user_id"]) == (200, user)
                assert found.headers["Content-Type"] == "application/json"
                assert found.headers["Cache-Control"] == "no-store"
        async with browser.get(page.address + "users?id=nobody") as found:
            assert (found.status, await found.json()) == (404, {"error": "nothing is known of 'nobody' here"})
        async with browser.get(page.address + "users") as found:
            assert (found.status, await found.json()) == (400, {"error": "expected /users?id=USER, found no id"})


async def test_snapshots_come_at_once_and_whenever_there_is_another() -> None:
    """The first as it is now, then each that is published, to everybody who listens."""
    async with (
        serving() as (page, browser),
        browser.get(page.address + "snapshots") as one,
        browser.get(page.address + "snapshots") as other,
    ):
        assert one.headers["Content-Type"] == "text/event-stream"
        assert one.headers["Cache-Control"] == "no-store"
        assert [await next_event(one.content), await next_event(other.content)] == [0, 0]
        for number in (1, 2):
            page.publish(number)
            assert [await next_event(one.content), await next_event(other.content)] == [number, number]
        assert page.snapshots.listeners == 2
        page.snapshots.end()
        assert [await one.content.read(), await other.content.read()] == [b"", b""]


async def test_who_is_slow_gets_the_latest_and_holds_up_nobody() -> None:
    """Snapshots are not piled up for a browser that takes none: the next one that it gets is the latest."""
    async with serving() as (page, browser):
        slow, writer = await listen(page)
        async with browser.get(page.address + "snapshots", read_bufsize=2**22) as quick:
            assert await next_event(quick.content) == 0
            for number in range(1, 61):
                page.publish(number, size=500_000)
                assert await next_event(quick.content) == number
        data = b""
        while b'{"number":60,' not in data:
            data += await asyncio.wait_for(slow.read(2**20), PATIENCE_S)
        assert data.count(b'{"number":') < 30
        writer.close()


async def test_a_browser_that_takes_not_even_the_first_snapshot_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be published for that."""
    monkeypatch.setattr(server, "_SLOW_S", 0.05)
    async with serving() as (page, _):
        page.first = b"x" * 20_000_000
        _, writer = await listen(page)
        async with asyncio.timeout(PATIENCE_S):
            while page.snapshots.listeners:  # noqa: ASYNC110 (the server's own count)
                await asyncio.sleep(0.01)
        writer.close()


async def test_a_browser_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """After half a minute; it comes back by itself when it is there again."""
    monkeypatch.setattr(server, "_SLOW_S", 0.05)
    async with serving() as (page, _):
        _, writer = await listen(page)
        assert page.snapshots.listeners == 1
        async with asyncio.timeout(PATIENCE_S):
            number = 0
            while page.snapshots.listeners:
                number += 1
                page.publish(number, size=500_000)
                await asyncio.sleep(0.01)
        writer.close()


async def test_there_is_an_end_to_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many open pages must not use up the machine."""
    monkeypatch.setattr(server, "MOST_LISTENERS", 1)
    async with (
        serving() as (page, browser),
        browser.get(page.address + "snapshots"),
        browser.get(page.address + "snapshots") as refused,
    ):
        assert (refused.status, await refused.text()) == (503, "1 browsers look at this page; close one\n")


async def test_health_is_one_word_or_a_sentence() -> None:
    """Whoever restarts the page asks for it."""
    async with serving() as (page, browser):
        async with browser.get(page.address + "healthz") as found:
            assert (found.status, await found.text()) == (200, "ok\n")
        page.wrong = "the page has not read for 61 s"
        async with browser.get(page.address + "healthz") as found:
            assert (found.status, await found.text()) == (503, "the page has not read for 61 s\n")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:6068"), ("0.0.0.0", "http://127.0.0.1:6068"),  # noqa: S104
        ("::1", "http://[::1]:6068"), ("::", "http://[::1]:6068"), ("page.example", "http://page.example:6068"),
    ],
)  # fmt: skip
def test_the_address_is_one_that_a_browser_takes(host: str, address: str) -> None:
    """Also where the page listens everywhere."""
    assert address_of(host, 6068) == address
