"""The contract of a manifest about damage and moving shards, run on every adapter."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from proxy.codec.format import shard_name
from proxy.manifest.damage import WHOLE_SEGMENT, Damage, DamageKind, Leftover, Losses, Repair
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.plans.damage import ARRIVES_WITHIN_MS, DRAW_KEPT_MS, LONGEST_DRAW_MS, LONGEST_WAIT_MS
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, Garbage, Layout, Segment
from proxy.manifest.sqlite import damage as ledger
from proxy.manifest.sqlite.layouts import find_layout
from proxy.manifest.sqlite.rows import Connection
from tests.contract.conftest import NOW

BUCKET = 1
STORES = ("s0", "s1", "s2", "s3", "s4")


def segment_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def commit(manifest: Manifest, *numbers: int, key: str = "", **fields: object) -> int:
    """Commit a version of one extent with these segments, 3+2 each; return the extent's id."""
    segments = tuple(Segment(**{"id": segment_id(number), "size": 10, "stores": STORES, **fields}) for number in numbers)
    layout = Layout(size=10 * len(segments), k=3, m=2, tenant_key_id="t", wrapped_key=b"k", segments=segments, policy="p")
    version = await manifest.commit_version(
        VersionDraft(bucket_id=BUCKET, key=key or str(numbers), id="drawn", modified_ms=NOW, new_layouts=(layout,))
    )
    return version.extents[0].id


async def segment(manifest: Manifest, extent: int, number: int) -> Segment:
    (found,) = await manifest.load_extents([extent])
    return next(item for item in found.layout.segments if item.id == segment_id(number))


async def delete(manifest: Manifest, key: str) -> None:
    await manifest.delete_version(BUCKET, key, "null", now_ms=NOW)


def damage(extent: int, number: int, index: int, kind: DamageKind = "forged", **fields: object) -> Damage:
    return Damage(
        **{"extent_id": extent, "segment_id": segment_id(number), "shard_index": index, "kind": kind, "store": STORES[index], **fields}
    )


async def due(manifest: Manifest, now_ms: int = NOW + ARRIVES_WITHIN_MS, limit: int = 10) -> list[tuple[int, int]]:
    """Return the number and the redundancy of each segment that is due."""
    return [(int.from_bytes(row.segment_id, "big"), row.redundancy) for row in await manifest.due_repairs(now_ms=now_ms, limit=limit)]


async def only_repair(manifest: Manifest, now_ms: int) -> Repair:
    (row,) = await manifest.due_repairs(now_ms=now_ms, limit=10)
    return row


async def queued(manifest: Manifest) -> list[Garbage]:
    await manifest.split_garbage(before_ms=NOW * 2, limit=1000)
    stores = await manifest.count_garbage()
    return [row for store in stores for row in await manifest.due_garbage(store, before_ms=NOW * 2, limit=1000)]


async def queued_names(manifest: Manifest) -> set[tuple[str, str]]:
    return {(row.store, row.name) for row in await queued(manifest)}


async def kinds(manifest: Manifest, extent: int, number: int) -> dict[int, str]:
    found = await manifest.find_damaged(extent, segment_id(number))
    assert found is not None
    return {item.shard_index: item.kind for item in found.damage}


# Damage


async def test_what_is_known_already_is_told_apart_without_a_change(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, 2)
    known = damage(extent, 1, 0, "misplaced")
    await manifest.report_damage([known], now_ms=NOW)
    worse, elsewhere, newer = (
        damage(extent, 1, 0, "missing"),
        damage(extent, 2, 0, "misplaced"),
        damage(extent, 1, 0, "misplaced", generation=1),
    )
    assert await manifest.unknown_damage([known, worse, elsewhere, newer]) == (worse, elsewhere, newer)
    assert await manifest.unknown_damage([worse]) == (worse,), "to ask is no report"
    await manifest.report_damage([worse], now_ms=NOW)
    assert await manifest.unknown_damage([known, worse]) == ()


async def test_what_a_commit_could_not_store_is_damage_and_due_once_it_had_time_to_arrive(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, missing=(2, 4))
    await commit(manifest, 2)
    assert await kinds(manifest, extent, 1) == {2: "missing", 4: "missing"}
    assert await due(manifest, NOW + ARRIVES_WITHIN_MS - 1) == []
    assert await due(manifest) == [(1, 0)]


async def test_strays_of_a_commit_are_damage_of_the_whole_segment_until_they_are_settled(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, strays=True)
    assert await kinds(manifest, extent, 1) == {WHOLE_SEGMENT: "stray"}
    assert await due(manifest) == [(1, 2)]
    await manifest.settle_strays(extent, segment_id(1))
    assert await due(manifest) == []
    assert (await segment(manifest, extent, 1)).strays is False


async def test_a_report_is_on_record_once_however_often_it_is_made(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    assert await manifest.report_damage([damage(extent, 1, 0), damage(extent, 1, 1)], now_ms=NOW) == 2
    assert await manifest.report_damage([damage(extent, 1, 0), damage(extent, 1, 0)], now_ms=NOW + 5) == 0
    assert await due(manifest, NOW) == [(1, 0)]
    found = await manifest.count_damage()
    assert (found.by_store, found.by_redundancy, found.oldest_ms) == ({("s0", "forged"): 1, ("s1", "forged"): 1}, {0: 1}, NOW)


async def test_a_loss_takes_the_place_of_what_is_none_and_not_the_other_way_round(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    await manifest.report_damage([damage(extent, 1, 0, "misplaced")], now_ms=NOW)
    assert await due(manifest) == [(1, 2)]
    await manifest.report_damage([damage(extent, 1, 0, "truncated")], now_ms=NOW)
    await manifest.report_damage([damage(extent, 1, 0, "clumped")], now_ms=NOW)
    assert await kinds(manifest, extent, 1) == {0: "truncated"}
    assert await due(manifest) == [(1, 1)]


async def test_reports_of_what_is_not_as_it_was_read_are_ignored(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    stale = [
        damage(extent, 1, 0, store="s1"),
        damage(extent, 1, 0, generation=1),
        damage(extent, 2, 0),
        damage(extent + 1, 1, 0),
        damage(extent, 1, 0, shard_index=5),
    ]
    assert await manifest.report_damage(stale, now_ms=NOW) == 0
    assert await due(manifest) == []


async def test_reads_go_on_asking_for_a_shard_that_somebody_says_is_missing(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    await manifest.report_damage([damage(extent, 1, 0, "missing")], now_ms=NOW)
    assert (await segment(manifest, extent, 1)).missing == ()


async def test_the_queue_begins_with_what_can_lose_least_and_of_that_with_the_oldest(manifest: Manifest) -> None:
    extents = {number: await commit(manifest, number) for number in range(1, 6)}
    await manifest.report_damage([damage(extents[1], 1, 0, "misplaced")], now_ms=NOW - 9)
    await manifest.report_damage([damage(extents[2], 2, 0)], now_ms=NOW)
    await manifest.report_damage([damage(extents[3], 3, index) for index in range(3)], now_ms=NOW)
    await manifest.report_damage([damage(extents[4], 4, 0)], now_ms=NOW - 1)
    await manifest.report_damage([damage(extents[5], 5, 0)], now_ms=NOW + 1)
    assert await due(manifest, NOW) == [(3, -1), (4, 1), (2, 1), (1, 2)]
    assert await due(manifest, NOW, limit=2) == [(3, -1), (4, 1)]


async def test_a_repair_that_is_put_off_waits_unless_more_is_lost(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    await manifest.report_damage([damage(extent, 1, 0)], now_ms=NOW)
    await manifest.put_off_repair(await only_repair(manifest, NOW), due_ms=NOW + 100)
    assert await due(manifest, NOW + 99) == []
    ((row,)) = await manifest.due_repairs(now_ms=NOW + 100, limit=1)
    assert (row.failures, row.since_ms) == (1, NOW)
    await manifest.report_damage([damage(extent, 1, 1)], now_ms=NOW + 50)
    assert await due(manifest, NOW + 50) == [(1, 0)]


async def test_what_is_lost_while_a_repair_fails_does_not_wait_with_it(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    await manifest.report_damage([damage(extent, 1, 0)], now_ms=NOW)
    row = await only_repair(manifest, NOW)
    await manifest.report_damage([damage(extent, 1, 1)], now_ms=NOW + 1)
    await manifest.put_off_repair(row, due_ms=NOW + 3_600_000)
    assert await due(manifest, NOW + 1) == [(1, 0)]


async def test_a_store_that_spoils_whatever_it_gets_is_not_given_the_same_again_and_again(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    waits = []
    for generation in range(1, 13):
        assert await move(manifest, extent, 1, {0: STORES[0]})
        await manifest.report_damage([damage(extent, 1, 0, generation=generation)], now_ms=NOW)
        (row,) = await manifest.due_repairs(now_ms=NOW + LONGEST_WAIT_MS, limit=2)
        waits.append((row.due_ms - NOW) // 60_000)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    await manifest.report_damage([damage(extent, 1, 1)], now_ms=NOW)
    assert await due(manifest, NOW) == [(1, 0)], "it may lose no other: that does not wait"


async def test_all_of_a_large_extent_is_reported_with_one_look_at_it(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    extent = await commit(manifest, *range(1, 301))
    looks: list[int] = []

    def counted(connection: Connection, extent_id: ExtentId) -> Layout | None:
        looks.append(extent_id)
        return find_layout(connection, extent_id)

    monkeypatch.setattr(ledger, "find_layout", counted)  # what it costs is how often a layout of thousands of segments is decoded
    assert await manifest.report_damage([damage(extent, number, 0, "missing") for number in range(1, 301)], now_ms=NOW) == 300
    assert looks == [extent]


async def test_large_extents_come_fewer_at_a_time_and_all_of_them(manifest: Manifest) -> None:
    written = [await commit(manifest, *range(start, start + 3000)) for start in range(1, 15_000, 3000)]
    pages, after = [], 0
    while page := await manifest.walk_extents(after=after, limit=100):
        pages.append(len(page))
        after = page[-1].id
    assert sum(pages) == len(written)
    assert max(pages) < len(written)


async def test_a_repair_that_a_clock_put_off_by_more_than_anybody_does_is_due(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    await manifest.report_damage([damage(extent, 1, 0)], now_ms=NOW)
    await manifest.put_off_repair(await only_repair(manifest, NOW), due_ms=NOW + 1000)
    assert await due(manifest, NOW + 1000 - LONGEST_WAIT_MS) == [(1, 1)]


async def test_damage_that_turned_out_well_is_forgotten(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, missing=(2, 3))
    await manifest.report_damage([damage(extent, 1, 0)], now_ms=NOW)
    await manifest.settle_damage([damage(extent, 1, 2, "missing")])
    assert (await segment(manifest, extent, 1)).missing == (3,)
    assert await due(manifest) == [(1, 0)]
    await manifest.settle_damage([damage(extent, 1, 3, generation=4)])
    assert await due(manifest) == [(1, 0)], "it was looked at before the shard was put anew"
    await manifest.settle_damage([damage(extent, 1, 3), damage(extent, 1, 0)])
    assert await due(manifest) == []
    assert await manifest.count_damage() == replace(await manifest.count_damage(), by_store={}, by_redundancy={}, oldest_ms=None)


async def test_damage_goes_with_its_extent_and_no_other(manifest: Manifest) -> None:
    extents = [await commit(manifest, number, key=str(number), missing=(0,)) for number in (1, 2)]
    await delete(manifest, "1")
    assert await due(manifest) == [(2, 1)]
    assert await manifest.find_damaged(extents[0], segment_id(1)) is None
    assert (await manifest.count_damage()).by_store == {("s0", "missing"): 1}


async def test_damage_is_counted_no_further_than_asked(manifest: Manifest) -> None:
    for number in range(1, 4):
        await commit(manifest, number, missing=(0, 1))
    found = await manifest.count_damage(limit=2)
    assert (sum(found.by_store.values()), found.by_redundancy) == (2, {0: 2})


# Late arrivals


async def test_a_late_shard_takes_its_damage_back(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, missing=(2,))
    await manifest.record_shard(extent, segment_id(1), 2, store="s2", now_ms=NOW)
    assert await due(manifest) == []
    assert (await segment(manifest, extent, 1)).missing == ()
    assert await queued(manifest) == []


async def test_a_late_shard_of_what_is_gone_is_garbage(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, key="k", missing=(2,))
    await delete(manifest, "k")
    await manifest.finish_garbage(await queued(manifest))
    await manifest.record_shard(extent, segment_id(1), 2, store="s2", now_ms=NOW)
    assert await queued_names(manifest) == {("s2", shard_name(segment_id(1), 2))}


async def test_a_late_shard_that_was_repaired_meanwhile_is_garbage_and_not_the_new_one(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, missing=(2,))
    assert await move(manifest, extent, 1, {2: "s2"})
    await manifest.finish_garbage(await queued(manifest))
    await manifest.report_damage([damage(extent, 1, 2, generation=1)], now_ms=NOW)
    await manifest.record_shard(extent, segment_id(1), 2, store="s2", now_ms=NOW)
    assert await queued_names(manifest) == {("s2", shard_name(segment_id(1), 2))}
    assert await kinds(manifest, extent, 1) == {2: "forged"}


# Moving


async def move(manifest: Manifest, extent: int, number: int, targets: dict[int, str]) -> bool:
    drawn = await manifest.draw_generation(extent, segment_id(number), targets, expires_ms=NOW + 10)
    assert drawn is not None
    return await manifest.replace_shards(extent, segment_id(number), targets, drawn.drawn, now_ms=NOW)


async def test_a_moved_shard_has_a_new_name_and_the_old_one_is_garbage(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, 2, missing=(4,))
    await manifest.report_damage([damage(extent, 1, 0)], now_ms=NOW)
    assert await move(manifest, extent, 1, {0: "s7", 4: "s4"})
    found = await segment(manifest, extent, 1)
    assert (found.stores, found.generations, found.missing, found.drawn) == (("s7", "s1", "s2", "s3", "s4"), (1, 0, 0, 0, 1), (), 1)
    assert await queued_names(manifest) == {("s0", shard_name(segment_id(1), 0)), ("s4", shard_name(segment_id(1), 4))}
    assert await due(manifest) == [(2, 1)], "the other segment of the extent is as it was"
    assert (await segment(manifest, extent, 2)).missing == (4,)


async def test_no_name_comes_twice(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    for store in ("s7", "s0", "s0", "s7", "s0"):
        assert await move(manifest, extent, 1, {0: store})
    assert await move(manifest, extent, 1, {1: "s0"})
    found = await segment(manifest, extent, 1)
    assert (found.generations, found.drawn) == ((5, 6, 0, 0, 0), 6)
    assert len(await queued_names(manifest)) == 6


async def test_one_at_a_time_moves_shards_of_a_segment(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, 2)
    first = await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW + 10)
    assert first is not None
    assert await manifest.draw_generation(extent, segment_id(1), {1: "s8"}, expires_ms=NOW + 10) is None
    found = await manifest.find_damaged(extent, segment_id(1))
    assert found is not None
    assert found.drawn
    assert await manifest.draw_generation(extent, segment_id(2), {1: "s8"}, expires_ms=NOW + 10) is not None
    await manifest.give_up_draw(extent, segment_id(1), {0: "s7"}, first.drawn, now_ms=NOW)
    again = await manifest.draw_generation(extent, segment_id(1), {1: "s8"}, expires_ms=NOW + 10)
    assert again is not None
    assert again.drawn == 2


async def test_of_many_that_draw_at_once_one_moves(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    drawn = await asyncio.gather(
        *(manifest.draw_generation(extent, segment_id(1), {0: f"s{number}"}, expires_ms=NOW + 10) for number in range(8))
    )
    assert sum(item is not None for item in drawn) == 1


async def test_nothing_is_drawn_for_what_is_gone(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, key="k")
    assert await manifest.draw_generation(extent, segment_id(2), {0: "s7"}, expires_ms=NOW) is None
    await delete(manifest, "k")
    assert await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW) is None


async def test_what_was_put_for_a_segment_that_is_gone_is_nobodys_until_it_is_given_up(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, key="k")
    drawn = await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW + 10)
    assert drawn is not None
    await delete(manifest, "k")
    await manifest.finish_garbage(await queued(manifest))
    assert not await manifest.replace_shards(extent, segment_id(1), {0: "s7"}, drawn.drawn, now_ms=NOW)
    await manifest.give_up_draw(extent, segment_id(1), {0: "s7"}, drawn.drawn, now_ms=NOW)
    assert await queued_names(manifest) == {("s7", shard_name(segment_id(1), 0, 1))}
    assert await manifest.revoke_expired_draws(now_ms=NOW + 100) == 0


async def test_what_is_given_up_though_it_was_used_is_kept(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    drawn = await manifest.draw_generation(extent, segment_id(1), {0: "s7", 1: "s8"}, expires_ms=NOW + 10)
    assert drawn is not None
    assert await manifest.replace_shards(extent, segment_id(1), {0: "s7"}, drawn.drawn, now_ms=NOW)
    await manifest.finish_garbage(await queued(manifest))
    await manifest.give_up_draw(extent, segment_id(1), {0: "s7", 1: "s8"}, drawn.drawn, now_ms=NOW)
    assert await queued_names(manifest) == {("s8", shard_name(segment_id(1), 1, 1))}


async def test_of_a_draw_a_part_may_be_used_and_the_rest_is_garbage(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, missing=(3, 4))
    drawn = await manifest.draw_generation(extent, segment_id(1), {3: "s7", 4: "s8"}, expires_ms=NOW + 10)
    assert drawn is not None
    assert await manifest.replace_shards(extent, segment_id(1), {4: "s8"}, drawn.drawn, now_ms=NOW)
    assert await queued_names(manifest) == {("s4", shard_name(segment_id(1), 4)), ("s7", shard_name(segment_id(1), 3, 1))}
    found = await segment(manifest, extent, 1)
    assert (found.stores[3:], found.missing) == (("s3", "s8"), (3,))


async def test_what_was_not_drawn_is_not_used(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    drawn = await manifest.draw_generation(extent, segment_id(1), {3: "s7"}, expires_ms=NOW + 10)
    assert drawn is not None
    for targets, generation in (({3: "s8"}, drawn.drawn), ({2: "s7", 3: "s7"}, drawn.drawn), ({3: "s7"}, drawn.drawn + 1)):
        assert not await manifest.replace_shards(extent, segment_id(1), targets, generation, now_ms=NOW)
    assert (await segment(manifest, extent, 1)).stores == STORES


async def test_a_draw_of_a_worker_that_died_is_revoked_and_collected_twice(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    drawn = await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW)
    assert drawn is not None
    assert await manifest.revoke_expired_draws(now_ms=NOW) == 0
    assert await manifest.revoke_expired_draws(now_ms=NOW + 1) == 1
    name = ("s7", shard_name(segment_id(1), 0, 1))
    assert await queued_names(manifest) == {name}
    assert not await manifest.replace_shards(extent, segment_id(1), {0: "s7"}, drawn.drawn, now_ms=NOW), "it is being deleted"
    second = await manifest.draw_generation(extent, segment_id(1), {1: "s8"}, expires_ms=NOW + LONGEST_DRAW_MS)
    assert second is not None
    await manifest.give_up_draw(extent, segment_id(1), {}, second.drawn, now_ms=NOW)
    await manifest.finish_garbage(await queued(manifest))
    assert await manifest.revoke_expired_draws(now_ms=NOW + DRAW_KEPT_MS) == 0
    assert await queued_names(manifest) == set()
    assert await manifest.revoke_expired_draws(now_ms=NOW + DRAW_KEPT_MS + 2) == 0
    assert await queued_names(manifest) == {name}, "a put may have come late"
    await manifest.finish_garbage(await queued(manifest))
    await manifest.revoke_expired_draws(now_ms=NOW + 3 * DRAW_KEPT_MS)
    assert await queued_names(manifest) == set()


async def test_a_recovery_revokes_what_was_drawn_and_is_not_used_even_while_it_is_fenced(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    await manifest.draw_generation(extent, segment_id(1), {0: "s7", 1: "s8"}, expires_ms=NOW + LONGEST_DRAW_MS)
    (draw,) = await manifest.walk_draws(after=None, limit=10)
    assert not draw.revoked
    await manifest.fence("being recovered")
    await manifest.revoke_draws([replace(draw, targets={0: "s7"})], now_ms=NOW)
    assert await manifest.walk_draws(after=None, limit=10) == (replace(draw, targets={0: "s7"}, revoked=True),)
    await manifest.accept_epoch(above=0, now_ms=NOW)
    name = ("s7", shard_name(segment_id(1), 0, 1))
    assert await queued_names(manifest) == {name}, "what is used is not touched"
    await manifest.finish_garbage(await queued(manifest))
    await manifest.revoke_expired_draws(now_ms=NOW + DRAW_KEPT_MS + 1)
    assert await queued_names(manifest) == {name}, "a put may have come late"
    assert await manifest.walk_draws(after=None, limit=10) == ()


async def test_a_draw_all_of_which_is_used_ends_with_a_recovery(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW + LONGEST_DRAW_MS)
    (draw,) = await manifest.walk_draws(after=None, limit=10)
    await manifest.revoke_draws([replace(draw, targets={})], now_ms=NOW)
    assert await manifest.walk_draws(after=None, limit=10) == ()
    assert await queued_names(manifest) == set()


async def test_what_a_worker_that_died_may_have_put_counts_as_long_as_it_may_come(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    drawn = await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW)
    assert drawn is not None
    await manifest.revoke_expired_draws(now_ms=NOW + 1)
    late = Leftover(shard_index=0, store="s7", name=shard_name(segment_id(1), 0, 1))
    assert await leftovers(manifest, extent) == {late}
    await manifest.finish_garbage(await queued(manifest))
    assert await leftovers(manifest, extent) == {late}, "the store has confirmed, but the put may come after that"
    await manifest.revoke_expired_draws(now_ms=NOW + DRAW_KEPT_MS + 2)
    await manifest.finish_garbage(await queued(manifest))
    assert await leftovers(manifest, extent) == set()


async def test_a_draw_of_a_clock_that_was_set_back_holds_up_nobody(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    drawn = await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW + LONGEST_DRAW_MS)
    assert drawn is not None
    assert await manifest.revoke_expired_draws(now_ms=NOW) == 0
    assert await manifest.revoke_expired_draws(now_ms=NOW - 1) == 1
    assert await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW) is not None


async def test_a_shard_that_was_left_behind_counts_until_its_store_has_confirmed(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    assert await move(manifest, extent, 1, {0: "s7"})
    drawn = await manifest.draw_generation(extent, segment_id(1), {1: "s8"}, expires_ms=NOW)
    assert drawn is not None
    await manifest.give_up_draw(extent, segment_id(1), {1: "s8"}, drawn.drawn, now_ms=NOW)
    old = Leftover(shard_index=0, store="s0", name=shard_name(segment_id(1), 0))
    unused = Leftover(shard_index=1, store="s8", name=shard_name(segment_id(1), 1, 2))
    assert await leftovers(manifest, extent) == {old, unused}
    rows = {row.store: row for row in await queued(manifest)}
    await manifest.finish_garbage([], put_off=[rows["s0"]], due_ms=NOW + 5)
    await manifest.finish_garbage([rows["s8"]])
    assert await leftovers(manifest, extent) == {old}
    await manifest.finish_garbage(await queued(manifest))
    assert await leftovers(manifest, extent) == set()


async def leftovers(manifest: Manifest, extent: int) -> set[Leftover]:
    found = await manifest.find_damaged(extent, segment_id(1))
    assert found is not None
    return set(found.leftovers)


async def test_moves_under_way_when_an_old_manifest_is_accepted_are_forgotten_and_not_collected(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    drawn = await manifest.draw_generation(extent, segment_id(1), {0: "s7"}, expires_ms=NOW)
    assert drawn is not None
    await manifest.accept_epoch(above=5, now_ms=NOW)
    assert await manifest.revoke_expired_draws(now_ms=NOW * 2) == 0
    assert await queued(manifest) == []
    assert not await manifest.replace_shards(extent, segment_id(1), {0: "s7"}, drawn.drawn, now_ms=NOW)


# Walking


async def test_a_walk_meets_every_extent_in_order(manifest: Manifest) -> None:
    extents = [await commit(manifest, number, key=str(number)) for number in range(1, 8)]
    await delete(manifest, "4")
    seen: list[int] = []
    while found := await manifest.walk_extents(after=seen[-1] if seen else 0, limit=2):
        seen += [extent.id for extent in found]
    assert seen == [extent for extent in extents if extent != extents[3]]
    (last,) = await manifest.walk_extents(after=seen[-2], limit=9)
    assert last.layout.policy == "p"


async def test_a_moved_shard_that_a_recovery_does_not_find_is_damage(manifest: Manifest) -> None:
    extent = await commit(manifest, 1)
    assert await move(manifest, extent, 1, {2: "s3"})
    (found,) = await manifest.load_extents([ExtentId(extent)])
    (moved,) = found.layout.segments
    layout = replace(found.layout, segments=(replace(moved, missing=(2,)),))
    await manifest.correct_extents([replace(found, layout=layout)], now_ms=NOW)
    assert await kinds(manifest, extent, 1) == {2: "missing"}
    assert await due(manifest) == [(1, 1)]


# What stores have lost


async def test_what_a_store_has_lost_is_counted_once_a_shard(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, 2)
    await manifest.report_damage([damage(extent, 1, 0, "missing"), damage(extent, 2, 0, "truncated")], now_ms=NOW)
    await manifest.report_damage([damage(extent, 1, 0, "forged"), damage(extent, 1, 1, "forged")], now_ms=NOW + 5)
    assert await manifest.list_losses() == (
        Losses(store="s0", since_ms=NOW, last_ms=NOW, found=2),
        Losses(store="s1", since_ms=NOW + 5, last_ms=NOW + 5, found=1),
    )


async def test_what_is_known_from_the_commit_or_from_the_configuration_is_no_loss(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, missing=(0,))
    reports = [damage(extent, 1, 0, "missing"), damage(extent, 1, 1, "unreachable"), damage(extent, 1, 2, "misplaced")]
    await manifest.report_damage(reports, now_ms=NOW)
    assert await manifest.list_losses() == ()


async def test_a_loss_that_was_none_is_taken_back(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, 2, missing=(4,))
    lost = [damage(extent, 1, 0, "missing"), damage(extent, 2, 0, "missing")]
    await manifest.report_damage(lost, now_ms=NOW)
    await manifest.settle_damage(lost[:1])
    await manifest.settle_damage(lost[:1])
    assert [losses.found for losses in await manifest.list_losses()] == [1]


async def test_a_brake_is_kept_until_its_losses_are_forgotten(manifest: Manifest) -> None:
    extent = await commit(manifest, 1, 2)
    await manifest.report_damage([damage(extent, 1, 0, "missing")], now_ms=NOW)
    await manifest.set_brake("s0", "paused", shards=7)
    await manifest.set_brake("s1", "paused")
    await manifest.report_damage([damage(extent, 2, 0, "missing")], now_ms=NOW + 1)
    assert await manifest.list_losses() == (Losses(store="s0", since_ms=NOW, last_ms=NOW + 1, found=2, state="paused", shards=7),)
    await manifest.forget_losses("s0")
    assert await manifest.list_losses() == ()


async def test_segments_that_cannot_be_read_are_told_page_by_page(manifest: Manifest) -> None:
    extents = [await commit(manifest, 10 * number + 1, 10 * number + 2) for number in range(4)]
    for extent in extents:
        number = 10 * extents.index(extent)
        lost = [damage(extent, number + 2, index, "missing") for index in range(3 if extent != extents[1] else 2)]
        await manifest.report_damage([damage(extent, number + 1, 0), *lost], now_ms=NOW)
    first = await manifest.lost_segments(after=(ExtentId(0), segment_id(0)), limit=2)
    assert first == ((extents[0], segment_id(2)), (extents[2], segment_id(22)))
    assert await manifest.lost_segments(after=first[-1], limit=2) == ((extents[3], segment_id(32)),)
    await manifest.settle_damage([damage(extents[3], 32, 0, "missing")])
    assert await manifest.lost_segments(after=first[-1], limit=2) == ()


async def test_repairs_are_hastened_page_by_page(manifest: Manifest) -> None:
    extents = [await commit(manifest, number) for number in range(1, 6)]
    await manifest.report_damage([damage(extent, number, 0, "missing") for number, extent in enumerate(extents, 1)], now_ms=NOW)
    for row in await manifest.due_repairs(now_ms=NOW, limit=10):
        await manifest.put_off_repair(row, due_ms=NOW + 1000)
    after = await manifest.hasten_repairs(after=(ExtentId(0), segment_id(0)), now_ms=NOW + 1, limit=3)
    assert after == (extents[2], segment_id(3))
    assert await due(manifest, NOW + 1) == [(1, 1), (2, 1), (3, 1)]
    assert await manifest.hasten_repairs(after=after, now_ms=NOW + 1, limit=3) is None
    assert len(await due(manifest, NOW + 1)) == 5
