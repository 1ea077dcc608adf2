"""Packs made by hand, of exactly the objects that a test says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from proxy.codec.slots import SlotContent, arrange, compose
from proxy.engine.budget import Budget
from proxy.engine.pack_segment import PackKind, PackPutter, StoredSegment, pack_geometry, pack_memory
from proxy.engine.stragglers import LatePuts
from proxy.manifest.drafts import PackedDraft, VersionDraft
from proxy.manifest.records import Bucket, ExtentId, ObjectKey, Settlement, Version, VersionId
from tests.laboratory import Laboratory


def drafts_of(lab: Laboratory, objects: Mapping[str, bytes], *, bucket: Bucket | None = None) -> list[VersionDraft]:
    """Return the records of new versions, as a PUT makes them."""
    into = bucket or lab.bucket
    order = lab.services.engine._order
    return [
        VersionDraft(
            bucket_id=into.id,
            key=ObjectKey(key),
            id=VersionId(f"v{order.next():x}"),
            versioning=into.versioning,
            written=order.next(),
            size=len(data),
            etag=hashlib.md5(data).hexdigest(),
            modified_ms=lab.clock.now_ms(),
        )
        for key, data in objects.items()
    ]


def packing_of(lab: Laboratory) -> PackPutter:
    parts = lab.services.parts
    late = LatePuts(Budget(64 * 2**20, wait_seconds=1))
    return PackPutter(
        ledger=parts.ledger, threads=parts.threads, putter=parts.putter, stragglers=parts.stragglers, late=late, tasks=parts.tasks
    )


async def store_pack(
    lab: Laboratory, drafts: Sequence[VersionDraft], bodies: Sequence[bytes], *, bucket: str = "bucket"
) -> tuple[StoredSegment, list[PackedDraft]]:
    """Put the shards of one pack; nothing of it is visible yet."""
    contents = [
        SlotContent(bucket, draft.key, draft.id, msgspec.msgpack.encode(draft), body) for draft, body in zip(drafts, bodies, strict=True)
    ]
    policy = lab.services.policies["standard"]
    arrangement = arrange(contents, compose([len(body) for body in bodies], policy.scheme.k))
    assert len(arrangement.offsets) == len(bodies), "these do not all go into one pack"
    held = await Budget(64 * 2**20, wait_seconds=1).acquire(pack_memory(pack_geometry(policy.scheme, arrangement)), owner="t")
    kind = PackKind(policy=policy, scheme=policy.scheme, cipher=lab.services.keyring.tenant_cipher(lab.tenant))
    stored = await packing_of(lab).store(kind, contents, arrangement, held)
    return stored, [PackedDraft(draft, stored.offsets[number]) for number, draft in enumerate(drafts)]


async def commit_pack(lab: Laboratory, stored: StoredSegment, packed: Sequence[PackedDraft]) -> list[Version]:
    """Make the versions of a pack visible."""

    async def commit(settlements: Sequence[Settlement]) -> tuple[ExtentId | None, list[Version]]:
        outcomes = await lab.services.manifest.commit_pack(stored.layout, packed, settlements=settlements, now_ms=lab.clock.now_ms())
        versions = [outcome for outcome in outcomes if isinstance(outcome, Version)]
        return (versions[0].extents[0].id if versions else None), versions

    return await packing_of(lab).commit(stored, commit)


async def put_pack(lab: Laboratory, objects: Mapping[str, bytes], *, bucket: Bucket | None = None) -> list[Version]:
    """Put objects in one pack, and wait for its late shards, too."""
    stored, packed = await store_pack(
        lab, drafts_of(lab, objects, bucket=bucket), list(objects.values()), bucket=(bucket or lab.bucket).name
    )
    versions = await commit_pack(lab, stored, packed)
    await lab.settled()
    return versions
