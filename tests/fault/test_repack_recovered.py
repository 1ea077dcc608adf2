"""The manifest is lost after packs were written anew: whatever of it the journal has, every object is there, and nothing deleted is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.engine.campaigns.rewriting import _ExtentDestination
from proxy.engine.campaigns.worker import CampaignWorker
from proxy.engine.repack.merging import FEWEST
from proxy.engine.repack.rewriting import SlotRewriter
from proxy.manifest.campaigns import ExtentUser
from proxy.manifest.records import ObjectKey
from proxy.stores.protocol import ShardName
from tests.fault.test_recover import ALL, JOURNAL, recovered
from tests.laboratory import Laboratory, laboratory
from tests.packing import bodies, data_of, delete, found, packs, put_pack, repack

OBJECTS = bodies(700, 4096, 9000, 30_000, 60_000, 61_000, 62_000, 63_000)
GONE = ("k0", "k2", "k4", "k6", "k7")
KEPT = tuple(key for key in OBJECTS if key not in GONE)


async def journal_of(lab: Laboratory) -> set[tuple[str, str]]:
    """Return the names of the journal's shards, by store."""
    return {(name, shard) for name, store in lab.stores.items() async for shard, _ in store.inner.list() if shard.startswith("j/")}


async def check(lab: Laboratory) -> None:
    assert [await data_of(lab, await found(lab, key)) for key in KEPT] == [OBJECTS[key] for key in KEPT]
    assert [await lab.services.manifest.find_version(lab.bucket.id, ObjectKey(key)) for key in GONE] == [None] * len(GONE)


@pytest.mark.parametrize("collected", [False, True])
async def test_when_the_journal_has_all_of_it(tmp_path: Path, collected: bool) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await put_pack(lab, OBJECTS)
        await delete(lab, *GONE)
        await repack(lab)
        assert lab.services.journal is not None
        await lab.services.journal.flusher.flush()
        if collected:
            await lab.collect()
        async with recovered(tmp_path / "old") as (new, report):
            assert report.findings == ()
            await check(new)
            assert await packs(new) == await packs(lab)
            await new.collect()
            await check(new)


async def test_when_the_journal_has_not_heard_of_it_yet(tmp_path: Path) -> None:
    """Both packs are there then: the old one is not deleted before the journal has the exchange."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await put_pack(lab, OBJECTS)
        await delete(lab, *GONE)
        assert lab.services.journal is not None
        await lab.services.journal.flusher.flush()
        lab.clock.advance(1)
        await repack(lab)
        for _ in range(3):
            lab.clock.advance(7200)
            await lab.run_collector_alone()
        async with recovered(tmp_path / "old") as (new, report):
            assert report.findings == (), "the new pack is not asked: the journal knows the old one"
            await check(new)
            for _ in range(3):
                new.clock.advance(8 * 24 * 3600)
                await repack(new)
                await new.collect()
            await check(new)
            assert sum(pack.dead for pack in await packs(new)) == 0


async def test_when_a_new_pack_is_all_that_tells_of_its_objects(tmp_path: Path) -> None:
    """The end of the journal is lost: what was written, and written anew, behind what is left comes back from the table of the new pack."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        assert lab.services.journal is not None
        await lab.services.journal.flusher.flush()
        left = await journal_of(lab)
        objects = bodies(*[4000] * FEWEST)
        for key, data in objects.items():
            await put_pack(lab, {key: data})
        await lab.services.journal.flusher.flush()
        await repack(lab)
        for name, shard in await journal_of(lab) - left:
            await lab.stores[name].inner.delete(ShardName(shard))
        (pack,) = await packs(lab)
        (extent,) = await lab.services.manifest.load_extents([pack.extent_id])
        kept = {(store, extent.layout.segments[0].shard_name(index)) for index, store in enumerate(extent.layout.segments[0].stores)}
        for name, store in lab.stores.items():  # as if the old ones were lost with the disk
            for shard in [shard async for shard, _ in store.inner.list()]:
                if (name, shard) not in kept and shard[2] == "/" and not shard.startswith(("j/", "c/", "r/")):
                    await store.inner.delete(shard)
        async with recovered(tmp_path / "old") as (new, report):
            assert report.versions_from_labels == FEWEST
            assert {key: await data_of(new, await found(new, key)) for key in objects} == objects


async def test_what_was_deleted_while_it_was_stored_anew_does_not_come_back_from_a_pack_that_was_not_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory(tmp_path / "old", journal=ALL) as lab:
        await put_pack(lab, OBJECTS)
        await delete(lab, *GONE[1:])

        async def die(_rewriter: SlotRewriter, _writing: object, _stored: object, placed: Sequence[object], _done: object) -> None:
            if len(placed) > 1:  # not the one that is stored alone
                await delete(lab, GONE[0])  # which the journal has, or it would not return
                raise RuntimeError("the process dies")

        monkeypatch.setattr(SlotRewriter, "_exchange", die)
        with pytest.raises(RuntimeError, match="dies"):
            await repack(lab)
        async with recovered(tmp_path / "old") as (new, report):
            await check(new)
            assert report.findings == ()


async def test_nor_from_an_extent_that_was_stored_under_another_policy_and_not_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory(tmp_path / "old", journal=ALL) as lab:
        version = await lab.put("k0", b"k" * 300_000)
        (extent,) = await lab.services.manifest.load_extents([version.extents[0].id])

        async def die(*_: object) -> None:
            await delete(lab, "k0")
            raise RuntimeError("the process dies")

        monkeypatch.setattr(_ExtentDestination, "commit", die)
        worker, policy = lab.worker("campaigns"), lab.services.policies["standard"]
        assert isinstance(worker, CampaignWorker)
        user = ExtentUser(bucket_id=lab.bucket.id, key=version.key, version_id=version.id, sequence=version.sequence)
        with pytest.raises(RuntimeError, match="dies"):
            await worker._rewriter.rewrite(lab.bucket, user, extent, policy, policy.scheme_of("STANDARD"))
        async with recovered(tmp_path / "old") as (new, report):
            assert report.versions_from_labels == 0
            assert await new.services.manifest.find_version(new.bucket.id, ObjectKey("k0")) is None
