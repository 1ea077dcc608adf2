"""A request, whichever door it came by: what was read of its head, and where its answer goes."""

from __future__ import annotations

from asyncio import Transport
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.http import HttpVersion, HttpVersion11

from proxy.s3.request import read_headers
from proxy.server.wire.outlet import Line, Outlet

if TYPE_CHECKING:
    from proxy.server.identity.auth import Sender
    from proxy.server.shapes import Known


class Link(Line, Protocol):
    """A connection, as far as a request has to know it: aiohttp's has it."""

    @property
    def remote(self) -> str:
        """The address at the other end, "" if it has none."""
        ...

    @property
    def ssl_context(self) -> object: ...


class Content(Protocol):
    """The raw bytes of a body as they come: aiohttp's `StreamReader`, or a body that came with its head."""

    def is_eof(self) -> bool: ...
    def at_eof(self) -> bool: ...
    def exception(self) -> BaseException | None: ...
    def read_nowait(self) -> bytes: ...
    async def readany(self) -> bytes: ...


class Whole:
    """A body that is here."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def is_eof(self) -> bool:
        """Whether all of it has come."""
        return True

    def at_eof(self) -> bool:
        """Whether all of it has been read."""
        return not self._data

    def exception(self) -> None:
        """Nothing can happen to it any more."""

    def read_nowait(self) -> bytes:
        data, self._data = self._data, b""
        return data

    async def readany(self) -> bytes:
        return self.read_nowait()


class Request:
    """One request. `headers` have lower-case names. `raw_path` is the whole target, still encoded.

    `known`: what its shape tells, if it has one. `head`: its first bytes as they came, if there may be a shape to be made of them.
    `proved`: who sent it, if that was found out before it turned out that something has to be waited for.
    """

    __slots__ = ("_link", "content", "head", "headers", "known", "method", "outlet", "proved", "raw_path", "version")

    def __init__(
        self,
        *,
        method: str,
        raw_path: str,
        headers: dict[str, str],
        content: Content,
        link: Link,
        version: HttpVersion = HttpVersion11,
        keep_alive: bool = True,
        known: Known | None = None,
        head: bytes = b"",
    ) -> None:
        self._link = link
        self.method = method
        self.raw_path = raw_path
        self.version = version
        self.headers = headers
        self.content = content
        self.known = known
        self.head = head
        self.proved: Sender | None = None
        self.outlet = Outlet(link, method, version, keep_alive=keep_alive)

    @property
    def remote(self) -> str:
        """The address at the other end of the connection, "" if it has none."""
        return self._link.remote

    @property
    def secure(self) -> bool:
        return self._link.ssl_context is not None

    @property
    def transport(self) -> Transport | None:
        return self._link.transport


def request_of(request: web.BaseRequest, link: Link, *, version: HttpVersion | None = None) -> Request:
    """Return the request that came by aiohttp's door. `version`: the one to answer in, if that is another."""
    return Request(
        method=request.method,
        raw_path=request.raw_path,
        version=version or request.version,
        headers=read_headers(request.headers.items()),
        content=request.content,
        link=link,
        keep_alive=request.keep_alive,
    )
