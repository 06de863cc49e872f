"""The page's composition root: a feed in a thread, and a board and a server on one loop."""

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import orjson
import structlog
from aiohttp import web

from stream.errors import UserError
from stream.page import address_of
from stream.page.board import Board
from stream.page.feed import Batch, Feed
from stream.page.server import Snapshots, allowed_names, create_server
from stream.settings import Settings

log = structlog.get_logger()

TOLD_EVERY_S, TOLD_AT_LEAST_S = 0.26, 0.9
"""Between two snapshots while something comes, and while nothing does."""

_GOODBYE_S: Final = 1.0
"""For a browser that takes nothing, when the page ends."""

NICENESS: Final = 19
"""The most there is: a worker and a broker on the same machine come first."""


def run_page(settings: Settings, *, from_start: bool = False, progress: tuple[int, str] | None = None) -> None:
    """
    Serve the live page until told to stop (SIGTERM, Ctrl-C).

    Args:
        settings: Broker, topics, address.
        from_start: Read the topics from their beginning, as a demo has it read its own.
        progress: Of a demo: how many there will be of what.

    Raises:
        UserError: If the port is taken, or the topics are not there.
    """
    os.nice(NICENESS)
    asyncio.run(_Page(settings, from_start=from_start, progress=progress).run())


class _Page:
    """One run; all but the feed's waiting happens on the loop, so that nothing needs a lock."""

    def __init__(self, settings: Settings, *, from_start: bool, progress: tuple[int, str] | None) -> None:
        self._settings = settings
        self._board = Board(settings.broker, settings.group, settings.quality_window, progress, settings.topic_prefix)
        self._feed = Feed(settings, from_start=from_start)
        self._has_moved = False
        self._polled_at = time.monotonic()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        snapshots = Snapshots()
        settings = self._settings
        names = allowed_names(settings.page_host, settings.page_names)
        runner = web.AppRunner(
            create_server(self._board.user, self._snapshot, snapshots, names, self._health),
            access_log=None, shutdown_timeout=_GOODBYE_S,
        )  # fmt: skip
        await runner.setup()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        try:
            await _listen(runner, settings)
            log.info("page.started", address=address_of(settings.page_host, settings.page_port))
            await self._work(snapshots)
        finally:
            snapshots.end()
            await runner.cleanup()

    async def _work(self, snapshots: Snapshots) -> None:
        """Read and tell until told to stop."""
        parts = [asyncio.ensure_future(part) for part in (self._read(), self._tell(snapshots), self._stopping.wait())]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            self._stopping.set()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "feed") as thread:
            try:
                while not self._stopping.is_set():
                    for batch in await loop.run_in_executor(thread, self._feed.poll):
                        await self._take(batch)
                    self._polled_at = time.monotonic()
            finally:
                await loop.run_in_executor(thread, self._feed.close)

    async def _take(self, batch: Batch) -> None:
        self._board.take(batch.records, batch.at)
        self._has_moved = True
        await asyncio.sleep(0)  # browsers are answered between two batches

    async def _tell(self, snapshots: Snapshots) -> None:
        told_at = 0.0
        while not self._stopping.is_set():
            now = time.monotonic()
            if snapshots.listeners and (self._has_moved or now - told_at >= TOLD_AT_LEAST_S):
                told_at, self._has_moved = now, False
                snapshots.publish(self._snapshot())
            self._board.advance(time.time())
            await asyncio.sleep(max(now + TOLD_EVERY_S - time.monotonic(), 0))

    def _snapshot(self) -> bytes:
        return orjson.dumps(self._board.snapshot(time.time(), self._feed.standing))

    def _health(self) -> str | None:
        silent_s = time.monotonic() - self._polled_at
        if silent_s > self._settings.stalled_after_s:
            return f"the page has not read for {silent_s:.0f} s"
        return None


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    host, port = settings.page_host, settings.page_port
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise UserError(
            f"port {port} on {host} cannot be used ({error.strerror}): choose another by --port or STREAM_PAGE_PORT"
        ) from error
