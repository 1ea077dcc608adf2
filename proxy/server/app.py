"""The server process: open the services, listen, serve until told to stop, let requests in flight finish, close."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry

from proxy.config import Config
from proxy.engine.cache.cache import RecordCache
from proxy.metrics import CacheMetrics, Counts, DamageMetrics, PackMetrics, StoreCallMetrics
from proxy.server.admission import connection_limit
from proxy.server.certificate import Certificate
from proxy.server.connection import Endpoint
from proxy.server.dispatch import Dispatcher
from proxy.server.stop import stopped_by_signals
from proxy.server.telemetry import Telemetry
from proxy.server.tls import accepting_tls
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
    counts = Counts(CollectorRegistry())
    store_calls, damage, cache = StoreCallMetrics(counts), DamageMetrics(counts), CacheMetrics(counts)
    packs = PackMetrics(counts)
    with stopped_by_signals(worker=workers > 1) as stop:
        async with (
            counts.flushing(),
            open_services(
                config,
                workers=workers,
                record_store_call=store_calls.record,
                record_damage=damage.record,
                record_cache=RecordCache(cache.record, cache.record_held),
                record_pack=packs.record,
                serving=True,
            ) as services,
        ):
            if prepare is not None:
                await prepare(services)
            dispatcher = Dispatcher(services, Telemetry(counts), host=host)
            connections = connection_limit(config)
            certificate = Certificate(config.tls) if config.tls is not None else None
            async with listening(
                dispatcher,
                host=host,
                port=port,
                connections=connections,
                certificate=certificate,
                reuse_port=workers > 1,
                front_door=config.front_door,
            ) as bound_port:
                stop.started()
                if ready is not None:
                    ready(bound_port)
                await stop.wait()


@asynccontextmanager
async def listening(
    dispatcher: Dispatcher,
    *,
    host: str,
    port: int,
    connections: int = BACKLOG,
    certificate: Certificate | None = None,
    reuse_port: bool = False,
    front_door: bool = True,
) -> AsyncIterator[int]:
    """Accept connections, with TLS if there is a certificate, and yield the port.

    On leaving, accept no more, and give requests in flight their time.
    """
    endpoint = Endpoint(dispatcher, limit=connections, front_door=front_door)
    runner = web.ServerRunner(endpoint, shutdown_timeout=1.0)
    await runner.setup()
    backlog = min(BACKLOG, connections)
    if certificate is None:
        accepting = _accepting(runner, host, port, backlog=backlog, reuse_port=reuse_port)
    else:
        accepting = accepting_tls(endpoint, certificate, host, port, backlog=backlog, reuse_port=reuse_port)
    try:
        async with accepting as bound_port:
            yield bound_port
    finally:
        # aiohttp's own shutdown stops reading at once, which would starve uploads in flight.
        if not await dispatcher.finish(FINISH_SECONDS):
            logger.warning("requests still in flight after %.0f s were cut off", FINISH_SECONDS)
        await runner.cleanup()


@asynccontextmanager
async def _accepting(runner: web.ServerRunner, host: str, port: int, *, backlog: int, reuse_port: bool) -> AsyncIterator[int]:
    site = web.TCPSite(runner, host, port, backlog=backlog, reuse_port=reuse_port or None)
    try:
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await site.stop()
