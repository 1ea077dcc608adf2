"""Everything that looks after segments looks after packs: what is lost, forged, misplaced or deleted of one is dealt with as of any."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.cli.objects import _shards
from proxy.codec.format import END
from proxy.config import Config
from proxy.engine.repair.audit import PLACEMENT
from proxy.engine.scrub.inspector import Shard
from proxy.engine.scrub.workers import DEEP, LIGHT
from proxy.engine.walking.tally import load_tally
from proxy.manifest.records import Bucket, BucketName, ObjectKey, Version, VersionId
from tests.fault.campaigns.test_policy import SAME
from tests.fault.machine.audit import audit
from tests.fault.test_fsck import fsck
from tests.fault.test_repair import repair
from tests.laboratory import Laboratory, laboratory
from tests.packing import bodies, data_of, delete, extents, found, packs, put_pack
from tests.scrubbing import damage, flip, read, scrub, shards_of

OBJECTS = bodies(1, 700, 4096, 4096, 100_000, 90_000, 80_000, 65_520)  # columns of more than one cell
PARTS = [pytest.param(1, id="data"), pytest.param(5, id="parity")]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000, background_mib_per_second=100_000) as running:
        await put_pack(running, OBJECTS)
        yield running


async def check_contents(lab: Laboratory) -> None:
    assert [await data_of(lab, await found(lab, key)) for key in OBJECTS] == list(OBJECTS.values())


def without_generation(shard: bytes) -> bytes:
    _, label_size = END.unpack(shard[-END.size :])
    return shard[: -END.size] + label_size.to_bytes(4, "big")


@pytest.mark.parametrize("index", PARTS)
async def test_a_lost_column_is_found_by_the_light_scrub_and_rebuilt_byte_for_byte(lab: Laboratory, index: int) -> None:
    shard = (await shards_of(lab))[index]
    before = await read(lab, shard)
    await lab.stores[shard.store].inner.delete(shard.name)
    assert (await scrub(lab, LIGHT)).found == {"missing": 1}
    await repair(lab)
    after = (await shards_of(lab))[index]
    assert without_generation(await read(lab, after)) == without_generation(before)
    assert await damage(lab) == {}
    others = [other for other in await shards_of(lab) if other.index not in {index, *range(6)[-3:]}]
    for other in others[:2]:
        lab.stores[other.store].down = True
    await check_contents(lab)


@pytest.mark.parametrize("index", PARTS)
@pytest.mark.parametrize("at", [10, 70_000])
async def test_a_forged_column_is_pinned_to_its_store_by_the_deep_scrub(lab: Laboratory, index: int, at: int) -> None:
    shard = (await shards_of(lab))[index]
    await flip(lab, shard, at)
    assert (await scrub(lab, DEEP)).found == {"forged": 1}
    assert await damage(lab) == {(shard.store, shard.name): "forged"}
    await repair(lab)
    lab.clock.advance(31 * 24 * 3600)
    assert (await scrub(lab, DEEP)).found == {}
    await check_contents(lab)


async def test_a_label_of_another_pack_is_found(lab: Laboratory) -> None:
    await put_pack(lab, bodies(*[5000] * 8, prefix="other"))
    shards = await shards_of(lab)
    content = bytearray(await read(lab, shards[2]))
    content[-shards[2].segment.footer_size + 9] ^= 1
    await lab.stores[shards[2].store].inner.delete(shards[2].name)
    await lab.stores[shards[2].store].inner.put(shards[2].name, [bytes(content)])
    assert (await scrub(lab, DEEP)).found == {"forged": 1}
    assert await damage(lab) == {(shards[2].store, shards[2].name): "forged"}


async def test_fsck_knows_every_shard_of_a_pack_and_what_is_nobody_s(lab: Laboratory) -> None:
    checked = await fsck(lab)
    assert (checked.orphans, checked.found) == (set(), set())
    shard = (await shards_of(lab))[3]
    await lab.stores[shard.store].inner.delete(shard.name)
    assert (await fsck(lab)).found == {("missing", shard.store, shard.name)}


async def test_a_pack_is_collected_with_the_last_use_of_its_last_slot(lab: Laboratory) -> None:
    await lab.services.engine.copy_object(
        await found(lab, "k4"), lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), (await found(lab, "k4")).attributes
    )
    await delete(lab, *OBJECTS)
    await lab.collect()
    assert len(await lab.shards()) == 6, "the copy uses it"
    assert await data_of(lab, await found(lab, "copy")) == OBJECTS["k4"]
    await delete(lab, "copy")
    await lab.collect()
    assert await lab.shards() == set()
    assert await packs(lab) == []


async def test_the_tally_counts_what_is_alive_and_no_padding(lab: Laboratory) -> None:
    await lab.put("large", b"l" * 300_000)
    await delete(lab, "k4")
    await walk(lab)
    tally = await load_tally(lab.services.manifest)
    assert tally is not None
    alive = sum(len(data) for key, data in OBJECTS.items() if key != "k4")
    assert (tally.packs, tally.packed_bytes, tally.dead_bytes) == (1, alive, len(OBJECTS["k4"]))
    assert tally.plaintext_bytes == alive + 300_000
    assert (tally.segments, tally.shards, tally.by_redundancy) == (2, 12, {2: 2})
    held = [len(await read(lab, shard)) for shard in await shards_of(lab)]
    assert sum(tally.by_store.values()) == sum(held)


async def test_a_pack_that_lies_where_its_policy_has_no_stores_any_more_is_moved_by_repair(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await put_pack(lab, OBJECTS)

    def narrowed(config: Config) -> Config:
        return replace(config, policies={"standard": replace(SAME, scheme="4+2")})

    async with laboratory(tmp_path, adjust=narrowed, background_requests_per_second=1_000_000) as lab:
        await walk(lab)
        assert set((await damage(lab)).values()) == {"misplaced"}
        await repair(lab)
        (extent,) = await extents(lab)
        assert "alder" not in extent.layout.segments[0].stores
        assert (await lab.services.manifest.load_state(PLACEMENT)) is not None
        await check_contents(lab)


async def test_the_command_that_explains_an_object_names_its_slot(lab: Laboratory) -> None:
    rows = await _shards(lab.services, "bucket", "k5", None)
    (row,) = [row for row in rows if row["slot"]]
    first, last = (int(number) for number in str(row["slot"]).removeprefix("bytes ").split("-"))
    shard = Shard(*(await _only(lab)), index=int(str(row["shard"])))
    sealed = (await read(lab, shard))[first : last + 1]
    assert len(rows) == 6
    assert len(OBJECTS["k5"]) + 16 <= len(sealed) <= len(OBJECTS["k5"]) + 16 + 2 * 16, "the object, its tag, and those of cells between"
    await lab.put("large", os.urandom(300_000))
    assert {row["slot"] for row in await _shards(lab.services, "bucket", "large", None)} == {""}


@pytest.mark.parametrize("policy", ["standard", "other"])
async def test_a_version_in_a_pack_is_replicated(tmp_path: Path, policy: str) -> None:
    def two(config: Config) -> Config:
        other = replace(config.policies["standard"], scheme="3+3", storage_classes={})
        return replace(config, policies={**config.policies, "other": other})

    async with laboratory(tmp_path, adjust=two) as lab:
        (version, *_) = await put_pack(lab, OBJECTS)
        bucket = Bucket(name=BucketName("copy"), tenant_id=lab.tenant.id, policy=policy, created_ms=0)
        bucket = await lab.services.engine.create_bucket(bucket)
        copy = await lab.services.engine.replicate(version, lab.bucket, bucket, lab.tenant, "")
        assert (copy.etag, copy.size) == (version.etag, version.size)
        assert (copy.extents == version.extents) is (policy == "standard"), "inside a policy it shares the slot"
        await delete(lab, "k0")
        assert await data_of(lab, copy) == OBJECTS["k0"]


async def test_the_books_are_right_after_all_of_it(lab: Laboratory, tmp_path: Path) -> None:
    await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
    lab.bucket = replace(lab.bucket, versioning="Enabled")
    versions = await put_pack(lab, OBJECTS)
    await _delete_version(lab, versions[3])
    await delete(lab, "k1")
    lab.clock.advance(7 * 24 * 3600)
    while not (await lab.worker("repack").step()).idle:
        pass
    await lab.collect()
    held = {name: {str(shard) async for shard, _ in store.list()} for name, store in lab.stores.items()}
    books = audit(tmp_path / "manifest.sqlite", held)
    assert (books.orphans, books.missing, books.miscounted) == (set(), set(), [])
    assert sum(pack.live for pack in await packs(lab)) == 2 * sum(map(len, OBJECTS.values())) - len(OBJECTS["k3"])


async def walk(lab: Laboratory) -> None:
    """Let the audit make a pass."""
    while not (await lab.worker("audit").step()).idle:
        pass


async def _only(lab: Laboratory):  # type: ignore[no-untyped-def]  # a pair of records
    (extent,) = await extents(lab)
    return extent, extent.layout.segments[0]


async def _delete_version(lab: Laboratory, version: Version) -> None:
    assert isinstance(version.id, str)
    await lab.services.engine.delete_version(lab.bucket, version.key, VersionId(version.id))
