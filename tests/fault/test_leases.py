"""A worker that outlives its leases: stopped, suspended, its clock set forward, or kept from the manifest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.codec.format import shard_name
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.intents import IntentLedger
from proxy.errors import IntentRevoked, ManifestUnavailable
from proxy.manifest.records import GarbageSegment
from proxy.manifest.sqlite import open_sqlite
from tests.laboratory import Laboratory, laboratory
from tests.packing import packs_leave, some_objects

LEASE_SECONDS = 120
STOPPED_SECONDS = 300


@pytest.fixture(params=[False, True], ids=["alone", "packed"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Laboratory]:
    limits = {"intent_seconds": LEASE_SECONDS, "put_timeout_seconds": 30}
    async with laboratory(tmp_path, packs=request.param, **limits) as running, packs_leave(running):
        yield running


def ledger_of(lab: Laboratory) -> IntentLedger:
    return lab.services.parts.ledger


async def revoke_as_another_worker(lab: Laboratory) -> int:
    return await lab.services.manifest.revoke_expired_intents(now_ms=lab.clock.now_ms())


async def test_puts_go_on_after_the_leases_were_revoked(lab: Laboratory) -> None:
    await lab.put("k", b"before")
    lab.clock.advance(STOPPED_SECONDS)
    assert await revoke_as_another_worker(lab) > 0
    await ledger_of(lab).renew()
    for number in range(70):
        await lab.put(f"k{number}", b"after")
    assert await lab.get("k69") == b"after"


async def test_free_ids_are_not_used_past_their_lease(lab: Laboratory) -> None:
    await lab.put("k", b"before")
    free = {leased[0] for leased in ledger_of(lab)._free}
    lab.clock.advance(LEASE_SECONDS)
    assert await ledger_of(lab).take() not in free
    assert not {leased[0] for leased in ledger_of(lab)._free} & free


@pytest.mark.parametrize("renewed", [False, True])
async def test_free_ids_are_used_for_two_thirds_of_their_lease_so_that_a_write_has_the_last_one(lab: Laboratory, renewed: bool) -> None:
    await lab.put("k", b"before")
    if renewed:
        lab.clock.advance(LEASE_SECONDS / 2)
        await ledger_of(lab).renew()
    free = {leased[0] for leased in ledger_of(lab)._free}
    lab.clock.advance(LEASE_SECONDS * 2 / 3)
    assert await ledger_of(lab).take() in free
    lab.clock.advance(1)
    assert await ledger_of(lab).take() not in free


@pytest.mark.parametrize("packs", [False, True], ids=["alone", "packed"])
async def test_ids_that_were_not_used_are_given_back_at_the_end_and_nobody_searches_for_them(tmp_path: Path, packs: bool) -> None:
    async with laboratory(tmp_path, packs=packs) as lab, packs_leave(lab):
        await lab.put("k", b"kept")
        lost = await ledger_of(lab).take()
    async with laboratory(tmp_path) as lab:
        await lab.collect()
        assert {store.calls["list"] for store in lab.stores.values()} == {1}, "for the one that was taken and came to nothing"
        assert lost.hex() not in "".join(await lab.shards())
        assert await lab.get("k") == b"kept"


async def test_the_collector_keeps_its_own_leases(lab: Laboratory) -> None:
    await lab.put("k", b"before")
    lab.clock.advance(STOPPED_SECONDS)
    await lab.run_collector()
    await lab.run_collector()
    for number in range(70):
        await lab.put(f"k{number}", b"after")


@pytest.mark.parametrize("packs", [False, True], ids=["alone", "packed"])
async def test_a_collector_that_is_late_itself_leaves_the_others_until_its_next_run(tmp_path: Path, packs: bool) -> None:
    async with laboratory(tmp_path, packs=packs) as late, laboratory(tmp_path, packs=packs) as other, packs_leave(late), packs_leave(other):
        await late.put("k", b"before")
        await other.put("k", b"before")
        for lab in (late, other):
            lab.clock.advance(STOPPED_SECONDS)
        free = set(ledger_of(other)._free)
        await late.run_collector()
        await ledger_of(other).renew()
        assert set(ledger_of(other)._free) == free
        for lab in (late, other):
            lab.clock.advance(STOPPED_SECONDS)
        await ledger_of(late).renew()
        await late.run_collector()
        await ledger_of(other).renew()
        assert not set(ledger_of(other)._free) & free


async def test_a_put_whose_lease_was_revoked_and_collected_fails_and_leaves_nothing(lab: Laboratory) -> None:
    gate, waiting = asyncio.Event(), asyncio.Semaphore(0)
    _hold_puts(lab, gate, waiting)
    writing = asyncio.gather(*(lab.put(key, data) for key, data in some_objects(lab).items()), return_exceptions=True)
    for _ in lab.stores:
        await waiting.acquire()
    lab.clock.advance(STOPPED_SECONDS)
    await revoke_as_another_worker(lab)
    await lab.run_collector()
    assert await lab.garbage() == 0
    gate.set()
    assert {type(outcome) for outcome in await writing} == {IntentRevoked}
    assert len(await lab.shards()) == 6
    lab.clock.advance(1)
    await lab.run_collector()
    assert await lab.shards() == set()


async def test_shards_of_a_worker_that_died_after_its_leases_were_collected_are_found_a_day_later(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as dead:
        segment_id = await ledger_of(dead).take()
        async with laboratory(tmp_path) as lab:
            await lab.collect()
            assert await lab.garbage() == 0
            store = next(iter(lab.stores.values()))
            await store.put(f"{segment_id.hex()[:2]}/{segment_id.hex()}-00", [b"late"])  # type: ignore[arg-type]
            assert len(await lab.shards()) == 1
            await lab.collect()
            assert await lab.shards() == set()


class FullManifest:
    """A manifest whose disk is full at times."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.is_full = False

    def __getattr__(self, name: str) -> object:
        return partial(self._call, name)

    async def _call(self, name: str, *args: object, **kwargs: object) -> object:
        if self.is_full:
            raise ManifestUnavailable("full on purpose")
        return await getattr(self._inner, name)(*args, **kwargs)


async def test_what_could_not_be_abandoned_is_abandoned_at_the_next_renewal(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_sqlite(tmp_path / "manifest.sqlite", clock) as inner:
        manifest = FullManifest(inner)
        ledger = IntentLedger(manifest, clock, BackgroundTasks(), owner="w", lease_seconds=LEASE_SECONDS)  # type: ignore[arg-type]
        segments = [GarbageSegment(id=await ledger.take(), stores=("a", "b")) for _ in range(3)]
        manifest.is_full = True
        for segment in segments[:2]:
            with pytest.raises(ManifestUnavailable):
                await ledger.abandon([segment])
        with pytest.raises(ManifestUnavailable):
            await ledger.renew()
        manifest.is_full = False
        await ledger.abandon(segments[2:])
        await ledger.renew()
        await ledger.renew()
        await inner.split_garbage(before_ms=clock.now_ms(), limit=10)
        rows = await inner.due_garbage("a", before_ms=clock.now_ms(), limit=10)
        assert sorted(row.name for row in rows) == sorted(shard_name(segment.id, 0) for segment in segments)


def _hold_puts(lab: Laboratory, gate: asyncio.Event, waiting: asyncio.Semaphore) -> None:
    async def put(inner_put: object, *args: object) -> None:
        waiting.release()
        await gate.wait()
        await inner_put(*args)  # type: ignore[operator]

    for store in lab.stores.values():
        store.inner.put = partial(put, store.inner.put)  # type: ignore[method-assign]


async def test_writes_wait_together_for_a_manifest_that_is_locked_not_one_after_the_other() -> None:
    class Locked:
        calls = 0

        async def lease_segments(self, **_: object) -> object:
            self.calls += 1
            await asyncio.sleep(0.01)
            raise ManifestUnavailable("locked")

    manifest = Locked()
    ledger = IntentLedger(manifest, ManualClock(), BackgroundTasks(), owner="w", lease_seconds=LEASE_SECONDS)  # type: ignore[arg-type]
    outcomes = await asyncio.gather(*(ledger.take() for _ in range(10)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["locked"] * 10
    assert manifest.calls == 1
    with pytest.raises(ManifestUnavailable):
        await ledger.take()
    assert manifest.calls == 2
