"""Requests that race a change of what they found: no object is called missing, replaced or put where it was not meant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from proxy.engine.engine import Engine
from proxy.errors import BucketMissing, ExtentMissing
from proxy.manifest.records import NULL_VERSION, Bucket, ObjectAttributes, ObjectKey, Readable, Version, VersionId
from proxy.s3.copy_source import parse_copy_source
from proxy.s3.model import load_model
from proxy.s3.policy.principal import Principal
from proxy.server.call import Call, Download, Origin, OwnedBucket
from proxy.server.handlers.copy import copy_object, upload_part_copy
from proxy.server.handlers.objects import get_object
from proxy.tenancy import add_tenant
from tests.laboratory import BytesBody, Laboratory, laboratory
from tests.packing import packs_leave


class RacingEngine:
    """An engine that has a key overwritten right after it was looked up, the first `times` times."""

    def __init__(self, lab: Laboratory, times: int) -> None:
        self._lab = lab
        self._left = times

    def __getattr__(self, name: str) -> object:
        return getattr(self._lab.services.engine, name)

    async def find_version(self, bucket: Bucket, key: ObjectKey, version_id: VersionId | None = None) -> Version | None:
        found = await self._lab.services.engine.find_version(bucket, key, version_id)
        await self._overwrite(key)
        return found

    async def find_readable(self, bucket: Bucket, key: ObjectKey, version_id: VersionId | None = None) -> Readable | None:
        found = await self._lab.services.engine.find_readable(bucket, key, version_id)
        await self._overwrite(key)
        return None if found is None else Readable(version=found.version)  # as of a version of many extents

    async def _overwrite(self, key: ObjectKey) -> None:
        if self._left and key == "k":
            self._left -= 1
            await self._lab.put("k", b"newer %d" % self._left)


class HeldBody(BytesBody):
    """A body whose second half comes when it is let go."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, chunk=len(data) // 2)
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in super().chunks():
            yield chunk
            self.begun.set()
            await self.go.wait()


@pytest.fixture(params=[False, True], ids=["alone", "packed"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, packs=request.param) as running:
        await running.put("k", b"first")
        async with packs_leave(running):
            yield running


def call(lab: Laboratory, operation: str, times: int, **params: object) -> Call:
    engine: Engine = RacingEngine(lab, times)  # type: ignore[assignment]
    held = OwnedBucket(bucket=lab.bucket, owner=lab.tenant)
    source = parse_copy_source(str(params.get("CopySource", "bucket/k")))
    return Call(
        operation=load_model().operations[operation],
        params={"Bucket": "bucket", "Key": "k", **params},
        headers={},
        principal=Principal(lab.tenant.id),
        asker=lab.tenant,
        services=replace(lab.services, engine=engine),
        held=held,
        copied=Origin(source=source, held=held),
    )


async def content(download: Download) -> bytes:
    assert download.chunks is not None
    return b"".join([bytes(piece) async for piece in download.chunks])


async def test_get_of_an_overwritten_object_returns_its_successor(lab: Laboratory) -> None:
    download = await get_object(call(lab, "GetObject", 3))
    assert await content(download) == b"newer 0"
    assert download.length == len(b"newer 0")


async def test_get_of_what_was_replaced_since_it_was_looked_up_returns_its_successor(lab: Laboratory) -> None:
    found = await lab.services.manifest.find_readable(lab.bucket.id, ObjectKey("k"))
    assert found is not None
    await lab.put("k", b"second")

    download = await get_object(structs.replace(call(lab, "GetObject", 0), ahead=[structs.replace(found, extents=())]))

    assert await content(download) == b"second"


async def test_get_gives_up_when_it_is_overwritten_every_time(lab: Laboratory) -> None:
    with pytest.raises(ExtentMissing):
        await get_object(call(lab, "GetObject", 1000))


async def test_get_that_has_begun_is_read_to_its_end(lab: Laboratory) -> None:
    download = await get_object(call(lab, "GetObject", 0))
    await lab.put("k", b"second")
    assert await content(download) == b"first"


async def test_copy_of_an_overwritten_object_copies_its_successor(lab: Laboratory) -> None:
    await copy_object(call(lab, "CopyObject", 2, Key="copy", CopySource="bucket/k"))
    assert await lab.get("copy") == b"newer 0"


async def test_part_copy_of_an_overwritten_object_copies_its_successor(lab: Laboratory) -> None:
    upload = await lab.services.engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("whole"), ObjectAttributes())
    await upload_part_copy(call(lab, "UploadPartCopy", 2, Key="whole", UploadId=upload.id, PartNumber=1, CopySource="bucket/k"))
    (part,) = await lab.services.manifest.list_parts(upload.id)
    assert part.size == len(b"newer 0")


async def put_while(lab: Laboratory, change: Callable[[], Awaitable[object]]) -> Version:
    """Put an object under the key "k", and change something when half of its body has come."""
    body = HeldBody(b"late" * 1000)
    put = asyncio.create_task(lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("k"), body, ObjectAttributes()))
    await body.begun.wait()
    await change()
    body.go.set()
    return await put


async def test_put_into_a_deleted_bucket_never_lands_in_the_next_of_its_name(lab: Laboratory) -> None:
    manifest, now = lab.services.manifest, lab.clock.now_ms()
    await manifest.delete_latest(lab.bucket.id, ObjectKey("k"), marker_id=VersionId("m"), now_ms=now)
    await add_tenant(manifest, lab.services.keyring, lab.clock, "other")
    other = await manifest.find_tenant_by_name("other")
    assert other is not None

    async def another_tenant_takes_the_name() -> None:
        await manifest.delete_bucket(lab.bucket.id)
        theirs = await manifest.create_bucket(Bucket(name=lab.bucket.name, tenant_id=other.id, policy="standard", created_ms=now))
        await lab.services.engine.put_object(theirs, other, ObjectKey("k"), BytesBody(b"precious"), ObjectAttributes())

    with pytest.raises(BucketMissing):
        await put_while(lab, another_tenant_takes_the_name)
    await lab.collect()
    bucket = await manifest.find_bucket(lab.bucket.name)
    assert bucket is not None
    version = await manifest.find_version(bucket.id, ObjectKey("k"))
    assert version is not None
    pieces = await lab.services.engine.open_read(version, other, 0, version.size)
    assert b"".join([bytes(piece) async for piece in pieces]) == b"precious"


async def test_put_while_versioning_is_enabled_keeps_the_version_before(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    version = await put_while(lab, lambda: manifest.set_versioning(lab.bucket.id, "Enabled"))
    assert version.id != NULL_VERSION
    assert await lab.get("k") == b"late" * 1000
    await lab.collect()
    older = await manifest.find_version(lab.bucket.id, ObjectKey("k"), NULL_VERSION)
    assert older is not None
    pieces = await lab.services.engine.open_read(older, lab.tenant, 0, older.size)
    assert b"".join([bytes(piece) async for piece in pieces]) == b"first"


async def test_put_while_versioning_is_suspended_makes_the_null_version(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    await manifest.set_versioning(lab.bucket.id, "Enabled")
    bucket = await manifest.find_bucket(lab.bucket.name)
    assert bucket is not None
    lab.bucket = bucket
    version = await put_while(lab, lambda: manifest.set_versioning(lab.bucket.id, "Suspended"))
    assert version.id == NULL_VERSION
    assert await lab.get("k") == b"late" * 1000
