"""Campaigns over packs: their shards move as of any segment, and a policy moves a bucket's slots and no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.geometry import Scheme
from proxy.config import Config
from proxy.config.sections import PricesConfig
from proxy.engine.placing.classify import keeps_promises
from proxy.manifest.campaigns import Estimate
from proxy.manifest.packs import kind_of
from proxy.manifest.records import ObjectAttributes, ObjectKey, Version
from tests.fault.campaigns.operating import applied, carried_out, check_rules, of_store, planner
from tests.fault.campaigns.operating import found as campaign_of
from tests.fault.campaigns.test_policy import moved, other_bucket, two_policies, versions, wide_too
from tests.laboratory import ROOT, Laboratory, laboratory
from tests.packing import bodies, data_of, delete, extents, found, packs, put_pack

MIXED = bodies(1, 700, 4096, 4096, 60_000, 61_000, 62_000, 63_000)


async def contents(lab: Laboratory, *keys: str) -> list[bytes]:
    return [await data_of(lab, await found(lab, key)) for key in keys]


async def check_whole(lab: Laboratory) -> None:
    """Check that the stores hold the shards of what there is, and nothing else."""
    for _ in range(2):
        lab.clock.advance(8 * 24 * 3600)
        while not (await lab.worker("repack").step()).idle:
            pass
        await lab.collect()
    names = {
        segment.shard_name(index)
        for extent in await extents(lab)
        for segment in extent.layout.segments
        for index in range(len(segment.stores))
    }
    assert await lab.shards() == names
    assert sum(pack.dead for pack in await packs(lab)) == 0


@pytest.mark.parametrize("dead", [False, True])
async def test_a_store_is_left_and_packs_stay_as_they_are(tmp_path: Path, dead: bool) -> None:
    async with laboratory(tmp_path) as lab:
        for group in "abc":
            await put_pack(lab, {f"{group}{key}": data for key, data in MIXED.items()})
        before = await versions(lab)
        lab.stores["elm"].down = dead
        campaign = await applied(lab, await planner(lab).drain("elm"))
        done = await carried_out(lab, campaign)
        assert (done.actual.copied, done.actual.rebuilt) == ((0, 3) if dead else (3, 0))
        await check_rules(lab)
        assert await versions(lab) == before
        assert "elm" not in {store for extent in await extents(lab) for segment in extent.layout.segments for store in segment.stores}
        for name in ("alder", "birch"):  # what was moved is needed now
            lab.stores[name].down = True
        assert await contents(lab, *(f"b{key}" for key in MIXED)) == list(MIXED.values())


async def test_shards_of_packs_go_to_the_store_that_takes_another_s_place(tmp_path: Path) -> None:
    def narrow(config: Config) -> Config:
        five = replace(config.policies["standard"], scheme="3+2", storage_classes={})
        return replace(config, policies={"standard": five})

    async with laboratory(tmp_path, adjust=narrow) as lab:
        await put_pack(lab, MIXED)
        (extent,) = await extents(lab)
        (segment,) = extent.layout.segments
        free = next(name for name in lab.stores if name not in segment.stores)
        old = segment.stores[0]
        await carried_out(lab, await applied(lab, await planner(lab).replace(old, free)))
        (after,) = await extents(lab)
        assert after.layout.segments[0].stores == (free, *segment.stores[1:])
        assert await of_store(lab, old) == []
        assert await contents(lab, *MIXED) == list(MIXED.values())


async def test_every_object_of_a_bucket_comes_under_another_scheme_as_it_was(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
        lab.bucket = replace(lab.bucket, versioning="Enabled")
        await put_pack(lab, MIXED)
        await put_pack(lab, MIXED, attributes=ObjectAttributes(tags={"t": "1"}))
        await lab.put("large", b"l" * 300_000)
        await delete(lab, "k0")
        before = await versions(lab)
        await moved(lab, "wide")
        after = await versions(lab)
        assert [replace(version, extents=()) for version in after] == [replace(version, extents=()) for version in before]
        assert {(extent.layout.policy, extent.layout.k, extent.layout.m) for extent in await extents(lab)} == {("wide", 6, 3)}
        (pack,) = await packs(lab)
        assert (pack.slots, pack.kind) == (16, kind_of(lab.tenant.id, "wide", 6, 3)), "both packs became one"
        assert [await data_of(lab, version) for version in after if version.key == "k5"] == [MIXED["k5"]] * 2
        await check_whole(lab)


async def test_a_move_of_one_bucket_moves_its_slots_alone(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        other = await other_bucket(lab)
        await put_pack(lab, MIXED, buckets=[lab.bucket, other])
        theirs = [await found(lab, f"k{n}", bucket=other) for n in (1, 3, 5, 7)]
        await moved(lab, "same")
        layouts = {extent.id: extent.layout for extent in await extents(lab)}
        assert {layouts[(await found(lab, f"k{n}")).extents[0].id].policy for n in (0, 2, 4, 6)} == {"same"}
        assert [await found(lab, f"k{n}", bucket=other) for n in (1, 3, 5, 7)] == theirs
        assert layouts[theirs[0].extents[0].id].policy == "standard"
        assert await contents(lab, "k0", "k2", "k4", "k6") == [MIXED[f"k{n}"] for n in (0, 2, 4, 6)]
        assert [await data_of(lab, version) for version in theirs] == [MIXED[f"k{n}"] for n in (1, 3, 5, 7)]
        await check_whole(lab)


async def test_a_pack_of_one_bucket_gets_a_policy_of_the_same_scheme_as_it_is(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        await put_pack(lab, MIXED)
        before = await versions(lab)
        plan = await planner(lab).move_policy("bucket", "same")
        assert (plan.estimate.copied, plan.estimate.rewritten) == (1, 0)
        done = await carried_out(lab, await applied(lab, plan))
        assert (done.actual.copied, done.actual.rewritten) == (1, 0)
        assert await versions(lab) == before
        (extent,), (pack,) = await extents(lab), await packs(lab)
        policy = lab.services.policies["same"]
        assert keeps_promises(policy, policy.scheme, extent.layout)
        assert pack.kind == kind_of(lab.tenant.id, "same", 4, 2)
        assert await contents(lab, *MIXED) == list(MIXED.values())


async def test_copies_that_share_a_slot_go_on_to_share_it(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        source = (await put_pack(lab, MIXED))[4]
        for number in range(30):
            await copied(lab, source, f"copy-{number}")
        await moved(lab, "wide")
        (pack,) = await packs(lab)
        assert (pack.slots, pack.live) == (8, sum(len(data) for data in MIXED.values()))
        shared = {version.extents for version in await versions(lab) if version.key == "k4" or version.key.startswith("copy")}
        assert len(shared) == 1
        assert await contents(lab, "copy-29") == [MIXED["k4"]]
        await check_whole(lab)


async def test_a_class_of_another_scheme_is_stored_by_itself(tmp_path: Path) -> None:
    def classes(config: Config) -> Config:
        config = two_policies(config)
        wide = replace(config.policies["wide"], storage_classes={"STANDARD_IA": "5+3"})
        return replace(config, policies={**config.policies, "wide": wide})

    async with laboratory(tmp_path, adjust=classes) as lab:
        await put_pack(lab, MIXED)
        rare = {f"rare-{key}": data for key, data in MIXED.items()}
        await put_pack(lab, rare, attributes=ObjectAttributes(storage_class="STANDARD_IA"))
        await moved(lab, "wide")
        schemes = {extent.id: Scheme(extent.layout.k, extent.layout.m) for extent in await extents(lab)}
        assert {schemes[(await found(lab, key)).extents[0].id] for key in MIXED} == {Scheme(6, 3)}
        assert {schemes[(await found(lab, key)).extents[0].id] for key in rare} == {Scheme(5, 3)}
        assert await contents(lab, *rare) == list(rare.values())


async def test_after_the_scheme_of_a_policy_has_changed_packs_are_brought_under_it(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await put_pack(lab, MIXED)

    def changed(config: Config) -> Config:
        policy = replace(config.policies["standard"], scheme="6+3", storage_classes={})
        return replace(config, policies={"standard": policy})

    async with laboratory(tmp_path, adjust=changed) as lab:
        await moved(lab, "standard")
        assert {(extent.layout.policy, extent.layout.k) for extent in await extents(lab)} == {("standard", 6)}
        assert await contents(lab, *MIXED) == list(MIXED.values())
        await check_whole(lab)


async def test_a_plan_tells_what_it_takes(tmp_path: Path) -> None:
    """Requests are told exactly; bytes but for the records, and US dollars as the bytes are."""

    def priced(config: Config) -> Config:
        prices = PricesConfig(storage_gb_month=0.01, put_per_thousand=5, get_per_thousand=0.4, egress_gb=0.1)
        stores = {name: replace(store, prices=prices, minimum_days=30) for name, store in config.stores.items()}
        return replace(two_policies(config), stores=stores)

    async with laboratory(tmp_path, adjust=priced) as lab:
        other = await other_bucket(lab)
        for group in range(3):
            await put_pack(lab, {f"{group}-{key}": data for key, data in MIXED.items()})
        await put_pack(lab, MIXED, buckets=[lab.bucket, other])
        await lab.put("large", b"l" * 300_000)
        plan = await planner(lab).move_policy("bucket", "wide")
        done = (await carried_out(lab, await applied(lab, plan))).actual
        assert (plan.estimate.segments, plan.estimate.rewritten) == (2, 2) == (done.segments, done.rewritten)
        assert _requests(plan.estimate) == (5 * 4, 2 * 9, 4 * 6) == _requests(done), (
            "four packs and an extent; one pack stays for the other"
        )
        assert done.size_bytes == pytest.approx(plan.estimate.size_bytes, rel=0.05)
        assert done.usd == pytest.approx(plan.estimate.usd, rel=0.02)
        assert plan.estimate.usd > 0


async def test_large_numbers_of_objects_are_planned_and_moved_as_many_packs(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=wide_too) as lab:
        objects = bodies(*[64] * 700)
        for start in range(0, 700, 70):
            await put_pack(lab, dict(list(objects.items())[start : start + 70]))
        plan = await planner(lab).move_policy("bucket", "wide")
        done = await carried_out(lab, await applied(lab, plan))
        assert done.actual.rewritten == plan.estimate.rewritten
        assert sum(pack.slots for pack in await packs(lab)) == 700
        assert len(await packs(lab)) == plan.estimate.rewritten <= 5
        assert await contents(lab, "k0", "k350", "k699") == [objects["k0"], objects["k350"], objects["k699"]]


@pytest.mark.parametrize("what", ["deleted", "overwritten"])
async def test_what_is_deleted_while_its_slot_is_stored_anew_stays_deleted(tmp_path: Path, what: str) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        await put_pack(lab, MIXED)
        campaign = await applied(lab, await planner(lab).move_policy("bucket", "wide"))
        lab.bucket = replace(lab.bucket, policy="wide")
        manifest, exchange = lab.services.manifest, lab.services.manifest.exchange_slots

        async def late(*args: object, **kwargs: object) -> object:
            manifest.exchange_slots = exchange  # type: ignore[method-assign]
            if what == "deleted":
                await delete(lab, "k4")
            else:
                await put_pack(lab, {"k4": b"newer" * 100}, settle=False)
            return await exchange(*args, **kwargs)  # type: ignore[arg-type]

        manifest.exchange_slots = late  # type: ignore[assignment, method-assign]
        await carried_out(lab, campaign)
        if what == "overwritten":
            assert await contents(lab, "k4") == [b"newer" * 100]
        else:
            assert await manifest.find_version(lab.bucket.id, ObjectKey("k4")) is None
        assert await contents(lab, "k5") == [MIXED["k5"]]
        await check_whole(lab)


async def test_a_pack_that_came_late_under_the_former_policy_is_moved_too(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        campaign = await carried_out(lab, await applied(lab, await planner(lab).move_policy("bucket", "wide")))
        await put_pack(lab, MIXED)  # lab.bucket is as it was found before the move
        assert (await campaign_of(lab, campaign.id)).state == "running"
        await carried_out(lab, campaign)
        assert {(extent.layout.policy, extent.layout.k) for extent in await extents(lab)} == {("wide", 6)}


STEPS = [("put", 4), ("put", 6), ("before commit", 1), ("after commit", 1), ("before commit", 2), ("after commit", 2)]


@pytest.mark.parametrize("verb", ["policy", "repack"])
@pytest.mark.parametrize(("step", "number"), STEPS)
async def test_another_process_goes_on_after_a_kill(tmp_path: Path, verb: str, step: str, number: int) -> None:
    command = [sys.executable, "-m", "tests.fault.campaigns.packed_child", str(tmp_path), verb, step, str(number)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == -9, f"the step is not reached: {child.stderr}"
    async with laboratory(tmp_path, now_ms=1_750_000_000_000 + 3_600_000, adjust=wide_too) as lab:
        for _ in range(2):  # leases of the dead expire
            await lab.collect()
        kept = [key for key in MIXED if key != "k0"]
        assert await contents(lab, *kept) == [MIXED[key] for key in kept], "nothing is lost at once"
        for campaign in await lab.services.manifest.list_campaigns():
            await carried_out(lab, campaign)
        await check_whole(lab)
        assert await contents(lab, *kept) == [MIXED[key] for key in kept]
        assert await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k0")) is None
        (extent,) = [extent for extent in await extents(lab) if extent.layout.slots]
        assert (extent.layout.policy, extent.layout.slots) == ("wide" if verb == "policy" else "standard", 7)


def _requests(estimate: Estimate) -> tuple[int, int, int]:
    bills = estimate.bills
    return sum(bill.gets for bill in bills), sum(bill.puts for bill in bills), sum(bill.deletes for bill in bills)


async def copied(lab: Laboratory, source: Version, key: str) -> Version:
    return await lab.services.engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey(key), source.attributes)
