"""The TLS listener: connections that shake hands first, and are counted from the moment they are accepted.

asyncio's own server tells nobody of a connection before its handshake is done: clients that never begin one could take every file
descriptor, whatever bound there is on connections. So sockets are accepted here. When too many shake hands at once, the one that has taken
longest is closed: an honest client is done in two round trips.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from proxy.server.certificate import Certificate

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
SHUTDOWN_SECONDS = 10.0  # for the last bytes of an answer and the farewell; a client that does not say its own is not waited for longer
REFRESH_SECONDS = 2.0
RETRY_SECONDS = 1.0  # no file descriptor is left: some will be


@asynccontextmanager
async def accepting_tls(
    server: web.Server, certificate: Certificate, host: str, port: int, *, backlog: int, reuse_port: bool
) -> AsyncIterator[int]:
    """Give aiohttp's server connections that have shaken hands, and yield the port. On leaving, those that it has go on.

    As many handshakes may be under way as connections may lie in the backlog: it is what files were reserved for.
    """
    listener = TlsListener(server, certificate, handshakes=backlog)
    try:
        yield await listener.start(host, port, backlog=backlog, reuse_port=reuse_port)
    finally:
        await listener.stop()


class TlsListener:
    """Listening sockets, what accepts from them, and the handshakes under way."""

    def __init__(self, server: web.Server, certificate: Certificate, *, handshakes: int) -> None:
        self._server = server
        self._certificate = certificate
        self._limit = handshakes
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._greeted: dict[asyncio.Task[None], None] = {}  # longest first

    async def start(self, host: str, port: int, *, backlog: int, reuse_port: bool) -> int:
        """Accept connections; return the port."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            self._sockets.append(_listen(family, address, backlog=backlog, reuse_port=reuse_port))
        self._tasks = [loop.create_task(self._accept(listening)) for listening in self._sockets]
        self._tasks.append(loop.create_task(self._refresh()))
        return int(self._sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Accept no more. Connections that have shaken hands go on."""
        ending = [*self._tasks, *self._greeted]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for listening in self._sockets:
            listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # that client has gone already
                    logger.warning("cannot accept a connection: %s", error.strerror)
                    await asyncio.sleep(RETRY_SECONDS)
                continue
            task = loop.create_task(self._greet(connection, str(address[0])))
            self._greeted[task] = None
            task.add_done_callback(self._forget)
            if len(self._greeted) > self._limit:
                longest = next(iter(self._greeted))
                self._forget(longest)
                longest.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._greeted.pop(task, None)

    async def _greet(self, connection: socket.socket, client: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._server,
                connection,
                ssl=self._certificate.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except ssl.SSLError as error:
            # Worth a line: a client that does not trust the certificate tells it only here.
            logger.info("the TLS handshake with %s failed: %s", client, (error.reason or str(error)).replace("_", " ").lower())
        except OSError as error:
            logger.debug("a connection ended before its TLS handshake: %s", error)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await asyncio.to_thread(self._certificate.refresh)


def _listen(family: int, address: tuple[object, ...], *, backlog: int, reuse_port: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        listening.bind(address)
        listening.listen(backlog)
        listening.settimeout(0)
    except OSError:
        listening.close()
        raise
    return listening
