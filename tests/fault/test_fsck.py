"""fsck finds exactly the difference between stores and manifest, and deletes only what two passes have found to be nobody's."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.format import copy_prefix, shard_name
from proxy.engine.scrub import comparison
from proxy.engine.scrub.comparison import Comparison
from proxy.engine.scrub.once import Named, compare_once
from proxy.engine.scrub.orphans import Judged, Quarantine
from proxy.engine.scrub.passes import PassPosition
from proxy.errors import ManifestFenced
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import GarbageSegment, ObjectKey, SegmentId, Settlement, VersionId
from proxy.stores.protocol import ShardName
from proxy.upkeep import comparing
from tests.laboratory import Laboratory, laboratory, stored
from tests.scrubbing import damage, hide, read, shards_of, spoil

DAY_SECONDS = 24 * 3600
DAYS = 7.0


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as running:
        for number in range(3):
            await running.put(f"k{number}", os.urandom(5000 + number))
        yield running


class Checked:
    """One pass of fsck: orphans by store and name, findings, and what became of the orphans."""

    def __init__(self) -> None:
        self.orphans: set[tuple[str, str]] = set()
        self.named = Named()
        self.position: PassPosition | None = None
        self.judged: Judged | None = None

    @property
    def found(self) -> set[tuple[str, str, str]]:
        return {(item.kind, item.shard.store, item.shard.name) for item in self.named.findings}


async def fsck(lab: Laboratory, *, apply: bool = False) -> Checked:
    checked, services = Checked(), lab.services
    quarantine = Quarantine(services.manifest, lab.clock, services.stores.keys(), days=DAYS)

    async def after_slice(compared: Comparison, position: PassPosition) -> None:
        async for page in compared.orphans():
            checked.orphans |= {(listed.store, listed.name) for listed in page}
        if apply:
            await quarantine.after_slice(compared, position)

    tools = comparing(services.parts, checked.named)
    checked.position = await compare_once(tools, lambda _: None, everything=True, after_slice=after_slice)
    if apply:
        checked.judged = await quarantine.judge(checked.position)
    return checked


async def put_orphan(lab: Laboratory, store: str = "elm") -> tuple[str, str]:
    name = ShardName(shard_name(secrets.token_bytes(16), 1))
    await lab.stores[store].put(name, [b"orphan"])
    return store, name


async def test_a_store_and_a_manifest_that_agree_have_no_difference(lab: Laboratory) -> None:
    checked = await fsck(lab)
    assert (checked.orphans, checked.found) == (set(), set())
    assert checked.position is not None
    assert checked.position.compared.shards == 18
    assert checked.position.compared.foreign == {}


async def test_orphans_missing_and_truncated_shards_and_what_is_not_ours_are_told_apart(lab: Laboratory) -> None:
    shards = await shards_of(lab)
    orphan = await put_orphan(lab)
    await lab.stores[shards[2].store].delete(shards[2].name)
    await spoil(lab, shards[9], (await read(lab, shards[9]))[:-300])
    await lab.stores["fir"].put(ShardName("notes/todo.txt"), [b"mine"])
    checked = await fsck(lab)
    assert checked.orphans == {orphan}
    assert checked.found == {("missing", shards[2].store, shards[2].name), ("truncated", shards[9].store, shards[9].name)}
    assert checked.position is not None
    assert checked.position.compared.foreign_examples == {"fir": ["notes/todo.txt"]}
    assert await damage(lab) == {}, "a dry run changes nothing"


async def test_a_shard_in_another_store_than_its_own_is_an_orphan_there(lab: Laboratory) -> None:
    shard = (await shards_of(lab))[0]
    other = next(name for name in lab.stores if name != shard.store)
    await lab.stores[other].put(shard.name, [await read(lab, shard)])
    assert (await fsck(lab)).orphans == {(other, shard.name)}


async def test_strays_are_on_record_and_no_orphans(lab: Laboratory) -> None:
    extent, segment = await stored(lab, "k0")
    with_strays = replace(extent, layout=replace(extent.layout, segments=(replace(segment, strays=True, drawn=1),)))
    stray = ShardName(shard_name(segment.id, 0, 1))
    other = next(name for name in lab.stores if name != segment.stores[0])
    await lab.stores[other].put(stray, [b"x"])
    assert (await fsck(lab)).orphans == {(other, stray)}
    await lab.services.manifest.correct_extents([with_strays], now_ms=lab.clock.now_ms())
    checked = await fsck(lab, apply=True)
    assert (checked.orphans, checked.found) == (set(), set())
    await lab.services.manifest.settle_strays(extent.id, segment.id)
    assert (await fsck(lab)).orphans == {(other, stray)}, "one that comes after they were searched for is found all the same"


async def test_an_orphan_is_deleted_only_by_a_later_pass_and_only_when_its_time_has_come(lab: Laboratory) -> None:
    orphan = await put_orphan(lab)
    first = await fsck(lab, apply=True)
    assert first.judged == Judged(condemned=0, forgotten=0, waiting=1)
    lab.clock.advance(DAYS * DAY_SECONDS - 10)
    assert (await fsck(lab, apply=True)).judged == Judged(condemned=0, forgotten=0, waiting=1)
    lab.clock.advance(20)
    assert (await fsck(lab, apply=True)).judged == Judged(condemned=1, forgotten=0, waiting=0)
    await lab.collect()
    assert orphan[1] not in await lab.shards()
    assert len(await lab.shards()) == 18
    assert (await fsck(lab)).orphans == set()


@pytest.mark.parametrize("seconds", [0, 1, -20 * DAY_SECONDS])
async def test_the_pass_that_has_found_an_orphan_never_condemns_it_whatever_the_clock_does(lab: Laboratory, seconds: float) -> None:
    await put_orphan(lab)
    quarantine = Quarantine(lab.services.manifest, lab.clock, lab.services.stores.keys(), days=0 if seconds >= 0 else DAYS)
    between(lab, "elm", lambda: asyncio.sleep(0, lab.clock.advance(seconds)))
    tools = comparing(lab.services.parts, Named())
    position = await compare_once(tools, lambda _: None, after_slice=quarantine.after_slice)
    assert (await quarantine.judge(position)).condemned == 0
    lab.clock.advance(abs(seconds) + 1)
    position = await compare_once(tools, lambda _: None, after_slice=quarantine.after_slice)
    assert (await quarantine.judge(position)).condemned == 1


async def test_while_one_store_does_not_list_to_its_end_nothing_is_condemned_in_any(lab: Laboratory) -> None:
    orphan = await put_orphan(lab)
    await fsck(lab, apply=True)
    lab.clock.advance(2 * DAYS * DAY_SECONDS)
    lab.stores["fir"].down = True
    checked = await fsck(lab, apply=True)
    assert checked.judged == Judged(condemned=0, forgotten=0, waiting=1)
    assert checked.found == set()
    lab.stores["fir"].down = False
    lab.clock.advance(10)
    assert (await fsck(lab, apply=True)).judged == Judged(condemned=1, forgotten=0, waiting=0)
    assert orphan[0] == "elm"


async def test_an_orphan_that_is_not_seen_again_is_forgotten_and_its_time_begins_anew(lab: Laboratory) -> None:
    store, name = await put_orphan(lab)
    await fsck(lab, apply=True)
    hide(lab, store, {ShardName(name)})
    assert (await fsck(lab, apply=True)).judged == Judged(condemned=0, forgotten=1, waiting=0)
    del lab.stores[store].list  # type: ignore[attr-defined]  # of the instance: it lists as ever
    lab.clock.advance(2 * DAYS * DAY_SECONDS)
    assert (await fsck(lab, apply=True)).judged == Judged(condemned=0, forgotten=0, waiting=1)


async def test_a_fenced_manifest_puts_nothing_into_quarantine_and_deletes_nothing(lab: Laboratory) -> None:
    await put_orphan(lab)
    await fsck(lab, apply=True)
    lab.clock.advance(2 * DAYS * DAY_SECONDS)
    await lab.services.manifest.fence("it is an older copy")
    with pytest.raises(ManifestFenced):
        await fsck(lab, apply=True)
    assert (await fsck(lab)).orphans, "a dry run only reads"
    assert len(await lab.services.manifest.walk_quarantine(after=None, limit=10)) == 1


async def test_orphans_in_a_store_that_another_manifest_uses_are_left_alone(lab: Laboratory) -> None:
    await put_orphan(lab, "elm")
    ours = await put_orphan(lab, "fir")
    await lab.stores["elm"].put(ShardName(f"epoch/{1:020d}-{'ab' * 16}-{'cd' * 16}-{'ef' * 16}"), [b"another's"])
    checked = await fsck(lab, apply=True)
    assert checked.position is not None
    assert checked.position.compared.shared == ["elm"]
    rows = await lab.services.manifest.walk_quarantine(after=None, limit=10)
    assert [(row.orphan.store, row.orphan.name) for row in rows] == [ours]


async def test_markers_and_the_journal_are_known(lab: Laboratory) -> None:
    identity = (await lab.services.manifest.find_epoch()).identity
    for prefix in ("j/", "c/", "r/"):
        await lab.stores["elm"].put(ShardName(f"{copy_prefix(prefix, identity, 7)}{'ab' * 16}-01"), [b"x"])
    checked = await fsck(lab)
    assert checked.position is not None
    assert (checked.orphans, checked.position.compared.foreign, checked.position.compared.shared) == (set(), {}, [])


async def test_a_shard_on_record_as_missing_is_explained_whether_it_has_come_or_not(lab: Laboratory) -> None:
    lab.stores["elm"].down = True
    await lab.put("short", os.urandom(5000))
    lab.stores["elm"].down = False
    late = next(shard for shard in await shards_of(lab) if shard.index in shard.segment.missing)
    before = await fsck(lab)
    await lab.stores[late.store].put(late.name, [b"late"])
    after = await fsck(lab)
    assert (before.orphans, before.found, after.orphans, after.found) == (set(), set(), set(), set())


# What happens between the steps of a comparison


def between(lab: Laboratory, store: str, act) -> None:
    """Do something right after a store has listed all its names."""
    faulty = lab.stores[store]
    whole = faulty.list
    done = False

    async def listing(prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        nonlocal done
        async for entry in whole(prefix):
            yield entry
        if not done:
            done = True
            await act()

    faulty.list = listing  # type: ignore[method-assign]


async def test_what_is_written_after_the_listing_is_neither_missing_nor_an_orphan(lab: Laboratory) -> None:
    between(lab, "elm", lambda: lab.put("late", os.urandom(5000)))
    checked = await fsck(lab)
    assert (checked.orphans, checked.found) == (set(), set())
    assert sum(store.calls["get_range"] for store in lab.stores.values()) == 0, "nobody asks for what is newer than the listings"


async def test_what_was_listed_while_it_was_written_and_committed_afterwards_is_no_orphan(lab: Laboratory) -> None:
    """Its lease is settled by the time that leases are read; its extent is newer than the pass."""
    manifest = lab.services.manifest
    commit = manifest.commit_version
    listed = []

    async def slowly(draft, **options):
        checked = await fsck(lab)  # its shards are in the stores, and it is not committed
        listed.append(checked.orphans)
        return await commit(draft, **options)

    manifest.commit_version = slowly  # type: ignore[method-assign]
    await lab.put("slow", os.urandom(5000))
    assert listed == [set()]


@pytest.mark.parametrize("by_name", [True, False])
async def test_what_is_deleted_while_the_stores_list_is_no_orphan(lab: Laboratory, by_name: bool) -> None:
    """It was listed, and is neither in the store nor in the manifest when the garbage is read behind the listings."""
    manifest = lab.services.manifest
    if by_name:
        await manifest.delete_version(lab.bucket.id, ObjectKey("k0"), VersionId("null"), now_ms=lab.clock.now_ms())
    else:
        leased = await manifest.lease_segments(owner="w", segment_ids=[SegmentId(b"w" * 16)], expires_ms=2**60)
        await lab.stores["elm"].put(ShardName(shard_name(b"w" * 16, 1)), [b"of a write that failed"])
        await manifest.settle(
            [Settlement(intent_id=leased.id, mask=1)], [GarbageSegment(id=SegmentId(b"w" * 16))], now_ms=lab.clock.now_ms()
        )
    lab.clock.advance(1)
    between(lab, "elm", lab.collect)
    checked = await fsck(lab)
    assert await manifest.count_garbage() == {}
    assert (checked.orphans, checked.found) == (set(), set())


@pytest.mark.parametrize(
    ("step", "nth"),
    [
        ("walk_garbage", 1),
        ("walk_intents", 1),
        ("walk_draws", 1),
        ("walk_garbage", 2),
        ("walk_extents", 1),
        ("walk_extents", 2),
        ("walk_garbage", 3),
    ],
)
@pytest.mark.parametrize("what", ["commit", "delete", "move"])
async def test_nothing_becomes_an_orphan_whatever_happens_before_whatever_step(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch, what: str, step: str, nth: int
) -> None:
    monkeypatch.setattr(comparison, "EXTENTS", 1)
    manifest = lab.services.manifest
    shard = (await shards_of(lab))[0]
    leased = await manifest.lease_segments(owner="w", segment_ids=[SegmentId(b"w" * 16)], expires_ms=2**60)
    if what == "commit":
        stores = list(lab.stores)[:6]
        for index, store in enumerate(stores):
            await lab.stores[store].put(ShardName(shard_name(b"w" * 16, index)), [b"x" * 1682])
    drawn = await manifest.draw_generation(shard.extent.id, shard.segment.id, {0: shard.store}, expires_ms=2**60)
    assert drawn is not None
    newer = ShardName(shard_name(shard.segment.id, 0, drawn.drawn))
    await lab.stores[shard.store].put(newer, [await read(lab, shard)])

    async def act() -> None:
        if what == "commit":
            extent = shard.extent.layout
            layout = extent.__class__(
                size=5000, policy=extent.policy, k=4, m=2, tenant_key_id=extent.tenant_key_id, wrapped_key=extent.wrapped_key,
                segments=(shard.segment.__class__(id=SegmentId(b"w" * 16), size=5000, stores=tuple(stores)),),
            )  # fmt: skip
            await manifest.commit_version(
                VersionDraft(bucket_id=lab.bucket.id, key="w", id="v", size=5000, modified_ms=0, new_layouts=(layout,)),  # type: ignore[arg-type]
                settlements=[Settlement(intent_id=leased.id, mask=1)],
            )
        elif what == "delete":
            await manifest.delete_version(lab.bucket.id, "k0", "null", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
        else:
            assert await manifest.replace_shards(shard.extent.id, shard.segment.id, {0: shard.store}, drawn.drawn, now_ms=0)

    asked, calls = getattr(manifest, step), 0

    async def first_act(*args, **options):
        nonlocal calls
        calls += 1
        if calls == nth:
            await act()
        return await asked(*args, **options)

    setattr(manifest, step, first_act)
    checked = await fsck(lab)
    assert calls >= nth
    assert checked.orphans == set()
    assert checked.found == set()
