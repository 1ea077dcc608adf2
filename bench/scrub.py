"""Scrubbing a large manifest: what the walk over all extents costs, and the comparison of all listings with them.

`python -m bench.scrub` fills a manifest of its own with a million extents of one segment at 4+2, lets six stores list their six million
shards out of thin air, and prints seconds of CPU, and by how much the process has grown at its end.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from proxy.clock import SystemClock
from proxy.codec.format import shard_name
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.proof import smallest_shard_size
from proxy.engine.memory.background import BackgroundMemory
from proxy.engine.memory.budget import Budget
from proxy.engine.placing.fleet import Fleet
from proxy.engine.scrub.inspector import Inspector
from proxy.engine.scrub.once import Named, compare_once
from proxy.engine.scrub.passes import Tools
from proxy.engine.throttle import Throttle
from proxy.engine.walking.tally import TallyObserver, load_tally
from proxy.engine.walking.walk import Walk
from proxy.keyring import Keyring
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Layout, Segment, SegmentId
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.listings import Listings
from proxy.manifest.sqlite.rows import encode
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName, StoreInfo, StoreName

STORES = ("alder", "birch", "cedar", "dogwood", "elm", "fir")
SCHEME = Scheme(4, 2)
SIZE = 1_000_000
STRIDE = 7_919  # a prime: extents come in another order than the names of their shards
BATCH = 50_000


def main(
    extents: Annotated[int, typer.Option(min=1000, help="How many extents.")] = 1_000_000,
    folder: Annotated[Path | None, typer.Option(help="Where the manifest is made, and removed again.")] = None,
) -> None:
    """Fill a manifest, then walk and compare."""
    place = Path(tempfile.mkdtemp(prefix="shardgate-scrub-", dir=folder))
    try:
        rows = asyncio.run(_measure(place, extents))
    finally:
        shutil.rmtree(place)
    table = Table("what", "items", "CPU s", "seconds", "CPU us an item", "MiB more")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


async def _measure(place: Path, extents: int) -> list[list[str]]:
    path, clock = place / "manifest.sqlite", SystemClock()
    async with open_sqlite(path, clock, timeout_seconds=600) as manifest:
        _fill(path, extents)
        walk = Walk(manifest, manifest, clock, [TallyObserver(manifest, clock, STORES)], name="bench")

        async def tally() -> int:
            while not (await walk.advance(seconds=5)).finished:
                pass
            found = await load_tally(manifest)
            return 0 if found is None else found.extents

        async def compare() -> int:
            async with _tools(manifest, path, clock, extents) as tools:
                position = await compare_once(tools, lambda _: None)
            found = position.compared
            if found.shards != extents * SCHEME.n or found.found or found.orphans or found.unlisted:
                raise RuntimeError(f"the comparison found what is not there: {found}")
            return found.shards

        return [await _timed("walk and tally, by extent", tally), await _timed("list and compare, by shard", compare)]


async def _timed(what: str, work: Callable[[], Awaitable[int]]) -> list[str]:
    before, cpu, seconds = _own_mib(), time.process_time(), time.perf_counter()
    items = await work()
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - seconds
    return [what, f"{items:,}", f"{cpu:.1f}", f"{seconds:.1f}", f"{cpu / items * 1e6:.1f}", f"{_own_mib() - before:.0f}"]


def _own_mib() -> float:
    """Return the memory that is this process's alone: what is mapped of the manifest's file is the machine's to take back."""
    (line,) = [line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


def _fill(path: Path, extents: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    for start in range(0, extents, BATCH):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO extent (refs, layout) VALUES (1, ?)", _layouts(start, min(start + BATCH, extents), extents))
        connection.execute("COMMIT")
    connection.close()


def _layouts(start: int, end: int, extents: int) -> Iterator[tuple[bytes]]:
    for number in range(start, end):
        segment_id = _segment_id(number * STRIDE % extents, extents)
        turn = segment_id[-1] % len(STORES)
        segment = Segment(id=segment_id, size=SIZE, stores=STORES[turn:] + STORES[:turn])
        yield (encode(Layout(size=SIZE, policy="p", k=4, m=2, tenant_key_id="t" * 36, wrapped_key=bytes(72), segments=(segment,))),)


def _segment_id(rank: int, extents: int) -> SegmentId:
    """Return ids that are as good as random, in the order of their ranks."""
    return SegmentId((rank * 2**32 // extents).to_bytes(4, "big") + hashlib.blake2b(rank.to_bytes(8, "big"), digest_size=12).digest())


class _ListedStore:
    """A store that lists the shards of the manifest in order, as S3 does, and has nothing else."""

    def __init__(self, number: int, extents: int) -> None:
        self._number = number
        self._extents = extents
        self._size = smallest_shard_size(SegmentGeometry(SCHEME, SIZE))
        self.info = StoreInfo(name=StoreName(STORES[number]), provider="p", region="r", jurisdiction="j")

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        first = int(prefix[:2], 16) * self._extents // 256 if prefix else 0
        last = (int(prefix[:2], 16) + 1) * self._extents // 256 + 1 if prefix else self._extents
        for rank in range(max(first - 1, 0), min(last, self._extents)):
            segment_id = _segment_id(rank, self._extents)
            name = shard_name(segment_id, (self._number - segment_id[-1]) % len(STORES))
            if name.startswith(prefix):
                yield ShardName(name), self._size

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        raise NotImplementedError

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes:
        raise NotImplementedError

    async def get(self, name: ShardName) -> bytes:
        raise NotImplementedError

    async def delete(self, name: ShardName) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


class _NoRoot:
    """The root key of a manifest without tenants."""

    id = ""

    def wrap(self, key: bytes, *, context: bytes) -> bytes:
        raise NotImplementedError

    def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        raise NotImplementedError

    def derive(self, info: bytes) -> bytes:
        raise NotImplementedError


@asynccontextmanager
async def _tools(manifest: Manifest, path: Path, clock: SystemClock, extents: int) -> AsyncIterator[Tools]:
    fleet = Fleet({name: ObservedStore(_ListedStore(number, extents), clock) for number, name in enumerate(STORES)})
    throttle, memory = Throttle(1_000_000), BackgroundMemory(Budget(2**28, wait_seconds=30), wait_seconds=30)
    with ThreadPoolExecutor(4) as threads:
        inspector = Inspector(manifest, Keyring(_NoRoot()), fleet, throttle, memory, threads)
        yield Tools(
            manifest=manifest,
            clock=clock,
            stores=fleet.stores,
            inspector=inspector,
            throttle=throttle,
            threads=threads,
            scratch=lambda: Listings(path),
            report=Named(),
        )


if __name__ == "__main__":
    typer.run(main)
