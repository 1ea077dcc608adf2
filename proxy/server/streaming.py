"""Sending an object's bytes: small ones in one write, large ones as they are opened, and never a wrong or silently short body."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web
from multidict import CIMultiDict

from proxy.server.call import Download

SINGLE_WRITE_SIZE = 128 * 1024  # up to here joining headers and body in one write beats a second system call


class ShortRead(ConnectionError):
    """The body could not be sent to its end; the connection was cut so that the client knows."""


async def send_download(request: web.BaseRequest, download: Download, headers: CIMultiDict[str]) -> web.StreamResponse:
    """Answer with the download. What fails before the first byte is raised as it is; afterwards the connection is cut: `ShortRead`."""
    headers["Content-Length"] = str(download.length)
    if download.chunks is None or download.length == 0:
        return web.Response(status=download.status, headers=headers)
    if download.length <= SINGLE_WRITE_SIZE:
        return web.Response(status=download.status, headers=headers, body=await _collect(download.chunks, download.length))
    return await _stream(request, download.chunks, download, headers)


async def _collect(chunks: AsyncIterator[bytes | memoryview], length: int) -> bytes:
    pieces = [piece async for piece in chunks]
    body = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
    if len(body) != length:
        raise ShortRead(f"{len(body)} bytes of {length} came")
    return body


async def _stream(
    request: web.BaseRequest, chunks: AsyncIterator[bytes | memoryview], download: Download, headers: CIMultiDict[str]
) -> web.StreamResponse:
    chunk = await anext(chunks, b"")
    response = web.StreamResponse(status=download.status, headers=headers)
    sent = 0
    try:
        await response.prepare(request)
        while chunk:
            await response.write(chunk)
            sent += len(chunk)
            chunk = await anext(chunks, b"")
        if sent != download.length:
            raise ShortRead(f"{sent} bytes of {download.length} sent")
        await response.write_eof()
    except BaseException as error:
        if request.transport is not None:
            request.transport.abort()
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            raise ShortRead(f"{sent} bytes of {download.length} sent: {error}") from error
        raise
    return response
