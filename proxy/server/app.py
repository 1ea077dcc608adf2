"""The server process: open the services, listen, serve until told to stop, let requests in flight finish, close."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from proxy.config import Config
from proxy.server.dispatch import Dispatcher
from proxy.services import open_services

logger = logging.getLogger(__name__)

BACKLOG = 1024
KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 5.0  # reading on after an early answer, so that it is not lost to a reset
FINISH_SECONDS = 30.0  # for requests in flight at the end
MAX_REQUEST_LINE = 32 * 1024  # a key of 1,024 bytes is 3 KiB escaped; a presigned URL has a token, too
MAX_HEADER = 16 * 1024


async def run_server(
    config: Config,
    *,
    host: str,
    port: int,
    reuse_port: bool = False,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `ready` is called with the port once connections are accepted (`port` may be 0)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with open_services(config) as services:
            dispatcher = Dispatcher(services)
            async with listening(dispatcher, host=host, port=port, reuse_port=reuse_port) as bound_port:
                if ready is not None:
                    ready(bound_port)
                await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def listening(dispatcher: Dispatcher, *, host: str, port: int, reuse_port: bool = False) -> AsyncIterator[int]:
    """Accept connections and yield the port. On leaving, accept no more, and give requests in flight their time."""
    server = web.Server(
        dispatcher,
        access_log=None,
        auto_decompress=False,  # Content-Encoding belongs to the object
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
        max_line_size=MAX_REQUEST_LINE,
        max_field_size=MAX_HEADER,
    )
    runner = web.ServerRunner(server, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_port=reuse_port or None)
    try:
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await site.stop()
        # aiohttp's own shutdown stops reading at once, which would starve uploads in flight.
        if not await dispatcher.finish(FINISH_SECONDS):
            logger.warning("requests still in flight after %.0f s were cut off", FINISH_SECONDS)
        await runner.cleanup()
