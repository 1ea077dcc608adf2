"""A store is left, alive or dead, while clients write and read: nobody notices, no rule is broken at any step, and nothing of it stays."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.codec.format import is_shard_name
from proxy.engine.campaigns.planning import Pace, Planner
from proxy.errors import CampaignRefused
from proxy.manifest.campaigns import Campaign, CampaignId
from proxy.manifest.records import ExtentId
from tests.laboratory import Laboratory, laboratory

SIZES = (1, 500, 40_000, 300_000, 1_200_000)
STEPS = 400  # many times what any of these takes


def planner(lab: Laboratory) -> Planner:
    services = lab.services
    return Planner(
        manifest=services.manifest, fleet=services.fleet, policies=services.policies, clock=services.clock, pace=Pace(1000, 64 * 2**20)
    )


async def applied(lab: Laboratory, campaign: Campaign) -> Campaign:
    begun = await lab.services.manifest.order_campaign(campaign.id, "apply", now_ms=lab.clock.now_ms())
    await lab.worker("leaving-stores").step()
    return begun


async def found(lab: Laboratory, campaign_id: CampaignId) -> Campaign:
    campaign = await lab.services.manifest.find_campaign(campaign_id)
    assert campaign is not None
    return campaign


async def carried_out(lab: Laboratory, campaign: Campaign) -> Campaign:
    """Let the worker go on until the campaign is done. Old shards are collected in between, and time passes."""
    for _ in range(STEPS):
        progress = await lab.worker("campaigns").step()
        if (await found(lab, campaign.id)).state == "done":
            return await found(lab, campaign.id)
        if progress.idle:
            lab.clock.advance(61)
            await lab.run_collector()
    raise AssertionError(f"not done: {await found(lab, campaign.id)}")


async def contents(lab: Laboratory) -> dict[tuple[str, int], set[str]]:
    """Return which stores hold a shard, by segment and index, whatever its generation: read from the stores themselves."""
    held: dict[tuple[str, int], set[str]] = {}
    for name, store in lab.stores.items():
        async for shard, _ in store.inner.list():
            if is_shard_name(shard):
                segment, _, index = shard.partition("/")[2].partition("-")
                held.setdefault((segment, int(index.partition(".")[0], 16)), set()).add(name)
    return held


async def check_rules(lab: Laboratory) -> None:
    """No hand holds k shards of anything; and each segment of the manifest could lose any provider."""
    extents = await lab.services.manifest.walk_extents(after=ExtentId(0), limit=10_000)  # first: what is in them is stored by then
    held = await contents(lab)
    infos = {name: store.info for name, store in lab.services.stores.items()}
    hands: dict[str, Counter[str]] = {}
    for (segment, _), stores in held.items():
        for hand in {f"{unit} {getattr(infos[store], unit)}" for store in stores for unit in ("provider", "jurisdiction")}:
            hands.setdefault(segment, Counter())[hand] += 1
    assert all(max(counts.values()) <= 3 for counts in hands.values())
    down = {name for name, store in lab.stores.items() if store.down}
    for extent in extents:
        for segment in extent.layout.segments:
            good = [
                store
                for index, store in enumerate(segment.stores)
                if store not in down and store in held.get((segment.id.hex(), index), ()) and index not in segment.missing
            ]
            most = max(Counter(infos[store].provider for store in good).values())
            assert len(good) - (0 if down else most) >= extent.layout.k


class Clients:
    """Write, overwrite, read and delete, and remember what must be there."""

    def __init__(self, lab: Laboratory, seed: int) -> None:
        self.lab = lab
        self.random = random.Random(seed)
        self.written: dict[str, bytes] = {}
        self.requests = 0

    async def fill(self, count: int) -> None:
        for number in range(count):
            await self._put(f"k{number}")

    async def one(self) -> None:
        """Make one request, and check its answer."""
        self.requests += 1
        key = self.random.choice(sorted(self.written))
        match self.random.choice(["put", "new", "get", "get", "get", "delete"]):
            case "put":
                await self._put(key)
            case "new":
                await self._put(f"new-{self.requests}")
            case "get":
                assert await self.lab.get(key) == self.written[key]
            case "delete":
                del self.written[key]
                await self.lab.services.manifest.delete_latest(
                    self.lab.bucket.id, key, marker_id=f"m{self.requests}", now_ms=self.lab.clock.now_ms()  # type: ignore[arg-type]
                )  # fmt: skip

    async def check(self) -> None:
        for key, data in self.written.items():
            assert await self.lab.get(key) == data

    async def _put(self, key: str) -> None:
        data = self.random.randbytes(self.random.choice(SIZES))
        await self.lab.put_promptly(key, data)
        self.written[key] = data


@asynccontextmanager
async def traffic(clients: Clients) -> AsyncIterator[None]:
    ending = asyncio.Event()

    async def go_on() -> None:
        while not ending.is_set() or clients.requests < 20:
            await clients.one()

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on())
        yield
        ending.set()  # no request is broken off: whether it took effect would not be known


async def of_store(lab: Laboratory, store: str) -> list[str]:
    return [name async for name, _ in lab.stores[store].inner.list() if is_shard_name(name)]


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
