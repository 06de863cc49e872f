"""
A server of the page whose snapshots a test writes: the page's own files, a stream that says what it is told, users.

As strict as the real one about what the page may load, and as talkative: the latest snapshot comes again and again.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

STATIC = Path(__file__).parents[2] / "stream" / "page" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_AGAIN_S = 0.25
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class ScriptedServer:
    """
    Serves on a port of its own while it is open.

    Attributes:
        users: Paths by user id, which a test may change at any time.
        asked: Paths of requests, as they came.
        is_mute: Whether streams stay open and say nothing more.
        is_garbled: Whether users are answered by what is no JSON.
    """

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.is_mute = self.is_garbled = False
        self._message = b""
        self._is_away = False
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def address(self) -> str:
        """The page's URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def say(self, snapshot: dict[str, Any]) -> None:
        """Send a snapshot to all who are connected, and to who comes later."""
        with self._changed:
            self._message = b"data: " + json.dumps(snapshot).encode() + b"\n\n"
            self._is_away = False
            self._changed.notify_all()

    def leave(self) -> None:
        """Close all streams, and refuse new ones as a proxy does whose server is gone, until something is said."""
        with self._changed:
            self._is_away = True
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if self.path == "/snapshots":
                    outer._stream(self)
                elif self.path.startswith("/users?"):
                    outer._user(self, parse_qs(urlsplit(self.path).query, keep_blank_values=True)["id"][0])
                else:
                    outer._file(self, self.path.lstrip("/") or "index.html")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        with self._changed:
            if self._is_away:
                _reply(handler, 502, "text/plain", b"gone")
                return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        with self._changed:
            while not self._is_away:
                try:
                    handler.wfile.write(b"" if self.is_mute else self._message)
                except OSError:
                    return  # the page was closed
                self._changed.wait(_AGAIN_S)

    def _user(self, handler: BaseHTTPRequestHandler, user_id: str) -> None:
        found = self.users.get(user_id)
        status, content = (404, {"error": "unknown"}) if found is None else (200, found)
        _reply(handler, status, "application/json", b"<html>" if self.is_garbled else json.dumps(content).encode())

    def _file(self, handler: BaseHTTPRequestHandler, name: str) -> None:
        file = STATIC / name
        if file.parent != STATIC or not file.is_file():
            _reply(handler, 404, "text/plain", b"no such file")
        else:
            _reply(handler, 200, _TYPES[file.suffix], file.read_bytes())


def _reply(handler: BaseHTTPRequestHandler, status: int, kind: str, content: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", f"{kind}; charset=utf-8")
    handler.send_header("Content-Security-Policy", POLICY)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
