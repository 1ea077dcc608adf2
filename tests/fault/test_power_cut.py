"""The power is cut: no shard is gone of what the manifest then has."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from proxy.errors import ProxyError
from proxy.manifest.records import Garbage, ObjectKey, VersionId
from proxy.manifest.sqlite import log_sync
from proxy.manifest.sqlite.adapter import SqliteManifest
from proxy.manifest.sqlite.batches import prepare
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.deletions import LatestDeletion, delete_latest
from proxy.manifest.sqlite.ledger import split_garbage
from tests.fault.machine.audit import audit
from tests.laboratory import Laboratory, laboratory
from tests.packing import packs_leave
from tests.power_cut import Disk

pytestmark = pytest.mark.skipif(not log_sync.IS_TOLD, reason="elsewhere SQLite syncs within the commits")
BODY = b"body " * 1000


def delete_without_a_sync(path: Path, lab: Laboratory, key: str) -> None:
    """Delete as another process does that has committed, and not synced yet, and has queued what became garbage for each store."""
    with closing(connect(path, busy_seconds=5)) as other:
        prepare(other)
        other.execute("PRAGMA synchronous = NORMAL")
        other.execute("BEGIN IMMEDIATE")
        delete_latest(other, LatestDeletion(lab.bucket.id, ObjectKey(key), VersionId("marker"), 0))
        assert split_garbage(other, before_ms=0, limit=10) == 1
        other.execute("COMMIT")


@pytest.mark.parametrize("packs", [False, True], ids=["alone", "packed"])
async def test_no_shard_is_deleted_of_what_a_power_cut_brings_back(tmp_path: Path, packs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cuts, due_garbage = tmp_path / "manifest.sqlite", list[Path](), SqliteManifest.due_garbage
    async with laboratory(tmp_path, packs=packs) as lab, packs_leave(lab):
        disk = Disk(path, monkeypatch)
        for key in ("kept", "deleted"):
            await lab.put(key, BODY)

        async def behind_a_deletion(manifest: SqliteManifest, store: str, *, before_ms: int, limit: int) -> tuple[Garbage, ...]:
            if not cuts and lab.services.manifest is manifest:
                cuts.append(tmp_path / "first")
                delete_without_a_sync(path, lab, "deleted")
            return await due_garbage(manifest, store, before_ms=before_ms, limit=limit)

        def cut(verb: str) -> None:
            if verb == "delete":
                cuts.append(tmp_path / f"cut{len(cuts)}")
                disk.after_power_cut(cuts[-1], random.Random(len(cuts))).close()

        monkeypatch.setattr(SqliteManifest, "due_garbage", behind_a_deletion)
        for store in lab.stores.values():
            store.before = cut
        before = await lab.shards()
        lab.clock.advance(100_000)
        await lab.run_collector_alone()
        with pytest.raises((ProxyError, AssertionError)):
            await lab.get("deleted")
        assert await lab.get("kept") == BODY
        assert len(await lab.shards()) == len(before) // 2
        held = {name: {str(shard) async for shard, _ in store.list()} for name, store in lab.stores.items()}
    assert len(cuts) == 1 + len(before) // 2
    for folder in cuts[1:]:
        assert audit(folder / "m.sqlite", held).missing == set()
