"""The light scrub finds what a store has lost, and takes nothing for lost that is not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from proxy.engine.scrub import findings
from proxy.engine.scrub.workers import LIGHT, RETRY_SECONDS
from proxy.errors import StoreUnavailable
from proxy.manifest.damage import Damage
from proxy.manifest.sqlite import room
from proxy.stores.protocol import MAX_SHARD_SIZE, ShardName
from tests.laboratory import Laboratory, laboratory
from tests.scrubbing import damage, hide, read, scrub, shards_of, spoil

DAY_SECONDS = 24 * 3600


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as running:
        for number in range(4):
            await running.put(f"k{number}", os.urandom(5000 + number))
        yield running


async def test_nothing_is_found_where_nothing_is_wrong_and_no_shard_is_asked_for(lab: Laboratory) -> None:
    calls = {name: store.calls["get_range"] + store.calls["get"] for name, store in lab.stores.items()}
    report = await scrub(lab, LIGHT)
    assert (report.shards, report.found, report.orphans, report.unlisted) == (24, {}, {}, {})
    assert calls == {name: store.calls["get_range"] + store.calls["get"] for name, store in lab.stores.items()}
    assert await damage(lab) == {}


async def test_deleted_and_truncated_shards_are_found_and_queued_for_repair(lab: Laboratory) -> None:
    shards = await shards_of(lab)
    await lab.stores[shards[1].store].delete(shards[1].name)
    await spoil(lab, shards[8], (await read(lab, shards[8]))[:700])
    await spoil(lab, shards[15], b"short")
    report = await scrub(lab, LIGHT)
    assert report.found == {"missing": 1, "truncated": 2}
    assert await damage(lab) == {
        (shards[1].store, shards[1].name): "missing",
        (shards[8].store, shards[8].name): "truncated",
        (shards[15].store, shards[15].name): "truncated",
    }


async def test_what_is_larger_than_any_shard_is_forged_and_its_store_is_not_silent(lab: Laboratory) -> None:
    shard = (await shards_of(lab))[3]
    await spoil(lab, shard, bytes(MAX_SHARD_SIZE + 1))
    report = await scrub(lab, LIGHT)
    assert (report.found, report.unreachable) == ({"forged": 1}, {})
    assert await damage(lab) == {(shard.store, shard.name): "forged"}


async def test_what_a_store_has_lost_is_put_on_record_some_at_a_time(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = [shard for shard in await shards_of(lab) if shard.store in {"elm", "fir"}]
    for shard in lost:
        await lab.stores[shard.store].delete(shard.name)
    steps: list[int] = []

    async def report_damage(found: Sequence[Damage], *, now_ms: int) -> int:
        steps.append(len(found))
        return await kept(found, now_ms=now_ms)

    kept = lab.services.manifest.report_damage
    monkeypatch.setattr(lab.services.manifest, "report_damage", report_damage)
    monkeypatch.setattr(findings, "BATCH", 3)
    await scrub(lab, LIGHT)
    assert steps == [3, 3, 2], "each is one step of the manifest, and clients wait for it"
    assert len(await damage(lab)) == len(lost) == 8


async def test_a_shard_that_is_not_listed_but_there_is_not_missing(lab: Laboratory) -> None:
    late = (await shards_of(lab))[2]
    hide(lab, late.store, {late.name})
    assert (await scrub(lab, LIGHT)).found == {}
    assert await damage(lab) == {}


async def test_a_store_that_is_down_has_lost_nothing_is_told_and_is_asked_again_alone(lab: Laboratory) -> None:
    lab.stores["elm"].down = True
    report = await scrub(lab, LIGHT)
    assert set(report.unlisted) == {"elm"}
    assert report.found == {}
    assert "elm did not list" in (await lab.worker(LIGHT).step()).trouble
    lab.stores["elm"].down = False
    lost = next(shard for shard in await shards_of(lab) if shard.store == "elm")
    await lab.stores["elm"].delete(lost.name)
    lab.clock.advance(RETRY_SECONDS)
    listed = lab.stores["alder"].calls["list"]
    report = await scrub(lab, LIGHT)
    assert (report.unlisted, report.found, report.shards) == ({}, {"missing": 1}, 24)
    assert lab.stores["alder"].calls["list"] == listed


async def test_a_listing_that_breaks_off_proves_nothing_of_the_rest(lab: Laboratory) -> None:
    store = lab.stores["elm"]
    whole = store.list

    async def breaks_off(prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        async for entry in whole(prefix):
            yield entry
            raise StoreUnavailable("elm", "broken off on purpose")

    store.list = breaks_off  # type: ignore[method-assign]
    report = await scrub(lab, LIGHT)
    assert (set(report.unlisted), report.found, report.orphans) == ({"elm"}, {}, {})


async def test_a_pass_waits_for_its_day_and_then_begins(lab: Laboratory) -> None:
    await scrub(lab, LIGHT)
    listed = lab.stores["elm"].calls["list"]
    lab.clock.advance(DAY_SECONDS - 1)
    assert (await lab.worker(LIGHT).step()).idle
    assert lab.stores["elm"].calls["list"] == listed
    lab.clock.advance(1)
    await scrub(lab, LIGHT)
    assert lab.stores["elm"].calls["list"] > listed


async def test_a_shard_that_was_deleted_while_the_pass_looks_is_not_missing(lab: Laboratory) -> None:
    """The store has lost it, and before that is confirmed, its object is deleted."""
    lost = (await shards_of(lab))[0]
    await lab.stores[lost.store].delete(lost.name)
    store = lab.stores[lost.store]
    ask = store.get_range

    async def deleted_meanwhile(name: ShardName, start: int, length: int) -> bytes | memoryview:
        if name == lost.name:
            version = await lab.services.manifest.find_version(lab.bucket.id, "k0")  # type: ignore[arg-type]
            if version is not None:
                await lab.services.manifest.delete_version(lab.bucket.id, version.key, version.id, now_ms=lab.clock.now_ms())
        return await ask(name, start, length)

    store.get_range = deleted_meanwhile  # type: ignore[method-assign]
    report = await scrub(lab, LIGHT)
    assert report.found == {}


@pytest.mark.parametrize("has_garbage", [False, True])
async def test_a_listing_that_does_not_fit_beside_the_manifest_is_given_up_and_says_nothing_of_what_is_missing(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch, has_garbage: bool
) -> None:
    await lab.put("k", b"data" * 1000)
    if has_garbage:
        await lab.put("k", b"other" * 1000)
    monkeypatch.setattr(room, "KEPT_BYTES", 2**62)
    report = await scrub(lab, LIGHT)
    assert set(report.unlisted) == set(lab.stores)
    assert "kept for the manifest" in report.unlisted["elm"]
    assert (report.found, report.orphans, await damage(lab)) == ({}, {}, {})
