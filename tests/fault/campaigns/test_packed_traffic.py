"""Packs under traffic: clients write, overwrite, copy, read and delete at once, while packs are written anew, a store is left and a bucket
gets another policy. Nobody notices, and in the end the books are right."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from msgspec.structs import replace

from proxy.config import Config
from proxy.errors import ExtentMissing
from proxy.manifest.campaigns import Campaign
from proxy.manifest.packs import Pack
from proxy.manifest.records import ObjectKey, VersionId
from tests.fault.campaigns.operating import applied, carried_out, check_rules, of_store, planner
from tests.fault.campaigns.operating import found as campaign_of
from tests.fault.campaigns.test_policy import two_policies, versions
from tests.fault.machine.audit import audit
from tests.laboratory import Laboratory, laboratory
from tests.packing import extents, packs, put_pack

CLIENTS = 6
REQUESTS = 40  # of each client, at least; then one beside each step of the background, so that no machine lets them run away from it
SMALL = (1, 300, 4096, 12_000)
LARGE = 300_000
LARGE_SHARE = 0.1  # of what is put
DAY = 24 * 3600


class Client:
    """One of several that make requests at once, with keys of its own; it remembers what must be there."""

    def __init__(self, lab: Laboratory, number: int) -> None:
        self.lab = lab
        self.random = random.Random(number)
        self.written: dict[str, bytes] = {}
        self._prefix = f"c{number}-"
        self._made = 0

    async def request(self) -> None:
        """Make one request, and check its answer."""
        self._made += 1
        key = f"{self._prefix}{self.random.randrange(12)}"
        match self.random.choice(["put", "put", "put", "get", "get", "copy", "delete"]):
            case "put" if self.random.random() < LARGE_SHARE:
                self.written[key] = data = self.random.randbytes(LARGE)
                await self.lab.put_promptly(key, data)
            case "put":
                count = self.random.randrange(1, 6)
                keys = {f"{self._prefix}{self.random.randrange(12)}": self.random.choice(SMALL) for _ in range(count)}
                objects = {key: self.random.randbytes(size) for key, size in keys.items()}
                await put_pack(self.lab, objects, settle=False)
                self.written |= objects
            case "get" if key in self.written:
                assert await self.read(key) == self.written[key]
            case "copy" if key in self.written:
                copy = f"{self._prefix}copy-{self.random.randrange(6)}"
                await self._copy(key, copy)
                self.written[copy] = self.written[key]
            case "delete":
                self.written.pop(key, None)
                marker, now_ms = VersionId(f"m{self._made}"), self.lab.clock.now_ms()
                await self.lab.services.manifest.delete_latest(self.lab.bucket.id, ObjectKey(key), marker_id=marker, now_ms=now_ms)

    async def read(self, key: str) -> bytes:
        """Read as a server does: what was moved between two looks is looked for again."""
        while True:
            try:
                return await self.lab.get(key)
            except ExtentMissing:
                continue

    async def check(self) -> None:
        for key, data in self.written.items():
            assert await self.read(key) == data

    async def _copy(self, key: str, copy: str) -> None:
        engine, bucket = self.lab.services.engine, self.lab.bucket
        while True:
            source = await engine.find_version(bucket, ObjectKey(key))
            assert source is not None
            try:
                await engine.copy_object(source, bucket, self.lab.tenant, bucket, self.lab.tenant, ObjectKey(copy), source.attributes)
            except ExtentMissing:
                continue
            return


def at_once(config: Config) -> Config:
    """What was deleted is due at once."""
    return replace(config, packs=replace(config.packs, repack_within_days=0.000_001))


def wide_too(config: Config) -> Config:
    return at_once(two_policies(config))


async def traffic(lab: Laboratory, clients: list[Client], campaign: Campaign | None = None) -> int:
    """Let clients make requests, and background work go on beside them, until a round of the campaign is over, or, without one, until as
    many packs were written anew as a client makes requests. Return how many were."""
    turns = [asyncio.Semaphore(REQUESTS) for _ in clients]
    ended, rewritten = asyncio.Event(), 0

    async def requests(client: Client, turn: asyncio.Semaphore) -> None:
        made = 0
        while made < REQUESTS or not ended.is_set():
            await turn.acquire()
            await client.request()
            made += 1

    def let_clients_go_on() -> None:
        for turn in turns:
            turn.release()

    async def background() -> None:
        nonlocal rewritten
        while rewritten <= REQUESTS if campaign is None else not (await campaign_of(lab, campaign.id)).rounds:
            lab.clock.advance(1)
            rewritten += (await lab.worker("repack").step()).done
            if campaign is not None:
                await lab.worker("campaigns").step()
                await check_rules(lab)
            let_clients_go_on()

    async with asyncio.TaskGroup() as group:
        for client, turn in zip(clients, turns, strict=True):
            group.create_task(requests(client, turn))
        await background()
        ended.set()
        let_clients_go_on()
    await lab.settled()
    return rewritten


async def settle(lab: Laboratory) -> list[Pack]:
    """Let all that is due be done, and check the books."""
    for _ in range(4):
        lab.clock.advance(8 * DAY)
        while not (await lab.worker("repack").step()).idle:
            pass
        await lab.collect()
    held = {name: {str(shard) async for shard, _ in store.list()} for name, store in lab.stores.items()}
    books = audit(Path(lab.services.config.manifest.path), held)
    assert (books.orphans, books.missing, books.miscounted) == (set(), set(), [])
    found = await packs(lab)
    assert {pack.dead for pack in found} <= {0}
    used = {version.extents[0] for version in await versions(lab) if version.extents and version.extents[0].offset is not None}
    assert sum(pack.live for pack in found) == sum(ref.size for ref in used)
    assert sum(pack.slots for pack in found) == len(used)
    return found


async def test_packs_are_written_anew_and_nobody_notices(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=at_once, background_requests_per_second=1_000_000) as lab:
        clients = [Client(lab, number) for number in range(CLIENTS)]
        assert await traffic(lab, clients) > REQUESTS
        for client in clients:
            await client.check()
        assert await settle(lab)
        for client in clients:
            await client.check()


async def test_a_store_is_left_meanwhile(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=at_once, background_requests_per_second=1_000_000) as lab:
        clients = [Client(lab, number) for number in range(CLIENTS)]
        await traffic(lab, clients)
        campaign = await applied(lab, await planner(lab).drain("elm"))
        await traffic(lab, clients, campaign)
        await carried_out(lab, campaign)
        for client in clients:
            await client.check()
        await settle(lab)
        assert await of_store(lab, "elm") == []


async def test_a_bucket_gets_another_policy_meanwhile(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=wide_too, background_requests_per_second=1_000_000) as lab:
        clients = [Client(lab, number) for number in range(CLIENTS)]
        await traffic(lab, clients)
        campaign = await applied(lab, await planner(lab).move_policy("bucket", "wide"))
        lab.bucket = replace(lab.bucket, policy="wide")  # as each request finds it from now on
        await traffic(lab, clients, campaign)
        await carried_out(lab, campaign)
        for client in clients:
            await client.check()
        await settle(lab)
        assert {(extent.layout.policy, extent.layout.k) for extent in await extents(lab)} == {("wide", 6)}
        for client in clients:
            await client.check()
