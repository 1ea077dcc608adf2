"""kill -9 at every step of a PUT, and of merging small packs: the old or the new, nothing between, and no shard is left over for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.engine.repack.merging import FEWEST
from proxy.manifest.records import ObjectKey, VersionId
from tests.fault.crash_child import BESIDE, KEPT, NEW, OLD, PACKED, SMALL_PACKS
from tests.fault.machine.audit import audit
from tests.laboratory import Laboratory, laboratory
from tests.packing import packs, read_all, repack

ROOT = Path(__file__).parent.parent.parent
LATER_MS = 1_750_000_000_000 + 10 * 24 * 3600 * 1000
# The first commit leases segment ids, the second makes the object visible.
STEPS = ("before commit 1", "after commit 1", "at put 1", "at put 3", "at put 6", "before commit 2", "after commit 2")
# The small packs are read, the first commit leases an id, and the second exchanges all of their slots for those of the new one. The third
# counts what it has cost. Then the small ones are collected.
MERGE_STEPS = ("at get_range 20", "after commit 1", "at put 6", "before commit 2")
MERGED_STEPS = ("after commit 2", "before commit 3", "at delete 20")


@pytest.mark.parametrize("step", STEPS)
async def test_a_killed_put_leaves_old_or_new_and_no_orphan(tmp_path: Path, step: str) -> None:
    kill(tmp_path, "write", step)
    async with laboratory(tmp_path, now_ms=LATER_MS, journal=KEPT) as lab:
        assert await content(lab) == (NEW if step == "after commit 2" else OLD)
        await collect(lab)
        await check_books(lab, tmp_path, repaired=True)
        await delete_everything(lab)
        assert await lab.shards() == set()


@pytest.mark.parametrize("step", STEPS)
async def test_a_killed_pack_leaves_all_of_its_objects_or_none_and_no_orphan(tmp_path: Path, step: str) -> None:
    kill(tmp_path, "pack", step)
    async with laboratory(tmp_path, now_ms=LATER_MS, journal=KEPT) as lab:
        is_committed = step == "after commit 2"
        assert await content(lab) == (PACKED if is_committed else OLD)
        beside = [await lab.services.manifest.find_version(lab.bucket.id, ObjectKey(key)) for key in BESIDE]
        assert [version is not None for version in beside] == [is_committed] * len(BESIDE)
        await collect(lab)
        await check_books(lab, tmp_path, repaired=True)
        await delete_everything(lab, "k", *BESIDE)
        assert await lab.shards() == set()


@pytest.mark.parametrize("step", [*MERGE_STEPS, *MERGED_STEPS])
async def test_a_killed_merging_of_small_packs_loses_nothing_and_is_brought_to_its_end(tmp_path: Path, step: str) -> None:
    kill(tmp_path, "merge", step)
    async with laboratory(tmp_path, now_ms=LATER_MS, journal=KEPT) as lab:
        assert await read_all(lab, SMALL_PACKS) == SMALL_PACKS
        assert len(await packs(lab)) == (1 if step in MERGED_STEPS else FEWEST)
        await collect(lab)
        await check_books(lab, tmp_path, repaired=True)
        await repack(lab)
        await collect(lab)
        await check_books(lab, tmp_path, repaired=True)
        assert [pack.slots for pack in await packs(lab)] == [FEWEST]
        assert await read_all(lab, SMALL_PACKS) == SMALL_PACKS
        await delete_everything(lab, "k", *SMALL_PACKS)
        assert await lab.shards() == set()


def kill(data: Path, what: str, step: str) -> None:
    """Let a process do something, and die at a step of it."""
    command = [sys.executable, "-m", "tests.fault.crash_child", str(data), what, step]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == -9, f"the step is not reached: {child.stderr[-2000:]}"


async def content(lab: Laboratory) -> bytes | None:
    if await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k")) is None:
        return None
    return await lab.get("k")


async def collect(lab: Laboratory) -> None:
    """Let all leases end, also those that a collection gives what it revokes, and collect what was under them."""
    for _ in range(3):
        await lab.collect()


async def check_books(lab: Laboratory, data: Path, *, repaired: bool) -> None:
    held = {name: {str(shard) async for shard, _ in store.list()} for name, store in lab.stores.items()}
    found = audit(data / "manifest.sqlite", held)
    assert (found.orphans, found.miscounted) == (set(), [])
    assert not repaired or found.missing == set()


async def delete_everything(lab: Laboratory, *keys: str) -> None:
    manifest = lab.services.manifest
    now = lab.clock.now_ms()
    for upload in (await manifest.list_uploads(lab.bucket.id, prefix="", delimiter="", after_key="", after_upload="", limit=10)).uploads:
        await manifest.abort_upload(upload.id, now_ms=now)
    for key in keys or ("k",):
        await manifest.delete_latest(lab.bucket.id, ObjectKey(key), marker_id=VersionId("m"), now_ms=now)
    await collect(lab)
