from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from proxy.clock import ManualClock
from proxy.engine.scrub.reports import save_report
from proxy.engine.scrub.workers import DEEP, LIGHT
from proxy.manifest.damage import Damage
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketName, Layout, ObjectKey, Segment, SegmentId, Tenant, TenantId, VersionId
from proxy.manifest.scrub import ScrubReport
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.tally import TALLY, Tally
from proxy.server.manifest_counts import read_counts

SEGMENT = Segment(id=SegmentId(bytes(16)), size=1, stores=("elm", "fir"))


@pytest.fixture
async def manifest(tmp_path: Path) -> AsyncIterator[Manifest]:
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock()) as opened:
        yield opened


async def lines(manifest: Manifest) -> set[str]:
    exposition = (await read_counts(manifest)).exposition().decode()
    return {line for line in exposition.splitlines() if not line.startswith("#")}


async def test_before_anything_was_counted_or_scrubbed_nothing_is_told_of_it(manifest: Manifest) -> None:
    told = await lines(manifest)
    assert not [line for line in told if line.startswith(("shardgate_seg", "shardgate_sto", "shardgate_cou", "shardgate_scr"))]


async def test_a_tally_is_told_by_redundancy_and_by_store_with_its_time(manifest: Manifest) -> None:
    await manifest.save_state(TALLY, msgspec.msgpack.encode(Tally(ended_ms=5000, by_redundancy={2: 7, -1: 1}, by_store={"elm": 90})))
    assert await lines(manifest) > {
        'shardgate_segments{redundancy="2"} 7.0',
        'shardgate_segments{redundancy="-1"} 1.0',
        'shardgate_stored_bytes{store="elm"} 90.0',
        "shardgate_counted_seconds 5.0",
    }


async def test_packs_are_told_with_what_is_alive_and_dead_in_them(manifest: Manifest) -> None:
    await manifest.save_state(TALLY, msgspec.msgpack.encode(Tally(ended_ms=5000, packs=3, packed_bytes=700, dead_bytes=50)))
    assert await lines(manifest) > {
        "shardgate_packs 3.0",
        'shardgate_pack_bytes{state="live"} 700.0',
        'shardgate_pack_bytes{state="dead"} 50.0',
        "shardgate_oldest_dead_seconds 0.0",
    }


async def test_the_last_passes_are_told_with_what_they_have_found_and_what_they_could_not_see(manifest: Manifest) -> None:
    light = ScrubReport(ended_ms=2000, found={"missing": 2, "truncated": 1}, unlisted={"elm": "down"}, orphans={"fir": 4})
    await save_report(manifest, LIGHT, light)
    await save_report(manifest, DEEP, ScrubReport(ended_ms=3000, unreachable={"elm": 3, "fir": 1}))
    assert await lines(manifest) > {
        'shardgate_scrub_ended_seconds{scrub="light"} 2.0',
        'shardgate_scrub_ended_seconds{scrub="deep"} 3.0',
        'shardgate_scrub_damaged_shards{scrub="light"} 3.0',
        'shardgate_scrub_damaged_shards{scrub="deep"} 0.0',
        'shardgate_scrub_unseen_stores{scrub="light"} 1.0',
        'shardgate_scrub_unseen_stores{scrub="deep"} 2.0',
        'shardgate_orphans{store="fir"} 4.0',
    }


async def test_what_a_store_has_lost_is_told_with_whether_its_repair_waits(manifest: Manifest) -> None:
    layout = Layout(size=1, k=1, m=1, tenant_key_id="t", wrapped_key=b"", segments=(SEGMENT,), policy="p")
    tenant = Tenant(
        id=TenantId("t"), name="t", canonical_id="tt", account_id="1", display_name="t", root_key_id="r", wrapped_key=b"w", created_ms=0
    )
    await manifest.add_tenant(tenant)
    bucket = await manifest.create_bucket(Bucket(name=BucketName("bucket"), tenant_id=TenantId("t"), policy="p", created_ms=0))
    draft = VersionDraft(bucket_id=bucket.id, key=ObjectKey("k"), id=VersionId("v"), modified_ms=0, new_layouts=(layout,))
    (ref,) = (await manifest.commit_version(draft)).extents
    damage = Damage(extent_id=ref.id, segment_id=SEGMENT.id, shard_index=0, kind="missing", store="elm")
    await manifest.report_damage([damage], now_ms=5)
    assert {'shardgate_lost_shards{store="elm"} 1.0', 'shardgate_repair_paused{store="elm"} 0.0'} <= await lines(manifest)
    await manifest.set_brake("elm", "paused")
    assert 'shardgate_repair_paused{store="elm"} 1.0' in await lines(manifest)
