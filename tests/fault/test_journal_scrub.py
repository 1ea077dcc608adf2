"""The manifest's copy loses shards, in a store or by a change of the configuration: it is noticed, and a checkpoint writes it anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from proxy.codec.format import parse_copy_name
from proxy.config import Config, JournalConfig
from proxy.engine.journal import store
from proxy.engine.journal.checkpoint import RunSize
from proxy.engine.journal.scrubbing import DAY_MS, load_copy_report
from proxy.engine.journal.soundness import PATIENCE_MS, PAUSE_MS
from proxy.engine.workers import Progress
from proxy.manifest.copies import CopyReport
from proxy.manifest.journal import StoredSegment
from proxy.stores.protocol import MAX_SHARD_SIZE
from tests.fault.campaigns.operating import applied, checkpointed, found, planner
from tests.fault.test_checkpoints import checkpoint, checkpoints, present, restored, shrink
from tests.laboratory import Laboratory, laboratory

KEPT = JournalConfig(interval_ms=10**9, checkpoint_min_mib=10_000, keep_seconds=60.0)
SMALL = RunSize(rows=3, size_bytes=2000, segment_bytes=500, rows_at_once=2)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, journal=KEPT) as opened:
        shrink(opened)
        yield opened


async def stored(lab: Laboratory) -> None:
    """Have a checkpoint of several runs, and journal segments behind it."""
    for number in range(7):
        await lab.put(f"k{number}", b"data")
    await checkpoint(lab)
    await lab.put("behind", b"data")
    await lab.services.journal.flusher.flush()
    await lab.settled()


async def scrubbed(lab: Laboratory) -> CopyReport:
    """Let the scrub go on until it has nothing to do."""
    while not (await lab.worker("scrub-journal").step()).idle:
        pass
    return await load_copy_report(lab.services.manifest)


async def names_in(lab: Laboratory, where: str, *prefixes: str) -> list[str]:
    copies = [name async for name, _ in lab.stores[where].inner.list() if parse_copy_name(name) is not None]
    return [name for name in copies if not prefixes or name.startswith(prefixes)]


async def lose(lab: Laboratory, where: str, *prefixes: str) -> int:
    lost = await names_in(lab, where, *prefixes)
    for name in lost:
        await lab.stores[where].inner.delete(name)
    return len(lost)


async def is_restored(lab: Laboratory) -> bool:
    """Tell whether a recovery would come to the manifest as it is."""
    await lab.services.journal.flusher.flush()
    reader = lab.services.journal.reader
    newest = [await store.read_checkpoint(reader, copy) for copy in (await reader.find("c/")).found][-1]
    return await restored(lab, newest) == await present(lab.services.manifest)


def without(name: str) -> Callable[[Config], Config]:
    def adjusted(config: Config) -> Config:
        return msgspec.structs.replace(config, stores={key: value for key, value in config.stores.items() if key != name})

    return adjusted


async def test_nothing_is_found_where_nothing_is_lost(lab: Laboratory) -> None:
    await stored(lab)
    report = await scrubbed(lab)
    assert report.damaged == ()
    assert report.silent == {}
    assert report.segments > 5
    assert report.shards == 6 * report.segments
    assert report.opened_ms


async def test_what_a_store_has_lost_is_written_anew_and_then_further_stores_may_fail(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    assert await lose(lab, "elm") > 5
    lab.clock.advance(DAY_MS / 1000)
    report = await scrubbed(lab)
    assert {copy.prefix for copy in report.damaged} == {"j/", "c/", "r/"}
    assert {copy.stores for copy in report.damaged} == {("elm",)}
    assert report.shards_by_kind() == {"missing": len(report.damaged)}
    lab.clock.advance(PATIENCE_MS / 1000)
    await scrubbed(lab)
    await checkpointed(lab)
    assert (await scrubbed(lab)).damaged == ()
    assert await names_in(lab, "elm", "r/")
    may_fail = [name for name in ("cedar", "alder", "birch") if name in lab.stores][: lab.services.journal.writer.policy.may_fail.most]
    for name in may_fail:
        lab.stores[name].down = True
    assert may_fail
    assert await is_restored(lab)


async def test_a_run_alone_that_is_damaged_is_not_referred_to(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    before = await checkpoint(lab)
    named = {segment.id for run in before.runs for segment in run.layout.segments}
    lost = min(name for name in await names_in(lab, "elm", "r/") if parse_copy_name(name).segment_id in named)
    await lab.stores["elm"].inner.delete(lost)
    lab.clock.advance(DAY_MS / 1000)
    report = await scrubbed(lab)
    assert [copy.prefix for copy in report.damaged] == ["r/"]
    after = await checkpoint(lab)
    kept = {segment.id for run in after.runs for segment in run.layout.segments}
    assert parse_copy_name(lost).segment_id not in kept
    assert kept & named


async def test_a_little_damage_waits_for_a_checkpoint_that_is_made_anyway(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    await lose(lab, "elm")
    lab.clock.advance(DAY_MS / 1000)
    assert (await scrubbed(lab)).urgent == 0
    assert not await is_wanted(lab)
    lab.clock.advance(PATIENCE_MS / 1000 - 60)
    await scrubbed(lab)
    assert not await is_wanted(lab)
    lab.clock.advance(60)
    await scrubbed(lab)
    assert await is_wanted(lab)


async def test_a_broken_promise_asks_at_once(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    for name in ("elm", "cedar"):
        await lose(lab, name)
    lab.clock.advance(DAY_MS / 1000)
    report = await scrubbed(lab)
    assert report.urgent == len(report.damaged) > 0
    assert report.spare == 0
    assert await is_wanted(lab)


async def test_a_store_that_takes_everything_and_has_nothing_does_not_keep_checkpoints_going(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    for name in ("elm", "cedar"):
        await lose(lab, name)
    lab.clock.advance(DAY_MS / 1000)
    await scrubbed(lab)
    await checkpointed(lab)
    for name in ("elm", "cedar"):
        await lose(lab, name)
    assert (await scrubbed(lab)).urgent
    assert not await is_wanted(lab)
    lab.clock.advance(PAUSE_MS / 1000)
    await scrubbed(lab)
    assert await is_wanted(lab)


async def test_damage_that_a_checkpoint_does_not_mend_waits_as_long_again(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    for _ in range(2):
        await lose(lab, "elm")
        lab.clock.advance(DAY_MS / 1000)
        assert (await scrubbed(lab)).damaged
        lab.clock.advance(PATIENCE_MS / 1000)
        await scrubbed(lab)
        assert await is_wanted(lab)
        await checkpointed(lab)
        await lose(lab, "elm")
        assert (await scrubbed(lab)).damaged
        lab.clock.advance(2 * PAUSE_MS / 1000)
        await scrubbed(lab)
        assert not await is_wanted(lab)


async def test_a_store_that_is_down_has_lost_nothing_and_is_asked_again(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    lab.stores["elm"].down = True
    lab.clock.advance(DAY_MS / 1000)
    report = await scrubbed(lab)
    assert report.damaged == ()
    assert set(report.silent) == {"elm"}
    lab.stores["elm"].down = False
    lab.clock.advance(3600)
    assert (await scrubbed(lab)).silent == {}


async def test_flipped_bits_are_found_by_opening_and_stay_found(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    made = (await checkpoints(lab))[-1]
    (untouched,) = [run.layout.segments[0].id for run in made.runs if run.table == "tenant"]
    (name,) = [name for name in await names_in(lab, "fir", "r/") if parse_copy_name(name).segment_id == untouched]
    whole = bytearray(await lab.stores["fir"].inner.get(name))
    whole[40] ^= 1
    await lab.stores["fir"].inner.put(name, [bytes(whole)])
    lab.clock.advance(DAY_MS / 1000)
    assert (await scrubbed(lab)).damaged == ()  # a listing does not show it
    lab.clock.advance(30 * DAY_MS / 1000)
    for _ in range(2):
        report = await scrubbed(lab)
        assert [(copy.prefix, copy.stores, copy.kinds) for copy in report.damaged] == [("r/", ("fir",), {"forged": 1})]
        lab.clock.advance(DAY_MS / 1000)
    await scrubbed(lab)
    await checkpointed(lab)
    report = await scrubbed(lab)
    assert (report.damaged, report.bad) == ((), ())


async def test_a_shard_that_is_cut_short_is_found_by_its_size(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    name = max(await names_in(lab, "fir", "j/"))
    whole = await lab.stores["fir"].inner.get(name)
    await lab.stores["fir"].inner.put(name, [bytes(whole)[:-20]])
    lab.clock.advance(DAY_MS / 1000)
    report = await scrubbed(lab)
    assert [(copy.prefix, copy.stores) for copy in report.damaged] == [("j/", ("fir",))]


async def test_what_is_larger_than_any_shard_is_forged_and_its_store_is_not_silent(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    name = max(await names_in(lab, "fir", "j/"))
    await lab.stores["fir"].inner.put(name, [bytes(MAX_SHARD_SIZE + 1)])
    lab.clock.advance(DAY_MS / 1000)
    report = await scrubbed(lab)
    assert [(copy.prefix, copy.stores, copy.kinds) for copy in report.damaged] == [("j/", ("fir",), {"forged": 1})]
    assert not report.silent


async def test_a_listing_that_lags_proves_nothing(lab: Laboratory) -> None:
    lab.stores["elm"].lists_late = True
    await stored(lab)
    assert (await scrubbed(lab)).damaged == ()
    assert lab.stores["elm"].calls["get_range"]


async def test_a_drain_is_not_finished_while_a_recovery_needs_the_store(lab: Laboratory) -> None:
    await stored(lab)
    campaign = await applied(lab, await planner(lab).drain("elm"))
    for _ in range(8):
        await turned(lab)
    assert (await found(lab, campaign.id)).state == "running"
    assert (await found(lab, campaign.id)).trouble == "the journal is still in elm: a checkpoint is asked for"
    assert await is_wanted(lab)
    for _ in range(8):
        await turned(lab)
        await checkpointed(lab)
        await lab.run_collector()
    assert (await found(lab, campaign.id)).state == "done"
    assert (await scrubbed(lab)).damaged == ()
    await checkpoint(lab)
    lab.clock.advance(61)
    await checkpointed(lab)
    assert await names_in(lab, "elm") == []
    assert await is_restored(lab)


async def test_what_lies_in_a_store_that_is_left_counts_as_damaged(lab: Laboratory) -> None:
    await stored(lab)
    await scrubbed(lab)
    lab.services.fleet.leave(frozenset({"elm"}))
    report = await scrubbed(lab)
    assert report.shards_by_kind() == {"misplaced": len(report.damaged)}
    assert len(report.damaged) == report.segments


async def test_what_lay_in_a_store_that_was_removed_is_written_anew(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        shrink(lab)
        await stored(lab)
        await scrubbed(lab)
    async with laboratory(tmp_path, journal=KEPT, adjust=without("elm")) as lab:
        shrink(lab)
        report = await scrubbed(lab)
        assert report.shards_by_kind() == {"unreachable": len(report.damaged)}
        assert report.damaged
        await checkpointed(lab)
        assert (await scrubbed(lab)).damaged == ()
        assert await is_restored(lab)


async def test_what_another_policy_would_store_in_another_way_is_written_anew(tmp_path: Path) -> None:
    def wider(config: Config) -> Config:
        policies = {**config.policies, "wide": msgspec.structs.replace(config.policies["standard"], scheme="3+3")}
        return msgspec.structs.replace(config, policies=policies, journal=msgspec.structs.replace(config.journal, policy="wide"))

    async with laboratory(tmp_path, journal=KEPT) as lab:
        await stored(lab)
        assert (await scrubbed(lab)).damaged == ()
    async with laboratory(tmp_path, journal=KEPT, adjust=wider) as lab:
        report = await scrubbed(lab)
        # All but the newest: a start has the journal tell of its epoch, under the policy of today.
        assert [copy.kinds for copy in report.damaged] == [{"policy": 1}] * (report.segments - 1)
        lab.clock.advance(PATIENCE_MS / 1000)
        await scrubbed(lab)
        await checkpointed(lab)
        report = await scrubbed(lab)
        assert report.damaged == ()
        assert report.segments > 1
        assert await is_restored(lab)


async def test_after_a_recovery_a_checkpoint_is_asked_for_since_nobody_knows_what_came_before(lab: Laboratory) -> None:
    await stored(lab)
    manifest = lab.services.manifest
    segment, identity = (await manifest.needed_copies()).copies[0], (await manifest.find_epoch()).identity
    layout = msgspec.structs.replace(segment.layout, wrapped_key=b"")  # which a recovery does not need to know
    tip = StoredSegment(number=9, epoch=1, digest=b"x" * 32, sequence=100, size_bytes=9, stored_ms=0, layout=layout)
    await manifest.continue_journal(tip, identity=identity, epoch=1)
    assert not await is_wanted(lab)
    assert (await scrubbed(lab)).bad == ()
    assert await is_wanted(lab)
    await checkpointed(lab)
    assert (await scrubbed(lab)).damaged == ()
    assert not await is_wanted(lab)


async def test_the_list_of_very_many_runs_is_needed_too(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_RUNS", 2)
    await stored(lab)
    lab.clock.advance(61)
    last = await checkpoint(lab)
    lab.clock.advance(61)
    await checkpointed(lab)  # what is useless is removed
    assert len(last.runs) > 2
    assert await is_restored(lab)
    assert (await scrubbed(lab)).damaged == ()
    names = set(await names_in(lab, "elm", "r/"))
    of_runs = {segment.id for run in last.runs for segment in run.layout.segments}
    (of_list, *_) = [name for name in names if parse_copy_name(name).segment_id not in of_runs]
    await lab.stores["elm"].inner.delete(of_list)
    lab.clock.advance(DAY_MS / 1000)
    assert [copy.segment_id for copy in (await scrubbed(lab)).damaged] == [parse_copy_name(of_list).segment_id]


async def is_wanted(lab: Laboratory) -> bool:
    return await lab.services.manifest.load_state("checkpoint-wanted") is not None


async def turned(lab: Laboratory) -> Progress:
    lab.clock.advance(61)
    return await lab.worker("campaigns").step()
