"""A provider that speaks S3 and misbehaves on demand: a `FaultyStore` over memory, behind a port of 127.0.0.1, in a thread of its own.

It serves what Shardgate asks of a store: PUT, GET and HEAD of an object, DELETE, and ListObjectsV2. It checks no signature.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Event, Thread
from xml.sax.saxutils import escape

from aiohttp import web

from bench.ports import free_port
from proxy.errors import ShardMissing, StoreRejected, StoreUnavailable
from proxy.stores.protocol import ShardName, StoreInfo
from tests.fault.machine.network import MemoryStore
from tests.faulty_store import FaultyStore
from tests.patience import PATIENCE_SECONDS

LARGEST = 64 * 1024 * 1024  # a shard has 16 MiB and a footer at most
PAGE = 1000
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


class FaultyS3:
    """One bucket. `store` is what it does wrong, `held` what it has."""

    def __init__(self, info: StoreInfo) -> None:
        self.held = MemoryStore(info)
        self.store = FaultyStore(self.held)
        self.port = free_port()
        self._loop = asyncio.new_event_loop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[FaultyS3]:
        ready, ending = Event(), asyncio.Event()
        thread = Thread(target=self._loop.run_until_complete, args=(self._serve(ready, ending),), daemon=True)
        thread.start()
        try:
            if not ready.wait(PATIENCE_SECONDS):
                raise RuntimeError(f"{self.endpoint} does not serve")
            yield self
        finally:
            self._loop.call_soon_threadsafe(ending.set)
            thread.join(PATIENCE_SECONDS)

    def change(self, how: Callable[[FaultyStore], None]) -> None:
        """Let the store misbehave, or behave again, from another thread."""
        self._loop.call_soon_threadsafe(how, self.store)

    async def _serve(self, ready: Event, ending: asyncio.Event) -> None:
        async with self._listening():
            ready.set()
            await ending.wait()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=LARGEST, middlewares=[_told_as_s3_does])
        app.router.add_get("/{bucket}", self._list)
        app.router.add_put("/{bucket}/{name:.+}", self._put)
        app.router.add_get("/{bucket}/{name:.+}", self._get)  # and HEAD
        app.router.add_delete("/{bucket}/{name:.+}", self._delete)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            yield
        finally:
            await runner.cleanup()

    async def _put(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self.store.put(_name(request), [body])
        return web.Response(headers={"ETag": _etag(body)})

    async def _get(self, request: web.Request) -> web.Response:
        name = _name(request)
        headers = {"Last-Modified": DATE, "Content-Type": "application/octet-stream"}
        part = request.http_range
        if request.method == "HEAD" or part.start is None:
            body = bytes(await self.store.get(name))
            return web.Response(body=body, headers={**headers, "ETag": _etag(body)})
        size = len(self.held.objects.get(name, b""))
        stop = min(size if part.stop is None else part.stop, size)
        body = bytes(await self.store.get_range(name, part.start, stop - part.start))
        headers["Content-Range"] = f"bytes {part.start}-{part.start + len(body) - 1}/{size}"
        return web.Response(status=206, body=body, headers={**headers, "ETag": _etag(name.encode())})

    async def _delete(self, request: web.Request) -> web.Response:
        await self.store.delete(_name(request))
        return web.Response(status=204)

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        after = query.get("continuation-token") or query.get("start-after", "")
        entries = [(name, size) async for name, size in self.store.list(query.get("prefix", "")) if name > after]
        page, more = entries[:PAGE], len(entries) > PAGE
        contents = "".join(
            f'<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"0"</ETag>'
            f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name, size in page
        )
        token = f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>" if more else ""
        return _xml(
            200,
            f"<ListBucketResult><Name>b</Name><KeyCount>{len(page)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>",
        )


@web.middleware
async def _told_as_s3_does(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    try:
        return await handler(request)
    except ShardMissing:
        return _error(404, "NoSuchKey")
    except StoreRejected:
        return _error(403, "AccessDenied")
    except StoreUnavailable:
        return _error(503, "SlowDown")


def _error(status: int, code: str) -> web.Response:
    return _xml(status, f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>")


def _xml(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f'<?xml version="1.0" encoding="UTF-8"?>{text}', content_type="application/xml")


def _name(request: web.Request) -> ShardName:
    return ShardName(request.match_info["name"])


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'
