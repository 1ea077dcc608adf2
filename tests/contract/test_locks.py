"""What every manifest promises of locks: they are checked in the step that would break them, at a time that no clock moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.errors import BucketLocked, ProxyError, VersionLocked
from proxy.manifest.drafts import AttributeChange
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, ObjectAttributes, Retention
from proxy.manifest.sqlite import open_sqlite
from proxy.s3.object_lock import LockMode
from tests.contract.conftest import NOW, tenant
from tests.contract.test_manifest import draft

BUCKET = 1
HOUR = 3600
YEARS = 10 * 365 * 24 * HOUR


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def locking(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Manifest]:
    """A manifest with one bucket, which has object lock."""
    async with open_sqlite(tmp_path / "m.sqlite", clock) as opened:
        await opened.add_tenant(tenant("t"))
        settings = {OBJECT_LOCK: "{}"}
        await opened.create_bucket(Bucket(name="b", tenant_id="t", policy="p", versioning="Enabled", settings=settings, created_ms=NOW))
        yield opened


async def put(manifest: Manifest, version_id: str, mode: LockMode | None = "COMPLIANCE", *, hours: int = 1, hold: bool = False) -> None:
    retention = None if mode is None else Retention(mode=mode, until_ms=NOW + hours * HOUR * 1000)
    attributes = ObjectAttributes(retention=retention, legal_hold="ON" if hold else None)
    await manifest.commit_version(replace(draft("k", version_id), bucket_id=BUCKET, versioning="Enabled", attributes=attributes))


async def is_deleted(manifest: Manifest, version_id: str, *, bypass: bool = False) -> bool:
    try:
        await manifest.delete_version(BUCKET, "k", version_id, now_ms=NOW, bypass_governance=bypass)
    except VersionLocked:
        assert await manifest.find_version(BUCKET, "k", version_id) is not None
        return False
    return True


async def test_a_locked_version_is_deleted_at_its_time_and_not_before(locking: Manifest, clock: ManualClock) -> None:
    await put(locking, "v")
    assert not await is_deleted(locking, "v")
    assert not await is_deleted(locking, "v", bypass=True)
    clock.advance(HOUR - 1)
    assert not await is_deleted(locking, "v")
    clock.advance(1)
    assert await is_deleted(locking, "v")


async def test_governance_gives_way_to_those_who_may_and_a_hold_to_nobody(locking: Manifest) -> None:
    await put(locking, "v", "GOVERNANCE", hold=True)
    assert not await is_deleted(locking, "v", bypass=True)
    await locking.change_attributes(BUCKET, "k", "v", AttributeChange(legal_hold="OFF"))
    assert not await is_deleted(locking, "v")
    assert await is_deleted(locking, "v", bypass=True)


async def test_a_clock_that_is_set_forward_frees_nothing_nor_does_a_restart(locking: Manifest, clock: ManualClock, tmp_path: Path) -> None:
    await put(locking, "v")
    clock.set_by(YEARS)
    assert not await is_deleted(locking, "v")
    await locking.renew_trusted_time()
    async with open_sqlite(tmp_path / "m.sqlite", clock) as again:
        assert not await is_deleted(again, "v")
        clock.reboot(off_seconds=0)
        assert not await is_deleted(again, "v")
        await again.renew_trusted_time()
        assert not await is_deleted(again, "v")
        clock.advance(HOUR)
        assert await is_deleted(again, "v")


async def test_a_clock_that_is_set_back_frees_nothing_and_takes_nothing_that_was_freed(locking: Manifest, clock: ManualClock) -> None:
    await put(locking, "v")
    await put(locking, "w", hours=3)
    clock.advance(2 * HOUR)
    assert await locking.renew_trusted_time() == NOW + 2 * HOUR * 1000
    clock.set_by(-YEARS)
    assert not await is_deleted(locking, "w")
    assert await is_deleted(locking, "v")


async def test_a_pause_makes_locks_longer_by_as_much(locking: Manifest, clock: ManualClock) -> None:
    await put(locking, "v")
    clock.reboot(off_seconds=5 * HOUR)
    await locking.renew_trusted_time()
    assert not await is_deleted(locking, "v")
    clock.advance(HOUR)
    assert await is_deleted(locking, "v")


async def test_no_time_is_kept_where_nothing_was_ever_locked(manifest: Manifest) -> None:
    assert await manifest.renew_trusted_time() is None


async def test_the_mark_is_told_to_the_journal_once_a_day_and_at_each_start(locking: Manifest, clock: ManualClock) -> None:
    async def noted(seconds: float) -> bool:
        before = (await locking.journal_position()).noted
        clock.advance(seconds)
        await locking.renew_trusted_time()
        return (await locking.journal_position()).noted > before

    day = 24 * HOUR
    to_midnight = day - NOW // 1000 % day
    assert not await noted(60)
    assert await noted(to_midnight)
    assert not await noted(HOUR)
    clock.reboot(off_seconds=10)
    assert await noted(0)


async def test_a_retention_grows_and_does_not_shrink(locking: Manifest) -> None:
    await put(locking, "v")
    longer = Retention(mode="COMPLIANCE", until_ms=NOW + 2 * HOUR * 1000)
    changed = await locking.change_attributes(BUCKET, "k", "v", AttributeChange(retention=longer))
    assert changed.attributes.retention == longer
    for wanted in (None, replace(longer, until_ms=longer.until_ms - 1), replace(longer, mode="GOVERNANCE")):
        with pytest.raises(VersionLocked):
            await locking.change_attributes(BUCKET, "k", "v", AttributeChange(retention=wanted, bypass_governance=True))
    found = await locking.find_version(BUCKET, "k", "v")
    assert found is not None
    assert found.attributes.retention == longer


async def test_a_retention_that_ends_may_be_replaced(locking: Manifest, clock: ManualClock) -> None:
    await put(locking, "v")
    clock.advance(HOUR)
    changed = await locking.change_attributes(BUCKET, "k", "v", AttributeChange(retention=None))
    assert changed.attributes.retention is None


async def test_of_a_lock_and_a_deletion_at_once_one_is_refused(locking: Manifest) -> None:
    """What decides is the transaction, so whichever comes second sees the first."""
    for number in range(20):
        await put(locking, f"v{number}", None)
        lock = AttributeChange(retention=Retention(mode="COMPLIANCE", until_ms=NOW + HOUR * 1000))
        outcomes = await asyncio.gather(
            locking.change_attributes(BUCKET, "k", f"v{number}", lock),
            locking.delete_version(BUCKET, "k", f"v{number}", now_ms=NOW),
            return_exceptions=True,
        )
        assert [isinstance(outcome, ProxyError) for outcome in outcomes].count(True) == 1


async def test_a_bucket_with_locked_versions_stays_and_so_does_its_tenant(locking: Manifest) -> None:
    await put(locking, "v")
    with pytest.raises(ProxyError):
        await locking.delete_bucket(BUCKET)
    with pytest.raises(ProxyError):
        await locking.remove_tenant("t")
    assert await locking.find_version(BUCKET, "k", "v") is not None


async def test_versioning_and_object_lock_go_together(locking: Manifest) -> None:
    with pytest.raises(BucketLocked):
        await locking.set_versioning(BUCKET, "Suspended")
    with pytest.raises(BucketLocked):
        await locking.put_bucket_setting(BUCKET, OBJECT_LOCK, None)


async def test_object_lock_begins_in_a_bucket_with_versioning_only(manifest: Manifest) -> None:
    with pytest.raises(BucketLocked):
        await manifest.put_bucket_setting(BUCKET, OBJECT_LOCK, "{}")
    with pytest.raises(BucketLocked):
        await manifest.create_bucket(Bucket(name="c", tenant_id="t", policy="p", settings={OBJECT_LOCK: "{}"}, created_ms=NOW))
    await manifest.set_versioning(BUCKET, "Enabled")
    await manifest.put_bucket_setting(BUCKET, OBJECT_LOCK, "{}")
    assert await manifest.renew_trusted_time() == NOW
