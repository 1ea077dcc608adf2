"""Listings of a large bucket: fills a manifest of its own with many keys, and times pages of them.

`python -m bench.listing` puts ten million keys below 2,500 folders and prints the milliseconds of a page, at the manifest.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from proxy.clock import SystemClock
from proxy.manifest.protocol import Manifest, ObjectPage
from proxy.manifest.records import (
    Bucket,
    BucketName,
    Checksum,
    ExtentId,
    ExtentRef,
    ObjectAttributes,
    ObjectKey,
    Tenant,
    TenantId,
    Version,
    VersionId,
)
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.rows import encode

BUCKET = BucketName("bucket")
FOLDERS = 2500
PAGE = 1000
ROUNDS = 15
BATCH = 50_000


def main(
    keys: Annotated[int, typer.Option(min=FOLDERS * (PAGE + 1), help="How many keys.")] = 10_000_000,
    folder: Annotated[Path | None, typer.Option(help="Where the manifest is made, and removed again.")] = None,
) -> None:
    """Time pages of 1,000 among many keys."""
    place = Path(tempfile.mkdtemp(prefix="shardgate-listing-", dir=folder))
    try:
        path = place / "manifest.sqlite"
        asyncio.run(_begin(path))
        _fill(path, keys)
        title = f"{keys:,} keys, {path.stat().st_size / 1e9:.1f} GB"
        Console().print(asyncio.run(_measured(path, keys, title)))
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def _begin(path: Path) -> None:
    tenant = Tenant(id=TenantId("t"), name="t", display_name="t", canonical_id="t", root_key_id="", wrapped_key=b"", created_ms=0)
    async with open_sqlite(path, SystemClock()) as manifest:
        await manifest.add_tenant(tenant)
        await manifest.create_bucket(Bucket(name=BUCKET, tenant_id=tenant.id, policy="standard", created_ms=0))


async def _measured(path: Path, keys: int, title: str) -> Table:
    table = Table("page of 1,000", "median ms", "worst ms", title=title)
    async with open_sqlite(path, SystemClock()) as manifest:
        for name, page in _pages(manifest, keys):
            times = [await _timed(page) for _ in range(ROUNDS)]
            table.add_row(name, f"{statistics.median(times):.1f}", f"{max(times):.1f}")
    return table


def _pages(manifest: Manifest, keys: int) -> Iterator[tuple[str, Callable[[], Awaitable[ObjectPage]]]]:
    middle = _key(keys // 2, keys)

    def objects(*, prefix: str = "", delimiter: str = "", after: str = "") -> Callable[[], Awaitable[ObjectPage]]:
        return lambda: manifest.list_objects(BUCKET, prefix=prefix, delimiter=delimiter, after=after, limit=PAGE)

    def versions(*, delimiter: str = "", after: str = "") -> Callable[[], Awaitable[ObjectPage]]:
        return lambda: manifest.list_versions(BUCKET, prefix="", delimiter=delimiter, after_key=after, after_version="", limit=PAGE)

    yield "from the start", objects()
    yield "after the middle", objects(after=middle)
    yield "below one folder", objects(prefix=f"{middle.partition('/')[0]}/", delimiter="/")
    yield "1,000 common prefixes", objects(delimiter="/")
    yield "1,000 common prefixes after the middle", objects(delimiter="/", after=middle)
    yield "versions, after the middle", versions(after=middle)
    yield "versions, 1,000 common prefixes", versions(delimiter="/")


async def _timed(page: Callable[[], Awaitable[ObjectPage]]) -> float:
    started = time.perf_counter()
    answer = await page()
    elapsed = time.perf_counter() - started
    if not answer.truncated:
        raise RuntimeError(f"a page of {len(answer.versions)} keys and {len(answer.prefixes)} prefixes is the last one: too few keys")
    return elapsed * 1000


def _fill(path: Path, keys: int) -> None:
    """Insert the rows that as many PUTs leave, in key order, without their shards."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    (bucket,) = connection.execute("SELECT id FROM bucket").fetchone()
    for start in track(range(0, keys, BATCH), description=f"filling in {keys:,} keys", transient=True):
        connection.execute("BEGIN")
        rows = (_row(bucket, number, keys) for number in range(start, min(start + BATCH, keys)))
        connection.executemany("INSERT INTO version VALUES (?, ?, ?, 'null', 1, 0, ?)", rows)
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _row(bucket: int, number: int, keys: int) -> tuple[int, bytes, int, bytes]:
    key = _key(number, keys)
    version = Version(
        bucket=BUCKET,
        key=ObjectKey(key),
        id=VersionId("null"),
        sequence=number + 1,
        is_latest=True,
        size=4096,
        etag=f"{number:032x}",
        modified_ms=1_700_000_000_000 + number,
        attributes=ObjectAttributes(headers={"ContentType": "application/octet-stream"}),
        checksum=Checksum(algorithm="CRC64NVME", type="FULL_OBJECT", value="AAAAAAAAAAA="),
        extents=(ExtentRef(id=ExtentId(number + 1), size=4096),),
    )
    return bucket, key.encode(), -number - 1, encode(version)


def _key(number: int, keys: int) -> str:
    return f"folder-{number // (keys // FOLDERS):06}/object-{number:09}"


if __name__ == "__main__":
    typer.run(main)
