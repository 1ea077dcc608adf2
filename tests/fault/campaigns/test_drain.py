"""A store is left, alive or dead, while clients write and read: nobody notices, no rule is broken at any step, and nothing of it stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.format import parse_copy_name
from proxy.config.sections import JournalConfig
from proxy.errors import CampaignRefused
from proxy.manifest.records import ExtentId
from tests.fault.campaigns.operating import (
    STEPS,
    Clients,
    applied,
    carried_out,
    check_rules,
    checkpointed,
    contents,
    found,
    of_store,
    planner,
    traffic,
)
from tests.laboratory import Laboratory, laboratory, stored


async def test_a_live_store_is_left_under_traffic_by_copies_of_its_own_shards(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
        clients = Clients(lab, 1)
        await clients.fill(200)
        await lab.settled()
        plan = await planner(lab).drain("elm")
        assert plan.if_dead is not None
        assert (plan.estimate.segments, plan.estimate.copied, plan.estimate.rebuilt, plan.estimate.waiting) == (200, 200, 0, 0)
        assert (plan.if_dead.copied, plan.if_dead.rebuilt) == (0, 200)
        assert {bill.store for bill in plan.estimate.bills if bill.gets} == {"elm"}
        before = lab.stores["elm"].calls.copy()
        campaign = await applied(lab, plan)
        async with traffic(clients):
            for _ in range(STEPS):
                await lab.worker("campaigns").step()
                await check_rules(lab)
                if (await found(lab, campaign.id)).rounds:
                    break
        moved = (await found(lab, campaign.id)).actual
        assert moved.copied >= 200
        assert moved.rebuilt == 0
        assert lab.stores["elm"].calls["put"] == before["put"]
        done = await carried_out(lab, campaign)
        await check_rules(lab)
        await clients.check()
        assert done.trouble == ""
        await lab.collect()
        assert await of_store(lab, "elm") == []
        assert "elm" not in {store for stores in (await contents(lab)).values() for store in stores}


async def test_a_dead_store_is_left_under_traffic_by_rebuilding_from_the_others(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        clients = Clients(lab, 2)
        await clients.fill(60)
        await lab.settled()
        lab.stores["cedar"].down = True
        campaign = await applied(lab, await planner(lab).drain("cedar"))
        async with traffic(clients):
            for _ in range(STEPS):
                await lab.worker("campaigns").step()
                await check_rules(lab)
                if (await found(lab, campaign.id)).rounds:
                    break
        await lab.settled()
        done = await carried_out(lab, campaign)
        assert done.actual.rebuilt >= 50
        assert done.actual.copied == 0
        await clients.check()
        await lab.collect()
        assert not any(
            "cedar" in segment.stores
            for extent in await lab.services.manifest.walk_extents(after=ExtentId(0), limit=999)
            for segment in extent.layout.segments
        )
        lab.stores["cedar"].down = False
        for _ in range(3):  # what the dead store did not delete is put off, and it is asked once before it is trusted again
            lab.clock.advance(3600)
            await lab.collect()
        assert await of_store(lab, "cedar") == []


async def test_a_store_that_dies_in_the_middle_is_left_all_the_same(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        clients = Clients(lab, 3)
        await clients.fill(20)
        await lab.settled()
        campaign = await applied(lab, await planner(lab).drain("fir"))
        gets = 0

        def die(verb: str) -> None:
            nonlocal gets
            gets += verb == "get_range"
            lab.stores["fir"].down = lab.stores["fir"].down or gets > 5

        lab.stores["fir"].before = die
        done = await carried_out(lab, campaign)
        assert done.actual.copied > 0
        assert done.actual.rebuilt > 0
        assert done.actual.copied + done.actual.rebuilt == 20
        await clients.check()


async def test_a_shard_that_was_forged_is_rebuilt_and_not_copied(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x" * 300_000)
        campaign = await applied(lab, await planner(lab).drain("birch"))
        lab.stores["birch"].flips_bits = True
        done = await carried_out(lab, campaign)
        assert (done.actual.copied, done.actual.rebuilt) == (0, 1)
        (extent,) = await lab.services.manifest.walk_extents(after=ExtentId(0), limit=9)
        single = [store for store, count in Counter(extent.layout.segments[0].stores).items() if count == 1]
        for name in single[:2]:  # four are left, and the one that was rebuilt is among them
            lab.stores[name].down = True
        assert await lab.get("k") == b"x" * 300_000


async def test_what_a_write_that_had_begun_brings_after_the_end_is_moved_as_well(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("early", b"e" * 1000)
        campaign = await carried_out(lab, await applied(lab, await planner(lab).drain("elm")))
        lab.services.fleet.leave(frozenset())  # as a process that has not heard of it
        await lab.put("late", b"l" * 1000)
        await lab.worker("leaving-stores").step()
        await lab.worker("campaigns").step()
        assert (await found(lab, campaign.id)).state == "running"
        await carried_out(lab, campaign)
        await lab.collect()
        assert await of_store(lab, "elm") == []


async def test_a_policy_that_cannot_do_without_a_store_is_told_at_the_plan(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await carried_out(lab, await applied(lab, await planner(lab).drain("elm")))
        with pytest.raises(CampaignRefused, match=r'nothing is planned: without elm and fir, policy "standard".*'):
            await planner(lab).drain("fir")
        assert len(await lab.services.manifest.list_campaigns()) == 1


async def test_the_journal_leaves_the_store_with_the_next_checkpoint(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=JournalConfig(interval_ms=3_600_000, keep_seconds=60.0)) as lab:
        await lab.put("k", b"x" * 1000)
        await lab.worker("journal").step()
        assert await of_journal(lab, "elm")
        await carried_out(lab, await applied(lab, await planner(lab).drain("elm")))
        for _ in range(2):  # what the checkpoint replaces is kept for a minute
            await checkpointed(lab)
            lab.clock.advance(61)
        assert await of_journal(lab, "elm") == []
        assert await of_journal(lab, "fir")


async def of_journal(lab: Laboratory, store: str) -> list[str]:
    return [name async for name, _ in lab.stores[store].inner.list() if parse_copy_name(name) is not None]


async def test_a_segment_with_strays_is_not_moved_before_they_are_gone(tmp_path: Path) -> None:
    """Nobody knows where they are: with one shard more, a hand could have enough to read the segment."""
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"k" * 100)
        extent, segment = await stored(lab)
        with_strays = replace(extent, layout=replace(extent.layout, segments=(replace(segment, strays=True),)))
        await lab.services.manifest.correct_extents([with_strays], now_ms=lab.clock.now_ms())
        campaign = await applied(lab, await planner(lab).drain(segment.stores[0]))
        await lab.worker("campaigns").step()
        assert (await stored(lab))[1].stores == segment.stores
        assert "shards of it lie where no record has them" in (await found(lab, campaign.id)).trouble
        await lab.services.manifest.settle_strays(extent.id, segment.id)
        await carried_out(lab, campaign)
        assert segment.stores[0] not in (await stored(lab))[1].stores
