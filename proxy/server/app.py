"""The server process: open the services, listen, serve until told to stop, let requests in flight finish, close."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry

from proxy.config import Config
from proxy.metrics import StoreCallMetrics
from proxy.server.admission import connection_limit
from proxy.server.connection import Endpoint
from proxy.server.dispatch import Dispatcher
from proxy.server.stop import stopped_by_signals
from proxy.server.telemetry import Telemetry
from proxy.services import Services, open_services

logger = logging.getLogger(__name__)

BACKLOG = 1024
FINISH_SECONDS = 30.0  # for requests in flight at the end


async def run_server(
    config: Config,
    *,
    host: str,
    port: int,
    workers: int = 1,
    prepare: Callable[[Services], Awaitable[object]] | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, as one of several processes that share the port.

    `prepare` is awaited before the first connection, `ready` called with the port once they are accepted (`port` may be 0 if the process is
    alone). A signal before that breaks the start off; a second signal ends the process at once, if it is alone.
    """
    registry = CollectorRegistry()
    record = StoreCallMetrics(registry).record
    with stopped_by_signals(worker=workers > 1) as stop:
        async with open_services(config, workers=workers, record_store_call=record, tidy=True) as services:
            if prepare is not None:
                await prepare(services)
            dispatcher = Dispatcher(services, Telemetry(registry))
            connections = connection_limit(config)
            async with listening(dispatcher, host=host, port=port, connections=connections, reuse_port=workers > 1) as bound_port:
                stop.started()
                if ready is not None:
                    ready(bound_port)
                await stop.wait()


@asynccontextmanager
async def listening(
    dispatcher: Dispatcher, *, host: str, port: int, connections: int = BACKLOG, reuse_port: bool = False
) -> AsyncIterator[int]:
    """Accept connections and yield the port. On leaving, accept no more, and give requests in flight their time."""
    runner = web.ServerRunner(Endpoint(dispatcher, limit=connections), shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=min(BACKLOG, connections), reuse_port=reuse_port or None)
    try:
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await site.stop()
        # aiohttp's own shutdown stops reading at once, which would starve uploads in flight.
        if not await dispatcher.finish(FINISH_SECONDS):
            logger.warning("requests still in flight after %.0f s were cut off", FINISH_SECONDS)
        await runner.cleanup()
