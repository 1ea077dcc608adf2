"""Collection goes on, whatever one shard, one store or one step of background work comes to."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.codec.format import segment_prefix, shard_name
from proxy.engine.collect import AT_ONCE, BATCH, NAME_SIZE, NAMES, STEP_SECONDS
from proxy.engine.memory.background import PART
from proxy.errors import ManifestUnavailable
from proxy.manifest.records import GarbageSegment, SegmentId, Settlement
from tests.fault.test_lifecycle import TO_OTHER_SCHEME, set_rules
from tests.fault.test_lifecycle import run as run_lifecycle
from tests.fault.test_recover import JOURNAL, recovered
from tests.laboratory import Laboratory, laboratory

COLLECT_AFTER_SECONDS = 3600


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as running:
        for _ in range(4):
            await running.put("k", os.urandom(5000))
        yield running


async def queue(lab: Laboratory, *segments: GarbageSegment) -> None:
    """Queue segments as a write that failed would, under a lease of their own."""
    manifest, now = lab.services.manifest, lab.clock.now_ms()
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment.id for segment in segments], expires_ms=now + 10**9)
    await manifest.settle([Settlement(intent_id=intent.id, mask=2 ** len(segments) - 1)], segments, now_ms=now)


async def test_garbage_younger_than_the_delay_is_left_to_readers_that_began_before(tmp_path: Path) -> None:
    async with laboratory(tmp_path, collect_after_seconds=COLLECT_AFTER_SECONDS) as lab:
        await lab.put("k", os.urandom(5000))
        old = await lab.shards()
        await lab.put("k", os.urandom(5000))
        lab.clock.advance(COLLECT_AFTER_SECONDS - 1)
        await lab.run_collector()
        assert old <= await lab.shards()
        assert await lab.garbage() == 6
        lab.clock.advance(1)
        await lab.run_collector()
        assert not old & await lab.shards()


async def test_a_store_that_is_down_keeps_its_own_deletes_and_the_others_are_not_asked_again(lab: Laboratory) -> None:
    lab.stores["elm"].down = True
    await lab.run_collector()
    kept = [await lab.services.manifest.due_garbage(store, before_ms=2**60, limit=100) for store in lab.stores if store != "elm"]
    assert not any(kept)
    left = (await lab.services.manifest.count_garbage())["elm"]
    assert left > 0
    asked = {name: store.calls["delete"] for name, store in lab.stores.items()}
    for _ in range(3):
        lab.clock.advance(1000)
        progress = await lab.run_collector()
    assert progress.remaining == left
    assert {name for name, store in lab.stores.items() if store.calls["delete"] > asked[name]} == {"elm"}
    lab.stores["elm"].down = False
    await lab.collect()  # the first call that is let through finds the store well again
    await lab.collect()
    assert await lab.garbage() == 0
    assert len(await lab.shards()) == 6


async def test_shards_of_unknown_placement_are_searched_in_each_store_and_each_search_ends_on_its_own(lab: Laboratory) -> None:
    await lab.collect()
    lost = SegmentId(bytes(16))
    for name in ("alder", "elm"):
        for name_of_shard in (shard_name(lost, 0), f"{shard_name(lost, 0)}.1", shard_name(lost, 3)):
            await lab.stores[name].put(name_of_shard, [b"x"])  # type: ignore[arg-type]
    await queue(lab, GarbageSegment(id=lost))
    lab.stores["elm"].down = True
    await lab.run_collector()
    assert set(await lab.services.manifest.count_garbage()) == {"elm"}
    lab.stores["elm"].down = False
    listed = lab.stores["alder"].calls["list"]
    await lab.collect()
    await lab.collect()
    assert await lab.garbage() == 0
    assert lab.stores["alder"].calls["list"] == listed, "it had finished its own search"
    assert len(await lab.shards()) == 6


async def test_what_is_known_of_a_segment_with_strays_goes_even_from_a_store_that_lists_late(lab: Laboratory) -> None:
    await lab.collect()
    doomed = GarbageSegment(id=SegmentId(bytes(16)), stores=("alder", "elm"), generations=(0, 1), strays=True)
    lab.stores["elm"].lists_late = True
    for store, name in (("alder", doomed.shard_name(0)), ("elm", doomed.shard_name(1)), ("fir", doomed.shard_name(1))):
        await lab.stores[store].put(name, [b"x"])  # type: ignore[arg-type]
    await queue(lab, doomed)
    await lab.collect()
    await lab.collect()
    assert await lab.garbage() == 0
    lab.stores["elm"].lists_late = False
    assert len(await lab.shards()) == 6


async def test_a_search_has_memory_for_the_names_it_finds_and_gives_it_back(lab: Laboratory) -> None:
    await lab.collect()
    budget, held = lab.services.budget, []
    await queue(lab, *(GarbageSegment(id=SegmentId(secrets.token_bytes(16))) for _ in range(20)))
    for store in lab.stores.values():
        store.before = lambda verb: held.append(budget.held_bytes) if verb == "list" else None
    await lab.collect()
    assert NAMES * NAME_SIZE <= min(held) <= max(held) <= budget.capacity_bytes // PART
    assert budget.held_bytes == 0


async def test_a_store_taken_out_of_the_configuration_keeps_its_garbage_where_it_is_seen(lab: Laboratory) -> None:
    await lab.services.manifest.know_stores(["gone"])
    await queue(lab, GarbageSegment(id=SegmentId(bytes(16)), stores=("gone",)), GarbageSegment(id=SegmentId(b"\1" * 16)))
    await lab.collect()
    progress = await lab.run_collector()
    assert await lab.services.manifest.count_garbage() == {"gone": 2}
    assert progress.trouble == "2 shards wait for store gone, which is not configured"


async def test_what_a_store_does_not_delete_keeps_nothing_else_and_is_tried_again_later(lab: Laboratory) -> None:
    held: list[str] = []

    def hold_the_first(verb: str) -> None:
        if verb == "delete" and len(held) < 2:
            held.append(verb)
            raise ArithmeticError

    lab.stores["elm"].before = hold_the_first
    await lab.run_collector()
    assert await lab.services.manifest.count_garbage() == {"elm": 2}
    await lab.run_collector()
    assert await lab.garbage() == 2, "they are tried again only after a while"
    lab.clock.advance(1000)
    await lab.run_collector()
    assert await lab.garbage() == 0


async def test_more_garbage_than_fits_into_memory_at_once_is_deleted_batch_by_batch(lab: Laboratory) -> None:
    most = 0
    manifest = lab.services.manifest
    asked = manifest.due_garbage

    async def due_garbage(store: str, *, before_ms: int, limit: int):
        nonlocal most
        rows = await asked(store, before_ms=before_ms, limit=limit)
        most = max(most, len(rows))
        return rows

    manifest.due_garbage = due_garbage  # type: ignore[method-assign]
    for start in range(0, 600, 60):
        await queue(
            lab, *(GarbageSegment(id=SegmentId(number.to_bytes(16, "big")), stores=("elm",)) for number in range(start, start + 60))
        )
    await lab.run_collector()
    assert await lab.garbage() == 0
    assert most == 200


async def test_a_store_that_lists_names_without_end_holds_up_nothing_else(lab: Laboratory) -> None:
    await lab.collect()
    lost = SegmentId(bytes(16))
    await lab.stores["alder"].put(shard_name(lost, 0), [b"x"])  # type: ignore[arg-type]

    listed = 0

    async def endless(prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        nonlocal listed
        while prefix:
            listed += 1
            yield f"{prefix}{secrets.token_hex(1)}", 1

    lab.stores["elm"].list = endless  # type: ignore[assignment, method-assign]
    deleted = lab.stores["elm"].calls["delete"]
    await queue(lab, GarbageSegment(id=lost))
    progress = await lab.run_collector()
    assert progress.trouble.endswith(f"lists more names that begin with {segment_prefix(lost)} than a segment can have")
    assert listed == NAMES + 1
    assert await lab.services.manifest.count_garbage() == {"elm": 1}
    assert lab.stores["elm"].calls["delete"] == deleted
    assert len(await lab.shards_but("elm")) == 5


async def test_what_a_store_lists_that_is_no_shard_is_not_deleted(lab: Laboratory) -> None:
    await lab.collect()
    lost = SegmentId(bytes(16))
    for name in (shard_name(lost, 0), f"{segment_prefix(lost)}notes"):
        await lab.stores["alder"].put(name, [b"x"])  # type: ignore[arg-type]
    await queue(lab, GarbageSegment(id=lost))
    await lab.run_collector()
    assert await lab.garbage() == 0
    assert [name async for name, _ in lab.stores["alder"].list(segment_prefix(lost))] == [f"{segment_prefix(lost)}notes"]


async def test_a_store_that_takes_its_time_does_not_make_a_step_longer(lab: Laboratory) -> None:
    await queue(lab, *(GarbageSegment(id=SegmentId(number.to_bytes(16, "big")), stores=("elm",)) for number in range(60)))
    elm = lab.stores["elm"]
    elm.before = lambda verb: lab.clock.advance(STEP_SECONDS) if verb == "delete" else None
    progress = await lab.worker("collect").step()
    assert elm.calls["delete"] <= AT_ONCE
    assert not progress.idle
    elm.before = None
    await lab.run_collector()
    assert await lab.garbage() == 0


async def test_a_step_deletes_as_much_as_each_store_lets_it_and_not_the_first_segments_alone(lab: Laboratory) -> None:
    """It ends with the slowest store: were more queued by the next one alone, all stores would be as slow."""
    await lab.collect()
    count = (len(lab.stores) + 1) * BATCH  # more than each store might queue once
    for start in range(0, count, 50):
        ids = (SegmentId(number.to_bytes(16, "big")) for number in range(start, start + 50))
        await queue(lab, *(GarbageSegment(id=segment_id, stores=("elm", "alder")) for segment_id in ids))
    lab.stores["elm"].down = True
    await lab.worker("collect").step()
    assert await lab.services.manifest.count_garbage() == {"elm": count}
    lab.stores["elm"].down = False
    await lab.collect()
    await lab.collect()
    assert await lab.garbage() == 0


@pytest.mark.parametrize("others", [1, BATCH, BATCH + 1])
async def test_a_store_with_nothing_to_delete_does_not_end_before_what_is_behind_others_segments(lab: Laboratory, others: int) -> None:
    await lab.collect()
    for start in range(0, others, 50):
        ids = (SegmentId(number.to_bytes(16, "big")) for number in range(start, min(start + 50, others)))
        await queue(lab, *(GarbageSegment(id=segment_id, stores=("gone",)) for segment_id in ids))
    await queue(lab, GarbageSegment(id=SegmentId(b"\xff" * 16), stores=("elm",)))
    await lab.run_collector()
    assert await lab.services.manifest.count_garbage() == {"gone": others}


async def test_a_step_that_fails_leaves_nothing_running_that_would_delete_beside_the_next(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    finish = manifest.finish_garbage

    async def fail(*args: object, **options: object) -> None:
        raise ManifestUnavailable("on purpose")

    manifest.finish_garbage = fail  # type: ignore[method-assign]
    lab.stores["elm"].hanging = True
    with pytest.raises(ManifestUnavailable, match="on purpose"):
        await lab.worker("collect").step()
    assert not [task for task in asyncio.all_tasks() if "Collector" in repr(task)]
    lab.stores["elm"].hanging = False
    manifest.finish_garbage = finish  # type: ignore[method-assign]
    await lab.collect()
    assert await lab.garbage() == 0


async def test_what_was_moved_stays_where_it_was_until_the_journal_has_the_move(tmp_path: Path) -> None:
    """Else whoever loses the manifest meanwhile has the journal's word for where nothing lies any more."""
    data = b"large enough to move" * 10_000
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", data)
        await set_rules(lab, TO_OTHER_SCHEME)
        assert lab.services.journal is not None
        await lab.services.journal.flusher.flush()
        lab.clock.advance(40 * 24 * 3600)
        assert (await run_lifecycle(lab)).done == 1
        lab.clock.advance(100_000)
        assert await lab.garbage() == 6
        await lab.run_collector_alone()
        assert await lab.garbage() == 6
        async with recovered(tmp_path / "old") as (new, report):
            assert await new.get("k") == data
            assert "lost" not in report.finding_counts
        await lab.services.journal.flusher.flush()
        await lab.run_collector_alone()
        assert await lab.garbage() == 0
        assert await lab.get("k") == data
