"""The server process: open the services, listen, serve until told to stop, let requests in flight finish, close."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry

from proxy.config import Config
from proxy.engine.cache.cache import RecordCache
from proxy.metrics import CacheMetrics, Counts, DamageMetrics, PackMetrics, StoreCallMetrics
from proxy.server.connection import Endpoint
from proxy.server.dispatch import Dispatcher
from proxy.server.stop import stopped_by_signals
from proxy.server.telemetry import Telemetry
from proxy.server.tls import greeting
from proxy.server.wire.accepting import accepting
from proxy.server.wire.admission import connection_limit
from proxy.server.wire.balance import Share
from proxy.server.wire.certificate import Certificate
from proxy.server.wire.listening import bound, listen
from proxy.services import Services, open_services

logger = logging.getLogger(__name__)

BACKLOG = 1024
FINISH_SECONDS = 30.0  # for requests in flight at the end


async def run_server(
    config: Config,
    *,
    host: str,
    port: int,
    sockets: Sequence[socket.socket] = (),
    workers: int = 1,
    share: Share | None = None,
    prepare: Callable[[Services], Awaitable[object]] | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, maybe as one of several workers: each has a `share` of the connections that come to their `sockets`.

    Those are closed at the end; without any, the port is bound here, and may be 0. `prepare` is awaited before the first connection, and
    `ready` called with the port once they are accepted. A signal before that breaks the start off; a second signal ends the process at
    once, if it is alone.
    """
    share = share or Share.alone()
    counts = Counts(CollectorRegistry())
    store_calls, damage, cache = StoreCallMetrics(counts), DamageMetrics(counts), CacheMetrics(counts)
    packs = PackMetrics(counts)
    counts.gauge("shardgate_connections", "Open connections.", lambda: share.connections, labels=("worker",), values=(share.place,))
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
                sockets=sockets,
                share=share,
                connections=connections,
                certificate=certificate,
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
    sockets: Sequence[socket.socket] = (),
    share: Share | None = None,
    connections: int = BACKLOG,
    certificate: Certificate | None = None,
    front_door: bool = True,
) -> AsyncIterator[int]:
    """Accept connections, with TLS if there is a certificate, and yield the port. `sockets` are bound to it; without any, it is bound here.

    On leaving, accept no more, and give requests in flight their time.
    """
    share = share or Share.alone()
    endpoint = Endpoint(dispatcher, limit=connections, front_door=front_door, share=share)
    runner = web.ServerRunner(endpoint, shutdown_timeout=1.0)
    await runner.setup()
    backlog = min(BACKLOG, connections)
    try:
        with ExitStack() as opened:
            sockets = sockets or opened.enter_context(bound(host, port))
            listen(sockets, backlog=backlog)
            async with greeting(endpoint, certificate, handshakes=backlog) as greetings:
                with accepting(sockets, share, greetings.begin):
                    yield int(sockets[0].getsockname()[1])
    finally:
        # aiohttp's own shutdown stops reading at once, which would starve uploads in flight.
        if not await dispatcher.finish(FINISH_SECONDS):
            logger.warning("requests still in flight after %.0f s were cut off", FINISH_SECONDS)
        await runner.cleanup()
