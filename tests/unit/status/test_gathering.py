"""Facts are gathered whoever is down or hangs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from bench.ports import free_port
from proxy.clock import SystemClock
from proxy.config import Config
from proxy.errors import ManifestFenced
from proxy.manifest.campaigns import Campaign, CampaignId, Estimate
from proxy.manifest.damage import Damage
from proxy.manifest.records import GarbageSegment, SegmentId, Settlement
from proxy.manifest.sqlite import open_sqlite
from proxy.metrics import Counts, StoreCallMetrics
from proxy.policies import make_policies
from proxy.status import live
from proxy.status.campaigns import campaign_facts
from proxy.status.facts import Facts
from proxy.status.gathering import gather_facts, policy_facts
from proxy.status.live import count_calls, endpoint_of
from proxy.stores.observe import Condition
from tests.laboratory import laboratory, laboratory_config


def gather(config: Config, *, seconds: float = 5.0) -> Facts:
    return asyncio.run(gather_facts(config, SystemClock(), seconds=seconds))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a configuration whose server does not run."""
    return replace(laboratory_config(tmp_path), listen=f"127.0.0.1:{free_port()}")


def test_what_the_manifest_knows_is_told_without_a_server(config: Config, tmp_path: Path) -> None:
    async def use() -> None:
        async with laboratory(tmp_path) as lab:
            version = await lab.put("k", b"x" * 100_000)
            (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
            (segment,) = extent.layout.segments
            damage = Damage(extent_id=extent.id, segment_id=segment.id, shard_index=0, kind="forged", store=segment.stores[0])
            await lab.services.manifest.report_damage([damage], now_ms=1_749_999_000_000)
            ids = [SegmentId(bytes(15) + bytes((number,))) for number in range(2)]
            intent = await lab.services.manifest.lease_segments(owner="w", segment_ids=ids, expires_ms=2**60)
            garbage = [GarbageSegment(id=ids[0], stores=("gone", "gone")), GarbageSegment(id=ids[1])]
            await lab.services.manifest.settle([Settlement(intent_id=intent.id, mask=3)], garbage, now_ms=1)
            await lab.services.manifest.pause_job("collect", True)

    asyncio.run(use())
    facts = gather(config)
    assert (facts.manifest.trouble, facts.manifest.fence, facts.manifest.root_key_trouble) == ("", "", "")
    assert facts.manifest.size_bytes > 0
    assert (facts.damage.waiting, facts.damage.oldest_ms) == ({1: 1}, 1_749_999_000_000)
    stores = {store.name: store for store in facts.stores}
    assert [store.damaged for store in facts.stores if store.damaged] == [{"forged": 1}]
    assert (stores["gone"].configured, stores["gone"].garbage, facts.unplaced_garbage) == (False, 2, 1)
    assert all(not store.error and store.latency_ms is not None for store in facts.stores if store.configured)
    assert [(job.name, job.paused) for job in facts.jobs if job.paused] == [("collect", True)]
    assert (facts.server.answers, facts.server.endpoint) == (False, f"http://{config.listen}")
    msgspec.json.encode(facts)


def test_what_walks_and_campaigns_have_come_to_is_told(config: Config, tmp_path: Path) -> None:
    campaign = Campaign(
        id=CampaignId("c1"), verb="drain", store="alder", state="running", planned_ms=1, seconds=100.0,
        estimate=Estimate(segments=10), actual=Estimate(segments=4), trouble="no room",
    )  # fmt: skip

    async def use() -> None:
        async with laboratory(tmp_path) as lab:
            await lab.put("k", b"x" * 100_000)
            for name in ("audit", "scrub-light"):
                for _ in range(5):
                    await lab.worker(name).step()
            await lab.services.manifest.add_campaign(campaign)
            await lab.services.manifest.add_campaign(replace(campaign, id=CampaignId("c2"), state="done", store="cedar"))

    asyncio.run(use())
    facts = gather(config)
    assert facts.tally is not None
    assert (facts.tally.segments, facts.tally.plaintext_bytes, facts.tally.redundancy) == (1, 100_000, {2: 1})
    assert sum(store.stored_bytes > 20_000 for store in facts.stores if store.stored_bytes) == 6
    light, deep = facts.scrubs
    assert (light.kind, light.shards, light.damaged, light.ended_ms is not None) == ("light", 6, 0, True)
    assert (deep.kind, deep.ended_ms, deep.days) == ("deep", None, 30.0)
    (going_on,) = facts.campaigns
    assert (going_on.what, going_on.done, going_on.planned) == ("drain of alder", 4, 10)
    assert [store.name for store in facts.stores if store.left] == ["cedar"]
    assert (going_on.remaining_seconds, going_on.trouble) == (60.0, "no room")


def test_the_journal_is_late_only_where_a_change_stays_out_of_it(config: Config, tmp_path: Path) -> None:
    async def use() -> None:
        async with laboratory(tmp_path, journal=config.journal) as lab:
            await lab.put("k", b"x")
            await lab.worker("journal").step()

    async def change_without_a_server() -> None:
        async with open_sqlite(Path(config.manifest.path), SystemClock()) as manifest:
            await manifest.know_stores(["another"])

    config = replace(config, journal=replace(config.journal, enabled=True, interval_ms=1))
    asyncio.run(use())
    stored = gather(config).journal
    assert stored is not None
    assert (stored.waiting, stored.lag_ms, stored.number > 0) == (0, 0, True)
    asyncio.run(change_without_a_server())
    late = gather(config).journal
    assert late is not None
    assert (late.waiting, late.lag_ms > 1000) == (1, True)
    assert gather(replace(config, journal=replace(config.journal, enabled=False))).journal is None


@pytest.mark.parametrize(
    ("named", "what"),
    [
        ({"verb": "replace", "store": "a", "new_store": "b"}, "replacement of a by b"),
        ({"verb": "policy", "bucket": "x", "policy": "p"}, "move of bucket x to policy p"),
        ({"verb": "rebalance"}, "rebalance"),
    ],
)
def test_campaigns_are_told_in_words(named: dict, what: str) -> None:
    assert campaign_facts(Campaign(id=CampaignId("c"), planned_ms=1, **named)).what == what


def test_nothing_is_made_where_there_is_nothing(config: Config, tmp_path: Path) -> None:
    facts = gather(config)
    assert facts.manifest.trouble == f"{tmp_path}/manifest.sqlite does not exist"
    assert all(store.error for store in facts.stores)
    assert list(tmp_path.iterdir()) == []


def test_a_fence_and_a_lost_root_key_are_told(config: Config, tmp_path: Path) -> None:
    async def use() -> None:
        async with laboratory(tmp_path) as lab:
            await lab.services.manifest.fence("an older copy")
            with pytest.raises(ManifestFenced):
                await lab.services.manifest.pause_job("collect", True)

    asyncio.run(use())
    Path(config.root_key.path).unlink()
    facts = gather(config)
    assert facts.manifest.fence == "an older copy"
    assert "root_key.path" in facts.manifest.root_key_trouble
    assert not Path(config.root_key.path).exists()


def test_a_manifest_that_is_damaged_does_not_hide_the_stores(config: Config, tmp_path: Path) -> None:
    asyncio.run(_use(tmp_path))
    Path(config.manifest.path).write_bytes(b"no database" * 100)
    facts = gather(config)
    assert "is no manifest, or is damaged" in facts.manifest.trouble
    assert all(not store.error for store in facts.stores)


async def _use(data: Path) -> None:
    async with laboratory(data):
        pass


async def _identity(data: Path) -> str:
    async with laboratory(data) as lab:
        return (await lab.services.manifest.find_epoch()).identity


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    import socket

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_neither_a_store_nor_a_server_that_hangs_makes_it_hang(config: Config, tmp_path: Path) -> None:
    asyncio.run(_use(tmp_path))
    with silent_server() as address:
        hanging = msgspec.convert(
            {
                "kind": "s3", "provider": "p", "region": "us-east-1", "jurisdiction": "j", "bucket": "b", "endpoint": f"http://{address}",
                "access_key": "a", "secret_key": "s",
            },
            type(config.stores["alder"]),
        )  # fmt: skip
        facts = gather(replace(config, listen=address, stores={**config.stores, "slow": hanging}), seconds=2.0)
    errors = {store.name: store.error for store in facts.stores}
    assert errors.pop("slow") == "no answer in 2 s"
    assert not facts.server.answers
    assert facts.server.trouble
    assert set(errors.values()) == {""}


@contextmanager
def server_that_says(answers: dict[str, tuple[int, bytes]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def exposition() -> bytes:
    counts = Counts(CollectorRegistry())
    metrics = StoreCallMetrics(counts)
    for verb, outcome, count in (("put", "ok", 10), ("get", "ShardMissing", 2), ("get", "StoreUnavailable", 3)):
        for _ in range(count):
            metrics.record("alder", verb, outcome, 0.1)
    return counts.exposition()


def test_what_a_server_says_of_its_stores_is_taken_in(config: Config, tmp_path: Path) -> None:
    asyncio.run(_use(tmp_path))
    condition = Condition(breakers={"put": "open"}, p95_ms={"get": 3.5}, last_error="full", last_error_seconds=7.0)
    status = msgspec.json.encode(live.Live(process=1, manifest="", in_flight=4, stores={"alder": condition}))
    said = {"/-/status": (200, status), "/-/metrics": (200, exposition()), "/-/health": (503, b"disk full\n")}
    with server_that_says(said) as address:
        facts = gather(replace(config, listen=address))
    assert (facts.server.answers, facts.server.trouble, facts.server.in_flight) == (True, "disk full", 4)
    alder = facts.stores[0]
    assert (alder.condition, alder.calls, alder.errors) == (condition, 15, 3)


def test_a_server_whose_manifest_is_gone_answers_and_says_so(config: Config, tmp_path: Path) -> None:
    status = msgspec.json.encode(live.Live(process=1, manifest="", in_flight=0, stores={}))
    said = {"/-/status": (200, status), "/-/metrics": (500, b""), "/-/health": (503, b"it cannot be found\n")}
    with server_that_says(said) as address:
        facts = gather(replace(config, listen=address))
    assert (facts.server.answers, facts.server.trouble) == (True, "it cannot be found")


@pytest.mark.parametrize("status", [(404, b""), (200, b"<html>"), (200, json.dumps({"process": 1}).encode())])
def test_another_server_at_that_address_is_not_believed(config: Config, tmp_path: Path, status: tuple[int, bytes]) -> None:
    with server_that_says({"/-/status": status}) as address:
        facts = gather(replace(config, listen=address))
    assert not facts.server.answers
    assert facts.server.trouble


@pytest.mark.parametrize("ours", [True, False])
def test_a_server_of_another_manifest_is_not_ours(config: Config, tmp_path: Path, ours: bool) -> None:
    asyncio.run(_use(tmp_path))
    identity = asyncio.run(_identity(tmp_path)) if ours else "another's"
    status = msgspec.json.encode(live.Live(process=1, manifest=identity, in_flight=4, stores={}))
    with server_that_says({"/-/status": (200, status), "/-/metrics": (200, exposition()), "/-/health": (200, b"ok\n")}) as address:
        facts = gather(replace(config, listen=address))
    assert facts.server.answers == ours
    assert facts.stores[0].calls == (15 if ours else 0)
    assert facts.server.trouble == ("" if ours else "what answers there is the server of another manifest")


def test_calls_are_summed_by_store() -> None:
    assert count_calls(exposition().decode()) == ({"alder": 15}, {"alder": 3})


@pytest.mark.parametrize(
    ("listen", "endpoint"),
    [("127.0.0.1:9000", "http://127.0.0.1:9000"), ("0.0.0.0:80", "http://127.0.0.1:80"), ("[::]:80", "http://[::1]:80")],
)
def test_the_server_is_asked_at_an_address_of_this_machine(config: Config, listen: str, endpoint: str) -> None:
    assert endpoint_of(replace(config, listen=listen)) == endpoint


def test_a_policy_without_some_of_its_stores(config: Config) -> None:
    policy = make_policies(config)["standard"]
    names = [str(info.name) for info in policy.stores]
    facts = [policy_facts(policy, names[:count]) for count in range(5)]
    assert [(fact.writes, fact.spare) for fact in facts] == [(True, 2), (True, 1), (True, 0), (True, -1), (False, -2)]
    assert facts[2].down == tuple(names[:2])
