"""Sending an object's bytes: small ones in one write, large ones as they are opened, and never a silently short body."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from proxy.engine.read import Reading
from proxy.errors import BudgetExhausted, IntegrityError
from proxy.server.call import Download

logger = logging.getLogger(__name__)

SINGLE_WRITE_SIZE = 128 * 1024  # up to here joining headers and body in one write beats a second system call


async def send_download(
    request: web.BaseRequest, download: Download, headers: CIMultiDict[str], *, idle_seconds: float
) -> web.StreamResponse:
    """Answer with the download. What fails before the first byte is raised; later the connection is cut and `failure` says why.

    A client that takes nothing for `idle_seconds` is cut off too. Until then it may pause; what was read ahead for it gives way to others.
    """
    headers["Content-Length"] = str(download.length)
    chunks = download.chunks
    if chunks is None or download.length == 0:
        return web.Response(status=download.status, headers=headers)
    try:
        if download.length <= SINGLE_WRITE_SIZE:
            return web.Response(status=download.status, headers=headers, body=await _collect(chunks, download.length))
        return await _stream(request, chunks, download, headers, idle_seconds)
    finally:
        await chunks.aclose()  # left to the garbage collector, requests to stores would go on for a client that has gone


async def _collect(chunks: Reading, length: int) -> bytes:
    body = b"".join([piece async for piece in chunks])
    if len(body) != length:
        raise IntegrityError(f"{len(body)} bytes of {length} could be read")
    return body


async def _stream(
    request: web.BaseRequest,
    chunks: Reading,
    download: Download,
    headers: CIMultiDict[str],
    idle_seconds: float,
) -> web.StreamResponse:
    group = await chunks.group()  # before the status line: this may still become a 503
    response = web.StreamResponse(status=download.status, headers=headers)
    sent = 0
    try:
        await response.prepare(request)
        while group:
            await _pass_on(request, chunks, group, idle_seconds)
            sent += sum(map(len, group))
            group = await chunks.group()  # the stores have deadlines of their own
        if sent != download.length:
            raise IntegrityError(f"{sent} bytes of {download.length} could be read")
        await response.write_eof()
    except ConnectionError:
        download.failure = "ClientClosed"
    except TimeoutError:
        download.failure = "RequestTimeout"
    except Exception as error:  # whatever it is, the status line has been sent: a cut connection is the only honest answer
        download.failure = "ShortRead"
        logger.warning("connection cut after %d of %d bytes: %r", sent, download.length, error)
    if download.failure:
        response.force_close()
        if request.transport is not None:
            request.transport.abort()
    return response


async def _pass_on(request: web.BaseRequest, chunks: Reading, group: list[memoryview], idle_seconds: float) -> None:
    """Write, and wait until the connection takes more. What is beyond the group is given up if others want its memory meanwhile.

    aiohttp's writer would join the pieces with the head. uvloop sends a head that was just written with them, in one system call.
    """
    writer, transport = request.writer, request.transport
    assert isinstance(writer, StreamWriter)
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    transport.writelines(group)
    if not transport.get_write_buffer_size():
        return  # the client keeps up: nobody has to wait, and no clock to be set
    async with asyncio.timeout(idle_seconds):
        try:
            async with chunks.passing():
                await writer.drain()
        except BudgetExhausted:
            await chunks.pause()
            await writer.drain()
