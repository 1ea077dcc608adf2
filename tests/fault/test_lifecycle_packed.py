"""Lifecycle rules over packs: objects move to other classes slot by slot, many at once, and expire like any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.manifest.records import ObjectKey, Retention
from tests.fault.campaigns.test_policy import versions
from tests.fault.test_lifecycle import DAY, rule, run, set_rules
from tests.laboratory import Laboratory, laboratory
from tests.packing import bodies, data_of, delete, extents, found, packs, put_pack, repack

OBJECTS = bodies(*[5000] * 20)
ANY_SIZE = {"ObjectSizeGreaterThan": 0}  # without it, rules of S3 leave what is below 128 KiB where it is
OTHER_SCHEME = rule(Filter=ANY_SIZE, Transitions=[{"Days": 30, "StorageClass": "ONEZONE_IA"}])
SAME_SCHEME = rule(Filter=ANY_SIZE, Transitions=[{"Days": 30, "StorageClass": "GLACIER_IR"}])


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as running:
        yield running


async def contents(lab: Laboratory, *keys: str) -> list[bytes]:
    return [await data_of(lab, await found(lab, key)) for key in keys]


async def schemes(lab: Laboratory) -> dict[str, tuple[int, int]]:
    """Return by key the scheme that an object is stored under."""
    known = {extent.id: (extent.layout.k, extent.layout.m) for extent in await extents(lab)}
    return {version.key: known[version.extents[0].id] for version in await versions(lab) if version.extents}


async def test_objects_that_go_to_another_scheme_become_one_pack_of_it(lab: Laboratory) -> None:
    for start in range(0, 20, 5):
        await put_pack(lab, dict(list(OBJECTS.items())[start : start + 5]))
    before = await versions(lab)
    await set_rules(lab, OTHER_SCHEME)
    lab.clock.advance(31 * DAY)
    assert (await run(lab)).trouble == ""
    after = await versions(lab)
    assert {version.attributes.storage_class for version in after} == {"ONEZONE_IA"}
    assert [replace(version, extents=(), attributes=before[0].attributes) for version in after] == [
        replace(version, extents=()) for version in before
    ]
    assert set((await schemes(lab)).values()) == {(3, 2)}
    assert [pack.slots for pack in await packs(lab)] == [20]
    assert await contents(lab, *OBJECTS) == list(OBJECTS.values())
    await lab.collect()
    assert len(await lab.shards()) == 5


async def test_a_class_of_the_same_scheme_moves_nothing(lab: Laboratory) -> None:
    await put_pack(lab, OBJECTS)
    before = await packs(lab)
    await set_rules(lab, SAME_SCHEME)
    lab.clock.advance(31 * DAY)
    await run(lab)
    assert {version.attributes.storage_class for version in await versions(lab)} == {"GLACIER_IR"}
    assert await packs(lab) == before


async def test_only_what_is_due_leaves_a_pack(lab: Laboratory) -> None:
    await put_pack(lab, OBJECTS)
    await set_rules(lab, {**OTHER_SCHEME, "Filter": {"And": {"Prefix": "k1", **ANY_SIZE}}})
    lab.clock.advance(31 * DAY)
    await run(lab)
    moved = {key for key in OBJECTS if key.startswith("k1")}
    assert {key for key, scheme in (await schemes(lab)).items() if scheme == (3, 2)} == moved
    assert {version.key for version in await versions(lab) if version.attributes.storage_class == "ONEZONE_IA"} == moved
    assert await contents(lab, *OBJECTS) == list(OBJECTS.values())


async def test_a_locked_version_moves_and_stays_locked(lab: Laboratory) -> None:
    await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
    lab.bucket = replace(lab.bucket, versioning="Enabled")
    retention = Retention(mode="COMPLIANCE", until_ms=lab.clock.now_ms() + 90 * DAY * 1000)
    (version, *_) = await put_pack(lab, OBJECTS)
    await put_pack(lab, OBJECTS, attributes=replace(version.attributes, retention=retention))
    await set_rules(lab, OTHER_SCHEME)
    lab.clock.advance(31 * DAY)
    await run(lab)
    latest = await found(lab, "k0")
    assert (latest.attributes.retention, latest.attributes.storage_class) == (retention, "ONEZONE_IA")
    assert await contents(lab, "k0") == [OBJECTS["k0"]]


async def test_when_stores_take_nothing_all_keep_class_and_place_and_the_next_pass_moves_them(lab: Laboratory) -> None:
    await put_pack(lab, OBJECTS)
    before = await versions(lab)
    await set_rules(lab, OTHER_SCHEME)
    lab.clock.advance(31 * DAY)
    for store in lab.stores.values():
        store.full = True
    assert (await run(lab)).trouble
    assert await versions(lab) == before
    for store in lab.stores.values():
        store.full = False
    lab.clock.advance(DAY)
    assert (await run(lab)).trouble == ""
    assert set((await schemes(lab)).values()) == {(3, 2)}


async def test_what_is_deleted_while_it_moves_stays_deleted(lab: Laboratory) -> None:
    await put_pack(lab, OBJECTS)
    await set_rules(lab, OTHER_SCHEME)
    lab.clock.advance(31 * DAY)
    manifest, exchange = lab.services.manifest, lab.services.manifest.exchange_slots

    async def late(*args: object, **kwargs: object) -> object:
        manifest.exchange_slots = exchange  # type: ignore[method-assign]
        await delete(lab, "k3")
        return await exchange(*args, **kwargs)  # type: ignore[arg-type]

    manifest.exchange_slots = late  # type: ignore[assignment, method-assign]
    await run(lab)
    assert await manifest.find_version(lab.bucket.id, ObjectKey("k3")) is None
    kept = [key for key in OBJECTS if key != "k3"]
    assert await contents(lab, *kept) == [OBJECTS[key] for key in kept]


async def test_expired_objects_leave_their_packs_dead_and_then_gone(lab: Laboratory) -> None:
    await put_pack(lab, OBJECTS)
    await set_rules(lab, rule(Expiration={"Days": 3}, Filter={"Prefix": "k1"}))
    lab.clock.advance(5 * DAY)
    await run(lab)
    (pack,) = await packs(lab)
    assert (pack.slots, pack.dead_since_ms) == (9, lab.clock.now_ms())
    await repack(lab)
    assert [(pack.slots, pack.dead) for pack in await packs(lab)] == [(9, 0)]
