"""Packs put together by hand, byte for byte as the format has them, for tests of whoever reads them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.label import Label, encode_label
from proxy.codec.segment import SegmentKeys, SegmentSealer
from proxy.codec.slots import Composition, Slot, SlotContent, arrange
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import Extent, ExtentRef, Layout, ObjectKey, Segment, SegmentId, Version, VersionId
from proxy.stores.protocol import ShardName
from tests.laboratory import Laboratory

FOUR_AND_TWO = Scheme(4, 2)


@dataclass(frozen=True, kw_only=True)
class StoredPack:
    """A pack as it lies in the stores, and one version for each body, which only the test knows of."""

    lab: Laboratory
    extent: Extent
    versions: tuple[Version, ...]
    bodies: tuple[bytes, ...]

    @property
    def segment(self) -> Segment:
        return self.extent.layout.segments[0]

    def slot(self, body: int) -> Slot:
        (ref,) = self.versions[body].extents
        assert ref.offset is not None
        scheme = Scheme(self.extent.layout.k, self.extent.layout.m)
        return Slot(SegmentGeometry(scheme, self.segment.size), ref.offset, ref.size)

    def store_of(self, index: int) -> str:
        return self.segment.stores[index]

    def store_of_slot(self, body: int) -> str:
        return self.store_of(self.slot(body).column)

    def others(self, body: int) -> list[int]:
        """Return the columns that a slot does not lie in, parity last."""
        return [index for index in range(len(self.segment.stores)) if index != self.slot(body).column]

    async def read(self, body: int = 0, start: int = 0, length: int | None = None, *, extent: Extent | None = None) -> bytes:
        version = self.versions[body]
        wanted = version.size - start if length is None else length
        extents = [extent or self.extent]
        reading = await self.lab.services.engine.open_read(version, self.lab.tenant, start, wanted, extents=extents)
        return b"".join([bytes(piece) async for piece in reading])

    async def damage(self) -> dict[tuple[str, str], int]:
        """Return what is on record as damaged, by store and kind."""
        await self.lab.settled()
        return dict((await self.lab.services.manifest.count_damage()).by_store)


async def store_pack(
    lab: Laboratory, bodies: Sequence[bytes], *, scheme: Scheme = FOUR_AND_TWO, generations: Sequence[int] = ()
) -> StoredPack:
    """Deal the bodies to the columns in turn, seal the pack, and put its shards into the stores in their order."""
    contents = [SlotContent("bucket", f"key {number}", f"v{number}", b"record", body) for number, body in enumerate(bodies)]
    columns = tuple(tuple(range(column, len(bodies), scheme.k)) for column in range(scheme.k))
    arrangement = arrange(contents, Composition(columns, ()))
    cipher = lab.services.keyring.tenant_cipher(lab.tenant)
    data_key, wrapped_key = cipher.new_data_key()
    geometry, segment_id = SegmentGeometry(scheme, scheme.k * arrangement.column_size), SegmentId(secrets.token_bytes(16))
    keys = SegmentKeys(geometry, segment_id=segment_id, data_key=data_key, tenant_key_id=cipher.key_id)
    sealer = SegmentSealer(keys)
    sealer.add([arrangement.plaintext(keys, contents)])
    label = Label(bucket="", key="", segment=0, offset=0, table_offset=arrangement.table_offset, table_size=len(arrangement.table))
    shards = sealer.shards(label=encode_label(label), wrapped_shares=cipher.share_data_key(data_key, keys))
    segment = Segment(
        id=segment_id,
        size=geometry.size,
        footer_size=len(shards[0][-1]),
        stores=tuple(list(lab.stores)[: scheme.n]),
        generations=tuple(generations),
    )
    for index, shard in enumerate(shards):
        await lab.stores[segment.stores[index]].put(ShardName(segment.shard_name(index)), shard)
    layout = Layout(
        size=geometry.size,
        policy="standard",
        k=scheme.k,
        m=scheme.m,
        tenant_key_id=cipher.key_id,
        wrapped_key=wrapped_key,
        segments=(segment,),
    )
    # Damage is put on record only of what the manifest knows: a version that is the whole extent stands for all of its users.
    whole = VersionDraft(
        bucket_id=lab.bucket.id,
        key=ObjectKey(f"pack {segment_id.hex()}"),
        id=VersionId(secrets.token_urlsafe(24)),
        size=geometry.size,
        modified_ms=lab.clock.now_ms(),
        new_layouts=(layout,),
    )
    (ref,) = (await lab.services.manifest.commit_version(whole)).extents
    refs = [ExtentRef(id=ref.id, size=len(body), offset=arrangement.offsets[number]) for number, body in enumerate(bodies)]
    versions = tuple(
        Version(
            key=ObjectKey(f"key {number}"),
            id=VersionId(f"v{number}"),
            sequence=number,
            is_latest=True,
            size=one.size,
            modified_ms=lab.clock.now_ms(),
            extents=(one,),
        )
        for number, one in enumerate(refs)
    )
    return StoredPack(lab=lab, extent=Extent(id=ref.id, layout=layout), versions=versions, bodies=tuple(bodies))
