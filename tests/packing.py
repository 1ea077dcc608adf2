"""Packs for tests of what deals with them: made at once, of just the objects that a test names.

And for tests of what holds with packs and without: each must really let a pack leave for the stores, where it says that it is about them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec import msgpack

from proxy.codec.slots import SlotContent, arrange, compose
from proxy.engine.ciphers import cipher_for_client
from proxy.engine.locking import with_default_lock
from proxy.engine.memory.budget import Budget
from proxy.engine.packing.pack import Packer
from proxy.engine.packing.pack_segment import PackKind, PackPutter, StoredSegment, pack_geometry, pack_memory
from proxy.engine.repack.worker import SETTLED_MS
from proxy.engine.writing.delivery import Delivery
from proxy.engine.writing.stragglers import LatePuts
from proxy.manifest.drafts import PackedDraft, VersionDraft
from proxy.manifest.packs import Pack
from proxy.manifest.records import Bucket, Extent, ExtentId, ObjectAttributes, ObjectKey, Settlement, Version, VersionId
from tests.laboratory import Laboratory

MEMORY = 64 * 2**20
SMALL = 4096
TOGETHER = 4  # objects that are put at once: enough for each column of data to have one

# Of a fixture `lab` that is made without packs and with them: for a test of what is never packed, and of what only packs have.
alone = pytest.mark.parametrize("lab", [False], ids=["alone"], indirect=True)
packed = pytest.mark.parametrize("lab", [True], ids=["packed"], indirect=True)


def sized(*, alone: Sequence[int], packed: Sequence[int]) -> pytest.MarkDecorator:
    """As both of them, with sizes of objects for each."""
    cases = [(packs, size) for packs, sizes in ((False, alone), (True, packed)) for size in sizes]
    ids = [f"{'packed' if packs else 'alone'}-{size}" for packs, size in cases]
    return pytest.mark.parametrize(("lab", "size"), cases, ids=ids, indirect=["lab"])


def has_packs(lab: Laboratory) -> bool:
    return lab.services.engine._packer is not None


@asynccontextmanager
async def packs_leave(lab: Laboratory) -> AsyncIterator[None]:
    """Demand, where small objects are packed, that a pack leaves for the stores within the block: else it says nothing about packs."""
    packer = lab.services.engine._packer
    if packer is None:
        yield
        return
    assert isinstance(packer, Packer)
    putter, left = packer._carrier._putter, list[PackKind]()
    store = putter.store

    async def counted(kind: PackKind, *arguments: object, **options: object) -> StoredSegment:
        left.append(kind)
        return await store(kind, *arguments, **options)  # type: ignore[arg-type]

    putter.store = counted  # type: ignore[method-assign]
    yield
    assert left, "no pack was made by what is about packs"


def some_objects(lab: Laboratory, size: int = SMALL, *, prefix: str = "k") -> dict[str, bytes]:
    """Return an object of this size; with packs, so many that each column of data of theirs has one."""
    return {f"{prefix}{number}": os.urandom(size) for number in range(TOGETHER if has_packs(lab) else 1)}


async def put_together(lab: Laboratory, objects: Mapping[str, bytes]) -> list[Version]:
    """Put objects at once and wait for their late shards, too. Those that may be packed share one pack."""
    versions = await put_promptly_together(lab, objects)
    await lab.settled()
    return versions


async def put_promptly_together(lab: Laboratory, objects: Mapping[str, bytes]) -> list[Version]:
    """As that; return when all their tenants would be answered."""
    versions = list(await asyncio.gather(*(lab.put_promptly(key, data) for key, data in objects.items())))
    assert len({version.extents[0].id for version in versions}) == 1, "they share one extent"
    return versions


async def extent_of(lab: Laboratory, versions: Sequence[Version]) -> Extent:
    """Return the one extent that all these versions lie in."""
    (extent,) = await lab.services.manifest.load_extents(list({ref.id for version in versions for ref in version.extents}))
    return extent


async def read_all(lab: Laboratory, keys: Iterable[str]) -> dict[str, bytes]:
    """Return what is read under each of these keys."""
    return {key: await lab.get(key) for key in keys}


@asynccontextmanager
async def company(lab: Laboratory) -> AsyncIterator[None]:
    """Where small objects are packed, let a few come at once with one that is put within the block, and fails: they are stored, as one pack
    without it, and deleted at the end."""
    beside = bodies(*[SMALL] * TOGETHER, prefix="beside") if has_packs(lab) else {}
    puts = asyncio.gather(*(lab.put_promptly(key, data) for key, data in beside.items()))
    yield
    versions = await puts
    await lab.settled()
    assert await read_all(lab, beside) == beside
    if beside:
        assert (await extent_of(lab, versions)).layout.slots == TOGETHER
    await delete(lab, *beside)


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
    delivery = Delivery(
        ledger=parts.ledger,
        putter=parts.putter,
        stragglers=parts.stragglers,
        late=LatePuts(Budget(MEMORY, wait_seconds=1)),
        tasks=parts.tasks,
    )
    return PackPutter(ledger=parts.ledger, threads=parts.threads, delivery=delivery)
