"""The manifest is lost after packs were written anew: whatever of it the journal has, every object is there, and nothing deleted is."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.engine.repack.merging import FEWEST
from proxy.manifest.records import ObjectKey
from tests.fault.test_recover import JOURNAL, recovered
from tests.laboratory import Laboratory, laboratory
from tests.packing import bodies, data_of, delete, found, packs, put_pack, repack

OBJECTS = bodies(700, 4096, 9000, 30_000, 60_000, 61_000, 62_000, 63_000)
GONE = ("k0", "k2", "k4", "k6", "k7")
KEPT = tuple(key for key in OBJECTS if key not in GONE)


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
            assert {finding.sort for finding in report.findings} == {"superseded"}, "of each object there are two slots"
            await check(new)
            for _ in range(3):
                new.clock.advance(8 * 24 * 3600)
                await repack(new)
                await new.collect()
            await check(new)
            assert sum(pack.dead for pack in await packs(new)) == 0


async def test_when_a_new_pack_is_all_that_tells_of_its_objects(tmp_path: Path) -> None:
    """What was written behind the end of the journal, and was written anew there, comes back from the table of the new pack."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        assert lab.services.journal is not None
        await lab.services.journal.flusher.flush()
        objects = bodies(*[4000] * FEWEST)
        for key, data in objects.items():
            await put_pack(lab, {key: data})
        await repack(lab)
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
