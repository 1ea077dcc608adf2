"""What clients do with objects in packs: read all or a range, copy within the pack or out of it, and make parts of uploads of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.slots import Slot
from proxy.errors import StoreUnavailable
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import Bucket, BucketName, ExtentRef, ObjectAttributes, ObjectKey, Version
from tests.fault.campaigns.test_policy import wide_too
from tests.laboratory import Laboratory, laboratory
from tests.packing import bodies, data_of, delete, extents, found, put_pack

OBJECTS = bodies(4096, 100_000, 1, 90_000, 65_536)
PLAIN = ObjectAttributes()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, adjust=wide_too) as running:
        await put_pack(running, OBJECTS)
        yield running


async def _copied(lab: Laboratory, key: str, bucket: Bucket) -> Version:
    source = await found(lab, key)
    return await lab.services.engine.copy_object(source, lab.bucket, lab.tenant, bucket, lab.tenant, ObjectKey(f"copy of {key}"), PLAIN)


async def _bucket(lab: Laboratory, policy: str) -> Bucket:
    made = Bucket(name=BucketName(f"of-{policy}"), tenant_id=lab.tenant.id, policy=policy, created_ms=lab.clock.now_ms())
    await lab.services.manifest.create_bucket(made)
    bucket = await lab.services.manifest.find_bucket(made.name)
    assert bucket is not None
    return bucket


def _puts(lab: Laboratory) -> int:
    return sum(store.calls["put"] for store in lab.stores.values())


@pytest.mark.parametrize("key", OBJECTS)
async def test_an_object_in_a_pack_is_read_whole_and_in_ranges(lab: Laboratory, key: str) -> None:
    data = OBJECTS[key]
    assert await lab.get(key) == data
    for start, length in ((0, 1), (len(data) - 1, 1), (len(data) // 2, len(data) // 3)):
        assert await lab.get(key, start, length) == data[start : start + length]


async def test_what_is_looked_up_to_be_read_needs_no_second_look(lab: Laboratory) -> None:
    readable = await lab.services.engine.find_readable(lab.bucket, ObjectKey("k1"))
    assert readable is not None
    await delete(lab, "k1")  # once it was found it may go, and is read all the same
    reading = await lab.services.engine.open_read(readable.version, lab.tenant, 5, 90_000, extents=readable.extents)
    assert await reading.whole() == OBJECTS["k1"][5:90_005]


async def test_a_copy_shares_the_slot_and_outlives_its_source(lab: Laboratory) -> None:
    before = _puts(lab)
    copy = await _copied(lab, "k1", lab.bucket)
    assert _puts(lab) == before
    assert copy.extents == (await found(lab, "k1")).extents
    await delete(lab, *OBJECTS)
    await lab.collect()
    assert await data_of(lab, copy) == OBJECTS["k1"]
    assert await lab.get("copy of k1", 10, 1000) == OBJECTS["k1"][10:1010]


async def test_a_copy_to_another_policy_moves_the_bytes_of_the_object_alone(lab: Laboratory) -> None:
    copy = await _copied(lab, "k1", await _bucket(lab, "wide"))
    await lab.settled()
    (ref,) = copy.extents
    assert ref.id != (await found(lab, "k1")).extents[0].id
    assert sum(extent.layout.size for extent in await extents(lab) if extent.id == ref.id) < 3 * len(OBJECTS["k1"])
    for store in list(lab.stores.values())[:1]:
        store.down = True
    assert await data_of(lab, copy) == OBJECTS["k1"]


@pytest.mark.parametrize(("start", "length"), [(0, 100_000), (10, 70_000)], ids=["whole", "range"])
async def test_a_part_made_of_an_object_in_a_pack_has_its_bytes_and_not_its_slot(lab: Laboratory, start: int, length: int) -> None:
    engine, source = lab.services.engine, await found(lab, "k1")
    upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("made"), PLAIN)
    part = await engine.copy_part(source, lab.bucket, lab.tenant, start, length, lab.bucket, lab.tenant, upload, 1)
    assert _is_whole(part.extents)
    await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])
    await delete(lab, *OBJECTS)
    assert await lab.get("made") == OBJECTS["k1"][start : start + length]


def _is_whole(refs: tuple[ExtentRef, ...]) -> bool:
    return bool(refs) and all(ref.offset is None for ref in refs)


@pytest.mark.parametrize(("start", "length"), [(0, 100_000), (50_000, 1), (0, 0)])
async def test_a_copy_is_given_the_memory_to_read_the_slot_from_k_others(lab: Laboratory, start: int, length: int) -> None:
    version = await found(lab, "k1")
    keys = await lab.services.engine._read_keys(version, lab.tenant, None)
    source = await lab.services.parts.reader.open_source(version, keys, start, length, run_size=1 << 20)
    extent = (await lab.services.manifest.load_extents([version.extents[0].id]))[0]
    ref = version.extents[0]
    assert ref.offset is not None
    slot = Slot(SegmentGeometry(Scheme(4, 2), extent.layout.size), ref.offset, ref.size)
    assert (source.memory_to_fill(length) >= 3 * 4 * slot.length) == (length > 0)
    await source.pieces.aclose()


@pytest.mark.parametrize("fault", ["down", "flips_bits", "truncates"])
async def test_copies_and_parts_are_right_while_two_stores_fail_or_lie(lab: Laboratory, fault: str) -> None:
    bucket = await _bucket(lab, "wide")
    for name in ("alder", "birch"):
        setattr(lab.stores[name], fault, fault != "down")
        if fault == "down":
            lab.stores[name].before = _only_reads_fail
    for key, data in OBJECTS.items():
        assert await data_of(lab, await _copied(lab, key, bucket)) == data


def _only_reads_fail(verb: str) -> None:
    if verb == "get_range":
        raise StoreUnavailable("store", "no reads, on purpose")
