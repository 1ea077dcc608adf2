"""What accepted sockets go through before they are connections: with TLS, a handshake.

asyncio tells nobody of a connection before its handshake is done: clients that never begin one could take every file descriptor, whatever
bound there is on connections. So they are counted from the moment they are accepted. When too many shake hands at once, the one that has
taken longest is closed: an honest client is done in two round trips.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.server.connection import Endpoint
from proxy.server.wire.certificate import Certificate

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
SHUTDOWN_SECONDS = 10.0  # for the last bytes of an answer and the farewell; a client that does not say its own is not waited for longer
REFRESH_SECONDS = 2.0


@asynccontextmanager
async def greeting(endpoint: Endpoint, certificate: Certificate | None, *, handshakes: int) -> AsyncIterator[Greetings]:
    """Make connections of accepted sockets, with TLS if there is a certificate. On leaving, those that have shaken hands go on.

    As many handshakes may be under way as connections may lie in the backlog: it is what files were reserved for.
    """
    greetings = Greetings(endpoint, certificate, handshakes=handshakes)
    refresh = None if certificate is None else asyncio.create_task(_refresh(certificate))
    try:
        yield greetings
    finally:
        if refresh is not None:
            refresh.cancel()
            await asyncio.gather(refresh, return_exceptions=True)
        await greetings.stop()


class Greetings:
    """The accepted sockets of which connections are being made."""

    def __init__(self, endpoint: Endpoint, certificate: Certificate | None, *, handshakes: int) -> None:
        self._endpoint = endpoint
        self._certificate = certificate
        self._limit = handshakes
        self._greeted: dict[asyncio.Task[None], None] = {}  # longest first

    def begin(self, connection: socket.socket, client: str) -> None:
        """Make a connection of a socket. It is counted from now on."""
        reading = self._endpoint()
        task = asyncio.get_running_loop().create_task(self._greet(reading, connection, client))
        self._greeted[task] = None
        task.add_done_callback(self._forget)
        if self._certificate is not None and len(self._greeted) > self._limit:
            longest = next(iter(self._greeted))
            self._forget(longest)
            longest.cancel()

    async def stop(self) -> None:
        """Cut off those that shake hands. Without TLS, a connection is made in a turn of the event loop."""
        if self._certificate is not None:
            await asyncio.sleep(0)  # one that was cancelled before its first step would neither close its socket nor be counted no more
            for task in self._greeted:
                task.cancel()
        await asyncio.gather(*self._greeted, return_exceptions=True)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._greeted.pop(task, None)

    async def _greet(self, reading: asyncio.BaseProtocol, connection: socket.socket, client: str) -> None:
        made = False
        try:
            await self._connect(reading, connection)
            made = True
        except ssl.SSLError as error:
            # Worth a line: a client that does not trust the certificate tells it only here.
            logger.info("the TLS handshake with %s failed: %s", client, (error.reason or str(error)).replace("_", " ").lower())
        except OSError as error:
            logger.debug("a connection ended before it was made: %s", error)
        finally:
            if not made:
                self._endpoint.share.leave(reading)

    async def _connect(self, reading: asyncio.BaseProtocol, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if self._certificate is None:
            await loop.connect_accepted_socket(lambda: reading, connection)
            return
        await loop.connect_accepted_socket(
            lambda: reading,
            connection,
            ssl=self._certificate.context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )


async def _refresh(certificate: Certificate) -> None:
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        await asyncio.to_thread(certificate.refresh)
