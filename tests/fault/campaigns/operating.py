"""What tests of campaigns share: an operator, clients that remember, and the rules read from the stores themselves."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.codec.format import is_shard_name
from proxy.engine.campaigns.planning import Pace, Planner
from proxy.manifest.campaigns import JOB, Campaign, CampaignId
from proxy.manifest.records import ExtentId
from tests.laboratory import Laboratory

SIZES = (1, 500, 40_000, 300_000, 1_200_000)
STEPS = 400  # many times what any of these takes


def planner(lab: Laboratory) -> Planner:
    services = lab.services
    return Planner(
        manifest=services.manifest, fleet=services.fleet, policies=services.policies, clock=services.clock, pace=Pace(1000, 64 * 2**20)
    )


async def applied(lab: Laboratory, campaign: Campaign) -> Campaign:
    """Apply a plan. Only the test takes steps: on a busy machine, the runner's turn would come as well."""
    await lab.services.manifest.pause_job(JOB, True)
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
            await checkpointed(lab)
    raise AssertionError(f"not done: {await found(lab, campaign.id)}")


async def checkpointed(lab: Laboratory) -> None:
    """Let the checkpoint's worker go on until it has nothing to do, if a journal is kept."""
    if lab.services.journal is not None:
        while not (await lab.worker("checkpoint").step()).idle:
            pass


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
    needed = {segment.id.hex(): extent.layout.k for extent in extents for segment in extent.layout.segments}
    most_needed = max(policy.scheme.k for policy in lab.services.policies.values())
    assert all(max(counts.values()) < needed.get(segment, most_needed) for segment, counts in hands.items())
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
