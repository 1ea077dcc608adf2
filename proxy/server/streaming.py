"""Sending an object's bytes: small ones in one write, large ones as they are opened, and never a silently short body."""

from __future__ import annotations

import asyncio
import logging

from proxy.engine.reading.read import Reading
from proxy.errors import BudgetExhausted, IntegrityError
from proxy.server.call import Download
from proxy.server.wire.outlet import JOINED_SIZE, Outlet
from proxy.server.wire.response import Response

logger = logging.getLogger(__name__)


async def send_download(outlet: Outlet, download: Download, headers: list[tuple[str, str]], *, idle_seconds: float) -> Response:
    """Answer with the download. What fails before the first byte is raised; later the connection is cut and `failure` says why.

    A client that takes nothing for `idle_seconds` is cut off too. Until then it may pause; what was read ahead for it gives way to others.
    """
    response = Response(download.status, headers, length_bytes=download.length)
    chunks = download.chunks
    if chunks is None or download.length == 0:
        return response
    try:
        if download.length <= JOINED_SIZE:
            response.body = await _collect(chunks, download.length)
        else:
            await _stream(outlet, chunks, download, response, idle_seconds)
        return response
    finally:
        await chunks.aclose()  # left to the garbage collector, requests to stores would go on for a client that has gone


async def _collect(chunks: Reading, length: int) -> bytes:
    body = await chunks.whole()
    if len(body) != length:
        raise IntegrityError(f"{len(body)} bytes of {length} could be read")
    return body


async def _stream(outlet: Outlet, chunks: Reading, download: Download, response: Response, idle_seconds: float) -> None:
    group = await chunks.group()  # before the status line: this may still become a 503
    sent = 0
    try:
        outlet.begin(response, length_bytes=download.length)
        while group:
            await _pass_on(outlet, chunks, group, idle_seconds)
            sent += sum(map(len, group))
            group = await chunks.group()  # the stores have deadlines of their own
        if sent != download.length:
            raise IntegrityError(f"{sent} bytes of {download.length} could be read")
    except ConnectionError:
        download.failure = "ClientClosed"
    except TimeoutError:
        download.failure = "RequestTimeout"
    except Exception as error:  # whatever it is, the status line has been sent: a cut connection is the only honest answer
        download.failure = "ShortRead"
        logger.warning("connection cut after %d of %d bytes: %r", sent, download.length, error)
    if download.failure:
        response.closes = True
        outlet.cut()


async def _pass_on(outlet: Outlet, chunks: Reading, group: list[memoryview], idle_seconds: float) -> None:
    """Write, and wait until the connection takes more. What is beyond the group is given up if others want its memory meanwhile."""
    if outlet.pass_on(group):
        return  # the client keeps up: nobody has to wait, and no clock to be set
    async with asyncio.timeout(idle_seconds):
        try:
            async with chunks.passing():
                await outlet.drain()
        except BudgetExhausted:
            await chunks.pause()
            await outlet.drain()
