"""Orders are obeyed at the next step, and what was begun is gone on with by whoever comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from proxy.clock import ManualClock
from proxy.config import Config
from proxy.config.sections import StoreConfig
from proxy.engine.campaigns.worker import PAGE
from proxy.engine.placing.placement import place
from proxy.errors import CampaignRefused
from proxy.manifest.campaigns import Campaign
from proxy.manifest.records import ExtentId
from proxy.upkeep import make_mover
from tests.fault.campaigns.operating import STEPS, applied, carried_out, check_rules, contents, found, of_store, planner
from tests.laboratory import Laboratory, laboratory

DATA = b"x" * 50_000


def with_store(name: str, *, jurisdiction: str = "BR") -> object:
    def adjust(config: Config) -> Config:
        path = f"{config.data}/stores/{name}"
        store = StoreConfig(kind="directory", path=path, fsync=False, provider=f"{name}-cloud", region="r", jurisdiction=jurisdiction)
        return msgspec.structs.replace(config, stores={**config.stores, name: store})

    return adjust


async def fill(lab: Laboratory, count: int) -> None:
    for number in range(count):
        await lab.put_promptly(f"k{number}", DATA)
    await lab.settled()


async def left(lab: Laboratory, store: str) -> int:
    extents = await lab.services.manifest.walk_extents(after=ExtentId(0), limit=10_000)
    return sum(store in segment.stores for extent in extents for segment in extent.layout.segments)


async def broken_off(lab: Laboratory, after_puts: int) -> None:
    """Begin a step, and break it off when so many shards have been put."""
    puts, step = 0, asyncio.create_task(lab.worker("campaigns").step())

    def count(verb: str) -> None:
        nonlocal puts
        puts += verb == "put"
        if puts == after_puts:
            step.cancel()

    for store in lab.stores.values():
        store.before = count
    with pytest.raises(asyncio.CancelledError):
        await step
    for store in lab.stores.values():
        store.before = None


async def test_another_process_goes_on_where_a_step_was_broken_off(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await fill(lab, 40)
        campaign = await applied(lab, await planner(lab).drain("elm"))
        await broken_off(lab, 13)
        assert 0 < await left(lab, "elm") < 40
    async with laboratory(tmp_path, now_ms=1_750_000_000_000 + 3_600_000) as lab:
        assert (await found(lab, campaign.id)).state == "running"
        await carried_out(lab, campaign)
        for _ in range(3):  # draws that were broken off expire
            lab.clock.advance(100_000)
            await lab.run_collector()
        await check_rules(lab)
        assert await of_store(lab, "elm") == []
        assert len(await lab.shards()) == 40 * 6
        assert await lab.get("k39") == DATA


async def test_what_is_paused_does_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await fill(lab, 5)
        campaign = await applied(lab, await planner(lab).drain("elm"))
        order, now = lab.services.manifest.order_campaign, lab.clock.now_ms()
        await order(campaign.id, "pause", now_ms=now)
        assert (await lab.worker("campaigns").step()).idle
        assert await left(lab, "elm") == 5
        lab.stores["elm"].sent.clear()
        await lab.put("meanwhile", DATA)
        assert not lab.stores["elm"].sent
        await order(campaign.id, "resume", now_ms=now)
        await carried_out(lab, campaign)
        assert await left(lab, "elm") == 0


async def test_what_is_cancelled_stays_where_it_is_and_the_store_is_written_to_again(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await fill(lab, 20)
        campaign = await applied(lab, await planner(lab).drain("elm"))
        await broken_off(lab, 5)
        await lab.services.manifest.order_campaign(campaign.id, "cancel", now_ms=lab.clock.now_ms())
        await lab.worker("leaving-stores").step()
        remaining = await left(lab, "elm")
        assert (await lab.worker("campaigns").step()).idle
        assert await left(lab, "elm") == remaining
        for number in range(6):
            await lab.put(f"new{number}", DATA)
        assert await left(lab, "elm") > remaining
        await lab.collect()
        await check_rules(lab)


async def test_a_server_with_another_configuration_does_nothing_and_says_so(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await fill(lab, 3)
        campaign = await applied(lab, await planner(lab).drain("elm"))
    async with laboratory(tmp_path, adjust=with_store("gum")) as lab:  # type: ignore[arg-type]
        progress = await lab.worker("campaigns").step()
        assert progress.idle
        assert "store gum was added" in progress.trouble
        assert "store gum was added" in (await found(lab, campaign.id)).trouble
        assert await left(lab, "elm") == 3


async def test_a_plan_made_for_another_configuration_is_refused(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        plan = await planner(lab).drain("elm")
        await planner(lab).check(plan)
    async with laboratory(tmp_path, adjust=with_store("gum")) as lab:  # type: ignore[arg-type]
        with pytest.raises(CampaignRefused, match="store gum was added"):
            await planner(lab).check(plan)


async def test_a_store_is_replaced_index_by_index(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await fill(lab, 30)
    async with laboratory(tmp_path, adjust=with_store("gum")) as lab:  # type: ignore[arg-type]
        before = {
            extent.id: extent.layout.segments[0].stores for extent in await lab.services.manifest.walk_extents(after=ExtentId(0), limit=99)
        }
        done = await carried_out(lab, await applied(lab, await planner(lab).replace("elm", "gum")))
        assert (done.actual.copied, done.estimate.copied) == (30, 30)
        for extent in await lab.services.manifest.walk_extents(after=ExtentId(0), limit=99):
            expected = tuple("gum" if store == "elm" else store for store in before[extent.id])
            assert extent.layout.segments[0].stores == expected
        await check_rules(lab)


async def test_after_a_store_is_added_everything_is_spread_as_new_writes_are(tmp_path: Path) -> None:
    def five(config: Config) -> Config:
        return msgspec.structs.replace(config, stores={name: store for name, store in config.stores.items() if name != "fir"})

    async with laboratory(tmp_path, adjust=five) as lab:
        await fill(lab, 30)
    async with laboratory(tmp_path) as lab:
        plan = await planner(lab).rebalance()
        assert (plan.estimate.segments, plan.estimate.copied) == (30, 30)  # one shard of each was doubled up
        campaign = await applied(lab, plan)
        for _ in range(STEPS):
            await lab.worker("campaigns").step()
            await check_rules(lab)
            if (await found(lab, campaign.id)).rounds:
                break
        done = await carried_out(lab, campaign)
        assert done.actual.copied == 30
        policy, names = lab.services.policies["standard"], list(lab.stores)
        for extent in await lab.services.manifest.walk_extents(after=ExtentId(0), limit=99):
            segment = extent.layout.segments[0]
            assert Counter(segment.stores) == Counter(place(policy, policy.scheme, segment.id, names))
        again = await planner(lab).rebalance()
        assert again.estimate.segments == 0


async def test_a_long_walk_takes_many_steps_and_meets_all(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        for number in range(PAGE + 20):
            await lab.put_promptly(f"k{number}", b"s")
        await lab.settled()
        campaign = await applied(lab, await planner(lab).drain("elm"))
        await lab.worker("campaigns").step()
        first: Campaign = await found(lab, campaign.id)
        assert 0 < first.actual.segments <= PAGE
        assert first.position.extent_id > 0
        done = await carried_out(lab, campaign)
        assert done.actual.segments == PAGE + 20


async def test_a_hand_that_would_hold_too_many_waits_for_the_deletion_of_an_old_shard(tmp_path: Path) -> None:
    """The EU has three stores here, so three shards of each segment, and one leaves. Its old shard counts until it is gone."""
    async with laboratory(tmp_path, adjust=with_store("gum", jurisdiction="EU"), collect_after_seconds=3600.0) as lab:  # type: ignore[arg-type]
        await fill(lab, 12)
        for gone in ("cedar", "gum"):
            campaign = await applied(lab, await planner(lab).drain(gone))
            for _ in range(4):
                await lab.worker("campaigns").step()
                await check_rules(lab)
            for _ in range(STEPS):
                if (await found(lab, campaign.id)).state == "done":
                    break
                lab.clock.advance(1000)
                await lab.run_collector()
                await lab.worker("campaigns").step()
                await check_rules(lab)
            assert await left(lab, gone) == 0
        assert {store for stores in (await contents(lab)).values() for store in stores} - {"cedar", "gum"}


async def test_a_large_object_takes_several_steps_one_after_the_other(tmp_path: Path) -> None:
    def small_segments(config: Config) -> Config:
        return msgspec.structs.replace(config, policies={"standard": msgspec.structs.replace(config.policies["standard"], segment_mib=1)})

    async with laboratory(tmp_path, adjust=small_segments) as lab:
        await lab.put("k", b"x" * (6 * 2**20))
        campaign = await applied(lab, await planner(lab).drain("elm"))
        for store in lab.stores.values():
            store.before = lambda asked: lab.clock.advance(3) if asked == "put" else None
        progress = await lab.worker("campaigns").step()
        assert 0 < (await found(lab, campaign.id)).actual.copied < 6
        assert not progress.idle
        while not (await lab.worker("campaigns").step()).idle:
            pass
        assert (await found(lab, campaign.id)).actual.copied == 6
        assert await left(lab, "elm") == 0


async def test_an_object_of_which_nothing_can_move_does_not_hold_up_the_others(tmp_path: Path) -> None:
    def small_segments(config: Config) -> Config:
        return msgspec.structs.replace(config, policies={"standard": msgspec.structs.replace(config.policies["standard"], segment_mib=1)})

    async with laboratory(tmp_path, adjust=small_segments) as lab:
        await lab.put("large", b"x" * (6 * 2**20))
        await lab.put("small", b"x")
        campaign = await applied(lab, await planner(lab).drain("elm"))
        for store in lab.stores.values():
            store.full = True
            store.before = lambda asked: lab.clock.advance(3) if asked == "put" else None
        while not (await lab.worker("campaigns").step()).idle:
            pass
        stuck = await found(lab, campaign.id)
        assert (stuck.actual.segments, stuck.rounds) == (0, 1)
        assert "full on purpose" in stuck.trouble
        for store in lab.stores.values():
            store.full, store.before = False, None
        lab.clock.advance(600)
        await carried_out(lab, campaign)
        assert await left(lab, "elm") == 0


async def test_a_store_that_takes_nothing_does_not_leave_a_provider_with_too_much(tmp_path: Path) -> None:
    def one_provider_more(config: Config) -> Config:
        birch = msgspec.structs.replace(config.stores["birch"], provider=config.stores["alder"].provider)
        return msgspec.structs.replace(config, stores={**config.stores, "birch": birch})

    async with laboratory(tmp_path, adjust=one_provider_more) as lab:
        await lab.put("k", b"x" * 300_000)
        (extent,) = await lab.services.manifest.walk_extents(after=ExtentId(0), limit=1)
        segment = extent.layout.segments[0]
        mover = make_mover(lab.services.parts, lab.services.parts.throttle)
        crowd = {segment.stores.index("birch"): "alder", segment.stores.index("fir"): "cedar"}
        await mover.copy(extent, segment, crowd)
        await lab.run_collector()
        lab.clock.advance(600)
        lab.stores["fir"].full = True
        await applied(lab, await planner(lab).rebalance())
        for _ in range(5):
            await lab.worker("campaigns").step()
            await check_rules(lab)


async def test_a_walk_that_takes_long_to_come_to_what_must_move_moves_it_all_the_same(tmp_path: Path) -> None:
    def small_segments(config: Config) -> Config:
        return msgspec.structs.replace(config, policies={"standard": msgspec.structs.replace(config.policies["standard"], segment_mib=1)})

    async with laboratory(tmp_path, adjust=small_segments) as lab:
        await lab.put("k", b"x" * (12 * 2**20))
        campaign = await applied(lab, await planner(lab).drain("elm"))
        worker = lab.worker("campaigns")
        worker._clock = Ticking(lab.clock.now_ms())  # type: ignore[attr-defined]  # each look takes a second, each step five
        for _ in range(30):
            await worker.step()
        assert (await found(lab, campaign.id)).actual.copied == 12


class Ticking(ManualClock):
    """A clock of which a second passes at each look."""

    def monotonic(self) -> float:
        self.advance(1)
        return super().monotonic()
