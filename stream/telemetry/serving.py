"""
`/metrics`, `/healthz` and `/readyz`, answered by threads of their own.

None of them needs the loop or the thread that does the work: one that stands still must not keep that to itself.
"""

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, disable_created_metrics, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from stream.errors import UserError
from stream.health import Health

_PATIENCE_S: Final = 10.0
_TEXT: Final = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]

_Start = Callable[[str, list[tuple[str, str]]], object]


def serve(registry: CollectorRegistry, health: Health, host: str, port: int, setting: str) -> WSGIServer | None:
    """
    Serve metrics and health; port 0 serves none.

    Args:
        registry: What `/metrics` shows.
        health: What `/healthz` and `/readyz` say.
        host: Address to listen on.
        port: The port.
        setting: That chooses the port.

    Raises:
        UserError: If the port cannot be used; the message names the setting.
    """
    if port == 0:
        return None
    # When a counter began, as a series of its own, doubles a scrape, and Prometheus makes nothing of it.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        kind = type("Server", (ThreadingWSGIServer,), {"address_family": family})
        server: WSGIServer = make_server(str(address[0]), port, application(registry, health), kind, _Handler)
    except OSError as error:
        raise UserError(
            f"port {port} on {host} cannot be used ({error.strerror}): choose another by {setting}"
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


class _Handler(WSGIRequestHandler):
    """Logs no requests, and waits for nobody for ever."""

    timeout = _PATIENCE_S

    def log_message(self, *_: object) -> None:
        """Do nothing: a scrape is no event."""


def application(registry: CollectorRegistry, health: Health) -> Callable[[dict[str, Any], _Start], Iterable[bytes]]:
    """Return what answers, by WSGI."""
    metrics = make_wsgi_app(registry)
    verdicts = {"/healthz": (health.stalled, "ok"), "/readyz": (health.lacking, "ready")}

    def answer(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answered: Iterable[bytes] = metrics(environ, start)
            return answered
        if path not in verdicts:
            return _said(start, "404 Not Found", "expected /metrics, /healthz or /readyz")
        if environ["REQUEST_METHOD"] != "GET":
            return _said(start, "405 Method Not Allowed", "expected GET")
        find, fine = verdicts[path]
        wrong = find()
        return _said(start, "200 OK", fine) if wrong is None else _said(start, "503 Service Unavailable", wrong)

    return answer


def _said(start: _Start, status: str, sentence: str) -> list[bytes]:
    body = f"{sentence}\n".encode()
    start(status, [*_TEXT, ("Content-Length", str(len(body)))])
    return [body]
