"""The contract of a manifest about objects of very many segments: whoever deletes one holds up nobody."""

from __future__ import annotations

from proxy.codec.format import shard_name
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, Garbage, Layout, Segment
from tests.contract.conftest import NOW
from tests.contract.test_manifest import BUCKET, draft, segment_id

EXTENTS = 5
SEGMENTS = 900  # of each: two are released at once, the others later


def layouts() -> tuple[Layout, ...]:
    return tuple(
        Layout(
            size=10 * SEGMENTS,
            policy="p",
            k=2,
            m=1,
            tenant_key_id="t",
            wrapped_key=b"k",
            segments=tuple(Segment(id=segment_id(n), size=10, stores=("s0", "s1", "s2")) for n in range(start, start + SEGMENTS)),
        )
        for start in range(0, EXTENTS * SEGMENTS, SEGMENTS)
    )


async def garbage(manifest: Manifest) -> list[str]:
    names: list[str] = []
    after: Garbage | None = None
    while rows := await manifest.walk_garbage(after=after, limit=5000):
        after = rows[-1]
        names += [name for row in rows for _, name in row.shards]
    return names


async def test_the_shards_of_a_large_object_are_queued_in_several_steps(manifest: Manifest) -> None:
    await manifest.commit_version(draft("k", new_layouts=layouts()))
    await manifest.delete_version(BUCKET, "k", "null", now_ms=NOW)
    steps = [len(await garbage(manifest)) // (3 * SEGMENTS)]
    while buried := await manifest.bury_extents(now_ms=NOW):
        steps.append(buried)
    assert steps == [2, 3]
    assert set(await garbage(manifest)) == {shard_name(segment_id(n), index) for n in range(EXTENTS * SEGMENTS) for index in range(3)}
    assert await manifest.walk_extents(after=ExtentId(0), limit=10) == ()


async def test_an_extent_that_is_shared_again_before_its_turn_stays(manifest: Manifest) -> None:
    version = await manifest.commit_version(draft("k", new_layouts=layouts()))
    await manifest.delete_version(BUCKET, "k", "null", now_ms=NOW)
    last = version.extents[-1]
    await manifest.commit_version(VersionDraft(bucket_id=BUCKET, key="again", id="d", etag="e", modified_ms=NOW, shared_extents=(last,)))
    while await manifest.bury_extents(now_ms=NOW):
        pass
    assert [extent.id for extent in await manifest.walk_extents(after=ExtentId(0), limit=10)] == [last.id]
    assert len(await garbage(manifest)) == 3 * SEGMENTS * (EXTENTS - 1)
