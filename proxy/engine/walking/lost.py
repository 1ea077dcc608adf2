"""Which objects cannot be read, by what is on record: too few shards are left of a segment of theirs.

The record knows segments, and whoever asks wants names. So all versions and parts are walked, bucket by bucket, and those that use such a
segment are told. This reads the whole manifest, and no store.

A slot of a pack lies in one shard. While that one is there the object can be read, however many others are lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.slots import Slot
from proxy.manifest.campaigns import START, Position, Used
from proxy.manifest.damage import Damaged
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketId, BucketName, ExtentId, ExtentRef, ObjectKey, SegmentId, UploadId, VersionId

PAGE = 1000


class LostObject(NamedTuple):
    """A version, or a part of an upload, and how many of its bytes cannot be read."""

    bucket: BucketName
    key: ObjectKey
    version_id: VersionId
    upload_id: UploadId
    part_number: int
    size_bytes: int
    lost_bytes: int


class _Lost(NamedTuple):
    """What is lost of an extent. Of a pack, whose one segment it is, also its geometry and the shards that are lost."""

    size_bytes: int
    geometry: SegmentGeometry
    shards: frozenset[int]


async def lost_objects(manifest: Manifest) -> AsyncIterator[LostObject]:
    """Tell what cannot be read, in the order of tenants, buckets and keys; parts of uploads come before a bucket's versions."""
    lost = await _lost_extents(manifest)
    if not lost:
        return
    async for bucket in _buckets(manifest):
        async for used in _users(manifest, bucket.id):
            if lost_bytes := sum(_lost_of(ref, lost) for ref in used.extents):
                user, size_bytes = used.user, sum(ref.size for ref in used.extents)
                yield LostObject(bucket.name, user.key, user.version_id, user.upload_id, user.part_number, size_bytes, lost_bytes)


def _lost_of(ref: ExtentRef, lost: Mapping[ExtentId, _Lost]) -> int:
    if (found := lost.get(ref.id)) is None:
        return 0
    if ref.offset is None:
        return found.size_bytes
    return ref.size if Slot(found.geometry, ref.offset, ref.size).column in found.shards else 0


async def _lost_extents(manifest: Manifest) -> dict[ExtentId, _Lost]:
    lost: dict[ExtentId, _Lost] = {}
    after = (ExtentId(0), SegmentId(b""))
    while page := await manifest.lost_segments(after=after, limit=PAGE):
        for extent_id, segment_id in page:
            if (damaged := await manifest.find_damaged(extent_id, segment_id)) is not None:  # else it was deleted meanwhile
                before = lost[extent_id].size_bytes if extent_id in lost else 0
                lost[extent_id] = _lost(damaged, before)
        after = page[-1]
    return lost


def _lost(damaged: Damaged, before_bytes: int) -> _Lost:
    layout, segment = damaged.extent.layout, damaged.segment
    return _Lost(before_bytes + segment.size, SegmentGeometry(Scheme(layout.k, layout.m), segment.size), damaged.lost)


async def _buckets(manifest: Manifest) -> AsyncIterator[Bucket]:
    for tenant in await manifest.list_tenants():
        after = ""
        while page := await manifest.list_buckets(tenant.id, after=after, limit=PAGE):
            for bucket in page:
                yield bucket
            after = page[-1].name


async def _users(manifest: Manifest, bucket_id: BucketId) -> AsyncIterator[Used]:
    position = START
    while True:
        page = await manifest.walk_users(bucket_id, after=position, limit=PAGE)
        for used in page:
            yield used
        if not page and position.parts_done:
            return
        position = page[-1].position if page else Position(parts_done=True)
