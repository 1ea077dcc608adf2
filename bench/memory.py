"""The memory proof: many large uploads at once, and the proxy's resident memory while they run.

The uploads are far larger than any disk cache a proxy could hide in, and they all start at once. Memory reaches its
plateau within seconds, so the run may be cut short (`at_most_seconds`): uploads still under way are then dropped.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field

from bench.servers import Running
from bench.usage import PeakMemory, ProcessTree

BLOCK_BYTES = 1024 * 1024


@dataclass(slots=True)
class MemoryResult:
    """What the uploads did and the peak of the proxy's memory meanwhile."""

    uploads: int
    upload_bytes: int
    finished: int = 0
    dropped: int = 0
    sent_bytes: int = 0
    seconds: float = 0.0
    idle_rss_mib: float = 0.0
    peak_rss_mib: float = 0.0
    errors: list[str] = field(default_factory=list)


async def upload_at_once(server: Running, *, uploads: int, upload_bytes: int, at_most_seconds: float) -> MemoryResult:
    """Start `uploads` PUTs of `upload_bytes` at once; return after the last, or when the time is up."""
    result = MemoryResult(uploads, upload_bytes)
    tree = ProcessTree(server.pid)
    result.idle_rss_mib = tree.resident_bytes() / 1024**2
    memory = PeakMemory(tree)
    block = os.urandom(BLOCK_BYTES)
    started = time.perf_counter()
    with memory.watch():
        tasks = [asyncio.create_task(_upload(server, index, block, result)) for index in range(uploads)]
        _, pending = await asyncio.wait(tasks, timeout=at_most_seconds)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    result.dropped = len(pending)
    result.seconds = time.perf_counter() - started
    result.peak_rss_mib = memory.peak_bytes / 1024**2
    return result


async def _upload(server: Running, index: int, block: bytes, result: MemoryResult) -> None:
    endpoint = server.endpoint
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    try:
        writer.write(endpoint.sign("PUT", f"/bench/memory/{index:04d}", body_bytes=result.upload_bytes))
        await _send_body(writer, block, result, answer)
        status = int((await answer)[9:12])
        if status == 200:
            result.finished += 1
        else:
            result.errors.append(f"upload {index}: status {status}")
    except (OSError, asyncio.IncompleteReadError) as error:
        result.errors.append(f"upload {index}: {error}")
    finally:
        answer.cancel()
        writer.transport.abort()


async def _send_body(writer: asyncio.StreamWriter, block: bytes, result: MemoryResult, answer: asyncio.Task[bytes]) -> None:
    left = result.upload_bytes
    while left and not answer.done():  # an early answer is a refusal: there is no use in sending the rest
        piece = block if left >= len(block) else block[:left]
        writer.write(piece)
        await writer.drain()
        left -= len(piece)
        result.sent_bytes += len(piece)
