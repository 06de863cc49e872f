"""Finds out what can be known without librdkafka: addresses, ports, packages, files, Redis, the store of models."""

import os
import socket
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import redis
from packaging.requirements import Requirement

from schemas import Release
from stream.agents.control import read_allowed_risk
from stream.doctor.on_others import Announced, Answer, Folder, RedisFound
from stream.doctor.on_settings import Package
from stream.errors import ArtifactError, StoreError
from stream.models.artifacts import load
from stream.models.risk import RISK
from stream.models.store import Store
from stream.settings import Settings

CONNECT_S: Final = 2.0

_DISTRIBUTION: Final = "learnerstream"
_TRAINING: Final = "train"
_PINGS: Final = 3
_API_VERSIONS: Final = 18
_TEXT_MAX: Final = 300

T = TypeVar("T")


def within(seconds: float, look: Callable[[], T]) -> T:
    """
    Return what a look finds, if it does so in time; whatever goes on after that is left alone.

    Raises:
        TimeoutError: If it does not.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(look())
        except BaseException as error:  # noqa: BLE001 (raised again, below)
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return found[0]


def connected(addresses: Iterable[str]) -> dict[str, str]:
    """Return why nothing answers at each of some addresses, `host:port`, all tried at once; empty where all is well."""
    tried = dict.fromkeys(addresses, f"no answer within {CONNECT_S:.0f} s")

    def try_one(address: str) -> None:
        try:
            host, port = host_and_port(address)
            socket.create_connection((host, port), timeout=CONNECT_S).close()
        except socket.gaierror:
            tried[address] = "no such name is known here"
        except (OSError, ValueError) as error:
            tried[address] = _reason(error)
        else:
            tried[address] = ""

    threads = [threading.Thread(target=try_one, args=(address,), daemon=True) for address in tried]
    for thread in threads:
        thread.start()
    end = time.monotonic() + CONNECT_S
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    return dict(tried)


def host_and_port(address: str) -> tuple[str, int]:
    """
    Return the parts of `host:port`, of which the port may be left out.

    Raises:
        ValueError: If it is neither.
    """
    # Kafka's clients also take `PLAINTEXT://host:port`.
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname is None:
        raise ValueError(f"expected host:port, found {address!r}")
    return parts.hostname, parts.port or 9092


def address_of(host: str, port: int) -> str:
    """Return `host:port`, of IPv6 as URLs write it: `[host]:port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def our_address(other: str) -> str:
    """Return under which address this machine is known to another one, `host:port`."""
    with socket.create_connection(host_and_port(other), timeout=CONNECT_S) as connection:
        return str(connection.getsockname()[0])


def apis(settings: Settings, address: str) -> dict[int, int]:
    """
    Return the highest version of each request that a broker knows, by the request's key.

    A client's first words, which each broker answers before it asks who is there.

    Args:
        settings: TLS.
        address: `host:port`.

    Raises:
        OSError: If it does not answer.
        ValueError: If that is no Kafka broker's answer.

    Source:
        Kafka's protocol guide: ApiVersions request and response, version 0.
    """
    client = b"doctor"
    request = struct.pack(">hhih", _API_VERSIONS, 0, 1, len(client)) + client
    host, port = host_and_port(address)
    with socket.create_connection((host, port), timeout=CONNECT_S) as plain:
        connection = _tls(settings).wrap_socket(plain, server_hostname=host) if _is_tls(settings) else plain
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(connection, 4))
        if not 0 < size < 1 << 16:
            raise ValueError("expected a broker's answer, found something else")
        body = _read(connection, size)
    _, failed, count = struct.unpack_from(">ihi", body)
    if failed or len(body) < 10 + 6 * count:
        raise ValueError(f"expected the versions of requests, found error {failed}")
    triples = (struct.unpack_from(">hhh", body, 10 + 6 * place) for place in range(count))
    return {key: highest for key, _, highest in triples}


def _is_tls(settings: Settings) -> bool:
    return settings.security_protocol.endswith("SSL")


def _tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    if settings.ssl_cert_file is not None:
        context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    return context


def _read(connection: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        part = connection.recv(size - len(read))
        if not part:
            raise ConnectionError("it hung up")
        read += part
    return read


def packages() -> list[Package]:
    """Return what this package asks for, and what is installed; nothing if it was never installed itself."""
    try:
        wanted = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for requirement in map(Requirement, wanted):
        marker = requirement.marker
        is_core = marker is None or marker.evaluate({"extra": ""})
        if not is_core and not (marker is not None and marker.evaluate({"extra": _TRAINING})):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = None
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        found.append(Package(requirement.name, str(requirement.specifier), version, fits, is_extra=not is_core))
    return found


def unwritable(path: Path) -> str:
    """Return why a file cannot be written, or made; empty if it can."""
    try:
        return _unwritable(path)
    except OSError as error:
        # A folder above may not be entered, or its disk does not answer.
        return f"{path.absolute()}: {_reason(error)}"


def _unwritable(path: Path) -> str:
    if path.exists():
        if not path.is_file():
            return f"expected a file, found a folder at {path.absolute()}"
        return "" if os.access(path, os.W_OK) else f"{path.absolute()} may not be written to"
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"nothing may be written into {folder}"


def redis_of(url: str) -> tuple[RedisFound, float]:
    """
    Return what Redis says of itself, and what time it is there, seconds since the epoch.

    Raises:
        redis.RedisError: If it does not answer, or does not let us in.
    """
    with redis.Redis.from_url(url, socket_timeout=CONNECT_S, socket_connect_timeout=CONNECT_S) as client:
        client.ping()
        latencies = []
        for _ in range(_PINGS):
            asked_at = time.perf_counter()
            client.ping()
            latencies.append(time.perf_counter() - asked_at)
        info: Mapping[str, object] = dict(client.info())
        seconds, microseconds = client.time()
    found = RedisFound(
        version=str(info.get("redis_version", "0")),
        role=str(info.get("role", "master")),
        policy=str(info.get("maxmemory_policy", "unknown")),
        used_bytes=int(str(info.get("used_memory", 0))),
        most_bytes=int(str(info.get("maxmemory", 0))),
        latency_s=min(latencies),
    )
    return found, float(seconds) + float(microseconds) / 1e6


def versions_in(store: Store, names: Iterable[str]) -> dict[str, int]:
    """Return how many versions of each model a store holds; raises `StoreError` if it cannot be listed."""
    return {name: len(store.versions(name)) for name in names}


def folder(store: str) -> Folder:
    """Return what a store is on this machine."""
    if "://" in store:
        return "none"
    path = Path(store)
    if not path.exists():
        return "absent"
    return "here" if path.is_dir() else "file"


def loaded(settings: Settings, store: Store, name: str, part: str, release: Release) -> Announced:
    """Return what becomes of loading an announced version, just as a worker does it."""
    given = {"variant": "champion", "max_bytes": settings.model_max_bytes, "precision": settings.model_precision}
    try:
        if name == RISK:
            read_allowed_risk(store, settings.risk_feature_fields, given, release)
        else:
            load(store, release.path, sha256=release.sha256, **given)  # type: ignore[arg-type]
    except (ArtifactError, StoreError) as error:
        return Announced(name, release.version, part, str(error))
    return Announced(name, release.version, part)


def answers(host: str, port: int, paths: Iterable[str]) -> dict[str, Answer]:
    """Return what a port of this machine answers, by path."""
    # Not through a proxy: it is this machine's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(path: str) -> Answer:
        try:
            with opener.open(f"http://{local(host)}:{port}{path}", timeout=CONNECT_S) as response:
                return Answer(response.status, _first_line(response.read(_TEXT_MAX)))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _first_line(error.read(_TEXT_MAX)))
        except (OSError, ValueError) as error:
            return Answer(0, _reason(error))

    return {path: ask(path) for path in paths}


def local(host: str) -> str:
    """Return where to find on this machine what listens on an address; IPv6 as URLs write it."""
    found = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 (looked for)
    return f"[{found}]" if ":" in found else found


def _first_line(text: bytes) -> str:
    return (text.decode("utf-8", "replace").strip().splitlines() or [""])[0]


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
