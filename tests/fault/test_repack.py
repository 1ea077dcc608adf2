"""Packs are written anew: what is in use stays as it was, what was deleted goes in time, and nothing is lost whatever comes between."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from proxy.config import Config
from proxy.engine.repack.bundles import bundles_of
from proxy.engine.repack.gathering import USERS, gather_slots
from proxy.engine.repack.merging import FEWEST
from proxy.engine.repack.reading import PackReader
from proxy.errors import ExtentMissing, VersionLocked
from proxy.manifest.drafts import AttributeChange, VersionDraft
from proxy.manifest.records import Encryption, ObjectAttributes, ObjectKey, Retention, Version, VersionId
from proxy.server.manifest_counts import read_counts
from proxy.status.durable import ask_manifest
from proxy.status.facts import PackFacts
from proxy.tenancy import add_kms_key
from proxy.upkeep import make_slot_rewriter
from tests.fault.campaigns.operating import applied, planner
from tests.fault.campaigns.test_policy import other_bucket, two_policies, versions
from tests.fault.machine.audit import audit
from tests.laboratory import Laboratory, laboratory
from tests.packing import bodies, data_of, delete, extents, found, packs, put_pack, repack, settle

DAY = 24 * 3600


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


async def passes(lab: Laboratory, count: int) -> None:
    for _ in range(count):
        await repack(lab)


async def test_a_pack_less_than_half_alive_is_written_anew(lab: Laboratory) -> None:
    objects = bodies(*[8000] * 12)
    await put_pack(lab, objects)
    (before,) = await packs(lab)
    await delete(lab, *[f"k{n}" for n in range(6)])
    died_ms = lab.clock.now_ms()
    await repack(lab)
    (half,) = await packs(lab)
    assert half.extent_id == before.extent_id, "half is enough"
    assert (half.whole, half.live, half.slots, half.dead_since_ms) == (before.whole, before.whole // 2, 6, died_ms)
    await delete(lab, "k6")
    await repack(lab)
    (after,) = await packs(lab)
    assert after.extent_id != before.extent_id
    assert (after.whole, after.live, after.slots, after.dead_since_ms) == (5 * 8032, 5 * 8032, 5, None)
    assert await contents(lab, *[f"k{n}" for n in range(7, 12)]) == [objects[f"k{n}"] for n in range(7, 12)]
    await lab.collect()
    assert len(await lab.shards()) == 6


async def contents(lab: Laboratory, *keys: str) -> list[bytes]:
    return [await data_of(lab, await found(lab, key)) for key in keys]


async def test_what_was_written_lately_is_left_alone_until_it_must_go(lab: Laboratory) -> None:
    await put_pack(lab, bodies(*[8000] * 12))
    for number in range(FEWEST):
        await put_pack(lab, {f"lone-{number}": b"l" * 4000})
    await delete(lab, *[f"k{n}" for n in range(11)])
    before = await packs(lab)
    lab.clock.advance(3000)
    while not (await lab.worker("repack").step()).idle:
        pass
    assert await packs(lab) == before
    await repack(lab)
    assert sorted(pack.slots for pack in await packs(lab)) == [1, FEWEST]


async def test_what_was_deleted_goes_in_time_however_little_it_is(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=no_allowance) as lab:
        objects = bodies(*[8000] * 12)
        await put_pack(lab, objects)
        await delete(lab, "k3")
        died_ms = lab.clock.now_ms()
        lab.clock.advance(5 * DAY)
        await repack(lab)
        assert [pack.slots for pack in await packs(lab)] == [11]
        assert await lab.services.manifest.oldest_dead_ms() == died_ms
        lab.clock.advance(DAY)
        await repack(lab)
        (pack,) = await packs(lab)
        assert (pack.dead, pack.dead_since_ms) == (0, None)
        assert await lab.services.manifest.oldest_dead_ms() is None
        assert await contents(lab, *(set(objects) - {"k3"})) == [objects[key] for key in set(objects) - {"k3"}]
        await lab.collect()
        assert await lab.shards() == await of_packs(lab), "the old pack is gone, and with it what was deleted"


async def test_status_and_metrics_tell_since_when_something_deleted_is_still_there(lab: Laboratory) -> None:
    await put_pack(lab, bodies(*[8000] * 12))
    assert (await ask_manifest(lab.services.config, lab.clock, 10)).packs == PackFacts(dead_since_ms=None, within_days=7)
    await delete(lab, "k3")
    since_ms = lab.clock.now_ms()
    lab.clock.advance(DAY)
    await delete(lab, "k4")
    assert (await ask_manifest(lab.services.config, lab.clock, 10)).packs == PackFacts(dead_since_ms=since_ms, within_days=7)
    told = (await read_counts(lab.services.manifest)).exposition().decode()
    assert float(re.findall(r"^shardgate_oldest_dead_seconds (\S+)$", told, re.MULTILINE)[0]) == since_ms / 1000


async def test_many_packs_of_a_lone_writer_become_one(lab: Laboratory) -> None:
    objects = bodies(*[4000] * FEWEST)
    for key, data in list(objects.items())[:-1]:
        await put_pack(lab, {key: data})
    await repack(lab)
    assert len(await packs(lab)) == FEWEST - 1, "too few to be worth it"
    await put_pack(lab, dict([list(objects.items())[-1]]))
    await repack(lab)
    (pack,) = await packs(lab)
    assert (pack.slots, pack.live, pack.whole) == (FEWEST, FEWEST * 4032, FEWEST * 4032)
    assert await contents(lab, *objects) == list(objects.values())
    await repack(lab)
    assert await packs(lab) == [pack], "it is left alone from now on"
    await lab.collect()
    assert len(await lab.shards()) == 6


async def test_saving_space_ends_for_the_day_when_its_requests_are_used_up(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=lambda config: with_allowance(config, 1)) as lab:
        for group in ("a", "b"):
            await put_pack(lab, bodies(*[8000] * 8, prefix=group))
            await delete(lab, *[f"{group}{n}" for n in range(6)])
        settle(lab)
        progress = await lab.worker("repack").step()
        assert progress.done == 2, "what one step takes is written together, though it is more than there was left"
        await put_pack(lab, bodies(*[8000] * 8, prefix="c"))
        await delete(lab, *[f"c{n}" for n in range(6)])
        await repack(lab)
        assert sorted(pack.dead for pack in await packs(lab)) == [0, 6 * 8032]
        lab.clock.advance(DAY)
        await repack(lab)
        assert sorted(pack.dead for pack in await packs(lab)) == [0, 0]


async def test_a_version_keeps_all_that_a_client_sees_of_it(lab: Laboratory) -> None:
    await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
    lab.bucket = replace(lab.bucket, versioning="Enabled")
    told = ObjectAttributes(
        headers={"ContentType": "text/plain"},
        metadata={"a": "b"},
        tags={"t": "1"},
        retention=Retention(mode="COMPLIANCE", until_ms=lab.clock.now_ms() + 90 * DAY * 1000),
        legal_hold="ON",
    )
    for _ in range(3):
        await put_pack(lab, bodies(100, 5000, 70_000, 66_000, 60_000, 64_000), attributes=told)
    await lab.services.engine.change_attributes(lab.bucket, ObjectKey("k1"), (await found(lab, "k1")).id, AttributeChange(tags={"t": "2"}))
    await put_pack(lab, bodies(*[60_000] * 16, prefix="x"))
    await delete(lab, "k0")
    before = await versions(lab)
    await rewrite_all(lab)
    after = await versions(lab)
    assert [replace(version, extents=()) for version in after] == [replace(version, extents=()) for version in before]
    moved = [(old.extents[0].id, new.extents[0].id) for old, new in zip(before, after, strict=True) if old.extents]
    assert all(old != new for old, new in moved)
    assert await data_of(lab, next(version for version in after if version.extents)) == bodies(100)["k0"]
    with pytest.raises(VersionLocked):
        await lab.services.engine.delete_version(lab.bucket, ObjectKey("k1"), after[4].id, bypass_governance=True)


async def test_copies_follow_however_many_there_are(lab: Laboratory) -> None:
    objects = bodies(9000, 9000, 9000, 9000)
    source = (await put_pack(lab, objects))[0]
    for number in range(2 * USERS + 50):
        await copied(lab, source, f"copy-{number}")
    await delete(lab, "k0", "k1", "k2", "k3")
    await repack(lab)
    (pack,) = await packs(lab)
    assert (pack.slots, pack.live) == (1, 9024)
    uses = {version.extents[0] for version in await versions(lab)}
    assert {ref.id for ref in uses} == {pack.extent_id}
    assert await contents(lab, "copy-0", "copy-249") == [objects["k0"]] * 2
    await lab.collect()
    assert await lab.shards() == await of_packs(lab)


async def test_every_slot_of_a_full_pack_moves_at_once_though_it_has_more_users_than_fit_one_step(lab: Laboratory) -> None:
    """What the first step leaves unused in the new pack would be dead there, and still be read from the old one."""
    objects = bodies(*[300] * 140)
    sources = await put_pack(lab, objects)
    for source in sources[:-1]:
        for number in range(3):
            await copied(lab, source, f"{source.key}-{number}")
    await delete(lab, "k139")
    lab.clock.advance(7 * DAY)
    await lab.worker("repack").step()
    (pack,) = await packs(lab)
    assert (pack.slots, pack.dead) == (139, 0)
    assert {version.extents[0].id for version in await versions(lab)} == {pack.extent_id}
    assert await contents(lab, "k0", "k138", "k138-2") == [objects["k0"], objects["k138"], objects["k138"]]


@pytest.mark.parametrize("what", ["deleted", "overwritten", "copied"])
async def test_what_changes_while_its_pack_is_read_is_left_as_it_is_then(lab: Laboratory, what: str) -> None:
    objects = bodies(*[9000] * 6)
    await put_pack(lab, objects)
    await delete(lab, "k0", "k1", "k2", "k3")

    async def meanwhile() -> None:
        match what:
            case "deleted":
                await delete(lab, "k4")
            case "overwritten":
                await put_pack(lab, {"k4": b"newer" * 100}, settle=False)
            case "copied":
                await copied(lab, await found(lab, "k4"), "copy")

    before_exchange(lab, meanwhile)
    await passes(lab, 2)
    assert await contents(lab, "k5") == [objects["k5"]]
    match what:
        case "deleted":
            assert await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k4")) is None
        case "overwritten":
            assert await contents(lab, "k4") == [b"newer" * 100]
        case "copied":
            assert await contents(lab, "k4", "copy") == [objects["k4"]] * 2
    lab.clock.advance(7 * DAY)
    await repack(lab)
    await lab.collect()
    assert await lab.shards() == await of_packs(lab)
    assert sum(pack.dead for pack in await packs(lab)) == 0


async def test_what_another_process_has_moved_meanwhile_stays_there(lab: Laboratory, tmp_path: Path) -> None:
    objects = bodies(*[9000] * 6)
    await put_pack(lab, objects)
    await delete(lab, "k0", "k1", "k2")
    await copied(lab, await found(lab, "k3"), "copy")
    lab.clock.advance(7 * DAY)
    before_exchange(lab, lambda: rewrite_all(lab))
    settle(lab)
    await lab.worker("repack").step()
    (pack,) = await packs(lab)
    assert (pack.slots, pack.live, pack.dead) == (3, 3 * 9024, 0)
    await lab.collect()
    held = {name: {str(shard) async for shard, _ in store.list()} for name, store in lab.stores.items()}
    books = audit(tmp_path / "manifest.sqlite", held)
    assert (books.orphans, books.missing, books.miscounted) == (set(), set(), [])
    assert await contents(lab, "k3", "k4", "k5", "copy") == [objects[key] for key in ("k3", "k4", "k5", "k3")]


async def test_if_all_is_gone_by_the_time_it_is_stored_nothing_is_left_of_it(lab: Laboratory) -> None:
    await put_pack(lab, bodies(*[9000] * 6))
    await delete(lab, "k0", "k1", "k2", "k3")

    async def meanwhile() -> None:
        await delete(lab, "k4", "k5")

    before_exchange(lab, meanwhile)
    await repack(lab)
    assert await packs(lab) == []
    await lab.collect()
    assert await lab.shards() == set()


async def test_a_change_of_class_that_comes_between_keeps_a_version_where_it_is(lab: Laboratory) -> None:
    objects = bodies(*[9000] * 6)
    await put_pack(lab, objects)
    await delete(lab, "k0", "k1", "k2", "k3")

    async def meanwhile() -> None:
        version = await found(lab, "k4")
        changed = replace(version, attributes=replace(version.attributes, storage_class="ONEZONE_IA"))
        await change_record(lab, changed)

    before_exchange(lab, meanwhile)
    old = (await found(lab, "k4")).extents
    settle(lab)
    await lab.worker("repack").step()
    assert (await found(lab, "k4")).extents == old
    assert (await found(lab, "k5")).extents != old
    await passes(lab, 2)
    layouts = {extent.id: (extent.layout.k, extent.layout.m) for extent in await extents(lab)}
    policy = lab.services.policies["standard"]
    wanted = policy.scheme_of("ONEZONE_IA")
    assert layouts[(await found(lab, "k4")).extents[0].id] == (wanted.k, wanted.m), "the next pass stores it as its class wants it"
    assert await contents(lab, "k4", "k5") == [objects["k4"], objects["k5"]]


async def test_a_policy_that_a_bucket_gets_meanwhile_is_the_one_that_counts(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        objects = bodies(*[9000] * 6)
        await put_pack(lab, objects)
        await delete(lab, "k0", "k1", "k2", "k3")

        async def meanwhile() -> None:
            await give_policy(lab, "wide")

        before_exchange(lab, meanwhile)
        settle(lab)
        await lab.worker("repack").step()
        assert [pack.slots for pack in await packs(lab)] == [2], "nothing was exchanged under the former policy"
        await passes(lab, 2)
        (extent,) = await extents(lab)
        assert (extent.layout.policy, extent.layout.k) == ("wide", 6)
        assert await contents(lab, "k4", "k5") == [objects["k4"], objects["k5"]]


async def test_each_bucket_of_a_shared_pack_gets_its_own_policy(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        other = await other_bucket(lab)
        objects = bodies(*[9000] * 12)
        await put_pack(lab, objects, buckets=[lab.bucket, other])
        await delete(lab, "k0", "k2", "k4", "k6", "k8")
        await lab.services.manifest.delete_latest(other.id, ObjectKey("k1"), marker_id=VersionId("m"), now_ms=lab.clock.now_ms())
        await give_policy(lab, "wide")
        lab.clock.advance(7 * DAY)
        await repack(lab)
        kept = {extent.id: extent.layout.policy for extent in await extents(lab)}
        assert kept[(await found(lab, "k10")).extents[0].id] == "wide"
        assert {kept[(await found(lab, f"k{n}", bucket=other)).extents[0].id] for n in (3, 5, 7, 9, 11)} == {"standard"}
        assert await data_of(lab, await found(lab, "k9", bucket=other)) == objects["k9"]


async def test_a_pack_that_cannot_be_read_does_not_hold_up_the_others(lab: Laboratory) -> None:
    for group in ("a", "b"):
        await put_pack(lab, bodies(*[9000] * 6, prefix=group))
        await delete(lab, *[f"{group}{n}" for n in range(5)])
    version = await found(lab, "a5")
    (extent,) = await lab.services.manifest.load_extents([version.extents[0].id])
    (segment,) = extent.layout.segments
    lost = [(store, segment.shard_name(index)) for index, store in enumerate(segment.stores)][:3]
    kept = [(store, name, bytes(await lab.stores[store].inner.get(name))) for store, name in lost]
    for store, name in lost:
        await lab.stores[store].inner.delete(name)
    settle(lab)
    progress = await lab.worker("repack").step()
    assert "too few shards" in progress.trouble or "needed" in progress.trouble
    assert (await found(lab, "a5")).extents == version.extents
    assert await contents(lab, "b5") == [bodies(*[9000] * 6, prefix="b")["b5"]]
    await repack(lab)  # to the end of the pass
    for store, name, data in kept:
        await lab.stores[store].inner.put(name, [data])
    await repack(lab)
    assert [pack.dead for pack in await packs(lab)] == [0, 0]
    assert await contents(lab, "a5") == [bodies(*[9000] * 6, prefix="a")["a5"]]


async def test_a_liar_is_reported_and_worked_around(lab: Laboratory, caplog: pytest.LogCaptureFixture) -> None:
    objects = bodies(*[30_000] * 8)
    await put_pack(lab, objects)
    await delete(lab, *[f"k{n}" for n in range(5)])
    (extent,) = await extents(lab)
    liar = extent.layout.segments[0].stores[1]
    lab.stores[liar].flips_bits = True
    await repack(lab)
    lab.stores[liar].flips_bits = False
    await lab.settled()
    assert f"in store {liar} is forged" in caplog.text
    assert await contents(lab, "k5", "k6", "k7") == [objects["k5"], objects["k6"], objects["k7"]]


async def test_when_stores_take_nothing_all_stays_as_it_was(lab: Laboratory) -> None:
    objects = bodies(*[9000] * 6)
    await put_pack(lab, objects)
    await delete(lab, *[f"k{n}" for n in range(5)])
    before = await packs(lab)
    for store in lab.stores.values():
        store.full = True
    settle(lab)
    progress = await lab.worker("repack").step()
    assert progress.trouble
    assert await packs(lab) == before
    for store in lab.stores.values():
        store.full = False
    assert await contents(lab, "k5") == [objects["k5"]]
    await lab.collect()
    assert await lab.shards() == await of_packs(lab)


async def test_a_body_that_would_waste_space_gets_an_extent_of_its_own(lab: Laboratory) -> None:
    objects = bodies(100_000, 100_000, 100_000, 100_000, 90_000, 90_000, 90_000, 90_000)
    await put_pack(lab, objects)
    await delete(lab, *[f"k{n}" for n in range(7)])
    await repack(lab)
    version = await found(lab, "k7")
    (extent,) = await extents(lab)
    assert [(ref.id, ref.offset, ref.size) for ref in version.extents] == [(extent.id, None, len(objects["k7"]))]
    assert (extent.layout.slots, extent.layout.size) == (0, len(objects["k7"]))
    assert await lab.get("k7") == objects["k7"]
    assert await packs(lab) == []


async def test_the_new_table_carries_the_records_of_the_old_one(lab: Laboratory) -> None:
    made = await put_pack(lab, bodies(*[9000] * 6))
    await delete(lab, *[f"k{n}" for n in range(4)])
    before = await table_of(lab)
    await repack(lab)
    after = await table_of(lab)
    assert after == {key: entry for key, entry in before.items() if key in {"k4", "k5"}}
    assert [version.id for version in made[4:]] == ["null", "null"]
    assert msgspec.msgpack.decode(after["k4"][2], type=VersionDraft).etag == made[4].etag


async def test_a_key_of_a_tenant_s_keyring_wraps_the_new_pack_too(lab: Laboratory) -> None:
    services = lab.services
    key = await add_kms_key(services.manifest, services.keyring, lab.clock, lab.tenant, alias="a")
    objects = bodies(*[9000] * 6)
    await put_pack(lab, objects, attributes=ObjectAttributes(encryption=Encryption(kms_key_id=key.id)))
    await put_pack(lab, bodies(*[9000] * 6, prefix="x"))
    await delete(lab, *[f"k{n}" for n in range(5)], *[f"x{n}" for n in range(5)])
    await repack(lab)
    owners = {extent.id: extent.layout.tenant_key_id for extent in await extents(lab)}
    assert owners[(await found(lab, "k5")).extents[0].id] == key.id
    assert owners[(await found(lab, "x5")).extents[0].id] == lab.tenant.id
    assert await contents(lab, "k5") == [objects["k5"]]


async def test_two_processes_and_clients_at_once_lose_nothing(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab, laboratory(tmp_path) as other:
        written: dict[str, bytes] = {}
        for round_number in range(4):
            objects = bodies(*[5000] * 20, prefix=f"r{round_number}-")
            await put_pack(lab, objects)
            written |= objects
        for key in list(written)[::3]:
            await delete(lab, key)
            del written[key]
        lab.clock.advance(7 * DAY)
        other.clock.advance(7 * DAY)

        async def clients() -> None:
            for number, key in enumerate(list(written)):
                if number % 4 == 0:
                    await delete(lab, key)
                    del written[key]
                elif number % 4 == 1:
                    await put_pack(lab, {key: key.encode() * 50})
                    written[key] = key.encode() * 50
                elif number % 4 == 2:
                    await copied_again(lab, key, f"copy-of-{key}")
                    written[f"copy-of-{key}"] = written[key]

        await asyncio.gather(clients(), repack(lab), repack(other), repack(lab))
        assert await contents(lab, *written) == list(written.values())
        for running in (lab, other):
            running.clock.advance(8 * DAY)
        await repack(lab)
        assert await contents(lab, *written) == list(written.values())
        assert sum(pack.dead for pack in await packs(lab)) == 0
        for _ in range(3):
            other.clock.advance(100)
            await other.settled()
            await lab.collect()
        assert await lab.shards() == await of_packs(lab)
        held = {name: {str(shard) async for shard, _ in store.list()} for name, store in lab.stores.items()}
        books = audit(tmp_path / "manifest.sqlite", held)
        assert (books.orphans, books.missing, books.miscounted) == (set(), set(), [])


async def test_a_step_that_is_broken_off_leaves_nothing(lab: Laboratory) -> None:
    objects = bodies(*[9000] * 6)
    await put_pack(lab, objects)
    await delete(lab, *[f"k{n}" for n in range(5)])
    started = asyncio.Event()
    for store in lab.stores.values():
        store.before = lambda asked: started.set() if asked == "put" else None
    settle(lab)
    step = asyncio.create_task(lab.worker("repack").step())
    await started.wait()
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)
    await lab.settled()
    assert await contents(lab, "k5") == [objects["k5"]]
    await repack(lab)
    await lab.collect()
    assert await lab.shards() == await of_packs(lab)
    assert lab.services.parts.memory._budget.held_bytes == 0


# What the tests share


def no_allowance(config: Config) -> Config:
    return with_allowance(config, 0)


def with_allowance(config: Config, requests: int) -> Config:
    return replace(config, packs=replace(config.packs, repack_requests_per_day=requests))


async def copied_again(lab: Laboratory, source: str, key: str) -> Version:
    """Copy an object. As for a client, it is looked up again if it was moved between the look and the copy."""
    for _ in range(100):
        with suppress(ExtentMissing):
            return await copied(lab, await found(lab, source), key)
    raise AssertionError(f"{source} was moved each time")


async def of_packs(lab: Laboratory) -> set[str]:
    """Return the names of all shards that the manifest knows."""
    return {
        segment.shard_name(index)
        for extent in await extents(lab)
        for segment in extent.layout.segments
        for index in range(len(segment.stores))
    }


async def copied(lab: Laboratory, source: Version, key: str) -> Version:
    attributes = source.attributes
    return await lab.services.engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey(key), attributes)


def before_exchange(lab: Laboratory, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """Let something happen once, between the reading of a pack and the exchange."""
    manifest, exchange = lab.services.manifest, lab.services.manifest.exchange_slots

    async def late(*args: object, **kwargs: object) -> object:
        manifest.exchange_slots = exchange  # type: ignore[method-assign]
        await meanwhile()
        return await exchange(*args, **kwargs)  # type: ignore[arg-type]

    manifest.exchange_slots = late  # type: ignore[assignment, method-assign]


async def rewrite_all(lab: Laboratory) -> None:
    """Store every pack anew, as if something in each had died long ago."""
    rewriter = make_slot_rewriter(lab.services.parts, lab.services.parts.throttle)
    policies = lab.services.policies
    found = [await gather_slots(lab.services.manifest, extent) for extent in await extents(lab) if extent.layout.slots]
    for bundle in bundles_of(found, lambda user: (user.policy, policies[user.policy].scheme_of(user.storage_class))):
        await rewriter.rewrite(bundle, policies[bundle.target.policy])


async def change_record(lab: Laboratory, version: Version) -> None:
    with closing(sqlite3.connect(lab.services.config.manifest.path)) as connection, connection:
        row = (msgspec.msgpack.encode(version), lab.bucket.id, version.key.encode(), -version.sequence)
        connection.execute("UPDATE version SET record = ? WHERE bucket = ? AND key = ? AND order_key = ?", row)


async def give_policy(lab: Laboratory, policy: str) -> None:
    """As a campaign of a policy that is applied."""
    await applied(lab, await planner(lab).move_policy("bucket", policy))


async def table_of(lab: Laboratory) -> dict[str, tuple[str, str, bytes]]:
    """Return what the table of the one pack there is says of each key."""
    (extent,) = await extents(lab)
    pack = await gather_slots(lab.services.manifest, extent)
    parts = lab.services.parts
    reader = PackReader(fleet=parts.fleet, threads=parts.threads, throttle=parts.throttle, reporter=parts.reporter)
    read = await reader.read(extent, pack.slots, lab.services.keyring.tenant_cipher(lab.tenant))
    return {content.key: (content.bucket, content.version_id, content.record) for content in read.contents}
