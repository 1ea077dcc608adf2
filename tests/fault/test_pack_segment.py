"""One pack on its way to the stores: it lies in them as any segment, and each object opens from its slot; what is not committed goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from proxy.codec.footer import parse_footer
from proxy.codec.geometry import SegmentGeometry
from proxy.codec.label import decode_label
from proxy.codec.segment import SegmentKeys, open_segment
from proxy.codec.slots import Slot, SlotContent, arrange, compose, decode_table
from proxy.engine.memory.budget import Budget
from proxy.engine.packing.pack_segment import PackKind, PackPutter, StoredSegment, pack_geometry, pack_memory
from proxy.engine.writing.delivery import Delivery
from proxy.engine.writing.stragglers import LatePuts
from proxy.errors import IntentRevoked, ManifestUnavailable, NotEnoughShards
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import ExtentId, ObjectKey, Settlement, VersionId
from tests.laboratory import Laboratory, laboratory

SIZES = (1, 700, 4096, 4096, 100_000, 90_000, 80_000, 65_520)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


def contents(sizes: Sequence[int]) -> list[SlotContent]:
    return [SlotContent("bucket", f"k{number}", "v", b"record", os.urandom(size)) for number, size in enumerate(sizes)]


class Packing:
    """A putter as the engine has one, and its memory."""

    def __init__(self, lab: Laboratory) -> None:
        parts = lab.services.parts
        self.budget = Budget(64 * 2**20, wait_seconds=1)
        policy = lab.services.policies["standard"]
        self.kind = PackKind(policy=policy, scheme=policy.scheme, cipher=lab.services.keyring.tenant_cipher(lab.tenant))
        delivery = Delivery(
            ledger=parts.ledger, putter=parts.putter, stragglers=parts.stragglers, late=LatePuts(self.budget), tasks=parts.tasks
        )
        self.putter = PackPutter(ledger=parts.ledger, threads=parts.threads, delivery=delivery)

    async def store(self, what: Sequence[SlotContent]) -> StoredSegment:
        arrangement = arrange(what, compose([len(content.plaintext) for content in what], self.kind.scheme.k))
        memory = pack_memory(pack_geometry(self.kind.scheme, arrangement))
        return await self.putter.store(self.kind, what, arrangement, await self.budget.acquire(memory, owner="t"))

    async def store_alone(self, what: SlotContent) -> StoredSegment:
        return await self.putter.store_alone(self.kind, what, await self.budget.acquire(1_000_000, owner="t"))


async def commit(lab: Laboratory, packing: Packing, stored: StoredSegment) -> ExtentId:
    """Let one version use all of it: that is enough to keep it."""

    async def as_version(settlements: Sequence[Settlement]) -> tuple[ExtentId, ExtentId]:
        draft = VersionDraft(bucket_id=lab.bucket.id, key=ObjectKey("all"), id=VersionId("v"), modified_ms=1, new_layouts=(stored.layout,))
        version = await lab.services.manifest.commit_version(draft, settlements=settlements)
        return version.extents[0].id, version.extents[0].id

    return await packing.putter.commit(stored, as_version)


def keys_of(packing: Packing, stored: StoredSegment) -> SegmentKeys:
    layout, (segment,) = stored.layout, stored.layout.segments
    data_key = packing.kind.cipher.unwrap(layout.wrapped_key)
    geometry = SegmentGeometry(packing.kind.scheme, segment.size)
    return SegmentKeys(geometry, segment_id=segment.id, data_key=data_key, tenant_key_id=layout.tenant_key_id)


async def shards_of(lab: Laboratory, stored: StoredSegment) -> list[bytes]:
    (segment,) = stored.layout.segments
    return [bytes(await lab.stores[store].inner.get(segment.shard_name(index))) for index, store in enumerate(segment.stores)]


async def test_every_object_opens_from_its_own_shard_and_from_the_whole(lab: Laboratory) -> None:
    packing, what = Packing(lab), contents(SIZES)
    stored = await packing.store(what)
    await commit(lab, packing, stored)
    await lab.settled()
    keys, shards = keys_of(packing, stored), await shards_of(lab, stored)
    assert stored.layout.slots == len(what)
    whole = open_segment(keys, dict(enumerate(shards[2:], 2)))
    for number, content in enumerate(what):
        slot = Slot(keys.geometry, stored.offsets[number], len(content.plaintext))
        assert slot.open(keys, shards[slot.column][slot.start : slot.start + slot.length]) == content.plaintext
        assert slot.extract(keys, whole) == content.plaintext


async def test_its_label_leads_to_the_records_of_all(lab: Laboratory) -> None:
    packing, what = Packing(lab), contents(SIZES)
    stored = await packing.store(what)
    await commit(lab, packing, stored)
    await lab.settled()
    keys, shards = keys_of(packing, stored), await shards_of(lab, stored)
    (segment,) = stored.layout.segments
    assert segment.footer_size < 1000, "the records are not in it"
    footer = parse_footer(shards[0], name=segment.shard_name(0), size_bytes=len(shards[0]))
    label = decode_label(keys.label_cipher().open(footer.sealed_label))
    assert (label.bucket, label.key) == ("", "")
    table = decode_table(
        Slot(keys.geometry, label.table_offset, label.table_size).extract(keys, open_segment(keys, dict(enumerate(shards))))
    )
    assert {entry.key: (entry.bucket, entry.version_id, entry.record, entry.offset) for entry in table} == {
        content.key: ("bucket", "v", b"record", stored.offsets[number]) for number, content in enumerate(what)
    }


async def test_an_object_alone_is_an_ordinary_segment(lab: Laboratory) -> None:
    packing, (content,) = Packing(lab), contents([100_000])
    stored = await packing.store_alone(content)
    await commit(lab, packing, stored)
    assert (stored.layout.slots, stored.layout.size, stored.offsets) == (0, 100_000, {})
    assert await lab.get("all", 0, 100_000) == content.plaintext


async def test_what_nobody_uses_in_the_end_is_discarded(lab: Laboratory) -> None:
    packing = Packing(lab)

    async def by_nobody(settlements: Sequence[Settlement]) -> tuple[None, str]:
        return None, "told"

    assert await packing.putter.commit(await packing.store(contents(SIZES)), by_nobody) == "told"
    await lab.collect()
    assert await lab.shards() == set()
    assert packing.budget.held_bytes == 0


async def test_a_commit_that_fails_leaves_nothing(lab: Laboratory) -> None:
    packing = Packing(lab)

    async def refused(settlements: Sequence[Settlement]) -> tuple[None, None]:
        raise IntentRevoked("on purpose")

    with pytest.raises(IntentRevoked, match="on purpose"):
        await packing.putter.commit(await packing.store(contents(SIZES)), refused)
    await lab.collect()
    assert await lab.shards() == set()


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:3]], ids=["in a thread", "at once"])
async def test_too_few_stores_store_nothing_for_good_and_hold_no_memory(lab: Laboratory, sizes: Sequence[int]) -> None:
    packing = Packing(lab)
    for store in list(lab.stores.values())[:4]:
        store.full = True
    with pytest.raises(NotEnoughShards):
        await packing.store(contents(sizes))
    await lab.collect()
    assert await lab.shards() == set()
    assert packing.budget.held_bytes == 0


async def test_without_a_leased_id_nothing_begins_and_no_memory_is_held(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    packing = Packing(lab)

    async def locked() -> None:
        raise ManifestUnavailable("locked on purpose")

    monkeypatch.setattr(lab.services.parts.ledger, "take", locked)
    with pytest.raises(ManifestUnavailable, match="on purpose"):
        await packing.store(contents(SIZES))
    assert packing.budget.held_bytes == 0
    assert await lab.shards() == set()


async def test_a_cancelled_commit_runs_to_its_end(lab: Laboratory) -> None:
    packing = Packing(lab)
    stored = await packing.store(contents(SIZES))
    waiting = asyncio.create_task(commit(lab, packing, stored))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await lab.settled()
    await lab.collect()
    (segment,) = stored.layout.segments
    assert await lab.shards() == {segment.shard_name(index) for index in range(6)}


async def test_a_late_put_holds_its_part_of_the_memory_until_it_ends(lab: Laboratory) -> None:
    packing, gate = Packing(lab), asyncio.Event()
    slow = lab.stores["fir"]
    put = slow.inner.put

    async def late(*args: object, **options: object) -> object:
        await gate.wait()
        return await put(*args, **options)  # type: ignore[arg-type]

    slow.inner.put = late  # type: ignore[method-assign, assignment]
    stored = await packing.store(contents(SIZES))
    assert packing.budget.held_bytes > 0
    await commit(lab, packing, stored)
    gate.set()
    await lab.settled()
    assert packing.budget.held_bytes == 0
    assert len(await lab.shards()) == 6
    extent_id = (await lab.services.manifest.walk_extents(after=ExtentId(0), limit=1))[0]
    assert extent_id.layout.segments[0].missing == (), "its arrival is on record"
