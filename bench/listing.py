"""Listings of a large bucket: fills a manifest of its own with many keys, and times pages of them.

`python -m bench.listing` puts ten million keys below 3,500 folders and prints the milliseconds of a page, at the manifest. Beside each
of the last 750 folders lies a key, so a page there mixes keys and common prefixes. One key more has a long history, and there are uploads.
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
from proxy.manifest.drafts import ObjectPage, UploadPage, VersionPage
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import (
    Bucket,
    BucketId,
    BucketName,
    Checksum,
    ExtentId,
    ExtentRef,
    ObjectAttributes,
    ObjectKey,
    Tenant,
    TenantId,
    Upload,
    UploadId,
    Version,
    VersionId,
)
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.rows import encode, listed_line

BUCKET = BucketId(1)  # the first of a new manifest
FOLDERS = 3500
MIXED_FROM = 2750  # the first folder with a key beside it
HISTORY = "history"  # behind all folders
PAGE = 1000
ROUNDS = 15
BATCH = 50_000
SPARSE = 100  # one upload, and one version of the long history, for so many keys
Page = Callable[[], Awaitable[ObjectPage | UploadPage | VersionPage]]


def main(
    keys: Annotated[int, typer.Option(min=FOLDERS * (PAGE + 1), help="How many keys.")] = 10_000_000,
    folder: Annotated[Path | None, typer.Option(help="Where the manifest is made, and removed again.")] = None,
) -> None:
    """Time pages of 1,000 among many keys."""
    place = Path(tempfile.mkdtemp(prefix="shardgate-listing-", dir=folder))
    try:
        path = place / "manifest.sqlite"
        asyncio.run(begin(path))
        fill(path, keys)
        title = f"{keys:,} keys, {path.stat().st_size / 1e9:.1f} GB"
        Console().print(asyncio.run(_measured(path, keys, title)))
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def begin(path: Path) -> None:
    tenant = Tenant(
        id=TenantId("t"), name="t", display_name="t", canonical_id="t", account_id="1", root_key_id="", wrapped_key=b"", created_ms=0
    )
    async with open_sqlite(path, SystemClock()) as manifest:
        await manifest.add_tenant(tenant)
        await manifest.create_bucket(Bucket(name=BucketName("bucket"), tenant_id=tenant.id, policy="standard", created_ms=0))


async def _measured(path: Path, keys: int, title: str) -> Table:
    table = Table("page of 1,000", "median ms", "worst ms", title=title)
    async with open_sqlite(path, SystemClock()) as manifest:
        for name, page in _pages(manifest, keys):
            times = [await _timed(page) for _ in range(ROUNDS)]
            table.add_row(name, f"{statistics.median(times):.1f}", f"{max(times):.1f}")
    return table


def _pages(manifest: Manifest, keys: int) -> Iterator[tuple[str, Page]]:
    middle, mixed = _key(keys // 2, keys), f"folder-{MIXED_FROM:06}"

    def objects(*, prefix: str = "", delimiter: str = "", after: str = "", limit: int = PAGE) -> Page:
        return lambda: manifest.list_objects(BUCKET, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

    def versions(*, delimiter: str = "", after: str = "", version: str = "") -> Page:
        return lambda: manifest.list_versions(BUCKET, prefix="", delimiter=delimiter, after_key=after, after_version=version, limit=PAGE)

    def uploads(*, delimiter: str = "", after: str = "") -> Page:
        return lambda: manifest.list_uploads(BUCKET, prefix="", delimiter=delimiter, after_key=after, after_upload="", limit=PAGE)

    yield "from the start", objects()
    yield "after the middle", objects(after=middle)
    yield "below one folder", objects(prefix=f"{middle.partition('/')[0]}/", delimiter="/")
    yield "common prefixes", objects(delimiter="/")
    yield "common prefixes, after the middle", objects(delimiter="/", after=middle)
    yield "common prefixes and keys, mixed", objects(delimiter="/", after=mixed)
    yield "one common prefix, after the middle", objects(delimiter="/", after=middle, limit=1)
    yield "versions, from the start", versions()
    yield "versions, after the middle", versions(after=middle)
    yield "versions, common prefixes", versions(delimiter="/")
    yield "versions, common prefixes and keys, mixed", versions(delimiter="/", after=mixed)
    yield "versions, deep in one key's history", versions(delimiter="/", after=HISTORY, version=_history_id(keys // SPARSE // 2))
    yield "uploads, after the middle", uploads(after=middle)
    yield "uploads, common prefixes", uploads(delimiter="/")


async def _timed(page: Page) -> float:
    started = time.perf_counter()
    answer = await page()
    elapsed = time.perf_counter() - started
    if not answer.truncated:
        raise RuntimeError("a page is the last one: too few keys")
    return elapsed * 1000


def fill(path: Path, keys: int) -> None:
    """Insert the rows that as many PUTs leave, in key order, without their shards."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    (bucket,) = connection.execute("SELECT id FROM bucket").fetchone()
    for start in track(range(0, keys, BATCH), description=f"filling in {keys:,} keys", transient=True):
        connection.execute("BEGIN")
        numbers = range(start, min(start + BATCH, keys))
        connection.executemany(
            "INSERT INTO version VALUES (?, ?, ?, ?, ?, 0, ?, ?, NULL, NULL, NULL)",
            (_version_row(bucket, _key(number, keys), number, VersionId("null"), is_latest=True) for number in numbers),
        )
        connection.executemany(
            "INSERT INTO upload VALUES (?, ?, ?, ?, ?)", (_upload_row(bucket, number, keys) for number in numbers[::SPARSE])
        )
        connection.execute("COMMIT")
    connection.execute("BEGIN")
    history = range(keys // SPARSE)
    connection.executemany(
        "INSERT INTO version VALUES (?, ?, ?, ?, ?, 0, ?, ?, NULL, NULL, NULL)",
        (_version_row(bucket, HISTORY, keys + number, _history_id(number), is_latest=number == history[-1]) for number in history),
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _version_row(
    bucket: int, key: str, number: int, version_id: VersionId, *, is_latest: bool
) -> tuple[int, bytes, int, str, bool, bytes | None, bytes]:
    version = Version(
        key=ObjectKey(key),
        id=version_id,
        sequence=number + 1,
        is_latest=is_latest,
        size=4096,
        etag=f"{number:032x}",
        modified_ms=1_700_000_000_000 + number,
        attributes=ObjectAttributes(headers={"ContentType": "application/octet-stream"}),
        checksum=Checksum(algorithm="CRC64NVME", type="FULL_OBJECT", value="AAAAAAAAAAA="),
        extents=(ExtentRef(id=ExtentId(number + 1), size=4096),),
    )
    return bucket, key.encode(), -number - 1, version_id, is_latest, listed_line(version), encode(version)


def _upload_row(bucket: int, number: int, keys: int) -> tuple[str, int, bytes, int, bytes]:
    key, initiated_ms = ObjectKey(_key(number, keys)), 1_700_000_000_000 + number
    upload = Upload(id=UploadId(f"{number:032x}"), bucket_id=BUCKET, key=key, tenant_id=TenantId("t"), initiated_ms=initiated_ms)
    return upload.id, bucket, key.encode(), initiated_ms, encode(upload)


def _history_id(number: int) -> VersionId:
    return VersionId(f"{number:032x}")


def _key(number: int, keys: int) -> str:
    folder, place = divmod(number, keys // FOLDERS)
    beside = place == 0 and folder >= MIXED_FROM
    return f"folder-{folder:06}-beside" if beside else f"folder-{folder:06}/object-{number:09}"


if __name__ == "__main__":
    typer.run(main)
