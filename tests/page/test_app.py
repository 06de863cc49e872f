"""The page as a whole, without a broker: it ends when it is told to, whoever looks at it."""

import asyncio
import os
import signal
import time

import pytest

from stream.page import app
from stream.page.board import Standing
from stream.page.feed import Batch
from stream.settings import Settings
from tests.broker.process import free_ports


class Silence:
    """A feed that nothing comes from, and whose note is more than a connection holds."""

    standing = Standing("live", "x" * 20_000_000)

    def __init__(self, *_: object, **__: object) -> None:
        self.is_closed = False

    def poll(self) -> list[Batch]:
        """Return nothing, after a moment as Kafka's clients do: a thread that spins takes the loop's time."""
        time.sleep(0.01)
        return []

    def close(self) -> None:
        """End."""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a page on a port of its own."""
    monkeypatch.setattr(app, "Feed", Silence)
    monkeypatch.setattr(app, "_GOODBYE_S", 0.1)
    return Settings(page_port=free_ports(1)[0])


async def test_it_ends_though_a_browser_takes_nothing(settings: Settings) -> None:
    """On SIGTERM at once, with a first snapshot half sent."""
    page = asyncio.ensure_future(app._Page(settings, from_start=False, progress=None).run())
    async with asyncio.timeout(120):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", settings.page_port, limit=4_096)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
        writer.write(b"GET /snapshots HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        os.kill(os.getpid(), signal.SIGTERM)
        await page
    writer.close()
