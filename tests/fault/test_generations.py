"""A shard that was put anew has another name, taken from the record by whoever reads or deletes; a late delete hits nothing that lives."""

from __future__ import annotations

import os
from dataclasses import replace as replace_fields
from pathlib import Path

from msgspec.structs import replace

from proxy.codec.decode import decode_segment
from proxy.codec.footer import footer_length, parse_footer
from proxy.codec.format import is_shard_name
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import NULL_VERSION, Layout, ObjectKey, Segment, Version
from proxy.stores.protocol import ShardName
from tests.laboratory import Laboratory, laboratory


async def test_an_object_whose_shards_were_put_anew_is_read_and_collected(tmp_path: Path) -> None:
    data = os.urandom(300_001)
    async with laboratory(tmp_path) as lab:
        version = await lab.put("key", data)
        before = await lab.shards()
        moved = await _put_anew(lab, version, generation=1)
        await _commit(lab, version, moved)

        await lab.collect()  # the first generation's shards, which the older record names

        after = await lab.shards()
        assert after == {f"{name}.1" for name in before}
        assert await lab.get("key") == data
        assert await lab.get("key", 100_000, 70_000) == data[100_000:170_000]

        await lab.services.manifest.delete_version(lab.bucket.id, ObjectKey("key"), NULL_VERSION, now_ms=lab.clock.now_ms())
        await lab.collect()
        assert await lab.shards() == set()


async def test_shards_of_any_generations_decode_together(tmp_path: Path) -> None:
    data = os.urandom(5000)
    async with laboratory(tmp_path) as lab:
        version = await lab.put("key", data)
        await _put_anew(lab, version, generation=2, indexes=(0, 3))
        shards = {name: await store.get(name) for store in lab.stores.values() async for name, _ in store.list() if is_shard_name(name)}
        assert len(shards) == 8
        cipher = lab.services.keyring.tenant_cipher(lab.tenant)
        assert decode_segment(shards, cipher.open_share).plaintext == data
        anew = {name: shard for name, shard in shards.items() if name.endswith(".2") or name[-1] in "45"}
        assert len(anew) == 4
        assert decode_segment(anew, cipher.open_share).plaintext == data


async def _put_anew(lab: Laboratory, version: Version, *, generation: int, indexes: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Layout:
    """Do as a move does: copy cells, label and share, and write another generation under another name."""
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    (segment,) = extent.layout.segments
    moved = replace(segment, generations=tuple(generation * (index in indexes) for index in range(6)))
    for index in indexes:
        await _copy(lab, segment, moved, index, generation)
    return replace(extent.layout, segments=(moved,))


async def _copy(lab: Laboratory, old: Segment, new: Segment, index: int, generation: int) -> None:
    store, name = lab.stores[old.stores[index]], old.shard_name(index)
    whole = await store.get(ShardName(name))
    footer = parse_footer(whole, name=name, size_bytes=len(whole))
    cells = whole[: len(whole) - footer_length(whole)]
    await store.put(ShardName(new.shard_name(index)), [cells, replace_fields(footer, generation=generation).pack()])


async def _commit(lab: Laboratory, version: Version, layout: Layout) -> None:
    draft = VersionDraft(
        bucket_id=lab.bucket.id,
        key=version.key,
        id=version.id,
        versioning=lab.bucket.versioning,
        size=version.size,
        etag=version.etag,
        modified_ms=version.modified_ms,
        attributes=version.attributes,
        new_layouts=(layout,),
    )
    await lab.services.manifest.commit_version(draft)
