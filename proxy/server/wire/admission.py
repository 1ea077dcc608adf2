"""Admission of clients: how many connections a process holds, and how long a new one may be silent.

A connection costs a file descriptor, and so does every file and socket of a store. Without a bound of their own, idle connections, which
anybody can open, would leave none to the stores.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.config import Config
from proxy.stores.kept_files import files_to_keep, folders_to_keep, raise_file_limit

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

logger = logging.getLogger(__name__)

FIRST_REQUEST_SECONDS = 10.0  # a client connects when it has something to say; its head is a few packets
FEWEST = 16  # that many are served even if files may run out
_OWN_FILES = 128  # manifest, log, event loop, libraries
_DIRECTORY_FILES = 16  # of the threads of one directory, a listing and a folder each; the files and folders that it keeps open come on top
Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class BoundedServer(web.Server):
    """aiohttp's server with at most `limit` connections.

    When one more comes, the one that has waited longest for a request is closed. If none waits, the new one is.
    """

    def __init__(self, answer: Answering, *, limit: int, first_request_seconds: float = FIRST_REQUEST_SECONDS, **options: object) -> None:
        super().__init__(self._answer, **options)  # type: ignore[arg-type]  # options of aiohttp's connections
        self._respond = answer
        self._limit = limit
        self._first_request_seconds = first_request_seconds
        self._open: set[RequestHandler] = set()
        self._waiting: dict[RequestHandler, None] = {}  # longest first
        self._deadlines: dict[RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, connection: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(connection, transport)
        if len(self._open) >= self._limit and not self._make_room():
            _end(transport)
            return
        self._open.add(connection)
        self._waiting[connection] = None
        loop = asyncio.get_running_loop()
        self._deadlines[connection] = loop.call_later(self._first_request_seconds, self._close, connection)

    def connection_lost(self, connection: RequestHandler, exc: BaseException | None = None) -> None:
        self._forget(connection)
        super().connection_lost(connection, exc)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        self.engage(connection)
        # aiohttp answers each request in a task of its own, which also sends what is returned here.
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self.settle(connection))
        return await self._respond(request)

    def engage(self, connection: RequestHandler) -> None:
        """Spare a connection: a request of its is being answered."""
        self._waiting.pop(connection, None)
        if (deadline := self._deadlines.pop(connection, None)) is not None:
            deadline.cancel()

    def settle(self, connection: RequestHandler) -> None:
        """Take back `engage`: the answer is sent."""
        if connection in self._open:
            self._waiting[connection] = None

    def _make_room(self) -> bool:
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self._close(longest)
        return True

    def _close(self, connection: RequestHandler) -> None:
        self._forget(connection)
        if connection.transport is not None:
            _end(connection.transport)
        connection.force_close()

    def _forget(self, connection: RequestHandler) -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        if (deadline := self._deadlines.pop(connection, None)) is not None:
            deadline.cancel()


def _end(transport: asyncio.Transport) -> None:
    """Close a connection that has nothing to tell. With TLS, a farewell would wait for the client's, and hold a file meanwhile."""
    if transport.get_extra_info("sslcontext") is None:
        transport.close()
    else:
        transport.abort()


def connection_limit(config: Config) -> int:
    """Raise the number of files this process may open as far as it goes; return how many connections leave enough of them to the stores.

    Connections that lie in the backlog are accepted all at once, before the first can be closed: it may be as long again.
    """
    files = raise_file_limit()
    room = (files - _reserved_files(config)) // 2
    if room < config.limits.connections:
        logger.warning("only %d connections at once: this process may open %d files; raise ulimit -Hn", max(room, FEWEST), files)
    return max(min(room, config.limits.connections), FEWEST)


def _reserved_files(config: Config) -> int:
    of_directory = _DIRECTORY_FILES + files_to_keep() + folders_to_keep()
    return _OWN_FILES + sum(of_directory if store.kind == "directory" else store.concurrency for store in config.stores.values())
