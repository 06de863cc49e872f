"""
The page over HTTP: its files, snapshots as server-sent events, and one user's path.

It shows who learns what, so nothing of another site may read it: no host but the expected ones is answered (a page of
somebody else's name that leads to this machine is not; an address is nobody's name), and nothing but its own files is
run or loaded. It asks
nobody who they are: where it is reached from elsewhere, a proxy before it must.
"""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from ipaddress import ip_address
from typing import Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from stream.page.shape import User

MOST_LISTENERS: Final = 200
_SLOW_S: Final = 30.0
"""After which a browser that takes nothing is let go; it comes back by itself."""

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "webmanifest": "application/manifest+json",
}
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "learnerstream",
}


class Snapshots:
    """The latest snapshot, and those who wait for the next: who is slow gets the latest, not all that went by."""

    def __init__(self) -> None:
        self._latest = b""
        self._number = 0
        self._next = asyncio.Event()
        self.listeners = 0
        self.is_over = False

    def publish(self, snapshot: bytes) -> None:
        """Have all who wait be sent a snapshot, serialised once for all of them."""
        self._latest = b"data: %b\n\n" % snapshot
        self._number += 1
        self._wake()

    def end(self) -> None:
        """Let all go."""
        self.is_over = True
        self._wake()

    async def after(self, number: int) -> tuple[int, bytes]:
        """Return the latest snapshot once it is another than that of a number, and its number."""
        while self._number == number and not self.is_over:
            await self._next.wait()
        return self._number, self._latest

    def _wake(self) -> None:
        self._next.set()
        self._next = asyncio.Event()


def allowed_names(host: str, names: str) -> frozenset[str]:
    """
    Return by which names the page may be asked for; by an address it always may.

    Args:
        host: Where it listens.
        names: By which it is reached besides, joined by commas.
    """
    given = {name.strip().lower() for name in names.split(",") if name.strip()}
    return frozenset({"localhost", host.lower(), *given})


def create_server(
    user: Callable[[str], User | None],
    fresh: Callable[[], bytes],
    snapshots: Snapshots,
    names: frozenset[str],
    health: Callable[[], str | None],
) -> web.Application:
    """
    Return the page's server.

    Args:
        user: Returns one user's path, None of somebody who is not known.
        fresh: Returns a snapshot as it is now.
        snapshots: What is broadcast.
        names: By which the page may be asked for, besides addresses.
        health: Returns what is wrong, None for nothing.
    """
    statics = _statics()

    async def static(request: web.Request) -> web.Response:
        found = statics.get(request.match_info["name"] or "index.html")
        if found is None:
            return _text(404, "expected /, /snapshots, /users?id=USER or /healthz")
        body, type_ = found
        return web.Response(body=body, headers={"Content-Type": type_, "Cache-Control": "no-cache"})

    async def path(request: web.Request) -> web.Response:
        # Ids are any text: in a path, "." and ".." would be folders.
        user_id = request.query.get("id")
        if user_id is None:
            return _json(400, orjson.dumps({"error": "expected /users?id=USER, found no id"}))
        found = user(user_id)
        if found is None:
            return _json(404, orjson.dumps({"error": f"nothing is known of {user_id!r} here"}))
        return _json(200, orjson.dumps(found))

    async def healthz(_: web.Request) -> web.Response:
        wrong = health()
        return _text(200, "ok") if wrong is None else _text(503, wrong)

    async def stream(request: web.Request) -> web.StreamResponse:
        if snapshots.listeners >= MOST_LISTENERS:
            return _text(503, f"{MOST_LISTENERS} browsers look at this page; close one")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        snapshots.listeners += 1
        try:
            await response.prepare(request)
            await _send_all(response, fresh(), snapshots)
        except (ConnectionError, TimeoutError):
            pass  # the browser has gone, or takes nothing
        finally:
            snapshots.listeners -= 1
        return response

    app = web.Application(middlewares=[_guarding(names)])
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/snapshots", stream, allow_head=False)
    app.router.add_head("/snapshots", _has_no_end)
    app.router.add_get("/users", path)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/{name:.*}", static)
    return app


async def _has_no_end(request: web.Request) -> web.Response:
    """Refuse: a head is that of an answer which has an end."""
    raise web.HTTPMethodNotAllowed(request.method, ["GET"])


async def _send_all(response: web.StreamResponse, first: bytes, snapshots: Snapshots) -> None:
    """Send a snapshot at once, and each that is the latest when the one before has been taken."""
    async with asyncio.timeout(_SLOW_S):
        await response.write(b"retry: 1000\ndata: %b\n\n" % first)
    number, _ = await snapshots.after(-1)
    while True:
        number, data = await snapshots.after(number)
        if snapshots.is_over:
            return
        async with asyncio.timeout(_SLOW_S):
            await response.write(data)


def _statics() -> dict[str, tuple[bytes, str]]:
    """Return the page's files, by name, with their types."""
    found = {}
    for file in files("stream.page").joinpath("static").iterdir():
        type_ = _TYPES.get(file.name.rpartition(".")[2])
        if type_ is not None and file.is_file():
            found[file.name] = file.read_bytes(), type_
    return found


def _guarding(names: frozenset[str]) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = _host(request)
        if name not in names and not _is_address(name):
            return _text(421, "expected a host by which this page is known; set STREAM_PAGE_NAMES to add one")
        try:
            return await handler(request)
        except web.HTTPException as error:
            response = _text(error.status, error.reason)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response

    return guard


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _host(request: web.Request) -> str:
    """Return the name by which the page was asked for, without the port."""
    host = request.host.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _text(status: int, said: str) -> web.Response:
    return web.Response(status=status, text=said + "\n")


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json"})
