"""Which objects cannot be read: those that use what has lost too many shards, by name, and no others."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.slots import Slot
from proxy.engine.walking.lost import lost_objects
from proxy.manifest.damage import Damage
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import Bucket, BucketName, Extent, ObjectAttributes, ObjectKey, Version
from tests.laboratory import BytesBody, Laboratory, laboratory
from tests.packing import bodies, found, put_pack

PLAIN = ObjectAttributes()
OBJECTS = bodies(40_000, 30_000, 20_000, 10_000)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


async def _lose(lab: Laboratory, extent: Extent, indexes: Sequence[int], *, segment: int = 0) -> None:
    """Take shards away, and put that on record."""
    lost = extent.layout.segments[segment]
    for index in indexes:
        await lab.stores[lost.stores[index]].inner.delete(lost.shard_name(index))
    damage = [
        Damage(extent_id=extent.id, segment_id=lost.id, shard_index=index, kind="missing", store=lost.stores[index]) for index in indexes
    ]
    await lab.services.manifest.report_damage(damage, now_ms=lab.clock.now_ms())


async def _extent(lab: Laboratory, version: Version) -> Extent:
    return (await lab.services.manifest.load_extents([version.extents[0].id]))[0]


async def _lost(lab: Laboratory) -> list[tuple[str, str, int, int]]:
    """Return the bucket, the key, the size and the lost bytes of each."""
    return [(lost.bucket, lost.key, lost.size_bytes, lost.lost_bytes) async for lost in lost_objects(lab.services.manifest)]


async def test_nothing_is_told_of_while_a_read_has_enough_shards(lab: Laboratory) -> None:
    version = await lab.put("k", os.urandom(300_000))
    assert await _lost(lab) == []
    await _lose(lab, await _extent(lab, version), [0, 1])
    assert await _lost(lab) == []


async def test_of_a_large_object_the_bytes_of_the_lost_segments_are_counted(lab: Laboratory) -> None:
    data = os.urandom(17 * 2**20)
    extent = await _extent(lab, await lab.put("large", data))
    await lab.put("whole", os.urandom(300_000))
    first, last = (segment.size for segment in extent.layout.segments)
    await _lose(lab, extent, [0, 2, 5], segment=1)
    assert await _lost(lab) == [("bucket", "large", len(data), last)]
    await _lose(lab, extent, [0, 1, 2], segment=0)
    assert await _lost(lab) == [("bucket", "large", len(data), first + last)]


async def test_copies_in_other_buckets_and_parts_of_uploads_are_told_of_too(lab: Laboratory) -> None:
    source = await lab.put("k", os.urandom(300_000))
    made = Bucket(name=BucketName("another"), tenant_id=lab.tenant.id, policy=lab.bucket.policy, created_ms=lab.clock.now_ms())
    other = await lab.services.manifest.create_bucket(made)
    await lab.services.engine.copy_object(source, lab.bucket, lab.tenant, other, lab.tenant, ObjectKey("copy"), PLAIN)
    upload = await lab.services.engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("parts"), PLAIN)
    part = await lab.services.engine.upload_part(lab.bucket, lab.tenant, upload, 7, BytesBody(os.urandom(200_000)))
    await lab.settled()
    await _lose(lab, await _extent(lab, source), [0, 1, 2])
    extents = await lab.services.manifest.walk_extents(after=source.extents[0].id, limit=10)
    await _lose(lab, next(extent for extent in extents if extent.layout.size == 200_000), [3, 4, 5])

    told = [lost async for lost in lost_objects(lab.services.manifest)]

    assert [(lost.bucket, lost.key) for lost in told] == [("another", "copy"), ("bucket", "parts"), ("bucket", "k")]
    assert (told[1].upload_id, told[1].part_number, told[1].version_id) == (upload.id, 7, "")
    assert (told[2].upload_id, told[2].part_number, told[2].version_id) == ("", 0, source.id)
    await lab.services.engine.complete_upload(lab.bucket, upload, [CompletedPart(number=7, etag=part.etag)])
    assert {key for _, key, *_ in await _lost(lab)} == {"copy", "parts", "k"}


async def test_of_a_pack_those_are_told_of_whose_own_shard_is_lost_and_the_others_are_read(lab: Laboratory) -> None:
    versions = await put_pack(lab, OBJECTS)
    extent = await _extent(lab, versions[0])
    geometry = SegmentGeometry(Scheme(extent.layout.k, extent.layout.m), extent.layout.segments[0].size)
    columns = {version.key: Slot(geometry, version.extents[0].offset or 0, version.size).column for version in versions}
    await _lose(lab, extent, [columns["k0"], 4, 5])

    gone = [key for key in OBJECTS if columns[key] == columns["k0"]]
    assert gone != list(OBJECTS)
    assert await _lost(lab) == [("bucket", key, len(OBJECTS[key]), len(OBJECTS[key])) for key in gone]
    for key in OBJECTS.keys() - gone:
        assert await lab.get(key) == OBJECTS[key]
    await lab.services.manifest.delete_version(lab.bucket.id, ObjectKey("k0"), (await found(lab, "k0")).id, now_ms=lab.clock.now_ms())
    assert "k0" not in {key for _, key, *_ in await _lost(lab)}
