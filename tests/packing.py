"""Packs for tests of what deals with them: made at once, of just the objects that a test names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from msgspec import msgpack

from proxy.codec.slots import SlotContent, arrange, compose
from proxy.engine.ciphers import cipher_for_client
from proxy.engine.locking import with_default_lock
from proxy.engine.memory.budget import Budget
from proxy.engine.packing.pack_segment import PackKind, PackPutter, StoredSegment, pack_geometry, pack_memory
from proxy.engine.repack.worker import SETTLED_MS
from proxy.engine.writing.stragglers import LatePuts
from proxy.manifest.drafts import PackedDraft, VersionDraft
from proxy.manifest.packs import Pack
from proxy.manifest.records import Bucket, Extent, ExtentId, ObjectAttributes, ObjectKey, Settlement, Version, VersionId
from tests.laboratory import Laboratory

MEMORY = 64 * 2**20


async def put_pack(
    lab: Laboratory,
    objects: Mapping[str, bytes],
    *,
    buckets: Sequence[Bucket] = (),
    attributes: ObjectAttributes = ObjectAttributes(),  # noqa: B008 - frozen
    settle: bool = True,
) -> list[Version]:
    """Put objects as one pack, in turn into each of the buckets (the laboratory's, if none are named), and wait for late shards."""
    drafts = drafts_of(lab, objects, buckets=buckets, attributes=attributes)
    versions = await commit_pack(lab, *await store_pack(lab, drafts, list(objects.values()), buckets=buckets))
    assert len(versions) == len(drafts), versions
    if settle:
        await lab.settled()
    return versions


def drafts_of(
    lab: Laboratory,
    objects: Mapping[str, bytes],
    *,
    buckets: Sequence[Bucket] = (),
    attributes: ObjectAttributes = ObjectAttributes(),  # noqa: B008 - frozen
) -> list[VersionDraft]:
    """Return the records of new versions, as a PUT makes them."""
    among = buckets or (lab.bucket,)
    return [_draft(lab, among[number % len(among)], key, data, attributes) for number, (key, data) in enumerate(objects.items())]


async def store_pack(
    lab: Laboratory, drafts: Sequence[VersionDraft], bodies: Sequence[bytes], *, buckets: Sequence[Bucket] = ()
) -> tuple[StoredSegment, list[PackedDraft]]:
    """Put the shards of one pack; nothing of it is visible yet."""
    services = lab.services
    places = {bucket.id: bucket for bucket in buckets or (lab.bucket,)}
    contents = [
        SlotContent(places[draft.bucket_id].name, draft.key, draft.id, msgpack.encode(draft), body)
        for draft, body in zip(drafts, bodies, strict=True)
    ]
    policy, attributes = services.policies[places[drafts[0].bucket_id].policy], drafts[0].attributes
    cipher = await cipher_for_client(services.manifest, services.keyring, lab.tenant, attributes.encryption)
    kind = PackKind(policy=policy, scheme=policy.scheme_of(attributes.storage_class), cipher=cipher)
    composition = compose([len(body) for body in bodies], kind.scheme.k)
    assert not composition.left_out, "a test names objects that make a pack"
    arrangement = arrange(contents, composition)
    held = await Budget(MEMORY, wait_seconds=1).acquire(pack_memory(pack_geometry(kind.scheme, arrangement)), owner="test")
    stored = await _putter(lab).store(kind, contents, arrangement, held)
    return stored, [PackedDraft(draft, stored.offsets[place]) for place, draft in enumerate(drafts)]


async def commit_pack(lab: Laboratory, stored: StoredSegment, packed: Sequence[PackedDraft]) -> list[Version]:
    """Make the versions of a pack visible; return those that have become so."""

    async def commit(settlements: Sequence[Settlement]) -> tuple[ExtentId | None, list[Version]]:
        outcomes = await lab.services.manifest.commit_pack(stored.layout, packed, settlements=settlements, now_ms=lab.clock.now_ms())
        versions = [outcome for outcome in outcomes if isinstance(outcome, Version)]
        return (versions[0].extents[0].id if versions else None), versions

    return await _putter(lab).commit(stored, commit)


def settle(lab: Laboratory) -> None:
    """Let packs become so old that they are written anew to save space."""
    lab.clock.advance(SETTLED_MS / 1000 + 1)


async def repack(lab: Laboratory) -> None:
    """Let what was put settle, then let the worker make a whole pass."""
    settle(lab)
    while not (await lab.worker("repack").step()).idle:
        pass


async def data_of(lab: Laboratory, version: Version) -> bytes:
    """Return the bytes of a version as a client reads them."""
    pieces = await lab.services.engine.open_read(version, lab.tenant, 0, version.size)
    return b"".join([bytes(piece) async for piece in pieces])


async def found(lab: Laboratory, key: str, *, bucket: Bucket | None = None) -> Version:
    version = await lab.services.manifest.find_version((bucket or lab.bucket).id, ObjectKey(key))
    assert version is not None
    return version


async def packs(lab: Laboratory) -> list[Pack]:
    """Return all packs, by when they were made."""
    return list(await lab.services.manifest.packs_between(first=ExtentId(0), last=ExtentId(2**62)))


async def extents(lab: Laboratory) -> tuple[Extent, ...]:
    return await lab.services.manifest.walk_extents(after=ExtentId(0), limit=10_000)


async def delete(lab: Laboratory, *keys: str) -> None:
    for key in keys:
        await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey(key), marker_id=VersionId(f"m-{key}"), now_ms=lab.clock.now_ms())


def bodies(*sizes: int, prefix: str = "k") -> dict[str, bytes]:
    """Return bodies that tell from each other, by key."""
    return {
        f"{prefix}{number}": hashlib.sha256(f"{prefix}{number}".encode()).digest() * (size // 32 + 1) for number, size in enumerate(sizes)
    }


def _draft(lab: Laboratory, bucket: Bucket, key: str, data: bytes, attributes: ObjectAttributes) -> VersionDraft:
    engine = lab.services.engine
    draft = VersionDraft(
        bucket_id=bucket.id,
        key=ObjectKey(key),
        id=engine._new_version_id(),
        versioning=bucket.versioning,
        written=engine._order.next(),
        size=len(data),
        etag=hashlib.md5(data).hexdigest(),
        modified_ms=lab.clock.now_ms(),
        attributes=attributes,
    )
    return with_default_lock(bucket, draft)


def _putter(lab: Laboratory) -> PackPutter:
    parts = lab.services.parts
    return PackPutter(
        ledger=parts.ledger,
        threads=parts.threads,
        putter=parts.putter,
        stragglers=parts.stragglers,
        late=LatePuts(Budget(MEMORY, wait_seconds=1)),
        tasks=parts.tasks,
    )
