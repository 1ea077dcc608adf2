"""A request, whichever door it came by: what HTTP's parser made of it, and where its answer goes."""

from __future__ import annotations

from asyncio import Transport
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web
from aiohttp.http import HttpVersion, HttpVersion11
from aiohttp.streams import StreamReader

from proxy.server.outlet import Line, Outlet


class Link(Line, Protocol):
    """A connection, as far as a request has to know it: aiohttp's has it."""

    @property
    def remote(self) -> str:
        """The address at the other end, "" if it has none."""
        ...

    @property
    def ssl_context(self) -> object: ...


class Request:
    """One request. `headers` are as sent: names in any case, some more than once. `raw_path` is the whole target, still encoded."""

    __slots__ = ("_link", "content", "headers", "method", "outlet", "raw_path", "version")

    def __init__(
        self,
        *,
        method: str,
        raw_path: str,
        headers: Mapping[str, str],
        content: StreamReader,
        link: Link,
        version: HttpVersion = HttpVersion11,
        keep_alive: bool = True,
    ) -> None:
        self._link = link
        self.method = method
        self.raw_path = raw_path
        self.version = version
        self.headers = headers
        self.content = content
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
        headers=request.headers,
        content=request.content,
        link=link,
        keep_alive=request.keep_alive,
    )
