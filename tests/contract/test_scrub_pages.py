"""The contract of a manifest with those who compare it with its stores, run on every adapter."""

from __future__ import annotations

import pytest

from proxy.codec.format import segment_prefix, shard_name
from proxy.errors import ManifestFenced
from proxy.manifest.damage import Damage
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.protocol import Manifest
from proxy.manifest.quarantine import Orphan
from proxy.manifest.records import Garbage, GarbageSegment, Layout, Segment, Settlement
from tests.contract.conftest import NOW

DAY = 24 * 3600 * 1000
BUCKET = 1
STORES = ("s0", "s1", "s2")


def segment_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def commit(manifest: Manifest, number: int) -> int:
    segments = (Segment(id=segment_id(number), size=10, stores=STORES),)
    layout = Layout(size=10, k=2, m=1, tenant_key_id="t", wrapped_key=b"k", segments=segments, policy="p")
    draft = VersionDraft(bucket_id=BUCKET, key=str(number), id="drawn", modified_ms=NOW, new_layouts=(layout,))
    return (await manifest.commit_version(draft)).extents[0].id


def orphan(number: int, store: str = "s0") -> Orphan:
    return Orphan(store=store, name=shard_name(segment_id(number), 0), size_bytes=number)


async def quarantined(manifest: Manifest) -> dict[Orphan, tuple[int, int]]:
    """Return since when each is on record, and which pass saw it last."""
    found, after = {}, None
    while rows := await manifest.walk_quarantine(after=after, limit=2):
        after = rows[-1].orphan
        found |= {row.orphan: (row.since_ms, row.seen_by) for row in rows}
    return found


async def garbage(manifest: Manifest) -> list[Garbage]:
    found: list[Garbage] = []
    while rows := await manifest.walk_garbage(after=found[-1] if found else None, limit=2):
        found += rows
    return found


async def test_the_newest_extent_is_the_last_that_was_made_and_none_has_a_higher_id(manifest: Manifest) -> None:
    assert await manifest.newest_extent() == 0
    ids = [await commit(manifest, number) for number in range(3)]
    assert await manifest.newest_extent() == ids[-1]


async def test_leases_are_shown_with_the_ids_that_are_not_settled_also_when_they_are_revoked(manifest: Manifest) -> None:
    for number in range(5):
        ids = [segment_id(number * 10), segment_id(number * 10 + 1)]
        intent = await manifest.lease_segments(owner=f"w{number}", segment_ids=ids, expires_ms=NOW + number)
        await manifest.release_unused([Settlement(intent_id=intent.id, mask=1)])
    await manifest.revoke_expired_intents(now_ms=NOW + 3)
    shown, after = [], 0
    while page := await manifest.walk_intents(after=after, limit=2):  # type: ignore[arg-type]
        after = page[-1].id
        shown += page
    assert [intent.segment_ids for intent in shown] == [(segment_id(n * 10 + 1),) for n in range(5)]


async def test_garbage_is_shown_page_by_page_of_all_stores_with_what_may_be_anywhere(manifest: Manifest) -> None:
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(1), segment_id(2)], expires_ms=NOW)
    doomed = [GarbageSegment(id=segment_id(1), stores=STORES), GarbageSegment(id=segment_id(2))]
    await manifest.settle([Settlement(intent_id=intent.id, mask=3)], doomed, now_ms=NOW)
    lie = tuple((store, shard_name(segment_id(1), index)) for index, store in enumerate(STORES))
    search, segment = await garbage(manifest)
    assert (search.store, search.name, search.search, search.shards) == ("", segment_prefix(segment_id(2)), True, ())
    assert (segment.search, segment.shards) == (False, lie)
    await manifest.split_garbage(before_ms=NOW, limit=10)
    shown = {(row.store, row.name, row.search) for row in await garbage(manifest)}
    assert shown == {(store, name, False) for store, name in lie} | {("", segment_prefix(segment_id(2)), True)}
    assert len(await garbage(manifest)) == 4


async def test_a_segment_with_strays_is_searched_for_and_what_is_known_of_it_named_all_the_same(manifest: Manifest) -> None:
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(1)], expires_ms=NOW)
    doomed = GarbageSegment(id=segment_id(1), stores=STORES, generations=(0, 3, 0), strays=True)
    await manifest.settle([Settlement(intent_id=intent.id, mask=1)], [doomed], now_ms=NOW)
    await manifest.split_garbage(before_ms=NOW, limit=10)
    named = {(store, doomed.shard_name(index), False) for index, store in enumerate(STORES)}
    assert {(row.store, row.name, row.search) for row in await garbage(manifest)} == named | {("", segment_prefix(segment_id(1)), True)}


async def test_moves_under_way_are_shown_until_a_day_after_they_were_revoked(manifest: Manifest) -> None:
    extents = [await commit(manifest, number) for number in range(3)]
    for number, extent in enumerate(extents):
        await manifest.draw_generation(extent, segment_id(number), {1: "s9"}, expires_ms=NOW)
    await manifest.revoke_expired_draws(now_ms=NOW + 1)
    shown, after = [], None
    while page := await manifest.walk_draws(after=after, limit=2):
        after = page[-1]
        shown += page
    assert [draw.shards for draw in shown] == [(("s9", shard_name(segment_id(number), 1, 1)),) for number in range(3)]
    assert all(draw.revoked for draw in shown)
    await manifest.revoke_expired_draws(now_ms=NOW + DAY + 2)
    assert await manifest.walk_draws(after=None, limit=2) == ()


async def test_lost_shards_are_those_on_record_as_such_and_of_the_extents_asked_for(manifest: Manifest) -> None:
    extents = [await commit(manifest, number) for number in range(4)]
    for number, kind in enumerate(("forged", "misplaced", "missing", "forged")):
        damage = Damage(extent_id=extents[number], segment_id=segment_id(number), shard_index=1, kind=kind, store="s1")  # type: ignore[arg-type]
        await manifest.report_damage([damage], now_ms=NOW)
    assert await manifest.lost_shards(first=extents[0], last=extents[2]) == {(segment_id(0), 1), (segment_id(2), 1)}


async def test_an_orphan_keeps_the_time_it_was_first_seen_at(manifest: Manifest) -> None:
    await manifest.quarantine([orphan(1), orphan(2)], pass_id=NOW, now_ms=NOW + 1)
    await manifest.quarantine([orphan(2), orphan(2, "s1"), orphan(3)], pass_id=NOW + 10, now_ms=NOW + 11)
    assert await quarantined(manifest) == {
        orphan(1): (NOW + 1, NOW),
        orphan(2): (NOW + 1, NOW + 10),
        orphan(2, "s1"): (NOW + 11, NOW + 10),
        orphan(3): (NOW + 11, NOW + 10),
    }


async def test_only_what_was_seen_again_and_is_old_enough_becomes_garbage(manifest: Manifest) -> None:
    await manifest.quarantine([orphan(1), orphan(2), orphan(3)], pass_id=NOW, now_ms=NOW + 1)
    await manifest.quarantine([orphan(2), orphan(3), orphan(4)], pass_id=NOW + DAY, now_ms=NOW + DAY + 1)
    condemned = [
        *await manifest.condemn(pass_id=NOW + DAY, since_ms=NOW + 1, now_ms=NOW + DAY + 2, limit=1),
        *await manifest.condemn(pass_id=NOW + DAY, since_ms=NOW + 1, now_ms=NOW + DAY + 2, limit=5),
    ]
    assert condemned == [orphan(2), orphan(3)]
    assert set(await quarantined(manifest)) == {orphan(1), orphan(4)}
    assert [(row.store, row.name, row.due_ms) for row in await garbage(manifest)] == [
        ("s0", orphan(number).name, NOW + DAY + 2) for number in (2, 3)
    ]


async def test_what_a_pass_has_not_seen_in_a_store_it_has_listed_is_forgotten(manifest: Manifest) -> None:
    await manifest.quarantine([orphan(1), orphan(2), orphan(3, "s1")], pass_id=NOW, now_ms=NOW)
    await manifest.quarantine([orphan(2)], pass_id=NOW + 1, now_ms=NOW + 1)
    assert await manifest.forget_quarantine(stores=["s0"], pass_id=NOW + 1) == 1
    assert set(await quarantined(manifest)) == {orphan(2), orphan(3, "s1")}


async def test_a_fenced_manifest_condemns_nothing(manifest: Manifest) -> None:
    await manifest.quarantine([orphan(1)], pass_id=NOW, now_ms=NOW)
    await manifest.fence("it is an older copy")
    with pytest.raises(ManifestFenced):
        await manifest.condemn(pass_id=NOW, since_ms=NOW, now_ms=NOW, limit=5)
    with pytest.raises(ManifestFenced):
        await manifest.quarantine([orphan(2)], pass_id=NOW, now_ms=NOW)
    assert await garbage(manifest) == []
